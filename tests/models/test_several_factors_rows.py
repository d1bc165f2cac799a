"""Several grouping factors: labels of every kind, records and their parts, pipelines, cross-validation and displays."""

import pickle
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from factor_cases import frame_of
from many_cases import check_each
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GroupKFold, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sklearn_mlm import CellScatter, MixedEffectsRegressor, cross_validate_groups, inference
from sklearn_mlm.display import (
    DiagnosticsDisplay,
    FittedLineDisplay,
    GroupLinesDisplay,
    RandomCoefficientsDisplay,
    RandomEffectsDisplay,
    VarianceDisplay,
    VarianceFunctionDisplay,
)
from sklearn_mlm.model_selection._factor_folds import factor_splits

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
TEXT = "(1 | b/a) + (1 | c)"
LABELS = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def one_thread():
    """More threads cost more than they save with few rows."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def frame():
    return frame_of("mixed", 1)


@pytest.fixture(scope="module")
def plain(frame):
    """The model of plain frames of text."""
    return fit(frame[["x0"]], frame["y"], frame[LABELS])


def fit(X, y, groups=None, sample_weight=None, text=TEXT, **parameters):
    return MixedEffectsRegressor(random_effects=text, **parameters).fit(X, y, groups=groups, sample_weight=sample_weight)


def same(model, other, rtol=1e-11):
    """Whether two models have the same criterion, fixed effects and variances."""
    np.testing.assert_allclose(model.criterion_, other.criterion_, rtol=rtol)
    np.testing.assert_allclose(model.fit_.coefficients, other.fit_.coefficients, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(model.variance_components_, other.variance_components_, rtol=1e-5, atol=1e-7)


# ---- labels

NUMBERS = {"a": "int64", "b": "int16", "c": "float64"}


def in_numbers(frame):
    return frame[LABELS].apply(lambda labels: labels.str[1:].astype(int)).astype(NUMBERS)


GROUPS = {
    "categories": lambda f: f[LABELS].astype("category"),
    "categories in another order": lambda f: f[LABELS].apply(
        lambda c: pd.Categorical(c, sorted(set(c))[::-1], ordered=True)
    ),
    "numbers": in_numbers,
    "more columns in another order": lambda f: f[["y", "c", "x1", "b", "a"]],
    "polars": lambda f: pl.DataFrame(f[LABELS].to_dict("list")),
    "polars categories": lambda f: pl.DataFrame(f[LABELS].to_dict("list")).with_columns(pl.all().cast(pl.Categorical)),
    "pyarrow": lambda f: pa.table(f[LABELS].to_dict("list")),
    "objects": lambda f: f[LABELS].astype(object),
    "dates": lambda f: f[LABELS].assign(a=pd.Timestamp("2020-01-01") + pd.to_timedelta(in_numbers(f)["a"], unit="D")),
}


def test_labels_of_any_kind_and_container_are_the_same_levels(frame, plain):
    expected = plain.predict(frame[["x0"]], groups=frame[LABELS], return_std=True)

    def check(kind, where):
        groups = GROUPS[kind](frame)
        X = frame[["x0"]]
        if where == "X":
            if isinstance(groups, pd.DataFrame):
                X, groups = pd.concat([groups[LABELS[:1]], X, groups[LABELS[1:]]], axis=1), None
            elif isinstance(groups, pl.DataFrame):
                X, groups = pl.concat([groups, pl.DataFrame({"x0": frame["x0"].to_numpy()})], how="horizontal"), None
            else:
                X, groups = groups.append_column("x0", pa.array(frame["x0"].to_numpy())), None
        elif isinstance(groups, pl.DataFrame):
            X = pl.DataFrame({"x0": frame["x0"].to_numpy()})
        model = fit(X, frame["y"].to_numpy() if not isinstance(X, pd.DataFrame) else frame["y"], groups)
        same(model, plain)
        found = model.predict(X, groups=groups, return_std=True)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)

    in_x = ["categories", "numbers", "polars", "pyarrow"]
    cases = [(kind, "groups") for kind in GROUPS] + [(kind, "X") for kind in in_x]
    check_each([(f"{kind} in {where}", (kind, where)) for kind, where in cases], check)


def test_labels_in_both_places_are_those_of_groups(frame, plain):
    X = frame[["x0", *LABELS]].assign(c="wrong")
    # The columns of labels are no predictors, wherever the labels come from.
    mixed = fit(X, frame["y"], frame[["c"]])
    same(mixed, plain)
    np.testing.assert_allclose(
        mixed.predict(X, groups=frame[["c"]]), plain.predict(frame[["x0"]], groups=frame[LABELS]), rtol=1e-7
    )
    np.testing.assert_allclose(mixed.coef_, [plain.coef_[0], 0.0, 0.0, 0.0], rtol=1e-7)
    # groups="population" leaves all of them out.
    population = plain.intercept_ + frame["x0"] * plain.coef_[0]
    np.testing.assert_allclose(mixed.predict(X, groups="population"), population, rtol=1e-8, atol=1e-9)


def test_without_random_effects_each_column_of_groups_is_a_factor(frame):
    model = MixedEffectsRegressor().fit(frame[["x0"]], frame["y"], groups=frame[["c", "b"]])
    same(model, fit(frame[["x0"]], frame["y"], frame[LABELS], text="(1 | c) + (1 | b)"))
    assert list(model.random_effects_) == ["c", "b"]


def test_labels_that_collide_as_text_or_as_products_of_codes_are_apart():
    r = np.random.default_rng(0)
    n = 60
    a = np.array(["1", "11", "1:1"], dtype=object)[r.integers(0, 3, n)]
    b = np.array(["1:1", "1", "11"], dtype=object)[r.integers(0, 3, n)]
    frame = pd.DataFrame({"a": a, "b": b, "c": r.integers(0, 2, n) * 2**62})
    y = r.standard_normal(n) + 2 * r.standard_normal(9)[pd.factorize(pd.Series(list(zip(a, b, strict=True))))[0]]
    model = fit(None, y, frame, text="(1 | a:b:c)")
    levels = frame.drop_duplicates()
    effects = model.random_effects_["a:b:c"]
    assert len(effects) == len(levels)
    assert set(effects.index) == set(levels.itertuples(index=False, name=None))


def test_columns_with_random_coefficients_may_stand_in_groups(frame):
    text = "(1 + x1 | c) + (1 | a)"
    model = fit(frame[["x0"]], frame["y"], frame[["a", "c", "x1"]], text=text)
    assert model.coef_.shape == (1,)
    assert list(model.covariance_["c"]) == ["(Intercept)", "x1"]
    mean = model.predict(frame[["x0"]], groups=frame[["x1", "a", "c"]])
    residuals = inference.residuals(model, frame[["x0"]], frame["y"], frame[["a", "c", "x1"]])
    np.testing.assert_allclose(residuals, frame["y"] - mean, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"groups must be a frame with the column\(s\) x1, as in fit"):
        model.predict(frame[["x0"]], groups=frame[["a", "c"]])


# ---- records


def test_parts_of_a_record_in_any_order_are_the_whole(frame, plain):
    X, y, labels = frame[["x0"]], frame["y"], frame[LABELS]
    whole = CellScatter.from_arrays(X, y, labels)
    parts = [CellScatter.from_arrays(X[i::4], y[i::4], labels[i::4]) for i in (2, 0, 3, 1)]
    same(MixedEffectsRegressor(random_effects=TEXT).fit_moments(whole), plain)
    for merged in (parts[0].merge(*parts[1:]), sum(parts), parts[3] + parts[1] + parts[0] + parts[2]):
        model = MixedEffectsRegressor(random_effects=TEXT).fit_moments(merged)
        same(model, plain)
        assert merged.n_groups == whole.n_groups
        np.testing.assert_allclose(model.predict(X, groups=labels), plain.predict(X, groups=labels), rtol=1e-7)
    # The columns of labels may come in any order.
    others = [
        part if at % 2 else CellScatter.from_arrays(X[at::4], y[at::4], labels[at::4][labels.columns[::-1]])
        for at, part in enumerate([CellScatter.from_arrays(X[i::4], y[i::4], labels[i::4]) for i in range(4)])
    ]
    same(MixedEffectsRegressor(random_effects=TEXT).fit_moments(sum(others)), plain)
    # Other models of the same record, whose factors are some of its columns.
    other = MixedEffectsRegressor(random_effects="(1 | c)").fit_moments(whole)
    np.testing.assert_allclose(other.criterion_, fit(X, y, frame["c"], text="(1 | c)").criterion_, rtol=1e-11)


def test_rows_in_parts_are_the_model_of_all_rows(frame, plain):
    X, y, labels = frame[["x0"]], frame["y"], frame[LABELS]
    model = MixedEffectsRegressor(random_effects=TEXT)
    for i in (1, 2, 0):
        model.partial_fit(X[i::3], y[i::3], labels[i::3] if i else labels[i::3][["c", "b", "a"]])
    same(model, plain)
    for name, effects in plain.random_effects_.items():
        found = model.random_effects_[name]
        np.testing.assert_allclose(found.loc[effects.index], effects, rtol=1e-6, atol=1e-8)


def test_new_rows_change_random_effects_alone(frame):
    X, y, labels = frame[["x0"]], frame["y"], frame[LABELS]
    model = fit(X[:60], y[:60], labels[:60])
    before = model.fit_.coefficients, model.variance_components_.copy()
    new = labels[60:].copy()
    new.iloc[0, 0], new.iloc[1, 2] = "never seen", "c9"
    model.update_random_effects(X[60:], y[60:], new)
    np.testing.assert_array_equal(model.fit_.coefficients, before[0])
    np.testing.assert_array_equal(model.variance_components_, before[1])
    assert "c9" in model.random_effects_["c"].index
    assert "c9" in set(model.random_effects_["c"].index)
    # They are those of all rows at these parameters: Z' V^-1 (y - X beta), by n x n algebra.
    together = pd.concat([labels[:60], new])
    V = np.eye(len(y)) * before[1]["residual"]
    covariances = {}
    for (factor, effects), variance in zip(model.random_effects_.items(), before[1], strict=False):
        key = pd.MultiIndex.from_frame(together[factor.split(":")]) if ":" in factor else pd.Index(together[factor])
        at = effects.index.get_indexer(key)
        covariances[factor] = variance * (at[:, None] == np.arange(len(effects)))
        V += variance * (at[:, None] == at)
    scores = np.linalg.solve(V, y - before[0][0] - X["x0"] * before[0][1])
    for factor, cov in covariances.items():
        np.testing.assert_allclose(model.random_effects_[factor].iloc[:, 0], cov.T @ scores, rtol=1e-7, atol=1e-9)


def test_weights_are_copies_or_precisions_and_rows_without_weight_are_no_rows(frame):
    X, y, labels = frame[["x0"]], frame["y"], frame[LABELS]
    counts = np.arange(len(y)) % 3
    copies = frame.loc[frame.index.repeat(counts)]
    model = fit(X, y, labels, counts)
    same(model, fit(copies[["x0"]], copies["y"], copies[LABELS]))
    # A level that rows of weight 0 alone have is a new level.
    odd = labels.assign(c=np.where(counts == 0, "nobody", labels["c"]), a=np.where(counts == 0, "nobody", labels["a"]))
    same(fit(X, y, odd, counts), model)
    found = fit(X, y, odd, counts).random_effects_
    assert all("nobody" not in np.array(effects.index.to_list(), dtype=object).ravel() for effects in found.values())
    once = fit(X, y, odd, (counts > 0) * 2.0, weight_type="precision")
    some = counts > 0
    rows = fit(X[some], y[some], labels[some])
    np.testing.assert_allclose(once.variance_components_["residual"], 2 * rows.variance_components_["residual"], rtol=1e-6)
    np.testing.assert_allclose(once.criterion_, rows.criterion_, rtol=1e-10)


# ---- scikit-learn


def test_precisions_tell_a_level_for_every_row_from_the_residual(frame):
    """With V = sigma2 W^-1 + tau2 I, the variances of rows are a line of 1 / weight."""
    rng = np.random.default_rng(0)
    n = 400
    weights = rng.choice([0.2, 1.0, 8.0], n)
    rows = pd.DataFrame({"a": rng.integers(0, 20, n), "row": np.arange(n)})
    y = rng.standard_normal(20)[rows["a"]] + 0.7 * rng.standard_normal(n) + rng.standard_normal(n) / np.sqrt(weights)
    model = MixedEffectsRegressor(random_effects="(1 | a) + (1 | row)", weight_type="precision")
    model.fit(None, y, groups=rows, sample_weight=weights)
    row, residual = model.variance_components_["row (Intercept)"], model.variance_components_["residual"]
    V = np.diag(residual / weights + row) + model.variance_components_["a (Intercept)"] * np.equal.outer(
        rows["a"].to_numpy(), rows["a"].to_numpy()
    )
    inverse, one = np.linalg.inv(V), np.ones(n)
    information = one @ inverse @ one
    left = y - one @ inverse @ y / information
    criterion = (n - 1) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + np.log(information) + left @ inverse @ left
    np.testing.assert_allclose(model.criterion_, criterion, rtol=1e-11)
    assert 0.2 < row < 0.9
    with pytest.raises(ValueError, match="row has a level for every row"):
        model.fit(None, y, groups=rows, sample_weight=np.full(n, 2.0))


def test_copies_and_pickles(frame, plain):
    X, labels = frame[["x0"]], frame[LABELS]
    expected = plain.predict(X, groups=labels, return_std=True)
    copy = pickle.loads(pickle.dumps(plain))
    np.testing.assert_array_equal(copy.predict(X, groups=labels, return_std=True), expected)
    assert str(copy.summary(X, frame["y"], labels)) == str(plain.summary(X, frame["y"], labels))
    again = clone(plain)
    assert again.get_params() == plain.get_params()
    assert not hasattr(again, "fit_")
    same(again.fit(X, frame["y"], groups=labels), plain)


def test_pipelines_pass_columns_of_labels_on(frame, plain):
    scaled = make_column_transformer(
        (StandardScaler(), ["x0"]), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    pipeline = make_pipeline(scaled, MixedEffectsRegressor(random_effects=TEXT)).fit(frame[["x0", *LABELS]], frame["y"])
    np.testing.assert_allclose(
        pipeline.predict(frame[["x0", *LABELS]]), plain.predict(frame[["x0"]], groups=frame[LABELS]), rtol=1e-6, atol=1e-7
    )
    scores = cross_val_score(pipeline, frame[["x0", *LABELS]], frame["y"], cv=GroupKFold(2), groups=frame["c"])
    assert np.isfinite(scores).all()
    with config_context(enable_metadata_routing=True):
        model = MixedEffectsRegressor(random_effects=TEXT)
        model.set_fit_request(groups=True).set_score_request(groups=True)
        routed = cross_validate(model, frame[["x0"]], frame["y"], cv=KFold(2), params={"groups": frame[LABELS]})
    unrouted = cross_val_score(clone(plain), frame[["x0", *LABELS]], frame["y"], cv=KFold(2))
    np.testing.assert_allclose(routed["test_score"], unrouted, rtol=1e-8)


def test_folds_of_new_levels_share_no_level_with_their_training_rows(frame):
    groupings = {"b": ("b",), "b:a": ("b", "a"), "c": ("c",)}
    splits = factor_splits(frame[LABELS], groupings, 3, 0)
    assert list(splits) == ["known", "new b", "new b:a", "new c", "all new"]
    pairs = frame["b"] + "|" + frame["a"]
    columns = {"b": frame["b"], "b:a": pairs, "c": frame["c"]}
    for kind, folds in splits.items():
        tested = np.concatenate([test for _, test in folds])
        assert len(np.unique(tested)) == len(tested), kind
        for train, test in folds:
            assert not set(train) & set(test)
            shared = {name: set(labels.iloc[train]) & set(labels.iloc[test]) for name, labels in columns.items()}
            if kind == "all new":
                assert not any(shared.values())
            elif kind != "known":
                assert not shared[kind.removeprefix("new ")]
    X, y, labels = frame[["x0"]], frame["y"], frame[LABELS]
    model = MixedEffectsRegressor(random_effects=TEXT)
    table = cross_validate_groups(model, X, y, labels, cv=2, random_state=0)
    shown = table.index.get_level_values(0).unique().tolist()
    assert [name for name in splits if name in shown] == list(splits)
    assert np.isfinite(table.to_numpy()).all()


# ---- inference and displays


def test_tables_of_a_factor_are_those_of_its_levels(frame, plain):
    for name, effects in plain.random_effects_.items():
        table = inference.random_effects_table(plain, factor=name)
        assert len(table) == len(effects)
        np.testing.assert_allclose(table["effect"], effects.to_numpy().ravel(), rtol=1e-12)
        report = inference.clustering_report(plain, factor=name)
        assert report["n_groups"] == len(effects)
    shares = inference.icc(plain)
    variances = plain.variance_components_
    np.testing.assert_allclose(shares.drop("all"), variances.iloc[:-1].to_numpy() / variances.sum(), rtol=1e-10)
    np.testing.assert_allclose(shares["all"], shares.drop("all").sum(), rtol=1e-12)
    some = frame[LABELS].assign(a=np.where(np.arange(len(frame)) < 3, "new", frame["a"]))
    some.iloc[5, 2] = None
    assert inference.known_groups(plain, frame[["x0"]], some).tolist() == [len(frame) - 4, 3, 1]
    test = inference.random_effects_test(plain)
    for term, smaller in {"b (Intercept)": "(1 | b:a) + (1 | c)", "c (Intercept)": "(1 | b/a)"}.items():
        other = fit(frame[["x0"]], frame["y"], frame[LABELS], text=smaller)
        np.testing.assert_allclose(test.loc[term, "criterion"], other.criterion_, rtol=1e-10)


def test_intervals_allow_for_each_unknown_level(frame, plain):
    X = frame[["x0"]][:4]
    labels = frame[LABELS][:4].copy()
    labels.iloc[1, 0] = labels.iloc[2, 2] = "new"
    labels.iloc[3] = "new"
    mean, std = plain.predict(X, groups=labels, return_std=True)
    table = inference.predict_interval(plain, X, labels, kind="group_mean")
    np.testing.assert_allclose(table["prediction"], mean, rtol=1e-12)
    half = ((table["upper"] - table["lower"]) / 2).to_numpy()
    assert (half >= 1.959 * std).all()
    assert std[3] > std[0]


def test_displays_are_drawn_of_each_factor():
    frame = frame_of("mixed", 5)
    text = "(1 + x0 | c) + (1 | b/a)"
    X, y, labels = frame[["x0", "x1"]], frame["y"], frame[LABELS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fit(X, y, labels, text=text)
        VarianceDisplay.from_estimator(model)
        VarianceFunctionDisplay.from_estimator(model, X, feature="x0")
        DiagnosticsDisplay.from_estimator(model, X, y, labels)
        RandomCoefficientsDisplay.from_estimator(model, factor="c")
        for factor in model.random_effects_:
            for kind in ("hist", "caterpillar", "qq"):
                RandomEffectsDisplay.from_estimator(model, factor=factor, kind=kind)
            GroupLinesDisplay.from_estimator(model, X, y, labels, feature="x0", factor=factor)
            FittedLineDisplay.from_estimator(model, X, "x0", y=y, groups=labels, factor=factor, show_groups=2)
            plt.close("all")
    for display in (RandomEffectsDisplay, RandomCoefficientsDisplay):
        with pytest.raises(ValueError, match="several grouping factors: pass factor, one of 'c', 'b', 'b:a'"):
            display.from_estimator(model)
