"""The displays of the random intercept model, drawn of a model with random slopes, or refused with the name of another."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklearn_mlm import MixedEffectsRegressor, RandomInterceptRegressor
from sklearn_mlm.display import (
    DiagnosticsDisplay,
    FittedLineDisplay,
    RandomEffectsDisplay,
    ShrinkageDisplay,
    VarianceDisplay,
)
from sklearn_mlm.inference import predict_interval, random_effects_table, residuals

mpl.use("Agg")
import matplotlib.pyplot as plt


def simulated(n_groups=4_000, size=4, seed=0):
    """A model whose effects are shrunk much, and its rows."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), size)
    x = rng.uniform(0, 3, (n_groups * size, 1))
    effects = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.2], [0.2, 0.4]], n_groups)
    y = effects[groups, 0] + (1.0 + effects[groups, 1]) * x[:, 0] + 1.5 * rng.standard_normal(len(groups))
    return MixedEffectsRegressor(random_effects="(1 + x0 | group)").fit(x, y, groups=groups), x, y, groups


@pytest.fixture(scope="module")
def without_slopes():
    """A model whose slopes have an estimated variance of 0, and its rows."""
    groups, x = np.repeat(np.arange(30), 6), np.tile([0.0, 0.0, 1.0, 1.0, 2.0, 2.0], 30)[:, None]
    y = 2.0 * np.random.default_rng(0).standard_normal(30)[groups] + np.tile([3.0, -3.0], 90)
    model = MixedEffectsRegressor(random_effects="(1 + x0 || group)").fit(x, y, groups)
    assert model.variance_components_["group x0"] == 0
    return model, x, y, groups


# ---- random effects


def test_each_coefficient_has_a_caterpillar_with_its_conditional_sd(sleep_slopes):
    model, *_ = sleep_slopes
    display = RandomEffectsDisplay.from_estimator(model, kind="caterpillar", level=0.8)
    assert list(display.panels_) == ["(Intercept)", "days"]
    units = ("deviation of the intercept (EB estimate), in reaction",
             "deviation of the slope of days (EB estimate), in reaction per unit of days")  # fmt: skip
    sd = np.sqrt(model.fit_.conditional_covariances.diagonal(axis1=1, axis2=2))
    for at, (panel, unit) in enumerate(zip(display.panels_.values(), units, strict=True)):
        effects = model.random_effects_.iloc[:, at]
        order = np.argsort(effects)
        np.testing.assert_allclose(panel.points_.get_xdata(), effects.iloc[order])
        half = stats.norm.ppf(0.9) * sd[order, at]
        ends = np.array(panel.intervals_.get_segments())[:, :, 0]
        np.testing.assert_allclose(ends, np.column_stack([effects.iloc[order] - half, effects.iloc[order] + half]))
        assert [text.get_text() for text in panel.ax_.get_yticklabels()] == [str(label) for label in effects.index[order]]
        assert " ".join(panel.ax_.get_xlabel().split()) == unit
        apart = (np.abs(effects) > stats.norm.ppf(0.9) * sd[:, at]).sum()
        assert panel.ax_.get_title(loc="left") == f"{apart} of 18 intervals (80%) exclude 0 (orange)"
    pd.testing.assert_frame_equal(display.table, random_effects_table(model, level=0.8))


def test_one_coefficient_may_be_chosen(sleep_slopes):
    model, *_ = sleep_slopes
    display = RandomEffectsDisplay.from_estimator(model, kind="caterpillar", coefficient="days", scale="absolute")
    assert display.panels_ == {}
    np.testing.assert_allclose(display.points_.get_xdata(), model.coef_[0] + model.random_effects_["days"].sort_values())
    assert display.line_.get_xdata()[0] == model.coef_[0]
    assert display.ax_.get_xlabel().replace("\n", " ") == "slope of days (EB estimate), in reaction per unit of days"
    assert display.ax_.get_ylabel() == "subject"
    with pytest.raises(ValueError, match=r"coefficient must be one of '\(Intercept\)', 'days'; found 'hours'"):
        RandomEffectsDisplay.from_estimator(model, coefficient="hours")
    intercepts = RandomInterceptRegressor().fit(*sleep_slopes[1:])
    with pytest.raises(ValueError, match=r"coefficient must be one of '\(Intercept\)'; found 'days'"):
        RandomEffectsDisplay.from_estimator(intercepts, coefficient="days")


