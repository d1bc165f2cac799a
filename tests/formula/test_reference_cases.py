"""Formulas of the reference corpus as they are written there: the models of parts A and D, and the tables of part D."""

import warnings

import numpy as np
import pandas as pd
import pytest
from mixed_cases import REAL_CASES

from sklearn_mlm.formula import lmer
from sklearn_mlm.inference import (
    anova,
    drop1,
    estimated_marginal_means,
    estimated_trends,
    fixed_effects,
    likelihood_ratio_test,
)

FACTORS = [
    "machines_factor", "machines_no_intercept", "machines_sum", "ham_three_way", "orthodont_centred", "orthodont_slope",
    "dietox_na", "dietox_poly", "dietox_bs", "ergo_factor", "pbg_log_interaction", "pbg_dose_factor",
    "soybean_nested_effects", "soybean_unbalanced", "scotssec_factors", "dietox_offset",
]  # fmt: skip
# lmerTest sets coefficients below 1e-6 to 0 in type I, and rounds to 7 digits in type III.
ROUNDED = {("soybean_unbalanced", "I"): 1e-3, ("pbg_dose_factor", "III"): 1e-6, ("soybean_unbalanced", "III"): 1e-7}
# More rows than this, and emmeans takes Satterthwaite's degrees of freedom for Kenward and Roger's.
MOST_ROWS = 3_000


@pytest.fixture(scope="module")
def fitted(reference_mixed):
    known = {}

    def fit(name):
        if name not in known:
            rows, case = reference_mixed("D", name)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                known[name] = lmer(case["formula"], rows), rows, case
        return known[name]

    return fit


