"""`MixedCoordinates`: columns in which the criterion of several random coefficients is well conditioned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._typing import Floats
from ..moments._scatter import Scatter
from ._column_coordinates import ColumnCoordinates, RegressionInRest, regression_in_rest, scaled_scatter, turn_of
from ._group_factors import GroupFactors, GroupRows, RandomDesign
from ._group_products import between_at, crude_variances
from ._linalg import DEPENDENT, SMALL_REST, independent_columns, solve_positive


@dataclass(frozen=True, eq=False)
class MixedCoordinates(ColumnCoordinates):
    """Stores affine maps from the columns of a record to columns in which the criterion is well conditioned.

    They are those of `ColumnCoordinates`. A combination of columns that depends on the columns with random coefficients in
    every group is exactly 0 in the rest, so that the criterion keeps its digits if the variances of random coefficients
    grow. The columns with random coefficients are turned so that the mean of R_j' R_j over groups is the identity in each
    block.

    Attributes
    ----------
    within : ndarray of shape (k, k)
        The rest of x.
    within_slopes : ndarray of shape (k,)
        Slopes of e on x in the rest; 0 for columns that are 0 there.
    within_residual : float
        Residual sum of squares of e in the rest.
    within_residual_zero : bool
        Whether that is rounding.
    rest_terms : float
        The larger of two scatters in the rest: that of y, and that of the terms whose sum is y.
    group_terms : float
        Sum of squares of y in the groups' unit vectors.
    rows : GroupRows
        The groups.
    """

    within: np.ndarray
    within_slopes: np.ndarray
    within_residual: float
    within_residual_zero: bool
    rest_terms: float
    group_terms: float
    rows: GroupRows

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
    turn, blocks, dropped_random = turn_of(of_z / max(moments.n_groups, 1), design)
    left = np.zeros_like(of_xy)
    if turn.shape[1] <= len(record.slopes):
        # The groups have more unit vectors than random coefficients.
        left = factors.rows(np.eye(len(of_xy)), turn).left
    total, rest, scale = scaled_scatter(factors, of_xy, left)
    noise = 0.0 if remainder is None else remainder.noise / scale[-1] ** 2
    kept = independent_columns(total[:-1, :-1])
    inside = regression_in_rest(rest, kept)
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


def _subtract_crude_fit(rows: GroupRows, inside: RegressionInRest, noise_variance: float) -> Floats:
    """Subtract a fit by generalised least squares at crude variances from y in the rows, and return its coefficients."""
    crude, variances = np.zeros(len(inside.slopes)), np.ones(len(rows.z))
    for _ in range(2):
        between = between_at(rows, variances)
        step = solve_positive(inside.within + between[:-1, :-1], inside.within @ (inside.slopes - crude) + between[:-1, -1])
        crude += step
        rows.xy[:, -1] -= np.tensordot(step, rows.xy[:, :-1], axes=(0, 1))
        variances = crude_variances(rows, noise_variance)
    return crude
