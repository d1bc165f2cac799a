"""Inference for fitted models: tables of fixed effects, tests, intervals, shares of variance. Arithmetic on the moments."""

from ._fixed_effects import contrast_test, fixed_effects
from ._intervals import confidence_intervals, plausible_values_range
from ._prediction import predict_interval
from ._random_effects import random_effects_table
from ._shares import clustering_report, icc, r2
from ._tests import likelihood_ratio_test, random_intercept_test

__all__ = [
    "clustering_report",
    "confidence_intervals",
    "contrast_test",
    "fixed_effects",
    "icc",
    "likelihood_ratio_test",
    "plausible_values_range",
    "predict_interval",
    "r2",
    "random_effects_table",
    "random_intercept_test",
]
