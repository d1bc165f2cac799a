"""A second reading of rows, about a known part that explains nearly all of the outcome."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..moments._grouped_moments import GroupedMoments, moments_of
from ..moments._reading import rest_of, with_remainder
from ..moments._remainder import KnownPart
from ..moments._rows import GroupedRows
from ._linalg import independent_columns, solve_positive, submatrix

# Slopes of nearly collinear columns that cancel may be too inexact at first to leave little.
READINGS = 2


def read_about_known(
    rows: GroupedRows, moments: GroupedMoments, find: Callable[[GroupedMoments], KnownPart | None]
) -> tuple[GroupedRows, GroupedMoments, KnownPart]:
    """Return rows with what a known part leaves of y in the place of y, their moments, and that part.

    Parameters
    ----------
    rows : GroupedRows
    moments : GroupedMoments
        Moments of the rows.
    find : callable
        Returns the part of y that is known from moments, or None if y has lost no digits to it.

    Returns
    -------
    rows : GroupedRows
    moments : GroupedMoments
    known : KnownPart
        Zero if nothing is known, or if the rest within groups is all rounding.
    """
    known, left, rest = KnownPart(np.zeros(moments.n_features), 0.0), rows, moments
    for _ in range(READINGS):
        more = find(rest)
        if more is None:
            break
        known_now = KnownPart(known.slopes + more.slopes, known.intercept + more.intercept)
        left_now = rest_of(rows, known_now)
        rest_now = moments_of(left_now)
        remainder = with_remainder(moments, known_now, rows, rest_now).remainder
        if remainder is None or _residual_within(rest_now.within) <= remainder.noise:
            break
        known, left, rest = known_now, left_now, rest_now
    return left, rest, known


def _residual_within(within: np.ndarray) -> float:
    """Return what the columns of x leave of the scatter of y within groups."""
    length = np.sqrt(within.diagonal())
    length = np.where(length > 0, length, 1.0)
    scaled = within / np.outer(length, length)
    kept = independent_columns(scaled[:-1, :-1])
    slopes = solve_positive(submatrix(scaled, kept), scaled[kept, -1])
    return float(scaled[-1, -1] - scaled[-1, kept] @ slopes) * float(length[-1]) ** 2
