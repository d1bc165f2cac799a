"""
Within, between, and the contextual effect
==========================================

How much better does a pupil of a higher status score? There are two comparisons to make: of two pupils of one school
(the within effect) and of two schools (the between effect). Their difference is the contextual effect: what the
school's mean status adds for pupils whose own status is the same. How the predictor is centred decides which of them
a coefficient is.

Run as it is, it simulates pupils in schools. With a file of your own, whose columns are math, ses and schcode:

    python examples/within_between_contextual.py --data heck2011.csv --output figures
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_mlm import RandomInterceptRegressor, WithinOLS, compare_with_ols
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.display import CoefficientComparisonDisplay
from sklearn_mlm.inference import contrast_test, fixed_effects, random_effects_table

parser = argparse.ArgumentParser(description="Within, between and contextual effects, and centring.")
parser.add_argument("--data", help="a CSV file with the columns math, ses and schcode (default: simulated pupils)")
parser.add_argument("--output", type=Path, help="a folder to save the figures to (default: none are drawn)")
options = parser.parse_args()
if options.output is not None and find_spec("matplotlib") is None:
    parser.error("--output needs matplotlib: pip install '.[plot]'")
if options.data is None:
    pupils = make_schools(as_frame=True, random_state=0).frame.rename(columns={"school": "schcode"})
else:
    try:
        pupils = pd.read_csv(options.data, usecols=["math", "ses", "schcode"]).dropna()
    except (OSError, ValueError) as error:
        parser.error(f"cannot read {options.data}: {error}")
y, school = pupils["math"], pupils["schcode"]


def show(table: pd.DataFrame) -> None:
    """Print a table: three digits after the point, degrees of freedom whole, small p-values as such."""
    formats = {"df": "{:.0f}".format, "p_value": lambda p: "<0.001" if p < 0.001 else f"{p:.3f}"}
    table = table.drop(columns="t", errors="ignore").rename_axis(None)
    print(table.to_string(float_format="{:.3f}".format, formatters=formats), "\n")


# %%
# Three ways to centre
# --------------------
# Uncentred, the intercept is the mean score at a status of 0. Less the mean of all pupils, it is the mean score at
# the average status, and nothing else changes: neither the slope, nor the variances, nor the criterion. Less the mean
# of the pupil's own school, it is another predictor: no differences between schools are left in it, and tau2 has to
# hold all of them.

pupils["ses_of_school"] = pupils.groupby("schcode")["ses"].transform("mean")
pupils["ses_centred"] = pupils["ses"] - pupils["ses"].mean()
pupils["ses_in_school"] = pupils["ses"] - pupils["ses_of_school"]
ways = {"uncentred": "ses", "grand-mean centred": "ses_centred", "group-mean centred": "ses_in_school"}
models = {way: RandomInterceptRegressor().fit(pupils[[column]], y, groups=school) for way, column in ways.items()}
print(f"{len(pupils)} pupils in {school.nunique()} schools; mean status {pupils['ses'].mean():.3f}\n")
table = {way: [model.intercept_, model.coef_[0], *model.variance_components_] for way, model in models.items()}
show(pd.DataFrame(table, index=["intercept", "slope", "tau2", "sigma2"]).T)

# %%
# The within effect
# -----------------
# The slope of the group-mean centred predictor compares pupils of one school. Least squares with an intercept for
# each school, `WithinOLS`, does so too, and finds the same. The slope of the uncentred predictor is a weighted mean
# of the within and the between effect. Its weights depend on the variances and the sizes of schools, not on what one
# wants to know.

within = models["group-mean centred"].coef_[0]
within_ols = WithinOLS().fit(pupils[["ses"]], y, groups=school)
print("Slope of status\n")
print(f"group-mean centred   {within:.6f}")
print(f"WithinOLS            {within_ols.coef_[0]:.6f}")
print(f"uncentred            {models['uncentred'].coef_[0]:.6f}\n")

# %%
# Within and between in one model
# -------------------------------
# With the school's mean as a second predictor, each comparison has a coefficient of its own.

divided = RandomInterceptRegressor().fit(pupils[["ses_in_school", "ses_of_school"]], y, groups=school)
effects = fixed_effects(divided)
between = effects.loc["ses_of_school", "estimate"]
print("Within and between\n")
show(effects)
print(f"Two pupils of one school whose status differs by 1: scores differ by {within:.2f} on average.")
print(f"Two schools whose mean status differs by 1: mean scores differ by {between:.2f} on average.\n")

# %%
# The contextual effect
# ---------------------
# Mundlak's form keeps the predictor as it is and adds the school's mean. It is the same model in other words: the
# coefficient of the mean now compares pupils of the same status in different schools. It is between less within, and
# its test asks whether the two are the same, as Hausman's test of a random intercept model against `WithinOLS` does.

mundlak = RandomInterceptRegressor().fit(pupils[["ses", "ses_of_school"]], y, groups=school)
effects = fixed_effects(mundlak)
print("Mundlak's form\n")
show(effects)
contextual = effects.loc["ses_of_school"]
difference = contrast_test(divided, [0, -1, 1])
comparison = compare_with_ols(pupils[["ses"]], y, school, random_state=0)
print("Between less within, in three ways:\n")
for name, test in (
    ("coefficient of the mean, Mundlak's form", contextual),
    ("contrast of the two coefficients", difference),
    ("compare_with_ols", comparison.within_between.loc["ses"].rename({"difference": "estimate"})),
):
    print(f"{name:<41}{test['estimate']:.6f}   standard error {test['std_error']:.6f}")
if contextual["p_value"] < 0.05:
    print("\nThe two effects differ by more than chance: one coefficient for status would be neither of them.\n")
else:
    print("\nThat the two effects differ could not be shown: one coefficient may do for both.\n")

# %%
# Least squares beside
# --------------------
# `compare_with_ols` finds these coefficients for all predictors at once, and those of least squares. The model with
# the uncentred predictor is the last line; pooled least squares mix within and between too, in other proportions.

print("By compare_with_ols\n")
show(comparison.within_between)
show(comparison.coefficients.loc["ses"])

# %%
# A mean of few pupils
# --------------------
# If the pupils are a sample of their school's, their mean status is the school's with an error. The reliability of
# the means, from a null model of the predictor, is the part of their variance that is no error. The error draws the
# between effect towards the within effect: the contextual effect shrinks to about its reliability times its size.

status = RandomInterceptRegressor().fit(None, pupils["ses"], groups=school)
reliability = random_effects_table(status)["reliability"].mean()
seen, whole = contextual["estimate"], contextual["estimate"] / reliability
print(f"Reliability of the schools' means: {reliability:.3f} on average. The contextual effect of {seen:.2f} is about")
print(f"{whole:.2f} if the pupils are a sample of their schools', and stands if they are all of them.")

# %%
# Figures
# -------
# The four estimates side by side. In the second figure a sample of schools are points, each with a short line of the
# within slope; the long line, through the points, has the between slope. The difference of the two slopes is the
# contextual effect.

if options.output is not None:
    import matplotlib.pyplot as plt

    options.output.mkdir(parents=True, exist_ok=True)
    figure = CoefficientComparisonDisplay.from_comparison(comparison).figure_
    figure.savefig(options.output / "coefficients.png", dpi=120)
    plt.close(figure)

    means, half = pupils.groupby("schcode")[["ses", "math"]].mean(), pupils["ses_in_school"].std() / 2
    shown = means.sample(min(len(means), 80), random_state=0)
    figure, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    ends = np.array([shown["ses"] - half, shown["ses"] + half])
    lines = ax.plot(ends, shown["math"].to_numpy() + within * np.array([[-half], [half]]), color="#56B4E9", linewidth=1.2)
    lines[0].set_label(f"within: slope {within:.2f}")
    ax.scatter(shown["ses"], shown["math"], s=14, color="#0072B2", zorder=3, label=f"means of {len(shown)} schools")
    ends = np.array([means["ses"].min(), means["ses"].max()])
    label = f"between: slope {between:.2f}"
    ax.plot(ends, divided.intercept_ + between * ends, color="#D55E00", linewidth=2.2, zorder=4, label=label)
    ax.set(xlabel="ses", ylabel="math")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="lower right")
    figure.savefig(options.output / "within_and_between.png", dpi=120)
    plt.close(figure)
    print(f"\n2 figures are in {options.output}")
