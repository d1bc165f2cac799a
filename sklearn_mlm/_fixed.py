"""Tables, contrasts and tests of the fixed effects of any fit that has the members of `MixedFit`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ._degrees_of_freedom import KenwardRoger, Satterthwaite
from ._inputs import check_choice
from ._typing import DegreesOfFreedom, MixedFit

# Degrees of freedom below which Kenward and Roger's approximation has broken down.
_LEAST_DF = 0.5
# Of contrasts of length 1 in standard errors, the smallest singular value that is more than rounding.
_DEPENDENT = 1e-11
_DDF = ("satterthwaite", "kenward_roger", "residual", "normal")


def check_ddf(ddf: str) -> None:
    """Raise for an unknown kind of degrees of freedom."""
    check_choice("ddf", ddf, _DDF)


def coefficient_table(
    values: Any, variances: np.ndarray, df: Any, names: Any, dropped: np.ndarray | None = None
) -> pd.DataFrame:
    """Return estimates, standard errors, degrees of freedom and two-sided p-values of t tests against 0, a row each.

    The coefficients at the positions `dropped` are NaN throughout; one that is known without error has no test.
    """
    errors = np.sqrt(variances)
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = np.where(errors > 0, 2.0 * stats.t.sf(np.abs(values / errors), df), np.nan)
    table = pd.DataFrame({"estimate": values, "std_error": errors, "df": df, "p_value": p_values}, index=list(names))
    if dropped is not None:
        table.iloc[dropped] = np.nan
    return table


def t_statistics(table: pd.DataFrame) -> pd.Series:
    """Return estimates over standard errors; NaN for a coefficient that is known without error, which has no test."""
    return table["estimate"] / table["std_error"].where(table["std_error"] > 0)


def variances_and_df(fit: MixedFit, ddf: DegreesOfFreedom, contrasts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of the estimate of each contrast, and its degrees of freedom.

    Parameters
    ----------
    fit : MixedFit
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}
    contrasts : ndarray of shape (n_contrasts, n_coefficients)

    Returns
    -------
    variances : ndarray of shape (n_contrasts,)
    df : ndarray of shape (n_contrasts,)
        Satterthwaite's and Kenward-Roger's are NaN if the variance is 0.
    """
    white = fit.whiten(contrasts)
    variances = (white * white).sum(axis=1)
    if ddf in ("residual", "normal"):
        return variances, np.full(len(contrasts), fit.n_observations - fit.rank if ddf == "residual" else np.inf)
    kenward_roger = _kenward_roger(fit) if ddf == "kenward_roger" else None
    if kenward_roger is None:
        return variances, Satterthwaite.of(fit).degrees_of_freedom(white)
    each = np.full(len(contrasts), np.nan)
    for at in np.flatnonzero(variances > 0):
        df, _ = kenward_roger.degrees_of_freedom(white[at : at + 1])
        each[at] = df if df >= _LEAST_DF else np.nan
    return ((white @ kenward_roger.adjusted) * white).sum(axis=1), each


def joint_test(fit: MixedFit, ddf: DegreesOfFreedom, contrasts: np.ndarray) -> tuple[float, float] | None:
    """Return the F statistic of several independent contrasts and its denominator df; None if one has no variance.

    The covariance of the contrasts is never formed, since its digits are those of their correlations squared: with V = RR'
    that of the coefficients, LR = USW' has the digits of the contrasts, and the rows of W' are contrasts of R^-1 beta of the
    same hypothesis, whose estimates are uncorrelated with variance 1.

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
    q, turned = len(contrasts), left.T @ (contrasts @ fit.coefficients / length) / singular
    statistic = float(turned @ turned) / q
    if ddf in ("residual", "normal"):
        return statistic, fit.n_observations - fit.rank if ddf == "residual" else np.inf
    kenward_roger = _kenward_roger(fit) if ddf == "kenward_roger" else None
    if kenward_roger is None:
        # The axes that lmerTest takes: of contrasts as long as they are given.
        return statistic, Satterthwaite.of(fit).joint_degrees_of_freedom(white)
    df, factor = kenward_roger.degrees_of_freedom(axes)
    if not (df >= _LEAST_DF and factor > 0):
        raise ValueError(
            f"Kenward and Roger's approximation breaks down here: it gives {df:.3g} degrees of freedom and multiplies the "
            f'statistic by {factor:.3g}. There are too few groups for it: use ddf="satterthwaite".'
        )
    return factor * float(turned @ np.linalg.solve(axes @ kenward_roger.adjusted @ axes.T, turned)) / q, df


def _kenward_roger(fit: MixedFit) -> KenwardRoger | None:
    """Return what Kenward and Roger's method takes of a fit by REML; None if there is a single variance to estimate."""
    terms = fit.variance_terms()
    if terms is None:
        return None
    if not fit.reml:
        raise ValueError(
            'ddf="kenward_roger" adjusts for variances estimated by REML, but the model was fitted by maximum likelihood: '
            'fit it with method="reml".'
        )
    return KenwardRoger.of(*terms)
