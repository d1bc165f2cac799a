"""`Accumulator`: sums by group and scatter of rows that come in batches, in memory that does not grow with the rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ._groups import sorting
from ._label_table import HashedLabels, NumberedLabels
from ._rows import Rows, raise_not_finite
from ._scatter import (
    LARGE,
    NUMBERS_PER_THREAD,
    SAMPLE,
    TOLERATED_LOSS,
    Adder,
    about_means,
    central_value,
    loss_is_tolerable,
    sampled_variances,
    threads,
)

_MAX_THREADS = 8


class Result(NamedTuple):
    """What rows came to: the fields of `GroupedMoments` of the same names."""

    labels: pd.Index
    counts: np.ndarray
    center: np.ndarray
    deviations: np.ndarray
    within: np.ndarray


class Accumulator:
    """Reads batches of rows (x, y) into sums by group and a scatter matrix, on several threads while the next batch comes.

    With f_j a point near the rows of group j, kept from batch to batch, d_ij = z_ij - f_j, s_j = sum_i d_ij and
    S = sum_ij d_ij d_ij',

        m_j = f_j + s_j / n_j,    W = S - sum_j s_j s_j' / n_j,

    as where all rows are read at once. f_j is the group's first row; or, as long as samples of the batches show that the
    columns vary enough within groups, one point amid the first batch for all groups, which spares the look-up. Where the
    difference has come to cost digits after all, it is settled: W so far is put aside, and the f_j move to the means.

    Threads take batches in turn and have sums of their own, so that the result is the same from run to run. Rows have no
    weights here: those of a group's first row, or of one point for all groups, could lose any number of digits.

    Use it as a context manager: `add` batches, then `finish`.
    """

    def __init__(self) -> None:
        self._table: NumberedLabels | HashedLabels = HashedLabels()
        self._center = self._spread = np.zeros(0)
        self._reference: np.ndarray | None = None
        self._met = np.zeros(0, dtype=bool)
        self._within = np.zeros((0, 0))
        self._parts: list[_Part] = []
        self.n_batches = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._pool = self._stack.enter_context(threads(_MAX_THREADS))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def add(self, X: Any, y: np.ndarray, labels: Any, *, first: int, lasting: bool) -> None:
        """Read a batch, or leave it to a thread, whose error the next call raises.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_samples, n_features), list of columns, or None
        y : ndarray of shape (n_samples,), not empty
        labels : ndarray or pandas ExtensionArray of shape (n_samples,)
        first : int
            Which of all rows the first is, for errors.
        lasting : bool
            Whether the arrays stay as they are after the call. Where they may not, all threads read the batch at once, and
            have read it when the call returns.
        """
        rows = Rows(X, y)
        with in_rows(first, len(rows)):
            codes = self._encode(labels, rows.n_columns)
        if not self._parts:
            self._start(rows, codes)
        elif self._reference is None and self._strays(rows):
            self._settle()
        if self._reference is not None:
            self._reference = self._meet(self._reference, rows, codes)
        self.n_batches += 1
        arguments = rows, codes, self._center, self._reference, self._table.size, first
        if not self._pool or len(rows) * rows.n_columns < NUMBERS_PER_THREAD:
            self._parts[0].wait()
            self._parts[0].add(slice(0, len(rows)), *arguments)
        elif lasting:
            part = self._parts[self.n_batches % len(self._parts)]
            part.wait()
            part.future = self._pool.submit(part.add, slice(0, len(rows)), *arguments)
        else:
            cuts = np.linspace(0, len(rows), len(self._parts) + 1).astype(int).tolist()
            for part, start, stop in zip(self._parts, cuts[:-1], cuts[1:], strict=True):
                part.wait()
                part.future = self._pool.submit(part.add, slice(start, stop), *arguments)
            for part in self._parts:
                part.wait()
        # At 1, 2, 4, 8, ... batches.
        if self._reference is not None and self.n_batches & (self.n_batches - 1) == 0:
            self._settle_if_lossy()

    def finish(self) -> Result:
        """Return what all batches come to; at least one must have been added."""
        sums, counts, scatter = self._total()
        used = counts > 0
        labels = self._table.labels(used)
        if not used.all():
            sums, counts = sums[used], counts[used]
        deviations, within = about_means(sums, scatter, counts)
        if self._reference is not None:
            deviations += self._reference[: len(used)][used] - self._center
        order = sorting(labels)
        return Result(labels[order], counts[order], self._center, deviations[order], self._within + within)

    # ---- labels

    def _encode(self, labels: Any, width: int) -> np.ndarray:
        """Return the codes of labels, of whole numbers without looking them up as long as their range is narrow."""
        if not self._parts:
            self._table = NumberedLabels.starting_with(labels, width) or HashedLabels()
        codes = self._table.encode(labels)
        return self._hash_labels().encode(labels) if codes is None else codes

    def _hash_labels(self) -> HashedLabels:
        """Go over to labels that are looked up, without the slots that no row has used."""
        used = self._total().counts > 0
        labels = self._table.labels(used)
        for part in self._parts:
            part.keep(used)
        if self._reference is not None:
            self._reference, self._met = self._reference[: len(used)][used], self._met[: len(used)][used]
        self._table = hashed = HashedLabels()
        hashed.append(labels)
        return hashed

    # ---- the points f_j

    def _start(self, rows: Rows, codes: np.ndarray) -> None:
        """Choose the point amid the first batch, and whether it can serve for all groups."""
        n_parts = self._pool.n_threads if self._pool else 1
        width = rows.n_columns
        self._parts = [_Part(width) for _ in range(n_parts)]
        self._within = np.zeros((width, width))
        member = np.zeros(self._table.size, dtype=np.intp)
        member[codes] = np.arange(len(codes))
        self._center = central_value(rows.at(np.unique(member[codes[:SAMPLE]])))
        variances = sampled_variances(rows, codes, member) if len(rows) * width >= LARGE else None
        if variances is not None and np.all(variances[0] <= TOLERATED_LOSS / 2 * variances[1]):
            self._spread = variances[1]
        else:
            self._reference = self._refer()

    def _refer(self) -> np.ndarray:
        """Return points of the groups' own: the centre for those that have rows, until others are met."""
        self._met = np.zeros(self._table.size, dtype=bool)
        return np.tile(self._center, (self._table.size, 1))

    def _strays(self, rows: Rows) -> bool:
        """Return whether a batch lies so far from the centre that the difference would lose digits."""
        sample = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.intp)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = ((rows.at(sample) - self._center) ** 2).mean(axis=0)
        return bool(np.any(squares > TOLERATED_LOSS * self._spread))

    def _meet(self, reference: np.ndarray, rows: Rows, codes: np.ndarray) -> np.ndarray:
        """Return the points with the first row of each new group for its own."""
        n_groups = self._table.size
        if n_groups > len(self._met):
            self._met, reference = _grown(self._met, n_groups), _grown(reference, n_groups)
        new = np.flatnonzero(~self._met[codes])
        if len(new):
            # Of several assignments to a group the last counts: its first row's, from the end.
            of_group = codes[new[::-1]]
            reference[of_group] = rows.at(new[::-1])
            self._met[of_group] = True
        return reference

    def _settle_if_lossy(self) -> None:
        """Settle where the difference has lost digits."""
        total = self._total()
        squares = np.einsum("jk,jk,j->k", total.sums, total.sums, 1.0 / np.maximum(total.counts, 1e-300))
        scatter = total.scatter.diagonal()
        within = self._within.diagonal() + np.maximum(scatter - squares, 0.0)
        if not loss_is_tolerable(np.diag(self._within.diagonal() + scatter), np.diag(within)):
            self._settle()

    def _settle(self) -> None:
        """Put the scatter about the means aside, and take the means for the points."""
        total = self._total()
        used = total.counts > 0
        shifts, within = about_means(total.sums, total.scatter, np.where(used, total.counts, 1.0))
        self._within += within
        if self._reference is None:
            self._reference = self._refer()
        self._reference[: len(used)][used] += shifts[used]
        self._met[: len(used)] |= used
        for part in self._parts:
            part.sums[:, : len(self._within)], part.scatter[:] = 0.0, 0.0

    def _total(self) -> Sums:
        """Return the sums of all parts, when they are done, of the groups in the order of their codes."""
        size, width = self._table.size, len(self._within)
        sums, counts, scatter = np.zeros((size, width)), np.zeros(size), np.zeros((width, width))
        for part in self._parts:
            part.wait()
            of_part = part.sums[:size]
            sums[: len(of_part)] += of_part[:, :width]
            counts[: len(of_part)] += of_part[:, width]
            scatter += part.scatter[:width, :width]
        return Sums(sums, counts, (scatter + scatter.T) / 2)


