"""P-values and intervals that allow for the number of comparisons in a family."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ._distributions import two_sided_p_values

Adjustment = Literal["tukey", "holm", "bonferroni", "sidak", "fdr", "none"]


# SciPy takes the normal distribution for more degrees of freedom.
_LARGE = 1e6


def adjusted_p_values(t: np.ndarray, df: np.ndarray, adjust: Adjustment, n_means: int) -> np.ndarray:
    """Return the two-sided p-values of a family of comparisons.

    Parameters
    ----------
    t : ndarray of shape (n_comparisons,)
        The t statistics; NaN for comparisons that cannot be estimated, which do not count.
    df : ndarray of shape (n_comparisons,)
        Their degrees of freedom.
    adjust : {"tukey", "holm", "bonferroni", "sidak", "fdr", "none"}
        Tukey and Kramer's for all pairs of means (a t statistic times the root of 2 is a studentized range), the step-down
        method of Holm (1979), Bonferroni's and Sidak's inequalities, or the false discovery rate of Benjamini and Hochberg
        (1995).
    n_means : int
        Number of means in the family, for Tukey's method.

    Returns
    -------
    p_values : ndarray of shape (n_comparisons,)
        P-values, at most 1.
    """
    from scipy import stats

    p = two_sided_p_values(t, df)
    known = np.flatnonzero(~np.isnan(p))
    m = len(known)
    if adjust == "none" or not m or (adjust != "tukey" and m == 1) or (adjust == "tukey" and n_means < 3):
        return p
    result = np.full(len(p), np.nan)
    if adjust == "tukey":
        result[known] = stats.studentized_range.sf(np.sqrt(2.0) * np.abs(t[known]), n_means, np.minimum(df[known], _LARGE))
    elif adjust == "bonferroni":
        result[known] = m * p[known]
    elif adjust == "sidak":
        result[known] = -np.expm1(m * np.log1p(-p[known]))
    else:
        order = known[np.argsort(p[known])]
        if adjust == "holm":
            result[order] = np.maximum.accumulate((m - np.arange(m)) * p[order])
        else:
            result[order[::-1]] = np.minimum.accumulate((m / (m - np.arange(m))) * p[order[::-1]])
    return np.asarray(np.minimum(result, 1.0))


def adjusted_half_widths(level: float, errors: np.ndarray, df: np.ndarray, adjust: Adjustment, n_means: int) -> np.ndarray:
    """Return half the widths of intervals for a family of comparisons.

    The intervals of Holm's method and of the false discovery rate are Bonferroni's, because these methods have none.

    Parameters
    ----------
    level : float
        Confidence level of the family.
    errors : ndarray of shape (n_comparisons,)
        Standard errors; NaN for comparisons that cannot be estimated, which do not count.
    df : ndarray of shape (n_comparisons,)
        Degrees of freedom.
    adjust : {"tukey", "holm", "bonferroni", "sidak", "fdr", "none"}
        As in `adjusted_p_values`.
    n_means : int
        Number of means in the family, for Tukey's method.

    Returns
    -------
    half_widths : ndarray of shape (n_comparisons,)
        Half widths, in units of the errors.
    """
    from scipy import stats

    m = max(int(np.count_nonzero(~np.isnan(errors))), 1)
    if adjust == "tukey" and n_means > 2:
        factors = np.full(len(df), np.nan)
        known = np.flatnonzero(~np.isnan(errors) & ~np.isnan(df))
        # The same degrees of freedom, but for rounding, have the same quantile, which is expensive.
        distinct, at = np.unique(np.round(df[known], 9), return_inverse=True)
        quantiles = [_studentized_range_quantile(level, n_means, min(one, _LARGE)) for one in distinct]
        factors[known] = np.array(quantiles)[at] / np.sqrt(2.0)
        return np.asarray(factors * errors)
    one = level
    if adjust in ("bonferroni", "holm", "fdr"):
        one = 1.0 - (1.0 - level) / m
    elif adjust == "sidak":
        one = level ** (1.0 / m)
    return np.asarray(stats.t.ppf(0.5 + one / 2.0, df) * errors)


def _studentized_range_quantile(level: float, n_means: int, df: float) -> float:
    """Return the quantile of the studentized range, which lies between those of one comparison and of Bonferroni's for all.

    SciPy's own search starts further away and takes twice the time.
    """
    from scipy import optimize, stats

    tail, n_pairs = 1.0 - level, n_means * (n_means - 1) / 2
    low, high = (np.sqrt(2.0) * stats.t.isf(tail / 2.0 / n, df) for n in (1.0, n_pairs))

    def excess(q: float) -> float:
        return float(stats.studentized_range.sf(q, n_means, df)) - tail

    return float(optimize.brentq(excess, low, 1.001 * high, xtol=1e-12, rtol=1e-12))
