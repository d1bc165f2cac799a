"""`Display`: the base of displays, which are made by class methods."""

from __future__ import annotations

from typing import Any, ClassVar, Self


class Display:
    """Base of displays: says how one is made to those who call the class with a model or with data.

    A subclass names in `_MADE_BY` the call that makes it.
    """

    _MADE_BY: ClassVar[str] = "from_estimator(model)"

    def __new__(cls, *args: object, **data: Any) -> Self:
        """Return the object; raise a TypeError for positional arguments, which only a mistake can be."""
        if args:
            raise TypeError(f"{cls.__name__} is made by a class method: call {cls.__name__}.{cls._MADE_BY}.")
        return super().__new__(cls)
