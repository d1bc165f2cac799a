"""Inference about the fixed effects and the variance components of fitted models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ._criterion import Criterion, Solution

INTERCEPT = "(Intercept)"
"""What tables call the intercept, as lmer does."""


def satterthwaite_degrees_of_freedom(
    criterion: Criterion, solution: Solution, boundary: str | None, contrasts: np.ndarray
) -> np.ndarray:
    """Return Satterthwaite's degrees of freedom of combinations of the fixed effects.

    With V the covariance of the fixed effects, l a contrast, g the gradient of l'Vl in (gamma, sigma2) and A twice the
    inverse of the Hessian of minus twice the restricted log-likelihood,

        df = 2 (l'Vl)^2 / (g'Ag).

    At tau2 = 0 the model is least squares, and df = D: N - k, or N for maximum likelihood.

    Parameters
    ----------
    criterion : Criterion
    solution : Solution
        The optimum of that criterion.
    boundary : {"group", "residual"} or None
        The variance that is 0 there.
    contrasts : ndarray of shape (n_contrasts, k)

    Returns
    -------
    df : ndarray of shape (n_contrasts,)
        NaN where the variance of the combination is 0.

    References
    ----------
    F. E. Satterthwaite (1946), "An approximate distribution of estimates of variance components", Biometrics Bulletin 2(6),
    110-114.

    A. Kuznetsova, P. B. Brockhoff and R. H. B. Christensen (2017), "lmerTest package: tests in linear mixed effects
    models", Journal of Statistical Software 82(13), equation 8.
    """
    variance = _quadratic(contrasts, solution.covariance)
    if boundary == "group":
        df = np.full(len(contrasts), criterion.degrees_of_freedom)
    elif boundary == "residual":
        df = np.full(len(contrasts), float(criterion.between_degrees_of_freedom))
    else:
        curvature = criterion.curvature(solution.ratio)
        gradient = np.stack(
            [_quadratic(contrasts, curvature.by_ratio), _quadratic(contrasts, curvature.by_residual_variance)], axis=-1
        )
        spread = 2.0 * (gradient * np.linalg.solve(curvature.hessian, gradient.T).T).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            df = 2.0 * _quadratic(contrasts, curvature.covariance) ** 2 / spread
    return np.where(variance > 0, df, np.nan)


def _quadratic(contrasts: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return l' M l of each contrast l."""
    return ((contrasts @ matrix) * contrasts).sum(axis=1)


def coefficient_table(estimates: Any, covariance: np.ndarray, df: Any, names: list[str]) -> pd.DataFrame:
    """Return estimates, standard errors, degrees of freedom and two-sided p-values of t tests against 0, a row each.

    A coefficient without a standard error (of a column that was dropped) is NaN throughout.
    """
    errors = np.sqrt(np.diag(covariance))
    missing = errors == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = 2.0 * stats.t.sf(np.abs(estimates / errors), df)
    table = pd.DataFrame({"estimate": estimates, "std_error": errors, "df": df, "p_value": p_values}, index=names)
    table[missing] = np.nan
    return table
