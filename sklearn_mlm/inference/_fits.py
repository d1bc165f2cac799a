"""From a fitted model to the fit that inference reads."""

from __future__ import annotations

from typing import Any, cast

from sklearn.utils.validation import check_is_fitted

from .._typing import MixedFit
from ..likelihood._fit import Fit, LeastSquaresFit


def fit_of(model: Any, name: str = "model") -> MixedFit | LeastSquaresFit:
    """Return the fit of a fitted model.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If it is no model of this package.
    """
    check_is_fitted(model)
    if not hasattr(model, "fit_"):
        raise TypeError(f"{name} must be one of this package's; found {type(model).__name__}.")
    return cast("MixedFit | LeastSquaresFit", model.fit_)


def mixed_fit_of(model: Any, name: str = "model") -> MixedFit:
    """Return the fit of a fitted mixed model, which has groups.

    Raises
    ------
    NotFittedError, TypeError
        As `fit_of`, and a TypeError for least squares.
    ValueError
        If the model was fitted without groups.
    """
    check_is_fitted(model)
    fit = getattr(model, "fit_", None)
    if fit is None or isinstance(fit, LeastSquaresFit):
        raise TypeError(f"{name} must be a RandomInterceptRegressor; found {type(model).__name__}.")
    if not getattr(fit, "grouped", True):
        raise ValueError(f"{name} was fitted without groups: there is no group variance. Fit it with groups=...")
    return cast(MixedFit, fit)


def random_intercept_fit_of(model: Any, name: str = "model") -> Fit:
    """Return the fit of a fitted random intercept model with groups; raises as `mixed_fit_of`."""
    fit = mixed_fit_of(model, name)
    if not isinstance(fit, Fit):
        raise TypeError(f"{name} must be a RandomInterceptRegressor; found {type(model).__name__}.")
    return fit
