"""Dask collections, divided into partitions of the same rows, and the merging of results from partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ..moments._rows import index_hashes

# Number of results that one task merges: few enough to fit in memory together, and enough for a flat tree.
_FAN_IN = 8


class Parts(NamedTuple):
    """Collections divided into partitions of the same rows."""

    names: Names
    # For each partition, the delayed pieces: a tuple of the pieces of all frames, and one piece of each Array.
    pieces: list[tuple[Any, ...]]
    # Numbers of rows of the partitions, NaN if unknown.
    lengths: tuple[float, ...]


class Names(NamedTuple):
    """Names of the arguments that the pieces of a partition belong to."""

    lazy: tuple[str, ...]
    # Arguments that are the same in every partition.
    same: dict[str, Any]
    # Frames that were divided by their index, so that the index of their rows must agree.
    by_index: tuple[str, ...]


def dask_module(name: str) -> Any:
    """Return a module of Dask, imported on first use; raise an ImportError that says how to install Dask."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError("DaskRandomInterceptRegressor needs Dask: pip install 'sklearn-mlm[dask]'.") from error


def any_lazy(*arguments: Any) -> bool:
    """Return whether any of the arguments is a Dask collection."""
    dask_module("dask.dataframe")  # an extra of Dask, which may be missing
    return any(dask_module("dask").is_dask_collection(argument) for argument in arguments)


def is_frame(value: Any) -> bool:
    """Return whether a value is a Dask DataFrame, Series or Index."""
    dd = dask_module("dask.dataframe")
    return isinstance(value, dd.DataFrame | dd.Series | dd.Index)


def is_array(value: Any) -> bool:
    """Return whether a value is a Dask Array."""
    return isinstance(value, dask_module("dask.array").Array)


def check_lazy(arguments: dict[str, Any]) -> None:
    """Raise for an argument in memory beside Dask collections, and for groups with two dimensions.

    None, one string for all groups and one number for all weights belong to every partition alike.
    """
    scalars = {"groups": str, "sample_weight": Real}
    for name, value in arguments.items():
        if value is None or isinstance(value, scalars.get(name, ())) or is_frame(value) or is_array(value):
            continue
        raise TypeError(
            f"{name} must be a Dask DataFrame, Series or Array, because other arguments are Dask collections; found "
            f"{type(value).__name__}. Convert it with dask.dataframe.from_pandas or dask.array.from_array, or pass all "
            "arguments in memory."
        )
    groups = arguments["groups"]
    if getattr(groups, "ndim", 1) != 1:
        raise ValueError(
            f"groups must be one-dimensional, of shape (n_samples,), one label per row; found {groups.ndim} dimensions. "
            'Pass one column, such as frame["school"].'
        )


def without_rows(value: Any) -> Any:
    """Return a collection as a container in memory with the same columns and no rows; anything else unchanged."""
    if is_frame(value):
        return value._meta
    if not is_array(value):
        return value
    if np.isnan(value.shape[1:]).any():
        raise ValueError(f"An Array must have a known width; found shape {value.shape}. Call its compute_chunk_sizes().")
    return np.empty((0, *value.shape[1:]), dtype=value.dtype)


def _as_column(y: Any) -> Any:
    """Return a single column with one dimension; anything else unchanged."""
    if getattr(y, "ndim", 1) != 2 or y.shape[1] != 1:
        return y
    return y[y.columns[0]] if is_frame(y) else y[:, 0]


def partition(arguments: dict[str, Any]) -> Parts:
    """Return the arguments, divided into the partitions of the first collection among them."""
    lazy = {name: value for name, value in arguments.items() if is_frame(value) or is_array(value)}
    same = {name: value for name, value in arguments.items() if name not in lazy}
    lazy = {name: _as_column(value) if name == "y" else _with_whole_rows(value) for name, value in lazy.items()}
    first = next(iter(lazy))
    aligned = {name: _align(name, value, first, lazy[first]) for name, value in lazy.items()}
    frames = {name: value for name, value in aligned.items() if is_frame(value)}
    arrays = {name: value for name, value in aligned.items() if name not in frames}
    by_index = tuple(name for name in frames if frames[name] is not lazy[name])
    # Arrays are optimised together, so that work they share is done once.
    optimized = dask_module("dask").optimize(*arrays.values())
    columns = [array.to_delayed(optimize_graph=False).ravel() for array in optimized]
    framed = _delay_frames(list(frames.values()), bool(arrays)) if frames else [()] * len(columns[0])
    columns.insert(0, framed)
    lengths = _lengths(aligned[first]) if arrays else (np.nan,) * len(columns[0])
    return Parts(Names((*frames, *arrays), same, by_index), list(zip(*columns, strict=True)), lengths)


def _with_whole_rows(value: Any) -> Any:
    """Return a collection in which each chunk has all columns of its rows."""
    return value.rechunk({1: -1}) if is_array(value) and value.ndim == 2 and value.numblocks[1] > 1 else value


