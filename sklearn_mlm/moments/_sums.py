"""Rows to sums: group means and the pooled within-group scatter, summed in blocks and threads without cancellation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from scipy.sparse import csc_array, csr_array, issparse

from .._typing import Positions
from ._rows import Rows, block_rows
from ._threads import threads

# SciPy's product of a sparse and a dense matrix, which adds to its last argument: the only compiled scatter-add that takes
# whole rows and lets other threads run. It is private; the public product allocates (n_groups, n_columns) for each block.
try:
    from scipy.sparse._sparsetools import csc_matvecs
except ImportError:
    csc_matvecs = None

# Fewer numbers than this are read before a second thread has started.
NUMBERS_PER_THREAD = 1 << 18
# The within scatter is a difference if a group's reference row is far from its mean. If the difference loses more than this
# factor (4 bits), the rows are read a second time, about the mean itself.
TOLERATED_LOSS = 16.0
# A sample of this many pairs of rows is examined first if the rows hold at least `LARGE` numbers.
LARGE = 1 << 16
SAMPLE = 1 << 10
# A sparse matrix of more columns than this, with at most this share of entries that are not 0, stays sparse.
MANY_COLUMNS, FEW_ENTRIES = 64, 0.05

_Result = TypeVar("_Result")


def within_and_between(
    rows: Rows, codes: np.ndarray, counts: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a centre, the group means' deviations from it, and the pooled within-group scatter.

    Each group's rows are taken relative to a point f_j near them, d_ij = z_ij - f_j, and then

        m_j = f_j + mean_i d_ij,    W = sum_ij w_ij d_ij d_ij' - sum_j n_j mean(d_j) mean(d_j)'.

    If f_j is one of the group's own rows, d_ij has no error in a column that is constant in the group, and little error in
    a group that is far from zero or from other groups; the difference loses about one bit. Large data that vary enough
    within groups skip the look-up of f_j: one central point serves all their groups. Whatever f_j is, a loss of digits shows
    in the result; if it is not tolerable, the rows are read again with a better f_j, and finally with m_j.

    Parameters
    ----------
    rows : Rows
        The rows z_ij = (x, y).
    codes : ndarray of shape (n_samples,)
        The group of each row.
    counts : ndarray of shape (n_groups,)
        Total weight n_j of each group.
    weights : ndarray of shape (n_samples,) or None
        Row weights w_ij; None if all are 1.

    Returns
    -------
    center : ndarray of shape (n_columns,)
        A central value of each column.
    deviations : ndarray of shape (n_groups, n_columns)
        The group means m_j less the centre.
    within : ndarray of shape (n_columns, n_columns)
        The scatter W.
    """
    n_groups, width = len(counts), rows.n_columns
    if len(rows) * width < LARGE and not issparse(rows.X):
        with np.errstate(over="ignore", invalid="ignore"):
            return _of_few(rows.at(slice(None)), codes, counts, weights)
    if issparse(rows.X) and rows.X.nnz <= FEW_ENTRIES * len(rows) * (width - 1) and width > MANY_COLUMNS:
        found = _of_sparse(rows, codes, counts, weights)
        if found is not None:
            return found
    member = np.empty(n_groups, dtype=np.intp)
    member[codes] = np.arange(len(codes))
    center = central_value(rows.at(member[:SAMPLE]))
    with np.errstate(over="ignore", invalid="ignore"):
        if len(rows) * width >= LARGE and _varies_within(rows, codes, member):
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


