"""The package itself, by which the others are measured."""

from __future__ import annotations

import numpy as np

from . import Fit

NAME = "sklearn_mlm"
REQUIRES = "sklearn-mlm"
CALL = "`RandomInterceptRegressor().fit(X, y, groups=groups)`"


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Fit:
    """Fit by REML or ML."""
    from sklearn_mlm import RandomInterceptRegressor

    model = RandomInterceptRegressor(method="reml" if reml else "ml").fit(X, y, groups=groups)
    group, residual = model.variance_components_
    return Fit("REML" if reml else "ML", group, residual, model.coef_, model.log_likelihood_)
