"""The multilevel model beside its baselines: coefficients, predictions, within against between, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ._cluster_robust import cluster_robust
from ._criterion import Criterion
from ._folds import MIXED, MODELS, OLS, ROBUST, WITHIN, Folds, cross_validated_errors
from ._moments import GroupedMoments, varies_within
from ._optimum import minimise
from ._regressor import RandomInterceptRegressor
from ._summary import Report, Table, decimals, df_text, number_text, p_statement, p_text
from ._within import within_estimate
from .inference import INTERCEPT, coefficient_table, satterthwaite_degrees_of_freedom

# Scatter of group means, relative to that within groups, that rounding could leave of equal means.
_SAME_MEANS = 1e-26


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The random intercept model beside least squares, cluster-robust least squares and the within estimator.

    Made by `compare_with_ols`. Print it, or let a notebook show it, for the tables and what they mean in words.

    Attributes
    ----------
    coefficients : pandas.DataFrame
        A row for each coefficient and model: "estimate", "std_error", "df" (degrees of freedom) and "p_value" (two-sided t
        test against 0). Pooled OLS with textbook standard errors, cluster-robust OLS (CR2), the within estimator (no
        intercept, and NaN for columns that are constant in every group), and the random intercept model (REML,
        Satterthwaite's df).
    predictions : pandas.DataFrame
        A row for ("known" or "new" groups, model): cross-validated "rmse" in units of y and "r2", means over folds.
    within_between : pandas.DataFrame
        A row for each column that varies within groups: the "within" and the "between" coefficient, their "difference"
        (between less within: the contextual effect), its "std_error", "df" and "p_value". NaN where group means do not
        vary.
    within_between_test : pandas.Series
        All differences at once: "F", "df1", "df2", "p_value". A Hausman test.
    icc : float
        Intraclass correlation of y: of the null model.
    residual_icc : float
        Intraclass correlation of what the predictors leave.
    group_test : pandas.Series
        The exact test of no group variance given the predictors: "F", "df1", "df2", "p_value".
    design_effect : float
        1 + (m - 1) icc with m = sum n_j^2 / n, by which groups inflate the variance of the mean of y.
    effective_sample_size : float
        n / design_effect: how many independent rows tell as much about that mean.
    n_samples, n_groups : int
        Numbers of rows and of groups.
    n_folds : int
        Number of folds of the cross-validation.
    conclusions : tuple of str
        What the figures mean, a paragraph each.
    """

    coefficients: pd.DataFrame
    predictions: pd.DataFrame
    within_between: pd.DataFrame
    within_between_test: pd.Series
    icc: float
    residual_icc: float
    group_test: pd.Series
    design_effect: float
    effective_sample_size: float
    n_samples: int
    n_groups: int
    n_folds: int
    conclusions: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return _report(self).text()

    def _repr_html_(self) -> str:
        return _report(self).html()


def compare(X: Any, y: np.ndarray, codes: np.ndarray, folds: Folds) -> Comparison:
    """Return the comparison of rows, given the moments of their folds.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features), or None
    y : ndarray of shape (n_samples,)
    codes : ndarray of shape (n_samples,)
        Positions in the labels of `folds.whole`.
    folds : Folds
        The moments of all rows and of training and test sets.
    """
    moments = folds.whole
    if Criterion(moments).outcome_constant:
        raise ValueError("y is constant: there is nothing to compare. Check that y is the outcome.")
    model = RandomInterceptRegressor().fit_moments(moments)
    icc = RandomInterceptRegressor().fit_moments(_without_columns(moments)).icc_
    counts = moments.counts
    design_effect = 1.0 + (float(counts @ counts) / counts.sum() - 1.0) * icc
    table, test = _within_between(moments)
    comparison = Comparison(
        coefficients=_coefficients(X, y, codes, model),
        predictions=cross_validated_errors(folds),
        within_between=table,
        within_between_test=test,
        icc=icc,
        residual_icc=model.icc_,
        group_test=_group_test(moments),
        design_effect=design_effect,
        effective_sample_size=float(counts.sum()) / design_effect,
        n_samples=len(y),
        n_groups=moments.n_groups,
        n_folds=len(folds.known),
    )
    return replace(comparison, conclusions=tuple(_conclusions(comparison)))


