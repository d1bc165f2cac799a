"""`GroupedMoments`: the small mergeable state that rows are read into, and the code that reads rows into it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from numbers import Real
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

# SciPy's product of a sparse and a dense matrix, which adds into its last argument: the one compiled scatter-add
# that takes whole rows and lets other threads run. The public product would allocate (n_groups, n_columns) per block.
from scipy.sparse._sparsetools import csc_matvecs
from sklearn.utils import check_array
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d
from threadpoolctl import ThreadpoolController

from ._groups import column_names, factorize
from ._rows import Rows, block_rows

# Fewer numbers than this are read sooner than a second thread starts.
_NUMBERS_PER_THREAD = 1 << 18
# The within scatter comes out as a difference where a group's reference row is far from its mean; more loss than this
# factor (4 bits) and the rows are read a second time, about the mean itself.
_TOLERATED_LOSS = 16.0
# Scatter per row that the rounding of the values themselves could leave, relative to their square: two units in the last
# place.
_ROUNDING = (2 * np.finfo(np.float64).eps) ** 2
# Numbers from which a sample of so many pairs of rows is worth looking at first.
_LARGE = 1 << 16
_SAMPLE = 1 << 10
_LIMITING = Lock()


@dataclass(frozen=True, eq=False)
class GroupedMoments:
    """Within- and between-group moments of rows (x, y): all that a random-intercept model needs of its data.

    With z_ij = (x_ij, y_ij) the row i of group j and w_ij its weight, the state holds the total weight n_j and the
    weighted mean m_j of each group, and the pooled within-group scatter

        W = sum_j sum_i w_ij (z_ij - m_j)(z_ij - m_j)'.

    States of different rows merge exactly (Chan, Golub & LeVeque 1983): `a + b` is the state of the rows of both, in any
    order and wherever the cut falls, so that batches, files and machines may each read their own rows.

    Sharing a state shares group means, not rows; but the mean of a group of one row is that row.

    Make one with `from_arrays`; fit it with `RandomInterceptRegressor.fit_moments`.

    Attributes
    ----------
    labels : pandas.Index of shape (n_groups,)
        The group labels, sorted where they can be.
    counts : ndarray of shape (n_groups,)
        Total weight n_j of each group: its number of rows where there are no weights.
    n_rows : ndarray of shape (n_groups,), int
        Number of rows with a positive weight in each group.
    center : ndarray of shape (n_features + 1,)
        An arbitrary point amid the data, in units of (x, y).
    deviations : ndarray of shape (n_groups, n_features + 1)
        Group means minus `center`. Apart from it they keep digits that the means themselves could not: about 1e12, a
        double resolves no more than 1e-4.
    within : ndarray of shape (n_features + 1, n_features + 1)
        The pooled within-group scatter W, in units of (x, y) squared. Columns that are constant in every group have
        exact zeros.
    sum_log_weight : float
        Sum of the logarithms of the row weights, 0 without weights.
    feature_names : tuple of str or None
        Names of the columns of x, where they have names.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque (1983), "Algorithms for computing the sample variance", The American
    Statistician 37, 242-247, equations 2.1 (the update) and 1.7 (the shift).

    Examples
    --------
    >>> from sklearn_mlm import GroupedMoments
    >>> a = GroupedMoments.from_arrays([[0.0], [1.0]], [1.0, 3.0], ["north", "south"])
    >>> b = GroupedMoments.from_arrays([[2.0], [4.0]], [5.0, 7.0], ["south", "south"])
    >>> (a + b).means
    array([[0.        , 1.        ],
           [2.33333333, 5.        ]])
    """

    labels: pd.Index
    counts: np.ndarray
    n_rows: np.ndarray
    center: np.ndarray
    deviations: np.ndarray
    within: np.ndarray
    sum_log_weight: float = 0.0
    feature_names: tuple[str, ...] | None = None

    @property
    def means(self) -> np.ndarray:
        """Weighted mean of (x, y) in each group, of shape (n_groups, n_features + 1)."""
        return self.center + self.deviations

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.labels)

    @property
    def n_features(self) -> int:
        """Number of columns of x."""
        return len(self.center) - 1

    @classmethod
    def from_arrays(cls, X: Any, y: Any, groups: Any, sample_weight: Any = None) -> GroupedMoments:
        """Read rows into a state.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or None
            The predictors, without a column of ones. None stands for no predictors.
        y : array-like of shape (n_samples,)
            The outcome.
        groups : array-like of shape (n_samples,)
            The group label of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights; a row of weight 0 is no row. None gives every row the weight 1.

        Returns
        -------
        moments : GroupedMoments

        Raises
        ------
        ValueError
            Where values are missing or infinite, lengths differ, or a weight is negative.
        """
        names = None
        if X is not None:
            columns = column_names(X)
            names = tuple(columns) if columns is not None and all(isinstance(name, str) for name in columns) else None
            X = check_array(X, accept_sparse=["csr", "csc"], ensure_all_finite=False, ensure_min_samples=0)
        y = as_outcome(y)
        if X is not None:
            check_consistent_length(X, y)
        weights = None if sample_weight is None else as_weights(sample_weight, len(y))
        codes, labels = factorize(groups, len(y))
        return summarise(X, y, codes, labels, weights, names)

    def merge(*parts: GroupedMoments | Iterable[GroupedMoments]) -> GroupedMoments:
        """Return the state of the rows of all parts together, in one vectorised step.

        Call it on states, `a.merge(b, c)`, or on the class with an iterable of them, `GroupedMoments.merge(states)`.

        Parameters
        ----------
        *parts : GroupedMoments or iterable of GroupedMoments
            States with the same features; groups may stand in several, and parts may be empty.

        Returns
        -------
        moments : GroupedMoments

        Raises
        ------
        ValueError
            Where there are no parts, or their features differ.
        """
        states: list[GroupedMoments] = []
        for part in parts:
            states.extend([part] if isinstance(part, GroupedMoments) else part)
        _check_same_features(states)
        filled = [state for state in states if state.n_groups] or states[:1]
        if len(filled) == 1:
            return filled[0]
        codes, labels = factorize(_append([state.labels for state in filled]))
        center = filled[0].center
        # A part's group is a row that weighs as much as its rows: what they lack of the scatter is the parts' own.
        means = np.concatenate([state.deviations + (state.center - center) for state in filled])
        counts = np.concatenate([state.counts for state in filled])
        merged = summarise(means[:, :-1], means[:, -1], codes, labels, counts)
        return GroupedMoments(
            labels=labels,
            counts=merged.counts,
            n_rows=_sum_by_group(codes, np.concatenate([state.n_rows for state in filled]), len(labels)),
            center=center,
            deviations=merged.deviations + merged.center,
            within=sum((state.within for state in filled), merged.within),
            sum_log_weight=sum(state.sum_log_weight for state in filled),
            feature_names=filled[0].feature_names,
        )

    def __add__(self, other: object) -> GroupedMoments:
        if not isinstance(other, GroupedMoments):
            return NotImplemented
        return GroupedMoments.merge(self, other)

    def __radd__(self, other: object) -> GroupedMoments:
        # So that the built-in sum, which starts from 0, adds states up.
        return self if other == 0 else NotImplemented

    def __repr__(self) -> str:
        return (
            f"GroupedMoments(n_groups={self.n_groups}, n_features={self.n_features}, n_rows={int(self.n_rows.sum())}, "
            f"total_weight={self.counts.sum():g})"
        )


def _append(labels: list[pd.Index]) -> pd.Index:
    """Return all labels one after the other; pandas would make floats of integers of different types, and lose digits."""
    if any(one.dtype != labels[0].dtype for one in labels):
        labels = [one.astype(object) for one in labels]
    return labels[0].append(labels[1:])


def _check_same_features(states: Sequence[GroupedMoments]) -> None:
    """Raise unless the states could be of the same columns."""
    if not states:
        raise ValueError("merge needs at least one GroupedMoments; found none.")
    first = next((state for state in states if state.n_groups), states[0])
    for state in states:
        if state.n_features != first.n_features:
            raise ValueError(
                f"Cannot merge moments of {first.n_features} features with moments of {state.n_features}: "
                "read the same columns into every part."
            )
        if state.n_groups and state.feature_names != first.feature_names:
            raise ValueError(
                f"Cannot merge moments of features {first.feature_names!r} with moments of {state.feature_names!r}: "
                "read the same columns, in the same order, into every part."
            )


def summarise(
    X: Any,
    y: np.ndarray,
    codes: np.ndarray,
    labels: pd.Index,
    weights: np.ndarray | None = None,
    feature_names: tuple[str, ...] | None = None,
) -> GroupedMoments:
    """Return the state of validated rows; values that are not finite are found here, at no cost of their own.

    Parameters
    ----------
    X : ndarray or CSR or CSC matrix of shape (n_samples, n_features), or None
    y : ndarray of shape (n_samples,)
    codes : ndarray of shape (n_samples,)
        Positions in `labels`.
    labels : pandas.Index of shape (n_groups,)
    weights : ndarray of shape (n_samples,) or None
        Rows of weight 0 count as no rows.
    feature_names : tuple of str or None

    Raises
    ------
    ValueError
        Where a value of X, y or the weights is not finite or squares to more than a double holds, or a weight is negative.
    """
    if weights is not None:
        X, y, codes, labels, weights = drop_weightless(X, y, codes, labels, weights)
    X, y = None if X is None else _as_numbers(X, "X"), _as_numbers(y, "y")
    rows = Rows(X, y)
    n_rows = np.bincount(codes, minlength=len(labels))
    counts = n_rows.astype(np.float64) if weights is None else _sum_by_group(codes, weights, len(labels))
    if len(codes):
        center, deviations, within = _within_and_between(rows, codes, counts, weights)
    else:
        width = rows.n_columns
        center, deviations, within = np.zeros(width), np.zeros((0, width)), np.zeros((width, width))
    if not (np.isfinite(within.diagonal()).all() and np.isfinite(deviations.sum())):
        _raise_not_finite(X, y)
    sum_log_weight = 0.0 if weights is None else float(np.log(weights).sum())
    return GroupedMoments(labels, counts, n_rows, center, deviations, within, sum_log_weight, feature_names)


def as_outcome(y: Any) -> np.ndarray:
    """Return y as an array of shape (n_samples,), of whatever numbers it holds."""
    if y is None:
        raise ValueError("y is None: pass the outcome, one number per row.")
    y = check_array(y, ensure_2d=False, ensure_min_samples=0, ensure_all_finite=False, input_name="y")
    return column_or_1d(y, warn=True)


def _as_numbers(values: Any, name: str) -> Any:
    """Return values of a numeric type, where they are numbers: check_array lets objects and dates pass."""
    if values.dtype.kind in "biuf":
        return values
    if values.dtype.kind != "O":
        raise ValueError(f"{name} must hold numbers; found {values.dtype}. Turn the values into numbers first.")
    return values.astype(np.float64)


def as_weights(sample_weight: Any, n_samples: int) -> np.ndarray:
    """Return row weights as an array of shape (n_samples,), in float64; a number stands for that many of it."""
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, float(sample_weight))
    weights = check_array(sample_weight, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="sample_weight")
    if weights.shape != (n_samples,):
        raise ValueError(
            f"sample_weight must hold one weight per row: found sample_weight of shape {weights.shape} for {n_samples} rows."
        )
    if n_samples and weights.min() < 0:
        raise ValueError(
            f"sample_weight must not be negative; found {float(weights.min())!r} in row {int(weights.argmin())}. To leave a "
            "row out, give it the weight 0."
        )
    return weights


def drop_weightless(X: Any, y: np.ndarray, codes: np.ndarray, labels: pd.Index, weights: np.ndarray) -> tuple:
    """Return the arguments without the rows of weight 0, which must have the say in nothing, not even as a label."""
    kept = weights > 0
    if kept.all():
        return X, y, codes, labels, weights
    if not kept.any():
        raise ValueError("sample_weight is zero in every row: no row is left to fit. Give some rows a positive weight.")
    for name, values in (("X", X), ("y", y)):
        if values is not None:
            assert_all_finite(values, input_name=name)
    X = None if X is None else (X.tocsr() if sparse.issparse(X) else X)[kept]
    codes, used = factorize(codes[kept])
    return X, y[kept], codes, labels.take(used.to_numpy()), weights[kept]


def _raise_not_finite(X: Any, y: np.ndarray) -> None:
    """Raise scikit-learn's error for NaN and infinity, or one for finite values whose squares overflow."""
    for name, values in (("X", X), ("y", y)):
        if values is not None:
            assert_all_finite(values, input_name=name)
    raise ValueError("X or y holds values so large that their squares overflow a double (above 1e150). Rescale the column.")


