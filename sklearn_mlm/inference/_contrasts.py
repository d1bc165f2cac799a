"""Tests of contrasts and of terms: combinations of the fixed effects, and groups of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import check_choice, check_level
from .._tables import Statistics
from .._typing import DegreesOfFreedom, FittedModel, MixedFit
from ..likelihood._random_terms import INTERCEPT
from ._distributions import f_test, half_width, two_sided_p_values
from ._fits import mixed_fit_of
from ._fixed_effects import joint_test, variances_and_df
from ._hypotheses import Hypotheses, hypotheses_of

Contrasts = str | Mapping[str, Any] | Sequence[Any] | ArrayLike | pd.DataFrame

_NO_VARIANCE = (
    "A row of L, or a combination of its rows, has no variance: it weighs columns that were dropped, or the model has no "
    "residual."
)


@overload
def contrast_test(
    model: FittedModel, L: Contrasts, *, ddf: DegreesOfFreedom = ..., joint: Literal[True] = ..., level: float = ...
) -> pd.Series: ...
@overload
def contrast_test(
    model: FittedModel, L: Contrasts, *, ddf: DegreesOfFreedom = ..., joint: bool, level: float = ...
) -> pd.Series | pd.DataFrame: ...
def contrast_test(
    model: FittedModel,
    L: Contrasts,
    *,
    ddf: DegreesOfFreedom = "satterthwaite",
    joint: bool = True,
    level: float = 0.95,
) -> pd.Series | pd.DataFrame:
    """Test linear combinations of the fixed effects, against 0 or another value.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    L : str, dict, list of them, array-like of shape (k,) or (n_contrasts, k), or data frame
        The combinations, in one of these forms:

        - an expression of the coefficients' names, such as "B - C", "(B + C) / 2 = A" or "x = 2". A name that is not a plain
          word may be put in backticks; "(Intercept)" is the intercept;
        - weights by name, such as ``{"B": 1, "C": -1}``;
        - a list of expressions or of weights by name, or a dictionary of them by label;
        - weights of all fixed effects, the intercept first if the model has one, or a matrix with a row for each contrast;
        - a data frame with a row for each contrast and columns that are names of coefficients, or a series with such an
          index; what is not mentioned, or NaN, has no weight.

    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
        Denominator degrees of freedom.
    joint : bool, default=True
        Whether several contrasts are tested together, by an F test. False tests each by itself, without any adjustment of
        the p-values for their number.
    level : float, default=0.95
        Confidence level of the interval of each contrast.

    Returns
    -------
    test : pandas.Series or pandas.DataFrame
        For one contrast "estimate", "std_error", "df", "t", "p_value" (two-sided), "ci_lower" and "ci_upper". For several
        "F", "df1", "df2" and "p_value"; rows that depend on earlier ones are left out. With ``joint=False`` a data frame
        with a row for each contrast, and the columns of one contrast. If a value other than 0 is tested, "null" follows
        "estimate". The series prints each figure with digits that suit it.

    Raises
    ------
    ValueError
        If `L` names an unknown coefficient, cannot be read, is not linear, has the wrong number of columns, is not finite or
        all 0, if a contrast has no variance, or if contrasts that depend on each other are given values that contradict each
        other; and as in `fixed_effects`.
    TypeError
        If `L` is none of these forms.

    References
    ----------
    For several contrasts: Fai and Cornelius (1996) with Satterthwaite's df, as in lmerTest; Kenward and Roger (1997), who
    scale F, as in pbkrtest.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import contrast_test
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> contrast_test(model, "(Intercept) + 5 * days")
    (Intercept) + 5 * days
    estimate   303.742
    std_error    9.059
    df            17.1
    t            33.53
    p_value     <0.001
    ci_lower   284.635
    ci_upper   322.848
    >>> contrast_test(model, ["(Intercept) = 250", "days = 10"])[["F", "df1", "df2", "p_value"]].round(3).tolist()
    [0.244, 2.0, 39.266, 0.785]
    """
    fit = mixed_fit_of(model)
    check_choice("ddf", ddf, get_args(DegreesOfFreedom))
    check_level(level)
    given = hypotheses_of(L, fit.names)
    if not joint:
        return _table(fit, ddf, given, level)
    kept = _independent(fit, given)
    if len(kept.labels) == 1:
        return Statistics(_table(fit, ddf, kept, level).iloc[0], name=kept.labels[0])
    return _joint(fit, ddf, kept)


def term_tests(
    model: FittedModel,
    terms: Mapping[str, str | Sequence[str] | ArrayLike] | None = None,
    *,
    ddf: DegreesOfFreedom = "satterthwaite",
) -> pd.DataFrame:
    """Test terms of the model, each of which may have several columns, against coefficients of 0.

    This is the F test that a factor needs: its dummy columns are tested together. With columns coded as contrasts that sum
    to 0, these are lmerTest's type III tests.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.
    terms : dict, default=None
        For each term the names of its columns, such as ``{"machine": ["machine_B", "machine_C"]}``, or contrasts in one of
        the forms that `contrast_test` takes. None tests each column but the intercept by itself.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
        Denominator degrees of freedom.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by term, with the columns "F", "df1", "df2" and "p_value". Columns that were dropped because they depend on
        others do not count; a term without others is NaN.

    Raises
    ------
    ValueError
        As in `contrast_test`.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import make_schools
    >>> from sklearn_mlm.inference import term_tests
    >>> X, math, school = make_schools(50, 2_000, random_state=0, return_X_y_groups=True, as_frame=True)
    >>> X["band"] = (X["ses"] // 1).clip(-1, 1)
    >>> dummies = X.assign(middle=X["band"] == 0, high=X["band"] == 1).drop(columns="band").astype(float)
    >>> model = RandomInterceptRegressor().fit(dummies, math, groups=school)
    >>> term_tests(model, {"ses": ["ses"], "band": ["middle", "high"]})[["df1"]]
          df1
    term
    ses   1.0
    band  2.0
    """
    fit = mixed_fit_of(model)
    check_choice("ddf", ddf, get_args(DegreesOfFreedom))
    if terms is None:
        terms = {name: [f"`{name}`"] for name in fit.names if name != INTERCEPT}
    if not isinstance(terms, Mapping):
        raise TypeError(
            "terms must be a dictionary with the names of each term's columns, such as "
            f"{{'machine': ['machine_B', 'machine_C']}}; found {type(terms).__name__}."
        )
    dropped = {fit.names[i] for i in fit.dropped}
    tests = {}
    for term, given in terms.items():
        columns: Any = [given] if isinstance(given, str) else given
        if isinstance(columns, pd.Index | np.ndarray):
            columns = columns.tolist()
        if isinstance(columns, Sequence) and all(isinstance(one, str) for one in columns):
            columns = [one for one in columns if one.strip("`") not in dropped]
        left = not isinstance(columns, Sequence) or len(columns) > 0
        tests[term] = (
            _joint(fit, ddf, _independent(fit, hypotheses_of(columns, fit.names))) if left else f_test(np.nan, 0.0, np.nan)
        )
    columns = ["F", "df1", "df2", "p_value"]
    return pd.DataFrame([tests[term] for term in tests], columns=columns, index=pd.Index(list(tests), name="term"))


def _table(fit: MixedFit, ddf: DegreesOfFreedom, given: Hypotheses, level: float) -> pd.DataFrame:
    """Return the test of each hypothesis by itself."""
    rows = []
    for weights, value in zip(given.weights, given.nulls, strict=True):
        size = _size(weights)
        (variance,), (df,) = variances_and_df(fit, ddf, weights[None, :] / size)
        if not variance > 0:
            raise ValueError(_NO_VARIANCE)
        estimate, error = float(weights / size @ fit.coefficients) * size, float(np.sqrt(variance)) * size
        t, half = (estimate - value) / error, float(half_width(level, error, df))
        p_value = float(two_sided_p_values(t, df))
        rows.append([estimate, value, error, df, t, p_value, estimate - half, estimate + half])
    columns = ["estimate", "null", "std_error", "df", "t", "p_value", "ci_lower", "ci_upper"]
    table = pd.DataFrame(rows, columns=columns, index=pd.Index(given.labels, name="contrast"))
    return table if given.nulls.any() else table.drop(columns="null")


def _joint(fit: MixedFit, ddf: DegreesOfFreedom, given: Hypotheses) -> pd.Series:
    """Return the F test of independent hypotheses."""
    size = _size(given.weights)
    test = joint_test(fit, ddf, given.weights / size, given.nulls / size)
    if test is None:
        raise ValueError(_NO_VARIANCE)
    statistic, df, _ = test
    return f_test(statistic, float(len(given.nulls)), df)


def _size(weights: np.ndarray) -> float:
    """Return a power of 2 near the largest weight. Weights are divided by it, so that squares neither overflow nor vanish.

    All rows of a joint test share it because Satterthwaite's df for several contrasts, like lmerTest's, depend on the
    relative lengths of the rows; a power of 2 changes no digit.
    """
    return float(np.ldexp(1.0, np.frexp(np.abs(weights).max())[1] - 1))


def _independent(fit: MixedFit, given: Hypotheses) -> Hypotheses:
    """Return the hypotheses without those that depend on earlier ones; raise if these contradict the others."""
    kept = independent_rows(given.weights, fit)
    if len(kept) < len(given.labels) and given.nulls.any():
        share = np.linalg.lstsq(given.weights[kept].T, given.weights.T, rcond=None)[0]
        apart = np.abs(given.nulls - given.nulls[kept] @ share)
        if (apart > 1e-8 * (np.abs(given.nulls[kept]) @ np.abs(share) + np.abs(given.nulls))).any():
            raise ValueError("The hypotheses contradict each other: one depends on the others, but not in its value.")
    return Hypotheses(given.weights[kept], given.nulls[kept], [given.labels[at] for at in kept])


def independent_rows(weights: np.ndarray, fit: MixedFit) -> list[int]:
    """Return the positions of the rows of a matrix of contrasts that do not depend on those before them.

    The weights of each coefficient are measured in its standard errors, so that the rank does not depend on units. The rows
    themselves are orthogonalised, because their products, which `independent_columns` takes, hold half the digits.
    """
    contrasts, errors = weights / _size(weights), np.sqrt(fit.covariance.diagonal())
    largest = np.abs(contrasts).max(axis=0)
    scaled = contrasts * np.where(errors > 0, errors, 1.0 / np.where(largest > 0, largest, 1.0))
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    scaled /= np.where(length > 0, length, 1.0)
    kept: list[int] = []
    axes = np.zeros((0, scaled.shape[1]))
    for at, row in enumerate(scaled):
        rest = row - axes.T @ (axes @ row)
        rest -= axes.T @ (axes @ rest)
        size = float(np.linalg.norm(rest))
        if size > 1e-10:
            kept.append(at)
            axes = np.vstack([axes, rest / size])
    return kept
