"""`Coordinates`: columns in which the criterion is well conditioned, and the within-group moments of these columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._typing import Floats
from ..moments._grouped_moments import GroupedMoments
from ..moments._moments import rounding_scatter
from ..moments._remainder import SPACING, Remainder
from ..moments._sums import weighted_scatter
from ._linalg import (
    DEPENDENT,
    SMALL_REST,
    independent_columns,
    separate_between_columns,
    solve_positive,
    submatrix,
    zero_columns,
)

_MOST_DIGITS = 16.0


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Stores an affine map from the columns (1, x, y) of moments to columns in which B(gamma) is always well conditioned.

    A row (1, x, y) less the origin, times `map`, is the row (z, e) of these coordinates. The k columns z are independent
    and of unit length. A combination of columns that varies only between groups is exactly zero within groups, so that B
    stays well conditioned as gamma grows. The last column e is y less a crude fit, so that the criterion loses no digits to
    the part of y that the fixed effects explain. If the moments have a remainder, y stands for the remainder, and
    `known_slopes` are added to the coefficients at the end.

    Attributes
    ----------
    moments : GroupedMoments
        Moments of (x, y), in which the remainder, if there is one, replaces y.
    known_slopes : ndarray of shape (n_features,)
        The slopes of the remainder, or zeros.
    fit_intercept : bool
        Whether the model has an intercept.
    origin : ndarray of shape (n_features + 1,)
        The grand mean of (x, y), or 0 without an intercept.
    offset : ndarray of shape (n_features + 1,)
        `origin` less the centre of the moments.
    map : ndarray of shape (n_coefficients + 1, k + 1)
        The matrix of the map.
    dropped : ndarray of int
        Positions of features that depend on the columns before them.
    is_within : ndarray of shape (k,), bool
        Whether each column z varies within groups.
    within : ndarray of shape (k, k)
        Pooled within-group scatter of z.
    within_slopes : ndarray of shape (k,)
        Slopes of e on z within groups; 0 for columns that vary only between groups.
    within_residual : float
        Residual sum of squares of e within groups.
    within_residual_zero : bool
        Whether the rest of y within groups, given the fixed effects, is rounding.
    outcome_constant : bool
        Whether y is constant.
    y_scale : float
        The unit of e, in units of y.
    log_scale : float
        Logarithm of the product of the k column lengths before scaling.
    within_terms : float
        The larger of two scatters within groups: that of y, and that of the terms whose sum is y.
    between_total : float
        Scatter of the group means of y.
    noise : float
        The largest scatter of a remainder that is rounding of the rows; 0 without a remainder.
    lost : float
        Scatter that rounding can have left in moments without a remainder that were merged with one.
    """

    moments: GroupedMoments
    known_slopes: np.ndarray
    fit_intercept: bool
    origin: np.ndarray
    offset: np.ndarray
    map: Floats
    dropped: np.ndarray
    is_within: np.ndarray
    within: np.ndarray
    within_slopes: np.ndarray
    within_residual: float
    within_residual_zero: bool
    outcome_constant: bool
    y_scale: float
    log_scale: float
    within_terms: float
    between_total: float
    noise: float
    lost: float

    @property
    def rank(self) -> int:
        """Number k of independent fixed effects, including the intercept."""
        return len(self.is_within)

    @property
    def within_rank(self) -> int:
        """Number of independent fixed effects that vary within groups."""
        return int(np.count_nonzero(self.is_within))

    @property
    def least_within(self) -> float:
        """Smallest share of its scatter that a combination of the columns varying within groups has there; at most 1."""
        shares = np.linalg.eigvalsh(submatrix(self.within, np.flatnonzero(self.is_within)))
        return float(np.clip(shares.min(initial=1.0), DEPENDENT, 1.0))

    def group_rows(self) -> np.ndarray:
        """Return the group means (z_j, e_j), of shape (n_groups, k + 1)."""
        leading = int(self.fit_intercept)
        rows = self.moments.deviations @ self.map[leading:]
        rows += self.map[:leading].sum(axis=0) - self.offset @ self.map[leading:]
        return rows

    def fixed_effects(self, beta: np.ndarray) -> tuple[np.ndarray, float]:
        """Return slopes, less `known_slopes`, and intercept (0 without one) for the columns of the data."""
        leading = int(self.fit_intercept)
        # The last column of the map is y less its crude fit, divided by the scale of y.
        full = self.y_scale * (self.map[:-1, :-1] @ beta - self.map[:-1, -1])
        slopes = full[leading:]
        return slopes, float(self.origin[-1] + full[0] - self.origin[:-1] @ slopes) if leading else 0.0

    def to_columns(self) -> Floats:
        """Return the matrix that maps changes of beta to changes of the coefficients, with the intercept at the origin."""
        return self.y_scale * self.map[:-1, :-1]

    def digits(self, within_degrees_of_freedom: float) -> float:
        """Return about how many digits the moments hold of the residual within groups, at most 16."""
        lost = max(SPACING * self.within_terms, self.lost)
        if lost == 0.0 or within_degrees_of_freedom <= 0:
            return _MOST_DIGITS
        # Unlike a minus sign, the difference does not give -0.0.
        return 0.0 - float(np.log10(lost / max(self.within_residual, lost)))

    def explains_nearly_all(self, means_left: float, within_degrees_of_freedom: float) -> bool:
        """Return whether the fixed effects explain so much of y that its moments have lost digits of the rest.

        Parameters
        ----------
        means_left : float
            Scatter sum_j n_j e_j^2 of the group means of e.
        within_degrees_of_freedom : float
            Degrees of freedom of the residual within groups.

        Returns
        -------
        nearly_all : bool
            True if the rest is less than 1e-6 of the scatter of y, within or between groups.
        """
        within = within_degrees_of_freedom > 0 and self.within_residual < SMALL_REST * self.within_terms
        return not self.outcome_constant and bool(within or means_left < SMALL_REST * self.between_total)