class Sums(NamedTuple):
    """Sums by group and over all rows."""

    sums: np.ndarray
    counts: np.ndarray
    scatter: np.ndarray


class _Part:
    """The sums of one thread."""

    def __init__(self, width: int):
        # One column more counts rows, which elsewhere would be a memory access more for each row. BLAS takes longer for a
        # width of 3, 7 or 11 than for the next.
        padded = width + 1 + (width % 4 == 2)
        self.sums = np.zeros((0, padded))
        self.scatter = np.zeros((padded, padded))
        self._adder = Adder(width, padded)
        self.future: Future[None] | None = None

    def wait(self) -> None:
        """Wait for the rows that are being read, and raise their error."""
        if self.future is not None:
            future, self.future = self.future, None
            future.result()

    def add(
        self,
        which: slice,
        rows: Rows,
        codes: np.ndarray,
        center: np.ndarray,
        reference: np.ndarray | None,
        n_groups: int,
        first: int,
    ) -> None:
        """Add some rows of a batch, the first of which is one of all rows."""
        self.sums = _grown(self.sums, n_groups)
        about, offsets = (center, ()) if reference is None else (np.zeros_like(center), (reference,))
        self._adder.add(rows, which.start, which.stop, codes, None, about, offsets, self.sums, self.scatter)
        if not np.isfinite(self.scatter.diagonal()).all():
            with in_rows(first, len(rows)):
                raise_not_finite(rows.X, rows.y)

    def keep(self, which: np.ndarray) -> None:
        """Leave out the other groups."""
        self.sums = _grown(self.sums, len(which))[: len(which)][which]


@contextmanager
def in_rows(first: int, n_rows: int) -> Iterator[None]:
    """Say in errors among which of all rows they are."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"In rows {first} to {first + n_rows - 1}, counted from 0: {error}") from error


def _grown(array: np.ndarray, length: int) -> np.ndarray:
    """Return an array with rows of zeros at its end, more than asked for where it grows often."""
    if length <= len(array):
        return array
    room = max(length, min(2 * len(array), len(array) + (1 << 18)))
    larger = np.zeros((room, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
