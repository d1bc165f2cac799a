"""Rows to moments: the only code that reads rows. `GroupedMoments` stores all that a random-intercept model needs."""

from ._grouped_moments import GroupedMoments

__all__ = ["GroupedMoments"]
