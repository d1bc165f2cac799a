"""The global optimum: both ends exactly, and otherwise the lowest of all local minima."""

import numpy as np
import pytest
from designs import simulate
from oracle import Dense, relative_error

from sklearn_mlm import GroupedMoments
from sklearn_mlm.likelihood._criterion import Criterion
from sklearn_mlm.likelihood._optimum import minimise


def criterion_of(X, y, groups, **options):
    return Criterion(GroupedMoments.from_arrays(X, y, groups), **options)


def two_minima():
    """A small well-separated group structure under noise of very different group sizes: a profile with two minima.

    Two groups of one size say the variance ratio is large, many of another size that it is small.
    """
    rng = np.random.default_rng(0)
    sizes = np.append(np.full(2, 1), np.full(10, 2000))
    means = np.append([60.0, -60.0], 0.005 * rng.standard_normal(10))
    groups = np.repeat(np.arange(12), sizes)
    noise = rng.standard_normal(len(groups))
    noise -= (np.bincount(groups, noise) / sizes)[groups]
    return None, means[groups] + noise, groups


def test_of_two_local_minima_the_lower_is_returned():
    criterion = criterion_of(*two_minima())
    optimum = minimise(criterion)
    assert len(optimum.candidates) == 2
    values = [criterion.solution(ratio).value for ratio in optimum.candidates]
    assert optimum.solution.value == min(values)
    assert max(values) - min(values) > 1
    grid = np.exp(np.linspace(np.log(1e-10), np.log(1e6), 20_001))
    assert optimum.solution.value <= criterion.evaluate(grid)[0].min()


@pytest.mark.parametrize("seed", range(40))
def test_no_ratio_on_a_fine_grid_has_a_lower_criterion(seed):
    rng = np.random.default_rng(seed)
    design = simulate(
        int(rng.integers(3, 15)), int(rng.integers(2, 9)), int(rng.integers(0, 3)), tau=rng.choice([0.0, 0.1, 1.0, 30.0]),
        level_2=False, seed=seed,
    )  # fmt: skip
    X, y, groups = design
    for reml in (True, False):
        criterion = criterion_of(X if X.size else None, y, groups, reml=reml)
        optimum = minimise(criterion)
        grid = np.append(0.0, np.exp(np.linspace(np.log(1e-8), np.log(1e8), 2001)))
        lowest = criterion.evaluate(grid)[0].min()
        assert optimum.solution.value <= lowest + 1e-11 * abs(lowest)
        if optimum.boundary is None:
            # The derivative changes sign within a few units in the last place.
            ratio = optimum.solution.ratio
            assert criterion.derivatives(ratio * (1 - 1e-12))[0] < 0 < criterion.derivatives(ratio * (1 + 1e-12))[0]


@pytest.mark.parametrize(
    ("n_groups", "mean_size", "n_columns", "tau", "level_2", "reml", "seed"),
    [(4, 6, 1, 0.3, True, False, 1678), (19, 2, 0, 0.1, True, True, 2419), (9, 3, 0, 1.0, False, False, 1011),
     (14, 3, 0, 0.1, True, False, 1720), (5, 7, 1, 1.0, False, False, 811)],
)  # fmt: skip
def test_the_ratio_is_the_root_of_the_derivative_in_50_digits(n_groups, mean_size, n_columns, tau, level_2, reml, seed):
    """The root lies near the end of a cell whose other end is far from it."""
    X, y, groups = simulate(n_groups, mean_size, n_columns, tau=tau, level_2=level_2, seed=seed)
    X = X if X.size else None
    ratio = minimise(criterion_of(X, y, groups, reml=reml)).solution.ratio
    # The rounding of the derivative, divided by its slope, is already 1e-15 to 2e-14 of the ratio.
    assert relative_error(ratio, Dense(X, y, groups, reml=reml).fit(ratio)["ratio"]) < 1e-13


def test_a_variance_of_zero_is_reached_exactly():
    y = np.tile([1.0, 2.0, 3.0], 4)  # the group means are equal
    optimum = minimise(criterion_of(None, y, np.repeat(np.arange(4), 3)))
    assert optimum.boundary == "group"
    assert optimum.solution.ratio == optimum.solution.group_variance == 0
    np.testing.assert_array_equal(optimum.solution.random_effects, 0)
    np.testing.assert_allclose(optimum.solution.residual_variance, np.var(y, ddof=1), rtol=1e-14)


