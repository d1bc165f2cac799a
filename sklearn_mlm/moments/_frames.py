"""Moments as a table of groups, and back."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ._labels import factorize
from ._moments import Moments
from ._storage import checked_moments, whole_numbers
from ._sums import central_value


def frame_of_moments(moments: Moments) -> pd.DataFrame:
    """Return the table of groups that `GroupedMoments.to_frame` describes."""
    columns = [f"mean({name})" for name in (*moments.shown_names, moments.outcome_name or "y")]
    table = pd.DataFrame(moments.means, index=moments.labels, columns=columns)
    table.insert(0, "n_rows", moments.n_rows)
    table.insert(1, "weight", moments.counts)
    table.attrs.update(
        named=moments.feature_names is not None, outcome_name=moments.outcome_name, sum_log_weight=moments.sum_log_weight
    )
    return table


def moments_of_frame(frame: pd.DataFrame, within: ArrayLike, sum_log_weight: float | None) -> Moments:
    """Return the moments that a table of groups and a within-group scatter hold; raises as `GroupedMoments.from_frame`."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a pandas DataFrame, as to_frame returns; found {type(frame).__name__}.")
    columns = [str(name) for name in frame.columns]
    are_means = all(name.startswith("mean(") and name.endswith(")") for name in columns[2:])
    if columns[:2] != ["n_rows", "weight"] or len(columns) < 3 or not are_means:
        raise ValueError(
            'frame must have the columns "n_rows", "weight", a "mean(...)" for each feature and one for the outcome, in '
            f"that order, as to_frame returns them; found {columns!r}."
        )
    names = tuple(name[5:-1] for name in columns[2:-1])
    outcome_name = frame.attrs.get("outcome_name", None if columns[-1] == "mean(y)" else columns[-1][5:-1])
    means = frame.iloc[:, 2:].to_numpy(dtype=np.float64)
    center = central_value(means) if len(means) else np.zeros(means.shape[1])
    codes, labels = factorize(frame.index)
    if len(labels) < len(codes):
        raise ValueError(f"frame must have one row per group; found {len(codes)} rows for {len(labels)} labels.")
    order = np.argsort(codes)
    return checked_moments(
        Moments(
            labels=labels.rename(frame.index.name),
            counts=frame["weight"].to_numpy(dtype=np.float64)[order],
            n_rows=whole_numbers(frame["n_rows"].to_numpy())[order],
            center=center,
            deviations=means[order] - center,
            within=np.array(within, dtype=np.float64),
            sum_log_weight=float(frame.attrs.get("sum_log_weight", 0.0) if sum_log_weight is None else sum_log_weight),
            feature_names=names if frame.attrs.get("named", True) else None,
            outcome_name=outcome_name,
        )
    )
