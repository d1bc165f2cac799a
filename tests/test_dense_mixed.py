"""The dense oracle of mixed models against lme4 and its companions, and against differences."""

import mpmath as mp
import numpy as np
import pytest
from dense_mixed import DIGITS, DenseMixed, ExactMixed, exact_optimum, root

# Of part A, what has at most 600 rows.
SCALED = ["sleepstudy_plus_1000", "sleepstudy_x_1e6", "sleepstudy_x_1em6"]  # lmerTest's df are wrong there
INSIDE = ["sleepstudy_slope", "sleepstudy_uncorr", "sleepstudy_noint", "sleepstudy_y_1em6", "orthodont_age_sex"]
SINGULAR = ["exam_few_rows", "igf_singular", "igf_uncorr", "pbg_singular", "soybean_singular", "dialyzer_singular",
            "early_singular"]  # fmt: skip
NEAR = ["dialyzer_near_singular"]
METHODS = ["REML", "ML"]
# Two minima: the better one has rank 1.
GROUPS = [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6]
SLOPE = [3.0, -2, -1, 0, 0, 1, -1, 1, -3, -2, -2, -2, 1, -2, 3, 2, 0, -2, 3, 3]
OUTCOME = [0.5, 0.4, 0.6, -0.4, 0.3, 0.6, 0.5, 0.3, -0.1, 1.7, 1.9, 3.8, -0.2, -0.6, 2.5, 1.8, 1.0, -0.2, -0.5, -1.5]
TWO_MINIMA = {"REML": (55.962217190774, 56.4489640527), "ML": (53.230634352998, 53.8977297729)}


def whole(frame, names):
    """Design matrix of columns and products of columns."""
    columns = [np.prod([frame[part] for part in name.split(":")], axis=0) for name in names if name != "(Intercept)"]
    return np.column_stack([np.ones(len(frame))] * (names[0] == "(Intercept)") + columns)


def blocks_of(case):
    """Positions of the coefficients of each term."""
    ends = np.cumsum([len(term["columns"]) for term in case["terms"]])
    return [list(range(end - len(term["columns"]), end)) for end, term in zip(ends, case["terms"], strict=True)]


@pytest.fixture(scope="module")
def dense(reference_mixed):
    """Oracle of a case of part A, what the reference says, and the reference's G."""

    def build(name, method):
        frame, case = reference_mixed("A", name)
        Z = whole(frame, [column for term in case["terms"] for column in term["columns"]])
        y = frame[case["formula"].split("~")[0].strip()]
        model = DenseMixed(
            whole(frame, case["coef_names"]), y, Z, frame[case["group_columns"][0]].astype(str), reml=method == "REML"
        )
        truth = {**case[method], "blocks": blocks_of(case)}
        G = np.zeros((Z.shape[1],) * 2)
        for block, term in zip(truth["blocks"], truth["varcorr"], strict=True):
            G[np.ix_(block, block)] = np.array(term["cov"]) / truth["sigma2"]
        return model, truth, G

    return build


