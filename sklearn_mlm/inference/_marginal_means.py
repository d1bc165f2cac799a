"""Estimated marginal means and trends of a model with a formula, and comparisons of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, get_args

import numpy as np
import pandas as pd

from .._inputs import check_choice, check_level, warn_caller
from .._tables import text_of_level
from .._typing import DegreesOfFreedom, FittedModel, GroupedFit
from ._annotated_table import DDF_NAMES, AnnotatedTable
from ._distributions import half_width
from ._estimability import not_estimable
from ._fits import formula_fit_of
from ._fixed_effects import variances_and_df
from ._hypotheses import hypotheses_of
from ._multiplicity import Adjustment, adjusted_half_widths, adjusted_p_values
from ._reference_grid import CellWeights, ReferenceGrid

_OF_MEANS = ("estimate", "std_error", "df", "ci_lower", "ci_upper")
_OF_COMPARISONS = ("contrast", "t", "p_value")
_ADJUSTED = {
    "tukey": "P-values adjusted by Tukey's method for a family of {} {}s.",
    "holm": "P-values adjusted by Holm's method for {} comparisons, intervals by Bonferroni's.",
    "bonferroni": "P-values adjusted by Bonferroni's method for {} comparisons.",
    "sidak": "P-values adjusted by Sidak's method for {} comparisons.",
    "fdr": "P-values adjusted by the false discovery rate for {} comparisons, intervals by Bonferroni's method.",
}


@dataclass(frozen=True, eq=False)
class _Combinations:
    """Stores linear combinations of the fixed effects, one for each row of a table."""

    fit: GroupedFit
    ddf: DegreesOfFreedom
    level: float
    labels: pd.DataFrame
    by: tuple[str, ...]
    weights: np.ndarray
    offset: np.ndarray
    notes: tuple[str, ...]
    what: str

    def estimates(self, weights: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return estimates, standard errors and degrees of freedom; NaN for what cannot be estimated."""
        lost, known = not_estimable(self.fit, weights), ~weights.any(axis=1)
        estimates, errors, df = (np.full(len(weights), np.nan) for _ in range(3))
        # Nothing of what does not depend on the fixed effects is estimated.
        estimates[known], errors[known] = 0.0, 0.0
        asked = ~lost & ~known
        if asked.any():
            variances, df[asked] = variances_and_df(self.fit, self.ddf, weights[asked])
            estimates[asked], errors[asked] = weights[asked] @ self.fit.coefficients, np.sqrt(variances)
        return estimates + offset, errors, df

    def families(self) -> list[tuple[tuple[Any, ...], np.ndarray]]:
        """Return the levels of the factors `by`, and the rows that have them."""
        if not self.by:
            return [((), np.arange(len(self.labels)))]
        keys = pd.MultiIndex.from_frame(self.labels[list(self.by)].astype(object))
        codes, found = pd.factorize(keys)
        return [(tuple(key), np.flatnonzero(codes == at)) for at, key in enumerate(found)]

    def names(self, rows: np.ndarray) -> list[str]:
        """Return what the combinations in some rows are called: their levels."""
        shown = [name for name in self.labels if name not in self.by]
        return [" ".join(text_of_level(self.labels[name].iloc[row]) for name in shown) for row in rows]


