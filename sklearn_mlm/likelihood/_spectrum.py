"""The eigenvalues through which X and the group sizes enter the restricted likelihood of the variance ratio."""

from __future__ import annotations

import numpy as np

from ._criterion import Criterion

# The largest number of rows of a matrix to decompose, and the largest number of sizes to distinguish.
_MAX_MATRIX = 1000
_MAX_SIZES = 250


def eigenvalues(criterion: Criterion) -> tuple[np.ndarray, np.ndarray]:
    """Return the positive eigenvalues of Z'W^(1/2) P W^(1/2)Z, where P projects X out, and how often each occurs.

    The matrix is diag(n_j) - (n_j x_j)' B_XX(0)^-1 (n_l x_l). The means of groups of one size span at most k dimensions; in
    the other dimensions of these groups the eigenvalue is the size. So the matrix to decompose has k rows for each distinct
    size, not J rows. There are as many positive eigenvalues as degrees of freedom between groups.

    If there are more than 250 sizes, or more than 1,000 / k, log n is cut into that many intervals of equal width, and the
    mean of an interval replaces its sizes, but only in the k dimensions of the group means. In the other dimensions the
    sizes are exact, and their multiplicities are fractions. Terms that are linear in the deviations from the mean cancel
    over an interval; a deviation by a share d of the mean changes the logarithm of a term in the k dimensions by d^2 / 2.

    Parameters
    ----------
    criterion : Criterion
        The criterion of the data.

    Returns
    -------
    values, multiplicity : ndarray of shape (n_eigenvalues,)
        The eigenvalues, and how often each occurs.
    """
    n_sizes = max(2, min(_MAX_SIZES, _MAX_MATRIX // max(criterion.rank, 1)))
    _, inverse = criterion.information(0.0)
    factors, of_size, values, counts = [], [], [], []
    for members, rows in criterion.groups.by_size(n_sizes):
        n_groups, size = len(members), members.mean()
        share, axes = np.linalg.eigh(rows[:-1, :-1])
        kept = share > 1e-13 * share.max(initial=0.0)
        # Directions beyond the number of groups are rounding.
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

    With mu_s the m positive eigenvalues and z_s the components of y in their directions, the restricted criterion is, up to
    a constant,

        D log(r2(inf) + sum_s z_s^2 / (1 + gamma mu_s)) + sum_s log(1 + gamma mu_s),

    which is constant if and only if there are no such directions, or r2(inf) = 0, D = m and all mu_s are equal, as with a
    single direction or balanced groups. In the full criterion the last sum is of log(1 + gamma n_j) over all groups, so that
    the sizes must equal the eigenvalues as well. Values of the criterion cannot show that it is constant: their rounding
    grows without bound as the columns of a saturated X become dependent.

    Parameters
    ----------
    criterion : Criterion
        The criterion of the data.

    Returns
    -------
    constant : bool
        True if the data do not identify the variance ratio.
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
    # The eigenvalues are exact to the rounding of the factor of B_XX(0), which the variance inflation factors measure.
    b_xx, inverse = criterion.information(0.0)
    inflation = float(inverse.diagonal() @ b_xx.diagonal())
    return bool(np.ptp(values) <= 8.0 * np.finfo(np.float64).eps * (criterion.moments.n_groups + inflation) * values.max())
