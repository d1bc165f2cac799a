"""Elimination of nested factors level by level, with the derivatives of everything it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .._typing import Floats
from ._factor_sums import FactorSums, NestedSums
from ._gram import Gram, LevelPairs, gram_of, scaled_rows
from ._group_products import basis_of
from ._jets import Jet, Key, added, mapped, orders, product

# Roots of eigenvalues of G, relative to the largest or to 1, that are too small to divide by.
_NO_ROOT = 1e-6


@dataclass(frozen=True, eq=False)
class Reduced:
    """Stores the likelihood's parts after the nested factors are eliminated, as jets in their covariances.

    With V the covariance of y given the random effects of the core, relative to sigma2, and Z the columns of the core:

    Attributes
    ----------
    xy : Jet of ndarray of shape (k + 1, k + 1)
        [X y]' V^-1 [X y].
    core_xy : Jet of ndarray of shape (n_core, k + 1)
        Z' V^-1 [X y].
    core_own : Jet of Gram of shape (n_core, n_core)
        Z' V^-1 Z.
    log_det : Jet of float
        log det V.
    """

    xy: Jet
    core_xy: Jet
    core_own: Jet
    log_det: Jet


@dataclass(frozen=True, eq=False)
class NestedStep:
    """Stores what is needed to solve for the random effects of an eliminated factor, given those of the next ones.

    Attributes
    ----------
    sums : NestedSums
        The factor, with its sums after the factors within it are eliminated.
    weights : ndarray of shape (n_levels, q, q)
        (S + G^-1)^-1, where S are the products of the factor's own columns and G its relative covariance; also for a
        singular G.
    rounding : float
        The rounding of the log-determinant, in units of the rounding of 1.
    """

    sums: NestedSums
    weights: Floats
    rounding: float


@dataclass(frozen=True, eq=False)
class _Level:
    """Stores the jets of the sums over the levels of a factor, as in `NestedSums`."""

    own: Jet
    local: Jet
    core: tuple[Jet, ...]


@dataclass(frozen=True, eq=False)
class _Weights:
    """Stores the jet of Q = (S + G^-1)^-1, a root of Q, and the jet of the sum of log det (I + S G), with its rounding."""

    q: Jet
    half: Floats
    log_det: Jet
    rounding: float

    def times(self, columns: Jet) -> Jet:
        """Return Q times columns of the levels."""
        solved = product(_times, self.q, columns)
        if self.half.shape[-1] > 1:
            # Where a level does not determine its effects, Q is as large as G, and the rounding of its entries as well.
            solved[()] = self.half @ (self.half.transpose(0, 2, 1) @ columns[()])
        return solved


def eliminate_nested(
    sums: FactorSums, covariances: list[Floats], parameters: list[list[tuple[int, int, int]]]
) -> tuple[Reduced, list[NestedStep]]:
    """Return what is left of the likelihood when the random effects of the nested factors are integrated out.

    A level with products S of its own columns, C of these with others and B of the others leaves B - C' Q C, where
    Q = (S + G^-1)^-1 = G (I + S G)^-1, and log det (I + S G). All of it is differentiated twice by the entries of the
    covariances, those of the factors eliminated before included.

    Parameters
    ----------
    sums : FactorSums
        The sums over levels.
    covariances : list of ndarray of shape (q, q)
        The relative covariance G of each factor of the chain.
    parameters : list of list of tuple
        For each factor of the chain, the parameters: the position of each among all, and the two entries of G that it is.

    Returns
    -------
    reduced : Reduced
        What is left.
    steps : list of NestedStep
        How to solve for the random effects of each factor.
    """
    levels = [_Level({(): step.own}, {(): step.local}, tuple({(): each} for each in step.core)) for step in sums.nested]
    xy: Jet = {(): sums.xy}
    core_xy: Jet = {(): sums.core_xy}
    core_own: Jet = {(): Gram(sums.core_own)}
    log_det: Jet = {(): 0.0}
    steps = []
    for at, step in enumerate(sums.nested):
        here = levels[at]
        weights = _weights(here.own, covariances[at], parameters[at])
        log_det = added(log_det, weights.log_det)
        value = NestedSums(step.factor, here.own[()], here.local[()], tuple(each[()] for each in here.core), step.parents)
        steps.append(NestedStep(value, weights.q[()], weights.rounding))
        solved = weights.times(here.local)
        fixed = slice(-sums.xy.shape[0], None)
        mine, taken = _columns(here.local, fixed), _columns(solved, fixed)
        xy = added(xy, product(lambda a, b: -_over_levels(a, b), mine, taken))
        _pass_on(levels, at, step, here, solved)
        for a, coupled in enumerate(here.core):
            core_xy = added(core_xy, product(lambda c, s: -(c.T @ s), coupled, _row(taken, a)))
            for b, other in enumerate(here.core):
                scaled = product(lambda w, c: [(w, c)], _entry(weights.q, a, b), other)
                core_own = added(core_own, _grams(coupled, scaled, sums.pairs if at == 0 else None))
    return Reduced(xy, core_xy, core_own, log_det), steps


def _pass_on(levels: list[_Level], at: int, step: NestedSums, here: _Level, solved: Jet) -> None:
    """Subtract from the sums of the next factors what the elimination of a factor takes from them, in place."""
    start = 0
    for next_at, parents in enumerate(step.parents, start=at + 1):
        there = levels[next_at]
        q, n_levels = there.own[()].shape[1], len(there.own[()])
        columns = slice(start, start + q)
        start += q
        entries = np.ones(len(parents)), parents, np.arange(len(parents) + 1)
        indicator = sparse.csr_array(entries, shape=(len(parents), n_levels)).T.tocsr()

        mine = _columns(here.local, columns)
        own = _added_to_parents(mine, _columns(solved, columns), indicator)
        local = _added_to_parents(mine, _columns(solved, slice(start, None)), indicator)
        core = []
        for b, coupled in enumerate(there.core):
            for a, of_mine in enumerate(here.core):
                share = product(scaled_rows, _entry(solved, a, columns.start + b), of_mine)
                coupled = added(coupled, _summed_rows(share, indicator))
            core.append(coupled)
        levels[next_at] = _Level(added(there.own, own), added(there.local, local), tuple(core))


def _columns(jet: Jet, which: slice) -> Jet:
    """Return some columns of the matrices of the levels."""
    return mapped(lambda each: each[:, :, which], jet)


def _row(jet: Jet, at: int) -> Jet:
    """Return a row of the matrices of the levels."""
    return mapped(lambda each: each[:, at], jet)


def _entry(jet: Jet, row: int, column: int) -> Jet:
    """Return an entry of the matrices of the levels."""
    return mapped(lambda each: each[:, row, column], jet)


def _grams(rows: Jet, scaled: Jet, pairs: LevelPairs | None) -> Jet:
    """Return minus the products of rows with weighted rows."""
    return product(lambda c, s: gram_of(c, s, pairs), rows, scaled)


def _added_to_parents(left: Jet, right: Jet, indicator: sparse.csr_array) -> Jet:
    """Return minus the sums of left' right over the levels within each level of the next factor."""

    def summed(a: Floats, b: Floats) -> Floats:
        products = a.transpose(0, 2, 1) @ b
        total = indicator @ products.reshape(len(products), -1)
        return -np.asarray(total).reshape(indicator.shape[0], *products.shape[1:])

    return product(summed, left, right)


