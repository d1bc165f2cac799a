"""Rows that come in batches: tables that offer them as Arrow streams, columns to arrays, and a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .._inputs import name_of
from ._labels import as_labels
from ._rows import as_numbers, as_weights, check_containers, checked_arrays

# Batches are put together to at least so many rows, and cut to at most so many: fewer do not pay the call, and more do not
# keep all threads at work.
_MIN_ROWS, _MAX_ROWS = 1 << 17, 1 << 18
# Batches that are read before they are asked for, each of up to _MAX_ROWS.
_READ_AHEAD = 4


class Names(NamedTuple):
    """Names of columns."""

    x: tuple[str, ...]
    y: str
    groups: str
    sample_weight: str | None

    @property
    def needed(self) -> list[str]:
        """Each of the names once."""
        return list(
            dict.fromkeys([*self.x, self.y, self.groups, *([] if self.sample_weight is None else [self.sample_weight])])
        )


class Columns(NamedTuple):
    """A batch of rows, column by column."""

    X: list[np.ndarray] | None
    y: np.ndarray
    groups: Any
    sample_weight: np.ndarray | None


def arrow(caller: str) -> Any:
    """Return pyarrow, or raise an ImportError that says how to get it."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ImportError(f"{caller} reads with pyarrow: pip install 'sklearn-mlm[arrow]'.") from error
    return pa


def named_columns(x: Any, y: Any, groups: Any, sample_weight: Any) -> Names:
    """Return the names of columns as strings.

    Parameters
    ----------
    x : str, iterable of str or None
    y, groups : str
    sample_weight : str or None

    Raises
    ------
    TypeError
        If a name is no string.
    """
    try:
        predictors = [] if x is None else [x] if isinstance(x, str) else list(x)
    except TypeError as error:
        raise TypeError(f"x must be the name of a column, an iterable of names, or None; found {x!r}.") from error
    for name in predictors:
        if not isinstance(name, str):
            raise TypeError(f"x must hold names of columns, which are strings; found {name!r}.")
    others = {"y": y, "groups": groups} | ({} if sample_weight is None else {"sample_weight": sample_weight})
    for argument, name in others.items():
        if not isinstance(name, str):
            raise TypeError(f"{argument} must be the name of a column, which is a string; found {name!r}.")
    return Names(tuple(map(str, predictors)), str(y), str(groups), None if sample_weight is None else str(sample_weight))


def arrow_columns(source: Any, names: Names) -> Iterator[Columns]:
    """Yield the rows of a table in batches; no other columns of it are read, where it can leave columns out.

    Raises
    ------
    TypeError
        Where `source` offers no Arrow stream.
    ValueError
        Where it lacks a column, or a column does not hold numbers or labels, or not all of them.
    """
    pa = arrow("from_arrow")
    needed = names.needed
    reader = _reader(pa, source, needed)
    found = reader.schema.names
    for name in needed:
        if found.count(name) != 1:
            times = "two columns" if name in found else "no column"
            raise ValueError(f"source has {times} {name!r}; it has {', '.join(map(repr, found))}.")
    for batch in _of_good_size(pa, reader):
        column = {name: batch.column(found.index(name)) for name in needed}
        weight = names.sample_weight
        yield Columns(
            X=[_numbers(pa, column[name], name) for name in names.x] if names.x else None,
            y=_numbers(pa, column[names.y], names.y),
            groups=_labels(pa, column[names.groups], names.groups),
            sample_weight=None if weight is None else as_weights(_numbers(pa, column[weight], weight), len(batch)),
        )


def scanned(dataset: Any, columns: Any) -> Any:
    """Return a reader of columns of a dataset, by name or as expressions."""
    return dataset.scanner(
        columns=columns, batch_size=_MAX_ROWS, batch_readahead=_READ_AHEAD, fragment_readahead=1
    ).to_reader()


def _reader(pa: Any, source: Any, needed: list[str]) -> Any:
    """Return a reader of record batches, of the columns needed alone where they are there and others can be left out."""
    if not (hasattr(source, "__arrow_c_stream__") or hasattr(source, "scanner") or isinstance(source, pd.DataFrame)):
        raise TypeError(
            f"source must offer an Arrow stream, as tables and readers of pyarrow, relations of DuckDB and frames of polars "
            f"do (and datasets of pyarrow, which are scanned); found {type(source).__name__}."
            + (" Collect the lazy frame first." if hasattr(source, "collect") else "")
        )
    if isinstance(source, pa.RecordBatchReader):
        return source
    if isinstance(source, pd.DataFrame):
        source = _table_of_frame(pa, source, needed)
    known = set(needed) <= set(_names(source))
    if hasattr(source, "scanner"):
        return scanned(source, needed if known else None)
    if known and isinstance(source, pa.Table | pa.RecordBatch):
        source = source.select(needed)
    elif known and type(source).__module__.startswith("polars"):
        source = source[needed]  # select would read "*" as all columns
    elif known and hasattr(source, "select"):
        # DuckDB selects expressions, in which a name with a dot is that of a table and a column.
        source = source.select(*(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in needed))
    return pa.RecordBatchReader.from_stream(source)


