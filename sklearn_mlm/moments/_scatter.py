"""`Scatter`: the record of each group's own cross-products, and the ways to read it and to merge it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd

from .._typing import Floats
from ._complaints import raise_not_finite
from ._label_tables import append_labels
from ._labels import factorize
from ._merging import merge
from ._moments import Moments
from ._reading import check_total_weight, refuse_vanishing_squares, rest_of, with_remainder
from ._remainder import KnownPart
from ._rows import GroupedRows, Rows, as_numbers, block_rows, predictors_as_numbers, rows_by_group
from ._sums import NUMBERS_PER_THREAD, SAMPLE, add_by_group, central_value
from ._threads import threads

_Scatter = TypeVar("_Scatter", bound="Scatter")

# A slope column does not vary in a group, given the slope columns before it, if that leaves this share of its length there.
_DEPENDENT_LENGTH = 64 * np.finfo(np.float64).eps
# Nor if it varies by no more than the rounding of its values.
_ROUNDING_LENGTH = 4 * np.finfo(np.float64).eps
# A group with more rows than this many numbers is read in pieces.
_MAX_NUMBERS = 1 << 22
_MAX_THREADS = 8

Slopes = str | int | Sequence[str | int]
"""Names or positions of slope columns."""


@dataclass(frozen=True, eq=False)
class Scatter:
    """Moments of rows (x, y), and each group's own products with some slope columns; `GroupedScatter` describes them."""

    moments: Moments
    slopes: tuple[int, ...]
    factors: np.ndarray
    rest: np.ndarray

    def __post_init__(self) -> None:
        # A model keeps its record, which must not change after the fit.
        for name in ("factors", "rest"):
            view = np.asarray(getattr(self, name)).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def labels(self) -> pd.Index:
        """The distinct group labels."""
        return self.moments.labels

    @property
    def outcome_name(self) -> str | None:
        """Name of y, if it has one."""
        return self.moments.outcome_name

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return self.moments.n_groups

    @property
    def n_features(self) -> int:
        """Number of columns of x."""
        return self.moments.n_features

    def about_slopes(self, slopes: np.ndarray | None = None) -> tuple[Self, np.ndarray]:
        """Return the record of (x, y - x'b), and b; the slopes b are by default those of the remainder, or 0."""
        known = np.zeros(self.n_features) if self.moments.remainder is None else self.moments.remainder.slopes
        moments, b = self.moments.about_slopes(slopes)
        to_rest = np.eye(self.n_features + 1)
        to_rest[:-1, -1] = known - b
        plain = not to_rest[:-1, -1].any()
        factors = self.factors if plain else self.factors @ to_rest
        rest = self.rest if plain else to_rest.T @ self.rest @ to_rest
        return replace(self, moments=moments, factors=factors, rest=rest), b

    def named(self, groups_name: Any, outcome_name: str | None) -> Self:
        """Return the same record with these names of the groups and of y."""
        return replace(self, moments=self.moments.named(groups_name, outcome_name))

    def renamed(self, names: Sequence[str]) -> Self:
        """Return the same record with other names of the columns of x."""
        return replace(self, moments=replace(self.moments, feature_names=tuple(names)))


def slope_positions(slopes: Slopes, names: tuple[str, ...] | None, n_features: int) -> tuple[int, ...]:
    """Return the positions of slope columns, which may be names; raise a ValueError for one that is not there."""
    chosen: list[Any] = [slopes] if isinstance(slopes, str | int | Integral) else list(slopes)
    shown = names or tuple(f"x{i}" for i in range(n_features))
    found = []
    for slope in chosen:
        if isinstance(slope, str) and shown.count(slope) == 1:
            found.append(shown.index(slope))
        elif isinstance(slope, Integral) and not isinstance(slope, bool) and -n_features <= int(slope) < n_features:
            found.append(int(slope) % n_features)
        else:
            raise ValueError(
                f"slopes must be names or positions of columns of X; found {slope!r}, and X has the columns "
                f"{', '.join(map(repr, shown[:12]))}."
            )
    return tuple(dict.fromkeys(found))


