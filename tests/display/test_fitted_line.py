"""The fitted line against a column: that it is what `predict_interval` says, for every kind of X, and what is said of it."""

import subprocess
import sys
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, SplineTransformer

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.datasets import load_sleepstudy
from sklearn_mlm.display import FittedLineDisplay
from sklearn_mlm.inference import predict_interval

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(scope="module")
def sleep():
    """A model with one predictor, and its rows."""
    X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    return RandomInterceptRegressor().fit(X, y, groups=subject), X, y, subject


@pytest.fixture(scope="module")
def frame():
    """Rows with columns of every kind, and an outcome that depends on them."""
    rng = np.random.default_rng(0)
    n = 400
    school = rng.integers(0, 20, n)
    sector = rng.choice(["public", "other", "church"], n, p=[0.6, 0.3, 0.1])
    X = pd.DataFrame(
        {
            "ses": rng.standard_normal(n),
            "age": rng.integers(6, 12, n),
            "sector": pd.Categorical(sector, ["public", "church", "other"]),
            "town": rng.choice(["A", "B"], n, p=[0.3, 0.7]),
            "girl": rng.random(n) < 0.6,
            "school": [f"s{label}" for label in school],
        }
    )  # fmt: skip
    y = np.sin(2 * X["ses"]) + 0.1 * X["age"] + (X["sector"] == "church") + rng.standard_normal(20)[school]
    return X, pd.Series(y + 0.3 * rng.standard_normal(n), name="math")