def unbalanced(seed=0, reml=True, precision=True, q=3):
    """Nine groups of 1 to 6 rows, and precisions."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(9), rng.integers(1, 7, 9))
    n = len(groups)
    X = np.column_stack([np.ones(n), rng.standard_normal((n, q))])
    Z = X[:, :q]
    y = X.sum(axis=1) + (Z * rng.standard_normal((9, q))[groups]).sum(axis=1) + rng.standard_normal(n)
    model = DenseMixed(X, y, Z, groups, reml=reml, precision=np.exp(rng.standard_normal(n)) if precision else None)
    L = np.tril(rng.standard_normal((q, q)))
    return model, L @ L.T, [E + E.T for E in rng.standard_normal((2, q, q))]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [*INSIDE, *SCALED, *SINGULAR, *NEAR])
def test_oracle_has_the_criterion_and_the_fixed_effects_of_lme4(dense, name, method):
    model, truth, G = dense(name, method)
    found = model.estimates(G)
    digits = 1e-8 if name == "sleepstudy_plus_1000" else 1e-10
    se = np.array(truth["se"])
    assert abs(found.value - truth["criterion"]) < 1e-9
    assert abs(found.sigma2 / truth["sigma2"] - 1.0) < 1e-11
    assert np.max(np.abs(found.beta - truth["beta"]) / se) < digits
    assert np.max(np.abs(found.vcov - truth["vcov_beta"]) / np.outer(se, se)) < digits


@pytest.mark.parametrize("name", [*INSIDE, *SCALED, *SINGULAR, *NEAR])
def test_oracle_has_the_random_effects_and_predictions_of_lme4(dense, name):
    model, truth, G = dense(name, "REML")
    found, digits = model.estimates(G), 1e-8 if name == "sleepstudy_plus_1000" else 1e-11
    at = [list(model.levels).index(level) for level in truth["ranef"][0]["levels"]]
    for block, term in zip(truth["blocks"], truth["ranef"], strict=True):
        values = np.array(term["condval"])
        np.testing.assert_allclose(found.random_effects[np.ix_(at, block)] - values, 0.0, atol=digits * np.abs(values).max())
        conditional = np.array(term["condvar"]).reshape(len(at), len(block), len(block))
        # Of a rank-deficient block, the reference's own zeros are rounding.
        size = np.sqrt(np.einsum("jaa->ja", conditional).max(axis=0))
        ours = found.conditional[at][:, block][:, :, block]
        assert np.all(np.abs(ours - conditional) <= 10 * digits * np.outer(size, size))
    rows = truth["predict_first_rows"]
    first = slice(len(rows["population"]))
    population, _ = model.predict(G, model.X[first], model.Z[first])
    conditional, _ = model.predict(G, model.X[first], model.Z[first], model.levels[model.codes[first]])
    np.testing.assert_allclose(population, rows["population"], rtol=10 * digits)
    np.testing.assert_allclose(conditional, rows["conditional"], rtol=10 * digits)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", INSIDE)
def test_oracle_has_the_satterthwaite_df_of_lmertest(dense, name, method):
    model, truth, G = dense(name, method)
    df = [model.satterthwaite(G, contrast, truth["blocks"]) for contrast in np.eye(model.X.shape[1])]
    np.testing.assert_allclose(df, truth["satterthwaite"]["df"], rtol=2e-7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SINGULAR)
def test_lmertest_df_at_a_singular_fit_are_those_of_covariances_of_its_rank(dense, name, method):
    model, truth, G = dense(name, method)
    df = [model.satterthwaite(G, contrast, truth["blocks"], stratum=True) for contrast in np.eye(model.X.shape[1])]
    np.testing.assert_allclose(df, truth["satterthwaite"]["df"], rtol=1e-6)


@pytest.mark.parametrize("name", [*INSIDE, *SINGULAR, *NEAR])
def test_oracle_has_the_kenward_roger_table_of_pbkrtest(dense, name):
    model, truth, G = dense(name, "REML")
    se, expected = np.array(truth["se"]), truth["kenward_roger"]
    for contrast, df in zip(np.eye(len(se)), expected["df"], strict=True):
        adjusted, ours = model.kenward_roger(G, contrast, truth["blocks"])
        assert abs(ours / df - 1.0) < 1e-10
    assert np.max(np.abs(adjusted - expected["vcov_adjusted"]) / np.outer(se, se)) < 1e-10


@pytest.mark.parametrize("name", SCALED)
def test_oracle_df_do_not_depend_on_the_units_of_the_slope(dense, name):
    plain, truth, G = dense("sleepstudy_slope", "REML")
    scaled, _, other = dense(name, "REML")
    for contrast in ([0.0, 1.0], [1.0, 4.0]):
        moved = scaled.X.T @ np.linalg.lstsq(plain.X.T, np.array(contrast), rcond=None)[0]
        ours = scaled.satterthwaite(other, moved, truth["blocks"])
        assert abs(ours / plain.satterthwaite(G, contrast, truth["blocks"]) - 1.0) < 1e-7
        ours = scaled.kenward_roger(other, moved, truth["blocks"])[1]
        assert abs(ours / plain.kenward_roger(G, contrast, truth["blocks"])[1] - 1.0) < 1e-7


@pytest.mark.parametrize("reml", [True, False])
def test_oracle_derivatives_are_those_of_differences(reml):
    model, G, (E, E2) = unbalanced(reml=reml)
    h = 1e-5
    slope = (model.value(G + h * E) - model.value(G - h * E)) / (2 * h)
    np.testing.assert_allclose(np.trace(model.gradient(G) @ E), slope, rtol=1e-7)
    change = (model.gradient(G + h * E) - model.gradient(G - h * E)) / (2 * h)
    np.testing.assert_allclose(model.second(G, E, E2), np.trace(change @ E2), rtol=1e-7)


def test_oracle_estimates_solve_hendersons_equations():
    model, G, _ = unbalanced()
    n, q, J = len(model.y), 3, len(model.levels)
    Z = np.zeros((n, J * q))
    for i, j in enumerate(model.codes):
        Z[i, j * q : (j + 1) * q] = model.Z[i]
    W, T = np.linalg.inv(model.R), np.column_stack([model.X, Z])
    system = T.T @ W @ T
    system[4:, 4:] += np.kron(np.eye(J), np.linalg.inv(G))
    inverse, found = np.linalg.inv(system), model.estimates(G)
    solution = inverse @ (T.T @ W @ model.y)
    np.testing.assert_allclose(found.beta, solution[:4], rtol=1e-9)
    np.testing.assert_allclose(found.random_effects.ravel(), solution[4:], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.vcov, found.sigma2 * inverse[:4, :4], rtol=1e-8, atol=1e-12)
    known = np.concatenate([T, T])[3:7]
    mean, variance = model.predict(G, model.X[3:7], model.Z[3:7], model.levels[model.codes[3:7]])
    np.testing.assert_allclose(mean, known @ solution, rtol=1e-9)
    np.testing.assert_allclose(variance, found.sigma2 * np.einsum("ia,ab,ib->i", known, inverse, known), rtol=1e-8)
    _, new = model.predict(G, model.X[:1], model.Z[:1], ["no such group"])
    expected = model.X[0] @ found.vcov @ model.X[0] + model.Z[0] @ found.Sigma @ model.Z[0]
    np.testing.assert_allclose(new, [expected], rtol=1e-10)


@pytest.mark.parametrize("reml", [True, False])
def test_satterthwaite_df_are_those_of_differences_of_the_deviance(reml):
    model, _, _ = unbalanced(seed=5, reml=reml, q=2)
    G = model.best([[0, 1]], 3)[1]
    found, contrast = model.estimates(G), np.array([0.3, 1.0, -0.5])
    assert np.linalg.eigvalsh(G).min() > 0.01  # inside, so that all parameters vary

    def unprofiled(p):
        sigma2 = p[3]
        G = np.array([[p[0], p[1]], [p[1], p[2]]]) / sigma2
        at = model.at(G)
        k = model.X.shape[1]
        value = len(model.y) * np.log(sigma2) + at.log_det + at.r2 / sigma2
        return value + ((at.log_det_X - k * np.log(sigma2)) if reml else 0.0), sigma2 * contrast @ at.C @ contrast

    centre = np.array([*found.Sigma[[0, 0, 1], [0, 1, 1]], found.sigma2])
    h, units = 1e-4, np.eye(4)
    H = np.zeros((4, 4))
    for (a, b), _ in np.ndenumerate(H):
        corners = [s * t * unprofiled(centre + h * (s * units[a] + t * units[b]))[0] for s in (1, -1) for t in (1, -1)]
        H[a, b] = sum(corners) / (4 * h * h)
    g = np.array([unprofiled(centre + h * e)[1] - unprofiled(centre - h * e)[1] for e in units]) / (2 * h)
    df = 2 * unprofiled(centre)[1] ** 2 / (g @ (2 * np.linalg.inv(H)) @ g)
    np.testing.assert_allclose(model.satterthwaite(G, contrast, [[0, 1]]), df, rtol=1e-5)
    np.testing.assert_allclose(model.satterthwaite(G, contrast, [[0, 1]], stratum=True), df, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_best_of_many_starts_finds_the_lower_of_two_minima_and_50_digits_confirm_it(method):
    X, lowest = np.column_stack([np.ones(20), SLOPE]), TWO_MINIMA[method]
    model = DenseMixed(X, OUTCOME, X, GROUPS, reml=method == "REML")
    optima = model.optima([[0, 1]], 12, seed=1)
    assert abs(model.best([[0, 1]], 12, seed=1)[0] - lowest[0]) < 1e-10
    assert {round(found, 6) for found, _ in optima} == {round(v, 6) for v in lowest}

    for value, G in (min(optima, key=lambda found: found[0]), max(optima, key=lambda found: found[0])):
        exact = exact_optimum(X, OUTCOME, X, GROUPS, G, rank=1, reml=method == "REML")
        assert abs(float(exact.value) - value) < 1e-11
        with mp.workdps(DIGITS):
            assert mp.norm(exact.gradient * exact.G) < 1e-40
            assert mp.det(exact.G) < 1e-40
            assert exact.gradient[0, 0] + exact.gradient[1, 1] > 0.1  # positive on the null space


@pytest.mark.parametrize("reml", [True, False])
def test_gradient_is_zero_in_50_digits_at_an_optimum_inside(reml):
    model, _, _ = unbalanced(seed=5, reml=reml, q=2, precision=False)
    value, G = model.best([[0, 1]], 3)
    exact = exact_optimum(model.X, model.y, model.Z, model.codes, G, reml=reml)
    assert abs(float(exact.value) - value) < 1e-11
    np.testing.assert_allclose(np.array(exact.G.tolist(), float), G, rtol=1e-7)
    with mp.workdps(DIGITS):
        assert mp.norm(exact.gradient) < 1e-40


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["pbg_singular", "igf_uncorr", "dialyzer_near_singular"])
def test_best_of_a_few_starts_is_not_above_the_reference(dense, name, method):
    model, truth, _ = dense(name, method)
    assert abs(model.best(truth["blocks"], 4)[0] - truth["criterion"]) < 1e-9


@pytest.mark.parametrize("reml", [True, False])
def test_50_digits_and_doubles_agree_with_precisions_and_blocks(reml):
    model, G, _ = unbalanced(seed=3, reml=reml)
    blocks, G[0, 1:], G[1:, 0] = [[0], [1, 2]], 0.0, 0.0
    precision = 1.0 / np.diag(model.R)
    exact = ExactMixed(model.X, model.y, model.Z, model.codes, reml=reml, precision=precision)
    assert abs(float(exact.value(G)) - model.value(G)) < 1e-11
    np.testing.assert_allclose(np.array(exact.gradient(G).tolist(), float), model.gradient(G), rtol=1e-10, atol=1e-12)

    value, best = model.best(blocks, 6)
    ranks = [np.linalg.matrix_rank(root(best[np.ix_(b, b)])) for b in blocks]
    found = exact_optimum(
        model.X, model.y, model.Z, model.codes, best, rank=ranks, blocks=blocks, reml=reml, precision=precision
    )
    assert abs(float(found.value) - value) < 1e-11
    np.testing.assert_allclose(np.array(found.G.tolist(), float), best, atol=1e-5)
