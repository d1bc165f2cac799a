"""`DaskRandomInterceptRegressor`: the random intercept model of rows in Dask collections, which no one memory need hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils.validation import assert_all_finite, check_is_fitted, validate_data

from .._typing import DegreesOfFreedom
from ..models._base import POPULATION, PREDICT_WITHOUT_GROUPS, GroupsNotPassedWarning
from ..models._group_column import split_group_column
from ..models._random_intercept import RandomInterceptRegressor, ReadAgain, weighted_residuals
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
    index_difference,
    merge_by_tree,
    merge_differences,
    partition,
    refuse_another_order,
    without_rows,
)

_OF_COLUMNS = ("n_features_in_", "feature_names_in_", "_group_key", "_group_position")
# What a prediction takes of a model where no standard deviation is asked for: the smaller part of it.
_FOR_MEANS = ("coef_", "_slopes", "intercept_", "groups_", "n_groups_", "_effects")


class DaskRandomInterceptRegressor(RandomInterceptRegressor):
    """`RandomInterceptRegressor` for rows in Dask collections: the same model and figures, read where the rows are.

    Each partition is read into its moments by one task, the moments are merged by a tree of tasks, and one state, of the
    size of the groups, comes back to be fitted. No task sees more than a partition or a few states, so that the rows may be
    more than the workers' memory together; a worker that is lost is replaced without a trace in the answer.

    Parameters
    ----------
    method : {"reml", "ml"}, default="reml"
        Restricted maximum likelihood, or maximum likelihood.
    fit_intercept : bool, default=True
        Whether the model has a fixed intercept.
    group_feature : str, int or None, default=None
        Name or position of the column of X that holds the group labels, in place of the argument `groups`.
    new_groups : {"population", "error", "nan"}, default="population"
        What `predict` gives for a group that `fit` has not seen: the fixed part alone, a ValueError (when the prediction
        is computed), or NaN.
    weight_type : {"frequency", "precision"}, default="frequency"
        What a row weight w means: w copies of the row, or a residual variance of sigma2 / w.
    client : distributed.Client or None, default=None
        Where `fit`, `partial_fit`, `score` and `summary` compute. None is the current client if there is one, and Dask's
        default scheduler otherwise, as in Dask's own ``compute()``. Predictions are lazy: whoever computes them says
        where.

    See Also
    --------
    RandomInterceptRegressor : The same model in memory, with a description of its attributes; `to_local` makes one.
    GroupedMoments : The state that partitions are read into, to use with other schedulers than Dask's.

    Notes
    -----
    `X` is a Dask DataFrame or Array (or None), `y`, `groups` and `sample_weight` are Series or one-dimensional Arrays; of
    unknown lengths, with empty partitions, unknown categories and groups that lie across partitions, as they come. They
    are paired partition by partition and row by row, whatever the index of a frame is, as in the local class; but
    frames of unequal known divisions are brought to those of the first, and Arrays of known chunks to its chunks. Frames
    that hold the same index in different orders are refused: `fit`, `partial_fit`, `score` and `summary` compare all
    partitions, a lazy prediction compares the rows of each partition. If all arguments are in memory, the local class fits
    them.

    An error of a value is the local one, and says which partition it was found in.

    Pickles and copies leave the client out, which neither pickle nor copy can take; `sklearn.base.clone` shares it.

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
        method: str = "reml",
        fit_intercept: bool = True,
        group_feature: str | int | None = None,
        new_groups: str = "population",
        weight_type: str = "frequency",
        client: Any = None,
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
            Predictors, as in `fit`; None for a null model fitted so, with `groups` to say for which rows. In memory, they
            are predicted there and then.
        groups : Dask Series or Array of shape (n_samples,), "population" or None, default=None
            Group labels; they count for more than `group_feature`. "population" leaves out every group's effect.
        return_std : bool, default=False
            Whether to return the standard deviation of the predicted mean as well.

        Returns
        -------
        mean : dask.array.Array of shape (n_samples,)
            In units of y, in the partitions of X.
        std : dask.array.Array of shape (n_samples,)
            Only with `return_std`; in units of y. Computed together (``dask.compute(mean, std)``), both read X once.

        Raises
        ------
        ValueError
            For columns other than those of `fit`; and, when the prediction is computed, for what the local `predict`
            refuses.

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
        rows = self._check_new_rows({"X": X, "groups": groups}, stacklevel=2)
        parts = partition(rows)
        model = self.to_local() if return_std else self._bare(_FOR_MEANS)
        return as_arrays(self._each(_predict, parts, model, return_std), parts.lengths, 1 + return_std)

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
        parts = partition(self._check_new_rows(rows, stacklevel=2))
        merged = merge_by_tree(_merge_errors, self._each(_errors, parts, self._bare(_FOR_MEANS)))
        sums = self._compute_in_order(merged, parts)
        n_rows, _, _, scatter, squared_error = sums
        if n_rows < 2:
            # scikit-learn's answer to so few rows, whatever it is.
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
        """Return the summary of the model, as lmer prints it.

        Parameters
        ----------
        X, y, groups : default=None
            The rows of `fit`, for the quantiles of the scaled residuals, one number a row that this process must have
            memory for; without y there are none.
        sample_weight : default=None
            The weights of `fit`. Residuals are multiplied by the roots of precisions, and whole numbers of copies count as
            so many residuals.
        ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
            Degrees of freedom of the tests of fixed effects.

        Returns
        -------
        summary : ModelSummary
        """
        if not any_lazy(X, y, groups, sample_weight):
            return super().summary(X, y, groups, sample_weight=sample_weight, ddf=ddf)
        check_is_fitted(self)
        rows = {"X": X, "y": y, "groups": groups, "sample_weight": sample_weight}
        parts = partition(self._check_new_rows(rows, stacklevel=2))
        weight_type = self.fit_.options.weight_type
        merged = merge_by_tree(np.concatenate, self._each(_residuals, parts, self._bare(_FOR_MEANS), weight_type))
        residuals = self._compute_in_order(merged, parts)
        sigma = float(np.sqrt(self.fit_.residual_variance))
        return summarise_model(self, residuals / sigma if sigma > 0 else None, ddf)

    def to_local(self) -> RandomInterceptRegressor:
        """Return the model as a `RandomInterceptRegressor`, which needs no Dask.

        Returns
        -------
        model : RandomInterceptRegressor
            With the same parameters and attributes.
        """
        local = RandomInterceptRegressor()
        local.__dict__.update({name: value for name, value in vars(self).items() if name != "client"})
        return local

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "client": None}

    def __sklearn_clone__(self) -> Self:
        # scikit-learn copies every parameter, and a client cannot be copied.
        return super(DaskRandomInterceptRegressor, copy(self)).__sklearn_clone__().set_params(client=self.client)

    # ---- what the methods above are made of

    def _check_parameters(self) -> None:
        """Raise for a parameter outside its choices."""
        super()._check_parameters()
        if self.client is not None and not callable(getattr(self.client, "compute", None)):
            raise TypeError(f"client must be a distributed.Client or None; found {type(self.client).__name__}.")

    def _read(
        self, X: Any, y: Any, groups: Any, sample_weight: Any, *, reset: bool = True, min_rows: int = 1
    ) -> tuple[GroupedMoments, ReadAgain]:
        """Return the moments of rows, merged from those of partitions, and what reads the partitions again."""
        if not any_lazy(X, y, groups, sample_weight):
            return super()._read(X, y, groups, sample_weight, reset=reset, min_rows=min_rows)
        arguments = {"X": X, "y": y, "groups": groups, "sample_weight": sample_weight}
        check_lazy(arguments)
        # The local class reads no rows of these columns, to say what it thinks of them and to note their names.
        super()._read(*map(without_rows, arguments.values()), reset=reset, min_rows=0)
        parts = partition(arguments)

        def read(known: KnownPart | None) -> tuple[int, GroupedMoments]:
            each = self._each(_read_rows, parts, self._bare(), known)
            return self._compute_in_order(merge_by_tree(_merge_moments, each), parts)

        n_rows, moments = read(None)
        if n_rows < min_rows:
            raise ValueError(f"Found no rows in the {len(parts.pieces)} partition(s). Fit at least {min_rows}.")
        if min_rows and not moments.n_groups:
            raise ValueError(NO_WEIGHT)
        return moments, lambda moments, known: replace(moments, remainder=read(known)[1].remainder)

    def _check_new_rows(self, arguments: dict[str, Any], stacklevel: int) -> dict[str, Any]:
        """Return the arguments of `predict` or `score`, checked without their rows, with a warning for no groups."""
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
            warnings.warn(PREDICT_WITHOUT_GROUPS, GroupsNotPassedWarning, stacklevel=stacklevel + 1)
            return {**arguments, "groups": POPULATION}  # lest the workers warn as well
        if labels is not None:
            self._warn_of_another_type(labels, stacklevel + 1)
        return arguments

    def _warn_of_another_type(self, labels: Any, stacklevel: int) -> None:
        """Warn of labels whose type says that none of them is known: a prediction must not be computed to say so."""
        labels = as_labels(labels)
        if str(labels.dtype) == "category":
            return
        found, known = label_kind(labels), label_kind(self.groups_)
        if {found, known} == {"number", "string"}:
            warnings.warn(
                f"None of the groups is known: their labels are of another type ({found}) than those of fit ({known}), as 1 "
                "and '1' are. Every row is predicted as one of a new group.",
                UserWarning,
                stacklevel=stacklevel + 1,
            )

    def _bare(self, names: tuple[str, ...] = ()) -> RandomInterceptRegressor:
        """Return a local model with the same parameters and columns, and some of the other attributes."""
        local = RandomInterceptRegressor()
        local.set_params(**{name: getattr(self, name) for name in local.get_params()})
        local.__dict__.update({name: getattr(self, name) for name in (*_OF_COLUMNS, *names) if hasattr(self, name)})
        return local

    def _each(self, function: Callable, parts: Parts, model: Any, *arguments: Any) -> list[Any]:
        """Return the delayed results of a function of the model and the rows of each partition."""
        import dask

        # The value of a call, that is: a mere value would be copied into every task that takes it.
        sent, task = dask.delayed(_itself, traverse=False)(model), dask.delayed(_apply)
        return [task(function, arguments, sent, number, parts.names, *pieces) for number, pieces in enumerate(parts.pieces)]

    def _compute_in_order(self, value: Any, parts: Parts) -> Any:
        """Return a delayed value of all partitions, computed where `client` says, and refuse two orders of one index."""
        import dask

        task = dask.delayed(index_difference)
        difference = merge_by_tree(merge_differences, [task(pieces[0]) for pieces in parts.pieces])
        both = dask.delayed(_pair)(value, difference)
        value, difference = both.compute() if self.client is None else self.client.compute(both, sync=True)
        refuse_another_order(parts.names, difference)
        return value


