"""How often intervals cover and tests reject: by simulation of moments, which takes no rows.

For each number of groups, kind of design and intraclass correlation, moments are drawn from the model with an intercept, a
predictor that varies within groups and one that varies between them only; the figures are shares of replicates.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy starts its threads; a process a core instead

import numpy as np
import pandas as pd
from scipy import optimize, stats

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm._progress import progress
from sklearn_mlm.inference import fixed_effects, predict_interval
from sklearn_mlm.inference._variance_ratio import FPivot, simulate_null
from sklearn_mlm.likelihood._criterion import Criterion
from sklearn_mlm.likelihood._optimum import minimise

LEVEL = 0.95
GROUPS = (3, 5, 10, 20, 100)
CORRELATIONS = (0.0, 0.05, 0.3, 0.8, 0.9)
BETA = np.array([1.0, 0.5, -0.5])
DDF = {"normal": "normal", "Satterthwaite": "satterthwaite", "Kenward-Roger": "kenward_roger"}
TITLES = {
    "limits": "Limits of the variances: nominal 95%",
    "effects": "Limits of fixed effects, x within and z between groups: nominal 95%",
    "predictions": "Prediction intervals, of known and of new groups: nominal 95%",
    "tests": "Tests of no group variance: shares that reject at 5% (their level where ICC = 0, their power elsewhere)",
}


def sizes_of(n_groups: int, balanced: bool, typical: int = 10, largest: int = 60) -> np.ndarray:
    """Return group sizes: all typical, or from 2 to the largest."""
    if balanced:
        return np.full(n_groups, typical)
    return np.round(np.exp(np.linspace(np.log(2), np.log(largest), n_groups))).astype(int)


def design_of(n_groups: int, balanced: bool) -> tuple[GroupedMoments, np.ndarray]:
    """Return moments of the predictors (of y = 0), and their means by group, the constant first."""
    rng = np.random.default_rng(n_groups)
    groups = np.repeat(np.arange(n_groups), sizes_of(n_groups, balanced))
    X = np.column_stack([rng.standard_normal(len(groups)), rng.standard_normal(n_groups)[groups]])
    moments = GroupedMoments.from_arrays(X, np.zeros(len(groups)), groups)
    return moments, np.column_stack([np.ones(n_groups), moments.means[:, :-1]])


def draw(moments: GroupedMoments, means: np.ndarray, tau2: float, sigma2: float, rng: np.random.Generator) -> tuple:
    """Return moments with y drawn from the model, and the groups' effects."""
    effects = np.sqrt(tau2) * rng.standard_normal(moments.n_groups)
    y = means @ BETA + effects + np.sqrt(sigma2 / moments.counts) * rng.standard_normal(moments.n_groups)
    within = moments.within.copy()
    slopes, length = BETA[1:], np.sqrt(within[0, 0])
    noise = np.sqrt(sigma2) * rng.standard_normal()
    left = moments.counts.sum() - moments.n_groups - 1
    # Only the first predictor varies within groups.
    within[0, -1] = within[-1, 0] = within[0, 0] * slopes[0] + length * noise
    within[-1, -1] = within[0, 0] * slopes[0] ** 2 + 2 * slopes[0] * length * noise + noise**2 + sigma2 * rng.chisquare(left)
    center, deviations = moments.center.copy(), moments.deviations.copy()
    center[-1], deviations[:, -1] = y[0], y - y[0]
    return replace(moments, center=center, deviations=deviations, within=within), effects


def deviance_of_group_variance(criterion: Criterion, tau2: float) -> float:
    """Return the deviance at a group variance, least over everything else.

    With sigma2 = tau2 / gamma it is the criterion, in which r2 / D replaces sigma2, plus D (log q - 1 + 1 / q) with
    q = sigma2 D / r2.
    """
    if tau2 == 0.0:
        return criterion.value(0.0)
    free, unit = criterion.degrees_of_freedom, criterion.coordinates.y_scale**2

    def deviance(log_ratio: float) -> float:
        ratio = float(np.exp(log_ratio))
        r2 = float(criterion.residual_sums_of_squares(np.array([ratio]))[0]) * unit
        q = tau2 / ratio * free / r2
        return criterion.value(ratio) + free * (np.log(q) - 1.0 + 1.0 / q)

    # The residual variance is 1, and its estimate within a factor of 8 of that.
    bounds = (np.log(tau2 / 8), np.log(8 * tau2))
    return float(optimize.minimize_scalar(deviance, bounds=bounds, method="bounded").fun)


