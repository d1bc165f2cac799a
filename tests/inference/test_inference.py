"""Degrees of freedom against a numerical Hessian of a dense likelihood, and tables."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from designs import simulate
from scipy import stats
from sklearn.linear_model import LinearRegression

from sklearn_mlm import (
    ClusterRobustOLS,
    GroupedMoments,
    GroupsNotPassedWarning,
    RandomInterceptRegressor,
    WithinOLS,
    inference,
)
from sklearn_mlm.inference._fixed_effects import coefficient_table, variances_and_df
from sklearn_mlm.likelihood._fit import fit_moments
from sklearn_mlm.likelihood._options import Options


def dense_satterthwaite(X, y, groups, tau2, sigma2, reml, contrasts):
    """Satterthwaite's df in (tau2, sigma2) by central differences of the textbook likelihood."""
    Z = (groups[:, None] == np.unique(groups)).astype(float)

    def pieces(theta):
        V = theta[0] * Z @ Z.T + theta[1] * np.eye(len(y))
        solved = np.linalg.solve(V, np.column_stack([X, y]))
        information = X.T @ solved[:, :-1]
        covariance = np.linalg.inv(information)
        residuals = y - X @ covariance @ (X.T @ solved[:, -1])
        value = np.linalg.slogdet(V)[1] + residuals @ np.linalg.solve(V, residuals)
        return value + (np.linalg.slogdet(information)[1] if reml else 0.0), covariance

    at, step = np.array([tau2, sigma2]), 1e-3 * np.array([tau2, sigma2])
    e = np.diag(step)
    hessian = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            corners = [pieces(at + a * e[i] + b * e[j])[0] * a * b for a in (1, -1) for b in (1, -1)]
            hessian[i, j] = sum(corners) / (4 * step[i] * step[j])
    slopes = [(pieces(at + e[i])[1] - pieces(at - e[i])[1]) / (2 * step[i]) for i in range(2)]
    df = []
    for contrast in contrasts:
        gradient = np.array([contrast @ slope @ contrast for slope in slopes])
        variance = contrast @ pieces(at)[1] @ contrast
        df.append(2 * variance**2 / (gradient @ (2 * np.linalg.inv(hessian)) @ gradient))
    return np.array(df)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_satterthwaite_is_that_of_the_dense_likelihood(reml, seed):
    X, y, groups = simulate(12, 6, 2, seed=seed)
    fit = fit_moments(GroupedMoments.from_arrays(X, y, groups), Options("reml" if reml else "ml"))
    assert fit.boundary is None
    contrasts = np.vstack([np.eye(3), [0.0, 1.0, -1.0]])
    _, df = variances_and_df(fit, "satterthwaite", contrasts)
    solution = fit.solution
    columns = np.column_stack([np.ones(len(y)), X])
    expected = dense_satterthwaite(columns, y, groups, solution.group_variance, solution.residual_variance, reml, contrasts)
    # Central differences with steps of a thousandth.
    np.testing.assert_allclose(df, expected, rtol=1e-4)


def test_the_hessian_is_the_second_derivative_of_the_profile_where_sigma2_is_profiled_out():
    X, y, groups = simulate(12, 6, 2)
    for reml in (True, False):
        fit = fit_moments(GroupedMoments.from_arrays(X, y, groups), Options("reml" if reml else "ml"))
        (gg, gs), (_, ss) = fit.hessian
        np.testing.assert_allclose(gg - gs**2 / ss, fit.criterion().derivatives(fit.solution.ratio)[1], rtol=1e-10)
        root = fit.whiten(np.eye(3))
        np.testing.assert_allclose(root @ root.T, fit.covariance, rtol=1e-12)


def test_the_derivatives_of_the_covariance_are_numerical_ones():
    X, y, groups = simulate(12, 6, 2)
    fit = fit_moments(GroupedMoments.from_arrays(X, y, groups), Options())
    criterion, ratio = fit.criterion(), fit.solution.ratio
    step = 1e-5 * ratio
    # B_XX^-1 alone: the covariance over sigma2, which is profiled out.
    low, high = (criterion.solution(r) for r in (ratio - step, ratio + step))
    slope = (high.covariance / high.residual_variance - low.covariance / low.residual_variance) / (2 * step)
    root = fit.whiten(np.eye(3))
    by_ratio, by_log_sigma2 = (root @ derivative @ root.T for derivative in fit.covariance_derivatives)
    np.testing.assert_allclose(by_ratio / fit.residual_variance, slope, rtol=1e-6)
    np.testing.assert_allclose(by_log_sigma2, fit.covariance, rtol=1e-12)


