"""Cluster-robust covariances of least squares, and their degrees of freedom: arithmetic on one small matrix a group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..likelihood._linalg import unit_cholesky
from ..likelihood._solution import Solution
from ..moments._grouped_moments import GroupedMoments
from ..moments._rows import GroupedRows, Rows, block_rows, blocks_of_equal_groups
from ..moments._sums import weighted_scatter

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
    rows: GroupedRows, moments: GroupedMoments, solution: Solution, dropped: np.ndarray, cov_type: str
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

    Everything happens in the span of the columns of X_j (and W_j X_j) or, where that is smaller, of the rows of the group,
    so that no matrix has more rows than k (2 k with weights), nor than the group.

    Parameters
    ----------
    rows : GroupedRows
        Weights, if there are any, have a mean of the order of 1.
    moments : GroupedMoments
        Moments of the same rows, with whatever groups.
    solution : Solution
        The least-squares solution.
    dropped : ndarray of int
        Positions of coefficients that are not estimated.
    cov_type : {"CR0", "CR1", "CR2", "CR3"}

    Returns
    -------
    covariance : ndarray of shape (k, k)
        The intercept first, if there is one.
    df : ndarray of shape (k,)
        NaN for a column that was dropped.
    single : ndarray of shape (k,), bool
        Coefficients that rest on a single group, whose variance cannot be estimated from how groups differ.

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
    single = np.zeros(len(to_columns), dtype=bool)
    df = np.full(len(to_columns), n_groups - 1.0)
    doubled = cov_type == "CR2" and weighted
    target = np.vstack([np.zeros_like(to_columns.T), to_columns.T]) if doubled else to_columns.T
    cross = residual_rows.working_cross() if doubled else -np.eye(len(target))
    working = _Satterthwaite(cross, len(to_columns))
    for block in residual_rows.blocks(rows.codes, n_groups, doubled=doubled):
        single |= _rest_on_one(block, to_columns.T, doubled)
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
        factor = {
            "CR0": 1.0,
            "CR1": n_groups / (n_groups - 1) * (n_rows - 1) / (n_rows - k),
            "CR3": (n_groups - 1) / n_groups,
        }[cov_type]
    df[dropped] = np.nan
    return factor * (sum_of_squares + sum_of_squares.T) / 2, df, single


def _orthonormal_basis(moments: GroupedMoments, solution: Solution, dropped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return combinations of the columns that are orthonormal over the rows, and the way back.

    Returns
    -------
    basis : ndarray of shape (1 + n_features, k)
        (1, x less the solution's centre) times this is a row of orthonormal columns.
    to_columns : ndarray of shape (n_coefficients, k)
        Coefficients of those columns to the intercept (if any) and coefficients of x; rows of dropped columns are 0.
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
    """Groups of one size: their columns D_j where they have fewer rows than columns, and else D_j' D_j; and D_j' e_j."""

    gram: np.ndarray | None
    score: np.ndarray
    columns: np.ndarray | None = None
    residuals: np.ndarray | None = None


class _ResidualRows:
    """Rows (z, e): orthonormal columns and residuals of least squares, read in groups.

    Parameters
    ----------
    rows, solution
        As in `cluster_robust`.
    basis : ndarray of shape (1 + n_features, k)
        As `_orthonormal_basis` gives it.
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

        D is (z, W z) and e the residuals if `doubled`, and else both are multiplied by the root of W.
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
        """Yield the groups, many of one size at a time; a group that is larger than a block alone, read in pieces."""
        width = self._basis.shape[1] * (1 + doubled)
        max_rows = max(1, min(block_rows(width), _BLOCK_NUMBERS // max(1, width**2)))
        piece = max(max_rows, _LEAST_PIECE)
        for _, positions in blocks_of_equal_groups(codes, n_groups, max_rows):
            if positions.shape[1] < width:
                columns, residuals = self._columns(positions, doubled)
                yield _Block(None, (residuals[:, None, :] @ columns)[:, 0, :], columns, residuals)
                continue
            gram, score = np.zeros((len(positions), width, width)), np.zeros((len(positions), width))
            for start in range(0, positions.shape[1], piece):
                columns, residuals = self._columns(positions[:, start : start + piece], doubled)
                gram += columns.transpose(0, 2, 1) @ columns
                score += (residuals[:, None, :] @ columns)[:, 0, :]
            yield _Block(gram, score)

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


def _bias_reduced(block: _Block, target: np.ndarray, cross: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what CR2 makes of groups: its symmetric root, in an orthonormal basis of each group.

    The group's block of (I-H)(I-H)' is I + D_j C D_j', and leaves alone what is not in the span of D_j. With D_j = U L', U
    orthonormal, it is I + L' C L in that span; in a group of fewer rows than columns its rows are basis enough.

    Parameters
    ----------
    block : _Block
    target : ndarray of shape (m, n_coefficients)
        W_j X_j M c = D_j target.
    cross : ndarray of shape (m, m) or None
        C; None stands for -I.

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
        scores = (residuals[:, None, :] @ a)[:, 0, :]
        return a, columns.transpose(0, 2, 1) @ a, scores
    gram, score = np.asarray(block.gram), block.score
    # Columns of W z may be of another size than those of z.
    size = np.sqrt(np.diagonal(gram, axis1=1, axis2=2)) if cross is not None else np.ones_like(score)
    size = np.where(size > 0, size, 1.0)
    share, axes = np.linalg.eigh(gram / (size[:, :, None] * size[:, None, :]))
    share = np.where(share > _NEGLIGIBLE * share[:, -1:], share, 0.0)
    length = np.sqrt(share)
    span = size[:, :, None] * axes * length[:, None, :]
    along = ((score / size)[:, None, :] @ axes)[:, 0, :]
    in_span = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    in_basis = span.transpose(0, 2, 1) @ target
    if cross is None:
        left = 1.0 - share
        a = _inverse_root(left)[:, :, None] * in_basis
    else:
        left, rotation = np.linalg.eigh(np.eye(len(target)) + span.transpose(0, 2, 1) @ cross @ span)
        in_basis = rotation.transpose(0, 2, 1) @ in_basis
        a = rotation @ (_inverse_root(left)[:, :, None] * in_basis)
    return a, span @ a, (in_span[:, None, :] @ a)[:, 0, :]


def _inverse_root(left: np.ndarray) -> np.ndarray:
    """Return eigenvalues to the power of -1/2, and 0 for those that are 0."""
    return np.where(left > _ALONE, np.maximum(left, _ALONE) ** -0.5, 0.0)


def _without_group(block: _Block, target: np.ndarray) -> np.ndarray:
    """Return by how much each coefficient changes without each group, target' (I - D_j' D_j)^-1 D_j' e_j.

    In a group of fewer rows than columns, the same is target' D_j' (I - D_j D_j')^-1 e_j.
    """
    if block.columns is not None and block.residuals is not None:
        left, axes = np.linalg.eigh(np.eye(block.columns.shape[1]) - block.columns @ block.columns.transpose(0, 2, 1))
        in_basis = axes.transpose(0, 2, 1) @ (block.columns @ target)
        along = (block.residuals[:, None, :] @ axes)[:, 0, :]
    else:
        share, axes = np.linalg.eigh(np.asarray(block.gram))
        left = 1.0 - share
        in_basis = axes.transpose(0, 2, 1) @ target
        along = (block.score[:, None, :] @ axes)[:, 0, :]
    along = np.where(left > _ALONE, along / np.maximum(left, _ALONE), 0.0)
    return (along[:, None, :] @ in_basis)[:, 0, :]


def _rest_on_one(block: _Block, target: np.ndarray, doubled: bool) -> np.ndarray:
    """Return which coefficients depend on a direction that one of these groups alone determines.

    A direction that a group alone determines is an eigenvector of its z' W z with the eigenvalue 1, because these matrices
    of all groups add up to the identity. The eigenvalues are at most the trace, and the traces of all groups add up to k, so
    that few groups have to be decomposed.

    Parameters
    ----------
    block : _Block
    target : ndarray of shape (k, n_coefficients)
    doubled : bool
        Whether the columns of the block are (z, W z), rather than z times the root of W.

    Returns
    -------
    alone : ndarray of shape (n_coefficients,), bool
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
