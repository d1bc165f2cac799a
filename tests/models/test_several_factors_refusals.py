"""Several grouping factors: what is refused, and of what is warned, in words; a failed call changes nothing."""

import warnings

import numpy as np
import pandas as pd
import pytest
from factor_cases import frame_of
from many_cases import check_each
from sklearn.exceptions import NotFittedError
from threadpoolctl import threadpool_limits

from sklearn_mlm import (
    CellScatter,
    DroppedColumnsWarning,
    GroupedScatter,
    GroupsNotPassedWarning,
    MixedEffectsRegressor,
    RandomInterceptRegressor,
    cross_validate_groups,
    inference,
)

TEXT = "(1 | a) + (1 | b)"
LABELS = ["a", "b"]


@pytest.fixture(autouse=True)
def one_thread():
    """More threads cost more than they save with few rows."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def frame():
    return frame_of("crossed", 0, n=50)


@pytest.fixture(scope="module")
def model(frame):
    return fit(frame)


def fit(frame, text=TEXT, X=("x0",), groups=LABELS, **parameters):
    """The model of some columns; groups are columns, or labels."""
    weights = parameters.pop("sample_weight", None)
    groups = frame[groups] if isinstance(groups, list) else groups
    X = frame[list(X)] if isinstance(X, tuple | list) else X
    return MixedEffectsRegressor(random_effects=text, **parameters).fit(X, frame["y"], groups=groups, sample_weight=weights)


def without_some(frame, name):
    return frame[LABELS].assign(**{name: frame[name].where(frame.index > 2)})


NEITHER = r"random_effects names the column\(s\) of labels {}, which are neither in groups \(which has {}\) nor in X"
A_FRAME = "groups must be a frame with the columns 'a', 'b', because the model has several columns of labels; found a "
SAME = "factors a and b put the rows into the same 11 groups, so that only the sum of their variances is identified"
# How a fit goes wrong, and what is said of it.
BAD_FITS = {
    "an array of labels": (lambda f: fit(f, groups=f[LABELS].to_numpy()), A_FRAME + "ndarray"),
    "one column": (lambda f: fit(f, groups=f["a"]), A_FRAME + "Series"),
    "a frame without a column": (lambda f: fit(f, groups=["a"]), NEITHER.format("'b'", "'a'")),
    "no groups": (lambda f: fit(f, groups=None), NEITHER.format("'a', 'b'", "no columns")),
    "a column twice": (lambda f: fit(f, groups=["a", "b", "a"]), "groups has 2 columns with the name 'a'"),
    "missing labels": (lambda f: fit(f, groups=without_some(f, "b")), r"groups has 3 missing label\(s\) in 50 rows"),
    "too few labels": (lambda f: fit(f, groups=f[LABELS][:5]), r"groups of shape \(5,\) for 50 rows"),
    "rows in another order": (
        lambda f: fit(f, groups=f[LABELS][::-1]),
        "X and groups hold the same index in different orders",
    ),
    "one level": (
        lambda f: fit(f.assign(b=1)),
        "The factor b has one level only, which does not show how much its levels vary",
    ),
    "a level for every row": (
        lambda f: fit(f.assign(b=f.index)),
        "The factor b has a level for every row, so that its variance",
    ),
    "pairs for every row": (
        lambda f: fit(f.assign(b=f.index), "(1 | a) + (1 | a:b)"),
        "The factor a:b has a level for every row",
    ),
    "the same partition": (lambda f: fit(f.assign(b="z" + f["a"])), SAME),
    "pairs that are one of the two": (
        lambda f: fit(f.assign(b=f["a"].str[1:].astype(int) // 4), "(1 | a) + (1 | a:b)"),
        "factors a and a:b put the rows into the same 11 groups",
    ),
    "a factor of the fixed part": (
        lambda f: fit(f, X=pd.get_dummies(f["b"], drop_first=True).astype(float)),
        r"the same at every variance of \(1 \| b\), because the fixed effects already determine the differences",
    ),
    "its own labels": (lambda f: fit(f, "(1 + a | a:b)"), "lets the coefficient of 'a' vary between the groups of 'a:b'"),
    "a pair twice": (lambda f: fit(f, "(1 | a:b) + (x0 | b:a)"), r"has '\(Intercept\)' in two terms"),
    "an unknown slope": (lambda f: fit(f, "(1 + v | a) + (1 | b)"), "names the column 'v', which is neither in X"),
    "weights of zero": (lambda f: fit(f, sample_weight=np.zeros(50)), "sample_weight is zero in every row"),
    "NaN in y": (lambda f: fit(f.assign(y=f["y"].where(f.index > 0))), "y has 1 missing"),
    "NaN in X": (lambda f: fit(f.assign(x0=f["x0"].where(f.index > 0))), "Column 'x0' of X has 1 missing"),
    "a residual for every row": (
        lambda f: fit(f.assign(b=f.index), "(1 | a) + (0 + x1 | b) + (1 | b)", X=("x0", "x1")),
        "cannot be told apart|level for every row|identif",
    ),
}


def test_what_cannot_be_fitted_is_refused_in_words_and_changes_nothing(frame):
    fitted = fit(frame)
    expected = fitted.predict(frame[["x0"]], groups=frame[LABELS], return_std=True)

    def check(call, message):
        with pytest.raises(ValueError, match=message):
            call(frame)

    check_each(list(BAD_FITS.items()), check)
    before = dict(vars(fitted))
    for groups in (frame["a"], frame[["a"]], frame[LABELS][:5], without_some(frame, "a"), frame[LABELS].assign(b=1)):
        for call in (fitted.fit, fitted.partial_fit, fitted.update_random_effects):
            if call == fitted.fit or groups.shape != (50, 2) or groups["a"].isna().any():
                with pytest.raises(ValueError, match=r"groups|one level"):
                    call(frame[["x0"]], frame["y"], groups)
                assert vars(fitted).keys() == before.keys()
                assert all(vars(fitted)[name] is before[name] for name in before)
    np.testing.assert_array_equal(fitted.predict(frame[["x0"]], groups=frame[LABELS], return_std=True), expected)


def test_designs_that_look_like_these_are_fitted(frame):
    by_row = frame.assign(b=frame.index)
    same = frame.assign(b="z" + frame["a"])
    for text, rows in {
        "(1 | a) + (0 + x0 | b)": by_row,  # the residual variance is the part that does not depend on x
        "(1 | a) + (0 + x0 | b) ": same,  # different coefficients of the same groups
        "(1 | b) + (0 + x0 | a)": frame,
    }.items():
        model = fit(rows, text)
        assert np.isfinite(model.criterion_), text
    one_factor = fit(frame, "(1 + x0 || a)", groups=frame["a"])
    np.testing.assert_allclose(fit(same, "(1 | a) + (0 + x0 | b)").criterion_, one_factor.criterion_, rtol=1e-10)
    # With the factor in the fixed part, maximum likelihood finds no variance of it.
    dummies = pd.get_dummies(frame["b"], drop_first=True).astype(float)
    ml = fit(frame, X=dummies, method="ml")
    assert ml.variance_components_["b (Intercept)"] == 0.0
    assert "b" in ml.boundary_


def test_bad_records_are_refused(frame, model):
    X, y = frame[["x0"]], frame["y"]
    record = CellScatter.from_arrays(X, y, frame[LABELS])
    before = dict(vars(model))
    empty = CellScatter.from_arrays(X[:0], y[:0], frame[LABELS][:0])
    cases = {
        "no rows": (lambda: model.fit_moments(empty), ValueError, "hold no rows"),
        "a column": (
            lambda: MixedEffectsRegressor(random_effects="(1 | c)").fit_moments(record),
            ValueError,
            r"names the column of labels 'c', which the record does not have \(it has 'a', 'b'\)",
        ),
        "a slope": (
            lambda: MixedEffectsRegressor(random_effects="(x0 | a) + (1 | b)").fit_moments(record),
            ValueError,
            r"'x0', which is not among the slopes of the record \(none\)",
        ),
        "another kind of model": (lambda: RandomInterceptRegressor().fit_moments(record), TypeError, "found CellScatter"),
        "no record": (
            lambda: model.fit_moments(frame),
            TypeError,
            "CellScatter for several grouping factors; found DataFrame",
        ),
        "other labels": (
            lambda: record.merge(CellScatter.from_arrays(X, y, frame[["a", "c"]])),
            ValueError,
            "different columns of labels",
        ),
        "other columns": (
            lambda: record + CellScatter.from_arrays(frame[["x0", "x1"]], y, frame[LABELS]),
            ValueError,
            "Cannot merge moments",
        ),
        "one column of labels": (
            lambda: record.merge(GroupedScatter.from_arrays(X, y, frame["a"], slopes=())),
            TypeError,
            "records of cells",
        ),
        "no frame": (
            lambda: CellScatter.from_arrays(X, y, frame[LABELS].to_numpy()),
            ValueError,
            "groups must be a frame with a column for each",
        ),
        "one factor": (
            lambda: RandomInterceptRegressor().fit(X, y, groups=frame[LABELS]),
            ValueError,
            "groups must be one-dimensional",
        ),
    }

    def check(call, kind, message):
        with pytest.raises(kind, match=message):
            call()

    check_each(list(cases.items()), check)
    assert all(vars(model)[name] is before[name] for name in before)


def test_new_rows_are_predicted_or_refused_by_level_and_factor(frame, model):
    X, labels = frame[["x0"]], frame[LABELS]
    new = labels.assign(b=np.where(labels.index < 2, "new", labels["b"]))
    strict = fit(frame, new_groups="error")
    np.testing.assert_allclose(strict.predict(X, groups=labels), model.predict(X, groups=labels), rtol=1e-12)
    with pytest.raises(ValueError, match=r"groups has 1 level\(s\) of b that fit has not seen, among them \['new'\]"):
        strict.predict(X, groups=new)
    missing = labels.assign(b=labels["b"].where(labels.index > 1))
    as_nan = fit(frame, new_groups="nan")
    assert np.isnan(as_nan.predict(X, groups=new)).sum() == 2
    # A row without a label has a level of that factor that is not known, which is no error.
    np.testing.assert_allclose(as_nan.predict(X, groups=missing), model.predict(X, groups=new), rtol=1e-12)
    # Its level of the other factor is known.
    effects = model.random_effects_["a"].iloc[:, 0]
    expected = model.intercept_ + X["x0"][:2] * model.coef_[0] + effects[labels["a"][:2]].to_numpy()
    np.testing.assert_allclose(model.predict(X[:2], groups=new[:2]), expected, rtol=1e-10)
    with pytest.raises(ValueError, match=NEITHER.format("'b'", "'a'")):
        model.predict(X, groups=labels[["a"]])
    with pytest.raises(ValueError, match=A_FRAME):
        model.predict(X, groups=labels.to_numpy())
    with pytest.raises(NotFittedError):
        MixedEffectsRegressor(random_effects=TEXT).predict(X, groups=labels)


def test_functions_of_one_factor_ask_which(frame, model):
    X, y, labels = frame[["x0"]], frame["y"], frame[LABELS]
    with pytest.raises(AttributeError, match=r"inference\.icc\(model\) returns the share of each of several factors"):
        _ = model.icc_
    with pytest.raises(ValueError, match="The model has several grouping factors: pass factor, one of 'a', 'b'"):
        inference.random_effects_table(model)
    with pytest.raises(ValueError, match="factor='z' is not a grouping factor of the model, which has 'a', 'b'"):
        inference.random_effects_table(model, factor="z")
    with pytest.raises(ValueError, match="influence leaves out the groups of one grouping factor; the model has several"):
        inference.influence(model, X, y, labels)
    for function in (inference.random_intercept_test, inference.plausible_values_range):
        with pytest.raises(TypeError, match=r"in which only the intercept varies; found .* with \(1 \| a\) \+ \(1 \| b\)"):
            function(model)
    for function in (inference.random_effects_test, inference.glance, inference.fixed_effects, inference.r2):
        assert np.isfinite(
            function(model).to_numpy(dtype=float, na_value=0.0) if function != inference.glance else 1.0
        ).all()
    with pytest.raises(
        ValueError, match="cv must be a number of folds between 2 and the number of levels of b, 7; found cv=9"
    ):
        cross_validate_groups(MixedEffectsRegressor(random_effects=TEXT), X, y, labels, cv=9)


def test_warnings(frame, model):
    X, labels = frame[["x0"]], frame[LABELS]
    other_type = labels.assign(a=np.arange(len(labels)))
    with pytest.warns(UserWarning, match=r"None of the labels of a is known: .*\(number\) than those of fit \(string\)"):
        model.predict(X, groups=other_type)
    with pytest.warns(GroupsNotPassedWarning, match="predict was given no groups"):
        mean = model.predict(X)
    np.testing.assert_array_equal(mean, model.predict(X, groups="population"))
    more = frame.assign(sum=frame["x0"] + 1.0)
    with pytest.warns(DroppedColumnsWarning, match=r"1 redundant column\(s\) of X .*: sum\."):
        dropped = fit(more, X=("x0", "sum"))
    np.testing.assert_allclose(dropped.criterion_, model.criterion_, rtol=1e-11)
    with pytest.warns(UserWarning, match="y is constant: all variances are 0"):
        fit(frame.assign(y=1.0))


def test_labels_that_look_nested_but_for_a_few_are_named():
    g = np.repeat(np.arange(30), 4)
    labels = pd.DataFrame({"s": g // 3, "k": g})
    y = np.random.default_rng(0).standard_normal(120) + labels["s"] * 0.3 + np.random.default_rng(1).standard_normal(30)[g]

    def fitted(labels, text="(1 | s) + (1 | k)"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return MixedEffectsRegressor(random_effects=text).fit(None, y, groups=labels)

    # All labels in one level each are nested anyway, and labels in many levels cross.
    fitted(labels)
    fitted(labels.assign(k=g % 25))
    typo = labels.copy()
    typo.loc[0, "k"] = 29
    with pytest.warns(UserWarning, match=r"29 of the 30 labels of k occur in one level of s only, but 1 \(such as 29\)"):
        MixedEffectsRegressor(random_effects="(1 | s) + (1 | k)").fit(None, y, groups=typo)
    fitted(typo, "(1 | s/k)")
