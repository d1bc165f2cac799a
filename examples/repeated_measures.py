"""
Repeated measures
=================

Measurements of a person are rows of a group, and the group is the person: occasions are level 1, persons are level 2,
and time is a predictor at level 1. Here 18 persons slept three hours a night, and their reaction times (in ms) were
measured on ten days. A random intercept lets persons differ in their level. That they may also differ in how fast
they get worse is not in that model; this script shows how to see it, and what it costs. `random_slopes.py` goes on with
the model that has it.

    python examples/repeated_measures.py --output figures
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
from scipy import stats

from sklearn_mlm import ClusterRobustOLS, RandomInterceptRegressor
from sklearn_mlm.datasets import load_sleepstudy
from sklearn_mlm.display import ClusteringDisplay, RandomEffectsDisplay
from sklearn_mlm.inference import confidence_intervals, fixed_effects, predict_interval

parser = argparse.ArgumentParser(description="A random intercept for each person, over days of measurement.")
parser.add_argument("--output", type=Path, help="a folder to save the figures to (default: none are drawn)")
options = parser.parse_args()
if options.output is not None and find_spec("matplotlib") is None:
    parser.error("--output needs matplotlib: pip install '.[plot]'")
X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)

# %%
# Between persons, and within
# ---------------------------
# The null model divides the variance between persons and within. What is within contains the trend over the days, and
# a line through the days takes from it. It cannot explain why persons differ, who all had the same days; yet tau2
# rises. The variance of the persons' means stays as it is, and tau2 is estimated as that variance less sigma2 / n,
# for the residuals in the means.

null = RandomInterceptRegressor().fit(None, y, groups=subject)
growth = RandomInterceptRegressor().fit(X, y, groups=subject)
models = {"null": null, "with days": growth}
table = pd.DataFrame({name: [*model.variance_components_, model.icc_] for name, model in models.items()}).T
table.columns = ["tau2", "sigma2", "ICC"]
table["variance of means"] = y.groupby(subject).mean().var()
table["less sigma2 / 10"] = table["variance of means"] - table["sigma2"] / 10
print(f"{len(y)} reaction times of {growth.n_groups_} persons\n")
print(table.to_string(float_format="{:.1f}".format, formatters={"ICC": "{:.3f}".format}), "\n")

# %%
# The growth line
# ---------------
# Days vary within persons, and their effect is learnt from all measurements, less a level for each person. The
# intercept, the mean on day 0, is learnt from the persons.

effects = fixed_effects(growth)[["estimate", "std_error", "df", "ci_lower", "ci_upper"]]
print(effects.to_string(float_format="{:.2f}".format, formatters={"df": "{:.1f}".format}), "\n")
estimate, low, high = effects.loc["days", ["estimate", "ci_lower", "ci_upper"]]
print(f"If persons differ in their level only, reaction times rise by {estimate:.1f} ms a day ({low:.1f} to {high:.1f}).\n")

# %%
# Correlation within a person
# ---------------------------
# A shared intercept makes any two measurements of a person correlate by the ICC, whether they are one day apart or
# nine, and gives all days the same variance. Both can be checked without a model, in the table of persons by days.

by_day = X.assign(y=y, subject=subject).pivot_table(index="subject", columns="days", values="y")
n_persons, n_days = by_day.shape
correlation = by_day.corr().to_numpy()
by_lag = np.array([np.diag(correlation, lag).mean() for lag in range(1, n_days)])
sd = by_day.std()
low, high = confidence_intervals(growth).loc["icc"]
total_sd = np.sqrt(growth.variance_components_.sum())
print(f"Model: correlation {growth.icc_:.2f} (exact 95% interval {low:.2f} to {high:.2f}), SD {total_sd:.0f} every day\n")
table = pd.DataFrame({"correlation": by_lag}, index=range(1, n_days)).T.rename_axis("days apart", axis=1)
print(table.map("{:.2f}".format).to_string(), "\n")
print(sd.to_frame("SD").T.rename_axis("day", axis=1).map("{:.0f}".format).to_string(), "\n")
print(f"The correlation is {by_lag[0]:.2f} for measurements a day apart, and {by_lag[4:].mean():.2f} for five days or more;")
print(f"the SD is {sd.iloc[0]:.0f} on the first day, and {sd.iloc[-1]:.0f} on the last.\n")

# %%
# Do slopes differ?
# -----------------
# Lines that fan out do both: days near each other are more alike, and later days vary more. Every person has the same
# ten days, so that an exact test is short: the variance of the persons' own slopes, over that which the residuals about
# their own lines gives to a slope.

days = by_day.columns.to_numpy(dtype=float)
slopes, intercepts = np.polyfit(days, by_day.T, 1)
df = n_persons - 1, n_persons * (n_days - 2)
residual = ((by_day - intercepts[:, None] - np.outer(slopes, days)) ** 2).to_numpy().sum() / df[1]
of_slope = residual / ((days - days.mean()) ** 2).sum()
statistic = slopes.var(ddof=1) / of_slope
p_value = stats.f.sf(statistic, *df)
print(f"Slopes from {slopes.min():.1f} to {slopes.max():.1f} ms a day, SD {slopes.std(ddof=1):.1f};", end=" ")
print(f"residuals alone would give them an SD of {of_slope**0.5:.1f}.")
print(f"F({df[0]}, {df[1]}) = {statistic:.2f}, p {'< 0.001' if p_value < 0.001 else f'= {p_value:.3f}'}\n")

# %%
# What it costs: the standard error
# ---------------------------------
# Where all have the same days, the estimate is the mean of the persons' slopes, and right whether they differ or not.
# Its standard error is not: the model takes the drift of persons for residuals, which many days average out. Least
# squares with cluster-robust standard errors (CR2) has the same estimate here, and allows for any likeness within
# persons. If slopes differ, its standard error is the one to trust.

robust = ClusterRobustOLS().fit(X, y, groups=subject)
both = {"random intercept": growth, "cluster-robust": robust}
both = pd.DataFrame({name: fixed_effects(model).loc["days"] for name, model in both.items()}).T
both = both[["estimate", "std_error", "df", "ci_lower", "ci_upper"]]
print(both.to_string(float_format="{:.2f}".format, formatters={"df": "{:.0f}".format}), "\n")
ratio = both.loc["cluster-robust", "std_error"] / both.loc["random intercept", "std_error"]
print(f"The cluster-robust standard error is {ratio:.1f} times that of the model.\n")

# %%
# Predictions for day 10
# ----------------------
# For a person whose level is known, and for one of whom nothing is: the person's mean on that day, and a single
# measurement. Beside is the person's own line. All share the model's slope, so that its predictions go astray for
# persons with another one, by more with every day; the intervals do not know of it.

flat, steep = slopes.argmin(), slopes.argmax()
who = [by_day.index[flat], by_day.index[steep], by_day.index.max() + 1]
means, single = (
    predict_interval(growth, X[:3].assign(days=10), groups=who, kind=kind) for kind in ("group_mean", "observation")
)
table = pd.DataFrame(
    {
        "prediction": means["prediction"].map("{:.0f}".format),
        "mean, 95%": [f"{low:.0f} to {high:.0f}" for low, high in means[["lower", "upper"]].to_numpy()],
        "measurement, 95%": [f"{low:.0f} to {high:.0f}" for low, high in single[["lower", "upper"]].to_numpy()],
        "own line": [*(f"{intercepts[at] + 10 * slopes[at]:.0f}" for at in (flat, steep)), "-"],
    }
)
table.index = [f"{who[0]}, the lowest slope", f"{who[1]}, the highest slope", "a new person"]
print(table.to_string(), "\n")
said = "A random intercept serves for the levels of persons and, with robust standard errors, for the mean trend. "
said += "For trends of single persons, and for predictions beyond the days measured, slopes have to be random too, in "
print(fill(f"{said}as the script random_slopes.py lets them be.", 100))

# %%
# Figures
# -------
# Each person's own line, and the parallel ones of the model; the estimated levels of persons; and the two checks
# above.

if options.output is not None:
    import matplotlib.pyplot as plt

    checks, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    left.plot(range(1, n_days), by_lag, "o-", color="#0072B2", label="measurements")
    left.axhline(growth.icc_, color="#D55E00", linestyle="--", label="random intercept model: the ICC")
    left.set(xlabel="days apart", ylabel="correlation within a person", ylim=(0, 1))
    right.plot(by_day.columns, sd, "o-", color="#0072B2", label="measurements")
    right.axhline(total_sd, color="#D55E00", linestyle="--", label="random intercept model")
    right.set(xlabel="day", ylabel="SD of reaction times (ms)", ylim=(0, None))
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, loc="lower left")
    figures = {
        "lines_of_persons": ClusteringDisplay.from_data(X["days"], y, subject, lines="group").figure_,
        "lines_of_the_model": ClusteringDisplay.from_data(X["days"], y, subject, lines="model").figure_,
        "levels": RandomEffectsDisplay.from_estimator(growth, kind="caterpillar").figure_,
        "checks": checks,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(options.output / f"{name}.png", dpi=120)
        plt.close(figure)
    print(f"\n{len(figures)} figures are in {options.output}")
