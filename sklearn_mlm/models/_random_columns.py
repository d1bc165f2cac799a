"""The random terms of a model, the frame of groups, and columns with random coefficients that X does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from .._inputs import column_names, name_of
from ..likelihood._random_terms import RandomTerm, parse_random_effects
from ..moments._complaints import Column, complaint
from ..moments._rows import as_numbers

# An error names no more columns than this.
_NAMED = 12


def random_terms(random_effects: str | None, groups: Any = None) -> list[RandomTerm]:
    """Return the random terms of the parameter `random_effects`; if it is None, an intercept for each column of groups.

    Raises
    ------
    ValueError
        If the text is not in lmer's notation, or two terms of a factor have the same coefficient.
    """
    if random_effects is None:
        names = column_names(groups)
        if names is not None and len(names) > 1:
            return [RandomTerm(str(name), True, ()) for name in names]
        return [RandomTerm(name_of(groups) or "group", True, ())]
    terms = _with_one_name(parse_random_effects(random_effects))
    seen: dict[tuple[str, str], RandomTerm] = {}
    for term in terms:
        for column in set(term.label_columns).intersection(term.columns):
            raise ValueError(
                f"random_effects={random_effects!r} lets the coefficient of {column!r} vary between the groups of "
                f"{term.factor!r}, in which it is constant. Name another column, or another factor."
            )
        for name in term.coefficients:
            key = term.factor, name
            if key in seen:
                raise ValueError(
                    f"random_effects={random_effects!r} has {name!r} in two terms, {seen[key]} and {term}: only the sum of "
                    "its two variances is identified. Leave it out of one of them (0 for the intercept)."
                )
            seen[key] = term
    return terms


def _with_one_name(terms: Sequence[RandomTerm]) -> list[RandomTerm]:
    """Return terms in which the same columns of labels are the same factor, in whatever order they were named."""
    groupings: dict[frozenset[str], tuple[str, ...]] = {}
    found = []
    for term in terms:
        grouping = groupings.setdefault(frozenset(term.label_columns), term.label_columns)
        found.append(RandomTerm.of_grouping(grouping, term.intercept, term.columns, term.correlated))
    return found


def columns_outside(X: Any, groups: Any, terms: Sequence[RandomTerm]) -> tuple[str, ...]:
    """Return the names of columns with random coefficients that are not in X but in groups.

    Raises
    ------
    ValueError
        If a column is in neither.
    """
    of_groups, shown = column_names(groups), _names_of_columns(X)
    if shown is None:
        return ()
    outside = tuple(dict.fromkeys(name for term in terms for name in term.columns if name not in shown))
    for name in outside:
        if of_groups is None or name not in list(of_groups):
            raise ValueError(
                f"random_effects names the column {name!r}, which is neither in X (which has "
                f"{', '.join(map(repr, shown[:_NAMED])) or 'no columns'}) nor in groups.{_of_pipelines(shown)}"
            )
    return outside


def _of_pipelines(names: list[str]) -> str:
    """Return what to do if the names look like those that a step of a pipeline has made; empty if not."""
    if names and all(name == f"x{at}" for at, name in enumerate(names)):
        return ' In a pipeline, set_output(transform="pandas") keeps the names of columns.'
    return " ColumnTransformer(verbose_feature_names_out=False) keeps names." if any("__" in name for name in names) else ""


def _names_of_columns(X: Any) -> list[str] | None:
    """Return the names of the columns of X, as scikit-learn takes them or x0, x1, ...; None if X is not two-dimensional."""
    names = column_names(X)
    if names is not None and all(isinstance(name, str) for name in names):
        return list(names)
    try:
        shape = (0, 0) if X is None else X.shape if issparse(X) else np.asarray(X).shape
    except ValueError:
        return None
    return [f"x{at}" for at in range(shape[1])] if len(shape) == 2 else None


def split_groups(groups: Any, factor: str, more: Sequence[str], *, in_X: bool) -> tuple[Any, pd.DataFrame | None]:
    """Return the labels that groups hold, and further columns of them.

    Parameters
    ----------
    groups : array-like, data frame or None
        Labels, or a frame with a column of labels.
    factor : str
        Name of that column.
    more : sequence of str
        Names of the further columns.
    in_X : bool
        Whether X has a column of labels.

    Returns
    -------
    labels : array-like or None
        The labels; None if groups have none.
    columns : pandas.DataFrame or None
        The further columns, if any.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    names = column_names(groups)
    found = [] if names is None else list(names)
    if any(name not in found for name in more):
        raise ValueError(f"groups must be a frame with the column(s) {', '.join(more)}, as in fit.")
    if names is None:
        return groups, None
    if factor not in found and not in_X:
        raise ValueError(
            f"random_effects names the factor {factor!r}, which is a column neither of groups (which has "
            f"{', '.join(map(repr, found[:_NAMED]))}) nor of X."
        )
    for name in (factor, *more):
        if found.count(name) > 1:
            raise ValueError(
                f"groups has {found.count(name)} columns with the name {name!r}; random_effects needs one column."
            )
    labels = groups[factor] if factor in found else None
    return labels, more_columns(groups, more)


def more_columns(groups: Any, more: Sequence[str]) -> pd.DataFrame | None:
    """Return columns of groups that have random coefficients, as numbers; None if there are none.

    Raises
    ------
    ValueError
        If a column is missing, or holds no numbers.
    """
    if not more:
        return None
    names = column_names(groups)
    if names is None or any(name not in list(names) for name in more):
        raise ValueError(f"groups must be a frame with the column(s) {', '.join(more)}, as in fit.")
    complaint_or_none = complaint(Column("X", f"Column {name!r} of groups", groups[name]) for name in more)
    if complaint_or_none is not None:
        raise complaint_or_none
    return pd.DataFrame({name: as_numbers(np.asarray(groups[name]), f"{name!r} of groups") for name in more}, dtype=float)
