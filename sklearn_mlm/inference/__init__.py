"""Inference for fitted models: tables, tests, intervals and shares of variance from moments; predictions and checks."""

from ._anova import anova, drop1
from ._contrasts import contrast_test, term_tests
from ._diagnostics import residual_variance_test, variance_inflation
from ._fixed_effects import fixed_effects
from ._formatting import format_table, to_great_table
from ._influence import influence
from ._intervals import confidence_intervals, plausible_values_range
from ._marginal_means import estimated_marginal_means, estimated_trends
from ._model_comparison import compare_models, glance, likelihood_ratio_test
from ._prediction import predict_interval
from ._random_effects import random_effects_table
from ._rows import augment, known_groups, residuals
from ._shares import clustering_report, icc, r2
from ._tests import random_effects_test, random_intercept_test

__all__ = [
    "anova",
    "augment",
    "clustering_report",
    "compare_models",
    "confidence_intervals",
    "contrast_test",
    "drop1",
    "estimated_marginal_means",
    "estimated_trends",
    "fixed_effects",
    "format_table",
    "glance",
    "icc",
    "influence",
    "known_groups",
    "likelihood_ratio_test",
    "plausible_values_range",
    "predict_interval",
    "r2",
    "random_effects_table",
    "random_effects_test",
    "random_intercept_test",
    "residual_variance_test",
    "residuals",
    "term_tests",
    "to_great_table",
    "variance_inflation",
]
