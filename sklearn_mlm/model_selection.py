"""Cross-validation with groups: scorers that pass groups to `predict`, metadata requests, and known and new groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import LinearRegression
from sklearn.metrics import check_scoring, get_scorer
from sklearn.model_selection import GroupKFold, KFold, cross_validate
from sklearn.utils.metadata_routing import UNCHANGED, MetadataRequest, get_routing_for_object

from ._inputs import column_names, is_whole, name_of
from ._typing import RandomState
from .models._base import GroupedRegressor
from .models._group_column import split_group_column
from .models._pooled_ols import pooled
from .moments._labels import as_labels, factorize
from .moments._rows import as_weights, check_containers

Estimator = TypeVar("Estimator")
Metric = str | Callable[..., float]

_METHODS = ("fit", "partial_fit", "predict", "score", "transform", "inverse_transform")
_DEFAULT_SCORING = ("neg_root_mean_squared_error", "r2")


def request_groups(estimator: Estimator, *, sample_weight: bool = False) -> Estimator:
    """Make an estimator, and all estimators inside it, request groups (and row weights) under metadata routing.

    The function calls `set_fit_request(groups=True)`, `set_predict_request(groups=True)` and the like for every method that
    takes groups, on every estimator and scorer in a pipeline, grid search or ensemble. The models of this package request
    groups by default; other estimators do not, and no estimator requests row weights by default.

    Parameters
    ----------
    estimator : estimator
        Estimator to change in place, as the set_*_request methods do. If a model has a `group_feature`, its requests for
        groups do not change.
    sample_weight : bool, default=False
        Whether to request `sample_weight` as well, for every method that takes it. Scalers and scorers are included, and
        scorers inside a search; a metric that is given by name cannot request weights: pass `make_group_scorer` of it.

    Returns
    -------
    estimator : estimator
        The same object.

    See Also
    --------
    make_group_scorer : Make a scorer that passes groups to `predict`.

    Examples
    --------
    >>> from sklearn import config_context
    >>> from sklearn.model_selection import cross_validate
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_mlm import RandomInterceptRegressor, make_group_scorer, request_groups
    >>> from sklearn_mlm.datasets import make_schools
    >>> schools = make_schools(20, 400, random_state=0)
    >>> pipeline = request_groups(make_pipeline(StandardScaler(), RandomInterceptRegressor()), sample_weight=True)
    >>> with config_context(enable_metadata_routing=True):
    ...     scores = cross_validate(
    ...         pipeline,
    ...         schools.data,
    ...         schools.target,
    ...         scoring=make_group_scorer("r2").set_score_request(sample_weight=True),
    ...         params={"groups": schools.groups, "sample_weight": [2.0] * 400},
    ...     )
    >>> len(scores["test_score"])
    5
    """
    wanted = ("groups", "sample_weight") if sample_weight else ("groups",)
    with config_context(enable_metadata_routing=True):
        for part in _parts(estimator):
            for method in _METHODS:
                setter = getattr(part, f"set_{method}_request", None)
                if setter is None:
                    continue
                parameters = inspect.signature(setter).parameters
                taken = set(wanted).intersection(parameters)
                if "kwargs" in parameters and sample_weight:
                    # A scorer of scikit-learn, which takes weights and no groups.
                    taken.add("sample_weight")
                if getattr(part, "group_feature", None) is not None:
                    taken.discard("groups")
                if taken:
                    setter(**dict.fromkeys(taken, True))
    return estimator


def _parts(estimator: Any) -> list[Any]:
    """Return an estimator and everything in its parameters, at any depth, including lists and dictionaries."""
    parts, pending = [estimator], []
    if hasattr(estimator, "get_params") and not isinstance(estimator, type):
        pending = list(estimator.get_params(deep=True).values())
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, list | tuple):
            pending.extend(part)
        elif not isinstance(part, type):
            parts.append(part)
    return parts


def coefficient_importances(estimator: BaseEstimator) -> np.ndarray:
    """Return the absolute coefficients of a fitted model, and for the group column a number above all others.

    Pass this function as `importance_getter` to scikit-learn's `RFE` and `RFECV`, which drop columns one after the other.
    By default they use `coef_`, which is 0 for the group column, so that they would drop the group column first. The group
    column must be the first or the last column of X, because these selectors keep the order of columns and pass no names.
    If groups are routed, they are not a column of X, and the selectors need no getter.

    Parameters
    ----------
    estimator : estimator
        A fitted model of this package, or a pipeline whose last step is one.

    Returns
    -------
    importances : ndarray of shape (n_features_in_,)
        The importance of each column of X.

    Raises
    ------
    ValueError
        If `group_feature` is neither 0 nor -1, so that another column could become the group column.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.feature_selection import RFE
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import make_schools
    >>> from sklearn_mlm.model_selection import coefficient_importances
    >>> X, math, school = make_schools(50, 2_000, random_state=0, return_X_y_groups=True)
    >>> noise = np.random.default_rng(0).standard_normal((2_000, 2))
    >>> model = RandomInterceptRegressor(group_feature=-1)
    >>> selector = RFE(model, n_features_to_select=2, importance_getter=coefficient_importances)
    >>> selector.fit(np.column_stack([noise[:, 0], X[:, 0], noise[:, 1], school]), math).support_
    array([False,  True, False,  True])
    """
    model = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    importances: np.ndarray = np.abs(model.coef_)
    position = model.group_feature
    if position is not None and model.n_features_in_:
        if position not in (0, -1):
            raise ValueError(
                f"group_feature={position!r} names a column that moves if columns before or after it are dropped. Make the "
                "group column the first or the last of X, with group_feature=0 or -1, or route groups."
            )
        importances[position] = 1.0 + 2.0 * importances.max()
    return importances


class GroupScorer:
    """A scorer that passes groups to `predict`; `make_group_scorer` creates it.

    Parameters
    ----------
    scorer : callable
        A scorer of scikit-learn.
    name : str
        Name of the scorer in its representation.
    """

    def __init__(self, scorer: Callable[..., float], name: str):
        self._scorer = scorer
        self._name = name
        self._requests: dict[str, Any] = {"groups": True, "sample_weight": None}

    def __repr__(self) -> str:
        return f"make_group_scorer({self._name})"

    def __call__(
        self,
        estimator: BaseEstimator,
        X: Any,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the score of `estimator.predict(X, groups)`; greater is better.

        Parameters
        ----------
        estimator : estimator
            A fitted model, pipeline or search.
        X : array-like of shape (n_samples, n_features)
            Predictors.
        y : array-like of shape (n_samples,)
            Outcome.
        groups : array-like of shape (n_samples,), default=None
            Group labels, for models with a `predict` that takes them.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights of the metric.

        Returns
        -------
        score : float
            The value of the metric.
        """
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        model = estimator if groups is None else _Bound(estimator, groups)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return self._scorer(model, X, y, **weights)

    def set_score_request(
        self, *, groups: bool | str | None = UNCHANGED, sample_weight: bool | str | None = UNCHANGED
    ) -> Self:
        """Set the metadata that the scorer requests under metadata routing.

        Parameters
        ----------
        groups : bool, str or None, default=UNCHANGED
            True, the initial setting, requests `groups`; a string requests them under that name; False does not request
            them; None raises an error if they are passed.
        sample_weight : bool, str or None, default=UNCHANGED
            The same for row weights, for which None is the initial setting.

        Returns
        -------
        scorer : GroupScorer
            The same scorer.
        """
        given = {"groups": groups, "sample_weight": sample_weight}
        self._requests = self._requests | {name: alias for name, alias in given.items() if alias is not UNCHANGED}
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata that the scorer requests under metadata routing.

        Returns
        -------
        routing : sklearn.utils.metadata_routing.MetadataRequest
            The requests of the scorer.
        """
        requests = MetadataRequest(owner=repr(self))
        for name, alias in self._requests.items():
            requests.score.add_request(param=name, alias=alias)
        return requests


class _Bound(RegressorMixin, BaseEstimator):  # type: ignore[misc, unused-ignore]
    """A fitted model together with the groups of the rows to predict, for scorers that pass no groups."""

    def __init__(self, estimator: Any, groups: Any):
        self.estimator = estimator
        self.groups = groups

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        # Scorers may read fitted attributes.
        if name.startswith("__") or name == "estimator":
            raise AttributeError(name)
        return getattr(self.estimator, name)

    def predict(self, X: Any) -> Any:
        """Return the predictions of the model, which gets the groups if its `predict` takes them."""
        # The predict method of a search takes X alone.
        model = getattr(self.estimator, "best_estimator_", self.estimator)
        with config_context(enable_metadata_routing=True):
            takes_groups = get_routing_for_object(model).consumes("predict", ["groups"])
            return model.predict(X, groups=self.groups) if takes_groups else model.predict(X)


def make_group_scorer(scoring: Metric) -> GroupScorer:
    """Make a scorer that passes `groups` to `predict`, which the scorers of scikit-learn do not.

    Under metadata routing, pass it as `scoring` in place of the name of a metric, and pass the groups as metadata: known
    groups are then scored with their random effects. If the model has a `group_feature`, any scorer works.

    Parameters
    ----------
    scoring : str or callable
        Name of a metric ("r2", "neg_root_mean_squared_error", or another of `sklearn.metrics.get_scorer_names`), or a scorer
        from `sklearn.metrics.make_scorer`.

    Returns
    -------
    scorer : GroupScorer
        A callable ``scorer(estimator, X, y, groups=None, sample_weight=None)`` that requests groups.

    Raises
    ------
    ValueError
        If the name is not that of a metric, or the callable is a metric function and not a scorer.

    Examples
    --------
    >>> from sklearn import config_context
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_mlm import RandomInterceptRegressor, make_group_scorer
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> model, scorer = RandomInterceptRegressor(), make_group_scorer("r2")
    >>> with config_context(enable_metadata_routing=True):
    ...     len(cross_val_score(model, X, y, scoring=scorer, params={"groups": subject}))
    5
    """
    if isinstance(scoring, GroupScorer):
        return scoring
    scorer = get_scorer(scoring) if isinstance(scoring, str) else check_scoring(LinearRegression(), scoring=scoring)
    return GroupScorer(scorer, repr(scoring))


def cross_validate_groups(
    model: BaseEstimator,
    X: Any,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    cv: int = 5,
    scoring: Metric | Sequence[str] | dict[str, Metric] = _DEFAULT_SCORING,
    baseline: BaseEstimator | None = None,
    sample_weight: ArrayLike | None = None,
    random_state: RandomState = None,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Cross-validate a model for rows of known groups and for rows of new groups, beside least squares.

    These are two different questions. Shuffled folds of rows (`KFold`) leave most groups in both parts, and measure how well
    the model predicts other rows of known groups; folds of whole groups (`GroupKFold`) measure how well it predicts rows of
    new groups. The groups reach `fit` and `predict` through `group_feature` or metadata routing, whatever is configured.

    Parameters
    ----------
    model : estimator
        A `RandomInterceptRegressor`, or a pipeline, search or ensemble that contains one. It is cloned and not changed.
    X : array-like or data frame of shape (n_samples, n_features), or None
        Predictors; None for the null model.
    y : array-like of shape (n_samples,)
        Outcome.
    groups : array-like of shape (n_samples,), default=None
        Group labels. None takes them from the column of X that the model's `group_feature` names.
    cv : int, default=5
        Number of folds of rows, and of folds of groups.
    scoring : str, callable, sequence of str or dict, default=("neg_root_mean_squared_error", "r2")
        Names of metrics, a scorer, or a dictionary of either by name. Metrics with names that start with "neg_" are reported
        without the minus sign: as errors, of which less is better.
    baseline : estimator, default=None
        An estimator to compare with the model. None compares with ordinary least squares: the model with least squares in
        place of each model with groups, or in place of the last step of a pipeline without one. If X is None, another model
        with groups.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights, for fits and scores.
    random_state : int, RandomState instance or None, default=None
        Random numbers for shuffling the rows.
    n_jobs : int or None, default=None
        Number of folds to work on at the same time.

    Returns
    -------
    table : pandas.DataFrame
        The rows ("known", "model"), ("known", "OLS"), ("new", "model") and ("new", "OLS"), or "baseline" for "OLS" if
        `baseline` is given; for each metric, the mean over folds ("mean") and the standard deviation ("sd").

    Raises
    ------
    ValueError
        If there are no groups or fewer groups than folds, if a model does not predict new groups, or if X is None and the
        model or the baseline is not a model of this package.

    Notes
    -----
    A group with all its rows in one fold is new to the model even among folds of rows.

    A search inside the model uses its own scoring: pass it `make_group_scorer` of its metric, or give its model a
    `group_feature`. Otherwise the search tunes population predictions, with a warning.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor, cross_validate_groups
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> table = cross_validate_groups(RandomInterceptRegressor(), X, y, subject, scoring="r2", random_state=0)
    >>> bool(table.loc[("known", "model"), ("r2", "mean")] > table.loc[("known", "OLS"), ("r2", "mean")])
    True
    """
    check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
    scorers = _scorers(scoring)
    labels = _labels(model, X, y, groups)
    codes, levels = factorize(labels)
    if not is_whole(cv, 2, len(levels)):
        raise ValueError(f"cv must be a number of folds between 2 and the number of groups, {len(levels)}; found cv={cv!r}.")
    if X is None:
        X, model, baseline = _null_models(model, baseline, labels)
    contestants = {"model": model, "OLS": _ols_in(model)} if baseline is None else {"model": model, "baseline": baseline}
    for contestant in contestants.values():
        _check_new_groups(contestant)
    params: dict[str, Any] = {"groups": labels}
    if sample_weight is not None:
        params["sample_weight"] = as_weights(sample_weight, len(labels))
        for scorer in scorers.values():
            scorer.set_score_request(sample_weight=True)
    splits = {
        "known": list(KFold(cv, shuffle=True, random_state=random_state).split(codes)),
        "new": list(GroupKFold(cv).split(codes, groups=codes)),
    }
    rows = {}
    for kind, folds in splits.items():
        for name, contestant in contestants.items():
            with config_context(enable_metadata_routing=True):
                scores = cross_validate(
                    request_groups(clone(contestant), sample_weight=sample_weight is not None),
                    X,
                    y,
                    scoring=scorers,
                    cv=folds,
                    params=params,
                    n_jobs=n_jobs,
                    error_score="raise",
                )
            rows[kind, name] = _means_and_sds({metric: scores[f"test_{metric}"] for metric in scorers})
    return pd.concat(rows, axis=1).T.rename_axis(index=["groups", "model"])


