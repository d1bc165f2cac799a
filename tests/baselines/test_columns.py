"""Comparisons of factors, of what pipelines make of columns, and of weighted rows."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures, StandardScaler

from sklearn_mlm import ClusterRobustOLS, RandomInterceptRegressor, WithinOLS, compare_with_ols, inference
from sklearn_mlm.baselines._columns import with_dummies


@pytest.fixture
def rows(design):
    X, y, groups = design
    frame = pd.DataFrame(X, columns=[*"abc"]).assign(
        sector=np.where(X[:, 2] > 0, "public", "private"), size=pd.cut(X[:, 0], [-9, -1, 1, 9], labels=[*"SML"])
    )
    return frame, pd.Series(y, name="math"), pd.Series(groups, name="school")


def same(comparison, other):
    for table in ("coefficients", "predictions", "within_between"):
        pd.testing.assert_frame_equal(getattr(comparison, table), getattr(other, table), check_exact=False, rtol=1e-10)
    assert comparison.icc == pytest.approx(other.icc, rel=1e-12)


def test_factors_are_dummies(rows):
    X, y, groups = rows
    numbers = pd.DataFrame(
        {
            "a": X["a"],
            "sector_public": (X["sector"] == "public").astype(float),
            "size_M": (X["size"] == "M").astype(float),
            "size_L": (X["size"] == "L").astype(float),
        }
    )
    expected = compare_with_ols(numbers, y, groups, random_state=0)
    chosen = X[["a", "sector", "size"]]
    same(compare_with_ols(chosen, y, groups, factors=["sector", "size"], random_state=0), expected)
    codes = chosen.assign(size=X["size"].cat.codes)
    by_code = compare_with_ols(codes, y, groups, factors=["sector", "size"], random_state=0)
    assert list(by_code.coefficients.index.unique(0))[-2:] == ["size_1", "size_2"]
    np.testing.assert_allclose(by_code.coefficients, expected.coefficients)
    one = compare_with_ols(X[["a", "sector"]], y, groups, factors="sector", random_state=0)
    assert list(one.coefficients.index.unique(0)) == ["(Intercept)", "a", "sector_public"]


def test_dummies_of_frames():
    frame = pd.DataFrame({"x": [1, 2, 3], "f": pd.Categorical(["b", "c", "b"], categories=[*"abc"])})
    assert list(with_dummies(frame, "f").columns) == ["x", "f_c"]
    table = pl.DataFrame({"x": [1, 2, 3], "f": ["b", "c", "b"]})
    pd.testing.assert_frame_equal(with_dummies(table, ["f"]), with_dummies(frame, ["f"]))
    with pytest.raises(ValueError, match="'g', which is not a column of X: 'x', 'f'"):
        with_dummies(frame, ["f", "g"])
    with pytest.raises(ValueError, match="X is a ndarray without names"):
        with_dummies(np.zeros((2, 2)), "f")
    with pytest.raises(ValueError, match=r"Factor 'f' has 1 missing value\(s\) in 3 rows"):
        with_dummies(frame.assign(f=["a", None, "b"]), "f")


def test_a_pipeline_is_taken_as_it_is(rows):
    X, y, groups = rows
    gaps = X.assign(a=X["a"].where(np.arange(len(y)) % 9 > 0), school=groups)
    columns = ColumnTransformer(
        [
            ("a", make_pipeline(SimpleImputer(), StandardScaler()), ["a"]),
            ("sector", OneHotEncoder(drop="first", sparse_output=False), ["sector"]),
        ],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = make_pipeline(columns, RandomInterceptRegressor(group_feature="school"))
    made = columns.fit_transform(gaps[["a", "sector", "school"]])
    expected = compare_with_ols(made.drop(columns="school"), y, groups, random_state=0)
    chosen = gaps[["a", "sector", "school"]]
    for steps in (model, clone(model).fit(chosen, y)):
        same(compare_with_ols(chosen, y, preprocessing=steps, random_state=0), expected)
    without_labels = clone(columns).set_params(remainder="drop")
    same(compare_with_ols(chosen, y, groups, preprocessing=without_labels, random_state=0), expected)
    # Labels that are passed take the place of those in the column, which is no predictor.
    same(compare_with_ols(chosen, y, groups, preprocessing=model, random_state=0), expected)
    column_alone = RandomInterceptRegressor(group_feature="school")
    same(
        compare_with_ols(X[["a"]].assign(school=groups), y, preprocessing=column_alone, random_state=0),
        compare_with_ols(X[["a"]], y, groups, random_state=0),
    )


def test_columns_that_a_pipeline_passes_on_as_arrays_have_names(rows):
    X, y, groups = rows
    comparison = compare_with_ols(X[["a", "b"]], y, groups, preprocessing=PolynomialFeatures(2, include_bias=False))
    assert list(comparison.coefficients.index.unique(0))[1:] == ["a", "b", "a^2", "a b", "b^2"]
    nameless = compare_with_ols(X[["a"]].to_numpy(), y, groups, preprocessing=FunctionTransformer())
    assert list(nameless.coefficients.index.unique(0)) == ["(Intercept)", "x0"]
    with pytest.raises(ValueError, match="preprocessing must be a transformer"):
        compare_with_ols(X[["a"]], y, groups, preprocessing=ClusterRobustOLS)
    with pytest.raises(ValueError, match="factors and preprocessing are both given"):
        compare_with_ols(X, y, groups, factors="sector", preprocessing=StandardScaler())
    with pytest.raises(ValueError, match="groups must hold the group label of each row"):
        compare_with_ols(X[["a"]], y, preprocessing=StandardScaler())


def test_weights_are_copies_of_rows(rows):
    X, y, groups = rows
    copies = np.random.default_rng(0).integers(1, 4, len(y))
    weighted = compare_with_ols(X[[*"abc"]], y, groups, sample_weight=copies, random_state=0)
    at = np.repeat(np.arange(len(y)), copies)
    repeated = compare_with_ols(X[[*"abc"]].iloc[at], y.iloc[at], groups.iloc[at], random_state=0)
    robust = weighted.coefficients.index.get_level_values("model") == "cluster-robust OLS"
    pd.testing.assert_frame_equal(weighted.coefficients[~robust], repeated.coefficients[~robust], rtol=1e-9)
    pd.testing.assert_frame_equal(weighted.within_between, repeated.within_between, rtol=1e-9)
    for figure in ("icc", "residual_icc", "design_effect", "effective_sample_size", "n_samples"):
        assert getattr(weighted, figure) == pytest.approx(getattr(repeated, figure), rel=1e-9)
    robust_fit = ClusterRobustOLS(cov_type="CR2").fit(X[[*"abc"]], y, groups, copies)
    errors = weighted.coefficients.loc[robust, "std_error"]
    np.testing.assert_allclose(errors, np.sqrt(np.diag(robust_fit.cov_fixed_)), rtol=1e-9)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 250.0])
def test_weights_are_precisions(rows, unit):
    X, y, groups = rows
    weights = unit * np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    comparison = compare_with_ols(X[[*"abc"]], y, groups, sample_weight=weights, weight_type="precision", random_state=0)
    table = comparison.coefficients
    mixed = RandomInterceptRegressor(weight_type="precision").fit(X[[*"abc"]], y, groups, weights)
    expected = inference.fixed_effects(mixed)[["estimate", "std_error", "df", "p_value"]]
    np.testing.assert_allclose(table.xs("random intercept", level="model"), expected, rtol=1e-8)
    for name, model in (
        ("pooled OLS", ClusterRobustOLS(cov_type="nonrobust")),
        ("cluster-robust OLS", ClusterRobustOLS(cov_type="CR2")),
        ("within", WithinOLS()),
    ):
        fitted = inference.fixed_effects(model.fit(X[[*"abc"]], y, groups, weights))
        ours = table.xs(name, level="model").dropna()
        columns = ["estimate", "std_error", "df"]
        np.testing.assert_allclose(ours[columns], fitted.loc[ours.index, columns], rtol=1e-8)
    report = inference.clustering_report(mixed)
    assert comparison.icc == pytest.approx(report["icc"], rel=1e-9)
    assert comparison.effective_sample_size == pytest.approx(report["effective_sample_size"], rel=1e-9)
    with pytest.raises(ValueError, match="weight_type must be one of"):
        compare_with_ols(X[[*"abc"]], y, groups, sample_weight=weights, weight_type="analytic")


def test_the_weights_have_the_meaning_that_the_model_gives_them(rows):
    X, y, groups = rows
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    model = make_pipeline(StandardScaler(), RandomInterceptRegressor(weight_type="precision"))
    options = {"preprocessing": model, "sample_weight": weights, "random_state": 0}
    comparison = compare_with_ols(X[["a"]], y, groups, **options)
    same(comparison, compare_with_ols(X[["a"]], y, groups, weight_type="precision", **options))
    copies = compare_with_ols(X[["a"]], y, groups, weight_type="frequency", **options)
    assert f"{weights.sum():.1f} rows in" in str(copies)
    assert f"the {weights.sum():.1f} rows count as" in " ".join(copies.conclusions)


def test_sparse_columns_and_labels_that_differ(rows):
    X, y, groups = rows
    encoder = ColumnTransformer([("sector", OneHotEncoder(drop="first"), ["sector"]), ("a", "passthrough", ["a"])])
    comparison = compare_with_ols(X, y, groups, preprocessing=encoder, random_state=0)
    assert list(comparison.coefficients.index.unique(0)) == ["(Intercept)", "sector__sector_public", "a__a"]
    model = RandomInterceptRegressor(group_feature="school")
    with pytest.warns(UserWarning, match="groups and the group column 'school' of X differ in"):
        compare_with_ols(X[["a"]].assign(school=groups), y, groups % 5, preprocessing=model)
    twice = pd.concat([X[["sector"]], X[["sector"]]], axis=1)
    with pytest.raises(ValueError, match="unique names; found 'sector' twice"):
        compare_with_ols(twice, y, groups, factors="sector")


def test_errors_of_weighted_rows_are_weighted(rows):
    X, y, groups = rows
    zero = np.arange(len(y)) % 7 == 0
    weights = np.where(zero, 0.0, 1.0)
    without = compare_with_ols(X.loc[~zero, ["a"]], y[~zero], groups[~zero], random_state=0)
    same(compare_with_ols(X[["a"]], y, groups, sample_weight=weights, random_state=0), without)


def test_a_long_table_is_cut_where_it_is_printed(rows):
    _, y, groups = rows
    many = pd.DataFrame(np.random.default_rng(0).standard_normal((len(y), 20)), columns=[f"x{i}" for i in range(20)])
    comparison = compare_with_ols(many, y, groups, random_state=0)
    text = str(comparison)
    assert "9 more are in the attribute coefficients." in text
    assert "8 more are in the attribute within_between." in text
    assert len(comparison.coefficients.index.unique(0)) == 21
    assert len(text.splitlines()) < 110
