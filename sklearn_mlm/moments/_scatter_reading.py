"""Rows to the scatter of each group: group by group, in runs and threads, without cancellation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd

from .._typing import Floats
from ._reading import checked_moments, numbers_and_counts, rest_of, with_remainder
from ._remainder import KnownPart
from ._rows import GroupedRows, Rows, as_numbers, block_rows, predictors_as_numbers, rows_by_group
from ._scatter import ROUNDING_LENGTH, Scatter, project_out, runs_of_groups
from ._scatter_merging import merged_groups
from ._sums import NUMBERS_PER_THREAD, SAMPLE, add_by_group, central_value
from ._threads import threads

_Scatter = TypeVar("_Scatter", bound=Scatter)

# A group with more rows than this many numbers is read in pieces.
_MAX_NUMBERS = 1 << 22
_MAX_THREADS = 8


def read_scatter(rows: GroupedRows, slopes: Sequence[int]) -> Scatter:
    """Return the scatter of checked rows.

    The rows of each group are taken less one of them, less their mean, and less their projections on the slope columns, so
    that no sum of squares is a difference of larger ones.

    Parameters
    ----------
    rows : GroupedRows
        The rows to read.
    slopes : sequence of int
        Positions of the slope columns among the columns of x.

    Returns
    -------
    scatter : Scatter
        The record, one row per group.

    Raises
    ------
    ValueError
        As in `read_rows`.
    """
    numbers, n_rows, counts = numbers_and_counts(rows)
    n_groups, width = len(rows.levels), numbers.n_columns
    pieces = _pieces(rows, max(1, _MAX_NUMBERS // width))
    if pieces is not None:
        in_pieces = read_scatter(replace(rows, codes=pieces, levels=pd.RangeIndex(int(pieces.max()) + 1)), slopes)
        codes = np.empty(in_pieces.n_groups, dtype=np.intp)
        codes[pieces] = rows.codes
        moments = replace(in_pieces.moments, labels=rows.levels.take(codes))
        return merged_groups(replace(in_pieces, moments=moments), codes, rows.levels)
    deviations, factors = np.zeros((n_groups, width)), np.zeros((n_groups, len(slopes), width))
    order, first = rows_by_group(rows.codes, n_groups)
    center, rest = np.zeros(width), np.zeros((width, width))
    if n_groups:
        center = central_value(numbers.at(order[first[:-1]][:SAMPLE]))
    read = _Reader(numbers, rows.weights, tuple(slopes), order, first, center, deviations, factors)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _in_threads(read, runs_of_groups(first, block_rows(width)), len(rows) * width):
            rest += part
        within = rest + np.einsum("jra,jrb->ab", factors, factors, optimize=True)
    moments = checked_moments(rows, numbers, n_rows, counts, center, deviations, (within + within.T) / 2)
    return Scatter(moments, tuple(slopes), factors, (rest + rest.T) / 2)


def scatter_with_remainder(scatter: _Scatter, known: KnownPart, rows: GroupedRows) -> _Scatter:
    """Return a record with the remainder of y after a known part is subtracted, for which the rows are read again.

    The factors and the rest of such a record hold the remainder in place of y.
    """
    rest = read_scatter(rest_of(rows, known), scatter.slopes)
    moments = with_remainder(scatter.moments, known, rows, rest.moments)
    return replace(scatter, moments=moments, factors=rest.factors, rest=rest.rest)


class _Reader:
    """Reads blocks of groups into arrays of all groups.

    Parameters
    ----------
    rows : Rows
        The rows.
    weights : ndarray of shape (n_samples,) or None
        Row weights.
    slopes : tuple of int
        Positions of the slope columns.
    order, first : ndarray
        The rows group by group, as `rows_by_group` returns them.
    center : ndarray of shape (n_columns,)
        A central value of each column.
    deviations : ndarray of shape (n_groups, n_columns)
        Receives the group means less the centre.
    factors : ndarray of shape (n_groups, n_slopes, n_columns)
        Receives the factors.
    """

    def __init__(
        self,
        rows: Rows,
        weights: np.ndarray | None,
        slopes: tuple[int, ...],
        order: np.ndarray,
        first: np.ndarray,
        center: np.ndarray,
        deviations: Floats,
        factors: Floats,
    ):
        self.rows, self.weights, self.slopes = rows, weights, slopes
        self.order, self.first = order, first
        self.center, self.deviations, self.factors = center, deviations, factors

    def __call__(self, blocks: Sequence[slice]) -> Floats:
        """Read blocks of groups, and return the scatter that the groups' means and factors leave."""
        width = self.rows.n_columns
        rest = np.zeros((width, width))
        longest = max((int(self.first[groups.stop] - self.first[groups.start]) for groups in blocks), default=0)
        buffer = np.empty((longest, width))
        # NumPy's error state belongs to a thread.
        with np.errstate(over="ignore", invalid="ignore"):
            for groups in blocks:
                _, left = self.read(groups, buffer)
                rest += np.dot(left.T, left)
        return rest

    def read(self, groups: slice, buffer: Floats) -> tuple[np.ndarray, Floats]:
        """Store the means and factors of a block of groups, and return what they leave of the rows.

        Parameters
        ----------
        groups : slice
            Codes of the groups.
        buffer : ndarray of shape (n_rows, n_columns)
            Room for the rows of these groups.

        Returns
        -------
        codes : ndarray of shape (n_rows,)
            The group of each row, counted from the first of the block.
        left : ndarray of shape (n_rows, n_columns)
            What is left of the rows, times the roots of their weights; a part of the buffer.
        """
        starts = self.first[groups.start : groups.stop + 1]
        positions, at = self.order[starts[0] : starts[-1]], list(self.slopes)
        n_groups, sizes = len(starts) - 1, np.diff(starts)
        codes = np.repeat(np.arange(n_groups), sizes)
        block = buffer[: len(positions)]
        self.rows.read(positions, np.zeros(block.shape[1]), block)
        reference = block[starts[:-1] - starts[0]]
        shifts = np.zeros_like(reference)
        block -= reference.take(codes, axis=0, mode="clip")
        weights = np.ones(len(codes)) if self.weights is None else self.weights[positions]
        total = sizes if self.weights is None else np.bincount(codes, weights, n_groups)
        add_by_group(block, codes, weights, np.arange(len(codes) + 1), shifts)
        shifts /= total[:, None]
        block -= shifts.take(codes, axis=0, mode="clip")
        if self.weights is not None:
            block *= np.sqrt(weights)[:, None]
        rounding = ROUNDING_LENGTH * np.sqrt(total)[:, None] * np.abs(reference[:, at] + shifts[:, at])
        self.deviations[groups] = (reference - self.center) + shifts
        self.factors[groups] = project_out(block, codes, n_groups, self.slopes, rounding)
        return codes, block


