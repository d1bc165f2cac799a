"""Rows that are added to a fitted model: `partial_fit` and `update_random_effects`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from ..likelihood._fit import Fit
from ..moments._grouped_moments import GroupedMoments
from ..moments._labels import has_groups, warn_of_twins
from ..moments._remainder import KnownPart
from ._base import THREE_WAYS, GroupedRegressor, GroupsNotPassedWarning
from ._checks import TooLittleError

NO_GROUPS = f"fit was given no groups: the model is ordinary least squares, with a group variance of 0. {THREE_WAYS}"
# Returns moments with a remainder: those of what a known part leaves of y.
ReadAgain = Callable[[GroupedMoments, KnownPart], GroupedMoments]


class IncrementalRegressor(GroupedRegressor):
    """Base of the regressors that are fitted from moments, to which rows can be added.

    A subclass has the methods that raise NotImplementedError here.
    """

    moments_: GroupedMoments
    fit_: Fit

    def _check_parameters(self) -> None:
        """Raise for a parameter outside its choices."""
        raise NotImplementedError

    def _read(
        self, X: Any, y: Any, groups: Any, sample_weight: Any, *, reset: bool = True, min_rows: int = 1
    ) -> tuple[GroupedMoments, ReadAgain]:
        """Return the moments of rows, and what reads the rows again. Only this depends on where the rows are."""
        raise NotImplementedError

    def _store(self, moments: GroupedMoments, read_again: ReadAgain | None = None) -> Self:
        """Solve for moments and set the fitted attributes; without `read_again` there are no rows to read again."""
        raise NotImplementedError

    def _set_random_effects(self, fit: Fit) -> None:
        """Set the fit, its groups and the effect of each."""
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there are estimates: moments of too few rows to estimate anything do not count."""
        return hasattr(self, "coef_")

    def partial_fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Add rows to those fitted before, and estimate everything anew from the moments of all of them.

        Whatever the rows are cut into, and in whatever order they come, the model is that of one `fit` to all of them. Until
        the rows identify the model (two groups, one of which has two rows, and more rows than fixed effects), they are
        kept, and the model is not fitted yet. Rows in many small parts are read faster by `GroupedMoments.from_batches`,
        since every call solves the model once.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, with the columns of the calls before.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group label of each row: of groups known or new. Rows of a group may be spread over calls.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        self : RandomInterceptRegressor
            The model of all rows. If the call fails, the model stays as it was.

        Raises
        ------
        ValueError
            Where values or labels are missing, lengths differ, the columns are not those of the calls before, or some
            calls have groups and others have not.

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
        before: GroupedMoments | None = getattr(self, "moments_", None)
        with self._unchanged_on_error():
            moments, read_again = self._read(X, y, groups, sample_weight, reset=before is None, min_rows=0)
            grouped = has_groups(moments.labels)
            if before is not None:
                if moments.n_groups and before.n_groups and grouped != has_groups(before.labels):
                    now, then = ("groups", "none") if grouped else ("no groups", "some")
                    raise ValueError(
                        f"partial_fit was given {now}, and {then} before. Pass groups in every call, or in none."
                    )
                moments = _added(before, moments, read_again, moments.outcome_name or before.outcome_name)
                warn_of_twins(before.labels, moments.labels, stacklevel=2)
            elif not grouped:
                warnings.warn(f"partial_{NO_GROUPS}", GroupsNotPassedWarning, stacklevel=2)
            try:
                return self._store(moments)
            except TooLittleError:
                # Rows only add to what identifies a model, unless a parameter or weights below 1 say otherwise.
                if self.__sklearn_is_fitted__():
                    raise
                self.moments_ = moments
                return self

    def update_random_effects(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Add rows to what is known of their groups, with the fixed effects and the variance components as they are.

        The empirical-Bayes estimates of these groups, and of groups that are new, become those of all rows seen; nothing
        else is estimated anew. So a model that was costly to check, or has been agreed on, follows its groups from day to
        day. Tables and tests of fixed effects and variances stay those of the fit; a later `partial_fit` counts all rows.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `fit`.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group label of each row, where no column of X holds them.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        self : RandomInterceptRegressor
            If the call fails, the model stays as it was.

        Raises
        ------
        ValueError
            As in `fit`, and where the model was fitted without groups or none are passed.

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
                raise ValueError(f"There are no random effects to update: {without}. Pass groups to fit, and here.")
            merged = _added(self.moments_, moments, read_again, self.moments_.outcome_name)
            warn_of_twins(self.groups_, merged.labels, stacklevel=2)
            self._set_random_effects(self.fit_.updated(merged))
        return self


def _added(before: GroupedMoments, new: GroupedMoments, read_again: ReadAgain, outcome_name: str | None) -> GroupedMoments:
    """Return the moments of old and new rows, with the remainder and the name of groups that the old ones may have."""
    if before.remainder is not None and new.n_groups and new.n_features == before.n_features:
        new = read_again(new, new.known_part(before.remainder.slopes))
    merged = before.merge(new)
    name = merged.labels.name or before.labels.name
    return replace(merged, labels=merged.labels.rename(name), outcome_name=outcome_name)
