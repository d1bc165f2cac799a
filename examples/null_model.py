"""
The null model: how much do groups differ?
==========================================

The first multilevel model of any analysis has no predictors. It splits the variance of an outcome into a part between
groups and a part within them:

    y_ij = intercept + u_j + e_ij,   u_j ~ N(0, tau2),   e_ij ~ N(0, sigma2).

Run as it is, it asks whether batches of a dyestuff differ in their yield. On your own data:

    python examples/null_model.py --data pupils.csv --y math --groups school
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy import stats

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.datasets import load_dyestuff

parser = argparse.ArgumentParser(description="Fit the null model to a CSV file, or to the dyestuff data.")
parser.add_argument("--data", help="a CSV file with a header (default: the dyestuff data)")
parser.add_argument("--y", help="name of the outcome column")
parser.add_argument("--groups", help="name of the column of group labels")
options = parser.parse_args()
if options.data is None:
    if options.y or options.groups:
        parser.error("--y and --groups name columns of a file: pass it as --data")
    frame, outcome, grouping = load_dyestuff(as_frame=True).frame, "yield", "batch"
else:
    if not (options.y and options.groups):
        parser.error("--data needs --y and --groups")
    outcome, grouping = options.y, options.groups
    try:
        frame = pd.read_csv(options.data, dtype={grouping: str})
    except (OSError, ValueError) as error:
        parser.error(f"cannot read {options.data}: {error}")
    for column in (outcome, grouping):
        if column not in frame:
            parser.error(f"{options.data} has no column {column!r}; it has {', '.join(frame.columns)}")
    complete = frame[[outcome, grouping]].notna().all(axis=1)
    if not complete.all():
        print(f"Left out {(~complete).sum()} rows with a missing value.\n")
        frame = frame[complete]

# %%
# Fit it
# ------
# No predictors: X is None. The outcome and the group labels are all there is.

try:
    model = RandomInterceptRegressor().fit(None, frame[outcome], groups=frame[grouping])
except ValueError as error:
    parser.error(f"no null model of {outcome!r} by {grouping!r}: {error}")

# As many decimals as the outcome's own spread deserves.
spread = np.sqrt(model.variance_components_.sum())
digits = max(0, 2 - int(np.floor(np.log10(spread)))) if spread > 0 else 2

print(f"Null model of {outcome!r}: {len(frame)} rows in {model.n_groups_} groups ({grouping!r})\n")
print(f"REML criterion         {model.criterion_:.1f}")
print(f"log-likelihood         {model.log_likelihood_:.2f} (3 parameters: the intercept and two variances)\n")
error = np.sqrt(model.cov_fixed_[0, 0])
print(f"fixed intercept        {model.intercept_:.{digits + 2}f}   standard error {error:.{digits + 2}f}\n")

# %%
# Split the variance
# ------------------
# tau2 is the variance of the groups about the intercept, sigma2 that of the rows about their group. The intraclass
# correlation (ICC) is the share of the first in their sum: 0 if groups do not matter, 1 if only groups do.

tau2, sigma2 = model.variance_components_["group"], model.variance_components_["residual"]
print(f"{'':<22} {'variance':<11} SD")
print(f"{'between groups (tau2)':<22} {f'{tau2:.4g}':<11} {np.sqrt(tau2):.4g}")
print(f"{'within groups (sigma2)':<22} {f'{sigma2:.4g}':<11} {np.sqrt(sigma2):.4g}\n")
if model.boundary_ == "group":
    print("The groups differ no more than chance makes them: their variance is estimated as exactly 0.")
elif model.boundary_ == "residual":
    print("The rows of a group are all the same: the variance within groups is exactly 0.")
print(f"ICC                    {model.icc_:.3f}: {model.icc_:.1%} of the variance lies between groups")

# %%
# The plausible values range
# --------------------------
# Where the model puts 95% of the groups' own intercepts.

half = stats.norm.ppf(0.975) * np.sqrt(tau2)
print(f"plausible values range {model.intercept_ - half:.{digits}f} to {model.intercept_ + half:.{digits}f}\n")

# %%
# Empirical-Bayes estimates
# -------------------------
# A group's estimated effect is the deviation of its mean, times its reliability lambda_j = tau2 / (tau2 + sigma2 / n_j):
# the fewer rows a group has, the more its estimate is shrunk towards 0.

sizes = pd.Series(model.moments_.counts, index=model.groups_)
with np.errstate(invalid="ignore"):
    reliability = tau2 / (tau2 + sigma2 / sizes)
table = pd.DataFrame(
    {
        "n": sizes.astype(int).map(str),
        "mean": frame.groupby(grouping)[outcome].mean().map(f"{{:.{digits}f}}".format),
        "reliability": reliability.map("{:.3f}".format),
        "EB estimate": (model.random_effects_ + 0.0).map(f"{{:.{digits + 1}f}}".format),
        "conditional SD": np.sqrt(tau2 * (1 - reliability)).map(f"{{:.{digits}f}}".format),
    }
).rename_axis(grouping)
# Labels were read as text; where they are numbers, in the order of numbers.
numbers = pd.to_numeric(pd.Series(table.index), errors="coerce").to_numpy()
table = table.iloc[np.argsort(numbers, kind="stable")]
print(table.head(6).to_string())
if len(table) > 6:
    print(f"... and {len(table) - 6} more groups")
