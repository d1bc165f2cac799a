"""`Grid`: rows along one column of X, with the other columns held, as a model or pipeline takes them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import sparse

from .._inputs import column_names
from ..inference._fits import design_of
from ._style import label_text, short

# More categories than this cannot be told apart on an axis.
_MOST_CATEGORIES = 40
# So many of the values that are held are named.
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Grid:
    """Stores rows that differ in one column.

    Attributes
    ----------
    values : pandas.Series of shape (n_points,)
        The values of the column: numbers in ascending order, or categories.
    categorical : bool
        Whether the values are categories.
    held : dict
        The value of each of the other columns but the group column, by name or position.
    name : str
        Name of the column.
    column : pandas.Series of shape (n_samples,)
        The column in the rows from which the grid was made.
    group_column : pandas.Series of shape (n_samples,) or None
        Their group column, if X has one.
    table : pandas.DataFrame of shape (n_points, n_features)
        The rows, with positions for names.
    names : list or None
        Names of the columns, if they have names.
    group_at : int, tuple of int or None
        Position of the group column, or of the columns of labels if there are several.
    level_at : tuple of int
        Positions of the columns of labels of the factor whose levels are shown, if there are several columns of labels.
    spread : dict of float
        Standard deviations of the first of the columns that are held, by name.
    position : int
        Position of the column.
    """

    values: pd.Series
    categorical: bool
    held: dict[Hashable, Any]
    name: str
    column: pd.Series
    group_column: pd.Series | None
    table: pd.DataFrame
    names: list[Any] | None
    group_at: int | tuple[int, ...] | None
    level_at: tuple[int, ...]
    spread: dict[Hashable, float]
    position: int

    def rows(self, label: Any = None) -> Any:
        """Return the rows; those of a group hold its label, if X has a group column.

        Parameters
        ----------
        label : object, default=None
            Label of a group. None leaves the most frequent label in the column.

        Returns
        -------
        rows : pandas.DataFrame or ndarray of shape (n_points, n_features)
            A data frame if X has column names.
        """
        table = self.table
        if label is not None and self.level_at:
            table = table.copy()
            for position, part in zip(self.level_at, label if len(self.level_at) > 1 else (label,), strict=True):
                table[position] = _constant(part, None, len(table))
        if label is not None and self.group_column is not None:
            table = table.copy()
            kinds = getattr(self.group_column.dtype, "categories", None)
            # The groups of the model may be more than those of these rows.
            known = kinds is None or label in kinds
            table[self.group_at] = _constant(label, self.group_column if known else None, len(table))
        return table.to_numpy() if self.names is None else table.set_axis(self.names, axis=1)

    def held_rows(self) -> Any:
        """Return the rows from which the grid was made, with the other columns held, but for the group column."""
        table = self.table.iloc[np.zeros(len(self.column), dtype=np.intp)].reset_index(drop=True)
        table[self.position] = self.column.reset_index(drop=True)
        if isinstance(self.group_at, int) and self.group_column is not None:
            table[self.group_at] = self.group_column.reset_index(drop=True)
        return table.to_numpy() if self.names is None else table.set_axis(self.names, axis=1)

    def held_text(self) -> str:
        """Return the values of the other columns in a few words, "" if there are none."""
        texts = []
        for name, value in list(self.held.items())[:_NAMED]:
            if isinstance(value, pd.Timestamp) and value == value.normalize():
                value = f"{value:%Y-%m-%d}"
            number = isinstance(value, float | int | np.number) and not isinstance(value, bool | np.bool_)
            # A mean has no more decimals than the spread of its column deserves.
            text = short(value, max(abs(value), self.spread.get(name, 0.0))) if number else label_text(value).strip()
            texts.append(f"{label_text(name).strip()} = {text}")
        more = len(self.held) - len(texts)
        return ", ".join(texts) + (f" and {more} more" if more else "")


def columns_of_model(model: Any, X: Any) -> Any:
    """Return the columns of a frame that a model with a formula uses, its groups among them; all of X for other models."""
    return X[list(model.feature_names_in_)] if design_of(model) is not None and column_names(X) is not None else X


def grid_of(
    X: Any,
    feature: Any,
    *,
    n_points: int,
    at: Mapping[Any, Any] | None,
    group_key: Any,
    level_columns: Sequence[str] = (),
) -> Grid:
    """Return a grid over the range of a column, with the others at their mean or most frequent value, or at given values.

    Parameters
    ----------
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        Rows.
    feature : str or int
        Name or position of the column.
    n_points : int
        Number of rows of the grid if the column holds numbers.
    at : dict or None
        Values of other columns, by name or position.
    group_key : str, int, tuple of str or None
        Name or position of the group column, or the names of the columns of labels if there are several.
    level_columns : sequence of str, default=()
        Names of the columns of labels of the factor whose levels are shown, if there are several columns of labels.

    Returns
    -------
    grid : Grid
        The grid.

    Raises
    ------
    ValueError
        If there is no such column, if it does not vary, or if it has too many categories.
    """
    table, names = _table_of(X)
    here = _position(feature, table, names, "feature")
    keys = group_key if isinstance(group_key, tuple) else () if group_key is None else (group_key,)
    of_labels = tuple(_position(key, table, names, "group_feature") for key in keys)
    group_at = of_labels[0] if of_labels and not isinstance(group_key, tuple) else None
    if here in of_labels:
        raise ValueError(f"feature={feature!r} is the group column. Choose its groups with show_groups.")
    given = {_position(key, table, names, "at"): value for key, value in (at or {}).items()}
    group_columns = [(position, "the group column, whose groups show_groups chooses") for position in of_labels]
    for position, reason in [(here, "the feature itself"), *group_columns]:
        if position in given:
            raise ValueError(f"at must hold values of other columns; found {_name(names, position)!r}, {reason}.")
    column = table[here]
    values, categorical = _values(column, feature, n_points)
    columns: dict[int, Any] = {}
    held: dict[Hashable, Any] = {}
    spread: dict[Hashable, float] = {}
    # The values that are given are named first.
    for position in sorted(range(table.shape[1]), key=lambda each: each not in given):
        series = table[position]
        if position == here:
            columns[position] = values
        elif position == group_at:
            columns[position] = _constant(_most_frequent(series), series, len(values))
        elif position in of_labels:
            # Rows without labels are those of the population.
            columns[position] = pd.Series([None] * len(values), dtype=object)
        else:
            value = given[position] if position in given else _typical(series)
            columns[position] = _constant(value, None if _is_number(series) else series, len(values))
            name = _name(names, position)
            held[name] = value
            if len(held) <= _NAMED and _is_number(series):
                spread[name] = float(np.nanstd(series.to_numpy(dtype=np.float64, na_value=np.nan)))
    return Grid(
        values=values,
        categorical=categorical,
        held=held,
        name=label_text(_name(names, here)),
        column=column,
        group_column=None if group_at is None else table[group_at],
        table=pd.DataFrame({position: columns[position] for position in range(table.shape[1])}),
        names=names,
        group_at=group_at if group_at is not None else of_labels or None,
        level_at=tuple(position for position in of_labels if names is not None and names[position] in level_columns),
        spread=spread,
        position=here,
    )


def _table_of(X: Any) -> tuple[pd.DataFrame, list[Any] | None]:
    """Return X as a data frame whose columns are positions, and the names of the columns if they have names."""
    if X is None:
        raise ValueError("X is None: pass the rows whose column is to be drawn.")
    if sparse.issparse(X):
        table, names = cast(Any, pd.DataFrame).sparse.from_spmatrix(X), None
    elif isinstance(X, pd.DataFrame):
        table, names = X, list(X.columns)
    elif (columns := column_names(X)) is not None:
        names = list(columns)
        table = pd.DataFrame({at: X[name].to_numpy() for at, name in enumerate(names)})
    else:
        table, names = pd.DataFrame(X), None
    return table.set_axis(range(table.shape[1]), axis=1).infer_objects(), names


def _position(key: Any, table: pd.DataFrame, names: Sequence[Any] | None, parameter: str) -> int:
    """Return the position of a column that is given by its name or position."""
    if names is not None and list(names).count(key) == 1:
        return list(names).index(key)
    width = table.shape[1]
    if isinstance(key, Integral) and not isinstance(key, bool) and -width <= int(key) < width:
        return int(key) % width
    columns = f"{width} columns without names" if names is None else f"the columns {list(names)!r}"
    raise ValueError(f"{parameter} must name a column of X, or be its position; found {key!r} for {columns}.")


def _name(names: Sequence[Any] | None, position: int | None) -> Any:
    """Return the name of a column, or x0, x1, ... if columns have no names."""
    return f"x{position}" if names is None or position is None else names[position]


def _is_number(column: pd.Series) -> bool:
    """Return whether a column holds numbers; True and False are not."""
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def _values(column: pd.Series, feature: Any, n_points: int) -> tuple[pd.Series, bool]:
    """Return the values of the grid, and whether they are categories."""
    if _is_number(column):
        low, high = float(column.min()), float(column.max())
        if not low < high:
            raise ValueError(f"feature={feature!r} is constant ({low:g}): there is no line to draw. Choose another column.")
        return pd.Series(np.linspace(low, high, n_points)), False
    found = column.dropna()
    if isinstance(column.dtype, pd.CategoricalDtype):
        kinds = list(found.cat.remove_unused_categories().cat.categories)
    else:
        kinds = list(pd.unique(found))
        # Values of mixed types have no order but that of the rows.
        with suppress(TypeError):
            kinds = sorted(kinds)
    if not 1 < len(kinds) <= _MOST_CATEGORIES:
        raise ValueError(
            f"feature={feature!r} has {len(kinds)} distinct value(s) that are not numbers; from 2 to {_MOST_CATEGORIES} "
            "can be drawn. Choose another column."
        )
    return pd.Series(kinds, dtype=column.dtype), True


def _most_frequent(column: pd.Series) -> Any:
    """Return the most frequent value of a column, the first of several."""
    modes = column.mode()
    return modes.iloc[0] if len(modes) else None


def _typical(column: pd.Series) -> Any:
    """Return the mean of a column of numbers, and the most frequent value of others."""
    return float(column.mean()) if _is_number(column) else _most_frequent(column)


def _constant(value: Any, column: pd.Series | None, n: int) -> pd.Series:
    """Return a column of n equal values, of the type of a column or, for None, of the value."""
    dtype = None if column is None else column.dtype
    if isinstance(dtype, pd.CategoricalDtype) and value is not None and value not in dtype.categories:
        raise ValueError(f"at holds {value!r}, which is not a category of its column: {list(dtype.categories)!r}.")
    # A list of tuples would be a table.
    values = np.empty(n, dtype=object)
    values.fill(value)
    return pd.Series(values).infer_objects() if dtype is None else pd.Series(values, dtype=dtype)
