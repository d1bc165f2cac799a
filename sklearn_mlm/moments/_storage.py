"""Arrays and group labels to a file and back: a documented format, with nothing in it that could run.

A file is a NumPy archive (.npz, not compressed): the arrays by name, and "header", the bytes of a JSON object in UTF-8 with
the keys "format" ("sklearn-mlm moments"), "version" (1) and what else the writer puts there. Group labels are stored by
kind, which the header has under "labels":

- "array": numbers and booleans, as the array "labels";
- "time": dates and times or spans of time, as 64-bit integers in the array "labels", with "dtype" in the header;
- "text": strings, as the array "labels" of the bytes of all of them in UTF-8, and "label_lengths" of how many each has;
- "none": rows that were read without groups, which have the one label of no group;
- "mixed": others, as the array "labels" of the bytes of a JSON list in UTF-8 of pairs (type, value).
"""

from __future__ import annotations

import datetime
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import pandas as pd

from ._labels import NO_LABEL, has_groups
from ._moments import ARRAYS, Moments
from ._remainder import Remainder

_REMAINDER_ARRAYS, _REMAINDER_NUMBERS = ("slopes", "deviations", "within"), ("center", "noise", "lost")
_FORMAT, _VERSION = "sklearn-mlm moments", 1
_DAMAGES = (
    *(BadZipFile, EOFError, KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError, MemoryError),
    *(RecursionError, NotImplementedError, RuntimeError, zlib.error),
)
"""What reading a damaged or a hostile file may raise."""

# What a sum of rounding errors may leave of symmetry and of eigenvalues, in columns of unit length.
_NO_SCATTER = 1e-8
_MOST_ROWS = 2.0**53
_TIMES = re.compile(r"[mM]8\[(s|ms|us|ns)\]")


def write(file: Any, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write arrays and a header to a file, which is there whole or not at all.

    Parameters
    ----------
    file : str, path or binary file object
    header : dict
        What JSON can hold.
    arrays : dict of ndarray
        None of them of objects.
    """
    text = json.dumps({"format": _FORMAT, "version": _VERSION, **header})
    everything = {"header": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}
    if hasattr(file, "write"):
        np.savez(file, **everything)  # type: ignore[arg-type]
        return
    path = Path(file)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as stream:
            np.savez(stream, **everything)  # type: ignore[arg-type]
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read(file: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file.

    Raises
    ------
    ValueError
        Where the file is none of these, or of a version unknown.
    """
    try:
        with ZipFile(file) as archive:
            # So a small file cannot hold large arrays.
            if any(member.compress_type != ZIP_STORED for member in archive.infolist()):
                raise ValueError("it is compressed")
        if hasattr(file, "seek"):
            file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes().decode())
    except _DAMAGES as error:
        raise ValueError(
            f"{file!r} is no file of moments, as GroupedMoments.save writes them, or not all of one."
        ) from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"{file!r} is no file of moments: its header does not say so. Write one with GroupedMoments.save.")
    if header.get("version") != _VERSION:
        raise ValueError(
            f"{file!r} is of version {header.get('version')!r} of the format, of which version {_VERSION} is known here: "
            "update sklearn-mlm."
        )
    return header, arrays


def pack_labels(labels: pd.Index) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what the header says of labels, and their arrays.

    Raises
    ------
    TypeError
        For labels of a type that the format does not know.
    """
    if not has_groups(labels):
        return {"kind": "none"}, {"labels": np.zeros(len(labels), dtype=np.uint8)}
    kind = str(pd.api.types.infer_dtype(labels, skipna=False))
    if kind in ("datetime64", "datetime", "timedelta64", "timedelta"):
        labels = labels.infer_objects()
    if isinstance(labels, pd.DatetimeIndex | pd.TimedeltaIndex):
        of_time = {"kind": "time", "dtype": f"{labels.dtype.kind}8[{labels.unit}]"}
        return {**of_time, "zone": _zone_name(labels)}, {"labels": labels.asi8}
    if isinstance(labels.dtype, np.dtype) and labels.dtype.kind in "biuf":
        return {"kind": "array"}, {"labels": labels.to_numpy()}
    if kind in ("integer", "boolean", "floating") and not isinstance(labels.dtype, np.dtype):
        integer = np.int64 if kind == "integer" and labels.max() <= np.iinfo(np.int64).max else np.uint64
        plain = {"integer": integer, "boolean": np.bool_, "floating": np.float64}[kind]
        return {"kind": "array"}, {"labels": labels.to_numpy(dtype=plain)}
    if kind == "string":
        encoded = [str(label).encode(errors="surrogatepass") for label in labels]
        lengths = np.array([len(one) for one in encoded], dtype=np.int64)
        return {"kind": "text"}, {"labels": np.frombuffer(b"".join(encoded), dtype=np.uint8), "label_lengths": lengths}
    pairs = json.dumps([_tagged(label) for label in labels])
    return {"kind": "mixed"}, {"labels": np.frombuffer(pairs.encode(), dtype=np.uint8)}


def _zone_name(times: Any) -> str | None:
    """Return the name of the time zone of labels, None for none.

    Raises
    ------
    TypeError
        For a zone that no name leads back to.
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
        'to a named zone, as by tz_convert("UTC").'
    )


