"""`ClusteringDisplay`: an outcome against a predictor, with lines of best fit that ignore or respect the groups."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._inputs import check_choice, column_names
from .._typing import RandomState
from ..models._random_intercept import RandomInterceptRegressor
from ..moments._labels import factorize
from ..moments._rows import as_outcome, check_containers
from ._display import Display
from ._style import (
    BLUE,
    GREY,
    GROUP_COLORS,
    GROUP_MARKERS,
    MAX_COLORED,
    VERMILION,
    axes_for,
    count_of,
    label_text,
    name_text,
    plural,
    sample,
    styled,
    text_color,
)

Lines = Literal["pooled", "group", "model"]

# More lines than _MAX_LINES hide one another: of more groups, only _SAMPLED_LINES lines are drawn.
_MAX_LINES, _SAMPLED_LINES = 500, 200


class ClusteringDisplay(Display):
    """Scatterplot of an outcome against a predictor for rows in groups, with lines of best fit.

    The same rows make three pictures: one line for all rows, which ignores the groups; the points of each group with its
    own line of best fit; or the parallel lines of the random intercept model, which shrinks each group's intercept
    towards that of the population. With up to ten groups, each group has a colour, a marker and an entry in the legend;
    with more groups, the lines are drawn over grey points.

    Create a display with `from_data`.

    Parameters
    ----------
    x, y : ndarray of shape (n_samples,)
        Predictor and outcome.
    codes : ndarray of shape (n_samples,)
        Position of each row's group in `labels`.
    labels : pandas.Index of shape (n_groups,)
        The distinct group labels; the name of the index is the name of their column.
    intercepts, slopes : ndarray of shape (n_groups,)
        Intercept and slope of the line of each group; NaN for a group in which x does not vary.
    overall : tuple of two float
        Intercept and slope of the line of all rows, or of the population of groups.
    lines : {"pooled", "group", "model"}
        The lines to draw, as in `from_data`.
    x_name, y_name : str
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    scatter_ : list of matplotlib PathCollection
        The points: one collection for each group if groups have colours, and a single one otherwise.
    line_ : matplotlib Line2D or None
        The line of all rows or of the population.
    group_lines_ : list of matplotlib Line2D, or matplotlib LineCollection, or None
        The lines of the groups: a list if groups have colours, and a collection otherwise.

    See Also
    --------
    GroupLinesDisplay : The lines of the groups by a fitted model, which may have random slopes.
    RandomEffectsDisplay : The estimated random effects of the groups.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.display import ClusteringDisplay
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> display = ClusteringDisplay.from_data(X["days"], y, subject, lines="model")
    >>> display.ax_.get_xlabel(), display.ax_.get_ylabel()
    ('days', 'reaction')
    >>> plt.close(display.figure_)
    """

    _MADE_BY = "from_data(x, y, groups)"

    def __init__(
        self,
        *,
        x: np.ndarray,
        y: np.ndarray,
        codes: np.ndarray,
        labels: pd.Index,
        intercepts: np.ndarray,
        slopes: np.ndarray,
        overall: tuple[float, float],
        lines: Lines,
        x_name: str = "x",
        y_name: str = "y",
    ):
        self.x = x
        self.y = y
        self.codes = codes
        self.labels = labels
        self.intercepts = intercepts
        self.slopes = slopes
        self.overall = overall
        self.lines = lines
        self.x_name = x_name
        self.y_name = y_name

    @classmethod
    def from_data(
        cls,
        x: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike,
        *,
        lines: Lines = "pooled",
        subsample: int | None = 20_000,
        random_state: RandomState = 0,
        ax: Any = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Fit the lines to the rows, and draw rows and lines.

        Parameters
        ----------
        x : array-like of shape (n_samples,) or (n_samples, 1)
            A predictor. The names of x and y, if they have any, become labels of the axes.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,)
            Group label of each row.
        lines : {"pooled", "group", "model"}, default="pooled"
            "pooled": the least-squares line of all rows. "group": the least-squares line of each group. "model": the lines
            of the random intercept model, fitted by REML, for the groups and the population.
        subsample : int or None, default=20000
            Largest number of points to draw, a random sample of the rows; None draws all. The lines are fitted to all rows.
        random_state : int, RandomState instance or None, default=0
            Random numbers for the samples of points and lines.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure. The legend is above or beside the axes: create a figure of several axes
            with ``layout="constrained"``.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points (as in matplotlib's scatter), and of the lines of the groups, or of the line of all rows if
            it is the only one (as in matplotlib's plot).

        Returns
        -------
        display : ClusteringDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If values or labels are missing, lengths differ, or x is constant.
        """
        check_choice("lines", lines, get_args(Lines))
        check_containers(x=x, y=y, groups=groups)
        columns = column_names(x)
        shape: tuple[int, ...] = getattr(x, "shape", ())
        x_name = name_text(x, "x") if columns is None or len(columns) != 1 else label_text(columns[0])
        y_name = name_text(y, "y")
        if len(shape) == 2 and shape[1] != 1:
            raise ValueError(f"x must be one predictor, of shape (n_samples,); found shape {tuple(shape)}. Pass one column.")
        predictor = column_or_1d(check_array(x, ensure_2d=False, dtype=np.float64, input_name="x"))
        outcome = as_outcome(y).astype(np.float64)
        check_consistent_length(predictor, outcome)
        check_array(outcome, ensure_2d=False, input_name="y")
        codes, labels = factorize(groups, len(outcome))
        if np.ptp(predictor) == 0:
            raise ValueError(f"x is constant ({predictor[0]:g}): there is no line to fit. Pass a predictor that varies.")
        if lines == "model":
            model = RandomInterceptRegressor().fit(predictor[:, None], outcome, groups=codes)
            overall = model.intercept_, float(model.coef_[0])
            intercepts = model.intercept_ + model.random_effects_.to_numpy()
            slopes = np.full(len(labels), model.coef_[0])
        else:
            intercept, slope = _least_squares(predictor, outcome, np.zeros_like(codes), 1)
            overall = float(intercept[0]), float(slope[0])
            intercepts, slopes = _least_squares(predictor, outcome, codes, len(labels))
        display = cls(
            x=predictor,
            y=outcome,
            codes=codes,
            labels=labels,
            intercepts=intercepts,
            slopes=slopes,
            overall=overall,
            lines=lines,
            x_name=x_name,
            y_name=y_name,
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
        subsample: int | None = 20_000,
        random_state: RandomState = 0,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the points and the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        subsample : int or None, default=20000
            Largest number of points to draw; None draws all.
        random_state : int, RandomState instance or None, default=0
            Random numbers for the samples of points and lines.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points and of the lines, as in `from_data`.

        Returns
        -------
        display : ClusteringDisplay
            The same display, with its artists as attributes.
        """
        with axes_for(type(self).__name__, ax, (7.0, 4.6)) as self.ax_:
            self.figure_ = self.ax_.figure
            self._draw(sample(len(self.x), subsample, random_state), random_state, scatter_kwargs, line_kwargs)
        return self

    def _draw(
        self,
        drawn: np.ndarray,
        random_state: RandomState,
        scatter_kwargs: dict[str, Any] | None,
        line_kwargs: dict[str, Any] | None,
    ) -> None:
        """Draw the points at the given positions, and the lines."""
        self.line_: Any = None
        self.group_lines_: Any = None
        if self.lines == "pooled":
            self._draw_points(drawn, scatter_kwargs)
            self._draw_overall("line of best fit, groups ignored", line_kwargs)
        elif len(self.labels) <= MAX_COLORED:
            self._draw_in_colors(drawn, scatter_kwargs, line_kwargs)
        else:
            self._draw_points(drawn, scatter_kwargs)
            self._draw_many_lines(random_state, line_kwargs)
            self._draw_overall("population" if self.lines == "model" else "all rows, groups ignored", None)
        low, high = self.y.min(), self.y.max()
        if self.lines == "model":
            low, high = min(low, self._line_heights().min()), max(high, self._line_heights().max())
        margin = 0.05 * (high - low or 1.0)
        # The lines of the model are parallel; among other lines, the steep line of a small group must not flatten the plot.
        self.ax_.set(xlabel=self.x_name, ylabel=self.y_name, ylim=(low - margin, high + margin))
        self._draw_legend()
        self.ax_.spines[["top", "right"]].set_visible(False)

    def _line_heights(self) -> np.ndarray:
        """Return y at both ends of the line of each group."""
        if isinstance(self.group_lines_, list):
            return np.concatenate([line.get_ydata() for line in self.group_lines_])
        return np.concatenate(self.group_lines_.get_segments())[:, 1]

    def _draw_legend(self) -> None:
        """Draw the legend: beside the axes if it names up to ten groups, above the axes otherwise."""
        title, place = None, {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 2}
        if self.lines != "pooled" and len(self.labels) <= MAX_COLORED:
            title, place = name_text(self.labels, "group"), {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        legend = self.ax_.legend(title=title, frameon=False, borderaxespad=0.3, **place)
        for handle in legend.legend_handles:
            handle.set_alpha(1.0)
            if hasattr(handle, "set_sizes"):
                handle.set_sizes([28.0])

    def _draw_points(self, drawn: np.ndarray, scatter_kwargs: dict[str, Any] | None) -> None:
        """Draw the points at the given positions in one colour."""
        from matplotlib.collections import PathCollection

        few = len(drawn) <= 500
        color, alpha = GREY, 0.25
        if self.lines == "pooled":
            color, alpha = BLUE, 0.8 if few else 0.35
        label = f"{count_of(len(drawn), len(self.x))} rows"
        default = {"color": color, "s": 22 if few else 7, "alpha": alpha, "linewidths": 0, "label": label}
        options = styled(default, scatter_kwargs, PathCollection)
        self.scatter_ = [self.ax_.scatter(self.x[drawn], self.y[drawn], **options)]

    def _draw_in_colors(
        self, drawn: np.ndarray, scatter_kwargs: dict[str, Any] | None, line_kwargs: dict[str, Any] | None
    ) -> None:
        """Draw the points and the line of each group in a colour of its own, and the line of the population."""
        from matplotlib.collections import PathCollection
        from matplotlib.lines import Line2D

        ends = np.array([self.x.min(), self.x.max()])
        self.scatter_, self.group_lines_ = [], []
        for code, label in enumerate(self.labels):
            rows = drawn[self.codes[drawn] == code]
            color, marker = GROUP_COLORS[code], GROUP_MARKERS[code]
            default = {"color": color, "marker": marker, "s": 22, "alpha": 0.8, "linewidths": 0, "label": label_text(label)}
            points = styled(default, scatter_kwargs, PathCollection)
            self.scatter_.append(self.ax_.scatter(self.x[rows], self.y[rows], **points))
            if np.isfinite(self.slopes[code]):
                line = styled({"color": color, "linewidth": 1.3}, line_kwargs, Line2D)
                self.group_lines_ += self.ax_.plot(ends, self.intercepts[code] + self.slopes[code] * ends, **line)
        if self.lines == "model":
            self._draw_overall("population", {"linestyle": "--"})

    def _draw_many_lines(self, random_state: RandomState, line_kwargs: dict[str, Any] | None) -> None:
        """Draw the line of each group, or of a sample of the groups, over the range of the group's rows."""
        from matplotlib.collections import LineCollection

        drawn = np.flatnonzero(np.isfinite(self.slopes))
        if len(drawn) > _MAX_LINES:
            drawn = drawn[sample(len(drawn), _SAMPLED_LINES, random_state)]
        low, high = np.full((2, len(self.labels)), np.nan)
        np.fmin.at(low, self.codes, self.x)
        np.fmax.at(high, self.codes, self.x)
        ends = np.column_stack([low[drawn], high[drawn]])
        heights = self.intercepts[drawn, None] + self.slopes[drawn, None] * ends
        label = f"lines of {count_of(len(drawn), len(self.labels))} {plural(name_text(self.labels, 'group'))}"
        default = {"colors": BLUE, "linewidths": 0.7, "alpha": 0.35, "label": label}
        options = styled(default, line_kwargs, LineCollection)
        self.group_lines_ = LineCollection(list(np.stack([ends, heights], axis=-1)), **options)
        self.ax_.add_collection(self.group_lines_)

    def _draw_overall(self, label: str, line_kwargs: dict[str, Any] | None) -> None:
        """Draw the line of all rows or of the population."""
        from matplotlib.lines import Line2D

        color = VERMILION if self.lines == "pooled" else text_color()
        ends = np.array([self.x.min(), self.x.max()])
        default = {"color": color, "linewidth": 2.2, "label": label, "zorder": 3}
        options = styled(default, line_kwargs, Line2D)
        (self.line_,) = self.ax_.plot(ends, self.overall[0] + self.overall[1] * ends, **options)


def _least_squares(x: np.ndarray, y: np.ndarray, codes: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return intercept and slope of the least-squares line of each group; NaN for a group in which x does not vary."""
    sizes = np.maximum(np.bincount(codes, minlength=n_groups), 1)
    x_mean = np.bincount(codes, x, n_groups) / sizes
    y_mean = np.bincount(codes, y, n_groups) / sizes
    dx = x - x_mean[codes]
    squares = np.bincount(codes, dx * dx, n_groups)
    products = np.bincount(codes, dx * (y - y_mean[codes]), n_groups)
    # If x is constant in a group, rounding may leave a small sum of squares.
    varies = squares > sizes * (8 * np.finfo(np.float64).eps * np.abs(x_mean)) ** 2
    slopes = np.divide(products, squares, out=np.full(n_groups, np.nan), where=varies)
    return y_mean - slopes * x_mean, slopes