def williams_tukey(pivot: FPivot, tau2: float) -> bool:
    """Return whether the limits of Williams and Tukey hold a group variance with sigma2 = 1.

    A limit is where the exact limit of gamma and the chi-squared limit of the scatter between groups meet: tau2 = gamma
    sigma2, with sigma2 from U1 at its own quantile. The level is at least 1 - 2 (1 - level).
    """
    limits = np.array(pivot.limits(LEVEL))
    quantiles = stats.chi2.ppf([0.975, 0.025], pivot.df1)
    criterion = pivot._criterion
    ends = []
    for ratio, quantile in zip(limits, quantiles, strict=True):
        if not np.isfinite(ratio) or ratio == 0.0:
            ends.append(ratio)
            continue
        between = criterion.residual_sums_of_squares(np.array([ratio]))[0] - criterion.coordinates.within_residual
        ends.append(ratio * between / quantile * criterion.coordinates.y_scale**2)
    return bool(ends[0] <= tau2 <= ends[1])


def limits_that_cover(drawn: GroupedMoments, restricted: Criterion, tau2: float) -> dict[str, float]:
    """Return which limits of the variances hold the truth.

    An interval covers the truth where the test it inverts accepts it, which is sooner known than the limits.
    """
    result = {}
    threshold = stats.chi2.ppf(LEVEL, 1)
    for name, criterion in (("ML profile", Criterion(drawn, reml=False)), ("REML profile", restricted)):
        ceiling = minimise(criterion).solution.value + threshold
        result[f"sd(group), {name}"] = float(deviance_of_group_variance(criterion, tau2) <= ceiling)
        result[f"icc, {name}"] = float(criterion.value(tau2) <= ceiling)
    pivot = FPivot(restricted)
    result["sd(group), Williams-Tukey"] = float(williams_tukey(pivot, tau2))
    # Lower limits are never below 0, so that a true 0 is missed on one side only.
    beyond = pivot.group_variance_tail(tau2 / restricted.coordinates.y_scale**2)
    result["sd(group), pivot"] = float((beyond >= 0.025 or tau2 == 0.0) and beyond <= 0.975)
    tail = stats.f.sf(pivot.statistic(tau2), pivot.df1, pivot.df2)
    result["icc, exact"] = float(tail >= 0.025 and (tail <= 0.975 or tau2 == 0.0))
    lower, upper = pivot.residual_variance_limits(LEVEL)
    result["sd(residual), exact"] = float(lower <= 1.0 / restricted.coordinates.y_scale**2 <= upper)
    return dict(sorted(result.items()))


def predictions_that_cover(
    model: RandomInterceptRegressor, moments: GroupedMoments, effects: np.ndarray, tau2: float, rng: np.random.Generator
) -> dict[str, float]:
    """Return which intervals of a row of the first group, and of a row of a new group, hold the truth."""
    X = np.array([[0.5, moments.means[0, 1]], [0.5, 0.5]])
    line = BETA[0] + X @ BETA[1:]
    in_group = line + np.array([effects[0], np.sqrt(tau2) * rng.standard_normal()])
    truths = {
        "observation": in_group + rng.standard_normal(2),
        "group_mean": in_group,
        "population_mean": line,
    }
    result = {}
    for kind, truth in truths.items():
        rows = predict_interval(model, X, groups=[moments.labels[0], -1], kind=kind, level=LEVEL)
        inside = ((rows["lower"] <= truth) & (truth <= rows["upper"])).astype(float)
        result[f"{kind}, known"], result[f"{kind}, new"] = inside
    return result


