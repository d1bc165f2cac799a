"""The random intercept model for rows in Dask collections, which may be larger than memory.

Fitting needs Dask, which the extra "dask" installs.
"""

from ._regressor import DaskRandomInterceptRegressor

__all__ = ["DaskRandomInterceptRegressor"]
