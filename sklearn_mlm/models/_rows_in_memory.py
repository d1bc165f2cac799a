"""What a fit reads again from rows in memory: the rest of y, and quantiles of the residuals."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import WeightType
from ..likelihood._factor_fit import FactorFit
from ..likelihood._fit import Fit
from ..likelihood._random_effects_fit import RandomEffectsFit
from ..moments._cells import RowsInCells
from ..moments._reading import with_remainder
from ..moments._remainder import KnownPart
from ..moments._rows import GroupedRows
from ..moments._scatter import Scatter
from ..moments._scatter_reading import scatter_with_remainder
from ._summary import five_numbers

# Quantiles are kept of the residuals of at most this many rows: they cost 5% of a fit of 1,000 rows, 18% of one of 10,000,
# and would double one of 1,000,000.
_SUMMARISED_ROWS = 10_000


class RowsInMemory:
    """Reads rows again, which are in memory."""

    def __init__(self, rows: GroupedRows | RowsInCells):
        self.cells = rows.cells if isinstance(rows, RowsInCells) else None
        self.rows = rows.rows if isinstance(rows, RowsInCells) else rows

    def __call__(self, moments: Any, known: KnownPart) -> Any:
        """Return a record with the remainder of y, less its known part."""
        if isinstance(moments, Scatter):
            return scatter_with_remainder(moments, known, self.rows)
        return with_remainder(moments, known, self.rows)

    def scaled_residuals(self, fit: Fit | RandomEffectsFit) -> np.ndarray | None:
        """Return the five quantiles of the scaled residuals; None without groups or residuals, or of many rows."""
        rows = self.rows
        if not fit.residual_variance > 0 or not fit.grouped or max(len(rows), fit.n_observations) > _SUMMARISED_ROWS:
            return None
        codes = rows.codes
        if isinstance(fit, FactorFit) and self.cells is not None:
            codes = fit.codes_of(self.cells)[codes]
        residuals = fit.residuals(rows.X, codes, rows.y)
        if rows.weights is not None:
            residuals = weighted_residuals(residuals, rows.weights, fit.options.weight_type)
        return scaled_quantiles(residuals, fit)


def scaled_quantiles(residuals: np.ndarray, fit: Fit | RandomEffectsFit) -> np.ndarray | None:
    """Return five quantiles of residuals in standard deviations of the residual; None if there are none, or it is 0."""
    sigma = float(np.sqrt(fit.residual_variance))
    return five_numbers(residuals) / sigma if sigma > 0 and len(residuals) else None


def weighted_residuals(residuals: np.ndarray, weights: np.ndarray, weight_type: WeightType) -> np.ndarray:
    """Return residuals of equal variance: one for each row with a precision, or one for each copy of a row."""
    residuals, weights = residuals[weights > 0], weights[weights > 0]
    if weight_type == "precision":
        return np.asarray(residuals * np.sqrt(weights))
    whole = np.array_equal(weights, np.floor(weights))
    return np.repeat(residuals, weights.astype(np.intp)) if whole else residuals
