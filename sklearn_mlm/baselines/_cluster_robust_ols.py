"""`ClusterRobustOLS`: least squares with cluster-robust standard errors."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted

from .._inputs import check_choice
from ..likelihood._criterion import Criterion
from ..likelihood._fit import INTERCEPT, LeastSquaresFit
from ..likelihood._second_reading import read_about_known
from ..models._base import THREE_WAYS, GroupedRegressor, GroupsNotPassedWarning
from ..models._checks import warn_of_dropped_columns
from ..moments._grouped_moments import GroupedMoments, moments_of
from ..moments._labels import has_groups
from ._cluster_robust import cluster_robust

_COV_TYPES = ("nonrobust", "CR0", "CR1", "CR2", "CR3")
_NO_GROUPS = (
    "fit was given no groups: each row counts as a group of its own, and the standard errors allow for unequal variances, "
    f"but not for rows that belong together. {THREE_WAYS}"
)

NO_DF = (
    "There are no more rows than coefficients: no degrees of freedom are left, and standard errors are NaN. Fit more rows "
    "or fewer columns."
)


class ClusterRobustOLS(GroupedRegressor):
    """Ordinary least squares with standard errors that hold when the rows of a group are correlated.

    The coefficients are those of `sklearn.linear_model.LinearRegression`. Their covariance makes no assumption on the errors
    within a group, only that groups are independent: the alternative to a multilevel model where groups are a nuisance, and
    there are many of them.

    Parameters
    ----------
    cov_type : {"CR2", "CR0", "CR1", "CR3", "nonrobust"}, default="CR2"
        "CR0" is the plain sandwich, too small with few groups. "CR1" multiplies it by J/(J-1) (n-1)/(n-k), as Stata does
        (clubSandwich's "CR1S").
        "CR2" corrects each group's residuals so that the covariance is unbiased where errors are in truth independent and
        of equal variance, and has Satterthwaite degrees of freedom (Bell & McCaffrey 2002): the one to use unless
        there is a reason not to. "CR3" is the jackknife that leaves out one group at a time, (J-1)/J sum (b_j - b)(b_j - b)'
        (without its factor in clubSandwich). "nonrobust" is the textbook formula, which ignores groups.
    fit_intercept : bool, default=True
        Whether the model has an intercept.
    group_feature : str, int or None, default=None
        Name or position of the column of X that holds the group labels. The column is no predictor.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_in_,)
        Coefficients of the columns of X, in the order of `feature_names_in_`: 0 for the group column, which is no predictor,
        and for a column that depends on those before it.
    intercept_ : float
        Intercept; 0 without `fit_intercept`.
    cov_fixed_ : ndarray of shape (k, k)
        Covariance of the coefficients, the intercept first if there is one; 0 for dropped columns, NaN for coefficients that
        rest on one group alone. The square roots of its diagonal are the standard errors.
    df_ : ndarray of shape (k,)
        Degrees of freedom for t tests and intervals: n - k for "nonrobust", Satterthwaite's for "CR2", J - 1 for the others;
        NaN for dropped columns and for coefficients that rest on one group alone.
    n_groups_ : int
        Number of groups J; 0 where the model was fitted without.
    n_features_in_ : int
        Number of columns of X in `fit`, the group column included; 0 for ``X=None``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X, where all of them are strings.

    See Also
    --------
    RandomInterceptRegressor : Models the groups instead of allowing for them.
    WithinOLS : Compares rows within groups only.
    compare_with_ols : All of them side by side.

    Notes
    -----
    Row weights weigh the rows in least squares, and say nothing of the errors: they may be sampling weights, have any
    scale, and n counts rows. This is how R's sandwich and clubSandwich read the weights of `lm`.

    Without groups each row counts as a group, with a warning: the standard errors are then those known as HC0, HC1, HC2 and
    the jackknife.

    Rows are read twice, and no matrix is larger than k by k (2 k by 2 k with weights), nor than a group.

    References
    ----------
    R. M. Bell and D. F. McCaffrey (2002), "Bias reduction in standard errors for linear regression with multi-stage
    samples", Survey Methodology 28(2), 169-181.

    J. E. Pustejovsky and E. Tipton (2018), "Small-sample methods for cluster-robust variance estimation and hypothesis
    testing in fixed effects models", Journal of Business & Economic Statistics 36(4), 672-683.

    J. G. MacKinnon, M. O. Nielsen and M. D. Webb (2023), "Cluster-robust inference: a guide to empirical practice",
    Journal of Econometrics 232(2), 272-299.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mlm import ClusterRobustOLS
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> model = ClusterRobustOLS().fit(X, y, groups=subject)
    >>> np.append(model.intercept_, model.coef_).round(2)
    array([251.41,  10.47])
    >>> np.sqrt(np.diag(model.cov_fixed_)).round(3)
    array([6.825, 1.546])
    >>> model.df_.round(1)
    array([17., 17.])
    >>> naive = ClusterRobustOLS(cov_type="nonrobust").fit(X, y)
    >>> np.sqrt(np.diag(naive.cov_fixed_)).round(3)
    array([6.61 , 1.238])
    """

    def __init__(self, *, cov_type: str = "CR2", fit_intercept: bool = True, group_feature: str | int | None = None):
        self.cov_type = cov_type
        self.fit_intercept = fit_intercept
        self.group_feature = group_feature

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Estimate the coefficients and their covariance.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors; None fits the mean.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group label of each row, of any hashable kind; they count for more than `group_feature`. Not used by
            ``cov_type="nonrobust"``.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights of least squares; a row of weight 0 is no row.

        Returns
        -------
        self : ClusterRobustOLS
            The fitted model. If `fit` fails, a model fitted before stays as it was.

        Raises
        ------
        ValueError
            Where values or labels are missing, lengths differ, or there is one group.
        """
        self._check_parameters()
        with self._unchanged_on_error():
            rows = self._check_rows(X, y, groups, sample_weight)
            grouped, robust = has_groups(rows.levels), self.cov_type != "nonrobust"
            if not grouped:
                rows = replace(rows, codes=np.arange(len(rows)), levels=pd.RangeIndex(len(rows)))
            if rows.weights is not None:
                rows = replace(rows, weights=rows.weights / rows.weights.mean())
            if not grouped and robust:
                warnings.warn(_NO_GROUPS, GroupsNotPassedWarning, stacklevel=2)

            def criterion_of(moments: GroupedMoments) -> Criterion:
                return Criterion(moments, fit_intercept=bool(self.fit_intercept), precision_weights=True)

            # Least squares are the same whatever the groups, and soonest with one. If nearly all of y is explained, least
            # squares of what is left of it keep the digits.
            whole = replace(rows, codes=np.zeros(len(rows), dtype=np.intp), levels=pd.Index([None]))
            whole, moments, known = read_about_known(whole, moments_of(whole), lambda m: criterion_of(m).known_part())
            rows, criterion = replace(rows, y=whole.y), criterion_of(moments)
            n_groups = len(rows.levels)
            if robust and n_groups < 2:
                raise ValueError(
                    f"groups holds one group only ({rows.levels.tolist()[0]!r}, n_samples={len(rows)}): cluster-robust "
                    'standard errors compare groups. Fit at least two groups, or set cov_type="nonrobust".'
                )
            solution = criterion.solution(0.0)
            covariance, df = solution.covariance, np.full(len(solution.covariance), criterion.degrees_of_freedom)
            dropped = int(self.fit_intercept) + criterion.coordinates.dropped
            df[dropped] = np.nan
            single = np.zeros(len(df), dtype=bool)
            if criterion.degrees_of_freedom <= 0:
                warnings.warn(NO_DF, UserWarning, stacklevel=2)
                covariance, df = np.full_like(covariance, np.nan), np.full_like(df, np.nan)
            elif robust and criterion.exact_fit:
                # There are no residuals.
                df[~np.isnan(df)] = n_groups - 1.0
            elif robust:
                covariance, df, single = cluster_robust(rows, moments, solution, dropped, self.cov_type)
            self._set_coefficients(known.slopes + solution.coefficients)
            self.intercept_ = known.intercept + solution.intercept
            # What a single group determines has no standard error.
            covariance[single], covariance[:, single], df[single] = np.nan, np.nan, np.nan
            self.cov_fixed_, self.df_ = covariance, df
            names = (*(INTERCEPT,) * bool(self.fit_intercept), *moments.shown_names)
            values = np.append(self.intercept_, self._slopes) if self.fit_intercept else self._slopes
            self.fit_ = LeastSquaresFit(names, values, covariance, df, dropped)
            self.n_groups_ = n_groups if grouped else 0
            warn_of_dropped_columns(criterion, stacklevel=2)
            self._warn_of_single_groups([name for name, mark in zip(names, single, strict=True) if mark])
            return self

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Predict the mean outcome of rows.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `fit`; None for a model fitted so, with `groups` to say for how many rows.
        groups : array-like of shape (n_samples,), default=None
            Makes no difference to the predictions: least squares know no group effects.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            In units of y.
        """
        check_is_fitted(self)
        X, _, n_samples = self._validate_new_rows(X, groups)
        return np.full(n_samples, self.intercept_) + (
            0.0 if X is None else safe_sparse_dot(X, self._slopes, dense_output=True)
        )

    def _check_parameters(self) -> None:
        """Raise for a parameter outside its choices."""
        check_choice("cov_type", self.cov_type, _COV_TYPES)
        check_choice("fit_intercept", self.fit_intercept, (True, False))
        self._check_group_feature()

    def _warn_of_single_groups(self, marked: list[str]) -> None:
        """Warn of coefficients whose variance one group alone would have to tell."""
        if marked:
            warnings.warn(
                f"The coefficient(s) of {', '.join(marked)} rest on one group in part: that part of their variance cannot "
                "be estimated from how groups differ, and their standard errors are NaN. Drop columns that single out a "
                "group, or use RandomInterceptRegressor, which estimates how much groups vary from all of them.",
                UserWarning,
                stacklevel=3,
            )
