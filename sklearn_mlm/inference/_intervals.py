"""Confidence intervals of all parameters, and the plausible values range of the groups' intercepts."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from .._inputs import check_choice, check_level
from .._typing import FittedModel
from ..likelihood._optimum import minimise
from ._distributions import half_width
from ._fits import random_intercept_fit_of
from ._profile import icc_of_ratio, profile_limits
from ._tests import UNBOUNDED
from ._variance_ratio import FPivot

IntervalMethod = Literal["profile", "wald", "exact"]


def confidence_intervals(model: FittedModel, *, method: IntervalMethod = "profile", level: float = 0.95) -> pd.DataFrame:
    """Return confidence intervals of all parameters.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    method : {"profile", "wald", "exact"}, default="profile"
        "profile" includes the values at which twice the full log-likelihood is below its maximum by no more than a quantile
        of chi-squared; as in lme4, this holds for models fitted by REML too. "wald" adds normal quantiles of standard errors
        to the estimates, for the fixed effects only. "exact" has exact coverage for any group sizes and covariates, for the
        ICC and the residual standard deviation only.
    level : float, default=0.95
        Confidence level of the intervals.

    Returns
    -------
    intervals : pandas.DataFrame
        Indexed by "sd(group)", "sd(residual)", "icc", "(Intercept)" and the names of the features, with the columns "lower"
        and "upper"; NaN for parameters that the method has no interval for.

    Raises
    ------
    ValueError
        If `method` is "profile" and the full likelihood has no maximum, because the fixed effects leave no residual within
        groups. This is certain if there are no more rows than groups and predictors that vary within groups.

    References
    ----------
    D. A. Harville and A. P. Fenech (1985), "Confidence intervals for a variance ratio, or for heritability, in an
    unbalanced mixed linear model", Biometrics 41(1), 137-152, for the exact intervals.

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
    from scipy import stats

    fit = random_intercept_fit_of(model)
    check_level(level)
    check_choice("method", method, get_args(IntervalMethod))
    names = ["sd(group)", "sd(residual)", "icc", *fit.names]
    limits = np.full((len(names), 2), np.nan)
    if method == "wald":
        errors = np.sqrt(fit.covariance.diagonal())
        half = np.where(errors > 0, half_width(level, errors), np.nan)
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
            raise ValueError(UNBOUNDED.format("the model"))
        profile = profile_limits(criterion, float(stats.chi2.ppf(level, 1)))
        limits[0], limits[1], limits[3:] = profile.group_sd, profile.residual_sd, profile.coefficients
        limits[2] = icc_of_ratio(np.array(profile.ratio))
    return pd.DataFrame(limits, index=names, columns=["lower", "upper"])


def plausible_values_range(model: FittedModel, level: float = 0.95) -> pd.Series:
    """Return the range that holds this share of the groups' intercepts by the model, intercept +- z sqrt(tau2).

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    level : float, default=0.95
        Share of the groups that the range holds.

    Returns
    -------
    limits : pandas.Series
        "lower" and "upper", in units of y. The intercepts are those of rows with predictors of 0.

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
    half = half_width(level, np.sqrt(fit.group_variance))
    return pd.Series({"lower": fit.intercept - half, "upper": fit.intercept + half})
