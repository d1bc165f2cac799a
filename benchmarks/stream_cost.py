"""What streaming costs: rows per second from Parquet beside merely reading the same columns, memory, and the curves."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from fit_cost import medians, simulate

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor

SIZES = [1_000_000, 10_000_000, 100_000_000, 1_000_000_000]
N_COLUMNS, N_GROUPS, N_FILES, FILE_ROWS = 5, 1_000_000, 20, 1_000_000
COLUMNS = [f"x{i}" for i in range(N_COLUMNS)]


def write_parquet(folder: Path) -> list[Path]:
    """Write files of a million rows each, in a million groups in no order, where they are not there yet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    effects = np.random.default_rng(0).standard_normal(N_GROUPS)
    paths = [folder / f"{number}.parquet" for number in range(N_FILES)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        rng = np.random.default_rng(number + 1)
        X, group = rng.standard_normal((FILE_ROWS, N_COLUMNS)), rng.integers(0, N_GROUPS, FILE_ROWS)
        y = X @ np.arange(1.0, N_COLUMNS + 1) + effects[group] + rng.standard_normal(FILE_ROWS)
        table = pa.table(
            {**dict(zip(COLUMNS, map(pa.array, np.ascontiguousarray(X.T)), strict=True)), "y": y, "group": group}
        )
        pq.write_table(table, path.with_suffix(".part"), compression="none", use_dictionary=False)
        path.with_suffix(".part").rename(path)
    return paths


def measure(paths: list[str], n_rows: int) -> dict[str, float]:
    """Return seconds of reading, of streaming and of solving, and the peak of resident memory, in this process."""
    import pyarrow.dataset as ds

    columns = [*COLUMNS, "y", "group"]
    dataset = ds.dataset([paths[i % len(paths)] for i in range(n_rows // FILE_ROWS)], format="parquet")
    seconds = {}
    start = time.perf_counter()
    for batch in dataset.scanner(columns=columns, batch_size=1 << 18, batch_readahead=4, fragment_readahead=1).to_batches():
        del batch
    seconds["read"] = time.perf_counter() - start
    start = time.perf_counter()
    moments = GroupedMoments.from_arrow(dataset, x=COLUMNS, y="y", groups="group")
    seconds["stream"] = time.perf_counter() - start
    start = time.perf_counter()
    model = RandomInterceptRegressor().fit_moments(moments)
    seconds["solve"] = time.perf_counter() - start
    assert moments.n_rows.sum() == n_rows
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {**seconds, "peak": peak * 1024.0, "icc": model.icc_}


def print_stream(folder: str | None, largest: int) -> None:
    """Print a line for each number of rows, each measured in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        paths = write_parquet(Path(folder or temporary))
        print(
            f"{N_COLUMNS} columns, {N_GROUPS:,} groups in no order; {N_FILES} files of {FILE_ROWS:,} rows, read again and again\n"
        )
        print(
            "|          rows | read, M rows/s | stream, M rows/s | share of read | scan, s | solve, s | solve / all | peak, GB |"
        )
        print(
            "| ------------: | -------------: | ---------------: | ------------: | ------: | -------: | ----------: | -------: |"
        )
        for n_rows in SIZES:
            if n_rows > largest:
                continue
            command = [sys.executable, __file__, json.dumps([str(path) for path in paths]), str(n_rows)]
            result = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            m = json.loads(result.stdout)
            print(
                f"| {n_rows:>13,} | {n_rows / m['read'] / 1e6:>14.1f} | {n_rows / m['stream'] / 1e6:>16.1f} | "
                f"{m['read'] / m['stream']:>13.0%} | {m['stream']:>7.1f} | {m['solve']:>8.2f} | "
                f"{m['solve'] / (m['stream'] + m['solve']):>11.1%} | {m['peak'] / 1e9:>8.2f} |",
                flush=True,
            )


def print_curves() -> None:
    """Print what reading and fitting cost against the number of groups, and of columns, beside X.T @ X."""
    print("|       rows | columns |    groups | X.T @ X, ms | read, ms | fit, ms | read, ns a row | read / X.T @ X |")
    print("| ---------: | ------: | --------: | ----------: | -------: | ------: | -------------: | -------------: |")
    by_groups = [(10_000_000, 5, n_groups) for n_groups in (10, 1_000, 100_000, 1_000_000, 5_000_000)]
    by_columns = [(50_000_000 // max(p, 5), p, 10_000) for p in (1, 5, 20, 100, 500)]
    for n_rows, n_columns, n_groups in by_groups + by_columns:
        X, y, groups = simulate(n_rows, n_columns, n_groups)
        calls = {
            "gram": lambda X=X: X.T @ X,
            "read": lambda X=X, y=y, groups=groups: GroupedMoments.from_arrays(X, y, groups),
            "fit": lambda X=X, y=y, groups=groups: RandomInterceptRegressor().fit(X, y, groups),
        }
        gram, read, fit = medians(calls, 3).values()
        print(
            f"| {n_rows:>10,} | {n_columns:>7} | {n_groups:>9,} | {1e3 * gram:>11.0f} | {1e3 * read:>8.0f} | {1e3 * fit:>7.0f} | "
            f"{1e9 * read / n_rows:>14.0f} | {read / gram:>14.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure one size in this process; run.py stream calls it.")
    parser.add_argument("paths", type=json.loads)
    parser.add_argument("n_rows", type=int)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.paths, arguments.n_rows)))
