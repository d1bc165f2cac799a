"""Group labels to integer codes and back: the only code that looks at labels."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from numbers import Integral
from threading import Lock
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pandas.api.extensions import ExtensionArray, ExtensionDtype

from .._inputs import warn_caller

Labels = np.ndarray | ExtensionArray
"""The label of each row, in an array that pandas can factorize."""

UNSEEN, MISSING = -1, -2
"""Codes that `encode` returns for a label that is not among the levels, and for a missing label."""


class _Label(Enum):
    NO_GROUP = "no group"

    def __str__(self) -> str:
        return str(self.value)


NO_LABEL = pd.Index([_Label.NO_GROUP], dtype=object)
"""The label of the single group that holds all rows if they are read without groups."""

# A table of this many entries per row is still cheaper to fill than a hash table.
_TABLE_ENTRIES_PER_ROW = 4
LARGEST_EXACT = 2**53
"""Integers up to this size are exact in double precision."""
# pandas builds the hash table of an index at its first look-up. Before pandas 3, two threads that look up labels at the same
# time get errors or wrong positions.
_FIRST_LOOK_UP = Lock()
# Kinds of labels that pandas looks up by more than equality.
_PARSED = {
    "interval": pd.IntervalIndex,
    "period": pd.PeriodIndex,
    "datetime": pd.DatetimeIndex,
    "timedelta": pd.TimedeltaIndex,
}


def as_labels(groups: ArrayLike, n_samples: int | None = None) -> Labels:
    """Return the group labels as a one-dimensional array that pandas can factorize.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        Labels of any hashable kind, in a list, a NumPy array, or a pandas, polars or pyarrow column.
    n_samples : int or None, default=None
        The number of rows; None accepts any number.

    Returns
    -------
    labels : ndarray or pandas ExtensionArray of shape (n_samples,)
        The labels, missing ones included.

    Raises
    ------
    ValueError
        If the labels are not one-dimensional, or not one per row.
    """
    if isinstance(groups, str):
        raise ValueError(
            f"groups must hold one label per row; found the string {groups!r}. To name the column of X that holds the "
            f'labels, set group_feature={groups!r}, or random_effects="(1 | {groups})" of a MixedEffectsRegressor.'
        )
    if "GroupBy" in type(groups).__name__:
        key = getattr(groups, "keys", None)
        raise ValueError(
            f"groups must hold one label per row; found a {type(groups).__name__}. Pass the column of labels itself: "
            f"frame[{key if isinstance(key, str) else 'school'!r}]."
        )
    labels = as_array(groups)
    nested = labels.ndim == 1 and len(labels) > 0 and isinstance(labels[0], list | np.ndarray)
    if labels.ndim != 1 or nested:
        rows = "" if n_samples is None else f" for {n_samples} rows"
        shape = f"(n_samples, {len(labels[0])})" if nested else str(labels.shape)
        raise ValueError(
            f"groups must be one-dimensional, of shape (n_samples,), one label per row; found shape {shape}{rows}. "
            'Pass one column, such as frame["school"].'
        )
    if n_samples is not None and len(labels) != n_samples:
        raise ValueError(
            f"groups must hold one label per row: found groups of shape {labels.shape} for {n_samples} rows of data."
        )
    return labels


def as_array(groups: Any) -> Labels:
    """Return labels, or a column, in an array of a type that pandas can hash; missing labels become missing values."""
    if hasattr(groups, "to_native"):
        groups = groups.to_native()  # a column of narwhals
    if isinstance(groups, pd.Series | pd.Index):
        groups = groups.array if isinstance(groups.dtype, ExtensionDtype) else groups.to_numpy()
    if isinstance(groups, ExtensionArray):
        return _of_pyarrow(groups) if isinstance(groups.dtype, pd.ArrowDtype) else groups
    if isinstance(groups, list | tuple):
        return _of_list(groups)
    if isinstance(groups, np.ma.MaskedArray):
        labels = groups.data.astype(object)
        labels[np.ma.getmaskarray(groups)] = None
        return labels
    declared = getattr(groups, "type", getattr(groups, "dtype", None))
    declared_as = str(declared).lower()
    if declared is not None and declared_as.startswith("dictionary") and hasattr(groups, "cast"):
        # NumPy takes the codes of a pyarrow dictionary for labels if a label is missing.
        return as_array(groups.cast(declared.value_type))
    if declared_as.startswith("run_end_encoded"):
        from pyarrow.compute import run_end_decode

        return as_array(run_end_decode(groups))
    labels = np.asarray(groups)
    if labels.dtype.kind == "f" and declared_as.startswith(("int", "uint")):
        # NumPy converts integers of polars and pyarrow to floats if one is missing.
        return _of_list(groups.to_pylist() if hasattr(groups, "to_pylist") else groups.to_list())
    if labels.dtype.kind == "M" and declared_as.startswith("date") and not declared_as.startswith("datetime"):
        return labels.astype("datetime64[D]").astype(object)  # dates, as pandas reads them from pyarrow
    zone = getattr(declared, "tz", getattr(declared, "time_zone", None))
    if zone is not None and labels.dtype.kind == "M":
        # NumPy drops the time zone of polars and pyarrow, and keeps UTC.
        return pd.DatetimeIndex(labels).tz_localize("UTC").tz_convert(zone).array
    if labels.dtype.kind == "f" and labels.dtype.itemsize not in (4, 8):
        return labels.astype(np.float64)
    return labels if labels.dtype.isnative else labels.astype(labels.dtype.newbyteorder("="))


def _of_pyarrow(groups: Any) -> Labels:
    """Return labels of a pandas ArrowDtype in a type that pandas can look up among labels of NumPy and pandas types."""
    kind = groups.dtype.pyarrow_dtype
    if str(kind).startswith(("timestamp", "duration")):
        zone = getattr(kind, "tz", None)
        dtype = f"{groups.dtype.kind}8[{kind.unit}]" if zone is None else pd.DatetimeTZDtype(kind.unit, zone)
        return cast(Labels, groups.astype(dtype))
    # pandas cannot factorize a dictionary of pyarrow.
    return np.asarray(groups, dtype=object) if str(kind).startswith(("dictionary", "date")) else cast(Labels, groups)


def _of_list(groups: list[Any] | tuple[Any, ...]) -> Labels:
    """Return the labels of a list as an array, with exact integers beyond 2**53.

    pandas reads the list because NumPy would turn 1 into "1" in [1, "a"] and a list of tuples into a matrix. pandas turns
    integers beside floats or missing values into floats; if that could round one, the labels become objects.
    """
    labels = pd.Series(groups, dtype=None if len(groups) else object)
    if labels.dtype.kind == "f" and any(isinstance(label, Integral) and abs(int(label)) > LARGEST_EXACT for label in groups):
        labels = pd.Series(groups, dtype=object)
    return labels.array if isinstance(labels.dtype, pd.DatetimeTZDtype | pd.IntervalDtype) else labels.to_numpy()


def factorize(groups: ArrayLike, n_samples: int | None = None) -> tuple[np.ndarray, pd.Index]:
    """Return the code of each row's group and the levels that the codes stand for.

    Levels are sorted if they can be compared, so that the result does not depend on the order of the rows. Otherwise they
    are in order of appearance.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        Labels of any hashable kind; unused categories are ignored.
    n_samples : int or None, default=None
        The number of rows; None accepts any number.

    Returns
    -------
    codes : ndarray of shape (n_samples,), dtype intp
        Positions in `levels`.
    levels : pandas.Index of shape (n_groups,)
        The distinct labels, with the name of the column of labels.

    Raises
    ------
    ValueError
        If a label is missing, or the labels are not one per row.
    """
    codes, levels = _factorize(as_labels(groups, n_samples))
    return codes, levels.rename(getattr(groups, "name", None) or None)


def hashed_codes(labels: Labels) -> tuple[np.ndarray, pd.Index]:
    """Return the code of each label, -1 for a missing one, and the levels in order of appearance.

    Raises
    ------
    ValueError
        If labels are not hashable.
    """
    try:
        codes, levels = pd.factorize(cast(Any, labels))
    except (TypeError, NotImplementedError) as error:
        # pyarrow raises a NotImplementedError for structs and lists.
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise ValueError(f"groups must hold hashable labels; found {kind}: {error}.") from error
    return codes, pd.Index(levels, tupleize_cols=False)


def _factorize(labels: Labels) -> tuple[np.ndarray, pd.Index]:
    """Return codes and levels of an array of labels, as `factorize` does."""
    if isinstance(labels, pd.Categorical):
        refuse_missing(labels.codes)
        codes, used = factorize_by_table(labels.codes)
        return _sort_levels(codes, labels.categories.take(used))
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and len(labels):
        span = int(labels.max()) - int(labels.min())
        if span < _TABLE_ENTRIES_PER_ROW * len(labels):
            codes, used = factorize_by_table(labels)
            return codes, pd.Index(used)
    codes, levels = hashed_codes(labels)
    refuse_missing(codes)
    return _sort_levels(codes, levels)


def refuse_missing(codes: np.ndarray) -> None:
    """Raise an error if any code is negative, which stands for a missing label."""
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise ValueError(
            f"groups has {len(missing)} missing label(s) in {len(codes)} rows, the first in row {missing[0]}. "
            "Every row that is fitted must belong to a group: drop these rows, or give them a label of their own."
        )


def factorize_by_table(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and sorted levels of integers in a narrow range, from a table, which is cheaper than hashing."""
    if not len(labels):
        return np.empty(0, dtype=np.intp), labels
    wide = labels if labels.dtype.itemsize == 8 else labels.astype(np.int64)
    lowest = wide.min()
    codes = (wide - lowest if lowest != 0 else wide).astype(np.intp, copy=False)
    used = np.bincount(codes) > 0
    if not used.all():
        codes = (np.cumsum(used) - 1)[codes]
    return np.ascontiguousarray(codes), (np.flatnonzero(used).astype(wide.dtype) + lowest).astype(labels.dtype)


