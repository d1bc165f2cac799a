"""Bars of variance inflation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ._style import BLUE, GREY, ORANGE, VERMILION, label_text

HIGH = 5.0
"""Variance inflation that is high."""

# Variance inflation that is very high; how many predictors are named, and the longest name.
_VERY_HIGH, _MOST_BARS, _LONGEST_NAME = 10.0, 12, 18
# Where the bars start, so that there is one to see if there is no inflation.
_FIRST = 0.88
# Larger variance inflation is written as a power of ten.
_PLAIN = 10_000.0


def draw_inflation(panel: Any, factors: pd.Series) -> Any:
    """Draw the variance inflation of the predictors, the largest if there are many, on a logarithmic scale.

    Parameters
    ----------
    panel : matplotlib Axes
        The axes.
    factors : pandas.Series
        The variance inflation that `sklearn_mlm.inference.variance_inflation` returns.

    Returns
    -------
    bars : matplotlib BarContainer
        The bars.
    """
    shown = factors
    if len(factors) > _MOST_BARS:
        shown = factors[factors.rank(method="first", ascending=False, na_option="bottom") <= _MOST_BARS]
    values = shown.fillna(_FIRST).to_numpy()
    colors = np.select([values >= _VERY_HIGH, values >= HIGH], [VERMILION, ORANGE], BLUE)
    at = np.arange(len(shown))
    bars = panel.barh(at, values - _FIRST, left=_FIRST, height=0.65, color=colors.tolist())
    most = max(float(values.max()), _VERY_HIGH)
    panel.set_xscale("log")
    # A sixth of the width is room for the number at the end of the longest bar.
    panel.set(xlim=(_FIRST, _FIRST * (most / _FIRST) ** 1.2), ylim=(len(shown) - 0.4, -0.6))
    for mark, style in ((HIGH, ":"), (_VERY_HIGH, "--")):
        panel.axvline(mark, color=GREY, linewidth=1.0, linestyle=style, zorder=0.5)
    behind = {"facecolor": panel.get_facecolor(), "edgecolor": "none", "pad": 0.5}
    for height, value, width in zip(at, shown, values, strict=True):
        text = "dropped" if np.isnan(value) else f"{value:,.1f}" if value < _PLAIN else f"{value:.1e}"
        options = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": "small"}
        panel.annotate(text, (width, height), bbox=behind, **options)
    decades = 10.0 ** np.arange(2, np.ceil(np.log10(most)) + 1)
    ticks = [1.0, 2.0, HIGH, _VERY_HIGH] if most < _PLAIN else [1.0, _VERY_HIGH]
    panel.set_xticks([*ticks, *decades[:: 1 + len(decades) // 4]])
    panel.minorticks_off()
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value < _PLAIN else f"{value:.0e}")
    panel.set_yticks(at, list(map(label_text, _shortened(list(map(str, shown.index))))))
    panel.tick_params(axis="y", length=0)
    of_all = f", {len(shown)} largest of {len(factors)}" if len(shown) < len(factors) else ""
    panel.set_xlabel(f"variance inflation{of_all}")
    return bars


def _shortened(names: list[str]) -> list[str]:
    """Return names without their middle if they are long, and still tell them apart."""
    for tail in range(7, _LONGEST_NAME - 1):
        short = [_without_middle(name, tail) for name in names]
        if len(set(short)) == len(set(names)):
            return short
    return names


def _without_middle(name: str, tail: int) -> str:
    """Return a long name with so many characters at its end, and as many before as there is room for."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1 - tail]}…{name[-tail:]}"
