"""`LinesOfGroups`: lines along a column of X, by a model and by least squares in each group alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length

from .._typing import Floats, GroupedFit, Positions
from ..inference._fits import GroupedModel, last_step, locate_all
from ..likelihood._factor_fit import FactorView
from ..moments._labels import MISSING
from ..moments._rows import as_weights
from ._grid import Grid

# Singular values, relative to the largest, of columns that depend on each other.
_DEPENDENT = 1e-9
# Rounding of values, relative to them.
_ROUNDING = 8 * np.finfo(np.float64).eps


class LinesOfGroups:
    """Computes the lines of groups along a grid, while the other columns are held.

    Parameters
    ----------
    model : estimator
        The model, or a pipeline or search that ends in one.
    fit : GroupedFit
        Its fit.
    grid : Grid
        The values of the column, and those at which the other columns are held.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        The rows.
    outcome : ndarray of shape (n_samples,)
        Outcome; rows in which it is NaN are left out.
    groups : array-like of shape (n_samples,) or None
        Group labels.
    sample_weight : array-like of shape (n_samples,) or None
        Weights of least squares in each group.
    """

    def __init__(
        self,
        model: GroupedModel,
        fit: GroupedFit,
        grid: Grid,
        X: Any,
        outcome: Floats,
        groups: ArrayLike | None,
        sample_weight: ArrayLike | None,
    ):
        self._model, self._fit, self._grid = model, fit, grid
        check_consistent_length(grid.column, outcome)
        last, rows = last_step(model, X)
        rows, codes = locate_all(last, rows, groups)
        codes = codes[:, fit.position] if isinstance(fit, FactorView) else codes
        held = self._predictors(grid.held_rows())
        if grid.held:
            population = np.full(len(codes), MISSING)
            outcome = outcome - fit.predict(rows, population) + fit.predict(held, population)
        weights = np.ones(len(codes)) if sample_weight is None else as_weights(sample_weight, len(codes))
        x = grid.column.to_numpy(dtype=np.float64, na_value=np.nan)
        used = np.flatnonzero((codes >= 0) & (weights > 0) & np.isfinite(x) & np.isfinite(outcome))
        used = used[np.argsort(codes[used], kind="stable")]
        self._codes, self._x, self._y, self._weights = codes[used], x[used], outcome[used], weights[used]
        self._of_rows, self._of_grid = self._columns(held, used)
        singular = np.linalg.svd(self._of_grid - self._of_grid.mean(axis=0), compute_uv=False)
        # A group determines a line if its columns have the rank of those of the grid.
        self._rank = int((singular > _DEPENDENT * singular[0]).sum())

    @property
    def present(self) -> Positions:
        """Positions of the groups with rows, in ascending order."""
        return np.unique(self._codes)

    def line(self, code: int) -> Floats:
        """Return the line of a group by the model; the line of the population for a negative code."""
        # A step of a pipeline may read the group column.
        rows = self._predictors(self._grid.rows(None if code < 0 else self._fit.labels[code]))
        return np.asarray(self._fit.predict(rows, np.full(rows.shape[0], code)))

    def own_line(self, code: int) -> Floats:
        """Return the line that least squares fits to the rows of a group; NaN if they do not determine one."""
        rows = self._rows_of(code)
        nothing = np.full(len(self._of_grid), np.nan)
        if rows.stop - rows.start < 2:
            return nothing
        columns, y, weights = self._of_rows[rows], self._y[rows], self._weights[rows]
        middle = np.average(columns, axis=0, weights=weights)
        level = float(np.average(y, weights=weights))
        root = np.sqrt(weights)[:, None]
        centred = root * (columns - middle)
        rounding = _ROUNDING * np.linalg.norm(root) * np.abs(columns).max(axis=0)
        centred[:, np.linalg.norm(centred, axis=0) <= rounding] = 0.0
        slopes, _, rank, _ = np.linalg.lstsq(centred, root[:, 0] * (y - level), rcond=_DEPENDENT)
        return level + (self._of_grid - middle) @ slopes if rank == self._rank else nothing

    def points(self, shown: Positions) -> pd.DataFrame:
        """Return the rows of some groups: "x", the adjusted "y", and "group", the position among the groups."""
        rows = [self._rows_of(code) for code in shown]
        at = np.concatenate([np.arange(each.start, each.stop) for each in rows])
        group = np.repeat(np.arange(len(shown)), [each.stop - each.start for each in rows])
        return pd.DataFrame({"x": self._x[at], "y": self._y[at], "group": group})

    def _rows_of(self, code: int) -> slice:
        """Return where the rows of a group are."""
        return slice(*np.searchsorted(self._codes, [code, code + 1]).tolist())

    def _predictors(self, rows: Any) -> Any:
        """Return the predictors that the steps before the model make of rows."""
        last, rows = last_step(self._model, rows)
        return locate_all(last, rows, "population")[0]

    def _columns(self, held: Any, used: Positions) -> tuple[Floats, Floats]:
        """Return the predictors that vary along the grid, of the rows and of the grid, scaled."""
        of_grid = _dense(self._predictors(self._grid.rows()))
        varies = np.ptp(of_grid, axis=0) > 0
        if not varies.any():
            # The model does not see the column.
            of_grid, of_rows = np.asarray(self._grid.values, dtype=np.float64)[:, None], self._x[:, None]
        else:
            of_grid, of_rows = of_grid[:, varies], _dense(held[:, np.flatnonzero(varies)])[used]
        scale = np.ptp(of_grid, axis=0)
        return of_rows / scale, of_grid / scale


def _dense(X: Any) -> Floats:
    """Return an array of a matrix that may be sparse."""
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)