def test_an_optimum_next_to_zero_is_found_in_the_first_cell():
    # Balanced: tau2 = (MSB - MSW) / n in closed form, here a hair above zero.
    n_groups, size = 5, 4
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(n_groups), size)
    noise = rng.standard_normal((n_groups, size))
    noise -= noise.mean(axis=1, keepdims=True)
    msw = (noise**2).sum() / (n_groups * (size - 1))
    means = rng.standard_normal(n_groups)
    means -= means.mean()
    excess = 1e-9
    means *= np.sqrt(msw * (1 + excess) * (n_groups - 1) / size / (means**2).sum())
    optimum = minimise(criterion_of(None, (noise + means[:, None]).ravel(), groups))
    np.testing.assert_allclose(optimum.solution.ratio, excess / size, rtol=1e-5)


@pytest.mark.parametrize("ratio", [1e-6, 1e-3, 1.0, 1e3, 1e8, 1e14])
def test_balanced_groups_have_the_anova_estimates_at_any_ratio(ratio):
    n_groups, size = 8, 5
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((n_groups, size))
    noise -= noise.mean(axis=1, keepdims=True)
    means = rng.standard_normal(n_groups)
    means -= means.mean()
    msw = (noise**2).sum() / (n_groups * (size - 1))
    means *= np.sqrt((msw * (1 + size * ratio)) * (n_groups - 1) / size / (means**2).sum())
    y = (means[:, None] + noise).ravel()
    # The mean squares of the doubles after rounding.
    grid = y.astype(np.longdouble).reshape(n_groups, size)
    within = float(((grid - grid.mean(axis=1, keepdims=True)) ** 2).sum() / (n_groups * (size - 1)))
    between = float(size * grid.mean(axis=1).var(ddof=1))
    solution = minimise(criterion_of(None, y, np.repeat(np.arange(n_groups), size))).solution
    np.testing.assert_allclose(solution.residual_variance, within, rtol=1e-13)
    # The difference of nearly equal mean squares has the rounding error of each.
    rtol = 1e-13 + 3e-16 / ratio
    np.testing.assert_allclose(solution.group_variance, (between - within) / size, rtol=rtol)


@pytest.mark.parametrize("reml", [True, False])
def test_an_outcome_constant_within_groups_has_no_residual(reml):
    groups = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6])
    level = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    optimum = minimise(criterion_of(None, level[groups], groups, reml=reml))
    assert optimum.boundary == "residual"
    assert optimum.solution.residual_variance == 0
    np.testing.assert_allclose(optimum.solution.group_variance, level.var(ddof=int(reml)), rtol=1e-14)
    np.testing.assert_allclose(optimum.solution.intercept, level.mean(), rtol=1e-15)
    np.testing.assert_allclose(optimum.solution.random_effects, level - level.mean(), rtol=1e-14)
    assert optimum.solution.value == -np.inf


@pytest.mark.parametrize("reml", [True, False])
def test_without_residual_within_slopes_come_from_within_and_others_from_the_means(reml):
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(9), 5)
    inside, outside = rng.standard_normal(45), rng.standard_normal(9)
    level = 2.0 + 3.0 * outside + rng.standard_normal(9)
    X = np.column_stack([inside, outside[groups], inside + 2 * outside[groups]])[:, :2]
    optimum = minimise(criterion_of(X, -1.5 * inside + level[groups], groups, reml=reml))
    design = np.column_stack([np.ones(9), outside])
    (intercept, slope), (rss,) = np.linalg.lstsq(design, level, rcond=None)[:2]
    assert optimum.boundary == "residual"
    np.testing.assert_allclose(optimum.solution.coefficients, [-1.5, slope], rtol=1e-12)
    np.testing.assert_allclose(optimum.solution.intercept, intercept, rtol=1e-12)
    np.testing.assert_allclose(optimum.solution.group_variance, rss / (9 - 2 * reml), rtol=1e-12)
    covariance = rss / (9 - 2 * reml) * np.linalg.inv(design.T @ design)
    np.testing.assert_allclose(optimum.solution.covariance[np.ix_([0, 2], [0, 2])], covariance, rtol=1e-10)
    np.testing.assert_allclose(optimum.solution.covariance[1], 0, atol=1e-20)


def test_a_saturated_within_part_is_compared_at_its_finite_limit():
    # As many columns within groups as there are degrees of freedom: no residual, but a bounded REML criterion.
    rng = np.random.default_rng(5)
    groups = np.array([0, 0, 1, 1, 2, 3, 4, 5])
    X = np.zeros((8, 2))
    X[1, 0], X[3, 1] = 1.0, 1.0
    criterion = criterion_of(X, rng.standard_normal(8), groups)
    assert criterion.within_degrees_of_freedom == 0
    optimum = minimise(criterion)
    limit = criterion.solution(np.inf)
    assert np.isfinite(limit.value)
    np.testing.assert_allclose(criterion.value(1e9), limit.value, rtol=1e-7)
    grid = np.append(0.0, np.exp(np.linspace(-20, 10, 4001)))
    assert optimum.solution.value <= min(criterion.evaluate(grid)[0].min(), limit.value) + 1e-10


