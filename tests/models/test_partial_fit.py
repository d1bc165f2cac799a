"""`partial_fit` and `update_random_effects` add rows to a model."""

import warnings

import numpy as np
import pandas as pd
import pytest
from designs import assert_same_fit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklearn_mlm import GroupedMoments, GroupsNotPassedWarning, RandomInterceptRegressor, inference


# The first few rows do not identify the variances, or have columns that depend on others.
@pytest.mark.filterwarnings("ignore:The likelihood is the same:UserWarning", "ignore:.*depend on the columns:UserWarning")
@pytest.mark.parametrize("size", [1, 5, 40, 10_000])
@pytest.mark.parametrize(
    "model",
    [
        RandomInterceptRegressor(),
        RandomInterceptRegressor(method="ml", fit_intercept=False),
        RandomInterceptRegressor(weight_type="precision"),
    ],
)
def test_whatever_the_rows_are_cut_into_the_model_is_that_of_all_of_them(design, model, size):
    X, y, groups = design
    weights = np.random.default_rng(1).integers(0, 4, len(y)) / 2 + (model.weight_type == "precision") / 4
    parts = clone(model)
    for start in range(0, len(y), size):
        for rows in (slice(start, start + size), slice(0, 0)):
            assert parts.partial_fit(X[rows], y[rows], groups[rows], weights[rows]) is parts
    assert_same_fit(parts, clone(model).fit(X, y, groups, weights), 1e-10)


def test_rows_of_a_frame_with_a_group_column_and_without_predictors():
    frame = pd.DataFrame({"school": list("aabbcc") * 4})
    y = np.random.default_rng(0).standard_normal(24)
    model = RandomInterceptRegressor(group_feature="school")
    for start in range(0, 24, 6):
        model.partial_fit(frame[start : start + 6], y[start : start + 6])
    assert_same_fit(model, RandomInterceptRegressor(group_feature="school").fit(frame, y), 1e-12)
    null = RandomInterceptRegressor().partial_fit(None, y[:12], frame["school"][:12])
    whole = RandomInterceptRegressor().fit(None, y, frame["school"])
    assert_same_fit(null.partial_fit(None, y[12:], frame["school"][12:]), whole, 1e-12)
    np.testing.assert_allclose(model.variance_components_, whole.variance_components_, rtol=1e-12)


def test_it_goes_on_from_a_fit_and_fit_starts_anew(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X[:30], y[:30], groups=groups[:30])
    assert_same_fit(
        model.partial_fit(X[30:], y[30:], groups[30:]), RandomInterceptRegressor().fit(X, y, groups=groups), 1e-10
    )
    assert model.fit(X[:30], y[:30], groups=groups[:30]).moments_.n_rows.sum() == 30


def test_until_the_rows_identify_the_model_it_is_not_fitted_and_nothing_is_lost(design):
    X, y, groups = design
    order = np.argsort(groups, kind="stable")
    X, y, groups = X[order], y[order], groups[order]
    model = RandomInterceptRegressor()
    for rows in (slice(0, 0), slice(0, 1), slice(1, 3)):
        model.partial_fit(X[rows], y[rows], groups[rows])
        with pytest.raises(NotFittedError):
            model.predict(X, groups)
    assert model.moments_.n_rows.tolist() == [3]
    model.partial_fit(X[3:], y[3:], groups[3:])
    assert_same_fit(model, RandomInterceptRegressor().fit(X, y, groups=groups), 1e-10)


def test_a_failed_call_leaves_the_model_as_it_was(design):
    X, y, groups = design
    model = RandomInterceptRegressor().partial_fit(pd.DataFrame(X, columns=list("abc")), y, groups)
    before, attributes = model.predict(pd.DataFrame(X, columns=list("abc")), groups), dict(model.__dict__)
    nan = y.copy()
    nan[3] = np.nan
    frame = pd.DataFrame(X, columns=list("abc"))
    for method in (model.partial_fit, model.update_random_effects):
        for arguments, message in [
            ((frame, nan, groups), "NaN"),
            ((frame[["a", "b"]], y, groups), "feature names|features"),
            ((frame.rename(columns={"a": "z"}), y, groups), "feature names"),
            ((None, y, groups), r"X is None, but before it had 3 column\(s\)"),
            ((frame, y, groups[:3]), "groups must hold one label per row"),
            ((frame, y, [None] * len(y)), "missing label"),
            ((frame, y, groups, -np.ones(len(y))), "must not be negative"),
        ]:
            with pytest.raises(ValueError, match=message):
                method(*arguments)
            assert all(model.__dict__[key] is value for key, value in attributes.items())
            np.testing.assert_array_equal(model.predict(frame, groups), before)


