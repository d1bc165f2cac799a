"""
Random slopes
=============

In a model with a random intercept, the lines of the groups are parallel. In a model
with a random slope, each group has a line of its own: its intercept and its slope
vary about those of the population, with variances and a correlation that the model
estimates. Do slopes vary? This lesson has a data set in which they do, and one in
which they do not.
"""

# sphinx_gallery_thumbnail_number = 3

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mlm import (
    MixedEffectsRegressor,
    RandomInterceptRegressor,
    compare_with_ols,
    inference,
)
from sklearn_mlm.datasets import load_sleepstudy, make_schools
from sklearn_mlm.display import (
    ClusteringDisplay,
    GroupLinesDisplay,
    RandomCoefficientsDisplay,
    VarianceFunctionDisplay,
)

# %%
# See it
# ------
# The data are reaction times (in ms) of 18 persons who sleep too little, over ten
# days. Least squares fits a line to each person's ten measurements. If persons
# differed in their level only, these slopes would differ by no more than what ten
# noisy measurements leave uncertain.

X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
own = pd.DataFrame(
    {
        name: np.polyfit(X["days"][rows], y[rows], 1)
        for name, rows in subject.groupby(subject).groups.items()
    },
    index=["slope", "intercept"],
).T
display = ClusteringDisplay.from_data(X["days"], y, subject, lines="group")
display.figure_.set_label(
    "Reaction times over days with a line for each person: most rise, and they fan "
    "out."
)
own.describe().loc[["mean", "std", "min", "max"]].round(1)

# %%
# Fit it
# ------
# The notation is that of lmer: the intercept, 1, and the slope of days vary between
# subjects.

model = MixedEffectsRegressor(random_effects="(1 + days | subject)")
model.fit(X, y, groups=subject)
model.summary()

# %%
# Read it
# -------
# The fixed effects are the line of the population. The standard deviations between
# persons are in the units of the coefficients: ms for the intercept, ms a day for
# the slope. The correlation is that of the levels on day 0 with the slopes. The
# table has the intervals of all parameters.

covariance = model.covariance_["subject"]
sd = np.sqrt(np.diag(covariance))
slope = model.coef_[0]
low, high = slope - 1.96 * sd[1], slope + 1.96 * sd[1]
print(
    f"slopes: mean {slope:.1f}, SD {sd[1]:.1f}, 95% within {low:.1f} to {high:.1f}"
)
print(
    f"correlation with the level on day 0: {covariance.iloc[0, 1] / sd.prod():.2f}"
)
limits = inference.confidence_intervals(model)
limits.round(2)

# %%
# In the picture each person is a point, with the deviation of the intercept and of
# the slope from those of the population. The ellipses hold half of the persons and
# 95% of them, by the estimated covariance. They are hardly tilted: where a person
# starts says little about the slope.

display = RandomCoefficientsDisplay.from_estimator(model)
display.figure_.set_label(
    "Deviations of slopes against deviations of intercepts for 18 persons, with "
    "ellipses for 50% and 95% that are hardly tilted."
)

# %%
# Do slopes vary?
# ---------------
# Without the variance of the slope, and its covariance with the intercept, the
# model is the random intercept model. The test compares the likelihoods of the two.
# A variance cannot be negative, and therefore the p-value of chi-squared with 2
# degrees of freedom is too large. The test uses a mixture of chi-squared with 1 and
# with 2 degrees of freedom, which is right for many groups.

test = inference.random_effects_test(model)
print(f"p = {test.loc['days', 'p_value']:.1e}")
inference.format_table(test)

# %%
# What it changes: the standard error
# -----------------------------------
# The estimate of the mean slope is the same. With a random intercept alone, the
# model takes the differences between slopes for noise of single measurements, which
# 180 of them average out. What matters for the mean slope is the number of persons.

parallel = RandomInterceptRegressor().fit(X, y, groups=subject)
errors = pd.DataFrame(
    {
        "random intercept": inference.fixed_effects(parallel).loc["days"],
        "random slope": inference.fixed_effects(model).loc["days"],
    }
).T
inference.format_table(
    errors[["estimate", "std_error", "df", "ci_lower", "ci_upper"]]
)

# %%
# Lines of persons, shrunken
# --------------------------
# The empirical-Bayes estimates pull the line of a person towards that of the
# population, more so if the measurements of the person are few or noisy. The
# reliability of the slope is the share of its variance that these measurements
# determine. The picture has the person's own line, that of the model and that of
# the population for eight persons.

shown = [335, 309, 330, 349, 372, 370, 337, 308]
display = GroupLinesDisplay.from_estimator(
    model, X, y, subject, feature="days", show_groups=shown
)
display.figure_.set_label(
    "Reaction times of eight persons over days, each with the person's own line, "
    "the line of the model and that of the population."
)
table = inference.random_effects_table(model).xs("days", level="coefficient")
table = table[["total", "sd", "reliability"]].rename(columns={"total": "model"})
table.insert(0, "own slope", own["slope"])
table.loc[[309, 335, 337]].round(2)

# %%
# The share of the persons in the variance
# ----------------------------------------
# If slopes vary, the variance between persons depends on the day, and so does the
# intraclass correlation. Averaged over the rows, it does not depend on the day from
# which the days are counted. The picture has the variance over the days. R² has the
# share that the days explain (marginal), and the share of the days and the persons'
# lines together (conditional).

days = pd.DataFrame({"days": [0, 3, 6, 9]})
by_day = pd.DataFrame({"ICC": inference.icc(model, X=days)}).set_index(days["days"])
shares = inference.r2(model)
print(f"ICC averaged over the rows {inference.icc(model):.2f},", end=" ")
print(
    f"R² {shares['marginal']:.2f} marginal, {shares['conditional']:.2f} conditional"
)
display = VarianceFunctionDisplay.from_estimator(model, X, "days")
display.figure_.set_label(
    "The variance of reaction times over the days: the part between persons grows, "
    "the residual part is the same on all days."
)
by_day.round(2)

# %%
# Predictions
# -----------
# The line of a known person goes on. The line of a new person is that of the
# population, and its interval becomes wider with the days, because the slope is not
# known.

ten = pd.DataFrame({"days": [0, 10, 0, 10]})
predictions = inference.predict_interval(model, ten, groups=[337, 337, 999, 999])
predictions.insert(0, "person", ["337", "337", "new", "new"])
predictions.insert(1, "day", ten["days"])
predictions.round(0).set_index(["person", "day"]).astype(int)

# %%
# When slopes do not vary
# -----------------------
# Does the effect of status differ between the schools of simulated pupils? It was
# simulated as the same for all. `compare_with_ols` asks this of every predictor,
# and the model with the random slope has an interval for the standard deviation of
# the slopes. The p-value is large: the random intercept model describes these
# schools, and it is easier to report. If theory expects that a slope varies and the
# question is about its mean, keep the random slope even if the test is not
# significant, because the standard error then allows for it.

schools = make_schools(random_state=0, as_frame=True)
comparison = compare_with_ols(
    schools.data, schools.target, schools.groups, random_state=0
)
varying = MixedEffectsRegressor(random_effects="(1 + ses | school)")
varying.fit(schools.data, schools.target, groups=schools.groups)
low, high = inference.confidence_intervals(varying).loc["sd(ses)"]
p_value = inference.random_effects_test(varying).loc["ses", "p_value"]
print(f"SD of slopes: 95% interval {low:.2f} to {high:.2f}, p = {p_value:.2f}")
plt.show()
comparison.slopes.round(3)
