"""Moments to a file and back, in a documented format that holds nothing that could run.

A file is a NumPy archive (.npz, not compressed). It holds the arrays of `Moments` by name, those of a remainder with the
prefix "remainder_", those of a scatter with the prefix "scatter_", and "header": the UTF-8 bytes of a JSON object with the
keys "format" ("sklearn-mlm moments"), "version" (1), "labels", "feature_names", "outcome_name", "sum_log_weight" and, if
there are such, "remainder" and "slopes". The kind of the group labels is `header["labels"]["kind"]`:

- "array": numbers and booleans, as the array "labels";
- "time": dates and times or spans of time, as 64-bit integers in the array "labels", with "dtype" and "zone" in the header;
- "text": strings, as the array "labels" of their joined UTF-8 bytes, and the array "label_lengths" of their sizes in bytes;
- "none": rows that were read without groups, which have the label `NO_LABEL`;
- "mixed": other labels, as the array "labels" of the UTF-8 bytes of a JSON list of pairs (type, value).
"""

from __future__ import annotations

import datetime
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias, cast
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import pandas as pd

from ._cells import Cells
from ._labels import LARGEST_EXACT, NO_LABEL, has_groups
from ._moments import ARRAYS, Moments
from ._remainder import Remainder
from ._scatter import Scatter

FileLike = str | os.PathLike[str] | IO[bytes]
"""A path, or a binary file object."""
Paths: TypeAlias = "str | os.PathLike[str] | Iterable[Paths]"
"""Paths of files, folders and patterns."""

_SCATTER_ARRAYS = ("factors", "rest")
_REMAINDER_ARRAYS, _REMAINDER_NUMBERS = ("slopes", "deviations", "within"), ("center", "noise", "lost")
_FORMAT, _VERSION = "sklearn-mlm moments", 1
_DAMAGES = (
    *(BadZipFile, EOFError, KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError, MemoryError),
    *(RecursionError, NotImplementedError, RuntimeError, zlib.error),
)
"""Errors that reading a damaged or hostile file may raise."""

# Asymmetry and negative eigenvalues of a scatter of columns of unit length, up to which they are rounding errors.
_NO_SCATTER = 1e-8
_SCALARS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "bool": (bool | np.bool_, bool, bool),
    "int": (int | np.integer, str, int),
    "float": (float | np.floating, lambda label: float(label).hex(), float.fromhex),
    "str": (str, str, str),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
}
"""Types of labels, in the order of the tests, each with the functions that turn a label into a JSON value and back."""
_TIMES = re.compile(r"[mM]8\[(s|ms|us|ns)\]")


def _write(file: FileLike, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a header that JSON can hold, and arrays without objects. If writing fails, a path keeps its old content."""
    text = json.dumps({"format": _FORMAT, "version": _VERSION, **header})
    contents = {"header": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}
    if hasattr(file, "write") or not isinstance(file, str | os.PathLike):
        np.savez(file, **contents)  # type: ignore[arg-type]
        return
    path = Path(file)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as stream:
            np.savez(stream, **contents)  # type: ignore[arg-type]
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _read(file: FileLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file.

    Raises
    ------
    ValueError
        If the file is not one of moments, or has an unknown version.
    """
    try:
        with ZipFile(file) as archive:
            # This keeps a small file from expanding to large arrays.
            if any(member.compress_type != ZIP_STORED for member in archive.infolist()):
                raise ValueError("it is compressed")
        if hasattr(file, "seek"):
            file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes().decode())
    except _DAMAGES as error:
        raise ValueError(f"{file!r} is not a complete file of moments, as GroupedMoments.save writes it.") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(
            f"{file!r} is not a file of moments, as GroupedMoments.save writes it: its header lacks the format."
        )
    if header.get("version") != _VERSION:
        raise ValueError(
            f"{file!r} has version {header.get('version')!r} of the format, but this version of sklearn-mlm reads only "
            f"version {_VERSION}. Update sklearn-mlm."
        )
    return header, arrays


