"""The within (fixed-effects) estimator: least squares with an intercept for every group, from grouped moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..likelihood._linalg import DEPENDENT, SMALL_REST, independent_columns, solve_positive, zero_columns
from ..moments._grouped_moments import GroupedMoments
from ..moments._moments import varies_within
from ..moments._remainder import KnownPart


@dataclass(frozen=True, eq=False)
class WithinEstimate:
    """Least squares on deviations from group means.

    Attributes
    ----------
    coefficients : ndarray of shape (n_features,)
        Coefficients; 0 for columns that are not identified.
    covariance : ndarray of shape (n_features, n_features)
        Covariance of the coefficients, sigma2 W_xx^-1; 0 for columns that are not identified.
    identified : ndarray of shape (n_features,), bool
        False for a column that is constant in every group, or within groups depends on those before it.
    residual_variance : float
        sigma2, in units of y squared. If no degrees of freedom are left, it is NaN, and so is the covariance.
    degrees_of_freedom : float
        N - J, less the number of columns identified.
    intercept : float
        Average of the groups' intercepts, weighted by the weight of their rows.
    group_effects : ndarray of shape (n_groups,)
        The groups' intercepts less their average.
    small_rest : bool
        Whether the columns explain so much of y within groups that the rest has lost digits.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    identified: np.ndarray
    residual_variance: float
    degrees_of_freedom: float
    intercept: float
    group_effects: np.ndarray
    small_rest: bool


def known_part(moments: GroupedMoments) -> KnownPart | None:
    """Return the part of y that the columns explain within groups; None if the rest of y has lost no digits to it."""
    estimate = within_estimate(moments)
    return moments.known_part(estimate.coefficients) if estimate.small_rest else None


def within_estimate(moments: GroupedMoments, n_observations: float | None = None) -> WithinEstimate:
    """Return the within estimator of moments: beta = W_xx^-1 W_xy, sigma2 = (W_yy - W_yx beta) / (N - J - k).

    Least squares with a dummy for every group give the same (Frisch & Waugh 1933), at the cost of J columns.

    Parameters
    ----------
    moments : GroupedMoments
        Moments of the rows.
    n_observations : float or None, default=None
        N; None counts the rows, whatever their weights.

    Returns
    -------
    estimate : WithinEstimate
        The coefficients, their covariance and the groups' intercepts.

    References
    ----------
    Y. Mundlak (1978), "On the pooling of time series and cross section data", Econometrica 46(1), 69-85, equation 2.7.
    """
    n_features, within = moments.n_features, moments.within.copy()
    zero_columns(within, ~varies_within(moments))
    length = np.sqrt(within.diagonal())
    length = np.where(length > 0, length, 1.0)
    scaled = within / np.outer(length, length)
    kept = independent_columns(scaled[:-1, :-1])
    n = float(moments.n_rows.sum()) if n_observations is None else n_observations
    free = n - moments.n_groups - len(kept)
    gram = scaled[np.ix_(kept, kept)]
    slopes = solve_positive(gram, scaled[kept, -1])
    contrast = np.zeros(n_features + 1)
    contrast[kept], contrast[-1] = -slopes, 1.0
    left = float(contrast @ scaled @ contrast)
    sigma2 = np.nan if free <= 0 else 0.0 if left <= DEPENDENT else left * length[-1] ** 2 / free
    coefficients, covariance = np.zeros(n_features), np.zeros((n_features, n_features))
    coefficients[kept] = slopes * length[-1] / length[kept]
    inverse = solve_positive(gram, np.eye(len(kept)))
    covariance[np.ix_(kept, kept)] = sigma2 * inverse / np.outer(length[kept], length[kept])
    identified = np.zeros(n_features, dtype=bool)
    identified[kept] = True
    residual = np.append(-coefficients, 1.0)
    intercepts = moments.deviations @ residual
    average = float(moments.counts @ intercepts / moments.counts.sum())
    return WithinEstimate(
        coefficients=coefficients,
        covariance=covariance,
        identified=identified,
        residual_variance=sigma2,
        degrees_of_freedom=free,
        intercept=float(moments.center @ residual) + average,
        group_effects=intercepts - average,
        # The sums that y consists of may be larger than y.
        small_rest=bool(free > 0 and scaled[-1, -1] > 0 and left < SMALL_REST * max(1.0, slopes @ slopes)),
    )
