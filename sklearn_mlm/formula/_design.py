"""`Design`: what a formula has learnt from the rows of a fit, and the rows of its model matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from .._inputs import warn_caller
from ..likelihood._random_terms import INTERCEPT, RandomTerm
from ._coding import ModelMatrix, model_matrix_of
from ._columns import DataColumn, labels_of, read_column, with_used_levels
from ._effects import IndicatorEffects, indicator_effects
from ._parsing import Expression, ParsedFormula, RandomPart, TermList, names_in_python
from ._variables import Evaluator, Values


@dataclass(frozen=True)
class GridColumn:
    """Stores what a reference grid needs of a column of the data that the fixed part uses.

    Attributes
    ----------
    levels : pandas.Index or None
        The levels, if its values are levels of a factor; None for numbers.
    mean : float
        The mean of numbers over the rows of the fit.
    sd : float
        Their standard deviation.
    kind : {"number", "logical", "factor"}
        What the values are.
    """

    levels: pd.Index | None
    mean: float
    sd: float
    kind: str


@dataclass(frozen=True, eq=False)
class Design:
    """Stores what a formula has learnt from the rows of a fit; it computes the model matrix of any rows.

    Attributes
    ----------
    formula : str
        The formula.
    data_name : str or None
        Name of the data.
    n_dropped : int
        Number of rows that were dropped because a value was missing.
    parsed : ParsedFormula
        The parts of the formula.
    evaluator : Evaluator
        The variables.
    fixed : ModelMatrix
        The fixed part.
    random : tuple of ModelMatrix
        The coefficients of each random term.
    random_terms : tuple of RandomTerm
        The random terms, in terms of columns of the model matrices.
    grid : dict of str to GridColumn
        The columns of the data that the fixed part uses.
    cells : pandas.DataFrame
        The combinations of levels that the rows of the fit have, a column for each factor of the grid, and their number of
        rows, "count".
    """

    formula: str
    data_name: str | None
    n_dropped: int
    parsed: ParsedFormula
    evaluator: Evaluator
    fixed: ModelMatrix
    random: tuple[ModelMatrix, ...]
    random_terms: tuple[RandomTerm, ...]
    grid: dict[str, GridColumn]
    cells: pd.DataFrame

    @property
    def names(self) -> list[str]:
        """Names of the fixed effects, the intercept first if there is one."""
        return [INTERCEPT] * self.fixed.intercept + list(self.fixed.names)

    @property
    def random_only(self) -> tuple[str, ...]:
        """Names of the columns that have random coefficients, but no fixed effects."""
        fixed = set(self.fixed.names)
        return tuple(dict.fromkeys(name for term in self.random_terms for name in term.columns if name not in fixed))

    @property
    def groupings(self) -> tuple[tuple[str, ...], ...]:
        """The columns whose values are the groups of each grouping factor."""
        return groupings_of(self.parsed.random)

    @property
    def several(self) -> bool:
        """Whether there are several grouping factors."""
        return len(self.groupings) > 1

    @property
    def factor(self) -> tuple[str, ...]:
        """The columns whose values are the groups, of all grouping factors."""
        return tuple(dict.fromkeys(name for grouping in self.groupings for name in grouping))

    @property
    def factors_in_words(self) -> str:
        """The grouping factors."""
        return " and ".join(map(":".join, self.groupings))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the data that a prediction needs, without those of the groups."""
        return tuple(dict.fromkeys(name for one in self._expressions for name in one.columns))

    @property
    def _expressions(self) -> list[Any]:
        """The variables of the fixed and random parts, and the offsets."""
        return [*self.parsed.expressions.values(), *self.parsed.offsets]

    @property
    def terms(self) -> list[tuple[str, np.ndarray, tuple[str, ...], tuple[str, ...]]]:
        """Label, positions of the coefficients, factors and numbers of each term but the intercept."""
        first = int(self.fixed.intercept)
        return [
            (
                term.label,
                np.arange(first + at.start, first + at.stop),
                tuple(variable.name for variable in term.factors),
                tuple(variable.name for variable in term.numbers),
            )
            for term, at in self.fixed.slices()
        ]

    @cached_property
    def indicator_effects(self) -> IndicatorEffects:
        """The coefficients as combinations of the effects of each level of each factor."""
        return indicator_effects(self.fixed)

    @property
    def factors(self) -> dict[str, tuple[tuple[str, ...], str]]:
        """Levels and name of the contrasts of each factor."""
        used = dict.fromkeys(name for part in (self.fixed, *self.random) for name in part.variables)
        variables = [self.evaluator.variables[name] for name in used]
        return {one.name: (one.texts, one.contrasts) for one in variables if one.is_factor}

    @property
    def columns_of_variables(self) -> dict[str, tuple[str, ...]]:
        """The columns of the data that each variable of the fixed part uses."""
        return {name: self.evaluator.variables[name].columns for name in self.fixed.variables}

    def predictors(self, values: Values) -> Any:
        """Return the columns of the fixed part, without the intercept, and then those with random coefficients only."""
        fixed, more = self.fixed.columns(values), self.random_only
        if not more:
            return fixed
        found = {}
        # Independent coefficients share the matrix of their term.
        for part in dict.fromkeys(self.random):
            if not set(part.names) & set(more):
                continue
            columns = part.columns(values)
            for at, name in enumerate(part.names):
                found[name] = columns[:, [at]]
        parts = [*([] if fixed is None else [fixed]), *(found[name] for name in more)]
        if any(sparse.issparse(part) for part in parts):
            return sparse.csr_array(sparse.hstack(list(map(sparse.csr_array, parts)), format="csr"))
        return np.hstack(parts)

    def values(self, columns: Mapping[str, DataColumn], n_rows: int) -> Values:
        """Return the values of all variables but the outcome."""
        return self.evaluator.values(columns, [one.name for one in self._expressions], n_rows)

    def offset(self, values: Values) -> np.ndarray | float:
        """Return the sum of the offsets; 0 if there are none."""
        total: np.ndarray | float = 0.0
        for one in self.parsed.offsets:
            found = values.of[one.name]
            if found.ndim == 1 or found.shape[1] != 1:
                raise ValueError(f"{one.name} must be one column of numbers: it is a factor, or has several columns.")
            total = total + found[:, 0]
        return total

    def values_of_offset(self, columns: Mapping[str, DataColumn], n_rows: int) -> Values:
        """Return the values of the offsets."""
        return self.evaluator.values(columns, [one.name for one in self.parsed.offsets], n_rows)

    def values_of_response(self, columns: Mapping[str, DataColumn], n_rows: int) -> Values:
        """Return the values of the left side."""
        response = self.parsed.response
        return self.evaluator.values(columns, [] if response is None else [response.name], n_rows)

    def response(self, values: Values) -> np.ndarray:
        """Return the outcome."""
        if self.parsed.response is None:
            raise AssertionError("a formula without a left side has no outcome")
        name = self.parsed.response.name
        of_response = values.of[name]
        if self.evaluator.variables[name].logical:
            raise ValueError(f"The outcome {name} holds truth values: make it a column of numbers, 0 and 1.")
        if of_response.ndim == 1 or of_response.shape[1] != 1:
            raise ValueError(
                f"The left side of the formula must be one column of numbers; {name} is a factor, or has several."
            )
        return np.asarray(of_response[:, 0])

    def rows(self, data: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of the model matrix of the fixed part, the intercept included, and the offset of these rows."""
        columns = {name: read_column(data, name) for name in self.grid}
        return self.rows_of(columns, len(data)), np.broadcast_to(
            self.offset(self.values_of_offset(columns, len(data))), len(data)
        )

    def value_of(self, variable: str, data: pd.DataFrame) -> np.ndarray:
        """Return the values of a variable of numbers in rows; raise if it is a factor, or has several columns."""
        columns = {name: read_column(data, name) for name in self.evaluator.variables[variable].columns}
        found = self.evaluator.values(columns, [variable], len(data)).of[variable]
        if found.ndim == 1 or found.shape[1] != 1:
            raise ValueError(f"{variable!r} is a factor, or has several columns: name a column of numbers.")
        return np.asarray(found[:, 0])

    def rows_of(self, columns: Mapping[str, DataColumn], n_rows: int) -> np.ndarray:
        """Return rows of the model matrix of the fixed part, the intercept included."""
        matrix = self.fixed.columns(self.evaluator.values(columns, self.fixed.variables, n_rows))
        intercept = np.ones((n_rows, int(self.fixed.intercept)))
        dense = matrix.toarray() if sparse.issparse(matrix) else matrix
        return intercept if dense is None else np.hstack([intercept, dense])

    def labels(self, data: Any) -> pd.Series | pd.DataFrame:
        """Return the group label of each row; if there are several factors, a frame of their columns of labels."""
        if self.several:
            return pd.DataFrame({name: labels_of(data, (name,)) for name in self.factor})
        return labels_of(data, self.factor)


def learn_design(
    parsed: ParsedFormula,
    columns: Mapping[str, DataColumn],
    all_columns: Sequence[str],
    *,
    n_rows: int,
    contrasts: Mapping[str, Any] | None = None,
    weights: np.ndarray | None = None,
    data_name: str | None = None,
    n_dropped: int = 0,
) -> tuple[Design, Values]:
    """Return the design that a formula gives for complete rows, and the values of all of its variables there.

    Parameters
    ----------
    parsed : ParsedFormula
        The parts of the formula.
    columns : mapping of str to DataColumn
        The columns that it needs, without missing values.
    all_columns : sequence of str
        Names of all columns of the data.
    n_rows : int
        Number of rows.
    contrasts : mapping of str to str or Contrasts, default=None
        Contrasts of factors by name.
    weights : ndarray of shape (n_samples,) or None, default=None
        How many copies each row stands for.
    data_name : str or None, default=None
        Name of the data.
    n_dropped : int, default=0
        Number of rows that were left out.

    Returns
    -------
    design : Design
        The design.
    values : Values
        The values of the variables, those of the outcome and the offsets included.
    """
    columns = {name: with_used_levels(column) for name, column in columns.items()}
    response = [] if parsed.response is None else [parsed.response]
    expressions = [*parsed.expressions.values(), *parsed.offsets, *response]
    evaluator = Evaluator(expressions, columns, names_in_python(all_columns), contrasts or {})
    _check_contrasts(contrasts or {}, evaluator, parsed)
    fixed = model_matrix_of(parsed.fixed, evaluator.variables, without_redundant=True)
    groupings = groupings_of(parsed.random)
    blocks = [block for part in parsed.random for block in _blocks(part, evaluator, groupings)]
    _check_names([fixed, *(matrix for _, matrix in blocks)])
    _check_once(parsed, blocks)
    values = evaluator.values_of_fit(columns, n_rows)
    grid, cells = _reference(fixed, parsed.offsets, evaluator, columns, values, weights)
    design = Design(
        parsed.text.text.strip(),
        data_name,
        n_dropped,
        parsed,
        evaluator,
        fixed,
        tuple(matrix for _, matrix in blocks),
        tuple(term for term, _ in blocks),
        grid,
        cells,
    )
    return design, values


def groupings_of(parts: Sequence[RandomPart]) -> tuple[tuple[str, ...], ...]:
    """Return the columns of each grouping factor; the same columns in another order are the same factor."""
    found: dict[frozenset[str], tuple[str, ...]] = {}
    for part in parts:
        found.setdefault(frozenset(part.factors), part.factors)
    return tuple(found.values())


def _blocks(
    part: RandomPart, evaluator: Evaluator, groupings: tuple[tuple[str, ...], ...]
) -> list[tuple[RandomTerm, ModelMatrix]]:
    """Return the random terms of correlated coefficients that a term ``( | )`` or ``( || )`` stands for.

    "||" makes columns of numbers independent, each with a variance of its own. The levels of a factor stay correlated, as in
    lme4: independent columns would depend on the choice of the first level. An intercept beside them adds nothing, because a
    common variance can be moved between the two, and is left out.
    """
    # The columns in another order are the same factor.
    grouping = next(each for each in groupings if set(each) == set(part.factors))
    factor, several = ":".join(grouping), len(groupings) > 1

    def term_of(intercept: bool, names: tuple[str, ...]) -> RandomTerm:
        # The labels of a single factor are tuples already.
        return RandomTerm.of_grouping(grouping, intercept, names) if several else RandomTerm(factor, intercept, names)

    given = part.coefficients
    if part.correlated:
        matrix = model_matrix_of(given, evaluator.variables)
        return [(term_of(matrix.intercept, matrix.names), matrix)]
    blocks = []
    with_factors = [term for term in given.terms if any(evaluator.variables[one.name].is_factor for one in term)]
    if given.intercept and not with_factors:
        blocks.append((term_of(True, ()), ModelMatrix(True, ())))
    for term in given.terms:
        matrix = model_matrix_of(TermList(False, (term,)), evaluator.variables)
        if term in with_factors:
            blocks.append((term_of(False, matrix.names), matrix))
        else:
            blocks += [(term_of(False, (name,)), matrix) for name in matrix.names]
    if with_factors:
        label = ":".join(one.name for one in with_factors[0])
        warn_caller(
            f"{part.text} is fitted with correlated coefficients of the levels of {label}, as (0 + {label} | {factor}): a "
            f"variance for each coefficient would depend on which level comes first. (1 | {factor}) + (1 | "
            f"{factor}:{label}) gives all levels one variance, and columns of 0 and 1 of your own, joined by ||, "
            f"a variance each.",
        )
    return blocks


def _check_names(matrices: Sequence[ModelMatrix]) -> None:
    """Raise if two different columns, or terms of the fixed part, have the same name."""
    labels = [term.label for term in matrices[0].terms]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    keys: dict[str, Any] = {}
    for matrix in matrices:
        for term in matrix.terms:
            for name, key in zip(term.names, term.keys, strict=True):
                if keys.setdefault(name, key) != key:
                    twice = name
    if twice is not None:
        raise ValueError(
            f"Two different columns of the model would be called {twice!r}. Rename a column of the data, or a level, so "
            "that they can be told apart."
        )


def _check_once(parsed: ParsedFormula, blocks: Sequence[tuple[RandomTerm, ModelMatrix]]) -> None:
    """Raise if a coefficient varies in two terms of one factor, or is constant within its groups by definition."""
    seen: dict[tuple[str, str], RandomTerm] = {}
    for term, _ in blocks:
        for name in term.coefficients:
            key = term.factor, name
            if key in seen:
                raise parsed.text.error(
                    f"{name} varies between the groups of {term.factor} in two terms, {seen[key]} and {term}, and only the "
                    "sum of its two variances is identified: leave it out of one of them (0 for the intercept)",
                    parsed.random[-1].at,
                )
            seen[key] = term


def _check_contrasts(contrasts: Mapping[str, Any], evaluator: Evaluator, parsed: ParsedFormula) -> None:
    """Raise if contrasts are given for what is not a factor of the formula."""
    factors = {one.name for one in evaluator.variables.values() if one.is_factor}
    factors |= {one.columns[0] for one in evaluator.variables.values() if one.is_factor}
    unknown = [name for name in contrasts if name not in factors]
    if unknown:
        raise ValueError(
            f"contrasts names {', '.join(map(repr, unknown))}, which no factor of {parsed.text.text!r} is called. The "
            f"factors are {', '.join(map(repr, sorted(factors))) or 'none'}."
        )


def _reference(
    fixed: ModelMatrix,
    offsets: Sequence[Expression],
    evaluator: Evaluator,
    columns: Mapping[str, DataColumn],
    values: Values,
    weights: np.ndarray | None,
) -> tuple[dict[str, GridColumn], pd.DataFrame]:
    """Return what a reference grid needs of each column of the fixed part, and the combinations of levels in the rows."""
    variables = [evaluator.variables[name] for name in dict.fromkeys((*fixed.variables, *(one.name for one in offsets)))]
    grid: dict[str, GridColumn] = {}
    codes: dict[str, np.ndarray] = {}
    for variable in variables:
        for name in variable.columns:
            column = columns[name]
            if variable.is_factor and column.levels is None and not variable.computed:
                levels = variable.levels
                codes[name] = values.of[variable.name]
            elif name in grid and grid[name].levels is not None:
                continue
            elif column.levels is not None:
                levels, codes[name] = column.levels, column.entries
            else:
                levels = None
            mean, spread = np.nan, np.nan
            if levels is None:
                # Infinity is refused when the rows are read.
                with np.errstate(invalid="ignore"):
                    mean = float(np.average(column.entries, weights=weights))
                    spread = float(np.std(column.entries))
            grid[name] = GridColumn(levels, mean, spread, column.kind)
    return grid, _cells(codes, {name: grid[name].levels for name in codes}, weights)


def _cells(codes: Mapping[str, np.ndarray], levels: Mapping[str, Any], weights: np.ndarray | None) -> pd.DataFrame:
    """Return the combinations of levels that some rows have, and their number of rows, or of copies of rows."""
    if not codes:
        return pd.DataFrame({"count": []})
    names = list(codes)
    cells, found = np.zeros(len(codes[names[0]]), dtype=np.intp), [()]
    for name in names:
        n_levels = len(levels[name])
        cells, pairs = pd.factorize(cells * n_levels + codes[name])
        found = [(*found[pair // n_levels], pair % n_levels) for pair in pairs]
    counts = np.bincount(cells, weights=weights, minlength=len(found))
    table = pd.DataFrame({name: levels[name].take([one[at] for one in found]) for at, name in enumerate(names)})
    return table.assign(count=counts)
