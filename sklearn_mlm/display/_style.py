"""What the displays share: matplotlib where it is installed, colours, axes and captions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from .._inputs import is_whole, name_of
from .._tables import decimals, number_text

# Okabe and Ito's colours, which colour-blind people tell apart, less their yellow, which a light background swallows.
BLUE, VERMILION, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
DARK, GREY, PALE = "#222222", "#767676", "#B8B8B8"
# Ten groups are told apart by the marker as well as by the colour.
GROUP_COLORS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, GREY, "#882255", "#999933", "#332288")
GROUP_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
MAX_COLORED = len(GROUP_COLORS)
SCALES = ("deviation", "absolute")


def pyplot(caller: str) -> Any:
    """Return matplotlib.pyplot, or raise an ImportError that says how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f"{caller} draws with matplotlib: pip install 'sklearn-mlm[plot]'.") from error
    return plt


@contextmanager
def axes_for(caller: str, ax: Any, figsize: tuple[float, float]) -> Iterator[Any]:
    """Give the axes to draw in: those given, or new ones whose layout leaves room for every label; closed on an error."""
    plt = pyplot(caller)
    if ax is not None:
        yield ax
        return
    figure, ax = plt.subplots(figsize=figsize, layout="constrained")
    try:
        yield ax
    except BaseException:
        plt.close(figure)
        raise


def ink() -> str:
    """Return the colour of text, which the style of the figure sets."""
    from matplotlib import rcParams

    return str(rcParams["text.color"])


def styled(default: dict[str, Any], given: dict[str, Any] | None, artist: Any) -> dict[str, Any]:
    """Return keyword arguments of an artist with those given in the place of defaults, by whatever alias (c for color)."""
    from matplotlib.cbook import normalize_kwargs

    given = normalize_kwargs(given or {}, artist)
    # Of a collection, c is another option than color, and either may be given.
    clash = {"c": ("color", "facecolor"), "color": ("c", "cmap")}
    left_out = {name for one in given for name in clash.get(one, ())}
    return {**{name: value for name, value in normalize_kwargs(default, artist).items() if name not in left_out}, **given}


def tidy(ax: Any) -> None:
    """Take the frame off where there is no axis."""
    ax.spines[["top", "right"]].set_visible(False)


def short(value: float, size: float | None = None) -> str:
    """Return a number with three significant digits, or as many decimals as those of a number of this size."""
    return number_text(float(value), decimals(abs(float(value if size is None else size))))


def count(number: float) -> str:
    """Return a number of things, its thousands apart."""
    return f"{number:,.0f}"


def percent(share: float) -> str:
    """Return a share as a percentage, with the decimals it has."""
    return f"{100.0 * share:g}%"


def shown(label: Any) -> str:
    """Return a label of the data as text, which matplotlib takes neither for mathematics nor for a label to hide."""
    text = str(label).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def plural(noun: str) -> str:
    """Return what several groups are called, by the name of their column: never wrong, if not always pretty."""
    return "groups" if noun == "group" else f"groups ({noun})"


def named(values: Any, default: str) -> str:
    """Return the name of a column of data as text, or a default where it has none."""
    name = name_of(values)
    return default if name is None else shown(name)


def sample(n: int, size: int | None, seed: Any) -> np.ndarray:
    """Return positions of all of n, or of a random sample of so many, in ascending order."""
    if size is not None and not is_whole(size):
        raise ValueError(f"subsample must be a whole number, at least 1, or None; found {size!r}.")
    if size is None or n <= size:
        return np.arange(n)
    return np.sort(check_random_state(seed).choice(n, size, replace=False))
