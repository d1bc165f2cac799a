"""`RandomEffectsDisplay`: the distribution of the empirical-Bayes estimates, and the groups that stand out."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice, check_level, is_whole
from .._typing import FittedModel
from ..inference._fits import random_intercept_fit_of
from ..inference._random_effects import random_effects_table
from ._display import Display
from ._style import (
    BLUE,
    GREY,
    MAX_VECTOR_POINTS,
    PALE,
    SKY,
    VERMILION,
    Scale,
    axes_for,
    count,
    label_text,
    name_text,
    percent,
    plural,
    short,
    text_color,
)

Kind = Literal["hist", "caterpillar", "qq"]

# Up to _MAX_LABELLED groups have a line and a label each, up to _MAX_LINES groups a line each, and more share a band.
_MAX_LABELLED, _MAX_LINES = 40, 1_000
# Number of steps of the band: as fine as a screen can show.
_BAND_POINTS = 400
# Half the width of the single bar of effects that are all 0, relative to the intercept.
_NO_SPREAD = 0.01


class RandomEffectsDisplay(Display):
    """The empirical-Bayes estimates of the groups' effects: their distribution, and the groups that stand out.

    Create a display with `from_estimator`; `plot` draws the same estimates as another kind of picture.

    Parameters
    ----------
    table : pandas.DataFrame
        The table that `sklearn_mlm.inference.random_effects_table` returns.
    group_sd : float
        The standard deviation tau of the groups, in units of y.
    intercept : float
        The fixed intercept, in units of y.
    level : float
        Confidence level of the intervals.
    outcome_name : str
        Name of y, for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    bars_ : matplotlib BarContainer or None
        The histogram ("hist").
    points_ : matplotlib Line2D or None
        The estimates ("caterpillar", "qq").
    intervals_ : matplotlib LineCollection or PolyCollection, or None
        The intervals of the effects ("caterpillar"), or the band that contains normal samples ("qq").
    line_ : matplotlib Line2D or None
        The normal curve ("hist"; None if tau is 0), the population ("caterpillar"), or the line of normal effects ("qq").

    See Also
    --------
    ShrinkageDisplay : The estimates against the raw means of the groups.
    sklearn_mlm.inference.random_effects_table : The same estimates as a table.

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
        model: FittedModel,
        *,
        kind: Kind = "hist",
        scale: Scale = "deviation",
        level: float = 0.95,
        extremes: int | None = None,
        bins: int | str | ArrayLike = "auto",
        ax: Any = None,
    ) -> Self:
        """Draw the random effects of a fitted model.

        Parameters
        ----------
        model : RandomInterceptRegressor
            A fitted model, or a pipeline or search that ends in one.
        kind : {"hist", "caterpillar", "qq"}, default="hist"
            "hist": a histogram, with the normal distribution of the true effects under the model. "caterpillar": the
            estimates in ascending order, with intervals. "qq": the estimates against normal quantiles; each estimate is
            divided by the square root of its reliability, so that all have the same variance whatever the group's size.
        scale : {"deviation", "absolute"}, default="deviation"
            Whether to show effects as deviations from the fixed intercept, or as intercepts of the groups.
        level : float, default=0.95
            Confidence level of the intervals, which use the conditional sd, and of the band of "qq".
        extremes : int or None, default=None
            For "caterpillar", show only this many groups with the lowest effects and as many with the highest, with their
            labels. None shows all groups: with labels if there are up to 40, and as a band if there are more than 1,000.
        bins : int, str or array-like, default="auto"
            For "hist", the bins, as numpy.histogram_bin_edges takes them.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.

        Returns
        -------
        display : RandomEffectsDisplay
            The display, drawn.

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
            outcome_name=label_text(fit.outcome_name),
        )
        return display.plot(ax, kind=kind, scale=scale, extremes=extremes, bins=bins)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: Kind = "hist",
        scale: Scale = "deviation",
        extremes: int | None = None,
        bins: int | str | ArrayLike = "auto",
    ) -> Self:
        """Draw the estimates.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        kind : {"hist", "caterpillar", "qq"}, default="hist"
            The kind of picture, as in `from_estimator`.
        scale : {"deviation", "absolute"}, default="deviation"
            Whether to show effects as deviations from the fixed intercept, or as intercepts of the groups.
        extremes : int or None, default=None
            For "caterpillar", number of groups to show at each end; None shows all groups.
        bins : int, str or array-like, default="auto"
            For "hist", the bins, as numpy.histogram_bin_edges takes them.

        Returns
        -------
        display : RandomEffectsDisplay
            The same display, with its artists as attributes.
        """
        check_choice("kind", kind, get_args(Kind))
        check_choice("scale", scale, get_args(Scale))
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
            self.bars_ = self.points_ = self.line_ = None
            self.intervals_: Any = None
            self._absolute = scale == "absolute"
            at = self.intercept if self._absolute else 0.0
            if kind == "hist":
                self._draw_histogram(at, bins)
            elif kind == "caterpillar":
                self._draw_caterpillar(table, at, cut)
            else:
                self._draw_quantiles(table, at)
            self.ax_.spines[["top", "right"]].set_visible(False)
        return self

    def _effect_text(self) -> str:
        """Return what an effect is, on the scale of the picture."""
        group_name = name_text(self.table.index, "group")
        effect = "intercept" if self._absolute else "deviation"
        return f"{effect} of each {group_name} in {self.outcome_name}"

    def _draw_histogram(self, at: float, bins: int | str | ArrayLike) -> None:
        """Draw the histogram of the effects, and the curve of the model."""
        from scipy import stats

        effects = self.table["effect"].to_numpy() + at
        half = _NO_SPREAD * (abs(at) or 1.0)
        span = None if np.ptp(effects) > 0 else (at - half, at + half)
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
        handles, note = [self.bars_], "τ is estimated as 0: no effects"
        if self.group_sd > 0:
            low, high = min(edges[0], at - 3.3 * self.group_sd), max(edges[-1], at + 3.3 * self.group_sd)
            grid = np.linspace(low, high, 400)
            curve = len(effects) * float(np.mean(np.diff(edges))) * stats.norm.pdf(grid, at, self.group_sd)
            mean = short(at, self.group_sd) if self._absolute else "0"
            label = f"true effects by the model: N({mean}, τ²), SD τ = {short(self.group_sd)}"
            (self.line_,) = self.ax_.plot(grid, curve, color=text_color(), linewidth=1.8, label=label)
            handles.append(self.line_)
            note = f"EB estimates are shrunk{', so they spread less than τ' if spread < self.group_sd else ' towards 0'}"
        self.ax_.set(xlabel=f"{self._effect_text()} (EB estimate)", ylabel="number of groups")
        options = {"frameon": False, "alignment": "left", "fontsize": "small", "title_fontsize": "small"}
        self.ax_.legend(handles=handles, title=note, loc="upper left", **options)
        _add_headroom(self.ax_, 0.33)

    def _draw_caterpillar(self, table: pd.DataFrame, at: float, cut: int | None) -> None:
        """Draw the groups in ascending order of effects, with their intervals, and with a gap after the first `cut`."""
        rank = np.arange(1.0, len(table) + 1.0)
        if cut is not None:
            rank[cut:] += 1.0
        low, mid, high = (table[column].to_numpy() + at for column in ("ci_lower", "effect", "ci_upper"))
        apart = (low > at) | (high < at)
        self.line_ = self.ax_.axvline(at, color=text_color(), linewidth=0.8, zorder=2.5)
        labelled = cut is not None or len(table) <= _MAX_LABELLED
        colored = labelled or len(table) <= _MAX_LINES
        if colored:
            colors = np.where(apart, VERMILION, GREY if labelled else PALE)
            self.intervals_ = self.ax_.hlines(rank, low, high, colors=colors.tolist(), linewidth=1.6 if labelled else 0.8)
            # Snapping lines to whole pixels would leave stripes.
            self.intervals_.set_snap(False)
        else:
            # Each step of the band is the mean over groups of neighbouring ranks.
            ends = np.linspace(0, len(table), _BAND_POINTS + 1).astype(int)
            size = np.diff(ends)
            lower, upper = (np.add.reduceat(limit, ends[:-1]) / size for limit in (low, high))
            middle = np.add.reduceat(rank, ends[:-1]) / size
            self.intervals_ = self.ax_.fill_betweenx(middle, lower, upper, color=PALE, linewidth=0)
        (self.points_,) = self.ax_.plot(
            mid, rank, linestyle="none", marker="o", color=BLUE, markersize=4.0 if labelled else 1.5, rasterized=not labelled
        )
        group_name = name_text(table.index, "group")
        if labelled:
            self.ax_.set_yticks(rank, [label_text(label) for label in table.index])
            self.ax_.set_ylabel(group_name)
        else:
            self.ax_.set_ylabel(f"rank among {count(len(table))} {plural(group_name)}")
            self.ax_.yaxis.set_major_formatter("{x:,.0f}")
        if cut is not None:
            text = f"{count(len(self.table) - len(table))} groups between"
            style = {"ha": "center", "va": "center", "fontsize": "small", "backgroundcolor": self.ax_.get_facecolor()}
            self.ax_.text(at, cut + 1.0, text, **style)
        self.ax_.set(xlabel=f"{self._effect_text()} (EB estimate)", ylim=(0.4 - 0.02 * rank[-1], 1.02 * rank[-1] + 0.6))
        # The title counts all groups, also where only the extreme ones are drawn.
        whole = self.table
        n_apart = int(((whole["ci_lower"] > 0) | (whole["ci_upper"] < 0)).sum())
        intervals = f"{count(n_apart)} of {count(len(whole))} intervals ({percent(self.level)})"
        color = " (orange)" if colored and apart.any() else ""
        title = f"{intervals} exclude {short(at) if self._absolute else '0'}{color}"
        self.ax_.set_title(title, loc="left", fontsize="medium", color=text_color())

    def _draw_quantiles(self, table: pd.DataFrame, at: float) -> None:
        """Draw estimates of equal variance against normal quantiles, with a band that contains normal samples."""
        from scipy import stats

        reliability = table["reliability"].to_numpy()
        equal = np.divide(table["effect"].to_numpy(), np.sqrt(reliability), out=np.zeros(len(table)), where=reliability > 0)
        equal = at + np.sort(equal)
        n = len(equal)
        ranks = np.arange(1, n + 1)
        normal = stats.norm.ppf((ranks - 0.5) / n)
        # The order statistics of a uniform sample follow beta distributions. The band has every rank of the tails.
        some = np.unique(np.concatenate([ranks[:50], ranks[-50:], np.linspace(1, n, 200).astype(int)]))
        half = (1.0 - self.level) / 2.0
        band = [at + self.group_sd * stats.norm.ppf(stats.beta.ppf(p, some, n + 1 - some)) for p in (half, 1.0 - half)]
        label = f"{percent(self.level)} of normal samples, point by point"
        self.intervals_ = self.ax_.fill_between(normal[some - 1], *band, color=PALE, alpha=0.5, linewidth=0, label=label)
        ends, label = normal[[0, -1]], f"normal, SD τ = {short(self.group_sd)}"
        (self.line_,) = self.ax_.plot(ends, at + self.group_sd * ends, color=text_color(), linewidth=1.2, label=label)
        (self.points_,) = self.ax_.plot(
            normal,
            equal,
            linestyle="none",
            marker="o",
            color=BLUE,
            markersize=4 if n <= 100 else 2,
            rasterized=n > MAX_VECTOR_POINTS,
            label=f"{count(n)} {plural(name_text(table.index, 'group'))}",
        )
        self.ax_.set(xlabel="normal quantile", ylabel=f"{self._effect_text()}, EB / √reliability")
        self.ax_.legend(loc="upper left", frameon=False, fontsize="small")
        _add_headroom(self.ax_, 0.2)


def _add_headroom(ax: Any, share: float) -> None:
    """Add a share of the height of the axes at the top, as room for a legend."""
    low, high = ax.get_ylim()
    ax.set_ylim(low, low + (high - low) * (1.0 + share))
