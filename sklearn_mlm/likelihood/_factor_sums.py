"""`FactorSums`: what a model of several grouping factors needs of the rows, as sums over levels and pairs of levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse

from .._typing import Floats, Positions
from ._gram import LevelPairs, parts_of_rows


@dataclass(frozen=True, eq=False)
class FactorRows:
    """Stores rows in coordinates, with the level of each factor that each row has.

    Attributes
    ----------
    xy : ndarray of shape (n, k + 1)
        Fixed columns and y.
    z : tuple of ndarray of shape (n, q)
        The columns with random coefficients of each factor.
    codes : tuple of ndarray of shape (n,)
        The level of each factor.
    n_levels : tuple of int
        The number of levels of each factor.
    rest : ndarray of shape (k + 1, k + 1)
        Scatter of the fixed columns and y that is orthogonal to everything random.
    """

    xy: Floats
    z: tuple[Floats, ...]
    codes: tuple[Positions, ...]
    n_levels: tuple[int, ...]
    rest: Floats

    def __getstate__(self) -> dict[str, Any]:
        # The indicators can be made again.
        return {name: value for name, value in vars(self).items() if name != "indicators"}

    @property
    def n_factors(self) -> int:
        """The number of factors."""
        return len(self.z)

    @cached_property
    def indicators(self) -> tuple[sparse.csr_array, ...]:
        """The matrices of 0 and 1, of shape (n_levels, n), that add up the rows of each level."""
        found = []
        for codes, n_levels in zip(self.codes, self.n_levels, strict=True):
            entries = np.ones(len(codes)), codes, np.arange(len(codes) + 1)
            found.append(sparse.csr_array(entries, shape=(len(codes), n_levels)).T.tocsr())
        return tuple(found)

    def design(self, factor: int) -> sparse.csr_array:
        """Return the design matrix of the random effects of a factor, level by level."""
        z, n = self.z[factor], len(self.xy)
        q = z.shape[1]
        columns = self.codes[factor][:, None] * q + np.arange(q)
        return sparse.csr_array((z.ravel(), columns.ravel(), np.arange(n + 1) * q), shape=(n, self.n_levels[factor] * q))

    def sums(self, factor: int, columns: Floats) -> Floats:
        """Return the sums over the rows of each level of the products of the factor's columns with others.

        Parameters
        ----------
        factor : int
            Position of the factor.
        columns : ndarray of shape (n, w)
            The other columns.

        Returns
        -------
        sums : ndarray of shape (n_levels, q, w)
            The sums.
        """
        z, indicator = self.z[factor], self.indicators[factor]
        sums = [indicator @ (z[:, [a]] * columns) for a in range(z.shape[1])]
        return np.stack(sums, axis=1) if sums else np.zeros((self.n_levels[factor], 0, columns.shape[1]))

    def parents(self, factor: int, other: int) -> Positions | None:
        """Return the level of another factor in which each level of a factor lies, or None if some level meets several."""
        parents = np.zeros(self.n_levels[factor], dtype=np.intp)
        parents[self.codes[factor]] = self.codes[other]
        return parents if np.array_equal(parents[self.codes[factor]], self.codes[other]) else None

    def nested_chain(self, width: tuple[int, ...]) -> tuple[int, ...]:
        """Return factors each of which is nested in the next, with the most coefficients in all that such factors have.

        Parameters
        ----------
        width : tuple of int
            The number of coefficients of a level of each factor.

        Returns
        -------
        chain : tuple of int
            Positions of the factors, the innermost first.
        """
        sizes = [levels * q for levels, q in zip(self.n_levels, width, strict=True)]
        order = sorted(range(self.n_factors), key=lambda at: (-self.n_levels[at], at))
        inside = {pair: self.parents(*pair) is not None for pair in combinations(order, 2)}
        chains: dict[int, tuple[int, ...]] = {}
        for at, factor in reversed(list(enumerate(order))):
            above = [chains[other] for other in order[at + 1 :] if inside[factor, other]]
            # What nests in the first of a chain nests in all of it.
            best = max(above, key=lambda chain: sum(sizes[each] for each in chain), default=())
            chains[factor] = (factor, *best)
        return max(chains.values(), key=lambda chain: (sum(sizes[each] for each in chain), len(chain)))


@dataclass(frozen=True, eq=False)
class NestedSums:
    """Stores the sums over the levels of a factor whose levels lie in those of the next factors of a chain.

    Attributes
    ----------
    factor : int
        Position of the factor.
    own : ndarray of shape (n_levels, q, q)
        Products of its columns.
    local : ndarray of shape (n_levels, q, w)
        Products with the columns of the next factors of the chain, of which each level meets one level, and with (x, y).
    core : tuple of sparse array of shape (n_levels, n_core)
        Products of each of its columns with the columns of the other factors.
    parents : tuple of ndarray of shape (n_levels,)
        The level of each of the next factors of the chain.
    """

    factor: int
    own: Floats
    local: Floats
    core: tuple[sparse.csr_array, ...]
    parents: tuple[Positions, ...]


@dataclass(frozen=True, eq=False)
class FactorSums:
    """Stores the sums over levels, and over pairs of levels, that determine the likelihood of a model of several factors.

    Random coefficients of factors each of which is nested in the next are eliminated level by level. Those of the other
    factors, the core, are solved for together.

    Attributes
    ----------
    nested : tuple of NestedSums
        The factors of the chain, the innermost first.
    core : tuple of int
        Positions of the other factors.
    core_sizes : tuple of tuple of int
        Number of levels, and of coefficients of a level, of these factors.
    core_blocks : tuple of tuple of tuple of int
        The blocks of correlated coefficients of each of these factors.
    core_own : sparse array of shape (n_core, n_core)
        Products of the columns of the core.
    core_xy : ndarray of shape (n_core, k + 1)
        Their products with (x, y).
    xy : ndarray of shape (k + 1, k + 1)
        Products of (x, y), the rest included.
    """

    nested: tuple[NestedSums, ...]
    core: tuple[int, ...]
    core_sizes: tuple[tuple[int, int], ...]
    core_blocks: tuple[tuple[tuple[int, ...], ...], ...]
    core_own: sparse.csr_array
    core_xy: Floats
    xy: Floats

    def __getstate__(self) -> dict[str, Any]:
        # The pairs can be listed again.
        return {name: value for name, value in vars(self).items() if name != "pairs"}

    @cached_property
    def pairs(self) -> LevelPairs | None:
        """The pairs of coefficients of the core that the levels of the innermost factor meet; None if they are too many."""
        return parts_of_rows(self.nested[0].core) if self.nested and self.core else None

    @property
    def n_core(self) -> int:
        """The number of random coefficients of the core."""
        return len(self.core_xy)

    @property
    def core_slices(self) -> list[slice]:
        """Positions of the coefficients of each factor of the core."""
        edges = np.cumsum([0, *(levels * q for levels, q in self.core_sizes)])
        return [slice(start, stop) for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]


def factor_sums(rows: FactorRows, chain: tuple[int, ...], blocks: tuple[tuple[tuple[int, ...], ...], ...]) -> FactorSums:
    """Return the sums of rows.

    Parameters
    ----------
    rows : FactorRows
        The rows.
    chain : tuple of int
        Positions of the factors to eliminate level by level, each nested in the next.
    blocks : tuple of tuple of tuple of int
        The blocks of correlated coefficients of each factor.

    Returns
    -------
    sums : FactorSums
        The sums.
    """
    core = tuple(at for at in range(rows.n_factors) if at not in chain)
    sizes = tuple((rows.n_levels[at], rows.z[at].shape[1]) for at in core)
    design = _core_design(rows, core, sizes)
    nested = []
    for at, factor in enumerate(chain):
        above = chain[at + 1 :]
        local = rows.sums(factor, np.column_stack([*(rows.z[other] for other in above), rows.xy]))
        own = rows.sums(factor, rows.z[factor])
        coupled = [_coupled(rows, factor, design, column) for column in (rows.z[factor].T if core else ())]
        parents = []
        for other in above:
            inside = rows.parents(factor, other)
            if inside is None:
                raise ValueError("the factors of a chain must be nested")
            parents.append(inside)
        nested.append(NestedSums(factor, (own + own.transpose(0, 2, 1)) / 2, local, tuple(coupled), tuple(parents)))
    return FactorSums(
        nested=tuple(nested),
        core=core,
        core_sizes=sizes,
        core_blocks=tuple(blocks[at] for at in core),
        core_own=(design.T @ design).tocsr(),
        core_xy=np.asarray(design.T @ rows.xy),
        xy=rows.xy.T @ rows.xy + rows.rest,
    )


def _coupled(rows: FactorRows, factor: int, design: sparse.csr_array, column: Floats) -> sparse.csr_array:
    """Return the products of a column with those of the core in each level of a factor, with sorted columns."""
    scaled = sparse.csr_array(
        (design.data * np.repeat(column, np.diff(design.indptr)), design.indices, design.indptr), shape=design.shape
    )
    coupled = (rows.indicators[factor] @ scaled).tocsr()
    coupled.sort_indices()
    return coupled


def _core_design(rows: FactorRows, core: tuple[int, ...], sizes: tuple[tuple[int, int], ...]) -> sparse.csr_array:
    """Return the design matrix of the core, level by level of each factor."""
    n, widths = len(rows.xy), [q for _, q in sizes]
    columns = np.empty((n, sum(widths)), dtype=np.int32)
    start, at = 0, 0
    for factor, (n_levels, q) in zip(core, sizes, strict=True):
        columns[:, at : at + q] = start + rows.codes[factor][:, None] * q + np.arange(q)
        start, at = start + n_levels * q, at + q
    data = np.column_stack([rows.z[factor] for factor in core]) if core else np.zeros((n, 0))
    entries = data.ravel(), columns.ravel(), np.arange(n + 1, dtype=np.int64) * data.shape[1]
    return sparse.csr_array(entries, shape=(n, start))
