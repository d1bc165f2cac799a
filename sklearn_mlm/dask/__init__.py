"""The random intercept model of rows in Dask collections, which no one memory need hold. Needs the extra "dask"."""

from ._regressor import DaskRandomInterceptRegressor

__all__ = ["DaskRandomInterceptRegressor"]
