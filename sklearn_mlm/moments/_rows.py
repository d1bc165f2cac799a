"""`GroupedRows`: checked rows (x, y) and their groups. `Rows`: the same numbers, read in blocks of float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Real
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d

from .._inputs import column_names
from ._complaints import Column, columns_to_check, explaining, raise_not_finite
from ._labels import NO_LABEL, factorize

# Blocks of this size stay in cache from one step to the next; matrix products of fewer rows than the minimum are slow.
_BLOCK_BYTES = 1 << 20
_MIN_BLOCK_ROWS = 256
NO_WEIGHT = "sample_weight is zero in every row, so that no row is left to fit. Give some rows a positive weight."


class Rows:
    """Reads rows z = (x, y) in blocks of float64, for sums over them; `GroupedRows` stores their groups and weights.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), list of columns, or None
        Predictors, of any numeric type.
    y : ndarray of shape (n_samples,)
        Outcome.
    feature_names : tuple of str or None, default=None
        Names of the columns of X, for errors.
    outcome_name : str or None, default=None
        Name of y.
    """

    def __init__(self, X: Any, y: np.ndarray, feature_names: tuple[str, ...] | None = None, outcome_name: str | None = None):
        # No predictors are an empty list of columns.
        X = [] if X is None else X
        self.X = X.tocsr() if sparse.issparse(X) else X
        self.y = y
        self.n_columns = 1 + (len(X) if isinstance(X, list) else X.shape[1])
        self._names = feature_names, outcome_name

    def __len__(self) -> int:
        return len(self.y)

    def columns_to_check(self) -> Iterator[Column]:
        """Yield the columns that may be the reason why the rows cannot be read, for an error about them."""
        feature_names, outcome_name = self._names
        return columns_to_check(self.X, self.y, feature_names=feature_names, outcome_name=outcome_name)

    def read(self, rows: slice | np.ndarray, about: np.ndarray, out: np.ndarray) -> None:
        """Subtract `about`, of shape (n_columns,), from some rows and write them to `out`, of shape (n_rows, n_columns)."""
        if isinstance(self.X, list):
            for at, column in enumerate(self.X):
                np.subtract(column[rows], about[at], out=out[:, at])
        else:
            part = self.X[rows]
            np.subtract(part.toarray() if sparse.issparse(part) else part, about[:-1], out=out[:, :-1])
        np.subtract(self.y[rows], about[-1], out=out[:, -1])

    def at(self, positions: np.ndarray | slice) -> np.ndarray:
        """Return the rows at some positions, of shape (n_rows, n_columns)."""
        out = np.empty((len(self.y[positions]), self.n_columns))
        self.read(positions, np.zeros(self.n_columns), out)
        return out

    def column(self, at: int) -> np.ndarray:
        """Return a column, of shape (n_samples,); the last one is y."""
        if at == self.n_columns - 1:
            return self.y
        if isinstance(self.X, list):
            return np.asarray(self.X[at])
        return self.X[:, [at]].toarray().ravel() if sparse.issparse(self.X) else np.asarray(self.X[:, at])

    def blocks(self, start: int, stop: int, about: np.ndarray, buffer: np.ndarray) -> Iterable[tuple[slice, np.ndarray]]:
        """Yield the positions and the rows, less `about`, of each block from `start` to `stop`.

        A block is as long as the buffer, which holds it until the next block overwrites it. Additional columns of the
        buffer keep their values.
        """
        for first in range(start, stop, len(buffer)):
            rows = slice(first, min(first + len(buffer), stop))
            block = buffer[: rows.stop - first]
            self.read(rows, about, block[:, : self.n_columns])
            yield rows, block


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """Stores checked rows (x, y) with the group and the weight of each, from which moments are made; `Rows` reads them.

    Attributes
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), list of columns, or None
        Predictors; None if there are none.
    y : ndarray of shape (n_samples,)
        Outcome.
    codes : ndarray of shape (n_samples,)
        The position of each row's group in `levels`.
    levels : pandas.Index of shape (n_groups,)
        The distinct labels.
    weights : ndarray of shape (n_samples,) or None
        Row weights, all of them positive; None if every row has weight 1.
    feature_names : tuple of str or None
        Names of the columns of X.
    outcome_name : str or None
        Name of y.
    group_position : int or None
        Position at which the X that was passed had the group column, so that errors count columns as its owner does.
    first_row : int
        Number of the first row, if the rows are part of a stream, so that errors count rows as the stream does.
    whole : GroupedRows or None
        The rows that these were taken from, so that errors count rows as their owner does.
    """

    X: Any
    y: np.ndarray
    codes: np.ndarray
    levels: pd.Index
    weights: np.ndarray | None = None
    feature_names: tuple[str, ...] | None = None
    outcome_name: str | None = None
    group_position: int | None = None
    first_row: int = 0
    whole: GroupedRows | None = None

    def __len__(self) -> int:
        return len(self.y)

    def columns_to_check(self) -> Iterator[Column]:
        """Yield the columns that may be the reason why the rows cannot be read, for an error about them."""
        rows = self if self.whole is None else self.whole
        return columns_to_check(
            rows.X,
            rows.y,
            feature_names=rows.feature_names,
            outcome_name=rows.outcome_name,
            group_position=rows.group_position,
        )

    def without_groups(self) -> GroupedRows:
        """Return the rows in the one group of `NO_LABEL`."""
        return replace(self, codes=np.zeros(len(self), dtype=np.intp), levels=NO_LABEL[: len(self)])

    def take(self, which: np.ndarray) -> GroupedRows:
        """Return the rows that `which` selects; their levels are the codes that the groups have here."""
        codes, used = factorize(self.codes[which])
        X = None if self.X is None else self.X[which]
        weights = None if self.weights is None else self.weights[which]
        return replace(self, X=X, y=self.y[which], codes=codes, levels=used, weights=weights, whole=self.whole or self)


def grouped_rows(
    X: Any,
    y: np.ndarray,
    groups: ArrayLike | None,
    sample_weight: ArrayLike | None = None,
    *,
    feature_names: tuple[str, ...] | None = None,
    outcome_name: str | None = None,
    group_position: int | None = None,
    first_row: int = 0,
    some: bool = True,
) -> GroupedRows:
    """Return checked rows with the group of each, without rows of weight 0: they must not even decide which groups exist.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), list of columns, or None
        Predictors.
    y : ndarray of shape (n_samples,)
        Outcome.
    groups : array-like of shape (n_samples,) or None
        Group labels; None puts all rows into the one group of `NO_LABEL`.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Row weights.
    feature_names : tuple of str or None, default=None
        Names of the columns of X.
    outcome_name : str or None, default=None
        Name of y.
    group_position : int or None, default=None
        Position at which X had the group column.
    first_row : int, default=0
        Number of the first row, if the rows are part of a stream.
    some : bool, default=True
        Whether to raise an error if all weights are 0.

    Returns
    -------
    rows : GroupedRows
        The rows of positive weight, and the groups that they have.
    """
    weights = None if sample_weight is None else as_weights(sample_weight, len(y))
    if some and weights is not None and len(weights) and not weights.any():
        raise ValueError(NO_WEIGHT)
    if groups is None:
        codes, levels = np.zeros(len(y), dtype=np.intp), NO_LABEL[: len(y)]
    else:
        codes, levels = factorize(groups, len(y))
    rows = GroupedRows(X, y, codes, levels, weights, feature_names, outcome_name, group_position, first_row)
    if weights is not None and not weights.all():
        kept = weights > 0
        _check_finite(rows)
        if isinstance(X, list):
            X = [column[kept] for column in X]
        elif X is not None:
            X = (X.tocsr() if sparse.issparse(X) else X)[kept]
        codes, used = factorize(codes[kept])
        levels = levels.take(used.to_numpy())
        rows = replace(rows, X=X, y=y[kept], codes=codes, levels=levels, weights=weights[kept], whole=rows)
    return rows


def block_rows(n_columns: int) -> int:
    """Return how many rows of this many columns make a block."""
    return max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (8 * max(1, n_columns)))


def blocks_of_equal_groups(codes: np.ndarray, n_groups: int, max_rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of groups that have the same number of rows, so that one vectorised operation serves a block.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        The group of each row, in [0, n_groups); every group has a row.
    n_groups : int
        Number of groups.
    max_rows : int
        Number of rows of a block at most, unless a single group has more.

    Yields
    ------
    groups : ndarray of shape (n_in_block,)
        Codes of the groups of the block.
    positions : ndarray of shape (n_in_block, group_size)
        Positions of their rows.
    """
    sizes = np.bincount(codes, minlength=n_groups)
    order, first = rows_by_group(codes, n_groups)
    by_size = np.argsort(sizes, kind="stable")
    edges = np.flatnonzero(np.diff(sizes[by_size], prepend=-1, append=-1)).tolist()
    for start, stop in pairwise(edges):
        size = int(sizes[by_size[start]])
        step = max(1, max_rows // size)
        for at in range(start, stop, step):
            groups = by_size[at : min(at + step, stop)]
            yield groups, order[first[groups][:, None] + np.arange(size)]


def rows_by_group(codes: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the rows group by group, each group's in ascending order, and where each group begins.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        The group of each row, in [0, n_groups).
    n_groups : int
        Number of groups.

    Returns
    -------
    order : ndarray of shape (n_samples,)
        Positions of the rows.
    first : ndarray of shape (n_groups + 1,)
        Positions in `order` at which the groups begin, and its length.
    """
    n_rows = len(codes)
    # SciPy transposes a sparse matrix by counting, which takes a time proportional to the number of rows.
    index_type = np.int32 if n_rows <= np.iinfo(np.int32).max else np.int64
    entries = np.empty(n_rows, dtype=np.int8), codes.astype(index_type), np.arange(n_rows + 1, dtype=index_type)
    by_group = sparse.csr_array(entries, shape=(n_rows, n_groups)).tocsc()
    return by_group.indices, by_group.indptr


def as_outcome(y: ArrayLike | None) -> np.ndarray:
    """Return y as an array of shape (n_samples,), of the numeric type that it has."""
    if y is None:
        raise ValueError("y is None: pass the outcome, one number per row.")
    with explaining(y=y):
        y = check_array(y, ensure_2d=False, ensure_min_samples=0, ensure_all_finite=False, input_name="y")
        return np.asarray(as_numbers(column_or_1d(y, warn=True), "y"))


def as_numbers(values: Any, name: str) -> Any:
    """Return an array or sparse matrix in a numeric type, or raise: `check_array` lets objects and dates pass."""
    if values.dtype.kind in "biuf":
        return values
    found = str(values.dtype)
    first = values.flat[0] if len(values) else None
    if values.dtype.kind == "O" and not isinstance(first, str):
        return values.astype(np.float64)
    if isinstance(first, str):
        found = f"strings, such as {str(first)!r}"
    raise ValueError(f"{name} must hold numbers; found {found}. Turn the values into numbers first.")


def as_weights(sample_weight: ArrayLike, n_samples: int) -> np.ndarray:
    """Return row weights as an array of float64 of shape (n_samples,); a number is the weight of every row."""
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, float(sample_weight))
    with explaining(sample_weight=sample_weight):
        if getattr(getattr(sample_weight, "dtype", None), "kind", "f") in "mM":
            raise ValueError("sample_weight must hold numbers.")  # NumPy would turn dates into numbers
        weights = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="sample_weight"
        )
    if weights.shape != (n_samples,):
        raise ValueError(
            f"sample_weight must hold one weight per row; found sample_weight of shape {weights.shape} for {n_samples} rows."
        )
    if n_samples and weights.min() < 0:
        raise ValueError(
            f"sample_weight must not be negative; found {float(weights.min())!r} in row {int(weights.argmin())}. Give a "
            "row the weight 0 to leave it out."
        )
    return np.asarray(weights)


def finite_numbers(values: Any, name: str) -> Any:
    """Return an array or sparse matrix that `check_array` found finite in a numeric type, or raise."""
    numbers = as_numbers(values, name)
    if numbers is not values:
        assert_all_finite(numbers, input_name=name)
    return numbers


def _check_finite(rows: GroupedRows) -> None:
    """Raise an error if X or y holds NaN or infinity."""
    parts = rows.X if isinstance(rows.X, list) else [rows.X]
    try:
        for part in (*parts, rows.y):
            if part is not None:
                assert_all_finite(part)
    except ValueError:
        raise_not_finite(rows.columns_to_check(), rows.first_row)


def check_containers(**arguments: object) -> None:
    """Raise a ValueError if an argument holds no rows, or if its rows are not what their values and positions suggest.

    Rows are paired by position, as everywhere in scikit-learn. Two pandas arguments that hold the same index in different
    orders are refused, because one of them was sorted or merged and the other was not.

    Parameters
    ----------
    **arguments : object
        Arguments by name. Strings, lazy frames, masked arrays and pandas containers are checked; everything else passes.

    Raises
    ------
    ValueError
        If an argument other than `groups` is a string or has masked values, if an argument is a lazy frame, or if two
        arguments hold one index in two orders.
    """
    indexes: dict[str, pd.Index] = {}
    for name, values in arguments.items():
        if values is None or type(values) is np.ndarray:
            continue
        if isinstance(values, str) and name != "groups":
            _refuse_string(name, values)
        if hasattr(type(values), "collect") and hasattr(type(values), "lazy"):
            raise ValueError(
                f"{name} is a lazy frame, which holds no rows yet. Collect the lazy frame first: {name}.collect()."
            )
        if name != "groups" and isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            raise ValueError(
                f"{name} is a masked array with {np.ma.getmaskarray(values).sum()} masked value(s). Drop or impute them."
            )
        if not isinstance(values, pd.DataFrame | pd.Series):
            continue
        for other, index in indexes.items():
            if _reordered(index, values.index):
                raise ValueError(
                    f"{other} and {name} hold the same index in different orders, so that pairing their rows by position "
                    f"would mix them up. Bring both into one order, for example by {name}.loc[{other}.index], or pass "
                    "to_numpy() of one to pair them by position on purpose."
                )
        indexes[name] = values.index


def _refuse_string(name: str, text: str) -> NoReturn:
    """Raise an error for a formula, or for the name of a column in place of its values."""
    if name == "X":
        raise ValueError(
            f"X must hold the predictors, a column for each; found the string {text!r}. Formulas are not taken: pass the "
            'columns, as in fit(data[["x"]], data["y"], groups=data["g"]).'
        )
    raise ValueError(f"{name} must hold one number per row; found the string {text!r}. Pass the column: data[{text!r}].")


def _reordered(index: pd.Index, other: pd.Index) -> bool:
    """Return whether two indexes hold the same labels in different orders."""
    numbers = [isinstance(labels.dtype, np.dtype) and labels.dtype.kind in "iuf" for labels in (index, other)]
    if index is other or len(index) != len(other) or numbers[0] != numbers[1] or index.equals(other):
        return False
    # This is cheaper than hashing.
    if all(numbers) and (index.min() != other.min() or index.max() != other.max()):
        return False
    try:
        a, b = index_hashes(index), index_hashes(other)
    except (TypeError, ValueError):
        # Python may hash labels of mixed types that pandas cannot.
        try:
            return Counter(index) == Counter(other) and list(index) != list(other)
        except TypeError:
            return False
    return bool(a.sum(dtype=np.uint64) == b.sum(dtype=np.uint64)) and not np.array_equal(a, b)


def index_hashes(index: pd.Index) -> np.ndarray:
    """Return a 64-bit hash of each label; their sum does not depend on the order of the labels."""
    return pd.util.hash_pandas_object(index, index=False).to_numpy()


def checked_arrays(X: Any, y: ArrayLike | None) -> tuple[tuple[str, ...] | None, Any, np.ndarray]:
    """Return column names, predictors and outcome, checked except that values may be NaN or infinite."""
    names = None
    if X is not None:
        columns = column_names(X)
        names = tuple(columns) if columns is not None and all(isinstance(name, str) for name in columns) else None
        with explaining(X, y):
            X = check_array(X, accept_sparse=["csr", "csc"], ensure_all_finite=False, ensure_min_samples=0)
            X = as_numbers(X, "X")
    y = as_outcome(y)
    if X is not None:
        check_consistent_length(X, y)
    return names, X, y


def predictors_as_numbers(X: Any) -> Any:
    """Return predictors (a matrix, a list of columns, or None) in a numeric type."""
    if isinstance(X, list):
        return [as_numbers(column, "X") for column in X]
    return None if X is None else as_numbers(X, "X")


@contextmanager
def in_rows(first: int, n_rows: int) -> Iterator[None]:
    """Prefix a ValueError of the block with the numbers of its rows in the stream."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"In rows {first} to {first + n_rows - 1}, counted from 0: {error}") from error
