"""Profile limits against minimisation over all other parameters."""

import numpy as np
import pytest
from designs import simulate
from scipy import optimize, stats

from sklearn_mlm import GroupedMoments
from sklearn_mlm._criterion import Criterion
from sklearn_mlm._optimum import minimise
from sklearn_mlm._profile import _stretch, profile_limits

THRESHOLD = float(stats.chi2.ppf(0.95, 1))


def likelihood(X, y, groups):
    return Criterion(GroupedMoments.from_arrays(X, y, groups), reml=False)


def deviance(criterion, tau2, sigma2):
    """The deviance with both variances given and the fixed effects profiled out."""
    state = criterion.state(tau2 / sigma2)
    r2 = state.r2 * state.y_scale**2
    counts = criterion.moments.counts
    n = criterion.n_observations
    return n * np.log(2 * np.pi * sigma2) + np.log1p(tau2 / sigma2 * counts).sum() + r2 / sigma2


def least(function, low, high):
    """The least value of a function of the logarithm of its argument, by a grid and a bounded search."""
    grid = np.linspace(np.log(low), np.log(high), 200)
    at = int(np.argmin([function(np.exp(x)) for x in grid]))
    bounds = (grid[max(at - 1, 0)], grid[min(at + 1, 199)])
    return optimize.minimize_scalar(
        lambda x: function(np.exp(x)), bounds=bounds, method="bounded", options={"xatol": 1e-10}
    ).fun


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_a_limit_the_least_deviance_stands_at_the_threshold(seed):
    X, y, groups = simulate(10, 6, 2, seed=seed)
    criterion = likelihood(X, y, groups)
    ceiling = minimise(criterion).solution.value + THRESHOLD
    limits = profile_limits(criterion, THRESHOLD)
    for tau in limits.group_sd:
        if tau > 0:
            profile = least(lambda sigma2, tau=tau: deviance(criterion, tau**2, sigma2), 1e-2, 1e2)
            assert profile == pytest.approx(ceiling, abs=1e-6)
    for sigma in limits.residual_sd:
        profile = least(lambda tau2, sigma=sigma: deviance(criterion, tau2, sigma**2), 1e-8, 1e3)
        assert profile == pytest.approx(ceiling, abs=1e-6)
    for ratio in limits.ratio:
        if ratio > 0:
            assert criterion.value(ratio) == pytest.approx(ceiling, abs=1e-9)
    for column in range(2):
        for value in limits.coefficients[1 + column]:
            other = likelihood(np.delete(X, column, axis=1), y - value * X[:, column], groups)
            assert minimise(other).solution.value == pytest.approx(ceiling, abs=1e-7)


def test_a_lower_limit_may_be_zero():
    X, y, groups = simulate(10, 6, 2, tau=0.05, seed=1)
    limits = profile_limits(likelihood(X, y, groups), THRESHOLD)
    assert limits.ratio[0] == 0.0
    assert limits.group_sd[0] == 0.0
    assert limits.group_sd[1] > 0.0


def test_dropped_columns_have_no_limits():
    X, y, groups = simulate(10, 6, 1)
    limits = profile_limits(likelihood(np.column_stack([X, 2 * X]), y, groups), THRESHOLD)
    assert np.isnan(limits.coefficients[2]).all()
    alone = profile_limits(likelihood(X, y, groups), THRESHOLD)
    np.testing.assert_allclose(limits.coefficients[:2], alone.coefficients, rtol=1e-9)


@pytest.mark.parametrize("excess", [1e-14, 1e-6, 0.1, 3.0])
def test_the_stretch_solves_its_equation_on_both_sides(excess):
    for sign in (-1, 1):
        t = np.log(_stretch(excess, sign))
        assert np.sign(t) == sign
        assert t + np.expm1(-t) == pytest.approx(excess, rel=1e-7)
    assert _stretch(0.0, 1) == 1.0
