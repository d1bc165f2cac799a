"""Shares of variance, and how rows are clustered: ICC, R squared, the design effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from .._inputs import check_choice
from ..likelihood._fit import Fit, Options, fit_moments, share
from ..moments._grouped_moments import GroupedMoments
from ._fits import random_intercept_fit_of


def without_columns(moments: GroupedMoments) -> GroupedMoments:
    """Return the moments of y alone."""
    return replace(
        moments,
        center=moments.center[-1:],
        deviations=moments.deviations[:, -1:],
        within=moments.within[-1:, -1:],
        feature_names=None,
        remainder=None,
    )


def icc(model: Any, *, kind: str = "adjusted", X: Any = None, groups: Any = None) -> float:
    """Return the intraclass correlation.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    kind : {"adjusted", "unadjusted"}, default="adjusted"
        "adjusted": tau2 / (tau2 + sigma2), of what the predictors leave, the attribute `icc_`. "unadjusted": with the
        variance of the fixed part in the denominator, of all that varies.
    X, groups : default=None
        The rows of `fit`, for "unadjusted" of a model with precisions: see `r2`.

    Returns
    -------
    icc : float
        In [0, 1].

    References
    ----------
    S. Nakagawa, P. C. D. Johnson and H. Schielzeth (2017), "The coefficient of determination R2 and intra-class correlation
    coefficient from generalized linear mixed-effects models revisited and expanded", Journal of the Royal Society
    Interface 14, 20170213.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import icc
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> round(icc(model), 3), round(icc(model, kind="unadjusted"), 3)
    (0.589, 0.424)
    """
    fit = random_intercept_fit_of(model)
    check_choice("kind", kind, ("adjusted", "unadjusted"))
    if kind == "adjusted":
        return fit.icc
    fixed = sum(_fixed_variances(fit, model, X, groups))
    return share(fit.group_variance, fit.group_variance + fit.residual_variance + fixed)


def r2(model: Any, X: Any = None, groups: Any = None) -> pd.Series:
    """Return the shares of variance that the parts of the model explain.

    The variance of y is taken apart into that of the fixed part within groups and between them, tau2 and sigma2.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    X, groups : default=None
        The rows of `fit`. They make a difference to models with precisions only: the variance of the fixed part is then that
        over the rows, each counted once, as in R's performance; without rows it is that of the moments, in which rows
        weigh.

    Returns
    -------
    shares : pandas.Series
        "marginal" (of the fixed part) and "conditional" (of the fixed part and the groups), Nakagawa and Schielzeth's R
        squared; the shares in the total of the four parts, "fixed_within", "fixed_between", "group" and "residual"; and, of
        the variance within groups and of that between them, the share of the fixed part, "within" and "between".

    References
    ----------
    S. Nakagawa and H. Schielzeth (2013), "A general and simple method for obtaining R2 from generalized linear mixed-effects
    models", Methods in Ecology and Evolution 4(2), 133-142, equations 29 and 30.

    J. D. Rights and S. K. Sterba (2019), "Quantifying explained variance in multilevel models: an integrative framework for
    defining R-squared measures", Psychological Methods 24(3), 309-338.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import r2
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> r2(RandomInterceptRegressor().fit(X, y, groups=subject)).round(3)
    marginal         0.280
    conditional      0.704
    fixed_within     0.280
    fixed_between    0.000
    group            0.424
    residual         0.296
    within           0.486
    between          0.000
    dtype: float64
    """
    fit = random_intercept_fit_of(model)
    tau2, sigma2 = fit.group_variance, fit.residual_variance
    within, between = _fixed_variances(fit, model, X, groups)
    total = within + between + tau2 + sigma2
    return pd.Series(
        {
            "marginal": share(within + between, total),
            "conditional": share(within + between + tau2, total),
            "fixed_within": share(within, total),
            "fixed_between": share(between, total),
            "group": share(tau2, total),
            "residual": share(sigma2, total),
            "within": share(within, within + sigma2),
            "between": share(between, between + tau2),
        }
    )


def _fixed_variances(fit: Fit, model: Any, X: Any, groups: Any) -> tuple[float, float]:
    """Return the variance of the fixed part over the rows, within and between groups; over n - 1, as R's var has it.

    From moments it is the weighted mean square times n / (n - 1), with n the number of observations, which does not depend
    on the unit of precision weights.
    """
    if X is not None:
        X, codes = model.locate(X, groups)
        if (codes < 0).any():
            raise ValueError("groups must hold the labels of fit: found rows of unknown groups, or without a label.")
        if len(codes) < 2:
            raise ValueError(
                f"X must hold the rows of fit: a variance takes two rows at least; found n_samples={len(codes)}."
            )
        fixed = np.zeros(len(codes)) if X is None else X @ fit.slopes
        if fit.options.weight_type == "precision":
            means = (np.bincount(codes, fixed - fixed.mean()) / np.maximum(np.bincount(codes), 1))[codes]
            return float(np.var(fixed - means)) * len(fixed) / (len(fixed) - 1), float(np.var(means, ddof=1))
    moments, slopes = fit.moments, fit.slopes
    within = float(slopes @ moments.within[:-1, :-1] @ slopes)
    fitted_means = moments.deviations[:, :-1] @ slopes
    weight = float(moments.counts.sum())
    between = float(moments.counts @ (fitted_means - moments.counts @ fitted_means / weight) ** 2)
    n = fit.n_observations
    divisor = weight * (n - 1.0) / n
    return within / divisor, between / divisor


def design_effect(sizes: np.ndarray, correlation: float) -> float:
    """Return Kish's design effect 1 + (m - 1) ICC with m = sum n_j^2 / n."""
    return 1.0 + (float(sizes @ sizes) / float(sizes.sum()) - 1.0) * correlation


def clustering_report(model: Any) -> pd.Series:
    """Return how the rows are clustered, and what that costs.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.

    Returns
    -------
    report : pandas.Series
        "n" (rows, or copies of rows with frequency weights), "n_groups", "size_min", "size_mean", "size_median", "size_max",
        "icc" (of y: the null model's), "design_effect" (1 + (m - 1) icc, m = sum n_j^2 / n, the factor by which groups
        inflate the variance of the mean of y), "effective_sample_size" (n over it). With precision weights, sizes count rows
        and the ICC is that of two rows of average precision, so that the unit of the weights makes no difference.

    References
    ----------
    L. Kish (1965), Survey Sampling, Wiley, section 5.4.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import clustering_report
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> report = clustering_report(RandomInterceptRegressor().fit(X, y, groups=subject))
    >>> report[["n", "n_groups", "icc", "design_effect", "effective_sample_size"]].round(2).tolist()
    [180.0, 18.0, 0.39, 4.55, 39.53]
    """
    fit = random_intercept_fit_of(model)
    sizes = fit.group_sizes(fit.moments)
    n = float(sizes.sum())
    null = fit_moments(without_columns(fit.moments), Options(weight_type=fit.options.weight_type))
    # The residual variance of a row of average precision.
    precise = fit.options.weight_type == "precision"
    residual = null.residual_variance * (n / float(fit.moments.counts.sum()) if precise else 1.0)
    correlation = share(null.group_variance, null.group_variance + residual)
    effect = design_effect(sizes, correlation)
    return pd.Series(
        {
            "n": n,
            "n_groups": float(len(sizes)),
            "size_min": float(sizes.min()),
            "size_mean": n / len(sizes),
            "size_median": float(np.median(sizes)),
            "size_max": float(sizes.max()),
            "icc": correlation,
            "design_effect": effect,
            "effective_sample_size": n / effect,
        }
    )
