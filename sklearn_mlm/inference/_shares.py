"""Shares of variance, and how rows are clustered: ICC, R squared, the design effect."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice
from .._typing import FittedModel, GroupedFit
from ..likelihood._factor_fit import FactorFit
from ..likelihood._fit import fit_moments
from ..likelihood._linalg import share
from ..likelihood._options import Options
from ..moments._labels import MISSING, without_missing
from ._fits import GroupedModel, design_of, factor_fit_of, grouped_fit_of, last_step, locate_all, outcome_of

IccKind = Literal["adjusted", "unadjusted"]


def icc(
    model: GroupedModel, *, kind: IccKind = "adjusted", X: Any = None, groups: Any = None
) -> float | np.ndarray | pd.Series:
    """Return the intraclass correlation; in a model with random slopes, of each row of `X`, or of the average row.

    With random slopes the variance that the groups give a row, z' Sigma z, depends on the values of its predictors. It is
    averaged over the rows of `fit`, so that the result does not depend on where x is 0. With several grouping factors, each
    has its share in the variance: the correlation of two rows that share a level of that factor alone.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    kind : {"adjusted", "unadjusted"}, default="adjusted"
        "adjusted" is tau2 / (tau2 + sigma2), the attribute `icc_`: the share of the groups in the variance that the
        predictors leave. "unadjusted" adds the variance of the fixed part to the denominator.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), default=None
        In a model with random slopes, the rows whose intraclass correlations are returned. In other models, predictors of
        the rows of `fit`, which matter only if `kind` is "unadjusted" and the weights are precisions: see `r2`.
    groups : array-like of shape (n_samples,), default=None
        Group labels of the same rows.

    Returns
    -------
    icc : float, or ndarray of shape (n_samples,) for the rows of `X` in a model with random slopes
        Between 0 and 1; NaN if all variances are 0. With several grouping factors and without `X`, a `pandas.Series` with
        the share of each factor and, at "all", their sum.

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
    fit = grouped_fit_of(model)
    check_choice("kind", kind, get_args(IccKind))
    if X is not None and fit.icc is None:
        last, rows = last_step(model, X)
        rows, codes = locate_all(last, rows, "population" if groups is None else groups)
        random = fit.random_variance(rows, len(codes))
        other = fit.residual_variance + (sum(_variances(fit)[:2]) if kind == "unadjusted" else 0.0)
        with np.errstate(invalid="ignore"):
            return np.asarray(random / (random + other))
    return icc_of(fit, kind, model, X, groups)


def icc_of(
    fit: GroupedFit, kind: IccKind = "adjusted", model: Any = None, X: Any = None, groups: Any = None
) -> float | pd.Series:
    """Return what `icc` does for the average row of a fit record; the model finds the groups of `X`."""
    within, between, *random_parts = _variances(fit, model, X, groups)
    tau2, fixed = sum(random_parts), within + between if kind == "unadjusted" else 0.0
    total = tau2 + fit.residual_variance + fixed
    if isinstance(fit, FactorFit):
        parts = fit.random_variances_of_factors | {"all": tau2}
        return pd.Series({name: share(part, total) for name, part in parts.items()}, name="icc")
    return share(tau2, total)


