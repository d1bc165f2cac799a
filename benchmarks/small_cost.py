"""What a fit of few rows costs, in times LinearRegression on the same rows: each in turn, and in runs as a search makes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from sklearn_mlm import RandomInterceptRegressor

ROWS, COLUMNS, GROUPS = (200, 1_000, 5_000), (1, 3, 10), (5, 50, 500)
# Fits of one kind on end, which find their code in cache.
_RUN = 10


def simulate(n_rows: int, n_columns: int, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return X, y and group labels from a random intercept model."""
    rng = np.random.default_rng(0)
    X, groups = rng.standard_normal((n_rows, n_columns)), rng.integers(0, n_groups, n_rows)
    y = X @ rng.standard_normal(n_columns) + rng.standard_normal(n_groups)[groups] + rng.standard_normal(n_rows)
    return X, y, groups


def kinds_of_input(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the arguments of a fit, and the parameters of the model, by kind of input."""
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    strings = np.char.add("group ", groups.astype(str))
    plain = {"X": X, "y": y}
    return {
        "arrays": (plain | {"groups": groups}, {}),
        "ML": (plain | {"groups": groups}, {"method": "ml"}),
        "weights": (plain | {"groups": groups, "sample_weight": np.linspace(0.5, 2.0, len(y))}, {}),
        "strings": (plain | {"groups": strings}, {}),
        "categories": (plain | {"groups": pd.Series(strings, dtype="category")}, {}),
        "frame": ({"X": frame, "y": pd.Series(y), "groups": pd.Series(groups)}, {}),
        "group column": ({"X": np.column_stack([X, groups]), "y": y}, {"group_feature": -1}),
        "column of frame": ({"X": frame.assign(group=strings), "y": pd.Series(y)}, {"group_feature": "group"}),
    }


def ratios(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Return the median time of our fit in milliseconds, and its ratio to theirs in turns and in runs."""

    def seconds(call: Callable[[], object], times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - start) / times

    turns = np.array([(seconds(ours, 1), seconds(theirs, 1)) for _ in range(repeats)])
    runs = np.array([(seconds(ours, _RUN), seconds(theirs, _RUN)) for _ in range(repeats // 4)])
    (our_turn, their_turn), (our_run, their_run) = np.median(turns, axis=0), np.median(runs, axis=0)
    return 1e3 * our_turn, our_turn / their_turn, our_run / their_run


def print_table(repeats: int | None) -> None:
    """Print the ratios over a grid of sizes, and for each kind of input at 1,000 rows, 3 columns and 50 groups."""
    repeats = repeats or 80
    print(f"{'rows':>6} {'cols':>5}" + "".join(f"{f'{n_groups} groups':>24}" for n_groups in GROUPS))
    print(" " * 12 + f"{'ms, in turns / in runs':>24}" * len(GROUPS))
    for n_rows in ROWS:
        for n_columns in COLUMNS:
            cells = []
            for n_groups in GROUPS:
                X, y, groups = simulate(n_rows, n_columns, min(n_groups, n_rows // 4))
                ms, turns, runs = ratios(
                    lambda X=X, y=y, groups=groups: RandomInterceptRegressor().fit(X, y, groups),
                    lambda X=X, y=y: LinearRegression().fit(X, y),
                    repeats,
                )
                cells.append(f"{ms:.2f}, {turns:.2f} / {runs:.2f}")
            print(f"{n_rows:>6} {n_columns:>5}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
    X, y, groups = simulate(1_000, 3, 50)
    for kind, (arguments, parameters) in kinds_of_input(X, y, groups).items():
        ms, turns, runs = ratios(
            lambda arguments=arguments, parameters=parameters: RandomInterceptRegressor(**parameters).fit(**arguments),
            lambda: LinearRegression().fit(X, y),
            repeats,
        )
        print(f"{kind:<20} {ms:.2f} ms, in turns {turns:.2f}, in runs {runs:.2f}", flush=True)
