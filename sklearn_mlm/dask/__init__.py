"""Models of rows in Dask collections, which may be larger than memory.

Fitting needs Dask, which the extra "dask" installs.
"""

from ._regressor import DaskRandomInterceptRegressor
from ._scatter import read_scatter

__all__ = ["DaskRandomInterceptRegressor", "read_scatter"]
