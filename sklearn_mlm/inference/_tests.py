"""Tests of the group variance, and of models against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .._inputs import check_choice, is_whole
from ..likelihood._fit import Fit
from ..likelihood._optimum import minimise
from ._fits import random_intercept_fit_of
from ._variance_ratio import FPivot, simulate_null

_UNBOUNDED = (
    "The likelihood of {} has no maximum: the fixed effects leave no residual (sigma2 = 0) within groups, and the "
    "likelihood grows without bound as the residual variance goes to 0. Fit fewer columns or more rows."
)


def random_intercept_test(
    model: Any, *, method: str = "exact", n_simulations: int = 10_000, random_state: Any = None
) -> pd.Series:
    """Test that there is no group variance, tau2 = 0, given the predictors.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model; the restricted likelihood is used however it was fitted.
    method : {"exact", "mixture", "naive", "f"}, default="exact"
        How the restricted likelihood-ratio statistic gets its p-value: by simulation of its exact null distribution (as
        RLRsim); from an equal mixture of chi-squared with 0 and 1 degrees of freedom, its limit for many groups, which is
        somewhat conservative; from chi-squared with 1, as lmerTest's ranova, which is twice that. "f" is Wald's F test,
        exact as well, and what dummies of the groups would give.
    n_simulations : int, default=10000
        For "exact". The p-value is (1 + the number of draws that reach the statistic) / (1 + n_simulations): it is never 0,
        and the test keeps its level at any number of draws.
    random_state : int, RandomState instance or None, default=None
        For "exact".

    Returns
    -------
    test : pandas.Series
        "statistic" and "p_value", and for "f" "F", "df1", "df2" and "p_value". The p-value is NaN where the fixed effects
        leave no degrees of freedom between groups, or one row for both variances: the likelihood is then the same at every
        group variance.

    Raises
    ------
    ValueError
        For an unknown method, an `n_simulations` that is no whole number of at least 1, or a constant y.

    References
    ----------
    C. M. Crainiceanu and D. Ruppert (2004), "Likelihood ratio tests in linear mixed models with one variance component",
    Journal of the Royal Statistical Society B 66(1), 165-185.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_dyestuff
    >>> from sklearn_mlm.inference import random_intercept_test
    >>> dyestuff = load_dyestuff()
    >>> model = RandomInterceptRegressor().fit(None, dyestuff.target, groups=dyestuff.groups)
    >>> random_intercept_test(model, method="f").round(3).tolist()
    [4.598, 5.0, 24.0, 0.004]
    """
    fit = random_intercept_fit_of(model)
    check_choice("method", method, ("exact", "mixture", "naive", "f"))
    if not is_whole(n_simulations):
        raise ValueError(f"n_simulations must be a whole number of draws, 1 or more; found {n_simulations!r}.")
    criterion = fit.criterion(reml=True)
    if criterion.coordinates.outcome_constant:
        raise ValueError("y is constant: there is no variance to test.")
    if criterion.exact_fit:
        raise ValueError("The fixed effects determine y: they leave no variance to test. Fit fewer columns.")
    if method == "f":
        return f_test(FPivot(criterion))
    optimum = minimise(criterion)
    # Where the optimum is 0 the two values differ by rounding alone.
    statistic = max(criterion.value(0.0) - optimum.solution.value, 0.0) if optimum.solution.ratio > 0 else 0.0
    if not optimum.identified:
        p_value = np.nan
    elif method == "exact":
        n_reached = np.count_nonzero(simulate_null(criterion, int(n_simulations), random_state) >= statistic)
        p_value = (1.0 + n_reached) / (1.0 + n_simulations)
    else:
        p_value = float(stats.chi2.sf(statistic, 1)) * (0.5 if method == "mixture" and statistic > 0 else 1.0)
    return pd.Series({"statistic": statistic, "p_value": p_value})


def f_test(pivot: FPivot) -> pd.Series:
    """Return Wald's exact F test of tau2 = 0 as a series."""
    statistic = pivot.statistic(0.0)
    p_value = float(stats.f.sf(statistic, pivot.df1, pivot.df2))
    return pd.Series({"F": statistic, "df1": pivot.df1, "df2": pivot.df2, "p_value": p_value})


