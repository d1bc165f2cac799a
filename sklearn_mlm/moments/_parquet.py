"""Rows of Parquet files as one stream, with a type for each column that holds the values of all files exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from ._arrow import Names, scanned
from ._parquet_files import File, find_files, folder_values, map_waiting
from ._storage import Paths

_UNITS = ("day", "s", "ms", "us", "ns")
_NUMBERS = {"integer", "floating", "decimal", "boolean"}
# With buffering, pyarrow keeps all it has read of a file until the end of that file (its issue 39808), in return for fewer
# requests, which only remote files are slow to answer.
_FORMAT = ds.ParquetFileFormat(pre_buffer=False)
_REMOTE_FORMAT = ds.ParquetFileFormat(pre_buffer=True)


class _FileColumns(NamedTuple):
    """The columns needed in a file: types of those that the file holds, and values of those that only its folders name."""

    file: File
    types: dict[str, pa.DataType]
    values: dict[str, str | None]


def open_parquet(path: Paths, names: Names) -> pa.RecordBatchReader:
    """Return a reader of record batches of the columns named, from all files that a path names.

    Parameters
    ----------
    path : str, os.PathLike, or iterable of them
        Files, folders, patterns and URIs.
    names : Names
        Names of the columns to read.

    Returns
    -------
    reader : pyarrow.RecordBatchReader
        A reader of all rows, with the columns in the order of `names.needed`.

    Raises
    ------
    FileNotFoundError
        If no file is found.
    ValueError
        If a file is not a Parquet file or lacks a column, or if the labels of two files cannot be compared.
    """
    found = find_files(path)
    remote = not all(isinstance(file.filesystem, LocalFileSystem) for file in found)
    files = map_waiting(lambda file: _inspect(file, names.needed), found, remote)
    schema = pa.schema([(name, _common_type(name, files, is_label=name in names.of_labels)) for name in names.needed])
    values = {
        name: _scalars(name, schema.field(name).type, files, is_label=name in names.of_labels) for name in names.needed
    }
    return pa.RecordBatchReader.from_batches(schema, _batches(files, schema, values))


def _inspect(file: File, needed: list[str]) -> _FileColumns:
    """Return the columns needed that a file and its folders have."""
    try:
        schema = _FORMAT.inspect(file.path, file.filesystem)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file.path!r} cannot be read as a Parquet file: {error}") from error
    folders = folder_values(file.path)
    for name in needed:
        times = schema.names.count(name)
        if times > 1 or (not times and name not in folders):
            found = f"{times} columns {name!r}" if times else f"no column {name!r}, and no folder '{name}=...' in its path"
            raise ValueError(f"{file.path!r} has {found}; it has {', '.join(map(repr, schema.names))}.")
    return _FileColumns(
        file,
        types={name: schema.field(name).type for name in needed if name in schema.names},
        values={name: folders[name] for name in needed if name not in schema.names},
    )


def _batches(
    files: list[_FileColumns], schema: pa.Schema, values: dict[str, dict[str, pa.Scalar]]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of files in a schema; files of the same types are read together, as a dataset.

    A dataset of files of different types would refuse the integers that a double cannot hold, which predictors round.
    """
    alike: dict[tuple[int, tuple[pa.DataType | None, ...]], list[_FileColumns]] = {}
    for columns in files:
        alike.setdefault((id(columns.file.filesystem), tuple(map(columns.types.get, schema.names))), []).append(columns)
    for part in alike.values():
        found = pa.schema([field.with_type(part[0].types.get(field.name, field.type)) for field in schema])
        dataset = ds.FileSystemDataset.from_paths(
            [columns.file.path for columns in part],
            schema=found,
            format=_FORMAT if isinstance(part[0].file.filesystem, LocalFileSystem) else _REMOTE_FORMAT,
            filesystem=part[0].file.filesystem,
            partitions=[_partition(columns.values, values) for columns in part],
        )
        yield from scanned(
            dataset, {field.name: _cast(field, wanted.type) for field, wanted in zip(found, schema, strict=True)}
        )


