"""`FormulaRegressor`: the estimator whose columns a formula in lmer's notation names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self, get_args, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from .._inputs import check_choice, warn_caller
from .._typing import DegreesOfFreedom, Method, NewGroups, Solver, WeightType
from ..inference._estimability import rows_not_estimable
from ..likelihood._random_terms import RandomTerm
from ..models._base import POPULATION
from ..models._incremental import fit_checked_rows, scaled_residuals_of
from ..models._mixed_effects import MixedEffectsRegressor
from ..models._pooled_ols import PooledOLS
from ..models._random_intercept import RandomInterceptRegressor
from ..models._rows_in_memory import scaled_quantiles, weighted_residuals
from ..models._summary import ModelSummary, summarise_model
from ..moments._cells import RowsInCells
from ..moments._labels import any_unseen
from ..moments._rows import GroupedRows, as_outcome, as_weights
from ._columns import columns_of, frame_of, length_of
from ._design import Design
from ._frame_regressor import FrameRegressor
from ._parsing import ParsedFormula
from ._rows_of_fit import MissingRows, gaps_of, missing_in, parsed_formula, refuse_missing, rows_of_fit

_CHOICES: dict[str, tuple[str | bool, ...]] = {
    "method": get_args(Method),
    "new_groups": get_args(NewGroups),
    "weight_type": get_args(WeightType),
    "solver": get_args(Solver),
    "na_action": get_args(MissingRows),
}
_MeanAndStd = tuple[np.ndarray, np.ndarray]


class FormulaRegressor(FrameRegressor):
    """Linear mixed model of the columns that a formula in the notation of R's lmer names.

    ``FormulaRegressor("score ~ machine + (1 | worker)").fit(data)`` is ``lmer(score ~ machine + (1 | worker), data)``: text
    and categories become columns as in R, with R's names and in R's order, and the functions of `sklearn_mlm.inference` know
    which columns belong to one term. `fit` takes a data frame, and so does `predict`; what a transformation has learnt in
    `fit`, such as the mean that ``scale`` subtracts, holds for new rows. The model is a `RandomInterceptRegressor` if the
    random part is one intercept, and otherwise a `MixedEffectsRegressor`.

    Parameters
    ----------
    formula : str
        The formula: the outcome, "~", and terms joined by "+". It has

        - columns of numbers, truth values (one column, FALSE is the reference), text and categories (factors), with names
          between backticks if they are not plain words; "." is all columns without another part in the model;
        - ``a:b``, ``a * b``, ``a / b``, ``(a + b + c)^2``, ``- a``, and ``0 +`` or ``- 1`` for a model without intercept;
        - functions: ``log``, ``exp``, ``sqrt``, ``I(x ** 2)`` for arithmetic, ``scale``, ``center``, ``poly(x, 2)``,
          ``bs(x, df=4)`` and other splines of formulaic, those of NumPy such as ``np.log1p``, ``factor(x)``, and
          ``C(f, contr.sum)`` for other contrasts;
        - ``offset(x)``, which is added with the coefficient 1;
        - the random part: ``(1 | g)``, ``(1 + x | g)``, ``(0 + x | g)``, independent coefficients as in ``(1 + x || g)``,
          ``(1 | a:b)`` for groups that are combinations of levels, ``(1 | a/b)`` for b nested in a, and several factors
          joined by ``+``, as in ``(1 | a) + (1 | b)``.

        Without an outcome, as in "~ x + (1 | g)", `fit` takes y.
    method : {"reml", "ml"}, default="reml"
        Restricted or full maximum likelihood.
    contrasts : dict, default=None
        Contrasts of factors by name, such as ``{"machine": "contr.sum"}`` or ``{"machine": "contr.treatment('B')"}``; by
        default, as in R, treatment contrasts, whose reference is the first level, and polynomials for ordered categories.
    na_action : {"drop", "raise"}, default="drop"
        Whether `fit` drops rows with a missing value in a column of the model, as R does, or raises a ValueError. If rows
        are dropped, predictions, intervals and residuals of such rows are NaN.
    new_groups : {"population", "error", "nan"}, default="population"
        How `predict` treats a group that `fit` has not seen: use the fixed part alone, raise a ValueError, or return NaN.
    weight_type : {"frequency", "precision"}, default="frequency"
        Meaning of a row weight w: w copies of the row, as in scikit-learn, or one row with the residual variance sigma2 / w,
        as in lme4.
    solver : {"direct", "iterative"}, default="direct"
        How a model of several grouping factors is computed, as in `MixedEffectsRegressor`.

    Attributes
    ----------
    coef_ : ndarray of shape (n_columns,)
        Fixed effects of the columns of the model matrix but the intercept.
    coef_names_ : list of str of length n_columns
        Their names, as in R.
    intercept_ : float
        Fixed intercept; 0 in a model without one.
    n_dropped_ : int
        Number of rows that `fit` dropped because a value was missing.
    estimator_ : RandomInterceptRegressor or MixedEffectsRegressor
        The model that was fitted to the columns of the model matrix.
    variance_components_ : pandas.Series
        Variances of the random coefficients, and of the residual.
    covariance_ : dict of str to pandas.DataFrame
        Covariance of the random coefficients by factor.
    random_effects_ : pandas.Series, pandas.DataFrame, or dict of str to pandas.DataFrame
        Empirical-Bayes estimates of the random effects: a series of intercepts, a frame of coefficients, or a frame for each
        of several grouping factors.
    groups_ : pandas.Index of shape (n_groups,)
        The distinct group labels; tuples if the groups are combinations of columns.
    n_groups_ : int
        Number of groups.
    boundary_ : object
        What has no variance, as the model in `estimator_` says it.
    icc_ : float
        Intraclass correlation, if only the intercept varies.
    log_likelihood_, criterion_, aic_, bic_ : float
        Log-likelihood, -2 times it, and information criteria, as in the model in `estimator_`.
    cov_fixed_ : ndarray of shape (k, k)
        Covariance of the fixed effects, the intercept first if there is one.
    fit_ : Fit or MixedEffectsFit
        The fit record, with what the formula says of the columns in its `design`.
    n_features_in_ : int
        Number of columns of the data that the model uses.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of these columns.

    See Also
    --------
    lmer : The same in one call.
    sklearn_mlm.inference.anova : Tests of the terms of the formula.
    sklearn_mlm.inference.estimated_marginal_means : Means of the levels of factors.

    Notes
    -----
    ``(f || g)`` with a factor f is ``(0 + f | g)``: its levels stay correlated, as in lme4, because independent columns
    would depend on which level comes first. Columns of the model matrix have R's names, such as ``lateTRUE`` of the truth
    values in ``late``, but names of columns are never put between backticks.

    ``poly``, ``scale`` and splines learn from the rows without missing values; R's learn from all rows that have a value of
    the column. Functions of a formula are evaluated as Python, so do not fit formulas that strangers send.

    scikit-learn's `check_estimator` passes arrays of numbers, whose columns have no names that a formula could mention.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), "Fitting linear mixed-effects models using lme4", Journal of
    Statistical Software 67(1), section 2, for the notation.

    Examples
    --------
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.formula import FormulaRegressor
    >>> sleepstudy = load_sleepstudy(as_frame=True).frame
    >>> model = FormulaRegressor("reaction ~ days + (1 + days | subject)").fit(sleepstudy)
    >>> model.coef_names_, model.coef_.round(2)
    (['days'], array([10.47]))
    >>> model.predict(sleepstudy[:2]).round(1)
    array([253.7, 273.3])
    """

    def __init__(
        self,
        formula: str,
        *,
        method: Method = "reml",
        contrasts: Mapping[str, Any] | None = None,
        na_action: MissingRows = "drop",
        new_groups: NewGroups = "population",
        weight_type: WeightType = "frequency",
        solver: Solver = "direct",
    ):
        self.formula = formula
        self.method = method
        self.contrasts = contrasts
        self.na_action = na_action
        self.new_groups = new_groups
        self.weight_type = weight_type
        self.solver = solver

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = self.na_action == "drop"
        tags.target_tags.required = False
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there are estimates."""
        return hasattr(self, "fit_")

    def fit(self, data: Any, y: ArrayLike | None = None, sample_weight: str | ArrayLike | None = None) -> Self:
        """Estimate the fixed effects, the variances and the random effects.

        Parameters
        ----------
        data : data frame of shape (n_samples, n_columns)
            A frame of pandas, polars or pyarrow, or a dictionary of columns, with the columns that the formula names.
        y : array-like of shape (n_samples,), default=None
            Outcome; needed if the formula has no left side. If it has one, y must be its values, as in cross-validation.
        sample_weight : str or array-like of shape (n_samples,), default=None
            Row weights, or the name of their column, with the meaning that `weight_type` gives them.

        Returns
        -------
        self : FormulaRegressor
            The fitted model. If `fit` fails, an earlier fit does not change.

        Raises
        ------
        ValueError
            If the formula cannot be read or names something unknown, a factor has one level, the value of a function depends
            on other rows, values are missing and ``na_action="raise"``, or the data do not identify the variances.
        NotImplementedError
            If the random part has several grouping factors.
        TypeError
            If `data` is no data frame.
        ImportError
            If formulaic is not installed.
        """
        return self._fit(data, y, sample_weight, None)

    @overload
    def predict(self, data: Any, groups: str | None = None, return_std: Literal[False] = False) -> np.ndarray: ...
    @overload
    def predict(self, data: Any, groups: str | None = None, *, return_std: Literal[True]) -> _MeanAndStd: ...
    @overload
    def predict(self, data: Any, groups: str | None = None, return_std: bool = False) -> np.ndarray | _MeanAndStd: ...
    def predict(self, data: Any, groups: str | None = None, return_std: bool = False) -> np.ndarray | _MeanAndStd:
        """Predict the mean of rows in their groups; `return_std` adds the standard deviation of that group mean.

        Parameters
        ----------
        data : data frame of shape (n_samples, n_columns)
            Rows, with the columns of the fixed and the random part; the outcome is not needed.
        groups : {"population"} or None, default=None
            None takes the groups from the data: a new group is predicted as `new_groups` specifies, and a row with a missing
            label by the fixed part alone. "population" leaves out the effects of all groups, R's ``re.form = NA``, and needs
            no column of labels.
        return_std : bool, default=False
            Whether to return the standard deviation of the predicted mean too.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            Predicted means, in units of the left side of the formula. NaN for rows with missing values, if the parameter
            `na_action` is "drop", and for cells of factors whose mean the data do not determine.
        std : ndarray of shape (n_samples,)
            Their standard deviations; only if `return_std` is True.

        Raises
        ------
        ValueError
            If a column is missing or a factor of the fixed part has a level that `fit` has not seen.
        """
        check_is_fitted(self)
        data = frame_of(data)
        columns = columns_of(data, self._design.columns)
        complete = ~missing_in(columns, length_of(data))
        if self.na_action == "raise":
            refuse_missing(gaps_of(columns), len(complete), "predict")
        n_samples = len(complete)
        X, codes, offset = self._located(data, columns, np.flatnonzero(complete), groups)
        mean, std = np.full(n_samples, np.nan), np.full(n_samples, np.nan)
        found: np.ndarray = self.fit_.predict(X, codes)
        lost = any_unseen(codes) & (self.new_groups == "nan") | self._lost(X, len(codes))
        mean[complete] = np.where(lost, np.nan, found + offset)
        if not return_std:
            return mean
        variance, _ = self.fit_.prediction_variance(X, codes)
        std[complete] = np.where(lost, np.nan, np.sqrt(variance))
        return mean, std

    def score(self, data: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> float:  # type: ignore[override]
        """Return the coefficient of determination R^2 of the predictions, over the rows without missing values.

        Parameters
        ----------
        data : data frame of shape (n_samples, n_columns)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Outcome; None takes the left side of the formula.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        score : float
            R^2, at most 1.
        """
        check_is_fitted(self)
        y = self.outcome(data) if y is None else as_outcome(y)
        if y is None:
            raise ValueError("y is None, and the formula has no left side, or data lack its columns: pass y.")
        predicted = self.predict(data)
        known = np.isfinite(predicted) & ~np.isnan(y)
        weights = None if sample_weight is None else as_weights(sample_weight, len(y))[known]
        return float(r2_score(y[known], predicted[known], sample_weight=weights))

    def summary(
        self,
        data: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        ddf: DegreesOfFreedom = "satterthwaite",
    ) -> ModelSummary:
        """Return a summary of the model like that of lmer, with the formula and the levels of the factors.

        Parameters
        ----------
        data : data frame of shape (n_samples, n_columns), default=None
            The rows of `fit`, whose scaled residuals are summarised; `fit` keeps these of at most 10,000 rows.
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
        >>> from sklearn_mlm.datasets import load_dyestuff
        >>> from sklearn_mlm.formula import FormulaRegressor
        >>> dyestuff = load_dyestuff(as_frame=True).frame
        >>> summary = FormulaRegressor("yield ~ 1 + (1 | batch)").fit(dyestuff).summary()
        >>> summary.formula, summary.variance_components.round(1)["variance"].tolist()
        ('Formula yield ~ 1 + (1 | batch)', [1764.0, 2451.2])
        """
        check_is_fitted(self)
        scaled = None
        if data is not None:
            data = frame_of(data)
            columns = columns_of(data, self._design.columns)
            y = self.outcome(data)
            if y is None:
                raise ValueError("data lack the columns of the left side of the formula.")
            complete = np.flatnonzero(~missing_in(columns, len(y)) & ~np.isnan(y))
            X, codes, offset = self._located(data, columns, complete, None)
            residuals = self.fit_.residuals(X, codes, y[complete] - offset)
            if sample_weight is not None:
                weights = as_weights(sample_weight, len(y))[complete]
                residuals = weighted_residuals(residuals, weights, self.fit_.options.weight_type)
            scaled = scaled_quantiles(residuals, self.fit_)
        return summarise_model(self, scaled_residuals_of(self.estimator_) if scaled is None else scaled, ddf)

    # ---- parts of the methods above

    def _fit(self, data: Any, y: Any, sample_weight: Any, data_name: str | None) -> Self:
        """Fit to data whose name the summary shows."""
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        parsed = parsed_formula(self.formula, data, y, sample_weight)
        _check_random_part(parsed)
        design, rows = rows_of_fit(
            parsed,
            data,
            y,
            sample_weight,
            na_action=self.na_action,
            copies=self.weight_type == "frequency",
            contrasts=self.contrasts,
            data_name=data_name,
        )
        try:
            estimator = self._fit_design(design, rows)
        except ValueError as error:
            error.add_note(
                f"The groups are {design.factors_in_words} of the data, and X is the model matrix of {self.formula!r}."
            )
            raise
        return self._keep(estimator, design)

    def _fit_design(
        self, design: Design, rows: GroupedRows | RowsInCells
    ) -> RandomInterceptRegressor | MixedEffectsRegressor:
        """Return the estimator that suits the random part, fitted."""
        if self.method == "reml":
            _refuse_means_of_groups(design)
        options: dict[str, Any] = {
            "method": self.method,
            "fit_intercept": design.fixed.intercept,
            "new_groups": self.new_groups,
            "weight_type": self.weight_type,
        }
        terms = design.random_terms
        if len(terms) == 1 and terms[0] == RandomTerm(terms[0].factor, True, ()):
            estimator: Any = RandomInterceptRegressor(**options)
        else:
            estimator = MixedEffectsRegressor(random_effects=" + ".join(map(str, terms)), solver=self.solver, **options)
        fit_checked_rows(estimator, rows, len(design.random_only))
        fitted: RandomInterceptRegressor | MixedEffectsRegressor = estimator
        return fitted

    def without_groups(self) -> FormulaRegressor:
        """Return an unfitted model of the same formula without random effects: least squares, for comparisons.

        Returns
        -------
        model : FormulaRegressor
            The unfitted model, whose predictions are those of the fixed part.
        """
        return PooledFormulaOLS(**self.get_params())

    def _lost(self, X: Any, n_rows: int) -> np.ndarray:
        """Return which rows have a mean that the data do not determine, with a warning if there are some."""
        lost = rows_not_estimable(self.fit_, X, n_rows)
        if lost.any():
            warn_caller(
                f"{np.count_nonzero(lost)} row(s) are predicted as NaN: they combine levels or values of which the rows of "
                "fit have none, so that their mean cannot be estimated."
            )
        return lost

    def _keep(self, estimator: Any, design: Design) -> Self:
        """Set the fitted attributes."""
        self.estimator_ = estimator
        self.fit_ = replace(estimator.fit_, design=design)
        self.coef_, self.intercept_ = estimator.coef_, estimator.intercept_
        self.coef_names_ = list(design.fixed.names)
        self.n_dropped_ = design.n_dropped
        for name in ("groups_", "n_groups_", "boundary_", "log_likelihood_", "criterion_", "aic_", "bic_", "cov_fixed_"):
            setattr(self, name, getattr(estimator, name))
        used = dict.fromkeys((*design.columns, *design.factor))
        self.feature_names_in_, self.n_features_in_ = np.array(list(used), dtype=object), len(used)
        return self


class PooledFormulaOLS(FormulaRegressor):
    """The fixed part of a formula, fitted by least squares to the rows that the whole formula would use."""

    def _fit_design(self, design: Design, rows: GroupedRows | RowsInCells) -> Any:
        """Return the estimator, fitted to the columns with fixed effects."""
        n_fixed = len(design.fixed.names)
        rows = rows.rows if isinstance(rows, RowsInCells) else rows
        X = None if rows.X is None or not n_fixed else rows.X[:, :n_fixed]
        names = (rows.feature_names or ())[:n_fixed]
        estimator = PooledOLS(fit_intercept=design.fixed.intercept, weight_type=self.weight_type)
        fit_checked_rows(estimator, replace(rows, X=X, feature_names=names).without_groups())
        return estimator

    def predict(self, data: Any, groups: Any = None, return_std: bool = False) -> Any:
        """Predict the fixed part."""
        return super().predict(data, POPULATION, return_std)


def _check_random_part(parsed: ParsedFormula) -> None:
    """Raise if a model with the random part does not exist."""
    text = parsed.text
    if not parsed.random:
        raise text.error(
            "there is no random term such as (1 | group): without groups, ClusterRobustOLS or scikit-learn's "
            "LinearRegression fit the model",
            len(text.text.rstrip()),
        )


def _refuse_means_of_groups(design: Design) -> None:
    """Raise if the fixed part gives each group a mean of its own, so that nothing tells the variance of intercepts."""
    with_intercept = {term.factor for term in design.random_terms if term.intercept}
    for term in design.fixed.terms:
        columns = {name for variable in term.variables for name in variable.columns}
        if any(not variable.is_factor or variable.computed for variable in term.variables):
            continue
        for grouping in design.groupings:
            if set(grouping) <= columns and ":".join(grouping) in with_intercept:
                raise ValueError(
                    f"{term.label} is in the fixed part of {design.formula!r} and gives each of the groups of "
                    f"{':'.join(grouping)} a mean of its own: nothing is left to tell the variance of their random "
                    "intercepts, on which the restricted likelihood does not depend. Leave out one of the two."
                )


def fit_named(model: FormulaRegressor, data: Any, weights: Any, data_name: str | None) -> FormulaRegressor:
    """Fit a model to data whose name its summary shows; errors call the weights as lmer does."""
    try:
        return model._fit(data, None, weights, data_name)
    except ValueError as error:
        text = str(error)
        if weights is not None and text.startswith("sample_weight "):
            error.args = (f"weights {text.removeprefix('sample_weight ')}",)
        raise
