"""MixedLM of statsmodels."""

from __future__ import annotations

import numpy as np

from . import Fit

NAME = "statsmodels MixedLM"
REQUIRES = "statsmodels"
CALL = "`MixedLM(y, add_constant(X), groups).fit()`"


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Fit:
    """Fit by REML or ML."""
    from statsmodels.api import MixedLM, add_constant

    result = MixedLM(y, add_constant(X), groups).fit(reml=reml)
    group = float(np.asarray(result.cov_re)[0, 0])
    return Fit("REML" if reml else "ML", group, result.scale, result.fe_params[1:], float(result.llf))
