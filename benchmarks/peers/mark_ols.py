"""Least squares of scikit-learn, as a mark."""

from __future__ import annotations

import numpy as np

NAME = "*LinearRegression*"
REQUIRES = "scikit-learn"
CALL = "`LinearRegression().fit(X, y)`, which knows no groups"
CALL_WITH_SLOPES = CALL


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> None:
    """Fit least squares."""
    from sklearn.linear_model import LinearRegression

    LinearRegression().fit(X, y)
