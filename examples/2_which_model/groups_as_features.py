"""
Groups as features: one-hot, target encoding or a random intercept
==================================================================

The customer of an order is a category with many levels, and there are several ways
to let a model use it: one column for each customer, one column with an encoded
mean, a random intercept, or nothing at all. This lesson cross-validates all of them
on the same orders, for customers that the model knows and for new customers.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from sklearn_mlm import (
    MixedEffectsRegressor,
    RandomInterceptRegressor,
    cross_validate_groups,
)

# %%
# Orders of customers
# -------------------
# The orders are simulated: 120 customers, of whom some order often and some hardly
# ever or never. Every customer has a level of quantity, and quantities go down with
# the price.

rng = np.random.default_rng(0)
customer = rng.choice(120, 1000, p=rng.dirichlet(np.full(120, 2.0)))
level = rng.normal(0.0, 4.0, 120)[customer]
price = rng.normal(20.0, 4.0, 1000)
orders = pd.DataFrame({"customer": [f"C{i:03}" for i in customer], "price": price})
quantity = 50.0 + level - 0.5 * (price - 20.0) + rng.normal(0.0, 4.0, 1000)
sizes = orders["customer"].value_counts()
print(f"{len(sizes)} customers with {sizes.min()} to {sizes.max()} orders")

# %%
# Four ways to use the customer
# -----------------------------
# One-hot columns give each customer a coefficient of its own, without shrinkage.
# The target encoder replaces the customer by one number, a shrunken mean of the
# outcome, and the model that follows may be any regressor: here least squares, and
# boosted trees. The random intercept model has a variance for the customers, and
# shrinks their levels by it.


def encoded(encoder, regressor):
    """Return a pipeline that encodes the customer and leaves the price as it is."""
    columns = make_column_transformer(
        (encoder, ["customer"]), remainder="passthrough"
    )
    return make_pipeline(columns, regressor)


trees = GradientBoostingRegressor(n_estimators=40, random_state=0)
one_hot = OneHotEncoder(handle_unknown="ignore")
models = {
    "one-hot": encoded(one_hot, LinearRegression()),
    "target encoding": encoded(TargetEncoder(), LinearRegression()),
    "target encoding, trees": encoded(TargetEncoder(), trees),
    "random intercept": RandomInterceptRegressor(group_feature="customer"),
}

# %%
# Scores for known and for new customers
# --------------------------------------
# `cross_validate_groups` answers two questions. Folds of rows ask how well other
# orders of known customers are predicted. Folds of customers ask the same of orders
# of new customers. The last row of each part, OLS, ignores the customers.
#
# For known customers, all four use what is known of the customer, and the random
# intercept predicts best. One-hot columns follow the few orders of small customers
# too closely. For new customers nothing is known but the price, all scores are near
# 0, and the trees have the lowest.


def draw(table):
    """Draw the mean score of each model, and the standard deviation over folds."""
    figure, axes = plt.subplots(
        1, 2, figsize=(8.0, 2.8), sharey=True, layout="constrained"
    )
    for ax, groups in zip(axes, ("known", "new"), strict=True):
        scores = table.loc[groups, "r2"].iloc[::-1]
        mean, sd = scores["mean"], scores["sd"]
        ax.errorbar(
            mean, scores.index, xerr=sd, fmt="o", color="#0072B2", capsize=3
        )
        ax.set(title=f"{groups} customers", xlabel="R²: mean, SD of folds")
        ax.spines[["top", "right"]].set_visible(False)
    return figure


np.random.seed(0)  # the target encoder draws its folds from these random numbers
names = ["customer", "price"]
table = cross_validate_groups(
    models, orders[names], quantity, scoring="r2", random_state=0
)
draw(table).set_label(
    "R² of five models: for known customers the random intercept has the highest "
    "and least squares the lowest, for new customers all are low."
)
scores = table["r2", "mean"].unstack("groups")
scores.sort_values("known").round(3)

# %%
# When the encoder wins
# ---------------------
# An encoded column is a predictor like any other, and a flexible regressor can
# combine it with the others. Suppose that prices below 18 are a discount, and that
# it makes the difference of a customer from the mean four times as large. The trees
# find this step by themselves. The random intercept model cannot express it,
# however many orders there are. A random slope of the price comes close, because it
# lets the difference between two customers change with the price, though along a
# line.

discount = quantity + 3.0 * level * (price < 18.0)
models["random slope"] = MixedEffectsRegressor(
    random_effects="(1 + price | customer)"
)
table = cross_validate_groups(
    models, orders[names], discount, scoring="r2", random_state=0
)
draw(table).set_label(
    "R² of six models if discounts act on customers differently: for known "
    "customers target encoding with trees has the highest, before the random "
    "slope."
)
plt.show()
scores_with_discount = table["r2", "mean"].unstack("groups")
scores_with_discount.sort_values("known").round(3)

# %%
# In short: if the effect of the group adds to those of the other columns, take a
# random intercept. It predicts known groups best here, and it also gives the
# variance between groups, standard errors and intervals. If the group combines with
# other columns in ways that are hard to write down, encode it for a flexible
# regressor. For new groups, only the other columns help.
