"""`Evaluation`: a criterion and its derivatives at several relative covariances, and what inference needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from .._typing import Floats
from ._group_factors import RandomDesign
from ._group_products import pairs_of


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

    `MixedCriterion` and `FactorCriterion` are such criteria; they describe the members.
    """

    design: RandomDesign
    reml: bool
    residual_variance: float | None
    n_observations: float
    degrees_of_freedom: float

    @property
    def coordinates(self) -> Any:
        """The columns in which the criterion is computed."""

    @property
    def rank(self) -> int:
        """Number k of independent fixed effects."""

    @property
    def n_random(self) -> int:
        """Number q of random coefficients in the coordinates."""

    @property
    def n_groups(self) -> int:
        """Number of groups."""

    @property
    def uneven_scales(self) -> tuple[float, ...]:
        """Variances to start from beside one that is a hundred times as large."""

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs a <= b of random coefficients."""

    @property
    def basis(self) -> Floats:
        """For each pair, the symmetric matrix with 1 at both of its places."""

    @property
    def may_be_unbounded(self) -> bool:
        """Whether some covariance might leave no residual."""

    @property
    def at_zero(self) -> Evaluation:
        """The criterion without random effects."""

    @property
    def random_means_are_fixed(self) -> bool:
        """Whether each column with a random coefficient has a fixed effect too."""

    def pairs_in_blocks(self) -> list[tuple[int, int]]:
        """Return the pairs a < b of random coefficients that are correlated."""

    def crude_variances(self) -> Floats:
        """Return crude estimates of the diagonal of G."""

    def evaluate(self, factors: Floats) -> Evaluation:
        """Return the criterion and its derivatives at several covariances."""

    def triple_products(self, factor: Floats, root: Floats, basis: Floats) -> Floats:
        """Return K' E H E' K for all E and E' of a basis of symmetric matrices."""
