"""Quantiles and p-values of the t and F distributions. `scipy.stats` is expensive to import, so its users import it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._tables import Statistics


def half_width(level: float, error: ArrayLike, df: ArrayLike = np.inf) -> np.ndarray:
    """Return half the width of t intervals for estimates with these standard errors; normal ones if `df` is infinite."""
    from scipy import stats

    return np.asarray(stats.t.ppf(0.5 + level / 2.0, df) * error)


def two_sided_p_values(t: ArrayLike, df: ArrayLike) -> np.ndarray:
    """Return two-sided p-values of t statistics."""
    from scipy import stats

    return np.asarray(2.0 * stats.t.sf(np.abs(t), df))


def f_test(statistic: float, df1: float, df2: float) -> pd.Series:
    """Return an F test as a series: "F", "df1", "df2", which may be infinite, and "p_value"."""
    from scipy import stats

    p_value = stats.chi2.sf(df1 * statistic, df1) if np.isinf(df2) else stats.f.sf(statistic, df1, df2)
    return Statistics({"F": statistic, "df1": df1, "df2": df2, "p_value": float(p_value)})
