"""The columns of labels of models of several grouping factors: in X, in `groups`, or in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .._inputs import column_names, warn_caller
from ..likelihood._random_terms import RandomTerm
from ..moments._cells import Cells
from ..moments._labels import UNSEEN, as_labels, encode, label_kind
from ._group_column import split_group_column

# An error names no more labels than this.
_NAMED = 5


def label_columns(terms: Sequence[RandomTerm]) -> tuple[str, ...]:
    """Return the columns of labels that random terms name, in order of appearance."""
    return tuple(dict.fromkeys(name for term in terms for name in term.label_columns))


def columns_of_x(X: Any, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of labels that X has, by name."""
    names = column_names(X)
    found = [] if names is None else list(names)
    return tuple(name for name in columns if found.count(name) == 1)


def split_label_columns(
    X: Any, groups: Any, columns: Sequence[str], of_X: Sequence[str]
) -> tuple[dict[str, Any], Any, tuple[int, ...]]:
    """Return the labels of rows by column, X without its columns of labels, and their positions.

    Parameters
    ----------
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        The data.
    groups : data frame or None
        Columns of labels, which take precedence over those of X.
    columns : sequence of str
        Names of the columns of labels.
    of_X : sequence of str
        Those that X has.

    Returns
    -------
    labels : dict of str to array-like
        The labels of each column.
    X : array-like, data frame or sparse matrix, or None
        The other columns; None if there are none.
    positions : tuple of int
        Positions of the columns of labels in X.

    Raises
    ------
    ValueError
        If a column of labels is neither in groups nor in X.
    """
    names, of_groups = column_names(X), column_names(groups)
    if groups is not None and of_groups is None:
        raise ValueError(
            f"groups must be a frame with the columns {', '.join(map(repr, columns))}, because the model has several "
            f"columns of labels; found a {type(groups).__name__}. A dict of columns becomes a frame by pandas.DataFrame."
        )
    in_groups = [] if of_groups is None else list(of_groups)
    for name in columns:
        if in_groups.count(name) > 1:
            raise ValueError(
                f"groups has {in_groups.count(name)} columns with the name {name!r}; random_effects needs one column."
            )
    missing = [name for name in columns if name not in in_groups and name not in of_X]
    if missing:
        raise ValueError(
            f"random_effects names the column(s) of labels {', '.join(map(repr, missing))}, which are neither in groups "
            f"(which has {', '.join(map(repr, in_groups[:12])) or 'no columns'}) nor in X. Pass groups as a frame with a "
            "column for each."
        )
    labels, positions = {}, tuple(list(names if names is not None else []).index(name) for name in of_X)
    for name in of_X:
        column, X = split_group_column(X, name)
        labels[name] = column
    labels |= {name: groups[name] for name in columns if name in in_groups}
    return {name: labels[name] for name in columns}, X, positions


def codes_of_labels(
    labels: dict[str, Any], n_samples: int, cells: Cells, groupings: dict[str, tuple[str, ...]], *, refuse: bool
) -> np.ndarray:
    """Return the level of each factor that each row has: `UNSEEN` if a fit has not seen it, `MISSING` without a label.

    Parameters
    ----------
    labels : dict of str to array-like of shape (n_samples,)
        The labels by column.
    n_samples : int
        Number of rows.
    cells : Cells
        The cells of the fit.
    groupings : dict of str to tuple of str
        The columns of labels of each factor.
    refuse : bool
        Whether to raise an error for a level that the fit has not seen.

    Returns
    -------
    codes : ndarray of shape (n_samples, n_factors)
        Positions of the levels.
    """
    columns = {}
    used = {name for of_factor in groupings.values() for name in of_factor}
    for name, levels in zip(cells.names, cells.levels, strict=True):
        if name not in used:
            continue
        of_column: Any = as_labels(labels[name], n_samples)
        columns[name] = encode(of_column, levels)
        _warn_of_other_type(name, of_column, levels, columns[name])
    codes = np.empty((n_samples, len(groupings)), dtype=np.intp)
    for at, (factor, of_factor) in enumerate(groupings.items()):
        codes[:, at] = cells.encode(of_factor, [columns[name] for name in of_factor])
        unseen = np.flatnonzero(codes[:, at] == UNSEEN)
        if refuse and len(unseen):
            found = pd.DataFrame({name: np.asarray(as_labels(labels[name]))[unseen] for name in of_factor}).drop_duplicates()
            shown = [tuple(row) if len(of_factor) > 1 else row[0] for row in found.head(_NAMED).to_numpy().tolist()]
            raise ValueError(
                f"groups has {len(found)} level(s) of {factor} that fit has not seen, among them {shown!r}. Pass known "
                'levels, or set new_groups to "population" or "nan".'
            )
    return codes


def _warn_of_other_type(name: str, labels: Any, levels: pd.Index, codes: np.ndarray) -> None:
    """Warn if no label of a column is known because the labels have another type than those of the fit."""
    if len(codes) and (codes == UNSEEN).any() and not (codes >= 0).any() and label_kind(labels) != label_kind(levels):
        warn_caller(
            f"None of the labels of {name} is known: they have another type ({label_kind(labels)}) than those of fit "
            f"({label_kind(levels)}), as 1 and '1' have. Every row is predicted as a row of a new level of {name}."
        )
