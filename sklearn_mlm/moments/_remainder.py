"""`Remainder`: moments of what some slopes leave of y, for use when the squares of y hold too few digits of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._rows import Rows, block_rows

# Scatter that rounding may leave, relative to the scatter itself.
SPACING = 4 * np.finfo(np.float64).eps
# Splits a double into two halves of 26 bits, whose products are exact (Veltkamp).
_SPLITTER = 2.0**27 + 1.0


@dataclass(frozen=True, eq=False)
class Remainder:
    """Moments of e = y - x'b for slopes b that explain nearly all of y, computed from the rows themselves.

    If the predictors explain all but a share d of the scatter of y, the scatter that they leave is a difference that loses
    -log10(d) digits. Moments of e lose none.

    Attributes
    ----------
    slopes : ndarray of shape (n_features,)
        The slopes b, in units of y per unit of x.
    center : float
        An arbitrary point among the values of e, which are far from 0 if x is far from 0 and b is large.
    deviations : ndarray of shape (n_groups,)
        Group means of e minus `center`, accurate to their own rounding.
    within : ndarray of shape (n_features + 1,)
        Pooled within-group scatter of e with the columns of x and, last, with itself.
    noise : float
        Scatter of e that the rounding of y and x could leave if y were an exact combination of the columns.
    lost : float
        Scatter of e that rounding could leave in merged moments that had no remainder.
    """

    slopes: np.ndarray
    center: float
    deviations: np.ndarray
    within: np.ndarray
    noise: float
    lost: float = 0.0


@dataclass(frozen=True, eq=False)
class KnownPart:
    """A linear function of x that explains nearly all of y, so that the rest y - x'b - a is read in place of y.

    Attributes
    ----------
    slopes : ndarray of shape (n_features,)
        The slopes b, in units of y per unit of x.
    intercept : float
        The value a at x = 0, in units of y.
    """

    slopes: np.ndarray
    intercept: float


def rests(X: Any, y: np.ndarray, known: KnownPart) -> np.ndarray:
    """Return y - x'b - a of each row, accurate to the rounding of the result rather than that of y.

    Products and sums carry their rounding errors along (Dekker's product, Knuth's sum), so that the terms may be 1e15 times
    as large as the result.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), list of columns, or None
        The predictors.
    y : ndarray of shape (n_samples,)
        The outcome.
    known : KnownPart
        The slopes b and the intercept a.

    Returns
    -------
    rests : ndarray of shape (n_samples,)
        The rests, in units of y.

    References
    ----------
    T. Ogita, S. M. Rump and S. Oishi (2005), "Accurate sum and dot product", SIAM Journal on Scientific Computing 26(6),
    1955-1988, algorithm 5.3.
    """
    rows = Rows(X, y)
    left = np.empty(len(rows))
    buffer = np.empty((block_rows(rows.n_columns), rows.n_columns))
    for at, block in rows.blocks(0, len(rows), np.zeros(rows.n_columns), buffer):
        total, error = _sum(block[:, -1], np.float64(-known.intercept))
        for column in np.flatnonzero(known.slopes):
            product, product_error = _product(block[:, column], -known.slopes[column])
            total, sum_error = _sum(total, product)
            error += product_error + sum_error
        left[at] = total + error
    return left


def _sum(a: np.ndarray, b: np.ndarray | np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Return sums and their rounding errors."""
    total = a + b
    added = total - a
    return total, (a - (total - added)) + (b - added)


def _product(values: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return products and their rounding errors."""
    product = values * factor
    high, factor_high = _high(values), float(_high(np.array(factor)))
    low, factor_low = values - high, factor - factor_high
    return product, low * factor_low - (((product - high * factor_high) - low * factor_high) - high * factor_low)


def _high(values: np.ndarray) -> np.ndarray:
    """Return the upper half of the digits of doubles."""
    scaled = _SPLITTER * values
    return np.asarray(scaled - (scaled - values))


def unit_rounding(values: Any) -> float:
    """Return twice the relative spacing of the values' floating-point type, or of doubles if they are whole numbers."""
    dtype = values.dtype
    return 2.0 * float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)
