"""
Within, between, and the contextual effect
==========================================

How much better is the score of a pupil of a higher status? There are two
comparisons: of two pupils of one school (the within effect) and of two schools (the
between effect). The difference of the two is the contextual effect: what the mean
status of the school adds for pupils of the same status. The centring of the
predictor decides which of them a coefficient is.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mlm import RandomInterceptRegressor, WithinOLS, compare_with_ols
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.display import CoefficientComparisonDisplay
from sklearn_mlm.inference import (
    contrast_test,
    fixed_effects,
    format_table,
    random_effects_table,
)

pupils = make_schools(as_frame=True, random_state=0).frame
y, school = pupils["math"], pupils["school"]

# %%
# Three ways to centre
# --------------------
# Without centring, the intercept is the mean score at a status of 0. If the mean of
# all pupils is subtracted from status (grand-mean centring), the intercept is the
# mean score at the average status, and nothing else changes: the slope, the
# variances and the criterion stay. If the mean of the pupil's own school is
# subtracted (group-mean centring), status becomes another predictor. It has no
# differences between schools, and tau2 has to hold all of them.

pupils["ses_of_school"] = pupils.groupby("school")["ses"].transform("mean")
pupils["ses_centred"] = pupils["ses"] - pupils["ses"].mean()
pupils["ses_in_school"] = pupils["ses"] - pupils["ses_of_school"]
ways = {
    "uncentred": "ses",
    "grand-mean centred": "ses_centred",
    "group-mean centred": "ses_in_school",
}
models = {
    way: RandomInterceptRegressor().fit(pupils[[column]], y, groups=school)
    for way, column in ways.items()
}
centring = pd.DataFrame(
    {
        way: [model.intercept_, model.coef_[0], *model.variance_components_]
        for way, model in models.items()
    },
    index=["intercept", "slope", "tau2", "sigma2"],
).T
print(f"mean status {pupils['ses'].mean():.3f}")
centring.round(3)

# %%
# The within effect
# -----------------
# The slope of the group-mean centred predictor compares pupils of one school. Least
# squares with an intercept for each school, `WithinOLS`, finds the same slope. The
# slope of the uncentred predictor is a weighted mean of the within and the between
# effect. Its weights depend on the variances and on the sizes of the schools, not
# on what one wants to know.

within = models["group-mean centred"].coef_[0]
within_ols = WithinOLS().fit(pupils[["ses"]], y, groups=school)
slopes = {
    "group-mean centred": within,
    "WithinOLS": within_ols.coef_[0],
    "uncentred": models["uncentred"].coef_[0],
}
pd.Series(slopes, name="slope of status").to_frame().round(6)

# %%
# Within and between in one model
# -------------------------------
# With the mean of the school as a second predictor, each comparison has its own
# coefficient.

parts = ["ses_in_school", "ses_of_school"]
divided = RandomInterceptRegressor().fit(pupils[parts], y, groups=school)
effects = fixed_effects(divided)
between = effects.loc["ses_of_school", "estimate"]
print(f"Pupils of one school whose status differs by 1: {within:.2f} points apart")
print(f"Schools whose mean status differs by 1: {between:.2f} points apart")
format_table(effects)

# %%
# In the picture a sample of the schools are points, each with a short line that has
# the within slope. The long line through the points has the between slope. The
# contextual effect is the difference of the two slopes.

means = pupils.groupby("school")[["ses", "math"]].mean()
shown = means.sample(80, random_state=0)
half = pupils["ses_in_school"].std() / 2
figure, ax = plt.subplots(figsize=(6.8, 4.4), layout="constrained")
ends = np.array([shown["ses"] - half, shown["ses"] + half])
heights = shown["math"].to_numpy() + within * np.array([[-half], [half]])
lines = ax.plot(ends, heights, color="#56B4E9", linewidth=1.2)
lines[0].set_label(f"within: slope {within:.2f}")
sizes = {"s": 14, "zorder": 3}
ax.scatter(shown["ses"], shown["math"], color="#0072B2", label="schools", **sizes)
ends = np.array([means["ses"].min(), means["ses"].max()])
line, label = divided.intercept_ + between * ends, f"between: slope {between:.2f}"
ax.plot(ends, line, color="#D55E00", linewidth=2.2, label=label)
ax.set(xlabel="ses", ylabel="math")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower right")
figure.set_label(
    "Mean scores against mean status of 80 schools, each with a short line of the "
    "within slope, and the steeper line of the between slope."
)

# %%
# The contextual effect
# ---------------------
# Mundlak's form keeps the predictor as it is and adds the mean of the school. It is
# the same model with other coefficients: that of the mean now compares pupils of
# the same status in different schools. It is the between effect less the within
# effect, and its test asks whether the two are equal, as Hausman's test of a random
# intercept model against `WithinOLS` does. The table has this difference from three
# sources.

mundlak = RandomInterceptRegressor()
mundlak.fit(pupils[["ses", "ses_of_school"]], y, groups=school)
contextual = fixed_effects(mundlak).loc["ses_of_school"]
comparison = compare_with_ols(pupils[["ses"]], y, school, random_state=0)
by_comparison = comparison.within_between.loc["ses"]
differences = pd.DataFrame(
    {
        "Mundlak's form": contextual,
        "contrast": contrast_test(divided, [0, -1, 1]),
        "compare_with_ols": by_comparison.rename({"difference": "estimate"}),
    }
).T[["estimate", "std_error", "p_value"]]
format_table(differences)

# %%
# If the p-value were large, one coefficient for both might do. Here the effects
# differ by more than chance, and a single coefficient for status is neither of
# them.
#
# Least squares
# -------------
# `compare_with_ols` finds the within and the between effect of all predictors at
# once. The picture has its other estimates of the coefficient. The last is that of
# the random intercept model with the uncentred predictor. Pooled least squares
# mixes the within and the between effect too, in other proportions.

display = CoefficientComparisonDisplay.from_comparison(comparison)
display.figure_.set_label(
    "The coefficient of status by four models with 95% intervals: the within "
    "estimate is the lowest, least squares the highest."
)
format_table(comparison.coefficients.loc["ses", ["estimate", "std_error", "df"]])

# %%
# A mean of few pupils
# --------------------
# If the pupils are a sample of those of their school, their mean status is that of
# the school with an error. The reliability of the means is the part of their
# variance that is not error, and a null model of status estimates it. The error
# pulls the between effect towards the within effect, so that the contextual effect
# is too small by about this factor. If the pupils are all pupils of their schools,
# there is no such error.

status = RandomInterceptRegressor().fit(None, pupils["ses"], groups=school)
reliability = random_effects_table(status)["reliability"].mean()
whole = contextual["estimate"] / reliability
seen = contextual["estimate"]
print(f"mean reliability {reliability:.3f}: {seen:.2f} becomes {whole:.2f}")
plt.show()
