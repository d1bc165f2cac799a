"""Multilevel models that belong in scikit-learn."""

from . import datasets, display, inference
from .baselines import ClusterRobustOLS, Comparison, WithinOLS, compare_with_ols
from .model_selection import cross_validate_groups, make_group_scorer, request_groups
from .models import GroupsNotPassedWarning, ModelSummary, RandomInterceptRegressor
from .moments import GroupedMoments

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
