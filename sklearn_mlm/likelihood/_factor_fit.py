"""`FactorFit`: the record of a fitted model of several grouping factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self, cast

import numpy as np
import pandas as pd

from .._typing import Floats
from ..moments._cell_scatter import CellScatter
from ..moments._cells import Cells
from ..moments._labels import MISSING, positions
from ..moments._moments import Moments
from ..moments._scatter import Scatter
from ..moments._scatter_merging import merged_groups
from ._factor_coordinates import rows_of_record
from ._factor_criterion import FactorCriterion
from ._factor_rows import FactorPredictor
from ._iterative_criterion import IterativeCriterion
from ._mixed_equations import MixedEquations
from ._mixed_optimum import MixedOptimum, Outcome, minimise_mixed, without_random_effects
from ._mixed_variances import directions_without_variance
from ._options import MixedOptions
from ._random_effects_fit import RandomEffectsFit
from ._random_terms import INTERCEPT, RandomTerm


@dataclass(frozen=True, eq=False)
class FactorFit(RandomEffectsFit):
    """Stores everything that a fit of a model of several grouping factors gives; the record does not change.

    Its attributes are those of `RandomEffectsFit`, with a `CellScatter` and a `FactorCriterion`. Codes of rows have a column
    for each factor. `factors` shows the random effects of each factor as those of a model of that factor.
    """

    scatter: CellScatter
    known: CellScatter
    criterion: FactorCriterion

    @classmethod
    def of(cls, criterion: FactorCriterion, options: MixedOptions, *, grouped: bool = True) -> Self:
        """Return the fit record at the optimum of a criterion."""
        optimum = without_random_effects(criterion) if criterion.exact_fit else _minimise(criterion)
        scatter = cast(CellScatter, criterion.scatter)
        return cls(options, scatter, scatter, criterion, optimum, grouped)

    def __getstate__(self) -> dict[str, Any]:
        # The equations are as large as the core squared, and can be made again.
        return {name: value for name, value in vars(self).items() if name not in ("equations", "_predictor")}

    # ---- the factors

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the factors, in the order of the terms."""
        return tuple(self.options.groupings)

    @cached_property
    def _levels(self) -> list[tuple[np.ndarray, pd.Index]]:
        """The level of each cell of the known rows, and the labels of the levels, for each factor."""
        return [self.known.cells.labels_of(columns) for columns in self.options.groupings.values()]

    @property
    def factor_labels(self) -> dict[str, pd.Index]:
        """Labels of the levels of each factor."""
        return {name: labels for name, (_, labels) in zip(self.factor_names, self._levels, strict=True)}

    @cached_property
    def factors(self) -> dict[str, FactorView]:
        """What the model says of each factor, as if it was the only one."""
        return {name: FactorView(self, at) for at, name in enumerate(self.factor_names)}

    @property
    def n_levels(self) -> dict[str, int]:
        """The number of levels of each factor in the rows of the fit."""
        return {factor.name: factor.n_levels for factor in self.criterion.factors}

    @property
    def group_name(self) -> str:
        """Names of the factors."""
        return " and ".join(self.factor_names)

    @property
    def labels(self) -> pd.Index:
        """The cells of the known rows."""
        return self.known.labels

    @cached_property
    def boundary(self) -> dict[str, pd.DataFrame] | Literal["residual"] | None:
        """By factor, combinations of its random coefficients that have no variance; None if all have."""
        found = {}
        kept = [at for at in range(len(self.options.coefficients)) if at not in self.criterion.coordinates.dropped_random]
        whole = self.turn_from_origin[kept]
        names = np.array(self.options.coefficients, dtype=object)[kept]
        directions = directions_without_variance(self.optimum, whole)
        for name, factor in zip(self.factor_names, self.criterion.factors, strict=True):
            at = [i for i, position in enumerate(kept) if position in factor.coefficients]
            mine = directions[(directions[:, at] != 0).any(axis=1)][:, at]
            if len(mine):
                index = pd.RangeIndex(1, len(mine) + 1)
                found[name] = pd.DataFrame(mine, index=index, columns=list(names[at]))
        return found or None

    @property
    def icc(self) -> float | None:
        """None: there is a share of the variance for each factor."""
        return None

    @cached_property
    def random_variances_of_factors(self) -> dict[str, float]:
        """The mean over the rows of the variance z' Sigma z of each factor, in units of y squared."""
        here, weight = self.criterion.coordinates, float(self.moments.counts.sum())
        found = {}
        for at, name in enumerate(self.factor_names):
            z = here.rows.z[at] @ self.criterion.factor_of(self.optimum.factor, at)
            found[name] = self._unit_variance * float((z * z).sum()) / weight
        return found

    @cached_property
    def random_variances(self) -> tuple[float, float]:
        """The mean over the rows of the variance that the random effects give; none of it is within all groups."""
        return 0.0, sum(self.random_variances_of_factors.values())

    @cached_property
    def approximation_errors(self) -> pd.Series | None:
        """Standard errors of what random probes leave uncertain, of variances and of the criterion; None if these are exact.

        They are errors of the computation, beside which those of estimation are as `confidence_intervals` has them.
        """
        if not isinstance(self.criterion, IterativeCriterion):
            return None
        error = self.criterion.monte_carlo(self.optimum.factor)
        along = self._directions_at_pairs
        noise = np.zeros((len(along) + 1,) * 2)
        noise[:-1, :-1] = along @ error.slope @ along.T
        inverse = np.linalg.inv(self.hessian)
        of_parameters = inverse @ noise @ inverse
        derivatives = self.covariance_of_random_derivatives.diagonal(axis1=1, axis2=2)
        of_residual = np.append(np.zeros(len(along)), self.residual_variance)
        variances = np.column_stack([derivatives, of_residual])
        sd = np.sqrt(np.maximum(((variances.T @ of_parameters) * variances.T).sum(axis=1), 0.0))
        names = [f"{term.factor} {name}" for term in self.options.terms for name in term.coefficients]
        return pd.Series([*sd, error.value], index=[*names, "residual", "criterion"], name="error")

    # ---- random effects

    @cached_property
    def equations(self) -> MixedEquations:
        """The equations of the random effects, given the known rows."""
        here, k = self.criterion.coordinates, self.rank
        factor, root = self.optimum.factor, self.optimum.evaluation.root[0, :k, :k]
        if self.known is self.scatter:
            return self.criterion.equations(factor, root)
        rows = rows_of_record(self.known, here, self.options.factors(self.known.cells))
        parts = [self.criterion.factor_of(factor, at) for at in range(len(self.factor_names))]
        return MixedEquations.at(rows, self.criterion.sums_of(rows), parts, root)

    @cached_property
    def effects_in_coordinates(self) -> list[Floats]:
        """Random effects of each factor in the coordinates, of shape (n_levels, q), in units of y."""
        scale, contrast = self.criterion.coordinates.y_scale, np.append(-self._beta, 1.0)[:, None]
        return [scale * each[:, :, 0] for each in self.equations.effects(contrast)]

    @property
    def mean_covariance_of_errors(self) -> float:
        """The mean over the rows of the conditional variance of the sum of their effects, in units of y squared.

        That is sigma2 tr(Z (S + G^-1)^-1 Z') / n = sigma2 tr(G H) / n.
        """
        g = self.optimum.factor @ self.optimum.factor.T
        weight = float(self.moments.counts.sum())
        return self._unit_variance * float((g * self.optimum.evaluation.sums.h[0]).sum()) / weight

    # ---- rows

    @cached_property
    def _predictor(self) -> FactorPredictor:
        """What the model says of rows."""
        at_center, slopes = self.centred
        return FactorPredictor(
            coordinates=self.criterion.coordinates,
            at_center=at_center,
            rest_at_center=self.rest_at_center,
            slopes=slopes,
            root=self._root,
            factor=self.optimum.factor,
            residual_variance=self._unit_variance,
            has_residual=self._has_residual,
            directions=self._tangents.directions,
            covariance_derivatives=self.covariance_derivatives[: len(self._tangents.directions)],
            effects=self.effects_in_coordinates,
            equations=self.equations,
        )

    def predict(self, X: Any, codes: np.ndarray) -> np.ndarray:
        """Return predicted means of rows, as `RowPredictor.predict` does."""
        return self._predictor.predict(X, self._codes(codes))

    def residuals(self, X: Any, codes: np.ndarray, y: np.ndarray, *, conditional: bool = True) -> np.ndarray:
        """Return y less its prediction, as `RowPredictor.residuals` does."""
        codes = self._codes(codes)
        return self._predictor.residuals(X, codes if conditional else np.full_like(codes, -1), y)

    def random_variance(self, X: Any, n_rows: int) -> np.ndarray:
        """Return the variance that the random effects of all factors give each row, in units of y squared."""
        return self._predictor.random_variance(X, n_rows)

    def prediction_variance(self, X: Any, codes: np.ndarray, *, gradient: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of predicted means of rows, and its derivatives, as `FactorPredictor` does."""
        return self._predictor.prediction_variance(X, self._codes(codes), gradient=gradient)

    def fixed_part_variance(self, X: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance x' V x of the fixed part of rows, and its derivatives."""
        return self._predictor.fixed_part_variance(X, n_rows)

    def codes_of(self, cells: Cells) -> np.ndarray:
        """Return the level of each factor in cells of the same columns of labels, of shape (n_cells, n_factors)."""
        known = self.known.cells
        of_columns = [positions(known.levels[at], labels)[cells.codes[:, at]] for at, labels in enumerate(cells.levels)]
        chosen = dict(zip(known.names, of_columns, strict=True))
        groupings = self.options.groupings.values()
        return np.column_stack([known.encode(names, [chosen[name] for name in names]) for names in groupings])

    def _codes(self, codes: np.ndarray) -> np.ndarray:
        """Return the codes of rows with a column for each factor; one column stands for all."""
        if codes.ndim == 2:
            return codes
        return np.broadcast_to(codes[:, None], (len(codes), len(self.factor_names))).copy()


def _minimise(criterion: FactorCriterion) -> MixedOptimum:
    """Return the optimum, or one without a bound if some covariance leaves no residual."""
    far = None
    if criterion.few_rows and criterion.leaves_nothing:
        # Searches from moderate variances need not go to where the residual vanishes.
        far = minimise_mixed(criterion, criterion.far_starts())
        if far.best.outcome is Outcome.UNBOUNDED:
            return far
    optimum = minimise_mixed(criterion)
    if optimum.best.outcome is Outcome.UNBOUNDED and not criterion.leaves_nothing:
        # The residual is small beside the random effects, but not 0.
        optimum = minimise_mixed(criterion.taken_for_bounded())
    return optimum if far is None or optimum.best.value <= far.best.value else far


@dataclass(frozen=True, eq=False)
class FactorView:
    """Shows what a model of several factors says of one of them, with the members of the record of one factor.

    Attributes
    ----------
    fit : FactorFit
        The fit record.
    position : int
        Position of the factor.
    """

    fit: FactorFit
    position: int

    def __getattr__(self, name: str) -> Any:
        # What does not depend on the factor is what the whole model says.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.fit, name)

    @property
    def group_name(self) -> str:
        """Name of the factor."""
        return self.fit.factor_names[self.position]

    @property
    def labels(self) -> pd.Index:
        """Labels of its levels."""
        return self.fit._levels[self.position][1]

    @property
    def random_terms(self) -> Sequence[RandomTerm]:
        """Its random terms."""
        return [term for term in self.fit.random_terms if term.factor == self.group_name]

    @property
    def options(self) -> MixedOptions:
        """The parameters of the model, with the terms of this factor."""
        return replace(self.fit.options, terms=tuple(self.random_terms))

    @property
    def positions(self) -> list[int]:
        """Positions of its random coefficients."""
        return list(self.fit.criterion.factors[self.position].coefficients)

    @property
    def icc(self) -> float | None:
        """The share of the variance, if only its intercept varies, and nothing but intercepts of other factors."""
        if set(self.fit.options.coefficients) != {INTERCEPT}:
            return None
        fit = self.fit
        total = fit.residual_variance + float(fit.random_covariance.trace())
        return float(self.random_covariance[0, 0]) / total if total > 0 else float("nan")

    @property
    def random_covariance(self) -> Floats:
        """Covariance of its random coefficients, in units of y squared."""
        at = self.positions
        return np.asarray(self.fit.random_covariance[np.ix_(at, at)])

    @property
    def fixed_parts(self) -> np.ndarray:
        """The fixed effect of the column of each of its coefficients, 0 if there is none."""
        return np.asarray(self.fit.fixed_parts[self.positions])

    @property
    def _turn(self) -> Floats:
        """The matrix that takes its effects in the coordinates to effects of the columns, with the intercept at 0."""
        columns = list(self.fit.criterion.coordinates.factor_columns[self.position])
        return np.asarray(self.fit.turn_from_origin[np.ix_(self.positions, columns)])

    @cached_property
    def random_effects(self) -> np.ndarray:
        """Empirical-Bayes estimates of its random coefficients, of shape (n_levels, n_random)."""
        return np.asarray(self.fit.effects_in_coordinates[self.position] @ self._turn.T)

    def predict(self, X: Any, codes: np.ndarray) -> np.ndarray:
        """Return predicted means of rows in levels of this factor, without the effects of others."""
        all_codes = np.full((len(codes), len(self.fit.factor_names)), MISSING)
        all_codes[:, self.position] = codes
        return self.fit.predict(X, all_codes)

    @cached_property
    def conditional_covariances(self) -> Floats:
        """Covariance of its random coefficients in each level, given fixed effects and variances (lme4's condVar)."""
        in_coordinates = self.fit.equations.conditional[self.position]
        return np.asarray(self.fit._unit_variance * (self._turn @ in_coordinates @ self._turn.T))

    @cached_property
    def reliabilities(self) -> np.ndarray:
        """1 less the conditional variance over the variance of each effect, if only the intercept varies."""
        variance = self.random_covariance[0, 0]
        return np.asarray(1.0 - self.conditional_covariances[:, 0, 0] / variance if variance > 0 else 0.0 * self.labels.size)

    @cached_property
    def known(self) -> Scatter:
        """The record of the known rows, with the levels of the factor as its groups."""
        codes, labels = self.fit._levels[self.position]
        cells = self.fit.known
        return merged_groups(Scatter(cells.moments, cells.slopes, cells.factors, cells.rest), codes, labels)

    @property
    def moments(self) -> Moments:
        """Moments of the rows of the levels."""
        return self.known.moments

    @property
    def predictors(self) -> Moments:
        """Moments of the columns that have fixed effects, and of y."""
        return self.moments.of_columns(range(self.fit.predictors.n_features))

    @property
    def weights_of_groups(self) -> np.ndarray:
        """The total weight of the known rows of each level."""
        return self.known.moments.counts

    def group_sizes(self, moments: Moments | None = None) -> np.ndarray:
        """Return the number of rows of each level, or the total weight if weights are frequencies."""
        return self.fit.group_sizes(self.known.moments if moments is None else moments)

    @property
    def random_variances(self) -> tuple[float, float]:
        """The mean over the rows of the variance that its effects give."""
        return 0.0, self.fit.random_variances_of_factors[self.group_name]
