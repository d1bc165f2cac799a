"""Profile-likelihood limits of every parameter, as roots in the variance ratio alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..likelihood._criterion import Criterion
from ..likelihood._optimum import minimise

# The width of a piece of the region in log gamma, its number of nodes, and its number of points on the search grid.
_PIECE = 2.0
_NODES = 20
_POINTS = 64
# Rounds of the search, each of which narrows a bracket to a quarter: the last is 1e-9 of a piece wide.
_ROUNDS = 12
# At larger ratios, in units of 1 / (smallest size) or of the best ratio, the groups determine y to rounding, and the
# criterion is flat.
_LARGEST_RATIO = 1e12
_BEYOND_BEST = 1e6
# At smaller ratios, in units of 1 / (largest size), the criterion equals its value at 0.
_SMALLEST_RATIO = 1e-12
_TOLERANCE = 4 * np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class ProfileLimits:
    """Limits of the parameters: the least and the largest value of each in a likelihood region.

    Attributes
    ----------
    ratio, group_sd, residual_sd : tuple of two float
        Limits of gamma, and of tau and sigma in units of y.
    coefficients : ndarray of shape (n_coefficients, 2)
        Limits of the fixed effects, the intercept first if the model has one; NaN for dropped columns.
    """

    ratio: tuple[float, float]
    group_sd: tuple[float, float]
    residual_sd: tuple[float, float]
    coefficients: np.ndarray


def profile_limits(criterion: Criterion, threshold: float) -> ProfileLimits:
    """Return the limits of the region in which the deviance exceeds its minimum by no more than a threshold.

    The profile of a parameter exceeds the threshold as soon as the parameter leaves the region of all parameters, so that
    its limits are its extremes in the region. For a given gamma the region is explicit. With Delta(gamma) the threshold less
    the rise of the profiled deviance,

        sigma2 = s r2 / N for all s with N (log s + 1/s - 1) <= Delta,
        beta_c = b_c +- sqrt((B_XX^-1)_cc r2 (exp(Delta / N) - 1)),

    and tau2 = gamma sigma2. Each limit is therefore the extreme of a function of gamma alone.

    Parameters
    ----------
    criterion : Criterion
        The criterion of maximum likelihood.
    threshold : float
        The quantile of chi-squared with one degree of freedom.

    Returns
    -------
    limits : ProfileLimits
        The limits of all parameters.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), "Fitting linear mixed-effects models using lme4", Journal of
    Statistical Software 67(1), section 5.1, for the profiles, which lme4 interpolates.
    """
    return _Region(criterion, threshold).limits()


def ratio_limits(criterion: Criterion, threshold: float) -> tuple[float, float]:
    """Return the limits of the variance ratio by a restricted or a full likelihood; infinity if there is no upper one."""
    return _Region(criterion, threshold).ratio


def icc_of_ratio(ratio: np.ndarray) -> np.ndarray:
    """Return the intraclass correlation gamma / (1 + gamma) of variance ratios, 1 at infinity."""
    return 1.0 - 1.0 / (1.0 + ratio)


class _Region:
    """The likelihood region as an interval of gamma."""

    def __init__(self, criterion: Criterion, threshold: float):
        self._criterion = criterion
        optimum = minimise(criterion)
        self._best = optimum.solution.ratio
        # The optimum's value is summed group by group. If the criterion is flat, its rounding may exceed a small threshold.
        self._ceiling = max(optimum.solution.value, criterion.value(self._best)) + threshold
        self.largest = max(_LARGEST_RATIO / float(criterion.groups.sizes.min()), _BEYOND_BEST * self._best)
        self.ratio = self._ratio_limits()

    def _excess(self, ratio: float) -> float:
        """Return the profiled deviance at a ratio, less the ceiling."""
        return self._criterion.value(ratio) - self._ceiling

    def _ratio_limits(self) -> tuple[float, float]:
        """Return the ends of the region in gamma; 0 or infinity if it does not end before."""
        sizes = self._criterion.groups.sizes
        best, scale, largest = self._best, 1.0 / float(sizes.max()), self.largest
        lower = 0.0
        if best > 0 and self._excess(0.0) > 0:
            inside = best
            while (outside := inside / 4.0) > scale * _SMALLEST_RATIO and self._excess(outside) <= 0:
                inside = outside
            lower = 0.0 if self._excess(outside) <= 0 else self._root(outside, inside)
        inside = max(best, scale * 1e-3)
        if self._excess(inside) > 0:
            return lower, self._root(best, inside)
        while (outside := inside * 4.0) < largest and self._excess(outside) <= 0:
            inside = outside
        return lower, np.inf if self._excess(outside) <= 0 else self._root(inside, outside)

    def _root(self, low: float, high: float) -> float:
        """Return the ratio between two others at which the excess is 0."""
        from scipy import optimize

        return float(optimize.brentq(self._excess, low, high, xtol=_TOLERANCE * high, rtol=_TOLERANCE))

    def limits(self) -> ProfileLimits:
        """Return the limits of all parameters."""
        criterion = self._criterion
        limits = _extremes(_Pieces(criterion, self.ratio[0], min(self.ratio[1], self.largest), self._ceiling))
        limits[2:][np.abs(criterion.coordinates.to_columns()).sum(axis=1) == 0] = np.nan
        residual, group = np.sqrt(limits[:2]).tolist()
        return ProfileLimits(self.ratio, tuple(group), tuple(residual), limits[2:])


class _Pieces:
    """Limits at each ratio of a region, interpolated on pieces of the region as functions of a position.

    r2, the criterion, the coefficients and their variances are analytic in gamma for gamma > -1 / max n_j, and in
    log gamma for |Im log gamma| < pi, because their singularities are at negative gamma. The first piece is linear in gamma,
    up to 1 / max n_j; the others are linear in log gamma and at most 2 wide. Twenty Chebyshev points of the second kind on
    each leave errors of 6^-20 = 3e-16 (L. N. Trefethen (2013), "Approximation Theory and Approximation Practice", theorem
    8.2).

    A position is the number of a piece plus a share of it. Parameters are sigma2, tau2 and the coefficients, in this order.
    """

    def __init__(self, criterion: Criterion, low: float, high: float, ceiling: float):
        turn = min(max(low, 1.0 / float(criterion.groups.sizes.max())), high)
        self._linear = low < turn or turn == high
        n_more = int(np.ceil(np.log(high / turn) / _PIECE))
        self._edges = np.append([low] if self._linear else [], np.geomspace(turn, high, n_more + 1))
        self.count = len(self._edges) - 1
        shares = (1.0 - np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))) / 2.0
        self._shares, self._weights = shares, np.where(np.arange(_NODES) % 2, -1.0, 1.0)
        self._weights[[0, -1]] /= 2.0
        self._n, self._unit = criterion.n_observations, criterion.coordinates.y_scale**2 / criterion.n_observations
        profiles = criterion.profiles(self.ratios(np.arange(self.count)[:, None] + shares).ravel())

        def by_piece(values: np.ndarray) -> np.ndarray:
            return np.moveaxis(values.reshape(self.count, _NODES, *values.shape[1:]), (0, 1), (-2, -1))

        self._left, self._r2 = by_piece(ceiling - profiles.values), by_piece(profiles.r2)
        self._centers, self._variances = by_piece(profiles.coefficients), by_piece(profiles.variances)
        self.n_parameters = 2 + len(self._centers)

    def ratios(self, positions: np.ndarray) -> np.ndarray:
        """Return gamma at positions."""
        piece = np.minimum(positions.astype(int), self.count - 1)
        low, high = self._edges[piece], self._edges[piece + 1]
        share = positions - piece
        linear = (piece == 0) & self._linear
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(linear, low + share * (high - low), low * (high / low) ** share))

    def on_grid(self, sign: int) -> np.ndarray:
        """Return limits on one side at `_POINTS` positions in each piece, a row for each parameter."""
        share = np.arange(_POINTS) / _POINTS
        basis = self._basis(share).T
        left, r2 = (self._left @ basis).ravel(), (self._r2 @ basis).ravel()
        residual = self._residual_variance(sign, left, r2)
        group = residual * self.ratios((np.arange(self.count)[:, None] + share).ravel())
        shape = len(self._centers), self.count * _POINTS
        centers, variances = ((values @ basis).reshape(shape) for values in (self._centers, self._variances))
        return np.concatenate([[residual, group], centers + sign * self._half_width(variances, left, r2)])

    def at(self, sign: int, positions: np.ndarray) -> np.ndarray:
        """Return limits on one side, each parameter's at its own row of positions, a row for each parameter."""
        piece = np.minimum(positions.astype(int), self.count - 1)
        basis = self._basis(positions - piece)
        left, r2 = ((values[piece] * basis).sum(axis=2) for values in (self._left, self._r2))
        residual = self._residual_variance(sign, left[:2], r2[:2])
        residual[1] *= self.ratios(positions[1])
        which = np.arange(len(self._centers))[:, None]
        centers, variances = (
            (values[which, piece[2:]] * basis[2:]).sum(axis=2) for values in (self._centers, self._variances)
        )
        return np.concatenate([residual, centers + sign * self._half_width(variances, left[2:], r2[2:])])

    def _basis(self, shares: np.ndarray) -> np.ndarray:
        """Return the Lagrange polynomials at shares of a piece, along a new last axis, by the barycentric formula."""
        distance = shares[..., None] - self._shares
        at_node = distance == 0.0
        terms = self._weights / np.where(at_node, 1.0, distance)
        terms = np.where(at_node.any(axis=-1, keepdims=True), at_node, terms)
        return np.asarray(terms / terms.sum(axis=-1, keepdims=True))

    def _residual_variance(self, sign: int, left: np.ndarray, r2: np.ndarray) -> np.ndarray:
        """Return the largest (sign 1) or least (sign -1) sigma2 if the deviance may rise by `left`."""
        return np.asarray(_stretch(np.maximum(left, 0.0) / self._n, sign) * r2 * self._unit)

    def _half_width(self, variances: np.ndarray, left: np.ndarray, r2: np.ndarray) -> np.ndarray:
        """Return by how much coefficients may differ from their best values if the deviance may rise by `left`."""
        return np.asarray(np.sqrt(np.maximum(variances, 0.0) * r2 * np.expm1(np.maximum(left, 0.0) / self._n)))


