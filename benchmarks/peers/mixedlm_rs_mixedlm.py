"""MixedLM of mixedlm-rs."""

from __future__ import annotations

import numpy as np

from . import Fit, with_constant

NAME = "mixedlm-rs MixedLM"
REQUIRES = "mixedlm-rs"
CALL = "`MixedLM(y, with_constant(X), groups).fit()`"


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Fit:
    """Fit by REML or ML from arrays, which takes it less time than from a formula."""
    from mixedlm_rs import MixedLM

    result = MixedLM(y, with_constant(X), groups).fit(reml=reml)
    group = float(result.cov_re[0, 0])
    return Fit("REML" if reml else "ML", group, result.scale, result.fe_params[1:], float(result.llf))
