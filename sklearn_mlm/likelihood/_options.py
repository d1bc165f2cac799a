"""`Options` and `MixedOptions`: the parameters of a model on which its estimates depend, as they were in `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._typing import Method, Solver, WeightType
from ..moments._cell_scatter import CellScatter
from ..moments._cells import Cells
from ..moments._grouped_moments import GroupedMoments
from ..moments._scatter import Scatter
from ._criterion import Criterion
from ._factor_coordinates import Factor
from ._factor_criterion import FactorCriterion
from ._group_factors import RandomDesign
from ._iterative_criterion import IterativeCriterion
from ._mixed_criterion import MixedCriterion
from ._random_terms import INTERCEPT, RandomTerm


@dataclass(frozen=True)
class Options:
    """Stores the parameters of a model on which its estimates depend, as they were in `fit`.

    Attributes
    ----------
    method : {"reml", "ml"}
        Restricted or full maximum likelihood.
    fit_intercept : bool
        Whether the model has a fixed intercept.
    weight_type : {"frequency", "precision"}
        Whether a weight counts copies of its row or divides its residual variance.
    """

    method: Method = "reml"
    fit_intercept: bool = True
    weight_type: WeightType = "frequency"

    def criterion(self, moments: GroupedMoments, reml: bool | None = None) -> Criterion:
        """Return the criterion of moments; `reml` takes precedence over `method`."""
        return Criterion(
            moments,
            fit_intercept=self.fit_intercept,
            reml=self.method == "reml" if reml is None else reml,
            precision_weights=self.weight_type == "precision",
        )


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
    solver : {"direct", "iterative"}
        How a model of several factors is computed.
    """

    terms: tuple[RandomTerm, ...]
    method: Method = "reml"
    fit_intercept: bool = True
    weight_type: WeightType = "frequency"
    n_random_only: int = 0
    solver: Solver = "direct"

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the random coefficients."""
        return tuple(name for term in self.terms for name in term.coefficients)

    def without(self, coefficients: set[tuple[int, str]]) -> MixedOptions:
        """Return the parameters without some random coefficients, each given by the position of its term and its name."""
        left = []
        for at, term in enumerate(self.terms):
            intercept = term.intercept and (at, INTERCEPT) not in coefficients
            columns = tuple(column for column in term.columns if (at, column) not in coefficients)
            if intercept or columns:
                left.append(replace(term, intercept=intercept, columns=columns))
        return replace(self, terms=tuple(left))

    @property
    def groupings(self) -> dict[str, tuple[str, ...]]:
        """The columns of labels of each factor, by its name, in the order of the terms."""
        return {term.factor: term.label_columns for term in self.terms}

    def factors(self, cells: Cells) -> tuple[Factor, ...]:
        """Return the factors, with the level of each cell."""
        found = []
        for name, columns in self.groupings.items():
            codes, labels = cells.labels_of(columns)
            at, mine = 0, []
            for term in self.terms:
                size = len(term.coefficients)
                mine += list(range(at, at + size)) if term.factor == name else []
                at += size
            found.append(Factor(name, codes, len(labels), tuple(mine)))
        return tuple(found)

    def design(self, names: Sequence[str]) -> RandomDesign:
        """Return which columns have random coefficients, by the names of all columns."""
        columns: list[int | None] = []
        blocks = []
        for term in self.terms:
            here = [None] * term.intercept + [list(names).index(name) for name in term.columns]
            blocks.append(tuple(range(len(columns), len(columns) + len(here))))
            columns += here
        return RandomDesign(tuple(columns), tuple(blocks))

    def criterion(self, scatter: Scatter, reml: bool | None = None) -> MixedCriterion | FactorCriterion:
        """Return the criterion of a record; `reml` takes precedence over `method`."""
        moments = scatter.moments
        design = self.design(moments.shown_names)
        parameters: dict[str, Any] = {
            "fit_intercept": self.fit_intercept,
            "n_predictors": moments.n_features - self.n_random_only,
            "reml": self.method == "reml" if reml is None else reml,
            "precision_weights": self.weight_type == "precision",
        }
        if isinstance(scatter, CellScatter):
            kind = IterativeCriterion if self.solver == "iterative" else FactorCriterion
            return kind(scatter, design, self.factors(scatter.cells), **parameters)
        return MixedCriterion(scatter, design, **parameters)
