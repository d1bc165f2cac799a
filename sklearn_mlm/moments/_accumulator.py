"""`Accumulator`: sums by group and scatter of rows that come in batches, in memory that does not grow with the rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import NamedTuple, Self, cast

import numpy as np

from ._complaints import raise_not_finite
from ._label_tables import HashedLabels, NumberedLabels
from ._labels import Labels, sorting
from ._moments import Moments
from ._rows import Rows, block_rows, in_rows
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
from ._threads import Pool, threads

_MAX_THREADS = 8
# Each thread keeps its scatter about the points below this multiple of the scatter within groups. The points are kept as
# long as the scatter is below a quarter of that, so that every new limit is at least four times the last.
_MAX_RATIO = 4 * TOLERATED_LOSS


class Accumulator:
    """Reads batches of rows (x, y) into sums by group and a scatter matrix, in threads while the next batch is prepared.

    Each group has a point f_j that is kept from batch to batch. With d_ij = z_ij - f_j, s_j = sum_i d_ij and
    S = sum_ij d_ij d_ij',

        m_j = f_j + s_j / n_j,    W = S - sum_j s_j s_j' / n_j,

    as in a single pass over all rows. f_j is the first row of the group. If a sample of the first batch shows that every
    column varies enough within groups, one point near the centre of that batch serves all groups instead, which saves
    looking up f_j for each row.

    The difference loses digits if S is much larger than W, so S is kept below a limit, column by column:

        S_ii <= C W_ii,    for the W of the rows read so far, and C = 64 in each thread.

    Further rows can only add to W. Therefore the W of any subset of the rows is a lower bound of the W of all rows, and no
    rounding of S leaves an error in W of more than (number of threads) * C * eps of the final W. The first limit comes from
    a sample of the first batch.

    A thread stops before a block of rows that would take its S past the limit. Once all threads are idle, the limit is
    raised if W has grown enough. If W has not grown enough, a run of the remaining rows is summarised about its own group
    means, without any difference of large numbers. If S stays below C / 4 times the W that now includes these rows, the
    summary is added to the sums. Otherwise the points are too far from the rows. If one point serves all groups, each group
    gets a point of its own. If groups have their own points, W so far is put aside, the points move to the group means so
    that S and s_j are zero, and the summary is merged by the update of Chan, Golub and LeVeque (1983, equation 2.1),

        W += W_b + sum_j (n_a n_b / n) (m_b - m_a)(m_b - m_a)',    m = m_a + (n_b / n) (m_b - m_a),

    where a stands for the rows of group j so far, b for the new ones, and n = n_a + n_b.

    A point that has moved is stored as a value of the data and a small shift, which are subtracted one after the other:
    their sum would round the shift to the last digit of a value that may be far from zero.

    Threads take batches in turn and have sums of their own, and the limit changes only when all of them are idle, so that
    the result is the same from run to run. Rows have no weights here: a row of little weight could become the point of a
    group and be far from the rows that matter.

    Use it as a context manager: `add` batches, then `finish`.
    """

    def __init__(self) -> None:
        self._table: NumberedLabels | HashedLabels = HashedLabels()
        self._center = np.zeros(0)
        self._reference: np.ndarray | None = None
        self._shift: np.ndarray | None = None
        self._has_point = np.zeros(0, dtype=bool)
        self._within = np.zeros((0, 0))
        self._limit = np.zeros(0)
        self._parts: list[_Part] = []
        self.n_batches = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._pool = self._stack.enter_context(threads(_MAX_THREADS))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, rows: Rows, labels: Labels, *, first: int, lasting: bool) -> None:
        """Read a batch, or hand it to a thread; a later call raises the thread's error.

        Parameters
        ----------
        rows : Rows
            The rows of the batch, at least one.
        labels : ndarray or pandas ExtensionArray of shape (n_samples,)
            The label of each row.
        first : int
            Position of the first row in the stream, for errors.
        lasting : bool
            Whether the arrays keep their values after the call. If they may change, all threads share the batch, and have
            read it when the call returns.
        """
        with in_rows(first, len(rows)):
            codes = self._encode(labels, rows.n_columns)
            if not self._parts:
                self._start(rows, codes, first)
        if self._pool_for(rows) is None:
            parts = self._parts[:1]
        elif lasting:
            parts = [self._parts[self.n_batches % len(self._parts)]]
        else:
            parts = self._parts
        self._wait_for(parts)
        task = _Task(rows, codes, 0, len(rows), first)
        self._set_points(task)
        self.n_batches += 1
        cuts = np.linspace(0, len(rows), len(parts) + 1).astype(int).tolist()
        for part, start, stop in zip(parts, cuts[:-1], cuts[1:], strict=True):
            self._submit(part, task._replace(start=start, stop=stop))
        if not lasting:
            self._wait_for(parts)

    def finish(self) -> Moments:
        """Return the moments of all batches, of which there must be at least one."""
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
        labels, counts, deviations = labels[order], counts[order], deviations[order]
        return Moments(labels, counts, counts.astype(np.intp), self._center, deviations, self._within + within)

    # ---- labels

    def _encode(self, labels: Labels, width: int) -> np.ndarray:
        """Return the codes of labels; integers are not looked up as long as their range is narrow."""
        if not self._parts:
            self._table = NumberedLabels.starting_with(labels, width) or HashedLabels()
        codes = self._table.encode(labels)
        return self._switch_to_hashed().encode(labels) if codes is None else codes

    def _switch_to_hashed(self) -> HashedLabels:
        """Switch from numbered to hashed labels, and drop unused slots."""
        self._wait_for(self._parts)
        used = self._total().counts > 0
        labels = self._table.labels(used)
        for part in self._parts:
            part.keep(used)
        if self._reference is not None:
            self._reference, self._has_point = self._reference[: len(used)][used], self._has_point[: len(used)][used]
        if self._shift is not None:
            self._shift = self._shift[: len(used)][used]
        self._table = hashed = HashedLabels()
        hashed.append(labels)
        return hashed

    # ---- threads

    def _pool_for(self, rows: Rows) -> Pool | None:
        """Return the threads if there are any and a batch is large enough for them."""
        return self._pool if len(rows) * rows.n_columns >= NUMBERS_PER_THREAD else None

    def _submit(self, part: _Part, task: _Task) -> None:
        """Let a part read rows, on a thread if their batch is large enough."""
        about, offsets = self._center, []
        if self._reference is not None:
            about, offsets = np.zeros_like(self._center), [self._reference]
        if self._shift is not None:
            offsets.append(self._shift)
        arguments = task, about, offsets, self._table.size, self._limit
        pool = self._pool_for(task.rows)
        if pool is None:
            part.add(*arguments)
        else:
            part.future = pool.submit(part.add, *arguments)

    def _wait_for(self, parts: list[_Part]) -> None:
        """Wait until parts have read all their rows. If one of them has stopped, all parts finish before this returns."""
        for part in parts:
            part.wait()
        if all(part.remaining is None for part in parts):
            return
        while stopped := self._stopped_parts():
            self._make_room()
            total = self._total()
            within = self._within.diagonal() + total.within_diagonal()
            if not self._raise_limit(total, within):
                self._read_about_means(stopped[0], total, within)
            for part in stopped:
                if part.remaining is not None:
                    self._submit(part, part.remaining)

    def _stopped_parts(self) -> list[_Part]:
        """Return the parts that stopped at a limit, once all are idle."""
        for part in self._parts:
            part.wait()
        return [part for part in self._parts if part.remaining is not None]

    def _total(self) -> Sums:
        """Return the sums over all parts, which must be idle, with groups in the order of their codes."""
        size, width = self._table.size, len(self._within)
        sums, counts, scatter = np.zeros((size, width)), np.zeros(size), np.zeros((width, width))
        for part in self._parts:
            part_sums = part.sums[:size]
            sums[: len(part_sums)] += part_sums[:, :width]
            counts[: len(part_sums)] += part_sums[:, width]
            scatter += part.scatter[:width, :width]
        return Sums(sums, counts, (scatter + scatter.T) / 2)

    # ---- the limit

    def _start(self, rows: Rows, codes: np.ndarray, first: int) -> None:
        """Choose a point near the centre of the first batch, test whether it serves all groups, and set the first limit."""
        n_parts = self._pool.n_threads if self._pool else 1
        width = rows.n_columns
        self._parts = [_Part(width) for _ in range(n_parts)]
        self._within = np.zeros((width, width))
        member = np.zeros(self._table.size, dtype=np.intp)
        member[codes] = np.arange(len(codes))
        self._center = central_value(rows.at(np.unique(member[codes[:SAMPLE]])))
        # Some rows, each with another row of its group. The W of far fewer rows than a quarter of a block would be so small
        # that a block of ordinary rows exceeds the limit.
        n_sampled = min(len(rows), max(SAMPLE, block_rows(width) // 4))
        sample = np.linspace(0, len(rows) - 1, n_sampled).astype(np.intp)
        sample = np.unique(np.concatenate([sample, member[codes[sample]]]))
        within = own_sums(rows.at(sample), codes[sample]).within.diagonal()
        if not np.isfinite(within).all():
            raise_not_finite(rows.columns_to_check(), first)
        self._limit = _limit(within)
        variances = sampled_variances(rows, codes, member) if len(rows) * width >= LARGE else None
        if variances is None or np.any(variances[0] > TOLERATED_LOSS / 2 * variances[1]):
            self._use_group_points(np.zeros(self._table.size, dtype=bool))

    def _raise_limit(self, total: Sums, within: np.ndarray) -> bool:
        """Raise the limit to C times W so far; return False if the points are too far off or W has hardly grown.

        Parameters
        ----------
        total : Sums
            Sums over all parts.
        within : ndarray of shape (n_columns,)
            The diagonal of W so far.

        Returns
        -------
        raised : bool
            Whether the limit was raised.
        """
        limit = _limit(within)
        if np.any(total.scatter.diagonal() > limit / 4) or not np.any(limit > 2 * self._limit):
            return False
        self._limit = np.maximum(self._limit, limit)
        return True

    def _read_about_means(self, part: _Part, total: Sums, within: np.ndarray) -> None:
        """Read a run of a part's remaining rows about their own group means, and raise the limit.

        Parameters
        ----------
        part : _Part
            A part that stopped at the limit.
        total : Sums
            Sums over all parts, before this run; overwritten.
        within : ndarray of shape (n_columns,)
            The diagonal of W before this run.
        """
        rows, codes, start, last, first = task = cast(_Task, part.remaining)
        # The sums of all groups are added up before each run, so its length grows with the number of groups.
        stop = min(last, start + max(block_rows(rows.n_columns), self._table.size // 8))
        part.remaining = task._replace(start=stop) if stop < last else None
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
                raise_not_finite(rows.columns_to_check(), first)
        self._limit = np.maximum(self._limit, _limit(within))
        with np.errstate(over="ignore"):
            points_serve = np.all(total.scatter.diagonal() + about_points.diagonal() <= _limit(within) / 4)
        if not points_serve and self._reference is None:
            part.remaining = task
            self._use_group_points(total.counts > 0)
            return
        part.sums = _grown(part.sums, self._table.size)
        part.sums[new.groups, width] += new.counts
        if points_serve:
            part.sums[new.groups, :width] += from_points * new.counts[:, None]
            part.scatter[:width, :width] += about_points
        else:
            self._move_to_means(total)
            self._move_points(new, old_counts, from_means)
            self._within += merged

    # ---- the points f_j

    def _use_group_points(self, has_rows: np.ndarray) -> None:
        """Give each group a point of its own: the centre if it has rows already, and otherwise its first remaining row."""
        self._has_point, self._reference = has_rows, np.tile(self._center, (len(has_rows), 1))
        for part in self._parts:
            if part.remaining is not None:
                self._set_points(part.remaining)

    def _make_room(self) -> None:
        """Make room for the points of all groups in the table of labels."""
        n_groups = self._table.size
        if self._reference is not None:
            self._reference, self._has_point = _grown(self._reference, n_groups), _grown(self._has_point, n_groups)
        if self._shift is not None:
            self._shift = _grown(self._shift, n_groups)

    def _set_points(self, task: _Task) -> None:
        """Take the first row of each new group as its point, if groups have points of their own."""
        if self._reference is None:
            return
        self._make_room()
        new = task.start + np.flatnonzero(~self._has_point[task.codes[task.start : task.stop]])
        if len(new):
            # The last of several assignments to a group takes precedence, so in reverse order its first row does.
            group_codes = task.codes[new[::-1]]
            self._reference[group_codes] = task.rows.at(new[::-1])
            self._has_point[group_codes] = True

    def _less_points(self, new: OwnSums) -> np.ndarray:
        """Return the means of new rows less the points of their groups."""
        difference = new.reference - (self._center if self._reference is None else self._reference[new.groups])
        if self._shift is not None:
            difference -= self._shift[new.groups]
        return np.asarray(difference + new.shifts)

    def _move_to_means(self, total: Sums) -> None:
        """Put W so far aside, and move the points to the group means; `total` is overwritten."""
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
            Sums of the new rows.
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
    """Return the limit of a thread's scatter for a diagonal of W, small enough for a finite sum over all threads."""
    with np.errstate(over="ignore"):
        return np.minimum(_MAX_RATIO * within, np.finfo(np.float64).max / _MAX_THREADS)