def test_at_the_boundaries():
    X, y, groups = simulate(12, 6, 2, tau=0.0, seed=1)
    for reml in (True, False):
        fit = fit_moments(GroupedMoments.from_arrays(X, y, groups), Options("reml" if reml else "ml"))
        fit = replace(fit, solution=fit.criterion().solution(0.0), boundary="group")
        _, df = variances_and_df(fit, "satterthwaite", np.eye(3))
        np.testing.assert_allclose(df, len(y) - 3 if reml else len(y), rtol=1e-14)
    fit = fit_moments(GroupedMoments.from_arrays(X, np.sin(groups), groups), Options())
    assert fit.boundary == "residual"
    _, df = variances_and_df(fit, "satterthwaite", np.eye(3))
    np.testing.assert_allclose(df, [len(np.unique(groups)) - 2, np.nan, len(np.unique(groups)) - 2], rtol=1e-14)


def test_a_table_of_coefficients():
    table = coefficient_table(np.array([2.0, 1.0, 0.0]), np.array([0.25, 0.0, 0.0]), np.full(3, 10.0), ["a", "b", "c"], [2])
    assert table.loc["a"].tolist() == [2.0, 0.5, 10.0, 2 * stats.t.sf(4.0, 10)]
    # b is known without error, c was dropped.
    assert table.loc["b", ["estimate", "std_error"]].tolist() == [1.0, 0.0]
    assert np.isnan(table.loc["b", "p_value"])
    assert table.loc["c"].isna().all()


# ---- the functions that take models


@pytest.fixture
def model(design):
    X, y, groups = design
    return RandomInterceptRegressor().fit(pd.DataFrame(X, columns=["a", "b", "c"]), y, groups=groups)


def test_fixed_effects_by_each_kind_of_df(model, design):
    table = inference.fixed_effects(model)
    assert list(table.index) == ["(Intercept)", "a", "b", "c"]
    assert list(table.columns) == ["estimate", "std_error", "df", "t", "p_value", "ci_lower", "ci_upper"]
    n = len(design[1])
    for ddf, df in (("residual", n - 4), ("normal", np.inf)):
        other = inference.fixed_effects(model, ddf=ddf, level=0.9)
        assert (other["df"] == df).all()
        half = stats.t.ppf(0.95, df) * other["std_error"]
        np.testing.assert_allclose(other["ci_upper"] - other["estimate"], half, rtol=1e-12)
    kenward_roger = inference.fixed_effects(model, ddf="kenward_roger")
    assert (kenward_roger["std_error"] >= table["std_error"]).all()
    with pytest.raises(ValueError, match="ddf must be one of"):
        inference.fixed_effects(model, ddf="lme4")
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        inference.fixed_effects(model, level=95)
    with pytest.raises(ValueError, match=r'fit it by REML \(method="reml"'):
        inference.fixed_effects(RandomInterceptRegressor(method="ml").fit(*design[:2], design[2]), ddf="kenward_roger")


def test_fixed_effects_of_least_squares(design):
    X, y, groups = design
    model = ClusterRobustOLS().fit(X, y, groups)
    table = inference.fixed_effects(model)
    assert list(table.index) == ["(Intercept)", "x0", "x1", "x2"]
    np.testing.assert_array_equal(table["df"], model.df_)
    np.testing.assert_allclose(table["std_error"] ** 2, np.diag(model.cov_fixed_))
    within = inference.fixed_effects(WithinOLS().fit(X[:, :2], y, groups))
    assert list(within.index) == ["x0", "x1"]


def test_one_contrast_is_the_row_of_the_table(model):
    for ddf in ("satterthwaite", "kenward_roger", "residual", "normal"):
        row = inference.fixed_effects(model, ddf=ddf).loc["b"]
        test = inference.contrast_test(model, [0, 0, 1, 0], ddf=ddf)
        np.testing.assert_allclose(test, row[list(test.index)], rtol=1e-10)


