"""The column of X that holds the group labels."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from .._inputs import column_names

# An error names no more columns than this.
_NAMED = 12


def check_group_feature(key: object) -> None:
    """Raise a ValueError unless the parameter `group_feature` is the name or the position of one column, or None."""
    if key is None or (isinstance(key, str | Integral) and not isinstance(key, bool)):
        return
    several = ""
    if isinstance(key, list | tuple):
        outer, inner = key if len(key) == 2 and all(isinstance(name, str) for name in key) else ("school", "class")
        several = (
            " Models of several factors are not covered yet: choose one column. If the groups are the levels of the inner "
            f'factor, combine the labels into a column of their own: frame[{outer!r}] + "/" + frame[{inner!r}].'
        )
    raise ValueError(f"group_feature must be the name or the position of a column of X, or None; found {key!r}.{several}")


def _listed(names: Sequence[str] | pd.Index) -> str:
    """Return the first names of many, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more


def group_position(X: Any, key: str | int) -> int:
    """Return the position of the group column of X, counted from the start.

    Parameters
    ----------
    X : array-like, sparse matrix, data frame or table of shape (n_samples, n_features)
        The data.
    key : str or int
        Name or position of the column; negative positions count from the end.

    Returns
    -------
    position : int
        At least 0.

    Raises
    ------
    ValueError
        If there is no such column, or several with that name.
    """
    names = column_names(X)
    if isinstance(key, str):
        if names is None:
            raise ValueError(
                f"group_feature={key!r} is a name, but X is a {type(X).__name__} without column names. Pass a data frame, "
                'or the position of the column. In a pipeline, set_output(transform="pandas") keeps the names; RFE and '
                "SequentialFeatureSelector always pass arrays on."
            )
        if list(names).count(key) != 1:
            raise ValueError(
                f"group_feature={key!r} must name one column of X; found {list(names).count(key)} among {_listed(names)}. A "
                "ColumnTransformer keeps names unchanged if verbose_feature_names_out=False."
            )
        return int(list(names).index(key))
    shape = np.shape(X) if names is None and not hasattr(X, "shape") else X.shape
    width = shape[1] if len(shape) == 2 else 0
    if not -width <= key < width:
        raise ValueError(f"group_feature={key!r} is not a position in X of shape {tuple(shape)}.")
    return int(key) % width


def split_group_column(X: Any, key: str | int) -> tuple[Any, Any]:
    """Return the group column of X, and X without it.

    Parameters
    ----------
    X : array-like, sparse matrix, pandas or polars frame or pyarrow table of shape (n_samples, n_features)
        The data.
    key : str or int
        Name or position of the column; negative positions count from the end.

    Returns
    -------
    column : array-like of shape (n_samples,)
        The group column, of the type that X has for a column.
    rest : array-like, sparse matrix, data frame or table of shape (n_samples, n_features - 1), or None
        The other columns; None if there are none.

    Raises
    ------
    ValueError
        If there is no such column, or several with that name.
    """
    names = column_names(X)
    if names is None and not hasattr(X, "shape") and not isinstance(key, str):
        X = np.array(X, dtype=object)
    position = group_position(X, key)
    if sparse.issparse(X) and X.format not in ("csr", "csc"):
        X = X.tocsr()  # other formats do not support slices of columns
    others = [i for i in range(X.shape[1]) if i != position]
    if hasattr(X, "iloc"):
        return X.iloc[:, position], X.iloc[:, others] if others else None
    if hasattr(X, "column_names"):
        return X.column(position), X.select(others) if others else None
    if names is not None:
        return X[names[position]], X.select([names[i] for i in others]) if others else None
    column = X[:, [position]].toarray().ravel() if sparse.issparse(X) else X[:, position]
    if not others:
        return column, None
    # A slice makes no copy.
    if position in (0, len(others)):
        return column, X[:, 1:] if position == 0 else X[:, :-1]
    return column, X[:, others]
