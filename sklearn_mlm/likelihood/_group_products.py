"""What groups contribute to the criterion of several random coefficients, and sums of products of these parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .._typing import Floats
from ._group_factors import GroupRows

# Numbers of a block of groups, which fit into cache.
BLOCK_NUMBERS = 1 << 15


@dataclass(frozen=True, eq=False)
class PairSums:
    """Stores sums over groups at several relative covariances.

    With T_j = I + R_j G R_j', H_j = R_j' T_j^-1 R_j, and K_j = R_j' T_j^-1 C_j times the inverse root of B, whose last
    column is g_j divided by the root of r2, the sums are as follows.

    Attributes
    ----------
    h : ndarray of shape (n, q, q)
        sum_j H_j.
    k : ndarray of shape (n, q, k + 1, q, k + 1)
        sum_j of the products of the entries of K_j.
    hh, hn, hg : ndarray of shape (n, n_pairs, n_pairs)
        sum_j of the products of the entries of H_j, at pairs, with those of H_j, of N_j = K_j K_j' without the last column
        of K_j, and of the products of that column with itself.
    """

    h: Floats
    k: Floats
    hh: Floats
    hn: Floats
    hg: Floats


@cache
def pairs_of(q: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs a <= b of q coefficients."""
    a, b = np.triu_indices(q)
    return a, b


@cache
def basis_of(q: int) -> Floats:
    """Return the symmetric matrix of each pair, with 1 at both of its places."""
    a, b = pairs_of(q)
    basis = np.zeros((len(a), q, q))
    basis[np.arange(len(a)), a, b] = basis[np.arange(len(a)), b, a] = 1.0
    return basis


@cache
def contraction_of(q: int) -> Floats:
    """Return the matrix of `contracted`, of shape (n_pairs^2, n_pairs^2)."""
    basis = basis_of(q)
    tensor = np.einsum("xda,pab,fbc,rcd->xfpr", basis, basis, basis, basis, optimize=True)
    return np.asarray(tensor.reshape(len(basis) ** 2, len(basis) ** 2))


@dataclass(frozen=True, eq=False)
class GroupProducts:
    """Stores what a block of groups contributes to B, and products of its factors, at several G.

    Attributes
    ----------
    log_det : ndarray of shape (n,)
        Sum of log det T_j.
    between : ndarray of shape (n, k + 1, k + 1)
        Sum of C_j' T_j^-1 C_j.
    cross : ndarray of shape (n, q, k + 1, n_block)
        R_j' T_j^-1 C_j.
    h : ndarray of shape (n, n_pairs, n_block)
        H_j = R_j' T_j^-1 R_j at pairs.
    """

    log_det: Floats
    between: Floats
    cross: Floats
    h: Floats


def group_products(rows: GroupRows, at: slice, factors: Floats) -> GroupProducts:
    """Return the products of a block of groups at several factors F of G.

    The Cholesky factor of T_j = [I, R_j F] [I, R_j F]' is found by Givens rotations of [I, R_j F], because the squares of
    large entries would cost digits.
    """
    z, xy = rows.z[:, :, at], rows.xy[:, :, at]
    q, n_block = z.shape[1:]
    n, rank = len(factors), factors.shape[2]
    spread = factors.transpose(0, 2, 1)[:, None] @ z
    lower = [[np.zeros((n, n_block)) if i != j else np.ones((n, n_block)) for j in range(i + 1)] for i in range(q)]
    for column in range(rank):
        x = [spread[:, i, column] for i in range(q)]
        for i in range(q):
            pivot = lower[i][i]
            length = np.sqrt(pivot * pivot + x[i] * x[i])
            cosine, sine = pivot / length, x[i] / length
            lower[i][i] = length
            for below in range(i + 1, q):
                old = lower[below][i]
                lower[below][i] = cosine * old + sine * x[below]
                x[below] = cosine * x[below] - sine * old
    both = np.concatenate([xy, z], axis=1)
    white = np.empty((n, q, both.shape[1], n_block))
    determinant = np.ones((n, n_block))
    for i in range(q):
        row = white[:, i]
        row[:] = both[i]
        for above in range(i):
            row -= lower[i][above][:, None] * white[:, above]
        row /= lower[i][i][:, None]
        determinant = determinant * lower[i][i]
    width = xy.shape[1]
    fixed, turned = white[:, :, :width], white[:, :, width:]
    cross = np.zeros((n, q, width, n_block))
    for a in range(q):
        for i in range(q):
            cross[:, a] += turned[:, i, a, None] * fixed[:, i]
    pairs = zip(*pairs_of(q), strict=True)
    h = np.stack([(turned[:, :, a] * turned[:, :, b]).sum(axis=1) for a, b in pairs], axis=1)
    between = np.zeros((n, width, width))
    for i in range(q):
        between += fixed[:, i] @ fixed[:, i].transpose(0, 2, 1)
    return GroupProducts(2.0 * np.log(determinant).sum(axis=1), between, cross, h)


