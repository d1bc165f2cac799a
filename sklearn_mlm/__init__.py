"""Multilevel models that belong in scikit-learn."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import datasets, inference
from .models import (
    DroppedColumnsWarning,
    GroupsNotPassedWarning,
    MixedEffectsRegressor,
    ModelSummary,
    RandomInterceptRegressor,
)
from .moments import CellScatter, GroupedMoments, GroupedScatter

if TYPE_CHECKING:
    from . import baselines as baselines
    from . import display as display
    from . import formula as formula
    from . import model_selection as model_selection
    from .baselines import ClusterRobustOLS, Comparison, FactorComparison, WithinOLS, compare_with_ols
    from .model_selection import cross_validate_groups, make_group_scorer, request_groups

__all__ = [
    "CellScatter",
    "ClusterRobustOLS",
    "Comparison",
    "DroppedColumnsWarning",
    "FactorComparison",
    "GroupedMoments",
    "GroupedScatter",
    "GroupsNotPassedWarning",
    "MixedEffectsRegressor",
    "ModelSummary",
    "RandomInterceptRegressor",
    "WithinOLS",
    "compare_with_ols",
    "cross_validate_groups",
    "datasets",
    "display",
    "formula",
    "inference",
    "make_group_scorer",
    "request_groups",
]
__version__ = "0.1.0"

# What is loaded when it is first used, because many programs never use it.
_LAZY = {
    "baselines": ("ClusterRobustOLS", "Comparison", "FactorComparison", "WithinOLS", "compare_with_ols"),
    "display": (),
    "formula": (),
    "model_selection": ("cross_validate_groups", "make_group_scorer", "request_groups"),
}


def __getattr__(name: str) -> Any:
    """Load a name of `_LAZY`."""
    for module, names in _LAZY.items():
        if name == module or name in names:
            loaded = import_module(f"sklearn_mlm.{module}")
            return loaded if name == module else getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY, "__version__"})
