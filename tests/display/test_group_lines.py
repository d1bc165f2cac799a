"""Lines of groups: those of the model, those of least squares in each group, the choice of groups, and what is refused."""

import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer, StandardScaler

from sklearn_mlm import MixedEffectsRegressor, RandomInterceptRegressor
from sklearn_mlm.display import GroupLinesDisplay

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection


def legend(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def title(display):
    return " ".join(display.legend_.get_title().get_text().split())


def titles(display):
    return [panel.get_title() for panel in display.axes_]


# ---- what the lines are


def test_a_panel_has_the_rows_the_group_s_two_lines_and_the_population(sleep_slopes):
    model, X, y, subject = sleep_slopes
    display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days", n_points=7)
    grid = pd.DataFrame({"days": np.linspace(0, 9, 7)})
    slopes = model.random_effects_["days"].sort_values()
    assert titles(display) == [str(label) for label in slopes.index]
    for i, label in enumerate(slopes.index):
        rows = subject == label
        np.testing.assert_allclose(display.scatter_[i].get_offsets(), np.column_stack([X[rows], y[rows]]))
        np.testing.assert_allclose(display.lines_[i].get_xdata(), grid["days"])
        np.testing.assert_allclose(display.lines_[i].get_ydata(), model.predict(grid, [label] * 7))
        own = np.polyval(np.polyfit(X["days"][rows], y[rows], 1), grid["days"])
        np.testing.assert_allclose(display.own_lines_[i].get_ydata(), own)
        np.testing.assert_allclose(display.own[label], own)
        np.testing.assert_allclose(display.population_[i].get_ydata(), model.predict(grid, "population"))
    assert legend(display) == ["rows", "least squares in the group alone", "by the model: shrunk", "population"]
    assert title(display) == "18 groups (subject), in the order of their slopes by the model"
    first, last = display.axes_[0], display.axes_[-1]
    assert (first.get_ylabel(), last.get_xlabel()) == ("reaction", "days")
    assert (first.get_xlabel(), last.get_ylabel()) == ("", "")
    assert len({panel.get_ylim() for panel in display.axes_}) == len({panel.get_xlim() for panel in display.axes_}) == 1


def test_together_the_lines_of_least_squares_are_beside_those_of_the_model(sleep_slopes):
    model, X, y, subject = sleep_slopes
    display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days", kind="together")
    assert isinstance(display.lines_, LineCollection)
    ends = pd.DataFrame({"days": [0.0, 9.0]})
    for own, line, label in zip(
        display.own_lines_.get_segments(), display.lines_.get_segments(), model.groups_, strict=True
    ):
        rows = subject == label
        np.testing.assert_allclose(own[[0, -1], 1], np.polyval(np.polyfit(X["days"][rows], y[rows], 1), [0, 9]))
        np.testing.assert_allclose(line[[0, -1], 1], model.predict(ends, [label] * 2))
    own = [np.polyfit(X["days"][subject == label], y[subject == label], 1)[0] for label in model.groups_]
    spread = np.std(own, ddof=1), model.random_effects_["days"].std()
    assert [panel.get_title(loc="left") for panel in display.axes_] == [
        f"Least squares, 18 groups alone: SD of slopes {spread[0]:.2f}",
        f"The model, 18 groups: SD of slopes {spread[1]:.2f}",
    ]
    assert display.scatter_ == []
    assert legend(display) == ["least squares in each group alone", "by the model: shrunk", "population"]
    panels = display.plot(kind="panels")
    assert len(panels.axes_) == 18


def test_the_rows_are_adjusted_to_the_values_at_which_other_columns_are_held(pupils):
    model, X, y, school = pupils
    display = GroupLinesDisplay.from_estimator(
        model, X, y, school, feature="ses", at={"age": 12}, show_groups=["s30", "s07"]
    )
    adjusted = y + model.coef_[1] * (12 - X["age"])
    grid = pd.DataFrame({"ses": list(display.values), "age": 12})
    assert list(display.lines.columns) == ["s30", "s07"]
    for i, label in enumerate(["s30", "s07"]):
        rows = school == label
        points = display.points[display.points["group"] == i]
        np.testing.assert_allclose(points["x"], X["ses"][rows])
        np.testing.assert_allclose(points["y"], adjusted[rows])
        np.testing.assert_allclose(display.lines[label], model.predict(grid, [label] * len(grid)))
        np.testing.assert_allclose(
            display.own[label], np.polyval(np.polyfit(X["ses"][rows], adjusted[rows], 1), display.values)
        )
    assert title(display).endswith("at age = 12.0; y is adjusted to that")
    assert display.n_groups == 40
    assert title(display).startswith("2 of 40 groups (school)")


def test_own_lines_end_with_the_rows_of_the_group(pupils):
    model, X, y, school = pupils
    labels = ["s10", "s20", "s30"]
    display = GroupLinesDisplay.from_estimator(model, X, y, school, feature="ses", show_groups=labels)
    for line, name in zip(display.own_lines_, titles(display), strict=True):
        x = X["ses"][school == name]
        np.testing.assert_allclose(line.get_xdata()[[0, -1]], [x.min(), x.max()])


def test_groups_of_one_row_or_of_equal_x_have_no_line_of_their_own(pupils, assert_legible):
    model, X, y, school = pupils
    labels = ["s00", "s01", "s02", "s03"]
    display = GroupLinesDisplay.from_estimator(model, X, y, school, feature="ses", show_groups=labels)
    assert np.isnan(display.own[labels[:3]]).all(axis=None)
    assert np.isfinite(display.lines).all(axis=None)
    assert len(display.lines_) == 4
    assert len(display.own_lines_) == 1
    assert_legible(display.figure_)
    none = GroupLinesDisplay.from_estimator(model, X, y, school, feature="ses", show_groups=labels[:3])
    assert none.own_lines_ == []
    assert legend(none)[1] == "least squares in the group alone"
    together = none.plot(kind="together")
    assert together.axes_[0].get_title(loc="left") == "Least squares, 0 of 3 groups alone"
    # The lines of the model are those along all values.
    assert all(len(line) == 100 for line in together.lines_.get_segments())


def test_equal_values_far_from_zero_are_equal():
    x = np.append(np.full(6, 1e8 + 0.1), np.arange(24.0))[:, None]
    rng = np.random.default_rng(0)
    y, groups = rng.standard_normal(30), np.repeat(range(5), 6)
    model = MixedEffectsRegressor(random_effects="(1 | group)").fit(x, y, groups)
    display = GroupLinesDisplay.from_estimator(model, x, y, groups, feature=0)
    assert np.isnan(display.own).all().tolist() == [True] + [False] * 4


def test_weights_count_in_least_squares(pupils):
    _, X, y, school = pupils
    weights = np.random.default_rng(1).integers(0, 4, len(y))
    weights[np.flatnonzero(school == "s10")[:2]] = 2
    copies = np.repeat(np.arange(len(y)), weights)
    model = MixedEffectsRegressor(random_effects="(1 + ses | school)").fit(X, y, school, sample_weight=weights)
    options = {"feature": "ses", "show_groups": ["s10", "s20"], "at": {"age": 12}}
    weighted = GroupLinesDisplay.from_estimator(model, X, y, school, sample_weight=weights, **options)
    rows = X.iloc[copies], y.iloc[copies], school.iloc[copies]
    again = GroupLinesDisplay.from_estimator(model, *rows, **options)
    at = [min(again.values), max(again.values)]
    for label in ("s10", "s20"):
        one, two = (np.interp(at, display.values, display.own[label]) for display in (weighted, again))
        np.testing.assert_allclose(one, two)
    assert len(weighted.points) == ((weights > 0) & school.isin(["s10", "s20"])).sum()


def test_a_random_intercept_model_has_parallel_lines_in_the_order_of_their_labels(sleep_slopes):
    _, X, y, subject = sleep_slopes
    model = RandomInterceptRegressor().fit(X, y, groups=subject)
    display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days")
    np.testing.assert_allclose(np.diff(display.lines, axis=0), model.coef_[0] * 9 / 99)
    assert titles(display) == [str(label) for label in model.groups_]


# ---- which groups


def test_many_groups_are_sampled(assert_legible):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(600), 4)
    x = rng.standard_normal((2400, 1))
    y = rng.standard_normal(600)[groups] + rng.standard_normal(600)[groups] * x[:, 0] + rng.standard_normal(2400)
    model = MixedEffectsRegressor(random_effects="(1 + x0 | g)").fit(x, y, groups)
    panels = GroupLinesDisplay.from_estimator(model, x, y, groups, feature=0)
    assert len(panels.axes_) == 12
    assert title(panels).startswith("12 of 600 groups")
    assert_legible(panels.figure_)
    together = GroupLinesDisplay.from_estimator(model, x, y, groups, feature=0, kind="together")
    assert len(together.lines_.get_segments()) == 200
    assert title(together) == "200 of 600 groups (g)"
    assert_legible(together.figure_)
    again = GroupLinesDisplay.from_estimator(model, x, y, groups, feature=0)
    assert list(again.lines) == list(panels.lines)
    other = GroupLinesDisplay.from_estimator(model, x, y, groups, feature=0, random_state=1)
    assert list(other.lines) != list(panels.lines)
    assert len(GroupLinesDisplay.from_estimator(model, x, y, groups, feature=0, show_groups=5).axes_) == 5
    few = groups < 25
    some = GroupLinesDisplay.from_estimator(model, x[few], y[few], groups[few], feature=0, show_groups=30)
    assert list(some.lines) == list(range(25))
    assert some.n_groups is None
    with pytest.raises(ValueError, match="There is room for 30 panels; found 200 groups"):
        together.plot(kind="panels")