def between_at(rows: GroupRows, variances: np.ndarray) -> Floats:
    """Return sum_j C_j' T_j^-1 C_j, of shape (k + 1, k + 1), at a diagonal G."""
    q, width, n_groups = rows.xy.shape
    factors, total = np.diag(np.sqrt(variances))[None], np.zeros((width, width))
    step = max(1, BLOCK_NUMBERS // max(1, q * width))
    for start in range(0, n_groups, step):
        total += group_products(rows, slice(start, start + step), factors).between[0]
    return total


def crude_variances(rows: GroupRows, residual_variance: float) -> Floats:
    """Return crude estimates of the diagonal of G by moments, all of them positive.

    The expected squares of R_j' c_j, where c_j is y along the unit vectors of group j, are sigma2 (M_j + M_j G M_j) with
    M_j = R_j' R_j.

    Parameters
    ----------
    rows : GroupRows
        The groups.
    residual_variance : float
        The residual variance; if it is 0, the mean square of y stands for it.

    Returns
    -------
    variances : ndarray of shape (q,)
        The estimates, at least 0.1.
    """
    crossed = np.einsum("iaj,ij->aj", rows.z, rows.xy[:, -1])
    products = (rows.z * rows.z).sum(axis=0)
    if residual_variance <= 0:
        residual_variance = float((rows.xy[:, -1] ** 2).sum()) / max(rows.n_determined, 1) or 1.0
    excess = (crossed**2).sum(axis=1) / residual_variance - products.sum(axis=1)
    return np.asarray(np.clip(excess / (products**2).sum(axis=1), 0.1, 1e20))


def gradients_of(rows: GroupRows, factor: Floats, contrast: np.ndarray) -> Floats:
    """Return R_j' T_j^-1 C_j times a contrast, of shape (q, n_groups), at one factor of G."""
    q, width, n_groups = rows.xy.shape
    gradients = np.empty((q, n_groups))
    step = max(1, BLOCK_NUMBERS // max(1, q * width))
    for start in range(0, n_groups, step):
        at = slice(start, start + step)
        gradients[:, at] = contrast @ group_products(rows, at, factor[None]).cross[0]
    return gradients


def products_of(rows: GroupRows, factor: Floats) -> tuple[Floats, Floats]:
    """Return R_j' T_j^-1 C_j, of shape (q, k + 1, n_groups), and H_j, of shape (q, q, n_groups), at one factor of G."""
    q, width, n_groups = rows.xy.shape
    cross, h = np.empty((q, width, n_groups)), np.empty((q, q, n_groups))
    a, b = pairs_of(q)
    step = max(1, BLOCK_NUMBERS // max(1, q * width))
    for start in range(0, n_groups, step):
        at = slice(start, start + step)
        part = group_products(rows, at, factor[None])
        cross[:, :, at] = part.cross[0]
        h[a, b, at] = h[b, a, at] = part.h[0]
    return cross, h