def _candidate_names(zone: Any) -> Iterator[str]:
    """Yield names by which pandas may find a time zone on any machine."""
    if "(" not in str(zone):
        yield str(zone)
    # dateutil prints the file that it read a zone from, and pandas takes that file's name within the database of zones.
    _, _, within = getattr(zone, "_filename", "").partition("zoneinfo/")
    if within:
        yield f"dateutil/{within}"
    offset = zone.utcoffset(None)
    if offset is not None:
        minutes = int(offset.total_seconds() // 60)
        yield f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "UTC"


def unpack_labels(said: dict[str, Any], arrays: dict[str, np.ndarray]) -> pd.Index:
    """Return labels from what the header says of them and their arrays."""
    kind, values = said.get("kind"), arrays["labels"]
    if kind == "array" and values.dtype.kind in "biuf":
        return pd.Index(values)
    if kind == "time" and _TIMES.fullmatch(said["dtype"]):
        times = pd.Index(values.view(np.dtype(said["dtype"])))
        return times if said["zone"] is None else times.tz_localize("UTC").tz_convert(said["zone"])
    if kind == "none":
        return NO_LABEL
    text = values.tobytes()
    if kind == "text":
        ends = np.cumsum(arrays["label_lengths"]).tolist()
        return pd.Index(
            [text[start:end].decode(errors="surrogatepass") for start, end in zip([0, *ends], ends, strict=False)],
            dtype="str",
        )
    if kind == "mixed":
        labels = np.empty(len(pairs := json.loads(text.decode())), dtype=object)
        labels[:] = [_untagged(pair) for pair in pairs]
        return pd.Index(labels, dtype=object, tupleize_cols=False)
    raise ValueError(f"labels of kind {kind!r} are not known")


def _tagged(label: Any) -> list[Any]:
    """Return a label as a type and a value that JSON holds without loss."""
    if isinstance(label, bool | np.bool_):
        return ["bool", bool(label)]
    if isinstance(label, int | np.integer):
        return ["int", str(label)]
    if isinstance(label, float | np.floating):
        return ["float", float(label).hex()]
    if isinstance(label, str):
        return ["str", str(label)]
    if isinstance(label, bytes):
        return ["bytes", label.hex()]
    if type(label) is datetime.date:
        return ["date", label.isoformat()]
    if isinstance(label, tuple):
        return ["tuple", [_tagged(part) for part in label]]
    raise TypeError(
        f"groups has labels of type {type(label).__name__} ({label!r}), which a file of moments cannot hold. Read the rows "
        "with labels that are numbers, strings, dates, or tuples of them."
    )


def _untagged(pair: Any) -> Any:
    """Return the label that a type and a value stand for."""
    of_type, value = pair
    if of_type == "tuple":
        return tuple(_untagged(part) for part in value)
    makers: dict[str, Any] = {
        "bool": bool,
        "int": int,
        "float": float.fromhex,
        "str": str,
        "bytes": bytes.fromhex,
        "date": datetime.date.fromisoformat,
    }
    return makers[of_type](value)


def save_moments(moments: Moments, file: Any) -> None:
    """Write moments to a file, as `GroupedMoments.save` describes it."""
    of_labels, arrays = pack_labels(moments.labels)
    name = moments.labels.name
    header = {
        "labels": {**of_labels, "name": name if isinstance(name, str) else None},
        "feature_names": moments.feature_names,
        "outcome_name": moments.outcome_name,
        "sum_log_weight": moments.sum_log_weight,
    }
    arrays |= {field: getattr(moments, field) for field in ARRAYS}
    if moments.remainder is not None:
        header["remainder"] = {field: getattr(moments.remainder, field) for field in _REMAINDER_NUMBERS}
        arrays |= {f"remainder_{field}": getattr(moments.remainder, field) for field in _REMAINDER_ARRAYS}
    write(file, header, arrays)


def load_moments(file: Any) -> Moments:
    """Return the moments that a file holds; raises as `GroupedMoments.load`."""
    header, arrays = read(file)
    try:
        names, of_labels = header["feature_names"], header["labels"]
        if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
            raise ValueError(f"feature_names must be a list of names; found {names!r}")
        return checked_moments(
            Moments(
                labels=unpack_labels(of_labels, arrays).rename(of_labels["name"]),
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
    """Return the remainder of a file, from what its header says and its arrays."""
    if numbers is None:
        return None
    parts: dict[str, Any] = {field: arrays[f"remainder_{field}"] for field in _REMAINDER_ARRAYS}
    parts |= {field: float(numbers[field]) for field in _REMAINDER_NUMBERS}
    return Remainder(**parts)


def whole_numbers(numbers: np.ndarray) -> np.ndarray:
    """Return numbers as integers, those that are none as they are."""
    if numbers.dtype.kind == "f" and np.isfinite(numbers).all() and np.array_equal(numbers, np.floor(numbers)):
        return numbers.astype(np.intp)
    return numbers


def checked_moments(state: Moments) -> Moments:
    """Return a state that came from outside, or raise where it could be of no rows."""
    n_groups, width = state.n_groups, state.center.size
    shapes = {"counts": (n_groups,), "n_rows": (n_groups,), "center": (width,), "deviations": (n_groups, width)}
    for field, shape in {**shapes, "within": (width, width)}.items():
        values, kinds = getattr(state, field), "iu" if field == "n_rows" else "fiu"
        if values.shape != shape or values.dtype.kind not in kinds or not width:
            kind = "whole numbers" if field == "n_rows" else "numbers"
            raise ValueError(f"{field} must be {kind} of shape {shape}; found {values.dtype} of shape {values.shape}.")
        if not np.isfinite(values).all():
            raise ValueError(f"{field} must be finite; found NaN or infinity.")
    if (state.counts <= 0).any() or (state.n_rows < 1).any() or state.n_rows.sum(dtype=np.float64) > _MOST_ROWS:
        raise ValueError("Every group must have a row and a positive weight, and not too many: see counts and n_rows.")
    if not np.isfinite(state.sum_log_weight):
        raise ValueError(f"sum_log_weight must be finite; found {state.sum_log_weight!r}.")
    if not state.labels.is_unique or state.labels.isna().any():
        raise ValueError("The labels must differ, and none be missing.")
    if state.feature_names is not None and len(state.feature_names) != width - 1:
        raise ValueError(f"feature_names must be {width - 1} names; found {state.feature_names!r}.")
    rest = state.remainder
    if rest is not None:
        for field, shape in {"slopes": (width - 1,), "deviations": (n_groups,), "within": (width,)}.items():
            values = getattr(rest, field)
            if values.shape != shape or values.dtype.kind != "f" or not np.isfinite(values).all():
                raise ValueError(f"remainder_{field} must be finite numbers of shape {shape}; found shape {values.shape}.")
        if not np.isfinite([rest.center, rest.noise, rest.lost]).all() or min(rest.noise, rest.lost) < 0:
            raise ValueError("The remainder must have a finite center, and noise and lost scatter that are not negative.")
    length = np.sqrt(np.abs(state.within.diagonal()))
    scaled = state.within / np.outer(np.where(length > 0, length, 1.0), np.where(length > 0, length, 1.0))
    if np.abs(scaled - scaled.T).max() > _NO_SCATTER or np.linalg.eigvalsh(scaled).min() < -_NO_SCATTER:
        raise ValueError("within must be a scatter matrix: symmetric, and without a negative eigenvalue.")
    return state
