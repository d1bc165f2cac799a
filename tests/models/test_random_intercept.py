"""The estimator: inputs, predictions, attributes, and errors for bad input."""

import inspect
import pickle
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from designs import assert_same_fit, simulate
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_mlm import ClusterRobustOLS, GroupedMoments, RandomInterceptRegressor, WithinOLS, inference
from sklearn_mlm.datasets import load_sleepstudy, make_schools
from sklearn_mlm.models import DroppedColumnsWarning


def fit(X, y, groups, sample_weight=None, **parameters):
    return RandomInterceptRegressor(**parameters).fit(X, y, groups=groups, sample_weight=sample_weight)


# ---- scikit-learn's own checks

VARIANTS = [
    RandomInterceptRegressor(),
    RandomInterceptRegressor(method="ml"),
    RandomInterceptRegressor(fit_intercept=False),
    RandomInterceptRegressor(weight_type="precision"),
]


class WithGroups(RegressorMixin, BaseEstimator):
    """A wrapper that makes groups from the bits of the data, so that the checks fit a real multilevel model."""

    def __init__(self, method="reml"):
        self.method = method

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _groups(self, X):
        X = X.tocsr() if sparse.issparse(X) else X
        first = X[:, [0]].toarray().ravel() if sparse.issparse(X) else _first_column(X)
        return (np.abs(np.nan_to_num(first.real, posinf=0.0, neginf=0.0) * 1000).astype(int) % 3).astype(str)

    def fit(self, X, y, sample_weight=None):
        """Fit with groups."""
        self.model_ = RandomInterceptRegressor(method=self.method)
        groups = None
        try:
            groups = self._groups(X)
            if len(set(groups)) < 2 or len(set(groups)) == len(groups):
                groups = None
        except (ValueError, TypeError, IndexError, AttributeError, FloatingPointError):
            pass  # the model itself reports what is wrong with X
        self.model_.fit(X, y, groups=groups, sample_weight=sample_weight)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.model_, name):
                setattr(self, name, getattr(self.model_, name))
        return self

    def predict(self, X):
        """Predict with groups."""
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse=["csr", "csc"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings that X has names
            return self.model_.predict(X, groups=self._groups(X))


def _first_column(X):
    column = np.asarray(X.iloc[:, 0] if hasattr(X, "iloc") else np.asarray(X)[:, 0])
    return column if column.dtype.kind == "c" else column.astype(float)


# Equivalence of weights is checked with groups too, because the group of a row depends on the row only.
@parametrize_with_checks([*VARIANTS, WithGroups(), WithGroups(method="ml")])
@pytest.mark.filterwarnings("ignore:fit was given no groups", "ignore:.*of X depend", "ignore:The likelihood is the same")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array])
def test_frequency_weights_are_copies_of_rows(convert, method, fit_intercept):
    X, y, groups = simulate(20, 6)
    counts = np.random.default_rng(0).integers(0, 4, len(y))
    options = {"method": method, "fit_intercept": fit_intercept}
    weighted = fit(convert(X), y, groups, counts, **options)
    copied = fit(convert(np.repeat(X, counts, axis=0)), np.repeat(y, counts), np.repeat(groups, counts), **options)
    dropped = fit(convert(X[counts > 0]), y[counts > 0], groups[counts > 0], counts[counts > 0], **options)
    for other in (copied, dropped):
        assert_same_fit(weighted, other)
        np.testing.assert_allclose(weighted.cov_fixed_, other.cov_fixed_, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(weighted.log_likelihood_, other.log_likelihood_, rtol=1e-12)
        np.testing.assert_allclose(weighted.predict(X, groups), other.predict(X, groups), rtol=1e-10)


def test_precision_weights_differ_from_copies_in_the_number_of_observations():
    X, y, groups = simulate(20, 6)
    doubled = np.full(len(y), 2.0)
    precise, plain = fit(X, y, groups, doubled, weight_type="precision"), fit(X, y, groups)
    # If every row has half the variance, only sigma2 of the model changes.
    tau2, sigma2 = plain.variance_components_
    np.testing.assert_allclose(precise.variance_components_, [tau2, 2 * sigma2], rtol=1e-12)
    np.testing.assert_allclose(precise.coef_, plain.coef_, rtol=1e-12)
    np.testing.assert_allclose(precise.log_likelihood_, plain.log_likelihood_, rtol=1e-13)
    copies = fit(X, y, groups, doubled)
    assert abs(copies.variance_components_["residual"] / sigma2 - 1) > 1e-3
    # A row of weight 0 is left out with either meaning of weights.
    some = doubled * (np.arange(len(y)) % 3 > 0)
    kept = some > 0
    zeroed = fit(X, y, groups, some, weight_type="precision")
    assert_same_fit(zeroed, fit(X[kept], y[kept], groups[kept], some[kept], weight_type="precision"))
    assert zeroed.moments_.n_rows.sum() == kept.sum()


# ---- metamorphic relations


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_the_order_of_rows_makes_no_difference(design, method):
    X, y, groups = design
    order = np.random.default_rng(0).permutation(len(y))
    assert_same_fit(fit(X[order], y[order], groups[order], method=method), fit(X, y, groups, method=method))


def test_the_names_of_groups_make_no_difference(design):
    X, y, groups = design
    names = np.array([f"group {j}" for j in np.random.default_rng(0).permutation(groups.max() + 1)], dtype=object)
    renamed, plain = fit(X, y, names[groups]), fit(X, y, groups)
    np.testing.assert_allclose(renamed.variance_components_, plain.variance_components_, rtol=1e-12)
    np.testing.assert_allclose(renamed.random_effects_[names[plain.groups_]], plain.random_effects_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("x_scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("y_scale", [1e-8, 1.0, 1e8])
def test_units_make_no_difference(design, x_scale, y_scale):
    X, y, groups = design
    assert_same_fit(fit(X * x_scale, y * y_scale, groups), fit(X, y, groups), 1e-10, x_scale, y_scale)


def test_where_zero_lies_makes_no_difference(design):
    X, y, groups = design
    # Values are rounded so that the shifted doubles are exact and the results must agree to all digits.
    X, y = np.round(X * 2**20) / 2**20, np.round(y * 2**20) / 2**20
    plain = fit(X, y, groups)
    shifted = fit(X + 1e8, y - 1e8, groups)
    assert_same_fit(shifted, plain)
    np.testing.assert_allclose(shifted.intercept_ + 1e8 + 1e8 * shifted.coef_.sum(), plain.intercept_, atol=1e-6)
    mean, std = shifted.predict(X + 1e8, groups, return_std=True)
    np.testing.assert_allclose(mean + 1e8, plain.predict(X, groups), atol=1e-6)
    np.testing.assert_allclose(std, plain.predict(X, groups, return_std=True)[1], rtol=1e-9)


def test_rows_in_any_parts_give_the_same(design):
    X, y, groups = design
    plain = fit(X, y, groups)
    rng = np.random.default_rng(0)
    for n_parts in (2, 7, len(y)):
        part = rng.integers(0, n_parts, len(y))
        parts = [GroupedMoments.from_arrays(X[part == k], y[part == k], groups[part == k]) for k in range(n_parts)]
        merged = RandomInterceptRegressor().fit_moments(GroupedMoments.merge(parts))
        assert_same_fit(merged, plain)
        np.testing.assert_allclose(merged.predict(X, groups), plain.predict(X, groups), rtol=1e-10)


# ---- inputs

FORMS = {
    "Fortran order": np.asfortranarray,
    "read-only": lambda X: _read_only(X),
    "float32": lambda X: X.astype(np.float32),
    "integers": lambda X: X.astype(int),
    "pandas": lambda X: pd.DataFrame(X, columns=list("abc")),
    "nullable pandas": lambda X: pd.DataFrame(X.astype(int), columns=list("abc")).astype("Int64"),
    "pandas on pyarrow": lambda X: pd.DataFrame(X, columns=list("abc")).astype(pd.ArrowDtype(pa.float64())),
    "polars": lambda X: pl.DataFrame(X, schema=list("abc"), orient="row"),
    "pyarrow": lambda X: pa.Table.from_pandas(pd.DataFrame(X, columns=list("abc"))),
    "CSR": sparse.csr_matrix,
    "CSC": sparse.csc_array,
    "lists": lambda X: X.tolist(),
}


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_x_y_and_groups_gives_the_same_model(form):
    X, y, groups = simulate()
    X, y = np.round(4 * X), np.round(8 * y)
    plain = fit(X, y, groups)
    column = {"polars": pl.Series, "pyarrow": pa.array, "lists": list, "pandas": pd.Series}.get(form, np.asarray)
    model = fit(FORMS[form](X), column(y), column(groups.astype(str)), column(np.ones(len(y))))
    np.testing.assert_allclose(model.variance_components_, plain.variance_components_, rtol=1e-12)
    np.testing.assert_allclose(
        model.predict(FORMS[form](X), column(groups.astype(str))), plain.predict(X, groups), rtol=1e-12
    )
    assert hasattr(model, "feature_names_in_") == (
        form in {"pandas", "nullable pandas", "pandas on pyarrow", "polars", "pyarrow"}
    )


def test_sparse_x_is_never_made_dense(monkeypatch):
    X, y, groups = simulate(40, 30, 4, level_2=False)
    X = sparse.csr_array(np.where(np.random.default_rng(0).random(X.shape) < 0.3, X, 0.0))
    largest = []
    original = sparse.csr_array.toarray

    def watched(self, *args, **kwargs):
        largest.append(self.shape[0])
        return original(self, *args, **kwargs)

    dense = fit(X.toarray(), y, groups)
    monkeypatch.setattr("sklearn_mlm.moments._rows._MIN_BLOCK_ROWS", 64)
    monkeypatch.setattr("sklearn_mlm.moments._rows._BLOCK_BYTES", 0)
    monkeypatch.setattr(sparse.csr_array, "toarray", watched)
    model = fit(X, y, groups)
    assert 0 < max(largest) <= 64 < X.shape[0]
    assert_same_fit(model, dense)


def test_the_null_model_by_none_and_by_a_frame_of_groups_alone():
    schools = make_schools(30, 400, as_frame=True, random_state=0)
    by_none = RandomInterceptRegressor().fit(None, schools.target, groups=schools.groups)
    by_frame = RandomInterceptRegressor(group_feature="school").fit(schools.frame[["school"]], schools.target)
    by_array = RandomInterceptRegressor(group_feature=0).fit(schools.frame[["school"]].to_numpy(), schools.target)
    for model in (by_frame, by_array):
        np.testing.assert_allclose(model.variance_components_, by_none.variance_components_, rtol=1e-10)
        np.testing.assert_allclose(model.random_effects_, by_none.random_effects_, rtol=1e-10)
        assert model.n_features_in_ == 1
        assert model.coef_.tolist() == [0.0]
    assert by_none.n_features_in_ == 0
    assert by_none.coef_.shape == (0,)
    rows = schools.frame[["school"]].iloc[:5]
    np.testing.assert_allclose(by_frame.predict(rows), by_none.predict(None, groups=rows["school"]), rtol=1e-14)
    np.testing.assert_allclose(
        by_none.score(None, schools.target, groups=schools.groups), by_frame.score(schools.frame[["school"]], schools.target)
    )
    np.testing.assert_allclose(
        by_none.predict(None, groups=[1, 10**9], return_std=True)[1],
        by_frame.predict(pd.DataFrame({"school": [1, 10**9]}), return_std=True)[1],
    )


def test_without_intercept_and_columns_only_groups_are_left():
    y = np.array([1.0, 1.5, -2.0, -1.0, 0.5, 0.0])
    groups = [0, 0, 1, 1, 2, 2]
    model = fit(None, y, groups, fit_intercept=False)
    assert model.intercept_ == 0.0
    assert model.cov_fixed_.shape == (0, 0)
    assert 0 < model.icc_ < 1


@pytest.mark.parametrize("key", ["g", 2, -1])
def test_the_group_feature_takes_the_place_of_groups(key):
    X, y, groups = simulate(n_columns=2)
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(g=pd.Series(groups).map("group {:02}".format))
    plain = fit(X, y, groups)
    model = RandomInterceptRegressor(group_feature=key).fit(frame, y)
    # The group column is not a predictor, but has a coefficient of 0, so that names and coefficients align.
    np.testing.assert_allclose(model.coef_, [*plain.coef_, 0.0], rtol=1e-12)
    np.testing.assert_allclose(model.variance_components_, plain.variance_components_, rtol=1e-12)
    assert model.n_features_in_ == 3
    assert model.moments_.feature_names == ("a", "b")
    assert list(model.feature_names_in_) == ["a", "b", "g"]
    np.testing.assert_allclose(model.predict(frame), plain.predict(X, groups), rtol=1e-12)
    np.testing.assert_allclose(model.score(frame, y), r2_score(y, plain.predict(X, groups)), rtol=1e-12)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "c"}))


