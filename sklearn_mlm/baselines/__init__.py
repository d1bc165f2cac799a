"""What to compare a multilevel model with: least squares with cluster-robust standard errors, and the within estimator."""

from ._cluster_robust_ols import ClusterRobustOLS
from ._comparison import Comparison, compare_with_ols
from ._factor_comparison import FactorComparison
from ._within_ols import WithinOLS

__all__ = ["ClusterRobustOLS", "Comparison", "FactorComparison", "WithinOLS", "compare_with_ols"]