def test_several_contrasts_do_not_depend_on_how_they_are_written(model):
    L = np.eye(4)[1:]
    turned = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0], [3.0, 0.0, 1.0]]) @ L
    for ddf in ("satterthwaite", "kenward_roger", "residual", "normal"):
        tests = [inference.contrast_test(model, rows, ddf=ddf) for rows in (L, turned, np.vstack([L, L[0] + L[1]]))]
        for test in tests[1:]:
            np.testing.assert_allclose(test[["F", "df1"]], tests[0][["F", "df1"]], rtol=1e-8)
            # Satterthwaite's df of several contrasts are averaged over axes that depend on how the contrasts are written.
            if ddf != "satterthwaite":
                np.testing.assert_allclose(test, tests[0], rtol=1e-8)
    covariance = model.cov_fixed_[1:, 1:]
    wald = model.coef_ @ np.linalg.solve(covariance, model.coef_) / 3
    np.testing.assert_allclose(inference.contrast_test(model, L)["F"], wald, rtol=1e-10)


def test_five_balanced_groups_have_four_degrees_of_freedom_without_a_warning():
    groups = np.repeat(np.arange(5), 4)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y = 2.0 * rng.normal(size=5)[groups] + rng.normal(size=20)
        model = RandomInterceptRegressor().fit(None, y, groups=groups)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = inference.fixed_effects(model, ddf="kenward_roger")
        np.testing.assert_allclose(table["df"], 4.0, rtol=1e-9)


@pytest.mark.parametrize("n_groups", [3, 4, 5, 6])
def test_a_predictor_of_few_balanced_groups_has_the_t_test_of_their_means(n_groups):
    groups = np.repeat(np.arange(n_groups), 10)
    treated = np.arange(n_groups) < n_groups // 2
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y = 2.0 * rng.normal(size=n_groups)[groups] + rng.normal(size=groups.size)
        model = RandomInterceptRegressor().fit(treated[groups, None].astype(float), y, groups=groups)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            row = inference.fixed_effects(model, ddf="kenward_roger").iloc[1]
        assert row["df"] == pytest.approx(n_groups - 2, rel=1e-9)
        means = y.reshape(n_groups, 10).mean(axis=1)
        if model.boundary_ is None:
            assert row["p_value"] == pytest.approx(stats.ttest_ind(means[treated], means[~treated]).pvalue, rel=1e-6)


def test_balanced_f_tests_are_exact():
    # In a balanced design with a group-level factor both methods give the F test of group means.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 5)
    kind = np.arange(12) % 3
    X = np.column_stack([kind[groups] == 1, kind[groups] == 2]).astype(float)
    y = rng.standard_normal(12)[groups] + X @ [1.0, 2.0] + rng.standard_normal(60)
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    means = pd.Series(y).groupby(groups).mean().to_numpy()
    expected = stats.f_oneway(*(means[kind == k] for k in range(3)))
    for ddf in ("satterthwaite", "kenward_roger"):
        test = inference.contrast_test(model, np.eye(3)[1:], ddf=ddf)
        np.testing.assert_allclose(test, [expected.statistic, 2, 9, expected.pvalue], rtol=1e-7)


def test_bad_contrasts(model, design):
    with pytest.raises(ValueError, match=r"L must have a weight for each of the 4 fixed effects.*found shape \(3,\)"):
        inference.contrast_test(model, [1, 0, 0])
    X, y, groups = design
    with pytest.warns(UserWarning, match="depend"):
        collinear = RandomInterceptRegressor().fit(np.column_stack([X, X[:, 0]]), y, groups=groups)
    with pytest.raises(ValueError, match="has no variance"):
        inference.contrast_test(collinear, [0, 0, 0, 0, 1])
    assert inference.fixed_effects(collinear).loc["x3"].isna().all()


