"""Hypotheses about the terms of a formula: types I, II and III, and the terms that can be dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .._typing import FixedDesign, GroupedFit, Positions
from ._estimability import columns_of_fit, kept_and_dropped

# Entries of contrasts below this are rounding, relative to the largest.
_ROUNDING = 1e-10
_DEPENDENT = 1e-7


@dataclass(frozen=True)
class _Term:
    """Stores the label, the positions of the coefficients, and the variables of a term."""

    label: str
    positions: np.ndarray
    factors: frozenset[str]
    numbers: frozenset[str]

    @property
    def variables(self) -> frozenset[str]:
        """All variables."""
        return self.factors | self.numbers

    def is_within(self, other: _Term) -> bool:
        """Return whether the other term has all factors of this one and more, and the same numbers."""
        return self.factors < other.factors and self.numbers == other.numbers


class TermHypotheses:
    """Hypotheses about the terms of a model, as matrices L of L beta = 0.

    All of them are stated for the model whose factors are coded by differences from the first level, in the order of the
    levels, and then translated into the coefficients of the model. So they do not depend on its coding, and neither do
    Satterthwaite's degrees of freedom, which for several contrasts depend on their basis (Fai and Cornelius 1996).

    Parameters
    ----------
    fit : GroupedFit
        A fit with a formula.
    design : FixedDesign
        What the formula says.

    Notes
    -----
    A term that is contained in no other (no term has all of its factors, more, and the same numbers) is tested by its own
    coefficients. With a term that is contained in others,

    - type III takes the estimable functions of the coefficients, written as combinations of the effects of all levels of all
      factors, and makes those of the term orthogonal to those of the terms that contain it, as SAS does; if every cell has
      rows, this is the hypothesis about means that weigh all cells alike;
    - type II adds the term to all terms that do not contain it: the rows of the unit upper triangular factor of X'X, with
      the columns of these terms first;
    - type I does so with the terms in their order, each added to those before it.

    References
    ----------
    SAS Institute, SAS/STAT User's Guide, "The four types of estimable functions". The same algorithms are in the R package
    lmerTest (Kuznetsova, Brockhoff and Christensen 2017, Journal of Statistical Software 82(13)).
    """

    def __init__(self, fit: GroupedFit, design: FixedDesign):
        effects = design.indicator_effects
        self.terms = [
            _Term(label, positions, frozenset(factors), frozenset(numbers))
            for label, positions, factors, numbers in design.terms
        ]
        self._reference = effects.reference
        # beta = B beta_t for the coefficients beta_t of differences from the first level.
        self._to_own = effects.matrix[:, effects.reference]
        same = np.allclose(self._to_own, np.eye(len(self._to_own)), atol=_ROUNDING)
        self._first = int(fit.options.fit_intercept)
        columns = columns_of_fit(fit)
        if same:
            self._to_own = np.eye(len(self._to_own))
            self._effects = effects.matrix
            self._kept, self._dropped = kept_and_dropped(fit)
        else:
            columns = columns.turned(self._to_own)
            self._effects = np.linalg.solve(self._to_own, effects.matrix)
            self._kept = columns.independent()
            self._dropped = np.setdiff1d(np.arange(len(self._to_own)), self._kept)
        self._columns = columns
        self._share = columns.dependence(self._kept, self._dropped)

    def of_type(self, kind: int) -> dict[str, np.ndarray]:
        """Return the hypothesis about each term; it has no rows if none of its coefficients is estimated."""
        # A single term has one hypothesis, which lmerTest states in the form of type I.
        find = {1: self._type_1, 2: self._type_2, 3: self._type_3}[kind if len(self.terms) > 1 else 1]
        return {term.label: self._in_own(find(at, term)) for at, term in enumerate(self.terms)}

    def of_droppable_terms(self) -> dict[str, np.ndarray]:
        """Return the hypothesis that a term can be left out, for each term whose variables no other term has too."""
        found = {}
        for term in self.terms:
            if any(term.variables < other.variables for other in self.terms):
                continue
            rows = self._added_by(term) if len(self._dropped) else self._rows_of(term)
            found[term.label] = self._in_own(rows)
        return found

    def _added_by(self, term: _Term) -> np.ndarray:
        """Return what a term adds to all columns of the other terms, to those that are dropped too."""
        vectors, own = self._columns.vectors, term.positions - self._first
        others = np.setdiff1d(np.arange(vectors.shape[1]), own)
        new = self._columns.independent_among(own, others)
        left = np.linalg.lstsq(vectors[:, others], vectors[:, new], rcond=_DEPENDENT)[0] if len(others) else None
        beyond = vectors[:, new] if left is None else vectors[:, new] - vectors[:, others] @ left
        rows = np.zeros((len(new), len(self._to_own)))
        # Each row is as large as a difference of levels.
        rows[:, self._first :] = beyond.T @ vectors / (beyond**2).sum(axis=0)[:, None]
        return rows[:, self._kept]

    def _type_1(self, at: int, term: _Term) -> np.ndarray:
        """Return what the term adds to those before it."""
        return self._beyond(self.terms[:at], self.terms[at:])[: len(self._own(term))]

    def _type_2(self, at: int, term: _Term) -> np.ndarray:
        """Return what the term adds to those that do not contain it."""
        containing = [other for other in self.terms if term.is_within(other)]
        if not containing:
            return self._rows_of(term)
        others = [other for other in self.terms if other is not term and other not in containing]
        return self._beyond(others, [term, *containing])[: len(self._own(term))]

    def _type_3(self, at: int, term: _Term) -> np.ndarray:
        """Return the function of the term that is orthogonal to those of the terms that contain it."""
        rows = self._orthogonal[self._places(term)]
        some = np.abs(rows).max(axis=1, initial=0.0) > _ROUNDING
        return np.asarray(rows[some][:, self._reference[self._kept]])

    @cached_property
    def _orthogonal(self) -> np.ndarray:
        """The estimable functions of the effects that the coefficients are, each orthogonal to those of containing terms."""
        functions = self._effects[self._kept] + self._share @ self._effects[self._dropped]
        for term in sorted(self.terms, key=lambda one: -len(one.variables)):
            own = self._places(term)
            above = [place for other in self.terms if term.is_within(other) for place in self._places(other).tolist()]
            if len(own) and above:
                basis = functions[above]
                functions[own] -= np.linalg.lstsq(basis.T, functions[own].T, rcond=None)[0].T @ basis
        return np.where(np.abs(functions) < _ROUNDING, 0.0, functions)

    def _own(self, term: _Term) -> np.ndarray:
        """Return the positions of the coefficients of a term that are estimated."""
        return np.intersect1d(term.positions, self._kept)

    def _places(self, term: _Term) -> Positions:
        """Return their positions among the coefficients that are estimated."""
        return np.asarray(np.searchsorted(self._kept, self._own(term)))

    def _rows_of(self, term: _Term) -> np.ndarray:
        """Return the rows of the identity for the coefficients of a term."""
        return np.eye(len(self._kept))[self._places(term)]

    def _beyond(self, before: Sequence[_Term], after: Sequence[_Term]) -> np.ndarray:
        """Return the rows of the unit upper triangular factor of X'X for terms that come after others, in this order."""
        first = [place - self._first for term in before for place in self._own(term)]
        last = [place - self._first for term in after for place in self._own(term)]
        rows = np.zeros((len(last), len(self._kept)))
        if not last:
            return rows
        upper = np.linalg.qr(self._columns.vectors[:, [*first, *last]])[1][len(first) :, len(first) :]
        at = np.searchsorted(self._kept, np.array(last) + self._first)
        rows[:, at] = upper / upper.diagonal()[:, None]
        return rows

    def _in_own(self, rows: np.ndarray) -> np.ndarray:
        """Return functions of the estimated differences as functions of the coefficients of the model."""
        full = np.zeros((len(rows), len(self._to_own)))
        full[:, self._kept] = rows
        full[:, self._dropped] = rows @ self._share
        own = np.linalg.solve(self._to_own.T, full.T).T
        own[np.abs(own) < _ROUNDING * np.abs(own).max(initial=0.0)] = 0.0
        return own
