"""Benchmarks, a subcommand each: ``python benchmarks/run.py fit`` prints what a fit costs beside what it cannot do without.

    python benchmarks/run.py fit [--sizes small|all] [--repeats K] [--strings] [--level-2 | --slopes [K]]
    python benchmarks/run.py small [--repeats K]
    python benchmarks/run.py parts
    python benchmarks/run.py baselines [--repeats K]
    python benchmarks/run.py inference [--sizes small|all]
    python benchmarks/run.py formula [--sizes small|all]
    python benchmarks/run.py stream [--rows N] [--folder FOLDER]
    python benchmarks/run.py curves
    python benchmarks/run.py factors [--sizes small|all] [--time-limit SECONDS]
    python benchmarks/run.py peers [--sizes small|all] [--time-limit SECONDS] [--peers a,b,c] [--ml] [--slopes [K]]

All with two threads and, but for `stream`, `factors` and `peers`, in one process, alternating, medians of the repeats. Machines are
noisy: read the ratios.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "2")  # before NumPy starts its threads

import baseline_cost
import factor_cost
import fit_cost
import formula_cost
import inference_cost
import peer_cost
import small_cost
import stream_cost

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="a fit against the floor and LinearRegression")
    fit.add_argument("--sizes", choices=("small", "all"), default="all", help="small leaves out ten million rows")
    fit.add_argument("--repeats", type=int, default=None, help="default: 5 for the largest size to 101 for the smallest")
    fit.add_argument("--strings", action="store_true", help="string labels in place of integers")
    model = fit.add_mutually_exclusive_group()
    model.add_argument("--level-2", action="store_true", help="make one column a group-level covariate")
    slopes = {"type": int, "nargs": "?", "const": 1, "default": 0, "choices": (1, 2, 3), "metavar": "K"}
    slopes["help"] = "fit random slopes of the first K columns, 1 to 3; without K: of the first"
    model.add_argument("--slopes", **slopes)
    small = commands.add_parser("small", help="fits of few rows against LinearRegression, in turns and in runs")
    small.add_argument("--repeats", type=int, default=None, help="default: 80")
    commands.add_parser("parts", help="what each part of a fit costs")
    baselines = commands.add_parser(
        "baselines", help="cluster-robust least squares, and the comparison, against LinearRegression"
    )
    baselines.add_argument("--repeats", type=int, default=None, help="default: 3 to 5")
    inference = commands.add_parser("inference", help="what tests, intervals and the summary cost beside the fit")
    inference.add_argument("--sizes", choices=("small", "all"), default="all", help="small leaves out ten million rows")
    formula = commands.add_parser("formula", help="a formula against formulaic's model matrix and the fit of its columns")
    formula.add_argument("--sizes", choices=("small", "all"), default="all", help="small leaves out a million rows")
    stream = commands.add_parser("stream", help="rows per second from Parquet, beside merely reading them, and memory")
    stream.add_argument(
        "--rows", type=float, default=1e8, help="the largest number of rows; default: 1e8, which takes a minute"
    )
    stream.add_argument("--folder", default=None, help="where the files of 1.1 GB are kept; default: a temporary one")
    commands.add_parser("curves", help="what a fit costs against the number of groups, and of columns")
    factors = commands.add_parser("factors", help="several grouping factors: InstEval beside others, and growing numbers")
    factors.add_argument("--sizes", choices=("small", "all"), default="all", help="small leaves out what takes minutes")
    factors.add_argument("--time-limit", type=float, default=300.0, help="seconds that a peer may take; default: 300")
    peers = commands.add_parser("peers", help="time, memory and likelihood of other packages, relative to this one's")
    peers.add_argument("--sizes", choices=("small", "all"), default="all", help="small leaves out ten million rows")
    peers.add_argument("--time-limit", type=float, default=300.0, help="seconds that one fit may take; default: 300")
    peers.add_argument("--peers", default=None, help="names of adapters in benchmarks/peers, with commas; default: all")
    peers.add_argument("--ml", action="store_true", help="maximum likelihood in place of REML")
    peers.add_argument("--slopes", **slopes)
    arguments = parser.parse_args()
    if arguments.command == "fit" and arguments.slopes:
        fit_cost.print_slopes(arguments.sizes, arguments.repeats, arguments.strings, arguments.slopes)
    elif arguments.command == "fit":
        fit_cost.print_table(arguments.sizes, arguments.repeats, arguments.strings, arguments.level_2)
    elif arguments.command == "small":
        small_cost.print_table(arguments.repeats)
    elif arguments.command == "parts":
        fit_cost.print_parts()
    elif arguments.command == "inference":
        inference_cost.print_table(arguments.sizes)
    elif arguments.command == "formula":
        formula_cost.print_table(arguments.sizes)
    elif arguments.command == "stream":
        stream_cost.print_stream(arguments.folder, int(arguments.rows))
    elif arguments.command == "curves":
        stream_cost.print_curves()
    elif arguments.command == "factors":
        factor_cost.print_table(arguments.sizes, arguments.time_limit)
    elif arguments.command == "peers":
        peer_cost.print_table(arguments.sizes, arguments.time_limit, arguments.peers, arguments.ml, arguments.slopes)
    else:
        baseline_cost.print_table(arguments.repeats)
