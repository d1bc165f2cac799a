"""``lmer`` of mixedlm."""

from __future__ import annotations

import numpy as np

from . import Fit, formula_of, frame_of

NAME = "mixedlm lmer"
REQUIRES = "mixedlm"
CALL = '`lmer("y ~ x1 + ... + (1 | g)", frame)`'


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Fit:
    """Fit by REML or ML."""
    from mixedlm import lmer

    result = lmer(formula_of(X) + " + (1 | g)", frame_of(X, y, groups), REML=reml)
    components = result.VarCorr()
    group = float(components.groups["g"].cov[0, 0])
    slopes = np.array(list(result.fixef().values()))[1:]
    return Fit("REML" if reml else "ML", group, components.residual, slopes, float(result.logLik().value))
