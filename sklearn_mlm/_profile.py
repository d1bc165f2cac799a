"""Profile-likelihood limits of every parameter, as roots in the variance ratio alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import optimize

from ._criterion import Criterion
from ._optimum import minimise
from ._solution import State

# Points of the region at which a limit is looked for before it is refined.
_POINTS = 65
# Beyond this ratio groups determine y to rounding; the criterion is flat.
_LARGEST_RATIO = 1e12
_SMALLEST_RATIO = 1e-12
_TOLERANCE = 4 * np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class ProfileLimits:
    """Limits of a likelihood region, each of which is the most extreme value that a parameter takes in it.

    Attributes
    ----------
    ratio, group_sd, residual_sd : tuple of two float
        Of gamma, tau and sigma (in units of y).
    coefficients : ndarray of shape (n_coefficients, 2)
        Of the fixed effects, the intercept first where the model has one; NaN for dropped columns.
    """

    ratio: tuple[float, float]
    group_sd: tuple[float, float]
    residual_sd: tuple[float, float]
    coefficients: np.ndarray


def profile_limits(criterion: Criterion, threshold: float) -> ProfileLimits:
    """Return the limits of the region in which the deviance exceeds its minimum by no more than a threshold.

    The profile of a parameter exceeds the threshold where the parameter leaves the region of all parameters; its limits
    are therefore the extremes over the region. For a given gamma the region is explicit: with Delta(gamma) what the
    threshold leaves above the profiled deviance,

        sigma2 = s r2 / N for all s with N (log s + 1/s - 1) <= Delta,
        beta_c = b_c +- sqrt((B_XX^-1)_cc r2 (exp(Delta / N) - 1)),

    and tau2 = gamma sigma2, so that each limit is the extreme of a function of gamma alone.

    Parameters
    ----------
    criterion : Criterion
        Of maximum likelihood.
    threshold : float
        The quantile of chi-squared with one degree of freedom.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), "Fitting linear mixed-effects models using lme4", Journal of
    Statistical Software 67(1), section 5.1, for the profiles; lme4 interpolates their limits.
    """
    return _Region(criterion, threshold).limits()


def ratio_limits(criterion: Criterion, threshold: float) -> tuple[float, float]:
    """Return the limits of the variance ratio alone, of a restricted or a full likelihood; infinity where there is none."""
    return _Region(criterion, threshold).ratio


class _Region:
    """The likelihood region, gamma by gamma."""

    def __init__(self, criterion: Criterion, threshold: float):
        self._criterion = criterion
        optimum = minimise(criterion)
        self._best = optimum.solution.ratio
        self._ceiling = optimum.solution.value + threshold
        self._n = criterion.n_observations
        self.ratio = self._ratio_limits()

    def _excess(self, ratio: float) -> float:
        """Return how far the profiled deviance at a ratio stands above the ceiling."""
        return self._criterion.value(ratio) - self._ceiling

    def _ratio_limits(self) -> tuple[float, float]:
        """Return the ends of the region in gamma: 0, and infinity, where it does not end before."""
        best, scale = self._best, 1.0 / float(self._criterion.sizes.max())
        lower = 0.0
        if best > 0 and self._excess(0.0) > 0:
            inside = best
            while (outside := inside / 4.0) > scale * _SMALLEST_RATIO and self._excess(outside) <= 0:
                inside = outside
            lower = 0.0 if self._excess(outside) <= 0 else self._root(outside, inside)
        inside = max(best, scale * 1e-3)
        if self._excess(inside) > 0:
            return lower, self._root(best, inside)
        while (outside := inside * 4.0) < _LARGEST_RATIO and self._excess(outside) <= 0:
            inside = outside
        return lower, np.inf if self._excess(outside) <= 0 else self._root(inside, outside)

    def _root(self, low: float, high: float) -> float:
        """Return where the excess is 0 between two ratios on either side."""
        return float(optimize.brentq(self._excess, low, high, xtol=_TOLERANCE * high, rtol=_TOLERANCE))

    def limits(self) -> ProfileLimits:
        """Return the limits of all parameters."""
        state = self._criterion.state(self.ratio[0])
        n_coefficients = len(state.coefficients)
        varying = np.abs(state.to_columns).sum(axis=1) > 0
        coefficients = np.full((n_coefficients, 2), np.nan)
        for which in np.flatnonzero(varying).tolist():
            coefficients[which] = self._both(partial(self._coefficient, which))
        group, residual = np.sqrt(self._both(self._group_variance)), np.sqrt(self._both(self._residual_variance))
        return ProfileLimits(self.ratio, (group[0], group[1]), (residual[0], residual[1]), coefficients)

    def _both(self, value: Callable[[int, State], float]) -> np.ndarray:
        """Return the least and the largest value that a function takes in the region."""
        return np.array([self._extreme(partial(value, sign), sign) for sign in (-1, 1)])

    def _delta(self, state: State) -> float:
        """Return what the threshold leaves above the profiled deviance."""
        return max(-self._excess(state.ratio), 0.0)

    def _residual_variance(self, sign: int, state: State) -> float:
        """Return the largest or least sigma2 of the region at a ratio."""
        return _stretch(self._delta(state) / self._n, sign) * state.r2 / self._n * state.y_scale**2

    def _group_variance(self, sign: int, state: State) -> float:
        """Return the largest or least tau2 of the region at a ratio."""
        return state.ratio * self._residual_variance(sign, state)

    def _coefficient(self, which: int, sign: int, state: State) -> float:
        """Return the largest or least value of a coefficient in the region at a ratio."""
        row = state.to_columns[which]
        variance = row @ state.inverse @ row
        return state.coefficients[which] + sign * np.sqrt(variance * state.r2 * np.expm1(self._delta(state) / self._n))

    def _extreme(self, value: Callable[[State], float], sign: int) -> float:
        """Return the largest (sign 1) or least value that a function takes in the region.

        The best of a grid is refined between its neighbours by a bounded search; where the function is flat, at its extreme,
        the error of the place does not show in the value.
        """
        low, high = self.ratio
        low_log = np.log(max(low, 1e-6 * min(self._best or np.inf, 1.0 / float(self._criterion.sizes.max()))))
        high_log = np.log(min(high, _LARGEST_RATIO))
        points = np.exp(np.linspace(low_log, high_log, _POINTS))
        if low == 0:
            points = np.append(0.0, points)

        def objective(ratio: float) -> float:
            return -sign * value(self._criterion.state(ratio))

        values = np.array([objective(point) for point in points])
        at = int(values.argmin())
        left, right = points[max(at - 1, 0)], points[min(at + 1, len(points) - 1)]
        found = optimize.minimize_scalar(objective, bounds=(left, right), method="bounded", options={"xatol": 1e-9 * right})
        return -sign * float(min(values[at], found.fun))


def _stretch(excess: float, sign: int) -> float:
    """Return the s on one side of 1 (above for sign 1) with log s + 1/s - 1 = excess, to rounding."""
    if excess <= 0:
        return 1.0
    # In t = log s, t + exp(-t) - 1 = excess is convex: Newton's steps from beyond the root do not overshoot.
    t = excess + 1.0 if sign > 0 else -np.log1p(excess) - np.sqrt(2.0 * excess)
    for _ in range(100):
        step = (t + np.expm1(-t) - excess) / -np.expm1(-t)
        t -= step
        if abs(step) <= _TOLERANCE * abs(t):
            break
    return float(np.exp(t))
