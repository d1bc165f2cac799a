"""Elimination of the random effects of crossed factors together, with the derivatives of the likelihood's parts."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri

from .._typing import Floats
from ..moments._threads import one_thread
from ._factor_sums import FactorSums
from ._gram import mirrored
from ._jets import Jet, orders
from ._linalg import cholesky, inverse_of_lower
from ._nested_elimination import Reduced

# Roots of eigenvalues of G up to this are taken for 0.
_NO_ROOT = 1e-7
# Up to this size, the smaller routines of LAPACK invert a matrix.
_ONE_THREAD = 64
MANY_ROWS = 2_000
"""From this size of the core on, threads of BLAS pay."""


@dataclass(frozen=True, eq=False)
class Core:
    """Stores the random effects of the core in scaled coordinates, in which their covariance is the identity or 0.

    A subclass solves the equations (I + S) c = r, where S are the scaled products of the columns of the effects that have a
    variance.

    Attributes
    ----------
    scales : tuple of ndarray of shape (q, q)
        For each factor the matrix that takes scaled effects to effects; its columns belong to the eigenvalues of G.
    alive : ndarray of shape (n_core,), bool
        Which of the scaled effects have a variance.
    """

    scales: tuple[Floats, ...]
    alive: np.ndarray

    def solve(self, columns: Floats) -> Floats:
        """Return (I + S)^-1 times columns."""
        raise NotImplementedError

    def blocks(self, at: slice, n: int, q: int) -> Floats:
        """Return the diagonal blocks of (I + S)^-1 of the levels of a factor, 0 for effects without variance."""
        raise NotImplementedError

    def products(self, rows: Floats) -> Floats:
        """Return rows times (I + S)^-1."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class DenseCore(Core):
    """Stores the inverse of the equations of the core.

    Attributes
    ----------
    inverse : ndarray of shape (n_alive, n_alive)
        (I + S)^-1.
    rounding : float
        The rounding of the log-determinant, in units of the rounding of 1.
    """

    inverse: Floats
    rounding: float

    def solve(self, columns: Floats) -> Floats:
        """Return (I + S)^-1 times columns."""
        return np.asarray(self.inverse @ columns)

    def blocks(self, at: slice, n: int, q: int) -> Floats:
        """Return the diagonal blocks of (I + S)^-1 of the levels of a factor, 0 for effects without variance."""
        if not len(self.inverse):
            return np.zeros((n, q, q))
        positions = np.cumsum(self.alive) - 1
        inside, alive = positions[at].reshape(n, q), self.alive[at].reshape(n, q)
        return np.asarray(self.inverse[inside[:, :, None], inside[:, None, :]] * (alive[:, :, None] & alive[:, None, :]))

    def products(self, rows: Floats) -> Floats:
        """Return rows times (I + S)^-1."""
        return np.asarray(rows @ self.inverse)


@dataclass(frozen=True, eq=False)
class _Entry:
    """Stores a parameter of the core: the position of its factor, and two scaled effects of a level."""

    factor: int
    a: int
    b: int


def eliminate_core(
    sums: FactorSums,
    reduced: Reduced,
    factors: list[Floats],
    parameters: list[list[tuple[int, int, int]]],
) -> tuple[Jet, Jet, DenseCore]:
    """Return [X y]' V^-1 [X y] and log det V as jets in all covariances, and how to solve for the effects of the core.

    Parameters
    ----------
    sums : FactorSums
        The sums over levels.
    reduced : Reduced
        What the elimination of the nested factors has left.
    factors : list of ndarray of shape (q, r)
        A factor F of the relative covariance G = F F' of each factor of the core.
    parameters : list of list of tuple
        For each factor of the core, the parameters: the position of each among all, and the two entries of G that it is.

    Returns
    -------
    xy : Jet of ndarray of shape (k + 1, k + 1)
        The products [X y]' V^-1 [X y].
    log_det : Jet of float
        The log-determinant log det V.
    core : DenseCore
        The scales, and the inverse of the equations of the core.
    """
    solver = _CoreSolver(sums, reduced, factors)
    xy, log_det = dict(reduced.xy), dict(reduced.log_det)
    entries: dict[int, _Entry] = {}
    turns: list[tuple[list[int], Floats]] = []
    for at, (scale, of_factor) in enumerate(zip(solver.scales, parameters, strict=True)):
        entries |= {position: _Entry(at, a, b) for position, a, b in of_factor}
        turns.append(([position for position, _, _ in of_factor], _turned_pairs(scale, of_factor)))
    of_chain = sorted({key[0] for key in log_det if len(key) == 1})
    solver.differentiate(xy, log_det, of_chain, entries)
    for positions, turn in turns:
        _change_of_basis(xy, positions, turn)
        _change_of_basis(log_det, positions, turn)
    return xy, log_det, DenseCore(solver.scales, solver.alive, solver.inverse, solver.rounding)


