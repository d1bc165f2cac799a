"""
Effect sizes
============

A coefficient is in the units of its variables, and a variance is too. An effect
size has no units: it relates the effect to how much things vary. Groups bring two
kinds of variation, between and within, and every effect size has to say which of
them it is relative to. This lesson computes effect sizes for a simulated trial in
which half of the schools, drawn at random, take part in a programme that adds 2
points to the scores.
"""

# sphinx_gallery_thumbnail_number = 3

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.display import VarianceDisplay
from sklearn_mlm.inference import (
    clustering_report,
    confidence_intervals,
    fixed_effects,
    plausible_values_range,
    r2,
)

pupils = make_schools(120, 2400, as_frame=True, random_state=1).frame
chosen = np.random.default_rng(1).permutation(120)[:60] + 1
pupils["programme"] = pupils["school"].isin(chosen).astype(float)
pupils["math"] += 2 * pupils["programme"]
y, school = pupils["math"], pupils["school"]

# %%
# How much groups matter
# ----------------------
# The effect size of the schools themselves is the intraclass correlation (ICC), the
# share of the variance that lies between them. The plausible values range says the
# same in points: 2.5% of schools are below it and 2.5% above. The interval of the
# ICC is exact, whatever the sizes of the schools. The limits of the width come from
# those of the standard deviation between schools, tau.

null = RandomInterceptRegressor().fit(None, y, groups=school)
tau, sigma = np.sqrt(null.variance_components_)
limits = confidence_intervals(null)
low, high = plausible_values_range(null)
widths = (high - low) / tau * limits.loc["sd(group)"].to_numpy()
sizes = pd.DataFrame(
    {
        "SD between schools (tau)": [tau, *limits.loc["sd(group)"]],
        "SD within schools (sigma)": [sigma, *limits.loc["sd(residual)"]],
        "ICC": [null.icc_, *limits.loc["icc"]],
        "width of the range, in points": [high - low, *widths],
    },
    index=["estimate", "ci_lower", "ci_upper"],
).T
print(f"plausible values range {low:.1f} to {high:.1f}")
sizes.round(3)

# %%
# The two pictures have the shares of the variance and the plausible values range.

display = VarianceDisplay.from_estimator(null)
display.figure_.set_label(
    "A bar divided into the shares of the variance between schools and within "
    "schools."
)
display = VarianceDisplay.from_estimator(null, kind="range")
display.figure_.set_label(
    "The distribution of the intercepts of schools with the range of 95% of them, "
    "and the wider distribution of pupils."
)

# %%
# What clustering costs
# ---------------------
# Pupils of a school are alike, and say less than as many independent pupils. The
# design effect is the factor by which this increases the variance of the mean
# score, or of the difference between two sets of schools. The number of pupils
# divided by it is the effective sample size. The design effect is 1 + (m - 1) ICC,
# with m a mean size of the schools, so that the limits of the ICC give its limits.
# It does not concern predictors that vary within schools, because they compare
# pupils of the same school.

report = clustering_report(null)
counts = school.value_counts()
m = (counts**2).sum() / len(pupils)
least, most = 1.0 + (m - 1.0) * limits.loc["icc"].to_numpy()
clustering = pd.DataFrame(
    {
        "design effect": [report["design_effect"], least, most],
        "effective sample size": [
            report["effective_sample_size"],
            len(pupils) / most,
            len(pupils) / least,
        ],
    },
    index=["estimate", "ci_lower", "ci_upper"],
).T
clustering.round(2)

# %%
# A standardised mean difference
# ------------------------------
# How large is the effect of the programme? In points it is the coefficient. In
# standard deviations (SDs) it depends on which SD is meant. The SD of all pupils,
# the square root of tau2 + sigma2, allows a comparison with studies of single
# pupils. The SD within schools is smaller, and the effect is larger. The SD between
# schools says how far a school moves among the schools. It gives the largest effect
# of the three if the ICC is below a half. The variances are those of the model with
# the programme alone. The intervals take the SDs as known, and so they are a little
# too narrow.

trial = RandomInterceptRegressor().fit(pupils[["programme"]], y, groups=school)
effect = fixed_effects(trial).loc["programme", ["estimate", "ci_lower", "ci_upper"]]
left = trial.variance_components_
units = {
    "points": 1.0,
    "SDs of all pupils": np.sqrt(left.sum()),
    "SDs within schools": np.sqrt(left["residual"]),
    "SDs between schools": np.sqrt(left["group"]),
}
programme = pd.DataFrame(
    {f"in {name}": effect / unit for name, unit in units.items()}
).T
figure, ax = plt.subplots(figsize=(6.8, 2.4), layout="constrained")
shown = programme.iloc[:0:-1]
ax.hlines(shown.index, shown["ci_lower"], shown["ci_upper"], color="#0072B2")
ax.plot(shown["estimate"], shown.index, "o", color="#0072B2")
ax.axvline(0.0, color="#B8B8B8", linewidth=1.0, zorder=0)
ax.set(xlabel="effect of the programme, with 95% interval", ylim=(-0.5, 2.5))
ax.spines[["top", "right", "left"]].set_visible(False)
figure.set_label(
    "The effect of the programme in three kinds of standard deviations, with 95% "
    "intervals: it is largest in those between schools."
)
programme.round(2)

# %%
# Standardised coefficients
# -------------------------
# If all variables are standardised by the SDs of all rows, as without groups, a
# coefficient mixes the levels: status within schools is then measured by a spread
# that no school has. At its own level, a coefficient is in SDs within schools of
# the outcome per SD within schools of the predictor, or the same between schools.
# These SDs come from the null models of the two variables. The choice makes the
# same coefficient large or small, so that a report has to say which SDs it uses.

pupils["ses_of_school"] = pupils.groupby("school")["ses"].transform("mean")
pupils["ses_in_school"] = pupils["ses"] - pupils["ses_of_school"]
names = ["ses_in_school", "ses_of_school", "programme"]
full = RandomInterceptRegressor().fit(pupils[names], y, groups=school)
status = RandomInterceptRegressor().fit(None, pupils["ses"], groups=school)
tau_of_status, sigma_of_status = np.sqrt(status.variance_components_)
points = fixed_effects(full)["estimate"].iloc[1:3]
standardised = pd.DataFrame(
    {
        "points per unit": points,
        "by SDs of all rows": points * pupils["ses"].std() / y.std(),
        "by SDs of its own level": points
        * [sigma_of_status / sigma, tau_of_status / tau],
    }
)
standardised.round(2)

# %%
# Shares of variance explained
# ----------------------------
# R² depends on the level, too. Marginal: the share of all variance that the
# predictors explain. Conditional: the share that the predictors and the schools
# explain together. Within and between: the share of the variance of that level that
# the predictors explain. Shares of variance go with the square of an effect: the
# programme moves a school by a large part of an SD between schools, and yet it
# explains a small share of the variance between schools and hardly any of the
# variance of all pupils.

shares = pd.DataFrame({"programme": r2(trial), "programme and status": r2(full)}).T
plt.show()
shares[["marginal", "conditional", "within", "between"]].round(3)
