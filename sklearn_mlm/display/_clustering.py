"""`ClusteringDisplay`: an outcome against a predictor, by group, with lines that ignore the groups or do not."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._inputs import check_choice, column_names
from ..models._random_intercept import RandomInterceptRegressor
from ..moments._labels import factorize
from ..moments._rows import as_outcome, check_containers
from ._style import (
    BLUE,
    GREY,
    GROUP_COLORS,
    GROUP_MARKERS,
    MAX_COLORED,
    VERMILION,
    axes_for,
    count,
    ink,
    named,
    plural,
    sample,
    shown,
    styled,
    tidy,
)

_LINES = ("pooled", "group", "model")
# More lines than the first number hide one another; of more groups than that, so many as the second are drawn.
_MAX_LINES, _SAMPLED_LINES = 500, 200


class ClusteringDisplay:
    """Scatterplot of an outcome against a predictor, whose rows belong to groups, with lines of best fit.

    Three pictures of the same rows: one line for all of them, as if there were no groups; the points and a line of best
    fit of each group, with an intercept and a slope of its own; or the parallel lines of the random intercept model,
    each group's intercept shrunk towards that of the population. Up to ten groups have a colour, a marker and an entry in
    the legend each; of more, lines are drawn over grey points.

    Make one with `from_data`.

    Parameters
    ----------
    x, y : ndarray of shape (n_samples,)
        Predictor and outcome.
    codes : ndarray of shape (n_samples,)
        The position of each row's group in `labels`.
    labels : pandas.Index of shape (n_groups,)
        Group labels, named as their column is.
    intercepts, slopes : ndarray of shape (n_groups,)
        The line of each group; NaN where a group has none, since x does not vary in it.
    overall : tuple of two float
        Intercept and slope of the line of all rows, or of the population of groups.
    lines : {"pooled", "group", "model"}
        What the lines are.
    x_name, y_name : str
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    scatter_ : list of matplotlib PathCollection
        The points, one for each group where groups have colours.
    line_ : matplotlib Line2D or None
        The line of all rows or of the population.
    group_lines_ : list of matplotlib Line2D, or matplotlib LineCollection, or None
        The lines of groups: artists of their own where groups have colours.

    See Also
    --------
    RandomEffectsDisplay : The estimates of the groups' own effects.

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
        lines: str,
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
        x: Any,
        y: Any,
        groups: Any,
        *,
        lines: str = "pooled",
        subsample: int | None = 5_000,
        random_state: Any = 0,
        ax: Any = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Fit the lines to rows, and draw both.

        Parameters
        ----------
        x : array-like of shape (n_samples,)
            A predictor. Names of columns become labels of axes.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,)
            Group label of each row.
        lines : {"pooled", "group", "model"}, default="pooled"
            "pooled": the least-squares line of all rows. "group": that of each group. "model": the lines of the random
            intercept model (REML), of groups and of the population.
        subsample : int or None, default=5000
            How many points are drawn at most, a random sample of the rows; None draws all. The lines are fitted to all rows.
        random_state : int, RandomState instance or None, default=0
            Of the samples of points and lines.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure. The legend is above or beside the axes: make a figure of several with
            ``layout="constrained"``.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points (matplotlib's scatter) and of the lines of groups, or of the only line (matplotlib's
            plot).

        Returns
        -------
        display : ClusteringDisplay

        Raises
        ------
        ValueError
            Where values or labels are missing, lengths differ, or x is constant.
        """
        check_choice("lines", lines, _LINES)
        check_containers(x=x, y=y, groups=groups)
        two = column_names(x)
        x_name = named(x, "x") if two is None or len(two) != 1 else shown(two[0])
        y_name = named(y, "y")
        if len(getattr(x, "shape", ())) == 2 and x.shape[1] != 1:
            raise ValueError(
                f"x must be one predictor, of shape (n_samples,); found shape {tuple(x.shape)}. Pass one column."
            )
        x = column_or_1d(check_array(x, ensure_2d=False, dtype=np.float64, input_name="x"))
        y = as_outcome(y).astype(np.float64)
        check_consistent_length(x, y)
        check_array(y, ensure_2d=False, input_name="y")
        codes, labels = factorize(groups, len(y))
        if np.ptp(x) == 0:
            raise ValueError(f"x is constant ({x[0]:g}): there is no line to fit. Pass a predictor that varies.")
        whole = _least_squares(x, y, np.zeros(len(x), dtype=np.intp), 1)
        overall = float(whole[0][0]), float(whole[1][0])
        if lines == "model":
            model = RandomInterceptRegressor().fit(x[:, None], y, groups=codes)
            overall = model.intercept_, float(model.coef_[0])
            intercepts = model.intercept_ + model.random_effects_.to_numpy()
            slopes = np.full(len(labels), model.coef_[0])
        else:
            intercepts, slopes = _least_squares(x, y, codes, len(labels))
        display = cls(
            x=x,
            y=y,
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
        subsample: int | None = 5_000,
        random_state: Any = 0,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw points and lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        subsample : int or None, default=5000
            How many points are drawn at most.
        random_state : int, RandomState instance or None, default=0
            Of the samples of points and lines.
        scatter_kwargs, line_kwargs : dict, default=None
            Options of the points and of the lines.

        Returns
        -------
        display : ClusteringDisplay
            Itself, with the artists as attributes.
        """
        with axes_for(type(self).__name__, ax, (7.0, 4.6)) as self.ax_:
            self.figure_ = self.ax_.figure
            self._draw(sample(len(self.x), subsample, random_state), random_state, scatter_kwargs, line_kwargs)
        return self

    def _draw(
        self,
        drawn: np.ndarray,
        random_state: Any,
        scatter_kwargs: dict[str, Any] | None,
        line_kwargs: dict[str, Any] | None,
    ) -> None:
        """Draw some of the points, and the lines."""
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
        # A steep line of a small group must not flatten the picture; those of the model are parallel.
        self.ax_.set(xlabel=self.x_name, ylabel=self.y_name, ylim=(low - margin, high + margin))
        self._draw_legend()
        tidy(self.ax_)

    def _line_heights(self) -> np.ndarray:
        """Return where the ends of the groups' lines are."""
        if isinstance(self.group_lines_, list):
            return np.concatenate([line.get_ydata() for line in self.group_lines_])
        return np.concatenate(self.group_lines_.get_segments())[:, 1]

    def _draw_legend(self) -> None:
        """Say what is what: beside the axes where there are ten groups to name, above them otherwise."""
        beside = self.lines != "pooled" and len(self.labels) <= MAX_COLORED
        title = named(self.labels, "group") if beside else None
        place = (
            {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
            if beside
            else {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 2}
        )
        legend = self.ax_.legend(title=title, frameon=False, borderaxespad=0.3, **place)
        for handle in legend.legend_handles:
            handle.set_alpha(1.0)
            if hasattr(handle, "set_sizes"):
                handle.set_sizes([28.0])

    def _draw_points(self, which: np.ndarray, scatter_kwargs: dict[str, Any] | None) -> None:
        """Draw points in one colour."""
        from matplotlib.collections import PathCollection

        pooled = self.lines == "pooled"
        few = len(which) <= 500
        drawn = f"{count(len(which))} of " if len(which) < len(self.x) else ""
        default = {
            "color": BLUE if pooled else GREY,
            "s": 22 if few else 7,
            "alpha": (0.8 if few else 0.35) if pooled else 0.25,
            "linewidths": 0,
            "label": f"{drawn}{count(len(self.x))} rows",
        }
        self.scatter_ = [
            self.ax_.scatter(self.x[which], self.y[which], **styled(default, scatter_kwargs, PathCollection)),
        ]

    def _draw_in_colors(
        self, which: np.ndarray, scatter_kwargs: dict[str, Any] | None, line_kwargs: dict[str, Any] | None
    ) -> None:
        """Draw each group in a colour of its own, and the line of the population."""
        from matplotlib.collections import PathCollection
        from matplotlib.lines import Line2D

        ends = np.array([self.x.min(), self.x.max()])
        self.scatter_, self.group_lines_ = [], []
        for code, label in enumerate(self.labels):
            rows = which[self.codes[which] == code]
            color, marker = GROUP_COLORS[code], GROUP_MARKERS[code]
            default = {"color": color, "marker": marker, "s": 22, "alpha": 0.8, "linewidths": 0, "label": shown(label)}
            points = styled(default, scatter_kwargs, PathCollection)
            self.scatter_.append(self.ax_.scatter(self.x[rows], self.y[rows], **points))
            if np.isfinite(self.slopes[code]):
                line = styled({"color": color, "linewidth": 1.3}, line_kwargs, Line2D)
                self.group_lines_ += self.ax_.plot(ends, self.intercepts[code] + self.slopes[code] * ends, **line)
        if self.lines == "model":
            self._draw_overall("population", {"linestyle": "--"})

    def _draw_many_lines(self, random_state: Any, line_kwargs: dict[str, Any] | None) -> None:
        """Draw lines of groups, or of a sample of them, each over the range of its rows."""
        from matplotlib.collections import LineCollection

        found = np.flatnonzero(np.isfinite(self.slopes))
        which = found if len(found) <= _MAX_LINES else found[sample(len(found), _SAMPLED_LINES, random_state)]
        low, high = np.full((2, len(self.labels)), np.nan)
        np.fmin.at(low, self.codes, self.x)
        np.fmax.at(high, self.codes, self.x)
        ends = np.column_stack([low[which], high[which]])
        heights = self.intercepts[which, None] + self.slopes[which, None] * ends
        drawn = f"{count(len(which))} of " if len(which) < len(self.labels) else ""
        noun = plural(named(self.labels, "group"))
        default = {
            "colors": BLUE,
            "linewidths": 0.7,
            "alpha": 0.35,
            "label": f"lines of {drawn}{count(len(self.labels))} {noun}",
        }
        options = styled(default, line_kwargs, LineCollection)
        self.group_lines_ = LineCollection(list(np.stack([ends, heights], axis=-1)), **options)
        self.ax_.add_collection(self.group_lines_)

    def _draw_overall(self, label: str, line_kwargs: dict[str, Any] | None) -> None:
        """Draw the line of all rows, or of the population."""
        from matplotlib.lines import Line2D

        color = VERMILION if self.lines == "pooled" else ink()
        ends = np.array([self.x.min(), self.x.max()])
        default = {"color": color, "linewidth": 2.2, "label": label, "zorder": 3}
        options = styled(default, line_kwargs, Line2D)
        (self.line_,) = self.ax_.plot(ends, self.overall[0] + self.overall[1] * ends, **options)


def _least_squares(x: np.ndarray, y: np.ndarray, codes: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return intercept and slope of the least-squares line of each group; NaN where x does not vary in it."""
    sizes = np.maximum(np.bincount(codes, minlength=n_groups), 1)
    x_mean = np.bincount(codes, x, n_groups) / sizes
    y_mean = np.bincount(codes, y, n_groups) / sizes
    dx = x - x_mean[codes]
    squares = np.bincount(codes, dx * dx, n_groups)
    products = np.bincount(codes, dx * (y - y_mean[codes]), n_groups)
    # What rounding leaves of an x that is constant in a group.
    varies = squares > sizes * (8 * np.finfo(np.float64).eps * np.abs(x_mean)) ** 2
    slopes = np.divide(products, squares, out=np.full(n_groups, np.nan), where=varies)
    return y_mean - slopes * x_mean, slopes
