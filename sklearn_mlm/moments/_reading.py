"""Checked rows to moments, and the moments of the rest of y after a known part is subtracted."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from ._complaints import raise_not_finite
from ._moments import Moments
from ._remainder import KnownPart, Remainder, rests, unit_rounding
from ._rows import GroupedRows, Rows, as_numbers, predictors_as_numbers
from ._sums import within_and_between

_Moments = TypeVar("_Moments", bound=Moments)

# Squares lose digits in a double if the mean square of a column is below this.
_LEAST_SQUARE = 1e-304


def read_rows(rows: GroupedRows) -> Moments:
    """Return the moments of checked rows; values that are not finite show in the moments, at no extra cost.

    Parameters
    ----------
    rows : GroupedRows
        The rows to sum.

    Returns
    -------
    moments : Moments
        Moments of (x, y), one row per group.

    Raises
    ------
    ValueError
        If X, y or the sum of the weights is not finite, or the square of a value overflows or vanishes in a double.
    """
    numbers, n_rows, counts = numbers_and_counts(rows)
    if len(rows):
        center, deviations, within = within_and_between(numbers, rows.codes, counts, rows.weights)
    else:
        width = numbers.n_columns
        center, deviations, within = np.zeros(width), np.zeros((0, width)), np.zeros((width, width))
    return checked_moments(rows, numbers, n_rows, counts, center, deviations, within)


def numbers_and_counts(rows: GroupedRows) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Return the columns of rows, the number of rows of each group, and the sum of their weights.

    Parameters
    ----------
    rows : GroupedRows
        The rows.

    Returns
    -------
    numbers : Rows
        The columns (x, y).
    n_rows : ndarray of shape (n_groups,)
        Numbers of rows.
    counts : ndarray of shape (n_groups,)
        Sums of weights.

    Raises
    ------
    ValueError
        If all weights sum to infinity.
    """
    numbers, n_groups = Rows(predictors_as_numbers(rows.X), as_numbers(rows.y, "y")), len(rows.levels)
    n_rows = np.bincount(rows.codes, minlength=n_groups)
    counts = n_rows.astype(np.float64) if rows.weights is None else np.bincount(rows.codes, rows.weights, n_groups)
    check_total_weight(counts)
    return numbers, n_rows, counts


def checked_moments(
    rows: GroupedRows,
    numbers: Rows,
    n_rows: np.ndarray,
    counts: np.ndarray,
    center: np.ndarray,
    deviations: np.ndarray,
    within: np.ndarray,
) -> Moments:
    """Return the moments that were read from rows; raise a ValueError if values are not finite or squares vanish.

    Parameters
    ----------
    rows : GroupedRows
        The rows.
    numbers, n_rows, counts
        What `numbers_and_counts` returns of them.
    center, deviations, within : ndarray
        The attributes of `Moments`.

    Returns
    -------
    moments : Moments
        The moments.
    """
    if not (np.isfinite(within.diagonal()).all() and np.isfinite(deviations.sum())):
        raise_not_finite(rows.columns_to_check(), rows.first_row)
    moments = Moments(
        labels=rows.levels,
        counts=counts,
        n_rows=n_rows,
        center=center,
        deviations=deviations,
        within=within,
        sum_log_weight=0.0 if rows.weights is None else float(np.log(rows.weights).sum()),
        feature_names=rows.feature_names,
        outcome_name=rows.outcome_name,
    )
    refuse_vanishing_squares(moments, numbers)
    return moments


def check_total_weight(counts: np.ndarray) -> None:
    """Raise a ValueError if the weights of all groups sum to infinity."""
    if not np.isfinite(counts.sum()):
        raise ValueError("sample_weight sums to more than a double holds. Divide the weights by a constant.")


def refuse_vanishing_squares(moments: Moments, rows: Rows | None = None) -> None:
    """Raise a ValueError for a column that varies by so little that squares vanish; without rows, group means show that."""
    total_weight = moments.counts.sum()
    suspects = np.flatnonzero(moments.within.diagonal() < _LEAST_SQUARE * total_weight)
    if not len(suspects) or not moments.n_groups:
        return
    squares = moments.within.diagonal()[suspects] + moments.counts @ moments.deviations[:, suspects] ** 2
    for at in suspects[squares < _LEAST_SQUARE * total_weight].tolist():
        values = moments.deviations[:, at] if rows is None else rows.column(at)
        if moments.within[at, at] or np.ptp(values):
            name = "y" if at == moments.n_features else f"Column {moments.shown_names[at]!r} of X"
            raise ValueError(
                f"{name} varies by so little that squares vanish in a double (below 1e-152). Rescale the column."
            )


def rest_of(rows: GroupedRows, known: KnownPart) -> GroupedRows:
    """Return rows with y replaced by the rest of y after a known part is subtracted."""
    return replace(rows, y=rests(rows.X, rows.y, known))


def with_remainder(moments: _Moments, known: KnownPart, rows: GroupedRows, rest: Moments | None = None) -> _Moments:
    """Return moments with the remainder of y after a known part is subtracted, for which the rows are read again.

    Parameters
    ----------
    moments : Moments
        Moments of the rows.
    known : KnownPart
        The part of y to subtract.
    rows : GroupedRows
        The rows to read again.
    rest : Moments or None, default=None
        Moments of `rest_of(rows, known)`; None reads them from the rows.

    Returns
    -------
    moments : Moments
        The same moments with a remainder.
    """
    rest = read_rows(rest_of(rows, known)) if rest is None else rest
    total_weight, (mean, scatter) = moments.counts.sum(), moments.total_scatter
    squares = total_weight * mean**2 + scatter
    # Rounding affects each term of the sum that y is.
    n_sums = 1.0 + np.count_nonzero(known.slopes) / 8.0
    of_x = unit_rounding(rows.X) ** 2 * known.slopes**2 @ squares[:-1]
    noise = n_sums * (unit_rounding(rows.y) ** 2 * squares[-1] + of_x)
    deviations = rest.deviations[:, -1] + rest.center[-1]
    remainder = Remainder(known.slopes, known.intercept, deviations, rest.within[-1], float(noise))
    return replace(moments, remainder=remainder)
