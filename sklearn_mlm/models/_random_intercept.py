"""`RandomInterceptRegressor`: parameters, validation and fitted attributes."""

from __future__ import annotations

from functools import cached_property
from numbers import Integral
from typing import Any, Literal, Self, get_args, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from .._inputs import check_choice
from .._typing import DegreesOfFreedom, Method, NewGroups, WeightType
from ..likelihood._fit import Fit, fit_of_criterion
from ..likelihood._options import Options
from ..likelihood._second_reading import criterion_of_rest
from ..moments._grouped_moments import GroupedMoments, moments_of
from ..moments._labels import has_groups, warn_of_twins
from ..moments._rows import GroupedRows
from ._base import NEW_GROUPS
from ._checks import check_groups, check_rows, warn_of_peculiar_data
from ._incremental import IncrementalRegressor, ReadAgain
from ._label_checks import warn_of_peculiar_labels
from ._rows_in_memory import RowsInMemory
from ._summary import ModelSummary

_CHOICES: dict[str, tuple[str | bool, ...]] = {
    "method": get_args(Method),
    "fit_intercept": (True, False),
    "new_groups": NEW_GROUPS,
    "weight_type": get_args(WeightType),
}
_MeanAndStd = tuple[np.ndarray, np.ndarray]
_IF_DROPPED = (
    " A selector that drops columns, such as RFE, drops the group column first unless it is given "
    "importance_getter=sklearn_mlm.model_selection.coefficient_importances."
)