def coordinates(moments: GroupedMoments, *, fit_intercept: bool, n_observations: float) -> Coordinates:
    """Return the coordinates in which the criterion of moments is computed.

    Parameters
    ----------
    moments : GroupedMoments
        Moments of the rows.
    fit_intercept : bool
        Whether the model has an intercept.
    n_observations : float
        The number of rows, or the total weight if weights are frequencies.

    Returns
    -------
    coordinates : Coordinates
        The map to the coordinates, and the within-group moments there.

    Notes
    -----
    1. Columns are centred at the grand mean if there is an intercept, and scaled to unit length.
    2. Columns that depend on the columns before them are dropped. Between J groups, at most J columns are independent.
    3. Columns that vary only between groups, given others, are rotated so that their within part is exactly zero.
    4. A crude fit is subtracted from y.
    """
    rest, known_slopes = moments.about_slopes()
    scaled = _scaled(rest, moments.remainder, int(fit_intercept))
    kept, change, is_within = _columns(scaled, rest.counts)
    within, total, scale = scaled.within, scaled.total, scaled.scale

    turned = change.T @ within @ change
    inside = np.flatnonzero(is_within)
    slopes = np.zeros(len(kept))
    slopes[inside] = solve_positive(submatrix(turned, inside), turned[inside, -1])
    within_yy = float(turned[-1, -1])
    residual = max(within_yy - float(turned[-1, :-1] @ slopes), 0.0)
    # Zero is relative to the scatter of y within groups, or to the total scatter if y is constant in each group. A residual
    # is also rounding if there are as many columns as deviations from group means.
    residual_zero = residual <= max(DEPENDENT * (within_yy or 1.0), scaled.noise)
    residual_zero = bool(residual_zero or rest.n_rows.sum() - rest.n_groups <= len(inside))
    x_within = turned[:-1, :-1].copy()
    zero_columns(x_within, ~is_within)
    between_total = max(float(total[-1, -1]) - within_yy, 0.0)

    left_out = np.ones(len(scale) - 1, dtype=bool)
    left_out[kept] = False
    nothing_left = bool(total[-1, -1] == 0.0)
    crude = np.zeros(len(kept))
    if not nothing_left:
        within_variance = within_yy / max(n_observations - rest.n_groups, 1.0)
        ratio = between_total / rest.counts.sum() / within_variance if within_variance > 0 else 1e6 / rest.counts.min()
        # A first guess of beta: generalised least squares at the ANOVA variance ratio of the null model. Its residuals are
        # about as large as those of the optimum, within groups and between them, so that the criterion keeps its digits
        # even if groups differ a billion times more than the rows in them.
        between = change.T @ scaled.between(rest.counts / (1.0 + ratio * rest.counts)) @ change
        crude = solve_positive(x_within + between[:-1, :-1], turned[:-1, -1] + between[:-1, -1])
    change[:, -1] -= change[:, :-1] @ crude
    map_ = change / scale[:, None]
    if nothing_left:
        map_[:, -1] = 0.0
    return Coordinates(
        moments=rest,
        known_slopes=known_slopes,
        fit_intercept=fit_intercept,
        origin=rest.center + scaled.offset,
        offset=scaled.offset,
        map=map_,
        dropped=np.flatnonzero(left_out) - int(fit_intercept),
        is_within=is_within,
        within=x_within,
        within_slopes=np.where(is_within, slopes - crude, 0.0),
        within_residual=0.0 if residual_zero else residual,
        within_residual_zero=residual_zero,
        outcome_constant=nothing_left and moments.remainder is None,
        y_scale=float(scale[-1]),
        log_scale=float(np.log(scale[kept]).sum()),
        # The terms whose sum is y may be larger than y.
        within_terms=max(within_yy, float(slopes**2 @ x_within.diagonal())),
        between_total=between_total,
        noise=scaled.noise,
        lost=0.0 if moments.remainder is None else moments.remainder.lost / float(scale[-1]) ** 2,
    )


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Stores moments of the columns (1, x, y), or (x, y) without an intercept, centred and scaled to unit length.

    Attributes
    ----------
    means : ndarray of shape (n_groups, n_features + 1)
        Group means of (x, y), less the centre of the moments if there is an intercept; not scaled.
    grand : ndarray of shape (n_features + 1,)
        Weighted mean of the group means, or 0 without an intercept.
    offset : ndarray of shape (n_features + 1,)
        The origin of the columns less the centre of the moments.
    within, total : ndarray of shape (width, width)
        Scatter within groups, and over all rows.
    scale : ndarray of shape (width,)
        Lengths of the columns before scaling.
    noise : float
        The largest scatter of a remainder that is rounding of the rows; 0 without a remainder.
    """

    means: np.ndarray
    grand: np.ndarray
    offset: np.ndarray
    within: np.ndarray
    total: np.ndarray
    scale: Floats
    noise: float

    @property
    def leading(self) -> int:
        """Number of leading columns of ones: 1 with an intercept, 0 without."""
        return len(self.scale) - len(self.grand)

    def between(self, weights: np.ndarray) -> np.ndarray:
        """Return sum_j w_j t_j t_j' for the group means t_j of the columns."""
        scatter: Floats = np.zeros_like(self.total)
        scatter[self.leading :, self.leading :] = weighted_scatter(self.means, weights, self.grand)
        if self.leading:
            scatter[0, 0] = weights.sum()
            scatter[0, 1:] = scatter[1:, 0] = weights @ self.means - weights.sum() * self.grand
        return scatter / np.outer(self.scale, self.scale)

    def rows(self) -> np.ndarray:
        """Return the group means of the columns, of shape (n_groups, width)."""
        return np.column_stack([np.ones((len(self.means), self.leading)), self.means - self.grand]) / self.scale


