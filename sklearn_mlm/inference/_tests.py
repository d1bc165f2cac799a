"""Tests of the group variance, and of random coefficients."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from .._inputs import check_choice, is_whole
from .._tables import Statistics
from .._typing import FittedModel, RandomState
from ..likelihood._factor_fit import FactorFit
from ..likelihood._optimum import minimise
from ..likelihood._random_effects_fit import RandomEffectsFit
from ._fits import mixed_fit_of, random_intercept_fit_of
from ._model_comparison import mixture_p_value
from ._variance_ratio import FPivot, simulate_null

TestMethod = Literal["exact", "mixture", "naive", "f"]


def random_intercept_test(
    model: FittedModel,
    *,
    method: TestMethod = "exact",
    n_simulations: int = 10_000,
    random_state: RandomState = None,
    verbose: int = 0,
) -> pd.Series:
    """Test that there is no group variance, tau2 = 0, given the predictors.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model, or a pipeline or search that ends in one. The test uses the restricted likelihood even if the model
        was fitted by maximum likelihood.
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
    verbose : int, default=0
        1 shows the progress of the draws.

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

    fit = random_intercept_fit_of(model, instead=" random_effects_test tests the random coefficients of other models.")
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
        n_reached = np.count_nonzero(simulate_null(criterion, int(n_simulations), random_state, verbose) >= statistic)
        p_value = (1.0 + n_reached) / (1.0 + n_simulations)
    else:
        p_value = float(stats.chi2.sf(statistic, 1)) * (0.5 if method == "mixture" and statistic > 0 else 1.0)
    return Statistics({"statistic": statistic, "p_value": p_value})


def random_effects_test(model: FittedModel) -> pd.DataFrame:
    """Test of each random coefficient of a model that its variance, and with it its covariances, are 0.

    The model is fitted again without each of the coefficients in turn, by its own likelihood, restricted or full: the fixed
    effects stay the same, so that restricted likelihoods can be compared. An intercept is tested too, beside slopes; that is
    rarely a question of interest. A model of a single coefficient is compared with least squares.

    Parameters
    ----------
    model : MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by the random coefficient that is left out, with its factor if there are several, and with the columns
        "criterion" (of the model without it), "chi2" (the likelihood-ratio statistic), "df" (the number of variances and
        covariances that are left out), "p_value" (from the mixture of chi-squared distributions with df - 1 and df degrees
        of freedom, which allows for the boundary), and "p_naive" (from chi-squared with df degrees of freedom, as R's ranova
        has it, which is too large). A coefficient that the model has left out has no test.

    Raises
    ------
    TypeError
        If `model` is not a `MixedEffectsRegressor`.
    ValueError
        If the model leaves no residual.

    References
    ----------
    D. O. Stram and J. W. Lee (1994), "Variance components testing in the longitudinal mixed effects model", Biometrics
    50(4), 1171-1177.

    Examples
    --------
    >>> from sklearn_mlm import MixedEffectsRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import random_effects_test
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject)
    >>> random_effects_test(model)[["criterion", "chi2", "df"]].round(2)
                 criterion   chi2  df
    (Intercept)    1766.53  22.90   2
    days           1786.47  42.84   2
    """
    from scipy import stats

    fit = mixed_fit_of(model)
    if not isinstance(fit, RandomEffectsFit):
        raise TypeError(
            "model must be a MixedEffectsRegressor, or another model with random slopes: random_intercept_test tests a "
            "random intercept alone."
        )
    if fit.residual_variance == 0:
        raise ValueError("The model leaves no residual (sigma2 = 0): the likelihood has no maximum to compare with.")
    rows = {}
    for at, term in enumerate(fit.options.terms):
        size = sum((at, name) not in fit.coefficients_left_out for name in term.coefficients)
        for name in term.coefficients:
            key = f"{term.factor} {name}" if isinstance(fit, FactorFit) else name
            if (at, name) in fit.coefficients_left_out:
                rows[key] = {"criterion": fit.value, "chi2": np.nan, "df": 0, "p_value": np.nan, "p_naive": np.nan}
                continue
            value = fit.value_without(at, name)
            chi2 = max(value - fit.value, 0.0)
            naive = float(stats.chi2.sf(chi2, size))
            rows[key] = {
                "criterion": value,
                "chi2": chi2,
                "df": size,
                "p_value": mixture_p_value(chi2, size),
                "p_naive": naive,
            }
    return pd.DataFrame.from_dict(rows, orient="index")
