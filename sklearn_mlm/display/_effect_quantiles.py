"""Random effects of several coefficients against normal quantiles, in one panel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ._random_effects import RandomEffectsDisplay
from ._style import (
    GROUP_COLORS,
    GROUP_MARKERS,
    MAX_VECTOR_POINTS,
    PALE,
    add_headroom,
    count,
    label_text,
    percent,
    plural,
    text_color,
)


def draw_effect_quantiles(panel: Any, effects: RandomEffectsDisplay) -> list[Any]:
    """Draw the random effects in standard deviations against normal quantiles, each coefficient with its marker.

    An estimate is divided by the square root of its reliability, so that all have the variance of the coefficient, and by
    the standard deviation of the coefficient. A coefficient that does not vary is left out.

    Parameters
    ----------
    panel : matplotlib Axes
        The axes.
    effects : RandomEffectsDisplay
        The random effects of several coefficients.

    Returns
    -------
    points : list of matplotlib Line2D
        The points of each coefficient.
    """
    from scipy import stats

    sds = pd.Series(effects.group_sd)
    n = len(effects.table) // len(sds)
    ranks = np.arange(1, n + 1)
    normal = stats.norm.ppf((ranks - 0.5) / n)
    # The order statistics of a uniform sample follow beta distributions.
    half = (1.0 - effects.level) / 2.0
    band = [stats.norm.ppf(stats.beta.ppf(p, ranks, n + 1 - ranks)) for p in (half, 1.0 - half)]
    label = f"{percent(effects.level)} of normal samples, point by point"
    panel.fill_between(normal, *band, color=PALE, alpha=0.5, linewidth=0, label=label)
    panel.plot(normal[[0, -1]], normal[[0, -1]], color=text_color(), linewidth=1.2, label="normal, SD 1")
    points: list[Any] = []
    looks = zip(GROUP_COLORS, GROUP_MARKERS, strict=True)
    for (name, sd), (color, marker) in zip(sds.items(), looks, strict=False):
        if sd <= 0:
            continue
        of_name = effects.table[effects.table.index.get_level_values(-1) == name]
        reliability = of_name["reliability"].to_numpy()
        root = np.sqrt(np.maximum(reliability, 0.0))
        scaled = np.divide(of_name["effect"].to_numpy(), sd * root, out=np.zeros(n), where=root > 0)
        look = {"color": color, "marker": marker, "markersize": 4 if n <= 100 else 2, "rasterized": n > MAX_VECTOR_POINTS}
        points += panel.plot(normal, np.sort(scaled), linestyle="none", label=label_text(name), **look)
    groups = plural(label_text(effects.table.index.names[0]))
    panel.set(xlabel=f"normal quantile, {count(n)} {groups}", ylabel="EB effect / √reliability, in SDs")
    panel.legend(loc="upper left", frameon=False, fontsize="small", ncols=2 if len(points) > 2 else 1)
    add_headroom(panel, 0.25)
    return points
