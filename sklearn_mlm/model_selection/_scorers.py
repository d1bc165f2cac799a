"""Scorers that pass groups to `predict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.metrics import check_scoring, get_scorer
from sklearn.utils.metadata_routing import UNCHANGED, MetadataRequest, get_routing_for_object

from ..moments._rows import check_containers

Metric = str | Callable[..., float]


class GroupScorer:
    """A scorer that passes groups to `predict`; `make_group_scorer` creates it.

    Parameters
    ----------
    scorer : callable
        A scorer of scikit-learn.
    name : str
        Name of the scorer in its representation.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor, make_group_scorer
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> scorer = make_group_scorer("r2")
    >>> round(scorer(model, X, y, groups=subject), 3)
    0.726
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

    @property
    def without_groups(self) -> Callable[..., float]:
        """The scorer of scikit-learn, for models whose `predict` takes no groups."""
        return self._scorer

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
