"""Cluster-robust covariances of least squares, and their degrees of freedom: arithmetic on one small matrix a group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ._criterion import Solution
from ._linalg import unit_cholesky
from ._moments import GroupedMoments, weighted_scatter
from ._rows import Rows, block_rows, blocks_of_equal_groups

# Eigenvalues at most this large are those of a combination of coefficients that rests on one group alone; they are left
# out, as clubSandwich does.
_ALONE = 1e-12
# Directions of this share of the largest are not there: rounding of moments, which are squares.
_NEGLIGIBLE = 1e-13
# A coefficient's share of such a combination, above which it is spoken of.
_NOTICEABLE = 1e-6
# Rows that a matrix product needs to be worth its call.
_LEAST_PIECE = 1024
# Numbers that the groups' matrices of one block may hold.
_BLOCK_NUMBERS = 1 << 20


def cluster_robust(
    X: Any,
    y: np.ndarray,
    codes: np.ndarray,
    weights: np.ndarray | None,
    moments: GroupedMoments,
    solution: Solution,
    fit_intercept: bool,
    dropped: np.ndarray,
    cov_type: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cluster-robust covariance of the coefficients of least squares, degrees of freedom, and a mark.

    With M = (X' W X)^-1, e_j the residuals and W_j the weights of group j,

        V = c M [sum_j X_j' W_j A_j e_j e_j' A_j' W_j X_j] M.

    ====  =========================  ================================================  ======================
    type  c                          A_j                                               degrees of freedom
    ====  =========================  ================================================  ======================
    CR0   1                          I                                                 J - 1
    CR1   J/(J-1) (n-1)/(n-k)        I                                                 J - 1
    CR2   1                          (the group's block of (I-H)(I-H)')^(-1/2)         Satterthwaite's
    CR3   (J-1)/J                    (I - X_j M X_j' W_j)^-1                           J - 1
    ====  =========================  ================================================  ======================

    H = X M X' W. CR3 is the jackknife (J-1)/J sum_j (b_j - b)(b_j - b)' over the coefficients b_j without group j. CR2 is
    unbiased where all errors have one variance and are independent, the working model of its degrees of freedom too,

        df = tr(P)^2 / tr(P^2),   P_jl = a_j' [(I-H)(I-H)']_jl a_l,   a_j = A_j W_j X_j M c.

    Everything happens in the span of the columns of X_j (and W_j X_j), so that no matrix has more rows than k, or than
    2 k with weights, whatever the sizes of the groups.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), or None
    y : ndarray of shape (n_samples,)
    codes : ndarray of shape (n_samples,)
        The group of each row; every group has rows.
    weights : ndarray of shape (n_samples,) or None
        Positive.
    moments : GroupedMoments
        Of the same rows, by whatever groups.
    solution : Solution
        Least squares.
    fit_intercept : bool
    dropped : ndarray of int
        Columns without a coefficient.
    cov_type : {"CR0", "CR1", "CR2", "CR3"}

    Returns
    -------
    covariance : ndarray of shape (k, k)
        The intercept first, if there is one.
    df : ndarray of shape (k,)
        NaN for a column that was dropped.
    alone : ndarray of shape (k,), bool
        Coefficients that rest on one group alone, whose variance cannot be estimated (CR2 and CR3).

    References
    ----------
    R. M. Bell and D. F. McCaffrey (2002), "Bias reduction in standard errors for linear regression with multi-stage
    samples", Survey Methodology 28(2), 169-181, equations 5 to 7 and section 4.

    J. E. Pustejovsky and E. Tipton (2018), "Small-sample methods for cluster-robust variance estimation and hypothesis
    testing in fixed effects models", Journal of Business & Economic Statistics 36(4), 672-683, for weights and for
    combinations that rest on one group.
    """
    n_groups = int(codes.max()) + 1
    basis, to_columns = _orthonormal_basis(moments, solution, fit_intercept, dropped)
    rows = _Rows(X, y, weights, solution, basis)
    sum_of_squares = np.zeros((len(to_columns), len(to_columns)))
    alone = np.zeros(len(to_columns), dtype=bool)
    df = np.full(len(to_columns), n_groups - 1.0)
    if cov_type == "CR2":
        doubled = weights is not None
        target = np.vstack([np.zeros_like(to_columns.T), to_columns.T]) if doubled else to_columns.T
        working = _Satterthwaite(rows.working_cross() if doubled else -np.eye(len(target)), len(to_columns))
        for gram, score in rows.grams(codes, n_groups, doubled=doubled):
            root_target, span, score_in_span, on_one = _bias_reduced(gram, score, target, working.cross if doubled else None)
            working.add(root_target, span @ root_target)
            scores = (score_in_span[:, None, :] @ root_target)[:, 0, :]
            sum_of_squares += scores.T @ scores
            alone |= on_one
        df = working.degrees_of_freedom()
        factor = 1.0
    else:
        for gram, score in rows.grams(codes, n_groups, doubled=False):
            if cov_type == "CR3":
                score, on_one = _without_group(gram, score, to_columns.T)
                alone |= on_one
            scores = score @ to_columns.T
            sum_of_squares += scores.T @ scores
        n_rows, k = len(y), to_columns.shape[1]
        factor = {
            "CR0": 1.0,
            "CR1": n_groups / (n_groups - 1) * (n_rows - 1) / (n_rows - k),
            "CR3": (n_groups - 1) / n_groups,
        }[cov_type]
    df[int(fit_intercept) + dropped] = np.nan
    return factor * (sum_of_squares + sum_of_squares.T) / 2, df, alone


