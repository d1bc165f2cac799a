"""Cross-validation that carries groups: scorers that pass them to `predict`, requests in one call, known and new groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import LinearRegression
from sklearn.metrics import check_scoring, get_scorer
from sklearn.model_selection import GroupKFold, KFold, cross_validate
from sklearn.utils.metadata_routing import UNCHANGED, MetadataRequest, get_routing_for_object

from ._inputs import column_names, is_whole, name_of
from .models._base import GroupedRegressor
from .models._group_column import split_group_column
from .models._random_intercept import RandomInterceptRegressor
from .moments._labels import NO_LABEL, as_labels, factorize
from .moments._rows import GroupedRows, as_weights, check_containers

_METHODS = ("fit", "partial_fit", "predict", "score", "transform", "inverse_transform")
_DEFAULT_SCORING = ("neg_root_mean_squared_error", "r2")


def request_groups(estimator: Any, *, sample_weight: bool = False) -> Any:
    """Make an estimator, and all estimators in it, request groups (and row weights) under metadata routing.

    What `set_fit_request(groups=True)`, `set_predict_request(groups=True)`, `set_score_request(groups=True)` do to one
    estimator, for every method of every estimator and scorer in a pipeline, grid search or ensemble that takes them.
    The models of this package request groups unasked; others, and row weights, need this.

    Parameters
    ----------
    estimator : estimator
        Changed in place, as the set_*_request methods do. A model with a `group_feature` is left to it.
    sample_weight : bool, default=False
        Whether to request `sample_weight` as well, wherever it is taken: by scalers, and by scorers, also those in a search.
        A metric that is given by name cannot be asked to: give `make_group_scorer` of it.

    Returns
    -------
    estimator : estimator
        The same object.

    See Also
    --------
    make_group_scorer : Scorers that pass groups on.

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
                    # scikit-learn's scorers, which know weights only.
                    taken.add("sample_weight")
                if getattr(part, "group_feature", None) is not None:
                    taken.discard("groups")
                if taken:
                    setter(**dict.fromkeys(taken, True))
    return estimator


def _parts(estimator: Any) -> list[Any]:
    """Return an estimator and all that its parameters hold, however deep, in lists and dictionaries as well."""
    parts, waiting = [estimator], []
    if hasattr(estimator, "get_params") and not isinstance(estimator, type):
        waiting = list(estimator.get_params(deep=True).values())
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            waiting.extend(part)
        elif not isinstance(part, type):
            parts.append(part)
    return parts


def coefficient_importances(estimator: Any) -> np.ndarray:
    """Return the absolute coefficients of a fitted model, with the group column above all others.

    Pass the function as `importance_getter` to scikit-learn's selectors that drop columns one after the other, `RFE` and
    `RFECV`: by `coef_`, which is 0 for the group column, they would drop that column first. The group column must be the
    first or the last of X, because a selector keeps the order of columns and passes no names on. With routed groups, which
    are no column of X, the selectors need no getter.

    Parameters
    ----------
    estimator : estimator
        A fitted model of this package, or a pipeline whose last step is one.

    Returns
    -------
    importances : ndarray of shape (n_features_in_,)

    Raises
    ------
    ValueError
        If `group_feature` is neither 0 nor -1, so that dropping a column would make another one the group column.

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
    importances = np.abs(model.coef_)
    at = model._group_position
    if at is not None:
        if model._group_key not in (0, -1):
            raise ValueError(
                f"group_feature={model._group_key!r} names a column that moves as columns before or after it are dropped. "
                "Make the group column the first or the last of X, with group_feature=0 or -1, or route groups."
            )
        importances[at] = 1.0 + 2.0 * importances.max()
    return importances


class GroupScorer:
    """A scorer that passes groups on to `predict`. Made by `make_group_scorer`.

    Parameters
    ----------
    scorer : callable
        A scorer of scikit-learn's.
    name : str
        What to call it.
    """

    def __init__(self, scorer: Callable[..., float], name: str):
        self._scorer = scorer
        self._name = name
        self._requests: dict[str, Any] = {"groups": True, "sample_weight": None}

    def __repr__(self) -> str:
        return f"make_group_scorer({self._name})"

    def __call__(self, estimator: Any, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> float:
        """Return the score of `estimator.predict(X, groups)`; greater is better.

        Parameters
        ----------
        estimator : estimator
            A fitted model, pipeline or search.
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        groups : array-like of shape (n_samples,), default=None
            Group labels, for models whose `predict` takes them.
        sample_weight : array-like of shape (n_samples,), default=None
        """
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        model = estimator if groups is None else _Bound(estimator, groups)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return self._scorer(model, X, y, **weights)

    def set_score_request(self, *, groups: Any = UNCHANGED, sample_weight: Any = UNCHANGED) -> Self:
        """Set which metadata the scorer asks for under metadata routing, and return it.

        Parameters
        ----------
        groups : bool, str or None, default=UNCHANGED
            True to ask for `groups`, as the scorer does unless told otherwise; a name to ask for them under that name;
            False to do without.
        sample_weight : bool, str or None, default=UNCHANGED
            The same for row weights; None, as it is unless told otherwise, raises if they are passed.
        """
        given = {"groups": groups, "sample_weight": sample_weight}
        self._requests = self._requests | {name: alias for name, alias in given.items() if alias is not UNCHANGED}
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return which metadata the scorer asks for under metadata routing."""
        requests = MetadataRequest(owner=repr(self))
        for name, alias in self._requests.items():
            requests.score.add_request(param=name, alias=alias)
        return requests


