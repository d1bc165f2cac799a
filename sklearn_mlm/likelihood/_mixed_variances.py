"""What inference asks of the variances of a model with several random coefficients."""

from __future__ import annotations

import numpy as np

from .._typing import Floats
from ._evaluation import CovarianceCriterion
from ._mixed_optimum import MixedOptimum

# Entries of a direction, relative to the largest, that are rounding.
_ROUNDING = 1e-12


def kenward_roger_terms(criterion: CovarianceCriterion, optimum: MixedOptimum) -> tuple[Floats, Floats, Floats]:
    """Return P, Q and T of Kenward and Roger, as `MixedFit.variance_terms` does, in units of sigma2.

    The variances are the free entries of Sigma, with V_E = Z E Z' for the matrix E of an entry, and sigma2, with
    V_sigma = (V - Z Sigma Z') / sigma2. With K_j and H_j as in `PairSums`,

        P_E = -sum_j K_j' E K_j,   Q_EE' = sum_j K_j' E H_j E' K_j,   T_EE' = sum_j tr(H_j E H_j E'),

    and the terms of sigma2 follow from V_sigma.

    Parameters
    ----------
    criterion : MixedCriterion or FactorCriterion
        The criterion.
    optimum : MixedOptimum
        Its minimum.

    Returns
    -------
    p : ndarray of shape (m, k, k)
        P_r.
    q : ndarray of shape (m, m, k, k)
        Q_rs.
    t : ndarray of shape (m, m)
        T_rs.
    """
    evaluation, k = optimum.evaluation, criterion.rank
    entries = _free_entries(criterion)
    basis, factor = criterion.basis[entries], optimum.factor
    g = (factor @ factor.T)[criterion.pairs][entries]
    by_entry = -evaluation.sums.along[0][entries][:, :k, :k]
    q_ee = criterion.triple_products(factor, evaluation.root, basis)
    p_sigma = -(np.eye(k) + np.tensordot(g, by_entry, 1))
    q_es = -by_entry - np.tensordot(q_ee, g, axes=(1, 0))
    q_se = -by_entry - np.tensordot(g, q_ee, 1)
    q_ss = -p_sigma - np.tensordot(g, q_es, 1)
    t_ee = evaluation.sums.hh[0][np.ix_(entries, entries)]
    h = np.einsum("pab,ab->p", basis, evaluation.sums.h[0])
    t_es = h - t_ee @ g
    t_ss = criterion.n_observations - g @ h - g @ t_es
    p = np.concatenate([by_entry, p_sigma[None]])
    q = np.concatenate([np.concatenate([q_ee, q_es[:, None]], axis=1), np.append(q_se, q_ss[None], axis=0)[None]])
    return p, q, np.block([[t_ee, t_es[:, None]], [t_es[None, :], np.array([[t_ss]])]])


def _free_entries(criterion: CovarianceCriterion) -> np.ndarray:
    """Return the positions among the pairs of coordinates of the entries of G that are free."""
    free = np.zeros((criterion.n_random,) * 2, dtype=bool)
    for block in criterion.coordinates.blocks:
        free[np.ix_(block, block)] = True
    return np.flatnonzero(free[criterion.pairs])


def directions_without_variance(optimum: MixedOptimum, turn: Floats) -> Floats:
    """Return combinations v of the random coefficients b for which v'b has no variance.

    Parameters
    ----------
    optimum : MixedOptimum
        The optimum.
    turn : ndarray of shape (q, q)
        The matrix T with b = T b' for coefficients b' in the coordinates, so that T'v = n for a direction n without variance
        there.

    Returns
    -------
    directions : ndarray of shape (n_null, q)
        The combinations, in which the entry that matters most is 1.
    """
    null = optimum.basis[:, optimum.roots == 0.0]
    if not null.size:
        return np.zeros((0, len(turn)))
    directions = np.linalg.solve(turn.T, null).T
    # Entries are compared by what they contribute in the coordinates, which have no units.
    matters = np.abs(directions) / np.linalg.norm(np.linalg.inv(turn), axis=0)
    directions /= directions[np.arange(len(directions)), matters.argmax(axis=1)][:, None]
    directions[np.abs(directions) < _ROUNDING * np.abs(directions).max(axis=1, keepdims=True)] = 0.0
    return np.asarray(directions, dtype=np.float64)
