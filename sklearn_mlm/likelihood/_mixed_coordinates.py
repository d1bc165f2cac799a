"""`MixedCoordinates`: columns in which the criterion of several random coefficients is well conditioned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .._typing import Floats
from ..moments._moments import rounding_scatter
from ..moments._scatter import Scatter
from ._group_factors import GroupFactors, GroupRows, RandomDesign
from ._group_products import between_at, crude_variances
from ._linalg import (
    DEPENDENT,
    SMALL_REST,
    independent_columns,
    separate_between_columns,
    solve_positive,
    submatrix,
    zero_columns,
)


@dataclass(frozen=True, eq=False)
class MixedCoordinates:
    """Stores affine maps from the columns of a record to columns in which the criterion is well conditioned.

    A row (1, x, y) less the origin, times `map`, is the row (x, e) of the coordinates: k independent columns of unit length,
    and y less a crude fit. A combination of columns that depends on the columns with random coefficients in every group is
    exactly 0 in the rest, so that the criterion keeps its digits if the variances of random coefficients grow. The columns
    with random coefficients are centred if the intercept is random too, and turned so that the mean of R_j' R_j over groups
    is the identity in each block; so starts, tolerances and ranks mean the same in all units.

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
    within : ndarray of shape (k, k)
        The rest of x.
    within_slopes : ndarray of shape (k,)
        Slopes of e on x in the rest; 0 for columns that are 0 there.
    within_residual : float
        Residual sum of squares of e in the rest.
    within_residual_zero : bool
        Whether that is rounding.
    outcome_constant : bool
        Whether y is constant.
    y_scale : float
        The unit of e, in units of y.
    log_scale : float
        Logarithm of the product of the k column lengths before scaling.
    rest_terms : float
        The larger of two scatters in the rest: that of y, and that of the terms whose sum is y.
    group_terms : float
        Sum of squares of y in the groups' unit vectors.
    noise : float
        The largest scatter of a remainder that is rounding of the rows; 0 without a remainder.
    rows : GroupRows
        The groups.
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
    within: np.ndarray
    within_slopes: np.ndarray
    within_residual: float
    within_residual_zero: bool
    outcome_constant: bool
    y_scale: float
    log_scale: float
    rest_terms: float
    group_terms: float
    noise: float
    rows: GroupRows

    @property
    def rank(self) -> int:
        """Number k of independent fixed effects, including the intercept."""
        return len(self.crude)

    def known_part(self, within_degrees_of_freedom: float) -> np.ndarray | None:
        """Return slopes to subtract from y in a second reading of the rows; None if the record has lost no digits of y.

        That is the case unless the fixed effects leave less than 1e-6 of the scatter of y, in the rest or in the groups.
        """
        left = float((self.rows.xy[:, -1] ** 2).sum())
        lost = within_degrees_of_freedom > 0 and self.within_residual < SMALL_REST * self.rest_terms
        if self.outcome_constant or not self.n_predictors or not (lost or left < SMALL_REST * self.group_terms):
            return None
        slopes = self.known_slopes.copy()
        best = np.where(self.within_slopes != 0, self.within_slopes + self.crude, self.crude)
        slopes[: self.n_predictors] += self.y_scale * (self.map @ best)[int(self.fit_intercept) :]
        return slopes

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

    def means_of_random_columns(self, scatter: Scatter) -> Floats:
        """Return the group means of the columns with random coefficients, of shape (n_groups, q)."""
        return np.asarray(self._factors(scatter).means() @ self.turn)

    def rows_of(self, scatter: Scatter) -> GroupRows:
        """Return the groups of another record of the same columns in these coordinates."""
        change = np.zeros((len(self.map) + 1, self.rank + 1))
        change[:-1, :-1], change[-1, -1] = self.map, 1.0 / self.y_scale
        change[:, -1] -= change[:, :-1] @ self.crude
        record, _ = scatter.about_slopes(self.known_slopes)
        return self._factors(record).rows(change, self.turn)

    def _factors(self, scatter: Scatter) -> GroupFactors:
        """Return the factors of the groups of a record."""
        return GroupFactors(scatter, self.design, self.fit_intercept, self.n_predictors, self.origin, self.z_origin)


