"""From a fitted model to the fit that inference reads."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from numbers import Integral
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from .._typing import FittedModel, FixedDesign, GroupedFit, MixedFit
from ..likelihood._factor_fit import FactorFit
from ..likelihood._fit import Fit
from ..likelihood._least_squares_fit import LeastSquaresFit
from ..likelihood._random_effects_fit import RandomEffectsFit
from ..likelihood._random_terms import INTERCEPT
from ..moments._rows import as_outcome

_GROUPED = "RandomInterceptRegressor or MixedEffectsRegressor (or a model of lmer)"
_NOT_OURS = "{} must be a {}, or a pipeline or search that ends in one; found {}."


class GroupedModel(FittedModel, Protocol):
    """A fitted model that finds the groups of new rows."""

    @property
    def new_groups(self) -> str:
        """What `predict` returns for new groups."""

    def locate(self, X: Any, groups: ArrayLike | None = None) -> tuple[Any, np.ndarray]:
        """Return checked predictors of new rows, and the position of each row's group; negative if it is unknown."""


def last_step(model: Any, X: Any = None) -> tuple[Any, Any]:
    """Return the model at the end of a pipeline or search, and rows as the steps before it transform them.

    Parameters
    ----------
    model : estimator
        A fitted model, or a fitted pipeline or search, at any depth, that ends in one.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None, default=None
        Rows as the pipeline takes them.

    Returns
    -------
    model : estimator
        What `model` ends in.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_predictors), or None
        Rows as that estimator takes them.
    """
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "steps"):
            check_is_fitted(model)
            if X is not None and len(model.steps) > 1:
                X = model[:-1].transform(X)
            model = model[-1]
        else:
            return model, X


def locate_all(model: Any, X: Any, groups: ArrayLike | None) -> tuple[Any, np.ndarray]:
    """Return what `locate` does, also for new groups that `predict` of the model refuses."""
    located: tuple[Any, np.ndarray] = copy(model).set_params(new_groups="population").locate(X, groups)
    return located


def _names_of_columns(model: Any) -> list[str] | None:
    """Return the names of the columns that reach the model at the end of a pipeline; None if they are not known."""
    while hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    if not hasattr(model, "steps") or len(model.steps) < 2:
        return None
    try:
        names = [str(name) for name in model[:-1].get_feature_names_out()]
    except (AttributeError, ValueError, NotFittedError):
        # Not every transformer names its columns.
        return None
    key = getattr(model[-1], "group_feature", None)
    if isinstance(key, Integral):
        del names[int(key)]
    return names


def fit_of(model: FittedModel, name: str = "model", kind: str = "model of this package") -> MixedFit | LeastSquaresFit:
    """Return the fit of a fitted model, or of the one that a pipeline or search ends in.

    Coefficients have the names that the steps of a pipeline give to the columns, even if the steps pass arrays on. Errors
    call the model `name` and ask for a `kind`.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If it is not a model of this package.
    """
    last, _ = last_step(model)
    if not hasattr(last, "fit_"):
        if hasattr(last, "fit"):
            check_is_fitted(last)
        ends = "" if last is model else f" that ends in {type(last).__name__}"
        raise TypeError(_NOT_OURS.format(name, kind, type(model).__name__ + ends))
    fit: MixedFit | LeastSquaresFit = last.fit_
    names = None if last is model or hasattr(last, "feature_names_in_") else _names_of_columns(model)
    if names and isinstance(fit, Fit | RandomEffectsFit):
        # Columns that are only in groups keep their names.
        names = [*names, *fit.moments.shown_names[fit.predictors.n_features :]]
        return fit.renamed(names) if len(names) == fit.moments.n_features else fit
    if names and isinstance(fit, LeastSquaresFit):
        leading = [INTERCEPT] if INTERCEPT in fit.names else []
        return replace(fit, names=[*leading, *names]) if len(leading + names) == len(fit.names) else fit
    return fit


def grouped_fit_of(model: FittedModel, name: str = "model") -> GroupedFit:
    """Return the fit of a fitted model with groups, which can predict; raises as `mixed_fit_of` does."""
    return cast(GroupedFit, mixed_fit_of(model, name))


