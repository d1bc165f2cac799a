"""The report on a comparison: tables of its figures, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .._tables import Report, Table, decimals, df_text, number_text, p_statement, p_text
from ._figures import Figures
from ._folds import MIXED, OLS, WITHIN

# A table shows at most this many coefficients.
_SHOWN = 12


def report(f: Figures, conclusions: Sequence[str]) -> Report:
    """Return the comparison as a report."""
    digits = decimals(f.predictions["rmse"].max())
    given = f" ({number_text(f.residual_icc, 3)} given the predictors)" if f.has_predictors else ""
    return Report(
        title=f"Random intercept model and least squares: {round(f.n_samples, 1):.10g} rows in {f.n_groups} groups",
        facts=[
            f"ICC {f.icc:.3f}{given}, design effect {f.design_effect:.2f}, "
            f"effective sample size {f.effective_sample_size:.0f}",
            f"Test of no group variance: {_f_text(f.group_test)}",
        ],
        tables=[_coefficient_rows(f), *_within_between_rows(f), *_slope_rows(f), _prediction_rows(f, digits)],
        closing_title="What the figures mean",
        closing=conclusions,
    )


def _f_text(test: pd.Series) -> str:
    """Return an F test as text."""
    if np.isnan(test["F"]):
        return "no test (too few groups or rows)"
    statistic = f"{test['F']:.3g}" if test["F"] < 1e4 else f"{test['F']:.2e}"
    df1, df2 = df_text(test["df1"]), df_text(test["df2"])
    return f"F({df1}, {df2}) = {statistic}, {p_statement(test['p_value'])}"


def _coefficient_rows(f: Figures) -> Table:
    """Return the coefficients as strings, with digits that suit their standard errors."""
    labels, cells = [], []
    names = f.coefficients.index.unique("coefficient")
    for name in names[:_SHOWN]:
        rows = f.coefficients.loc[name]
        errors = rows["std_error"]
        digits = decimals(errors[errors > 0].min() if (errors > 0).any() else rows["estimate"].abs().max())
        for model, row in rows.iterrows():
            if np.isnan(row["estimate"]):
                continue
            labels.append((str(name), str(model)))
            cells.append(_cells(row, ("estimate", "std_error"), digits))
    note = _note_of_rest(len(names), "coefficients")
    return Table("Coefficients", ("estimate", "std. error", "df", "p-value"), labels, cells, note)


def _note_of_rest(n_names: int, attribute: str) -> str:
    """Return a note that says where the rest of a long table is; empty if there is none."""
    return f"{n_names - _SHOWN} more are in the attribute {attribute}." if n_names > _SHOWN else ""


def _cells(row: pd.Series, columns: Sequence[str], digits: int | None) -> list[str]:
    """Return some columns of a row as strings, and then its degrees of freedom and p-value."""
    return [*(number_text(row[column], digits) for column in columns), df_text(row["df"]), p_text(row["p_value"])]


def _within_between_rows(f: Figures) -> list[Table]:
    """Return a table of within and between coefficients as strings, if there are any."""
    if f.within_between.empty:
        return []
    labels, cells = [], []
    for name, row in f.within_between.head(_SHOWN).iterrows():
        size = row["std_error"] if np.isfinite(row["std_error"]) else abs(row["within"])
        labels.append((str(name),))
        cells.append(_cells(row, ("within", "between", "difference", "std_error"), decimals(size)))
    test = f.within_between_test
    note = (
        f"Test that all differences are 0: {_f_text(test)}"
        if test["df1"] > 0
        else "The group means are constant or depend on other columns: there is nothing to compare."
    )
    rest = _note_of_rest(len(f.within_between), "within_between")
    note = f"{rest} {note}" if rest else note
    columns = ("within", "between", "difference", "std. error", "df", "p-value")
    return [Table("The same coefficients within and between groups", columns, labels, cells, note)]


def _slope_rows(f: Figures) -> list[Table]:
    """Return a table of how much coefficients vary between groups as strings, if any has been tried."""
    tried = f.slopes[f.slopes["p_value"].notna()]
    if tried.empty:
        return []
    cells = [
        [number_text(row["sd"], decimals(row["sd"])), number_text(row["chi2"], 2), p_text(row["p_value"])]
        for _, row in tried.iterrows()
    ]
    title = "How much coefficients vary between groups: random slopes, each added to the model by itself"
    return [Table(title, ("sd", "chi2", "p-value"), [(str(name),) for name in tried.index], cells)]


def _prediction_rows(f: Figures, digits: int | None) -> Table:
    """Return prediction errors as strings; cluster-robust OLS has those of OLS and no row."""
    names = {OLS: "OLS", WITHIN: WITHIN, MIXED: MIXED}
    cells: Sequence[Sequence[str]] = [
        [
            number_text(f.predictions.xs(kind)[column].to_dict()[model], places)
            for kind in f.predictions.index.unique("groups")
            for column, places in (("rmse", digits), ("r2", 3))
        ]
        for model in names
    ]
    title = f"Predictions, cross-validated ({f.n_folds} folds), of new rows in known groups and of new groups"
    columns = ("known: RMSE", "R^2", "new: RMSE", "R^2")[: len(cells[0])]
    return Table(title, columns, [(name,) for name in names.values()], cells)