def close(found, expected, rtol, atol=0.0):
    np.testing.assert_allclose(np.asarray(found, float), np.array(expected, dtype=float), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", FACTORS)
def test_models_with_factors(name, fitted):
    model, rows, case = fitted(name)
    answer = case["REML"]
    assert model.fit_.names == case["coef_names"]
    assert [label for label, *_ in model.fit_.design.terms] == case["terms"]
    assert model.n_dropped_ == case["n_dropped_na"]
    complete = rows.dropna() if case["n_dropped_na"] else rows
    matrix = model.model_matrix(complete).to_numpy()
    close(matrix[:8], case["model_matrix_first_rows"], 1e-12, 1e-12)
    close(matrix.sum(axis=0), case["model_matrix_checksums"]["column_sums"], 1e-10, 1e-9)
    close(model.log_likelihood_, answer["logLik"], 1e-10)
    close(model.fit_.coefficients, answer["beta"], 1e-8, 1e-10)
    close(model.cov_fixed_, answer["vcov_beta"], 1e-8, 1e-12)
    close(model.variance_components_["residual"], answer["sigma2"], 1e-8)
    first = case["predict_first_rows"]
    # lme4 returns NA for rows with missing values, too.
    close(model.predict(rows[: len(first["population"])], groups="population"), first["population"], 1e-8)
    close(model.predict(rows[: len(first["conditional"])]), first["conditional"], 1e-8)
    for ddf in ("satterthwaite", "kenward_roger"):
        if case[ddf] is not None:
            close(fixed_effects(model, ddf=ddf)["df"], case[ddf]["df"], 1e-6)


@pytest.mark.parametrize("name", FACTORS)
def test_terms(name, fitted):
    model, _, case = fitted(name)
    for key, answer in case["anova"].items():
        kind, _, ddf = key.partition("_")
        found = anova(model, type=kind, ddf=ddf)
        assert found.index.tolist() == answer["terms"]
        digits = ROUNDED.get((name, kind), 1e-8)
        close(found["F"], answer["F"], digits)
        close(found["sum_sq"], answer["sum_sq"], digits)
        close(found["df1"], answer["num_df"], 0)
        close(found["df2"], answer["den_df"], 1e-6)
        close(found["p_value"], answer["p"], max(100 * digits, 1e-6), 1e-9)
    found, answer = drop1(model), case["drop1"]
    assert found.index.tolist() == answer["terms"]
    close(found["F"], answer["F"], 1e-8)
    close(found["df2"], answer["den_df"], 1e-6)


@pytest.mark.parametrize("name", FACTORS)
def test_marginal_means_and_trends(name, fitted):
    model, _, case = fitted(name)
    for answer in case["marginal_means"]:
        ddf = answer["df_method"].replace("-", "_")
        if ddf == "kenward_roger" and case["n"] > MOST_ROWS:
            ddf = "satterthwaite"
        factors, _, by = answer["specs"].removeprefix("~ ").partition(" | ")
        means, proportional = (
            estimated_marginal_means(model, factors.split(" * "), by=by or None, ddf=ddf, weights=weights)
            if weights == "equal" or weights in answer
            else None
            for weights in ("equal", "proportional")
        )
        if "means" in answer:
            check_means(means, answer["means"], "emmean")
        if proportional is not None:
            check_means(proportional, answer["proportional"], "emmean")
        for adjust, expected in answer["pairs"].items():
            check_pairs(means.pairs(adjust), expected)
        for adjust, expected in answer["pairs_intervals"].items():
            # R's quantile of the studentized range has few digits.
            close(means.pairs(adjust)["ci_lower"], expected["lower.CL"], 1e-6, 1e-6 if adjust == "tukey" else 1e-8)
    for answer in case["trends"]:
        ddf = "kenward_roger" if case["n"] <= MOST_ROWS else "satterthwaite"
        trends = estimated_trends(model, answer["specs"].removeprefix("~ "), answer["var"], ddf=ddf)
        check_means(trends, answer["trends"], f"{answer['var']}.trend")
        check_pairs(trends.pairs(), answer["pairs_tukey"])


def check_means(found, answer, column):
    for name in found.columns[: found.columns.get_loc("estimate")]:
        assert found[name].astype(str).tolist() == answer[name]
    close(found["estimate"], answer[column], 1e-8)
    close(found["std_error"], answer["SE"], 1e-8)
    close(found["df"], answer["df"], 1e-6)
    close(found["ci_lower"], answer["lower.CL"], 1e-7)


def check_pairs(found, answer):
    assert found["contrast"].tolist() == answer["contrast"]
    close(found["estimate"], answer["estimate"], 1e-8)
    close(found["std_error"], answer["SE"], 1e-8)
    close(found["df"], answer["df"], 1e-6)
    close(found["p_value"], answer["p.value"], 1e-6, 1e-8)


@pytest.mark.parametrize("name", [name for name in FACTORS if name not in ("dietox_na",)])
def test_smaller_models(name, fitted):
    model, rows, case = fitted(name)
    for answer in case["lrt"]:
        found = likelihood_ratio_test(lmer(answer["smaller"], rows), model)
        assert found.index.tolist() == [answer["smaller"], case["formula"]]
        close(found["chi2"].iloc[1], answer["chi2"], 1e-7, 1e-8)
        close(found["df"].iloc[1], answer["df"], 0)
        close(found["aic"], [answer["AIC_small"], answer["AIC_large"]], 1e-9)


@pytest.mark.parametrize("name", REAL_CASES)
def test_formulas_with_random_slopes(name, reference_mixed):
    rows, case = reference_mixed("A", name)
    rows = rows.astype(dict.fromkeys(case["group_columns"], str))
    weights = None if case["weight"] is None else case["weight"]
    for method in ("REML", "ML"):
        answer = case[method]
        model = lmer(case["formula"], rows, REML=method == "REML", weights=weights)
        assert model.fit_.names == case["coef_names"]
        if name == "sleepstudy_plus_1000":
            assert model.criterion_ <= answer["criterion"] + 1e-9  # the reference has fewer digits there
            continue
        close(model.criterion_, answer["criterion"], 1e-9, 1e-8)
        close(model.fit_.coefficients, answer["beta"], 1e-6, 1e-9)
        assert isinstance(model.random_effects_, pd.DataFrame)


SEVERAL = [
    "penicillin_crossed", "machines_nested", "oxide_three_levels", "assay_crossed_in_block", "ham_nested",
    "scotssec_crossed", "scotssec_crossed_slope", "wheat2_zero_component", "chem97_three_levels",
    "chem97_three_levels_slopes", "immer_crossed",
]  # fmt: skip


def test_one_factor_with_slopes_among_the_cases_of_several(reference_mixed):
    rows, case = reference_mixed("B", "machines_slopes")
    model = lmer(case["formula"], rows)
    close(model.criterion_, case["REML"]["criterion"], 1e-9)
    close(model.fit_.coefficients, case["REML"]["beta"], 1e-8)


@pytest.mark.parametrize("name", SEVERAL)
def test_formulas_with_several_factors(name, reference_mixed):
    rows, case = reference_mixed("B", name)
    rows = rows.astype(dict.fromkeys(case["group_columns"], str))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = lmer(case["formula"], rows)
    answer, first = case["REML"], case["REML"]["predict_first_rows"]
    assert model.fit_.names == case["coef_names"]
    close(model.criterion_, answer["criterion"], 1e-9)
    close(model.fit_.coefficients, answer["beta"], 1e-7, 1e-9)
    close(model.cov_fixed_, answer["vcov_beta"], 1e-6, 1e-10)
    assert {frozenset(factor.split(":")) for factor in model.random_effects_} == {
        frozenset(term["group"].split(":")) for term in case["terms"]
    }
    close(model.predict(rows[: len(first["population"])], groups="population"), first["population"], 1e-7)
    close(model.predict(rows[: len(first["conditional"])]), first["conditional"], 1e-6)
