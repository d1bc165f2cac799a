"""Estimators: parameters, validation and fitted attributes. The packages that they import do the arithmetic."""

from ._base import GroupsNotPassedWarning
from ._random_intercept import RandomInterceptRegressor
from ._summary import ModelSummary

__all__ = ["GroupsNotPassedWarning", "ModelSummary", "RandomInterceptRegressor"]
