"""What a fit costs: beside a floor that any fit must do, and beside scikit-learn's LinearRegression on the same rows."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from peers import random_term
from sklearn.linear_model import LinearRegression

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.likelihood._criterion import Criterion
from sklearn_mlm.likelihood._optimum import minimise
from sklearn_mlm.moments._grouped_moments import moments_of
from sklearn_mlm.moments._labels import factorize
from sklearn_mlm.moments._rows import GroupedRows

# rows, columns, groups, repeats, (bound, aim) in times the floor, (bound, aim) in times LinearRegression
SIZES = [
    (1_000, 3, 50, 101, None, (4.0, 1.5)),
    (100_000, 5, 5_000, 31, None, (1.2, 0.8)),
    (100_000, 200, 1_000, 5, None, (0.8, 0.5)),
    (1_000_000, 3, 500_000, 11, (3.0, 1.5), None),
    (1_000_000, 10, 100_000, 11, None, (0.7, 0.4)),
    (10_000_000, 10, 100_000, 5, (2.5, 1.5), (0.25, 0.15)),
]
# rows, columns, groups, repeats
SIZES_WITH_SLOPES = [
    (1_000, 3, 50, 31),
    (100_000, 5, 5_000, 15),
    (1_000_000, 10, 100_000, 5),
    (10_000_000, 10, 100_000, 3),
]
# Of a random slope, and of it and the intercept; the random intercept's and the residual's sd are 1.
SLOPE_SD, CORRELATION = 0.7, 0.3


def simulate(
    n_rows: int, n_columns: int, n_groups: int, strings: bool = False, level_2: bool = False, n_slopes: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return X, y and shuffled group labels from a random-intercept model with an ICC of 0.5.

    The first `n_slopes` columns have random slopes too.
    """
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_columns))
    groups = rng.integers(0, n_groups, n_rows)
    if level_2:
        X[:, 0] = rng.standard_normal(n_groups)[groups]
    coef, intercepts = rng.standard_normal(n_columns), rng.standard_normal(n_groups)
    y = X @ coef + intercepts[groups] + rng.standard_normal(n_rows)
    for column in X.T[:n_slopes]:
        others = rng.standard_normal(n_groups)
        slopes = SLOPE_SD * (CORRELATION * intercepts + np.sqrt(1 - CORRELATION**2) * others)
        y += slopes[groups] * column
    return X, y, np.char.add("group ", groups.astype(str)).astype(object) if strings else groups


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median time of each call in seconds, the calls taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            gc.collect()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def peak_above(call: Callable[[], object]) -> int:
    """Return how far resident memory rises above its level before the call, in bytes, sampled each millisecond (Linux)."""
    with open("/proc/self/statm") as statm:

        def resident() -> int:
            statm.seek(0)
            return int(statm.read().split()[1]) * 4096

        gc.collect()
        before = peak = resident()
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.001):
                peak = max(peak, resident())

        watcher = threading.Thread(target=watch)
        watcher.start()
        call()
        done.set()
        watcher.join()
        return max(peak, resident()) - before


def print_table(sizes: str, repeats: int | None, strings: bool, level_2: bool) -> None:
    """Print a line for each size: milliseconds of the floor, of LinearRegression and of a fit, their ratios, and memory."""
    print(
        f"{'rows':>10} {'cols':>4} {'groups':>7}  {'floor':>9} {'OLS':>9} {'fit':>9}  {'fit/floor':>9} {'fit/OLS':>8}  "
        f"{'bound (aim)':<30} peak/X"
    )
    for n_rows, n_columns, n_groups, usual, of_floor, of_ols in SIZES:
        if sizes == "small" and n_rows > 1_000_000:
            continue
        X, y, groups = simulate(n_rows, n_columns, n_groups, strings, level_2)
        times = medians(
            {
                "gram": lambda X=X: X.T @ X,
                "copy": lambda X=X: X.copy(),
                "factorize": lambda groups=groups: pd.factorize(groups),
                "ols": lambda X=X, y=y: LinearRegression().fit(X, y),
                "fit": lambda X=X, y=y, groups=groups: RandomInterceptRegressor().fit(X, y, groups),
            },
            repeats or usual,
        )
        floor = times["gram"] + times["copy"] + times["factorize"]
        peak = peak_above(lambda X=X, y=y, groups=groups: RandomInterceptRegressor().fit(X, y, groups)) / X.nbytes
        bounds = ", ".join(
            f"{bound[0]:g} ({bound[1]:g}) {unit}" for bound, unit in ((of_floor, "floor"), (of_ols, "OLS")) if bound
        )
        print(
            f"{n_rows:>10} {n_columns:>4} {n_groups:>7}  {1e3 * floor:>7.2f}ms {1e3 * times['ols']:>7.2f}ms "
            f"{1e3 * times['fit']:>7.2f}ms  {times['fit'] / floor:>9.2f} {times['fit'] / times['ols']:>8.3f}  {bounds:<30} "
            f"{peak:.2f}",
            flush=True,
        )