def test_an_exact_fit_has_no_variance_at_all():
    X, _, groups = simulate()
    optimum = minimise(criterion_of(X, 1.0 + X @ [1.0, 2.0, 3.0], groups))
    assert optimum.solution.group_variance == optimum.solution.residual_variance == 0
    np.testing.assert_allclose(optimum.solution.coefficients, [1.0, 2.0, 3.0], rtol=1e-10)


def test_groups_that_the_columns_nearly_tell_apart():
    # The rest between groups is 1e-8 of the group means, so that the minimum is at a ratio far above 1 / n.
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(6), 4)
    X = np.eye(6)[groups][:, 1:] + 1e-4 * rng.standard_normal((24, 5))
    y = X @ np.arange(5.0) + 1e3 * rng.standard_normal(6)[groups] + rng.standard_normal(24)
    criterion = criterion_of(X, y, groups)
    optimum = minimise(criterion)
    grid = np.append(0.0, np.exp(np.linspace(-15, 40, 5501)))
    assert optimum.solution.value <= criterion.evaluate(grid)[0].min() + 1e-9


FLAT = {
    "a column for each group": (np.eye(3)[np.repeat([0, 1, 2], 4)][:, 1:], np.repeat([0, 1, 2], 4)),
    "one degree of freedom": (np.random.default_rng(3).standard_normal((7, 5)), np.repeat([0, 1], [3, 4])),
}


@pytest.mark.parametrize("design", FLAT)
def test_of_flat_criteria_zero_is_returned(design):
    X, groups = FLAT[design]
    y = np.random.default_rng(4).standard_normal(len(groups))
    criterion = criterion_of(X, y, groups)
    np.testing.assert_allclose(criterion.value(1e3), criterion.value(0.0), rtol=1e-12)
    optimum = minimise(criterion)
    assert not optimum.identified
    assert optimum.boundary == "group"


def nearly_dependent(n_groups, n_columns, n_spare, seed):
    """Columns that differ by 0.01, and are so many that one or two degrees of freedom remain for both variances."""
    rng = np.random.default_rng(seed)
    n_rows = n_columns + 1 + n_spare
    groups = np.sort(np.append(np.arange(n_groups), rng.integers(0, n_groups, n_rows - n_groups)))
    X = rng.standard_normal((n_rows, 1)) + 1e-3 * rng.standard_normal((n_rows, n_columns))
    return X, rng.standard_normal(n_rows) + rng.standard_normal(n_groups)[groups], groups


def saturated(between):
    """Groups of three rows, and six columns that vary within groups except for a small part."""
    rng = np.random.default_rng(8)
    groups = np.repeat(np.arange(3), 3)
    X = rng.standard_normal((9, 6))
    X -= X.reshape(3, 3, 6).mean(axis=1)[groups]
    X = X @ (np.eye(6) + 3 * rng.standard_normal((6, 6))) + between * rng.standard_normal((3, 6))[groups]
    return X, rng.standard_normal(9) + rng.standard_normal(3)[groups], groups


ROUNDED_FLAT = {f"{n} columns": nearly_dependent(2, n, 1, seed) for n, seed in ((5, 0), (8, 1), (10, 5), (10, 3))}


@pytest.mark.parametrize("design", [*ROUNDED_FLAT.values(), saturated(0.0)])
def test_flat_criteria_are_flat_whatever_rounding_makes_of_them(design):
    X, y, groups = design
    exact = Dense(X, y, groups)
    values = [exact.value(ratio) for ratio in (0.0, 1.0, 1e4)]
    # The part of the columns that varies between groups is rounding, and should be zero.
    assert float(max(values) - min(values)) < 1e-12
    rng = np.random.default_rng(9)
    for attempt in range(20):
        order = rng.permutation(len(y)) if attempt % 2 else np.arange(len(y))
        moved = [np.nextafter(part[order], rng.choice([-np.inf, np.inf], part.shape)) for part in (X, y)]
        optimum = minimise(criterion_of(*moved, groups[order]))
        assert not optimum.identified
        assert optimum.boundary == "group"
        assert optimum.solution.ratio == 0


