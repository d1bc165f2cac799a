"""What is said if no groups were passed, once for each cross-validation."""

from __future__ import annotations

import sys
from types import FrameType

from .._inputs import warn_caller

FIT_WITHOUT_GROUPS = "was given no groups, so the model is ordinary least squares."
PREDICT_WITHOUT_GROUPS = (
    "predict was given no groups, so every row gets the population prediction, without the effect of its group. Pass "
    "predict(X, groups=...), or groups='population' if that is meant. scikit-learn's scorers and cross_val_predict pass "
    "none: leave the labels in a column of X, or see help(sklearn_mlm.GroupsNotPassedWarning)."
)
_WAYS = "help(sklearn_mlm.GroupsNotPassedWarning) says which way suits scikit-learn's tools."
PASS_GROUPS = f"Pass fit(X, y, groups=...), or name the column of X that holds the labels by group_feature; {_WAYS}"
PASS_GROUPS_OF_FACTOR = f"Pass fit(X, y, groups=...), or leave the column that random_effects names in X; {_WAYS}"

_MARK = "sklearn_mlm has warned of missing groups: {}"


class GroupsNotPassedWarning(UserWarning):
    """Warning that `fit` or `predict` was given no groups, which scikit-learn's tools drop silently by default.

    There are three ways to pass groups:

    - ``fit(X, y, groups=...)`` and ``predict(X, groups=...)``, where you call these methods yourself;
    - `group_feature`, the column of X that holds the labels, which works in pipelines, cross-validation and grid searches,
      with any scorer;
    - metadata routing: ``sklearn.set_config(enable_metadata_routing=True)``, then ``params={"groups": ...}`` in
      `cross_validate` and similar functions, and `make_group_scorer` for the scores, because scikit-learn's own scorers pass
      no groups to `predict`. After a routed search, call ``search.best_estimator_.predict(X, groups=...)``.

    `cross_validate_groups` needs none of them: it takes the groups as an argument.

    In a cross-validation or search of scikit-learn, the warning is raised once rather than in each fold, unless the folds
    run in processes of their own. Turn it into an error to make sure that no step of an analysis ignores the groups.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_mlm import GroupsNotPassedWarning, RandomInterceptRegressor
    >>> with warnings.catch_warnings():  # doctest: +IGNORE_EXCEPTION_DETAIL
    ...     warnings.simplefilter("error", GroupsNotPassedWarning)
    ...     RandomInterceptRegressor().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 3.0])
    Traceback (most recent call last):
        ...
    GroupsNotPassedWarning: fit was given no groups: ...
    """


def warn_of_missing_groups(message: str) -> None:
    """Warn that no groups were passed, unless the cross-validation that made the call has been told so.

    Parameters
    ----------
    message : str
        The warning.
    """
    call = _outermost_cross_validation(sys._getframe(1))
    if call is not None:
        # The filters of Python would drop repeated warnings, but scikit-learn restores them in each fold. A mark among the
        # variables of the call lasts as long as the call.
        mark = _MARK.format(message)
        if mark in call.f_locals:
            return
    warn_caller(message, GroupsNotPassedWarning)
    # Not before: if the warning is an error, it is one in each fold.
    if call is not None:
        call.f_locals[mark] = True


def _outermost_cross_validation(frame: FrameType | None) -> FrameType | None:
    """Return the first call of scikit-learn's model selection that led to a frame; None if there is none."""
    found = None
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("sklearn.model_selection."):
            found = frame
        frame = frame.f_back
    return found
