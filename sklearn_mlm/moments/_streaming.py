"""Rows that come in batches to moments, in memory that does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np

from .._inputs import column_names, name_of
from .._progress import progress
from ._accumulator import Accumulator
from ._cells import rows_in_cells
from ._labels import Labels, as_labels, warn_of_twins
from ._merging import merge
from ._moments import Moments
from ._reading import read_rows, refuse_vanishing_squares
from ._rows import (
    NO_WEIGHT,
    Rows,
    as_numbers,
    as_weights,
    check_containers,
    checked_arrays,
    grouped_rows,
    in_rows,
    predictors_as_numbers,
)
from ._scatter import Scatter, Slopes, slope_positions
from ._scatter_merging import merge_scatters
from ._scatter_reading import read_scatter

_Record = TypeVar("_Record", bound=Moments | Scatter)
_Cells = TypeVar("_Cells", bound=Scatter)

# Pending parts are merged once they hold more groups than this.
_WORTH_MERGING = 1 << 16
# Records of each group's own products are merged so many at a time, because that costs less than the same one by one.
_MERGED_AT_ONCE = 4


class Batch(NamedTuple):
    """A batch of checked rows.

    Attributes
    ----------
    feature_names : tuple of str or None
        Names of the columns of X, if they have names.
    X : ndarray or sparse matrix of shape (n_samples, n_features), list of columns, or None
        The predictors.
    y : ndarray of shape (n_samples,)
        The outcome.
    outcome_name : str or None
        Name of y, if it has one.
    groups : ndarray or pandas ExtensionArray of shape (n_samples,), or dict of them
        The label of each row, or its labels by the name of their column.
    groups_name : str or None
        Name of the column of labels, if it has one.
    sample_weight : ndarray of shape (n_samples,) or None
        Row weights.
    """

    feature_names: tuple[str, ...] | None
    X: Any
    y: np.ndarray
    outcome_name: str | None
    groups: Labels | dict[str, Labels]
    groups_name: str | None
    sample_weight: np.ndarray | None


def checked_batch(position: int, batch: Any, *, several: bool = False) -> Batch:
    """Return a user's batch, checked, whose groups may be several columns of labels; errors give its position."""
    if not isinstance(batch, tuple | list) or len(batch) not in (3, 4):
        kind = type(batch).__name__
        found = f"a {kind} of {len(batch)}" if isinstance(batch, tuple | list) else kind
        raise TypeError(f"Batch {position} must be a tuple (X, y, groups) or (X, y, groups, sample_weight); found {found}.")
    X, y, groups, *rest = batch
    weights = rest[0] if rest else None
    outcome_name, groups_name = name_of(y), name_of(groups)
    try:
        check_containers(X=X, y=y, groups=groups, sample_weight=weights)
        names, X, y = checked_arrays(X, y)
        weights = None if weights is None else as_weights(weights, len(y))
        if several:
            columns = column_names(groups)
            if columns is None:
                raise ValueError(f"groups must be a frame with a column for each factor; found a {type(groups).__name__}.")
            labels: Any = {str(name): as_labels(groups[name], len(y)) for name in columns}
        else:
            labels = as_labels(groups, len(y))
        return Batch(names, X, y, outcome_name, labels, groups_name, weights)
    except ValueError as error:
        raise ValueError(f"In batch {position}, counted from 0: {error}") from error


def read_batches(batches: Iterable[Batch], verbose: int, lasting: bool) -> Moments:
    """Return the moments of batches.

    Rows without weights go to an accumulator. A batch with weights is read into moments of its own. These are merged once
    they have more groups than the result of the last merge, so that every row is merged only a few times.

    Parameters
    ----------
    batches : iterable of Batch
        Batches with the same columns.
    verbose : int
        1 shows progress.
    lasting : bool
        Whether the arrays of a batch keep their values after the next one is asked for.

    Returns
    -------
    moments : Moments
        Moments of all rows.
    """
    first = _First()
    pending = _Pending(read_rows, merge)
    n_read = n_kept = 0
    with progress(verbose, "rows") as report, Accumulator() as accumulator:
        for batch in batches:
            rows, names = first.rows_of(batch, n_read), batch.feature_names
            if batch.sample_weight is None and len(rows):
                n_kept += len(rows)
                numbers = Rows(predictors_as_numbers(rows.X), as_numbers(rows.y, "y"), names, batch.outcome_name)
                accumulator.add(numbers, cast(Labels, batch.groups), first=n_read, lasting=lasting)
            elif batch.sample_weight is not None and len(rows):
                n_kept += pending.add(batch, rows, n_read)
            n_read += len(rows)
            report(len(rows))
        names, n_features = first.columns(n_read, n_kept)
        if not n_kept:
            return read_rows(grouped_rows(np.zeros((0, n_features)), np.zeros(0), [], feature_names=names))
        if accumulator.n_batches:
            pending.parts.append(replace(accumulator.finish(), feature_names=names))
        moments = merge(pending.parts)
    refuse_vanishing_squares(moments)
    warn_of_twins(moments.labels[:0], moments.labels)
    return moments.named(first.groups_name, first.outcome_name)


