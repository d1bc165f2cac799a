"""One yardstick for all: the exact likelihood at the variance components that a peer reached, fixed effects profiled out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import multivariate_normal

from sklearn_mlm import GroupedMoments
from sklearn_mlm.likelihood._criterion import Criterion
from sklearn_mlm.likelihood._optimum import minimise


@dataclass(frozen=True)
class Optimum:
    """The maximum of the (restricted) log-likelihood, and the criterion it is found in.

    Attributes
    ----------
    criterion : Criterion
    log_likelihood : float
        The maximum.
    slopes, std_errors : ndarray of shape (n_columns,)
        Fixed effects there but the intercept, and their standard errors.
    """

    criterion: Criterion
    log_likelihood: float
    slopes: np.ndarray
    std_errors: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Optimum:
        """Return the optimum for data."""
        criterion = Criterion(GroupedMoments.from_arrays(X, y, groups), reml=reml)
        solution = minimise(criterion).solution
        std_errors = np.sqrt(np.diag(solution.covariance))[1:]
        return cls(criterion, -solution.value / 2, solution.coefficients, std_errors)


def log_likelihood(criterion: Criterion, group_variance: float, residual_variance: float) -> float:
    """Return the (restricted) log-likelihood at both variances, fixed effects profiled out, with all constants.

    At a ratio gamma the criterion c(gamma) has sigma2 profiled out. At another sigma2 than that best one, s2,

        -2 log L = c(gamma) + D (s2 / sigma2 - 1 - log(s2 / sigma2)),

    D the degrees of freedom, since -2 log L is D log sigma2 + D s2 / sigma2 but for what depends on gamma alone.
    """
    solution = criterion.solution(group_variance / residual_variance)
    excess = solution.residual_variance / residual_variance - 1.0
    return -(solution.value + criterion.degrees_of_freedom * (excess - np.log1p(excess))) / 2


def dense_log_likelihood(
    X: np.ndarray, y: np.ndarray, groups: np.ndarray, group_variance: float, residual_variance: float, reml: bool
) -> float:
    """Return the same from the n-by-n covariance matrix, as textbooks have it."""
    V = residual_variance * np.eye(len(y)) + group_variance * (groups[:, None] == groups)
    X1 = np.column_stack([np.ones(len(y)), X])
    information = X1.T @ np.linalg.solve(V, X1)
    mean = X1 @ np.linalg.solve(information, X1.T @ np.linalg.solve(V, y))
    value = float(multivariate_normal(mean, V).logpdf(y))
    if reml:
        value += (X1.shape[1] * np.log(2 * np.pi) - np.linalg.slogdet(information)[1]) / 2
    return value


def check() -> None:
    """Raise an AssertionError unless the yardstick agrees with dense matrices, at several variances, for REML and ML."""
    rng = np.random.default_rng(1)
    X, groups = rng.standard_normal((200, 3)), rng.integers(0, 20, 200)
    y = X.sum(axis=1) + rng.standard_normal(20)[groups] + rng.standard_normal(200)
    for reml in (True, False):
        criterion = Optimum.of(X, y, groups, reml).criterion
        for variances in ((1.0, 1.0), (0.3, 2.0), (0.0, 1.5), (5.0, 0.2)):
            dense = dense_log_likelihood(X, y, groups, *variances, reml)
            np.testing.assert_allclose(log_likelihood(criterion, *variances), dense, rtol=1e-12)
