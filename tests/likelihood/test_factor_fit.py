"""What the fit record of several grouping factors says, against n x n algebra at its variances."""

from dataclasses import replace

import numpy as np
import pytest
from factor_cases import Case, frame_of
from many_cases import check_each
from threadpoolctl import threadpool_limits

from sklearn_mlm.inference._degrees_of_freedom import KenwardRoger, Satterthwaite
from sklearn_mlm.likelihood import _factor_criterion
from sklearn_mlm.likelihood._mixed_fits import fit_mixed
from sklearn_mlm.likelihood._mixed_optimum import minimise_mixed

N = 48
WEIGHTS = 1 + np.arange(N) % 3


def small(kind, seed, **options):
    return frame_of(kind, seed, n=N, **options)


CASES = {
    "crossed": Case(small("crossed", 0), "(1 | a) + (1 | b)"),
    "crossed, ML": Case(small("crossed", 1), "(1 | b) + (1 | c)", "ml"),
    "slopes in two factors": Case(small("crossed", 2), "(1 + x0 | a) + (1 + x1 | b)"),
    "independent slopes": Case(small("crossed", 3), "(1 + x0 || a) + (1 | b)", "ml"),
    "two terms of a factor": Case(small("crossed", 4, tau=(1, 1, 1, 1.5)), "(1 | a) + (1 | b) + (0 + x0 + x1 | a)"),
    "nested": Case(small("nested", 5), "(1 | c/b/a)"),
    "nested slopes": Case(small("nested", 6), "(1 + x0 | a) + (1 | b)"),
    "three nested beside crossed": Case(small("mixed", 7), "(1 | a) + (1 | c) + (1 | b) + (1 | d)"),
    "slopes, nested beside crossed": Case(small("mixed", 8), "(1 + x0 | a) + (1 | b) + (1 + x1 | c)"),
    "no variance": Case(small("mixed", 1, tau=(0, 0, 0, 0)), "(1 | a) + (1 | c)"),
    "one factor without variance": Case(small("mixed", 1, tau=(1, 1, 0, 1)), "(1 | c) + (1 + x0 | a)"),
    "singular": Case(small("mixed", 1, tau=(1, 1, 0, 0.2)), "(1 | b) + (1 + x0 | a) + (1 | c)"),
    "precision": Case(small("mixed", 10), "(1 | a) + (1 | c)", weights=WEIGHTS / 2.0, weight_type="precision"),
    "counts": Case(small("mixed", 11), "(1 | a) + (1 | c)", weights=WEIGHTS),
    "random only": Case(small("crossed", 12), "(1 + x2 | a) + (1 | b)"),
    "no fixed intercept": Case(small("crossed", 13), "(1 | b) + (1 | c)", fit_intercept=False),
}
ELIMINATIONS = {"together": 10**6, "first": 0}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """More threads cost more than they save with few rows."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def fits(one_thread):
    """The fit of each case, with factors eliminated first or not; the latter searches from many starts."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, case in CASES.items():
            patch.setattr(_factor_criterion, "_FEW_COEFFICIENTS", ELIMINATIONS["together"])
            fit = fit_mixed(case.scatter, case.options)
            patch.setattr(_factor_criterion, "_FEW_COEFFICIENTS", ELIMINATIONS["first"])
            criterion = case.criterion()
            other = replace(fit, criterion=criterion, optimum=minimise_mixed(criterion, [fit.optimum.factor]))
            found |= {f"{name}, together": (case, fit), f"{name}, first": (case, other)}
    return found


@pytest.fixture(scope="module")
def dense():
    return {id(case): case.dense() for case in CASES.values()}


def relative(case, fit):
    """The relative covariance of a fit, as the oracle counts coefficients."""
    return fit.random_covariance[np.ix_(case.order, case.order)] / fit.residual_variance


def codes_of(case, fit, frame):
    """The level of each factor that each row has, negative for unknown ones."""
    columns = []
    for (name, labels), of_rows in zip(fit.factor_labels.items(), case.labels(frame), strict=True):
        position = {label: at for at, label in enumerate(labels)}
        assert fit.factors[name].group_name == name
        columns.append([position.get(label, -1) for label in of_rows])
    return np.array(columns).T


def design_of(case, frame):
    return frame[case.fixed + case.outside].to_numpy()


def each(fits):
    return [(name, pair) for name, pair in fits.items()]


