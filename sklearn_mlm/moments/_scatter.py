"""`Scatter`: the record of each group's own cross-products, and the ways to read it and to merge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd

from .._typing import Floats
from ._moments import Moments
from ._sums import add_by_group

_Scatter = TypeVar("_Scatter", bound="Scatter")

# A slope column does not vary in a group, given the slope columns before it, if that leaves this share of its length there.
_DEPENDENT_LENGTH = 64 * np.finfo(np.float64).eps
# Nor if it varies by no more than the rounding of its values.
ROUNDING_LENGTH = 4 * np.finfo(np.float64).eps

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
        """Return the record of (x, y - x'b), and b.

        Parameters
        ----------
        slopes : ndarray of shape (n_features,) or None, default=None
            The slopes b; None takes those of the remainder, or 0 without one.

        Returns
        -------
        scatter : Scatter
            The record, without a remainder.
        slopes : ndarray of shape (n_features,)
            The slopes b.
        """
        known = np.zeros(self.n_features) if self.moments.remainder is None else self.moments.remainder.slopes
        moments, b = self.moments.about_slopes(slopes)
        to_rest = np.eye(self.n_features + 1)
        to_rest[:-1, -1] = known - b
        plain = not to_rest[:-1, -1].any()
        factors = self.factors if plain else self.factors @ to_rest
        rest = self.rest if plain else to_rest.T @ self.rest @ to_rest
        return replace(self, moments=moments, factors=factors, rest=rest), b

    def named(self, groups_name: Any, outcome_name: str | None) -> Self:
        """Return the same record with these names of the groups and of y.

        Parameters
        ----------
        groups_name : hashable or None
            Name of the group labels.
        outcome_name : str or None
            Name of y.

        Returns
        -------
        scatter : Scatter
            The record.
        """
        return replace(self, moments=self.moments.named(groups_name, outcome_name))

    def renamed(self, names: Sequence[str]) -> Self:
        """Return the same record with other names of the columns of x.

        Parameters
        ----------
        names : sequence of str
            A name for each column.

        Returns
        -------
        scatter : Scatter
            The record.
        """
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


def runs_of_groups(first: np.ndarray, most: int) -> list[slice]:
    """Return runs of groups of about so many rows each, given where the groups begin."""
    n_groups, n_rows = len(first) - 1, int(first[-1])
    cuts = np.searchsorted(first, np.arange(0, n_rows, most), side="right") - 1
    edges = [*np.unique(cuts).tolist(), n_groups] if n_groups else []
    return [slice(start, stop) for start, stop in pairwise(edges)]
