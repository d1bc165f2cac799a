"""The optimum over the cone of covariances: lme4's, closed forms, several optima, the boundary, and changes of units."""

import functools

import mpmath as mp
import numpy as np
import pytest
from dense_mixed import DIGITS, DenseMixed, exact_optimum
from mixed_cases import REAL_CASES, real_columns, real_terms
from sklearn.exceptions import ConvergenceWarning

from sklearn_mlm import GroupedScatter, MixedEffectsRegressor, RandomInterceptRegressor
from sklearn_mlm.likelihood import _mixed_optimum
from sklearn_mlm.likelihood._mixed_fits import fit_mixed
from sklearn_mlm.likelihood._mixed_optimum import Outcome, minimise_mixed, without_random_effects
from sklearn_mlm.likelihood._options import MixedOptions
from sklearn_mlm.likelihood._random_terms import RandomTerm

METHOD = pytest.mark.parametrize("method", ["reml", "ml"])


def terms_of(*names, intercept=True, independent=False):
    """The random terms of coefficients of the factor g."""
    return tuple(RandomTerm("g", intercept, names).blocks(not independent))


def fitted(X, y, groups, names=("x0",), method="reml", *, independent=False, intercept=True, weights=None, **options):
    """The fit of random coefficients of some columns."""
    scatter = GroupedScatter.from_arrays(X, y, groups, weights, slopes=list(names))
    terms = terms_of(*names, intercept=intercept, independent=independent)
    return fit_mixed(scatter, MixedOptions(terms, method, **options))


def assert_certified(fit):
    """Assert that the slope is 0 along the covariance, and not negative on the directions without variance."""
    optimum, blocks = fit.optimum, fit.criterion.coordinates.blocks
    assert optimum.best.outcome is Outcome.MINIMUM
    slope, information = optimum.evaluation.slope[0], np.trace(optimum.evaluation.sums.h[0])
    lowest = []
    for block in map(list, blocks):
        along = slope[np.ix_(block, block)] @ optimum.factor[np.ix_(block, block)]
        # Newton's last step is of the order of the rounding of the slope.
        assert np.abs(along).max() < 1e-9 * information * max(1.0, optimum.roots.max())
        null = optimum.basis[:, [at for at in block if optimum.roots[at] == 0.0]]
        lowest += np.linalg.eigvalsh(null.T @ slope @ null).tolist()
    assert min(lowest, default=0.0) >= -1e-12 * information
    np.testing.assert_allclose(optimum.multipliers, lowest, rtol=1e-9, atol=1e-12 * information)


# ---- lme4


@pytest.fixture(scope="module")
def case_of(reference_mixed):
    """Read a case of part A: its record, the random terms, and what lme4 answers."""

    @functools.cache
    def read(name):
        frame, case = reference_mixed("A", name)
        X, y, labels, weights = real_columns(frame, case)
        terms = real_terms(case)
        slopes = [column for term in terms for column in term.columns]
        return GroupedScatter.from_arrays(X, y, labels, weights, slopes=slopes), terms, case

    return read


