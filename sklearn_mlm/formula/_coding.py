"""Columns of the model matrix: how R codes the factors of each term, and the columns of terms in any rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from scipy import sparse

from ..likelihood._linalg import independent_columns
from ._contrasts import MANY_LEVELS
from ._parsing import TermList
from ._variables import Values, Variable

# A matrix is sparse if a term with many columns has no more than this share of entries that are not 0.
_FEW = 0.1
# Models with more combinations of levels than this keep columns that depend on others, which the fit then drops.
_CELLS = 10_000


@dataclass(frozen=True, eq=False)
class CodedTerm:
    """Stores a term of the model with the coding of its factors.

    Attributes
    ----------
    variables : tuple of Variable
        The variables whose product the term is.
    full : tuple of bool
        For each variable, whether it is a factor that is coded by an indicator of each level, rather than by contrasts.
    kept : tuple of int or None
        Positions of the columns that are left; None if all are. The others depend on earlier ones whatever the data are.
    """

    variables: tuple[Variable, ...]
    full: tuple[bool, ...]
    kept: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        """The term as R writes it."""
        return ":".join(variable.name for variable in self.variables)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of its columns; the first variable changes fastest."""
        parts = [variable.names(full) for variable, full in zip(self.variables, self.full, strict=True)]
        names = [":".join(reversed(combination)) for combination in product(*reversed(parts))]
        return tuple(names if self.kept is None else [names[at] for at in self.kept])

    @cached_property
    def keys(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """What its columns are: for each variable its name, and its level or the suffix of its column."""
        parts = []
        for variable, full in zip(self.variables, self.full, strict=True):
            indicators = variable.is_factor and (full or variable.treatment)
            ends = variable.texts[0 if full else 1 :] if indicators else variable.suffixes
            parts.append([(variable.name, f"{'level' if indicators else 'column'} {end}") for end in ends])
        keys = [tuple(reversed(combination)) for combination in product(*reversed(parts))]
        return tuple(keys if self.kept is None else [keys[at] for at in self.kept])

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of columns of each variable."""
        return tuple(len(variable.names(full)) for variable, full in zip(self.variables, self.full, strict=True))

    @property
    def factors(self) -> tuple[Variable, ...]:
        """The variables that are factors."""
        return tuple(variable for variable in self.variables if variable.is_factor)

    @property
    def numbers(self) -> tuple[Variable, ...]:
        """The variables that are numbers."""
        return tuple(variable for variable in self.variables if not variable.is_factor)

    @property
    def is_wide(self) -> bool:
        """Whether the term has many columns, nearly all of which are 0 in a row."""
        filled = 1.0
        for variable, full in zip(self.variables, self.full, strict=True):
            if variable.is_factor:
                coding = sparse.csr_array(variable.matrix(full))
                filled *= coding.nnz / float(np.prod(coding.shape))
        return len(self.names) > MANY_LEVELS and filled < _FEW

    def write(self, values: Values, out: np.ndarray) -> None:
        """Write its columns, of shape (n_rows, n_columns), to an array whose columns are contiguous."""
        if self.kept is not None:
            every = np.empty((values.n_rows, int(np.prod(self.shape))), order="F")
            replace(self, kept=None).write(values, every)
            out[:] = every[:, list(self.kept)]
            return
        width = 0
        for variable, full, n_columns in zip(self.variables, self.full, self.shape, strict=True):
            own = values.of[variable.name]
            coding = _in_full(variable.matrix(full)).T.copy() if variable.is_factor else None
            # The first variable changes fastest. Its columns are the last to be overwritten by products with the next one.
            for at in reversed(range(n_columns)):
                column = own[:, at] if coding is None else np.take(coding[at], own, mode="clip")
                if not width:
                    out[:, at] = column
                for before in range(width):
                    np.multiply(out[:, before], column, out=out[:, at * width + before])
            width = max(width, 1) * n_columns

    def sparse(self, values: Values) -> sparse.csr_array:
        """Return its columns as a sparse matrix."""
        n_rows = values.n_rows
        columns = sparse.csr_array(np.ones((n_rows, 1)))
        for variable, full in zip(self.variables, self.full, strict=True):
            own = values.of[variable.name]
            rows = sparse.csr_array(variable.matrix(full))[own] if variable.is_factor else sparse.csr_array(own)
            columns = rows if variable is self.variables[0] else _sparse_products(columns, rows)
        return columns if self.kept is None else columns[:, list(self.kept)]

    def on_cells(self, factors: Sequence[Variable]) -> np.ndarray:
        """Return its columns for all combinations of levels of some factors, its own among them, with numbers of 1.

        The first factor changes fastest, and only one column of each variable of numbers is there; the shape is (n_cells,
        n_columns).
        """
        cells = grid_of([len(factor.texts) for factor in factors])
        columns = np.ones((len(cells), 1))
        place = {factor.name: at for at, factor in enumerate(factors)}
        for variable, full in zip(self.variables, self.full, strict=True):
            if variable.is_factor:
                columns = _products(columns, _in_full(variable.matrix(full)[cells[:, place[variable.name]]]))
        return columns


def _in_full(matrix: Any) -> np.ndarray:
    """Return a matrix as an array."""
    return np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix)


def _products(columns: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the products of the columns of two matrices; those of the first change fastest."""
    return np.asarray((own[:, :, None] * columns[:, None, :]).reshape(len(own), -1))


def _sparse_products(columns: sparse.csr_array, own: sparse.csr_array) -> sparse.csr_array:
    """Return the products of the columns of two sparse matrices; those of the first change fastest."""
    width = columns.shape[1]
    parts = [columns.multiply(own[:, [at]]) for at in range(own.shape[1])] if own.shape[1] <= MANY_LEVELS else None
    if parts is not None:
        return sparse.csr_array(sparse.hstack(parts, format="csr"))
    # Each row of the wide matrix has few entries: each of them moves a copy of the row of the other.
    entries = own.tocoo()
    picked = columns[entries.row].tocoo()
    at = entries.col[picked.row] * width + picked.col
    shape = (own.shape[0], own.shape[1] * width)
    return sparse.csr_array((picked.data * entries.data[picked.row], (entries.row[picked.row], at)), shape=shape)


@dataclass(frozen=True, eq=False)
class ModelMatrix:
    """Stores the terms of a fixed or random part, and computes their columns.

    Attributes
    ----------
    intercept : bool
        Whether there is an intercept.
    terms : tuple of CodedTerm
        The other terms.
    """

    intercept: bool
    terms: tuple[CodedTerm, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, without the intercept."""
        return tuple(name for term in self.terms for name in term.names)

    @property
    def is_wide(self) -> bool:
        """Whether a sparse matrix suits its columns."""
        return any(term.is_wide for term in self.terms)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(dict.fromkeys(variable.name for term in self.terms for variable in term.variables))

    def columns(self, values: Values) -> Any:
        """Return the columns, without the intercept: an array, or a sparse matrix if it is wide; None if there are none."""
        if not self.terms:
            return None
        if self.is_wide:
            return sparse.csr_array(sparse.hstack([term.sparse(values) for term in self.terms], format="csr"))
        matrix = np.empty((values.n_rows, len(self.names)), order="F")
        for term, at in self.slices():
            term.write(values, matrix[:, at])
        return matrix

    def slices(self) -> Iterator[tuple[CodedTerm, slice]]:
        """Yield each term and the positions of its columns; the intercept is not counted."""
        at = 0
        for term in self.terms:
            yield term, slice(at, at + len(term.names))
            at += len(term.names)


def model_matrix_of(terms: TermList, variables: Mapping[str, Variable], *, without_redundant: bool = False) -> ModelMatrix:
    """Return terms with R's coding of their factors.

    A factor of a term is coded by contrasts if an earlier term has the other variables of the term, so that these
    differences are all that is new; if none has, by an indicator of each level. Without an intercept, the first factor of
    the first term that has one is coded by indicators. This is the rule of ``terms`` and ``model.matrix`` in R.

    Where a model leaves out main effects, columns may depend on earlier ones whatever the data are. lme4 drops them, and
    `without_redundant` leaves them out.
    """
    coded = []
    for at, names in enumerate(terms.terms):
        own = [one.name for one in names]
        full = []
        for name in own:
            others = set(own) - {name}
            earlier = not others or any(others <= {one.name for one in term} for term in terms.terms[:at])
            full.append(variables[name].is_factor and not earlier)
        coded.append(CodedTerm(tuple(variables[name] for name in own), tuple(full)))
    if not terms.intercept:
        first = next((at for at, term in enumerate(coded) if term.factors), None)
        if first is not None:
            term = coded[first]
            position = next(at for at, variable in enumerate(term.variables) if variable.is_factor)
            coded[first] = replace(term, full=(*term.full[:position], True, *term.full[position + 1 :]))
    matrix = ModelMatrix(terms.intercept, tuple(coded))
    return _without_redundant(matrix) if without_redundant else matrix


def _without_redundant(matrix: ModelMatrix) -> ModelMatrix:
    """Return the terms without columns that depend on earlier ones for all data: those of cells that others span."""
    terms = list(matrix.terms)
    for numbers in {frozenset(variable.name for variable in term.numbers) for term in terms}:
        here = [at for at, term in enumerate(terms) if {variable.name for variable in term.numbers} == numbers]
        n_full = sum(any(terms[at].full) for at in here)
        if not n_full or (n_full == 1 and len(here) == 1 and not (matrix.intercept and not numbers)):
            continue
        factors = list({variable.name: variable for at in here for variable in terms[at].factors}.values())
        if np.prod([float(len(factor.texts)) for factor in factors]) > _CELLS:
            continue
        parts = [terms[at].on_cells(factors) for at in here]
        if matrix.intercept and not numbers:
            parts.insert(0, np.ones((len(parts[0]), 1)))
        cells = np.hstack(parts)
        kept = set(independent_columns(cells.T @ cells).tolist())
        start = int(matrix.intercept and not numbers)
        for at, part in zip(here, parts[start:], strict=True):
            width = part.shape[1]
            left = [place for place in range(width) if start + place in kept]
            start += width
            if len(left) < width:
                terms[at] = replace(terms[at], kept=_with_numbers(terms[at], left))
    return replace(matrix, terms=tuple(terms))


def _with_numbers(term: CodedTerm, left: Sequence[int]) -> tuple[int, ...]:
    """Return the positions of the columns of a term whose factors are in one of some combinations."""
    shape = term.shape
    of_factors = [n if variable.is_factor else 1 for n, variable in zip(shape, term.variables, strict=True)]
    chosen = np.zeros(of_factors, dtype=bool, order="F")
    chosen[np.unravel_index(list(left), of_factors, order="F")] = True
    return tuple(np.flatnonzero(np.broadcast_to(chosen, shape).ravel(order="F")).tolist())


def grid_of(levels: Sequence[int]) -> np.ndarray:
    """Return all combinations of positions of levels, of shape (n_combinations, n_factors); the first changes fastest."""
    if not levels:
        return np.zeros((1, 0), dtype=np.intp)
    return np.stack(np.unravel_index(np.arange(int(np.prod(levels))), levels, order="F"), axis=1)
