"""What the fit record of several random coefficients says, against n x n algebra at its variances, and against lme4."""

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from dense_mixed import DenseMixed
from mixed_cases import REAL_CASES, real_columns, real_terms

from sklearn_mlm import GroupedScatter
from sklearn_mlm.inference._degrees_of_freedom import KenwardRoger, Satterthwaite
from sklearn_mlm.likelihood._mixed_fits import fit_mixed, fit_of_mixed_criterion
from sklearn_mlm.likelihood._options import MixedOptions
from sklearn_mlm.likelihood._random_terms import INTERCEPT, RandomTerm

BOTH = (RandomTerm("g", True, ("x0",)),)


def rows(seed=0, tau=(1.0, 0.8, 0.5), n_groups=9):
    """X of three columns, y and groups of 1 to 6 rows in no order, with lines of their own in the first two columns."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(n_groups), rng.integers(1, 7, n_groups)))
    X = rng.standard_normal((len(groups), 3)) + 1.0
    effects = (rng.standard_normal((n_groups, 3)) * tau)[groups]
    y = X.sum(axis=1) + effects[:, 0] + (effects[:, 1:] * X[:, :2]).sum(axis=1) + rng.standard_normal(len(groups))
    return X, y, groups


class Case:
    """Rows, random terms and options of a fit, and the oracle at the covariance of the fit."""

    def __init__(self, data, terms=BOTH, method="reml", *, weighted=False, **options):
        self.X, self.y, self.groups = data
        self.weights = np.exp(np.random.default_rng(9).standard_normal(len(self.y))) if weighted else None
        self.options = MixedOptions(terms, method, weight_type="precision" if weighted else "frequency", **options)

    @functools.cached_property
    def fit(self):
        names = [name for term in self.options.terms for name in term.columns]
        return fit_mixed(GroupedScatter.from_arrays(self.X, self.y, self.groups, self.weights, slopes=names), self.options)

    def fixed(self, X):
        """The whole design matrix of the fixed effects."""
        X = X[:, : X.shape[1] - self.options.n_random_only]
        return np.column_stack([np.ones(len(X)), X]) if self.options.fit_intercept else X

    def random(self, X):
        """The whole design matrix of the random coefficients."""
        names = self.options.coefficients
        return np.column_stack([np.ones(len(X)) if name == INTERCEPT else X[:, int(name[1:])] for name in names])

    @functools.cached_property
    def dense(self):
        reml = self.options.method == "reml"
        return DenseMixed(self.fixed(self.X), self.y, self.random(self.X), self.groups, reml=reml, precision=self.weights)

    @property
    def relative(self):
        """The relative covariance G of the fit."""
        return self.fit.random_covariance / self.fit.residual_variance

    @property
    def blocks(self):
        ends = np.cumsum([len(term.coefficients) for term in self.options.terms])
        return [list(range(end - len(t.coefficients), end)) for end, t in zip(ends, self.options.terms, strict=True)]

    def at(self, change):
        """G and sigma2 after a change of the variance parameters."""
        fit = self.fit
        *entries, log_sigma2 = change
        optimum, E = fit.optimum, np.zeros_like(fit.optimum.factor)
        at = iter(entries)
        for block in fit.criterion.coordinates.blocks:
            for i, column in enumerate(block):
                for row in block[i:] if optimum.roots[column] else ():
                    E[row, column] = next(at)
        factor = fit.turn_from_origin @ optimum.basis @ (np.diag(optimum.roots) + E)
        return factor @ factor.T, fit.residual_variance * np.exp(log_sigma2)

    def deviance(self, change):
        """The (restricted) deviance in all variance parameters, not profiled over sigma2."""
        G, sigma2 = self.at(change)
        at, reml = self.dense.at(G), self.options.method == "reml"
        return self.dense.D * np.log(sigma2) + at.r2 / sigma2 + at.log_det + reml * at.log_det_X


THREE = (RandomTerm("g", True, ("x0", "x1")),)
SEPARATE = tuple(THREE[0].blocks(correlated=False))
CASES = {
    "REML": Case(rows(29)),
    "ML": Case(rows(29), method="ml"),
    "singular": Case(rows(10, tau=(1.0, 0.0, 0.0))),
    "singular, ML": Case(rows(10, tau=(1.0, 0.0, 0.0)), method="ml"),
    "no variance": Case(rows(36, tau=(0.0, 0.0, 0.0))),
    "two slopes": Case(rows(29), THREE),
    "two slopes, singular": Case(rows(1), THREE),
    "independent": Case(rows(2), SEPARATE),
    "independent, singular": Case(rows(4), SEPARATE),
    "blocks": Case(rows(6), (RandomTerm("g", True, ("x1",)), RandomTerm("g", False, ("x0",))), "ml"),
    "no random intercept": Case(rows(4), (RandomTerm("g", False, ("x1", "x0")),)),
    "no fixed intercept": Case(rows(5), fit_intercept=False),
    "precision": Case(rows(5), weighted=True),
    "random only": Case(rows(7), (RandomTerm("g", True, ("x2",)),), n_random_only=1),
}
CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
RANKS = [2, 2, 1, 1, 0, 3, 2, 3, 2, 3, 2, 2, 2, 2]


def new_rows():
    """Rows, their groups, and the positions of these; the last two groups are unknown."""
    X = 3.0 * np.random.default_rng(1).standard_normal((11, 3))
    groups = np.array([0, 3, 3, 8, 5, 1, 2, 4, 7, 100, 101])
    return X, groups, np.append(groups[:-2], [-1, -2])


def directions(case, step=1e-5):
    """Steps up and down in each variance parameter."""
    unit = step * np.eye(len(case.fit.variance_parameters))
    return [(+one, -one) for one in unit]


def test_the_cases_are_inside_and_on_the_boundary():
    assert [np.count_nonzero(case.fit.optimum.roots) for case in CASES.values()] == RANKS


@CASE
def test_estimates_are_those_of_the_oracle(case):
    fit, expected = case.fit, case.dense.estimates(case.relative)
    np.testing.assert_allclose(fit.value, expected.value, rtol=1e-12)
    np.testing.assert_allclose(fit.residual_variance, expected.sigma2, rtol=1e-11)
    errors = np.sqrt(expected.vcov.diagonal())
    np.testing.assert_allclose((fit.coefficients - expected.beta) / errors, 0.0, atol=1e-11)
    np.testing.assert_allclose(
        fit.covariance / np.outer(errors, errors), expected.vcov / np.outer(errors, errors), atol=1e-11
    )
    # The variances are the best of the oracle's, to which a first-order change gives a second-order change of the value.
    assert abs(case.dense.best(case.blocks, 3)[0] - fit.value) < 1e-8


@CASE
def test_random_effects_and_their_covariances_are_those_of_the_oracle(case):
    fit, expected = case.fit, case.dense.estimates(case.relative)
    assert list(fit.labels) == list(case.dense.levels)
    size = max(1.0, np.abs(expected.random_effects).max())
    np.testing.assert_allclose(fit.random_effects, expected.random_effects, atol=1e-11 * size)
    np.testing.assert_allclose(fit.conditional_covariances, expected.conditional, atol=1e-11 * size)


@CASE
def test_predictions_and_their_variances_are_those_of_the_oracle(case):
    fit, (X, groups, codes) = case.fit, new_rows()
    mean, variance = case.dense.predict(case.relative, case.fixed(X), case.random(X), groups)
    np.testing.assert_allclose(fit.predict(X, codes), mean, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(fit.prediction_variance(X, codes)[0], variance, rtol=1e-10)
    population, _ = case.dense.predict(case.relative, case.fixed(X), 0.0 * case.random(X))
    np.testing.assert_allclose(fit.predict(X, np.full(11, -1)), population, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(fit.residuals(X, codes, np.arange(11.0)), np.arange(11.0) - mean, rtol=1e-11, atol=1e-11)
    left = fit.residuals(X, codes, np.arange(11.0), conditional=False)
    np.testing.assert_allclose(left, np.arange(11.0) - population, rtol=1e-11, atol=1e-11)


@CASE
def test_the_hessian_is_that_of_differences_of_the_deviance(case):
    fit, step = case.fit, 1e-4
    hessian, unit = np.zeros_like(fit.hessian), step * np.eye(len(fit.hessian))
    for i, j in np.ndindex(hessian.shape):
        corners = [s * t * case.deviance(s * unit[i] + t * unit[j]) for s in (1, -1) for t in (1, -1)]
        hessian[i, j] = sum(corners) / (4 * step**2)
    # The truncation is of the order of step^2, rounding of 1e-13 / step^2.
    np.testing.assert_allclose(fit.hessian, hessian, rtol=1e-4, atol=1e-4)
    slope = [(case.deviance(up) - case.deviance(down)) / 2e-5 for up, down in directions(case)]
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)


@CASE
def test_derivatives_of_covariances_are_those_of_differences(case):
    fit = case.fit
    contrasts = np.random.default_rng(2).standard_normal((3, len(fit.coefficients)))
    white = fit.whiten(contrasts)
    np.testing.assert_allclose(white @ white.T, contrasts @ fit.covariance @ contrasts.T, rtol=1e-11, atol=1e-12)
    found = white @ fit.covariance_derivatives @ white.T
    for at, (up, down) in enumerate(directions(case)):
        ends = []
        for change in (up, down):
            G, sigma2 = case.at(change)
            ends.append((sigma2 * contrasts @ case.dense.at(G).C @ contrasts.T, sigma2 * G))
        (high, high_G), (low, low_G) = ends
        np.testing.assert_allclose(found[at], (high - low) / 2e-5, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(fit.covariance_of_random_derivatives[at], (high_G - low_G) / 2e-5, rtol=1e-6, atol=1e-8)


@CASE
def test_derivatives_of_variances_of_predictions_are_those_of_differences(case):
    fit, (X, groups, codes) = case.fit, new_rows()
    variance, gradient = fit.prediction_variance(X, codes, gradient=True)
    of_fixed, gradient_of_fixed = fit.fixed_part_variance(X, len(X))
    np.testing.assert_array_equal(variance, fit.prediction_variance(X, codes)[0])
    fixed = case.fixed(X)
    np.testing.assert_allclose(of_fixed, ((fixed @ fit.covariance) * fixed).sum(axis=1), rtol=1e-10)
    for at, (up, down) in enumerate(directions(case)):
        ends = []
        for change in (up, down):
            G, sigma2 = case.at(change)
            profiled = case.dense.at(G).r2 / case.dense.D
            _, of_group = case.dense.predict(G, fixed, case.random(X), groups)
            _, of_population = case.dense.predict(G, fixed, 0.0 * case.random(X))
            ends.append((of_group * sigma2 / profiled, of_population * sigma2 / profiled))
        np.testing.assert_allclose(gradient[:, at], (ends[0][0] - ends[1][0]) / 2e-5, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(gradient_of_fixed[:, at], (ends[0][1] - ends[1][1]) / 2e-5, rtol=1e-6, atol=1e-7)


@CASE
def test_satterthwaite_df_are_those_of_the_oracle(case):
    fit = case.fit
    contrasts = np.vstack([np.eye(len(fit.coefficients)), np.ones(len(fit.coefficients))])
    df = Satterthwaite.of(fit).degrees_of_freedom(fit.whiten(contrasts))
    for found, contrast in zip(df, contrasts, strict=True):
        expected = case.dense.satterthwaite(case.relative, contrast, case.blocks, stratum=True)
        np.testing.assert_allclose(found, expected, rtol=1e-7)


@CASE
def test_the_kenward_roger_adjustment_is_that_of_the_oracle(case):
    fit = case.fit
    contrasts = np.vstack([np.eye(len(fit.coefficients)), np.ones(len(fit.coefficients))])
    white = fit.whiten(contrasts)
    table = KenwardRoger.of(*fit.variance_terms())
    for at, contrast in enumerate(contrasts):
        if fit.reml:
            adjusted, df = case.dense.kenward_roger(case.relative, contrast, case.blocks)
            np.testing.assert_allclose(white[at] @ table.adjusted @ white[at], contrast @ adjusted @ contrast, rtol=1e-9)
            np.testing.assert_allclose(table.degrees_of_freedom(white[at : at + 1])[0], df, rtol=1e-8)


@CASE
def test_directions_without_variance_have_none_and_are_named_by_their_largest_entry(case):
    fit = case.fit
    n_null = int(np.count_nonzero(fit.optimum.roots == 0.0))
    if not n_null:
        assert fit.boundary is None
        return
    table = fit.boundary["g"]
    assert table.columns.tolist() == list(fit.options.coefficients)
    assert table.shape == (n_null, len(fit.options.coefficients))
    for direction in table.to_numpy():
        assert 1.0 in direction
        np.testing.assert_allclose(fit.random_covariance @ direction, 0.0, atol=1e-14)


@CASE
def test_the_random_part_varies_within_groups_and_between_them(case):
    fit, Z = case.fit, case.random(case.X)
    weights = np.ones(len(Z)) if case.weights is None else case.weights
    each = np.einsum("ia,ab,ib->i", Z, fit.random_covariance, Z)
    np.testing.assert_allclose(fit.random_variance(case.X, len(Z)), each, rtol=1e-11, atol=1e-14)
    means = np.array([np.average(Z[case.groups == j], axis=0, weights=weights[case.groups == j]) for j in range(9)])
    counts = np.bincount(case.groups, weights)
    between = counts @ np.einsum("ja,ab,jb->j", means, fit.random_covariance, means) / weights.sum()
    expected = [np.average(each, weights=weights) - between, between]
    np.testing.assert_allclose(fit.random_variances, expected, rtol=1e-10, atol=1e-12)


def test_many_rows_are_predicted_block_by_block(monkeypatch):
    fit, (X, _, codes) = CASES["two slopes"].fit, new_rows()
    expected = (fit.predict(X, codes), *fit.prediction_variance(X, codes, gradient=True), fit.random_variance(X, 11))
    monkeypatch.setattr("sklearn_mlm.likelihood._mixed_rows._BLOCK_NUMBERS", 12)  # three rows a block
    found = (fit.predict(X, codes), *fit.prediction_variance(X, codes, gradient=True), fit.random_variance(X, 11))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


# ---- counts, and other models of the same rows


def test_parameters_are_counted_whether_they_are_at_a_boundary_or_not():
    counts = {name: (case.fit.n_variance_parameters, case.fit.n_parameters) for name, case in CASES.items()}
    assert counts["REML"] == counts["singular"] == counts["no variance"] == (4, 8)
    assert counts["two slopes"] == (7, 11)
    assert counts["independent"] == (4, 8)
    assert counts["blocks"] == (5, 9)
    assert counts["no fixed intercept"] == (4, 7)
    assert counts["random only"] == (4, 7)
    # Of the covariances of the rank that was found, those that vary.
    assert len(CASES["singular"].fit.variance_parameters) == 3
    assert len(CASES["no variance"].fit.variance_parameters) == 1
    fit = CASES["ML"].fit
    assert fit.aic == fit.value + 16
    assert fit.bic == pytest.approx(fit.value + 8 * np.log(len(CASES["ML"].y)), rel=1e-15)


def test_the_deviance_is_that_of_maximum_likelihood():
    assert CASES["ML"].fit.deviance() == CASES["ML"].fit.value
    assert CASES["REML"].fit.deviance() == pytest.approx(CASES["ML"].fit.value, rel=1e-14)
    assert CASES["REML"].fit.value != pytest.approx(CASES["ML"].fit.value, rel=1e-3)


def test_the_criterion_without_a_coefficient_is_that_of_the_model_without_it():
    def value(terms):
        return Case(rows(6), terms, "ml").fit.value

    fit = CASES["blocks"].fit
    slope_alone = (RandomTerm("g", False, ("x1",)), RandomTerm("g", False, ("x0",)))
    assert fit.value_without(0, INTERCEPT) == pytest.approx(value(slope_alone), rel=1e-13)
    assert fit.value_without(1, "x0") == pytest.approx(value((RandomTerm("g", True, ("x1",)),)), rel=1e-13)
    single = Case(rows(2), (RandomTerm("g", False, ("x0",)),)).fit
    X, y, _ = rows(2)
    design = np.column_stack([np.ones(len(y)), X])
    (rss,) = np.linalg.lstsq(design, y, rcond=None)[1]
    free = len(y) - 4
    least_squares = free * (1.0 + np.log(2.0 * np.pi * rss / free)) + np.linalg.slogdet(design.T @ design)[1]
    assert single.value_without(0, "x0") == pytest.approx(least_squares, rel=1e-13)


def test_names_are_those_of_the_columns():
    X, y, groups = rows(7)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    scatter = GroupedScatter.from_arrays(frame, pd.Series(y, name="math"), pd.Series(groups, name="school"), slopes="c")
    options = MixedOptions((RandomTerm("school", True, ("c",)),), n_random_only=1)
    fit = fit_mixed(scatter, options)
    assert list(fit.names) == [INTERCEPT, "a", "b"]
    assert (fit.outcome_name, fit.group_name) == ("math", "school")
    assert options.coefficients == (INTERCEPT, "c")
    assert list(fit.random_terms) == [RandomTerm("school", True, ("c",))]
    assert fit.predictors.feature_names == ("a", "b")
    assert fit.predictors.n_features == 2
    np.testing.assert_allclose(fit.predictors.means, scatter.moments.means[:, [0, 1, 3]])
    assert list(fit.renamed(["u", "v", "w"]).names) == [INTERCEPT, "u", "v"]
    assert fit.icc is None
    np.testing.assert_array_equal(fit.group_sizes(), np.bincount(groups))
    np.testing.assert_array_equal(CASES["precision"].fit.group_sizes(), np.bincount(CASES["precision"].groups))
    weighted = GroupedScatter.from_arrays(X, y, groups, np.full(len(y), 2.0), slopes="x2")
    terms = (RandomTerm("g", True, ("x2",)),)
    np.testing.assert_array_equal(fit_mixed(weighted, MixedOptions(terms)).group_sizes(), 2.0 * np.bincount(groups))


def test_the_intraclass_correlation_is_that_of_one_random_intercept():
    X, y, groups = rows()
    fit = fit_mixed(GroupedScatter.from_arrays(X, y, groups, slopes=()), MixedOptions((RandomTerm("g", True, ()),)))
    tau2 = fit.random_covariance[0, 0]
    assert fit.icc == tau2 / (tau2 + fit.residual_variance)
    assert 0.0 < fit.icc < 1.0


def test_columns_that_depend_on_others_have_neither_coefficient_nor_variance():
    X, y, groups = rows(29)
    wide = np.column_stack([X, 2.0 * X[:, 0] - X[:, 1], np.ones(len(y))])
    fit, narrow = fit_mixed(GroupedScatter.from_arrays(wide, y, groups, slopes=0), MixedOptions(BOTH)), CASES["REML"].fit
    np.testing.assert_array_equal(fit.dropped, [4, 5])
    np.testing.assert_allclose(fit.coefficients, [*narrow.coefficients, 0.0, 0.0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(fit.covariance[:4, :4], narrow.covariance, rtol=1e-10)
    assert not fit.covariance[4:].any()
    assert fit.rank == 4
    np.testing.assert_allclose(fit.value, narrow.value, rtol=1e-13)
    X = np.column_stack([X, X[:, 0] * 2.0])
    terms = (RandomTerm("g", True, ("x0", "x3")),)
    fit = fit_mixed(GroupedScatter.from_arrays(X, y, groups, slopes=(0, 3)), MixedOptions(terms))
    np.testing.assert_allclose(fit.random_covariance[:2, :2], narrow.random_covariance, rtol=1e-9)
    assert not fit.random_covariance[2].any()
    assert not fit.random_effects[:, 2].any()
    np.testing.assert_allclose(fit.value, narrow.value, rtol=1e-12)


def test_without_groups_the_model_is_least_squares():
    case = CASES["REML"]
    fit = fit_of_mixed_criterion(case.fit.criterion, case.options, grouped=False)
    design = np.column_stack([np.ones(len(case.y)), case.X])
    beta, (rss,) = np.linalg.lstsq(design, case.y, rcond=None)[:2]
    np.testing.assert_allclose(fit.coefficients, beta, rtol=1e-11)
    np.testing.assert_allclose(fit.residual_variance, rss / (len(case.y) - 4), rtol=1e-12)
    covariance = rss / (len(case.y) - 4) * np.linalg.inv(design.T @ design)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-10, atol=1e-14)
    assert len(fit.labels) == 0
    assert fit.random_effects.shape == (0, 2)
    assert (fit.n_variance_parameters, fit.n_parameters) == (1, 5)
    np.testing.assert_allclose(fit.predict(case.X, np.full(len(case.y), -1)), design @ beta, rtol=1e-11)


def test_rows_that_come_later_change_the_random_effects_alone():
    case = CASES["two slopes"]
    X, y, groups = rows(20, n_groups=12)
    all_rows = [np.concatenate(parts) for parts in ((case.X, X), (case.y, y), (case.groups, groups + 4))]
    known = GroupedScatter.from_arrays(*all_rows, slopes=("x0", "x1"))
    fit = replace(case.fit, known=known)
    assert list(fit.labels) == list(range(16))
    np.testing.assert_array_equal(fit.coefficients, case.fit.coefficients)
    X, y, groups = all_rows
    Z, left = case.random(X), y - case.fixed(X) @ fit.coefficients
    expected, conditional = [], []
    for j in range(16):
        z = Z[groups == j]
        V = z @ case.relative @ z.T + np.eye(len(z))
        expected.append(case.relative @ z.T @ np.linalg.solve(V, left[groups == j]))
        conditional.append(
            fit.residual_variance * (case.relative - case.relative @ z.T @ np.linalg.solve(V, z @ case.relative))
        )
    np.testing.assert_allclose(fit.random_effects, expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fit.conditional_covariances, conditional, rtol=0, atol=1e-11)
    prediction = case.fixed(X) @ fit.coefficients + (Z * np.array(expected)[groups]).sum(axis=1)
    np.testing.assert_allclose(fit.predict(X, groups), prediction, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("distance", [1e3, 1e6])
def test_predictions_do_not_depend_on_where_x_is_zero(distance):
    X, y, groups = rows(3)
    X = np.round(X * 2**10) / 2**10
    near, far = (
        fit_mixed(GroupedScatter.from_arrays(X + at, y, groups, slopes=0), MixedOptions(BOTH)) for at in (0.0, distance)
    )
    codes = groups.copy()
    codes[::7] = -1
    # The columns at a distance of 1e6 have an error of 1e6 roundings.
    mean = near.predict(X, codes)
    np.testing.assert_allclose(far.predict(X + distance, codes), mean, rtol=0, atol=1e-15 * distance + 1e-12)
    variances = near.prediction_variance(X, codes)[0]
    np.testing.assert_allclose(far.prediction_variance(X + distance, codes)[0], variances, rtol=1e-14 * distance + 1e-11)
    np.testing.assert_allclose(far.random_variance(X + distance, len(y)), near.random_variance(X, len(y)), rtol=1e-8)
    np.testing.assert_allclose(far.random_variances[0], near.random_variances[0], rtol=1e-8)


def test_a_new_group_has_the_variance_of_its_slope_too():
    """The figures are those of dense algebra, to the digits that are written down."""
    rng, sizes = np.random.RandomState(32), [5, 3, 4, 2, 5, 4, 3, 4]
    groups, x = np.repeat(np.arange(8), sizes), np.concatenate([np.arange(size) * 1.0 for size in sizes])
    y = (12 + 0.9 * x + (rng.randn(8) * 1.8)[groups] + (rng.randn(8) * 0.7)[groups] * x + 0.9 * rng.randn(30)).round(2)
    fit = fit_mixed(GroupedScatter.from_arrays(x[:, None], y, groups, slopes=0), MixedOptions(BOTH))
    assert abs(fit.value - 103.8323584088) < 1e-9
    at, codes = np.array([[1.0], [6.0], [1.0], [6.0]]), np.array([0, 3, -1, -1])
    variance, _ = fit.prediction_variance(at, codes)
    means = [13.1844643245, 20.8287139649, 14.3737791988, 19.7260520270]
    np.testing.assert_allclose(fit.predict(at, codes), means, rtol=0, atol=1e-8)
    errors = [0.4052254412, 3.6367032422, 1.0901451314, 4.5898013154]
    np.testing.assert_allclose(np.sqrt(variance), errors, rtol=0, atol=1e-8)
    with_residual = [1.1015882338, 3.7782137910, 1.4958961816, 4.7027189044]
    np.testing.assert_allclose(np.sqrt(variance + fit.residual_variance), with_residual, rtol=0, atol=1e-8)


# ---- lme4 and its companions

# Not those that are far from the origin or in other units, where lme4 has fewer digits, nor the weighted one.
REFERENCE = [
    name for name in REAL_CASES if not name.endswith(("_plus_1000", "sleepstudy_x_1e6", "sleepstudy_x_1em6", "_weighted"))
]


@pytest.fixture(scope="module")
def reference(reference_mixed):
    """Fit a case of part A by REML; return X, y, labels, the fit, and what lme4 answers."""

    @functools.cache
    def read(name):
        frame, case = reference_mixed("A", name)
        X, y, labels, _ = real_columns(frame, case)
        terms = real_terms(case)
        scatter = GroupedScatter.from_arrays(X, y, labels, slopes=[column for term in terms for column in term.columns])
        return X.to_numpy(), y.to_numpy(), labels, fit_mixed(scatter, MixedOptions(terms)), case["REML"]

    return read


@pytest.mark.parametrize("name", REFERENCE)
def test_random_effects_and_predictions_are_those_of_lme4(reference, name):
    X, y, labels, fit, answer = reference(name)
    at = fit.labels.get_indexer(answer["ranef"][0]["levels"])
    first = 0
    for term in answer["ranef"]:
        columns = slice(first, first + len(term["columns"]))
        first = columns.stop
        values = np.array(term["condval"])
        size = np.abs(values).max() or np.sqrt(answer["sigma2"])
        np.testing.assert_allclose(fit.random_effects[at, columns], values, rtol=0, atol=1e-9 * size)
        spread = np.abs(fit.random_effects[:, columns]).sum(axis=0)
        np.testing.assert_allclose(spread, term["checksums"]["sum_abs"], rtol=1e-9, atol=1e-9 * size)
        conditional = np.array(term["condvar"]).reshape(len(at), -1)
        found = fit.conditional_covariances[at][:, columns, columns].reshape(len(at), -1)
        np.testing.assert_allclose(found, conditional, rtol=0, atol=1e-8 * max(conditional.max(), 1e-3 * answer["sigma2"]))
    rows = answer["predict_first_rows"]
    here = slice(len(rows["population"]))
    codes = fit.labels.get_indexer(labels[here])
    np.testing.assert_allclose(fit.predict(X[here], np.full(len(codes), -1)), rows["population"], rtol=1e-9)
    np.testing.assert_allclose(fit.predict(X[here], codes), rows["conditional"], rtol=1e-9)
    scaled = fit.residuals(X, fit.labels.get_indexer(labels), y) / np.sqrt(fit.residual_variance)
    quantiles = [answer["scaled_residual_quantiles"][key] for key in ("min", "q1", "median", "q3", "max")]
    np.testing.assert_allclose(np.quantile(scaled, [0, 0.25, 0.5, 0.75, 1]), quantiles, atol=1e-8)


@pytest.mark.parametrize("name", REFERENCE)
def test_degrees_of_freedom_are_those_of_lmertest_and_pbkrtest(reference, name):
    *_, fit, answer = reference(name)
    contrasts = np.eye(len(fit.coefficients))
    white = fit.whiten(contrasts)
    # The Hessian of lmerTest is a numerical one; at a singular fit it is that of covariances of its rank.
    if name != "dialyzer_near_singular":
        df = Satterthwaite.of(fit).degrees_of_freedom(white)
        np.testing.assert_allclose(df, answer["satterthwaite"]["df"], rtol=2e-6)
    expected = answer["kenward_roger"]
    if expected is None:
        return
    table = KenwardRoger.of(*fit.variance_terms())
    np.testing.assert_allclose([table.degrees_of_freedom(row[None])[0] for row in white], expected["df"], rtol=1e-7)
    errors = np.sqrt(np.diag(expected["vcov_adjusted"]))
    adjusted = white @ table.adjusted @ white.T
    np.testing.assert_allclose((adjusted - expected["vcov_adjusted"]) / np.outer(errors, errors), 0.0, atol=1e-9)
