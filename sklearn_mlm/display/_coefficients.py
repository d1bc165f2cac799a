"""`CoefficientComparisonDisplay`: the coefficients of a comparison with least squares, side by side."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from .._inputs import check_level
from ..baselines._comparison import Comparison
from ..baselines._folds import MIXED, MODELS, OLS, ROBUST, WITHIN
from ..inference._distributions import half_width
from ..likelihood._random_terms import INTERCEPT
from ._display import Display
from ._style import BLUE, GREY, ORANGE, PALE, VERMILION, axes_for, label_text, percent

_COLORS = {OLS: GREY, ROBUST: ORANGE, WITHIN: VERMILION, MIXED: BLUE}
_MARKERS = {OLS: "s", ROBUST: "D", WITHIN: "^", MIXED: "o"}
# A line marks 0 unless 0 is farther from the intervals than this many times their range.
_FAR = 2.0


class CoefficientComparisonDisplay(Display):
    """Estimates and confidence intervals of each coefficient by least squares, its variants and the multilevel model.

    Each coefficient has its own panel with its own scale, and each model its own line in the panel. If two models have the
    same estimate and intervals of different lengths, the short interval ignores the groups; if the estimates differ, the
    coefficient differs within and between groups.

    Create a display with `from_comparison`.

    Parameters
    ----------
    coefficients : pandas.DataFrame
        The columns "estimate", "lower" and "upper", with a row for each (coefficient, model).
    level : float
        Confidence level of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that the panels divide; they are invisible themselves.
    axes_ : ndarray of matplotlib Axes
        The panels, one for each coefficient.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    containers_ : list of matplotlib ErrorbarContainer
        Estimates with their intervals, panel by panel and model by model, without those that a model does not estimate.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm import compare_with_ols
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.display import CoefficientComparisonDisplay
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> display = CoefficientComparisonDisplay.from_comparison(compare_with_ols(X, y, subject, random_state=0))
    >>> [text.get_text() for text in display.axes_[0].get_yticklabels()]
    ['pooled OLS', 'cluster-robust OLS', 'within', 'random intercept']
    >>> plt.close(display.figure_)
    """

    _MADE_BY = "from_comparison(comparison)"

    def __init__(self, *, coefficients: pd.DataFrame, level: float = 0.95):
        self.coefficients = coefficients
        self.level = level

    @classmethod
    def from_comparison(
        cls, comparison: Comparison, *, level: float = 0.95, intercept: bool = False, ax: Any = None
    ) -> Self:
        """Draw the coefficients of a comparison.

        Parameters
        ----------
        comparison : Comparison
            A comparison, as `compare_with_ols` returns it.
        level : float, default=0.95
            Confidence level of the intervals, which use the t distribution with each model's degrees of freedom.
        intercept : bool, default=False
            Whether to show the intercept too; it is always shown if it is the only coefficient.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.

        Returns
        -------
        display : CoefficientComparisonDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `comparison` is not a `Comparison`.
        ValueError
            If `level` is not between 0 and 1, or `ax` is not part of a grid of subplots.
        """
        if not isinstance(comparison, Comparison):
            raise TypeError(f"comparison must be what compare_with_ols returns; found {type(comparison).__name__}.")
        check_level(level)
        table = comparison.coefficients
        half = half_width(level, table["std_error"], table["df"])
        estimate = table["estimate"]
        intervals = pd.DataFrame({"estimate": estimate, "lower": estimate - half, "upper": estimate + half})
        slopes = table.index.get_level_values("coefficient") != INTERCEPT
        if not intercept and slopes.any():
            intervals = intervals[slopes]
        return cls(coefficients=intervals, level=level).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure whose height suits the number of panels.

        Returns
        -------
        display : CoefficientComparisonDisplay
            The same display, with its artists as attributes.
        """
        names = list(dict.fromkeys(self.coefficients.index.get_level_values("coefficient")))
        # Up to four panels share one column, and up to twelve share two.
        n_columns = 1 + (len(names) > 4) + (len(names) > 12)
        n_rows = -(-len(names) // n_columns)
        with axes_for(type(self).__name__, ax, (3.2 + 3.4 * n_columns, 0.4 + 1.35 * n_rows)) as self.ax_:
            self.figure_ = self.ax_.figure
            self.ax_.set_axis_off()
            grid = self.ax_.get_subplotspec()
            if grid is None:
                raise ValueError("ax must come from subplots or add_subplot, so that it can be divided into panels.")
            panels = grid.subgridspec(n_rows, n_columns)
            self.axes_ = np.array([self.figure_.add_subplot(panels[i]) for i in range(len(names))])
            self.containers_: list[Any] = []
            for at, (panel, name) in enumerate(zip(self.axes_, names, strict=True)):
                self._draw_panel(panel, name, labelled=at % n_columns == 0)
            self.axes_[-1].set_xlabel(f"estimate and {percent(self.level)} interval")
        return self

    def _draw_panel(self, panel: Any, name: str, labelled: bool) -> None:
        """Draw the estimates of one coefficient."""
        rows = self.coefficients.loc[name]
        for at, model in enumerate(MODELS):
            estimate, lower, upper = rows.loc[model, ["estimate", "lower", "upper"]].to_numpy(dtype=np.float64)
            if np.isnan(estimate):
                place = panel.get_yaxis_transform()
                panel.text(0.02, at, "not estimated", transform=place, va="center", color=GREY, size="small")
                continue
            error = None if np.isnan(lower) else [[estimate - lower], [upper - estimate]]
            color, marker = _COLORS[model], _MARKERS[model]
            self.containers_.append(panel.errorbar(estimate, at, xerr=error, color=color, marker=marker, capsize=2.5))
        ends = rows.to_numpy(dtype=np.float64)
        ends = ends[~np.isnan(ends)]
        if len(ends) and max(ends.min(), -ends.max(), 0.0) <= _FAR * np.ptp(ends):
            panel.axvline(0.0, color=PALE, linewidth=1.0, zorder=0.5)
        panel.set_yticks(range(len(MODELS)), MODELS if labelled else [""] * len(MODELS))
        panel.set_ylim(len(MODELS) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        panel.set_title(label_text(name), loc="left", fontsize="medium", fontweight="bold")
        panel.spines[["top", "right", "left"]].set_visible(False)
