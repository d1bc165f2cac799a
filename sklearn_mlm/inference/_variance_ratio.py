"""Pivots of the variances, exact and generalised, and the null distribution of the likelihood-ratio test."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from .._progress import progress
from .._typing import RandomState
from ..likelihood._criterion import Criterion
from ..likelihood._spectrum import eigenvalues
from ._distributions import f_test

# More eigenvalues than these are binned.
_MAX_EIGENVALUES = 128
# Variance ratios, relative to the largest eigenvalue, at which simulated criteria are compared.
_GRID = np.exp(np.linspace(np.log(1e-4), np.log(1e8), 240))
# If the pivot has not fallen to a value at this ratio, in units of 1 / (largest size), it never does.
_LARGEST_RATIO = 1e15
_TOLERANCE = 4 * np.finfo(np.float64).eps
# The quadrature over chi-squared leaves out tails of this probability. Its steps in the logarithm are no wider than the
# second number, whose error is exp(-pi^2 / 0.3) = 5e-15.
_NEGLIGIBLE = 1e-16
_WIDEST_STEP = 0.3
_PIVOT_TOLERANCE = 1e-13


class FPivot:
    """Wald's pivot of the variance ratio, exact with covariates and groups of any size, and one of the group variance.

    With RSS_w the residual sum of squares within groups, df2 = N - J - k_w its degrees of freedom, and df1 = J + k_w - k,

        F(gamma) = [(r2(gamma) - RSS_w) / df1] / [RSS_w / df2]

    has the F(df1, df2) distribution at the true gamma, and falls as gamma grows. Its numerator and its denominator are
    independent: U1 = (r2(gamma) - RSS_w) / sigma2 and U2 = RSS_w / sigma2 are chi-squared with df1 and df2 degrees of
    freedom. The solution tau2 = gamma sigma2 of these two equations, for random U1 and U2, is a generalised pivot of tau2.

    Parameters
    ----------
    criterion : Criterion
        The criterion of the rows.

    References
    ----------
    A. Wald (1947), "A note on regression analysis", Annals of Mathematical Statistics 18(4), 586-589.

    D. A. Harville and A. P. Fenech (1985), "Confidence intervals for a variance ratio, or for heritability, in an
    unbalanced mixed linear model", Biometrics 41(1), 137-152.

    S. Weerahandi (1993), "Generalized confidence intervals", Journal of the American Statistical Association 88(423),
    899-905, for the pivot of tau2.
    """

    def __init__(self, criterion: Criterion):
        self._criterion = criterion
        self.df1 = float(criterion.between_degrees_of_freedom)
        self.df2 = float(criterion.within_degrees_of_freedom)

    @property
    def defined(self) -> bool:
        """Whether there are degrees of freedom both between and within groups."""
        return self.df1 > 0 and self.df2 > 0

    def statistic(self, ratio: float) -> float:
        """Return F(gamma): infinity if nothing is left within groups, NaN without degrees of freedom or residuals."""
        if not self.defined or self._criterion.exact_fit:
            return np.nan
        within = self._criterion.coordinates.within_residual
        between = max(float(self._criterion.residual_sums_of_squares(np.array([ratio]))[0]) - within, 0.0)
        if within <= 0:
            return np.inf if between > 0 else np.nan
        return float(between / self.df1 / (within / self.df2))

    def test(self) -> pd.Series:
        """Return Wald's exact F test of tau2 = 0."""
        return f_test(self.statistic(0.0), self.df1, self.df2)

    def limits(self, level: float) -> tuple[float, float]:
        """Return the exact confidence limits of gamma; values beyond each limit have the probability (1 - level) / 2."""
        from scipy import stats

        if not self.defined or self._criterion.coordinates.within_residual <= 0:
            return np.nan, np.nan
        tail = (1.0 - level) / 2.0
        lower, upper = stats.f.ppf([1.0 - tail, tail], self.df1, self.df2).tolist()
        return self._solve(lower), self._solve(upper)

    def _solve(self, value: float) -> float:
        """Return the gamma at which the pivot equals a value: 0 if it is always below, infinity if it is always above."""
        from scipy import optimize

        if self.statistic(0.0) <= value:
            return 0.0
        first = 1.0 / float(self._criterion.groups.sizes.max())
        high = first
        while self.statistic(high) > value:
            high *= 8.0
            if high > _LARGEST_RATIO * first:
                return np.inf
        return float(optimize.brentq(lambda ratio: self.statistic(ratio) - value, 0.0, high, xtol=1e-300, rtol=_TOLERANCE))

    def residual_variance_limits(self, level: float) -> tuple[float, float]:
        """Return the exact confidence limits of sigma2, in the criterion's units: RSS_w / sigma2 is chi-squared(df2)."""
        from scipy import stats

        if self.df2 <= 0:
            return np.nan, np.nan
        tail = (1.0 - level) / 2.0
        quantiles = stats.chi2.ppf([1.0 - tail, tail], self.df2)
        lower, upper = self._criterion.coordinates.within_residual / quantiles
        return float(lower), float(upper)

    def group_variance_tail(self, group_variance: float) -> float:
        """Return the probability that the generalised pivot is at least a group variance, in the criterion's units.

        The pivot is at least t if gamma is at least t / sigma2 = t U2 / RSS_w, and r2 falls as gamma grows, so that with G
        the distribution function of chi-squared with df1 degrees of freedom

            P(pivot >= t) = E G[(r2(t U2 / RSS_w) - RSS_w) U2 / RSS_w],

        an integral over the distribution of U2.
        """
        from scipy.special import chdtr

        squares, weights = _chi_squared_nodes(self.df2)
        within = self._criterion.coordinates.within_residual
        precisions = squares / within
        between = self._criterion.residual_sums_of_squares(group_variance * precisions) - within
        return float(weights @ chdtr(self.df1, np.maximum(between, 0.0) * precisions))

    def group_variance_limits(self, level: float) -> tuple[float, float]:
        """Return the limits of tau2 by the generalised pivot, in the criterion's units; NaN if it is not defined."""
        if not self.defined or self._criterion.exact_fit or self._criterion.coordinates.within_residual <= 0:
            return np.nan, np.nan
        tail = (1.0 - level) / 2.0
        residual = self._criterion.coordinates.within_residual / self.df2
        lower, upper = (residual * limit for limit in self.limits(level))
        return self._group_variance_at(1.0 - tail, lower), self._group_variance_at(tail, upper)

    def _group_variance_at(self, probability: float, guess: float) -> float:
        """Return the group variance that the pivot exceeds with a probability: 0 if it never does so, or infinity."""
        from scipy import optimize

        def excess(group_variance: float) -> float:
            return self.group_variance_tail(group_variance) - probability

        if excess(0.0) <= 0:
            return 0.0
        within = self._criterion.coordinates.within_residual / self.df2
        largest = _LARGEST_RATIO / float(self._criterion.groups.sizes.max()) * within
        low = high = guess if 0 < guess < largest else within / float(self._criterion.groups.sizes.max())
        while excess(high) > 0:
            low, high = high, 2.0 * high
            if high > largest:
                return np.inf
        while low == high or excess(low) < 0:
            low, high = low / 2.0, low
            if low < largest / _LARGEST_RATIO**2:
                return 0.0
        return float(optimize.brentq(excess, low, high, xtol=1e-300, rtol=_PIVOT_TOLERANCE))


