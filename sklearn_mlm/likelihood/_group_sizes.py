"""`GroupSums`: sums over groups of functions of their size, one term for all groups of a size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Up to so many groups, each has a term of its own.
_FEW_GROUPS = 128
# Scatter matrices of the distinct group sizes are kept up to this many numbers (128 MB); beyond it, rows are summed.
_MAX_SCATTER_NUMBERS = 1 << 24
# Of more groups than this, so many are looked at first.
_SAMPLE = 1 << 12
# If there are many times as many sizes as nodes, so many nodes stand for the sizes on each stretch of log n.
_N_NODES = 16
_STRETCH = 1.2
_SIZES_PER_NODE = 8
# Numbers that are summed at a time at the nodes, and that fit into cache.
_BLOCK_NUMBERS = 1 << 17


@dataclass(frozen=True, eq=False)
class GroupSums:
    """Group means t_j, and what sums over groups of functions of their size n_j need.

    Attributes
    ----------
    rows : ndarray of shape (n_groups, width)
        t_j, in ascending order of n_j if there are many groups.
    counts : ndarray of shape (n_groups,)
        n_j, in the order of the rows.
    order : ndarray of shape (n_groups,), or slice
        The positions of these groups in the moments.
    sizes : ndarray of shape (n_sizes,)
        The group sizes, or nodes that stand for them; the smallest and the largest are sizes.
    multiplicity : ndarray of shape (n_sizes,)
        How many groups have each size. At nodes, sums of Lagrange polynomials, which may be fractions or negative.
    scatter : ndarray of shape (n_sizes, width * width), or None
        t_j t_j' summed over the groups of each size; None if that takes too much memory.
    """

    rows: np.ndarray
    counts: np.ndarray
    order: np.ndarray | slice
    sizes: np.ndarray
    multiplicity: np.ndarray
    scatter: np.ndarray | None

    def between(self, coefficients: np.ndarray) -> np.ndarray:
        """Return sum_j c_j t_j t_j' for coefficients of the sizes, of shape (n, n_sizes), as an array of n matrices."""
        width = self.rows.shape[1]
        if self.scatter is not None:
            return (coefficients @ self.scatter).reshape(-1, width, width)
        return np.stack([(self.rows * c[:, None]).T @ self.rows for c in coefficients])

    def by_size(self, n_sizes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, for each size in ascending order, the sizes of its groups and their t_j t_j' summed.

        Parameters
        ----------
        n_sizes : int
            If there are more distinct sizes, those in one of so many intervals of equal width in log n count as one.
        """
        distinct = np.unique(self.counts)
        if len(distinct) > n_sizes:
            distinct = np.geomspace(distinct[0], distinct[-1], n_sizes + 1)[:-1]
        code = np.searchsorted(distinct, self.counts, side="right")
        order = np.argsort(code, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
            rows = self.rows[members]
            yield self.counts[members], rows.T @ rows


def group_sums(rows: np.ndarray, counts: np.ndarray) -> GroupSums:
    """Return what sums over groups need.

    If there are many times as many sizes as nodes of an interpolation in log n, the nodes take the place of the sizes.
    Every sum over groups is of a function of n that is analytic in log n, h(gamma, n)^p or log(1 + gamma n), so that

        sum_j f(n_j) a_j = sum_m f(n_m) sum_j l_m(log n_j) a_j

    to rounding, where l_m are the Lagrange polynomials. Sums over nodes have the same form as those over sizes.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, width)
        t_j.
    counts : ndarray of shape (n_groups,)
        n_j.
    """
    n_groups, width = rows.shape
    if n_groups <= _FEW_GROUPS:
        scatter = (rows[:, :, None] * rows[:, None, :]).reshape(n_groups, -1)
        return GroupSums(rows, counts, slice(None), counts, np.ones(n_groups), scatter)
    room = max(_MAX_SCATTER_NUMBERS, n_groups * width) // width**2
    nodes = None
    if n_groups > _SAMPLE:
        # The sizes of some groups, the smallest and the largest may be so many that the rest need not be sorted.
        some = np.append(counts[:_SAMPLE], [counts.min(), counts.max()])
        nodes = _nodes_for(_distinct(some)[0], room)
    if nodes is None:
        sizes, multiplicity = _distinct(counts)
        nodes = _nodes_for(sizes, room)
    code = _code_of(counts, sizes) if nodes is None else _stretch_of(counts, nodes)
    order = np.argsort(code, kind="stable")
    rows, counts = rows[order], counts[order]
    if nodes is not None:
        return GroupSums(rows, counts, order, *_at_nodes(rows, counts, nodes))
    if len(sizes) * width**2 > _MAX_SCATTER_NUMBERS:
        return GroupSums(rows, counts, order, counts, np.ones(n_groups), None)
    ends = np.cumsum(multiplicity).astype(int).tolist()
    scatter = np.empty((len(sizes), width, width))
    for of_size, start, stop in zip(scatter, [0, *ends], ends, strict=False):
        np.dot(rows[start:stop].T, rows[start:stop], out=of_size)
    return GroupSums(rows, counts, order, sizes, multiplicity, scatter.reshape(len(sizes), -1))


def _distinct(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct group sizes in ascending order, and how many groups have each.

    Whole numbers are counted in a table; weights that are not whole are sorted.
    """
    if _has_table(counts, len(counts)):
        frequency = np.bincount(counts.astype(np.int64))
        sizes = np.flatnonzero(frequency)
        return sizes.astype(np.float64), frequency[sizes].astype(np.float64)
    ascending = np.sort(counts)
    starts = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
    return ascending[starts], np.diff(starts, append=len(counts)).astype(np.float64)


