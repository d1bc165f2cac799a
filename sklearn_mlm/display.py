"""Pictures of clustered data and of fitted models: `Display` classes, as scikit-learn has them. Needs the extra "plot"."""

from ._clustering_display import ClusteringDisplay
from ._comparison_display import CoefficientComparisonDisplay
from ._effects_display import RandomEffectsDisplay
from ._shrinkage_display import ShrinkageDisplay
from ._variance_display import VarianceDisplay

__all__ = [
    "ClusteringDisplay",
    "CoefficientComparisonDisplay",
    "RandomEffectsDisplay",
    "ShrinkageDisplay",
    "VarianceDisplay",
]