def _partition(texts: dict[str, str | None], values: dict[str, dict[str, pa.Scalar]]) -> ds.Expression:
    """Return the expression that assigns the values of a file's folders to its rows."""
    partition = pc.scalar(True)
    for name, text in texts.items():
        field = pc.field(name)
        partition = partition & (field.is_null() if text is None else field == values[name][text])
    return partition


def _cast(field: pa.Field, wanted: pa.DataType) -> ds.Expression:
    """Return the expression of a column in another type; integers are rounded to doubles if necessary."""
    column = pc.field(field.name)
    if field.type == wanted:
        return column
    if pa.types.is_dictionary(field.type):
        column = column.cast(field.type.value_type)
    return column.cast(wanted, safe=not pa.types.is_floating(wanted))


def _scalars(name: str, type: pa.DataType, files: list[_FileColumns], is_label: bool) -> dict[str, pa.Scalar]:
    """Return the values of a column in folder names, in the column's type, by their text.

    Raises
    ------
    ValueError
        If a label would not be written as its text is, such as '01', which is not how 1 is written.
    """
    scalars: dict[str, pa.Scalar] = {}
    for columns in files:
        text = columns.values.get(name)
        if text is None or text in scalars:
            continue
        try:
            scalar = pa.scalar(text).cast(type)
            exact = not is_label or scalar.cast(pa.string()).as_py() == text
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            exact = False
        if not exact:
            holder = next(other.file.path for other in files if other.types.get(name, pa.null()) != pa.null())
            raise ValueError(
                f"{columns.file.path!r} has {name!r} from its folder, {text!r}, which is not a label of type {type}, as the "
                f"column in {holder!r} holds. Write the column into all files, or into none."
            )
        scalars[text] = scalar
    return scalars


def _common_type(name: str, files: list[_FileColumns], is_label: bool) -> pa.DataType:
    """Return the type in which a column is read from all files.

    Parameters
    ----------
    name : str
        Name of the column.
    files : list of _FileColumns
        The columns of each file.
    is_label : bool
        Whether the values are labels, which must not change, rather than numbers.

    Returns
    -------
    type : pyarrow.DataType
        A type that holds the labels of all files exactly, or their numbers at least as doubles.

    Raises
    ------
    ValueError
        If the labels of two files cannot be compared, or a predictor, outcome or weight is not a number.
    """
    # An example of a file for each type in files and each text in folder names.
    held: dict[pa.DataType, str] = {}
    texts: dict[str, str] = {}
    for columns in files:
        if name in columns.types:
            held.setdefault(_plain(columns.types[name]), columns.file.path)
        elif (text := columns.values[name]) is not None:
            texts.setdefault(text, columns.file.path)
    from_folders = any(name in columns.values for columns in files)
    as_found = {columns.types[name] for columns in files if name in columns.types}
    if is_label and len(as_found) == 1 and not from_folders:
        return as_found.pop()
    # A column without values, such as that of a file without rows, is often of type null.
    held.pop(pa.null(), None)
    if not is_label:
        return _common_number(name, held, texts)
    if held:
        return _common_label(name, held)
    if not from_folders:
        return pa.null()
    return pa.int64() if texts and all(map(_is_canonical, texts)) else pa.string()


def _plain(type: pa.DataType) -> pa.DataType:
    """Return the type of a dictionary's values, and any other type unchanged."""
    return type.value_type if pa.types.is_dictionary(type) else type


def _is_canonical(text: str) -> bool:
    """Return whether Python would write a 64-bit integer as this text."""
    try:
        number = int(text)
    except ValueError:
        return False
    return str(number) == text and -(1 << 63) <= number < 1 << 63


def _common_number(name: str, held: dict[pa.DataType, str], texts: dict[str, str]) -> pa.DataType:
    """Return a numeric type for the numbers of all files and folders, given a file of each type and of each text."""
    for type, path in held.items():
        if _kind(type) not in _NUMBERS:
            raise ValueError(f"{name} must hold numbers; found {type} in {path!r}. Turn the values into numbers first.")
    types = [*held]
    for text, path in texts.items():
        try:
            pa.scalar(text).cast(pa.float64())
        except pa.ArrowInvalid as error:
            raise ValueError(f"{name} must hold numbers; found {text!r} in the folders of {path!r}.") from error
    if texts:
        types.append(pa.int64() if all(map(_is_canonical, texts)) else pa.float64())
    if len(types) == 1:
        return types[0]
    if not types or any(map(pa.types.is_decimal, types)):
        return pa.float64()
    return _common_numpy_type(types)


