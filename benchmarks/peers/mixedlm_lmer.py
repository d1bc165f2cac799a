"""``lmer`` of mixedlm."""

from __future__ import annotations

import numpy as np

from . import Fit, formula_of, frame_of, random_term

NAME = "mixedlm lmer"
REQUIRES = "mixedlm"
CALL = '`lmer("y ~ x1 + ... + (1 | g)", frame)`'
CALL_WITH_SLOPES = CALL.replace("(1 | g)", "(1 + x1 | g)")


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit by REML or ML."""
    from mixedlm import lmer

    result = lmer(f"{formula_of(X)} + {random_term(n_slopes)}", frame_of(X, y, groups), REML=reml)
    components = result.VarCorr()
    coef = np.array(list(result.fixef().values()))[1:]
    covariance = components.groups["g"].cov
    return Fit("REML" if reml else "ML", covariance, components.residual, coef, float(result.logLik().value))