def test_groups_given_take_the_place_of_the_group_feature(design):
    X, y, groups = design
    with_column = np.column_stack([X, np.zeros(len(y))])
    model = RandomInterceptRegressor(group_feature=3).fit(with_column, y, groups=groups)
    plain = fit(X, y, groups)
    np.testing.assert_allclose(model.coef_, [*plain.coef_, 0.0], rtol=1e-12)
    np.testing.assert_allclose(model.random_effects_, plain.random_effects_, rtol=1e-10)
    np.testing.assert_allclose(model.predict(with_column, groups), fit(X, y, groups).predict(X, groups))


def test_unused_categories_are_ignored():
    X, y, groups = simulate()
    categories = pd.Categorical(groups, categories=range(-5, 100))
    model = fit(X, y, categories)
    assert model.n_groups_ == len(set(groups))
    assert_same_fit(model, fit(X, y, groups))


# ---- predictions


def test_a_known_group_a_new_group_and_no_group(design):
    X, y, groups = design
    model = fit(X, y, groups)
    population = model.intercept_ + X[:4] @ model.coef_
    np.testing.assert_allclose(model.predict(X[:4], "population"), population)
    np.testing.assert_allclose(model.predict(X[:4], groups=[None] * 4), population)
    conditional = model.predict(X[:4], groups=[3, 999, np.nan, 5])
    np.testing.assert_allclose(conditional - population, [model.random_effects_[3], 0, 0, model.random_effects_[5]])
    nan = model.set_params(new_groups="nan").predict(X[:4], groups=[3, 999, np.nan, 5])
    np.testing.assert_array_equal(np.isnan(nan), [False, True, False, False])
    with pytest.raises(ValueError, match=r"1 label\(s\) that fit has not seen, among them \[999\.0\]"):
        model.set_params(new_groups="error").predict(X[:4], groups=[3, 999, np.nan, 5])


