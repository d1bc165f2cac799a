"""`FactorRegressor`, the base of estimators whose random terms name the grouping factor and columns outside of X."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd

from .._inputs import column_names
from ..likelihood._random_terms import RandomTerm
from ..moments._rows import GroupedRows, check_containers
from ._base import with_columns
from ._groups_not_passed import FIT_WITHOUT_GROUPS, PASS_GROUPS_OF_FACTOR, warn_of_missing_groups
from ._incremental import IncrementalRegressor
from ._random_columns import columns_outside, random_terms, split_groups


class FactorRegressor(IncrementalRegressor):
    """Base of regressors that take the groups from a factor which the parameter `random_effects` names.

    The factor is a column of `groups`, if that is a frame, or of X. So are the columns with random coefficients; those that
    X does not have are read behind its columns.
    """

    random_effects: str | None

    # As in `fit`: the name of the factor, of the columns with random coefficients, and of those that X does not have.
    _factor: str
    _random: frozenset[str]
    _more: tuple[str, ...] = ()

    @property
    def group_feature(self) -> str | int | None:  # type: ignore[override]
        """Name of the column of X that held the group labels in `fit`; None if X has none."""
        return self._group_key

    def group_column(self, X: Any) -> str | None:
        """Return the name of the grouping factor if X has a column of that name, and None if not.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            The data.

        Returns
        -------
        name : str or None
            The name.
        """
        names = column_names(X)
        factor = self._terms()[0].factor if self.random_effects is not None else None
        return factor if factor is not None and names is not None and list(names).count(factor) == 1 else None

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
        return split_groups(groups, self._factor, self._more, in_X=self._group_key is not None)

    def _check_rows(self, X: Any, y: Any, groups: Any, sample_weight: Any, **options: Any) -> GroupedRows:
        """Return the checked rows, with the columns that are not in X but have random coefficients at their end."""
        reset = options.get("reset", True)
        if reset:
            terms = self._terms(groups)
            self._factor = terms[0].factor
            self._group_key, self._more = self.group_column(X), columns_outside(X, groups, terms)
            self._random = frozenset(name for term in terms for name in term.columns)
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        labels, more = self._split(groups)
        try:
            return super()._check_rows(X, y, labels, sample_weight, more=more, **options)
        except ValueError as error:
            if labels is None and self._group_key is None and self.random_effects is not None:
                error.add_note(f"There are no groups: X has no column {self._factor!r}, which random_effects names.")
            raise

    def _fit_checked_rows(self, rows: GroupedRows, n_random_only: int) -> Self:
        """Fit to rows that are checked already; the last columns, `n_random_only` of them, have no fixed effects."""
        terms = self._terms()
        with self._unchanged_on_error():
            self._factor = terms[0].factor
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
        X, labels, n_samples = super()._validate_new_rows(X, labels)
        if unlabelled and self._more:
            more = pd.DataFrame(np.nan, index=range(n_samples), columns=list(self._more))
        if more is not None:
            X, _ = with_columns(X, None, more)
        return X, labels, n_samples
