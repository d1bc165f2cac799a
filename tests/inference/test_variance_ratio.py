"""Exact inference about the variance ratio: against dense matrices and direct simulation."""

import numpy as np
import pytest
from designs import simulate
from scipy import integrate, special, stats

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor, inference
from sklearn_mlm.inference._variance_ratio import FPivot, _chi_squared_nodes, simulate_null
from sklearn_mlm.likelihood._criterion import Criterion
from sklearn_mlm.likelihood._optimum import minimise
from sklearn_mlm.likelihood._spectrum import eigenvalues


def restricted(X, y, groups, weights=None):
    return Criterion(GroupedMoments.from_arrays(X, y, groups, weights), precision_weights=weights is not None)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_eigenvalues_are_those_of_the_dense_matrix(seed, weighted):
    X, y, groups = simulate(10, 6, 2, seed=seed)
    weights = np.random.default_rng(seed).uniform(0.5, 2.0, len(y)) if weighted else None
    values, counts = eigenvalues(restricted(X, y, groups, weights))
    root = np.sqrt(np.ones(len(y)) if weights is None else weights)
    columns = root[:, None] * np.column_stack([np.ones(len(y)), X])
    Z = root[:, None] * (groups[:, None] == np.unique(groups))
    projected = Z - columns @ np.linalg.lstsq(columns, Z, rcond=None)[0]
    dense = np.linalg.eigvalsh(Z.T @ projected)
    ours = np.sort(np.repeat(values, counts.astype(int)))
    np.testing.assert_allclose(ours, dense[-len(ours) :], rtol=1e-9)
    np.testing.assert_allclose(dense[: -len(ours)], 0.0, atol=1e-9)


def test_sizes_that_are_all_different_are_taken_together():
    X, y, groups = simulate(60, 4, 1)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    criterion = restricted(X, y, groups, weights)
    few, all_sizes = list(criterion.groups.by_size(7)), list(criterion.groups.by_size(60))
    assert 3 < len(few) <= 7
    assert len(all_sizes) == 60
    # Intervals of one width in the logarithm, ascending.
    ratio = (few[-1][0].max() / few[0][0].min()) ** (1 / 7)
    assert all(sizes.max() / sizes.min() < ratio * (1 + 1e-12) for sizes, _ in few)
    np.testing.assert_allclose(np.sort(np.concatenate([sizes for sizes, _ in few])), np.sort(criterion.moments.counts))
    whole = sum(scatter for _, scatter in all_sizes)
    np.testing.assert_allclose(sum(scatter for _, scatter in few), whole, rtol=1e-10, atol=1e-12)


def test_the_null_distribution_is_that_of_refitted_simulations():
    X, _, groups = simulate(8, 5, 2)
    rng = np.random.default_rng(0)
    statistics = []
    for _ in range(600):
        criterion = restricted(X, rng.standard_normal(len(groups)), groups)
        statistics.append(max(criterion.value(0.0) - minimise(criterion).solution.value, 0.0))
    drawn = simulate_null(criterion, 20_000, random_state=0)
    share = np.mean(np.array(statistics) < 1e-9)
    assert abs(share - np.mean(drawn == 0)) < 4 * np.sqrt(0.25 / 600)
    positive = np.array(statistics)[np.array(statistics) >= 1e-9]
    # By chance in 1 of 1000.
    assert stats.ks_2samp(positive, drawn[drawn > 0]).pvalue > 1e-3
    np.testing.assert_array_equal(drawn, simulate_null(criterion, 20_000, random_state=0))


@pytest.mark.parametrize("ratio", [0.0, 0.5, 4.0])
def test_the_pivot_has_its_distribution_at_the_true_ratio(ratio):
    rng = np.random.default_rng(int(10 * ratio))
    groups = np.repeat(np.arange(9), [2, 2, 3, 4, 6, 8, 9, 12, 20])
    X = rng.standard_normal((len(groups), 2))
    X[:, 1] = rng.standard_normal(9)[groups]
    p_values = []
    for _ in range(500):
        y = X @ [1.0, 2.0] + np.sqrt(ratio) * rng.standard_normal(9)[groups] + rng.standard_normal(len(groups))
        pivot = FPivot(restricted(X, y, groups))
        p_values.append(stats.f.sf(pivot.statistic(ratio), pivot.df1, pivot.df2))
    assert (pivot.df1, pivot.df2) == (9 - 2, len(groups) - 9 - 1)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_limits_invert_the_pivot_and_reach_zero_and_infinity():
    X, y, groups = simulate(12, 6, 2)
    pivot = FPivot(restricted(X, y, groups))
    lower, upper = pivot.limits(0.9)
    tails = stats.f.sf([pivot.statistic(ratio) for ratio in (lower, upper)], pivot.df1, pivot.df2)
    np.testing.assert_allclose(tails, [0.05, 0.95], rtol=1e-9)
    assert FPivot(restricted(None, np.random.default_rng(2).standard_normal(len(y)), groups)).limits(0.95)[0] == 0.0
    few = FPivot(restricted(None, np.array([1.0, 1.1, 5.0, 5.1]), np.array([0, 0, 1, 1])))
    assert few.limits(0.999)[1] > 1e3
    assert np.isnan(FPivot(restricted(None, np.arange(3.0), np.arange(3))).statistic(0.0))


