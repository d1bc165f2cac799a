"""`ShrinkageDisplay`: the empirical-Bayes estimates of the groups against their raw means."""

from __future__ import annotations

from typing import Any, Self, get_args

import numpy as np

from .._inputs import check_choice
from .._typing import FittedModel
from ..inference._fits import random_intercept_fit_of
from ._display import Display
from ._style import BLUE, MAX_VECTOR_POINTS, VERMILION, Scale, axes_for, count, names_of, plural, short, styled, text_color

# Areas of the markers of the largest and the smallest group, in points squared, for up to 60 groups and for more.
_AREAS, _MORE_AREAS = (100.0, 12.0), (60.0, 6.0)
# The colour map starts here: lighter colours are invisible on a light background.
_PALEST = 0.15
_INSTEAD = " Of random slopes, RandomCoefficientsDisplay and GroupLinesDisplay show the shrinkage."
# Reliabilities that differ by less than this are equal but for rounding.
_SAME = 1e-9


class ShrinkageDisplay(Display):
    """Raw group means against empirical-Bayes estimates: how far each group is shrunk, by its size and reliability.

    A group on the diagonal is not shrunk at all; a group on the horizontal line is shrunk all the way. The area of a point
    shows the number of rows of its group, and the colour its reliability. With predictors, the mean of a group is the mean
    of y minus the part that the predictors explain, plus the intercept: the mean at predictors of 0.

    Create a display with `from_estimator`.

    Parameters
    ----------
    means, estimates : ndarray of shape (n_groups,)
        Raw means and empirical-Bayes estimates, in units of y.
    reliabilities, sizes : ndarray of shape (n_groups,)
        Reliability and number of rows of each group.
    intercept : float
        The fixed intercept, or 0 if means and estimates are deviations from the fixed intercept.
    adjusted : bool
        Whether the model has predictors.
    group_name, outcome_name : str
        Names of the groups and of y, for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    scatter_ : matplotlib PathCollection
        The groups.
    lines_ : list of matplotlib Line2D
        The diagonal and the horizontal line.
    colorbar_ : matplotlib Colorbar or None
        The scale of the reliabilities; None if all groups have the same reliability.

    See Also
    --------
    RandomCoefficientsDisplay : The shrinkage of random intercepts and slopes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import make_schools
    >>> from sklearn_mlm.display import ShrinkageDisplay
    >>> X, y, school = make_schools(random_state=0, return_X_y_groups=True, as_frame=True)
    >>> null = RandomInterceptRegressor().fit(None, y, groups=school)
    >>> display = ShrinkageDisplay.from_estimator(null)
    >>> len(display.scatter_.get_offsets())
    419
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        means: np.ndarray,
        estimates: np.ndarray,
        reliabilities: np.ndarray,
        sizes: np.ndarray,
        intercept: float,
        adjusted: bool = False,
        group_name: str = "group",
        outcome_name: str = "y",
    ):
        self.means = means
        self.estimates = estimates
        self.reliabilities = reliabilities
        self.sizes = sizes
        self.intercept = intercept
        self.adjusted = adjusted
        self.group_name = group_name
        self.outcome_name = outcome_name

    @classmethod
    def from_estimator(
        cls, model: FittedModel, *, scale: Scale = "absolute", ax: Any = None, scatter_kwargs: dict[str, Any] | None = None
    ) -> Self:
        """Draw the groups of a fitted model.

        Parameters
        ----------
        model : RandomInterceptRegressor
            A fitted model, or a pipeline or search that ends in one.
        scale : {"absolute", "deviation"}, default="absolute"
            Whether to show the intercepts of the groups, or their deviations from the fixed intercept.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        scatter_kwargs : dict, default=None
            Options of the points (as in matplotlib's scatter).

        Returns
        -------
        display : ShrinkageDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the model is not a random intercept model. `RandomCoefficientsDisplay` shows the shrinkage of random slopes.
        """
        fit = random_intercept_fit_of(model, instead=_INSTEAD)
        check_choice("scale", scale, get_args(Scale))
        group_name, outcome_name = names_of(fit)
        at = fit.intercept if scale == "absolute" else 0.0
        display = cls(
            means=at + fit.residual_means,
            estimates=at + fit.random_effects,
            reliabilities=fit.reliabilities,
            sizes=fit.group_sizes(),
            intercept=at,
            adjusted=len(fit.slopes) > 0,
            group_name=group_name,
            outcome_name=outcome_name,
        )
        return display.plot(ax, scatter_kwargs=scatter_kwargs)

    def plot(self, ax: Any = None, *, scatter_kwargs: dict[str, Any] | None = None) -> Self:
        """Draw the groups.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        scatter_kwargs : dict, default=None
            Options of the points, as in `from_estimator`.

        Returns
        -------
        display : ShrinkageDisplay
            The same display, with its artists as attributes.
        """
        with axes_for(type(self).__name__, ax, (6.4, 4.8)) as self.ax_:
            self.figure_ = self.ax_.figure
            self._draw(scatter_kwargs)
        return self

    def _draw(self, scatter_kwargs: dict[str, Any] | None) -> None:
        """Draw the lines and the groups."""
        from matplotlib import colormaps
        from matplotlib.collections import PathCollection
        from matplotlib.colors import ListedColormap

        n = len(self.means)
        few = n <= MAX_VECTOR_POINTS
        largest, smallest = _AREAS if n <= 60 else _MORE_AREAS
        area = np.maximum(self.sizes / self.sizes.max() * largest, smallest)
        default = {"s": area if few else 4.0, "alpha": 0.85 if few else 0.4, "linewidths": 0, "rasterized": not few}
        if np.ptp(self.reliabilities) <= _SAME:
            default["color"] = BLUE
        else:
            default["c"] = self.reliabilities
            default["cmap"] = ListedColormap(colormaps["viridis_r"](np.linspace(_PALEST, 1.0, 256)))
        ends = np.array([self.means.min(), self.means.max()])
        self.lines_ = [
            *self.ax_.plot(
                ends, ends, color=text_color(), linewidth=1.0, linestyle="--", label="no shrinkage: the raw mean"
            ),
            self.ax_.axhline(
                self.intercept, color=VERMILION, linewidth=1.2, label="full shrinkage: the population", zorder=0.5
            ),
        ]
        options = styled(default, scatter_kwargs, PathCollection)
        self.scatter_ = self.ax_.scatter(self.means, self.estimates, **options)
        self.colorbar_ = None
        if self.scatter_.get_array() is not None:
            self.colorbar_ = self.figure_.colorbar(self.scatter_, ax=self.ax_, label="reliability λ")
            self.colorbar_.solids.set_alpha(1.0)
            self.colorbar_.outline.set_visible(False)
        mean = f"mean of {self.outcome_name}" + (" given the predictors" if self.adjusted else "")
        self.ax_.set(xlabel=f"raw {mean}, each {self.group_name}", ylabel="EB estimate of this mean")
        self.ax_.set_title(self._sizes_text(), loc="left", fontsize="medium", color=text_color())
        self.ax_.legend(loc="upper left", frameon=False, fontsize="small")
        self.ax_.spines[["top", "right"]].set_visible(False)

    def _sizes_text(self) -> str:
        """Return the number of groups and their sizes as text."""
        low, high = self.sizes.min(), self.sizes.max()
        sizes = short(low, 100.0) if low == high else f"{short(low, 100.0)} to {short(high, 100.0)}"
        reliability = "" if np.ptp(self.reliabilities) > _SAME else f", reliability {short(self.reliabilities[0])}"
        return f"{count(len(self.means))} {plural(self.group_name)} of {sizes} rows{reliability}"
