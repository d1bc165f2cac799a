"""`CellScatter`: the mergeable record of rows by the cells of several grouping factors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from .._inputs import column_names
from .._typing import Positions
from ._label_tables import append_labels
from ._labels import MISSING, UNSEEN, factorize
from ._moments import Moments
from ._rows import GroupedRows, grouped_rows
from ._scatter import Scatter
from ._scatter_merging import merge_scatters
from ._scatter_reading import read_scatter


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
        return Cells(self.names, tuple(levels), _columns(codes, len(which)))

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
        return codes, pd.MultiIndex(levels=levels, codes=of_levels, names=list(columns), verify_integrity=False)

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


@dataclass(frozen=True, eq=False)
class CellScatter(Scatter):
    """Moments of rows (x, y) in each cell of several grouping factors, and the cell's own products with slope columns.

    A cell is a combination of labels that rows have, such as a subject and an item, or a school and a class. The record is
    what models of several grouping factors need of the data: `MixedEffectsRegressor.fit_moments` fits all of them that use
    these columns of labels, in any order and nested or crossed.

    Records of different rows merge exactly, up to rounding. A record has as many numbers as a `GroupedScatter` whose groups
    are the cells, and the labels of each cell. Where nearly every row has a cell of its own, such as a rating of an item by
    a subject, it is about as large as the rows.

    Attributes
    ----------
    moments : Moments
        The moments of the rows, whose groups are the cells.
    slopes : tuple of int
        Positions of the slope columns among the columns of x.
    factors : ndarray of shape (n_cells, n_slopes, n_features + 1)
        The factors of the cells, as in `GroupedScatter`.
    rest : ndarray of shape (n_features + 1, n_features + 1)
        The rest, as in `GroupedScatter`.
    cells : Cells
        The labels of the cells.
    """

    cells: Cells = Cells((), (), np.zeros((0, 0), dtype=np.intp))

    @classmethod
    def from_rows(cls, rows: RowsInCells, slopes: tuple[int, ...]) -> CellScatter:
        """Return the record of checked rows."""
        return cell_scatter(rows, slopes)

    def merge(self, *others: CellScatter) -> CellScatter:
        """Return the record of the rows of all parts.

        Parameters
        ----------
        *others : CellScatter
            Records with the same features, slopes and columns of labels. A cell may occur in several parts.

        Returns
        -------
        scatter : CellScatter
            The merged record.

        Raises
        ------
        ValueError
            If their features, slopes or columns of labels differ.
        """
        return merge_cells([self, *others])

    def named(self, groups_name: Any, outcome_name: str | None) -> CellScatter:
        """Return the same record with this name of y; the columns of labels have names of their own."""
        return replace(self, moments=self.moments.named(None, outcome_name))


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
    names = [str(name) for name in (column_names(groups) if not isinstance(groups, dict) else groups)]
    codes, levels = [], []
    for name in names:
        try:
            of_column, labels = factorize(groups[name], len(y))
        except ValueError as error:
            error.add_note(f"This is about the column {name!r} of groups.")
            raise
        codes.append(of_column)
        levels.append(labels.rename(name))
    of_rows = _columns(codes, len(y))
    cell, first = distinct_rows(of_rows, [len(labels) for labels in levels])
    cells = Cells(tuple(names), tuple(levels), of_rows[first])
    rows = grouped_rows(X, y, cell, sample_weight, **options)
    used = rows.levels.to_numpy()
    if len(used) < len(cells):
        cells = cells.take(used)
    return RowsInCells(replace(rows, levels=pd.RangeIndex(len(cells))), cells)


def cell_scatter(rows: RowsInCells, slopes: tuple[int, ...]) -> CellScatter:
    """Return the record of checked rows."""
    scatter = read_scatter(rows.rows, slopes)
    # Reading may put groups in another order.
    order = scatter.moments.labels.to_numpy()
    cells = replace(rows.cells, codes=rows.cells.codes[order])
    return CellScatter(**vars(_relabelled(scatter, np.arange(len(order)))), cells=cells)


def merge_cells(parts: Iterable[CellScatter]) -> CellScatter:
    """Return the record of the rows of all parts.

    Raises
    ------
    ValueError
        If there are no parts, or if their features, slopes or columns of labels differ.
    """
    parts = list(parts)
    names = {part.cells.names for part in parts}
    if len(names) > 1:
        shown = " and ".join(str(list(each)) for each in names)
        raise ValueError(f"Cannot merge records with different columns of labels: {shown}.")
    columns, levels = [], []
    for at in range(len(parts[0].cells.names) if parts else 0):
        codes, labels = factorize(append_labels([part.cells.levels[at] for part in parts]))
        columns.append(np.split(codes, np.cumsum([len(part.cells.levels[at]) for part in parts])[:-1]))
        levels.append(labels.rename(parts[0].cells.names[at]))
    of_cells = [
        _columns([columns[at][i][part.cells.codes[:, at]] for at in range(len(levels))], len(part.cells))
        for i, part in enumerate(parts)
    ]
    together = np.concatenate(of_cells) if of_cells else np.zeros((0, 0), dtype=np.intp)
    cell, first = distinct_rows(together, [len(labels) for labels in levels])
    cuts = np.cumsum([len(part.cells) for part in parts])[:-1]
    keyed = [_relabelled(part, each) for part, each in zip(parts, np.split(cell, cuts), strict=True)]
    merged = merge_scatters([Scatter(part.moments, part.slopes, part.factors, part.rest) for part in keyed])
    order = merged.moments.labels.to_numpy()
    cells = Cells(tuple(parts[0].cells.names), tuple(levels), together[first][order])
    return CellScatter(**vars(_relabelled(merged, np.arange(len(order)))), cells=cells)


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


def _columns(codes: Sequence[np.ndarray], n: int) -> Positions:
    """Return columns of codes as an array of shape (n, n_columns)."""
    return np.column_stack(codes).astype(np.intp, copy=False) if codes else np.zeros((n, 0), dtype=np.intp)


def _relabelled(scatter: Any, labels: np.ndarray) -> Any:
    """Return a record with other labels of its groups."""
    moments: Moments = scatter.moments
    return replace(scatter, moments=replace(moments, labels=pd.Index(labels)))
