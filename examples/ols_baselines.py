"""
Least squares, or a multilevel model?
=====================================

Rows that come in groups have three simpler treatments than a multilevel model. Least squares can ignore the groups; it can
keep its coefficients and mend its standard errors (cluster-robust); or it can give every group an intercept of its own and
compare rows within groups only. When does one of them do, and when does the multilevel model pay?

Run as it is, it asks about reaction times, and about simulated pupils in schools. On your own data:

    python examples/ols_baselines.py --data pupils.csv --y math --x ses,female --groups school
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from sklearn_mlm import ClusterRobustOLS, RandomInterceptRegressor, compare_with_ols
from sklearn_mlm.datasets import load_sleepstudy, make_schools

parser = argparse.ArgumentParser(description="Compare the random intercept model with least squares.")
parser.add_argument("--data", help="a CSV file with a header (default: reaction times, and simulated pupils)")
parser.add_argument("--y", help="name of the outcome column")
parser.add_argument("--x", default="", help="names of the predictors, separated by commas (default: none)")
parser.add_argument("--groups", help="name of the column of group labels")
options = parser.parse_args()
if options.data is not None:
    if not (options.y and options.groups):
        parser.error("--data needs --y and --groups")
    predictors = [name for name in options.x.split(",") if name]
    try:
        frame = pd.read_csv(options.data, dtype={options.groups: str})
    except (OSError, ValueError) as error:
        parser.error(f"cannot read {options.data}: {error}")
    columns = [*predictors, options.y, options.groups]
    for column in columns:
        if column not in frame:
            parser.error(f"{options.data} has no column {column!r}; it has {', '.join(frame.columns)}")
    complete = frame[columns].dropna()
    if len(complete) < len(frame):
        print(f"Left out {len(frame) - len(complete)} rows with a missing value.\n")
    X = complete[predictors] if predictors else None
    try:
        print(compare_with_ols(X, complete[options.y], complete[options.groups], random_state=0))
    except ValueError as error:
        parser.error(f"no comparison of {options.y!r} by {options.groups!r}: {error}")
    raise SystemExit

# %%
# Standard errors
# ---------------
# Eighteen people, measured on ten days each. Least squares take the 180 reaction times for 180 people's, and their standard
# errors promise too much. Cluster-robust ones allow for any likeness among the times of a person. "CR0" is the plain
# sandwich; "CR1" scales it, as Stata does; "CR2" corrects it group by group, and brings degrees of freedom for
# the t distribution; "CR3" leaves out one group at a time. With few groups they differ: prefer CR2.

X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
print("Standard errors of the effect of a day without sleep (ms), by least squares\n")
for cov_type in ("nonrobust", "CR0", "CR1", "CR2", "CR3"):
    model = ClusterRobustOLS(cov_type=cov_type).fit(X, y, groups=subject)
    print(f"{cov_type:<24}{np.sqrt(model.cov_fixed_[1, 1]):.3f}   {model.df_[1]:.0f} degrees of freedom")
model = RandomInterceptRegressor().fit(X, y, groups=subject)
print(f"{'random intercept model':<24}{np.sqrt(model.cov_fixed_[1, 1]):.3f}\n")

# %%
# All of them side by side
# ------------------------
# The comparison fits the models, cross-validates their predictions for persons they know and for persons they do not,
# and says in words what the figures mean.

print(compare_with_ols(X, y, subject, random_state=0))

# %%
# Within and between
# ------------------
# Pupils of a higher status score better, and so do schools whose pupils have a higher status, by more. A single coefficient
# mixes the two, and each model in its own proportion: that is why their estimates differ. The table of coefficients
# within and between groups takes them apart.

schools = make_schools(as_frame=True, random_state=0)
print("\n" + "=" * 100 + "\n")
print(compare_with_ols(schools.data, schools.target, schools.groups, random_state=0))
