"""`Remainder`: moments of what some slopes leave of y, where y's own squares hold too few digits of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ._rows import Rows, block_rows

# What rounding leaves of scatter, relative to it.
SPACING = 4 * np.finfo(np.float64).eps
# Splits a double into two halves of 26 bits, whose products are exact (Veltkamp).
_SPLITTER = 2.0**27 + 1.0


@dataclass(frozen=True, eq=False)
class Remainder:
    """Moments of e = y - x'b for slopes b that explain nearly all of y, computed from the rows themselves.

    If the predictors explain all but a share d of the scatter of y, the scatter that they leave is a difference that has
    lost -log10(d) digits. Moments of e have not.

    Attributes
    ----------
    slopes : ndarray of shape (n_features,)
        b, in units of y per unit of x.
    center : float
        An arbitrary point amid the values of e, which are far from 0 where x is far from 0 and b large.
    deviations : ndarray of shape (n_groups,)
        Group means of e minus `center`, to their own digits.
    within : ndarray of shape (n_features + 1,)
        Pooled within-group scatter of e with the columns of x and, last, with itself.
    noise : float
        Scatter of e that the rounding of y and x could have left, were y an exact combination of the columns.
    lost : float
        Scatter of e that rounding could have left in moments that were merged in and had no remainder.
    """

    slopes: np.ndarray
    center: float
    deviations: np.ndarray
    within: np.ndarray
    noise: float
    lost: float = 0.0


@dataclass(frozen=True, eq=False)
class KnownPart:
    """A linear function of x that explains nearly all of y, so that what it leaves is read instead of y.

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
    """Return y - x'b - a of each row, to the rounding of the result and not to that of y.

    Products and sums carry their rounding errors along (Dekker's product, Knuth's sum), so that the terms may be 1e15 times
    as large as what is left of them.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    known : KnownPart

    Returns
    -------
    rests : ndarray of shape (n_samples,)

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
            product, of_product = _product(block[:, column], -known.slopes[column])
            total, of_sum = _sum(total, product)
            error += of_product + of_sum
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
    return scaled - (scaled - values)


def unit_rounding(values: Any) -> float:
    """Return twice the relative spacing of the type that values come in, that of doubles for whole numbers."""
    kind = (values.data if sparse.issparse(values) else values).dtype
    return 2.0 * float(np.finfo(kind if kind.kind == "f" else np.float64).eps)