def project_out(rows: Floats, codes: np.ndarray, n_groups: int, slopes: Sequence[int], rounding: Floats) -> Floats:
    """Return the triangular factor of each group's rows with respect to some columns, and leave what it does not hold.

    This is modified Gram-Schmidt orthogonalisation over all groups at once. The factor has a row for each slope column: the
    products of all columns with the unit vector along what the slope columns before leave of it. A slope column that they
    leave nothing of has a row of zeros.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        The rows, contiguous. They are overwritten with what is left of them, in which the slope columns are exactly 0.
    codes : ndarray of shape (n_rows,), dtype intp
        The group of each row.
    n_groups : int
        Number of groups.
    slopes : sequence of int
        Positions of the slope columns.
    rounding : ndarray of shape (n_groups, n_slopes)
        Lengths that the rounding of its values could leave of each slope column.

    Returns
    -------
    factors : ndarray of shape (n_groups, n_slopes, n_columns)
        The factor of each group.
    """
    factors, pointers = np.zeros((len(slopes), n_groups, rows.shape[1])), np.arange(len(rows) + 1)
    limits = [
        np.maximum(_DEPENDENT_LENGTH * _lengths(rows[:, slope], codes, n_groups), rounding[:, at])
        for at, slope in enumerate(slopes)
    ]
    for factor, limit, slope in zip(factors, limits, slopes, strict=True):
        unit = rows[:, slope].copy()
        length = _lengths(unit, codes, n_groups)
        varies = length > limit
        unit *= (varies / np.where(varies, length, 1.0))[codes]
        # The sum of the rows of a group, each times its entry of the unit vector, is the product with that vector.
        add_by_group(rows, codes, unit, pointers, factor)
        rows -= unit[:, None] * factor.take(codes, axis=0, mode="clip")
        # Given the slope column, nothing of it is left but rounding.
        rows[:, slope] = 0.0
    return factors.transpose(1, 0, 2)


