"""
Random slopes
=============

In a model with a random intercept the groups have parallel lines. Here each group has a line of its own: its intercept
and its slope vary about those of the population, with variances and a correlation that the model estimates. Two data sets
show both answers to the question whether slopes vary: persons who sleep too little, measured on ten days, and pupils in
schools.

    python examples/random_slopes.py --output figures
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd

from sklearn_mlm import MixedEffectsRegressor, RandomInterceptRegressor, compare_with_ols
from sklearn_mlm.datasets import load_sleepstudy, make_schools
from sklearn_mlm.display import ClusteringDisplay, GroupLinesDisplay, RandomCoefficientsDisplay, VarianceFunctionDisplay
from sklearn_mlm.inference import (
    confidence_intervals,
    fixed_effects,
    icc,
    predict_interval,
    r2,
    random_effects_table,
    random_effects_test,
)

parser = argparse.ArgumentParser(description="Lines of groups: intercepts and slopes that vary.")
parser.add_argument("--output", type=Path, help="a folder to save the figures to (default: none are drawn)")
options = parser.parse_args()
if options.output is not None and find_spec("matplotlib") is None:
    parser.error("--output needs matplotlib: pip install '.[plot]'")


def say(text: str) -> None:
    """Print a paragraph."""
    print(fill(text, 100), "\n")


X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)

# %%
# See it
# ------
# Least squares fits a line to each person's ten measurements. If persons differed in their level only, these slopes would
# differ by what ten noisy measurements leave uncertain.

own = pd.DataFrame({name: np.polyfit(X["days"][rows], y[rows], 1) for name, rows in subject.groupby(subject).groups.items()})
own = own.T.set_axis(["slope", "intercept"], axis=1)
print(f"Each person's own line (ms, ms a day): slopes from {own['slope'].min():.1f} to {own['slope'].max():.1f}\n")
print(own.describe().loc[["mean", "std", "min", "max"]].to_string(float_format="{:.1f}".format), "\n")

# %%
# Fit it
# ------
# The notation is that of lmer: the intercept, 1, and the slope of days vary between subjects.

model = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject)
print(model.summary(), "\n")

# %%
# Read it
# -------
# The fixed effects are the line of the population. Persons differ in their intercepts, and in their slopes: both standard
# deviations are in the units of their coefficients. The correlation is that of the levels on day 0 with the slopes.

covariance = model.covariance_["subject"]
sd = np.sqrt(np.diag(covariance))
slope = model.coef_[0]
say(
    f"On average reaction times rise by {slope:.1f} ms a day. Slopes have a standard deviation of {sd[1]:.1f}, so that 95% "
    f"of persons have a slope between {slope - 1.96 * sd[1]:.1f} and {slope + 1.96 * sd[1]:.1f}. Where a person starts says "
    f"little about the slope: the correlation is {covariance.iloc[0, 1] / sd.prod():.2f}."
)
limits = confidence_intervals(model)
print(limits.to_string(float_format="{:.2f}".format), "\n")

# %%
# Do slopes vary?
# ---------------
# The model without the slope's variance, and its covariance with the intercept, is the random intercept model. The test
# compares the likelihoods of the two. A variance cannot be negative, so that the usual p-value, from chi-squared with 2
# degrees of freedom, is too large; the mixture of chi-squared with 1 and with 2 degrees of freedom is the limit for many
# groups.

test = random_effects_test(model)
print(test.to_string(float_format="{:.4g}".format), "\n")

# %%
# What it changes: the standard error
# -----------------------------------
# The estimate of the mean slope is the same. A random intercept alone takes the differences of slopes for noise of single
# measurements, which 180 of them average out. What counts for the mean slope is the number of persons.

parallel = RandomInterceptRegressor().fit(X, y, groups=subject)
both = {"random intercept": parallel, "random slope": model}
table = pd.DataFrame({name: fixed_effects(each).loc["days"] for name, each in both.items()}).T
print(table[["estimate", "std_error", "df", "ci_lower", "ci_upper"]].to_string(float_format="{:.2f}".format), "\n")

# %%
# Lines of persons, shrunk
# ------------------------
# The empirical-Bayes estimates pull a person's own line towards that of the population, the more, the fewer or the noisier
# the person's measurements are. The reliability of the slope is the share of the slope's variance that these measurements
# determine.

table = random_effects_table(model).xs("days", level="coefficient")
lines = pd.DataFrame(
    {"own slope": own["slope"], "model": table["total"], "sd": table["sd"], "reliability": table["reliability"]}
)
print(lines.loc[[309, 335, 337]].to_string(float_format="{:.2f}".format), "\n")

# %%
# The share of the persons in the variance
# ----------------------------------------
# With slopes that vary, the variance between persons depends on the day, and with it the intraclass correlation. Averaged
# over the rows it is the one number that does not depend on where the days begin.

days = pd.DataFrame({"days": [0, 3, 6, 9]})
table = pd.DataFrame({"day": days["days"], "ICC": icc(model, X=days)})
print(table.to_string(index=False, float_format="{:.2f}".format))
shares = r2(model)
say(
    f"Averaged over the rows: {icc(model):.2f}. The days explain {shares['marginal']:.0%} of the variance of reaction "
    f"times, and with the lines of persons {shares['conditional']:.0%}."
)

# %%
# Predictions
# -----------
# For a person whose line is known the line goes on. A new person's line is that of the population, and the uncertainty
# grows with the days, because nobody knows the slope.

new = pd.DataFrame({"days": [0, 0, 10, 10]})
who = [337, 999, 337, 999]
table = predict_interval(model, new, groups=who).round(0).astype(int)
table.insert(0, "person", ["337", "someone new"] * 2)
print(table.set_index(new["days"]).to_string(), "\n")

# %%
# When slopes do not vary
# -----------------------
# Does the effect of a pupil's socioeconomic status differ between schools? These schools are simulated, and it does not.
# The comparison with least squares asks that of every predictor.

schools = make_schools(random_state=0, as_frame=True)
comparison = compare_with_ols(schools.data, schools.target, schools.groups, random_state=0)
print(comparison.slopes.to_string(float_format="{:.3f}".format), "\n")
varying = MixedEffectsRegressor(random_effects="(1 + ses | school)").fit(schools.data, schools.target, groups=schools.groups)
low, high = confidence_intervals(varying).loc["sd(ses)"]
p_value = random_effects_test(varying).loc["ses", "p_value"]
say(
    f"The slopes of schools have an estimated standard deviation of {comparison.slopes.loc['ses', 'sd']:.2f}, with a 95% "
    f"interval from {low:.2f} to {high:.2f}, about a mean of {varying.coef_[0]:.2f} (p = {p_value:.2f}). That is no more "
    "than chance: the random intercept model describes these schools, and is easier to report. If a question is about "
    "the effect itself, keep a slope that theory expects to vary, even if the test is not significant: the standard error "
    "allows for it."
)

# %%
# Figures
# -------
# Each person's own line; the lines of the model beside them; intercepts and slopes with the ellipse of their covariance; and
# the variance over the days.

if options.output is not None:
    import matplotlib.pyplot as plt

    figures = {
        "own_lines": ClusteringDisplay.from_data(X["days"], y, subject, lines="group").figure_,
        "lines": GroupLinesDisplay.from_estimator(model, X, y, subject, feature="days").figure_,
        "coefficients": RandomCoefficientsDisplay.from_estimator(model).figure_,
        "variance": VarianceFunctionDisplay.from_estimator(model, X, "days").figure_,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(options.output / f"{name}.png", dpi=120)
        plt.close(figure)
    print(f"{len(figures)} figures are in {options.output}")
