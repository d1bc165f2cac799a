"""`Solution` and `InferenceSums`: the model at one variance ratio, and the sums that inference about it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class InferenceSums:
    """Sums over groups at one variance ratio, in columns in which the estimates are uncorrelated.

    With h_j = n_j / (1 + gamma n_j), B_XX = L L', x_j the group means of x times L^-T, and e_j the residual means over the
    root of r2, the sums are of t_j = (x_j, e_j). They have no units.

    Attributes
    ----------
    second, third : ndarray of shape (k + 1, k + 1)
        sum_j h_j^p t_j t_j' for p = 2 and 3.
    h_sum, h_squared : float
        sum_j h_j^p for p = 1 and 2.
    """

    second: np.ndarray
    third: np.ndarray
    h_sum: float
    h_squared: float


@dataclass(frozen=True, eq=False)
class Solution:
    """The model at one variance ratio: everything that the likelihood gives once tau2 / sigma2 is fixed.

    Attributes
    ----------
    ratio : float
        The variance ratio gamma = tau2 / sigma2; infinity if sigma2 is 0.
    group_variance, residual_variance : float
        tau2 and sigma2, in units of y squared.
    coefficients : ndarray of shape (n_features,)
        Slopes; 0 for a column that depends on those before it.
    rest_coefficients : ndarray of shape (n_features,)
        Slopes less those of the remainder of the moments; the same as `coefficients` if there is none.
    intercept : float
        0 in a model without one.
    center : ndarray of shape (n_features,)
        The point of x at which `root` has the intercept: the grand mean, or 0 in a model without intercept.
    root : ndarray of shape (n_coefficients, k)
        R, where R R' is the covariance of the fixed effects. The intercept, if there is one, comes first and is that at
        `center`, where a distant origin costs no digits. Rows of dropped columns are 0.
    residual_means : ndarray of shape (n_groups,)
        e_j, each group's mean of y less its fixed part.
    reliabilities : ndarray of shape (n_groups,)
        lambda_j = gamma n_j / (1 + gamma n_j), the share of e_j that is the empirical-Bayes estimate.
    value : float
        The criterion: -2 (restricted) log-likelihood with all constants, as in lme4.
    sums : InferenceSums or None
        None at an infinite ratio.
    """

    ratio: float
    group_variance: float
    residual_variance: float
    coefficients: np.ndarray
    rest_coefficients: np.ndarray
    intercept: float
    center: np.ndarray
    root: np.ndarray
    residual_means: np.ndarray
    reliabilities: np.ndarray
    value: float
    sums: InferenceSums | None

    @property
    def random_effects(self) -> np.ndarray:
        """Empirical-Bayes estimates u_j = lambda_j e_j, of shape (n_groups,)."""
        return self.reliabilities * self.residual_means

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the fixed effects, the intercept first if there is one; rows of dropped columns are 0."""
        covariance = self.root @ self.root.T
        if len(self.root) == len(self.center):
            return covariance
        # From the intercept at the centre to that at 0.
        shift = np.eye(len(covariance))
        shift[0, 1:] = -self.center
        return shift @ covariance @ shift.T


@dataclass(frozen=True, eq=False)
class Profiles:
    """What profile limits take, at several variance ratios.

    Attributes
    ----------
    values : ndarray of shape (n_ratios,)
        The criterion.
    r2 : ndarray of shape (n_ratios,)
        The residual sum of squares r2(gamma), with y in the unit of the coordinates.
    coefficients : ndarray of shape (n_ratios, n_coefficients)
        Fixed effects of the columns of the data, the intercept first if there is one.
    variances : ndarray of shape (n_ratios, n_coefficients)
        Their variances if r2 were D: the diagonal of B_XX^-1 in the columns of the data; 0 for dropped ones.
    """

    values: np.ndarray
    r2: np.ndarray
    coefficients: np.ndarray
    variances: np.ndarray


def reliabilities_of(ratio: float, counts: np.ndarray) -> np.ndarray:
    """Return lambda_j = gamma n_j / (1 + gamma n_j) of groups of these sizes, 1 if gamma is infinite."""
    if np.isinf(ratio):
        return np.ones(len(counts))
    # A huge ratio may overflow.
    with np.errstate(over="ignore"):
        return 1.0 - 1.0 / (1.0 + ratio * counts) if ratio > 1.0 else ratio * counts / (1.0 + ratio * counts)


def predicted_means(
    X: Any, codes: np.ndarray, slopes: np.ndarray, intercept: float, effects: np.ndarray, unseen: float = 0.0
) -> np.ndarray:
    """Return intercept + x' slopes + the effect of each row's group.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), or None
    codes : ndarray of shape (n_samples,)
        Positions in `effects`; -1 for an unseen group and -2 for none, which have no effect.
    slopes : ndarray of shape (n_features,)
    intercept : float
    effects : ndarray of shape (n_groups,)
    unseen : float, default=0.0
        What stands for the effect of an unseen group.
    """
    # Negative codes count from the end.
    mean = np.append(effects, [0.0, unseen])[codes]
    mean += intercept
    if X is not None:
        mean += X @ slopes
    return mean
