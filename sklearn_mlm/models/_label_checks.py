"""Warnings about labels that are probably not what the user means: used as numbers, transformed, of two kinds."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ..moments._grouped_moments import GroupedMoments
from ..moments._labels import as_labels

# Scatter within groups, and squared distance from a line, that are rounding.
_ROUNDING = 1e-20
_LINEAR = 1e-12
# How near to 0 and 1 the mean and the variance of labels are after StandardScaler.
_STANDARDISED = 1e-6
# With fewer groups, fractions from 0 to 1 may be labels as they were.
_GROUPS_OF_FRACTIONS = 5


def warn_of_peculiar_labels(moments: GroupedMoments, key: str | int | None, stacklevel: int) -> None:
    """Warn of predictors that are the labels, or made of them, and of labels that a step has transformed.

    Parameters
    ----------
    moments : GroupedMoments
        Moments of the rows.
    key : str, int or None
        The `group_feature` of the model.
    stacklevel : int
        As `warnings.warn` takes it in the caller.
    """
    for message in (
        _labels_among_predictors(moments),
        _made_of_labels(moments.feature_names, key),
        _transformed(moments, key),
    ):
        if message:
            warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)


def _numbers(moments: GroupedMoments) -> np.ndarray | None:
    """Return labels that are numbers as an array; None if they are not, or are too few to show anything."""
    kind = getattr(moments.labels.dtype, "kind", "O")
    return moments.labels.to_numpy(dtype=np.float64) if kind in "iuf" and len(moments.labels) > 2 else None


def _labels_among_predictors(moments: GroupedMoments) -> str | None:
    """Return a warning of a predictor that equals the labels, or is a linear function of them."""
    labels = _numbers(moments)
    if labels is None:
        return None
    scatter = moments.within.diagonal()[:-1]
    between = moments.counts @ moments.deviations[:, :-1] ** 2
    for at in np.flatnonzero(scatter <= _ROUNDING * between).tolist():
        x, name = moments.means[:, at], moments.shown_names[at]
        if np.array_equal(x, labels):
            relation = "equals the group labels"
        else:
            apart, spread = x - x.mean(), labels - labels.mean()
            if not np.ptp(x) or (apart @ spread) ** 2 < (1.0 - _LINEAR) * (apart @ apart) * (spread @ spread):
                continue
            relation = "is a linear function of the group labels"
        return (
            f"Column {name!r} of X {relation}, so that the labels are a predictor too. Leave it out of X, unless the labels "
            "are numbers that mean something, such as years."
        )
    return None


def _made_of_labels(names: Sequence[str] | None, key: str | int | None) -> str | None:
    """Return a warning of columns that PolynomialFeatures has made of the group column."""
    if names is None or not isinstance(key, str):
        return None
    made = [name for name in names if name != key and key in re.split(r"[ ^]", name)]
    if not made:
        return None
    return (
        f"{len(made)} column(s) of X, such as {made[0]!r}, are made of the group column {key!r}, so that the labels are "
        "predictors too. Let the group column pass by the step that makes them, with ColumnTransformer([...], "
        'remainder="passthrough").'
    )


def _transformed(moments: GroupedMoments, key: str | int | None) -> str | None:
    """Return a warning of labels in a group column that a scaler has changed."""
    labels = _numbers(moments)
    if key is None or labels is None or np.array_equal(labels, np.round(labels)):
        return None
    share = moments.n_rows / moments.n_rows.sum()
    mean = float(share @ labels)
    scaler = None
    if abs(mean) < _STANDARDISED and abs(float(share @ (labels - mean) ** 2) - 1.0) < _STANDARDISED:
        scaler = "StandardScaler"
    elif labels.min() == 0.0 and labels.max() == 1.0 and len(labels) >= _GROUPS_OF_FRACTIONS:
        scaler = "MinMaxScaler"
    if scaler is None:
        return None
    return (
        f"The labels in the group column {key!r} are fractions such as {float(labels[0]):.4g}, as {scaler} makes them. "
        "A step before the model seems to have changed them, and groups_ and random_effects_ have these labels. Let the "
        'column pass unchanged, with ColumnTransformer([...], remainder="passthrough").'
    )


def warn_of_other_groups(column: ArrayLike, groups: ArrayLike, key: str | int, stacklevel: int) -> None:
    """Warn if labels that were passed differ from those in the group column of X.

    Parameters
    ----------
    column, groups : array-like of shape (n_samples,)
        The labels in X, and those that were passed.
    key : str or int
        The `group_feature` of the model.
    stacklevel : int
        As `warnings.warn` takes it in the caller.
    """
    in_x, passed = as_labels(column), as_labels(groups)
    if len(in_x) != len(passed):
        return  # other checks refuse them
    numbers = all(isinstance(labels, np.ndarray) and labels.dtype.kind in "iuf" for labels in (in_x, passed))
    if not numbers:
        in_x, passed = _objects(in_x), _objects(passed)
    n_apart = int(np.count_nonzero(np.asarray(in_x != passed)))
    if n_apart:
        warnings.warn(
            f"groups and the group column {key!r} of X differ in {n_apart} of {len(passed)} rows. groups is used; leave it "
            "out to use the column.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _objects(labels: Any) -> np.ndarray:
    """Return labels as objects, missing ones as None."""
    values = np.array(labels, dtype=object)
    values[pd.isna(values)] = None
    return values
