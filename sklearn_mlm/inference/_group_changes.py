"""What the fits without single groups have in common, whatever the model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._typing import Floats, GroupedFit


def sums_of_others(parts: Floats) -> Iterator[Floats]:
    """Yield, for each of several arrays, the sum of the others.

    It is the sum of those before plus that of those after, so that no sum of squares is a difference.

    Parameters
    ----------
    parts : ndarray of shape (n_parts, ...)
        The arrays.

    Yields
    ------
    others : ndarray
        The sum.
    """
    after = np.zeros_like(parts)
    np.cumsum(parts[:0:-1], axis=0, out=after[-2::-1])
    before = np.zeros(parts.shape[1:])
    for own, later in zip(parts, after, strict=True):
        yield before + later
        before += own


def measures_of_change(fit: GroupedFit, other: GroupedFit, change: Floats, center: Floats) -> tuple[float, float, Floats]:
    """Return Cook's distance, covratio and the dfbetas of a change of the fixed effects; NaN for what is not known.

    Parameters
    ----------
    fit : GroupedFit
        The fit to all groups.
    other : GroupedFit
        The fit without one of them.
    change : ndarray of shape (n_coefficients,)
        The effects of `fit` less those of `other`. The intercept is at `center`, so that a distant origin costs no digits.
    center : ndarray of shape (n_predictors,)
        A point near the means of the predictors.

    Returns
    -------
    distance, ratio : float
        The measures.
    betas : ndarray of shape (n_coefficients,)
        The changes in standard errors of `other`.
    """
    n_effects, leading = len(change), int(fit.options.fit_intercept)
    at_zero = change.copy()
    at_zero[:leading] -= center @ change[leading:]
    errors = np.linalg.norm(other.whiten(np.eye(n_effects)), axis=1)
    betas = np.full(n_effects, np.nan)
    known = np.setdiff1d(np.flatnonzero(errors > 0), np.union1d(fit.dropped, other.dropped))
    betas[known] = at_zero[known] / errors[known]
    if not fit.rank or not np.array_equal(fit.dropped, other.dropped):
        return np.nan, np.nan, betas
    contrasts = np.eye(n_effects)
    contrasts[:leading, leading:] = center
    root, root_without = (np.delete(each.whiten(contrasts), fit.dropped, axis=0) for each in (fit, other))
    unit = np.linalg.solve(root, np.delete(change, fit.dropped))
    ratio = float(np.exp(2.0 * (np.linalg.slogdet(root_without)[1] - np.linalg.slogdet(root)[1])))
    return float(unit @ unit) / fit.rank, ratio, betas
