"""``lmer`` of Kamino."""

from __future__ import annotations

import numpy as np

from . import Fit, formula_of, frame_of

NAME = "Kamino lmer"
REQUIRES = "kamino-lme"
CALL = '`lmer("y ~ x1 + ... + (1 | g)", frame)`, the labels turned into strings, since it takes no others'


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Fit:
    """Fit by REML or ML."""
    from kamino import lmer

    result = lmer(formula_of(X) + " + (1 | g)", frame_of(X, y, groups.astype(str)), reml=reml)
    residual = float(result.sigma) ** 2
    group = float(result.theta[0]) ** 2 * residual
    return Fit("REML" if reml else "ML", group, residual, np.asarray(result.beta)[1:], float(result.log_likelihood))
