"""`GroupLinesDisplay`: the line of each group by the model, beside the one that least squares fits to its rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice, is_whole
from .._typing import Floats, RandomState
from ..inference._fits import GroupedModel, factor_fit_of, last_step, no_outcome, outcome_or_none
from ..moments._labels import MISSING
from ..moments._rows import check_containers
from ._display import Display
from ._grid import columns_of_model, grid_of
from ._group_choice import flat_labels, group_key, label_columns_of, labels_in, refuse_columns_of_groups, sampled_groups
from ._lines_of_groups import LinesOfGroups
from ._style import (
    BLUE,
    GREY,
    VERMILION,
    axes_for,
    count,
    count_of,
    label_text,
    name_text,
    names_of,
    panels_of,
    plural,
    short,
    styled,
    text_color,
)

Kind = Literal["panels", "together"]

# The most groups that are all shown by default, and the size of the sample of more, by the kind of picture.
_ALL, _SAMPLED = {"panels": 20, "together": 500}, {"panels": 12, "together": 200}
_MOST_PANELS = 30
# Four entries of the legend side by side take so many inches, and an inch of its title has so many letters.
_WIDE, _LETTERS = 6.4, 13
# Slopes that differ by less than this share of the range of y are equal.
_SAME = 1e-9


class GroupLinesDisplay(Display):
    """The line of each group by the model, beside the line that least squares fits to the group's rows alone.

    The line of a group by the model has the empirical-Bayes estimates of its coefficients. It lies between the group's own
    line, which knows nothing of other groups, and the line of the population: the less the rows of the group say, the nearer
    to the population. There are two kinds of picture: a panel for each group with its rows and the three lines; or all lines
    together, those of least squares on the left and those of the model on the right, which differ less from each other.

    The lines are those at one value of each of the other columns, which the title says. The outcomes of the rows are
    adjusted to these values by the fixed effects, so that they are where the lines are.

    If a pipeline transforms the columns, the column is one of those that the pipeline takes. If its steps make a curve of
    the column, such as a polynomial, so is the group's own line.

    Create a display with `from_estimator`; `plot` draws the same groups as the other kind of picture.

    Parameters
    ----------
    values : pandas.Series of shape (n_points,)
        Values of the column.
    population : ndarray of shape (n_points,)
        The line of the population, in units of y.
    lines : pandas.DataFrame of shape (n_points, n_shown)
        The line of each group by the model; the columns are labels of groups.
    own : pandas.DataFrame of shape (n_points, n_shown)
        The line of least squares in each group alone; NaN for a group whose rows do not determine a line.
    points : pandas.DataFrame
        The columns "x", "y" and "group" of the rows: the value of the column, the adjusted outcome, and the position of the
        group in `lines`.
    n_groups : int or None
        Number of groups of which those shown are some; None if they are all.
    held : str
        The values of the other columns, in a few words.
    feature_name, outcome_name, group_name : str
        Names of the column, of y and of the groups, for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that the panels divide; they are invisible themselves.
    axes_ : ndarray of matplotlib Axes
        The panels: of the groups, in the order of their slopes by the model, or of least squares and of the model.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    lines_, own_lines_ : list of matplotlib Line2D, or matplotlib LineCollection
        The lines of the groups by the model and by least squares: lists in the order of the panels, or, if they are drawn
        together, a collection each. There are no lines of groups whose rows do not determine one.
    population_ : list of matplotlib Line2D
        The line of the population in each panel.
    scatter_ : list of matplotlib PathCollection
        The rows in each panel; empty if the lines are drawn together.
    legend_ : matplotlib Legend
        The legend, above the panels.

    See Also
    --------
    RandomCoefficientsDisplay : Intercepts against slopes.
    FittedLineDisplay : The line of the population and of some groups, with bands.
    ClusteringDisplay : Lines of groups, without a model or by a random intercept model.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm import MixedEffectsRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.display import GroupLinesDisplay
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject)
    >>> display = GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days")
    >>> len(display.axes_)
    18
    >>> [lines[335].iloc[[0, -1]].round(1).tolist() for lines in (display.lines, display.own)]
    [[251.1, 248.5], [263.0, 237.1]]
    >>> plt.close(display.figure_)
    """

    _MADE_BY = "from_estimator(model, X, y, groups, feature=...)"

    def __init__(
        self,
        *,
        values: pd.Series,
        population: np.ndarray,
        lines: pd.DataFrame,
        own: pd.DataFrame,
        points: pd.DataFrame,
        n_groups: int | None = None,
        held: str = "",
        feature_name: str = "x",
        outcome_name: str = "y",
        group_name: str = "group",
    ):
        self.values = values
        self.population = population
        self.lines = lines
        self.own = own
        self.points = points
        self.n_groups = n_groups
        self.held = held
        self.feature_name = feature_name
        self.outcome_name = outcome_name
        self.group_name = group_name

    @classmethod
    def from_estimator(
        cls,
        model: GroupedModel,
        X: Any,
        y: ArrayLike | None = None,
        groups: Any = None,
        *,
        feature: str | int,
        kind: Kind = "panels",
        factor: str | None = None,
        show_groups: Any = None,
        n_points: int = 100,
        at: Mapping[Any, Any] | None = None,
        sample_weight: ArrayLike | None = None,
        random_state: RandomState = 0,
        ax: Any = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Compute the lines of groups along a column, and draw them.

        Parameters
        ----------
        model : MixedEffectsRegressor or RandomInterceptRegressor
            A fitted model, or a pipeline or search that ends in one.
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Rows as the model or the pipeline takes them, such as those of `fit`.
        y : array-like of shape (n_samples,), default=None
            Outcome. A model with a formula takes it from `X`, a data frame, if it is None.
        groups : array-like of shape (n_samples,) or data frame, default=None
            Group labels, as in `predict`; not needed if a column of X holds the labels.
        feature : str or int
            Name or position of the column, which holds numbers.
        kind : {"panels", "together"}, default="panels"
            "panels": a panel for each group, in the order of the slopes by the model. "together": the lines of all groups,
            those of least squares beside those of the model, each over the range of the group's rows.
        factor : str or None, default=None
            The grouping factor whose levels are shown; needed if the model has several.
        show_groups : int, array-like of labels or None, default=None
            Labels of the groups to show, or the size of a random sample of the groups of the rows. None shows all groups up
            to 20 panels, or 500 lines together, and a sample of 12, or 200, if there are more. There are 30 panels at most.
        n_points : int, default=100
            Number of points of a line.
        at : dict, default=None
            Values of other columns, by name or position. The rest of the columns are held at their mean if they are numeric,
            and at their most frequent value otherwise.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights of least squares in each group; a row of weight 0 is left out.
        random_state : int, RandomState instance or None, default=0
            Random numbers for the sample of groups.
        ax : matplotlib Axes, default=None
            Axes to draw into, part of a grid of subplots; None makes a figure. The legend is above the axes: create a figure
            of several axes with ``layout="constrained"``.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points (as in matplotlib's scatter), and of the lines of the model (as in matplotlib's plot).

        Returns
        -------
        display : GroupLinesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If X has no such column, if it does not vary or is not numeric, if a group is unknown or no row is of a group
            that the model knows, if there are too many panels, or if a column with random coefficients is not in X.
        """
        fit = factor_fit_of(model, factor)
        refuse_columns_of_groups(fit)
        check_choice("kind", kind, get_args(Kind))
        if not is_whole(n_points, least=2):
            raise ValueError(f"n_points must be a whole number, at least 2; found {n_points!r}.")
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        last, _ = last_step(model)
        outcome = outcome_or_none(last, X, y)
        if outcome is None:
            raise no_outcome(model)
        X = columns_of_model(last, X)
        key = group_key(last, last is model, X)
        grid = grid_of(X, feature, n_points=int(n_points), at=at, group_key=key, level_columns=label_columns_of(fit))
        if grid.categorical:
            raise ValueError(f"feature={feature!r} does not hold numbers, along which a line could be drawn.")
        of_rows = groups if label_columns_of(fit) else labels_in(groups, fit)
        rows = LinesOfGroups(model, fit, grid, X, outcome, of_rows, sample_weight)
        if not len(rows.present):
            raise ValueError("No row is of a group that the model knows. Pass rows of groups that it knows.")
        shown = sampled_groups(fit, show_groups, rows.present, _ALL[kind], _SAMPLED[kind], random_state)
        _check_panels(kind, len(shown))
        labels = flat_labels(fit.labels).take(shown)
        group_name, outcome_name = names_of(fit)
        display = cls(
            values=grid.values,
            population=rows.line(MISSING),
            lines=pd.DataFrame(np.column_stack([rows.line(code) for code in shown]), columns=labels),
            own=pd.DataFrame(np.column_stack([rows.own_line(code) for code in shown]), columns=labels),
            points=rows.points(shown),
            n_groups=len(rows.present) if len(shown) < len(rows.present) else None,
            held=grid.held_text(),
            feature_name=grid.name,
            outcome_name=name_text(y, outcome_name),
            group_name=group_name,
        )
        return display.plot(ax, kind=kind, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: Kind = "panels",
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into, part of a grid of subplots; None makes a figure.
        kind : {"panels", "together"}, default="panels"
            The kind of picture, as in `from_estimator`.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points and of the lines of the model, as in `from_estimator`.

        Returns
        -------
        display : GroupLinesDisplay
            The same display, with its artists as attributes.
        """
        check_choice("kind", kind, get_args(Kind))
        n = self.lines.shape[1]
        _check_panels(kind, n)
        n_rows, n_columns = (1, 2) if kind == "together" else _grid_shape(n)
        size = (10.0, 4.6) if kind == "together" else (max(1.6 * n_columns, 4.2) + 0.6, 1.6 * n_rows + 1.1)
        with axes_for(type(self).__name__, ax, size) as self.ax_:
            self.figure_ = self.ax_.figure
            self.scatter_: list[Any] = []
            self.population_: list[Any] = []
            panels, self._above = panels_of(self.ax_, n_rows, n_columns, legend=True)
            used = n if kind == "panels" else 2
            for panel in panels[used:]:
                panel.remove()
            self.axes_ = np.array(panels[:used])
            if kind == "together":
                handles = self._draw_together(line_kwargs)
            else:
                handles = self._draw_panels(n_columns, scatter_kwargs, line_kwargs)
            self._label(handles, kind, size[0] if ax is None else ax.get_window_extent().width / self.figure_.dpi)
        return self

    def _label(self, handles: list[Any], kind: Kind, width: float) -> None:
        """Draw the legend above the panels, of a width in inches, with what is held and how many groups there are."""
        shown = count_of(self.lines.shape[1], self.n_groups or self.lines.shape[1])
        title = f"{shown} {plural(self.group_name)}"
        if kind == "panels":
            title += ", in the order of their slopes by the model"
        if self.held:
            title += f", at {self.held}" + ("; y is adjusted to that" if kind == "panels" else "")
        options = {"frameon": False, "fontsize": "small", "title_fontsize": "small", "alignment": "left"}
        place = {"loc": "lower left", "bbox_to_anchor": (0.0, 0.0), "borderaxespad": 0.0}
        n_columns = 4 if width > _WIDE else 2 if width > _WIDE / 2 else 1
        title = fill(title, max(int(_LETTERS * width), 20))
        self.legend_ = self._above.legend(handles=handles, title=title, ncols=n_columns, **options, **place)
        for handle in self.legend_.legend_handles:
            # The lines themselves may be pale and thin.
            handle.set_alpha(1.0)
            if kind == "together":
                handle.set_linewidth(2.0)

    def _draw_panels(
        self, n_columns: int, scatter_kwargs: dict[str, Any] | None, line_kwargs: dict[str, Any] | None
    ) -> list[Any]:
        """Draw a panel for each group, and return the entries of the legend."""
        from matplotlib.collections import PathCollection
        from matplotlib.lines import Line2D

        x = self.values.to_numpy()
        self.lines_: Any = []
        self.own_lines_: Any = []
        self._order = _by_slope(self.lines.to_numpy())
        look = {"color": GREY, "s": 12, "alpha": 0.8, "linewidths": 0, "label": "rows"}
        points = styled({**look, "zorder": 1.5}, scatter_kwargs, PathCollection)
        model = styled({"color": BLUE, "linewidth": 2.0, "label": "by the model: shrunk"}, line_kwargs, Line2D)
        alone: dict[str, Any] = {
            "color": VERMILION,
            "linewidth": 1.6,
            "linestyle": "--",
            "label": "least squares in the group alone",
        }
        everyone = {"color": text_color(), "linewidth": 1.0, "linestyle": ":", "label": "population"}
        for panel, i in zip(self.axes_, self._order, strict=True):
            rows = self.points[self.points["group"] == i]
            self.scatter_.append(panel.scatter(rows["x"], rows["y"], **points))
            self.population_ += panel.plot(x, self.population, **everyone, zorder=1.8)
            self.lines_ += panel.plot(x, self.lines.iloc[:, i], **model)
            own = self._within_rows(self.own, i)
            if len(own):
                self.own_lines_ += panel.plot(*own.T, **alone)
            panel.set_title(label_text(self.lines.columns[i]).strip(), fontsize="small", pad=3.0, color=text_color())
        self._frame(self.axes_, n_columns)
        own_handle = self.own_lines_[0] if self.own_lines_ else Line2D([], [], **alone)
        return [self.scatter_[0], own_handle, self.lines_[0], self.population_[0]]

    def _draw_together(self, line_kwargs: dict[str, Any] | None) -> list[Any]:
        """Draw the lines of least squares beside those of the model, and return the entries of the legend."""
        from matplotlib.collections import LineCollection

        n = self.lines.shape[1]
        own = [self._within_rows(self.own, i) for i in range(n)]
        lines = [self._within_rows(self.lines, i) if len(own[i]) else self._whole(i) for i in range(n)]
        own = [line for line in own if len(line)]
        few: dict[str, Any] = {"linewidths": 1.3, "alpha": 0.7} if n <= 40 else {"linewidths": 0.8, "alpha": 0.4}
        left = {"colors": VERMILION, "label": "least squares in each group alone", **few}
        right = styled({"colors": BLUE, "label": "by the model: shrunk", **few}, line_kwargs, LineCollection)
        self.own_lines_, self.lines_ = LineCollection(own, **left), LineCollection(lines, **right)
        everyone = {"color": text_color(), "linewidth": 2.2, "label": "population", "zorder": 3}
        kinds = (
            (self.own_lines_, self.own, f"Least squares, {count_of(len(own), n)} groups alone"),
            (self.lines_, self.lines, f"The model, {count(n)} groups"),
        )
        for panel, (collection, table, title) in zip(self.axes_, kinds, strict=True):
            panel.add_collection(collection)
            self.population_ += panel.plot(self.values, self.population, **everyone)
            panel.set_title(title + self._spread_text(table), loc="left", fontsize="medium", color=text_color())
        self._frame(self.axes_, 2)
        return [self.own_lines_, self.lines_, self.population_[0]]

    def _within_rows(self, table: pd.DataFrame, i: int) -> Floats:
        """Return the points of a line between the least and the greatest x of the group's rows; none without a line."""
        x, line = self.values.to_numpy(), table.iloc[:, i].to_numpy()
        of_rows = self.points["x"].to_numpy()[self.points["group"].to_numpy() == i]
        if not len(of_rows) or np.isnan(line).any():
            return np.empty((0, 2))
        low, high = of_rows.min(), of_rows.max()
        at = np.unique([low, *x[(x > low) & (x < high)], high])
        return np.column_stack([at, np.interp(at, x, line)])

    def _whole(self, i: int) -> Floats:
        """Return the points of the line of a group by the model, along all values of the column."""
        return np.column_stack([self.values.to_numpy(), self.lines.iloc[:, i].to_numpy()])

    def _spread_text(self, table: pd.DataFrame) -> str:
        """Return the standard deviation of the slopes of lines as text."""
        slopes = (table.iloc[-1] - table.iloc[0]).to_numpy() / float(np.ptp(self.values))
        slopes = slopes[np.isfinite(slopes)]
        return f": SD of slopes {short(float(slopes.std(ddof=1)))}" if len(slopes) > 1 else ""

    def _frame(self, panels: np.ndarray, n_columns: int) -> None:
        """Give panels the same axes, with labels on the left and at the bottom."""
        heights = [self.points["y"].to_numpy(), self.population]
        drawn = self.lines_ if isinstance(self.lines_, list) else self.lines_.get_segments()
        heights += [line.get_ydata() if hasattr(line, "get_ydata") else line[:, 1] for line in drawn]
        low, high = float(min(map(np.min, heights))), float(max(map(np.max, heights)))
        margin = 0.05 * (high - low or 1.0)
        ends = float(self.values.iloc[0]), float(self.values.iloc[-1])
        beside = 0.04 * (ends[1] - ends[0])
        for at, panel in enumerate(panels):
            panel.set(xlim=(ends[0] - beside, ends[1] + beside), ylim=(low - margin, high + margin))
            panel.spines[["top", "right"]].set_visible(False)
            left, bottom = at % n_columns == 0, at + n_columns >= len(panels)
            panel.tick_params(labelleft=left, labelbottom=bottom)
            if left:
                panel.set_ylabel(self.outcome_name)
            if bottom:
                panel.set_xlabel(self.feature_name)


def _check_panels(kind: Kind, n: int) -> None:
    """Raise a ValueError if there are too many groups for a panel each."""
    if kind == "panels" and n > _MOST_PANELS:
        raise ValueError(
            f"There is room for {_MOST_PANELS} panels; found {n} groups. Show fewer groups with show_groups, or draw "
            "the lines of all groups with kind='together'."
        )


def _grid_shape(n: int) -> tuple[int, int]:
    """Return numbers of rows and columns of panels with few gaps: up to four columns for twelve groups, and six for more."""
    columns = [n] if n <= 4 else [4] if n <= 12 else [6, 5, 4]
    best = min(columns, key=lambda each: -n % each)
    return -(-n // best), best


def _by_slope(lines: Floats) -> np.ndarray:
    """Return the order of lines by their slopes; lines of equal slope stay in their order."""
    slopes = lines[-1] - lines[0]
    return np.argsort(np.round(slopes / (_SAME * float(np.ptp(lines)) or 1.0)), kind="stable")