def _pair(*values: Any) -> tuple[Any, ...]:
    return values


def _itself(value: Any) -> Any:
    return value


def _apply(
    function: Callable,
    arguments: tuple,
    model: RandomInterceptRegressor,
    number: int,
    names: Names,
    framed: tuple,
    *blocks: Any,
) -> Any:
    """Return a function of the rows of a partition, whose errors say which one it is."""
    pieces = dict(zip(names.lazy, (*framed, *blocks), strict=True))
    _check_same_rows(pieces, names, number)
    try:
        return function(model, *arguments, **pieces, **names.same)
    except ValueError as error:
        raise ValueError(f"{error}\nFound in partition {number}; partitions, and the rows of each, count from 0.") from error


def _check_same_rows(pieces: dict[str, Any], names: Names, number: int) -> None:
    """Raise where the pieces of a partition cannot be of the same rows."""
    first, *others = pieces
    for name in others:
        found, wanted = pieces[name].shape[0], pieces[first].shape[0]
        if found != wanted:
            raise ValueError(
                f"{name} and {first} must have the same number of rows in each partition: found {found} and {wanted} in "
                f"partition {number}, counted from 0. Take both from one frame, or repartition one by the other's divisions "
                "or chunks."
            )
    for name in names.by_index:
        if not pieces[name].index.equals(pieces[first].index):
            raise ValueError(
                f"{name} was brought to the divisions of {first}, but has another index in partition {number}, "
                "counted from 0, so that rows cannot be paired. Sort both by their index, or take both from one frame."
            )


