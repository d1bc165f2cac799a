"""
Repeated measures
=================

Measurements of a person are the rows of a group, and the group is the person:
occasions are level 1, persons are level 2, and time is a predictor at level 1. A
random intercept lets persons differ in their level. They may also differ in how
fast they change, and the model with a random intercept does not allow for that.
This lesson shows how to see it, and what it costs if it is ignored.
"""

# sphinx_gallery_thumbnail_number = 3

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from sklearn_mlm import ClusterRobustOLS, RandomInterceptRegressor
from sklearn_mlm.datasets import load_sleepstudy
from sklearn_mlm.display import ClusteringDisplay, RandomEffectsDisplay
from sklearn_mlm.inference import (
    confidence_intervals,
    fixed_effects,
    format_table,
    predict_interval,
)

X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)

# %%
# Between persons, and within
# ---------------------------
# In this study 18 persons slept three hours a night, and their reaction times (in
# ms) were measured on ten days. The null model divides the variance between persons
# and within persons. The part within contains the trend over the days, and a line
# through the days reduces it. The line cannot explain why persons differ, because
# all had the same days, and yet tau2 increases. The reason is in the last two
# columns: the variance of the persons' means stays as it is, and tau2 is this
# variance less sigma2 / 10, the part that residuals have in the means.

null = RandomInterceptRegressor().fit(None, y, groups=subject)
growth = RandomInterceptRegressor().fit(X, y, groups=subject)
models = {"null": null, "with days": growth}
variances = pd.DataFrame(
    {
        name: [*model.variance_components_, model.icc_]
        for name, model in models.items()
    },
    index=["tau2", "sigma2", "ICC"],
).T
variances["variance of means"] = y.groupby(subject).mean().var()
variances["less sigma2 / 10"] = (
    variances["variance of means"] - variances["sigma2"] / 10
)
variances.round(2)

# %%
# The growth line
# ---------------
# Days vary within persons, and their effect is learnt from all measurements less a
# level for each person. The intercept, the mean on day 0, is learnt from the
# persons. The degrees of freedom show the difference. If persons differ only in
# their level, the reaction time increases by the estimate each day.

effects = fixed_effects(growth)
format_table(effects[["estimate", "std_error", "df", "ci_lower", "ci_upper"]])

# %%
# The levels of the persons are the empirical-Bayes estimates of the model, the
# deviations from the line on every day.

display = RandomEffectsDisplay.from_estimator(growth, kind="caterpillar")
display.figure_.set_label(
    "The estimated levels of the 18 persons in ascending order, each with a 95% "
    "interval."
)

# %%
# Correlation within a person
# ---------------------------
# With a random intercept, any two measurements of a person have the same
# correlation, the ICC, whether they are one day apart or nine, and the variance is
# the same on all days. Both can be checked without a model, in a table of persons
# by days. The picture has the measurements beside the model. On the left, the
# correlation is higher for days near to each other. On the right, the standard
# deviation increases over the days.

by_day = X.assign(y=y, subject=subject).pivot_table("y", "subject", "days")
correlation = by_day.corr().to_numpy()
by_lag = [np.diag(correlation, lag).mean() for lag in range(1, 10)]
sd = by_day.std()
total_sd = np.sqrt(growth.variance_components_.sum())
low, high = confidence_intervals(growth).loc["icc"]

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
left.plot(range(1, 10), by_lag, "o-", color="#0072B2", label="measurements")
left.axhline(growth.icc_, color="#D55E00", linestyle="--", label="model: the ICC")
left.set(xlabel="days apart", ylabel="correlation within a person", ylim=(0, 1))
right.plot(sd, "o-", color="#0072B2", label="measurements")
right.axhline(total_sd, color="#D55E00", linestyle="--", label="model")
right.set(xlabel="day", ylabel="SD of reaction times (ms)", ylim=(0, None))
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="lower left")
figure.set_label(
    "On the left correlations by days apart, which fall below the ICC of the "
    "model; on the right standard deviations by day, which rise above that of the "
    "model."
)
print(f"model: correlation {growth.icc_:.2f}, 95% interval {low:.2f} to {high:.2f}")

# %%
# Do slopes differ?
# -----------------
# Lines that fan out explain both: days near to each other are more alike, and later
# days vary more. On the left, every person has a separate line. On the right, the
# lines of the model are parallel. All persons have the same ten days, so that an
# exact F test is short: the variance of the persons' own slopes, divided by the
# variance that slopes would have because of the residuals alone.

days = by_day.columns.to_numpy(dtype=float)
slopes, intercepts = np.polyfit(days, by_day.T, 1)
lines = intercepts[:, None] + np.outer(slopes, days)
df = 17, 18 * 8
residual_variance = ((by_day - lines) ** 2).to_numpy().sum() / df[1]
by_chance = residual_variance / ((days - days.mean()) ** 2).sum()
statistic = slopes.var(ddof=1) / by_chance
p_value = stats.f.sf(statistic, *df)
print(f"SD of slopes {slopes.std(ddof=1):.1f}, by chance {by_chance**0.5:.1f}")
print(f"F{df} = {statistic:.2f}, p = {p_value:.1e}")

figure, axes = plt.subplots(
    1, 2, figsize=(9.6, 4.0), sharey=True, layout="constrained"
)
for ax, kind in zip(axes, ("group", "model"), strict=True):
    ClusteringDisplay.from_data(X["days"], y, subject, lines=kind, ax=ax)
figure.set_label(
    "Reaction times over days: on the left each person's own line, which fan out, "
    "on the right the parallel lines of the random intercept model."
)

# %%
# What it costs: the standard error
# ---------------------------------
# The estimate is the mean of the persons' slopes if all have the same days, and it
# is right whether slopes differ or not. Its standard error is not: the model takes
# the different slopes for residuals, which many days average out. Least squares
# with cluster-robust standard errors (CR2) has the same estimate here, and allows
# for any correlation within persons. If slopes differ, its standard error is the
# right one.

robust = ClusterRobustOLS().fit(X, y, groups=subject)
slope = pd.DataFrame(
    {
        "random intercept": effects.loc["days"],
        "cluster-robust": fixed_effects(robust).loc["days"],
    }
).T
format_table(slope[["estimate", "std_error", "df", "ci_lower", "ci_upper"]])

# %%
# Predictions for day 10
# ----------------------
# The table has predictions for the person with the lowest slope, for the one with
# the highest, and for a new person: the interval of the person's mean on that day,
# that of a single measurement, and the prediction of the person's own line. In the
# model all have the same slope. Its predictions for persons with another slope are
# wrong, more so with every day, and its intervals do not allow for it.

flat, steep = slopes.argmin(), slopes.argmax()
who = [by_day.index[flat], by_day.index[steep], 999]
index = [f"{who[0]} (lowest slope)", f"{who[1]} (highest slope)", "new"]
day_10 = pd.DataFrame({"days": [10, 10, 10]}, index=index)
mean = predict_interval(growth, day_10, groups=who, kind="group_mean")
single = predict_interval(growth, day_10, groups=who)
single = single.rename(columns="{}, single".format).iloc[:, 1:]
predictions = pd.concat([mean, single], axis=1)
own = intercepts + 10 * slopes
predictions["own line"] = [own[flat], own[steep], np.nan]
plt.show()
predictions.round(0)

# %%
# A random intercept is enough for the levels of persons and, with robust standard
# errors, for the mean trend. Trends of single persons, and predictions beyond the
# days of measurement, need random slopes, which are the subject of the lesson
# "Random slopes".
