"""What is asked of every picture: figures are closed, no text is cut off, and none lies over other text."""

import matplotlib as mpl
import pytest

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
            for at, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True):
                if low <= at <= high:
                    yield label
