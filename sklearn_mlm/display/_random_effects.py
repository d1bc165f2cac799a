"""`RandomEffectsDisplay`: the groups' empirical-Bayes estimates, how they are distributed and which stand out."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import stats

from .._inputs import check_choice, check_level, is_whole
from ..inference._fits import random_intercept_fit_of
from ..inference._random_effects import random_effects_table
from ._style import (
    BLUE,
    GREY,
    PALE,
    SCALES,
    SKY,
    VERMILION,
    axes_for,
    count,
    ink,
    named,
    percent,
    plural,
    short,
    shown,
    tidy,
)

_KINDS = ("hist", "caterpillar", "qq")
# Up to so many groups each has a line of its own and its label; up to so many more, a line; beyond, a band.
_MAX_LABELLED, _MAX_LINES = 40, 1_000
# Ranks at which a band is drawn: as fine as a screen shows.
_BAND_POINTS = 400
# More points than this are drawn as an image.
_MANY = 1_500
# Half of the width, relative to the intercept, of the one bar of effects that are all 0.
_NO_SPREAD = 0.01


def _headroom(ax: Any, share: float) -> None:
    """Leave room for a legend at the top."""
    low, high = ax.get_ylim()
    ax.set_ylim(low, low + (high - low) * (1.0 + share))


class RandomEffectsDisplay:
    """The empirical-Bayes estimates of the groups' effects: how they are distributed, which groups stand out.

    Make one with `from_estimator`; `plot` draws the same estimates in another way.

    Parameters
    ----------
    table : pandas.DataFrame
        As `sklearn_mlm.inference.random_effects_table` returns it.
    group_sd : float
        tau, in units of y.
    intercept : float
        The fixed intercept, in units of y.
    level : float
        Of the intervals.
    outcome_name : str
        What y is called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    bars_ : matplotlib BarContainer or None
        The histogram ("hist").
    points_ : matplotlib Line2D or None
        The estimates ("caterpillar", "qq").
    intervals_ : matplotlib LineCollection or PolyCollection, or None
        Intervals of the effects ("caterpillar"), or the band in which estimates are expected ("qq").
    line_ : matplotlib Line2D
        The normal curve ("hist"), the population ("caterpillar"), or where normal effects would lie ("qq").

    See Also
    --------
    ShrinkageDisplay : The estimates against the groups' raw means.
    sklearn_mlm.inference.random_effects_table : The figures.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.display import RandomEffectsDisplay
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> display = RandomEffectsDisplay.from_estimator(model, kind="caterpillar")
    >>> len(display.ax_.get_yticks())
    18
    >>> plt.close(display.figure_)
    """

    def __init__(
        self, *, table: pd.DataFrame, group_sd: float, intercept: float, level: float = 0.95, outcome_name: str = "y"
    ):
        self.table = table
        self.group_sd = group_sd
        self.intercept = intercept
        self.level = level
        self.outcome_name = outcome_name

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        *,
        kind: str = "hist",
        scale: str = "deviation",
        level: float = 0.95,
        extremes: int | None = None,
        bins: Any = "auto",
        ax: Any = None,
    ) -> Self:
        """Draw the random effects of a fitted model.

        Parameters
        ----------
        model : RandomInterceptRegressor
            A fitted model.
        kind : {"hist", "caterpillar", "qq"}, default="hist"
            "hist": their histogram, with the normal distribution that the model has for the true effects. "caterpillar":
            in ascending order, with intervals. "qq": against normal quantiles, each estimate over the root of its
            reliability, which gives all of them the same variance whatever the size of the group.
        scale : {"deviation", "absolute"}, default="deviation"
            Whether effects are deviations from the fixed intercept, or intercepts of groups.
        level : float, default=0.95
            Of the intervals, by the conditional standard deviation, and of the band of "qq".
        extremes : int or None, default=None
            For "caterpillar", show this many of the lowest and of the highest groups by name, and no others. None shows all:
            by name up to 40, and as a band beyond 1,000.
        bins : int, str or array-like, default="auto"
            For "hist", as numpy.histogram_bin_edges takes them.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : RandomEffectsDisplay

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn_mlm import RandomInterceptRegressor
        >>> from sklearn_mlm.datasets import make_schools
        >>> from sklearn_mlm.display import RandomEffectsDisplay
        >>> X, y, school = make_schools(random_state=0, return_X_y_groups=True, as_frame=True)
        >>> null = RandomInterceptRegressor().fit(None, y, groups=school)
        >>> display = RandomEffectsDisplay.from_estimator(null, scale="absolute")
        >>> display.ax_.get_xlabel()
        'intercept of each school in math (EB estimate)'
        >>> plt.close(display.figure_)
        """
        fit = random_intercept_fit_of(model)
        check_level(level)
        display = cls(
            table=random_effects_table(model, level),
            group_sd=float(np.sqrt(fit.group_variance)),
            intercept=fit.intercept,
            level=level,
            outcome_name=shown(fit.outcome_name),
        )
        return display.plot(ax, kind=kind, scale=scale, extremes=extremes, bins=bins)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "hist",
        scale: str = "deviation",
        extremes: int | None = None,
        bins: Any = "auto",
    ) -> Self:
        """Draw the estimates.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        kind : {"hist", "caterpillar", "qq"}, default="hist"
            What to draw, as in `from_estimator`.
        scale : {"deviation", "absolute"}, default="deviation"
            Whether effects are deviations from the fixed intercept, or intercepts of groups.
        extremes : int or None, default=None
            For "caterpillar", how many of the lowest and of the highest groups to show; None shows all.
        bins : int, str or array-like, default="auto"
            For "hist", as numpy.histogram_bin_edges takes them.

        Returns
        -------
        display : RandomEffectsDisplay
            Itself, with the artists as attributes.
        """
        check_choice("kind", kind, _KINDS)
        check_choice("scale", scale, SCALES)
        if extremes is not None and not is_whole(extremes):
            raise ValueError(f"extremes must be a whole number, at least 1, or None; found {extremes!r}.")
        table = self.table.sort_values("effect", kind="stable")
        cut = None
        if kind == "caterpillar" and extremes is not None and 2 * extremes < len(table):
            table = pd.concat([table.iloc[:extremes], table.iloc[-extremes:]])
            cut = extremes
        height = 0.19 * len(table) + 1.2 if kind == "caterpillar" and (cut or len(table) <= _MAX_LABELLED) else 4.4
        size = (5.2, 4.4) if kind == "qq" else (6.4, max(height, 2.4))
        with axes_for(type(self).__name__, ax, size) as self.ax_:
            self.figure_ = self.ax_.figure
            self.bars_ = self.points_ = None
            self.intervals_: Any = None
            self._absolute = scale == "absolute"
            at = self.intercept if self._absolute else 0.0
            if kind == "hist":
                self._draw_histogram(at, bins)
            elif kind == "caterpillar":
                self._draw_caterpillar(table, at, cut)
            else:
                self._draw_quantiles(table, at)
            tidy(self.ax_)
        return self

    def _label(self) -> str:
        """Return what the axis of effects shows."""
        noun = named(self.table.index, "group")
        deviation = f"effect of each {noun} on {self.outcome_name}"
        return f"{f'intercept of each {noun} in {self.outcome_name}' if self._absolute else deviation} (EB estimate)"

    def _draw_histogram(self, at: float, bins: Any) -> None:
        """Draw how many groups have which effect, and the curve of the model."""
        effects = self.table["effect"].to_numpy() + at
        span = None if np.ptp(effects) > 0 else (at - _NO_SPREAD * (abs(at) or 1.0), at + _NO_SPREAD * (abs(at) or 1.0))
        edges = np.histogram_bin_edges(effects, bins=bins, range=span)
        heights, _ = np.histogram(effects, edges)
        spread = float(self.table["effect"].std())
        self.bars_ = self.ax_.bar(
            edges[:-1],
            heights,
            np.diff(edges),
            align="edge",
            color=SKY,
            edgecolor="white",
            linewidth=0.5 if len(heights) < 60 else 0.0,
            label=f"EB estimates of {count(len(effects))} groups: SD {short(spread)}",
        )
        self.line_ = None
        if self.group_sd > 0:
            low, high = min(edges[0], at - 3.3 * self.group_sd), max(edges[-1], at + 3.3 * self.group_sd)
            grid = np.linspace(low, high, 400)
            curve = len(effects) * float(np.mean(np.diff(edges))) * stats.norm.pdf(grid, at, self.group_sd)
            mean = short(at, self.group_sd) if self._absolute else "0"
            label = f"true effects by the model: N({mean}, τ²), SD τ = {short(self.group_sd)}"
            (self.line_,) = self.ax_.plot(grid, curve, color=ink(), linewidth=1.8, label=label)
        self.ax_.set(xlabel=self._label(), ylabel="number of groups")
        note = "EB estimates are shrunk" + (", so they spread less than τ" if spread < self.group_sd else " towards 0")
        if self.group_sd == 0:
            note = "τ is estimated as 0: no effects"
        handles = [self.bars_, self.line_] if self.line_ else [self.bars_]
        legend = self.ax_.legend(
            handles=handles, title=note, loc="upper left", frameon=False, alignment="left", fontsize="small"
        )
        legend.get_title().set_fontsize("small")
        _headroom(self.ax_, 0.33)

    def _draw_caterpillar(self, table: pd.DataFrame, at: float, cut: int | None) -> None:
        """Draw groups from the lowest effect up, each with its interval."""
        rank = np.arange(1.0, len(table) + 1.0)
        if cut is not None:
            rank[cut:] += 1.0
        low, mid, high = (table[column].to_numpy() + at for column in ("ci_lower", "effect", "ci_upper"))
        apart = (low > at) | (high < at)
        self.line_ = self.ax_.axvline(at, color=ink(), linewidth=0.8, zorder=2.5)
        labelled = cut is not None or len(table) <= _MAX_LABELLED
        colored = labelled or len(table) <= _MAX_LINES
        if colored:
            colors = np.where(apart, VERMILION, GREY if labelled else PALE)
            self.intervals_ = self.ax_.hlines(rank, low, high, colors=colors.tolist(), linewidth=1.6 if labelled else 0.8)
            # Lines moved to whole pixels would leave stripes.
            self.intervals_.set_snap(False)
        else:
            # Each step of the band is the mean of the groups of neighbouring ranks.
            ends = np.linspace(0, len(table), _BAND_POINTS + 1).astype(int)
            size = np.diff(ends)
            lower, upper = (np.add.reduceat(limit, ends[:-1]) / size for limit in (low, high))
            middle = np.add.reduceat(rank, ends[:-1]) / size
            self.intervals_ = self.ax_.fill_betweenx(middle, lower, upper, color=PALE, linewidth=0)
        (self.points_,) = self.ax_.plot(
            mid, rank, linestyle="none", marker="o", color=BLUE, markersize=4.0 if labelled else 1.5, rasterized=not labelled
        )
        noun = named(table.index, "group")
        if labelled:
            self.ax_.set_yticks(rank, [shown(label) for label in table.index])
            self.ax_.set_ylabel(noun)
            if cut is not None:
                left_out = f"{count(len(self.table) - len(table))} groups between"
                self.ax_.text(
                    at,
                    cut + 1.0,
                    left_out,
                    ha="center",
                    va="center",
                    fontsize="small",
                    backgroundcolor=self.ax_.get_facecolor(),
                )
        else:
            self.ax_.set_ylabel(f"rank among {count(len(table))} {plural(noun)}")
            self.ax_.yaxis.set_major_formatter("{x:,.0f}")
        self.ax_.set(xlabel=self._label(), ylim=(0.4 - 0.02 * rank[-1], 1.02 * rank[-1] + 0.6))
        said = f"{count(apart.sum())} of {count(len(table))} intervals ({percent(self.level)}) leave out"
        color = " (orange)" if colored and apart.any() else ""
        self.ax_.set_title(
            f"{said} {short(at) if self._absolute else '0'}{color}", loc="left", fontsize="medium", color=ink()
        )

    def _draw_quantiles(self, table: pd.DataFrame, at: float) -> None:
        """Draw estimates of equal variance against normal quantiles, with the band of samples that are normal."""
        reliability = table["reliability"].to_numpy()
        equal = np.divide(table["effect"].to_numpy(), np.sqrt(reliability), out=np.zeros(len(table)), where=reliability > 0)
        equal = at + np.sort(equal)
        n = len(equal)
        ranks = np.arange(1, n + 1)
        normal = stats.norm.ppf((ranks - 0.5) / n)
        # Order statistics of a uniform sample are beta; the tails, where ranks matter one by one, are kept.
        some = np.unique(np.concatenate([ranks[:50], ranks[-50:], np.linspace(1, n, 200).astype(int)]))
        half = (1.0 - self.level) / 2.0
        band = [at + self.group_sd * stats.norm.ppf(stats.beta.ppf(p, some, n + 1 - some)) for p in (half, 1.0 - half)]
        noun = named(table.index, "group")
        self.intervals_ = self.ax_.fill_between(
            normal[some - 1],
            *band,
            color=PALE,
            alpha=0.5,
            linewidth=0,
            label=f"{percent(self.level)} of normal samples, point by point",
        )
        (self.line_,) = self.ax_.plot(
            normal[[0, -1]],
            at + self.group_sd * normal[[0, -1]],
            color=ink(),
            linewidth=1.2,
            label=f"normal, SD τ = {short(self.group_sd)}",
        )
        (self.points_,) = self.ax_.plot(
            normal,
            equal,
            linestyle="none",
            marker="o",
            color=BLUE,
            markersize=4 if n <= 100 else 2,
            rasterized=n > _MANY,
            label=f"{count(n)} {plural(noun)}",
        )
        what = f"intercept of each {noun} in" if self._absolute else f"effect of each {noun} on"
        self.ax_.set(xlabel="normal quantile", ylabel=f"{what} {self.outcome_name}, EB / √reliability")
        self.ax_.legend(loc="upper left", frameon=False, fontsize="small")
        _headroom(self.ax_, 0.2)
