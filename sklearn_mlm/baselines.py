"""What to compare a multilevel model with: least squares with cluster-robust standard errors, and the within estimator."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted

from ._base import (
    NEW_GROUPS,
    THREE_WAYS,
    GroupedRegressor,
    GroupsNotPassedWarning,
)
from ._checks import warn_of_dropped_columns
from ._cluster_robust import cluster_robust
from ._comparison import Comparison, compare
from ._criterion import Criterion
from ._fit import INTERCEPT, LeastSquaresFit
from ._folds import read_folds
from ._groups import factorize
from ._inputs import check_choice, is_whole
from ._moments import GroupedMoments, read_about, shown_names, summarise
from ._rows import as_weights, check_some_weight, drop_weightless
from ._within import within_estimate

_COV_TYPES = ("nonrobust", "CR0", "CR1", "CR2", "CR3")
_NO_GROUPS = (
    "fit was given no groups: each row counts as a group of its own, and the standard errors allow for unequal variances, "
    f"but not for rows that belong together. {THREE_WAYS}"
)
_NO_DF = (
    "There are no more rows than coefficients: no degrees of freedom are left, and standard errors are NaN. Fit more rows "
    "or fewer columns."
)
_NO_GROUPS_WITHIN = f"fit was given no groups: the within estimator is least squares with an intercept. {THREE_WAYS}"


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
            X, y, groups = self._validate_rows(X, y, groups, sample_weight)
            codes, labels = (np.arange(len(y)), pd.RangeIndex(len(y))) if groups is None else factorize(groups, len(y))
            weights = None
            if sample_weight is not None:
                weights = as_weights(sample_weight, len(y))
                check_some_weight(weights)
                X, y, codes, labels, weights = drop_weightless(X, y, codes, labels, weights)
                weights = weights / weights.mean()
            robust = self.cov_type != "nonrobust"
            if groups is None and robust:
                warnings.warn(_NO_GROUPS, GroupsNotPassedWarning, stacklevel=2)
            moments = self._of_one_group(X, y, weights)
            criterion = Criterion(moments, fit_intercept=bool(self.fit_intercept), precision_weights=True)
            known, center = np.zeros(moments.n_features), 0.0
            slopes = criterion.slopes_to_read_about()
            if slopes is not None:
                # Nearly all of y is explained: least squares of what is left of it keep the digits.
                at = moments.center_about(slopes) if self.fit_intercept else 0.0
                again = read_about(moments, slopes, at, X, y, lambda left: self._of_one_group(X, left, weights))
                if again is not None:
                    known, center, (y, moments) = slopes, at, again
                    criterion = Criterion(moments, fit_intercept=bool(self.fit_intercept), precision_weights=True)
            if robust and len(labels) < 2:
                raise ValueError(
                    f"groups holds one group only ({labels.tolist()[0]!r}, n_samples={len(y)}): cluster-robust standard "
                    'errors compare groups. Fit at least two groups, or set cov_type="nonrobust".'
                )
            solution = criterion.solution(0.0)
            covariance, df = solution.covariance, np.full(len(solution.covariance), criterion.degrees_of_freedom)
            dropped = int(self.fit_intercept) + criterion.coordinates.dropped
            df[dropped] = np.nan
            alone = np.zeros(len(df), dtype=bool)
            if criterion.degrees_of_freedom <= 0:
                warnings.warn(_NO_DF, UserWarning, stacklevel=2)
                covariance, df = np.full_like(covariance, np.nan), np.full_like(df, np.nan)
            elif robust and criterion.exact_fit:
                # There are no residuals.
                df[~np.isnan(df)] = len(labels) - 1.0
            elif robust:
                covariance, df, alone = cluster_robust(
                    X, y, codes, weights, moments, solution, self.fit_intercept, criterion.coordinates.dropped, self.cov_type
                )
            self._set_coefficients(known + solution.coefficients)
            self.intercept_ = center + solution.intercept
            # What one group alone determines has no standard error.
            covariance[alone], covariance[:, alone], df[alone] = np.nan, np.nan, np.nan
            self.cov_fixed_, self.df_ = covariance, df
            names = (*(INTERCEPT,) * bool(self.fit_intercept), *shown_names(moments))
            values = np.append(self.intercept_, self._slopes) if self.fit_intercept else self._slopes
            self.fit_ = LeastSquaresFit(names, values, covariance, df, dropped)
            self.n_groups_ = 0 if groups is None else len(labels)
            warn_of_dropped_columns(criterion, stacklevel=2)
            self._warn_of_single_groups([name for name, mark in zip(names, alone, strict=True) if mark])
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

    def _of_one_group(self, X: Any, y: np.ndarray, weights: np.ndarray | None) -> GroupedMoments:
        """Return the moments of rows in one group: least squares are the same whatever the groups, and soonest with one."""
        return summarise(X, y, np.zeros(len(y), dtype=np.intp), pd.Index([None]), weights, self._predictor_names())

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


class WithinOLS(GroupedRegressor):
    """The within estimator: least squares with an intercept for every group (econometrics' fixed effects).

    Compares rows of the same group only, so that nothing that differs between groups, seen or unseen, can bias a
    coefficient. It says nothing of columns that are constant in every group, nor of groups it has not seen. The same as
    a column of dummies for each group, without the columns.

    Parameters
    ----------
    group_feature : str, int or None, default=None
        Name or position of the column of X that holds the group labels. The column is no predictor.
    new_groups : {"population", "error", "nan"}, default="population"
        What `predict` gives for a group that `fit` has not seen: with the average intercept, a ValueError, or NaN.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_in_,)
        Coefficients of the columns of X, in the order of `feature_names_in_`; 0 for the group column, which is no predictor,
        and for columns that are constant in every group, or there depend on those before them.
    intercept_ : float
        Average of the groups' intercepts, each weighing as much as its rows; in units of y.
    group_effects_ : pandas.Series of shape (n_groups,)
        Each group's intercept less the average, by group label: not shrunk.
    cov_fixed_ : ndarray of shape (n_predictors, n_predictors)
        Covariance of the coefficients of the predictors; 0 for columns without a coefficient. The square roots of its
        diagonal are the standard errors.
    df_ : ndarray of shape (n_predictors,)
        Degrees of freedom n - J - k; NaN for columns without a coefficient.
    residual_variance_ : float
        Variance of the rows about their group, in units of y squared.
    groups_ : pandas.Index of shape (n_groups,)
        The group labels, sorted where they can be.
    n_groups_ : int
        Number of groups J; 0 where the model was fitted without.
    n_features_in_ : int
        Number of columns of X in `fit`, the group column included; 0 for ``X=None``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X, where all of them are strings.

    See Also
    --------
    RandomInterceptRegressor : Shrinks the groups' intercepts, and uses what differs between groups as well.
    compare_with_ols : Both of them, and least squares, side by side.

    Notes
    -----
    Row weights weigh the rows in least squares; n counts rows.

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

    def __init__(self, *, group_feature: str | int | None = None, new_groups: str = "population"):
        self.group_feature = group_feature
        self.new_groups = new_groups

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Estimate the coefficients and the groups' intercepts.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors; None fits group means.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group label of each row, of any hashable kind; they count for more than `group_feature`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights of least squares; a row of weight 0 is no row.

        Returns
        -------
        self : WithinOLS
            The fitted model. If `fit` fails, a model fitted before stays as it was.

        Raises
        ------
        ValueError
            Where values or labels are missing, or lengths differ.
        """
        check_choice("new_groups", self.new_groups, NEW_GROUPS)
        self._check_group_feature()
        with self._unchanged_on_error():
            X, y, groups = self._validate_rows(X, y, groups, sample_weight)
            if groups is None:
                warnings.warn(_NO_GROUPS_WITHIN, GroupsNotPassedWarning, stacklevel=2)
            moments = self._moments(X, y, groups, sample_weight)
            estimate = within_estimate(moments)
            if estimate.small_rest:
                known = estimate.coefficients
                center = moments.center_about(known)
                again = read_about(moments, known, center, X, y, lambda left: self._moments(X, left, groups, sample_weight))
                if again is not None:
                    estimate = within_estimate(again[1])
                    coefficients, intercept = known + estimate.coefficients, center + estimate.intercept
                    estimate = replace(estimate, coefficients=coefficients, intercept=intercept)
            free = estimate.degrees_of_freedom
            self._set_coefficients(estimate.coefficients)
            self.intercept_ = estimate.intercept
            self.cov_fixed_ = estimate.covariance
            if free <= 0:
                warnings.warn(_NO_DF, UserWarning, stacklevel=2)
            self.df_ = np.where(estimate.identified & (free > 0), free, np.nan)
            absorbed = np.flatnonzero(~estimate.identified)
            self.fit_ = LeastSquaresFit(shown_names(moments), self._slopes, self.cov_fixed_, self.df_, absorbed)
            self.residual_variance_ = estimate.residual_variance
            self.groups_ = moments.labels if groups is not None else moments.labels[:0]
            self.n_groups_ = len(self.groups_)
            self.group_effects_ = pd.Series(
                estimate.group_effects[: self.n_groups_], index=self.groups_, name="group_effect"
            )
            self._warn_of_absorbed(estimate.identified, moments)
            return self

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Predict the mean outcome of rows in their groups.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `fit`; None for a model fitted so, with `groups` to say for how many rows.
        groups : array-like of shape (n_samples,), "population" or None, default=None
            Group labels; they count for more than `group_feature`. "population" gives every row the average intercept, and
            so does None in a model without `group_feature`, with a warning.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            In units of y.

        Raises
        ------
        ValueError
            For an unknown group where ``new_groups="error"``, and where lengths differ or values are missing.
        """
        check_is_fitted(self)
        X, codes = self.locate(X, groups)
        return self._mean(X, codes, self.group_effects_.to_numpy())

    def _warn_of_absorbed(self, identified: np.ndarray, moments: GroupedMoments) -> None:
        """Warn of columns that the groups' intercepts leave nothing of."""
        if not identified.all():
            names = shown_names(moments)
            absorbed = ", ".join(name for name, mark in zip(names, identified, strict=True) if not mark)
            warnings.warn(
                f"{absorbed}: constant in every group, or dependent there on the columns before. The coefficient is 0: "
                "rows of the same group cannot tell it.",
                UserWarning,
                stacklevel=3,
            )