def likelihood_ratio_test(small: Any, large: Any) -> pd.DataFrame:
    """Compare two models of the same rows, one of which has the columns of the other and more.

    Models fitted by REML are refitted by maximum likelihood, from their moments: restricted likelihoods of models with
    different columns cannot be compared.

    Parameters
    ----------
    small, large : RandomInterceptRegressor
        Fitted models.

    Returns
    -------
    table : pandas.DataFrame
        A row for "small" and "large", as lme4's anova: "n_parameters", "aic", "bic", "log_likelihood", "deviance", and for
        the larger "chi2", "df" and "p_value".

    Raises
    ------
    ValueError
        If the models are of different rows or groups, or not nested, or if one of them leaves no residual within groups, so
        that its full likelihood has no maximum.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import likelihood_ratio_test
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> null = RandomInterceptRegressor().fit(None, y, groups=subject)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> likelihood_ratio_test(null, model)[["log_likelihood", "deviance", "chi2", "df"]].round(2)
           log_likelihood  deviance    chi2   df
    small         -955.27   1910.54     NaN  NaN
    large         -897.04   1794.08  116.46  1.0
    """
    fits = random_intercept_fit_of(small, "small"), random_intercept_fit_of(large, "large")
    criteria = [fit.criterion(reml=False) for fit in fits]
    _check_nested(*fits)
    deviance = np.array([minimise(criterion).solution.value for criterion in criteria])
    for name, value in zip(("small", "large"), deviance, strict=True):
        if np.isneginf(value):
            raise ValueError(_UNBOUNDED.format(name))
    n_parameters = np.array([fit.n_parameters for fit in fits])
    chi2, df = float(deviance[0] - deviance[1]), int(n_parameters[1] - n_parameters[0])
    return pd.DataFrame(
        {
            "n_parameters": n_parameters,
            "aic": deviance + 2 * n_parameters,
            "bic": deviance + np.log(fits[0].n_observations) * n_parameters,
            "log_likelihood": -deviance / 2,
            "deviance": deviance,
            "chi2": [np.nan, max(chi2, 0.0)],
            "df": [np.nan, float(df)],
            "p_value": [np.nan, float(stats.chi2.sf(max(chi2, 0.0), df))],
        },
        index=["small", "large"],
    )


def _check_nested(small: Fit, large: Fit) -> None:
    """Raise unless the models are of the same rows, and the columns of one among those of the other."""
    a, b = small.moments, large.moments
    y_scale = np.sqrt(b.within[-1, -1] + b.counts.sum() * np.ptp(b.deviations[:, -1]) ** 2) or 1.0
    same = (
        a.n_groups == b.n_groups
        and a.labels.equals(b.labels)
        and np.allclose(a.counts, b.counts, rtol=1e-9)
        and np.allclose(a.means[:, -1], b.means[:, -1], rtol=1e-9, atol=1e-9 * y_scale)
        and np.isclose(a.within[-1, -1], b.within[-1, -1], rtol=1e-6)
    )
    if not same:
        raise ValueError(
            "The models are of different rows, groups or outcomes: their likelihoods cannot be compared. Fit both to the "
            "same rows."
        )
    names = None if a.feature_names is None or b.feature_names is None else set(a.feature_names) - set(b.feature_names)
    if large.rank <= small.rank or names:
        extra = f" Only small has {', '.join(sorted(names))}." if names else ""
        if large.rank < small.rank:
            extra += " Perhaps the models are in the wrong order: small comes first."
        raise ValueError(
            f"large must have the columns of small and more: found {small.rank} independent fixed effects in small "
            f"and {large.rank} in large.{extra}"
        )
    of_small, of_large = small.options, large.options
    if of_small.weight_type != of_large.weight_type or (of_small.fit_intercept and not of_large.fit_intercept):
        raise ValueError("The models differ in weight_type or fit_intercept: they are not nested.")
