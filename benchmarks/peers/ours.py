"""The package itself, by which the others are measured."""

from __future__ import annotations

import numpy as np

from . import Fit, random_term

NAME = "sklearn_mlm"
REQUIRES = "sklearn-mlm"
CALL = "`RandomInterceptRegressor().fit(X, y, groups=groups)`"
CALL_WITH_SLOPES = '`MixedEffectsRegressor(random_effects="(1 + x0 | g)").fit(X, y, groups=groups)`'


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit by REML or ML."""
    method = "reml" if reml else "ml"
    if n_slopes:
        from sklearn_mlm import MixedEffectsRegressor

        term = random_term(n_slopes, first=0)
        model = MixedEffectsRegressor(random_effects=term, method=method).fit(X, y, groups=groups)
        (covariance,) = model.covariance_.values()
        residual = np.ravel(model.variance_components_)[-1]
    else:
        from sklearn_mlm import RandomInterceptRegressor

        model = RandomInterceptRegressor(method=method).fit(X, y, groups=groups)
        covariance, residual = model.variance_components_
    return Fit(method.upper(), covariance, residual, model.coef_, model.log_likelihood_)