def _pack_labels(labels: pd.Index) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of labels.

    Raises
    ------
    TypeError
        If labels have a type that the format cannot hold.
    """
    if not has_groups(labels):
        return {"kind": "none"}, {"labels": np.zeros(len(labels), dtype=np.uint8)}
    kind = str(pd.api.types.infer_dtype(labels, skipna=False))
    if kind in ("datetime64", "datetime", "timedelta64", "timedelta"):
        labels = labels.infer_objects()
    if isinstance(labels, pd.DatetimeIndex | pd.TimedeltaIndex):
        dtype = f"{labels.dtype.kind}8[{labels.unit}]"
        return {"kind": "time", "dtype": dtype, "zone": _zone_name(labels)}, {"labels": labels.asi8}
    if isinstance(labels.dtype, np.dtype) and labels.dtype.kind in "biuf":
        return {"kind": "array"}, {"labels": labels.to_numpy()}
    if kind in ("integer", "boolean", "floating") and not isinstance(labels.dtype, np.dtype):
        integer = np.int64 if kind == "integer" and labels.max() <= np.iinfo(np.int64).max else np.uint64
        plain = {"integer": integer, "boolean": np.bool_, "floating": np.float64}[kind]
        return {"kind": "array"}, {"labels": labels.to_numpy(dtype=plain)}
    if kind == "string":
        encoded = [str(label).encode(errors="surrogatepass") for label in labels]
        lengths = np.array([len(text) for text in encoded], dtype=np.int64)
        return {"kind": "text"}, {"labels": np.frombuffer(b"".join(encoded), dtype=np.uint8), "label_lengths": lengths}
    pairs = json.dumps([_tagged(label) for label in labels])
    return {"kind": "mixed"}, {"labels": np.frombuffer(pairs.encode(), dtype=np.uint8)}


def _zone_name(times: Any) -> str | None:
    """Return the name of the labels' time zone, or None if they have no time zone.

    Raises
    ------
    TypeError
        If no name leads back to the zone.
    """
    zone = getattr(times, "tz", None)
    if zone is None:
        return None
    for name in _candidate_names(zone):
        try:
            if times.tz_convert(name).tz_localize(None).equals(times.tz_localize(None)):
                return name
        except (KeyError, ValueError, OSError, AttributeError):
            continue
    raise TypeError(
        f"groups has labels in the time zone {zone!r}, which has no name that a file of moments could hold. Convert them "
        'to a named zone, for example by tz_convert("UTC").'
    )


def _candidate_names(zone: Any) -> Iterator[str]:
    """Yield names by which pandas may find a time zone on any computer."""
    if "(" not in str(zone):
        yield str(zone)
    # A zone of dateutil stores the path of its file, of which pandas accepts the part below the database of zones.
    _, _, name = getattr(zone, "_filename", "").partition("zoneinfo/")
    if name:
        yield f"dateutil/{name}"
    offset = zone.utcoffset(None)
    if offset is not None:
        minutes = int(offset.total_seconds() // 60)
        yield f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "UTC"


def _unpack_labels(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> pd.Index:
    """Return labels from their header and their arrays."""
    kind, values = header.get("kind"), arrays["labels"]
    if kind == "array" and values.dtype.kind in "biuf":
        return cast(pd.Index, pd.Index(values))
    if kind == "time" and _TIMES.fullmatch(header["dtype"]):
        times: Any = pd.Index(values.view(np.dtype(header["dtype"])))
        return cast(pd.Index, times if header["zone"] is None else times.tz_localize("UTC").tz_convert(header["zone"]))
    if kind == "none":
        return NO_LABEL
    text = values.tobytes()
    if kind == "text":
        ends = np.cumsum(arrays["label_lengths"]).tolist()
        pieces = [text[start:end].decode(errors="surrogatepass") for start, end in zip([0, *ends], ends, strict=False)]
        return pd.Index(pieces, dtype="str")
    if kind == "mixed":
        return pd.Index([_untagged(pair) for pair in json.loads(text.decode())], dtype=object, tupleize_cols=False)
    raise ValueError(f"labels of kind {kind!r} are not known")


def _tagged(label: Any) -> list[Any]:
    """Return a label as a pair (type, value) that JSON holds without loss."""
    if isinstance(label, tuple):
        return ["tuple", [_tagged(part) for part in label]]
    for kind, (types, to_json, _) in _SCALARS.items():
        if isinstance(label, types) and not isinstance(label, datetime.datetime):
            return [kind, to_json(label)]
    raise TypeError(
        f"groups has labels of type {type(label).__name__} ({label!r}), which a file of moments cannot hold. Read the rows "
        "with labels that are numbers, strings, dates, or tuples of them."
    )


def _untagged(pair: Any) -> Any:
    """Return the label of a pair (type, value)."""
    kind, value = pair
    if kind == "tuple":
        return tuple(_untagged(part) for part in value)
    return _SCALARS[kind][2](value)


def save_moments(moments: Moments, file: FileLike) -> None:
    """Write moments to a file, as `GroupedMoments.save` describes."""
    _write(file, *_packed(moments))


def save_scatter(scatter: Scatter, file: FileLike, cells: Cells | None = None) -> None:
    """Write a scatter, and the cells that are its groups, to a file, as `GroupedScatter.save` describes."""
    header, arrays = _packed(scatter.moments)
    more = {f"scatter_{field}": getattr(scatter, field) for field in _SCATTER_ARRAYS}
    header["slopes"] = list(scatter.slopes)
    if cells is not None:
        of_columns = [_pack_labels(levels) for levels in cells.levels]
        header["cells"] = {"names": list(cells.names), "levels": [one for one, _ in of_columns]}
        more["cell_codes"] = cells.codes
        more |= {f"cells_{at}_{key}": array for at, (_, found) in enumerate(of_columns) for key, array in found.items()}
    _write(file, header, arrays | more)


def _packed(moments: Moments) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of moments."""
    label_header, arrays = _pack_labels(moments.labels)
    name = moments.labels.name
    header = {
        "labels": {**label_header, "name": name if isinstance(name, str) else None},
        "feature_names": moments.feature_names,
        "outcome_name": moments.outcome_name,
        "sum_log_weight": moments.sum_log_weight,
    }
    arrays |= {field: getattr(moments, field) for field in ARRAYS}
    if moments.remainder is not None:
        header["remainder"] = {field: getattr(moments.remainder, field) for field in _REMAINDER_NUMBERS}
        arrays |= {f"remainder_{field}": getattr(moments.remainder, field) for field in _REMAINDER_ARRAYS}
    return header, arrays


