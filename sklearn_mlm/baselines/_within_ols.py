"""`WithinOLS`: least squares with an intercept for every group."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from .._inputs import check_choice, warn_caller
from .._typing import NewGroups
from ..likelihood._least_squares_fit import LeastSquaresFit
from ..likelihood._second_reading import read_about_known
from ..models._base import NEW_GROUPS, GroupedRegressor
from ..models._groups_not_passed import PASS_GROUPS, warn_of_missing_groups
from ..moments._grouped_moments import moments_of
from ..moments._labels import has_groups
from ._cluster_robust_ols import NO_DF
from ._within import known_part, within_estimate

_NO_GROUPS_WITHIN = f"fit was given no groups, so the within estimator is least squares with an intercept. {PASS_GROUPS}"


class WithinOLS(GroupedRegressor):
    """The within estimator: least squares with an intercept for every group (econometrics' fixed effects).

    The estimator compares only rows of the same group, so that no difference between groups, observed or not, can bias a
    coefficient. It cannot estimate coefficients of columns that are constant in every group, or the intercepts of new
    groups. The estimates are those of least squares with a dummy for each group, computed without the dummies.

    Parameters
    ----------
    group_feature : str, int or None, default=None
        Name or position of the column of X that holds the group labels. The column is not a predictor.
    new_groups : {"population", "error", "nan"}, default="population"
        How `predict` treats groups that `fit` has not seen: use the average intercept, raise a ValueError, or return NaN.

    Attributes
    ----------
    coef_ : ndarray of shape (`n_features_in_`,)
        Coefficients of the columns of X, in the order of `feature_names_in_`; 0 for the group column, and for columns that
        are constant in every group, or within groups depend on those before them.
    intercept_ : float
        Average of the groups' intercepts, weighted by the weight of their rows; in units of y.
    group_effects_ : pandas.Series of shape (n_groups,)
        Each group's intercept less the average, by group label, without shrinkage.
    cov_fixed_ : ndarray of shape (n_predictors, n_predictors)
        Covariance of the coefficients of the predictors; 0 for columns whose coefficient is not estimated. The square roots
        of its diagonal are the standard errors.
    df_ : ndarray of shape (n_predictors,)
        Degrees of freedom n - J - k; NaN for columns whose coefficient is not estimated.
    residual_variance_ : float
        Residual variance, in units of y squared.
    groups_ : pandas.Index of shape (n_groups,)
        The distinct group labels, sorted if they can be.
    n_groups_ : int
        Number of groups J; 0 if the model was fitted without groups.
    n_features_in_ : int
        Number of columns of X in `fit`, the group column included; 0 for ``X=None``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X, if all of them are strings.

    See Also
    --------
    RandomInterceptRegressor : Shrinks the groups' intercepts, and uses differences between groups too.
    compare_with_ols : Compares both models and least squares.

    Notes
    -----
    Row weights weight the rows in least squares; n counts rows.

    References
    ----------
    Y. Mundlak (1978), "On the pooling of time series and cross section data", Econometrica 46(1), 69-85.

    Examples
    --------
    >>> from sklearn_mlm import WithinOLS
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> model = WithinOLS().fit(X, y, groups=subject)
    >>> model.coef_.round(4)
    array([10.4673])
    >>> model.predict([[0.0]], groups=[308]).round(1)
    array([295.])
    """

    def __init__(self, *, group_feature: str | int | None = None, new_groups: NewGroups = "population"):
        self.group_feature = group_feature
        self.new_groups = new_groups

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Estimate the coefficients and the groups' intercepts.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors; None fits group means.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group label of each row, of any hashable type; takes precedence over `group_feature`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights of least squares. Rows of weight 0 are dropped.

        Returns
        -------
        self : WithinOLS
            The fitted model. If `fit` fails, an earlier fit is kept.

        Raises
        ------
        ValueError
            If a parameter is invalid, if values or labels are missing, or if lengths differ.
        """
        check_choice("new_groups", self.new_groups, NEW_GROUPS)
        self._check_group_feature()
        with self._unchanged_on_error():
            rows = self._check_rows(X, y, groups, sample_weight)
            grouped = has_groups(rows.levels)
            if not grouped:
                warn_of_missing_groups(_NO_GROUPS_WITHIN)
            _, moments, known = read_about_known(rows, moments_of(rows), known_part)
            estimate = within_estimate(moments)
            free = estimate.degrees_of_freedom
            self._set_coefficients(known.slopes + estimate.coefficients)
            self.intercept_ = known.intercept + estimate.intercept
            self.cov_fixed_ = estimate.covariance
            if free <= 0:
                warn_caller(NO_DF)
            self.df_ = np.where(estimate.identified & (free > 0), free, np.nan)
            absorbed = np.flatnonzero(~estimate.identified)
            self.fit_ = LeastSquaresFit(moments.shown_names, self._slopes, self.cov_fixed_, self.df_, absorbed)
            self.residual_variance_ = estimate.residual_variance
            self.groups_ = moments.labels if grouped else moments.labels[:0]
            self.n_groups_ = len(self.groups_)
            effects = estimate.group_effects[: self.n_groups_]
            self.group_effects_ = pd.Series(effects, index=self.groups_, name="group_effect")
            self._warn_of_absorbed([moments.shown_names[i] for i in absorbed])
            return self

    def predict(self, X: Any, groups: ArrayLike | None = None) -> np.ndarray:
        """Predict the mean outcome of rows in their groups.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `fit`. None if the model was fitted with None; `groups` then determines the number of rows.
        groups : array-like of shape (n_samples,), "population" or None, default=None
            Group labels; take precedence over `group_feature`. "population" gives every row the average intercept. So does
            None, with a warning, if the model has no `group_feature`.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            Predicted means, in units of y.

        Raises
        ------
        ValueError
            If a group is unknown and `new_groups` is "error", if lengths differ, or if values are missing.
        """
        check_is_fitted(self)
        X, codes = self.locate(X, groups)
        return self._mean(X, codes, self.group_effects_.to_numpy())

    def _warn_of_absorbed(self, names: list[str]) -> None:
        """Warn of columns that the groups' intercepts absorb."""
        if names:
            warn_caller(
                f"{', '.join(names)}: constant in every group, or within groups dependent on the columns before. The "
                "coefficient is 0 because rows of the same group cannot identify it.",
            )
