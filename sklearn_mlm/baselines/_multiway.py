"""Multi-way cluster-robust covariances: rows that share a level of any of several factors may depend on each other."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from .._typing import CovarianceType
from ..likelihood._solution import Solution
from ..moments._cells import RowsInCells, distinct_rows
from ..moments._grouped_moments import GroupedMoments
from ._cluster_robust import cluster_robust


def multiway_cluster_robust(
    rows: RowsInCells, moments: GroupedMoments, solution: Solution, dropped: np.ndarray, cov_type: CovarianceType
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the multi-way cluster-robust covariance of least squares, its degrees of freedom, and which have none.

    For two factors a and b it is V_a + V_b - V_ab, where V_ab has the pairs of levels as clusters; for more, the covariances
    of all intersections of factors are added with alternating signs. Each has its own correction for the number of its
    clusters. Negative eigenvalues, which the difference may have, are replaced by 0.

    Parameters
    ----------
    rows : RowsInCells
        The rows, with the columns of labels.
    moments : GroupedMoments
        Moments of all rows in one group.
    solution : Solution
        Least squares.
    dropped : ndarray of int
        Positions of dropped coefficients.
    cov_type : {"CR0", "CR1"}
        Whether to correct for the number of clusters.

    Returns
    -------
    covariance : ndarray of shape (n_coefficients, n_coefficients)
        The covariance.
    df : ndarray of shape (n_coefficients,)
        The number of clusters of the factor that has the fewest, less 1.
    single : ndarray of shape (n_coefficients,), bool
        Which coefficients rest on one cluster of a factor.

    References
    ----------
    A. C. Cameron, J. B. Gelbach and D. L. Miller (2011), "Robust inference with multiway clustering", Journal of Business &
    Economic Statistics 29(2), 238-249, equations 2.3 to 2.11.
    """
    codes = rows.cells.codes[rows.rows.codes]
    sizes = [len(levels) for levels in rows.cells.levels]
    width = len(solution.covariance)
    total, single = np.zeros((width, width)), np.zeros(width, dtype=bool)
    for count in range(1, len(sizes) + 1):
        for chosen in combinations(range(len(sizes)), count):
            of_rows, first = distinct_rows(codes[:, chosen], [sizes[at] for at in chosen])
            clustered = replace(rows.rows, codes=of_rows, levels=pd.RangeIndex(len(first)))
            part, _, alone = cluster_robust(clustered, moments, solution, dropped, cov_type)
            total += part if count % 2 else -part
            single |= alone & (count == 1)
    df = np.full(width, float(min(sizes) - 1))
    df[dropped] = np.nan
    return _without_negative(total), df, single


def _without_negative(covariance: np.ndarray) -> np.ndarray:
    """Return a symmetric matrix with its negative eigenvalues, in units of the standard errors, replaced by 0."""
    length = np.sqrt(np.abs(covariance.diagonal()))
    length[length == 0] = 1.0
    values, vectors = np.linalg.eigh(covariance / np.outer(length, length))
    if values.min(initial=0.0) >= 0:
        return covariance
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) * length[:, None]
    return np.asarray(root @ root.T)
