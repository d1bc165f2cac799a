"""`DiagnosticsDisplay`: four pictures of how well the assumptions of a model hold."""

from __future__ import annotations

from typing import Any, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_level, is_whole
from .._tables import df_text, p_statement
from .._typing import GroupedFit
from ..inference._diagnostics import residual_variance_test, variance_inflation
from ..inference._fits import GroupedModel, grouped_fit_of, last_step, outcome_or_none
from ..inference._rows import residuals
from ..likelihood._factor_fit import FactorFit
from ..likelihood._fit import Fit
from ..likelihood._mixed_fit import MixedEffectsFit
from ..moments._rows import as_weights, check_containers
from ._display import Display
from ._effect_quantiles import draw_effect_quantiles
from ._inflation import HIGH, draw_inflation
from ._many_rows import density_colors, means_in_bins, qq_ranks
from ._random_columns import factors_of_groups
from ._random_effects import RandomEffectsDisplay
from ._style import (
    BLUE,
    MAX_VECTOR_POINTS,
    PALE,
    VERMILION,
    add_headroom,
    axes_for,
    count_of,
    names_of,
    percent,
    short,
    styled,
    text_color,
)

# Hexagons of a density across the panel, and down it.
_HEXAGONS = (48, 22)
_SIGNIFICANT = 0.05


