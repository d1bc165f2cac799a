"""`FormulaRegressor` and `lmer`: rows in, fitted models out, and scikit-learn's contract."""

import pickle
import sys
import warnings
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from formula_cases import straight_lines, two_factors, with_gaps
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils import estimator_checks

from sklearn_mlm import (
    DroppedColumnsWarning,
    MixedEffectsRegressor,
    RandomInterceptRegressor,
    cross_validate_groups,
)
from sklearn_mlm.display import GroupLinesDisplay
from sklearn_mlm.formula import FormulaRegressor, lmer
from sklearn_mlm.inference import (
    augment,
    fixed_effects,
    influence,
    known_groups,
    predict_interval,
    r2,
    residual_variance_test,
    residuals,
)


def same_model(a, b):
    assert a.criterion_ == pytest.approx(b.criterion_, abs=1e-10)
    np.testing.assert_allclose(a.fit_.coefficients, b.fit_.coefficients, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(a.variance_components_.to_numpy(), b.variance_components_.to_numpy(), rtol=1e-8)


# ---- the model that is fitted


def test_a_random_intercept_is_the_model_of_its_columns():
    rows = two_factors()
    X = pd.DataFrame({"alow": rows["a"] == "low", "x": rows["x"]}).astype(float)
    by_columns = RandomInterceptRegressor().fit(X, rows["y"], groups=rows["g"])
    model = lmer("y ~ a + x + (1 | g)", rows)
    assert isinstance(model.estimator_, RandomInterceptRegressor)
    assert model.criterion_ == by_columns.criterion_
    assert model.coef_names_ == ["alow", "x"]
    pd.testing.assert_series_equal(model.random_effects_, by_columns.random_effects_)
    assert model.icc_ == by_columns.icc_


def test_slopes_are_the_model_of_its_columns():
    rows = straight_lines()
    by_columns = MixedEffectsRegressor(random_effects="(1 + x | g)").fit(rows[["x"]], rows["y"], groups=rows[["g"]])
    model = lmer("y ~ x + (x | g)", rows)
    assert isinstance(model.estimator_, MixedEffectsRegressor)
    assert model.criterion_ == by_columns.criterion_
    pd.testing.assert_frame_equal(model.covariance_["g"], by_columns.covariance_["g"])
    pd.testing.assert_frame_equal(model.random_effects_, by_columns.random_effects_)
    with pytest.raises(AttributeError, match="icc_ is one number only"):
        _ = model.icc_


def test_a_slope_needs_no_fixed_effect():
    rows = straight_lines()
    groups = rows[["g", "x"]]
    by_columns = MixedEffectsRegressor(random_effects="(1 + x | g)").fit(None, rows["y"], groups=groups)
    model = lmer("y ~ 1 + (x | g)", rows)
    same_model(model, by_columns)
    np.testing.assert_allclose(model.predict(rows), by_columns.predict(None, groups=groups))


def test_maximum_likelihood_and_weights_are_those_of_lmer():
    rows = two_factors().assign(w=lambda rows: 1.0 + np.arange(len(rows)) % 3)
    X = pd.DataFrame({"x": rows["x"]})
    precise = RandomInterceptRegressor(weight_type="precision", method="ml").fit(
        X, rows["y"], groups=rows["g"], sample_weight=rows["w"]
    )
    same_model(lmer("y ~ x + (1 | g)", rows, REML=False, weights="w"), precise)
    same_model(lmer("y ~ x + (1 | g)", rows, REML=False, weights=rows["w"]), precise)
    copies = rows.loc[rows.index.repeat(rows["w"].astype(int))]
    same_model(
        FormulaRegressor("y ~ x + (1 | g)").fit(rows, sample_weight="w"), FormulaRegressor("y ~ x + (1 | g)").fit(copies)
    )
    # "." leaves out the weights.
    assert lmer("y ~ . + (1 | g)", rows[["y", "x", "g", "w"]], weights="w").coef_names_ == ["x"]


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ([1.0, 2.0], "must hold one value per row of data; found 2 for"),
        ("a", "must hold numbers"),
        (lambda rows: [1.0] * (len(rows) - 1) + ["b"], "must hold numbers: could not convert string to float: 'b'"),
        (lambda rows: -np.ones(len(rows)), "must not be negative; found -1.0 in row 0"),
        (lambda rows: np.zeros(len(rows)), "is zero in every row"),
        (lambda rows: np.full(len(rows), np.inf), "holds infinity"),
        (lambda rows: np.full(len(rows), 1e300), "has the mean 1e.300"),
    ],
)
def test_errors_call_the_weights_as_the_caller_does(weights, problem):
    rows = two_factors()
    weights = weights(rows) if callable(weights) else weights
    with pytest.raises(ValueError, match=f"^weights {problem}"):
        lmer("y ~ x + (1 | g)", rows, weights=weights)
    with pytest.raises(ValueError, match=f"^sample_weight {problem}"):
        FormulaRegressor("y ~ x + (1 | g)", weight_type="precision").fit(rows, sample_weight=weights)