def names_of(moments: GroupedMoments) -> list[str]:
    """Return the names of the columns of x, or x0, x1, ..."""
    return list(moments.feature_names or (f"x{i}" for i in range(moments.n_features)))


# ---- coefficients


def _coefficients(X: Any, y: np.ndarray, codes: np.ndarray, model: RandomInterceptRegressor) -> pd.DataFrame:
    """Return estimates, standard errors, degrees of freedom and p-values of each coefficient by each model."""
    moments, solution = model.moments_, model._solution
    criterion = Criterion(moments)
    pooled, within = criterion.solution(0.0), within_estimate(moments)
    robust, robust_df, _ = cluster_robust(X, y, codes, None, moments, pooled, True, criterion.dropped, "CR2")
    names = [INTERCEPT, *names_of(moments)]
    eye = np.eye(len(names))
    estimates = np.append(pooled.intercept, pooled.coefficients)
    tables = {
        OLS: coefficient_table(estimates, pooled.covariance, criterion.degrees_of_freedom, names),
        ROBUST: coefficient_table(estimates, robust, robust_df, names),
        WITHIN: coefficient_table(within.coefficients, within.covariance, within.degrees_of_freedom, names[1:]),
        MIXED: coefficient_table(
            np.append(solution.intercept, solution.coefficients),
            solution.covariance,
            satterthwaite_degrees_of_freedom(criterion, solution, model.boundary_, eye),
            names,
        ),
    }
    table = pd.concat(tables, names=["model", "coefficient"]).swaplevel()
    return table.reindex(pd.MultiIndex.from_product([names, MODELS], names=["coefficient", "model"]))


def _without_columns(moments: GroupedMoments) -> GroupedMoments:
    """Return the moments of y alone."""
    return replace(
        moments,
        center=moments.center[-1:],
        deviations=moments.deviations[:, -1:],
        within=moments.within[-1:, -1:],
        feature_names=None,
    )


def _group_test(moments: GroupedMoments) -> pd.Series:
    """Return the exact F test of no group variance: what group dummies explain beyond the predictors (Wald 1947)."""
    criterion, within = Criterion(moments), within_estimate(moments)
    df1, df2 = float(criterion.between_degrees_of_freedom), within.degrees_of_freedom
    pooled = criterion.solution(0.0).residual_variance * criterion.degrees_of_freedom
    if df1 <= 0 or df2 <= 0:
        return _f_test(np.nan, df1, df2)
    between = (pooled - within.residual_variance * df2) / df1
    with np.errstate(divide="ignore", invalid="ignore"):
        return _f_test(float(np.divide(between, within.residual_variance)), df1, df2)


def _f_test(statistic: float, df1: float, df2: float) -> pd.Series:
    """Return an F test as a series."""
    return pd.Series({"F": statistic, "df1": df1, "df2": df2, "p_value": float(stats.f.sf(statistic, df1, df2))})


