"""`ClusterRobustOLS`: least squares with cluster-robust standard errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from .._inputs import check_choice, column_names, warn_caller
from .._typing import CovarianceType
from ..likelihood._criterion import Criterion
from ..likelihood._least_squares_fit import LeastSquaresFit
from ..likelihood._random_terms import INTERCEPT
from ..likelihood._second_reading import read_about_known
from ..likelihood._solution import predicted_means
from ..models._base import GroupedRegressor
from ..models._checks import warn_of_dropped_columns
from ..models._groups_not_passed import PASS_GROUPS, warn_of_missing_groups
from ..moments._cells import RowsInCells, rows_in_cells
from ..moments._grouped_moments import GroupedMoments, moments_of
from ..moments._labels import MISSING, has_groups
from ._cluster_robust import cluster_robust
from ._multiway import multiway_cluster_robust

_NO_GROUPS = (
    "fit was given no groups, so each row counts as a group of its own: the standard errors allow for unequal variances, "
    f"but not for correlated rows. {PASS_GROUPS}"
)

NO_DF = (
    "There are no more rows than coefficients: no degrees of freedom are left, and standard errors are NaN. Fit more rows "
    "or fewer columns."
)


class ClusterRobustOLS(GroupedRegressor):
    """Ordinary least squares with standard errors that hold when the rows of a group are correlated.

    The coefficients are those of `sklearn.linear_model.LinearRegression`. Their covariance assumes nothing about the errors
    within a group, only that groups are independent. This is the alternative to a multilevel model if the groups are many
    and of no interest themselves.

    Parameters
    ----------
    cov_type : {"CR2", "CR0", "CR1", "CR3", "nonrobust"}, default="CR2"
        "CR0" is the plain sandwich, which is too small with few groups. "CR1" multiplies it by J/(J-1) (n-1)/(n-k), as Stata
        does (clubSandwich's "CR1S"). "CR2" corrects each group's residuals so that the covariance is unbiased if the errors
        are independent and have equal variances, and has Satterthwaite degrees of freedom (Bell & McCaffrey 2002); use it
        unless there is a reason not to. "CR3" is the jackknife that leaves out one group at a time,
        (J-1)/J sum (b_j - b)(b_j - b)' (without its factor in clubSandwich). "nonrobust" is the textbook formula, which
        ignores groups.
    fit_intercept : bool, default=True
        Whether the model has an intercept.
    group_feature : str, int or None, default=None
        Name or position of the column of X that holds the group labels. The column is not a predictor.

    Attributes
    ----------
    coef_ : ndarray of shape (`n_features_in_`,)
        Coefficients of the columns of X, in the order of `feature_names_in_`; 0 for the group column and for a column that
        depends on those before it.
    intercept_ : float
        Intercept; 0 without `fit_intercept`.
    cov_fixed_ : ndarray of shape (k, k)
        Covariance of the coefficients, the intercept first if there is one; 0 for dropped columns, NaN for coefficients that
        rest on one group alone. The square roots of its diagonal are the standard errors.
    df_ : ndarray of shape (k,)
        Degrees of freedom for t tests and intervals: n - k for "nonrobust", Satterthwaite's for "CR2", J - 1 for the others;
        NaN for dropped columns and for coefficients that rest on one group alone.
    n_groups_ : int, or dict of str to int
        Number of groups J; 0 if the model was fitted without groups.
    n_features_in_ : int
        Number of columns of X in `fit`, the group column included; 0 for ``X=None``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X, if all of them are strings.

    See Also
    --------
    RandomInterceptRegressor : Models the groups, rather than only allowing for them.
    WithinOLS : Compares rows within groups only.
    compare_with_ols : Compares all three models.

    Notes
    -----
    Row weights weight the rows in least squares and imply nothing about the errors: they may be sampling weights of any
    scale, and n counts rows. R's sandwich and clubSandwich treat the weights of `lm` in the same way.

    Without groups, each row counts as a group, with a warning. The standard errors are then those known as HC0, HC1, HC2 and
    the jackknife.

    Rows are read twice, and no matrix is larger than k by k (2 k by 2 k with weights) or than a group.

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

    def __init__(
        self, *, cov_type: CovarianceType = "CR2", fit_intercept: bool = True, group_feature: str | int | None = None
    ):
        self.cov_type = cov_type
        self.fit_intercept = fit_intercept
        self.group_feature = group_feature

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Estimate the coefficients and their covariance.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors; None fits the mean.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,) or data frame, default=None
            Group label of each row, of any hashable type; takes precedence over `group_feature`. Ignored if `cov_type` is
            "nonrobust". A frame of several columns gives standard errors that are clustered by all of them (Cameron, Gelbach
            and Miller 2011), if `cov_type` is "CR0" or "CR1".
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights of least squares. Rows of weight 0 are dropped.

        Returns
        -------
        self : ClusterRobustOLS
            The fitted model. If `fit` fails, an earlier fit is kept.

        Raises
        ------
        ValueError
            If a parameter is invalid, if values or labels are missing, if lengths differ, or if there is a single group and
            `cov_type` is not "nonrobust".
        """
        self._check_parameters()
        with self._unchanged_on_error():
            checked = self._check_rows(X, y, groups, sample_weight)
            several = checked if isinstance(checked, RowsInCells) else None
            rows = checked.rows if several is not None else checked
            grouped, robust = has_groups(rows.levels), self.cov_type != "nonrobust"
            self._check_columns(several)
            if not grouped:
                rows = replace(rows, codes=np.arange(len(rows)), levels=pd.RangeIndex(len(rows)))
            if rows.weights is not None:
                rows = replace(rows, weights=rows.weights / rows.weights.mean())
            if not grouped and robust:
                warn_of_missing_groups(_NO_GROUPS)

            def criterion_of(moments: GroupedMoments) -> Criterion:
                return Criterion(moments, fit_intercept=bool(self.fit_intercept), precision_weights=True)

            # Least squares do not depend on the groups, and a single group is the fastest. If nearly all of y is explained,
            # least squares of the rest keep its digits.
            whole = rows.without_groups()
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
            of_columns = None if several is None else several.n_levels
            single_group = np.zeros(len(df), dtype=bool)
            if criterion.degrees_of_freedom <= 0:
                warn_caller(NO_DF)
                covariance, df = np.full_like(covariance, np.nan), np.full_like(df, np.nan)
            elif robust and criterion.exact_fit:
                # Without residuals, all variances are 0.
                df[~np.isnan(df)] = min(of_columns.values() if of_columns else [n_groups]) - 1.0
            elif robust:
                found = cluster_robust if several is None else multiway_cluster_robust
                of_rows: Any = rows if several is None else replace(several, rows=rows)
                covariance, df, single_group = found(of_rows, moments, solution, dropped, self.cov_type)
            self._set_coefficients(known.slopes + solution.coefficients)
            self.intercept_ = known.intercept + solution.intercept
            # A coefficient that rests on a single group has no standard error.
            covariance[single_group], covariance[:, single_group], df[single_group] = np.nan, np.nan, np.nan
            self.cov_fixed_, self.df_ = covariance, df
            names, values = moments.shown_names, self._slopes
            if self.fit_intercept:
                names, values = (INTERCEPT, *names), np.append(self.intercept_, values)
            self.fit_ = LeastSquaresFit(names, values, covariance, df, dropped)
            self.n_groups_ = of_columns or (n_groups if grouped else 0)
            warn_of_dropped_columns(criterion)
            self._warn_of_single_groups([names[i] for i in np.flatnonzero(single_group)])
            return self

    def predict(self, X: Any, groups: ArrayLike | None = None) -> np.ndarray:
        """Predict the mean outcome of rows.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `fit`. None if the model was fitted with None; `groups` then determines the number of rows.
        groups : array-like of shape (n_samples,), default=None
            Ignored, because least squares have no group effects; determines the number of rows if X is None.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            Predicted means, in units of y.
        """
        check_is_fitted(self)
        X, _, n_samples = self._validate_new_rows(X, groups)
        return predicted_means(X, np.full(n_samples, MISSING), self._slopes, self.intercept_, np.zeros(0))

    def _rows_in_groups(self, X: Any, y: np.ndarray, groups: Any, sample_weight: Any, **options: Any) -> Any:
        """Return checked rows with the group of each, or with the cell of each if groups have several columns."""
        names = column_names(groups)
        if names is None or len(names) < 2:
            return super()._rows_in_groups(X, y, groups, sample_weight, **options)
        return rows_in_cells(X, y, groups, sample_weight, **options)

    def _check_columns(self, rows: RowsInCells | None) -> None:
        """Raise if there are several columns of labels and no covariance for them, or one level of a column."""
        if rows is None or self.cov_type == "nonrobust":
            return
        if self.cov_type not in ("CR0", "CR1"):
            raise ValueError(
                f"cov_type={self.cov_type!r} is for one column of labels; groups has {len(rows.cells.names)}. Set "
                'cov_type="CR1" for standard errors that are clustered by all of them.'
            )
        for name, levels in zip(rows.cells.names, rows.cells.levels, strict=True):
            if len(levels) < 2:
                raise ValueError(
                    f"The column {name!r} of groups has one label only, and clusters are compared. Leave it out."
                )

    def _check_parameters(self) -> None:
        """Raise for a parameter outside its choices."""
        check_choice("cov_type", self.cov_type, get_args(CovarianceType))
        check_choice("fit_intercept", self.fit_intercept, (True, False))
        self._check_group_feature()

    def _warn_of_single_groups(self, names: list[str]) -> None:
        """Warn of coefficients that rest on a single group."""
        if names:
            warn_caller(
                f"The coefficient(s) of {', '.join(names)} rest on one group in part: that part of their variance cannot "
                "be estimated from how groups differ, and their standard errors are NaN. Drop columns that single out a "
                "group, or use RandomInterceptRegressor, which estimates how much groups vary from all of them.",
            )
