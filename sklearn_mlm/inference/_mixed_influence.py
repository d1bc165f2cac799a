"""The influence of groups on a model with random slopes: what the estimates would be without each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd

from .._progress import progress
from .._typing import Floats
from ..likelihood._identification import unidentified
from ..likelihood._mixed_criterion import MixedCriterion
from ..likelihood._mixed_fit import MixedEffectsFit
from ..moments._moments import Moments
from ..moments._reading import rest_of
from ..moments._remainder import KnownPart
from ..moments._rows import GroupedRows
from ..moments._scatter import Scatter
from ..moments._scatter_reading import rests_of_groups
from ._group_changes import measures_of_change, sums_of_others


def changes_without_groups(
    fit: MixedEffectsFit,
    rows: GroupedRows,
    wanted: np.ndarray,
    verbose: int,
    check: Callable[[Moments, np.ndarray, np.ndarray], None],
) -> pd.DataFrame:
    """Return how the estimates change without each of some groups, all of them estimated again.

    Parameters
    ----------
    fit : MixedEffectsFit
        The fit to all groups.
    rows : GroupedRows
        The rows of the fit, with the positions of the groups in the record as codes.
    wanted : ndarray of shape (n_groups,), bool
        The groups to leave out in turn.
    verbose : int
        1 shows how many groups are done.
    check : callable
        Takes moments of the fit, the group means less the centre, and differences of the scatter of each column; raises an
        error if they show that the rows are not those of the fit.

    Returns
    -------
    table : pandas.DataFrame
        A row for each of these groups, with the columns that `influence` describes.
    """
    record, known = fit.scatter.about_slopes()
    remainder, center = fit.moments.remainder, record.moments.center.copy()
    if remainder is not None:
        rows, center[-1] = rest_of(rows, KnownPart(remainder.slopes, remainder.center)), 0.0
    rests, deviations = rests_of_groups(rows, record.slopes, center)
    check(record.moments, deviations, np.abs(rests.sum(axis=0) - record.rest).diagonal())
    logs = np.zeros(len(rows)) if rows.weights is None else np.log(rows.weights)
    log_weights = np.bincount(rows.codes, logs, record.n_groups).astype(np.float64)
    names = list(fit.options.coefficients)
    pairs = [(a, b) for block in fit.criterion.design.blocks for i, a in enumerate(block) for b in block[i + 1 :]]
    table = []
    with progress(verbose, "groups", int(wanted.sum())) as report:
        for at, rest in enumerate(sums_of_others(rests)):
            if wanted[at]:
                table.append(_changes(fit, _without(record, at, rest, log_weights), known, pairs))
                report(1)
    columns = [
        "cooks_distance",
        "covratio",
        *(f"variance {name}" for name in names),
        *(f"covariance {names[a]}, {names[b]}" for a, b in pairs),
        "residual_variance",
        *(f"dfbetas {name}" for name in fit.names),
    ]
    result = pd.DataFrame(table, columns=columns, index=fit.moments.labels[wanted])
    result.insert(0, "n", fit.group_sizes(fit.moments)[wanted])
    return result


def _without(record: Scatter, at: int, rest: Floats, log_weights: Floats) -> Scatter:
    """Return a record without one group, given the rest of the others; its labels are positions."""
    moments, factors = record.moments, np.delete(record.factors, at, axis=0)
    others = replace(
        moments,
        labels=pd.RangeIndex(record.n_groups - 1),
        counts=np.delete(moments.counts, at),
        n_rows=np.delete(moments.n_rows, at),
        deviations=np.delete(moments.deviations, at, axis=0),
        within=rest + np.einsum("jra,jrb->ab", factors, factors),
        sum_log_weight=float(np.delete(log_weights, at).sum()),
    )
    return replace(record, moments=others, factors=factors, rest=rest)


def _changes(fit: MixedEffectsFit, record: Scatter, known: np.ndarray, pairs: list[tuple[int, int]]) -> list[float]:
    """Return Cook's distance, covratio, the variances and the dfbetas of a fit to a record; NaN for what is not known.

    Parameters
    ----------
    fit : MixedEffectsFit
        The fit to all groups.
    record : Scatter
        The record of the other groups, of y less the known slopes times x.
    known : ndarray of shape (n_features,)
        The known slopes.
    pairs : list of tuple of int
        Positions of correlated coefficients.

    Returns
    -------
    figures : list of float
        The figures, in the order of the columns of `changes_without_groups`.
    """
    n_effects, n_random = len(fit.names), len(fit.options.coefficients)
    gaps = [np.nan] * (3 + n_random + len(pairs) + n_effects)
    criterion = cast(MixedCriterion, fit.options.criterion(record))
    if record.n_groups < 2 or criterion.n_observations <= criterion.rank or unidentified(criterion) is not None:
        return gaps
    other = MixedEffectsFit.of(criterion, fit.options)
    if not other.residual_variance > 0:
        return gaps
    leading, center = int(fit.options.fit_intercept), fit.criterion.coordinates.origin[: len(fit.slopes)]
    # The change of the intercept is taken at the centre of all rows, so that a distant origin costs no digits.
    slopes = fit.slopes - known[: len(fit.slopes)]
    at_center = fit.centred[0] - known @ fit.criterion.coordinates.z_origin
    here = other.criterion.coordinates.origin[: len(slopes)]
    change = slopes - other.slopes
    change = np.append(np.full(leading, at_center - (other.centred[0] + (center - here) @ other.slopes)), change)
    distance, ratio, betas = measures_of_change(fit, other, change, center)
    covariance = other.random_covariance
    variances = [*covariance.diagonal(), *(covariance[a, b] for a, b in pairs)]
    return [distance, ratio, *variances, other.residual_variance, *betas]
