"""Moments to a fit record: coordinates, the criterion, its optimum and `Fit`. Nothing here depends on scikit-learn."""

from ._criterion import Criterion
from ._fit import Fit
from ._optimum import minimise

__all__ = ["Criterion", "Fit", "minimise"]
