"""``fit`` of interlace."""

from __future__ import annotations

import numpy as np

from . import Fit, formula_of, frame_of, random_term

NAME = "interlace fit"
REQUIRES = "interlace-lme"
CALL = '`fit("y ~ x1 + ...", frame, groups="g")`'
CALL_WITH_SLOPES = '`fit("y ~ x1 + ...", frame, random=["(1 + x1 | g)"])`'


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit by REML or ML."""
    import interlace

    method = "REML" if reml else "ML"
    random = {"random": [random_term(n_slopes)]} if n_slopes else {"groups": "g"}
    result = interlace.fit(formula_of(X), frame_of(X, y, groups), **random, method=method)
    coef = np.asarray(result.fe_params)[1:]
    return Fit(method, result.variance_components["g"], result.scale, coef, float(result.llf))