def _read_rows(
    model: RandomInterceptRegressor, known: KnownPart | None, X: Any, y: Any, groups: Any, sample_weight: Any
) -> tuple[int, GroupedMoments]:
    """Return the number of rows of a partition, and their moments, with those of what a known part leaves of y."""
    moments, read_again = model._read(X, y, groups, sample_weight, reset=False, min_rows=0)
    return y.shape[0], moments if known is None or not y.shape[0] else read_again(moments, known)


def _merge_moments(parts: tuple[tuple[int, GroupedMoments], ...]) -> tuple[int, GroupedMoments]:
    """Return the number of rows of parts, and their moments."""
    return sum(n_rows for n_rows, _ in parts), GroupedMoments.merge(moments for _, moments in parts)


def _predict(model: RandomInterceptRegressor, return_std: bool, X: Any, groups: Any) -> Any:
    """Return the prediction of a partition, which may have no rows."""
    if not (groups if X is None else X).shape[0]:
        return (np.empty(0), np.empty(0)) if return_std else np.empty(0)
    return model.predict(X, groups, return_std)


def _residuals(
    model: RandomInterceptRegressor, weight_type: str, X: Any, y: Any, groups: Any, sample_weight: Any
) -> np.ndarray:
    """Return the residuals of a partition, weighted as in a summary in memory."""
    check_containers(y=y, sample_weight=sample_weight)
    residuals = as_outcome(y) - _predict(model, False, X, groups)
    if sample_weight is None:
        return residuals
    return weighted_residuals(residuals, as_weights(sample_weight, len(residuals)), weight_type)


