"""Moments of different rows to the moments of all of them, in one vectorised step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        With the same features. A group may have rows in several parts, and parts may have no rows.

    Returns
    -------
    moments : Moments

    Raises
    ------
    ValueError
        If there are no parts, their features differ, or some have groups and others none.
    """
    _check_same_features(parts)
    filled = [part for part in parts if part.n_groups] or list(parts[:1])
    if len({has_groups(part.labels) for part in filled}) > 1:
        raise ValueError(
            "Cannot merge moments of rows that were read with groups and without: how rows without groups are grouped "
            "is not known. Read all rows with groups, or all without."
        )
    if len(filled) == 1:
        return filled[0]
    rests = [part for part in filled if part.remainder is not None]
    if rests:
        return _merge_remainders(filled, max(rests, key=lambda part: float(part.counts.sum())).remainder)
    codes, labels = factorize(append_labels([part.labels for part in filled]))
    center = filled[0].center
    # Each group of a part enters as one row at its mean, weighted by its count: that gives the scatter between parts.
    means = np.concatenate([part.deviations + (part.center - center) for part in filled])
    counts = np.concatenate([part.counts for part in filled])
    merged = read_rows(GroupedRows(means[:, :-1], means[:, -1], codes, labels, counts))
    n_rows = np.concatenate([part.n_rows for part in filled])
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
        outcome_name=_agreed(part.outcome_name for part in filled),
    )


def _merge_remainders(parts: list[_Moments], first: Remainder | None) -> _Moments:
    """Return the moments of the rows of all parts together, with a remainder about the slopes of one of them."""
    assert first is not None
    whole = merge([replace(part, remainder=None) for part in parts])
    rest = merge([part.about_slopes(first.slopes)[0] for part in parts])
    rests = [part.remainder for part in parts]
    noise = sum(first.noise if one is None else one.noise for one in rests)
    lost = sum(SPACING * part.within[-1, -1] if one is None else one.lost for part, one in zip(parts, rests, strict=True))
    center, deviations = float(rest.center[-1]), rest.deviations[:, -1]
    return replace(whole, remainder=Remainder(first.slopes, center, deviations, rest.within[-1], noise, lost=float(lost)))


def _agreed(names: Iterable[str | None]) -> str | None:
    """Return the one name among names, if there is one."""
    found = {name for name in names if name is not None}
    return found.pop() if len(found) == 1 else None


def _check_same_features(parts: Sequence[Moments]) -> None:
    """Raise unless the parts could be of the same columns."""
    if not parts:
        raise ValueError("merge needs at least one GroupedMoments; found none.")
    first = next((part for part in parts if part.n_groups), parts[0])
    for part in parts:
        if part.n_features != first.n_features:
            raise ValueError(
                f"Cannot merge moments of {first.n_features} features with moments of {part.n_features}: "
                "read the same columns into every part."
            )
        if part.n_groups and part.shown_names != first.shown_names:
            raise ValueError(
                f"Cannot merge moments of features {first.feature_names!r} with moments of {part.feature_names!r}: "
                "read the same columns, in the same order, into every part."
            )
