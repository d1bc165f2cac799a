"""
REML and maximum likelihood
===========================

Both methods fit the same model. Maximum likelihood (ML) estimates the variances as
if the fixed effects were known, and so it finds too little variance between groups
if the groups are few. Restricted maximum likelihood (REML) allows for the
estimation of the fixed effects, as division by n - k does in least squares. In
return, REML criteria of models with different fixed effects cannot be compared, and
deviances of ML can.
"""

# sphinx_gallery_thumbnail_number = 2

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.display import VarianceDisplay
from sklearn_mlm.inference import (
    contrast_test,
    fixed_effects,
    format_table,
    likelihood_ratio_test,
    random_intercept_test,
)

pupils = make_schools(
    n_groups=12, n_samples=240, as_frame=True, random_state=4
).frame
pupils["mean_ses"] = pupils.groupby("school")["ses"].transform("mean")
X, y, school = pupils[["ses", "mean_ses"]], pupils["math"], pupils["school"]

# %%
# The same pupils, by both
# ------------------------
# The data are twelve schools, and the predictors are the status of the pupil and
# the mean status of the school. The intercept and the coefficient of the mean are
# learnt from the schools. They use up two of the twelve degrees of freedom, and ten
# are left for tau2, the variance between schools. ML divides by twelve, and the
# last column shows the consequence. sigma2, the variance within schools, has many
# pupils, and hardly changes. The coefficients depend on the variances only through
# the weights of the rows. Their standard errors (SE) go with the variances.

reml = RandomInterceptRegressor().fit(X, y, groups=school)
ml = RandomInterceptRegressor(method="ml").fit(X, y, groups=school)
names = ["tau2", "sigma2", "intercept", *X.columns]
names += [f"SE of {name}" for name in names[2:]]


def estimates(model):
    """Return the variances, the fixed effects and their standard errors."""
    errors = np.sqrt(np.diag(model.cov_fixed_))
    return [*model.variance_components_, model.intercept_, *model.coef_, *errors]


both = pd.DataFrame({"REML": estimates(reml), "ML": estimates(ml)}, index=names)
both["ML / REML"] = both["ML"] / both["REML"]
both.round(3)

# %%
# The pictures show what the twelve schools say of the intraclass correlation by
# each criterion. That of ML has its minimum at a smaller value.

figure, axes = plt.subplots(
    1, 2, figsize=(9.6, 4.0), sharex=True, sharey=True, layout="constrained"
)
for ax, name, model in zip(axes, ("REML", "ML"), (reml, ml), strict=True):
    VarianceDisplay.from_estimator(model, kind="profile", ax=ax)
    ax.set_title(name, loc="left", fontweight="bold", fontsize="medium")
axes[0].set_xlim(0.0, 0.3)
figure.set_label(
    "The REML criterion and the ML deviance as curves over the intraclass "
    "correlation: the minimum of ML is at a smaller value."
)

# %%
# Which of them is right?
# -----------------------
# A simulation has a known answer. Schools have n = 20 pupils, tau2 is 10, sigma2 is
# 60, and half of the J schools take part in a programme without effect. With k = 2
# coefficients of schools, the theory says that ML underestimates tau2 by about
#
# .. math::
#
#    \frac{k}{J} \left(\tau^2 + \frac{\sigma^2}{n}\right),
#
# which is k / J of the variance of a school's mean. The first columns of the table
# have the mean estimates.
#
# Standard errors become too small in the same way. ML is often used with the normal
# distribution. If schools are few, it then finds an effect that is not there more
# often than the intended 5 times in 100. REML with the t distribution and
# Satterthwaite's degrees of freedom stays near it. The rows are read into moments
# once, and both methods are fitted to these.

tau2, sigma2, n, k, n_repeats = 10.0, 60.0, 20, 2, 200
rng = np.random.default_rng(0)
drawn, simulated = {}, {}
for n_schools in (6, 12, 48):
    groups = np.repeat(np.arange(n_schools), n)
    programme = (groups % 2)[:, None]
    found = np.empty((n_repeats, 4))
    for i in range(n_repeats):
        scores = np.sqrt(tau2) * rng.standard_normal(n_schools)[groups]
        scores += np.sqrt(sigma2) * rng.standard_normal(len(groups))
        moments = GroupedMoments.from_arrays(programme, scores, groups)
        by_ml = RandomInterceptRegressor(method="ml").fit_moments(moments)
        by_reml = RandomInterceptRegressor().fit_moments(moments)
        z = by_ml.coef_[0] / np.sqrt(by_ml.cov_fixed_[1, 1])
        p_value = contrast_test(by_reml, [0, 1])["p_value"]
        tau2s = [fit.variance_components_["group"] for fit in (by_ml, by_reml)]
        found[i] = *tau2s, abs(z) > 1.96, p_value < 0.05
    drawn[n_schools] = found[:, :2]
    theory = tau2 - k / n_schools * (tau2 + sigma2 / n)
    simulated[f"{n_schools} schools"] = [theory, *found.mean(axis=0)]
