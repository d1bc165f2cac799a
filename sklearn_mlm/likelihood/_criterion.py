"""`Criterion`: minus twice the (restricted) log-likelihood as a function of the variance ratio alone."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from .._typing import Floats
from ..moments._grouped_moments import GroupedMoments
from ..moments._remainder import KnownPart
from ._coordinates import coordinates
from ._group_sizes import group_sums
from ._linalg import cholesky, inverse_of_lower, submatrix, unit_cholesky
from ._solution import InferenceSums, Profiles, Solution, reliabilities_of

# Scatter of the group means, relative to y, that is rounding after an exact fit: means lose fewer digits than squares.
_EXACT_BETWEEN = 1e-20
# The smallest r2, relative to the scatter of y. A smaller r2 is rounding, and the square of its inverse would overflow.
_LEAST_R2 = 1e-100
# The most numbers that the matrices of one vectorised evaluation hold.
_BATCH_NUMBERS = 1 << 21


class Criterion:
    """Minus twice the profiled (restricted) log-likelihood of moments, a function of gamma = tau2 / sigma2.

    With t_j = (1, mean of x, mean of y) of group j, h_j = n_j / (1 + gamma n_j), and

        B(gamma) = [0 0; 0 W] + sum_j h_j t_j t_j'  =  sigma2 [X y]' V^-1 [X y],

    beta = B_XX^-1 B_Xy, r2 = B_yy - B_yX beta, and D = N - k for REML, N for ML, the criterion is

        D (1 + log(2 pi r2 / D)) + sum_j log(1 + gamma n_j) - sum log w  [+ log det B_XX  for REML],

    including all constants, as in lme4's "REML criterion at convergence" and deviance. It is computed in `Coordinates`. The
    object does not change: its methods depend on their arguments alone.

    Parameters
    ----------
    moments : GroupedMoments
        Moments of the rows.
    fit_intercept : bool, default=True
        Whether the model has a fixed intercept.
    reml : bool, default=True
        Whether the likelihood is the restricted one.
    precision_weights : bool, default=False
        Whether a weight divides the residual variance of its row, so that N counts rows and log w enters. False means that
        a weight counts copies of its row, and N is the total weight.

    Attributes
    ----------
    moments : GroupedMoments
        Moments of the rows.
    reml : bool
        Whether the likelihood is the restricted one.
    n_observations : float
        N, the number of observations.
    degrees_of_freedom : float
        D: N - k for REML, N for maximum likelihood.
    coordinates : Coordinates
        The columns in which the criterion is computed.
    groups : GroupSums
        The group means in these coordinates, and the group sizes.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), "Fitting linear mixed-effects models using lme4", Journal of
    Statistical Software 67(1), equations 34 and 41, for the criterion.
    """

    def __init__(
        self, moments: GroupedMoments, *, fit_intercept: bool = True, reml: bool = True, precision_weights: bool = False
    ):
        self.moments = moments
        self.reml = reml
        self.n_observations = float(moments.n_rows.sum() if precision_weights else moments.counts.sum())
        self.coordinates = coordinates(moments, fit_intercept=fit_intercept, n_observations=self.n_observations)
        self.groups = group_sums(self.coordinates.group_rows(), moments.counts)
        self.degrees_of_freedom = self.n_observations - (self.rank if reml else 0)
        self._sum_log_weight = moments.sum_log_weight if precision_weights else 0.0

    @property
    def rank(self) -> int:
        """Number k of independent fixed effects, including the intercept."""
        return self.coordinates.rank

    @property
    def within_degrees_of_freedom(self) -> float:
        """N - J - the rank of X within groups: degrees of freedom for sigma2, apart from the group means."""
        return self.n_observations - self.moments.n_groups - self.coordinates.within_rank

    @property
    def between_degrees_of_freedom(self) -> int:
        """J less the number of fixed effects that vary only between groups: degrees of freedom for tau2."""
        return self.moments.n_groups - (self.rank - self.coordinates.within_rank)

    @property
    def limit_degrees_of_freedom(self) -> float:
        """D less the degrees of freedom between groups; a difference that is rounding is 0.

        It decides what the criterion does as gamma grows, if r2 tends to c / gamma: the criterion falls without bound if the
        difference is positive, tends to a limit if it is 0, and rises without bound if it is negative, which is possible
        with weights below 1.
        """
        free = self.between_degrees_of_freedom if self.reml else self.moments.n_groups
        excess = self.degrees_of_freedom - free
        return 0.0 if abs(excess) <= 1e-9 * self.n_observations else excess

    # ---- the function and its derivatives

    def value(self, ratio: float) -> float:
        """Return the criterion at a variance ratio in [0, inf)."""
        return float(self.evaluate(ratio)[0][0])

    def determinant_slope(self, ratio: float) -> float:
        """Return sum_j h_j, the derivative of log det(V / sigma2) and the first term of the gradient."""
        groups = self.groups
        return float(groups.sizes / (1.0 + ratio * groups.sizes) @ groups.multiplicity)

    def evaluate(self, ratios: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the criterion and its first two derivatives at each of several variance ratios.

        With L the Cholesky factor of B, R = L^-1, M = R (sum h_j^2 t_j t_j') R', P = R (sum h_j^3 t_j t_j') R', powers
        q_i = 1 for REML and 0 for ML for the columns of x, q_y = D for y, and q_ij the power of the later of two columns,

            f   = constant + 2 sum q_i log L_ii + sum log(1 + gamma n_j),
            f'  = sum h_j - sum q_i M_ii,
            f'' = -sum h_j^2 + 2 sum q_i P_ii - sum_ij q_ij M_ij^2.

        Parameters
        ----------
        ratios : float or array-like of shape (n_ratios,)
            Variance ratios in [0, inf).

        Returns
        -------
        value, gradient, hessian : ndarray of shape (n_ratios,)
            The criterion and its first two derivatives.
        """
        ratios = np.atleast_1d(np.asarray(ratios, dtype=np.float64))
        batch = self._batch()
        parts = [self._evaluate(ratios[i : i + batch]) for i in range(0, len(ratios), batch)]
        if len(parts) == 1:
            return parts[0]
        value, gradient, hessian = map(np.concatenate, zip(*parts, strict=True))
        return value, gradient, hessian

    def _evaluate(self, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what `evaluate` does, for ratios whose matrices fit into memory at once."""
        groups, n_ratios = self.groups, len(ratios)
        growth = ratios[:, None] * groups.sizes
        h = groups.sizes / (1.0 + growth)
        h2 = h * h
        sums = groups.between(np.concatenate([h, h2, h2 * h]))
        pivots, root = self._factor(sums[:n_ratios])
        transposed = root.transpose(0, 2, 1)
        m = root @ sums[n_ratios : 2 * n_ratios] @ transposed
        p = ((root @ sums[2 * n_ratios :]) * root).sum(axis=2)
        powers, of_pairs = self._powers
        value = self._value(*_squares(pivots), np.log1p(growth) @ groups.multiplicity)
        gradient = h @ groups.multiplicity - m.diagonal(axis1=1, axis2=2) @ powers
        hessian = 2.0 * p @ powers - h2 @ groups.multiplicity - ((m * m) * of_pairs).sum(axis=(1, 2))
        return value, gradient, hessian

    def derivatives(self, ratio: float) -> tuple[float, float]:
        """Return the first two derivatives of the criterion at one variance ratio; cheaper than `evaluate`."""
        sums, _, _ = self._sums_at(ratio)
        (powers, of_pairs), second = self._powers, sums.second
        gradient = sums.h_sum - second.diagonal() @ powers
        hessian = 2.0 * (sums.third.diagonal() @ powers) - sums.h_squared - (second * second * of_pairs).sum()
        return float(gradient), float(hessian)

    def _sums_at(self, ratio: float) -> tuple[InferenceSums, np.ndarray, np.ndarray]:
        """Return the sums that inference uses, and the pivots and the inverse of the Cholesky factor at a ratio."""
        groups = self.groups
        h = np.empty((3, len(groups.sizes)))
        np.divide(groups.sizes, 1.0 + ratio * groups.sizes, out=h[0])
        np.multiply(h[0], h[0], out=h[1])
        np.multiply(h[1], h[0], out=h[2])
        first, second, third = groups.between(h)
        (pivots,), (root,) = self._factor(first[None])
        h_sum, h_squared = (h[:2] @ groups.multiplicity).tolist()
        return InferenceSums(root @ second @ root.T, root @ third @ root.T, h_sum, h_squared), pivots, root

    def residual_sums_of_squares(self, ratios: np.ndarray) -> np.ndarray:
        """Return the residual sum of squares r2(gamma) at each of several ratios, with y in the unit of the coordinates."""
        sums = []
        for at in np.array_split(ratios, -(-len(ratios) // self._batch())):
            between = self.groups.between(self.groups.sizes / (1.0 + at[:, None] * self.groups.sizes))
            sums.append(self._factor(between)[0][:, -1] ** 2)
        return np.concatenate(sums)

    def information(self, ratio: float) -> tuple[np.ndarray, np.ndarray]:
        """Return B_XX(gamma), which is sigma2 times the information on beta, and its inverse."""
        between = self.groups.between((self.groups.sizes / (1.0 + ratio * self.groups.sizes))[None, :])
        root = self._factor(between)[1][0, :-1, :-1]
        return (self._augmented + between[0])[:-1, :-1], root.T @ root

    def profiles(self, ratios: np.ndarray) -> Profiles:
        """Return what profile limits are made of, at several variance ratios.

        Parameters
        ----------
        ratios : ndarray of shape (n_ratios,)
            Variance ratios in [0, inf).

        Returns
        -------
        profiles : Profiles
            The criterion, r2 and the fixed effects at each ratio.
        """
        batch, here = self._batch(), self.coordinates
        to_columns = here.to_columns()
        if here.fit_intercept:
            to_columns[0] -= here.origin[:-1] @ to_columns[1:]
        values, sums, coefficients, variances = [], [], [], []
        for at in (ratios[i : i + batch] for i in range(0, len(ratios), batch)):
            growth = at[:, None] * self.groups.sizes
            pivots, root = self._factor(self.groups.between(self.groups.sizes / (1.0 + growth)))
            values.append(self._value(*_squares(pivots), np.log1p(growth) @ self.groups.multiplicity))
            sums.append(pivots[:, -1] ** 2)
            for slopes, intercept in map(here.fixed_effects, _coefficients(pivots, root)):
                slopes = here.known_slopes + slopes
                coefficients.append(np.append(intercept, slopes) if here.fit_intercept else slopes)
            variances.append(((root[:, :-1, :-1] @ to_columns.T) ** 2).sum(axis=1))
        return Profiles(np.concatenate(values), np.concatenate(sums), np.array(coefficients), np.concatenate(variances))

    def _batch(self) -> int:
        """Return how many ratios fit into memory at once."""
        return max(1, _BATCH_NUMBERS // max((self.rank + 1) ** 2, len(self.groups.sizes)))

    @cached_property
    def _powers(self) -> tuple[np.ndarray, np.ndarray]:
        """Powers q_i of the pivots in the likelihood, and the power q_ij of the later of two columns."""
        powers = np.append(np.full(self.rank, float(self.reml)), self.degrees_of_freedom)
        later = np.maximum.outer(np.arange(self.rank + 1), np.arange(self.rank + 1))
        return powers, powers[later]

    @cached_property
    def _constant(self) -> float:
        """Part of the criterion that does not depend on the ratio."""
        free = self.degrees_of_freedom
        constant = free * (1.0 + np.log(2.0 * np.pi / free) + 2.0 * np.log(self.coordinates.y_scale)) - self._sum_log_weight
        return float(constant + 2.0 * self.coordinates.log_scale * self.reml)

    def _value(self, r2: float | Floats, half_log_det: float | Floats, log_determinant: float | Floats) -> Any:
        """Return the criterion, given r2, half of log det B_XX and log det(V / sigma2)."""
        value = self._constant + self.degrees_of_freedom * np.log(r2) + log_determinant
        return value + 2.0 * half_log_det if self.reml else value

    @cached_property
    def _augmented(self) -> np.ndarray:
        """Scatter within groups [W, W d; d'W, r2(inf) + d'W d], where d are the slopes within groups."""
        here, k = self.coordinates, self.rank
        augmented = np.empty((k + 1, k + 1))
        augmented[:k, :k] = here.within
        augmented[:k, k] = augmented[k, :k] = here.within @ here.within_slopes
        augmented[k, k] = here.within_residual + here.within_slopes @ augmented[k, :k]
        return augmented

    def _factor(self, between: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pivots L_ii of the Cholesky factor L of B, and L^-1, for each of several between scatters.

        The last pivot is the root of r2. It loses digits if the fixed effects explain more than half of B_yy. Then r2 is
        computed as the sum of squares

            r2(inf) + (beta - d)' W (beta - d) + sum_j h_j e_j^2,

        in which an error of beta enters only by its square.
        """
        b = self._augmented + between
        pivots, root, singular = np.empty(b.shape[:2]), np.empty_like(b), False
        for matrix, of_matrix, inverse in zip(b, pivots, root, strict=True):
            try:
                lower = cholesky(matrix)
            except np.linalg.LinAlgError:
                # The other entries of the factor do not depend on B_yy.
                singular = True
                matrix[-1, -1] *= 2.0
                factor, length = unit_cholesky(matrix)
                lower = factor * length[:, None]
            of_matrix[:], inverse[:] = lower.diagonal(), inverse_of_lower(lower)
        if singular or (pivots[:, -1] ** 2 < b[:, -1, -1] / 2.0).any():
            here = self.coordinates
            beta = _coefficients(pivots, root)
            apart, contrast = beta - here.within_slopes, np.append(-beta, np.ones((len(beta), 1)), axis=1)
            of_means = np.einsum("ni,nij,nj->n", contrast, between, contrast)
            r2 = here.within_residual + ((apart @ here.within) * apart).sum(axis=1) + np.maximum(of_means, 0.0)
            last = np.sqrt(np.maximum(r2, _LEAST_R2))
            root[:, -1] *= (pivots[:, -1] / last)[:, None]
            pivots[:, -1] = last
        return pivots, root

    # ---- residuals

    @cached_property
    def exact_fit(self) -> bool:
        """Whether the residual of y, given the fixed effects, is rounding."""
        here = self.coordinates
        if here.outcome_constant or self.n_observations <= self.rank:
            return True
        if not here.within_residual_zero:
            return False
        between = self.groups.between(self.groups.sizes[None, :])
        contrast = np.append(-_coefficients(*self._factor(between))[0], 1.0)
        left = float(contrast @ between[0] @ contrast)
        return left <= max(_EXACT_BETWEEN * (here.between_total or 1.0), here.noise)

    @property
    def between_residual(self) -> float:
        """Upper bound of c in r2(gamma) ~ r2(inf) + c / gamma."""
        residuals = self.groups.rows @ np.append(-self.coordinates.within_slopes, 1.0)
        return float(residuals @ residuals)

    def known_part(self) -> KnownPart | None:
        """Return the part of y to subtract in a second reading of the rows; None if the moments of y have lost no digits.

        The slopes of this part are the within-group slopes, and a first guess for columns that vary only between groups.
        """
        here = self.coordinates
        means_left = float(self.groups.counts @ self.groups.rows[:, -1] ** 2)
        if self.moments.n_features and here.explains_nearly_all(means_left, self.within_degrees_of_freedom):
            slopes = here.known_slopes + here.fixed_effects(here.within_slopes)[0]
            return self.moments.known_part(slopes) if here.fit_intercept else KnownPart(slopes, 0.0)
        return None

    # ---- solutions

    def solution(self, ratio: float) -> Solution:
        """Return the model at a variance ratio in [0, inf]; at infinity it is the exact limit sigma2 = 0."""
        if np.isinf(ratio):
            return self._limit()
        here, groups = self.coordinates, self.groups
        sums, pivots, root = self._sums_at(ratio)
        beta = _coefficients(pivots, root)
        residuals = groups.rows[:, -1] - groups.rows[:, :-1] @ beta
        inverse = root[:-1, :-1].T
        if self.exact_fit:
            return self._in_columns(ratio, beta, residuals, np.zeros_like(inverse), 0.0, 0.0, -np.inf, sums)
        # As in `_factor`, but group by group, because sums per size cancel if the means are fitted almost exactly.
        apart = beta - here.within_slopes
        shrunk = groups.counts / (1.0 + ratio * groups.counts)
        r2 = float(here.within_residual + apart @ here.within @ apart + shrunk @ residuals**2)
        r2 = r2 if r2 > 0 else float(pivots[-1]) ** 2
        sigma2 = r2 / self.degrees_of_freedom
        value = float(self._value(r2, _squares(pivots)[1], np.log1p(ratio * groups.sizes) @ groups.multiplicity))
        return self._in_columns(ratio, beta, residuals, np.sqrt(sigma2) * inverse, ratio * sigma2, sigma2, value, sums)

    def _limit(self) -> Solution:
        """Return the model with sigma2 = 0, in which x determines y within groups and only group means are random.

        W gives the coefficients that it identifies; least squares on the group means, given these, gives the others. The
        criterion falls without bound if the within part has spare degrees of freedom, and otherwise tends to

            D (1 + log(2 pi c / D)) + sum log n_j [+ log det W_XX + log det sum_j x_j x_j', each over its own columns],

        where c is the residual sum of squares of the group means.
        """
        here, rows = self.coordinates, self.groups.rows
        outside = np.flatnonzero(~here.is_within)
        beta = here.within_slopes.copy()
        target = rows[:, -1] - rows[:, :-1] @ beta
        orthonormal, factor = np.linalg.qr(rows[:, outside])
        beta[outside] = solve_triangular(factor, orthonormal.T @ target)
        target -= rows[:, outside] @ beta[outside]
        residual = float(target @ target)
        free = self.between_degrees_of_freedom if self.reml else self.moments.n_groups
        tau2 = residual / free if free else 0.0
        root = np.zeros((self.rank, self.rank))
        root[np.ix_(outside, outside)] = np.sqrt(tau2) * solve_triangular(factor, np.eye(len(outside)))
        value = -np.inf
        if self.limit_degrees_of_freedom == 0 and residual:
            half_log_det = 0.5 * np.linalg.slogdet(submatrix(here.within, np.flatnonzero(here.is_within)))[1]
            half_log_det += np.log(np.abs(factor.diagonal())).sum()
            value = float(self._value(residual, half_log_det, np.log(self.moments.counts).sum()))
        return self._in_columns(np.inf, beta, target, root, tau2, 0.0, value, None)

    def _in_columns(
        self,
        ratio: float,
        beta: np.ndarray,
        residuals: np.ndarray,
        root: np.ndarray,
        tau2: float,
        sigma2: float,
        value: float,
        sums: InferenceSums | None,
    ) -> Solution:
        """Return the solution in units of the data, given one in the coordinates with groups in the order of `groups`."""
        here = self.coordinates
        rest, intercept = here.fixed_effects(beta)
        residual_means = np.empty(self.moments.n_groups)
        residual_means[self.groups.order] = here.y_scale * residuals
        return Solution(
            ratio=float(ratio),
            group_variance=float(tau2) * here.y_scale**2,
            residual_variance=float(sigma2) * here.y_scale**2,
            coefficients=here.known_slopes + rest,
            rest_coefficients=rest,
            intercept=intercept,
            center=here.origin[:-1],
            root=here.to_columns() @ root,
            residual_means=residual_means,
            reliabilities=reliabilities_of(ratio, self.moments.counts),
            value=value,
            sums=sums,
        )


def _coefficients(pivots: Floats, root: Floats) -> Floats:
    """Return beta, given that the last row of L^-1 is (-beta, 1) divided by the last pivot."""
    return -root[..., -1, :-1] * pivots[..., -1:]


def _squares(pivots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return r2, the square of the last pivot L_ii, and half of log det B_XX, from the pivots of the columns of x."""
    return pivots[..., -1] ** 2, np.log(pivots[..., :-1]).sum(axis=-1)