def sorting(levels: pd.Index) -> np.ndarray | slice:
    """Return the index that sorts levels, or a full slice if they are sorted or cannot be compared."""
    if not levels.is_monotonic_increasing:
        with suppress(TypeError):
            return np.asarray(levels.argsort(), dtype=np.intp)
    return slice(None)


def _sort_levels(codes: np.ndarray, levels: pd.Index) -> tuple[np.ndarray, pd.Index]:
    """Return codes and levels with the levels sorted, or unchanged if they cannot be compared."""
    order = sorting(levels)
    if isinstance(order, slice):
        return np.asarray(codes, dtype=np.intp), levels
    position = np.empty(len(order), dtype=np.intp)
    position[order] = np.arange(len(order))
    return position[codes], levels.take(order)


def encode(groups: ArrayLike, levels: pd.Index, n_samples: int | None = None) -> np.ndarray:
    """Return the position in `levels` of each row's label.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        The label of each row.
    levels : pandas.Index of shape (n_groups,)
        The levels of the fit.
    n_samples : int or None, default=None
        The number of rows; None accepts any number.

    Returns
    -------
    codes : ndarray of shape (n_samples,), dtype intp
        Positions in `levels`; `UNSEEN` (-1) for a label that is not among them, and `MISSING` (-2) for a missing label.
    """
    labels = as_labels(groups, n_samples)
    if isinstance(labels, pd.Categorical):
        # The code of a missing label is -1, which selects the last entry.
        category_codes = np.append(positions(levels, labels.categories), MISSING)
        return np.asarray(category_codes[labels.codes])
    codes = positions(levels, pd.Index(labels))
    if (codes < 0).any():
        codes = np.where(pd.isna(labels), MISSING, codes)
    return codes


