"""`MixedEffectsFit`: the record of a fitted model with several random coefficients of one grouping factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from .._typing import FixedDesign, Floats
from ..moments._moments import Moments
from ..moments._scatter import Scatter
from ._group_factors import GroupRows
from ._group_products import gradients_of, products_of
from ._linalg import share
from ._mixed_criterion import MixedCriterion
from ._mixed_limit import minimise_with_limit
from ._mixed_optimum import MixedOptimum, Outcome, Tangents, curvature_along, tangents, without_random_effects
from ._mixed_rows import GroupUncertainty, RowPredictor
from ._mixed_variances import directions_without_variance, kenward_roger_terms
from ._options import MixedOptions
from ._random_terms import INTERCEPT, RandomTerm


@dataclass(frozen=True, eq=False)
class MixedEffectsFit:
    """Stores everything that a fit of a model with several random coefficients gives; the record does not change.

    It has the members of `MixedFit`, from which tables, contrasts and tests of fixed effects are made. Its variance
    parameters are the entries of a factor of G = Sigma / sigma2 of the rank of G, in the basis of its eigenvectors, and
    log sigma2. If G is singular, these are the parameters of the model with fewer random coefficients that the data choose.

    Attributes
    ----------
    options : MixedOptions
        The parameters of the model in `fit`.
    scatter : Scatter
        The record of the rows from which fixed effects and variances are estimated.
    known : Scatter
        The record of the rows from which the random effects are estimated: the same rows, and rows that
        `update_random_effects` has added.
    criterion : MixedCriterion
        The criterion of the record.
    optimum : MixedOptimum
        Its minimum.
    grouped : bool
        Whether the rows have groups; without groups the model is least squares.
    design : FixedDesign or None
        What a formula says of the columns; None if the model was fitted to columns without a formula.
    """

    options: MixedOptions
    scatter: Scatter
    known: Scatter
    criterion: MixedCriterion
    optimum: MixedOptimum
    grouped: bool = True
    design: FixedDesign | None = None

    # ---- the members of `MixedFit`

    @property
    def names(self) -> Sequence[str]:
        """Names of the fixed effects, the intercept first if the model has one."""
        names = list(self.scatter.moments.shown_names)[: self._n_predictors]
        return [INTERCEPT, *names] if self.options.fit_intercept else names

    @property
    def coefficients(self) -> np.ndarray:
        """Fixed effects, the intercept first if the model has one."""
        return np.append(self.intercept, self.slopes) if self.options.fit_intercept else self.slopes

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the fixed effects; 0 for dropped columns."""
        root = self.whiten(np.eye(len(self.coefficients)))
        return np.asarray(root @ root.T)

    @property
    def dropped(self) -> np.ndarray:
        """Positions of the coefficients of dropped columns."""
        return int(self.options.fit_intercept) + self.criterion.coordinates.dropped

    @property
    def n_observations(self) -> float:
        """Number N of rows, or their total weight if weights are frequencies."""
        return self.criterion.n_observations

    @property
    def rank(self) -> int:
        """Number k of independent fixed effects."""
        return self.criterion.rank

    @property
    def n_variance_parameters(self) -> int:
        """Number of variances and covariances, sigma2 included, at a boundary or not, without those that are left out."""
        n_free = sum(len(block) * (len(block) + 1) // 2 for block in self.criterion.coordinates.blocks)
        return 1 + n_free * self.grouped

    @property
    def n_parameters(self) -> int:
        """Number of fixed effects k, and of variances and covariances."""
        return self.rank + self.n_variance_parameters

    @property
    def reml(self) -> bool:
        """Whether the variances maximise the restricted likelihood."""
        return self.options.method == "reml"

    @property
    def variance_parameters(self) -> np.ndarray:
        """The entries of the factor of G that are free, and log sigma2."""
        rows, columns, _ = self._tangents
        entries = np.where(rows == columns, self.optimum.roots[columns], 0.0)
        return np.append(entries, np.log(self.residual_variance)) if self._has_residual else entries

    @property
    def _has_residual(self) -> bool:
        """Whether the residual variance is estimated, rather than 0."""
        return not isinstance(self.boundary, str)

    @cached_property
    def _tangents(self) -> Tangents:
        """The free entries of the factor of G, and the derivatives of G by them."""
        return tangents(self.criterion, self.optimum.basis, self.optimum.roots)

    @property
    def covariance_derivatives(self) -> np.ndarray:
        """Derivatives of the covariance with respect to the variance parameters, in the coordinates of `whiten`."""
        k = self.rank
        by_entry = np.einsum("pab,aibj->pij", self._tangents.directions, self.optimum.evaluation.sums.k[0][:, :k, :, :k])
        return np.concatenate([by_entry, np.eye(k)[None]]) if self._has_residual else by_entry

    @cached_property
    def hessian(self) -> np.ndarray:
        """Hessian of the deviance in the variance parameters.

        The deviance is D log sigma2 + r2(G) / sigma2 + log dets. At sigma2 = r2 / D its second derivatives in G and
        log sigma2 are those of the criterion and D r2' r2' / r2^2, -D r2' / r2 (mixed), and D.
        """
        here, evaluation, free = self.optimum, self.optimum.evaluation, self.criterion.degrees_of_freedom
        curve = curvature_along(self.criterion, here.basis, self._tangents, evaluation.slope[0], evaluation.hessian[0])
        if not self._has_residual:
            return curve
        falls = np.einsum("pab,ab->p", self._tangents.directions, evaluation.sums.k[0][:, -1, :, -1])
        hessian = np.empty((len(curve) + 1,) * 2)
        hessian[:-1, :-1] = curve + free * np.outer(falls, falls)
        hessian[-1, :-1] = hessian[:-1, -1] = free * falls
        hessian[-1, -1] = free
        return hessian

    def whiten(self, contrasts: np.ndarray) -> np.ndarray:
        """Return contrasts times the root of the covariance."""
        if self.options.fit_intercept:
            # The intercept is at the centre, so that a distant origin costs no digits.
            contrasts = contrasts.copy()
            contrasts[:, 1:] -= contrasts[:, :1] * self._center
        return np.asarray(contrasts @ self._root)

    def variance_terms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return P, Q and T of Kenward and Roger for the entries of Sigma and sigma2, in units of sigma2; None if it is 0.

        V_E = Z E Z' for the entry of Sigma that E stands for, and V_sigma = (V - Z Sigma Z') / sigma2.
        """
        if not self._has_residual:
            return None
        return kenward_roger_terms(self.criterion, self.optimum)

    # ---- the estimates

    @property
    def _n_predictors(self) -> int:
        """Number of columns of x that have fixed effects."""
        return self.scatter.n_features - self.options.n_random_only

    @property
    def _center(self) -> np.ndarray:
        """The point of the predictors at which the intercept of the coordinates is."""
        return np.asarray(self.criterion.coordinates.origin[: self._n_predictors])

    @cached_property
    def _root(self) -> Floats:
        """Root of the covariance of the fixed effects, with the intercept at the centre."""
        here, k = self.criterion.coordinates, self.rank
        inverse = self.optimum.evaluation.root[0, :k, :k].T
        return np.asarray(np.sqrt(self._unit_variance) * (here.map @ inverse))

    @cached_property
    def _beta(self) -> np.ndarray:
        """Fixed effects in the coordinates, of y less its crude fit."""
        return np.asarray(self.optimum.evaluation.coefficients()[0])

    @cached_property
    def centred(self) -> tuple[float, np.ndarray]:
        """The intercept at the centre (0 without one), and the fixed effects of the predictors."""
        here, leading = self.criterion.coordinates, int(self.options.fit_intercept)
        full = here.y_scale * (here.map @ (self._beta + here.crude))
        slopes = here.known_slopes[: self._n_predictors] + full[leading:]
        at_center = self.rest_at_center + here.known_slopes @ here.z_origin if leading else 0.0
        return float(at_center), slopes

    @property
    def rest_at_center(self) -> float:
        """The intercept at the centre of y less its known part; 0 without one."""
        here = self.criterion.coordinates
        if not self.options.fit_intercept:
            return 0.0
        return float(here.origin[-1] + here.y_scale * (here.map[0] @ (self._beta + here.crude)))

    @property
    def slopes(self) -> np.ndarray:
        """Fixed effects of the predictors."""
        return self.centred[1]

    @property
    def intercept(self) -> float:
        """Fixed intercept; 0 in a model without one."""
        at_center, slopes = self.centred
        return float(at_center - self._center @ slopes)

    @property
    def residual_variance(self) -> float:
        """Residual variance sigma2."""
        return self._unit_variance if self._has_residual else 0.0

    @cached_property
    def _unit_variance(self) -> float:
        """The residual variance that the other variances are relative to: sigma2, or rounding if that is 0."""
        if self.criterion.exact_fit:
            return 0.0
        variance = self.criterion.residual_variance
        if variance is None:
            variance = float(self.optimum.evaluation.r2[0]) / self.criterion.degrees_of_freedom
        return variance * self.criterion.coordinates.y_scale**2

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
    def turn_from_origin(self) -> Floats:
        """The matrix that takes effects in the coordinates to effects of the columns, with the intercept at 0."""
        return self.criterion.coordinates.turn_from_origin

    @cached_property
    def random_covariance(self) -> Floats:
        """Covariance Sigma of the random coefficients, in units of y squared."""
        factor = np.sqrt(self._unit_variance) * (self.turn_from_origin @ self.optimum.factor)
        return np.asarray(factor @ factor.T)

    @property
    def covariance_of_random_derivatives(self) -> Floats:
        """Derivatives of Sigma with respect to the variance parameters, of shape (n_parameters, n_random, n_random)."""
        by_entry = self._unit_variance * (self.turn_from_origin @ self._tangents.directions @ self.turn_from_origin.T)
        return np.concatenate([by_entry, self.random_covariance[None]]) if self._has_residual else by_entry

    @property
    def value(self) -> float:
        """The criterion: -2 (restricted) log-likelihood with all constants, as in lme4; -inf if it falls without bound."""
        if self.criterion.exact_fit or (not self._has_residual and self.criterion.unbounded) or self.has_no_maximum:
            return -np.inf
        return float(self.optimum.evaluation.value[0])

    @property
    def has_no_maximum(self) -> bool:
        """Whether the likelihood grows without bound as sigma2 goes to 0, so that there are no estimates."""
        return bool(self.optimum.trials) and self.optimum.best.outcome is Outcome.UNBOUNDED

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return self.value + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        """Bayes' information criterion."""
        return self.value + float(np.log(self.n_observations)) * self.n_parameters

    @property
    def labels(self) -> pd.Index:
        """Labels of the groups with random effects; empty if the rows have no groups."""
        labels = self.known.moments.labels
        return labels if self.grouped else labels[:0]

    @property
    def outcome_name(self) -> str:
        """Name of y."""
        return self.known.moments.outcome_name or "y"

    @property
    def group_name(self) -> str:
        """Name of the grouping factor."""
        return self.options.terms[0].factor

    @property
    def moments(self) -> Moments:
        """Moments of the rows of the fit."""
        return self.scatter.moments

    @cached_property
    def predictors(self) -> Moments:
        """Moments of the columns that have fixed effects, and of y."""
        return self.moments.of_columns(range(self._n_predictors))

    @property
    def fixed_parts(self) -> np.ndarray:
        """The fixed effect of the column of each random coefficient, 0 if there is none, of shape (n_random,)."""
        columns, slopes = self.criterion.design.columns, self.slopes
        fixed = [self.intercept if at is None else slopes[at] if at < len(slopes) else 0.0 for at in columns]
        return np.array(fixed)

    @property
    def random_terms(self) -> Sequence[RandomTerm]:
        """The random terms of correlated coefficients."""
        return self.options.terms

    def group_sizes(self, moments: Moments | None = None) -> np.ndarray:
        """Return the number of rows of each group, or the total weight if weights are frequencies; of `known` by default."""
        moments = self.known.moments if moments is None else moments
        return moments.n_rows.astype(np.float64) if self.options.weight_type == "precision" else moments.counts

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

    def deviance(self) -> float:
        """Return the least -2 log-likelihood, by maximum likelihood whatever the method of the model."""
        if self.options.method == "ml":
            return self.value
        return fit_mixed(self.scatter, replace(self.options, method="ml")).value

    @property
    def coefficients_left_out(self) -> list[tuple[int, str]]:
        """Terms and names of the random coefficients that depend on those before them, and have no variance."""
        names = [(at, name) for at, term in enumerate(self.options.terms) for name in term.coefficients]
        return [names[at] for at in self.criterion.coordinates.dropped_random]

    def value_without(self, term: int, name: str) -> float:
        """Return the least criterion without one coefficient of a random term; that of least squares if none is left."""
        options = self.options.without({*self.coefficients_left_out, (term, name)})
        return fit_mixed(self.scatter, options).value if options.terms else float(self.criterion.at_zero.value[0])

    # ---- random effects

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

    # ---- rows

    @cached_property
    def _predictor(self) -> RowPredictor:
        """What the model says of rows; the codes -2 and -1 of unknown groups count from the end."""
        at_center, slopes = self.centred
        effects = self._effects[: len(self.labels)]
        return RowPredictor(
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

    def renamed(self, names: Sequence[str]) -> MixedEffectsFit:
        """Return the same fit with other names of the columns."""
        scatter, of_old = self.scatter.renamed(names), dict(zip(self.moments.shown_names, names, strict=True))
        known = scatter if self.known is self.scatter else self.known.renamed(names)
        terms = [replace(term, columns=tuple(of_old[name] for name in term.columns)) for term in self.options.terms]
        return replace(self, scatter=scatter, known=known, options=replace(self.options, terms=tuple(terms)))


def fit_of_mixed_criterion(criterion: MixedCriterion, options: MixedOptions, *, grouped: bool = True) -> MixedEffectsFit:
    """Return the fit record at the optimum of a criterion, or without random effects if the rows have no groups.

    If random and fixed effects determine y, the likelihood grows without bound as sigma2 goes to 0. The estimates are then
    those at a residual variance that is rounding, which are the limits.

    Parameters
    ----------
    criterion : MixedCriterion
        The criterion of a record, as `options.criterion` returns it.
    options : MixedOptions
        The parameters of the model.
    grouped : bool, default=True
        Whether the rows have groups.

    Returns
    -------
    fit : MixedEffectsFit
        The fit record.
    """
    if not grouped or criterion.exact_fit:
        optimum = without_random_effects(criterion)
    else:
        criterion, optimum = minimise_with_limit(criterion)
    return MixedEffectsFit(options, criterion.scatter, criterion.scatter, criterion, optimum, grouped)


def fit_mixed(scatter: Scatter, options: MixedOptions) -> MixedEffectsFit:
    """Return the fit record of a model with random coefficients, without any check of the record."""
    return fit_of_mixed_criterion(options.criterion(scatter), options)
