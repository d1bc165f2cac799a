"""
Effect sizes
============

A coefficient is in the units of its variables, and so is a variance. An effect size is free of units: it relates them
to how much things vary. With groups there are two kinds of variation, between and within, and every effect size has
to say which of them it is relative to. Here is what they are for a simulated trial: half of the schools, drawn at
random, take part in a programme that adds 2 points to the scores of their pupils.

    python examples/effect_sizes.py --output figures
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.datasets import make_schools
from sklearn_mlm.display import VarianceDisplay
from sklearn_mlm.inference import clustering_report, confidence_intervals, fixed_effects, plausible_values_range, r2

parser = argparse.ArgumentParser(description="Standardised coefficients, shares of variance, and what clustering costs.")
parser.add_argument("--output", type=Path, help="a folder to save the figures to (default: none are drawn)")
options = parser.parse_args()
if options.output is not None and find_spec("matplotlib") is None:
    parser.error("--output needs matplotlib: pip install '.[plot]'")

pupils = make_schools(n_groups=120, n_samples=2400, as_frame=True, random_state=1).frame
chosen = np.random.default_rng(1).permutation(120)[:60] + 1
pupils["programme"] = pupils["school"].isin(chosen).astype(float)
pupils["math"] += 2 * pupils["programme"]
pupils["ses_of_school"] = pupils.groupby("school")["ses"].transform("mean")
pupils["ses_in_school"] = pupils["ses"] - pupils["ses_of_school"]
y, school = pupils["math"], pupils["school"]


def line(name: str, value: str, interval: str = "") -> None:
    """Print a figure and its interval."""
    print(f"{name:<26}{value:<16}{interval}".rstrip())


# %%
# How much groups matter
# ----------------------
# The effect size of the schools themselves is the intraclass correlation, the share of the variance that is between
# them. The plausible values range says it in points: how far apart are two schools with 2.5% of schools below the one
# and above the other? The interval of the ICC is exact, whatever the sizes of schools; that of the range comes from
# the limits of tau.

null = RandomInterceptRegressor().fit(None, y, groups=school)
tau, sigma = np.sqrt(null.variance_components_)
total_sd = np.hypot(tau, sigma)
intervals = confidence_intervals(null)
icc_limits = intervals.loc["icc"].to_numpy()
low, high = plausible_values_range(null)
widths = (high - low) / tau * intervals.loc["sd(group)"].to_numpy()
print(f"{len(pupils)} pupils in {null.n_groups_} schools, with 95% intervals\n")
line("SD between schools", f"{tau:.2f}")
line("SD within schools", f"{sigma:.2f}")
line("SD of all pupils", f"{total_sd:.2f}")
line("ICC", f"{null.icc_:.3f}", f"{icc_limits[0]:.3f} to {icc_limits[1]:.3f}")
line("plausible values range", f"{low:.1f} to {high:.1f}")
line("  its width, in points", f"{high - low:.1f}", f"{widths[0]:.1f} to {widths[1]:.1f}")
line("  in SDs of all pupils", f"{(high - low) / total_sd:.2f}")

# %%
# What clustering costs
# ---------------------
# Pupils of a school are alike, and tell less than as many independent ones. The design effect is the factor by which
# that raises the variance of the mean score, or of the difference between two sets of schools; the number of pupils
# over it is the effective sample size. It is 1 + (m - 1) ICC, with m a mean size of schools, so that the limits of
# the ICC give its limits. Predictors that vary within schools it does not concern: they compare pupils who share
# their school.

report = clustering_report(null)
sizes = school.value_counts()
least, most = 1 + ((sizes**2).sum() / len(pupils) - 1) * icc_limits
print()
line("design effect", f"{report['design_effect']:.2f}", f"{least:.2f} to {most:.2f}")
effective = f"{len(pupils) / most:.0f} to {len(pupils) / least:.0f}"
line("effective sample size", f"{report['effective_sample_size']:.0f}", effective)
print()

# %%
# A standardised mean difference
# ------------------------------
# How large is the programme's effect? In points, its coefficient. In standard deviations, it depends on whose. In
# those of all pupils, sqrt(tau2 + sigma2), it compares with studies of single pupils. In those within schools,
# sqrt(sigma2), it is larger. In those between schools, sqrt(tau2), it says how far a school moves among the schools,
# and is the largest of the three where the ICC is below a half. The variances are those of the model with the
# programme alone. The intervals take the SDs for known, and are a little too narrow for that.

trial = RandomInterceptRegressor().fit(pupils[["programme"]], y, groups=school)
effect = fixed_effects(trial).loc["programme", ["estimate", "ci_lower", "ci_upper"]]
left = trial.variance_components_
units = {
    "points": 1.0,
    "SDs of all pupils": np.sqrt(left.sum()),
    "SDs within schools": np.sqrt(left["residual"]),
    "SDs between schools": np.sqrt(left["group"]),
}
table = pd.DataFrame({f"in {name}": [*effect / unit, unit] for name, unit in units.items()}).T
table.columns = ["effect", "ci_lower", "ci_upper", "SD, in points"]
table.loc["in points", "SD, in points"] = np.nan
print(f"Effect of the programme\n\n{table.to_string(float_format='{:.2f}'.format, na_rep='')}\n")

# %%
# Standardised coefficients
# -------------------------
# Standardised by the SDs of all rows, as without groups, a coefficient mixes the levels: status within schools is
# then measured by a spread that no school has. At its own level it is in SDs within schools of the outcome per SD
# within schools of the predictor, or in SDs between schools per SD between. Those SDs are the ones of the null models
# of the two variables. By the choice of SDs the same coefficient is large or small: always say which.

full = RandomInterceptRegressor().fit(pupils[["ses_in_school", "ses_of_school", "programme"]], y, groups=school)
effects = fixed_effects(full)
shown = effects[["estimate", "std_error", "df", "ci_lower", "ci_upper"]]
print("Points per unit\n")
print(shown.to_string(float_format="{:.2f}".format, formatters={"df": "{:.0f}".format}), "\n")
status = np.sqrt(RandomInterceptRegressor().fit(None, pupils["ses"], groups=school).variance_components_)
ratios = pd.Series({"ses_in_school": status["residual"] / sigma, "ses_of_school": status["group"] / tau})
table = effects.loc[ratios.index, ["estimate", "ci_lower", "ci_upper"]].mul(ratios, axis=0)
table.columns = ["by its own level", "ci_lower", "ci_upper"]
table.insert(0, "by all rows", effects.loc[ratios.index, "estimate"] * pupils["ses"].std() / y.std())
print(f"Standardised\n\n{table.to_string(float_format='{:.2f}'.format)}\n")

# %%
# Shares of variance explained
# ----------------------------
# R^2 is of a level, too. Marginal: what the predictors explain of all variance. Conditional: what they and the
# schools do together. Within and between: what the predictors explain of the variance of that level. There are no
# intervals for these shares here; whether a predictor explains anything is the test of its coefficient.

shares = pd.DataFrame({"programme": r2(trial), "programme and status": r2(full)}).T
print("Shares of variance explained\n")
print(shares[["marginal", "conditional", "within", "between"]].to_string(float_format="{:.3f}".format), "\n")
share, of_schools = shares.loc["programme", ["marginal", "between"]]
of_sd = effect["estimate"] / units["SDs between schools"]
said = f"The programme explains {share:.1%} of the variance of all pupils, and {of_schools:.1%} of that between schools. "
said += f"It is the effect of {of_sd:.2f} SDs between schools that is shown above: shares of variance go with the square "
print(fill(f"{said}of an effect, and those of small effects are very small.", 100))

# %%
# Figures
# -------
# How the variance divides, with the predictors; where schools lie; and what the data say of the ICC.

if options.output is not None:
    import matplotlib.pyplot as plt

    options.output.mkdir(parents=True, exist_ok=True)
    for kind, model in (("shares", full), ("range", null), ("profile", null)):
        figure = VarianceDisplay.from_estimator(model, kind=kind).figure_
        figure.savefig(options.output / f"variance_{kind}.png", dpi=120)
        plt.close(figure)

    figure, ax = plt.subplots(figsize=(6.8, 2.8), layout="constrained")
    scales = {f"in {name}": unit for name, unit in units.items() if name != "points"}
    for at, unit in enumerate(scales.values()):
        low, middle, high = effect[["ci_lower", "estimate", "ci_upper"]] / unit
        ax.errorbar(middle, at, xerr=[[middle - low], [high - middle]], fmt="o", color="#0072B2", capsize=3)
    ax.axvline(0, color="#B8B8B8", linewidth=1.0, zorder=0)
    ax.set_yticks(range(len(scales)), scales)
    ax.set(ylim=(len(scales) - 0.5, -0.5), xlabel="effect of the programme, with 95% interval")
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(options.output / "mean_difference.png", dpi=120)
    plt.close(figure)
    print(f"\n4 figures are in {options.output}")