def load_moments(file: FileLike) -> Moments:
    """Return the moments in a file; raises as `GroupedMoments.load`."""
    return _unpacked(file, *_read(file))


def load_cells(file: FileLike) -> tuple[Scatter, Cells]:
    """Return the scatter in a file, and the cells that are its groups; raises as `CellScatter.load`."""
    header, arrays = _read(file)
    if "cells" not in header:
        raise ValueError(
            f"{file!r} holds a record of one column of labels. GroupedScatter.load or GroupedMoments.load reads it."
        )
    scatter = _scatter_of(file, header, arrays)
    try:
        names, codes, levels = [str(name) for name in header["cells"]["names"]], arrays["cell_codes"], []
        for at, (name, one) in enumerate(zip(names, header["cells"]["levels"], strict=True)):
            prefix = f"cells_{at}_"
            own = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
            levels.append(_unpack_labels(one, own).rename(name))
        _check_array("cell_codes", codes, (scatter.n_groups, len(names)), "i")
        for of_column, labels in zip(codes.T, levels, strict=True):
            if len(of_column) and not (of_column.min() >= 0 and of_column.max() < len(labels)):
                raise ValueError("cell_codes must be positions of labels")
    except _DAMAGES as error:
        raise ValueError(f"{file!r} is a damaged file of moments: {error}") from error
    return scatter, Cells(tuple(names), tuple(levels), codes.astype(np.intp))


def load_scatter(file: FileLike) -> Scatter:
    """Return the scatter in a file; raises as `GroupedScatter.load`."""
    return _scatter_of(file, *_read(file))


