"""`IncrementalRegressor`: `partial_fit` and `update_random_effects` add rows to a fitted model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from .._typing import DegreesOfFreedom
from ..likelihood._factor_fit import FactorFit
from ..likelihood._fit import Fit
from ..likelihood._mixed_fit import MixedEffectsFit
from ..likelihood._random_effects_fit import RandomEffectsFit
from ..moments._cell_scatter import CellScatter
from ..moments._cells import RowsInCells
from ..moments._labels import has_groups, warn_of_twins
from ..moments._remainder import KnownPart
from ..moments._rows import GroupedRows, as_outcome, as_weights, check_containers
from ..moments._scatter import Scatter
from ._base import GroupedRegressor
from ._errors import TooLittleError
from ._groups_not_passed import FIT_WITHOUT_GROUPS, PASS_GROUPS, warn_of_missing_groups
from ._rows_in_memory import RowsInMemory, scaled_quantiles, weighted_residuals
from ._summary import ModelSummary, summarise_model

# Takes a record and a known part of y, reads the rows again and returns the record with the remainder of y.
ReadAgain = Callable[[Any, KnownPart], Any]


class IncrementalRegressor(GroupedRegressor):
    """Base of the regressors that are fitted from a record of rows, to which rows can be added.

    The record is a `GroupedMoments` or a `GroupedScatter`. A subclass overrides the methods that raise NotImplementedError
    here.
    """

    moments_: Any
    fit_: Any
    groups_: Any
    n_groups_: Any
    _effects: Any
    _scaled_residuals: np.ndarray | None = None
    _of_formula = False

    def _check_parameters(self) -> None:
        """Raise a ValueError for a parameter that is not one of its choices."""
        raise NotImplementedError

    def _read(
        self, X: Any, y: Any, groups: Any, sample_weight: Any, *, reset: bool = True, min_rows: int = 1
    ) -> tuple[Any, ReadAgain]:
        """Return the record of rows, and a function that reads them again. Only this method knows where the rows are."""
        raise NotImplementedError

    def _record(self, rows: Any) -> Any:
        """Return the record of checked rows."""
        raise NotImplementedError

    def _store(self, moments: Any, read_again: ReadAgain | None = None) -> Self:
        """Fit to a record and set the fitted attributes; without `read_again` there are no rows to read again."""
        raise NotImplementedError

    def _warn_of_no_groups(self, method: str) -> None:
        """Warn that no groups were passed to a method."""
        warn_of_missing_groups(f"{method} {FIT_WITHOUT_GROUPS} {PASS_GROUPS}")

    def _warn_of_twins(self, before: Any, moments: Any) -> None:
        """Warn of labels that are the same as numbers and as text, among those of a record and those it had before."""
        if isinstance(moments, CellScatter):
            for at, labels in enumerate(moments.cells.levels):
                warn_of_twins(labels[:0] if before is None else before.cells.levels[at], labels)
        else:
            warn_of_twins(moments.labels[:0] if before is None else before.labels, moments.labels)

    def _set_random_effects(self, fit: Fit | RandomEffectsFit) -> None:
        """Set the fit record, the groups and their random effects."""
        self.__dict__.pop("random_effects_", None)
        self.fit_, self.moments_ = fit, fit.known
        if isinstance(fit, FactorFit):
            views = fit.factors
            self.groups_ = {name: view.labels for name, view in views.items()}
            self.n_groups_ = {name: len(view.labels) for name, view in views.items()}
            self._effects = {name: view.random_effects for name, view in views.items()}
        else:
            one = cast(Fit | MixedEffectsFit, fit)
            self.groups_, self.n_groups_, self._effects = one.labels, len(one.labels), one.random_effects

    def _fit_rows(self, X: Any, y: Any, groups: Any, sample_weight: Any) -> Self:
        """Fit to rows; if that fails, the model does not change."""
        self._check_parameters()
        with self._unchanged_on_error():
            return self._fit_record(*self._read(X, y, groups, sample_weight))

    def _fit_record(self, moments: Any, read_again: ReadAgain) -> Self:
        """Fit to the record of rows that can be read again."""
        if not has_groups(moments.labels):
            self._warn_of_no_groups("fit")
        self._warn_of_twins(None, moments)
        self._store(moments, read_again)
        if isinstance(read_again, RowsInMemory):
            self._scaled_residuals = read_again.scaled_residuals(self.fit_)
        return self

    def _fit_checked_rows(self, rows: GroupedRows | RowsInCells, n_random_only: int) -> Self:
        """Fit to rows that are checked already; the last columns, `n_random_only` of them, have no fixed effects."""
        self._check_parameters()
        names = rows.feature_names or ()
        with self._unchanged_on_error():
            self._group_key, self._group_position, self._of_formula = None, None, True
            self.n_features_in_ = len(names) - n_random_only
            self.feature_names_in_ = np.array(names[: self.n_features_in_], dtype=object)
            return self._fit_record(self._record(rows), RowsInMemory(rows))

    def _summary_of_rows(self, X: Any, y: Any, groups: Any, sample_weight: Any, ddf: DegreesOfFreedom) -> ModelSummary:
        """Return the summary of the model, with the scaled residuals of rows, or without y of those of `fit`."""
        check_is_fitted(self)
        scaled = self._scaled_residuals
        if y is not None:
            check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
            residuals = self.fit_.residuals(*self.locate(X, groups), as_outcome(y))
            if sample_weight is not None:
                weights = as_weights(sample_weight, len(residuals))
                residuals = weighted_residuals(residuals, weights, self.fit_.options.weight_type)
            scaled = scaled_quantiles(residuals, self.fit_)
        return summarise_model(self, scaled, ddf)

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there are estimates; moments of too few rows to identify the model are not a fit."""
        return hasattr(self, "coef_")

    def partial_fit(
        self, X: Any, y: ArrayLike, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Add rows to the rows fitted before, and estimate everything again from the moments of all rows.

        The model is that of one `fit` to all rows, however they are cut into parts and ordered. The model is not fitted
        until the rows identify it: two groups, one of which has two rows, and more rows than fixed effects; until then their
        moments are kept. Every call solves the model once, so that `GroupedMoments.from_batches` is faster for many parts,
        and `GroupedScatter.from_batches` for those of a model with slopes.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, with the same columns in every call.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group label of each row, of known or new groups, as in `fit`. Several calls may hold rows of the same group.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        self : RandomInterceptRegressor or MixedEffectsRegressor
            The model of all rows. If the call fails, the model does not change.

        Raises
        ------
        ValueError
            If values or labels are missing, lengths differ, the columns differ from those of earlier calls, or only some
            calls have groups.

        Examples
        --------
        >>> from sklearn_mlm import RandomInterceptRegressor
        >>> from sklearn_mlm.datasets import load_sleepstudy
        >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
        >>> model = RandomInterceptRegressor()
        >>> for start in range(0, 180, 60):
        ...     rows = slice(start, start + 60)
        ...     model = model.partial_fit(X[rows], y[rows], subject[rows])
        >>> model.coef_.round(4)
        array([10.4673])
        """
        self._check_parameters()
        before = getattr(self, "moments_", None)
        with self._unchanged_on_error():
            moments, read_again = self._read(X, y, groups, sample_weight, reset=before is None, min_rows=0)
            grouped = has_groups(moments.labels)
            if before is not None:
                if moments.n_groups and before.n_groups and grouped != has_groups(before.labels):
                    now, earlier = ("groups", "none") if grouped else ("no groups", "some")
                    raise ValueError(
                        f"partial_fit was given {now}, but earlier calls had {earlier}. Pass groups in all calls or in none."
                    )
                moments = _added(before, moments, read_again, moments.outcome_name or before.outcome_name)
                self._warn_of_twins(before, moments)
            elif not grouped:
                self._warn_of_no_groups("partial_fit")
            try:
                return self._store(moments)
            except TooLittleError:
                # More rows identify a model that fewer rows identify, unless a parameter changed or weights are below 1.
                if self.__sklearn_is_fitted__():
                    raise
                self.moments_ = moments
                return self

    def update_random_effects(
        self, X: Any, y: ArrayLike, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Estimate the random effects again with additional rows, and keep the fixed effects and variance components.

        The empirical-Bayes estimates of known and new groups become those given all rows seen. Nothing else is estimated
        again, so that a model that was expensive to check, or that was agreed on, can follow its groups from day to day.
        Tables and tests of fixed effects and variances remain those of the fit. A later `partial_fit` uses all rows.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `fit`.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group label of each row; not needed if a column of X holds the labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        self : RandomInterceptRegressor or MixedEffectsRegressor
            The updated model. If the call fails, the model does not change.

        Raises
        ------
        ValueError
            As in `fit`, or if the model was fitted without groups, or if none are passed.

        Examples
        --------
        >>> from sklearn_mlm import RandomInterceptRegressor
        >>> from sklearn_mlm.datasets import load_sleepstudy
        >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
        >>> known = subject < 370
        >>> model = RandomInterceptRegressor().fit(X[known], y[known], groups=subject[known])
        >>> model.predict([[0.0]], groups=[372]).round(1)  # of the population
        array([252.9])
        >>> model.update_random_effects(X[~known], y[~known], groups=subject[~known]).predict([[0.0]], groups=[372]).round(1)
        array([271.7])
        """
        check_is_fitted(self)
        self._check_parameters()
        with self._unchanged_on_error():
            moments, read_again = self._read(X, y, groups, sample_weight, reset=False, min_rows=0)
            if not (self.n_groups_ and has_groups(moments.labels)):
                without = "no groups were passed" if self.n_groups_ else "the model was fitted without groups"
                raise ValueError(f"There are no random effects to update: {without}. Pass groups to fit and to this method.")
            merged = _added(self.moments_, moments, read_again, self.moments_.outcome_name)
            self._warn_of_twins(self.moments_, merged)
            self._set_random_effects(replace(self.fit_, known=merged))
        return self


def fit_checked_rows(model: IncrementalRegressor, rows: GroupedRows | RowsInCells, n_random_only: int = 0) -> None:
    """Fit a model to rows that are checked already, whose last columns, `n_random_only` of them, have no fixed effects."""
    model._fit_checked_rows(rows, n_random_only)


def scaled_residuals_of(model: IncrementalRegressor) -> np.ndarray | None:
    """Return the quantiles of scaled residuals that a fit of rows in memory has kept; None without them."""
    return model._scaled_residuals


def _added(before: Any, new: Any, read_again: ReadAgain, outcome_name: str | None) -> Any:
    """Return the merged record of old and new rows, with the remainder and the group name of the old record, if any."""
    old, moments = (record.moments if isinstance(record, Scatter) else record for record in (before, new))
    if old.remainder is not None and new.n_groups and new.n_features == before.n_features:
        new = read_again(new, moments.known_part(old.remainder.slopes))
    merged = before.merge(new)
    return merged.named(merged.labels.name or before.labels.name, outcome_name)
