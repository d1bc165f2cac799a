"""What is asked of every picture: figures are closed, no text is cut off, and none lies over other text; and models."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from sklearn_mlm import MixedEffectsRegressor
from sklearn_mlm.datasets import load_sleepstudy

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def closed():
    """Leave no figure open, and nothing of matplotlib changed."""
    plt.close("all")
    before = mpl.rcParams.copy()
    yield
    plt.close("all")
    assert before == mpl.rcParams


@pytest.fixture
def assert_legible():
    """Return an assertion that no text of a figure is cut off or lies over other text."""

    def check(figure):
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        texts = [text for axes in figure.axes for text in texts_of(axes) if text.get_text().strip()]
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
        assert len(boxes) > 5
        for text, box in boxes:
            assert -1 <= box.x0 <= box.x1 <= width + 1, text
            assert -1 <= box.y0 <= box.y1 <= height + 1, text
        for at, (text, box) in enumerate(boxes):
            for other_text, other in boxes[at + 1 :]:
                overlap = mpl.transforms.Bbox.intersection(box, other)
                assert overlap is None or min(overlap.width, overlap.height) < 2, (text, other_text)

    return check


def texts_of(axes):
    """Yield the texts of axes that are drawn."""
    legend = axes.get_legend()
    yield from axes.texts
    yield from [] if legend is None else [legend.get_title(), *legend.get_texts()]
    if axes.axison:
        yield from (axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            # Ticks without labels have none here.
            for at, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False):
                if low <= at <= high:
                    yield label


@pytest.fixture(scope="session")
def sleep_slopes():
    """A model with an intercept and a slope for each subject, and its rows."""
    X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    return MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject), X, y, subject


@pytest.fixture(scope="session")
def pupils():
    """A model of two columns, one with a random slope, and its rows: groups of 1 to 12 rows, one of them of equal x."""
    rng = np.random.default_rng(0)
    school = np.repeat(np.arange(40), np.append([1, 1, 3], rng.integers(2, 13, 37)))
    X = pd.DataFrame({"ses": rng.standard_normal(len(school)), "age": rng.integers(10, 15, len(school))})
    X.loc[school == 2, "ses"] = 0.1
    effects = rng.multivariate_normal([0.0, 0.0], [[4.0, 1.0], [1.0, 2.0]], 40)
    y = 50.0 + effects[school, 0] + (3.0 + effects[school, 1]) * X["ses"] + 0.7 * X["age"] + rng.standard_normal(len(school))
    groups = pd.Series([f"s{label:02}" for label in school], name="school")
    model = MixedEffectsRegressor(random_effects="(1 + ses | school)").fit(X, y.rename("math"), groups=groups)
    return model, X, y.rename("math"), groups


@pytest.fixture(scope="session")
def pupils_by_hours(pupils):
    """A model of the same rows whose column with a random slope is only in the groups."""
    _, X, y, groups = pupils
    frame = pd.DataFrame({"school": groups, "hours": np.sin(np.arange(len(y)))})
    return MixedEffectsRegressor(random_effects="(1 + hours | school)").fit(X, y, groups=frame), X, y, frame


@pytest.fixture(scope="session")
def singular():
    """A model whose estimated intercepts and slopes have the correlation -1 or 1, and its rows."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(30), 6)
    x = rng.standard_normal((180, 1))
    y = rng.standard_normal(30)[groups] * (1.0 + 0.3 * x[:, 0]) + 2.0 * rng.standard_normal(180)
    model = MixedEffectsRegressor(random_effects="(1 + x0 | group)").fit(x, y, groups=groups)
    assert len(model.boundary_["group"]) == 1
    return model, x, y, groups
