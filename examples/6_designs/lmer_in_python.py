"""
lmer in Python
==============

A formula says what a model is made of: the outcome, the terms of the fixed part,
and the coefficients that vary between groups. Those who know lmer of R can write
the same formulas here, and the names, the order and the coding of the columns are
those of R, so that tables can be compared. This lesson has three analyses, each
with the lines of R: a null model, a factorial experiment and growth curves.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, KFold

from sklearn_mlm.datasets import load_sleepstudy, make_schools
from sklearn_mlm.display import FittedLineDisplay, GroupLinesDisplay
from sklearn_mlm.formula import FormulaRegressor, lmer
from sklearn_mlm.inference import (
    anova,
    compare_models,
    drop1,
    estimated_marginal_means,
    estimated_trends,
    format_table,
    icc,
    plausible_values_range,
)

pupils = make_schools(60, 1_200, random_state=1, as_frame=True).frame

# %%
# The null model
# --------------
# How much do schools differ? The model has an intercept and a deviation of each
# school from it. Formulas need the extra ``formula``. In R, the analysis is
#
# .. code-block:: R
#
#    m <- lmer(math ~ 1 + (1 | school), data = pupils)
#    summary(m)
#    performance::icc(m)
#    head(ranef(m)$school, 3)

null = lmer("math ~ 1 + (1 | school)", pupils)
null.summary()

# %%
# The intraclass correlation (ICC) is the share of the variance that lies between
# schools. The table has the estimated deviations of three schools.

low, high = plausible_values_range(null)
print(f"ICC {icc(null):.3f}, means of 95% of schools {low:.1f} to {high:.1f}")
null.random_effects_.head(3).to_frame().round(2)

# %%
# A factorial experiment
# ----------------------
# Twelve bakers bake cakes by three recipes in two ovens. Some of the cakes are
# missing, and one has no score. Recipes and ovens are crossed within bakers, who
# differ in how well they bake. The scores are simulated.

rng = np.random.default_rng(7)
factors = [range(1, 13), ["A", "B", "C"], ["gas", "electric"], [1, 2]]
names = ["baker", "recipe", "oven", "cake"]
cakes = pd.MultiIndex.from_product(factors, names=names).to_frame(index=False)
cakes = cakes.sample(frac=0.9, random_state=0).sort_index(ignore_index=True)
gas, c = cakes["oven"] == "gas", cakes["recipe"] == "C"
score = 6.0 + cakes["recipe"].map({"A": 0.0, "B": 1.2, "C": 0.4}) + 0.8 * gas
score += 1.1 * (gas & c) + rng.normal(0.0, 0.9, 13)[cakes["baker"]]
cakes["score"] = score + rng.normal(0.0, 0.8, len(cakes))
cakes.loc[17, "score"] = np.nan

# %%
# The row without a score is dropped, as in R, and ``n_dropped_`` counts it. `anova`
# tests each term as lmerTest does. The tests do not depend on the coding of the
# factors: a term is tested at the mean of the levels of the other factors.
#
# .. code-block:: R
#
#    m <- lmer(score ~ recipe * oven + (1 | baker), cakes)
#    anova(m)

model = lmer("score ~ recipe * oven + (1 | baker)", cakes)
print(f"dropped: {model.n_dropped_}; columns: {', '.join(model.coef_names_)}")
anova(model)

# %%
# Other degrees of freedom and other types are options, and `drop1` leaves out one
# term at a time.
#
# .. code-block:: R
#
#    anova(m, ddf = "Kenward-Roger", type = 2)
#    drop1(m)

print(anova(model, ddf="kenward_roger", type=2))
drop1(model)

# %%
# The estimated marginal means are the means of the cells, as if all cells had the
# same number of cakes. The picture shows the interaction: gas is better for all
# recipes, and much better for recipe C.
#
# .. code-block:: R
#
#    em <- emmeans(m, ~ recipe | oven)

means = estimated_marginal_means(model, "recipe", by="oven")
figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for (oven, rows), color in zip(
    means.groupby("oven"), ("#0072B2", "#D55E00"), strict=True
):
    ax.plot(rows["recipe"], rows["estimate"], "o-", color=color, label=oven)
    ax.vlines(rows["recipe"], rows["ci_lower"], rows["ci_upper"], color=color)
ax.set(xlabel="recipe", ylabel="estimated mean score")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(title="oven", frameon=False)
figure.set_label(
    "Estimated mean scores of three recipes with 95% intervals, one line for each "
    "oven: the lines are furthest apart for recipe C."
)
means

# %%
# Pairs of means are compared with p-values adjusted by Tukey's method, and a
# contrast is written with the names of the levels.
#
# .. code-block:: R
#
#    pairs(em)
#    contrast(emmeans(m, ~ recipe), list("C vs others" = c(-.5, -.5, 1)))

recipes = estimated_marginal_means(model, "recipe")
print(recipes.contrasts("C - (A + B) / 2"))
means.pairs()

# %%
# Growth curves
# -------------
# The data are reaction times of 18 persons over ten days with too little sleep. Do
# slopes differ between persons, and is growth a line?
#
# .. code-block:: R
#
#    m0 <- lmer(reaction ~ days + (1 | subject), sleepstudy)
#    m1 <- lmer(reaction ~ days + (1 + days | subject), sleepstudy)
#    m2 <- lmer(reaction ~ poly(days, 2) + (1 + days | subject), sleepstudy)
#    anova(m0, m1, m2)
#    performance::compare_performance(m0, m1, m2)

sleepstudy = load_sleepstudy(as_frame=True).frame
m0 = lmer("reaction ~ days + (1 | subject)", sleepstudy)
m1 = lmer("reaction ~ days + (1 + days | subject)", sleepstudy)
m2 = lmer("reaction ~ poly(days, 2) + (1 + days | subject)", sleepstudy)
growth = anova(m0, m1, m2)
print(format_table(compare_models(m0, m1, m2)[["aic", "bic", "r2_marginal"]]))
format_table(growth[["aic", "deviance", "chi2", "df", "p_value"]])

# %%
# Slopes differ between persons, and a curve adds little. The first picture has a
# line for each of eight persons. The second has the curve of the population and
# those of two persons.

display = GroupLinesDisplay.from_estimator(
    m1, sleepstudy, feature="days", show_groups=8
)
display.figure_.set_label(
    "Reaction times of eight persons over days, each with the person's own line "
    "and that of the population."
)
display = FittedLineDisplay.from_estimator(
    m2,
    sleepstudy,
    "days",
    y=sleepstudy["reaction"],
    groups=sleepstudy["subject"],
    show_groups=[308, 335],
)
display.figure_.set_label(
    "Reaction times over days with the slightly bent curve of the population and "
    "the curves of two persons, one steep and one flat."
)

# %%
# A product of a factor and a number gives each level a slope of its own, and
# `estimated_trends` compares the slopes, here of the first and the second five
# days.
#
# .. code-block:: R
#
#    m <- lmer(reaction ~ days * half + (1 + days | subject), sleepstudy)
#    emtrends(m, ~ half, var = "days")

sleepstudy["half"] = np.where(sleepstudy["days"] < 5, "first", "second")
broken = lmer("reaction ~ days * half + (1 + days | subject)", sleepstudy)
estimated_trends(broken, "half", "days")

# %%
# Predictions are for known persons and for new ones, such as 999.
#
# .. code-block:: R
#
#    new <- data.frame(days = 10, subject = c(308, 999))
#    predict(m1, new, allow.new.levels = TRUE)

new = pd.DataFrame({"days": [10, 10], "subject": [308, 999]})
new.assign(prediction=m1.predict(new)).round(1)

# %%
# At home in scikit-learn
# -----------------------
# `lmer` returns an estimator of scikit-learn. Its formula is a parameter, which can
# be searched by cross-validation.

formulas = [
    "reaction ~ 1 + (1 | subject)",
    "reaction ~ days + (1 | subject)",
    "reaction ~ days + (days | subject)",
]
search = GridSearchCV(
    FormulaRegressor(formulas[0]),
    {"formula": formulas},
    cv=KFold(5, shuffle=True, random_state=0),
).fit(sleepstudy, sleepstudy["reaction"])
plt.show()
print(f"{search.best_params_['formula']}: R² {search.best_score_:.2f}")
