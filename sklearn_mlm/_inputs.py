"""Arguments: choices, levels and whole numbers, checked."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np


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
