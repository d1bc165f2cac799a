"""What pictures show of many rows: means in bins, some of the ranks, and the colours of a density."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Floats, Positions
from ..inference._distributions import half_width

# Number of bins of a trend, in units of the cube root of the number of rows and at most; the edges are those of a sample.
_BINS, _MOST_BINS, _EDGE_ROWS = 1.4, 30, 100_000
# Values are equal if they differ by less than this share of their range, or of this share of the values if that is more.
_SAME, _ROUNDING = 1e-9, 1e-3
# Ranks of a QQ plot that are shown at each end, and evenly between them, if there are too many rows.
_TAIL_RANKS, _MIDDLE_RANKS = 100, 300
# The shares of the colour map "Blues", and of its reverse on a dark background, that differ from background and lines.
_ON_LIGHT, _ON_DARK = (0.2, 1.0), (0.2, 0.65)


def means_in_bins(x: np.ndarray, y: np.ndarray, level: float) -> tuple[Floats, Floats, Floats]:
    """Return the mean of x and of y in bins of x with about as many rows each, and half the interval of the mean of y.

    Rows whose x are equal but for rounding are in one bin.

    Parameters
    ----------
    x, y : ndarray of shape (n_samples,)
        The rows.
    level : float
        Level of the intervals.

    Returns
    -------
    at, mean, half : ndarray of shape (n_bins,)
        The means, and half the t interval of the mean of y; NaN in a bin of one row.
    """
    n_bins = min(round(_BINS * np.cbrt(len(x))), _MOST_BINS)
    low, high = x.min(), x.max()
    unit = max(high - low, _ROUNDING * max(-low, high)) * _SAME or 1.0
    steps = np.rint((x - low) / unit)
    edges = np.unique(np.quantile(steps[:: 1 + len(x) // _EDGE_ROWS], np.linspace(0.0, 1.0, n_bins + 1)[1:-1]))
    code = np.searchsorted(edges, steps, side="right")
    size = np.bincount(code)
    code = (np.cumsum(size > 0) - 1)[code]
    n = size[size > 0]
    at, mean = (np.bincount(code, values) / n for values in (x, y))
    squares = np.bincount(code, (y - mean[code]) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(squares / (n - 1) / n)
    return at, mean, half_width(level, error, np.maximum(n - 1, 1))


def qq_ranks(n: int, max_points: int) -> Positions:
    """Return the ranks of n rows that a QQ plot shows: all of them, or those of the tails and some in the middle."""
    if n <= max_points:
        return np.arange(1, n + 1)
    tails = np.arange(1, min(_TAIL_RANKS, n) + 1)
    # Evenly in normal quantiles, so that the points lie close together everywhere.
    from scipy import stats

    last = float(stats.norm.ppf(1.0 - 0.5 / n))
    middle = np.ceil(n * stats.norm.cdf(np.linspace(-last, last, _MIDDLE_RANKS)))
    return np.unique(np.concatenate([tails, n + 1 - tails, np.clip(middle, 1, n).astype(np.intp)]))


def density_colors(panel: Any) -> Any:
    """Return a colour map from few rows, near the colour of the background, to many."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, to_rgb

    dark = np.mean(to_rgb(panel.get_facecolor())) < 0.5
    blues = colormaps["Blues_r" if dark else "Blues"]
    return ListedColormap(blues(np.linspace(*(_ON_DARK if dark else _ON_LIGHT), 256)))
