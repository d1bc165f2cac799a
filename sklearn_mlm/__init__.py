"""Multilevel models that belong in scikit-learn."""

from . import datasets, display, inference
from ._base import GroupsNotPassedWarning
from ._comparison import Comparison
from ._model_summary import ModelSummary
from ._moments import GroupedMoments
from ._regressor import RandomInterceptRegressor
from .baselines import ClusterRobustOLS, WithinOLS, compare_with_ols
from .model_selection import cross_validate_groups, make_group_scorer, request_groups

__all__ = [
    "ClusterRobustOLS",
    "Comparison",
    "GroupedMoments",
    "GroupsNotPassedWarning",
    "ModelSummary",
    "RandomInterceptRegressor",
    "WithinOLS",
    "compare_with_ols",
    "cross_validate_groups",
    "datasets",
    "display",
    "inference",
    "make_group_scorer",
    "request_groups",
]
__version__ = "0.1.0"
