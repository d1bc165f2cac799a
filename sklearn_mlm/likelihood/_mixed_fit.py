"""`MixedEffectsFit`: the record of a fitted model with several random coefficients of one grouping factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from .._typing import Floats, Method, WeightType
from ..moments._moments import Moments
from ..moments._scatter import Scatter
from ._fit import share
from ._mixed_coordinates import GroupRows, RandomDesign
from ._mixed_criterion import MixedCriterion, products_of
from ._mixed_optimum import MixedOptimum, minimise_mixed, tangents, without_random_effects
from ._random_terms import INTERCEPT, RandomTerm

# The most numbers in a block of rows for which predictions are computed.
_BLOCK_NUMBERS = 1 << 18
# Entries of a direction, relative to the largest, that are rounding.
_ROUNDING = 1e-12
# A residual variance, relative to the mean square of y, that is rounding.
_NO_RESIDUAL = 1e-18


@dataclass(frozen=True)
class MixedOptions:
    """Stores the parameters of a model on which its estimates depend, as they were in `fit`.

    Attributes
    ----------
    terms : tuple of RandomTerm
        Random terms of correlated coefficients, independent of each other.
    method : {"reml", "ml"}
        Restricted or full maximum likelihood.
    fit_intercept : bool
        Whether the model has a fixed intercept.
    weight_type : {"frequency", "precision"}
        Whether a weight counts copies of its row or divides its residual variance.
    n_random_only : int
        Number of last columns of x that have random coefficients, but no fixed effects.
    """

    terms: tuple[RandomTerm, ...]
    method: Method = "reml"
    fit_intercept: bool = True
    weight_type: WeightType = "frequency"
    n_random_only: int = 0

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the random coefficients."""
        return tuple(name for term in self.terms for name in term.coefficients)

    def design(self, names: Sequence[str]) -> RandomDesign:
        """Return which columns have random coefficients, by the names of all columns."""
        columns: list[int | None] = []
        blocks = []
        for term in self.terms:
            here = [None] * term.intercept + [list(names).index(name) for name in term.columns]
            blocks.append(tuple(range(len(columns), len(columns) + len(here))))
            columns += here
        return RandomDesign(tuple(columns), tuple(blocks))

    def criterion(self, scatter: Scatter, reml: bool | None = None) -> MixedCriterion:
        """Return the criterion of a record; `reml` takes precedence over `method`."""
        moments = scatter.moments
        return MixedCriterion(
            scatter,
            self.design(moments.shown_names),
            fit_intercept=self.fit_intercept,
            n_predictors=moments.n_features - self.n_random_only,
            reml=self.method == "reml" if reml is None else reml,
            precision_weights=self.weight_type == "precision",
        )


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
    """

    options: MixedOptions
    scatter: Scatter
    known: Scatter
    criterion: MixedCriterion
    optimum: MixedOptimum
    grouped: bool = True

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
        """Number of variances and covariances, sigma2 included, whether they are at a boundary or not."""
        n_free = sum(len(term.coefficients) * (len(term.coefficients) + 1) // 2 for term in self.options.terms)
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
        rows, columns, _ = tangents(self.criterion, self.optimum.basis, self.optimum.roots)
        entries = np.where(rows == columns, self.optimum.roots[columns], 0.0)
        return np.append(entries, np.log(self.residual_variance)) if self._has_residual else entries

    @property
    def _has_residual(self) -> bool:
        """Whether the residual variance is estimated, rather than 0."""
        return self.boundary != "residual"

    @cached_property
    def _tangents(self) -> Floats:
        """Derivatives of G by the entries of its factor, of shape (n_entries, q, q)."""
        return tangents(self.criterion, self.optimum.basis, self.optimum.roots)[2]

    @property
    def covariance_derivatives(self) -> np.ndarray:
        """Derivatives of the covariance with respect to the variance parameters, in the coordinates of `whiten`."""
        k = self.rank
        by_entry = np.einsum("pab,aibj->pij", self._tangents, self.optimum.evaluation.sums.k[0][:, :k, :, :k])
        return np.concatenate([by_entry, np.eye(k)[None]]) if self._has_residual else by_entry

    @cached_property
    def hessian(self) -> np.ndarray:
        """Hessian of the deviance in the variance parameters.

        The deviance is D log sigma2 + r2(G) / sigma2 + log dets. At sigma2 = r2 / D its second derivatives in G and
        log sigma2 are those of the criterion and D r2' r2' / r2^2, -D r2' / r2 (mixed), and D.
        """
        here, evaluation, free = self.optimum, self.optimum.evaluation, self.criterion.degrees_of_freedom
        rows, columns, directions = tangents(self.criterion, here.basis, here.roots)
        a, b = self.criterion.pairs
        at_pairs = directions[:, a, b]
        curve = at_pairs @ evaluation.hessian[0] @ at_pairs.T
        turned = here.basis.T @ evaluation.slope[0] @ here.basis
        curve += 2.0 * turned[np.ix_(rows, rows)] * (columns[:, None] == columns)
        if not self._has_residual:
            return np.asarray(curve)
        falls = np.einsum("pab,ab->p", directions, evaluation.sums.k[0][:, -1, :, -1])
        hessian = np.empty((len(rows) + 1,) * 2)
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
        criterion, evaluation, k = self.criterion, self.optimum.evaluation, self.rank
        entries = self._free_entries()
        basis = criterion.basis[entries]
        g = self._relative_covariance()[criterion.pairs][entries]
        by_entry = -np.einsum("pab,aibj->pij", basis, evaluation.sums.k[0][:, :k, :, :k])
        q_ee = criterion.triple_products(self.optimum.factor, evaluation.root, basis)
        p_sigma = -(np.eye(k) + np.tensordot(g, by_entry, 1))
        q_es = -by_entry - np.tensordot(q_ee, g, axes=(1, 0))
        q_se = -by_entry - np.tensordot(g, q_ee, 1)
        q_ss = -p_sigma - np.tensordot(g, q_es, 1)
        t_ee = criterion.traces_of_products(evaluation)[np.ix_(entries, entries)]
        h = np.einsum("pab,ab->p", basis, evaluation.sums.h[0])
        t_es = h - t_ee @ g
        t_ss = self.n_observations - g @ h - g @ t_es
        p = np.concatenate([by_entry, p_sigma[None]])
        q = np.concatenate([np.concatenate([q_ee, q_es[:, None]], axis=1), np.append(q_se, q_ss[None], axis=0)[None]])
        return p, q, np.block([[t_ee, t_es[:, None]], [t_es[None, :], np.array([[t_ss]])]])

    def _free_entries(self) -> np.ndarray:
        """Return the positions among the pairs of coordinates of the entries of G that are free."""
        free = np.zeros((self.criterion.n_random,) * 2, dtype=bool)
        for block in self.criterion.coordinates.blocks:
            free[np.ix_(block, block)] = True
        return np.flatnonzero(free[self.criterion.pairs])

    def _relative_covariance(self) -> Floats:
        """Return G in the coordinates."""
        factor = self.optimum.factor
        return np.asarray(factor @ factor.T)

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
    def _centred(self) -> tuple[float, np.ndarray]:
        """The intercept at the centre (0 without one), and the fixed effects of the predictors."""
        here, leading = self.criterion.coordinates, int(self.options.fit_intercept)
        full = here.y_scale * (here.map @ (self._beta + here.crude))
        slopes = here.known_slopes[: self._n_predictors] + full[leading:]
        if not leading:
            return 0.0, slopes
        return float(here.origin[-1] + full[0] + here.known_slopes @ here.z_origin), slopes

    @property
    def slopes(self) -> np.ndarray:
        """Fixed effects of the predictors."""
        return self._centred[1]

    @property
    def intercept(self) -> float:
        """Fixed intercept; 0 in a model without one."""
        at_center, slopes = self._centred
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
        if self.criterion.residual_variance is not None or (self.criterion.exact_fit and not self.criterion.coordinates.outcome_constant):
            return "residual"
        null = self.optimum.basis[:, self.optimum.roots == 0.0]
        if not null.size:
            return None
        # v'b has no variance for v with T' v = n, where b = T b' and n'b' has none.
        kept = [at for at in range(len(self.options.coefficients)) if at not in self.criterion.coordinates.dropped_random]
        directions = np.zeros((null.shape[1], len(self.options.coefficients)))
        turn = self.turn_from_origin[kept]
        directions[:, kept] = np.linalg.solve(turn.T, null).T
        length = np.linalg.norm(np.linalg.inv(turn), axis=0)
        weights = np.abs(directions[:, kept]) * (1.0 / np.where(length > 0, length, 1.0))
        largest = directions[np.arange(len(directions)), np.array(kept)[weights.argmax(axis=1)]]
        directions /= largest[:, None]
        directions[np.abs(directions) < _ROUNDING * np.abs(directions).max(axis=1, keepdims=True)] = 0.0
        index = pd.RangeIndex(1, len(directions) + 1)
        return {self.group_name: pd.DataFrame(directions, index=index, columns=list(self.options.coefficients))}

    @property
    def icc(self) -> float | None:
        """Intraclass correlation, if only the intercept varies; None with slopes."""
        if self.options.coefficients != (INTERCEPT,):
            return None
        tau2 = float(self.random_covariance[0, 0])
        return share(tau2, tau2 + self.residual_variance)

    @cached_property
    def turn_from_origin(self) -> Floats:
        """The matrix that takes effects in the coordinates to effects of the columns, with the intercept at 0."""
        here = self.criterion.coordinates
        shift = np.eye(len(here.design.columns))
        for block in here.design.blocks:
            intercepts = [at for at in block if here.design.columns[at] is None]
            for at in block if intercepts else ():
                column = here.design.columns[at]
                if column is not None:
                    shift[intercepts[0], at] = -here.z_origin[column]
        return np.asarray(shift @ here.turn)

    @cached_property
    def random_covariance(self) -> Floats:
        """Covariance Sigma of the random coefficients, in units of y squared."""
        factor = np.sqrt(self._unit_variance) * (self.turn_from_origin @ self.optimum.factor)
        return np.asarray(factor @ factor.T)

    @property
    def covariance_of_random_derivatives(self) -> Floats:
        """Derivatives of Sigma with respect to the variance parameters, of shape (n_parameters, n_random, n_random)."""
        by_entry = self._unit_variance * (self.turn_from_origin @ self._tangents @ self.turn_from_origin.T)
        return np.concatenate([by_entry, self.random_covariance[None]]) if self._has_residual else by_entry

    @property
    def value(self) -> float:
        """The criterion: -2 (restricted) log-likelihood with all constants, as in lme4; -inf if sigma2 is 0."""
        if not self._has_residual or self.criterion.exact_fit:
            return -np.inf
        return float(self.optimum.evaluation.value[0])

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
        moments = self.moments
        chosen = [*range(self._n_predictors), moments.n_features]
        names = moments.feature_names
        return replace(
            moments,
            center=moments.center[chosen],
            deviations=moments.deviations[:, chosen],
            within=moments.within[np.ix_(chosen, chosen)],
            feature_names=None if names is None else names[: self._n_predictors],
            remainder=None,
        )

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

    def value_without(self, term: int, name: str) -> float:
        """Return the least criterion of the model without one coefficient of a random term; least squares if none is left."""
        left = []
        for at, each in enumerate(self.options.terms):
            intercept = each.intercept and not (at == term and name == INTERCEPT)
            columns = tuple(column for column in each.columns if at != term or column != name)
            if intercept or columns:
                left.append(replace(each, intercept=intercept, columns=columns))
        if left:
            return fit_mixed(self.scatter, replace(self.options, terms=tuple(left))).value
        return float(self.criterion.at_zero.value[0])

    # ---- random effects

    @cached_property
    def _rows(self) -> GroupRows:
        """The groups of the known rows, in the coordinates."""
        here = self.criterion.coordinates
        return here.rows if self.known is self.scatter else here.rows_of(self.known)

    @cached_property
    def _effects(self) -> tuple[Floats, Floats, Floats]:
        """Random effects of the columns, counted from the origin of the coordinates, and what predictions need of each group.

        Returns
        -------
        effects : ndarray of shape (n_groups, q)
            Random effects in the coordinates, in units of y.
        cross : ndarray of shape (n_groups, q, k)
            K_j, in columns in which the fixed effects are uncorrelated.
        h : ndarray of shape (n_groups, q, q)
            H_j.
        """
        factor, here, k = self.optimum.factor, self.criterion.coordinates, self.rank
        cross, h = products_of(self._rows, factor)
        gradients = np.tensordot(cross, np.append(-self._beta, 1.0), axes=(1, 0))
        effects = here.y_scale * (factor @ (factor.T @ gradients)).T
        fixed = np.tensordot(self.optimum.evaluation.root[0, :k, :k], cross[:, :k], axes=(1, 1))
        return effects, np.ascontiguousarray(fixed.transpose(2, 1, 0)), np.ascontiguousarray(h.transpose(2, 0, 1))

    @cached_property
    def random_effects(self) -> np.ndarray:
        """Empirical-Bayes estimates of the random coefficients, of shape (n_groups, n_random)."""
        return np.asarray((self._effects[0] @ self.turn_from_origin.T)[: len(self.labels)])

    @cached_property
    def conditional_covariances(self) -> Floats:
        """Covariance of the random coefficients of each group, given fixed effects and variances (lme4's condVar)."""
        return np.asarray((self.turn_from_origin @ self._conditional @ self.turn_from_origin.T)[: len(self.labels)])

    @cached_property
    def _conditional(self) -> Floats:
        """Conditional covariances in the coordinates: sigma2 F (I + F' R_j' R_j F)^-1 F'."""
        factor = self.optimum.factor[:, self.optimum.roots > 0]
        spread = np.einsum("abj,bc->jac", self._rows.z, factor)
        inner = np.eye(factor.shape[1]) + spread.transpose(0, 2, 1) @ spread
        return np.asarray(self._unit_variance * (factor @ np.linalg.solve(inner, np.broadcast_to(factor.T, (len(inner), *factor.T.shape)))))

    # ---- rows

    def _blocks(self, X: Any, n_rows: int) -> Iterator[tuple[slice, Floats, Floats]]:
        """Yield blocks of rows: positions, predictors less the centre, and random columns in the coordinates."""
        here = self.criterion.coordinates
        n_features = self.scatter.n_features
        about = np.where(here.design.with_intercept(), [0.0 if at is None else here.z_origin[at] for at in here.design.columns], 0.0)
        step = max(1, _BLOCK_NUMBERS // (1 + n_features))
        for start in range(0, n_rows, step):
            at = slice(start, min(start + step, n_rows))
            rows = np.zeros((at.stop - start, 0))
            if X is not None:
                rows = X[at].toarray() if hasattr(X, "toarray") else np.asarray(X[at], dtype=np.float64)
            z = np.ones((len(rows), len(about)))
            for i, column in enumerate(here.design.columns):
                if column is not None:
                    z[:, i] = rows[:, column] - about[i]
            yield at, rows[:, : self._n_predictors] - self._center, z @ here.turn

    def predict(self, X: Any, codes: np.ndarray) -> np.ndarray:
        """Return predicted means of rows; the random effects of an unknown group are 0.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, n_features), or None
            Predictors, and last the columns with random coefficients only.
        codes : ndarray of shape (n_samples,)
            Positions in `labels`, negative for unknown groups.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            In units of y.
        """
        at_center, slopes = self._centred
        mean = np.full(len(codes), at_center)
        effects = np.vstack([self._effects[0][: len(self.labels)], np.zeros((2, self.criterion.n_random))])
        for at, fixed, z in self._blocks(X, len(codes)):
            # The codes -2 and -1 of unknown groups count from the end.
            mean[at] += fixed @ slopes + (z * effects[codes[at]]).sum(axis=1)
        return mean

    def residuals(self, X: Any, codes: np.ndarray, y: np.ndarray, *, conditional: bool = True) -> np.ndarray:
        """Return y less its prediction, which includes the random effects if `conditional` is True."""
        return np.asarray(y - self.predict(X, codes if conditional else np.full(len(codes), -1)))

    def random_variance(self, X: Any, n_rows: int) -> np.ndarray:
        """Return the variance z' Sigma z that the random coefficients give each row, in units of y squared."""
        variance = np.empty(n_rows)
        factor = np.sqrt(self._unit_variance) * self.optimum.factor
        for at, _, z in self._blocks(X, n_rows):
            variance[at] = ((z @ factor) ** 2).sum(axis=1)
        return variance

    def prediction_variance(self, X: Any, codes: np.ndarray, *, gradient: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of the predicted means of rows in their groups, and its derivatives.

        With d = x - K_j' G z and S_j = I - G H_j, the variance is d' V d + sigma2 z' S_j G z; in a new group K_j and H_j are
        0. With s = S_j' z, its derivative in a direction E of G is d' V_E d - 2 sigma2 d' B^-1 K_j' E s + sigma2 s' E s,
        where V_E is the derivative of V. Its derivative in log sigma2 is the variance.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, n_features), or None
            Predictors, and last the columns with random coefficients only.
        codes : ndarray of shape (n_samples,)
            Positions in `labels`; -1 or -2 for unknown groups.
        gradient : bool, default=False
            Whether to compute the derivatives.

        Returns
        -------
        variance : ndarray of shape (n_samples,)
            In units of y squared.
        gradient : ndarray of shape (n_samples, n_variance_parameters)
            The derivatives with respect to the variance parameters; of shape (n_samples, 0) without `gradient`.
        """
        n_groups, k, q = len(self.labels), self.rank, self.criterion.n_random
        g, sigma2 = self._relative_covariance(), self._unit_variance
        _, cross, h = self._effects
        # The codes -2 and -1 of unknown groups count from the end.
        cross = np.concatenate([cross[:n_groups], np.zeros((2, q, k))])
        h = np.concatenate([h[:n_groups], np.zeros((2, q, q))])
        conditional = np.concatenate([self._conditional[:n_groups], np.broadcast_to(sigma2 * g, (2, q, q))])
        directions, by_entry = self._tangents, self.covariance_derivatives[:-1]
        variance, derivatives = np.empty(len(codes)), np.zeros((len(codes), len(directions) if gradient else 0))
        for at, fixed, z in self._blocks(X, len(codes)):
            code = codes[at]
            own = cross[code] * np.sqrt(sigma2)
            d = self._whitened(fixed) - ((z @ g)[:, None, :] @ own)[:, 0]
            variance[at] = (d * d).sum(axis=1) + ((z[:, None, :] @ conditional[code])[:, 0] * z).sum(axis=1)
            if gradient:
                s = z - (h[code] @ (z @ g)[:, :, None])[:, :, 0]
                along = (own @ d[:, :, None])[:, :, 0]
                for i, direction in enumerate(directions):
                    derivatives[at, i] = ((d @ by_entry[i]) * d).sum(axis=1)
                    derivatives[at, i] += (((sigma2 * s - 2.0 * along) @ direction) * s).sum(axis=1)
        return variance, self._with_residual(derivatives, variance) if gradient else derivatives

    def fixed_part_variance(self, X: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance x' V x of the fixed part of rows, and its derivatives, as `prediction_variance` does."""
        by_entry = self.covariance_derivatives[:-1]
        variance, derivatives = np.empty(n_rows), np.zeros((n_rows, len(by_entry)))
        for at, fixed, _ in self._blocks(X, n_rows):
            d = self._whitened(fixed)
            variance[at] = (d * d).sum(axis=1)
            for i, of_entry in enumerate(by_entry):
                derivatives[at, i] = ((d @ of_entry) * d).sum(axis=1)
        return variance, self._with_residual(derivatives, variance)

    def _with_residual(self, derivatives: Floats, variance: Floats) -> Floats:
        """Return derivatives of variances with those by log sigma2, the variances themselves, if sigma2 is not 0."""
        return np.column_stack([derivatives, variance]) if self._has_residual else derivatives

    def _whitened(self, fixed: Floats) -> Floats:
        """Return the whitened contrasts (1, x) of rows of predictors less the centre."""
        leading = int(self.options.fit_intercept)
        white = fixed @ self._root[leading:]
        return np.asarray(white + self._root[0] if leading else white)

    def renamed(self, names: Sequence[str]) -> MixedEffectsFit:
        """Return the same fit with other names of the columns."""
        scatter = self.scatter.renamed(names)
        return replace(self, scatter=scatter, known=scatter if self.known is self.scatter else self.known.renamed(names))


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
        if criterion.unbounded:
            criterion = criterion.at_residual_variance(_NO_RESIDUAL)
        optimum = minimise_mixed(criterion)
    return MixedEffectsFit(options, criterion.scatter, criterion.scatter, criterion, optimum, grouped)


def fit_mixed(scatter: Scatter, options: MixedOptions) -> MixedEffectsFit:
    """Return the fit record of a model with random coefficients, without any check of the record."""
    return fit_of_mixed_criterion(options.criterion(scatter), options)
