"""Tables, contrasts and tests of the fixed effects of any fit that has the members of `MixedFit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice, check_level
from .._typing import DegreesOfFreedom, FittedModel, MixedFit
from ..likelihood._fit import LeastSquaresFit
from ._degrees_of_freedom import KenwardRoger, Satterthwaite, quadratic
from ._distributions import f_test, half_width, two_sided_p_values
from ._fits import fit_of, mixed_fit_of

# Fewer degrees of freedom mean that Kenward and Roger's approximation has broken down.
_LEAST_DF = 0.5
# Singular values up to this one are rounding, if the contrasts are scaled to standard errors of 1.
_DEPENDENT = 1e-11
_NO_VARIANCE = (
    "A row of L, or a combination of its rows, has no variance: it weighs columns that were dropped, or the model has no "
    "residual."
)


def fixed_effects(model: FittedModel, *, ddf: DegreesOfFreedom = "satterthwaite", level: float = 0.95) -> pd.DataFrame:
    """Return the table of fixed effects: estimates, standard errors, tests against 0 and confidence intervals.

    Parameters
    ----------
    model : RandomInterceptRegressor, ClusterRobustOLS or WithinOLS
        A fitted model. The least-squares models have their own degrees of freedom and ignore `ddf`.
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
    At the boundary tau2 = 0, Satterthwaite's df are N - k, because one variance is left to estimate; Kenward and Roger's
    follow from their formula, as in pbkrtest. At sigma2 = 0, both are the degrees of freedom between groups.

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


def contrast_test(model: FittedModel, L: ArrayLike, *, ddf: DegreesOfFreedom = "satterthwaite") -> pd.Series:
    """Test that combinations of the fixed effects are 0.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    L : array-like of shape (k,) or (n_contrasts, k)
        Weights of the fixed effects, the intercept first if the model has one. Rows that depend on earlier ones are dropped.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
        Denominator degrees of freedom.

    Returns
    -------
    test : pandas.Series
        For one contrast "estimate", "std_error", "df", "t" and "p_value"; for several "F", "df1", "df2" and "p_value".

    Raises
    ------
    ValueError
        If `L` has the wrong number of columns, is not finite or all 0, or if a contrast has no variance; and as in
        `fixed_effects`.
    TypeError
        If `L` is a string or a mapping rather than an array of weights.

    References
    ----------
    For several contrasts: Fai and Cornelius (1996) with Satterthwaite's df, as in lmerTest; Kenward and Roger (1997), who
    scale F, as in pbkrtest.

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
    check_choice("ddf", ddf, get_args(DegreesOfFreedom))
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
    # Divide by a size, so that squares neither overflow nor vanish; a power of 2 changes no digit. All rows share it because
    # Satterthwaite's df for several contrasts, like lmerTest's, depend on the relative lengths of the rows.
    size = float(np.ldexp(1.0, np.frexp(np.abs(contrasts).max())[1] - 1))
    contrasts = _independent_rows(contrasts / size, np.sqrt(fit.covariance.diagonal()))
    if len(contrasts) == 1:
        (variance,), (df,) = variances_and_df(fit, ddf, contrasts)
        if not variance > 0:
            raise ValueError(_NO_VARIANCE)
        estimate, error = float(contrasts[0] @ values), float(np.sqrt(variance))
        t = estimate / error
        p_value = float(two_sided_p_values(t, df))
        return pd.Series({"estimate": estimate * size, "std_error": error * size, "df": df, "t": t, "p_value": p_value})
    test = joint_test(fit, ddf, contrasts)
    if test is None:
        raise ValueError(_NO_VARIANCE)
    return f_test(test[0], float(len(contrasts)), test[1])


def coefficient_table(
    values: np.ndarray, variances: np.ndarray, df: ArrayLike, names: Sequence[str], dropped: np.ndarray | None = None
) -> pd.DataFrame:
    """Return a row for each coefficient: its estimate, standard error, df and two-sided p-value of the t test against 0.

    The rows at the positions `dropped` are NaN. A coefficient that is known without error has no p-value.
    """
    errors = np.sqrt(variances)
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


def joint_test(fit: MixedFit, ddf: DegreesOfFreedom, contrasts: np.ndarray) -> tuple[float, float] | None:
    """Return the F statistic of several independent contrasts and its denominator df; None if one has no variance.

    The covariance of the contrasts is never formed, because it squares their correlations and so loses digits. With V = RR'
    the covariance of the coefficients, LR = USW' keeps the digits of the contrasts. The rows of W' are contrasts of R^-1
    beta for the same hypothesis, and their estimates are uncorrelated with variance 1.

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
    q, rotated = len(contrasts), left.T @ (contrasts @ fit.coefficients / length) / singular
    statistic = float(rotated @ rotated) / q
    known_df = _known_df(fit, ddf)
    if known_df is not None:
        return statistic, known_df
    kenward_roger = _kenward_roger(fit, ddf)
    if kenward_roger is None:
        # lmerTest rotates the contrasts at their given lengths.
        return statistic, Satterthwaite.of(fit).joint_degrees_of_freedom(white)
    df, factor = kenward_roger.degrees_of_freedom(axes)
    if not (df >= _LEAST_DF and factor > 0):
        raise ValueError(
            f"Kenward and Roger's approximation breaks down here: it gives {df:.3g} degrees of freedom and multiplies the "
            f'statistic by {factor:.3g}. There are too few groups: use ddf="satterthwaite".'
        )
    return factor * float(rotated @ np.linalg.solve(axes @ kenward_roger.adjusted @ axes.T, rotated)) / q, df


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
            'fit it with method="reml".'
        )
    return KenwardRoger.of(*terms)


def _independent_rows(contrasts: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the rows of a matrix that do not depend on those before them.

    The weights of each coefficient are measured in its standard errors, so that the rank does not depend on units. The rows
    themselves are orthogonalised, because their products, which `independent_columns` takes, hold half the digits.
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
