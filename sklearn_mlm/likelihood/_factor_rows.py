"""`FactorPredictor`: what a fitted model of several grouping factors says of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._typing import Floats
from ._factor_coordinates import FactorCoordinates
from ._mixed_equations import MixedEquations
from ._mixed_rows import RowPredictor, known_variance

# The most numbers in a block of right-hand sides.
_BLOCK_NUMBERS = 1 << 22


@dataclass(frozen=True, eq=False)
class FactorPredictor(RowPredictor):
    """Stores what predictions of rows need of a model of several factors.

    The codes of rows have a column for each factor, with negative numbers for unknown levels. The attributes are those of
    `RowPredictor`, with `FactorCoordinates`, and:

    Attributes
    ----------
    effects : list of ndarray of shape (n_levels, q)
        Random effects of each factor in the coordinates, in units of y.
    equations : MixedEquations
        The equations of the random effects.
    """

    coordinates: FactorCoordinates
    effects: list[Floats]
    equations: MixedEquations

    def _z(self, z: Floats) -> list[Floats]:
        """Return the random columns of each factor."""
        return [z[:, list(columns)] for columns in self.coordinates.factor_columns]

    def _random_part(self, z: Floats, codes: np.ndarray) -> np.ndarray:
        """Return the sum of the effects of the rows' levels; 0 of unknown levels, whose columns may be unknown too."""
        total = np.zeros(len(z))
        for at, (part, effects) in enumerate(zip(self._z(z), self.effects, strict=True)):
            known = codes[:, at] >= 0
            total[known] += (part[known] * effects[codes[known, at]]).sum(axis=1)
        return total

    def prediction_variance(self, X: Any, codes: np.ndarray, *, gradient: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of the predicted means of rows, and its derivatives by the entries of G and log sigma2.

        With the matrix C of Henderson's equations, the variance of x'b + z'u is sigma2 (z, x)' C^-1 (z, x), and that of
        unknown levels is added. Its derivative in a direction E of G is sigma2 s' E s, summed over the levels, where s is
        G^-1 times the solution c for the random effects; s = z - S c - Z' X c_x needs no inverse.
        """
        n_entries, sigma2 = len(self.directions), self.residual_variance
        variance, derivatives = np.empty(len(codes)), np.zeros((len(codes), n_entries if gradient else 0))
        total = sum(n * q for n, q in self.equations.sizes) + self.equations.n_fixed + 1
        step = max(1, _BLOCK_NUMBERS // total)
        for block, fixed, z in self._blocks(X, len(codes)):
            x = self._in_coordinates(fixed)
            for start in range(0, len(fixed), step):
                here = slice(start, min(start + step, len(fixed)))
                at = slice(block.start + here.start, block.start + here.stop)
                variance[at], of_entries = self._of_rows(x[here], z[here], codes[at], gradient)
                if gradient:
                    derivatives[at] = of_entries
        variance *= sigma2
        derivatives *= sigma2
        return known_variance(np.maximum(variance, 0.0)), self._with_residual(
            derivatives, variance
        ) if gradient else derivatives

    def _in_coordinates(self, fixed: Floats) -> Floats:
        """Return rows (1, x), less the centre, in the coordinates."""
        leading = int(self.coordinates.fit_intercept)
        return np.asarray(fixed @ self.coordinates.map[leading:] + (self.coordinates.map[0] if leading else 0.0))

    def _of_rows(self, x: Floats, z: Floats, codes: np.ndarray, gradient: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the variances of rows over sigma2, and their derivatives by the entries of G."""
        n, equations = len(x), self.equations
        right, new, columns = equations.zeros(n), np.zeros(n), np.arange(n)
        for at, (part, g) in enumerate(zip(self._z(z), equations.covariances, strict=True)):
            known = codes[:, at] >= 0
            right[at][codes[known, at], :, columns[known]] = part[known]
            new[~known] += ((part[~known] @ g) * part[~known]).sum(axis=1)
        solved, of_fixed = equations.solve(right, x.T)
        assert of_fixed is not None
        variance = new + (x.T * of_fixed).sum(axis=0)
        for a, b in zip(right, solved, strict=True):
            variance += (a * b).sum(axis=(0, 1))
        if not gradient:
            return variance, np.zeros((n, 0))
        left = equations.apart(right, solved, of_fixed)
        derivatives = np.zeros((n, len(self.directions)))
        for at, columns_of in enumerate(self.coordinates.factor_columns):
            s, part = left[at], self._z(z)[at]
            inside = np.ix_(range(len(self.directions)), columns_of, columns_of)
            for i, direction in enumerate(self.directions[inside]):
                derivatives[:, i] += ((direction @ s) * s).sum(axis=(0, 1))
                unknown = codes[:, at] < 0
                derivatives[unknown, i] += ((part[unknown] @ direction) * part[unknown]).sum(axis=1)
        return variance, derivatives
