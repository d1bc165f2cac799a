"""A pool of threads, with BLAS limited to one thread in each of them; and the memory of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController

_LIMITING = Lock()


class Pool(ThreadPoolExecutor):
    """A pool of threads that stores their number."""

    def __init__(self, n_threads: int):
        super().__init__(n_threads)
        self.n_threads = n_threads


@contextmanager
def threads(useful: int) -> Iterator[Pool | None]:
    """Yield a pool of as many threads as BLAS may use, up to `useful`, while BLAS uses one; None if there is no pool."""
    blas = _threadpools().select(user_api="blas")
    allowed = max((library["num_threads"] for library in blas.info()), default=os.cpu_count() or 1)
    n_threads = min(useful, allowed)
    # The limit on BLAS belongs to the process: of two fits at a time, one must not restore the limit while the other runs.
    if n_threads < 2 or not _LIMITING.acquire(blocking=False):
        yield None
        return
    try:
        with blas.limit(limits=1), Pool(n_threads) as pool:
            yield pool
    finally:
        _LIMITING.release()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS to one thread: for matrices of a few hundred rows, threads wait for each other longer than they work."""
    if not _LIMITING.acquire(blocking=False):
        yield
        return
    try:
        with _threadpools().select(user_api="blas").limit(limits=1):
            yield
    finally:
        _LIMITING.release()


def physical_memory() -> float:
    """Return the memory of the machine in bytes; infinity if the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * float(os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


@cache
def _threadpools() -> ThreadpoolController:
    """Return the controller of the loaded thread pools, which takes a millisecond to find them."""
    return ThreadpoolController()