def _code_of(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the position of each group's size among the distinct ones."""
    # NumPy sorts 16 bits by radix.
    type_ = np.uint16 if len(sizes) < 1 << 16 else np.intp
    if _has_table(sizes, len(counts)):
        table = np.zeros(int(sizes[-1]) + 1, dtype=type_)
        table[sizes.astype(np.int64)] = np.arange(len(sizes))
        return table[counts.astype(np.int64)]
    return np.searchsorted(sizes, counts).astype(type_)


def _has_table(sizes: np.ndarray, n_groups: int) -> bool:
    """Return whether sizes are whole numbers, and so small that a table of them is no larger than the groups."""
    return bool(sizes.max() <= max(2 * n_groups, 1 << 12)) and np.array_equal(sizes.astype(np.int64), sizes)


def _nodes_for(sizes: np.ndarray, most: int) -> np.ndarray | None:
    """Return nodes that can stand for the group sizes, a row for each stretch of log n, ascending; None for few sizes.

    The nodes are Chebyshev points of the second kind. h(gamma, n)^p and log(1 + gamma n) are analytic in log n for
    |Im log n| < pi. On a stretch of half-width a = 0.6 the interpolant of m points converges as rho^-m with
    rho = (pi + sqrt(pi^2 + a^2)) / a = 10.6 (L. N. Trefethen (2013), "Approximation Theory and Approximation Practice",
    theorem 8.2), so that 16 points leave no more than rounding.

    Parameters
    ----------
    sizes : ndarray of shape (n_sizes,)
        Distinct, ascending.
    most : int
        The number of nodes for whose matrices there is room.
    """
    if len(sizes) <= _SIZES_PER_NODE * _N_NODES:
        return None
    span = np.log(sizes[-1] / sizes[0])
    edges = np.linspace(0.0, span, max(1, int(np.ceil(span / _STRETCH))) + 1)
    points = (1.0 - np.cos(np.pi * np.arange(_N_NODES) / (_N_NODES - 1))) / 2.0
    nodes = sizes[0] * np.exp(edges[:-1, None] + np.diff(edges)[:, None] * points)
    nodes[0, 0], nodes[-1, -1] = sizes[0], sizes[-1]
    return None if len(sizes) <= _SIZES_PER_NODE * nodes.size or nodes.size > most else nodes


def _stretch_of(counts: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the stretch of each group's size, in a type that NumPy sorts by radix."""
    return np.searchsorted(nodes[1:, 0], counts, side="right").astype(np.uint16)


def _at_nodes(rows: np.ndarray, counts: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the nodes, their multiplicities sum_j l_m(log n_j), and their scatter sum_j l_m(log n_j) t_j t_j', one a row.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, width)
        t_j, by stretch.
    counts : ndarray of shape (n_groups,)
        n_j.
    nodes : ndarray of shape (n_stretches, n_nodes)
    """
    width = rows.shape[1]
    multiplicity, scatter = np.zeros(nodes.shape), np.zeros((*nodes.shape, width, width))
    ends = np.searchsorted(_stretch_of(counts, nodes), np.arange(1, len(nodes) + 1)).tolist()
    step = max(1, _BLOCK_NUMBERS // (_N_NODES * width))
    for at, (start, stop) in enumerate(zip([0, *ends], ends, strict=False)):
        for first in range(start, stop, step):
            block = rows[first : min(first + step, stop)]
            lagrange = _lagrange(counts[first : first + len(block)], nodes[at])
            multiplicity[at] += lagrange.sum(axis=1)
            weighted = lagrange[:, None, :] * np.ascontiguousarray(block.T)
            scatter[at] += (weighted.reshape(-1, len(block)) @ block).reshape(-1, width, width)
    return nodes.ravel(), multiplicity.ravel(), scatter.reshape(nodes.size, -1)


def _lagrange(counts: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return l_m(log n_j) of the nodes of one stretch, of shape (n_nodes, n_groups), by the barycentric formula.

    The weights of Chebyshev points of the second kind alternate between 1 and -1, and the ends have half of that (J.-P.
    Berrut and L. N. Trefethen (2004), "Barycentric Lagrange interpolation", SIAM Review 46(3), equation 5.4).
    """
    weights = np.where(np.arange(len(nodes)) % 2, -1.0, 1.0)
    weights[[0, -1]] /= 2.0
    # An error of log n then amounts to a nearby n in all of the polynomials.
    distance = np.log(counts / nodes[0]) - np.log(nodes / nodes[0])[:, None]
    at_node = distance == 0.0
    distance[at_node] = 1.0
    shares = weights[:, None] / distance
    hit = at_node.any(axis=0)
    shares[:, hit] = at_node[:, hit]
    return shares / shares.sum(axis=0)
