"""`FactorCriterion`: minus twice the (restricted) log-likelihood of a model of several grouping factors."""

from __future__ import annotations

from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsmr

from .._typing import Floats
from ..moments._remainder import KnownPart
from ..moments._scatter import Scatter
from ..moments._threads import one_thread, physical_memory
from ._core_elimination import MANY_ROWS, eliminate_core
from ._evaluation import CovarianceCriterion, Evaluation, VarianceSums, derivatives
from ._factor_coordinates import Factor, factor_coordinates
from ._factor_sums import FactorRows, FactorSums, factor_sums
from ._group_factors import RandomDesign
from ._jets import Jet
from ._linalg import inverse_of_lower, unit_cholesky
from ._mixed_equations import MixedEquations
from ._nested_elimination import eliminate_nested

# Up to this many random coefficients, all of them are solved for together, which costs less than to eliminate any first; the
# second number is for factors with several coefficients, whose elimination takes many small steps.
_FEW_COEFFICIENTS, _FEW_WITH_SLOPES = 200, 500
_LEAST_R2 = 1e-100
# The arrays of the size of the core that an evaluation needs at a time, the share of the memory that they may take, the
# largest core whatever the memory, and seconds for each cube of its size.
_CORE_MATRICES, _SHARE_OF_MEMORY, _LARGEST_CORE, _SECONDS = 7, 0.8, 40_000, 6e-11
# Rounding of a sum, relative to its terms.
_ROUNDING = 32 * np.finfo(np.float64).eps
# Squares, relative to those of y, that are rounding after an exact fit.
_EXACT = 1e-20
# If less than this share of a sum of squares is left, it is computed as a sum of squares rather than as a difference.
_CANCELLED = 1e-3
# The share of y squared that a regression on all effects leaves if it leaves nothing.
_NOTHING = 1e-20
_UNEVEN_SCALES = 1.0, 30.0
# Up to this many rows, a regression on all effects costs little, and starts there are tried. The most steps of one.
_FEW_ROWS, _MOST_STEPS = 1_000, 20_000
# Random effects whose standard deviation is so many times that of the residual leave as good as none.
_FAR = 1e6


