"""Cross-validation for known and for new groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold, KFold, cross_validate

from .._inputs import column_names, is_whole, name_of
from .._progress import progress
from .._typing import RandomState
from ..models._base import GroupedRegressor
from ..models._group_column import split_group_column
from ..models._pooled_ols import pooled
from ..moments._labels import as_array, as_labels, factorize
from ..moments._rows import as_weights, check_containers
from ._factor_folds import factor_splits
from ._routing import parts_of, request_groups, takes_groups
from ._scorers import GroupScorer, Metric, make_group_scorer

_DEFAULT_SCORING = ("neg_root_mean_squared_error", "r2")


def cross_validate_groups(
    model: BaseEstimator | Mapping[str, BaseEstimator],
    X: Any,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    cv: int = 5,
    scoring: Metric | Sequence[str] | dict[str, Metric] = _DEFAULT_SCORING,
    baseline: BaseEstimator | Literal[False] | None = None,
    sample_weight: ArrayLike | None = None,
    random_state: RandomState = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Cross-validate models for rows of known groups and for rows of new groups, beside least squares.

    These are two different questions. Shuffled folds of rows (`KFold`) leave most groups in both parts, and measure how well
    the model predicts other rows of known groups; folds of whole groups (`GroupKFold`) measure how well it predicts rows of
    new groups.

    The groups reach `fit` and `predict` of models that take them as an argument, by metadata routing, which is enabled for
    these models only, whatever is configured. Models with a `group_feature`, and models that know no groups, are fitted
    without it.

    Parameters
    ----------
    model : estimator, or dict of estimators by name
        Any regressors: a `RandomInterceptRegressor`, a pipeline, search or ensemble that contains one, or models of other
        kinds to compare with. They are cloned and not changed.
    X : array-like or data frame of shape (n_samples, n_features), or None
        Predictors; None for the null model.
    y : array-like of shape (n_samples,)
        Outcome.
    groups : array-like of shape (n_samples,) or data frame, default=None
        Group labels, or a frame of the columns of labels of several grouping factors. None takes them from the column of X
        that the `group_feature` of a model names, or from the columns that `random_effects` names.
    cv : int, default=5
        Number of folds of rows, and of folds of groups.
    scoring : str, callable, sequence of str or dict, default=("neg_root_mean_squared_error", "r2")
        Names of metrics, a scorer, or a dictionary of either by name. Metrics with names that start with ``neg_`` are
        reported without the minus sign: as errors, of which less is better.
    baseline : estimator, False or None, default=None
        An estimator to compare with. None compares with ordinary least squares: the (first) model that contains a model with
        groups, with least squares in its place, or without such a model the first one with least squares in place of the
        last step. If X is None, another model with groups. False compares with nothing. The baseline is fitted first, so
        that a baseline that cannot be fitted costs no time.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights, for scores, and for the fits of the estimators that take them.
    random_state : int, RandomState instance or None, default=None
        Random numbers for shuffling the rows.
    n_jobs : int or None, default=None
        Number of folds to work on at the same time.
    verbose : int, default=0
        1 shows progress.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by "groups" ("known" or "new") and "model": the names, or "model" for a single one, and last "OLS", or
        "baseline" if `baseline` is given. For each metric, the mean over folds ("mean") and the standard deviation ("sd").
        With several grouping factors, "groups" are "known", "new subject" and so on for each factor, and "all new": rows
        whose levels of all factors are new, such as new subjects that rate new items.

    Raises
    ------
    ValueError
        If there are no groups or fewer groups than folds, if the baseline cannot be fitted, if a model does not predict new
        groups, or if X is None and a model or the baseline is not a model of this package.
    TypeError
        If a model is not an estimator.

    Notes
    -----
    A group with all its rows in one fold is new to the model even among folds of rows.

    A search inside the model uses its own scoring: pass it `make_group_scorer` of its metric, or give its model a
    `group_feature`. Otherwise the search tunes population predictions, with a warning.

    Examples
    --------
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn_mlm import RandomInterceptRegressor, cross_validate_groups
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> models = {"random intercept": RandomInterceptRegressor(), "mean": DummyRegressor()}
    >>> table = cross_validate_groups(models, X, y, subject, scoring="r2", random_state=0)
    >>> table.loc["known", ("r2", "mean")].round(2).to_dict()
    {'random intercept': 0.64, 'mean': -0.02, 'OLS': 0.22}
    """
    check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
    scorers = _scorers(scoring)
    models = _by_name(model)
    _refuse_missing_outcome(y)
    labels = _labels(models, X, y, groups)
    splits = _splits(models, labels, cv, random_state)
    if X is None:
        X, models, baseline = _null_models(models, baseline, labels)
    contestants = dict(models)
    name_of_baseline = "OLS" if baseline is None else "baseline"
    if baseline is not False:
        if name_of_baseline in contestants:
            raise ValueError(f"{name_of_baseline!r} is the name of the baseline: give the model another name.")
        contestants[name_of_baseline] = _ols_beside(models) if baseline is None else baseline
    for contestant in contestants.values():
        _check_new_groups(contestant)
    weights = None if sample_weight is None else as_weights(sample_weight, len(labels))
    # The baseline comes first, because it is cheap and may fail.
    in_order = [name for name in contestants if name == name_of_baseline] + list(models)
    rows = {}
    with progress(verbose, "cross-validations", len(in_order) * len(splits)) as report:
        for name in in_order:
            for kind, folds in splits.items():
                try:
                    scores = _scores(contestants[name], X, y, labels, weights, folds, scorers, n_jobs)
                except Exception as error:
                    if name in models:
                        error.add_note(f"This is said of {name!r}, in folds of {'rows' if kind == 'known' else 'groups'}.")
                        raise
                    made = "least squares in place of the model, after the same steps" if baseline is None else "as passed"
                    raise ValueError(
                        f"The baseline ({made}) cannot be fitted. {type(error).__name__}: {error}\nIf the baseline is at "
                        "fault rather than X or y, pass another one, or baseline=False to compare with none."
                    ) from error
                rows[kind, name] = _means_and_sds(scores)
                report(1)
    ordered = [(kind, name) for kind in splits for name in contestants]
    return pd.concat({key: rows[key] for key in ordered}, axis=1).T.rename_axis(index=["groups", "model"])


