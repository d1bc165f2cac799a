"""Fits of models with random coefficients, of one grouping factor or of several."""

from __future__ import annotations

from typing import Any

from ._factor_criterion import FactorCriterion
from ._factor_fit import FactorFit
from ._mixed_criterion import MixedCriterion
from ._mixed_fit import MixedEffectsFit
from ._options import MixedOptions
from ._random_effects_fit import RandomEffectsFit


def fit_of_mixed_criterion(
    criterion: MixedCriterion | FactorCriterion, options: MixedOptions, *, grouped: bool = True
) -> RandomEffectsFit:
    """Return the fit record at the optimum of a criterion, as `RandomEffectsFit.of` does."""
    kind: type[RandomEffectsFit] = FactorFit if isinstance(criterion, FactorCriterion) else MixedEffectsFit
    return kind.of(criterion, options, grouped=grouped)


def fit_mixed(scatter: Any, options: MixedOptions) -> RandomEffectsFit:
    """Return the fit record of a model with random coefficients, without any check of the record."""
    return fit_of_mixed_criterion(options.criterion(scatter), options)
