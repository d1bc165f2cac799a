"""Helpers that all displays share: axes, colours, options of artists, and text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from sklearn.utils import check_random_state

from .._inputs import is_whole, name_of
from .._tables import decimals, number_text
from .._typing import GroupedFit, RandomState

Scale = Literal["deviation", "absolute"]

# The colours of Okabe and Ito, which colour-blind people can tell apart, without their yellow, which is too pale on white.
BLUE, VERMILION, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
DARK, GREY, PALE = "#222222", "#767676", "#B8B8B8"
# Each of ten groups differs from the others in its marker as well as in its colour.
GROUP_COLORS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, GREY, "#882255", "#999933", "#332288")
GROUP_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
MAX_COLORED = len(GROUP_COLORS)
# More points than this are drawn as an image.
MAX_VECTOR_POINTS = 1_500
# Relative height of the axes of a legend, which a layout does not take for an error.
_NO_HEIGHT = 0.01


@contextmanager
def axes_for(caller: str, ax: Any, figsize: tuple[float, float]) -> Iterator[Any]:
    """Yield the given axes, or new axes whose layout has room for every label; close a new figure if drawing fails."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f"{caller} needs matplotlib: pip install 'sklearn-mlm[plot]'.") from error
    if ax is not None:
        yield ax
        return
    figure, ax = plt.subplots(figsize=figsize, layout="constrained")
    try:
        yield ax
    except BaseException:
        plt.close(figure)
        raise


def text_color() -> str:
    """Return the colour of text in the current matplotlib style."""
    from matplotlib import rcParams

    return str(rcParams["text.color"])


def styled(default: dict[str, Any], given: dict[str, Any] | None, artist: Any) -> dict[str, Any]:
    """Return the options of an artist: the defaults, replaced by those given under any alias, such as c for color."""
    from matplotlib.cbook import normalize_kwargs

    given = normalize_kwargs(given or {}, artist)
    # For a collection, c and color are two options that exclude each other.
    exclusive = {"c": ("color", "facecolor"), "color": ("c", "cmap")}
    excluded = {name for key in given for name in exclusive.get(key, ())}
    return {**{name: value for name, value in normalize_kwargs(default, artist).items() if name not in excluded}, **given}


def short(value: float, size: float | None = None) -> str:
    """Return a number with three significant digits, or with the decimals that a number of the given size has."""
    return number_text(float(value), decimals(abs(float(value if size is None else size))))


def count(number: float) -> str:
    """Return a count with commas between thousands."""
    return f"{number:,.0f}"


def count_of(part: int, whole: int) -> str:
    """Return "200 of 900", or "900" if the part is the whole."""
    return count(whole) if part == whole else f"{count(part)} of {count(whole)}"


def percent(share: float) -> str:
    """Return a share as a percentage with as many decimals as it needs."""
    return f"{100.0 * share:g}%"


def label_text(label: Any) -> str:
    """Return a label as text that matplotlib neither typesets as mathematics nor hides from a legend."""
    # The labels of a combination of levels are a tuple.
    shown = ":".join(map(str, label)) if isinstance(label, tuple) else str(label)
    text = shown.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def plural(group_name: str) -> str:
    """Return a plural that contains the name of the column of groups: "groups (school)"."""
    return "groups" if group_name == "group" else f"groups ({group_name})"


def name_text(values: Any, default: str) -> str:
    """Return the name of a column as text, or the default if the column has no name."""
    name = name_of(values)
    return default if name is None else label_text(name)


def names_of(fit: GroupedFit) -> tuple[str, str]:
    """Return the names of the groups and of the outcome as text."""
    return label_text(fit.group_name), label_text(fit.outcome_name)


def sample(n: int, size: int | None, random_state: RandomState) -> np.ndarray:
    """Return the positions 0 to n - 1, or a random sample of the given size, in ascending order."""
    if size is not None and not is_whole(size):
        raise ValueError(f"subsample must be a whole number, at least 1, or None; found {size!r}.")
    if size is None or n <= size:
        return np.arange(n)
    return np.sort(check_random_state(random_state).choice(n, size, replace=False))


def panels_of(ax: Any, n_rows: int, n_columns: int, *, legend: bool = False) -> tuple[list[Any], Any]:
    """Return the axes of a grid of panels that divide given axes, which become invisible, and axes for a legend above them.

    Parameters
    ----------
    ax : matplotlib Axes
        The axes to divide.
    n_rows, n_columns : int
        The shape of the grid.
    legend : bool, default=False
        Whether to make invisible axes without height above the panels.

    Returns
    -------
    panels : list of matplotlib Axes
        The panels, row by row.
    above : matplotlib Axes or None
        The axes above them; a legend whose lower left corner is that of these axes gets room in a constrained layout.
    """
    grid = ax.get_subplotspec()
    if grid is None:
        raise ValueError("ax must come from subplots or add_subplot, so that it can be divided into panels.")
    ax.set_axis_off()
    heights = [_NO_HEIGHT] * legend + [1.0] * n_rows
    cells = grid.subgridspec(len(heights), n_columns, height_ratios=heights)
    above = ax.figure.add_subplot(cells[0, :]) if legend else None
    if above is not None:
        above.set_axis_off()
    return [ax.figure.add_subplot(cells[i + legend, j]) for i in range(n_rows) for j in range(n_columns)], above


def add_headroom(panel: Any, share: float) -> None:
    """Add a share of the height of a panel at the top, as room for a legend."""
    low, high = panel.get_ylim()
    panel.set_ylim(low, low + (high - low) * (1.0 + share))