def factor_fit_of(model: FittedModel, factor: str | None) -> Any:
    """Return the fit of a fitted model or, if it has several grouping factors, what it says of one of them.

    Parameters
    ----------
    model : estimator
        A fitted model.
    factor : str or None
        Name of the factor; None in a model of one factor.

    Returns
    -------
    fit : GroupedFit
        The fit of one factor.

    Raises
    ------
    ValueError
        If the model has no such factor, or several and none is named.
    """
    fit = grouped_fit_of(model)
    if isinstance(fit, FactorFit):
        known = ", ".join(map(repr, fit.factors))
        if factor is None:
            raise ValueError(f"The model has several grouping factors: pass factor, one of {known}.")
        if factor not in fit.factors:
            raise ValueError(f"factor={factor!r} is not a grouping factor of the model, which has {known}.")
        return fit.factors[factor]
    if factor is not None and factor != fit.group_name:
        raise ValueError(f"factor={factor!r} is not a grouping factor of the model, which has {fit.group_name!r}.")
    return fit


def mixed_fit_of(model: FittedModel, name: str = "model") -> MixedFit:
    """Return the fit of a fitted mixed model, which has groups.

    Raises
    ------
    NotFittedError, TypeError
        As in `fit_of`, and a TypeError if the model is one of least squares.
    ValueError
        If the model was fitted without groups.
    """
    fit = fit_of(model, name, _GROUPED)
    if isinstance(fit, LeastSquaresFit):
        raise TypeError(_NOT_OURS.format(name, _GROUPED, type(model).__name__))
    if not getattr(fit, "grouped", True):
        raise ValueError(f"{name} was fitted without groups: there is no group variance. Fit it with groups=...")
    return fit


def design_of(model: Any) -> FixedDesign | None:
    """Return what a formula says of the columns of a model, which may end a pipeline; None without a formula."""
    design: FixedDesign | None = getattr(getattr(last_step(model)[0], "fit_", None), "design", None)
    return design


def offset_of(model: Any, X: Any) -> np.ndarray | float:
    """Return the offset of rows, which a model with a formula may have; 0 for other models."""
    offset = getattr(model, "offset", None)
    return 0.0 if offset is None or X is None else offset(X)


def outcome_of(model: Any, X: Any) -> np.ndarray | None:
    """Return the outcome that a model with a formula finds in rows; None for other models, or if the rows lack it."""
    outcome = getattr(model, "outcome", None)
    found: np.ndarray | None = None if outcome is None or X is None else outcome(X)
    return found


def outcome_or_none(model: Any, X: Any, y: ArrayLike | None) -> np.ndarray | None:
    """Return y as numbers or, if it is None, what `outcome_of` does: NaN where the data lack a value."""
    return outcome_of(model, X) if y is None else as_outcome(y).astype(np.float64)


def no_outcome(model: Any) -> ValueError:
    """Return the error that `outcome_or_none` has found no outcome."""
    design = design_of(model)
    if design is None or not design.formula.partition("~")[0].strip():
        return ValueError("y is None: pass the outcome, one number per row.")
    name = grouped_fit_of(model).outcome_name
    return ValueError(
        f"The data lack the outcome {name!r}, the left side of the formula {design.formula!r}. Pass data with it, or pass y."
    )


def formula_fit_of(model: FittedModel, function: str) -> tuple[GroupedFit, FixedDesign]:
    """Return the fit of a fitted model with a formula, and what the formula says of its columns.

    Raises
    ------
    TypeError
        If the model has no formula; or as `mixed_fit_of` does.
    """
    fit = grouped_fit_of(model)
    design = getattr(fit, "design", None)
    if design is None:
        raise TypeError(
            f"{function} needs a model with a formula, which tells what the terms and factors are: "
            'sklearn_mlm.formula.lmer("y ~ a * b + (1 | g)", data). contrast_test and term_tests take the columns of other '
            f"models by name; found {type(last_step(model)[0]).__name__}."
        )
    return fit, design


def random_intercept_fit_of(model: FittedModel, name: str = "model", instead: str = "") -> Fit:
    """Return the fit of a fitted random intercept model with groups; raises as `mixed_fit_of` does.

    Raises
    ------
    TypeError
        Also if coefficients other than the intercept vary.
    """
    fit = mixed_fit_of(model, name)
    if not isinstance(fit, Fit):
        raise TypeError(
            f"{name} must be a RandomInterceptRegressor, or another model of one factor in which only the intercept varies; "
            f"found {type(last_step(model)[0]).__name__} with "
            f"{' + '.join(map(str, cast(Any, fit).random_terms))}.{instead}"
        )
    return fit