class RandomInterceptRegressor(IncrementalRegressor):
    """Linear regression with a random intercept for each group: the two-level multilevel model.

    The model for row i of group j is::

        y_ij = intercept + x_ij' coef + u_j + e_ij,   u_j ~ N(0, tau2),   e_ij ~ N(0, sigma2),

    which is ``lmer(y ~ x + (1 | group))`` in R. `fit` estimates the fixed effects (the intercept and the coefficients) and
    the two variance components by restricted or full maximum likelihood. A prediction for a group that `fit` has seen adds
    the empirical-Bayes estimate of u_j, which is the group's mean residual shrunk towards 0 by its reliability.

    The optimum is global and exact to rounding. Both variances may be exactly zero, and there is no starting value,
    tolerance or iteration limit to choose.

    Parameters
    ----------
    method : {"reml", "ml"}, default="reml"
        Restricted maximum likelihood, which allows for the estimation of the fixed effects in the variances, or maximum
        likelihood, which can compare models with different fixed effects.
    fit_intercept : bool, default=True
        Whether the model has a fixed intercept. Without it, the fixed part is 0 at x = 0.
    group_feature : str, int or None, default=None
        Name or position of the column of X that holds the group labels. Then `fit`, `predict` and `score` need no `groups`
        argument, so that pipelines, grid searches and scorers work unchanged. The column is not a predictor. If `groups` is
        passed too, it takes precedence; X must still contain the column.
    new_groups : {"population", "error", "nan"}, default="population"
        How `predict` treats a group that `fit` has not seen: use the fixed part alone (the random effect is 0 on average),
        raise a ValueError, or return NaN. A row without a label always gets the population prediction.
    weight_type : {"frequency", "precision"}, default="frequency"
        Meaning of a row weight w: w copies of the row, as in scikit-learn (a weight of 0 leaves the row out), or one row
        with the residual variance sigma2 / w, as in lme4.

    Attributes
    ----------
    coef_ : ndarray of shape (`n_features_in_`,)
        Fixed effects of the columns of X, in units of y per unit of x, in the order of `feature_names_in_`. They are 0 for
        the group column and for a column that depends on the columns before it. `sklearn_mlm.inference.fixed_effects`
        returns a table of them by name, without the group column.
    intercept_ : float
        Fixed intercept, in units of y; 0 without `fit_intercept`.
    variance_components_ : pandas.Series of shape (2,)
        "group" (tau2) and "residual" (sigma2), in units of y squared.
    icc_ : float
        Intraclass correlation tau2 / (tau2 + sigma2), in [0, 1]: the share of the unexplained variance that lies between
        groups, and the correlation of two rows of a group. NaN if both variances are 0.
    random_effects_ : pandas.Series of shape (n_groups,)
        Empirical-Bayes estimate of u_j (conditional mode, BLUP) by group label, in units of y.
    groups_ : pandas.Index of shape (n_groups,)
        The distinct group labels, sorted if they can be compared.
    n_groups_ : int
        Number of groups; 0 if the model was fitted without groups.
    boundary_ : {"group", "residual"} or None
        The variance component that is exactly 0, if any: "group" (a singular fit in lme4, equal to least squares), or
        "residual" (x and the group determine y).
    log_likelihood_ : float
        Logarithm of the restricted (or full) likelihood at the optimum, with all constants.
    criterion_ : float
        -2 `log_likelihood_`: the "REML criterion at convergence" of lme4, or the deviance.
    aic_, bic_ : float
        Akaike's and the Bayesian information criterion, which count the fixed effects and both variances.
    cov_fixed_ : ndarray of shape (k, k)
        Covariance of the fixed effects, the intercept first if there is one; 0 for dropped columns. The square roots of
        its diagonal are the standard errors.
    moments_ : GroupedMoments
        Moments of the data. The model keeps no rows.
    fit_ : Fit
        The fit record, which stores all results together with the parameters in `fit`. `sklearn_mlm.inference` reads it.
    n_features_in_ : int
        Number of columns of X in `fit`, including the group column; 0 for ``X=None``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if all of them are strings.

    See Also
    --------
    GroupedMoments : The mergeable moments that `fit_moments` takes.
    sklearn.linear_model.LinearRegression : The same model without groups.

    Notes
    -----
    If there are neither `groups` nor a `group_feature`, the model is ordinary least squares. A `GroupsNotPassedWarning` is
    raised, because scikit-learn's tools do not pass groups on by default. Under metadata routing `fit`, `predict` and
    `score` request `groups`, unless there is a `group_feature` or `set_fit_request` and similar methods change the request.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), "Fitting linear mixed-effects models using lme4", Journal of
    Statistical Software 67(1).

    Examples
    --------
    The null model of the dyestuff data, whose batches differ:

    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_dyestuff
    >>> dyestuff = load_dyestuff(as_frame=True)
    >>> model = RandomInterceptRegressor().fit(None, dyestuff.target, groups=dyestuff.groups)
    >>> round(model.intercept_, 1)
    1527.5
    >>> model.variance_components_.round(2)
    group       1764.05
    residual    2451.25
    Name: variance, dtype: float64
    >>> round(model.icc_, 3)
    0.418
    >>> model.predict(None, groups=["A", "F", "unheard of"]).round(1)
    array([1509.9, 1482.5, 1527.5])
    """

    def __init__(
        self,
        *,
        method: Method = "reml",
        fit_intercept: bool = True,
        group_feature: str | int | None = None,
        new_groups: NewGroups = "population",
        weight_type: WeightType = "frequency",
    ):
        self.method = method
        self.fit_intercept = fit_intercept
        self.group_feature = group_feature
        self.new_groups = new_groups
        self.weight_type = weight_type

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Estimate the fixed effects, the variance components and the random effects.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors. None, or a frame that holds only the `group_feature`, fits the null model: an intercept and groups.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group label of each row, of any hashable type. They take precedence over `group_feature`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights, with the meaning that `weight_type` gives them.

        Returns
        -------
        self : RandomInterceptRegressor
            The fitted model. If `fit` fails, an earlier fit does not change.

        Raises
        ------
        ValueError
            If values or labels are missing, lengths differ, there is only one group, every group is a single row, or there
            are no more rows than fixed effects.
        """
        return self._fit_rows(X, y, groups, sample_weight)

    def fit_moments(self, moments: GroupedMoments) -> Self:
        """Fit from moments instead of rows; their source, and the number of parts it was read in, make no difference.

        Parameters
        ----------
        moments : GroupedMoments
            Moments of all rows, such as `GroupedMoments.from_arrays` returns, or a sum of moments.

        Returns
        -------
        self : RandomInterceptRegressor
            The fitted model.

        Raises
        ------
        TypeError
            If `moments` is not a `GroupedMoments`.
        ValueError
            If there is only one group, every group is a single row, or there are no more rows than fixed effects.

        Examples
        --------
        >>> from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
        >>> from sklearn_mlm.datasets import load_sleepstudy
        >>> X, y, groups = load_sleepstudy(return_X_y_groups=True)
        >>> parts = [GroupedMoments.from_arrays(X[i::2], y[i::2], groups[i::2]) for i in range(2)]
        >>> model = RandomInterceptRegressor().fit_moments(sum(parts))
        >>> model.coef_.round(4)
        array([10.4673])
        """
        self._check_parameters()
        if not isinstance(moments, GroupedMoments):
            raise TypeError(
                f"moments must be a GroupedMoments; found {type(moments).__name__}. To fit rows, call fit(X, y, groups)."
            )
        with self._unchanged_on_error():
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
            self._group_key, self._group_position = self.group_feature, None
            # With a group_feature, moments do not show at which position of X the group column is.
            if self.group_feature is None:
                self.n_features_in_ = moments.n_features
                if moments.feature_names is not None:
                    self.feature_names_in_ = np.array(moments.feature_names, dtype=object)
            warn_of_twins(moments.labels[:0], moments.labels)
            return self._store(moments)

    @overload
    def predict(self, X: Any, groups: ArrayLike | None = None, return_std: Literal[False] = False) -> np.ndarray: ...
    @overload
    def predict(self, X: Any, groups: ArrayLike | None = None, *, return_std: Literal[True]) -> _MeanAndStd: ...
    @overload
    def predict(self, X: Any, groups: ArrayLike | None = None, return_std: bool = False) -> np.ndarray | _MeanAndStd: ...
    def predict(self, X: Any, groups: ArrayLike | None = None, return_std: bool = False) -> np.ndarray | _MeanAndStd:
        """Predict the mean of rows in their groups; `return_std` adds the standard deviation of that group mean.

        A row of a group that `fit` has seen gets the conditional prediction: its fixed part plus the group's empirical-Bayes
        estimate. A row of a new group gets what `new_groups` specifies. A row without a label gets the population
        prediction, the fixed part alone. Every row gets it if ``groups="population"``, or if there are neither `groups` nor
        a `group_feature`; the latter gives a warning if the model was fitted with groups.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `fit`. None if the null model was fitted to None; then `groups` gives the number of rows.
        groups : array-like of shape (n_samples,), "population" or None, default=None
            Group labels, which take precedence over `group_feature`. "population" leaves out the effects of all groups.
        return_std : bool, default=False
            Whether to return the standard deviation of the predicted mean of the row's group too. It allows for errors of
            the fixed effects and of the random effect (all of tau2 in a new group, and for "population"). It includes
            neither the residual of a single row nor the estimation of the variances;
            `sklearn_mlm.inference.predict_interval` has intervals that do, and that of the fixed part alone.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            Predicted means, in units of y.
        std : ndarray of shape (n_samples,)
            Their standard deviations, in units of y; only if `return_std` is True.

        Raises
        ------
        ValueError
            If values are missing, lengths differ, or a group is unknown and ``new_groups="error"``.
        """
        check_is_fitted(self)
        X, codes = self.locate(X, groups)
        mean = self._mean(X, codes, self._effects)
        if not return_std:
            return mean
        variance, _ = self.fit_.prediction_variance(X, codes)
        return mean, np.where(np.isnan(mean), np.nan, np.sqrt(variance))

    def summary(
        self,
        X: Any = None,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        ddf: DegreesOfFreedom = "satterthwaite",
    ) -> ModelSummary:
        """Return a summary of the model like that of lmer.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None, default=None
            Predictors of the rows whose scaled residuals are summarised. `fit` keeps the quantiles of its residuals if there
            are at most 10,000 rows, where they cost a quarter of a millisecond at most. With more rows, or after
            `fit_moments` or `partial_fit`, pass the rows of `fit`. With other rows the quantiles are theirs; the rest of the
            summary does not change.
        y : array-like of shape (n_samples,), default=None
            Outcome of these rows.
        groups : array-like of shape (n_samples,), default=None
            Group labels of these rows.
        sample_weight : array-like of shape (n_samples,), default=None
            The weights of `fit`. Residuals are multiplied by the square roots of precisions, or repeated if the weights
            are whole numbers of copies.
        ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
            Degrees of freedom of the tests of fixed effects.

        Returns
        -------
        summary : ModelSummary
            The summary, which prints as text and is displayed as HTML in a notebook. Its tables are the attributes
            `fixed_effects`, `variance_components`, `criteria` and `scaled_residuals`.

        Examples
        --------
        >>> from sklearn_mlm import RandomInterceptRegressor
        >>> from sklearn_mlm.datasets import load_sleepstudy
        >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
        >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
        >>> model.summary()
        Random intercept model fitted by REML
        REML criterion at convergence 1786.5, log-likelihood -893.23 (4 parameters), AIC 1794.5, BIC 1807.2
        Number of observations 180, groups (subject) 18
        <BLANKLINE>
        Scaled residuals
              Min       1Q  Median      3Q     Max
          -3.2257  -0.5529  0.0109  0.5188  4.2506
        <BLANKLINE>
        Variance components
                             variance  std. dev.
        subject (Intercept)      1378      37.12
        residual                960.5      30.99
        Intraclass correlation 0.589
        <BLANKLINE>
        Fixed effects (Satterthwaite's degrees of freedom)
                     estimate  std. error    df      t  p-value
        (Intercept)   251.405       9.747  22.8  25.79   <0.001  ***
        days          10.4673      0.8042   161  13.02   <0.001  ***
        p < 0.001 ***, < 0.01 **, < 0.05 *, < 0.1 .
        """
        return self._summary_of_rows(X, y, groups, sample_weight, ddf)

    @overload
    def criterion(self, variance_ratio: float) -> float: ...
    @overload
    def criterion(self, variance_ratio: ArrayLike) -> np.ndarray: ...
    def criterion(self, variance_ratio: ArrayLike) -> float | np.ndarray:
        """Return the criterion at variance ratios tau2 / sigma2, with every other parameter at its optimum.

        Parameters
        ----------
        variance_ratio : float or array-like of shape (n_ratios,)
            Variance ratios, at least 0.

        Returns
        -------
        criterion : float or ndarray of shape (n_ratios,)
            -2 (restricted) log-likelihood with all constants. Its minimum is `criterion_`.

        Examples
        --------
        >>> from sklearn_mlm import RandomInterceptRegressor
        >>> from sklearn_mlm.datasets import load_dyestuff
        >>> dyestuff = load_dyestuff()
        >>> model = RandomInterceptRegressor().fit(None, dyestuff.target, groups=dyestuff.groups)
        >>> model.criterion([0.0, 0.5, 1.0]).round(2)
        array([326.02, 319.82, 319.79])
        """
        check_is_fitted(self)
        ratios = np.asarray(variance_ratio, dtype=np.float64)
        if ratios.ndim > 1 or not (np.isfinite(ratios) & (ratios >= 0)).all():
            raise ValueError(f"variance_ratio must be a number or a list of numbers, at least 0; found {variance_ratio!r}.")
        values = self.fit_.criterion().evaluate(ratios)[0]
        return values if ratios.ndim else float(values[0])

    @cached_property
    def variance_components_(self) -> pd.Series:
        """Group variance and residual variance."""
        check_is_fitted(self)
        return pd.Series({"group": self.fit_.group_variance, "residual": self.fit_.residual_variance}, name="variance")

    @cached_property
    def random_effects_(self) -> pd.Series:
        """Empirical-Bayes estimates of the random effects by group label."""
        check_is_fitted(self)
        return pd.Series(self._effects, index=self.groups_, name="random_effect")

    # ---- parts of the methods above

    def _check_parameters(self) -> None:
        """Raise a ValueError for a parameter that is not one of its choices."""
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        self._check_group_feature()

    def _read(
        self, X: Any, y: Any, groups: Any, sample_weight: Any, *, reset: bool = True, min_rows: int = 1
    ) -> tuple[GroupedMoments, ReadAgain]:
        """Return the moments of rows, and a function that reads them again. Only this method knows where the rows are."""
        rows = self._check_rows(X, y, groups, sample_weight, reset=reset, min_rows=min_rows)
        return self._record(rows), RowsInMemory(rows)

    def _record(self, rows: GroupedRows) -> GroupedMoments:
        """Return the moments of checked rows."""
        return moments_of(rows)

    def _store(self, moments: GroupedMoments, read_again: ReadAgain | None = None) -> Self:
        """Fit to moments and set the fitted attributes; without `read_again` there are no rows to read again."""
        grouped = has_groups(moments.labels)
        options = Options(self.method, bool(self.fit_intercept), self.weight_type)
        check_groups(moments, grouped, options.weight_type, _IF_DROPPED if isinstance(self._group_key, Integral) else "")
        criterion = options.criterion(moments)
        check_rows(criterion, grouped)
        if read_again is not None:
            criterion = criterion_of_rest(criterion, moments, options, read_again)
        fit = fit_of_criterion(criterion, options, grouped=grouped)
        self._scaled_residuals = None
        self._set_estimates(fit)
        self._set_random_effects(fit)
        warn_of_peculiar_data(criterion, fit.identified, self._of_formula)
        if grouped:
            warn_of_peculiar_labels(moments, self._group_key)
        return self

    def _set_estimates(self, fit: Fit) -> None:
        """Set the fixed effects, the variances, and the values of the likelihood."""
        self.__dict__.pop("variance_components_", None)
        self._set_coefficients(fit.slopes)
        self.intercept_, self.cov_fixed_ = fit.intercept, fit.covariance
        self.icc_, self.boundary_ = fit.icc, fit.boundary
        self.criterion_, self.log_likelihood_ = fit.solution.value, -0.5 * fit.solution.value
        self.aic_, self.bic_ = fit.aic, fit.bic


def moments_for(
    model: RandomInterceptRegressor, X: Any, y: Any, groups: Any, sample_weight: Any
) -> tuple[GroupedMoments, ReadAgain]:
    """Return the moments of rows that have the columns of a model, and a function that reads them again; fit nothing."""
    return model._read(X, y, groups, sample_weight, reset=False, min_rows=0)