def test_empirical_bayes_is_the_shrunken_mean_residual(design):
    X, y, groups = design
    model = fit(X, y, groups)
    tau2, sigma2 = model.variance_components_
    residuals = pd.Series(y - model.predict(X, "population")).groupby(groups).agg(["mean", "size"])
    reliability = tau2 / (tau2 + sigma2 / residuals["size"])
    np.testing.assert_allclose(model.random_effects_, reliability * residuals["mean"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_standard_deviation_is_that_of_the_mixed_model_equations(design, fit_intercept):
    X, y, groups = design
    model = fit(X, y, groups, fit_intercept=fit_intercept)
    tau2, sigma2 = model.variance_components_
    # Henderson: the inverse of the coefficient matrix is the joint covariance of (beta, u - u_hat).
    fixed = np.column_stack([np.ones(len(y)), X]) if fit_intercept else X
    Z = (groups[:, None] == model.groups_.to_numpy()).astype(float)
    joint = np.column_stack([fixed, Z])
    penalty = np.diag(np.append(np.zeros(fixed.shape[1]), np.full(Z.shape[1], sigma2 / tau2)))
    covariance = sigma2 * np.linalg.inv(joint.T @ joint + penalty)
    mean, std = model.predict(X, groups, return_std=True)
    np.testing.assert_allclose(std, np.sqrt(np.einsum("ij,jk,ik->i", joint, covariance, joint)), rtol=1e-9)
    np.testing.assert_allclose(mean, model.predict(X, groups))
    _, new = model.predict(X, np.full(len(y), -1), return_std=True)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", fixed, model.cov_fixed_, fixed) + tau2)
    np.testing.assert_allclose(new, expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict(X, "population", return_std=True)[1], expected, rtol=1e-9)
    sparse_std = model.predict(sparse.csr_array(X), groups, return_std=True)[1]
    np.testing.assert_allclose(sparse_std, std, rtol=1e-12)


def test_blocks_of_rows_make_no_difference_to_predictions(design, monkeypatch):
    X, y, groups = design
    model = fit(X, y, groups)
    whole = model.predict(X, groups, return_std=True)
    monkeypatch.setattr("sklearn_mlm.likelihood._fit._BLOCK_NUMBERS", 12)
    np.testing.assert_allclose(model.predict(X, groups, return_std=True), whole, rtol=1e-13)


def test_score_is_r2_of_the_predictions_with_groups(design):
    X, y, groups = design
    weights = np.random.default_rng(0).random(len(y))
    model = fit(X, y, groups)
    expected = r2_score(y, model.predict(X, groups), sample_weight=weights)
    assert model.score(X, y, groups, weights) == expected
    assert model.score(X, y, "population") < model.score(X, y, groups)


# ---- attributes


def test_attributes_have_their_kinds(design):
    X, y, groups = design
    model = fit(X, y, groups)
    tau2, sigma2 = model.variance_components_
    assert list(model.variance_components_.index) == ["group", "residual"]
    assert isinstance(model.icc_, float)
    assert model.icc_ == tau2 / (tau2 + sigma2)
    assert isinstance(model.intercept_, float)
    assert model.random_effects_.index.equals(model.groups_)
    assert model.n_groups_ == len(model.groups_) == 12
    assert model.criterion_ == -2 * model.log_likelihood_
    np.testing.assert_allclose(model.aic_, model.criterion_ + 2 * 6)
    np.testing.assert_allclose(model.bic_, model.criterion_ + np.log(len(y)) * 6)
    assert model.boundary_ is None


def test_a_fitted_model_holds_no_rows():
    sizes = []
    for n_rows in (2_000, 200_000):
        X, y, groups = simulate(50, n_rows // 50, 3)
        model = fit(X, y, groups)
        assert all(getattr(value, "size", 0) < 1000 for value in vars(model).values())
        sizes.append(len(pickle.dumps(model)))
    assert abs(sizes[1] - sizes[0]) < 100


def test_pickle_and_clone_keep_what_they_should(design):
    X, y, groups = design
    model = fit(X, y, groups, method="ml", new_groups="nan")
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(X, groups, return_std=True), model.predict(X, groups, return_std=True))
    assert clone(model).get_params() == model.get_params()
    assert not hasattr(clone(model), "coef_")


def test_documented_defaults_are_the_defaults():
    documented = dict(
        re.findall(r"^    (\w+) : .*default=(.+)$", inspect.getdoc(RandomInterceptRegressor).replace("\n", "\n    "), re.M)
    )
    actual = {name: repr(value).replace("'", '"') for name, value in RandomInterceptRegressor().get_params().items()}
    assert documented == actual


def test_parameters_are_keyword_only():
    with pytest.raises(TypeError):
        RandomInterceptRegressor("ml")


def test_metadata_requests_exist():
    with config_context(enable_metadata_routing=True):
        model = RandomInterceptRegressor().set_fit_request(groups=True).set_predict_request(groups=True)
        model.set_score_request(groups=True, sample_weight=True)
        assert model.get_metadata_routing().fit.requests["groups"] is True


# ---- without groups


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_without_groups_it_is_least_squares_and_says_how_to_pass_them(design, fit_intercept):
    X, y, _ = design
    with pytest.warns(UserWarning, match=r"no groups, so the model is.*groups=.*group_feature.*help") as caught:
        model = RandomInterceptRegressor(fit_intercept=fit_intercept).fit(X, y)
    assert caught[0].filename == __file__
    ols = LinearRegression(fit_intercept=fit_intercept).fit(X, y)
    np.testing.assert_allclose(model.coef_, ols.coef_, rtol=1e-11)
    np.testing.assert_allclose(model.intercept_, ols.intercept_, rtol=1e-11)
    rank = X.shape[1] + fit_intercept
    rss = ((y - ols.predict(X)) ** 2).sum()
    np.testing.assert_allclose(model.variance_components_, [0.0, rss / (len(y) - rank)], rtol=1e-12)
    assert model.n_groups_ == 0
    assert len(model.random_effects_) == 0
    np.testing.assert_allclose(model.predict(X, groups=np.zeros(len(y))), ols.predict(X), rtol=1e-11)
    assert model.boundary_ == "group"


# ---- bad input, one row of the table for each

BAD_FITS = {
    "NaN in X": (lambda X, y, g: (_with(X, np.nan), y, g), r"Column 0 of X has 1 missing value\(s\)"),
    "inf in X": (lambda X, y, g: (_with(X, np.inf), y, g), "Column 0 of X holds infinity in 1"),
    "NaN in sparse X": (lambda X, y, g: (sparse.csr_array(_with(X, np.nan)), y, g), "Column 0 of X has 1 missing"),
    "NaN in y": (lambda X, y, g: (X, _with(y, np.nan), g), r"y has 1 missing value\(s\)"),
    "NaN in weights": (lambda X, y, g: (X, y, g, _with(np.ones(len(y)), np.nan)), r"sample_weight has 1 missing value\(s\)"),
    "missing labels": (lambda X, y, g: (X, y, _with(g.astype(float), np.nan)), r"groups has 1 missing label\(s\)"),
    "lengths of X and y": (lambda X, y, g: (X[:-1], y, g), "inconsistent numbers of samples"),
    "length of groups": (lambda X, y, g: (X, y, g[:-2]), r"groups of shape \(\d+,\) for \d+ rows"),
    "groups in two dimensions": (lambda X, y, g: (X, y, g[:, None]), r"one-dimensional.*found shape \(\d+, 1\)"),
    "one group": (lambda X, y, g: (X, y, np.full(len(y), 7)), r"one group only \(7\)"),
    "every group a row": (lambda X, y, g: (X, y, np.arange(len(y))), "is a single row.*only.identified"),
    "no more rows than columns": (lambda X, y, g: (X[:4], y[:4], [0, 0, 1, 1]), "n_samples=4 and 4 independent"),
    "negative weights": (lambda X, y, g: (X, y, g, -np.ones(len(y))), "sample_weight must not be negative"),
    "all weights zero": (lambda X, y, g: (X, y, g, np.zeros(len(y))), "sample_weight is zero in every row"),
    "no y": (lambda X, y, g: (X, None, g), "requires y"),
    "no X, no y": (lambda X, y, g: (None, None, g), "requires y"),
    "two outcomes": (lambda X, y, g: (X, np.column_stack([y, y]), g), "1d array"),
    "text": (lambda X, y, g: (X.astype(str).astype(object) + "?", y, g), "Column 0 of X must hold numbers; found strings"),
}  # fmt: skip


def _with(array, value):
    array = array.copy()
    array.flat[3] = value
    return array


@pytest.mark.parametrize("case", BAD_FITS)
def test_a_bad_fit_says_why_and_leaves_the_model_as_it_was(case):
    X, y, groups = simulate()
    model = fit(X, y, groups)
    before = vars(model).copy()
    change, message = BAD_FITS[case]
    with pytest.raises(ValueError, match=message):
        model.fit(*change(X[:, :], y, groups))
    with pytest.raises(ValueError, match=message):
        RandomInterceptRegressor().fit(*change(X, y, groups))
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is before[name] for name in before)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "REML"}, "method must be one of 'reml', 'ml'; found 'REML'"),
        ({"new_groups": "ignore"}, "new_groups must be one of"),
        ({"weight_type": 1}, "weight_type must be one of 'frequency', 'precision'; found 1"),
        ({"fit_intercept": "yes"}, "fit_intercept must be one of True, False; found 'yes'"),
        ({"group_feature": 1.5}, "group_feature must be the name or the position"),
        ({"group_feature": True}, "group_feature must be the name or the position"),
        ({"group_feature": "school"}, "is a name, but X is a ndarray"),
        ({"group_feature": 9}, "group_feature=9 is not a position"),
    ],
)
def test_bad_parameters(design, parameters, message):
    with pytest.raises(ValueError, match=message):
        RandomInterceptRegressor(**parameters).fit(*design[:2], groups=design[2])


