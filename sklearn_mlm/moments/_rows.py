"""Rows (x, y): checked, and block by block in float64, in the order they came or group by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d

from .._inputs import column_names
from ._labels import NO_LABEL, factorize

# Blocks of this size stay in cache from one step to the next; below the least number of rows matrix products suffer.
_BLOCK_BYTES = 1 << 20
_MIN_BLOCK_ROWS = 256
NO_WEIGHT = "sample_weight is zero in every row: no row is left to fit. Give some rows a positive weight."


class Rows:
    """The rows z = (x, y) of the data, block by block in float64, whatever type, order or sparsity X has.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), list of columns, or None
    y : ndarray of shape (n_samples,)
    """

    def __init__(self, X: Any, y: np.ndarray):
        self.X = X.tocsr() if sparse.issparse(X) else X
        self.y = y
        self.n_columns = 1 + (0 if X is None else len(X) if isinstance(X, list) else X.shape[1])

    def __len__(self) -> int:
        return len(self.y)

    def read(self, rows: slice | np.ndarray, about: np.ndarray, out: np.ndarray) -> None:
        """Write the rows less `about`, of shape (n_columns,), into `out`, of shape (number of rows, n_columns)."""
        if isinstance(self.X, list):
            for at, column in enumerate(self.X):
                np.subtract(column[rows], about[at], out=out[:, at])
        elif self.X is not None:
            part = self.X[rows]
            np.subtract(part.toarray() if sparse.issparse(part) else part, about[:-1], out=out[:, :-1])
        np.subtract(self.y[rows], about[-1], out=out[:, -1])

    def at(self, positions: np.ndarray | slice) -> np.ndarray:
        """Return the rows at these positions."""
        out = np.empty((len(self.y[positions]), self.n_columns))
        self.read(positions, np.zeros(self.n_columns), out)
        return out

    def column(self, at: int) -> np.ndarray:
        """Return the values of a column, of shape (n_samples,); the last is y."""
        if at == self.n_columns - 1:
            return self.y
        if isinstance(self.X, list):
            return np.asarray(self.X[at])
        return self.X[:, [at]].toarray().ravel() if sparse.issparse(self.X) else np.asarray(self.X[:, at])

    def blocks(self, start: int, stop: int, about: np.ndarray, buffer: np.ndarray) -> Iterable[tuple[slice, np.ndarray]]:
        """Yield each block of rows between two positions, less `about`, in a buffer that the next block overwrites.

        The buffer has the number of rows of a block; columns that it has beside those of the rows stay as they are.
        """
        for first in range(start, stop, len(buffer)):
            rows = slice(first, min(first + len(buffer), stop))
            block = buffer[: rows.stop - first]
            self.read(rows, about, block[:, : self.n_columns])
            yield rows, block


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """Checked rows (x, y), the group of each, and their weights.

    Attributes
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), list of columns, or None
        None if there are no predictors.
    y : ndarray of shape (n_samples,)
    codes : ndarray of shape (n_samples,)
        The position of each row's group in `levels`.
    levels : pandas.Index of shape (n_groups,)
        The distinct labels.
    weights : ndarray of shape (n_samples,) or None
        All of them positive.
    feature_names : tuple of str or None
    outcome_name : str or None
    """

    X: Any
    y: np.ndarray
    codes: np.ndarray
    levels: pd.Index
    weights: np.ndarray | None = None
    feature_names: tuple[str, ...] | None = None
    outcome_name: str | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, which: np.ndarray) -> GroupedRows:
        """Return some of the rows, whose labels are their codes among all rows."""
        codes, used = factorize(self.codes[which])
        X = None if self.X is None else self.X[which]
        weights = None if self.weights is None else self.weights[which]
        return replace(self, X=X, y=self.y[which], codes=codes, levels=used, weights=weights)


def grouped_rows(
    X: Any,
    y: np.ndarray,
    groups: Any,
    sample_weight: Any = None,
    *,
    feature_names: tuple[str, ...] | None = None,
    outcome_name: str | None = None,
    some: bool = True,
) -> GroupedRows:
    """Return checked rows with the group of each, without rows of weight 0, which must not even decide which groups exist.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), list of columns, or None
    y : ndarray of shape (n_samples,)
    groups : array-like of shape (n_samples,) or None
        Group labels; None puts all rows into the one group of `NO_LABEL`.
    sample_weight : array-like of shape (n_samples,) or None, default=None
    feature_names : tuple of str or None, default=None
    outcome_name : str or None, default=None
    some : bool, default=True
        Whether to raise if all weights are 0.

    Returns
    -------
    rows : GroupedRows
    """
    weights = None if sample_weight is None else as_weights(sample_weight, len(y))
    if some and weights is not None and len(weights) and not weights.any():
        raise ValueError(NO_WEIGHT)
    if groups is None:
        codes, levels = np.zeros(len(y), dtype=np.intp), NO_LABEL[: len(y)]
    else:
        codes, levels = factorize(groups, len(y))
    kept = None if weights is None else weights > 0
    if weights is not None and kept is not None and not kept.all():
        _check_finite(X, y)
        if isinstance(X, list):
            X = [column[kept] for column in X]
        elif X is not None:
            X = (X.tocsr() if sparse.issparse(X) else X)[kept]
        codes, used = factorize(codes[kept])
        y, levels, weights = y[kept], levels.take(used.to_numpy()), weights[kept]
    return GroupedRows(X, y, codes, levels, weights, feature_names, outcome_name)


def block_rows(n_columns: int) -> int:
    """Return the number of rows of a block."""
    return max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (8 * max(1, n_columns)))


def blocks_of_equal_groups(codes: np.ndarray, n_groups: int, max_rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield groups of the same number of rows, as many at a time as `max_rows` allows, but at least one.

    Arrays of equal groups take one vectorised operation where groups of different sizes would take a loop.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        The group of each row, in [0, n_groups); every group has a row.
    n_groups : int
    max_rows : int

    Yields
    ------
    groups : ndarray of shape (n_of_block,)
        Codes of the groups of the block.
    positions : ndarray of shape (n_of_block, group size)
        Where their rows are.
    """
    sizes = np.bincount(codes, minlength=n_groups)
    by_size = np.argsort(sizes, kind="stable")
    rank = np.empty(n_groups, dtype=np.intp)
    rank[by_size] = np.arange(n_groups)
    order = np.argsort(rank[codes], kind="stable")
    distinct, first = np.unique(sizes[by_size], return_index=True)
    row = 0
    for size, start, stop in zip(distinct.tolist(), first, np.append(first[1:], n_groups), strict=True):
        step = max(1, max_rows // size)
        for at in range(start, stop, step):
            groups = by_size[at : min(at + step, stop)]
            yield groups, order[row : row + len(groups) * size].reshape(len(groups), size)
            row += len(groups) * size


def as_outcome(y: Any) -> np.ndarray:
    """Return y as an array of shape (n_samples,), of whatever numbers it holds."""
    if y is None:
        raise ValueError("y is None: pass the outcome, one number per row.")
    y = check_array(y, ensure_2d=False, ensure_min_samples=0, ensure_all_finite=False, input_name="y")
    return column_or_1d(y, warn=True)


def as_numbers(values: Any, name: str) -> Any:
    """Return values of a numeric type, where they are numbers: check_array lets objects and dates pass."""
    if values.dtype.kind in "biuf":
        return values
    if values.dtype.kind != "O":
        raise ValueError(f"{name} must hold numbers; found {values.dtype}. Turn the values into numbers first.")
    if len(values) and isinstance(values.flat[0], str):
        raise ValueError(
            f"{name} must hold numbers; found strings, such as {values.flat[0]!r}. Turn them into numbers first."
        )
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


def raise_not_finite(X: Any, y: np.ndarray) -> None:
    """Raise scikit-learn's error for NaN and infinity, or one for finite values whose squares overflow."""
    _check_finite(X, y)
    raise ValueError("X or y holds values so large that their squares overflow a double (above 1e150). Rescale the column.")


def _check_finite(X: Any, y: np.ndarray) -> None:
    """Raise scikit-learn's error for NaN and infinity."""
    for name, values in (("X", X), ("y", y)):
        for part in values if isinstance(values, list) else [values]:
            if part is not None:
                assert_all_finite(part, input_name=name)


def check_containers(**arguments: Any) -> None:
    """Raise if arguments say by a mask or by their index that their rows are not what they look like.

    Rows are paired by position, as everywhere in scikit-learn. Two pandas arguments that hold the same index in different
    orders are refused, because one of them was sorted or merged and the other was not.

    Parameters
    ----------
    **arguments
        By name; None, and what is no container, is left alone.

    Raises
    ------
    ValueError
        For a masked value outside `groups`, and for two orders of one index.
    """
    indexes: dict[str, pd.Index] = {}
    for name, values in arguments.items():
        if name != "groups" and isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            raise ValueError(
                f"{name} is a masked array with {np.ma.count_masked(values)} masked value(s), which are missing values. "
                "Drop these rows, or impute the values."
            )
        if not isinstance(values, pd.DataFrame | pd.Series):
            continue
        for other, index in indexes.items():
            if _reordered(index, values.index):
                raise ValueError(
                    f"{other} and {name} hold the same index in different orders, so that pairing their rows by position "
                    f"would mix them up. Bring both into one order, as by {name}.loc[{other}.index] or reindex; to pair "
                    "them by position on purpose, pass to_numpy() of one."
                )
        indexes[name] = values.index


def _reordered(index: pd.Index, other: pd.Index) -> bool:
    """Return whether two indexes hold the same labels in different orders."""
    numbers = [isinstance(one.dtype, np.dtype) and one.dtype.kind in "iuf" for one in (index, other)]
    if index is other or len(index) != len(other) or numbers[0] != numbers[1] or index.equals(other):
        return False
    # Sooner found than hashed.
    if all(numbers) and (index.min() != other.min() or index.max() != other.max()):
        return False
    try:
        a, b = index_hashes(index), index_hashes(other)
    except (TypeError, ValueError):
        # Labels of many types, which pandas cannot hash and Python may.
        try:
            return Counter(index) == Counter(other) and list(index) != list(other)
        except TypeError:
            return False
    return bool(a.sum(dtype=np.uint64) == b.sum(dtype=np.uint64)) and not np.array_equal(a, b)


def index_hashes(index: pd.Index) -> np.ndarray:
    """Return a 64-bit hash of each label; their sum does not depend on the order of the labels."""
    return pd.util.hash_pandas_object(index, index=False).to_numpy()


def checked_arrays(X: Any, y: Any) -> tuple[tuple[str, ...] | None, Any, np.ndarray]:
    """Return names of columns, predictors and outcome, checked but for values that are not finite."""
    names = None
    if X is not None:
        columns = column_names(X)
        names = tuple(columns) if columns is not None and all(isinstance(name, str) for name in columns) else None
        X = check_array(X, accept_sparse=["csr", "csc"], ensure_all_finite=False, ensure_min_samples=0)
    y = as_outcome(y)
    if X is not None:
        check_consistent_length(X, y)
    return names, X, y


def predictors_as_numbers(X: Any) -> Any:
    """Return predictors, in a matrix or in columns, of a numeric type."""
    if isinstance(X, list):
        return [as_numbers(column, "X") for column in X]
    return None if X is None else as_numbers(X, "X")


@contextmanager
def in_rows(first: int, n_rows: int) -> Iterator[None]:
    """Say in errors among which of all rows they are."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"In rows {first} to {first + n_rows - 1}, counted from 0: {error}") from error
