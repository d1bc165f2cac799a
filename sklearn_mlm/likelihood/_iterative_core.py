"""Elimination of a large core by conjugate gradients, with traces and a log-determinant from random probes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .._typing import Floats
from ._core_elimination import Core, ScaledCore
from ._factor_sums import FactorSums
from ._jets import Jet
from ._nested_elimination import Reduced

# Residuals of the equations, relative to their right-hand sides, at which the iterations stop; and the most iterations.
_TOLERANCE, _MOST_ITERATIONS = 1e-10, 1_000


class Solved(NamedTuple):
    """The solutions of equations by conjugate gradients, and what the iterations tell of the matrix.

    Attributes
    ----------
    columns : ndarray of shape (n, m)
        The solutions.
    tridiagonals : list of tuple of ndarray
        For each right-hand side the diagonal and the off-diagonal of Lanczos' matrix of the preconditioned equations.
    n_iterations : int
        Number of iterations.
    residual : float
        The largest relative residual.
    """

    columns: Floats
    tridiagonals: list[tuple[Floats, Floats]]
    n_iterations: int
    residual: float


@dataclass(frozen=True, eq=False)
class IterativeCore(Core):
    """Stores the equations (I + S) c = r of a core in scaled coordinates, which conjugate gradients solve.

    The preconditioner is the diagonal. Only effects that have a variance are in the equations.

    Attributes
    ----------
    scaled : ScaledCore
        The core in scaled coordinates.
    """

    scaled: ScaledCore

    @cached_property
    def diagonal(self) -> Floats:
        """The diagonal of I + S, of the effects that have a variance."""
        return np.asarray(1.0 + self.scaled.diagonal()[self.alive])

    def times(self, columns: Floats) -> Floats:
        """Return (I + S) times columns."""
        whole = np.zeros((len(self.alive), columns.shape[1]))
        whole[self.alive] = columns
        return np.asarray(columns + self.scaled.times(whole)[self.alive])

    def solve(self, columns: Floats) -> Floats:
        """Return (I + S)^-1 times columns."""
        return self.iterate(columns).columns

    def blocks(self, at: slice, n: int, q: int) -> Floats:
        """Return the reciprocals of the diagonal in place of the diagonal blocks of (I + S)^-1."""
        whole = np.zeros(len(self.alive))
        whole[self.alive] = 1.0 / self.diagonal
        return np.asarray(whole[at].reshape(n, q)[:, :, None] * np.eye(q))

    def products(self, rows: Floats) -> Floats:
        """Return rows times the reciprocals of the diagonal in place of rows times (I + S)^-1."""
        return np.asarray(rows / self.diagonal)

    def iterate(self, right: Floats) -> Solved:
        """Return the solutions for several right-hand sides by conjugate gradients.

        References
        ----------
        G. H. Golub and C. F. Van Loan (2013), "Matrix Computations", 4th edition, sections 10.1.3 and 11.5.2.
        """
        n, m = right.shape
        found, left = np.zeros((n, m)), right.copy()
        scale = np.linalg.norm(right, axis=0)
        active = np.flatnonzero(scale > 0)
        diagonals: list[list[float]] = [[] for _ in range(m)]
        sides: list[list[float]] = [[] for _ in range(m)]
        ready = left / self.diagonal[:, None]
        direction, product = ready.copy(), (left * ready).sum(axis=0)
        before: list[tuple[float, float]] = [(np.inf, 0.0)] * m
        steps = 0
        while len(active) and steps < _MOST_ITERATIONS:
            steps += 1
            moved = self.times(direction[:, active])
            alpha = product[active] / (direction[:, active] * moved).sum(axis=0)
            found[:, active] += alpha * direction[:, active]
            left[:, active] -= alpha * moved
            ready = left[:, active] / self.diagonal[:, None]
            after = (left[:, active] * ready).sum(axis=0)
            beta = after / product[active]
            for i, column in enumerate(active.tolist()):
                last_alpha, last_beta = before[column]
                diagonals[column].append(1.0 / alpha[i] + last_beta / last_alpha)
                sides[column].append(float(np.sqrt(beta[i]) / alpha[i]))
                before[column] = (float(alpha[i]), float(beta[i]))
            direction[:, active] = ready + beta * direction[:, active]
            product[active] = after
            active = active[np.linalg.norm(left[:, active], axis=0) > _TOLERANCE * scale[active]]
        residual = float((np.linalg.norm(left, axis=0)[scale > 0] / scale[scale > 0]).max(initial=0.0))
        tridiagonals = [(np.array(d), np.array(e[:-1])) for d, e in zip(diagonals, sides, strict=True)]
        return Solved(found, tridiagonals, steps, residual)


class Estimates(NamedTuple):
    """What random probes estimate of a core, one estimate a probe.

    Attributes
    ----------
    log_det : ndarray of shape (n_probes,)
        log det (I + S).
    of_chain : dict of int to ndarray of shape (n_probes,)
        tr((I + S)^-1 S_i) for the derivative S_i of S by each parameter of nested factors.
    of_core : list of ndarray of shape (n_probes,)
        tr(H) over the levels of each factor of the core, H = S (I + S)^-1 with S of all effects in scaled coordinates.
    n_iterations : int
        Number of iterations.
    residual : float
        The largest relative residual.
    """

    log_det: Floats
    of_chain: dict[int, Floats]
    of_core: list[Floats]
    n_iterations: int
    residual: float


def iterative_core(sums: FactorSums, reduced: Reduced, factors: list[Floats]) -> IterativeCore:
    """Return the equations of a core whose factors have a single coefficient each."""
    scaled = ScaledCore(sums, reduced, factors)
    return IterativeCore(scaled.scales, scaled.alive, scaled)


def estimates_of(core: IterativeCore, core_own: Jet, n_probes: int, seed: int) -> Estimates:
    """Return what random probes estimate of a core: the probes are signs, the same at every covariance.

    With the diagonal D of the equations and the solution u for D^(1/2) z, the mean of u' A D^(-1/2) z over signs z is
    tr((I + S)^-1 A), and the quadrature of Lanczos' matrix gives z' log(D^(-1/2) (I + S) D^(-1/2)) z.

    Parameters
    ----------
    core : IterativeCore
        The equations.
    core_own : Jet of Gram
        Products of the columns of the core, and their derivatives by the covariances of nested factors.
    n_probes : int
        Number of probes.
    seed : int
        Seed of the probes.

    Returns
    -------
    estimates : Estimates
        An estimate for each probe.

    References
    ----------
    S. Ubaru, J. Chen and Y. Saad (2017), "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", SIAM Journal on
    Matrix Analysis and Applications 38(4), 1075-1099.
    """
    signs = np.random.RandomState(seed).choice([-1.0, 1.0], size=(len(core.alive), n_probes))
    root = np.sqrt(core.diagonal)[:, None]
    z = signs[core.alive]
    solved = core.iterate(root * z)
    u, right = np.zeros_like(signs), np.zeros_like(signs)
    u[core.alive], right[core.alive] = solved.columns, z / root
    n_alive = len(z)
    log_det = np.full(n_probes, float(np.log(core.diagonal).sum()))
    for at, (diagonal, side) in enumerate(solved.tridiagonals if n_alive else ()):
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(side, 1) + np.diag(side, -1))
        log_det[at] += n_alive * float(vectors[0] ** 2 @ np.log(np.maximum(values, 1e-300)))
    of_chain = {key[0]: (u * core.scaled.times(right, own)).sum(axis=0) for key, own in core_own.items() if len(key) == 1}
    own = core.scaled.diagonal()
    across = core.scaled.times(u) * core.scaled.times(right)
    of_core = []
    for where in core.scaled.slices:
        alive = core.alive[where]
        if alive.any():
            of_core.append(float(len(alive)) - (u[where] * right[where]).sum(axis=0))
        else:
            of_core.append(float(own[where].sum()) - across[where].sum(axis=0))
    return Estimates(log_det, of_chain, of_core, solved.n_iterations, solved.residual)