def _summed_rows(jet: Jet, indicator: sparse.csr_array) -> Jet:
    """Return minus the sums of sparse rows over the levels within each level of the next factor."""
    return mapped(lambda rows: -(indicator @ rows).tocsr(), jet)


def _weights(own: Jet, covariance: Floats, parameters: list[tuple[int, int, int]]) -> _Weights:
    """Return the jet of Q and of the log-determinant; see `eliminate_nested`.

    With A = (I + G S)^-1 and H = S A, dQ = A dG A' - Q dS Q and dA = -A dG H - Q dS A, and the derivative of the
    log-determinant is tr(Q dS) + tr(H dG).
    """
    s, size = own[()], len(covariance)
    a, half, h, log_det, rounding = _at_covariance(s, covariance)
    q = half @ half.transpose(0, 2, 1)
    turned = a.transpose(0, 2, 1)
    basis = basis_of(size)
    places = {(int(x), int(y)): i for i, (x, y) in enumerate(zip(*np.triu_indices(size), strict=True))}
    change = {at: basis[places[x, y]] for at, x, y in parameters}
    earlier = sorted({key[0] for key in own if len(key) == 1})
    chosen = sorted({*earlier, *change})
    of_q: Jet = {(): q}
    of_log_det: Jet = {(): log_det}
    shifts: dict[int, Floats] = {}
    for i in chosen:
        first = np.zeros_like(q)
        shift = np.zeros_like(q)
        value = 0.0
        if i in change:
            first = first + _times(_times(a, change[i]), turned)
            shift = shift - _times(_times(a, change[i]), h)
            value += float((h * change[i]).sum())
        if (i,) in own:
            first = first - _times(_times(q, own[(i,)]), q)
            shift = shift - _times(_times(q, own[(i,)]), a)
            value += float((q * own[(i,)]).sum())
        of_q[(i,)], shifts[i], of_log_det[(i,)] = first, shift, value
    for key in orders(chosen):
        if len(key) == 2:
            of_q[key], of_log_det[key] = _second(key, own, change, a, q, h, of_q, shifts)
    return _Weights(of_q, half, of_log_det, rounding)


