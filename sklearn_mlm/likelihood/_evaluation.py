"""`Evaluation`: a criterion and its derivatives at several relative covariances, and what inference needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np

from .._typing import Floats
from ..moments._moments import Moments
from ..moments._scatter import Scatter
from ._group_factors import RandomDesign
from ._group_products import basis_of, pairs_of


@dataclass(frozen=True, eq=False)
class VarianceSums:
    """Stores what the likelihood knows of the variances, at several relative covariances G.

    With H = Z' V^-1 Z, and K = Z' V^-1 X times the inverse root of B_XX, a pair of random coefficients stands for the
    symmetric matrix E of the change of its entries of G, in every group. All sums are over groups, if there is one factor.

    Attributes
    ----------
    h : ndarray of shape (n, q, q)
        The sum of the H_j of the groups, so that d log det V = tr(h dG).
    along : ndarray of shape (n, n_pairs, k + 1, k + 1)
        K' E K, with Z' V^-1 (y - X beta) over the root of r2 as the last column of K.
    hh : ndarray of shape (n, n_pairs, n_pairs)
        tr(H E H E').
    hn : ndarray of shape (n, n_pairs, n_pairs)
        2 tr(H E K K' E'), without the last column of K.
    """

    h: Floats
    along: Floats
    hh: Floats
    hn: Floats


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Stores the criterion and its derivatives at several relative covariances G.

    Derivatives are those by the entries of G, for pairs a <= b: a pair stands for the change of both entries (a, b) and
    (b, a). All matrices of inference are in columns in which the estimates are uncorrelated.

    Attributes
    ----------
    value : ndarray of shape (n,)
        The criterion.
    slope : ndarray of shape (n, q, q)
        Gamma, with d value = tr(Gamma dG).
    hessian : ndarray of shape (n, n_pairs, n_pairs)
        Second derivatives by the entries of G.
    r2 : ndarray of shape (n,)
        Residual sums of squares.
    root : ndarray of shape (n, k + 1, k + 1)
        The inverse of the Cholesky factor of B, whose last row is (-beta, 1) divided by the root of r2.
    sums : VarianceSums
        Sums over groups from which inference is made.
    noise : ndarray of shape (n,)
        Rounding of the criterion.
    """

    value: Floats
    slope: Floats
    hessian: Floats
    r2: Floats
    root: Floats
    sums: VarianceSums
    noise: Floats

    def at(self, position: int) -> Evaluation:
        """Return the evaluation at one of the covariances."""
        here = slice(position, position + 1)
        sums = VarianceSums(*(getattr(self.sums, field.name)[here] for field in fields(VarianceSums)))
        parts = (self.value, self.slope, self.hessian, self.r2, self.root)
        value, slope, hessian, r2, root = (part[here] for part in parts)
        return Evaluation(value, slope, hessian, r2, root, sums, self.noise[here])

    @classmethod
    def joined(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """Return evaluations at single covariances as one."""
        sums = VarianceSums(*(_joined([part.sums for part in parts], field.name) for field in fields(VarianceSums)))
        found = {field.name: _joined(parts, field.name) for field in fields(cls) if field.name != "sums"}
        return cls(**found, sums=sums)

    def coefficients(self) -> Floats:
        """Return beta in the coordinates, of shape (n, k)."""
        return np.asarray(-self.root[:, -1, :-1] * np.sqrt(self.r2)[:, None])


def _joined(parts: Sequence[object], name: str) -> Floats:
    """Return an attribute of several records as one array."""
    return np.concatenate([getattr(part, name) for part in parts])


def derivatives(sums: VarianceSums, hg: Floats, free: Floats, *, reml: bool, profiled: bool) -> tuple[Floats, Floats]:
    """Return Gamma and the second derivatives of the criterion by the entries of G, from sums over groups.

    Parameters
    ----------
    sums : VarianceSums
        The sums.
    hg : ndarray of shape (n, n_pairs, n_pairs)
        tr(H E g g' E') for g = Z' V^-1 (y - X beta), divided by r2.
    free : ndarray of shape (n,)
        The derivative of the criterion by log r2.
    reml : bool
        Whether the likelihood is the restricted one.
    profiled : bool
        Whether the criterion is that at the best residual variance, so that it depends on log r2 rather than on r2.

    Returns
    -------
    slope : ndarray of shape (n, q, q)
        Gamma, with d value = tr(Gamma dG).
    hessian : ndarray of shape (n, n_pairs, n_pairs)
        Second derivatives.
    """
    (n, q), k = sums.h.shape[:2], sums.along.shape[2] - 1
    free, (a, b) = free[:, None, None], pairs_of(q)
    c, v, rho = sums.along[:, :, :k, :k], sums.along[:, :, :k, k], sums.along[:, :, k, k]
    at_pairs = sums.h[:, a, b] - (reml * c.trace(axis1=2, axis2=3) + free[:, 0] * rho) / np.where(a == b, 1.0, 2.0)
    slope = np.empty((n, q, q))
    slope[:, a, b] = slope[:, b, a] = at_pairs
    hessian = reml * sums.hn - sums.hh + 2.0 * free * (hg - v @ v.transpose(0, 2, 1))
    if profiled:
        hessian -= free * rho[:, :, None] * rho[:, None, :]
    if reml:
        flat = c.reshape(n, len(a), k * k)
        hessian -= flat @ flat.transpose(0, 2, 1)
    return slope, (hessian + hessian.transpose(0, 2, 1)) / 2


class CovarianceCriterion(Protocol):
    """Minus twice a log-likelihood as a function of a relative covariance, as its optimum and inference ask for it.

    `MixedCriterion` and `FactorCriterion` are such criteria, which have in common what depends on their coordinates alone.
    """

    scatter: Scatter
    coordinates: Any
    _sum_log_weight: float
    design: RandomDesign
    reml: bool
    residual_variance: float | None
    n_observations: float
    degrees_of_freedom: float

    @property
    def rank(self) -> int:
        """Number k of independent fixed effects, including the intercept."""
        return int(self.coordinates.rank)

    @property
    def n_random(self) -> int:
        """Number q of random coefficients of a level in the coordinates."""
        return int(self.coordinates.turn.shape[1])

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs a <= b of random coefficients."""
        return pairs_of(self.n_random)

    @property
    def basis(self) -> Floats:
        """For each pair, the symmetric matrix with 1 at both of its places, of shape (n_pairs, q, q)."""
        return basis_of(self.n_random)

    @property
    def moments(self) -> Moments:
        """Moments of the rows."""
        return self.scatter.moments

    @cached_property
    def at_zero(self) -> Evaluation:
        """The criterion and its derivatives without random effects."""
        return self.evaluate(np.zeros((1, self.n_random, 1)))

    @property
    def random_means_are_fixed(self) -> bool:
        """Whether each column with a random coefficient has a fixed effect too."""
        here = self.coordinates
        return all(here.fit_intercept if at is None else at < here.n_predictors for at in self.design.columns)

    def pairs_in_blocks(self) -> list[tuple[int, int]]:
        """Return the pairs a < b of random coefficients that are correlated."""
        return [(a, b) for block in self.coordinates.blocks for i, a in enumerate(block) for b in block[i + 1 :]]

    def at_residual_variance(self, residual_variance: float) -> Self:
        """Return the criterion at a fixed residual variance, in units of the scatter of y, in the same coordinates.

        It is then -2 log-likelihood with sigma2 given, with D log(2 pi sigma2) + r2 / sigma2 in place of
        D (1 + log(2 pi r2 / D)).
        """
        fixed = copy(self)
        fixed.residual_variance = residual_variance
        for name in ("_constant", "at_zero"):
            fixed.__dict__.pop(name, None)
        return fixed

    @cached_property
    def _constant(self) -> float:
        """Part of the criterion that does not depend on G."""
        free = self.degrees_of_freedom
        if self.residual_variance is not None:
            constant = free * np.log(2.0 * np.pi * self.residual_variance)
        else:
            constant = free * (1.0 + np.log(2.0 * np.pi / free)) if free else 0.0
        constant += 2.0 * free * np.log(self.coordinates.y_scale) - self._sum_log_weight
        return float(constant + 2.0 * self.coordinates.log_scale * self.reml)

    @property
    def n_groups(self) -> int:
        """Number of groups."""

    @property
    def uneven_scales(self) -> tuple[float, ...]:
        """Variances to start from beside one that is a hundred times as large."""

    @property
    def may_be_unbounded(self) -> bool:
        """Whether some covariance might leave no residual."""

    def crude_variances(self) -> Floats:
        """Return crude estimates of the diagonal of G."""

    def evaluate(self, factors: Floats) -> Evaluation:
        """Return the criterion and its derivatives at several covariances."""

    def triple_products(self, factor: Floats, root: Floats, basis: Floats) -> Floats:
        """Return K' E H E' K for all E and E' of a basis of symmetric matrices."""
