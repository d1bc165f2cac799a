"""Messages about values that are not finite numbers: which column, how many rows, the first of them, and what to do.

Nothing here runs as long as the rows are good. Once they could not be read, the columns are searched for the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from reprlib import repr as short_repr
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
from scipy import sparse

from .._inputs import column_names, name_of
from ._labels import as_array

ORDER_OF_ARGUMENTS = "the order of the arguments: fit(X, y, groups)"
# The squares of larger values may overflow when they are summed.
_LARGEST = 1e150
_STRINGS, _DATES, _DURATIONS, _OBJECTS = "strings", "dates", "time differences", "objects"
_MISSING, _INFINITE, _LARGE = "missing", "infinite", "large"
# The kinds of values that are reported together, from the worst on, and what is said of one or several further columns.
_ALSO = {
    (_STRINGS, _DATES, _DURATIONS, _OBJECTS): ("does not hold numbers either", "do not hold numbers either"),
    (_MISSING,): ("has missing values too", "have missing values too"),
    (_INFINITE,): ("holds infinity too", "hold infinity too"),
    (_LARGE,): ("holds such values too", "hold such values too"),
}
# What to do about a kind of values, in general or in one argument.
_ADVICE: dict[str | tuple[str, str], str] = {
    (_STRINGS, "X"): 'Turn categories into columns of 0 and 1 with OneHotEncoder(drop="first", sparse_output=False) in a '
    "pipeline, or with pandas.get_dummies(X, drop_first=True). Turn text that holds numbers into numbers with "
    "pandas.to_numeric.",
    (_STRINGS, "y"): f"Check {ORDER_OF_ARGUMENTS}. If y is the outcome, turn it into numbers first.",
    _STRINGS: "Turn them into numbers first.",
    _DATES: "Turn dates into numbers first, for example into days since the first date.",
    _DURATIONS: "Turn time differences into numbers first, for example into days.",
    _OBJECTS: "Turn them into numbers first.",
    (_MISSING, "y"): "Drop these rows from all arguments.",
    (_MISSING, "sample_weight"): "Drop these rows, or give them a weight: 0 leaves a row out.",
    _MISSING: "Drop these rows, or impute the values: put sklearn.impute.SimpleImputer before the model in a pipeline.",
    _INFINITE: "Divisions by 0 and logarithms of 0 make such values: correct them, or drop these rows.",
    _LARGE: "Rescale the column.",
}


class Column(NamedTuple):
    """A column that may be the reason why rows cannot be read.

    Attributes
    ----------
    argument : {"X", "y", "sample_weight"}
        The argument that holds the column.
    subject : str
        What a sentence about the column begins with, such as "Column 2 of X".
    values : array-like of shape (n_samples,)
        The values, in the container that they came in.
    counted : bool
        Whether the subject gives the position of the column.
    """

    argument: str
    subject: str
    values: Any
    counted: bool = False


class _Fault(NamedTuple):
    """What is wrong with a column: a kind of values, the number of rows that have them, the first one, and its value."""

    kind: str
    n_bad: int
    n_rows: int
    first: int
    example: Any


def columns_to_check(
    X: Any = None,
    y: Any = None,
    sample_weight: Any = None,
    *,
    feature_names: tuple[str, ...] | None = None,
    outcome_name: str | None = None,
    group_position: int | None = None,
) -> Iterator[Column]:
    """Yield the columns of the arguments that may hold anything but numbers of ordinary size.

    Parameters
    ----------
    X : array, sparse matrix, data frame or table of shape (n_samples, n_features), list of columns, or None, default=None
        Predictors, without the group column.
    y, sample_weight : array-like of shape (n_samples,) or None, default=None
        Outcome and row weights.
    feature_names : tuple of str or None, default=None
        Names of the columns of X; None takes those that X has.
    outcome_name : str or None, default=None
        Name of y; None takes the one that y has.
    group_position : int or None, default=None
        Position at which X had the group column; columns without names are counted with it.

    Yields
    ------
    column : Column
        A column, those of X first.
    """
    found = column_names(X)
    if feature_names is None and found is not None and all(isinstance(name, str) for name in found):
        feature_names = tuple(found)
    for at, values in _suspects(X):
        if feature_names is not None:
            yield Column("X", f"Column {feature_names[at]!r} of X", values)
        else:
            position = at if group_position is None or at < group_position else at + 1
            yield Column("X", f"Column {position} of X", values, counted=True)
    for argument, values, name in (("y", y, outcome_name), ("sample_weight", sample_weight, None)):
        name = name or name_of(values)
        subject = argument if name in (None, argument) else f"{argument} ({name!r})"
        if len(getattr(values, "shape", ())) == 2:
            yield from (Column(argument, subject, column) for _, column in _suspects(values) if values.shape[1] == 1)
        elif values is not None:
            yield Column(argument, subject, values)


def _suspects(X: Any) -> Iterator[tuple[int, Any]]:
    """Yield the position and the values of each column of X that may hold anything but numbers of ordinary size."""
    names = column_names(X)
    if X is None or isinstance(X, list):
        yield from enumerate(X or [])
    elif sparse.issparse(X):
        entries = X.tocoo()
        for at in np.unique(entries.col[~(np.abs(entries.data) <= _LARGEST)]).tolist():
            yield at, entries.tocsc()[:, [at]].toarray().ravel()
    elif hasattr(X, "iloc"):
        yield from ((at, X.iloc[:, at]) for at in range(X.shape[1]))
    elif hasattr(X, "column_names"):
        yield from enumerate(X.columns)
    elif names is not None:
        yield from ((at, X[name]) for at, name in enumerate(names))
    else:
        values = np.asarray(X)
        usual = values.dtype.kind in "biuf" and (np.abs(values.astype(np.float64)) <= _LARGEST).all(axis=0)
        yield from ((at, values[:, at]) for at in np.flatnonzero(~np.broadcast_to(usual, values.shape[1])).tolist())


def complaint(
    columns: Iterable[Column], error: Exception | None = None, *, first_row: int = 0, large: bool = False
) -> Exception | None:
    """Return an error that names the first bad column; None if no column is bad.

    Parameters
    ----------
    columns : iterable of Column
        The columns to search.
    error : Exception or None, default=None
        The error that the rows caused.
    first_row : int, default=0
        Number of the first row, if the rows are part of a stream.
    large : bool, default=False
        Whether values whose squares overflow are bad too.

    Returns
    -------
    complaint : ValueError, TypeError or None
        A TypeError only in place of another, and only for objects that are not strings, dates or time differences.
    """
    bad = [(column, fault) for column in columns if (fault := _fault_of(column.values)) is not None]
    for kinds in _ALSO:
        same = [(column, fault) for column, fault in bad if fault.kind in kinds]
        if same and (large or _LARGE not in kinds):
            (column, fault), *others = same
            advice = _ADVICE.get((fault.kind, column.argument)) or _ADVICE[fault.kind]
            message = f"{_finding(column, fault, first_row)}{_also(column, [other for other, _ in others], kinds)}. {advice}"
            return (TypeError if fault.kind == _OBJECTS and isinstance(error, TypeError) else ValueError)(message)
    return None


def _fault_of(column: Any) -> _Fault | None:
    """Return what is wrong with the values of a column: anything but numbers first, then what is missing or too large."""
    values = pd.Series(as_array(column))
    missing = values.isna().to_numpy()
    if pd.api.types.is_complex_dtype(values.dtype):
        return None
    if not pd.api.types.is_numeric_dtype(values.dtype):
        objects = values.to_numpy(dtype=object)
        for at in np.flatnonzero(~missing).tolist():
            kind = _kind_of(objects[at])
            if kind is not None:
                return _Fault(kind, 1, len(values), at, objects[at])
        values = pd.Series(np.where(missing, np.nan, objects).astype(np.float64))
    numbers = np.abs(values.to_numpy(dtype=np.float64, na_value=np.nan))
    for kind, found in ((_MISSING, missing), (_INFINITE, np.isinf(numbers)), (_LARGE, numbers > _LARGEST)):
        if found.any():
            first = int(found.argmax())
            return _Fault(kind, int(found.sum()), len(values), first, values.iloc[first])
    return None


def _kind_of(value: Any) -> str | None:
    """Return what a value is if it is not a number; None for numbers, and for complex ones, of which others complain."""
    if isinstance(value, timedelta | np.timedelta64):
        return _DURATIONS
    if isinstance(value, date | np.datetime64 | pd.Period):
        return _DATES
    try:
        float(value)
    except (TypeError, ValueError):
        if isinstance(value, complex | np.complexfloating):
            return None
        return _STRINGS if isinstance(value, str | bytes) else _OBJECTS
    return None


def _finding(column: Column, fault: _Fault, first_row: int = 0) -> str:
    """Return what was found in a column and where, as a sentence without its end."""
    subject, row = column.subject, fault.first + first_row
    counted = "columns and rows are counted from 0" if column.counted else "rows are counted from 0"
    if fault.kind == _MISSING:
        return (
            f"{subject} has {fault.n_bad} missing value(s) (NaN) in {fault.n_rows} rows, the first in row {row} ({counted})"
        )
    if fault.kind == _INFINITE:
        return f"{subject} holds infinity in {fault.n_bad} of {fault.n_rows} rows, the first in row {row} ({counted})"
    if fault.kind == _LARGE:
        return (
            f"{subject} holds values so large that their squares overflow a double (above 1e150), such as "
            f"{fault.example:g} in row {row} ({counted})"
        )
    # NumPy shows its strings as np.str_('text').
    value = str(fault.example) if isinstance(fault.example, str) else fault.example
    shown = short_repr(value) if fault.kind in (_STRINGS, _OBJECTS) else str(value)
    kind = type(fault.example).__name__
    found = f"objects of type {kind}" if fault.kind == _OBJECTS else fault.kind
    # The words of Python, for which scikit-learn's checks of estimators look.
    why = f": float() argument must be a string or a real number, not {kind!r}" if fault.kind == _OBJECTS else ""
    return f"{subject} must hold numbers; found {found}, such as {shown} in row {row} ({counted}){why}"


def _also(column: Column, others: list[Column], kinds: tuple[str, ...]) -> str:
    """Return a clause that counts the other columns with values of the same kinds; empty if there are none."""
    of_x = sum(other.argument == "X" for other in others)
    found = [other.subject for other in others if other.argument != "X"]
    if of_x:
        found.insert(0, f"{of_x} {'other ' if column.argument == 'X' else ''}column{'s' if of_x > 1 else ''} of X")
    if not found:
        return ""
    single, several = _ALSO[kinds]
    return f"; {' and '.join(found)} {several if len(found) > 1 or of_x > 1 else single}"


@contextmanager
def explaining(
    X: Any = None, y: Any = None, sample_weight: Any = None, *, group_position: int | None = None
) -> Iterator[None]:
    """Replace an error of the block by a better one, if there is one."""
    try:
        yield
    except (TypeError, ValueError) as error:
        better = _explanation(error, X, y, sample_weight, group_position=group_position)
        if better is None:
            raise
        raise better from None


def _explanation(
    error: Exception,
    X: Any = None,
    y: Any = None,
    sample_weight: Any = None,
    *,
    group_position: int | None = None,
) -> Exception | None:
    """Return a better error about arguments as the user passed them; None if no column is bad.

    Parameters
    ----------
    error : Exception
        The error that the rows caused.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None, default=None
        Predictors, without the group column.
    y, sample_weight : array-like of shape (n_samples,) or None, default=None
        Outcome and row weights.
    group_position : int or None, default=None
        Position at which X had the group column.

    Returns
    -------
    explanation : ValueError, TypeError or None
        The better error.
    """
    # Other columns than those of `fit` are a fault of the whole frame, whatever the columns hold.
    if "feature names" in str(error).lower():
        return None
    # If the search itself fails, the first error is the better one.
    with suppress(Exception):
        if isinstance(X, list | tuple):
            # NumPy would turn the numbers beside a string into strings.
            X = np.array(X, dtype=object)
        columns = columns_to_check(X, y, sample_weight, group_position=group_position)
        found = _about_shape(X, y) or complaint(columns, error)
        if found is None and isinstance(X, np.ndarray) and X.dtype.kind in "US" and X.size:
            # scikit-learn converts text in arrays of objects alone.
            text = Column("X", "Column 0 of X", None, counted=True), _Fault(_STRINGS, 1, len(X), 0, X[0, 0])
            return ValueError(f"{_finding(*text)}. {_ADVICE[_STRINGS, 'X']}")
        return found
    return None


def _about_shape(X: Any, y: Any) -> ValueError | None:
    """Return an error if X is a series, or has fewer dimensions than y."""
    if hasattr(type(X), "to_frame") and column_names(X) is None:
        name = name_of(X)
        return ValueError(
            "X must have two dimensions, with a column for each predictor; found a series"
            f"{'' if name is None else f' ({name!r})'}. If it is the only predictor, pass X.to_frame(). Otherwise check "
            f"{ORDER_OF_ARGUMENTS}."
        )
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1 and X.size and isinstance(X[0], list | tuple):
        return ValueError("X must have rows of one length, with a column for each predictor; found rows of several lengths.")
    if X is not None and y is not None and np.ndim(X) == 1 and np.ndim(y) == 2:
        return ValueError(f"X has one dimension and y has two. Check {ORDER_OF_ARGUMENTS}.")
    return None


def raise_not_finite(columns: Iterable[Column], first_row: int = 0) -> NoReturn:
    """Raise an error for the reason why moments are not finite: NaN, infinity, or values whose squares overflow."""
    found = complaint(columns, first_row=first_row, large=True)
    raise found or ValueError(
        "X or y holds values so large that their squares overflow a double (above 1e150). Rescale the column."
    )
