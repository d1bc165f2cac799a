"""``lmer`` of lme-python."""

from __future__ import annotations

import numpy as np

from . import Fit, formula_of, names_of, random_term

NAME = "lme-python lmer"
REQUIRES = "lme-python"
CALL = '`lmer("y ~ x1 + ... + (1 | g)", data=polars_frame)`'
CALL_WITH_SLOPES = CALL.replace("(1 | g)", "(1 + x1 | g)")


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit by REML or ML."""
    import polars as pl
    from lme_python import lmer

    frame = pl.DataFrame(dict(zip(names_of(X), X.T, strict=True)) | {"y": y, "g": groups})
    result = lmer(f"{formula_of(X)} + {random_term(n_slopes)}", data=frame, reml=reml)
    places = {name: i for i, name in enumerate(["(Intercept)", *names_of(X)[:n_slopes]])}
    covariance = np.zeros((1 + n_slopes, 1 + n_slopes))
    for factor, row, column, value, _ in result.var_corr:
        if factor == "g":
            covariance[places[row], places[column]] = covariance[places[column], places[row]] = value
    coef = np.array(result.coefficients[1:])
    return Fit("REML" if reml else "ML", covariance, result.sigma2, coef, result.log_likelihood)