def test_rows_of_new_groups_are_left_out(sleep_slopes):
    _, X, y, subject = sleep_slopes
    known = subject < 350
    model = MixedEffectsRegressor(random_effects="(1 + days | subject)", new_groups="error")
    model.fit(X[known], y[known], subject[known])
    display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days")
    assert list(display.lines.columns) == list(model.groups_)
    with pytest.raises(ValueError, match="No row is of a group that the model knows"):
        GroupLinesDisplay.from_estimator(model, X[~known], y[~known], subject[~known], feature="days")
    missing = y.copy()
    missing[:5] = np.nan
    assert len(GroupLinesDisplay.from_estimator(model, X, missing, subject, feature="days").points) == known.sum() - 5


def test_a_group_without_rows_may_be_shown(sleep_slopes):
    model, X, y, subject = sleep_slopes
    rows = subject != 308
    display = GroupLinesDisplay.from_estimator(
        model, X[rows], y[rows], subject[rows], feature="days", show_groups=[308, 309]
    )
    assert np.isnan(display.own[308]).all()
    np.testing.assert_allclose(display.lines[308].iloc[[0]], model.predict(X[:1], [308]))


# ---- pipelines and kinds of X


def test_steps_of_a_pipeline_make_curves_of_both_lines(sleep_slopes):
    _, X, y, subject = sleep_slopes
    square = PolynomialFeatures(2, include_bias=False).set_output(transform="pandas")
    model = make_pipeline(square, MixedEffectsRegressor(random_effects="(1 + days + `days^2` | subject)"))
    model.fit(X, y, mixedeffectsregressor__groups=subject)
    display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days", n_points=10)
    for label in (308, 335):
        rows = subject == label
        np.testing.assert_allclose(
            display.own[label], np.polyval(np.polyfit(X["days"][rows], y[rows], 2), np.arange(10.0)), rtol=1e-9
        )
        np.testing.assert_allclose(display.lines[label], model.predict(X[:10], groups=[label] * 10))
    two = X["days"] < 2
    few = GroupLinesDisplay.from_estimator(model, X[two | (subject == 308)], y[two | (subject == 308)],
                                           subject[two | (subject == 308)], feature="days")  # fmt: skip
    # Two rows determine no parabola.
    assert np.isnan(few.own).all().drop(308).all()
    assert np.isfinite(few.own[308]).all()


