"""
Predictors at two levels
========================

The level at which a predictor varies decides what it can explain. The mean status
of a school varies between schools (level 2), and it can explain why schools differ.
The distance of a pupil from that mean varies within schools (level 1), and it can
explain why pupils of one school differ. This lesson adds one after the other to the
null model and asks how much each of them explains, and at which level.
"""

import matplotlib.pyplot as plt
import pandas as pd

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.display import VarianceDisplay
from sklearn_mlm.inference import fixed_effects, format_table, r2

pupils = make_schools(as_frame=True, random_state=0).frame
y, school = pupils["math"], pupils["school"]

# %%
# One variable, two predictors
# ----------------------------
# The status of a pupil is the mean of the school plus the distance of the pupil
# from it. The distances have the same mean in every school, 0, and the mean of a
# school is the same for all of its pupils. So each part varies at one level only,
# and the variances of the two parts add up to that of status.

parts = ["ses_in_school", "ses_of_school"]
pupils["ses_of_school"] = pupils.groupby("school")["ses"].transform("mean")
pupils["ses_in_school"] = pupils["ses"] - pupils["ses_of_school"]
variance = pupils[["ses", *parts]].var().to_frame("variance")
variance["share"] = variance["variance"] / variance.loc["ses", "variance"]
variance.round(3)

# %%
# One model after the other
# -------------------------
# The null model has the variance tau2 between schools and the variance sigma2
# within schools. The share of tau2 or sigma2 that a predictor explains is the share
# by which it reduces this variance of the null model: the proportional reduction of
# Raudenbush and Bryk.
#
# A predictor that varies within schools only cannot reduce tau2. It often increases
# it, and then the explained share is negative. The reason is that the means of
# schools vary by tau2 plus sigma2 / n, a sum that such a predictor leaves as it is:
# if sigma2 becomes smaller, tau2 becomes larger.

models = {
    "null": RandomInterceptRegressor().fit(None, y, groups=school),
    "+ ses_in_school": RandomInterceptRegressor(),
    "+ ses_of_school": RandomInterceptRegressor(),
}
models["+ ses_in_school"].fit(pupils[parts[:1]], y, groups=school)
models["+ ses_of_school"].fit(pupils[parts], y, groups=school)
variances = pd.DataFrame(
    {name: model.variance_components_.to_numpy() for name, model in models.items()},
    index=["tau2", "sigma2"],
).T
explained = 1.0 - variances / variances.loc["null"]
table = variances.map("{:.2f}".format)
table["ICC"] = [f"{model.icc_:.3f}" for model in models.values()]
table[["of tau2", "of sigma2"]] = explained.map("{:.1%}".format)
table

# %%
# The first picture has the variance of each model. The dark blue part is what is
# left between schools, and the grey part what is left within schools. The light
# blue and the orange parts are explained by the predictors. The second picture has
# the distribution of the intercepts of schools, which is narrower if the predictors
# are in the model.

full = models["+ ses_of_school"]
figure, axes = plt.subplots(
    3, 1, figsize=(6.8, 6.6), sharex=True, layout="constrained"
)
for (name, model), ax in zip(models.items(), axes, strict=True):
    VarianceDisplay.from_estimator(model, ax=ax)
    title = f"{name}: ICC {model.icc_:.3f}"
    ax.set_title(title, loc="left", fontweight="bold", fontsize="medium", pad=10)
    ax.set_xlabel(ax.get_xlabel() if ax is axes[-1] else "")
figure.set_label(
    "The shares of the variance in three models: predictors within schools explain "
    "a part of the grey share, those of schools a part of the blue one."
)

figure, axes = plt.subplots(
    2, 1, figsize=(6.4, 6.0), sharex=True, layout="constrained"
)
for name, ax in zip(("null", "+ ses_of_school"), axes, strict=True):
    VarianceDisplay.from_estimator(models[name], kind="range", ax=ax)
    ax.set_title(name, loc="left", fontweight="bold", fontsize="medium")
figure.set_label(
    "The distribution of the intercepts of schools in the null model, and the "
    "narrower one in the model with both predictors."
)

# %%
# The table of fixed effects
# --------------------------
# Satterthwaite's degrees of freedom tell what a coefficient is learnt from. A
# level-1 predictor has about as many as there are pupils less schools. A level-2
# predictor has about as many as there are schools, however many pupils they have.
# More pupils in the same schools would do little for it.

effects = fixed_effects(full)
n_schools = school.nunique()
print(f"{len(pupils)} pupils less {n_schools} schools: {len(pupils) - n_schools}")
format_table(effects)

# %%
# Shares that cannot be negative
# ------------------------------
# Another way needs one model instead of two, and takes the variance that it implies
# apart: explained by predictors between schools and within, and left between
# schools (group) and within (residual). The four shares add up to 1, and none is
# negative. The explained share of the variance of a level, "between" or "within",
# is an R² of that level. For predictors that vary at one level only it is close to
# the reductions above.

shares = pd.DataFrame({name: r2(model) for name, model in models.items()}).T
columns = [
    "fixed_between",
    "group",
    "fixed_within",
    "residual",
    "between",
    "within",
]
shares = shares[columns]
shares.round(3)

# %%
# The same variable, not divided
# ------------------------------
# Without the division, status is a predictor at both levels at once, with one
# coefficient for the two. It reduces both variances. That does not mean that a
# pupil's own status makes schools differ: the means of the schools do. The lesson
# on within, between and contextual effects is about this coefficient.

undivided = RandomInterceptRegressor().fit(pupils[["ses"]], y, groups=school)
print(f"coefficient of ses {undivided.coef_[0]:.3f}, ICC {undivided.icc_:.3f}")
reduced = pd.DataFrame({"null": variances.loc["null"]})
reduced["with ses"] = undivided.variance_components_.to_numpy()
reduced["explained"] = 1.0 - reduced["with ses"] / reduced["null"]
plt.show()
reduced.round(3)
