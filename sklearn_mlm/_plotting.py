"""What the displays share: matplotlib where it is installed, colours, axes and captions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._summary import decimals, number_text

# Okabe and Ito's colours, which colour-blind people tell apart, less their yellow, which a light background swallows.
BLUE, VERMILION, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY, PALE = "#222222", "#767676", "#B8B8B8"
# Ten groups are told apart by the marker as well as by the colour.
GROUP_COLORS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, INK, "#882255", "#999933", "#332288")
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


def axes_for(caller: str, ax: Any, figsize: tuple[float, float]) -> tuple[Any, Any]:
    """Return the figure and the axes to draw in: those given, or new ones whose layout leaves room for every label."""
    plt = pyplot(caller)
    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")
    return ax.figure, ax


def styled(default: dict[str, Any], given: dict[str, Any] | None, artist: Any) -> dict[str, Any]:
    """Return keyword arguments of an artist with those given in the place of defaults, by whatever alias (c for color)."""
    from matplotlib.cbook import normalize_kwargs

    return {**normalize_kwargs(default, artist), **normalize_kwargs(given or {}, artist)}


def tidy(ax: Any) -> None:
    """Take the frame off where there is no axis."""
    ax.spines[["top", "right"]].set_visible(False)


def short(value: float, size: float | None = None) -> str:
    """Return a number with three significant digits, or as many decimals as those of a number of this size."""
    return number_text(float(value), decimals(abs(float(value if size is None else size))))


def count(number: float) -> str:
    """Return a number of things, its thousands apart."""
    return f"{number:,.0f}"


def check_kind(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise for an option that is not one of its choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; found {value!r}.")


def plural(noun: str) -> str:
    """Return what several groups are called, by the name of their column: never wrong, if not always pretty."""
    return "groups" if noun == "group" else f"groups ({noun})"


def name_of(values: Any, default: str) -> str:
    """Return the name of a column of data, if it has one."""
    name = getattr(values, "name", None)
    return default if name is None or name == "" else str(name)


def sample(n: int, size: int | None, seed: Any) -> np.ndarray:
    """Return positions of all of n, or of a random sample of so many, in ascending order."""
    from sklearn.utils import check_random_state

    if size is None or n <= size:
        return np.arange(n)
    return np.sort(check_random_state(seed).choice(n, size, replace=False))