class _Bound(RegressorMixin, BaseEstimator):
    """A fitted model whose `predict` has its groups already, for scorers that know none."""

    def __init__(self, estimator: Any, groups: Any):
        self.estimator = estimator
        self.groups = groups

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        # For scorers that read fitted attributes.
        if name.startswith("__") or name == "estimator":
            raise AttributeError(name)
        return getattr(self.estimator, name)

    def predict(self, X: Any) -> np.ndarray:
        """Return the model's predictions, with groups if it takes them."""
        # A search's own predict takes nothing but X.
        model = getattr(self.estimator, "best_estimator_", self.estimator)
        with config_context(enable_metadata_routing=True):
            takes = get_routing_for_object(model).consumes("predict", ["groups"])
            return model.predict(X, **({"groups": self.groups} if takes else {}))


def make_group_scorer(scoring: str | Callable[..., float]) -> GroupScorer:
    """Make a scorer that passes `groups` on to `predict`, which scikit-learn's scorers do not.

    Under metadata routing, pass it as `scoring` wherever a metric's name would go, and the groups as metadata: known groups
    are then scored with their own effects. With a `group_feature` any scorer will do.

    Parameters
    ----------
    scoring : str or callable
        The name of a metric ("r2", "neg_root_mean_squared_error", any of `sklearn.metrics.get_scorer_names`), or a scorer
        that `sklearn.metrics.make_scorer` made.

    Returns
    -------
    scorer : GroupScorer
        A callable ``scorer(estimator, X, y, groups=None, sample_weight=None)`` that requests groups.

    Raises
    ------
    ValueError
        For a name that is not a metric's, and for a metric function, of which `sklearn.metrics.make_scorer` makes a scorer.

    Examples
    --------
    >>> from sklearn import config_context
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_mlm import RandomInterceptRegressor, make_group_scorer
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> with config_context(enable_metadata_routing=True):
    ...     scores = cross_val_score(
    ...         RandomInterceptRegressor(), X, y, scoring=make_group_scorer("r2"), params={"groups": subject}
    ...     )
    >>> len(scores)
    5
    """
    if isinstance(scoring, GroupScorer):
        return scoring
    scorer = get_scorer(scoring) if isinstance(scoring, str) else check_scoring(LinearRegression(), scoring=scoring)
    return GroupScorer(scorer, repr(scoring))


