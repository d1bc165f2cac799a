"""The table of random effects."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._inputs import check_level
from .._typing import FittedModel
from ._distributions import half_width
from ._fits import random_intercept_fit_of


def random_effects_table(model: FittedModel, level: float = 0.95) -> pd.DataFrame:
    """Return the empirical-Bayes estimate of each group, its reliability, and the group's own intercept.

    Parameters
    ----------
    model : RandomInterceptRegressor
        A fitted model, or a pipeline or search that ends in one.
    level : float, default=0.95
        Confidence level of the intervals.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by group label, with the columns "effect" (u_j), "sd" (its conditional sd, given fixed effects and variances:
        lme4's condsd), "reliability" (lambda_j), "n" (total weight of the rows), "intercept" (fixed intercept plus effect),
        and "ci_lower" and "ci_upper" of the effect. All but "reliability" and "n" are in units of y.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_dyestuff
    >>> from sklearn_mlm.inference import random_effects_table
    >>> dyestuff = load_dyestuff()
    >>> model = RandomInterceptRegressor().fit(None, dyestuff.target, groups=dyestuff.groups)
    >>> random_effects_table(model).head(2).round(2)
       effect     sd  reliability    n  intercept  ci_lower  ci_upper
    A  -17.61  19.59         0.78  5.0    1509.89     -56.0     20.78
    B    0.39  19.59         0.78  5.0    1527.89     -38.0     38.78
    """
    fit = random_intercept_fit_of(model)
    check_level(level)
    effects, reliability = fit.random_effects, fit.reliabilities
    sd = np.sqrt(fit.group_variance * (1.0 - reliability))
    half = half_width(level, sd)
    return pd.DataFrame(
        {
            "effect": effects,
            "sd": sd,
            "reliability": reliability,
            "n": fit.known.counts,
            "intercept": fit.intercept + effects,
            "ci_lower": effects - half,
            "ci_upper": effects + half,
        },
        index=fit.labels,
    )
