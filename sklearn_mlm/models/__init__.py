"""Estimators: parameters, validation and fitted attributes. The arithmetic is in the rooms before this one."""

from ._base import GroupsNotPassedWarning
from ._random_intercept import RandomInterceptRegressor
from ._summary import ModelSummary

__all__ = ["GroupsNotPassedWarning", "ModelSummary", "RandomInterceptRegressor"]