class Sums(NamedTuple):
    """Sums by group and the scatter over all rows, about the points."""

    sums: np.ndarray
    counts: np.ndarray
    scatter: np.ndarray

    def within_diagonal(self) -> np.ndarray:
        """Return the diagonal of the scatter about the group means."""
        squares = np.einsum("jk,jk,j->k", self.sums, self.sums, 1.0 / np.maximum(self.counts, 1.0))
        return np.asarray(np.maximum(self.scatter.diagonal() - squares, 0.0))


class _Task(NamedTuple):
    """Rows to read: those from `start` to `stop` of a batch whose first row is row `first` of the stream."""

    rows: Rows
    codes: np.ndarray
    start: int
    stop: int
    first: int


class _Part:
    """The sums of one thread."""

    def __init__(self, width: int):
        # An additional column counts rows, because a separate count would cost another memory access per row. BLAS is slower
        # for a width of 3, 7 or 11 than for the next.
        padded = width + 1 + (width % 4 == 2)
        self.sums = np.zeros((0, padded))
        self.scatter = np.zeros((padded, padded))
        self._adder = Adder(width, padded)
        self.future: Future[None] | None = None
        self.remaining: _Task | None = None

    def wait(self) -> None:
        """Wait for the rows that are being read, and raise the thread's error."""
        if self.future is not None:
            future, self.future = self.future, None
            future.result()

    def add(self, task: _Task, about: np.ndarray, offsets: Sequence[np.ndarray], n_groups: int, limit: np.ndarray) -> None:
        """Add rows less some offsets, as `Adder.add` does, and store the rows past the limit as the remaining task."""
        self.sums = _grown(self.sums, n_groups)
        rows, codes, start, stop, _ = task
        reached = self._adder.add(rows, start, stop, codes, None, about, offsets, self.sums, self.scatter, limit)
        self.remaining = task._replace(start=reached) if reached < stop else None

    def keep(self, used: np.ndarray) -> None:
        """Drop the groups that are not used."""
        self.sums = _grown(self.sums, len(used))[: len(used)][used]


def _grown(array: np.ndarray, length: int) -> np.ndarray:
    """Return an array with zeros appended to at least this length, with spare room so that it need not grow often."""
    if length <= len(array):
        return array
    room = max(length, min(2 * len(array), len(array) + (1 << 18)))
    larger = np.zeros((room, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
