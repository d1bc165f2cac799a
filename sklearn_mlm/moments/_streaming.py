"""Rows that come in batches to moments, in memory that does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ._accumulator import Accumulator
from ._arrow import progress
from ._labels import warn_of_twins
from ._merging import merge
from ._moments import Moments
from ._reading import read_rows, refuse_vanishing_squares
from ._rows import NO_WEIGHT, GroupedRows, as_numbers, grouped_rows, in_rows, predictors_as_numbers

# Waiting parts are merged once they hold more groups than this.
_WORTH_MERGING = 1 << 16


def read_batches(batches: Iterable[Any], verbose: int, lasting: bool) -> Moments:
    """Return the moments of batches.

    Rows without weights go to an accumulator. Batches with weights are read into moments of their own, which are merged
    when they have more groups than what they are merged into, so that every row is merged a few times at most.

    Parameters
    ----------
    batches : iterable of tuples
        As `checked_batch` returns them.
    verbose : int
        1 shows progress.
    lasting : bool
        Whether the arrays of a batch stay as they are when the next one is asked for.

    Returns
    -------
    moments : Moments
    """
    first: tuple[tuple[str, ...] | None, int] | None = None
    name_of_groups = name_of_outcome = None
    waiting: list[Moments] = []
    n_read = n_kept = n_merged = n_waiting = 0
    with progress(verbose) as tell, Accumulator() as accumulator:
        for names, X, y, y_name, labels, groups_name, weights in batches:
            n_features = 0 if X is None else len(X) if isinstance(X, list) else X.shape[1]
            first = first or (names, n_features)
            if (names, n_features) != first:
                raise ValueError(
                    f"The batch from row {n_read} on has columns other than the first: found {n_features} "
                    f"({names!r}), and {first[1]} before ({first[0]!r}). Read the same columns, in the same order."
                )
            name_of_groups, name_of_outcome = name_of_groups or groups_name, name_of_outcome or y_name
            start, n_read = n_read, n_read + len(y)
            if len(y) and weights is None:
                n_kept += len(y)
                accumulator.add(predictors_as_numbers(X), as_numbers(y, "y"), labels, first=start, lasting=lasting)
            elif len(y):
                n_kept += int(np.count_nonzero(weights))
                with in_rows(start, len(y)):
                    waiting.append(read_rows(grouped_rows(X, y, labels, weights, feature_names=names, some=False)))
                n_waiting += waiting[-1].n_groups
                if n_waiting > max(n_merged, _WORTH_MERGING):
                    waiting = [merge(waiting)]
                    n_waiting, n_merged = 0, waiting[0].n_groups
            tell(len(y))
        if first is None:
            raise ValueError("There are no batches: pass at least one, be it empty, to say what the columns are.")
        names, n_features = first
        if n_read and not n_kept:
            raise ValueError(NO_WEIGHT)
        if not n_kept:
            nothing = np.zeros((0, n_features)), np.zeros(0), np.zeros(0, dtype=np.intp), pd.Index([])
            return read_rows(GroupedRows(*nothing, feature_names=names))
        if accumulator.n_batches:
            result = accumulator.finish()
            waiting.append(Moments(n_rows=result.counts.astype(np.intp), feature_names=names, **result._asdict()))
        moments = merge(waiting)
    refuse_vanishing_squares(moments)
    warn_of_twins(moments.labels[:0], moments.labels, stacklevel=3)
    return replace(moments, labels=moments.labels.rename(name_of_groups), outcome_name=name_of_outcome)
