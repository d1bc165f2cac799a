"""`CellScatter`: the mergeable record of rows by the cells of several grouping factors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import column_names, name_of
from ._cells import Cells, RowsInCells, columns_of_codes, distinct_rows, rows_in_cells
from ._grouped_moments import UserBatch, check_pyarrow
from ._label_tables import append_labels
from ._labels import factorize
from ._moments import Moments
from ._rows import check_containers, checked_arrays
from ._scatter import Scatter, Slopes, slope_positions
from ._scatter_merging import merge_scatters
from ._scatter_reading import read_scatter
from ._storage import FileLike, Paths, load_cells, save_scatter
from ._streaming import checked_batch, read_cell_batches


@dataclass(frozen=True, eq=False)
class CellScatter(Scatter):
    """Moments of rows (x, y) in each cell of several grouping factors, and the cell's own products with slope columns.

    A cell is a combination of labels that rows have, such as a subject and an item, or a school and a class. The record is
    what models of several grouping factors need of the data: `MixedEffectsRegressor.fit_moments` fits all of them that use
    these columns of labels, nested or crossed, whatever their order.

    Records of different rows merge exactly, up to rounding. A record has as many numbers as a `GroupedScatter` whose groups
    are the cells, and the labels of each cell. If nearly every row has a cell of its own, such as the rating of an item by a
    subject, the record is about as large as the rows.

    Read rows with `from_arrays`, `from_batches`, `from_arrow` or `from_parquet`.

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

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mlm import CellScatter, MixedEffectsRegressor
    >>> labels = pd.DataFrame({"subject": list("aabbccdd"), "item": list("xyxyxyxy")})
    >>> rating = [3.0, 5.0, 4.0, 7.0, 2.0, 4.0, 6.0, 7.0]
    >>> parts = [CellScatter.from_arrays(None, rating[i::2], labels[i::2]) for i in range(2)]
    >>> MixedEffectsRegressor().fit_moments(parts[0].merge(parts[1])).variance_components_.round(2)
    subject (Intercept)    2.25
    item (Intercept)       1.92
    residual               0.33
    Name: variance, dtype: float64
    """

    cells: Cells

    @classmethod
    def from_arrays(
        cls, X: Any, y: ArrayLike, groups: Any, sample_weight: ArrayLike | None = None, *, slopes: Slopes = ()
    ) -> CellScatter:
        """Return the record of rows in arrays.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or None
            The predictors, without a column of ones.
        y : array-like of shape (n_samples,)
            The outcome.
        groups : data frame of shape (n_samples, n_columns)
            The columns of labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        slopes : str, int, or sequence of them, default=()
            Names or positions of the columns of X whose coefficients may vary between levels of a factor.

        Returns
        -------
        scatter : CellScatter
            The record of the rows.

        Raises
        ------
        ValueError
            As `GroupedScatter.from_arrays`, or if groups is not a frame.
        """
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        outcome_name = name_of(y)
        names, X, y = checked_arrays(X, y)
        if column_names(groups) is None:
            raise ValueError(
                "groups must be a frame with a column for each column of labels; found a "
                f"{type(groups).__name__}. GroupedScatter reads rows with one column of labels."
            )
        rows = rows_in_cells(X, y, groups, sample_weight, feature_names=names, outcome_name=outcome_name)
        return cls.from_rows(rows, slope_positions(slopes, names, 0 if X is None else X.shape[1]))

    @classmethod
    def from_batches(cls, batches: Iterable[UserBatch], *, slopes: Slopes = (), verbose: int = 0) -> CellScatter:
        """Return the record of rows that come in batches, in memory that does not grow with the number of rows of a cell.

        Parameters
        ----------
        batches : iterable of tuple
            Batches (X, y, groups) or (X, y, groups, sample_weight), with frames of labels.
        slopes : str, int, or sequence of them, default=()
            Names or positions of the columns whose coefficients may vary between levels of a factor.
        verbose : int, default=0
            1 shows the number of rows read, and the rate if tqdm is installed.

        Returns
        -------
        scatter : CellScatter
            The record of all rows.

        Raises
        ------
        TypeError, ValueError
            As in `GroupedScatter.from_batches`.
        """
        checked = (checked_batch(at, batch, several=True) for at, batch in enumerate(batches))
        return cls.of_batches(checked, slopes, verbose)

    @classmethod
    def from_arrow(
        cls,
        source: Any,
        *,
        x: str | Iterable[str],
        y: str,
        groups: Sequence[str],
        slopes: Slopes = (),
        sample_weight: str | None = None,
        verbose: int = 0,
    ) -> CellScatter:
        """Return the record of a table that offers its rows as an Arrow stream, read batch by batch.

        Parameters
        ----------
        source : table
            As in `GroupedMoments.from_arrow`.
        x : str or iterable of str
            Names of the predictors.
        y : str
            Name of the outcome.
        groups : sequence of str
            Names of the columns of labels.
        slopes : str, int, or sequence of them, default=()
            Names or positions of the predictors whose coefficients may vary between levels of a factor.
        sample_weight : str or None, default=None
            Name of the column of row weights.
        verbose : int, default=0
            1 shows the number of rows read, and the rate if tqdm is installed.

        Returns
        -------
        scatter : CellScatter
            The record of all rows.

        Raises
        ------
        ImportError, TypeError, ValueError
            As in `GroupedScatter.from_arrow`.
        """
        check_pyarrow("from_arrow")
        from ._arrow import arrow_batches, named_columns

        return cls.of_batches(arrow_batches(source, named_columns(x, y, groups, sample_weight)), slopes, verbose)

    @classmethod
    def from_parquet(
        cls,
        path: Paths,
        *,
        x: str | Iterable[str],
        y: str,
        groups: Sequence[str],
        slopes: Slopes = (),
        sample_weight: str | None = None,
        verbose: int = 0,
    ) -> CellScatter:
        """Return the record of the rows in Parquet files, read batch by batch and only in the columns named.

        Parameters
        ----------
        path : str, path, or iterable of them
            As in `GroupedMoments.from_parquet`.
        x : str or iterable of str
            Names of the predictors.
        y : str
            Name of the outcome.
        groups : sequence of str
            Names of the columns of labels.
        slopes : str, int, or sequence of them, default=()
            Names or positions of the predictors whose coefficients may vary between levels of a factor.
        sample_weight : str or None, default=None
            Name of the column of row weights.
        verbose : int, default=0
            1 shows the number of rows read, and the rate if tqdm is installed.

        Returns
        -------
        scatter : CellScatter
            The record of the rows of all files.

        Raises
        ------
        FileNotFoundError, ImportError, TypeError, ValueError
            As in `GroupedScatter.from_parquet`.
        """
        check_pyarrow("from_parquet")
        from ._arrow import named_columns
        from ._parquet import open_parquet

        names = named_columns(x, y, groups, sample_weight)
        return cls.from_arrow(open_parquet(path, names), **names._asdict(), slopes=slopes, verbose=verbose)

    @classmethod
    def of_batches(cls, batches: Iterable[Any], slopes: Slopes, verbose: int) -> CellScatter:
        """Return the record of checked batches.

        Parameters
        ----------
        batches : iterable of Batch
            Checked rows with columns of labels.
        slopes : str, int, or sequence of them
            Names or positions of the columns whose coefficients may vary between levels of a factor.
        verbose : int
            1 shows the number of rows read.

        Returns
        -------
        scatter : CellScatter
            The record of all rows.
        """
        return read_cell_batches(batches, slopes, verbose, cls.from_rows, merge_cells)

    @classmethod
    def from_rows(cls, rows: RowsInCells, slopes: tuple[int, ...]) -> CellScatter:
        """Return the record of checked rows.

        Parameters
        ----------
        rows : RowsInCells
            The rows, and the cells of their labels.
        slopes : tuple of int
            Positions of the columns whose coefficients may vary between levels of a factor.

        Returns
        -------
        scatter : CellScatter
            The record of the rows.
        """
        scatter = read_scatter(rows.rows, slopes)
        # Reading may put groups in another order.
        order = scatter.moments.labels.to_numpy()
        cells = replace(rows.cells, codes=rows.cells.codes[order])
        return cls(**vars(_relabelled(scatter, np.arange(len(order)))), cells=cells)

    def merge(self, *others: CellScatter | Iterable[CellScatter]) -> CellScatter:
        """Return the record of the rows of all parts.

        Parameters
        ----------
        *others : CellScatter or iterable of CellScatter
            Records with the same features, slopes and columns of labels, in any order. A cell may occur in several parts.

        Returns
        -------
        scatter : CellScatter
            The merged record.

        Raises
        ------
        TypeError
            If a part is not a `CellScatter`.
        ValueError
            If their features, slopes or columns of labels differ.
        """
        parts = [part for each in (self, *others) for part in ([each] if isinstance(each, Scatter) else each)]
        for part in parts:
            if not isinstance(part, CellScatter):
                raise TypeError(f"merge takes records of cells, CellScatter; found {type(part).__name__}.")
        return merge_cells(parts)

    def save(self, file: FileLike) -> None:
        """Write the record to a file, from which `load` reads it to the last digit.

        Parameters
        ----------
        file : str, path or binary file object
            Where to write.

        Raises
        ------
        TypeError
            As `GroupedMoments.save`.
        """
        save_scatter(self, file, self.cells)

    @classmethod
    def load(cls, file: FileLike) -> CellScatter:
        """Read a record from a file that `save` wrote. Files from strangers are safe to load, because nothing in them runs.

        Parameters
        ----------
        file : str, path or binary file object
            The file to read.

        Returns
        -------
        scatter : CellScatter
            The record in the file.

        Raises
        ------
        ValueError
            As `GroupedMoments.load`, or if the file holds no cells.
        """
        scatter, cells = load_cells(file)
        return cls(**vars(scatter), cells=cells)

    def named(self, groups_name: Any, outcome_name: str | None) -> CellScatter:
        """Return the same record with this name of y; the columns of labels have names of their own.

        Parameters
        ----------
        groups_name : object
            Not used.
        outcome_name : str or None
            Name of y.

        Returns
        -------
        scatter : CellScatter
            The record.
        """
        return replace(self, moments=self.moments.named(None, outcome_name))

    def __add__(self, other: object) -> CellScatter:
        if not isinstance(other, CellScatter):
            return NotImplemented
        return self.merge(other)

    def __radd__(self, other: object) -> CellScatter:
        # The built-in sum starts from 0.
        return self if other == 0 else NotImplemented

    def __repr__(self) -> str:
        moments = self.moments
        levels = ", ".join(f"{name} {len(of)}" for name, of in zip(self.cells.names, self.cells.levels, strict=True))
        slopes = tuple(moments.shown_names[at] for at in self.slopes)
        return (
            f"CellScatter(n_cells={self.n_groups}, levels=({levels}), n_features={self.n_features}, slopes={slopes!r}, "
            f"n_rows={int(moments.n_rows.sum())}, total_weight={moments.counts.sum():g})"
        )


def merge_cells(parts: Iterable[CellScatter]) -> CellScatter:
    """Return the record of the rows of all parts.

    Raises
    ------
    ValueError
        If there are no parts, or if their features, slopes or columns of labels differ.
    """
    parts = list(parts)
    if not parts:
        raise ValueError("There are no records to merge.")
    names = dict.fromkeys(part.cells.names for part in parts)
    if len({frozenset(each) for each in names}) > 1:
        shown = " and ".join(str(list(each)) for each in names)
        raise ValueError(f"Cannot merge records with different columns of labels: {shown}.")
    parts = [replace(part, cells=part.cells.in_order(parts[0].cells.names)) for part in parts]
    columns, levels = [], []
    for at in range(len(parts[0].cells.names)):
        codes, labels = factorize(append_labels([part.cells.levels[at] for part in parts]))
        columns.append(np.split(codes, np.cumsum([len(part.cells.levels[at]) for part in parts])[:-1]))
        levels.append(labels.rename(parts[0].cells.names[at]))
    of_cells = [
        columns_of_codes([columns[at][i][part.cells.codes[:, at]] for at in range(len(levels))], len(part.cells))
        for i, part in enumerate(parts)
    ]
    together = np.concatenate(of_cells)
    cell, first = distinct_rows(together, [len(labels) for labels in levels])
    cuts = np.cumsum([len(part.cells) for part in parts])[:-1]
    keyed = [_relabelled(part, each) for part, each in zip(parts, np.split(cell, cuts), strict=True)]
    merged = merge_scatters([Scatter(part.moments, part.slopes, part.factors, part.rest) for part in keyed])
    order = merged.moments.labels.to_numpy()
    cells = Cells(tuple(parts[0].cells.names), tuple(levels), together[first][order])
    return CellScatter(**vars(_relabelled(merged, np.arange(len(order)))), cells=cells)


def _relabelled(scatter: Any, labels: np.ndarray) -> Any:
    """Return a record with other labels of its groups."""
    moments: Moments = scatter.moments
    return replace(scatter, moments=replace(moments, labels=pd.Index(labels)))
