"""``lmer`` of lme-python."""

from __future__ import annotations

import numpy as np

from . import Fit, formula_of, names_of

NAME = "lme-python lmer"
REQUIRES = "lme-python"
CALL = '`lmer("y ~ x1 + ... + (1 | g)", data=polars_frame)`'


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Fit:
    """Fit by REML or ML."""
    import polars as pl
    from lme_python import lmer

    frame = pl.DataFrame(dict(zip(names_of(X), X.T, strict=True)) | {"y": y, "g": groups})
    result = lmer(formula_of(X) + " + (1 | g)", data=frame, reml=reml)
    group = result.var_corr[0][3]
    slopes = np.array(result.coefficients[1:])
    return Fit("REML" if reml else "ML", group, result.sigma2, slopes, result.log_likelihood)