def test_intervals_by_each_method(model):
    wald = inference.confidence_intervals(model, method="wald")
    assert list(wald.index) == ["sd(group)", "sd(residual)", "icc", "(Intercept)", "a", "b", "c"]
    half = stats.norm.ppf(0.975) * np.sqrt(np.diag(model.cov_fixed_))
    np.testing.assert_allclose(wald["upper"][3:] - wald["lower"][3:], 2 * half, rtol=1e-12)
    assert wald[:3].isna().all(axis=None)
    exact = inference.confidence_intervals(model, method="exact", level=0.8)
    assert exact.loc[["sd(residual)", "icc"]].notna().all(axis=None)
    assert exact.drop(index=["sd(residual)", "icc"]).isna().all(axis=None)
    assert exact.loc["icc", "lower"] < model.icc_ < exact.loc["icc", "upper"]
    default = inference.confidence_intervals(model, level=0.8)
    pd.testing.assert_frame_equal(default[1:3], exact[1:3])
    effects = inference.fixed_effects(model, level=0.8)[["ci_lower", "ci_upper"]]
    np.testing.assert_array_equal(default[3:], effects)
    sd = np.sqrt(model.variance_components_["group"])
    assert default.loc["sd(group)", "lower"] < sd < default.loc["sd(group)", "upper"]
    profile = inference.confidence_intervals(model, method="profile")
    assert (profile["lower"] < profile["upper"]).all()
    with pytest.raises(ValueError, match="method must be one of"):
        inference.confidence_intervals(model, method="bayes")


