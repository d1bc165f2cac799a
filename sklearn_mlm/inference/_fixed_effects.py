"""Tables, contrasts and tests of the fixed effects of any fit that has the members of `MixedFit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .._inputs import check_choice, check_level
from .._typing import DegreesOfFreedom, MixedFit
from ..likelihood._fit import LeastSquaresFit
from ._degrees_of_freedom import KenwardRoger, Satterthwaite
from ._fits import fit_of, mixed_fit_of

# Degrees of freedom below which Kenward and Roger's approximation has broken down.
_LEAST_DF = 0.5
# Of contrasts of length 1 in standard errors, the smallest singular value that is more than rounding.
_DEPENDENT = 1e-11
_DDF = ("satterthwaite", "kenward_roger", "residual", "normal")
_NO_VARIANCE = (
    "A contrast of L, or a combination of its rows, has no variance: it weighs columns that were dropped, or nothing is "
    "left to chance."
)


def fixed_effects(model: Any, *, ddf: DegreesOfFreedom = "satterthwaite", level: float = 0.95) -> pd.DataFrame:
    """Return the table of fixed effects: estimates, standard errors, tests against 0 and confidence intervals.

    Parameters
    ----------
    model : RandomInterceptRegressor, ClusterRobustOLS or WithinOLS
        A fitted model. Least squares have degrees of freedom of their own, whatever `ddf` says.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
        Degrees of freedom of the t distribution: Satterthwaite's, as lmerTest; Kenward and Roger's with their adjusted
        standard errors, as pbkrtest; N - k; or infinitely many.
    level : float, default=0.95
        Of the confidence intervals.

    Returns
    -------
    table : pandas.DataFrame
        Indexed "(Intercept)" and the names of the features, with the columns "estimate", "std_error", "df", "t", "p_value"
        (two-sided), "ci_lower" and "ci_upper". NaN for columns that were dropped.

    Raises
    ------
    ValueError
        For Kenward-Roger of a model fitted by maximum likelihood, whose variances are not those they adjust for.

    Notes
    -----
    At the boundary tau2 = 0, Satterthwaite's df are N - k, since there is one variance left to estimate; Kenward-Roger's
    are what their formula gives there, as pbkrtest's. Where sigma2 = 0, both are the degrees of freedom between groups.

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
    check_ddf(ddf)
    check_level(level)
    if isinstance(fit, LeastSquaresFit):
        variances, df = fit.covariance.diagonal(), fit.df
    else:
        variances, df = variances_and_df(fit, ddf, np.eye(len(fit.coefficients)))
    table = coefficient_table(fit.coefficients, variances, df, fit.names, fit.dropped)
    half = stats.t.ppf(0.5 + level / 2.0, table["df"]) * table["std_error"]
    table.insert(3, "t", t_statistics(table))
    table["ci_lower"], table["ci_upper"] = table["estimate"] - half, table["estimate"] + half
    return table


def contrast_test(model: Any, L: Any, *, ddf: DegreesOfFreedom = "satterthwaite") -> pd.Series:
    """Test that combinations of the fixed effects are 0.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    L : array-like of shape (k,) or (n_contrasts, k)
        Weights of the fixed effects, the intercept first where the model has one. Rows that depend on others count once.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
        Denominator degrees of freedom.

    Returns
    -------
    test : pandas.Series
        Of one contrast, "estimate", "std_error", "df", "t" and "p_value"; of several, "F", "df1", "df2" and "p_value".

    Raises
    ------
    ValueError
        Where `L` has another number of columns, or a contrast no variance.
    TypeError
        Where `L` names coefficients rather than weighing them.

    References
    ----------
    For several contrasts: Fai and Cornelius (1996) with Satterthwaite's df, as lmerTest; Kenward and Roger (1997), whose F
    is scaled, as pbkrtest.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import contrast_test
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> contrast_test(model, [1, 5]).round(2)
    estimate     303.74
    std_error      9.06
    df            17.07
    t             33.53
    p_value        0.00
    dtype: float64
    """
    fit = mixed_fit_of(model)
    check_ddf(ddf)
    values = fit.coefficients
    if isinstance(L, str | Mapping):
        raise TypeError(
            f"L must be an array of weights of the fixed effects {list(fit.names)!r}, in this order; found "
            f"{type(L).__name__}."
        )
    contrasts = np.atleast_2d(np.asarray(L, dtype=np.float64))
    if contrasts.ndim != 2 or contrasts.shape[1] != len(values):
        raise ValueError(
            f"L must have a weight for each of the {len(values)} fixed effects {list(fit.names)!r}; found shape "
            f"{contrasts.shape}."
        )
    if not len(values):
        raise ValueError("The model has no fixed effects: there is nothing to test.")
    if not np.isfinite(contrasts).all() or not contrasts.any():
        raise ValueError("L must hold numbers, not all of them 0: there is nothing to test.")
    # Of size 1, so that squares neither overflow nor vanish; a power of 2 changes no digit. One for all rows, since
    # Satterthwaite's df of several, as lmerTest's, depend on how rows are to each other.
    size = float(np.ldexp(1.0, np.frexp(np.abs(contrasts).max())[1] - 1))
    contrasts = _independent_rows(contrasts / size, np.sqrt(fit.covariance.diagonal()))
    q = len(contrasts)
    if q == 1:
        (variance,), (df,) = variances_and_df(fit, ddf, contrasts)
        if not variance > 0:
            raise ValueError(_NO_VARIANCE)
        estimate, error = float(contrasts[0] @ values), float(np.sqrt(variance))
        t = estimate / error
        p_value = 2.0 * stats.t.sf(abs(t), df)
        return pd.Series({"estimate": estimate * size, "std_error": error * size, "df": df, "t": t, "p_value": p_value})
    test = joint_test(fit, ddf, contrasts)
    if test is None:
        raise ValueError(_NO_VARIANCE)
    statistic, df2 = test
    p_value = float(stats.f.sf(statistic, q, df2)) if np.isfinite(df2) else float(stats.chi2.sf(q * statistic, q))
    return pd.Series({"F": statistic, "df1": float(q), "df2": df2, "p_value": p_value})


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


def _independent_rows(contrasts: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the rows of a matrix that do not depend on those before them.

    The weights of each coefficient are measured in its standard errors, so that the rank does not depend on units.
    The rows themselves are made orthogonal, since products of theirs, as `independent_columns` takes, hold half the digits.
    """
    largest = np.abs(contrasts).max(axis=0)
    scaled = contrasts * np.where(errors > 0, errors, 1.0 / np.where(largest > 0, largest, 1.0))
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    scaled /= np.where(length > 0, length, 1.0)
    kept: list[int] = []
    axes = np.zeros((0, scaled.shape[1]))
    for at, row in enumerate(scaled):
        rest = row - axes.T @ (axes @ row)
        rest -= axes.T @ (axes @ rest)
        size = float(np.linalg.norm(rest))
        if size > 1e-10:
            kept.append(at)
            axes = np.vstack([axes, rest / size])
    return contrasts[kept]
