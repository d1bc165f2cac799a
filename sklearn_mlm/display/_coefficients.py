"""`CoefficientComparisonDisplay`: the estimates of a comparison with least squares, side by side."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import stats

from .._inputs import check_level
from ..baselines._comparison import Comparison
from ..baselines._folds import MIXED, MODELS, OLS, ROBUST, WITHIN
from ..likelihood._fit import INTERCEPT
from ._style import BLUE, GREY, ORANGE, PALE, VERMILION, axes_for, percent, shown

_COLORS = {OLS: GREY, ROBUST: ORANGE, WITHIN: VERMILION, MIXED: BLUE}
_MARKERS = {OLS: "s", ROBUST: "D", WITHIN: "^", MIXED: "o"}
# 0 is shown where it is no farther from the intervals than twice their range.
_FAR = 2.0


class CoefficientComparisonDisplay:
    """Estimates and confidence intervals of each coefficient by least squares, its relatives, and the multilevel model.

    Each coefficient has a panel with a scale of its own, in which the models stand one below the other. A longer interval
    of the same estimate is what ignoring the groups hides; another estimate says that a coefficient differs within groups
    and between them.

    Make one with `from_comparison`.

    Parameters
    ----------
    coefficients : pandas.DataFrame
        A row for each (coefficient, model): "estimate", "lower" and "upper".
    level : float
        Of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes given or made, which hold the panels and show nothing themselves.
    axes_ : ndarray of matplotlib Axes
        The panels, one for each coefficient.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    containers_ : list of matplotlib ErrorbarContainer
        Estimates with their intervals, panel by panel and model by model; those that a model has not are left out.

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
            What `compare_with_ols` returns.
        level : float, default=0.95
            Of the confidence intervals, by the t distribution with each model's degrees of freedom.
        intercept : bool, default=False
            Whether to show the intercept too; it is shown where there is nothing else.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : CoefficientComparisonDisplay
        """
        if not isinstance(comparison, Comparison):
            raise TypeError(f"comparison must be what compare_with_ols returns; found {type(comparison).__name__}.")
        check_level(level)
        table = comparison.coefficients
        half = stats.t.ppf(0.5 + level / 2.0, table["df"]) * table["std_error"]
        shown = pd.DataFrame(
            {"estimate": table["estimate"], "lower": table["estimate"] - half, "upper": table["estimate"] + half}
        )
        names = table.index.get_level_values("coefficient")
        if not intercept and (names != INTERCEPT).any():
            shown = shown[names != INTERCEPT]
        return cls(coefficients=shown, level=level).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure as high as the number of panels asks for.

        Returns
        -------
        display : CoefficientComparisonDisplay
            Itself, with the artists as attributes.
        """
        names = list(dict.fromkeys(self.coefficients.index.get_level_values("coefficient")))
        n_columns = 1 if len(names) <= 4 else 2 if len(names) <= 12 else 3
        n_rows = -(-len(names) // n_columns)
        with axes_for(type(self).__name__, ax, (3.2 + 3.4 * n_columns, 0.4 + 1.35 * n_rows)) as self.ax_:
            self.figure_ = self.ax_.figure
            self.ax_.set_axis_off()
            grid = self.ax_.get_subplotspec()
            if grid is None:
                raise ValueError("ax must be made by subplots or add_subplot, so that it can be divided into panels.")
            panels = grid.subgridspec(n_rows, n_columns)
            self.axes_ = np.array(
                [self.figure_.add_subplot(panels[i // n_columns, i % n_columns]) for i in range(len(names))]
            )
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
                panel.text(
                    0.02, at, "not estimated", transform=panel.get_yaxis_transform(), va="center", color=GREY, size="small"
                )
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
        panel.set_title(shown(name), loc="left", fontsize="medium", fontweight="bold")
        panel.spines[["top", "right", "left"]].set_visible(False)