def any_unseen(codes: np.ndarray) -> np.ndarray:
    """Return which rows have a label that is not known, given the codes of one factor or a column of codes for each."""
    return np.asarray(codes == UNSEEN if codes.ndim == 1 else (codes == UNSEEN).any(axis=1))


def without_missing(codes: np.ndarray) -> np.ndarray:
    """Return which rows miss no label, given the codes of one factor or a column of codes for each."""
    return np.asarray(codes != MISSING if codes.ndim == 1 else (codes != MISSING).all(axis=1))


def all_known(codes: np.ndarray) -> np.ndarray:
    """Return which rows have known labels only, given the codes of one factor or a column of codes for each."""
    return np.asarray(codes >= 0 if codes.ndim == 1 else (codes >= 0).all(axis=1))


def positions(levels: pd.Index, labels: pd.Index) -> np.ndarray:
    """Return the position of each label among distinct levels, -1 for a label that is not among them.

    A label is found only if it equals a level: a number is not found in the interval that contains it, nor an integer beyond
    2**53 by the double nearest to it. Threads may look up labels in the same levels.

    Parameters
    ----------
    levels : pandas.Index of shape (n_groups,)
        Distinct labels.
    labels : pandas.Index of shape (n_labels,)
        The labels to look up.

    Returns
    -------
    positions : ndarray of shape (n_labels,), dtype intp
        Positions in `levels`.
    """
    kinds = _kind_of(levels), _kind_of(labels)
    if kinds[0] != kinds[1] and not {*kinds}.isdisjoint(_PARSED):
        if labels.dtype == object and _kind_of(inferred := labels.infer_objects()) == kinds[0]:
            return positions(levels, inferred)
        if object not in (levels.dtype, labels.dtype):
            return np.full(len(labels), UNSEEN, dtype=np.intp)
        # pandas would look for the interval that contains a number, and read a string as a time.
        levels, labels = levels.astype(object), labels.astype(object)
    elif kinds == ("number", "number") and levels.dtype.kind != labels.dtype.kind and (_large(levels) or _large(labels)):
        # pandas would round integers to doubles; Python compares them by value.
        levels, labels = levels.astype(object), labels.astype(object)
    with _FIRST_LOOK_UP:
        # Here either both indexes hold intervals or none does.
        if isinstance(levels, pd.IntervalIndex) and (
            levels.is_overlapping or levels.closed != getattr(labels, "closed", None)
        ):
            levels, labels = levels.astype(object), labels.astype(object)
        levels.get_indexer(levels[:1])
    return np.asarray(levels.get_indexer(labels), dtype=np.intp)


