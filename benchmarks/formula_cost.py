"""What a fit of a formula costs beside formulaic's model matrix and the fit of its columns."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from formulaic import model_matrix

from sklearn_mlm import MixedEffectsRegressor, RandomInterceptRegressor
from sklearn_mlm.formula import lmer

MODELS = [
    ("x + f", "(1 | g)"),
    ("x * f + h", "(1 | g)"),
    ("x * f + log(z)", "(1 | g)"),
    ("poly(x, 2) + f", "(1 | g)"),
    ("x + f", "(1 + x | g)"),
]
SIZES = [1_000, 100_000, 1_000_000]


def simulate(n_rows: int) -> pd.DataFrame:
    """Return rows of two numbers, a column of text, categories, and groups of ten rows."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, n_rows // 10, n_rows)
    rows = pd.DataFrame(
        {
            "x": rng.normal(size=n_rows),
            "z": rng.uniform(0.1, 2.0, n_rows),
            "f": rng.choice(list("abcd"), n_rows),
            "h": pd.Categorical(rng.choice(["u", "v", "w"], n_rows)),
            "g": group,
        }
    )
    level, slope = rng.normal(size=(2, n_rows // 10))[:, group]
    noise = rng.normal(size=n_rows)
    return rows.assign(y=rows["x"] * (1 + slope / 2) + np.log(rows["z"]) + (rows["f"] == "b") + level + noise)


def medians_of(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median time of each call; the calls take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def print_table(sizes: str) -> None:
    """Print a line for each model and size: milliseconds, and the ratio of the formula's fit to its two parts."""
    print(f"{'rows':>9}  {'formula':<30} {'matrix':>8} {'fit':>8} {'lmer':>8}  lmer / (matrix + fit)")
    for n_rows in SIZES:
        if sizes == "small" and n_rows > 100_000:
            continue
        rows = simulate(n_rows)
        for fixed, random in MODELS:
            matrix = model_matrix(fixed, rows)
            X = pd.DataFrame(np.asarray(matrix, dtype=float), columns=matrix.columns).drop(columns="Intercept")
            model = RandomInterceptRegressor() if random == "(1 | g)" else MixedEffectsRegressor(random_effects=random)
            times = medians_of(
                {
                    "matrix": lambda fixed=fixed, rows=rows: model_matrix(fixed, rows),
                    "fit": lambda model=model, X=X, rows=rows: model.fit(X, rows["y"], groups=rows["g"]),
                    "lmer": lambda fixed=fixed, random=random, rows=rows: lmer(f"y ~ {fixed} + {random}", rows),
                },
                51 if n_rows == 1_000 else 7,
            )
            columns = " ".join(f"{1e3 * times[name]:>8.1f}" for name in ("matrix", "fit", "lmer"))
            ratio = times["lmer"] / (times["matrix"] + times["fit"])
            print(f"{n_rows:>9,}  {f'{fixed} + {random}':<30} {columns}  {ratio:.2f}", flush=True)