def read_scatter_batches(batches: Iterable[Batch], slopes: Slopes, verbose: int) -> Scatter:
    """Return the scatter of batches, each of which is read into a record of its own; the records are merged as they come.

    Parameters
    ----------
    batches : iterable of Batch
        Batches with the same columns.
    slopes : str, int, or sequence of them
        Names or positions of the slope columns.
    verbose : int
        1 shows progress.

    Returns
    -------
    scatter : Scatter
        The record of all rows.
    """
    first = _First()
    pending: _Pending[Scatter] | None = None
    n_read = n_kept = 0
    with progress(verbose, "rows") as report:
        for batch in batches:
            rows = first.rows_of(batch, n_read)
            if pending is None:
                at = slope_positions(slopes, batch.feature_names, rows.n_columns - 1)
                pending = _Pending(partial(read_scatter, slopes=at), merge_scatters, _MERGED_AT_ONCE)
            if len(rows):
                n_kept += pending.add(batch, rows, n_read)
            n_read += len(rows)
            report(len(rows))
    names, n_features = first.columns(n_read, n_kept)
    if pending is None or not n_kept:
        empty = grouped_rows(np.zeros((0, n_features)), np.zeros(0), [], feature_names=names)
        return read_scatter(empty, slope_positions(slopes, names, n_features))
    scatter = merge_scatters(pending.parts)
    warn_of_twins(scatter.labels[:0], scatter.labels)
    return scatter.named(first.groups_name, first.outcome_name)


def read_cell_batches(
    batches: Iterable[Batch],
    slopes: Slopes,
    verbose: int,
    read: Callable[..., _Cells],
    merge_records: Callable[[list[_Cells]], _Cells],
) -> _Cells:
    """Return the record of batches with several columns of labels, each of which is read into a record of its own.

    Parameters
    ----------
    batches : iterable of Batch
        Batches with the same columns.
    slopes : str, int, or sequence of them
        Names or positions of the slope columns.
    verbose : int
        1 shows progress.
    read, merge_records : callable
        Read rows to a record, given the positions of slope columns, and merge records.

    Returns
    -------
    record : CellScatter
        The record of all rows.
    """
    first = _First()
    pending: _Pending[_Cells] | None = None
    n_read = n_kept = 0
    with progress(verbose, "rows") as report:
        for batch in batches:
            rows = first.rows_of(batch, n_read)
            if pending is None:
                at = slope_positions(slopes, batch.feature_names, rows.n_columns - 1)
                pending = _Pending(partial(read, slopes=at), merge_records, _MERGED_AT_ONCE, rows_in_cells)
            n_kept += pending.add(batch, rows, n_read)
            n_read += len(rows)
            report(len(rows))
    first.columns(n_read, n_kept)
    if pending is None:
        raise AssertionError("the first batch makes a record")
    return merge_records(pending.parts).named(None, first.outcome_name)


class _First:
    """The columns of the first batch, which all batches must have, and the names of labels and outcome."""

    def __init__(self) -> None:
        self._columns: tuple[tuple[str, ...] | None, int] | None = None
        self.groups_name: str | None = None
        self.outcome_name: str | None = None

    def rows_of(self, batch: Batch, n_read: int) -> Rows:
        """Return the rows of a batch; raise a ValueError if they have other columns than the first batch."""
        rows, names = Rows(batch.X, batch.y), batch.feature_names
        found = names, rows.n_columns - 1
        self._columns = self._columns or found
        if found != self._columns:
            raise ValueError(
                f"The batch that starts at row {n_read} has other columns than the first: this batch has {_listed(*found)}; "
                f"earlier ones had {_listed(*self._columns)}. Read the same columns, in the same order."
            )
        self.groups_name = self.groups_name or batch.groups_name
        self.outcome_name = self.outcome_name or batch.outcome_name
        return rows

    def columns(self, n_read: int, n_kept: int) -> tuple[tuple[str, ...] | None, int]:
        """Return the names and the number of the predictors; raise a ValueError if there is nothing to fit."""
        if self._columns is None:
            raise ValueError("There are no batches. Pass at least one, which may be empty, so that the columns are known.")
        if n_read and not n_kept:
            raise ValueError(NO_WEIGHT)
        return self._columns


def _listed(names: tuple[str, ...] | None, n_columns: int) -> str:
    """Return the columns of X in words."""
    if names is None or not n_columns:
        return f"{n_columns} column(s) without names" if n_columns else "no column"
    return f"the column(s) {', '.join(map(repr, names))}"


class _Pending(Generic[_Record]):
    """Records of batches, merged once they have some times as many groups as the result of the last merge.

    So every row is merged only a few times.
    """

    def __init__(
        self,
        read: Callable[[Any], _Record],
        merge: Callable[[list[_Record]], _Record],
        times: int = 1,
        check: Callable[..., Any] = grouped_rows,
    ):
        self._times, self._check = times, check
        self._read: Callable[[Any], _Record] = read
        self._merge: Callable[[list[_Record]], _Record] = merge
        self.parts: list[_Record] = []
        self._n_merged = self._n_pending = 0

    def add(self, batch: Batch, rows: Rows, n_read: int) -> int:
        """Read a batch, and return how many of its rows have a positive weight."""
        with in_rows(n_read, len(rows)):
            checked = self._check(
                rows.X,
                rows.y,
                batch.groups,
                batch.sample_weight,
                feature_names=batch.feature_names,
                outcome_name=batch.outcome_name,
                first_row=n_read,
                some=False,
            )
            self.parts.append(self._read(checked))
        self._n_pending += self.parts[-1].n_groups
        if self._n_pending > max(self._times * self._n_merged, _WORTH_MERGING):
            self.parts = [self._merge(self.parts)]
            self._n_pending, self._n_merged = 0, self.parts[0].n_groups
        return len(checked)
