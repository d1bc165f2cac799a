"""`ShrinkageDisplay`: the groups' raw means against their empirical-Bayes estimates."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from .._inputs import check_choice
from ..inference._fits import random_intercept_fit_of
from ._style import BLUE, SCALES, VERMILION, axes_for, count, ink, named, plural, short, shown, styled, tidy

# Points of a marker's area, of the largest and the smallest group, where there are few and where there are more.
_AREAS, _MORE_AREAS = (100.0, 12.0), (60.0, 6.0)
# More points than this are drawn as an image.
_MANY = 1_500
# The end of the colour map that a light background swallows.
_PALEST = 0.15
# Reliabilities that differ by less are the same.
_SAME = 1e-9


class ShrinkageDisplay:
    """Raw group means against empirical-Bayes estimates: how far each group is shrunk, by its size and reliability.

    On the diagonal nothing is shrunk; on the horizontal line everything is. Areas of points are numbers of rows, colours
    reliabilities. With predictors, a group's mean is that of y less what the predictors explain, plus the intercept: the
    mean at predictors of 0.

    Make one with `from_estimator`.

    Parameters
    ----------
    means, estimates : ndarray of shape (n_groups,)
        Raw means and empirical-Bayes estimates, in units of y.
    reliabilities, sizes : ndarray of shape (n_groups,)
        The reliability of each group, and its number of rows.
    intercept : float
        The fixed intercept, or 0 where means and estimates are deviations from it.
    adjusted : bool
        Whether the model has predictors.
    group_name, outcome_name : str
        What groups and y are called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    scatter_ : matplotlib PathCollection
        The groups.
    lines_ : list of matplotlib Line2D
        The diagonal and the horizontal line.
    colorbar_ : matplotlib Colorbar or None
        Of the reliability; None where all groups have the same.

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
        cls, model: Any, *, scale: str = "absolute", ax: Any = None, scatter_kwargs: dict[str, Any] | None = None
    ) -> Self:
        """Draw the groups of a fitted model.

        Parameters
        ----------
        model : RandomInterceptRegressor
            A fitted model.
        scale : {"absolute", "deviation"}, default="absolute"
            Whether means and estimates are intercepts of groups, or deviations from the fixed one.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        scatter_kwargs : dict, default=None
            Options of the points (matplotlib's scatter).

        Returns
        -------
        display : ShrinkageDisplay
        """
        fit = random_intercept_fit_of(model)
        check_choice("scale", scale, SCALES)
        at = fit.intercept if scale == "absolute" else 0.0
        display = cls(
            means=at + fit.residual_means,
            estimates=at + fit.random_effects,
            reliabilities=fit.reliabilities,
            sizes=fit.group_sizes(),
            intercept=at,
            adjusted=len(fit.slopes) > 0,
            group_name=named(fit.labels, "group"),
            outcome_name=shown(fit.outcome_name),
        )
        return display.plot(ax, scatter_kwargs=scatter_kwargs)

    def plot(self, ax: Any = None, *, scatter_kwargs: dict[str, Any] | None = None) -> Self:
        """Draw the groups.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        scatter_kwargs : dict, default=None
            Options of the points.

        Returns
        -------
        display : ShrinkageDisplay
            Itself, with the artists as attributes.
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
        few = n <= _MANY
        largest, smallest = _AREAS if n <= 60 else _MORE_AREAS
        area = np.maximum(self.sizes / self.sizes.max() * largest, smallest)
        same = bool(np.ptp(self.reliabilities) <= _SAME)
        color = {"c": self.reliabilities, "cmap": ListedColormap(colormaps["viridis_r"](np.linspace(_PALEST, 1.0, 256)))}
        default = {
            **({"color": BLUE} if same else color),
            "s": area if few else 4.0,
            "alpha": 0.85 if few else 0.4,
            "linewidths": 0,
            "rasterized": not few,
        }
        ends = np.array([self.means.min(), self.means.max()])
        self.lines_ = [
            *self.ax_.plot(ends, ends, color=ink(), linewidth=1.0, linestyle="--", label="no shrinkage: the raw mean"),
            self.ax_.axhline(
                self.intercept, color=VERMILION, linewidth=1.2, label="all shrinkage: the population", zorder=0.5
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
        self.ax_.set(
            xlabel=f"raw {mean}, each {self.group_name}",
            ylabel="EB estimate of this mean",
        )
        self.ax_.set_title(self._sizes_text(), loc="left", fontsize="medium", color=ink())
        self.ax_.legend(loc="upper left", frameon=False, fontsize="small")
        tidy(self.ax_)

    def _sizes_text(self) -> str:
        """Return how many groups there are and how large they are."""
        low, high = self.sizes.min(), self.sizes.max()
        each = f"of {short(low, 100.0)}" if low == high else f"of {short(low, 100.0)} to {short(high, 100.0)}"
        same = "" if np.ptp(self.reliabilities) > _SAME else f", reliability {short(self.reliabilities[0])}"
        return f"{count(len(self.means))} {plural(self.group_name)} {each} rows{same}"