def _orthonormal_basis(
    moments: GroupedMoments, solution: Solution, fit_intercept: bool, dropped: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return combinations of the columns that are orthonormal over the rows, and the way back.

    Returns
    -------
    basis : ndarray of shape (1 + n_features, k)
        (1, x less the solution's centre) times this is a row of orthonormal columns.
    to_columns : ndarray of shape (n_coefficients, k)
        Coefficients of those columns to the intercept (if any) and coefficients of x; rows of dropped columns are 0.
    """
    n_features, leading = moments.n_features, int(fit_intercept)
    kept = np.setdiff1d(np.arange(n_features), dropped)
    means = moments.deviations[:, :-1] + (moments.center[:-1] - solution.center)
    total = moments.within[:-1, :-1] + weighted_scatter(means, moments.counts)
    factor, length = unit_cholesky(total[np.ix_(kept, kept)])
    inverse = np.linalg.solve(factor.T, np.eye(len(kept))) / length[:, None]
    basis = np.zeros((1 + n_features, leading + len(kept)))
    basis[1 + kept, leading:] = inverse
    if leading:
        basis[0, 0] = 1.0 / np.sqrt(moments.counts.sum())
    to_columns = basis.copy()
    to_columns[0] -= solution.center @ basis[1:]
    return basis, to_columns if leading else to_columns[1:]


class _Rows:
    """Rows (z, e): orthonormal columns and residuals of least squares, read in groups.

    Parameters
    ----------
    X, y, weights, solution
        As in `cluster_robust`.
    basis : ndarray of shape (1 + n_features, k)
        As `_orthonormal_basis` gives it.
    """

    def __init__(self, X: Any, y: np.ndarray, weights: np.ndarray | None, solution: Solution, basis: np.ndarray):
        self._rows = Rows(X, y)
        self._weights = weights
        self._about = np.append(solution.center, solution.intercept + solution.center @ solution.coefficients)
        self._contrast = np.append(-solution.coefficients, 1.0)
        self._basis = basis

    def _read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return orthonormal columns, of shape (n_positions, k), and residuals of some rows."""
        block = np.empty((len(positions), self._rows.n_columns))
        self._rows.read(positions, self._about, block)
        z = block[:, :-1] @ self._basis[1:]
        z += self._basis[0]
        return z, block @ self._contrast

    def grams(self, codes: np.ndarray, n_groups: int, *, doubled: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield D_j' D_j and D_j' e_j of the groups of each block, with D = W^(1/2) z, or (z, W z) if `doubled`."""
        width = self._basis.shape[1] * (1 + doubled)
        max_rows = max(1, min(block_rows(width), _BLOCK_NUMBERS // max(1, width**2)))
        for _, positions in blocks_of_equal_groups(codes, n_groups, max_rows):
            gram, score = np.zeros((len(positions), width, width)), np.zeros((len(positions), width))
            # A group that is larger than a block comes alone, and is read in pieces.
            for start in range(0, positions.shape[1], max(max_rows, _LEAST_PIECE)):
                part = positions[:, start : start + max(max_rows, _LEAST_PIECE)]
                z, residuals = self._read(part.ravel())
                if self._weights is not None:
                    weights = self._weights[part.ravel()]
                    if doubled:
                        z = np.hstack([z, z * weights[:, None]])
                    else:
                        z *= np.sqrt(weights)[:, None]
                        residuals = residuals * np.sqrt(weights)
                z = z.reshape(*part.shape, width)
                gram += z.transpose(0, 2, 1) @ z
                score += (residuals.reshape(len(part), 1, -1) @ z)[:, 0, :]
            yield gram, score

    def working_cross(self) -> np.ndarray:
        """Return C with (I-H)(I-H)' = I + (Z, W Z) C (Z, W Z)', H = Z Z' W, for orthonormal Z' W Z = I: 2 k by 2 k."""
        k = self._basis.shape[1]
        squared = np.zeros((k, k))
        step = block_rows(k)
        for start in range(0, len(self._rows), step):
            positions = np.arange(start, min(start + step, len(self._rows)))
            z = self._read(positions)[0]
            if self._weights is not None:
                z *= self._weights[positions, None]
            squared += z.T @ z
        eye = np.eye(k)
        return np.block([[squared, -eye], [-eye, np.zeros((k, k))]])


def _bias_reduced(
    gram: np.ndarray, score: np.ndarray, target: np.ndarray, cross: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what CR2 makes of groups: its symmetric root, in the span of each group's columns D_j.

    With D_j = U L', U orthonormal, the group's block of (I-H)(I-H)' is I + D_j C D_j' = I + U (L' C L) U', and leaves alone
    what is not in the span.

    Parameters
    ----------
    gram : ndarray of shape (n_of_block, m, m)
        D_j' D_j.
    score : ndarray of shape (n_of_block, m)
        D_j' e_j.
    target : ndarray of shape (m, n_coefficients)
        W_j X_j M c = D_j target.
    cross : ndarray of shape (m, m) or None
        C; None stands for -I.

    Returns
    -------
    root_target : ndarray of shape (n_of_block, m, n_coefficients)
        (I + L' C L)^(-1/2) L' target: a_j in the basis U.
    span : ndarray of shape (n_of_block, m, m)
        L.
    score_in_span : ndarray of shape (n_of_block, m)
        U' e_j.
    alone : ndarray of shape (n_coefficients,), bool
    """
    share, axes = np.linalg.eigh(gram)
    share = np.where(share > _NEGLIGIBLE * share[:, -1:], share, 0.0)
    length = np.sqrt(share)
    span = axes * length[:, None, :]
    along = (score[:, None, :] @ axes)[:, 0, :]
    score_in_span = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    in_span = span.transpose(0, 2, 1) @ target
    if cross is None:
        left = 1.0 - share
    else:
        left, rotation = np.linalg.eigh(np.eye(len(target)) + span.transpose(0, 2, 1) @ cross @ span)
        in_span = rotation.transpose(0, 2, 1) @ in_span
    alone = _rests_on_one(in_span, left, target)
    root_target = np.where(left > _ALONE, np.maximum(left, _ALONE) ** -0.5, 0.0)[:, :, None] * in_span
    return root_target if cross is None else rotation @ root_target, span, score_in_span, alone


def _without_group(gram: np.ndarray, score: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (I - D_j' D_j)^-1 D_j' e_j of each group, the change of the coefficients without it, and what rests on one."""
    share, axes = np.linalg.eigh(gram)
    left = 1.0 - share
    along = (score[:, None, :] @ axes)[:, 0, :]
    along = np.where(left > _ALONE, along / np.maximum(left, _ALONE), 0.0)
    alone = _rests_on_one(axes.transpose(0, 2, 1) @ target, left, target)
    return (axes @ along[:, :, None])[:, :, 0], alone


def _rests_on_one(in_span: np.ndarray, left: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return which coefficients depend on a direction that one group alone determines."""
    part = np.where(left[:, :, None] > _ALONE, 0.0, np.abs(in_span)).max(axis=(0, 1), initial=0.0)
    return part > _NOTICEABLE * np.linalg.norm(target, axis=0)


class _Satterthwaite:
    """Sums over groups that give tr(P) and tr(P^2) of P = diag(a_j' a_j) + y C y', y_j = D_j' a_j, for each coefficient."""

    def __init__(self, cross: np.ndarray, n_coefficients: int):
        self.cross = cross
        self._trace = np.zeros(n_coefficients)
        self._square = np.zeros(n_coefficients)
        self._outer = np.zeros((n_coefficients, *cross.shape))

    def add(self, a: np.ndarray, y: np.ndarray) -> None:
        """Add groups, a and y of shape (n_of_block, m, n_coefficients), a in an orthonormal basis."""
        own = (a * a).sum(axis=1)
        shared = (y * (self.cross @ y)).sum(axis=1)
        self._trace += (own + shared).sum(axis=0)
        self._square += (own * (own + 2.0 * shared)).sum(axis=0)
        by_coefficient = y.transpose(2, 1, 0)
        self._outer += by_coefficient @ by_coefficient.transpose(0, 2, 1)

    def degrees_of_freedom(self) -> np.ndarray:
        """Return tr(P)^2 / tr(P^2) of each coefficient, NaN for none."""
        product = self.cross @ self._outer
        square = self._square + (product * product.transpose(0, 2, 1)).sum(axis=(1, 2))
        with np.errstate(invalid="ignore"):
            return self._trace**2 / square
