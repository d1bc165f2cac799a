"""RandomEffects of linearmodels."""

from __future__ import annotations

import numpy as np

from . import Fit, frame_of, names_of

NAME = "linearmodels RandomEffects"
REQUIRES = "linearmodels"
CALL = '`RandomEffects(frame["y"], frame[["const", "x1", ...]]).fit()`, the frame indexed by group and row in the group'
CALL_WITH_SLOPES = None


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit a random intercept by the moments of Swamy and Arora, whatever `reml`: it has neither likelihood nor slopes."""
    from linearmodels import RandomEffects

    frame = frame_of(X, y, groups).assign(const=1.0)
    frame["row"] = frame.groupby("g").cumcount()
    frame = frame.set_index(["g", "row"])
    result = RandomEffects(frame["y"], frame[["const", *names_of(X)]]).fit()
    group, residual = result.variance_decomposition[["Effects", "Residual"]]
    # Its log-likelihood is that of least squares on quasi-demeaned data, which no constant turns into that of the model.
    return Fit("Swamy-Arora", group, residual, result.params.to_numpy()[1:])