def test_a_single_random_coefficient_needs_no_panels(sleep_slopes):
    _, X, y, subject = sleep_slopes
    mixed = MixedEffectsRegressor(random_effects="(1 | subject)").fit(X, y, groups=subject)
    plain = RandomInterceptRegressor().fit(X, y, groups=subject)
    one, two = (RandomEffectsDisplay.from_estimator(model, kind="caterpillar") for model in (mixed, plain))
    np.testing.assert_allclose(one.points_.get_xdata(), two.points_.get_xdata(), rtol=1e-6)
    assert one.ax_.get_xlabel() == two.ax_.get_xlabel() == "deviation of each subject in reaction (EB estimate)"
    slope = MixedEffectsRegressor(random_effects="(0 + days | subject)").fit(X, y, groups=subject)
    assert RandomEffectsDisplay.from_estimator(slope).panels_ == {}


@pytest.mark.parametrize("kind", ["hist", "qq"])
def test_the_other_kinds_have_the_sd_of_each_coefficient(sleep_slopes, kind):
    model, *_ = sleep_slopes
    display = RandomEffectsDisplay.from_estimator(model, kind=kind)
    for name, panel in display.panels_.items():
        tau = np.sqrt(model.variance_components_[f"subject {name}"])
        x, y = panel.line_.get_data()
        if kind == "hist":
            np.testing.assert_allclose(y / y.max(), stats.norm.pdf(x / tau) / stats.norm.pdf(x / tau).max())
        else:
            np.testing.assert_allclose(y / x, tau)


def test_quantiles_of_each_coefficient_follow_the_line():
    model, *_ = simulated()
    for name, panel in RandomEffectsDisplay.from_estimator(model, kind="qq").panels_.items():
        normal, shown = panel.points_.get_data()
        slope = np.polyfit(normal, shown, 1)[0]
        np.testing.assert_allclose(slope, np.sqrt(model.variance_components_[f"group {name}"]), rtol=0.03)


def test_labels_and_names_of_any_kind_are_shown(sleep_slopes):
    _, X, y, subject = sleep_slopes
    X, labels = X.rename(columns={"days": "$d_{"}), pd.Series([("s", int(label)) for label in subject])
    model = MixedEffectsRegressor(random_effects="(1 + `$d_{` | who)").fit(X, y, labels)
    for kind in ("hist", "caterpillar", "qq"):
        display = RandomEffectsDisplay.from_estimator(model, kind=kind)
        display.figure_.canvas.draw()
    assert display.panels_["$d_{"].ax_.get_ylabel().startswith(r"deviation of the slope of \$d_{")
    caterpillar = RandomEffectsDisplay.from_estimator(model, kind="caterpillar", extremes=2)
    panel = caterpillar.panels_["(Intercept)"]
    assert len(panel.ax_.get_yticks()) == 4
    assert panel.ax_.get_ylabel() == "who"


def test_coefficients_without_variance_are_drawn(singular, without_slopes):
    for model in (singular[0], without_slopes[0]):
        for kind in ("hist", "caterpillar", "qq"):
            display = RandomEffectsDisplay.from_estimator(model, kind=kind)
            display.figure_.canvas.draw()
    assert not display.panels_["x0"].points_.get_ydata().any()


def test_the_panels_divide_axes_that_are_given(sleep_slopes):
    model, *_ = sleep_slopes
    figure, (left, right) = plt.subplots(1, 2)
    display = RandomEffectsDisplay.from_estimator(model, kind="caterpillar", ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(ValueError, match="ax must come from subplots"):
        display.plot(figure.add_axes((0, 0, 1, 1)))
    assert display.plot() is display


@pytest.mark.parametrize("kind", ["hist", "caterpillar", "qq"])
@pytest.mark.parametrize("terms", ["(1 + x0 | g)", "(1 + x0 + x1 || g)", "(1 + x0 + x1 + x2 || g)"])
def test_panels_are_legible(kind, terms, assert_legible):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 8)
    x = rng.standard_normal((240, 3))
    y = rng.standard_normal(30)[groups] + (rng.standard_normal((30, 3))[groups] * x).sum(axis=1) + rng.standard_normal(240)
    model = MixedEffectsRegressor(random_effects=terms).fit(x, pd.Series(y, name="score"), groups)
    for scale in ("deviation", "absolute"):
        assert_legible(RandomEffectsDisplay.from_estimator(model, kind=kind, scale=scale).figure_)


# ---- the fitted line