def test_the_factors_are_eliminated_in_each_way(fits):
    chains = {name: len(fit.criterion.sums.nested) for name, (_, fit) in fits.items()}
    cores = {name: len(fit.criterion.sums.core) for name, (_, fit) in fits.items()}
    assert {chains[name] for name in chains if name.endswith("together")} == {0}
    assert (chains["nested, first"], cores["nested, first"]) == (3, 0)
    assert (chains["three nested beside crossed, first"], cores["three nested beside crossed, first"]) == (3, 1)
    assert (chains["crossed, first"], cores["crossed, first"]) == (1, 1)


def test_estimates_are_those_of_the_oracle_at_its_optimum(fits, dense):
    def check(case, fit):
        oracle = dense[id(case)]
        expected = oracle.estimates(relative(case, fit))
        np.testing.assert_allclose(fit.value, expected.value, rtol=1e-11)
        np.testing.assert_allclose(fit.residual_variance, expected.sigma2, rtol=1e-10)
        errors = np.sqrt(expected.vcov.diagonal())
        np.testing.assert_allclose((fit.coefficients - expected.beta) / errors, 0.0, atol=1e-10)
        units = np.outer(errors, errors)
        np.testing.assert_allclose(fit.covariance / units, expected.vcov / units, atol=1e-10)

    check_each(each(fits), check)

    def check_optimum(name, case):
        value, G = dense[id(case)].best(case.blocks, 2)
        for elimination in ELIMINATIONS:
            fit = fits[f"{name}, {elimination}"][1]
            assert abs(fit.value - value) < 1e-8, (elimination, fit.value, value)
            unit = max(1e-3, np.abs(G).max())
            np.testing.assert_allclose(relative(case, fit) / unit, G / unit, atol=2e-6, err_msg=elimination)

    check_each([(name, (name, case)) for name, case in CASES.items()], check_optimum)


def test_random_effects_and_their_covariances_are_those_of_the_oracle(fits, dense):
    def check(case, fit):
        expected = dense[id(case)].estimates(relative(case, fit))
        for at, (name, view) in enumerate(fit.factors.items()):
            levels = dense[id(case)].levels_of[at]
            order = [levels.index(label) for label in view.labels]
            assert sorted(order) == list(range(len(levels)))
            effects = expected.random_effects[at][order]
            size = max(1.0, np.abs(effects).max())
            np.testing.assert_allclose(view.random_effects, effects, atol=1e-10 * size, err_msg=name)
            conditional = expected.conditional[at][order]
            size = max(1.0, np.abs(conditional).max())
            np.testing.assert_allclose(view.conditional_covariances, conditional, atol=1e-10 * size, err_msg=name)

    check_each(each(fits), check)