def _within_between(moments: GroupedMoments) -> tuple[pd.DataFrame, pd.Series]:
    """Return within and between coefficients, and the tests that they are the same.

    They come from the random intercept model with the group means of the columns added as columns (Mundlak 1978), whose
    coefficients are the differences; the coefficients of the columns themselves are then the within estimator's.
    """
    varying = np.flatnonzero(varies_within(moments)[:-1])
    p, q = moments.n_features, len(varying)
    names = [names_of(moments)[i] for i in varying]
    columns = [*range(p), *varying, p]
    deviations = moments.deviations[:, columns]
    # Means that differ by their own rounding only are the same.
    spread = moments.counts @ (deviations - moments.counts @ deviations / moments.counts.sum()) ** 2
    same = p + np.flatnonzero(spread[p:-1] <= _SAME_MEANS * moments.within.diagonal()[varying])
    deviations[:, same] = 0.0
    inside = np.append(np.ones(p, dtype=bool), np.append(np.zeros(q, dtype=bool), True))
    both = replace(
        moments,
        center=moments.center[columns],
        deviations=deviations,
        within=np.where(np.outer(inside, inside), moments.within[np.ix_(columns, columns)], 0.0),
        feature_names=None,
    )
    criterion = Criterion(both)
    told = np.setdiff1d(np.arange(p, p + q), criterion.dropped) - p
    df2 = float(criterion.between_degrees_of_freedom)
    rows = np.full((q, 6), np.nan)
    rows[:, 0] = within_estimate(moments).coefficients[varying]
    test = _f_test(np.nan, float(len(told)), df2)
    if len(told) and df2 > 0 and criterion.degrees_of_freedom > 0:
        optimum = minimise(criterion)
        solution = optimum.solution
        at = 1 + p + told
        covariance = solution.covariance[np.ix_(at, at)]
        df = satterthwaite_degrees_of_freedom(criterion, solution, optimum.boundary, np.eye(1 + p + q)[at])
        table = coefficient_table(solution.coefficients[p + told], covariance, df, [names[i] for i in told])
        rows[told, 1] = rows[told, 0] + table["estimate"]
        rows[told, 2:] = table.to_numpy()
        if (np.diag(covariance) > 0).all():
            difference = table["estimate"].to_numpy()
            wald = float(difference @ np.linalg.solve(covariance, difference)) / len(told)
            test = _f_test(wald, float(len(told)), df2)
    frame = pd.DataFrame(
        rows, index=names, columns=["within", "between", "difference", "std_error", "df", "p_value"]
    ).rename_axis("coefficient")
    return frame, test


# ---- what it means

# From where on differences are spoken of: of standard errors, relative to each other; of estimates, in standard errors; of
# errors of prediction, relative to each other.
_SE_MATTERS, _SE_DOUBT = 0.1, 1.25
_ESTIMATES_EQUAL, _ESTIMATE_MATTERS = 0.01, 0.5
_ERROR_MATTERS, _ERROR_MATTERS_MUCH = 0.01, 0.05
# Degrees of freedom that a cluster-robust standard error should rest on, and the level of tests.
_ENOUGH_DF, _LEVEL = 10.0, 0.05


def _conclusions(c: Comparison) -> list[str]:
    """Return what the figures of a comparison mean."""
    return [_on_clustering(c), _on_naive_errors(c), *_on_within_and_between(c), _on_robust_errors(c), _on_predictions(c)]


def _on_clustering(c: Comparison) -> str:
    """Return whether the rows are clustered."""
    share, left, p = f"{c.icc:.0%}", f"{c.residual_icc:.0%}", p_statement(c.group_test["p_value"])
    if c.residual_icc == 0:
        return (
            "The groups differ no more than chance makes them: given the predictors, the group variance is estimated as 0 "
            f"(F test, {p}). The random intercept model is then least squares, and there is nothing for it to gain."
        )
    worth = f"for the mean of y the {c.n_samples} rows are worth about {c.effective_sample_size:.0f} independent ones"
    if c.group_test["p_value"] > _LEVEL:
        return (
            f"{share} of the variance of y lies between groups, and {left} of what the predictors leave; but groups without "
            f"any effect of their own may well differ this much by chance (F test, {p})."
        )
    return (
        f"{share} of the variance of y lies between groups, and {left} of what the predictors leave, more than chance (F "
        f"test, {p}): rows of a group are alike, and {worth}."
    )


def _of(c: Comparison, model: str, column: str) -> pd.Series:
    """Return a column of the coefficients of one model, by coefficient."""
    return c.coefficients.xs(model, level="model")[column]


