"""Checks of arguments (choices, confidence levels, whole numbers), and the names of columns."""

from __future__ import annotations

import sys
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd


def check_choice(name: str, value: object, choices: tuple[str | bool, ...]) -> None:
    """Raise a ValueError unless a parameter is one of its choices."""
    if not isinstance(value, str | bool | np.bool_) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; found {value!r}.")


def check_level(level: float) -> None:
    """Raise a ValueError unless a confidence level is between 0 and 1."""
    if not isinstance(level, Real) or not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, such as 0.95; found {level!r}.")


def is_whole(value: object, least: int = 1, most: float = np.inf) -> bool:
    """Return whether a value is a whole number from `least` to `most`; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def name_of(values: Any) -> str | None:
    """Return the name of a series, or of the only column of a frame; None without a name."""
    columns = column_names(values)
    if columns is None:
        name = getattr(values, "name", None)
    else:
        # The attribute "name" of a frame may be one of its columns.
        name = columns[0] if len(columns) == 1 and isinstance(columns[0], str) else None
    return None if name is None or name == "" else str(name)


def column_names(X: Any) -> pd.Index | list[str] | None:
    """Return the column names of a pandas or polars frame or a pyarrow table; None for anything else."""
    if isinstance(X, pd.DataFrame):
        return X.columns  # of any name, such as "column_names"
    names = getattr(X, "column_names", None)
    return getattr(X, "columns", None) if names is None else names


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and name the line outside of the package from which the call came."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
