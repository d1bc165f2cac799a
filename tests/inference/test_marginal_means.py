"""Marginal means, trends and their comparisons: brute force over grids, and what cannot be estimated."""

import warnings

import numpy as np
import pandas as pd
import pytest
from formula_cases import straight_lines, two_factors
from scipy import stats

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.formula import FormulaRegressor, lmer
from sklearn_mlm.inference import contrast_test, estimated_marginal_means, estimated_trends, fixed_effects
from sklearn_mlm.inference._multiplicity import adjusted_half_widths, adjusted_p_values


@pytest.fixture(scope="module")
def rows():
    return two_factors()


@pytest.fixture(scope="module")
def crossed(rows):
    return lmer("y ~ a * b + log(x + 5) + (1 | g)", rows)


def predicted(model, rows, **columns):
    """The predictions of the fixed part for cells, with x at its mean."""
    cells = pd.DataFrame({"x": rows["x"].mean(), **columns}, index=range(len(next(iter(columns.values())))))
    return model.predict(cells, groups="population")


def test_a_mean_is_the_average_of_predictions_at_the_mean_of_the_column(rows, crossed):
    means = estimated_marginal_means(crossed, "a")
    assert means["a"].tolist() == ["high", "low"]
    for level, mean in zip(means["a"], means["estimate"], strict=True):
        of_cells = predicted(crossed, rows, a=[level] * 3, b=["c1", "c2", "c3"])
        assert mean == pytest.approx(of_cells.mean(), rel=1e-12)
    assert f"At x = {rows['x'].mean():.4f}".rstrip("0") in repr(means)
    assert "Averaged over the levels of b." in repr(means)


def test_proportional_weights_count_the_rows(rows, crossed):
    means = estimated_marginal_means(crossed, "a", weights="proportional")
    shares = rows["b"].value_counts(normalize=True).sort_index()
    for level, mean in zip(means["a"], means["estimate"], strict=True):
        assert mean == pytest.approx(predicted(crossed, rows, a=[level] * 3, b=shares.index) @ shares, rel=1e-12)
    # Of two factors that are averaged over, combinations are counted.
    three = rows.assign(c=np.where(np.arange(len(rows)) % 3 > 0, "u", "v"))
    model = lmer("y ~ a + b + c + (1 | g)", three)
    counts = three.value_counts(["b", "c"], normalize=True).reset_index()
    expected = [
        model.predict(counts.assign(a=level), groups="population") @ counts["proportion"] for level in ("high", "low")
    ]
    np.testing.assert_allclose(
        estimated_marginal_means(model, "a", weights="proportional")["estimate"], expected, rtol=1e-12
    )
    # Copies of a row count as rows.
    weighted = FormulaRegressor("y ~ a + b + c + (1 | g)").fit(three, sample_weight=1.0 + np.arange(len(three)) % 2)
    copied = FormulaRegressor("y ~ a + b + c + (1 | g)").fit(three.loc[three.index.repeat(1 + np.arange(len(three)) % 2)])
    np.testing.assert_allclose(
        estimated_marginal_means(weighted, "a", weights="proportional")["estimate"],
        estimated_marginal_means(copied, "a", weights="proportional")["estimate"],
        rtol=1e-9,
    )


def test_errors_and_intervals_are_those_of_the_contrast(rows):
    model = lmer("y ~ b + x + (1 | g)", rows)
    for ddf in ("kenward_roger", "satterthwaite", "normal"):
        means = estimated_marginal_means(model, "b", ddf=ddf, level=0.9)
        test = contrast_test(model, {"(Intercept)": 1, "bc2": 1, "x": rows["x"].mean()}, ddf=ddf, level=0.9)
        found = means.iloc[1]
        for name in ("estimate", "std_error", "df", "ci_lower", "ci_upper"):
            assert found[name] == pytest.approx(test[name], rel=1e-9)
    assert list(means.columns) == ["b", "estimate", "std_error", "df", "ci_lower", "ci_upper"]


def test_the_first_factor_changes_fastest_and_by_makes_families(crossed):
    means = estimated_marginal_means(crossed, ["a", "b"])
    assert list(zip(means["a"], means["b"], strict=True))[:3] == [("high", "c1"), ("low", "c1"), ("high", "c2")]
    within = estimated_marginal_means(crossed, "a", by="b")
    np.testing.assert_allclose(within["estimate"], means["estimate"])
    pairs = within.pairs()
    assert pairs["contrast"].tolist() == ["high - low"] * 3
    assert pairs["b"].tolist() == ["c1", "c2", "c3"]
    assert len(means.pairs()) == 15
    assert means.pairs()["contrast"][0] == "high c1 - low c1"