def print_slopes(sizes: str, repeats: int | None, strings: bool, n_slopes: int) -> None:
    """Print a line for each size: milliseconds of a fit with random slopes, beside two other models and in two parts.

    The parts are the reading of rows into a record and the optimum from it. Shares are of the fit, of X for the peak.
    """
    from sklearn_mlm import GroupedScatter, MixedEffectsRegressor

    model = partial(MixedEffectsRegressor, random_effects=random_term(n_slopes, first=0))
    columns = [f"x{i}" for i in range(n_slopes)]
    print(
        f"{'rows':>10} {'cols':>4} {'groups':>7}  {'OLS':>9} {'intercept':>9} {'fit':>9}  {'fit/OLS':>8} {'fit/interc.':>11}  "
        f"{'read':>9} {'optimum':>9} {'read/fit':>8} {'opt./fit':>8}  peak/X"
    )
    for n_rows, n_columns, n_groups, usual in SIZES_WITH_SLOPES:
        if sizes == "small" and n_rows > 1_000_000:
            continue
        X, y, groups = simulate(n_rows, n_columns, n_groups, strings, n_slopes=n_slopes)
        record = GroupedScatter.from_arrays(X, y, groups, slopes=columns)
        times = medians(
            {
                "ols": lambda X=X, y=y: LinearRegression().fit(X, y),
                "intercept": lambda X=X, y=y, groups=groups: RandomInterceptRegressor().fit(X, y, groups),
                "fit": lambda X=X, y=y, groups=groups: model().fit(X, y, groups=groups),
                "read": lambda X=X, y=y, groups=groups: GroupedScatter.from_arrays(X, y, groups, slopes=columns),
                "optimum": lambda record=record: model().fit_moments(record),
            },
            repeats or usual,
        )
        del record
        peak = peak_above(lambda X=X, y=y, groups=groups: model().fit(X, y, groups=groups)) / X.nbytes
        ols, intercept, fit, read, optimum = times.values()
        print(
            f"{n_rows:>10} {n_columns:>4} {n_groups:>7}  {1e3 * ols:>7.2f}ms {1e3 * intercept:>7.2f}ms {1e3 * fit:>7.2f}ms  "
            f"{fit / ols:>8.3f} {fit / intercept:>11.2f}  {1e3 * read:>7.2f}ms {1e3 * optimum:>7.2f}ms {read / fit:>8.0%} "
            f"{optimum / fit:>8.0%}  {peak:.2f}",
            flush=True,
        )


def print_parts() -> None:
    """Print a line for each size: milliseconds of each part of a fit."""
    print(
        f"{'rows':>10} {'cols':>4} {'groups':>7}  {'fit':>9} {'labels':>9} {'moments':>9} {'criterion':>9} {'optimum':>9} "
        f"{'the rest':>9}"
    )
    for n_rows, n_columns, n_groups, repeats, *_ in SIZES:
        X, y, groups = simulate(n_rows, n_columns, n_groups)
        codes, labels = factorize(groups)
        moments: GroupedMoments = moments_of(GroupedRows(X, y, codes, labels))
        criterion = Criterion(moments)
        times = medians(
            {
                "fit": lambda X=X, y=y, groups=groups: RandomInterceptRegressor().fit(X, y, groups),
                "labels": lambda groups=groups: factorize(groups),
                "moments": lambda X=X, y=y, codes=codes, labels=labels: moments_of(GroupedRows(X, y, codes, labels)),
                "criterion": lambda moments=moments: Criterion(moments),
                "optimum": lambda criterion=criterion: minimise(criterion),
            },
            repeats,
        )
        rest = 2 * times["fit"] - sum(times.values())
        row = " ".join(f"{1e3 * seconds:>7.2f}ms" for seconds in [*times.values(), rest])
        print(f"{n_rows:>10} {n_columns:>4} {n_groups:>7}  {row}", flush=True)
