"""`MixedEffectsRegressor`: inputs, predictions, parts, invariances, and the answers of lme4 and of dense algebra."""

import inspect
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
from dense_mixed import DenseMixed
from designs import simulate
from mixed_cases import REAL_CASES, real_columns
from scipy import sparse, stats
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.fixes import parse_version

from sklearn_mlm import (
    GroupedScatter,
    GroupsNotPassedWarning,
    MixedEffectsRegressor,
    RandomInterceptRegressor,
    cross_validate_groups,
    inference,
)

# Columns x and w are in X; z, if it has random coefficients, is a column of groups only.
# scikit-learn's default scoring passes groups to `score` from this version on.
OWN_SCORE_IS_ROUTED = parse_version(sklearn.__version__) >= parse_version("1.8")

INSIDE, OUTSIDE, APART = "(1 + x | g)", "(1 + z | g)", "(1 + x + z || g)"
TERMS = [INSIDE, OUTSIDE, APART, "(0 + x + z | g)"]
# What the same sums in another order differ by: the designs have condition numbers of some tens, and the optimum is a root.
SAME = 1e-11


def rows(n_groups=12, seed=0, noise=0.5):
    """A frame of x, w, z, labels g and y; intercepts and slopes of x and z vary; groups of 2 to 7 rows, in no order."""
    rng = np.random.default_rng(seed)
    g = rng.permutation(np.repeat(np.arange(n_groups), rng.integers(2, 8, n_groups)))
    x, w, z, e = rng.standard_normal((4, len(g)))
    b = rng.standard_normal((3, n_groups)) * [[1.0], [0.7], [0.8]]
    y = 1.0 + x - w + b[0, g] + b[1, g] * x + b[2, g] * z + noise * e
    return pd.DataFrame({"x": x, "w": w, "z": z, "g": [f"k{j:02d}" for j in g], "y": y})


def parts_of(frame, random_effects):
    """X, y and groups of a frame; groups hold z if it has random coefficients."""
    return frame[["x", "w"]], frame["y"], frame[["g", "z"] if "z" in random_effects else ["g"]]


def fit(frame, random_effects=INSIDE, sample_weight=None, **parameters):
    """The model of x and w, fitted to a frame."""
    X, y, groups = parts_of(frame, random_effects)
    return MixedEffectsRegressor(random_effects=random_effects, **parameters).fit(X, y, groups, sample_weight)


def predict(model, frame, **options):
    """Predictions of the rows of a frame."""
    X, _, groups = parts_of(frame, model.random_effects)
    return model.predict(X, groups, **options)


def sigma_of(model):
    """The covariance of the random coefficients of the only factor."""
    (sigma,) = model.covariance_.values()
    return sigma


def assert_same_model(model, other, rtol=SAME):
    """Assert that two models have the same estimates, relative to the size of each kind."""
    size = np.abs(other.random_effects_.to_numpy()).max()
    np.testing.assert_allclose(model.variance_components_, other.variance_components_, rtol=rtol, atol=rtol * 1e-3)
    sigma = sigma_of(other).to_numpy()
    np.testing.assert_allclose(sigma_of(model), sigma, rtol=0, atol=rtol * np.abs(sigma).max())
    np.testing.assert_allclose(model.coef_, other.coef_, rtol=0, atol=rtol * max(1.0, np.abs(other.coef_).max(initial=0.0)))
    np.testing.assert_allclose(model.cov_fixed_, other.cov_fixed_, rtol=0, atol=rtol * np.abs(other.cov_fixed_).max())
    np.testing.assert_allclose([model.criterion_, model.bic_], [other.criterion_, other.bic_], rtol=rtol)
    assert list(model.groups_) == list(other.groups_)
    np.testing.assert_allclose(model.random_effects_, other.random_effects_, rtol=0, atol=10 * rtol * size)


def copy_of(model):
    """A copy of a fitted model that shares nothing with it."""
    return pickle.loads(pickle.dumps(model))


def dense_of(frame, random_effects, *, reml=True, precision=None):
    """The same model by n x n algebra, and the names of its random coefficients."""
    names = [name for name in ("1", "x", "z") if re.search(rf"\b{name}\b", random_effects.split("|")[0])]
    Z = np.column_stack([np.ones(len(frame)) if name == "1" else frame[name] for name in names])
    X = np.column_stack([np.ones(len(frame)), frame[["x", "w"]]])
    return DenseMixed(X, frame["y"], Z, frame["g"], reml=reml, precision=precision), X, Z


# ---- scikit-learn's own checks

VARIANTS = [
    MixedEffectsRegressor(),
    MixedEffectsRegressor(method="ml", fit_intercept=False),
    MixedEffectsRegressor(weight_type="precision"),
    MixedEffectsRegressor(random_effects="(1 | g)", covariance="diagonal"),
]


@parametrize_with_checks(VARIANTS)
@pytest.mark.filterwarnings("ignore:fit was given no groups", "ignore:.*of X depend")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_documented_defaults_are_the_defaults():
    text = inspect.getdoc(MixedEffectsRegressor)
    documented = dict(re.findall(r"^(\w+) : .*default=(.+)$", text, re.M))
    actual = {name: repr(value).replace("'", '"') for name, value in MixedEffectsRegressor().get_params().items()}
    assert documented == actual


def test_parameters_are_keyword_only_and_can_be_set():
    with pytest.raises(TypeError):
        MixedEffectsRegressor(INSIDE)
    model = MixedEffectsRegressor().set_params(random_effects=INSIDE, covariance="diagonal")
    assert model.get_params()["random_effects"] == INSIDE
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(ValueError, match="Invalid parameter 'group_feature'"):
        model.set_params(group_feature="g")


def test_pickle_keeps_a_fit_and_clone_does_not():
    frame = rows()
    model = fit(frame, OUTSIDE, method="ml", new_groups="nan")
    copy = copy_of(model)
    np.testing.assert_array_equal(predict(copy, frame, return_std=True), predict(model, frame, return_std=True))
    pd.testing.assert_frame_equal(sigma_of(copy), sigma_of(model))
    assert not hasattr(clone(model), "coef_")


def test_a_fitted_model_holds_no_rows():
    sizes = []
    for size in (50, 5_000):
        g, x = np.repeat(np.arange(8), size), np.random.default_rng(0).standard_normal(8 * size)
        y = x + g % 3 + g * x + np.random.default_rng(1).standard_normal(8 * size)
        sizes.append(len(pickle.dumps(MixedEffectsRegressor(random_effects="(1 + x0 | g)").fit(x[:, None], y, groups=g))))
    # What the searches tried is stored, of which there may be more; the rows would take 640 kB.
    assert abs(sizes[1] - sizes[0]) < 10_000


def test_attributes_have_their_kinds_and_names():
    frame = rows()
    model = fit(frame, APART)
    names = ["(Intercept)", "x", "z"]
    assert list(model.covariance_) == ["g"]
    assert list(sigma_of(model).index) == list(sigma_of(model).columns) == list(model.random_effects_.columns) == names
    assert list(model.variance_components_.index) == [*(f"g {name}" for name in names), "residual"]
    np.testing.assert_array_equal(model.variance_components_[:-1], np.diag(sigma_of(model)))
    assert np.count_nonzero(sigma_of(model) - np.diag(np.diag(sigma_of(model)))) == 0
    assert model.random_effects_.index.equals(model.groups_)
    assert model.random_effects_.index.name == "g"
    assert model.n_groups_ == len(model.groups_) == 12
    assert model.n_features_in_ == 2
    assert list(model.feature_names_in_) == ["x", "w"]
    assert model.cov_fixed_.shape == (3, 3)
    assert isinstance(model.intercept_, float)
    assert isinstance(model.moments_, GroupedScatter)
    assert model.criterion_ == -2 * model.log_likelihood_
    # Three fixed effects, three variances, and the residual variance; three covariances more if they are free.
    np.testing.assert_allclose(model.aic_, model.criterion_ + 2 * 7, rtol=1e-14)
    full = fit(frame, "(1 + x + z | g)")
    np.testing.assert_allclose(full.bic_, full.criterion_ + 10 * np.log(len(frame)), rtol=1e-14)


def test_independent_coefficients_by_bars_by_terms_and_by_the_parameter_are_one_model():
    frame = rows()
    bars = fit(frame, APART)
    for text, covariance in [("(1 + x + z | g)", "diagonal"), ("(1 | g) + (0 + x | g) + (0 + z | g)", "full")]:
        assert_same_model(fit(frame, text, covariance=covariance), bars, 1e-13)


def test_the_intraclass_correlation_is_one_number_if_the_intercept_alone_varies():
    frame = rows()
    model = fit(frame, "(1 | g)")
    tau2, sigma2 = model.variance_components_
    assert model.icc_ == pytest.approx(tau2 / (tau2 + sigma2), rel=1e-15)
    slopes = fit(frame)
    assert not hasattr(slopes, "icc_")
    with pytest.raises(AttributeError, match=r"only if the intercept alone varies.*inference\.icc"):
        _ = slopes.icc_


@pytest.mark.parametrize("name", ["covariance_", "variance_components_", "random_effects_", "icc_"])
def test_a_model_that_is_not_fitted_says_so(name):
    model, frame = MixedEffectsRegressor(random_effects=INSIDE), rows()
    with pytest.raises(NotFittedError):
        getattr(model, name)
    X, y, groups = parts_of(frame, INSIDE)
    for call in (
        lambda: model.predict(X, groups),
        lambda: model.update_random_effects(X, y, groups),
        lambda: inference.fixed_effects(model),
    ):
        with pytest.raises(NotFittedError):
            call()


# ---- inputs

