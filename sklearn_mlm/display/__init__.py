"""Pictures of clustered data and of fitted models: `Display` classes, as scikit-learn has them. Needs the extra "plot"."""

from ._clustering import ClusteringDisplay
from ._coefficients import CoefficientComparisonDisplay
from ._random_effects import RandomEffectsDisplay
from ._shrinkage import ShrinkageDisplay
from ._variance import VarianceDisplay

__all__ = [
    "ClusteringDisplay",
    "CoefficientComparisonDisplay",
    "RandomEffectsDisplay",
    "ShrinkageDisplay",
    "VarianceDisplay",
]
