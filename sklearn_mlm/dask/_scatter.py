"""Rows in Dask collections to the record that random slopes need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..models._base import checked_rows
from ..models._random_intercept import RandomInterceptRegressor
from ..moments._cell_scatter import CellScatter, merge_cells
from ..moments._grouped_scatter import GroupedScatter, scatter_of
from ..moments._labels import warn_of_twins
from ..moments._rows import NO_WEIGHT
from ..moments._scatter import Slopes, slope_positions
from ._partitions import is_frame, partition
from ._regressor import DaskRandomInterceptRegressor

if TYPE_CHECKING:
    from distributed import Client


def read_scatter(
    X: Any, y: Any, groups: Any, sample_weight: Any = None, *, slopes: Slopes = (), client: Client | None = None
) -> GroupedScatter | CellScatter:
    """Return the record of rows in Dask collections, from which `MixedEffectsRegressor.fit_moments` fits random effects.

    One task reduces each partition to its record, and a tree of tasks merges the records.

    Parameters
    ----------
    X : dask DataFrame or Array of shape (n_samples, n_features)
        Predictors.
    y : dask Series or Array of shape (n_samples,)
        Outcome.
    groups : dask Series or Array of shape (n_samples,), or dask DataFrame of several columns of labels
        Group label of each row, or its labels of several grouping factors.
    sample_weight : dask Series or Array of shape (n_samples,), default=None
        Row weights.
    slopes : str, int, or sequence of them, default=()
        Names or positions of the columns of X whose coefficients may vary between groups.
    client : distributed.Client or None, default=None
        Computes the record; None uses Dask's default.

    Returns
    -------
    scatter : GroupedScatter, or CellScatter for several columns of labels
        The record of all rows, in memory.

    Raises
    ------
    ImportError
        If Dask is missing, which the extra "dask" installs.
    TypeError
        If an argument is in memory beside Dask collections.
    ValueError
        If values or labels are missing, lengths differ, there are no rows, or X has no such slope column.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> from sklearn_mlm import MixedEffectsRegressor
    >>> from sklearn_mlm.dask import read_scatter
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> frame = dd.from_pandas(load_sleepstudy(as_frame=True).frame, npartitions=3)
    >>> scatter = read_scatter(frame[["days"]], frame["reaction"], frame["subject"], slopes="days")
    >>> MixedEffectsRegressor(random_effects="(1 + days | subject)").fit_moments(scatter).coef_.round(4)
    array([10.4673])
    """
    model = DaskRandomInterceptRegressor(client=client)
    several = is_frame(groups) and getattr(groups, "ndim", 1) == 2 and len(groups.columns) > 1
    parts = model.partitions(X, y, groups[groups.columns[0]] if several else groups, sample_weight)
    names = getattr(model, "feature_names_in_", None)
    at = slope_positions(slopes, None if names is None else tuple(names), model.n_features_in_)
    if several:
        parts = partition({"X": X, "y": y, "groups": groups, "sample_weight": sample_weight})
    read, merge = (_read_cells, _merge_cells) if several else (_read, _merge)
    n_rows, scatter = model.reduce(parts, read, merge, at)
    if not n_rows:
        raise ValueError(f"Found no rows in the {len(parts.pieces)} partition(s). Pass at least one.")
    if not scatter.n_groups:
        raise ValueError(NO_WEIGHT)
    for labels in scatter.cells.levels if several else (scatter.labels,):
        warn_of_twins(labels[:0], labels)
    record: GroupedScatter | CellScatter = scatter
    return record


def _read(
    model: RandomInterceptRegressor, slopes: tuple[int, ...], X: Any, y: Any, groups: Any, sample_weight: Any
) -> tuple[int, GroupedScatter]:
    """Return the number of rows of a partition, and their record."""
    rows = checked_rows(model, X, y, groups, sample_weight, reset=False, min_rows=0)
    return y.shape[0], scatter_of(rows, slopes)


def _merge(parts: Sequence[tuple[int, GroupedScatter]]) -> tuple[int, GroupedScatter]:
    """Return the number of rows and the record of all parts together."""
    return sum(n_rows for n_rows, _ in parts), GroupedScatter.merge(scatter for _, scatter in parts)


def _read_cells(
    model: RandomInterceptRegressor, slopes: tuple[int, ...], X: Any, y: Any, groups: Any, sample_weight: Any
) -> tuple[int, CellScatter]:
    """Return the number of rows of a partition, and their record by cells."""
    return y.shape[0], CellScatter.from_arrays(X, y, groups, sample_weight, slopes=slopes)


def _merge_cells(parts: Sequence[tuple[int, CellScatter]]) -> tuple[int, CellScatter]:
    """Return the number of rows and the record by cells of all parts together."""
    return sum(n_rows for n_rows, _ in parts), merge_cells(scatter for _, scatter in parts)