def mixed_coordinates(
    scatter: Scatter,
    design: RandomDesign,
    *,
    fit_intercept: bool,
    n_predictors: int | None = None,
    residual_variance: float | None = None,
) -> MixedCoordinates:
    """Return the coordinates in which the criterion of a record is computed.

    Parameters
    ----------
    scatter : Scatter
        The record of the rows.
    design : RandomDesign
        The random coefficients.
    fit_intercept : bool
        Whether the model has a fixed intercept.
    n_predictors : int or None, default=None
        Number of leading columns of x that have fixed effects; None for all.
    residual_variance : float or None, default=None
        The residual variance for the crude fit, in units of the scatter of y; None estimates it.

    Returns
    -------
    coordinates : MixedCoordinates
        The maps, and the groups in the coordinates.

    Notes
    -----
    1. Columns are centred at the grand mean if there is an intercept, and scaled to unit length.
    2. Columns that depend on the columns before them are dropped.
    3. Columns that, given others, depend on those with random coefficients in every group are turned so that their rest is
       exactly zero.
    4. A crude fit is subtracted from y: generalised least squares at crude estimates of the variances, so that what is left
       is about as large as the residuals of the optimum, and the criterion keeps its digits.
    """
    remainder = scatter.moments.remainder
    record, known_slopes = scatter.about_slopes()
    moments, leading = record.moments, int(fit_intercept)
    n_predictors = moments.n_features if n_predictors is None else n_predictors
    mean = moments.grand_mean
    origin = mean if leading else np.zeros_like(mean)
    factors = GroupFactors(record, design, fit_intercept, n_predictors, origin, mean[:-1])
    of_xy, of_z = factors.products()
    turn, blocks, dropped_random = _turn(of_z / max(moments.n_groups, 1), design)
    left = np.zeros_like(of_xy)
    if turn.shape[1] <= len(record.slopes):
        # The groups have more unit vectors than random coefficients.
        left = factors.rows(np.eye(len(of_xy)), turn).left
    total, rest, scale = _scaled(factors, of_xy, left)
    noise = 0.0 if remainder is None else remainder.noise / scale[-1] ** 2
    kept = independent_columns(total[:-1, :-1])
    inside = _regression_in_rest(rest, kept)
    residual_zero = bool(inside.residual <= max(DEPENDENT * (inside.y_squares or 1.0), noise))
    residual = 0.0 if residual_zero else inside.residual
    change = inside.change / scale[:, None]
    rows = factors.rows(change, turn)
    nothing_left = bool(total[-1, -1] == 0.0)
    crude = np.zeros(len(kept))
    y_squares = float((rows.xy[:, -1] ** 2).sum())
    if nothing_left:
        rows.xy[:, -1] = 0.0
    elif turn.shape[1]:
        free = max(int(moments.n_rows.sum()) - rows.n_determined - int(inside.varies.sum()), 1)
        noise_variance = residual / free if residual_variance is None else residual_variance
        crude = _subtract_crude_fit(rows, inside, noise_variance)
    left_out = np.ones(len(scale) - 1, dtype=bool)
    left_out[kept] = False
    return MixedCoordinates(
        design=design,
        fit_intercept=fit_intercept,
        n_predictors=n_predictors,
        known_slopes=known_slopes,
        origin=origin,
        z_origin=factors.z_origin,
        map=change[:-1, :-1],
        crude=crude,
        turn=turn,
        blocks=blocks,
        dropped=np.flatnonzero(left_out) - leading,
        dropped_random=dropped_random,
        within=inside.within,
        within_slopes=np.where(inside.varies, inside.slopes - crude, 0.0),
        within_residual=residual,
        within_residual_zero=residual_zero,
        outcome_constant=nothing_left and remainder is None,
        y_scale=float(scale[-1]),
        log_scale=float(np.log(scale[kept]).sum()),
        # The terms whose sum is y may be larger than y.
        rest_terms=max(inside.y_squares, float(inside.slopes**2 @ inside.within.diagonal())),
        group_terms=y_squares,
        noise=noise,
        rows=rows,
    )


def _scaled(factors: GroupFactors, of_groups: Floats, left: Floats) -> tuple[Floats, Floats, Floats]:
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


class _InRest(NamedTuple):
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


def _regression_in_rest(rest: Floats, kept: np.ndarray) -> _InRest:
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
    return _InRest(change, varies, within, slopes, residual, float(turned[-1, -1]))


def _subtract_crude_fit(rows: GroupRows, inside: _InRest, noise_variance: float) -> Floats:
    """Subtract a fit by generalised least squares at crude variances from y in the rows, and return its coefficients."""
    crude, variances = np.zeros(len(inside.slopes)), np.ones(len(rows.z))
    for _ in range(2):
        between = between_at(rows, variances)
        step = solve_positive(inside.within + between[:-1, :-1], inside.within @ (inside.slopes - crude) + between[:-1, -1])
        crude += step
        rows.xy[:, -1] -= np.tensordot(step, rows.xy[:, :-1], axes=(0, 1))
        variances = crude_variances(rows, noise_variance)
    return crude


def _turn(gram: Floats, design: RandomDesign) -> tuple[Floats, tuple[tuple[int, ...], ...], tuple[int, ...]]:
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
