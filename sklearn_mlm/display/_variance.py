"""`VarianceDisplay`: the shares of the variance, the range of the groups, and the profile of the intraclass correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

import numpy as np

from .._inputs import check_choice, check_level
from ..inference._fits import GroupedModel, grouped_fit_of, random_intercept_fit_of
from ..inference._intervals import plausible_values_range
from ..inference._profile import icc_of_ratio, ratio_limits
from ..inference._shares import r2
from ..likelihood._factor_fit import FactorFit
from ._display import Display
from ._style import (
    BLUE,
    DARK,
    GREY,
    ORANGE,
    PALE,
    SKY,
    VERMILION,
    axes_for,
    label_text,
    names_of,
    percent,
    plural,
    short,
    text_color,
)

Kind = Literal["shares", "range", "profile"]

_PROFILE_POINTS = 301
_INSTEAD = (
    " With random slopes, VarianceFunctionDisplay shows the variances, and sklearn_mlm.inference.r2 returns the shares."
)
# The label of a share narrower than this does not fit inside the bar.
_NARROW = 0.09
# A share below this is a share of 0 but for rounding.
_NO_SHARE = 1e-9
# Beyond this ICC the criterion is flat but for rounding.
_LARGEST_ICC = 1.0 - 1e-12


class VarianceDisplay(Display):
    """How the variance of an outcome divides between and within groups, and how certain the division is.

    There are three kinds of picture: the shares of the variance (explained by the predictors within and between groups,
    and unexplained between and within groups) with the plausible values range; that range as the distribution of the
    groups' intercepts, beside the distribution of single rows; and the profile of the criterion over the intraclass
    correlation (ICC), with its confidence interval.

    Create a display with `from_estimator`; `plot` draws the same model as another kind of picture.

    Parameters
    ----------
    shares : dict of float
        The shares "fixed_within", "fixed_between", "group" and "residual" of the variance of y; they sum to 1.
    intercept, group_sd, residual_sd : float
        The fixed intercept and the standard deviations tau and sigma, in units of y.
    plausible_range : tuple of two float
        Plausible values range of the groups' intercepts, in units of y.
    icc : float
        Intraclass correlation.
    profile : tuple of two ndarray
        ICCs, and the criterion at each ICC minus its minimum.
    icc_limits : tuple of two float
        The ICCs at which the profile crosses `threshold`.
    threshold : float
        Quantile at `level` of the chi-squared distribution with one degree of freedom.
    level : float
        Level of the plausible values range and of the confidence interval.
    reml : bool
        Whether the criterion is the REML criterion or the deviance.
    predictors : bool
        Whether the model has predictors.
    group_name, outcome_name : str
        Names of the groups and of y, for the labels.
    factor_names : sequence of str
        Names of several grouping factors, whose shares are shown one by one.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    bars_ : list of matplotlib BarContainer or None
        The shares ("shares"), without shares of 0.
    line_ : matplotlib Line2D or None
        The distribution of the groups' intercepts ("range"), or the profile ("profile").
    area_ : matplotlib PolyCollection or None
        The plausible values range ("range"), or the confidence interval ("profile").

    See Also
    --------
    VarianceFunctionDisplay : The variance and the ICC as functions of a column, with random slopes.
    sklearn_mlm.inference.r2 : The shares as numbers.
    sklearn_mlm.inference.confidence_intervals : Confidence intervals of all parameters. Its interval of the ICC is exact or
        uses the full likelihood, while the interval of this display uses the criterion of the fit.

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
        factor_names: Sequence[str] = (),
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
        self.factor_names = tuple(factor_names)

    @classmethod
    def from_estimator(cls, model: GroupedModel, *, kind: Kind = "shares", level: float = 0.95, ax: Any = None) -> Self:
        """Draw the variance of a fitted model.

        Parameters
        ----------
        model : RandomInterceptRegressor or MixedEffectsRegressor
            A fitted model, or a pipeline or search that ends in one. In a `MixedEffectsRegressor` either the intercept alone
            varies, or there are several grouping factors.
        kind : {"shares", "range", "profile"}, default="shares"
            The kind of picture; "shares" if there are several grouping factors.
        level : float, default=0.95
            Level of the plausible values range and of the confidence interval of the ICC.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.

        Returns
        -------
        display : VarianceDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the model is not a random intercept model. `VarianceFunctionDisplay` shows the variances with random slopes.
        ValueError
            If y is constant, or the model leaves no residual variance (sigma2 = 0).
        """
        from scipy import stats

        several = grouped_fit_of(model)
        if isinstance(several, FactorFit):
            check_choice("kind", kind, ("shares",))
            return cls._of_factors(several, model).plot(ax)
        fit = random_intercept_fit_of(model, instead=_INSTEAD)
        check_level(level)
        tau2, sigma2, criterion = fit.group_variance, fit.residual_variance, fit.criterion()
        if tau2 + sigma2 == 0:
            reason = "y is constant" if criterion.coordinates.outcome_constant else "The fixed effects determine y"
            raise ValueError(f"{reason}: there is no variance to show.")
        if sigma2 == 0:
            raise ValueError(
                "The model leaves no residual variance (sigma2 = 0): there is no variance within groups to show."
            )
        threshold = float(stats.chi2.ppf(level, 1))
        lower, upper = icc_of_ratio(np.array(ratio_limits(criterion, threshold))).tolist()
        # The grid extends beyond the interval, so that the crossings are visible, but not as far as an ICC of 1.
        margin = 0.18 * (upper - lower)
        ends = max(lower - margin, 0.0), min(upper + margin, (1.0 + upper) / 2.0, _LARGEST_ICC)
        grid = np.unique(np.append(np.linspace(*ends, _PROFILE_POINTS), fit.icc))
        excess = criterion.evaluate(grid / (1.0 - grid))[0] - fit.solution.value
        group_name, outcome_name = names_of(fit)
        shares = r2(model)
        low, high = plausible_values_range(model, level)
        display = cls(
            shares={name: float(shares[name]) for name in ("fixed_between", "group", "fixed_within", "residual")},
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
            group_name=group_name,
            outcome_name=outcome_name,
        )
        return display.plot(ax, kind=kind)

    @classmethod
    def _of_factors(cls, fit: FactorFit, model: GroupedModel) -> Self:
        """Return the display of a model of several grouping factors, which has a share for each."""
        shares = r2(model)
        nothing = np.zeros(0)
        return cls(
            shares={str(name): float(share) for name, share in shares.drop(["marginal", "conditional"]).items()},
            intercept=fit.intercept,
            group_sd=float(np.sqrt(sum(fit.random_variances))),
            residual_sd=float(np.sqrt(fit.residual_variance)),
            plausible_range=(np.nan, np.nan),
            icc=np.nan,
            profile=(nothing, nothing),
            icc_limits=(np.nan, np.nan),
            threshold=np.nan,
            reml=fit.reml,
            predictors=len(fit.slopes) > 0,
            group_name=fit.group_name,
            outcome_name=names_of(fit)[1],
            factor_names=fit.factor_names,
        )

    def plot(self, ax: Any = None, *, kind: Kind = "shares") -> Self:
        """Draw one of the pictures.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        kind : {"shares", "range", "profile"}, default="shares"
            The kind of picture.

        Returns
        -------
        display : VarianceDisplay
            The same display, with its artists as attributes.
        """
        check_choice("kind", kind, get_args(Kind))
        size = (6.8, 2.5) if kind == "shares" else (6.0, 4.0)
        with axes_for(type(self).__name__, ax, size) as self.ax_:
            self.figure_ = self.ax_.figure
            self.bars_: list[Any] | None = None
            self.line_ = self.area_ = None
            {"shares": self._draw_shares, "range": self._draw_range, "profile": self._draw_profile}[kind]()
        return self

    def _draw_shares(self) -> None:
        """Draw the shares of the variance end to end."""
        unexplained = "unexplained, " if self.predictors else ""
        parts = {
            "fixed_between": ("predictors, between groups", SKY, DARK),
            "group": (f"{unexplained}between {plural(self.group_name)}", BLUE, "white"),
            "fixed_within": ("predictors, within groups", ORANGE, DARK),
            "residual": (f"{unexplained}within groups", PALE, DARK),
        }
        if self.factor_names:
            colors = [(BLUE, "white"), (VERMILION, "white"), (SKY, DARK), (DARK, "white"), (GREY, "white")]
            of_factors = {
                name: (f"{unexplained}between {plural(label_text(name))}", *colors[at % len(colors)])
                for at, name in enumerate(self.factor_names)
            }
            residual = "unexplained, rows" if self.predictors else "rows"
            parts = {"fixed": ("predictors", ORANGE, DARK), **of_factors, "residual": (residual, PALE, DARK)}
        bars: list[Any] = []
        start = 0.0
        for name, (label, color, contrast) in parts.items():
            share = self.shares[name]
            if share <= _NO_SHARE:
                continue
            # Where the bar has no room for its share, the legend has it.
            label = label if share >= _NARROW else f"{label}: {share:.1%}"
            bars.append(self.ax_.barh(0, share, left=start, height=0.7, color=color, edgecolor="white", label=label))
            if share >= _NARROW:
                self.ax_.text(start + share / 2.0, 0, f"{share:.1%}", ha="center", va="center", color=contrast)
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
        if self.factor_names:
            return
        low, high = self._range()
        condition = ", all predictors 0" if self.predictors else ""
        title = f"Plausible values range: {percent(self.level)} of the groups' intercepts from {low} to {high}{condition}"
        self.ax_.set_title(title, loc="left", fontsize="medium", color=text_color())

    def _range(self) -> tuple[str, str]:
        """Return the ends of the plausible values range as text."""
        low, high = (short(limit, self.group_sd or self.residual_sd) for limit in self.plausible_range)
        return low, high

    def _draw_range(self) -> None:
        """Draw the distributions of the groups' intercepts and of single rows."""
        from scipy import stats

        total = float(np.hypot(self.group_sd, self.residual_sd))
        grid = self.intercept + total * np.linspace(-3.2, 3.2, 801)
        rows = stats.norm.pdf(grid, self.intercept, total)
        top = rows.max()
        self.ax_.fill_between(grid, rows, color=PALE, alpha=0.5, linewidth=0, label=f"single rows: SD {short(total)}")
        if self.group_sd > 0:
            groups = stats.norm.pdf(grid, self.intercept, self.group_sd)
            name = f"intercepts of groups: SD τ = {short(self.group_sd)}"
            (self.line_,) = self.ax_.plot(grid, groups, color=BLUE, linewidth=1.8, label=name)
            low, high = self._range()
            inside = np.linspace(*self.plausible_range, 201)
            density = stats.norm.pdf(inside, self.intercept, self.group_sd)
            label = f"plausible values range: {percent(self.level)} of them, {low} to {high}"
            self.area_ = self.ax_.fill_between(inside, density, color=BLUE, alpha=0.3, linewidth=0, label=label)
            top = max(groups.max(), top)
        else:
            label = "intercepts of groups: all the same"
            self.line_ = self.ax_.axvline(self.intercept, color=BLUE, linewidth=1.8, label=label)
        self.ax_.set(ylim=(0, 1.42 * top), yticks=[])
        self.ax_.set_xlabel(self.outcome_name + (" if all predictors are 0" if self.predictors else ""))
        self.ax_.spines[["top", "right", "left"]].set_visible(False)
        self.ax_.legend(loc="upper left", frameon=False, fontsize="small")

    def _draw_profile(self) -> None:
        """Draw the criterion above its minimum against the ICC."""
        at, excess = self.profile
        lower, upper = self.icc_limits
        # Numbers have three significant digits of ten times the width of the interval: two digits of the width.
        size = 10.0 * max(upper - lower, 1e-3)
        criterion = "REML criterion" if self.reml else "deviance"
        (self.line_,) = self.ax_.plot(at, excess, color=BLUE, linewidth=1.8, label=criterion)
        label = f"{percent(self.level)} interval: {short(lower, size)} to {short(upper, size)}"
        inside = (at >= lower) & (at <= upper)
        self.area_ = self.ax_.fill_between(
            at[inside], excess[inside], self.threshold, color=BLUE, alpha=0.15, linewidth=0, label=label
        )
        self.ax_.axhline(self.threshold, color=GREY, linewidth=1.0, linestyle="--")
        label = f"estimate: {short(self.icc, size)}"
        self.ax_.vlines(self.icc, 0.0, self.threshold, color=VERMILION, linewidth=1.2, label=label)
        self.ax_.set(xlabel="intraclass correlation (ICC)", ylabel=f"{criterion} above its minimum", xlim=(at[0], at[-1]))
        self.ax_.set_ylim(0, 2.0 * self.threshold)
        # ICCs near 1 have long numbers.
        self.ax_.locator_params(axis="x", nbins=6)
        self.ax_.legend(loc="upper center", frameon=True, framealpha=0.9, edgecolor="none", fontsize="small")
        self.ax_.spines[["top", "right"]].set_visible(False)
