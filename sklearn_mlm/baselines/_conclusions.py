"""What the figures of a comparison mean, in words, and the report that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .._tables import Report, Table, decimals, df_text, number_text, p_statement, p_text
from ._folds import MIXED, OLS, ROBUST, WITHIN

# From where on differences are spoken of: of standard errors, relative to each other; of estimates, in standard errors; of
# errors of prediction, relative to each other.
_SE_MATTERS, _SE_DOUBT = 0.1, 1.25


_ESTIMATES_EQUAL, _ESTIMATE_MATTERS = 0.01, 0.5


_ERROR_MATTERS, _ERROR_MATTERS_MUCH = 0.01, 0.05


# Degrees of freedom that a cluster-robust standard error should rest on, and the level of tests.
_ENOUGH_DF, _LEVEL = 10.0, 0.05


# Coefficients that a sentence names one by one.
_NAMED = 4


# Errors of this share of another's are none.
_ROUNDING = 1e-10


def conclusions_of(c: Any) -> list[str]:
    """Return what the figures of a `Comparison` mean, a paragraph each."""
    return [_on_clustering(c), _on_naive_errors(c), *_on_within_and_between(c), _on_robust_errors(c), _on_predictions(c)]


def _on_clustering(c: Any) -> str:
    """Return whether the rows are clustered."""
    p_value, left = c.group_test["p_value"], c.residual_icc
    given = "" if len(c.coefficients.index.unique(0)) == 1 else ", given the predictors"
    between = f"{_percent(c.icc)} of the variance of y lies between groups"
    if given and not np.isnan(left):
        between += f", and {_percent(left)} of what the predictors leave"
    if np.isnan(left):
        return f"{between}. The predictors leave nothing of it: there is no variance to divide."
    if np.isnan(p_value):
        return (
            f"{between}; there are too few groups, or too few rows in them, for a test of whether that is more than chance."
        )
    test = f"F test, {p_statement(p_value)}"
    if left == 0 and p_value > _LEVEL and given and c.icc > 0:
        return (
            f"{_percent(c.icc)} of the variance of y lies between groups, but no more than the predictors account for: "
            f"given them, the group variance is estimated as 0 ({test}). The random intercept model is then least squares, "
            "and there is nothing for it to gain."
        )
    if left == 0 and p_value > _LEVEL:
        return (
            f"The groups differ no more than chance makes them: the group variance is estimated as 0{given} ({test}). The "
            "random intercept model is then least squares, and there is nothing for it to gain."
        )
    if left == 0:
        return (
            f"The group variance is estimated as 0{given}, so that the random intercept model is least squares here; but "
            f"the exact test finds that some groups differ ({test}), as it may where groups are of very different sizes."
        )
    if p_value > _LEVEL:
        return f"{between}; but groups without any effect of their own may well differ this much by chance ({test})."
    return (
        f"{between}, more than chance ({test}): rows of a group are alike, and for the mean of y the {c.n_samples} rows are "
        f"worth about {c.effective_sample_size:.0f} independent ones."
    )


def _percent(share: float) -> str:
    """Return a share as a percentage, "less than 1%" where rounding would leave none of it."""
    return "less than 1%" if 0 < share < 0.005 else f"{share:.0%}"


def _of(c: Any, model: str, column: str) -> pd.Series:
    """Return a column of the coefficients of one model, by coefficient."""
    return c.coefficients.xs(model, level="model")[column]


def _ratio(a: pd.Series, b: pd.Series) -> pd.Series:
    """Return a / b where both are numbers and b is not 0."""
    known = a.notna() & (b > 0)
    return a[known] / b[known]


def _on_one_group(c: Any) -> list[str]:
    """Return the coefficients that rest on one group alone."""
    without = _of(c, ROBUST, "std_error").isna() & _of(c, OLS, "std_error").notna()
    return [str(name) for name in without.index[without]]


def _on_naive_errors(c: Any) -> str:
    """Return what ignoring the groups does to standard errors."""
    ratio = _ratio(_of(c, ROBUST, "std_error"), _of(c, OLS, "std_error"))
    if ratio.empty:
        return "Least squares leaves nothing to chance here: there are no standard errors to compare."
    low, high = str(ratio.idxmin()), str(ratio.idxmax())
    if ratio[high] <= 1 + _SE_MATTERS and ratio[low] >= 1 - _SE_MATTERS:
        return (
            "The textbook standard errors of least squares, which ignore the groups, are within "
            f"{np.abs(ratio - 1).max():.0%} of the cluster-robust ones: for the coefficients, the groups hardly matter."
        )
    off = ratio[(ratio - 1).abs() > _SE_MATTERS].sort_values(ascending=False)
    if len(off) <= _NAMED:
        said = ", ".join(f"{_times(value)} as large for {name}" for name, value in off.items())
    else:
        said = f"from {_times(ratio[low])} ({low}) to {_times(ratio[high])} ({high}) as large"
    doubt = ", though with so few groups that may be chance" if _of(c, ROBUST, "df").min() < _ENOUGH_DF else ""
    before, after = _of(c, OLS, "p_value"), _of(c, ROBUST, "p_value")
    turned = [str(name) for name in ratio.index if (before[name] <= _LEVEL) != (after[name] <= _LEVEL)]
    flips = [f" The p-value of {name} goes from {p_text(before[name])} to {p_text(after[name])}." for name in turned]
    return (
        "The textbook standard errors of least squares ignore the groups. The cluster-robust ones, which allow for them, "
        f"are {said}{doubt}.{''.join(flips)}"
    )


def _times(ratio: float) -> str:
    """Return a ratio as a multiple."""
    return f"{ratio:.1f} times" if ratio >= 1 else f"{ratio:.2f} times"


def _on_within_and_between(c: Any) -> list[str]:
    """Return whether rows of a group and groups tell the same coefficient."""
    told = c.within_between[c.within_between["p_value"].notna()]
    if told.empty or np.isnan(c.within_between_test["p_value"]):
        return []
    p = p_statement(c.within_between_test["p_value"])
    clear = told[told["p_value"] <= _LEVEL]
    most = (clear if len(clear) else told).sort_values("p_value").head(3)
    each = "; ".join(f"{name}: {row['within']:.3g} within, {row['between']:.3g} between" for name, row in most.iterrows())
    if c.within_between_test["p_value"] > _LEVEL:
        return [
            f"Within groups and between them no difference of the coefficients could be shown ({p}; {each}). If there is "
            "none, the one coefficient that the random intercept model makes of the two is the better for using both."
        ]
    return [
        f"Within groups and between them the coefficients differ ({p}; {each}). Least squares and the random intercept "
        "model mix the two. If the within coefficient is meant, use WithinOLS, or add the group means of these columns as "
        "columns of the random intercept model, whose coefficients are then the differences."
    ]


def _on_robust_errors(c: Any) -> str:
    """Return whether cluster-robust standard errors would do."""
    mixed_error = _of(c, MIXED, "std_error")
    apart = (_of(c, OLS, "estimate") - _of(c, MIXED, "estimate")).abs()
    shift, relative = _ratio(apart, mixed_error), _ratio(_of(c, ROBUST, "std_error"), mixed_error)
    alone = _on_one_group(c)
    note = ""
    if alone:
        note = (
            f" They cannot be had for {', '.join(alone)}: such a coefficient rests on one group, and how groups differ is "
            "not told by one."
        )
    if shift.empty or relative.empty:
        return f"There are no cluster-robust standard errors to compare with those of the random intercept model.{note}"
    moved, least_df = str(shift.idxmax()), _of(c, ROBUST, "df").min()
    distance = f"{shift[moved]:.2g} of the latter's standard errors"
    if alone:
        verdict = "Cluster-robust standard errors would not do here"
    elif shift[moved] > _ESTIMATE_MATTERS and c.within_between_test["p_value"] <= _LEVEL:
        verdict = (
            "Cluster-robust standard errors alone would not do: they mend the standard errors, not the estimates. Least "
            "squares and the random intercept model mix what is within and what is between groups in different proportions, "
            f"which sets their estimates of {moved} {distance} apart"
        )
    elif shift[moved] > _ESTIMATE_MATTERS:
        verdict = (
            f"Whether cluster-robust standard errors would do is open: the estimates of {moved} by least squares and by the "
            f"random intercept model are {distance} apart, which may be chance, or a difference of within and between that "
            "these data are too few to show"
        )
    else:
        same = shift[moved] <= _ESTIMATES_EQUAL
        close = (
            "the estimates are those of the random intercept model"
            if same
            else f"no estimate is more than {shift[moved]:.2g} standard errors from the random intercept model's"
        )
        if least_df < _ENOUGH_DF:
            verdict = (
                f"If only the coefficients matter, least squares with cluster-robust standard errors could do, since "
                f"{close}; but from {c.n_groups} groups those standard errors are uncertain ({least_df:.1f} degrees of "
                "freedom at the least)"
            )
        else:
            would = "would be valid, though dear" if relative.max() > _SE_DOUBT else "would do"
            verdict = (
                f"If only the coefficients matter, least squares with cluster-robust standard errors {would}: {close}, and "
                f"the standard errors rest on {least_df:.0f} degrees of freedom or more"
            )
    low, high = relative.min(), relative.max()
    span = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    doubt = ""
    if high > _SE_DOUBT:
        reasons = ["least squares wastes information"]
        if c.within_between_test["p_value"] <= _LEVEL:
            reasons.append("the group means of the predictors are missing")
        reasons.append("the effect differs from group to group, which a random intercept does not allow for")
        doubt = (
            f" For {relative.idxmax()!s} that makes intervals {_times(high)} as wide: {', or '.join(reasons)} (then the "
            "random intercept model's standard error is too small)."
        )
    beside = f"The cluster-robust standard errors are {span} times those of the random intercept model."
    return f"{verdict}. {beside}{doubt}{note}"


def _gain(errors: dict[str, float], than: str) -> float:
    """Return by what share the random intercept model's error is less than another's; 0 where that is only rounding."""
    return 1.0 - errors[MIXED] / errors[than] if errors[than] > _ROUNDING * max(errors.values()) else 0.0


def _better_folds(c: Any, kind: str) -> int:
    """Return in how many folds the random intercept model predicts better than least squares."""
    errors = c.fold_predictions.xs(kind, level="groups")["rmse"]
    return int((errors.xs(MIXED, level="model") < errors.xs(OLS, level="model")).sum())


def _on_predictions(c: Any) -> str:
    """Return whether the multilevel model predicts better."""
    known = c.predictions.xs("known")["rmse"].to_dict()
    digits = decimals(known[OLS])

    def against(errors: dict[str, float]) -> str:
        return f"{number_text(errors[MIXED], digits)} against {number_text(errors[OLS], digits)}"

    gain, better = _gain(known, OLS), _better_folds(c, "known")
    folds = f"better in {better} of {c.n_folds} folds"
    if gain > _ERROR_MATTERS:
        little = "" if gain > _ERROR_MATTERS_MUCH else " a little"
        beside = _gain(known, WITHIN)
        dummies = f", and {beside:.0%} less than with an unshrunken intercept for each group" * (beside > _ERROR_MATTERS)
        first = (
            f"The multilevel model pays{little} where other rows of these groups are to be predicted, since it knows their "
            f"levels: the typical error is {against(known)} by least squares, {gain:.0%} less ({folds}){dummies}."
        )
    elif gain < -_ERROR_MATTERS:
        first = (
            "The multilevel model does not pay in prediction, even for rows of these groups: the typical error is "
            f"{against(known)} by least squares ({folds})."
        )
    else:
        first = f"For rows of these groups the multilevel model predicts hardly better than least squares: {against(known)}."
    if "new" not in c.predictions.index.get_level_values("groups"):
        return f"{first} There are too few groups to try it on new ones."
    new = c.predictions.xs("new")["rmse"].to_dict()
    gain = _gain(new, OLS)
    if abs(gain) <= _ERROR_MATTERS:
        return f"{first} For new groups, whose levels nobody knows, it predicts as least squares does ({against(new)})."
    size = f"{abs(gain):.0%} {'less' if gain > 0 else 'more'}"
    n_folds = len(c.fold_predictions.xs(("new", MIXED), level=("groups", "model")))
    folds = f"better in {_better_folds(c, 'new')} of {n_folds} folds"
    reason = ""
    if gain < 0 and c.within_between_test["p_value"] <= _LEVEL:
        reason = " Its coefficients are nearer to those within groups: add the group means of the predictors."
    return f"{first} For new groups, whose levels nobody knows, its error is {size} ({against(new)}; {folds}).{reason}"


def report(c: Any) -> Report:
    """Return the comparison as a report."""
    digits = decimals(c.predictions["rmse"].max())
    predictors = len(c.coefficients.index.unique(0)) > 1
    given = f" ({number_text(c.residual_icc, 3)} given the predictors)" if predictors else ""
    return Report(
        title=f"Random intercept model and least squares: {c.n_samples} rows in {c.n_groups} groups",
        facts=[
            f"ICC {c.icc:.3f}{given}, design effect {c.design_effect:.2f}, "
            f"effective sample size {c.effective_sample_size:.0f}",
            f"Test of no group variance: {_f_text(c.group_test)}",
        ],
        tables=[_coefficient_rows(c), *_within_between_rows(c), _prediction_rows(c, digits)],
        closing_title="What the figures mean",
        closing=c.conclusions,
    )


def _f_text(test: pd.Series) -> str:
    """Return an F test as text."""
    if np.isnan(test["F"]):
        return "no test (too few groups or rows)"
    statistic = f"{test['F']:.3g}" if test["F"] < 1e4 else f"{test['F']:.2e}"
    df1, df2 = df_text(test["df1"]), df_text(test["df2"])
    return f"F({df1}, {df2}) = {statistic}, {p_statement(test['p_value'])}"


def _coefficient_rows(c: Any) -> Table:
    """Return the coefficients as strings, with the digits that their standard errors deserve."""
    labels, cells = [], []
    for name in c.coefficients.index.unique("coefficient"):
        rows = c.coefficients.loc[name]
        errors = rows["std_error"]
        digits = decimals(errors[errors > 0].min() if (errors > 0).any() else rows["estimate"].abs().max())
        for model, row in rows.iterrows():
            if np.isnan(row["estimate"]):
                continue
            labels.append((str(name), str(model)))
            cells.append(
                (
                    number_text(row["estimate"], digits),
                    number_text(row["std_error"], digits),
                    df_text(row["df"]),
                    p_text(row["p_value"]),
                )
            )
    return Table("Coefficients", ("estimate", "std. error", "df", "p-value"), labels, cells)


def _within_between_rows(c: Any) -> list[Table]:
    """Return within and between coefficients as strings, in a table if there are any."""
    if c.within_between.empty:
        return []
    labels, cells = [], []
    for name, row in c.within_between.iterrows():
        size = row["std_error"] if np.isfinite(row["std_error"]) else abs(row["within"])
        digits = decimals(size)
        labels.append((str(name),))
        cells.append(
            (
                *(number_text(row[column], digits) for column in ("within", "between", "difference", "std_error")),
                df_text(row["df"]),
                p_text(row["p_value"]),
            )
        )
    test = c.within_between_test
    note = (
        f"Test that all differences are 0: {_f_text(test)}"
        if test["df1"] > 0
        else "Their group means do not vary, or others leave nothing of them: there is nothing to compare."
    )
    columns = ("within", "between", "difference", "std. error", "df", "p-value")
    return [Table("The same coefficients within and between groups", columns, labels, cells, note)]


def _prediction_rows(c: Any, digits: int | None) -> Table:
    """Return errors of prediction as strings; predictions do not depend on how standard errors are computed."""
    names = {OLS: "OLS", WITHIN: WITHIN, MIXED: MIXED}
    cells: Sequence[Sequence[str]] = [
        [
            number_text(c.predictions.xs(kind)[column].to_dict()[model], places)
            for kind in c.predictions.index.unique("groups")
            for column, places in (("rmse", digits), ("r2", 3))
        ]
        for model in names
    ]
    title = f"Predictions, cross-validated ({c.n_folds} folds), of new rows in known groups and of new groups"
    columns = ("known: RMSE", "R^2", "new: RMSE", "R^2")[: len(cells[0])]
    return Table(title, columns, [(name,) for name in names.values()], cells)