def _scorers(scoring: Metric | Sequence[str] | dict[str, Metric]) -> dict[str, GroupScorer]:
    """Return copies of group scorers by name, or raise for anything but metrics."""
    if isinstance(scoring, str) or callable(scoring):
        scoring = {scoring if isinstance(scoring, str) else "score": scoring}
    elif not isinstance(scoring, dict):
        if not isinstance(scoring, Sequence) or not all(isinstance(name, str) for name in scoring):
            raise ValueError(f"scoring must be names of metrics, a scorer, or a dictionary of either; found {scoring!r}.")
        scoring = {name: name for name in scoring}
    return {name: copy(make_group_scorer(metric)) for name, metric in scoring.items()}


def _null_models(model: Any, baseline: Any, labels: pd.Series) -> tuple[pd.DataFrame, Any, Any]:
    """Return a frame of labels in place of X, and the models with its column as their group column."""
    for name, part in (("model", model), ("baseline", baseline)):
        if part is not None and not isinstance(part, GroupedRegressor):
            raise ValueError(
                f"X is None, and the {name} is a {type(part).__name__}: only the models of this package can be fitted "
                "without predictors. Pass X."
            )
    column = {"group_feature": "groups"}
    frame = pd.DataFrame({"groups": labels})
    return frame, clone(model).set_params(**column), None if baseline is None else clone(baseline).set_params(**column)


