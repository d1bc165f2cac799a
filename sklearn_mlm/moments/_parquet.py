"""Rows of Parquet files as one stream: a type for each column that holds the values of all files as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from ._arrow import Names, scanned
from ._parquet_files import File, find_files, folder_values, map_waiting

_UNITS = ("day", "s", "ms", "us", "ns")
_NUMBERS = {"integer", "floating", "decimal", "boolean"}


class _Columns(NamedTuple):
    """Where a file has the columns that are needed: types of those it holds, and values of those its folders name."""

    file: File
    types: dict[str, Any]
    values: dict[str, str | None]


def open_parquet(path: Any, names: Names) -> Any:
    """Return a reader of record batches of the columns named, from all files that a path names.

    Parameters
    ----------
    path : str, os.PathLike, or iterable of them
        As `find_files` takes it.
    names : Names

    Raises
    ------
    FileNotFoundError
        If no file is found.
    ValueError
        If a file is no Parquet file, lacks a column, or holds labels that those of another file cannot be compared with.
    """
    format = ds.ParquetFileFormat()
    found = find_files(path)
    remote = not all(isinstance(file.filesystem, LocalFileSystem) for file in found)
    files = map_waiting(lambda file: _inspect(format, file, names.needed), found, remote)
    schema = pa.schema([(name, _common_type(name, files, is_label=name == names.groups)) for name in names.needed])
    values = {name: _scalars(name, schema.field(name).type, files, is_label=name == names.groups) for name in names.needed}
    return pa.RecordBatchReader.from_batches(schema, _batches(format, files, schema, values))


def _inspect(format: Any, file: File, needed: list[str]) -> _Columns:
    """Return what a file and its folders say of the columns needed."""
    try:
        schema = format.inspect(file.path, file.filesystem)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file.path!r} cannot be read as a Parquet file: {error}") from error
    folders = folder_values(file.path)
    for name in needed:
        times = schema.names.count(name)
        if times > 1 or (not times and name not in folders):
            found = f"{times or 'no'} column{'s' * (times > 1)} {name!r}"
            where = "" if times else f", and no folder {name + '=...'!r} in its path"
            raise ValueError(f"{file.path!r} has {found}{where}; it has {', '.join(map(repr, schema.names))}.")
    return _Columns(
        file,
        types={name: schema.field(name).type for name in needed if name in schema.names},
        values={name: folders[name] for name in needed if name not in schema.names},
    )


def _batches(format: Any, files: list[_Columns], schema: Any, values: dict[str, dict[str | None, Any]]) -> Iterator[Any]:
    """Yield the rows of files in a schema; files of the same types are read together, as a dataset.

    A dataset of files of different types would refuse the integers that a double cannot hold, which are rounded in a
    predictor.
    """
    alike: dict[Any, list[_Columns]] = {}
    for one in files:
        alike.setdefault((id(one.file.filesystem), tuple(map(one.types.get, schema.names))), []).append(one)
    for part in alike.values():
        types = part[0].types
        dataset = ds.FileSystemDataset.from_paths(
            [one.file.path for one in part],
            schema=pa.schema([field.with_type(types.get(field.name, field.type)) for field in schema]),
            format=format,
            filesystem=part[0].file.filesystem,
            partitions=[_partition(one.values, values) for one in part],
        )
        yield from scanned(
            dataset, {field.name: _cast(field.name, types.get(field.name, field.type), field.type) for field in schema}
        )


def _partition(texts: dict[str, str | None], values: dict[str, dict[str | None, Any]]) -> Any:
    """Return the expression that gives a file the values of its folders."""
    partition = pc.scalar(True)
    for name, text in texts.items():
        field = pc.field(name)
        partition = partition & (field.is_null() if text is None else field == values[name][text])
    return partition


def _cast(name: str, found: Any, wanted: Any) -> Any:
    """Return the expression of a column in another type; integers as doubles are rounded if they must be."""
    field = pc.field(name)
    if found == wanted:
        return field
    if pa.types.is_dictionary(found):
        field = field.cast(found.value_type)
    return field.cast(wanted, safe=not pa.types.is_floating(wanted))


def _scalars(name: str, type: Any, files: list[_Columns], is_label: bool) -> dict[str | None, Any]:
    """Return the values that folders have for a column in its type, by their text.

    Raises
    ------
    ValueError
        If the text of a label is not what its value would be written as, as '01' is not 1.
    """
    scalars: dict[str | None, Any] = {}
    for one in files:
        text = one.values.get(name)
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
                f"{one.file.path!r} has {name!r} from its folder, {text!r}, which is no {type}, the type of the column in "
                f"{holder!r}. Write the column into all files, or into none."
            )
        scalars[text] = scalar
    return scalars


def _common_type(name: str, files: list[_Columns], is_label: bool) -> Any:
    """Return the type in which a column is read from all files.

    Parameters
    ----------
    name : str
    files : list of _Columns
    is_label : bool
        Whether its values are labels, which must stay as they are, or numbers.

    Raises
    ------
    ValueError
        If labels of one file cannot be compared with those of another, or a file holds no numbers.
    """
    held: dict[Any, str] = {}
    texts: dict[str, str] = {}
    for one in files:
        if name in one.types:
            held.setdefault(_plain(one.types[name]), one.file.path)
        elif (text := one.values[name]) is not None:
            texts.setdefault(text, one.file.path)
    from_folders = any(name in one.values for one in files)
    as_found = {one.types[name] for one in files if name in one.types}
    if is_label and len(as_found) == 1 and not from_folders:
        return as_found.pop()
    # A column without values, as of a file without rows, is often of type null.
    held.pop(pa.null(), None)
    if not is_label:
        return _common_number(name, held, texts)
    if held:
        return _common_label(name, held)
    if not from_folders:
        return pa.null()
    return pa.int64() if texts and all(map(_is_canonical, texts)) else pa.string()


def _plain(type: Any) -> Any:
    """Return the type of the values of a dictionary, and any other type as it is."""
    return type.value_type if pa.types.is_dictionary(type) else type


def _is_canonical(text: str) -> bool:
    """Return whether a text is how Python writes an integer of 64 bits."""
    try:
        number = int(text)
    except ValueError:
        return False
    return str(number) == text and -(1 << 63) <= number < 1 << 63


def _common_number(name: str, held: dict[Any, str], texts: dict[str, str]) -> Any:
    """Return a numeric type for the numbers of all files and folders."""
    for type, path in held.items():
        if _kind(type) not in _NUMBERS:
            raise ValueError(f"{name} must hold numbers; found {type} in {path!r}. Turn the values into numbers first.")
    types = [*held]
    for text, path in texts.items():
        try:
            pa.scalar(text).cast(pa.float64())
        except pa.ArrowInvalid as error:
            message = f"{name} must hold numbers; found {text!r} in the folders of {path!r}."
            raise ValueError(message) from error
    if texts:
        types.append(pa.int64() if all(map(_is_canonical, texts)) else pa.float64())
    if len(types) == 1:
        return types[0]
    if not types or any(map(pa.types.is_decimal, types)):
        return pa.float64()
    return _common_numpy_type(types)


def _common_numpy_type(types: Iterable[Any]) -> Any:
    """Return NumPy's common type, which holds all values exactly unless 64-bit integers meet floats or unsigned ones."""
    return pa.from_numpy_dtype(np.result_type(*(type.to_pandas_dtype() for type in types)))


