"""Rows to sums: the group means and the pooled within-group scatter, in threads, block by block, without cancellation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csc_array, issparse

from ._rows import Rows, block_rows
from ._threads import threads

# SciPy's product of a sparse and a dense matrix, which adds into its last argument: the one compiled scatter-add that takes
# whole rows and lets other threads run. It is private, and the public product allocates (n_groups, n_columns) per block.
try:
    from scipy.sparse._sparsetools import csc_matvecs
except ImportError:
    csc_matvecs = None


# Fewer numbers than this are read sooner than a second thread starts.
NUMBERS_PER_THREAD = 1 << 18
# The within scatter comes out as a difference where a group's reference row is far from its mean; more loss than this
# factor (4 bits) and the rows are read a second time, about the mean itself.
TOLERATED_LOSS = 16.0
# Numbers from which a sample of so many pairs of rows is worth looking at first.
LARGE = 1 << 16
SAMPLE = 1 << 10


def within_and_between(
    rows: Rows, codes: np.ndarray, counts: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a centre, the group means' deviations from it, and the pooled within-group scatter.

    Each group's rows are taken relative to a point f_j near them, d_ij = z_ij - f_j, and then

        m_j = f_j + mean_i d_ij,    W = sum_ij w_ij d_ij d_ij' - sum_j n_j mean(d_j) mean(d_j)'.

    With f_j one of the group's own rows, d_ij has no error where the column is constant in the group, and little where
    the group is far from zero or from other groups; the difference loses about one bit. Large data that vary enough
    within groups are spared the look-up of f_j: one point amid all rows does for them. Whatever f_j is, more loss than is
    tolerated shows in the result, and the rows are read again with a better f_j, the last of which is m_j.
    """
    n_groups, width = len(counts), rows.n_columns
    if len(rows) * width < LARGE and not issparse(rows.X):
        with np.errstate(over="ignore", invalid="ignore"):
            return _of_few(rows.at(slice(None)), codes, counts, weights)
    member = np.empty(n_groups, dtype=np.intp)
    member[codes] = np.arange(len(codes))
    center = central_value(rows.at(member[:SAMPLE]))
    with np.errstate(over="ignore", invalid="ignore"):
        if _varies_within(rows, codes, member):
            sums, scatter = _scatter(rows, codes, weights, n_groups, center)
            shifts, within = about_means(sums, scatter, counts)
            if loss_is_tolerable(scatter, within):
                return center, shifts, within
        reference, zero = rows.at(member), np.zeros(width)
        sums, scatter = _scatter(rows, codes, weights, n_groups, zero, reference)
        shifts, within = about_means(sums, scatter, counts)
        if not loss_is_tolerable(scatter, within):
            sums, scatter = _scatter(rows, codes, weights, n_groups, zero, reference, shifts)
            correction, within = about_means(sums, scatter, counts)
            shifts += correction
        reference -= center
        shifts += reference
    return center, shifts, within


def central_value(rows: np.ndarray) -> np.ndarray:
    """Return, of each column, the value nearest its mean: one of its values, so that a constant has no deviation."""
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = np.abs(rows - rows.mean(axis=0)).argmin(axis=0)
    return rows[nearest, np.arange(rows.shape[1])]


