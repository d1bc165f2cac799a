"""Profile-likelihood limits of the standard deviations and correlations of random coefficients, and of fixed effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .._typing import Floats
from ..likelihood._mixed_criterion import MixedCriterion
from ..likelihood._mixed_fit import MixedEffectsFit, fit_mixed
from ..moments._scatter import Scatter

# Limits are found to this share of their distance from the estimate.
_TOLERANCE = 1e-6
# Steps by which a limit is enclosed grow by this factor, at most so many times.
_GROWTH, _MOST_STEPS = 1.6, 60
# Length of the gradient at which a minimum given one parameter is good enough: its square is the error of the criterion.
_GRADIENT = 1e-5
_LARGEST_LOG = 100.0


class MixedProfile:
    """The likelihood of a fit as a function of one parameter, with all others at their best.

    The covariance of each random term is L L' with a lower triangular L, whose first rows belong to the parameter of
    interest: its first entry is a standard deviation, and the direction of its second row is a correlation. So the parameter
    is fixed without a constraint on the others.

    Parameters
    ----------
    fit : MixedEffectsFit
        A fit whose residual variance is not 0, by the likelihood that is profiled.
    threshold : float
        A quantile of chi-squared with one degree of freedom.
    """

    def __init__(self, fit: MixedEffectsFit, threshold: float):
        self._fit, self._threshold = fit, threshold
        self._criterion: MixedCriterion = fit.criterion
        here = fit.criterion.coordinates
        kept = [at for at in range(len(fit.options.coefficients)) if at not in here.dropped_random]
        self._to_coordinates = np.linalg.inv(fit.turn_from_origin[kept])
        position = {at: i for i, at in enumerate(kept)}
        self.blocks = [[position[at] for at in block if at in position] for block in here.design.blocks]
        self.names = [fit.options.coefficients[at] for at in kept]
        self._covariance = fit.random_covariance[np.ix_(kept, kept)]
        self._residual = fit.residual_variance / here.y_scale**2
        spread = np.sqrt((self._to_coordinates**2).sum(axis=0))
        # Where an estimate is 0, the standard deviation at which the coefficient would be half certain.
        unit = np.sqrt(fit.residual_variance) / spread
        self._unit = np.where(self._covariance.diagonal() > 0, np.sqrt(self._covariance.diagonal()), unit)

    # ---- limits

    def sd_excess(self, at: int, value: float) -> float:
        """Return by how much the criterion, given the standard deviation of a coefficient, exceeds the ceiling of limits."""
        return self._minimum(self._order(at), value, None, None)[0]

    def sd_limits(self, at: int) -> tuple[float, float]:
        """Return the limits of the standard deviation of a random coefficient."""
        order = self._order(at)
        best = float(np.sqrt(self._covariance[at, at]))

        def excess(value: float, start: Floats | None) -> tuple[float, Floats]:
            return self._minimum(order, value, None, start)

        upper = self._limit(excess, best, 0.5 * self._unit[at], np.inf)
        return self._limit(excess, best, -0.5 * self._unit[at], 0.0), upper

    def correlation_limits(self, at: int, other: int) -> tuple[float, float]:
        """Return the limits of a correlation; NaN if one of the coefficients has no variance."""
        variance = self._covariance[at, at] * self._covariance[other, other]
        if variance == 0:
            return np.nan, np.nan
        order = self._order(at, other)
        best = float(np.clip(self._covariance[at, other] / np.sqrt(variance), -1.0, 1.0))

        def excess(value: float, start: Floats | None) -> tuple[float, Floats]:
            return self._minimum(order, None, value, start)

        return self._limit(excess, best, -0.2, -1.0), self._limit(excess, best, 0.2, 1.0)

    def residual_limits(self) -> tuple[float, float]:
        """Return the limits of the residual standard deviation."""
        order = self._order(0)
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
        from scipy import optimize

        entries = [(i, j) for block in order for a, i in enumerate(block) for j in block[: a + 1]]
        first = order[0]
        known = {(first[0], first[0])} if sd is not None else set()
        if correlation is not None:
            # Its second row has a length, in place of two entries.
            known = {(first[1], first[0])}
        free = [entry for entry in entries if entry not in known]
        unit = self._unit[[i for i, _ in free]]
        lower = np.zeros_like(self._covariance)
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
            value, by_factor, by_log_residual = self._at(factor, variance)
            gradient = np.array([by_factor[entry] for entry in free])
            if share is not None:
                row = by_factor[first[1], [first[0], first[1]]]
                gradient[free.index((first[1], first[1]))] = row @ share
            gradient *= np.where(positive, values, unit)
            return value - self._fit.value, gradient if residual is not None else np.append(gradient, by_log_residual)

        of_fit = self._start(order, free, residual is None)
        of_fit[: len(free)][positive] = np.log(of_fit[: len(free)][positive])
        found = [
            optimize.minimize(criterion, parameters, jac=True, method="BFGS", options={"gtol": _GRADIENT})
            for parameters in ([of_fit] if start is None else [start, of_fit])
        ]
        best = min(found, key=lambda end: float(end.fun))
        return float(best.fun) - self._threshold, best.x

    def _start(self, order: list[list[int]], free: list[tuple[int, int]], with_residual: bool) -> Floats:
        """Return the free parameters of the fit, with a little variance where it has none."""
        lower = np.zeros_like(self._covariance)
        for block in order:
            scaled = self._covariance[np.ix_(block, block)] / np.outer(self._unit[block], self._unit[block])
            lower[np.ix_(block, block)] = np.linalg.cholesky(scaled + 1e-4 * np.eye(len(block)))
        parameters = np.array([lower[entry] for entry in free])
        return np.append(parameters, 0.0) if with_residual else parameters

    def _at(self, lower: Floats, residual: float) -> tuple[float, Floats, float]:
        """Return the criterion, and its derivatives by the factor L of Sigma and by the logarithm of sigma2."""
        criterion, scale = self._criterion, self._criterion.coordinates.y_scale * np.sqrt(residual)
        factor = self._to_coordinates @ lower / scale
        there = criterion.at_residual_variance(residual).evaluate(factor[None])
        slope = there.slope[0]
        by_factor = 2.0 * self._to_coordinates.T @ slope @ factor / scale
        by_log = criterion.degrees_of_freedom - float(there.r2[0]) / residual - float((slope @ factor * factor).sum())
        return float(there.value[0]), by_factor, by_log


def _without_fixed_effect(fit: MixedEffectsFit, at: int, value: float) -> MixedEffectsFit:
    """Return the fit to y less a fixed effect of this value, whose column keeps its random coefficient only."""
    options = fit.options
    if options.fit_intercept and at == 0:
        moments = fit.scatter.moments
        center = moments.center.copy()
        center[-1] -= value
        scatter = replace(fit.scatter, moments=replace(moments, center=center))
        return fit_mixed(scatter, replace(options, fit_intercept=False))
    column = at - int(options.fit_intercept)
    scatter = _moved(_less_column(fit.scatter, column, value), column)
    return fit_mixed(scatter, replace(options, n_random_only=options.n_random_only + 1))


def _less_column(scatter: Scatter, column: int, value: float) -> Scatter:
    """Return a record in which y is y less a column of x times a value."""
    slopes = np.zeros(scatter.n_features)
    if scatter.moments.remainder is not None:
        slopes += scatter.moments.remainder.slopes
    slopes[column] += value
    return scatter.about_slopes(slopes)[0]


def _moved(scatter: Scatter, column: int) -> Scatter:
    """Return a record whose columns are the same, one of them moved behind the others of x."""
    moments, n_features = scatter.moments, scatter.n_features
    order = [*(at for at in range(n_features) if at != column), column, n_features]
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
