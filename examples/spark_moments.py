"""
Rows on Spark: read them where they are, fit one small state
============================================================

A model needs its rows once, to read them into moments: the means of the groups and the scatter within them. Moments of
parts of the rows add up to those of all. So a cluster that holds the rows reads each partition into a state, merges the
states, and sends one of them back, whose size is that of the groups; the fit is the same to the last digits.

Run as it is, it starts Spark on this machine, with two threads, on simulated pupils in schools:

    pip install pyspark
    python examples/spark_moments.py

Spark needs Java (17 or newer for Spark 4). On a cluster, sklearn-mlm and pyarrow have to be installed on its workers.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.datasets import make_schools

if not (find_spec("pyspark") and find_spec("pyarrow")):
    print("This example needs PySpark and PyArrow: pip install pyspark pyarrow.")
    sys.exit()
if not (shutil.which("java") or "JAVA_HOME" in os.environ):
    print("This example needs Java, in which Spark runs: install a Java runtime, version 17 or newer for Spark 4.")
    sys.exit()

import pyarrow as pa
from pyspark.sql import SparkSession

# %%
# A state for each partition
# --------------------------
# Spark hands a function the rows of a partition as Arrow batches, one after the other, and `from_arrow` takes them as they
# come. The state goes on as bytes: `save` writes it to a file, or to memory as here, to the last digit. A partition
# without rows has no batches, and gives no state.

COLUMNS = {"x": ["ses"], "y": "math", "groups": "school"}


def packed(moments: GroupedMoments) -> pa.RecordBatch:
    """Return a state as a table of one row."""
    file = BytesIO()
    moments.save(file)
    return pa.RecordBatch.from_arrays([pa.array([file.getvalue()], pa.binary())], names=["moments"])


def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read the rows of a partition into a state."""
    for first in batches:
        stream = pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
        yield packed(GroupedMoments.from_arrow(stream, **COLUMNS))


# %%
# One state of several
# --------------------
# `merge` takes states in any order, with groups that stand in several of them.


def merge(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Merge the states of a partition into one."""
    states = [GroupedMoments.load(BytesIO(state)) for batch in batches for state in batch["moments"].to_pylist()]
    if states:
        yield packed(GroupedMoments.merge(states))


# %%
# Rows in files
# -------------
# The pupils of a school are in several files here: groups may lie across partitions.

pupils = make_schools(as_frame=True, random_state=0).frame
folder = tempfile.TemporaryDirectory()
for part in range(8):
    pupils.iloc[part::8].to_parquet(Path(folder.name) / f"part-{part}.parquet", index=False)

# Workers run the Python of this script, and nobody is listened to but this machine.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
# Rows stay Arrow batches on their way, whatever PySpark thinks of the version of pandas.
warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")
spark = SparkSession.builder.master("local[2]").appName("moments").config("spark.ui.enabled", False).getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

# %%
# Read, merge, collect
# --------------------
# Eight partitions give eight states. They are merged into two by the workers, so that the driver has less to do; with
# thousands of partitions, merge them once more.

rows = spark.read.parquet(folder.name).repartition(8)
states = rows.mapInArrow(read, "moments binary").repartition(2).mapInArrow(merge, "moments binary")
collected = [GroupedMoments.load(BytesIO(row["moments"])) for row in states.collect()]
spark.stop()
folder.cleanup()

moments = GroupedMoments.merge(collected)
print(f"Spark: {int(moments.n_rows.sum())} rows in {moments.n_groups} schools, from {len(collected)} states")

# %%
# Fit
# ---
# What is left is arithmetic on the state.

model = RandomInterceptRegressor().fit_moments(moments)
local = RandomInterceptRegressor().fit(pupils[COLUMNS["x"]], pupils[COLUMNS["y"]], groups=pupils[COLUMNS["groups"]])
print(f"{'':<22} {'Spark':>10} {'local fit':>10}")
for name, value, value_here in zip(moments.feature_names, model.coef_, local.coef_, strict=True):
    print(f"{name:<22} {value:10.4f} {value_here:10.4f}")
for name in ("group", "residual"):
    print(f"{name + ' variance':<22} {model.variance_components_[name]:10.4f} {local.variance_components_[name]:10.4f}")

figures = [np.r_[fit.coef_, fit.intercept_, fit.variance_components_, fit.random_effects_] for fit in (model, local)]
np.testing.assert_allclose(*figures, rtol=1e-8, atol=1e-10)
print("The two are the same to 1e-8, the schools' effects included.")
