"""From a fitted model to the fit that inference reads."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from .._typing import FittedModel, MixedFit
from ..likelihood._fit import Fit, LeastSquaresFit


class GroupedModel(FittedModel, Protocol):
    """A fitted model that finds the groups of new rows."""

    @property
    def new_groups(self) -> str:
        """What `predict` returns for new groups."""

    def locate(self, X: Any, groups: ArrayLike | None = None) -> tuple[Any, np.ndarray]:
        """Return checked predictors of new rows, and the position of each row's group; negative if it is unknown."""


def fit_of(model: FittedModel, name: str = "model", kind: str = "model of this package") -> MixedFit | LeastSquaresFit:
    """Return the fit of a fitted model; errors call the model `name` and ask for a `kind`.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If it is not a model of this package.
    """
    check_is_fitted(model)
    if not hasattr(model, "fit_"):
        raise TypeError(f"{name} must be a {kind}; found {type(model).__name__}.")
    fit: MixedFit | LeastSquaresFit = model.fit_
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
    fit = fit_of(model, name, "RandomInterceptRegressor")
    if isinstance(fit, LeastSquaresFit):
        raise TypeError(f"{name} must be a RandomInterceptRegressor; found {type(model).__name__}.")
    if not getattr(fit, "grouped", True):
        raise ValueError(f"{name} was fitted without groups: there is no group variance. Fit it with groups=...")
    return fit


def random_intercept_fit_of(model: FittedModel, name: str = "model") -> Fit:
    """Return the fit of a fitted random intercept model with groups; raises as `mixed_fit_of` does."""
    fit = mixed_fit_of(model, name)
    if not isinstance(fit, Fit):
        raise TypeError(f"{name} must be a RandomInterceptRegressor; found {type(model).__name__}.")
    return fit