FORMS = {
    "Fortran order": np.asfortranarray,
    "float32": lambda X: X.astype(np.float32),
    "integers": lambda X: X.astype(int),
    "pandas": lambda X: pd.DataFrame(X, columns=["x0", "x1", "x2"]),
    "nullable pandas": lambda X: pd.DataFrame(X.astype(int), columns=["x0", "x1", "x2"]).astype("Int64"),
    "pandas on pyarrow": lambda X: pd.DataFrame(X, columns=["x0", "x1", "x2"]).astype(pd.ArrowDtype(pa.float64())),
    "polars": lambda X: pl.DataFrame(X, schema=["x0", "x1", "x2"], orient="row"),
    "pyarrow": lambda X: pa.table({f"x{i}": X[:, i] for i in range(3)}),
    "CSR": sparse.csr_matrix,
    "CSC": sparse.csc_array,
    "COO": sparse.coo_array,
    "lists": lambda X: X.tolist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_x_y_and_groups_gives_the_same_model(form):
    X, y, groups = simulate(level_2=False)
    X, y = np.round(4 * X), np.round(8 * y)
    labels = groups.astype(str)
    plain = MixedEffectsRegressor(random_effects="(1 + x0 | g)").fit(X, y, groups=labels)
    column = {"polars": pl.Series, "pyarrow": pa.array, "lists": list, "pandas": pd.Series}.get(form, np.asarray)
    model = clone(plain).fit(FORMS[form](X), column(y), column(labels), column(np.ones(len(y))))
    assert_same_model(model, plain)
    found = model.predict(FORMS[form](X), column(labels), return_std=True)
    np.testing.assert_allclose(found, plain.predict(X, labels, return_std=True), rtol=SAME)
    named = form in {"pandas", "nullable pandas", "pandas on pyarrow", "polars", "pyarrow"}
    assert hasattr(model, "feature_names_in_") == named


def test_a_frame_with_numbers_as_names_has_the_columns_of_an_array():
    # scikit-learn takes no names from such a frame, and a number in the notation is the intercept.
    X, y, groups = simulate(level_2=False)
    model = MixedEffectsRegressor(random_effects="(1 + x0 | g)")
    assert_same_model(clone(model).fit(pd.DataFrame(X), y, groups=groups), model.fit(X, y, groups=groups))


GROUP_FORMS = {
    "array": lambda frame: frame["g"].to_numpy(),
    "list": lambda frame: frame["g"].tolist(),
    "series": lambda frame: frame["g"],
    "series of another name": lambda frame: frame["g"].rename("h"),
    "categorical": lambda frame: pd.Categorical(frame["g"], categories=[f"k{j:02d}" for j in range(40)]),
    "frame": lambda frame: frame[["g"]],
    "frame with more columns": lambda frame: frame[["y", "g", "z"]],
    "polars series": lambda frame: pl.Series(frame["g"]),
    "polars frame": lambda frame: pl.DataFrame(frame[["g"]]),
    "arrow table": lambda frame: pa.table({"g": frame["g"].tolist()}),
}


@pytest.mark.parametrize("form", GROUP_FORMS)
def test_groups_may_be_labels_or_a_frame_that_has_them(form):
    frame = rows()
    X, y, groups = parts_of(frame, INSIDE)
    plain = MixedEffectsRegressor(random_effects=INSIDE).fit(X, y, groups)
    other = GROUP_FORMS[form](frame)
    model = clone(plain).fit(X, y, other)
    assert_same_model(model, plain, 1e-15)
    assert model.n_groups_ == 12
    np.testing.assert_array_equal(model.predict(X, other), plain.predict(X, groups))
    np.testing.assert_array_equal(plain.predict(X, other), plain.predict(X, groups))
    assert list(model.covariance_) == ["g"]


@pytest.mark.parametrize("convert", [pd.DataFrame, pl.DataFrame, lambda frame: pa.Table.from_pandas(frame)])
def test_a_column_of_x_holds_the_labels_by_name(convert):
    frame = rows()
    plain = fit(frame)
    with_labels = convert(frame[["x", "g", "w"]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MixedEffectsRegressor(random_effects=INSIDE).fit(with_labels, frame["y"])
        np.testing.assert_allclose(model.predict(with_labels), predict(plain, frame), rtol=SAME)
        assert model.score(with_labels, frame["y"]) == pytest.approx(plain.score(*parts_of(frame, INSIDE)), rel=SAME)
    # The column of labels is no predictor, but has a coefficient of 0, so that names and coefficients align.
    np.testing.assert_allclose(model.coef_, [plain.coef_[0], 0.0, plain.coef_[1]], rtol=SAME)
    assert list(model.feature_names_in_) == ["x", "g", "w"]
    assert list(inference.fixed_effects(model).index) == ["(Intercept)", "x", "w"]


def test_groups_take_precedence_over_a_column_of_x():
    frame = rows()
    X = frame[["x", "w"]].assign(g="one label")
    with pytest.warns(UserWarning, match="groups"):
        model = MixedEffectsRegressor(random_effects=INSIDE).fit(X, frame["y"], groups=frame["g"])
    np.testing.assert_allclose(model.random_effects_, fit(frame).random_effects_, rtol=0, atol=1e-11)


OUTSIDE_FORMS = {
    "pandas": lambda X, groups: (X, groups),
    "array": lambda X, groups: (X.to_numpy(), groups),
    "CSR": lambda X, groups: (sparse.csr_array(X.to_numpy()), groups),
    "CSC": lambda X, groups: (sparse.csc_matrix(X.to_numpy()), groups),
    "polars": lambda X, groups: (pl.DataFrame(X), pl.DataFrame(groups)),
    "arrow": lambda X, groups: (pa.Table.from_pandas(X), pa.Table.from_pandas(groups)),
    "order of columns": lambda X, groups: (X, groups[["z", "g"]]),
    "nullable": lambda X, groups: (X, groups.astype({"z": "Float64", "g": "string"})),
    "labels in X": lambda X, groups: (X.assign(g=groups["g"]), groups[["z"]]),
    "labels in both": lambda X, groups: (X.assign(g=groups["g"]), groups),
}


@pytest.mark.parametrize("form", OUTSIDE_FORMS)
def test_a_slope_of_a_column_that_is_in_groups_only(form):
    frame = rows()
    X, y, groups = parts_of(frame, OUTSIDE)
    plain = MixedEffectsRegressor(random_effects=OUTSIDE).fit(X, y, groups)
    X, groups = OUTSIDE_FORMS[form](X, groups)
    model = clone(plain).fit(X, y, groups)
    assert_same_model(RandomSlopes(model), plain, 1e-13)
    found = model.predict(X, groups, return_std=True)
    np.testing.assert_allclose(found, predict(plain, frame, return_std=True), rtol=SAME)
    # In parts, too.
    half = len(y) // 2
    if not form.startswith("labels") and form != "arrow":
        first, second = (slice(None, half), slice(half, None))
        take = (lambda a, at: a[at]) if not sparse.issparse(X) else (lambda a, at: a.tocsr()[at])
        parts = clone(plain)
        for at in (first, second):
            parts.partial_fit(take(X, at), y[at], groups[at])
        assert_same_model(parts, plain)


class RandomSlopes:
    """A model without the coefficient of a column of labels."""

    def __init__(self, model):
        self._model, self.coef_ = model, model.fit_.slopes

    def __getattr__(self, name):
        return getattr(self._model, name)


def test_a_slope_outside_x_is_that_of_dense_algebra_and_has_no_fixed_effect():
    frame = rows()
    model = fit(frame, OUTSIDE)
    dense, _, _ = dense_of(frame, OUTSIDE)
    found = dense.estimates(sigma_of(model).to_numpy() / model.variance_components_["residual"])
    np.testing.assert_allclose(model.criterion_, found.value, rtol=1e-12)
    np.testing.assert_allclose([model.intercept_, *model.coef_], found.beta, rtol=1e-9)
    np.testing.assert_allclose(model.random_effects_, found.random_effects, rtol=0, atol=1e-9)
    assert len(model.coef_) == 2


def test_predictions_of_the_population_need_no_column_outside_x():
    frame = rows()
    X, y, groups = parts_of(frame, OUTSIDE)
    model = MixedEffectsRegressor(random_effects=OUTSIDE).fit(X, y, groups)
    fixed = model.intercept_ + X.to_numpy() @ model.coef_
    np.testing.assert_allclose(model.predict(X, groups.assign(g=None)), fixed, rtol=SAME)
    np.testing.assert_allclose(model.predict(X, groups="population"), fixed, rtol=SAME)
    of_rows = inference.residuals(model, X, y, groups, kind="population")
    np.testing.assert_allclose(of_rows, y - fixed, rtol=0, atol=1e-11)
    table = inference.predict_interval(model, X, kind="population_mean")
    np.testing.assert_allclose(table["prediction"], fixed, rtol=SAME)


def test_predictions_of_the_population_need_no_column_outside_x_if_x_has_the_labels():
    frame = rows()
    X, y, _ = parts_of(frame, OUTSIDE)
    with_labels = X.assign(g=frame["g"])
    model = MixedEffectsRegressor(random_effects=OUTSIDE).fit(with_labels, y, frame[["z"]])
    fixed = model.intercept_ + X.to_numpy() @ model.coef_[:2]
    np.testing.assert_allclose(model.predict(with_labels, "population"), fixed, rtol=SAME)
    table = inference.predict_interval(model, with_labels, "population", kind="population_mean")
    np.testing.assert_allclose(table["prediction"], fixed, rtol=SAME)
    with pytest.raises(ValueError, match=r"frame with the column\(s\) z"):
        model.predict(with_labels)
    with pytest.raises(ValueError, match="depends on columns that X does not have"):
        model.predict(with_labels, "population", return_std=True)


def test_sparse_x_is_never_made_dense(monkeypatch):
    X, y, groups = simulate(40, 30, 4, level_2=False)
    X = sparse.csr_array(np.where(np.random.default_rng(0).random(X.shape) < 0.3, X, 0.0))
    model = MixedEffectsRegressor(random_effects="(1 + x0 | g)")
    dense = clone(model).fit(X.toarray(), y, groups=groups)
    largest, original = [], sparse.csr_array.toarray

    def watched(self, *args, **kwargs):
        largest.append(self.shape[0])
        return original(self, *args, **kwargs)

    monkeypatch.setattr("sklearn_mlm.moments._rows._MIN_BLOCK_ROWS", 64)
    monkeypatch.setattr("sklearn_mlm.moments._rows._BLOCK_BYTES", 0)
    monkeypatch.setattr("sklearn_mlm.likelihood._mixed_rows._BLOCK_NUMBERS", 64 * 5)
    monkeypatch.setattr(sparse.csr_array, "toarray", watched)
    assert_same_model(model.fit(X, y, groups=groups), dense)
    # A block holds whole groups, the largest of which has 59 rows.
    assert 0 < max(largest) <= 64 + 59 < X.shape[0] / 4


def test_names_with_other_characters_stand_between_backticks():
    frame = rows()
    renamed = frame.rename(columns={"x": "dose mg", "g": "ward id"})
    model = MixedEffectsRegressor(random_effects="(1 + `dose mg` | `ward id`)")
    model.fit(renamed[["dose mg", "w"]], renamed["y"], groups=renamed[["ward id"]])
    assert list(model.covariance_) == ["ward id"]
    assert list(model.random_effects_.columns) == ["(Intercept)", "dose mg"]
    np.testing.assert_allclose(sigma_of(model), sigma_of(fit(frame)), rtol=1e-12)


LABELS = {
    "int": lambda g: g.astype(int),
    "bool": lambda g: g.astype(bool),
    "datetime": lambda g: pd.Timestamp("2001-01-01") + pd.to_timedelta(g, unit="D"),
    "time zone": lambda g: pd.Series(pd.date_range("2000", periods=9, tz="Europe/Berlin")[g]),
    "nullable": lambda g: pd.array(g, dtype="Int64"),
    "pyarrow": lambda g: pd.Series(g).astype(pd.ArrowDtype(pa.int64())),
    "polars": lambda g: pl.Series(g),
    "intervals": lambda g: [pd.Interval(at, at + 10) for at in g],
    "tuples": lambda g: [("a", int(at)) for at in g],
    "64-bit": lambda g: g.astype(np.int64) + 2**60,
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_index_the_random_effects(kind):
    frame = rows(2 if kind == "bool" else 9)
    g = frame["g"].str[1:].astype(int).to_numpy()
    X, y = frame[["x"]], frame["y"]
    plain = MixedEffectsRegressor(random_effects=INSIDE, covariance="diagonal").fit(X, y, groups=g)
    labels = LABELS[kind](g)
    model = clone(plain).fit(X, y, groups=labels)
    np.testing.assert_allclose(model.random_effects_.to_numpy(), plain.random_effects_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.predict(X, labels), plain.predict(X, g), rtol=SAME)
    assert model.random_effects_.index.equals(model.groups_)
    assert len(model.groups_) == len(set(g))


def test_the_null_model_by_none_and_by_a_frame_of_labels_alone():
    frame = rows()
    by_none = MixedEffectsRegressor().fit(None, frame["y"], groups=frame["g"])
    by_frame = MixedEffectsRegressor(random_effects="(1 | g)").fit(frame[["g"]], frame["y"])
    assert by_none.n_features_in_ == 0
    assert by_frame.n_features_in_ == 1
    assert by_frame.coef_.tolist() == [0.0]
    np.testing.assert_array_equal(by_frame.variance_components_, by_none.variance_components_)
    np.testing.assert_array_equal(by_frame.predict(frame[["g"]]), by_none.predict(None, groups=frame["g"]))
    slopes = MixedEffectsRegressor(random_effects=OUTSIDE).fit(None, frame["y"], groups=frame[["g", "z"]])
    also = MixedEffectsRegressor(random_effects=OUTSIDE).fit(frame[["g"]], frame["y"], groups=frame[["z"]])
    np.testing.assert_allclose(sigma_of(also), sigma_of(slopes), rtol=1e-13)
    expected = slopes.predict(None, groups=frame[["g", "z"]])
    np.testing.assert_allclose(also.predict(frame[["g"]], groups=frame[["z"]]), expected, rtol=SAME)


def test_without_random_effects_the_intercept_varies_between_groups():
    frame = rows()
    named = fit(frame, "(1 | g)")
    for groups in (frame["g"], frame[["g"]], frame["g"].to_numpy()):
        model = MixedEffectsRegressor().fit(frame[["x", "w"]], frame["y"], groups=groups)
        assert_same_model(model, named, 1e-15)
        assert list(model.covariance_) == ["g" if hasattr(groups, "iloc") else "group"]
        np.testing.assert_array_equal(model.predict(frame[["x", "w"]], groups), predict(named, frame))


# ---- pipelines, searches, cross-validation


def pipeline(random_effects=INSIDE):
    """Steps that scale x and w and pass the labels on."""
    scale = ColumnTransformer(
        [("scale", StandardScaler(), ["x", "w"]), ("labels", "passthrough", ["g"])], verbose_feature_names_out=False
    )
    return make_pipeline(scale.set_output(transform="pandas"), MixedEffectsRegressor(random_effects=random_effects))


def test_a_pipeline_passes_the_labels_on_by_name():
    frame = rows()
    X = frame[["g", "x", "w"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = pipeline().fit(X, frame["y"])
        found = model.predict(X)
    # The intercept varies, so that the origin and the unit of x make no difference.
    np.testing.assert_allclose(found, predict(fit(frame), frame), rtol=1e-10)
    assert list(inference.fixed_effects(model).index) == ["(Intercept)", "x", "w"]


def test_a_search_chooses_the_random_effects():
    frame = rows(20)
    choices = {"mixedeffectsregressor__random_effects": ["(1 | g)", INSIDE], "mixedeffectsregressor__method": ["ml", "reml"]}
    search = GridSearchCV(pipeline(), choices, cv=3).fit(frame[["x", "w", "g"]], frame["y"])
    assert search.best_params_["mixedeffectsregressor__random_effects"] == INSIDE
    assert inference.icc(search) == pytest.approx(inference.icc(search.best_estimator_))
    assert list(inference.random_effects_test(search).index) == ["(Intercept)", "x"]


def test_cross_validation_takes_the_labels_from_a_column_of_x():
    frame = rows(20)
    model = MixedEffectsRegressor(random_effects=INSIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = cross_val_score(model, frame[["x", "w", "g"]], frame["y"], cv=3)
    assert len(scores) == 3
    with pytest.warns(GroupsNotPassedWarning):
        without = cross_val_score(model, frame[["x", "w"]], frame["y"], groups=frame["g"], cv=3)
    assert scores.mean() > without.mean() + 0.1
    if not OWN_SCORE_IS_ROUTED:
        return
    # Routed or not, groups that hold whole folds are new ones.
    with config_context(enable_metadata_routing=True):
        routed = cross_val_score(model, frame[["x", "w", "g"]], frame["y"], cv=GroupKFold(3), params={"groups": frame["g"]})
    plain = cross_val_score(model, frame[["x", "w", "g"]], frame["y"], cv=GroupKFold(3), groups=frame["g"])
    np.testing.assert_allclose(routed, plain, rtol=SAME)


@pytest.mark.skipif(not OWN_SCORE_IS_ROUTED, reason="scoring=None is routed from scikit-learn 1.8 on")
@pytest.mark.parametrize("random_effects", [INSIDE, OUTSIDE])
def test_routing_passes_groups_to_fit_predict_and_score(random_effects):
    frame = rows(20)
    X, y, groups = parts_of(frame, random_effects)
    with config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MixedEffectsRegressor(random_effects=random_effects)
        requests = model.get_metadata_routing()
        assert requests.fit.requests["groups"] is True
        assert requests.predict.requests["groups"] is True
        scores = cross_validate(model, X, y, params={"groups": groups}, cv=3)["test_score"]
        by_hand = []
        for train, test in KFold(3).split(X):
            fitted = clone(model).fit(X.iloc[train], y.iloc[train], groups.iloc[train])
            by_hand.append(fitted.score(X.iloc[test], y.iloc[test], groups.iloc[test]))
        explicit = clone(model).set_fit_request(groups=True).set_predict_request(groups=True).set_score_request(groups=True)
        np.testing.assert_array_equal(cross_validate(explicit, X, y, params={"groups": groups}, cv=3)["test_score"], scores)
    np.testing.assert_allclose(scores, by_hand, rtol=SAME)


@pytest.mark.parametrize("form", ["labels", "column of X", "pipeline", "frame"])
def test_models_are_compared_for_known_and_new_groups(form):
    frame = rows(20)
    X, y, groups = parts_of(frame, INSIDE)
    model = MixedEffectsRegressor(random_effects=INSIDE)
    expected = cross_validate_groups(model, X, y, frame["g"].to_numpy(), cv=3, random_state=0)
    arguments = {
        "labels": (model, X, y, frame["g"]),
        "column of X": (model, frame[["x", "w", "g"]], y),
        "pipeline": (pipeline(), frame[["x", "w", "g"]], y),
        "frame": (model, X, y, groups),
    }[form]
    table = cross_validate_groups(*arguments, cv=3, random_state=0)
    np.testing.assert_allclose(table, expected, rtol=1e-9)
    assert table.loc[("known", "model"), ("r2", "mean")] > table.loc[("known", "OLS"), ("r2", "mean")]


def test_inference_names_the_columns_of_a_pipeline_that_passes_arrays_on():
    frame = rows()
    X, y = frame[["x", "w"]], frame["y"]

    def steps(random_effects):
        model = make_pipeline(StandardScaler(), MixedEffectsRegressor(random_effects=random_effects))
        return model.fit(X, y, mixedeffectsregressor__groups=frame["g"])

    small, large = steps("(1 | g)"), steps("(1 + x0 | g)")
    assert list(inference.fixed_effects(large).index) == ["(Intercept)", "x", "w"]
    tests = inference.random_effects_test(large)
    # Neither the likelihood nor the meaning of "no slope" depends on the origin or the unit of x.
    np.testing.assert_allclose(tests["chi2"].iloc[1], inference.random_effects_test(fit(frame))["chi2"].iloc[1], rtol=1e-8)
    plain = inference.likelihood_ratio_test(fit(frame, "(1 | g)"), fit(frame))
    np.testing.assert_allclose(inference.likelihood_ratio_test(small, large)["chi2"], plain["chi2"], rtol=1e-8)


# ---- predictions


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("random_effects", TERMS)
def test_predictions_and_their_standard_deviations_are_those_of_dense_algebra(random_effects, method):
    frame = rows()
    model = fit(frame, random_effects, method=method)
    dense, X, Z = dense_of(frame, random_effects, reml=method == "reml")
    G = sigma_of(model).to_numpy() / model.variance_components_["residual"]
    new = frame.iloc[:8].assign(g=["k00", "k11", "nobody", None, "k05", "k05", "nobody", "somebody else"])
    mean, variance = dense.predict(G, X[:8], Z[:8], new["g"].tolist())
    for _ in range(2):
        found, std = predict(model, new, return_std=True)
        np.testing.assert_allclose(found, mean, rtol=0, atol=1e-9)
        np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-9)
        np.testing.assert_array_equal(predict(model, new), found)
        # Which other rows are predicted beside a row, and in which order, makes no difference.
        order = np.random.default_rng(1).permutation(8)[:5]
        np.testing.assert_allclose(predict(model, new.iloc[order], return_std=True), (found[order], std[order]), rtol=1e-13)
        model = copy_of(model)


def test_precisions_of_rows_are_in_the_standard_deviations():
    frame, precision = rows(), np.exp(np.random.default_rng(2).standard_normal(len(rows())))
    model = fit(frame, INSIDE, precision, weight_type="precision")
    dense, X, Z = dense_of(frame, INSIDE, precision=precision)
    G = sigma_of(model).to_numpy() / model.variance_components_["residual"]
    mean, variance = dense.predict(G, X, Z, frame["g"])
    found, std = predict(model, frame, return_std=True)
    np.testing.assert_allclose(found, mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-9)
    np.testing.assert_allclose(model.criterion_, dense.value(G), rtol=1e-12)


def test_a_known_group_a_new_group_and_no_group():
    frame = rows().iloc[:4].assign(g=["k03", "nobody", None, "k05"])
    X, _, groups = parts_of(frame, INSIDE)
    model = fit(rows())
    population = model.intercept_ + X.to_numpy() @ model.coef_
    effects, x = model.random_effects_, frame["x"].to_numpy()
    expected = population.copy()
    for at, label in ((0, "k03"), (3, "k05")):
        expected[at] += effects.loc[label, "(Intercept)"] + effects.loc[label, "x"] * x[at]
    np.testing.assert_allclose(model.predict(X, "population"), population, rtol=SAME)
    np.testing.assert_allclose(model.predict(X, groups), expected, rtol=SAME)
    mean, std = model.set_params(new_groups="nan").predict(X, groups, return_std=True)
    np.testing.assert_array_equal(np.isnan([mean, std]), [[False, True, False, False]] * 2)
    np.testing.assert_array_equal(inference.known_groups(model, X, groups), [2, 1, 1])
    with pytest.raises(ValueError, match=r"groups has 1 label\(s\) that fit has not seen, among them \['nobody'\]"):
        model.set_params(new_groups="error").predict(X, groups)
    with pytest.warns(GroupsNotPassedWarning, match="predict was given no groups"):
        np.testing.assert_allclose(model.predict(X), population, rtol=SAME)


def test_a_new_group_has_the_variance_of_its_slope():
    model = fit(rows())
    at = pd.DataFrame({"x": [-3.0, 0.0, 3.0], "w": 0.0})
    z, fixed = np.column_stack([np.ones(3), at["x"]]), np.column_stack([np.ones(3), at])
    expected = np.einsum("ia,ab,ib->i", z, sigma_of(model), z) + np.einsum("ia,ab,ib->i", fixed, model.cov_fixed_, fixed)
    np.testing.assert_allclose(model.predict(at, ["new"] * 3, return_std=True)[1], np.sqrt(expected), rtol=1e-11)
    np.testing.assert_allclose(model.predict(at, "population", return_std=True)[1], np.sqrt(expected), rtol=1e-11)


def test_labels_of_another_type_are_warned_of_once():
    frame = rows()
    numbers = frame["g"].str[1:].astype(int)
    X, y = frame[["x", "w"]], frame["y"]
    model = MixedEffectsRegressor(random_effects=INSIDE).fit(X, y, groups=numbers)
    with pytest.warns(UserWarning, match=r"None of the groups is known.*another type \(string\).*\(number\)") as caught:
        found = model.predict(X, numbers.astype(str))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(found, model.predict(X, "population"))


def test_score_is_r2_of_the_predictions_with_groups():
    frame = rows()
    X, y, groups = parts_of(frame, OUTSIDE)
    weights = np.random.default_rng(0).random(len(y))
    model = MixedEffectsRegressor(random_effects=OUTSIDE).fit(X, y, groups)
    assert model.score(X, y, groups, weights) == r2_score(y, model.predict(X, groups), sample_weight=weights)
    assert model.score(X, y, groups.assign(g=None)) < model.score(X, y, groups)


# ---- without groups


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("random_effects", [None, INSIDE])
def test_without_groups_it_is_least_squares_and_says_how_to_pass_them(random_effects, fit_intercept):
    frame = rows()
    X, y, _ = parts_of(frame, INSIDE)
    model = MixedEffectsRegressor(random_effects=random_effects, fit_intercept=fit_intercept)
    with pytest.warns(GroupsNotPassedWarning, match=r"no groups, so the model is.*groups=") as caught:
        model.fit(X, y)
    assert caught[0].filename == __file__
    ols = LinearRegression(fit_intercept=fit_intercept).fit(X, y)
    np.testing.assert_allclose(model.coef_, ols.coef_, rtol=1e-11)
    np.testing.assert_allclose(model.intercept_, ols.intercept_, rtol=1e-11)
    rest = ((y - ols.predict(X)) ** 2).sum() / (len(y) - 2 - fit_intercept)
    np.testing.assert_allclose(model.variance_components_["residual"], rest, rtol=1e-12)
    assert (model.variance_components_[:-1] == 0).all()
    assert model.n_groups_ == len(model.random_effects_) == 0
    # A factor that is misspelt is named.
    assert ("X has no column 'g'" in str(caught[0].message)) == (random_effects is not None)
    # The model has no parameter of the name that the random intercept model has for the column of labels.
    assert "group_feature" not in str(caught[0].message)


# ---- parts of the rows


@pytest.mark.filterwarnings("ignore:.*depend on the columns:UserWarning", "ignore:The search for the optimum")
@pytest.mark.parametrize(
    ("random_effects", "size"), [(INSIDE, 1), (OUTSIDE, 4), (APART, 7), (INSIDE, 17), (OUTSIDE, 10_000)]
)
def test_whatever_the_rows_are_cut_into_the_model_is_that_of_all_of_them(random_effects, size):
    # Every call solves the model once.
    frame = rows(5, seed=2)
    X, y, groups = parts_of(frame, random_effects)
    weights = np.random.default_rng(1).integers(0, 4, len(y)).astype(float)
    parts = MixedEffectsRegressor(random_effects=random_effects)
    for start in range(0, len(y), size):
        for at in (slice(start, start + size), slice(0, 0)):
            assert parts.partial_fit(X[at], y[at], groups[at], weights[at]) is parts
    whole = fit(frame, random_effects, weights)
    assert_same_model(parts, whole)
    np.testing.assert_allclose(predict(parts, frame), predict(whole, frame), rtol=0, atol=1e-10)


@pytest.mark.parametrize("weight_type", ["frequency", "precision"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_random_partitions_that_split_groups_make_no_difference(method, weight_type):
    frame = rows()
    X, y, groups = parts_of(frame, OUTSIDE)
    weights = np.random.default_rng(3).integers(1, 4, len(y)).astype(float)
    options = {"random_effects": OUTSIDE, "method": method, "weight_type": weight_type}
    whole = MixedEffectsRegressor(**options).fit(X, y, groups, weights)
    for seed in range(5):
        part = np.random.default_rng(seed).integers(0, 3, len(y))
        model = MixedEffectsRegressor(**options)
        for k in range(3):
            at = part == k
            model.partial_fit(X[at], y[at], groups[at], weights[at])
        assert_same_model(model, whole)


def test_partial_fit_goes_on_from_a_fit_and_fit_starts_anew():
    frame = rows()
    X, y, groups = parts_of(frame, OUTSIDE)
    model = MixedEffectsRegressor(random_effects=OUTSIDE).fit(X[:30], y[:30], groups[:30])
    assert_same_model(model.partial_fit(X[30:], y[30:], groups[30:]), fit(frame, OUTSIDE))
    assert model.fit(X[:30], y[:30], groups[:30]).moments_.moments.n_rows.sum() == 30
    # Other columns in another fit leave nothing of the first.
    model.set_params(random_effects=INSIDE).fit(X, y, groups)
    np.testing.assert_array_equal(model.predict(X, frame["g"]), predict(fit(frame), frame))


def test_until_the_rows_identify_the_model_it_is_not_fitted_and_nothing_is_lost():
    frame = rows().sort_values("g", kind="stable").reset_index(drop=True)
    X, y, groups = parts_of(frame, INSIDE)
    model = MixedEffectsRegressor(random_effects=INSIDE)
    for at in (slice(0, 0), slice(0, 1), slice(1, 3)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            model.partial_fit(X[at], y[at], groups[at])
        with pytest.raises(NotFittedError):
            model.predict(X, groups)
    assert model.moments_.moments.n_rows.tolist() == [3]
    assert_same_model(model.partial_fit(X[3:], y[3:], groups[3:]), fit(frame))


def records(frame, how):
    """A record of x, w and y with the slope of x."""
    X, y, g = frame[["x", "w"]], frame["y"], frame["g"]
    thirds = [frame.iloc[start::3] for start in range(3)]
    if how == "arrays":
        return GroupedScatter.from_arrays(X, y, g, slopes="x")
    if how == "sum":
        return sum(GroupedScatter.from_arrays(part[["x", "w"]], part["y"], part["g"], slopes=[0]) for part in thirds)
    return GroupedScatter.from_batches([(part[["x", "w"]], part["y"], part["g"]) for part in thirds], slopes=["x"])


@pytest.mark.parametrize("how", ["arrays", "sum", "batches"])
def test_a_record_is_fitted_as_its_rows_are(how):
    frame = rows()
    plain = fit(frame)
    model = MixedEffectsRegressor(random_effects=INSIDE).fit_moments(records(frame, how))
    assert_same_model(model, plain)
    assert list(model.feature_names_in_) == ["x", "w"]
    assert list(model.covariance_) == ["g"]
    np.testing.assert_allclose(predict(model, frame, return_std=True), predict(plain, frame, return_std=True), rtol=1e-10)
    half = MixedEffectsRegressor(random_effects=INSIDE).fit_moments(records(frame.iloc[:30], how))
    X, y, groups = parts_of(frame.iloc[30:], INSIDE)
    assert_same_model(half.partial_fit(X, y, groups), plain)


def test_a_record_serves_every_model_with_fewer_slopes():
    frame = rows()
    record = GroupedScatter.from_arrays(frame[["x", "w", "z"]], frame["y"], frame["g"], slopes=["x", "z"])
    for text in ("(1 | g)", INSIDE, "(1 + z | g)", "(1 + x + z || g)"):
        rest = MixedEffectsRegressor(random_effects=text)
        expected = clone(rest).fit(frame[["x", "w", "z"]], frame["y"], groups=frame["g"])
        assert_same_model(rest.fit_moments(record), expected)
    intercepts = RandomInterceptRegressor().fit_moments(record.moments)
    expected = RandomInterceptRegressor().fit(frame[["x", "w", "z"]], frame["y"], groups=frame["g"])
    np.testing.assert_allclose(intercepts.coef_, expected.coef_, rtol=SAME)


def test_bad_records_are_refused():
    frame = rows()
    record, model = records(frame, "arrays"), fit(frame)
    before = dict(vars(model))
    intercepts = RandomInterceptRegressor().fit(frame[["x"]], frame["y"], groups=frame["g"]).moments_
    for bad, message in [(frame, "must be a GroupedScatter.*; found DataFrame"), (intercepts, "found GroupedMoments")]:
        with pytest.raises(TypeError, match=message):
            model.fit_moments(bad)
    with pytest.raises(ValueError, match=r"'w', which is not among the slopes of the record \('x'\)"):
        MixedEffectsRegressor(random_effects="(1 + w | g)").fit_moments(record)
    with pytest.raises(ValueError, match="hold no rows"):
        model.fit_moments(records(frame.iloc[:0], "arrays"))
    with pytest.raises(ValueError, match="one group only"):
        model.fit_moments(records(frame.assign(g="one"), "arrays"))
    assert all(vars(model)[name] is before[name] for name in before)


BAD_PARTS = {
    "NaN in y": (lambda X, y, g: (X, y.where(y.index > 0), g), "y has 1 missing"),
    "NaN in X": (lambda X, y, g: (X.assign(x=X["x"].where(X.index != 3)), y, g), "Column 'x' of X has 1 missing"),
    "fewer columns": (lambda X, y, g: (X[["x"]], y, g), "feature names"),
    "other names": (lambda X, y, g: (X.rename(columns={"w": "v"}), y, g), "feature names"),
    "no X": (lambda X, y, g: (None, y, g), r"X is None, but before it had 2 column\(s\)"),
    "short groups": (lambda X, y, g: (X, y, g[:3]), "groups must hold one"),
    "missing labels": (lambda X, y, g: (X, y, g.assign(g=None)), r"groups has \d+ missing label\(s\)"),
    "negative weights": (lambda X, y, g: (X, y, g, -np.ones(len(y))), "sample_weight must not be negative"),
    "no column of slopes": (lambda X, y, g: (X, y, g["g"]), r"groups must be a frame with the column\(s\) z"),
    "slopes without labels": (lambda X, y, g: (X, y, g[["z"]]), "'g', which is a column neither of groups"),
}


@pytest.mark.parametrize("case", BAD_PARTS)
@pytest.mark.parametrize("name", ["fit", "partial_fit", "update_random_effects"])
def test_a_failed_call_leaves_the_model_as_it_was(name, case):
    frame = rows()
    X, y, groups = parts_of(frame, OUTSIDE)
    model = MixedEffectsRegressor(random_effects=OUTSIDE).fit(X, y, groups)
    before, expected = dict(vars(model)), model.predict(X, groups, return_std=True)
    change, message = BAD_PARTS[case]
    if name == "fit" and case in ("fewer columns", "other names", "no X"):
        change, message = (lambda X, y, g: (X, y, g[["z"]])), "'g', which is a column neither"
    if name == "fit" and case == "no column of slopes":
        message = "'z', which is neither in X .* nor in groups"
    with pytest.raises(ValueError, match=message):
        getattr(model, name)(*change(X, y, groups))
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[attribute] is before[attribute] for attribute in before)
    np.testing.assert_array_equal(model.predict(X, groups, return_std=True), expected)


def test_some_calls_with_groups_and_some_without_are_refused():
    frame = rows()
    X, y, groups = parts_of(frame, INSIDE)
    model = MixedEffectsRegressor(random_effects=INSIDE).partial_fit(X, y, groups)
    with pytest.raises(ValueError, match="partial_fit was given no groups, but earlier calls had some"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match="no groups were passed"):
        model.update_random_effects(X, y)
    with pytest.warns(GroupsNotPassedWarning):
        model = MixedEffectsRegressor(random_effects=INSIDE).partial_fit(X[:20], y[:20])
    with pytest.raises(ValueError, match="partial_fit was given groups, but earlier calls had none"):
        model.partial_fit(X, y, groups)
    with pytest.raises(ValueError, match="the model was fitted without groups"):
        model.update_random_effects(X, y, groups)


@pytest.mark.parametrize("random_effects", TERMS)
def test_effects_follow_new_rows_and_new_groups_and_nothing_else_changes(random_effects):
    frame = rows()
    first = (frame["g"] < "k08") & (frame.index > 10)
    model = fit(frame[first], random_effects)
    names = ("coef_", "intercept_", "variance_components_", "covariance_", "criterion_", "bic_", "cov_fixed_", "boundary_")
    fitted = {name: getattr(model, name) for name in names}
    table = inference.fixed_effects(model)
    assert model.update_random_effects(*parts_of(frame[~first], random_effects)) is model
    assert all(getattr(model, name) is value for name, value in fitted.items())
    pd.testing.assert_frame_equal(inference.fixed_effects(model), table)
    # The formula, with all rows: Sigma Z'(Z Sigma Z' + sigma2 I)^-1 (y - X beta).
    sigma, sigma2 = sigma_of(model).to_numpy(), model.variance_components_["residual"]
    _, X, Z = dense_of(frame, random_effects)
    left = frame["y"].to_numpy() - X @ [model.intercept_, *model.coef_]
    expected = pd.DataFrame(0.0, index=sorted(set(frame["g"])), columns=model.random_effects_.columns)
    for label in expected.index:
        at = (frame["g"] == label).to_numpy()
        V = Z[at] @ sigma @ Z[at].T + sigma2 * np.eye(at.sum())
        expected.loc[label] = sigma @ Z[at].T @ np.linalg.solve(V, left[at])
    assert list(model.groups_) == list(expected.index)
    np.testing.assert_allclose(model.random_effects_, expected, rtol=0, atol=1e-10)
    of_groups = predict(model, frame) - (frame["y"] - left)
    np.testing.assert_allclose(of_groups, (Z * expected.loc[frame["g"]]).sum(axis=1), atol=1e-10)


def test_updates_of_one_row_each_are_one_update_and_a_later_partial_fit_uses_all_rows():
    frame = rows()
    one, at_once = fit(frame.iloc[:40], OUTSIDE), fit(frame.iloc[:40], OUTSIDE)
    for at in range(40, len(frame)):
        one.update_random_effects(*parts_of(frame.iloc[[at]], OUTSIDE))
    at_once.update_random_effects(*parts_of(frame.iloc[40:], OUTSIDE))
    np.testing.assert_allclose(one.random_effects_, at_once.random_effects_, rtol=0, atol=1e-11)
    model = fit(frame.iloc[:30], OUTSIDE).update_random_effects(*parts_of(frame.iloc[30:45], OUTSIDE))
    assert_same_model(model.partial_fit(*parts_of(frame.iloc[45:], OUTSIDE)), fit(frame, OUTSIDE))


# ---- parameters set after the fit

CHANGES = [
    {"fit_intercept": False},
    {"method": "ml"},
    {"weight_type": "precision"},
    {"covariance": "diagonal"},
    {"random_effects": None},
    {"random_effects": "(1 + w | g)"},
    {"random_effects": "(0 + x | school)"},
]


@pytest.mark.parametrize("random_effects", [INSIDE, OUTSIDE])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: "{}={}".format(*next(iter(change.items()))))
def test_a_parameter_set_after_fit_changes_nothing_that_was_estimated(change, random_effects):
    frame, weights = rows(), 1.0 + np.arange(len(rows())) % 3
    X, y, groups = parts_of(frame, random_effects)
    model, small = fit(frame, random_effects, weights), fit(frame, "(1 | g)", weights)
    functions = {
        "predict": lambda: model.predict(X, groups, return_std=True),
        "predict_interval": lambda: inference.predict_interval(model, X, groups),
        "fixed_effects": lambda: inference.fixed_effects(model, ddf="kenward_roger"),
        "contrast_test": lambda: inference.contrast_test(model, "x - w"),
        "likelihood_ratio_test": lambda: inference.likelihood_ratio_test(small, model),
        "random_effects_test": lambda: inference.random_effects_test(model),
        "icc": lambda: inference.icc(model),
        "r2": lambda: inference.r2(model),
        "residuals": lambda: inference.residuals(model, X, y, groups, scaled=True),
        "known_groups": lambda: inference.known_groups(model, X, groups),
        "update_random_effects": lambda: copy_of(model).update_random_effects(X, y, groups, weights).random_effects_,
    }
    before = {name: np.asarray(function(), dtype=float) for name, function in functions.items()}
    model.set_params(**change)
    for name, function in functions.items():
        np.testing.assert_array_equal(np.asarray(function(), dtype=float), before[name], name)


def test_a_parameter_set_after_fit_counts_in_the_next_fit():
    frame = rows()
    model = fit(frame).set_params(method="ml", fit_intercept=False, random_effects="(1 + w || g)")
    expected = fit(frame, "(1 + w || g)", method="ml", fit_intercept=False)
    assert_same_model(model.fit(*parts_of(frame, INSIDE)), expected, 1e-15)
    model = fit(frame.iloc[:30]).set_params(method="ml", covariance="diagonal")
    model.partial_fit(*parts_of(frame.iloc[30:], INSIDE))
    assert_same_model(model, fit(frame, INSIDE, method="ml", covariance="diagonal"))


# ---- one random intercept

INTERCEPT_DESIGNS = {
    "plain": {},
    "ml": {"method": "ml"},
    "no intercept": {"fit_intercept": False},
    "frequencies": {},
    "precisions": {"weight_type": "precision"},
    "precisions ml": {"weight_type": "precision", "method": "ml"},
    "no group variance": {},
    "singletons": {},
}


@pytest.mark.parametrize("design", INTERCEPT_DESIGNS)
def test_one_random_intercept_is_the_answer_of_the_random_intercept_model(design):
    parameters = INTERCEPT_DESIGNS[design]
    X, y, groups = simulate(30 if design == "singletons" else 14, 1 if design == "singletons" else 6, seed=3)
    rng = np.random.default_rng(5)
    weights = {"freq": rng.integers(0, 4, len(y)).astype(float), "prec": np.exp(rng.standard_normal(len(y)))}.get(design[:4])
    if design == "no group variance":
        y = y - pd.Series(y - X @ np.ones(3)).groupby(groups).transform("mean").to_numpy()
    small = RandomInterceptRegressor(**parameters).fit(X, y, groups=groups, sample_weight=weights)
    model = MixedEffectsRegressor(**parameters).fit(X, y, groups=groups, sample_weight=weights)
    # Both optima are roots of the same derivative, found to rounding by different arithmetic.
    digits = 1e-12
    total = small.variance_components_.sum()
    np.testing.assert_allclose(model.variance_components_, small.variance_components_, rtol=0, atol=digits * total)
    for name in ("criterion_", "log_likelihood_", "aic_", "bic_", "icc_"):
        np.testing.assert_allclose(getattr(model, name), getattr(small, name), rtol=digits, atol=digits, err_msg=name)
    errors = np.sqrt(np.diag(small.cov_fixed_))
    order = slice(0 if small.fit_intercept else 1, None)
    beta, expected = (np.r_[m.intercept_, m.coef_][order] for m in (model, small))
    np.testing.assert_allclose((beta - expected) / errors, 0.0, atol=10 * digits)
    np.testing.assert_allclose((model.cov_fixed_ - small.cov_fixed_) / np.outer(errors, errors), 0.0, atol=digits)
    spread = np.sqrt(total)
    np.testing.assert_allclose(model.random_effects_["(Intercept)"], small.random_effects_, rtol=0, atol=digits * spread)
    assert (model.boundary_ is None) == (small.boundary_ is None)
    for labels in (groups, np.where(groups % 2, groups, 999), "population"):
        for ours, theirs in zip(*(m.predict(X, labels, return_std=True) for m in (model, small)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=digits * (spread + np.abs(theirs).max()))
    for ddf in ("satterthwaite", "kenward_roger") if small.method == "reml" else ("satterthwaite",):
        ours, theirs = inference.fixed_effects(model, ddf=ddf), inference.fixed_effects(small, ddf=ddf)
        # Degrees of freedom are ratios of squares of derivatives.
        np.testing.assert_allclose(ours["df"], theirs["df"], rtol=1e-11)
        np.testing.assert_allclose(ours["std_error"], theirs["std_error"], rtol=digits)
    for kind in ("observation", "group_mean", "population_mean"):
        ours, theirs = (inference.predict_interval(m, X, groups, kind=kind) for m in (model, small))
        # The random intercept model takes these df from a central difference.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8 * np.abs(theirs.to_numpy()).max())
    np.testing.assert_allclose(inference.r2(model), inference.r2(small), rtol=0, atol=digits)


# ---- lme4 and its companions on real data

METHODS = ["REML", "ML"]
# The smaller eigenvalue of this case is 1e-5 of the larger, so that doubles give it to 2% and the rest to 1e-6.
NEAR = ("dialyzer_near_singular", "REML")
# At these units or origins lme4 or its companions lose digits; the exact figures are those of sleepstudy_slope.
FAR, SCALED = "sleepstudy_plus_1000", ("sleepstudy_x_1e6", "sleepstudy_x_1em6")
TO_ORIGIN = np.array([[1.0, 1000.0], [0.0, 1.0]])


def test_no_case_is_left_out(reference_mixed):
    import json

    reference_mixed("A", REAL_CASES[0])
    folder = inspect.getclosurevars(reference_mixed).globals["_REFERENCE_MIXED"]
    assert [case["id"] for case in json.loads((folder / "cases_A.json").read_text(encoding="utf-8"))] == REAL_CASES


class Real:
    """A case of part A, its data, and the model that the public interface fits to them."""

    def __init__(self, reference_mixed, name, method):
        frame, self.case = reference_mixed("A", name)
        self.factor = self.case["group_columns"][0]
        frame[self.factor] = frame[self.factor].astype(str)
        self.X, self.y, _, weights = real_columns(frame, self.case)
        self.columns = [column for term in self.case["terms"] for column in term["columns"]]
        outside = [column for column in self.columns if column != "(Intercept)" and column not in self.X]
        self.groups = frame[[self.factor, *outside]]
        text = " + ".join(re.findall(r"\([^)]*\|[^)]*\)", self.case["formula"]))
        # lme4's weights are precisions.
        options = {"method": method.lower(), "weight_type": "precision" if self.case["weight"] else "frequency"}
        self.model = MixedEffectsRegressor(random_effects=text, **options).fit(self.X, self.y, self.groups, weights)
        self.truth = self.case[method]
        Z = np.column_stack([np.ones(len(frame)) if name == "(Intercept)" else frame[name] for name in self.columns])
        # Variances that would give y as much as the residual does: sizes of a variance that is 0.
        self.unit = self.truth["sigma2"] / (Z**2).mean(axis=0)
        self.Z = Z

    def covariance(self):
        """The reference's covariance of all terms."""
        ends = np.cumsum([len(term["columns"]) for term in self.truth["varcorr"]])
        whole = np.zeros((ends[-1],) * 2)
        for end, term in zip(ends, self.truth["varcorr"], strict=True):
            at = slice(end - len(term["columns"]), end)
            whole[at, at] = term["cov"]
        return whole

    def assert_covariance(self, found, expected, digits):
        """Assert that two covariances agree, relative to the variances."""
        size = np.sqrt(np.where(np.diag(expected) > 0, np.diag(expected), self.unit))
        np.testing.assert_allclose((found - expected) / np.outer(size, size), 0.0, atol=digits)


@pytest.fixture(scope="module")
def real(reference_mixed):
    """Fit a case once."""
    found = {}

    def fitted(name, method):
        if (name, method) not in found:
            found[name, method] = Real(reference_mixed, name, method)
        return found[name, method]

    return fitted


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", REAL_CASES)
def test_estimates_on_real_data_are_those_of_lme4_at_the_optimum(real, name, method):
    case = real(name, method)
    model, truth = case.model, case.truth
    sigma = model.covariance_[case.factor]
    assert list(sigma.index) == list(model.random_effects_.columns) == case.columns
    # Far from the origin the reference has lost some digits itself.
    np.testing.assert_allclose(model.log_likelihood_, truth["logLik"], rtol=1e-9 if name == FAR else 1e-12)
    assert model.log_likelihood_ >= truth["logLik"] - 1e-12 * abs(truth["logLik"])
    digits = 1e-6 if (name, method) == NEAR else 1e-9
    se, expected, origin = np.array(truth["se"]), truth, np.eye(len(truth["se"]))
    if name == FAR:
        expected, origin = real("sleepstudy_slope", method).truth, TO_ORIGIN
        se = np.array(expected["se"])
        case.assert_covariance(TO_ORIGIN @ sigma.to_numpy() @ TO_ORIGIN.T, np.array(expected["varcorr"][0]["cov"]), 1e-8)
    else:
        case.assert_covariance(sigma.to_numpy(), case.covariance(), 2e-6 if (name, method) == NEAR else 1e-8)
    np.testing.assert_allclose(model.variance_components_["residual"], expected["sigma2"], rtol=2 * digits)
    beta = origin @ [model.intercept_, *model.coef_]
    np.testing.assert_allclose((beta - expected["beta"]) / se, 0.0, atol=10 * digits)
    cov_fixed = origin @ model.cov_fixed_ @ origin.T
    np.testing.assert_allclose((cov_fixed - expected["vcov_beta"]) / np.outer(se, se), 0.0, atol=max(10 * digits, 1e-7))
    np.testing.assert_allclose([model.aic_, model.bic_], [truth["AIC"], truth["BIC"]], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [name for name in REAL_CASES if name != NEAR[0]])
def test_a_singular_fit_on_real_data_is_exactly_singular(real, name, method):
    case = real(name, method)
    assert (case.model.boundary_ is not None) == case.truth["singular"]
    sigma, start = case.model.covariance_[case.factor].to_numpy(), 0
    for term, rank in zip(case.case["terms"], case.truth["rank"], strict=True):
        at = slice(start, start + len(term["columns"]))
        start = at.stop
        eigenvalues = np.linalg.eigvalsh(sigma[at, at] / np.sqrt(np.outer(case.unit[at], case.unit[at])))
        # Of a matrix that is a product of a factor and its transpose, to rounding.
        assert np.count_nonzero(eigenvalues > 1e-12 * max(eigenvalues.max(), 1e-300)) == rank
    if case.truth["singular"]:
        for direction in case.model.boundary_[case.factor].to_numpy():
            size = np.abs(direction) @ np.sqrt(np.abs(np.diag(sigma)))
            assert direction @ sigma @ direction <= 1e-12 * max(size**2, 1e-300)


@pytest.mark.parametrize("name", REAL_CASES)
def test_random_effects_on_real_data_are_those_of_lme4(real, name):
    case = real(name, "REML")
    effects = case.model.random_effects_
    digits = 5e-6 if name == FAR else 1e-6 if name == NEAR[0] else 1e-7
    for term in case.truth["ranef"]:
        at = [case.columns.index(column) for column in term["columns"]]
        # Where the mode is 0, lme4's effects are as small as its tolerance.
        size = np.maximum(np.abs(term["condval"]).max(axis=0), 1e-3 * np.sqrt(case.unit[at]))
        ours = effects.loc[term["levels"], term["columns"]].to_numpy()
        np.testing.assert_allclose((ours - term["condval"]) / size, 0.0, atol=digits)
        sums = term["checksums"]["sum_abs"]
        difference = np.abs(effects[term["columns"]]).sum().to_numpy() - sums
        np.testing.assert_allclose(difference / np.maximum(sums, size), 0.0, atol=digits)


@pytest.mark.parametrize("name", REAL_CASES)
def test_predictions_on_real_data_are_those_of_lme4(real, name):
    case = real(name, "REML")
    truth = case.truth["predict_first_rows"]
    k = len(truth["population"])
    X, groups = case.X.iloc[:k], case.groups.iloc[:k]
    size = np.abs(truth["population"]).max() * (1e-6 if name == NEAR[0] else 1e-8)
    np.testing.assert_allclose(case.model.predict(X, groups.assign(**{case.factor: None})), truth["population"], atol=size)
    np.testing.assert_allclose(case.model.predict(X, groups), truth["conditional"], atol=size)
    nobody = groups.assign(**{case.factor: "no such level"})
    np.testing.assert_allclose(case.model.predict(X, nobody), truth["new_level"][case.factor], atol=size)


@pytest.mark.parametrize("name", [name for name in REAL_CASES if name != NEAR[0]])
@pytest.mark.parametrize(("method", "ddf"), [("REML", "satterthwaite"), ("ML", "satterthwaite"), ("REML", "kenward_roger")])
def test_degrees_of_freedom_on_real_data_are_those_of_lmertest_and_pbkrtest(real, name, method, ddf):
    case = real(name, method)
    source = real("sleepstudy_slope", method).truth if name in (FAR, *SCALED) else case.truth
    if source[ddf] is None:
        pytest.skip("pbkrtest was not run: too many rows, or weights")
    table = inference.fixed_effects(case.model, ddf=ddf)
    # The intercept at another origin is another contrast.
    at = slice(1, None) if name == FAR else slice(None)
    # lmerTest takes its derivatives from differences.
    np.testing.assert_allclose(table["df"].iloc[at], source[ddf]["df"][at], rtol=1e-5)
    if ddf == "kenward_roger" and name not in (FAR, *SCALED):
        adjusted = np.sqrt(np.diag(source[ddf]["vcov_adjusted"]))
        np.testing.assert_allclose(table["std_error"], adjusted, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in REAL_CASES if name != "exam_weighted"])
def test_r2_on_real_data_averages_the_random_part_over_the_rows(real, name):
    case = real(name, "REML")
    found = inference.r2(case.model)
    fixed = np.var(case.X.to_numpy() @ case.model.coef_, ddof=1)
    random = np.einsum("ia,ab,ib->i", case.Z, case.model.covariance_[case.factor], case.Z).mean()
    total = fixed + random + case.model.variance_components_["residual"]
    # With x near 1000, the variances of the intercept and the slope cancel in z' Sigma z here, to 1e-9.
    digits = 1e-6 if name == FAR else 1e-9
    np.testing.assert_allclose(found[["marginal", "conditional"]], [fixed / total, (fixed + random) / total], rtol=digits)


# ---- cases that went wrong elsewhere, with their right answers (next_rooms, S1 to S8)
# The answers are dense algebra's, to the digits that are written.

RS = np.random.RandomState


def lines():
    r = RS(32)
    k = [5, 3, 4, 2, 5, 4, 3, 4]
    g = np.repeat(np.arange(8), k)
    x = np.concatenate([np.arange(v) * 1.0 for v in k])
    y = (12 + 0.9 * x + (r.randn(8) * 1.8)[g] + (r.randn(8) * 0.7)[g] * x + 0.9 * r.randn(30)).round(2)
    return pd.DataFrame({"y": y, "x": x, "g": [f"n{v}" for v in g]})


def weighted():
    r = RS(52)
    g = np.repeat(np.arange(9), 3)
    x, w = np.tile([-1.0, 0, 2], 9), np.tile([2, 1, 3, 1, 1, 2, 4, 1, 1], 3)
    y = (5 - 0.6 * x + r.randn(9)[g] * 1.2 + (r.randn(9) * 0.6)[g] * x + r.randn(27) / np.sqrt(w)).round(2)
    return pd.DataFrame({"y": y, "x": x, "g": g, "w": w})


def two_optima():
    g = [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6]
    x = [3.0, -2, -1, 0, 0, 1, -1, 1, -3, -2, -2, -2, 1, -2, 3, 2, 0, -2, 3, 3]
    y = [0.5, 0.4, 0.6, -0.4, 0.3, 0.6, 0.5, 0.3, -0.1, 1.7, 1.9, 3.8, -0.2, -0.6, 2.5, 1.8, 1.0, -0.2, -0.5, -1.5]
    return pd.DataFrame({"y": y, "x": x, "g": g})


def twins():
    r = RS(11)
    g, spread = np.repeat(np.arange(12), 2), np.repeat([1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6], 2)
    x = np.tile([0.0, 1.0], 12) * spread + np.repeat([0, 1, 2, 0, 1, 2, 3, 0, 1, 4, 2, 0], 2)
    y = (2 + 0.5 * x + (r.randn(12) * 1.5)[g] + (r.randn(12) * 0.7)[g] * x + r.randn(24) * 0.5).round(2)
    return pd.DataFrame({"y": y, "x": x, "g": g})


def kinds():
    r = RS(21)
    g, f = np.repeat(np.arange(8), 6), np.tile(np.repeat(["lo", "mid", "hi"], 2), 8)
    c = np.array([{"lo": 0, "mid": 1, "hi": 2}[v] for v in f])
    b = r.randn(8, 3) @ np.array([[1, 0.6, 0.2], [0, 0.8, 0.5], [0, 0, 0.9]])
    y = (5 + np.array([0, 1, 3.0])[c] + b[g, c] + 0.7 * r.randn(48)).round(2)
    return pd.DataFrame({"y": y, "g": [f"p{v}" for v in g]} | {name: (f == name) * 1.0 for name in ("hi", "lo", "mid")})


def constant_within(values):
    r = RS(41)
    g, x = np.repeat(np.arange(12), 3), np.tile([-1.0, 0, 1], 12)
    z = np.array(values, float)[np.arange(12) % len(values)][g]
    y = (1 + x + 0.5 * z + (r.randn(12))[g] * (1 + 0.8 * z) + 0.6 * r.randn(36)).round(2)
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": g})


def of_x(frame, random_effects=INSIDE, sample_weight=None, **parameters):
    """The model with x in the fixed part."""
    model = MixedEffectsRegressor(random_effects=random_effects, **parameters)
    return model.fit(frame[["x"]], frame["y"], groups=frame[["g"]], sample_weight=sample_weight)


def assert_answer(model, criterion, residual, sigma, coefficients=None):
    """Assert the criterion to 1e-8, variances to 1e-6 and coefficients to 1e-7, as the answers are to be read."""
    assert model.criterion_ == pytest.approx(criterion, abs=1e-8)
    assert model.variance_components_["residual"] == pytest.approx(residual, rel=1e-6)
    found = sigma_of(model).to_numpy()
    np.testing.assert_allclose(found[np.triu_indices(2)], sigma, rtol=0, atol=1e-6 * max(sigma))
    if coefficients is not None:
        np.testing.assert_allclose([model.intercept_, *model.coef_], coefficients, atol=1e-7)


@pytest.mark.parametrize(
    ("method", "criterion", "residual", "sigma"),
    [
        ("reml", 55.962217190774, 0.404510292693, [1.4129077794, 0.1264003211, 0.0113079151]),
        ("ml", 53.230634352998, 0.380462637875, [1.1520829946, 0.0919141391, 0.0073329864]),
    ],
)
def test_of_two_optima_the_better_one_is_found_on_the_boundary(method, criterion, residual, sigma):
    model = of_x(two_optima(), method=method)
    assert_answer(model, criterion, residual, sigma)
    found = sigma_of(model).to_numpy()
    assert found[0, 1] == pytest.approx(np.sqrt(found[0, 0] * found[1, 1]), rel=1e-14)
    assert list(model.boundary_) == ["g"]


def test_as_many_random_effects_as_rows_are_fitted_if_the_rows_differ_from_group_to_group():
    frame = twins()
    answer = [2.7101083381, 0.4730854717, 0.4096651864]
    assert_answer(of_x(frame), 93.9912016566, 0.0389565265523, answer, [1.484074618357, 0.71571816768])
    answer = [2.4752712157, 0.4389203849, 0.3754013898]
    assert_answer(of_x(frame, method="ml"), 92.6177143563, 0.0384754166677, answer)
    with pytest.raises(ValueError, match=r"residual variance and the variances of \(1 \+ x \| g\) cannot be told apart"):
        of_x(frame.assign(x=np.tile([0.0, 1.0], 12)))


def test_independent_slopes_of_dummies_are_a_variance_for_each_level():
    frame = kinds()
    arguments = frame[["lo", "mid"]], frame["y"], frame[["g", "hi"]]
    apart = MixedEffectsRegressor(random_effects="(0 + hi + lo + mid || g)").fit(*arguments)
    assert apart.criterion_ == pytest.approx(116.8519301914, abs=1e-8)
    np.testing.assert_allclose(sigma_of(apart), np.diag([1.2932446429, 0.4698558036, 0.2627325893]), atol=1e-6)
    full = MixedEffectsRegressor(random_effects="(0 + hi + lo + mid | g)").fit(*arguments)
    assert full.criterion_ == pytest.approx(108.5414981383, abs=1e-8)
    off = np.array([[0, 0.6363375, 0.5276169643], [0, 0, 0.2088321429], [0, 0, 0]])
    np.testing.assert_allclose(sigma_of(full), np.diag(np.diag(sigma_of(apart))) + off + off.T, atol=1e-6)


def test_known_and_new_groups_in_one_call():
    frame = lines()
    model = of_x(frame)
    assert_answer(model, 103.8323584088, 1.04928897865, [0.3985102099, 0.07964903, 0.4593955509])
    new = pd.DataFrame({"x": [1.0, 6, 1, 6], "g": ["n0", "n3", "elsewhere", "elsewhere"]})
    mean = np.array([13.1844643245, 20.8287139649, 14.3737791988, 19.7260520270])
    std = np.array([0.4052254412, 3.6367032422, 1.0901451314, 4.5898013154])
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3], [0, 1]):
        at = new.iloc[order]
        found = model.predict(at[["x"]], at[["g"]], return_std=True)
        np.testing.assert_allclose(found, [mean[order], std[order]], rtol=1e-7)
    table = inference.predict_interval(model, new[["x"]], new[["g"]])
    np.testing.assert_allclose(table["prediction"], mean, rtol=1e-7)
    half = (table["upper"] - table["lower"]) / 2
    total = np.array([1.1015882338, 3.7782137910, 1.4958961816, 4.7027189044])
    assert ((half >= stats.norm.ppf(0.975) * total) & (half <= stats.t.ppf(0.975, 1) * total)).all()


def test_a_slope_of_what_is_constant_within_groups_is_identified_by_three_values():
    def fitted(values):
        frame = constant_within(values)
        model = MixedEffectsRegressor(random_effects="(1 + z | g)")
        return model.fit(frame[["x", "z"]], frame["y"], groups=frame[["g"]])

    with pytest.raises(ValueError, match=r"different covariances of \(1 \+ z \| g\).*The groups of g"):
        fitted([0, 1])
    assert_answer(fitted([0, 1, 2]), 100.3767353624, 0.400872592897, [0.3114460355, 0.5392294817, 0.9336077548])
    assert_answer(fitted([0, 0.5, 1, 2]), 98.2124196178, 0.400046376812, [1.7021049942, -1.6052169682, 2.4255527274])


@pytest.mark.parametrize(
    ("weight_type", "method", "criterion", "residual", "sigma", "coefficients"),
    [
        ("precision", "reml", 89.7586236589, 0.809036436938, [0.657990795, 0.1245144358, 0.4708317492], (0, 1)),
        ("precision", "ml", 88.1592019353, 0.814336335574, [0.5585221828, 0.1153402733, 0.4070724208], (2, 3)),
        ("frequency", "reml", 120.2450996143, 0.240478469451, [0.8080193408, 0.1010871779, 0.5369592422], (4, 5)),
        ("frequency", "ml", 118.6751759582, 0.240546284523, [0.7110090055, 0.0909476832, 0.4740976223], (6, 7)),
    ],
)
def test_weights_are_precisions_or_copies(weight_type, method, criterion, residual, sigma, coefficients):
    values = [5.227157582842, -0.348300169968, 5.223712627215, -0.348251820427]
    values += [5.245510102211, -0.347794403079, 5.244516680259, -0.347844496163]
    coefficients = [values[at] for at in coefficients]
    frame = weighted()
    model = of_x(frame, sample_weight=frame["w"], weight_type=weight_type, method=method)
    assert_answer(model, criterion, residual, sigma, coefficients)
    if weight_type == "precision":
        tenfold = of_x(frame, sample_weight=10 * frame["w"], weight_type=weight_type, method=method)
        assert_answer(tenfold, criterion, 10 * residual, sigma, coefficients)
        np.testing.assert_allclose(tenfold.log_likelihood_, model.log_likelihood_, rtol=1e-13)
    else:
        copies = frame.loc[frame.index.repeat(frame["w"])].reset_index(drop=True)
        assert_same_model(of_x(copies, method=method), model)


@pytest.mark.parametrize("text", ["(1 | g) + (1 + x | g)", "(1 | g) + (1 | g)"])
def test_the_same_coefficient_in_two_terms_is_refused_by_both_names(text):
    first, second = map(re.escape, text.split(" + ", 1))
    with pytest.raises(ValueError, match=f"two terms, {first} and {second}"):
        of_x(lines(), text)


@pytest.mark.parametrize("shift", [0, 10, -3])
def test_shares_of_variance_do_not_depend_on_where_x_is_0(shift):
    frame = lines().assign(x=lambda t: t["x"] - shift)
    with_x = of_x(frame)
    without = MixedEffectsRegressor(random_effects=INSIDE).fit(None, frame["y"], groups=frame[["g", "x"]])
    assert without.criterion_ == pytest.approx(111.1717300724, abs=1e-8)
    shares = inference.r2(with_x)
    np.testing.assert_allclose(shares[["marginal", "conditional"]], [0.3447449773, 0.7987929553], atol=1e-8)
    np.testing.assert_allclose(inference.r2(without)[["marginal", "conditional"]], [0.0, 0.8146774283], atol=1e-8)
    # Without a fixed slope the conditional R squared is the intraclass correlation of the average row.
    assert inference.icc(without) == pytest.approx(0.8146774283, abs=1e-8)


# Found by chance: a column that is constant within groups, six of them. By dense algebra from 40 starts.
def test_the_lowest_of_several_optima_is_found_where_x_does_not_vary_within_groups():
    sizes = [2, 5, 5, 5, 3, 5]
    y = [2.0, 2.5, 10.3, 7.4, 7.9, 9.2, 7.6, -0.2, -0.5, -1.2, 0.1, -0.1, 2.5, 0.3, 2.2, 2.9, 0.7, 4.6, 3.8, 3.9, -0.4, 0.8]
    y += [-1.4, -2.4, -1.0]
    frame = pd.DataFrame({"x": np.repeat([3.0, 2, 1, 3, 2, 0], sizes), "g": np.repeat(np.arange(6), sizes), "y": y})
    assert of_x(frame, method="ml").criterion_ == pytest.approx(87.45106279817016, abs=1e-8)
    # The other one is 86.20312575984676.
    assert of_x(frame).criterion_ == pytest.approx(84.77165238749362, abs=1e-8)


def test_the_lowest_of_several_optima_is_found_without_a_fixed_intercept():
    # The random intercepts take the mean of 100, so that their variance is some 10,000 times the residual's.
    r = RS(6)
    within, values, between = np.repeat(r.rand(31) < 0.5, 3), r.randn(93), np.repeat(r.randn(31), 3)
    r.randn(62)
    x = np.where(within, values, between).round(1)
    y = (100 + x + r.randn(93)).round(1)
    for method, criterion in (("reml", 547.9349527906861), ("ml", 546.3440040677967)):
        model = MixedEffectsRegressor(random_effects="(1 + x0 | g)", fit_intercept=False, method=method)
        model.fit(x[:, None], y, groups=np.repeat(np.arange(31), 3))
        # The dense criterion has lost four digits at such a ratio of variances.
        assert model.criterion_ <= criterion + 1e-7


# ---- metamorphic relations


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("random_effects", TERMS)
def test_the_order_of_rows_and_the_names_of_groups_make_no_difference(random_effects, method):
    frame = rows()
    plain = fit(frame, random_effects, method=method)
    assert_same_model(fit(frame.sample(frac=1, random_state=1).reset_index(drop=True), random_effects, method=method), plain)
    names = {f"k{j:02d}": f"group {(7 * j) % 12}" for j in range(12)}
    renamed = fit(frame.assign(g=frame["g"].map(names)), random_effects, method=method)
    np.testing.assert_allclose(renamed.variance_components_, plain.variance_components_, rtol=SAME, atol=1e-14)
    effects = renamed.random_effects_.loc[[names[label] for label in plain.groups_]]
    np.testing.assert_allclose(effects, plain.random_effects_, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("x_unit", "z_unit", "y_unit"), [(1e-8, 1.0, 1e8), (1e6, 1e-6, 1.0), (1.0, 1e8, 1e-30), (3.0, 7.0, 1e40)]
)
@pytest.mark.parametrize("random_effects", TERMS)
def test_units_make_no_difference(random_effects, x_unit, z_unit, y_unit):
    frame = rows()
    plain = fit(frame, random_effects)
    scaled = frame.assign(x=frame["x"] * x_unit, z=frame["z"] * z_unit, y=frame["y"] * y_unit)
    model = fit(scaled, random_effects)
    unit = pd.Series({"(Intercept)": 1.0, "x": x_unit, "z": z_unit})[sigma_of(plain).index].to_numpy() / y_unit
    biggest = np.sqrt(np.outer(np.diag(sigma_of(plain)), np.diag(sigma_of(plain))))
    difference = sigma_of(model).to_numpy() * np.outer(unit, unit) - sigma_of(plain).to_numpy()
    np.testing.assert_allclose(difference / np.where(biggest > 0, biggest, 1.0), 0.0, atol=SAME)
    found = np.array(predict(model, scaled, return_std=True)) / y_unit
    np.testing.assert_allclose(found, predict(plain, frame, return_std=True), rtol=1e-10)
    for ddf in ("satterthwaite", "kenward_roger"):
        ours, theirs = inference.fixed_effects(model, ddf=ddf), inference.fixed_effects(plain, ddf=ddf)
        np.testing.assert_allclose(ours[["df", "t"]], theirs[["df", "t"]], rtol=1e-10)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("random_effects", TERMS)
def test_where_zero_lies_makes_no_difference(random_effects, method):
    frame = rows()
    # On this grid the shifted doubles are exact, so that only the arithmetic is tested.
    frame[["x", "w", "z", "y"]] = np.round(frame[["x", "w", "z", "y"]] * 2**20) / 2**20
    plain = fit(frame, random_effects, method=method)
    # Independent coefficients, and those without an intercept, have variances that depend on where x is 0.
    shift = 1e6 if random_effects in (INSIDE, OUTSIDE) else 0.0
    moved = frame.assign(x=frame["x"] + shift, z=frame["z"] + shift, w=frame["w"] + 1e6, y=frame["y"] + 1e6)
    model = fit(moved, random_effects, method=method)
    mean, std = predict(model, moved, return_std=True)
    expected, expected_std = predict(plain, frame, return_std=True)
    np.testing.assert_allclose(mean, expected + 1e6, rtol=1e-9)
    # The shift takes six digits of the predictors, and of nothing else.
    np.testing.assert_allclose(mean - 1e6, expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(std, expected_std, rtol=1e-9)
    np.testing.assert_allclose(model.variance_components_["residual"], plain.variance_components_["residual"], rtol=1e-10)
    np.testing.assert_allclose(model.criterion_, plain.criterion_, rtol=1e-10)
    table, other = inference.fixed_effects(model), inference.fixed_effects(plain)
    np.testing.assert_allclose(table.iloc[1:], other.iloc[1:], rtol=1e-8)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("random_effects", [INSIDE, OUTSIDE, APART])
def test_frequency_weights_are_copies_of_rows(random_effects, method, convert):
    frame = rows(16)
    counts = np.random.default_rng(0).integers(0, 4, len(frame))
    text = random_effects.replace("x", "x0")

    def fitted(frame, weights=None):
        model = MixedEffectsRegressor(random_effects=text, method=method)
        return model.fit(convert(frame[["x", "w"]].to_numpy()), frame["y"].to_numpy(), frame[["g", "z"]], weights)

    weighted = fitted(frame, counts)
    copied = fitted(frame.loc[frame.index.repeat(counts)].reset_index(drop=True))
    dropped = fitted(frame[counts > 0].reset_index(drop=True), counts[counts > 0])
    for other in (copied, dropped):
        assert_same_model(weighted, other)
        for ddf in ("satterthwaite", "kenward_roger") if method == "reml" else ("satterthwaite",):
            tables = [inference.fixed_effects(one, ddf=ddf) for one in (weighted, other)]
            np.testing.assert_allclose(*tables, rtol=1e-9)
        np.testing.assert_allclose(inference.r2(weighted), inference.r2(other), rtol=1e-10)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_precisions_times_ten_change_the_residual_variance_alone(method):
    frame, weights = rows(), np.exp(np.random.default_rng(1).standard_normal(len(rows())))
    options = {"weight_type": "precision", "method": method}
    plain, tenfold = fit(frame, INSIDE, weights, **options), fit(frame, INSIDE, 10 * weights, **options)
    np.testing.assert_allclose(tenfold.variance_components_, plain.variance_components_ * [1, 1, 10], rtol=SAME)
    np.testing.assert_allclose(sigma_of(tenfold), sigma_of(plain), rtol=SAME)
    np.testing.assert_allclose(tenfold.log_likelihood_, plain.log_likelihood_, rtol=1e-13)
    np.testing.assert_allclose(predict(tenfold, frame, return_std=True), predict(plain, frame, return_std=True), rtol=1e-10)
    np.testing.assert_allclose(inference.fixed_effects(tenfold), inference.fixed_effects(plain), rtol=1e-9)


@pytest.mark.parametrize("random_effects", TERMS)
def test_a_combination_of_the_columns_that_is_added_to_y_is_added_to_the_coefficients(random_effects):
    frame = rows()
    plain = fit(frame, random_effects)
    model = fit(frame.assign(y=frame["y"] + 3.0 + 1000 * frame["x"] - 500 * frame["w"]), random_effects)
    np.testing.assert_allclose(model.coef_ - [1000, -500], plain.coef_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.variance_components_, plain.variance_components_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.random_effects_, plain.random_effects_, rtol=0, atol=1e-8)


def test_the_basis_of_correlated_coefficients_makes_no_difference():
    frame = rows()
    plain = fit(frame, "(1 + x + z | g)")
    other = frame.assign(z=2 * frame["z"] - frame["x"] + 5)
    turned = fit(other, "(1 + x + z | g)")
    np.testing.assert_allclose(turned.criterion_, plain.criterion_, rtol=1e-12)
    np.testing.assert_allclose(predict(turned, other), predict(plain, frame), atol=1e-9)
    np.testing.assert_allclose(inference.fixed_effects(turned), inference.fixed_effects(plain), rtol=1e-8)


# ---- inference of the models


@pytest.mark.parametrize("random_effects", [INSIDE, OUTSIDE, APART])
def test_comparisons_are_of_models_fitted_by_maximum_likelihood(random_effects):
    frame = rows()
    small, large = fit(frame, "(1 | g)"), fit(frame, random_effects)
    ml = [fit(frame, text, method="ml") for text in ("(1 | g)", random_effects)]
    table = inference.likelihood_ratio_test(large=large, small=small)
    assert list(table.index) == ["small", "large"]
    np.testing.assert_allclose(table["deviance"], [model.criterion_ for model in ml], rtol=1e-12)
    np.testing.assert_allclose(table["aic"], [model.aic_ for model in ml], rtol=1e-12)
    statistic, added = ml[0].criterion_ - ml[1].criterion_, {INSIDE: 2, OUTSIDE: 2, APART: 2}[random_effects]
    np.testing.assert_allclose(table["chi2"].iloc[1], statistic, rtol=1e-9)
    assert table["df"].iloc[1] == added
    np.testing.assert_allclose(table["p_value"].iloc[1], stats.chi2.sf(statistic, added), rtol=1e-8)
    if random_effects != APART:
        mixture = (stats.chi2.sf(statistic, 1) + stats.chi2.sf(statistic, 2)) / 2
        np.testing.assert_allclose(table["p_mixture"].iloc[1], mixture, rtol=1e-8)
    # The random intercept model is the same small model.
    other = RandomInterceptRegressor().fit(frame[["x", "w"]], frame["y"], groups=frame["g"])
    np.testing.assert_allclose(inference.likelihood_ratio_test(other, large)["chi2"], table["chi2"], rtol=1e-9)


def test_models_with_the_same_columns_are_compared_by_their_restricted_likelihoods():
    frame = rows()
    models = {"intercepts": fit(frame, "(1 | g)"), "slopes": fit(frame), "apart": fit(frame, "(1 + x || g)")}
    table = inference.compare_models(**models)
    assert set(table["method"]) == {"REML"}
    np.testing.assert_allclose(table["aic"], [model.aic_ for model in models.values()], rtol=1e-13)
    np.testing.assert_allclose(table["bic"], [model.bic_ for model in models.values()], rtol=1e-13)
    np.testing.assert_allclose(table["aic_weight"].sum(), 1.0)
    row = inference.glance(models["slopes"]).iloc[0]
    assert row["n_groups"] == 12
    assert row["n_samples"] == len(frame)
    np.testing.assert_allclose(row["criterion"], models["slopes"].criterion_, rtol=1e-15)
    np.testing.assert_allclose(row["sigma"] ** 2, models["slopes"].variance_components_["residual"], rtol=1e-14)


def test_models_of_other_rows_and_models_that_are_not_nested_are_refused():
    frame = rows()
    with pytest.raises(ValueError, match="different rows, groups or outcomes"):
        inference.likelihood_ratio_test(fit(frame, "(1 | g)"), fit(frame.iloc[:-1]))
    with pytest.raises(ValueError, match="not nested"):
        inference.likelihood_ratio_test(fit(frame, "(1 + w | g)"), fit(frame))
    with pytest.raises(ValueError, match="not nested"):
        inference.likelihood_ratio_test(fit(frame), fit(frame))


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_each_random_coefficient_is_tested_by_the_model_without_it(method):
    frame = rows()
    table = inference.random_effects_test(fit(frame, "(1 + x + z | g)", method=method))
    for name, text in {"(Intercept)": "(0 + x + z | g)", "x": OUTSIDE, "z": INSIDE}.items():
        X, y, _ = parts_of(frame, text)
        other = MixedEffectsRegressor(random_effects=text, method=method).fit(X, y, frame[["g", "z"]])
        np.testing.assert_allclose(table.loc[name, "criterion"], other.criterion_, rtol=1e-12)
    assert (table["df"] == 3).all()
    np.testing.assert_allclose(table["p_naive"], stats.chi2.sf(table["chi2"], 3), rtol=1e-12)
    mixture = (stats.chi2.sf(table["chi2"], 2) + stats.chi2.sf(table["chi2"], 3)) / 2
    np.testing.assert_allclose(table["p_value"], mixture, rtol=1e-12)
    # Without its only coefficient, the model is least squares.
    alone = inference.random_effects_test(fit(frame, "(1 | g)", method=method))
    with pytest.warns(GroupsNotPassedWarning):
        ols = MixedEffectsRegressor(method=method).fit(frame[["x", "w"]], frame["y"])
    np.testing.assert_allclose(alone["criterion"], ols.criterion_, rtol=1e-12)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward_roger"])
@pytest.mark.parametrize("random_effects", TERMS)
def test_degrees_of_freedom_are_those_of_dense_algebra(random_effects, ddf):
    frame = rows(seed=6)
    model = fit(frame, random_effects)
    dense, _, Z = dense_of(frame, random_effects)
    q = Z.shape[1]
    blocks = [[at] for at in range(q)] if "||" in random_effects else [list(range(q))]
    G = sigma_of(model).to_numpy() / model.variance_components_["residual"]
    table = inference.fixed_effects(model, ddf=ddf)
    for at, contrast in enumerate(np.eye(3)):
        if ddf == "satterthwaite":
            df = dense.satterthwaite(G, contrast, blocks, stratum=True)
        else:
            adjusted, df = dense.kenward_roger(G, contrast, blocks)
            np.testing.assert_allclose(table["std_error"].iloc[at] ** 2, adjusted[at, at], rtol=1e-8)
        np.testing.assert_allclose(table["df"].iloc[at], df, rtol=1e-7)
    expected = {
        "satterthwaite": lambda: dense.satterthwaite(G, [0, 1, 2], blocks, stratum=True),
        "kenward_roger": lambda: dense.kenward_roger(G, [0, 1, 2], blocks)[1],
    }
    np.testing.assert_allclose(inference.contrast_test(model, "x + 2 * w", ddf=ddf)["df"], expected[ddf](), rtol=1e-7)
    terms = inference.term_tests(model, ddf=ddf)
    np.testing.assert_allclose(terms["F"], table["t"].iloc[1:] ** 2, rtol=1e-10)
    np.testing.assert_allclose(terms["p_value"], table["p_value"].iloc[1:], rtol=1e-8)


def test_the_intraclass_correlation_of_a_row_depends_on_its_x():
    frame = rows()
    model = fit(frame)
    Z = np.column_stack([np.ones(len(frame)), frame["x"]])
    random = np.einsum("ia,ab,ib->i", Z, sigma_of(model), Z)
    sigma2 = model.variance_components_["residual"]
    np.testing.assert_allclose(inference.icc(model, X=frame[["x", "w"]]), random / (random + sigma2), rtol=1e-11)
    np.testing.assert_allclose(inference.icc(model), random.mean() / (random.mean() + sigma2), rtol=1e-11)
    outside = fit(frame, OUTSIDE)
    Z[:, 1] = frame["z"]
    random = np.einsum("ia,ab,ib->i", Z, sigma_of(outside), Z)
    expected = random / (random + outside.variance_components_["residual"])
    np.testing.assert_allclose(inference.icc(outside, X=frame[["x", "w"]], groups=frame[["g", "z"]]), expected, rtol=1e-11)


@pytest.mark.parametrize("random_effects", [INSIDE, OUTSIDE])
def test_residuals_and_augmented_rows_are_y_less_predictions(random_effects):
    frame = rows()
    X, y, groups = parts_of(frame, random_effects)
    model = MixedEffectsRegressor(random_effects=random_effects).fit(X, y, groups)
    mean, sigma = model.predict(X, groups), np.sqrt(model.variance_components_["residual"])
    np.testing.assert_allclose(inference.residuals(model, X, y, groups), y - mean, rtol=0, atol=1e-13)
    np.testing.assert_allclose(inference.residuals(model, X, y, groups, scaled=True), (y - mean) / sigma, rtol=0, atol=1e-12)
    table = inference.augment(model, X, y, groups)
    np.testing.assert_allclose(table[".fitted"], mean, rtol=1e-14)
    np.testing.assert_allclose(table[".resid"], y - mean, rtol=0, atol=1e-13)
    np.testing.assert_allclose(table[".fixed"], model.intercept_ + X.to_numpy() @ model.coef_, rtol=1e-12)
    assert list(table["g"]) == list(frame["g"])
    assert table[".known"].all()


def test_intervals_of_predictions_hold_what_their_kind_says():
    frame = rows()
    X, y, groups = parts_of(frame, INSIDE)
    model = MixedEffectsRegressor(random_effects=INSIDE).fit(X, y, groups)
    mixed = groups.assign(g=np.where(np.arange(len(y)) % 2, groups["g"], "nobody"))
    mean, std = model.predict(X, mixed, return_std=True)
    sigma2 = model.variance_components_["residual"]
    variances = {"observation": std**2 + sigma2, "group_mean": std**2}
    for kind, variance in variances.items():
        table = inference.predict_interval(model, X, mixed, kind=kind)
        half = ((table["upper"] - table["lower"]) / 2).to_numpy()
        np.testing.assert_allclose(table["prediction"], mean, rtol=1e-12)
        # t intervals of one to infinitely many degrees of freedom.
        assert (half >= stats.norm.ppf(0.975) * np.sqrt(variance) * (1 - 1e-9)).all()
        assert (half <= stats.t.ppf(0.975, 1) * np.sqrt(variance) * (1 + 1e-9)).all()
    fixed = inference.predict_interval(model, X, kind="population_mean")
    table = inference.contrast_test(model, np.column_stack([np.ones(3), X[:3]]), joint=False)
    np.testing.assert_allclose(fixed.iloc[:3], table[["estimate", "ci_lower", "ci_upper"]], rtol=1e-8)


def test_an_error_about_labels_says_which_column_of_x_they_are():
    frame = rows()
    labels = frame["g"].where(frame.index > 2)
    with pytest.raises(ValueError, match=r"groups has 3 missing label\(s\)") as caught:
        MixedEffectsRegressor(random_effects=INSIDE).fit(frame[["x", "w"]].assign(g=labels), frame["y"])
    assert caught.value.__notes__ == ["The groups are the column 'g' of X, unless groups are passed too."]
    # A factor that X does not have is named beside what is wrong with the columns that it has.
    with pytest.raises(ValueError, match="Column 'g' of X must hold numbers") as caught:
        MixedEffectsRegressor(random_effects="(1 + x | h)").fit(frame[["x", "w", "g"]], frame["y"])
    assert caught.value.__notes__ == ["There are no groups: X has no column 'h', which random_effects names."]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_without_groups_the_warning_names_the_method_and_the_factor(method):
    frame = rows()
    model = MixedEffectsRegressor(random_effects="(1 + x | school)")
    said = (
        f"^{method} was given no groups, so the model is ordinary least squares. X has no column 'school', which "
        r"random_effects names. Pass fit\(X, y, groups=...\), or leave the column that random_effects names in X;"
    )
    with pytest.warns(GroupsNotPassedWarning, match=said):
        getattr(model, method)(frame[["x", "w"]], frame["y"])
