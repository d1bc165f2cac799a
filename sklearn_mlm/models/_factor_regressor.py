"""`FactorRegressor`, the base of estimators whose random terms name the grouping factor and columns outside of X."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import clone

from .._inputs import column_names
from ..likelihood._random_terms import RandomTerm
from ..moments._cells import RowsInCells, rows_in_cells
from ..moments._rows import GroupedRows, check_containers
from ._base import with_columns
from ._groups_not_passed import FIT_WITHOUT_GROUPS, PASS_GROUPS_OF_FACTOR, warn_of_missing_groups
from ._incremental import IncrementalRegressor
from ._label_columns import codes_of_labels, columns_of_x, label_columns, split_label_columns
from ._random_columns import columns_outside, more_columns, random_terms, split_groups


class FactorRegressor(IncrementalRegressor):
    """Base of regressors that take the groups from the factors which the parameter `random_effects` names.

    The labels of a factor are a column of `groups`, if that is a frame, or of X; those of combinations of labels are several
    columns. So are the columns with random coefficients; those that X does not have are read behind its columns.
    """

    random_effects: str | None

    # As in `fit`: the name of the first factor, of the columns of labels, of the columns with random coefficients, and of
    # those that X does not have.
    _factor: str
    _label_columns: tuple[str, ...] = ()
    _random: frozenset[str]
    _more: tuple[str, ...] = ()

    @property
    def group_feature(self) -> str | int | None:  # type: ignore[override]
        """Name of the column of X that held the group labels in `fit`; None if X has none, or several."""
        return None if isinstance(self._group_key, tuple) else self._group_key

    @property
    def _several(self) -> bool:
        """Whether the model has several columns of labels, as in `fit`."""
        return len(self._label_columns) > 1

    def group_column(self, X: Any) -> Any:
        """Return the name of the grouping factor if X has a column of that name, and None if not.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            The data.

        Returns
        -------
        name : str, tuple of str or None
            The name; the names of the columns of labels that X has if the model has several.
        """
        if self.random_effects is None:
            return None
        columns = label_columns(self._terms())
        of_x = columns_of_x(X, columns)
        return of_x or None if len(columns) > 1 else of_x[0] if of_x else None

    def groupings(self, groups: Any = None) -> dict[str, tuple[str, ...]]:
        """Return the columns of labels of each grouping factor.

        Parameters
        ----------
        groups : array-like, data frame or None, default=None
            Groups as `fit` takes them.

        Returns
        -------
        groupings : dict of str to tuple of str
            The columns by the name of the factor; without `random_effects`, those of a frame of groups.
        """
        if self.random_effects is None and column_names(groups) is None:
            return {}
        return {term.factor: term.label_columns for term in self._terms(groups)}

    def with_group_columns(self, labels: pd.DataFrame) -> Self:
        """Return an unfitted copy that takes the group labels from these columns of X.

        Parameters
        ----------
        labels : pandas.DataFrame of shape (n_samples, n_columns)
            The columns of labels.

        Returns
        -------
        copy : FactorRegressor
            The unfitted copy, with the random terms that these columns stand for if it has none.
        """
        copy: Self = clone(self).set_params(random_effects=" + ".join(map(str, self._terms(labels))))
        return copy

    def _parameters_for_group_column(self, name: str) -> dict[str, Any]:
        """Return the random terms of the factor with this name."""
        return {"random_effects": " + ".join(str(replace(term, factor=name)) for term in self._terms())}

    def _terms(self, groups: Any = None) -> list[RandomTerm]:
        """Return the random terms; without `random_effects`, an intercept for each group."""
        return random_terms(self.random_effects, groups)

    def _warn_of_no_groups(self, method: str) -> None:
        """Warn that no groups were passed to a method."""
        missing = "" if self.random_effects is None else f" X has no column {self._factor!r}, which random_effects names."
        warn_of_missing_groups(f"{method} {FIT_WITHOUT_GROUPS}{missing} {PASS_GROUPS_OF_FACTOR}")

    def _split(self, groups: Any) -> tuple[Any, pd.DataFrame | None]:
        """Return the labels that groups hold, and the columns with random coefficients that are not in X."""
        if self._several:
            return groups, more_columns(groups, self._more)
        return split_groups(groups, self._factor, self._more, in_X=self._group_key is not None)

    def _split_labels(self, X: Any, groups: Any) -> tuple[Any, Any, int | tuple[int, ...]]:
        """Return the labels of rows, X without its columns of labels, and their positions."""
        if not self._several:
            return super()._split_labels(X, groups)
        return split_label_columns(X, groups, self._label_columns, self._group_key or ())

    def _rows_in_groups(self, X: Any, y: np.ndarray, groups: Any, sample_weight: Any, **options: Any) -> Any:
        """Return checked rows with the group of each, or with the cell of each if there are several columns of labels."""
        if not self._several:
            return super()._rows_in_groups(X, y, groups, sample_weight, **options)
        if not isinstance(groups, dict):
            groups, _, _ = split_label_columns(None, groups, self._label_columns, ())
        return rows_in_cells(X, y, groups, sample_weight, **options)

    def _encode(self, groups: Any, n_samples: int) -> np.ndarray:
        """Return the codes of the groups of new rows, with a column for each factor if there are several."""
        if not self._several:
            return super()._encode(groups, n_samples)
        if not isinstance(groups, dict):
            groups, _, _ = split_label_columns(None, groups, self._label_columns, ())
        groupings = self.fit_.options.groupings
        return codes_of_labels(groups, n_samples, self.fit_.known.cells, groupings, refuse=self.new_groups == "error")

    def _check_rows(self, X: Any, y: Any, groups: Any, sample_weight: Any, **options: Any) -> Any:
        """Return the checked rows, with the columns that are not in X but have random coefficients at their end."""
        reset = options.get("reset", True)
        if reset:
            terms = self._terms(groups)
            self._factor, self._label_columns = terms[0].factor, label_columns(terms)
            self._more = columns_outside(X, groups, terms)
            self._random = frozenset(name for term in terms for name in term.columns)
            self._group_key = self.group_column(X)
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        labels, more = self._split(groups)
        try:
            return super()._check_rows(X, y, labels, sample_weight, more=more, **options)
        except ValueError as error:
            if labels is None and self._group_key is None and self.random_effects is not None and not self._several:
                error.add_note(f"There are no groups: X has no column {self._factor!r}, which random_effects names.")
            raise

    def _fit_checked_rows(self, rows: GroupedRows | RowsInCells, n_random_only: int) -> Self:
        """Fit to rows that are checked already; the last columns, `n_random_only` of them, have no fixed effects."""
        terms = self._terms()
        with self._unchanged_on_error():
            self._factor, self._label_columns = terms[0].factor, label_columns(terms)
            self._random = frozenset(name for term in terms for name in term.columns)
            names = rows.feature_names or ()
            self._more = names[len(names) - n_random_only :]
            return super()._fit_checked_rows(rows, n_random_only)

    def _validate_new_rows(self, X: Any, groups: Any, *, population: bool = False) -> tuple[Any, Any, int]:
        """Return the columns of new rows, their groups and their number, checked."""
        # Rows without labels have no random effects, and need no columns for them.
        unlabelled = groups is None and X is not None and (population or self._group_key is None)
        labels, more = (None, None) if unlabelled else self._split(groups)
        if X is None and more is not None and not len(self._slopes):
            return more.to_numpy(), labels, len(more)
        X, labels, n_samples = super()._validate_new_rows(X, labels, population=population)
        if unlabelled and self._more:
            more = pd.DataFrame(np.nan, index=range(n_samples), columns=list(self._more))
        if more is not None:
            X, _ = with_columns(X, None, more)
        return X, labels, n_samples