def joint_covariance(blocks):
    """The block-diagonal matrix of the covariances of terms."""
    size = sum(len(np.atleast_2d(block)) for block in blocks)
    joint, at = np.zeros((size, size)), 0
    for block in map(np.atleast_2d, blocks):
        joint[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return joint


@METHOD
@pytest.mark.parametrize("name", REAL_CASES)
def test_the_optimum_is_that_of_lme4(case_of, name, method):
    scatter, terms, case = case_of(name)
    weight_type = "frequency" if case["weight"] is None else "precision"
    fit, answer = fit_mixed(scatter, MixedOptions(terms, method, True, weight_type)), case[method.upper()]
    # The digits of the polished optimum; of a slope counted from 1000 away, the reference has fewer.
    digits = 1e-8 if name == "sleepstudy_plus_1000" else 1e-10
    assert abs(fit.value - answer["criterion"]) < 1e-9
    assert abs(fit.residual_variance / answer["sigma2"] - 1.0) < 0.1 * digits
    expected = joint_covariance([term["cov"] for term in answer["varcorr"]])
    sd = np.sqrt(np.where(expected.diagonal() > 0, expected.diagonal(), answer["sigma2"]))
    assert np.abs((fit.random_covariance - expected) / np.outer(sd, sd)).max() < digits
    assert np.abs((fit.coefficients - answer["beta"]) / answer["se"]).max() < digits
    np.testing.assert_allclose(np.sqrt(fit.covariance.diagonal()), answer["se"], rtol=digits)
    ranks = [int(np.count_nonzero(fit.optimum.roots[list(block)])) for block in fit.criterion.coordinates.blocks]
    assert ranks == answer["rank"]
    assert (fit.boundary is not None) == answer["singular"]
    assert_certified(fit)
    assert (fit.aic, fit.bic) == pytest.approx((answer["AIC"], answer["BIC"]), rel=1e-11)


# ---- closed forms: all groups have the same rows of Z


def balanced(eigenvalues, reml=True, n_groups=7, n_rows=6, seed=0, unit=1.0):
    """Z of each group, and y, of which the closed form has these eigenvalues, and 1 as the mean square of the residuals."""
    rng, q, free = np.random.default_rng(seed), len(eigenvalues), n_groups - int(reml)
    Z = np.column_stack([np.ones(n_rows), rng.standard_normal((n_rows, q - 1))])
    lower = np.linalg.cholesky(np.linalg.inv(Z.T @ Z))
    turn = np.linalg.qr(rng.standard_normal((q, q)))[0]
    between = rng.standard_normal((n_groups, q))
    between = np.linalg.qr(between - between.mean(axis=0))[0] * np.sqrt(free)
    own = np.arange(1.0, q + 1.0) + between * np.sqrt(eigenvalues) @ turn.T @ lower.T
    noise = rng.standard_normal((n_rows, n_groups))
    noise -= Z @ np.linalg.lstsq(Z, noise, rcond=None)[0]
    noise *= np.sqrt(n_groups * (n_rows - q) / (noise**2).sum())
    y = (Z @ own.T + noise).T.ravel()
    Z[:, 1:] *= unit
    return Z, y


def closed_form(Z, y, reml=True):
    """Sigma, sigma2, the fixed effects and the rank of balanced rows.

    Let S be the covariance of the coefficients of the groups' own regressions, and lambda its eigenvalues in the basis in
    which the errors of these have the covariance I, (Z'Z)^-1 in that of Z. Likelihood makes the variances in the directions
    of the eigenvectors max(lambda_i, sigma2); sigma2 is the mean of the squared residuals and of the lambda_i that are less.
    """
    n_rows, q = Z.shape
    Y = y.reshape(-1, n_rows).T
    own = np.linalg.lstsq(Z, Y, rcond=None)[0]
    rss, n_groups = float(((Y - Z @ own) ** 2).sum()), Y.shape[1]
    unit = np.sqrt((Z * Z).sum(axis=0))
    lower = np.linalg.cholesky(np.linalg.inv((Z / unit).T @ (Z / unit))) / unit[:, None]
    about = np.linalg.solve(lower, own - own.mean(axis=1, keepdims=True))
    free = n_groups - int(reml)
    vectors, singular, _ = np.linalg.svd(about, full_matrices=False)
    values = singular**2 / free
    for rank in range(q, -1, -1):
        sigma2 = (rss + free * values[rank:].sum()) / (n_groups * (n_rows - q) + free * (q - rank))
        if not rank or values[rank - 1] > sigma2:
            break
    root = lower @ vectors[:, :rank] * np.sqrt(values[:rank] - sigma2)
    return root @ root.T, sigma2, own.mean(axis=1), rank


# Eigenvalues, and the rank of Sigma.
BALANCED = {
    "intercept": ([3.0], 1),
    "intercept near 0": ([1.0 + 1e-6], 1),
    "intercept 0": ([0.7], 0),
    "inside": ([5.0, 2.0], 2),
    "near the boundary": ([5.0, 1.0 + 1e-6], 2),
    "next to the boundary": ([5.0, 1.0 + 1e-9], 2),
    "just outside": ([5.0, 1.0 - 1e-6], 1),
    "rank 1": ([5.0, 0.5], 1),
    "rank 0": ([0.7, 0.5], 0),
    "rank 1 and 0": ([5.0, 0.0], 1),
    "large": ([1e4, 20.0], 2),
    "large of rank 1": ([1e4, 0.5], 1),
    "three": ([9.0, 4.0, 2.0], 3),
    "three of rank 2": ([9.0, 4.0, 0.9], 2),
    "three of rank 1": ([9.0, 0.9, 0.9 - 1e-6], 1),
    "three of rank 0": ([0.8, 0.7, 0.6], 0),
    "three near the boundary": ([1e3, 1.0 + 1e-5, 1.0 + 1e-7], 3),
}


def fitted_balanced(Z, y, method="reml"):
    """The fit of a random coefficient for each column of Z."""
    n_groups = len(y) // len(Z)
    X, names = np.tile(Z[:, 1:], (n_groups, 1)), [f"x{at}" for at in range(Z.shape[1] - 1)]
    X = X if names else None
    return fitted(X, y, np.repeat(np.arange(n_groups), len(Z)), names, method)


@METHOD
@pytest.mark.parametrize("name", BALANCED)
def test_balanced_groups_have_the_estimates_of_the_closed_form(name, method):
    eigenvalues, rank = BALANCED[name]
    reml = method == "reml"
    for unit, seed in ((1.0, 0), (1e-6, 1), (1e6, 2)):
        Z, y = balanced(eigenvalues, reml, seed=seed, unit=unit)
        fit = fitted_balanced(Z, y, method)
        Sigma, sigma2, beta, found = closed_form(Z, y, reml)
        assert found == rank == np.count_nonzero(fit.optimum.roots)
        # A variance is a difference of an eigenvalue and sigma2, and has the rounding of the largest eigenvalue.
        size = np.sqrt(np.linalg.inv(Z.T @ Z).diagonal() * max(*eigenvalues, 1.0))
        np.testing.assert_allclose(fit.residual_variance, sigma2, rtol=1e-12)
        np.testing.assert_allclose(fit.random_covariance / np.outer(size, size), Sigma / np.outer(size, size), atol=1e-12)
        np.testing.assert_allclose(fit.coefficients / size, beta / size, rtol=0, atol=1e-12)
        assert_certified(fit)


@METHOD
@pytest.mark.parametrize(("eigenvalues", "digits"), [([1e6, 20.0], 1e-6), ([1e6, 0.5], 1e-6), ([1e8, 0.5], 1e-4)])
def test_variances_that_are_very_large_beside_the_residual_cost_few_digits(eigenvalues, digits, method):
    # What rounds are sums of squares as large as the eigenvalues, and the error of the optimum is the root of that.
    Z, y = balanced(eigenvalues, method == "reml")
    fit = fitted_balanced(Z, y, method)
    assert {trial.outcome for trial in fit.optimum.trials} == {Outcome.MINIMUM}
    np.testing.assert_allclose(fit.residual_variance, closed_form(Z, y, method == "reml")[1], rtol=digits)


def test_a_correlation_of_one_is_exact_and_one_near_it_is_not_rounded():
    exact, near = (fitted_balanced(*balanced([5.0, second])) for second in (0.9, 1.0 + 1e-6))
    assert exact.optimum.roots[1] == 0.0
    Sigma = exact.random_covariance
    # Products of the entries of one column.
    assert abs(Sigma[0, 1]) == pytest.approx(np.sqrt(Sigma[0, 0] * Sigma[1, 1]), rel=4e-16)
    assert len(exact.boundary["g"]) == 1
    Sigma = near.random_covariance
    assert near.boundary is None
    assert 1e-8 < 1.0 - Sigma[0, 1] ** 2 / (Sigma[0, 0] * Sigma[1, 1]) < 1e-4


@METHOD
def test_without_any_variance_the_model_is_least_squares(method):
    Z, y = balanced([0.5, 0.1])
    fit = fitted_balanced(Z, y, method)
    np.testing.assert_array_equal(fit.random_covariance, 0.0)
    np.testing.assert_array_equal(fit.random_effects, 0.0)
    beta, (rss,) = np.linalg.lstsq(np.tile(Z, (7, 1)), y, rcond=None)[:2]
    np.testing.assert_allclose(fit.coefficients, beta, rtol=1e-12)
    np.testing.assert_allclose(fit.residual_variance, rss / (len(y) - 2 * (method == "reml")), rtol=1e-13)
    assert len(fit.boundary["g"]) == 2
    assert (fit.optimum.multipliers > 0).all()
    np.testing.assert_array_equal(fit.optimum.evaluation.value, fit.criterion.at_zero.value)


# ---- independent coefficients


def lines(seed=0, n_groups=9, tau=(1.0, 0.5), n_columns=2, sizes=(2, 7)):
    """Unbalanced groups with lines of their own."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(*sizes, n_groups))
    X = rng.standard_normal((len(groups), n_columns))
    effects = rng.standard_normal((n_groups, 2)) * tau
    y = 1.0 + X.sum(axis=1) + effects[groups, 0] + effects[groups, 1] * X[:, 0] + rng.standard_normal(len(groups))
    return X, y, groups


@METHOD
def test_an_independent_slope_may_have_a_variance_of_exactly_zero(method):
    X, y, groups = lines(seed=1, tau=(2.0, 0.0))
    fit, alone = (fitted(X, y, groups, names, method, independent=True) for names in (("x0",), ()))
    assert fit.random_covariance[1, 1] == 0.0
    assert fit.random_covariance[0, 0] > 0.1
    assert not fit.random_effects[:, 1].any()
    assert fit.boundary["g"].to_numpy().tolist() == [[0.0, 1.0]]
    # It is the model without that slope.
    np.testing.assert_allclose(fit.value, alone.value, rtol=1e-13)
    np.testing.assert_allclose(fit.random_covariance[0, 0], alone.random_covariance[0, 0], rtol=1e-12)
    assert_certified(fit)


@METHOD
def test_independent_coefficients_have_the_optimum_of_the_oracle_over_the_diagonal(method):
    X, y, groups = lines(seed=2)
    fit = fitted(X, y, groups, ("x0", "x1"), method, independent=True)
    Z = np.column_stack([np.ones(len(y)), X])
    dense = DenseMixed(Z, y, Z, groups, reml=method == "reml")
    value, G = dense.best([[0], [1], [2]], 6)
    assert abs(fit.value - value) < 1e-9
    np.testing.assert_allclose(fit.random_covariance, fit.residual_variance * G, atol=1e-7)
    assert not fit.random_covariance[~np.eye(3, dtype=bool)].any()
    assert_certified(fit)


@METHOD
@pytest.mark.parametrize("tau", [(2.0, 0.0), (0.0, 0.0), (0.3, 0.0)])
def test_one_random_intercept_has_the_optimum_of_the_random_intercept_model(tau, method):
    X, y, groups = lines(4, 12, tau)
    fit, plain = fitted(X, y, groups, (), method), RandomInterceptRegressor(method=method).fit(X, y, groups=groups)
    np.testing.assert_allclose(fit.value, plain.criterion_, rtol=1e-13)
    variances = plain.variance_components_
    np.testing.assert_allclose(fit.random_covariance[0, 0], variances["group"], rtol=1e-11)
    np.testing.assert_allclose(fit.residual_variance, variances["residual"], rtol=1e-12)
    np.testing.assert_allclose(fit.coefficients, [plain.intercept_, *plain.coef_], rtol=1e-11)
    np.testing.assert_allclose(fit.random_effects[:, 0], plain.random_effects_, rtol=1e-10)
    np.testing.assert_allclose(fit.covariance, plain.cov_fixed_, rtol=1e-10)


WEIGHTED = {
    ("precision", "reml"): (
        89.7586236589,
        0.809036436938,
        [0.657990795, 0.1245144358, 0.4708317492],
        [5.227157582842, -0.348300169968],
    ),
    ("precision", "ml"): (
        88.1592019353,
        0.814336335574,
        [0.5585221828, 0.1153402733, 0.4070724208],
        [5.223712627215, -0.348251820427],
    ),
    ("frequency", "reml"): (
        120.2450996143,
        0.240478469451,
        [0.8080193408, 0.1010871779, 0.5369592422],
        [5.245510102211, -0.347794403079],
    ),
    ("frequency", "ml"): (
        118.6751759582,
        0.240546284523,
        [0.7110090055, 0.0909476832, 0.4740976223],
        [5.244516680259, -0.347844496163],
    ),
}


@pytest.mark.parametrize(("weight_type", "method"), WEIGHTED)
def test_weights_have_either_meaning(weight_type, method):
    """The figures are those of dense algebra; lme4 agrees, with repeated rows for weights that count."""
    rng, groups = np.random.RandomState(52), np.repeat(np.arange(9), 3)
    x, weights = np.tile([-1.0, 0, 2], 9), np.tile([2, 1, 3, 1, 1, 2, 4, 1, 1], 3)
    effects = rng.randn(9)[groups] * 1.2 + (rng.randn(9) * 0.6)[groups] * x
    y = (5 - 0.6 * x + effects + rng.randn(27) / np.sqrt(weights)).round(2)
    fit = fitted(x[:, None], y, groups, method=method, weights=weights, weight_type=weight_type)
    value, residual, covariance, coefficients = WEIGHTED[weight_type, method]
    assert abs(fit.value - value) < 1e-9
    assert abs(fit.residual_variance - residual) < 1e-11
    np.testing.assert_allclose(fit.random_covariance[[0, 0, 1], [0, 1, 1]], covariance, rtol=0, atol=1e-9)
    np.testing.assert_allclose(fit.coefficients, coefficients, rtol=0, atol=1e-11)
    if weight_type == "precision":
        # Their unit is that of the residual variance.
        other = fitted(x[:, None], y, groups, method=method, weights=10.0 * weights, weight_type=weight_type)
        np.testing.assert_allclose(other.random_covariance, fit.random_covariance, rtol=1e-10)
        np.testing.assert_allclose(other.residual_variance, 10.0 * fit.residual_variance, rtol=1e-10)
        np.testing.assert_allclose(other.value, fit.value, rtol=1e-12)


def test_levels_of_a_factor_may_have_coefficients_of_their_own():
    """Three kinds in each of eight groups, two rows a cell; the figures are those of dense algebra."""
    rng, groups, kind = np.random.RandomState(21), np.repeat(np.arange(8), 6), np.tile(np.repeat([0, 1, 2], 2), 8)
    effects = rng.randn(8, 3) @ np.array([[1, 0.6, 0.2], [0, 0.8, 0.5], [0, 0, 0.9]])
    y = (5 + np.array([0, 1, 3.0])[kind] + effects[groups, kind] + 0.7 * rng.randn(48)).round(2)
    # Fixed effects of two levels, and random ones of these and of the last column.
    X, names = np.eye(3)[kind][:, [0, 1, 2]], ("x0", "x1", "x2")
    full = fitted(X, y, groups, names, intercept=False, n_random_only=1)
    assert abs(full.value - 108.5414981383) < 1e-9
    assert abs(full.residual_variance - 0.32293125) < 1e-8
    variances = [0.4698558036, 0.2627325893, 1.2932446429]
    np.testing.assert_allclose(full.random_covariance.diagonal(), variances, atol=1e-9)
    others = full.random_covariance[[0, 0, 1], [1, 2, 2]]
    np.testing.assert_allclose(others, [0.2088321429, 0.6363375, 0.5276169643], atol=1e-9)
    apart = fitted(X, y, groups, names, intercept=False, independent=True, n_random_only=1)
    assert abs(apart.value - 116.8519301914) < 1e-9
    np.testing.assert_allclose(apart.random_covariance.diagonal(), variances, atol=1e-9)


# ---- several optima


def small(seed):
    """X, y and groups of a small design: 4 to 8 groups of 1 to 5 rows, and a slope of whole numbers."""
    rng = np.random.RandomState(seed)  # its streams are the same under every NumPy
    n_groups = rng.randint(4, 9)
    groups = np.repeat(np.arange(n_groups), rng.randint(1, 6, n_groups))
    X = rng.randn(len(groups), rng.randint(1, 3)).round(1)
    X[:, 0] = rng.randint(-3, 4, len(groups))
    effects = rng.randn(n_groups, 2) * np.array([0.3, 1.0, 2.0])[rng.randint(0, 3, 2)]
    effects[:, 1] += effects[:, 0] * (rng.rand() < 0.4)
    return X, (effects[groups, 0] + effects[groups, 1] * X[:, 0] + rng.randn(len(groups))).round(1), groups


# Seed, whether the coefficients are independent, method, and the ranks of the optima, the best one first.
SEVERAL = [
    (21, False, "ml", (1, 1)),
    (47, False, "reml", (2, 1)),
    (47, True, "ml", (1, 1)),
    (73, True, "ml", (1, 2)),
    (83, False, "ml", (1, 1)),
    (89, True, "reml", (0, 1)),
    (105, True, "ml", (1, 0)),
    (109, False, "reml", (1, 2)),
    (130, False, "ml", (2, 1)),
    (180, False, "reml", (2, 1, 1)),
    (180, False, "ml", (2, 1, 1)),
    (193, True, "ml", (1, 1)),
    (219, True, "ml", (1, 0)),
    (272, False, "ml", (2, 1)),
    (1233, False, "ml", (1, 2, 1)),
]


def fit_and_optima(seed, independent, method, n_starts=12):
    """Our fit, and the values and ranks of the optima that many searches of the oracle reach."""
    X, y, groups = small(seed)
    Z = np.column_stack([np.ones(len(y)), X])
    dense = DenseMixed(Z, y, Z[:, :2], groups, reml=method == "reml")
    found = {}
    for value, G in dense.optima([[0], [1]] if independent else [[0, 1]], n_starts):
        found[round(float(value), 5)] = int(np.linalg.matrix_rank(G, tol=1e-7 * np.trace(G) + 1e-12))
    return fitted(X, y, groups, method=method, independent=independent), sorted(found.items())


@pytest.mark.parametrize(("seed", "independent", "method", "ranks"), SEVERAL)
def test_of_several_optima_the_best_is_found(seed, independent, method, ranks):
    fit, optima = fit_and_optima(seed, independent, method)
    assert tuple(rank for _, rank in optima) == ranks
    assert abs(fit.value - optima[0][0]) < 1e-5
    assert np.count_nonzero(fit.optimum.roots) == ranks[0]
    # Our own searches end in the other optima too.
    assert len({round(trial.value, 5) for trial in fit.optimum.trials}) > 1
    assert all(trial.outcome is Outcome.MINIMUM for trial in fit.optimum.trials)
    assert fit.value == fit.optimum.best.value == min(trial.value for trial in fit.optimum.trials)
    assert_certified(fit)


INTERCEPTS = [
    (54, "ml"),
    (709, "reml"),
    (1030, "ml"),
    (1038, "ml"),
    (1242, "reml"),
    (1290, "ml"),
    (1544, "ml"),
    (2745, "reml"),
]


@pytest.mark.parametrize(("seed", "method"), INTERCEPTS)
def test_of_several_optima_of_one_random_intercept_the_best_is_found(seed, method):
    X, y, groups = small(seed)
    fit, plain = fitted(X, y, groups, (), method), RandomInterceptRegressor(method=method).fit(X, y, groups=groups)
    assert abs(fit.value - plain.criterion_) < 1e-10
    assert len({round(trial.value, 3) for trial in fit.optimum.trials}) > 1


def test_a_search_leaves_a_stationary_point_that_is_no_minimum(monkeypatch):
    # Of one random intercept, with a minimum at 0 and one inside, the criterion has a maximum between.
    criterion = fitted(*small(1290), (), "ml").criterion
    grid = np.exp(np.linspace(-6.0, 3.0, 400))[:, None, None]
    slopes = criterion.evaluate(grid).slope[:, 0, 0]
    (at,) = np.flatnonzero((slopes[:-1] > 0) & (slopes[1:] < 0))
    low, high = grid[at : at + 2]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if criterion.evaluate(middle[None]).slope > 0 else (low, middle)
    monkeypatch.setattr(_mixed_optimum, "_starts", lambda criterion: [low])
    (trial,) = minimise_mixed(criterion).trials
    assert trial.outcome is Outcome.MINIMUM
    assert trial.value < criterion.value(low) - 0.01


# ---- 50 digits


def far_from_zero():
    X, y, groups = lines(3, n_groups=6)
    return np.round(X * 2**10) / 2**10 + 1e6, np.round(y * 2**10) / 2**10, groups


def two_optima():
    """Rows with two optima: the better one has a correlation of one, and a start at the identity leads to the other."""
    X = np.array([3.0, -2, -1, 0, 0, 1, -1, 1, -3, -2, -2, -2, 1, -2, 3, 2, 0, -2, 3, 3])[:, None]
    y = [0.5, 0.4, 0.6, -0.4, 0.3, 0.6, 0.5, 0.3, -0.1, 1.7, 1.9, 3.8, -0.2, -0.6, 2.5, 1.8, 1.0, -0.2, -0.5, -1.5]
    return X, np.array(y), np.repeat(np.arange(7), [2, 3, 4, 3, 2, 3, 3])


# Rows, names of the random columns, independence, weights, and the digits of coefficients and variances.
EXACT = {
    "inside": (lines(4), ("x0",), False, False, 1e-11),
    "singular": (two_optima(), ("x0",), False, False, 1e-11),
    "three, precision": (lines(5), ("x0", "x1"), True, True, 1e-11),
    # Variances of an intercept at 0 and of a slope counted from 1e6 away are nearly dependent.
    "far from zero": (far_from_zero(), ("x1",), False, False, 1e-4),
}


@METHOD
@pytest.mark.parametrize("name", EXACT)
def test_the_optimum_is_that_of_50_digits(name, method):
    (X, y, groups), names, independent, weighted, digits = EXACT[name]
    weights = np.exp(np.random.default_rng(0).standard_normal(len(y))) if weighted else None
    weight_type = "precision" if weighted else "frequency"
    fit = fitted(X, y, groups, names, method, independent=independent, weights=weights, weight_type=weight_type)
    ones = np.ones(len(y))
    X, Z = np.column_stack([ones, X]), np.column_stack([ones, *(X[:, int(column[1:])] for column in names)])
    ranks = [np.count_nonzero(fit.optimum.roots[list(block)]) for block in fit.criterion.coordinates.blocks]
    start = fit.random_covariance / fit.residual_variance
    blocks = [[at] for at in range(Z.shape[1])] if independent else None
    exact = exact_optimum(X, y, Z, groups, start, rank=ranks, blocks=blocks, reml=method == "reml", precision=weights)
    assert abs(float(fit.value - exact.value)) < 1e-11 * max(1.0, 1e3 * (name == "far from zero"))
    np.testing.assert_allclose(fit.residual_variance, float(exact.sigma2), rtol=min(digits, 1e-9))
    Sigma = np.array(exact.Sigma.tolist(), dtype=float)
    sd = np.sqrt(np.where(Sigma.diagonal() > 0, Sigma.diagonal(), 1.0))
    np.testing.assert_allclose(fit.random_covariance / np.outer(sd, sd), Sigma / np.outer(sd, sd), atol=digits)
    errors = np.abs(fit.coefficients - np.array(list(exact.beta), dtype=float)) / np.sqrt(fit.covariance.diagonal())
    assert errors.max() < min(digits, 1e-8)


def test_the_better_of_two_optima_is_certified_in_50_digits():
    X, y, groups = two_optima()
    Z = np.column_stack([np.ones(20), X])
    for method, value in (("reml", 55.962217190774), ("ml", 53.230634352998)):
        fit = fitted(X, y, groups, method=method)
        assert abs(fit.value - value) < 1e-11
        exact = exact_optimum(Z, y, Z, groups, fit.random_covariance / fit.residual_variance, rank=1, reml=method == "reml")
        # The direction without variance, as effects of the columns.
        null = mp.matrix((fit.turn_from_origin @ fit.optimum.basis[:, 1]).tolist())
        with mp.workdps(DIGITS):
            multiplier = float((null.T * exact.gradient * null)[0])
        assert multiplier > 0.5
        np.testing.assert_allclose(fit.optimum.multipliers, [multiplier], rtol=1e-10)


# ---- the record of the search


def test_few_groups_have_several_starts_and_many_have_one():
    few, many = (len(fitted(*lines(n_groups=n_groups)).optimum.trials) for n_groups in (30, 31))
    assert (few > 5, many) == (True, 1)
    # Directions alone and correlations of pairs add to multiples of the identity.
    assert len(fitted(*lines(), independent=True).optimum.trials) < few
    assert len(fitted(*lines(), ("x0", "x1")).optimum.trials) > few


def test_trials_tell_how_each_search_ended():
    optimum = fitted(*small(180), method="reml").optimum
    assert {trial.rank for trial in optimum.trials} == {1, 2}
    for trial in optimum.trials:
        assert trial.outcome is Outcome.MINIMUM
        assert 3 <= trial.n_steps < 60
        assert 0 <= trial.decrement < 1e-12
        assert trial.start.shape == (2, 2)
    best = optimum.best
    assert best.value == optimum.evaluation.value[0] == min(trial.value for trial in optimum.trials)
    assert best.rank == np.count_nonzero(optimum.roots)
    np.testing.assert_allclose(optimum.basis.T @ optimum.basis, np.eye(2), atol=1e-15)
    assert (np.diff(optimum.roots) <= 0).all()


def test_trials_have_the_covariance_that_they_start_from():
    optimum = fitted(*lines()).optimum
    scales = [trial.start[0, 0] for trial in optimum.trials[1:5]]
    np.testing.assert_allclose(scales, [1.0, 0.03, 30.0, 1e-3], rtol=1e-14)


def test_a_search_that_runs_out_of_steps_says_so_and_the_model_warns(monkeypatch):
    monkeypatch.setattr(_mixed_optimum, "_MOST_STEPS", 3)
    X, y, groups = lines()
    fit = fitted(X, y, groups)
    assert {trial.outcome for trial in fit.optimum.trials} == {Outcome.OUT_OF_STEPS}
    assert {trial.n_steps for trial in fit.optimum.trials} == {3}
    with pytest.warns(
        ConvergenceWarning, match="The search for the optimum ended with no minimum within the number of steps"
    ):
        MixedEffectsRegressor(random_effects="(1 + x0 | g)").fit(X, y, groups)


def test_without_groups_there_is_no_search():
    criterion = fitted(*lines()).criterion
    optimum = without_random_effects(criterion)
    assert optimum.trials == []
    assert not optimum.factor.any()
    assert optimum.evaluation.value == criterion.value(np.zeros((2, 1)))


@pytest.mark.parametrize("seed", range(25))
def test_the_optimum_is_not_above_many_random_covariances(seed):
    rng = np.random.default_rng(seed)
    X, y, groups = lines(seed, int(rng.integers(4, 40)), rng.choice([0.0, 0.3, 1.0, 5.0], 2), sizes=(2, 9))
    for method in ("reml", "ml"):
        for options in ({}, {"independent": True}, {"names": ("x0", "x1")}, {"names": ("x0",), "intercept": False}):
            fit = fitted(X, y, groups, method=method, **options)
            assert_certified(fit)
            criterion, optimum = fit.criterion, fit.optimum
            # Near the optimum, and anywhere.
            steps = rng.standard_normal((20, *optimum.factor.shape)) * np.exp(rng.uniform(-8, 3, (20, 1, 1)))
            mask = np.zeros_like(optimum.factor)
            for block in map(list, criterion.coordinates.blocks):
                mask[np.ix_(block, block)] = 1.0
            values = criterion.evaluate(optimum.factor + mask * steps).value
            assert values.min() > fit.value - 1e-12 * abs(fit.value)


def test_as_many_coefficients_as_groups_can_tell_apart():
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(10), 12)
    X = rng.standard_normal((120, 5))
    y = X.sum(axis=1) + rng.standard_normal((10, 6))[groups, 0] + (rng.standard_normal((10, 5))[groups] * X).sum(axis=1)
    y += rng.standard_normal(120)
    for method in ("reml", "ml"):
        fit = fitted(X, y, groups, tuple(f"x{at}" for at in range(5)), method)
        assert fit.random_covariance.shape == (6, 6)
        assert_certified(fit)


def test_many_singletons_among_large_groups():
    rng = np.random.default_rng(7)
    groups = np.append(np.repeat(np.arange(40), 50), np.arange(40, 20_040))
    x = rng.standard_normal(len(groups))
    effects = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.3], [0.3, 0.5]], 20_040)[groups]
    y = x + effects[:, 0] + effects[:, 1] * x + rng.standard_normal(len(groups))
    fit = fitted(x[:, None], y, groups)
    assert_certified(fit)
    # Within five standard errors, of 20,000 singletons and 40 groups.
    np.testing.assert_allclose(fit.random_covariance, [[1.0, 0.3], [0.3, 0.5]], atol=0.1)
    np.testing.assert_allclose(fit.residual_variance, 1.0, atol=0.1)


def test_two_groups_are_enough():
    Z, y = balanced([30.0, 0.5], n_groups=2, n_rows=8)
    fit = fitted_balanced(Z, y)
    Sigma, sigma2, _, rank = closed_form(Z, y)
    assert rank == 1
    np.testing.assert_allclose(fit.residual_variance, sigma2, rtol=1e-12)
    np.testing.assert_allclose(fit.random_covariance, Sigma, atol=1e-12 * Sigma.max())


# ---- changes that change nothing


def changes():
    """What is done to x, y and groups; and the factors by which slopes and y change."""
    rng = np.random.default_rng(8)
    return {
        "x times 1e6": (lambda X, y, g: (1e6 * X, y, g), 1e6, 1.0),
        "x times 1e-6": (lambda X, y, g: (1e-6 * X, y, g), 1e-6, 1.0),
        "y times 1e-6": (lambda X, y, g: (X, 1e-6 * y, g), 1.0, 1e-6),
        "both": (lambda X, y, g: (1e-6 * X, 1e6 * y, g), 1e-6, 1e6),
        "order of groups": (lambda X, y, g: (X, y, rng.permutation(100)[g]), 1.0, 1.0),
        "order of rows": (
            lambda X, y, g: tuple(part[np.argsort(np.sin(np.arange(len(g))))] for part in (X, y, g)),
            1.0,
            1.0,
        ),
        "y plus a line": (lambda X, y, g: (X, y + 3.0 - 2.0 * X[:, 0], g), 1.0, 1.0),
    }


@METHOD
@pytest.mark.parametrize("design", [lines(9), lines(1, tau=(2.0, 0.0)), small(180), two_optima()], ids=["a", "b", "c", "d"])
@pytest.mark.parametrize("change", changes())
def test_units_and_orders_do_not_matter(change, design, method):
    move, x_unit, y_unit = changes()[change]
    fit, other = fitted(*design, method=method), fitted(*move(*design), method=method)
    back = np.array([1.0, x_unit]) / y_unit
    Sigma, size = fit.random_covariance, max(fit.random_covariance.max(), fit.residual_variance)
    np.testing.assert_allclose(other.random_covariance * np.outer(back, back), Sigma, rtol=0, atol=1e-10 * size)
    np.testing.assert_allclose(other.residual_variance / y_unit**2, fit.residual_variance, rtol=1e-10)
    assert np.count_nonzero(other.optimum.roots) == np.count_nonzero(fit.optimum.roots)
    # The constants of the likelihood: y has N - k free units (N for ML), and each column of X one in its determinant.
    n_rows, k, n_columns = len(design[1]), fit.rank, design[0].shape[1]
    reml = method == "reml"
    units = 2.0 * (n_rows - k * reml) * np.log(y_unit) + 2.0 * reml * n_columns * np.log(x_unit)
    np.testing.assert_allclose(other.value, fit.value + units, rtol=0, atol=1e-10 * max(1.0, abs(units)))
    if "times" in change or change == "both":
        # The search takes the same path, but for rounding.
        for one, two in zip(fit.optimum.trials, other.optimum.trials, strict=True):
            assert (one.outcome, one.rank) == (two.outcome, two.rank)
            assert abs(one.value + units - two.value) < 1e-7


@METHOD
def test_a_shift_of_the_slope_is_another_intercept(method):
    X, y, groups = lines(9)
    fit, moved = fitted(X, y, groups, method=method), fitted(X + 1e3, y, groups, method=method)
    shift = np.array([[1.0, -1e3], [0.0, 1.0]])
    size = np.sqrt((shift @ fit.random_covariance @ shift.T).diagonal())
    found, expected = (
        part / np.outer(size, size) for part in (moved.random_covariance, shift @ fit.random_covariance @ shift.T)
    )
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(moved.residual_variance, fit.residual_variance, rtol=1e-10)
    assert abs(moved.value - fit.value) < 1e-9


# ---- no residual


def exact_lines(seed=10, *, slopes=True, both=True):
    """Groups whose rows lie on their own lines, without a residual; the effects of the groups, and the rows."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(8), 4)
    x, effects = rng.standard_normal(32), rng.standard_normal((8, 2)) * (both, slopes)
    return effects, x[:, None], effects[groups, 0] + effects[groups, 1] * x, groups


@METHOD
@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_rows_on_lines_of_their_groups_have_no_residual(unit, independent, method):
    effects, X, y, groups = exact_lines()
    fit = fitted(X, unit * y, groups, method=method, independent=independent)
    expected = np.cov(effects, rowvar=False, ddof=int(method == "reml"))
    expected *= np.eye(2) if independent else 1.0
    assert fit.boundary == "residual"
    assert fit.residual_variance == 0
    assert fit.value == -np.inf
    # The limit is taken at a residual variance of 1e-18 of the mean square of y.
    np.testing.assert_allclose(fit.random_covariance / unit**2, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fit.coefficients / unit, effects.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(fit.covariance / unit**2, expected / 8, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fit.random_effects / unit, effects - effects.mean(axis=0), rtol=0, atol=1e-9)


NO_DIGITS = pytest.mark.xfail(reason="at a residual variance of 1e-18, r2 and B have no digits left where Sigma is singular")


ONE_SLOPE, ONE_POINT = (pytest.param(name, marks=NO_DIGITS) for name in ("one slope", "lines through a point"))


@METHOD
@pytest.mark.parametrize("which", ["the same in a group", ONE_SLOPE, ONE_POINT])
def test_no_residual_and_a_singular_covariance(which, method):
    effects, X, y, groups = exact_lines(slopes=which != "the same in a group", both=which != "one slope")
    if which == "lines through a point":
        effects[:, 1] = 0.5 * effects[:, 0]
        y = effects[groups, 0] + effects[groups, 1] * X[:, 0]
    fit = fitted(X, y, groups, method=method)
    assert fit.boundary == "residual"
    expected = np.cov(effects, rowvar=False, ddof=int(method == "reml"))
    np.testing.assert_allclose(fit.random_covariance, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit.coefficients, effects.mean(axis=0), rtol=1e-6, atol=1e-9)


def saturated():
    """Eight rows of four groups, and four columns that vary within groups: with the groups they determine every row."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, 4)), rng.standard_normal(8), np.repeat(np.arange(4), 2)


def test_full_likelihood_without_a_maximum_is_recognised():
    fit = fitted(*saturated(), (), "ml")
    assert fit.optimum.best.outcome is Outcome.UNBOUNDED
    assert fit.optimum.best.value == -np.inf


def test_restricted_likelihood_that_is_greatest_without_residual_is_that_of_the_random_intercept_model():
    X, y, groups = saturated()
    fit, plain = fitted(X, y, groups, ()), RandomInterceptRegressor().fit(X, y, groups=groups)
    assert plain.boundary_ == "residual"
    assert fit.value == pytest.approx(plain.criterion_, rel=1e-12)
    assert fit.boundary == "residual"
    np.testing.assert_allclose(fit.random_covariance[0, 0], plain.variance_components_["group"], rtol=1e-9)


@METHOD
def test_fixed_effects_that_determine_y_leave_no_variance(method):
    _, X, _, groups = exact_lines()
    for y in (2.0 - 3.0 * X[:, 0], np.full(32, 5.0)):
        fit = fitted(X, y, groups, method=method)
        assert not fit.random_covariance.any()
        assert fit.residual_variance == 0.0
        assert not fit.random_effects.any()
        np.testing.assert_allclose(fit.predict(X, np.zeros(32, dtype=int)), y, rtol=1e-12)