def test_contrasts_in_words_and_weights(rows):
    model = lmer("y ~ b + x + (1 | g)", rows)
    means = estimated_marginal_means(model, "b")
    table = means.contrasts(["c2 - c1", "c3 - (c1 + c2) / 2"])
    effects = fixed_effects(model, ddf="kenward_roger")
    assert table.loc[0, "estimate"] == pytest.approx(effects.loc["bc2", "estimate"])
    assert table.loc[0, "p_value"] == pytest.approx(effects.loc["bc2", "p_value"], rel=1e-9)
    assert table["contrast"].tolist() == ["c2 - c1", "c3 - (c1 + c2) / 2"]
    np.testing.assert_allclose(means.contrasts([[-1, 1, 0]])["estimate"], table["estimate"][:1])
    named = means.contrasts({"third": {"c3": 1, "c1": -1}}, adjust="holm")
    assert named["contrast"].tolist() == ["third"]
    two = estimated_marginal_means(lmer("y ~ a * b + (1 | g)", rows), "b", by="a").contrasts("c2 - c1")
    assert two["a"].tolist() == ["high", "low"]
    with pytest.raises(ValueError, match='adjust="tukey" is for all pairs'):
        means.contrasts("c2 - c1", adjust="tukey")
    with pytest.raises(ValueError, match="tested against 0"):
        means.contrasts("c2 = 3")


def test_notes_say_what_is_averaged_and_what_is_held(rows, crossed):
    means = estimated_marginal_means(crossed, "a", at={"b": "c2", "x": 1})
    assert means.notes[0] == "At b = c2, x = 1."
    some = estimated_marginal_means(crossed, "a", at={"b": ["c1", "c3"]})
    assert some.notes[0] == "Averaged over the levels of b (c1, c3)."
    assert some.notes[2] == "a interacts with b, on which the differences between its levels depend."
    assert "interacts" not in repr(estimated_marginal_means(crossed, ["a", "b"]))
    slopes = lmer("y ~ a * b + a * x + (1 | g)", rows)
    assert "interacts" not in repr(estimated_trends(slopes, "a", "x"))
    assert "a family of 3 slopes." in repr(estimated_trends(slopes, "b", "x").pairs())
    assert "a interacts with b" in repr(estimated_trends(lmer("y ~ a * b * x + (1 | g)", rows), "a", "x"))


def test_values_of_columns_can_be_chosen(rows, crossed):
    means = estimated_marginal_means(crossed, "a", at={"x": 1.0, "b": ["c1"]})
    expected = crossed.predict(pd.DataFrame({"a": ["high", "low"], "b": "c1", "x": 1.0}), groups="population")
    np.testing.assert_allclose(means["estimate"], expected, rtol=1e-12)
    along = estimated_marginal_means(crossed, ["x", "a"], at={"x": [0.0, 1.0]})
    assert along["x"].tolist() == [0.0, 1.0, 0.0, 1.0]
    for problem, options in {
        "'z' is not in the fixed part": {"factors": "z"},
        "'x' holds numbers, not levels of a factor": {"factors": "x"},
        "which 'b' does not have": {"factors": "a", "at": {"b": ["c7"]}},
        "at names no value of 'b'": {"factors": "a", "at": {"b": []}},
        "at holds several values of 'x'": {"factors": "a", "at": {"x": [1, 2]}},
        "must be named once each": {"factors": ["a", "a"]},
        "weights must be one of": {"factors": "a", "weights": "cells"},
        "ddf must be one of": {"factors": "a", "ddf": "what"},
        "level must be between": {"factors": "a", "level": 95},
    }.items():
        with pytest.raises(ValueError, match=problem):
            estimated_marginal_means(crossed, **options)
    for options in ({"factors": None}, {"factors": "a", "at": [1]}):
        with pytest.raises(TypeError, match="must be a"):
            estimated_marginal_means(crossed, **options)
    called = lmer("y ~ estimate * t + (1 | g)", rows.rename(columns={"a": "estimate", "b": "t"}))
    with pytest.raises(ValueError, match="A factor is called 'estimate'"):
        estimated_marginal_means(called, "estimate")
    with pytest.raises(ValueError, match="A factor is called 't'"):
        estimated_marginal_means(lmer("y ~ a * t + (1 | g)", rows.rename(columns={"b": "t"})), "a", by="t").pairs()
    assert len(estimated_marginal_means(called, "t")) == 3
    with pytest.raises(ValueError, match="no fixed effects"):
        estimated_marginal_means(lmer("y ~ 0 + (1 | g)", rows), [])
    with pytest.raises(TypeError, match="needs a model with a formula"):
        estimated_marginal_means(RandomInterceptRegressor().fit(rows[["x"]], rows["y"], groups=rows["g"]), "a")


