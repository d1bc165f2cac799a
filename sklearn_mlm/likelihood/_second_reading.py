"""A second reading of rows, after a known part that explains nearly all of y is subtracted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..moments._grouped_moments import GroupedMoments, moments_of
from ..moments._reading import rest_of, with_remainder
from ..moments._remainder import KnownPart
from ..moments._rows import GroupedRows
from ._criterion import Criterion
from ._factor_criterion import FactorCriterion
from ._linalg import independent_columns, solve_positive, submatrix
from ._mixed_criterion import MixedCriterion

_Criterion = TypeVar("_Criterion", bound=Criterion | MixedCriterion | FactorCriterion)

# If large slopes of nearly collinear columns cancel, their first estimate may be too inexact for one reading to be enough.
_READINGS = 2


def criterion_of_rest(
    criterion: _Criterion, record: Any, options: Any, read_again: Callable[[Any, KnownPart], Any]
) -> _Criterion:
    """Return the criterion of a record whose rows are read again, less the part of y that predictors explain.

    Parameters
    ----------
    criterion : Criterion, MixedCriterion or FactorCriterion
        The criterion of the record.
    record : GroupedMoments or GroupedScatter
        The record.
    options : Options or MixedOptions
        The parameters of the model.
    read_again : callable
        Takes the record and a known part, reads the rows again and returns the record with the remainder of y.

    Returns
    -------
    criterion : Criterion, MixedCriterion or FactorCriterion
        The criterion of the record with the remainder; the same criterion if y has lost no digits.
    """
    for _ in range(_READINGS):
        known = criterion.known_part()
        if known is None:
            break
        record = read_again(record, known)
        criterion = options.criterion(record)
    return criterion


def read_about_known(
    rows: GroupedRows, moments: GroupedMoments, find: Callable[[GroupedMoments], KnownPart | None]
) -> tuple[GroupedRows, GroupedMoments, KnownPart]:
    """Return rows with y replaced by its rest after a known part is subtracted, their moments, and the known part.

    Parameters
    ----------
    rows : GroupedRows
        The rows of the data.
    moments : GroupedMoments
        Moments of the rows.
    find : callable
        Takes moments and returns the part of y that they determine, or None if y has lost no digits to it.

    Returns
    -------
    rows : GroupedRows
        The rows with the rest of y.
    moments : GroupedMoments
        Their moments.
    known : KnownPart
        The part that was subtracted; zero if nothing is known, or if the rest within groups is rounding.
    """
    known, left, rest = KnownPart(np.zeros(moments.n_features), 0.0), rows, moments
    for _ in range(_READINGS):
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
    """Return the residual sum of squares of y on x within groups, given their scatter."""
    kept = independent_columns(within[:-1, :-1])
    return float(within[-1, -1] - within[-1, kept] @ solve_positive(submatrix(within, kept), within[kept, -1]))
