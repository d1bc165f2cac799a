"""Columns of numbers from frames with factors, and from what a pipeline makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, clone

from .._inputs import column_names
from ..models._base import GroupedRegressor
from ..models._group_column import split_group_column
from ..models._label_checks import warn_of_other_groups

# A sparse matrix of at most this many numbers is made dense, so that its columns have names.
_DENSE_NUMBERS = 1 << 24


def with_dummies(X: Any, factors: str | Sequence[str]) -> pd.DataFrame:
    """Return a frame with dummy columns in the place of factors; the first level of each factor has none.

    Parameters
    ----------
    X : data frame of shape (n_samples, n_features)
        The data.
    factors : str or sequence of str
        Names of the columns that are factors.

    Returns
    -------
    X : pandas.DataFrame
        The other columns as they are, and for each level of a factor but the first a column of 0 and 1, such as
        "sector_public".

    Raises
    ------
    ValueError
        If `X` is not a data frame, or a factor is not a column of it, or has missing values.
    """
    names = [factors] if isinstance(factors, str) else list(factors)
    columns = column_names(X)
    if columns is None:
        raise ValueError(f"factors are names of columns, but X is a {type(X).__name__} without names. Pass a data frame.")
    frame = X if isinstance(X, pd.DataFrame) else X.to_pandas()
    unknown = [name for name in names if name not in frame.columns]
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ValueError(f"The columns of X must have unique names; found {twice[0]!r} twice. Rename one.")
    if unknown:
        raise ValueError(f"factors names {unknown[0]!r}, which is not a column of X: {', '.join(map(repr, frame.columns))}.")
    parts = []
    for name in frame.columns:
        column = frame[name]
        if name in names:
            n_missing = int(column.isna().sum())
            if n_missing:
                raise ValueError(
                    f"Factor {name!r} has {n_missing} missing value(s) in {len(frame)} rows. Drop these rows, or make "
                    'missing values a level of their own, with fillna("missing").'
                )
            if isinstance(column.dtype, pd.CategoricalDtype):
                column = column.cat.remove_unused_categories()
            parts.append(pd.get_dummies(column, prefix=str(name), drop_first=True, dtype=np.float64))
        else:
            parts.append(column.to_frame())
    return pd.concat(parts, axis=1)


def preprocessed(X: Any, y: Any, groups: Any, steps: BaseEstimator) -> tuple[Any, Any]:
    """Return columns as a transformer makes them of X, and the groups.

    Parameters
    ----------
    X : array-like or data frame of shape (n_samples, n_features)
        The data.
    y : array-like of shape (n_samples,)
        Outcome.
    groups : array-like of shape (n_samples,) or None
        Group labels; None takes them from the `group_feature` of the model at the end of the pipeline.
    steps : transformer or pipeline
        What is fitted to X and y; a model of this package at its end is left out.

    Returns
    -------
    X : data frame, ndarray or sparse matrix of shape (n_samples, n_predictors), or None
        The predictors, without the group column.
    groups : array-like of shape (n_samples,) or None
        The group labels.
    """
    key = None
    last = steps.steps[-1][1] if hasattr(steps, "steps") else steps
    if isinstance(last, GroupedRegressor):
        key = last.group_feature
        steps = steps[:-1] if last is not steps and len(steps.steps) > 1 else None
    if steps is not None:
        if not hasattr(steps, "transform"):
            raise ValueError(
                "preprocessing must be a transformer, or a pipeline of transformers that may end in a model of this "
                f"package; found {steps!r}."
            )
        steps = clone(steps)
        X = steps.fit_transform(X, y)
        if sparse.issparse(X) and np.prod(X.shape) <= _DENSE_NUMBERS:
            X = X.toarray()
        if column_names(X) is None and not sparse.issparse(X) and hasattr(steps, "get_feature_names_out"):
            X = pd.DataFrame(X, columns=steps.get_feature_names_out())
    if key is not None:
        column, X = split_group_column(X, key)
        if groups is not None:
            warn_of_other_groups(column, groups, key)
        groups = column if groups is None else groups
    return X, groups