def _at_covariance(s: Floats, covariance: Floats) -> tuple[Floats, Floats, Floats, float, float]:
    """Return A = (I + G S)^-1, a root of Q = A G, and H = S A of each level, the sum of log det (I + S G), and its rounding.

    With G = F F' and the eigenvectors V and eigenvalues d of F' S F, Q = F V (1 + d)^-1 V' F'. An inverse of I + G S would
    lose as many digits as the square of G has.
    """
    if len(covariance) == 1:
        a = 1.0 / (1.0 + covariance * s)
        return a, np.sqrt(covariance * a), s * a, float(-np.log(a).sum()), 0.0
    values, vectors = np.linalg.eigh(covariance)
    roots = np.sqrt(np.maximum(values, 0.0))
    factor = vectors * roots
    d, turn = np.linalg.eigh(_symmetric(factor.T @ s @ factor))
    d = np.maximum(d, 0.0)
    half = (factor @ turn) / np.sqrt(1.0 + d)[:, None, :]
    if roots.min() > _NO_ROOT * max(roots.max(), 1.0):
        right = turn.transpose(0, 2, 1) @ (vectors / roots).T
        a = (half / np.sqrt(1.0 + d)[:, None, :]) @ right
        h = (right.transpose(0, 2, 1) * (d / (1.0 + d))[:, None, :]) @ right
    else:
        a = np.eye(len(covariance)) - half @ (half.transpose(0, 2, 1) @ s)
        h = s @ a
    return a, half, _symmetric(h), float(np.log1p(d).sum()), float(d.max(axis=1, initial=0.0).sum())


def _second(
    key: Key, own: Jet, change: dict[int, Floats], a: Floats, q: Floats, h: Floats, of_q: Jet, shifts: dict[int, Floats]
) -> tuple[Floats, float]:
    """Return the second derivative of Q and of the log-determinant by two parameters."""
    i, j = key
    total, value = np.zeros_like(q), 0.0
    if i in change:
        # d(A E A') = dA E A' + its transpose.
        part = _times(_times(shifts[j], change[i]), a.transpose(0, 2, 1))
        total += part + part.transpose(0, 2, 1)
        of_h = np.zeros_like(q)
        if j in change:
            of_h -= _times(_times(h, change[j]), h)
        if (j,) in own:
            of_h += _times(_times(a.transpose(0, 2, 1), own[(j,)]), a)
        value += float((of_h * change[i]).sum())
    if (i,) in own:
        part = _times(_times(of_q[(j,)], own[(i,)]), q)
        total -= part + part.transpose(0, 2, 1)
        value += float((of_q[(j,)] * own[(i,)]).sum())
    if key in own:
        total -= _times(_times(q, own[key]), q)
        value += float((q * own[key]).sum())
    return total, value


def _times(left: Floats, right: Floats) -> Floats:
    """Return the products of the matrices of each level; without a loop over levels if they are columns and rows."""
    return np.asarray(left * right if left.shape[-1] == 1 else left @ right)


def _symmetric(matrices: Floats) -> Floats:
    """Return the symmetric parts of matrices."""
    return np.asarray((matrices + matrices.transpose(0, 2, 1)) / 2)


def _over_levels(left: Floats, right: Floats) -> Floats:
    """Return the sum over levels of left' right."""
    width = left.shape[2]
    return np.asarray(left.reshape(-1, width).T @ right.reshape(-1, right.shape[2]))
