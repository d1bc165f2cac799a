"""`Accumulator`: sums by group and scatter of rows that come in batches, in memory that does not grow with the rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

import numpy as np
import pandas as pd

from ._label_tables import HashedLabels, NumberedLabels
from ._labels import sorting
from ._rows import Rows, block_rows, in_rows, raise_not_finite
from ._sums import (
    LARGE,
    NUMBERS_PER_THREAD,
    SAMPLE,
    TOLERATED_LOSS,
    Adder,
    OwnSums,
    about_means,
    central_value,
    own_sums,
    sampled_variances,
    weighted_scatter,
)
from ._threads import threads

_MAX_THREADS = 8
# Each thread keeps its scatter about the points below this multiple of the scatter within groups, and the points are kept
# as long as the scatter is below a quarter of that, so that every new limit is at least four times the last.
_MAX_RATIO = 4 * TOLERATED_LOSS


class Result(NamedTuple):
    """What rows came to: the fields of `GroupedMoments` of the same names."""

    labels: pd.Index
    counts: np.ndarray
    center: np.ndarray
    deviations: np.ndarray
    within: np.ndarray


class Accumulator:
    """Reads batches of rows (x, y) into sums by group and a scatter matrix, on several threads while the next batch comes.

    Each group has a point f_j that is kept from batch to batch. With d_ij = z_ij - f_j, s_j = sum_i d_ij and
    S = sum_ij d_ij d_ij',

        m_j = f_j + s_j / n_j,    W = S - sum_j s_j s_j' / n_j,

    as in a single pass over all rows. f_j is the first row of the group. If a sample of the first batch shows that every
    column varies enough within groups, one point near the centre of that batch serves all groups instead, which saves the
    look-up of f_j.

    The difference loses digits if S is much larger than W, so S is kept below a limit, column by column:

        S_ii <= C W_ii,    where W_ii is that of rows already read, and C = 64 in each thread.

    Rows that are still to come can only add to W. Therefore the W of any subset of the rows is a lower bound of the W of
    all rows, and no rounding of S leaves an error in W of more than (number of threads) * C * eps of the final W. The first
    limit comes from a sample of the first batch.

    A thread stops in front of a block of rows that would take its S past the limit. Once all threads are idle, the limit is
    raised if W has grown enough. If it has not, a run of the rows that are left is summarised about its own group means,
    without any difference of large numbers. If S stays below C / 4 times the W that now includes these rows, the summary is
    added to the sums. Otherwise the points are at fault. If one point serves all groups, each new group gets a point of its
    own from then on. If they have their own, W so far is put aside, the points move to the group means so that S and s_j
    are zero, and the summary is merged by the update of Chan, Golub and LeVeque (1983, equation 2.1),

        W += W_b + sum_j (n_a n_b / n) (m_b - m_a)(m_b - m_a)',    m = m_a + (n_b / n) (m_b - m_a),

    where a stands for the rows of group j so far, b for the new ones, and n = n_a + n_b.

    A point that has moved is stored as a value of the data and a small shift, which are subtracted one after the other:
    their sum would round the shift to the last digit of a value that may be far from zero.

    Threads take batches in turn and have sums of their own, and the limit changes only when all of them are idle, so that
    the result is the same from run to run. Rows have no weights here: a row of little weight could serve as the point of
    a group and be far away from all that counts.

    Use it as a context manager: `add` batches, then `finish`.
    """

    def __init__(self) -> None:
        self._table: NumberedLabels | HashedLabels = HashedLabels()
        self._center = np.zeros(0)
        self._reference: np.ndarray | None = None
        self._shift: np.ndarray | None = None
        self._met = np.zeros(0, dtype=bool)
        self._within = np.zeros((0, 0))
        self._limit = np.zeros(0)
        self._parts: list[_Part] = []
        self.n_batches = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._pool = self._stack.enter_context(threads(_MAX_THREADS))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def add(self, X: Any, y: np.ndarray, labels: Any, *, first: int, lasting: bool) -> None:
        """Read a batch, or leave it to a thread, whose error a later call raises.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_samples, n_features), list of columns, or None
        y : ndarray of shape (n_samples,), not empty
        labels : ndarray or pandas ExtensionArray of shape (n_samples,)
        first : int
            Which of all rows the first is, for errors.
        lasting : bool
            Whether the arrays stay as they are after the call. If they may change, all threads read the batch at once, and
            have read it when the call returns.
        """
        rows = Rows(X, y)
        with in_rows(first, len(rows)):
            codes = self._encode(labels, rows.n_columns)
            if not self._parts:
                self._start(rows, codes)
        if not self._in_pool(rows):
            parts = self._parts[:1]
        elif lasting:
            parts = [self._parts[self.n_batches % len(self._parts)]]
        else:
            parts = self._parts
        self._wait_for(parts)
        task = _Task(rows, codes, 0, len(rows), first)
        self._meet(task)
        self.n_batches += 1
        cuts = np.linspace(0, len(rows), len(parts) + 1).astype(int).tolist()
        for part, start, stop in zip(parts, cuts[:-1], cuts[1:], strict=True):
            self._submit(part, task._replace(start=start, stop=stop))
        if not lasting:
            self._wait_for(parts)

    def finish(self) -> Result:
        """Return what all batches come to; at least one must have been added."""
        self._wait_for(self._parts)
        sums, counts, scatter = self._total()
        used = counts > 0
        labels = self._table.labels(used)
        if not used.all():
            sums, counts = sums[used], counts[used]
        deviations, within = about_means(sums, scatter, counts)
        if self._shift is not None:
            deviations += self._shift[: len(used)][used]
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
        self._wait_for(self._parts)
        used = self._total().counts > 0
        labels = self._table.labels(used)
        for part in self._parts:
            part.keep(used)
        if self._reference is not None:
            self._reference, self._met = self._reference[: len(used)][used], self._met[: len(used)][used]
        if self._shift is not None:
            self._shift = self._shift[: len(used)][used]
        self._table = hashed = HashedLabels()
        hashed.append(labels)
        return hashed

    # ---- threads

    def _in_pool(self, rows: Rows) -> bool:
        """Return whether a batch is large enough for the threads."""
        return self._pool is not None and len(rows) * rows.n_columns >= NUMBERS_PER_THREAD

    def _submit(self, part: _Part, task: _Task) -> None:
        """Let a part read rows, on a thread if their batch is large enough."""
        about, offsets = self._center, []
        if self._reference is not None:
            about, offsets = np.zeros_like(self._center), [self._reference]
        if self._shift is not None:
            offsets.append(self._shift)
        arguments = task, about, offsets, self._table.size, self._limit
        if self._pool is not None and self._in_pool(task.rows):
            part.future = self._pool.submit(part.add, *arguments)
        else:
            part.add(*arguments)

    def _wait_for(self, parts: list[_Part]) -> None:
        """Wait until parts have read all their rows. If one of them has stopped, all parts finish before this returns."""
        for part in parts:
            part.wait()
        if all(part.left is None for part in parts):
            return
        while left := self._parts_with_rows_left():
            self._make_room()
            total = self._total()
            within = self._within.diagonal() + total.within_diagonal()
            if not self._raise_limit(total, within):
                self._read_carefully(left[0], total, within)
            for part in left:
                if part.left is not None:
                    self._submit(part, part.left)

    def _parts_with_rows_left(self) -> list[_Part]:
        """Return the parts that stopped in front of a limit, when all are idle."""
        for part in self._parts:
            part.wait()
        return [part for part in self._parts if part.left is not None]

    def _total(self) -> Sums:
        """Return the sums of all parts, which must be idle, of the groups in the order of their codes."""
        size, width = self._table.size, len(self._within)
        sums, counts, scatter = np.zeros((size, width)), np.zeros(size), np.zeros((width, width))
        for part in self._parts:
            of_part = part.sums[:size]
            sums[: len(of_part)] += of_part[:, :width]
            counts[: len(of_part)] += of_part[:, width]
            scatter += part.scatter[:width, :width]
        return Sums(sums, counts, (scatter + scatter.T) / 2)

    # ---- the limit

    def _start(self, rows: Rows, codes: np.ndarray) -> None:
        """Choose a point near the centre of the first batch, whether it can serve all groups, and the first limit."""
        n_parts = self._pool.n_threads if self._pool else 1
        width = rows.n_columns
        self._parts = [_Part(width) for _ in range(n_parts)]
        self._within = np.zeros((width, width))
        member = np.zeros(self._table.size, dtype=np.intp)
        member[codes] = np.arange(len(codes))
        self._center = central_value(rows.at(np.unique(member[codes[:SAMPLE]])))
        # Some rows, and another row of the group of each. W of much fewer rows than a quarter of a block would be so small
        # that a block of ordinary rows exceeds the limit.
        n_sampled = min(len(rows), max(SAMPLE, block_rows(width) // 4))
        sample = np.linspace(0, len(rows) - 1, n_sampled).astype(np.intp)
        sample = np.unique(np.concatenate([sample, member[codes[sample]]]))
        within = own_sums(rows.at(sample), codes[sample]).within.diagonal()
        if not np.isfinite(within).all():
            raise_not_finite(rows.X, rows.y)
        self._limit = _limit(within)
        variances = sampled_variances(rows, codes, member) if len(rows) * width >= LARGE else None
        if variances is None or np.any(variances[0] > TOLERATED_LOSS / 2 * variances[1]):
            self._refer(np.zeros(self._table.size, dtype=bool))

    def _raise_limit(self, total: Sums, within: np.ndarray) -> bool:
        """Raise the limit to C times W so far; return False if the points do not serve, or W has hardly grown.

        Parameters
        ----------
        total : Sums
            Those of all parts.
        within : ndarray of shape (n_columns,)
            The diagonal of W so far.
        """
        limit = _limit(within)
        if np.any(total.scatter.diagonal() > limit / 4) or not np.any(limit > 2 * self._limit):
            return False
        self._limit = np.maximum(self._limit, limit)
        return True

    def _read_carefully(self, part: _Part, total: Sums, within: np.ndarray) -> None:
        """Read a run of the rows that a part has left about their own group means, and raise the limit.

        Parameters
        ----------
        part : _Part
        total : Sums
            Those of all parts, before this run; overwritten.
        within : ndarray of shape (n_columns,)
            The diagonal of W before this run.
        """
        rows, codes, start, last, first = task = cast(_Task, part.left)
        # The sums of all groups are added up before each run, so its length grows with their number.
        stop = min(last, start + max(block_rows(rows.n_columns), self._table.size // 8))
        part.left = task._replace(start=stop) if stop < last else None
        new = own_sums(rows.at(np.arange(start, stop)), codes[start:stop])
        old_counts, width = total.counts[new.groups], rows.n_columns
        with np.errstate(over="ignore", invalid="ignore"):
            from_points = self._less_points(new)
            from_means = from_points - total.sums[new.groups] / np.maximum(old_counts, 1.0)[:, None]
            about_points = new.within + weighted_scatter(from_points, new.counts)
            merged = new.within + weighted_scatter(from_means, old_counts * new.counts / (old_counts + new.counts))
        within = within + merged.diagonal()
        if not np.isfinite(within).all():
            with in_rows(first, len(rows)):
                raise_not_finite(rows.X, rows.y)
        self._limit = np.maximum(self._limit, _limit(within))
        with np.errstate(over="ignore"):
            points_serve = np.all(total.scatter.diagonal() + about_points.diagonal() <= _limit(within) / 4)
        if not points_serve and self._reference is None:
            part.left = task
            self._refer(total.counts > 0)
            return
        part.sums = _grown(part.sums, self._table.size)
        part.sums[new.groups, width] += new.counts
        if points_serve:
            part.sums[new.groups, :width] += from_points * new.counts[:, None]
            part.scatter[:width, :width] += about_points
        else:
            self._settle(total)
            self._move_points(new, old_counts, from_means)
            self._within += merged

    # ---- the points f_j

    def _refer(self, met: np.ndarray) -> None:
        """Give each group a point of its own: the centre if it has rows already, and else the first of its rows left."""
        self._met, self._reference = met, np.tile(self._center, (len(met), 1))
        for part in self._parts:
            if part.left is not None:
                self._meet(part.left)

    def _make_room(self) -> None:
        """Make room for the points of all groups that the table of labels knows."""
        n_groups = self._table.size
        if self._reference is not None:
            self._reference, self._met = _grown(self._reference, n_groups), _grown(self._met, n_groups)
        if self._shift is not None:
            self._shift = _grown(self._shift, n_groups)

    def _meet(self, task: _Task) -> None:
        """Take the first row of each new group as its point, if groups have points of their own."""
        if self._reference is None:
            return
        self._make_room()
        new = task.start + np.flatnonzero(~self._met[task.codes[task.start : task.stop]])
        if len(new):
            # Of several assignments to a group the last counts: its first row's, from the end.
            of_group = task.codes[new[::-1]]
            self._reference[of_group] = task.rows.at(new[::-1])
            self._met[of_group] = True

    def _less_points(self, new: OwnSums) -> np.ndarray:
        """Return the means of new rows less the points of their groups."""
        difference = new.reference - (self._center if self._reference is None else self._reference[new.groups])
        if self._shift is not None:
            difference -= self._shift[new.groups]
        return difference + new.shifts

    def _settle(self, total: Sums) -> None:
        """Put W so far aside, and move the points to the means; `total` is overwritten."""
        used = total.counts > 0
        shifts, within = about_means(total.sums, total.scatter, np.where(used, total.counts, 1.0))
        self._within += within
        if self._shift is None:
            self._shift = np.zeros_like(cast(np.ndarray, self._reference))
        # The sums of groups without rows are zero.
        self._shift[: len(used)] += shifts
        for part in self._parts:
            part.sums[:, : len(self._within)], part.scatter[:] = 0.0, 0.0

    def _move_points(self, new: OwnSums, old_counts: np.ndarray, from_means: np.ndarray) -> None:
        """Move points from the means of the old rows to the means of old and new rows together.

        The reference is a value of the more numerous rows, because the shift from it is smaller and has less rounding.

        Parameters
        ----------
        new : OwnSums
        old_counts : ndarray of shape (n_new_groups,)
            Number of old rows in each group of the new ones.
        from_means : ndarray of shape (n_new_groups, n_columns)
            The means of the new rows less those of the old ones.
        """
        reference, shift = cast(np.ndarray, self._reference), cast(np.ndarray, self._shift)
        share = (new.counts / (old_counts + new.counts))[:, None]
        shift[new.groups] = np.where(
            share > 0.5, new.shifts - (1.0 - share) * from_means, shift[new.groups] + share * from_means
        )
        reference[new.groups] = np.where(share > 0.5, new.reference, reference[new.groups])


def _limit(within: np.ndarray) -> np.ndarray:
    """Return the limit of a thread's scatter for a diagonal of W; the sum over all threads is finite."""
    with np.errstate(over="ignore"):
        return np.minimum(_MAX_RATIO * within, np.finfo(np.float64).max / _MAX_THREADS)


