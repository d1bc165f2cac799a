"""`GroupSums`: sums over groups of functions of the group size, with one term for all groups of a size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._typing import Floats

# Up to this many groups, each group has its own term.
_FEW_GROUPS = 128
# Scatter matrices of the distinct group sizes are kept up to this many numbers (128 MB); beyond it, rows are summed.
_MAX_SCATTER_NUMBERS = 1 << 24
# If there are more groups than this, the sizes of so many groups are examined first.
_SAMPLE = 1 << 12
# If there are many more sizes than nodes, this many nodes replace the sizes on each stretch of log n; the length of a
# stretch; and the least number of sizes for each node.
_N_NODES = 16
_STRETCH = 1.2
_SIZES_PER_NODE = 8
# Numbers that are summed at once at the nodes, and fit into cache.
_BLOCK_NUMBERS = 1 << 17


@dataclass(frozen=True, eq=False)
class GroupSums:
    """Stores the group means t_j, and what is needed to sum functions of the group sizes n_j over groups.

    Attributes
    ----------
    rows : ndarray of shape (n_groups, width)
        The group means t_j, in ascending order of n_j if there are many groups.
    counts : ndarray of shape (n_groups,)
        The group sizes n_j, in the order of the rows.
    order : ndarray of shape (n_groups,), or slice
        The positions of these groups in the moments.
    sizes : ndarray of shape (n_sizes,)
        The group sizes, or nodes that replace them; the smallest and the largest node are sizes.
    multiplicity : ndarray of shape (n_sizes,)
        How many groups have each size. At nodes, sums of Lagrange polynomials, which may be fractions or negative.
    scatter : ndarray of shape (n_sizes, width * width), or None
        The sum of t_j t_j' over the groups of each size; None if it takes too much memory.
    """

    rows: np.ndarray
    counts: np.ndarray
    order: np.ndarray | slice
    sizes: np.ndarray
    multiplicity: np.ndarray
    scatter: Floats | None

    def between(self, coefficients: Floats) -> Floats:
        """Return sum_j c_j t_j t_j', of shape (n, width, width), for n rows of coefficients c, of shape (n, n_sizes)."""
        width = self.rows.shape[1]
        if self.scatter is not None:
            return (coefficients @ self.scatter).reshape(-1, width, width)
        return np.stack([(self.rows * c[:, None]).T @ self.rows for c in coefficients])

    def by_size(self, n_sizes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the sizes n_j and the sum of t_j t_j' of the groups of each size, in ascending order of the sizes.

        Parameters
        ----------
        n_sizes : int
            If there are more distinct sizes, log n is cut into this many intervals of equal width, and the sizes in an
            interval are treated as one size.

        Yields
        ------
        members : ndarray of shape (n_in_size,)
            The sizes n_j of the groups.
        scatter : ndarray of shape (width, width)
            The sum of their t_j t_j'.
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
    """Return the sums over groups of these means and sizes.

    If there are many more sizes than nodes of an interpolation in log n, the nodes replace the sizes. All functions of n
    that are summed over groups, h(gamma, n)^p and log(1 + gamma n), are analytic in log n, so that

        sum_j f(n_j) a_j = sum_m f(n_m) sum_j l_m(log n_j) a_j

    to rounding, where l_m are the Lagrange polynomials. Sums over nodes have the same form as sums over sizes.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, width)
        The group means t_j.
    counts : ndarray of shape (n_groups,)
        The group sizes n_j.

    Returns
    -------
    sums : GroupSums
        The means and sizes, with the sums of t_j t_j' by size.
    """
    n_groups, width = rows.shape
    if n_groups <= _FEW_GROUPS:
        scatter = (rows[:, :, None] * rows[:, None, :]).reshape(n_groups, -1)
        return GroupSums(rows, counts, slice(None), counts, np.ones(n_groups), scatter)
    room = max(_MAX_SCATTER_NUMBERS, n_groups * width) // width**2
    nodes = None
    if n_groups > _SAMPLE:
        # If some groups, with the extremes, already have enough sizes for nodes, the rest need not be sorted.
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

    Whole numbers are counted in a table; other sizes, which are sums of weights, are sorted.
    """
    if _has_table(counts, len(counts)):
        frequency = np.bincount(counts.astype(np.int64))
        sizes = np.flatnonzero(frequency)
        return sizes.astype(np.float64), frequency[sizes].astype(np.float64)
    ascending = np.sort(counts)
    starts = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
    return ascending[starts], np.diff(starts, append=len(counts)).astype(np.float64)


def _code_of(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the position of each group's size among the distinct sizes."""
    # NumPy sorts 16 bits by radix.
    type_ = np.uint16 if len(sizes) < 1 << 16 else np.intp
    if _has_table(sizes, len(counts)):
        table = np.zeros(int(sizes[-1]) + 1, dtype=type_)
        table[sizes.astype(np.int64)] = np.arange(len(sizes))
        return table[counts.astype(np.int64)]
    return np.searchsorted(sizes, counts).astype(type_)


def _has_table(sizes: np.ndarray, n_groups: int) -> bool:
    """Return whether sizes are whole numbers that are small enough for a table about as long as the number of groups."""
    return bool(sizes.max() <= max(2 * n_groups, 1 << 12)) and np.array_equal(sizes.astype(np.int64), sizes)


def _nodes_for(sizes: np.ndarray, most: int) -> np.ndarray | None:
    """Return nodes that can replace the group sizes, ascending, one row for each stretch of log n; None for few sizes.

    The nodes are Chebyshev points of the second kind. h(gamma, n)^p and log(1 + gamma n) are analytic in log n for
    |Im log n| < pi. On a stretch of half-width a = 0.6 the interpolant of m points converges as rho^-m with
    rho = (pi + sqrt(pi^2 + a^2)) / a = 10.6 (L. N. Trefethen (2013), "Approximation Theory and Approximation Practice",
    theorem 8.2), so that the error of 16 points is rounding.

    Parameters
    ----------
    sizes : ndarray of shape (n_sizes,)
        The distinct group sizes, ascending.
    most : int
        The largest number of nodes whose matrices fit into memory.

    Returns
    -------
    nodes : ndarray of shape (n_stretches, n_nodes), or None
        The nodes; None if there are too few sizes, or too many nodes.
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
    """Return the stretch that contains each group's size, in a type that NumPy sorts by radix."""
    return np.searchsorted(nodes[1:, 0], counts, side="right").astype(np.uint16)


def _at_nodes(rows: np.ndarray, counts: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the nodes, their multiplicities sum_j l_m(log n_j) and, in rows, their scatter sum_j l_m(log n_j) t_j t_j'.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, width)
        The group means t_j, ordered by stretch.
    counts : ndarray of shape (n_groups,)
        The group sizes n_j.
    nodes : ndarray of shape (n_stretches, n_nodes)
        The nodes, as `_nodes_for` returns them.

    Returns
    -------
    nodes, multiplicity : ndarray of shape (n_stretches * n_nodes,)
        The nodes, and their multiplicities.
    scatter : ndarray of shape (n_stretches * n_nodes, width * width)
        The scatter at each node.
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


def _lagrange(counts: Floats, nodes: Floats) -> Floats:
    """Return l_m(log n_j) for the nodes of one stretch, of shape (n_nodes, n_groups), by the barycentric formula.

    The weights of Chebyshev points of the second kind alternate between 1 and -1, and are half of that at the ends (J.-P.
    Berrut and L. N. Trefethen (2004), "Barycentric Lagrange interpolation", SIAM Review 46(3), equation 5.4).
    """
    weights = np.where(np.arange(len(nodes)) % 2, -1.0, 1.0)
    weights[[0, -1]] /= 2.0
    # So computed, an error of log n is the same in every polynomial, as if n were a nearby number.
    distance = np.log(counts / nodes[0]) - np.log(nodes / nodes[0])[:, None]
    at_node = distance == 0.0
    distance[at_node] = 1.0
    shares: Floats = weights[:, None] / distance
    hit = at_node.any(axis=0)
    shares[:, hit] = at_node[:, hit]
    shares /= shares.sum(axis=0)
    return shares
