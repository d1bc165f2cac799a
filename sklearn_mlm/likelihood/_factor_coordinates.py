"""`FactorCoordinates`: columns in which the criterion of several grouping factors is well conditioned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._typing import Floats, Positions
from ..moments._scatter import Scatter
from ._column_coordinates import ColumnCoordinates, regression_in_rest, scaled_scatter, turn_of
from ._factor_sums import FactorRows
from ._group_factors import GroupFactors, RandomDesign
from ._linalg import SMALL_REST, independent_columns, solve_positive


@dataclass(frozen=True, eq=False)
class Factor:
    """Stores a grouping factor of a model.

    Attributes
    ----------
    name : str
        Its name, such as "school:class".
    codes : ndarray of shape (n_cells,)
        The level of each cell.
    n_levels : int
        Number of levels.
    coefficients : tuple of int
        Positions of its random coefficients in the design.
    """

    name: str
    codes: Positions
    n_levels: int
    coefficients: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class FactorCoordinates(ColumnCoordinates):
    """Stores affine maps from the columns of a record to columns in which the criterion is well conditioned.

    They are those of `ColumnCoordinates`, with y less its least-squares fit. The columns with random coefficients are turned
    so that the mean over the levels of their factor of the products of its rows is the identity in each block.

    Attributes
    ----------
    factor_columns : tuple of tuple of int
        Positions in the coordinates of the random coefficients of each factor.
    terms : float
        The larger of two scatters: that of y, and that of the terms whose sum is y.
    rows : FactorRows
        The rows of the cells.
    """

    factor_columns: tuple[tuple[int, ...], ...]
    terms: float
    rows: FactorRows

    def known_part(self) -> np.ndarray | None:
        """Return slopes to subtract from y in a second reading of the rows; None if the record has lost no digits of y."""
        left = float((self.rows.xy[:, -1] ** 2).sum() + self.rows.rest[-1, -1])
        if self.outcome_constant or not self.n_predictors or left >= SMALL_REST * self.terms:
            return None
        slopes = self.known_slopes.copy()
        slopes[: self.n_predictors] += self.y_scale * (self.map @ self.crude)[int(self.fit_intercept) :]
        return slopes


def factor_coordinates(
    scatter: Scatter,
    design: RandomDesign,
    factors: tuple[Factor, ...],
    *,
    fit_intercept: bool,
    n_predictors: int,
) -> FactorCoordinates:
    """Return the coordinates in which the criterion of a record is computed.

    Parameters
    ----------
    scatter : Scatter
        The record of the rows, whose groups are cells.
    design : RandomDesign
        The random coefficients of all factors.
    factors : tuple of Factor
        The factors.
    fit_intercept : bool
        Whether the model has a fixed intercept.
    n_predictors : int
        Number of leading columns of x that have fixed effects.

    Returns
    -------
    coordinates : FactorCoordinates
        The maps, and the rows of the cells in the coordinates.
    """
    remainder = scatter.moments.remainder
    record, known_slopes = scatter.about_slopes()
    moments, leading = record.moments, int(fit_intercept)
    mean = moments.grand_mean
    origin = mean if leading else np.zeros_like(mean)
    of_cells = GroupFactors(record, design, fit_intercept, n_predictors, origin, mean[:-1])
    xy, z, cells = _rows_of_cells(of_cells)
    total, rest, scale = scaled_scatter(of_cells, xy.T @ xy, np.zeros((xy.shape[1],) * 2))
    kept = independent_columns(total[:-1, :-1])
    change = regression_in_rest(rest, kept).change
    turned = change.T @ total @ change
    crude = solve_positive(turned[:-1, :-1], turned[:-1, -1])
    change = change / scale[:, None]
    change[:, -1] -= change[:, :-1] @ crude
    to_rest = change * scale[:, None]
    turn, blocks, dropped_random = turn_of(_mean_products(z, design, factors), design)
    columns = _columns_of_factors(blocks, design, dropped_random, factors)
    random = z @ turn
    rows = FactorRows(
        xy=xy @ change,
        z=tuple(np.ascontiguousarray(random[:, list(each)]) for each in columns),
        codes=tuple(factor.codes[cells] for factor in factors),
        n_levels=tuple(factor.n_levels for factor in factors),
        rest=to_rest.T @ rest @ to_rest,
    )
    nothing_left = bool(total[-1, -1] == 0.0)
    if nothing_left:
        rows.xy[:, -1] = 0.0
    left_out = np.ones(len(scale) - 1, dtype=bool)
    left_out[kept] = False
    return FactorCoordinates(
        design=design,
        fit_intercept=fit_intercept,
        n_predictors=n_predictors,
        known_slopes=known_slopes,
        origin=origin,
        z_origin=of_cells.z_origin,
        map=change[:-1, :-1],
        crude=crude,
        turn=turn,
        blocks=blocks,
        dropped=np.flatnonzero(left_out) - leading,
        dropped_random=dropped_random,
        outcome_constant=nothing_left and remainder is None,
        y_scale=float(scale[-1]),
        log_scale=float(np.log(scale[kept]).sum()),
        noise=0.0 if remainder is None else remainder.noise / scale[-1] ** 2,
        factor_columns=columns,
        terms=max(float(turned[-1, -1]), float(crude**2 @ turned[:-1, :-1].diagonal())),
        rows=rows,
    )


def rows_of_record(scatter: Scatter, here: FactorCoordinates, factors: tuple[Factor, ...]) -> FactorRows:
    """Return the rows of another record of the same columns in coordinates; what is orthogonal to all effects is left out.

    Parameters
    ----------
    scatter : Scatter
        The record.
    here : FactorCoordinates
        The coordinates.
    factors : tuple of Factor
        The factors, with the levels of the cells of that record.

    Returns
    -------
    rows : FactorRows
        The rows.
    """
    record, _ = scatter.about_slopes(here.known_slopes)
    of_cells = GroupFactors(record, here.design, here.fit_intercept, here.n_predictors, here.origin, here.z_origin)
    xy, z, cells = _rows_of_cells(of_cells)
    change = np.zeros((len(here.map) + 1, here.rank + 1))
    change[:-1, :-1], change[-1, -1] = here.map, 1.0 / here.y_scale
    change[:, -1] -= change[:, :-1] @ here.crude
    random = z @ here.turn
    return FactorRows(
        xy=xy @ change,
        z=tuple(np.ascontiguousarray(random[:, list(each)]) for each in here.factor_columns),
        codes=tuple(factor.codes[cells] for factor in factors),
        n_levels=tuple(factor.n_levels for factor in factors),
        rest=np.zeros((here.rank + 1,) * 2),
    )


def _rows_of_cells(of_cells: GroupFactors) -> tuple[Floats, Floats, Positions]:
    """Return the products of all columns with the unit vectors of each cell, and the cell of each of these rows."""
    parts = []
    for at, xy, z in of_cells.blocks():
        cells = np.repeat(np.arange(at.start, at.stop), xy.shape[1])
        xy, z = xy.reshape(-1, xy.shape[2]), z.reshape(-1, z.shape[2])
        some = xy.any(axis=1) | z.any(axis=1)
        parts.append((xy, z, cells) if some.all() else (xy[some], z[some], cells[some]))
    xy, z, cells = (np.concatenate(each) for each in zip(*parts, strict=True))
    return xy, z, cells


def _mean_products(z: Floats, design: RandomDesign, factors: tuple[Factor, ...]) -> Floats:
    """Return the products of the columns with random coefficients, over the number of levels of their factor."""
    n_levels = np.ones(len(design.columns))
    for factor in factors:
        n_levels[list(factor.coefficients)] = factor.n_levels
    return np.asarray(z.T @ z / np.sqrt(np.outer(n_levels, n_levels)))


def _columns_of_factors(
    blocks: tuple[tuple[int, ...], ...], design: RandomDesign, left_out: tuple[int, ...], factors: tuple[Factor, ...]
) -> tuple[tuple[int, ...], ...]:
    """Return the positions in the coordinates of the random coefficients of each factor, given the blocks that are left."""
    kept = [tuple(at for at in block if at not in left_out) for block in design.blocks]
    owner = [block[0] for block in kept if block]
    return tuple(
        tuple(at for first, block in zip(owner, blocks, strict=True) if first in factor.coefficients for at in block)
        for factor in factors
    )