class DiagnosticsDisplay(Display):
    """Four pictures of how well the assumptions of a model hold: linearity, normality, equal spread and collinearity.

    1. Scaled residuals against fitted values. Their mean is near 0 everywhere if the outcome is linear in the predictors. It
       rises a little with the fitted value, as a dashed line shows, because the effects of the groups are shrunk.
    2. The residuals against normal quantiles, with a band that contains normal samples.
    3. The root of the size of the residuals against fitted values, whose trend is flat if the spread is equal. The title has
       the result of `sklearn_mlm.inference.residual_variance_test`.
    4. The variance inflation of each predictor. If there are fewer than two, the random effects against normal quantiles:
       those of several coefficients in standard deviations, each with its marker.

    The trends are means of the rows in bins of the fitted value, with an interval for each mean. If there are more rows than
    `max_points`, the density of the rows is drawn in their place, and the legend says so.

    Create a display with `from_estimator`.

    Parameters
    ----------
    fitted, residuals : ndarray of shape (n_samples,)
        Predictions for the rows in their groups, in units of y, and the residuals that they leave, in standard deviations.
        Rows whose residual is NaN are left out.
    variance_test : pandas.Series or None
        The test that `sklearn_mlm.inference.residual_variance_test` returns; None if there are too few groups for it.
    variance_inflation : pandas.Series
        The variance inflation that `sklearn_mlm.inference.variance_inflation` returns.
    effects : RandomEffectsDisplay or None
        The random effects, drawn in place of a variance inflation; None draws the variance inflation.
    expected_slope : float
        Slope of the residuals on the fitted values that the shrinkage of the effects causes if the model is right, in
        standard deviations per unit of y.
    level : float
        Level of the band of the QQ plots, and of the intervals of the trends.
    outcome_name : str
        Name of y, for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that the panels divide; they are invisible themselves.
    axes_ : ndarray of matplotlib Axes of shape (2, 2)
        The panels.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    rows_ : list of two matplotlib PathCollection or PolyCollection
        The rows of the first and the third panel: points, or the hexagons of their density.
    trends_ : list of two matplotlib Line2D
        The trends of these panels.
    quantiles_ : matplotlib Line2D
        The residuals against normal quantiles.
    band_ : matplotlib PolyCollection
        The band that contains normal samples.
    bars_ : matplotlib BarContainer or None
        The variance inflation; None if the random effects are drawn.

    See Also
    --------
    RandomEffectsDisplay : The random effects.
    sklearn_mlm.inference.influence : The groups that change the estimates.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.display import DiagnosticsDisplay
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> display = DiagnosticsDisplay.from_estimator(model, X, y, subject)
    >>> print(display.axes_[1, 0].get_title(loc="left"))
    Equal spread: the trend should be flat
    spread differs between groups: F(17, 162) = 2.80, p < 0.001
    >>> plt.close(display.figure_)
    """

    _MADE_BY = "from_estimator(model, X, y, groups)"

    def __init__(
        self,
        *,
        fitted: np.ndarray,
        residuals: np.ndarray,
        variance_test: pd.Series | None,
        variance_inflation: pd.Series,
        effects: RandomEffectsDisplay | None = None,
        expected_slope: float = 0.0,
        level: float = 0.95,
        outcome_name: str = "y",
    ):
        self.fitted = fitted
        self.residuals = residuals
        self.variance_test = variance_test
        self.variance_inflation = variance_inflation
        self.effects = effects
        self.expected_slope = expected_slope
        self.level = level
        self.outcome_name = outcome_name

    @classmethod
    def from_estimator(
        cls,
        model: GroupedModel,
        X: Any,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        factor: str | None = None,
        level: float = 0.95,
        max_points: int = 5_000,
        ax: Any = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Compute the residuals of rows, and draw the pictures.

        Parameters
        ----------
        model : RandomInterceptRegressor or MixedEffectsRegressor
            A fitted model, or a pipeline or search that ends in one.
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors of the rows, as in `predict`.
        y : array-like of shape (n_samples,), default=None
            Outcome. A model with a formula takes it from `X`, a data frame, if it is None.
        groups : array-like of shape (n_samples,), default=None
            Group labels, as in `predict`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights, by whose square roots residuals are multiplied if the weights of the model are precisions.
        factor : str or None, default=None
            The grouping factor whose effects and residual variances are shown; None takes the first.
        level : float, default=0.95
            Level of the band of the QQ plots, and of the intervals of the trends.
        max_points : int, default=5000
            Largest number of rows that are drawn as points. The density of more rows is drawn in their place.
        ax : matplotlib Axes, default=None
            Axes to draw into, part of a grid of subplots; None makes a figure.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points (as in matplotlib's scatter), and of the trends (as in matplotlib's plot).

        Returns
        -------
        display : DiagnosticsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the model leaves no residual (sigma2 = 0), if no row has a residual, or if `predict` would raise it.
        """
        fit = grouped_fit_of(model)
        if factor is None and isinstance(fit, FactorFit):
            factor = fit.factor_names[0]
        check_level(level)
        _check_max_points(max_points)
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        # The steps of a pipeline transform the rows once.
        last, rows = last_step(model, X)
        scaled = residuals(last, rows, y, groups, scaled=True).to_numpy()
        if np.isnan(scaled).all():
            raise ValueError("No row has a residual: the model knows none of the groups. Pass rows of groups that it knows.")
        fitted = cast(np.ndarray, outcome_or_none(last, rows, y)) - scaled * np.sqrt(fit.residual_variance)
        slope = _expected_slope(fit, fitted)
        if sample_weight is not None and fit.options.weight_type == "precision":
            weights = as_weights(sample_weight, len(scaled))
            scaled = np.where(weights > 0, scaled * np.sqrt(weights), np.nan)
            slope *= float(np.sqrt(weights[weights > 0]).mean())
        try:
            test = residual_variance_test(last, rows, y, groups, sample_weight=sample_weight, factor=factor)
        except ValueError:
            # Residuals have been computed, so that all that is wrong is that too few groups have enough rows.
            test = None
        inflation = variance_inflation(model)
        display = cls(
            fitted=fitted,
            residuals=scaled,
            variance_test=test,
            variance_inflation=inflation,
            effects=RandomEffectsDisplay._undrawn(model, level, factor=factor) if len(inflation) < 2 else None,
            expected_slope=slope,
            level=level,
            outcome_name=names_of(fit)[1],
        )
        return display.plot(ax, max_points=max_points, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        max_points: int = 5_000,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the pictures.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into, part of a grid of subplots; None makes a figure.
        max_points : int, default=5000
            Largest number of rows that are drawn as points.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points and of the trends, as in `from_estimator`.

        Returns
        -------
        display : DiagnosticsDisplay
            The same display, with its artists as attributes.
        """
        _check_max_points(max_points)
        with axes_for(type(self).__name__, ax, (11.0, 8.0)) as self.ax_:
            self.figure_ = self.ax_.figure
            self.ax_.set_axis_off()
            grid = self.ax_.get_subplotspec()
            if grid is None:
                raise ValueError("ax must come from subplots or add_subplot, so that it can be divided into panels.")
            panels = grid.subgridspec(2, 2)
            self.axes_ = np.array([[self.figure_.add_subplot(panels[i, j]) for j in range(2)] for i in range(2)])
            self._draw(max_points, scatter_kwargs, line_kwargs)
            for panel in self.axes_.flat:
                panel.spines[["top", "right"]].set_visible(False)
        return self

    def _draw(self, max_points: int, scatter_kwargs: dict[str, Any] | None, line_kwargs: dict[str, Any] | None) -> None:
        """Draw the panels."""
        (linearity, normality), (spread, last) = self.axes_
        known = np.isfinite(self.residuals)
        fitted, residuals = self.fitted[known], self.residuals[known]
        self.rows_: list[Any] = []
        self.trends_: list[Any] = []
        roots = np.sqrt(np.abs(residuals))
        linearity.axhline(0.0, color=text_color(), linewidth=0.8, zorder=2.5)
        dashed = {"color": text_color(), "linewidth": 1.4, "linestyle": "--", "zorder": 2.6}
        for panel, heights, slope in ((linearity, residuals, self.expected_slope), (spread, roots, 0.0)):
            of_rows = self._draw_rows(panel, fitted, heights, max_points, scatter_kwargs)
            self._draw_trend(panel, fitted, heights, line_kwargs)
            label = "expected: effects are shrunk" if panel is linearity else "mean of all rows"
            at = 0.0 if panel is linearity else roots.mean()
            expected = panel.axline((fitted.mean(), at), slope=slope, label=label, **dashed)
            panel.set_xlabel(f"fitted {self.outcome_name}")
            handles = [of_rows, self.trends_[-1], expected]
            panel.legend(handles=handles, loc="upper left", ncols=2, frameon=False, fontsize="small", borderaxespad=0.2)
            add_headroom(panel, 0.2)
        linearity.set_ylabel("scaled residual")
        _title(linearity, "Linearity: the trend should follow the dashed line")
        spread.set_ylabel("√|scaled residual|")
        _title(spread, f"Equal spread: the trend should be flat\n{self._test_text()}")
        self._draw_quantiles(normality, residuals, max_points)
        self.bars_: Any = None
        if self.effects is None:
            self.bars_ = draw_inflation(last, self.variance_inflation)
            _title(last, f"Collinearity: bars should stay below {HIGH:g}")
            return
        if isinstance(self.effects.group_sd, pd.Series):
            draw_effect_quantiles(last, self.effects)
        else:
            self.effects.plot(last, kind="qq")
            # The full label is longer than the panel is high.
            last.set_ylabel("EB effect / √reliability")
        _title(last, "Random effects: points should follow the line")

    def _rows_text(self, n: int, max_points: int, what: str) -> str:
        """Return how many rows are drawn, as what if they are not points, and of how many if some have no residual."""
        rows = f"{count_of(n, len(self.residuals))} rows"
        return rows if n <= max_points else f"{what} of {rows}"

    def _draw_rows(
        self, panel: Any, x: np.ndarray, y: np.ndarray, max_points: int, scatter_kwargs: dict[str, Any] | None
    ) -> Any:
        """Draw rows as points, or their density as hexagons, and return their entry in the legend."""
        from matplotlib.collections import PathCollection
        from matplotlib.patches import Patch

        label = self._rows_text(len(x), max_points, "density")
        if len(x) <= max_points:
            few = len(x) <= 500
            default = {"color": BLUE, "s": 20 if few else 7, "alpha": 0.7 if few else 0.35, "linewidths": 0, "label": label}
            default["rasterized"] = len(x) > MAX_VECTOR_POINTS
            self.rows_.append(panel.scatter(x, y, **styled(default, scatter_kwargs, PathCollection)))
            return self.rows_[-1]
        colors = density_colors(panel)
        self.rows_.append(
            panel.hexbin(x, y, gridsize=_HEXAGONS, bins="log", mincnt=1, cmap=colors, linewidths=0.1, rasterized=True)
        )
        return Patch(color=colors(0.6), label=label)

    def _draw_trend(self, panel: Any, x: np.ndarray, y: np.ndarray, line_kwargs: dict[str, Any] | None) -> None:
        """Draw the means of y in bins of x, with their intervals."""
        from matplotlib.lines import Line2D

        at, mean, half = means_in_bins(x, y, self.level)
        label = f"mean in {len(at)} bins, {percent(self.level)} band" if len(at) > 1 else "mean"
        marker = "" if len(at) > 1 else "o"
        options = styled(
            {"color": VERMILION, "linewidth": 2.0, "marker": marker, "label": label, "zorder": 3}, line_kwargs, Line2D
        )
        panel.fill_between(at, mean - half, mean + half, color=options["color"], alpha=0.2, linewidth=0, zorder=2.8)
        self.trends_ += panel.plot(at, mean, **options)

    def _test_text(self) -> str:
        """Return the result of the test of equal residual variances in words."""
        test = self.variance_test
        if test is None:
            return "not tested: fewer than two groups have three rows"
        if np.isnan(test["p_value"]):
            return "not tested: the residuals do not vary"
        found = "spread differs between groups" if test["p_value"] < _SIGNIFICANT else "no sign that groups differ"
        df = f"{df_text(test['df1'])}, {df_text(test['df2'])}"
        return f"{found}: F({df}) = {short(test['F'], max(test['F'], 0.1))}, {p_statement(test['p_value'])}"

    def _draw_quantiles(self, panel: Any, residuals: np.ndarray, max_points: int) -> None:
        """Draw residuals against normal quantiles, with a band that contains normal samples of their standard deviation."""
        from scipy import stats

        n = len(residuals)
        some = qq_ranks(n, max_points)
        ordered = np.sort(residuals)[some - 1]
        normal = stats.norm.ppf((some - 0.5) / n)
        sd = float(np.sqrt(np.mean(residuals**2)))
        # The order statistics of a uniform sample follow beta distributions.
        half = (1.0 - self.level) / 2.0
        band = [sd * stats.norm.ppf(stats.beta.ppf(p, some, n + 1 - some)) for p in (half, 1.0 - half)]
        label = f"{percent(self.level)} of normal samples, point by point"
        self.band_ = panel.fill_between(normal, *band, color=PALE, alpha=0.5, linewidth=0, label=label)
        ends = normal[[0, -1]]
        panel.plot(ends, sd * ends, color=text_color(), linewidth=1.2, label=f"normal, SD {short(sd)}")
        (self.quantiles_,) = panel.plot(
            normal,
            ordered,
            linestyle="none",
            marker="o",
            color=BLUE,
            markersize=4 if n <= 200 else 2,
            rasterized=len(some) > MAX_VECTOR_POINTS,
            label=self._rows_text(n, max_points, "quantiles"),
        )
        panel.set(xlabel="normal quantile", ylabel="scaled residual")
        panel.legend(loc="upper left", frameon=False, fontsize="small")
        add_headroom(panel, 0.2)
        _title(panel, "Normal residuals: points should follow the line")


def _check_max_points(max_points: object) -> None:
    """Raise a ValueError unless the largest number of points is a whole number."""
    if not is_whole(max_points, least=0):
        raise ValueError(f"max_points must be a whole number, at least 0; found {max_points!r}.")


def _expected_slope(fit: GroupedFit, fitted: np.ndarray) -> float:
    """Return the slope of scaled residuals on fitted values that the shrinkage of the effects causes.

    Residuals keep what shrinkage takes from the effects: the covariance of the residual y - x'beta - z'E(b_j | y) of a row
    with its fitted value is z' C_j z, where C_j is the conditional covariance of b_j. For an intercept alone it is
    tau2 (1 - lambda_j).

    Parameters
    ----------
    fit : GroupedFit
        The fit.
    fitted : ndarray of shape (n_samples,)
        Predictions for rows in their groups; NaN for new groups.

    Returns
    -------
    slope : float
        The mean of the covariance over the rows of the fit, divided by sigma and by the variance of the fitted values.
    """
    variance = float(np.nanvar(fitted))
    if isinstance(fit, FactorFit):
        covariance = fit.mean_covariance_of_errors
    elif isinstance(fit, MixedEffectsFit):
        z, _ = factors_of_groups(fit, np.zeros(fit.random_effects.shape[1]))
        squares = np.einsum("jra,jab,jrb->", z, fit.conditional_covariances, z, optimize=True)
        covariance = float(squares) / float(fit.known.moments.counts.sum())
    else:
        plain = cast(Fit, fit)
        covariance = plain.group_variance * float(np.average(1.0 - plain.reliabilities, weights=plain.group_sizes()))
    return covariance / float(np.sqrt(fit.residual_variance)) / variance if variance > 0 else 0.0


def _title(panel: Any, text: str) -> None:
    """Set the title of a panel."""
    panel.set_title(text, loc="left", fontsize="medium", color=text_color())