def sampled_variances(rows: Rows, codes: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the variance of each column over a sample of rows, and within groups by pairs of them; None of few pairs."""
    sample = np.linspace(0, len(codes) - 1, SAMPLE).astype(np.intp)
    other = member[codes[sample]]
    sample, other = sample[sample != other], other[sample != other]
    if len(sample) < SAMPLE // 8:
        return None
    values = rows.at(sample)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.var(axis=0), ((values - rows.at(other)) ** 2).mean(axis=0) / 2


def _varies_within(rows: Rows, codes: np.ndarray, member: np.ndarray) -> bool:
    """Return whether, by a sample of pairs of rows, every column varies within groups nearly as much as over all."""
    variances = sampled_variances(rows, codes, member)
    return variances is not None and bool(np.all(variances[0] <= TOLERATED_LOSS / 2 * variances[1]))


def about_means(sums: np.ndarray, scatter: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the group means and the scatter about them, from sums (overwritten) and the scatter about zero."""
    sums /= counts[:, None]
    return sums, scatter - weighted_scatter(sums, counts)


def loss_is_tolerable(scatter: np.ndarray, within: np.ndarray) -> bool:
    """Return whether the difference that `within` came from left it most of its digits, or is not finite anyway."""
    return not np.any(scatter.diagonal() > TOLERATED_LOSS * within.diagonal())


def weighted_scatter(rows: np.ndarray, weights: np.ndarray, about: np.ndarray | float = 0.0) -> np.ndarray:
    """Return sum_j w_j (r_j - a)(r_j - a)', symmetric to the last bit."""
    scatter = np.zeros((rows.shape[1], rows.shape[1]))
    step = block_rows(rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step] - about
        scatter += (block * weights[start : start + step, None]).T @ block
    return (scatter + scatter.T) / 2


def _scatter(
    rows: Rows, codes: np.ndarray, weights: np.ndarray | None, n_groups: int, about: np.ndarray, *offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted sums by group, and the scatter over all rows, of the rows less some offsets.

    Parameters
    ----------
    about : ndarray of shape (n_columns,)
        Taken off every row.
    *offsets : ndarray of shape (n_groups, n_columns)
        Taken off each group's rows, one after the other, which a sum of them would not do exactly.

    Returns
    -------
    sums : ndarray of shape (n_groups, n_columns)
    scatter : ndarray of shape (n_columns, n_columns)
    """
    n_columns = rows.n_columns

    def part(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        sums, scatter = np.zeros((n_groups, n_columns)), np.zeros((n_columns, n_columns))
        Adder(n_columns, n_columns).add(rows, start, stop, codes, weights, about, offsets, sums, scatter)
        return sums, scatter

    # Each thread needs sums of its own: more of them than a share of the rows would cost more than they save.
    useful = min(len(rows) * n_columns // NUMBERS_PER_THREAD, len(rows) // n_groups)
    totals = _in_threads(part, len(rows), useful)
    sums, scatter = totals[0]
    for more_sums, more_scatter in totals[1:]:
        sums += more_sums
        scatter += more_scatter
    return sums, (scatter + scatter.T) / 2


def _of_few(
    values: np.ndarray, codes: np.ndarray, counts: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `within_and_between` of so few rows, of shape (n_samples, n_columns), that they are a single block."""
    member = np.empty(len(counts), dtype=np.intp)
    member[codes] = np.arange(len(codes))
    reference = values[member]
    center = central_value(reference[:SAMPLE])
    pointers, ones = np.arange(len(codes) + 1), np.ones(len(codes)) if weights is None else weights
    shifts, offset = np.zeros_like(reference), reference
    # About a row of each group, and once more about the group means if the first difference has lost digits.
    for _ in range(2):
        # "clip" is faster than a check of the codes, which are in range.
        values -= offset.take(codes, axis=0, mode="clip")
        offset = np.zeros_like(reference)
        add_by_group(values, codes, ones, pointers, offset)
        scatter = values.T @ (values if weights is None else values * weights[:, None])
        offset, within = about_means(offset, (scatter + scatter.T) / 2, counts)
        shifts += offset
        if loss_is_tolerable(scatter, within):
            break
    return center, shifts + (reference - center), within


def add_by_group(block: np.ndarray, codes: np.ndarray, weights: np.ndarray, pointers: np.ndarray, sums: np.ndarray) -> None:
    """Add each row of a block, times its weight, to the sum of its group, in place.

    Parameters
    ----------
    block : ndarray of shape (n_rows, width)
    codes : ndarray of shape (n_rows,), dtype intp
        Positions of the groups in `sums`.
    weights : ndarray of shape (n_rows,)
    pointers : ndarray of shape (n_rows + 1,)
        0, 1, 2, ..., the column pointers of the sparse matrix that has an entry for each row.
    sums : ndarray of shape (n_groups, width)
        Contiguous, as the block: the compiled function gets them as vectors.
    """
    n_groups, width = sums.shape
    if csc_matvecs is None:
        sums += csc_array((weights, codes, pointers), shape=(n_groups, len(block))) @ block
        return
    assert block.flags.c_contiguous
    assert sums.flags.c_contiguous
    csc_matvecs(n_groups, len(block), width, pointers, codes, weights, block.ravel(), sums.ravel())


class Adder:
    """Adds rows to sums by group and to a scatter matrix, block by block, with buffers that are kept from call to call.

    Parameters
    ----------
    n_columns : int
        Of the rows.
    width : int
        Of the sums and the scatter. If it is larger, the first column too many counts the rows that have no weights.
    """

    def __init__(self, n_columns: int, width: int):
        self._n_columns = n_columns
        self._block, self._taken = np.zeros((0, width)), np.empty((0, n_columns))
        self._ones, self._pointers = np.ones(0), np.arange(1)
        self._lost = np.zeros((width, width))

    def _make_room(self, n_rows: int, width: int) -> None:
        """Make buffers for so many rows, or for a block of them."""
        length = min(n_rows, block_rows(width))
        if length > len(self._block):
            self._block = np.zeros((length, width))
            self._ones, self._pointers = np.ones(length), np.arange(length + 1)

    def add(
        self,
        rows: Rows,
        start: int,
        stop: int,
        codes: np.ndarray,
        weights: np.ndarray | None,
        about: np.ndarray,
        offsets: Sequence[np.ndarray],
        sums: np.ndarray,
        scatter: np.ndarray,
        limit: np.ndarray | None = None,
    ) -> int:
        """Add the rows between two positions, less offsets as in `_scatter`, and return the position after the last one.

        With a limit, of shape (n_columns,), rows are added up to the first block that would take the diagonal of the scatter
        past the limit, or would make it NaN.
        """
        width = sums.shape[1]
        inside = slice(0, self._n_columns)
        self._make_room(stop - start, width)
        self._block[:, self._n_columns : self._n_columns + 1] = weights is None
        if offsets and len(self._taken) < len(self._block):
            self._taken = np.empty((len(self._block), self._n_columns))
        diagonal = scatter.diagonal()[inside]
        # NumPy's error state belongs to a thread.
        with np.errstate(over="ignore", invalid="ignore"):
            for at, block in rows.blocks(start, stop, about, self._block):
                size = len(block)
                for offset in offsets:
                    block[:, inside] -= np.take(offset, codes[at], axis=0, out=self._taken[:size], mode="clip")
                weight = self._ones[:size] if weights is None else weights[at]
                # np.dot, since the operator @ keeps other threads waiting where the matrices are narrow.
                product = np.dot(block.T, block if weights is None else block * weight[:, None])
                # A comparison with NaN is false.
                if limit is not None and not (diagonal + product.diagonal()[inside] <= limit).all():
                    return at.start
                if limit is None:
                    scatter += product
                else:
                    # Kahan's sum: in a long stream blocks that are alike are rounded alike.
                    product -= self._lost
                    before = scatter.copy()
                    scatter += product
                    self._lost = (scatter - before) - product
                pointers = self._pointers[: size + 1]
                add_by_group(block, codes[at], weight, pointers, sums)
        return stop


def _in_threads(part: Callable[[int, int], Any], n_rows: int, useful: int) -> list[Any]:
    """Return what `part` gives for each of up to `useful` runs of rows, on as many threads as BLAS may use.

    The number follows BLAS so that whatever limits the threads of scikit-learn (OMP_NUM_THREADS, threadpoolctl, joblib's
    workers) limits these; while they run, BLAS is kept to one thread in each.
    """
    if useful < 2:
        return [part(0, n_rows)]
    with threads(useful) as pool:
        if pool is None:
            return [part(0, n_rows)]
        cuts = np.linspace(0, n_rows, pool.n_threads + 1).astype(int).tolist()
        return list(pool.map(part, cuts[:-1], cuts[1:]))


class OwnSums(NamedTuple):
    """Moments of some rows about values of their own.

    Attributes
    ----------
    groups : ndarray of shape (n_groups,)
        Codes of the groups that have rows.
    counts : ndarray of shape (n_groups,)
        Number of rows.
    reference : ndarray of shape (n_groups, n_columns)
        A row of each group.
    shifts : ndarray of shape (n_groups, n_columns)
        The means less the reference.
    within : ndarray of shape (n_columns, n_columns)
        The pooled scatter about the means.
    """

    groups: np.ndarray
    counts: np.ndarray
    reference: np.ndarray
    shifts: np.ndarray
    within: np.ndarray


def own_sums(values: np.ndarray, codes: np.ndarray) -> OwnSums:
    """Return the summary of rows, whose scatter is summed about the means themselves, so that no digits cancel.

    The means are subtracted twice, because the first time leaves the rounding of the sums.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
    codes : ndarray of shape (n_rows,)
        The group of each row.
    """
    local, groups = pd.factorize(codes)
    counts = np.bincount(local).astype(np.float64)
    member = np.empty(len(groups), dtype=np.intp)
    member[local] = np.arange(len(local))
    reference = values[member]
    shifts = np.zeros_like(reference)
    with np.errstate(over="ignore", invalid="ignore"):
        about = values - reference[local]
        for _ in range(2):
            sums = [np.bincount(local, weights=column, minlength=len(groups)) for column in about.T]
            means = np.column_stack(sums) / counts[:, None]
            shifts += means
            about -= means[local]
        return OwnSums(groups, counts, reference, shifts, weighted_scatter(about, np.ones(len(about))))