def test_levels_of_a_factor_stay_correlated_by_double_bars():
    rows = pd.concat([two_factors(), two_factors().assign(y=lambda rows: rows["y"] + 0.3 * np.sin(np.arange(len(rows))))])
    with pytest.warns(UserWarning, match="fitted with correlated coefficients of the levels of a"):
        doubled = lmer("y ~ a + (1 + a || g)", rows)
    same_model(doubled, lmer("y ~ a + (0 + a | g)", rows))
    assert doubled.covariance_["g"].columns.tolist() == ["ahigh", "alow"]
    # The reference level makes no difference.
    other = rows.assign(a=pd.Categorical(rows["a"], ["low", "high"]))
    with pytest.warns(UserWarning, match="correlated"):
        assert lmer("y ~ a + (1 + a || g)", other).criterion_ == pytest.approx(doubled.criterion_, abs=1e-9)


def test_independent_columns_without_fixed_effects():
    rows = straight_lines()
    rows = rows.assign(c=rows["x"] - rows["x"].mean(), d=np.cos(np.arange(len(rows))))
    model = FormulaRegressor("y ~ 1 + (0 + c + d || g)", method="ml").fit(rows)
    by_columns = MixedEffectsRegressor(random_effects="(0 + c || g) + (0 + d || g)", method="ml")
    by_columns.fit(None, rows["y"], groups=rows[["g", "c", "d"]])
    same_model(model, by_columns)
    X, _ = model.locate(rows)
    np.testing.assert_array_equal(X, rows[["c", "d"]])


def test_independent_columns_of_numbers():
    rows = straight_lines().assign(z=lambda rows: np.cos(3 * rows["x"]))
    by_columns = MixedEffectsRegressor(random_effects="(1 + x + z || g)").fit(
        rows[["x", "z"]], rows["y"], groups=rows[["g"]]
    )
    same_model(lmer("y ~ x + z + (x + z || g)", rows), by_columns)


def test_groups_may_be_combinations_that_read_alike():
    a = np.repeat(["a", "a:b", "a", "a:b", "d", "d:e", "d", "d:e"], 3)
    b = np.repeat(["b:c", "c", "c", "b:c", "e:f", "f", "f", "e:f"], 3)
    level = np.repeat([1.1, -0.7, 2.3, -1.9, 0.4, 1.6, -2.2, 0.9], 3)
    rows = pd.DataFrame({"y": level + np.tile([0.1, -0.2, 0.1], 8), "a": a, "b": b})
    model = lmer("y ~ 1 + (1 | a:b)", rows)
    assert model.n_groups_ == 8
    assert model.random_effects_.index.name == "a:b"
    assert ("a", "b:c") in model.groups_.tolist()
    assert ("a:b", "c") in model.groups_.tolist()
    by_number = RandomInterceptRegressor().fit(None, rows["y"], groups=np.repeat(np.arange(8), 3))
    same_model(model, by_number)
    known = model.predict(rows[:1])[0]
    assert known != model.intercept_
    assert model.predict(rows[:1].assign(b="z"))[0] == pytest.approx(model.intercept_)


def test_several_factors_are_those_of_the_estimator():
    rows = two_factors().assign(h=lambda frame: np.arange(len(frame)) % 5)
    for fixed, random, columns in [
        (["x"], "(1 | g) + (1 | h)", ["g", "h"]),
        (["x"], "(1 + x | g) + (0 + x | h)", ["g", "h"]),
        (["x"], "(1 | a:g)", ["a", "g"]),
        (["x"], "(1 | a:g) + (1 | h)", ["a", "g", "h"]),
        ([], "(1 | h/b)", ["h", "b"]),
    ]:
        model = lmer(f"y ~ {' + '.join(['1', *fixed])} + {random}", rows)
        other = MixedEffectsRegressor(random_effects=random).fit(rows[fixed] if fixed else None, rows["y"], rows[columns])
        np.testing.assert_allclose(model.criterion_, other.criterion_, rtol=1e-12, err_msg=random)
        known = other.predict(rows[fixed] if fixed else None, groups=rows[columns])
        np.testing.assert_allclose(model.predict(rows), known, rtol=1e-9, err_msg=random)
    # A factor of labels that is nested in a factor of the fixed part.
    model = lmer("y ~ a + (1 | a:g)", rows)
    assert model.n_groups_ > 8
    with pytest.raises(ValueError, match="there is no random term"):
        lmer("y ~ x", rows)


@pytest.mark.parametrize(
    "formula", ["y ~ x + (1 | g) + (1 + x | g)", "y ~ x + (1 | g) + (1 | g)", "y ~ x + (x | g) + (0 + x | g)"]
)
def test_a_coefficient_that_varies_twice_is_refused(formula):
    with pytest.raises(ValueError, match="only the sum of its two variances is identified"):
        lmer(formula, straight_lines())


