"""
Crossed factors: subjects rate items
====================================

Many subjects rate the same items. Some subjects give high ratings to all items, and
some items get high ratings from all subjects. Neither factor is nested in the
other, because a rating belongs to a subject and to an item. This lesson shows why a
model needs both, how the variance is shared, and how new subjects and new items are
predicted.
"""

# sphinx_gallery_thumbnail_number = 1

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mlm import (
    MixedEffectsRegressor,
    RandomInterceptRegressor,
    cross_validate_groups,
    inference,
)
from sklearn_mlm.display import RandomEffectsDisplay, VarianceDisplay

# %%
# Ratings
# -------
# The data are simulated: 40 subjects rate how clear texts are, from 0 to 100. There
# are 30 texts, of which half have a summary. Each subject rates about two thirds of
# them. In these simulated ratings a summary makes no difference.


def simulated(random_state):
    """Return ratings of 30 texts by 40 subjects; summaries have no effect."""
    rng = np.random.default_rng(random_state)
    of_subject, of_item = rng.normal(0, 10, 40), rng.normal(0, 8, 30)
    pairs = pd.MultiIndex.from_product(
        [range(40), range(30)], names=["subject", "item"]
    )
    frame = pairs.to_frame(index=False)
    frame = frame[rng.uniform(size=len(frame)) < 2 / 3].reset_index(drop=True)
    frame["summary"] = frame["item"] % 2
    level = 50 + of_subject[frame["subject"]] + of_item[frame["item"]]
    frame["rating"] = level + rng.normal(0, 12, len(frame))
    return frame


ratings = simulated(6)
ratings.groupby("summary")["rating"].agg(["size", "mean", "std"]).round(1)

# %%
# See both factors
# ----------------
# Each square is a rating, and empty squares are missing. Rows and columns are in
# the order of their means. Ratings rise from the bottom to the top, because
# subjects differ, and from the left to the right, because items differ.

table = ratings.pivot_table("rating", "subject", "item")
table = table.loc[table.mean(axis=1).sort_values().index]
table = table[table.mean().sort_values().index]
figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
image = ax.imshow(table, cmap="cividis", origin="lower", aspect="auto")
ax.set(xlabel="items, from low to high", ylabel="subjects, from low to high")
ax.set(xticks=[], yticks=[])
figure.colorbar(image, label="rating")
figure.set_label(
    "A table of ratings in shades, with subjects as rows and items as columns: it "
    "is darkest at the lower left and lightest at the upper right."
)

# %%
# Fit it
# ------
# A term for each factor stands in ``random_effects``, and a column of labels for
# each in ``groups``.

X, y = ratings[["summary"]], ratings["rating"]
labels = ratings[["subject", "item"]]
model = MixedEffectsRegressor(random_effects="(1 | subject) + (1 | item)")
model.fit(X, y, groups=labels)
model.summary()

# %%
# Read the shares
# ---------------
# The share of the subjects is the correlation of two ratings by one subject. That
# of the items is the correlation of two ratings of one item, which is how far
# single raters agree.

shares = inference.icc(model)
display = VarianceDisplay.from_estimator(model)
display.figure_.set_label(
    "A bar of the variance of ratings: single ratings have the largest share, then "
    "subjects, then items, and the summary has hardly any."
)
print(f"two ratings by one subject: correlation {shares['subject']:.2f}")
print(f"two ratings of one item: correlation {shares['item']:.2f}")
inference.format_table(inference.random_effects_test(model))

# %%
# Why both
# --------
# Summaries belong to items, and there are 30 items. A model of subjects alone takes
# the differences between items for noise of single ratings, and hundreds of ratings
# average it out. Its standard error is a third of the right one.

models = {
    "subjects alone": RandomInterceptRegressor().fit(X, y, labels["subject"]),
    "items alone": RandomInterceptRegressor().fit(X, y, labels["item"]),
    "both": model,
}
columns = ["estimate", "std_error", "df", "p_value"]
effects = pd.DataFrame(
    {
        name: inference.fixed_effects(each).loc["summary", columns]
        for name, each in models.items()
    }
).T
inference.format_table(effects)

# %%
# Is this bad luck of one data set? Here are 25 sets of ratings, all simulated
# without an effect. A test at the level of 5% should find one in about one of them.

found = pd.Series(0, index=["subjects alone", "both"])
for seed in range(25):
    again = simulated(seed)
    arguments = again[["summary"]], again["rating"], again[["subject", "item"]]
    alone = RandomInterceptRegressor().fit(*arguments[:2], again["subject"])
    both = MixedEffectsRegressor().fit(*arguments)
    for name, each in (("subjects alone", alone), ("both", both)):
        found[name] += inference.fixed_effects(each)["p_value"]["summary"] < 0.05
found.rename("p < 0.05 in 25 data sets").to_frame()

# %%
# Effects of items
# ----------------
# Which texts are clear? The estimates are shrunken, and they allow for which
# subjects rated a text. The reliability says how much of the variance of items the
# ratings of an item determine.

display = RandomEffectsDisplay.from_estimator(
    model, factor="item", kind="caterpillar"
)
display.figure_.set_label(
    "The estimated effects of 30 items in ascending order, each with a 95% "
    "interval; the lowest and the highest are far from 0."
)
items = inference.random_effects_table(model, factor="item")
items[["effect", "sd", "reliability", "n"]].head(3).round(2)

# %%
# Does the effect differ between subjects?
# ----------------------------------------
# Each subject rates texts with and without a summary, so that the effect of a
# summary may differ between subjects: it gets a random slope. It cannot differ
# between items, each of which has a summary or has none. The standard deviation of
# the slopes is small, and the test finds nothing.

slopes = MixedEffectsRegressor(
    random_effects="(1 + summary | subject) + (1 | item)"
).fit(X, y, groups=labels)
sd = slopes.covariance_["subject"].loc["summary", "summary"] ** 0.5
test = inference.random_effects_test(slopes)
print(f"SD of slopes {sd:.1f}")
inference.format_table(test)

# %%
# New subjects and new items
# --------------------------
# A prediction has the effects of the levels that the model knows. The interval of a
# rating is narrowest if both are known.

new = pd.DataFrame({"subject": [5, 5, 99, 99], "item": [3, 99, 3, 99]})
rows = pd.DataFrame({"summary": [1, 1, 1, 1]})
predictions = inference.predict_interval(model, rows, groups=new)
predictions.insert(0, "subject", ["known", "known", "new", "new"])
predictions.insert(1, "item", ["known", "new", "known", "new"])
predictions["width"] = predictions["upper"] - predictions["lower"]
predictions.round(1)

# %%
# Cross-validation has a row for each of these questions. In "all new", subjects and
# items of the test rows are both absent from the training rows.

scores = cross_validate_groups(
    model, X, y, groups=labels, scoring="r2", random_state=0
)
plt.show()
scores["r2"].round(2)