def test_collinear_columns_get_zero_and_one_warning_that_names_them(design):
    X, y, groups = design
    X = np.round(4 * X)
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(sum=X[:, 0] + X[:, 1], one=1.0)
    with pytest.warns(DroppedColumnsWarning, match=r"2 redundant column\(s\) of X .*: sum, one\. .*drop_first") as caught:
        model = fit(frame, y, groups)
    assert len(caught) == 1
    np.testing.assert_array_equal(model.coef_[3:], 0)
    np.testing.assert_array_equal(model.cov_fixed_[4:], 0)
    np.testing.assert_allclose(model.predict(frame, groups), fit(X, y, groups).predict(X, groups), rtol=1e-11)
    with pytest.warns(UserWarning, match=": x3, x4"):
        fit(frame.to_numpy(), y, groups)


@pytest.mark.parametrize("shift", [1e14, 1e15])
def test_what_varies_by_a_few_units_in_the_last_place_is_not_constant(shift):
    groups = np.repeat(np.arange(6), 4)
    y = np.arange(24) % 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit(None, shift + y, groups)
    np.testing.assert_allclose(model.variance_components_, fit(None, y, groups).variance_components_, rtol=1e-12)


def test_groups_of_one_row_are_refused_whatever_the_scale_of_precisions(design):
    X, y, _ = design
    for scale in (0.1, 1.0, 100.0):
        with pytest.raises(ValueError, match="is a single row"):
            fit(X, y, np.arange(len(y)), np.full(len(y), scale), weight_type="precision")


