"""Small matrices: which columns are independent, which vary within groups, and Cholesky factors that do not fail."""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

# A column whose squared length is explained by the columns before it up to this share depends on them: what is left is
# the rounding of moments, which are squares (lmer's 1e-7 on the columns themselves is 1e-14 on this scale).
DEPENDENT = 1e-13
# The share of the scatter of y below which what the columns leave of it is read again from the rows.
SMALL_REST = 1e-6


def submatrix(matrix: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return the rows and columns of a square matrix at some positions."""
    return matrix[which][:, which]


def zero_columns(matrix: np.ndarray, which: np.ndarray) -> None:
    """Set the rows and columns of a symmetric matrix that `which` marks to exact zeros, in place."""
    if which.any():
        matrix[which] = 0.0
        matrix[:, which] = 0.0


def unit_cholesky(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Cholesky factor of a positive definite matrix scaled to a unit diagonal, and the lengths it lost."""
    length = np.sqrt(matrix.diagonal())
    length = np.where(length > 0, length, 1.0)
    scaled = matrix / np.outer(length, length)
    factor, failed = dpotrf(scaled, lower=1)
    # The columns may be so nearly dependent that rounding has taken the last pivot below zero.
    return (np.linalg.cholesky(scaled + DEPENDENT * np.eye(len(matrix))) if failed else factor), length


def solve_positive(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the solution for a symmetric positive definite matrix, by its Cholesky factor."""
    if not right.size:
        return np.zeros_like(right)
    factor, length = unit_cholesky(matrix)
    return (dpotrs(factor, (right.T / length).T, lower=1)[0].T / length).T


def independent_columns(gram: np.ndarray, largest_first: bool = False) -> np.ndarray:
    """Return the positions of columns that span all of them, in ascending order.

    Parameters
    ----------
    gram : ndarray of shape (k, k)
        Scalar products of the columns.
    largest_first : bool, default=False
        Take the column next of which most is left, so that the others are combinations with small coefficients. As it
        is, and as in R, the earlier columns of a dependent set stay.

    Returns
    -------
    kept : ndarray of int
        A column is left out where the columns kept explain all of its squared length but 1e-13, or it has none.
    """
    some = np.flatnonzero(gram.diagonal() > 0)
    if not len(some):
        return some
    length = np.sqrt(gram.diagonal()[some])
    factor, failed = dpotrf(submatrix(gram, some) / np.outer(length, length), lower=1)
    if not failed and (factor.diagonal() ** 2 > DEPENDENT).all():
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
    """Return a rotation of the columns and which of them vary within groups after it.

    A column that depends on others within groups has that combination of them taken off: what is left varies between
    groups only.

    Parameters
    ----------
    within : ndarray of shape (k, k)
        Within-group scatter of columns whose total scatter is 1.

    Returns
    -------
    rotation : ndarray of shape (k, k)
        Unit determinant; new columns are old columns times this.
    is_within : ndarray of shape (k,), bool
    """
    kept = independent_columns(within, largest_first=True)
    is_within = np.zeros(len(within), dtype=bool)
    is_within[kept] = True
    rotation = np.eye(len(within))
    other = np.flatnonzero(~is_within & (within.diagonal() > 0))
    if len(other):
        rotation[np.ix_(kept, other)] = -solve_positive(submatrix(within, kept), within[kept][:, other])
    return rotation, is_within
