"""What hardly any fit can do without, as a mark."""

from __future__ import annotations

import numpy as np

NAME = "*floor*"
REQUIRES = None
CALL = "`X.T @ X`, `X.copy()` and `pandas.factorize(groups)`, which hardly any fit can do without"
CALL_WITH_SLOPES = CALL


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> None:
    """Multiply, copy and factorize."""
    import pandas as pd

    X.T @ X
    X.copy()
    pd.factorize(groups)
