"""Groups and row weights on their way through scikit-learn's estimators, and coefficients for its selectors."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator

Estimator = TypeVar("Estimator")

_METHODS = ("fit", "partial_fit", "predict", "score", "transform", "inverse_transform")


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
        for part in parts_of(estimator):
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


def takes_groups(estimator: Any) -> bool:
    """Return whether an estimator, or anything inside it, takes groups as an argument, so that they have to be routed."""
    with config_context(enable_metadata_routing=True):
        for part in parts_of(estimator):
            setters = (getattr(part, f"set_{method}_request", None) for method in (*_METHODS, "split"))
            by_argument = any(setter is not None and "groups" in inspect.signature(setter).parameters for setter in setters)
            if by_argument and getattr(part, "group_feature", None) is None:
                return True
    return False


def parts_of(estimator: Any) -> list[Any]:
    """Return an estimator and everything in its parameters, at any depth, including lists and dictionaries."""
    parts, pending = [], [estimator]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, list | tuple):
            pending.extend(part)
        elif not isinstance(part, type):
            parts.append(part)
            if hasattr(part, "get_params"):
                pending.extend(part.get_params(deep=False).values())
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
    importances : ndarray of shape (`n_features_in_`,)
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
