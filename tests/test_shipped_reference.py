"""The data sets that ship with the package: what lme4 and the packages around it find in them."""

import json
from pathlib import Path

import numpy as np
import pytest

from sklearn_mlm import RandomInterceptRegressor, inference
from sklearn_mlm.datasets import load_dyestuff, load_sleepstudy

FIGURES = json.loads((Path(__file__).parent / "reference" / "lme4.json").read_text(encoding="utf-8"))
LOADERS = {"dyestuff_null": load_dyestuff, "sleepstudy_days": load_sleepstudy}
# The figures are those at lme4's exact optimum, where double precision leaves an error of about 1e-13.
TOLERANCE = 1e-10

each_case = pytest.mark.parametrize("name", LOADERS)
each_method = pytest.mark.parametrize("method", ["REML", "ML"])


def fitted(name, method="REML"):
    """Return the model of a case, lme4's figures for it, and its rows."""
    rows = LOADERS[name](return_X_y_groups=True)
    X, y, groups = rows
    model = RandomInterceptRegressor(method=method.lower()).fit(X, y, groups=groups)
    return model, FIGURES[name][method], rows


def test_every_case_has_a_data_set():
    assert FIGURES.keys() == LOADERS.keys()


# ---- estimates


@each_method
@each_case
def test_variance_components_are_lmers(name, method):
    model, expected, _ = fitted(name, method)
    components = model.variance_components_[["group", "residual"]]
    np.testing.assert_allclose(components, [expected["tau2"], expected["sigma2"]], rtol=TOLERANCE)
    assert model.boundary_ is None


@each_method
@each_case
def test_fixed_effects_and_their_covariance_are_lmers(name, method):
    model, expected, _ = fitted(name, method)
    beta = np.array([model.intercept_, *model.coef_])
    # An error of an estimate matters relative to its standard error.
    np.testing.assert_array_less(np.abs(beta - expected["beta"]) / expected["se"], TOLERANCE)
    np.testing.assert_allclose(np.sqrt(np.diag(model.cov_fixed_)), expected["se"], rtol=TOLERANCE)
    # A covariance may be near 0, so it may also be off by a share of the largest variance.
    largest = np.max(expected["vcov_beta"])
    np.testing.assert_allclose(model.cov_fixed_, expected["vcov_beta"], rtol=1e-9, atol=TOLERANCE * largest)


@each_method
@each_case
def test_the_log_likelihood_and_the_criteria_made_of_it_are_lmers(name, method):
    model, expected, (X, y, groups) = fitted(name, method)
    # The likelihood is flat at its maximum, so only the rounding of a sum is left.
    close = {"rtol": 1e-13}
    np.testing.assert_allclose(model.log_likelihood_, expected["logLik"], **close)
    np.testing.assert_allclose(model.criterion_, expected["criterion"], **close)
    np.testing.assert_allclose([model.aic_, model.bic_], [expected["AIC"], expected["BIC"]], **close)
    names = ["criterion", "logLik", "AIC", "BIC", "df"]
    np.testing.assert_allclose(model.summary(X, y, groups).criteria, [expected[name] for name in names], **close)


# ---- random effects, predictions and residuals


@each_case
def test_random_effects_and_their_conditional_sds_are_ranefs(name):
    model, expected, _ = fitted(name)
    tau, ranef = np.sqrt(expected["tau2"]), expected["ranef"]
    # An effect may be near 0, so its error is measured on the scale of the effects, tau.
    assert model.random_effects_.index.astype(str).tolist() == ranef["group"]
    np.testing.assert_allclose(model.random_effects_ / tau, np.array(ranef["condval"]) / tau, rtol=0, atol=TOLERANCE)
    table = inference.random_effects_table(model)
    table = table.set_axis(table.index.astype(str)).loc[ranef["group"]]
    np.testing.assert_allclose(table["effect"] / tau, np.array(ranef["condval"]) / tau, rtol=0, atol=TOLERANCE)
    # Groups of one size have one conditional standard deviation.
    np.testing.assert_allclose(table["sd"], ranef["condsd"], rtol=TOLERANCE)


@each_case
def test_predictions_of_the_first_rows_are_lme4s(name):
    model, expected, (X, _, groups) = fitted(name)
    expected = expected["predict_first_rows"]
    n_rows = len(expected["conditional"])
    first = None if X is None else X[:n_rows]
    # Predictions are sums of estimates.
    np.testing.assert_allclose(model.predict(first, groups=groups[:n_rows]), expected["conditional"], rtol=TOLERANCE)
    np.testing.assert_allclose(model.predict(first, groups=[None] * n_rows), expected["population"], rtol=TOLERANCE)


@each_case
def test_quantiles_of_scaled_residuals_are_lme4s(name):
    model, expected, (X, y, groups) = fitted(name)
    residuals = model.summary(X, y, groups).scaled_residuals
    # A residual is a small difference of large numbers, and a median may be near 0.
    np.testing.assert_allclose(residuals, expected["scaled_residual_quantiles"], rtol=1e-8, atol=1e-9)


