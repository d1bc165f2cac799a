"""Multilevel models that belong in scikit-learn."""

from ._moments import GroupedMoments
from ._regressor import RandomInterceptRegressor

__all__ = ["GroupedMoments", "RandomInterceptRegressor"]
__version__ = "0.1.0"
