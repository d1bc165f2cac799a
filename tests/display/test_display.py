"""Displays: what they draw and say, that they keep to their axes, and what they look like."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor, compare_with_ols, display, inference
from sklearn_mlm.datasets import load_dyestuff, load_sleepstudy, make_schools
from sklearn_mlm.display import (
    ClusteringDisplay,
    CoefficientComparisonDisplay,
    GroupLinesDisplay,
    RandomCoefficientsDisplay,
    RandomEffectsDisplay,
    ShrinkageDisplay,
    VarianceDisplay,
    VarianceFunctionDisplay,
)

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection
from matplotlib.testing.compare import compare_images

IMAGES = Path(__file__).parent / "images"
# Root mean square of the differences of pixels, of 255: 0 between versions of matplotlib, and 2 where one marker is missing.
TOLERANCE = 1.0


@pytest.fixture(scope="module")
def schools():
    return make_schools(12, 240, random_state=0, as_frame=True).frame


@pytest.fixture(scope="module")
def null(schools):
    return RandomInterceptRegressor().fit(None, schools["math"], groups=schools["school"])


@pytest.fixture(scope="module")
def comparison():
    X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    return compare_with_ols(X, y, subject, random_state=0)


def every_display(schools, null, comparison, slopes):
    """One call of each display, which takes the axes."""
    x, y, groups = schools["ses"], schools["math"], schools["school"]
    calls = {f"clustering_{lines}": (ClusteringDisplay.from_data, (x, y, groups), {"lines": lines}) for lines in
             ("pooled", "group", "model")}  # fmt: skip
    for kind in ("hist", "caterpillar", "qq"):
        calls[f"effects_{kind}"] = (RandomEffectsDisplay.from_estimator, (null,), {"kind": kind})
    calls["shrinkage"] = (ShrinkageDisplay.from_estimator, (null,), {})
    for kind in ("shares", "range", "profile"):
        calls[f"variance_{kind}"] = (VarianceDisplay.from_estimator, (null,), {"kind": kind})
    calls["coefficients"] = (CoefficientComparisonDisplay.from_comparison, (comparison,), {})
    model, X, y, subject = slopes
    for kind in ("panels", "together"):
        options = {"feature": "days", "kind": kind}
        calls[f"lines_{kind}"] = (GroupLinesDisplay.from_estimator, (model, X, y, subject), options)
    calls["random_coefficients"] = (RandomCoefficientsDisplay.from_estimator, (model,), {})
    calls["variance_function"] = (VarianceFunctionDisplay.from_estimator, (model, X, "days"), {})
    calls["effects_of_slopes"] = (RandomEffectsDisplay.from_estimator, (model,), {"kind": "caterpillar"})
    return calls


NAMES = [
    *("clustering_pooled", "clustering_group", "clustering_model", "effects_hist", "effects_caterpillar", "effects_qq"),
    *("shrinkage", "variance_shares", "variance_range", "variance_profile", "coefficients"),
    *("lines_panels", "lines_together", "random_coefficients", "variance_function", "effects_of_slopes"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_display_draws_into_the_axes_given_and_into_its_own_figure_otherwise(
    schools, null, comparison, sleep_slopes, name
):
    draw, arguments, options = every_display(schools, null, comparison, sleep_slopes)[name]
    figure, (left, right) = plt.subplots(1, 2)
    display = draw(*arguments, **options, ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert not left.has_data()
    own = draw(*arguments, **options)
    assert own.figure_ is not figure
    assert own.ax_.figure is own.figure_
    assert own.plot() is own  # which draws a figure more
    assert len(plt.get_fignums()) == 3


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_and_no_text_lies_over_other_text(schools, null, comparison, sleep_slopes, name, assert_legible):
    draw, arguments, options = every_display(schools, null, comparison, sleep_slopes)[name]
    assert_legible(draw(*arguments, **options).figure_)


def test_the_pooled_line_is_that_of_least_squares(schools):
    display = ClusteringDisplay.from_data(schools["ses"], schools["math"], schools["school"])
    slope, intercept = np.polyfit(schools["ses"], schools["math"], 1)
    x, y = display.line_.get_data()
    np.testing.assert_allclose(y, intercept + slope * x)
    assert (x.min(), x.max()) == (schools["ses"].min(), schools["ses"].max())
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("ses", "math")
    assert len(display.scatter_) == 1
    assert len(display.scatter_[0].get_offsets()) == 240


def test_ten_groups_have_a_colour_a_marker_a_line_and_a_name_each(schools):
    ten = schools[schools["school"] <= 10]
    display = ClusteringDisplay.from_data(ten["ses"], ten["math"], ten["school"], lines="group")
    assert len(display.scatter_) == len(display.group_lines_) == 10
    assert len({tuple(points.get_facecolor()[0]) for points in display.scatter_}) == 10
    for line, points, (_, rows) in zip(display.group_lines_, display.scatter_, ten.groupby("school"), strict=True):
        slope, intercept = np.polyfit(rows["ses"], rows["math"], 1)
        np.testing.assert_allclose(line.get_ydata(), intercept + slope * line.get_xdata())
        assert mpl.colors.same_color(line.get_color(), points.get_facecolor()[0][:3])
    legend = display.ax_.get_legend()
    assert legend.get_title().get_text() == "school"
    assert [text.get_text() for text in legend.get_texts()] == [str(label) for label in range(1, 11)]


def test_lines_of_the_model_are_parallel_and_those_it_predicts(schools):
    x, y, groups = schools[["ses"]], schools["math"], schools["school"]
    display = ClusteringDisplay.from_data(x, y, groups, lines="model")
    model = RandomInterceptRegressor().fit(x, y, groups=groups)
    assert isinstance(display.group_lines_, LineCollection)
    for (start, end), label in zip(display.group_lines_.get_segments(), model.groups_, strict=True):
        rows = pd.DataFrame({"ses": [start[0], end[0]]})
        np.testing.assert_allclose([start[1], end[1]], model.predict(rows, [label] * 2))
        assert start[0] == x["ses"][groups == label].min()
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [
        "240 rows",
        "lines of 12 groups (school)",
        "population",
    ]


def test_a_group_in_which_x_does_not_vary_has_no_line():
    x, groups = [1e8 + 0.1, 1e8 + 0.1, 1e8 + 0.1, 1.0, 2.0, 3.0], list("aaabbb")
    display = ClusteringDisplay.from_data(x, [1.0, 2.0, 3.0, 1.0, 3.0, 2.0], groups, lines="group")
    assert np.isnan(display.slopes).tolist() == [True, False]
    assert len(display.group_lines_) == 1
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("x", "y")


def test_many_rows_and_groups_are_sampled_and_the_legend_says_so():
    data = make_schools(900, 8_000, random_state=0, as_frame=True).frame
    display = ClusteringDisplay.from_data(data["ses"], data["math"], data["school"], lines="group", subsample=1_000)
    assert len(display.scatter_[0].get_offsets()) == 1_000
    assert len(display.group_lines_.get_segments()) == 200
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["1,000 of 8,000 rows", "lines of 200 of 900 groups (school)", "all rows, groups ignored"]
    again = ClusteringDisplay.from_data(data["ses"], data["math"], data["school"], lines="group", subsample=1_000)
    np.testing.assert_array_equal(again.scatter_[0].get_offsets(), display.scatter_[0].get_offsets())


def test_drawing_leaves_the_global_random_state_alone(schools):
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    ClusteringDisplay.from_data(schools["ses"], schools["math"], schools["school"], subsample=10)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lines": "both"}, "lines must be one of 'pooled', 'group', 'model'; found 'both'"),
        ({"x": [1.0, np.nan, 2.0, 3.0]}, "NaN"),
        ({"y": [1.0, np.inf, 2.0, 3.0]}, "infinity"),
        ({"x": [1.0, 2.0]}, "inconsistent numbers of samples"),
        ({"x": [2.0] * 4}, "x is constant"),
        ({"groups": ["a", "b"]}, "groups must hold one label per row"),
        ({"groups": ["a", None, "b", "b"]}, "1 missing label"),
        ({"x": np.ones((4, 2))}, r"x must be one predictor, of shape \(n_samples,\); found shape \(4, 2\)"),
        ({"subsample": -1}, "subsample must be a whole number, at least 1, or None; found -1"),
    ],
)
def test_bad_data_are_refused_before_anything_is_drawn(change, message):
    arguments = {"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 3.0, 2.0, 4.0], "groups": list("aabb"), **change}
    with pytest.raises(ValueError, match=message):
        ClusteringDisplay.from_data(**arguments)
    assert not plt.get_fignums()


def test_options_of_artists_may_be_given_by_any_of_their_names(schools):
    display = ClusteringDisplay.from_data(
        schools["ses"],
        schools["math"],
        schools["school"],
        scatter_kwargs={"s": 3, "ec": "k"},
        line_kwargs={"c": "red", "lw": 5},
    )
    assert display.scatter_[0].get_sizes().tolist() == [3]
    assert (display.line_.get_color(), display.line_.get_linewidth()) == ("red", 5)


def test_names_and_labels_of_the_data_are_shown_as_they_are(schools):
    names = {1: "_under", 2: "$5 to $10", 3: r"$\frac$", 4: "x_{$"}
    four = schools[schools["school"] <= 4]
    x, y = four["ses"].rename("cost $ per $"), four["math"].rename("_math")
    groups = four["school"].map(names)
    display = ClusteringDisplay.from_data(x, y, groups, lines="group")
    display.figure_.canvas.draw()
    shown = {text.get_text().strip().replace(r"\$", "$") for text in display.ax_.get_legend().get_texts()}
    assert shown == set(names.values())
    assert display.ax_.get_xlabel() == r"cost \$ per \$"
    model = RandomInterceptRegressor().fit(None, y, groups=groups)
    for kind in ("hist", "caterpillar", "qq"):
        RandomEffectsDisplay.from_estimator(model, kind=kind).figure_.canvas.draw()
    comparison = compare_with_ols(four[["ses"]].rename(columns={"ses": "x$_{$"}), y, groups, random_state=0)
    CoefficientComparisonDisplay.from_comparison(comparison).figure_.canvas.draw()


def test_text_has_the_colour_of_the_style(schools, null):
    with mpl.style.context("dark_background"):
        display = RandomEffectsDisplay.from_estimator(null, kind="caterpillar", extremes=2)
        title = next(text for text in (display.ax_._left_title, display.ax_.title) if text.get_text())
        assert mpl.colors.same_color(title.get_color(), "white")
        lines = ClusteringDisplay.from_data(schools["ses"], schools["math"], schools["school"], lines="model")
        assert mpl.colors.same_color(lines.line_.get_color(), "white")


def test_colours_may_be_given_as_c_too(schools, null):
    for given in ({"c": schools["math"]}, {"color": "red"}):
        display = ClusteringDisplay.from_data(schools["ses"], schools["math"], schools["school"], scatter_kwargs=given)
        assert len(display.scatter_[0].get_offsets()) == 240
    for given in ({"c": np.arange(12)}, {"color": "red"}):
        ShrinkageDisplay.from_estimator(null, scatter_kwargs=given)


def test_a_figure_that_cannot_be_finished_is_closed(schools, null):
    with pytest.raises(ValueError, match="nonsense"):
        RandomEffectsDisplay.from_estimator(null, bins="nonsense")
    with pytest.raises(AttributeError):
        ClusteringDisplay.from_data(schools["ses"], schools["math"], schools["school"], line_kwargs={"nonsense": 1})
    assert not plt.get_fignums()


# ---- random effects


@pytest.mark.parametrize("scale", ["deviation", "absolute"])
def test_the_histogram_counts_every_group_and_the_curve_has_the_area_of_the_bars(null, scale):
    display = RandomEffectsDisplay.from_estimator(null, scale=scale)
    heights = np.array([bar.get_height() for bar in display.bars_])
    widths = np.array([bar.get_width() for bar in display.bars_])
    assert heights.sum() == 12
    x, y = display.line_.get_data()
    np.testing.assert_allclose(integrate.trapezoid(y, x), heights @ widths, rtol=0.01)
    tau, at = np.sqrt(null.variance_components_["group"]), null.intercept_ if scale == "absolute" else 0.0
    np.testing.assert_allclose(y / y.max(), stats.norm.pdf(x, at, tau) / stats.norm.pdf(x, at, tau).max())
    note = display.ax_.get_legend().get_title().get_text()
    assert note == "EB estimates are shrunk, so they spread less than τ"
    what = "intercept of each school in math" if scale == "absolute" else "deviation of each school in math"
    assert display.ax_.get_xlabel() == f"{what} (EB estimate)"


def test_the_caterpillar_is_the_table_of_random_effects_in_order(null):
    display = RandomEffectsDisplay.from_estimator(null, kind="caterpillar", level=0.8)
    table = inference.random_effects_table(null, level=0.8).sort_values("effect")
    np.testing.assert_allclose(display.points_.get_xdata(), table["effect"])
    segments = np.array(display.intervals_.get_segments())
    np.testing.assert_allclose(segments[:, :, 0], table[["ci_lower", "ci_upper"]])
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == [str(label) for label in table.index]
    apart = ((table["ci_lower"] > 0) | (table["ci_upper"] < 0)).sum()
    assert display.ax_.get_title(loc="left") == f"{apart} of 12 intervals (80%) exclude 0 (orange)"


def test_the_title_counts_all_groups_where_the_extreme_ones_are_drawn(null):
    titles = [
        RandomEffectsDisplay.from_estimator(null, kind="caterpillar", **options).ax_.get_title(loc="left").split(" (")[0]
        for options in ({}, {"extremes": 2})
    ]
    assert titles[0] == titles[1]


def test_extremes_are_the_lowest_and_the_highest_groups_by_name(null):
    display = RandomEffectsDisplay.from_estimator(null, kind="caterpillar", extremes=2)
    order = null.random_effects_.sort_values().index
    shown = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert shown == [str(label) for label in [*order[:2], *order[-2:]]]
    assert "8 groups between" in [text.get_text() for text in display.ax_.texts]
    data = make_schools(100, 500, random_state=0, as_frame=True).frame
    model = RandomInterceptRegressor().fit(None, data["math"], groups=data["school"])
    many = RandomEffectsDisplay.from_estimator(model, kind="caterpillar", extremes=30)
    assert len(many.ax_.get_yticks()) == 60
    assert many.ax_.get_ylabel() == "school"
    all_of_them = RandomEffectsDisplay.from_estimator(null, kind="caterpillar", extremes=6)
    assert len(all_of_them.ax_.get_yticks()) == 12


def test_many_groups_are_a_band_without_labels():
    data = make_schools(3_000, 12_000, random_state=0, as_frame=True).frame
    model = RandomInterceptRegressor().fit(None, data["math"], groups=data["school"])
    display = RandomEffectsDisplay.from_estimator(model, kind="caterpillar")
    assert len(display.points_.get_xdata()) == 3_000
    assert not isinstance(display.intervals_, LineCollection)
    assert display.ax_.get_ylabel() == "rank among 3,000 groups (school)"
    table = inference.random_effects_table(model)
    edges = display.intervals_.get_paths()[0].vertices[:, 0]
    assert table["ci_lower"].min() <= edges.min() < edges.max() <= table["ci_upper"].max()


def test_quantiles_of_effects_of_equal_variance_follow_the_line_of_tau():
    # Sizes between 1 and 40, so that raw estimates would have very different variances.
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 41, 4_000)
    groups = np.repeat(np.arange(4_000), sizes)
    y = 3.0 * rng.standard_normal(4_000)[groups] + 5.0 * rng.standard_normal(len(groups))
    model = RandomInterceptRegressor().fit(None, y, groups=groups)
    display = RandomEffectsDisplay.from_estimator(model, kind="qq")
    normal, shown = display.points_.get_data()
    slope = np.polyfit(normal, shown, 1)[0]
    assert abs(slope / np.sqrt(model.variance_components_["group"]) - 1) < 0.02
    x, y = display.line_.get_data()
    np.testing.assert_allclose(y / x, np.sqrt(model.variance_components_["group"]))


def test_an_intercept_of_exactly_zero_is_one_on_the_absolute_scale(schools):
    model = RandomInterceptRegressor(fit_intercept=False).fit(schools[["ses"]], schools["math"], groups=schools["school"])
    assert model.intercept_ == 0
    for kind, axis in (("hist", "xlabel"), ("caterpillar", "xlabel"), ("qq", "ylabel")):
        display = RandomEffectsDisplay.from_estimator(model, kind=kind, scale="absolute")
        assert getattr(display.ax_, f"get_{axis}")().startswith("intercept of each school in math")


def test_effects_that_are_all_zero_are_drawn_and_said_to_be():
    y = np.tile([1.0, 2.0, 3.0], 5)
    model = RandomInterceptRegressor().fit(None, y, groups=np.repeat(range(5), 3))
    assert model.boundary_ == "group"
    for kind in ("hist", "caterpillar", "qq"):
        RandomEffectsDisplay.from_estimator(model, kind=kind).figure_.canvas.draw()
    ShrinkageDisplay.from_estimator(model).figure_.canvas.draw()
    for kind in ("shares", "range", "profile"):
        VarianceDisplay.from_estimator(model, kind=kind).figure_.canvas.draw()
    display = RandomEffectsDisplay.from_estimator(model)
    assert display.line_ is None
    assert "0" in display.ax_.get_legend().get_title().get_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "box"}, "kind must be one of 'hist', 'caterpillar', 'qq'; found 'box'"),
        ({"scale": "raw"}, "scale must be one of"),
        ({"level": 95}, "level must be between 0 and 1"),
        ({"extremes": 0}, "extremes must be a whole number"),
        ({"extremes": True}, "extremes must be a whole number"),
    ],
)
def test_bad_options_of_effects_are_refused(null, options, message):
    with pytest.raises(ValueError, match=message):
        RandomEffectsDisplay.from_estimator(null, **options)
    assert not plt.get_fignums()


@pytest.mark.parametrize("display", [RandomEffectsDisplay, ShrinkageDisplay, VarianceDisplay])
def test_models_that_are_not_fitted_or_have_no_groups_are_refused(display):
    from sklearn.exceptions import NotFittedError
    from sklearn.linear_model import LinearRegression

    with pytest.raises(NotFittedError):
        display.from_estimator(RandomInterceptRegressor())
    with pytest.raises(TypeError, match=r"must be a RandomInterceptRegressor.*, or a pipeline .* found LinearRegression"):
        display.from_estimator(LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0]))


# ---- shrinkage


def test_raw_means_and_their_estimates_are_those_of_the_groups(schools, null):
    display = ShrinkageDisplay.from_estimator(null)
    offsets = np.asarray(display.scatter_.get_offsets())
    np.testing.assert_allclose(offsets[:, 0], schools.groupby("school")["math"].mean())
    np.testing.assert_allclose(offsets[:, 1], null.intercept_ + null.random_effects_)
    np.testing.assert_allclose(display.scatter_.get_array(), inference.random_effects_table(null)["reliability"])
    sizes, areas = schools.groupby("school").size().to_numpy(), display.scatter_.get_sizes()
    assert (np.argsort(areas, kind="stable") == np.argsort(sizes, kind="stable")).all()
    assert display.colorbar_.ax.get_ylabel() == "reliability λ"


def test_with_predictors_means_are_what_they_leave(schools):
    model = RandomInterceptRegressor().fit(schools[["ses"]], schools["math"], groups=schools["school"])
    display = ShrinkageDisplay.from_estimator(model, scale="deviation")
    left = schools["math"] - model.predict(schools[["ses"]], "population")
    np.testing.assert_allclose(display.means, left.groupby(schools["school"]).mean())
    assert display.ax_.get_xlabel() == "raw mean of math given the predictors, each school"


def test_moments_that_were_read_by_name_are_called_by_it(schools):
    halves = [(part[["ses"]], part["math"], part["school"]) for part in (schools[:100], schools[100:])]
    for moments in (
        GroupedMoments.from_batches(halves),
        GroupedMoments.merge(GroupedMoments.from_arrays(*half) for half in halves),
        RandomInterceptRegressor().fit(schools[["ses"]], schools["math"], groups=schools["school"]).moments_,
    ):
        display = RandomEffectsDisplay.from_estimator(RandomInterceptRegressor().fit_moments(moments))
        assert display.ax_.get_xlabel() == "deviation of each school in math (EB estimate)"


def test_equal_reliabilities_need_no_colour_bar():
    dyestuff = load_dyestuff(as_frame=True)
    model = RandomInterceptRegressor().fit(None, dyestuff.target, groups=dyestuff.groups)
    display = ShrinkageDisplay.from_estimator(model)
    assert display.colorbar_ is None
    assert display.ax_.get_title(loc="left") == "6 groups (batch) of 5 rows, reliability 0.783"


# ---- variance


def test_the_bars_are_the_shares_and_make_up_the_whole(schools):
    model = RandomInterceptRegressor().fit(schools[["ses"]], schools["math"], groups=schools["school"])
    display = VarianceDisplay.from_estimator(model)
    widths = [bar.patches[0].get_width() for bar in display.bars_]
    shares = inference.r2(model)
    np.testing.assert_allclose(widths, shares[["fixed_between", "group", "fixed_within", "residual"]])
    np.testing.assert_allclose(sum(widths), 1.0)
    low, high = inference.plausible_values_range(model)
    assert f"from {low:.2f} to {high:.2f}" in display.ax_.get_title(loc="left")


def test_the_profile_is_the_criterion_and_its_limits_are_where_it_crosses(null):
    display = VarianceDisplay.from_estimator(null, kind="profile")
    at, excess = display.line_.get_data()
    criterion = null.fit_.criterion()
    for i in (10, 150, 290):
        np.testing.assert_allclose(excess[i], criterion.value(at[i] / (1 - at[i])) - null.criterion_, atol=1e-9)
    for limit in display.icc_limits:
        np.testing.assert_allclose(
            criterion.value(limit / (1 - limit)) - null.criterion_, stats.chi2.ppf(0.95, 1), rtol=1e-9
        )
    assert at[np.argmin(excess)] == null.icc_


def test_a_model_fitted_by_maximum_likelihood_has_the_limits_of_confidence_intervals(schools):
    model = RandomInterceptRegressor(method="ml").fit(None, schools["math"], groups=schools["school"])
    display = VarianceDisplay.from_estimator(model, kind="profile", level=0.9)
    expected = inference.confidence_intervals(model, level=0.9, method="profile").loc["icc"]
    np.testing.assert_allclose(display.icc_limits, expected, rtol=1e-9)


def test_the_range_shades_the_plausible_values(null):
    display = VarianceDisplay.from_estimator(null, kind="range")
    x = display.area_.get_paths()[0].vertices[:, 0]
    np.testing.assert_allclose([x.min(), x.max()], inference.plausible_values_range(null))
    assert display.ax_.get_xlabel() == "math"


def test_without_residual_there_is_no_variance_to_divide():
    model = RandomInterceptRegressor().fit(None, [1.0, 1.0, 2.0, 2.0, 4.0, 4.0], groups=[1, 1, 2, 2, 3, 3])
    with pytest.raises(ValueError, match="leaves no residual variance"):
        VarianceDisplay.from_estimator(model)


# ---- comparison with least squares


def test_estimates_and_intervals_are_those_of_the_comparison(comparison):
    display = CoefficientComparisonDisplay.from_comparison(comparison, level=0.9)
    table = comparison.coefficients.loc["days"]
    assert len(display.axes_) == 1
    for container, (_, row) in zip(display.containers_, table.iterrows(), strict=True):
        point, _, (bar,) = container
        half = stats.t.ppf(0.95, row["df"]) * row["std_error"]
        np.testing.assert_allclose(point.get_xdata().astype(float), row["estimate"])
        np.testing.assert_allclose(bar.get_segments()[0][:, 0], [row["estimate"] - half, row["estimate"] + half])


def test_the_intercept_is_shown_where_asked_for_or_alone(comparison):
    display = CoefficientComparisonDisplay.from_comparison(comparison, intercept=True)
    assert [panel.get_title(loc="left") for panel in display.axes_] == ["(Intercept)", "days"]
    # The within estimator has no intercept.
    assert len(display.containers_) == 7
    assert [text.get_text() for text in display.axes_[0].texts] == ["not estimated"]
    with pytest.raises(TypeError, match="must be what compare_with_ols returns; found int"):
        CoefficientComparisonDisplay.from_comparison(3)


# ---- the package


def test_without_matplotlib_every_display_names_the_extra():
    # One process for all of them: most of its time is the import of the package.
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from sklearn_mlm import RandomInterceptRegressor, display\n"
        "model = RandomInterceptRegressor().fit(None, [1.0, 2.0, 4.0, 5.0], groups=[1, 1, 2, 2])\n"
        "rows = [1, 2, 3], [1, 3, 2], [1, 1, 2]\n"
        "for name in ['ShrinkageDisplay', 'RandomEffectsDisplay', 'VarianceDisplay', 'ClusteringDisplay']:\n"
        "    made = getattr(display, name)\n"
        "    try:\n"
        "        made.from_data(*rows) if name == 'ClusteringDisplay' else made.from_estimator(model)\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        f"{name} needs matplotlib: pip install 'sklearn-mlm[plot]'."
        for name in ("ShrinkageDisplay", "RandomEffectsDisplay", "VarianceDisplay", "ClusteringDisplay")
    ]


# Versions of matplotlib space panels below a legend differently.
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("lines")])
def test_a_display_looks_as_it_did(schools, null, comparison, sleep_slopes, name, tmp_path):
    """Compare with a picture without its text, of which fonts differ from machine to machine.

    SKLEARN_MLM_NEW_BASELINES=1 draws the pictures to compare with anew: look at them before they are committed.
    """
    draw, arguments, options = every_display(schools, null, comparison, sleep_slopes)[name]
    with mpl.style.context("default"):
        figure = draw(*arguments, **options).figure_
        for axes in figure.axes:
            for text in [*axes.texts, *filter(None, [axes.get_legend()])]:
                text.remove()
            axes.set(xlabel="", ylabel="")
            axes.set_title("", loc="left")
            axes.set_title("")
            axes.tick_params(labelleft=False, labelright=False, labelbottom=False)
        path, expected = tmp_path / f"{name}.png", IMAGES / f"{name}.png"
        if os.environ.get("SKLEARN_MLM_NEW_BASELINES"):
            path = expected
        figure.set_size_inches(6.0, 4.0)
        figure.savefig(path, dpi=50)
    difference = compare_images(str(expected), str(path), TOLERANCE, in_decorator=True)
    assert difference is None, f"differs by {difference['rms']:.1f}"


def test_levels_are_said_with_their_decimals(null):
    display = RandomEffectsDisplay.from_estimator(null, kind="caterpillar", level=0.995)
    assert "(99.5%)" in display.ax_.get_title(loc="left")


def test_the_profile_is_a_curve_on_both_sides_of_an_icc_near_1():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 20)
    model = RandomInterceptRegressor().fit(
        None, 100 * rng.standard_normal(30)[groups] + rng.standard_normal(600), groups=groups
    )
    display = VarianceDisplay.from_estimator(model, kind="profile")
    at, excess = display.line_.get_data()
    assert model.icc_ > 0.999
    assert (at > model.icc_).sum() > 50
    assert excess[-1] > display.threshold


def test_what_the_note_on_shrinkage_says_is_true():
    # By maximum likelihood tau can be less than the spread of the estimates.
    groups = np.repeat([0, 1, 2], 20)
    y = np.array([0.0, 3.0, 7.0])[groups] + np.tile([-1.0, 1.0], 30)
    ml, reml = (RandomInterceptRegressor(method=method).fit(None, y, groups=groups) for method in ("ml", "reml"))
    notes = [RandomEffectsDisplay.from_estimator(model).ax_.get_legend().get_title().get_text() for model in (ml, reml)]
    assert ml.random_effects_.std() > np.sqrt(ml.variance_components_["group"])
    assert notes == ["EB estimates are shrunk towards 0", "EB estimates are shrunk, so they spread less than τ"]


def test_a_constant_outcome_has_no_variance_to_show():
    with pytest.warns(UserWarning, match="y is constant"):
        model = RandomInterceptRegressor().fit(None, np.ones(6), groups=[1, 1, 2, 2, 3, 3])
    with pytest.raises(ValueError, match="y is constant"):
        VarianceDisplay.from_estimator(model)


@pytest.mark.parametrize("name", display.__all__)
def test_a_display_that_is_called_says_which_method_makes_it(name, null):
    made = getattr(display, name)
    with pytest.raises(TypeError, match=rf"call {name}\.(from_\w+)\(") as raised:
        made(null)
    method = str(raised.value).split(f"call {name}.")[1].split("(")[0]
    assert callable(getattr(made, method))
