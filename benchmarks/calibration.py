"""How often intervals cover and tests reject: by simulation of moments, which takes no rows.

For each number of groups, kind of design and intraclass correlation, moments are drawn from the model with an intercept, a
predictor that varies within groups and one that varies between them only; the figures are shares of replicates.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy starts its threads; a process a core instead

import numpy as np
import pandas as pd
from scipy import optimize, stats

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.inference import predict_interval
from sklearn_mlm.inference._degrees_of_freedom import KenwardRoger, Satterthwaite
from sklearn_mlm.inference._variance_ratio import FPivot, simulate_null
from sklearn_mlm.likelihood._criterion import Criterion
from sklearn_mlm.likelihood._optimum import minimise

LEVEL = 0.95
GROUPS = (6, 20, 100)
CORRELATIONS = (0.0, 0.05, 0.3, 0.8)
BETA = np.array([1.0, 0.5, -0.5])


def sizes_of(n_groups: int, balanced: bool) -> np.ndarray:
    """Return group sizes: all 10, or from 2 to 60."""
    if balanced:
        return np.full(n_groups, 10)
    return np.round(np.exp(np.linspace(np.log(2), np.log(60), n_groups))).astype(int)


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
    """Return the deviance at a group variance, least over everything else."""
    if tau2 == 0.0:
        return criterion.value(0.0)
    n, counts = criterion.n_observations, criterion.moments.counts

    def deviance(log_ratio: float) -> float:
        state = criterion.state(float(np.exp(log_ratio)))
        sigma2 = tau2 / state.ratio
        determinant = np.log1p(state.ratio * counts).sum()
        return float(n * np.log(2 * np.pi * sigma2) + determinant + state.r2 * state.y_scale**2 / sigma2)

    # The residual variance is 1, and its estimate within a factor of 8 of that.
    bounds = (np.log(tau2 / 8), np.log(8 * tau2))
    return float(optimize.minimize_scalar(deviance, bounds=bounds, method="bounded").fun)


def replicate(moments: GroupedMoments, means: np.ndarray, tau2: float, null: np.ndarray, rng: np.random.Generator) -> dict:
    """Return what covers and what rejects in one draw, with sigma2 = 1."""
    drawn, effects = draw(moments, means, tau2, 1.0, rng)
    restricted = Criterion(drawn)
    optimum = minimise(restricted)
    solution = optimum.solution
    state = restricted.state(solution.ratio)
    estimates = np.append(solution.intercept, solution.coefficients)
    errors = np.sqrt(np.diag(solution.covariance))
    z = np.abs(estimates - BETA)
    df = np.full(3, restricted.degrees_of_freedom)
    if optimum.boundary is None:
        df = Satterthwaite.of(state).degrees_of_freedom(np.eye(3))
    kenward_roger = KenwardRoger.of(state)
    kr_df = [kenward_roger.degrees_of_freedom(np.eye(3)[i : i + 1])[0] for i in range(3)]
    result = {}
    for i, name in ((1, "x"), (2, "z")):
        result[f"{name} normal"] = float(z[i] <= stats.norm.ppf(0.975) * errors[i])
        result[f"{name} Satterthwaite"] = float(z[i] <= stats.t.ppf(0.975, df[i]) * errors[i])
        kr_error = np.sqrt(kenward_roger.adjusted[i, i])
        result[f"{name} Kenward-Roger"] = float(z[i] <= stats.t.ppf(0.975, max(kr_df[i], 1e-3)) * kr_error)
    # An interval covers the truth where the test it inverts accepts it, which is sooner known than the limits.
    full = Criterion(drawn, reml=False)
    ceiling = minimise(full).solution.value + stats.chi2.ppf(LEVEL, 1)
    result["sd(group) profile"] = float(deviance_of_group_variance(full, tau2) <= ceiling)
    result["icc profile"] = float(full.value(tau2) <= ceiling)
    pivot = FPivot(restricted)
    tail = stats.f.sf(pivot.statistic(tau2), pivot.df1, pivot.df2)
    # The lower limit of the ratio is never below 0, so that a true ratio of 0 is missed on one side only.
    result["icc exact"] = float(tail >= 0.025 and (tail <= 0.975 or tau2 == 0.0))
    model = RandomInterceptRegressor().fit_moments(drawn)
    x_known, x_new = np.array([0.5, moments.means[0, 1]]), np.array([0.5, 0.5])
    rows = predict_interval(model, np.stack([x_known, x_new]), groups=[drawn.labels[0], -1], kind="observation")
    truths = [
        BETA[0] + x_known @ BETA[1:] + effects[0] + rng.standard_normal(),
        BETA[0] + x_new @ BETA[1:] + np.sqrt(tau2) * rng.standard_normal() + rng.standard_normal(),
    ]
    inside = (rows["lower"] <= truths) & (truths <= rows["upper"])
    result["row of a known group"], result["row of a new group"] = inside.astype(float)
    statistic = max(restricted.value(0.0) - solution.value, 0.0)
    chi2 = float(stats.chi2.sf(statistic, 1))
    result["RLRT exact"] = float(np.mean(null >= statistic) <= 0.05 and statistic > 0)
    result["RLRT mixture"] = float(chi2 / 2 <= 0.05)
    result["RLRT naive"] = float(chi2 <= 0.05)
    result["F exact"] = float(stats.f.sf(pivot.statistic(0.0), pivot.df1, pivot.df2) <= 0.05)
    return result


def cell(n_groups: int, balanced: bool, icc: float, n_replicates: int) -> dict:
    """Return the shares of one cell."""
    rng = np.random.default_rng([n_groups, balanced, round(100 * icc)])
    moments, means = design_of(n_groups, balanced)
    # The null distribution depends on the design alone, whatever y is.
    any_y = draw(moments, means, 0.0, 1.0, rng)[0]
    null = simulate_null(Criterion(any_y), 20_000, random_state=0)
    tau2 = icc / (1.0 - icc)
    results = pd.DataFrame([replicate(moments, means, tau2, null, rng) for _ in range(n_replicates)])
    design = "balanced" if balanced else "unbalanced"
    return {"J": n_groups, "design": design, "icc": icc} | results.mean().to_dict()


def print_table(n_replicates: int) -> None:
    """Print the shares of all cells as a Markdown table, a row a method."""
    start = time.perf_counter()
    cells = [(j, balanced, icc, n_replicates) for j in GROUPS for balanced in (True, False) for icc in CORRELATIONS]
    # The largest first, so that no core waits for another at the end.
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(cell, *zip(*reversed(cells), strict=True)))[::-1]
    error = np.sqrt(0.95 * 0.05 / n_replicates)
    print(
        f"{n_replicates} replicates a cell, {time.perf_counter() - start:.0f} s; Monte Carlo standard error {error:.4f}.\n"
    )
    names = [name for name in rows[0] if name not in ("J", "design", "icc")]
    for design in ("balanced", "unbalanced"):
        chosen = [row for row in rows if row["design"] == design]
        print(f"{design}\n")
        print("| | " + " | ".join(f"J={row['J']} ICC={row['icc']:g}" for row in chosen) + " |")
        print("| --- |" + " ---: |" * len(chosen))
        for name in names:
            print(f"| {name} | " + " | ".join(f"{100 * row[name]:.1f}" for row in chosen) + " |")
        print(flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=2000)
    print_table(parser.parse_args().replicates)