columns = [("mean of tau2", name) for name in ("ML, theory", "ML", "REML")]
columns += [("share of p < 0.05", name) for name in ("ML", "REML")]
simulated = pd.DataFrame(simulated, index=pd.MultiIndex.from_tuples(columns)).T
ml_error, reml_error = drawn[6].std(axis=0) / np.sqrt(n_repeats)
share_error = np.sqrt(0.05 * 0.95 / n_repeats)
print(f"Standard errors of the simulation: a share of 5% {share_error:.3f},")
print(f"mean of tau2 at 6 schools {ml_error:.1f} (ML), {reml_error:.1f} (REML)")
simulated.round(3)

# %%
# The histograms have the estimates of tau2 in the simulation. With six schools they
# vary a lot, and many are exactly 0. With 48 schools the two methods hardly differ.

figure, axes = plt.subplots(
    1, 3, figsize=(9.6, 3.4), sharey=True, layout="constrained"
)
for ax, (n_schools, values) in zip(axes, drawn.items(), strict=True):
    for column, name, color in ((1, "REML", "#0072B2"), (0, "ML", "#D55E00")):
        tau2s = values[:, column]
        label = f"{name}: mean {tau2s.mean():.1f}"
        bins = np.linspace(0, 40, 21)
        ax.hist(
            tau2s, bins, histtype="step", linewidth=1.6, color=color, label=label
        )
    ax.axvline(tau2, color="#767676", linestyle="--", linewidth=1.0, label="truth")
    ax.set(title=f"{n_schools} schools", xlabel="estimate of tau2")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
axes[0].set_ylabel("number of data sets")
figure.set_label(
    "Histograms of the estimates of tau2 with 6, 12 and 48 schools: the fewer the "
    "schools, the further the mean of ML is below the truth."
)

# %%
# Why REML criteria of different fixed effects cannot be compared
# ---------------------------------------------------------------
# The restricted likelihood is that of what is left of the data when the fixed
# effects are taken out. Other predictors leave other data. Even the units of the
# predictors matter. Here the same predictors are in units a hundred times smaller.
# Nothing has changed, and the deviance of ML stays, but the REML criterion changes
# by 2 log(100) for each coefficient.

units = pd.DataFrame(index=["status", "100 x status"])
for name, method in (("REML criterion", "reml"), ("deviance (ML)", "ml")):
    model = RandomInterceptRegressor(method=method)
    units[name] = [model.fit(Z, y, groups=school).criterion_ for Z in (X, 100 * X)]
units = units.T
units["difference"] = units["100 x status"] - units["status"]
print(f"2 x 2 log(100) = {4 * np.log(100):.3f}")
units.round(3)

# %%
# Fixed effects: the deviance test, by ML
# ---------------------------------------
# Does the mean of the school add anything? If it does not, the deviances of the two
# models differ by a chi-squared variable with one degree of freedom, one for each
# additional coefficient. `likelihood_ratio_test` refits the models by ML, whatever
# method they were fitted by. Chi-squared is right for many groups. With few groups,
# the t test of the model fitted by REML is better.
#
# AIC and BIC add 2, or the logarithm of the number of rows, for each parameter, and
# the smaller one is better. To choose predictors, take them from this table, too.
# The attribute ``aic_`` of models fitted by REML compares models with the same
# fixed effects only.

small = RandomInterceptRegressor().fit(X[["ses"]], y, groups=school)
test = likelihood_ratio_test(**{"ses": small, "ses + mean_ses": reml})
effect = fixed_effects(reml).loc["mean_ses"]
t, df, p = effect[["t", "df", "p_value"]]
print(f"t test: t({df:.1f}) = {t:.2f}, p = {p:.3f}")
print(f"AIC prefers {test['aic'].idxmin()}, BIC {test['bic'].idxmin()}.")
format_table(
    test[["aic", "bic", "log_likelihood", "deviance", "chi2", "df", "p_value"]]
)

# %%
# The variance between schools: by REML
# -------------------------------------
# Is any variance between schools left? With and without tau2 the fixed effects are
# the same, and REML criteria can be compared. But 0 is at the boundary of what a
# variance can be. The p-value of chi-squared with one degree of freedom ("naive")
# is then about twice too large. Half of it ("mixture") is right for many groups.
# The exact distribution, which is simulated, is right for any number of groups.

boundary_tests = pd.DataFrame(
    {
        method: random_intercept_test(reml, method=method, random_state=0)
        for method in ("naive", "mixture", "exact")
    }
).T[["statistic", "p_value"]]
plt.show()
boundary_tests.round(4)

# %%
# In short: REML for estimates, standard errors and the test of the variance between
# groups; ML to compare fixed effects.
