"""Which combinations of the fixed effects the data determine, if some columns depend on others."""

from __future__ import annotations

import numpy as np

from .._typing import GroupedFit
from ..likelihood._linalg import submatrix

# A combination is estimable if the dropped columns add no more to it than this, relative to its own size.
_ADDED = 1e-7


def gram_of(fit: GroupedFit) -> np.ndarray:
    """Return X'X of the columns with fixed effects, of shape (k, k), the intercept first if there is one.

    The rows count as their weights. Without an intercept the products are about 0, with one they are made from the scatter
    about the mean, whose digits large means do not take.
    """
    moments = fit.predictors
    mean = moments.counts @ moments.deviations / moments.counts.sum()
    from_mean = moments.deviations - mean
    scatter = moments.within + (from_mean.T * moments.counts) @ from_mean
    mean, scatter = (moments.center + mean)[:-1], scatter[:-1, :-1]
    total = float(moments.counts.sum())
    if not fit.options.fit_intercept:
        return np.asarray(scatter + total * np.outer(mean, mean))
    gram = np.empty((len(mean) + 1, len(mean) + 1))
    gram[0, 0], gram[0, 1:], gram[1:, 0] = total, total * mean, total * mean
    gram[1:, 1:] = scatter + total * np.outer(mean, mean)
    return gram


def dependence(fit: GroupedFit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how dropped columns depend on the others: X[:, dropped] = X[:, kept] C.

    Returns
    -------
    kept : ndarray of int
        Positions of the coefficients that are estimated.
    dropped : ndarray of int
        Positions of those that are not.
    coefficients : ndarray of shape (n_kept, n_dropped)
        C.
    """
    dropped = np.sort(np.asarray(fit.dropped, dtype=np.intp))
    kept = np.setdiff1d(np.arange(len(fit.names)), dropped)
    if not len(dropped):
        return kept, dropped, np.zeros((len(kept), 0))
    moments, first = fit.predictors, int(fit.options.fit_intercept)
    mean = moments.counts @ moments.deviations / moments.counts.sum()
    if first:
        from_mean = moments.deviations - mean
        scatter = (moments.within + (from_mean.T * moments.counts) @ from_mean)[:-1, :-1]
        center = (moments.center + mean)[:-1]
        a, b = kept[kept > 0] - 1, dropped - 1
        slopes = _solved(scatter, a, b)
        return kept, dropped, np.vstack([center[b] - center[a] @ slopes, slopes])
    return kept, dropped, _solved(gram_of(fit), kept, dropped)


def _solved(gram: np.ndarray, kept: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Return the coefficients of dropped columns in terms of those kept, from their products."""
    if not len(kept):
        return np.zeros((0, len(dropped)))
    size = np.sqrt(gram.diagonal())
    size = np.where(size > 0, size, 1.0)
    scaled = gram / np.outer(size, size)
    found = np.linalg.solve(submatrix(scaled, kept), scaled[np.ix_(kept, dropped)])
    found *= size[dropped] / size[kept][:, None]
    # A column of 0 and 1 depends on others by whole numbers.
    whole = np.round(found)
    return np.where(np.abs(found - whole) < _ADDED, whole, found)


def not_estimable(fit: GroupedFit, weights: np.ndarray) -> np.ndarray:
    """Return which combinations of the fixed effects, one in each row, the data do not determine.

    A combination is estimable if it is a combination of rows of X, which have X[:, dropped] = X[:, kept] C (Searle 1971,
    Linear Models, section 5.4).
    """
    kept, dropped, coefficients = dependence(fit)
    if not len(dropped):
        return np.zeros(len(weights), dtype=bool)
    added = np.abs(weights[:, dropped] - weights[:, kept] @ coefficients)
    size = np.abs(weights[:, kept]) @ np.abs(coefficients) + np.abs(weights[:, dropped])
    return np.asarray((added > _ADDED * np.where(size > 0, size, 1.0)).any(axis=1))
