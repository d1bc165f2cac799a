"""`Figures`: all figures of a comparison, without words."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures of a comparison; `Comparison` describes the attributes."""

    coefficients: pd.DataFrame
    predictions: pd.DataFrame
    fold_predictions: pd.DataFrame
    within_between: pd.DataFrame
    within_between_test: pd.Series
    slopes: pd.DataFrame
    icc: float
    residual_icc: float
    group_test: pd.Series
    design_effect: float
    effective_sample_size: float
    n_samples: int
    n_groups: int
    n_folds: int

    @property
    def has_predictors(self) -> bool:
        """Whether there are coefficients besides the intercept."""
        return len(self.coefficients.index.unique(0)) > 1
