"""
Cross-validation that knows of groups
=====================================

How well does a model predict? If rows come in groups, there are two answers. For
other rows of known groups, a multilevel model uses the effect of the group. For
rows of new groups, it has only the predictors. Which answer is the right one
depends on what the predictions are for, and this lesson gets both.

Either way the group labels have to reach `fit` and `predict`, and the tools of
scikit-learn do not pass them on by default. The lesson has two ways to make them.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_score,
    cross_validate,
)
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

# %%
# Two questions, two ways to make folds
# -------------------------------------
# The data are reaction times of 18 persons on ten days. The picture has a row for
# each person and a column for each day, and the colour of a measurement is the fold
# that tests it. On the left, ``KFold`` makes folds of rows: the model has seen
# other days of every person that it predicts. On the right, ``GroupKFold`` makes
# folds of persons: the model has never seen a person that it predicts.

X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
rows = KFold(5, shuffle=True, random_state=0)
splits = {
    "KFold": rows.split(X),
    "GroupKFold": GroupKFold(5).split(X, groups=subject),
}
figure, axes = plt.subplots(
    1, 2, figsize=(8.0, 4.4), sharey=True, layout="constrained"
)
for ax, (title, split) in zip(axes, splits.items(), strict=True):
    fold = np.empty(len(y))
    for number, (_, test) in enumerate(split):
        fold[test] = number
    ax.imshow(fold.reshape(18, 10), cmap="Pastel1", vmax=8, aspect="auto")
    ax.set(title=title, xlabel="day", xticks=range(10))
axes[0].set(ylabel="person", yticks=range(18), yticklabels=subject.unique())
figure.set_label(
    "The fold of each measurement, persons by days: scattered over all persons "
    "with KFold, whole persons with GroupKFold."
)

# %%
# Both answers at once
# --------------------
# `cross_validate_groups` fits the model in both kinds of folds, with least squares
# for comparison. The table has typical errors in milliseconds and R². Who a person
# is explains much of the reaction times. For new persons the model knows only the
# day, and it predicts as well as least squares.

table = cross_validate_groups(
    RandomInterceptRegressor(), X, y, groups=subject, random_state=0
)
table.round(2)

# %%
# The trap
# --------
# The argument ``groups`` of scikit-learn's functions is for the splitter. It does
# not reach the model. The model then is least squares, and it warns.

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    trapped = cross_val_score(
        RandomInterceptRegressor(),
        X,
        y,
        groups=subject,
        cv=GroupKFold(5),
        scoring="r2",
    )
message = next(
    str(warning.message)
    for warning in caught
    if warning.category is GroupsNotPassedWarning
)
print(f"R² {trapped.mean():.2f}, and a warning:\n{message.split('.')[0]}.")

# %%
# First way: a column of X
# ------------------------
# Leave the labels in X, and name their column by ``group_feature``. Nearly all of
# scikit-learn works then, because X reaches every step. The steps before the model
# must leave that column alone and keep its name.

frame = X.assign(subject=subject)
steps = ColumnTransformer(
    [("scale", StandardScaler(), ["days"])],
    remainder="passthrough",
    verbose_feature_names_out=False,
).set_output(transform="pandas")
pipeline = make_pipeline(steps, RandomInterceptRegressor(group_feature="subject"))
by_column = cross_val_score(pipeline, frame, y, cv=rows, scoring="r2").mean()
print(f"R² {by_column:.4f} for known persons, with their labels in a column of X")

methods = {"randominterceptregressor__method": ["reml", "ml"]}
search = GridSearchCV(pipeline, methods, cv=rows, scoring="r2").fit(frame, y)
print(f"R² {search.best_score_:.4f} in a grid search, for {search.best_params_}")

# %%
# Second way: metadata routing
# ----------------------------
# With metadata routing the labels travel beside X. The model requests them by
# itself. The scorers of scikit-learn do not, and `make_group_scorer` makes one that
# does. Other metadata that the steps take, such as row weights, are requested by
# `request_groups`. The score is that of the first way.

with config_context(enable_metadata_routing=True):
    pipeline = make_pipeline(StandardScaler(), RandomInterceptRegressor())
    pipeline = request_groups(pipeline, sample_weight=True)
    scorer = make_group_scorer("r2").set_score_request(sample_weight=True)
    metadata = {"groups": subject, "sample_weight": pd.Series(1.0, index=X.index)}
    results = cross_validate(
        pipeline, X, y, cv=rows, scoring=scorer, params=metadata
    )
routed = results["test_score"].mean()
print(f"R² {routed:.4f} for known persons, with their labels routed")
plt.show()
