"""Every case of the reference corpus: what lme4, polished to its optimum, answers on real data."""

import numpy as np
import pytest

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.inference import satterthwaite_degrees_of_freedom

CASES = [
    "heck2011_null", "heck2011_ses", "heck2011_ses_public", "heck2011_ses_female_public", "heck2011_sub10_ses",
    "sleepstudy_days", "dyestuff_null", "dyestuff2_null_boundary", "penicillin_plate", "orthodont_age",
    "orthodont_age_sex", "rail_null", "mathachieve_ses", "mathachieve_ses_sector", "exam_lrt", "exam_lrt_weighted",
    "exam_singletons", "scotssec_verbal", "scotssec_verbal_sex", "chem97_gcse",
]  # fmt: skip
# What a plain double-precision computation agrees with lme4's polished optimum to is about 1e-13.
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
    # But for the rounding of a sum of n terms.
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


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", CASES)
def test_satterthwaite_degrees_of_freedom_are_lmertests(reference, name, method):
    model, expected, _, _ = fitted(reference, name, method)
    criterion = model._criterion(model.moments_)
    df = satterthwaite_degrees_of_freedom(criterion, model._solution, model.boundary_, np.eye(len(model.cov_fixed_)))
    # lmerTest takes its Hessian by differences.
    np.testing.assert_allclose(df, expected["satterthwaite"]["df"], rtol=1e-7)
