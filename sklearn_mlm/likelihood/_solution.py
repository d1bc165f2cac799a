"""`Solution` and `InferenceSums`: the model at one variance ratio, and the sums that inference uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._typing import Floats


@dataclass(frozen=True, eq=False)
class InferenceSums:
    """Stores sums over groups at one variance ratio, in columns in which the estimates are uncorrelated.

    With h_j = n_j / (1 + gamma n_j), B_XX = L L', x_j the group means of x times L^-T, e_j the residual means divided by the
    root of r2, and t_j = (x_j, e_j), the sums are as follows. They have no units.

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
    """Stores the model at one variance ratio: everything that the likelihood gives if tau2 / sigma2 is fixed.

    Attributes
    ----------
    ratio : float
        The variance ratio gamma = tau2 / sigma2; infinity if sigma2 is 0.
    group_variance, residual_variance : float
        tau2 and sigma2, in units of y squared.
    coefficients : ndarray of shape (n_features,)
        Slopes; 0 for a column that depends on the columns before it.
    rest_coefficients : ndarray of shape (n_features,)
        Slopes less the slopes of the remainder of the moments; equal to `coefficients` if the moments have none.
    intercept : float
        Fixed intercept; 0 in a model without one.
    center : ndarray of shape (n_features,)
        The point of x at which `root` takes the intercept: the grand mean, or 0 in a model without intercept.
    root : ndarray of shape (n_coefficients, k)
        R, a root of the covariance R R' of the fixed effects. The intercept comes first, if there is one, and is the
        intercept at `center`, so that a distant origin costs no digits. Rows of dropped columns are 0.
    residual_means : ndarray of shape (n_groups,)
        e_j, the mean of y less its fixed part in each group.
    reliabilities : ndarray of shape (n_groups,)
        lambda_j = gamma n_j / (1 + gamma n_j): the empirical-Bayes estimate is lambda_j e_j.
    value : float
        The criterion: -2 (restricted) log-likelihood with all constants, as in lme4.
    sums : InferenceSums or None
        The sums that inference uses; None at an infinite ratio.
    """

    ratio: float
    group_variance: float
    residual_variance: float
    coefficients: np.ndarray
    rest_coefficients: np.ndarray
    intercept: float
    center: Floats
    root: Floats
    residual_means: Floats
    reliabilities: Floats
    value: float
    sums: InferenceSums | None

    @property
    def random_effects(self) -> np.ndarray:
        """Empirical-Bayes estimates u_j = lambda_j e_j, of shape (n_groups,)."""
        return self.reliabilities * self.residual_means

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the fixed effects, the intercept first if there is one; 0 for dropped columns."""
        covariance: np.ndarray = self.root @ self.root.T
        if len(self.root) != len(self.center):
            # From the intercept at the centre to the intercept at 0.
            shift = np.eye(len(covariance))
            shift[0, 1:] = -self.center
            covariance = shift @ covariance @ shift.T
        return covariance


@dataclass(frozen=True, eq=False)
class Profiles:
    """Stores what profile limits are made of, at several variance ratios.

    Attributes
    ----------
    values : ndarray of shape (n_ratios,)
        The criterion.
    r2 : ndarray of shape (n_ratios,)
        The residual sum of squares r2(gamma), with y in the unit of the coordinates.
    coefficients : ndarray of shape (n_ratios, n_coefficients)
        Fixed effects, the intercept first if there is one.
    variances : ndarray of shape (n_ratios, n_coefficients)
        Variances of the fixed effects divided by r2 / D: the diagonal of B_XX^-1; 0 for dropped columns.
    """

    values: np.ndarray
    r2: np.ndarray
    coefficients: np.ndarray
    variances: np.ndarray


def reliabilities_of(ratio: float, counts: Floats) -> Floats:
    """Return lambda_j = gamma n_j / (1 + gamma n_j) for groups of these sizes; 1 if gamma is infinite."""
    if np.isinf(ratio):
        return np.ones(len(counts))
    # A very large ratio may overflow.
    with np.errstate(over="ignore"):
        return 1.0 - 1.0 / (1.0 + ratio * counts) if ratio > 1.0 else ratio * counts / (1.0 + ratio * counts)


def predicted_means(
    X: Any, codes: np.ndarray, slopes: np.ndarray, intercept: float, effects: np.ndarray, unseen: float = 0.0
) -> np.ndarray:
    """Return the predicted mean of each row: intercept + x' slopes + the effect of its group.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), or None
        Predictors.
    codes : ndarray of shape (n_samples,)
        Positions in `effects`; -1 for an unseen group, and -2 for a row without a group, whose effect is 0.
    slopes : ndarray of shape (n_features,)
        Fixed effects of the predictors.
    intercept : float
        Fixed intercept.
    effects : ndarray of shape (n_groups,)
        Effects of the groups.
    unseen : float, default=0.0
        Effect of an unseen group.

    Returns
    -------
    mean : ndarray of shape (n_samples,)
        In units of y.
    """
    # The codes -2 and -1 count from the end of the effects.
    mean: np.ndarray = np.append(effects, [0.0, unseen])[codes]
    mean += intercept
    if X is not None:
        mean += X @ slopes
    return mean
