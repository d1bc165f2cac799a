"""The variance of y and the ICC against a column: that they are the model's, where the least is, and what is refused."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from sklearn_mlm import MixedEffectsRegressor, RandomInterceptRegressor
from sklearn_mlm.display import VarianceFunctionDisplay
from sklearn_mlm.inference import icc

mpl.use("Agg")
import matplotlib.pyplot as plt


def legend(display):
    return [text.get_text() for text in display.axes_[0].get_legend().get_texts()]


def test_the_curves_are_those_of_the_covariance(pupils):
    model, X, _, _ = pupils
    display = VarianceFunctionDisplay.from_estimator(model, X, "ses", n_points=7)
    x = np.linspace(X["ses"].min(), X["ses"].max(), 7)
    sigma = model.covariance_["school"].to_numpy()
    z = np.column_stack([np.ones(7), x])
    between = np.einsum("ia,ab,ib->i", z, sigma, z)
    sigma2 = model.variance_components_["residual"]
    for line, expected in zip(display.lines_, (between, between + sigma2, between / (between + sigma2)), strict=True):
        np.testing.assert_allclose(line.get_xdata(), x)
        np.testing.assert_allclose(line.get_ydata(), expected)
    rows = pd.DataFrame({"ses": x, "age": X["age"].mean()})
    np.testing.assert_allclose(display.icc, icc(model, X=rows))
    assert display.held == f"age = {X['age'].mean():.1f}"
    assert display.axes_[0].get_title(loc="left") == f"at {display.held}"
    assert legend(display)[:3] == ["variance of math", f"within groups: σ² = {sigma2:.3f}", "between groups (school)"]
    assert [panel.get_xlabel() for panel in display.axes_] == ["ses", "ses"]
    assert display.axes_[0].get_ylabel() == "variance, in units of math squared"


def test_the_mark_is_where_the_lines_of_the_groups_are_closest(pupils, sleep_slopes):
    model, X, _, _ = pupils
    display = VarianceFunctionDisplay.from_estimator(model, X, "ses", n_points=11)
    sigma = model.covariance_["school"].to_numpy()
    at = -sigma[0, 1] / sigma[1, 1]
    assert X["ses"].min() < at < X["ses"].max()
    # A parabola is exact between the points.
    np.testing.assert_allclose(display.least, [at, sigma[0, 0] - sigma[0, 1] ** 2 / sigma[1, 1]], rtol=1e-9)
    assert (display.mark_.get_xdata()[0], display.mark_.get_ydata()[0]) == display.least
    days, X, _, _ = sleep_slopes
    end = VarianceFunctionDisplay.from_estimator(days, X, "days")
    np.testing.assert_allclose(end.least, [0.0, days.variance_components_["subject (Intercept)"]])
    assert legend(end)[-1] == "least between groups: 612 at days = 0.00"


def test_a_variance_that_is_the_same_everywhere_has_no_least(pupils):
    _, X, y, groups = pupils
    intercepts = RandomInterceptRegressor().fit(X, y, groups)
    model = pupils[0]
    for each, feature in ((intercepts, "ses"), (model, "age")):
        display = VarianceFunctionDisplay.from_estimator(each, X, feature)
        assert display.least is display.mark_ is None
        np.testing.assert_allclose(display.icc, display.icc[0])
    at_mean = model.fit_.random_variance(X.mean().to_numpy()[None], 1)
    np.testing.assert_allclose(display.group_variance, at_mean[0])


def test_other_columns_are_held_where_they_are_told(pupils):
    _, X, y, groups = pupils
    model = MixedEffectsRegressor(random_effects="(1 + ses + age || school)").fit(X, y, groups)
    display = VarianceFunctionDisplay.from_estimator(model, X, 0, at={"age": 12}, n_points=5)
    expected = icc(model, X=pd.DataFrame({"ses": np.linspace(X["ses"].min(), X["ses"].max(), 5), "age": 12}))
    np.testing.assert_allclose(display.icc, expected)


def test_steps_of_a_pipeline_bend_the_curve(sleep_slopes):
    plain, X, y, subject = sleep_slopes
    scaled = make_pipeline(StandardScaler(), MixedEffectsRegressor(random_effects="(1 + x0 | subject)"))
    scaled.fit(X, y, mixedeffectsregressor__groups=subject)
    display = VarianceFunctionDisplay.from_estimator(scaled, X, "days")
    np.testing.assert_allclose(display.icc, VarianceFunctionDisplay.from_estimator(plain, X, "days").icc, rtol=1e-6)
    square = PolynomialFeatures(2, include_bias=False).set_output(transform="pandas")
    curve = make_pipeline(square, MixedEffectsRegressor(random_effects="(1 + days + `days^2` | subject)"))
    curve.fit(X, y, mixedeffectsregressor__groups=subject)
    display = VarianceFunctionDisplay.from_estimator(curve, X, "days", n_points=10)
    z = np.arange(10.0)[:, None] ** np.arange(3)
    expected = np.einsum("ia,ab,ib->i", z, curve[-1].covariance_["subject"], z)
    np.testing.assert_allclose(display.group_variance, expected)


def test_singular_covariances_and_exact_fits_are_drawn(singular):
    model, x, _, groups = singular
    display = VarianceFunctionDisplay.from_estimator(model, x, 0)
    # Where all lines meet, the groups are alike.
    assert display.least[1] < 1e-9 * display.group_variance.max() or display.least[0] in (x.min(), x.max())
    rng = np.random.default_rng(0)
    exact = rng.standard_normal(30)[groups] + rng.standard_normal(30)[groups] * x[:, 0]
    model = MixedEffectsRegressor(random_effects="(1 + x0 | group)").fit(x, exact, groups)
    np.testing.assert_allclose(VarianceFunctionDisplay.from_estimator(model, x, 0).icc, 1.0)


def test_it_draws_into_axes_that_are_given_and_takes_options(sleep_slopes):
    model, X, _, _ = sleep_slopes
    figure, (left, right) = plt.subplots(1, 2)
    display = VarianceFunctionDisplay.from_estimator(model, X, "days", ax=right, line_kwargs={"lw": 7})
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert [line.get_linewidth() for line in display.lines_] == [7] * 3
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(ValueError, match="ax must come from subplots"):
        display.plot(figure.add_axes((0, 0, 1, 1)))
    assert display.plot() is display


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("which", ["sleep", "pupils", "constant"])
def test_nothing_is_cut_off_and_no_text_lies_over_other_text(sleep_slopes, pupils, which, style, assert_legible):
    model, X, _, _ = sleep_slopes if which == "sleep" else pupils
    feature = {"sleep": "days", "pupils": "ses", "constant": "age"}[which]
    with mpl.style.context(style):
        assert_legible(VarianceFunctionDisplay.from_estimator(model, X, feature).figure_)


@pytest.mark.parametrize(
    ("feature", "options", "message"),
    [
        ("hours", {}, "feature must name a column of X, or be its position; found 'hours'"),
        ("town", {}, "feature='town' does not hold numbers"),
        ("ses", {"n_points": 2}, "n_points must be a whole number, at least 3; found 2"),
        ("ses", {"at": {"ses": 1}}, "at must hold values of other columns"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_drawn(pupils, feature, options, message):
    model, X, _, _ = pupils
    with pytest.raises(ValueError, match=message):
        VarianceFunctionDisplay.from_estimator(model, X.assign(town=np.where(X["age"] > 12, "A", "B")), feature, **options)
    assert not plt.get_fignums()


def test_a_column_with_a_random_slope_must_be_in_x(pupils_by_hours):
    model, X, _, _ = pupils_by_hours
    with pytest.raises(ValueError, match="random coefficients of 'hours', which fit found in groups and not in X"):
        VarianceFunctionDisplay.from_estimator(model, X, "ses")
