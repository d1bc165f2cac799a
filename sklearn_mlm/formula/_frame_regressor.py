"""`FrameRegressor`: what inference and displays ask of a model whose rows are data frames."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from .._inputs import column_names
from ..likelihood._random_terms import parse_random_effects
from ..models._base import POPULATION, GroupedRegressor
from ..models._effect_frames import covariance_frame, of_factors
from ..models._label_columns import codes_of_labels, split_label_columns
from ..moments._labels import MISSING, as_array
from ._columns import DataColumn, columns_of, frame_of, length_of, names_of_frame
from ._design import Design
from ._rows_of_fit import MissingRows, gaps_of, missing_in, refuse_missing


class FrameRegressor(GroupedRegressor):
    """Base of a regressor that takes data frames, and finds predictors, outcome and groups in them by a formula."""

    formula: str
    na_action: MissingRows
    fit_: Any
    estimator_: Any

    def model_matrix(self, data: Any) -> pd.DataFrame:
        """Return the model matrix of the fixed part, R's ``model.matrix``.

        Parameters
        ----------
        data : data frame of shape (n_samples, n_columns)
            Rows without missing values in the columns of the fixed part.

        Returns
        -------
        matrix : pandas.DataFrame of shape (n_samples, n_coefficients)
            Its columns have the names of the fixed effects, "(Intercept)" first if there is one.
        """
        check_is_fitted(self)
        data = frame_of(data)
        columns = columns_of(data, tuple(self._design.grid))
        complete = ~missing_in(columns, length_of(data))
        refuse_missing(gaps_of(columns), len(complete), "model_matrix")
        index = data.index if isinstance(data, pd.DataFrame) else None
        return pd.DataFrame(self._design.rows_of(columns, len(complete)), columns=self._design.names, index=index)

    def outcome(self, data: Any) -> np.ndarray | None:
        """Return the left side of the formula in rows; NaN if a value is missing.

        Parameters
        ----------
        data : data frame of shape (n_samples, n_columns)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,) or None
            The outcome; None if the formula has no left side, or the data lack its columns.
        """
        check_is_fitted(self)
        response, data = self._design.parsed.response, frame_of(data)
        if response is None or not set(response.columns) <= set(names_of_frame(data)):
            return None
        columns = columns_of(data, response.columns)
        complete = ~missing_in(columns, length_of(data))
        y = np.full(len(complete), np.nan)
        rows = np.flatnonzero(complete)
        known = {name: one.take(rows) for name, one in columns.items()}
        y[rows] = self._design.response(self._design.values_of_response(known, len(rows)))
        return y

    # ---- what inference and displays ask of a model with groups

    @property
    def group_feature(self) -> str | None:  # type: ignore[override]
        """Name of the column of the data that holds the group labels; None if several do."""
        factors = self._factors_of_formula()
        return factors[0] if len(factors) == 1 else None

    def group_column(self, X: Any) -> Any:
        """Return the name of the column that holds the group labels, or a tuple of names if several do.

        Parameters
        ----------
        X : data frame of shape (n_samples, n_columns)
            The data.

        Returns
        -------
        name : str, tuple of str or None
            The name or the names; None if the data lack them.
        """
        names, wanted = column_names(X), self._factors_of_formula()
        if names is None or not wanted or not set(wanted) <= set(names):
            return None
        return wanted[0] if len(wanted) == 1 else wanted

    def groupings(self, groups: Any = None) -> dict[str, tuple[str, ...]]:
        """Return the columns of labels of each grouping factor of the formula.

        Parameters
        ----------
        groups : array-like, data frame or None, default=None
            Not used: the columns are those of the data.

        Returns
        -------
        groupings : dict of str to tuple of str
            The columns by the name of the factor; empty if the formula cannot be read.
        """
        bars = [part.split(")")[0] for part in str(self.formula).split("|")[1:] if part]
        with suppress(ValueError):
            return {term.factor: term.label_columns for bar in bars for term in parse_random_effects(f"(1 | {bar})")}
        return {}

    def locate(self, X: Any, groups: Any = None) -> tuple[Any, np.ndarray]:
        """Return the columns of the model matrix of new rows, and the position of each row's group in `groups_`.

        Parameters
        ----------
        X : data frame of shape (n_samples, n_columns)
            Rows.
        groups : array-like of shape (n_samples,), "population" or None, default=None
            Group labels; None takes them from the data.

        Returns
        -------
        X : ndarray or sparse matrix of shape (n_samples, n_predictors), or None
            The columns that have fixed effects, without the intercept, and then those that have random coefficients only.
            NaN in rows with missing values, unless the parameter `na_action` is "raise".
        codes : ndarray of shape (n_samples,), or (n_samples, n_factors) with several grouping factors
            Positions in `groups_`; -1 for a group that `fit` has not seen, and -2 for a row without a label or with missing
            values.

        Raises
        ------
        ValueError
            If values are missing, and ``na_action="raise"``.
        """
        check_is_fitted(self)
        data = frame_of(X)
        columns = columns_of(data, self._design.columns)
        complete = ~missing_in(columns, length_of(data))
        if self.na_action == "raise":
            refuse_missing(gaps_of(columns), len(complete), 'a model with na_action="raise"')
        rows = np.flatnonzero(complete)
        matrix, codes, _ = self._located(data, columns, rows, groups)
        if len(rows) == len(complete):
            return matrix, codes
        all_codes = np.full((len(complete), *codes.shape[1:]), MISSING)
        all_codes[rows] = codes
        return None if matrix is None else _with_gaps(matrix, complete), all_codes

    def offset(self, X: Any) -> np.ndarray | float:
        """Return the offset of rows, which the columns of `locate` do not hold; 0 if the formula has none.

        Parameters
        ----------
        X : data frame of shape (n_samples, n_columns)
            Rows.

        Returns
        -------
        offset : ndarray of shape (n_samples,) or float
            The offset, in units of the outcome; NaN if a value is missing.
        """
        design = self._design
        if not design.parsed.offsets:
            return 0.0
        data = frame_of(X)
        columns = columns_of(data, [name for one in design.parsed.offsets for name in one.columns])
        offset = np.full(length_of(data), np.nan)
        rows = np.flatnonzero(~missing_in(columns, len(offset)))
        known = {name: column.take(rows) for name, column in columns.items()}
        offset[rows] = design.offset(design.values_of_offset(known, len(rows)))
        return offset

    # ---- fitted attributes of the model within

    @property
    def variance_components_(self) -> pd.Series:
        """Variances of the random coefficients, and of the residual."""
        check_is_fitted(self)
        components: pd.Series = self.estimator_.variance_components_
        return components

    @property
    def covariance_(self) -> dict[str, pd.DataFrame]:
        """Covariance of the random coefficients by factor."""
        check_is_fitted(self)
        return {of_factor.group_name: covariance_frame(of_factor) for of_factor in of_factors(self.fit_)}

    @property
    def random_effects_(self) -> pd.Series | pd.DataFrame | dict[str, pd.DataFrame]:
        """Empirical-Bayes estimates of the random effects; by factor if there are several."""
        check_is_fitted(self)
        effects: pd.Series | pd.DataFrame | dict[str, pd.DataFrame] = self.estimator_.random_effects_
        return effects

    @property
    def icc_(self) -> float:
        """Intraclass correlation, if only the intercept varies."""
        check_is_fitted(self)
        return float(self.estimator_.icc_)

    # ---- parts of the methods above

    @property
    def _design(self) -> Design:
        """What the formula has learnt."""
        design: Design = self.fit_.design
        return design

    def _factors_of_formula(self) -> tuple[str, ...]:
        """Return the columns that hold the groups: of the fit, or of the formula if there is none."""
        if hasattr(self, "fit_"):
            return self._design.factor
        return tuple(dict.fromkeys(name for grouping in self.groupings().values() for name in grouping))

    def _located(
        self, data: Any, columns: Mapping[str, DataColumn], rows: np.ndarray, groups: Any
    ) -> tuple[Any, np.ndarray, np.ndarray | float]:
        """Return the columns of the model matrix, the positions of the groups and the offset of some rows."""
        design, n_samples = self._design, length_of(data)
        if len(rows) < n_samples:
            columns = {name: column.take(rows) for name, column in columns.items()}
        values = design.values(columns, len(rows))
        if isinstance(groups, str) and groups == POPULATION:
            codes = np.full(len(rows), MISSING)
        else:
            if isinstance(groups, str):
                raise ValueError(f'groups must be "population", or None for the groups of the data; found {groups!r}.')
            lost = [name for name in design.factor if name not in names_of_frame(data)]
            if groups is None and lost:
                raise ValueError(
                    f"data lack the column(s) {', '.join(map(repr, lost))}, which hold the groups. Pass them, or "
                    'groups="population" to leave out the effects of all groups.'
                )
            labels = design.labels(data) if groups is None else self._labels_passed(groups)
            codes = self._encode(labels.iloc[rows] if len(rows) < n_samples else labels, len(rows))
        return design.predictors(values), codes, design.offset(values)

    def _labels_passed(self, groups: Any) -> Any:
        """Return labels that were passed; a frame of columns if there are several grouping factors."""
        if not self._design.several:
            return pd.Series(as_array(groups))
        labels, _, _ = split_label_columns(None, groups, self._design.factor, ())
        return pd.DataFrame({name: pd.Series(as_array(of_column)) for name, of_column in labels.items()})

    def _encode(self, groups: Any, n_samples: int) -> np.ndarray:
        """Return the codes of the groups of new rows, with a column for each factor if there are several."""
        if not self._design.several:
            return super()._encode(groups, n_samples)
        cells, groupings = self.fit_.known.cells, self.fit_.options.groupings
        return codes_of_labels(groups, n_samples, cells, groupings, refuse=self.new_groups == "error")


def _with_gaps(matrix: Any, complete: np.ndarray) -> Any:
    """Return a matrix of all rows from that of the complete ones, with NaN in the others."""
    n_missing = int(np.count_nonzero(~complete))
    gaps = np.full((n_missing, matrix.shape[1]), np.nan)
    order = np.argsort(np.append(np.flatnonzero(complete), np.flatnonzero(~complete)))
    if sparse.issparse(matrix):
        return sparse.csr_array(sparse.vstack([matrix, sparse.csr_array(gaps)], format="csr"))[order]
    return np.vstack([matrix, gaps])[order]
