"""The oracle of several grouping factors: one factor, differences, 50 digits, and what lme4 answers at its variances."""

import numpy as np
import pytest
from dense_factors import DenseFactors, exact_factors
from dense_mixed import DenseMixed
from threadpoolctl import threadpool_limits

BLOCKS = [[0, 1], [2]]
G = np.array([[1.3, 0.4, 0.0], [0.4, 0.7, 0.0], [0.0, 0.0, 0.9]])


@pytest.fixture(autouse=True)
def one_thread():
    """More threads cost more than they save with few rows."""
    with threadpool_limits(1):
        yield


def rows(n=30, seed=0):
    r = np.random.default_rng(seed)
    a, b, x = r.integers(0, 6, n), [("p", int(v)) for v in r.integers(0, 4, n)], r.standard_normal(n)
    X = np.column_stack([np.ones(n), x])
    y = X.sum(axis=1) + r.standard_normal(6)[a] + r.standard_normal(4)[[v for _, v in b]] + r.standard_normal(n)
    return X, y, [(X, a), (X[:, :1], b)], 0.5 + r.random(n)


def test_one_factor_is_the_model_of_the_other_oracle():
    X, y, factors, w = rows()
    Z, a = factors[0]
    for reml in (True, False):
        one, other = DenseFactors(X, y, factors[:1], reml=reml, precision=w), DenseMixed(X, y, Z, a, reml=reml, precision=w)
        g = G[:2, :2]
        assert one.value(g) == pytest.approx(other.value(g), rel=1e-14)
        np.testing.assert_allclose(one.gradient(g), other.gradient(g), rtol=1e-12)
        order = [one.levels_of[0].index(level) for level in other.levels]
        found, expected = one.estimates(g), other.estimates(g)
        np.testing.assert_allclose(found.random_effects[0][order], expected.random_effects, rtol=1e-11)
        np.testing.assert_allclose(found.conditional[0][order], expected.conditional, rtol=1e-11, atol=1e-14)
        groups = [*a[:3], 99]
        mean, variance = one.predict(g, X[:4], Z[:4], [groups])
        for one_of, other_of in zip((mean, variance), other.predict(g, X[:4], Z[:4], groups), strict=True):
            np.testing.assert_allclose(one_of, other_of, rtol=1e-11)


def test_derivatives_are_those_of_differences():
    X, y, factors, w = rows(seed=1)
    model, step = DenseFactors(X, y, factors, precision=w), 1e-5
    directions = [np.diag(d) for d in np.eye(3)] + [np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])]
    hessian = model.hessian(G, directions)
    for i, E in enumerate(directions):
        slope = (model.value(G + step * E) - model.value(G - step * E)) / (2 * step)
        assert np.sum(model.gradient(G) * E) == pytest.approx(slope, rel=1e-6, abs=1e-7)
        change = (model.gradient(G + step * E) - model.gradient(G - step * E)) / (2 * step)
        np.testing.assert_allclose(hessian[i], [np.sum(change * other) for other in directions], rtol=1e-6, atol=1e-7)


def test_fifty_digits_and_doubles_agree():
    X, y, factors, w = rows(seed=2)
    for reml in (True, False):
        exact = exact_factors(X, y, factors, G, reml=reml, precision=w)
        model = DenseFactors(X, y, factors, reml=reml, precision=w)
        assert model.value(G) == pytest.approx(float(exact.value), rel=1e-13)
        np.testing.assert_allclose(model.estimates(G).beta, exact.beta, rtol=1e-12)


def test_random_effects_are_predictions_of_known_levels_less_the_fixed_part():
    X, y, factors, _ = rows(seed=3)
    model = DenseFactors(X, y, factors)
    estimates, Z = model.estimates(G), np.column_stack([factors[0][0], factors[1][0]])
    labels = [list(factors[0][1]), list(factors[1][1])]
    nothing = [None] * len(y)
    for known in ((True, True), (True, False), (False, True)):
        given = [each if is_known else nothing for each, is_known in zip(labels, known, strict=True)]
        mean, _ = model.predict(G, X, Z, given)
        part = X @ estimates.beta
        for at, is_known in enumerate(known):
            effects = estimates.random_effects[at][model.codes_of[at]]
            part = part + is_known * (Z[:, model.columns[at]] * effects).sum(axis=1)
        np.testing.assert_allclose(mean, part, rtol=1e-11)
    new = [["new"] * len(y)] * 2
    mean, variance = model.predict(G, X, Z, new)
    population, of_fixed = model.predict(G, X, Z, [nothing, nothing])
    np.testing.assert_allclose(mean, population, rtol=1e-12)
    own = estimates.sigma2 * np.einsum("ia,ab,ib->i", Z, G, Z)
    np.testing.assert_allclose(variance, of_fixed + own, rtol=1e-11)


def test_the_optimum_and_the_degrees_of_freedom_are_those_of_lme4(reference_mixed):
    frame, case = reference_mixed("B", "machines_nested")
    X = np.column_stack([np.ones(len(frame)), frame["machB"], frame["machC"]])
    one = X[:, :1]
    pairs = list(zip(frame["Worker"], frame["Machine"], strict=True))
    model = DenseFactors(X, frame["score"], [(one, pairs), (one, frame["Worker"])])
    answer = case["REML"]
    value, found = model.best([[0], [1]], 2)
    assert value == pytest.approx(answer["criterion"], rel=1e-11)
    estimates = model.estimates(found)
    np.testing.assert_allclose(estimates.beta, answer["beta"], rtol=1e-8)
    np.testing.assert_allclose(
        estimates.Sigma.diagonal(), [np.ravel(part["cov"])[0] for part in answer["varcorr"]], rtol=1e-6
    )
    for at, contrast in enumerate(np.eye(3)):
        adjusted, df = model.kenward_roger(found, contrast, [[0], [1]])
        assert df == pytest.approx(answer["kenward_roger"]["df"][at], rel=1e-5)
        assert np.sqrt(adjusted[at, at]) == pytest.approx(answer["kenward_roger"]["se"][at], rel=1e-6)
        df = model.satterthwaite(found, contrast, [[0], [1]])
        assert df == pytest.approx(answer["satterthwaite"]["df"][at], rel=1e-5)
