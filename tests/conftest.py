"""Where the reference figures are, and a design that several files test with."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest
from designs import simulate

# The process that collects the results of pytest-xdist reads warnings of the package in several threads. If two of them were
# the first to import the package, they could wait for each other.
import sklearn_mlm  # noqa: F401

# Before anything draws: pictures go to files, wherever the tests run.
os.environ.setdefault("MPLBACKEND", "Agg")
# What a user writes, for a type checker to read.
collect_ignore = ["types"]
_PROJECT = Path(__file__).resolve().parents[1]
_REFERENCE = Path(os.environ.get("SKLEARN_MLM_REFERENCE", _PROJECT.parent / "shared" / "reference"))
_REFERENCE_MIXED = _REFERENCE.with_name("reference_mixed")

# Counting the lines that run takes up to three times as long as running them. These files repeat what others run, on many
# designs or by arithmetic of their own, so coverage is not counted while they run.
_NOT_COUNTED = {
    "test_accumulator.py", "test_accuracy.py", "test_criterion.py", "test_degenerate.py", "test_dense_mixed.py",
    "test_docs.py", "test_gallery.py", "test_metamorphic.py", "test_mixed_criterion.py", "test_mixed_degenerate.py",
    "test_mixed_optimum.py", "test_optimum.py", "test_remainder.py", "test_variance_ratio.py",
}  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Count no lines while a test of these files runs, nor while its fixtures are made."""
    coverage, stopped = sys.modules.get("coverage"), []
    if coverage and item.path.name in _NOT_COUNTED:
        # A process of pytest-xdist has two of them, the second of which counts.
        while counting := coverage.Coverage.current():
            counting.stop()
            stopped.append(counting)
    try:
        return (yield)
    finally:
        for counting in reversed(stopped):
            counting.start()


def require(path):
    """Skip if a file of the reference corpus is not there; fail if SKLEARN_MLM_REFERENCE_REQUIRED is set."""
    if not path.is_file():
        message = f"no reference corpus at {path.parent}: set SKLEARN_MLM_REFERENCE to where it is"
        if os.environ.get("SKLEARN_MLM_REFERENCE_REQUIRED"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def reference():
    """Read a data set of the reference corpus."""
    require(_REFERENCE / "cases.json")
    return Reference()


@pytest.fixture(scope="session")
def reference_mixed():
    """Return the rows of a case beyond the random intercept, and what lme4 and its companions answer."""

    def read(part, name):
        path = _REFERENCE_MIXED / f"cases_{part}.json"
        require(path)
        case = next(case for case in json.loads(path.read_text(encoding="utf-8")) if case["id"] == name)
        return pd.read_csv(_REFERENCE_MIXED / case["data"]), case

    return read


class Reference:
    """What lme4 and its companions answer, by case."""

    def __init__(self):
        cases = json.loads((_REFERENCE / "cases.json").read_text(encoding="utf-8"))
        self.cases = {case["id"]: case for case in cases}

    def path(self, name):
        """Path of a data file."""
        return _REFERENCE / "data" / name

    def rows(self, case):
        """X (None without predictors), y, groups and weights (None without) of a case."""
        frame = pd.read_csv(_REFERENCE / case["data"], dtype={case["group"]: str})
        X = frame[case["x"]] if case["x"] else None
        return X, frame[case["y"]], frame[case["group"]], frame[case["weight"]] if case["weight"] else None


@pytest.fixture
def project():
    """Root folder of the project."""
    return _PROJECT


@pytest.fixture
def design():
    """One such design."""
    return simulate()
