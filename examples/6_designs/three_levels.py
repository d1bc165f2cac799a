"""
Three levels: pupils in classes in schools
==========================================

Pupils of a class have a teacher in common, and classes of a school have a school in
common, so that scores are alike at two levels: within classes, and within schools.
A model with both factors divides the variance into three parts. This lesson shows
how to see the levels, what a model of schools alone gets wrong, and how pupils of a
new class are predicted.
"""

# sphinx_gallery_thumbnail_number = 2

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
# Pupils, classes, schools
# ------------------------
# The data are simulated: 30 schools with two to five classes of about 20 pupils. In
# each school a lot decides which half of the classes is taught by a new method. The
# scores are simulated without any effect of the method. Classes have the labels a,
# b, c and so on in every school.

rng = np.random.default_rng(14)
n_classes = rng.integers(2, 6, 30)
classes = pd.DataFrame({"school": np.repeat(np.arange(1, 31), n_classes)})
position = classes.groupby("school").cumcount()
classes["class"] = position.map(dict(enumerate("abcde")))
lot = pd.Series(rng.permutation(len(classes))).groupby(classes["school"]).rank()
classes["method"] = (lot > np.repeat(n_classes, n_classes) / 2).astype(int)
classes["level"] = rng.normal(0, 3, 30)[classes["school"] - 1]
classes["level"] += rng.normal(0, 3, len(classes))
pupils = classes.loc[classes.index.repeat(rng.integers(14, 27, len(classes)))]
pupils = pupils.reset_index(drop=True)
pupils["ses"] = rng.normal(0, 1, len(pupils))
noise = rng.normal(0, 7, len(pupils))
pupils["score"] = 50 + pupils.pop("level") + 2 * pupils["ses"] + noise
pupils.head(3).round(2)

# %%
# See it
# ------
# Each point is the mean of a class, and each bar that of the classes of a school.
# If pupils were divided into classes by chance, and nothing else differed between
# classes, the means of the classes of a school would differ by what chance leaves
# of 20 pupils: the standard deviation of pupils, divided by the root of 20. They
# differ by twice as much.

of_class = pupils.groupby(["school", "class"])["score"].mean()
of_school = of_class.groupby("school").mean().sort_values()
place = pd.Series(range(30), index=of_school.index)
figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
ax.plot(of_class.index.droplevel("class").map(place), of_class, ".", label="class")
ax.plot(place, of_school, "_", color="#D55E00", markersize=10, label="school")
ax.set(xlabel="schools, from low to high", ylabel="mean score", xticks=[])
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
figure.set_label(
    "Mean scores of classes, a column of points for each school: classes of one "
    "school lie several points apart, and schools differ too."
)
grouped = pupils.groupby(["school", "class"])["score"]
by_chance = (pupils["score"] - grouped.transform("mean")).std() / np.sqrt(20)
beside_school = of_class - of_class.groupby("school").transform("mean")
apart = np.sqrt((beside_school**2).sum() / (len(of_class) - len(of_school)))
print(f"SD of classes within schools {apart:.1f}, by chance {by_chance:.1f}")

# %%
# Fit it
# ------
# ``(1 | school/class)`` stands for ``(1 | school) + (1 | school:class)``: an
# intercept for each school, and one for each class of each school. The labels are
# columns of a frame that is passed as ``groups``.

labels = pupils[["school", "class"]]
X, y = pupils[["ses", "method"]], pupils["score"]
model = MixedEffectsRegressor(random_effects="(1 | school/class)")
model.fit(X, y, groups=labels)
model.summary()

# %%
# Read the shares
# ---------------
# The share of the schools is the correlation of two pupils of a school who are in
# different classes. Two pupils of a class have school and class in common, and
# their correlation is the sum of both shares. These are shares of the variance that
# status and method leave; the bar has the share of status and method too.

