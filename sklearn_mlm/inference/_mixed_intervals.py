"""Confidence intervals of all parameters of a model with random slopes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from ..likelihood._factor_fit import FactorFit
from ..likelihood._mixed_fits import fit_mixed
from ..likelihood._random_effects_fit import RandomEffectsFit
from ..likelihood._random_terms import INTERCEPT
from ._distributions import half_width
from ._fixed_effects import variances_and_df
from ._mixed_profile import MixedProfile
from ._model_comparison import UNBOUNDED


def mixed_intervals(fit: RandomEffectsFit, method: str | None, level: float) -> pd.DataFrame:
    """Return what `confidence_intervals` does for a model with random slopes.

    Parameters
    ----------
    fit : RandomEffectsFit
        The fit.
    method : {"profile", "wald"} or None
        As in `confidence_intervals`.
    level : float
        Confidence level.

    Returns
    -------
    intervals : pandas.DataFrame
        With the columns "lower" and "upper".

    Raises
    ------
    ValueError
        If there is no such method for this model, or the likelihood has no maximum.
    """
    if method in ("pivot", "exact"):
        raise ValueError(
            f"method={method!r} is for models in which the intercept alone varies (RandomInterceptRegressor). Pass "
            '"profile" or "wald", or no method.'
        )
    if fit.residual_variance == 0:
        raise ValueError("The model leaves no residual (sigma2 = 0): the likelihood has no maximum to profile about.")
    if method == "wald":
        return _frame([*_wald_limits(fit, level), *_coefficient_limits(fit, "normal", level)], fit)
    if method is None:
        return _frame([*_profile_limits(fit, level), *_coefficient_limits(fit, "satterthwaite", level)], fit)
    full = fit if not fit.reml else fit_mixed(fit.scatter, replace(fit.options, method="ml"))
    if np.isneginf(full.value):
        raise ValueError(UNBOUNDED.format("the model"))
    profile = _profile(full, level)
    return _frame([*_profile_limits(full, level), *map(profile.coefficient_limits, range(len(fit.names)))], fit)


def _frame(limits: list[tuple[float, float]], fit: RandomEffectsFit) -> pd.DataFrame:
    """Return limits as a table."""
    parameters = _random_parameters(fit)
    shown = [name.replace(INTERCEPT, INTERCEPT.strip("()")) for name, *_ in parameters]
    return pd.DataFrame(limits, index=[*shown, "sd(residual)", *fit.names], columns=["lower", "upper"])


def _random_parameters(fit: RandomEffectsFit) -> list[tuple[str, int, int]]:
    """Return the name of each standard deviation and correlation, with the positions of its coefficients."""
    names = fit.options.coefficients
    owners = [term.factor for term in fit.options.terms for _ in term.coefficients]
    of = [f" | {owner}" if isinstance(fit, FactorFit) else "" for owner in owners]
    parameters = [(f"sd({name}{of[at]})", at, at) for at, name in enumerate(names)]
    for block in fit.criterion.design.blocks:
        parameters += [(f"cor({names[a]}, {names[b]}{of[a]})", a, b) for i, a in enumerate(block) for b in block[i + 1 :]]
    return parameters


def _coefficient_limits(fit: RandomEffectsFit, ddf: str, level: float) -> list[tuple[float, float]]:
    """Return t limits of the fixed effects; NaN for dropped columns."""
    variances, df = variances_and_df(fit, ddf, np.eye(len(fit.names)))  # type: ignore[arg-type]
    errors = np.where(variances > 0, np.sqrt(variances), np.nan)
    half = half_width(level, errors, df)
    return list(zip((fit.coefficients - half).tolist(), (fit.coefficients + half).tolist(), strict=True))


def _profile(fit: RandomEffectsFit, level: float) -> MixedProfile:
    """Return the profile of the likelihood of a fit."""
    from scipy import stats

    return MixedProfile(fit, float(stats.chi2.ppf(level, 1)))


def _profile_limits(fit: RandomEffectsFit, level: float) -> list[tuple[float, float]]:
    """Return profile limits of standard deviations, correlations and sigma."""
    profile = _profile(fit, level)
    limits = []
    for _, a, b in _random_parameters(fit):
        if any(at not in profile.kept for at in (a, b)):
            limits.append((np.nan, np.nan))
        elif a == b:
            limits.append(profile.sd_limits(profile.kept.index(a)))
        else:
            limits.append(profile.correlation_limits(profile.kept.index(a), profile.kept.index(b)))
    return [*limits, profile.residual_limits()]


def _wald_limits(fit: RandomEffectsFit, level: float) -> list[tuple[float, float]]:
    """Return Wald limits of log standard deviations and z transforms of correlations, turned back; NaN at a boundary.

    The covariance of the variance parameters is twice the inverse of the Hessian of the deviance.
    """
    covariance = fit.random_covariance
    parameters = _random_parameters(fit)
    if fit.boundary is not None:
        sigma_only = half_width(level, np.array([np.sqrt(0.5 / fit.criterion.degrees_of_freedom)]))[0]
        sigma = np.sqrt(fit.residual_variance)
        return [(np.nan, np.nan)] * len(parameters) + [(sigma * np.exp(-sigma_only), sigma * np.exp(sigma_only))]
    derivatives, of_parameters = fit.covariance_of_random_derivatives, np.linalg.inv(fit.hessian) * 2.0
    limits = []
    for _, a, b in parameters:
        if a == b:
            value, gradient = 0.5 * np.log(covariance[a, a]), 0.5 * derivatives[:, a, a] / covariance[a, a]
        else:
            scale = np.sqrt(covariance[a, a] * covariance[b, b])
            correlation = covariance[a, b] / scale
            own = derivatives[:, a, a] / covariance[a, a] + derivatives[:, b, b] / covariance[b, b]
            value = np.arctanh(correlation)
            gradient = (derivatives[:, a, b] / scale - 0.5 * correlation * own) / (1.0 - correlation**2)
        half = half_width(level, np.sqrt(gradient @ of_parameters @ gradient))
        turned = np.exp if a == b else np.tanh
        limits.append((float(turned(value - half)), float(turned(value + half))))
    half = half_width(level, np.sqrt(of_parameters[-1, -1]) / 2.0)
    sigma = np.sqrt(fit.residual_variance)
    return [*limits, (float(sigma * np.exp(-half)), float(sigma * np.exp(half)))]
