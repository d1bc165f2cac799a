"""Diagnostics of the predictors and of the residuals: variance inflation, and a test of equal residual variances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._typing import FittedModel
from ..likelihood._random_terms import INTERCEPT
from ..moments._labels import MISSING
from ..moments._rows import as_weights
from ._distributions import f_test
from ._fits import GroupedModel, mixed_fit_of, no_outcome
from ._rows import RowsOfModel

# In smaller groups, the deviations from the median say nothing of the variance: they are 0, or equal.
_LEAST_ROWS = 3


def variance_inflation(model: FittedModel) -> pd.Series:
    """Return the variance inflation factor of each predictor, from the covariance of the fixed effects.

    The factor is the ratio of the variance of a coefficient to the variance that it would have if its estimate were
    uncorrelated with those of the other predictors. It is 1 without correlation; above 5 or 10, the data hardly tell the
    predictors apart. The factors need no rows.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.

    Returns
    -------
    vif : pandas.Series
        The factors, indexed by the names of the predictors. NaN for a column that was dropped, which the others are computed
        without, and for a coefficient without variance.

    Notes
    -----
    With R the correlation matrix of the estimated coefficients without the intercept, the factors are the diagonal of R^-1,
    as in ``performance::check_collinearity`` for mixed models. They are computed from an orthogonal decomposition of a root
    of R, so that near-dependent predictors cost half the digits that the inverse of R would.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import variance_inflation
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X.assign(square=X["days"] ** 2), y, groups=subject)
    >>> variance_inflation(model).round(2)
    days      13.66
    square    13.66
    Name: vif, dtype: float64
    """
    fit = mixed_fit_of(model)
    names = np.array(fit.names, dtype=object)
    slopes = np.flatnonzero(names != INTERCEPT)
    root = fit.whiten(np.eye(len(names)))[slopes]
    length = np.linalg.norm(root, axis=1)
    used = (length > 0) & ~np.isin(slopes, fit.dropped)
    factors = np.full(len(slopes), np.nan)
    # With the rows of unit length U = T'Q', the correlations are U U' = T'T, and the diagonal of the inverse is made of the
    # squared lengths of the rows of T^-1.
    triangle = np.linalg.qr((root[used] / length[used, None]).T, mode="r")
    factors[used] = (np.linalg.inv(triangle) ** 2).sum(axis=1)
    return pd.Series(factors, index=pd.Index(names[slopes]), name="vif")


def residual_variance_test(
    model: GroupedModel,
    X: Any,
    y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    factor: str | None = None,
) -> pd.Series:
    """Test whether the residual variance is the same in all groups, as the model assumes.

    This is Levene's test in Brown and Forsythe's form: an analysis of variance of the absolute deviations of the residuals
    from the median of their group. It is robust to residuals that are not normal. In groups of a few rows the test is
    conservative.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        Predictors, as in `predict`.
    y : array-like of shape (n_samples,), default=None
        Outcome. A model with a formula takes it from `X`, a data frame, if it is None.
    groups : array-like of shape (n_samples,), default=None
        Group labels, as in `predict`.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights, which matter if those of the model are precisions: the residuals, less the effects of their groups, are
        multiplied by the square roots of the weights.
    factor : str or None, default=None
        The grouping factor whose levels are compared; needed if the model has several.

    Returns
    -------
    test : pandas.Series
        "F", "df1" (the number of groups less 1), "df2" (the number of rows less that of groups) and "p_value". Groups of
        fewer than three rows are left out, as are rows of groups that `fit` has not seen.

    Raises
    ------
    ValueError
        If fewer than two groups have three rows, or `predict` would raise it.

    References
    ----------
    M. B. Brown and A. B. Forsythe (1974), "Robust tests for the equality of variances", Journal of the American Statistical
    Association 69(346), 364-367.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import residual_variance_test
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> residual_variance_test(model, X, y, subject)
    F          2.80
    df1          17
    df2         162
    p_value  <0.001
    """
    rows = RowsOfModel(model, X, y, groups)
    if not rows.has_outcome:
        raise no_outcome(model)
    residuals, codes = rows.fit.residuals(rows.X, rows.codes, rows.y), rows.codes_of_factor(factor)
    if sample_weight is not None and rows.fit.options.weight_type == "precision":
        weights = as_weights(sample_weight, len(codes))
        residuals *= np.sqrt(weights)
        codes = np.where(weights > 0, codes, MISSING)
    codes = np.where(np.isnan(residuals), MISSING, codes)
    sizes = np.bincount(codes[codes >= 0], minlength=1)
    large = int(np.count_nonzero(sizes >= _LEAST_ROWS))
    if large < 2:
        raise ValueError(
            f"The spread of residuals is compared between groups of {_LEAST_ROWS} rows or more; found {large} such group(s) "
            "that the model knows. Pass rows of at least two."
        )
    used = (codes >= 0) & (sizes[codes] >= _LEAST_ROWS)
    return _brown_forsythe(residuals[used], codes[used])


def _brown_forsythe(values: np.ndarray, codes: np.ndarray) -> pd.Series:
    """Return the F test of equal absolute deviations from the medians of the groups.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        The values to compare.
    codes : ndarray of shape (n_samples,)
        The group of each value.

    Returns
    -------
    test : pandas.Series
        "F", "df1", "df2" and "p_value".
    """
    order = np.lexsort((values, codes))
    values, codes = values[order], codes[order]
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    sizes = np.diff(starts, append=len(codes))
    medians = (values[starts + (sizes - 1) // 2] + values[starts + sizes // 2]) / 2.0
    deviations = np.abs(values - np.repeat(medians, sizes))
    means = np.add.reduceat(deviations, starts) / sizes
    between = float(sizes @ (means - deviations.mean()) ** 2)
    deviations -= np.repeat(means, sizes)
    within = float(deviations @ deviations)
    df1, df2 = float(len(sizes) - 1), float(len(values) - len(sizes))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = float(np.float64(between / df1) / (within / df2))
    return f_test(statistic, df1, df2)