def _common_label(name: str, held: dict[Any, str]) -> Any:
    """Return a type that holds the labels of all files as they are, of the types found and a file of each."""
    by_kind: dict[str, Any] = {}
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


def _different(held: dict[Any, str], name: str, a: Any, b: Any) -> ValueError:
    """Return the error for labels of two types that cannot be compared."""
    return ValueError(
        f"The labels in {name!r} cannot be compared: they are {a} in {held[a]!r} and {b} in {held[b]!r}. Write the column "
        "in one type to all files."
    )


def _kind(type: Any) -> str:
    """Return what the values of a type are, whatever their width."""
    is_a = pa.types
    if is_a.is_timestamp(type):
        return "timestamp" if type.tz is None else "timestamp with time zone"
    checks = {
        "integer": is_a.is_integer,
        "floating": is_a.is_floating,
        "decimal": is_a.is_decimal,
        "boolean": is_a.is_boolean,
        "string": lambda one: str(one) in ("string", "large_string", "string_view"),
        "binary": lambda one: str(one) in ("binary", "large_binary", "binary_view") or is_a.is_fixed_size_binary(one),
        "date": is_a.is_date,
        "time": is_a.is_time,
        "duration": is_a.is_duration,
    }
    return next((kind for kind, check in checks.items() if check(type)), str(type))


def _finest(types: list[Any]) -> Any:
    """Return the type of the smallest unit."""
    return max(types, key=lambda type: _UNITS.index(getattr(type, "unit", "ms" if pa.types.is_date64(type) else "day")))


def _finest_zoned(types: list[Any]) -> Any:
    """Return timestamps of the smallest unit; those of different zones are compared as times of UTC."""
    zones = {type.tz for type in types}
    return pa.timestamp(_finest(types).unit, zones.pop() if len(zones) == 1 else "UTC")


def _widest_decimal(types: list[Any]) -> Any:
    """Return decimals of the most digits before the point and after it."""
    scale = max(type.scale for type in types)
    precision = scale + max(type.precision - type.scale for type in types)
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


# Of several types of a kind, the one that holds the values of all.
_WIDEST = {
    "decimal": _widest_decimal,
    "string": lambda types: pa.large_string() if pa.large_string() in types else pa.string(),
    "binary": lambda types: pa.large_binary() if pa.large_binary() in types else pa.binary(),
    "timestamp": _finest,
    "timestamp with time zone": _finest_zoned,
    "date": _finest,
    "time": _finest,
    "duration": _finest,
}
