"""Residuals, fitted values beside the data, and known groups; for models, pipelines and searches."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from sklearn_mlm import ClusterRobustOLS, GroupsNotPassedWarning, RandomInterceptRegressor, WithinOLS, inference
from sklearn_mlm.inference import augment, known_groups, residuals


@pytest.fixture
def rows(design):
    X, y, groups = design
    frame = pd.DataFrame(X, columns=[*"abc"], index=pd.RangeIndex(100, 100 + len(y)))
    return frame, pd.Series(y, index=frame.index, name="math"), pd.Series(groups, index=frame.index, name="school")


def test_residuals_are_what_predictions_leave(rows):
    X, y, groups = rows
    model = RandomInterceptRegressor().fit(X, y, groups)
    tau2, sigma2 = model.variance_components_
    conditional, population = y - model.predict(X, groups), y - model.predict(X, "population")
    pd.testing.assert_series_equal(residuals(model, X, y, groups), conditional.rename("residual"))
    pd.testing.assert_series_equal(residuals(model, X, y, groups, kind="population"), population.rename("residual"))
    scaled = residuals(model, X, y, groups, scaled=True)
    np.testing.assert_allclose(scaled, conditional / np.sqrt(sigma2))
    scaled = residuals(model, X, y, groups, kind="population", scaled=True)
    np.testing.assert_allclose(scaled, population / np.sqrt(sigma2 + tau2))
    with pytest.raises(ValueError, match="kind must be one of 'conditional', 'population'"):
        residuals(model, X, y, groups, kind="pearson")
    with pytest.raises(ValueError, match="y must hold one value per row"):
        residuals(model, X, y.to_numpy()[1:], groups)


def test_scaled_residuals_allow_for_precisions(rows):
    X, y, groups = rows
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    model = RandomInterceptRegressor(weight_type="precision").fit(X, y, groups, weights)
    plain, sigma2 = residuals(model, X, y, groups), model.variance_components_["residual"]
    scaled = residuals(model, X, y, groups, scaled=True, sample_weight=weights)
    np.testing.assert_allclose(scaled, plain * np.sqrt(weights / sigma2))
    np.testing.assert_allclose(
        np.quantile(scaled, [0, 1]), model.summary(X, y, groups, sample_weight=weights).scaled_residuals.iloc[[0, -1]]
    )


def test_residuals_of_new_groups(rows):
    X, y, groups = rows
    known = groups < 8
    model = RandomInterceptRegressor(new_groups="nan").fit(X[known], y[known], groups[known])
    assert (residuals(model, X, y, groups).isna() == ~known).all()
    assert residuals(model, X, y, groups, kind="population").notna().all()
    model.set_params(new_groups="population")
    np.testing.assert_allclose(residuals(model, X, y, groups)[~known], (y - model.predict(X, "population"))[~known])


def test_nothing_is_scaled_by_zero():
    groups = np.repeat([0, 1, 2], 4)
    model = RandomInterceptRegressor().fit(None, np.sin(groups), groups)
    with pytest.raises(ValueError, match="no residual"):
        residuals(model, None, np.sin(groups), groups, scaled=True)
    assert augment(model, None, np.sin(groups), groups)[".scaled_resid"].isna().all()


def test_rows_with_what_the_model_says(rows):
    X, y, groups = rows
    model = RandomInterceptRegressor().fit(X, y, groups)
    table = augment(model, X, y, groups)
    assert list(table.columns) == [*"abc", "math", "school", ".fitted", ".fixed", ".resid", ".scaled_resid", ".known"]
    pd.testing.assert_frame_equal(table[[*"abc"]], X)
    np.testing.assert_allclose(table[".fitted"], model.predict(X, groups), rtol=1e-12)
    np.testing.assert_allclose(table[".fixed"], model.predict(X, "population"), rtol=1e-12)
    np.testing.assert_allclose(table[".resid"], y - table[".fitted"], atol=1e-12)
    assert table[".known"].all()
    assert not augment(model, X, y, groups + 1000)[".known"].any()
    column = RandomInterceptRegressor(group_feature="school").fit(X.assign(school=groups), y)
    pd.testing.assert_frame_equal(
        augment(column, X.assign(school=groups), y)[list(table.columns.drop("math"))], table.drop(columns="math")
    )
    plain = augment(model, X.to_numpy(), y.to_numpy(), groups.to_numpy())
    assert list(plain.columns)[:2] == ["math", "school"]


def test_known_groups_are_counted(rows):
    X, y, groups = rows
    model = RandomInterceptRegressor(new_groups="error").fit(X, y, groups)
    labels = [*groups[:3], 999, None]
    assert known_groups(model, X[:5], labels).to_dict() == {"known": 3, "new": 1, "missing": 1}
    assert model.new_groups == "error"
    assert known_groups(model, X[:5], "population").to_dict() == {"known": 0, "new": 0, "missing": 5}


@pytest.fixture
def pipeline(rows):
    """Return a pipeline that imputes, encodes and fits, and its rows: a messy frame with a column of groups."""
    X, y, groups = rows
    frame = X.assign(school=groups.map("school {}".format), size=np.where(X["b"] > 0, "large", "small"))
    frame.iloc[3, 0] = np.nan
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["a", "c"]),
            ("words", OneHotEncoder(drop="first", sparse_output=False), ["size"]),
            ("groups", "passthrough", ["school"]),
        ],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    return make_pipeline(columns, RandomInterceptRegressor(group_feature="school")).fit(frame, y), frame, y


def test_inference_takes_a_pipeline_and_a_search(pipeline):
    model, frame, y = pipeline
    search = GridSearchCV(model, {"randominterceptregressor__method": ["reml"]}, cv=KFold(3), scoring="r2").fit(frame, y)
    last, columns = model[-1], model[:-1].transform(frame)
    for each in (model, search):
        table = inference.fixed_effects(each)
        assert list(table.index) == ["(Intercept)", "a", "c", "size_small"]
        pd.testing.assert_frame_equal(table, inference.fixed_effects(last))
        pd.testing.assert_frame_equal(inference.predict_interval(each, frame), inference.predict_interval(last, columns))
        pd.testing.assert_series_equal(residuals(each, frame, y), residuals(last, columns, y))
        pd.testing.assert_series_equal(inference.r2(each, frame), inference.r2(last, columns))
        pd.testing.assert_frame_equal(inference.confidence_intervals(each), inference.confidence_intervals(last))
        pd.testing.assert_series_equal(
            inference.contrast_test(each, "a - c"), inference.contrast_test(last, {"a": 1, "c": -1})
        )
        pd.testing.assert_frame_equal(inference.glance(each), inference.glance(last))
        assert known_groups(each, frame)["known"] == len(frame)
        assert list(augment(each, frame, y).columns)[:6] == [*frame.columns, "math"]


def test_coefficients_have_the_names_of_the_steps_even_if_arrays_pass_between_them(rows):
    X, y, groups = rows
    model = make_pipeline(PolynomialFeatures(2, include_bias=False), RandomInterceptRegressor())
    model.fit(X[["a", "b"]], y, randominterceptregressor__groups=groups)
    assert list(inference.fixed_effects(model).index) == ["(Intercept)", "a", "b", "a^2", "a b", "b^2"]
    assert list(inference.term_tests(model, {"a": ["a", "a^2"]}).index) == ["a"]
    # By position, the group column has no coefficient.
    numbers = make_pipeline(StandardScaler(), RandomInterceptRegressor(group_feature=-1))
    numbers.fit(np.column_stack([X[["a"]], groups]), y)
    assert list(inference.fixed_effects(numbers).index) == ["(Intercept)", "x0"]


def test_models_that_end_in_something_else(rows):
    X, y, _ = rows
    with pytest.raises(TypeError, match=r"found Pipeline that ends in LinearRegression\.$"):
        inference.fixed_effects(make_pipeline(StandardScaler(), LinearRegression()).fit(X, y))
    within = make_pipeline(StandardScaler(), WithinOLS())
    within.fit(X, y, withinols__groups=rows[2])
    assert list(inference.fixed_effects(within).index) == ["a", "b", "c"]
    robust = make_pipeline(StandardScaler(), ClusterRobustOLS())
    robust.fit(X, y, clusterrobustols__groups=rows[2])
    assert list(inference.fixed_effects(robust).index) == ["(Intercept)", "a", "b", "c"]


def test_new_rows_have_no_outcome_yet(rows):
    X, y, groups = rows
    model = RandomInterceptRegressor().fit(X, y, groups)
    table = augment(model, X, groups=groups)
    assert list(table.columns) == [*"abc", "school", ".fitted", ".fixed", ".known"]
    np.testing.assert_allclose(table[".fitted"], model.predict(X, groups))


def test_rows_whose_columns_have_the_names_of_the_outcome_and_the_groups(rows):
    X, y, groups = rows
    labels = [(label, "a") for label in groups]
    frame = X.rename(columns={"a": "y", "b": "group"})
    model = RandomInterceptRegressor().fit(frame, y.to_numpy(), groups=labels)
    table = augment(model, frame, y.to_numpy(), labels)
    assert list(table.columns[:5]) == ["y", "group", "c", ".y", ".group"]
    np.testing.assert_array_equal(table[".y"], y)
    assert table[".group"].tolist() == labels
    gaps = augment(model, frame, y.where(np.arange(len(y)) > 0).to_numpy(), labels)
    np.testing.assert_allclose(gaps[".fitted"], table[".fitted"])
    assert np.isnan(gaps[".resid"].iloc[0])


def test_the_population_needs_no_groups(rows):
    X, y, groups = rows
    model = RandomInterceptRegressor(new_groups="error").fit(X, y, groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert residuals(model, X, y, kind="population").equals(residuals(model, X, y, groups, kind="population"))
        inference.predict_interval(model, X, [999] * len(y), kind="population_mean")
    with pytest.warns(GroupsNotPassedWarning) as caught:
        residuals(model, X, y)
    assert caught[0].filename == __file__
    null = RandomInterceptRegressor(new_groups="error").fit(None, y, groups)
    line = inference.predict_interval(null, None, [999, 0], kind="population_mean")
    np.testing.assert_allclose(line["prediction"], null.intercept_)
    with pytest.raises(ValueError, match=r"X is None, but the model was fitted with 3 predictor"):
        inference.predict_interval(model, None, [0, 1], kind="population_mean")


def test_a_row_of_no_precision_has_no_scale(rows):
    X, y, groups = rows
    weights = np.arange(len(y)) % 2.0
    model = RandomInterceptRegressor(weight_type="precision").fit(X, y, groups, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = residuals(model, X, y, groups, scaled=True, sample_weight=weights)
    assert (scaled.isna() == (weights == 0)).all()
    np.testing.assert_allclose(
        model.summary().scaled_residuals, model.summary(X, y, groups, sample_weight=weights).scaled_residuals
    )


def test_intervals_of_a_pipeline_of_arrays_keep_the_index(rows):
    X, y, groups = rows
    model = make_pipeline(StandardScaler(), RandomInterceptRegressor())
    model.fit(X, y, randominterceptregressor__groups=groups)
    assert inference.predict_interval(model, X, groups.to_numpy()).index.equals(X.index)
