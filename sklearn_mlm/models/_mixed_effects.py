"""`MixedEffectsRegressor`: parameters, validation and fitted attributes."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, Self, get_args, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from .._inputs import check_choice
from .._typing import CovarianceStructure, DegreesOfFreedom, Method, NewGroups, Solver, WeightType
from ..likelihood._factor_fit import FactorFit
from ..likelihood._mixed_fits import fit_of_mixed_criterion
from ..likelihood._options import MixedOptions
from ..likelihood._random_terms import RandomTerm
from ..likelihood._second_reading import criterion_of_rest
from ..moments._cell_scatter import CellScatter
from ..moments._cells import RowsInCells
from ..moments._grouped_scatter import GroupedScatter, scatter_of
from ..moments._labels import any_unseen, has_groups
from ..moments._rows import GroupedRows
from ._base import NEW_GROUPS
from ._checks import check_maximum, check_mixed, warn_of_peculiar_mixed_data
from ._effect_frames import covariance_frame, effects_frame, of_factors
from ._factor_checks import check_some_cells
from ._factor_regressor import FactorRegressor
from ._incremental import ReadAgain
from ._label_checks import warn_of_peculiar_labels
from ._label_columns import label_columns
from ._rows_in_memory import RowsInMemory
from ._summary import ModelSummary

_CHOICES: dict[str, tuple[str | bool, ...]] = {
    "covariance": get_args(CovarianceStructure),
    "method": get_args(Method),
    "fit_intercept": (True, False),
    "new_groups": NEW_GROUPS,
    "weight_type": get_args(WeightType),
    "solver": get_args(Solver),
}
_MeanAndStd = tuple[np.ndarray, np.ndarray]


class MixedEffectsRegressor(FactorRegressor):
    """Linear regression whose intercept and slopes vary between groups: the linear mixed model of one or several factors.

    The model for the rows of group j is::

        y_j = X_j beta + Z_j b_j + e_j,   b_j ~ N(0, Sigma),   e_j ~ N(0, sigma2 I),

    where the columns of Z_j are those whose coefficients vary: the intercept, and any columns of X. With
    ``random_effects="(1 + days | subject)"`` it is ``lmer(y ~ days + (1 + days | subject))`` in R. `fit` estimates the fixed
    effects, the covariance Sigma of the random coefficients and the residual variance by restricted or full maximum
    likelihood. A prediction for a group that `fit` has seen adds the empirical-Bayes estimates of its coefficients, which
    are shrunk towards 0 the more, the less its rows say of them.

    Rows may belong to several grouping factors, each with random coefficients of its own: nested ones, as classes in schools
    (``"(1 | school/class)"``), and crossed ones, as subjects and items (``"(1 | subject) + (1 | item)"``). `groups` is then
    a frame with their columns of labels.

    The optimum is exact to rounding, its boundary included: a correlation of exactly 1 and a variance of exactly 0 are
    ordinary answers, which `boundary_` reports. What the data cannot identify is refused.

    Parameters
    ----------
    random_effects : str or None, default=None
        The random part of the model in lmer's notation, such as "(1 + x | group)": the intercept and the slope of x vary
        between groups. "(0 + x | group)" leaves out the intercept, "(1 + x || group)" makes the coefficients independent,
        and terms can be joined by "+". Columns are named as in X (an array has x0, x1, ...); a column that is only in
        `groups`, if that is a frame, has random coefficients but no fixed effect. The factor is the name of the column of
        `groups`, or of X, that holds the labels; if `groups` is an array, any name does. "a:b" is the factor of combinations
        of labels of two columns, and "(1 | a/b)" stands for "(1 | a) + (1 | a:b)". None is an intercept for each group, or
        for each column of `groups` if that is a frame of several.
    covariance : {"full", "diagonal"}, default="full"
        Whether the coefficients of a term are correlated; "diagonal" is "||" in each term.
    method : {"reml", "ml"}, default="reml"
        Restricted maximum likelihood, which allows for the estimation of the fixed effects in the variances, or maximum
        likelihood, which can compare models with different fixed effects.
    fit_intercept : bool, default=True
        Whether the model has a fixed intercept.
    new_groups : {"population", "error", "nan"}, default="population"
        How `predict` treats a group that `fit` has not seen: use the fixed part alone, raise a ValueError, or return NaN. A
        row without a label always gets the population prediction.
    weight_type : {"frequency", "precision"}, default="frequency"
        Meaning of a row weight w: w copies of the row, as in scikit-learn, or one row with the residual variance sigma2 / w,
        as in lme4.
    solver : {"direct", "iterative"}, default="direct"
        How a model of several grouping factors is computed. "direct" is exact. "iterative" is for crossed factors of many
        levels, and approximate: the variances and the likelihood have random errors, which ``fit_.approximation_errors``
        states. They are small beside the standard errors. The sd of random effects, not that of predictions, is a few
        percent too small: it takes the effects of other levels for known.

    Attributes
    ----------
    coef_ : ndarray of shape (`n_features_in_`,)
        Fixed effects of the columns of X, in units of y per unit of x; 0 for the column of labels, if X has it, and for a
        column that depends on the columns before it.
    intercept_ : float
        Fixed intercept, in units of y; 0 without `fit_intercept`.
    covariance_ : dict of str to pandas.DataFrame
        Covariance Sigma of the random coefficients by the name of the factor: variances and covariances of the coefficients,
        which are 0 between independent ones. The slope of x has the unit of y per unit of x.
    variance_components_ : pandas.Series
        The variance of each random coefficient, such as "subject days", and last that of the "residual".
    random_effects_ : pandas.DataFrame of shape (n_groups, n_random), or dict of str to pandas.DataFrame
        Empirical-Bayes estimates of the coefficients b_j (conditional modes, BLUPs): a row for each group and a column for
        each coefficient. With several factors, a frame for each.
    icc_ : float
        Intraclass correlation, if only the intercept varies. With slopes it depends on x, and with several factors there is
        a share for each: see `sklearn_mlm.inference.icc`.
    groups_ : pandas.Index of shape (n_groups,), or dict of str to pandas.Index
        The distinct group labels, sorted if they can be compared; with several factors, those of each.
    n_groups_ : int, or dict of str to int
        Number of groups; 0 if the model was fitted without groups. With several factors, the number of levels of each.
    boundary_ : dict of str to pandas.DataFrame, "residual" or None
        None if Sigma has full rank. Otherwise, by the name of the factor, the directions without variance: combinations of
        the random coefficients that do not vary (what lme4 calls a singular fit). "residual" if the residual variance is 0.
    log_likelihood_ : float
        Logarithm of the restricted (or full) likelihood at the optimum, with all constants.
    criterion_ : float
        -2 `log_likelihood_`: the "REML criterion at convergence" of lme4, or the deviance.
    aic_, bic_ : float
        Akaike's and the Bayesian information criterion, which count the fixed effects, variances and covariances.
    cov_fixed_ : ndarray of shape (k, k)
        Covariance of the fixed effects, the intercept first if there is one; 0 for dropped columns.
    moments_ : GroupedScatter or CellScatter
        The record of the data. The model keeps no rows.
    fit_ : MixedEffectsFit or FactorFit
        The fit record, which stores all results together with the parameters in `fit`. `sklearn_mlm.inference` reads it. Its
        `optimum` tells what the search for the optimum has tried.
    n_features_in_ : int
        Number of columns of X in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if all of them are strings.

    See Also
    --------
    RandomInterceptRegressor : The same model if only the intercept varies, for any number of rows and of groups.
    GroupedScatter : The mergeable record that `fit_moments` takes.
    CellScatter : The same for several grouping factors.

    References
    ----------
    N. M. Laird and J. H. Ware (1982), "Random-effects models for longitudinal data", Biometrics 38(4), 963-974.

    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), "Fitting linear mixed-effects models using lme4", Journal of
    Statistical Software 67(1).

    Examples
    --------
    >>> from sklearn_mlm import MixedEffectsRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject)
    >>> model.covariance_["subject"].round(2)
                 (Intercept)   days
    (Intercept)       612.09   9.60
    days                9.60  35.07
    >>> model.random_effects_.head(2).round(2)
             (Intercept)  days
    subject
    308             2.26  9.20
    309           -40.40 -8.62
    >>> model.predict(X[:2], groups=[308, 999]).round(1)
    array([253.7, 261.9])

    Two crossed factors, of which the labels are two columns:

    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> groups = pd.DataFrame({"rater": np.repeat(np.arange(12), 8), "film": np.tile(np.arange(8), 12)})
    >>> rating = 3 + rng.standard_normal(12)[groups["rater"]] + 2 * rng.standard_normal(8)[groups["film"]]
    >>> model = MixedEffectsRegressor().fit(None, rating + rng.standard_normal(96), groups=groups)
    >>> model.variance_components_.round(2)
    rater (Intercept)    0.67
    film (Intercept)     4.35
    residual             0.93
    Name: variance, dtype: float64
    """

    def __init__(
        self,
        *,
        random_effects: str | None = None,
        covariance: CovarianceStructure = "full",
        method: Method = "reml",
        fit_intercept: bool = True,
        new_groups: NewGroups = "population",
        weight_type: WeightType = "frequency",
        solver: Solver = "direct",
    ):
        self.random_effects = random_effects
        self.covariance = covariance
        self.method = method
        self.fit_intercept = fit_intercept
        self.new_groups = new_groups
        self.weight_type = weight_type
        self.solver = solver

    def fit(self, X: Any, y: ArrayLike, groups: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Estimate the fixed effects, the covariance of the random coefficients, and these coefficients.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, and possibly the column of group labels. None fits an intercept alone.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,) or data frame, default=None
            Group label of each row, or a frame with the columns of labels that `random_effects` names. They take precedence
            over columns of X.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights, with the meaning that `weight_type` gives them.

        Returns
        -------
        self : MixedEffectsRegressor
            The fitted model. If `fit` fails, an earlier fit does not change.

        Raises
        ------
        ValueError
            If values or labels are missing, lengths differ, `random_effects` cannot be understood or names no column, or the
            data do not identify the variances.
        """
        return self._fit_rows(X, y, groups, sample_weight)

    def fit_moments(self, moments: GroupedScatter) -> Self:
        """Fit from a record instead of rows; its source, and the number of parts it was read in, make no difference.

        Parameters
        ----------
        moments : GroupedScatter or CellScatter
            The record of all rows, such as `GroupedScatter.from_arrays` returns, or a sum of records; a `CellScatter` for
            several grouping factors.

        Returns
        -------
        self : MixedEffectsRegressor
            The fitted model.

        Raises
        ------
        TypeError
            If `moments` is neither a `GroupedScatter` nor a `CellScatter`.
        ValueError
            If the record lacks a slope that `random_effects` names, or does not identify the variances.
        """
        self._check_parameters()
        if not isinstance(moments, GroupedScatter | CellScatter):
            raise TypeError(
                "moments must be a GroupedScatter, or a CellScatter for several grouping factors; found "
                f"{type(moments).__name__}. To fit rows, call fit(X, y, groups)."
            )
        with self._unchanged_on_error():
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
            self._group_key, self._group_position, self._more = None, None, ()
            terms = self._terms_of_record(moments)
            self._factor, self._label_columns = terms[0].factor, label_columns(terms)
            self._random = frozenset(name for term in terms for name in term.columns)
            self.n_features_in_ = moments.n_features
            names = moments.moments.feature_names
            if names is not None:
                self.feature_names_in_ = np.array(names, dtype=object)
            self._warn_of_twins(None, moments)
            return self._store(moments)

    @overload
    def predict(self, X: Any, groups: Any = None, return_std: Literal[False] = False) -> np.ndarray: ...
    @overload
    def predict(self, X: Any, groups: Any = None, *, return_std: Literal[True]) -> _MeanAndStd: ...
    @overload
    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> np.ndarray | _MeanAndStd: ...
    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> np.ndarray | _MeanAndStd:
        """Predict the mean of rows in their groups; `return_std` adds the standard deviation of that group mean.

        A row of a group that `fit` has seen gets its fixed part plus the group's empirical-Bayes estimates. A row of a new
        group gets what `new_groups` specifies. A row without a label gets the fixed part alone, and so does every row if
        ``groups="population"`` or if there are no groups. With several factors this holds for each: a new class of a known
        school has the effect of the school.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `fit`.
        groups : array-like of shape (n_samples,), data frame, "population" or None, default=None
            Group labels, or a frame with the column of labels, as in `fit`.
        return_std : bool, default=False
            Whether to return the standard deviation of the predicted mean of the row's group too. It allows for errors of
            the fixed effects and of the random coefficients (all of z' Sigma z in a new group, which grows with x). It
            includes neither the residual of a single row nor the estimation of the variances;
            `sklearn_mlm.inference.predict_interval` has intervals that do.

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
        mean: np.ndarray = self.fit_.predict(X, codes)
        if self.new_groups == "nan":
            mean[any_unseen(codes)] = np.nan
        if not return_std:
            return mean
        variance, _ = self.fit_.prediction_variance(X, codes)
        return mean, np.where(np.isnan(mean), np.nan, np.sqrt(variance))

    def summary(
        self,
        X: Any = None,
        y: ArrayLike | None = None,
        groups: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        ddf: DegreesOfFreedom = "satterthwaite",
    ) -> ModelSummary:
        """Return a summary of the model like that of lmer.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None, default=None
            Predictors of the rows whose scaled residuals are summarised. `fit` keeps the quantiles of its residuals if there
            are at most 10,000 rows. With more rows, or after `fit_moments` or `partial_fit`, pass the rows of `fit`.
        y : array-like of shape (n_samples,), default=None
            Outcome of these rows.
        groups : array-like of shape (n_samples,) or data frame, default=None
            Group labels of these rows.
        sample_weight : array-like of shape (n_samples,), default=None
            The weights of `fit`.
        ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
            Degrees of freedom of the tests of fixed effects.

        Returns
        -------
        summary : ModelSummary
            The summary, which prints as text and is displayed as HTML in a notebook.

        Examples
        --------
        >>> from sklearn_mlm import MixedEffectsRegressor
        >>> from sklearn_mlm.datasets import load_sleepstudy
        >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
        >>> model = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject)
        >>> model.summary()
        Mixed-effects model fitted by REML
        REML criterion at convergence 1743.6, log-likelihood -871.81 (6 parameters), AIC 1755.6, BIC 1774.8
        Number of observations 180, groups (subject) 18
        <BLANKLINE>
        Scaled residuals
              Min       1Q  Median      3Q     Max
          -3.9536  -0.4634  0.0231  0.4634  5.1793
        <BLANKLINE>
        Variance components
                               variance  std. dev.  corr.
        subject   (Intercept)     612.1      24.74
                  days            35.07      5.922  0.066
        residual                  654.9      25.59
        Intraclass correlation 0.722, averaged over the rows
        <BLANKLINE>
        Fixed effects (Satterthwaite's degrees of freedom)
                     estimate  std. error  df      t  p-value
        (Intercept)   251.405       6.825  17  36.84   <0.001  ***
        days           10.467       1.546  17   6.77   <0.001  ***
        p < 0.001 ***, < 0.01 **, < 0.05 *, < 0.1 .
        """
        return self._summary_of_rows(X, y, groups, sample_weight, ddf)

    @cached_property
    def variance_components_(self) -> pd.Series:
        """Variance of each random coefficient, and of the residual."""
        check_is_fitted(self)
        fit = self.fit_
        names = [f"{term.factor} {name}" for term in fit.options.terms for name in term.coefficients]
        values = np.append(fit.random_covariance.diagonal(), fit.residual_variance)
        return pd.Series(values, index=[*names, "residual"], name="variance")

    @cached_property
    def covariance_(self) -> dict[str, pd.DataFrame]:
        """Covariance of the random coefficients by factor."""
        check_is_fitted(self)
        return {fit.group_name: covariance_frame(fit) for fit in of_factors(self.fit_)}

    @cached_property
    def random_effects_(self) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Empirical-Bayes estimates of the random coefficients by group label, and by factor if there are several."""
        check_is_fitted(self)
        if isinstance(self.fit_, FactorFit):
            return {name: effects_frame(view) for name, view in self.fit_.factors.items()}
        return effects_frame(self.fit_)

    @property
    def icc_(self) -> float:
        """Intraclass correlation, if only the intercept varies."""
        check_is_fitted(self)
        icc: float | None = self.fit_.icc
        if icc is None and isinstance(self.fit_, FactorFit):
            raise AttributeError(
                "icc_ is one number only if there is one grouping factor: sklearn_mlm.inference.icc(model) returns the "
                "share of each of several factors in the variance."
            )
        if icc is None:
            raise AttributeError(
                "icc_ is one number only if the intercept alone varies. With random slopes the intraclass correlation "
                "depends on x: sklearn_mlm.inference.icc(model, X=X) returns it for each row."
            )
        return icc

    # ---- parts of the methods above

    def _check_parameters(self) -> None:
        """Raise a ValueError for a parameter that is not one of its choices."""
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        self._terms()

    def _read(
        self, X: Any, y: Any, groups: Any, sample_weight: Any, *, reset: bool = True, min_rows: int = 1
    ) -> tuple[GroupedScatter | CellScatter, ReadAgain]:
        """Return the record of rows, and a function that reads them again."""
        rows = self._check_rows(X, y, groups, sample_weight, reset=reset, min_rows=min_rows)
        return self._record(rows), RowsInMemory(rows)

    def _record(self, rows: GroupedRows | RowsInCells) -> GroupedScatter | CellScatter:
        """Return the record of checked rows."""
        X = rows.rows.X if isinstance(rows, RowsInCells) else rows.X
        names = rows.feature_names or tuple(f"x{at}" for at in range(0 if X is None else X.shape[1]))
        slopes = tuple(at for at, name in enumerate(names) if name in self._random)
        return CellScatter.from_rows(rows, slopes) if isinstance(rows, RowsInCells) else scatter_of(rows, slopes)

    def _store(self, moments: GroupedScatter | CellScatter, read_again: ReadAgain | None = None) -> Self:
        """Fit to a record and set the fitted attributes; without `read_again` there are no rows to read again."""
        scatter = moments
        if isinstance(scatter, CellScatter):
            check_some_cells(scatter.cells)
        grouped = has_groups(scatter.labels)
        options = self._options(scatter)
        criterion = options.criterion(scatter)
        if read_again is not None:
            criterion = criterion_of_rest(criterion, scatter, options, read_again)
        check_mixed(criterion, options, grouped)
        fit = fit_of_mixed_criterion(criterion, options, grouped=grouped)
        check_maximum(fit)
        self._scaled_residuals = None
        for name in ("variance_components_", "covariance_"):
            self.__dict__.pop(name, None)
        self._set_coefficients(fit.slopes)
        self.intercept_, self.cov_fixed_, self.boundary_ = fit.intercept, fit.covariance, fit.boundary
        self.criterion_, self.log_likelihood_ = fit.value, -0.5 * fit.value
        self.aic_, self.bic_ = fit.aic, fit.bic
        self._set_random_effects(fit)
        warn_of_peculiar_mixed_data(fit, self._of_formula)
        if grouped and isinstance(scatter, GroupedScatter):
            warn_of_peculiar_labels(scatter.moments, self._group_key)
        return self

    def _terms_of_record(self, scatter: GroupedScatter | CellScatter) -> list[RandomTerm]:
        """Return the random terms; without `random_effects`, an intercept for each column of labels of a record."""
        if self.random_effects is not None:
            terms = self._terms()
            known = scatter.cells.names if isinstance(scatter, CellScatter) else label_columns(terms)
            for name in label_columns(terms):
                if name not in known:
                    raise ValueError(
                        f"random_effects names the column of labels {name!r}, which the record does not have (it has "
                        f"{', '.join(map(repr, known))})."
                    )
            return terms
        names = scatter.cells.names if isinstance(scatter, CellScatter) else (str(scatter.labels.name or "group"),)
        return [RandomTerm(name, True, ()) for name in names]

    def _options(self, scatter: GroupedScatter | CellScatter) -> MixedOptions:
        """Return the parameters of the model, with the blocks of correlated coefficients."""
        names = scatter.moments.shown_names
        terms = self._terms_of_record(scatter)
        slopes = [names[at] for at in scatter.slopes]
        for name in (name for term in terms for name in term.columns):
            if name not in slopes:
                raise ValueError(
                    f"random_effects names the column {name!r}, which is not among the slopes of the record "
                    f"({', '.join(map(repr, slopes)) or 'none'}). Read the rows with slopes={name!r}."
                )
        blocks = [block for term in terms for block in term.blocks(self.covariance == "full")]
        return MixedOptions(
            tuple(blocks), self.method, bool(self.fit_intercept), self.weight_type, len(self._more), self.solver
        )
