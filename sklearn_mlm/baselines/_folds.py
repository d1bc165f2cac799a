"""Cross-validation on moments: rows are read once, and every training set is a sum of parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..likelihood._optimum import minimise
from ..likelihood._options import Options
from ..moments._grouped_moments import GroupedMoments, moments_of
from ..moments._labels import positions
from ..moments._rows import GroupedRows
from ._within import within_estimate

OLS, ROBUST, WITHIN, MIXED = MODELS = ("pooled OLS", "cluster-robust OLS", "within", "random intercept")
"""Names of the models that are compared."""

# Rows are read once if there are at most this many pairs of folds, and otherwise once for each kind of fold.
_MAX_CELLS = 400


@dataclass(frozen=True, eq=False)
class Folds:
    """Moments of all rows, and of the training and the test rows of each fold.

    Attributes
    ----------
    whole : GroupedMoments
        Moments of all rows.
    of_rows, of_groups : list of tuples of two GroupedMoments
        Training and test rows of each fold of rows, which tests known groups, and of each fold of whole groups, which tests
        new ones. `of_groups` is empty if a fold leaves a single group to train on.
    """

    whole: GroupedMoments
    of_rows: list[tuple[GroupedMoments, GroupedMoments]]
    of_groups: list[tuple[GroupedMoments, GroupedMoments]]


def read_folds(rows: GroupedRows, fold_of_row: np.ndarray, fold_of_group: np.ndarray) -> Folds:
    """Read rows once, into moments for each pair of a fold of rows and a fold of groups, and merge these into folds.

    Parameters
    ----------
    rows : GroupedRows
        Checked rows.
    fold_of_row : ndarray of shape (n_samples,), int
        The fold that tests each row in a known group.
    fold_of_group : ndarray of shape (n_groups,), int
        The fold that tests each group as a new one.

    Returns
    -------
    folds : Folds
        The moments of all folds.
    """
    n_row_folds, n_group_folds = int(fold_of_row.max()) + 1, int(fold_of_group.max()) + 1
    merge = GroupedMoments.merge

    def read(cell: np.ndarray, n_cells: int) -> list[GroupedMoments]:
        order = np.argsort(cell, kind="stable")
        ends = np.cumsum(np.bincount(cell, minlength=n_cells))
        return [moments_of(rows.take(members)) for members in np.split(order, ends[:-1])]

    if n_row_folds * n_group_folds <= _MAX_CELLS:
        parts = read(fold_of_row * n_group_folds + fold_of_group[rows.codes], n_row_folds * n_group_folds)
        by_row_fold = [merge(parts[i * n_group_folds : (i + 1) * n_group_folds]) for i in range(n_row_folds)]
        by_group_fold = [merge(parts[i::n_group_folds]) for i in range(n_group_folds)]
    else:
        by_row_fold, by_group_fold = read(fold_of_row, n_row_folds), read(fold_of_group[rows.codes], n_group_folds)
    whole = merge(by_group_fold)
    labelled = replace(whole, labels=rows.levels.take(whole.labels.to_numpy()))
    new = _in_turn(by_group_fold)
    # A single group does not show how much groups vary.
    return Folds(labelled, _in_turn(by_row_fold), new if all(train.n_groups > 1 for train, _ in new) else [])


def _in_turn(parts: list[GroupedMoments]) -> list[tuple[GroupedMoments, GroupedMoments]]:
    """Return, for each part, the merged other parts and the part; the parts before and after it are merged cumulatively."""
    before, after = [parts[:0]], [parts[:0]]
    for part, last in zip(parts[:-1], parts[:0:-1], strict=True):
        before.append([GroupedMoments.merge([*before[-1], part])])
        after.append([GroupedMoments.merge([*after[-1], last])])
    return [
        (GroupedMoments.merge([*left, *right]), part)
        for part, left, right in zip(parts, before, reversed(after), strict=True)
    ]


def cross_validated_errors(folds: Folds, known_slopes: np.ndarray, options: Options) -> pd.DataFrame:
    """Return errors of each model in known and in new groups, by fold, if x times `known_slopes` was subtracted from y."""
    rows = {}
    for kind, pairs in (("known", folds.of_rows), ("new", folds.of_groups)):
        for fold, (train, test) in enumerate(pairs):
            for name, score in _scores(train, test, known_slopes, options).items():
                rows[kind, name, fold] = score
    index = pd.MultiIndex.from_tuples(rows, names=["groups", "model", "fold"])
    return pd.DataFrame(list(rows.values()), index=index, columns=["rmse", "r2"])


def _scores(
    train: GroupedMoments, test: GroupedMoments, known_slopes: np.ndarray, options: Options
) -> dict[str, tuple[float, float]]:
    """Return the root mean squared error and R^2 in the test rows of each model fitted to the training rows.

    With c = (-coefficients, 1), the squared errors sum to c' W c + sum_j n_j (mean residual_j - effect_j)^2.
    """
    criterion = options.criterion(train)
    pooled, mixed, within = criterion.solution(0.0), minimise(criterion).solution, within_estimate(train)
    outcome = test.about_slopes(-known_slopes)[0]
    # The within estimator cannot use known slopes of columns that are constant in every group.
    absorbed = np.where(within.identified, 0.0, known_slopes)
    if absorbed.any():
        within = within_estimate(train.about_slopes(-absorbed)[0])
    test_within = test.about_slopes(-absorbed)[0]
    means = outcome.deviations[:, -1]
    total = outcome.within[-1, -1] + outcome.counts @ (means - outcome.counts @ means / outcome.counts.sum()) ** 2
    position = positions(train.labels, test.labels)

    def score(rows: GroupedMoments, coefficients: np.ndarray, intercept: float, effects: np.ndarray) -> tuple[float, float]:
        contrast = np.append(-coefficients, 1.0)
        # Groups without an effect have the position -1, which counts from the end.
        of_group = np.append(effects, 0.0)[position]
        residuals = rows.deviations @ contrast + (rows.center @ contrast - intercept) - of_group
        left = float(contrast @ rows.within @ contrast + rows.counts @ residuals**2)
        return float(np.sqrt(max(left, 0.0) / rows.counts.sum())), float(1.0 - left / total) if total > 0 else np.nan

    ols = score(test, pooled.coefficients, pooled.intercept, np.zeros(train.n_groups))
    return {
        OLS: ols,
        ROBUST: ols,
        WITHIN: score(test_within, within.coefficients, within.intercept, within.group_effects),
        MIXED: score(test, mixed.coefficients, mixed.intercept, mixed.random_effects),
    }
