"""
A first multilevel model
========================

Pupils come in schools, and pupils of the same school are alike. This lesson is a
first analysis of such data: it shows the clustering, asks whether least squares
would do, fits the null model, splits the variance between and within schools, and
estimates the level of each school.

The lesson follows chapter 4, "Our first multilevel models", of the open book
*Introduction to Multilevel Modelling* by M. Shaw and J. K. Flake. The pupils here
are simulated. With the data of that chapter, the same code gives the figures of the
chapter.
"""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mlm import RandomInterceptRegressor, compare_with_ols
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.display import (
    ClusteringDisplay,
    CoefficientComparisonDisplay,
    RandomEffectsDisplay,
    ShrinkageDisplay,
    VarianceDisplay,
)
from sklearn_mlm.inference import (
    fixed_effects,
    format_table,
    icc,
    plausible_values_range,
    random_effects_table,
)

pupils = make_schools(as_frame=True, random_state=0).frame

# %%
# The data have a row for each pupil: the school, the socioeconomic status (``ses``)
# and the score in mathematics (``math``), which is the outcome.

y, school = pupils["math"], pupils["school"]
print(f"{len(pupils)} pupils in {school.nunique()} schools")
pupils.head()

# %%
# See the clustering
# ------------------
# Ten schools are few enough to tell apart. On the left, one line for all of their
# pupils ignores the schools. On the right, each school has a line of its own,
# fitted by least squares. The schools differ in their level (the intercept), and in
# how strongly the score goes with status (the slope). The table has these lines,
# and the line for all.

ten = pupils[school.isin(np.unique(school)[:10])]
figure, axes = plt.subplots(
    1, 2, figsize=(9.6, 4.0), sharey=True, layout="constrained"
)
for ax, kind in zip(axes, ("pooled", "group"), strict=True):
    ClusteringDisplay.from_data(
        ten["ses"], ten["math"], ten["school"], lines=kind, ax=ax
    )
figure.set_label(
    "Scores against status of the pupils of ten schools, on the left with one line "
    "for all, on the right with a line for each school."
)
each = [*ten.groupby("school"), ("all", ten)]
lines = {name: np.polyfit(rows["ses"], rows["math"], 1) for name, rows in each}
lines = pd.DataFrame(lines, index=["slope", "intercept"]).T[["intercept", "slope"]]
lines.round(1)

# %%
# Would least squares do?
# -----------------------
# Least squares treats all pupils as independent. If pupils of a school are alike,
# its standard errors are too small. Cluster-robust standard errors correct that,
# and they are enough if only the coefficient is of interest. They say nothing about
# the schools: how much schools differ, which of them stand out, and what explains
# it. These questions need a multilevel model. `compare_with_ols` fits both kinds of
# models and compares them.

comparison = compare_with_ols(pupils[["ses"]], y, school, random_state=0)
display = CoefficientComparisonDisplay.from_comparison(comparison)
display.figure_.set_label(
    "Estimates of the coefficient of status by four models, with their 95% "
    "intervals."
)
for conclusion in comparison.conclusions:
    print(fill(conclusion, 84, initial_indent="- ", subsequent_indent="  "))
format_table(comparison.coefficients.loc["ses", ["estimate", "std_error", "df"]])

# %%
# Fixed and random effects: the null model
# ----------------------------------------
# A fixed effect is one number for all schools, such as the mean intercept. A random
# effect is a deviation of each school from that number, and the model estimates the
# variance of the deviations. The null model has a fixed intercept, a random
# intercept and nothing else. The score of pupil i in school j is
#
# .. math::
#
#    y_{ij} = \gamma_{00} + U_{0j} + R_{ij}, \qquad
#    U_{0j} \sim N(0, \tau^2), \qquad R_{ij} \sim N(0, \sigma^2),
#
# the fixed intercept plus the deviation of the school plus the deviation of the
# pupil. ``X`` is None because the null model has no predictors. The summary has the
# same parts as that of lme4 in R.

null_model = RandomInterceptRegressor().fit(None, y, groups=school)
intercept = fixed_effects(null_model).loc["(Intercept)"]
null_model.summary(None, y, school)

# %%
# Count the parameters
# --------------------
# The model estimates three parameters: the fixed intercept, the variance between
# schools and the variance within schools. AIC is the criterion plus twice this
# number.

