"""The four pictures of a model's assumptions: what they draw, of few rows and of many, and what they say."""

import subprocess
import sys
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mlm import RandomInterceptRegressor, inference
from sklearn_mlm.datasets import load_sleepstudy, make_schools
from sklearn_mlm.display import DiagnosticsDisplay
from sklearn_mlm.formula import lmer

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(scope="module")
def sleep():
    """A model with one predictor, and its rows."""
    X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    return RandomInterceptRegressor().fit(X, y, groups=subject), X, y, subject


def simulated(n=900, n_groups=30, n_columns=3, seed=0, spread=0.0):
    """A model with several predictors, and its rows."""
    rng = np.random.default_rng(seed)
    groups = pd.Series(rng.integers(0, n_groups, n), name="school")
    X = pd.DataFrame(rng.standard_normal((n, n_columns)), columns=[f"x{i}" for i in range(n_columns)])
    noise = rng.standard_normal(n) * np.exp(spread * rng.standard_normal(n_groups))[groups]
    y = pd.Series(X.sum(axis=1) + rng.standard_normal(n_groups)[groups] + noise, name="math")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RandomInterceptRegressor().fit(X, y, groups=groups), X, y, groups


def title(panel):
    return panel.get_title(loc="left")


def legend(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


# ---- what is drawn


def test_the_points_are_the_rows(sleep):
    model, X, y, subject = sleep
    display = DiagnosticsDisplay.from_estimator(model, X, y, subject)
    fitted, scaled = model.predict(X, subject), inference.residuals(model, X, y, subject, scaled=True)
    linearity, spread = display.rows_
    assert isinstance(linearity, PathCollection)
    np.testing.assert_allclose(linearity.get_offsets(), np.column_stack([fitted, scaled]), atol=1e-12)
    np.testing.assert_allclose(spread.get_offsets(), np.column_stack([fitted, np.sqrt(np.abs(scaled))]), atol=1e-6)
    (first, second), (third, fourth) = display.axes_
    assert [panel.get_xlabel() for panel in (first, second, third, fourth)] == [
        *("fitted reaction", "normal quantile", "fitted reaction", "normal quantile")
    ]
    assert (first.get_ylabel(), third.get_ylabel()) == ("scaled residual", "√|scaled residual|")
    assert legend(first) == ["180 rows", "mean in 8 bins, 95% band", "expected: effects are shrunk"]
    assert legend(third) == ["180 rows", "mean in 8 bins, 95% band", "mean of all rows"]


def test_the_trend_is_the_mean_of_rows_in_bins_with_its_interval(sleep):
    model, X, y, subject = sleep
    display = DiagnosticsDisplay.from_estimator(model, X, y, subject, level=0.9)
    order = np.argsort(display.fitted)
    for line, heights in zip(display.trends_, (display.residuals, np.sqrt(np.abs(display.residuals))), strict=True):
        at, mean = line.get_data()
        # Eight bins of 22 or 23 rows.
        parts = np.array_split(order, 8)
        np.testing.assert_allclose(at, [display.fitted[part].mean() for part in parts], rtol=0.01)
        assert len(at) == 8
        bins = np.searchsorted(np.quantile(display.fitted, np.linspace(0, 1, 9)[1:-1]), display.fitted, side="right")
        np.testing.assert_allclose(mean, [heights[bins == i].mean() for i in range(8)])
    (band,) = [each for each in display.axes_[0, 0].collections if isinstance(each, PolyCollection)]
    first = display.residuals[bins == 0]
    low, high = stats.t.interval(0.9, len(first) - 1, first.mean(), stats.sem(first))
    edges = band.get_paths()[0].vertices
    ends = edges[np.isclose(edges[:, 0], display.trends_[0].get_xdata()[0]), 1]
    np.testing.assert_allclose([ends.min(), ends.max()], [low, high])


def test_rows_of_equal_fitted_values_share_a_bin():
    rng = np.random.default_rng(0)
    groups = np.repeat(range(4), 50)
    y = 3.0 * groups + rng.standard_normal(200)
    model = RandomInterceptRegressor().fit(None, y, groups)
    display = DiagnosticsDisplay.from_estimator(model, None, y, groups)
    np.testing.assert_allclose(display.trends_[0].get_xdata(), np.unique(model.predict(None, groups)))


def test_the_expected_trend_is_what_shrinkage_leaves_in_the_residuals():
    # Small groups, whose effects are shrunk by half: the residuals of a true model rise with the fitted values.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20_000), 3)
    y = rng.standard_normal(20_000)[groups] + 1.5 * rng.standard_normal(60_000)
    model = RandomInterceptRegressor().fit(None, y, groups)
    display = DiagnosticsDisplay.from_estimator(model, None, y, groups)
    slope = np.polyfit(display.fitted, display.residuals, 1)[0]
    assert slope > 0.4
    np.testing.assert_allclose(display.expected_slope, slope, rtol=0.03)
    # The trend is the dashed line, to the noise of bins of 2,000 rows.
    at, mean = display.trends_[0].get_data()
    np.testing.assert_allclose(mean, display.expected_slope * at, atol=4 / np.sqrt(2_000))
    (line,) = [each for each in display.axes_[0, 0].lines if each.get_label() == "expected: effects are shrunk"]
    assert line.get_slope() == display.expected_slope
    np.testing.assert_allclose(line.get_xy1(), [display.fitted.mean(), 0.0])


def test_quantiles_are_those_of_a_normal_sample_with_its_band(sleep):
    model, X, y, subject = sleep
    display = DiagnosticsDisplay.from_estimator(model, X, y, subject, level=0.8)
    normal, ordered = display.quantiles_.get_data()
    np.testing.assert_allclose(ordered, np.sort(display.residuals))
    np.testing.assert_allclose(normal, stats.norm.ppf((np.arange(180) + 0.5) / 180))
    sd = np.sqrt(np.mean(display.residuals**2))
    edges = display.band_.get_paths()[0].vertices
    ends = edges[np.isclose(edges[:, 0], normal[0]), 1]
    # The smallest of 180 is below x with probability 1 - (1 - F(x))^180.
    expected = [sd * stats.norm.ppf(1 - (1 - p) ** (1 / 180)) for p in (0.1, 0.9)]
    np.testing.assert_allclose([ends.min(), ends.max()], expected)
    panel = display.axes_[0, 1]
    assert legend(panel) == ["80% of normal samples, point by point", f"normal, SD {sd:.3f}", "180 rows"]


def test_normal_samples_are_within_the_band_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = []
    groups = np.repeat(range(10), 20)
    for _ in range(40):
        y = rng.standard_normal(10)[groups] + rng.standard_normal(200)
        model = RandomInterceptRegressor().fit(None, y, groups)
        display = DiagnosticsDisplay.from_estimator(model, None, y, groups, level=0.9)
        lower, upper = band_of(display)
        ordered = display.quantiles_.get_ydata()
        inside.append(((ordered > lower) & (ordered < upper)).mean())
        plt.close("all")
    # Better than 90%, because the standard deviation is that of the sample: here about 95%.
    assert 0.9 < np.mean(inside) < 0.99


def band_of(display):
    """Return the ends of the band at each normal quantile."""
    normal = display.quantiles_.get_xdata()
    edges = display.band_.get_paths()[0].vertices
    lower, upper = [], []
    for x in normal:
        ends = edges[np.isclose(edges[:, 0], x, rtol=0, atol=1e-9), 1]
        lower.append(ends.min())
        upper.append(ends.max())
    return np.array(lower), np.array(upper)


def test_the_title_has_the_test_of_equal_variances(sleep):
    model, X, y, subject = sleep
    display = DiagnosticsDisplay.from_estimator(model, X, y, subject)
    pd.testing.assert_series_equal(display.variance_test, inference.residual_variance_test(model, X, y, subject))
    assert title(display.axes_[1, 0]).endswith("spread differs between groups: F(17, 162) = 2.80, p < 0.001")
    equal = simulated()
    test = inference.residual_variance_test(*equal)
    assert test["p_value"] > 0.05
    words = f"no sign that groups differ: F(29, 870) = {test['F']:.3f}, p = {test['p_value']:.3f}"
    assert title(DiagnosticsDisplay.from_estimator(*equal).axes_[1, 0]).endswith(words)


def test_the_bars_are_the_variance_inflation(assert_legible):
    model, X, y, groups = simulated()
    rng = np.random.default_rng(1)
    X = X.assign(near=X["x0"] + 0.4 * rng.standard_normal(900), nearer=X["x1"] + 0.2 * rng.standard_normal(900))
    X["same"] = 2.0 * X["x2"]
    with pytest.warns(UserWarning, match="redundant"):
        model.fit(X, y, groups)
    display = DiagnosticsDisplay.from_estimator(model, X, y, groups)
    vif = inference.variance_inflation(model)
    ends = np.array([bar.get_x() + bar.get_width() for bar in display.bars_])
    np.testing.assert_allclose(ends[:5], vif[:5])
    panel = display.axes_[1, 1]
    assert [text.get_text() for text in panel.get_yticklabels()] == list(X.columns)
    assert [text.get_text() for text in panel.texts] == [*(f"{value:.1f}" for value in vif[:5]), "dropped"]
    colors = [mpl.colors.to_hex(bar.get_facecolor()).upper() for bar in display.bars_]
    named = {"x0": "#E69F00", "x1": "#D55E00", "x2": "#0072B2"}
    assert [colors[list(X.columns).index(name)] for name in named] == list(named.values())
    marks = sorted(line.get_xdata()[0] for line in panel.lines)
    assert marks == [5.0, 10.0]
    assert title(panel) == "Collinearity: bars should stay below 5"
    assert_legible(display.figure_)


def test_of_many_predictors_the_largest_bars_are_drawn(assert_legible):
    model, X, y, groups = simulated(n_columns=30)
    display = DiagnosticsDisplay.from_estimator(model, X, y, groups)
    vif = inference.variance_inflation(model)
    shown = [text.get_text() for text in display.axes_[1, 1].get_yticklabels()]
    assert shown == [name for name in X.columns if name in vif.nlargest(12).index]
    assert display.axes_[1, 1].get_xlabel() == "variance inflation, 12 largest of 30"
    assert_legible(display.figure_)


def test_long_names_are_shortened_and_told_apart():
    r = np.random.RandomState(5)
    X = pd.DataFrame(r.randn(60, 3), columns=["poly(time, 2)1:treatdrugA", "poly(time, 2)2:treatdrugA", "plain"])
    y, groups = r.randn(60) + np.repeat(r.randn(12), 5), np.repeat(np.arange(12), 5)
    display = DiagnosticsDisplay.from_estimator(RandomInterceptRegressor().fit(X, y, groups=groups), X, y, groups)
    labels = [label.get_text() for label in display.axes_[1, 1].get_yticklabels()]
    assert len(set(labels)) == 3
    assert labels[2] == "plain"


def test_very_large_variance_inflation_is_legible(assert_legible):
    model, X, y, groups = simulated()
    X = X.assign(**{"a very long name that goes on": X["x0"] + 1e-4 * np.sin(np.arange(900))})
    display = DiagnosticsDisplay.from_estimator(model.fit(X, y, groups), X, y, groups)
    assert display.axes_[1, 1].texts[0].get_text().endswith("e+08")
    assert display.axes_[1, 1].get_yticklabels()[-1].get_text() == "a very lon…goes on"
    assert_legible(display.figure_)


def test_fewer_than_two_predictors_leave_room_for_the_random_effects(sleep):
    model, X, y, subject = sleep
    display = DiagnosticsDisplay.from_estimator(model, X, y, subject)
    assert display.bars_ is None
    table = inference.random_effects_table(model)
    np.testing.assert_allclose(
        display.effects.points_.get_ydata(), np.sort(table["effect"] / np.sqrt(table["reliability"])), atol=1e-9
    )
    assert display.effects.ax_ is display.axes_[1, 1]
    assert title(display.axes_[1, 1]) == "Random effects: points should follow the line"


# ---- many rows, and few


def test_many_rows_are_a_density_and_the_legend_says_so():
    rows = simulated(n=8_000)
    display = DiagnosticsDisplay.from_estimator(*rows)
    for density in display.rows_:
        assert isinstance(density, PolyCollection)
        assert density.get_array().sum() == 8_000
        assert density.get_array().min() >= 1
    assert legend(display.axes_[0, 0])[0] == legend(display.axes_[1, 0])[0] == "density of 8,000 rows"
    assert legend(display.axes_[0, 1])[-1] == "quantiles of 8,000 rows"
    normal, ordered = display.quantiles_.get_data()
    assert len(normal) < 600
    ranks = np.round(stats.norm.cdf(normal) * 8_000 + 0.5).astype(int)
    np.testing.assert_allclose(ordered, np.sort(display.residuals)[ranks - 1])
    assert {*range(1, 101), *range(7_901, 8_001)} <= {*ranks}
    assert np.diff(normal).max() < 0.5
    points = DiagnosticsDisplay.from_estimator(*rows, max_points=8_000)
    assert legend(points.axes_[0, 0])[0] == "8,000 rows"
    assert len(points.rows_[0].get_offsets()) == len(points.quantiles_.get_xdata()) == 8_000
    again = points.plot(max_points=100)
    assert isinstance(again.rows_[0], PolyCollection)


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("which", ["20 rows", "one predictor", "two groups", "many rows", "null", "no effects"])
def test_nothing_is_cut_off_and_no_text_lies_over_other_text(sleep, which, style, assert_legible):
    rows = {
        "20 rows": lambda: simulated(20, 4),
        "one predictor": lambda: sleep,
        "two groups": lambda: simulated(60, 2),
        "many rows": lambda: simulated(30_000, 5_000, spread=0.5),
    }
    if which in ("null", "no effects"):
        data = make_schools(100, 6_000, random_state=0, as_frame=True).frame
        y = data["math"] if which == "null" else np.tile(np.sin(np.arange(60)), 100)
        groups = data["school"] if which == "null" else np.repeat(range(100), 60)
        arguments = RandomInterceptRegressor().fit(None, y, groups), None, y, groups
    else:
        arguments = rows[which]()
    with mpl.style.context(style):
        display = DiagnosticsDisplay.from_estimator(*arguments)
        assert_legible(display.figure_)
        for panel in display.axes_.flat:
            assert mpl.colors.same_color(panel._left_title.get_color(), mpl.rcParams["text.color"])
    if which == "no effects":
        assert arguments[0].boundary_ == "group"
        assert display.expected_slope == 0.0
        assert display.trends_[0].get_marker() == "o"


def test_densities_stand_out_from_a_dark_background_and_a_light_one():
    rows = simulated(n=8_000)
    for style, brightest_is_most in (("default", False), ("dark_background", True)):
        with mpl.style.context(style):
            density = DiagnosticsDisplay.from_estimator(*rows).rows_[0]
            low, high = (np.mean(density.cmap(value)[:3]) for value in (0.0, 1.0))
            assert (high > low) == brightest_is_most


def test_incomplete_rows_of_a_formula_are_left_out():
    frame = load_sleepstudy(as_frame=True).frame.astype({"reaction": float, "days": float})
    frame.loc[[3, 40], "reaction"] = np.nan
    frame.loc[7, "days"] = np.nan
    model = lmer("reaction ~ days + (1 | subject)", frame)
    shown, complete = (DiagnosticsDisplay.from_estimator(model, rows) for rows in (frame, frame.dropna()))
    assert np.isnan(shown.residuals).sum() == 3
    known = ~np.isnan(shown.residuals)
    np.testing.assert_allclose(shown.residuals[known], complete.residuals, rtol=1e-12)
    np.testing.assert_allclose(shown.fitted[known], complete.fitted, rtol=1e-12)
    assert shown.expected_slope == pytest.approx(complete.expected_slope, rel=1e-9)


def test_rows_of_new_groups_are_left_out(sleep):
    _, X, y, subject = sleep
    known = subject < 370
    model = RandomInterceptRegressor(new_groups="nan").fit(X[known], y[known], subject[known])
    display = DiagnosticsDisplay.from_estimator(model, X, y, subject)
    assert legend(display.axes_[0, 0])[0] == f"{known.sum()} of 180 rows"
    assert len(display.rows_[0].get_offsets()) == known.sum()
    with pytest.raises(ValueError, match="No row has a residual"):
        DiagnosticsDisplay.from_estimator(model, X[~known], y[~known], subject[~known])


def test_too_few_groups_for_the_test_are_said_to_be():
    model, X, y, groups = simulated()
    one = groups == 0
    display = DiagnosticsDisplay.from_estimator(model, X[one], y[one], groups[one])
    assert display.variance_test is None
    assert title(display.axes_[1, 0]).endswith("not tested: fewer than two groups have three rows")
    display.variance_test = pd.Series({"F": np.nan, "df1": 1.0, "df2": 2.0, "p_value": np.nan})
    assert title(display.plot().axes_[1, 0]).endswith("not tested: the residuals do not vary")


# ---- arguments


def test_precisions_scale_the_residuals():
    model, X, y, groups = simulated()
    weights = np.random.default_rng(0).uniform(0.2, 5.0, len(y))
    weights[:3] = 0.0
    precise = RandomInterceptRegressor(weight_type="precision").fit(X, y, groups, weights)
    display = DiagnosticsDisplay.from_estimator(precise, X, y, groups, sample_weight=weights)
    rows = slice(3, None)
    expected = inference.residuals(precise, X[rows], y[rows], groups[rows], scaled=True, sample_weight=weights[rows])
    np.testing.assert_allclose(display.residuals[rows], expected)
    assert np.isnan(display.residuals[:3]).all()
    assert display.variance_test["df2"] == 897 - 30
    copies = DiagnosticsDisplay.from_estimator(model, X, y, groups, sample_weight=weights)
    np.testing.assert_allclose(copies.residuals, inference.residuals(model, X, y, groups, scaled=True))


def test_pipelines_and_searches_are_taken_as_they_are():
    plain, X, y, groups = simulated()
    model = make_pipeline(StandardScaler(), RandomInterceptRegressor(group_feature=-1))
    frame = X.assign(school=groups)
    scaler = StandardScaler().set_output(transform="pandas")
    from sklearn.compose import ColumnTransformer

    columns = ColumnTransformer([("x", scaler, list(X.columns))], remainder="passthrough", verbose_feature_names_out=False)
    model = make_pipeline(columns.set_output(transform="pandas"), RandomInterceptRegressor(group_feature="school"))
    search = GridSearchCV(model, {"randominterceptregressor__method": ["reml"]}, cv=GroupKFold(3), scoring="r2")
    search.fit(frame, y, groups=groups)
    expected = DiagnosticsDisplay.from_estimator(plain, X, y, groups)
    for each in (model.fit(frame, y), search):
        display = DiagnosticsDisplay.from_estimator(each, frame, y)
        np.testing.assert_allclose(display.residuals, expected.residuals, rtol=1e-8, atol=1e-10)
        pd.testing.assert_series_equal(display.variance_inflation, expected.variance_inflation)
        assert title(display.axes_[1, 0]) == title(expected.axes_[1, 0])


def test_it_draws_into_axes_that_are_given(sleep):
    model, X, y, subject = sleep
    figure, (left, right) = plt.subplots(1, 2)
    display = DiagnosticsDisplay.from_estimator(model, X, y, subject, ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert display.axes_.shape == (2, 2)
    assert plt.get_fignums() == [figure.number]
    assert display.plot() is display
    with pytest.raises(ValueError, match="ax must come from subplots"):
        display.plot(figure.add_axes((0, 0, 1, 1)))


def test_artists_take_options(sleep):
    model, X, y, subject = sleep
    options = {"scatter_kwargs": {"s": 3, "c": "black"}, "line_kwargs": {"lw": 7, "c": "green"}}
    display = DiagnosticsDisplay.from_estimator(model, X, y, subject, **options)
    assert display.rows_[0].get_sizes().tolist() == [3]
    assert (display.trends_[1].get_linewidth(), display.trends_[1].get_color()) == (7, "green")


def test_names_are_shown_as_they_are(assert_legible):
    model, X, y, groups = simulated()
    X = X.set_axis(["_under", "$5 to $10", "x_{$"], axis=1)
    y = y.rename("$y_{")
    display = DiagnosticsDisplay.from_estimator(model.fit(X, y, groups), X, y, groups)
    assert_legible(display.figure_)
    shown = [text.get_text().strip().replace(r"\$", "$") for text in display.axes_[1, 1].get_yticklabels()]
    assert shown == list(X.columns)
    assert display.axes_[0, 0].get_xlabel() == r"fitted \$y_{"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 95}, "level must be between 0 and 1"),
        ({"max_points": -1}, "max_points must be a whole number, at least 0; found -1"),
        ({"max_points": True}, "max_points must be a whole number"),
        ({"sample_weight": "w"}, "sample_weight must hold one number per row; found the string"),
    ],
)
def test_bad_options_are_refused_before_anything_is_drawn(sleep, options, message):
    model, X, y, subject = sleep
    with pytest.raises(ValueError, match=message):
        DiagnosticsDisplay.from_estimator(model, X, y, subject, **options)
    assert not plt.get_fignums()


def test_models_that_cannot_be_diagnosed_are_refused(sleep):
    _, X, y, subject = sleep
    with pytest.raises(TypeError, match="found LinearRegression"):
        DiagnosticsDisplay.from_estimator(LinearRegression().fit(X, y), X, y, subject)
    exact = RandomInterceptRegressor().fit(None, np.sin(subject), subject)
    with pytest.raises(ValueError, match="no residual"):
        DiagnosticsDisplay.from_estimator(exact, None, np.sin(subject), subject)


def test_without_matplotlib_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from sklearn_mlm import RandomInterceptRegressor, display\n"
        "y, groups = [1.0, 2.0, 4.0, 5.5], [1, 1, 2, 2]\n"
        "model = RandomInterceptRegressor().fit(None, y, groups=groups)\n"
        "try:\n    display.DiagnosticsDisplay.from_estimator(model, None, y, groups)\nexcept ImportError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "DiagnosticsDisplay needs matplotlib: pip install 'sklearn-mlm[plot]'."
