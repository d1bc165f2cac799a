"""Tables of fixed effects and their degrees of freedom, of whatever kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ._degrees_of_freedom import KenwardRoger, Satterthwaite, quadratic
from ._fitted import estimates
from ._solution import State

# Degrees of freedom below which Kenward and Roger's approximation has broken down.
_LEAST_DF = 0.5
# Of contrasts of length 1 in standard errors, the least singular value that is no rounding.
_DEPENDENT = 1e-11
DDF = ("satterthwaite", "kenward_roger", "residual", "normal")


def satterthwaite_degrees_of_freedom(
    state: State, covariance: np.ndarray, boundary: str | None, contrasts: np.ndarray
) -> np.ndarray:
    """Return Satterthwaite's degrees of freedom of combinations of the fixed effects, at the boundaries as well.

    Parameters
    ----------
    state : State
        Of the criterion at its optimum.
    covariance : ndarray of shape (k, k)
        Of the fixed effects.
    boundary : {"group", "residual"} or None
        The variance that is 0 there.
    contrasts : ndarray of shape (n_contrasts, k)

    Returns
    -------
    df : ndarray of shape (n_contrasts,)
        NaN where the variance of the combination is 0.
    """
    if boundary == "group":
        df = np.full(len(contrasts), state.degrees_of_freedom)
    elif boundary == "residual":
        df = np.full(len(contrasts), float(state.between_degrees_of_freedom))
    else:
        df = Satterthwaite.of(state).degrees_of_freedom(contrasts)
    return np.where(quadratic(contrasts, covariance) > 0, df, np.nan)


def coefficient_table(
    values: Any, covariance: np.ndarray, df: Any, names: list[str], dropped: np.ndarray | None = None
) -> pd.DataFrame:
    """Return estimates, standard errors, degrees of freedom and two-sided p-values of t tests against 0, a row each.

    The coefficients at the positions `dropped` are NaN throughout; one that is known without error has no test.
    """
    errors = np.sqrt(np.diag(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = np.where(errors > 0, 2.0 * stats.t.sf(np.abs(values / errors), df), np.nan)
    table = pd.DataFrame({"estimate": values, "std_error": errors, "df": df, "p_value": p_values}, index=names)
    if dropped is not None:
        table.iloc[dropped] = np.nan
    return table


def t_statistics(table: pd.DataFrame) -> pd.Series:
    """Return estimates over standard errors; NaN for a coefficient that is known without error, which has no test."""
    return table["estimate"] / table["std_error"].where(table["std_error"] > 0)


def check_ddf(ddf: str) -> None:
    """Raise for an unknown kind of degrees of freedom."""
    if ddf not in DDF:
        raise ValueError(f"ddf must be one of {', '.join(map(repr, DDF))}; found {ddf!r}.")


def covariance_and_df(model: Any, ddf: str, contrasts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance of the estimates of contrasts (of the coefficients, if there are none), and the df of each.

    Both are taken about the centre of the columns, where no digits are lost to a distant origin.
    """
    state, boundary = _centered(model._state), model.boundary_
    covariance = model._solution.centered_covariance
    contrasts = _about_center(model, np.eye(len(covariance)) if contrasts is None else contrasts)
    of_contrasts = contrasts @ covariance @ contrasts.T
    if ddf in ("residual", "normal"):
        df = state.n_observations - state.rank if ddf == "residual" else np.inf
        return of_contrasts, np.full(len(contrasts), df)
    # Without a residual there is nothing for Kenward and Roger to adjust.
    if ddf == "satterthwaite" or model.variance_components_["residual"] == 0:
        return of_contrasts, satterthwaite_degrees_of_freedom(state, covariance, boundary, contrasts)
    kenward_roger = _kenward_roger(state)
    each = np.full(len(contrasts), np.nan)
    for at in np.flatnonzero(np.diag(of_contrasts) > 0):
        df, _ = kenward_roger.degrees_of_freedom(contrasts[at : at + 1])
        each[at] = df if df >= _LEAST_DF else np.nan
    return contrasts @ kenward_roger.adjusted @ contrasts.T, each


