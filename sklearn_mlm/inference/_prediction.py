"""Intervals of predictions."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice, check_level
from ..moments._labels import UNSEEN
from ..moments._rows import as_weights, check_containers
from ._degrees_of_freedom import Satterthwaite
from ._distributions import half_width
from ._fits import GroupedModel, random_intercept_fit_of

PredictionKind = Literal["mean", "observation"]


def predict_interval(
    model: GroupedModel,
    X: Any,
    groups: ArrayLike | None = None,
    *,
    kind: PredictionKind = "mean",
    level: float = 0.95,
    sample_weight: ArrayLike | None = None,
) -> pd.DataFrame:
    """Return predictions of rows in their groups, with intervals.

    The variance of a prediction is that of the fixed part and of the group's effect, which is tau2 for a new group; an
    observation adds sigma2. The interval is a t interval, whose Satterthwaite degrees of freedom allow for the estimation of
    tau2 and sigma2.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        Predictors, as in `predict`.
    groups : array-like of shape (n_samples,), "population" or None, default=None
        Group labels, as in `predict`. For a new group, and for "population", the interval is that of the mean of a group
        that the model knows nothing about.
    kind : {"mean", "observation"}, default="mean"
        Whether the interval is for the mean outcome of such rows in the group, or for a single new row.
    level : float, default=0.95
        Confidence level of the intervals.
    sample_weight : array-like of shape (n_samples,), default=None
        Precisions of the new rows, whose residual variances are sigma2 / `sample_weight`. Used if `kind` is "observation".

    Returns
    -------
    intervals : pandas.DataFrame
        With the columns "prediction", "lower" and "upper", in units of y, and the index of `X`, or else of `groups`, if it
        is a pandas object.

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
    check_choice("kind", kind, get_args(PredictionKind))
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
    # Near tau2 = 0 the approximation goes to 0, but an estimated variance has at least one degree of freedom.
    df = np.maximum(Satterthwaite.of(fit).of_variances(variance, gradient), 1.0)
    half = half_width(level, np.sqrt(variance), np.where(variance > 0, df, np.inf))
    return pd.DataFrame({"prediction": mean, "lower": mean - half, "upper": mean + half}, index=index)
