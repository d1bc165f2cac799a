"""Arguments, checked: choices, levels, whole numbers, and names of columns."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise for a parameter that is not one of its choices."""
    if not isinstance(value, str | bool | np.bool_) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; found {value!r}.")


def check_level(level: float) -> None:
    """Raise for a confidence level that is not between 0 and 1."""
    if not isinstance(level, Real) or not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, such as 0.95; found {level!r}.")


def is_whole(value: Any, least: int = 1, most: float = np.inf) -> bool:
    """Return whether a value is a whole number between two bounds; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def name_of(values: Any) -> str | None:
    """Return the name of a column of data, or of the one column of a frame, if it has one."""
    columns = column_names(values)
    if columns is not None:
        # A frame with a column called "name" has that column as its attribute.
        name = next(iter(columns)) if len(columns) == 1 and isinstance(next(iter(columns)), str) else None
    else:
        name = getattr(values, "name", None)
    return None if name is None or name == "" else str(name)


def column_names(X: Any) -> Any:
    """Return the names of the columns of a pandas or polars frame or a pyarrow table, and None for anything else."""
    if isinstance(X, pd.DataFrame):
        return X.columns  # one of which may have any name
    names = getattr(X, "column_names", None)
    return getattr(X, "columns", None) if names is None else names