def joint_test(model: Any, ddf: str, contrasts: np.ndarray) -> tuple[float, float] | None:
    """Return the F statistic of several independent contrasts and its denominator df; None if one has no variance.

    The covariance of the contrasts is never formed, since its digits are those of their correlations squared: with V = RR'
    that of the coefficients, LR = USW' has the digits of the contrasts, and the rows of W' are contrasts of R^-1 beta of the
    same hypothesis, whose estimates are uncorrelated with variance 1.
    """
    boundary, state = model.boundary_, model._state
    values = contrasts @ estimates(model)
    contrasts = _about_center(model, contrasts)
    if model.variance_components_["residual"] == 0:
        # The limit of large gamma, whose covariance is not that of the state.
        covariance = model._solution.centered_covariance
        size = np.sqrt(np.where(np.diag(covariance) > 0, np.diag(covariance), 1.0))
        variances, axes = np.linalg.eigh(covariance / np.outer(size, size))
        root = size[:, None] * axes * np.sqrt(np.clip(variances, 0.0, None))
    else:
        state = state.whitened()
        root = np.sqrt(state.residual_variance) * state.to_centered
    of_each = contrasts @ root
    length = np.linalg.norm(of_each, axis=1)
    if not (length > 0).all():
        return None
    left, singular, uncorrelated = np.linalg.svd(of_each / length[:, None], full_matrices=False)
    if len(singular) < len(contrasts) or singular.min() <= _DEPENDENT:
        return None
    q, turned = len(contrasts), left.T @ (values / length) / singular
    statistic = float(turned @ turned) / q
    if ddf == "normal":
        return statistic, np.inf
    if ddf == "residual":
        return statistic, state.n_observations - state.rank
    if model.variance_components_["residual"] == 0:
        return statistic, float(state.between_degrees_of_freedom)
    if ddf == "satterthwaite" and boundary == "group":
        return statistic, state.degrees_of_freedom
    white = replace(state, to_columns=np.eye(state.rank))
    if ddf == "satterthwaite":
        # The axes that lmerTest takes: of contrasts as long as they are given.
        axes = np.linalg.svd(of_each, full_matrices=False)[2]
        return statistic, Satterthwaite.of(white).uncorrelated_degrees_of_freedom(axes)
    kenward_roger = _kenward_roger(white)
    df, factor = kenward_roger.degrees_of_freedom(uncorrelated)
    if not (df >= _LEAST_DF and factor > 0):
        raise ValueError(
            f"Kenward and Roger's approximation breaks down here: it gives {df:.3g} degrees of freedom and multiplies the "
            f'statistic by {factor:.3g}. There are too few groups for it: use ddf="satterthwaite".'
        )
    adjusted = uncorrelated @ kenward_roger.adjusted @ uncorrelated.T / state.residual_variance
    return factor * float(turned @ np.linalg.solve(adjusted, turned)) / q, df


def _centered(state: State) -> State:
    """Return the sums of inference for an intercept at the centre of the columns."""
    return replace(state, to_columns=state.to_centered)


def _about_center(model: Any, contrasts: np.ndarray) -> np.ndarray:
    """Return the weights of an intercept at the centre, and of the slopes, in contrasts of an intercept at 0."""
    if len(model._solution.center) == contrasts.shape[1]:
        return contrasts
    contrasts = contrasts.copy()
    contrasts[:, 1:] -= contrasts[:, :1] * model._solution.center
    return contrasts


def _kenward_roger(state: State) -> KenwardRoger:
    """Return what Kenward and Roger's method takes, of a model fitted by REML."""
    if not state.reml:
        raise ValueError(
            'ddf="kenward_roger" adjusts for variances estimated by REML, but the model was fitted by maximum likelihood: '
            'fit it with method="reml".'
        )
    return KenwardRoger.of(state)