def cross_validate_groups(
    model: Any,
    X: Any,
    y: Any,
    groups: Any = None,
    *,
    cv: int = 5,
    scoring: Any = _DEFAULT_SCORING,
    baseline: Any = None,
    sample_weight: Any = None,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Cross-validate a model for rows of groups it knows and for groups it has never seen, with least squares beside it.

    The two are different questions. Folds of rows (`KFold`, shuffled) leave most groups in both parts, and ask how well
    other rows of known groups are predicted; folds of whole groups (`GroupKFold`) ask the same of new groups. Groups reach
    `fit` and `predict` by either way, `group_feature` or metadata routing, whatever is configured.

    Parameters
    ----------
    model : estimator
        A `RandomInterceptRegressor`, or a pipeline, search or ensemble with one in it. It is cloned, not changed.
    X : array-like or data frame of shape (n_samples, n_features), or None
        Predictors; None for the null model.
    y : array-like of shape (n_samples,)
        Outcome.
    groups : array-like of shape (n_samples,), default=None
        Group labels. None takes them from the column of X that the model's `group_feature` names.
    cv : int, default=5
        Number of folds, of rows and of groups.
    scoring : str, callable, sequence of str or dict, default=("neg_root_mean_squared_error", "r2")
        Names of metrics, a scorer, or a dictionary of either by name. Metrics whose names start with "neg_" are reported as
        what they negate: errors, of which less is better.
    baseline : estimator, default=None
        What to put beside the model. None is the same model with ordinary least squares in the place of each
        `RandomInterceptRegressor`, or of the last step of a pipeline without one. For the null model, another model with
    groups. sample_weight : array-like of shape (n_samples,), default=None
        Row weights, for fits and scores.
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows.
    n_jobs : int or None, default=None
        Number of folds to work on at a time.

    Returns
    -------
    table : pandas.DataFrame
        A row for ("known", "model"), ("known", "OLS"), ("new", "model") and ("new", "OLS"); of each metric the mean
        over folds and the standard deviation ("sd").

    Raises
    ------
    ValueError
        Where there are no groups, or fewer than folds; where a model refuses new groups; and for a pipeline without X.

    Notes
    -----
    A group whose rows all fall into one fold is new to the model even among folds of rows.

    A search in the model scores as it is told to: give it `make_group_scorer` of its metric, or a `group_feature`, lest it
    tune on predictions for the population, with a warning.

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
        raise ValueError(
            f"cv must be a number of folds, at least 2 and at most the number of groups, {len(levels)}; found cv={cv!r}."
        )
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
            rows[kind, name] = _summary({metric: scores[f"test_{metric}"] for metric in scorers})
    table = pd.concat(rows, axis=1).T
    return table.rename_axis(index=["groups", "model"])


def _scorers(scoring: Any) -> dict[str, GroupScorer]:
    """Return group scorers by name."""
    if isinstance(scoring, str) or callable(scoring):
        scoring = {scoring if isinstance(scoring, str) else "score": scoring}
    elif not isinstance(scoring, dict):
        if not isinstance(scoring, Sequence) or not all(isinstance(name, str) for name in scoring):
            raise ValueError(f"scoring must be names of metrics, a scorer, or a dictionary of either; found {scoring!r}.")
        scoring = {name: name for name in scoring}
    return {name: copy(make_group_scorer(metric)) for name, metric in scoring.items()}


def _null_models(model: Any, baseline: Any, labels: pd.Series) -> tuple[pd.DataFrame, Any, Any]:
    """Return a frame of labels in the place of X, and the models with that as their group column."""
    for name, part in (("model", model), ("baseline", baseline)):
        if part is not None and not isinstance(part, GroupedRegressor):
            raise ValueError(
                f"X is None, and the {name} is a {type(part).__name__}: only the models of this package fit without "
                "predictors. Pass X."
            )
    column = {"group_feature": "groups"}
    frame = pd.DataFrame({"groups": labels})
    return frame, clone(model).set_params(**column), None if baseline is None else clone(baseline).set_params(**column)


def _check_new_groups(model: Any) -> None:
    """Raise for a model that predicts nothing for new groups, which are half of the question."""
    for part in _parts(model):
        if getattr(part, "new_groups", "population") != "population":
            raise ValueError(
                f"new_groups={part.new_groups!r} leaves new groups without predictions to score: set it to 'population'."
            )


def _labels(model: Any, X: Any, y: Any, groups: Any) -> pd.Series:
    """Return the group labels, which the model's group column holds where `groups` is None."""
    if groups is None:
        keys = {part.group_feature for part in _parts(model) if isinstance(part, GroupedRegressor)}
        key = keys.pop() if len(keys) == 1 else None
        # A pipeline may have moved columns before a position counts.
        names = column_names(X)
        direct = isinstance(model, GroupedRegressor) or (isinstance(key, str) and names is not None and key in list(names))
        if key is None or X is None or not direct:
            raise ValueError(
                "groups is None, and the model's group_feature names no column of X: pass groups, a label for each row."
            )
        groups = split_group_column(X, key)[0]
    # With the index of X, since models refuse another order of it.
    index = X.index if isinstance(X, pd.DataFrame | pd.Series) and len(X) == len(y) else None
    return pd.Series(as_labels(groups, len(y)), index=index, name=name_of(groups))


class _PooledOLS(RandomInterceptRegressor):
    """The random intercept model without its random intercepts: least squares with the same parameters and columns."""

    def _check_rows(self, X: Any, y: Any, groups: Any, sample_weight: Any, **options: Any) -> GroupedRows:
        """Return checked rows without groups, on purpose."""
        rows = super()._check_rows(X, y, groups, sample_weight, **options)
        return replace(rows, codes=np.zeros(len(rows), dtype=np.intp), levels=NO_LABEL[: len(rows)])

    def _warn_of_no_groups(self, stacklevel: int) -> None:
        """Say nothing."""

    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> Any:
        """Predict without groups."""
        return super().predict(X, "population", return_std)


def _ols_in(model: Any) -> Any:
    """Return a clone of the model with least squares in the place of each model with groups."""
    if isinstance(model, GroupedRegressor):
        return _pooled(model)
    model = clone(model)
    pooled = {
        name: _pooled(part) for name, part in model.get_params(deep=True).items() if isinstance(part, GroupedRegressor)
    }
    if not pooled and hasattr(model, "steps"):
        return model.set_params(**{model.steps[-1][0]: LinearRegression()})
    return model.set_params(**pooled) if pooled else LinearRegression()


def _pooled(model: GroupedRegressor) -> _PooledOLS:
    """Return least squares with the parameters of a model with groups."""
    known = _PooledOLS().get_params()
    return _PooledOLS(**{name: value for name, value in model.get_params().items() if name in known})


def _summary(scores: dict[str, np.ndarray]) -> pd.Series:
    """Return mean and standard deviation over folds of each metric, errors as positive numbers."""
    summary = {}
    for metric, values in scores.items():
        sign = -1.0 if metric.startswith("neg_") else 1.0
        summary[metric.removeprefix("neg_"), "mean"] = float(sign * np.mean(values))
        summary[metric.removeprefix("neg_"), "sd"] = float(np.std(values, ddof=1))
    return pd.Series(summary)
