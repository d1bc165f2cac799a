"""`Moments`: the record of group means and within-group scatter from which everything else is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from ._remainder import KnownPart, Remainder, rests

# Scatter per row that rounding of the values could leave, relative to their squares: two units in the last place.
_ROUNDING = (2 * np.finfo(np.float64).eps) ** 2
ARRAYS = ("counts", "n_rows", "center", "deviations", "within")


@dataclass(frozen=True, eq=False)
class Moments:
    """Within- and between-group moments of rows (x, y), with the attributes that `GroupedMoments` describes."""

    labels: pd.Index
    counts: np.ndarray
    n_rows: np.ndarray
    center: np.ndarray
    deviations: np.ndarray
    within: np.ndarray
    sum_log_weight: float = 0.0
    feature_names: tuple[str, ...] | None = None
    outcome_name: str | None = None
    remainder: Remainder | None = None

    @property
    def means(self) -> np.ndarray:
        """Weighted mean of (x, y) in each group, of shape (n_groups, n_features + 1)."""
        return np.asarray(self.center + self.deviations)

    def __post_init__(self) -> None:
        # A model keeps its moments, which must not change after the fit.
        for name in ARRAYS:
            view = np.asarray(getattr(self, name)).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.labels)

    @property
    def n_features(self) -> int:
        """Number of columns of x."""
        return len(self.center) - 1

    @property
    def shown_names(self) -> tuple[str, ...]:
        """Names of the columns of x, or x0, x1, ... if they have none."""
        return self.feature_names or tuple(f"x{i}" for i in range(self.n_features))

    @property
    def grand_mean(self) -> np.ndarray:
        """Mean of (x, y) over all rows, of shape (n_features + 1,); the center if there are none."""
        mean: np.ndarray = self.center + self.counts @ self.deviations / (self.counts.sum() or 1.0)
        return mean

    @property
    def total_scatter(self) -> tuple[np.ndarray, np.ndarray]:
        """The grand mean of (x, y) and the scatter of each column about the mean, each of shape (n_features + 1,)."""
        mean = self.counts @ self.deviations / (self.counts.sum() or 1.0)
        return self.center + mean, self.within.diagonal() + self.counts @ (self.deviations - mean) ** 2

    def of_columns(self, columns: Sequence[int]) -> Self:
        """Return the moments of some columns of x, and y, without a remainder.

        Parameters
        ----------
        columns : sequence of int
            Positions of the columns of x.

        Returns
        -------
        moments : Moments
            The moments.
        """
        chosen, names = [*columns, self.n_features], self.feature_names
        return replace(
            self,
            center=self.center[chosen],
            deviations=self.deviations[:, chosen],
            within=self.within[np.ix_(chosen, chosen)],
            feature_names=None if names is None or not len(columns) else tuple(names[at] for at in columns),
            remainder=None,
        )

    def named(self, groups_name: Any, outcome_name: str | None) -> Self:
        """Return the same moments with these names of the groups and of y.

        Parameters
        ----------
        groups_name : hashable or None
            Name of the group labels.
        outcome_name : str or None
            Name of y.

        Returns
        -------
        moments : Moments
            The moments.
        """
        return replace(self, labels=self.labels.rename(groups_name), outcome_name=outcome_name)

    def about_slopes(self, slopes: np.ndarray | None = None) -> tuple[Self, np.ndarray]:
        """Return the moments of (x, y - x'b), and b.

        Parameters
        ----------
        slopes : ndarray of shape (n_features,) or None, default=None
            The slopes b, in units of y per unit of x. None takes the slopes of the remainder, or 0 if there is none.

        Returns
        -------
        moments : GroupedMoments
            The moments of (x, y - x'b), without a remainder.
        slopes : ndarray of shape (n_features,)
            The slopes b.
        """
        moments, known, rest = self, np.zeros(self.n_features), self.remainder
        if rest is not None:
            known, within = rest.slopes, self.within.copy()
            within[-1] = within[:, -1] = rest.within
            moments = replace(
                self,
                center=np.append(self.center[:-1], rest.center),
                deviations=np.column_stack([self.deviations[:, :-1], rest.deviations]),
                within=within,
                remainder=None,
            )
        change = np.zeros(self.n_features) if slopes is None else slopes - known
        if not change.any():
            return moments, known
        to_rest = np.eye(self.n_features + 1)
        to_rest[:-1, -1] = -change
        center, deviations = moments.center @ to_rest, moments.deviations @ to_rest
        # The deviations take up the rounding error of a distant centre.
        deviations[:, -1] += rests(moments.center[None, :-1], moments.center[-1:], KnownPart(change, float(center[-1])))
        within = to_rest.T @ moments.within @ to_rest
        return replace(moments, center=center, deviations=deviations, within=within), known + change

    def known_part(self, slopes: np.ndarray) -> KnownPart:
        """Return the linear function of x that has these slopes and passes through the grand mean.

        Parameters
        ----------
        slopes : ndarray of shape (n_features,)
            The slopes, in units of y per unit of x.

        Returns
        -------
        known : KnownPart
            The slopes, and the intercept for which the mean of the rest is 0 up to rounding of its terms.
        """
        mean = self.grand_mean
        return KnownPart(slopes, float(mean[-1] - mean[:-1] @ slopes))


def rounding_scatter(total_weight: float, mean: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """Return the scatter that rounding of the values could leave in columns with this mean and scatter."""
    return np.asarray(_ROUNDING * (total_weight * mean**2 + scatter))


def varies_within(moments: Moments) -> np.ndarray:
    """Return whether each column of (x, y) varies within groups by more than the rounding that merging may leave."""
    return moments.within.diagonal() > rounding_scatter(moments.counts.sum(), *moments.total_scatter)