def _scores(
    estimator: BaseEstimator,
    X: Any,
    y: ArrayLike,
    labels: pd.Series | pd.DataFrame,
    weights: np.ndarray | None,
    folds: list[tuple[np.ndarray, np.ndarray]],
    scorers: dict[str, GroupScorer],
    n_jobs: int | None,
) -> dict[str, np.ndarray]:
    """Return the scores of an estimator in each fold, by metric."""
    options = {"cv": folds, "n_jobs": n_jobs, "error_score": "raise"}
    if weights is None and not takes_groups(estimator):
        # Routing is left off: some estimators of scikit-learn and elsewhere do not work with it.
        plain = {name: scorer.without_groups for name, scorer in scorers.items()}
        with config_context(enable_metadata_routing=False):
            scores = cross_validate(clone(estimator), X, y, scoring=plain, **options)
        return {metric: scores[f"test_{metric}"] for metric in scorers}
    params: dict[str, Any] = {"groups": labels}
    if weights is not None:
        params["sample_weight"] = weights
        scorers = {name: copy(scorer).set_score_request(sample_weight=True) for name, scorer in scorers.items()}
    with config_context(enable_metadata_routing=True):
        requesting = request_groups(clone(estimator), sample_weight=weights is not None)
        try:
            scores = cross_validate(requesting, X, y, scoring=scorers, params=params, **options)
        except KeyError as error:
            if error.args == ("groups",):
                advice = (
                    "groups are routed. Leave the groups in a column of X, and name it by the model's group_feature."
                    if weights is None
                    else "row weights are routed. Leave out sample_weight, or that estimator."
                )
                raise ValueError(
                    f"An estimator in the model, such as scikit-learn's TargetEncoder, cannot be fitted while {advice}"
                ) from error
            raise
    return {metric: scores[f"test_{metric}"] for metric in scorers}


def _refuse_missing_outcome(y: ArrayLike | None) -> None:
    """Raise a ValueError if a value of y is missing."""
    missing = 0 if y is None else int(pd.isna(as_array(y)).sum())
    if missing:
        raise ValueError(f"y is missing in {missing} row(s), whose predictions no metric can judge: leave these rows out.")