def _of_sparse(
    rows: Rows, codes: np.ndarray, counts: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return `within_and_between` of many columns with few entries, or None if the difference loses digits.

    Products of the columns are taken about 0, where the matrix stays sparse, and y about a central value. Indicators lose
    nothing by that, unless they vary little within groups.
    """
    n_rows, n_groups, width = len(rows), len(counts), rows.n_columns
    X, center = rows.X, np.zeros(width)
    center[-1] = central_value(rows.y[:SAMPLE, None])[0]
    w = np.ones(n_rows) if weights is None else weights
    y = rows.y - center[-1]
    by_group = csr_array((w, (codes, np.arange(n_rows))), shape=(n_groups, n_rows))
    sums = np.hstack([(by_group @ X).toarray(), (by_group @ y)[:, None]])
    weighted = csr_array(X.T.multiply(w))
    scatter = np.empty((width, width))
    scatter[:-1, :-1] = (weighted @ X).toarray()
    scatter[:-1, -1] = scatter[-1, :-1] = weighted @ y
    scatter[-1, -1] = (w * y) @ y
    shifts, within = about_means(sums, (scatter + scatter.T) / 2, counts)
    if not np.isfinite(within).all() or not loss_is_tolerable(scatter, within):
        return None
    return center, shifts, within


def central_value(rows: np.ndarray) -> np.ndarray:
    """Return the value of each column that is nearest its mean, so that a constant column deviates from it by exactly 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        nearest: Positions = np.abs(rows - rows.mean(axis=0)).argmin(axis=0)
    return rows[nearest, np.arange(rows.shape[1])]


def sampled_variances(rows: Rows, codes: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the variance of each column, overall and within groups, in a sample of pairs of rows; None of too few pairs."""
    sample = np.linspace(0, len(codes) - 1, SAMPLE).astype(np.intp)
    other = member[codes[sample]]
    sample, other = sample[sample != other], other[sample != other]
    if len(sample) < SAMPLE // 8:
        return None
    values = rows.at(sample)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.var(axis=0), ((values - rows.at(other)) ** 2).mean(axis=0) / 2


def _varies_within(rows: Rows, codes: np.ndarray, member: np.ndarray) -> bool:
    """Return whether every column varies within groups nearly as much as overall, judged by a sample of pairs of rows."""
    variances = sampled_variances(rows, codes, member)
    return variances is not None and bool(np.all(variances[0] <= TOLERATED_LOSS / 2 * variances[1]))


def about_means(sums: np.ndarray, scatter: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the group means, which overwrite the sums, and the scatter about them, given the scatter about zero."""
    sums /= counts[:, None]
    return sums, scatter - weighted_scatter(sums, counts)


def loss_is_tolerable(scatter: np.ndarray, within: np.ndarray) -> bool:
    """Return whether the difference that gave `within` kept most of its digits, or is not finite anyway."""
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
    rows : Rows
        The rows to sum.
    codes : ndarray of shape (n_samples,)
        The group of each row.
    weights : ndarray of shape (n_samples,) or None
        Row weights; None if all are 1.
    n_groups : int
        Number of groups.
    about : ndarray of shape (n_columns,)
        Offset that is subtracted from every row.
    *offsets : ndarray of shape (n_groups, n_columns)
        Offsets of the groups, subtracted one after the other: their sum would have been rounded.

    Returns
    -------
    sums : ndarray of shape (n_groups, n_columns)
        Weighted sums of each group.
    scatter : ndarray of shape (n_columns, n_columns)
        Weighted scatter about zero of the rows less the offsets.
    """
    n_columns = rows.n_columns

    def part(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        sums, scatter = np.zeros((n_groups, n_columns)), np.zeros((n_columns, n_columns))
        Adder(n_columns, n_columns).add(rows, start, stop, codes, weights, about, offsets, sums, scatter)
        return sums, scatter

    # Each thread has its own sums, which cost more than they save if the thread has fewer rows than groups.
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
    """Return `within_and_between` of few rows (overwritten), of shape (n_samples, n_columns), as a single block."""
    member = np.empty(len(counts), dtype=np.intp)
    member[codes] = np.arange(len(codes))
    reference = values[member]
    center = central_value(reference[:SAMPLE])
    pointers, ones = np.arange(len(codes) + 1), np.ones(len(codes)) if weights is None else weights
    shifts, offset = np.zeros_like(reference), reference
    # First about a row of each group, then about the group means if the first difference has lost digits.
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
        The rows, contiguous.
    codes : ndarray of shape (n_rows,), dtype intp
        Positions of the rows' groups in `sums`.
    weights : ndarray of shape (n_rows,)
        Row weights.
    pointers : ndarray of shape (n_rows + 1,)
        0, 1, 2, ..., the column pointers of the sparse matrix that has one entry for each row.
    sums : ndarray of shape (n_groups, width)
        The sums, contiguous: the compiled function takes them, and the block, as vectors.
    """
    n_groups, width = sums.shape
    if csc_matvecs is None:
        sums += csc_array((weights, codes, pointers), shape=(n_groups, len(block))) @ block
        return
    assert block.flags.c_contiguous
    assert sums.flags.c_contiguous
    csc_matvecs(n_groups, len(block), width, pointers, codes, weights, block.ravel(), sums.ravel())


class Adder:
    """Adds rows to sums by group and to a scatter matrix, block by block, in buffers that it keeps between calls.

    Parameters
    ----------
    n_columns : int
        Number of columns of the rows.
    width : int
        Number of columns of the sums and of the scatter. The first additional column, if any, counts rows without weights.
    """

    def __init__(self, n_columns: int, width: int):
        self._n_columns = n_columns
        self._block, self._taken = np.zeros((0, width)), np.empty((0, n_columns))
        self._ones, self._pointers = np.ones(0), np.arange(1)
        self._lost = np.zeros((width, width))

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
        """Add the rows from `start` to `stop`, less offsets as in `_scatter`, and return the position at which it stopped.

        With a limit, of shape (n_columns,), adding stops before the first block that would take the diagonal of the scatter
        above the limit or make it NaN.
        """
        width = sums.shape[1]
        inside = slice(0, self._n_columns)
        length = min(stop - start, block_rows(width))
        if length > len(self._block):
            self._block = np.zeros((length, width))
            self._ones, self._pointers = np.ones(length), np.arange(length + 1)
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
                # np.dot, because the operator @ blocks other threads if the matrices are narrow.
                product = np.dot(block.T, block if weights is None else block * weight[:, None])
                # A comparison with NaN is false.
                if limit is not None and not (diagonal + product.diagonal()[inside] <= limit).all():
                    return int(at.start)
                if limit is None:
                    scatter += product
                else:
                    # Kahan's sum, because similar blocks of a long stream have similar rounding errors.
                    product -= self._lost
                    before = scatter.copy()
                    scatter += product
                    self._lost = (scatter - before) - product
                add_by_group(block, codes[at], weight, self._pointers[: size + 1], sums)
        return stop


def _in_threads(part: Callable[[int, int], _Result], n_rows: int, useful: int) -> list[_Result]:
    """Return the results of `part` for up to `useful` runs of rows, on as many threads as BLAS may use.

    The number follows BLAS, so that the limits of scikit-learn's threads (OMP_NUM_THREADS, threadpoolctl, joblib's workers)
    apply. While the threads run, BLAS uses one thread in each.
    """
    if useful < 2:
        return [part(0, n_rows)]
    with threads(useful) as pool:
        if pool is None:
            return [part(0, n_rows)]
        cuts = np.linspace(0, n_rows, pool.n_threads + 1).astype(int).tolist()
        return list(pool.map(part, cuts[:-1], cuts[1:]))


class OwnSums(NamedTuple):
    """Moments of some rows about a row of each group.

    Attributes
    ----------
    groups : ndarray of shape (n_groups,)
        Codes of the groups that have rows.
    counts : ndarray of shape (n_groups,)
        Number of rows of each group.
    reference : ndarray of shape (n_groups, n_columns)
        One row of each group.
    shifts : ndarray of shape (n_groups, n_columns)
        Group means less the reference.
    within : ndarray of shape (n_columns, n_columns)
        Pooled scatter about the group means.
    """

    groups: np.ndarray
    counts: np.ndarray
    reference: np.ndarray
    shifts: np.ndarray
    within: np.ndarray


def own_sums(values: np.ndarray, codes: np.ndarray) -> OwnSums:
    """Return the moments of rows, summed about the group means themselves, so that no digits cancel.

    The means are subtracted twice, because the first time leaves the rounding error of the sums.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        The rows.
    codes : ndarray of shape (n_rows,)
        The group of each row.

    Returns
    -------
    sums : OwnSums
        The moments of the groups that have rows.
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
