"""Cross-validation on moments: rows are read once, and every training set is a sum of parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..likelihood._criterion import Criterion
from ..likelihood._optimum import minimise
from ..moments._grouped_moments import GroupedMoments, summarise
from ..moments._labels import factorize, positions
from ._within import within_estimate

OLS, ROBUST, WITHIN, MIXED = MODELS = ("pooled OLS", "cluster-robust OLS", "within", "random intercept")
"""Names of the models that are compared."""


# Up to so many pairs of folds rows are read once, and beyond it once for each kind of fold.
_MAX_CELLS = 400


@dataclass(frozen=True, eq=False)
class Folds:
    """Moments of all rows, and of the training and the test rows of each fold: of rows ("known"), of groups ("new").

    If predictors explain nearly all of y, they are moments of y less `known_intercept` and x times `known_slopes`, which is
    None elsewhere.
    """

    whole: GroupedMoments
    known: list[tuple[GroupedMoments, GroupedMoments]]
    new: list[tuple[GroupedMoments, GroupedMoments]]
    known_slopes: np.ndarray | None = None
    known_intercept: float = 0.0


def read_folds(
    X: Any,
    y: np.ndarray,
    codes: np.ndarray,
    labels: pd.Index,
    names: tuple[str, ...] | None,
    fold_of_row: np.ndarray,
    fold_of_group: np.ndarray,
) -> Folds:
    """Read rows once, into the moments of each pair of a fold of rows and one of groups; the rest is merging.

    Parameters
    ----------
    X, y, codes, labels, names
        Validated rows.
    fold_of_row : ndarray of shape (n_samples,), int
    fold_of_group : ndarray of shape (n_groups,), int
    """
    n_row_folds, n_group_folds = int(fold_of_row.max()) + 1, int(fold_of_group.max()) + 1
    merge = GroupedMoments.merge

    def read(cell: np.ndarray, n_cells: int) -> list[GroupedMoments]:
        order = np.argsort(cell, kind="stable")
        ends = np.cumsum(np.bincount(cell, minlength=n_cells))
        parts = []
        for members in np.split(order, ends[:-1]):
            local, used = factorize(codes[members])
            parts.append(summarise(None if X is None else X[members], y[members], local, used, None, names))
        return parts

    if n_row_folds * n_group_folds <= _MAX_CELLS:
        parts = read(fold_of_row * n_group_folds + fold_of_group[codes], n_row_folds * n_group_folds)
        by_row_fold = [merge(parts[i * n_group_folds : (i + 1) * n_group_folds]) for i in range(n_row_folds)]
        by_group_fold = [merge(parts[i::n_group_folds]) for i in range(n_group_folds)]
    else:
        by_row_fold, by_group_fold = read(fold_of_row, n_row_folds), read(fold_of_group[codes], n_group_folds)
    whole = merge(by_group_fold)
    labelled = replace(whole, labels=labels.take(whole.labels.to_numpy()))
    new = _in_turn(by_group_fold)
    # One group alone cannot tell how much groups vary.
    return Folds(labelled, _in_turn(by_row_fold), new if all(train.n_groups > 1 for train, _ in new) else [])


def _in_turn(parts: list[GroupedMoments]) -> list[tuple[GroupedMoments, GroupedMoments]]:
    """Return, for each part, the others together and the part; the others from sums of those before and those after."""
    before, after = [parts[:0]], [parts[:0]]
    for part, last in zip(parts[:-1], parts[:0:-1], strict=True):
        before.append([GroupedMoments.merge([*before[-1], part])])
        after.append([GroupedMoments.merge([*after[-1], last])])
    return [
        (GroupedMoments.merge([*left, *right]), part)
        for part, left, right in zip(parts, before, reversed(after), strict=True)
    ]


def cross_validated_errors(folds: Folds) -> pd.DataFrame:
    """Return errors of each model in known and in new groups, by fold."""
    rows = {}
    for kind, pairs in (("known", folds.known), ("new", folds.new)):
        for fold, (train, test) in enumerate(pairs):
            for name, score in _scores(train, test, folds.known_slopes).items():
                rows[kind, name, fold] = score
    index = pd.MultiIndex.from_tuples(rows, names=["groups", "model", "fold"])
    return pd.DataFrame(list(rows.values()), index=index, columns=["rmse", "r2"])


def _scores(train: GroupedMoments, test: GroupedMoments, known_slopes: np.ndarray | None) -> dict[str, tuple[float, float]]:
    """Return root mean squared error and R^2 in the test rows of each model fitted to the training rows."""
    criterion = Criterion(train)
    pooled, mixed, within = criterion.solution(0.0), minimise(criterion).solution, within_estimate(train)
    outcome, test_within = test, test
    if known_slopes is not None:
        outcome = test.about_slopes(-known_slopes)[0]
        # What is known of columns that are constant in every group is nothing the within estimator could know.
        absorbed = np.where(within.identified, 0.0, known_slopes)
        within = within_estimate(train.about_slopes(-absorbed)[0])
        test_within = test.about_slopes(-absorbed)[0]
    levels = outcome.deviations[:, -1]
    total = outcome.within[-1, -1] + outcome.counts @ (levels - outcome.counts @ levels / outcome.counts.sum()) ** 2
    position = positions(train.labels, test.labels)

    def score(rows: GroupedMoments, coefficients: np.ndarray, intercept: float, effects: np.ndarray) -> tuple[float, float]:
        return _score(rows, float(total), coefficients, intercept, np.append(effects, 0.0)[position])

    ols = score(test, pooled.coefficients, pooled.intercept, np.zeros(train.n_groups))
    return {
        OLS: ols,
        ROBUST: ols,
        WITHIN: score(test_within, within.coefficients, within.intercept, within.group_effects),
        MIXED: score(test, mixed.coefficients, mixed.intercept, mixed.random_effects),
    }


def _score(
    moments: GroupedMoments, total: float, coefficients: np.ndarray, intercept: float, effects: np.ndarray
) -> tuple[float, float]:
    """Return root mean squared error and R^2 of predictions, from the moments of the rows predicted and the scatter of y.

    With c = (-coefficients, 1), the squared errors sum to c' W c + sum_j n_j (mean residual_j - effect_j)^2.
    """
    contrast = np.append(-coefficients, 1.0)
    residuals = moments.deviations @ contrast + (moments.center @ contrast - intercept) - effects
    left = float(contrast @ moments.within @ contrast + moments.counts @ residuals**2)
    return float(np.sqrt(max(left, 0.0) / moments.counts.sum())), 1.0 - left / total if total > 0 else np.nan
