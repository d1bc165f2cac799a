"""Moments to a solution: coordinates, the criterion, its optimum, and `Fit`. Knows nothing of scikit-learn."""

from ._criterion import Criterion
from ._fit import Fit
from ._optimum import minimise

__all__ = ["Criterion", "Fit", "minimise"]
