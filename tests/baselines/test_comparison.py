"""The comparison with least squares: each figure against an estimator or a loop by hand, and words that follow figures."""

import re
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from designs import simulate
from scipy import sparse, stats
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.model_selection import GroupKFold, KFold

from sklearn_mlm import (
    ClusterRobustOLS,
    GroupedMoments,
    MixedEffectsRegressor,
    RandomInterceptRegressor,
    WithinOLS,
    compare_with_ols,
)
from sklearn_mlm._tables import p_text
from sklearn_mlm.datasets import load_dyestuff, load_sleepstudy
from sklearn_mlm.inference import contrast_test, random_effects_test
from sklearn_mlm.inference._variance_ratio import FPivot
from sklearn_mlm.likelihood._criterion import Criterion


def frame(**options):
    X, y, groups = simulate(**{"n_groups": 14, "mean_size": 8, "level_2": False, **options})
    return pd.DataFrame(X, columns=["a", "b", "c"][: X.shape[1]]), y, groups


def test_coefficients_are_those_of_the_estimators():
    X, y, groups = frame()
    table = compare_with_ols(X, y, groups, random_state=0).coefficients
    estimators = {
        "pooled OLS": ClusterRobustOLS(cov_type="nonrobust"),
        "cluster-robust OLS": ClusterRobustOLS(),
        "random intercept": RandomInterceptRegressor(),
    }
    for name, estimator in estimators.items():
        model, rows = estimator.fit(X, y, groups), table.xs(name, level="model")
        errors = np.sqrt(np.diag(model.cov_fixed_))
        np.testing.assert_allclose(rows["estimate"], np.append(model.intercept_, model.coef_), rtol=1e-10)
        np.testing.assert_allclose(rows["std_error"], errors, rtol=1e-10)
        if hasattr(model, "df_"):
            np.testing.assert_allclose(rows["df"], model.df_, rtol=1e-10)
        p_values = 2 * stats.t.sf(np.abs(rows["estimate"] / errors), rows["df"])
        np.testing.assert_allclose(rows["p_value"], p_values, rtol=1e-9)
    within, rows = WithinOLS().fit(X, y, groups), table.xs("within", level="model")
    assert rows.loc["(Intercept)"].isna().all()
    np.testing.assert_allclose(rows["estimate"][1:], within.coef_, rtol=1e-10)
    np.testing.assert_allclose(rows["std_error"][1:], np.sqrt(np.diag(within.cov_fixed_)), rtol=1e-10)
    np.testing.assert_array_equal(rows["df"][1:], within.df_)


def test_df_of_the_random_intercept_model_are_lmertests(reference):
    X, y, groups, _ = reference.rows(reference.cases["sleepstudy_days"])
    table = compare_with_ols(X, y, groups).coefficients.xs("random intercept", level="model")
    expected = reference.cases["sleepstudy_days"]["REML"]["satterthwaite"]
    np.testing.assert_allclose(table["df"], expected["df"], rtol=1e-7)
    np.testing.assert_allclose(table["p_value"], expected["p"], rtol=1e-5)


