"""MixedModel of pyreml."""

from __future__ import annotations

import numpy as np

from . import Fit, frame_of, names_of

NAME = "pyreml MixedModel"
REQUIRES = "pyreml"
CALL = '`MixedModel.from_dataframe(frame, response="y", fixed="x1 + ...", random=Random("g")).fit()`'
CALL_WITH_SLOPES = CALL.replace('Random("g")', 'Random("g", formula="1 + x1", left_hand="full")')


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit by REML, whatever `reml`: it has no ML for random effects."""
    from pyreml import MixedModel, Random

    formula = " + ".join(["1", *names_of(X)[:n_slopes]])
    random = Random("g", formula=formula, left_hand="full") if n_slopes else Random("g")
    model = MixedModel.from_dataframe(frame_of(X, y, groups), response="y", fixed=" + ".join(names_of(X)), random=random)
    model.fit(verbose=False)
    # What it calls sigma are variances, and covariances.
    covariance, residual = model.random[0].variance["sigma"], model.residual.variance["sigma"]
    coef = model.estimates["estimate"].to_numpy()[1:]
    return Fit("REML", covariance, float(residual), coef, -float(model.neg2loglik) / 2)
