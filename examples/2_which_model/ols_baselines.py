"""
Least squares, or a multilevel model?
=====================================

Rows that come in groups can be analysed by least squares in three ways. Least
squares can ignore the groups. It can keep its coefficients and correct the standard
errors. Or it can give every group an intercept of its own and compare rows within
groups only. This lesson shows when one of them is enough, and when a multilevel
model is better.
"""

import matplotlib.pyplot as plt
import pandas as pd

from sklearn_mlm import ClusterRobustOLS, RandomInterceptRegressor, compare_with_ols
from sklearn_mlm.datasets import load_sleepstudy, make_schools
from sklearn_mlm.display import CoefficientComparisonDisplay
from sklearn_mlm.inference import fixed_effects, format_table

X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)

# %%
# Standard errors
# ---------------
# Eighteen persons slept too little, and their reaction times (in ms) were measured
# on ten days each. Least squares treats the 180 measurements as those of 180
# persons. Cluster-robust standard errors allow for any correlation among the
# measurements of a person. CR0 is the plain sandwich estimator, and CR1 scales it
# as Stata does. CR2 adjusts it group by group and brings degrees of freedom for the
# t distribution. CR3 leaves out one group at a time. They differ if the groups are
# few, and then CR2 is the one to take.
#
# The table has the standard error of the effect of a day by each of them, and by
# the random intercept model.

models = {
    f"least squares, {cov_type}": ClusterRobustOLS(cov_type=cov_type)
    for cov_type in ("nonrobust", "CR0", "CR1", "CR2", "CR3")
}
models["random intercept"] = RandomInterceptRegressor()
errors = pd.DataFrame(
    {
        name: fixed_effects(model.fit(X, y, groups=subject)).loc["days"]
        for name, model in models.items()
    }
).T
format_table(errors[["estimate", "std_error", "df"]])

# %%
# All of them side by side
# ------------------------
# `compare_with_ols` fits the models, cross-validates their predictions for persons
# that they know and for new persons, and says in words what the figures mean. Here
# the coefficient is the same for all, but the intervals in the picture are not: the
# slopes of persons vary, and only the cluster-robust standard error allows for it.

sleep = compare_with_ols(X, y, subject, random_state=0)
display = CoefficientComparisonDisplay.from_comparison(sleep)
display.figure_.set_label(
    "The effect of a day on the reaction time by four models: equal estimates, the "
    "widest interval for cluster-robust OLS."
)
sleep

# %%
# Within and between
# ------------------
# In the second data set, simulated pupils of a higher status have better scores,
# and so do schools with a higher mean status, by more than pupils of the same
# school do. A single coefficient mixes the two effects, and each model mixes them
# in its own proportion. That is why the estimates in the picture differ. The report
# has the two effects in a table of their own.

schools = make_schools(as_frame=True, random_state=0)
pupils = compare_with_ols(
    schools.data, schools.target, schools.groups, random_state=0
)
display = CoefficientComparisonDisplay.from_comparison(pupils)
display.figure_.set_label(
    "The effect of status on the score by four models: the within estimate is the "
    "lowest, least squares the highest."
)
plt.show()
pupils
