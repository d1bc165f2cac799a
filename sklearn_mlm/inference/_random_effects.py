"""The table of random effects."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._inputs import check_level
from .._typing import FittedModel
from ..likelihood._factor_fit import FactorView
from ..likelihood._mixed_fit import MixedEffectsFit
from ._distributions import half_width
from ._fits import factor_fit_of, random_intercept_fit_of


def random_effects_table(model: FittedModel, level: float = 0.95, *, factor: str | None = None) -> pd.DataFrame:
    """Return the empirical-Bayes estimate of each group, its reliability, and the group's own intercept.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    level : float, default=0.95
        Confidence level of the intervals.
    factor : str or None, default=None
        The grouping factor whose effects are returned, such as "school:class"; needed if the model has several.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by group label, with the columns "effect" (u_j), "sd" (its conditional sd, given fixed effects and variances:
        lme4's condsd), "reliability" (lambda_j), "n" (total weight of the rows), "intercept" (fixed intercept plus effect),
        and "ci_lower" and "ci_upper" of the effect. All but "reliability" and "n" are in units of y.

        For a `MixedEffectsRegressor` it is indexed by group label and coefficient. "total" stands in place of "intercept":
        the fixed effect of the column, if it has one, plus the effect. The reliability is the share of the coefficient's
        variance that the rows of the group determine, 1 - sd^2 / variance; NaN if the coefficient does not vary.

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
    fit = factor_fit_of(model, factor)
    check_level(level)
    if isinstance(fit, MixedEffectsFit | FactorView):
        return _of_coefficients(fit, level)
    fit = random_intercept_fit_of(model)
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


def _of_coefficients(fit: MixedEffectsFit | FactorView, level: float) -> pd.DataFrame:
    """Return the table of the random coefficients of each group."""
    names = list(fit.options.coefficients)
    sd = np.sqrt(np.maximum(fit.conditional_covariances.diagonal(axis1=1, axis2=2), 0.0))
    total = fit.random_effects + fit.fixed_parts
    with np.errstate(invalid="ignore", divide="ignore"):
        reliability = 1.0 - sd**2 / fit.random_covariance.diagonal()
    half = half_width(level, sd)
    columns = {
        "effect": fit.random_effects,
        "sd": sd,
        "reliability": reliability,
        "n": np.repeat(fit.weights_of_groups[:, None], len(names), axis=1),
        "total": total,
        "ci_lower": fit.random_effects - half,
        "ci_upper": fit.random_effects + half,
    }
    table = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
    labels = fit.labels.repeat(len(names))
    levels = [labels.get_level_values(at) for at in range(labels.nlevels)]
    of_groups = [fit.group_name] if labels.nlevels == 1 else list(labels.names)
    table.index = pd.MultiIndex.from_arrays([*levels, names * len(fit.labels)], names=[*of_groups, "coefficient"])
    return table
