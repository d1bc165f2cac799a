"""Folds of rows, of the levels of each of several grouping factors, and of the levels of all factors at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, KFold

from .._inputs import is_whole
from .._typing import RandomState
from ..moments._cells import distinct_rows
from ..moments._labels import factorize

Split = tuple[np.ndarray, np.ndarray]


def factor_splits(
    labels: pd.DataFrame, groupings: dict[str, tuple[str, ...]], cv: Any, random_state: RandomState
) -> dict[str, list[Split]]:
    """Return the folds of each question that several grouping factors ask.

    Parameters
    ----------
    labels : pandas.DataFrame of shape (n_samples, n_columns)
        The columns of labels.
    groupings : dict of str to tuple of str
        The columns of labels of each factor.
    cv : int
        Number of folds.
    random_state : int, RandomState instance or None
        Random numbers for shuffling the rows.

    Returns
    -------
    splits : dict of str to list of tuple of ndarray
        Positions of the rows of the training part and of the test part of each fold: "known" has folds of rows,
        "new <factor>" folds of the levels of a factor, and "all new" folds of the levels of all factors, whose test part has
        levels that the training part lacks of every factor. A factor whose levels are nested in those of another has new
        levels if the other has.
    """
    codes = {name: _codes(labels, columns) for name, columns in groupings.items()}
    for name, of_factor in codes.items():
        n_levels = int(of_factor.max()) + 1
        if not is_whole(cv, 2, n_levels):
            raise ValueError(
                f"cv must be a number of folds between 2 and the number of levels of {name}, {n_levels}; found cv={cv!r}."
            )
    rows = np.arange(len(labels))
    splits = {"known": list(KFold(cv, shuffle=True, random_state=random_state).split(rows))}
    folds: dict[str, np.ndarray] = {}
    for name, of_factor in codes.items():
        splits[f"new {name}"] = list(GroupKFold(cv).split(rows, groups=of_factor))
        folds[name] = np.empty(len(rows), dtype=np.intp)
        for fold, (_, test) in enumerate(splits[f"new {name}"]):
            folds[name][test] = fold
    outer = [name for name in codes if not any(_inside(codes[name], codes[other]) for other in codes if other != name)]
    if len(outer) > 1:
        apart = [_all_new(np.column_stack([folds[name] for name in outer]), fold) for fold in range(cv)]
        splits["all new"] = [(train, test) for train, test in apart if len(train) and len(test) > 1]
    return {kind: of_kind for kind, of_kind in splits.items() if of_kind}


def _codes(labels: pd.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """Return the level of a factor that each row has."""
    found = [factorize(labels[name], len(labels)) for name in columns]
    return distinct_rows(np.column_stack([codes for codes, _ in found]), [len(levels) for _, levels in found])[0]


def _inside(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Return whether the levels of one factor are nested in those of another, of which there are fewer."""
    n_inner, n_outer = int(inner.max()) + 1, int(outer.max()) + 1
    pairs, _ = distinct_rows(np.column_stack([inner, outer]), [n_inner, n_outer])
    return n_inner > n_outer and int(pairs.max()) + 1 == n_inner


def _all_new(folds: np.ndarray, fold: int) -> Split:
    """Return the rows with no level in a fold, and those with all levels in it."""
    inside = folds == fold
    return np.flatnonzero(~inside.any(axis=1)), np.flatnonzero(inside.all(axis=1))
