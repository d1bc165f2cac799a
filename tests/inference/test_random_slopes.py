"""Inference for random slopes: intervals, tests of coefficients, tables, shares and influence, against lme4 and refits."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mlm import DroppedColumnsWarning, MixedEffectsRegressor, RandomInterceptRegressor, inference
from sklearn_mlm.datasets import load_sleepstudy

SLEEPSTUDY = "(1 + days | subject)"


@pytest.fixture(scope="module")
def sleepstudy():
    return load_sleepstudy(return_X_y_groups=True, as_frame=True)


@pytest.fixture(scope="module")
def model(sleepstudy):
    X, y, subject = sleepstudy
    return MixedEffectsRegressor(random_effects=SLEEPSTUDY).fit(X, y, groups=subject)


def fitted_case(frame, case, **options):
    """Fit a case of the reference corpus."""
    outcome, _, right = case["formula"].partition(" ~ ")
    names = [name for name in case["coef_names"] if name != "(Intercept)"]
    for name in names:
        if ":" in name:
            a, b = name.split(":")
            frame[name] = frame[a] * frame[b]
    bars = right[right.index("(") :]
    groups = frame[[column for column in frame if column not in (*names, outcome)]]
    model = MixedEffectsRegressor(random_effects=bars, fit_intercept="(Intercept)" in case["coef_names"], **options)
    return model.fit(frame[names], frame[outcome], groups=groups)


def lines(n_groups=8, seed=32, slope=0.7):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(3, 9, n_groups))
    x = rng.standard_normal(len(groups))
    y = 12 + 0.9 * x + 1.8 * rng.standard_normal(n_groups)[groups] + slope * rng.standard_normal(n_groups)[groups] * x
    return pd.DataFrame({"x": x}), y + 0.9 * rng.standard_normal(len(groups)), groups


# ---- intervals


@pytest.mark.parametrize("name", ["sleepstudy_slope", "sleepstudy_uncorr", "sleepstudy_noint", "orthodont_age_sex"])
def test_profile_limits_are_those_of_lme4(reference_mixed, name):
    frame, case = reference_mixed("A", name)
    limits = inference.confidence_intervals(fitted_case(frame, case), method="profile")
    expected = pd.DataFrame(case["REML"]["confint_profile"] or case["ML"]["confint_profile"]).set_index("names")
    assert len(limits) == len(expected)
    for theirs, (lower, upper) in expected.iterrows():
        kind, _, columns = theirs.partition("|")[0].partition("_")
        if kind == "sigma":
            ours = "sd(residual)"
        elif kind in ("sd", "cor"):
            names = [part.strip("()") for part in reversed(columns.split("."))]
            ours = f"{kind}({', '.join(names)})"
        else:
            ours = theirs
        # lme4 interpolates its profiles with splines: about 1e-4.
        width = upper - lower
        np.testing.assert_allclose(limits.loc[ours], [lower, upper], atol=3e-4 * width, err_msg=ours)


def test_at_a_profile_limit_the_deviance_has_risen_by_the_quantile(model, sleepstudy):
    X, y, subject = sleepstudy
    limits = inference.confidence_intervals(model, method="profile")
    ml = MixedEffectsRegressor(random_effects=SLEEPSTUDY, method="ml").fit(X, y, groups=subject)
    for at in limits.loc["days"]:
        rest = MixedEffectsRegressor(random_effects=SLEEPSTUDY, method="ml")
        rest.fit(None, y - at * X["days"], groups=pd.concat([subject, X], axis=1))
        np.testing.assert_allclose(rest.criterion_ - ml.criterion_, stats.chi2.ppf(0.95, 1), rtol=1e-5)


def test_by_default_coefficients_have_t_limits_and_deviations_restricted_profiles(model):
    limits, table = inference.confidence_intervals(model), inference.fixed_effects(model)
    np.testing.assert_allclose(limits.loc["days"], table.loc["days", ["ci_lower", "ci_upper"]])
    assert list(limits.index) == [
        "sd(Intercept)",
        "sd(days)",
        "cor(Intercept, days)",
        "sd(residual)",
        "(Intercept)",
        "days",
    ]
    profile = inference.confidence_intervals(model, method="profile")
    # REML allows for the estimation of the fixed effects, so that its limits are higher.
    assert (limits.loc["sd(days)"] > profile.loc["sd(days)"]).all()


def test_wald_limits_are_those_of_the_information_matrix(model):
    fit, limits = model.fit_, inference.confidence_intervals(model, method="wald")
    step = 1e-4
    covariance, criterion = fit.random_covariance, fit.criterion
    scale = criterion.coordinates.y_scale

    def deviance(parameters):
        matrix = np.array([[parameters[0], parameters[1]], [parameters[1], parameters[2]]])
        residual = parameters[3] / scale**2
        factor = np.linalg.solve(fit.turn_from_origin, np.linalg.cholesky(matrix)) / np.sqrt(parameters[3])
        there = criterion.at_residual_variance(residual)
        return there.value(factor)

    best = np.array([covariance[0, 0], covariance[0, 1], covariance[1, 1], fit.residual_variance])
    steps = step * np.array([best[0], np.sqrt(best[0] * best[2]), best[2], best[3]])
    hessian = np.empty((4, 4))
    for i in range(4):
        for j in range(4):
            corners = [
                (si * sj) * deviance(best + si * steps[i] * np.eye(4)[i] + sj * steps[j] * np.eye(4)[j])
                for si in (1, -1)
                for sj in (1, -1)
            ]
            hessian[i, j] = sum(corners) / (4 * steps[i] * steps[j])
    variances = 2 * np.linalg.inv(hessian).diagonal()
    half = stats.norm.ppf(0.975) * np.sqrt(variances[[0, 2, 3]]) / (2 * best[[0, 2, 3]])
    sd = np.sqrt(best[[0, 2, 3]])
    # The numerical second derivatives have about 5 digits.
    expected = np.column_stack([sd * np.exp(-half), sd * np.exp(half)])
    np.testing.assert_allclose(limits.loc[["sd(Intercept)", "sd(days)", "sd(residual)"]], expected, rtol=1e-4)


def test_intervals_of_a_singular_fit():
    X, y, groups = lines(slope=0.0, seed=1)
    model = MixedEffectsRegressor(random_effects="(1 + x | g)").fit(X, y, groups=groups)
    assert model.boundary_ is not None
    limits = inference.confidence_intervals(model)
    assert limits.loc["sd(x)", "lower"] == 0
    assert limits.loc["sd(x)", "upper"] > 0
    assert limits.loc["cor(Intercept, x)"].abs().max() <= 1
    wald = inference.confidence_intervals(model, method="wald")
    assert wald.loc["sd(x)"].isna().all()
    assert wald.loc["x"].notna().all()


def test_methods_for_random_intercepts_only_are_refused(model):
    for method in ("pivot", "exact"):
        with pytest.raises(ValueError, match="intercept alone varies"):
            inference.confidence_intervals(model, method=method)
    with pytest.raises(ValueError, match="method must be one of"):
        inference.confidence_intervals(model, method="bootstrap")


# ---- tests


RANOVA = ["sleepstudy_slope", "sleepstudy_uncorr", "exam_two_slopes", "heck2011_two_uncorr", "igf_uncorr"]


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", RANOVA)
def test_tests_of_random_coefficients_are_those_of_ranova(reference_mixed, name, method):
    frame, case = reference_mixed("A", name)
    table = inference.random_effects_test(fitted_case(frame, case, method=method.lower()))
    for reduced in case["ranova"]:
        # "drop x in 1 + x | g", or "drop 0 + x | g", or "drop 1 | g".
        left_out = reduced["term"].removeprefix("drop ").partition(" in ")[0].partition(" | ")[0].removeprefix("0 + ")
        row, expected = table.loc[left_out if left_out != "1" else "(Intercept)"], reduced[method]
        np.testing.assert_allclose(row["criterion"], -2 * expected["logLik_reduced"], rtol=1e-11)
        # Differences of criteria, which are some thousands.
        np.testing.assert_allclose(row["chi2"], expected["chi2"], atol=1e-7)
        assert row["df"] == expected["df"]
        np.testing.assert_allclose(row["p_naive"], expected["p"], rtol=1e-6)


def test_the_mixture_halves_neighbouring_tails():
    X, y, groups = lines()
    table = inference.random_effects_test(MixedEffectsRegressor(random_effects="(1 + x | g)").fit(X, y, groups=groups))
    chi2 = table.loc["x", "chi2"]
    np.testing.assert_allclose(table.loc["x", "p_value"], (stats.chi2.sf(chi2, 1) + stats.chi2.sf(chi2, 2)) / 2)
    independent = MixedEffectsRegressor(random_effects="(1 + x || g)").fit(X, y, groups=groups)
    row = inference.random_effects_test(independent).loc["x"]
    np.testing.assert_allclose(row["p_value"], stats.chi2.sf(row["chi2"], 1) / 2)
    assert row["df"] == 1


def test_a_coefficient_without_variance_has_the_p_value_one():
    X, y, groups = lines(slope=0.0, seed=1)
    model = MixedEffectsRegressor(random_effects="(1 + x || g)").fit(X, y, groups=groups)
    assert model.variance_components_["g x"] == 0
    row = inference.random_effects_test(model).loc["x"]
    assert row["chi2"] == 0
    assert row["p_value"] == 1


def test_the_only_random_coefficient_is_tested_against_least_squares():
    X, y, groups = lines()
    model = MixedEffectsRegressor().fit(X, y, groups=groups)
    naive = inference.random_intercept_test(RandomInterceptRegressor().fit(X, y, groups=groups), method="mixture")
    row = inference.random_effects_test(model).loc["(Intercept)"]
    np.testing.assert_allclose(row[["chi2", "p_value"]], naive[["statistic", "p_value"]], rtol=1e-9)


def test_likelihood_ratio_tests_of_slopes_have_the_mixture_too(sleepstudy, model):
    X, y, subject = sleepstudy
    intercepts = RandomInterceptRegressor().fit(X, y, groups=subject)
    null = RandomInterceptRegressor().fit(None, y, groups=subject)
    table = inference.likelihood_ratio_test(null=null, intercepts=intercepts, slopes=model)
    # lme4's anova of the same models, refitted by maximum likelihood.
    np.testing.assert_allclose(table["chi2"].iloc[1:], [116.46239, 42.13930], rtol=1e-6)
    assert table["df"].iloc[1:].tolist() == [1, 2]
    np.testing.assert_allclose(table.loc["slopes", "p_mixture"], (stats.chi2.sf(42.1393, [1, 2])).mean(), rtol=1e-3)
    assert table.loc["intercepts", "p_mixture"] == table.loc["intercepts", "p_value"]
    assert "p_mixture" not in inference.likelihood_ratio_test(null=null, intercepts=intercepts)


def test_models_whose_random_parts_are_not_nested_are_refused(sleepstudy, model):
    X, y, subject = sleepstudy
    slope = MixedEffectsRegressor(random_effects="(0 + days | subject)").fit(X, y, groups=subject)
    null = MixedEffectsRegressor().fit(None, y, groups=subject)
    with pytest.raises(ValueError, match="random coefficients that"):
        inference.likelihood_ratio_test(null=null, slope=slope)
    table = inference.compare_models(slope=slope, both=model)
    np.testing.assert_allclose(table["log_likelihood"], [slope.log_likelihood_, model.log_likelihood_])


def test_the_random_intercept_test_names_the_other(model):
    with pytest.raises(TypeError, match="random_effects_test"):
        inference.random_intercept_test(model)
    intercepts = RandomInterceptRegressor().fit([[0.0], [1], [2], [3]], [1.0, 2, 4, 3], groups=[0, 0, 1, 1])
    with pytest.raises(TypeError, match="random_intercept_test"):
        inference.random_effects_test(intercepts)


# ---- tables and shares


def test_the_table_of_random_effects_has_a_row_for_each_coefficient(reference_mixed):
    frame, case = reference_mixed("A", "sleepstudy_slope")
    model = fitted_case(frame, case)
    table = inference.random_effects_table(model)
    reference = case["REML"]["ranef"][0]
    np.testing.assert_allclose(table["effect"], np.ravel(reference["condval"]), rtol=1e-9)
    sds = [np.sqrt(np.diag(np.reshape(matrix, (2, 2)))) for matrix in reference["condvar"]]
    np.testing.assert_allclose(table["sd"], np.ravel(sds), rtol=1e-9)
    variances = np.tile(np.diag(model.covariance_["Subject"]), 18)
    np.testing.assert_allclose(table["reliability"], 1 - table["sd"] ** 2 / variances)
    totals = table["total"].xs("Days", level="coefficient")
    np.testing.assert_allclose(totals, model.coef_[0] + model.random_effects_["Days"])
    assert (table["n"] == 10).all()


def test_shares_do_not_depend_on_where_x_is_zero():
    X, y, groups = lines()
    whole, icc = [], []
    for shift in (0.0, 10.0, -3.0):
        model = MixedEffectsRegressor(random_effects="(1 + x | g)").fit(X - shift, y, groups=groups)
        whole.append(inference.r2(model))
        icc.append(inference.icc(model, X=X - shift))
        covariance = model.covariance_["g"].to_numpy()
        Z = np.column_stack([np.ones(len(X)), X - shift])
        variance = np.einsum("ia,ab,ib->i", Z, covariance, Z)
        np.testing.assert_allclose(icc[-1], variance / (variance + model.variance_components_["residual"]), rtol=1e-9)
        mean = variance.mean()
        np.testing.assert_allclose(inference.icc(model), mean / (mean + model.variance_components_["residual"]), rtol=1e-9)
    for other, rows in zip(whole[1:], icc[1:], strict=True):
        np.testing.assert_allclose(other, whole[0], rtol=1e-9)
        np.testing.assert_allclose(rows, icc[0], rtol=1e-9)


def test_the_parts_of_the_variance_sum_to_one(model):
    shares = inference.r2(model)
    np.testing.assert_allclose(shares[["fixed_within", "fixed_between", "group", "residual"]].sum(), 1.0)
    np.testing.assert_allclose(shares["conditional"], 1 - shares["residual"])


def test_intervals_of_predictions_widen_with_the_slope(model):
    new = pd.DataFrame({"days": [0.0, 9.0]})
    wide = inference.predict_interval(model, new, ["someone", "someone"])
    known = inference.predict_interval(model, new, ["308", "308"] if model.groups_.dtype == object else [308, 308])
    width = wide["upper"] - wide["lower"]
    assert width[1] > 1.5 * width[0]
    assert (known["upper"] - known["lower"] < width).all()
    line = inference.predict_interval(model, new, kind="population_mean")
    fixed = inference.fixed_effects(model)
    np.testing.assert_allclose(line.loc[0, ["lower", "upper"]], fixed.loc["(Intercept)", ["ci_lower", "ci_upper"]])


# ---- influence


def test_influence_with_slopes_is_that_of_fits_in_lme4(reference_mixed):
    frame, case = reference_mixed("E", "loo_sleepstudy_slope")
    subject = frame["Subject"].astype(str)
    model = MixedEffectsRegressor(random_effects="(1 + Days | Subject)").fit(
        frame[["Days"]], frame["Reaction"], groups=subject
    )
    table = inference.influence(model, frame[["Days"]], frame["Reaction"], subject)
    sigma = np.array(case["Sigma"]).reshape(-1, 2, 2)
    errors = np.sqrt(np.array(case["vcov_diag"]))
    expected = {
        "cooks_distance": case["cooks_distance"],
        "covratio": case["covratio"],
        "residual_variance": case["sigma2"],
        "variance (Intercept)": sigma[:, 0, 0],
        "variance Days": sigma[:, 1, 1],
        "covariance (Intercept), Days": sigma[:, 0, 1],
        "dfbetas Days": (model.coef_[0] - np.array(case["beta"])[:, 1]) / errors[:, 1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], np.ravel(values), rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("weight_type", ["precision", "frequency"])
def test_influence_is_that_of_refits_far_from_zero_with_weights(weight_type):
    X, y, groups = lines()
    X = X + 1000.0
    weights = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    make = MixedEffectsRegressor(random_effects="(1 + x | g)", weight_type=weight_type)
    model = make.fit(X, y, groups=groups, sample_weight=weights)
    table = inference.influence(model, X, y, groups, sample_weight=weights, only=[2, 5])
    assert list(table.index) == [2, 5]
    slope = model.coef_[0]
    for label in (2, 5):
        kept = groups != label
        other = MixedEffectsRegressor(random_effects="(1 + x | g)", weight_type=weight_type)
        other.fit(X[kept], y[kept], groups=groups[kept], sample_weight=weights[kept])
        np.testing.assert_allclose(table.loc[label, "variance x"], other.variance_components_["g x"], rtol=1e-7)
        np.testing.assert_allclose(
            table.loc[label, "dfbetas x"], (slope - other.coef_[0]) / np.sqrt(other.cov_fixed_[1, 1]), rtol=1e-6
        )


def test_influence_takes_the_rows_of_the_fit_only(model, sleepstudy):
    X, y, subject = sleepstudy
    with pytest.raises(ValueError, match="influence needs the rows"):
        inference.influence(model, X, y + 1.0, subject)
    with pytest.raises(ValueError, match="influence needs the rows"):
        inference.influence(model, X.iloc[:-1], y.iloc[:-1], subject.iloc[:-1])


def test_coefficients_that_are_left_out_do_not_take_the_place_of_the_one_that_is_tested():
    X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    expected = inference.random_effects_test(
        MixedEffectsRegressor(random_effects="(1 + days | s)").fit(X, y, groups=subject)
    )
    model = MixedEffectsRegressor(random_effects="(1 + days + twice | s)")
    with pytest.warns(DroppedColumnsWarning):
        model.fit(X.assign(twice=2.0 * X["days"]), y, groups=subject)
    table = inference.random_effects_test(model)
    np.testing.assert_allclose(table.loc[["(Intercept)", "days"]], expected, rtol=1e-9)
    assert table.loc["twice", "df"] == 0
    assert np.isnan(table.loc["twice", "p_value"])
    assert set(inference.format_table(table)["p_naive"]) == {"<0.001", "-"}


# ---- the same model in other words: shifted predictors, and outcomes that they explain nearly all of


@pytest.mark.parametrize("shift", [20.0, 100.0, 2000.0])
def test_profile_limits_of_slopes_and_residual_do_not_depend_on_the_origin(sleepstudy, model, shift):
    X, y, subject = sleepstudy
    moved = MixedEffectsRegressor(random_effects=SLEEPSTUDY).fit(X + shift, y, groups=subject)
    plain, found = inference.confidence_intervals(model), inference.confidence_intervals(moved)
    same = ["sd(days)", "sd(residual)"]
    np.testing.assert_allclose(found.loc[same], plain.loc[same], rtol=2e-6)
    # Far from the origin, the intercept is the slope times the distance, and the limits of the rest follow from it.
    lower, upper = found.loc["cor(Intercept, days)"]
    estimate = moved.covariance_["subject"].to_numpy()
    assert -1.0 < lower < estimate[0, 1] / np.sqrt(estimate[0, 0] * estimate[1, 1]) < upper < -0.9


def test_profile_limits_of_a_correlation_are_where_a_dense_profile_has_them(sleepstudy):
    X, y, subject = sleepstudy
    moved = MixedEffectsRegressor(random_effects=SLEEPSTUDY).fit(X + 20.0, y, groups=subject)
    np.testing.assert_allclose(
        inference.confidence_intervals(moved).loc["cor(Intercept, days)"], [-0.99387, -0.92754], atol=2e-5
    )


@pytest.fixture(scope="module")
def explained():
    """Rows, an outcome, and the same outcome plus a large multiple of the first column."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 6)
    X, effects = rng.normal(size=(72, 2)), rng.normal(size=(12, 2))
    y = 1 + X @ [2.0, 0.5] + effects[groups, 0] + effects[groups, 1] * X[:, 1] + 0.3 * rng.normal(size=72)
    return X, groups, y