def test_some_calls_with_groups_and_some_without_are_refused(design):
    X, y, groups = design
    model = RandomInterceptRegressor().partial_fit(X, y, groups)
    with pytest.raises(ValueError, match="partial_fit was given no groups, but earlier calls had some"):
        model.partial_fit(X, y)
    with pytest.warns(GroupsNotPassedWarning):
        model = RandomInterceptRegressor().partial_fit(X[:20], y[:20])
    with pytest.raises(ValueError, match="partial_fit was given groups, but earlier calls had none"):
        model.partial_fit(X, y, groups)
    model.partial_fit(X[20:], y[20:])
    with pytest.warns(GroupsNotPassedWarning):
        assert_same_fit(model, RandomInterceptRegressor().fit(X, y), 1e-10)


# ---- random effects of new rows


def test_effects_follow_new_rows_and_new_groups_and_nothing_else_changes(design):
    X, y, groups = design
    first = groups < 8
    first[:10] = True
    model = RandomInterceptRegressor().fit(X[first], y[first], groups=groups[first])
    fitted = {name: getattr(model, name) for name in ("coef_", "intercept_", "variance_components_", "criterion_", "bic_")}
    assert model.update_random_effects(X[~first], y[~first], groups=groups[~first]) is model
    for name, value in fitted.items():
        assert getattr(model, name) is value
    # The formula, with all rows.
    tau2, sigma2 = model.variance_components_
    left = pd.Series(y - model.predict(X, "population")).groupby(groups)
    sizes, means = left.size(), left.mean()
    reliability = tau2 / (tau2 + sigma2 / sizes)
    assert model.groups_.tolist() == sizes.index.tolist()
    np.testing.assert_allclose(model.random_effects_, reliability * means, rtol=1e-10, atol=1e-12)
    table = inference.random_effects_table(model)
    np.testing.assert_allclose(table["reliability"], reliability)
    np.testing.assert_allclose(table["sd"], np.sqrt(tau2 * (1 - reliability)))
    np.testing.assert_array_equal(table["n"], sizes)


