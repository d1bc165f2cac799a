"""`RandomEffectsFit`: what the fit records of models with random coefficients of one or several factors share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from .._typing import FixedDesign, Floats
from ..moments._moments import Moments
from ._mixed_optimum import MixedOptimum, Outcome, Tangents, curvature_along, tangents
from ._mixed_variances import kenward_roger_terms
from ._options import MixedOptions
from ._random_terms import INTERCEPT, RandomTerm


@dataclass(frozen=True, eq=False)
class RandomEffectsFit:
    """Stores the estimates of fixed effects and of variances of a model with random coefficients.

    It has the members of `MixedFit`, from which tables, contrasts and tests of fixed effects are made. Its variance
    parameters are the entries of a factor of G = Sigma / sigma2 of the rank of G, in the basis of its eigenvectors, and
    log sigma2. If G is singular, these are the parameters of the model with fewer random coefficients that the data choose.

    A subclass has the random effects, and what the model says of rows.

    Attributes
    ----------
    options : MixedOptions
        The parameters of the model in `fit`.
    scatter : Scatter
        The record of the rows from which fixed effects and variances are estimated.
    known : Scatter
        The record of the rows from which the random effects are estimated: the same rows, and rows that
        `update_random_effects` has added.
    criterion : MixedCriterion or FactorCriterion
        The criterion of the record.
    optimum : MixedOptimum
        Its minimum.
    grouped : bool
        Whether the rows have groups; without groups the model is least squares.
    design : FixedDesign or None
        What a formula says of the columns; None if the model was fitted to columns without a formula.
    """

    options: MixedOptions
    scatter: Any
    known: Any
    criterion: Any
    optimum: MixedOptimum
    grouped: bool = True
    design: FixedDesign | None = None

    @classmethod
    def of(cls, criterion: Any, options: MixedOptions, *, grouped: bool = True) -> Self:
        """Return the fit record at the optimum of a criterion.

        Parameters
        ----------
        criterion : MixedCriterion or FactorCriterion
            The criterion of a record, as `options.criterion` returns it.
        options : MixedOptions
            The parameters of the model.
        grouped : bool, default=True
            Whether the rows have groups.

        Returns
        -------
        fit : RandomEffectsFit
            The fit record.
        """
        raise NotImplementedError

    @property
    def boundary(self) -> dict[str, pd.DataFrame] | Literal["residual"] | None:
        """What has no variance: "residual"; or by factor, combinations of the random coefficients; or None."""
        raise NotImplementedError

    @property
    def group_name(self) -> str:
        """Name of the grouping factor, or names of several."""
        raise NotImplementedError

    @property
    def labels(self) -> pd.Index:
        """Labels of the groups with random effects; the cells if there are several factors."""
        raise NotImplementedError

    def residuals(self, X: Any, codes: np.ndarray, y: np.ndarray, *, conditional: bool = True) -> np.ndarray:
        """Return y less its prediction, as `RowPredictor.residuals` does."""
        raise NotImplementedError

    def renamed(self, names: Sequence[str]) -> Self:
        """Return the same fit with other names of the columns."""
        scatter, of_old = self.scatter.renamed(names), dict(zip(self.moments.shown_names, names, strict=True))
        known = scatter if self.known is self.scatter else self.known.renamed(names)
        terms = [replace(term, columns=tuple(of_old[name] for name in term.columns)) for term in self.options.terms]
        return replace(self, scatter=scatter, known=known, options=replace(self.options, terms=tuple(terms)))

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
        return np.asarray(int(self.options.fit_intercept) + self.criterion.coordinates.dropped)

    @property
    def n_observations(self) -> float:
        """Number N of rows, or their total weight if weights are frequencies."""
        return float(self.criterion.n_observations)

    @property
    def rank(self) -> int:
        """Number k of independent fixed effects."""
        return int(self.criterion.rank)

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
    def _directions_at_pairs(self) -> Floats:
        """The same derivatives of G, at the pairs of random coefficients."""
        a, b = self.criterion.pairs
        return np.asarray(self._tangents.directions[:, a, b])

    @property
    def covariance_derivatives(self) -> np.ndarray:
        """Derivatives of the covariance with respect to the variance parameters, in the coordinates of `whiten`."""
        k = self.rank
        by_entry = np.tensordot(self._directions_at_pairs, self.optimum.evaluation.sums.along[0][:, :k, :k], axes=1)
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
        falls = self._directions_at_pairs @ evaluation.sums.along[0][:, -1, -1]
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
        return int(self.scatter.n_features) - self.options.n_random_only

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
        return float(variance * self.criterion.coordinates.y_scale**2)

    @property
    def turn_from_origin(self) -> Floats:
        """The matrix that takes effects in the coordinates to effects of the columns, with the intercept at 0."""
        return np.asarray(self.criterion.coordinates.turn_from_origin)

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
    def outcome_name(self) -> str:
        """Name of y."""
        return self.known.moments.outcome_name or "y"

    @property
    def moments(self) -> Moments:
        """Moments of the rows of the fit."""
        moments: Moments = self.scatter.moments
        return moments

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

    @property
    def coefficients_left_out(self) -> list[tuple[int, str]]:
        """Terms and names of the random coefficients that depend on those before them, and have no variance."""
        names = [(at, name) for at, term in enumerate(self.options.terms) for name in term.coefficients]
        return [names[at] for at in self.criterion.coordinates.dropped_random]

    def group_sizes(self, moments: Moments | None = None) -> np.ndarray:
        """Return the number of rows of each group, or the total weight if weights are frequencies; of `known` by default."""
        moments = self.known.moments if moments is None else moments
        return moments.n_rows.astype(np.float64) if self.options.weight_type == "precision" else moments.counts

    def deviance(self) -> float:
        """Return the least -2 log-likelihood, by maximum likelihood whatever the method of the model."""
        if self.options.method == "ml":
            return self.value
        return self._value_with(replace(self.options, method="ml"))

    def value_without(self, term: int, name: str) -> float:
        """Return the least criterion without one coefficient of a random term; that of least squares if none is left."""
        options = self.options.without({*self.coefficients_left_out, (term, name)})
        return self._value_with(options) if options.terms else float(self.criterion.at_zero.value[0])

    def _value_with(self, options: MixedOptions) -> float:
        """Return the least criterion with other parameters."""
        return type(self).of(options.criterion(self.scatter), options).value
