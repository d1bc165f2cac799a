"""Progress of what takes long: a bar where tqdm is installed, and lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS_BETWEEN_LINES = 2.0


@contextmanager
def progress(verbose: int, unit: str, total: int | None = None) -> Iterator[Callable[[int], object]]:
    """Yield a function that takes a number of units just done, and shows how many there are if `verbose` is positive.

    Parameters
    ----------
    verbose : int
        0 shows nothing.
    unit : str
        What is counted, in the plural.
    total : int or None, default=None
        How many there will be, if that is known.

    Yields
    ------
    report : callable
        A function of the number of units.
    """
    if not verbose:
        yield lambda n_done: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield _Lines(unit, total).update
        return
    with tqdm(total=total, unit=f" {unit}", unit_scale=total is None) as bar:
        yield bar.update


class _Lines:
    """Prints how much is done, every two seconds at most, and at the end if it is known."""

    def __init__(self, unit: str, total: int | None):
        self._unit, self._total = unit, total
        self._start = self._last = time.monotonic()
        self._done = 0

    def update(self, n_done: int) -> None:
        """Count units that are done."""
        self._done += n_done
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES or self._done == self._total:
            self._last = now
            of = "" if self._total is None else f" of {self._total:,}"
            print(f"{self._done:,}{of} {self._unit}, {now - self._start:.0f} s", file=sys.stderr, flush=True)