shares = inference.icc(model)
display = VarianceDisplay.from_estimator(model)
display.figure_.set_label(
    "A bar of the variance of scores with the shares of the predictors, schools, "
    "classes and pupils: that of the pupils is the largest."
)
print(f"same school, other class: {shares['school']:.2f}")
print(f"same class: {shares['all']:.2f}")
inference.confidence_intervals(model).round(2)

# %%
# Is each factor needed? The test leaves out one at a time.

inference.format_table(inference.random_effects_test(model))

# %%
# A model with schools alone
# --------------------------
# The method is given to classes, and what the data tell about it comes from 109
# classes, whose levels differ. A model of schools alone takes the levels of classes
# for noise of single pupils, which hundreds of pupils average out. Its standard
# error of the method is half as large as the right one, and it finds an effect that
# does not exist. A model of classes alone takes the differences between schools for
# noise of classes, although schools have classes of both kinds, and its standard
# error is too large. That of status, which varies between pupils of a class, is
# nearly the same in all three.

each_class = labels["school"].astype(str) + labels["class"]
models = {
    "schools alone": RandomInterceptRegressor().fit(X, y, groups=labels["school"]),
    "classes alone": RandomInterceptRegressor().fit(X, y, groups=each_class),
    "both": model,
}
columns = ["estimate", "std_error", "df", "p_value"]
method = pd.DataFrame(
    {
        name: inference.fixed_effects(each).loc["method", columns]
        for name, each in models.items()
    }
).T
method["SE of ses"] = [
    inference.fixed_effects(each).loc["ses", "std_error"]
    for each in models.values()
]
inference.format_table(method)

# %%
# Labels that repeat
# ------------------
# ``(1 | school) + (1 | class)`` is another model. Class a of school 1 and class a
# of school 2 have the same label, and in that model they are the same level of a
# factor with five levels. The numbers of levels show it. If every class has a label
# of its own, such as 1a, 1b and 2a, both notations mean the same.

crossed = MixedEffectsRegressor(random_effects="(1 | school) + (1 | class)")
crossed.fit(X, y, groups=labels)
print("nested: ", model.n_groups_)
print("crossed:", crossed.n_groups_)

# %%
# Effects of schools and of classes
# ---------------------------------
# The estimates are shrunken, those of classes beside their school. The prediction
# of a pupil has the sum of the two.

figure, axes = plt.subplots(1, 2, figsize=(9.6, 5), layout="constrained")
for ax, factor in zip(axes, ("school", "school:class"), strict=True):
    RandomEffectsDisplay.from_estimator(
        model, factor=factor, kind="caterpillar", ax=ax
    )
figure.set_label(
    "Estimated effects in ascending order with 95% intervals, on the left of the "
    "schools, on the right of the classes beside their schools."
)
table = inference.random_effects_table(model, factor="school:class")
table[["effect", "sd", "reliability", "n"]].head(3).round(2)

# %%
# A new class, a new school
# -------------------------
# A class that the model knows has the effects of its school and of itself. A new
# class of a known school has the effect of the school. A new school has neither.
# The less is known, the wider is the interval of the mean of the class. The known
# school is the one with the lowest effect.

low = model.random_effects_["school"]["(Intercept)"].idxmin()
new = pd.DataFrame(
    {"school": [low, low, 99], "class": ["a", "new", "a"]},
    index=["known class", "new class of a known school", "new school"],
)
average = pd.DataFrame({"ses": 0.0, "method": 0}, index=new.index)
predictions = inference.predict_interval(model, average, new, kind="group_mean")
predictions["width"] = predictions["upper"] - predictions["lower"]
predictions.round(1)

# %%
# Cross-validation asks the same three questions: other pupils of known classes,
# pupils of new schools, and pupils of new classes in known schools. Least squares
# does not use the labels.

scores = cross_validate_groups(
    model, X, y, groups=labels, scoring="r2", random_state=0
)
plt.show()
scores["r2"].round(2)
