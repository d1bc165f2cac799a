"""Displays of clustered data and of fitted models, in the manner of scikit-learn's `Display` classes.

Drawing needs matplotlib, which the extra "plot" installs.
"""

from ._clustering import ClusteringDisplay
from ._coefficients import CoefficientComparisonDisplay
from ._diagnostics import DiagnosticsDisplay
from ._fitted_line import FittedLineDisplay
from ._group_lines import GroupLinesDisplay
from ._random_coefficients import RandomCoefficientsDisplay
from ._random_effects import RandomEffectsDisplay
from ._shrinkage import ShrinkageDisplay
from ._variance import VarianceDisplay
from ._variance_function import VarianceFunctionDisplay

__all__ = [
    "ClusteringDisplay",
    "CoefficientComparisonDisplay",
    "DiagnosticsDisplay",
    "FittedLineDisplay",
    "GroupLinesDisplay",
    "RandomCoefficientsDisplay",
    "RandomEffectsDisplay",
    "ShrinkageDisplay",
    "VarianceDisplay",
    "VarianceFunctionDisplay",
]