@pytest.mark.parametrize("method", ["profile", None])
def test_limits_keep_their_digits_if_a_predictor_explains_nearly_everything(explained, method):
    X, groups, y = explained
    plain, *steep = (
        inference.confidence_intervals(
            MixedEffectsRegressor(random_effects="(1 + x1 | g)").fit(X, y + slope * X[:, 0], groups), method=method
        )
        for slope in (0.0, 1e3, 1e7)
    )
    for slope, found in zip((1e3, 1e7), steep, strict=True):
        expected = plain.copy()
        expected.loc["x0"] += slope
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12, err_msg=f"slope {slope:g}")


def test_influence_does_not_depend_on_what_a_predictor_explains(explained):
    X, groups, y = explained
    tables = [
        inference.influence(MixedEffectsRegressor(random_effects="(1 + x1 | g)").fit(X, outcome, groups), X, outcome, groups)
        for outcome in (y, y + 1e3 * X[:, 0])
    ]
    np.testing.assert_allclose(tables[1], tables[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("slope", [1e3, 1e7])
def test_parts_of_rows_keep_their_digits_if_a_predictor_explains_nearly_everything(explained, slope):
    X, groups, y = explained
    outcome, part = y + slope * X[:, 0], np.arange(len(y)) % 2 == 0
    whole = MixedEffectsRegressor(random_effects="(1 + x1 | g)").fit(X, outcome, groups)
    parts = MixedEffectsRegressor(random_effects="(1 + x1 | g)").fit(X[part], outcome[part], groups[part])
    updated = MixedEffectsRegressor(random_effects="(1 + x1 | g)").fit(X[part], outcome[part], groups[part])
    updated.update_random_effects(X[~part], outcome[~part], groups[~part])
    assert len(updated.random_effects_) == 12
    parts.partial_fit(X[~part], outcome[~part], groups[~part])
    np.testing.assert_allclose(parts.variance_components_, whole.variance_components_, rtol=1e-8)


def test_profile_limits_beside_a_redundant_column_are_those_without_it(explained):
    X, groups, y = explained
    twice = np.column_stack([X[:, 0], 2.0 * X[:, 0]])
    with pytest.warns(DroppedColumnsWarning):
        model = MixedEffectsRegressor(random_effects="(1 | g)").fit(twice, y, groups)
    plain = MixedEffectsRegressor(random_effects="(1 | g)").fit(X[:, :1], y, groups)
    table = inference.confidence_intervals(model, method="profile")
    np.testing.assert_allclose(table.drop(index="x1"), inference.confidence_intervals(plain, method="profile"), rtol=1e-6)
    assert table.loc["x1"].isna().all()


def test_refits_without_a_maximum_are_refused():
    # Restricted likelihood has a maximum for these rows, and full likelihood has none.
    sizes = np.random.default_rng(34)
    groups = np.repeat(np.arange(6), sizes.integers(1, 3, 6))
    x = sizes.normal(size=len(groups))
    y = x + sizes.normal(size=6)[groups] + sizes.normal(size=len(groups))
    with pytest.raises(ValueError, match="likelihood grows without bound"):
        MixedEffectsRegressor(random_effects="(1 + x0 | g)", method="ml").fit(x[:, None], y, groups)
    small, large = (
        MixedEffectsRegressor(random_effects=text).fit(x[:, None], y, groups) for text in ("(1 | g)", "(1 + x0 | g)")
    )
    with pytest.raises(ValueError, match="has no maximum"):
        inference.likelihood_ratio_test(small, large)
    with pytest.raises(ValueError, match="has no maximum"):
        inference.confidence_intervals(large, method="profile")


def test_columns_of_groups_keep_their_names_in_pipelines(explained):
    X, groups, y = explained
    frame = pd.DataFrame(X, columns=["x", "z"])
    steps = make_pipeline(StandardScaler(), MixedEffectsRegressor(random_effects="(1 + q | g)"))
    steps.fit(frame, y, mixedeffectsregressor__groups=pd.DataFrame({"g": groups, "q": X[:, 1]}))
    assert list(inference.fixed_effects(steps).index) == ["(Intercept)", "x", "z"]
