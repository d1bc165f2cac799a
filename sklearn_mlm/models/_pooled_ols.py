"""Least squares in place of a model with groups, with the same parameters and columns."""

from __future__ import annotations

from typing import Any

from ..moments._cells import RowsInCells
from ..moments._rows import GroupedRows
from ._base import GroupedRegressor
from ._mixed_effects import MixedEffectsRegressor
from ._random_intercept import RandomInterceptRegressor


class _WithoutGroups(GroupedRegressor):
    """A model that leaves out the groups of its rows."""

    def _check_rows(self, X: Any, y: Any, groups: Any, sample_weight: Any, **options: Any) -> GroupedRows:
        """Return the checked rows without their groups."""
        rows = super()._check_rows(X, y, groups, sample_weight, **options)
        alone: GroupedRows = (rows.rows if isinstance(rows, RowsInCells) else rows).without_groups()
        return alone

    def _warn_of_no_groups(self, method: str) -> None:
        """Do not warn, because the groups are left out on purpose."""

    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> Any:
        """Predict without groups."""
        return super().predict(X, "population", return_std)


class PooledOLS(_WithoutGroups, RandomInterceptRegressor):
    """The random intercept model without random intercepts: least squares with the same parameters and columns."""


class PooledMixedOLS(_WithoutGroups, MixedEffectsRegressor):
    """The model with random slopes without random coefficients: least squares with the same parameters and columns."""


def pooled(model: GroupedRegressor) -> GroupedRegressor:
    """Return least squares with the parameters that it shares with a model with groups."""
    if hasattr(model, "without_groups"):
        least_squares: GroupedRegressor = model.without_groups()
        return least_squares
    kind = PooledMixedOLS if isinstance(model, MixedEffectsRegressor) else PooledOLS
    known = kind().get_params()
    return kind(**{name: value for name, value in model.get_params().items() if name in known})