def _scaled(moments: GroupedMoments, remainder: Remainder | None, leading: int) -> _Scaled:
    """Return the moments of columns that are centred if there is an intercept, and scaled to unit length."""
    total_weight = moments.counts.sum()
    means = moments.deviations if leading else moments.means
    grand = moments.counts @ means / total_weight if leading else np.zeros(means.shape[1])
    offset = grand if leading else -moments.center
    width = len(grand) + leading
    within, total = np.zeros((width, width)), np.zeros((width, width))
    within[leading:, leading:] = moments.within
    total[leading:, leading:] = moments.within + weighted_scatter(means, moments.counts, grand)
    # The scatter that a column, constant in each group or throughout, can have because of the rounding of its values.
    noise = np.zeros(width)
    noise[leading:] = rounding_scatter(total_weight, moments.center + offset, total.diagonal()[leading:])
    if remainder is not None:
        noise[-1] = remainder.noise
    zero_columns(within, within.diagonal() <= noise)
    zero_columns(total, total.diagonal() <= noise)
    if leading:
        total[0, 0] = total_weight
    scale = np.sqrt(np.where(total.diagonal() > 0, total.diagonal(), 1.0))
    both = np.outer(scale, scale)
    of_rest = 0.0 if remainder is None else remainder.noise / float(scale[-1]) ** 2
    return _Scaled(means, grand, offset, within / both, total / both, scale, of_rest)


def _columns(scaled: _Scaled, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions of independent columns, the matrix that rotates them and keeps y, and which then vary within groups.

    Columns that vary only between groups, given others, are rotated so that their within part is exactly zero.
    """
    kept = independent_columns(scaled.total[:-1, :-1])
    rotation, is_within = separate_between_columns(submatrix(scaled.within, kept))
    if len(kept) - np.count_nonzero(is_within) > len(counts):
        rows = np.sqrt(counts)[:, None] * (scaled.rows()[:, kept] @ rotation)
        kept = _no_more_than_groups(kept, is_within, rows)
        rotation, is_within = separate_between_columns(submatrix(scaled.within, kept))
    change = np.zeros((len(scaled.scale), len(kept) + 1))
    change[kept, :-1], change[-1, -1] = rotation, 1.0
    return kept, change, is_within


def _no_more_than_groups(kept: np.ndarray, is_within: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the columns kept, without those that vary only between groups and depend there on columns before them.

    Between J groups, at most J columns are independent. Scalar products of columns are squares, which may fail to show a
    dependence that the group means themselves show.

    Parameters
    ----------
    kept : ndarray of int
        Positions of the columns.
    is_within : ndarray of shape (n_kept,), bool
        Whether each of these columns, rotated, varies within groups.
    rows : ndarray of shape (n_groups, n_kept)
        Group means of the rotated columns, times the root of n_j.

    Returns
    -------
    kept : ndarray of int
        The columns that are independent.
    """
    n_groups, outside = len(rows), np.flatnonzero(~is_within)
    independent: list[int] = []
    basis = np.zeros((n_groups, 0))
    for at, column in enumerate(rows[:, outside].T):
        left = column - basis @ (basis.T @ column)
        left -= basis @ (basis.T @ left)
        length = np.linalg.norm(left)
        if len(independent) < n_groups and length > np.sqrt(DEPENDENT) * np.linalg.norm(column):
            independent.append(at)
            basis = np.column_stack([basis, left / length])
    return np.delete(kept, np.delete(outside, independent))
