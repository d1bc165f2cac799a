"""Scatters of parts of the rows to the scatter of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd

from .._typing import Floats
from ._label_tables import append_labels
from ._labels import factorize
from ._merging import merge
from ._rows import block_rows, rows_by_group
from ._scatter import ROUNDING_LENGTH, Scatter, project_out, runs_of_groups
from ._sums import add_by_group

_Scatter = TypeVar("_Scatter", bound=Scatter)


def merge_scatters(parts: Sequence[_Scatter]) -> _Scatter:
    """Return the scatter of the rows of all parts.

    Parameters
    ----------
    parts : sequence of Scatter
        Records with the same features and slopes. A group may have rows in several parts, and a part may have no rows.

    Returns
    -------
    scatter : Scatter
        The merged record, of the same class as the parts.

    Raises
    ------
    ValueError
        If there are no parts, or if their features or slopes differ.
    """
    moments = merge([part.moments for part in parts])
    slopes = {part.slopes for part in parts}
    if len(slopes) > 1:
        raise ValueError(f"Cannot merge records with the slopes {' and '.join(map(str, slopes))}. Read the same slopes.")
    filled = [part for part in parts if part.n_groups] or list(parts[:1])
    if len(filled) == 1:
        return filled[0]
    if moments.remainder is not None:
        known = moments.remainder.slopes
        return replace(merge_scatters([part.about_slopes(known)[0] for part in filled]), moments=moments)
    codes, levels = factorize(append_labels([part.moments.labels for part in filled]))
    center = moments.center
    deviations = [part.moments.deviations + (part.moments.center - center) for part in filled]
    of_parts = replace(
        filled[0].moments,
        labels=levels.take(codes),
        counts=np.concatenate([part.moments.counts for part in filled]),
        n_rows=np.concatenate([part.moments.n_rows for part in filled]),
        center=center,
        deviations=np.concatenate(deviations),
    )
    whole = replace(
        filled[0],
        moments=of_parts,
        factors=np.concatenate([part.factors for part in filled]),
        rest=sum((part.rest for part in filled), np.zeros_like(filled[0].rest)),
    )
    merged = merged_groups(whole, codes, levels)
    return replace(merged, moments=replace(moments, within=merged.moments.within))


def merged_groups(scatter: _Scatter, codes: np.ndarray, levels: pd.Index) -> _Scatter:
    """Return the record in which the groups of equal code are one group.

    The rows of the parts of a group are as good as the factors of the parts and a row for the mean of each, less the mean of
    all: the orthogonalisation of these rows gives the factor of the group. What it leaves belongs to the rest.

    Parameters
    ----------
    scatter : Scatter
        A record of parts of groups.
    codes : ndarray of shape (n_parts,)
        The group of each part.
    levels : pandas.Index of shape (n_groups,)
        Labels of the groups.

    Returns
    -------
    scatter : Scatter
        The record of the groups.
    """
    moments, n_groups, width = scatter.moments, len(levels), len(scatter.rest)
    order, first = rows_by_group(codes, n_groups)
    counts: Floats = np.bincount(codes, moments.counts, n_groups).astype(np.float64)
    deviations = np.empty((n_groups, width))
    factors, rest = np.empty((n_groups, len(scatter.slopes), width)), scatter.rest.copy()
    for groups in runs_of_groups(first, block_rows(width)):
        deviations[groups], factors[groups], left = _merged_block(scatter, order, first, counts, groups)
        rest += left
    within = rest + np.einsum("jra,jrb->ab", factors, factors, optimize=True)
    merged = replace(
        moments,
        labels=levels,
        counts=counts,
        n_rows=np.bincount(codes, moments.n_rows, n_groups).astype(moments.n_rows.dtype),
        deviations=deviations,
        within=(within + within.T) / 2,
    )
    return replace(scatter, moments=merged, factors=factors, rest=(rest + rest.T) / 2)


def _merged_block(
    scatter: Scatter, order: np.ndarray, first: np.ndarray, counts: Floats, groups: slice
) -> tuple[Floats, Floats, Floats]:
    """Return the means of some groups less the centre, their factors, and the scatter that is left, from their parts."""
    starts, moments, at = first[groups.start : groups.stop + 1], scatter.moments, list(scatter.slopes)
    parts, total = order[starts[0] : starts[-1]], counts[groups]
    n_groups = len(total)
    codes, weights = np.repeat(np.arange(n_groups), np.diff(starts)), moments.counts[parts]
    # About the mean of one part first, so that parts with the same mean differ by exactly 0.
    deviations = moments.deviations[parts[starts[:-1] - starts[0]]]
    means = moments.deviations[parts] - deviations.take(codes, axis=0)
    shifts = np.zeros_like(deviations)
    add_by_group(means, codes, weights, np.arange(len(parts) + 1), shifts)
    shifts /= total[:, None]
    means -= shifts.take(codes, axis=0)
    means *= np.sqrt(weights)[:, None]
    deviations += shifts
    rows = np.concatenate([means[:, None], scatter.factors[parts]], axis=1).reshape(-1, means.shape[1])
    # The parts' means have been rounded once more than their values: about the common centre.
    size = np.abs(deviations + moments.center)[:, at] + np.abs(moments.center[at])
    rounding = ROUNDING_LENGTH * np.sqrt(total)[:, None] * size
    factors = project_out(rows, np.repeat(codes, len(at) + 1), n_groups, scatter.slopes, rounding)
    return deviations, factors, rows.T @ rows