@pytest.mark.parametrize("form", [pd.DataFrame, np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("cv", [3, 4])
def test_predictions_are_those_of_a_loop_by_hand(form, cv):
    X, y, groups = frame(seed=2)
    table = compare_with_ols(form(X), y, groups, cv=cv, random_state=5).predictions
    estimators = {
        "pooled OLS": ClusterRobustOLS(cov_type="nonrobust"),
        "cluster-robust OLS": ClusterRobustOLS(),
        "within": WithinOLS(),
        "random intercept": RandomInterceptRegressor(),
    }
    for kind, splitter in (("known", KFold(cv, shuffle=True, random_state=5)), ("new", GroupKFold(cv))):
        for name, model in estimators.items():
            scores = []
            for train, test in splitter.split(X, y, groups if kind == "new" else None):
                model.fit(X.iloc[train], y[train], groups[train])
                predictions = model.predict(X.iloc[test], groups[test])
                scores.append((root_mean_squared_error(y[test], predictions), r2_score(y[test], predictions)))
            np.testing.assert_allclose(table.loc[(kind, name)], np.mean(scores, axis=0), rtol=1e-9)


def test_icc_design_effect_and_effective_sample_size():
    X, y, groups = frame()
    comparison = compare_with_ols(X, y, groups)
    null = RandomInterceptRegressor().fit(None, y, groups)
    sizes = np.unique(groups, return_counts=True)[1]
    assert comparison.icc == pytest.approx(null.icc_, rel=1e-10)
    assert comparison.residual_icc == pytest.approx(RandomInterceptRegressor().fit(X, y, groups).icc_, rel=1e-10)
    effect = 1 + ((sizes**2).sum() / sizes.sum() - 1) * null.icc_
    assert comparison.design_effect == pytest.approx(effect, rel=1e-10)
    assert comparison.effective_sample_size == pytest.approx(len(y) / effect, rel=1e-10)
    assert (comparison.n_samples, comparison.n_groups, comparison.n_folds) == (len(y), 14, 5)


def test_the_design_effect_is_the_variance_of_a_mean():
    # Of the mean of y over that of as many independent rows, by the covariance of the rows.
    sizes, icc = np.array([2, 5, 9]), 0.3
    groups = np.repeat(np.arange(3), sizes)
    correlation = np.where(groups[:, None] == groups, icc, 0.0) + (1 - icc) * np.eye(len(groups))
    inflation = correlation.sum() / len(groups)
    assert inflation == pytest.approx(1 + ((sizes**2).sum() / sizes.sum() - 1) * icc)


def test_the_test_of_no_group_variance_is_that_of_the_dummies():
    X, y, groups = frame(seed=1, tau=0.3)
    test = compare_with_ols(X, y, groups).group_test
    columns = np.column_stack([np.ones(len(y)), X])
    dummies = (groups[:, None] == np.unique(groups)).astype(float)
    rss = [
        ((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2).sum()
        for design in (columns, np.column_stack([X, dummies]))
    ]
    df1, df2 = dummies.shape[1] - 1, len(y) - dummies.shape[1] - 3
    statistic = (rss[0] - rss[1]) / df1 / (rss[1] / df2)
    np.testing.assert_allclose(test, [statistic, df1, df2, stats.f.sf(statistic, df1, df2)], rtol=1e-9)


def test_no_group_variance_is_rejected_as_often_as_it_should_be():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), [2, 3, 4, 5, 6, 7, 8, 9])
    X = rng.standard_normal((len(groups), 2))
    p_values = [
        FPivot(Criterion(GroupedMoments.from_arrays(X, rng.standard_normal(len(groups)), groups))).test()["p_value"]
        for _ in range(500)
    ]
    # The test is exact: p-values are uniform, but for a chance of 1 in 1000.
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_within_and_between_are_the_model_with_group_means_as_columns():
    X, y, groups = frame(seed=3)
    means = X.groupby(groups).transform("mean")
    y = y + 2.0 * means["a"].to_numpy()
    comparison = compare_with_ols(X, y, groups)
    both = pd.concat([X, means.add_prefix("mean of ")], axis=1)
    model = RandomInterceptRegressor().fit(both, y, groups)
    table = comparison.within_between
    np.testing.assert_allclose(table["within"], WithinOLS().fit(X, y, groups).coef_, rtol=1e-9)
    np.testing.assert_allclose(model.coef_[:3], table["within"], rtol=1e-9)
    np.testing.assert_allclose(table["difference"], model.coef_[3:], rtol=1e-8)
    np.testing.assert_allclose(table["between"], model.coef_[:3] + model.coef_[3:], rtol=1e-9)
    covariance = model.cov_fixed_[4:, 4:]
    np.testing.assert_allclose(table["std_error"], np.sqrt(np.diag(covariance)), rtol=1e-8)
    wald = model.coef_[3:] @ np.linalg.solve(covariance, model.coef_[3:]) / 3
    test = comparison.within_between_test
    expected = contrast_test(model, np.eye(7)[4:] / np.sqrt(np.diag(covariance))[:, None])
    np.testing.assert_allclose(test, expected, rtol=1e-6)
    np.testing.assert_allclose(test["F"], wald, rtol=1e-8)


def test_within_and_between_of_one_column_is_hausmans_test():
    # With the variances held the same, Hausman's quadratic form is the Wald statistic of the group mean, exactly.
    X, y, groups = frame(seed=4, n_columns=1)
    X = X.rename(columns={"a": "x"})
    table = compare_with_ols(X, y, groups).within_between
    means = X.groupby(groups).transform("mean")["x"].to_numpy()
    model = RandomInterceptRegressor().fit(X.assign(mean=means), y, groups)
    tau2, sigma2 = model.variance_components_
    Z = (groups[:, None] == np.unique(groups)).astype(float)
    V = tau2 * Z @ Z.T + sigma2 * np.eye(len(y))
    columns = np.column_stack([np.ones(len(y)), X])
    covariance = np.linalg.inv(columns.T @ np.linalg.solve(V, columns))
    gls = covariance @ columns.T @ np.linalg.solve(V, y)
    centred = X["x"].to_numpy() - means
    within, variance = centred @ y / (centred @ centred), sigma2 / (centred @ centred)
    hausman = (within - gls[1]) ** 2 / (variance - covariance[1, 1])
    np.testing.assert_allclose((table["difference"] / table["std_error"]) ** 2, hausman, rtol=1e-7)


# ---- peculiar data


def test_columns_that_do_not_vary_within_or_between_groups():
    X, y, groups = simulate(14, 6, 2, seed=1)
    comparison = compare_with_ols(pd.DataFrame(X, columns=["x", "level2"]), y, groups)
    assert list(comparison.within_between.index) == ["x"]
    assert np.isnan(comparison.coefficients.loc[("level2", "within"), "estimate"])
    assert re.search(r"level2 +pooled OLS +-?[0-9]", str(comparison))
    assert not re.search(r"level2.*\n.*\n +within", str(comparison))
    days, reaction, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    comparison = compare_with_ols(days, reaction, subject)
    assert comparison.within_between.loc["days"].isna().tolist() == [False, True, True, True, True, True]
    assert "The group means are constant or depend on other columns" in str(comparison)


def test_null_models():
    yields, batch = load_dyestuff().target, load_dyestuff().groups
    comparison = compare_with_ols(None, yields, batch, random_state=0)
    assert list(comparison.coefficients.index) == [
        ("(Intercept)", name) for name in ("pooled OLS", "cluster-robust OLS", "within", "random intercept")
    ]
    assert comparison.within_between.empty
    assert "within and between" not in str(comparison)


def test_an_outcome_that_groups_determine_is_reported_without_a_crash():
    X, _, groups = frame()
    nine = np.repeat(np.arange(9), 10)
    comparison = compare_with_ols(None, (nine % 3).astype(float), nine, random_state=0)
    assert comparison.icc == 1.0
    assert comparison.predictions.loc[("known", "random intercept"), "rmse"] < 1e-12
    text = str(compare_with_ols(X, X["a"].to_numpy(), groups, random_state=0))
    assert "The predictors explain all of it" in text
    assert "nan" not in text
    exact = compare_with_ols(X, X["a"] + np.sin(groups), groups, random_state=0).coefficients
    np.testing.assert_allclose(exact.loc[("a", "random intercept"), ["estimate", "std_error"]], [1.0, 0.0], atol=1e-9)
    assert np.isnan(exact.loc[("a", "random intercept"), "p_value"])


def test_a_coefficient_that_rests_on_one_group_has_no_cluster_robust_error():
    X, y, groups = frame(n_columns=2)
    comparison = compare_with_ols(X.assign(treated=(groups == 3).astype(float)), y, groups, random_state=0)
    assert np.isnan(comparison.coefficients.loc[("treated", "cluster-robust OLS"), "std_error"])
    assert "There are none for treated, which rests on a single group" in " ".join(comparison.conclusions)
    assert "are not enough here" in " ".join(comparison.conclusions)


def test_two_groups_are_compared_without_new_ones():
    X, y, groups = frame(n_groups=2, mean_size=20)
    comparison = compare_with_ols(X, y, groups, random_state=0)
    assert list(comparison.predictions.index.unique("groups")) == ["known"]
    assert "too few groups to test it on new ones" in " ".join(comparison.conclusions)


def test_many_folds_are_those_of_a_loop_by_hand():
    X, y, groups = frame(n_groups=25, mean_size=3, n_columns=1, seed=3)
    table = compare_with_ols(X, y, groups, cv=24, random_state=5).predictions
    scores = []
    for train, test in GroupKFold(24).split(X, y, groups):
        model = RandomInterceptRegressor().fit(X.iloc[train], y[train], groups[train])
        scores.append(root_mean_squared_error(y[test], model.predict(X.iloc[test], groups[test])))
    np.testing.assert_allclose(table.loc[("new", "random intercept"), "rmse"], np.mean(scores), rtol=1e-9)


def test_units_too_small_for_decimals_are_printed_with_exponents():
    X, y, groups = frame()
    text = str(compare_with_ols(X, 1e-9 * y, groups, random_state=0))
    assert "0.000000" not in text
    assert "e-09" in text


def test_singletons_leave_the_within_estimator_without_standard_errors():
    X, y, _ = frame()
    groups = np.append([0, 0, 1, 1], np.arange(2, len(y) - 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        comparison = compare_with_ols(X, y, groups)
    assert comparison.coefficients.xs("within", level="model")["std_error"].isna().all()
    assert "no test (too few groups or rows)" in str(comparison)


def test_collinear_columns_are_named_once():
    X, y, groups = frame()
    with pytest.warns(UserWarning, match="twice") as caught:
        comparison = compare_with_ols(X.assign(twice=2 * X["a"]), y, groups)
    assert len(caught) == 1
    assert comparison.coefficients.loc["twice"].isna().all(axis=None)


# ---- words that follow the figures


def words(y, X, groups, **options):
    return " ".join(compare_with_ols(X, y, groups, random_state=0, **options).conclusions)


def simulated(J=60, n=20, tau=1.0, contextual=0.0, slope_sd=0.0, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(J), n)
    level = rng.standard_normal(J)
    x = rng.standard_normal(J * n) + level[groups]
    y = x + contextual * level[groups] + tau * rng.standard_normal(J)[groups] + rng.standard_normal(J * n)
    y += slope_sd * rng.standard_normal(J)[groups] * x
    return y, pd.DataFrame({"x": x}), groups


def test_groups_that_do_not_differ_leave_nothing_to_gain():
    text = words(*simulated(tau=0.0, seed=0))
    assert "the predictors account for all of it: the group variance is 0, given the predictors" in text
    assert "hardly better than least squares" in text
    assert "cluster-robust standard errors are enough" in text


def test_p_values_that_change_sides_are_reported():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 20)
    X = pd.DataFrame({"x": rng.standard_normal(600), "size": rng.standard_normal(30)[groups]})
    comparison = compare_with_ols(X, rng.standard_normal(30)[groups] + rng.standard_normal(600), groups, random_state=0)
    p_values = comparison.coefficients["p_value"]
    before, after = p_values["size", "pooled OLS"], p_values["size", "cluster-robust OLS"]
    assert before < 0.05 < after
    assert f"The p-value of size changes from {p_text(before)} to {p_text(after)}." in " ".join(comparison.conclusions)


def test_standard_errors_that_agree_are_reported():
    assert "which ignore the groups, are within" in words(*simulated(J=400, n=5, tau=0.0))


def test_groups_that_differ_make_the_model_pay():
    text = words(*simulated(seed=1))
    assert "more than chance (F test, p < 0.001)" in text
    assert "Textbook standard errors ignore the groups: cluster-robust ones are" in text
    assert "do not differ significantly" in text
    assert "The multilevel model pays off for other rows of these groups" in text
    assert "For new groups the two predict equally well" in text


def test_a_contextual_effect_is_reported_and_cluster_robust_errors_do_not_correct_it():
    text = words(*simulated(contextual=2.0, tau=0.5))
    assert re.search(r"groups differ \(x: (0\.9|1\.0)\d* within, (2|3)\.\d+ between; p < 0.001\)", text)
    assert "Cluster-robust standard errors are not enough, because they do not correct the estimates" in text


def test_estimates_that_differ_without_a_shown_reason_leave_it_open():
    y, X, groups = simulated(J=30, n=8, tau=1.0, seed=1)
    comparison = compare_with_ols(X, y, groups, random_state=0)
    estimates = comparison.coefficients.loc["x", "estimate"]
    error = comparison.coefficients.loc[("x", "random intercept"), "std_error"]
    assert abs(estimates["pooled OLS"] - estimates["random intercept"]) > 0.5 * error
    assert comparison.within_between_test["p_value"] > 0.05
    text = " ".join(comparison.conclusions)
    assert "Whether cluster-robust standard errors are enough is unclear: the estimate of x" in text


def test_few_groups_make_cluster_robust_errors_uncertain():
    y, _, groups = simulated(J=7, n=30, seed=6)
    # Balanced groups and a column with the same values in each: the estimates are the same.
    text = words(y, pd.DataFrame({"x": np.tile(np.linspace(-1, 1, 30), 7)}), groups)
    assert "the estimates agree with the random intercept model's" in text
    assert "but with 7 groups they are uncertain (as few as 6.0 degrees of freedom)" in text


def test_an_effect_that_differs_from_group_to_group_is_found():
    rng = np.random.default_rng(0)
    groups, x = np.repeat(np.arange(50), 20), np.tile(np.linspace(-1, 1, 20), 50)
    y = rng.standard_normal(50)[groups] + (1 + rng.standard_normal(50)[groups]) * x + rng.standard_normal(1000)
    X = pd.DataFrame({"x": x})
    comparison = compare_with_ols(X, y, groups, random_state=0)
    text = " ".join(comparison.conclusions)
    assert "The effect of x varies between groups" in text
    assert "(1 + x | group)" in text
    model = MixedEffectsRegressor(random_effects="(1 + x | group)").fit(X, y, groups=groups)
    test = random_effects_test(model).loc["x"]
    expected = [np.sqrt(model.variance_components_["group x"]), test["chi2"], test["p_value"]]
    np.testing.assert_allclose(comparison.slopes.loc["x"], expected, rtol=1e-9)


def test_an_effect_that_is_the_same_everywhere_is_not_said_to_vary():
    rng = np.random.default_rng(1)
    groups, X = (
        np.repeat(np.arange(40), 10),
        pd.DataFrame({"x": rng.standard_normal(400), "level": np.repeat(rng.random(40), 10)}),
    )
    y = rng.standard_normal(40)[groups] + X["x"] + rng.standard_normal(400)
    comparison = compare_with_ols(X, y, groups, random_state=0)
    assert list(comparison.slopes.index) == ["x"]
    assert comparison.slopes.loc["x", "p_value"] > 0.05
    assert "varies between groups" not in " ".join(comparison.conclusions)


def test_a_slope_that_the_rows_do_not_identify_is_left_out():
    rng = np.random.default_rng(2)
    groups, X = np.repeat(np.arange(30), 2), pd.DataFrame({"x": np.tile([0.0, 1.0], 30)})
    y = rng.standard_normal(30)[groups] + rng.standard_normal(60)
    comparison = compare_with_ols(X, y, groups, random_state=0)
    assert comparison.slopes.loc["x"].isna().all()
    assert "How much coefficients vary" not in str(comparison)


# ---- print and HTML


def test_the_printed_form_shows_the_figures_of_the_tables():
    days, reaction, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    comparison = compare_with_ols(days, reaction, subject, random_state=0)
    text = str(comparison)
    assert repr(comparison) == text
    for figure in (
        "180 rows in 18 groups",
        "ICC 0.395 (0.589",
        "effective sample size 40",
        "251.41",
        "10.467",
        "1.546",
        "22.8",
    ):
        assert figure in text
    assert f"{comparison.predictions.loc[('known', 'random intercept'), 'rmse']:.1f}" in text
    assert max(map(len, text.splitlines())) <= 100
    assert all(line == line.rstrip() for line in text.splitlines())
    assert text.rstrip().endswith(comparison.conclusions[-1].split()[-1])


def test_the_html_form_is_well_formed_and_escapes_names():
    X, y, groups = frame()
    comparison = compare_with_ols(X.rename(columns={"a": "<b>&"}), y, groups, random_state=0)
    html = comparison._repr_html_()
    root = ET.fromstring(html)
    assert "&lt;b&gt;&amp;" in html
    cells = [cell.text for cell in root.iter("td")]
    assert f"{comparison.coefficients.loc[('b', 'within'), 'estimate']:.3f}" in cells
    assert len(list(root.iter("li"))) == len(comparison.conclusions)
