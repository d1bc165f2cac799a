"""
Moments on a Spark cluster
==========================

A cluster that holds the rows reads each partition into moments, merges them, and
sends back one small record. Its size depends on the number of groups and not on the
number of rows, and the model fitted to it is the same, to the last digits, as the
model fitted to all rows.

This lesson starts Spark on one machine with two threads. It needs PySpark and
PyArrow (``pip install pyspark pyarrow``) and Java. On a cluster, sklearn-mlm and
pyarrow have to be installed on the workers. The page shows the code without running
it, and its output at the end.
"""

import os
import sys
import warnings
from io import BytesIO
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import SparkSession

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.datasets import make_schools

# %%
# Moments of a partition
# ----------------------
# Spark passes the rows of a partition to a function as Arrow batches, one after the
# other, and ``from_arrow`` reads them as they come. The moments travel as bytes:
# ``save`` writes them to a file, or to memory as here. A partition without rows has
# no batches and yields no moments.

COLUMNS = {"x": ["ses"], "y": "math", "groups": "school"}


def packed(moments):
    """Return moments as an Arrow table of one row."""
    file = BytesIO()
    moments.save(file)
    data = pa.array([file.getvalue()], pa.binary())
    return pa.RecordBatch.from_arrays([data], names=["moments"])


def read(batches):
    """Read the rows of a partition into moments."""
    for first in batches:
        rows = chain([first], batches)
        stream = pa.RecordBatchReader.from_batches(first.schema, rows)
        yield packed(GroupedMoments.from_arrow(stream, **COLUMNS))


# %%
# Merging on the workers
# ----------------------
# ``merge`` adds moments in any order, and a group may have rows in several of them.


def merge(batches):
    """Merge the moments of a partition."""
    packages = [each for batch in batches for each in batch["moments"].to_pylist()]
    if packages:
        parts = [GroupedMoments.load(BytesIO(package)) for package in packages]
        yield packed(GroupedMoments.merge(parts))


# %%
# Rows in files
# -------------
# The rows are in eight Parquet files, and the pupils of a school are in several of
# them. The settings tell Spark to use the Python of this script on its workers and
# to listen to this machine only.

pupils = make_schools(as_frame=True, random_state=0).frame
folder = TemporaryDirectory()
for number in range(8):
    path = Path(folder.name) / f"part_{number}.parquet"
    pupils.iloc[number::8].to_parquet(path, index=False)

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", False)
spark = builder.appName("moments").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

# %%
# Read, merge, collect
# --------------------
# Eight partitions yield moments, and the workers merge these into two records, so
# that the driver has less to do. With thousands of partitions, merge them in more
# steps.

rows = spark.read.parquet(folder.name).repartition(8)
records = rows.mapInArrow(read, "moments binary").repartition(2)
records = records.mapInArrow(merge, "moments binary").collect()
spark.stop()
folder.cleanup()

moments = GroupedMoments.merge(
    GroupedMoments.load(BytesIO(record["moments"])) for record in records
)
n_rows = int(moments.n_rows.sum())
print(f"{n_rows} rows in {moments.n_groups} schools, from {len(records)} records")

# %%
# Fit
# ---
# The rest is arithmetic on the moments, on the driver. A fit to the rows on this
# machine gives the same figures.

model = RandomInterceptRegressor().fit_moments(moments)
local = RandomInterceptRegressor()
local.fit(
    pupils[COLUMNS["x"]], pupils[COLUMNS["y"]], groups=pupils[COLUMNS["groups"]]
)


def estimates(model):
    """Return the fixed effects and the variances of a model."""
    return [model.intercept_, *model.coef_, *model.variance_components_]


names = ["intercept", "ses", "between schools", "within schools"]
table = pd.DataFrame({"Spark": estimates(model), "local": estimates(local)}, names)
print(table.round(4))
same = np.allclose(estimates(model), estimates(local), rtol=1e-8)
same_effects = np.allclose(model.random_effects_, local.random_effects_, atol=1e-8)
print(f"equal to 1e-8: estimates {same}, effects of schools {same_effects}")

# %%
# The output is
#
# .. code-block:: none
#
#    6871 rows in 419 schools, from 2 records
#                       Spark    local
#    intercept        57.6422  57.6422
#    ses               3.8077   3.8077
#    between schools   4.7363   4.7363
#    within schools   63.0290  63.0290
#    equal to 1e-8: estimates True, effects of schools True
