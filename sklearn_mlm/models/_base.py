"""`GroupedRegressor`, the base of estimators with groups: group column, validation, metadata routing and group look-up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, hstack, issparse
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.metrics import r2_score
from sklearn.utils import Tags, check_array
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_consistent_length, validate_data

from .._inputs import column_names, name_of, warn_caller
from .._typing import NewGroups
from ..likelihood._solution import predicted_means
from ..moments._complaints import explaining
from ..moments._labels import MISSING, UNSEEN, as_labels, encode, label_kind, warn_of_twins
from ..moments._rows import GroupedRows, as_numbers, as_outcome, check_containers, finite_numbers, grouped_rows
from ._group_column import check_group_feature, group_position, split_group_column
from ._groups_not_passed import PREDICT_WITHOUT_GROUPS, warn_of_missing_groups
from ._label_checks import warn_of_other_groups

POPULATION = "population"
"""Value of `groups` that asks `predict` for predictions without the effect of any group."""

NEW_GROUPS = get_args(NewGroups)


class GroupedRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc, unused-ignore]
    """Base of regressors for rows in groups, which `groups` or the column `group_feature` of X gives.

    A subclass has the parameter `group_feature` and calls `_set_coefficients` in `fit`. To look up groups, it also has
    `groups_`, `n_groups_` and the parameter `new_groups`.

    A parameter that is set after `fit` changes neither the estimates nor the column that holds the groups of new rows:
    `_group_key` stores the `group_feature` of `fit`, and `_group_position` the position of that column. Models of several
    grouping factors have a tuple of names and of positions instead.
    """

    _group_key: Any = None
    _group_position: int | tuple[int, ...] | None = None
    _slopes: np.ndarray

    group_feature: str | int | None
    n_features_in_: int
    coef_: np.ndarray
    intercept_: float
    groups_: pd.Index
    n_groups_: Any
    new_groups: NewGroups

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata that the methods request under metadata routing.

        By default every method that takes `groups` requests them, unless `group_feature` gives the labels. The methods
        `set_fit_request`, `set_predict_request` and so on take precedence.

        Returns
        -------
        routing : sklearn.utils.metadata_routing.MetadataRequest
            The requests of each method.
        """
        routing = super().get_metadata_routing()
        for name in ("fit", "partial_fit", "predict", "score"):
            request = getattr(routing, name)
            if "groups" in request.requests and request.requests["groups"] is None:
                request.add_request(param="groups", alias=self.group_feature is None)
        return routing

    def score(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the coefficient of determination R^2 of ``predict(X, groups)``.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), "population" or None, default=None
            Group labels, as in `predict`. If there are neither `groups` nor a `group_feature`, the population prediction is
            scored, with a warning.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        score : float
            R^2, at most 1; 0 for a model that predicts the mean of y.
        """
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        return float(r2_score(y, self.predict(X, groups), sample_weight=sample_weight))

    def _set_coefficients(self, slopes: np.ndarray) -> None:
        """Set `coef_` from the coefficients of the predictors, with 0 for the group column."""
        self._slopes = self.coef_ = slopes
        for at in sorted(self._positions_of_labels()):
            self.coef_ = np.insert(self.coef_, at, 0.0)

    def _positions_of_labels(self) -> tuple[int, ...]:
        """Return the positions of the columns of X that hold group labels."""
        at = self._group_position
        return () if at is None else (at,) if isinstance(at, int) else at

    def group_column(self, X: Any) -> str | int | None:
        """Return the name or the position of the column of X that holds the group labels, or None if X has none.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            The data.

        Returns
        -------
        key : str, int or None
            The name or the position.
        """
        return self.group_feature

    def groupings(self, groups: Any = None) -> dict[str, tuple[str, ...]]:
        """Return the columns of labels of each grouping factor; empty for a model whose groups have no names.

        Parameters
        ----------
        groups : array-like, data frame or None, default=None
            Groups as `fit` takes them.

        Returns
        -------
        groupings : dict of str to tuple of str
            The columns by the name of the factor.
        """
        return {}

    def with_group_columns(self, labels: pd.DataFrame) -> Self:
        """Return an unfitted copy that takes the group labels from these columns of X.

        Parameters
        ----------
        labels : pandas.DataFrame of shape (n_samples, n_columns)
            The columns of labels.

        Returns
        -------
        copy : GroupedRegressor
            The unfitted copy.
        """
        copy: Self = clone(self)
        return copy

    def with_group_column(self, name: str) -> Self:
        """Return an unfitted copy that takes the group labels from the column of X with this name.

        Parameters
        ----------
        name : str
            The name of the column.

        Returns
        -------
        copy : GroupedRegressor
            The unfitted copy.
        """
        copy: Self = clone(self).set_params(**self._parameters_for_group_column(name))
        return copy

    def _parameters_for_group_column(self, name: str) -> dict[str, Any]:
        """Return the parameters that take the labels from the column of X with this name."""
        return {"group_feature": name}

    def _check_group_feature(self) -> None:
        """Raise a ValueError if `group_feature` is not the name or the position of a column, or None."""
        check_group_feature(self.group_feature)

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Restore all attributes of the model if the block raises an error."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _check_rows(
        self,
        X: Any,
        y: Any,
        groups: Any,
        sample_weight: Any,
        *,
        reset: bool = True,
        min_rows: int = 1,
        more: pd.DataFrame | None = None,
    ) -> Any:
        """Return the rows that are passed to `fit`, checked, with the group of each: a `GroupedRows`.

        The moments check whether X is finite, because they read every value anyway. Without `reset` the columns must be the
        same as before. Columns `more` are appended to X.
        """
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        if reset:
            self._group_key, self._group_position = self.group_column(X), None
        key, outcome_name = self._group_key, name_of(y)
        checks = {"accept_sparse": ["csr", "csc"], "ensure_all_finite": False, "ensure_min_samples": min_rows}
        if X is None:
            self._check_no_predictors(y, groups, reset)
            y = as_outcome(y)
        elif key is None and reset and _is_plain(X, 2) and _is_plain(y, 1) and len(X) == len(y) and np.isfinite(y).all():
            # The same as `validate_data` for such arrays, at a tenth of its cost.
            self.__dict__.pop("feature_names_in_", None)
            self.n_features_in_ = X.shape[1]
        elif key is None:
            with explaining(X, y):
                X, y = validate_data(self, X, y, reset=reset, y_numeric=True, **checks)
                X, y = as_numbers(X, "X"), as_numbers(y, "y")
        else:
            validate_data(self, X, y, reset=reset, skip_check_array=True)
            y = as_outcome(y)
            groups, X, self._group_position = self._split_labels(X, groups)
            if X is not None:
                check_consistent_length(X, y)
                with explaining(X, group_position=self._one_position):
                    X = as_numbers(check_array(X, input_name="X", estimator=self, **checks), "X")
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            names = tuple(name for at, name in enumerate(names) if at not in self._positions_of_labels())
        if more is not None:
            X, names = with_columns(X, names, more)
        try:
            return self._rows_in_groups(
                X,
                y,
                groups,
                sample_weight,
                feature_names=names,
                outcome_name=outcome_name,
                group_position=self._one_position,
                some=min_rows > 0,
            )
        except ValueError as error:
            if self._one_position is not None:
                error.add_note(f"The groups are the column {key!r} of X, unless groups are passed too.")
            raise

    @property
    def _one_position(self) -> int | None:
        """The position of the column of labels, if X has one such column."""
        return self._group_position if isinstance(self._group_position, int) else None

    def _split_labels(self, X: Any, groups: Any) -> tuple[Any, Any, int | tuple[int, ...]]:
        """Return the labels of rows, which X holds unless groups do, X without its column of labels, and its position."""
        position = group_position(X, self._group_key)
        column, X = split_group_column(X, self._group_key)
        if groups is not None:
            warn_of_other_groups(column, groups, self._group_key)
        return column if groups is None else groups, X, position

    def _rows_in_groups(self, X: Any, y: np.ndarray, groups: Any, sample_weight: Any, **options: Any) -> Any:
        """Return checked rows with the group of each."""
        return grouped_rows(X, y, groups, sample_weight, **options)

    def _check_no_predictors(self, y: ArrayLike | None, groups: ArrayLike | None, reset: bool) -> None:
        """Raise a ValueError if X must not be None, and otherwise record that there are no columns."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        if groups is None and self._group_key is not None:
            raise ValueError(f"X is None, but group_feature={self._group_key!r} is a column of it. Pass X, or pass groups.")
        if not reset and self.n_features_in_:
            raise ValueError(f"X is None, but before it had {self.n_features_in_} column(s). Pass these columns.")
        self.__dict__.pop("feature_names_in_", None)
        self.n_features_in_ = 0

    def _validate_new_rows(self, X: Any, groups: Any, *, population: bool = False) -> tuple[Any, Any, int]:
        """Return the predictors of new rows (None if there are none), their groups and their number, checked.

        With `population`, the groups are not needed.
        """
        check_containers(X=X, groups=groups)
        if X is None:
            if len(self._slopes):
                raise ValueError(f"X is None, but the model was fitted with {len(self._slopes)} predictor(s). Pass them.")
            if groups is None:
                raise ValueError("X and groups are both None: pass groups, one label for each row to predict.")
            groups = groups if column_names(groups) is not None else as_labels(groups)
            return None, groups, len(groups)
        if self._group_key is None:
            with explaining(X):
                X = finite_numbers(validate_data(self, X, reset=False, accept_sparse=["csr", "csc"]), "X")
            return X, groups, X.shape[0]
        if hasattr(self, "n_features_in_"):
            validate_data(self, X, reset=False, skip_check_array=True)
        labels, X, position = self._split_labels(X, groups)
        n_samples = len(next(iter(labels.values())) if isinstance(labels, dict) else labels)
        if X is not None:
            with explaining(X, group_position=position if isinstance(position, int) else None):
                X = check_array(X, input_name="X", estimator=self, accept_sparse=["csr", "csc"])
                X = finite_numbers(X, "X")
            n_samples = X.shape[0]
        return X, labels, n_samples

    def locate(self, X: Any, groups: ArrayLike | None = None) -> tuple[Any, np.ndarray]:
        """Return the predictors of new rows, checked, and the position of each row's group in `groups_`.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
            Predictors, as in `predict`.
        groups : array-like of shape (n_samples,), "population" or None, default=None
            Group labels, as in `predict`.

        Returns
        -------
        X : ndarray or sparse matrix of shape (n_samples, n_predictors), or None
            Predictors, without the group column.
        codes : ndarray of shape (n_samples,)
            Positions in `groups_`; -1 for a group that `fit` has not seen, and -2 for a row without a label.
        """
        population = isinstance(groups, str) and groups == POPULATION
        X, groups, n_samples = self._validate_new_rows(X, None if population else groups, population=population)
        if not population and groups is not None:
            return X, self._encode(groups, n_samples)
        if not population and self.n_groups_:
            warn_of_missing_groups(PREDICT_WITHOUT_GROUPS)
        return X, np.full(n_samples, MISSING)

    def _mean(self, X: Any, codes: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """Return predictions with the effect of each row's group; in an unseen group it is 0 or NaN."""
        unseen = np.nan if self.new_groups == "nan" else 0.0
        return predicted_means(X, codes, self._slopes, self.intercept_, effects, unseen)

    def _encode(self, groups: Any, n_samples: int) -> np.ndarray:
        """Return the codes of the groups of new rows, with an error or a warning if unseen labels are not allowed or odd."""
        groups = as_labels(groups, n_samples)
        codes = encode(groups, self.groups_)
        unseen = codes == UNSEEN
        if self.new_groups == "error" and unseen.any():
            found = pd.unique(pd.Series(groups)[unseen])
            raise ValueError(
                f"groups has {len(found)} label(s) that fit has not seen, among them {found[:5].tolist()!r}. Pass known "
                'groups, or set new_groups to "population" or "nan".'
            )
        nothing_known = self.n_groups_ and unseen.any() and not (codes >= 0).any()
        if nothing_known and label_kind(groups) != label_kind(self.groups_):
            warn_caller(
                f"None of the groups is known: their labels have another type ({label_kind(groups)}) than those of fit "
                f"({label_kind(self.groups_)}), as 1 and '1' have. Every row is predicted as a row of a new group."
            )
        elif self.n_groups_ and unseen.any():
            new = pd.Index(pd.unique(pd.Series(groups)[unseen]))
            warn_of_twins(self.groups_, self.groups_.append(new))
        return codes


def checked_rows(
    model: GroupedRegressor, X: Any, y: Any, groups: Any, sample_weight: Any = None, **options: Any
) -> GroupedRows:
    """Return rows as `fit` of a model checks them; fit nothing."""
    rows: GroupedRows = model._check_rows(X, y, groups, sample_weight, **options)
    return rows


def with_columns(X: Any, names: tuple[str, ...] | None, more: pd.DataFrame) -> tuple[Any, tuple[str, ...]]:
    """Return X with more columns of numbers at its end, and the names of all columns."""
    values = more.to_numpy(dtype=np.float64)
    names = tuple(f"x{at}" for at in range(0 if X is None else X.shape[1])) if names is None else names
    if X is not None and X.shape[0] != len(values):
        raise ValueError(f"groups must hold one row per row of X; found {len(values)} for {X.shape[0]} rows.")
    if X is None:
        X = values
    elif issparse(X):
        X = hstack([X, csr_array(values)], format="csr")
    else:
        X = np.column_stack([X, values])
    return X, (*names, *map(str, more.columns))


def _is_plain(values: object, n_dimensions: int) -> bool:
    """Return whether values are an array of numbers that scikit-learn's checks would return unchanged."""
    if type(values) is not np.ndarray or values.ndim != n_dimensions or not values.size:
        return False
    return values.dtype.kind in "fiu" and values.dtype.itemsize <= 8 and values.dtype.isnative
