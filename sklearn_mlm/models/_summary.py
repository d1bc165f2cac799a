"""The summary of a fitted random intercept model, as lmer prints it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._tables import Report, Table, decimals, df_text, number_text, p_text
from .._typing import Boundary, DegreesOfFreedom, FittedModel
from ..inference._fits import random_intercept_fit_of
from ..inference._fixed_effects import fixed_effects

_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))
_DDF_NAMES = {
    "satterthwaite": "Satterthwaite's degrees of freedom",
    "kenward_roger": "Kenward and Roger's standard errors and degrees of freedom",
    "residual": "N - k degrees of freedom",
    "normal": "normal distribution",
}

_BOUNDARIES = {
    "group": "The estimated group variance is exactly 0: the model is least squares (what lme4 calls a singular fit).",
    "residual": "The residual variance is exactly 0: the predictors and the groups determine y.",
}


@dataclass(frozen=True, eq=False, repr=False)
class ModelSummary:
    """Tables that summarise a fitted random intercept model. `RandomInterceptRegressor.summary` makes them.

    Attributes
    ----------
    criteria : pandas.Series
        "criterion" (-2 log-likelihood, restricted or full), "log_likelihood", "aic", "bic", "n_parameters".
    scaled_residuals : pandas.Series or None
        "min", "q1", "median", "q3" and "max" of the residuals divided by the residual standard deviation; None if they are
        not known.
    variance_components : pandas.DataFrame
        "variance" and "sd" of "group" and "residual".
    fixed_effects : pandas.DataFrame
        The table that `sklearn_mlm.inference.fixed_effects` returns.
    icc : float
        Intraclass correlation given the predictors.
    n_samples : int or float
        Number of observations N; the number of copies of rows if weights are frequencies.
    n_groups : int
        Number of groups.
    group_name : str
        Name of the group labels, or "group" if they have none.
    method : {"reml", "ml"}
        How the model was fitted.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}
        The kind of degrees of freedom.
    boundary : {"group", "residual"} or None
        The variance that is exactly 0, if there is one.
    """

    criteria: pd.Series
    scaled_residuals: pd.Series | None
    variance_components: pd.DataFrame
    fixed_effects: pd.DataFrame
    icc: float
    n_samples: float
    n_groups: int
    group_name: str
    method: str
    ddf: DegreesOfFreedom
    boundary: Boundary

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
            f"Number of observations {self.n_samples:.10g}, groups ({self.group_name}) {self.n_groups}",
        ]
        tables = [self._variances(), self._effects()]
        if self.scaled_residuals is None and self.boundary != "residual":
            facts.append("Scaled residuals are in the summary if the rows are passed: summary(X, y, groups)")
        if self.scaled_residuals is not None:
            cells = [[number_text(value, 4) for value in self.scaled_residuals]]
            tables.insert(0, Table("Scaled residuals", ("Min", "1Q", "Median", "3Q", "Max"), [("",)], cells))
        return Report(
            title=f"Random intercept model fitted by {'REML' if reml else 'maximum likelihood'}",
            facts=facts,
            tables=tables,
            closing_title="",
            closing=[_BOUNDARIES[self.boundary]] if self.boundary else [],
        )

    def _variances(self) -> Table:
        """Return the table of variance components."""
        cells = [
            [number_text(row["variance"], decimals(row["variance"], 4)), number_text(row["sd"], decimals(row["sd"], 4))]
            for _, row in self.variance_components.iterrows()
        ]
        labels = [(f"{self.group_name} (Intercept)",), ("residual",)]
        note = f"Intraclass correlation {number_text(self.icc, 3)}"
        return Table("Variance components", ("variance", "std. dev."), labels, cells, note)

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
    fit = random_intercept_fit_of(model)
    residuals = None
    if scaled_residuals is not None:
        residuals = pd.Series(scaled_residuals, index=["min", "q1", "median", "q3", "max"], name="scaled_residuals")
    n_samples = fit.n_observations
    variances = pd.Series({"group": fit.group_variance, "residual": fit.residual_variance})
    return ModelSummary(
        criteria=pd.Series(
            {
                "criterion": fit.solution.value,
                "log_likelihood": -0.5 * fit.solution.value,
                "aic": fit.aic,
                "bic": fit.bic,
                "n_parameters": float(fit.n_parameters),
            }
        ),
        scaled_residuals=residuals,
        variance_components=pd.DataFrame({"variance": variances, "sd": np.sqrt(variances)}),
        fixed_effects=fixed_effects(model, ddf=ddf),
        icc=fit.icc,
        n_samples=int(n_samples) if n_samples == int(n_samples) else n_samples,
        n_groups=fit.moments.n_groups,
        group_name=fit.group_name,
        method=fit.options.method,
        ddf=ddf,
        boundary=fit.boundary,
    )