def _errors(model: RandomInterceptRegressor, X: Any, y: Any, groups: Any, sample_weight: Any) -> np.ndarray:
    """Return number, total weight, mean and scatter of the outcomes of a partition, and the squared error of predictions."""
    check_containers(y=y, sample_weight=sample_weight)
    outcome = np.asarray(as_outcome(y), dtype=np.float64)
    predicted = _predict(model, False, X, groups)
    assert_all_finite(outcome, input_name="y")
    assert_all_finite(predicted)
    weights = np.ones(len(outcome)) if sample_weight is None else as_weights(sample_weight, len(outcome))
    total = weights.sum()
    # From an outcome on, so that outcomes that are all the same have no scatter.
    mean = outcome[0] + weights @ (outcome - outcome[0]) / total if total > 0 else 0.0
    scatter, squared_error = weights @ (outcome - mean) ** 2, weights @ (outcome - predicted) ** 2
    return np.array([len(outcome), total, mean, scatter, squared_error])


def _merge_errors(parts: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return what `_errors` returns of all rows of parts."""
    n_rows, totals, means, scatters, squared_errors = np.transpose(parts)
    total = totals.sum()
    origin = means[totals.argmax()]
    mean = origin + totals @ (means - origin) / total if total > 0 else 0.0
    scatter = scatters.sum() + totals @ (means - mean) ** 2
    return np.array([n_rows.sum(), total, mean, scatter, squared_errors.sum()])