@pytest.mark.parametrize("between", [1e-6, 1e-4])
def test_criteria_that_vary_little_are_not_called_flat(between):
    X, y, groups = saturated(between)
    exact = Dense(X, y, groups)
    values = [float(exact.value(ratio)) for ratio in (0.0, 0.1, 1.0, 10.0, 1e4)]
    assert 1e-12 < max(values) - min(values) < 1e-2
    assert minimise(criterion_of(X, y, groups)).identified


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_the_unit_of_precision_weights_does_not_matter(unit):
    X, y, groups = simulate(12, 6, 2)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    solutions = [
        minimise(Criterion(GroupedMoments.from_arrays(X, y, groups, w), precision_weights=True)).solution
        for w in (weights, unit * weights)
    ]
    np.testing.assert_allclose(solutions[1].ratio * unit, solutions[0].ratio, rtol=1e-12)
    np.testing.assert_allclose(solutions[1].group_variance, solutions[0].group_variance, rtol=1e-12)
    np.testing.assert_allclose(solutions[1].residual_variance / unit, solutions[0].residual_variance, rtol=1e-12)
    np.testing.assert_allclose(solutions[1].covariance, solutions[0].covariance, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("unit", [1e-18, 1.0, 1e18])
def test_groups_nearly_told_apart_are_scanned_in_units_of_their_sizes(unit):
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(6), 4)
    X = np.eye(6)[groups][:, 1:] + 1e-4 * rng.standard_normal((24, 5))
    y = X @ np.arange(5.0) + 1e3 * rng.standard_normal(6)[groups] + rng.standard_normal(24)
    ratio, one = (
        minimise(Criterion(GroupedMoments.from_arrays(X, y, groups, np.full(24, w)), precision_weights=True)).solution.ratio
        for w in (unit, 1.0)
    )
    np.testing.assert_allclose(ratio * unit, one, rtol=1e-6)


@pytest.mark.parametrize("weight", [0.3, 1 / 3, 0.499])
def test_weights_that_leave_less_than_a_row_a_group_have_no_optimum_without_residual(weight):
    groups = np.repeat(np.arange(6), 2)
    moments = GroupedMoments.from_arrays(None, np.array([1.0, 3, 2, 5, 9, 4])[groups], groups, np.full(12, weight))
    optimum = minimise(Criterion(moments))
    assert optimum.boundary == "group"
    assert np.isfinite(optimum.solution.value)


@pytest.mark.parametrize(("x_step", "y_step"), [(1e-6, 1e-5), (1e-5, 1e-4), (1e-4, 1e-3), (1e-3, 1e-3)])
def test_a_saturated_within_part_is_scanned_to_where_its_column_counts(x_step, y_step):
    groups = [0, 0, 1, 2, 3, 4]
    X = np.array([[0.0], [x_step], [1.0], [-1.0], [0.5], [2.0]])
    y = np.array([0.3, 0.3 + y_step, 1.5, -1.1, 0.2, 2.6])
    optimum = minimise(criterion_of(X, y, groups))
    exact = Dense(X, y, groups)
    lowest = min(float(exact.value(10.0**power)) for power in np.arange(-2, 14, 0.25))
    assert optimum.solution.value <= lowest + 1e-6
    if optimum.boundary is None:
        np.testing.assert_allclose(optimum.solution.value, float(exact.value(optimum.solution.ratio)), atol=1e-6)


@pytest.mark.parametrize("gap", [1e4, 1e7, 2.0**34])
def test_an_outlying_group_does_not_touch_the_residual_variance(gap):
    """Balanced groups with a covariate: sigma2 against brute force in long double, given the slopes within groups."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 5)
    x = np.round(rng.standard_normal(100) * 2**15) / 2**15
    y = np.round((x + rng.standard_normal(20)[groups] + rng.standard_normal(100)) * 2**15) / 2**15
    criterion = criterion_of(x[:, None], y + gap * (groups == 0), groups)
    optimum = minimise(criterion)
    # As the gap grows, the group means add less and less to what W determines of the slope.
    deviations = [v.reshape(20, 5).astype(np.longdouble) for v in (x, y)]
    dx, dy = (v - v.mean(axis=1, keepdims=True) for v in deviations)
    rss = float((dy**2).sum() - (dx * dy).sum() ** 2 / (dx**2).sum())
    np.testing.assert_allclose(criterion.coordinates.within_residual * criterion.coordinates.y_scale**2, rss, rtol=1e-13)
    # The slope takes one degree of freedom; the means add little to it.
    np.testing.assert_allclose(optimum.solution.residual_variance, rss / 79, rtol=3e-2)
    reference = minimise(criterion_of(x[:, None], y + 2.0**36 * (groups == 0), groups)).solution.residual_variance
    np.testing.assert_allclose(optimum.solution.residual_variance, reference, rtol=1e-2 / np.sqrt(gap) + 1e-9)
