"""What a fitted model says of rows: residuals, fitted values beside the data, and which rows are of known groups."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice, column_names
from ..likelihood._factor_fit import FactorFit, FactorView
from ..moments._labels import MISSING, all_known, any_unseen, as_labels, without_missing
from ..moments._rows import as_weights, check_containers
from ._fits import (
    GroupedModel,
    design_of,
    factor_fit_of,
    grouped_fit_of,
    last_step,
    locate_all,
    no_outcome,
    offset_of,
    outcome_or_none,
)

ResidualKind = Literal["conditional", "population"]


def residuals(
    model: GroupedModel,
    X: Any,
    y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    *,
    kind: ResidualKind = "conditional",
    scaled: bool = False,
    sample_weight: ArrayLike | None = None,
) -> pd.Series:
    """Return the residuals of rows: the outcome less what the model predicts.

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
    kind : {"conditional", "population"}, default="conditional"
        "conditional": y less the prediction for the row's group, R's ``resid(m)``. "population": y less the fixed part,
        which still holds the effects of the groups.
    scaled : bool, default=False
        Whether to divide by the standard deviation that the model gives them: sigma, or sqrt(tau2 + sigma2) for the
        population.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights, which matter if `scaled` is True and the weights of the model are precisions: the residual variance of a
        row is sigma2 / `sample_weight`.

    Returns
    -------
    residuals : pandas.Series
        In units of y, or in standard deviations, with the index of `X`, or else of `y` or `groups`, if it is a pandas
        object. NaN for new groups if the model has ``new_groups="nan"``, and for rows with missing values if it has a
        formula.

    Raises
    ------
    ValueError
        If `kind` is unknown, `scaled` is True and the standard deviation is 0, or `predict` would raise it.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import residuals
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> residuals(model, X, y, subject, scaled=True).describe()[["min", "50%", "max"]].round(4).tolist()
    [-3.2257, 0.0109, 4.2506]
    """
    check_choice("kind", kind, get_args(ResidualKind))
    of = "population" if kind == "population" and X is not None else groups
    rows = RowsOfModel(model, X, y, of)
    if not rows.has_outcome:
        raise no_outcome(model)
    return rows.residuals(kind, scaled, sample_weight)


def augment(model: GroupedModel, X: Any, y: ArrayLike | None = None, groups: Any = None) -> pd.DataFrame:
    """Return the rows with what the model says of each, one column for each quantity.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        Predictors, as in `predict`.
    y : array-like of shape (n_samples,), default=None
        Outcome. Without it, for new rows, the table has no residuals. A model with a formula takes it from `X`.
    groups : array-like of shape (n_samples,), default=None
        Group labels, as in `predict`.

    Returns
    -------
    table : pandas.DataFrame
        The columns of `X` if it is a data frame, the outcome and the group label (with a point before the name if `X` has
        a column of that name), and ".fitted" (the prediction for the row's group), ".fixed" (the fixed part), ".resid" (y
        less ".fitted") and ".scaled_resid" (divided by sigma; NaN if sigma is 0), in units of y but for the last; and
        ".known", whether `fit` has seen the group. NaN for rows with missing values if the model has a formula.

    Raises
    ------
    ValueError
        If `predict` would raise it.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import augment
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> augment(model, X, y, subject).head(2).round(1)
       days  reaction  subject  .fitted  .fixed  .resid  .scaled_resid  .known
    0     0     249.6      308    292.2   251.4   -42.6           -1.4    True
    1     1     258.7      308    302.7   261.9   -44.0           -1.4    True
    """
    rows = RowsOfModel(model, X, y, groups)
    columns = column_names(X)
    table = pd.DataFrame(index=rows.index)
    if columns is not None:
        for name in columns:
            column = X[name]
            table[name] = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    fit = rows.fit
    # A predictor may have the name of the outcome, or of the groups.
    if y is not None:
        table[fit.outcome_name if fit.outcome_name not in table else f".{fit.outcome_name}"] = rows.y + rows.offset
    if groups is not None and not isinstance(groups, str):
        names = fit.known.cells.names if isinstance(fit, FactorFit) else (fit.group_name,)
        for name in names:
            labels = groups if column_names(groups) is None else groups[name]
            table[name if name not in table else f".{name}"] = as_labels(labels)
    sigma = np.sqrt(fit.residual_variance)
    table[".fitted"] = np.where(rows.is_nan, np.nan, fit.predict(rows.X, rows.codes) + rows.offset)
    table[".fixed"] = fit.predict(rows.X, np.full(len(rows.y), MISSING)) + rows.offset
    if rows.has_outcome:
        resid = rows.residuals("conditional", False, None).to_numpy()
        table[".resid"] = resid
        table[".scaled_resid"] = resid / sigma if sigma > 0 else np.nan
    table[".known"] = all_known(rows.codes)
    return table


def known_groups(model: GroupedModel, X: Any, groups: ArrayLike | None = None) -> pd.Series:
    """Return how many rows of a prediction are of groups that the model knows, of new groups, and without a label.

    A model with a formula counts rows with missing predictors among those without a label: they are predicted as NaN.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        Predictors, as in `predict`.
    groups : array-like of shape (n_samples,), default=None
        Group labels, as in `predict`.

    Returns
    -------
    counts : pandas.Series
        "known", "new" and "missing": numbers of rows. `predict` uses the effect of the group for the known ones only. With
        several grouping factors, a row is known if all of its levels are, and its known levels have their effects anyway.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import known_groups
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> known_groups(model, X[:4], groups=[308, 308, 999, None])
    known      2
    new        1
    missing    1
    Name: rows, dtype: int64
    """
    grouped_fit_of(model)
    last, X = last_step(model, X)
    codes = locate_all(last, X, groups)[1]
    missing = ~without_missing(codes)
    counts = {"known": all_known(codes), "new": any_unseen(codes) & ~missing, "missing": missing}
    return pd.Series({name: int(np.count_nonzero(of)) for name, of in counts.items()}, name="rows")


class RowsOfModel:
    """Checked rows, with the model that has been fitted."""

    def __init__(self, model: GroupedModel, X: Any, y: ArrayLike | None, groups: ArrayLike | None):
        self.fit, self._model = grouped_fit_of(model), model
        check_containers(X=X, y=y, groups=groups)
        candidates = (rows.index for rows in (X, y, groups) if isinstance(rows, pd.DataFrame | pd.Series))
        last, X = last_step(model, X)
        self.X, self.codes = last.locate(X, groups)
        y = outcome_or_none(last, X, y)
        # New rows have no outcome yet.
        self.has_outcome = y is not None
        self.y = np.full(len(self.codes), np.nan) if y is None else y
        if len(self.y) != len(self.codes):
            raise ValueError(f"y must hold one value per row of X; found {len(self.y)} for {len(self.codes)} rows.")
        # The fit is to the outcome less the offset.
        self.offset = offset_of(last, X)
        self.y = self.y - self.offset
        self.index = next(candidates, pd.RangeIndex(len(self.y)))
        self.is_nan = any_unseen(self.codes) & (last.new_groups == "nan")
        self._of_formula = design_of(last) is not None

    def codes_of_factor(self, factor: str | None) -> np.ndarray:
        """Return the group of each row or, in a model of several factors, its level of one of them."""
        of_factor = factor_fit_of(self._model, factor)
        return np.asarray(self.codes[:, of_factor.position] if isinstance(of_factor, FactorView) else self.codes)

    def positions(self, weights: np.ndarray | None) -> np.ndarray:
        """Return the positions of rows of positive weight and, with a formula, without missing values."""
        used = np.ones(len(self.codes), dtype=bool) if weights is None else weights > 0
        if self._of_formula:
            used = used & without_missing(self.codes) & ~np.isnan(self.y)
        return np.flatnonzero(used)

    def residuals(self, kind: ResidualKind, scaled: bool, sample_weight: ArrayLike | None) -> pd.Series:
        """Return the residuals as the function of the same name does."""
        values = self.fit.residuals(self.X, self.codes, self.y, conditional=kind == "conditional")
        if kind == "conditional":
            values[self.is_nan] = np.nan
        if scaled:
            variance = np.full(len(values), self.fit.residual_variance)
            if sample_weight is not None:
                weights = as_weights(sample_weight, len(values))
                if self.fit.options.weight_type == "precision":
                    # A row of no precision has no scale.
                    variance = np.divide(variance, weights, out=np.full(len(values), np.nan), where=weights > 0)
            if kind == "population":
                variance = variance + self.fit.random_variance(self.X, len(values))
            if (variance <= 0).any():
                raise ValueError("The model leaves no residual (sigma2 = 0), by which residuals could be divided.")
            values = values / np.sqrt(variance)
        return pd.Series(values, index=self.index, name="residual")
