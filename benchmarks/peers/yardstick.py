"""One yardstick for all: the exact likelihood at the variances that a peer reached, fixed effects profiled out.

It shares no code with the package. In group j the rows of Z = [1, x1, ...] are those of the random effects, whose covariance
matrix is sigma2 F F', and A = [1, X, y]. With V = I + Z F F' Z' in each group, by Woodbury's identity,

    T_j = I + F' Z_j'Z_j F,    A' V^-1 A = A'A - sum_j (F' Z_j'A_j)' T_j^-1 (F' Z_j'A_j),    log|V| = sum_j log|T_j|.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

# What the deviance may be above its minimum, as far as a Newton step can tell.
SHORT = 1e-8


@dataclass(frozen=True)
class Sums:
    """All that the likelihood needs of rows.

    The sums are plain ones, exact enough for columns whose means are small beside their deviations, as simulated ones' are.

    Attributes
    ----------
    n_rows : int
    gram : ndarray of shape (n_columns + 2, n_columns + 2)
        A'A.
    products : ndarray of shape (n_groups, 1 + n_slopes, n_columns + 2)
        Z_j'A_j; the first columns are Z_j'Z_j, because Z's columns are A's first ones.
    """

    n_rows: int
    gram: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray, groups: np.ndarray, n_slopes: int) -> Sums:
        """Return the sums of rows; the first `n_slopes` columns have random slopes."""
        codes, levels = pd.factorize(groups)
        columns = np.vstack([np.ones(len(y)), X.T, y])
        products = np.empty((len(levels), 1 + n_slopes, len(columns)))
        for i, z in enumerate(columns[: 1 + n_slopes]):
            for j, column in enumerate(columns):
                products[:, i, j] = np.bincount(codes, z * column, len(levels))
        return cls(len(y), columns @ columns.T, products)


@dataclass(frozen=True)
class Point:
    """The likelihood at one relative factor F of the random effects' covariance, for any residual variance.

    Attributes
    ----------
    sums : Sums
    factor : ndarray of shape (1 + n_slopes, rank)
        F.
    reml : bool
    """

    sums: Sums
    factor: np.ndarray
    reml: bool

    @cached_property
    def roots(self) -> np.ndarray:
        """Cholesky factors of T_j, of shape (n_groups, rank, rank)."""
        inner = self.factor.T @ self.sums.products[:, :, : len(self.factor)] @ self.factor
        return np.linalg.cholesky(np.eye(self.factor.shape[1]) + inner)

    @cached_property
    def reduced(self) -> np.ndarray:
        """T_j^-1/2 F' Z_j'A_j, of shape (n_groups, rank, n_columns + 2)."""
        return np.linalg.solve(self.roots, self.factor.T @ self.sums.products)

    @cached_property
    def gram(self) -> np.ndarray:
        """A' V^-1 A, of shape (n_columns + 2, n_columns + 2)."""
        return self.sums.gram - np.tensordot(self.reduced, self.reduced, axes=([0, 1], [0, 1]))

    @cached_property
    def coefficients(self) -> np.ndarray:
        """Fixed effects, the intercept first, by generalised least squares."""
        return cho_solve(cho_factor(self.gram[:-1, :-1]), self.gram[:-1, -1])

    @property
    def residual_scatter(self) -> float:
        """Of the residuals r, r' V^-1 r."""
        return self.gram[-1, -1] - self.gram[-1, :-1] @ self.coefficients

    @property
    def degrees_of_freedom(self) -> int:
        """Rows, for REML less the fixed effects."""
        return self.sums.n_rows - self.reml * len(self.coefficients)

    @property
    def residual_variance(self) -> float:
        """The best one."""
        return self.residual_scatter / self.degrees_of_freedom

    def deviance(self, residual_variance: float) -> float:
        """Return minus twice the (restricted) log-likelihood, with all constants, as lme4 does."""
        value = self.degrees_of_freedom * np.log(2 * np.pi * residual_variance) + self.residual_scatter / residual_variance
        value += 2 * np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum()
        return float(value + self.reml * np.linalg.slogdet(self.gram[:-1, :-1])[1])

    def gradient(self) -> np.ndarray:
        """Return the derivatives of the deviance in F at the best residual variance, of F's shape.

        They are 2 Gamma F, Gamma = sum_j Z'V^-1 Z - g g' / sigma2 [- Z'V^-1 X (X'V^-1 X)^-1 X'V^-1 Z], g = Z'V^-1 r.
        """
        q = len(self.factor)
        weighted = self.sums.products - self.reduced[:, :, :q].transpose(0, 2, 1) @ self.reduced
        residual = weighted @ np.append(-self.coefficients, 1.0)
        gamma = weighted[:, :, :q].sum(axis=0) - residual.T @ residual / self.residual_variance
        if self.reml:
            fixed = weighted[:, :, :-1]
            inverse = np.linalg.inv(self.gram[:-1, :-1])
            gamma -= np.tensordot(fixed @ inverse, fixed, axes=([0, 2], [0, 2]))
        return 2 * gamma @ self.factor