def test_predictions_and_inference_after_an_update_are_consistent(design):
    X, y, groups = design
    first = groups < 8
    model = RandomInterceptRegressor().fit(X[first], y[first], groups=groups[first])
    before = [inference.fixed_effects(model), inference.confidence_intervals(model), inference.r2(model)]
    tests = inference.random_intercept_test(model, method="f")
    model.update_random_effects(X[~first], y[~first], groups=groups[~first])
    after = [inference.fixed_effects(model), inference.confidence_intervals(model), inference.r2(model)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(tests, inference.random_intercept_test(model, method="f"))
    assert "groups (group) 8" in str(model.summary())
    mean, std = model.predict(X, groups, return_std=True)
    population = model.predict(X, "population")
    np.testing.assert_allclose(mean - population, model.random_effects_.loc[groups])
    # More rows of a group make its mean more precise.
    new_group = model.predict(X[~first], groups[~first] + 1000, return_std=True)[1]
    assert (std[~first] < new_group).all()
    table = inference.predict_interval(model, X, groups)
    np.testing.assert_allclose(table["prediction"], mean)
    assert (table["upper"] > table["lower"]).all()


def test_partial_fit_after_an_update_counts_all_rows(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X[:30], y[:30], groups=groups[:30])
    model.update_random_effects(X[30:50], y[30:50], groups=groups[30:50])
    model.partial_fit(X[50:], y[50:], groups[50:])
    assert_same_fit(model, RandomInterceptRegressor().fit(X, y, groups=groups), 1e-10)


def test_updating_with_the_rows_of_the_fit_left_out_one_by_one_is_updating_at_once(design):
    X, y, groups = design
    one, all_at_once = (RandomInterceptRegressor().fit(X[:40], y[:40], groups=groups[:40]) for _ in range(2))
    for row in range(40, len(y)):
        one.update_random_effects(X[[row]], y[[row]], groups=groups[[row]])
    all_at_once.update_random_effects(X[40:], y[40:], groups=groups[40:])
    np.testing.assert_allclose(one.random_effects_, all_at_once.random_effects_, rtol=1e-9, atol=1e-12)


def test_models_without_groups_have_no_effects_to_update(design):
    X, y, groups = design
    with pytest.raises(NotFittedError):
        RandomInterceptRegressor().update_random_effects(X, y, groups)
    with pytest.raises(ValueError, match="no groups were passed"):
        RandomInterceptRegressor().fit(X, y, groups=groups).update_random_effects(X, y)
    with pytest.warns(GroupsNotPassedWarning):
        model = RandomInterceptRegressor().fit(X, y)
    with pytest.raises(ValueError, match="the model was fitted without groups"):
        model.update_random_effects(X, y, groups)


def test_a_fit_that_later_rows_leave_without_enough_of_them_stays_as_it_was():
    # With weights below 1, added rows can make more columns vary than there are rows.
    model = RandomInterceptRegressor().partial_fit([[0, 0], [1, 0], [2, 0]], [0, 1, 3], [5, 5, 6], [1, 0.6, 0.7])
    before = dict(model.__dict__)
    with pytest.raises(ValueError, match="more rows than fixed effects"):
        model.partial_fit([[1, 1]], [9], [1], [0.1])
    assert all(model.__dict__[name] is value for name, value in before.items())


def test_labels_of_another_type_are_warned_of(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    for method in (model.update_random_effects, model.partial_fit):
        with pytest.warns(UserWarning, match=r"label\(s\) of groups are strings of labels of another type") as caught:
            method(X, y, groups.astype(str))
        assert caught[0].filename == __file__
        model.fit(X, y, groups=groups)


def test_labels_of_two_types_in_one_fit_are_warned_of(design):
    X, y, groups = design
    mixed = groups.astype(object)
    mixed[::2] = [f"{label:04}" for label in groups[::2]]
    with pytest.warns(UserWarning, match=r"label\(s\) of groups are strings of labels of another type") as caught:
        RandomInterceptRegressor().fit(X, y, groups=mixed)
    assert caught[0].filename == __file__
    text, numbers = (GroupedMoments.from_arrays(X[i::2], y[i::2], mixed[i::2]) for i in (0, 1))
    with pytest.warns(UserWarning, match=r"label\(s\) of groups are strings of labels of another type") as caught:
        RandomInterceptRegressor().fit_moments(text + numbers)
    assert caught[0].filename == __file__
    mixed[::2] = [f"school {label}" for label in groups[::2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RandomInterceptRegressor().fit(X, y, groups=mixed)


def test_an_update_keeps_digits_far_from_zero_and_the_name_of_the_groups(design):
    X, y, groups = design
    far = RandomInterceptRegressor().fit(X + 1e9, y + 1e9, groups=pd.Series(groups, name="school"))
    before = far.random_effects_
    far.update_random_effects(X[:0], y[:0], groups=groups[:0])
    np.testing.assert_allclose(far.random_effects_, before, rtol=1e-12, atol=1e-12)
    assert far.groups_.name == "school"


def test_an_update_changes_no_report_and_checks_parameters(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X[:40], y[:40], groups=groups[:40])
    report = inference.clustering_report(model)
    model.update_random_effects(X[40:], y[40:], groups=groups[40:])
    pd.testing.assert_series_equal(inference.clustering_report(model), report)
    model.set_params(weight_type="bogus")
    with pytest.raises(ValueError, match="weight_type must be one of"):
        model.update_random_effects(X, y, groups)


def test_rows_of_no_weight_are_looked_at_all_the_same(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    nan = np.append(np.nan, y[1:])
    for method in (model.partial_fit, model.update_random_effects):
        with pytest.raises(ValueError, match=r"y has 1 missing value\(s\) \(NaN\)"):
            method(X, nan, groups, np.zeros(len(y)))
    with pytest.raises(ValueError, match="NaN"):
        GroupedMoments.from_batches([(X, y, groups), (X, nan, groups, np.zeros(len(y)))])
    before = model.random_effects_
    model.update_random_effects(X, y, groups + 100, np.zeros(len(y)))
    np.testing.assert_array_equal(model.random_effects_.index, before.index)


def test_integer_ids_stay_apart_beside_labels_that_are_floats(design):
    X, y, groups = design
    ids, halves = groups + 2**60, [0.5, 0.5]
    n_groups = len(np.unique(groups)) + 1
    first, second = GroupedMoments.from_arrays(X, y, ids), GroupedMoments.from_arrays(X[:2], y[:2], halves)
    expected = [0.5, *sorted(set(ids.tolist()))]
    assert (first + second).labels.tolist() == (second + first).labels.tolist() == expected
    assert RandomInterceptRegressor().partial_fit(X, y, ids).partial_fit(X[:2], y[:2], halves).n_groups_ == n_groups
    updated = RandomInterceptRegressor().fit(X, y, groups=ids).update_random_effects(X[:2], y[:2], halves)
    assert updated.groups_.tolist() == expected
    for weights in ((), (np.ones(len(y)),)):
        batches = [(X, y, ids, *weights), (X[:2], y[:2], halves, *(one[:2] for one in weights))]
        assert GroupedMoments.from_batches(batches).labels.tolist() == expected