class Sums(NamedTuple):
    """Sums by group and over all rows."""

    sums: np.ndarray
    counts: np.ndarray
    scatter: np.ndarray

    def within_diagonal(self) -> np.ndarray:
        """Return the diagonal of the scatter about the group means."""
        squares = np.einsum("jk,jk,j->k", self.sums, self.sums, 1.0 / np.maximum(self.counts, 1.0))
        return np.maximum(self.scatter.diagonal() - squares, 0.0)


class _Task(NamedTuple):
    """Rows to read: those of a batch between two positions, and which of all rows the first of the batch is."""

    rows: Rows
    codes: np.ndarray
    start: int
    stop: int
    first: int


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
        self.left: _Task | None = None

    def wait(self) -> None:
        """Wait for the rows that are being read, and raise their error."""
        if self.future is not None:
            future, self.future = self.future, None
            future.result()

    def add(self, task: _Task, about: np.ndarray, offsets: Sequence[np.ndarray], n_groups: int, limit: np.ndarray) -> None:
        """Add rows less some offsets, as `Adder.add` does, and keep the rows that the limit leaves as a task."""
        self.sums = _grown(self.sums, n_groups)
        rows, codes, start, stop, _ = task
        reached = self._adder.add(rows, start, stop, codes, None, about, offsets, self.sums, self.scatter, limit)
        self.left = task._replace(start=reached) if reached < stop else None

    def keep(self, which: np.ndarray) -> None:
        """Leave out the other groups."""
        self.sums = _grown(self.sums, len(which))[: len(which)][which]


def _grown(array: np.ndarray, length: int) -> np.ndarray:
    """Return an array with rows of zeros at its end, more than asked for where it grows often."""
    if length <= len(array):
        return array
    room = max(length, min(2 * len(array), len(array) + (1 << 18)))
    larger = np.zeros((room, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