def _table_of_frame(pa: Any, frame: pd.DataFrame, needed: list[str]) -> Any:
    """Return a table of a pandas frame, of the columns needed alone if none of them is in its index."""
    names = list(frame.columns)
    known = all(names.count(name) == 1 for name in needed)
    if known:
        # Some versions of pyarrow drop the time zone of categories.
        zoned = {
            name: dtype.categories.dtype
            for name, dtype in frame[needed].dtypes.items()
            if isinstance(dtype, pd.CategoricalDtype) and isinstance(dtype.categories.dtype, pd.DatetimeTZDtype)
        }
        frame = frame[needed].astype(zoned) if zoned else frame[needed]
    try:
        return pa.Table.from_pandas(frame, preserve_index=False if known else None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise ValueError(
            f"source has a column that Arrow cannot read: {error}. from_arrays takes labels of any kind."
        ) from error


def _names(source: Any) -> list[str]:
    """Return the names of the columns of a table, each of which it has once, where it tells."""
    names = getattr(source, "columns", None)
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        names = getattr(getattr(source, "schema", None), "names", None)
    return [name for name in names if names.count(name) == 1] if isinstance(names, list) else []


def _of_good_size(pa: Any, reader: Any) -> Iterator[Any]:
    """Yield record batches put together or cut to a size that is worth a call; one of no rows, where there are none."""
    waiting: list[Any] = []
    n_waiting = n_rows = 0
    for batch in reader:
        n_rows += batch.num_rows
        if batch.num_rows >= _MIN_ROWS and not waiting:
            for start in range(0, batch.num_rows, _MAX_ROWS):
                yield batch.slice(start, _MAX_ROWS)
            continue
        waiting.append(batch)
        n_waiting += batch.num_rows
        if n_waiting >= _MIN_ROWS:
            yield from _put_together(pa, waiting)
            waiting, n_waiting = [], 0
    if n_waiting:
        yield from _put_together(pa, waiting)
    if not n_rows:
        yield pa.RecordBatch.from_arrays([pa.array([], one.type) for one in reader.schema], schema=reader.schema)


def _put_together(pa: Any, batches: list[Any]) -> Iterator[Any]:
    """Yield the rows of several record batches in one, if there are any."""
    table = pa.Table.from_batches(batches)
    try:
        table = table.combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # Dictionaries cannot be put together if they hold nulls, or more entries than their codes can count.
        fields = [field.with_type(getattr(field.type, "value_type", field.type)) for field in table.schema]
        table = table.cast(pa.schema(fields)).combine_chunks()
    yield from table.to_batches(max_chunksize=_MAX_ROWS)


def _numbers(pa: Any, array: Any, name: str) -> np.ndarray:
    """Return an Arrow array as numbers, without a copy where it can be."""
    if array.null_count:
        raise ValueError(f"{name} has {array.null_count} missing value(s). Drop these rows, or impute the values.")
    values = np.asarray(array.to_numpy(zero_copy_only=False))
    return values.astype(np.float64) if pa.types.is_decimal(array.type) else as_numbers(values, name)


def _labels(pa: Any, array: Any, name: str) -> Any:
    """Return an Arrow array as labels; strings and dictionaries as categories, which are found sooner there."""
    type = array.type
    if pa.types.is_dictionary(type):
        entries = array.dictionary
        categories = None if entries.null_count else pd.Index(_plain_labels(pa, entries, name), tupleize_cols=False)
        if categories is None or categories.hasnans or not categories.is_unique:
            return _labels(pa, array.dictionary_decode(), name)
        codes = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        return pd.Categorical.from_codes(codes, categories, validate=False)
    if str(type) in ("string", "large_string", "string_view"):
        return _labels(pa, array.dictionary_encode(), name)
    return _plain_labels(pa, array, name)


def _plain_labels(pa: Any, array: Any, name: str) -> Any:
    """Return an Arrow array as labels in an array of NumPy or pandas; integers stay integers beside missing labels."""
    if pa.types.is_integer(array.type) and not array.null_count:
        return array.to_numpy()
    nested = pa.types.is_nested(array.type) and not pa.types.is_run_end_encoded(array.type)
    try:
        values = None if nested else array.to_pandas(integer_object_nulls=True)
    except pa.ArrowNotImplementedError:
        values = None
    if values is None:
        raise ValueError(
            f"groups={name!r} must name a column of labels, such as numbers, strings or dates; found values of type "
            f"{array.type}. Make one column of labels of them."
        )
    return as_labels(values)


def checked_batch(at: int, batch: Any) -> tuple[Any, ...]:
    """Return names of columns, predictors, outcome and its name, labels and theirs, and weights of a batch, checked."""
    if not isinstance(batch, tuple | list) or len(batch) not in (3, 4):
        found = f"{len(batch)} of them" if isinstance(batch, tuple | list) else type(batch).__name__
        raise TypeError(f"Batch {at} must be a tuple (X, y, groups) or (X, y, groups, sample_weight); found {found}.")
    X, y, groups, *weight = batch
    y_name, groups_name = name_of(y), name_of(groups)
    try:
        check_containers(X=X, y=y, groups=groups, sample_weight=weight[0] if weight else None)
        names, X, y = checked_arrays(X, y)
        weights = as_weights(weight[0], len(y)) if weight and weight[0] is not None else None
        labels = as_labels(groups, len(y))
    except ValueError as error:
        raise ValueError(f"In batch {at}, counted from 0: {error}") from error
    return names, X, y, y_name, labels, groups_name, weights


@contextmanager
def progress(verbose: int) -> Iterator[Any]:
    """Give a function that is told how many rows were read, and shows it with their rate where `verbose` is positive."""
    if not verbose:
        yield lambda n_rows: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("verbose=1 shows progress with tqdm: pip install 'sklearn-mlm[arrow]'.") from error
    with tqdm(unit=" rows", unit_scale=True) as bar:
        yield bar.update
