"""Multilevel models that belong in scikit-learn."""

from ._base import GroupsNotPassedWarning
from ._moments import GroupedMoments
from ._regressor import RandomInterceptRegressor
from .baselines import ClusterRobustOLS, WithinOLS

__all__ = ["ClusterRobustOLS", "GroupedMoments", "GroupsNotPassedWarning", "RandomInterceptRegressor", "WithinOLS"]
__version__ = "0.1.0"
