"""Profile-likelihood limits of the standard deviations and correlations of random coefficients, and of fixed effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .._typing import Floats
from ..likelihood._factor_criterion import FactorCriterion
from ..likelihood._mixed_criterion import MixedCriterion
from ..likelihood._mixed_fits import fit_mixed
from ..likelihood._random_effects_fit import RandomEffectsFit
from ..likelihood._random_terms import INTERCEPT
from ..moments._scatter import Scatter

# Limits are found to this share of their distance from the estimate.
_TOLERANCE = 1e-6
# Steps by which a limit is enclosed grow by this factor, at most so many times.
_GROWTH, _MOST_STEPS = 1.6, 60
# Length of the gradient at which a minimum given one parameter is good enough: its square is the error of the criterion.
_GRADIENT = 1e-5
_LARGEST_LOG = 100.0
# A search starts anew until it falls by less than this, at most so many times.
_NO_FALL, _MOST_DESCENTS = 1e-6, 4
# The step of differences of gradients, and the least curvature, relative to the largest.
_DIFFERENCE, _LEAST_CURVATURE = 1e-4, 1e-10


class MixedProfile:
    """The likelihood of a fit as a function of one parameter, with all others at their best.

    The covariance of each random term is L L' with a lower triangular L, whose first rows belong to the parameter of
    interest: its first entry is a standard deviation, and the direction of its second row is a correlation. So the parameter
    is fixed without a constraint on the others.

    Parameters
    ----------
    fit : RandomEffectsFit
        A fit whose residual variance is not 0, by the likelihood that is profiled.
    threshold : float
        A quantile of chi-squared with one degree of freedom.
    """

    def __init__(self, fit: RandomEffectsFit, threshold: float):
        self._fit, self._threshold = fit, threshold
        self._criterion: MixedCriterion | FactorCriterion = fit.criterion
        here = fit.criterion.coordinates
        # Positions of the coefficients that are not left out.
        self.kept = kept = [at for at in range(len(fit.options.coefficients)) if at not in here.dropped_random]
        position = {at: i for i, at in enumerate(kept)}
        self.blocks = [[position[at] for at in block if at in position] for block in here.design.blocks]
        self.names = [fit.options.coefficients[at] for at in kept]
        self._residual = fit.residual_variance / here.y_scale**2
        # The intercept is that at 0. What is said of slopes alone, and of the residual, is the same at the mean, where
        # intercepts and slopes are less correlated.
        self._at_origin = _Columns.of(fit, fit.turn_from_origin[kept])
        self._at_mean = _Columns.of(fit, here.turn[kept])

    # ---- limits

    def sd_excess(self, at: int, value: float) -> float:
        """Return by how much the criterion, given the standard deviation of a coefficient, exceeds the ceiling of limits."""
        return self._minimum(self._order(at), value, None, None)[0]

    def sd_limits(self, at: int) -> tuple[float, float]:
        """Return the limits of the standard deviation of a random coefficient."""
        order, columns = self._order(at), self._columns(at)
        best, unit = float(np.sqrt(columns.covariance[at, at])), float(columns.unit[at])

        def excess(value: float, start: Floats | None) -> tuple[float, Floats]:
            return self._minimum(order, value, None, start)

        upper = self._limit(excess, best, 0.5 * unit, np.inf)
        return self._limit(excess, best, -0.5 * unit, 0.0), upper

    def correlation_limits(self, at: int, other: int) -> tuple[float, float]:
        """Return the limits of a correlation; NaN if one of the coefficients has no variance."""
        covariance = self._at_origin.covariance
        variance = covariance[at, at] * covariance[other, other]
        if variance == 0:
            return np.nan, np.nan
        # A slope is the same at any origin, and stands before the intercept.
        order = self._order(*((other, at) if self.names[at] == INTERCEPT else (at, other)))
        best = float(np.clip(covariance[at, other] / np.sqrt(variance), -1.0, 1.0))
        step = 0.2 * max(1.0 - best**2, 0.05)

        def excess(value: float, start: Floats | None) -> tuple[float, Floats]:
            return self._minimum(order, None, value, start)

        return self._limit(excess, best, -step, -1.0), self._limit(excess, best, step, 1.0)

    def residual_limits(self) -> tuple[float, float]:
        """Return the limits of the residual standard deviation."""
        order = self._order(self._no_intercept)
        scale = self._criterion.coordinates.y_scale
        best = float(np.sqrt(self._residual))

        def excess(value: float, start: Floats | None) -> tuple[float, Floats]:
            return self._minimum(order, None, None, start, residual=value**2)

        step = best / np.sqrt(max(self._criterion.degrees_of_freedom, 1.0))
        lower, upper = self._limit(excess, best, -step, 0.0), self._limit(excess, best, step, np.inf)
        return lower * scale, upper * scale

    def coefficient_limits(self, at: int) -> tuple[float, float]:
        """Return the limits of a fixed effect, by fits to y less its contribution; NaN if its column is dropped."""
        fit = self._fit
        error = float(np.linalg.norm(fit.whiten(np.eye(len(fit.names))[[at]])))
        if error == 0:
            return np.nan, np.nan
        best = float(fit.coefficients[at])

        def excess(value: float, start: Floats | None) -> tuple[float, Floats]:
            other = _without_fixed_effect(fit, at, value)
            return other.value - fit.value - self._threshold, np.zeros(0)

        return self._limit(excess, best, -error, -np.inf), self._limit(excess, best, error, np.inf)

    def _limit(
        self, excess: Callable[[float, Floats | None], tuple[float, Floats]], best: float, step: float, end: float
    ) -> float:
        """Return the value beyond the best one, in the direction of a step, at which the excess is 0; or the end."""
        from scipy import optimize

        if step < 0:
            # The signs of values and of the end are turned, so that limits are always above.
            return -self._limit(lambda value, start: excess(-value, start), -best, -step, -end)
        inside, below, start = best, -self._threshold, None
        for _ in range(_MOST_STEPS):
            outside = min(inside + step, end)
            above, there = excess(outside, start)
            if above > 0:
                break
            if outside >= end:
                return end
            inside, below, start, step = outside, above, there, step * _GROWTH
        else:
            return np.inf
        known = {inside: below, outside: above}

        def function(value: float) -> float:
            return known[value] if value in known else excess(value, start)[0]

        return float(optimize.brentq(function, inside, outside, xtol=_TOLERANCE * (outside - best), rtol=1e-12))

    # ---- the likelihood given one parameter

    @property
    def _no_intercept(self) -> int:
        """Position of a coefficient that is not the intercept, if there is one."""
        return next((at for at, name in enumerate(self.names) if name != INTERCEPT), 0)

    def _columns(self, *first: int) -> _Columns:
        """Return the columns in which parameters of some coefficients are free: at the mean, unless one is the intercept."""
        return self._at_origin if any(self.names[at] == INTERCEPT for at in first) else self._at_mean

    def _order(self, *first: int) -> list[list[int]]:
        """Return the blocks of coefficients, with some of them first in theirs, and their block first."""
        blocks = [[*first, *(i for i in block if i not in first)] for block in self.blocks if first[0] in block]
        return blocks + [block for block in self.blocks if first[0] not in block]

    def _minimum(
        self,
        order: list[list[int]],
        sd: float | None,
        correlation: float | None,
        start: Floats | None,
        residual: float | None = None,
    ) -> tuple[float, Floats]:
        """Return the least criterion given one parameter, less its minimum and the threshold, and where it is.

        Parameters
        ----------
        order : list of list of int
            Blocks of coefficients; the given parameter belongs to the first of the first block.
        sd : float or None
            The standard deviation of the first coefficient, if it is given.
        correlation : float or None
            The correlation of the first two coefficients, if it is given.
        start : ndarray or None
            The other parameters to start from; None takes those of the fit.
        residual : float or None, default=None
            The residual variance in the coordinates, if it is given.

        Returns
        -------
        excess : float
            The criterion less the ceiling.
        parameters : ndarray
            The other parameters at the minimum.
        """
        entries = [(i, j) for block in order for a, i in enumerate(block) for j in block[: a + 1]]
        first = order[0]
        columns = self._columns(*(first[:1] if correlation is None else first[:2]))
        known = {(first[0], first[0])} if sd is not None else set()
        if correlation is not None:
            # Its second row has a length, in place of two entries.
            known = {(first[1], first[0])}
        free = [entry for entry in entries if entry not in known]
        unit = columns.unit[[i for i, _ in free]]
        lower = np.zeros_like(columns.covariance)
        if sd is not None:
            lower[first[0], first[0]] = sd
        share = None if correlation is None else np.array([correlation, np.sqrt(max(1.0 - correlation**2, 0.0))])
        # The two standard deviations of a given correlation are positive, or its sign could turn.
        lengths = ((first[0], first[0]), (first[1], first[1])) if share is not None else ()
        positive = np.array([entry in lengths for entry in free], dtype=bool)

        def unpacked(parameters: Floats) -> tuple[Floats, Floats, float]:
            values = parameters[: len(free)].copy()
            values[positive] = np.exp(np.clip(values[positive], -_LARGEST_LOG, _LARGEST_LOG))
            values *= unit
            for (i, j), value in zip(free, values, strict=True):
                lower[i, j] = value
            if share is not None:
                lower[first[1], [first[0], first[1]]] = share * values[free.index((first[1], first[1]))]
            variance = residual if residual is not None else float(np.exp(parameters[-1])) * self._residual
            return lower, values, variance

        def criterion(parameters: Floats) -> tuple[float, Floats]:
            factor, values, variance = unpacked(parameters)
            value, by_factor, by_log_residual = self._at(columns, factor, variance)
            gradient = np.array([by_factor[entry] for entry in free])
            if share is not None:
                row = by_factor[first[1], [first[0], first[1]]]
                gradient[free.index((first[1], first[1]))] = row @ share
            gradient *= np.where(positive, values, unit)
            return value - self._fit.value, gradient if residual is not None else np.append(gradient, by_log_residual)

        of_fit = columns.start(order, free, residual is None)
        of_fit[: len(free)][positive] = np.log(of_fit[: len(free)][positive])
        ends = [_descent(criterion, parameters) for parameters in ([of_fit] if start is None else [start, of_fit])]
        value, parameters = min(ends, key=lambda end: end[0])
        return value - self._threshold, parameters

    def _at(self, columns: _Columns, lower: Floats, residual: float) -> tuple[float, Floats, float]:
        """Return the criterion, and its derivatives by the factor L of Sigma and by the logarithm of sigma2."""
        criterion, scale = self._criterion, self._criterion.coordinates.y_scale * np.sqrt(residual)
        factor = columns.to_coordinates @ lower / scale
        there = criterion.at_residual_variance(residual).evaluate(factor[None])
        slope = there.slope[0]
        by_factor = 2.0 * columns.to_coordinates.T @ slope @ factor / scale
        by_log = criterion.degrees_of_freedom - float(there.r2[0]) / residual - float((slope @ factor * factor).sum())
        return float(there.value[0]), by_factor, by_log


class _Columns(NamedTuple):
    """The random coefficients of certain columns.

    Attributes
    ----------
    to_coordinates : ndarray of shape (q, q)
        The matrix that takes effects of the columns to effects in the coordinates of the criterion.
    covariance : ndarray of shape (q, q)
        Sigma at the estimate.
    unit : ndarray of shape (q,)
        Standard deviations; where an estimate is 0, the one at which the coefficient would be half certain.
    """

    to_coordinates: Floats
    covariance: Floats
    unit: Floats

    @classmethod
    def of(cls, fit: RandomEffectsFit, turn: Floats) -> _Columns:
        """Return the columns whose effects are those in the coordinates times the transpose of a matrix."""
        to_coordinates = np.asarray(np.linalg.inv(turn), dtype=np.float64)
        sigma = np.sqrt(fit.residual_variance)
        factor = sigma * (turn @ fit.optimum.factor)
        covariance = factor @ factor.T
        unit = sigma / np.sqrt((to_coordinates**2).sum(axis=0))
        return cls(to_coordinates, covariance, np.where(covariance.diagonal() > 0, np.sqrt(covariance.diagonal()), unit))

    def start(self, order: list[list[int]], free: list[tuple[int, int]], with_residual: bool) -> Floats:
        """Return the free parameters of the fit, with a little variance where it has none."""
        lower = np.zeros_like(self.covariance)
        for block in order:
            scaled = self.covariance[np.ix_(block, block)] / np.outer(self.unit[block], self.unit[block])
            lower[np.ix_(block, block)] = np.linalg.cholesky(scaled + 1e-4 * np.eye(len(block)))
        parameters = np.array([lower[entry] for entry in free])
        return np.append(parameters, 0.0) if with_residual else parameters


def _descent(function: Callable[[Floats], tuple[float, Floats]], start: Floats) -> tuple[float, Floats]:
    """Return the least value of a function with a gradient, and where it is.

    BFGS begins in units in which the second derivatives at the start are 1, and again where it ends, until that is no lower.
    """
    from scipy import optimize

    point, value = start, np.inf
    for _ in range(_MOST_DESCENTS):
        root, at = _unit_curvature(function, point), point

        def scaled(z: Floats, root: Floats = root, at: Floats = at) -> tuple[float, Floats]:
            there, gradient = function(at + root @ z)
            return there, root.T @ gradient

        found = optimize.minimize(scaled, np.zeros(len(point)), jac=True, method="BFGS", options={"gtol": _GRADIENT})
        fall, point, value = value - float(found.fun), point + root @ found.x, float(found.fun)
        if not fall > _NO_FALL:
            break
    return value, point


def _unit_curvature(function: Callable[[Floats], tuple[float, Floats]], point: Floats) -> Floats:
    """Return a matrix S for which the second derivatives of a function of S z are about 1, from differences of gradients."""
    n = len(point)
    hessian = np.empty((n, n))
    for at, step in enumerate(_DIFFERENCE * np.eye(n)):
        hessian[at] = (function(point + step)[1] - function(point - step)[1]) / (2.0 * _DIFFERENCE)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    sizes = np.abs(values)
    return np.asarray(vectors / np.sqrt(np.maximum(sizes, _LEAST_CURVATURE * max(sizes.max(initial=0.0), 1.0))))


def _without_fixed_effect(fit: RandomEffectsFit, at: int, value: float) -> RandomEffectsFit:
    """Return the fit to y less a fixed effect of this value, whose column keeps its random coefficient only."""
    options, remainder = fit.options, fit.scatter.moments.remainder
    # A redundant column must not take the place of the one that is left out.
    columns = [int(column) for column in fit.criterion.coordinates.dropped]
    if options.fit_intercept and at == 0:
        scatter, _ = fit.scatter.about_slopes()
        center = scatter.moments.center.copy()
        center[-1] -= value
        scatter = replace(scatter, moments=replace(scatter.moments, center=center))
        options = replace(options, fit_intercept=False)
    else:
        column = at - int(options.fit_intercept)
        slopes = np.zeros(fit.scatter.n_features) if remainder is None else remainder.slopes.copy()
        slopes[column] = value
        scatter, _ = fit.scatter.about_slopes(slopes)
        columns.append(column)
    return fit_mixed(_moved(scatter, columns), replace(options, n_random_only=options.n_random_only + len(columns)))


def _moved(scatter: Scatter, columns: list[int]) -> Scatter:
    """Return a record whose columns are the same, some of them moved behind the others of x."""
    moments, n_features = scatter.moments, scatter.n_features
    order = [*(at for at in range(n_features) if at not in columns), *columns, n_features]
    names = moments.shown_names
    moved = replace(
        moments,
        center=moments.center[order],
        deviations=moments.deviations[:, order],
        within=moments.within[np.ix_(order, order)],
        feature_names=tuple(names[at] for at in order[:-1]),
    )
    slopes = tuple(order.index(at) for at in scatter.slopes)
    return replace(
        scatter, moments=moved, slopes=slopes, factors=scatter.factors[:, :, order], rest=scatter.rest[np.ix_(order, order)]
    )