def test_huge_precisions_only_rescale_the_residual_variance(design):
    X, y, groups = design
    plain = fit(X, y, groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit(X, y, groups, np.full(len(y), 1e20), weight_type="precision")
    np.testing.assert_allclose(model.variance_components_, plain.variance_components_ * [1, 1e20], rtol=1e-10)


def test_weights_that_are_no_numbers_of_copies_are_explained(design):
    X, y, groups = design
    with pytest.raises(ValueError, match=r"sum to 1, the number of copies.*weight_type=.precision."):
        fit(X, y, groups, np.full(len(y), 1 / len(y)))


def test_no_more_rows_than_columns_without_groups(design):
    with pytest.raises(ValueError, match="n_samples=3 and 3 independent"), pytest.warns(UserWarning, match="no groups"):
        RandomInterceptRegressor().fit(design[0][:3], design[1][:3])


def test_random_effects_carry_the_name_of_the_group_column():
    schools = make_schools(20, 200, as_frame=True, random_state=0)
    assert fit(None, schools.target, schools.groups).random_effects_.index.name == "school"
    model = RandomInterceptRegressor(group_feature="school").fit(schools.frame[["ses", "school"]], schools.target)
    assert model.random_effects_.index.name == "school"


def test_labels_with_and_without_time_zone_are_warned_of(design):
    X, y, groups = design
    days = pd.Timestamp("2001-01-01") + pd.to_timedelta(groups, unit="D")
    model = fit(X, y, days)
    with pytest.warns(UserWarning, match="another type"):
        model.predict(X, days.tz_localize("UTC"))


def test_a_constant_outcome_is_predicted_with_one_warning(design):
    X, y, groups = design
    with pytest.warns(UserWarning, match="y is constant") as caught:
        model = fit(X, np.full(len(y), 0.1), groups)
    assert len(caught) == 1
    assert list(model.variance_components_) == [0, 0]
    assert np.isnan(model.icc_)
    np.testing.assert_array_equal(model.predict(X, groups), 0.1)
    np.testing.assert_array_equal(model.predict(X, groups, return_std=True)[1], 0.0)
    np.testing.assert_array_equal(model.random_effects_, 0)


def test_an_outcome_constant_in_its_groups_is_the_limit_without_residual(design):
    X, _, groups = design
    level = np.random.default_rng(0).standard_normal(12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit(None, level[groups], groups)
        with_columns = fit(X, level[groups], groups)
    assert model.boundary_ == with_columns.boundary_ == "residual"
    assert model.icc_ == with_columns.icc_ == 1.0
    assert model.variance_components_["residual"] == 0
    np.testing.assert_allclose(model.predict(None, groups=groups), level[groups], rtol=1e-12)
    np.testing.assert_allclose(with_columns.predict(X, groups), level[groups], rtol=1e-10)
    np.testing.assert_allclose(model.variance_components_["group"], level.var(ddof=1), rtol=1e-13)
    _, std = model.predict(None, groups=[0, 99], return_std=True)
    np.testing.assert_allclose(std, [0.0, np.sqrt(level.var(ddof=1) * (1 + 1 / 12))], atol=1e-9)


def test_as_many_group_level_columns_as_groups():
    groups = np.repeat([0, 1, 2], 5)
    X = np.random.default_rng(0).standard_normal((3, 2))[groups]
    with pytest.warns(UserWarning, match="same at every group variance"):
        model = fit(X, np.random.default_rng(1).standard_normal(15), groups)
    assert model.variance_components_["group"] == 0


def test_labels_of_another_type_are_warned_of_once(design):
    X, y, groups = design
    model = fit(X, y, groups)
    with pytest.warns(UserWarning, match=r"None of the groups is known.*another type \(string\).*\(number\)") as caught:
        predicted = model.predict(X, groups.astype(str))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(predicted, model.predict(X, "population"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(model.predict(X, groups.astype(float)), model.predict(X, groups))
        model.predict(X, groups + 1000)
        model.predict(X, [None] * len(y))
        model.predict(X, [0 if group == 0 else "a" for group in groups])


def test_predicting_what_was_not_fitted(design):
    X, y, groups = design
    with pytest.raises(NotFittedError):
        RandomInterceptRegressor().predict(X, groups)
    model = fit(X, y, groups)
    with pytest.raises(ValueError, match="2 features"):
        model.predict(X[:, :2], groups)
    with pytest.raises(ValueError, match="X is None, but the model was fitted with 3"):
        model.predict(None, groups)
    with pytest.raises(ValueError, match=r"groups of shape \(3,\)"):
        model.predict(X, [1, 2, 3])
    with pytest.raises(ValueError, match=r"Column 0 of X has 1 missing value\(s\)"):
        model.predict(_with(X, np.nan), groups)
    with pytest.raises(ValueError, match="X is None, but group_feature='g' is a column of it"):
        RandomInterceptRegressor(group_feature="g").fit(None, y)
    with pytest.raises(ValueError, match="X and groups are both None"):
        fit(None, y, groups).predict(None)


# ---- moments instead of rows


def test_moments_carry_names_and_fit_as_rows_do():
    X, y, groups = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    moments = GroupedMoments.from_arrays(X, y, groups)
    by_moments, by_rows = RandomInterceptRegressor().fit_moments(moments), fit(X, y, groups)
    assert_same_fit(by_moments, by_rows, 0)
    assert list(by_moments.feature_names_in_) == ["days"]
    np.testing.assert_array_equal(by_moments.predict(X, groups), by_rows.predict(X, groups))
    by_feature = RandomInterceptRegressor(group_feature="subject").fit_moments(moments)
    np.testing.assert_array_equal(by_feature.predict(X.assign(subject=groups)), by_rows.predict(X, groups))


def test_bad_moments(design):
    X, y, groups = design
    model = fit(X, y, groups)
    with pytest.raises(TypeError, match="moments must be a GroupedMoments; found ndarray"):
        model.fit_moments(X)
    empty = GroupedMoments.from_arrays(X[:0], y[:0], groups[:0])
    with pytest.raises(ValueError, match="no rows"):
        model.fit_moments(empty)
    assert model.n_features_in_ == 3
    with pytest.raises(ValueError, match="one group only"):
        RandomInterceptRegressor().fit_moments(GroupedMoments.from_arrays(X, y, np.zeros(len(y))))


def test_bin_numbers_are_not_looked_up_in_the_bins():
    x = np.linspace(0.5, 29.5, 60)
    bins = pd.cut(x, [0, 10, 20, 30])
    y = np.repeat([0.0, 5.0, -5.0], 20) + np.sin(np.arange(60))
    model = RandomInterceptRegressor(new_groups="error").fit(None, y, groups=bins)
    known = model.predict(None, groups=bins)
    np.testing.assert_array_equal(known[[0, 20, 40]], model.intercept_ + model.random_effects_.to_numpy())
    with pytest.raises(ValueError, match="has not seen"):
        model.predict(None, groups=pd.cut(x, [0, 10, 20, 30], labels=False) + 1)
    with pytest.warns(UserWarning, match=r"another type \(number\) than those of fit \(interval\)"):
        model.set_params(new_groups="population").predict(None, groups=[5.0, 15.0, 25.0])


def test_groups_may_be_intervals_that_overlap(design):
    X, y, groups = design
    windows = [pd.Interval(at, at + 10) for at in groups]
    model, plain = RandomInterceptRegressor().fit(X, y, groups=windows), RandomInterceptRegressor().fit(X, y, groups=groups)
    np.testing.assert_array_equal(model.predict(X, groups=windows), plain.predict(X, groups=groups))
    assert model.score(X, y, groups=windows) == plain.score(X, y, groups=groups)
    assert str(model.summary(X, y, windows)) == str(plain.summary(X, y, groups))


@pytest.mark.parametrize("kind", [RandomInterceptRegressor, WithinOLS])
def test_threads_predict_with_a_model_just_loaded(kind):
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.permutation(50_000) * 7, 2)
    model = kind().fit(None, rng.standard_normal(len(labels)), groups=labels)
    saved, expected = pickle.dumps(model), model.predict(None, groups=labels[:40])
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                loaded = pickle.loads(saved)
                for one in [pool.submit(loaded.predict, None, groups=labels[:40]) for _ in range(8)]:
                    np.testing.assert_array_equal(one.result(), expected)
    finally:
        sys.setswitchinterval(before)


def test_time_zones_of_labels_are_kept(design):
    X, y, groups = design
    times = pd.Series(pd.date_range("2000", periods=groups.max() + 1, tz="Europe/Berlin")[groups])
    expected = RandomInterceptRegressor().fit(X, y, groups=times)
    for column in (pl.Series(times), pa.array(times), list(times)):
        model = RandomInterceptRegressor().fit(X, y, groups=column)
        assert [str(label) for label in model.groups_] == [str(label) for label in expected.groups_]
        np.testing.assert_array_equal(expected.predict(X, groups=column), model.predict(X, groups=times))


@pytest.mark.parametrize("key", ["g", 0, 1, 2, -1, -2])
@pytest.mark.parametrize("kind", [RandomInterceptRegressor, WithinOLS, ClusterRobustOLS])
def test_coefficients_stand_beside_the_names_of_the_columns(kind, key):
    X, y, groups = simulate(n_columns=2, level_2=False)
    at = 1 if key == "g" else key % 3
    frame = pd.DataFrame(X, columns=["a", "b"])
    frame.insert(at, "g", groups)
    model, plain = kind(group_feature=key).fit(frame, y), kind().fit(X, y, groups=groups)
    coefficients = pd.Series(model.coef_, index=model.feature_names_in_)
    np.testing.assert_allclose(coefficients[["a", "b", "g"]], [*plain.coef_, 0.0], rtol=1e-12)
    np.testing.assert_allclose(model.predict(frame), plain.predict(X, groups), rtol=1e-12)
    table = inference.fixed_effects(model)
    assert [name for name in table.index if name != "(Intercept)"] == ["a", "b"]


CHANGES = ({"fit_intercept": False}, {"method": "ml"}, {"weight_type": "precision"}, {"group_feature": 0})


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_a_parameter_set_after_fit_changes_nothing_that_was_estimated(design, change):
    X, y, groups = design
    weights = 1.0 + np.arange(len(y)) % 3
    model = fit(X, y, groups, weights)
    small = fit(X[:, :2], y, groups, weights)
    functions = {
        "predict": lambda: model.predict(X, groups, return_std=True),
        "predict_interval": lambda: inference.predict_interval(model, X, groups),
        "summary": lambda: str(model.summary(X, y, groups, sample_weight=weights)),
        "fixed_effects": lambda: inference.fixed_effects(model, ddf="kenward_roger"),
        "contrast_test": lambda: inference.contrast_test(model, np.eye(4)[1:3]),
        "pivot": lambda: inference.confidence_intervals(model),
        "profile": lambda: inference.confidence_intervals(model, method="profile"),
        "exact": lambda: inference.confidence_intervals(model, method="exact"),
        "random_intercept_test": lambda: inference.random_intercept_test(model, method="naive"),
        "likelihood_ratio_test": lambda: inference.likelihood_ratio_test(small, model),
        "icc": lambda: inference.icc(model, kind="unadjusted"),
        "r2": lambda: inference.r2(model),
        "clustering_report": lambda: inference.clustering_report(model),
        "random_effects_table": lambda: inference.random_effects_table(model),
        "update_random_effects": lambda: clone_fitted(model).update_random_effects(X, y, groups, weights).random_effects_,
    }
    before = {name: function() for name, function in functions.items()}
    model.set_params(**change)
    for name, function in functions.items():
        if isinstance(before[name], str):
            assert function() == before[name]
        else:
            after, expected = np.asarray(function(), dtype=float), np.asarray(before[name], dtype=float)
            np.testing.assert_array_equal(after, expected, name)


def clone_fitted(model):
    """A copy of a fitted model that shares nothing with it."""
    return pickle.loads(pickle.dumps(model))


def test_a_parameter_set_after_fit_counts_in_the_next_fit(design):
    X, y, groups = design
    model = fit(X, y, groups).set_params(method="ml", fit_intercept=False)
    assert_same_fit(model.fit(X, y, groups), fit(X, y, groups, method="ml", fit_intercept=False), 1e-15)
    half = len(y) // 2
    model = fit(X[:half], y[:half], groups[:half]).set_params(method="ml")
    assert_same_fit(model.partial_fit(X[half:], y[half:], groups[half:]), fit(X, y, groups, method="ml"), 1e-9)
