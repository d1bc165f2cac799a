"""Moments of parts of the rows to the moments of all rows, in one vectorised step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ._label_tables import append_labels
from ._labels import factorize, has_groups
from ._moments import Moments
from ._reading import read_rows
from ._remainder import SPACING, Remainder
from ._rows import GroupedRows

_Moments = TypeVar("_Moments", bound=Moments)


def merge(parts: Sequence[_Moments]) -> _Moments:
    """Return the moments of the rows of all parts, by the update of Chan, Golub and LeVeque (1983, equation 2.1).

    Parameters
    ----------
    parts : sequence of Moments
        Moments with the same features. A group may have rows in several parts, and a part may have no rows.

    Returns
    -------
    moments : Moments
        The merged moments, of the same class as the parts.

    Raises
    ------
    ValueError
        If there are no parts, if their features differ, or if only some of them were read with groups.
    """
    _check_same_features(parts)
    filled = [part for part in parts if part.n_groups] or list(parts[:1])
    if len({has_groups(part.labels) for part in filled}) > 1:
        raise ValueError(
            "Cannot merge moments of rows that were read with groups and moments of rows that were read without. Read all "
            "rows with groups, or all rows without."
        )
    if len(filled) == 1:
        return filled[0]
    remainders = [(float(part.counts.sum()), part.remainder) for part in filled if part.remainder is not None]
    if remainders:
        return _merge_remainders(filled, max(remainders, key=lambda pair: pair[0])[1])
    codes, labels = factorize(append_labels([part.labels for part in filled]))
    center = filled[0].center
    # Each group of a part enters as one row at its mean, weighted by its count: that gives the scatter between parts.
    means = np.concatenate([part.deviations + (part.center - center) for part in filled])
    counts = np.concatenate([part.counts for part in filled])
    merged = read_rows(GroupedRows(means[:, :-1], means[:, -1], codes, labels, counts))
    n_rows = np.concatenate([part.n_rows for part in filled])
    outcome_names = {part.outcome_name for part in filled if part.outcome_name is not None}
    return replace(
        filled[0],
        labels=labels,
        counts=merged.counts,
        n_rows=np.bincount(codes, n_rows, len(labels)).astype(n_rows.dtype),
        center=center,
        deviations=merged.deviations + merged.center,
        within=sum((part.within for part in filled), merged.within),
        sum_log_weight=sum(part.sum_log_weight for part in filled),
        feature_names=next((part.feature_names for part in filled if part.feature_names is not None), None),
        outcome_name=outcome_names.pop() if len(outcome_names) == 1 else None,
    )


def _merge_remainders(parts: list[_Moments], main: Remainder) -> _Moments:
    """Return the moments of the rows of all parts, with a remainder about the slopes of one part's remainder."""
    whole = merge([replace(part, remainder=None) for part in parts])
    rest = merge([part.about_slopes(main.slopes)[0] for part in parts])
    noise = lost = 0.0
    for part in parts:
        noise += (part.remainder or main).noise
        lost += part.remainder.lost if part.remainder else SPACING * float(part.within[-1, -1])
    center, deviations = float(rest.center[-1]), rest.deviations[:, -1]
    return replace(whole, remainder=Remainder(main.slopes, center, deviations, rest.within[-1], noise, lost))


def _check_same_features(parts: Sequence[Moments]) -> None:
    """Raise an error if there are no parts, or if their features differ."""
    if not parts:
        raise ValueError("merge needs at least one GroupedMoments; found none.")
    first = next((part for part in parts if part.n_groups), parts[0])
    for part in parts:
        if part.n_features != first.n_features:
            raise ValueError(
                f"Cannot merge moments of {first.n_features} features with moments of {part.n_features}. Read the same "
                "columns into every part."
            )
        if part.n_groups and part.shown_names != first.shown_names:
            raise ValueError(
                f"Cannot merge moments of features {first.feature_names!r} with moments of {part.feature_names!r}. Read "
                "the same columns, in the same order, into every part."
            )
