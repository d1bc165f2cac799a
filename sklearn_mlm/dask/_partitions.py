"""Dask collections cut into partitions of the same rows, and results of partitions put together."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ..moments._rows import index_hashes

# So many results are merged by one task: few enough to be in memory together, enough for a flat tree.
_FAN_IN = 8


class Parts(NamedTuple):
    """Collections cut into partitions of the same rows."""

    names: Names
    # For each partition, the delayed pieces: a tuple of those of the frames, and one of each Array.
    pieces: list[tuple[Any, ...]]
    # Numbers of rows of the partitions, NaN where unknown.
    lengths: tuple[float, ...]


class Names(NamedTuple):
    """What the pieces of a partition are."""

    lazy: tuple[str, ...]
    # Arguments that are the same in every partition.
    same: dict[str, Any]
    # Frames cut by their index, whose rows have to agree in it.
    by_index: tuple[str, ...]


def any_lazy(*arguments: Any) -> bool:
    """Return whether an argument is a Dask collection."""
    try:
        import dask.array
        import dask.dataframe
    except ImportError as error:
        raise ImportError("DaskRandomInterceptRegressor needs Dask: pip install 'sklearn-mlm[dask]'.") from error
    return any(dask.is_dask_collection(argument) for argument in arguments)


def is_frame(value: Any) -> bool:
    """Return whether this is a Dask DataFrame, Series or Index."""
    import dask.dataframe as dd

    return isinstance(value, dd.DataFrame | dd.Series | dd.Index)


def is_array(value: Any) -> bool:
    """Return whether this is a Dask Array."""
    import dask.array as da

    return isinstance(value, da.Array)


def check_lazy(arguments: dict[str, Any]) -> None:
    """Raise for arguments that are in memory where others are not, and for groups in two dimensions."""
    for name, value in arguments.items():
        same_for_all = isinstance(value, {"groups": str, "sample_weight": Real}.get(name, type(None)))
        if value is None or same_for_all or is_frame(value) or is_array(value):
            continue
        raise TypeError(
            f"{name} must be a Dask DataFrame, Series or Array, as other arguments are; found {type(value).__name__}. Make "
            "it one, by dask.dataframe.from_pandas or dask.array.from_array, or pass all of them in memory."
        )
    groups = arguments["groups"]
    if getattr(groups, "ndim", 1) != 1:
        raise ValueError(
            f"groups must be one-dimensional, of shape (n_samples,), one label per row; found {groups.ndim} dimensions. "
            'Pass one column, such as frame["school"].'
        )


def without_rows(value: Any) -> Any:
    """Return the columns of a collection in memory, of the same types and names; anything else as it is."""
    if is_frame(value):
        return value._meta
    if not is_array(value):
        return value
    if np.isnan(value.shape[1:]).any():
        raise ValueError(f"An Array of unknown width was found, of shape {value.shape}: call its compute_chunk_sizes().")
    return np.empty((0, *value.shape[1:]), dtype=value.dtype)


def _as_column(y: Any) -> Any:
    """Return a single column in one dimension, anything else as it is."""
    if getattr(y, "ndim", 1) != 2 or y.shape[1] != 1:
        return y
    return y[y.columns[0]] if is_frame(y) else y[:, 0]


def partition(arguments: dict[str, Any]) -> Parts:
    """Return arguments cut into partitions of the same rows: those of the first collection among them."""
    import dask

    lazy = {name: value for name, value in arguments.items() if is_frame(value) or is_array(value)}
    same = {name: value for name, value in arguments.items() if name not in lazy}
    lazy = {name: _as_column(value) if name == "y" else _with_whole_rows(value) for name, value in lazy.items()}
    first = next(iter(lazy))
    aligned = {name: _align(name, value, first, lazy[first]) for name, value in lazy.items()}
    frames = {name: value for name, value in aligned.items() if is_frame(value)}
    arrays = {name: value for name, value in aligned.items() if name not in frames}
    by_index = tuple(name for name in frames if frames[name] is not lazy[name])
    # Together, so that what they have in common is computed once.
    columns = [array.to_delayed(optimize_graph=False).ravel() for array in dask.optimize(*arrays.values())]
    columns.insert(0, _delay_frames(list(frames.values()), as_cut=bool(arrays)) if frames else [()] * len(columns[0]))
    lengths = _lengths(aligned[first]) if arrays else (np.nan,) * len(columns[0])
    return Parts(Names((*frames, *arrays), same, by_index), list(zip(*columns, strict=True)), lengths)


def _with_whole_rows(value: Any) -> Any:
    """Return a collection with all columns of a row in one chunk."""
    return value.rechunk({1: -1}) if is_array(value) and value.ndim == 2 and value.numblocks[1] > 1 else value


def _lengths(value: Any) -> tuple[float, ...]:
    """Return the numbers of rows of the partitions, NaN where unknown."""
    return value.chunks[0] if is_array(value) else (np.nan,) * value.npartitions


def _align(name: str, value: Any, first: str, reference: Any) -> Any:
    """Return a collection in the partitions of another, as far as can be told before rows are seen."""
    if is_frame(value) and is_frame(reference):
        known = value.known_divisions and reference.known_divisions
        ends = [(one.divisions[0], one.divisions[-1]) for one in (value, reference)]
        if known and value.divisions != reference.divisions and ends[0] == ends[1]:
            return value.repartition(divisions=reference.divisions)
    lengths, wanted = _lengths(value), _lengths(reference)
    if not np.isnan(lengths + wanted).any():
        if sum(lengths) != sum(wanted):
            raise ValueError(
                f"{name} must have one entry per row: found {sum(lengths)} for the {sum(wanted)} rows of {first}."
            )
        return value if lengths == wanted else value.rechunk((wanted, *value.chunks[1:]))
    if len(lengths) != len(wanted):
        raise ValueError(
            f"{name} must be partitioned as {first} is: found {len(lengths)} partition(s) and {len(wanted)}, of unknown "
            "lengths. Take both from one frame, or repartition one by the other's divisions or chunks."
        )
    return value


def _delay_frames(frames: list[Any], as_cut: bool) -> list[Any]:
    """Return, for each partition, the delayed tuple of its pieces; unless `as_cut`, partitions may be put together."""
    import dask.dataframe as dd

    # As one expression: of each file only the columns in use are read, and what frames share is computed once.
    packed = dd.map_partitions(_pack, *frames, align_dataframes=False, enforce_metadata=False, meta=(None, object))
    sources = {frozenset(node._name for node in frame.expr.walk() if not node.dependencies()) for frame in frames}
    if as_cut or len(sources) > 1:
        # Dask may put the partitions of one source together and leave those of the other.
        return packed.simplify().to_delayed(optimize_graph=False)
    return packed.to_delayed()


def as_arrays(nodes: list[Any], lengths: tuple[float, ...], n_arrays: int) -> Any:
    """Return delayed arrays as one lazy array, or delayed tuples of arrays as a tuple of them."""
    import dask.array as da

    def joined(blocks: list[Any]) -> Any:
        return da.concatenate(
            [da.from_delayed(block, (n,), dtype=np.float64) for block, n in zip(blocks, lengths, strict=True)]
        )

    if n_arrays == 1:
        return joined(nodes)
    return tuple(joined([node[i] for node in nodes]) for i in range(n_arrays))


def merge_by_tree(merge: Callable, parts: list[Any]) -> Any:
    """Return the delayed merger of delayed parts, a few at a time and neighbours first."""
    import dask

    task = dask.delayed(_merge)
    while len(parts) > 1:
        parts = [task(merge, *parts[i : i + _FAN_IN]) for i in range(0, len(parts), _FAN_IN)]
    return parts[0]


def index_difference(framed: tuple) -> np.ndarray:
    """Return how the index of each frame of a partition differs from that of the first.

    The sum of the hashes of labels does not depend on their order. Over all partitions, frames with the same labels in
    different orders differ in some partition and have the same sum.

    Returns
    -------
    difference : ndarray of shape (2, n_frames), dtype uint64
        Whether the index differs, and the sum of its hashes less that of the first frame, modulo 2**64.
    """
    n_frames = sum(hasattr(piece, "index") for piece in framed)
    difference = np.zeros((2, n_frames), dtype=np.uint64)
    for at in range(1, n_frames):
        index, first = framed[at].index, framed[0].index
        if not index.equals(first):
            try:
                a, b = index_hashes(index), index_hashes(first)
            except (TypeError, ValueError):
                # Labels that pandas cannot hash are paired by position.
                difference[:, at] = 1
                continue
            difference[0, at] = not np.array_equal(a, b)
            difference[1, at] = (int(a.sum(dtype=np.uint64)) - int(b.sum(dtype=np.uint64))) % 2**64
    return difference


def merge_differences(parts: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return what `index_difference` returns of all rows of parts."""
    return np.array(parts).sum(axis=0, dtype=np.uint64)


def refuse_another_order(names: Names, difference: np.ndarray) -> None:
    """Raise if a frame holds the index of the first in another order."""
    for at in np.flatnonzero((difference[0] > 0) & (difference[1] == 0)):
        first, name = names.lazy[0], names.lazy[at]
        raise ValueError(
            f"{first} and {name} hold the same index in different orders, so that pairing their rows by position would mix "
            "them up. Take both from one frame, or sort both by their index."
        )


def _pack(*pieces: Any) -> tuple[Any, ...]:
    return pieces


def _merge(merge: Callable, *parts: Any) -> Any:
    return merge(parts)