def test_means_of_the_groups_in_the_fixed_part_are_refused():
    rows = two_factors()
    for formula in ("y ~ g + (1 | g)", "y ~ g * a + (1 | g)", "y ~ a:g + (1 | g)"):
        with pytest.raises(ValueError, match="nothing is left to tell the variance of their random intercepts"):
            lmer(formula, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert lmer("y ~ g + (1 | g)", rows, REML=False).variance_components_["group"] == 0.0
    assert lmer("y ~ a + (1 | a:g)", rows).n_groups_ > 8


# ---- rows


def frames_with_gaps():
    rows = with_gaps()
    return {
        "text": rows,
        "an index that repeats": rows.set_axis([0, 0, 1, 1] * 10),
        "categories": rows.assign(f=rows["f"].astype("category"), g=rows["g"].astype("category")),
        "unused categories": rows.assign(f=pd.Categorical(rows["f"], ["blue", "never", "green", "red", "rare"])),
        "nullable": rows.convert_dtypes(),
        "objects": rows.assign(x=rows["x"].astype(object).where(rows["x"].notna(), None)),
        "arrow types": rows.drop(columns="remark").convert_dtypes(dtype_backend="pyarrow"),
        "polars": pl.from_pandas(rows.drop(columns="remark")),
        "polars enumeration": pl.from_pandas(rows.drop(columns="remark")).with_columns(
            pl.col("f").cast(pl.Enum(["blue", "green", "red", "rare"]))
        ),
        "polars categories": pl.from_pandas(rows.drop(columns="remark")).with_columns(pl.col("f").cast(pl.Categorical)),
        "pyarrow": pa.Table.from_pandas(rows.drop(columns="remark"), preserve_index=False),
        "dictionary": {name: rows[name].to_numpy() for name in rows},
    }


@pytest.mark.parametrize("kind", frames_with_gaps())
def test_incomplete_rows_are_dropped_whatever_the_frame_is(kind):
    model = lmer("y ~ x + f + (1 | g)", frames_with_gaps()[kind])
    complete = with_gaps().drop(columns="remark").dropna()
    same_model(model, lmer("y ~ x + f + (1 | g)", complete))
    assert model.coef_names_ == ["x", "fgreen", "fred"]
    assert model.n_dropped_ == 40 - len(complete) == 6
    assert "6 row(s) with missing values dropped" in str(model.summary())


def test_predictions_of_incomplete_rows_are_missing():
    rows = with_gaps()
    model = lmer("y ~ x + f + (1 | g)", rows)
    known = rows[rows["f"] != "rare"]
    predicted = model.predict(known)
    assert np.isnan(predicted).tolist() == (known["x"].isna() | known["f"].isna()).tolist()
    mean, std = model.predict(known, return_std=True)
    np.testing.assert_array_equal(np.isnan(mean), np.isnan(std))
    # A missing label is no missing value: the row is predicted by the fixed part.
    (at,) = np.flatnonzero(known["g"].isna())
    assert predicted[at] == pytest.approx(model.predict(known, groups="population")[at])
    assert 0 < model.score(known) < 1


def test_missing_values_can_be_refused():
    rows = with_gaps()
    with pytest.raises(ValueError, match=r"6 of 40 rows have missing values.*Missing are 2 of x, 1 of f, 2 of y, 1 of g\."):
        lmer("y ~ x + f + (1 | g)", rows, na_action="raise")
    model = lmer("y ~ x + f + (1 | g)", rows.drop(columns="remark").dropna(), na_action="raise")
    with pytest.raises(ValueError, match="1 of 1 rows have missing values"):
        model.predict(rows.loc[[10]])
    with pytest.raises(
        ValueError, match=r"No row of the data is complete.* of remark.*\. Leave columns .* impute their values\.$"
    ):
        lmer("y ~ remark + (1 | g)", rows)
    with pytest.raises(ValueError, match=r'a model with na_action="raise" does not take. Missing are 2 of x, 1 of f'):
        residuals(model, rows)


@pytest.mark.parametrize("random", ["(1 | g)", "(1 + x | g)"])
def test_incomplete_rows_are_missing_in_tables_and_count_for_nothing(random):
    rows = straight_lines()
    rows["o"] = np.sin(np.arange(len(rows)))
    used = rows.copy()
    gaps = {"x": [3, 4], "o": [5], "y": [9, 15], "g": [20]}
    rows = rows.astype({"g": object})
    for name, at in gaps.items():
        rows.loc[at, name] = np.nan
    lost = [3, 4, 5, 9, 15, 20]
    used = used.drop(index=lost)
    formula = f"y ~ x + offset(o) + {random}"
    model, of_used = lmer(formula, rows), lmer(formula, used)
    same_model(model, of_used)
    without_predictors = [3, 4, 5]
    for function, missing in ((residuals, [3, 4, 5, 9, 15]), (predict_interval, without_predictors)):
        found = function(model, rows)
        assert found.index.equals(rows.index)
        assert np.isnan(np.asarray(found).reshape(len(rows), -1)).all(axis=1).nonzero()[0].tolist() == missing
        np.testing.assert_allclose(found.loc[used.index], function(of_used, used), rtol=1e-8, atol=1e-8)
    table = augment(model, rows)
    assert np.flatnonzero(table[".fitted"].isna()).tolist() == without_predictors
    assert np.flatnonzero(~table[".known"]).tolist() == [3, 4, 5, 20]
    pd.testing.assert_frame_equal(influence(model, rows), influence(of_used, used), check_index_type=False, rtol=1e-6)
    pd.testing.assert_series_equal(residual_variance_test(model, rows), residual_variance_test(of_used, used))
    pd.testing.assert_series_equal(r2(model, rows), r2(of_used, used))
    assert known_groups(model, rows).tolist() == [len(rows) - 4, 0, 4]


def test_a_new_level_of_a_fixed_factor_is_refused_and_a_new_group_is_not():
    rows = two_factors()
    model = lmer("y ~ a * b + x + (1 | g)", rows)
    with pytest.raises(
        ValueError, match=r"b has 1 level\(s\) that fit has not seen: 'c9'. It has the levels 'c1', 'c2', 'c3'"
    ):
        model.predict(rows[:2].assign(b="c9"))
    population = model.predict(rows, groups="population")
    np.testing.assert_allclose(model.predict(rows.assign(g="new")), population)
    np.testing.assert_allclose(model.predict(rows.drop(columns=["y", "g"]), groups="population"), population)
    with pytest.raises(ValueError, match=r"data lack the column.* 'g', which hold the groups"):
        model.predict(rows.drop(columns="g"))
    with pytest.raises(ValueError, match=r"data lack the column.* 'x', which the formula names"):
        model.predict(rows.drop(columns="x"))
    for action, outcome in (("error", "raise"), ("nan", np.nan)):
        other = lmer("y ~ a * b + x + (1 | g)", rows, new_groups=action)
        if outcome == "raise":
            with pytest.raises(ValueError, match="that fit has not seen"):
                other.predict(rows.assign(g="new"))
        else:
            assert np.isnan(other.predict(rows.assign(g="new"))).all()


def test_some_levels_in_another_order_are_the_same_levels():
    rows = two_factors()
    model = lmer("y ~ a * b + x + (1 | g)", rows)
    whole = model.predict(rows)
    for part in (rows[rows["b"] == "c2"], rows.iloc[[0]], rows.assign(b=pd.Categorical(rows["b"], ["c3", "c2", "c1"]))):
        np.testing.assert_array_equal(model.predict(part), whole[part.index])


def test_a_cell_without_rows_has_no_prediction():
    rows = two_factors(without=("high", "c2"))
    with pytest.warns(DroppedColumnsWarning, match="cannot be estimated and are 0.*: alow:bc2"):
        model = lmer("y ~ a * b + x + (1 | g)", rows)
    assert np.isnan(fixed_effects(model).loc["alow:bc2", "estimate"])
    with pytest.warns(UserWarning, match="1 row.* predicted as NaN"):
        assert np.isnan(model.predict(pd.DataFrame({"a": ["high"], "b": ["c2"], "x": [0.0], "g": ["u1"]})))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(model.predict(rows)).all()


def test_cells_alone_are_six_columns_without_a_warning():
    rows = two_factors()
    means, full = lmer("y ~ 0 + a:b + (1 | g)", rows), lmer("y ~ a * b + (1 | g)", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells = lmer("y ~ a:b + (1 | g)", rows)
    np.testing.assert_allclose(cells.predict(rows), full.predict(rows), rtol=1e-9)
    np.testing.assert_allclose(means.predict(rows), full.predict(rows), rtol=1e-9)
    assert cells.coef_names_ == means.coef_names_[:-1]
    assert means.coef_names_ == ["ahigh:bc1", "alow:bc1", "ahigh:bc2", "alow:bc2", "ahigh:bc3", "alow:bc3"]


def test_a_factor_of_many_levels_is_sparse():
    n = 400
    rows = pd.DataFrame(
        {"f": np.arange(n) % 90, "g": np.arange(n) // 8, "x": np.sin(np.arange(n)), "y": np.cos(np.arange(n) ** 2)}
    )
    rows["f"] = "l" + rows["f"].astype(str)
    model = lmer("y ~ x + f + f:x + (1 | g)", rows)
    X, _ = model.locate(rows)
    assert X.format == "csr"
    assert X.nnz < 4 * n
    dense = model.model_matrix(rows).to_numpy()[:, 1:]
    np.testing.assert_array_equal(X.toarray(), dense)
    by_columns = RandomInterceptRegressor().fit(dense, rows["y"], groups=rows["g"])
    assert model.criterion_ == pytest.approx(by_columns.criterion_, abs=1e-8)
    left = residuals(model, rows)
    gaps = residuals(model, rows.assign(x=rows["x"].where(rows.index != 7)))
    assert np.flatnonzero(gaps.isna()).tolist() == [7]
    np.testing.assert_array_equal(gaps.drop(7), left.drop(7))


# ---- functions


def test_what_a_function_has_learnt_holds_for_new_rows():
    rows = straight_lines()
    plain = lmer("y ~ x + (1 + x | g)", rows)
    for formula in (
        "y ~ scale(x) + (1 + scale(x) | g)",
        "y ~ center(x) + (center(x) | g)",
        "y ~ poly(x, 1) + (poly(x, 1) | g)",
    ):
        model = lmer(formula, rows)
        np.testing.assert_allclose(model.predict(rows), plain.predict(rows), rtol=1e-8)
        one_by_one = [model.predict(rows.iloc[[at]])[0] for at in range(len(rows))]
        np.testing.assert_allclose(one_by_one, model.predict(rows), rtol=1e-12)
    curved = lmer("y ~ bs(x, df=4) + (1 | g)", rows)
    np.testing.assert_allclose([curved.predict(rows.iloc[[at]])[0] for at in range(5)], curved.predict(rows)[:5])


@pytest.mark.parametrize("function", ["I(x - np.mean(x))", "np.cumsum(x)", "I(x / np.max(x))", "I(x - np.min(x))"])
def test_functions_of_other_rows_are_refused(function):
    with pytest.raises(ValueError, match=r"depends on the other rows.*center, scale, poly and splines remember"):
        lmer(f"y ~ {function} + (1 | g)", straight_lines())
    with pytest.raises(ValueError, match="depends on the other rows"):
        lmer(f"y ~ {function} + (1 | g)", straight_lines().sort_values("x"))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"log\(x\) is not finite in 8 row\(s\); in row 0 of the complete rows it is -inf"):
        lmer("y ~ log(x) + (1 | g)", straight_lines())
    rows = straight_lines().assign(z=lambda rows: np.arange(len(rows)) % 2)
    with pytest.raises(
        ValueError, match=r"poly\(z, 3\) .* too few distinct values for this degree. Choose a lower degree\."
    ):
        lmer("y ~ poly(z, 3) + (1 | g)", rows)
    with pytest.raises(ValueError, match=r"poly\(log\(z\), 2\) is not finite in"):
        lmer("y ~ poly(log(z), 2) + (1 | g)", rows)


def test_arithmetic_is_in_double_precision():
    rows = straight_lines()
    whole = rows.assign(x=rows["x"].astype("int8"))
    for power in ("I(x**2)", "I(x^2)"):
        model = lmer(f"y ~ x + {power} + (1 | g)", whole)
        assert model.coef_names_ == ["x", "I(x^2)"]
        same_model(model, lmer("y ~ x + I(x**2) + (1 | g)", rows))
    raw = lmer("y ~ poly(x, 2, raw=True) + (1 | g)", whole)
    np.testing.assert_allclose(raw.coef_, lmer("y ~ x + I(x**2) + (1 | g)", rows).coef_)
    large = rows.assign(x=(rows["x"] * 50).astype("int8"))
    assert lmer("y ~ I(x * x) + (1 | g)", large).model_matrix(large)["I(x * x)"].max() == 200.0**2 or large["x"].max() < 127


def test_names_as_people_have_them():
    rows = straight_lines()
    plain = lmer("y ~ x + (1 + x | g)", rows)
    spaced = rows.rename(columns={"x": "dose mg", "y": "score-1", "g": "ward id"})
    dotted = rows.rename(columns={"x": "x.1"}).assign(x=0.0)
    called = rows.rename(columns={"x": "log", "g": "C"})
    signs = rows.rename(columns={"x": "a|b", "y": "a~b", "g": "lambda"})
    for frame, formula, name in (
        (spaced, "`score-1` ~ `dose mg` + (1 + `dose mg` | `ward id`)", "dose mg"),
        (dotted, "y ~ x.1 + (1 + x.1 | g)", "x.1"),
        (called, "y ~ log + (1 + log | C)", "log"),
        (rows.rename(columns={"x": 1, "y": 0, "g": 2}), "`0` ~ `1` + (1 + `1` | `2`)", "1"),
        (signs, "`a~b` ~ `a|b` + (1 + `a|b` | lambda)", "a|b"),
    ):
        model = lmer(formula, frame)
        assert model.coef_names_ == [name]
        same_model(model, plain)
        np.testing.assert_allclose(model.predict(frame), plain.predict(rows))


def test_truth_values_are_one_column():
    rows = straight_lines().assign(late=lambda rows: rows["x"] > 1)
    model = lmer("y ~ late + (1 | g)", rows)
    assert model.coef_names_ == ["lateTRUE"]
    as_number = lmer("y ~ late + (1 | g)", rows.assign(late=rows["late"].astype(int)))
    same_model(model, as_number)
    np.testing.assert_allclose(model.predict(rows.assign(late=True)), as_number.predict(rows.assign(late=1)))
    same_model(lmer("y ~ I(x > 1) + (1 | g)", rows), model)


def test_truth_values_in_functions_are_0_and_1():
    rows = straight_lines().assign(late=lambda rows: rows["x"] > 1)
    number = rows.assign(late=rows["late"].astype(float))
    for formula in (
        "y ~ x + I(late * x) + (1 | g)",
        "y ~ x + I(late + 1) + (1 | g)",
        "y ~ x + offset(late) + (1 | g)",
        "y ~ x + (1 + I(late * x) | g)",
    ):
        model, other = lmer(formula, rows), lmer(formula, number)
        assert model.coef_names_ == other.coef_names_
        same_model(model, other)
    with pytest.raises(ValueError, match=r"The values of I\(g\) are text or categories"):
        lmer("y ~ I(g) + (1 | g)", rows)
    with pytest.raises(ValueError, match=r"t has .*'2'. It has the levels 'FALSE', 'TRUE'"):
        lmer("y ~ t + (1 | g)", rows.assign(t=rows["late"])).predict(rows.assign(t=2))


def test_logarithms_to_a_base():
    rows = straight_lines()
    natural, binary = (lmer(f"y ~ {log} + (1 | g)", rows) for log in ("log(x + 1)", "log(x + 1, 2)"))
    assert binary.coef_[0] == pytest.approx(natural.coef_[0] * np.log(2), rel=1e-9)
    assert binary.coef_names_ == ["log(x + 1, 2)"]


def test_contrasts_change_coefficients_and_nothing_else():
    rows = two_factors()
    plain = lmer("y ~ a * b + (1 | g)", rows)
    summed = lmer("y ~ a * b + (1 | g)", rows, contrasts={"a": "contr.sum", "b": "contr.sum"})
    assert summed.coef_names_ == ["a1", "b1", "b2", "a1:b1", "a1:b2"]
    in_formula = lmer("y ~ C(a, contr.sum) * C(b, contr.sum) + (1 | g)", rows)
    np.testing.assert_allclose(summed.coef_, in_formula.coef_)
    np.testing.assert_allclose(summed.predict(rows), plain.predict(rows), rtol=1e-9)
    assert summed.fit_.design.factors["b"] == (("c1", "c2", "c3"), "contr.sum")
    assert "Factor b: c1, c2, c3 (contr.sum)" in str(summed.summary())
    ordered = lmer("y ~ b + (1 | g)", rows.assign(b=pd.Categorical(rows["b"], ["c2", "c1", "c3"], ordered=True)))
    assert ordered.coef_names_ == ["b.L", "b.Q"]
    with pytest.raises(ValueError, match="contrasts names 'c', which no factor"):
        lmer("y ~ a + (1 | g)", rows, contrasts={"c": "contr.sum"})
    with pytest.raises(ValueError, match=r"must be contr.treatment, contr.sum"):
        lmer("y ~ a + (1 | g)", rows, contrasts={"a": "contr.what"})


def test_contrasts_may_have_arguments():
    rows = two_factors()
    for base in ("'c2'", "base=2"):
        model = lmer("y ~ b + (1 | g)", rows, contrasts={"b": f"contr.treatment({base})"})
        assert model.coef_names_ == ["bc1", "bc3"]
        same_model_of_terms = lmer('y ~ C(b, contr.treatment("c2")) + (1 | g)', rows)
        np.testing.assert_allclose(model.coef_, same_model_of_terms.coef_, rtol=1e-9)
    with pytest.raises(ValueError, match="of the contrasts of b cannot be understood"):
        lmer("y ~ b + (1 | g)", rows, contrasts={"b": "contr.nothing(2)"})
    with pytest.raises(ValueError, match=r"'contr.foo' of .* understood: contrasts are contr.treatment, .* and contr.diff"):
        lmer("y ~ C(b, contr.foo) + (1 | g)", rows)
    with pytest.raises(ValueError, match=r"do not suit its levels .*[^.]\.$"):
        lmer('y ~ C(b, contr.treatment("c9")) + (1 | g)', rows)


def test_contrasts_may_be_matrices():
    rows = two_factors()
    plain = lmer("y ~ b + (1 | g)", rows)
    matrix = np.array([[-1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
    for given, names in (
        (matrix, ["b1", "b2"]),
        (pd.DataFrame(matrix, columns=["P", "Q"]), ["bP", "bQ"]),
        (matrix.tolist(), ["b1", "b2"]),
    ):
        model = lmer("y ~ b + (1 | g)", rows, contrasts={"b": given})
        assert model.coef_names_ == names
        np.testing.assert_allclose(model.predict(rows), plain.predict(rows), rtol=1e-9)
    for wrong, problem in (
        (np.eye(3), "a row for each of its 3 levels, and a column less"),
        ([[1, 0], [1, 1], [1, -1]], "do not tell all of its levels apart"),
        (5, "a row for each"),
        ("what", "must be contr.treatment"),
        ({"u": "v"}, "must be a name or a matrix"),
    ):
        with pytest.raises(ValueError, match=problem):
            lmer("y ~ b + (1 | g)", rows, contrasts={"b": wrong})
    with pytest.raises(TypeError, match="contrasts must be a dictionary"):
        lmer("y ~ b + (1 | g)", rows, contrasts="contr.sum")


def test_a_row_of_weight_0_is_no_row():
    rows = two_factors()
    more = pd.concat([rows, rows[:1].assign(a="another")], ignore_index=True)
    weights = np.append(np.ones(len(rows)), 0.0)
    for kind in ("frequency", "precision"):
        model = FormulaRegressor("y ~ a + x + (1 | g)", weight_type=kind).fit(more, sample_weight=weights)
        assert model.coef_names_ == ["alow", "x"]
        assert model.n_dropped_ == 0
        same_model(model, lmer("y ~ a + x + (1 | g)", rows))
        with pytest.raises(ValueError, match="sample_weight is zero in every row"):
            FormulaRegressor("y ~ x + (1 | g)", weight_type=kind).fit(rows, sample_weight=np.zeros(len(rows)))
    missing = np.append(np.ones(len(rows)), np.nan)
    assert FormulaRegressor("y ~ a + x + (1 | g)").fit(more, sample_weight=missing).n_dropped_ == 1


def test_an_offset_is_fitted_and_predicted():
    rows = two_factors()
    plain = lmer("y ~ x + a + (1 | g)", rows)
    model = lmer("y ~ x + offset(3 * x) + a + (1 | g)", rows)
    np.testing.assert_allclose(model.coef_, plain.coef_ - [3, 0], rtol=1e-9)
    np.testing.assert_allclose(model.predict(rows), plain.predict(rows), rtol=1e-9)
    np.testing.assert_allclose(residuals(model, rows), residuals(plain, rows), atol=1e-9)
    pd.testing.assert_frame_equal(predict_interval(model, rows[:3]), predict_interval(plain, rows[:3]))
    pd.testing.assert_frame_equal(augment(model, rows), augment(plain, rows))
    np.testing.assert_allclose(influence(model, rows)["cooks_distance"], influence(plain, rows)["cooks_distance"], rtol=1e-6)


def test_inference_takes_outcome_and_groups_from_the_data():
    rows = two_factors()
    X = pd.DataFrame({"x": rows["x"]})
    by_columns = RandomInterceptRegressor().fit(X, rows["y"], groups=rows["g"])
    model = lmer("y ~ x + (1 | g)", rows)
    np.testing.assert_array_equal(residuals(model, rows), residuals(by_columns, X, rows["y"], rows["g"]))
    assert ".resid" in augment(model, rows)
    assert ".resid" not in augment(model, rows.drop(columns="y"))
    for function in (residuals, influence, residual_variance_test, partial(GroupLinesDisplay.from_estimator, feature="x")):
        with pytest.raises(ValueError, match=r"The data lack the outcome 'y', the left side of the formula 'y ~ x"):
            function(model, rows.drop(columns="y"))
    with pytest.raises(ValueError, match="y is None"):
        influence(FormulaRegressor("~ x + (1 | g)").fit(rows, rows["y"]), rows)
    assert str(model.summary(rows)) == str(model.summary())
    log = lmer("I(2 * y) ~ x + (1 | g)", rows)
    np.testing.assert_allclose(log.outcome(rows), 2 * rows["y"])
    np.testing.assert_allclose(residuals(log, rows), 2 * residuals(model, rows), rtol=1e-8, atol=1e-9)


# ---- what is refused


def test_odd_data_are_refused_in_words():
    rows = two_factors()
    dated = rows.assign(day=pd.date_range("2024-01-01", periods=len(rows)))
    with pytest.raises(ValueError, match=r"'day' is of the type datetime64.*Turn its values into numbers first"):
        lmer("y ~ day + (1 | g)", dated)
    with pytest.raises(ValueError, match="'day' is of the type Datetime"):
        lmer("y ~ day + (1 | g)", pl.from_pandas(dated))
    with pytest.raises(ValueError, match="holds values of the kind mixed"):
        lmer("y ~ odd + (1 | g)", rows.assign(odd=[1, "a"] * (len(rows) // 2) + [1] * (len(rows) % 2)))
    with pytest.raises(ValueError, match="The factor a has only the level 'low'"):
        lmer("y ~ a + (1 | g)", rows[rows["a"] == "low"])
    with pytest.raises(ValueError, match="several columns with the name 'x'"):
        lmer("y ~ x + (1 | g)", pd.concat([rows, rows[["x"]]], axis=1))
    with pytest.raises(TypeError, match="data must be a data frame"):
        lmer("y ~ x + (1 | g)", rows.to_numpy())
    with pytest.raises(ValueError, match="lazy frame"):
        lmer("y ~ x + (1 | g)", pl.from_pandas(rows).lazy())
    with pytest.raises(TypeError, match="formula must be a text"):
        lmer(None, rows)
    with pytest.raises(ValueError, match="one group only") as raised:
        lmer("y ~ x + (1 | g)", rows.assign(g="same"))
    assert "The groups are g of the data" in raised.value.__notes__[0]
    with pytest.raises(ValueError, match="must be one column of numbers"):
        lmer("y ~ x + offset(poly(x, 2)) + (1 | g)", rows)
    with pytest.raises(ValueError, match="data has no rows"):
        lmer("y ~ x + (1 | g)", rows[:0])
    with pytest.raises(ValueError, match="is a dictionary that is no table"):
        lmer("y ~ x + (1 | g)", {"y": 1, "x": 2, "g": 3})
    with pytest.raises(ValueError, match="Two different columns of the model would be called 'a:b'"):
        lmer("y ~ a:b + `a:b` + (1 | g)", rows.assign(**{"a:b": rows["x"]}))
    with pytest.raises(ValueError, match="Two different columns of the model would be called 'alow'"):
        lmer("y ~ a + (0 + alow | g)", rows.assign(alow=rows["x"]))
    with pytest.raises(ValueError, match="It must have a value for each row; center"):
        lmer("y ~ np.mean(x) + (1 | g)", rows)
    with pytest.raises(ValueError, match='groups must be "population"'):
        lmer("y ~ x + (1 | g)", rows).predict(rows, "people")
    numbered = rows.assign(b=rows["b"].str[1:].astype(int))
    with pytest.raises(ValueError, match="text in place of numbers"):
        lmer("y ~ factor(b) + (1 | g)", numbered).predict(numbered.astype({"b": str}))
    with pytest.raises(ValueError, match="The left side of the formula must be one column of numbers"):
        lmer("a ~ x + (1 | g)", rows)
    with pytest.raises(ValueError, match=r"labels.*not covered"):
        lmer("y ~ factor(a, labels=c('u', 'v')) + (1 | g)", rows)
    for option in ({"REML": "yes"}, {"na_action": "keep"}, {"new_groups": "what"}):
        with pytest.raises(ValueError, match="must be"):
            lmer("y ~ x + (1 | g)", rows, **option)


def test_without_formulaic_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "formulaic", None)
    with pytest.raises(ImportError, match=r'the extra "formula" installs'):
        lmer("y ~ x + (1 | g)", two_factors())


def test_a_failed_fit_leaves_the_model_as_it_was():
    rows = two_factors()
    model = FormulaRegressor("y ~ x + (1 | g)").fit(rows)
    before = model.predict(rows)
    with pytest.raises(ValueError, match="one group"):
        model.fit(rows.assign(g="same"))
    np.testing.assert_array_equal(model.predict(rows), before)
    with pytest.raises(NotFittedError):
        FormulaRegressor("y ~ x + (1 | g)").predict(rows)


# ---- scikit-learn


def test_y_is_the_left_side():
    rows = two_factors()
    two_sided = FormulaRegressor("y ~ x + (1 | g)").fit(rows)
    same_model(FormulaRegressor("y ~ x + (1 | g)").fit(rows, rows["y"]), two_sided)
    one_sided = FormulaRegressor("~ x + (1 | g)").fit(rows.drop(columns="y"), rows["y"])
    same_model(one_sided, two_sided)
    assert one_sided.score(rows, rows["y"]) == two_sided.score(rows)
    with pytest.raises(ValueError, match="y differs from y, the left side"):
        FormulaRegressor("y ~ x + (1 | g)").fit(rows, rows["y"] + 1)
    with pytest.raises(ValueError, match="has no left side: pass y"):
        FormulaRegressor("~ x + (1 | g)").fit(rows)
    with pytest.raises(ValueError, match="one value per row"):
        FormulaRegressor("~ x + (1 | g)").fit(rows, rows["y"][:5])


def test_y_does_not_explain_itself():
    rows = two_factors().rename(columns={"y": "outcome"})[["outcome", "x", "a", "g"]]
    model = FormulaRegressor("~ . + (1 | g)").fit(rows, rows["outcome"])
    assert model.coef_names_ == ["x", "alow"]
    with pytest.raises(ValueError, match="'outcome', which the formula names, holds y"):
        FormulaRegressor("~ . + (1 | g)").fit(rows, rows["outcome"].to_numpy())
    # A predictor that is called y is another column.
    named = rows.rename(columns={"x": "y"})
    named.loc[3, "y"] = np.nan
    assert FormulaRegressor("~ y + (1 | g)").fit(named, rows["outcome"].to_numpy()).n_dropped_ == 1


def test_numbers_as_text_are_a_factor_with_a_warning():
    rows = pd.concat([two_factors()] * 3, ignore_index=True)
    text = rows.assign(t=[f"{value % 21}" for value in range(len(rows))])
    with pytest.warns(UserWarning, match=r"'t' holds numbers as text, and is a factor with 21 levels. pandas.to_numeric"):
        lmer("y ~ t + (1 | g)", text)
    text.loc[0, "t"] = "n/a"
    with pytest.warns(UserWarning, match="'t' holds numbers as text but for 'n/a'"):
        lmer("y ~ t + (1 | g)", text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lmer("y ~ t + (1 | g)", text.astype({"t": "category"}))


def test_clone_pickle_and_search():
    rows = pd.concat([two_factors(), two_factors()], ignore_index=True)
    for formula in ("y ~ poly(x, 2) + a + (1 | g)", "y ~ x + C(b, contr.sum) + (1 + x | g)"):
        model = lmer(formula, rows)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
        assert str(again.summary()) == str(model.summary())
        assert clone(model).get_params() == model.get_params()
    formulas = ["y ~ 1 + (1 | g)", "y ~ x + a + (1 | g)"]
    search = GridSearchCV(FormulaRegressor(formulas[0]), {"formula": formulas}, cv=4).fit(rows, rows["y"])
    assert search.best_params_["formula"] in formulas
    assert fixed_effects(search).index[0] == "(Intercept)"
    scores = cross_val_score(FormulaRegressor(formulas[1]), rows, rows["y"], cv=GroupKFold(4), groups=rows["g"])
    assert len(scores) == 4
    polars = pl.from_pandas(rows)
    assert len(cross_val_score(FormulaRegressor(formulas[1]), polars, rows["y"].to_numpy(), cv=3)) == 3


def test_cross_validation_of_groups_has_least_squares_of_the_same_formula_beside():
    rows = pd.concat([straight_lines(), straight_lines().assign(g=lambda rows: rows["g"] + "b")], ignore_index=True)
    table = cross_validate_groups(FormulaRegressor("y ~ x + (1 | g)"), rows, rows["y"], scoring="r2", cv=4, random_state=0)
    by_columns = cross_validate_groups(
        RandomInterceptRegressor(group_feature="g"), rows[["x", "g"]], rows["y"], scoring="r2", cv=4, random_state=0
    )
    pd.testing.assert_frame_equal(table, by_columns)


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
    ],
)
def test_scikit_learn_checks_that_need_no_arrays(check):
    check("FormulaRegressor", FormulaRegressor("y ~ x + (1 | g)"))


def test_the_summary_shows_formula_data_and_factors():
    pupils = two_factors()
    text = str(lmer("y ~ a + x + (1 | g)", pupils).summary())
    assert "Formula y ~ a + x + (1 | g), data pupils" in text
    assert "Factor a: high, low (contr.treatment)" in text
    assert "Formula y ~ a + x + (1 | g)\n" in str(FormulaRegressor("y ~ a + x + (1 | g)").fit(pupils).summary())
    assert "Formula y ~" in lmer("y ~ a + x + (1 | g)", pupils).summary()._repr_html_()
