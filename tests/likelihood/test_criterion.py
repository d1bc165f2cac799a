"""The criterion at fixed variance ratios against direct n x n algebra in 50 digits."""

import numpy as np
import pytest
from oracle import Dense, relative_error

from sklearn_mlm import GroupedMoments
from sklearn_mlm.likelihood._criterion import Criterion

RATIOS = [0.0, 1e-6, 0.1, 1.0, 30.0, 1e6]


def rng():
    return np.random.default_rng(11)


def small(n_groups=5, mean_size=3, n_columns=2, seed=0):
    generator = np.random.default_rng(seed)
    groups = np.append(np.repeat(np.arange(n_groups), generator.integers(1, 2 * mean_size, n_groups)), [0, 0])
    X = generator.standard_normal((len(groups), n_columns))
    return X, generator.standard_normal(len(groups)) + generator.standard_normal(n_groups)[groups], groups


def group_level():
    X, y, groups = small(7)
    return np.column_stack([X, rng().standard_normal(7)[groups]]), y, groups


def mixed_levels():
    """Two columns whose difference is a group-level column, so that they are the same within groups."""
    X, y, groups = small(7, n_columns=1)
    return np.column_stack([X[:, 0], X[:, 0] + rng().integers(0, 5, 7)[groups]]), y, groups


def collinear():
    X, y, groups = small(6)
    X = np.round(4 * X)
    return np.column_stack([X[:, 0], X[:, 0] - 2 * X[:, 1], X[:, 1], np.ones(len(y))]), y, groups


def more_columns_than_groups():
    return small(4, 5, 7)


def singletons():
    X, y, _ = small(4)
    return X, y, np.append([0, 0, 1, 1], np.arange(2, len(y) - 2))


def scaled(x_scale, y_scale):
    X, y, groups = small(6, seed=4)
    return X * x_scale, y * y_scale, groups


DESIGNS = {
    "unbalanced": small(),
    "balanced": (small(5)[0][:12], small(5)[1][:12], np.repeat(np.arange(4), 3)),
    "no columns": (None, *small()[1:]),
    "group level": group_level(),
    "mixed levels": mixed_levels(),
    "collinear": collinear(),
    "more columns than groups": more_columns_than_groups(),
    "singletons": singletons(),
    "huge x, tiny y": scaled(1e8, 1e-8),
    "tiny x, huge y": scaled([1e-8, 1e8], 1e8),
}


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("design", DESIGNS)
def test_value_gradient_and_hessian_at_fixed_ratios(design, reml, fit_intercept):
    X, y, groups = DESIGNS[design]
    exact = Dense(X, y, groups, reml=reml, fit_intercept=fit_intercept)
    criterion = Criterion(GroupedMoments.from_arrays(X, y, groups), reml=reml, fit_intercept=fit_intercept)
    assert criterion.rank == len(exact.X)
    for ratio in RATIOS:
        # The terms of a derivative are of the order of the sum of h_j^power, and so is its rounding.
        h = criterion.groups.sizes / (1 + ratio * criterion.groups.sizes)
        size = len(y) * max(h.max(), 1e-12)
        assert relative_error(criterion.value(ratio), exact.value(ratio)) < 1e-12 * (1 + ratio**0.5 * 1e-2)
        np.testing.assert_allclose(
            criterion.derivatives(ratio)[0], float(exact.gradient(ratio)), rtol=1e-10, atol=1e-11 * size
        )
        np.testing.assert_allclose(
            criterion.derivatives(ratio)[1], float(exact.hessian(ratio)), rtol=1e-10, atol=1e-11 * size * h.max()
        )


@pytest.mark.parametrize("reml", [True, False])
def test_precision_weights_are_those_of_the_dense_likelihood(reml):
    X, y, groups = small(6)
    weights = rng().random(len(y)) + 0.2
    exact = Dense(X, y, groups, reml=reml, precision=weights)
    moments = GroupedMoments.from_arrays(X, y, groups, weights)
    criterion = Criterion(moments, reml=reml, precision_weights=True)
    for ratio in RATIOS:
        assert relative_error(criterion.value(ratio), exact.value(ratio)) < 1e-11