def test_strings_categories_truth_values_and_numbers_that_are_factors(rows):
    plain = estimated_marginal_means(lmer("y ~ a + b + (1 | g)", rows), "b")
    categories = rows.assign(b=pd.Categorical(rows["b"], ["c3", "c1", "c2"]))
    turned = estimated_marginal_means(lmer("y ~ a + b + (1 | g)", categories), "b")
    assert turned["b"].tolist() == ["c3", "c1", "c2"]
    np.testing.assert_allclose(turned.set_index("b").loc[plain["b"], "estimate"], plain["estimate"])
    numbered = rows.assign(b=rows["b"].str[1:].astype(int), late=rows["x"] > 0)
    for name in ("b", "factor(b)"):
        as_numbers = estimated_marginal_means(lmer("y ~ a + factor(b) + (1 | g)", numbered), name)
        np.testing.assert_allclose(as_numbers["estimate"], plain["estimate"])
        assert as_numbers["b"].tolist() == [1, 2, 3]
        assert as_numbers.pairs()["contrast"].tolist() == ["1 - 2", "1 - 3", "2 - 3"]
        np.testing.assert_allclose(as_numbers.contrasts("`1` - `2`")["estimate"], as_numbers.pairs()["estimate"][:1])
    late = lmer("y ~ late * a + (1 | g)", numbered)
    assert estimated_marginal_means(late, "late")["late"].tolist() == [False, True]
    np.testing.assert_allclose(
        estimated_marginal_means(late, "late")["estimate"].diff()[1], late.coef_[0] + late.coef_[2] / 2, rtol=1e-9
    )


def test_an_offset_counts_at_the_mean(rows):
    plain = lmer("y ~ b + x + (1 | g)", rows)
    model = lmer("y ~ b + x + offset(2 * x) + (1 | g)", rows)
    np.testing.assert_allclose(
        estimated_marginal_means(model, "b")["estimate"], estimated_marginal_means(plain, "b")["estimate"], rtol=1e-9
    )
    np.testing.assert_allclose(
        estimated_marginal_means(model, "b").pairs()["estimate"], estimated_marginal_means(plain, "b").pairs()["estimate"]
    )


