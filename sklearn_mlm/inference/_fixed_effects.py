"""Tables, contrasts and tests of the fixed effects of any fit that has the members of `MixedFit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice, check_level
from .._typing import DegreesOfFreedom, FittedModel, MixedFit
from ..likelihood._least_squares_fit import LeastSquaresFit
from ._degrees_of_freedom import KenwardRoger, Satterthwaite, quadratic
from ._distributions import half_width, two_sided_p_values
from ._fits import fit_of

# Fewer degrees of freedom mean that Kenward and Roger's approximation has broken down.
_LEAST_DF = 0.5
# Singular values up to this one are rounding, if the contrasts are scaled to standard errors of 1.
_DEPENDENT = 1e-11


def fixed_effects(model: FittedModel, *, ddf: DegreesOfFreedom = "satterthwaite", level: float = 0.95) -> pd.DataFrame:
    """Return the table of fixed effects: estimates, standard errors, tests against 0 and confidence intervals.

    Parameters
    ----------
    model : RandomInterceptRegressor, MixedEffectsRegressor, ClusterRobustOLS or WithinOLS
        A fitted model, or a pipeline or search that ends in one. The least-squares models have their own degrees of freedom
        and ignore `ddf`.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
        Degrees of freedom of the t distribution: Satterthwaite's, as in lmerTest; Kenward and Roger's, with their adjusted
        standard errors, as in pbkrtest; N - k; or infinitely many.
    level : float, default=0.95
        Confidence level of the intervals.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by "(Intercept)" and the names of the features, with the columns "estimate", "std_error", "df", "t",
        "p_value" (two-sided), "ci_lower" and "ci_upper". NaN for columns that were dropped.

    Raises
    ------
    ValueError
        If `ddf` is "kenward_roger" and the model was fitted by maximum likelihood, because the adjustment is for variances
        estimated by REML.

    Notes
    -----
    If the covariance of random coefficients is singular, Satterthwaite's df are those of the model with as many random
    coefficients as its rank, whose combinations are estimated too, as in lmerTest. For a random intercept with tau2 = 0 they
    are N - k, because one variance is left to estimate; Kenward and Roger's follow from their formula, as in pbkrtest. At
    sigma2 = 0, both are the degrees of freedom between groups.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import fixed_effects
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> fixed_effects(model)[["estimate", "std_error", "df", "t"]].round(3)
                 estimate  std_error      df       t
    (Intercept)   251.405      9.747   22.81  25.794
    days           10.467      0.804  161.00  13.015
    """
    fit = fit_of(model)
    check_choice("ddf", ddf, get_args(DegreesOfFreedom))
    check_level(level)
    if isinstance(fit, LeastSquaresFit):
        variances, df = fit.covariance.diagonal(), fit.df
    else:
        variances, df = variances_and_df(fit, ddf, np.eye(len(fit.coefficients)))
    table = coefficient_table(fit.coefficients, variances, df, fit.names, fit.dropped)
    half = half_width(level, table["std_error"], table["df"])
    # A coefficient that is known without error has no test.
    table.insert(3, "t", table["estimate"] / table["std_error"].where(table["std_error"] > 0))
    table["ci_lower"], table["ci_upper"] = table["estimate"] - half, table["estimate"] + half
    return table


def coefficient_table(
    values: np.ndarray, variances: np.ndarray, df: ArrayLike, names: Sequence[str], dropped: np.ndarray | None = None
) -> pd.DataFrame:
    """Return a row for each coefficient: its estimate, standard error, df and two-sided p-value of the t test against 0.

    The rows at the positions `dropped` are NaN. A coefficient that is known without error has no p-value.
    """
    # An adjusted covariance may have negative variances.
    errors = np.sqrt(np.where(np.asarray(variances) < 0, np.nan, variances))
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = np.where(errors > 0, two_sided_p_values(values / errors, df), np.nan)
    table = pd.DataFrame({"estimate": values, "std_error": errors, "df": df, "p_value": p_values}, index=list(names))
    if dropped is not None:
        table.iloc[dropped] = np.nan
    return table


def variances_and_df(fit: MixedFit, ddf: DegreesOfFreedom, contrasts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of each contrast's estimate, and its degrees of freedom.

    Parameters
    ----------
    fit : MixedFit
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}
    contrasts : ndarray of shape (n_contrasts, n_coefficients)

    Returns
    -------
    variances : ndarray of shape (n_contrasts,)
    df : ndarray of shape (n_contrasts,)
        Satterthwaite's and Kenward and Roger's are NaN if the variance is 0.
    """
    white = fit.whiten(contrasts)
    variances = (white * white).sum(axis=1)
    known_df = _known_df(fit, ddf)
    if known_df is not None:
        return variances, np.full(len(contrasts), known_df)
    kenward_roger = _kenward_roger(fit, ddf)
    if kenward_roger is None:
        return variances, Satterthwaite.of(fit).degrees_of_freedom(white)
    df = np.full(len(contrasts), np.nan)
    for at in np.flatnonzero(variances > 0):
        df[at], _ = kenward_roger.degrees_of_freedom(white[at : at + 1])
    return quadratic(white, kenward_roger.adjusted), np.where(df >= _LEAST_DF, df, np.nan)