def test_a_basis_whose_columns_depend_on_each_other_is_no_obstacle(sleep_slopes):
    _, X, y, subject = sleep_slopes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(SplineTransformer(n_knots=2, degree=1), RandomInterceptRegressor())
        model.fit(X, y, randominterceptregressor__groups=subject)
    display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days")
    rows = subject == 308
    np.testing.assert_allclose(display.own[308], np.polyval(np.polyfit(X["days"][rows], y[rows], 1), display.values))


def test_scaled_columns_give_the_same_lines(sleep_slopes):
    plain, X, y, subject = sleep_slopes
    model = make_pipeline(StandardScaler(), MixedEffectsRegressor(random_effects="(1 + x0 | subject)"))
    model.fit(X, y, mixedeffectsregressor__groups=subject)
    one, two = (GroupLinesDisplay.from_estimator(each, X, y, subject, feature="days") for each in (plain, model))
    np.testing.assert_allclose(two.own, one.own)
    np.testing.assert_allclose(two.lines, one.lines, rtol=1e-6)


def test_a_column_that_the_model_does_not_see_has_flat_lines_and_own_ones(sleep_slopes):
    _, X, y, subject = sleep_slopes
    X = X.assign(noise=np.sin(np.arange(180)))
    model = make_pipeline(
        make_column_transformer(("passthrough", ["days"])), MixedEffectsRegressor(random_effects="(1 + x0 | subject)")
    )
    model.fit(X, y, mixedeffectsregressor__groups=subject)
    display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="noise")
    assert np.ptp(display.lines, axis=0).max() == 0
    assert np.ptp(display.own, axis=0).min() > 0


