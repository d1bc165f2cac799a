"""Rows to moments: the only code that reads rows. `GroupedMoments` holds all that a random intercept model needs of them."""

from ._grouped_moments import GroupedMoments

__all__ = ["GroupedMoments"]
