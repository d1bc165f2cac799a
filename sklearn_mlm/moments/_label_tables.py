"""Group labels that come in batches, to codes that stay the same from batch to batch."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from ._labels import LARGEST_EXACT, Labels, factorize_by_table, hashed_codes, positions, refuse_missing

# Slots for the integers between the smallest and the largest label: this many per label of the first batch, or as many as
# fit into sums of this many numbers (64 MB).
_SLOTS_PER_LABEL, _SPARE_NUMBERS = 8, 1 << 23
_LARGEST = 1 << 62


class NumberedLabels:
    """Integers of a narrow range, coded by their distance from the smallest, so that nothing is looked up.

    The slot of an integer stays empty if no row has it as its label.

    Parameters
    ----------
    low, n_slots : int
        Labels have codes from `low` up to, but not including, `low + n_slots`.
    dtype : numpy dtype
        The type of the labels.
    """

    def __init__(self, low: int, n_slots: int, dtype: np.dtype[Any]):
        self._low = low
        self._n_slots = n_slots
        self._dtype = dtype
        self.size = 0

    @classmethod
    def starting_with(cls, labels: Labels, width: int) -> NumberedLabels | None:
        """Return a table that covers these labels with room on both sides.

        Parameters
        ----------
        labels : ndarray or pandas ExtensionArray of shape (n_samples,)
            The labels of the first batch.
        width : int
            The number of sums per slot.

        Returns
        -------
        table : NumberedLabels or None
            None unless the labels are integers of a narrow range.
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
        # Later batches may have lower labels; most ranges start from 0 or 1.
        start = 0 if 0 <= low <= span else low - min(span, n_slots - span)
        if start < -_LARGEST or start + n_slots > _LARGEST:
            return None
        return cls(start, n_slots, labels.dtype)

    def encode(self, labels: Labels) -> np.ndarray | None:
        """Return the codes of labels, or None if a label is outside the table."""
        if not (isinstance(labels, np.ndarray) and labels.dtype.kind in "iu"):
            return None
        low, high = int(labels.min()), int(labels.max())
        if low < self._low or high >= self._low + self._n_slots:
            return None
        if labels.dtype != self._dtype:
            both = np.result_type(labels.dtype, self._dtype)
            self._dtype = both if both.kind in "iu" else np.dtype(np.int64)
        self.size = max(self.size, high - self._low + 1)
        codes: np.ndarray = labels.astype(np.intp, copy=False)
        return codes - self._low if self._low else codes

    def labels(self, used: np.ndarray) -> pd.Index:
        """Return the labels of the used slots."""
        return cast(pd.Index, pd.Index((np.flatnonzero(used) + self._low).astype(self._dtype)))


class HashedLabels:
    """Labels of any kind, each of which gets the next code when it first occurs.

    A few indexes store the labels, each at least twice as large as the next. So n labels are hashed about log(n) times each,
    and not once per batch.
    """

    def __init__(self) -> None:
        self._indexes: list[pd.Index] = []

    @property
    def size(self) -> int:
        """The number of labels."""
        return sum(map(len, self._indexes))

    def encode(self, labels: Labels) -> np.ndarray:
        """Return the codes of labels, and add those that are new."""
        if isinstance(labels, pd.Categorical):
            refuse_missing(labels.codes)
            used = np.flatnonzero(np.bincount(labels.codes, minlength=len(labels.categories)))
            category_codes = np.zeros(len(labels.categories), dtype=np.intp)
            category_codes[used] = self._find(labels.categories.take(used))
            return np.asarray(category_codes[labels.codes])
        codes, distinct = hashed_codes(labels)
        refuse_missing(codes)
        return np.asarray(self._find(distinct)[codes])

    def _find(self, distinct: pd.Index) -> np.ndarray:
        """Return the codes of distinct labels, and add those that are new."""
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
        """Give the next codes to new, distinct labels."""
        self._indexes.append(labels)
        while len(self._indexes) > 1 and len(self._indexes[-2]) < 2 * len(self._indexes[-1]):
            last = self._indexes.pop()
            self._indexes[-1] = append_labels([self._indexes[-1], last])

    def labels(self, used: np.ndarray) -> pd.Index:
        """Return the labels of the used codes."""
        if not self._indexes:
            return pd.Index([])
        labels = append_labels(self._indexes)
        return labels if used.all() else labels[used]


def _find_in(index: pd.Index, labels: pd.Index) -> np.ndarray:
    """Return the positions of labels in an index, -1 for none; labels that Python holds equal, such as 1 and True, match."""
    kinds = {getattr(each.dtype, "kind", "O").replace("u", "i") for each in (index, labels)}
    if len(kinds) > 1 and not kinds <= {"i", "f"}:
        index, labels = index.astype(object), labels.astype(object)
    return positions(index, labels)


def append_labels(parts: list[pd.Index]) -> pd.Index:
    """Return all labels in one index, without the rounding of pandas, which turns integers of mixed types into floats."""
    names = {part.name for part in parts} - {None}
    name = names.pop() if len(names) == 1 else None
    if all(part.dtype == parts[0].dtype and part.dtype != object for part in parts) or _are_times(parts):
        return parts[0].append(parts[1:]).rename(name)
    if all(getattr(part.dtype, "kind", "O") in "iuf" for part in parts):
        exact = _common_numbers([part.to_numpy(dtype=f"{part.dtype.kind}8") for part in parts])
        if exact is not None:
            return cast(pd.Index, pd.Index(exact, name=name))
    values = np.concatenate([part.astype(object).to_numpy() for part in parts])
    return pd.Index(values, dtype=object, tupleize_cols=False, name=name)


def _are_times(parts: list[pd.Index]) -> bool:
    """Return whether all labels are dates and times in the same time zone or without one, or all are spans of time."""
    if all(isinstance(part, pd.TimedeltaIndex) for part in parts):
        return True
    zones = [part.tz for part in parts if isinstance(part, pd.DatetimeIndex)]
    return len(zones) == len(parts) and all(zone == zones[0] for zone in zones)


def _common_numbers(parts: list[np.ndarray]) -> np.ndarray | None:
    """Return numbers of several types in one type that holds all of them exactly, or None if there is none."""
    integers = [part for part in parts if part.dtype.kind != "f" and len(part)]
    low = min((int(part.min()) for part in integers), default=0)
    high = max((int(part.max()) for part in integers), default=0)
    if any(part.dtype.kind == "f" for part in parts):
        return np.concatenate(parts, dtype=np.float64) if low >= -LARGEST_EXACT and high <= LARGEST_EXACT else None
    for wide in (np.int64, np.uint64):
        limits = np.iinfo(wide)
        if limits.min <= low and high <= limits.max:
            return np.concatenate([part.astype(wide) for part in parts])
    return None