def _sum_by_group(codes: np.ndarray, values: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the sum of the values in each group, in the type of the values."""
    return np.bincount(codes, weights=values, minlength=n_groups).astype(values.dtype)


def _within_and_between(
    rows: Rows, codes: np.ndarray, counts: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a centre, the group means' deviations from it, and the pooled within-group scatter.

    Each group's rows are taken relative to a point f_j near them, d_ij = z_ij - f_j, and then

        m_j = f_j + mean_i d_ij,    W = sum_ij w_ij d_ij d_ij' - sum_j n_j mean(d_j) mean(d_j)'.

    With f_j one of the group's own rows, d_ij has no error where the column is constant in the group, and little where
    the group is far from zero or from other groups; the difference loses about one bit. Large data that vary enough
    within groups are spared the look-up of f_j: one point amid all rows does for them. Whatever f_j is, more loss than is
    tolerated shows in the result, and the rows are read again with a better f_j, the last of which is m_j.
    """
    n_groups, width = len(counts), rows.n_columns
    member = np.empty(n_groups, dtype=np.intp)
    member[codes] = np.arange(len(codes))
    center = _central_value(rows.at(member[:_SAMPLE]))
    with np.errstate(over="ignore", invalid="ignore"):
        if len(rows) * width >= _LARGE and _varies_within(rows, codes, member):
            sums, scatter = _scatter(rows, codes, weights, n_groups, center)
            shifts, within = _about_means(sums, scatter, counts)
            if _loss_is_tolerable(scatter, within):
                return center, shifts, within
        reference, zero = rows.at(member), np.zeros(width)
        sums, scatter = _scatter(rows, codes, weights, n_groups, zero, reference)
        shifts, within = _about_means(sums, scatter, counts)
        if not _loss_is_tolerable(scatter, within):
            sums, scatter = _scatter(rows, codes, weights, n_groups, zero, reference, shifts)
            correction, within = _about_means(sums, scatter, counts)
            shifts += correction
        reference -= center
        shifts += reference
    return center, shifts, within


def _central_value(rows: np.ndarray) -> np.ndarray:
    """Return, of each column, the value nearest its mean: one of its values, so that a constant has no deviation."""
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = np.abs(rows - rows.mean(axis=0)).argmin(axis=0)
    return rows[nearest, np.arange(rows.shape[1])]


def _varies_within(rows: Rows, codes: np.ndarray, member: np.ndarray) -> bool:
    """Return whether, by a sample of pairs of rows, every column varies within groups nearly as much as over all."""
    sample = np.linspace(0, len(codes) - 1, _SAMPLE).astype(np.intp)
    other = member[codes[sample]]
    sample, other = sample[sample != other], other[sample != other]
    if len(sample) < _SAMPLE // 8:
        return False
    values = rows.at(sample)
    within = ((values - rows.at(other)) ** 2).mean(axis=0) / 2
    return bool(np.all(values.var(axis=0) <= _TOLERATED_LOSS / 2 * within))


def _about_means(sums: np.ndarray, scatter: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the group means and the scatter about them, from sums (overwritten) and the scatter about zero."""
    sums /= counts[:, None]
    return sums, scatter - weighted_scatter(sums, counts)


def _loss_is_tolerable(scatter: np.ndarray, within: np.ndarray) -> bool:
    """Return whether the difference that `within` came from left it most of its digits, or is not finite anyway."""
    return not np.any(scatter.diagonal() > _TOLERATED_LOSS * within.diagonal())


def weighted_scatter(rows: np.ndarray, weights: np.ndarray, about: np.ndarray | float = 0.0) -> np.ndarray:
    """Return sum_j w_j (r_j - a)(r_j - a)', symmetric to the last bit."""
    scatter = np.zeros((rows.shape[1], rows.shape[1]))
    step = block_rows(rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step] - about
        scatter += (block * weights[start : start + step, None]).T @ block
    return (scatter + scatter.T) / 2


def rounding_scatter(total_weight: float, mean: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """Return the scatter that the rounding of the values themselves could leave of columns with this mean and scatter."""
    return _ROUNDING * (total_weight * mean**2 + scatter)


def varies_within(moments: GroupedMoments) -> np.ndarray:
    """Return which columns of (x, y) vary within groups, by more than rounding, which merging may leave."""
    total_weight = moments.counts.sum()
    mean = moments.counts @ moments.deviations / total_weight
    within = moments.within.diagonal()
    scatter = within + moments.counts @ (moments.deviations - mean) ** 2
    return within > rounding_scatter(total_weight, moments.center + mean, scatter)


def _scatter(
    rows: Rows, codes: np.ndarray, weights: np.ndarray | None, n_groups: int, about: np.ndarray, *offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted sums by group, and the scatter over all rows, of the rows less some offsets.

    Parameters
    ----------
    about : ndarray of shape (n_columns,)
        Taken off every row.
    *offsets : ndarray of shape (n_groups, n_columns)
        Taken off each group's rows, one after the other, which a sum of them would not do exactly.

    Returns
    -------
    sums : ndarray of shape (n_groups, n_columns)
    scatter : ndarray of shape (n_columns, n_columns)
    """
    n_columns = rows.n_columns

    def part(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        sums, scatter = np.zeros((n_groups, n_columns)), np.zeros((n_columns, n_columns))
        length = min(block_rows(n_columns), stop - start)
        buffer, ones, pointers = np.empty((length, n_columns)), np.ones(length), np.arange(length + 1)
        # NumPy's error state belongs to a thread.
        with np.errstate(over="ignore", invalid="ignore"):
            for at, block in rows.blocks(start, stop, about):
                size = len(block)
                for offset in offsets:
                    block -= np.take(offset, codes[at], axis=0, out=buffer[:size], mode="clip")
                weight = ones[:size] if weights is None else weights[at]
                csc_matvecs(n_groups, size, n_columns, pointers[: size + 1], codes[at], weight, block.ravel(), sums.ravel())
                # np.dot, since the operator @ keeps other threads waiting where the matrices are narrow.
                scatter += np.dot(block.T, block if weights is None else block * weight[:, None])
        return sums, scatter

    # Each thread needs sums of its own: more of them than a share of the rows would cost more than they save.
    useful = min(len(rows) * n_columns // _NUMBERS_PER_THREAD, len(rows) // n_groups)
    totals = _in_threads(part, len(rows), useful)
    sums, scatter = totals[0]
    for more_sums, more_scatter in totals[1:]:
        sums += more_sums
        scatter += more_scatter
    return sums, (scatter + scatter.T) / 2


def _in_threads(part: Callable[[int, int], Any], n_rows: int, useful: int) -> list[Any]:
    """Return what `part` gives for each of up to `useful` runs of rows, on as many threads as BLAS may use.

    The number follows BLAS so that whatever limits the threads of scikit-learn (OMP_NUM_THREADS, threadpoolctl, joblib's
    workers) limits these; while they run, BLAS is kept to one thread in each.
    """
    if useful < 2:
        return [part(0, n_rows)]
    blas = _threadpools().select(user_api="blas")
    allowed = max((library["num_threads"] for library in blas.info()), default=os.cpu_count() or 1)
    n_threads = min(useful, allowed)
    # The limit on BLAS belongs to the process: two fits at a time must not set it and set it back across each other.
    if n_threads < 2 or not _LIMITING.acquire(blocking=False):
        return [part(0, n_rows)]
    cuts = np.linspace(0, n_rows, n_threads + 1).astype(int).tolist()
    try:
        with blas.limit(limits=1), ThreadPoolExecutor(n_threads) as pool:
            return list(pool.map(part, cuts[:-1], cuts[1:]))
    finally:
        _LIMITING.release()


@cache
def _threadpools() -> ThreadpoolController:
    """Return the controller of the loaded thread pools: finding them takes a millisecond, asking them does not."""
    return ThreadpoolController()