def _lengths(values: Floats, codes: np.ndarray, n_groups: int) -> Floats:
    """Return the length of the values of each group as a vector."""
    return np.asarray(np.sqrt(np.bincount(codes, values * values, n_groups)))


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
    numbers = Rows(predictors_as_numbers(rows.X), as_numbers(rows.y, "y"))
    n_groups, width = len(rows.levels), numbers.n_columns
    pieces = _pieces(rows, max(1, _MAX_NUMBERS // width))
    if pieces is not None:
        in_pieces = read_scatter(replace(rows, codes=pieces, levels=pd.RangeIndex(int(pieces.max()) + 1)), slopes)
        codes = np.empty(in_pieces.n_groups, dtype=np.intp)
        codes[pieces] = rows.codes
        moments = replace(in_pieces.moments, labels=rows.levels.take(codes))
        return _merged_groups(replace(in_pieces, moments=moments), codes, rows.levels)
    n_rows = np.bincount(rows.codes, minlength=n_groups)
    counts = n_rows.astype(np.float64) if rows.weights is None else np.bincount(rows.codes, rows.weights, n_groups)
    check_total_weight(counts)
    deviations, factors = np.zeros((n_groups, width)), np.zeros((n_groups, len(slopes), width))
    order, first = rows_by_group(rows.codes, n_groups)
    center, rest = np.zeros(width), np.zeros((width, width))
    if n_groups:
        center = central_value(numbers.at(order[first[:-1]][:SAMPLE]))
    read = _Reader(numbers, rows.weights, tuple(slopes), order, first, center, deviations, factors)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _in_threads(read, _blocks(first, block_rows(width)), len(rows) * width):
            rest += part
        within = rest + np.einsum("jra,jrb->ab", factors, factors, optimize=True)
    if not (np.isfinite(within.diagonal()).all() and np.isfinite(deviations.sum())):
        raise_not_finite(rows.columns_to_check(), rows.first_row)
    moments = Moments(
        labels=rows.levels,
        counts=counts,
        n_rows=n_rows,
        center=center,
        deviations=deviations,
        within=(within + within.T) / 2,
        sum_log_weight=0.0 if rows.weights is None else float(np.log(rows.weights).sum()),
        feature_names=rows.feature_names,
        outcome_name=rows.outcome_name,
    )
    refuse_vanishing_squares(moments, numbers)
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
        rounding = _ROUNDING_LENGTH * np.sqrt(total)[:, None] * np.abs(reference[:, at] + shifts[:, at])
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
    for groups in _blocks(first, max(1, block_rows(width) // width)):
        buffer = np.empty((int(first[groups.stop] - first[groups.start]), width))
        codes, left = reader.read(groups, buffer)
        products = (left[:, :, None] * left[:, None, :]).reshape(len(left), -1)
        add_by_group(products, codes, np.ones(len(codes)), np.arange(len(codes) + 1), rests[groups])
    return rests.reshape(n_groups, width, width), deviations


def _blocks(first: np.ndarray, most: int) -> list[slice]:
    """Return runs of groups of about so many rows each, given where the groups begin."""
    n_groups, n_rows = len(first) - 1, int(first[-1])
    cuts = np.searchsorted(first, np.arange(0, n_rows, most), side="right") - 1
    edges = [*np.unique(cuts).tolist(), n_groups] if n_groups else []
    return [slice(start, stop) for start, stop in pairwise(edges)]


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


def merge_scatters(parts: Sequence[_Scatter]) -> _Scatter:
    """Return the scatter of the rows of all parts.

    Parameters
    ----------
    parts : sequence of Scatter
        Records with the same features and slopes. A group may have rows in several parts, and a part may have no rows.

    Returns
    -------
    scatter : Scatter
        The merged record, of the same class as the parts.

    Raises
    ------
    ValueError
        If there are no parts, or if their features or slopes differ.
    """
    moments = merge([part.moments for part in parts])
    slopes = {part.slopes for part in parts}
    if len(slopes) > 1:
        raise ValueError(f"Cannot merge records with the slopes {' and '.join(map(str, slopes))}. Read the same slopes.")
    filled = [part for part in parts if part.n_groups] or list(parts[:1])
    if len(filled) == 1:
        return filled[0]
    if moments.remainder is not None:
        known = moments.remainder.slopes
        return replace(merge_scatters([part.about_slopes(known)[0] for part in filled]), moments=moments)
    codes, levels = factorize(append_labels([part.moments.labels for part in filled]))
    center = moments.center
    deviations = [part.moments.deviations + (part.moments.center - center) for part in filled]
    of_parts = replace(
        filled[0].moments,
        labels=levels.take(codes),
        counts=np.concatenate([part.moments.counts for part in filled]),
        n_rows=np.concatenate([part.moments.n_rows for part in filled]),
        center=center,
        deviations=np.concatenate(deviations),
    )
    whole = replace(
        filled[0],
        moments=of_parts,
        factors=np.concatenate([part.factors for part in filled]),
        rest=sum((part.rest for part in filled), np.zeros_like(filled[0].rest)),
    )
    merged = _merged_groups(whole, codes, levels)
    return replace(merged, moments=replace(moments, within=merged.moments.within))


def _merged_groups(scatter: _Scatter, codes: np.ndarray, levels: pd.Index) -> _Scatter:
    """Return the record in which the groups of equal code are one group.

    The rows of two parts of a group are as good as their factors and one row for the difference of their means: the
    orthogonalisation of these rows gives the factor of both. What it leaves belongs to the rest.

    Parameters
    ----------
    scatter : Scatter
        A record of parts of groups.
    codes : ndarray of shape (n_parts,)
        The group of each part.
    levels : pandas.Index of shape (n_groups,)
        Labels of the groups.

    Returns
    -------
    scatter : Scatter
        The record of the groups.
    """
    moments, n_groups = scatter.moments, len(levels)
    order, first = rows_by_group(codes, n_groups)
    n_parts = np.diff(first)
    part = order[first[:-1]]
    counts, deviations, factors = moments.counts[part], moments.deviations[part], scatter.factors[part]
    rest, at = scatter.rest.copy(), list(scatter.slopes)
    for turn in range(1, int(n_parts.max(initial=1))):
        groups = np.flatnonzero(n_parts > turn)
        part = order[first[groups] + turn]
        n_a, n_b = counts[groups], moments.counts[part]
        apart = moments.deviations[part] - deviations[groups]
        between = np.sqrt(n_a * n_b / (n_a + n_b))[:, None] * apart
        pool = np.concatenate([between[:, None], factors[groups], scatter.factors[part]], axis=1)
        rounding = _ROUNDING_LENGTH * np.sqrt(n_a + n_b)[:, None] * np.abs(deviations[groups] + moments.center)[:, at]
        left = pool.reshape(-1, pool.shape[2])
        codes_of_pool = np.repeat(np.arange(len(groups)), pool.shape[1])
        factors[groups] = project_out(left, codes_of_pool, len(groups), scatter.slopes, rounding)
        rest += left.T @ left
        deviations[groups] += (n_b / (n_a + n_b))[:, None] * apart
        counts[groups] = n_a + n_b
    within = rest + np.einsum("jra,jrb->ab", factors, factors, optimize=True)
    merged = replace(
        moments,
        labels=levels,
        counts=counts,
        n_rows=np.bincount(codes, moments.n_rows, n_groups).astype(moments.n_rows.dtype),
        deviations=deviations,
        within=(within + within.T) / 2,
    )
    return replace(scatter, moments=merged, factors=factors, rest=(rest + rest.T) / 2)
