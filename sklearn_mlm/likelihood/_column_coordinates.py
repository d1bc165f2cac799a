"""`ColumnCoordinates`: affine maps of the columns of a record, which models of one or several factors share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .._typing import Floats
from ..moments._moments import rounding_scatter
from ._group_factors import GroupFactors, RandomDesign
from ._linalg import independent_columns, separate_between_columns, solve_positive, submatrix, zero_columns


@dataclass(frozen=True, eq=False)
class ColumnCoordinates:
    """Stores affine maps from the columns of a record to columns of unit length.

    A row (1, x, y) less the origin, times `map`, is the row (x, e) of the coordinates: k independent columns of unit length,
    and y less a crude fit. The columns with random coefficients are centred if the intercept is random too, and turned so
    that they have the same length in each block; so starts, tolerances and ranks mean the same in all units.

    Attributes
    ----------
    design : RandomDesign
        The random coefficients.
    fit_intercept : bool
        Whether the model has a fixed intercept.
    n_predictors : int
        Number of leading columns of x that have fixed effects.
    known_slopes : ndarray of shape (n_features,)
        The slopes of the remainder that stands for y, or zeros.
    origin : ndarray of shape (n_features + 1,)
        The grand mean of (x, y), or 0 without a fixed intercept.
    z_origin : ndarray of shape (n_features,)
        The grand mean of x.
    map : ndarray of shape (n_coefficients, k)
        The matrix that gives the columns x.
    crude : ndarray of shape (k,)
        The crude fit that is subtracted from y, with y in its unit.
    turn : ndarray of shape (n_random, q)
        The matrix that gives the columns with random coefficients: effects in the coordinates, times its transpose, are
        effects of the columns.
    blocks : tuple of tuple of int
        Positions in the coordinates of the random coefficients of each block.
    dropped : ndarray of int
        Positions of features that depend on the columns before them.
    dropped_random : tuple of int
        Positions of random coefficients whose columns depend on those before them in every group.
    outcome_constant : bool
        Whether y is constant.
    y_scale : float
        The unit of e, in units of y.
    log_scale : float
        Logarithm of the product of the k column lengths before scaling.
    noise : float
        The largest scatter of a remainder that is rounding of the rows; 0 without a remainder.
    """

    design: RandomDesign
    fit_intercept: bool
    n_predictors: int
    known_slopes: np.ndarray
    origin: np.ndarray
    z_origin: np.ndarray
    map: Floats
    crude: np.ndarray
    turn: Floats
    blocks: tuple[tuple[int, ...], ...]
    dropped: np.ndarray
    dropped_random: tuple[int, ...]
    outcome_constant: bool
    y_scale: float
    log_scale: float
    noise: float

    @property
    def rank(self) -> int:
        """Number k of independent fixed effects, including the intercept."""
        return len(self.crude)

    @cached_property
    def turn_from_origin(self) -> Floats:
        """The matrix that takes effects in the coordinates to effects of the columns, with the intercept at 0."""
        shift, columns = np.eye(len(self.design.columns)), self.design.columns
        for block in self.design.blocks:
            intercepts = [at for at in block if columns[at] is None]
            for at in block if intercepts else ():
                column = columns[at]
                if column is not None:
                    shift[intercepts[0], at] = -self.z_origin[column]
        return np.asarray(shift @ self.turn)


def scaled_scatter(factors: GroupFactors, of_groups: Floats, left: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the total scatter of the columns (1, x, y), their rest, both of columns of unit length, and the lengths.

    Columns whose scatter is the rounding of their values are 0.
    """
    record, chosen, leading = factors.scatter, factors.chosen, int(factors.fit_intercept)
    moments = record.moments
    total_weight = float(moments.counts.sum())
    own = np.pad(record.rest[np.ix_(chosen, chosen)], (leading, 0))
    total, rest = own + of_groups, own + left
    noise = np.zeros(len(total))
    noise[leading:] = rounding_scatter(total_weight, moments.grand_mean[chosen], total.diagonal()[leading:])
    zero_columns(total, total.diagonal() <= noise)
    zero_columns(rest, rest.diagonal() <= noise)
    if leading:
        # The columns are centred, so that the intercept is orthogonal to them.
        total[0] = total[:, 0] = 0.0
        total[0, 0] = total_weight
    scale = np.sqrt(np.where(total.diagonal() > 0, total.diagonal(), 1.0))
    both = np.outer(scale, scale)
    return total / both, rest / both, scale


class RegressionInRest(NamedTuple):
    """The columns of x after a turn, and the regression of y on them in the rest.

    Attributes
    ----------
    change : ndarray of shape (n_columns + 1, k + 1)
        The matrix that takes all columns (1, x, y) to the turned ones and y.
    varies : ndarray of shape (k,), bool
        Which of the turned columns vary in the rest.
    within : ndarray of shape (k, k)
        Their scatter there.
    slopes : ndarray of shape (k,)
        The slopes; 0 for columns that do not vary.
    residual, y_squares : float
        The residual sum of squares, and the scatter of y.
    """

    change: Floats
    varies: np.ndarray
    within: Floats
    slopes: Floats
    residual: float
    y_squares: float


def regression_in_rest(rest: Floats, kept: np.ndarray) -> RegressionInRest:
    """Return the turn of the columns kept after which they vary in the rest or not at all, and the regression there."""
    rotation, varies = separate_between_columns(submatrix(rest, kept))
    change = np.zeros((len(rest), len(kept) + 1))
    change[kept, :-1], change[-1, -1] = rotation, 1.0
    turned = change.T @ rest @ change
    inside, slopes = np.flatnonzero(varies), np.zeros(len(kept))
    slopes[inside] = solve_positive(submatrix(turned, inside), turned[inside, -1])
    residual = max(float(turned[-1, -1] - turned[-1, :-1] @ slopes), 0.0)
    within = turned[:-1, :-1].copy()
    zero_columns(within, ~varies)
    return RegressionInRest(change, varies, within, slopes, residual, float(turned[-1, -1]))


def turn_of(gram: Floats, design: RandomDesign) -> tuple[Floats, tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return the turn of the columns with random coefficients, the blocks of coordinates, and the columns left out.

    In each block the mean of R_j' R_j is the identity after the turn. A column that depends on those before it in all groups
    is left out.

    Parameters
    ----------
    gram : ndarray of shape (n_random, n_random)
        The mean over groups of the products of the columns with random coefficients.
    design : RandomDesign
        The random coefficients.

    Returns
    -------
    turn : ndarray of shape (n_random, q)
        The matrix of the turn.
    blocks : tuple of tuple of int
        Positions of the coordinates of each block.
    left_out : tuple of int
        Positions of the columns left out.
    """
    columns: list[Floats] = []
    blocks: list[tuple[int, ...]] = []
    left_out: list[int] = []
    for block in map(list, design.blocks):
        kept = [block[at] for at in independent_columns(gram[np.ix_(block, block)])]
        left_out += [at for at in block if at not in kept]
        if not kept:
            continue
        length = np.sqrt(gram[kept, kept])
        lower = np.linalg.cholesky(gram[np.ix_(kept, kept)] / np.outer(length, length))
        turned = np.zeros((len(gram), len(kept)))
        turned[kept] = np.linalg.inv(lower).T / length[:, None]
        blocks.append(tuple(range(len(columns), len(columns) + len(kept))))
        columns += list(turned.T)
    turn = np.array(columns).T if columns else np.zeros((len(gram), 0))
    return turn, tuple(blocks), tuple(left_out)