# ---- tests of fixed effects


@each_method
@each_case
def test_satterthwaites_tests_are_lmertests(name, method):
    model, expected, _ = fitted(name, method)
    expected, table = expected["satterthwaite"], inference.fixed_effects(model)
    # lmerTest takes the Hessian by differences.
    np.testing.assert_allclose(table["df"], expected["df"], rtol=1e-7)
    # The ratio of two estimates, each within 1e-10 of its scale.
    np.testing.assert_allclose(table["t"], expected["t"], rtol=1e-8)
    # An error of 1e-7 in the degrees of freedom is a larger one in a tiny p-value.
    np.testing.assert_allclose(table["p_value"], expected["p"], rtol=1e-4)


@each_case
def test_kenward_and_rogers_tests_are_pbkrtests(name):
    model, expected, _ = fitted(name)
    expected, table = expected["kenward_roger"], inference.fixed_effects(model, ddf="kenward_roger")
    # Both sides are closed forms at the same variance components.
    np.testing.assert_allclose(table["std_error"], expected["se"], rtol=1e-11)
    np.testing.assert_allclose(table["df"], expected["df"], rtol=1e-11)
    np.testing.assert_allclose(table["t"], expected["t"], rtol=1e-11)
    # A tiny p-value magnifies errors of t and of the degrees of freedom.
    np.testing.assert_allclose(table["p_value"], expected["p"], rtol=1e-9)


# ---- intervals


@each_case
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        # Roots of the same equation, found in two ways.
        ("confint_profile_exact", 1e-9),
        # confint interpolates the profile by splines.
        ("confint_profile", 1e-4),
    ],
)
def test_profile_limits_are_those_of_exact_roots_and_of_confint(name, kind, tolerance):
    model, expected, _ = fitted(name)
    intervals = inference.confidence_intervals(model, method="profile").drop(index="icc")
    lower, upper = np.array(expected[kind]["lower"]), np.array(expected[kind]["upper"])
    width = upper - lower
    np.testing.assert_allclose((intervals["lower"] - lower) / width, 0.0, atol=tolerance)
    np.testing.assert_allclose((intervals["upper"] - upper) / width, 0.0, atol=tolerance)


@each_case
def test_the_range_of_plausible_values_is_that_of_lme4s_estimates(name):
    model, expected, _ = fitted(name)
    # A sum of estimates.
    np.testing.assert_allclose(inference.plausible_values_range(model), expected["plausible_range_95"], rtol=TOLERANCE)


# ---- the group variance


@each_case
def test_shares_of_variance_are_performances(name):
    model, expected, (X, _, groups) = fitted(name)
    icc, r2 = expected["icc"], expected["r2_nakagawa"]
    # Ratios of sums of estimates, each within 1e-10; the marginal R2 of a null model is 0.
    close = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose([model.icc_, inference.icc(model)], icc["adjusted"], **close)
    np.testing.assert_allclose(inference.icc(model, kind="unadjusted", X=X, groups=groups), icc["unadjusted"], **close)
    for shares in (inference.r2(model, X, groups), inference.r2(model)):
        np.testing.assert_allclose(shares[["marginal", "conditional"]], [r2["marginal"], r2["conditional"]], **close)


@each_case
def test_the_naive_test_of_no_group_variance_is_ranovas(name):
    model, expected, _ = fitted(name)
    test, expected = inference.random_intercept_test(model, method="naive"), expected["ranova"]
    # A difference of two log-likelihoods loses digits to cancellation.
    np.testing.assert_allclose(test["statistic"], expected["chi2"], rtol=1e-9)
    # A tiny p-value magnifies the error of the statistic.
    np.testing.assert_allclose(test["p_value"], expected["p"], rtol=1e-6)


@each_case
def test_the_exact_test_of_no_group_variance_is_rlrsims(name):
    model, expected, _ = fitted(name)
    n, simulated = 20_000, expected["exactRLRT"]["p"]
    p_value = inference.random_intercept_test(model, n_simulations=n, random_state=0)["p_value"]
    # Both p-values are simulated with n draws: four standard errors of their difference.
    assert abs(p_value - simulated) < 4 * np.sqrt(2 * max(simulated * (1 - simulated), 1 / n) / n)


@each_case
def test_the_exact_f_of_a_balanced_design_is_that_of_lme4s_variances(name):
    model, expected, (X, _, groups) = fitted(name)
    test = inference.random_intercept_test(model, method="f")
    # With groups of one size and the same predictors in each, the mean square between groups estimates
    # sigma2 + size * tau2, and REML's estimates are those of the analysis of variance.
    n_groups = len(np.unique(groups))
    size, n_slopes = len(groups) / n_groups, 0 if X is None else X.shape[1]
    np.testing.assert_allclose(test["F"], 1 + size * expected["tau2"] / expected["sigma2"], rtol=TOLERANCE)
    assert (test["df1"], test["df2"]) == (n_groups - 1, len(groups) - n_groups - n_slopes)