class MarginalMeans(AnnotatedTable):
    """A data frame of estimated marginal means or trends, which can be compared.

    `estimated_marginal_means` and `estimated_trends` make it. What pandas makes of it, such as a part of its rows, is an
    ordinary data frame.
    """

    _combinations: _Combinations

    def pairs(self, adjust: Adjustment = "tukey") -> AnnotatedTable:
        """Compare all pairs, within each combination of the levels of the factors `by`.

        Parameters
        ----------
        adjust : {"tukey", "holm", "bonferroni", "sidak", "fdr", "none"}, default="tukey"
            How the p-values allow for the number of comparisons. The intervals are adjusted too; those of "holm" and "fdr"
            are Bonferroni's.

        Returns
        -------
        table : pandas.DataFrame
            The columns of the factors `by`, "contrast" (such as "A - B"), "estimate", "std_error", "df", "t", "p_value",
            "ci_lower" and "ci_upper". NaN if a mean cannot be estimated.

        Raises
        ------
        ValueError
            If `adjust` is unknown, or there is only one mean to compare.

        References
        ----------
        C. Y. Kramer (1956), "Extension of multiple range tests to group means with unequal numbers of replications",
        Biometrics 12(3), 307-310, for Tukey's method with unequal standard errors.
        """
        here = self._combinations
        families = here.families()
        if max(len(rows) for _, rows in families) < 2:
            raise ValueError("There is one mean in each family, and so no pair to compare: name fewer factors in by.")
        given = []
        for key, rows in families:
            names = here.names(rows)
            pairs = list(combinations(range(len(rows)), 2))
            weights = np.zeros((len(pairs), len(here.labels)))
            for at, (i, j) in enumerate(pairs):
                weights[at, rows[i]], weights[at, rows[j]] = 1.0, -1.0
            given.append((key, [f"{names[i]} - {names[j]}" for i, j in pairs], weights, len(rows)))
        return _comparison(here, given, adjust)

    def contrasts(self, L: Any, adjust: Adjustment = "none") -> AnnotatedTable:
        """Test linear combinations, within each combination of the levels of the factors `by`.

        Parameters
        ----------
        L : str, dict, list of them, or array-like of shape (n_means,) or (n_contrasts, n_means)
            The combinations, in the forms that `contrast_test` takes, of the means of one family by the names of their
            levels, such as "C - (A + B) / 2"; names of several factors are joined by spaces and stand between backticks,
            such as "`A low` - `B low`".
        adjust : {"none", "holm", "bonferroni", "sidak", "fdr"}, default="none"
            How the p-values allow for the number of combinations.

        Returns
        -------
        table : pandas.DataFrame
            With the columns of `pairs`.

        Raises
        ------
        ValueError
            If `L` cannot be read, or `adjust` is unknown.
        """
        here = self._combinations
        if adjust == "tukey":
            raise ValueError('adjust="tukey" is for all pairs of means: use pairs(), or another adjustment for contrasts.')
        given = []
        for key, rows in here.families():
            hypotheses = hypotheses_of(L, here.names(rows))
            if hypotheses.nulls.any():
                raise ValueError("Contrasts of means are tested against 0: leave out the other side of '='.")
            weights = np.zeros((len(hypotheses.labels), len(here.labels)))
            weights[:, rows] = hypotheses.weights
            given.append((key, hypotheses.labels, weights, len(rows)))
        return _comparison(here, given, adjust)


def estimated_marginal_means(
    model: FittedModel,
    factors: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: CellWeights = "equal",
    ddf: DegreesOfFreedom = "kenward_roger",
    level: float = 0.95,
) -> MarginalMeans:
    """Return the means of the levels of factors that the fixed part of a model gives, as emmeans does.

    The model's mean is computed for each combination of the levels of all factors, with numbers at their means over the rows
    of the fit (log(x) at the logarithm of the mean of x), and averaged over the factors that are not named.

    Parameters
    ----------
    model : FormulaRegressor
        A fitted model with a formula.
    factors : str or sequence of str
        The factors whose means are wanted: for two, the mean of each combination of their levels.
    by : str or sequence of str, default=None
        Further factors, within whose levels the means are compared by `pairs` and `contrasts`.
    at : dict, default=None
        Values for columns other than the means: a number, or a list of levels or, for a column among `factors`, of numbers.
    weights : {"equal", "proportional"}, default="equal"
        Whether the levels of the other factors count alike, or as their combinations are frequent in the rows of the fit.
    ddf : {"kenward_roger", "satterthwaite", "residual", "normal"}, default="kenward_roger"
        Degrees of freedom, and with Kenward and Roger's also their standard errors. They need a model fitted by REML.
    level : float, default=0.95
        Confidence level of the intervals.

    Returns
    -------
    means : MarginalMeans
        A data frame with a column for each factor, and "estimate", "std_error", "df", "ci_lower" and "ci_upper", in units of
        the outcome; the levels of the first factor change fastest. Its methods `pairs` and `contrasts` compare the means. A
        mean that the data do not determine, because a cell has no rows, is NaN, with a warning.

    Raises
    ------
    TypeError
        If the model has no formula.
    ValueError
        If a name, a level or an option is unknown; or as in `fixed_effects`.

    See Also
    --------
    estimated_trends : Slopes instead of means.
    predict_interval : Predictions for given rows.

    References
    ----------
    S. R. Searle, F. M. Speed and G. A. Milliken (1980), "Population marginal means in the linear model: an alternative to
    least squares means", The American Statistician 34(4), 216-221.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.formula import lmer
    >>> from sklearn_mlm.inference import estimated_marginal_means
    >>> sleepstudy = load_sleepstudy(as_frame=True).frame
    >>> sleepstudy["phase"] = pd.cut(sleepstudy["days"], [-1, 1, 5, 9], labels=["before", "early", "late"], ordered=False)
    >>> model = lmer("reaction ~ phase + (1 | subject)", sleepstudy)
    >>> means = estimated_marginal_means(model, "phase")
    >>> means
    phase   estimate  std_error    df  ci_lower  ci_upper
    before    260.57      10.38  29.1    239.36    281.79
    early    286.380      9.568  21.2   266.494   306.267
    late     329.602      9.568  21.2   309.716   349.489
    95% intervals, Kenward and Roger's degrees of freedom.
    >>> means.pairs()
    contrast        estimate  std_error   df      t  p_value  ci_lower  ci_upper
    before - early   -25.807      6.947  160  -3.71    0.001   -42.242    -9.372
    before - late    -69.029      6.947  160  -9.94   <0.001   -85.464   -52.594
    early - late     -43.222      5.672  160  -7.62   <0.001   -56.641   -29.803
    95% intervals, Kenward and Roger's degrees of freedom.
    P-values adjusted by Tukey's method for a family of 3 means.
    >>> means.contrasts("late - (before + early) / 2")["estimate"].round(1).tolist()
    [56.1]
    """
    grid, by_columns, fit = _grid(model, factors, by, at, weights, ddf, level, "estimated_marginal_means")
    rows, offset = grid.rows()
    return _means(fit, grid, by_columns, rows, offset, ddf, level, grid.notes(), "mean")


