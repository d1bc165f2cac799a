"""
lmer in Python
==============

A formula says what a model is made of: the outcome, the terms of the fixed part, and which coefficients vary between which
groups. Those who know R's lmer can write what they write there; names, order and coding of the columns are R's too, so that
tables can be laid side by side. Three analyses, each with the lines that R would need: a null model of pupils in schools, a
factorial experiment with repeated measures, and growth curves.

    python examples/lmer_in_python.py --output figures
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd

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

parser = argparse.ArgumentParser(description="Models of formulas, with R's lines beside.")
parser.add_argument("--output", type=Path, help="a folder to save the figures to (default: none are drawn)")
options = parser.parse_args()
if options.output is not None and find_spec("matplotlib") is None:
    parser.error("--output needs matplotlib: pip install '.[plot]'")


def say(text: str) -> None:
    """Print a paragraph."""
    print(fill(text, 100), "\n")


def beside(r: str, python: str) -> None:
    """Print a line of R and the line of Python that does the same."""
    print(f"R       {r}\nPython  {python}\n")


def show(table: pd.DataFrame) -> None:
    """Print a table with digits that suit it."""
    print(format_table(table).to_string(), "\n")


# %%
# The null model
# --------------
# How much do schools differ? The model has an intercept and a deviation of each school from it.

pupils = make_schools(60, 1_200, random_state=1, as_frame=True).frame
null = lmer("math ~ 1 + (1 | school)", pupils)
beside("m <- lmer(math ~ 1 + (1 | school), data = pupils)", 'm = lmer("math ~ 1 + (1 | school)", pupils)')
beside("summary(m)", "m.summary()")
print(null.summary(), "\n")
beside("performance::icc(m)", "icc(m)")
low, high = plausible_values_range(null)
say(
    f"The intraclass correlation is {icc(null):.3f}: that share of the variance of math lies between schools. The means of "
    f"95% of schools lie between {low:.1f} and {high:.1f}, about a mean of {null.intercept_:.1f}."
)
beside("head(ranef(m)$school, 3)", "m.random_effects_.head(3)")
print(null.random_effects_.head(3).round(2).to_string(), "\n")

# %%
# A factorial experiment
# ----------------------
# Twelve bakers bake cakes by three recipes in two ovens, not all of them the same number, and one cake was dropped. The
# recipes and ovens are crossed within bakers, who differ in how well they bake.

rng = np.random.default_rng(7)
design = pd.MultiIndex.from_product([range(1, 13), ["A", "B", "C"], ["gas", "electric"], [1, 2]])
cakes = design.to_frame(index=False, name=["baker", "recipe", "oven", "cake"]).sample(frac=0.9, random_state=0)
cakes = cakes.sort_index(ignore_index=True)
effect = cakes["recipe"].map({"A": 0.0, "B": 1.2, "C": 0.4}) + 0.8 * (cakes["oven"] == "gas")
effect += 1.1 * ((cakes["recipe"] == "C") & (cakes["oven"] == "gas"))
cakes["score"] = 6.0 + effect + rng.normal(0.0, 0.9, 13)[cakes["baker"]] + rng.normal(0.0, 0.8, len(cakes))
cakes.loc[17, "score"] = np.nan

model = lmer("score ~ recipe * oven + (1 | baker)", cakes)
beside("m <- lmer(score ~ recipe * oven + (1 | baker), cakes)", 'm = lmer("score ~ recipe * oven + (1 | baker)", cakes)')
say(
    f"{model.n_dropped_} row with a missing value was dropped, as in R. The columns of the model matrix are "
    f"{', '.join(model.coef_names_)}."
)

beside("anova(m)  # lmerTest", "anova(m)")
print(anova(model), "\n")
beside('anova(m, ddf = "Kenward-Roger", type = 2)', 'anova(m, ddf="kenward_roger", type=2)')
print(anova(model, ddf="kenward_roger", type=2), "\n")
say(
    "The tests do not depend on how the factors are coded: a term is tested at the mean of the levels of the other factors, "
    "whatever the contrasts are."
)
beside("drop1(m)", "drop1(m)")
print(drop1(model), "\n")

beside("em <- emmeans(m, ~ recipe | oven)", 'means = estimated_marginal_means(m, "recipe", by="oven")')
means = estimated_marginal_means(model, "recipe", by="oven")
print(means, "\n")
beside("pairs(em)", "means.pairs()")
print(means.pairs(), "\n")
gain = estimated_marginal_means(model, "oven", by="recipe").pairs()
say(
    "The oven matters by recipe: gas is worth "
    + ", ".join(f"{-estimate:.1f} for {recipe}" for recipe, estimate in zip(gain["recipe"], gain["estimate"], strict=True))
    + "."
)
beside(
    'contrast(emmeans(m, ~ recipe), list("C vs others" = c(-.5, -.5, 1)))',
    'estimated_marginal_means(m, "recipe").contrasts("C - (A + B) / 2")',
)
print(estimated_marginal_means(model, "recipe").contrasts("C - (A + B) / 2"), "\n")

# %%
# Growth curves
# -------------
# Reaction times of 18 persons over ten days with too little sleep. Does each person have a slope of its own, and is growth a
# line?

sleepstudy = load_sleepstudy(as_frame=True).frame
parallel = lmer("reaction ~ days + (1 | subject)", sleepstudy)
lines = lmer("reaction ~ days + (1 + days | subject)", sleepstudy)
curves = lmer("reaction ~ poly(days, 2) + (1 + days | subject)", sleepstudy)
for name, formula in (
    ("m0", "reaction ~ days + (1 | subject)"),
    ("m1", "reaction ~ days + (1 + days | subject)"),
    ("m2", "reaction ~ poly(days, 2) + (1 + days | subject)"),
):
    beside(f"{name} <- lmer({formula}, sleepstudy)", f'{name} = lmer("{formula}", sleepstudy)')
beside("anova(m0, m1, m2)", 'format_table(anova(m0, m1, m2)[["aic", "deviance", "chi2", "df", "p_value"]])')
show(anova(parallel, lines, curves)[["aic", "deviance", "chi2", "df", "p_value"]])
beside(
    "performance::compare_performance(m0, m1, m2)",
    'format_table(compare_models(m0, m1, m2)[["aic", "bic", "r2_marginal", "r2_conditional"]])',
)
show(compare_models(parallel, lines, curves)[["aic", "bic", "r2_marginal", "r2_conditional"]])
beside("summary(m1)", "m1.summary()")
print(lines.summary(), "\n")

sleepstudy["half"] = np.where(sleepstudy["days"] < 5, "first", "second")
broken = lmer("reaction ~ days * half + (1 + days | subject)", sleepstudy)
beside(
    "m <- lmer(reaction ~ days * half + (1 + days | subject), sleepstudy)",
    'm = lmer("reaction ~ days * half + (1 + days | subject)", sleepstudy)',
)
beside('emtrends(m, ~ half, var = "days")', 'estimated_trends(m, "half", "days")')
print(estimated_trends(broken, "half", "days"), "\n")

beside(
    "predict(m1, data.frame(days = 10, subject = c(308, 999)), allow.new.levels = TRUE)",
    'm1.predict(pd.DataFrame({"days": [10, 10], "subject": [308, 999]}))',
)
tomorrow = pd.DataFrame({"days": [10, 10], "subject": [308, 999]})
known, new = lines.predict(tomorrow)
say(f"On day 10 subject 308, whom the model knows, is expected at {known:.0f} ms, and somebody new at {new:.0f} ms.")

# %%
# At home in scikit-learn
# -----------------------
# `lmer` returns an estimator. Formulas can be searched like any parameter.

from sklearn.model_selection import GridSearchCV, KFold  # noqa: E402

search = GridSearchCV(
    FormulaRegressor("reaction ~ 1 + (1 | subject)"),
    {"formula": ["reaction ~ 1 + (1 | subject)", "reaction ~ days + (1 | subject)", "reaction ~ days + (days | subject)"]},
    cv=KFold(5, shuffle=True, random_state=0),
).fit(sleepstudy, sleepstudy["reaction"])
say(f"Of three formulas, cross-validation over rows chooses {search.best_params_['formula']} (R2 {search.best_score_:.2f}).")

# %%
# Pictures
# --------

if options.output is not None:
    options.output.mkdir(parents=True, exist_ok=True)
    displays = {
        "lines_of_persons": GroupLinesDisplay.from_estimator(lines, sleepstudy, feature="days"),
        "curve": FittedLineDisplay.from_estimator(
            curves, sleepstudy, "days", y=sleepstudy["reaction"], groups=sleepstudy["subject"], show_groups=[308, 335]
        ),
    }
    for name, display in displays.items():
        display.figure_.savefig(options.output / f"{name}.png", dpi=150)
    print(f"{len(displays)} figures are in {options.output}")
