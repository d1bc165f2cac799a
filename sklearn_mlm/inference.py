"""Inference for fitted models: tables of fixed effects, tests, intervals, shares of variance. Arithmetic on the moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ._degrees_of_freedom import Satterthwaite
from ._fit import Fit, LeastSquaresFit
from ._fits import fit_of, mixed_fit_of, random_intercept_fit_of
from ._fixed import check_ddf, coefficient_table, joint_test, t_statistics, variances_and_df
from ._groups import UNSEEN
from ._inputs import check_choice, check_level, is_whole
from ._optimum import minimise
from ._profile import icc_of_ratio, profile_limits
from ._rows import as_weights, check_containers
from ._shares import clustering_report, icc, r2, random_effects_table
from ._typing import DegreesOfFreedom
from ._variance_tests import FPivot, simulate_null

__all__ = [
    "clustering_report",
    "confidence_intervals",
    "contrast_test",
    "fixed_effects",
    "icc",
    "likelihood_ratio_test",
    "plausible_values_range",
    "predict_interval",
    "r2",
    "random_effects_table",
    "random_intercept_test",
]


_NO_VARIANCE = (
    "A contrast of L, or a combination of its rows, has no variance: it weighs columns that were dropped, or nothing is "
    "left to chance."
)
_UNBOUNDED = (
    "The likelihood of {} has no maximum: the fixed effects leave no residual (sigma2 = 0) within groups, and the "
    "likelihood grows without bound as the residual variance goes to 0. Fit fewer columns or more rows."
)


# ---- fixed effects


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


# ---- intervals


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


def predict_interval(
    model: Any,
    X: Any,
    groups: Any = None,
    *,
    kind: str = "mean",
    level: float = 0.95,
    sample_weight: Any = None,
) -> pd.DataFrame:
    """Return predictions of rows in their groups, with intervals.

    The variance of a prediction is that of the fixed part and of the group's effect (of an unknown group's, all of tau2),
    and for an observation sigma2 as well. The interval is that of the t distribution with Satterthwaite's degrees of freedom
    of that variance, which allow for the estimation of tau2 and sigma2.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        Predictors, as in `predict`.
    groups : array-like of shape (n_samples,), "population" or None, default=None
        Group labels, as in `predict`. The interval of a new group, or of "population", is for the mean of a group of which
        nothing is known.
    kind : {"mean", "observation"}, default="mean"
        Whether the interval is for the mean of the row's group, or for a new row.
    level : float, default=0.95
    sample_weight : array-like of shape (n_samples,), default=None
        Precisions of new rows: their residual variance is sigma2 over it.

    Returns
    -------
    intervals : pandas.DataFrame
        With the columns "prediction", "lower" and "upper", in units of y, and the index of `X` or `groups`, if one has an
        index.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import predict_interval
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> predict_interval(model, [[10.0], [10.0]], groups=[309, 999], kind="observation").round(1)
       prediction  lower  upper
    0       278.2  213.6  342.8
    1       356.1  256.3  455.9
    """
    fit = random_intercept_fit_of(model)
    check_level(level)
    check_choice("kind", kind, ("mean", "observation"))
    check_containers(X=X, groups=groups, sample_weight=sample_weight)
    index = next((rows.index for rows in (X, groups) if isinstance(rows, pd.DataFrame | pd.Series)), None)
    X, codes = model.locate(X, groups)
    mean = fit.predict(X, codes)
    if model.new_groups == "nan":
        mean[codes == UNSEEN] = np.nan
    variance, gradient = fit.prediction_variance(X, codes, gradient=True)
    if kind == "observation":
        weights = np.ones(len(codes)) if sample_weight is None else as_weights(sample_weight, len(codes))
        if not weights.all():
            raise ValueError("sample_weight must be positive: a row of weight 0 is no row to predict.")
        noise = fit.residual_variance / weights
        variance = variance + noise
        if fit.boundary != "residual":
            gradient[:, -1] += noise
    # Near tau2 = 0 the approximation goes to 0: an estimated variance rests on one difference at least.
    df = np.maximum(Satterthwaite.of(fit).of_variances(variance, gradient), 1.0)
    half = stats.t.ppf(0.5 + level / 2.0, np.where(variance > 0, df, np.inf)) * np.sqrt(variance)
    return pd.DataFrame({"prediction": mean, "lower": mean - half, "upper": mean + half}, index=index)


# ---- tests


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


# ---- what they are made of


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