def replicate(moments: GroupedMoments, means: np.ndarray, tau2: float, null: np.ndarray, rng: np.random.Generator) -> dict:
    """Return what covers and what rejects in one draw, with sigma2 = 1, by table and name."""
    drawn, effects = draw(moments, means, tau2, 1.0, rng)
    model = RandomInterceptRegressor().fit_moments(drawn)
    restricted = model.fit_.criterion(reml=True)
    result = {("limits", name): value for name, value in limits_that_cover(drawn, restricted, tau2).items()}
    for name, ddf in DDF.items():
        try:
            table = fixed_effects(model, ddf=ddf, level=LEVEL)
        except ValueError:
            continue  # Kenward and Roger's approximation breaks down: there are too few groups
        inside = (table["ci_lower"] <= BETA) & (table["ci_upper"] >= BETA)
        for i, column in ((1, "x"), (2, "z")):
            result["effects", f"{column}, {name}"] = float(inside.iloc[i]) if table["df"].notna().iloc[i] else np.nan
    for name, value in predictions_that_cover(model, moments, effects, tau2, rng).items():
        result["predictions", name] = value
    statistic = max(restricted.value(0.0) - model.criterion_, 0.0)
    chi2, pivot = float(stats.chi2.sf(statistic, 1)), FPivot(restricted)
    result["tests", "RLRT, exact"] = float(np.mean(null >= statistic) <= 0.05 and statistic > 0)
    result["tests", "RLRT, mixture"] = float(chi2 / 2 <= 0.05)
    result["tests", "RLRT, naive"] = float(chi2 <= 0.05)
    result["tests", "F, exact"] = float(stats.f.sf(pivot.statistic(0.0), pivot.df1, pivot.df2) <= 0.05)
    return result


def cell(n_groups: int, balanced: bool, icc: float, n_replicates: int) -> pd.Series:
    """Return the shares of one cell."""
    rng = np.random.default_rng([n_groups, balanced, round(100 * icc)])
    moments, means = design_of(n_groups, balanced)
    # The null distribution depends on the design alone, whatever y is.
    any_y = draw(moments, means, 0.0, 1.0, rng)[0]
    null = simulate_null(Criterion(any_y), 20_000, random_state=0)
    tau2 = icc / (1.0 - icc)
    return pd.DataFrame([replicate(moments, means, tau2, null, rng) for _ in range(n_replicates)]).mean()


def print_tables(
    cell: Callable[[int, bool, float, int], pd.Series],
    values: Sequence[float],
    n_groups: Sequence[int],
    n_replicates: int,
    titles: dict[str, str],
    name: str,
) -> None:
    """Print the shares of all cells as Markdown tables; each entry is that of the balanced and the unbalanced design.

    Parameters
    ----------
    cell : callable
        Takes a number of groups, whether they are balanced, a value and a number of replicates; returns shares by table and
        name.
    values : sequence of float
        The values of the parameter that varies.
    n_groups : sequence of int
        The numbers of groups.
    n_replicates : int
        Number of replicates in a cell.
    titles : dict of str
        The title of each table.
    name : str
        What the parameter is called.
    """
    start = time.perf_counter()
    cells = [(j, balanced, value, n_replicates) for j in n_groups for value in values for balanced in (True, False)]
    # The largest first, so that no core waits for another at the end.
    shares = []
    with ProcessPoolExecutor() as pool, progress(1, "cells", len(cells)) as report:
        for share in pool.map(cell, *zip(*reversed(cells), strict=True)):
            shares.append(share)
            report(1)
    shares.reverse()
    error = 100 * np.sqrt(LEVEL * (1 - LEVEL) / n_replicates)
    print(f"{n_replicates} replicates a cell, {time.perf_counter() - start:.0f} s; Monte Carlo standard error {error:.1f}.")
    for table, title in titles.items():
        names = [column for kind, column in shares[-1].index if kind == table]
        print(f"\n{title}\n\n| J, {name} | " + " | ".join(names) + " |\n| --- |" + " ---: |" * len(names))
        for at in range(0, len(cells), 2):
            pairs = [[share.get((table, column), np.nan) for share in shares[at : at + 2]] for column in names]
            texts = [" / ".join("-" if np.isnan(value) else f"{100 * value:.1f}" for value in pair) for pair in pairs]
            print(f"| {cells[at][0]}, {cells[at][2]:g} | " + " | ".join(texts) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=2000)
    print_tables(cell, CORRELATIONS, GROUPS, parser.parse_args().replicates, TITLES, "ICC")
