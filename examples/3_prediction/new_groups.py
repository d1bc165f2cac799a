"""
Predictions for known groups and for new groups
===============================================

A fitted model knows some groups, but predictions are often for groups that it has
never seen, or for rows without a label. This lesson shows what the model predicts
for each of them, how uncertain the predictions are, and how the model learns about
a new group when the first rows of that group come in.
"""

# sphinx_gallery_thumbnail_number = 2

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.datasets import load_sleepstudy
from sklearn_mlm.inference import known_groups, predict_interval

X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
newcomer = subject == 352
X_known, y_known, known = X[~newcomer], y[~newcomer], subject[~newcomer]
model = RandomInterceptRegressor().fit(X_known, y_known, groups=known)

# %%
# Known, new and without a label
# ------------------------------
# The data are reaction times (in ms) of persons who sleep too little, over ten
# days. The model was fitted without person 352. Here are predictions for day 5. For
# person 309, whom the model knows, it adds the person's effect to the fixed part:
# this is the conditional prediction. Person 352 is new, and the last row has no
# label. For both, the effect is 0 on average, and the model predicts the fixed part
# alone: this is the population prediction.
#
# `known_groups` counts the rows of each kind. A misspelt label is a new group to
# the model, and the counts reveal it.

rows = pd.DataFrame(
    {"days": [5, 5, 5]}, index=["309 (known)", "352 (new)", "no label"]
)
labels = [309, 352, None]
print(known_groups(model, rows, groups=labels).to_dict())
mean, sd = model.predict(rows, groups=labels, return_std=True)
predictions = pd.DataFrame({"prediction": mean, "sd": sd}, index=rows.index)
predictions.round(1)

# %%
# The column ``sd`` comes from ``return_std=True``. It is the standard deviation of
# the mean of the row's group: small for a known person, and large for a new one,
# who may differ from the population as much as persons do.
#
# Three answers to a new group
# ----------------------------
# The parameter ``new_groups`` says what the model does with a new group: predict
# the population, return NaN, or raise an error. Take one of the last two if a new
# label can only be a mistake. A row without a label gets the population prediction
# in any case.

for answer in ("population", "nan", "error"):
    strict = RandomInterceptRegressor(new_groups=answer)
    strict.fit(X_known, y_known, groups=known)
    try:
        print(f"{answer:<10}", strict.predict(rows, groups=labels).round(1))
    except ValueError as error:
        print(f"{answer:<10}", str(error).split(". ")[0])

# %%
# Intervals of three kinds
# ------------------------
# An interval can be for three things: for one more measurement ("observation"), for
# the mean of the person's measurements on that day ("group_mean"), or for the mean
# of all persons on that day ("population_mean"). The interval for the mean of the
# new person is much wider than that of the known person, because nothing is known
# about the effect of the new person. The population mean does not depend on the
# person.

kinds = ["population_mean", "group_mean", "observation"]
intervals = pd.concat(
    {
        kind: predict_interval(model, rows, groups=labels, kind=kind).iloc[:2]
        for kind in kinds
    }
)
figure, ax = plt.subplots(figsize=(7.0, 3.0), layout="constrained")
for shift, (who, color) in zip(
    (0.12, -0.12),
    (("309 (known)", "#0072B2"), ("352 (new)", "#D55E00")),
    strict=True,
):
    ends = intervals.xs(who, level=1).loc[kinds]
    at = np.arange(3) + shift
    ax.hlines(at, ends["lower"], ends["upper"], color=color, linewidth=2)
    ax.plot(ends["prediction"], at, "o", color=color, label=who)
ax.set(yticks=range(3), yticklabels=kinds, xlabel="reaction time on day 5 (ms)")
ax.set_ylim(-0.4, 2.4)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(title="person", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
figure.set_label(
    "Intervals of the three kinds for a known and for a new person: equal for the "
    "population mean, much wider for the new person in the other two."
)
intervals.round(0).astype(int)

# %%
# When the first rows of a new group come in
# ------------------------------------------
# `update_random_effects` takes rows of new or known groups and estimates their
# effects again, while the fixed effects and the variances stay as they are. Here
# the ten measurements of person 352 come in one by one, and the picture has the
# prediction for the middle of the ten days. It moves from the population towards
# the level of the person, and its standard deviation shrinks. The dashed line is
# the mean of all ten measurements, and a little shrinkage is left even after them.

steps = []
days, times = X[newcomer], y[newcomer]
middle = pd.DataFrame({"days": [4.5]})  # the mean of the ten days
for n in range(11):
    if n > 0:
        model.update_random_effects(days[n - 1 : n], times[n - 1 : n], groups=[352])
    mean, sd = model.predict(middle, groups=[352], return_std=True)
    steps.append((mean[0], sd[0]))
learning = pd.DataFrame(steps, columns=["prediction", "sd"]).rename_axis(
    "measurements"
)

figure, ax = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
low = learning["prediction"] - 1.96 * learning["sd"]
high = learning["prediction"] + 1.96 * learning["sd"]
ax.fill_between(
    learning.index, low, high, color="#0072B2", alpha=0.2, label="± 1.96 sd"
)
ax.plot(learning["prediction"], "o-", color="#0072B2", label="prediction")
ax.axhline(times.mean(), color="#767676", linestyle="--", label="mean of all ten")
ax.set(xlabel="measurements of person 352", ylabel="reaction time (ms)")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower right")
figure.set_label(
    "The prediction for person 352 after 0 to 10 measurements: it moves from the "
    "population to the level of the person, and its band narrows."
)
plt.show()
learning.round(1)