class ScaledCore:
    """The products of the columns of the core at one covariance, in scaled coordinates.

    Parameters
    ----------
    sums : FactorSums
        The sums over levels.
    reduced : Reduced
        What the elimination of the nested factors has left.
    factors : list of ndarray of shape (q, r)
        A factor of the relative covariance of each factor of the core.
    """

    def __init__(self, sums: FactorSums, reduced: Reduced, factors: list[Floats]):
        self.slices, self.sizes = sums.core_slices, sums.core_sizes
        scales, alive = [], []
        for factor, (n_levels, q), blocks in zip(factors, self.sizes, sums.core_blocks, strict=True):
            scale, has = np.zeros((q, q)), np.zeros(q, dtype=bool)
            for block in map(list, blocks):
                vectors, roots, _ = np.linalg.svd(factor[block])
                roots = np.append(roots, np.zeros(len(block)))[: len(block)]
                has[block] = roots > _NO_ROOT
                scale[np.ix_(block, block)] = vectors * np.where(has[block], roots, 1.0)
            scales.append(scale)
            alive.append(np.tile(has, n_levels))
        self.scales, self.alive = tuple(scales), np.concatenate(alive)
        self.reduced = reduced

    def scaled_rows(self, rows: Floats) -> Floats:
        """Return rows of the coefficients of the core in scaled coordinates."""
        parts = []
        for at, (n_levels, q), scale in zip(self.slices, self.sizes, self.scales, strict=True):
            part = rows[at].reshape(n_levels, q, -1)
            part = part * scale if q == 1 else scale.T @ part
            parts.append(part.reshape(n_levels * q, -1))
        return np.concatenate(parts)

    def unscaled(self, columns: Floats) -> Floats:
        """Return effects, given scaled."""
        parts = []
        for at, (n_levels, q), scale in zip(self.slices, self.sizes, self.scales, strict=True):
            part = columns[at].reshape(n_levels, q, -1)
            part = part * scale if q == 1 else scale @ part
            parts.append(part.reshape(n_levels * q, -1))
        return np.concatenate(parts)

    def _scale_of_rows(self) -> Floats:
        """Return the scale of each coefficient, if each factor has a single one."""
        return np.concatenate([np.full(n, scale[0, 0]) for (n, _), scale in zip(self.sizes, self.scales, strict=True)])

    def times(self, columns: Floats, own: Any = None) -> Floats:
        """Return the scaled products, or others that are given unscaled, times columns in scaled coordinates."""
        own = self.reduced.core_own[()] if own is None else own
        return self.scaled_rows(own @ self.unscaled(columns))

    def diagonal(self) -> Floats:
        """Return the diagonal of the scaled products, if each factor has a single coefficient."""
        return np.asarray(self.reduced.core_own[()].diagonal() * self._scale_of_rows() ** 2)


