"""Every case of the reference corpus: results of lme4 on real data, polished to the optimum."""

import numpy as np
import pytest

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor, inference

CASES = [
    "heck2011_null", "heck2011_ses", "heck2011_ses_public", "heck2011_ses_female_public", "heck2011_sub10_ses",
    "sleepstudy_days", "dyestuff_null", "dyestuff2_null_boundary", "penicillin_plate", "orthodont_age",
    "orthodont_age_sex", "rail_null", "mathachieve_ses", "mathachieve_ses_sector", "exam_lrt", "exam_lrt_weighted",
    "exam_singletons", "scotssec_verbal", "scotssec_verbal_sex", "chem97_gcse",
]  # fmt: skip
# A plain double-precision computation agrees with the polished optimum of lme4 to about 1e-13.
TOLERANCE = 1e-10


def fitted(reference, name, method):
    case = reference.cases[name]
    X, y, groups, weights = reference.rows(case)
    # lme4's weights are precisions.
    weight_type = "precision" if case["weight"] else "frequency"
    model = RandomInterceptRegressor(method=method.lower(), weight_type=weight_type)
    return model.fit(X, y, groups=groups, sample_weight=weights), case[method], X, groups


def test_no_case_is_left_out(reference):
    assert sorted(reference.cases) == sorted(CASES)


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", CASES)
def test_estimates(reference, name, method):
    model, expected, _, _ = fitted(reference, name, method)
    close = {"rtol": TOLERANCE, "atol": 0}
    np.testing.assert_allclose(model.variance_components_["group"], expected["tau2"], **close)
    np.testing.assert_allclose(model.variance_components_["residual"], expected["sigma2"], **close)
    beta = np.array([model.intercept_, *model.coef_])
    np.testing.assert_array_less(np.abs(beta - expected["beta"]) / expected["se"], TOLERANCE)
    np.testing.assert_allclose(np.sqrt(np.diag(model.cov_fixed_)), expected["se"], **close)
    np.testing.assert_allclose(
        model.cov_fixed_, expected["vcov_beta"], rtol=1e-9, atol=1e-10 * np.max(expected["vcov_beta"])
    )
    np.testing.assert_allclose(model.log_likelihood_, expected["logLik"], rtol=1e-13)
    np.testing.assert_allclose(model.criterion_, expected["criterion"], rtol=1e-13)
    np.testing.assert_allclose([model.aic_, model.bic_], [expected["AIC"], expected["BIC"]], rtol=1e-13)
    assert (model.boundary_ == "group") == expected["singular"]


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", CASES)
def test_the_likelihood_is_never_below_lme4s(reference, name, method):
    model, expected, _, _ = fitted(reference, name, method)
    # Up to the rounding of a sum of n terms.
    assert model.log_likelihood_ >= expected["logLik"] - 1e-14 * abs(expected["logLik"])
    assert model.log_likelihood_ >= expected["lme4_default"]["logLik"] - 1e-14 * abs(expected["logLik"])


@pytest.mark.parametrize("name", CASES)
def test_random_effects_and_their_conditional_sds(reference, name):
    model, expected, _, _ = fitted(reference, name, "REML")
    ranef = expected["ranef"]
    effects = model.random_effects_.loc[ranef["group"]].to_numpy()
    scale = max(np.sqrt(expected["tau2"]), np.finfo(float).tiny)
    np.testing.assert_array_less(np.abs(effects - ranef["condval"]), TOLERANCE * scale + np.finfo(float).tiny)
    tau2, sigma2 = model.variance_components_
    counts = dict(zip(model.groups_, model.moments_.counts, strict=True))
    sds = np.sqrt(tau2 / (1 + tau2 / sigma2 * np.array([counts[label] for label in ranef["group"]])))
    np.testing.assert_allclose(sds, ranef["condsd"], rtol=TOLERANCE, atol=1e-300)
    sums = ranef["checksums"]
    np.testing.assert_allclose(np.sum(model.random_effects_**2), sums["sum_sq_condval"], rtol=TOLERANCE, atol=1e-300)
    np.testing.assert_allclose(np.abs(model.random_effects_).sum(), sums["sum_abs_condval"], rtol=TOLERANCE, atol=1e-300)


@pytest.mark.parametrize("name", CASES)
def test_predictions_of_the_first_rows(reference, name):
    model, expected, X, groups = fitted(reference, name, "REML")
    expected = expected["predict_first_rows"]
    n_rows = len(expected["conditional"])
    first = None if X is None else X[:n_rows]
    np.testing.assert_allclose(model.predict(first, groups=groups[:n_rows]), expected["conditional"], rtol=TOLERANCE)
    nobody = [None] * n_rows
    np.testing.assert_allclose(model.predict(first, groups=nobody), expected["population"], rtol=TOLERANCE)


@pytest.mark.parametrize("name", ["heck2011_ses_female_public", "exam_lrt_weighted"])
def test_rows_in_parts_give_the_same(reference, name):
    model, _, X, _ = fitted(reference, name, "REML")
    _, y, groups, weights = reference.rows(reference.cases[name])
    parts = [
        GroupedMoments.from_arrays(X[i::3], y[i::3], groups[i::3], None if weights is None else weights[i::3])
        for i in range(3)
    ]
    merged = RandomInterceptRegressor(weight_type=model.weight_type).fit_moments(GroupedMoments.merge(parts))
    np.testing.assert_allclose(merged.variance_components_, model.variance_components_, rtol=1e-12)
    np.testing.assert_allclose(merged.coef_, model.coef_, rtol=1e-11)


