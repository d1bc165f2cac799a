"""Formulas in the notation of R's lmer: `lmer(formula, data)`, and the estimator `FormulaRegressor`."""

from ._lmer import lmer
from ._regressor import FormulaRegressor

__all__ = ["FormulaRegressor", "lmer"]
