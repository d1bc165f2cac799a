"""`RandomInterceptRegressor`: parameters, validation and fitted attributes. The arithmetic is in the modules it calls."""

from __future__ import annotations

import warnings
from functools import cached_property
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from .._inputs import check_choice
from .._typing import DegreesOfFreedom
from ..likelihood._fit import Fit, Options, fit_of_criterion
from ..likelihood._second_reading import READINGS
from ..moments._grouped_moments import GroupedMoments, moments_of
from ..moments._labels import has_groups, warn_of_twins
from ..moments._reading import with_remainder
from ..moments._remainder import KnownPart, rests
from ..moments._rows import as_outcome, as_weights, check_containers
from ._base import NEW_GROUPS, GroupsNotPassedWarning
from ._checks import check_groups, check_rows, warn_of_peculiar_data
from ._incremental import NO_GROUPS, IncrementalRegressor, ReadAgain
from ._summary import ModelSummary, summarise_model

_CHOICES = {
    "method": ("reml", "ml"),
    "fit_intercept": (True, False),
    "new_groups": NEW_GROUPS,
    "weight_type": ("frequency", "precision"),
}

_COMPONENTS = pd.Index(["group", "residual"])


class RandomInterceptRegressor(IncrementalRegressor):
    """Linear regression with a random intercept for each group: the two-level multilevel model.

    The model for row i of group j is

        y_ij = intercept + x_ij' coef + u_j + e_ij,   u_j ~ N(0, tau2),   e_ij ~ N(0, sigma2),

    R's ``lmer(y ~ x + (1 | group))``. Fitting estimates the fixed effects (the intercept and coefficients) and the two
    variance components by restricted or full maximum likelihood. Predictions for a group seen in fit add its
    empirical-Bayes estimate of u_j, the group's mean residual shrunk towards 0 by its reliability.

    The optimum is global and exact to rounding: both variances may be exactly zero, and no starting value, tolerance or
    iteration limit is needed.

    Parameters
    ----------
    method : {"reml", "ml"}, default="reml"
        Restricted maximum likelihood, whose variances allow for the estimation of the fixed effects, or maximum
        likelihood, which compares models with different fixed effects.
    fit_intercept : bool, default=True
        Whether the model has a fixed intercept. Without it, the fixed part is 0 where x is.
    group_feature : str, int or None, default=None
        Name or position of the column of X that holds the group labels. With it no `groups` argument is needed in `fit`,
        `predict` or `score`, so that pipelines, grid searches and scorers work as they are. The column is no predictor.
        Where `groups` are given as well, they count, and X holds the column all the same.
    new_groups : {"population", "error", "nan"}, default="population"
        What `predict` gives for a group that `fit` has not seen: the fixed part alone (its random effect is 0 on
        average), a ValueError, or NaN. Rows without a label are predicted for the population whatever is chosen.
    weight_type : {"frequency", "precision"}, default="frequency"
        What a row weight w means: w copies of the row, as in scikit-learn (a weight of 0 is no row), or a residual
        variance of sigma2 / w for one row, as in lme4.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_in_,)
        Fixed effects of the columns of X, in units of y per unit of x, in the order of `feature_names_in_`: 0 for the group
        column, which is no predictor, and for a column that depends on those before it.
        `sklearn_mlm.inference.fixed_effects` is a table of them by name, without the group column.
    intercept_ : float
        Fixed intercept, in units of y; 0 without `fit_intercept`.
    variance_components_ : pandas.Series of shape (2,)
        "group" (tau2) and "residual" (sigma2), in units of y squared.
    icc_ : float
        Intraclass correlation tau2 / (tau2 + sigma2), in [0, 1]: the share of the unexplained variance that lies between
        groups, and the correlation of two rows of a group. NaN where both variances are 0.
    random_effects_ : pandas.Series of shape (n_groups,)
        Empirical-Bayes estimate of u_j by group label (conditional mode, BLUP), in units of y.
    groups_ : pandas.Index of shape (n_groups,)
        The group labels, sorted where they can be.
    n_groups_ : int
        Number of groups; 0 where the model was fitted without.
    boundary_ : {"group", "residual"} or None
        The variance component that is exactly 0, if one is: "group" (lme4's singular fit: least squares), or "residual"
        (x and the group determine y).
    log_likelihood_ : float
        Logarithm of the restricted (or full) likelihood at the optimum, with all constants.
    criterion_ : float
        -2 `log_likelihood_`: the "REML criterion at convergence" of lme4, or the deviance.
    aic_, bic_ : float
        Akaike's and Bayes' information criteria, counting fixed effects and both variances.
    cov_fixed_ : ndarray of shape (k, k)
        Covariance of the fixed effects, the intercept first if there is one; 0 for dropped columns. The square roots of
        its diagonal are the standard errors.
    moments_ : GroupedMoments
        All that the model has kept of the data. No rows.
    fit_ : Fit
        Everything that the fit has left, frozen, with the parameters as they were. `sklearn_mlm.inference` reads it.
    n_features_in_ : int
        Number of columns of X in `fit`, the group column included; 0 for ``X=None``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X, where all of them are strings.

    See Also
    --------
    GroupedMoments : The mergeable state that `fit_moments` takes.
    sklearn.linear_model.LinearRegression : The same model without groups.

    Notes
    -----
    Without `groups` and without `group_feature` there is nothing to group by: the model is ordinary least squares and a
    warning says so (`GroupsNotPassedWarning`, since scikit-learn's tools leave groups behind unless told to pass them on).
    Under metadata routing `groups` are requested by `fit`, `predict` and `score`, unless `set_fit_request` and its like say
    otherwise, or a `group_feature` makes them needless.

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

    fit_: Fit
    _effects: np.ndarray

    def __init__(
        self,
        *,
        method: str = "reml",
        fit_intercept: bool = True,
        group_feature: str | int | None = None,
        new_groups: str = "population",
        weight_type: str = "frequency",
    ):
        self.method = method
        self.fit_intercept = fit_intercept
        self.group_feature = group_feature
        self.new_groups = new_groups
        self.weight_type = weight_type

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Estimate the fixed effects, the variance components and the random effects.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors; None (or a frame that holds `group_feature` alone) fits the null model, an intercept and groups.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group label of each row, of any hashable kind; they count for more than `group_feature`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights, read as `weight_type` says.

        Returns
        -------
        self : RandomInterceptRegressor
            The fitted model. If `fit` fails, a model fitted before stays as it was.

        Raises
        ------
        ValueError
            Where values or labels are missing, lengths differ, there is one group, every group is a single row, or there
            are no more rows than fixed effects.
        """
        self._check_parameters()
        with self._unchanged_on_error():
            moments, read_again = self._read(X, y, groups, sample_weight)
            if not has_groups(moments.labels):
                self._warn_of_no_groups(stacklevel=2)
            warn_of_twins(moments.labels[:0], moments.labels, stacklevel=2)
            return self._store(moments, read_again)

    def fit_moments(self, moments: GroupedMoments) -> Self:
        """Fit from moments in place of rows: what they were read from, and in how many parts, makes no difference.

        Parameters
        ----------
        moments : GroupedMoments
            The state of all rows, as `GroupedMoments.from_arrays` and its sums give it.

        Returns
        -------
        self : RandomInterceptRegressor
            The fitted model.

        Raises
        ------
        TypeError
            For anything else than moments.
        ValueError
            Where there is one group, every group is a single row, or there are no more rows than fixed effects.

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
            # Where a column of X is to hold the groups, moments do not say which.
            if self.group_feature is None:
                self.n_features_in_ = moments.n_features
                if moments.feature_names is not None:
                    self.feature_names_in_ = np.array(moments.feature_names, dtype=object)
            warn_of_twins(moments.labels[:0], moments.labels, stacklevel=2)
            return self._store(moments)

    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> Any:
        """Predict the mean outcome of rows in their groups.

        A row of a group known from `fit` gets its fixed part plus the group's empirical-Bayes estimate (the conditional
        prediction), a row of a new group what `new_groups` says, and a row without a label the fixed part alone (the
        population prediction). Where there are no `groups` and no `group_feature`, or ``groups="population"``, every row
        gets the population prediction; the former with a warning, in a model that was fitted with groups.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `fit`; None for a null model fitted so, with `groups` to say for how many rows.
        groups : array-like of shape (n_samples,), "population" or None, default=None
            Group labels; they count for more than `group_feature`. "population" leaves out every group's effect.
        return_std : bool, default=False
            Whether to return the standard deviation of the predicted mean as well. It allows for the fixed effects and
            the random effect (all of tau2 in a new group) but not for the residual, nor for the variance components,
            which are taken as known.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            In units of y.
        std : ndarray of shape (n_samples,)
            Only with `return_std`; in units of y.

        Raises
        ------
        ValueError
            For an unknown group where ``new_groups="error"``, and where lengths differ or values are missing.
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
        y: Any = None,
        groups: Any = None,
        *,
        sample_weight: Any = None,
        ddf: DegreesOfFreedom = "satterthwaite",
    ) -> ModelSummary:
        """Return the summary of the model, as lmer prints it.

        Parameters
        ----------
        X, y, groups : default=None
            The rows of `fit`, for the quantiles of the scaled residuals; the model keeps no rows. Without y there are none.
            Of other rows, the quantiles are theirs, and the rest of the summary is of the rows of `fit` all the same.
        sample_weight : array-like of shape (n_samples,), default=None
            The weights of `fit`. Residuals are multiplied by the roots of precisions, and whole numbers of copies count as
            so many residuals.
        ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
            Degrees of freedom of the tests of fixed effects.

        Returns
        -------
        summary : ModelSummary
            Prints as text, and shows as HTML in a notebook; its tables are attributes: `fixed_effects`,
            `variance_components`, `criteria`, `scaled_residuals`.

        Examples
        --------
        >>> from sklearn_mlm import RandomInterceptRegressor
        >>> from sklearn_mlm.datasets import load_sleepstudy
        >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
        >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
        >>> model.summary(X, y, subject)
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
        check_is_fitted(self)
        scaled = None
        if y is not None:
            check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
            residuals = self._residuals(X, as_outcome(y), groups)
            if sample_weight is not None:
                weights = as_weights(sample_weight, len(residuals))
                residuals = weighted_residuals(residuals, weights, self.fit_.options.weight_type)
            sigma = float(np.sqrt(self.fit_.residual_variance))
            scaled = residuals / sigma if sigma > 0 else None
        return summarise_model(self, scaled, ddf)

    def criterion(self, variance_ratio: Any) -> Any:
        """Return the criterion at variance ratios tau2 / sigma2, with every other parameter at its optimum.

        Parameters
        ----------
        variance_ratio : float or array-like of shape (n_ratios,)
            At least 0.

        Returns
        -------
        criterion : float or ndarray of shape (n_ratios,)
            -2 (restricted) log-likelihood with all constants; its minimum is `criterion_`.

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
            raise ValueError(f"variance_ratio must be one or several numbers of at least 0; found {variance_ratio!r}.")
        values = self.fit_.criterion().evaluate(ratios)[0]
        return values if ratios.ndim else float(values[0])

    @cached_property
    def variance_components_(self) -> pd.Series:
        """Variance of the groups and of the residuals."""
        variances = np.array([self.fit_.group_variance, self.fit_.residual_variance])
        return pd.Series(variances, index=_COMPONENTS, name="variance")

    @cached_property
    def random_effects_(self) -> pd.Series:
        """Empirical-Bayes estimates by group label."""
        return pd.Series(self._effects, index=self.groups_, name="random_effect")

    # ---- what the methods above are made of

    def _residuals(self, X: Any, y: np.ndarray, groups: Any) -> np.ndarray:
        """Return y less its prediction, to the digits of what the slopes leave of y where they explain nearly all of it."""
        X, codes = self.locate(X, groups)
        fit = self.fit_
        if fit.moments.remainder is None or X is None:
            return y - self._mean(X, codes, self._effects)
        moments, slopes = fit.moments.about_slopes()
        change = fit.solution.rest_coefficients
        explained = X @ change - moments.center[:-1] @ change
        effects = np.append(self._effects, [0.0, 0.0])[codes]
        return rests(X, y, KnownPart(slopes, moments.center[-1])) - explained + fit.left_at_center - effects

    def _warn_of_no_groups(self, stacklevel: int) -> None:
        """Warn that there is nothing to group by."""
        warnings.warn(NO_GROUPS, GroupsNotPassedWarning, stacklevel=stacklevel + 1)

    def _check_parameters(self) -> None:
        """Raise for a parameter outside its choices."""
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        self._check_group_feature()

    def _read(
        self, X: Any, y: Any, groups: Any, sample_weight: Any, *, reset: bool = True, min_rows: int = 1
    ) -> tuple[GroupedMoments, ReadAgain]:
        """Return the moments of rows, and what reads the rows again. Only this depends on where the rows are."""
        rows = self._check_rows(X, y, groups, sample_weight, reset=reset, min_rows=min_rows)
        return moments_of(rows), lambda moments, known: with_remainder(moments, known, rows)

    def _store(self, moments: GroupedMoments, read_again: ReadAgain | None = None) -> Self:
        """Solve for moments and set the fitted attributes; without `read_again` there are no rows to read again."""
        grouped = has_groups(moments.labels)
        options = Options(self.method, bool(self.fit_intercept), self.weight_type)
        check_groups(moments, grouped, options.weight_type, _IF_DROPPED if isinstance(self._group_key, Integral) else "")
        criterion = options.criterion(moments)
        check_rows(criterion, grouped)
        for _ in range(READINGS):
            known = criterion.known_part()
            if read_again is None or known is None:
                break
            moments = read_again(moments, known)
            criterion = options.criterion(moments)
        fit = fit_of_criterion(criterion, options, grouped=grouped)
        self._set_estimates(fit)
        self._set_random_effects(fit)
        warn_of_peculiar_data(criterion, fit.identified)
        return self

    def _set_estimates(self, fit: Fit) -> None:
        """Set the estimates of the fixed effects and the variances, and what the likelihood says of them."""
        self.__dict__.pop("variance_components_", None)
        self._set_coefficients(fit.slopes)
        self.intercept_, self.cov_fixed_ = fit.intercept, fit.covariance
        self.icc_, self.boundary_ = fit.icc, fit.boundary
        self.criterion_, self.log_likelihood_ = fit.solution.value, -0.5 * fit.solution.value
        self.aic_, self.bic_ = fit.aic, fit.bic

    def _set_random_effects(self, fit: Fit) -> None:
        """Set the fit, its groups and the effect of each."""
        self.__dict__.pop("random_effects_", None)
        self.fit_, self.moments_ = fit, fit.known
        self.groups_, self.n_groups_, self._effects = fit.labels, len(fit.labels), fit.random_effects


def weighted_residuals(residuals: np.ndarray, weights: np.ndarray, weight_type: str) -> np.ndarray:
    """Return residuals of equal variance: one for each row of a precision, or for each copy of a row."""
    if weight_type == "precision":
        return residuals * np.sqrt(weights)
    whole = np.array_equal(weights, np.floor(weights))
    return np.repeat(residuals, weights.astype(np.intp)) if whole else residuals


_IF_DROPPED = (
    " A selector that drops columns, such as RFE, drops the group column first unless it is given "
    "importance_getter=sklearn_mlm.model_selection.coefficient_importances."
)
