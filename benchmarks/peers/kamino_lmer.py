"""``lmer`` of Kamino."""

from __future__ import annotations

import numpy as np

from . import Fit, formula_of, frame_of, random_term

NAME = "Kamino lmer"
REQUIRES = "kamino-lme"
CALL = '`lmer("y ~ x1 + ... + (1 | g)", frame)`, the labels turned into strings, since it takes no others'
CALL_WITH_SLOPES = CALL.replace("(1 | g)", "(1 + x1 | g)")


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit by REML or ML."""
    from kamino import lmer

    result = lmer(f"{formula_of(X)} + {random_term(n_slopes)}", frame_of(X, y, groups.astype(str)), reml=reml)
    residual, coef = float(result.sigma) ** 2, np.asarray(result.beta)[1:]
    return Fit("REML" if reml else "ML", result.random_covariance, residual, coef, float(result.log_likelihood))