def test_every_kind_of_x_and_groups_gives_the_same_lines(pupils):
    model, X, y, school = pupils
    expected = GroupLinesDisplay.from_estimator(model, X, y, school, feature="ses", show_groups=["s10", "s20"])
    plain = MixedEffectsRegressor(random_effects="(1 + x0 | school)").fit(X.to_numpy(), y, school)
    column = X.assign(school=school)
    labelled = MixedEffectsRegressor(random_effects="(1 + ses | school)").fit(column, y)
    frame = pd.DataFrame({"other": 1.0, "school": school})
    polars = pytest.importorskip("polars")
    for each, rows, groups, feature in (
        (plain, X.to_numpy(), school.to_numpy(), 0),
        (plain, sparse.csr_array(X.to_numpy(dtype=float)), list(school), 0),
        (model, polars.DataFrame(X), school, "ses"),
        (model, X, frame, "ses"),
        (labelled, column, None, "ses"),
    ):
        display = GroupLinesDisplay.from_estimator(each, rows, y, groups, feature=feature, show_groups=["s10", "s20"])
        np.testing.assert_allclose(display.lines, expected.lines, rtol=1e-8)
        np.testing.assert_allclose(display.own, expected.own, rtol=1e-8)
        assert display.group_name == "school"


def test_labels_may_be_of_any_kind(sleep_slopes):
    _, X, y, subject = sleep_slopes
    for labels in (
        pd.Series(pd.Categorical(subject)),
        pd.Series([("s", int(label)) for label in subject]),
        pd.Series("$" + subject.astype(str) + "_{"),
    ):
        model = MixedEffectsRegressor(random_effects="(1 + days | who)").fit(X, y, labels)
        label = model.groups_[3]
        display = GroupLinesDisplay.from_estimator(model, X, y, labels, feature="days", show_groups=[label])
        assert list(display.lines.columns) == [label]
        assert len(display.points) == 10
        display.plot(kind="together").figure_.canvas.draw()
        assert title(display).endswith("(who)")


# ---- axes, options and looks


def test_it_draws_into_axes_that_are_given(sleep_slopes):
    model, X, y, subject = sleep_slopes
    figure, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(14, 6))
    display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days", show_groups=7, ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert len(display.axes_) == 7
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(ValueError, match="ax must come from subplots"):
        display.plot(figure.add_axes((0, 0, 1, 1)))
    assert display.plot() is display


