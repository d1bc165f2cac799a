"""Adapters of peers, a module each, all with the same signature, so that all fit the same data and are asked the same.

An adapter has a `NAME`; a `CALL`, how the peer is called: as its documentation does for a random intercept; a
`CALL_WITH_SLOPES`, how it is called for random slopes too, None if it has none; `REQUIRES`, the distribution to install, None
if there is none; and ``fit(X, y, groups, reml, n_slopes) -> Fit``, which imports the peer, turns the arrays into what it takes,
and fits a random intercept and random slopes of the first `n_slopes` columns, with a full covariance matrix. What it takes to
turn them is part of the fit, since users with arrays pay it too. Marks, which fit another model or none, return no `Fit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

# The order of the list of calls; tables are sorted by time.
ADAPTERS = (
    "ours",
    "statsmodels_mixedlm",
    "gpboost_gpmodel",
    "mixedlm_lmer",
    "mixedlm_rs_mixedlm",
    "lme_python_lmer",
    "interlace_fit",
    "kamino_lmer",
    "pyreml_mixedmodel",
    "linearmodels_random_effects",
    "lme4_lmer",
    "mark_ols",
    "mark_floor",
)


@dataclass(frozen=True, eq=False)
class Fit:
    """What a peer reached.

    Attributes
    ----------
    method : str
        "REML" or "ML", which it maximised; or what else it did.
    covariance : array-like of shape (1 + n_slopes, 1 + n_slopes), or float
        Of a group's random effects, the intercept first, in units of y squared; a random intercept's variance may be a number.
    residual_variance : float
        In units of y squared.
    coef : ndarray of shape (n_columns,)
        Fixed effects but the intercept.
    log_likelihood : float or None, default=None
        As the peer reports it, with all constants, as lme4 does; None if it reports none, or of another convention.
    seconds, peak_bytes : float or None, default=None
        Measured by the adapter itself, where the peer runs in a process of its own.
    version : str or None, default=None
        Of a peer that is no Python distribution.
    restriction : str or None, default=None
        What the peer's model leaves out of the one that was asked for.
    """

    method: str
    covariance: ArrayLike
    residual_variance: float
    coef: np.ndarray
    log_likelihood: float | None = None
    seconds: float | None = None
    peak_bytes: float | None = None
    version: str | None = None
    restriction: str | None = None


def names_of(X: np.ndarray) -> list[str]:
    """Return names of the columns: x1, x2, ..."""
    return [f"x{i}" for i in range(1, X.shape[1] + 1)]


def formula_of(X: np.ndarray) -> str:
    """Return the formula of the fixed effects: y ~ x1 + x2 + ..."""
    return "y ~ " + " + ".join(names_of(X))


def random_term(n_slopes: int, first: int = 1) -> str:
    """Return the random term of a formula, (1 | g) or (1 + x1 + ... | g); columns are counted from `first`."""
    return f"({' + '.join(['1', *(f'x{first + i}' for i in range(n_slopes))])} | g)"


def frame_of(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """Return the data as a frame with the columns x1, x2, ..., y and g."""
    return pd.DataFrame(X, columns=names_of(X)).assign(y=y, g=groups)


def with_constant(X: np.ndarray) -> np.ndarray:
    """Return X with a column of ones before it."""
    return np.column_stack([np.ones(len(X)), X])