def _extremes(pieces: _Pieces) -> np.ndarray:
    """Return the least and the largest value that each parameter takes in a region, of shape (n_parameters, 2).

    The best point of a grid is bracketed by its neighbours, and the bracket is narrowed about the best of nine positions in
    it. Near an extreme the value hardly depends on the position.
    """
    limits = np.empty((pieces.n_parameters, 2))
    for side, sign in enumerate((-1, 1)):
        grid = sign * pieces.on_grid(sign)
        best = grid.argmax(axis=1)
        center, width = best / _POINTS, np.full(len(best), 1.0 / _POINTS)
        for _ in range(_ROUNDS):
            low, high = np.maximum(center - width, 0.0), np.minimum(center + width, float(pieces.count))
            positions = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, 9)
            values = sign * pieces.at(sign, positions)
            center = positions[np.arange(len(best)), values.argmax(axis=1)]
            width = (high - low) / 8.0
        limits[:, side] = sign * np.maximum(values.max(axis=1), grid.max(axis=1))
    return limits


def _stretch(excess: ArrayLike, sign: int) -> np.ndarray:
    """Return the s with log s + 1/s - 1 = excess >= 0, to rounding: s >= 1 for sign 1, s <= 1 for sign -1."""
    excess = np.asarray(excess, dtype=np.float64)
    # t + exp(-t) - 1 is convex in t = log s, so that Newton's steps from beyond the root do not overshoot.
    t = excess + 1.0 if sign > 0 else -np.log1p(excess) - np.sqrt(2.0 * excess)
    positive = excess > 0
    t = np.where(positive, t, 0.0)
    for _ in range(100):
        slope = np.where(positive, -np.expm1(-t), 1.0)
        step = np.where(positive, t + np.expm1(-t) - excess, 0.0) / slope
        t = t - step
        if np.all(np.abs(step) <= _TOLERANCE * np.abs(t)):
            break
    return np.exp(t)