def test_the_shipped_data_are_the_published_ones(reference):
    from sklearn_mlm.datasets import load_dyestuff, load_sleepstudy

    for name, loader in (("dyestuff_null", load_dyestuff), ("sleepstudy_days", load_sleepstudy)):
        X, y, groups, _ = reference.rows(reference.cases[name])
        shipped = loader()
        np.testing.assert_array_equal(shipped.target, y)
        np.testing.assert_array_equal(shipped.groups.astype(str), groups.to_numpy(dtype=object))
        assert X is None or np.array_equal(X, shipped.data)


# ---- inference


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", CASES)
def test_satterthwaites_tests_are_lmertests(reference, name, method):
    model, expected, _, _ = fitted(reference, name, method)
    expected, table = expected["satterthwaite"], inference.fixed_effects(model)
    # lmerTest computes its Hessian by differences.
    np.testing.assert_allclose(table["df"], expected["df"], rtol=1e-7)
    np.testing.assert_allclose(table["t"], expected["t"], rtol=1e-8)
    # Differences of df of 1e-7 show in tiny p-values.
    np.testing.assert_allclose(table["p_value"], expected["p"], rtol=1e-4, atol=1e-300)


@pytest.mark.parametrize("name", CASES)
def test_kenward_and_rogers_tests_are_pbkrtests(reference, name):
    model, expected, _, _ = fitted(reference, name, "REML")
    expected = expected["kenward_roger"]
    if expected is None:
        pytest.skip("pbkrtest was not run: too many rows, or weights")
    table = inference.fixed_effects(model, ddf="kenward_roger")
    np.testing.assert_allclose(table["std_error"], expected["se"], rtol=1e-11)
    np.testing.assert_allclose(table["df"], expected["df"], rtol=1e-11)
    np.testing.assert_allclose(table["p_value"], expected["p"], rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_profile_limits_are_those_of_exact_roots(reference, name):
    model, expected, _, _ = fitted(reference, name, "REML")
    expected = expected["confint_profile_exact"]
    lower, upper = np.array(expected["lower"]), np.array(expected["upper"])
    intervals = inference.confidence_intervals(model, method="profile").drop(index="icc")
    width = upper - lower
    np.testing.assert_allclose((intervals["lower"] - lower) / width, 0.0, atol=1e-9)
    np.testing.assert_allclose((intervals["upper"] - upper) / width, 0.0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_shares_of_variance_are_performances(reference, name):
    model, expected, X, groups = fitted(reference, name, "REML")
    r2 = expected["r2_nakagawa"]
    if expected["icc"] is not None:
        assert inference.icc(model) == pytest.approx(expected["icc"]["adjusted"], rel=1e-9)
        unadjusted = inference.icc(model, kind="unadjusted", X=X, groups=groups)
        assert unadjusted == pytest.approx(expected["icc"]["unadjusted"], rel=1e-9)
        shares = inference.r2(model, X, groups)
        np.testing.assert_allclose(shares[["marginal", "conditional"]], [r2["marginal"], r2["conditional"]], rtol=1e-9)
        if reference.cases[name]["weight"] is None:
            np.testing.assert_allclose(inference.r2(model), shares, rtol=1e-9, atol=1e-12)
    limits = inference.plausible_values_range(model)
    np.testing.assert_allclose(limits, expected["plausible_range_95"]["qnorm"], rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_the_test_of_no_group_variance_is_ranovas_and_rlrsims(reference, name):
    model, expected, _, _ = fitted(reference, name, "REML")
    naive = inference.random_intercept_test(model, method="naive")
    np.testing.assert_allclose(naive["statistic"], expected["ranova"]["chi2"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(naive["p_value"], expected["ranova"]["p"], rtol=1e-6, atol=1e-300)
    simulated = expected["exactRLRT"]
    if simulated is None or model.boundary_ == "group":
        return
    n = 20_000
    p_value = inference.random_intercept_test(model, n_simulations=n, random_state=0)["p_value"]
    error = np.sqrt(2 * max(simulated["p"] * (1 - simulated["p"]), 1 / n) / n)
    assert abs(p_value - simulated["p"]) < 4 * error


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_random_effects_is_ranef(reference, name):
    model, expected, _, _ = fitted(reference, name, "REML")
    expected = expected["ranef"]
    table = inference.random_effects_table(model).loc[expected["group"]]
    np.testing.assert_allclose(table["sd"], expected["condsd"], rtol=TOLERANCE, atol=1e-300)
    spread = max(np.abs(expected["condval"]).max(), 1e-300)
    np.testing.assert_allclose(table["effect"] / spread, np.array(expected["condval"]) / spread, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_scaled_residuals_and_criteria_of_the_summary_are_lme4s(reference, name):
    model, expected, _, _ = fitted(reference, name, "REML")
    X, y, groups, weights = reference.rows(reference.cases[name])
    summary = model.summary(X, y, groups, sample_weight=weights)
    quantiles = list(expected["scaled_residual_quantiles"].values())
    np.testing.assert_allclose(summary.scaled_residuals, quantiles, rtol=1e-8, atol=1e-9)
    names = ["criterion", "logLik", "AIC", "BIC", "df"]
    np.testing.assert_allclose(summary.criteria, [expected[name] for name in names], rtol=1e-12)
