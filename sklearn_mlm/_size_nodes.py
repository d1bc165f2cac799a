"""Interpolation nodes that stand for many group sizes in sums of functions that are analytic in log n."""

from __future__ import annotations

import numpy as np

# Nodes that stand for group sizes, so many on each stretch of log n, where sizes are many times as many.
_N_NODES = 16
_STRETCH = 1.2
_SIZES_PER_NODE = 8
# Numbers that are summed at a time at the nodes, which fit into cache.
_BLOCK_NUMBERS = 1 << 17


def nodes_for(sizes: np.ndarray, most: int) -> np.ndarray | None:
    """Return nodes that can stand for the group sizes, a row for each stretch of log n, ascending; None for few sizes.

    The nodes are Chebyshev's points of the second kind. h(gamma, n)^p and log(1 + gamma n) are analytic in log n for
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


def stretch_of(counts: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the stretch of each group's size, of a type that NumPy sorts by radix."""
    return np.searchsorted(nodes[1:, 0], counts, side="right").astype(np.uint16)


def at_nodes(rows: np.ndarray, counts: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    ends = np.searchsorted(stretch_of(counts, nodes), np.arange(1, len(nodes) + 1)).tolist()
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
    """Return l_m(log n_j) of one stretch's nodes, of shape (n_nodes, n_groups), by the barycentric formula.

    The weights of Chebyshev's points of the second kind are 1 in turn with -1, the ends' half of it (J.-P. Berrut and L. N.
    Trefethen (2004), "Barycentric Lagrange interpolation", SIAM Review 46(3), equation 5.4).
    """
    weights = np.where(np.arange(len(nodes)) % 2, -1.0, 1.0)
    weights[[0, -1]] /= 2.0
    # An error of log n is that of a nearby n in all of them.
    distance = np.log(counts / nodes[0]) - np.log(nodes / nodes[0])[:, None]
    at_node = distance == 0.0
    distance[at_node] = 1.0
    shares = weights[:, None] / distance
    hit = at_node.any(axis=0)
    shares[:, hit] = at_node[:, hit]
    return shares / shares.sum(axis=0)
