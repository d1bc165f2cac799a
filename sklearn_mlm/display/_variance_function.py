"""`VarianceFunctionDisplay`: the variance of y, and the intraclass correlation, as functions of one column of X."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any, Self

import numpy as np
import pandas as pd

from .._inputs import is_whole
from .._typing import Floats
from ..inference._fits import GroupedModel, grouped_fit_of, last_step, locate_all
from ._display import Display
from ._grid import columns_of_model, grid_of
from ._group_choice import group_key, refuse_columns_of_groups
from ._style import BLUE, PALE, VERMILION, axes_for, names_of, panels_of, plural, short, styled, text_color

# A line of the title is no longer than this.
_LONG_TITLE = 100
# A variance that changes by less than this share of its mean over the column is constant.
_SAME = 1e-9
# Points to the right of its place at which the text of a value is, by its alignment.
_BESIDE = {"left": 4, "center": 0, "right": -4}


class VarianceFunctionDisplay(Display):
    """The variance of y, between groups and within them, and the intraclass correlation as functions of one column of X.

    If slopes vary between groups, the lines of the groups are close together at some values of x and far apart at others.
    The variance that the groups give a row is z' Sigma z, a parabola in a column with a random slope. It is least where the
    lines are closest, and the share of the groups in the variance of y, the intraclass correlation (ICC), changes with it.
    The variance within groups, sigma2, is the same everywhere; if the weights are precisions, it is that of a row of weight
    1.

    Create a display with `from_estimator`.

    Parameters
    ----------
    values : pandas.Series of shape (n_points,)
        Values of the column.
    group_variance : ndarray of shape (n_points,)
        The variance between groups, z' Sigma z, in units of y squared.
    residual_variance : float
        The variance within groups, sigma2, in units of y squared.
    least : tuple of two float or None
        The value of the column at which the variance between groups is least, and this variance; None if it is constant.
    held : str
        The values of the other columns, in a few words.
    feature_name, outcome_name, group_name : str
        Names of the column, of y and of the groups, for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that the panels divide; they are invisible themselves.
    axes_ : ndarray of matplotlib Axes of shape (2,)
        The panels: the variances, and the ICC.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    lines_ : list of three matplotlib Line2D
        The variance between groups, the variance of y, and the ICC.
    areas_ : list of two matplotlib PolyCollection
        The parts of the variance of y: within groups, above that between groups.
    mark_ : matplotlib Line2D or None
        The place at which the variance between groups is least; None if it is constant.

    See Also
    --------
    VarianceDisplay : The shares of the variance in a model in which only the intercept varies.
    sklearn_mlm.inference.icc : The intraclass correlation as numbers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm import MixedEffectsRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.display import VarianceFunctionDisplay
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject)
    >>> display = VarianceFunctionDisplay.from_estimator(model, X, "days")
    >>> display.icc[[0, -1]].round(2)
    array([0.48, 0.85])
    >>> plt.close(display.figure_)
    """

    _MADE_BY = "from_estimator(model, X, feature)"

    def __init__(
        self,
        *,
        values: pd.Series,
        group_variance: np.ndarray,
        residual_variance: float,
        least: tuple[float, float] | None = None,
        held: str = "",
        feature_name: str = "x",
        outcome_name: str = "y",
        group_name: str = "group",
    ):
        self.values = values
        self.group_variance = group_variance
        self.residual_variance = residual_variance
        self.least = least
        self.held = held
        self.feature_name = feature_name
        self.outcome_name = outcome_name
        self.group_name = group_name

    @property
    def icc(self) -> np.ndarray:
        """The intraclass correlation at each value of the column; NaN without variance."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.group_variance / (self.group_variance + self.residual_variance))

    @classmethod
    def from_estimator(
        cls,
        model: GroupedModel,
        X: Any,
        feature: str | int,
        *,
        n_points: int = 201,
        at: Mapping[Any, Any] | None = None,
        ax: Any = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Compute the variances along a column, and draw them.

        Parameters
        ----------
        model : RandomInterceptRegressor or MixedEffectsRegressor
            A fitted model, or a pipeline or search that ends in one.
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Rows as the model or the pipeline takes them, which give the range of the column and the values of the others.
        feature : str or int
            Name or position of the column, which holds numbers.
        n_points : int, default=201
            Number of points of a line.
        at : dict, default=None
            Values of other columns, by name or position. The rest of the columns are held at their mean if they are numeric,
            and at their most frequent value otherwise.
        ax : matplotlib Axes, default=None
            Axes to draw into, part of a grid of subplots; None makes a figure.
        line_kwargs : dict, default=None
            Options of the lines (as in matplotlib's plot).

        Returns
        -------
        display : VarianceFunctionDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If X has no such column, if it does not vary or is not numeric, if the model does not take the values at which
            columns are held, or if a column with random coefficients is not in X.
        """
        fit = grouped_fit_of(model)
        refuse_columns_of_groups(fit)
        if not is_whole(n_points, least=3):
            raise ValueError(f"n_points must be a whole number, at least 3; found {n_points!r}.")
        last, _ = last_step(model)
        X = columns_of_model(last, X)
        grid = grid_of(X, feature, n_points=int(n_points), at=at, group_key=group_key(last, last is model, X))
        if grid.categorical:
            raise ValueError(f"feature={feature!r} does not hold numbers, along which a variance could be drawn.")
        last, rows = last_step(model, grid.rows())
        rows, codes = locate_all(last, rows, "population")
        variance = fit.random_variance(rows, len(codes))
        group_name, outcome_name = names_of(fit)
        display = cls(
            values=grid.values,
            group_variance=variance,
            residual_variance=fit.residual_variance,
            least=_least(np.asarray(grid.values, dtype=np.float64), variance),
            held=grid.held_text(),
            feature_name=grid.name,
            outcome_name=outcome_name,
            group_name=group_name,
        )
        return display.plot(ax, line_kwargs=line_kwargs)

    def plot(self, ax: Any = None, *, line_kwargs: dict[str, Any] | None = None) -> Self:
        """Draw the variances, and the intraclass correlation.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into, part of a grid of subplots; None makes a figure.
        line_kwargs : dict, default=None
            Options of the lines, as in `from_estimator`.

        Returns
        -------
        display : VarianceFunctionDisplay
            The same display, with its artists as attributes.
        """
        with axes_for(type(self).__name__, ax, (10.0, 4.0)) as self.ax_:
            self.figure_ = self.ax_.figure
            self.axes_ = np.array(panels_of(self.ax_, 1, 2)[0])
            self.lines_: list[Any] = []
            self.areas_: list[Any] = []
            self.mark_: Any = None
            self._draw_variances(self.axes_[0], line_kwargs)
            self._draw_icc(self.axes_[1], line_kwargs)
            for panel in self.axes_:
                panel.set_xlabel(self.feature_name)
                panel.set_xlim(self.values.iloc[0], self.values.iloc[-1])
                panel.spines[["top", "right"]].set_visible(False)
        return self

    def _draw_variances(self, panel: Any, line_kwargs: dict[str, Any] | None) -> None:
        """Draw the variance between groups, and above it that within groups."""
        x, between = self.values.to_numpy(), self.group_variance
        total = between + self.residual_variance
        within, groups = f"within groups: σ² = {short(self.residual_variance)}", f"between {plural(self.group_name)}"
        self.areas_ = [
            panel.fill_between(x, between, total, color=PALE, alpha=0.6, linewidth=0, label=within),
            panel.fill_between(x, 0.0, between, color=BLUE, alpha=0.35, linewidth=0, label=groups),
        ]
        self._draw_line(panel, x, between, {"color": BLUE}, line_kwargs)
        self._draw_line(panel, x, total, {"color": text_color(), "label": f"variance of {self.outcome_name}"}, line_kwargs)
        handles = [self.lines_[1], *self.areas_]
        if self.least is not None:
            at, variance = self.least
            place = f"{self.feature_name.strip()} = {short(at, float(np.ptp(x)))}"
            label = f"least between groups: {short(variance, between.max())} at {place}"
            look = {"color": VERMILION, "marker": "o", "linestyle": "none", "clip_on": False, "zorder": 4}
            (self.mark_,) = panel.plot([at], [variance], label=label, **look)
            handles.append(self.mark_)
        panel.set_ylabel(f"variance, in units of {self.outcome_name} squared")
        top = float(total.max()) or 1.0
        panel.set_ylim(0.0, 1.45 * top)
        panel.legend(handles=handles, loc="upper left", frameon=False, fontsize="small", borderaxespad=0.2)
        held = fill(f"at {self.held}", _LONG_TITLE) if self.held else ""
        panel.set_title(held, loc="left", fontsize="small", color=text_color())

    def _draw_icc(self, panel: Any, line_kwargs: dict[str, Any] | None) -> None:
        """Draw the intraclass correlation."""
        x, icc = self.values.to_numpy(), self.icc
        self._draw_line(panel, x, icc, {"color": BLUE}, line_kwargs)
        marked = {x[0]: "left", x[-1]: "right"}
        if self.least is not None:
            at = self.least[0]
            panel.plot([at], np.interp([at], x, icc), color=VERMILION, marker="o", clip_on=False, zorder=4)
            if 0.1 < (at - x[0]) / (x[-1] - x[0]) < 0.9:
                marked[at] = "center"
        for at, place in marked.items():
            value = float(np.interp(at, x, icc))
            if np.isfinite(value):
                text = {"xytext": (_BESIDE[place], 7), "textcoords": "offset points", "ha": place}
                panel.annotate(f"{value:.2f}", (at, value), fontsize="small", color=text_color(), **text)
        panel.set(ylim=(0.0, 1.08), ylabel=f"share of {plural(self.group_name)} in the variance (ICC)")

    def _draw_line(self, panel: Any, x: Floats, y: Floats, look: dict[str, Any], line_kwargs: dict[str, Any] | None) -> None:
        """Draw a line."""
        from matplotlib.lines import Line2D

        self.lines_ += panel.plot(x, y, **styled({"linewidth": 2.0, **look}, line_kwargs, Line2D))


def _least(x: Floats, variance: Floats) -> tuple[float, float] | None:
    """Return the place at which a variance is least, and its value there; None if it is constant.

    Between the points, the variance is the parabola through the three points about the least of them, which is exact for
    straight lines of groups.
    """
    if np.ptp(variance) <= _SAME * float(variance.mean()):
        return None
    lowest = int(variance.argmin())
    if lowest in (0, len(x) - 1):
        return float(x[lowest]), float(variance[lowest])
    before, here, after = variance[lowest - 1 : lowest + 2].tolist()
    bend = before - 2.0 * here + after
    share = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(x[lowest] + share * (x[1] - x[0])), max(float(here - 0.25 * (before - after) * share), 0.0)
