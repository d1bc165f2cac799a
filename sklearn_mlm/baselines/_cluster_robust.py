"""Cluster-robust covariances of least squares and their degrees of freedom: arithmetic on a small matrix for each group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._typing import CovarianceType
from ..likelihood._linalg import unit_cholesky
from ..likelihood._solution import Solution
from ..moments._grouped_moments import GroupedMoments
from ..moments._rows import GroupedRows, Rows, block_rows, blocks_of_equal_groups
from ..moments._sums import weighted_scatter

# Smaller eigenvalues belong to combinations of coefficients that rest on one group alone. They are left out, as in
# clubSandwich.
_ALONE = 1e-12
# Eigenvalues below this share of the largest are rounding of moments, which are squares.
_NEGLIGIBLE = 1e-13
# A coefficient depends on such a combination if its share exceeds this.
_NOTICEABLE = 1e-6
# With fewer rows than this, a matrix product is not worth its call.
_LEAST_PIECE = 1024
# The matrices of a block of groups hold at most this many numbers.
_BLOCK_NUMBERS = 1 << 20


def cluster_robust(
    rows: GroupedRows, moments: GroupedMoments, solution: Solution, dropped: np.ndarray, cov_type: CovarianceType
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cluster-robust covariance of least squares, its degrees of freedom, and which coefficients have none.

    With M = (X' W X)^-1, and e_j the residuals and W_j the weights of group j,

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
    unbiased if the errors are independent and have equal variances. Its degrees of freedom assume the same,

        df = tr(P)^2 / tr(P^2),   P_jl = a_j' [(I-H)(I-H)']_jl a_l,   a_j = A_j W_j X_j M c.

    All matrices are in the span of the columns of X_j (and W_j X_j) or, if that is smaller, of the rows of the group, so
    that no matrix has more rows than k (2 k with weights) or than the group.

    Parameters
    ----------
    rows : GroupedRows
        The rows; their weights, if any, have a mean of the order of 1.
    moments : GroupedMoments
        Moments of the same rows, in any groups.
    solution : Solution
        The least-squares solution.
    dropped : ndarray of int
        Positions of coefficients that are not estimated.
    cov_type : {"CR0", "CR1", "CR2", "CR3"}
        The kind of covariance.

    Returns
    -------
    covariance : ndarray of shape (k, k)
        The covariance, with the intercept first if there is one.
    df : ndarray of shape (k,)
        Degrees of freedom; NaN for dropped columns.
    single_group : ndarray of shape (k,), bool
        True for a coefficient that rests on a single group, so that its variance cannot be estimated from how groups differ.

    References
    ----------
    R. M. Bell and D. F. McCaffrey (2002), "Bias reduction in standard errors for linear regression with multi-stage
    samples", Survey Methodology 28(2), 169-181, equations 5 to 7 and section 4.

    J. E. Pustejovsky and E. Tipton (2018), "Small-sample methods for cluster-robust variance estimation and hypothesis
    testing in fixed effects models", Journal of Business & Economic Statistics 36(4), 672-683, for weights and for
    combinations that rest on one group.
    """
    n_groups, weighted = len(rows.levels), rows.weights is not None
    basis, to_columns = _orthonormal_basis(moments, solution, dropped)
    residual_rows = _ResidualRows(rows, solution, basis)
    sum_of_squares = np.zeros((len(to_columns), len(to_columns)))
    single_group = np.zeros(len(to_columns), dtype=bool)
    df = np.full(len(to_columns), n_groups - 1.0)
    doubled = cov_type == "CR2" and weighted
    target = np.vstack([np.zeros_like(to_columns.T), to_columns.T]) if doubled else to_columns.T
    cross = residual_rows.working_cross() if doubled else -np.eye(len(target))
    working = _Satterthwaite(cross, len(to_columns))
    for block in residual_rows.blocks(rows.codes, n_groups, doubled=doubled):
        single_group |= _rest_on_one(block, to_columns.T, doubled)
        if cov_type == "CR2":
            a, y_of_a, scores = _bias_reduced(block, target, cross if doubled else None)
            working.add(a, y_of_a)
        else:
            scores = _without_group(block, target) if cov_type == "CR3" else block.score @ target
        sum_of_squares += scores.T @ scores
    if cov_type == "CR2":
        df, factor = working.degrees_of_freedom(), 1.0
    else:
        n_rows, k = len(rows), to_columns.shape[1]
        cr1, cr3 = n_groups / (n_groups - 1) * (n_rows - 1) / (n_rows - k), (n_groups - 1) / n_groups
        factor = {"CR0": 1.0, "CR1": cr1, "CR3": cr3}[cov_type]
    df[dropped] = np.nan
    return factor * (sum_of_squares + sum_of_squares.T) / 2, df, single_group


