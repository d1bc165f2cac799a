"""Rows to records: the only code that reads rows. A record stores all that a model needs of its data, and records merge."""

from ._cell_scatter import CellScatter
from ._grouped_moments import GroupedMoments
from ._grouped_scatter import GroupedScatter

__all__ = ["CellScatter", "GroupedMoments", "GroupedScatter"]