class _CoreSolver(ScaledCore):
    """Solves the equations of the core at one covariance, and differentiates the likelihood's parts."""

    def __init__(self, sums: FactorSums, reduced: Reduced, factors: list[Floats]):
        super().__init__(sums, reduced, factors)
        self.all_alive = bool(self.alive.all())
        self.kept = np.flatnonzero(self.alive)
        self._traces: Floats | None = None
        self.own = self.scaled_own(reduced.core_own[()])
        own = self.own if self.all_alive else self.own[np.ix_(self.kept, self.kept)]
        matrix = own.copy()
        matrix.flat[:: len(matrix) + 1] += 1.0
        diagonal = matrix.diagonal().copy()
        self.inverse, self.log_det = _inverse(matrix)
        # A pivot that is 1 is the difference of numbers as large as the diagonal.
        self.rounding = float(diagonal @ self.inverse.diagonal())
        self.xy = self.scaled_rows(reduced.core_xy[()])

    def scaled_own(self, own: Any) -> Floats:
        """Return products of the columns of the core, dense and in scaled coordinates."""
        own = own.toarray()
        if all(q == 1 for _, q in self.sizes):
            scale = np.concatenate([np.full(n, scale[0, 0]) for (n, _), scale in zip(self.sizes, self.scales, strict=True)])
            own *= scale[:, None]
            own *= scale
            return np.asarray(own)
        return self.scaled_rows(np.ascontiguousarray(self.scaled_rows(own).T))

    def differentiate(self, xy: Jet, log_det: Jet, of_chain: list[int], entries: dict[int, _Entry]) -> None:
        """Add the core's part to the jets of the likelihood, in place; see `eliminate_core`.

        With Q = (S + G^-1)^-1, A = I - Q S and H = S A, where S = Z' V0^-1 Z and V0 is the covariance of y given the
        effects of the core, the derivatives by the covariances of nested factors, which change S by S_i, and of the core,
        E, are those of log det (I + S G) and of [X y]' V0^-1 [X y] - C' Q C with C = Z' V0^-1 [X y]:

            tr(Q S_i),    tr(H E),    Y' S_i Y,    -U' E U,    U = A' C,    Y' = [-C' Q, I].
        """
        kept, inverse, own_xy = self.kept, self.inverse, self.xy
        solved = self.refined(own_xy[kept])
        xy[()] = xy[()] - own_xy[kept].T @ solved
        log_det[()] = log_det[()] + self.log_det
        down = np.zeros_like(own_xy)
        down[kept] = -solved
        a, h = self._a_and_h()
        u = own_xy.copy()
        u[kept] = solved
        if not self.all_alive:
            dropped = np.flatnonzero(~self.alive)
            u[dropped] -= self.own[np.ix_(dropped, kept)] @ solved
        moved, changes, of_u = {}, {}, {}
        for key in [*((i,) for i in of_chain), *(key for key in orders(of_chain) if len(key) == 2)]:
            s = self.reduced.core_own.get(key)
            c = self.reduced.core_xy.get(key)
            if s is None or c is None:
                continue
            c = self.scaled_rows(c)
            sy = self.times(down, s) + c
            part = down.T @ sy
            xy[key] = xy.get(key, 0.0) + part + c.T @ down
            log_det[key] = log_det.get(key, 0.0) + self._trace(s)
            if len(key) == 1:
                moved[key[0]] = sy
                changes[key[0]] = self._change(s, a)
                of_u[key[0]] = self._a_times(a, sy)
        for i, j in (key for key in orders(of_chain) if len(key) == 2):
            if i not in moved or j not in moved:
                continue
            cross = moved[i][kept].T @ (inverse @ moved[j][kept])
            xy[i, j] = xy.get((i, j), 0.0) - cross - cross.T
            inside = [changes[at] if self.all_alive else changes[at][np.ix_(kept, kept)] for at in (i, j)]
            log_det[i, j] = log_det.get((i, j), 0.0) - float(np.vdot(inside[0], inside[1].T))
        turned = {at: self._directed(u, entry) for at, entry in entries.items()}
        beyond = {at: h @ part for at, part in turned.items()}
        for at, entry in entries.items():
            xy[(at,)] = -(u.T @ turned[at])
            log_det[(at,)] = self._trace_of_h(h, entry)
            for i in changes:
                part = of_u[i].T @ turned[at]
                key = (min(i, at), max(i, at))
                xy[key] = -(part + part.T)
                log_det[key] = self._trace_of_change(a, changes[i], entry)
        for at, other in (key for key in orders(entries) if len(key) == 2):
            part = turned[at].T @ beyond[other]
            xy[at, other] = part + part.T
            log_det[at, other] = -self._trace_of_squares(h, entries[at], entries[other])

    def refined(self, right: Floats) -> Floats:
        """Return (I + S)^-1 times columns, corrected once for the rounding of the inverse."""
        own = self.own if self.all_alive else self.own[np.ix_(self.kept, self.kept)]
        solved = self.inverse @ right
        return np.asarray(solved + self.inverse @ (right - solved - own @ solved))

    def _a_and_h(self) -> tuple[Floats, Floats]:
        """Return A = I - Q S and H = S A."""
        if self.all_alive:
            h = -self.inverse
            h.flat[:: len(h) + 1] += 1.0
            return self.inverse, h
        n, kept, dropped = len(self.alive), self.kept, np.flatnonzero(~self.alive)
        h, a = np.empty((n, n)), np.eye(n)
        inside = -self.inverse
        inside.flat[:: len(inside) + 1] += 1.0
        across = self.inverse @ self.own[np.ix_(kept, dropped)]
        h[np.ix_(kept, kept)], h[np.ix_(kept, dropped)], h[np.ix_(dropped, kept)] = inside, across, across.T
        h[np.ix_(dropped, dropped)] = self.own[np.ix_(dropped, dropped)] - self.own[np.ix_(dropped, kept)] @ across
        a[np.ix_(kept, kept)], a[np.ix_(kept, dropped)] = self.inverse, -across
        return a, h

    def _a_times(self, a: Floats, rows: Floats) -> Floats:
        """Return A' times rows."""
        return np.asarray(a.T @ rows) if len(self.kept) else rows

    def _trace(self, s: Any) -> float:
        """Return tr(Q S) for unscaled sparse products S."""
        weights = s.weights_of_pairs()
        if weights is None or s.base is not None:
            return float(s.trace_with(self.q_matrix))
        if self._traces is None:
            self._traces = s.pairs.traces(self.q_matrix)
        return float(weights @ self._traces)

    @cached_property
    def q_matrix(self) -> Floats:
        """Q, in the columns of the core."""
        inverse = self.inverse
        if not self.all_alive:
            inverse = np.zeros((len(self.alive),) * 2)
            inverse[np.ix_(self.kept, self.kept)] = self.inverse
        if all(q == 1 for _, q in self.sizes):
            scale = self._scale_of_rows()
            return np.asarray(inverse * scale[:, None] * scale)
        return self.unscaled(np.ascontiguousarray(self.unscaled(inverse).T))

    def _change(self, s: Any, a: Floats) -> Floats:
        """Return S A for unscaled products S; A is the identity if no effect has a variance."""
        scaled = self.scaled_own(s)
        return scaled @ a if len(self.kept) else scaled

    def _rows_of(self, matrix: Floats, factor: int, column: int) -> Floats:
        """Return the rows of one coefficient of all levels of a factor."""
        q = self.sizes[factor][1]
        return matrix[self.slices[factor]][column::q]

    def _directed(self, u: Floats, entry: _Entry) -> Floats:
        """Return E U, where E exchanges two coefficients of each level, or keeps one of them."""
        found = np.zeros_like(u)
        q, part = self.sizes[entry.factor][1], found[self.slices[entry.factor]]
        part[entry.a :: q] = self._rows_of(u, entry.factor, entry.b)
        part[entry.b :: q] = self._rows_of(u, entry.factor, entry.a)
        return found

    def _trace_of_h(self, h: Floats, entry: _Entry) -> float:
        """Return tr(H E); from products rather than from the difference I - (I + S)^-1, which may have lost digits."""
        twice = 1.0 if entry.a == entry.b else 2.0
        at, q = self.slices[entry.factor], self.sizes[entry.factor][1]
        if self.all_alive:
            left, right = self.inverse[at][entry.a :: q], self.own[at][entry.b :: q]
            return twice * float(np.vdot(left, right))
        block = h[at, at]
        return twice * float(block[entry.a :: q, entry.b :: q].trace())

    def _trace_of_change(self, a: Floats, change: Floats, entry: _Entry) -> float:
        """Return tr(A' S_i A E)."""
        at, q = self.slices[entry.factor], self.sizes[entry.factor][1]
        total = 0.0
        for x, y in {(entry.a, entry.b), (entry.b, entry.a)}:
            total += float(np.vdot(a[:, at][:, x::q], change[:, at][:, y::q]))
        return total

    def _trace_of_squares(self, h: Floats, one: _Entry, other: _Entry) -> float:
        """Return tr(H E H E') for two parameters."""
        rows, columns = self.slices[one.factor], self.slices[other.factor]
        block = h[rows, columns]
        q, r = self.sizes[one.factor][1], self.sizes[other.factor][1]
        total = 0.0
        for a, b in {(one.a, one.b), (one.b, one.a)}:
            for c, d in {(other.a, other.b), (other.b, other.a)}:
                total += float(np.vdot(block[b::q, c::r], block[a::q, d::r]))
        return total