def test_predictions_and_their_variances_with_any_levels_known(fits, dense):
    def check(case, fit):
        frame = case.frame.iloc[:12].reset_index(drop=True)
        frame[["x0", "x1", "x2"]] = 3.0 * np.random.default_rng(1).standard_normal((12, 3))
        names = [name for columns in case.options.groupings.values() for name in columns]
        for at, name in enumerate(dict.fromkeys(names)):
            # Row i has a new label in column `at` if bit `at` of i is set.
            frame[name] = np.where((np.arange(12) >> at) % 2 == 1, "new", frame[name])
        codes = codes_of(case, fit, frame)
        assert (codes < 0).any()
        assert (codes >= 0).any()
        X, G = design_of(case, frame), relative(case, fit)
        fixed, Z = case.fixed_design(frame), case.random_design(frame)
        mean, variance = dense[id(case)].predict(G, fixed, Z, case.labels(frame))
        np.testing.assert_allclose(fit.predict(X, codes), mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(fit.prediction_variance(X, codes)[0], variance, rtol=1e-9)
        nothing = [[None] * 12] * len(codes.T)
        population, of_fixed = dense[id(case)].predict(G, fixed, Z, nothing)
        np.testing.assert_allclose(fit.predict(X, np.full(12, -1)), population, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(fit.fixed_part_variance(X, 12)[0], of_fixed, rtol=1e-9)
        y = np.arange(12.0)
        np.testing.assert_allclose(fit.residuals(X, codes, y), y - mean, rtol=1e-9, atol=1e-9)
        left = fit.residuals(X, codes, y, conditional=False)
        np.testing.assert_allclose(left, y - population, rtol=1e-9, atol=1e-9)
        each_variance = np.einsum("ia,ab,ib->i", Z, fit.random_covariance[np.ix_(case.order, case.order)], Z)
        np.testing.assert_allclose(fit.random_variance(X, 12), each_variance, rtol=1e-10, atol=1e-13)

    check_each(each(fits), check)


def test_derivatives_are_those_of_differences(fits, dense):
    """Of variances of predictions, and of the deviance in all variance parameters."""

    def check(name):
        case, fit = fits[name]
        frame = case.frame.iloc[:6].reset_index(drop=True).assign(a=["new", *case.frame["a"][1:6]])
        X, codes, step = design_of(case, frame), codes_of(case, fit, frame), 1e-5
        fixed, Z, labels = case.fixed_design(frame), case.random_design(frame), case.labels(frame)
        variance, gradient = fit.prediction_variance(X, codes, gradient=True)
        np.testing.assert_array_equal(variance, fit.prediction_variance(X, codes)[0])

        def at(change):
            *entries, log_sigma2 = change
            optimum, E = fit.optimum, np.zeros_like(fit.optimum.factor)
            values = iter(entries)
            for block in fit.criterion.coordinates.blocks:
                for i, column in enumerate(block):
                    for row in block[i:] if optimum.roots[column] else ():
                        E[row, column] = next(values)
            factor = fit.turn_from_origin @ optimum.basis @ (np.diag(optimum.roots) + E)
            return (factor @ factor.T)[np.ix_(case.order, case.order)], fit.residual_variance * np.exp(log_sigma2)

        def deviance(change):
            G, sigma2 = at(change)
            here = dense[id(case)].at(G)
            value = dense[id(case)].D * np.log(sigma2) + here.r2 / sigma2 + here.log_det
            return value + (here.log_det_X if fit.reml else 0.0)

        def variances(change):
            G, sigma2 = at(change)
            profiled = dense[id(case)].at(G).r2 / dense[id(case)].D
            return dense[id(case)].predict(G, fixed, Z, labels)[1] * sigma2 / profiled

        m = len(fit.variance_parameters)
        for i, one in enumerate(step * np.eye(m)):
            found = (variances(one) - variances(-one)) / (2 * step)
            np.testing.assert_allclose(gradient[:, i], found, rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose((deviance(one) - deviance(-one)) / (2 * step), 0.0, atol=1e-5)
        hessian, unit = np.zeros((m, m)), 1e-4 * np.eye(m)
        for i, j in np.ndindex(m, m):
            corners = [s * t * deviance(s * unit[i] + t * unit[j]) for s in (1, -1) for t in (1, -1)]
            hessian[i, j] = sum(corners) / (4 * 1e-8)
        np.testing.assert_allclose(fit.hessian, hessian, rtol=1e-4, atol=2e-4)

    names = ["slopes in two factors, together", "nested slopes, first", "three nested beside crossed, first"]
    check_each([(name, (name,)) for name in names], check)


def test_degrees_of_freedom_are_those_of_the_oracle(fits, dense):
    def check(case, fit):
        oracle, G = dense[id(case)], relative(case, fit)
        contrasts = np.vstack([np.eye(len(fit.coefficients)), np.ones(len(fit.coefficients))])
        white = fit.whiten(contrasts)
        df = Satterthwaite.of(fit).degrees_of_freedom(white)
        table = KenwardRoger.of(*fit.variance_terms()) if fit.reml else None
        for at in (0, len(contrasts) - 1):
            contrast = contrasts[at]
            expected = oracle.satterthwaite(G, contrast, case.blocks, stratum=True)
            np.testing.assert_allclose(df[at], expected, rtol=1e-6)
            if table is not None:
                adjusted, expected = oracle.kenward_roger(G, contrast, case.blocks)
                found = white[at] @ table.adjusted @ white[at]
                np.testing.assert_allclose(found, contrast @ adjusted @ contrast, rtol=1e-8)
                np.testing.assert_allclose(table.degrees_of_freedom(white[at : at + 1])[0], expected, rtol=1e-7)

    check_each(each(fits), check)


def test_the_equations_of_the_random_effects_are_solved(fits):
    """Henderson's equations, written out, at covariances of full and of lower rank."""

    def check(case, fit):
        criterion = fit.criterion
        rows, k = criterion.coordinates.rows, criterion.rank
        Z = np.column_stack([rows.design(at).toarray() for at in range(rows.n_factors)])
        X, y = rows.xy[:, :-1], rows.xy[:, -1:]
        S, rng = Z.T @ Z, np.random.default_rng(0)
        for singular in (False, True):
            factor = fit.optimum.factor if singular else np.eye(criterion.n_random)
            root = criterion.evaluate(factor[None]).root[0, :k, :k]
            equations = criterion.equations(factor, root)
            G = np.zeros_like(S)
            start = 0
            for (n, q), g in zip(equations.sizes, equations.covariances, strict=True):
                G[start : start + n * q, start : start + n * q] = np.kron(np.eye(n), g)
                start += n * q
            whole = np.linalg.inv(np.eye(len(S)) + G @ S) @ G  # (S + G^-1)^-1

            def apart(together):
                edges = np.cumsum([n * q for n, q in equations.sizes])[:-1]
                return [
                    part.reshape(n, q, -1) for part, (n, q) in zip(np.split(together, edges), equations.sizes, strict=True)
                ]

            right, fixed = rng.standard_normal((len(S), 2)), rng.standard_normal((k, 2))
            tolerance = 1e-9 * max(1.0, np.abs(whole).max())

            def same(found, expected):
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * max(1.0, np.abs(other).max(), tolerance))

            same(equations.solve(apart(right))[0], apart(whole @ right))
            H = S - S @ whole @ S
            same(equations.information_times(apart(right)), apart(H @ right))
            blocks, start = [], 0
            for n, q in equations.sizes:
                blocks.append(np.array([whole[at : at + q, at : at + q] for at in range(start, start + n * q, q)]))
                start += n * q
            same(
                equations.conditional,
                [block.reshape(n, q, q) for block, (n, q) in zip(blocks, equations.sizes, strict=True)],
            )
            # With the fixed effects in the equations too.
            XX = X.T @ X + rows.rest[:-1, :-1]
            B = np.linalg.inv(XX - X.T @ Z @ whole @ Z.T @ X)
            of_fixed = B @ (fixed - X.T @ Z @ whole @ right)
            effects, found = equations.solve(apart(right), fixed)
            same([found], [of_fixed])
            of_effects = whole @ (right - Z.T @ X @ of_fixed)
            same(effects, apart(of_effects))
            same(equations.apart(apart(right), effects, found), apart(right - S @ of_effects - Z.T @ X @ of_fixed))
            contrast = rng.standard_normal((k + 1, 1))
            left = np.column_stack([X, y]) @ contrast
            same(equations.gradients(contrast), apart(Z.T @ left - S @ whole @ Z.T @ left))

    check_each(each(fits), check)


def test_a_direction_without_variance_is_named_with_its_factor(fits):
    found = 0
    for name, (case, fit) in fits.items():
        if not (fit.optimum.roots == 0.0).any():
            assert fit.boundary is None, name
            continue
        found += 1
        for factor, table in fit.boundary.items():
            view = fit.factors[factor]
            assert table.shape[1] == len(view.positions), name
            for direction in table.to_numpy():
                assert 1.0 in np.abs(direction), name
                np.testing.assert_allclose(view.random_covariance @ direction, 0.0, atol=1e-12, err_msg=name)
        assert sum(len(table) for table in fit.boundary.values()) == np.count_nonzero(fit.optimum.roots == 0.0)
        assert case.options.groupings.keys() >= fit.boundary.keys()
    assert found >= 4
    assert set(fits["no variance, together"][1].boundary) == {"a", "c"}
    assert set(fits["one factor without variance, together"][1].boundary) == {"c"}
    assert len(fits["singular, first"][1].boundary["a"]) == 1


def test_the_variance_of_rows_is_shared_out_between_the_factors(fits):
    for name, (case, fit) in fits.items():
        weights = np.ones(N) if case.weights is None else np.asarray(case.weights, dtype=float)
        Z, Sigma = case.random_design(case.frame), fit.random_covariance[np.ix_(case.order, case.order)]
        shares = fit.random_variances_of_factors
        at = 0
        for factor, view in fit.factors.items():
            columns = list(range(at, at + len(view.positions)))
            at += len(columns)
            inner = np.einsum("ia,ab,ib->i", Z[:, columns], Sigma[np.ix_(columns, columns)], Z[:, columns])
            np.testing.assert_allclose(
                shares[factor], np.average(inner, weights=weights), rtol=1e-10, atol=1e-13, err_msg=name
            )


def test_counts_of_parameters_and_levels(fits):
    _, fit = fits["slopes in two factors, together"]
    assert (fit.n_variance_parameters, fit.n_parameters) == (7, 10)
    assert fit.n_levels == {"a": 11, "b": 7}
    assert fit.aic == fit.value + 20
    np.testing.assert_allclose(fit.bic, fit.value + 10 * np.log(N), rtol=1e-14)
    case, fit = fits["crossed, ML, together"]
    assert fit.deviance() == fit.value
    reml = Case(case.frame, case.text)
    np.testing.assert_allclose(fit_mixed(reml.scatter, reml.options).deviance(), fit.value, rtol=1e-12)
