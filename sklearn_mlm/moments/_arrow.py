"""Arrow streams to batches of rows: only the columns needed, in batches of a good size, as NumPy and pandas arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from ._labels import Labels, as_labels
from ._rows import as_numbers, as_weights
from ._streaming import Batch

# Record batches are joined until they have the first number of rows, because each costs a call, and cut to the second, so
# that all threads have work.
_MIN_ROWS, _MAX_ROWS = 1 << 17, 1 << 18
# Record batches of up to _MAX_ROWS that a scan reads ahead.
_READ_AHEAD = 4


class Names(NamedTuple):
    """Names of the columns to read."""

    x: tuple[str, ...]
    y: str
    groups: str | tuple[str, ...]
    sample_weight: str | None

    @property
    def of_labels(self) -> tuple[str, ...]:
        """The columns of labels."""
        return (self.groups,) if isinstance(self.groups, str) else self.groups

    @property
    def needed(self) -> list[str]:
        """The distinct names."""
        names = dict.fromkeys([*self.x, self.y, *self.of_labels, self.sample_weight])
        return [name for name in names if name is not None]


def named_columns(x: str | Iterable[str] | None, y: str, groups: str | Iterable[str], sample_weight: str | None) -> Names:
    """Return the names of columns as strings.

    Parameters
    ----------
    x : str, iterable of str or None
        Names of the predictors, if there are any.
    y : str
        Name of the outcome.
    groups : str or iterable of str
        Name of the column of group labels, or names of several.
    sample_weight : str or None
        Name of the column of row weights, if there is one.

    Returns
    -------
    names : Names
        The names, each of them a plain string.

    Raises
    ------
    TypeError
        If a name is not a string.
    """
    x = () if x is None else x
    try:
        predictors = (x,) if isinstance(x, str) else tuple(x)
    except TypeError as error:
        raise TypeError(f"x must be the name of a column, an iterable of names, or None; found {x!r}.") from error
    for name in predictors:
        if not isinstance(name, str):
            raise TypeError(f"x must hold names of columns, which are strings; found {name!r}.")
    several = isinstance(groups, list | tuple)
    of_labels = list(groups) if several else [groups]
    others = [("y", y), *(("groups", each) for each in of_labels)] + (
        [] if sample_weight is None else [("sample_weight", sample_weight)]
    )
    for argument, column in others:
        if not isinstance(column, str):
            raise TypeError(f"{argument} must be the name of a column, which is a string; found {column!r}.")
    labels = tuple(map(str, of_labels)) if several else str(groups)
    return Names(tuple(map(str, predictors)), str(y), labels, None if sample_weight is None else str(sample_weight))


def arrow_batches(source: Any, names: Names) -> Iterator[Batch]:
    """Yield the rows of a table in batches; columns that are not needed are not read if the source can leave them out.

    Raises
    ------
    TypeError
        If `source` offers no Arrow stream.
    ValueError
        If `source` lacks a column or has it twice, or if a column holds values of a wrong type or missing numbers.
    """
    reader = _reader(source, names.needed)
    found = reader.schema.names
    for name in names.needed:
        if found.count(name) != 1:
            times = "two columns" if name in found else "no column"
            raise ValueError(f"source has {times} {name!r}; it has {', '.join(map(repr, found))}.")
    weight = names.sample_weight
    for batch in _resized(reader):
        of_batch = {name: _labels(batch.column(name), name) for name in names.of_labels}
        yield Batch(
            feature_names=names.x,
            X=[_numbers(batch, name) for name in names.x] or None,
            y=_numbers(batch, names.y),
            outcome_name=names.y,
            groups=of_batch[names.groups] if isinstance(names.groups, str) else of_batch,
            groups_name=names.groups if isinstance(names.groups, str) else None,
            sample_weight=None if weight is None else as_weights(_numbers(batch, weight), len(batch)),
        )


def scanned(dataset: Any, columns: list[str] | dict[str, Any] | None) -> pa.RecordBatchReader:
    """Return a reader of a dataset's columns: those named, or expressions by name, or all."""
    return dataset.scanner(
        columns=columns, batch_size=_MAX_ROWS, batch_readahead=_READ_AHEAD, fragment_readahead=1
    ).to_reader()