def test_cells_without_rows_have_no_mean(rows):
    partial = two_factors(without=("high", "c2"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lmer("y ~ a * b + x + (1 | g)", partial)
    for factors, lost in (("a", ["high"]), ("b", ["c2"]), (["a", "b"], [("high", "c2")])):
        with pytest.warns(UserWarning, match=r"1 mean\(s\) cannot be estimated, because cells without rows"):
            means = estimated_marginal_means(model, factors)
        labels = (
            means["a" if factors == "a" else "b"]
            if isinstance(factors, str)
            else list(zip(means["a"], means["b"], strict=True))
        )
        assert [label for label, value in zip(labels, means["estimate"], strict=True) if np.isnan(value)] == lost
        assert means["std_error"].isna().tolist() == means["estimate"].isna().tolist()
        assert "cannot be estimated" in repr(means)
    with pytest.warns(UserWarning, match="cannot be estimated"):
        pairs = estimated_marginal_means(model, "b").pairs()
    assert np.isnan(pairs["p_value"]).tolist() == [True, False, True]
    # Within the cells that have rows the means exist.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        within = estimated_marginal_means(model, "a", at={"b": ["c1", "c3"]})
    assert np.isfinite(within["estimate"]).all()


@pytest.mark.parametrize(
    "formula", ["y ~ a * x + (1 | g)", "y ~ a * poly(x, 3) + (1 | g)", "y ~ a * log(x + 5) + b + (1 | g)"]
)
def test_a_trend_is_a_derivative(formula, rows):
    model = lmer(formula, rows)
    trends = estimated_trends(model, "a", "x")
    h = 1e-5
    for level, trend in zip(trends["a"], trends["estimate"], strict=True):
        up, down = (
            model.predict(pd.DataFrame({"a": level, "b": ["c1"], "x": rows["x"].mean() + step}), groups="population")[0]
            for step in (h, -h)
        )
        assert trend == pytest.approx((up - down) / (2 * h), rel=1e-7)
    assert trends.pairs()["contrast"].tolist() == ["high - low"]
    assert "Slopes by x." in repr(trends)


def test_a_trend_by_a_function_of_a_column(rows):
    model = lmer("y ~ a * log(x + 5) + (1 | g)", rows)
    trends = estimated_trends(model, "a", "log(x + 5)", ddf="satterthwaite")
    effects = fixed_effects(model)
    np.testing.assert_allclose(
        trends["estimate"],
        [effects["estimate"].iloc[2], effects["estimate"].iloc[2] + effects["estimate"].iloc[3]],
        rtol=1e-9,
    )
    assert trends.loc[0, "std_error"] == pytest.approx(effects["std_error"].iloc[2], rel=1e-9)
    over_all = estimated_trends(lmer("y ~ a * x + (1 | g)", rows), [], "x")
    assert len(over_all) == 1
    assert "95% intervals" in repr(over_all)
    with pytest.raises(ValueError, match="'b' is a factor, which has no slope"):
        estimated_trends(lmer("y ~ a + b + (1 | g)", rows), "a", "b")


def test_a_trend_counts_the_offset(rows):
    model = lmer("y ~ a * x + offset(3 * x) + (1 | g)", rows)
    trends = estimated_trends(model, "a", "x")["estimate"]
    means = [estimated_marginal_means(model, "a", at={"x": value})["estimate"] for value in (0.0, 1.0)]
    np.testing.assert_allclose(trends, means[1] - means[0], rtol=1e-8)
    alone = estimated_trends(lmer("y ~ a + offset(3 * x) + (1 | g)", rows), "a", "x")
    np.testing.assert_allclose(alone["estimate"], [3.0, 3.0])
    assert alone["std_error"].tolist() == [0.0, 0.0]
    for variable, model in (("poly(x, 2)", "y ~ a * poly(x, 2) + (1 | g)"), ("I(x > 0)", "y ~ a * I(x > 0) + (1 | g)")):
        with pytest.raises(ValueError, match="is a factor, or has several columns"):
            estimated_trends(lmer(model, rows), "a", variable)


def test_slopes_of_groups_leave_marginal_means_as_they_are():
    lines = straight_lines().assign(f=lambda rows: np.where(np.arange(len(rows)) % 2, "u", "v"))
    model = lmer("y ~ f * x + (x | g)", lines)
    means = estimated_marginal_means(model, "f")
    assert np.isfinite(means[["std_error", "df"]].to_numpy()).all()


# ---- families of comparisons


def test_adjusted_p_values():
    t, df = np.array([3.1, -0.4, 2.2, 2.9]), np.array([11.0, 12.5, 9.0, 30.0])
    p = 2 * stats.t.sf(np.abs(t), df)
    np.testing.assert_allclose(adjusted_p_values(t, df, "none", 4), p)
    np.testing.assert_allclose(adjusted_p_values(t, df, "bonferroni", 4), np.minimum(4 * p, 1))
    np.testing.assert_allclose(adjusted_p_values(t, df, "sidak", 4), 1 - (1 - p) ** 4)
    np.testing.assert_allclose(adjusted_p_values(t, df, "fdr", 4), stats.false_discovery_control(p))
    holm, order, so_far = np.empty(4), np.argsort(p), 0.0
    for rank, at in enumerate(order):
        so_far = max(so_far, (4 - rank) * p[at])
        holm[at] = min(so_far, 1.0)
    np.testing.assert_allclose(adjusted_p_values(t, df, "holm", 4), holm)
    tukey = stats.studentized_range.sf(np.sqrt(2) * np.abs(t), 4, df)
    np.testing.assert_allclose(adjusted_p_values(t, df, "tukey", 4), tukey)
    # Of two means there is one pair, and nothing to adjust.
    np.testing.assert_allclose(adjusted_p_values(t[:1], df[:1], "tukey", 2), p[:1])
    lost = adjusted_p_values(np.array([3.1, np.nan]), df[:2], "bonferroni", 3)
    assert lost[0] == pytest.approx(p[0])
    assert np.isnan(lost[1])


@pytest.mark.parametrize("adjust", ["tukey", "bonferroni", "sidak", "none"])
def test_intervals_exclude_0_where_the_adjusted_p_value_is_small(adjust):
    errors, df = np.ones(3), np.array([8.0, 15.5, np.inf])
    half = adjusted_half_widths(0.95, errors, df, adjust, 3)
    np.testing.assert_allclose(adjusted_p_values(half, df, adjust, 3), 0.05, rtol=1e-6)


def test_pairs_of_one_mean_are_refused(rows):
    with pytest.raises(ValueError, match="no pair to compare"):
        estimated_marginal_means(lmer("y ~ a * b + (1 | g)", rows), ["a"], at={"a": ["low"]}).pairs()
    with pytest.raises(ValueError, match="adjust must be one of"):
        estimated_marginal_means(lmer("y ~ a + (1 | g)", rows), "a").pairs("what")


def test_tables_print_numbers_that_suit_them_and_are_frames(rows):
    means = estimated_marginal_means(lmer("y ~ b + (1 | g)", rows), "b")
    text = repr(means.pairs())
    assert "Tukey's method for a family of 3 means" in text
    assert "c1 - c2" in text
    assert "<table" in means._repr_html_()
    assert type(means[["b"]]) is pd.DataFrame
    assert type(means.sort_values("estimate")) is pd.DataFrame
