"""What the rows say of the variances: whether different covariances of random coefficients give y different covariances."""

from __future__ import annotations

import numpy as np

from .._typing import Floats
from ._evaluation import CovarianceCriterion

# Information, relative to that of each variance by itself, that is rounding.
_NO_INFORMATION = 1e-11
# Entries of a unit vector that count.
_COUNTS = 1e-4


def unidentified(criterion: CovarianceCriterion) -> tuple[list[int], bool] | None:
    """Return which variances the rows cannot tell apart; None if all are identified.

    The covariance of y is linear in the free entries of Sigma and in sigma2. They are identified if that map has full rank:
    for maximum likelihood over the groups, for REML after projection on what the fixed effects leave. Its Gram matrix is

        tr(P V_r P V_s) = sum_j tr(M_j E_r (M_j - 2 N_j) E_s) + tr(C_r C_s),

    with M_j = R_j' R_j, N_j = K_j K_j' and C_r = sum_j K_j' E_r K_j at Sigma = 0, or the same without N_j and C_r.

    Parameters
    ----------
    criterion : MixedCriterion or FactorCriterion
        The criterion.

    Returns
    -------
    blocks : list of int
        Positions of the blocks of random coefficients that are involved.
    residual : bool
        Whether the residual variance is involved.
    """
    blocks = criterion.coordinates.blocks
    if not blocks:
        return None
    evaluation, k = criterion.at_zero, criterion.rank
    sums, basis = evaluation.sums, criterion.basis
    own = sums.hh[0]
    products, with_residual = own.copy(), np.einsum("pab,ab->p", basis, sums.h[0])
    # A covariance is compared with its two variances: its own information may be rounding.
    variances = own.diagonal()[criterion.pairs[0] == criterion.pairs[1]]
    both = np.sqrt(variances[criterion.pairs[0]] * variances[criterion.pairs[1]])
    alone = np.append(np.where(criterion.pairs[0] == criterion.pairs[1], 1.0, 2.0) * both, criterion.n_observations)
    if criterion.reml:
        c = sums.along[0][:, :k, :k]
        products += np.einsum("pij,rij->pr", c, c) - sums.hn[0]
        with_residual -= np.trace(c, axis1=1, axis2=2)
    free = np.flatnonzero(_block_of_pairs(criterion) >= 0)
    gram = np.empty((len(free) + 1,) * 2)
    gram[:-1, :-1] = products[np.ix_(free, free)]
    gram[-1, :-1] = gram[:-1, -1] = with_residual[free]
    gram[-1, -1] = criterion.degrees_of_freedom
    length = np.sqrt(alone[np.append(free, len(own))])
    values, vectors = np.linalg.eigh((gram + gram.T) / 2 / np.outer(length, length))
    if values[0] > _NO_INFORMATION:
        return None
    involved = np.abs(vectors[:, values <= _NO_INFORMATION]).max(axis=1) > _COUNTS
    found = _block_of_pairs(criterion)[free][involved[:-1]]
    return sorted(set(found.tolist())), bool(involved[-1])


def _block_of_pairs(criterion: CovarianceCriterion) -> np.ndarray:
    """Return the block of each pair of random coefficients; -1 if they are in different blocks."""
    block: Floats = np.full((criterion.n_random,) * 2, -1)
    for at, members in enumerate(criterion.coordinates.blocks):
        block[np.ix_(members, members)] = at
    return np.asarray(block[criterion.pairs], dtype=int)
