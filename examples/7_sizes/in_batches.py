"""
Rows in batches and in Parquet files
====================================

A model needs its rows only once, to read them into moments: the sizes and the means
of the groups and the scatter within them. Moments of parts of the rows add up to
the moments of all rows. So rows that do not fit into memory are read in batches,
from anywhere, and the model fitted to the moments is the same as that fitted to all
rows at once.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.inference import confidence_intervals

pupils = make_schools(2_000, 40_000, as_frame=True, random_state=0).frame
pupils = pupils.sample(frac=1.0, random_state=0, ignore_index=True)

# %%
# Batches from a generator
# ------------------------
# The 40,000 pupils are in random order, so that pupils of a school are in many
# batches. A batch is a tuple of predictors, outcome and group labels. A generator
# may get it from a database, a file or the network. `GroupedMoments.from_batches`
# keeps the moments and one batch in memory, and ``fit_moments`` fits the model to
# the moments.


def batches(size=2_000):
    """Yield the pupils in batches, as a generator that reads a database would."""
    for start in range(0, len(pupils), size):
        rows = pupils.iloc[start : start + size]
        yield rows[["ses"]], rows["math"], rows["school"]


moments = GroupedMoments.from_batches(batches())
models = {"batches": RandomInterceptRegressor().fit_moments(moments)}
moments

# %%
# Parquet files
# -------------
# `GroupedMoments.from_parquet` reads files, or all files of a folder, batch by
# batch and only in the columns that it needs. It needs pyarrow, which comes with
# the extra ``arrow``. Here are the pupils in ten files.

folder = TemporaryDirectory()
for number in range(10):
    path = Path(folder.name) / f"part_{number}.parquet"
    pupils.iloc[number::10].to_parquet(path, index=False)
columns = {"x": "ses", "y": "math", "groups": "school"}
moments = GroupedMoments.from_parquet(folder.name, **columns)
models["Parquet files"] = RandomInterceptRegressor().fit_moments(moments)
moments

# %%
# Merging
# -------
# Moments of parts may come from different processes, machines or sites, and
# ``merge`` or ``sum`` adds them. ``save`` and ``load`` carry them as small files.
# They hold the means of groups, not rows, but the mean of a group of one row is
# that row.

files = sorted(Path(folder.name).glob("*.parquet"))
parts = [GroupedMoments.from_parquet(file, **columns) for file in files]
models["merged"] = RandomInterceptRegressor().fit_moments(
    GroupedMoments.merge(parts)
)
folder.cleanup()

# %%
# A model that grows
# ------------------
# ``partial_fit`` adds rows to a model and estimates everything again. It is for a
# model that is used between the batches. To read many batches and fit once, take
# `GroupedMoments.from_batches`, which is faster.

growing = RandomInterceptRegressor()
for X, y, school in batches(10_000):
    growing.partial_fit(X, y, groups=school)
models["partial_fit"] = growing

# %%
# The same answer
# ---------------
# The estimates of all ways agree with those of one fit to all rows, up to the
# rounding of floating-point numbers. The same is true of the estimated effects of
# the 2,000 schools.

models["all rows"] = RandomInterceptRegressor()
models["all rows"].fit(pupils[["ses"]], pupils["math"], groups=pupils["school"])


def estimates(model):
    """Return the fixed effects and the variances of a model."""
    return [model.intercept_, *model.coef_, *model.variance_components_]


names = ["intercept", "ses", "between schools", "within schools"]
table = pd.DataFrame(
    {way: estimates(model) for way, model in models.items()}, names
).T
effects = [model.random_effects_ for model in models.values()]
same = np.allclose(table, table.loc["all rows"], rtol=1e-10)
same_effects = np.allclose(effects, effects[-1], rtol=1e-10, atol=1e-10)
print(f"equal to 1e-10: estimates {same}, effects of schools {same_effects}")
table.round(4)

# %%
# How the estimate settles
# ------------------------
# Moments can be looked at while they grow. The picture has the intraclass
# correlation of the scores, given status, and its 95% interval after every batch.
# After the first batch most schools have one pupil or none, and the data say little
# about the variance between schools. The interval becomes narrow as more pupils of
# the same schools come in.

seen, steps = None, []
for batch in batches():
    part = GroupedMoments.from_batches([batch])
    seen = part if seen is None else seen + part
    model = RandomInterceptRegressor().fit_moments(seen)
    low, high = confidence_intervals(model).loc["icc"]
    steps.append((seen.n_rows.sum(), model.icc_, low, high))
steps = pd.DataFrame(steps, columns=["rows", "icc", "lower", "upper"])

figure, ax = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
ax.fill_between(
    steps["rows"], steps["lower"], steps["upper"], color="#56B4E9", alpha=0.4
)
ax.plot(steps["rows"], steps["icc"], "o-", color="#0072B2")
ax.axhline(models["all rows"].icc_, color="#767676", linestyle="--")
ax.set(xlabel="rows read", ylabel="intraclass correlation")
ax.xaxis.set_major_formatter("{x:,.0f}")
ax.spines[["top", "right"]].set_visible(False)
figure.set_label(
    "The intraclass correlation and its 95% interval after each of 20 batches: the "
    "interval is wide at first and then closes in on the estimate from all rows."
)
plt.show()
