"""`MixedEquations`: Henderson's equations of a model of several grouping factors at given covariances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from .._typing import Floats, Positions
from ._core_elimination import Core, DenseCore, eliminate_core
from ._factor_sums import FactorRows, FactorSums
from ._nested_elimination import NestedStep, Reduced, eliminate_nested

Effects = list[Floats]
"""For each factor, numbers of each level and coefficient, of shape (n_levels, q, m)."""

# The most numbers of right-hand sides that are solved for at a time.
_BLOCK_NUMBERS = 1 << 23
# How often a solution is corrected by the equations' residual: an inverse loses digits if variances are large.
_CORRECTIONS = 2


class _Solution(NamedTuple):
    """Random effects, and what they leave of the columns of the rows."""

    effects: Effects
    left: Floats


@dataclass(frozen=True, eq=False)
class MixedEquations:
    """Stores the equations (S + G^-1) b = Z' (y - X beta), eliminated, where S = Z' W Z and G is relative to sigma2.

    Attributes
    ----------
    rows : FactorRows
        The rows in coordinates.
    sums : FactorSums
        The sums over levels.
    reduced : Reduced
        What the elimination of the nested factors leaves.
    steps : list of NestedStep
        How to solve for the effects of nested factors.
    core : Core or None
        How to solve for the effects of the other factors, if there are any.
    covariances : list of ndarray of shape (q, q)
        G of each factor.
    root : ndarray of shape (k, k)
        The inverse of the Cholesky factor of X' V^-1 X.

    References
    ----------
    C. R. Henderson (1975), "Best linear unbiased estimation and prediction under a selection model", Biometrics 31(2),
    423-447, for the equations.
    """

    rows: FactorRows
    sums: FactorSums
    reduced: Reduced
    steps: list[NestedStep]
    core: Core | None
    covariances: list[Floats]
    root: Floats

    @classmethod
    def at(cls, rows: FactorRows, sums: FactorSums, factors: list[Floats], root: Floats) -> MixedEquations:
        """Return the equations at factors F of the covariances G = F F' of each grouping factor."""
        covariances = [factor @ factor.T for factor in factors]
        chain = [step.factor for step in sums.nested]
        reduced, steps = eliminate_nested(sums, [covariances[at] for at in chain], [[] for _ in chain])
        core = None
        if sums.core:
            _, _, core = eliminate_core(sums, reduced, [factors[at] for at in sums.core], [[] for _ in sums.core])
        return cls(rows, sums, reduced, steps, core, covariances, root)

    @property
    def n_fixed(self) -> int:
        """The number of fixed effects."""
        return len(self.root)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Number of levels, and of coefficients of a level, of each factor."""
        return [(n, z.shape[1]) for n, z in zip(self.rows.n_levels, self.rows.z, strict=True)]

    def zeros(self, m: int) -> Effects:
        """Return zeros in place of effects."""
        return [np.zeros((n, q, m)) for n, q in self.sizes]

    def of_xy(self) -> Effects:
        """Return Z' W [X y]."""
        return self._of_levels(self.rows.xy)

    def solve(self, right: Effects, fixed: Floats | None = None) -> tuple[Effects, Floats | None]:
        """Return the solution of the equations, with X beta in them if there is a right-hand side for it.

        Parameters
        ----------
        right : list of ndarray of shape (n_levels, q, m)
            Right-hand sides of the random effects of each factor.
        fixed : ndarray of shape (k, m) or None, default=None
            Right-hand sides of the fixed effects; None takes these for known.

        Returns
        -------
        effects : list of ndarray of shape (n_levels, q, m)
            The random effects.
        fixed : ndarray of shape (k, m) or None
            The fixed effects, if they are unknown.
        """
        right, m, k = [each.copy() for each in right], right[0].shape[2], self.n_fixed
        left_fixed = None if fixed is None else fixed.copy()
        of_core = np.concatenate([right[at].reshape(-1, m) for at in self.sums.core]) if self.core else np.zeros((0, m))
        for step in self.steps:
            solved = step.weights @ right[step.sums.factor]
            taken = step.sums.local.transpose(0, 2, 1) @ solved
            start = 0
            for above, parents in zip(self._above(step), step.sums.parents, strict=True):
                q = right[above].shape[1]
                right[above] -= _added(parents, taken[:, start : start + q], len(right[above]))
                start += q
            if left_fixed is not None:
                left_fixed -= taken[:, -k - 1 : -1].sum(axis=0)
            for a, coupled in enumerate(step.sums.core):
                of_core -= coupled.T @ solved[:, a]
        if self.core is not None and left_fixed is not None:
            left_fixed -= self.reduced.core_xy[()][:, :k].T @ self._core_times(of_core)
        if left_fixed is not None:
            left_fixed = self.root.T @ (self.root @ left_fixed)
            of_core = of_core - self.reduced.core_xy[()][:, :k] @ left_fixed if self.core else of_core
        effects = self.zeros(m)
        if self.core is not None:
            of_core = self._core_times(of_core)
            for at, where in zip(self.sums.core, self.sums.core_slices, strict=True):
                effects[at] = of_core[where].reshape(effects[at].shape)
        for step in reversed(self.steps):
            effects[step.sums.factor] = self._back(step, right[step.sums.factor], effects, of_core, left_fixed)
        return effects, left_fixed

    def _back(self, step: NestedStep, right: Floats, effects: Effects, of_core: Floats, fixed: Floats | None) -> Floats:
        """Return the effects of an eliminated factor, given those of the next ones."""
        left, start, k = right.copy(), 0, self.n_fixed
        for above, parents in zip(self._above(step), step.sums.parents, strict=True):
            q = effects[above].shape[1]
            left -= step.sums.local[:, :, start : start + q] @ effects[above][parents]
            start += q
        if fixed is not None:
            left -= step.sums.local[:, :, -k - 1 : -1] @ fixed
        for a, coupled in enumerate(step.sums.core):
            left[:, a] -= coupled @ of_core
        return np.asarray(step.weights @ left)

    def _above(self, step: NestedStep) -> list[int]:
        """Return the positions of the factors in which a factor of the chain is nested."""
        chain = [each.sums.factor for each in self.steps]
        return chain[chain.index(step.sums.factor) + 1 :]

    def _core_times(self, columns: Floats) -> Floats:
        """Return (S + G^-1)^-1 of the core times columns."""
        core = self.core
        if core is None:
            return columns
        scaled = self._scaled(columns)
        solved = np.zeros_like(scaled)
        solved[core.alive] = core.solve(scaled[core.alive])
        parts = []
        for at, (n, q), scale in zip(self.sums.core_slices, self.sums.core_sizes, core.scales, strict=True):
            parts.append((scale @ solved[at].reshape(n, q, -1)).reshape(n * q, -1))
        return np.concatenate(parts)

    def _scaled(self, columns: Floats) -> Floats:
        """Return columns of the core in its scaled coordinates."""
        core = self.core
        scales = () if core is None else core.scales
        parts = []
        for at, (n, q), scale in zip(self.sums.core_slices, self.sums.core_sizes, scales, strict=True):
            parts.append((scale.T @ columns[at].reshape(n, q, -1)).reshape(n * q, -1))
        return np.concatenate(parts)

    # ---- products

    def gradients(self, contrast: Floats) -> Effects:
        """Return Z' V^-1 [X y] times contrasts, of shape (k + 1, m)."""
        right = [each @ contrast for each in self.of_xy()]
        effects, _ = self.solve(right)
        return [each - of_effects for each, of_effects in zip(right, self._products(effects), strict=True)]

    def effects(self, contrast: Floats) -> Effects:
        """Return the solution of the equations for [X y] times contrasts, of shape (k + 1, m)."""
        return self._corrected(self.rows.xy @ contrast, [each @ contrast for each in self.of_xy()]).effects

    def penalised_squares(self) -> tuple[Floats, Effects]:
        """Return [X y]' V^-1 [X y] as the sum of squares of what the effects leave of [X y], and of their penalties.

        With the solution b for [X y], it is ([X y] - Z b)' ([X y] - Z b) + b' G^-1 b, in which an error of b enters only by
        its square. The gradients Z' V^-1 [X y] = Z' ([X y] - Z b) are returned too.
        """
        solution = self._corrected(self.rows.xy, self.of_xy())
        left, total = solution.left, self.rows.rest + solution.left.T @ solution.left
        for inverse, b in zip(self._penalties, solution.effects, strict=True):
            total += b.reshape(-1, left.shape[1]).T @ (inverse @ b).reshape(-1, left.shape[1])
        return np.asarray((total + total.T) / 2), self._of_levels(left)

    def _of_levels(self, columns: Floats) -> Effects:
        """Return Z' W times columns of the rows."""
        return [self.rows.sums(at, columns) for at in range(self.rows.n_factors)]

    @cached_property
    def _penalties(self) -> list[Floats]:
        """G^-1 of each factor, and 0 for combinations without variance."""
        return [np.asarray(np.linalg.pinv(g, hermitian=True), dtype=np.float64) for g in self.covariances]

    def _corrected(self, columns: Floats, right: Effects) -> _Solution:
        """Return the solution for columns of the rows and their sums over levels, corrected twice for rounding."""
        effects, _ = self.solve(right)
        # Conjugate gradients end where the equations hold, without an inverse.
        for _ in range(_CORRECTIONS if self.core is None or isinstance(self.core, DenseCore) else 0):
            left = columns - self._fitted(effects)
            of_levels = self._of_levels(left)
            apart = [each - inverse @ b for each, inverse, b in zip(of_levels, self._penalties, effects, strict=True)]
            effects = [b + change for b, change in zip(effects, self.solve(apart)[0], strict=True)]
        return _Solution(effects, columns - self._fitted(effects))

    @property
    def rounding(self) -> float:
        """The rounding of the log-determinant, in units of the rounding of 1."""
        of_steps = sum(step.rounding for step in self.steps)
        return of_steps + (self.core.rounding if isinstance(self.core, DenseCore) else 0.0)

    def information_times(self, effects: Effects) -> Effects:
        """Return H times numbers of the random effects, where H = Z' V^-1 Z."""
        of_effects = self._products(effects)
        solved, _ = self.solve(of_effects)
        return [a - b for a, b in zip(of_effects, self._products(solved), strict=True)]

    def _products(self, effects: Effects) -> Effects:
        """Return S times numbers of the random effects."""
        fitted = self._fitted(effects)
        return [self.rows.sums(at, fitted) for at in range(self.rows.n_factors)]

    def _fitted(self, effects: Effects) -> Floats:
        """Return Z times numbers of the random effects."""
        fitted = np.zeros((len(self.rows.xy), effects[0].shape[2]))
        for z, codes, of_factor in zip(self.rows.z, self.rows.codes, effects, strict=True):
            for a in range(z.shape[1]):
                fitted += z[:, [a]] * of_factor[codes, a]
        return fitted

    def apart(self, right: Effects, effects: Effects, fixed: Floats) -> Effects:
        """Return G^-1 times the solution of the equations for some right-hand sides: what the data do not say of them."""
        of_effects, of_xy = self._products(effects), self.of_xy()
        return [a - b - each[:, :, :-1] @ fixed for a, b, each in zip(right, of_effects, of_xy, strict=True)]

    # ---- conditional covariances

    @cached_property
    def conditional(self) -> Effects:
        """Covariances of the effects of each level given fixed effects and variances, of shape (n_levels, q, q), per factor.

        They are in units of sigma2: the diagonal blocks of (S + G^-1)^-1.
        """
        found = [np.zeros((n, q, q)) for n, q in self.sizes]
        if self.core is not None:
            for at, where, (n, q) in zip(self.sums.core, self.sums.core_slices, self.sums.core_sizes, strict=True):
                found[at] = self._core_blocks(where, n, q)
        together: Floats | None = None
        for step in reversed(self.steps):
            cross = -(step.weights @ step.sums.local[:, :, : -self.n_fixed - 1])
            own = step.weights.copy()
            inside = np.zeros((len(own), 0, 0)) if together is None else together[step.sums.parents[0]]
            through = cross @ inside
            own += through @ cross.transpose(0, 2, 1)
            if self.core is not None:
                own += self._through_core(step)
            found[step.sums.factor] = own
            above = np.concatenate([through.transpose(0, 2, 1), inside], axis=2)
            together = np.concatenate([np.concatenate([own, through], axis=2), above], axis=1)
        if self.core is not None and len(self.steps) > 1:
            return self._conditional_by_solving(found)
        return found

    def _core_blocks(self, where: slice, n: int, q: int) -> Floats:
        """Return the diagonal blocks of the covariance of a factor of the core."""
        core = self.core
        assert core is not None
        at = self.sums.core_slices.index(where)
        return np.asarray(core.scales[at] @ core.blocks(where, n, q) @ core.scales[at].T)

    def _through_core(self, step: NestedStep) -> Floats:
        """Return what the uncertainty of the effects of the core adds to that of the levels of a factor."""
        core, (n, q) = self.core, step.weights.shape[:2]
        assert core is not None
        added = np.zeros((n, q, q))
        block = max(1, _BLOCK_NUMBERS // max(1, self.sums.n_core * q))
        for start in range(0, n, block):
            levels = slice(start, min(start + block, n))
            coupled = np.stack([each[levels].toarray() for each in step.sums.core], axis=1)
            rows = (step.weights[levels] @ coupled).reshape(-1, self.sums.n_core)
            scaled = self._scaled(rows.T).T[:, core.alive]
            solved = core.products(scaled)
            shape = (levels.stop - levels.start, q, -1)
            added[levels] = scaled.reshape(shape) @ solved.reshape(shape).transpose(0, 2, 1)
        return added

    def _conditional_by_solving(self, found: Effects) -> Effects:
        """Return the blocks of nested factors beside a core, level by level, from solutions of the equations."""
        total = sum(n * q for n, q in self.sizes)
        block = max(1, _BLOCK_NUMBERS // max(1, total))
        for step in self.steps:
            at = step.sums.factor
            n, q = self.sizes[at]
            for start in range(0, n, block):
                levels = np.arange(start, min(start + block, n))
                for a in range(q):
                    right = self.zeros(len(levels))
                    right[at][levels, a, np.arange(len(levels))] = 1.0
                    solved, _ = self.solve(right)
                    found[at][levels, :, a] = solved[at][levels, :, np.arange(len(levels))]
        return found


def _added(parents: Positions, numbers: Floats, n_levels: int) -> Floats:
    """Return the sums over the levels within each level of the next factor."""
    entries = np.ones(len(parents)), parents, np.arange(len(parents) + 1)
    indicator = sparse.csr_array(entries, shape=(len(parents), n_levels))
    return np.asarray(indicator.T @ numbers.reshape(len(numbers), -1)).reshape(n_levels, *numbers.shape[1:])
