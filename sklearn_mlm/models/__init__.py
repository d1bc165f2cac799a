"""Estimators: parameters, validation and fitted attributes. The packages that they import do the arithmetic."""

from ._checks import DroppedColumnsWarning
from ._groups_not_passed import GroupsNotPassedWarning
from ._mixed_effects import MixedEffectsRegressor
from ._random_intercept import RandomInterceptRegressor
from ._summary import ModelSummary

__all__ = [
    "DroppedColumnsWarning",
    "GroupsNotPassedWarning",
    "MixedEffectsRegressor",
    "ModelSummary",
    "RandomInterceptRegressor",
]
