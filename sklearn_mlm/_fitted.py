"""What inference needs of fitted models: their names, estimates and criteria, and that they are what they should be."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._criterion import Criterion
from ._moments import GroupedMoments, shown_names
from ._solution import reliabilities_of

INTERCEPT = "(Intercept)"
"""What tables call the intercept, as lmer does."""


def check_mixed(model: Any, name: str = "model") -> None:
    """Raise unless this is a random intercept model, fitted with groups."""
    check_is_fitted(model)
    if not hasattr(model, "random_effects_"):
        raise TypeError(f"{name} must be a RandomInterceptRegressor; found {type(model).__name__}.")
    if model.n_groups_ == 0:
        raise ValueError(f"{name} was fitted without groups: there is no group variance. Fit it with groups=...")


def check_level(level: float) -> None:
    """Raise for a confidence level that is no probability."""
    if not isinstance(level, Real) or not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, such as 0.95; found {level!r}.")


def coefficient_names(model: Any) -> list[str]:
    """Return the names of the fixed effects, the intercept first where the model has one."""
    if hasattr(model, "moments_"):
        names = list(shown_names(model.moments_))
    else:
        names = list(model._predictor_names() or (f"x{i}" for i in range(len(model._slopes))))
    return [INTERCEPT] * (len(model.cov_fixed_) - len(names)) + names


def estimates(model: Any) -> np.ndarray:
    """Return the fixed effects, the intercept first where the covariance has it."""
    with_intercept = len(model.cov_fixed_) > len(model._slopes)
    return np.append(model.intercept_, model._slopes) if with_intercept else np.asarray(model._slopes)


def reliabilities(model: Any) -> np.ndarray:
    """Return the reliability of each of the model's groups, those met after its fit included."""
    return reliabilities_of(model._solution.ratio, model.moments_.counts)


def residual_means(model: Any) -> np.ndarray:
    """Return what the fixed part leaves of each group's mean of y.

    It differs from group to group by the means relative to the centre, without the digits that the intercept at a distant
    origin would cost.
    """
    (fitted, slopes), (moments, slopes_now) = model._fitted_moments.about_slopes(), model.moments_.about_slopes()
    contrast = np.append(-model._solution.rest_coefficients, 1.0)
    contrast_now = contrast + np.append(slopes_now - slopes, 0.0)
    of_center = moments.center @ contrast_now - fitted.center @ contrast
    return moments.deviations @ contrast_now + of_center + left_at_center(model)


def left_at_center(model: Any) -> float:
    """Return what the fixed part leaves of y at the centre of the moments that the model was fitted to."""
    moments, _ = model._fitted_moments.about_slopes()
    contrast = np.append(-model._solution.rest_coefficients, 1.0)
    return float(np.mean(model._solution.residual_means - moments.deviations @ contrast))


@dataclass(frozen=True)
class Options:
    """The parameters of a model that its estimates depend on, as they were in `fit`.

    Attributes
    ----------
    method : {"reml", "ml"}
    fit_intercept : bool
    weight_type : {"frequency", "precision"}
    """

    method: str = "reml"
    fit_intercept: bool = True
    weight_type: str = "frequency"

    def criterion(self, moments: GroupedMoments, reml: bool | None = None) -> Criterion:
        """Return the criterion of moments, or the restricted or full one."""
        return Criterion(
            moments,
            fit_intercept=self.fit_intercept,
            reml=self.method == "reml" if reml is None else reml,
            precision_weights=self.weight_type == "precision",
        )


def criterion_of(model: Any, reml: bool | None = None) -> Criterion:
    """Return the criterion of a fitted model, or the restricted or full one of the same rows."""
    return model._options.criterion(model._fitted_moments, reml)
