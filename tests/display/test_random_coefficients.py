"""Random coefficients against each other: the estimates, least squares in each group, the regions, and what is refused."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mlm import MixedEffectsRegressor, RandomInterceptRegressor
from sklearn_mlm.display import RandomCoefficientsDisplay

mpl.use("Agg")
import matplotlib.pyplot as plt


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def own_by_rows(Z, left):
    """Least squares in a group by its rows; NaN if they do not determine the coefficients."""
    if np.linalg.matrix_rank(Z) < Z.shape[1]:
        return np.full(Z.shape[1], np.nan)
    return np.linalg.lstsq(Z, left, rcond=None)[0]


# ---- points and arrows


@pytest.mark.parametrize("scale", ["deviation", "absolute"])
def test_points_are_the_estimates_and_arrows_come_from_least_squares(sleep_slopes, scale):
    model, X, y, subject = sleep_slopes
    display = RandomCoefficientsDisplay.from_estimator(model, scale=scale)
    fixed = np.array([model.intercept_, model.coef_[0]])
    center = fixed if scale == "absolute" else np.zeros(2)
    np.testing.assert_allclose(display.scatter_.get_offsets(), model.random_effects_ + center)
    lines = [np.polyfit(X["days"][subject == label], y[subject == label], 1)[::-1] for label in model.groups_]
    np.testing.assert_allclose(display.own, lines - fixed, atol=1e-9)
    np.testing.assert_allclose(display.own_.get_offsets(), lines - fixed + center)
    tips = np.column_stack([display.arrows_.X + display.arrows_.U, display.arrows_.Y + display.arrows_.V])
    np.testing.assert_allclose(tips, model.random_effects_ + center)
    prefix = "" if scale == "absolute" else "deviation of the "
    assert display.ax_.get_xlabel() == f"{prefix}intercept, in reaction"
    assert display.ax_.get_ylabel().replace("\n", " ") == f"{prefix}slope of days, in reaction per unit of days"
    assert legend(display)[:2] == ["EB estimates: 18 groups (subject)", "least squares, groups alone: 18"]


def test_coefficients_that_do_not_vary_keep_their_fixed_effects(pupils):
    model, X, y, school = pupils
    display = RandomCoefficientsDisplay.from_estimator(model)
    left = y - model.predict(X, "population")
    Z = np.column_stack([np.ones(len(y)), X["ses"]])
    expected = [own_by_rows(Z[school == label], left[school == label]) for label in model.groups_]
    np.testing.assert_allclose(display.own, expected, atol=1e-9)
    # Of two single rows and a group of equal x there is no line.
    assert np.isnan(display.own.iloc[:3]).all(axis=None)
    assert np.isfinite(display.own.iloc[3:]).all(axis=None)
    assert legend(display)[1].startswith("least squares, groups alone: 37 of 40")
    assert len(display.scatter_.get_offsets()) == 40


@pytest.mark.parametrize(
    "random_effects",
    ["(0 + ses + age | school)", "(1 + ses + age || school)", "(1 | school) + (0 + ses + age | school)"],
)
def test_any_two_coefficients_may_be_shown(pupils, random_effects):
    _, X, y, school = pupils
    model = MixedEffectsRegressor(random_effects=random_effects).fit(X, y, school)
    display = RandomCoefficientsDisplay.from_estimator(model, coefficients=("age", "ses"), scale="absolute")
    assert list(display.estimates.columns) == ["age", "ses"]
    np.testing.assert_allclose(display.estimates, model.random_effects_[["age", "ses"]])
    np.testing.assert_allclose(display.covariance, model.covariance_["school"].loc[["age", "ses"], ["age", "ses"]])
    assert display.fixed_effects == (model.coef_[1], model.coef_[0])
    left = y - model.predict(X, "population")
    Z = np.column_stack([X["ses"], X["age"], *([np.ones(len(y))] if "1" in random_effects else [])])
    expected = [own_by_rows(Z[school == label], left[school == label])[[1, 0]] for label in model.groups_]
    np.testing.assert_allclose(display.own, expected, atol=1e-7)
    assert display.ax_.get_xlabel() == "slope of age, in math per unit of age"


def test_weights_count_in_least_squares(pupils):
    _, X, y, school = pupils
    weights = np.random.default_rng(1).integers(1, 4, len(y))
    copies = np.repeat(np.arange(len(y)), weights)
    model = MixedEffectsRegressor(random_effects="(1 + ses | school)")
    weighted = RandomCoefficientsDisplay.from_estimator(model.fit(X, y, school, sample_weight=weights)).own
    again = RandomCoefficientsDisplay.from_estimator(model.fit(X.iloc[copies], y.iloc[copies], school.iloc[copies])).own
    np.testing.assert_allclose(weighted, again, atol=1e-6)


def test_data_far_from_zero_cost_few_digits(sleep_slopes):
    model, X, y, subject = sleep_slopes
    plain = RandomCoefficientsDisplay.from_estimator(model).own["days"]
    far = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X + 1e6, y + 1e6, subject)
    np.testing.assert_allclose(RandomCoefficientsDisplay.from_estimator(far).own["days"], plain, atol=1e-5)


def test_almost_exact_predictors_leave_least_squares_exact():
    # The record of such rows holds what the predictors leave of y.
    rng = np.random.default_rng(0)
    groups = np.repeat(range(12), 8)
    x = rng.standard_normal((96, 2))
    left = 1e-5 * (rng.standard_normal((12, 2))[groups] * np.column_stack([np.ones(96), x[:, 0]])).sum(axis=1)
    y = 1e3 * x[:, 1] + left + 1e-6 * rng.standard_normal(96)
    model = MixedEffectsRegressor(random_effects="(1 + x0 | group)").fit(x, y, groups)
    rest = (y - model.intercept_) - x @ model.coef_
    Z = np.column_stack([np.ones(96), x[:, 0]])
    expected = [own_by_rows(Z[groups == label], rest[groups == label]) for label in range(12)]
    np.testing.assert_allclose(RandomCoefficientsDisplay.from_estimator(model).own, expected, atol=1e-11)


def test_arrows_are_drawn_up_to_a_hundred_groups_or_as_told():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(101), 5)
    x = rng.standard_normal((505, 1))
    y = rng.standard_normal(101)[groups] + rng.standard_normal(101)[groups] * x[:, 0] + rng.standard_normal(505)
    model = MixedEffectsRegressor(random_effects="(1 + x0 | group)").fit(x, y, groups)
    display = RandomCoefficientsDisplay.from_estimator(model)
    assert display.arrows_ is display.own_ is None
    assert legend(display) == ["EB estimates: 101 groups", "50% of groups by the model", "95% of groups by the model"]
    told = display.plot(arrows=True)
    assert len(told.arrows_.U) == len(told.own_.get_offsets())
    few = groups < 20
    model.fit(x[few], y[few], groups[few])
    assert RandomCoefficientsDisplay.from_estimator(model, arrows=False).arrows_ is None


def test_far_own_estimates_do_not_shrink_the_picture(assert_legible):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), np.r_[np.full(10, 2), np.full(30, 8)])
    x = rng.standard_normal((len(groups), 1))
    # Two rows of nearly equal x determine a line badly.
    x[1:20:2] = x[0:20:2] + 1e-3
    y = rng.standard_normal(40)[groups] + rng.standard_normal(40)[groups] * x[:, 0] + rng.standard_normal(len(groups))
    model = MixedEffectsRegressor(random_effects="(1 + x0 | group)").fit(x, y, groups)
    display = RandomCoefficientsDisplay.from_estimator(model)
    inside = len(display.own_.get_offsets())
    assert 28 <= inside < 40
    assert legend(display)[1] == f"least squares, groups alone: 40, {40 - inside} outside"
    low, high = display.ax_.get_ylim()
    assert high - low < 0.1 * np.ptp(display.own["x0"])
    for table in (display.estimates.to_numpy(), *(line.get_xydata() for line in display.regions_)):
        assert table[:, 1].min() > low
        assert table[:, 1].max() < high
    assert_legible(display.figure_)


# ---- regions


def test_regions_contain_as_many_groups_as_they_say(sleep_slopes):
    model, *_ = sleep_slopes
    display = RandomCoefficientsDisplay.from_estimator(model, regions=(0.3, 0.8, 0.95))
    assert legend(display)[-3:] == [f"{share}% of groups by the model" for share in (30, 80, 95)]
    inverse = np.linalg.inv(model.covariance_["subject"])
    for line, region in zip(display.regions_, (0.3, 0.8, 0.95), strict=True):
        edge = line.get_xydata()
        np.testing.assert_allclose(np.einsum("ia,ab,ib->i", edge, inverse, edge), stats.chi2.ppf(region, 2))
        np.testing.assert_allclose(edge[0], edge[-1])
    true = np.random.default_rng(0).multivariate_normal([0, 0], display.covariance, 100_000)
    inside = display.regions_[1].get_path().contains_points(true).mean()
    assert abs(inside - 0.8) < 0.005


def test_the_region_of_a_singular_covariance_is_a_segment(singular, assert_legible):
    model, *_ = singular
    display = RandomCoefficientsDisplay.from_estimator(model)
    sd = np.sqrt(model.covariance_["group"].to_numpy().diagonal())
    sign = np.sign(model.covariance_["group"].iloc[0, 1])
    for line, region in zip(display.regions_, (0.5, 0.95), strict=True):
        ends = line.get_xydata()
        assert len(ends) == 2
        # A single normal variable moves along it.
        expected = stats.norm.ppf((1 + region) / 2) * sd * [1, sign]
        np.testing.assert_allclose(ends[np.argsort(ends[:, 0])], [-expected, expected], rtol=1e-6)
    inner, outer = display.regions_
    assert inner.get_linewidth() > outer.get_linewidth()
    # The estimates are on it.
    np.testing.assert_allclose(display.estimates["x0"] / sd[1] * sign, display.estimates["(Intercept)"] / sd[0], atol=1e-6)
    assert_legible(display.figure_)


def test_a_coefficient_without_variance_leaves_a_segment_along_the_other_axis():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 8)
    x = rng.standard_normal((240, 1))
    y = 2.0 * rng.standard_normal(30)[groups] + x[:, 0] + np.tile([3.0, -3.0], 120)
    model = MixedEffectsRegressor(random_effects="(1 + x0 || group)").fit(x, y, groups)
    assert model.variance_components_["group x0"] == 0
    display = RandomCoefficientsDisplay.from_estimator(model)
    ends = display.regions_[1].get_xydata()
    assert not ends[:, 1].any()
    expected = stats.norm.ppf(0.975) * np.sqrt(model.variance_components_["group (Intercept)"])
    np.testing.assert_allclose(np.sort(ends[:, 0]), [-expected, expected])


def test_without_any_variance_there_is_a_point(assert_legible):
    x = np.tile(np.arange(5.0), 12)[:, None]
    y = np.tile([1.0, 3.0, 2.0, 5.0, 4.0], 12)
    y[::7] += 0.5
    groups = np.repeat(range(12), 5)
    model = MixedEffectsRegressor(random_effects="(1 + x0 | group)").fit(x, y, groups)
    assert not model.covariance_["group"].to_numpy().any()
    display = RandomCoefficientsDisplay.from_estimator(model)
    assert all(len(line.get_xydata()) == 1 for line in display.regions_)
    assert legend(display)[-1] == "no group differs by the model"
    assert_legible(display.figure_)


# ---- pipelines, axes and options


def test_a_pipeline_is_taken_as_it_is(sleep_slopes):
    plain, X, y, subject = sleep_slopes
    model = make_pipeline(StandardScaler(), MixedEffectsRegressor(random_effects="(1 + x0 | subject)"))
    model.fit(X, y, mixedeffectsregressor__groups=subject)
    display = RandomCoefficientsDisplay.from_estimator(model, scale="absolute")
    expected = RandomCoefficientsDisplay.from_estimator(plain)
    spread = X["days"].std(ddof=0)
    np.testing.assert_allclose(display.estimates["days"] / spread, expected.estimates["days"], rtol=1e-5)
    np.testing.assert_allclose(display.own["days"] / spread, expected.own["days"], rtol=1e-7)
    np.testing.assert_allclose(display.fixed_effects[1] / spread, plain.coef_[0])


def test_labels_and_names_are_shown_as_they_are(assert_legible):
    rng = np.random.default_rng(0)
    labels = [("a", i) for i in range(20)]
    groups = pd.Series([labels[i] for i in np.repeat(range(20), 6)], name="_$g")
    X = pd.DataFrame({"x_{$": rng.standard_normal(120)})
    y = pd.Series(rng.standard_normal(120) + np.repeat(rng.standard_normal(20), 6) * (1 + X["x_{$"]), name="$y_{")
    model = MixedEffectsRegressor(random_effects="(1 + `x_{$` | `_$g`)").fit(X, y, groups)
    display = RandomCoefficientsDisplay.from_estimator(model)
    assert list(display.estimates.index) == labels
    assert display.ax_.get_xlabel() == r"deviation of the intercept, in \$y_{"
    assert_legible(display.figure_)


def test_it_draws_into_axes_that_are_given_and_takes_options(sleep_slopes):
    model, *_ = sleep_slopes
    figure, (left, right) = plt.subplots(1, 2)
    display = RandomCoefficientsDisplay.from_estimator(model, ax=right, scatter_kwargs={"s": 3, "c": "green"})
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert display.scatter_.get_sizes().tolist() == [3]
    assert plt.get_fignums() == [figure.number]
    assert display.plot() is display


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("scale", ["deviation", "absolute"])
@pytest.mark.parametrize("which", ["sleep_slopes", "pupils"])
def test_nothing_is_cut_off_and_no_text_lies_over_other_text(which, scale, style, assert_legible, request):
    model, *_ = request.getfixturevalue(which)
    with mpl.style.context(style):
        display = RandomCoefficientsDisplay.from_estimator(model, scale=scale)
        assert_legible(display.figure_)
        assert mpl.colors.same_color(display.regions_[0].get_color(), mpl.rcParams["text.color"])


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coefficients": "days"}, r"coefficients must be two of '\(Intercept\)', 'days'; found 'days'"),
        ({"coefficients": ("days", "days")}, "coefficients must be two of"),
        ({"coefficients": ("days", "hours")}, "coefficients must be two of"),
        ({"scale": "raw"}, "scale must be one of"),
        ({"regions": (0.5, 95)}, r"regions must be probabilities between 0 and 1, such as \(0.5, 0.95\); found 95"),
    ],
)
def test_bad_options_are_refused_before_anything_is_drawn(sleep_slopes, options, message):
    with pytest.raises(ValueError, match=message):
        RandomCoefficientsDisplay.from_estimator(sleep_slopes[0], **options)
    assert not plt.get_fignums()


def test_models_with_a_single_coefficient_are_refused(sleep_slopes):
    _, X, y, subject = sleep_slopes
    for model in (RandomInterceptRegressor(), MixedEffectsRegressor(random_effects="(0 + days | subject)")):
        with pytest.raises(TypeError, match=r"must have two random coefficients.*RandomEffectsDisplay shows it"):
            RandomCoefficientsDisplay.from_estimator(model.fit(X, y, groups=subject))
    with pytest.raises(TypeError, match="found LinearRegression"):
        RandomCoefficientsDisplay.from_estimator(LinearRegression().fit(X, y))
