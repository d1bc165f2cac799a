"""What a fit costs with other packages, and what likelihood it reaches: the same simulated rows for all."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from peers import ADAPTERS, random_term, yardstick

# rows, columns, groups; repeats
SIZES = [
    ((1_000, 3, 50), 31),
    ((100_000, 5, 5_000), 9),
    ((1_000_000, 10, 100_000), 5),
    ((10_000_000, 10, 100_000), 3),
]
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "RAYON")
ENVIRONMENT = {f"{name}_NUM_THREADS": "2" for name in THREADS} | {"POLARS_MAX_THREADS": "2"}
# A process has, beside its timed fits, data to make and a small fit to do; one that hangs there is ended too.
GRACE_SECONDS = 180.0
MAX_NOTE = 120


def run(name: str, size: tuple[int, int, int], repeats: int, limit: float, ml: bool, n_slopes: int) -> dict:
    """Return the row of one adapter at one size, from a process of its own."""
    options = [f"--repeats={repeats}", f"--time-limit={limit}", f"--slopes={n_slopes}", *(["--ml"] if ml else [])]
    with subprocess.Popen(
        [sys.executable, "-m", "peers", name, *map(str, size), *options],
        cwd=Path(__file__).parent,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=2 * limit + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return {"notes": ["hangs"]}
        finally:
            # What it has started, R above all, goes with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == -signal.SIGALRM:
        return {"notes": [f"over {limit:g} s"]}
    if process.returncode:
        reason = signal.Signals(-process.returncode).name if process.returncode < 0 else f"exit {process.returncode}"
        return {"notes": [f"the process died ({reason}): {(errors.strip().splitlines() or [''])[0]}"]}
    return json.loads(output.splitlines()[-1])


def shown(row: dict, ours: float | None) -> str:
    """Return a row as a line of Markdown; `ours` are the seconds of this package."""
    notes = "; ".join(row["notes"]).replace("|", "/")
    name = f"{row['name']} {row.get('version', '')}".strip()
    if "seconds" not in row:
        return f"| {name} | - | - | - | - | {notes[:MAX_NOTE]} |"
    # A shortfall below zero, beyond rounding, would be a maximum that this package has missed; it is shown as it is.
    shortfall = "-"
    if "shortfall" in row:
        shortfall = f"{row['shortfall']:.1g}" if abs(row["shortfall"]) >= 1e-6 else "0"
    times = f"{row['seconds'] / ours:.1f}" if ours else "-"
    # A fit of few rows finds room in what the warm-up has left.
    peak = f"{row['peak'] / 1e6:.0f}" if row["peak"] >= 1e6 else "< 1"
    return f"| {name} | {row['seconds']:.3g} | {times} | {peak} | {shortfall} | {notes} |"


def print_table(sizes: str, limit: float, peers: str | None, ml: bool, n_slopes: int) -> None:
    """Print a Markdown table for each size, then how each peer is called.

    Parameters
    ----------
    sizes : {"small", "all"}
        Small leaves out ten million rows.
    limit : float
        Seconds that one fit may take; a peer without a fit at one size is not tried at larger ones.
    peers : str or None
        Names of adapters, separated by commas; all by default. This package always comes first.
    ml : bool
        Fit by maximum likelihood in place of REML, where a peer can.
    n_slopes : int
        The first so many columns have random slopes, correlated with the random intercept and each other.
    """
    yardstick.check()
    chosen = peers.split(",") if peers else list(ADAPTERS)
    if unknown := set(chosen) - set(ADAPTERS):
        raise SystemExit(f"No adapter is called {', '.join(sorted(unknown))}; there are {', '.join(ADAPTERS)}.")
    adapters = {name: importlib.import_module(f"peers.{name}") for name in ["ours", *chosen]}
    calls = {name: adapter.CALL_WITH_SLOPES if n_slopes else adapter.CALL for name, adapter in adapters.items()}
    # Why a peer is not tried, at larger sizes or at all.
    failed = {name: "has no random slopes" for name, call in calls.items() if call is None}
    for size, repeats in SIZES:
        if sizes == "small" and size[0] > 1_000_000:
            continue
        rows = []
        for name, adapter in adapters.items():
            if name in failed:
                rows.append({"notes": [failed[name]], "name": adapter.NAME})
                continue
            row = run(name, size, repeats, limit, ml, n_slopes) | {"name": adapter.NAME}
            rows.append(row)
            if "seconds" not in row:
                failed[name] = f"not tried: no fit at {size[0]:,} rows"
        print(f"\n{size[0]:,} rows, {size[1]} columns, {size[2]:,} groups, {random_term(n_slopes)}:\n")
        print("| peer | seconds | times ours | peak MB | shortfall | notes |\n| :-- | --: | --: | --: | --: | :-- |")
        ours = rows[0].get("seconds")
        for row in [rows[0], *sorted(rows[1:], key=lambda row: row.get("seconds", float("inf")))]:
            print(shown(row, ours), flush=True)
    print("\nHow each is called:\n")
    for name, call in calls.items():
        if call is not None:
            print(f"- {adapters[name].NAME.strip('*')}: {call}")
