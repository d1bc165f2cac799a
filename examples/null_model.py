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
    frame, outcome, grouping = load_dyestuff(as_frame=True).frame, "yield", "batch"
elif options.y is None or options.groups is None:
    parser.error("--data needs --y and --groups")
else:
    frame, outcome, grouping = pd.read_csv(options.data), options.y, options.groups
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

model = RandomInterceptRegressor().fit(None, frame[outcome], groups=frame[grouping])

print(f"Null model of {outcome!r}: {len(frame)} rows in {model.n_groups_} groups ({grouping!r})\n")
print(f"REML criterion         {model.criterion_:.1f}")
print(f"log-likelihood         {model.log_likelihood_:.2f} (3 parameters: the intercept and two variances)\n")
print(f"fixed intercept        {model.intercept_:.4f}   standard error {np.sqrt(model.cov_fixed_[0, 0]):.4f}\n")

# %%
# Split the variance
# ------------------
# tau2 is the variance of the groups about the intercept, sigma2 that of the rows about their group. The intraclass
# correlation (ICC) is the share of the first in their sum: 0 if groups do not matter, 1 if only groups do.

tau2, sigma2 = model.variance_components_["group"], model.variance_components_["residual"]
print(f"{'':<22} {'variance':>9}   SD")
print(f"{'between groups (tau2)':<22} {tau2:>9.2f}   {np.sqrt(tau2):.3f}")
print(f"{'within groups (sigma2)':<22} {sigma2:>9.2f}   {np.sqrt(sigma2):.3f}\n")
print(f"ICC                    {model.icc_:.3f}: {model.icc_:.1%} of the variance lies between groups")

# %%
# The plausible values range
# --------------------------
# Where the model puts 95% of the groups' own intercepts.

half = stats.norm.ppf(0.975) * np.sqrt(tau2)
print(f"plausible values range {model.intercept_ - half:.2f} to {model.intercept_ + half:.2f}\n")

# %%
# Empirical-Bayes estimates
# -------------------------
# A group's estimated effect is the deviation of its mean, times its reliability lambda_j = tau2 / (tau2 + sigma2 / n_j):
# the fewer rows a group has, the more its estimate is shrunk towards 0.

sizes = pd.Series(model.moments_.counts, index=model.groups_)
reliability = tau2 / (tau2 + sigma2 / sizes)
table = pd.DataFrame(
    {
        "n": sizes.astype(int),
        "mean": frame.groupby(grouping)[outcome].mean(),
        "reliability": reliability,
        "EB estimate": model.random_effects_,
        "conditional SD": np.sqrt(tau2 * (1 - reliability)),
    }
).rename_axis(grouping)
print(table.head(6).round({"mean": 2, "reliability": 3, "EB estimate": 3, "conditional SD": 2}).to_string())
if len(table) > 6:
    print(f"... and {len(table) - 6} more groups")