@dataclass(frozen=True)
class Optimum:
    """The maximum of the (restricted) log-likelihood.

    Attributes
    ----------
    sums : Sums
    reml : bool
    log_likelihood : float
        The maximum.
    covariance : ndarray of shape (1 + n_slopes, 1 + n_slopes)
        Of the random effects there, the intercept first.
    residual_variance : float
    coef, std_errors : ndarray of shape (n_columns,)
        Fixed effects there but the intercept, and their standard errors.
    """

    sums: Sums
    reml: bool
    log_likelihood: float
    covariance: np.ndarray
    residual_variance: float
    coef: np.ndarray
    std_errors: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray, groups: np.ndarray, n_slopes: int, reml: bool) -> Optimum:
        """Return the optimum for data, by quasi-Newton steps on the lower triangle of F."""
        sums = Sums.of(X, y, groups, n_slopes)
        triangle = np.tril_indices(1 + n_slopes)

        def at(entries: np.ndarray) -> Point:
            factor = np.zeros((1 + n_slopes, 1 + n_slopes))
            factor[triangle] = entries
            return Point(sums, factor, reml)

        def criterion(entries: np.ndarray) -> tuple[float, np.ndarray]:
            point = at(entries)
            return point.deviance(point.residual_variance) / sums.n_rows, point.gradient()[triangle] / sums.n_rows

        # The steps end where rounding hides the descent, which is no failure; what a Newton step promises says if it is one.
        found = minimize(criterion, np.eye(1 + n_slopes)[triangle], jac=True, method="BFGS", options={"gtol": 1e-9})
        promise = sums.n_rows * found.jac @ found.hess_inv @ found.jac / 2
        if not promise <= SHORT:
            raise AssertionError(f"The yardstick lacks {promise:.1g} of the deviance's minimum.")
        point = at(found.x)
        residual_variance = point.residual_variance
        std_errors = np.sqrt(residual_variance * np.diag(np.linalg.inv(point.gram[:-1, :-1])))
        return cls(
            sums,
            reml,
            -point.deviance(residual_variance) / 2,
            residual_variance * point.factor @ point.factor.T,
            residual_variance,
            point.coefficients[1:],
            std_errors[1:],
        )


def log_likelihood(sums: Sums, covariance: ArrayLike, residual_variance: float, reml: bool) -> float:
    """Return the (restricted) log-likelihood at variances, fixed effects profiled out, with all constants."""
    ratios, vectors = np.linalg.eigh(np.atleast_2d(np.asarray(covariance, dtype=float)) / residual_variance)
    # A singular matrix can have eigenvalues a little below zero.
    return -Point(sums, vectors * np.sqrt(np.maximum(ratios, 0.0)), reml).deviance(residual_variance) / 2


def dense_log_likelihood(
    X: np.ndarray, y: np.ndarray, groups: np.ndarray, covariance: np.ndarray, residual_variance: float, reml: bool
) -> float:
    """Return the same from the n-by-n covariance matrix, as textbooks have it."""
    X1 = np.column_stack([np.ones(len(y)), X])
    Z = X1[:, : len(covariance)]
    V = residual_variance * np.eye(len(y)) + (Z @ covariance @ Z.T) * (groups[:, None] == groups)
    information = X1.T @ np.linalg.solve(V, X1)
    mean = X1 @ np.linalg.solve(information, X1.T @ np.linalg.solve(V, y))
    value = float(multivariate_normal(mean, V).logpdf(y))
    if reml:
        value += (X1.shape[1] * np.log(2 * np.pi) - np.linalg.slogdet(information)[1]) / 2
    return value


def check() -> None:
    """Raise an AssertionError unless the yardstick agrees with dense matrices, for REML and ML, with slopes and without.

    It has to agree at several variances, singular ones included, and be at its maximum where dense differences are zero.
    """
    rng = np.random.default_rng(1)
    X, groups = rng.standard_normal((200, 3)), rng.integers(0, 20, 200)
    effects = rng.standard_normal((20, 3))[groups]
    y = X.sum(axis=1) + effects[:, 0] + (effects[:, 1:] * X[:, :2]).sum(axis=1) + rng.standard_normal(200)
    for n_slopes in (0, 1, 2):
        q = 1 + n_slopes
        root = rng.standard_normal((q, q))
        candidates = [(np.eye(q), 1.0), (root @ root.T, 2.0), (np.zeros((q, q)), 1.5), (5 * np.ones((q, q)), 0.2)]
        for reml in (True, False):
            best = Optimum.of(X, y, groups, n_slopes, reml)
            for covariance, residual_variance in candidates:
                dense = dense_log_likelihood(X, y, groups, covariance, residual_variance, reml)
                exact = log_likelihood(best.sums, covariance, residual_variance, reml)
                np.testing.assert_allclose(exact, dense, rtol=1e-11)
            check_maximum(X, y, groups, best)


def check_maximum(X: np.ndarray, y: np.ndarray, groups: np.ndarray, best: Optimum) -> None:
    """Raise an AssertionError unless the dense likelihood is `best`'s there, and flat in each of the variances."""

    def dense(covariance: np.ndarray, residual_variance: float) -> float:
        return dense_log_likelihood(X, y, groups, covariance, residual_variance, best.reml)

    step = 1e-4
    np.testing.assert_allclose(dense(best.covariance, best.residual_variance), best.log_likelihood, rtol=1e-11)
    ends = [dense(best.covariance, best.residual_variance + sign * step) for sign in (-1, 1)]
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-8)
    for i, j in zip(*np.tril_indices(len(best.covariance)), strict=True):
        change = np.zeros_like(best.covariance)
        change[i, j] = change[j, i] = step
        ends = [dense(best.covariance + sign * change, best.residual_variance) for sign in (-1, 1)]
        np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-8)
