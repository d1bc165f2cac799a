"""Small matrices: independent columns, columns that vary within groups, and Cholesky factors that do not fail."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from .._typing import Floats, Positions

# A column depends on the columns before it if they leave less than this share of its squared length: that is the rounding
# of moments, which are squares (lmer's 1e-7 on the columns themselves is 1e-14 on this scale).
DEPENDENT = 1e-13
# If the columns leave less than this share of the scatter of y, the rest is read again from the rows.
SMALL_REST = 1e-6
# Up to this width, LAPACK in SciPy costs less than the same in NumPy. Beyond it, BLAS uses threads, and those of SciPy wait
# for those of NumPy.
_ONE_THREAD = 64


def submatrix(matrix: Floats, which: Positions) -> Floats:
    """Return a square matrix at some positions of its rows and columns."""
    return matrix[which][:, which]


def zero_columns(matrix: np.ndarray, which: np.ndarray) -> None:
    """Set the rows and columns that `which` marks to exact zeros, in place."""
    if which.any():
        matrix[which] = 0.0
        matrix[:, which] = 0.0


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """Return the lower Cholesky factor of a matrix; raise LinAlgError if the matrix is not positive definite."""
    if len(matrix) > _ONE_THREAD:
        return np.linalg.cholesky(matrix)
    factor, failed = dpotrf(matrix, lower=1)
    if failed:
        raise np.linalg.LinAlgError("matrix is not positive definite")
    return np.asarray(factor)


def inverse_of_lower(lower: np.ndarray) -> np.ndarray:
    """Return the inverse of a lower triangular matrix."""
    if len(lower) > _ONE_THREAD:
        # The transpose is inverted: the LU factorization of an upper triangular matrix exchanges no rows.
        return np.linalg.inv(lower.T).T
    return np.asarray(dtrtri(lower, lower=1)[0])


def unit_cholesky(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Cholesky factor of a positive definite matrix scaled to a unit diagonal, and the scale of each row."""
    length = np.sqrt(matrix.diagonal())
    length = np.where(length > 0, length, 1.0)
    scaled = matrix / np.outer(length, length)
    try:
        return cholesky(scaled), length
    except np.linalg.LinAlgError:
        # If columns are nearly dependent, rounding can make the last pivot negative.
        return np.linalg.cholesky(scaled + DEPENDENT * np.eye(len(matrix))), length


def solve_positive(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the solution x of `matrix` x = `right`, for a symmetric positive definite matrix."""
    if not right.size:
        return np.zeros_like(right)
    factor, length = unit_cholesky(matrix)
    root = inverse_of_lower(factor)
    return np.asarray(((root.T @ (root @ (right.T / length).T)).T / length).T)


def independent_columns(gram: np.ndarray, largest_first: bool = False) -> np.ndarray:
    """Return the positions of independent columns that span all columns, in ascending order.

    Parameters
    ----------
    gram : ndarray of shape (k, k)
        Scalar products of the columns.
    largest_first : bool, default=False
        Whether to keep the column with the largest rest next, so that the other columns are combinations with small
        coefficients. False keeps the earlier columns of a dependent set, as in R.

    Returns
    -------
    kept : ndarray of int
        Positions of the columns that are not dropped. A column is dropped if it is zero, or if the columns kept leave at
        most 1e-13 of its squared length.
    """
    some = np.flatnonzero(gram.diagonal() > 0)
    if not len(some):
        return some
    length = np.sqrt(gram.diagonal()[some])
    with suppress(np.linalg.LinAlgError):
        if (cholesky(submatrix(gram, some) / np.outer(length, length)).diagonal() ** 2 > DEPENDENT).all():
            return some
    left = gram.copy()
    kept: list[int] = []
    while True:
        remainder = left.diagonal().copy()
        remainder[kept] = 0.0
        candidates = np.flatnonzero(remainder > DEPENDENT * gram.diagonal())
        if not len(candidates):
            return np.array(sorted(kept), dtype=np.intp)
        column = int(candidates[remainder[candidates].argmax()] if largest_first else candidates[0])
        kept.append(column)
        pivot = left[column] / np.sqrt(left[column, column])
        left -= np.outer(pivot, pivot)


def separate_between_columns(within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a rotation of the columns, and which of the rotated columns vary within groups.

    If a column depends on others within groups, that combination of them is subtracted from it: the rest varies only
    between groups.

    Parameters
    ----------
    within : ndarray of shape (k, k)
        Within-group scatter of columns whose total scatter is 1.

    Returns
    -------
    rotation : ndarray of shape (k, k)
        Matrix of determinant 1; the rotated columns are the old columns times this matrix.
    is_within : ndarray of shape (k,), bool
        Whether each rotated column varies within groups.
    """
    kept = independent_columns(within, largest_first=True)
    is_within = np.zeros(len(within), dtype=bool)
    is_within[kept] = True
    rotation = np.eye(len(within))
    other = np.flatnonzero(~is_within & (within.diagonal() > 0))
    if len(other):
        rotation[np.ix_(kept, other)] = -solve_positive(submatrix(within, kept), within[kept][:, other])
    return rotation, is_within


def share(part: float, whole: float) -> float:
    """Return part / whole, or NaN if the whole is 0."""
    return float(part / whole) if whole > 0 else float("nan")
