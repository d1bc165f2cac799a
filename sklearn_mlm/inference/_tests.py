"""Tests of the group variance, and of models against each other."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from .._inputs import check_choice, is_whole
from .._typing import FittedModel, RandomState
from ..likelihood._fit import Fit
from ..likelihood._optimum import minimise
from ._fits import random_intercept_fit_of
from ._variance_ratio import FPivot, simulate_null

TestMethod = Literal["exact", "mixture", "naive", "f"]

UNBOUNDED = (
    "The likelihood of {} has no maximum: the fixed effects leave no residual (sigma2 = 0) within groups, and the "
    "likelihood grows without bound as the residual variance goes to 0. Fit fewer columns or more rows."
)


def random_intercept_test(
    model: FittedModel, *, method: TestMethod = "exact", n_simulations: int = 10_000, random_state: RandomState = None
) -> pd.Series:
    """Test that there is no group variance, tau2 = 0, given the predictors.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model. The test uses the restricted likelihood even if the model was fitted by maximum likelihood.
    method : {"exact", "mixture", "naive", "f"}, default="exact"
        How the p-value of the restricted likelihood-ratio statistic is computed. "exact" simulates the exact null
        distribution, as RLRsim does. "mixture" uses the limit for many groups, an equal mixture of chi-squared with 0 and 1
        degrees of freedom, and is somewhat conservative. "naive" uses chi-squared with 1 degree of freedom, as lmerTest's
        ranova does, which doubles the p-value. "f" is Wald's F test instead, which is exact too and the F test of dummies of
        the groups.
    n_simulations : int, default=10000
        Number of draws if `method` is "exact". The p-value is (1 + the number of draws that reach the statistic) /
        (1 + n_simulations): it is never 0, and the test keeps its level at any number of draws.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws if `method` is "exact".

    Returns
    -------
    test : pandas.Series
        "statistic" and "p_value"; if `method` is "f", "F", "df1", "df2" and "p_value". The p-value is NaN if the fixed
        effects leave no degrees of freedom between groups, or a single one for both variances, because the likelihood is
        then the same at every group variance.

    Raises
    ------
    ValueError
        If `method` is unknown, if `n_simulations` is not a whole number of at least 1, or if y is constant or determined by
        the fixed effects.

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
    from scipy import stats

    fit = random_intercept_fit_of(model)
    check_choice("method", method, get_args(TestMethod))
    if not is_whole(n_simulations):
        raise ValueError(f"n_simulations must be a whole number of draws, 1 or more; found {n_simulations!r}.")
    criterion = fit.criterion(reml=True)
    if criterion.coordinates.outcome_constant:
        raise ValueError("y is constant: there is no variance to test.")
    if criterion.exact_fit:
        raise ValueError("The fixed effects determine y: they leave no variance to test. Fit fewer columns.")
    if method == "f":
        return FPivot(criterion).test()
    optimum = minimise(criterion)
    # At an optimum of 0, the two values differ by rounding only.
    statistic = max(criterion.value(0.0) - optimum.solution.value, 0.0) if optimum.solution.ratio > 0 else 0.0
    if not optimum.identified:
        p_value = np.nan
    elif method == "exact":
        n_reached = np.count_nonzero(simulate_null(criterion, int(n_simulations), random_state) >= statistic)
        p_value = (1.0 + n_reached) / (1.0 + n_simulations)
    else:
        p_value = float(stats.chi2.sf(statistic, 1)) * (0.5 if method == "mixture" and statistic > 0 else 1.0)
    return pd.Series({"statistic": statistic, "p_value": p_value})


def likelihood_ratio_test(small: FittedModel, large: FittedModel) -> pd.DataFrame:
    """Compare two models of the same rows: `large` has the columns of `small`, and more.

    Models fitted by REML are refitted by maximum likelihood, from their moments, because restricted likelihoods of models
    with different columns cannot be compared.

    Parameters
    ----------
    small, large : RandomInterceptRegressor
        Fitted models.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by "small" and "large", with the columns of lme4's anova: "n_parameters", "aic", "bic", "log_likelihood",
        "deviance", "chi2", "df" and "p_value". The last three are NaN for the small model.

    Raises
    ------
    ValueError
        If the models have different rows or groups or are not nested, or if one of them leaves no residual within groups, so
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
    from scipy import stats

    fits = random_intercept_fit_of(small, "small"), random_intercept_fit_of(large, "large")
    criteria = [fit.criterion(reml=False) for fit in fits]
    _check_nested(*fits)
    deviance = np.array([minimise(criterion).solution.value for criterion in criteria])
    for name, value in zip(("small", "large"), deviance, strict=True):
        if np.isneginf(value):
            raise ValueError(UNBOUNDED.format(name))
    n_parameters = np.array([fit.n_parameters for fit in fits])
    chi2, df = max(float(deviance[0] - deviance[1]), 0.0), float(n_parameters[1] - n_parameters[0])
    return pd.DataFrame(
        {
            "n_parameters": n_parameters,
            "aic": deviance + 2 * n_parameters,
            "bic": deviance + np.log(fits[0].n_observations) * n_parameters,
            "log_likelihood": -deviance / 2,
            "deviance": deviance,
            "chi2": [np.nan, chi2],
            "df": [np.nan, df],
            "p_value": [np.nan, float(stats.chi2.sf(chi2, df))],
        },
        index=["small", "large"],
    )


def _check_nested(small: Fit, large: Fit) -> None:
    """Raise unless the models have the same rows, and the columns of `small` are among those of `large`."""
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
            "The models have different rows, groups or outcomes: their likelihoods cannot be compared. Fit both to the same "
            "rows."
        )
    only_small = [] if b.feature_names is None else sorted(set(a.feature_names or ()) - set(b.feature_names))
    if large.rank <= small.rank or only_small:
        hint = f" Only small has {', '.join(only_small)}." if only_small else ""
        if large.rank < small.rank:
            hint += " Perhaps the models are in the wrong order: small comes first."
        raise ValueError(
            f"large must have the columns of small and more: found {small.rank} independent fixed effects in small "
            f"and {large.rank} in large.{hint}"
        )
    of_small, of_large = small.options, large.options
    if of_small.weight_type != of_large.weight_type or (of_small.fit_intercept and not of_large.fit_intercept):
        raise ValueError("The models differ in weight_type or fit_intercept: they are not nested.")
