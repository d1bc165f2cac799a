"""`RowPredictor` and `GroupPredictor`: what a fitted model with several random coefficients says of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._typing import Floats
from ..moments._remainder import KnownPart, rests
from ._column_coordinates import ColumnCoordinates

# The most numbers in a block of rows for which predictions are computed.
_BLOCK_NUMBERS = 1 << 18


@dataclass(frozen=True, eq=False)
class GroupUncertainty:
    """Stores how uncertain the random effects of groups are, with two groups more at the end for rows of unknown groups.

    Attributes
    ----------
    cross : ndarray of shape (n_groups + 2, q, k)
        K_j, in columns in which the fixed effects are uncorrelated.
    h : ndarray of shape (n_groups + 2, q, q)
        H_j.
    roots : ndarray of shape (n_groups + 2, q, rank)
        Roots of the conditional covariances of the random effects.
    """

    cross: Floats
    h: Floats
    roots: Floats


@dataclass(frozen=True, eq=False)
class RowPredictor:
    """Stores what predictions of rows need of a model of one or of several grouping factors.

    Attributes
    ----------
    coordinates : ColumnCoordinates
        The columns in which the model is computed.
    at_center, rest_at_center : float
        The intercept at the centre of the predictors, of y and of y less its known part; 0 without one.
    slopes : ndarray of shape (n_predictors,)
        Fixed effects of the predictors.
    root : ndarray of shape (n_coefficients, k)
        Root of the covariance of the fixed effects, with the intercept at the centre.
    factor : ndarray of shape (q, q)
        A factor of G.
    residual_variance : float
        The residual variance that G is relative to.
    has_residual : bool
        Whether the residual variance is a parameter.
    directions : ndarray of shape (n_entries, q, q)
        Derivatives of G by the entries of its factor.
    covariance_derivatives : ndarray of shape (n_entries, k, k)
        Derivatives of the whitened covariance of the fixed effects by the same.
    """

    coordinates: ColumnCoordinates
    at_center: float
    rest_at_center: float
    slopes: np.ndarray
    root: Floats
    factor: Floats
    residual_variance: float
    has_residual: bool
    directions: Floats
    covariance_derivatives: Floats

    def _random_part(self, z: Floats, codes: np.ndarray) -> np.ndarray:
        """Return the effects of the rows' groups; 0 of unknown groups, whose columns may be unknown too."""
        raise NotImplementedError

    def _blocks(self, X: Any, n_rows: int) -> Iterator[tuple[slice, Floats, Floats]]:
        """Yield blocks of rows: positions, predictors less the centre, and random columns in the coordinates."""
        here = self.coordinates
        n_predictors, n_features = here.n_predictors, len(here.z_origin)
        origins = [0.0 if column is None else here.z_origin[column] for column in here.design.columns]
        about = np.where(here.design.with_intercept(), origins, 0.0)
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
            yield at, rows[:, :n_predictors] - here.origin[:n_predictors], z @ here.turn

    def predict(self, X: Any, codes: np.ndarray) -> np.ndarray:
        """Return predicted means of rows; the random effects of an unknown group are 0.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, n_features), or None
            Predictors, and last the columns with random coefficients only.
        codes : ndarray of shape (n_samples,)
            Positions of the groups, negative for unknown ones.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            In units of y.
        """
        mean = np.full(len(codes), self.at_center)
        for at, fixed, z in self._blocks(X, len(codes)):
            mean[at] += fixed @ self.slopes + self._random_part(z, codes[at])
        return mean

    def residuals(self, X: Any, codes: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return y less its prediction; they keep their digits even if the slopes explain nearly all of y."""
        here = self.coordinates
        if not here.known_slopes.any():
            return np.asarray(y - self.predict(X, codes))
        left = rests(X, y, KnownPart(here.known_slopes, self.rest_at_center))
        change = self.slopes - here.known_slopes[: here.n_predictors]
        for at, fixed, z in self._blocks(X, len(codes)):
            left[at] -= fixed @ change + self._random_part(z, codes[at])
        return left

    def random_variance(self, X: Any, n_rows: int) -> np.ndarray:
        """Return the variance z' Sigma z that the random coefficients give each row, in units of y squared."""
        variance, root = np.empty(n_rows), np.sqrt(self.residual_variance) * self.factor
        for at, _, z in self._blocks(X, n_rows):
            variance[at] = ((z @ root) ** 2).sum(axis=1)
        return known_variance(variance)

    def fixed_part_variance(self, X: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance x' V x of the fixed part of rows, and its derivatives, as `prediction_variance` does."""
        variance, derivatives = np.empty(n_rows), np.zeros((n_rows, len(self.directions)))
        for at, fixed, _ in self._blocks(X, n_rows):
            d = self._whitened(fixed)
            variance[at] = (d * d).sum(axis=1)
            for i, of_entry in enumerate(self.covariance_derivatives):
                derivatives[at, i] = ((d @ of_entry) * d).sum(axis=1)
        return variance, self._with_residual(derivatives, variance)

    def _with_residual(self, derivatives: Floats, variance: Floats) -> Floats:
        """Return derivatives of variances with those by log sigma2, the variances themselves, if sigma2 is a parameter."""
        return np.column_stack([derivatives, variance]) if self.has_residual else derivatives

    def _whitened(self, fixed: Floats) -> Floats:
        """Return the whitened contrasts (1, x) of rows of predictors less the centre."""
        leading = len(self.root) - fixed.shape[1]
        white = fixed @ self.root[leading:]
        return np.asarray(white + self.root[0] if leading else white)


@dataclass(frozen=True, eq=False)
class GroupPredictor(RowPredictor):
    """Stores what predictions of rows need of a model of one factor, with two groups more at the end for unknown groups.

    Its attributes are those of `RowPredictor`, and:

    Attributes
    ----------
    effects : ndarray of shape (n_groups + 2, q)
        Random effects in the coordinates, in units of y.
    """

    effects: Floats

    def _random_part(self, z: Floats, codes: np.ndarray) -> np.ndarray:
        """Return the effects of the rows' groups; 0 in unknown groups, whose columns may be unknown too."""
        return np.where(codes < 0, 0.0, (z * self.effects[codes]).sum(axis=1))

    def prediction_variance(
        self, X: Any, codes: np.ndarray, groups: GroupUncertainty, *, gradient: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of the predicted means of rows in their groups, and its derivatives.

        With d = x - K_j' G z and S_j = I - G H_j, the variance is d' V d + sigma2 z' S_j G z; in a new group K_j and H_j are
        0. With s = S_j' z, its derivative in a direction E of G is d' V_E d - 2 sigma2 d' B^-1 K_j' E s + sigma2 s' E s,
        where V_E is the derivative of V. Its derivative in log sigma2 is the variance.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, n_features), or None
            Predictors, and last the columns with random coefficients only.
        codes : ndarray of shape (n_samples,)
            Positions of the groups; -1 or -2 for unknown ones.
        groups : GroupUncertainty
            How uncertain the random effects are.
        gradient : bool, default=False
            Whether to compute the derivatives.

        Returns
        -------
        variance : ndarray of shape (n_samples,)
            In units of y squared.
        gradient : ndarray of shape (n_samples, n_variance_parameters)
            The derivatives with respect to the variance parameters; of shape (n_samples, 0) without `gradient`.
        """
        g, sigma2, n_entries = self.factor @ self.factor.T, self.residual_variance, len(self.directions)
        variance, derivatives = np.empty(len(codes)), np.zeros((len(codes), n_entries if gradient else 0))
        for at, fixed, z in self._blocks(X, len(codes)):
            code = codes[at]
            own = groups.cross[code] * np.sqrt(sigma2)
            d = self._whitened(fixed) - ((z @ g)[:, None, :] @ own)[:, 0]
            variance[at] = (d * d).sum(axis=1) + ((z[:, None, :] @ groups.roots[code])[:, 0] ** 2).sum(axis=1)
            if gradient:
                s = z - (groups.h[code] @ (z @ g)[:, :, None])[:, :, 0]
                along = (own @ d[:, :, None])[:, :, 0]
                for i, direction in enumerate(self.directions):
                    derivatives[at, i] = ((d @ self.covariance_derivatives[i]) * d).sum(axis=1)
                    derivatives[at, i] += (((sigma2 * s - 2.0 * along) @ direction) * s).sum(axis=1)
        return known_variance(variance), self._with_residual(derivatives, variance) if gradient else derivatives


def known_variance(variance: np.ndarray) -> np.ndarray:
    """Return variances, or raise if columns with random coefficients are unknown."""
    if np.isnan(variance).any():
        raise ValueError(
            "The standard deviation of a row depends on columns that X does not have: pass groups as a frame with the "
            "columns that random_effects names, as in fit. Labels may be missing in it."
        )
    return variance