def _on_naive_errors(c: Comparison) -> str:
    """Return what ignoring the groups does to standard errors."""
    ratio = (_of(c, ROBUST, "std_error") / _of(c, OLS, "std_error")).dropna()
    if ratio.empty:
        return "The fit leaves no residuals: there are no standard errors to compare."
    low, high = str(ratio.idxmin()), str(ratio.idxmax())
    if ratio[high] <= 1 + _SE_MATTERS and ratio[low] >= 1 - _SE_MATTERS:
        return (
            "The textbook standard errors of least squares, which ignore the groups, are within "
            f"{np.abs(ratio - 1).max():.0%} of the cluster-robust ones: for the coefficients, the groups hardly matter."
        )
    off = [name for name in dict.fromkeys((high, low)) if abs(ratio[name] - 1) > _SE_MATTERS]
    wrong = [f"that of {name}{' would have to be' * (not i)} {ratio[name]:.2g} times as large" for i, name in enumerate(off)]
    doubt = ", though with so few groups that may be chance" if _of(c, ROBUST, "df").min() < _ENOUGH_DF else ""
    return (
        "The textbook standard errors of least squares, which ignore the groups, are not those that allow for them: "
        f"{' and '.join(wrong)}{doubt}."
    )


def _on_within_and_between(c: Comparison) -> list[str]:
    """Return whether rows of a group and groups tell the same coefficient."""
    told = c.within_between.dropna()
    if told.empty:
        return []
    p = p_statement(c.within_between_test["p_value"])
    if c.within_between_test["p_value"] > _LEVEL:
        return [
            f"Within groups and between them the coefficients do not differ by more than chance ({p}): the random "
            "intercept model, which makes one coefficient of the two, mixes nothing that should be kept apart."
        ]
    clear = told[told["p_value"] <= _LEVEL]
    most = (clear if len(clear) else told).sort_values("p_value").head(3)
    each = "; ".join(f"{name}: {row['within']:.3g} within, {row['between']:.3g} between" for name, row in most.iterrows())
    return [
        f"Within groups and between them the coefficients differ ({p}; {each}). Least squares and the random intercept "
        "model mix the two. If the within coefficient is meant, use WithinOLS, or add the group means of these columns as "
        "columns of the random intercept model, whose coefficients are then the differences."
    ]


def _on_robust_errors(c: Comparison) -> str:
    """Return whether cluster-robust standard errors would do."""
    error, mixed_error = _of(c, ROBUST, "std_error"), _of(c, MIXED, "std_error")
    shift = ((_of(c, OLS, "estimate") - _of(c, MIXED, "estimate")).abs() / mixed_error).dropna()
    relative = (error / mixed_error).replace(np.inf, np.nan).dropna()
    if shift.empty or relative.empty:
        return "Nothing is left to chance here: whether cluster-robust standard errors would do is no question."
    moved, least_df = str(shift.idxmax()), _of(c, ROBUST, "df").min()
    mixed = c.within_between_test["p_value"] <= _LEVEL
    if shift[moved] <= _ESTIMATES_EQUAL:
        close = "the estimates are those of the random intercept model"
    elif shift[moved] <= _ESTIMATE_MATTERS:
        close = f"no estimate is more than {shift[moved]:.2g} standard errors from the random intercept model's"
    else:
        apart = f"{shift[moved]:.1f} standard errors from the random intercept model's"
        close = f"the estimate of {moved} is {apart}, which may be chance"
    if mixed and shift[moved] > _ESTIMATE_MATTERS:
        verdict = (
            "Cluster-robust standard errors alone would not do: they mend the standard errors, not the estimates. Least "
            "squares and the random intercept model mix what is within and what is between groups in different proportions, "
            f"which sets their estimates of {moved} {shift[moved]:.1f} standard errors apart"
        )
    elif least_df < _ENOUGH_DF:
        verdict = (
            f"If only the coefficients matter, {close}, and least squares with cluster-robust standard errors could do; but "
            f"from {c.n_groups} groups those standard errors are uncertain ({least_df:.1f} degrees of freedom at the least)"
        )
    else:
        verdict = (
            f"If only the coefficients matter, least squares with cluster-robust standard errors would do: {close}, and the "
            f"standard errors rest on {least_df:.0f} degrees of freedom or more"
        )
    low, high = relative.min(), relative.max()
    span = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    doubt = ""
    if high > _SE_DOUBT:
        doubt = (
            f" That of {relative.idxmax()!s} is so much larger because least squares waste information, or because the "
            "effect differs from group to group, which a random intercept does not allow for."
        )
    return f"{verdict}. The cluster-robust standard errors are {span} times those of the random intercept model.{doubt}"