def compare_with_ols(X: Any, y: Any, groups: Any, *, cv: int = 5, random_state: Any = None) -> Comparison:
    """Compare the random intercept model with least squares: coefficients, standard errors and predictions.

    Shows what ignoring the groups does to standard errors, what cluster-robust standard errors mend, what rows of the same
    group say by themselves (the within estimator), and which model predicts better, in groups it knows and in new ones.

    Parameters
    ----------
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        Predictors, without the group column; None compares the null models.
    y : array-like of shape (n_samples,)
        Outcome.
    groups : array-like of shape (n_samples,)
        Group label of each row, of any hashable kind.
    cv : int, default=5
        Number of folds of the cross-validation, of rows (shuffled, `KFold`) for known groups and of whole groups
        (`GroupKFold`; at most one a group) for new ones, about which two groups say nothing.
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows.

    Returns
    -------
    comparison : Comparison
        With `coefficients`, `predictions`, `within_between` and more as attributes; print it for the tables and what they
        mean in words.

    Raises
    ------
    ValueError
        Where values or labels are missing, lengths differ, names of columns are not unique, y is constant, or a random
        intercept model cannot be fitted.

    See Also
    --------
    cross_validate_groups : Cross-validates any model, pipelines included.
    ClusterRobustOLS : Least squares with cluster-robust standard errors.
    WithinOLS : The within estimator.

    Notes
    -----
    Rows are read once into moments, from which all models are fitted and all predictions are scored, and once more for
    the cluster-robust standard errors.

    References
    ----------
    Y. Mundlak (1978), "On the pooling of time series and cross section data", Econometrica 46(1), 69-85, for the within and
    between coefficients; J. A. Hausman (1978), "Specification tests in econometrics", Econometrica 46(6), 1251-1271, for
    their test.

    L. Kish (1965), Survey Sampling, Wiley, section 5.4, for the design effect.

    Examples
    --------
    >>> from sklearn_mlm import compare_with_ols
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> comparison = compare_with_ols(X, y, subject, random_state=0)
    >>> comparison.coefficients.loc["days", ["estimate", "std_error"]].round(3)
                        estimate  std_error
    model
    pooled OLS            10.467      1.238
    cluster-robust OLS    10.467      1.546
    within                10.467      0.804
    random intercept      10.467      0.804
    """
    if groups is None or isinstance(groups, str):
        raise ValueError(
            f"groups must hold the group label of each row; found {groups!r}. Without groups there is nothing to compare."
        )
    reader = ClusterRobustOLS()
    X, y, groups = reader._validate_rows(X, y, groups, None)
    names = reader._predictor_names()
    twice = pd.Index([INTERCEPT, *(names or ())])
    if twice.has_duplicates:
        raise ValueError(
            f"The columns of X must have names of their own, other than {INTERCEPT!r}; found "
            f"{twice[twice.duplicated()][0]!r}. Rename it."
        )
    codes, labels = factorize(groups, len(y))
    n_groups = len(labels)
    if not is_whole(cv, 2, len(y)):
        raise ValueError(f"cv must be a number of folds, at least 2 and at most n_samples={len(y)}; found {cv!r}.")
    if n_groups < 2:
        raise ValueError(f"groups holds one group only ({labels.tolist()[0]!r}): there is nothing to compare it with.")
    fold_of_row, fold_of_group = np.empty(len(y), dtype=np.intp), np.empty(n_groups, dtype=np.intp)
    for fold, (_, test) in enumerate(KFold(int(cv), shuffle=True, random_state=random_state).split(codes)):
        fold_of_row[test] = fold
    for fold, (_, test) in enumerate(GroupKFold(min(int(cv), n_groups)).split(codes, groups=codes)):
        fold_of_group[codes[test]] = fold
    X = X.tocsr() if sparse.issparse(X) else X
    folds = read_folds(X, y, codes, labels, names, fold_of_row, fold_of_group)
    known = Criterion(folds.whole).slopes_to_read_about()
    if known is not None:
        center = folds.whole.center_about(known)
        again = read_about(folds.whole, known, center, X, y, lambda left: summarise(X, left, *factorize(codes), None, names))
        if again is not None:
            y = again[0]
            folds = read_folds(X, y, codes, labels, names, fold_of_row, fold_of_group)
            folds = replace(folds, known_slopes=known, known_intercept=center)
    return compare(X, y, codes, folds)
