"""What the baselines and the comparison cost, beside one fit of scikit-learn's LinearRegression on the same rows."""

from __future__ import annotations

from collections.abc import Callable

from fit_cost import medians, peak_above, simulate
from sklearn.linear_model import LinearRegression

from sklearn_mlm import ClusterRobustOLS, RandomInterceptRegressor, WithinOLS, compare_with_ols

# rows, columns, groups, repeats
SIZES = [(10_000, 5, 500, 5), (100_000, 5, 5_000, 5), (100_000, 100, 1_000, 3), (1_000_000, 10, 100_000, 3)]
BOUND = "30 for the comparison at 1,000,000 rows"


def print_table(repeats: int | None) -> None:
    """Print a line for each size: the time of LinearRegression, and of each call in times that; memory of the comparison."""
    names = ("fit", "within", "nonrobust", "CR1", "CR2", "CR3", "comparison")
    head = "".join(f"{name:>11}" for name in names)
    print(f"{'rows':>10} {'cols':>4} {'groups':>7}  {'OLS':>9} {head}  peak/X   in times OLS; bound {BOUND}")
    for n_rows, n_columns, n_groups, usual in SIZES:
        X, y, groups = simulate(n_rows, n_columns, n_groups)
        calls: dict[str, Callable[[], object]] = {
            "ols": lambda X=X, y=y: LinearRegression().fit(X, y),
            "fit": lambda X=X, y=y, g=groups: RandomInterceptRegressor().fit(X, y, g),
            "within": lambda X=X, y=y, g=groups: WithinOLS().fit(X, y, g),
            "comparison": lambda X=X, y=y, g=groups: compare_with_ols(X, y, g, cv=5, random_state=0),
        }
        for kind in ("nonrobust", "CR1", "CR2", "CR3"):
            calls[kind] = lambda X=X, y=y, g=groups, kind=kind: ClusterRobustOLS(cov_type=kind).fit(X, y, g)
        times = medians(calls, repeats or usual)
        peak = peak_above(calls["comparison"]) / X.nbytes
        ratios = "".join(f"{times[name] / times['ols']:>11.2f}" for name in names)
        print(f"{n_rows:>10} {n_columns:>4} {n_groups:>7}  {1e3 * times['ols']:>7.2f}ms {ratios}  {peak:.2f}", flush=True)