def rests_of_groups(rows: GroupedRows, slopes: Sequence[int], center: np.ndarray) -> tuple[Floats, Floats]:
    """Return what each group contributes to the rest of the record of rows, and the group means.

    Parameters
    ----------
    rows : GroupedRows
        The rows.
    slopes : sequence of int
        Positions of the slope columns.
    center : ndarray of shape (n_columns,)
        The centre of the record.

    Returns
    -------
    rests : ndarray of shape (n_groups, n_columns, n_columns)
        The contributions.
    deviations : ndarray of shape (n_groups, n_columns)
        The means less the centre.
    """
    numbers = Rows(predictors_as_numbers(rows.X), as_numbers(rows.y, "y"))
    n_groups, width = len(rows.levels), numbers.n_columns
    order, first = rows_by_group(rows.codes, n_groups)
    deviations, factors = np.zeros((n_groups, width)), np.zeros((n_groups, len(slopes), width))
    reader = _Reader(numbers, rows.weights, tuple(slopes), order, first, center, deviations, factors)
    rests = np.zeros((n_groups, width * width))
    for groups in runs_of_groups(first, max(1, block_rows(width) // width)):
        buffer = np.empty((int(first[groups.stop] - first[groups.start]), width))
        codes, left = reader.read(groups, buffer)
        products = (left[:, :, None] * left[:, None, :]).reshape(len(left), -1)
        add_by_group(products, codes, np.ones(len(codes)), np.arange(len(codes) + 1), rests[groups])
    return rests.reshape(n_groups, width, width), deviations


def _in_threads(read: _Reader, blocks: list[slice], n_numbers: int) -> Iterator[Floats]:
    """Yield what `read` returns for the blocks, which threads share if there are enough numbers to read."""
    with threads(min(_MAX_THREADS, n_numbers // NUMBERS_PER_THREAD)) as pool:
        if pool is None:
            yield read(blocks)
        else:
            yield from pool.map(read, [blocks[at :: pool.n_threads] for at in range(pool.n_threads)])


def _pieces(rows: GroupedRows, most: int) -> np.ndarray | None:
    """Return codes of pieces of groups, of at most so many rows each; None if no group has more."""
    n_groups = len(rows.levels)
    sizes = np.bincount(rows.codes, minlength=n_groups)
    if not len(sizes) or sizes.max() <= most:
        return None
    order, first = rows_by_group(rows.codes, n_groups)
    n_pieces = -(-sizes // most)
    codes = np.empty(len(rows), dtype=np.intp)
    codes[order] = (
        np.repeat(np.cumsum(n_pieces) - n_pieces, sizes) + (np.arange(len(rows)) - np.repeat(first[:-1], sizes)) // most
    )
    return codes
