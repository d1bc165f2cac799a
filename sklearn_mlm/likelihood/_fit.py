"""`Fit`: the record of a fitted random intercept model, from which inference, tables and displays are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .._typing import Boundary, FixedDesign, Floats
from ..moments._grouped_moments import GroupedMoments
from ..moments._remainder import KnownPart, rests
from ._criterion import Criterion
from ._linalg import share
from ._optimum import Optimum, minimise
from ._options import Options
from ._random_terms import INTERCEPT, RandomTerm
from ._solution import Solution, predicted_means, reliabilities_of

# The most numbers in a block of rows for which variances of predictions are computed.
_BLOCK_NUMBERS = 1 << 20


@dataclass(frozen=True, eq=False)
class Fit:
    """Stores everything that a fit of the random intercept model gives; the record does not change.

    It has the members of `MixedFit`, from which tables, contrasts and tests of fixed effects are made, and others that only
    a model with one random intercept has. Its variance parameters are gamma = tau2 / sigma2 and log sigma2; at tau2 = 0 only
    log sigma2, and at sigma2 = 0 only log tau2.

    Attributes
    ----------
    options : Options
        The parameters of the model in `fit`.
    moments : GroupedMoments
        Moments of the rows from which the fixed effects and the variances are estimated.
    known : GroupedMoments
        Moments of the rows from which the random effects are estimated: the same rows, and rows that
        `update_random_effects` has added.
    solution : Solution
        The model at the optimum.
    boundary : {"group", "residual"} or None
        The variance component that is exactly 0, if any.
    identified : bool
        False if the criterion is the same at every variance ratio.
    grouped : bool
        Whether the rows have groups; without groups the model is least squares.
    n_observations : float
        Number N of rows, or their total weight if weights are frequencies.
    degrees_of_freedom : float
        D: N - k for REML, N for maximum likelihood.
    between_degrees_of_freedom : int
        J less the number of fixed effects that vary only between groups.
    rank : int
        Number k of independent fixed effects.
    dropped_features : ndarray of int
        Positions of features that depend on the columns before them.
    design : FixedDesign or None
        What a formula says of the columns; None if the model was fitted to columns without a formula.
    """

    options: Options
    moments: GroupedMoments
    known: GroupedMoments
    solution: Solution
    boundary: Boundary
    identified: bool
    grouped: bool
    n_observations: float
    degrees_of_freedom: float
    between_degrees_of_freedom: int
    rank: int
    dropped_features: np.ndarray
    design: FixedDesign | None = None

    # ---- the members of `MixedFit`

    @property
    def names(self) -> Sequence[str]:
        """Names of the fixed effects, the intercept first if the model has one."""
        names = list(self.moments.shown_names)
        return [INTERCEPT, *names] if self.options.fit_intercept else names

    @property
    def coefficients(self) -> np.ndarray:
        """Fixed effects, the intercept first if the model has one."""
        return np.append(self.intercept, self.slopes) if self.options.fit_intercept else self.slopes

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the fixed effects; 0 for dropped columns."""
        return self.solution.covariance

    @property
    def dropped(self) -> np.ndarray:
        """Positions of the coefficients of dropped columns."""
        return int(self.options.fit_intercept) + self.dropped_features

    @property
    def n_parameters(self) -> int:
        """Number of fixed effects k and of variances."""
        return self.rank + (2 if self.grouped else 1)

    @property
    def reml(self) -> bool:
        """Whether the variances maximise the restricted likelihood."""
        return self.options.method == "reml"

    @property
    def variance_parameters(self) -> np.ndarray:
        """Variance parameters that are not at a boundary."""
        tau2, sigma2 = self.solution.group_variance, self.solution.residual_variance
        with np.errstate(divide="ignore"):
            if self.boundary is None:
                return np.array([self.solution.ratio, np.log(sigma2)])
            return np.log([sigma2 if self.boundary == "group" else tau2])

    @property
    def covariance_derivatives(self) -> np.ndarray:
        """Derivatives of the covariance with respect to the variance parameters, in the coordinates of `whiten`."""
        eye, sums = np.eye(self.rank), self.solution.sums
        return eye[None] if self.boundary is not None or sums is None else np.stack([sums.second[:-1, :-1], eye])

    @property
    def hessian(self) -> np.ndarray:
        """Hessian of the deviance in the variance parameters; at sigma2 = 0, of the deviance of the group means.

        The deviance is D log sigma2 + r2(gamma) / sigma2 + log dets. At sigma2 = r2 / D its second derivatives in gamma and
        log sigma2 are r2'' D / r2 + (log dets)'', -r2' D / r2 (mixed), and D.
        """
        free, sums = self.degrees_of_freedom, self.solution.sums
        if self.boundary is not None or sums is None:
            return np.full((1, 1), free if self.boundary == "group" else float(self.between_degrees_of_freedom))
        second, third = sums.second, sums.third
        curve = 2.0 * free * (third[-1, -1] - second[-1, :-1] @ second[-1, :-1]) - sums.h_squared
        if self.reml:
            curve += 2.0 * np.trace(third[:-1, :-1]) - (second[:-1, :-1] ** 2).sum()
        return np.array([[curve, free * second[-1, -1]], [free * second[-1, -1], free]])

    def whiten(self, contrasts: np.ndarray) -> np.ndarray:
        """Return contrasts times the root of the covariance."""
        if self.options.fit_intercept:
            # The intercept is at the centre, so that a distant origin costs no digits.
            contrasts = contrasts.copy()
            contrasts[:, 1:] -= contrasts[:, :1] * self.solution.center
        return np.asarray(contrasts @ self.solution.root)

    def variance_terms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return P, Q and T of Kenward and Roger for (tau2, sigma2), in units of sigma2; None if sigma2 is 0.

        With h_j = n_j / (1 + gamma n_j), V_tau = 11' in each group and V = tau2 V_tau + sigma2 V_sigma, these are sums over
        groups of powers of h_j.
        """
        sums, gamma = self.solution.sums, self.solution.ratio
        if sums is None or self.solution.residual_variance == 0:
            return None
        p_tau, q_tt = -sums.second[:-1, :-1], sums.third[:-1, :-1]
        p_sigma = -(np.eye(self.rank) + gamma * p_tau)
        q_ts = -p_tau - gamma * q_tt
        q_ss = -p_sigma - gamma * q_ts
        t_tt, t_ts = sums.h_squared, sums.h_sum - gamma * sums.h_squared
        t_ss = self.n_observations - gamma * sums.h_sum - gamma * t_ts
        p, q = np.stack([p_tau, p_sigma]), np.stack([np.stack([q_tt, q_ts]), np.stack([q_ts, q_ss])])
        return p, q, np.array([[t_tt, t_ts], [t_ts, t_ss]])

    # ---- members of a fit with one random intercept

    @property
    def slopes(self) -> np.ndarray:
        """Fixed effects of the predictors."""
        return self.solution.coefficients

    @property
    def intercept(self) -> float:
        """Fixed intercept; 0 in a model without one."""
        return self.solution.intercept

    @property
    def group_variance(self) -> float:
        """Group variance tau2."""
        return self.solution.group_variance

    @property
    def residual_variance(self) -> float:
        """Residual variance sigma2."""
        return self.solution.residual_variance

    @property
    def value(self) -> float:
        """The criterion at the optimum."""
        return self.solution.value

    @property
    def predictors(self) -> GroupedMoments:
        """Moments of the columns that have fixed effects, which are all, and of y."""
        return self.moments

    @property
    def random_terms(self) -> list[RandomTerm]:
        """The random intercept."""
        return [RandomTerm(self.group_name, True, ())]

    @property
    def random_covariance(self) -> Floats:
        """Covariance of the random coefficients, of shape (1, 1): the group variance."""
        return np.array([[self.group_variance]])

    @property
    def random_variances(self) -> tuple[float, float]:
        """The variance that the groups give the rows, within groups and between them."""
        return 0.0, self.group_variance

    def random_variance(self, X: Any, n_rows: int) -> np.ndarray:
        """Return the variance that the groups give each row, in units of y squared."""
        return np.full(n_rows, self.group_variance)

    def deviance(self) -> float:
        """Return the least -2 log-likelihood, by maximum likelihood whatever the method of the model."""
        return minimise(self.criterion(reml=False)).solution.value

    @property
    def icc(self) -> float:
        """Intraclass correlation tau2 / (tau2 + sigma2); NaN if both variances are 0."""
        return share(self.group_variance, self.group_variance + self.residual_variance)

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return self.solution.value + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        """Bayes' information criterion."""
        return self.solution.value + float(np.log(self.n_observations)) * self.n_parameters

    @property
    def labels(self) -> pd.Index:
        """Labels of the groups with a random effect; empty if the rows have no groups."""
        return self.known.labels if self.grouped else self.known.labels[:0]

    @property
    def outcome_name(self) -> str:
        """Name of y."""
        return self.known.outcome_name or "y"

    @property
    def group_name(self) -> str:
        """Name of the groups."""
        return str(self.known.labels.name or "group")

    def group_sizes(self, moments: GroupedMoments | None = None) -> np.ndarray:
        """Return the number of rows of each group, or the total weight if weights are frequencies; of `known` by default."""
        moments = self.known if moments is None else moments
        return moments.n_rows.astype(np.float64) if self.options.weight_type == "precision" else moments.counts

    @property
    def reliabilities(self) -> Floats:
        """Reliability lambda_j = gamma n_j / (1 + gamma n_j) of each group."""
        return reliabilities_of(self.solution.ratio, self.known.counts)

    @cached_property
    def residual_means(self) -> Floats:
        """Mean e_j of y less its fixed part in each group.

        After an update, they are computed from means relative to the centre, because an intercept at a distant origin would
        cost digits.
        """
        if self.known is self.moments:
            return self.solution.residual_means
        (fitted, slopes), (known, slopes_now) = self.moments.about_slopes(), self.known.about_slopes()
        contrast = np.append(-self.solution.rest_coefficients, 1.0)
        contrast_now = contrast + np.append(slopes_now - slopes, 0.0)
        from_center = known.center @ contrast_now - fitted.center @ contrast
        return np.asarray(known.deviations @ contrast_now + from_center + self.left_at_center)

    @property
    def left_at_center(self) -> float:
        """Rest of y, less its fixed part, at the centre of the moments to which the model was fitted."""
        rest, _ = self.moments.about_slopes()
        contrast = np.append(-self.solution.rest_coefficients, 1.0)
        return float(np.mean(self.solution.residual_means - rest.deviations @ contrast))

    @cached_property
    def random_effects(self) -> np.ndarray:
        """Empirical-Bayes estimates u_j = lambda_j e_j for the groups of `labels`."""
        return (self.reliabilities * self.residual_means)[: len(self.labels)]

    def renamed(self, names: Sequence[str]) -> Fit:
        """Return the same fit with other names of the predictors."""
        moments = replace(self.moments, feature_names=tuple(names))
        known = moments if self.known is self.moments else replace(self.known, feature_names=tuple(names))
        return replace(self, moments=moments, known=known)

    def criterion(self, reml: bool | None = None) -> Criterion:
        """Return the criterion of the fit; `reml` chooses the restricted or the full one for the same rows."""
        return self.options.criterion(self.moments, reml)

    def predict(self, X: Any, codes: np.ndarray) -> np.ndarray:
        """Return predicted means of rows; the effect of an unknown group is 0.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, n_features), or None
            Predictors.
        codes : ndarray of shape (n_samples,)
            Positions in `labels`, negative for unknown groups.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            In units of y.
        """
        return predicted_means(X, codes, self.slopes, self.intercept, self.random_effects)

    def residuals(self, X: Any, codes: np.ndarray, y: np.ndarray, *, conditional: bool = True) -> np.ndarray:
        """Return y less its prediction; the residuals keep their digits even if the slopes explain nearly all of y.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, n_features), or None
            Predictors.
        codes : ndarray of shape (n_samples,)
            Positions in `labels`, negative for unknown groups.
        y : ndarray of shape (n_samples,)
            Outcome.
        conditional : bool, default=True
            Whether the prediction includes the effects of the groups.

        Returns
        -------
        residuals : ndarray of shape (n_samples,)
            In units of y.
        """
        effects = self.random_effects if conditional else np.zeros(len(self.labels))
        if self.moments.remainder is None or X is None:
            mean = predicted_means(X, codes, self.slopes, self.intercept, effects)
            return np.asarray(np.subtract(y, mean, out=mean))
        moments, slopes = self.moments.about_slopes()
        change = self.solution.rest_coefficients
        explained = X @ change - moments.center[:-1] @ change
        # The codes -2 and -1 of unknown groups count from the end.
        of_group = np.append(effects, [0.0, 0.0])[codes]
        return np.asarray(rests(X, y, KnownPart(slopes, moments.center[-1])) - explained + self.left_at_center - of_group)

    def prediction_variance(self, X: Any, codes: np.ndarray, *, gradient: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of the predicted means of rows in their groups, and its derivatives.

        With d = x - lambda_j x_j, x_j the group's mean of x and V the covariance of the fixed effects, the variance is
        d' V d + tau2 (1 - lambda_j); in a new group lambda_j = 0. With primes for derivatives in gamma, its derivative in
        gamma is d' V' d - 2 lambda_j' x_j' V d + sigma2 / (1 + gamma n_j)^2. Its derivative in log sigma2 is the variance.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, n_features), or None
            Predictors.
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
        solution, n_groups = self.solution, len(self.labels)
        # The codes -2 and -1 of unknown groups count from the end.
        counts = np.append(self.known.counts[:n_groups], [0.0, 0.0])
        reliabilities = np.append(self.reliabilities[:n_groups], [0.0, 0.0])
        means = self.known.deviations[:n_groups, :-1] + (self.known.center[:-1] - solution.center)
        means = np.vstack([means, np.zeros((2, len(solution.center)))])
        if self.options.fit_intercept:
            means = np.column_stack([np.ones(len(means)), means])
        means = means @ solution.root
        inside = gradient and self.boundary is None
        second = self.covariance_derivatives[0] if inside else None
        variance = (solution.group_variance * (1.0 - reliabilities))[codes]
        by_ratio = np.zeros(len(codes))
        for at, fixed in self._whitened_rows(X, len(codes)):
            code = codes[at]
            d = fixed - reliabilities[code, None] * means[code]
            variance[at] += (d * d).sum(axis=1)
            if second is not None:
                growth = 1.0 + solution.ratio * counts[code]
                slope = counts[code] / growth**2
                by_ratio[at] = ((d @ second) * d).sum(axis=1) - 2.0 * slope * (means[code] * d).sum(axis=1)
                by_ratio[at] += solution.residual_variance / growth**2
        return variance, self._gradient_of(variance, by_ratio, gradient)

    def fixed_part_variance(self, X: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance x' V x of the fixed part of rows, and its derivatives, as `prediction_variance` does.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, n_features), or None
            Predictors.
        n_rows : int
            Number of rows.

        Returns
        -------
        variance : ndarray of shape (n_samples,)
            In units of y squared.
        gradient : ndarray of shape (n_samples, n_variance_parameters)
            The derivatives with respect to the variance parameters.
        """
        variance, by_ratio = np.empty(n_rows), np.zeros(n_rows)
        for at, fixed in self._whitened_rows(X, n_rows):
            variance[at] = (fixed * fixed).sum(axis=1)
            if self.boundary is None:
                by_ratio[at] = ((fixed @ self.covariance_derivatives[0]) * fixed).sum(axis=1)
        return variance, self._gradient_of(variance, by_ratio, True)

    def _gradient_of(self, variance: np.ndarray, by_ratio: np.ndarray, wanted: bool) -> np.ndarray:
        """Return the derivatives of variances, which are their own derivatives with respect to the last parameter."""
        if not wanted:
            return np.empty((len(variance), 0))
        return np.column_stack([by_ratio, variance]) if self.boundary is None else variance[:, None]

    def _whitened_rows(self, X: Any, n_rows: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of rows, as positions and whitened contrasts (1, x)."""
        step = max(1, _BLOCK_NUMBERS // (1 + len(self.solution.center)))
        for start in range(0, n_rows, step):
            at = slice(start, min(start + step, n_rows))
            yield at, self._fixed_part(X, at, at.stop - start)

    def _fixed_part(self, X: Any, at: slice, n_rows: int) -> np.ndarray:
        """Return the whitened contrasts (1, x) of some rows, less the centre."""
        center, root = self.solution.center, self.solution.root
        leading = root[:1] if self.options.fit_intercept else np.zeros((1, root.shape[1]))
        if X is None:
            return np.repeat(leading, n_rows, axis=0)
        rows: Floats = X[at].toarray() if hasattr(X, "toarray") else X[at]
        return (rows - center) @ root[len(root) - len(center) :] + leading


def fit_of_criterion(criterion: Criterion, options: Options, *, grouped: bool = True) -> Fit:
    """Return the fit record at the optimum of a criterion, or at tau2 = 0 if the rows have no groups.

    Parameters
    ----------
    criterion : Criterion
        The criterion of moments, as `options.criterion` returns it.
    options : Options
        The parameters of the model.
    grouped : bool, default=True
        Whether the rows have groups.

    Returns
    -------
    fit : Fit
        The fit record.
    """
    optimum = minimise(criterion) if grouped else Optimum(criterion.solution(0.0), "group", np.zeros(1))
    return Fit(
        options=options,
        moments=criterion.moments,
        known=criterion.moments,
        solution=optimum.solution,
        boundary=optimum.boundary,
        identified=optimum.identified,
        grouped=grouped,
        n_observations=criterion.n_observations,
        degrees_of_freedom=criterion.degrees_of_freedom,
        between_degrees_of_freedom=criterion.between_degrees_of_freedom,
        rank=criterion.rank,
        dropped_features=criterion.coordinates.dropped,
    )


def fit_moments(moments: GroupedMoments, options: Options) -> Fit:
    """Return the fit record of the random intercept model for moments, without any check of the moments."""
    return fit_of_criterion(options.criterion(moments), options)
