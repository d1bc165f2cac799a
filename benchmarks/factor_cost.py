"""What models of several grouping factors cost: InstEval beside other packages, and growing numbers of rows and levels.

InstEval comes with R's lme4 and is read from there: 73,421 ratings of 1,128 lecturers by 2,972 students.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FORMULA = "y ~ service + (1 | s) + (1 | d)"
# rows, levels of the first and of the second factor
SIZES = [(10_000, 1_000, 100), (100_000, 5_000, 500), (1_000_000, 30_000, 3_000), (10_000_000, 100_000, 10_000)]
# The marginals of MovieLens: ratings, users, films, and the exponents of the popularity of users and films.
MOVIELENS = [(1_000_209, 6_040, 3_706), (25_000_095, 162_541, 59_047)]
ENVIRONMENT = {f"{name}_NUM_THREADS": "2" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "RAYON")}
SCRIPT = """
suppressMessages(library(lme4))
invisible(lmer(Reaction ~ Days + (1 | Subject), sleepstudy))
frame <- read.csv(commandArgs(trailingOnly = TRUE)[1])
frame$s <- factor(frame$s); frame$d <- factor(frame$d)
time <- system.time(fit <- lmer(y ~ service + (1 | s) + (1 | d), frame))
numbers <- c(time[["elapsed"]], time[["user.self"]] + time[["sys.self"]], -2 * logLik(fit))
cat(format(packageVersion("lme4")), format(numbers, digits = 17), "\\n")
"""


def ours(frame: pd.DataFrame) -> float:
    """Fit by this package, and return -2 log-likelihood."""
    from sklearn_mlm import MixedEffectsRegressor

    model = MixedEffectsRegressor().fit(frame[["service"]], frame["y"], groups=frame[["s", "d"]])
    return float(model.criterion_)


def mixedlm(frame: pd.DataFrame) -> float:
    """Fit by mixedlm."""
    from mixedlm import lmer

    return -2.0 * float(lmer(FORMULA, frame).logLik().value)


def lme_python(frame: pd.DataFrame) -> float:
    """Fit by lme-python."""
    import polars as pl
    from lme_python import lmer

    return -2.0 * float(lmer(FORMULA, data=pl.from_pandas(frame.astype({"s": str, "d": str})), reml=True).log_likelihood)


def gpboost(frame: pd.DataFrame) -> float:
    """Fit by GPBoost, which is maximum likelihood."""
    from gpboost import GPModel

    model = GPModel(group_data=frame[["s", "d"]], likelihood="gaussian")
    model.fit(y=frame["y"].to_numpy(), X=np.column_stack([np.ones(len(frame)), frame["service"]]))
    return 2.0 * float(model.get_current_neg_log_likelihood())


def interlace(frame: pd.DataFrame) -> float:
    """Fit by interlace."""
    import interlace

    return -2.0 * float(interlace.fit("y ~ service", frame, random=["(1 | s)", "(1 | d)"], method="REML").llf)


def kamino(frame: pd.DataFrame) -> float:
    """Fit by Kamino."""
    from kamino import lmer

    return -2.0 * float(lmer(FORMULA, frame.astype({"s": str, "d": str}), reml=True).log_likelihood)


PEERS: dict[str, Callable[[pd.DataFrame], float]] = {
    one.__name__: one for one in (ours, mixedlm, lme_python, gpboost, interlace, kamino)
}


def print_table(sizes: str, limit: float) -> None:
    """Print what InstEval costs with each package that is there, and what more rows and levels cost."""
    if shutil.which("Rscript"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ratings.csv"
            read = 'data(InstEval, package = "lme4"); write.csv(InstEval, commandArgs(trailingOnly = TRUE)[1], row.names = FALSE)'
            subprocess.run(["Rscript", "-e", read, str(path)], check=True)
            _print_peers(path, limit)
    else:
        print("InstEval comes with lme4: there is no Rscript.")
    print("\n| rows | levels | solver | seconds | processor seconds | peak above the data, GB | evaluations |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for n, *levels in SIZES if sizes == "all" else SIZES[:3]:
        for solver in ("direct", "iterative"):
            _print_size(n, levels, solver, "")
    for n, *levels in MOVIELENS if sizes == "all" else MOVIELENS[:1]:
        _print_size(n, levels, "iterative", "popular")


def _print_peers(path: Path, limit: float) -> None:
    """Print the seconds that each package takes for InstEval, and the criterion it reaches."""
    print("| package | seconds | processor seconds | -2 log-likelihood |\n| --- | --- | --- | --- |")
    for name in PEERS:
        found = _measured(["peer", name, str(path)], limit)
        print(
            f"| {name} | {found} |" if isinstance(found, str) else "| {} | {:.2f} | {:.2f} | {:.4f} |".format(name, *found)
        )
    output = subprocess.run(
        ["Rscript", "-e", SCRIPT, str(path)], check=True, capture_output=True, text=True, env=os.environ | ENVIRONMENT
    ).stdout.split()
    print("| lme4 {} | {:.2f} | {:.2f} | {:.4f} |".format(output[0], *map(float, output[1:])))


def _print_size(n: int, levels: list[int], solver: str, kind: str) -> None:
    """Print what a fit of simulated ratings costs."""
    found = _measured(["size", str(n), *map(str, levels), solver, kind], 7_200.0)
    shown = f"{n:,} | {levels[0]:,} x {levels[1]:,}{' ' + kind if kind else ''} | {solver}"
    print(
        f"| {shown} | {found} |"
        if isinstance(found, str)
        else "| {} | {:.1f} | {:.1f} | {:.2f} | {:.0f} |".format(shown, *found)
    )


def _measured(arguments: list[str], limit: float) -> list[float] | str:
    """Return the numbers that a process of its own prints, or why there are none."""
    command = [sys.executable, str(Path(__file__)), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=os.environ | ENVIRONMENT)
    except subprocess.TimeoutExpired:
        return f"over {limit:g} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["died"])[-1][:100]
    return list(map(float, json.loads(done.stdout.splitlines()[-1])))


def simulate(n: int, n_first: int, n_second: int, kind: str) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Return predictors, outcome and labels of ratings; with "popular" marginals a few levels have most of the rows."""
    rng = np.random.default_rng(0)
    if kind:
        first, second = (_popular(rng, n, size, power) for size, power in ((n_first, 0.55), (n_second, 0.95)))
    else:
        first, second = rng.integers(0, n_first, n), rng.integers(0, n_second, n)
    X = rng.standard_normal((n, 1))
    y = 3.0 + 0.2 * X[:, 0] + 0.4 * rng.standard_normal(n_first)[first] + 0.6 * rng.standard_normal(n_second)[second]
    return X, y + rng.standard_normal(n), pd.DataFrame({"user": first.astype(np.int32), "item": second.astype(np.int32)})


