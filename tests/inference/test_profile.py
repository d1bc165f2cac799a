"""Profile limits against minimisation over all other parameters."""

import numpy as np
import pytest
from designs import simulate
from scipy import optimize, stats

from sklearn_mlm import GroupedMoments
from sklearn_mlm.inference._profile import _stretch, profile_limits, ratio_limits
from sklearn_mlm.likelihood._criterion import Criterion
from sklearn_mlm.likelihood._optimum import minimise

THRESHOLD = float(stats.chi2.ppf(0.95, 1))


def likelihood(X, y, groups):
    return Criterion(GroupedMoments.from_arrays(X, y, groups), reml=False)


def deviance(criterion, tau2, sigma2):
    """The deviance with both variances given and the fixed effects profiled out."""
    r2 = criterion.residual_sums_of_squares(np.array([tau2 / sigma2]))[0] * criterion.coordinates.y_scale**2
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


@pytest.mark.parametrize("seed", range(6))
def test_limits_are_the_extremes_over_a_dense_grid_of_ratios(seed):
    rng = np.random.default_rng(seed)
    X, y, groups = simulate(int(rng.choice([3, 6, 30])), 5, 2, tau=rng.choice([0.0, 0.2, 2.0, 30.0]), seed=seed)
    criterion = likelihood(X, y, groups)
    limits = profile_limits(criterion, THRESHOLD)
    low, high = limits.ratio
    ratios = np.append(low, np.geomspace(max(low, 1e-4 * high), high, 1500))
    solutions = [criterion.solution(ratio) for ratio in ratios]
    r2 = criterion.residual_sums_of_squares(np.asarray(ratios))
    left = minimise(criterion).solution.value + THRESHOLD - np.array([criterion.value(ratio) for ratio in ratios])
    left = np.maximum(left, 0.0) / criterion.n_observations
    for which, (lower, upper) in enumerate(limits.coefficients):
        center = np.array([np.append(solution.intercept, solution.coefficients)[which] for solution in solutions])
        # The variance is that at sigma2 = r2 / N.
        variance = np.array([solution.covariance[which, which] for solution in solutions])
        half = np.sqrt(variance * criterion.n_observations * np.expm1(left))
        width = upper - lower
        # No point of a grid beyond the limit, and one as near to it as the square of the grid's step.
        assert -1e-9 * width < (center - half).min() - lower < 1e-4 * width
        assert -1e-4 * width < (center + half).max() - upper < 1e-9 * width
    sigma2 = r2 * criterion.coordinates.y_scale**2 / criterion.n_observations
    for sign, sd in zip((-1, 1), limits.residual_sd, strict=True):
        assert sign * (np.sqrt(sign * (sign * sigma2 * _stretch(left, sign)).max()) - sd) < 1e-9 * sd


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_the_unit_of_precision_weights_does_not_matter(unit):
    X, y, groups = simulate(5, 6, 2)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    one, other = (
        profile_limits(Criterion(GroupedMoments.from_arrays(X, y, groups, w), reml=False, precision_weights=True), THRESHOLD)
        for w in (weights, unit * weights)
    )
    np.testing.assert_allclose(np.array(other.ratio) * unit, one.ratio, rtol=1e-9)
    np.testing.assert_allclose(other.group_sd, one.group_sd, rtol=1e-9)
    np.testing.assert_allclose(other.residual_sd, np.array(one.residual_sd) * np.sqrt(unit), rtol=1e-9)
    np.testing.assert_allclose(other.coefficients, one.coefficients, rtol=1e-9)


def test_the_region_of_a_flat_criterion_is_everything():
    X = np.eye(3)[np.repeat([0, 1, 2], 4)][:, 1:]
    y = np.random.default_rng(4).standard_normal(12)
    criterion = Criterion(GroupedMoments.from_arrays(X, y, np.repeat([0, 1, 2], 4)))
    assert ratio_limits(criterion, THRESHOLD) == (0.0, np.inf)


@pytest.mark.parametrize("threshold", [1e-14, 1e-6, 40.0])
@pytest.mark.parametrize("n_groups", [2, 3])
def test_few_groups_have_limits_at_any_level(n_groups, threshold):
    rng = np.random.default_rng(n_groups)
    groups = np.repeat(np.arange(n_groups), 4)
    y = 1e3 * rng.standard_normal(n_groups)[groups] + rng.standard_normal(len(groups))
    criterion = likelihood(rng.standard_normal((len(y), 1)), y, groups)
    limits = profile_limits(criterion, threshold)
    best = minimise(criterion).solution
    assert limits.ratio[0] <= best.ratio <= limits.ratio[1]
    # Of a region that is narrower than rounding, the limits are the estimates to rounding.
    assert limits.group_sd[0] <= np.sqrt(best.group_variance) * (1 + 1e-9)
    assert limits.group_sd[1] >= np.sqrt(best.group_variance) * (1 - 1e-9)
    assert np.all(np.diff(limits.coefficients) >= 0)


@pytest.mark.parametrize("tau", [1e6, 1e8])
def test_limits_of_groups_that_differ_a_million_times_more_than_rows(tau):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 30)
    X, noise = rng.standard_normal((600, 1)), rng.standard_normal(600)
    criterion = likelihood(X, tau * rng.standard_normal(20)[groups] + noise, groups)
    best, limits = minimise(criterion).solution, profile_limits(criterion, THRESHOLD)
    # Then tau is the standard deviation of 20 group means that are known without error.
    expected = np.sqrt(best.group_variance * np.array([_stretch(THRESHOLD / 20, sign) for sign in (-1, 1)]))
    np.testing.assert_allclose(limits.group_sd, expected, rtol=1e-9)
    half = np.sqrt(THRESHOLD * best.covariance[1, 1])
    np.testing.assert_allclose(limits.coefficients[1], best.coefficients[0] + [-half, half], rtol=0, atol=0.01 * half)