def test_an_estimate_outside_its_interval_is_explained():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(1000), 4)
    between = rng.normal(size=1000)
    x = between[groups] + rng.normal(size=4000)
    y = 3 * between[groups] + rng.normal(size=1000)[groups] + 2 * rng.normal(size=4000)
    model = RandomInterceptRegressor().fit(x[:, None], y, groups=groups)
    with pytest.warns(
        UserWarning, match=r"The estimate of sd\(group\), 2.688, is outside its interval.*group means"
    ) as caught:
        limits = inference.confidence_intervals(model).loc["sd(group)"]
    assert caught[0].filename == __file__
    assert not limits["lower"] < np.sqrt(model.variance_components_["group"]) < limits["upper"]
    means = pd.Series(x).groupby(groups).transform("mean")
    right = RandomInterceptRegressor().fit(np.column_stack([x, means]), y, groups=groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limits = inference.confidence_intervals(right)
        inference.confidence_intervals(model, method="profile")
        inference.confidence_intervals(model, method="exact")
    sd = np.sqrt(right.variance_components_["group"])
    assert limits.loc["sd(group)", "lower"] < sd < limits.loc["sd(group)", "upper"]


def test_nested_models(design):
    X, y, groups = design
    small, large = (RandomInterceptRegressor().fit(columns, y, groups=groups) for columns in (X[:, :1], X))
    table = inference.likelihood_ratio_test(small=small, large=large)
    for name, columns in (("small", X[:, :1]), ("large", X)):
        ml = RandomInterceptRegressor(method="ml").fit(columns, y, groups=groups)
        expected = [ml.aic_, ml.bic_, ml.log_likelihood_, ml.criterion_]
        np.testing.assert_allclose(table.loc[name, ["aic", "bic", "log_likelihood", "deviance"]], expected, rtol=1e-12)
    chi2 = table.loc["small", "deviance"] - table.loc["large", "deviance"]
    np.testing.assert_allclose(table.loc["large", ["chi2", "df", "p_value"]], [chi2, 2, stats.chi2.sf(chi2, 2)], rtol=1e-9)
    np.testing.assert_array_equal(inference.likelihood_ratio_test(large=large, small=small), table)
    with pytest.raises(ValueError, match="different rows, groups or outcomes"):
        inference.likelihood_ratio_test(small, RandomInterceptRegressor().fit(X, y + groups, groups=groups))
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    named = [RandomInterceptRegressor().fit(frame[names], y, groups=groups) for names in (["a"], ["b", "c"])]
    with pytest.raises(ValueError, match="Only model 1 has a"):
        inference.likelihood_ratio_test(*named)


def dense_prediction(X, groups, tau2, sigma2, x, group):
    """Variance of the prediction of a group's mean at x, by the dense mixed model."""
    Z = (groups[:, None] == np.unique(groups)).astype(float)
    V = tau2 * Z @ Z.T + sigma2 * np.eye(len(groups))
    k = tau2 * (groups == group)
    solved = np.linalg.solve(V, np.column_stack([X, k]))
    information = X.T @ solved[:, :-1]
    if group is None:
        return x @ np.linalg.solve(information, x)
    d = x - X.T @ solved[:, -1]
    return tau2 - k @ solved[:, -1] + d @ np.linalg.solve(information, d)


@pytest.mark.parametrize("kind", ["observation", "group_mean", "population_mean"])
@pytest.mark.parametrize("group", [3, 999])
def test_intervals_of_predictions_are_those_of_the_dense_model(design, kind, group):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    tau2, sigma2 = model.variance_components_
    columns, x = np.column_stack([np.ones(len(y)), X]), np.array([1.0, 0.3, -1.0, 2.0])

    def variance(t, s):
        of = None if kind == "population_mean" else group
        return dense_prediction(columns, groups, t, s, x, of) + (s if kind == "observation" else 0.0)

    step = 1e-5
    gradient = [
        (variance(tau2 * (1 + step), sigma2) - variance(tau2 * (1 - step), sigma2)) / (2 * step * tau2),
        (variance(tau2, sigma2 * (1 + step)) - variance(tau2, sigma2 * (1 - step))) / (2 * step * sigma2),
    ]
    # From (gamma, log sigma2) to (tau2, sigma2).
    jacobian = np.array([[1 / sigma2, -tau2 / sigma2**2], [0.0, 1 / sigma2]])
    hessian = jacobian.T @ model.fit_.hessian @ jacobian
    df = 2 * variance(tau2, sigma2) ** 2 / (gradient @ (2 * np.linalg.inv(hessian)) @ gradient)
    interval = inference.predict_interval(model, x[None, 1:], groups=[group], kind=kind, level=0.9).iloc[0]
    half = stats.t.ppf(0.95, df) * np.sqrt(variance(tau2, sigma2))
    np.testing.assert_allclose(interval["upper"] - interval["prediction"], half, rtol=1e-6)
    of = "population" if kind == "population_mean" else [group]
    np.testing.assert_allclose(interval["prediction"], model.predict(x[None, 1:], groups=of)[0], rtol=1e-12)


def test_intervals_of_predictions_by_their_kind(design, model):
    row = pd.DataFrame([[0.3, -1.0, 2.0]], columns=["a", "b", "c"])
    widths = {
        (kind, group): float(np.ptp(inference.predict_interval(model, row, groups=[group], kind=kind)[["lower", "upper"]]))
        for kind in ("observation", "group_mean", "population_mean")
        for group in (3, 999)
    }
    assert widths["population_mean", 3] == widths["population_mean", 999]
    assert widths["population_mean", 999] < widths["group_mean", 999] < widths["observation", 999]
    assert widths["group_mean", 3] < widths["group_mean", 999]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line = inference.predict_interval(model, row, kind="population_mean").iloc[0]
    test = inference.contrast_test(model, [1.0, 0.3, -1.0, 2.0])
    np.testing.assert_allclose(line, test[["estimate", "ci_lower", "ci_upper"]], rtol=1e-12)
    for old, new in (
        ("mean", "group_mean.*population_mean"),
        ("confidence", "population_mean"),
        ("prediction", "observation"),
    ):
        with pytest.raises(ValueError, match=f"kind='{old}' does not say what the interval is for.*{new}"):
            inference.predict_interval(model, row, groups=[3], kind=old)
    with pytest.raises(ValueError, match="kind must be one of 'observation', 'group_mean', 'population_mean'"):
        inference.predict_interval(model, row, groups=[3], kind="row")


def test_shares_of_variance_sum_to_one(model, design):
    X, _, groups = design
    shares = inference.r2(model)
    assert shares[["fixed_within", "fixed_between", "group", "residual"]].sum() == pytest.approx(1.0)
    fixed = X @ model.coef_
    means = pd.Series(fixed).groupby(groups).transform("mean").to_numpy()
    total = np.var(fixed, ddof=1) + model.variance_components_.sum()
    np.testing.assert_allclose(shares["marginal"], np.var(fixed, ddof=1) / total, rtol=1e-10)
    np.testing.assert_allclose(shares["fixed_between"], np.var(means, ddof=1) / total, rtol=1e-10)
    assert inference.icc(model, kind="unadjusted") == pytest.approx(shares["group"])
    with pytest.raises(ValueError, match="kind must be"):
        inference.icc(model, kind="raw")


def test_the_report_on_clustering(model, design):
    _, y, groups = design
    report = inference.clustering_report(model)
    sizes = np.unique(groups, return_counts=True)[1]
    null = RandomInterceptRegressor().fit(None, y, groups=groups)
    expected = [len(y), len(sizes), sizes.min(), sizes.mean(), np.median(sizes), sizes.max(), null.icc_]
    np.testing.assert_allclose(report.iloc[:7], expected, rtol=1e-10)
    np.testing.assert_allclose(report["effective_sample_size"], len(y) / report["design_effect"])


@pytest.mark.parametrize("unit", [1e-8, 1e-3, 0.005, 1.0, 1e6])
def test_shares_and_the_report_do_not_depend_on_the_unit_of_precision_weights(design, unit):
    X, y, groups = design
    weights = np.exp(np.random.default_rng(0).standard_normal(len(y)))
    model, other = (
        RandomInterceptRegressor(weight_type="precision").fit(X, y, groups, scale * weights) for scale in (1.0, unit)
    )
    # tau2 and the variance of the fixed part have no unit of the weights, and sigma2 is that of a row of weight 1.
    tau2, sigma2 = model.variance_components_
    fixed = inference.r2(model)["marginal"] / inference.r2(model)["residual"] * sigma2
    expected = fixed / (fixed + tau2 + unit * sigma2)
    np.testing.assert_allclose(inference.r2(other)["marginal"], expected, rtol=1e-9)
    np.testing.assert_allclose(inference.icc(other, kind="unadjusted"), tau2 / (fixed + tau2 + unit * sigma2), rtol=1e-9)
    np.testing.assert_allclose(inference.clustering_report(other), inference.clustering_report(model), rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-4, 1.0, 100.0])