def estimated_trends(
    model: FittedModel,
    factors: str | Sequence[str],
    variable: str,
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: CellWeights = "equal",
    ddf: DegreesOfFreedom = "kenward_roger",
    level: float = 0.95,
) -> MarginalMeans:
    """Return the slope of a column of numbers in each level of factors, as emtrends does.

    The slope is the derivative of the model's mean by the column, at the value at which it is held: its mean over the rows
    of the fit, or the one in `at`.

    Parameters
    ----------
    model : FormulaRegressor
        A fitted model with a formula.
    factors : str or sequence of str
        The factors in whose levels the slopes are wanted; an empty list for the slope averaged over all factors.
    variable : str
        The column, or a function of one column in the formula, such as "log(dose)", by whose value the slope is taken.
    by : str or sequence of str, default=None
        Further factors, within whose levels the slopes are compared.
    at : dict, default=None
        Values for columns other than the means.
    weights : {"equal", "proportional"}, default="equal"
        How other factors are averaged over.
    ddf : {"kenward_roger", "satterthwaite", "residual", "normal"}, default="kenward_roger"
        Degrees of freedom.
    level : float, default=0.95
        Confidence level of the intervals.

    Returns
    -------
    trends : MarginalMeans
        A data frame with the columns that `estimated_marginal_means` gives, in units of the outcome per unit of the
        variable, and the same methods.

    Raises
    ------
    TypeError
        If the model has no formula.
    ValueError
        If a name, a level or an option is unknown; or as in `fixed_effects`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.formula import lmer
    >>> from sklearn_mlm.inference import estimated_trends
    >>> sleepstudy = load_sleepstudy(as_frame=True).frame
    >>> sleepstudy["half"] = np.where(sleepstudy["days"] < 5, "first", "second")
    >>> model = lmer("reaction ~ days * half + (1 | subject)", sleepstudy)
    >>> estimated_trends(model, "half", "days")
    half    estimate  std_error   df  ci_lower  ci_upper
    first      8.249      2.317  159     3.673    12.825
    second    10.912      2.317  159     6.336    15.487
    Slopes by days.
    At days = 4.5.
    95% intervals, Kenward and Roger's degrees of freedom.
    """
    grid, by_columns, fit = _grid(model, factors, by, at, weights, ddf, level, "estimated_trends")
    rows, offset = grid.derivative(variable)
    return _means(
        fit, grid, by_columns, rows, offset, ddf, level, [f"Slopes by {variable}.", *grid.notes(variable)], "slope"
    )


