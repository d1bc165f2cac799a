"""Warnings about labels that are probably not what the user means: used as numbers, transformed, of two kinds."""

from __future__ import annotations

import re
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import warn_caller
from ..moments._grouped_moments import GroupedMoments
from ..moments._labels import as_labels, encode

# Scatter within groups, and squared distance from a line, that are rounding.
_ROUNDING = 1e-20
_LINEAR = 1e-12
# How near to 0 and 1 the mean and the variance of labels are after StandardScaler.
_STANDARDISED = 1e-6
# With fewer groups, a column may be a linear function of the labels, or labels be fractions from 0 to 1, by chance.
_ENOUGH_GROUPS = 5


def warn_of_peculiar_labels(moments: GroupedMoments, key: str | int | None) -> None:
    """Warn of predictors that are the labels, or made of them, and of labels that a step has transformed.

    Parameters
    ----------
    moments : GroupedMoments
        Moments of the rows.
    key : str, int or None
        The `group_feature` of the model.
    """
    for message in (
        _labels_among_predictors(moments),
        _made_of_labels(moments, key),
        _transformed(moments, key),
    ):
        if message:
            warn_caller(message)


def _numbers(moments: GroupedMoments) -> np.ndarray | None:
    """Return labels that are numbers as an array; None if they are not."""
    return moments.labels.to_numpy(dtype=np.float64) if getattr(moments.labels.dtype, "kind", "O") in "iuf" else None


def _labels_among_predictors(moments: GroupedMoments) -> str | None:
    """Return a warning of a predictor that equals the labels, as numbers or as text, or is a linear function of them."""
    scatter = moments.within.diagonal()[:-1]
    between = moments.counts @ moments.deviations[:, :-1] ** 2
    candidates = np.flatnonzero((scatter <= _ROUNDING * between) & (between > 0))
    if not len(candidates) or moments.n_groups < 3:
        return None
    labels = _numbers(moments)
    if labels is None:
        # Text of numbers, such as "308".
        labels = pd.to_numeric(pd.Series(moments.labels), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isnan(labels).any():
            return None
    for at in candidates.tolist():
        x, name = moments.center[at] + moments.deviations[:, at], moments.shown_names[at]
        if np.array_equal(x, labels):
            relation = "equals the group labels"
        else:
            apart, spread = x - x.mean(), labels - labels.mean()
            alike = (apart @ spread) ** 2 >= (1.0 - _LINEAR) * (apart @ apart) * (spread @ spread)
            if not alike or moments.n_groups < _ENOUGH_GROUPS:
                continue
            relation = "is a linear function of the group labels"
        return (
            f"Column {name!r} of X {relation}, so that the labels are a predictor too. Leave it out of X, unless the labels "
            "are numbers that mean something, such as years."
        )
    return None


def _made_of_labels(moments: GroupedMoments, key: str | int | None) -> str | None:
    """Return a warning of columns that PolynomialFeatures has made of the group column."""
    names = moments.feature_names
    if names is None or not isinstance(key, str) or _numbers(moments) is None:
        return None
    columns = {*names, key}
    made = [name for name in names if key in name and key in _factors(name, columns - {name})]
    if not made:
        return None
    return (
        f"{len(made)} column(s) of X, such as {made[0]!r}, are made of the group column {key!r}, so that the labels are "
        "predictors too. Let the group column pass by the step that makes them, with ColumnTransformer([...], "
        'remainder="passthrough").'
    )


def _factors(name: str, columns: set[str]) -> list[str]:
    """Return the columns whose powers make a product, such as "days subject^2"; empty if the name is none of these."""
    for column in columns:
        if not name.startswith(column):
            continue
        rest = re.sub(r"^\^\d+", "", name[len(column) :])
        if not rest:
            return [column]
        if rest.startswith(" "):
            others = _factors(rest[1:], columns)
            if others:
                return [column, *others]
    return []


def _transformed(moments: GroupedMoments, key: str | int | None) -> str | None:
    """Return a warning of labels in a group column that a scaler has changed."""
    labels = _numbers(moments)
    if key is None or labels is None or len(labels) < 3:
        return None
    fractions = labels[labels != np.round(labels)]
    if not len(fractions):
        return None
    share = moments.n_rows / moments.n_rows.sum()
    mean = float(share @ labels)
    scaler = None
    if abs(mean) < _STANDARDISED and abs(float(share @ (labels - mean) ** 2) - 1.0) < _STANDARDISED:
        scaler = "StandardScaler"
    # Shares such as 0.25 are labels as they are.
    elif labels.min() == 0.0 and labels.max() == 1.0 and len(labels) >= _ENOUGH_GROUPS:
        scaler = None if np.allclose(100.0 * labels, np.round(100.0 * labels), atol=1e-9) else "MinMaxScaler"
    if scaler is None:
        return None
    return (
        f"The labels in the group column {key!r} are fractions such as {float(fractions[0]):.4g}, as {scaler} makes them. "
        "A step before the model seems to have changed them, and groups_ and random_effects_ have these labels. Let the "
        'column pass unchanged, with ColumnTransformer([...], remainder="passthrough").'
    )


def warn_of_other_groups(column: ArrayLike, groups: ArrayLike, key: str | int) -> None:
    """Warn if labels that were passed differ from those in the group column of X.

    Parameters
    ----------
    column, groups : array-like of shape (n_samples,)
        The labels in X, and those that were passed.
    key : str or int
        The `group_feature` of the model.
    """
    in_x, passed = as_labels(column), as_labels(groups)
    if len(in_x) != len(passed):
        return  # other checks refuse them
    # Codes among the labels in X: equal labels may be of other types.
    levels = pd.Index(pd.unique(pd.Series(in_x).dropna()))
    n_apart = int(np.count_nonzero(encode(cast(ArrayLike, in_x), levels) != encode(cast(ArrayLike, passed), levels)))
    if n_apart:
        warn_caller(
            f"groups and the group column {key!r} of X differ in {n_apart} of {len(passed)} rows. groups is used; leave it "
            "out to use the column.",
        )