def _common_numpy_type(types: Iterable[pa.DataType]) -> pa.DataType:
    """Return NumPy's common type, which is exact unless 64-bit integers are combined with floats or with unsigned ones."""
    return pa.from_numpy_dtype(np.result_type(*(type.to_pandas_dtype() for type in types)))


def _common_label(name: str, held: dict[pa.DataType, str]) -> pa.DataType:
    """Return a type that holds the labels of all files exactly, given a file of each type."""
    by_kind: dict[str, pa.DataType] = {}
    for type in held:
        by_kind.setdefault(_kind(type), type)
    if len(by_kind) > 1 and set(by_kind) != {"integer", "floating"}:
        raise _different(held, name, *list(by_kind.values())[:2])
    kind = next(iter(by_kind))
    if kind not in ("integer", "floating"):
        types = list(held)
        return _WIDEST[kind](types) if kind in _WIDEST else types[0]
    common = _common_numpy_type(held)
    wide = [type for type in held if pa.types.is_integer(type) and type.bit_width == 64]
    if wide and not pa.types.is_integer(common):
        other = next(type for type in held if _common_numpy_type([wide[0], type]) == common and type != wide[0])
        raise _different(held, name, wide[0], other)
    return common


def _different(held: dict[pa.DataType, str], name: str, a: pa.DataType, b: pa.DataType) -> ValueError:
    """Return the error for labels of two types that cannot be compared."""
    return ValueError(
        f"The labels in {name!r} cannot be compared: they are {a} in {held[a]!r} and {b} in {held[b]!r}. Write "
        "the column in the same type to all files."
    )


def _kind(type: pa.DataType) -> str:
    """Return the kind of a type's values, whatever their width: a key of _KINDS, or the type itself as text."""
    return next((kind for kind, check in _KINDS.items() if check(type)), str(type))


def _finest(types: list[pa.DataType]) -> pa.DataType:
    """Return the type with the smallest unit."""
    return max(types, key=lambda type: _UNITS.index(getattr(type, "unit", "ms" if pa.types.is_date64(type) else "day")))


def _finest_zoned(types: list[pa.DataType]) -> pa.DataType:
    """Return timestamps of the smallest unit, in the zone of all types or, if their zones differ, in UTC."""
    zones = {type.tz for type in types}
    return pa.timestamp(_finest(types).unit, zones.pop() if len(zones) == 1 else "UTC")


def _widest_decimal(types: list[pa.DataType]) -> pa.DataType:
    """Return a decimal type with the most digits before the point and the most after it."""
    scale = max(type.scale for type in types)
    precision = scale + max(type.precision - type.scale for type in types)
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


_KINDS: dict[str, Callable[[pa.DataType], bool]] = {
    "integer": pa.types.is_integer,
    "floating": pa.types.is_floating,
    "decimal": pa.types.is_decimal,
    "boolean": pa.types.is_boolean,
    "string": lambda type: str(type) in ("string", "large_string", "string_view"),
    "binary": lambda type: str(type) in ("binary", "large_binary", "binary_view") or pa.types.is_fixed_size_binary(type),
    "timestamp": lambda type: pa.types.is_timestamp(type) and type.tz is None,
    "timestamp with time zone": pa.types.is_timestamp,
    "date": pa.types.is_date,
    "time": pa.types.is_time,
    "duration": pa.types.is_duration,
}
# For several types of a kind, a type that holds the values of all.
_WIDEST: dict[str, Callable[[list[pa.DataType]], pa.DataType]] = {
    "decimal": _widest_decimal,
    "string": lambda types: pa.large_string() if pa.large_string() in types else pa.string(),
    "binary": lambda types: pa.large_binary() if pa.large_binary() in types else pa.binary(),
    "timestamp": _finest,
    "timestamp with time zone": _finest_zoned,
    "date": _finest,
    "time": _finest,
    "duration": _finest,
}
