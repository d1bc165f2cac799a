"""`VarianceDisplay`: how the variance divides, where groups lie, and what the data say of the intraclass correlation."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import stats

from .._inputs import check_choice, check_level
from ..inference._fits import random_intercept_fit_of
from ..inference._intervals import plausible_values_range
from ..inference._profile import icc_of_ratio, ratio_limits
from ..inference._shares import r2
from ._style import BLUE, DARK, GREY, ORANGE, PALE, SKY, VERMILION, axes_for, ink, named, percent, plural, short, shown, tidy

_KINDS = ("shares", "range", "profile")
_POINTS = 301
# A share too narrow for its label inside the bar.
_NARROW = 0.09
_NO_SHARE = 1e-9
# Beyond it the criterion is flat to rounding.
_LARGEST_ICC = 1.0 - 1e-12


class VarianceDisplay:
    """How the variance of an outcome divides between groups and within them, and how sure that is.

    Three pictures: the shares of the variance (explained by the predictors within groups and between them, left between
    groups, left within them) with the plausible values range; that range as the distribution of the groups' intercepts
    beside that of single rows; and the profile of the criterion over the intraclass correlation (ICC), with its interval.

    Make one with `from_estimator`; `plot` draws the same model in another way.

    Parameters
    ----------
    shares : dict of float
        "fixed_within", "fixed_between", "group" and "residual": parts of the variance of y, which sum to 1.
    intercept, group_sd, residual_sd : float
        The fixed intercept, tau and sigma, in units of y.
    plausible_range : tuple of two float
        Plausible values range of the groups' intercepts, in units of y.
    icc : float
        Intraclass correlation.
    profile : tuple of two ndarray
        ICCs, and how far the criterion there stands above its least value.
    icc_limits : tuple of two float
        Where the profile crosses `threshold`.
    threshold : float
        The quantile of chi-squared with one degree of freedom.
    level : float
        Of the range and of the interval.
    reml : bool
        Whether the criterion is restricted.
    predictors : bool
        Whether the model has predictors.
    group_name, outcome_name : str
        What groups and y are called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    bars_ : list of matplotlib BarContainer or None
        The shares ("shares"); those of 0 are left out.
    line_ : matplotlib Line2D or None
        The groups' intercepts ("range"), or the profile ("profile").
    area_ : matplotlib PolyCollection or None
        The plausible values range ("range"), or the interval ("profile").

    See Also
    --------
    sklearn_mlm.inference.r2 : The shares as figures.
    sklearn_mlm.inference.confidence_intervals : Intervals of all parameters; those of the ICC are exact, or of the full
        likelihood, where the one here is of the criterion of the fit.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_dyestuff
    >>> from sklearn_mlm.display import VarianceDisplay
    >>> dyestuff = load_dyestuff(as_frame=True)
    >>> model = RandomInterceptRegressor().fit(None, dyestuff.target, groups=dyestuff.groups)
    >>> display = VarianceDisplay.from_estimator(model, kind="profile")
    >>> [round(limit, 3) for limit in display.icc_limits]
    [0.069, 0.819]
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        shares: dict[str, float],
        intercept: float,
        group_sd: float,
        residual_sd: float,
        plausible_range: tuple[float, float],
        icc: float,
        profile: tuple[np.ndarray, np.ndarray],
        icc_limits: tuple[float, float],
        threshold: float,
        level: float = 0.95,
        reml: bool = True,
        predictors: bool = False,
        group_name: str = "group",
        outcome_name: str = "y",
    ):
        self.shares = shares
        self.intercept = intercept
        self.group_sd = group_sd
        self.residual_sd = residual_sd
        self.plausible_range = plausible_range
        self.icc = icc
        self.profile = profile
        self.icc_limits = icc_limits
        self.threshold = threshold
        self.level = level
        self.reml = reml
        self.predictors = predictors
        self.group_name = group_name
        self.outcome_name = outcome_name

    @classmethod
    def from_estimator(cls, model: Any, *, kind: str = "shares", level: float = 0.95, ax: Any = None) -> Self:
        """Draw the variance of a fitted model.

        Parameters
        ----------
        model : RandomInterceptRegressor
            A fitted model.
        kind : {"shares", "range", "profile"}, default="shares"
            Which of the pictures.
        level : float, default=0.95
            Of the plausible values range and of the interval of the ICC.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : VarianceDisplay

        Raises
        ------
        ValueError
            Where the model leaves no residual (sigma2 = 0) or y is constant, so that nothing is there to divide.
        """
        fit = random_intercept_fit_of(model)
        check_level(level)
        tau2, sigma2, criterion = fit.group_variance, fit.residual_variance, fit.criterion()
        if tau2 + sigma2 == 0:
            reason = "y is constant" if criterion.coordinates.outcome_constant else "The fixed effects determine y"
            raise ValueError(f"{reason}: there is no variance to show.")
        if sigma2 == 0:
            raise ValueError("The model leaves no residual (sigma2 = 0): there is no variance within groups to show.")
        threshold = float(stats.chi2.ppf(level, 1))
        lower, upper = icc_of_ratio(np.array(ratio_limits(criterion, threshold))).tolist()
        # A little beyond the interval on both sides, so that the curve is seen to cross, but not to where groups are all.
        margin = 0.18 * (upper - lower)
        ends = max(lower - margin, 0.0), min(upper + margin, (1.0 + upper) / 2.0, _LARGEST_ICC)
        grid = np.unique(np.append(np.linspace(*ends, _POINTS), fit.icc))
        excess = criterion.evaluate(grid / (1.0 - grid))[0] - fit.solution.value
        parts = r2(model)
        low, high = plausible_values_range(model, level)
        display = cls(
            shares={name: float(parts[name]) for name in ("fixed_between", "group", "fixed_within", "residual")},
            intercept=fit.intercept,
            group_sd=float(np.sqrt(tau2)),
            residual_sd=float(np.sqrt(sigma2)),
            plausible_range=(float(low), float(high)),
            icc=fit.icc,
            profile=(grid, np.maximum(excess, 0.0)),
            icc_limits=(lower, upper),
            threshold=threshold,
            level=level,
            reml=fit.reml,
            predictors=len(fit.slopes) > 0,
            group_name=named(fit.labels, "group"),
            outcome_name=shown(fit.outcome_name),
        )
        return display.plot(ax, kind=kind)

    def plot(self, ax: Any = None, *, kind: str = "shares") -> Self:
        """Draw one of the pictures.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        kind : {"shares", "range", "profile"}, default="shares"
            Which of the pictures.

        Returns
        -------
        display : VarianceDisplay
            Itself, with the artists as attributes.
        """
        check_choice("kind", kind, _KINDS)
        size = (6.8, 2.5) if kind == "shares" else (6.0, 4.0)
        with axes_for(type(self).__name__, ax, size) as self.ax_:
            self.figure_ = self.ax_.figure
            self.bars_: list[Any] | None = None
            self.line_ = self.area_ = None
            {"shares": self._draw_shares, "range": self._draw_range, "profile": self._draw_profile}[kind]()
        return self

    def _draw_shares(self) -> None:
        """Draw the parts of the variance end to end."""
        left = "left " if self.predictors else ""
        parts = {
            "fixed_between": ("predictors, between groups", SKY, DARK),
            "group": (left + "between " + plural(self.group_name), BLUE, "white"),
            "fixed_within": ("predictors, within groups", ORANGE, DARK),
            "residual": (left + "within groups", PALE, DARK),
        }
        bars, start = [], 0.0
        for name, (label, color, on_it) in parts.items():
            share = self.shares[name]
            # What rounding leaves of the share of a predictor that has none.
            if share <= _NO_SHARE:
                continue
            said = f"{label}: {share:.1%}"
            bars.append(self.ax_.barh(0, share, left=start, height=0.7, color=color, edgecolor="white", label=said))
            if share >= _NARROW:
                self.ax_.text(start + share / 2.0, 0, f"{share:.1%}", ha="center", va="center", color=on_it)
            start += share
        self.bars_ = bars
        self.ax_.set(
            xlim=(0, 1),
            ylim=(-0.4, 1.1 if len(bars) > 2 else 0.8),
            xlabel=f"share of the variance of {self.outcome_name}",
            yticks=[],
        )
        self.ax_.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        self.ax_.spines[["top", "right", "left"]].set_visible(False)
        self.ax_.legend(loc="upper left", ncols=2, frameon=False, fontsize="small", borderaxespad=0.0)
        low, high = self._range()
        where = ", all predictors 0" if self.predictors else ""
        said = f"Plausible values range: {percent(self.level)} of the groups' intercepts from {low} to {high}{where}"
        self.ax_.set_title(said, loc="left", fontsize="medium", color=ink())

    def _range(self) -> tuple[str, str]:
        """Return the ends of the plausible values range as text."""
        low, high = (short(limit, self.group_sd or self.residual_sd) for limit in self.plausible_range)
        return low, high

    def _draw_range(self) -> None:
        """Draw where the intercepts of groups lie, and single rows about them."""
        total = float(np.hypot(self.group_sd, self.residual_sd))
        grid = self.intercept + total * np.linspace(-3.2, 3.2, 801)
        rows = stats.norm.pdf(grid, self.intercept, total)
        self.ax_.fill_between(grid, rows, color=PALE, alpha=0.5, linewidth=0, label=f"single rows: SD {short(total)}")
        if self.group_sd > 0:
            groups = stats.norm.pdf(grid, self.intercept, self.group_sd)
            name = f"intercepts of groups: SD τ = {short(self.group_sd)}"
            (self.line_,) = self.ax_.plot(grid, groups, color=BLUE, linewidth=1.8, label=name)
            low, high = self._range()
            inside = np.linspace(*self.plausible_range, 201)
            self.area_ = self.ax_.fill_between(
                inside,
                stats.norm.pdf(inside, self.intercept, self.group_sd),
                color=BLUE,
                alpha=0.3,
                linewidth=0,
                label=f"plausible values range: {percent(self.level)} of them, {low} to {high}",
            )
            top = max(groups.max(), rows.max())
        else:
            self.line_ = self.ax_.axvline(
                self.intercept, color=BLUE, linewidth=1.8, label="intercepts of groups: all the same"
            )
            top = rows.max()
        self.ax_.set(ylim=(0, 1.42 * top), yticks=[])
        self.ax_.set_xlabel(self.outcome_name + (" where all predictors are 0" if self.predictors else ""))
        self.ax_.spines[["top", "right", "left"]].set_visible(False)
        self.ax_.legend(loc="upper left", frameon=False, fontsize="small")

    def _draw_profile(self) -> None:
        """Draw how far the criterion rises from its least value as the ICC leaves its estimate."""
        at, excess = self.profile
        lower, upper = self.icc_limits
        # Two significant digits of the width.
        size = 10.0 * max(upper - lower, 1e-3)
        what = "REML criterion" if self.reml else "deviance"
        (self.line_,) = self.ax_.plot(at, excess, color=BLUE, linewidth=1.8, label=what)
        label = f"{percent(self.level)} interval: {short(lower, size)} to {short(upper, size)}"
        inside = (at >= lower) & (at <= upper)
        self.area_ = self.ax_.fill_between(
            at[inside], excess[inside], self.threshold, color=BLUE, alpha=0.15, linewidth=0, label=label
        )
        self.ax_.axhline(self.threshold, color=GREY, linewidth=1.0, linestyle="--")
        label = f"estimate: {short(self.icc, size)}"
        self.ax_.vlines(self.icc, 0.0, self.threshold, color=VERMILION, linewidth=1.2, label=label)
        self.ax_.set(xlabel="intraclass correlation (ICC)", ylabel=f"{what} above its minimum", xlim=(at[0], at[-1]))
        self.ax_.set_ylim(0, 2.0 * self.threshold)
        # ICCs near 1 have long numbers.
        self.ax_.locator_params(axis="x", nbins=6)
        self.ax_.legend(loc="upper center", frameon=True, framealpha=0.9, edgecolor="none", fontsize="small")
        tidy(self.ax_)
