"""
A first multilevel model
========================

Pupils come in schools. This is the whole of a first analysis of such data: see the clustering; ask whether a regression
that ignores it would do, or one with mended standard errors; fit the null model, and read its fixed and random effects;
count its parameters; split the variance; and look at what the model says of single schools.

Run as it is, it simulates pupils. On a file with the columns math, ses and schcode (or others, named by options), and with
every figure saved to a folder:

    python examples/first_multilevel_model.py --data heck2011.csv --output figures

It follows chapter 4 of M. Shaw and J. K. Flake, "Introduction to Multilevel Modelling", and gives that chapter's figures for
the data of that chapter.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import Any

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
from sklearn_mlm.inference import fixed_effects, icc, plausible_values_range, random_effects_table

parser = argparse.ArgumentParser(description="A first multilevel model, from the raw data to the schools' own estimates.")
parser.add_argument("--data", help="a CSV file with a header (default: simulated pupils)")
parser.add_argument("--y", default="math", help="name of the outcome column (default: math)")
parser.add_argument("--x", default="ses", help="name of the predictor column (default: ses)")
parser.add_argument("--groups", default="schcode", help="name of the column of group labels (default: schcode)")
parser.add_argument("--output", type=Path, help="a folder to save the figures to (default: none are drawn)")
options = parser.parse_args()
if options.output is not None and find_spec("matplotlib") is None:
    parser.error("--output needs matplotlib: pip install '.[plot]'")
y_name, x_name, group_name = options.y, options.x, options.groups
if options.data is None:
    pupils = make_schools(as_frame=True, random_state=0).frame.rename(
        columns={"school": group_name, "ses": x_name, "math": y_name}
    )
else:
    try:
        pupils = pd.read_csv(options.data)
        pupils = pupils[[y_name, x_name, group_name]].dropna()
    except (OSError, ValueError) as error:
        parser.error(f"cannot read {options.data}: {error}")
    except KeyError:
        parser.error(f"{options.data} has no columns {y_name!r}, {x_name!r} and {group_name!r}: name them by options")


def save(name: str, draw: Callable[..., Any], *arguments: Any, **how: Any) -> None:
    """Save the picture that a display draws, where pictures are wanted."""
    if options.output is not None:
        import matplotlib.pyplot as plt

        options.output.mkdir(parents=True, exist_ok=True)
        figure = draw(*arguments, **how).figure_
        figure.savefig(options.output / f"{name}.png", dpi=120)
        plt.close(figure)
        saved.append(name)


saved: list[str] = []

# %%
# See the clustering
# ------------------
# Ten schools are few enough to tell apart. One line of best fit for all of their pupils treats them as if they had no
# schools; a line for each school shows how much they differ in level (the intercept) and in how strongly the outcome
# goes with the predictor (the slope).

schools = np.sort(pupils[group_name].unique())
print(f"{len(pupils)} rows in {len(schools)} groups ({group_name}); of the first {min(10, len(schools))}:\n")
ten = pupils[pupils[group_name].isin(schools[:10])]
pooled_slope, pooled_intercept = np.polyfit(ten[x_name], ten[y_name], 1)
lines = pd.DataFrame(
    {
        label: [len(rows), *np.polyfit(rows[x_name], rows[y_name], 1)[::-1]]
        for label, rows in ten.groupby(group_name)
        if np.ptp(rows[x_name]) > 0
    },
    index=["rows", "intercept", "slope"],
).T
lines["rows"] = lines["rows"].astype(int)
print(lines.rename_axis(columns=group_name).to_string(float_format="{:.1f}".format))
print(f"\none line for all of them: intercept {pooled_intercept:.1f}, slope {pooled_slope:.1f}\n")
for kind in ("pooled", "group", "model"):
    save(f"1_clustering_{kind}", ClusteringDisplay.from_data, ten[x_name], ten[y_name], ten[group_name], lines=kind)
everything = pupils[x_name], pupils[y_name], pupils[group_name]
save("1_clustering_of_all", ClusteringDisplay.from_data, *everything, lines="group")

# %%
# Would cluster-robust standard errors do?
# ----------------------------------------
# Least squares take every row for an independent one, and their standard errors are too small where rows of a group are
# alike. Cluster-robust standard errors allow for that, and are enough if groups are a nuisance and only the coefficient is
# wanted. They say nothing of the groups: how much they differ, which stand out, what a group-level predictor explains.
# For such questions, and wherever groups have few rows and their levels are to be predicted, fit a multilevel model. The
# comparison says which it is here.

X, y, groups = pupils[[x_name]], pupils[y_name], pupils[group_name]
if len(pupils) > 200_000:
    print("Comparing with least squares, cross-validated: some seconds ...\n", flush=True)
comparison = compare_with_ols(X, y, groups, random_state=0)
table = comparison.coefficients.loc[x_name, ["estimate", "std_error", "df"]]
print(f"coefficient of {x_name}:\n{table.rename_axis(None).round({'estimate': 3, 'std_error': 3, 'df': 1}).to_string()}\n")
for conclusion in comparison.conclusions:
    print(fill(conclusion, 100, initial_indent="- ", subsequent_indent="  "))
print()
save("2_coefficients", CoefficientComparisonDisplay.from_comparison, comparison)

# %%
# Fixed and random effects: the null model
# ----------------------------------------
# A fixed effect is one number for all groups, such as the average intercept. A random effect is a variance: how much
# groups differ from that number. The null model has a fixed intercept, a random one, and nothing else,
#
#     y_ij = gamma_00 + U_0j + R_ij,   U_0j ~ N(0, tau2),   R_ij ~ N(0, sigma2),
#
# for row i of group j. X is None: there are no predictors.

null_model = RandomInterceptRegressor().fit(None, y, groups=groups)
print(null_model.summary(None, y, groups))
intercept = fixed_effects(null_model).loc["(Intercept)"]
print(f"\nTo more digits: intercept {intercept['estimate']:.4f}, df {intercept['df']:.4f}\n")

# %%
# Count the parameters
# --------------------
# Three are estimated: the fixed intercept, the variance between groups, the variance within. AIC says the same: it is the
# criterion plus twice their number.

n_parameters = (null_model.aic_ - null_model.criterion_) / 2
print(f"log-likelihood {null_model.log_likelihood_:.2f} (df={n_parameters:.0f})")
tau2, sigma2 = null_model.variance_components_["group"], null_model.variance_components_["residual"]
print(f"1. fixed intercept           {null_model.intercept_:8.2f}")
print(f"2. variance between groups   {tau2:8.2f}")
print(f"3. variance within groups    {sigma2:8.2f}\n")

# %%
# The intraclass correlation
# --------------------------
# The share of the variance that lies between groups: 0 if it makes no difference which group a row is in, 1 if nothing
# else does. It is also the correlation of two rows of the same group.

print(f"total variance {tau2:.2f} + {sigma2:.2f} = {tau2 + sigma2:.2f}")
print(f"ICC by hand    {tau2:.2f} / {tau2 + sigma2:.2f} = {tau2 / (tau2 + sigma2):.3f}")
print(f"ICC            {null_model.icc_:.3f}, or {null_model.icc_:.1%} of the variance")
# The unadjusted ICC also counts the variance of what predictors explain; the null model has none.
print(f"adjusted ICC {icc(null_model):.3f}, unadjusted ICC {icc(null_model, kind='unadjusted'):.3f}\n")
save("3_variance_shares", VarianceDisplay.from_estimator, null_model)
save("3_variance_profile", VarianceDisplay.from_estimator, null_model, kind="profile")

# %%
# The plausible values range
# --------------------------
# Where the model puts 95% of the groups' intercepts: 1.96 standard deviations to either side of the average one. In the
# units of the outcome, it says more than a share of variance how much groups differ.

lower, upper = null_model.intercept_ - 1.96 * np.sqrt(tau2), null_model.intercept_ + 1.96 * np.sqrt(tau2)
print(f"plausible values range, by hand   {lower:.5f} to {upper:.5f}")
low, high = plausible_values_range(null_model)
print(f"plausible values range            {low:.5f} to {high:.5f} (with 1.95996 for 1.96)")
print(f"95% of intercepts lie between {low:.0f} and {high:.0f}, {high - low:.0f} apart\n")
save("3_variance_range", VarianceDisplay.from_estimator, null_model, kind="range")

# %%
# Empirical-Bayes estimates
# -------------------------
# What is the level of one group? Its own mean is a noisy answer if the group is small, the average intercept a poor one if
# it is large. The empirical-Bayes estimate is between them, nearer the group's mean the more reliable that is.

first = schools[0]
rows_of_first = pupils.loc[pupils[group_name] == first, y_name]
mean, n = rows_of_first.mean(), len(rows_of_first)
reliability = tau2 / (tau2 + sigma2 / n)
shrunken = reliability * mean + (1 - reliability) * null_model.intercept_
print(f"{group_name} {first}, by hand:")
print(f"  mean of its {n} rows        {mean:.5f}")
print(f"  reliability               {tau2:.2f} / ({tau2:.2f} + {sigma2:.2f} / {n}) = {reliability:.3f}")
shares = f"{reliability:.3f} x {mean:.3f} + {1 - reliability:.3f} x {null_model.intercept_:.3f}"
print(f"  shrunken intercept        {shares} = {shrunken:.3f}")
print(f"  its deviation, U_0j       {shrunken:.3f} - {null_model.intercept_:.3f} = {shrunken - null_model.intercept_:.3f}")
print(f"from the model:             {null_model.random_effects_[first]:.3f}\n")
effects = random_effects_table(null_model)
effects["n"] = effects["n"].astype(int)
print(effects.head(3).rename_axis(None).to_string(float_format="{:.3f}".format))

# %%
# All of them
# -----------
# Their mean is 0 by construction (weighted by reliability), and they spread less than the true effects would, since each is
# shrunk.

# One and a half standard deviations, to one digit.
bound = float(f"{1.5 * np.sqrt(tau2):.1g}")
share = effects["effect"].between(-bound, bound).mean()
of_all = effects["effect"].agg(["mean", "std", "min", "max"])
# Their mean is 0 but for rounding; adding 0 takes the sign off a zero.
mean = round(of_all["mean"], 2) + 0.0
print(f"\n{len(effects)} estimates: mean {mean:.2f}, SD {of_all['std']:.2f} (tau is {np.sqrt(tau2):.2f}),")
print(f"from {of_all['min']:.1f} to {of_all['max']:.1f}, {share:.0%} of them between {-bound:g} and {bound:g}")
save("4_effects_histogram", RandomEffectsDisplay.from_estimator, null_model)
save("4_effects_ordered", RandomEffectsDisplay.from_estimator, null_model, kind="caterpillar")
save("4_effects_extreme", RandomEffectsDisplay.from_estimator, null_model, kind="caterpillar", extremes=8)
save("4_effects_normal", RandomEffectsDisplay.from_estimator, null_model, kind="qq")
save("4_shrinkage", ShrinkageDisplay.from_estimator, null_model)
if saved:
    print(f"\n{len(saved)} figures are in {options.output}")
