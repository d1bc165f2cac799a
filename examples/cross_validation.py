"""
Cross-validation that knows of groups
=====================================

How well does a model predict? With rows in groups there are two answers. For other rows of groups it has seen, a multilevel
model knows more than the predictors: it knows the group. For new groups it does not. Folds of rows ask the first question,
folds of groups the second, and which of them is yours depends on what the predictions are for.

Either way the group labels have to reach `fit` and `predict`, and scikit-learn's tools leave them behind unless they are
told not to. This is how to tell them.
"""

from __future__ import annotations

import warnings

import pandas as pd
from sklearn import config_context
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mlm import (
    GroupsNotPassedWarning,
    RandomInterceptRegressor,
    cross_validate_groups,
    make_group_scorer,
    request_groups,
)
from sklearn_mlm.datasets import load_sleepstudy

X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
rows = KFold(5, shuffle=True, random_state=0)

# %%
# Both questions at once
# ----------------------
# Typical errors in milliseconds, and R^2, with least squares beside. Who a person is explains much of their reaction
# times; for persons never seen the model has nothing to go by but the days without sleep, as least squares have.

table = cross_validate_groups(RandomInterceptRegressor(), X, y, groups=subject, random_state=0)
with pd.option_context("display.width", 100):
    print(table.round(2), "\n")

# %%
# The trap
# --------
# `groups=` in scikit-learn's cross-validation is for the splitter. It does not reach the model, which is then least
# squares; it says so.

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    scores = cross_val_score(RandomInterceptRegressor(), X, y, groups=subject, cv=GroupKFold(5), scoring="r2")
message = next(str(warning.message) for warning in caught if warning.category is GroupsNotPassedWarning)
print(f"R^2 {scores.mean():.2f}, and a warning: {message.split('.')[0]}.\n")

# %%
# First way: a column of X
# ------------------------
# Leave the labels in X, and name their column. Everything in scikit-learn works then, since X goes everywhere. Steps
# before the model must leave that column alone and keep its name.

frame = X.assign(subject=subject)
steps = ColumnTransformer(
    [("scale", StandardScaler(), ["days"])], remainder="passthrough", verbose_feature_names_out=False
).set_output(transform="pandas")
pipeline = make_pipeline(steps, RandomInterceptRegressor(group_feature="subject"))
scores = cross_val_score(pipeline, frame, y, cv=rows, scoring="r2")
print(f"R^2 {scores.mean():.4f} for known persons, their labels in a column of X")

search = GridSearchCV(pipeline, {"randominterceptregressor__method": ["reml", "ml"]}, cv=rows, scoring="r2").fit(frame, y)
print(f"R^2 {search.best_score_:.4f} in a grid search over {search.best_params_}")

# %%
# Second way: metadata routing
# ----------------------------
# The labels travel beside X. The model asks for them unasked; scikit-learn's scorers do not, so that it takes one of
# ours. Other metadata that the steps take, such as row weights, are requested in one call.

with config_context(enable_metadata_routing=True):
    pipeline = request_groups(make_pipeline(StandardScaler(), RandomInterceptRegressor()), sample_weight=True)
    scorer = make_group_scorer("r2").set_score_request(sample_weight=True)
    metadata = {"groups": subject, "sample_weight": pd.Series(1.0, index=X.index)}
    scores = cross_validate(pipeline, X, y, cv=rows, scoring=scorer, params=metadata)["test_score"]
print(f"R^2 {scores.mean():.4f} for known persons, their labels routed")