def _chi_squared_nodes(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of a quadrature over the chi-squared distribution.

    It is the trapezoidal rule in the logarithm, where the density and what is integrated are analytic and decay at both
    ends, so that the error falls exponentially with the number of nodes (L. N. Trefethen and J. A. C. Weideman (2014),
    "The exponentially convergent trapezoidal rule", SIAM Review 56(3), 385-458).
    """
    from scipy import special

    shape = df / 2.0
    ends = special.gammaincinv(shape, _NEGLIGIBLE), special.gammainccinv(shape, _NEGLIGIBLE)
    low, high = np.log(np.maximum(ends, np.finfo(np.float64).tiny)).tolist()
    # The standard deviation of the logarithm is about 1 / sqrt(shape) if the shape is large.
    step = min(_WIDEST_STEP, 0.6 / np.sqrt(shape))
    logs = np.linspace(low, high, int(np.ceil((high - low) / step)) + 1)
    log_density = shape * (logs - logs.max()) - np.exp(logs)
    weights = np.exp(log_density - log_density.max())
    return 2.0 * np.exp(logs), weights / weights.sum()


def simulate_null(
    criterion: Criterion, n_simulations: int, random_state: RandomState = None, verbose: int = 0
) -> np.ndarray:
    """Return draws of the restricted likelihood-ratio statistic of tau2 = 0 under that hypothesis.

    With mu_s the eigenvalues that `eigenvalues` returns and w_s independent standard normals, the statistic is distributed
    as

        sup over gamma of (N - k) log(sum w_s^2 / sum(w_s^2 / (1 + gamma mu_s))) - sum log(1 + gamma mu_s).

    The sums of squares have N - k terms; terms without an eigenvalue have mu = 0. The statistic is 0 in every draw if there
    are no eigenvalues.

    More than 128 eigenvalues are binned by log mu, and each bin is represented by its mean. As in `eigenvalues`, the error
    is of second order in the width of a bin. If mu spans three powers of ten, the width is 0.05 and the relative error of
    the statistic about 1e-4; the relative Monte Carlo error of a p-value of 0.05 from 10,000 draws is 4e-2.

    Parameters
    ----------
    criterion : Criterion
        Restricted criterion.
    n_simulations : int
        Number of draws.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws.
    verbose : int, default=0
        1 shows progress.

    Returns
    -------
    statistics : ndarray of shape (n_simulations,)
        The draws.

    References
    ----------
    C. M. Crainiceanu and D. Ruppert (2004), "Likelihood ratio tests in linear mixed models with one variance component",
    Journal of the Royal Statistical Society B 66(1), 165-185, equation 9.
    """
    rng = check_random_state(random_state)
    values, counts = _binned(*eigenvalues(criterion))
    if not len(values):
        return np.zeros(n_simulations)
    free = criterion.degrees_of_freedom
    shrunk = 1.0 / (1.0 + _GRID[:, None] / values.max() * values)
    penalty = -np.log(shrunk) @ counts
    statistics = np.empty(n_simulations)
    step = max(1, (1 << 22) // (len(values) + len(_GRID)))
    with progress(verbose, "draws", n_simulations) as report:
        for start in range(0, n_simulations, step):
            size = min(step, n_simulations - start)
            squares = rng.chisquare(counts, size=(size, len(counts)))
            left = free - counts.sum()
            rest = rng.chisquare(left, size=size) if left > 0 else np.zeros(size)
            total = squares.sum(axis=1) + rest
            profile = free * (np.log(total)[:, None] - np.log(squares @ shrunk.T + rest[:, None])) - penalty
            statistics[start : start + size] = np.maximum(profile.max(axis=1), 0.0)
            report(size)
    return statistics


def _binned(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean eigenvalue and the total count of bins of equal width in the logarithm."""
    if len(values) <= _MAX_EIGENVALUES:
        return values, counts
    # An eigenvalue below 1e-8 of the largest makes a difference only at ratios beyond the grid.
    edges = np.geomspace(max(values.min(), 1e-8 * values.max()), values.max(), _MAX_EIGENVALUES)
    code = np.searchsorted(edges[1:-1], values, side="right")
    totals = np.bincount(code, counts)
    filled = totals > 0
    return np.bincount(code, counts * values)[filled] / totals[filled], totals[filled]