def test_the_residual_variance_has_a_chi_squared_interval():
    X, y, groups = simulate(12, 6, 2)
    criterion = restricted(X, y, groups)
    lower, upper = np.array(FPivot(criterion).residual_variance_limits(0.95)) * criterion.coordinates.y_scale**2
    columns = np.column_stack([X[:, :1], groups[:, None] == np.unique(groups)]).astype(float)
    rss = ((y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]) ** 2).sum()
    df = len(y) - len(np.unique(groups)) - 1
    np.testing.assert_allclose([lower, upper], rss / stats.chi2.ppf([0.975, 0.025], df), rtol=1e-9)


def test_sizes_taken_together_do_not_move_the_null_distribution(monkeypatch):
    """Weights spread over a factor of 20, group-level columns: against the distribution with every eigenvalue."""
    X, y, groups = simulate(150, 3, 6)
    weights = np.exp(0.7 * np.random.default_rng(0).standard_normal(len(y)))
    criterion = restricted(X, y, groups, weights)
    monkeypatch.setattr("sklearn_mlm.likelihood._spectrum._MAX_MATRIX", 10**6)
    monkeypatch.setattr("sklearn_mlm.inference._variance_ratio._MAX_EIGENVALUES", 10**6)
    every = simulate_null(criterion, 40_000, random_state=0)
    assert len(eigenvalues(criterion)[0]) == 149 - 1
    monkeypatch.setattr("sklearn_mlm.likelihood._spectrum._MAX_MATRIX", 70)
    monkeypatch.setattr("sklearn_mlm.inference._variance_ratio._MAX_EIGENVALUES", 32)
    assert eigenvalues(criterion)[1].sum() == pytest.approx(148)
    together = simulate_null(criterion, 40_000, random_state=1)
    for level in (0.1, 0.05, 0.01):
        share = np.mean(together >= np.quantile(every, 1 - level))
        # Four Monte Carlo standard errors of the difference.
        assert abs(share - level) < 4 * np.sqrt(2 * level / 40_000)


def test_the_matrix_of_eigenvalues_stays_small_whatever_the_number_of_sizes(monkeypatch):
    X, y, groups = simulate(3000, 2, 3)
    criterion = restricted(X, y, groups, np.random.default_rng(0).uniform(0.5, 2.0, len(y)))
    shapes = []
    decompose = np.linalg.eigvalsh
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda matrix: shapes.append(matrix.shape) or decompose(matrix))
    drawn = simulate_null(criterion, 10, random_state=0)
    assert shapes == [(n, n) for n, _ in shapes]
    assert max(n for n, _ in shapes) <= 1000
    assert len(drawn) == 10


@pytest.mark.parametrize("weighted", [False, True])
def test_a_model_without_fixed_effects_has_the_sizes_for_eigenvalues(weighted):
    _, y, groups = simulate(10, 6, 1)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y)) if weighted else None
    moments = GroupedMoments.from_arrays(None, y, groups, weights)
    values, counts = eigenvalues(Criterion(moments, fit_intercept=False, precision_weights=weighted))
    np.testing.assert_allclose(np.sort(np.repeat(values, counts.astype(int))), np.sort(moments.counts), rtol=1e-14)
    model = RandomInterceptRegressor(fit_intercept=False).fit(None, y, groups=groups, sample_weight=weights)
    assert 0 < inference.random_intercept_test(model, n_simulations=99, random_state=0)["p_value"] <= 1


@pytest.mark.filterwarnings("ignore:The likelihood is the same at every group variance")
@pytest.mark.parametrize("method", ["exact", "mixture", "naive", "f"])
def test_without_degrees_of_freedom_between_groups_there_is_no_p_value(method):
    _, y, groups = simulate(6, 5, 1)
    model = RandomInterceptRegressor().fit(np.eye(6)[groups][:, 1:], y, groups=groups)
    assert np.isnan(inference.random_intercept_test(model, method=method, n_simulations=10)["p_value"])
    np.testing.assert_array_equal(simulate_null(Criterion(model.moments_), 5), 0.0)


def test_a_simulated_p_value_counts_the_data_among_the_draws():
    X, y, groups = simulate(10, 6, 1, tau=0.3)
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    test = inference.random_intercept_test(model, n_simulations=200, random_state=0)
    drawn = simulate_null(Criterion(model.moments_), 200, random_state=0)
    assert test["p_value"] == (1 + np.count_nonzero(drawn >= test["statistic"])) / 201
    distinct = RandomInterceptRegressor().fit(X, y + 100.0 * groups, groups=groups)
    assert inference.random_intercept_test(distinct, n_simulations=99, random_state=0)["p_value"] == 0.01


