"""Confidence intervals of all parameters, and the plausible values range of the groups' intercepts."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from .._inputs import check_choice, check_level, warn_caller
from .._typing import FittedModel
from ..likelihood._fit import Fit
from ..likelihood._optimum import minimise
from ..likelihood._random_effects_fit import RandomEffectsFit
from ._distributions import half_width
from ._fits import mixed_fit_of, random_intercept_fit_of
from ._fixed_effects import fixed_effects
from ._mixed_intervals import mixed_intervals
from ._model_comparison import UNBOUNDED
from ._profile import icc_of_ratio, profile_limits
from ._variance_ratio import FPivot

# At lower levels, an interval may leave out the estimate by design.
_USUAL_LEVEL = 0.8
IntervalMethod = Literal["pivot", "profile", "wald", "exact"]


def confidence_intervals(model: FittedModel, *, method: IntervalMethod | None = None, level: float = 0.95) -> pd.DataFrame:
    """Return confidence intervals of all parameters.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    method : {"pivot", "profile", "wald", "exact"} or None, default=None
        None is "pivot" for a random intercept. For a `MixedEffectsRegressor` it takes profiles of the likelihood by which
        the model was fitted, the restricted one for REML, for standard deviations and correlations, and t intervals with
        Satterthwaite's degrees of freedom for the fixed effects.

        "pivot": exact intervals of the ICC and of the residual standard deviation, for any group sizes and covariates; the
        interval of the generalised pivot for the group standard deviation; and t intervals with Satterthwaite's degrees of
        freedom for the fixed effects, which are those of `fixed_effects`. In simulations those of the variances keep their
        level from three groups on, and those of coefficients of group-level predictors from ten. "exact": the intervals that
        are exact in theory, NaN for the others.

        "profile": the values at which twice the full log-likelihood is below its maximum by no more than a quantile of
        chi-squared. These are lme4's intervals; as there, the full likelihood is taken for models fitted by REML too. They
        are for many groups: nominal 95% limits of the group standard deviation hold it in 78% of samples of five groups, and
        in 92% of samples of twenty. "wald": the estimates plus and minus normal quantiles of standard errors, for the fixed
        effects; with random slopes also for the logarithms of standard deviations and the z transforms of correlations.
    level : float, default=0.95
        Confidence level of the intervals.

    Returns
    -------
    intervals : pandas.DataFrame
        Indexed by "sd(group)", "sd(residual)", "icc", "(Intercept)" and the names of the features, with the columns "lower"
        and "upper"; NaN for parameters that the method has no interval for. With random slopes the first rows are
        "sd(Intercept)", "sd(days)", "cor(Intercept, days)" and so on.

    Raises
    ------
    ValueError
        If `method` is "pivot" or "exact" and coefficients other than the intercept vary. If `method` is "profile" and the
        full likelihood has no maximum, because the fixed effects leave no residual within groups. This is certain if there
        are no more rows than groups and predictors that vary within groups.

    Warns
    -----
    UserWarning
        If the estimate of the group standard deviation is outside its interval by "pivot".

    Notes
    -----
    An interval of the group standard deviation may begin at 0, and may be 0 alone, if the group means differ less than rows
    within groups would lead one to expect. Intervals by pivots take all that differs between groups, given the predictors,
    for group variance. If the coefficients within groups and between them differ, that is more than the estimate, which may
    then lie outside its interval; a warning says so. With no degrees of freedom within or between groups, the limits of the
    variances are NaN.

    References
    ----------
    D. A. Harville and A. P. Fenech (1985), "Confidence intervals for a variance ratio, or for heritability, in an
    unbalanced mixed linear model", Biometrics 41(1), 137-152, for the exact intervals.

    S. Weerahandi (1993), "Generalized confidence intervals", Journal of the American Statistical Association 88(423),
    899-905, for that of the group standard deviation.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import confidence_intervals
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> confidence_intervals(model).round(3)
                    lower    upper
    sd(group)      27.064   56.710
    sd(residual)   27.944   34.790
    icc             0.420    0.774
    (Intercept)   231.233  271.577
    days            8.879   12.055
    >>> confidence_intervals(model, method="profile").round(3)
                    lower    upper
    sd(group)      26.007   52.936
    sd(residual)   27.814   34.591
    icc             0.403    0.751
    (Intercept)   231.992  270.818
    days            8.887   12.048
    """
    check_level(level)
    if method is not None:
        check_choice("method", method, get_args(IntervalMethod))
    mixed = mixed_fit_of(model)
    if isinstance(mixed, RandomEffectsFit):
        return mixed_intervals(mixed, method, level)
    method, fit = method or "pivot", random_intercept_fit_of(model)
    names = ["sd(group)", "sd(residual)", "icc", *fit.names]
    limits = np.full((len(names), 2), np.nan)
    if method == "profile":
        limits = _profile_limits(fit, level)
    elif method == "wald":
        errors = np.sqrt(fit.covariance.diagonal())
        half = np.where(errors > 0, half_width(level, errors), np.nan)
        limits[3:] = np.column_stack([fit.coefficients - half, fit.coefficients + half])
    else:
        criterion = fit.criterion()
        pivot, unit = FPivot(criterion), criterion.coordinates.y_scale
        limits[1] = np.sqrt(pivot.residual_variance_limits(level)) * unit
        # Without a residual the groups have all the variance.
        limits[2] = 1.0 if fit.boundary == "residual" else icc_of_ratio(np.array(pivot.limits(level)))
        if method == "pivot":
            limits[0] = np.sqrt(_group_variance_limits(fit, pivot, level))
            limits[3:] = fixed_effects(model, level=level)[["ci_lower", "ci_upper"]].to_numpy()
    if method == "pivot" and level >= _USUAL_LEVEL:
        _warn_of_estimate_outside(fit, limits)
    return pd.DataFrame(limits, index=names, columns=["lower", "upper"])


def _warn_of_estimate_outside(fit: Fit, limits: np.ndarray) -> None:
    """Warn if the estimate of the group variance is outside its interval, which shows that the model does not hold."""
    lower, upper = limits[0]
    sd = float(np.sqrt(fit.group_variance))
    if fit.reml and (sd < lower or sd > upper):
        warn_caller(
            f"The estimate of sd(group), {sd:.4g}, is outside its interval, {lower:.4g} to {upper:.4g}. The interval takes "
            "all that differs between groups for group variance, and the coefficients within groups and between them may "
            "differ. Add the group means of predictors to the model (compare_with_ols tests them), or take "
            'method="profile".'
        )


def _group_variance_limits(fit: Fit, pivot: FPivot, level: float) -> np.ndarray:
    """Return the limits of tau2 by its generalised pivot, in units of y squared; at sigma2 = 0 those by chi-squared.

    Without residuals the effects of the groups are seen as they are, and their mean square is chi-squared.
    """
    from scipy import stats

    if fit.boundary != "residual":
        return np.array(pivot.group_variance_limits(level)) * fit.criterion().coordinates.y_scale ** 2
    tail = (1.0 - level) / 2.0
    free = fit.between_degrees_of_freedom
    squares = fit.group_variance * (free if fit.reml else fit.moments.n_groups)
    return np.asarray(squares / stats.chi2.ppf([1.0 - tail, tail], free))


def _profile_limits(fit: Fit, level: float) -> np.ndarray:
    """Return the profile limits of tau, sigma, the ICC and the fixed effects."""
    from scipy import stats

    if fit.residual_variance == 0:
        raise ValueError("The model leaves no residual (sigma2 = 0): the likelihood has no maximum to profile about.")
    criterion = fit.criterion(reml=False)
    if np.isneginf(minimise(criterion).solution.value):
        raise ValueError(UNBOUNDED.format("the model"))
    profile = profile_limits(criterion, float(stats.chi2.ppf(level, 1)))
    icc = icc_of_ratio(np.array(profile.ratio))
    return np.vstack([profile.group_sd, profile.residual_sd, icc, profile.coefficients])


def plausible_values_range(model: FittedModel, level: float = 0.95) -> pd.Series:
    """Return the range that holds this share of the groups' intercepts by the model, intercept +- z sqrt(tau2).

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model, or a pipeline or search that ends in one.
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