def _grid(
    model: FittedModel,
    factors: str | Sequence[str],
    by: str | Sequence[str] | None,
    at: Mapping[str, Any] | None,
    weights: CellWeights,
    ddf: DegreesOfFreedom,
    level: float,
    function: str,
) -> tuple[ReferenceGrid, tuple[str, ...], GroupedFit]:
    """Return the grid of the named factors, the columns of those in `by`, and the fit."""
    fit, design = formula_fit_of(model, function)
    check_choice("ddf", ddf, get_args(DegreesOfFreedom))
    check_choice("weights", weights, get_args(CellWeights))
    check_level(level)
    if not isinstance(factors, str | Sequence):
        raise TypeError(f"factors must be a name or a list of names; found {factors!r}.")
    if not len(fit.names):
        raise ValueError("The model has no fixed effects, and so no means.")
    first = [factors] if isinstance(factors, str) else list(factors)
    within = [] if by is None else [by] if isinstance(by, str) else list(by)
    grid = ReferenceGrid(design, [*first, *within], {} if at is None else at, weights)
    _refuse_names(grid.names, _OF_MEANS)
    return grid, tuple(grid.names[len(first) :]), fit


def _refuse_names(factors: Sequence[str], columns: Sequence[str]) -> None:
    """Raise if a factor is called as a column of the table is."""
    clash = next((name for name in factors if name in columns), None)
    if clash is not None:
        raise ValueError(f"A factor is called {clash!r}, as a column of the table is: rename it in the data.")


def _means(
    fit: GroupedFit,
    grid: ReferenceGrid,
    by: tuple[str, ...],
    rows: np.ndarray,
    offset: np.ndarray,
    ddf: DegreesOfFreedom,
    level: float,
    notes: Sequence[str],
    what: str,
) -> MarginalMeans:
    """Return the table of the combinations that rows of the model matrix are."""
    notes = [*notes, f"{100 * level:g}% intervals, {DDF_NAMES[ddf]} degrees of freedom."]
    here = _Combinations(fit, ddf, level, grid.table, by, rows, offset, tuple(notes), what)
    estimates, errors, df = here.estimates(rows, offset)
    half = half_width(level, errors, df)
    table = MarginalMeans(
        grid.table.assign(estimate=estimates, std_error=errors, df=df, ci_lower=estimates - half, ci_upper=estimates + half)
    )
    lost = np.flatnonzero(np.isnan(estimates))
    if len(lost):
        names = [", ".join(f"{name} = {value}" for name, value in grid.table.iloc[row].items()) for row in lost[:5]]
        sentence = (
            f"{len(lost)} {what}(s) cannot be estimated, because cells without rows are part of them: {'; '.join(names)}"
            f"{' and more' if len(lost) > 5 else ''}."
        )
        warn_caller(sentence)
        notes.append(sentence)
    table._combinations = here
    return table.annotated(notes, grid.names)


def _comparison(
    here: _Combinations, given: Sequence[tuple[tuple[Any, ...], list[str], np.ndarray, int]], adjust: Adjustment
) -> AnnotatedTable:
    """Return the tests of combinations of means, adjusted within each family."""
    check_choice("adjust", adjust, get_args(Adjustment))
    _refuse_names(here.by, _OF_COMPARISONS)
    parts = []
    for key, labels, weights, n_means in given:
        estimates, errors, df = here.estimates(weights @ here.weights, weights @ here.offset)
        # A mean that cannot be estimated has no comparison, even where its unknown part cancels.
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.where(errors > 0, estimates / errors, np.nan)
        half = adjusted_half_widths(here.level, errors, df, adjust, n_means)
        part = pd.DataFrame({name: [value] * len(labels) for name, value in zip(here.by, key, strict=True)})
        parts.append(
            part.assign(
                contrast=labels,
                estimate=estimates,
                std_error=errors,
                df=df,
                t=t,
                p_value=adjusted_p_values(t, df, adjust, n_means),
                ci_lower=estimates - half,
                ci_upper=estimates + half,
            )
        )
    table = AnnotatedTable(pd.concat(parts, ignore_index=True))
    notes = list(here.notes)
    n_means, n_comparisons = given[0][3], len(given[0][1])
    if adjust != "none" and n_comparisons > 1:
        notes.append(_ADJUSTED[adjust].format(n_means if adjust == "tukey" else n_comparisons, here.what))
    return table.annotated(notes, [*here.by, "contrast"])
