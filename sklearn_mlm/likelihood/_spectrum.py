"""The eigenvalues on which the restricted likelihood of the variance ratio depends, and no other property of X does."""

from __future__ import annotations

import numpy as np

from ._criterion import Criterion

# The rows of the largest matrix to decompose, and the most sizes to tell apart.
_MAX_MATRIX = 1000
_MAX_SIZES = 250
_EPS = np.finfo(np.float64).eps


def eigenvalues(criterion: Criterion) -> tuple[np.ndarray, np.ndarray]:
    """Return the positive eigenvalues of Z'W^(1/2) P W^(1/2)Z and how often each occurs; P takes X off.

    The matrix is diag(n_j) - (n_j x_j)' B_XX(0)^-1 (n_l x_l). Groups of one size span, with their means, k dimensions at
    the most; in the rest of their dimensions the eigenvalue is the size. So the matrix to decompose has k rows a distinct
    size, not J. There are as many positive eigenvalues as degrees of freedom between groups.

    Of more sizes than 250, or than 1,000 / k, those in one of so many intervals of equal width in log n are taken together,
    at their mean, for the k dimensions of their groups' means alone. In the rest of the dimensions the sizes are exact, and
    their multiplicities fractions. What is linear in the deviations from the mean cancels over an interval; deviations of
    a share d of the mean move the logarithms of these dimensions' terms by d^2 / 2.
    """
    n_sizes = max(2, min(_MAX_SIZES, _MAX_MATRIX // max(criterion.rank, 1)))
    _, inverse = criterion.information(0.0)
    factors, of_size, values, counts = [], [], [], []
    for members, rows in criterion.groups.by_size(n_sizes):
        n_groups, size = len(members), members.mean()
        share, axes = np.linalg.eigh(rows[:-1, :-1])
        kept = share > 1e-13 * share.max(initial=0.0)
        # More directions than groups are rounding.
        kept[: max(len(kept) - n_groups, 0)] = False
        n_directions = int(kept.sum())
        factors.append((axes[:, kept] * np.sqrt(share[kept])).T * size)
        of_size.append(np.full(n_directions, size))
        if n_groups > n_directions:
            distinct, frequency = np.unique(members, return_counts=True)
            values.append(distinct)
            counts.append(frequency * (1.0 - n_directions / n_groups))
    stacked, diagonal = np.concatenate(factors), np.concatenate(of_size)
    shifted = np.linalg.eigvalsh(np.diag(diagonal) - stacked @ inverse @ stacked.T)
    n_positive = criterion.between_degrees_of_freedom - (criterion.moments.n_groups - len(shifted))
    positive = np.maximum(shifted[len(shifted) - n_positive :], 0.0)
    return np.concatenate([*values, positive]), np.concatenate([*counts, np.ones(len(positive))])


def is_constant(criterion: Criterion) -> bool:
    """Return whether a criterion is the same at every variance ratio, in exact arithmetic.

    With mu_s the m positive eigenvalues and z_s what y has in their directions, the restricted criterion is, up to a
    constant,

        D log(r2(inf) + sum_s z_s^2 / (1 + gamma mu_s)) + sum_s log(1 + gamma mu_s),

    which is constant if and only if there are no such directions, or if r2(inf) = 0, D = m and all mu_s are equal: a single
    one, or balanced groups. The full criterion has log(1 + gamma n_j) of all groups in place of the last term, so that the
    sizes must equal the eigenvalues as well. Values of the criterion do not tell: their rounding grows without bound as a
    saturated X comes near to dependence.
    """
    if criterion.reml and criterion.between_degrees_of_freedom == 0:
        return True
    if not criterion.coordinates.within_residual_zero or criterion.limit_degrees_of_freedom != 0:
        return False
    if criterion.reml and criterion.between_degrees_of_freedom == 1:
        return True
    values = eigenvalues(criterion)[0]
    if not criterion.reml:
        values = np.append(values, criterion.groups.sizes)
    # The eigenvalues are known to the rounding of the factor of B_XX(0), which its variance inflation factors measure.
    b_xx, inverse = criterion.information(0.0)
    inflation = float(inverse.diagonal() @ b_xx.diagonal())
    return bool(np.ptp(values) <= 8.0 * _EPS * (criterion.moments.n_groups + inflation) * values.max())
