"""`DaskRandomInterceptRegressor`: the random intercept model for rows in Dask collections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils.validation import assert_all_finite, check_is_fitted, validate_data

from .._inputs import warn_caller
from .._typing import DegreesOfFreedom, Method, NewGroups, WeightType
from ..models._base import POPULATION
from ..models._group_column import split_group_column
from ..models._groups_not_passed import PREDICT_WITHOUT_GROUPS, warn_of_missing_groups
from ..models._incremental import ReadAgain
from ..models._random_intercept import RandomInterceptRegressor, moments_for
from ..models._rows_in_memory import scaled_quantiles, weighted_residuals
from ..models._summary import ModelSummary, summarise_model
from ..moments._grouped_moments import GroupedMoments
from ..moments._labels import as_labels, label_kind
from ..moments._remainder import KnownPart
from ..moments._rows import NO_WEIGHT, as_outcome, as_weights, check_containers
from ._partitions import (
    Names,
    Parts,
    any_lazy,
    as_arrays,
    check_lazy,
    dask_module,
    index_difference,
    merge_by_tree,
    merge_differences,
    partition,
    refuse_another_order,
    without_rows,
)

if TYPE_CHECKING:
    from distributed import Client

_COLUMN_ATTRIBUTES = ("n_features_in_", "feature_names_in_", "_group_key", "_group_position")
# The attributes that predictions of means need: a small part of the model.
_MEAN_ATTRIBUTES = ("coef_", "_slopes", "intercept_", "groups_", "n_groups_", "_effects")


class DaskRandomInterceptRegressor(RandomInterceptRegressor):
    """`RandomInterceptRegressor` for rows in Dask collections: the same model and the same numbers.

    One task reduces each partition to its moments, a tree of tasks merges the moments, and the model is fitted to the merged
    moments, which are as large as the number of groups requires. No task holds more than one partition or a few moments, so
    that the rows may be larger than the memory of all workers. If a worker is lost, Dask repeats its tasks, and the result
    is the same.

    Parameters
    ----------
    method : {"reml", "ml"}, default="reml"
        Restricted maximum likelihood, or maximum likelihood.
    fit_intercept : bool, default=True
        Whether the model has a fixed intercept.
    group_feature : str, int or None, default=None
        Name or position of the column of X that holds the group labels, in place of the argument `groups`.
    new_groups : {"population", "error", "nan"}, default="population"
        What `predict` returns for a group that `fit` has not seen: the fixed part alone, a ValueError (raised when the
        prediction is computed), or NaN.
    weight_type : {"frequency", "precision"}, default="frequency"
        Meaning of a row weight w: w copies of the row, or a residual variance of sigma2 / w.
    client : distributed.Client or None, default=None
        The client with which `fit`, `partial_fit`, `score` and `summary` compute. None uses the current client, or Dask's
        default scheduler if there is no client, as ``compute()`` does. Predictions are lazy: they are computed by whoever
        calls ``compute``.

    See Also
    --------
    sklearn_mlm.RandomInterceptRegressor : The same model in memory, with a description of its attributes; `to_local`
        returns one.
    sklearn_mlm.GroupedMoments : The moments of partitions, for schedulers other than Dask.

    Notes
    -----
    `X` is a Dask DataFrame or Array (or None); `y`, `groups` and `sample_weight` are Series or one-dimensional Arrays.
    Lengths may be unknown, partitions may be empty, categories may be unknown, and a group may have rows in several
    partitions. If all arguments are in memory, the local class fits them.

    Rows are paired by position within partitions, whatever the index of a frame is, as in the local class. If frames have
    different known divisions with the same ends, they are repartitioned like the first frame; Arrays with known chunks are
    rechunked. Frames that hold the same index in different orders are refused: `fit`, `partial_fit`, `score` and `summary`
    compare all partitions, and a lazy prediction compares the rows of each partition.

    If a partition holds a bad value, the error is that of the local class and names the partition.

    Pickles and copies of the model do not contain the client, which cannot be pickled; `sklearn.base.clone` keeps it.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn_mlm.dask import DaskRandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = (da.from_array(part, chunks=50) for part in load_sleepstudy(return_X_y_groups=True))
    >>> model = DaskRandomInterceptRegressor().fit(X, y, groups=subject)
    >>> model.coef_.round(2)
    array([10.47])

    Predictions are lazy:

    >>> predicted = model.predict(X, groups=subject)
    >>> predicted
    dask.array<concatenate, shape=(180,), dtype=float64, chunksize=(50,), chunktype=numpy.ndarray>
    >>> predicted[:3].compute().round(1)
    array([292.2, 302.7, 313.1])
    """

    def __init__(
        self,
        *,
        method: Method = "reml",
        fit_intercept: bool = True,
        group_feature: str | int | None = None,
        new_groups: NewGroups = "population",
        weight_type: WeightType = "frequency",
        client: Client | None = None,
    ):
        super().__init__(
            method=method,
            fit_intercept=fit_intercept,
            group_feature=group_feature,
            new_groups=new_groups,
            weight_type=weight_type,
        )
        self.client = client

    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> Any:
        """Predict the mean outcome of rows in their groups, lazily for Dask collections.

        Parameters
        ----------
        X : Dask DataFrame or Array of shape (n_samples, n_features), or None
            Predictors, as in `fit`; None for a model that was fitted without predictors, with one row for each label of
            `groups`. If X and `groups` are in memory, the prediction is an array in memory.
        groups : Dask Series or Array of shape (n_samples,), "population" or None, default=None
            Group labels; they take precedence over `group_feature`. "population" predicts without random effects.
        return_std : bool, default=False
            Whether to return the standard deviation of the predicted mean as well.

        Returns
        -------
        mean : dask.array.Array of shape (n_samples,)
            Predicted means in units of y, in the partitions of X.
        std : dask.array.Array of shape (n_samples,)
            Standard deviations in units of y, only with `return_std`. ``dask.compute(mean, std)`` reads X once for both.

        Raises
        ------
        ValueError
            If the columns are not those of `fit`. When the prediction is computed, also if the local `predict` would raise.

        Examples
        --------
        >>> import dask.dataframe as dd
        >>> from sklearn_mlm.dask import DaskRandomInterceptRegressor
        >>> from sklearn_mlm.datasets import load_sleepstudy
        >>> rows = dd.from_pandas(load_sleepstudy(as_frame=True).frame, npartitions=3)
        >>> model = DaskRandomInterceptRegressor().fit(rows[["days"]], rows["reaction"], groups=rows["subject"])
        >>> mean, std = model.predict(rows[["days"]], groups=rows["subject"], return_std=True)
        >>> std.compute()[:3].round(2)
        array([10.16,  9.9 ,  9.7 ])
        """
        if not any_lazy(X, groups):
            return super().predict(X, groups, return_std)
        check_is_fitted(self)
        rows = self._check_new_rows({"X": X, "groups": groups})
        parts = partition(rows)
        model = self.to_local() if return_std else self._task_model(_MEAN_ATTRIBUTES)
        return as_arrays(self._map_partitions(_predict, parts, model, return_std), parts.lengths, 1 + return_std)

    def score(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R^2 of ``predict(X, groups)``, in one pass over Dask collections.

        Parameters
        ----------
        X : Dask DataFrame or Array of shape (n_samples, n_features), or None
            Predictors.
        y : Dask Series or Array of shape (n_samples,)
            Outcome.
        groups : Dask Series or Array of shape (n_samples,), "population" or None, default=None
            Group labels, as `predict` takes them.
        sample_weight : Dask Series or Array of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        score : float
            At most 1; 0 for a model that predicts the mean of y.
        """
        if not any_lazy(X, y, groups, sample_weight):
            return super().score(X, y, groups, sample_weight)
        check_is_fitted(self)
        rows = {"X": X, "y": y, "groups": groups, "sample_weight": sample_weight}
        parts = partition(self._check_new_rows(rows))
        each = self._map_partitions(_errors, parts, self._task_model(_MEAN_ATTRIBUTES))
        n_rows, _, _, scatter, squared_error = self._compute(merge_by_tree(_merge_errors, each), parts)
        if n_rows < 2:
            # scikit-learn decides what the score of so few rows is.
            return float(r2_score(np.zeros(int(n_rows)), np.zeros(int(n_rows))))
        if scatter == 0.0:
            return float(squared_error == 0.0)
        return float(1.0 - squared_error / scatter)

    def summary(
        self,
        X: Any = None,
        y: Any = None,
        groups: Any = None,
        *,
        sample_weight: Any = None,
        ddf: DegreesOfFreedom = "satterthwaite",
    ) -> ModelSummary:
        """Return the summary of the model, like that of R's lmer.

        Parameters
        ----------
        X, y, groups : Dask collections or None, default=None
            The rows of `fit`, for the quantiles of the scaled residuals. This process holds one residual for each row in
            memory. Without y, the summary has no residuals.
        sample_weight : Dask Series or Array of shape (n_samples,), default=None
            The weights of `fit`. Residuals are multiplied by the square roots of precisions, or repeated if the weights
            are whole numbers of copies.
        ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
            Degrees of freedom of the tests of fixed effects.

        Returns
        -------
        summary : ModelSummary
            The summary, which prints as text.
        """
        if not any_lazy(X, y, groups, sample_weight):
            return super().summary(X, y, groups, sample_weight=sample_weight, ddf=ddf)
        check_is_fitted(self)
        rows = {"X": X, "y": y, "groups": groups, "sample_weight": sample_weight}
        parts = partition(self._check_new_rows(rows))
        weight_type = self.fit_.options.weight_type
        each = self._map_partitions(_residuals, parts, self._task_model(_MEAN_ATTRIBUTES), weight_type)
        residuals = self._compute(merge_by_tree(np.concatenate, each), parts)
        return summarise_model(self, scaled_quantiles(residuals, self.fit_), ddf)

    def to_local(self) -> RandomInterceptRegressor:
        """Return the model as a `RandomInterceptRegressor`, which needs no Dask.

        Returns
        -------
        model : RandomInterceptRegressor
            A model with the same parameters and attributes.
        """
        local = RandomInterceptRegressor()
        local.__dict__.update({name: value for name, value in vars(self).items() if name != "client"})
        return local

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "client": None}

    def __sklearn_clone__(self) -> Self:
        # scikit-learn copies every parameter, and a client cannot be copied.
        model: Self = super(DaskRandomInterceptRegressor, copy(self)).__sklearn_clone__().set_params(client=self.client)
        return model

    # ---- what the methods above are made of

    def _check_parameters(self) -> None:
        """Raise for a parameter outside its choices."""
        super()._check_parameters()
        if self.client is not None and not callable(getattr(self.client, "compute", None)):
            raise TypeError(f"client must be a distributed.Client or None; found {type(self.client).__name__}.")

    def _read(
        self, X: Any, y: Any, groups: Any, sample_weight: Any, *, reset: bool = True, min_rows: int = 1
    ) -> tuple[GroupedMoments, ReadAgain]:
        """Return the merged moments of all partitions, and a function that reads the partitions again."""
        if not any_lazy(X, y, groups, sample_weight):
            return super()._read(X, y, groups, sample_weight, reset=reset, min_rows=min_rows)
        parts = self.partitions(X, y, groups, sample_weight, reset=reset)

        def read(known: KnownPart | None) -> tuple[int, GroupedMoments]:
            merged: tuple[int, GroupedMoments] = self.reduce(parts, _read_rows, _merge_moments, known)
            return merged

        n_rows, moments = read(None)
        if n_rows < min_rows:
            raise ValueError(f"Found no rows in the {len(parts.pieces)} partition(s). Pass at least {min_rows}.")
        if min_rows and not moments.n_groups:
            raise ValueError(NO_WEIGHT)
        return moments, lambda moments, known: replace(moments, remainder=read(known)[1].remainder)

    def partitions(self, X: Any, y: Any, groups: Any, sample_weight: Any, *, reset: bool = True) -> Parts:
        """Return collections, divided into partitions of the same rows, and set the attributes of columns.

        Parameters
        ----------
        X, y, groups, sample_weight : dask collection or None
            As in `fit`.
        reset : bool, default=True
            Whether the columns may differ from those of earlier calls.

        Returns
        -------
        parts : Parts
            The partitions.
        """
        arguments = {"X": X, "y": y, "groups": groups, "sample_weight": sample_weight}
        any_lazy()
        check_lazy(arguments)
        # The local class reads the columns without rows, to validate them and to set the attributes of columns.
        super()._read(*map(without_rows, arguments.values()), reset=reset, min_rows=0)
        return partition(arguments)

    def reduce(self, parts: Parts, read: Callable[..., Any], merge: Callable[[Sequence[Any]], Any], *arguments: Any) -> Any:
        """Return what `merge` makes of the results of `read` for each partition.

        Parameters
        ----------
        parts : Parts
            The partitions, as `partitions` returns them.
        read : callable
            A function of a local model, its arguments and the rows of a partition.
        merge : callable
            A function of a list of results, which returns one of the same kind.
        *arguments : object
            Further arguments of `read`.

        Returns
        -------
        result : object
            The merged result.
        """
        each = self._map_partitions(read, parts, self._task_model(), *arguments)
        return self._compute(merge_by_tree(merge, each), parts)

    def _check_new_rows(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a prediction, checked without their rows; warn if groups are missing or unknown."""
        check_lazy(arguments)
        X, groups = arguments["X"], arguments["groups"]
        columns = without_rows(X)
        if X is None:
            self._validate_new_rows(None, without_rows(groups))
        elif hasattr(self, "n_features_in_"):
            validate_data(self, columns, reset=False, skip_check_array=True)
        population = isinstance(groups, str) and groups == POPULATION
        labels = None if groups is None or population else without_rows(groups)
        if X is not None and self._group_key is not None:
            column, _ = split_group_column(columns, self._group_key)
            labels = column if groups is None else labels
        if groups is None and labels is None and self.n_groups_:
            warn_of_missing_groups(PREDICT_WITHOUT_GROUPS)
            return {**arguments, "groups": POPULATION}  # so that the workers do not warn again
        if labels is not None:
            self._warn_of_another_type(labels)
        return arguments

    def _warn_of_another_type(self, labels: Any) -> None:
        """Warn, before anything is computed, if the type of the labels shows that none of them is known."""
        labels = as_labels(labels)
        if str(labels.dtype) == "category":
            return
        found, known = label_kind(labels), label_kind(self.groups_)
        if {found, known} == {"number", "string"}:
            warn_caller(
                f"None of the groups is known: their labels have another type ({found}) than those of fit ({known}), as 1 "
                "and '1' have. Every row is predicted as a row of a new group.",
            )

    def _task_model(self, names: tuple[str, ...] = ()) -> RandomInterceptRegressor:
        """Return a local model for tasks, with the same parameters and columns and the named attributes."""
        local = RandomInterceptRegressor()
        local.set_params(**{name: getattr(self, name) for name in local.get_params()})
        local.__dict__.update({name: getattr(self, name) for name in (*_COLUMN_ATTRIBUTES, *names) if hasattr(self, name)})
        return local

    def _map_partitions(
        self, function: Callable[..., Any], parts: Parts, model: RandomInterceptRegressor, *arguments: Any
    ) -> list[Any]:
        """Return the delayed results of a function of the model, the arguments and the rows of each partition."""
        delayed = dask_module("dask").delayed
        # The model is the result of a task, because a plain value would be copied into every task that takes it.
        sent, task = delayed(_identity, traverse=False)(model), delayed(_apply)
        return [task(function, arguments, sent, number, parts.names, *pieces) for number, pieces in enumerate(parts.pieces)]

    def _compute(self, value: Any, parts: Parts) -> Any:
        """Return a delayed value of all partitions, computed with `client`; raise if two frames are in different orders."""
        delayed = dask_module("dask").delayed
        task = delayed(index_difference)
        difference = merge_by_tree(merge_differences, [task(pieces[0]) for pieces in parts.pieces])
        client: Any = self.client
        both = delayed((value, difference))
        value, difference = both.compute() if client is None else client.compute(both, sync=True)
        refuse_another_order(parts.names, difference)
        return value


def _identity(value: Any) -> Any:
    return value


def _apply(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    model: RandomInterceptRegressor,
    number: int,
    names: Names,
    framed: tuple[Any, ...],
    *blocks: Any,
) -> Any:
    """Return a function of the model and the rows of a partition; errors name the partition."""
    pieces = dict(zip(names.lazy, (*framed, *blocks), strict=True))
    _check_same_rows(pieces, names, number)
    try:
        return function(model, *arguments, **pieces, **names.same)
    except ValueError as error:
        raise ValueError(f"{error}\nFound in partition {number} (partitions and their rows are counted from 0).") from error


def _check_same_rows(pieces: dict[str, Any], names: Names, number: int) -> None:
    """Raise if the pieces of a partition do not belong to the same rows."""
    first, *others = pieces
    for name in others:
        found, wanted = pieces[name].shape[0], pieces[first].shape[0]
        if found != wanted:
            raise ValueError(
                f"{name} and {first} must have the same number of rows in each partition: found {found} and {wanted} in "
                f"partition {number}, counted from 0. Take both from one frame, or repartition one of them by the divisions "
                "or chunks of the other."
            )
    for name in names.by_index:
        if not pieces[name].index.equals(pieces[first].index):
            raise ValueError(
                f"{name} was repartitioned to the divisions of {first}, but has another index in partition {number} "
                "(counted from 0), so that rows cannot be paired. Sort both by their index, or take both from one frame."
            )


def _read_rows(
    model: RandomInterceptRegressor, known: KnownPart | None, X: Any, y: Any, groups: Any, sample_weight: Any
) -> tuple[int, GroupedMoments]:
    """Return the number of rows of a partition, and their moments; with a known part, also the moments of the rest of y."""
    moments, read_again = moments_for(model, X, y, groups, sample_weight)
    return y.shape[0], moments if known is None or not y.shape[0] else read_again(moments, known)


def _merge_moments(parts: Sequence[tuple[int, GroupedMoments]]) -> tuple[int, GroupedMoments]:
    """Return the number of rows and the moments of all parts together."""
    return sum(n_rows for n_rows, _ in parts), GroupedMoments.merge(moments for _, moments in parts)


def _predict(model: RandomInterceptRegressor, return_std: bool, X: Any, groups: Any) -> Any:
    """Return the prediction for a partition, which may have no rows."""
    if not (groups if X is None else X).shape[0]:
        return (np.empty(0), np.empty(0)) if return_std else np.empty(0)
    return model.predict(X, groups, return_std)


def _residuals(
    model: RandomInterceptRegressor, weight_type: WeightType, X: Any, y: Any, groups: Any, sample_weight: Any
) -> np.ndarray:
    """Return the residuals of a partition, weighted as in the summary of a local model."""
    check_containers(y=y, sample_weight=sample_weight)
    residuals: np.ndarray = as_outcome(y) - _predict(model, False, X, groups)
    if sample_weight is None:
        return residuals
    return weighted_residuals(residuals, as_weights(sample_weight, len(residuals)), weight_type)


def _errors(model: RandomInterceptRegressor, X: Any, y: Any, groups: Any, sample_weight: Any) -> np.ndarray:
    """Return the number, total weight, mean and scatter of the outcomes of a partition, and the sum of squared errors."""
    check_containers(y=y, sample_weight=sample_weight)
    outcome = np.asarray(as_outcome(y), dtype=np.float64)
    predicted = _predict(model, False, X, groups)
    assert_all_finite(outcome, input_name="y")
    assert_all_finite(predicted)
    weights = np.ones(len(outcome)) if sample_weight is None else as_weights(sample_weight, len(outcome))
    total = weights.sum()
    # Relative to an outcome, so that the scatter of equal outcomes is exactly 0.
    mean = outcome[0] + weights @ (outcome - outcome[0]) / total if total > 0 else 0.0
    scatter, squared_error = weights @ (outcome - mean) ** 2, weights @ (outcome - predicted) ** 2
    return np.array([len(outcome), total, mean, scatter, squared_error])


def _merge_errors(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return what `_errors` returns, for the rows of all parts together."""
    n_rows, totals, means, scatters, squared_errors = np.transpose(parts)
    total = totals.sum()
    origin = means[totals.argmax()]
    mean = origin + totals @ (means - origin) / total if total > 0 else 0.0
    scatter = scatters.sum() + totals @ (means - mean) ** 2
    return np.array([n_rows.sum(), total, mean, scatter, squared_errors.sum()])
