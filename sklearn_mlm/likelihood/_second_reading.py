"""A second reading of rows, about slopes that explain nearly all of y."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..moments._grouped_moments import GroupedMoments, with_remainder
from ._linalg import independent_columns, solve_positive


def read_about(
    moments: GroupedMoments,
    slopes: np.ndarray,
    center: float,
    X: Any,
    y: np.ndarray,
    read: Callable[[np.ndarray], GroupedMoments],
) -> tuple[np.ndarray, GroupedMoments] | None:
    """Return what slopes leave of y less a centre and its moments with x, or None if within groups it is all rounding.

    The parameters are those of `with_remainder`.
    """
    whole, left, rest = with_remainder(moments, slopes, center, X, y, read)
    noise = 0.0 if whole.remainder is None else whole.remainder.noise
    return None if _residual_within(rest.within) <= noise else (left, rest)


def _residual_within(within: np.ndarray) -> float:
    """Return what the columns of x leave of the scatter of y within groups."""
    length = np.sqrt(within.diagonal())
    scaled = within / np.outer(length := np.where(length > 0, length, 1.0), length)
    kept = independent_columns(scaled[:-1, :-1])
    slopes = solve_positive(scaled[np.ix_(kept, kept)], scaled[kept, -1])
    return float(scaled[-1, -1] - scaled[-1, kept] @ slopes) * float(length[-1]) ** 2
