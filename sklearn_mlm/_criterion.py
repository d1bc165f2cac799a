"""`Criterion`: minus twice the (restricted) log-likelihood as a function of the variance ratio alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from ._linalg import (
    DEPENDENT,
    SMALL_REST,
    SPACING,
    dots,
    independent_columns,
    separate_between_columns,
    solve_positive,
    unit_cholesky,
    zero_columns,
)
from ._moments import GroupedMoments, rounding_scatter
from ._scatter import weighted_scatter
from ._size_nodes import at_nodes, nodes_for, stretch_of
from ._solution import Profiles, Solution, State, reliabilities_of

# Scatter of the group means that an exact fit could leave, relative to that of y: means are not squares.
_EXACT_BETWEEN = 1e-20
_TINY = np.finfo(np.float64).tiny
_MOST_DIGITS = 16.0
# Scatter matrices of the distinct group sizes are kept up to this many numbers (128 MB), and rows are summed beyond it.
_MAX_SCATTER_NUMBERS = 1 << 24
# Groups of which the sizes are looked at first, of more groups.
_SAMPLE = 1 << 12
# Numbers that the matrices of one vectorised evaluation may hold.
_BATCH_NUMBERS = 1 << 21


class Criterion:
    """Minus twice the profiled (restricted) log-likelihood of moments, a function of gamma = tau2 / sigma2.

    With t_j = (1, mean of x, mean of y) of group j, h_j = n_j / (1 + gamma n_j), and

        B(gamma) = [0 0; 0 W] + sum_j h_j t_j t_j'  =  sigma2 [X y]' V^-1 [X y],

    beta = B_XX^-1 B_Xy, r2 = B_yy - B_yX beta, and D = N - k for REML, N for ML, the criterion is

        D (1 + log(2 pi r2 / D)) + sum_j log(1 + gamma n_j) - sum log w  [+ log det B_XX  for REML],

    all constants included, as lme4's "REML criterion at convergence" and deviance. The object does not change: its
    methods depend on their argument alone.

    Parameters
    ----------
    moments : GroupedMoments
    fit_intercept : bool, default=True
    reml : bool, default=True
        The restricted likelihood; False for the full one.
    precision_weights : bool, default=False
        Weights divide the residual variance of their row (N counts rows and log w enters) instead of counting copies of
        it (N is the total weight).

    Attributes
    ----------
    n_observations : float
        N.
    rank : int
        k, the number of independent fixed effects, with the intercept.
    within_rank : int
        The number of fixed effects that differ within groups.
    dropped : ndarray of int
        Features that depend on those before them.
    outcome_constant, exact_fit, within_residual_zero : bool
        y is constant; the fixed effects leave nothing of y but rounding; they leave nothing else of y within groups.
    within_residual : float
        r2 of W alone, in units of the scaled y squared.

    Notes
    -----
    Columns are centred at the grand mean and scaled to unit length; y is replaced by what a crude fit leaves of it, so
    that no digits of the criterion go into what the fixed effects explain. Columns that vary only between groups once others
    are given are rotated to have an exact zero within part, so that B stays well conditioned as gamma grows.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), "Fitting linear mixed-effects models using lme4", Journal of
    Statistical Software 67(1), equations 34 and 41, for the criterion.
    """

    def __init__(
        self,
        moments: GroupedMoments,
        *,
        fit_intercept: bool = True,
        reml: bool = True,
        precision_weights: bool = False,
    ):
        self.moments = moments
        self.fit_intercept = fit_intercept
        self.reml = reml
        self.n_observations = float(moments.n_rows.sum() if precision_weights else moments.counts.sum())
        self._sum_log_weight = moments.sum_log_weight if precision_weights else 0.0
        self._rest, self._known_slopes = moments.about_slopes()
        self._set_columns()
        self.degrees_of_freedom = self.n_observations - (self.rank if reml else 0)
        self._set_groups()

    # ---- the columns: centred, scaled, independent, within and between apart

    def _set_columns(self) -> None:
        """Set the within scatter in well-conditioned coordinates, and the affine map to them from the columns given.

        A row t_j = (1, mean of x, mean of y) less the origin, times the map, is the row in these coordinates. If the moments
        have a remainder, y is that remainder throughout, and its slopes are added to the coefficients in the end.
        """
        moments = self._rest
        leading = int(self.fit_intercept)
        total_weight = moments.counts.sum()
        means = moments.deviations if self.fit_intercept else moments.means
        grand = moments.counts @ means / total_weight if self.fit_intercept else np.zeros(means.shape[1])
        self._offset = grand if self.fit_intercept else -moments.center
        self._origin = moments.center + self._offset

        width = len(grand) + leading
        within, total = np.zeros((width, width)), np.zeros((width, width))
        within[leading:, leading:] = moments.within
        total[leading:, leading:] = moments.within + weighted_scatter(means, moments.counts, grand)
        # What the values' own rounding could have left of a column that is in truth constant in each group, or at all.
        noise = rounding_scatter(total_weight, self._origin, total.diagonal()[leading:])
        if self.moments.remainder is not None:
            noise[-1] = self.moments.remainder.noise
        within_noise = np.append(np.zeros(leading), noise)
        zero_columns(within, within.diagonal() <= within_noise)
        zero_columns(total, total.diagonal() <= within_noise)
        if leading:
            total[0, 0] = total_weight

        scale = np.sqrt(np.where(total.diagonal() > 0, total.diagonal(), 1.0))
        within, total = within / np.outer(scale, scale), total / np.outer(scale, scale)
        self._y_scale = float(scale[-1])
        nothing_left = bool(total[-1, -1] == 0.0)
        self.outcome_constant = nothing_left and self.moments.remainder is None
        kept = independent_columns(total[:-1, :-1])
        kept = self._no_more_than_groups(kept, within, means, grand, scale)
        self._kept = kept
        self.rank = len(kept)
        self.dropped = np.delete(np.arange(width - 1), kept) - leading
        self._log_scale = float(np.log(scale[kept]).sum())

        # To the columns kept, rotated, and y less a fit: the last column takes off what the others explain of y.
        change = np.zeros((width, len(kept) + 1))
        change[kept, :-1], self._is_within = separate_between_columns(within[np.ix_(kept, kept)])
        change[-1, -1] = 1.0
        self.within_rank = int(self._is_within.sum())
        slopes = self._set_within_fit(change.T @ within @ change)
        self._between_total = max(total[-1, -1] - within[-1, -1], 0.0)
        crude = np.zeros(self.rank) if nothing_left else self._crude_slopes(change, scale, means, grand, within)
        self._within_slopes = np.where(self._is_within, slopes - crude, 0.0)
        # The sums that y is made of may be larger than y.
        explained = float(slopes**2 @ self._within.diagonal())
        self._within_terms = max(float(within[-1, -1]), explained)
        change[:, -1] -= change[:, :-1] @ crude
        self._map = change / scale[:, None]
        if nothing_left:
            self._map[:, -1] = 0.0

    def _no_more_than_groups(
        self, kept: np.ndarray, within: np.ndarray, means: np.ndarray, grand: np.ndarray, scale: np.ndarray
    ) -> np.ndarray:
        """Return the columns kept, less those that vary between groups only and depend on others there.

        Between J groups no more than J columns are independent. Their scalar products, which are squares, may fail to tell;
        the means themselves do not.
        """
        if len(kept) <= len(means):
            return kept
        rotation, is_within = separate_between_columns(within[np.ix_(kept, kept)])
        outside = np.flatnonzero(~is_within)
        if len(outside) <= len(means):
            return kept
        leading = int(self.fit_intercept)
        rows = np.ones((len(means), len(scale)))
        rows[:, leading:] = means - grand
        rows = np.sqrt(self.moments.counts)[:, None] * ((rows / scale)[:, kept] @ rotation)[:, outside]
        independent: list[int] = []
        basis = np.zeros((len(means), 0))
        for at in range(len(outside)):
            left = rows[:, at] - basis @ (basis.T @ rows[:, at])
            left -= basis @ (basis.T @ left)
            length = np.linalg.norm(left)
            if len(independent) < len(means) and length > np.sqrt(DEPENDENT) * np.linalg.norm(rows[:, at]):
                independent.append(at)
                basis = np.column_stack([basis, left / length])
        return np.delete(kept, np.delete(outside, independent))

    def _set_within_fit(self, within: np.ndarray) -> np.ndarray:
        """Set the scatter of x within groups and the residual of y there, and return the slopes of y on x within groups.

        All of it in scaled, rotated columns, and so is `within`, the scatter of (x, y).
        """
        self._within = within[:-1, :-1].copy()
        zero_columns(self._within, ~self._is_within)
        inside = np.flatnonzero(self._is_within)
        slopes = np.zeros(self.rank)
        slopes[inside] = solve_positive(within[np.ix_(inside, inside)], within[inside, -1])
        self.within_residual = max(float(within[-1, -1] - within[-1, :-1] @ slopes), 0.0)
        # Relative to the variation of y within groups, or to all of it where y is constant in each group.
        self.within_residual_zero = bool(self.within_residual <= max(DEPENDENT * (within[-1, -1] or 1.0), self._noise()))
        if self.within_residual_zero:
            self.within_residual = 0.0
        return slopes

    def _noise(self) -> float:
        """Return what rounding of the rows could leave of a remainder without residual, in units of the scaled y squared."""
        return 0.0 if self.moments.remainder is None else self.moments.remainder.noise / self._y_scale**2

    def _crude_slopes(
        self, change: np.ndarray, scale: np.ndarray, means: np.ndarray, grand: np.ndarray, within: np.ndarray
    ) -> np.ndarray:
        """Return the fixed effects at the variance ratio of y alone, by moments, in scaled, rotated columns.

        What is left of y after them is of the size of the residuals at the optimum, within groups and between, so that
        the criterion keeps its digits even where groups differ a billion times more than the rows in them.
        """
        counts, leading = self.moments.counts, int(self.fit_intercept)
        within_variance = within[-1, -1] / max(self.n_observations - len(counts), 1.0)
        between_variance = self._between_total / counts.sum()
        ratio = between_variance / within_variance if within_variance > 0 else 1e6 / counts.min()
        h = counts / (1.0 + ratio * counts)
        between = np.zeros((len(scale), len(scale)))
        between[leading:, leading:] = weighted_scatter(means, h, grand)
        if leading:
            between[0, 0] = h.sum()
            between[0, 1:] = between[1:, 0] = h @ means - h.sum() * grand
        between = change.T @ (between / np.outer(scale, scale)) @ change
        both = self._within + between[:-1, :-1]
        return solve_positive(both, change[:, :-1].T @ within[:, -1] + between[:-1, -1])

    # ---- the groups: one term for all groups of a size

    def _set_groups(self) -> None:
        """Set the groups' rows in order of their size, the distinct sizes, how many have each, and their summed t_j t_j'.

        Where sizes are many times as many as the nodes of an interpolation in log n, the nodes take the place of the sizes:
        every sum over groups is of a function of n that is analytic in log n, h(gamma, n)^p or log(1 + gamma n), so that

            sum_j f(n_j) a_j = sum_m f(n_m) sum_j l_m(log n_j) a_j

        to rounding, l_m the Lagrange polynomials. Sums over nodes have the same form as those over sizes; their
        multiplicities sum_j l_m(log n_j) are no whole numbers, and may be negative.
        """
        moments = self._rest
        leading = int(self.fit_intercept)
        if moments.n_rows.sum() - moments.n_groups <= self.within_rank:
            # As many columns as deviations from group means: what rounding leaves of y is no residual.
            self.within_residual, self.within_residual_zero = 0.0, True
        counts, width = moments.counts, self._map.shape[1]
        room = max(_MAX_SCATTER_NUMBERS, moments.n_groups * width) // width**2
        nodes = None
        if len(counts) > _SAMPLE:
            # The sizes of some groups, with the least and the largest, may be so many that the rest need not be sorted.
            some = np.append(counts[:_SAMPLE], [counts.min(), counts.max()])
            nodes = nodes_for(_distinct(some)[0], room)
        if nodes is None:
            sizes, multiplicity = _distinct(counts)
            nodes = nodes_for(sizes, room)
        # Many sizes, as of real weights, are in the order of the nodes that stand for them.
        code = _code_of(counts, sizes) if nodes is None else stretch_of(counts, nodes)
        self._order = np.argsort(code, kind="stable")
        self._rows = moments.deviations[self._order] @ self._map[leading:]
        self._rows += self._map[:leading].sum(axis=0) - self._offset @ self._map[leading:]
        self._size_scatter: np.ndarray | None = None
        if nodes is not None:
            self._sizes, self._multiplicity, self._size_scatter = at_nodes(self._rows, counts[self._order], nodes)
            return
        if len(sizes) * width**2 > _MAX_SCATTER_NUMBERS:
            self._sizes, self._multiplicity = counts[self._order], np.ones(moments.n_groups)
            return
        self._sizes, self._multiplicity = sizes, multiplicity
        ends = np.cumsum(self._multiplicity).astype(int).tolist()
        scatter = np.empty((len(self._sizes), width, width))
        for of_size, start, stop in zip(scatter, [0, *ends], ends, strict=False):
            rows = self._rows[start:stop]
            np.matmul(rows.T, rows, out=of_size)
        self._size_scatter = scatter.reshape(len(scatter), -1)

    def _between(self, coefficients: np.ndarray) -> np.ndarray:
        """Return sum_j c_j t_j t_j' for coefficients of the sizes, of shape (n_ratios, n_sizes), one matrix a ratio."""
        width = self._rows.shape[1]
        if self._size_scatter is not None:
            return (coefficients @ self._size_scatter).reshape(-1, width, width)
        return np.stack([(self._rows * c[:, None]).T @ self._rows for c in coefficients])

    # ---- the function and its derivatives

    def value(self, ratio: float) -> float:
        """Return the criterion at a variance ratio in [0, inf)."""
        return float(self.evaluate(ratio)[0][0])

    def gradient(self, ratio: float) -> float:
        """Return the derivative of the criterion by the variance ratio."""
        return float(self.evaluate(ratio)[1][0])

    def hessian(self, ratio: float) -> float:
        """Return the second derivative of the criterion by the variance ratio."""
        return float(self.evaluate(ratio)[2][0])

    def determinant_slope(self, ratio: float) -> float:
        """Return sum_j h_j, the derivative of the log determinant of V / sigma2: the first term of the criterion's."""
        return float(self._sizes / (1.0 + ratio * self._sizes) @ self._multiplicity)

    def evaluate(self, ratios: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the criterion and its first two derivatives at each of several variance ratios.

        With e_j the residual mean and v = sum h_j^2 e_j x_j, C = sum h_j^2 x_j x_j', E = sum h_j^3 x_j x_j',

            r2'  = -sum h_j^2 e_j^2,            r2'' = 2 (sum h_j^3 e_j^2 - v' B_XX^-1 v),
            f'   = D r2' / r2 + sum h_j - tr(B_XX^-1 C),
            f''  = D (r2'' / r2 - (r2' / r2)^2) - sum h_j^2 + 2 tr(B_XX^-1 E) - tr(B_XX^-1 C B_XX^-1 C),

        the traces for REML only.

        Parameters
        ----------
        ratios : float or array-like of shape (n_ratios,)

        Returns
        -------
        value, gradient, hessian : ndarray of shape (n_ratios,)
        """
        ratios = np.atleast_1d(np.asarray(ratios, dtype=np.float64))
        batch = max(1, _BATCH_NUMBERS // self._rows.shape[1] ** 2)
        parts = [self._evaluate(ratios[i : i + batch]) for i in range(0, len(ratios), batch)]
        value, gradient, hessian = (
            parts[0] if len(parts) == 1 else (np.concatenate(column) for column in zip(*parts, strict=True))
        )
        return value, gradient, hessian

    def _evaluate(self, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `evaluate` of as many ratios as fit into memory at once."""
        n_ratios = len(ratios)
        growth = ratios[:, None] * self._sizes
        h = self._sizes / (1.0 + growth)
        h2 = h * h
        sums = self._between(np.concatenate([h, h2, h2 * h]))
        second, third = sums[n_ratios : 2 * n_ratios], sums[2 * n_ratios :]
        root, half_log_det, beta, r2 = self._profile(sums[:n_ratios])
        contrast = _contrast(beta)
        second_e = second @ contrast
        v = root @ second_e[:, :-1]
        r2_1 = -dots(contrast, second_e)
        r2_2 = 2.0 * (dots(contrast, third @ contrast) - dots(v, v))
        free = self.degrees_of_freedom
        value = self._value(r2, np.log1p(growth) @ self._multiplicity, half_log_det)
        gradient = free * r2_1 / r2 + h @ self._multiplicity
        hessian = free * (r2_2 / r2 - (r2_1 / r2) ** 2) - h2 @ self._multiplicity
        if self.reml:
            c = root @ second[:, :-1, :-1] @ root.transpose(0, 2, 1)
            gradient -= np.trace(c, axis1=1, axis2=2)
            hessian += 2.0 * dots(root @ third[:, :-1, :-1], root) - dots(c, c)
        return value, gradient, hessian

    def state(self, ratio: float) -> State:
        """Return the sums that inference is made of at a variance ratio in [0, inf), where the data leave a residual.

        Parameters
        ----------
        ratio : float
        """
        h = self._sizes / (1.0 + ratio * self._sizes)
        first, second, third = self._between(np.stack([h, h * h, h * h * h]))
        root, _, beta, r2 = (part[0] for part in self._profile(first[None]))
        contrast = np.append(-beta, 1.0)
        second_e = second @ contrast
        rest, intercept = self._fixed_effects(beta)
        coefficients = self._known_slopes + rest
        return State(
            ratio=float(ratio),
            reml=self.reml,
            n_observations=self.n_observations,
            degrees_of_freedom=self.degrees_of_freedom,
            between_degrees_of_freedom=self.between_degrees_of_freedom,
            rank=self.rank,
            dropped=self.dropped,
            r2=float(r2),
            slope=-float(contrast @ second_e),
            residual_cubed=float(contrast @ third @ contrast),
            b_xx=self._within + first[:-1, :-1],
            inverse=root.T @ root,
            x_squared=second[:-1, :-1],
            x_cubed=third[:-1, :-1],
            x_residual=second_e[:-1],
            h_sum=float(h @ self._multiplicity),
            h_squared=float(h * h @ self._multiplicity),
            coefficients=np.append(intercept, coefficients) if self.fit_intercept else coefficients,
            to_centered=self._to_columns(at_origin=False),
            to_columns=self._to_columns(),
            y_scale=self._y_scale,
        )

    def profiles(self, ratios: np.ndarray) -> Profiles:
        """Return what profile limits are made of at several variance ratios in [0, inf).

        Parameters
        ----------
        ratios : ndarray of shape (n_ratios,)
        """
        batch = max(1, _BATCH_NUMBERS // self._rows.shape[1] ** 2)
        to_columns = self._to_columns()
        values, sums, coefficients, variances = [], [], [], []
        for at in (ratios[i : i + batch] for i in range(0, len(ratios), batch)):
            growth = at[:, None] * self._sizes
            root, half_log_det, beta, r2 = self._profile(self._between(self._sizes / (1.0 + growth)))
            values.append(self._value(r2, np.log1p(growth) @ self._multiplicity, half_log_det))
            sums.append(r2)
            for slopes, intercept in map(self._fixed_effects, beta):
                slopes = self._known_slopes + slopes
                coefficients.append(np.append(intercept, slopes) if self.fit_intercept else slopes)
            variances.append(((root @ to_columns.T) ** 2).sum(axis=1))
        return Profiles(np.concatenate(values), np.concatenate(sums), np.array(coefficients), np.concatenate(variances))

    def _value(self, r2: Any, log_determinant: Any, half_log_det: Any) -> Any:
        """Return the criterion from r2 and log det B_XX in the scaled columns, and the log determinant of V / sigma2."""
        free = self.degrees_of_freedom
        value = free * (1.0 + np.log(2.0 * np.pi * r2 / free) + 2.0 * np.log(self._y_scale)) + log_determinant
        value = value - self._sum_log_weight
        return value + 2.0 * (half_log_det + self._log_scale) if self.reml else value

    def _profile(self, between: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return L^-1 for B_XX = L L', half its log determinant, beta and r2, one of each for every between scatter.

        With d the slopes within groups, r2 is the sum of squares

            r2(inf) + (beta - d)' W_XX (beta - d) + sum_j h_j e_j^2,

        in which errors of beta count by their square only.
        """
        b_xx = self._within + between[:, :-1, :-1]
        b_xy = self._within @ self._within_slopes + between[:, :-1, -1]
        # Once more to unit length, since between columns shrink as the ratio grows.
        factor, length = unit_cholesky(b_xx)
        half_log_det = np.log(np.diagonal(factor, axis1=1, axis2=2) * length).sum(axis=1)
        root = np.linalg.solve(factor, np.eye(self.rank) / length[:, None, :])
        beta = ((root @ b_xy[:, :, None]).transpose(0, 2, 1) @ root)[:, 0, :]
        from_within = beta - self._within_slopes
        contrast = _contrast(beta)
        of_means = np.maximum(dots(contrast, between @ contrast), 0.0)
        r2 = self.within_residual + dots(from_within @ self._within, from_within) + of_means
        return root, half_log_det, beta, np.maximum(r2, _TINY)

    @cached_property
    def exact_fit(self) -> bool:
        """Whether the fixed effects leave nothing of y but rounding."""
        if self.outcome_constant or self.n_observations <= self.rank:
            return True
        if not self.within_residual_zero:
            return False
        between = self._between(self._sizes[None, :])
        contrast = _contrast(self._profile(between)[2])
        left = float(dots(contrast, between @ contrast)[0])
        return left <= max(_EXACT_BETWEEN * (self._between_total or 1.0), self._noise())

    @property
    def digits(self) -> float:
        """About how many digits the moments hold of the residual within groups, at most those of a double."""
        lost = float(SPACING * self._within_terms)
        if self.moments.remainder is not None:
            lost = max(lost, self.moments.remainder.lost / self._y_scale**2)
        if lost == 0.0 or self.within_degrees_of_freedom <= 0:
            return _MOST_DIGITS
        return 0.0 - float(np.log10(lost / max(self.within_residual, lost)))

    def slopes_to_read_about(self) -> np.ndarray | None:
        """Return slopes that leave so little of y that y's own moments have lost digits of it; None if they have lost few.

        They are those within groups, and a first guess for the columns that vary between groups only.
        """
        if not self.moments.n_features:
            return None
        means_left = self._rows[:, -1] ** 2 @ self.moments.counts[self._order]
        within = self.within_degrees_of_freedom > 0 and self.within_residual < SMALL_REST * self._within_terms
        if not self.outcome_constant and (within or means_left < SMALL_REST * self._between_total):
            return self._known_slopes + self._fixed_effects(self._within_slopes)[0]
        return None

    # ---- the ends of the scale

    @property
    def within_degrees_of_freedom(self) -> float:
        """N - J - rank of X within groups: what the data say of sigma2 apart from the group means."""
        return self.n_observations - self.moments.n_groups - self.within_rank

    @property
    def between_degrees_of_freedom(self) -> int:
        """J less the fixed effects that vary between groups only: what the data say of tau2."""
        return self.moments.n_groups - (self.rank - self.within_rank)

    @property
    def limit_degrees_of_freedom(self) -> float:
        """By how much the power of r2 in the likelihood exceeds that of gamma as gamma grows; 0 to rounding is 0.

        Where r2 is c / gamma there, the criterion falls without bound if this is positive, tends to a limit if it is 0, and
        grows without bound if it is negative, as it may be with weights below 1.
        """
        free = self.between_degrees_of_freedom if self.reml else self.moments.n_groups
        excess = self.degrees_of_freedom - free
        return 0.0 if abs(excess) <= 1e-9 * self.n_observations else excess

    @property
    def least_within(self) -> float:
        """The least share of a combination of columns that lies within groups, of those that vary there; at most 1."""
        inside = np.flatnonzero(self._is_within)
        shares = np.linalg.eigvalsh(self._within[np.ix_(inside, inside)])
        return float(np.clip(shares.min(initial=1.0), DEPENDENT, 1.0))

    @property
    def between_residual(self) -> float:
        """At least sum_j e_j^2 in the limit of large gamma, where r2(gamma) - r2(inf) is that over gamma."""
        contrast = np.append(-self._within_slopes, 1.0)
        return float(contrast @ self._between(np.ones((1, len(self._sizes))))[0] @ contrast)

    @property
    def y_scale(self) -> float:
        """The unit of y in the criterion, that of `within_residual` and of a `State`."""
        return self._y_scale

    @property
    def sizes(self) -> np.ndarray:
        """The distinct group sizes n_j, or the nodes that stand for them, of which the ends are sizes."""
        return self._sizes

    def size_scatter(self, n_sizes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the sizes of the groups of one size, one for each group, and their summed x_j x_j'; ascending.

        Parameters
        ----------
        n_sizes : int
            Of more distinct sizes, those that lie in one of so many intervals of equal width in log n are taken together.
        """
        counts = self.moments.counts[self._order]
        distinct = np.unique(counts)
        if len(distinct) > n_sizes:
            distinct = np.geomspace(distinct[0], distinct[-1], n_sizes + 1)[:-1]
        code = np.searchsorted(distinct, counts, side="right")
        order = np.argsort(code, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
            x = self._rows[members, :-1]
            yield counts[members], x.T @ x

    # ---- solutions

    def solution(self, ratio: float) -> Solution:
        """Return the model at a variance ratio in [0, inf]; infinity is the exact limit sigma2 = 0."""
        if np.isinf(ratio):
            return self._limit()
        between = self._between((self._sizes / (1.0 + ratio * self._sizes))[None, :])
        root, half_log_det, beta, _ = (part[0] for part in self._profile(between))
        residuals = self._rows[:, -1] - self._rows[:, :-1] @ beta
        if self.exact_fit:
            return self._solution(ratio, beta, residuals, np.zeros_like(root), 0.0, 0.0, -np.inf)
        # As in the profile, but group by group: the sums by size lose what a near fit of the means leaves.
        counts = self.moments.counts[self._order]
        from_within = beta - self._within_slopes
        r2 = self.within_residual + from_within @ self._within @ from_within + counts / (1.0 + ratio * counts) @ residuals**2
        sigma2 = float(r2) / self.degrees_of_freedom
        log_determinant = np.log1p(ratio * self._sizes) @ self._multiplicity
        value = float(self._value(r2, log_determinant, half_log_det))
        return self._solution(ratio, beta, residuals, sigma2 * root.T @ root, ratio * sigma2, sigma2, value)

    def _limit(self) -> Solution:
        """Return the model with sigma2 = 0: within groups x determines y, and group means carry all that is random.

        The coefficients that W identifies come from W, the others from least squares on the group means given those. The
        criterion falls without bound where the within part has degrees of freedom to spare, and else tends to

            D (1 + log(2 pi c / D)) + sum log n_j [+ log det W_XX + log det sum_j x_j x_j', each over its own columns],

        c the residual sum of squares of the group means.
        """
        outside = np.flatnonzero(~self._is_within)
        beta = self._within_slopes.copy()
        target = self._rows[:, -1] - self._rows[:, :-1] @ beta
        orthonormal, factor = np.linalg.qr(self._rows[:, outside])
        beta[outside] = solve_triangular(factor, orthonormal.T @ target)
        target -= self._rows[:, outside] @ beta[outside]
        residual = float(target @ target)
        free = self.between_degrees_of_freedom if self.reml else self.moments.n_groups
        tau2 = residual / free if free else 0.0
        covariance = np.zeros((self.rank, self.rank))
        inverse = solve_triangular(factor, np.eye(len(outside)))
        covariance[np.ix_(outside, outside)] = tau2 * inverse @ inverse.T
        value = -np.inf
        if self.limit_degrees_of_freedom == 0 and residual:
            inside = np.flatnonzero(self._is_within)
            half_log_det = 0.5 * np.linalg.slogdet(self._within[np.ix_(inside, inside)])[1]
            half_log_det += np.log(np.abs(factor.diagonal())).sum()
            value = float(self._value(residual, np.log(self.moments.counts).sum(), half_log_det))
        return self._solution(np.inf, beta, target, covariance, tau2, 0.0, value)

    def _solution(
        self,
        ratio: float,
        beta: np.ndarray,
        residuals: np.ndarray,
        covariance: np.ndarray,
        tau2: float,
        sigma2: float,
        value: float,
    ) -> Solution:
        """Return the record of a solution given in rotated, scaled columns and groups by size, in those of the data."""
        centered, covariance = self._in_columns(covariance)
        rest, intercept = self._fixed_effects(beta)
        residual_means = np.empty(self.moments.n_groups)
        residual_means[self._order] = self._y_scale * residuals
        return Solution(
            ratio=float(ratio),
            group_variance=float(tau2) * self._y_scale**2,
            residual_variance=float(sigma2) * self._y_scale**2,
            coefficients=self._known_slopes + rest,
            rest_coefficients=rest,
            intercept=intercept,
            covariance=covariance,
            center=self._origin[:-1],
            centered_covariance=centered,
            residual_means=residual_means,
            reliabilities=reliabilities_of(ratio, self.moments.counts),
            value=value,
        )

    def _fixed_effects(self, beta: np.ndarray) -> tuple[np.ndarray, float]:
        """Return slopes, less those of the remainder, and intercept (0 without one) of the data's columns."""
        leading = int(self.fit_intercept)
        # The map's last column is y less its fit, over the scale of y.
        full = self._y_scale * (self._map[:-1, :-1] @ beta - self._map[:-1, -1])
        slopes = full[leading:]
        intercept = float(self._origin[-1] + full[0] - self._origin[:-1] @ slopes) if leading else 0.0
        return slopes, intercept

    def _to_columns(self, at_origin: bool = True) -> np.ndarray:
        """Return the map of changes of coefficients to the data's columns, the intercept at 0 or else at the centre."""
        to_columns = self._map[:-1, :-1] * self._y_scale
        if at_origin and self.fit_intercept:
            to_columns[0] -= self._origin[:-1] @ to_columns[1:]
        return to_columns

    def _in_columns(self, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a covariance given in rotated, scaled columns in those of the data: intercept at the centre, and at 0."""
        to_columns = self._to_columns(at_origin=False)
        centered = to_columns @ covariance @ to_columns.T
        centered = (centered + centered.T) / 2
        shift = np.eye(len(centered))
        if self.fit_intercept:
            shift[0, 1:] = -self._origin[:-1]
        return centered, shift @ centered @ shift.T


def _contrast(beta: np.ndarray) -> np.ndarray:
    """Return (-beta, 1), the combination of (x, y) that is the residual, as a column for each beta."""
    return np.concatenate([-beta, np.ones((len(beta), 1))], axis=1)[:, :, None]


def _distinct(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct group sizes in ascending order, and how many groups have each.

    Whole numbers are counted in a table; weights that are not whole are sorted.
    """
    if _has_table(counts, len(counts)):
        frequency = np.bincount(counts.astype(np.int64))
        sizes = np.flatnonzero(frequency)
        return sizes.astype(np.float64), frequency[sizes].astype(np.float64)
    ascending = np.sort(counts)
    starts = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
    return ascending[starts], np.diff(starts, append=len(counts)).astype(np.float64)


def _code_of(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the position of each group's size among the distinct ones."""
    # Of 16 bits, which NumPy sorts by radix.
    type_ = np.uint16 if len(sizes) < 1 << 16 else np.intp
    if _has_table(sizes, len(counts)):
        table = np.zeros(int(sizes[-1]) + 1, dtype=type_)
        table[sizes.astype(np.int64)] = np.arange(len(sizes))
        return table[counts.astype(np.int64)]
    return np.searchsorted(sizes, counts).astype(type_)


def _has_table(sizes: np.ndarray, n_groups: int) -> bool:
    """Return whether sizes are whole numbers, and so small that a table of them is no larger than the groups."""
    return bool(sizes.max() <= max(2 * n_groups, 1 << 12)) and np.array_equal(sizes.astype(np.int64), sizes)
