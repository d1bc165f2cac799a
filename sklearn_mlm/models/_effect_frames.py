"""Frames of random effects and of their covariances, one for each grouping factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..likelihood._factor_fit import FactorFit


def of_factors(fit: Any) -> Sequence[Any]:
    """Return what a fit record says of each of its grouping factors."""
    return list(fit.factors.values()) if isinstance(fit, FactorFit) else [fit]


def _coefficients(fit: Any) -> list[str]:
    """Return the names of the random coefficients of a factor."""
    return [name for term in fit.random_terms for name in term.coefficients]


def covariance_frame(fit: Any) -> pd.DataFrame:
    """Return the covariance of the random coefficients of a factor."""
    names = _coefficients(fit)
    return pd.DataFrame(fit.random_covariance, index=names, columns=names)


def effects_frame(fit: Any) -> pd.DataFrame:
    """Return the random coefficients of a factor, with a row for each of its levels."""
    return pd.DataFrame(fit.random_effects, index=fit.labels, columns=_coefficients(fit))