class FactorCriterion(CovarianceCriterion):
    """Minus twice the profiled (restricted) log-likelihood of a model of several grouping factors.

    The model is y = X beta + sum_f Z_f b_f + e with b_f ~ N(0, I x Sigma_f) over the levels of factor f, and
    e ~ N(0, sigma2 W^-1). The criterion is a function of the G_f = Sigma_f / sigma2, the diagonal blocks of G. With
    V = W^-1 + sum_f Z_f (I x G_f) Z_f' and B = [X y]' V^-1 [X y], it is

        D (1 + log(2 pi r2 / D)) + log det V  [+ log det B_XX  for REML],    r2 = B_yy - B_yX B_XX^-1 B_Xy,

    with D = N - k for REML and N for ML, and all constants, as in lme4. The effects of factors each of which is nested in
    the next are integrated out level by level, and then those of the other factors together.

    Parameters
    ----------
    scatter : Scatter
        The record of the rows, whose groups are cells.
    design : RandomDesign
        The random coefficients of all factors.
    factors : tuple of Factor
        The factors.
    fit_intercept : bool, default=True
        Whether the model has a fixed intercept.
    n_predictors : int or None, default=None
        Number of leading columns of x that have fixed effects; None for all.
    reml : bool, default=True
        Whether the likelihood is the restricted one.
    precision_weights : bool, default=False
        Whether a weight divides the residual variance of its row. False means that a weight counts copies of its row.

    Attributes
    ----------
    n_observations : float
        N, the number of observations.
    degrees_of_freedom : float
        D: N - k for REML, N for maximum likelihood.
    coordinates : FactorCoordinates
        The columns in which the criterion is computed.
    sums : FactorSums
        The sums over levels.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), "Fitting linear mixed-effects models using lme4", Journal of
    Statistical Software 67(1), equations 34 and 41, for the criterion.
    """

    # Where random effects leave nothing of y, the search ends without a minimum; no limit as sigma2 goes to 0 is looked for.
    may_be_unbounded = True
    unbounded = False
    approximate = False

    def __init__(
        self,
        scatter: Scatter,
        design: RandomDesign,
        factors: tuple[Factor, ...],
        *,
        fit_intercept: bool = True,
        n_predictors: int | None = None,
        reml: bool = True,
        precision_weights: bool = False,
    ):
        moments = scatter.moments
        self.scatter, self.design, self.factors, self.reml = scatter, design, factors, reml
        self.residual_variance: float | None = None
        # The last covariance and the equations there, because the search ends where the effects are asked for.
        self._last: tuple[bytes, MixedEquations] | None = None
        self.n_observations = float(moments.n_rows.sum() if precision_weights else moments.counts.sum())
        self.coordinates = factor_coordinates(
            scatter,
            design,
            factors,
            fit_intercept=fit_intercept,
            n_predictors=moments.n_features if n_predictors is None else n_predictors,
        )
        self.degrees_of_freedom = self.n_observations - (self.rank if reml else 0)
        self._sum_log_weight = moments.sum_log_weight if precision_weights else 0.0
        self.sums = self.sums_of(self.coordinates.rows)
        self._check_size()

    def _check_size(self) -> None:
        """Raise if the equations of the core take more memory than there is, before it is spent."""
        n, memory = self.sums.n_core, physical_memory()
        needed = _CORE_MATRICES * 8.0 * n**2
        if needed <= _SHARE_OF_MEMORY * memory and n <= _LARGEST_CORE:
            return
        sizes = ", ".join(f"{factor.name} {factor.n_levels}" for factor in self.factors)
        which = f"The factors (levels: {sizes})"
        if self.sums.nested:
            largest = self.factors[self.sums.nested[0].factor].name
            which = f"Of the factors (levels: {sizes}) all but {largest}, and those in which it is nested,"
        raise ValueError(
            f"The equations of the random effects are too large to be solved directly. {which} have {n} effects together, "
            f"whose dense equations take about {needed / 2**30:.0f} GB (there are {memory / 2**30:.0f}) and about "
            f"{_SECONDS * n**3 / 60:.0f} minutes for each of some eight evaluations. Choose solver='iterative', which is "
            "approximate and states its error, or leave out a factor."
        )

    def sums_of(self, rows: FactorRows) -> FactorSums:
        """Return the sums of rows in the coordinates, with the factors to eliminate level by level."""
        widths = tuple(map(len, self.coordinates.factor_columns))
        few = _FEW_COEFFICIENTS if max(widths, default=1) <= 1 else _FEW_WITH_SLOPES
        together = sum(n * q for n, q in zip(rows.n_levels, widths, strict=True)) <= few
        return factor_sums(rows, () if together else rows.nested_chain(widths), self.blocks_of_factors)

    @property
    def blocks_of_factors(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For each factor its blocks of correlated coefficients, by their positions among those of the factor."""
        here = self.coordinates
        return tuple(
            tuple(tuple(columns.index(at) for at in block) for block in here.blocks if block[0] in columns)
            for columns in here.factor_columns
        )

    @property
    def n_groups(self) -> int:
        """The least number of levels of a factor, on which the search's starts depend; the most, if more would take long."""
        numbers = [factor.n_levels for factor in self.factors]
        return min(numbers) if self._n_coefficients <= _FEW_WITH_SLOPES else max(numbers)

    @property
    def uneven_scales(self) -> tuple[float, ...]:
        """Variances to start from beside one that is a hundred times as large."""
        return _UNEVEN_SCALES

    @property
    def _n_coefficients(self) -> int:
        """The number of random effects of all levels."""
        widths = map(len, self.coordinates.factor_columns)
        return sum(factor.n_levels * q for factor, q in zip(self.factors, widths, strict=True))

    @property
    def few_rows(self) -> bool:
        """Whether there are few rows, and no more than effects, so that these might leave no residual."""
        return self.n_observations <= min(self.rank + self._n_coefficients, _FEW_ROWS)

    def far_starts(self) -> list[Floats]:
        """Return factors of covariances, some blocks of which are so large that hardly any residual is left."""
        starts, blocks = [], self.coordinates.blocks
        for size in sorted({1, 2, len(blocks) - 1, len(blocks)} - {0}):
            for far in combinations(blocks, size):
                start = np.eye(self.n_random)
                for block in map(list, far):
                    start[block, block] = _FAR
                starts.append(start)
        return starts

    @cached_property
    def exact_fit(self) -> bool:
        """Whether the fixed effects alone determine y."""
        if self.coordinates.outcome_constant or self.n_observations <= self.rank:
            return True
        return bool(self.at_zero.r2[0] <= max(_EXACT, self.coordinates.noise))

    @cached_property
    def leaves_nothing(self) -> bool:
        """Whether fixed and random effects together determine y, so that no residual is left."""
        rows = self.coordinates.rows
        # What is orthogonal to the effects is as good as rows of its factor.
        values, vectors = np.linalg.eigh(rows.rest)
        apart = (vectors * np.sqrt(np.maximum(values, 0.0))).T
        xy = np.concatenate([rows.xy, apart])
        random = sparse.hstack([rows.design(at) for at in range(rows.n_factors)], format="csr")
        nothing = sparse.csr_array((len(apart), random.shape[1]))
        design = sparse.hstack([xy[:, :-1], sparse.vstack([random, nothing])], format="csr")
        left = lsmr(design, xy[:, -1], atol=0.0, btol=0.0, conlim=0.0, maxiter=min(10 * min(design.shape), _MOST_STEPS))[3]
        return bool(left**2 <= _NOTHING)

    def known_part(self) -> KnownPart | None:
        """Return the part of y to subtract in a second reading of the rows; None if the record has lost no digits of y."""
        slopes = self.coordinates.known_part()
        if slopes is None:
            return None
        return self.moments.known_part(slopes) if self.coordinates.fit_intercept else KnownPart(slopes, 0.0)

    def taken_for_bounded(self) -> FactorCriterion:
        """Return the same criterion, whose search does not stop if it falls fast where the residual is small."""
        bounded = copy(self)
        bounded.may_be_unbounded = False
        return bounded

    def crude_variances(self) -> Floats:
        """Return crude estimates of the diagonal of G by moments, all of them positive.

        The expected squares of Z_j' y, for the column Z_j of a coefficient in level j, are about sigma2 (S_j + S_j^2 G) with
        S_j = Z_j' Z_j, without the other factors.
        """
        rows = self.coordinates.rows
        variances = np.full(self.n_random, 0.1)
        largest = int(np.argmax(rows.n_levels))
        total = float(self.sums.xy[-1, -1])
        own = [rows.sums(at, np.column_stack([rows.xy[:, -1:], z])) for at, z in enumerate(rows.z)]
        residual = total
        if rows.z[largest].shape[1]:
            of_level = own[largest][:, 0]
            left = total - float((of_level[:, 0] ** 2 / np.where(of_level[:, 1] > 0, of_level[:, 1], np.inf)).sum())
            free = self.n_observations - self.rank - rows.n_levels[largest]
            residual = max(left, 0.0) / free if free > 0 else total / self.n_observations
        residual = residual or 1.0
        for columns, of_factor in zip(self.coordinates.factor_columns, own, strict=True):
            for i, at in enumerate(columns):
                products = of_factor[:, i, 1 + i]
                excess = float((of_factor[:, i, 0] ** 2).sum()) / residual - float(products.sum())
                variances[at] = np.clip(excess / max(float((products**2).sum()), 1e-300), 0.1, 1e20)
        return variances

    def value(self, factor: Floats) -> float:
        """Return the criterion at G = F F' for a factor F in the coordinates, of shape (q, r)."""
        return float(self.evaluate(np.asarray(factor)[None]).value[0])

    def evaluate(self, factors: Floats) -> Evaluation:
        """Return the criterion and its derivatives at G = F F' for several factors F in the coordinates.

        Parameters
        ----------
        factors : ndarray of shape (n, q, r)
            Factors of relative covariances, which are 0 between blocks.

        Returns
        -------
        evaluation : Evaluation
            The values and derivatives.
        """
        with one_thread() if self.sums.n_core < MANY_ROWS else nullcontext():
            found = [self._evaluated_if_finite(factor) for factor in factors]
        return found[0] if len(found) == 1 else Evaluation.joined(found)

    @cached_property
    def parameters(self) -> list[list[tuple[int, int, int]]]:
        """For each factor, the pairs of its random coefficients that are free: the pair, and the places of its entries."""
        number = {pair: at for at, pair in enumerate(zip(*map(np.ndarray.tolist, self.pairs), strict=True))}
        found = []
        for columns in self.coordinates.factor_columns:
            blocks = [block for block in self.coordinates.blocks if block[0] in columns]
            pairs = [(a, b) for block in blocks for i, a in enumerate(block) for b in block[i:]]
            found.append([(number[a, b], columns.index(a), columns.index(b)) for a, b in pairs])
        return found

    def factor_of(self, factor: Floats, at: int) -> Floats:
        """Return a factor of the relative covariance of one grouping factor, given one of all."""
        return np.asarray(factor[list(self.coordinates.factor_columns[at])])

    def eliminated(self, factor: Floats) -> tuple[Jet, Jet, MixedEquations]:
        """Return [X y]' V^-1 [X y] and log det V as jets in the pairs, and how to solve for the random effects."""
        parts = [self.factor_of(factor, at) for at in range(len(self.factors))]
        covariances = [part @ part.T for part in parts]
        chain = [step.factor for step in self.sums.nested]
        in_chain = [covariances[at] for at in chain]
        reduced, steps = eliminate_nested(self.sums, in_chain, [self.parameters[at] for at in chain])
        xy, log_det, core = reduced.xy, reduced.log_det, None
        if self.sums.core:
            of_core = [parts[at] for at in self.sums.core]
            xy, log_det, core = eliminate_core(self.sums, reduced, of_core, [self.parameters[at] for at in self.sums.core])
        rows, root = self.coordinates.rows, np.zeros((self.rank, self.rank))
        return xy, log_det, MixedEquations(rows, self.sums, reduced, steps, core, covariances, root)

    def equations(self, factor: Floats, root: Floats) -> MixedEquations:
        """Return the equations of the random effects at G = F F', given the inverse root of X' V^-1 X, of shape (k, k)."""
        factor = np.ascontiguousarray(factor, dtype=np.float64)
        if self._last is not None and self._last[0] == factor.tobytes():
            return replace(self._last[1], root=root)
        parts = [self.factor_of(factor, at) for at in range(len(self.factors))]
        return MixedEquations.at(self.coordinates.rows, self.sums, parts, root)

    def __getstate__(self) -> dict[str, Any]:
        # The equations are as large as the core squared, and can be made again.
        return {name: value for name, value in vars(self).items() if name not in ("_last", "at_zero")} | {"_last": None}

    def triple_products(self, factor: Floats, root: Floats, basis: Floats) -> Floats:
        """Return K' E H E' K for all E and E' of a basis of symmetric matrices, as `MixedCriterion.triple_products` does.

        Parameters
        ----------
        factor : ndarray of shape (q, r)
            A factor of G.
        root : ndarray of shape (1, k + 1, k + 1)
            The inverse root of B there.
        basis : ndarray of shape (n_entries, q, q)
            The matrices E, which are 0 between blocks.

        Returns
        -------
        products : ndarray of shape (n_entries, n_entries, k, k)
            The products.
        """
        k, columns = self.rank, self.coordinates.factor_columns
        equations = self.equations(factor, root[0, :k, :k])
        along = equations.gradients(root[0, :k].T)
        products = np.empty((len(basis), len(basis), k, k))
        directed = [[e[np.ix_(at, at)] @ part for at, part in zip(columns, along, strict=True)] for e in basis]
        for j, of_entry in enumerate(directed):
            beyond = equations.information_times(of_entry)
            for i, other in enumerate(directed):
                pairs = zip(other, beyond, strict=True)
                products[i, j] = sum((a.reshape(-1, k).T @ b.reshape(-1, k) for a, b in pairs), np.zeros((k, k)))
        return products

    def _evaluated_if_finite(self, factor: Floats) -> Evaluation:
        """Return the criterion at one relative covariance, infinite if rounding leaves equations that cannot be solved."""
        try:
            return self._evaluated(factor)
        except np.linalg.LinAlgError:
            n_pairs, k, q = len(self.pairs[0]), self.rank, self.n_random
            by_pair, twice = np.zeros((1, n_pairs, k + 1, k + 1)), np.zeros((1, n_pairs, n_pairs))
            sums = VarianceSums(np.zeros((1, q, q)), by_pair, twice, twice)
            infinite = np.array([np.inf])
            return Evaluation(infinite, sums.h, twice, np.ones(1), np.eye(k + 1)[None], sums, infinite)

    def _evaluated(self, factor: Floats) -> Evaluation:
        """Return the criterion and its derivatives at one relative covariance."""
        factor = np.asarray(factor, dtype=np.float64)
        xy, log_det, solver = self.eliminated(factor)
        self._last = factor.tobytes(), solver
        if (xy[()].diagonal() < _CANCELLED * self.sums.xy.diagonal()).any():
            xy[()], _ = solver.penalised_squares()
        (a, b), q, k = self.pairs, self.n_random, self.rank
        root, r2, half_log_det = inverse_root(xy[()])
        n_pairs, white = len(a), {key: root @ part @ root.T for key, part in xy.items() if key}
        h, along = np.zeros((q, q)), np.zeros((n_pairs, k + 1, k + 1))
        hh, hn, hg = (np.zeros((n_pairs, n_pairs)) for _ in range(3))
        for key, part in white.items():
            if len(key) == 1:
                (at,) = key
                along[at] = -part
                h[a[at], b[at]] = h[b[at], a[at]] = log_det[key] / (1.0 if a[at] == b[at] else 2.0)
            else:
                i, j = key
                hh[i, j] = hh[j, i] = -log_det[key]
                hn[i, j] = hn[j, i] = part[:k, :k].trace()
                hg[i, j] = hg[j, i] = part[k, k] / 2.0
        free = self.degrees_of_freedom if self.residual_variance is None else r2 / self.residual_variance
        of_y = free * np.log(r2) if self.residual_variance is None else free
        value = self._constant + of_y + log_det[()] + (2.0 * half_log_det if self.reml else 0.0)
        # r2 and the pivots of B are differences of sums of squares, each with its rounding.
        terms = np.abs(self.sums.xy.diagonal())
        of_terms = (
            solver.rounding + free * terms[-1] / r2 + self.reml * float(terms[:-1] @ (root[:-1, :-1] ** 2).sum(axis=0))
        )
        sums = VarianceSums(h[None], along[None], hh[None], hn[None])
        slope, hessian = derivatives(
            sums, hg[None], np.array([free]), reml=self.reml, profiled=self.residual_variance is None
        )
        noise = np.array([_ROUNDING * (abs(value) + of_terms)])
        return Evaluation(np.array([value]), slope, hessian, np.array([r2]), root[None], sums, noise)


def inverse_root(b: Floats) -> tuple[Floats, float, float]:
    """Return L^-1 for the Cholesky factor L of B, r2, and half of log det B_XX."""
    k = len(b) - 1
    lower, length = unit_cholesky(b[:k, :k])
    lower = lower * length[:, None]
    root = np.zeros_like(b)
    root[:k, :k] = inverse_of_lower(lower) if k else lower
    half = root[:k, :k] @ b[:k, k]
    r2 = max(float(b[k, k] - half @ half), _LEAST_R2)
    root[k] = np.append(-(root[:k, :k].T @ half), 1.0) / np.sqrt(r2)
    return root, r2, float(np.log(lower.diagonal()).sum())