def test_artists_take_options(sleep_slopes):
    model, X, y, subject = sleep_slopes
    options = {"scatter_kwargs": {"s": 3, "c": "black"}, "line_kwargs": {"lw": 7, "c": "green"}}
    display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days", **options)
    assert display.scatter_[0].get_sizes().tolist() == [3]
    assert (display.lines_[0].get_linewidth(), display.lines_[0].get_color()) == (7, "green")
    together = display.plot(kind="together", line_kwargs={"linewidths": 5})
    assert together.lines_.get_linewidth().tolist() == [5]


# Styles differ in colours, numbers of panels in where things are.
@pytest.mark.parametrize(
    ("n", "style"),
    [*((n, "default") for n in (1, 2, 3, 4, 5, 7, 12, 13, 18)), (1, "dark_background"), (7, "dark_background")],
)
def test_nothing_is_cut_off_and_no_text_lies_over_other_text(sleep_slopes, n, style, assert_legible):
    model, X, y, subject = sleep_slopes
    with mpl.style.context(style):
        display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days", show_groups=n)
        assert_legible(display.figure_)
        together = display.plot(kind="together")
        assert_legible(together.figure_)
        assert mpl.colors.same_color(together.population_[0].get_color(), mpl.rcParams["text.color"])


def test_many_held_columns_are_named_above_the_panels(assert_legible):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), 20)
    names = ["x", *(f"a rather long name {i}" for i in range(5))]
    X = pd.DataFrame(rng.standard_normal((160, 6)), columns=names)
    y = rng.standard_normal(8)[groups] * (1 + X["x"]) + rng.standard_normal(160)
    model = MixedEffectsRegressor(random_effects="(1 + x | g)").fit(X, y, groups)
    for kind in ("panels", "together"):
        display = GroupLinesDisplay.from_estimator(model, X, y, groups, feature="x", kind=kind)
        assert "a rather long name 0 = " in title(display)
        assert "and 2 more" in title(display)
        assert_legible(display.figure_)


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature": "hours"}, "feature must name a column of X, or be its position; found 'hours'"),
        ({"feature": "town"}, "feature='town' does not hold numbers"),
        ({"kind": "grid"}, "kind must be one of 'panels', 'together'; found 'grid'"),
        (
            {"show_groups": ["s00", "s99"]},
            "show_groups holds 's99', which is not a group of the model. Its groups are 's00'",
        ),
        ({"show_groups": "s00"}, "show_groups must be a list of labels, or a number of groups; found 's00'"),
        ({"show_groups": []}, "show_groups is empty"),
        ({"show_groups": 0}, "show_groups must be a list of labels, or a number of groups; found 0"),
        ({"show_groups": 31}, "There is room for 30 panels; found 31 groups"),
        ({"n_points": 1}, "n_points must be a whole number, at least 2; found 1"),
        ({"at": {"ses": 1.0}}, "at must hold values of other columns"),
        ({"y": [1.0, 2.0]}, "inconsistent numbers of samples"),
        ({"sample_weight": "w"}, "sample_weight must hold one number per row"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_drawn(pupils, options, message):
    _, X, y, school = pupils
    X = X.assign(town=np.where(X["age"] > 12, "A", "B"))
    columns = make_column_transformer(("passthrough", ["ses", "age"]))
    model = make_pipeline(columns, MixedEffectsRegressor(random_effects="(1 + x0 | school)"))
    model.fit(X, y, mixedeffectsregressor__groups=school)
    arguments = {"X": X, "y": y, "groups": school, "feature": "ses", **options}
    with pytest.raises(ValueError, match=message):
        GroupLinesDisplay.from_estimator(model, **arguments)
    assert not plt.get_fignums()


def test_models_of_other_kinds_are_refused(pupils):
    _, X, y, school = pupils
    with pytest.raises(TypeError, match="found LinearRegression"):
        GroupLinesDisplay.from_estimator(LinearRegression().fit(X, y), X, y, school, feature="ses")
    frame = pd.DataFrame({"school": school, "hours": np.sin(np.arange(len(y)))})
    model = MixedEffectsRegressor(random_effects="(1 + hours | school)").fit(X, y, groups=frame)
    with pytest.raises(ValueError, match="random coefficients of 'hours', which fit found in groups and not in X"):
        GroupLinesDisplay.from_estimator(model, X, y, frame, feature="ses")
