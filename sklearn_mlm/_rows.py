"""Rows (x, y), block by block in float64, in the order they came or group by group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy import sparse

# Blocks of this size stay in cache from one step to the next; below the least number of rows matrix products suffer.
_BLOCK_BYTES = 1 << 20
_MIN_BLOCK_ROWS = 256


class Rows:
    """The rows z = (x, y) of the data, block by block in float64, whatever type, order or sparsity X has."""

    def __init__(self, X: Any, y: np.ndarray):
        self._X = X.tocsr() if sparse.issparse(X) else X
        self._y = y
        self.n_columns = 1 + (0 if X is None else X.shape[1])

    def __len__(self) -> int:
        return len(self._y)

    def read(self, rows: slice | np.ndarray, about: np.ndarray, out: np.ndarray) -> None:
        """Write the rows less `about`, of shape (n_columns,), into `out`, of shape (number of rows, n_columns)."""
        if self._X is not None:
            part = self._X[rows]
            np.subtract(part.toarray() if sparse.issparse(part) else part, about[:-1], out=out[:, :-1])
        np.subtract(self._y[rows], about[-1], out=out[:, -1])

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows at these positions."""
        out = np.empty((len(positions), self.n_columns))
        self.read(positions, np.zeros(self.n_columns), out)
        return out

    def blocks(self, start: int, stop: int, about: np.ndarray) -> Iterable[tuple[slice, np.ndarray]]:
        """Yield each block of rows between two positions, less `about`, in a buffer that the next block overwrites."""
        length = min(block_rows(self.n_columns), stop - start)
        buffer = np.empty((length, self.n_columns))
        for first in range(start, stop, length):
            rows = slice(first, min(first + length, stop))
            block = buffer[: rows.stop - first]
            self.read(rows, about, block)
            yield rows, block


def block_rows(n_columns: int) -> int:
    """Return the number of rows of a block."""
    return max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (8 * max(1, n_columns)))


def blocks_of_equal_groups(codes: np.ndarray, n_groups: int, max_rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield groups of the same number of rows, as many at a time as `max_rows` allows, but at least one.

    Arrays of equal groups take one vectorised operation where groups of different sizes would take a loop.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        The group of each row, in [0, n_groups); every group has a row.
    n_groups : int
    max_rows : int

    Yields
    ------
    groups : ndarray of shape (n_of_block,)
        Codes of the groups of the block.
    positions : ndarray of shape (n_of_block, group size)
        Where their rows are.
    """
    sizes = np.bincount(codes, minlength=n_groups)
    by_size = np.argsort(sizes, kind="stable")
    rank = np.empty(n_groups, dtype=np.intp)
    rank[by_size] = np.arange(n_groups)
    order = np.argsort(rank[codes], kind="stable")
    distinct, first = np.unique(sizes[by_size], return_index=True)
    row = 0
    for size, start, stop in zip(distinct.tolist(), first, np.append(first[1:], n_groups), strict=True):
        step = max(1, max_rows // size)
        for at in range(start, stop, step):
            groups = by_size[at : min(at + step, stop)]
            yield groups, order[row : row + len(groups) * size].reshape(len(groups), size)
            row += len(groups) * size
