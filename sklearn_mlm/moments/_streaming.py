"""Rows that come in batches to moments, in memory that does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from .._inputs import name_of
from .._progress import progress
from ._accumulator import Accumulator
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

# Pending parts are merged once they hold more groups than this.
_WORTH_MERGING = 1 << 16


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
    groups : ndarray or pandas ExtensionArray of shape (n_samples,)
        The label of each row.
    groups_name : str or None
        Name of the column of labels, if it has one.
    sample_weight : ndarray of shape (n_samples,) or None
        Row weights.
    """

    feature_names: tuple[str, ...] | None
    X: Any
    y: np.ndarray
    outcome_name: str | None
    groups: Labels
    groups_name: str | None
    sample_weight: np.ndarray | None


def checked_batch(position: int, batch: Any) -> Batch:
    """Return a user's batch, checked; errors give its position."""
    if not isinstance(batch, tuple | list) or len(batch) not in (3, 4):
        found = f"{len(batch)} of them" if isinstance(batch, tuple | list) else type(batch).__name__
        raise TypeError(f"Batch {position} must be a tuple (X, y, groups) or (X, y, groups, sample_weight); found {found}.")
    X, y, groups, *rest = batch
    weights = rest[0] if rest else None
    outcome_name, groups_name = name_of(y), name_of(groups)
    try:
        check_containers(X=X, y=y, groups=groups, sample_weight=weights)
        names, X, y = checked_arrays(X, y)
        weights = None if weights is None else as_weights(weights, len(y))
        return Batch(names, X, y, outcome_name, as_labels(groups, len(y)), groups_name, weights)
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
    columns: tuple[tuple[str, ...] | None, int] | None = None
    groups_name = outcome_name = None
    pending: list[Moments] = []
    n_read = n_kept = n_merged = n_pending = 0
    with progress(verbose, "rows") as report, Accumulator() as accumulator:
        for batch in batches:
            rows, names, weights = Rows(batch.X, batch.y), batch.feature_names, batch.sample_weight
            found = names, rows.n_columns - 1
            columns = columns or found
            if found != columns:
                raise ValueError(
                    f"The batch that starts at row {n_read} has other columns than the first: found {found[1]} "
                    f"({names!r}), and {columns[1]} before ({columns[0]!r}). Read the same columns, in the same order."
                )
            groups_name, outcome_name = groups_name or batch.groups_name, outcome_name or batch.outcome_name
            if weights is None and len(rows):
                n_kept += len(rows)
                numbers = Rows(predictors_as_numbers(rows.X), as_numbers(rows.y, "y"), names, batch.outcome_name)
                accumulator.add(numbers, batch.groups, first=n_read, lasting=lasting)
            elif weights is not None and len(rows):
                n_kept += int(np.count_nonzero(weights))
                with in_rows(n_read, len(rows)):
                    labels = cast(ArrayLike, batch.groups)
                    weighted = grouped_rows(
                        rows.X,
                        rows.y,
                        labels,
                        weights,
                        feature_names=names,
                        outcome_name=batch.outcome_name,
                        first_row=n_read,
                        some=False,
                    )
                    pending.append(read_rows(weighted))
                n_pending += pending[-1].n_groups
                if n_pending > max(n_merged, _WORTH_MERGING):
                    pending = [merge(pending)]
                    n_pending, n_merged = 0, pending[0].n_groups
            n_read += len(rows)
            report(len(rows))
        if columns is None:
            raise ValueError("There are no batches. Pass at least one, which may be empty, so that the columns are known.")
        names, n_features = columns
        if n_read and not n_kept:
            raise ValueError(NO_WEIGHT)
        if not n_kept:
            return read_rows(grouped_rows(np.zeros((0, n_features)), np.zeros(0), [], feature_names=names))
        if accumulator.n_batches:
            pending.append(replace(accumulator.finish(), feature_names=names))
        moments = merge(pending)
    refuse_vanishing_squares(moments)
    warn_of_twins(moments.labels[:0], moments.labels, stacklevel=3)
    return replace(moments, labels=moments.labels.rename(groups_name), outcome_name=outcome_name)