@pytest.fixture(scope="module")
def pipeline(frame):
    """A pipeline with a spline, dummies and a group column."""
    columns = make_column_transformer(
        (SplineTransformer(n_knots=5), ["ses"]),
        (OneHotEncoder(drop="first", sparse_output=False), ["sector", "town"]),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_pipeline(columns, RandomInterceptRegressor(group_feature="school")).fit(*frame)


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def band_of(collection):
    """Return x and the ends of a band."""
    edges = pd.DataFrame(collection.get_paths()[0].vertices, columns=["x", "y"])
    ends = edges.groupby("x")["y"].agg(["min", "max"])
    return ends.index.to_numpy(), ends["min"].to_numpy(), ends["max"].to_numpy()


def assert_is_band(line, band, expected, x):
    np.testing.assert_allclose(line.get_xdata(), x)
    np.testing.assert_allclose(line.get_ydata(), expected["prediction"])
    at, lower, upper = band_of(band)
    np.testing.assert_allclose(at, x)
    np.testing.assert_allclose(np.column_stack([lower, upper]), expected[["lower", "upper"]])


# ---- lines and bands


def test_the_line_and_its_band_are_those_of_the_population_mean(sleep):
    model, X, _, _ = sleep
    display = FittedLineDisplay.from_estimator(model, X, "days", level=0.8, n_points=7)
    x = np.linspace(0, 9, 7)
    expected = predict_interval(model, pd.DataFrame({"days": x}), kind="population_mean", level=0.8)
    assert_is_band(display.line_, display.band_, expected, x)
    pd.testing.assert_frame_equal(display.population, expected)
    assert legend(display) == ["population mean, 80% band"]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("days", "reaction")
    assert not display.groups
    assert display.scatter_ == display.group_lines_ == display.group_bands_ == []
    assert display.ax_.get_legend().get_title().get_text() == ""


def test_groups_have_lines_of_their_own_means(sleep):
    model, X, y, subject = sleep
    display = FittedLineDisplay.from_estimator(model, X, "days", y=y, groups=subject, show_groups=[335, 308])
    grid = pd.DataFrame({"days": np.linspace(0, 9, 100)})
    for i, label in enumerate([335, 308]):
        expected = predict_interval(model, grid, [label] * 100, kind="group_mean")
        assert_is_band(display.group_lines_[i], display.group_bands_[i], expected, grid["days"])
        rows = (subject == label).to_numpy()
        points = display.scatter_[i + 1]
        np.testing.assert_allclose(points.get_offsets(), np.column_stack([X[rows], y[rows]]))
        color = display.group_lines_[i].get_color()
        assert mpl.colors.same_color(points.get_facecolor()[0][:3], color)
        assert mpl.colors.same_color(display.group_bands_[i].get_facecolor()[0][:3], color)
    assert len(display.scatter_[0].get_offsets()) == 160
    assert legend(display) == ["population mean", "subject 335", "subject 308", "180 rows"]
    assert display.ax_.get_legend().get_title().get_text() == "means, 95% bands"


def test_a_number_of_groups_is_spread_from_the_lowest_effect_to_the_highest(sleep):
    model, X, _, _ = sleep
    order = list(model.random_effects_.sort_values(ascending=False).index)

    def shown(number):
        return list(FittedLineDisplay.from_estimator(model, X, "days", show_groups=number).groups)

    assert shown(0) == []
    assert shown(1) == [order[8]]
    assert shown(2) == [order[0], order[-1]]
    assert len(shown(10)) == 10
    assert shown(10) == sorted(shown(10), key=order.index)
    small = RandomInterceptRegressor().fit(None, [1.0, 2.0, 4.0, 5.5], [1, 1, 2, 2])
    assert small.n_groups_ == 2
    few = X.iloc[:20], sleep[2][:20], sleep[3][:20]
    assert len(FittedLineDisplay.from_estimator(model.__class__().fit(*few), few[0], "days", show_groups=9).groups) == 2


def test_other_columns_are_held_at_their_means_or_where_they_are_told(frame):
    X, y = frame
    X = X[["ses", "age", "school"]]
    model = RandomInterceptRegressor(group_feature="school").fit(X, y)
    x = np.linspace(X["ses"].min(), X["ses"].max(), 5)

    def expected(age):
        return predict_interval(model, pd.DataFrame({"ses": x, "age": age, "school": "s0"}), kind="population_mean")

    display = FittedLineDisplay.from_estimator(model, X, "ses", n_points=5)
    pd.testing.assert_frame_equal(display.population, expected(X["age"].mean()))
    assert display.ax_.get_legend().get_title().get_text() == f"at age = {X['age'].mean():.2f}"
    display = FittedLineDisplay.from_estimator(model, X, "ses", n_points=5, at={"age": 11})
    pd.testing.assert_frame_equal(display.population, expected(11))
    assert display.held == "at age = 11.0".removeprefix("at ")
    by_position = FittedLineDisplay.from_estimator(model, X, 0, n_points=5, at={1: 11})
    pd.testing.assert_frame_equal(by_position.population, display.population)
    assert FittedLineDisplay.from_estimator(model, X.assign(ses=X["ses"]), "age", at={"ses": 1.5}).held == "ses = 1.50"
    groups = FittedLineDisplay.from_estimator(model, X, "ses", show_groups=1)
    assert groups.ax_.get_title(loc="left") == f"at age = {X['age'].mean():.2f}"


# ---- pipelines, searches and kinds of X


def test_steps_of_a_pipeline_make_curves(pipeline, frame):
    X, y = frame
    display = FittedLineDisplay.from_estimator(pipeline, X, "ses", y=y, show_groups=["s3"], n_points=40)
    grid = pd.DataFrame(
        {
            "ses": np.linspace(X["ses"].min(), X["ses"].max(), 40),
            "age": X["age"].mean(),
            "sector": pd.Categorical(["public"] * 40, X["sector"].cat.categories),
            "town": "B",
            "girl": True,
            "school": "s3",
        }
    )
    assert_is_band(display.line_, display.band_, predict_interval(pipeline, grid, kind="population_mean"), grid["ses"])
    expected = predict_interval(pipeline, grid, kind="group_mean")
    assert_is_band(display.group_lines_[0], display.group_bands_[0], expected, grid["ses"])
    second = np.diff(display.population["prediction"], 2)
    assert np.abs(second).max() > 1e-3
    assert display.held == f"age = {X['age'].mean():.2f}, sector = public, town = B and 1 more"
    told = FittedLineDisplay.from_estimator(pipeline, X, "ses", at={"girl": False})
    assert told.held.startswith("girl = False, age = ")
    assert len(display.scatter_[1].get_offsets()) == (X["school"] == "s3").sum()


def test_a_search_is_taken_as_it_is(pipeline, frame):
    X, y = frame
    search = GridSearchCV(pipeline, {"randominterceptregressor__method": ["reml"]}, cv=GroupKFold(3), scoring="r2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(X, y, groups=X["school"])
    one, two = (FittedLineDisplay.from_estimator(model, X, "ses", show_groups=2) for model in (pipeline, search))
    pd.testing.assert_frame_equal(one.population, two.population)
    assert list(one.groups) == list(two.groups)


def test_missing_values_that_a_pipeline_imputes_are_no_obstacle(frame):
    X, y = frame
    numbers = X[["ses", "age"]].astype(float)
    numbers.iloc[:50, 0] = np.nan
    numbers.iloc[50:60, 1] = np.nan
    model = make_pipeline(SimpleImputer(), RandomInterceptRegressor())
    model.fit(numbers, y, randominterceptregressor__groups=X["school"])
    display = FittedLineDisplay.from_estimator(model, numbers, "ses", y=y, groups=X["school"], show_groups=1)
    assert np.isfinite(display.population).all(axis=None)
    assert legend(display)[-1] == "350 rows"


def test_every_kind_of_x_gives_the_same_line(frame):
    X, y = frame
    numbers, groups = X[["ses", "age"]].astype(float), X["school"]
    model = RandomInterceptRegressor().fit(numbers, y, groups)
    plain = RandomInterceptRegressor().fit(numbers.to_numpy(), y, groups)
    expected = FittedLineDisplay.from_estimator(model, numbers, "ses").population
    arrays = [numbers.to_numpy(), numbers.to_numpy().tolist(), sparse.csr_array(numbers), numbers.to_numpy().astype(object)]
    for each in arrays:
        display = FittedLineDisplay.from_estimator(plain, each, 0, y=y)
        np.testing.assert_allclose(display.population, expected, rtol=1e-10)
        assert display.ax_.get_xlabel() == "x0"
        assert display.held == f"x1 = {X['age'].mean():.2f}"
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    for each in (polars.DataFrame(numbers), pyarrow.Table.from_pandas(numbers)):
        display = FittedLineDisplay.from_estimator(model, each, "ses", y=y, groups=groups, show_groups=1)
        np.testing.assert_allclose(display.population, expected, rtol=1e-10)


def test_a_group_column_may_be_given_by_position(frame):
    X, y = frame
    table = X[["ses", "school", "age"]]
    named = RandomInterceptRegressor(group_feature="school").fit(table, y)
    placed = RandomInterceptRegressor(group_feature=1).fit(table.to_numpy(dtype=object), y)
    expected = FittedLineDisplay.from_estimator(named, table, "ses", show_groups=["s1"])
    display = FittedLineDisplay.from_estimator(placed, table.to_numpy(dtype=object), 0, show_groups=["s1"])
    np.testing.assert_allclose(display.population, expected.population)
    np.testing.assert_allclose(display.groups["s1"], expected.groups["s1"])
    assert "school" not in expected.held
    for model, rows, feature in ((named, table, "school"), (placed, table.to_numpy(dtype=object), 1)):
        with pytest.raises(ValueError, match="is the group column"):
            FittedLineDisplay.from_estimator(model, rows, feature)


def test_a_step_that_reads_the_group_column_gets_the_label(frame):
    # A step that encodes the groups must see the group of each line.
    X, y = frame

    class Doubler(OneHotEncoder):
        """Remembers the labels that it was given."""

        seen: list = []  # noqa: RUF012

        def transform(self, X):
            type(self).seen.append(set(np.unique(X)))
            return super().transform(X)

    columns = ColumnTransformer(
        [("twice", Doubler(sparse_output=False), ["school"]), ("rest", "passthrough", ["ses", "school"])],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = make_pipeline(columns, RandomInterceptRegressor(group_feature="school"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X[["ses", "school"]], y)
    Doubler.seen.clear()
    FittedLineDisplay.from_estimator(model, X[["ses", "school"]], "ses", show_groups=["s4", "s7"])
    assert Doubler.seen == [{X["school"].mode()[0]}, {"s4"}, {"s7"}]


def test_labels_may_be_of_any_kind(sleep):
    _, X, y, subject = sleep
    for labels in (
        pd.Series(pd.Categorical(subject)),
        pd.Series([("s", int(label)) for label in subject]),
        pd.to_datetime("2020-01-01") + pd.to_timedelta(subject, "D"),
    ):
        model = RandomInterceptRegressor().fit(X, y, labels)
        label = model.groups_[3]
        display = FittedLineDisplay.from_estimator(model, X, "days", y=y, groups=labels, show_groups=[label])
        assert list(display.groups) == [label]
        assert len(display.scatter_[1].get_offsets()) == 10


# ---- columns that are not numeric


@pytest.mark.parametrize(
    ("feature", "values"),
    [("sector", ["public", "church", "other"]), ("town", ["A", "B"]), ("girl", [False, True])],
)
def test_columns_that_are_not_numeric_have_points_with_intervals(pipeline, frame, feature, values):
    X, y = frame
    display = FittedLineDisplay.from_estimator(pipeline, X, feature, y=y, show_groups=["s5"], level=0.9)
    assert list(display.values) == values
    grid = X.iloc[: len(values)].assign(ses=X["ses"].mean(), age=X["age"].mean(), town="B", girl=True, school="s5")
    grid["sector"] = pd.Categorical(["public"] * len(values), X["sector"].cat.categories)
    grid[feature] = pd.Series(values, index=grid.index, dtype=X[feature].dtype)
    kinds = {"population_mean": display.line_, "group_mean": display.group_lines_[0]}
    for (kind, (points, _, (bars,))), shift in zip(kinds.items(), (-0.3, 0.3), strict=True):
        expected = predict_interval(pipeline, grid, kind=kind, level=0.9)
        np.testing.assert_allclose(points.get_xdata().astype(float), np.arange(len(values)) + shift)
        np.testing.assert_allclose(points.get_ydata().astype(float), expected["prediction"])
        np.testing.assert_allclose(np.array(bars.get_segments())[:, :, 1], expected[["lower", "upper"]])
    assert display.band_ is None
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == [str(value) for value in values]
    assert legend(display) == ["population mean", "school s5", "400 rows"]
    assert display.ax_.get_legend().get_title().get_text() == "means, 90% intervals"
    # The points are beside their category, those of the group behind its interval.
    for points, which, shift in zip(display.scatter_, (X["school"] != "s5", X["school"] == "s5"), (-0.3, 0.3), strict=True):
        offsets = np.asarray(points.get_offsets())
        codes = np.array([values.index(value) for value in X.loc[which, feature]])
        assert np.abs(offsets[:, 0] - codes - shift).max() < 0.15
        np.testing.assert_allclose(offsets[:, 1], y[which])
    alone = FittedLineDisplay.from_estimator(pipeline, X, feature)
    assert legend(alone) == ["population mean, 95% interval"]
    np.testing.assert_allclose(alone.line_[0].get_xdata().astype(float), np.arange(len(values)))


def test_a_group_that_the_rows_do_not_have_may_be_shown(frame):
    X, y = frame
    X = X[["ses", "school"]].assign(school=pd.Categorical(X["school"]))
    model = RandomInterceptRegressor(group_feature="school").fit(X, y)
    rows = X[X["school"] != "s3"]
    rows = rows.assign(school=rows["school"].cat.remove_unused_categories())
    display = FittedLineDisplay.from_estimator(model, rows, "ses", show_groups=["s3"])
    at_mean = display.groups["s3"]["prediction"] - display.population["prediction"]
    np.testing.assert_allclose(at_mean, model.random_effects_["s3"])


def test_categories_without_rows_are_not_drawn(pipeline, frame):
    X, _ = frame
    rows = X[X["sector"] != "church"]
    display = FittedLineDisplay.from_estimator(pipeline, rows, "sector")
    assert list(display.values) == ["public", "other"]


def test_values_of_mixed_types_keep_the_order_of_the_rows():
    X = pd.DataFrame({"kind": pd.Series(["b", 1, "a", "b", 1, "a", 1, "b"], dtype=object)})
    model = make_pipeline(_codes(), RandomInterceptRegressor())
    model.fit(X, np.arange(8.0) ** 2, randominterceptregressor__groups=[0, 0, 1, 1, 2, 2, 3, 3])
    assert list(FittedLineDisplay.from_estimator(model, X, "kind").values) == ["b", 1, "a"]


def _codes():
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(lambda X: X["kind"].map({"a": 0.0, 1: 1.0, "b": 2.0}).to_numpy(dtype=float)[:, None])


def test_a_level_that_the_model_does_not_take_is_explained(frame):
    # The mean of a whole number is none of the levels of an encoder.
    X, y = frame
    columns = make_column_transformer((OneHotEncoder(drop="first"), ["age"]), remainder="passthrough")
    model = make_pipeline(columns, RandomInterceptRegressor())
    model.fit(X[["ses", "age"]], y, randominterceptregressor__groups=X["school"])
    with pytest.raises(
        ValueError, match=r"does not take rows with age = .*[a-z]\. Pass other values .* at=\{'age': \.\.\.\}"
    ):
        FittedLineDisplay.from_estimator(model, X[["ses", "age"]], "ses")
    display = FittedLineDisplay.from_estimator(model, X[["ses", "age"]], "ses", at={"age": 7})
    grid = pd.DataFrame({"ses": [X["ses"].min()], "age": [7]})
    expected = predict_interval(model, grid, kind="population_mean")
    np.testing.assert_allclose(display.population.iloc[:1], expected)


# ---- points


def test_many_points_are_thinned_and_the_legend_says_so(assert_legible):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 12_000)
    X = rng.standard_normal((12_000, 2))
    y = X.sum(axis=1) + rng.standard_normal(400)[groups] + rng.standard_normal(12_000)
    model = RandomInterceptRegressor().fit(X, y, groups)
    display = FittedLineDisplay.from_estimator(model, X, 0, y=y)
    assert legend(display)[-1] == "5,000 of 12,000 rows"
    assert len(display.scatter_[0].get_offsets()) == 5_000
    assert display.ax_.get_ylabel() == "predicted y"
    again = FittedLineDisplay.from_estimator(model, X, 0, y=y)
    np.testing.assert_array_equal(again.scatter_[0].get_offsets(), display.scatter_[0].get_offsets())
    other = display.plot(subsample=100, random_state=1)
    assert legend(other)[-1] == "100 of 12,000 rows"
    assert legend(display.plot(subsample=None))[-1] == "12,000 rows"
    assert_legible(display.figure_)


def test_without_labels_of_the_rows_all_points_are_alike(sleep):
    model, X, y, _ = sleep
    display = FittedLineDisplay.from_estimator(model, X, "days", y=y, show_groups=2)
    assert [len(points.get_offsets()) for points in display.scatter_] == [180, 0, 0]


# ---- what is seen


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize(
    "which", ["line", "points", "groups", "ten groups", "curve", "curve and groups", "factor", "factor and groups"]
)
def test_nothing_is_cut_off_and_no_text_lies_over_other_text(sleep, pipeline, frame, which, style, assert_legible):
    model, X, y, subject = sleep
    rows, outcome = frame
    arguments, options = {
        "line": ((model, X, "days"), {"at": {}}),
        "points": ((model, X, "days"), {"y": y}),
        "groups": ((model, X, "days"), {"y": y, "groups": subject, "show_groups": 3}),
        "ten groups": ((model, X, "days"), {"show_groups": 10}),
        "curve": ((pipeline, rows, "ses"), {"y": outcome}),
        "curve and groups": ((pipeline, rows, "ses"), {"y": outcome, "show_groups": 4}),
        "factor": ((pipeline, rows, "sector"), {"y": outcome}),
        "factor and groups": ((pipeline, rows, "sector"), {"show_groups": 3}),
    }[which]
    with mpl.style.context(style):
        display = FittedLineDisplay.from_estimator(*arguments, **options)
        assert_legible(display.figure_)
        line = display.line_[0] if display.categorical else display.line_
        assert mpl.colors.same_color(line.get_color(), mpl.rcParams["text.color"])


def test_names_are_shown_as_they_are_and_long_ones_turned():
    rng = np.random.default_rng(0)
    names = ["_under", "$5 to $10", "x_{$", *(f"a long category, number {i}" for i in range(3))]
    X = pd.DataFrame({"$cost_": rng.choice(names, 120), "_other $": rng.standard_normal(120)})
    groups = pd.Series(np.repeat(["_g", "$h"], 60), name="$group")
    y = pd.Series(rng.standard_normal(120) + 3 * (groups == "_g"), name="$y_{")
    columns = make_column_transformer((OneHotEncoder(drop="first"), ["$cost_"]), remainder="passthrough")
    model = make_pipeline(columns, RandomInterceptRegressor())
    model.fit(X, y, randominterceptregressor__groups=groups)
    display = FittedLineDisplay.from_estimator(model, X, "$cost_", y=y, groups=groups, show_groups=["_g", "$h"])
    display.figure_.canvas.draw()
    shown = [text.get_text().strip().replace(r"\$", "$") for text in display.ax_.get_xticklabels()]
    assert shown == sorted(names)
    assert display.ax_.get_xticklabels()[0].get_rotation() == 30
    assert display.ax_.get_xlabel() == r"\$cost_"
    assert display.ax_.get_ylabel() == r"\$y_{"
    assert legend(display)[1:3] == [r"\$group _g", r"\$group \$h"]
    assert display.ax_.get_title(loc="left").startswith(r"at _other \$ = ")


def test_it_draws_into_axes_that_are_given(sleep):
    model, X, _, _ = sleep
    figure, (left, right) = plt.subplots(1, 2)
    display = FittedLineDisplay.from_estimator(model, X, "days", ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert display.plot() is display
    assert display.figure_ is not figure


def test_artists_take_options(sleep, pipeline, frame):
    model, X, y, _ = sleep
    options = {"scatter_kwargs": {"s": 3, "c": "black"}, "line_kwargs": {"lw": 7, "c": "green"}}
    display = FittedLineDisplay.from_estimator(model, X, "days", y=y, show_groups=1, **options)
    assert display.scatter_[0].get_sizes().tolist() == [3]
    assert (display.line_.get_linewidth(), display.line_.get_color()) == (7, "green")
    assert display.group_lines_[0].get_color() != "green"
    factor = FittedLineDisplay.from_estimator(pipeline, frame[0], "sector", line_kwargs={"ms": 11})
    assert factor.line_[0].get_markersize() == 11


# ---- what is refused


@pytest.mark.parametrize(
    ("feature", "options", "message"),
    [
        ("hours", {}, r"feature must name a column of X, or be its position; found 'hours' for the columns \['days'"),
        (9, {}, "feature must name a column of X"),
        (True, {}, "feature must name a column of X"),
        ("same", {}, "feature='same' is constant"),
        ("name", {}, r"feature='name' has 180 distinct value\(s\) that are not numbers"),
        ("one", {}, r"feature='one' has 1 distinct value\(s\)"),
        ("days", {"at": {"hours": 1}}, "at must name a column of X"),
        ("days", {"at": {"days": 1}}, "at must hold values of other columns; found 'days', the feature itself"),
        ("days", {"at": {"subject": 308}}, "found 'subject', the group column, whose groups show_groups chooses"),
        ("days", {"at": {"kind": "c"}}, r"at holds 'c', which is not a category of its column: \['a', 'b'\]"),
        (
            "days",
            {"show_groups": [308, 999]},
            "show_groups holds 999, which is not a group of the model. Its groups are 308",
        ),
        ("days", {"show_groups": "308"}, "show_groups must be a list of labels, or a number of groups; found '308'"),
        ("days", {"show_groups": True}, "show_groups must be a list"),
        ("days", {"show_groups": 2.5}, "show_groups must be a list"),
        ("days", {"show_groups": 11}, "show_groups must name 10 groups at most, which colours tell apart; found 11"),
        ("days", {"level": 95}, "level must be between 0 and 1"),
        ("days", {"n_points": 1}, "n_points must be a whole number, at least 2; found 1"),
        ("days", {"subsample": 0}, "subsample must be a whole number"),
        ("days", {"y": [1.0, 2.0]}, "inconsistent numbers of samples"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_drawn(sleep, feature, options, message):
    _, X, y, subject = sleep
    kind = pd.Categorical(np.where(np.arange(180) % 2, "a", "b"))
    X = X.assign(same=1.0, one="z", name=[f"n{i}" for i in range(180)], kind=kind, subject=subject)
    columns = make_column_transformer(("passthrough", ["days", "subject"]), verbose_feature_names_out=False)
    model = make_pipeline(columns.set_output(transform="pandas"), RandomInterceptRegressor(group_feature="subject")).fit(
        X, y
    )
    with pytest.raises(ValueError, match=message):
        FittedLineDisplay.from_estimator(model, X, feature, **options)
    assert not plt.get_fignums()


def test_models_without_predictors_or_of_another_kind_are_refused(sleep):
    _, X, y, subject = sleep
    with pytest.raises(TypeError, match="found LinearRegression"):
        FittedLineDisplay.from_estimator(LinearRegression().fit(X, y), X, "days")
    null = RandomInterceptRegressor().fit(None, y, subject)
    with pytest.raises(ValueError, match="X is None: pass the rows"):
        FittedLineDisplay.from_estimator(null, None, "days")
    with pytest.warns(UserWarning, match="feature names"), pytest.raises(ValueError, match="1 features"):
        FittedLineDisplay.from_estimator(null, X, "days")


def test_a_polynomial_of_one_column_of_many_is_a_parabola():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 2))
    groups = np.repeat(range(20), 10)
    y = X[:, 0] ** 2 + rng.standard_normal(20)[groups] + 0.1 * rng.standard_normal(200)
    model = make_pipeline(PolynomialFeatures(2, include_bias=False), RandomInterceptRegressor())
    model.fit(X, y, randominterceptregressor__groups=groups)
    display = FittedLineDisplay.from_estimator(model, X, 0)
    second = np.diff(display.population["prediction"], 2)
    np.testing.assert_allclose(second, second[0], rtol=1e-6)
    assert second[0] > 0


def test_without_matplotlib_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from sklearn_mlm import RandomInterceptRegressor, display\n"
        "X, y, groups = [[1.0], [2.0], [3.0], [5.0]], [1.0, 2.0, 4.0, 5.5], [1, 1, 2, 2]\n"
        "model = RandomInterceptRegressor().fit(X, y, groups=groups)\n"
        "try:\n    display.FittedLineDisplay.from_estimator(model, X, 0)\nexcept ImportError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "FittedLineDisplay needs matplotlib: pip install 'sklearn-mlm[plot]'."
