"""`FactorComparison`: a model of several grouping factors beside least squares with clustered standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .._tables import Report, Table, decimals, df_text, number_text, p_statement, p_text
from .._typing import WeightType
from ..inference._fixed_effects import fixed_effects
from ..inference._shares import icc
from ..inference._tests import random_effects_test
from ..likelihood._random_terms import INTERCEPT
from ..models._mixed_effects import MixedEffectsRegressor
from ._cluster_robust_ols import ClusterRobustOLS
from ._folds import OLS

MIXED = "mixed effects"
# Standard errors differ if their ratio is beyond this, and a test is significant at the second number.
_MATTERS, _LEVEL = 1.1, 0.05
# A table shows at most this many coefficients.
_SHOWN = 12


@dataclass(frozen=True, eq=False, repr=False)
class FactorComparison:
    """A model with an intercept for each of several grouping factors beside least squares.

    `compare_with_ols` makes it if it is given a frame of groups with several columns. Print it, or let a notebook show it,
    for the tables and their meaning in words. `cross_validate_groups` compares the predictions.

    Attributes
    ----------
    coefficients : pandas.DataFrame
        A row for each coefficient and model: "estimate", "std_error", "df" and "p_value". The models are pooled OLS with
        textbook standard errors, OLS with standard errors that are clustered by each factor alone and by all of them at once
        (Cameron, Gelbach and Miller 2011), and the mixed-effects model (REML, Satterthwaite's df).
    shares : pandas.Series
        The share of each factor in the variance that the predictors leave, and at "all" their sum.
    tests : pandas.DataFrame
        For each factor, the likelihood-ratio test that its variance is 0 given the others: the table of
        `sklearn_mlm.inference.random_effects_test`.
    model : MixedEffectsRegressor
        The fitted model.
    n_samples : int or float
        Number of rows, or of copies of rows.
    n_levels : dict of str to int
        Number of levels of each factor.
    conclusions : tuple of str
        The meaning of the figures in words, a string for each paragraph.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn_mlm import compare_with_ols
    >>> rng = np.random.default_rng(0)
    >>> groups = pd.DataFrame({"subject": np.repeat(np.arange(20), 12), "item": np.tile(np.arange(12), 20)})
    >>> x = rng.standard_normal(12)[groups["item"]]
    >>> effects = rng.standard_normal(20)[groups["subject"]] + rng.standard_normal(12)[groups["item"]]
    >>> y = x + effects + rng.standard_normal(240)
    >>> comparison = compare_with_ols(pd.DataFrame({"x": x}), y, groups)
    >>> comparison.coefficients.loc["x", "std_error"].round(2)
    model
    pooled OLS              0.14
    clustered by subject    0.09
    clustered by item       0.44
    clustered by both       0.43
    mixed effects           0.40
    Name: std_error, dtype: float64
    """

    coefficients: pd.DataFrame
    shares: pd.Series
    tests: pd.DataFrame
    model: MixedEffectsRegressor
    n_samples: float
    n_levels: dict[str, int]
    conclusions: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return self._report().text()

    def _repr_html_(self) -> str:
        return self._report().html()

    def _report(self) -> Report:
        """Return the comparison as a report."""
        levels = ", ".join(f"{number} levels of {name}" for name, number in self.n_levels.items())
        shares = ", ".join(f"{name} {number_text(value, 3)}" for name, value in self.shares.items() if name != "all")
        labels, cells = [], []
        names = self.coefficients.index.unique("coefficient")
        for name in names[:_SHOWN]:
            rows = self.coefficients.loc[name]
            digits = decimals(rows["std_error"][rows["std_error"] > 0].min())
            for kind, row in rows.iterrows():
                labels.append((str(name), str(kind)))
                numbers = [number_text(row[column], digits) for column in ("estimate", "std_error")]
                cells.append([*numbers, df_text(row["df"]), p_text(row["p_value"])])
        rest = f"{len(names) - _SHOWN} more are in the attribute coefficients." if len(names) > _SHOWN else ""
        columns = ("estimate", "std. error", "df", "p-value")
        tests = [
            [number_text(row["chi2"], 2), df_text(row["df"]), p_text(row["p_value"])] for _, row in self.tests.iterrows()
        ]
        return Report(
            title=f"Mixed-effects model and least squares: {self.n_samples:.10g} rows, {levels}",
            facts=[f"Share of the variance: {shares}"],
            tables=[
                Table("Coefficients", columns, labels, cells, rest),
                Table(
                    "Tests that a factor has no variance",
                    ("chi2", "df", "p-value"),
                    [(str(n),) for n in self.tests.index],
                    tests,
                ),
            ],
            closing_title="What the figures mean",
            closing=self.conclusions,
        )


def compare_factors(
    X: Any, y: Any, groups: Any, columns: Sequence[str], sample_weight: Any, weight_type: WeightType
) -> FactorComparison:
    """Return the comparison of a model with an intercept for each column of groups with least squares."""
    model = MixedEffectsRegressor(
        random_effects=" + ".join(f"(1 | `{name}`)" for name in columns), weight_type=weight_type
    ).fit(X, y, groups=groups, sample_weight=sample_weight)
    options: dict[str, Any] = {"sample_weight": sample_weight}
    clustered = {
        f"clustered by {name}": ClusterRobustOLS(cov_type="CR1").fit(X, y, groups[name], **options) for name in columns
    }
    together = "clustered by both" if len(columns) == 2 else "clustered by all"
    fits: dict[str, Any] = {
        OLS: ClusterRobustOLS(cov_type="nonrobust").fit(X, y, **options),
        **clustered,
        together: ClusterRobustOLS(cov_type="CR1").fit(X, y, groups[list(columns)], **options),
        MIXED: model,
    }
    tables = {kind: fixed_effects(fit)[["estimate", "std_error", "df", "p_value"]] for kind, fit in fits.items()}
    table = pd.concat(tables, names=["model", "coefficient"]).swaplevel()
    names = list(tables[MIXED].index)
    table = table.reindex(pd.MultiIndex.from_product([names, list(fits)], names=["coefficient", "model"]))
    shares, tests, fit = icc(model), random_effects_test(model), model.fit_
    n = fit.n_observations
    return FactorComparison(
        coefficients=table,
        shares=pd.Series(shares),
        tests=tests,
        model=model,
        n_samples=int(n) if n == int(n) else n,
        n_levels=fit.n_levels,
        conclusions=_conclusions(table, pd.Series(shares), tests, together),
    )


def _conclusions(table: pd.DataFrame, shares: pd.Series, tests: pd.DataFrame, together: str) -> tuple[str, ...]:
    """Return what the figures mean, a string for each paragraph."""
    factors = [str(name) for name in shares.index if name != "all"]
    weights = [f"{shares[name]:.0%} is between levels of {name}" for name in factors]
    tested = [
        f"{name}: {p_statement(float(p))}" for name, p in zip(factors, tests["p_value"], strict=True) if np.isfinite(p)
    ]
    first = f"Of the variance that the predictors leave, {_joined(weights)}. "
    first += f"Tests that a factor has none of it: {', '.join(tested)}."
    errors = table.reset_index().pivot_table(values="std_error", index="coefficient", columns="model", sort=False)
    slopes = errors.drop(index=INTERCEPT, errors="ignore")
    if slopes.empty:
        return (first,)
    ratio = slopes[together] / slopes[OLS]
    wrong = [str(name) for name in ratio.index[(ratio > _MATTERS) | (ratio < 1.0 / _MATTERS)]]
    if wrong:
        low_text, high_text = (number_text(float(one), 2) for one in (ratio.min(), ratio.max()))
        times = high_text if low_text == high_text else f"{low_text} to {high_text}"
        second = (
            f"Textbook standard errors of least squares are wrong for {_joined(wrong[:4])}, because they take the rows for "
            f"independent: clustered by all factors at once, they are {times} times as large."
        )
    else:
        second = "Clustering by all factors at once changes the standard errors of the predictors little."
    alone = [kind for kind in slopes.columns if kind.startswith("clustered by ") and kind != together]
    low = slopes[alone].min(axis=1) / slopes[together]
    if (low < 1.0 / _MATTERS).any():
        second += " Clustering by one factor alone leaves out what rows of the other have in common."
    third = (
        "Clustered standard errors answer for the coefficients alone, and need many levels of each factor. The "
        "mixed-effects model also tells how much each factor varies, and predicts for known levels of either."
    )
    return first, second, third


def _joined(parts: Sequence[str]) -> str:
    """Return parts of a sentence joined by commas and "and"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