def test_derivatives_are_those_of_the_value():
    criterion = Criterion(GroupedMoments.from_arrays(*group_level()))
    step = 1e-4
    for ratio in (0.05, 0.5, 5.0):
        values, gradients, _ = criterion.evaluate(ratio + step * np.arange(-1, 2))
        np.testing.assert_allclose(
            criterion.derivatives(ratio)[0], (values[2] - values[0]) / (2 * step), rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            criterion.derivatives(ratio)[1], (gradients[2] - gradients[0]) / (2 * step), rtol=1e-5, atol=1e-5
        )


def test_many_ratios_at_once_give_what_one_at_a_time_gives(monkeypatch):
    criterion = Criterion(GroupedMoments.from_arrays(*group_level()))
    together = criterion.evaluate(RATIOS)
    separate = [(criterion.value(r), *criterion.derivatives(r)) for r in RATIOS]
    np.testing.assert_allclose(np.array(together), np.array(separate).T, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr("sklearn_mlm.likelihood._criterion._BATCH_NUMBERS", 1)
    np.testing.assert_allclose(criterion.evaluate(RATIOS), together, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_summing_rows_in_place_of_sizes_gives_the_same(monkeypatch, weighted):
    X, y, groups = group_level()
    moments = GroupedMoments.from_arrays(X, y, groups, rng().random(len(y)) + 0.5 if weighted else None)
    by_size = Criterion(moments)
    monkeypatch.setattr("sklearn_mlm.likelihood._group_sizes._FEW_GROUPS", 0)
    monkeypatch.setattr("sklearn_mlm.likelihood._group_sizes._MAX_SCATTER_NUMBERS", 0)
    by_row = Criterion(moments)
    np.testing.assert_allclose(by_row.evaluate(RATIOS), by_size.evaluate(RATIOS), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(by_row.solution(0.7).residual_means, by_size.solution(0.7).residual_means, rtol=1e-12)


@pytest.mark.parametrize("design", ["unbalanced", "group level", "mixed levels", "collinear", "tiny x, huge y"])
def test_a_solution_at_a_fixed_ratio_is_the_dense_one(design):
    X, y, groups = DESIGNS[design]
    exact, criterion = Dense(X, y, groups), Criterion(GroupedMoments.from_arrays(X, y, groups))
    _, _, beta, inverse, r2, zy, *_ = exact.at(0.4)
    solution = criterion.solution(0.4)
    sigma2 = r2 / exact.D
    assert relative_error(solution.residual_variance, sigma2) < 1e-12
    assert relative_error(solution.group_variance, sigma2 * exact.y[0].context.mpf(0.4)) < 1e-12
    full = np.zeros(X.shape[1] + 1)
    full[exact.kept] = np.array(list(beta), dtype=float)
    errors = np.zeros(len(full))
    errors[exact.kept] = [float(sigma2 * inverse[i, i]) ** 0.5 for i in range(len(beta))]
    ours = np.append(solution.intercept, solution.coefficients)
    assert np.all(np.abs(ours - full) <= 1e-11 * errors + 4 * np.spacing(np.abs(full)))
    np.testing.assert_allclose(np.sqrt(solution.covariance.diagonal()), errors, rtol=1e-10)
    np.testing.assert_allclose(solution.random_effects, np.array(list(0.4 * zy), dtype=float), rtol=1e-9)


def test_dependent_columns_are_those_after_the_columns_they_depend_on():
    X, y, groups = collinear()
    criterion = Criterion(GroupedMoments.from_arrays(X, y, groups))
    np.testing.assert_array_equal(criterion.coordinates.dropped, [2, 3])
    no_intercept = Criterion(GroupedMoments.from_arrays(X, y, groups), fit_intercept=False)
    np.testing.assert_array_equal(no_intercept.coordinates.dropped, [2])


def test_nearly_dependent_columns_are_kept():
    X, y, groups = small(8, 6)
    X[:, 1] = X[:, 0] + 1e-5 * X[:, 1]
    assert len(Criterion(GroupedMoments.from_arrays(X, y, groups)).coordinates.dropped) == 0


def test_the_rank_within_groups():
    for design, rank in (("unbalanced", 2), ("group level", 2), ("mixed levels", 1), ("collinear", 2)):
        assert Criterion(GroupedMoments.from_arrays(*DESIGNS[design])).coordinates.within_rank == rank


def test_the_criterion_does_not_remember_its_last_argument():
    criterion = Criterion(GroupedMoments.from_arrays(*small()))
    first = criterion.value(0.3)
    criterion.solution(7.0)
    criterion.derivatives(100.0)[0]
    assert criterion.value(0.3) == first


@pytest.mark.parametrize("design", ["unbalanced", "group level", "mixed levels"])
def test_a_large_ratio_tends_to_the_closed_form_of_no_residual(design):
    X, y, groups = DESIGNS[design]
    # x determines y within groups, and each group has another level.
    generator = np.random.default_rng(12)
    y = X[:, 0] * 2.0 + generator.standard_normal(20)[groups]
    limit = Criterion(GroupedMoments.from_arrays(X, y, groups)).solution(np.inf)
    noisy = Criterion(GroupedMoments.from_arrays(X, y + 1e-7 * generator.standard_normal(len(y)), groups))
    near = noisy.solution(1e18)
    # At a given ratio, sigma2 and therefore tau2 are estimated with the degrees of freedom of both levels.
    share = noisy.between_degrees_of_freedom / noisy.degrees_of_freedom
    fixed_part = noisy.coordinates.within_residual * 1e18 / noisy.degrees_of_freedom * noisy.coordinates.y_scale**2
    np.testing.assert_allclose(near.group_variance - fixed_part, limit.group_variance * share, rtol=1e-5)
    np.testing.assert_allclose(near.coefficients, limit.coefficients, atol=1e-6)
    np.testing.assert_allclose(near.random_effects, limit.random_effects, atol=1e-6)


@pytest.mark.parametrize("gap", [1e6, 1e10, 1e14])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_groups_far_apart_leave_the_digits_of_the_rest(gap, fit_intercept):
    """An outlying group draws the least-squares slopes away from those within groups, by up to the gap."""
    X, y, groups = small(8, 4, seed=2)
    y = np.round(y * 2**10) / 2**10 + gap * (groups == 3)
    exact = Dense(X, y, groups, fit_intercept=fit_intercept)
    criterion = Criterion(GroupedMoments.from_arrays(X, y, groups), fit_intercept=fit_intercept)
    for ratio in (1.0, 0.1 * gap**2, gap**2):
        solution = criterion.solution(ratio)
        _, _, _, _, r2, *_ = exact.at(ratio)
        assert relative_error(solution.residual_variance, r2 / exact.D) < 1e-9
        assert relative_error(criterion.value(ratio), exact.value(ratio)) < 1e-9
        slope = float(exact.gradient(ratio)) * ratio
        np.testing.assert_allclose(criterion.derivatives(ratio)[0] * ratio, slope, rtol=1e-6, atol=1e-6)


def many_weights(n_groups, spread, seed=0):
    """Groups of few rows, with weights whose sum is different in every group."""
    generator = np.random.default_rng(seed)
    groups = np.append(np.arange(n_groups), generator.integers(0, n_groups, n_groups // 2))
    X = generator.standard_normal((len(groups), 2))
    X[:, 1] = generator.standard_normal(n_groups)[groups]
    weights = np.exp(spread * generator.standard_normal(len(groups)))
    y = X.sum(axis=1) + generator.standard_normal(n_groups)[groups] + generator.standard_normal(len(groups)) / weights**0.5
    return X, y, groups, weights


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_nodes_stand_for_many_sizes_to_rounding(monkeypatch, spread, reml):
    moments = GroupedMoments.from_arrays(*many_weights(3000, spread))
    by_node = Criterion(moments, reml=reml, precision_weights=True)
    monkeypatch.setattr("sklearn_mlm.likelihood._group_sizes._SIZES_PER_NODE", 10**6)
    by_size = Criterion(moments, reml=reml, precision_weights=True)
    assert len(by_size.groups.sizes) == 3000
    assert len(by_node.groups.sizes) < 3000 / 8
    for ratio in [0.0, 1e-3, 0.1, 1.0, 30.0, 1e6]:
        value, gradient, hessian = (float(part[0]) for part in by_node.evaluate(ratio))
        # Derivatives are differences, which have the rounding error of their terms.
        solution, solved = by_node.solution(ratio), by_size.solution(ratio)
        sums, exact = solution.sums, solved.sums
        slope = exact.second[-1, -1]
        first = exact.h_sum + by_size.degrees_of_freedom * slope
        second = exact.h_squared + by_size.degrees_of_freedom * (slope**2 + 2.0 * exact.third[-1, -1])
        np.testing.assert_allclose(value, by_size.value(ratio), rtol=1e-13)
        np.testing.assert_allclose(gradient, by_size.derivatives(ratio)[0], rtol=0, atol=1e-13 * first)
        np.testing.assert_allclose(hessian, by_size.derivatives(ratio)[1], rtol=0, atol=1e-13 * second)
        r2 = [float(criterion.residual_sums_of_squares(np.array([ratio]))[0]) for criterion in (by_node, by_size)]
        np.testing.assert_allclose(*r2, rtol=1e-13)
        for name in ("h_sum", "h_squared"):
            np.testing.assert_allclose(getattr(sums, name), getattr(exact, name), rtol=1e-13)
        pairs = [(getattr(sums, name), getattr(exact, name)) for name in ("second", "third")]
        for ours, theirs in (*pairs, *zip(by_node.information(ratio), by_size.information(ratio), strict=True)):
            size = np.sqrt(np.outer(theirs.diagonal(), theirs.diagonal()))
            np.testing.assert_allclose(ours / size, theirs / size, rtol=0, atol=1e-13)
        errors = np.sqrt(solved.covariance.diagonal())
        np.testing.assert_allclose(np.sqrt(solution.covariance.diagonal()), errors, rtol=1e-13)
        np.testing.assert_allclose(solution.coefficients / errors[1:], solved.coefficients / errors[1:], rtol=0, atol=1e-12)
        np.testing.assert_allclose(solution.residual_variance, solved.residual_variance, rtol=1e-13)
        np.testing.assert_allclose(solution.residual_means, solved.residual_means, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reml", [True, False])
def test_nodes_give_the_dense_likelihood(monkeypatch, reml):
    monkeypatch.setattr("sklearn_mlm.likelihood._group_sizes._FEW_GROUPS", 0)
    monkeypatch.setattr("sklearn_mlm.likelihood._group_sizes._SIZES_PER_NODE", 0.5)
    X, y, groups, weights = many_weights(24, 0.3)
    exact = Dense(X, y, groups, reml=reml, precision=weights)
    moments = GroupedMoments.from_arrays(X, y, groups, weights)
    criterion = Criterion(moments, reml=reml, precision_weights=True)
    assert not np.isin(criterion.groups.sizes, moments.counts).all()
    for ratio in RATIOS:
        # Derivatives are differences of terms of this order.
        h = moments.counts / (1 + ratio * moments.counts)
        assert relative_error(criterion.value(ratio), exact.value(ratio)) < 1e-13
        np.testing.assert_allclose(
            criterion.derivatives(ratio)[0], float(exact.gradient(ratio)), rtol=0, atol=1e-13 * 10 * h.sum()
        )
        np.testing.assert_allclose(
            criterion.derivatives(ratio)[1], float(exact.hessian(ratio)), rtol=0, atol=1e-13 * 100 * (h**2).sum()
        )


def test_few_sizes_are_kept_as_they_are():
    sizes = Criterion(GroupedMoments.from_arrays(*many_weights(120, 1.0)), precision_weights=True).groups.sizes
    assert len(sizes) == 120


@pytest.mark.parametrize("unit", [0.5, 0.1])
def test_few_sizes_among_many_groups_are_kept_as_they_are(unit):
    sizes = unit * np.random.default_rng(0).integers(1, 40, 5000)
    groups = np.repeat(np.arange(5000), 2)
    moments = GroupedMoments.from_arrays(None, np.arange(10_000) % 7.0, groups, np.repeat(sizes, 2) / 2)
    np.testing.assert_array_equal(Criterion(moments).groups.sizes, np.unique(moments.counts))


def test_the_sizes_of_the_first_groups_suffice_for_nodes(monkeypatch):
    moments = GroupedMoments.from_arrays(*many_weights(5000, 1.0))
    early = Criterion(moments, precision_weights=True)
    monkeypatch.setattr("sklearn_mlm.likelihood._group_sizes._SAMPLE", 10**6)
    late = Criterion(moments, precision_weights=True)
    np.testing.assert_array_equal(early.groups.sizes, late.groups.sizes)
    assert (early.groups.sizes[0], early.groups.sizes[-1]) == (moments.counts.min(), moments.counts.max())
    assert early.value(0.5) == late.value(0.5)
