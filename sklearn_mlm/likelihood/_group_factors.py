"""`GroupFactors`: the triangular factors of the groups of a record, in changing columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._typing import Floats
from ..moments._scatter import Scatter, project_out

# Numbers of a block of groups.
_BLOCK_NUMBERS = 1 << 17


@dataclass(frozen=True)
class RandomDesign:
    """Stores which columns have random coefficients, and which of these are correlated.

    Attributes
    ----------
    columns : tuple of int or None
        The position among the columns of x of each random coefficient's column; None for the intercept.
    blocks : tuple of tuple of int
        Positions of the coefficients in each block of correlated ones.
    """

    columns: tuple[int | None, ...]
    blocks: tuple[tuple[int, ...], ...]

    def with_intercept(self) -> np.ndarray:
        """Return whether the block of each coefficient has the intercept, so that its column may be centred."""
        found = np.zeros(len(self.columns), dtype=bool)
        for block in self.blocks:
            found[list(block)] = any(self.columns[at] is None for at in block)
        return found


@dataclass(frozen=True, eq=False)
class GroupRows:
    """Stores the triangular factor of each group's rows in the coordinates, with the groups along the last axis.

    Attributes
    ----------
    z : ndarray of shape (q, q, n_groups)
        R_j, the factor of the columns with random coefficients.
    xy : ndarray of shape (q, k + 1, n_groups)
        C_j, the fixed columns and y along the same unit vectors.
    left : ndarray of shape (k + 1, k + 1)
        Scatter of the fixed columns and y along other vectors than these, and not in the rest of the record.
    """

    z: Floats
    xy: Floats
    left: Floats

    @property
    def n_determined(self) -> int:
        """The number of random coefficients, over all groups, that rows of the group determine."""
        return int(np.count_nonzero((self.z != 0).any(axis=1)))


@dataclass(frozen=True, eq=False)
class GroupFactors:
    """Reads the triangular factors of the groups of a record block by block, with the columns counted from origins.

    Attributes
    ----------
    scatter : Scatter
        The record.
    design : RandomDesign
        The random coefficients.
    fit_intercept : bool
        Whether the model has a fixed intercept.
    n_predictors : int
        Number of leading columns of x that have fixed effects.
    origin : ndarray of shape (n_features + 1,)
        The point from which the fixed columns and y are counted.
    z_origin : ndarray of shape (n_features,)
        The point from which columns with random coefficients are counted, if the intercept is random too.
    """

    scatter: Scatter
    design: RandomDesign
    fit_intercept: bool
    n_predictors: int
    origin: np.ndarray
    z_origin: np.ndarray

    @property
    def chosen(self) -> list[int]:
        """Positions of the fixed columns and of y among the columns of the record."""
        return [*range(self.n_predictors), self.scatter.n_features]

    def blocks(self) -> Iterator[tuple[slice, Floats, Floats]]:
        """Yield blocks of groups.

        Yields
        ------
        groups : slice
            Positions of the groups.
        xy : ndarray of shape (n_block, n_slopes + 1, n_coefficients + 1)
            The products of the columns (1, x, y) with the unit vectors of each group.
        z : ndarray of shape (n_block, n_slopes + 1, n_random)
            The same of the columns with random coefficients.
        """
        moments, leading = self.scatter.moments, int(self.fit_intercept)
        n_vectors, width = self.scatter.factors.shape[1] + 1, leading + len(self.chosen)
        offset = moments.center - self.origin
        step = max(1, _BLOCK_NUMBERS // (n_vectors * width))
        for start in range(0, moments.n_groups, step):
            at = slice(start, min(start + step, moments.n_groups))
            length, factors = np.sqrt(moments.counts[at]), self.scatter.factors[at]
            xy = np.zeros((len(length), n_vectors, width))
            xy[:, 0, :leading] = length[:, None]
            xy[:, 0, leading:] = (moments.deviations[at] + offset)[:, self.chosen] * length[:, None]
            xy[:, 1:, leading:] = factors[:, :, self.chosen]
            z = np.zeros((len(length), n_vectors, len(self.design.columns)))
            z[:, 0] = self.means(at) * length[:, None]
            for i, column in enumerate(self.design.columns):
                if column is not None:
                    z[:, 1:, i] = factors[:, :, column]
            yield at, xy, z

    def means(self, groups: slice = slice(None)) -> Floats:
        """Return the means of the columns with random coefficients of some groups, of shape (n_groups, n_random)."""
        moments, centred = self.scatter.moments, self.design.with_intercept()
        means = np.ones((len(moments.counts[groups]), len(self.design.columns)))
        for at, column in enumerate(self.design.columns):
            if column is not None:
                about = self.z_origin[column] if centred[at] else 0.0
                means[:, at] = moments.deviations[groups, column] + (moments.center[column] - about)
        return means

    def products(self) -> tuple[Floats, Floats]:
        """Return the sums over groups of the products of the columns (1, x, y), and of those with random coefficients."""
        of_xy, of_z = np.zeros((len(self.chosen) + int(self.fit_intercept),) * 2), np.zeros((len(self.design.columns),) * 2)
        for _, xy, z in self.blocks():
            flat, flat_z = xy.reshape(-1, len(of_xy)), z.reshape(-1, len(of_z))
            of_xy += flat.T @ flat
            of_z += flat_z.T @ flat_z
        return of_xy, of_z

    def rows(self, change: Floats, turn: Floats) -> GroupRows:
        """Return the groups after a change of the fixed columns and a turn of those with random coefficients."""
        n_groups, q, width = self.scatter.n_groups, turn.shape[1], change.shape[1]
        rows = GroupRows(np.empty((q, q, n_groups)), np.empty((q, width, n_groups)), np.zeros((width, width)))
        for at, base_xy, base_z in self.blocks():
            xy, z = base_xy @ change, base_z @ turn
            if q < z.shape[1]:
                # What is orthogonal to the random coefficients belongs to the rest.
                pool = np.concatenate([xy, z], axis=2).reshape(-1, width + q)
                codes = np.repeat(np.arange(len(z)), z.shape[1])
                factors = project_out(pool, codes, len(z), range(width, width + q), np.zeros((len(z), q)))
                rows.left[:] += pool[:, :width].T @ pool[:, :width]
                xy, z = factors[:, :, :width], factors[:, :, width:]
            rows.z[:, :, at], rows.xy[:, :, at] = z.transpose(1, 2, 0), xy.transpose(1, 2, 0)
        return rows
