"""Columns of a data frame of any library, as numbers, truth values or factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from .._inputs import column_names
from ..moments._labels import as_array
from ..moments._rows import check_containers

_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
_NO_CODE = -1


@dataclass(frozen=True, eq=False)
class DataColumn:
    """Stores a column of the data.

    Attributes
    ----------
    name : str
        Its name.
    kind : {"number", "logical", "factor"}
        What its values are.
    entries : ndarray of shape (n_samples,)
        Numbers as float64, with NaN for a missing one; otherwise positions in `levels`, with -1 for a missing value.
    levels : pandas.Index or None
        The levels: those of a categorical column in its order, others sorted; False and True of truth values; None for
        numbers.
    ordered : bool
        Whether the levels of a factor are ordered.
    text : bool
        Whether the levels of a factor are those of text, and not categories.
    """

    name: str
    kind: Literal["number", "logical", "factor"]
    entries: np.ndarray
    levels: pd.Index | None = None
    ordered: bool = False
    text: bool = False

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def missing(self) -> np.ndarray:
        """Whether the value of each row is missing."""
        return np.asarray(np.isnan(self.entries) if self.levels is None else self.entries == _NO_CODE)

    def take(self, rows: np.ndarray) -> DataColumn:
        """Return some of the rows."""
        return replace(self, entries=self.entries[rows])

    def objects(self) -> np.ndarray:
        """Return the values as a function of a formula gets them: numbers, truth values, or levels."""
        if self.levels is None:
            return self.entries
        return self.entries == 1 if self.kind == "logical" else np.asarray(self.levels.to_numpy()[self.entries])


def frame_of(data: Any) -> Any:
    """Return data whose columns can be taken by name.

    Raises
    ------
    TypeError
        If the data are no frame.
    """
    if isinstance(data, Mapping):
        try:
            data = pd.DataFrame(data)
        except ValueError as error:
            raise ValueError(f"data is a dictionary that is no table: {error}.") from error
    check_containers(data=data)
    if column_names(data) is None:
        raise TypeError(
            f"data must be a data frame, whose columns the formula names; found {type(data).__name__}. "
            "pandas.DataFrame(array, columns=[...]) makes one of an array."
        )
    return data


def names_of_frame(data: Any) -> list[str]:
    """Return the names of the columns of a frame, as a formula writes them."""
    return [str(name) for name in column_names(data)]  # type: ignore[union-attr]


def native_column(data: Any, name: str) -> Any:
    """Return the column of a frame that has a name; raise if several have it."""
    places = [at for at, other in enumerate(names_of_frame(data)) if other == name]
    if len(places) > 1:
        raise ValueError(f"data has several columns with the name {name!r}: rename all but one of them.")
    # The name may be a number.
    return data[list(column_names(data))[places[0]]]  # type: ignore[arg-type]


def read_column(data: Any, name: str) -> DataColumn:
    """Return a column of a frame.

    Raises
    ------
    ValueError
        If its values are neither numbers nor truth values nor text nor categories.
    """
    column = native_column(data, name)
    if not isinstance(column, pd.Series):
        column = _pandas_of(column)
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return DataColumn(name, "factor", column.cat.codes.to_numpy(dtype=np.intp), dtype.categories, bool(dtype.ordered))
    if pd.api.types.is_bool_dtype(dtype):
        return _logical(name, column)
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return DataColumn(name, "number", column.to_numpy(dtype=np.float64, na_value=np.nan))
    if pd.api.types.is_object_dtype(dtype):
        kind = pd.api.types.infer_dtype(column, skipna=True)
        if kind in _NUMBERS or kind == "empty":
            return DataColumn(name, "number", pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan))
        if kind == "boolean":
            return _logical(name, column)
        if kind != "string":
            raise ValueError(
                f"The column {name!r} holds values of the kind {kind}: a formula takes numbers, truth values, text and "
                "categories. Convert the column to one of them first."
            )
    elif not pd.api.types.is_string_dtype(dtype):
        raise _not_taken(name, dtype)
    codes, found = pd.factorize(column)
    levels, order = _sorted(pd.Index(found, dtype=object))
    return DataColumn(name, "factor", np.append(order, _NO_CODE)[codes], levels, text=True)


def columns_of(data: Any, names: Sequence[str]) -> dict[str, DataColumn]:
    """Return columns of a frame by name; raise if it lacks one."""
    found, names = names_of_frame(data), list(dict.fromkeys(names))
    lost = [name for name in names if name not in found]
    if lost:
        raise ValueError(f"data lack the column(s) {', '.join(map(repr, lost))}, which the formula names.")
    return {name: read_column(data, name) for name in names}


def length_of(data: Any) -> int:
    """Return the number of rows of a frame."""
    return int(data.shape[0])


def labels_of(data: Any, names: Sequence[str]) -> pd.Series:
    """Return the group label of each row: the value of a column, or the tuple of the values of several.

    A tuple with a missing value is a missing label. Values are never joined to text, in which ("a:b", "c") and ("a", "b:c")
    would be the same.
    """
    if len(names) == 1:
        return pd.Series(as_array(native_column(data, names[0])), name=names[0])
    codes = np.zeros(length_of(data), dtype=np.intp)
    tuples: list[tuple[Any, ...]] = [()]
    for name in names:
        own, levels = pd.factorize(pd.Series(as_array(native_column(data, name))))
        missing = (codes < 0) | (own < 0)
        # Only combinations that rows have are listed, so that the products stay below the squared number of rows.
        pairs, found = pd.factorize((codes * max(len(levels), 1) + own)[~missing])
        codes = np.full(len(own), _NO_CODE)
        codes[~missing] = pairs
        first, last = np.divmod(found, max(len(levels), 1))
        tuples = [(*tuples[at], level) for at, level in zip(first, pd.Index(levels).take(last), strict=True)]
    categories = pd.Index(tuples, dtype=object, tupleize_cols=False)
    return pd.Series(pd.Categorical.from_codes(codes, categories=categories), name=":".join(names))


def _pandas_of(column: Any) -> pd.Series:
    """Return a column of polars or pyarrow as one of pandas; numbers with missing values are floats."""
    import narwhals as nw

    series = nw.from_native(column, series_only=True)
    if series.dtype.is_numeric():
        return pd.Series(np.array(series.cast(nw.Float64).to_numpy(), dtype=np.float64))
    if series.dtype.is_temporal():
        raise _not_taken(series.name, series.dtype)
    if series.dtype in (nw.Categorical, nw.Enum):
        # An Enum declares an order of its categories; that of a Categorical is where they happened to occur.
        values, order = series.cast(nw.String).to_list(), getattr(series.dtype, "categories", None)
        return pd.Series(values, dtype=object if order is None else pd.CategoricalDtype(list(order)))
    return pd.Series(series.to_list(), dtype=object)


def _not_taken(name: str, dtype: Any) -> ValueError:
    """Return an error about a column of dates or another type."""
    return ValueError(
        f"The column {name!r} is of the type {dtype}, which a formula does not take. Turn its values into numbers first, "
        "such as days since the first date, or into text."
    )


def _logical(name: str, column: pd.Series) -> DataColumn:
    """Return a column of truth values."""
    missing = column.isna().to_numpy()
    codes = np.where(missing, _NO_CODE, column.fillna(False).astype(bool).to_numpy()).astype(np.intp)
    return DataColumn(name, "logical", codes, pd.Index([False, True], dtype=object))


def _sorted(levels: pd.Index) -> tuple[pd.Index, np.ndarray]:
    """Return levels in the order of their code points, and the position that each of the given levels has there."""
    order = np.array(sorted(range(len(levels)), key=lambda at: levels[at]), dtype=np.intp)
    places = np.empty(len(levels), dtype=np.intp)
    places[order] = np.arange(len(levels))
    return levels[order], places


def with_used_levels(column: DataColumn) -> DataColumn:
    """Return a factor without the levels that no row has."""
    if column.kind != "factor" or column.levels is None:
        return column
    used = np.bincount(column.entries, minlength=len(column.levels)) > 0
    if used.all():
        return column
    return replace(column, entries=(np.cumsum(used) - 1)[column.entries], levels=column.levels[used])
