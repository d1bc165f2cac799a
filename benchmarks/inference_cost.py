"""What each function of inference costs beside the fit it follows."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from fit_cost import simulate

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor, inference

# Columns, of 100,000 groups of some ten rows.
WIDTHS = [5, 100]
SIZES = [(1_000, 3, 50), (1_000_000, 10, 100_000), (10_000_000, 10, 100_000)]


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def print_table(sizes: str) -> None:
    """Print a line for each function: milliseconds at each size."""
    columns = []
    for n_rows, n_columns, n_groups in SIZES:
        if sizes == "small" and n_rows > 1_000_000:
            continue
        X, y, groups = simulate(n_rows, n_columns, n_groups)
        columns.append((n_rows, costs(X, y, groups, 5 if n_rows < 10_000_000 else 3)))
        del X, y, groups
    print(f"{'milliseconds':<34}" + "".join(f"{n_rows:>14,}" for n_rows, _ in columns))
    for name in columns[0][1]:
        print(f"{name:<34}" + "".join(f"{1e3 * cost[name]:>14.2f}" for _, cost in columns))
    print_beside_the_solve()


def print_beside_the_solve() -> None:
    """Print what limits and the exact test cost beside the solve, with counts and with a weight for each row."""
    heads = f"{'columns':>7} {'sizes':<8} {'solve':>9} {'pivot':>10} {'profile':>10} {'exact test':>10}"
    print(f"\n{heads}   in seconds; times the solve")
    for n_columns in WIDTHS:
        X, y, groups = simulate(1_000_000, n_columns, 100_000)
        for name, weights in (("counts", None), ("weights", np.random.default_rng(1).uniform(0.5, 2.0, len(y)))):
            moments = GroupedMoments.from_arrays(X, y, groups, weights)
            model = RandomInterceptRegressor(weight_type="precision" if name == "weights" else "frequency")
            solve = seconds_of(lambda model=model, moments=moments: model.fit_moments(moments), 5)
            pivot, profile = (
                seconds_of(lambda model=model, method=method: inference.confidence_intervals(model, method=method), 3)
                / solve
                for method in ("pivot", "profile")
            )
            exact = seconds_of(lambda model=model: inference.random_intercept_test(model, random_state=0), 3)
            times = f"{pivot:>9.1f}x {profile:>9.1f}x {exact / solve:>9.1f}x"
            print(f"{n_columns:>7} {name:<8} {solve:>8.3f}s {times}", flush=True)


def costs(X: np.ndarray, y: np.ndarray, groups: np.ndarray, repeats: int) -> dict[str, float]:
    """Return the time of the fit and of each function, in seconds."""
    model = RandomInterceptRegressor().fit(X, y, groups)
    small = RandomInterceptRegressor().fit(X[:, :1], y, groups)
    contrasts = np.eye(X.shape[1] + 1)[1:]
    calls: dict[str, Callable[[], object]] = {
        "fit": lambda: RandomInterceptRegressor().fit(X, y, groups),
        "summary": lambda: str(model.summary()),
        "fixed_effects, Satterthwaite": lambda: inference.fixed_effects(model),
        "fixed_effects, Kenward-Roger": lambda: inference.fixed_effects(model, ddf="kenward_roger"),
        "contrast_test of all slopes": lambda: inference.contrast_test(model, contrasts),
        "confidence_intervals, pivot": lambda: inference.confidence_intervals(model),
        "confidence_intervals, profile": lambda: inference.confidence_intervals(model, method="profile"),
        "confidence_intervals, exact": lambda: inference.confidence_intervals(model, method="exact"),
        "random_intercept_test, exact": lambda: inference.random_intercept_test(model, random_state=0),
        "random_intercept_test, F": lambda: inference.random_intercept_test(model, method="f"),
        "likelihood_ratio_test": lambda: inference.likelihood_ratio_test(small, model),
        "r2": lambda: inference.r2(model),
        "random_effects_table": lambda: inference.random_effects_table(model),
        "clustering_report": lambda: inference.clustering_report(model),
        "predict_interval of 1000 rows": lambda: inference.predict_interval(model, X[:1000], groups[:1000]),
    }
    return {name: seconds_of(call, repeats) for name, call in calls.items()}
