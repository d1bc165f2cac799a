"""The cells of several grouping factors: combinations of labels that rows have, and rows with the cell of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from .._inputs import column_names
from .._typing import Positions
from ._labels import MISSING, UNSEEN, factorize
from ._rows import GroupedRows, grouped_rows


@dataclass(frozen=True, eq=False)
class Cells:
    """Stores the combinations of labels that rows have.

    Attributes
    ----------
    names : tuple of str
        Names of the columns of labels.
    levels : tuple of pandas.Index
        The distinct labels of each column.
    codes : ndarray of shape (n_cells, n_columns)
        The position of each label of a cell in the levels of its column.
    """

    names: tuple[str, ...]
    levels: tuple[pd.Index, ...]
    codes: Positions

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, which: np.ndarray) -> Cells:
        """Return some of the cells, with the labels that they have."""
        codes, levels = [], []
        for of_column, labels in zip(self.codes[which].T, self.levels, strict=True):
            used = np.flatnonzero(np.bincount(of_column, minlength=len(labels)))
            position = np.zeros(len(labels), dtype=np.intp)
            position[used] = np.arange(len(used))
            codes.append(position[of_column])
            levels.append(labels.take(used))
        return Cells(self.names, tuple(levels), columns_of_codes(codes, len(which)))

    def in_order(self, names: tuple[str, ...]) -> Cells:
        """Return the cells with the columns of labels in another order."""
        if names == self.names:
            return self
        order = [self.names.index(name) for name in names]
        return Cells(names, tuple(self.levels[at] for at in order), np.ascontiguousarray(self.codes[:, order]))

    def labels_of(self, columns: Sequence[str]) -> tuple[Positions, pd.Index]:
        """Return the position of each cell among the combinations of labels of some columns, and these combinations.

        Parameters
        ----------
        columns : sequence of str
            Names of the columns.

        Returns
        -------
        codes : ndarray of shape (n_cells,)
            Positions of the combinations.
        labels : pandas.Index or pandas.MultiIndex
            The labels of one column, or tuples of labels.
        """
        chosen = [self.names.index(name) for name in columns]
        if len(chosen) == 1:
            return self.codes[:, chosen[0]], self.levels[chosen[0]].rename(columns[0])
        codes, first = distinct_rows(self.codes[:, chosen], [len(self.levels[at]) for at in chosen])
        levels = [self.levels[at] for at in chosen]
        of_levels = [self.codes[first, at] for at in chosen]
        return codes, pd.MultiIndex(levels=cast(Any, levels), codes=of_levels, names=list(columns), verify_integrity=False)

    def encode(self, columns: Sequence[str], codes: Sequence[np.ndarray]) -> np.ndarray:
        """Return the position of combinations of labels among those of the cells.

        Parameters
        ----------
        columns : sequence of str
            Names of the columns.
        codes : sequence of ndarray of shape (n,)
            Positions of the labels of each column in its levels, `UNSEEN` or `MISSING`.

        Returns
        -------
        positions : ndarray of shape (n,)
            Positions in the labels that `labels_of` returns; `MISSING` if a label is missing, and `UNSEEN` otherwise.
        """
        found = np.asarray(codes[0], dtype=np.intp)
        if len(columns) > 1:
            own, _ = self.labels_of(columns)
            chosen = [self.names.index(name) for name in columns]
            known, found = self.codes[:, chosen[0]], np.where(found < 0, UNSEEN, found)
            for at, more in zip(chosen[1:], codes[1:], strict=True):
                size = len(self.levels[at])
                keys, first = pd.factorize(known * size + self.codes[:, at])
                wanted = np.where((found < 0) | (more < 0), -1, found * size + more)
                known, found = keys, pd.Index(first).get_indexer(wanted)
            level_of_key = np.zeros(int(known.max()) + 1 if len(known) else 0, dtype=np.intp)
            level_of_key[known] = own
            found = np.where(found < 0, UNSEEN, level_of_key[found] if len(level_of_key) else UNSEEN)
        missing = np.any([np.asarray(each) == MISSING for each in codes], axis=0)
        return np.where(missing, MISSING, found)


@dataclass(frozen=True, eq=False)
class RowsInCells:
    """Stores checked rows with the cell of each as its group, and the cells."""

    rows: GroupedRows
    cells: Cells

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the columns of X."""
        return self.rows.feature_names

    @property
    def n_levels(self) -> dict[str, int]:
        """Number of labels of each column."""
        return {name: len(levels) for name, levels in zip(self.cells.names, self.cells.levels, strict=True)}

    def __len__(self) -> int:
        return len(self.rows)


def rows_in_cells(
    X: Any, y: np.ndarray, groups: pd.DataFrame | dict[str, Any], sample_weight: Any = None, **options: Any
) -> RowsInCells:
    """Return checked rows with the cell of each.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), list of columns, or None
        Predictors.
    y : ndarray of shape (n_samples,)
        Outcome.
    groups : dict of str to array-like of shape (n_samples,)
        The columns of labels by name.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Row weights.
    **options : Any
        Further parameters of `grouped_rows`.

    Returns
    -------
    rows : RowsInCells
        The rows of positive weight, and their cells.
    """
    found: Any = groups if isinstance(groups, dict) else column_names(groups)
    names = [str(name) for name in found]
    codes, levels = [], []
    for name in names:
        try:
            of_column, labels = factorize(groups[name], len(y))
        except ValueError as error:
            error.add_note(f"This is about the column {name!r} of groups.")
            raise
        codes.append(of_column)
        levels.append(labels.rename(name))
    of_rows = columns_of_codes(codes, len(y))
    cell, first = distinct_rows(of_rows, [len(labels) for labels in levels])
    cells = Cells(tuple(names), tuple(levels), of_rows[first])
    rows = grouped_rows(X, y, cell, sample_weight, **options)
    used = rows.levels.to_numpy()
    if len(used) < len(cells):
        cells = cells.take(used)
    return RowsInCells(replace(rows, levels=pd.RangeIndex(len(cells))), cells)


def distinct_rows(codes: Positions, sizes: Sequence[int]) -> tuple[Positions, Positions]:
    """Return the position of each row among the distinct rows, in their order, and where each of these occurs.

    Parameters
    ----------
    codes : ndarray of shape (n, n_columns)
        Codes of each column, less than its size.
    sizes : sequence of int
        The sizes.

    Returns
    -------
    position : ndarray of shape (n,)
        Positions among the distinct rows.
    first : ndarray of shape (n_distinct,)
        A row of each.
    """
    n = len(codes)
    key = np.zeros(n, dtype=np.int64)
    for column, size in zip(codes.T, sizes, strict=True):
        # The codes so far are less than the number of rows, so that no product overflows.
        key, _ = factorize(key * size + column) if key.any() else (column, None)
    key, _ = factorize(key)
    first = np.empty(int(key.max()) + 1 if n else 0, dtype=np.intp)
    first[key[::-1]] = np.arange(n - 1, -1, -1)
    return np.asarray(key, dtype=np.intp), first


def columns_of_codes(codes: Sequence[np.ndarray], n: int) -> Positions:
    """Return columns of codes as an array of shape (n, n_columns)."""
    return np.column_stack(codes).astype(np.intp, copy=False) if codes else np.zeros((n, 0), dtype=np.intp)
