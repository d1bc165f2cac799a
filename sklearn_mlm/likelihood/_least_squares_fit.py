"""`LeastSquaresFit`: the record of a fit by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LeastSquaresFit:
    """Stores what the table of coefficients needs from a fit by least squares.

    Attributes
    ----------
    names : sequence of str
        Names of the coefficients.
    coefficients : ndarray of shape (n_coefficients,)
        Coefficients, the intercept first if there is one.
    covariance : ndarray of shape (n_coefficients, n_coefficients)
        Covariance of the coefficients.
    df : ndarray of shape (n_coefficients,)
        Degrees of freedom of each coefficient.
    dropped : ndarray of int
        Positions of coefficients that are not estimated.
    """

    names: Sequence[str]
    coefficients: np.ndarray
    covariance: np.ndarray
    df: np.ndarray
    dropped: np.ndarray