n_parameters = (null_model.aic_ - null_model.criterion_) / 2
tau2, sigma2 = null_model.variance_components_
print(f"log-likelihood {null_model.log_likelihood_:.2f} (df={n_parameters:.0f})")
parameters = {
    "fixed intercept": null_model.intercept_,
    "variance between schools": tau2,
    "variance within schools": sigma2,
}
pd.Series(parameters, name="estimate").to_frame().round(2)

# %%
# The intraclass correlation
# --------------------------
# The intraclass correlation (ICC) is the share of the variance that lies between
# schools. It is 0 if schools make no difference, and 1 if nothing else does. It is
# also the correlation of two pupils of the same school. The first picture shows the
# two shares, the second how well the data determine the ICC: values with a
# criterion below the dashed line are in the 95% interval.

share = tau2 / (tau2 + sigma2)
print(f"by hand: {tau2:.2f} / ({tau2:.2f} + {sigma2:.2f}) = {share:.3f}")
print(f"ICC:     {icc(null_model):.3f}")
shares = VarianceDisplay.from_estimator(null_model)
shares.figure_.set_label(
    "A bar divided into the shares of the variance between and within schools."
)
profile = VarianceDisplay.from_estimator(null_model, kind="profile")
profile.figure_.set_label(
    "The REML criterion as a curve over the ICC, with its minimum and the 95% "
    "interval."
)

# %%
# The plausible values range
# --------------------------
# The model puts the intercepts of 95% of schools within 1.96 standard deviations of
# the mean intercept. This range is in points of the score, and so it says more
# about the size of the differences than a share of variance does.

half = 1.96 * np.sqrt(tau2)
centre = null_model.intercept_
print(f"by hand: {centre - half:.2f} to {centre + half:.2f}")
low, high = plausible_values_range(null_model)
print(f"model:   {low:.2f} to {high:.2f}, {high - low:.0f} points apart")
display = VarianceDisplay.from_estimator(null_model, kind="range")
display.figure_.set_label(
    "The distribution of the schools' intercepts, with the range of 95% of them, "
    "and the wider distribution of pupils."
)

# %%
# Empirical-Bayes estimates
# -------------------------
# What is the level of one school? Its own mean is a noisy answer if the school is
# small. The mean of all schools is a poor answer if the school is large. The
# empirical-Bayes (EB) estimate is between the two, and it is nearer to the school's
# own mean if that mean is reliable. Here is the first school by hand. The table has
# the model's answers for the first three: the effect is the deviation from the
# fixed intercept.

rows = y[school == school.min()]
mean, n = rows.mean(), len(rows)
reliability = tau2 / (tau2 + sigma2 / n)
shrunken = reliability * mean + (1 - reliability) * null_model.intercept_
deviation = shrunken - null_model.intercept_
print(f"mean of {n} pupils: {mean:.3f}")
by_hand = f"{tau2:.2f} / ({tau2:.2f} + {sigma2:.2f} / {n})"
print(f"reliability: {by_hand} = {reliability:.3f}")
print(f"EB estimate: {shrunken:.3f}, a deviation of {deviation:.3f}")
effects = random_effects_table(null_model).astype({"n": int})
format_table(effects.head(3))

# %%
# All schools
# -----------
# The histogram has the effects of all schools. Their mean is 0, and they spread
# less than the model's normal curve because each of them is shrunken. The eight
# highest and the eight lowest schools have intervals that exclude 0.

bound = float(f"{1.5 * np.sqrt(tau2):.1g}")  # one and a half standard deviations
share = effects["effect"].between(-bound, bound).mean()
print(f"SD {effects['effect'].std():.2f}, and tau is {np.sqrt(tau2):.2f};", end=" ")
print(f"{share:.0%} of the effects lie between {-bound:g} and {bound:g}.")
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
RandomEffectsDisplay.from_estimator(null_model, ax=left)
RandomEffectsDisplay.from_estimator(
    null_model, kind="caterpillar", extremes=8, ax=right
)
figure.set_label(
    "On the left a histogram of the schools' effects with the model's normal "
    "curve, on the right the effects of the eight highest and the eight lowest "
    "schools."
)

# %%
# The last picture sets the raw means of schools against their EB estimates. The
# dashed line is no shrinkage. Large schools are near to it, small schools are
# pulled further towards the mean of all.

display = ShrinkageDisplay.from_estimator(null_model)
display.figure_.set_label(
    "EB estimates against raw means of the schools: extreme means and those of "
    "small schools are pulled towards the mean of all schools."
)
plt.show()
