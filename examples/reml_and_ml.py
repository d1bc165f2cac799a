"""
REML and maximum likelihood
===========================

Both methods fit the same model. Maximum likelihood (ML) estimates the variances as if the fixed effects were known:
it takes the scatter about the fitted line for that about the true one, which is more. Restricted maximum likelihood
(REML) allows for what the fixed effects take up, as dividing by n - k does in least squares. Where groups are few, it
matters. In return, REML criteria cannot be compared between models with different fixed effects, and those of ML can.

    python examples/reml_and_ml.py --output figures
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.display import VarianceDisplay
from sklearn_mlm.inference import contrast_test, fixed_effects, likelihood_ratio_test, random_intercept_test

parser = argparse.ArgumentParser(description="What differs between REML and ML, and when each is needed.")
parser.add_argument("--output", type=Path, help="a folder to save the figures to (default: none are drawn)")
options = parser.parse_args()
if options.output is not None and find_spec("matplotlib") is None:
    parser.error("--output needs matplotlib: pip install '.[plot]'")

# %%
# The same pupils, by both
# ------------------------
# Twelve schools, with the status of pupils and the mean status of the school as predictors. The intercept and the
# coefficient of the mean are learnt from the schools, of whose twelve degrees of freedom ten are left for tau2. ML
# divides by twelve.

pupils = make_schools(n_groups=12, n_samples=240, as_frame=True, random_state=4).frame
pupils["mean_ses"] = pupils.groupby("school")["ses"].transform("mean")
X, y, school = pupils[["ses", "mean_ses"]], pupils["math"], pupils["school"]
reml = RandomInterceptRegressor().fit(X, y, groups=school)
ml = RandomInterceptRegressor(method="ml").fit(X, y, groups=school)
names = ["tau2", "sigma2", "intercept", *X.columns, "SE of intercept", *(f"SE of {name}" for name in X.columns)]
both = {
    name: [*model.variance_components_, model.intercept_, *model.coef_, *np.sqrt(np.diag(model.cov_fixed_))]
    for name, model in (("REML", reml), ("ML", ml))
}
table = pd.DataFrame(both, index=names)
table["ML / REML"] = table["ML"] / table["REML"]
print(f"{len(pupils)} pupils in {reml.n_groups_} schools\n\n{table.to_string(float_format='{:.3f}'.format)}\n")
said = f"Of what REML finds, ML finds {table.loc['tau2', 'ML / REML']:.1%} of tau2, for which there are {reml.n_groups_} "
said += f"schools, and {table.loc['sigma2', 'ML / REML']:.1%} of sigma2, for which there are {len(pupils)} pupils. "
said += "Coefficients depend on the variances by the weights of rows only; standard errors go with the variances."
print(fill(said, 100), "\n")

# %%
# Which of them is right?
# -----------------------
# A simulation, in which the answer is known: schools of n = 20 pupils, tau2 = 10, sigma2 = 60, and half of J schools
# in a programme that has no effect. Rows are read into moments once, and both methods are fitted to these. With k = 2
# coefficients of schools, ML has tau2 too small by about (k / J) (tau2 + sigma2 / n).
#
# Standard errors inherit that. With the normal distribution, as ML is often used, an effect that is not there is then
# "significant" more often than the 5 times in 100 that are meant, where schools are few. REML with the t distribution
# and Satterthwaite's degrees of freedom keeps near to them.

tau2, sigma2, n, k, n_repeats = 10.0, 60.0, 20, 2, 200
rng = np.random.default_rng(0)
drawn, table = {}, {}
for n_schools in (6, 12, 48):
    groups = np.repeat(np.arange(n_schools), n)
    programme = (groups % 2)[:, None]
    found = np.empty((n_repeats, 4))
    for i in range(n_repeats):
        scores = np.sqrt(tau2) * rng.standard_normal(n_schools)[groups] + np.sqrt(sigma2) * rng.standard_normal(len(groups))
        moments = GroupedMoments.from_arrays(programme, scores, groups)
        by_ml = RandomInterceptRegressor(method="ml").fit_moments(moments)
        by_reml = RandomInterceptRegressor().fit_moments(moments)
        z = by_ml.coef_[0] / np.sqrt(by_ml.cov_fixed_[1, 1])
        found[i, :2] = by_ml.variance_components_["group"], by_reml.variance_components_["group"]
        found[i, 2:] = abs(z) > 1.96, contrast_test(by_reml, [0, 1])["p_value"] < 0.05
    drawn[n_schools] = found[:, :2]
    means, shares = found[:, :2].mean(axis=0), found[:, 2:].mean(axis=0)
    expected = tau2 - k / n_schools * (tau2 + sigma2 / n)
    table[f"{n_schools} schools"] = [f"{value:.1f}" for value in (expected, *means)] + [f"{share:.1%}" for share in shares]
columns = [("mean of tau2:", "ML, theory"), ("mean of tau2:", "ML"), ("mean of tau2:", "REML")]
columns += [("p < 0.05:", "ML, normal"), ("p < 0.05:", "REML, Satterthwaite")]
print(f"tau2 = {tau2:.0f}, and a programme without effect: {n_repeats} data sets of each size\n")
print(pd.DataFrame(table, index=pd.MultiIndex.from_tuples(columns)).T.to_string())
errors = drawn[6].std(axis=0) / np.sqrt(n_repeats)
share = np.sqrt(0.05 * 0.95 / n_repeats)
said = f"By the chance of the simulation itself, means of tau2 at 6 schools are typically off by {errors[0]:.1f} (ML) and "
print("\n" + fill(f"{said}{errors[1]:.1f} (REML), and shares of 5% by {share:.1%}.", 100), "\n")

# %%
# Why REML criteria of different fixed effects cannot be compared
# ---------------------------------------------------------------
# The restricted likelihood is that of what is left of the data when the fixed effects are taken out; other predictors
# leave other data. Even the units of the predictors tell, through the term log|X'V^-1 X|. Here the same status is in
# units a hundred times smaller: nothing has changed, and yet the REML criterion has, by 2 log(100) for each
# coefficient.

table = {}
for name, method in (("REML criterion", "reml"), ("deviance (ML)", "ml")):
    values = [RandomInterceptRegressor(method=method).fit(columns, y, groups=school).criterion_ for columns in (X, 100 * X)]
    table[name] = [*values, abs(values[1] - values[0])]
table = pd.DataFrame(table, index=["status", "100 x status", "difference"]).T
print(f"{table.to_string(float_format='{:.3f}'.format)}\n\n2 x 2 log(100) = {4 * np.log(100):.3f}\n")

# %%
# Fixed effects: the deviance test, by ML
# ---------------------------------------
# Does the school's mean add anything? By ML, the deviances of the two models differ by a chi-squared, with as many
# degrees of freedom as there are coefficients more, if it does not. `likelihood_ratio_test` refits by ML, whatever
# the models were fitted by. Chi-squared is the limit for many groups; with few, prefer the t test of the model fitted
# by REML.
#
# AIC and BIC charge 2, or the log of the number of rows, for each parameter; the smaller is the better. To choose
# predictors, take them from this table too. The `aic_` of models fitted by REML serves models with the same fixed
# effects only.

small = RandomInterceptRegressor().fit(X[["ses"]], y, groups=school)
test = likelihood_ratio_test(**{"ses": small, "ses + mean_ses": reml})
formats = {"df": "{:.0f}".format, "p_value": "{:.3f}".format}
for name, text in formats.items():
    test[name] = test[name].map(text, na_action="ignore")
print(test.rename(columns={"n_parameters": "parameters"}).to_string(float_format="{:.2f}".format, na_rep=""), "\n")
effect = fixed_effects(reml).loc["mean_ses"]
print(f"By REML, t = {effect['t']:.2f} with {effect['df']:.1f} degrees of freedom, p = {effect['p_value']:.3f}.")
print(f"AIC prefers {test['aic'].idxmin()}, BIC {test['bic'].idxmin()}.\n")

# %%
# The group variance: by REML
# ---------------------------
# Is any variance between schools left? With tau2 = 0 and without, the fixed effects are the same, and REML criteria
# can be compared. But 0 is at the edge of what a variance can be. Chi-squared with one degree of freedom ("naive")
# then has p-values about twice too large; half of it at 0 ("mixture") is right for many groups; and the exact
# distribution, which is simulated, is right for any number of them.

print("Is tau2 = 0, given the predictors? Restricted likelihood-ratio test:\n")
for method in ("naive", "mixture", "exact"):
    test = random_intercept_test(reml, method=method, random_state=0)
    print(f"{method:<8}  statistic {test['statistic']:.2f}   p = {test['p_value']:.4f}")
print("\nIn short: REML for estimates, standard errors and the group variance; ML to compare fixed effects.")

# %%
# Figures
# -------
# What the twelve schools say of the ICC, by either method; and the estimates of tau2 in the simulation.

if options.output is not None:
    import matplotlib.pyplot as plt

    options.output.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.0), sharex=True, sharey=True, layout="constrained")
    shown = [
        VarianceDisplay.from_estimator(model, kind="profile", ax=ax) for model, ax in zip((reml, ml), axes, strict=True)
    ]
    for ax, name in zip(axes, ("REML", "ML"), strict=True):
        ax.set_title(name, loc="left", fontweight="bold", fontsize="medium")
    axes[0].set_xlim(min(display.profile[0][0] for display in shown), max(display.profile[0][-1] for display in shown))
    figure.savefig(options.output / "icc_profiles.png", dpi=120)
    plt.close(figure)

    figure, axes = plt.subplots(1, len(drawn), figsize=(9.6, 3.4), sharey=True, layout="constrained")
    for ax, (n_schools, values) in zip(axes, drawn.items(), strict=True):
        for column, name, color in ((1, "REML", "#0072B2"), (0, "ML", "#D55E00")):
            label = f"{name}: mean {values[:, column].mean():.1f}"
            ax.hist(values[:, column], np.linspace(0, 40, 21), histtype="step", linewidth=1.6, color=color, label=label)
        ax.axvline(tau2, color="#767676", linestyle="--", linewidth=1.0, label="truth")
        ax.set_title(f"{n_schools} schools", loc="left", fontweight="bold", fontsize="medium")
        ax.set_xlabel("estimate of tau2")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    axes[0].set_ylabel("number of data sets")
    figure.savefig(options.output / "simulated_variances.png", dpi=120)
    plt.close(figure)
    print(f"\n2 figures are in {options.output}")
