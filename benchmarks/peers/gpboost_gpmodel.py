"""GPModel of GPBoost."""

from __future__ import annotations

import numpy as np

from . import Fit, with_constant

NAME = "GPBoost GPModel"
REQUIRES = "gpboost"
CALL = '`GPModel(group_data=groups, likelihood="gaussian").fit(y=y, X=with_constant(X))`, which is ML'
CALL_WITH_SLOPES = (
    "`GPModel(group_data=groups, group_rand_coef_data=X[:, :1], ind_effect_group_rand_coef=[1]).fit(y=y, X=with_constant(X))`, "
    "which is ML, and without a correlation"
)


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit by ML, whatever `reml`, and slopes that are independent of the intercept: it has no REML and no correlations."""
    from gpboost import GPModel

    slopes = {"group_rand_coef_data": X[:, :n_slopes], "ind_effect_group_rand_coef": [1] * n_slopes} if n_slopes else {}
    model = GPModel(group_data=groups, **slopes, likelihood="gaussian")
    model.fit(y=y, X=with_constant(X))
    residual, *variances = np.ravel(model.get_cov_pars(format_pandas=False))[: 2 + n_slopes]
    coef = np.ravel(model.get_coef(format_pandas=False))[1:]
    log_likelihood = -model.get_current_neg_log_likelihood()
    restriction = "no correlation" if n_slopes else None
    return Fit("ML", np.diag(variances), residual, coef, log_likelihood, restriction=restriction)