def joint_test(
    fit: MixedFit, ddf: DegreesOfFreedom, contrasts: np.ndarray, values: np.ndarray | None = None
) -> tuple[float, float, float] | None:
    """Return the F statistic of several independent contrasts, its df and its factor; None if a contrast has no variance.

    The factor is what Kenward and Roger multiply the statistic by; it is part of the statistic, and 1 for other methods.

    The hypothesis is that the contrasts have the given values, 0 by default. The covariance of the contrasts is never
    formed, because it squares their correlations and so loses digits. With V = RR' the covariance of the coefficients,
    LR = USW' keeps the digits of the contrasts. The rows of W' are contrasts of R^-1 beta for the same hypothesis, and their
    estimates are uncorrelated with variance 1.

    Raises
    ------
    ValueError
        If Kenward and Roger's approximation breaks down.
    """
    white = fit.whiten(contrasts)
    length = np.linalg.norm(white, axis=1)
    if not (length > 0).all():
        return None
    left, singular, axes = np.linalg.svd(white / length[:, None], full_matrices=False)
    if len(singular) < len(contrasts) or singular.min() <= _DEPENDENT:
        return None
    apart = contrasts @ fit.coefficients - (0.0 if values is None else values)
    q, rotated = len(contrasts), left.T @ (apart / length) / singular
    statistic = float(rotated @ rotated) / q
    known_df = _known_df(fit, ddf)
    if known_df is not None:
        return statistic, known_df, 1.0
    kenward_roger = _kenward_roger(fit, ddf)
    if kenward_roger is None:
        # lmerTest rotates the contrasts at their given lengths.
        return statistic, Satterthwaite.of(fit).joint_degrees_of_freedom(white), 1.0
    df, factor = kenward_roger.degrees_of_freedom(axes)
    if not (df >= _LEAST_DF and factor > 0):
        raise ValueError(
            f"Kenward and Roger's approximation breaks down here: it gives {df:.3g} degrees of freedom and multiplies the "
            f'statistic by {factor:.3g}. There are too few groups: use ddf="satterthwaite".'
        )
    return factor * float(rotated @ np.linalg.solve(axes @ kenward_roger.adjusted @ axes.T, rotated)) / q, df, factor


def _known_df(fit: MixedFit, ddf: DegreesOfFreedom) -> float | None:
    """Return the degrees of freedom that all contrasts share; None if they depend on the contrast."""
    return {"residual": fit.n_observations - fit.rank, "normal": np.inf}.get(ddf)


def _kenward_roger(fit: MixedFit, ddf: DegreesOfFreedom) -> KenwardRoger | None:
    """Return the ingredients of Kenward and Roger's method; None if `ddf` is another, or if one variance is left."""
    terms = fit.variance_terms() if ddf == "kenward_roger" else None
    if terms is None:
        return None
    if not fit.reml:
        raise ValueError(
            'ddf="kenward_roger" adjusts for variances estimated by REML, but the model was fitted by maximum likelihood: '
            'fit it by REML (method="reml", or REML=True of lmer), or pass ddf="satterthwaite".'
        )
    return KenwardRoger.of(*terms)
