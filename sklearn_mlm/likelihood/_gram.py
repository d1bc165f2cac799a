"""`Gram`: products of the columns of many random effects, kept as the rows of levels that they are sums of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from .._typing import Floats

# The most pairs of entries of a level that are listed once for all; 16 bytes each.
_MOST_PAIRS = 20_000_000


@dataclass(frozen=True, eq=False)
class LevelPairs:
    """Stores the pairs of entries of each row of a sparse array, so that weighted sums of their products are one pass.

    Attributes
    ----------
    rows : sparse array of shape (n_levels, n)
        The array.
    target : ndarray of shape (n_pairs,)
        Position of each pair of columns in the upper triangle of an array of shape (n, n).
    products : ndarray of shape (n_pairs,)
        Products of the two entries.
    level : ndarray of shape (n_pairs,)
        The row of each pair.
    """

    rows: sparse.csr_array
    target: np.ndarray
    products: Floats
    level: np.ndarray

    @classmethod
    def of(cls, rows: sparse.csr_array) -> LevelPairs | None:
        """Return the pairs of the rows of an array with sorted columns; None if there are too many."""
        sizes = np.diff(rows.indptr).astype(np.int64)
        if int((sizes * (sizes + 1) // 2).sum()) > _MOST_PAIRS:
            return None
        level = np.repeat(np.arange(len(sizes)), sizes)
        n_after = rows.indptr[1:].astype(np.int64)[level] - np.arange(rows.nnz)
        first = np.repeat(np.arange(rows.nnz), n_after)
        second = first + np.arange(len(first)) - np.repeat(np.cumsum(n_after) - n_after, n_after)
        n = rows.shape[1]
        columns = rows.indices.astype(np.int64)
        return cls(
            rows, columns[first] * n + columns[second], rows.data[first] * rows.data[second], level[first].astype(np.int32)
        )

    def gram(self, weights: Floats) -> Floats:
        """Return the sum of the products of rows with themselves, each times a weight, of shape (n, n)."""
        n = self.rows.shape[1]
        upper: Floats = np.bincount(self.target, self.products * weights[self.level], n * n).astype(np.float64, copy=False)
        return mirrored(upper.reshape(n, n))

    def traces(self, matrix: Floats) -> Floats:
        """Return r M r' for each row r and a symmetric matrix M, of shape (n_levels,)."""
        n = self.rows.shape[1]
        across = self.target % (n + 1) != 0
        parts = self.products * matrix.ravel()[self.target] * np.where(across, 2.0, 1.0)
        return np.asarray(np.bincount(self.level, parts, self.rows.shape[0]))


Scaled = list[tuple[Floats, sparse.csr_array]]
"""Rows with a weight for each; a list stands for their sum."""


@dataclass(frozen=True, eq=False)
class Gram:
    """Stores the sum of a sparse array and of products A' diag(w) B, which many levels contribute to.

    Attributes
    ----------
    base : sparse array of shape (n, n) or None
        The array, if there is one.
    terms : tuple of tuple
        A, w and B of each product.
    pairs : LevelPairs or None
        The pairs of entries of rows that are both A and B of some products.
    """

    base: sparse.csr_array | None = None
    terms: tuple[tuple[sparse.csr_array, Floats, sparse.csr_array], ...] = ()
    pairs: LevelPairs | None = None

    def __add__(self, other: Gram) -> Gram:
        bases = [each for each in (self.base, other.base) if each is not None]
        base = None if not bases else bases[0] if len(bases) == 1 else bases[0] + bases[1]
        return replace(self, base=base, terms=self.terms + other.terms, pairs=self.pairs or other.pairs)

    def weights_of_pairs(self) -> Floats | None:
        """Return the sum of the weights of all products, if the pairs of their rows are listed."""
        known = self.pairs
        if known is None or not self.terms or any(a is not known.rows or b is not known.rows for a, _, b in self.terms):
            return None
        return np.asarray(sum(w for _, w, _ in self.terms))

    def __matmul__(self, columns: Floats) -> Floats:
        total = np.zeros_like(columns) if self.base is None else np.asarray(self.base @ columns)
        for a, w, b in self.terms:
            total = total + a.T @ (w[:, None] * (b @ columns))
        return np.asarray(total)

    def diagonal(self) -> Floats:
        """Return the diagonal of the sum."""
        total = 0.0 if self.base is None else self.base.diagonal()
        for a, w, b in self.terms:
            total = total + a.multiply(b).T @ w
        return np.asarray(total)

    def toarray(self) -> Floats:
        """Return the sum as an array."""
        weights = self.weights_of_pairs()
        if weights is not None and self.pairs is not None:
            dense = self.pairs.gram(weights)
            return dense if self.base is None else dense + self.base
        return np.asarray(self._explicit().toarray())

    def trace_with(self, matrix: Floats) -> float:
        """Return the sum of the products of all entries with those of a symmetric matrix."""
        entries = self._explicit().tocoo()
        rows, columns = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)
        return float(entries.data @ matrix[rows, columns])

    def _explicit(self) -> sparse.csr_array:
        """Return the sum as a sparse array."""
        parts = [] if self.base is None else [self.base]
        parts += [(a.T @ scaled_rows(w, b)).tocsr() for a, w, b in self.terms]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


def gram_of(rows: sparse.csr_array, scaled: Scaled, pairs: LevelPairs | None) -> Gram:
    """Return minus the products of rows with weighted rows."""
    return Gram(None, tuple((rows, -w, other) for w, other in scaled), pairs)


def scaled_rows(weights: Floats, rows: sparse.csr_array) -> sparse.csr_array:
    """Return a sparse array with each row times a weight."""
    data = rows.data * np.repeat(weights, np.diff(rows.indptr))
    return sparse.csr_array((data, rows.indices, rows.indptr), shape=rows.shape)


def mirrored(upper: Floats) -> Floats:
    """Return a symmetric matrix from its upper triangle, in place."""
    n, step = len(upper), 256
    for start in range(0, n, step):
        stop = min(start + step, n)
        upper[stop:, start:stop] = upper[start:stop, stop:].T
        block = np.triu(upper[start:stop, start:stop], 1)
        diagonal = upper[start:stop, start:stop].diagonal().copy()
        upper[start:stop, start:stop] = block + block.T + np.diag(diagonal)
    return upper


def parts_of_rows(rows: Sequence[sparse.csr_array]) -> LevelPairs | None:
    """Return the pairs of the rows of a factor with a single coefficient; None for several, or if they are too many."""
    return LevelPairs.of(rows[0]) if len(rows) == 1 else None
