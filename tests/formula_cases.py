"""Small data sets with what is peculiar about them, for tests of formulas."""

import numpy as np
import pandas as pd


def two_factors(without=None):
    """Two factors and a number in eight groups, unbalanced; without the cell that `without` names."""
    r = np.random.RandomState(23)
    sizes = {("high", "c1"): 5, ("high", "c2"): 2, ("high", "c3"): 6, ("low", "c1"): 3, ("low", "c2"): 6, ("low", "c3"): 3}
    cells = [cell for cell, n in sizes.items() for _ in range(n)]
    a, b = (np.array(part) for part in zip(*cells, strict=True))
    n = len(a)
    g, x = (np.arange(n) * 5) % 8, r.randn(n).round(2)
    y = (
        4
        + (a == "low") * 1.5
        + (b == "c3") * 0.7
        + ((a == "low") & (b == "c2")) * 1.1
        + 0.5 * x
        + r.randn(8)[g]
        + r.randn(n)
    ).round(2)
    rows = pd.DataFrame({"y": y, "a": a, "b": b, "x": x, "g": [f"u{v}" for v in g]})
    return rows if without is None else rows[~((rows["a"] == without[0]) & (rows["b"] == without[1]))].reset_index(drop=True)


def straight_lines():
    """Eight groups of a few rows along x, each with its own line."""
    r = np.random.RandomState(31)
    sizes = [5, 3, 4, 2, 5, 4, 3, 4]
    g, x = np.repeat(np.arange(8), sizes), np.concatenate([np.arange(n, dtype=float) for n in sizes])
    y = (12 + 0.9 * x + (1.8 * r.randn(8))[g] + (0.7 * r.randn(8))[g] * x + 0.9 * r.randn(30)).round(2)
    return pd.DataFrame({"y": y, "x": x, "g": [f"n{v}" for v in g]})


def with_gaps():
    """Rows with missing values in each kind of column; the level "rare" occurs in incomplete rows only."""
    r = np.random.RandomState(81)
    n = 40
    g, x = np.arange(n) // 5, r.randn(n).round(2)
    f = np.array(["red", "blue", "blue", "green"])[np.arange(n) % 4].astype(object)
    f[[6, 21]] = "rare"
    y = (1 + 0.8 * x + (f == "green") * 1.5 + (0.9 * r.randn(8))[g] + 0.5 * r.randn(n)).round(2)
    rows = pd.DataFrame({"y": y, "x": x, "f": f, "g": [f"s{v}" for v in g], "remark": np.nan})
    rows.loc[[2, 6], "y"], rows.loc[[10, 21], "x"] = np.nan, np.nan
    rows.loc[15, "f"], rows.loc[27, "g"] = None, None
    return rows
