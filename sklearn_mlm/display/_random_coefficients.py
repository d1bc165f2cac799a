"""`RandomCoefficientsDisplay`: two random coefficients of the groups against each other, with the regions of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, get_args

import numpy as np
import pandas as pd

from .._inputs import check_choice, check_level
from .._typing import FittedModel, Floats
from ..inference._fits import factor_fit_of
from ..likelihood._factor_fit import FactorView
from ..likelihood._mixed_fit import MixedEffectsFit
from ._display import Display
from ._group_choice import flat_labels
from ._random_columns import coefficient_text, coefficients_of, fixed_effects_of, own_coefficients
from ._style import (
    BLUE,
    GREY,
    MAX_VECTOR_POINTS,
    PALE,
    VERMILION,
    Scale,
    axes_for,
    count,
    count_of,
    names_of,
    percent,
    plural,
    styled,
    text_color,
)

# Up to so many groups have an arrow if `arrows` is None.
_MOST_ARROWS = 100
# The picture extends to all own estimates if they are within so many times the reach of estimates and regions; if not, to
# this share of them, and to so many times this reach at most.
_NEAR, _OWN_SHARE, _FARTHEST = 2.5, 0.8, 5.0
# A share of variance below this is rounding: the coefficients lie on a line.
_SINGULAR = 1e-9
_ANGLES = 181


class RandomCoefficientsDisplay(Display):
    """Two random coefficients against each other, a point for each group, with the regions that the model expects.

    A point is the empirical-Bayes estimate of the two coefficients of a group, such as its intercept and its slope. The
    ellipses are regions that contain 50% and 95% of the groups by the model: of their true coefficients, which are normal
    with the estimated covariance Sigma. If Sigma is singular, an ellipse is a segment of a line: one coefficient determines
    the other. The arrows come from the coefficients that least squares gives the rows of each group alone. They show how far
    shrinkage moves each group: towards the population, and the more, the less its rows say.

    The intercept is the value of the line where all columns are 0. Far from the data, intercept and slope nearly determine
    each other; a column that is counted from the middle of its values makes the picture easier to read.

    Create a display with `from_estimator`.

    Parameters
    ----------
    estimates : pandas.DataFrame of shape (n_groups, 2)
        Empirical-Bayes estimates of the two coefficients by group label, as deviations from the fixed effects.
    own : pandas.DataFrame of shape (n_groups, 2)
        The same by least squares in each group alone; NaN for a group whose rows do not determine its coefficients.
    covariance : ndarray of shape (2, 2)
        Their covariance Sigma.
    fixed_effects : tuple of two float
        The fixed effects of the two columns.
    regions : tuple of float
        Probabilities of the regions.
    outcome_name, group_name : str
        Names of y and of the groups, for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    scatter_ : matplotlib PathCollection
        The groups.
    own_ : matplotlib PathCollection or None
        Least squares in each group alone; None without arrows.
    arrows_ : matplotlib Quiver or None
        The arrows from least squares to the estimates; None without arrows.
    regions_ : list of matplotlib Line2D
        The edges of the regions.

    See Also
    --------
    GroupLinesDisplay : The lines that these coefficients are of.
    RandomEffectsDisplay : Each coefficient by itself.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm import MixedEffectsRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.display import RandomCoefficientsDisplay
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject)
    >>> display = RandomCoefficientsDisplay.from_estimator(model)
    >>> display.estimates.head(2).round(1)
             (Intercept)  days
    subject
    308              2.3   9.2
    309            -40.4  -8.6
    >>> display.own.head(2).round(1)
             (Intercept)  days
    subject
    308             -7.2  11.3
    309            -46.4  -8.2
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        estimates: pd.DataFrame,
        own: pd.DataFrame,
        covariance: np.ndarray,
        fixed_effects: tuple[float, float] = (0.0, 0.0),
        regions: Sequence[float] = (0.5, 0.95),
        outcome_name: str = "y",
        group_name: str = "group",
    ):
        self.estimates = estimates
        self.own = own
        self.covariance = covariance
        self.fixed_effects = fixed_effects
        self.regions = regions
        self.outcome_name = outcome_name
        self.group_name = group_name

    @classmethod
    def from_estimator(
        cls,
        model: FittedModel,
        *,
        factor: str | None = None,
        coefficients: Sequence[str] | None = None,
        scale: Scale = "deviation",
        regions: Sequence[float] = (0.5, 0.95),
        arrows: bool | None = None,
        ax: Any = None,
        scatter_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw two random coefficients of a fitted model.

        Parameters
        ----------
        model : MixedEffectsRegressor
            A fitted model with two random coefficients or more, or a pipeline or search that ends in one.
        factor : str or None, default=None
            The grouping factor whose levels are shown; needed if the model has several.
        coefficients : sequence of two str, default=None
            Names of the coefficients on the horizontal and on the vertical axis, such as ("(Intercept)", "x"). None takes
            the first two.
        scale : {"deviation", "absolute"}, default="deviation"
            Whether to show deviations from the fixed effects, or the coefficients of the groups.
        regions : sequence of float, default=(0.5, 0.95)
            Probabilities of the regions, between 0 and 1.
        arrows : bool or None, default=None
            Whether to draw arrows from least squares in each group alone to the estimates. None draws them if there are up
            to 100 groups.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure. The legend is above the axes: create a figure of several axes with
            ``layout="constrained"``.
        scatter_kwargs : dict, default=None
            Options of the points of the estimates (as in matplotlib's scatter).

        Returns
        -------
        display : RandomCoefficientsDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If only the intercept of the model varies.
        ValueError
            If `coefficients` are not two random coefficients of the model, or a probability is not between 0 and 1.
        """
        fit = factor_fit_of(model, factor)
        names = coefficients_of(fit) if isinstance(fit, MixedEffectsFit | FactorView) else ()
        if not isinstance(fit, MixedEffectsFit | FactorView) or len(names) < 2:
            raise TypeError(
                "model must have two random coefficients, as MixedEffectsRegressor(random_effects='(1 + x | group)') has; "
                "found a single one. RandomEffectsDisplay shows it."
            )
        pair = list(names[:2]) if coefficients is None else _pair(coefficients, names)
        check_choice("scale", scale, get_args(Scale))
        for region in regions:
            _check_region(region)
        at = [names.index(name) for name in pair]
        fixed = fixed_effects_of(fit)
        index = flat_labels(fit.labels).rename(fit.group_name)
        group_name, outcome_name = names_of(fit)
        display = cls(
            estimates=pd.DataFrame(fit.random_effects[:, at], index=index, columns=pair),
            own=pd.DataFrame(own_coefficients(fit)[:, at], index=index, columns=pair),
            covariance=fit.random_covariance[np.ix_(at, at)],
            fixed_effects=(fixed[at[0]], fixed[at[1]]),
            regions=tuple(regions),
            outcome_name=outcome_name,
            group_name=group_name,
        )
        return display.plot(ax, scale=scale, arrows=arrows, scatter_kwargs=scatter_kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        scale: Scale = "deviation",
        arrows: bool | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the groups and the regions.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        scale : {"deviation", "absolute"}, default="deviation"
            Whether to show deviations from the fixed effects, or the coefficients of the groups.
        arrows : bool or None, default=None
            Whether to draw arrows, as in `from_estimator`.
        scatter_kwargs : dict, default=None
            Options of the points, as in `from_estimator`.

        Returns
        -------
        display : RandomCoefficientsDisplay
            The same display, with its artists as attributes.
        """
        check_choice("scale", scale, get_args(Scale))
        with axes_for(type(self).__name__, ax, (6.4, 5.4)) as self.ax_:
            self.figure_ = self.ax_.figure
            center = np.array(self.fixed_effects) if scale == "absolute" else np.zeros(2)
            estimates, own = (table.to_numpy() + center for table in (self.estimates, self.own))
            self.arrows_: Any = None
            self.own_: Any = None
            regions = self._draw_regions(center)
            handles = [self._draw_groups(estimates, scatter_kwargs)]
            if arrows or (arrows is None and len(estimates) <= _MOST_ARROWS):
                handles.append(self._draw_arrows(estimates, own, center))
            handles += regions
            for axis, name in zip("xy", self.estimates.columns, strict=True):
                text = coefficient_text(name, self.outcome_name, absolute=scale == "absolute")
                self.ax_.set(**{f"{axis}label": text})
            self.ax_.spines[["top", "right"]].set_visible(False)
            # Axes that are given may be narrow.
            n_columns = 2 if ax is None else 1
            options = {"frameon": False, "fontsize": "small", "borderaxespad": 0.3}
            place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": n_columns}
            legend = self.ax_.legend(handles=handles, **place, **options)
            # The points themselves may be too pale and small to recognise.
            legend.legend_handles[0].set(alpha=1.0, sizes=[28.0])
        return self

    def _draw_groups(self, estimates: Floats, scatter_kwargs: dict[str, Any] | None) -> Any:
        """Draw the estimates."""
        from matplotlib.collections import PathCollection

        n = len(estimates)
        label = f"EB estimates: {count(n)} {plural(self.group_name)}"
        size, alpha = (28, 0.9) if n <= 200 else (10, 0.5) if n <= MAX_VECTOR_POINTS else (4, 0.3)
        default = {"color": BLUE, "s": size, "alpha": alpha, "linewidths": 0, "zorder": 3, "label": label}
        options = styled({**default, "rasterized": n > MAX_VECTOR_POINTS}, scatter_kwargs, PathCollection)
        self.scatter_ = self.ax_.scatter(estimates[:, 0], estimates[:, 1], **options)
        return self.scatter_

    def _draw_regions(self, center: Floats) -> list[Any]:
        """Draw the regions of the model, and lines through the population."""
        for draw, value in ((self.ax_.axvline, center[0]), (self.ax_.axhline, center[1])):
            draw(value, color=PALE, linewidth=0.8, zorder=0.5)
        shape, rank = _axes_of(self.covariance)
        self.regions_: list[Any] = []
        self._reach = np.abs(self.estimates.to_numpy()).max(axis=0)
        for region, style in zip(sorted(self.regions), _styles(len(self.regions)), strict=True):
            edge = center + _radius(region, rank) * _edge_of(shape, rank)
            label = f"{percent(region)} of groups by the model" if rank else "no group differs by the model"
            look = {"color": text_color(), "linewidth": 1.4, "linestyle": style}
            if rank == 1:
                # One segment lies on the other.
                look |= {"linewidth": 1.4 if region == max(self.regions) else 3.6, "linestyle": "-"}
            elif rank == 0:
                look |= {"linestyle": "none", "marker": "+", "markersize": 12.0}
            self.regions_ += self.ax_.plot(edge[:, 0], edge[:, 1], label=label, zorder=2.5, **look)
            self._reach = np.maximum(self._reach, np.abs(edge - center).max(axis=0))
        return list(self.regions_[: None if rank else 1])

    def _draw_arrows(self, estimates: Floats, own: Floats, center: Floats) -> Any:
        """Draw least squares in each group alone, and arrows to the estimates."""
        known = np.isfinite(own).all(axis=1)
        away = np.abs(own[known] - center)
        reach = self._reach
        if len(away):
            most, farthest = np.quantile(away, _OWN_SHARE, axis=0), away.max(axis=0)
            wide = np.where(
                farthest <= _NEAR * reach, farthest, np.where(reach > 0, np.minimum(most, _FARTHEST * reach), most)
            )
            # A margin, so that no point is on the edge.
            reach = 1.05 * np.maximum(reach, wide)
        near = np.array(known)
        near[known] = (away <= reach).all(axis=1)
        beyond = f", {count(known.sum() - near.sum())} outside" if near.sum() < known.sum() else ""
        start, end = own[near], estimates[near]
        label = f"least squares, groups alone: {count_of(int(known.sum()), len(own))}{beyond}"
        look = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.0}
        self.own_ = self.ax_.scatter(start[:, 0], start[:, 1], s=18, zorder=2.8, label=label, **look)
        heads = {"width": 0.0022, "headwidth": 5.0, "headlength": 6.0, "headaxislength": 5.5}
        units = {"angles": "xy", "scale_units": "xy", "scale": 1.0}
        self.arrows_ = self.ax_.quiver(*start.T, *(end - start).T, color=GREY, alpha=0.7, zorder=2.7, **units, **heads)
        if near.sum() < known.sum():
            x, y = (middle + 1.03 * end * np.array([-1.0, 1.0]) for middle, end in zip(center, reach, strict=True))
            self.ax_.set(xlim=x, ylim=y)
        return self.own_


def _pair(coefficients: Sequence[str], names: tuple[str, ...]) -> list[str]:
    """Return the names of two coefficients, checked."""
    pair = [coefficients] if isinstance(coefficients, str) else list(coefficients)
    if len(pair) != 2 or pair[0] == pair[1] or any(name not in names for name in pair):
        raise ValueError(f"coefficients must be two of {', '.join(map(repr, names))}; found {coefficients!r}.")
    return pair


def _check_region(region: float) -> None:
    """Raise a ValueError unless a probability of a region is between 0 and 1."""
    try:
        check_level(region)
    except ValueError as error:
        raise ValueError(f"regions must be probabilities between 0 and 1, such as (0.5, 0.95); found {region!r}.") from error


def _styles(n: int) -> list[str]:
    """Return the styles of the edges of n regions, of which the largest is solid."""
    return ([":", "-."] * n + ["--", "-"])[-n:] if n else []


def _axes_of(covariance: Floats) -> tuple[Floats, int]:
    """Return a root of a covariance of two coefficients with its rank, which rounding does not raise.

    Returns
    -------
    root : ndarray of shape (2, rank)
        R with R R' the covariance.
    rank : int
        0, 1 or 2.
    """
    sd = np.sqrt(np.maximum(covariance.diagonal(), 0.0))
    unit = np.where(sd > 0, sd, 1.0)
    correlation = covariance / np.outer(unit, unit)
    values, vectors = np.linalg.eigh(correlation)
    kept = values > _SINGULAR
    # Where the dashes of an ellipse start must not depend on rounding, as the eigenvectors do.
    root = np.linalg.cholesky(correlation) if kept.all() else vectors[:, kept] * np.sqrt(values[kept])
    return unit[:, None] * root, int(kept.sum())


def _edge_of(root: Floats, rank: int) -> Floats:
    """Return points of the edge of the region of radius 1: an ellipse, the ends of a segment, or a point."""
    if rank == 2:
        angle = np.linspace(0.0, 2.0 * np.pi, _ANGLES)
        return np.asarray(np.column_stack([np.cos(angle), np.sin(angle)]) @ root.T)
    return np.asarray(np.array([[-1.0], [1.0]]) @ root.T) if rank == 1 else np.zeros((1, 2))


def _radius(region: float, rank: int) -> float:
    """Return the radius, in standard deviations, of the region of a normal distribution with some probability."""
    from scipy import stats

    return float(np.sqrt(stats.chi2.ppf(region, rank))) if rank else 0.0