def _orthonormal_basis(moments: GroupedMoments, solution: Solution, dropped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return combinations of the columns that are orthonormal over the rows, and the map back to the columns.

    Returns
    -------
    basis : ndarray of shape (1 + n_features, k)
        The row (1, x less the solution's centre) times this matrix is a row of orthonormal columns.
    to_columns : ndarray of shape (n_coefficients, k)
        Maps coefficients of those columns to the intercept (if any) and the coefficients of x; 0 for dropped columns.
    """
    n_features = moments.n_features
    leading = len(solution.root) - n_features
    kept = np.setdiff1d(np.arange(n_features), dropped - leading)
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


@dataclass(frozen=True, eq=False)
class _Block:
    """Groups of one size: D_j' e_j, and D_j and e_j if they have fewer rows than columns, or else D_j' D_j (`gram`)."""

    gram: np.ndarray | None
    score: np.ndarray
    columns: np.ndarray | None = None
    residuals: np.ndarray | None = None


class _ResidualRows:
    """Rows (z, e) of orthonormal columns and least-squares residuals, read group by group.

    Parameters
    ----------
    rows, solution
        As in `cluster_robust`.
    basis : ndarray of shape (1 + n_features, k)
        As `_orthonormal_basis` returns it.
    """

    def __init__(self, rows: GroupedRows, solution: Solution, basis: np.ndarray):
        self._rows = Rows(rows.X, rows.y)
        self._weights = rows.weights
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

    def _columns(self, positions: np.ndarray, doubled: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return D and e of groups of one size, of shape (n_groups, n_rows, m) and (n_groups, n_rows).

        If `doubled`, D is (z, W z) and e the residuals; otherwise D is z, and D and e are multiplied by the root of W.
        """
        z, residuals = self._read(positions.ravel())
        if self._weights is not None:
            weights = self._weights[positions.ravel()]
            if doubled:
                z = np.hstack([z, z * weights[:, None]])
            else:
                z *= np.sqrt(weights)[:, None]
                residuals *= np.sqrt(weights)
        return z.reshape(*positions.shape, -1), residuals.reshape(positions.shape)

    def blocks(self, codes: np.ndarray, n_groups: int, *, doubled: bool) -> Iterator[_Block]:
        """Yield blocks of groups of one size. A group that exceeds a block is yielded alone and read in pieces."""
        width = self._basis.shape[1] * (1 + doubled)
        max_rows = max(1, min(block_rows(width), _BLOCK_NUMBERS // max(1, width**2)))
        piece = max(max_rows, _LEAST_PIECE)
        for _, positions in blocks_of_equal_groups(codes, n_groups, max_rows):
            if positions.shape[1] < width:
                columns, residuals = self._columns(positions, doubled)
                yield _Block(None, _row_products(residuals, columns), columns, residuals)
                continue
            gram, score = np.zeros((len(positions), width, width)), np.zeros((len(positions), width))
            for start in range(0, positions.shape[1], piece):
                columns, residuals = self._columns(positions[:, start : start + piece], doubled)
                gram += columns.transpose(0, 2, 1) @ columns
                score += _row_products(residuals, columns)
            yield _Block(gram, score)

    def working_cross(self) -> np.ndarray:
        """Return the C of shape (2 k, 2 k) in (I-H)(I-H)' = I + (Z, W Z) C (Z, W Z)', with H = Z Z' W and Z' W Z = I."""
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


def _bias_reduced(block: _Block, target: np.ndarray, cross: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the a_j of CR2 and products of them, in an orthonormal basis of each group.

    The group's block of (I-H)(I-H)' is I + D_j C D_j', which is the identity outside the span of D_j. With D_j = U L' and U
    orthonormal, it is I + L' C L in that span. The basis of a group with fewer rows than columns is that of its rows.

    Parameters
    ----------
    block : _Block
        The groups.
    target : ndarray of shape (m, n_coefficients)
        The matrix with W_j X_j M c = D_j target.
    cross : ndarray of shape (m, m) or None
        C; None for -I.

    Returns
    -------
    a : ndarray of shape (n_groups, basis size, n_coefficients)
        A_j W_j X_j M c.
    y : ndarray of shape (n_groups, m, n_coefficients)
        D_j' a_j.
    scores : ndarray of shape (n_groups, n_coefficients)
        a_j' e_j.
    """
    if block.columns is not None and block.residuals is not None:
        columns, residuals = block.columns, block.residuals
        crossed = -columns if cross is None else columns @ cross
        left, axes = np.linalg.eigh(np.eye(columns.shape[1]) + crossed @ columns.transpose(0, 2, 1))
        in_basis = axes.transpose(0, 2, 1) @ (columns @ target)
        a = axes @ (_inverse_root(left)[:, :, None] * in_basis)
        return a, columns.transpose(0, 2, 1) @ a, _row_products(residuals, a)
    gram, score = np.asarray(block.gram), block.score
    # The columns of W z may differ in scale from those of z.
    size = np.sqrt(np.diagonal(gram, axis1=1, axis2=2)) if cross is not None else np.ones_like(score)
    size = np.where(size > 0, size, 1.0)
    share, axes = np.linalg.eigh(gram / (size[:, :, None] * size[:, None, :]))
    share = np.where(share > _NEGLIGIBLE * share[:, -1:], share, 0.0)
    length = np.sqrt(share)
    span = size[:, :, None] * axes * length[:, None, :]
    along = _row_products(score / size, axes)
    in_span = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    in_basis = span.transpose(0, 2, 1) @ target
    if cross is None:
        left = 1.0 - share
        a = _inverse_root(left)[:, :, None] * in_basis
    else:
        left, rotation = np.linalg.eigh(np.eye(len(target)) + span.transpose(0, 2, 1) @ cross @ span)
        in_basis = rotation.transpose(0, 2, 1) @ in_basis
        a = rotation @ (_inverse_root(left)[:, :, None] * in_basis)
    return a, span @ a, _row_products(in_span, a)


def _row_products(rows: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Return r' M of a row r, of shape (m,), and a matrix M of each group, as an array of shape (n_groups, n_columns)."""
    return np.asarray((rows[:, None, :] @ matrices)[:, 0, :])


def _inverse_root(left: np.ndarray) -> np.ndarray:
    """Return eigenvalues to the power of -1/2; 0 for those that are 0."""
    return np.where(left > _ALONE, np.maximum(left, _ALONE) ** -0.5, 0.0)


def _without_group(block: _Block, target: np.ndarray) -> np.ndarray:
    """Return the change of each coefficient without each group, target' (I - D_j' D_j)^-1 D_j' e_j.

    For a group with fewer rows than columns it is computed as target' D_j' (I - D_j D_j')^-1 e_j.
    """
    if block.columns is not None and block.residuals is not None:
        left, axes = np.linalg.eigh(np.eye(block.columns.shape[1]) - block.columns @ block.columns.transpose(0, 2, 1))
        in_basis = axes.transpose(0, 2, 1) @ (block.columns @ target)
        along = _row_products(block.residuals, axes)
    else:
        share, axes = np.linalg.eigh(np.asarray(block.gram))
        left = 1.0 - share
        in_basis = axes.transpose(0, 2, 1) @ target
        along = _row_products(block.score, axes)
    along = np.where(left > _ALONE, along / np.maximum(left, _ALONE), 0.0)
    return _row_products(along, in_basis)


def _rest_on_one(block: _Block, target: np.ndarray, doubled: bool) -> np.ndarray:
    """Return which coefficients depend on a direction that one of these groups alone determines.

    A direction that one group determines is an eigenvector of its z' W z with the eigenvalue 1, because these matrices add
    up to the identity over the groups. An eigenvalue is at most the trace, and the traces add up to k, so that few groups
    have to be decomposed.

    Parameters
    ----------
    block : _Block
        The groups.
    target : ndarray of shape (k, n_coefficients)
        The matrix that maps orthonormal columns to coefficients, transposed.
    doubled : bool
        Whether the columns of the block are (z, W z), rather than z times the root of W.

    Returns
    -------
    single_group : ndarray of shape (n_coefficients,), bool
        True for the coefficients that depend on one of the groups alone.
    """
    k = len(target)
    if block.columns is None:
        gram = np.asarray(block.gram)[:, :k, -k:] if doubled else np.asarray(block.gram)
        gram = gram[np.trace(gram, axis1=1, axis2=2) > 1.0 - 2.0 * _ALONE]
    else:
        z, weighted = block.columns[:, :, :k], block.columns[:, :, -k:]
        suspects = (z * weighted).sum(axis=(1, 2)) > 1.0 - 2.0 * _ALONE
        gram = z[suspects].transpose(0, 2, 1) @ weighted[suspects]
    share, axes = np.linalg.eigh(gram)
    in_span = np.abs(axes.transpose(0, 2, 1) @ target)
    part = np.where(1.0 - share[:, :, None] > _ALONE, 0.0, in_span).max(axis=(0, 1), initial=0.0)
    return np.asarray(part > _NOTICEABLE * np.linalg.norm(target, axis=0))


class _Satterthwaite:
    """Sums over groups for tr(P) and tr(P^2) of each coefficient, with P = diag(a_j' a_j) + y C y' and y_j = D_j' a_j."""

    def __init__(self, cross: np.ndarray, n_coefficients: int):
        self.cross = cross
        self._trace = np.zeros(n_coefficients)
        self._square = np.zeros(n_coefficients)
        self._outer = np.zeros((n_coefficients, *cross.shape))

    def add(self, a: np.ndarray, y: np.ndarray) -> None:
        """Add a block of groups; a and y have the shape (n_groups, m, n_coefficients), and a is in an orthonormal basis."""
        own = (a * a).sum(axis=1)
        shared = (y * (self.cross @ y)).sum(axis=1)
        self._trace += (own + shared).sum(axis=0)
        self._square += (own * (own + 2.0 * shared)).sum(axis=0)
        by_coefficient = y.transpose(2, 1, 0)
        self._outer += by_coefficient @ by_coefficient.transpose(0, 2, 1)

    def degrees_of_freedom(self) -> np.ndarray:
        """Return tr(P)^2 / tr(P^2) for each coefficient; NaN if both are 0."""
        product = self.cross @ self._outer
        square = self._square + (product * product.transpose(0, 2, 1)).sum(axis=(1, 2))
        with np.errstate(invalid="ignore"):
            return np.asarray(self._trace**2 / square)
