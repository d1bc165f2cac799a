"""Intervals of predictions."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice, check_level
from ..moments._labels import MISSING, any_unseen
from ..moments._rows import as_weights, check_containers
from ._degrees_of_freedom import Satterthwaite
from ._distributions import half_width
from ._fits import GroupedModel, design_of, grouped_fit_of, last_step, locate_all, offset_of

PredictionKind = Literal["observation", "group_mean", "population_mean"]

_INSTEAD_OF = {
    "mean": "'group_mean', the mean of each row's group, or 'population_mean', the fixed part",
    "prediction": "'observation', a single new row",
    "confidence": "'population_mean', the fixed part, or 'group_mean', the mean of each row's group",
    "fixed": "'population_mean', the fixed part",
}


def predict_interval(
    model: GroupedModel,
    X: Any,
    groups: ArrayLike | None = None,
    *,
    kind: PredictionKind = "observation",
    level: float = 0.95,
    sample_weight: ArrayLike | None = None,
) -> pd.DataFrame:
    """Return predictions with intervals: of new rows, of the means of their groups, or of the population mean.

    The three kinds answer three questions. Where will the outcome of one more row lie ("observation")? What is the mean
    outcome of such rows in the group of the row ("group_mean")? What is the mean outcome of such rows over all groups, which
    is the fixed part, the line of the model ("population_mean")? The intervals are t intervals, whose Satterthwaite degrees
    of freedom allow for the estimation of tau2 and sigma2. In simulations intervals of new rows keep their level from five
    groups on, and those of means from ten (of group means, if the intraclass correlation is small, from twenty).

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        Predictors, as in `predict`.
    groups : array-like of shape (n_samples,), "population" or None, default=None
        Group labels, as in `predict`. The kind "population_mean" does not need them, unless `X` is None and their number is
        that of the rows.
    kind : {"observation", "group_mean", "population_mean"}, default="observation"
        What the intervals are for:

        - "observation": a single new row. The variance is that of "group_mean" plus sigma2.
        - "group_mean": the mean of rows like this one in its group. In a group that `fit` has seen, the variance is that of
          the fixed part and of the group's estimated effect together. In a new group, and for "population", it includes all
          of tau2, because the group may be any.
        - "population_mean": the fixed part, x' beta. The variance is that of the line, and the prediction that of
          ``predict(X, groups="population")``.
    level : float, default=0.95
        Confidence level of the intervals.
    sample_weight : array-like of shape (n_samples,), default=None
        Precisions of the new rows, whose residual variances are sigma2 / `sample_weight`. Used if `kind` is "observation".

    Returns
    -------
    intervals : pandas.DataFrame
        With the columns "prediction", "lower" and "upper", in units of y, and the index of `X`, or else of `groups`, if it
        is a pandas object. NaN for rows with missing values if the model has a formula.

    Raises
    ------
    ValueError
        If `kind` or `level` is unknown, a weight is 0, or `predict` would raise it.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import predict_interval
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> predict_interval(model, [[10.0], [10.0]], groups=[309, 999]).round(1)
       prediction  lower  upper
    0       278.2  213.6  342.8
    1       356.1  256.3  455.9
    >>> predict_interval(model, [[10.0]], kind="population_mean").round(1)
       prediction  lower  upper
    0       356.1  335.4  376.8
    """
    index = next((rows.index for rows in (X, groups) if isinstance(rows, pd.DataFrame | pd.Series)), None)
    model, X = last_step(model, X)
    fit = grouped_fit_of(model)
    check_level(level)
    if isinstance(kind, str) and kind in _INSTEAD_OF:
        raise ValueError(f"kind={kind!r} does not say what the interval is for. Pass {_INSTEAD_OF[kind]}.")
    check_choice("kind", kind, get_args(PredictionKind))
    check_containers(X=X, groups=groups, sample_weight=sample_weight)
    offset = offset_of(model, X)
    # Without X, the groups tell how many rows there are.
    alone = X is None and groups is not None
    population = kind == "population_mean"
    X, codes = locate_all(model, X, groups if alone else "population") if population else model.locate(X, groups)
    n_samples = len(codes)
    rows = np.arange(n_samples)
    if X is not None and design_of(model) is not None:
        # Rows with missing values, which a formula leaves out, are predicted as NaN.
        rows = np.flatnonzero(~np.isnan(np.asarray(X.sum(axis=1)).ravel()))
        X, codes = X[rows], codes[rows]
    if population:
        codes = np.full(len(codes), MISSING)
        mean, (variance, gradient) = fit.predict(X, codes), fit.fixed_part_variance(X, len(codes))
    else:
        mean, (variance, gradient) = fit.predict(X, codes), fit.prediction_variance(X, codes, gradient=True)
        if model.new_groups == "nan":
            mean[any_unseen(codes)] = np.nan
    if kind == "observation":
        weights = np.ones(n_samples) if sample_weight is None else as_weights(sample_weight, n_samples)
        if not weights.all():
            raise ValueError("sample_weight must be positive: a row of weight 0 is no row to predict.")
        noise = fit.residual_variance / weights[rows]
        variance = variance + noise
        if fit.boundary != "residual":
            gradient[:, -1] += noise
    # Near tau2 = 0 the approximation goes to 0, but an estimated variance has at least one degree of freedom.
    df = np.maximum(Satterthwaite.of(fit).of_variances(variance, gradient), 1.0)
    half = half_width(level, np.sqrt(variance), np.where(variance > 0, df, np.inf))
    mean = mean + np.broadcast_to(offset, n_samples)[rows]
    intervals = pd.DataFrame(np.nan, index=range(n_samples), columns=["prediction", "lower", "upper"])
    intervals.iloc[rows] = np.column_stack([mean, mean - half, mean + half])
    return intervals if index is None else intervals.set_axis(index)