def test_the_band_of_a_group_is_that_of_its_mean(pupils):
    model, X, y, school = pupils
    display = FittedLineDisplay.from_estimator(model, X, "ses", y=y, groups=school, show_groups=["s00", "s20"], n_points=9)
    grid = pd.DataFrame({"ses": list(display.values), "age": X["age"].mean()})
    pd.testing.assert_frame_equal(display.population, predict_interval(model, grid, kind="population_mean"))
    for label in ("s00", "s20"):
        expected = predict_interval(model, grid, [label] * 9, kind="group_mean")
        pd.testing.assert_frame_equal(display.groups[label], expected)
    # The line of a group is not parallel to the population's, and its band is wider where its rows are not.
    gap = display.groups["s20"]["prediction"] - display.population["prediction"]
    assert np.ptp(gap) > 0.1
    assert len(display.scatter_[2].get_offsets()) == (school == "s20").sum()
    frame = pd.DataFrame({"other": 1.0, "school": school})
    again = FittedLineDisplay.from_estimator(model, X, "ses", y=y, groups=frame, show_groups=["s00", "s20"], n_points=9)
    np.testing.assert_allclose(again.scatter_[2].get_offsets(), display.scatter_[2].get_offsets())
    assert again.group_name == "school"


def test_a_number_of_groups_is_spread_by_their_level_at_the_mean_of_the_predictors(sleep_slopes):
    model, X, _, _ = sleep_slopes
    level = model.random_effects_["(Intercept)"] + 4.5 * model.random_effects_["days"]
    order = list(level.sort_values(ascending=False).index)
    assert list(FittedLineDisplay.from_estimator(model, X, "days", show_groups=2).groups) == [order[0], order[-1]]
    assert list(FittedLineDisplay.from_estimator(model, X, "days", show_groups=1).groups) == [order[8]]


def test_a_line_along_x_needs_all_columns_in_x(pupils_by_hours):
    model, X, y, frame = pupils_by_hours
    with pytest.raises(ValueError, match="random coefficients of 'hours', which fit found in groups and not in X"):
        FittedLineDisplay.from_estimator(model, X, "ses")
    # What needs no line is drawn.
    assert list(RandomEffectsDisplay.from_estimator(model).panels_) == ["(Intercept)", "hours"]
    display = DiagnosticsDisplay.from_estimator(model, X, y, frame)
    assert len(display.residuals) == len(y)


# ---- diagnostics


def test_residuals_are_those_of_the_model_and_effects_are_in_standard_deviations(sleep_slopes, assert_legible):
    model, X, y, subject = sleep_slopes
    display = DiagnosticsDisplay.from_estimator(model, X, y, subject)
    np.testing.assert_allclose(display.residuals, residuals(model, X, y, subject, scaled=True))
    np.testing.assert_allclose(display.fitted, model.predict(X, subject))
    panel = display.axes_[1, 1]
    points = {line.get_label(): line for line in panel.lines if line.get_linestyle() == "None"}
    assert list(points) == ["(Intercept)", "days"]
    assert len({line.get_marker() for line in points.values()}) == 2
    for name, line in points.items():
        table = display.effects.table.xs(name, level="coefficient")
        tau = np.sqrt(model.variance_components_[f"subject {name}"])
        np.testing.assert_allclose(line.get_ydata(), np.sort(table["effect"] / np.sqrt(table["reliability"]) / tau))
    assert panel.get_title(loc="left") == "Random effects: points should follow the line"
    assert panel.get_xlabel() == "normal quantile, 18 groups (subject)"
    assert_legible(display.figure_)


def test_the_expected_trend_is_what_shrinkage_leaves_in_the_residuals():
    model, x, y, groups = simulated(20_000)
    display = DiagnosticsDisplay.from_estimator(model, x, y, groups)
    slope = np.polyfit(display.fitted, display.residuals, 1)[0]
    assert slope > 0.1
    np.testing.assert_allclose(display.expected_slope, slope, rtol=0.02)


def test_the_expected_trend_is_that_of_the_random_intercept_model(pupils):
    _, X, y, school = pupils
    mixed = MixedEffectsRegressor(random_effects="(1 | school)").fit(X, y, school)
    plain = RandomInterceptRegressor().fit(X, y, school)
    one, two = (DiagnosticsDisplay.from_estimator(model, X, y, school).expected_slope for model in (mixed, plain))
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_a_coefficient_without_variance_has_no_quantiles(without_slopes, assert_legible):
    model, x, y, groups = without_slopes
    display = DiagnosticsDisplay.from_estimator(model, x, y, groups)
    labels = [text.get_text() for text in display.axes_[1, 1].get_legend().get_texts()]
    assert labels == ["95% of normal samples, point by point", "normal, SD 1", "(Intercept)"]
    assert_legible(display.figure_)


# ---- displays of the random intercept model alone


def test_other_displays_name_what_to_use(sleep_slopes):
    model, *_ = sleep_slopes
    with pytest.raises(TypeError, match=r"with .*RandomCoefficientsDisplay and GroupLinesDisplay"):
        ShrinkageDisplay.from_estimator(model)
    with pytest.raises(TypeError, match=r"found MixedEffectsRegressor with .*VarianceFunctionDisplay"):
        VarianceDisplay.from_estimator(model)
    assert not plt.get_fignums()