def test_equal_precisions_cluster_as_rows_without_weights(design, unit):
    X, y, groups = design
    weighted = RandomInterceptRegressor(weight_type="precision").fit(X, y, groups, np.full(len(y), unit))
    np.testing.assert_allclose(
        inference.clustering_report(weighted),
        inference.clustering_report(RandomInterceptRegressor().fit(X, y, groups)),
        rtol=1e-9,
    )
    # The variance of the fixed part over the rows, each counted once.
    np.testing.assert_allclose(inference.r2(weighted), inference.r2(weighted, X, groups), rtol=1e-9)


def test_a_variance_of_one_row_is_refused(model, design):
    X, _, groups = design
    with pytest.raises(ValueError, match=r"a variance takes two rows at least; found n_samples=1"):
        inference.r2(model, X[:1], groups[:1])


def test_models_that_are_not_mixed_are_refused(design):
    X, y, groups = design
    with pytest.raises(TypeError, match=r"must be a RandomInterceptRegressor or Mixed.*found ClusterRobustOLS"):
        inference.r2(ClusterRobustOLS().fit(X, y, groups))
    with pytest.warns(GroupsNotPassedWarning):
        without = RandomInterceptRegressor().fit(X, y)
    with pytest.raises(ValueError, match="was fitted without groups"):
        inference.random_intercept_test(without)
    with pytest.raises(ValueError, match="method must be one of"):
        inference.random_intercept_test(RandomInterceptRegressor().fit(X, y, groups), method="chi2")


def test_where_sigma2_is_zero(design):
    X, _, groups = design
    model = RandomInterceptRegressor().fit(X[:, :1], X[:, 0] + np.sin(groups), groups=groups)
    assert model.boundary_ == "residual"
    with pytest.raises(ValueError, match="no maximum to profile about"):
        inference.confidence_intervals(model, method="profile")
    # With nothing within groups, the effects are seen as they are, and their mean square is chi-squared.
    limits = inference.confidence_intervals(model).loc["sd(group)"]
    free = len(np.unique(groups)) - 1
    expected = np.sqrt(model.variance_components_["group"] * free / stats.chi2.ppf([0.975, 0.025], free))
    np.testing.assert_allclose(limits, expected, rtol=1e-9)
    assert inference.fixed_effects(model).loc["(Intercept)", "df"] == len(np.unique(groups)) - 1
    interval = inference.predict_interval(model, X[:1, :1], groups=[999])
    assert (interval["upper"] > interval["lower"]).all()


