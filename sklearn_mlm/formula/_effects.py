"""The coefficients of a model as combinations of the effects of each level of each factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._coding import CodedTerm, ModelMatrix
from ._variables import Variable

# Least squares leave no more than this of an indicator that the columns span.
_SPANNED = 1e-9


@dataclass(frozen=True, eq=False)
class IndicatorEffects:
    """Stores how a model is written with an indicator for each level of each factor, which has more columns than it needs.

    X_indicator = X A, where X is the model matrix; so the mean is X beta with beta = A theta for effects theta of the
    levels.

    Attributes
    ----------
    matrix : ndarray of shape (n_coefficients, n_effects)
        A.
    reference : ndarray of shape (n_coefficients,)
        Positions of the effects that are the columns of the model if its factors are coded by differences from the first
        level, with the levels sorted, so that the order in which a user has put them makes no difference.
    """

    matrix: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class _Placed:
    """A term with the positions of its coefficients, by variable; -1 for columns that are left out."""

    term: CodedTerm
    positions: np.ndarray

    def of_numbers(self, combination: tuple[int, ...]) -> np.ndarray:
        """Return the positions of the columns of one combination of columns of numbers; the first factor is fastest."""
        numbers = iter(combination)
        index = tuple(slice(None) if variable.is_factor else next(numbers) for variable in self.term.variables)
        return np.asarray(self.positions[index]).ravel(order="F")


def indicator_effects(matrix: ModelMatrix) -> IndicatorEffects:
    """Return how a model is written with an indicator for each level of each factor."""
    first = int(matrix.intercept)
    n_coefficients = first + len(matrix.names)
    placed = ([_Placed(CodedTerm((), ()), np.array(0))] if matrix.intercept else []) + [
        _Placed(term, _positions(term, first + at.start)) for term, at in matrix.slices()
    ]
    blocks, reference = [], np.full(n_coefficients, -1)
    n_effects = 0
    for one in placed:
        factors = one.term.factors
        n_cells = int(np.prod([len(factor.texts) for factor in factors], initial=1))
        widths = tuple(n for n, variable in zip(one.term.shape, one.term.variables, strict=True) if not variable.is_factor)
        beside, cells = _spanning(one, placed)
        for combination in np.ndindex(widths):
            block = np.zeros((n_coefficients, n_cells))
            places = np.concatenate([other.of_numbers(combination) for other in beside])
            block[places[places >= 0]] = cells[places >= 0]
            blocks.append(block)
            own = one.of_numbers(combination)
            of_level = _levels_of_columns(one.term)
            reference[own[own >= 0]] = n_effects + of_level[own >= 0]
            n_effects += n_cells
    return IndicatorEffects(np.hstack(blocks) if blocks else np.zeros((0, 0)), reference)


def _positions(term: CodedTerm, start: int) -> np.ndarray:
    """Return the positions of the coefficients of a term, of the shape that its variables give it."""
    n_columns = int(np.prod(term.shape))
    positions = np.full(n_columns, -1)
    kept = np.arange(n_columns) if term.kept is None else np.array(term.kept, dtype=np.intp)
    positions[kept] = start + np.arange(len(kept))
    return positions.reshape(term.shape, order="F")


def _spanning(one: _Placed, placed: list[_Placed]) -> tuple[list[_Placed], np.ndarray]:
    """Return the terms whose columns give the indicators of the cells of a term, and the combinations that do."""
    numbers = {variable.name for variable in one.term.numbers}
    same = [other for other in placed if {variable.name for variable in other.term.numbers} == numbers]
    own = {factor.name for factor in one.term.factors}
    within = [other for other in same if {factor.name for factor in other.term.factors} <= own]
    for beside in (within, same):
        every = {factor.name: factor for other in (one, *beside) for factor in other.term.factors}
        factors = list(every.values())
        columns = np.hstack([other.term.on_cells(factors) for other in beside])
        indicators = CodedTerm(one.term.factors, (True,) * len(own)).on_cells(factors)
        used = np.concatenate([other.of_numbers((0,) * len(other.term.numbers)) for other in beside]) >= 0
        found = np.zeros((len(used), indicators.shape[1]))
        found[used] = np.linalg.lstsq(columns[:, used], indicators, rcond=None)[0]
        found[np.abs(found) < _SPANNED] = 0.0
        if np.abs(columns @ found - indicators).max(initial=0.0) < _SPANNED or beside is same:
            break
    return beside, found


def _levels_of_columns(term: CodedTerm) -> np.ndarray:
    """Return, for each column of the factors of a term, the cell whose indicator it is if contrasts are differences."""
    own = [
        (_sorted_levels(variable), full)
        for variable, full in zip(term.variables, term.full, strict=True)
        if variable.is_factor
    ]
    if not own:
        return np.zeros(1, dtype=np.intp)
    axes = [order if full else order[1:] for order, full in own]
    cells = np.meshgrid(*axes, indexing="ij")
    shape = tuple(len(order) for order, _ in own)
    return np.asarray(np.ravel_multi_index([axis.ravel(order="F") for axis in cells], shape, order="F"))


def _sorted_levels(variable: Variable) -> np.ndarray:
    """Return the positions of the levels of a factor in ascending order, or in the order that they have if there is none."""
    levels = list(variable.levels if variable.levels is not None else [])
    try:
        return np.array(sorted(range(len(levels)), key=lambda at: levels[at]), dtype=np.intp)
    except TypeError:
        return np.arange(len(levels))