def _popular(rng: np.random.Generator, n: int, n_levels: int, power: float) -> np.ndarray:
    """Return levels whose frequencies fall as a power of their rank."""
    weights = np.arange(1, n_levels + 1, dtype=np.float64) ** -power
    return np.minimum(np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(n)), n_levels - 1)


def _timed(call: Callable[[], Any]) -> tuple[Any, float, float, float]:
    """Return what a call returns, its seconds, its processor seconds, and by how much the memory of the process grew, in GB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock, processor = time.perf_counter(), time.process_time()
    found = call()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found, time.perf_counter() - clock, time.process_time() - processor, (after - before) / 2**20


def _of_peer(name: str, path: str) -> list[float]:
    """Return seconds, processor seconds and the criterion of the second fit of a package."""
    frame = pd.read_csv(path).astype({"y": np.float64, "service": np.float64})
    small = frame.iloc[:: max(1, len(frame) // 2_000)]
    PEERS[name](small)
    value, clock, processor, _ = _timed(lambda: PEERS[name](frame))
    return [clock, processor, value]


def _of_size(n: int, n_first: int, n_second: int, solver: str, kind: str) -> list[float]:
    """Return seconds, processor seconds, memory and evaluations of a fit."""
    from sklearn_mlm import MixedEffectsRegressor

    X, y, groups = simulate(n, n_first, n_second, kind)
    model: Any = MixedEffectsRegressor(solver=solver)
    _, clock, processor, peak = _timed(lambda: model.fit(X, y, groups=groups))
    return [clock, processor, peak, model.fit_.optimum.best.n_steps]


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "peer":
        print(json.dumps(_of_peer(*given)))
    else:
        rows, one, other = map(int, given[:3])
        print(json.dumps(_of_size(rows, one, other, *given[3:])))
