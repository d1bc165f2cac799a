"""Which combinations of the fixed effects the data determine, if some columns depend on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from .._typing import GroupedFit
from ..likelihood._linalg import independent_columns, submatrix

# A combination is estimable if the dropped columns add no more to it than this, relative to its own size.
_ADDED = 1e-7


@dataclass(frozen=True)
class Products:
    """Stores products of the columns of X that have fixed effects, weighed as the rows are.

    Attributes
    ----------
    intercept : bool
        Whether the model has an intercept.
    mean : ndarray of shape (n_columns,)
        Means of the columns but the intercept.
    scatter : ndarray of shape (n_columns, n_columns)
        Their products: about the means if there is an intercept, so that large means take no digits, and about 0 if not.
    """

    intercept: bool
    mean: np.ndarray
    scatter: np.ndarray

    def turned(self, matrix: np.ndarray) -> Products:
        """Return the products of the columns of X B, for a matrix B that keeps the intercept."""
        first = int(self.intercept)
        inner = matrix[first:, first:]
        level = matrix[0, 1:] if first else 0.0
        return Products(self.intercept, level + self.mean @ inner, inner.T @ self.scatter @ inner)

    def dependence(self, kept: np.ndarray, dropped: np.ndarray) -> np.ndarray:
        """Return C of shape (n_kept, n_dropped), with X[:, dropped] = X[:, kept] C for positions of coefficients."""
        first = int(self.intercept)
        a, b = kept[kept >= first] - first, dropped - first
        slopes = _solved(self.scatter, a, b)
        return np.vstack([self.mean[b] - self.mean[a] @ slopes, slopes]) if first else slopes

    def independent(self) -> np.ndarray:
        """Return the positions of the coefficients whose columns do not depend on earlier ones."""
        return np.concatenate(
            [np.zeros(int(self.intercept), dtype=np.intp), independent_columns(self.scatter) + self.intercept]
        )


def products_of(fit: GroupedFit) -> Products:
    """Return the products of the columns of the fixed part of a fit."""
    moments = fit.predictors
    mean = moments.counts @ moments.deviations / moments.counts.sum()
    from_mean = moments.deviations - mean
    scatter = (moments.within + (from_mean.T * moments.counts) @ from_mean)[:-1, :-1]
    mean = (moments.center + mean)[:-1]
    if not fit.options.fit_intercept:
        scatter = scatter + float(moments.counts.sum()) * np.outer(mean, mean)
    return Products(fit.options.fit_intercept, mean, scatter)


def kept_and_dropped(fit: GroupedFit) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the coefficients that are estimated, and of those that are not."""
    dropped = np.sort(np.asarray(fit.dropped, dtype=np.intp))
    return np.setdiff1d(np.arange(len(fit.names)), dropped), dropped


def _solved(gram: np.ndarray, kept: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Return the coefficients of dropped columns in terms of those kept, from their products."""
    if not len(kept) or not len(dropped):
        return np.zeros((len(kept), len(dropped)))
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
    kept, dropped = kept_and_dropped(fit)
    if not len(dropped):
        return np.zeros(len(weights), dtype=bool)
    coefficients = products_of(fit).dependence(kept, dropped)
    added = np.abs(weights[:, dropped] - weights[:, kept] @ coefficients)
    size = np.abs(weights[:, kept]) @ np.abs(coefficients) + np.abs(weights[:, dropped])
    return np.asarray((added > _ADDED * np.where(size > 0, size, 1.0)).any(axis=1))


def rows_not_estimable(fit: GroupedFit, X: Any, n_rows: int) -> np.ndarray:
    """Return which rows have a mean that the data do not determine.

    Parameters
    ----------
    fit : GroupedFit
        A fit.
    X : ndarray or sparse matrix of shape (n_rows, n_columns), or None
        Their columns, those with fixed effects first, without the intercept.
    n_rows : int
        Number of rows.

    Returns
    -------
    lost : ndarray of shape (n_rows,)
        True for rows that are no combination of the rows of the fit.
    """
    if not len(fit.dropped):
        return np.zeros(n_rows, dtype=bool)
    first = int(fit.options.fit_intercept)
    columns = X[:, : len(fit.names) - first]
    dense = columns.toarray() if issparse(columns) else np.asarray(columns)
    return not_estimable(fit, np.hstack([np.ones((n_rows, first)), dense]))