def _inverse(matrix: Floats) -> tuple[Floats, float]:
    """Return the inverse of a positive definite matrix, which may be overwritten, and its log-determinant."""
    if len(matrix) <= _ONE_THREAD:
        lower = cholesky(matrix) if len(matrix) else matrix
        root = inverse_of_lower(lower) if len(matrix) else matrix
        return np.asarray(root.T @ root), 2.0 * float(np.log(lower.diagonal()).sum())
    with one_thread() if len(matrix) < MANY_ROWS else nullcontext():
        upper, failed = dpotrf(matrix.T, lower=0, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("the equations of the core are not positive definite")
        log_det = 2.0 * float(np.log(upper.diagonal()).sum())
        inverse, _ = dpotri(upper, lower=0, overwrite_c=1)
    # The inverse of a symmetric matrix is its own transpose, so that its order in memory does not matter.
    return mirrored(np.ascontiguousarray(inverse)), log_det


def _turned_pairs(scale: Floats, parameters: list[tuple[int, int, int]]) -> Floats:
    """Return the matrix that takes derivatives by scaled entries to those by the entries of G of each parameter."""
    inverse = np.linalg.inv(scale)
    turn = np.zeros((len(parameters), len(parameters)))
    for i, (_, a, b) in enumerate(parameters):
        change = np.outer(inverse[:, a], inverse[:, b])
        change = change + change.T if a != b else change
        for j, (_, c, d) in enumerate(parameters):
            turn[i, j] = change[c, d]
    return turn


def _change_of_basis(jet: Jet, positions: list[int], turn: Floats) -> None:
    """Replace the derivatives by some parameters by combinations of them, in place."""
    inside = set(positions)
    others = sorted({key[0] for key in jet if len(key) == 1} - inside)
    first = [jet[(at,)] for at in positions]
    for i, at in enumerate(positions):
        jet[(at,)] = sum(turn[i, j] * part for j, part in enumerate(first))
    for other in others:
        mixed = [jet.get((min(at, other), max(at, other))) for at in positions]
        if any(part is None for part in mixed):
            continue
        for i, at in enumerate(positions):
            jet[min(at, other), max(at, other)] = sum(turn[i, j] * part for j, part in enumerate(mixed))
    second = {}
    for i, at in enumerate(positions):
        for j, other in enumerate(positions):
            key = (min(at, other), max(at, other))
            second[i, j] = jet[key]
    for i, at in enumerate(positions):
        for j in range(i, len(positions)):
            total = sum(turn[i, x] * turn[j, y] * second[x, y] for x in range(len(positions)) for y in range(len(positions)))
            jet[min(at, positions[j]), max(at, positions[j])] = total
