"""Errors of fits, which several files raise."""

from __future__ import annotations


class TooLittleError(ValueError):
    """There are too few rows or groups to estimate anything; more of them may help."""
