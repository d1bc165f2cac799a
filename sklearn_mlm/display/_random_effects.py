"""`RandomEffectsDisplay`: the distribution of the empirical-Bayes estimates, and the groups that stand out."""

from __future__ import annotations

from typing import Any, Literal, Self, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice, check_level, is_whole
from .._typing import FittedModel
from ..inference._fits import factor_fit_of
from ..inference._random_effects import random_effects_table
from ._display import Display
from ._group_choice import flat_labels
from ._random_columns import coefficient_text, coefficients_of, fixed_effects_of
from ._style import (
    BLUE,
    GREY,
    MAX_VECTOR_POINTS,
    PALE,
    SKY,
    VERMILION,
    Scale,
    add_headroom,
    axes_for,
    count,
    label_text,
    name_text,
    panels_of,
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
# Panels beside each other, if there are several coefficients.
_MOST_COLUMNS = 3
# Half the width of the single bar of effects that are all 0, relative to the intercept.
_NO_SPREAD = 0.01


class RandomEffectsDisplay(Display):
    """The empirical-Bayes estimates of the groups' effects: their distribution, and the groups that stand out.

    If several coefficients vary between groups, each has a panel, in which the groups are in the order of that coefficient.

    Create a display with `from_estimator`; `plot` draws the same estimates as another kind of picture.

    Parameters
    ----------
    table : pandas.DataFrame
        The table that `sklearn_mlm.inference.random_effects_table` returns: indexed by group label, or by group label and
        coefficient.
    group_sd : float or pandas.Series
        The standard deviation tau of the groups, in units of y; or the standard deviation of each coefficient, by name.
    intercept : float or pandas.Series
        The fixed intercept, in units of y; or the fixed effect of each coefficient's column, by name.
    level : float
        Confidence level of the intervals.
    outcome_name : str
        Name of y, for the labels.
    coefficient : str or None
        Name of the coefficient that the effects are of; None for the intercepts of a model in which nothing else varies.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot; with several coefficients, the axes that the panels divide.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    panels_ : dict of RandomEffectsDisplay
        With several coefficients, the display of each, by name, which have the artists; empty otherwise.
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
    RandomCoefficientsDisplay : Two coefficients against each other.
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

    With random slopes:

    >>> from sklearn_mlm import MixedEffectsRegressor
    >>> slopes = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject)
    >>> display = RandomEffectsDisplay.from_estimator(slopes, kind="caterpillar")
    >>> list(display.panels_)
    ['(Intercept)', 'days']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        table: pd.DataFrame,
        group_sd: float | pd.Series,
        intercept: float | pd.Series,
        level: float = 0.95,
        outcome_name: str = "y",
        coefficient: str | None = None,
    ):
        self.table = table
        self.group_sd = group_sd
        self.intercept = intercept
        self.level = level
        self.outcome_name = outcome_name
        self.coefficient = coefficient

    @classmethod
    def from_estimator(
        cls,
        model: FittedModel,
        *,
        kind: Kind = "hist",
        factor: str | None = None,
        coefficient: str | None = None,
        scale: Scale = "deviation",
        level: float = 0.95,
        extremes: int | None = None,
        bins: int | str | ArrayLike = "auto",
        ax: Any = None,
    ) -> Self:
        """Draw the random effects of a fitted model.

        Parameters
        ----------
        model : RandomInterceptRegressor or MixedEffectsRegressor
            A fitted model, or a pipeline or search that ends in one.
        kind : {"hist", "caterpillar", "qq"}, default="hist"
            "hist": a histogram, with the normal distribution of the true effects under the model. "caterpillar": the
            estimates in ascending order, with intervals. "qq": the estimates against normal quantiles; each estimate is
            divided by the square root of its reliability, so that all have the same variance whatever the group's size.
        factor : str or None, default=None
            The grouping factor whose levels are shown; needed if the model has several.
        coefficient : str, default=None
            Name of the random coefficient to show, such as "(Intercept)" or that of a column. None shows all, each in a
            panel.
        scale : {"deviation", "absolute"}, default="deviation"
            Whether to show effects as deviations from the fixed effect, or as coefficients of the groups, such as their
            intercepts.
        level : float, default=0.95
            Confidence level of the intervals, which use the conditional sd, and of the band of "qq".
        extremes : int or None, default=None
            For "caterpillar", show only this many groups with the lowest effects and as many with the highest, with their
            labels. None shows all groups: with labels if there are up to 40, and as a band if there are more than 1,000.
        bins : int, str or array-like, default="auto"
            For "hist", the bins, as numpy.histogram_bin_edges takes them.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure. Several coefficients need axes that are part of a grid of subplots.

        Returns
        -------
        display : RandomEffectsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `coefficient` is not a random coefficient of the model, or another option is unknown.

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
        return cls._undrawn(model, level, coefficient, factor).plot(ax, kind=kind, scale=scale, extremes=extremes, bins=bins)

    @classmethod
    def _undrawn(
        cls, model: FittedModel, level: float = 0.95, coefficient: str | None = None, factor: str | None = None
    ) -> Self:
        """Return the display of a fitted model, not drawn.

        Parameters
        ----------
        model : RandomInterceptRegressor or MixedEffectsRegressor
            A fitted model, or a pipeline or search that ends in one.
        level : float, default=0.95
            Confidence level of the intervals.
        coefficient : str, default=None
            Name of a random coefficient; None takes all.
        factor : str or None, default=None
            The grouping factor whose levels are shown; needed if the model has several.

        Returns
        -------
        display : RandomEffectsDisplay
            The display.
        """
        fit = factor_fit_of(model, factor)
        check_level(level)
        names = list(coefficients_of(fit))
        if coefficient is not None and coefficient not in names:
            raise ValueError(f"coefficient must be one of {', '.join(map(repr, names))}; found {coefficient!r}.")
        sd = pd.Series(np.sqrt(fit.random_covariance.diagonal()), index=names)
        fixed = pd.Series(fixed_effects_of(fit), index=names)
        table = random_effects_table(model, level, factor=factor)
        if fit.labels.nlevels > 1:
            labels = flat_labels(fit.labels).repeat(len(names))
            table.index = pd.MultiIndex.from_arrays([labels, table.index.get_level_values(-1)])
        table.index = table.index.set_names([fit.group_name, *table.index.names[1:]])
        display = cls(table=table, group_sd=sd, intercept=fixed, level=level, outcome_name=label_text(fit.outcome_name))
        if len(names) == 1:
            return display._alone(names[0], None)
        return display if coefficient is None else display._alone(coefficient, coefficient)

    def _alone(self, name: str, coefficient: str | None) -> Self:
        """Return the display of one of the coefficients, which labels call by its name if other coefficients vary too."""
        table = self.table
        if table.index.nlevels > 1:
            table = table[table.index.get_level_values(-1) == name]
            table = table.set_axis(table.index.get_level_values(0), axis=0)
        return type(self)(
            table=table,
            group_sd=float(pd.Series(self.group_sd)[name]),
            intercept=float(pd.Series(self.intercept)[name]),
            level=self.level,
            outcome_name=self.outcome_name,
            coefficient=coefficient,
        )

    @property
    def _sd(self) -> float:
        """The standard deviation of the only coefficient."""
        return float(cast(float, self.group_sd))

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
            Whether to show effects as deviations from the fixed effect, or as coefficients of the groups.
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
        self.bars_ = self.points_ = self.line_ = None
        self.intervals_: Any = None
        self.panels_: dict[str, Self] = {}
        options = {"kind": kind, "scale": scale, "extremes": extremes, "bins": bins}
        if isinstance(self.group_sd, pd.Series):
            return self._plot_several(ax, options)
        table = self.table.sort_values("effect", kind="stable")
        cut = None
        if kind == "caterpillar" and extremes is not None and 2 * extremes < len(table):
            table = pd.concat([table.iloc[:extremes], table.iloc[-extremes:]])
            cut = extremes
        with axes_for(type(self).__name__, ax, _size(kind, len(table), cut)) as self.ax_:
            self.figure_ = self.ax_.figure
            self._absolute = scale == "absolute"
            at = float(cast(float, self.intercept)) if self._absolute else 0.0
            if kind == "hist":
                self._draw_histogram(at, bins)
            elif kind == "caterpillar":
                self._draw_caterpillar(table, at, cut)
            else:
                self._draw_quantiles(table, at)
            self.ax_.spines[["top", "right"]].set_visible(False)
        return self

    def _plot_several(self, ax: Any, options: dict[str, Any]) -> Self:
        """Draw a panel for each coefficient."""
        names = list(pd.Series(self.group_sd).index)
        n_columns = min(len(names), _MOST_COLUMNS)
        n_rows = -(-len(names) // n_columns)
        n_groups = len(self.table) // len(names)
        shown = n_groups if options["extremes"] is None else min(n_groups, 2 * options["extremes"])
        width, height = _size(options["kind"], shown, options["extremes"])
        with axes_for(type(self).__name__, ax, (0.86 * width * n_columns, height * n_rows)) as self.ax_:
            self.figure_ = self.ax_.figure
            panels, _ = panels_of(self.ax_, n_rows, n_columns)
            for panel in panels[len(names) :]:
                panel.remove()
            for panel, name in zip(panels, names, strict=False):
                self.panels_[name] = self._alone(name, name).plot(panel, **options)
        return self

    def _effect_text(self, of: str = "") -> str:
        """Return what an effect is, on the scale of the picture; `of` says of what kind."""
        if self.coefficient is not None:
            return coefficient_text(self.coefficient, self.outcome_name, absolute=self._absolute, of=of)
        group_name = name_text(self.table.index, "group")
        effect = "intercept" if self._absolute else "deviation"
        return f"{effect} of each {group_name} in {self.outcome_name}{of}"

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
        if self._sd > 0:
            low, high = min(edges[0], at - 3.3 * self._sd), max(edges[-1], at + 3.3 * self._sd)
            grid = np.linspace(low, high, 400)
            curve = len(effects) * float(np.mean(np.diff(edges))) * stats.norm.pdf(grid, at, self._sd)
            mean = short(at, self._sd) if self._absolute else "0"
            label = f"true effects by the model: N({mean}, τ²), SD τ = {short(self._sd)}"
            (self.line_,) = self.ax_.plot(grid, curve, color=text_color(), linewidth=1.8, label=label)
            handles.append(self.line_)
            note = f"EB estimates are shrunk{', so they spread less than τ' if spread < self._sd else ' towards 0'}"
        self.ax_.set(xlabel=self._effect_text(" (EB estimate)"), ylabel="number of groups")
        options = {"frameon": False, "alignment": "left", "fontsize": "small", "title_fontsize": "small"}
        self.ax_.legend(handles=handles, title=note, loc="upper left", **options)
        add_headroom(self.ax_, 0.33)

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
        self.ax_.set(xlabel=self._effect_text(" (EB estimate)"), ylim=(0.4 - 0.02 * rank[-1], 1.02 * rank[-1] + 0.6))
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
        band = [at + self._sd * stats.norm.ppf(stats.beta.ppf(p, some, n + 1 - some)) for p in (half, 1.0 - half)]
        label = f"{percent(self.level)} of normal samples, point by point"
        self.intervals_ = self.ax_.fill_between(normal[some - 1], *band, color=PALE, alpha=0.5, linewidth=0, label=label)
        ends, label = normal[[0, -1]], f"normal, SD τ = {short(self._sd)}"
        (self.line_,) = self.ax_.plot(ends, at + self._sd * ends, color=text_color(), linewidth=1.2, label=label)
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
        of = ", EB / √reliability" if self.coefficient is None else " (EB / √reliability)"
        self.ax_.set(xlabel="normal quantile", ylabel=self._effect_text(of))
        self.ax_.legend(loc="upper left", frameon=False, fontsize="small")
        add_headroom(self.ax_, 0.2)


def _size(kind: Kind, n_shown: int, cut: int | None) -> tuple[float, float]:
    """Return the width and the height of a picture in inches; labels of groups need a line each."""
    if kind == "qq":
        return 5.2, 4.4
    if kind == "caterpillar" and (cut is not None or n_shown <= _MAX_LABELLED):
        return 6.4, max(0.19 * n_shown + 1.2, 2.4)
    return 6.4, 4.4
