"""`IterativeCriterion`: the criterion of a model of several factors that are too large for direct elimination."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._typing import Floats
from ._core_elimination import Core
from ._evaluation import Evaluation, VarianceSums, derivatives
from ._factor_criterion import FactorCriterion, inverse_root
from ._factor_sums import FactorRows, FactorSums, factor_sums
from ._iterative_core import IterativeCore, estimates_of, iterative_core
from ._mixed_equations import Effects, MixedEquations
from ._nested_elimination import eliminate_nested

# Random probes, the same at every covariance, so that the criterion is smooth.
_N_PROBES, _SEED = 30, 0
# Errors of the log-determinant are far larger than what a step of the search changes, and nearly the same at both ends.
_NOISE = 0.5


class MonteCarlo(NamedTuple):
    """What the random probes leave uncertain.

    Attributes
    ----------
    value : float
        Standard error of the criterion.
    slope : ndarray of shape (n_pairs, n_pairs)
        Covariance of the errors of its derivatives by the entries of G.
    residual : float
        The largest relative residual of the equations.
    """

    value: float
    slope: Floats
    residual: float


class IterativeCriterion(FactorCriterion):
    """Minus twice the log-likelihood of a model of several factors, with random errors that are small and known.

    Fixed and random effects at given variances come from conjugate gradients, to about ten digits. The log-determinant and
    its derivatives by the variances come from random probes: signs, from which traces of matrices are estimated. The average
    information, which needs no trace, stands in place of the second derivatives (Gilmour, Thompson and Cullis 1995).

    Its parameters are those of `FactorCriterion`. Factors that are neither nested in a chain nor the largest have a single
    random coefficient each.

    References
    ----------
    A. R. Gilmour, R. Thompson and B. R. Cullis (1995), "Average information REML: an efficient algorithm for variance
    parameter estimation in linear mixed models", Biometrics 51(4), 1440-1450.

    L. A. Garcia-Cortes, C. Moreno, L. Varona and J. Altarriba (1992), "Variance component estimation by resampling", Journal
    of Animal Breeding and Genetics 109, 358-363, for traces from random probes.
    """

    approximate = True

    def _check_size(self) -> None:
        """Raise if a factor of the core has several random coefficients."""
        several = [self.factors[at].name for at, (_, q) in zip(self.sums.core, self.sums.core_sizes, strict=True) if q > 1]
        if several:
            raise ValueError(
                f"solver='iterative' takes one random coefficient of each factor but the largest; {several[0]} has several. "
                "Let one vary, or choose solver='direct'."
            )

    def sums_of(self, rows: FactorRows) -> FactorSums:
        """Return the sums of rows in the coordinates, with the factors to eliminate level by level."""
        return factor_sums(rows, rows.nested_chain(tuple(map(len, self.coordinates.factor_columns))), self.blocks_of_factors)

    def _core_of(self, reduced: Any, of_core: list[Floats]) -> Core:
        """Return the equations of the core."""
        return iterative_core(self.sums, reduced, of_core)

    def equations(self, factor: Floats, root: Floats) -> MixedEquations:
        """Return the equations of the random effects at G = F F', given the inverse root of X' V^-1 X, of shape (k, k)."""
        return self._at(factor, root, derive=False)

    def _at(self, factor: Floats, root: Floats, *, derive: bool) -> MixedEquations:
        """Return the equations at G = F F', with the first derivatives of what the nested factors leave if wanted."""
        parts = [self.factor_of(factor, at) for at in range(len(self.factors))]
        covariances = [part @ part.T for part in parts]
        chain = [step.factor for step in self.sums.nested]
        parameters = [self.parameters[at] if derive else [] for at in chain]
        reduced, steps = eliminate_nested(self.sums, [covariances[at] for at in chain], parameters)
        core = self._core_of(reduced, [parts[at] for at in self.sums.core]) if self.sums.core else None
        return MixedEquations(self.coordinates.rows, self.sums, reduced, steps, core, covariances, root)

    def _evaluated(self, factor: Floats) -> Evaluation:
        """Return the criterion and its derivatives at one relative covariance."""
        k, n_pairs = self.rank, len(self.pairs[0])
        equations = self._at(np.asarray(factor, dtype=np.float64), np.zeros((k, k)), derive=True)
        squares, gradients = equations.penalised_squares()
        root, r2, half_log_det = inverse_root(squares)
        white = [each @ root.T for each in gradients]
        along = np.zeros((n_pairs, k + 1, k + 1))
        for of_factor, parameters in zip(white, self.parameters, strict=True):
            for at, a, b in parameters:
                part = of_factor[:, a].T @ of_factor[:, b]
                along[at] = part if a == b else part + part.T
        log_det, h, _ = self._traces(equations)
        free = self.degrees_of_freedom if self.residual_variance is None else r2 / self.residual_variance
        of_y = free * np.log(r2) if self.residual_variance is None else free
        value = self._constant + of_y + log_det + (2.0 * half_log_det if self.reml else 0.0)
        information = free * self._curvature(equations, white, along)
        sums = VarianceSums(h[None], along[None], information[None], np.zeros((1, n_pairs, n_pairs)))
        profiled = self.residual_variance is None
        slope, _ = derivatives(sums, np.zeros((1, n_pairs, n_pairs)), np.array([free]), reml=self.reml, profiled=profiled)
        rho = along[:, k, k]
        hessian = information - (free * np.outer(rho, rho) if profiled else 0.0)
        noise = np.array([_NOISE])
        return Evaluation(np.array([value]), slope, hessian[None], np.array([r2]), root[None], sums, noise)

    def _traces(self, equations: MixedEquations) -> tuple[float, Floats, MonteCarlo]:
        """Return log det V, the matrix h with d log det V = tr(h dG), and what is uncertain of both."""
        (a, b), q, exact = self.pairs, self.n_random, equations.reduced.log_det
        by_probe = np.zeros((len(a), _N_PROBES))
        values, residual = np.zeros(_N_PROBES), 0.0
        for key, part in exact.items():
            if len(key) == 1:
                by_probe[key[0]] += part
        if isinstance(equations.core, IterativeCore):
            found = estimates_of(equations.core, equations.reduced.core_own, _N_PROBES, _SEED)
            values, residual = found.log_det, found.residual
            for at, of_chain in found.of_chain.items():
                by_probe[at] += of_chain
            for at, scale, of_factor in zip(self.sums.core, equations.core.scales, found.of_core, strict=True):
                for position, _, _ in self.parameters[at]:
                    by_probe[position] = of_factor / scale[0, 0] ** 2
        h = np.zeros((q, q))
        mean = by_probe.mean(axis=1)
        h[a, b] = h[b, a] = np.where(a == b, mean, mean / 2.0)
        error = MonteCarlo(
            float(values.std(ddof=1) / np.sqrt(_N_PROBES)), np.atleast_2d(np.cov(by_probe)) / _N_PROBES, residual
        )
        return float(exact[()] + values.mean()), h, error

    def _curvature(self, equations: MixedEquations, white: Effects, along: Floats) -> Floats:
        """Return the average information of the pairs of random coefficients, over the weight of log r2."""
        k, numbered = self.rank, sorted(at for each in self.parameters for at, _, _ in each)
        place = {at: i for i, at in enumerate(numbered)}
        directed = equations.zeros(len(numbered))
        for factor, (of_factor, parameters) in enumerate(zip(white, self.parameters, strict=True)):
            for at, a, b in parameters:
                directed[factor][:, a, place[at]] += of_factor[:, b, k]
                if a != b:
                    directed[factor][:, b, place[at]] += of_factor[:, a, k]
        beyond = equations.information_times(directed)
        width = len(numbered)
        inside = sum(
            (x.reshape(-1, width).T @ y.reshape(-1, width) for x, y in zip(directed, beyond, strict=True)),
            np.zeros((width, width)),
        )
        v = along[numbered][:, :k, k]
        information = np.zeros((len(along), len(along)))
        information[np.ix_(numbered, numbered)] = (inside + inside.T) / 2 - v @ v.T
        return information

    def monte_carlo(self, factor: Floats) -> MonteCarlo:
        """Return what the random probes leave uncertain at G = F F'."""
        return self._traces(self._at(factor, np.zeros((self.rank, self.rank)), derive=True))[2]
