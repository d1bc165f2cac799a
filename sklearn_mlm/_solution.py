"""`Solution`, `State` and `Profiles`: the model at given variance ratios, and what inference about it is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Solution:
    """The model at one variance ratio: everything the likelihood gives once tau2 / sigma2 is fixed.

    Attributes
    ----------
    ratio : float
        The variance ratio gamma = tau2 / sigma2; infinity where sigma2 is 0.
    group_variance, residual_variance : float
        tau2 and sigma2, in units of y squared.
    coefficients : ndarray of shape (n_features,)
        Slopes; 0 for a column that depends on those before it.
    rest_coefficients : ndarray of shape (n_features,)
        Slopes less those of the moments' remainder: the same as `coefficients` if there is none.
    intercept : float
        0 in a model without one.
    covariance : ndarray of shape (k, k)
        Covariance of the fixed effects, the intercept first where the model has one; rows and columns of dropped columns
        are 0.
    center : ndarray of shape (n_features,)
        The point of x about which `centered_covariance` is given: the grand mean, or 0 in a model without intercept.
    centered_covariance : ndarray of shape (k, k)
        The covariance with the intercept taken at `center`, where no digits are lost to a distant origin.
    residual_means : ndarray of shape (n_groups,)
        e_j, each group's mean of y less its fixed part.
    reliabilities : ndarray of shape (n_groups,)
        lambda_j = gamma n_j / (1 + gamma n_j), the share of e_j that is the empirical-Bayes estimate.
    value : float
        The criterion: -2 (restricted) log-likelihood with all constants, as in lme4.
    """

    ratio: float
    group_variance: float
    residual_variance: float
    coefficients: np.ndarray
    rest_coefficients: np.ndarray
    intercept: float
    covariance: np.ndarray
    center: np.ndarray
    centered_covariance: np.ndarray
    residual_means: np.ndarray
    reliabilities: np.ndarray
    value: float

    @property
    def random_effects(self) -> np.ndarray:
        """Empirical-Bayes estimates u_j = lambda_j e_j, of shape (n_groups,)."""
        return self.reliabilities * self.residual_means


@dataclass(frozen=True, eq=False)
class State:
    """The sums over groups that inference is made of, at one variance ratio.

    With h_j = n_j / (1 + gamma n_j), x_j the means of x in group j and e_j those of the residual. The columns are the
    criterion's own, in which y has a scale of its own; `to_columns` leads back to the data's.

    Attributes
    ----------
    ratio : float
        gamma.
    reml : bool
        Whether the criterion is restricted.
    n_observations, degrees_of_freedom : float
        N, and D: N - k for REML, N for maximum likelihood.
    between_degrees_of_freedom : int
        J less the fixed effects that vary between groups only.
    rank : int
        k.
    dropped : ndarray of int
        Features that depend on those before them.
    r2, slope : float
        The residual sum of squares r2(gamma), and its derivative -sum_j h_j^2 e_j^2.
    residual_cubed : float
        sum_j h_j^3 e_j^2.
    b_xx, inverse : ndarray of shape (k, k)
        B_XX and its inverse.
    x_squared, x_cubed : ndarray of shape (k, k)
        sum_j h_j^p x_j x_j' for p = 2 and 3.
    x_residual : ndarray of shape (k,)
        sum_j h_j^2 e_j x_j.
    h_sum, h_squared : float
        sum_j h_j^p for p = 1 and 2.
    coefficients : ndarray of shape (n_coefficients,)
        Fixed effects of the data's columns, the intercept first where the model has one.
    to_centered : ndarray of shape (n_coefficients, k)
        As `to_columns`, for the intercept at the solution's centre, where no digits are lost to a distant origin.
    to_columns : ndarray of shape (n_coefficients, k)
        Takes a change of the criterion's coefficients to the change of the data's; rows of dropped columns are 0.
    y_scale : float
        The unit of y in the criterion.
    """

    ratio: float
    reml: bool
    n_observations: float
    degrees_of_freedom: float
    between_degrees_of_freedom: int
    rank: int
    dropped: np.ndarray
    r2: float
    slope: float
    residual_cubed: float
    b_xx: np.ndarray
    inverse: np.ndarray
    x_squared: np.ndarray
    x_cubed: np.ndarray
    x_residual: np.ndarray
    h_sum: float
    h_squared: float
    coefficients: np.ndarray
    to_centered: np.ndarray
    to_columns: np.ndarray
    y_scale: float

    @property
    def residual_variance(self) -> float:
        """sigma2 = r2 / D, in the criterion's units."""
        return self.r2 / self.degrees_of_freedom

    def whitened(self) -> State:
        """Return it in columns whose estimates are uncorrelated with variance sigma2, where products lose no digits."""
        size = np.sqrt(np.diag(self.inverse))
        root = size[:, None] * np.linalg.cholesky(self.inverse / np.outer(size, size))
        return replace(
            self,
            b_xx=np.eye(self.rank),
            inverse=np.eye(self.rank),
            x_squared=root.T @ self.x_squared @ root,
            x_cubed=root.T @ self.x_cubed @ root,
            x_residual=root.T @ self.x_residual,
            to_centered=self.to_centered @ root,
            to_columns=self.to_columns @ root,
        )


@dataclass(frozen=True, eq=False)
class Profiles:
    """What profile limits are made of, at several variance ratios.

    Attributes
    ----------
    values : ndarray of shape (n_ratios,)
        The criterion.
    r2 : ndarray of shape (n_ratios,)
        The residual sum of squares r2(gamma), y in the criterion's unit.
    coefficients : ndarray of shape (n_ratios, n_coefficients)
        Fixed effects of the data's columns, the intercept first where the model has one.
    variances : ndarray of shape (n_ratios, n_coefficients)
        Their variances where r2 = D, the diagonal of B_XX^-1 in the columns of the data; 0 for dropped ones.
    """

    values: np.ndarray
    r2: np.ndarray
    coefficients: np.ndarray
    variances: np.ndarray


def reliabilities_of(ratio: float, counts: np.ndarray) -> np.ndarray:
    """Return lambda_j = gamma n_j / (1 + gamma n_j) of groups of these sizes, 1 where gamma is infinite."""
    with np.errstate(invalid="ignore"):
        scaled = ratio * counts
        return np.where(np.isinf(scaled), 1.0, scaled / (1.0 + scaled))
