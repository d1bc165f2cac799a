"""Which groups a picture shows: those with given labels, some from the lowest to the highest, or a random sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from .._inputs import column_names, is_whole
from .._typing import GroupedFit, Positions, RandomState
from ..likelihood._factor_fit import FactorView
from ..likelihood._mixed_fit import MixedEffectsFit
from ..moments._labels import encode
from ._random_columns import levels_of_groups
from ._style import MAX_COLORED


def group_key(last: Any, direct: bool, X: Any) -> Any:
    """Return the name or position of the group column in X, if it has one that is known.

    Parameters
    ----------
    last : estimator
        The model at the end of a pipeline.
    direct : bool
        Whether there are no steps before it, so that positions count the columns of X.
    X : array-like, data frame or sparse matrix
        Rows.

    Returns
    -------
    key : str, int, tuple of str or None
        The name or position; the names of the columns of labels if the model has several.
    """
    if isinstance(several := last.group_column(X), tuple):
        return several
    key: str | int | None = getattr(last, "group_feature", None)
    if isinstance(key, str):
        names = column_names(X)
        return key if names is not None and key in list(names) else None
    return key if direct else None


def labels_in(groups: Any, fit: GroupedFit) -> Any:
    """Return the labels of rows: the column of a frame that the grouping factor names, or else the groups as they are."""
    names = None if isinstance(groups, str) else column_names(groups)
    columns = label_columns_of(fit)
    if columns and names is not None and set(columns) <= set(names):
        return groups[columns[0]] if len(columns) == 1 else list(zip(*(groups[name] for name in columns), strict=True))
    return groups if names is None or fit.group_name not in list(names) else groups[fit.group_name]


def refuse_columns_of_groups(fit: GroupedFit) -> None:
    """Raise a ValueError if a column has random coefficients but is not in X, along whose columns a picture is drawn."""
    # With a formula all columns are in the data.
    if not isinstance(fit, MixedEffectsFit | FactorView) or not fit.options.n_random_only or fit.design is not None:
        return
    names = fit.moments.shown_names[-fit.options.n_random_only :]
    raise ValueError(
        f"The model has random coefficients of {', '.join(map(repr, names))}, which fit found in groups and not in X. The "
        "picture is drawn along the columns of X: fit a model with these columns in X."
    )


def label_columns_of(fit: GroupedFit) -> tuple[str, ...]:
    """Return the columns whose labels are the levels of a factor, if the model has several columns of labels."""
    return tuple(fit.random_terms[0].label_columns) if isinstance(fit, FactorView) else ()


def groups_of_level(fit: GroupedFit, label: Any, n_rows: int) -> Any:
    """Return group labels of rows of one level, as `predict` takes them; the labels of other factors are missing.

    Parameters
    ----------
    fit : GroupedFit
        The fit.
    label : object
        The label; a tuple of labels of the columns of labels if there are several.
    n_rows : int
        Number of rows.

    Returns
    -------
    groups : pandas.Index or pandas.DataFrame
        A frame if the model has several columns of labels.
    """
    if not isinstance(fit, FactorView):
        # An index keeps the type of the label.
        return fit.labels[fit.labels.get_indexer([label])].repeat(n_rows)
    frame = pd.DataFrame({name: pd.Series([None] * n_rows, dtype=object) for name in fit.fit.known.cells.names})
    columns = label_columns_of(fit)
    for name, part in zip(columns, label if len(columns) > 1 else (label,), strict=True):
        frame[name] = part
    return frame


def spread_groups(fit: GroupedFit, show_groups: Any) -> Positions:
    """Return the positions of the groups to draw a line of: those with these labels, or so many of them by their effect."""
    if is_whole(show_groups, least=0):
        n, order = min(int(show_groups), len(fit.labels)), np.argsort(-levels_of_groups(fit), kind="stable")
        places = np.linspace(0, len(order) - 1, n) if n > 1 else np.full(n, (len(order) - 1) / 2)
        found = order[np.round(places).astype(np.intp)]
    else:
        found = _positions_of(fit, show_groups)
    if len(found) > MAX_COLORED:
        raise ValueError(
            f"show_groups must name {MAX_COLORED} groups at most, which colours tell apart; found {len(found)}."
        )
    return found


def sampled_groups(
    fit: GroupedFit, show_groups: Any, present: Positions, most: int, size: int, random_state: RandomState
) -> Positions:
    """Return the positions of the groups to show: those with these labels, or a random sample of the groups with rows.

    Parameters
    ----------
    fit : GroupedFit
        The fit.
    show_groups : int, array-like of labels or None
        The labels, or the size of the sample. None takes all groups, or a sample if there are many.
    present : ndarray of shape (n_present,)
        Positions of the groups with rows, in ascending order.
    most, size : int
        The largest number of groups that None takes as they are, and the size of the sample from more groups.
    random_state : int, RandomState instance or None
        Random numbers for the sample.

    Returns
    -------
    positions : ndarray of shape (n_shown,)
        Positions in the labels of the fit, in ascending order unless labels are given.
    """
    if show_groups is not None and not is_whole(show_groups):
        found = _positions_of(fit, show_groups)
        if not len(found):
            raise ValueError("show_groups is empty: pass labels of groups, or a number of groups.")
        return found
    wanted = (len(present) if len(present) <= most else size) if show_groups is None else int(show_groups)
    if wanted >= len(present):
        return present
    return np.sort(check_random_state(random_state).choice(present, wanted, replace=False))


def flat_labels(labels: pd.Index) -> pd.Index:
    """Return labels in an index of one level, with tuples for combinations of labels."""
    return labels.to_flat_index().rename(":".join(map(str, labels.names))) if labels.nlevels > 1 else labels


def _positions_of(fit: GroupedFit, show_groups: Any) -> Positions:
    """Return the positions of the groups with these labels, each once."""
    if isinstance(show_groups, str | bool | float) or np.ndim(show_groups) == 0:
        raise ValueError(f"show_groups must be a list of labels, or a number of groups; found {show_groups!r}.")
    labels = list(show_groups)
    # Levels of combinations of labels are tuples.
    found = encode(labels, flat_labels(fit.labels)) if labels else np.empty(0, dtype=np.intp)
    if (found < 0).any():
        unknown = [label for label, at in zip(labels, found, strict=True) if at < 0]
        raise ValueError(
            f"show_groups holds {unknown[0]!r}, which is not a group of the model. Its groups are "
            f"{', '.join(map(repr, fit.labels[:3].tolist()))} and so on."
        )
    return np.asarray(pd.unique(found))