def _reader(source: Any, needed: list[str]) -> pa.RecordBatchReader:
    """Return a reader of record batches, of the columns needed only if the source has them and can leave out others."""
    if not (hasattr(source, "__arrow_c_stream__") or hasattr(source, "scanner") or isinstance(source, pd.DataFrame)):
        raise TypeError(
            "source must offer an Arrow stream, as pyarrow tables and readers, DuckDB relations and polars frames do, or be "
            f"a pandas frame or a pyarrow dataset; found {type(source).__name__}."
            + (" Collect the lazy frame first." if hasattr(source, "collect") else "")
        )
    if isinstance(source, pa.RecordBatchReader):
        return source
    if isinstance(source, pd.DataFrame):
        source = _table_of_frame(source, needed)
    known = set(needed) <= set(_column_names(source))
    if hasattr(source, "scanner"):
        return scanned(source, needed if known else None)
    if known and isinstance(source, pa.Table | pa.RecordBatch):
        source = source.select(needed)
    elif known and type(source).__module__.startswith("polars"):
        source = source[needed]  # select would read "*" as all columns
    elif known and hasattr(source, "select"):
        # DuckDB selects expressions, and reads a name with a dot as a table and a column unless the name is quoted.
        source = source.select(*('"' + name.replace('"', '""') + '"' for name in needed))
    return pa.RecordBatchReader.from_stream(source)


def _table_of_frame(frame: pd.DataFrame, needed: list[str]) -> pa.Table:
    """Return a pandas frame as a table: the columns needed if the frame has each of them once, else all and the index."""
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


def _column_names(source: Any) -> list[str]:
    """Return the column names that occur exactly once; none if the source does not list its columns."""
    names = getattr(source, "columns", None)
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        names = getattr(getattr(source, "schema", None), "names", None)
    return [name for name in names if names.count(name) == 1] if isinstance(names, list) else []


def _resized(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a stream in record batches of a good size, or one empty batch if there are no rows."""
    pending: list[pa.RecordBatch] = []
    n_pending = n_rows = 0
    for batch in reader:
        n_rows += batch.num_rows
        if batch.num_rows >= _MIN_ROWS and not pending:
            for start in range(0, batch.num_rows, _MAX_ROWS):
                yield batch.slice(start, _MAX_ROWS)
            continue
        pending.append(batch)
        n_pending += batch.num_rows
        if n_pending >= _MIN_ROWS:
            yield from _joined(pending)
            pending, n_pending = [], 0
    if n_pending:
        yield from _joined(pending)
    if not n_rows:
        yield pa.RecordBatch.from_arrays([pa.array([], field.type) for field in reader.schema], schema=reader.schema)


def _joined(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return the rows of several record batches in one, or in several of _MAX_ROWS."""
    table = pa.Table.from_batches(batches)
    try:
        table = table.combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # Dictionaries cannot be joined if they hold nulls, or more entries than their codes can count.
        fields = [field.with_type(getattr(field.type, "value_type", field.type)) for field in table.schema]
        table = table.cast(pa.schema(fields)).combine_chunks()
    return list(table.to_batches(max_chunksize=_MAX_ROWS))


def _numbers(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Return a column as numbers, without a copy if possible."""
    column = batch.column(name)
    if column.null_count:
        raise ValueError(f"Column {name!r} has {column.null_count} missing value(s). Drop these rows, or impute the values.")
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    is_decimal = pa.types.is_decimal(column.type)
    return np.asarray(values.astype(np.float64) if is_decimal else as_numbers(values, f"Column {name!r}"))


def _labels(array: pa.Array, name: str) -> Labels:
    """Return an Arrow array as labels; strings and dictionaries become categories, whose codes are found sooner."""
    if pa.types.is_dictionary(array.type):
        entries = array.dictionary
        categories = None if entries.null_count else pd.Index(_plain_labels(entries, name), tupleize_cols=False)
        if categories is None or categories.hasnans or not categories.is_unique:
            return _labels(array.dictionary_decode(), name)
        codes = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        return pd.Categorical.from_codes(codes, categories, validate=False)
    if str(array.type) in ("string", "large_string", "string_view"):
        return _labels(array.dictionary_encode(), name)
    return _plain_labels(array, name)


def _plain_labels(array: pa.Array, name: str) -> Labels:
    """Return an Arrow array as labels in an array of NumPy or pandas; integers beside missing labels stay integers."""
    if pa.types.is_integer(array.type) and not array.null_count:
        return np.asarray(array.to_numpy())
    nested = pa.types.is_nested(array.type) and not pa.types.is_run_end_encoded(array.type)
    try:
        values = None if nested else array.to_pandas(integer_object_nulls=True)
    except pa.ArrowNotImplementedError:
        values = None
    if values is None:
        raise ValueError(
            f"groups={name!r} must name a column of labels, such as numbers, strings or dates; found values of type "
            f"{array.type}. Combine them into one label per row."
        )
    return as_labels(values)
