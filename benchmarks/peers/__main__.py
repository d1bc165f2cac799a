"""Fit one size with one adapter, in a process of its own: ``python -m peers ADAPTER ROWS COLUMNS GROUPS`` prints JSON."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import re
import resource
import signal
import time
import warnings
from importlib.metadata import version
from types import ModuleType

import numpy as np
from fit_cost import simulate

from . import Fit
from .yardstick import Optimum, log_likelihood

# Repeats end after this many seconds, what surrounds the fits included.
ENOUGH_SECONDS = 20.0
# Share of the machine's memory; the rest is for the rest of the machine.
MEMORY = 0.8
# What a log-likelihood may differ from the exact one at the same variances, and coefficients in standard errors, unremarked.
TOLERANCE = 0.01


def resident(name: str) -> int:
    """Return resident memory now (VmRSS) or its high-water mark (VmHWM), in bytes (Linux)."""
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(rf"{name}:\s*(\d+)", status.read())[1])


def timed_fit(adapter: ModuleType, data: tuple, limit: float) -> tuple[Fit | None, float, float]:
    """Return what a fit reached, its seconds and its peak memory in bytes, above the level before.

    The mark of the kernel misses nothing, while a thread that samples would wait for code that does not let go of the
    interpreter. Over the limit the alarm ends the process, whatever code it is in.
    """
    gc.collect()
    with open("/proc/self/clear_refs", "w") as marks:
        marks.write("5")
    before = resident("VmRSS")
    signal.setitimer(signal.ITIMER_REAL, limit)
    start = time.perf_counter()
    fit = adapter.fit(*data)
    seconds = time.perf_counter() - start
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    peak = resident("VmHWM") - before
    return fit, getattr(fit, "seconds", None) or seconds, getattr(fit, "peak_bytes", None) or peak


def remarks(fit: Fit, best: Optimum, exact: float, asked: str) -> list[str]:
    """Return what is to be said of a fit: another method or model than was asked for, figures of its own that do not agree."""
    notes = [] if fit.method == asked else [fit.method]
    notes += [fit.restriction] if fit.restriction else []
    if fit.log_likelihood is not None and abs(fit.log_likelihood - exact) > TOLERANCE:
        notes.append(f"its own log-likelihood is {fit.log_likelihood - exact:+.2g} off")
    error = float(np.max(np.abs(fit.coef - best.coef) / best.std_errors))
    if not error <= TOLERANCE:
        notes.append(f"coefficients up to {error:.2g} standard errors off")
    return notes


def measure(adapter: ModuleType, size: tuple[int, int, int], repeats: int, limit: float, reml: bool, n_slopes: int) -> dict:
    """Return the row of one adapter: median seconds, peak of the first fit, shortfall of the log-likelihood, notes."""
    # The first fit pays for imports and compilation.
    adapter.fit(*simulate(1_000, size[1], 50, n_slopes=n_slopes), reml, n_slopes)
    X, y, groups = simulate(*size, n_slopes=n_slopes)
    data = (X, y, groups, reml, n_slopes)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        fit, first, peak = timed_fit(adapter, data, limit)
    seconds = [first]
    while len(seconds) < repeats and time.perf_counter() - start < ENOUGH_SECONDS:
        seconds.append(timed_fit(adapter, data, limit)[1])
    row = {"seconds": float(np.median(seconds)), "peak": peak, "notes": []}
    if fit is not None:
        best = Optimum.of(X, y, groups, n_slopes, reml=fit.method != "ML")
        exact = log_likelihood(best.sums, fit.covariance, fit.residual_variance, best.reml)
        row |= {"shortfall": best.log_likelihood - exact, "notes": remarks(fit, best, exact, "REML" if reml else "ML")}
    row["notes"] += sorted({f"warns: {warning.category.__name__}" for warning in caught})
    row["version"] = getattr(fit, "version", None) or (version(adapter.REQUIRES) if adapter.REQUIRES else "")
    return row


def main() -> None:
    """Print the row as a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m peers", description=__doc__)
    parser.add_argument("adapter")
    parser.add_argument("size", type=int, nargs=3, metavar=("rows", "columns", "groups"))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=300.0)
    parser.add_argument("--ml", action="store_true")
    parser.add_argument("--slopes", type=int, default=0)
    arguments = parser.parse_args()
    bytes_ = int(MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    resource.setrlimit(resource.RLIMIT_AS, (bytes_, bytes_))
    adapter = importlib.import_module(f"peers.{arguments.adapter}")
    try:
        size, limit, reml = tuple(arguments.size), arguments.time_limit, not arguments.ml
        row = measure(adapter, size, arguments.repeats, limit, reml, arguments.slopes)
    except ImportError as error:
        row = {"notes": [f"not installed: {error}"]}
    except Exception as error:
        message = (str(error).strip().splitlines() or [""])[0]
        row = {"notes": [f"{type(error).__name__}: {message}"]}
    # Peers may have printed; the row is the last line.
    print("\n" + json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
