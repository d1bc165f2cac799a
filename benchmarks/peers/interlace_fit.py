"""``fit`` of interlace."""

from __future__ import annotations

import numpy as np

from . import Fit, formula_of, frame_of

NAME = "interlace fit"
REQUIRES = "interlace-lme"
CALL = '`fit("y ~ x1 + ...", frame, groups="g")`'


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Fit:
    """Fit by REML or ML."""
    import interlace

    method = "REML" if reml else "ML"
    result = interlace.fit(formula_of(X), frame_of(X, y, groups), groups="g", method=method)
    slopes = np.asarray(result.fe_params)[1:]
    return Fit(method, result.variance_components["g"], result.scale, slopes, float(result.llf))