def _scatter_of(file: FileLike, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Scatter:
    """Return the scatter that a header and arrays hold."""
    if "slopes" not in header:
        raise ValueError(f"{file!r} holds moments without slopes. GroupedMoments.load reads it.")
    moments = _unpacked(file, header, arrays)
    try:
        slopes = tuple(map(int, header["slopes"]))
        factors, rest = (arrays[f"scatter_{field}"] for field in _SCATTER_ARRAYS)
        width = moments.n_features + 1
        if len(set(slopes)) < len(slopes) or any(not 0 <= slope < width - 1 for slope in slopes):
            raise ValueError(f"slopes must be distinct positions of columns; found {header['slopes']!r}")
        _check_array("factors", factors, (moments.n_groups, len(slopes), width), "f")
        _check_array("rest", rest, (width, width), "f")
        _check_scatter("rest", rest)
    except _DAMAGES as error:
        raise ValueError(f"{file!r} is a damaged file of moments: {error}") from error
    return Scatter(moments, slopes, factors, rest)


def _unpacked(file: FileLike, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Moments:
    """Return the moments that a header and arrays hold."""
    try:
        names, label_header = header["feature_names"], header["labels"]
        if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
            raise ValueError(f"feature_names must be a list of names; found {names!r}")
        return checked_moments(
            Moments(
                labels=_unpack_labels(label_header, arrays).rename(label_header["name"]),
                sum_log_weight=float(header["sum_log_weight"]),
                feature_names=None if names is None else tuple(names),
                outcome_name=None if header["outcome_name"] is None else str(header["outcome_name"]),
                remainder=_loaded_remainder(header.get("remainder"), arrays),
                **{field: arrays[field] for field in ARRAYS},
            )
        )
    except _DAMAGES as error:
        raise ValueError(f"{file!r} is a damaged file of moments: {error}") from error


def _loaded_remainder(numbers: dict[str, Any] | None, arrays: dict[str, np.ndarray]) -> Remainder | None:
    """Return the remainder of a file from its numbers in the header and its arrays, or None if there is none."""
    if numbers is None:
        return None
    parts: dict[str, Any] = {field: arrays[f"remainder_{field}"] for field in _REMAINDER_ARRAYS}
    parts |= {field: float(numbers[field]) for field in _REMAINDER_NUMBERS}
    return Remainder(**parts)


def whole_numbers(numbers: np.ndarray) -> np.ndarray:
    """Return numbers as integers if all of them are whole, and unchanged otherwise."""
    if numbers.dtype.kind == "f" and np.isfinite(numbers).all() and np.array_equal(numbers, np.floor(numbers)):
        return numbers.astype(np.intp)
    return numbers


def _check_array(name: str, values: np.ndarray, shape: tuple[int, ...], kinds: str) -> None:
    """Raise an error unless an array has this shape, one of these kinds of numbers, and finite values."""
    if values.shape != shape or values.dtype.kind not in kinds:
        numbers = "whole numbers" if kinds == "iu" else "numbers"
        raise ValueError(f"{name} must be {numbers} of shape {shape}; found {values.dtype} of shape {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite; found NaN or infinity.")


def checked_moments(moments: Moments) -> Moments:
    """Return moments from a file or a table, or raise a ValueError if no rows could have them."""
    n_groups, width = moments.n_groups, max(1, moments.center.size)
    shapes = {"counts": (n_groups,), "n_rows": (n_groups,), "center": (width,), "deviations": (n_groups, width)}
    for field, shape in {**shapes, "within": (width, width)}.items():
        _check_array(field, getattr(moments, field), shape, "iu" if field == "n_rows" else "fiu")
    if (moments.counts <= 0).any() or (moments.n_rows < 1).any() or moments.n_rows.sum(dtype=np.float64) > LARGEST_EXACT:
        raise ValueError("counts must be positive, and n_rows at least 1 in each group and at most 2**53 in total.")
    if not np.isfinite(moments.sum_log_weight):
        raise ValueError(f"sum_log_weight must be finite; found {moments.sum_log_weight!r}.")
    if not moments.labels.is_unique or moments.labels.isna().any():
        raise ValueError("labels must be distinct, and none of them missing.")
    if moments.feature_names is not None and len(moments.feature_names) != width - 1:
        raise ValueError(f"feature_names must be {width - 1} names; found {moments.feature_names!r}.")
    rest = moments.remainder
    if rest is not None:
        for field, shape in {"slopes": (width - 1,), "deviations": (n_groups,), "within": (width,)}.items():
            _check_array(f"remainder_{field}", getattr(rest, field), shape, "f")
        if not np.isfinite([rest.center, rest.noise, rest.lost]).all() or min(rest.noise, rest.lost) < 0:
            raise ValueError("The remainder must have a finite center, and finite noise and lost scatter of at least 0.")
    _check_scatter("within", moments.within)
    return moments


def _check_scatter(name: str, matrix: np.ndarray) -> None:
    """Raise an error unless a matrix is symmetric and has no negative eigenvalue."""
    length = np.sqrt(np.abs(matrix.diagonal()))
    length[length == 0] = 1.0
    scaled = matrix / np.outer(length, length)
    if np.abs(scaled - scaled.T).max() > _NO_SCATTER or np.linalg.eigvalsh(scaled).min() < -_NO_SCATTER:
        raise ValueError(f"{name} must be a scatter matrix: symmetric, and without a negative eigenvalue.")
