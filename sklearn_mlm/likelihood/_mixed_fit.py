"""`MixedEffectsFit`: the record of a fitted model with several random coefficients of one grouping factor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from .._typing import Floats
from ..moments._scatter import Scatter
from ._group_factors import GroupRows
from ._group_products import gradients_of, products_of
from ._linalg import share
from ._mixed_criterion import MixedCriterion
from ._mixed_limit import minimise_with_limit
from ._mixed_optimum import without_random_effects
from ._mixed_rows import GroupPredictor, GroupUncertainty
from ._mixed_variances import directions_without_variance
from ._options import MixedOptions
from ._random_effects_fit import RandomEffectsFit
from ._random_terms import INTERCEPT


@dataclass(frozen=True, eq=False)
class MixedEffectsFit(RandomEffectsFit):
    """Stores everything that a fit of a model with several random coefficients gives; the record does not change.

    Its attributes are those of `RandomEffectsFit`, with a `Scatter` whose groups are those of the factor, and with a
    `MixedCriterion`.
    """

    scatter: Scatter
    known: Scatter
    criterion: MixedCriterion

    @classmethod
    def of(cls, criterion: MixedCriterion, options: MixedOptions, *, grouped: bool = True) -> Self:
        """Return the fit record at the optimum of a criterion, or without random effects if the rows have no groups.

        If random and fixed effects determine y, the likelihood grows without bound as sigma2 goes to 0. The estimates are
        then those at a residual variance that is rounding, which are the limits.
        """
        if not grouped or criterion.exact_fit:
            optimum = without_random_effects(criterion)
        else:
            criterion, optimum = minimise_with_limit(criterion)
        return cls(options, criterion.scatter, criterion.scatter, criterion, optimum, grouped)

    @cached_property
    def boundary(self) -> dict[str, pd.DataFrame] | Literal["residual"] | None:
        """What has no variance: "residual"; or by factor, combinations of the random coefficients; or None."""
        if self.criterion.residual_variance is not None:
            return "residual"
        kept = [at for at in range(len(self.options.coefficients)) if at not in self.criterion.coordinates.dropped_random]
        found = directions_without_variance(self.optimum, self.turn_from_origin[kept])
        if not len(found):
            return None
        directions = np.zeros((len(found), len(self.options.coefficients)))
        directions[:, kept] = found
        index = pd.RangeIndex(1, len(directions) + 1)
        return {self.group_name: pd.DataFrame(directions, index=index, columns=list(self.options.coefficients))}

    @property
    def icc(self) -> float | None:
        """Intraclass correlation, if only the intercept varies; None with slopes."""
        if self.options.coefficients != (INTERCEPT,):
            return None
        tau2 = float(self.random_covariance[0, 0])
        return share(tau2, tau2 + self.residual_variance)

    @property
    def labels(self) -> pd.Index:
        """Labels of the groups with random effects; empty if the rows have no groups."""
        labels = self.known.moments.labels
        return labels if self.grouped else labels[:0]

    @property
    def group_name(self) -> str:
        """Name of the grouping factor."""
        return self.options.terms[0].factor

    @property
    def weights_of_groups(self) -> np.ndarray:
        """The total weight of the known rows of each group."""
        return np.asarray(self.known.moments.counts[: len(self.labels)])

    @cached_property
    def random_variances(self) -> tuple[float, float]:
        """The mean over the rows of z' Sigma z, within groups and between them, in units of y squared."""
        here, moments = self.criterion.coordinates, self.moments
        factor = np.sqrt(self._unit_variance) * self.optimum.factor
        weight = float(moments.counts.sum())
        spread = np.einsum("abj,bc->acj", here.rows.z, factor)
        means = here.means_of_random_columns(self.scatter) @ factor
        between = float(moments.counts @ (means * means).sum(axis=1)) / weight
        return max(float((spread * spread).sum()) / weight - between, 0.0), between

    @cached_property
    def _rows(self) -> GroupRows:
        """The groups of the known rows, in the coordinates."""
        here = self.criterion.coordinates
        return here.rows if self.known is self.scatter else here.rows_of(self.known)

    @cached_property
    def _effects(self) -> Floats:
        """Random effects in the coordinates, of shape (n_groups, q), in units of y."""
        factor, contrast = self.optimum.factor, np.append(-self._beta, 1.0)
        gradients = gradients_of(self._rows, factor, contrast)
        return np.asarray(self.criterion.coordinates.y_scale * (factor @ (factor.T @ gradients)).T)

    @cached_property
    def random_effects(self) -> np.ndarray:
        """Empirical-Bayes estimates of the random coefficients, of shape (n_groups, n_random)."""
        return np.asarray((self._effects @ self.turn_from_origin.T)[: len(self.labels)])

    @cached_property
    def conditional_covariances(self) -> Floats:
        """Covariance of the random coefficients of each group, given fixed effects and variances (lme4's condVar)."""
        roots = self.turn_from_origin @ self._conditional_roots[: len(self.labels)]
        return np.asarray(roots @ roots.transpose(0, 2, 1))

    @cached_property
    def _conditional_roots(self) -> Floats:
        """Roots of the conditional covariances in the coordinates, sigma2 F (I + F' R_j' R_j F)^-1 F'."""
        factor = self.optimum.factor[:, self.optimum.roots > 0]
        _, values, turn = np.linalg.svd(np.einsum("abj,bc->jac", self._rows.z, factor))
        shares = np.ones((len(turn), factor.shape[1]))
        shares[:, : values.shape[1]] += values**2
        return np.asarray((factor @ turn.transpose(0, 2, 1)) * np.sqrt(self._unit_variance / shares)[:, None])

    @cached_property
    def _predictor(self) -> GroupPredictor:
        """What the model says of rows; the codes -2 and -1 of unknown groups count from the end."""
        at_center, slopes = self.centred
        effects = self._effects[: len(self.labels)]
        return GroupPredictor(
            coordinates=self.criterion.coordinates,
            rest_at_center=self.rest_at_center,
            at_center=at_center,
            slopes=slopes,
            root=self._root,
            effects=np.concatenate([effects, np.zeros((2, effects.shape[1]))]),
            factor=self.optimum.factor,
            residual_variance=self._unit_variance,
            has_residual=self._has_residual,
            directions=self._tangents.directions,
            covariance_derivatives=self.covariance_derivatives[: len(self._tangents.directions)],
        )

    @cached_property
    def _uncertainty(self) -> GroupUncertainty:
        """How uncertain the random effects are; those of unknown groups are as uncertain as Sigma."""
        n_groups, k, factor = len(self.labels), self.rank, self.optimum.factor
        q = len(factor)
        cross, h = products_of(self._rows, factor)
        cross = np.tensordot(self.optimum.evaluation.root[0, :k, :k], cross[:, :k], axes=(1, 1)).transpose(2, 1, 0)
        unknown = np.sqrt(self._unit_variance) * factor[:, self.optimum.roots > 0]
        return GroupUncertainty(
            cross=np.concatenate([cross[:n_groups], np.zeros((2, q, k))]),
            h=np.concatenate([h.transpose(2, 0, 1)[:n_groups], np.zeros((2, q, q))]),
            roots=np.concatenate([self._conditional_roots[:n_groups], np.stack([unknown, unknown])]),
        )

    def predict(self, X: Any, codes: np.ndarray) -> np.ndarray:
        """Return predicted means of rows, as `RowPredictor.predict` does."""
        return self._predictor.predict(X, codes)

    def residuals(self, X: Any, codes: np.ndarray, y: np.ndarray, *, conditional: bool = True) -> np.ndarray:
        """Return y less its prediction, as `RowPredictor.residuals` does."""
        return self._predictor.residuals(X, codes if conditional else np.full(len(codes), -1), y)

    def random_variance(self, X: Any, n_rows: int) -> np.ndarray:
        """Return the variance z' Sigma z that the random coefficients give each row, in units of y squared."""
        return self._predictor.random_variance(X, n_rows)

    def prediction_variance(self, X: Any, codes: np.ndarray, *, gradient: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of predicted means of rows, and its derivatives, as `RowPredictor` does."""
        return self._predictor.prediction_variance(X, codes, self._uncertainty, gradient=gradient)

    def fixed_part_variance(self, X: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance x' V x of the fixed part of rows, and its derivatives."""
        return self._predictor.fixed_part_variance(X, n_rows)