@pytest.mark.parametrize("n_simulations", [0, -1, 2.5, True, "many", None])
def test_the_number_of_simulations_is_a_whole_number(n_simulations):
    model = RandomInterceptRegressor().fit(*simulate(6, 5, 1)[:2], groups=simulate(6, 5, 1)[2])
    with pytest.raises(ValueError, match="n_simulations must be a whole number of draws, 1 or more; found"):
        inference.random_intercept_test(model, n_simulations=n_simulations)


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_the_unit_of_precision_weights_does_not_matter(unit):
    X, y, groups = simulate(12, 6, 2)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    one, other = (FPivot(restricted(X, y, groups, w)).limits(0.999999) for w in (weights, unit * weights))
    np.testing.assert_allclose(np.array(other) * unit, one, rtol=1e-9)
    drawn, again = (simulate_null(restricted(X, y, groups, w), 500, random_state=0) for w in (weights, unit * weights))
    np.testing.assert_allclose(again, drawn, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("n_groups", "mean_size"), [(3, 3), (5, 2), (12, 4)])
def test_the_pivot_of_the_group_variance_is_that_of_its_definition(n_groups, mean_size):
    X, y, groups = simulate(n_groups, mean_size, 1, level_2=False, seed=n_groups)
    criterion = restricted(X, y, groups)
    pivot, unit = FPivot(criterion), criterion.coordinates.y_scale**2
    columns, Z = np.column_stack([np.ones(len(y)), X]), (groups[:, None] == np.unique(groups)).astype(float)

    def between(ratio):
        """r2(ratio) less the residual sum of squares within groups, by dense least squares."""
        V = np.eye(len(y)) + ratio * Z @ Z.T
        L = np.linalg.cholesky(V)
        x, z = np.linalg.solve(L, columns), np.linalg.solve(L, y)
        return np.linalg.lstsq(x, z, rcond=None)[1].item() - within

    within = np.linalg.lstsq(np.column_stack([Z, X]), y, rcond=None)[1].item()
    rng = np.random.default_rng(0)
    draws = rng.chisquare(pivot.df1, 2_000), rng.chisquare(pivot.df2, 2_000)
    for tau2 in (0.0, 0.3, 2.0):
        share = np.mean([u1 <= between(tau2 * u2 / within) * u2 / within for u1, u2 in zip(*draws, strict=True)])
        assert abs(pivot.group_variance_tail(tau2 / unit) - share) < 4 * np.sqrt(0.25 / 2_000)
    # At 0 it is the exact F test.
    np.testing.assert_allclose(1.0 - pivot.group_variance_tail(0.0), pivot.test()["p_value"], atol=1e-12)


@pytest.mark.parametrize("df", [1, 2, 5, 30, 1e3, 1e8])
def test_the_quadrature_over_chi_squared(df):
    squares, weights = _chi_squared_nodes(df)
    assert len(squares) < 300
    np.testing.assert_allclose(weights @ squares, df, rtol=1e-9)
    np.testing.assert_allclose(weights @ np.log(squares), special.digamma(df / 2) + np.log(2), rtol=1e-9, atol=1e-9)
    # Like what the pivot integrates.
    expected, _ = integrate.quad(lambda q: special.chdtr(3, stats.chi2.ppf(q, df) / df), 0, 1, epsabs=1e-11, limit=400)
    np.testing.assert_allclose(weights @ special.chdtr(3, squares / df), expected, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_limits_of_the_group_variance(seed):
    X, y, groups = simulate(9, 5, 2, tau=(0.0, 0.2, 1.0, 20.0)[seed], seed=seed)
    criterion = restricted(X, y, groups)
    pivot = FPivot(criterion)
    for level in (0.5, 0.95, 0.999):
        lower, upper = pivot.group_variance_limits(level)
        tails = pivot.group_variance_tail(lower), pivot.group_variance_tail(upper)
        tail = (1 - level) / 2
        assert lower == 0 or tails[0] == pytest.approx(1 - tail, abs=1e-10)
        assert upper == 0 or tails[1] == pytest.approx(tail, abs=1e-10)
        assert lower > 0 or pivot.group_variance_tail(0.0) <= 1 - tail
        assert 0 <= lower <= upper < np.inf
    # With much data within groups sigma2 is as good as known, and the limits are those of the ratio times sigma2.
    large = restricted(None, np.repeat(y[:8], 50_000) + np.tile([-1.0, 1.0], 200_000), np.repeat(np.arange(8), 50_000))
    limits = FPivot(large)
    sigma2 = large.coordinates.within_residual / limits.df2
    np.testing.assert_allclose(limits.group_variance_limits(0.9), np.array(limits.limits(0.9)) * sigma2, rtol=1e-4)


def test_limits_of_the_group_variance_without_degrees_of_freedom():
    y, groups = np.arange(6.0), np.array([0, 0, 1, 1, 2, 2])
    columns = (groups[:, None] == [1, 2]).astype(float)
    assert np.isnan(FPivot(restricted(columns, y, groups)).group_variance_limits(0.95)).all()