def _check_new_groups(model: Any) -> None:
    """Raise for a model that does not predict new groups, which are half of the comparison."""
    for part in _parts(model):
        if getattr(part, "new_groups", "population") != "population":
            raise ValueError(
                f"new_groups={part.new_groups!r} leaves new groups without predictions: set new_groups='population'."
            )


def _labels(model: Any, X: Any, y: Any, groups: Any) -> pd.Series:
    """Return the group labels: `groups`, or the group column of X if `groups` is None."""
    if groups is None:
        keys = {part.group_feature for part in _parts(model) if isinstance(part, GroupedRegressor)}
        key = keys.pop() if len(keys) == 1 else None
        # In a pipeline, earlier steps may move columns, so that a position does not identify the column of X.
        names = column_names(X)
        direct = isinstance(model, GroupedRegressor) or (isinstance(key, str) and names is not None and key in list(names))
        if key is None or X is None or not direct:
            raise ValueError(
                "groups is None, and the model's group_feature names no column of X: pass groups, one label for each row."
            )
        groups = split_group_column(X, key)[0]
    # The labels get the index of X, because models refuse groups with another order of the index.
    index = X.index if isinstance(X, pd.DataFrame | pd.Series) and len(X) == len(y) else None
    return pd.Series(as_labels(groups, len(y)), index=index, name=name_of(groups))


def _ols_in(model: Any) -> Any:
    """Return a clone of the model, with least squares in place of each model with groups."""
    if isinstance(model, GroupedRegressor):
        return pooled(model)
    model = clone(model)
    parts = {name: part for name, part in model.get_params(deep=True).items() if isinstance(part, GroupedRegressor)}
    if not parts and hasattr(model, "steps"):
        return model.set_params(**{model.steps[-1][0]: LinearRegression()})
    return model.set_params(**{name: pooled(part) for name, part in parts.items()}) if parts else LinearRegression()


def _means_and_sds(scores: dict[str, np.ndarray]) -> pd.Series:
    """Return mean and standard deviation of each metric over folds; errors are positive."""
    summary = {}
    for metric, values in scores.items():
        sign = -1.0 if metric.startswith("neg_") else 1.0
        summary[metric.removeprefix("neg_"), "mean"] = float(sign * np.mean(values))
        summary[metric.removeprefix("neg_"), "sd"] = float(np.std(values, ddof=1))
    return pd.Series(summary)
