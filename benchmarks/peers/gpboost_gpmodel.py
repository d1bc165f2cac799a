"""GPModel of GPBoost."""

from __future__ import annotations

import numpy as np

from . import Fit, with_constant

NAME = "GPBoost GPModel"
REQUIRES = "gpboost"
CALL = '`GPModel(group_data=groups, likelihood="gaussian").fit(y=y, X=with_constant(X))`, which is ML'


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Fit:
    """Fit by ML, whatever `reml`: it has no REML."""
    from gpboost import GPModel

    model = GPModel(group_data=groups, likelihood="gaussian")
    model.fit(y=y, X=with_constant(X))
    residual, group = np.ravel(model.get_cov_pars(format_pandas=False))[:2]
    slopes = np.ravel(model.get_coef(format_pandas=False))[1:]
    return Fit("ML", group, residual, slopes, -model.get_current_neg_log_likelihood())