def _splits(
    models: dict[str, BaseEstimator], labels: pd.Series | pd.DataFrame, cv: Any, random_state: RandomState
) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Return the folds of rows of known groups, and of new groups."""
    if isinstance(labels, pd.DataFrame):
        parts = [part for model in models.values() for part in parts_of(model) if isinstance(part, GroupedRegressor)]
        groupings = {name: columns for part in parts for name, columns in part.groupings(labels).items()}
        known = {name: columns for name, columns in groupings.items() if set(columns) <= set(labels.columns)}
        return factor_splits(labels, known or {str(name): (name,) for name in labels.columns}, cv, random_state)
    codes, levels = factorize(labels)
    _check_folds(cv, levels)
    return {
        "known": list(KFold(cv, shuffle=True, random_state=random_state).split(codes)),
        "new": list(GroupKFold(cv).split(codes, groups=codes)),
    }


def _check_folds(cv: Any, levels: pd.Index) -> None:
    """Raise if groups cannot be divided into so many folds."""
    if len(levels) == 1:
        raise ValueError(f"groups holds one group only ({levels.tolist()[0]!r}): folds of groups need two or more.")
    if not is_whole(cv, 2, len(levels)):
        raise ValueError(f"cv must be a number of folds between 2 and the number of groups, {len(levels)}; found cv={cv!r}.")


def _by_name(model: Any) -> dict[str, BaseEstimator]:
    """Return the models by name."""
    models = dict(model) if isinstance(model, Mapping) else {"model": model}
    if not models:
        raise ValueError("There is no model to cross-validate: the dictionary is empty.")
    for name, one in models.items():
        if not isinstance(name, str):
            raise TypeError(f"The models must have names that are strings; found {name!r}.")
        if isinstance(one, type) or not (hasattr(one, "fit") and hasattr(one, "get_params")):
            hint = f" Pass {one.__name__}(), an instance." if isinstance(one, type) else ""
            raise TypeError(f"{name} must be an estimator; found {one!r}.{hint}")
    return models


def _scorers(scoring: Metric | Sequence[str] | dict[str, Metric]) -> dict[str, GroupScorer]:
    """Return copies of group scorers by name, or raise for anything but metrics."""
    if isinstance(scoring, str) or callable(scoring):
        scoring = {scoring if isinstance(scoring, str) else "score": scoring}
    elif not isinstance(scoring, dict):
        if not isinstance(scoring, Sequence) or not all(isinstance(name, str) for name in scoring):
            raise ValueError(f"scoring must be names of metrics, a scorer, or a dictionary of either; found {scoring!r}.")
        scoring = {name: name for name in scoring}
    return {name: copy(make_group_scorer(metric)) for name, metric in scoring.items()}


def _null_models(
    models: dict[str, BaseEstimator], baseline: Any, labels: pd.Series | pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, BaseEstimator], Any]:
    """Return a frame of labels in place of X, and the models with its column as their group column."""
    for name, part in (models | {"baseline": baseline}).items():
        if part is not None and part is not False and not isinstance(part, GroupedRegressor):
            raise ValueError(
                f"X is None, and the {name} is a {type(part).__name__}: only the models of this package can be fitted "
                "without predictors. Pass X."
            )
    if isinstance(labels, pd.DataFrame):
        # The models name their columns of labels.
        named = {
            name: model.with_group_columns(labels) for name, model in models.items() if isinstance(model, GroupedRegressor)
        }
        return labels, named, baseline.with_group_columns(labels) if isinstance(baseline, GroupedRegressor) else baseline
    frame = pd.DataFrame({"groups": labels})
    if isinstance(baseline, GroupedRegressor):
        baseline = baseline.with_group_column("groups")
    grouped = {
        name: model.with_group_column("groups") for name, model in models.items() if isinstance(model, GroupedRegressor)
    }
    return frame, grouped, baseline


def _check_new_groups(model: Any) -> None:
    """Raise for a model that does not predict new groups, which are half of the comparison."""
    for part in parts_of(model):
        if getattr(part, "new_groups", "population") != "population":
            raise ValueError(
                f"new_groups={part.new_groups!r} leaves new groups without predictions: set new_groups='population'."
            )


def _labels(models: dict[str, BaseEstimator], X: Any, y: Any, groups: Any) -> pd.Series | pd.DataFrame:
    """Return the group labels: `groups`, or the group column of X if `groups` is None; a frame for several factors."""
    several = _columns_of_labels(models, X, y, groups)
    if several is not None:
        return several
    if groups is None:
        groups = next((column for model in models.values() if (column := _group_column(model, X)) is not None), None)
        if groups is None:
            raise ValueError(
                "groups is None, and the model's group_feature names no column of X: pass groups, one label for each row."
            )
    names = column_names(groups)
    if names is not None:
        parts = (part for model in models.values() for part in parts_of(model) if isinstance(part, GroupedRegressor))
        factors = [factor for part in parts if (factor := part.group_column(groups)) in list(names)]
        groups = groups[factors[0]] if factors else groups[names[0]] if len(names) == 1 else groups
    # The labels get the index of X, because models refuse groups with another order of the index.
    index = X.index if isinstance(X, pd.DataFrame | pd.Series) and len(X) == len(y) else None
    return pd.Series(as_labels(groups, len(y)), index=index, name=name_of(groups))


def _columns_of_labels(models: dict[str, BaseEstimator], X: Any, y: Any, groups: Any) -> pd.DataFrame | None:
    """Return the columns of labels of models of several grouping factors; None if there is no such model."""
    frame = X if groups is None else groups
    names = column_names(frame)
    if names is None:
        return None
    parts = [part for model in models.values() for part in parts_of(model) if isinstance(part, GroupedRegressor)]
    groupings = [part.groupings(groups) for part in parts]
    columns = list(dict.fromkeys(name for each in groupings for grouping in each.values() for name in grouping))
    if len(columns) < 2 or not set(columns) <= set(names):
        return None
    wanted = columns if groups is None else list(names)
    index = X.index if isinstance(X, pd.DataFrame | pd.Series) and len(X) == len(y) else None
    return pd.DataFrame({name: pd.Series(as_array(frame[name])) for name in wanted}).set_axis(
        pd.RangeIndex(len(y)) if index is None else index
    )


def _group_column(model: Any, X: Any) -> Any:
    """Return the column of X that the group_feature of a model names; None if there is none."""
    keys = {part.group_column(X) for part in parts_of(model) if isinstance(part, GroupedRegressor)}
    key = keys.pop() if len(keys) == 1 else None
    # In a pipeline, earlier steps may move columns, so that a position does not identify the column of X.
    names = column_names(X)
    direct = isinstance(model, GroupedRegressor) or (isinstance(key, str) and names is not None and key in list(names))
    return None if key is None or X is None or not direct else split_group_column(X, key)[0]


def _ols_beside(models: dict[str, BaseEstimator]) -> Any:
    """Return least squares in place of the models with groups in the first model that has some."""
    for model in models.values():
        if any(isinstance(part, GroupedRegressor) for part in parts_of(model)):
            return _with_ols(model)
    first = clone(next(iter(models.values())))
    return first.set_params(**{first.steps[-1][0]: LinearRegression()}) if hasattr(first, "steps") else LinearRegression()


def _with_ols(part: Any) -> Any:
    """Return a copy of an estimator, or of one of its parameters, with least squares in place of models with groups."""
    if isinstance(part, GroupedRegressor):
        return pooled(part)
    if isinstance(part, dict):
        return {name: _with_ols(value) for name, value in part.items()}
    if type(part) in (list, tuple):
        return type(part)(map(_with_ols, part))
    if isinstance(part, type) or not hasattr(part, "get_params"):
        return part
    held = {
        name: _with_ols(value)
        for name, value in part.get_params(deep=False).items()
        if any(isinstance(inner, GroupedRegressor) for inner in parts_of(value))
    }
    return clone(part).set_params(**held)


def _means_and_sds(scores: dict[str, np.ndarray]) -> pd.Series:
    """Return mean and standard deviation of each metric over folds; errors are positive."""
    summary = {}
    for metric, values in scores.items():
        sign = -1.0 if metric.startswith("neg_") else 1.0
        summary[metric.removeprefix("neg_"), "mean"] = float(sign * np.mean(values))
        summary[metric.removeprefix("neg_"), "sd"] = float(np.std(values, ddof=1))
    return pd.Series(summary)
