"""Which combinations of the fixed effects the data determine, if some columns depend on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from .._typing import GroupedFit
from ..likelihood._linalg import cholesky, submatrix

# A combination is estimable if the dropped columns add no more to it than this, relative to its own size.
_ADDED = 1e-7
# What is less than this, relative to the terms of the sum that it is, is rounding.
_ROUNDING = 1e-9
# A column depends on others if they leave no more of it than this.
_DEPENDENT = 1e-7


@dataclass(frozen=True, eq=False)
class FixedColumns:
    """Stores the columns of X that have fixed effects as vectors with the same scalar products, one for each dimension.

    Vectors are orthogonalised in place of their products, which hold half the digits.

    Attributes
    ----------
    intercept : bool
        Whether the model has an intercept.
    mean : ndarray of shape (n_columns,)
        Means of the columns but the intercept.
    vectors : ndarray of shape (n_dimensions, n_columns)
        These columns, less their means if there is an intercept.
    size : ndarray of shape (n_columns,)
        The sizes of the terms of the sums that the vectors are, in view of which what is left of them may be rounding.
    """

    intercept: bool
    mean: np.ndarray
    vectors: np.ndarray
    size: np.ndarray

    def turned(self, matrix: np.ndarray) -> FixedColumns:
        """Return the columns of X B, for a matrix B that keeps the intercept."""
        first = int(self.intercept)
        inner = matrix[first:, first:]
        level = matrix[0, 1:] if first else 0.0
        vectors, size = self.vectors @ inner, self.size @ np.abs(inner)
        # A column may be 0 in all rows, such as the indicator of a cell without rows: what is left of it is rounding.
        vectors[:, np.linalg.norm(vectors, axis=0) <= _ROUNDING * size] = 0.0
        return FixedColumns(self.intercept, level + self.mean @ inner, vectors, size)

    def independent(self) -> np.ndarray:
        """Return the positions of the coefficients whose columns do not depend on earlier ones."""
        kept = self.independent_among(np.arange(self.vectors.shape[1]))
        return np.concatenate([np.zeros(int(self.intercept), dtype=np.intp), kept + self.intercept])

    def independent_among(self, columns: np.ndarray, beside: np.ndarray | None = None) -> np.ndarray:
        """Return those of some columns that depend neither on earlier ones of them nor on the columns `beside`."""
        axes = np.zeros((0, len(self.vectors)))
        if beside is not None and len(beside):
            left, singular, _ = np.linalg.svd(_unit(self.vectors[:, beside]), full_matrices=False)
            axes = left[:, singular > _DEPENDENT].T
        kept: list[int] = []
        for column in columns:
            rest = self.vectors[:, column] - axes.T @ (axes @ self.vectors[:, column])
            rest -= axes.T @ (axes @ rest)
            length = float(np.linalg.norm(rest))
            if length > _DEPENDENT * self.size[column]:
                kept.append(int(column))
                axes = np.vstack([axes, rest / length])
        return np.array(kept, dtype=np.intp)

    def dependence(self, kept: np.ndarray, dropped: np.ndarray) -> np.ndarray:
        """Return C of shape (n_kept, n_dropped), with X[:, dropped] = X[:, kept] C for positions of coefficients."""
        first = int(self.intercept)
        a, b = kept[kept >= first] - first, dropped - first
        slopes = np.zeros((len(a), len(b)))
        if len(a) and len(b):
            length = np.linalg.norm(self.vectors[:, a], axis=0)
            slopes = np.linalg.lstsq(self.vectors[:, a] / length, self.vectors[:, b], rcond=None)[0]
            slopes[np.abs(slopes) <= _ROUNDING * self.size[b]] = 0.0
            slopes = _whole(slopes / length[:, None], 0.0)
        if not first:
            return slopes
        levels = self.mean[b] - self.mean[a] @ slopes
        size = np.abs(self.mean[b]) + np.abs(self.mean[a]) @ np.abs(slopes)
        return np.vstack([_whole(levels, _ROUNDING * size), slopes])


def columns_of_fit(fit: GroupedFit) -> FixedColumns:
    """Return the columns of the fixed part of a fit; rows count as their weights."""
    moments, first = fit.predictors, int(fit.options.fit_intercept)
    mean = moments.counts @ moments.deviations / moments.counts.sum()
    from_mean = moments.deviations - mean
    scatter = (moments.within + (from_mean.T * moments.counts) @ from_mean)[:-1, :-1]
    mean = (moments.center + mean)[:-1]
    if not first:
        scatter = scatter + float(moments.counts.sum()) * np.outer(mean, mean)
    kept, dropped = kept_and_dropped(fit)
    a, b = kept[kept >= first] - first, dropped - first
    size = np.sqrt(np.maximum(scatter.diagonal(), 0.0))
    vectors = np.zeros((len(a), len(mean)))
    if len(a):
        scaled = scatter / np.outer(np.where(size > 0, size, 1.0), np.where(size > 0, size, 1.0))
        factor = np.tril(cholesky(submatrix(scaled, a))).T
        share = np.linalg.solve(submatrix(scaled, a), scaled[np.ix_(a, b)])
        share[np.abs(share) < _ROUNDING] = 0.0
        vectors[:, a] = factor * size[a]
        vectors[:, b] = factor @ share * size[b]
    return FixedColumns(bool(first), mean, vectors, size)


def kept_and_dropped(fit: GroupedFit) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the coefficients that are estimated, and of those that are not."""
    dropped = np.sort(np.asarray(fit.dropped, dtype=np.intp))
    return np.setdiff1d(np.arange(len(fit.names)), dropped), dropped


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors of length 1; those of length 0 stay 0."""
    length = np.linalg.norm(vectors, axis=0)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


def _whole(values: np.ndarray, rounding: np.ndarray | float) -> np.ndarray:
    """Return numbers without rounding, if they are whole: a column of 0 and 1 depends on others by whole numbers."""
    nearest = np.round(values)
    return np.where(np.abs(values - nearest) <= rounding + _ROUNDING * np.abs(nearest), nearest, values)


def not_estimable(fit: GroupedFit, weights: np.ndarray) -> np.ndarray:
    """Return which combinations of the fixed effects, one in each row, the data do not determine.

    A combination is estimable if it is a combination of rows of X, which have X[:, dropped] = X[:, kept] C (Searle 1971,
    Linear Models, section 5.4).
    """
    kept, dropped = kept_and_dropped(fit)
    if not len(dropped):
        return np.zeros(len(weights), dtype=bool)
    coefficients = columns_of_fit(fit).dependence(kept, dropped)
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
