"""MixedLM of statsmodels."""

from __future__ import annotations

import numpy as np

from . import Fit

NAME = "statsmodels MixedLM"
REQUIRES = "statsmodels"
CALL = "`MixedLM(y, add_constant(X), groups).fit()`"
CALL_WITH_SLOPES = "`MixedLM(y, add_constant(X), groups, exog_re=add_constant(X[:, :1])).fit()`"


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit by REML or ML."""
    from statsmodels.api import MixedLM, add_constant

    columns = add_constant(X[:, :n_slopes]) if n_slopes else None
    result = MixedLM(y, add_constant(X), groups, exog_re=columns).fit(reml=reml)
    return Fit("REML" if reml else "ML", result.cov_re, result.scale, result.fe_params[1:], float(result.llf))