@pytest.mark.filterwarnings("ignore:y is constant")
def test_a_constant_outcome_has_nothing_to_infer(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, np.ones(len(y)), groups=groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = inference.fixed_effects(model, ddf="kenward_roger")
        assert (table["std_error"] == 0).all()
        assert table["p_value"].isna().all()
        interval = inference.predict_interval(model, X[:2], groups[:2], kind="observation")
        np.testing.assert_allclose(interval, 1.0)
        assert np.isnan(inference.clustering_report(model)["icc"])
        assert "Intraclass correlation -" in str(model.summary())
    for call in (inference.random_intercept_test, lambda model: inference.confidence_intervals(model, method="profile")):
        with pytest.raises(ValueError, match=r"constant|no residual"):
            call(model)
    assert np.isnan(inference.confidence_intervals(model).loc["sd(group)"]).all()


@pytest.mark.parametrize("parameters", [{"fit_intercept": False}, {"method": "ml"}, {"weight_type": "precision"}])
def test_every_kind_of_model_is_inferred_about_without_a_warning(design, parameters):
    X, y, groups = design
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    model = RandomInterceptRegressor(**parameters).fit(X, y, groups, weights)
    restored = pickle.loads(pickle.dumps(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in (model, restored):
            assert inference.fixed_effects(each).notna().all(axis=None)
            assert inference.confidence_intervals(each).notna().all(axis=None)
            assert inference.random_intercept_test(each, n_simulations=200, random_state=0)["p_value"] <= 1
            assert "groups (group) 12" in str(each.summary())
    k = len(model.cov_fixed_)
    assert list(inference.contrast_test(model, np.eye(k)).index) == ["F", "df1", "df2", "p_value"]


def test_bad_arguments_are_named(model):
    with pytest.raises(ValueError, match=r"level must be between 0 and 1.*found '95%'"):
        inference.fixed_effects(model, level="95%")
    for L in (np.full(4, np.nan), np.zeros(4), np.zeros((0, 4))):
        with pytest.raises(ValueError, match="L must hold numbers, not all of them 0"):
            inference.contrast_test(model, L)
    rows = pd.DataFrame(np.zeros((2, 3)), columns=["a", "b", "c"])
    for weights, message in (([1.0], "one weight per row"), ([1.0, 0.0], "sample_weight must be positive")):
        with pytest.raises(ValueError, match=message):
            inference.predict_interval(model, rows, groups=[3, 4], kind="observation", sample_weight=weights)
    with pytest.raises(TypeError, match=r"model must be a model of this package, or a pipeline.*found LinearRegression"):
        inference.fixed_effects(LinearRegression().fit(rows, [0.0, 1.0]))


def test_contrasts_of_any_size(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    for ddf in ("satterthwaite", "kenward_roger"):
        one = inference.contrast_test(model, [0, 1, -1, 0], ddf=ddf)
        two = inference.contrast_test(model, [[0, 1, 0, 0], [0, 0, 1, 0]], ddf=ddf)
        for size in (1e-200, 1e200):
            for L in ([0, size, -size, 0], [[0, 0, 0, 0], [0, size, -size, 0], [0, -size, size, 0]]):
                test = inference.contrast_test(model, L, ddf=ddf)
                np.testing.assert_allclose(
                    test[["estimate", "std_error"]], one[["estimate", "std_error"]] * size, rtol=1e-13
                )
                np.testing.assert_allclose(test[["df", "t", "p_value"]], one[["df", "t", "p_value"]], rtol=1e-13)
            test = inference.contrast_test(model, [[0, size, 0, 0], [0, 0, size, 0]], ddf=ddf)
            np.testing.assert_allclose(test, two, rtol=1e-12)


def test_intervals_of_predictions_keep_the_index(design):
    X, y, groups = design
    index = [f"row {i}" for i in range(len(y))][::-1]
    frame, labels = pd.DataFrame(X, index=index), pd.Series(groups, index=index)
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    expected = inference.predict_interval(model, X, groups=groups)
    assert list(expected.index) == list(range(len(y)))
    for rows, of in ((frame, groups), (frame, labels), (X, labels)):
        table = inference.predict_interval(model, rows, groups=of)
        assert list(table.index) == index
        np.testing.assert_allclose(table, expected, rtol=1e-14)


def test_several_contrasts_do_not_depend_on_how_their_hypothesis_is_written():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 30, 600)
    x, w = rng.normal(size=(2, 600))
    years = rng.integers(2000, 2021, 600).astype(float)
    y = rng.normal(size=30)[groups] + rng.normal(size=600)

    def test_of(columns, L, ddf):
        return inference.contrast_test(
            RandomInterceptRegressor().fit(np.column_stack(columns), y, groups=groups), L, ddf=ddf
        )

    def powers(z):
        return [z, z**2, z**3]

    slopes = [np.eye(k)[1:] for k in range(5)]
    for ddf in ("satterthwaite", "kenward_roger", "residual", "normal"):
        # Nearly parallel in the data's coordinates, since year 0 is far away.
        far, skew = (test_of([years], L, ddf) for L in (np.eye(2), [[1, 0], [1, 1]]))
        np.testing.assert_allclose(skew["F"], far["F"], rtol=1e-8)
        for close, apart, rtol in (
            ([x, x + 1e-4 * w], [x, w], 1e-6),
            ([x, x + 1e-5 * w], [x, w], 1e-3),
            (powers(years), powers(years - 2010), 1e-4),
            ([x + 1e6], [x], 1e-8),
        ):
            found, expected = (test_of(columns, slopes[len(close) + 1], ddf) for columns in (close, apart))
            np.testing.assert_allclose(found.iloc[:1], expected.iloc[:1], rtol=rtol)
        # Rows that depend on those before them count for nothing.
        for L in ([[0, 1, 0], [0, 2, 0]], [[0, 1, 0], [0, -1, 0]], [[0, 0, 0], [0, 1, 0]]):
            np.testing.assert_allclose(test_of([x, w], L, ddf), test_of([x, w], [0, 1, 0], ddf), rtol=1e-13)
        L = np.vstack([np.eye(3), [1, 1, 0]])
        np.testing.assert_allclose(test_of([x, w], L, ddf), test_of([x, w], np.eye(3), ddf), rtol=1e-12)


def test_an_f_test_is_that_of_the_covariance_of_its_contrasts(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    L = np.array([[1.0, 2.0, 0.0, -1.0], [0.0, 0.5, 0.3, 1.0]])
    estimates = L @ np.append(model.intercept_, model.coef_)
    plain = float(estimates @ np.linalg.solve(L @ model.cov_fixed_ @ L.T, estimates)) / 2
    test = inference.contrast_test(model, L)
    np.testing.assert_allclose(test["F"], plain, rtol=1e-11)
    with pytest.warns(UserWarning, match="depend on the columns before"):
        other = RandomInterceptRegressor().fit(np.column_stack([X, X[:, 0]]), y, groups=groups)
    with pytest.raises(ValueError, match="has no variance"):
        inference.contrast_test(other, [[0, 1, 0, 0, 0], [0, 1, 0, 0, 1]])


def _boundary_design(boundary):
    """Rows whose fit has no group variance, no residual variance, or both of them positive."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(10), 6)
    X, y = rng.standard_normal((60, 1)), rng.standard_normal(60)
    if boundary == "residual":
        return None, rng.standard_normal(10)[groups], groups
    return X, y + (3.0 * rng.standard_normal(10)[groups] if boundary is None else 0.0), groups


@pytest.mark.parametrize("boundary", [None, "group", "residual"])
@pytest.mark.parametrize("unit", [1e-100, 1e-80, 1e80, 1e100])
def test_degrees_of_freedom_do_not_depend_on_the_unit_of_y(boundary, unit):
    X, y, groups = _boundary_design(boundary)
    fits = [RandomInterceptRegressor().fit(X, y * scale, groups) for scale in (1.0, unit)]
    assert [fit.boundary_ for fit in fits] == [boundary, boundary]
    df, scaled = (inference.fixed_effects(fit)["df"] for fit in fits)
    np.testing.assert_allclose(scaled, df, rtol=1e-10)
    np.testing.assert_allclose(df, {"group": 58.0, "residual": 9.0}.get(boundary, df), rtol=1e-14)
    rows = None if X is None else X[:2]
    limits, scaled = (inference.predict_interval(fit, rows, groups[:2]) for fit in fits)
    np.testing.assert_allclose(scaled / unit, limits, rtol=1e-10)


@pytest.mark.parametrize("weight", [1.0, 1e7, 1e13])
def test_joint_tests_without_group_variance_have_all_degrees_of_freedom(weight):
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(10), 6)
    X, y = rng.standard_normal((10, 6, 3)), rng.standard_normal((10, 6))
    X, y = (X - X.mean(axis=1, keepdims=True)).reshape(60, 3), (y - y.mean(axis=1, keepdims=True)).ravel()
    model = RandomInterceptRegressor().fit(X, y, groups, np.full(60, weight))
    assert model.boundary_ == "group"
    assert inference.contrast_test(model, np.eye(4)[1:])["df2"] == pytest.approx(60 * weight - 4, rel=1e-12)
