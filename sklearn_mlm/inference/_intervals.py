"""Confidence intervals of all parameters, and the plausible values range of the groups' intercepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .._inputs import check_choice, check_level
from ..likelihood._optimum import minimise
from ._fits import random_intercept_fit_of
from ._profile import icc_of_ratio, profile_limits
from ._tests import _UNBOUNDED
from ._variance_ratio import FPivot


def confidence_intervals(model: Any, *, method: str = "profile", level: float = 0.95) -> pd.DataFrame:
    """Return confidence intervals of all parameters.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    method : {"profile", "wald", "exact"}, default="profile"
        "profile": where twice the log-likelihood has fallen by the quantile of chi-squared; of the full likelihood, as in
        lme4, also where the model was fitted by REML. "wald": estimates and normal quantiles of standard errors, for the
        fixed effects alone. "exact": of the ICC and the residual standard deviation alone, with exact coverage whatever the
        group sizes and the covariates.
    level : float, default=0.95

    Returns
    -------
    intervals : pandas.DataFrame
        Indexed "sd(group)", "sd(residual)", "icc", "(Intercept)" and the names of the features, with the columns "lower" and
        "upper"; NaN where the method has no interval.

    Raises
    ------
    ValueError
        If the fixed effects leave no residual within groups, so that the full likelihood has no maximum. That happens by
        chance alone where there are no more rows than groups and coefficients together.

    References
    ----------
    D. A. Harville and A. P. Fenech (1985), "Confidence intervals for a variance ratio, or for heritability, in an
    unbalanced mixed linear model", Biometrics 41(1), 137-152, for the exact ones.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import confidence_intervals
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> confidence_intervals(model).round(3)
                    lower    upper
    sd(group)      26.007   52.936
    sd(residual)   27.814   34.591
    icc             0.403    0.751
    (Intercept)   231.992  270.818
    days            8.887   12.048
    """
    fit = random_intercept_fit_of(model)
    check_level(level)
    check_choice("method", method, ("profile", "wald", "exact"))
    names = ["sd(group)", "sd(residual)", "icc", *fit.names]
    limits = np.full((len(names), 2), np.nan)
    if method == "wald":
        errors = np.sqrt(fit.covariance.diagonal())
        half = np.where(errors > 0, stats.norm.ppf(0.5 + level / 2.0) * errors, np.nan)
        limits[3:] = np.column_stack([fit.coefficients - half, fit.coefficients + half])
    elif method == "exact":
        criterion = fit.criterion()
        pivot = FPivot(criterion)
        limits[1] = np.sqrt(pivot.residual_variance_limits(level)) * criterion.coordinates.y_scale
        limits[2] = icc_of_ratio(np.array(pivot.limits(level)))
    else:
        if fit.residual_variance == 0:
            raise ValueError("The model leaves no residual (sigma2 = 0): the likelihood has no maximum to profile about.")
        criterion = fit.criterion(reml=False)
        if np.isneginf(minimise(criterion).solution.value):
            raise ValueError(_UNBOUNDED.format("the model"))
        profile = profile_limits(criterion, float(stats.chi2.ppf(level, 1)))
        limits[0], limits[1], limits[3:] = profile.group_sd, profile.residual_sd, profile.coefficients
        limits[2] = icc_of_ratio(np.array(profile.ratio))
    return pd.DataFrame(limits, index=names, columns=["lower", "upper"])


def plausible_values_range(model: Any, level: float = 0.95) -> pd.Series:
    """Return the range in which the model puts this share of the groups' intercepts, intercept +- z sqrt(tau2).

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    level : float, default=0.95

    Returns
    -------
    limits : pandas.Series
        "lower" and "upper", in units of y. With predictors, of rows at which all of them are 0.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_dyestuff
    >>> from sklearn_mlm.inference import plausible_values_range
    >>> dyestuff = load_dyestuff()
    >>> model = RandomInterceptRegressor().fit(None, dyestuff.target, groups=dyestuff.groups)
    >>> plausible_values_range(model).round(1).tolist()
    [1445.2, 1609.8]
    """
    fit = random_intercept_fit_of(model)
    check_level(level)
    half = stats.norm.ppf(0.5 + level / 2.0) * np.sqrt(fit.group_variance)
    return pd.Series({"lower": fit.intercept - half, "upper": fit.intercept + half})
