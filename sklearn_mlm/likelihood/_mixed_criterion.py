"""`MixedCriterion`: minus twice the (restricted) log-likelihood as a function of a relative covariance matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from .._typing import Floats
from ..moments._remainder import KnownPart
from ..moments._scatter import Scatter
from ..moments._threads import threads
from ._evaluation import CovarianceCriterion, Evaluation, VarianceSums, derivatives
from ._group_factors import RandomDesign
from ._group_products import (
    BLOCK_NUMBERS,
    GroupProducts,
    PairSums,
    contraction_of,
    crude_variances,
    group_products,
)
from ._linalg import unit_cholesky
from ._mixed_coordinates import mixed_coordinates

# The smallest r2, relative to the scatter of y. A smaller r2 is rounding, and the square of its inverse would overflow.
_LEAST_R2 = 1e-100
# Rounding of a sum, relative to its terms.
_ROUNDING = 32 * np.finfo(np.float64).eps
# A residual variance, relative to the mean square of y, that is rounding; the default of `without_residual`.
_NO_RESIDUAL = 1e-18
# Squares, relative to those of y, that are rounding after an exact fit.
_EXACT = 1e-20
# The fewest numbers of all groups that are worth threads.
_THREAD_NUMBERS = 1 << 19
_MAX_THREADS = 8


class MixedCriterion(CovarianceCriterion):
    """Minus twice the profiled (restricted) log-likelihood of a record, a function of G = Sigma / sigma2.

    The model is y_j = X_j beta + Z_j b_j + e_j with b_j ~ N(0, Sigma) and e_j ~ N(0, sigma2 W_j^-1). With the triangular
    factors Z_j = Q_j R_j, C_j = Q_j' [X_j y_j] and the rest W = sum_j [X_j y_j]' (I - Q_j Q_j') [X_j y_j],

        T_j = I + R_j G R_j',    B = W + sum_j C_j' T_j^-1 C_j = sigma2 [X y]' V^-1 [X y],

    beta = B_XX^-1 B_Xy, r2 = B_yy - B_yX beta, and D = N - k for REML, N for ML, the criterion is

        D (1 + log(2 pi r2 / D)) + sum_j log det T_j - sum log w  [+ log det B_XX  for REML],

    including all constants, as in lme4. It is computed in `MixedCoordinates`, for several G at once if there are few groups.
    The object does not change.

    Parameters
    ----------
    scatter : Scatter
        The record of the rows.
    design : RandomDesign
        The random coefficients.
    fit_intercept : bool, default=True
        Whether the model has a fixed intercept.
    n_predictors : int or None, default=None
        Number of leading columns of x that have fixed effects; None for all.
    reml : bool, default=True
        Whether the likelihood is the restricted one.
    precision_weights : bool, default=False
        Whether a weight divides the residual variance of its row. False means that a weight counts copies of its row.
    residual_variance : float or None, default=None
        A fixed residual variance, in units of the scatter of y; None takes the best one at each G.

    Attributes
    ----------
    n_observations : float
        N, the number of observations.
    degrees_of_freedom : float
        D: N - k for REML, N for maximum likelihood.
    coordinates : MixedCoordinates
        The columns in which the criterion is computed.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), "Fitting linear mixed-effects models using lme4", Journal of
    Statistical Software 67(1), equations 34 and 41, for the criterion.
    """

    def __init__(
        self,
        scatter: Scatter,
        design: RandomDesign,
        *,
        fit_intercept: bool = True,
        n_predictors: int | None = None,
        reml: bool = True,
        precision_weights: bool = False,
        residual_variance: float | None = None,
    ):
        moments = scatter.moments
        self.scatter, self.design, self.reml = scatter, design, reml
        self.residual_variance, self._precision_weights = residual_variance, precision_weights
        self.n_observations = float(moments.n_rows.sum() if precision_weights else moments.counts.sum())
        self.coordinates = mixed_coordinates(
            scatter,
            design,
            fit_intercept=fit_intercept,
            n_predictors=n_predictors,
            residual_variance=residual_variance,
        )
        self.degrees_of_freedom = self.n_observations - (self.rank if reml else 0)
        self._sum_log_weight = moments.sum_log_weight if precision_weights else 0.0

    @property
    def uneven_scales(self) -> tuple[float, ...]:
        """None: one factor has few minima."""
        return ()

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.coordinates.rows.z.shape[2])

    @property
    def within_degrees_of_freedom(self) -> float:
        """N, less the random coefficients that their groups determine and the fixed effects in the rest."""
        inside = np.count_nonzero(self.coordinates.within.diagonal())
        return self.n_observations - self.coordinates.rows.n_determined - int(inside)

    @property
    def unbounded(self) -> bool:
        """Whether random and fixed effects determine y, so that the criterion falls without bound as sigma2 goes to 0."""
        return self.coordinates.within_residual_zero and self.within_degrees_of_freedom > 0

    @property
    def may_be_unbounded(self) -> bool:
        """Whether some covariance of the random coefficients might leave no residual, because the rest of y is 0."""
        return self.coordinates.within_residual_zero and self.residual_variance is None

    @cached_property
    def exact_fit(self) -> bool:
        """Whether the fixed effects alone determine y."""
        if self.coordinates.outcome_constant or self.n_observations <= self.rank:
            return True
        return self.coordinates.within_residual_zero and self.at_zero.r2[0] <= max(_EXACT, self.coordinates.noise)

    def known_part(self) -> KnownPart | None:
        """Return the part of y to subtract in a second reading of the rows; None if the record has lost no digits of y."""
        slopes = self.coordinates.known_part(self.within_degrees_of_freedom)
        if slopes is None:
            return None
        return self.moments.known_part(slopes) if self.coordinates.fit_intercept else KnownPart(slopes, 0.0)

    def without_residual(self, share: float = _NO_RESIDUAL) -> MixedCriterion:
        """Return the criterion at a residual variance that is this share of y's mean square, in coordinates for it."""
        here = self.coordinates
        return MixedCriterion(
            self.scatter,
            self.design,
            fit_intercept=here.fit_intercept,
            n_predictors=here.n_predictors,
            reml=self.reml,
            precision_weights=self._precision_weights,
            residual_variance=share / self.n_observations,
        )

    def crude_variances(self) -> Floats:
        """Return crude estimates of the diagonal of G, all of them positive."""
        residual = self.coordinates.within_residual / max(self.within_degrees_of_freedom, 1)
        return crude_variances(self.coordinates.rows, self.residual_variance or residual)

    @cached_property
    def _augmented(self) -> Floats:
        """The rest [W, W d; d'W, residual + d'W d] of x and e, where d are the slopes in the rest."""
        here, k = self.coordinates, self.rank
        augmented = np.empty((k + 1, k + 1))
        augmented[:k, :k] = here.within
        augmented[:k, k] = augmented[k, :k] = here.within @ here.within_slopes
        augmented[k, k] = here.within_residual + here.within_slopes @ augmented[k, :k]
        return augmented

    def value(self, factor: Floats) -> float:
        """Return the criterion at G = F F' for a factor F in the coordinates, of shape (q, r)."""
        return float(self.evaluate(np.asarray(factor)[None]).value[0])

    def evaluate(self, factors: Floats) -> Evaluation:
        """Return the criterion and its derivatives at G = F F' for several factors F in the coordinates.

        With A_j = L_j^-1 R_j for T_j = L_j L_j', D_j = L_j^-1 C_j, H_j = A_j' A_j, g_j = A_j' D_j (-beta, 1),
        K_j = A_j' D_xj L_B^-T and N_j = K_j K_j' (0 for ML), the derivative is tr(Gamma dG) with

            Gamma = sum_j (H_j - N_j - (D / r2) g_j g_j'),

        and the second derivative in directions E and E', with Phi_j = H_j - 2 N_j - 2 (D / r2) g_j g_j', is

            - sum_j tr(H_j E Phi_j E') - 2 (D / r2) v_E' v_E' - (D / r2^2) rho_E rho_E' - [tr(C_E C_E') for REML],
            v_E = sum_j K_j' E g_j,    rho_E = sum_j g_j' E g_j,    C_E = sum_j K_j' E K_j.

        Parameters
        ----------
        factors : ndarray of shape (n, q, r)
            Factors of relative covariances.

        Returns
        -------
        evaluation : Evaluation
            The values and derivatives.
        """
        rows, q, width = self.coordinates.rows, self.n_random, self.rank + 1
        step = max(1, BLOCK_NUMBERS // max(1, len(factors) * q * width))
        blocks = [slice(at, at + step) for at in range(0, self.n_groups, step)]
        useful = min(_MAX_THREADS, len(blocks)) if len(factors) * self.n_groups * q * width >= _THREAD_NUMBERS else 1
        with threads(useful) if useful > 1 else nullcontext() as pool:
            mapped: Callable[..., Iterable[Any]] = map if pool is None else pool.map
            first = list(mapped(lambda at: group_products(rows, at, factors), blocks))
            log_det = sum(part.log_det for part in first)
            between = sum(part.between for part in first)
            root, r2, half_log_det = self._root(between)
            second = list(mapped(lambda part: self._sums(part, root), first))
        sums = PairSums(*(sum(parts) for parts in zip(*second, strict=True)))
        if self.residual_variance is None:
            of_y, free = self.degrees_of_freedom * np.log(r2), np.full(len(r2), self.degrees_of_freedom)
        else:
            of_y = free = r2 / self.residual_variance
        value = self._constant + of_y + log_det
        # r2 is a sum of terms as large as the squares of y, and each of them has its rounding.
        b = between.diagonal(axis1=1, axis2=2) + self._augmented.diagonal()
        of_terms = free * b[:, -1] / r2
        if self.reml:
            value = value + 2.0 * half_log_det
            # So is a pivot of B a sum of terms as large as the diagonal.
            of_terms += (b[:, :-1] * (root[:, :-1, :-1] ** 2).sum(axis=1)).sum(axis=1)
        of_variances, hg = self._variance_sums(sums)
        slope, hessian = derivatives(of_variances, hg, free, reml=self.reml, profiled=self.residual_variance is None)
        return Evaluation(value, slope, hessian, r2, root, of_variances, _ROUNDING * (np.abs(value) + of_terms))

    def _root(self, between: Floats) -> tuple[Floats, Floats, Floats]:
        """Return L^-1 for the Cholesky factor L of B, r2, and half of log det B_XX, for each of several G.

        r2 is the sum of squares residual + (beta - d)' W (beta - d) + (-beta, 1) (B - W) (-beta, 1)', in which an error of
        beta enters only by its square.
        """
        here, k = self.coordinates, self.rank
        b = self._augmented + between
        lower = _cholesky(b[:, :k, :k])
        root = np.zeros_like(b)
        root[:, :k, :k] = np.linalg.inv(lower)
        beta = (root[:, :k, :k].transpose(0, 2, 1) @ (root[:, :k, :k] @ b[:, :k, k:]))[..., 0]
        apart, contrast = beta - here.within_slopes, np.append(-beta, np.ones((len(beta), 1)), axis=1)
        of_groups = ((contrast[:, None, :] @ between)[:, 0] * contrast).sum(axis=1)
        r2 = here.within_residual + ((apart @ here.within) * apart).sum(axis=1) + np.maximum(of_groups, 0.0)
        r2 = np.maximum(r2, _LEAST_R2)
        root[:, k] = contrast / np.sqrt(r2)[:, None]
        return root, r2, np.log(lower.diagonal(axis1=1, axis2=2)).sum(axis=1)

    def _sums(self, part: GroupProducts, root: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return the sums over a block of groups that `PairSums` describes."""
        (a, b), q, k = self.pairs, self.n_random, self.rank
        n, width = len(root), self.rank + 1
        scaled = root[:, None] @ part.cross
        flat = scaled.reshape(n, q * width, -1)
        h = part.h
        fixed, last = scaled[:, :, :k], scaled[:, :, k]
        of_fixed = np.stack([(fixed[:, i] * fixed[:, j]).sum(axis=1) for i, j in zip(a, b, strict=True)], axis=1)
        of_y = last[:, a] * last[:, b]
        full = np.empty((n, q, q))
        full[:, a, b] = full[:, b, a] = h.sum(axis=2)
        return (
            full,
            (flat @ flat.transpose(0, 2, 1)).reshape(n, q, width, q, width),
            h @ h.transpose(0, 2, 1),
            h @ of_fixed.transpose(0, 2, 1),
            h @ of_y.transpose(0, 2, 1),
        )

    def _variance_sums(self, sums: PairSums) -> tuple[VarianceSums, Floats]:
        """Return sums over groups for all pairs, and sum_j tr(H_j E g_j g_j' E') for all pairs of pairs, over r2."""
        n, q, width = len(sums.h), self.n_random, self.rank + 1
        # For each pair, sum_j K_j' E K_j with g_j as the last column of K_j: C_E, v_E and rho_E.
        along = self.basis.reshape(-1, q * q) @ sums.k.transpose(0, 1, 3, 2, 4).reshape(n, q * q, -1)
        along = along.reshape(n, len(self.basis), width, width)
        hh, hn, hg = map(self.contracted, (sums.hh, sums.hn, sums.hg))
        return VarianceSums(sums.h, along, hh, 2.0 * hn), hg

    def triple_products(self, factor: Floats, root: Floats, basis: Floats) -> Floats:
        """Return sum_j K_j' E H_j E' K_j for all E and E' of a basis of symmetric matrices.

        Parameters
        ----------
        factor : ndarray of shape (q, r)
            A factor of G.
        root : ndarray of shape (1, k + 1, k + 1)
            The inverse root of B there.
        basis : ndarray of shape (n_entries, q, q)
            The matrices E.

        Returns
        -------
        products : ndarray of shape (n_entries, n_entries, k, k)
            The sums.
        """
        (a, b), q, k = self.pairs, self.n_random, self.rank
        sums = np.zeros((len(a), q * k, q * k))
        rows, step = self.coordinates.rows, max(1, BLOCK_NUMBERS // max(1, q * (k + 1)))
        for start in range(0, self.n_groups, step):
            part = group_products(rows, slice(start, start + step), factor[None])
            fixed = (root[0, :k] @ part.cross[0]).reshape(q * k, part.cross.shape[-1])
            for at, h in enumerate(part.h[0]):
                sums[at] += (fixed * h) @ fixed.T
        full = np.empty((q, q, q, k, q, k))
        full[a, b] = full[b, a] = sums.reshape(len(a), q, k, q, k)
        return np.asarray(np.einsum("pab,rcd,bcaidj->prij", basis, basis, full, optimize=True))

    def contracted(self, products: Floats) -> Floats:
        """Return sum_j tr(H_j E Phi_j E') for all pairs, from the sums over groups of products of entries at pairs."""
        n = len(products)
        return np.asarray(products.reshape(n, -1) @ contraction_of(self.n_random)).reshape(products.shape)


def _cholesky(matrices: Floats) -> Floats:
    """Return the lower Cholesky factors of matrices, which rounding may have left without one."""
    try:
        return np.asarray(np.linalg.cholesky(matrices), dtype=np.float64)
    except np.linalg.LinAlgError:
        factors = [unit_cholesky(matrix) for matrix in matrices]
        return np.stack([factor * length[:, None] for factor, length in factors])
