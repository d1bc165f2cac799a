"""Labels of groups that come in batches to codes that stay the same from batch to batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ._labels import factorize_by_table, hashed_codes, positions, refuse_missing

# Slots for whole numbers between the least and the largest label: so many for each label of the first batch, or as many as
# sums of so many numbers (64 MB) have room for.
_SLOTS_PER_LABEL, _SPARE_NUMBERS = 8, 1 << 23
_LARGEST = 1 << 62
# Whole numbers up to this size are doubles.
_EXACT = 2**53


class NumberedLabels:
    """Whole numbers of a narrow range, whose code is their distance from the least: nothing is looked up.

    Slots of numbers that no row has stay empty.

    Parameters
    ----------
    low, n_slots : int
        The labels that have codes are those from `low` up to, but not including, `low + n_slots`.
    dtype : numpy dtype
        Of the labels.
    """

    def __init__(self, low: int, n_slots: int, dtype: Any):
        self._low = low
        self._n_slots = n_slots
        self._dtype = dtype
        self.size = 0

    @classmethod
    def starting_with(cls, labels: Any, width: int) -> NumberedLabels | None:
        """Return such a table for labels like these and some about them, or None where they are no such labels.

        Parameters
        ----------
        labels : ndarray or pandas ExtensionArray of shape (n_samples,)
        width : int
            How many numbers are kept for each slot.
        """
        if not (isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and len(labels)):
            return None
        low, high = int(labels.min()), int(labels.max())
        span = high - low + 1
        spare = _SPARE_NUMBERS // width
        if span > max(spare, _SLOTS_PER_LABEL * len(labels)):
            return None
        n_slots = max(spare, _SLOTS_PER_LABEL * len(factorize_by_table(labels)[1]))
        if span > n_slots:
            return None
        # Later batches may have lower ones; numbers mostly start from 0 or 1.
        start = 0 if 0 <= low <= span else low - min(span, n_slots - span)
        if start < -_LARGEST or start + n_slots > _LARGEST:
            return None
        return cls(start, n_slots, labels.dtype)

    def encode(self, labels: Any) -> np.ndarray | None:
        """Return the codes of labels, or None where some have none."""
        if not (isinstance(labels, np.ndarray) and labels.dtype.kind in "iu"):
            return None
        low, high = int(labels.min()), int(labels.max())
        if low < self._low or high >= self._low + self._n_slots:
            return None
        if labels.dtype != self._dtype:
            both = np.result_type(labels.dtype, self._dtype)
            self._dtype = both if both.kind in "iu" else np.dtype(np.int64)
        self.size = max(self.size, high - self._low + 1)
        codes = labels.astype(np.intp, copy=False)
        return codes - self._low if self._low else codes

    def labels(self, used: np.ndarray) -> pd.Index:
        """Return the labels of the slots that are used."""
        return pd.Index((np.flatnonzero(used) + self._low).astype(self._dtype))


class HashedLabels:
    """Labels of any kind, which get the next code when they are first seen.

    They are kept in a few indexes, each at least twice as large as the next, so that new labels cost the hashing of
    their number, times its logarithm, and not that of all labels.
    """

    def __init__(self) -> None:
        self._indexes: list[pd.Index] = []

    @property
    def size(self) -> int:
        """How many labels there are."""
        return sum(map(len, self._indexes))

    def encode(self, labels: Any) -> np.ndarray:
        """Return the codes of labels."""
        if isinstance(labels, pd.Categorical):
            refuse_missing(labels.codes)
            used = np.flatnonzero(np.bincount(labels.codes, minlength=len(labels.categories)))
            of_category = np.zeros(len(labels.categories), dtype=np.intp)
            of_category[used] = self._find(labels.categories.take(used))
            return of_category[labels.codes]
        codes, distinct = hashed_codes(labels)
        refuse_missing(codes)
        return self._find(distinct)[codes]

    def _find(self, distinct: pd.Index) -> np.ndarray:
        """Return the codes of distinct labels, those new among them included."""
        codes = np.full(len(distinct), -1, dtype=np.intp)
        start = 0
        for index in self._indexes:
            unknown = np.flatnonzero(codes < 0)
            if not len(unknown):
                return codes
            found = _find_in(index, distinct.take(unknown))
            codes[unknown] = np.where(found >= 0, found + start, -1)
            start += len(index)
        new = np.flatnonzero(codes < 0)
        if len(new):
            codes[new] = start + np.arange(len(new))
            self.append(distinct.take(new))
        return codes

    def append(self, labels: pd.Index) -> None:
        """Give labels, none of which is known, the next codes."""
        self._indexes.append(labels)
        while len(self._indexes) > 1 and len(self._indexes[-2]) < 2 * len(self._indexes[-1]):
            last = self._indexes.pop()
            self._indexes[-1] = append_labels([self._indexes[-1], last])

    def labels(self, used: np.ndarray) -> pd.Index:
        """Return the labels of the codes that are used."""
        if not self._indexes:
            return pd.Index([])
        labels = append_labels(self._indexes)
        return labels if used.all() else labels[used]


def _find_in(index: pd.Index, labels: pd.Index) -> np.ndarray:
    """Return the positions of labels in an index, -1 for none; those equal by Python, as 1 and True, are the same."""
    kinds = {getattr(one.dtype, "kind", "O").replace("u", "i") for one in (index, labels)}
    if len(kinds) > 1 and not kinds <= {"i", "f"}:
        index, labels = index.astype(object), labels.astype(object)
    return positions(index, labels)


def append_labels(labels: list[pd.Index]) -> pd.Index:
    """Return all labels one after the other; pandas would make floats of integers of different types, and lose digits."""
    names = {one.name for one in labels} - {None}
    name = names.pop() if len(names) == 1 else None
    if all(one.dtype == labels[0].dtype and one.dtype != object for one in labels) or _are_times(labels):
        return labels[0].append(labels[1:]).rename(name)
    kinds = {getattr(one.dtype, "kind", "O") for one in labels}
    if kinds <= set("iuf"):
        exact = _common_numbers([one.to_numpy(dtype=f"{one.dtype.kind}8") for one in labels])
        if exact is not None:
            return pd.Index(exact, name=name)
    values = np.concatenate([one.astype(object).to_numpy() for one in labels])
    return pd.Index(values, dtype=object, tupleize_cols=False, name=name)


def _are_times(labels: list[pd.Index]) -> bool:
    """Return whether all labels are times without or in one time zone, or all are spans of time; of whatever units."""
    if all(isinstance(one, pd.TimedeltaIndex) for one in labels):
        return True
    zones = [one.tz for one in labels if isinstance(one, pd.DatetimeIndex)]
    return len(zones) == len(labels) and all(zone == zones[0] for zone in zones)


def _common_numbers(parts: list[np.ndarray]) -> np.ndarray | None:
    """Return numbers of several types in one type that holds all of them exactly, or None if there is none."""
    integers = [part for part in parts if part.dtype.kind != "f" and len(part)]
    low = min((int(part.min()) for part in integers), default=0)
    high = max((int(part.max()) for part in integers), default=0)
    if any(part.dtype.kind == "f" for part in parts):
        return np.concatenate(parts, dtype=np.float64) if low >= -_EXACT and high <= _EXACT else None
    for wide in (np.int64, np.uint64):
        limits = np.iinfo(wide)
        if limits.min <= low and high <= limits.max:
            return np.concatenate([part.astype(wide) for part in parts])
    return None
