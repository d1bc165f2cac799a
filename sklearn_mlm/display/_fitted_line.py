"""`FittedLineDisplay`: the fitted line against one column of X, of the population and of some groups, with its band."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from textwrap import fill
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length

from .._inputs import check_level, is_whole
from .._typing import GroupedFit, RandomState
from ..inference._fits import GroupedModel, factor_fit_of, grouped_fit_of, last_step
from ..inference._prediction import PredictionKind, predict_interval
from ..likelihood._factor_fit import FactorFit
from ..moments._labels import encode
from ..moments._rows import as_outcome, check_containers
from ._display import Display
from ._grid import Grid, columns_of_model, grid_of
from ._group_choice import (
    flat_labels,
    group_key,
    groups_of_level,
    label_columns_of,
    labels_in,
    refuse_columns_of_groups,
    spread_groups,
)
from ._style import (
    BLUE,
    GREY,
    GROUP_COLORS,
    GROUP_MARKERS,
    MAX_VECTOR_POINTS,
    PALE,
    axes_for,
    count_of,
    label_text,
    name_text,
    names_of,
    percent,
    sample,
    styled,
    text_color,
)

# Half the width that the points of a category take, and the intervals of the groups beside that of the population.
_JITTER, _BESIDE = 0.12, 0.3
# Labels of categories that are longer than this together are turned, and a line of the title is no longer.
_LONG_LABELS, _LONG_TITLE = 60, 85


class FittedLineDisplay(Display):
    """The fitted line against one column of X, with its confidence band: of the population, and of some of the groups.

    The line is the prediction along the range of the column, while the other columns keep one value, which the title says.
    The band of the population mean allows for the errors of the fixed effects, and not for the spread of groups or rows;
    that of a group mean allows for the errors of the group's effects too. A column that is not numeric has a point with an
    interval for each of its values.

    If a pipeline transforms the columns, the column is one of those that the pipeline takes. What its steps make of the
    column, such as a spline, is a curve.

    Create a display with `from_estimator`.

    Parameters
    ----------
    values : pandas.Series of shape (n_points,)
        Values of the column.
    population : pandas.DataFrame of shape (n_points, 3)
        The columns "prediction", "lower" and "upper" of the population mean, in units of y.
    groups : dict of pandas.DataFrame
        The same of the mean of each group, by label.
    held : str
        The values of the other columns, in a few words.
    points : pandas.DataFrame or None
        The columns "x", "y" and "group" of rows to draw: the value of the column, or its position in `values` if it is not
        numeric; the outcome; and the position of the row's group in `groups`, negative for others. None draws no rows.
    categorical : bool
        Whether the column is not numeric.
    level : float
        Confidence level of the bands.
    feature_name, outcome_name, group_name : str
        Names of the column, of y and of the groups, for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    line_ : matplotlib Line2D or ErrorbarContainer
        The line of the population, or the points of a column that is not numeric with their intervals.
    band_ : matplotlib PolyCollection or None
        The band of the population; None if the column is not numeric.
    group_lines_, group_bands_ : list
        The same of the groups.
    scatter_ : list of matplotlib PathCollection
        The rows: first those of groups that have no line, then those of each group with a line.

    See Also
    --------
    ClusteringDisplay : The lines of all groups, for a model with one predictor.
    GroupLinesDisplay : The lines of the groups beside those of least squares in each group alone.
    sklearn_mlm.inference.predict_interval : The predictions and intervals as numbers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.display import FittedLineDisplay
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> display = FittedLineDisplay.from_estimator(model, X, "days", show_groups=3)
    >>> [text.get_text() for text in display.ax_.get_legend().get_texts()]
    ['population mean', 'subject 337', 'subject 369', 'subject 309']
    >>> display.population.iloc[[0, -1]].round(1)
        prediction  lower  upper
    0        251.4  231.2  271.6
    99       345.6  325.4  365.8
    >>> plt.close(display.figure_)
    """

    _MADE_BY = "from_estimator(model, X, feature)"

    def __init__(
        self,
        *,
        values: pd.Series,
        population: pd.DataFrame,
        groups: Mapping[Hashable, pd.DataFrame] | None = None,
        held: str = "",
        points: pd.DataFrame | None = None,
        categorical: bool = False,
        level: float = 0.95,
        feature_name: str = "x",
        outcome_name: str = "predicted y",
        group_name: str = "group",
    ):
        self.values = values
        self.population = population
        self.groups = {} if groups is None else dict(groups)
        self.held = held
        self.points = points
        self.categorical = categorical
        self.level = level
        self.feature_name = feature_name
        self.outcome_name = outcome_name
        self.group_name = group_name

    @classmethod
    def from_estimator(
        cls,
        model: GroupedModel,
        X: Any,
        feature: str | int,
        *,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        factor: str | None = None,
        show_groups: int | Sequence[Any] | ArrayLike = (),
        level: float = 0.95,
        n_points: int = 100,
        at: Mapping[Any, Any] | None = None,
        subsample: int | None = 5_000,
        random_state: RandomState = 0,
        ax: Any = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Predict along a column, and draw the line.

        Parameters
        ----------
        model : RandomInterceptRegressor or MixedEffectsRegressor
            A fitted model, or a pipeline or search that ends in one.
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Rows as the model or the pipeline takes them, which give the range of the column and the values of the others.
        feature : str or int
            Name or position of the column.
        y : array-like of shape (n_samples,), default=None
            Outcome of the rows, to draw them as points. None draws no points.
        groups : array-like of shape (n_samples,), default=None
            Group labels of the rows, so that the rows of groups with a line get its colour; not needed if a column of X
            holds the labels.
        factor : str or None, default=None
            The grouping factor whose levels are shown; needed for lines of groups if the model has several.
        show_groups : int or array-like of labels, default=()
            Labels of groups to draw a line of, ten at most. A number takes as many groups, evenly from the lowest to the
            highest estimated effect; with random slopes, the effect at the mean of the predictors.
        level : float, default=0.95
            Confidence level of the bands.
        n_points : int, default=100
            Number of points of a line.
        at : dict, default=None
            Values of other columns, by name or position. The rest of the columns are held at their mean if they are numeric,
            and at their most frequent value otherwise.
        subsample : int or None, default=5000
            Largest number of rows to draw, a random sample; None draws all.
        random_state : int, RandomState instance or None, default=0
            Random numbers for the sample of rows, and for their places beside a category.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure. The legend of groups is beside the axes: create a figure of several axes
            with ``layout="constrained"``.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points (as in matplotlib's scatter), and of the line of the population (as in matplotlib's plot,
            or in errorbar if the column is not numeric).

        Returns
        -------
        display : FittedLineDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If X has no such column, if it does not vary or has more than 40 values that are not numbers, if a group is
            unknown, if the model does not take the values at which columns are held, or if a column with random coefficients
            is not in X.
        """
        fit = grouped_fit_of(model)
        several = isinstance(fit, FactorFit)
        if factor is not None or (np.size(show_groups) and not (is_whole(show_groups, least=0) and show_groups == 0)):
            fit = factor_fit_of(model, factor)
        refuse_columns_of_groups(fit)
        check_level(level)
        if not is_whole(n_points, least=2):
            raise ValueError(f"n_points must be a whole number, at least 2; found {n_points!r}.")
        check_containers(X=X, y=y, groups=groups)
        last, _ = last_step(model)
        nothing = several and isinstance(fit, FactorFit)
        shown = pd.Index([]) if nothing else flat_labels(fit.labels).take(spread_groups(fit, show_groups))
        X = columns_of_model(last, X)
        key = group_key(last, last is model, X)
        columns = label_columns_of(fit)
        grid = grid_of(X, feature, n_points=int(n_points), at=at, group_key=key, level_columns=columns)
        try:
            population = _predictions(model, grid, level)
        except ValueError as error:
            if not grid.held:
                raise
            raise ValueError(
                f"The model does not take rows with {grid.held_text()}: {str(error).rstrip('.')}. Pass other values of "
                f"these columns, such as at={{{next(iter(grid.held))!r}: ...}}."
            ) from error
        lines = {label: _predictions(model, grid, level, fit, label) for label in shown}
        of_rows = X if several and groups is None else groups
        # A record of unnamed arrays calls the outcome y.
        outcome_name = "predicted y" if fit.moments.outcome_name is None else names_of(fit)[1]
        display = cls(
            values=grid.values,
            population=population,
            groups=lines,
            held=grid.held_text(),
            points=None if y is None else _points(grid, y, labels_in(of_rows, fit), shown),
            categorical=grid.categorical,
            level=level,
            feature_name=grid.name,
            outcome_name=outcome_name if y is None else name_text(y, outcome_name),
            group_name=names_of(fit)[0],
        )
        return display.plot(
            ax,
            subsample=subsample,
            random_state=random_state,
            scatter_kwargs=scatter_kwargs,
            line_kwargs=line_kwargs,
        )

    def plot(
        self,
        ax: Any = None,
        *,
        subsample: int | None = 5_000,
        random_state: RandomState = 0,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the line, its band, and the rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        subsample : int or None, default=5000
            Largest number of rows to draw; None draws all.
        random_state : int, RandomState instance or None, default=0
            Random numbers for the sample of rows, and for their places beside a category.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points and of the line of the population, as in `from_estimator`.

        Returns
        -------
        display : FittedLineDisplay
            The same display, with its artists as attributes.
        """
        n_rows = 0 if self.points is None else len(self.points)
        drawn = sample(n_rows, subsample, random_state)
        with axes_for(type(self).__name__, ax, (7.4 if self.groups else 6.4, 4.6)) as self.ax_:
            self.figure_ = self.ax_.figure
            self.scatter_: list[Any] = []
            self.group_lines_: list[Any] = []
            self.group_bands_: list[Any] = []
            self.band_: Any = None
            self._handles: list[tuple[Any, str]] = []
            if self.points is not None:
                self._draw_points(self.points.iloc[drawn], random_state, scatter_kwargs)
            draw = self._draw_intervals if self.categorical else self._draw_lines
            draw(line_kwargs)
            self._label()
        return self

    def _draw_points(self, rows: pd.DataFrame, random_state: RandomState, scatter_kwargs: dict[str, Any] | None) -> None:
        """Draw rows as points, those of each group with a line in its colour."""
        from matplotlib.collections import PathCollection

        x, y, code = rows["x"].to_numpy(dtype=np.float64), rows["y"].to_numpy(), rows["group"].to_numpy()
        if self.categorical:
            # The points of a group are behind its interval, and those of the others behind that of the population.
            width = _JITTER / (1.0 + len(self.groups) / 2.0)
            x = x + self._shifts()[np.maximum(code, -1) + 1]
            x += check_random_state(random_state).uniform(-width, width, len(x))
        few = len(rows) <= 500
        default = {"s": 20 if few else 7, "linewidths": 0, "zorder": 1.5, "rasterized": len(rows) > MAX_VECTOR_POINTS}
        others = {"color": GREY if self.groups else BLUE, "alpha": 0.5 if few else 0.25}
        looks: list[dict[str, Any]] = [others]
        pairs = zip(GROUP_COLORS, GROUP_MARKERS, self.groups, strict=False)
        alpha = 0.4 if self.categorical else 0.9
        looks += [{"color": color, "marker": marker, "alpha": alpha, "s": 20} for color, marker, _ in pairs]
        for i, look in enumerate(looks):
            which = np.maximum(code, -1) == i - 1
            options = styled({**default, **look}, scatter_kwargs, PathCollection)
            self.scatter_.append(self.ax_.scatter(x[which], y[which], **options))

    def _shifts(self) -> np.ndarray:
        """Return the places of the population and of each group beside the position of a category."""
        return np.linspace(-_BESIDE, _BESIDE, len(self.groups) + 1) if self.groups else np.zeros(1)

    def _draw_lines(self, line_kwargs: dict[str, Any] | None) -> None:
        """Draw the lines and their bands."""
        from matplotlib.lines import Line2D

        x = self.values.to_numpy()
        for i, table in enumerate(self.groups.values()):
            lower, upper, color = table["lower"], table["upper"], GROUP_COLORS[i]
            self.group_bands_.append(
                self.ax_.fill_between(x, lower, upper, color=color, alpha=0.18, linewidth=0, zorder=1.8)
            )
            self.group_lines_ += self.ax_.plot(x, table["prediction"], color=color, linewidth=1.6)
        lower, upper = self.population["lower"], self.population["upper"]
        self.band_ = self.ax_.fill_between(x, lower, upper, color=PALE, alpha=0.5, linewidth=0, zorder=1.7)
        options = styled({"color": text_color(), "linewidth": 2.0, "zorder": 2.5}, line_kwargs, Line2D)
        (self.line_,) = self.ax_.plot(x, self.population["prediction"], **options)

    def _draw_intervals(self, line_kwargs: dict[str, Any] | None) -> None:
        """Draw the predictions for the values of a column that is not numeric, with their intervals."""
        from matplotlib.lines import Line2D

        x = np.arange(len(self.values))
        looks: list[dict[str, Any]] = [{"color": text_color(), "marker": "o"}]
        looks += [{"color": GROUP_COLORS[i], "marker": GROUP_MARKERS[i]} for i in range(len(self.groups))]
        tables = [self.population, *self.groups.values()]
        containers: list[Any] = []
        for table, shift, look in zip(tables, self._shifts(), looks, strict=True):
            at = table["prediction"]
            # An edge in the colour of the background sets the estimate off from the points behind it.
            edge = {"markersize": 8.0, "markeredgecolor": self.ax_.get_facecolor()}
            look = {"linestyle": "none", "linewidth": 1.6, **edge, **look}
            options = styled(look, line_kwargs if not containers else None, Line2D)
            error = [at - table["lower"], table["upper"] - at]
            containers.append(self.ax_.errorbar(x + shift, at, yerr=error, capsize=3.0, zorder=2.5, **options))
        self.line_, *self.group_lines_ = containers
        names = [label_text(value) for value in self.values]
        turned = {"rotation": 30, "ha": "right"} if sum(map(len, names)) > _LONG_LABELS else {}
        self.ax_.set_xticks(x, names, **turned)
        self.ax_.set_xlim(-0.5, len(x) - 0.5)

    def _label(self) -> None:
        """Draw the legend, which says what the bands are, and the labels of the axes."""
        kind = "interval" if self.categorical else "band"
        handles, labels = [self.line_], ["population mean"]
        if self.groups:
            handles += self.group_lines_
            labels += [f"{self.group_name} {label_text(label).strip()}" for label in self.groups]
            if self.band_ is not None:
                handles = list(zip([self.band_, *self.group_bands_], handles, strict=True))
            title = f"means, {percent(self.level)} {kind}s"
            place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        else:
            handles = handles if self.band_ is None else [(self.band_, self.line_)]
            labels = [f"population mean, {percent(self.level)} {kind}"]
            title = self._held_text()
            place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 2}
        drawn = sum(len(points.get_offsets()) for points in self.scatter_)
        if self.points is not None and drawn:
            handles.append(next(points for points in self.scatter_ if len(points.get_offsets())))
            labels.append(f"{count_of(drawn, len(self.points))} rows")
        options = {"frameon": False, "alignment": "left", "fontsize": "small", "title_fontsize": "small"}
        legend = self.ax_.legend(handles, labels, title=title or None, borderaxespad=0.3, **options, **place)
        if drawn:
            # The points themselves may be too pale and small to recognise.
            legend.legend_handles[-1].set(alpha=1.0, sizes=[28.0])
        if self.groups:
            self.ax_.set_title(self._held_text(), loc="left", fontsize="small", color=text_color())
        self.ax_.set(xlabel=self.feature_name, ylabel=self.outcome_name)
        self.ax_.spines[["top", "right"]].set_visible(False)

    def _held_text(self) -> str:
        """Return at which values the other columns are held, in lines that fit above the axes."""
        return fill(f"at {self.held}", _LONG_TITLE) if self.held else ""


def _predictions(
    model: GroupedModel, grid: Grid, level: float, fit: GroupedFit | None = None, label: Any = None
) -> pd.DataFrame:
    """Return the predictions of a grid with their intervals: population means, or means of the group with a label.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        The model, or a pipeline or search that ends in one.
    grid : Grid
        The rows.
    level : float
        Confidence level.
    fit : GroupedFit or None, default=None
        The fit, or that of one factor, whose group has the label; None for the population.
    label : object, default=None
        The label.

    Returns
    -------
    predictions : pandas.DataFrame of shape (n_points, 3)
        The columns "prediction", "lower" and "upper".
    """
    kind: PredictionKind = "population_mean" if fit is None else "group_mean"
    # Labels that are passed take precedence over those of a group column, which steps of a pipeline may have changed.
    groups = None if fit is None else groups_of_level(fit, label, len(grid.values))
    rows = grid.rows(None if fit is None else label)
    return predict_interval(model, rows, groups, kind=kind, level=level).reset_index(drop=True)


def _points(grid: Grid, y: ArrayLike, groups: ArrayLike | None, shown: pd.Index) -> pd.DataFrame:
    """Return rows to draw, without those whose value of the column is missing.

    Parameters
    ----------
    grid : Grid
        The grid, with the column of the rows.
    y : array-like of shape (n_samples,)
        Outcome.
    groups : array-like of shape (n_samples,) or None
        Group labels; None takes those of the group column of the grid, if there is one.
    shown : pandas.Index of shape (n_shown,)
        Labels of the groups with a line.

    Returns
    -------
    points : pandas.DataFrame
        The columns "x", "y" and "group".
    """
    outcome = as_outcome(y)
    check_consistent_length(grid.column, outcome)
    if grid.categorical:
        x = pd.Index(grid.values).get_indexer(pd.Index(grid.column)).astype(np.float64)
        x[x < 0] = np.nan
    else:
        x = grid.column.to_numpy(dtype=np.float64, na_value=np.nan)
    labels = grid.group_column if groups is None else groups
    code = np.full(len(x), -1) if labels is None or not len(shown) else encode(labels, shown, len(x))
    return pd.DataFrame({"x": x, "y": outcome, "group": code}).dropna(subset=["x", "y"])