def _lengths(value: Any) -> tuple[float, ...]:
    """Return the numbers of rows of the partitions, NaN if unknown."""
    lengths: tuple[float, ...] = value.chunks[0] if is_array(value) else (np.nan,) * value.npartitions
    return lengths


def _align(name: str, value: Any, first: str, reference: Any) -> Any:
    """Return a collection in the partitions of a reference; raise if the partitions certainly have other rows."""
    if is_frame(value) and is_frame(reference) and value.known_divisions and reference.known_divisions:
        own, others = value.divisions, reference.divisions
        if own != others and (own[0], own[-1]) == (others[0], others[-1]):
            return value.repartition(divisions=others)
    lengths, wanted = _lengths(value), _lengths(reference)
    if not np.isnan(lengths + wanted).any():
        if sum(lengths) != sum(wanted):
            raise ValueError(
                f"{name} must have one entry per row: found {sum(lengths)} for the {sum(wanted)} rows of {first}."
            )
        return value if lengths == wanted else value.rechunk((wanted, *value.chunks[1:]))
    if len(lengths) != len(wanted):
        raise ValueError(
            f"{name} must have as many partitions as {first}, because their lengths are unknown: found {len(lengths)} "
            f"partition(s) for {len(wanted)}. Take both from one frame, or repartition one by the divisions or chunks of "
            "the other."
        )
    return value


def _delay_frames(frames: list[Any], keep_partitions: bool) -> list[Any]:
    """Return the delayed tuple of the pieces of each partition; Dask may merge partitions unless they must be kept."""
    dd = dask_module("dask.dataframe")
    # One expression for all frames: Dask reads only the columns in use, and computes once what the frames share.
    packed = dd.map_partitions(_pack, *frames, align_dataframes=False, enforce_metadata=False, meta=(None, object))
    sources = {frozenset(node._name for node in frame.expr.walk() if not node.dependencies()) for frame in frames}
    if keep_partitions or len(sources) > 1:
        # Optimisation may merge the partitions of one source and not those of another.
        return list(packed.simplify().to_delayed(optimize_graph=False))
    return list(packed.to_delayed())


def as_arrays(nodes: list[Any], lengths: tuple[float, ...], n_arrays: int) -> Any:
    """Return delayed arrays as one lazy array, or delayed tuples of arrays as a tuple of lazy arrays."""
    da = dask_module("dask.array")

    def joined(blocks: list[Any]) -> Any:
        parts = [da.from_delayed(block, (n,), dtype=np.float64) for block, n in zip(blocks, lengths, strict=True)]
        return da.concatenate(parts)

    if n_arrays == 1:
        return joined(nodes)
    return tuple(joined([node[i] for node in nodes]) for i in range(n_arrays))


def merge_by_tree(merge: Callable[[Sequence[Any]], Any], parts: list[Any]) -> Any:
    """Return the delayed merger of delayed parts; each task merges a few neighbours."""
    task = dask_module("dask").delayed(merge)
    while len(parts) > 1:
        parts = [task(parts[i : i + _FAN_IN]) for i in range(0, len(parts), _FAN_IN)]
    return parts[0]


def index_difference(framed: tuple[Any, ...]) -> np.ndarray:
    """Return the differences between the index of each frame of a partition and that of the first frame.

    The sum of the hashes of the labels does not depend on their order. If two frames hold the same labels in different
    orders, then some partition differs, and the differences of the sums add up to 0 over all partitions.

    Returns
    -------
    difference : ndarray of shape (2, n_frames), dtype uint64
        1 if the index differs and 0 otherwise, and the sum of its hashes minus that of the first frame, modulo 2**64.
    """
    n_frames = sum(hasattr(piece, "index") for piece in framed)
    difference = np.zeros((2, n_frames), dtype=np.uint64)
    for at in range(1, n_frames):
        index, first = framed[at].index, framed[0].index
        if not index.equals(first):
            try:
                a, b = index_hashes(index), index_hashes(first)
            except (TypeError, ValueError):
                # pandas cannot hash these labels; rows are paired by position.
                difference[:, at] = 1
                continue
            difference[0, at] = not np.array_equal(a, b)
            difference[1, at] = (int(a.sum(dtype=np.uint64)) - int(b.sum(dtype=np.uint64))) % 2**64
    return difference


def merge_differences(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum over parts of what `index_difference` returns."""
    return np.asarray(np.sum(parts, axis=0, dtype=np.uint64))


def refuse_another_order(names: Names, difference: np.ndarray) -> None:
    """Raise if a frame holds the index of the first frame in another order."""
    for at in np.flatnonzero((difference[0] > 0) & (difference[1] == 0)):
        first, name = names.lazy[0], names.lazy[at]
        raise ValueError(
            f"{first} and {name} hold the same index in different orders, so that pairing their rows by position would mix "
            "up the rows. Take both from one frame, or sort both by their index."
        )


def _pack(*pieces: Any) -> tuple[Any, ...]:
    return pieces
