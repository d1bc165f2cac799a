"""How often intervals of models with random slopes cover, and how often the test of a slope rejects, by simulation.

The model has an intercept, a predictor x that varies within groups and a predictor z that varies between them only. The
intercept and the slope of x vary between groups, with standard deviations 1 and s, and correlation 0.3; the residual variance
is 1. At s = 0 the slope does not vary. Groups have 8 rows, or from 2 to 30.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from calibration import BETA, DDF, LEVEL, print_tables, sizes_of  # before NumPy, because it sets the number of threads

# isort: split
import numpy as np
import pandas as pd
from scipy import stats

from sklearn_mlm import MixedEffectsRegressor
from sklearn_mlm.inference import confidence_intervals, fixed_effects, predict_interval, random_effects_test
from sklearn_mlm.inference._mixed_profile import MixedProfile
from sklearn_mlm.likelihood._mixed_fit import fit_mixed

GROUPS = (6, 20, 100)
SLOPE_SDS = (0.0, 0.3, 1.0)
CORRELATION = 0.3
TITLES = {
    "effects": "Limits of fixed effects, x with a random slope and z between groups: nominal 95%",
    "limits": "Limits of sd(x), the standard deviation of slopes: nominal 95%",
    "predictions": "Prediction intervals at x = 2, of known and of new groups: nominal 95%",
    "tests": "Tests of no slope variance: shares that reject at 5% (their level where s = 0, their power elsewhere)",
}


def replicate(n_groups: int, balanced: bool, slope_sd: float, rng: np.random.Generator) -> dict[tuple[str, str], float]:
    """Return what covers and what rejects in one draw, by table and name."""
    design = np.random.default_rng(n_groups)
    groups = np.repeat(np.arange(n_groups), sizes_of(n_groups, balanced, 8, 30))
    X = pd.DataFrame({"x": design.standard_normal(len(groups)), "z": design.standard_normal(n_groups)[groups]})
    normal = rng.standard_normal((n_groups + 1, 2))
    effects = np.column_stack(
        [normal[:, 0], slope_sd * (CORRELATION * normal[:, 0] + np.sqrt(1 - CORRELATION**2) * normal[:, 1])]
    )
    own = effects[groups, 0] + effects[groups, 1] * X["x"]
    y = BETA[0] + X @ BETA[1:] + own + rng.standard_normal(len(groups))
    model = MixedEffectsRegressor(random_effects="(1 + x | group)").fit(X, y, groups=groups)
    result = {}
    for name, ddf in DDF.items():
        table = fixed_effects(model, ddf=ddf, level=LEVEL)
        inside = (table["ci_lower"] <= BETA) & (table["ci_upper"] >= BETA)
        for i, column in ((1, "x"), (2, "z")):
            result["effects", f"{column}, {name}"] = float(inside.iloc[i]) if table["df"].notna().iloc[i] else np.nan
    # A profile limit covers the truth where the likelihood-ratio test that it inverts accepts it.
    fit, threshold = model.fit_, float(stats.chi2.ppf(LEVEL, 1))
    full = fit_mixed(fit.scatter, replace(fit.options, method="ml"))
    for name, each in (("REML profile", fit), ("ML profile", full)):
        result["limits", name] = float(MixedProfile(each, threshold).sd_excess(1, slope_sd) <= 0)
    low, high = confidence_intervals(model, method="wald", level=LEVEL).loc["sd(x)"]
    result["limits", "Wald, where there is one"] = float(low <= slope_sd <= high) if np.isfinite(low) else np.nan
    new = pd.DataFrame({"x": [2.0, 2.0], "z": [X["z"].iloc[0], 0.5]})
    line = BETA[0] + new @ BETA[1:]
    in_group = line + effects[[0, -1], 0] + 2.0 * effects[[0, -1], 1]
    truths = {"observation": in_group + rng.standard_normal(2), "group_mean": in_group, "population_mean": line}
    for kind, truth in truths.items():
        rows = predict_interval(model, new, groups=[0, -1], kind=kind, level=LEVEL)
        inside = ((rows["lower"] <= truth) & (truth <= rows["upper"])).astype(float)
        result["predictions", f"{kind}, known"], result["predictions", f"{kind}, new"] = inside
    test = random_effects_test(model).loc["x"]
    result["tests", "mixture"] = float(test["p_value"] <= 0.05)
    result["tests", "naive"] = float(test["p_naive"] <= 0.05)
    result["tests", "singular fits"] = float(model.boundary_ is not None)
    return result


def cell(n_groups: int, balanced: bool, slope_sd: float, n_replicates: int) -> pd.Series:
    """Return the shares of one cell."""
    rng = np.random.default_rng([n_groups, balanced, round(100 * slope_sd)])
    return pd.DataFrame([replicate(n_groups, balanced, slope_sd, rng) for _ in range(n_replicates)]).mean()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    print_tables(cell, SLOPE_SDS, GROUPS, parser.parse_args().replicates, TITLES, "s")
