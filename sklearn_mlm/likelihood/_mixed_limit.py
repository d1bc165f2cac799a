"""`minimise_with_limit`: the minimum of the criterion, or its limit as the residual variance goes to 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .._typing import Floats
from ._mixed_criterion import MixedCriterion
from ._mixed_optimum import NO_FALL, MixedOptimum, Outcome, minimise_mixed

# Residual variances, relative to the mean square of y, on the way to 0, and their ratio. The next is that of the limit; at
# smaller ones the determinant of B rounds, if some fixed effects are known to such a residual and others are not.
_SMALLER_RESIDUALS, _RATIO = (1e-4, 1e-6, 1e-8, 1e-10, 1e-12), 1e-2


def minimise_with_limit(criterion: MixedCriterion) -> tuple[MixedCriterion, MixedOptimum]:
    """Return the minimum of a criterion, or its limit as the residual variance goes to 0 if that is lower.

    There is such a limit if the random effects, or the fixed effects with them, leave nothing of y.

    Parameters
    ----------
    criterion : MixedCriterion
        The criterion.

    Returns
    -------
    criterion : MixedCriterion
        The criterion, or the one at a residual variance that is rounding.
    optimum : MixedOptimum
        Its minimum.
    """
    if criterion.unbounded:
        limit = criterion.without_residual()
        return limit, minimise_mixed(limit)
    optimum = minimise_mixed(criterion)
    if not criterion.may_be_unbounded or optimum.best.outcome is Outcome.UNBOUNDED:
        return criterion, optimum
    values: list[list[float]] = []
    factors: list[Floats] | None = None
    for share in _SMALLER_RESIDUALS:
        there = minimise_mixed(criterion.without_residual(share), factors)
        values.append([trial.value for trial in there.trials])
        # With Sigma fixed, G is proportional to 1 / sigma2.
        factors = [trial.factor / np.sqrt(_RATIO) for trial in there.trials]
    # Each search goes on where it ended before. One that falls steadily will fall below all others.
    falls = -np.diff(values[-3:], axis=0) > -NO_FALL * np.log(_RATIO)
    if falls.all(axis=0).any():
        unbounded = replace(optimum.best, value=-np.inf, outcome=Outcome.UNBOUNDED)
        return criterion, replace(optimum, trials=[*optimum.trials, unbounded])
    # The smaller sigma2 is, the nearer the limit is, but the more the criterion may round; so two steps count.
    if np.min(values[-2:]) >= optimum.best.value:
        return criterion, optimum
    limit = criterion.without_residual(_RATIO * _SMALLER_RESIDUALS[-1])
    return limit, minimise_mixed(limit, factors)