def _kind_of(labels: pd.Index) -> str:
    """Return the kind of labels as far as it matters to a look-up: one of _PARSED, "number" or "other"."""
    kind = next((name for name, index in _PARSED.items() if isinstance(labels, index)), None)
    return kind or ("number" if getattr(labels.dtype, "kind", "O") in "iuf" else "other")


def _large(numbers: pd.Index) -> bool:
    """Return whether an index holds numbers beyond the integers that are exact in double precision."""
    return len(numbers) > 0 and bool(numbers.min() < -LARGEST_EXACT or numbers.max() > LARGEST_EXACT)


def label_kind(labels: Labels | pd.Index) -> str:
    """Return the kind of labels in a few words: "number", "string", "datetime64", "datetime64 with time zone", ..."""
    values = labels.categories if isinstance(labels, pd.Categorical) else labels
    kind = str(pd.api.types.infer_dtype(values, skipna=True))
    if getattr(values.dtype, "tz", None) is not None:
        return f"{kind} with time zone"
    return "number" if kind in ("integer", "floating", "mixed-integer-float") else kind


def warn_of_twins(known: pd.Index, labels: pd.Index) -> None:
    """Warn if levels include both a number and its text, such as 1 and "1" or "01", because batches differ in type.

    Parameters
    ----------
    known : pandas.Index of shape (n_known,)
        The levels before the last rows were added; if none is new, there is no warning.
    labels : pandas.Index of shape (n_groups,)
        All levels.
    """
    if labels.dtype != object or len(known) == len(labels) or label_kind(labels) == "string":
        return
    is_string = np.fromiter((isinstance(label, str) for label in labels), dtype=bool, count=len(labels))
    strings, others = labels[is_string], labels[~is_string]
    reals = [label for label in others if isinstance(label, int | float | np.integer | np.floating)]
    numbers = [float(label) for label in reals if -(2**63) < label < 2**63]
    values = pd.to_numeric(pd.Series(strings), errors="coerce")
    twins = strings[strings.isin(others.map(str)) | values.isin(numbers)]
    if len(twins):
        warn_caller(
            f"{len(twins)} label(s) of groups are strings of labels of another type, as {twins[0]!r} is, and are treated as "
            "different groups. Pass labels of one type.",
        )


def has_groups(labels: pd.Index) -> bool:
    """Return whether distinct labels are labels of groups rather than `NO_LABEL`, the label of rows without groups."""
    return not len(labels) or labels[0] is not _Label.NO_GROUP
