"""
Predictors at two levels
========================

Where a predictor varies decides what it can explain. The mean status of a school varies between schools (level 2) and
can explain why schools differ. A pupil's distance from that mean varies within schools (level 1) and can explain why
pupils of one school differ. This script adds one after the other to the null model, and asks how much each explains,
and where.

Run as it is, it simulates pupils in schools. With a file of your own, whose columns are math, ses, public and
schcode, the school-level predictor public is added as well, and `--output` saves every figure to a folder:

    python examples/predictors_at_two_levels.py --data heck2011.csv --output figures
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import pandas as pd

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.display import VarianceDisplay
from sklearn_mlm.inference import fixed_effects, r2

parser = argparse.ArgumentParser(description="Add predictors of pupils and of schools to the null model.")
parser.add_argument("--data", help="a CSV file with the columns math, ses, public and schcode (default: simulated pupils)")
parser.add_argument("--output", type=Path, help="a folder to save the figures to (default: none are drawn)")
options = parser.parse_args()
if options.output is not None and find_spec("matplotlib") is None:
    parser.error("--output needs matplotlib: pip install '.[plot]'")
if options.data is None:
    pupils = make_schools(as_frame=True, random_state=0).frame.rename(columns={"school": "schcode"})
else:
    try:
        pupils = pd.read_csv(options.data, usecols=["math", "ses", "public", "schcode"]).dropna()
    except (OSError, ValueError) as error:
        parser.error(f"cannot read {options.data}: {error}")
y, school = pupils["math"], pupils["schcode"]

# %%
# One variable, two predictors
# ----------------------------
# A pupil's status is the mean of the school plus the pupil's distance from it. The distances have the same mean, 0,
# in every school, and a school's mean is the same for all of its pupils: each part varies at one level only.

parts = ["ses_in_school", "ses_of_school"]
pupils["ses_of_school"] = pupils.groupby("schcode")["ses"].transform("mean")
pupils["ses_in_school"] = pupils["ses"] - pupils["ses_of_school"]
variance = pupils[["ses", *parts]].var()
print(f"{len(pupils)} pupils in {school.nunique()} schools\n\nVariance of status, and of the two parts, which sum to it\n")
print(variance.to_frame("variance").assign(share=variance / variance["ses"]).to_string(float_format="{:.3f}".format), "\n")

# %%
# One model after the other
# -------------------------
# The null model has tau2 between schools and sigma2 within. What a predictor explains at a level is what it takes
# away from that variance, relative to the null model (Raudenbush and Bryk's proportional reduction).
#
# A predictor that varies within schools only has nothing to take from tau2, but often adds to it, so that its share
# is below 0. Means of schools vary by tau2 + sigma2 / n, and it does not change them: if less of that is put down to
# sigma2, more is left for tau2.

steps = [*parts, "public"] if "public" in pupils else parts
models = {"null": RandomInterceptRegressor().fit(None, y, groups=school)}
for i, step in enumerate(steps, start=1):
    models[f"+ {step}"] = RandomInterceptRegressor().fit(pupils[steps[:i]], y, groups=school)
variances = pd.DataFrame({name: model.variance_components_.to_numpy() for name, model in models.items()}).T
variances.columns = ["tau2", "sigma2"]
explained = 1 - variances / variances.loc["null"]
table = variances.map("{:.2f}".format)
table["residual ICC"] = [f"{model.icc_:.3f}" for model in models.values()]
table[["of tau2", "of sigma2"]] = explained.map("{:.1%}".format)
print(f"Variances, and the shares of them that are explained\n\n{table.to_string()}\n")
last = f"+ {steps[-1]}"
within, between = explained.loc["+ ses_in_school", "sigma2"], explained.loc["+ ses_of_school", "tau2"]
said = f"Distances from the school's mean explain {within:.1%} of the variance within schools. With the schools' means, "
said += f"{between:.1%} of that between them is explained. The likeness of pupils of a school, an ICC of "
print(fill(f"{said}{models['null'].icc_:.3f}, is {models[last].icc_:.3f} given the predictors.", 100), "\n")

# %%
# The table of fixed effects
# --------------------------
# Satterthwaite's degrees of freedom tell what a coefficient is learnt from: that of a level-1 predictor from the
# pupils, less a mean for each school; that of a level-2 predictor from the schools, however many pupils they have.
# More pupils in the same schools would do little for it.

effects = fixed_effects(models[last])
formats = {"df": "{:.0f}".format, "p_value": lambda p: "<0.001" if p < 0.001 else f"{p:.3f}"}
print(effects.to_string(float_format="{:.3f}".format, formatters=formats), "\n")
df, n_schools = effects["df"], school.nunique()
said = (
    f"ses_in_school has {df['ses_in_school']:.0f} degrees of freedom, and {len(pupils)} pupils less {n_schools} means are "
)
said += f"{len(pupils) - n_schools}; ses_of_school has {df['ses_of_school']:.0f}, and there are {n_schools} schools."
if "public" in effects.index:
    low, high = effects.loc["public", ["ci_lower", "ci_upper"]]
    said += f" Public schools differ from others of the same mean status by {low:.2f} to {high:.2f} (95% interval): "
    said += "the difference could be in either direction." if low < 0 < high else "0 is not among these values."
print(fill(said, 100), "\n")

# %%
# Shares that cannot be negative
# ------------------------------
# Instead of two models, take one, and the variance that it implies apart: explained by its predictors within and
# between groups, and left between (tau2) and within (sigma2). The four shares sum to 1, and none is negative. The
# explained share of the variance of a level is an R^2; for predictors that vary at one level only, it comes near the
# reductions above.

shares = pd.DataFrame({name: r2(model) for name, model in models.items()}).T
print("Shares of the whole variance; R^2 between and within schools\n")
shares = shares[["fixed_between", "group", "fixed_within", "residual", "between", "within"]]
print(shares.to_string(float_format="{:.3f}".format), "\n")

# %%
# The same variable, not taken apart
# ----------------------------------
# Entered as it is, status is a predictor at both levels at once, with one coefficient for the two. That it explains
# variance between schools does not mean that a pupil's own status makes schools differ: the means in it do. The
# script within_between_contextual.py is about its coefficient.

undivided = RandomInterceptRegressor().fit(pupils[["ses"]], y, groups=school)
taken = 1 - undivided.variance_components_.to_numpy() / variances.loc["null"]
tau2, sigma2 = undivided.variance_components_
print(f"ses as it is: coefficient {undivided.coef_[0]:.3f}, tau2 {tau2:.2f}, sigma2 {sigma2:.2f}, ICC {undivided.icc_:.3f}")
print(f"explained:    {taken['tau2']:.1%} of tau2, {taken['sigma2']:.1%} of sigma2")

# %%
# Figures
# -------
# The variance of each model, with the parts between schools in blue; and the intercepts of schools before and after.

if options.output is not None:
    import matplotlib.pyplot as plt

    options.output.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(len(models), 1, figsize=(6.8, 2.2 * len(models)), sharex=True, layout="constrained")
    for (name, model), ax in zip(models.items(), axes, strict=True):
        VarianceDisplay.from_estimator(model, ax=ax)
        ax.set_title(f"{name}: residual ICC {model.icc_:.3f}", loc="left", fontweight="bold", fontsize="medium", pad=10)
        ax.set_xlabel(ax.get_xlabel() if ax is axes[-1] else "")
    figure.savefig(options.output / "variance_shares.png", dpi=120)
    plt.close(figure)

    figure, axes = plt.subplots(2, 1, figsize=(6.4, 6.0), sharex=True, layout="constrained")
    for name, ax in zip(("null", last), axes, strict=True):
        VarianceDisplay.from_estimator(models[name], kind="range", ax=ax)
        ax.set_title(name, loc="left", fontweight="bold", fontsize="medium")
    figure.savefig(options.output / "variance_ranges.png", dpi=120)
    plt.close(figure)
    print(f"\n2 figures are in {options.output}")
