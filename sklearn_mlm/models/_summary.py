"""The summary of a fitted model, as lmer prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .._tables import Report, Table, decimals, df_text, number_text, p_text
from .._typing import DegreesOfFreedom, FittedModel, FixedDesign, GroupedFit
from ..inference._fits import grouped_fit_of
from ..inference._fixed_effects import fixed_effects
from ..inference._shares import icc_of
from ..likelihood._factor_fit import FactorFit
from ..likelihood._random_terms import INTERCEPT
from ._effect_frames import of_factors

_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))
_DDF_NAMES = {
    "satterthwaite": "Satterthwaite's degrees of freedom",
    "kenward_roger": "Kenward and Roger's standard errors and degrees of freedom",
    "residual": "N - k degrees of freedom",
    "normal": "normal distribution",
}

# A summary names no more levels of a factor than this.
_LEVELS = 8

_NO_GROUP_VARIANCE = (
    "The estimated group variance is exactly 0: the model is least squares (what lme4 calls a singular fit)."
)
_NO_RESIDUAL = "The residual variance is exactly 0: the predictors and the groups determine y."


@dataclass(frozen=True, eq=False, repr=False)
class ModelSummary:
    """Tables that summarise a fitted model. The method `summary` of a model makes them.

    Attributes
    ----------
    criteria : pandas.Series
        "criterion" (-2 log-likelihood, restricted or full), "log_likelihood", "aic", "bic", "n_parameters".
    scaled_residuals : pandas.Series or None
        "min", "q1", "median", "q3" and "max" of the residuals divided by the residual standard deviation; None if they are
        not known.
    variance_components : pandas.DataFrame
        "variance" and "sd" of "group", or of each random coefficient, and of "residual".
    correlations : pandas.DataFrame or None
        Correlations of the random coefficients, by factor and coefficient if there are several grouping factors; None if the
        intercept alone varies.
    fixed_effects : pandas.DataFrame
        The table that `sklearn_mlm.inference.fixed_effects` returns.
    icc : float or pandas.Series
        Intraclass correlation given the predictors; with random slopes, averaged over the rows. With several grouping
        factors, the share of each in the variance.
    n_samples : int or float
        Number of observations N; the number of copies of rows if weights are frequencies.
    n_groups : int or dict of str to int
        Number of groups; the number of levels of each of several grouping factors.
    group_name : str
        Name of the group labels, or "group" if they have none.
    method : {"reml", "ml"}
        How the model was fitted.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}
        The kind of degrees of freedom.
    boundary : str or None
        What is exactly 0 of the variances, in words, if anything is.
    formula : str or None
        The formula, and the name of the data if it is known; None if the model was fitted without a formula.
    n_dropped : int
        Number of rows that were left out because a value was missing.
    approximation : str or None
        How exact the variances are if they were not computed exactly, in words.
    factors : dict of str to tuple
        The levels and the name of the contrasts of each factor of the formula.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_dyestuff
    >>> dyestuff = load_dyestuff(as_frame=True)
    >>> summary = RandomInterceptRegressor().fit(None, dyestuff.target, groups=dyestuff.groups).summary()
    >>> summary.variance_components.round(2)
              variance     sd
    group      1764.05  42.00
    residual   2451.25  49.51
    >>> summary.criteria.round(1).to_dict()
    {'criterion': 319.7, 'log_likelihood': -159.8, 'aic': 325.7, 'bic': 329.9, 'n_parameters': 3.0}
    """

    criteria: pd.Series
    scaled_residuals: pd.Series | None
    variance_components: pd.DataFrame
    correlations: pd.DataFrame | None
    fixed_effects: pd.DataFrame
    icc: float | pd.Series
    n_samples: float
    n_groups: int | dict[str, int]
    group_name: str
    method: str
    ddf: DegreesOfFreedom
    boundary: str | None
    formula: str | None = None
    n_dropped: int = 0
    approximation: str | None = None
    factors: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self._report().text()

    def _repr_html_(self) -> str:
        return self._report().html()

    def _report(self) -> Report:
        """Return the summary as a report."""
        reml = self.method == "reml"
        c = self.criteria
        facts = [
            f"{'REML criterion at convergence' if reml else 'Deviance'} {c['criterion']:.1f}, log-likelihood "
            f"{c['log_likelihood']:.2f} ({c['n_parameters']:.0f} parameters), AIC {c['aic']:.1f}, BIC {c['bic']:.1f}",
            f"Number of observations {self.n_samples:.10g}, {self._groups_in_words()}",
        ]
        if self.formula is not None:
            facts.insert(0, self.formula)
        if self.n_dropped:
            facts[-1] += f"; {self.n_dropped} row(s) with missing values dropped"
        if self.approximation is not None:
            facts.append(self.approximation)
        facts += [f"Factor {name}: {_in_words(*levels)}" for name, levels in self.factors.items()]
        tables = [self._variances(), self._effects()]
        if self.scaled_residuals is None and self.boundary != _NO_RESIDUAL:
            facts.append("Scaled residuals are in the summary if the rows are passed: summary(X, y, groups)")
        if self.scaled_residuals is not None:
            cells = [[number_text(value, 4) for value in self.scaled_residuals]]
            tables.insert(0, Table("Scaled residuals", ("Min", "1Q", "Median", "3Q", "Max"), [("",)], cells))
        kind = "Random intercept" if self.correlations is None else "Mixed-effects"
        return Report(
            title=f"{kind} model fitted by {'REML' if reml else 'maximum likelihood'}",
            facts=facts,
            tables=tables,
            closing_title="",
            closing=[self.boundary] if self.boundary else [],
        )

    def _groups_in_words(self) -> str:
        """Return the number of groups, or of the levels of each factor."""
        if isinstance(self.n_groups, dict):
            return "levels " + ", ".join(f"{name} {number}" for name, number in self.n_groups.items())
        return f"groups ({self.group_name}) {self.n_groups}"

    def _variances(self) -> Table:
        """Return the table of variance components."""
        cells = [
            [number_text(row["variance"], decimals(row["variance"], 4)), number_text(row["sd"], decimals(row["sd"], 4))]
            for _, row in self.variance_components.iterrows()
        ]
        if isinstance(self.icc, pd.Series):
            shares = ", ".join(f"{name} {number_text(value, 3)}" for name, value in self.icc.items() if name != "all")
            note = f"Share of the variance: {shares}"
        else:
            note = f"Intraclass correlation {number_text(self.icc, 3)}"
        columns, correlations = ["variance", "std. dev."], self.correlations
        if correlations is None:
            labels = [(f"{self.group_name} (Intercept)",), ("residual",)]
            return Table("Variance components", columns, labels, cells, note)
        several = correlations.index.nlevels > 1
        names = list(correlations.index) if several else [(self.group_name, str(name)) for name in correlations.index]
        names = [*names, ("residual", "")]
        n_columns = len(correlations) - 1
        for at, row in enumerate(cells):
            known = correlations.to_numpy()[at, :at] if at < len(correlations) else np.zeros(0)
            row += ["" if np.isnan(value) else number_text(value, 3) for value in known] + [""] * (n_columns - len(known))
        columns += ["corr."] * min(n_columns, 1) + [""] * (n_columns - 1)
        used = [at for at in range(len(columns)) if at < 2 or any(row[at] for row in cells)]
        columns, cells = [columns[at] for at in used], [[row[at] for at in used] for row in cells]
        return Table("Variance components", columns, names, cells, f"{note}, averaged over the rows")

    def _effects(self) -> Table:
        """Return the table of fixed effects."""
        cells = []
        for _, row in self.fixed_effects.iterrows():
            digits = decimals(row["std_error"] if row["std_error"] > 0 else abs(row["estimate"]), 4)
            cells.append(
                [
                    *(number_text(row[column], digits) for column in ("estimate", "std_error")),
                    df_text(row["df"]),
                    number_text(row["t"], 2),
                    p_text(row["p_value"]),
                    next((stars for bound, stars in _STARS if row["p_value"] < bound), "").ljust(3),
                ]
            )
        columns = ("estimate", "std. error", "df", "t", "p-value", "   ")
        labels = [(str(name),) for name in self.fixed_effects.index]
        note = "p < 0.001 ***, < 0.01 **, < 0.05 *, < 0.1 ."
        return Table(f"Fixed effects ({_DDF_NAMES[self.ddf]})", columns, labels, cells, note)


def _in_words(levels: tuple[str, ...], contrasts: str) -> str:
    """Return the levels of a factor and its contrasts in words."""
    shown = ", ".join(levels[:_LEVELS]) + (f" and {len(levels) - _LEVELS} more" if len(levels) > _LEVELS else "")
    return f"{shown} ({contrasts})"


def five_numbers(values: np.ndarray) -> np.ndarray:
    """Return the least value, the quartiles and the largest value; as `numpy.quantile`, but without sorting all values."""
    at = (len(values) - 1) * np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    low, high = np.floor(at).astype(np.intp), np.ceil(at).astype(np.intp)
    ordered = np.partition(values, np.unique([low, high]))
    return np.asarray(ordered[low] + (ordered[high] - ordered[low]) * (at - low))


def summarise_model(model: FittedModel, scaled_residuals: np.ndarray | None, ddf: DegreesOfFreedom) -> ModelSummary:
    """Return the summary of a fitted model.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    scaled_residuals : ndarray of shape (5,) or None
        Quantiles of the residuals divided by their standard deviation, as `five_numbers` returns them.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}
        Degrees of freedom of the fixed effects.

    Returns
    -------
    summary : ModelSummary
        The tables.
    """
    fit = grouped_fit_of(model)
    residuals = None
    if scaled_residuals is not None:
        residuals = pd.Series(scaled_residuals, index=["min", "q1", "median", "q3", "max"], name="scaled_residuals")
    n_samples = fit.n_observations
    names = [name for term in fit.random_terms for name in term.coefficients]
    slopes = names != [INTERCEPT]
    owners = [term.factor for term in fit.random_terms for _ in term.coefficients]
    several = isinstance(fit, FactorFit)
    shown = [f"{owner} {name}" for owner, name in zip(owners, names, strict=True)] if slopes or several else ["group"]
    variances = pd.Series([*fit.random_covariance.diagonal(), fit.residual_variance], index=[*shown, "residual"])
    correlations = correlations_of(fit) if slopes or several else None
    if correlations is not None and several:
        correlations.index = correlations.columns = pd.MultiIndex.from_arrays([owners, names])
    return ModelSummary(
        criteria=pd.Series(
            {
                "criterion": fit.value,
                "log_likelihood": -0.5 * fit.value,
                "aic": fit.aic,
                "bic": fit.bic,
                "n_parameters": float(fit.n_parameters),
            }
        ),
        scaled_residuals=residuals,
        variance_components=pd.DataFrame({"variance": variances, "sd": np.sqrt(variances)}),
        correlations=correlations,
        fixed_effects=fixed_effects(model, ddf=ddf),
        icc=icc_of(fit),
        n_samples=int(n_samples) if n_samples == int(n_samples) else n_samples,
        n_groups=fit.moments.n_groups if not isinstance(fit, FactorFit) else fit.n_levels,
        group_name=fit.group_name,
        method=fit.options.method,
        ddf=ddf,
        boundary=_boundary_in_words(fit),
        approximation=_approximation_in_words(fit),
        **({} if fit.design is None else _of_formula(fit.design)),
    )


def _of_formula(design: FixedDesign) -> dict[str, Any]:
    """Return what a summary shows of a formula."""
    data = "" if design.data_name is None else f", data {design.data_name}"
    return {"formula": f"Formula {design.formula}{data}", "n_dropped": design.n_dropped, "factors": design.factors}


def _approximation_in_words(fit: GroupedFit) -> str | None:
    """Return how exact the variances are that random probes estimate; None if they are exact."""
    errors = fit.approximation_errors if isinstance(fit, FactorFit) else None
    if errors is None:
        return None
    variances = np.append(fit.random_covariance.diagonal(), fit.residual_variance)
    known = variances > 0
    largest = float((errors.to_numpy()[:-1][known] / variances[known]).max(initial=0.0))
    return (
        f"Approximate: variances have random errors of up to {100 * largest:.2g}% of themselves, and the criterion of "
        f"{errors['criterion']:.2g}"
    )


def correlations_of(fit: GroupedFit) -> pd.DataFrame:
    """Return the correlations of the random coefficients; NaN between independent ones, and for those without variance."""
    names: list[str] = []
    correlations = np.full(fit.random_covariance.shape, np.nan)
    for term in fit.random_terms:
        at = slice(len(names), len(names) + len(term.coefficients))
        names += term.coefficients
        covariance = fit.random_covariance[at, at]
        sd = np.sqrt(covariance.diagonal())
        with np.errstate(invalid="ignore", divide="ignore"):
            correlations[at, at] = np.clip(covariance / np.outer(sd, sd), -1.0, 1.0)
    return pd.DataFrame(correlations, index=names, columns=names)


def _boundary_in_words(fit: GroupedFit) -> str | None:
    """Return what is exactly 0 of the variances; None if nothing is."""
    if fit.boundary is None or fit.boundary == "residual":
        return None if fit.boundary is None else _NO_RESIDUAL
    if not fit.random_covariance.any():
        return _NO_GROUP_VARIANCE
    parts: list[str] = []
    found: list[str] = []
    for of_factor in of_factors(fit):
        if of_factor.group_name not in fit.boundary:
            continue
        correlations, variances = correlations_of(of_factor), of_factor.random_covariance.diagonal()
        directions = fit.boundary[of_factor.group_name]
        of = f" of {of_factor.group_name}" if isinstance(fit, FactorFit) else ""
        known = dict(zip(correlations.columns, variances, strict=True))
        parts += [f"the variance of {name}{of}" for name, variance in known.items() if variance == 0]
        for term in of_factor.random_terms:
            alive = [name for name in term.coefficients if known[name]]
            null = int((directions[alive] != 0).any(axis=1).sum())
            if null and len(alive) == 2:
                correlation = float(correlations[alive[0]].to_dict()[alive[1]])
                sign = "-1" if correlation < 0 else "1"
                found.append(f"the correlation of {alive[0]} and {alive[1]}{of} is exactly {sign}")
            elif null:
                found.append(f"the covariance of {', '.join(alive)}{of} has rank {len(alive) - null} of {len(alive)}")
    if parts:
        found.insert(0, f"{' and '.join(parts)} {'is' if len(parts) == 1 else 'are'} exactly 0")
    return f"In the estimate {', and '.join(found)} (what lme4 calls a singular fit)."