def r2(model: GroupedModel, X: Any = None, groups: ArrayLike | None = None) -> pd.Series:
    """Return the shares of variance that the parts of the model explain.

    The variance of y has four parts: the variances of the fixed part within and between groups, that of the random effects,
    and sigma2.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), default=None
        Predictors of the rows of `fit`. They matter only if the weights are precisions. The variance of the fixed part then
        counts each row once, as R's performance does; without `X` it is computed from the moments, which weight the rows.
    groups : array-like of shape (n_samples,), default=None
        Group labels of the same rows.

    Returns
    -------
    shares : pandas.Series
        Nakagawa and Schielzeth's R squared of the fixed part, "marginal", and of the fixed part and the groups,
        "conditional"; the share of each of the four parts in the total, "fixed_within", "fixed_between", "group" and
        "residual"; and the share of the fixed part in the variance within groups, "within", and between groups, "between".
        With random slopes, "group" is the share of z' Sigma z, averaged over the rows. With several grouping factors, each
        has its share under its name, the fixed part has one share, "fixed", and there are no shares within and between.

    References
    ----------
    S. Nakagawa and H. Schielzeth (2013), "A general and simple method for obtaining R2 from generalized linear mixed-effects
    models", Methods in Ecology and Evolution 4(2), 133-142, equations 29 and 30.

    P. C. D. Johnson (2014), "Extension of Nakagawa & Schielzeth's R2GLMM to random slopes models", Methods in Ecology and
    Evolution 5(9), 944-946.

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
    return pd.Series(shares_of(grouped_fit_of(model), model, X, groups))


def shares_of(
    fit: GroupedFit, model: GroupedModel | None = None, X: Any = None, groups: ArrayLike | None = None
) -> dict[str, float]:
    """Return what `r2` does, as a dictionary; the model finds the groups of `X`."""
    sigma2 = fit.residual_variance
    within, between, random_within, random_between = _variances(fit, model, X, groups)
    tau2 = random_within + random_between
    total = within + between + tau2 + sigma2
    if isinstance(fit, FactorFit):
        return {
            "marginal": share(within + between, total),
            "conditional": share(within + between + tau2, total),
            "fixed": share(within + between, total),
            **{name: share(part, total) for name, part in fit.random_variances_of_factors.items()},
            "residual": share(sigma2, total),
        }
    return {
        "marginal": share(within + between, total),
        "conditional": share(within + between + tau2, total),
        "fixed_within": share(within, total),
        "fixed_between": share(between, total),
        "group": share(tau2, total),
        "residual": share(sigma2, total),
        "within": share(within, within + random_within + sigma2),
        "between": share(between, between + random_between),
    }


def _variances(fit: GroupedFit, model: Any = None, X: Any = None, groups: Any = None) -> tuple[float, float, float, float]:
    """Return the variance of the fixed part over the rows, within and between groups, and that of the random part.

    The variance of the fixed part is divided by n - 1, as in R's var; that of the random part is its mean over the rows.
    From moments, it is the weighted mean square times n / (n - 1), with n the number of observations. This does not depend
    on the unit of precision weights.
    """
    if X is not None:
        model, X = last_step(model, X)
        y = outcome_of(model, X)
        X, codes = model.locate(X, groups)
        if design_of(model) is not None:
            # Rows with missing values were not in the fit.
            complete = np.flatnonzero(without_missing(codes) & (True if y is None else ~np.isnan(y)))
            X, codes = None if X is None else X[complete], codes[complete]
        if (codes < 0).any():
            raise ValueError("groups must hold the labels of fit; found rows with unknown or missing labels.")
        if len(codes) < 2:
            raise ValueError(
                f"X must hold the rows of fit: a variance takes two rows at least; found n_samples={len(codes)}."
            )
        if fit.options.weight_type == "precision":
            fixed = fit.predict(X, np.full(len(codes), MISSING)) - fit.intercept
            groups_of_rows = codes if codes.ndim == 1 else codes[:, 0]
            counts = np.maximum(np.bincount(groups_of_rows), 1)
            means = (np.bincount(groups_of_rows, fixed - fixed.mean()) / counts)[groups_of_rows]
            random = fit.random_variance(X, len(codes))
            of_fixed = float(np.var(fixed - means)) * len(fixed) / (len(fixed) - 1), float(np.var(means, ddof=1))
            return (*of_fixed, 0.0, float(random.mean()))
    moments, slopes = fit.predictors, fit.slopes
    within = float(slopes @ moments.within[:-1, :-1] @ slopes)
    fitted_means = moments.deviations[:, :-1] @ slopes
    weight = float(moments.counts.sum())
    between = float(moments.counts @ (fitted_means - moments.counts @ fitted_means / weight) ** 2)
    n = fit.n_observations
    divisor = weight * (n - 1.0) / n
    return (within / divisor, between / divisor, *fit.random_variances)


def design_effect(sizes: np.ndarray, correlation: float) -> float:
    """Return Kish's design effect 1 + (m - 1) ICC with m = sum n_j^2 / n."""
    return 1.0 + (float(sizes @ sizes) / float(sizes.sum()) - 1.0) * correlation


def clustering_report(model: FittedModel, *, factor: str | None = None) -> pd.Series:
    """Return how the rows are clustered, and how many independent rows they are worth.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    factor : str or None, default=None
        The grouping factor; needed if the model has several.

    Returns
    -------
    report : pandas.Series
        "n" (rows, or copies of rows if weights are frequencies), "n_groups", "size_min", "size_mean", "size_median",
        "size_max", "icc" (of the null model), "design_effect" (the factor 1 + (m - 1) icc, m = sum n_j^2 / n, by which
        groups inflate the variance of the mean of y), and "effective_sample_size" (n / design_effect). If weights are
        precisions, sizes count rows and the ICC is that of rows of average precision, so that the unit of the weights makes
        no difference.

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
    return clustering_of(factor_fit_of(model, factor))


def clustering_of(fit: GroupedFit) -> pd.Series:
    """Return what `clustering_report` does for a fit record."""
    sizes = fit.group_sizes(fit.moments)
    n = float(sizes.sum())
    null = fit_moments(fit.moments.of_columns(()), Options(weight_type=fit.options.weight_type))
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
