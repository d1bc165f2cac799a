"""MixedModel of pyreml."""

from __future__ import annotations

import numpy as np

from . import Fit, frame_of, names_of

NAME = "pyreml MixedModel"
REQUIRES = "pyreml"
CALL = '`MixedModel.from_dataframe(frame, response="y", fixed="x1 + ...", random=Random("g")).fit()`'


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool) -> Fit:
    """Fit by REML, whatever `reml`: it has no ML for random effects."""
    from pyreml import MixedModel, Random

    random = Random("g")
    model = MixedModel.from_dataframe(frame_of(X, y, groups), response="y", fixed=" + ".join(names_of(X)), random=random)
    model.fit(verbose=False)
    # What it calls sigma are variances.
    group, residual = model.random[0].variance["sigma"], model.residual.variance["sigma"]
    slopes = model.estimates["estimate"].to_numpy()[1:]
    return Fit("REML", float(group), float(residual), slopes, -float(model.neg2loglik) / 2)