def _on_predictions(c: Comparison) -> str:
    """Return whether the multilevel model predicts better."""
    known, new = (c.predictions.xs(kind)["rmse"].to_dict() for kind in ("known", "new"))
    digits = decimals(known[MIXED])
    gain, gain_new = 1 - known[MIXED] / known[OLS], 1 - new[MIXED] / new[OLS]
    figures = f"{known[MIXED]:.{digits}f} against {known[OLS]:.{digits}f} by least squares"
    if gain > _ERROR_MATTERS:
        beside = 1 - known[MIXED] / known[WITHIN]
        little, dummies = "" if gain > _ERROR_MATTERS_MUCH else " a little", ""
        if beside > _ERROR_MATTERS:
            dummies = f", and {beside:.0%} less than with an unshrunken intercept for each group"
        first = (
            f"The multilevel model pays{little} where other rows of these groups are to be predicted, since it knows their "
            f"levels: the typical error is {figures}, {gain:.0%} less{dummies}."
        )
    elif gain < -_ERROR_MATTERS:
        first = f"The multilevel model does not pay in prediction, even for rows of these groups: the errors are {figures}."
    else:
        first = f"For rows of these groups the multilevel model predicts hardly better than least squares: {figures}."
    figures = f"{new[MIXED]:.{digits}f} against {new[OLS]:.{digits}f}"
    if gain_new > _ERROR_MATTERS:
        return f"{first} For new groups its error is {gain_new:.0%} less ({figures}), by its better coefficients."
    if gain_new < -_ERROR_MATTERS:
        return f"{first} For new groups its error is {-gain_new:.0%} more ({figures})."
    return f"{first} For new groups, whose levels nobody knows, it predicts as least squares do ({figures})."


# ---- the report


def _report(c: Comparison) -> Report:
    """Return the comparison as a report."""
    digits = decimals(c.predictions["rmse"].min())
    return Report(
        title=f"Random intercept model and least squares: {c.n_samples} rows in {c.n_groups} groups",
        facts=[
            f"ICC {c.icc:.3f} ({c.residual_icc:.3f} given the predictors), design effect {c.design_effect:.2f}, "
            f"effective sample size {c.effective_sample_size:.0f}",
            f"Test of no group variance, given the predictors: {_f_text(c.group_test)}",
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


def _coefficient_rows(c: Comparison) -> Table:
    """Return the coefficients as strings, with the digits that their standard errors deserve."""
    labels, cells = [], []
    for name in c.coefficients.index.unique("coefficient"):
        rows = c.coefficients.loc[name]
        digits = decimals(rows["std_error"].min())
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


def _within_between_rows(c: Comparison) -> list[Table]:
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
        else "The group means of these columns do not vary, so that there is nothing to compare."
    )
    columns = ("within", "between", "difference", "std. error", "df", "p-value")
    return [Table("The same coefficients within and between groups", columns, labels, cells, note)]


def _prediction_rows(c: Comparison, digits: int) -> Table:
    """Return errors of prediction as strings; predictions do not depend on how standard errors are computed."""
    names = {OLS: "OLS", WITHIN: WITHIN, MIXED: MIXED}
    cells: Sequence[Sequence[str]] = [
        [
            number_text(c.predictions.xs(kind)[column].to_dict()[model], places)
            for kind in ("known", "new")
            for column, places in (("rmse", digits), ("r2", 3))
        ]
        for model in names
    ]
    title = f"Predictions, cross-validated ({c.n_folds} folds), of new rows in known groups and of new groups"
    columns = ("known: RMSE", "R^2", "new: RMSE", "R^2")
    return Table(title, columns, [(name,) for name in names.values()], cells)
