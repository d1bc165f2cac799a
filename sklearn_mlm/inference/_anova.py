"""Analysis of variance of the terms of a formula, and the terms that can be dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from .._inputs import check_choice
from .._typing import DegreesOfFreedom, FittedModel, GroupedFit
from ._annotated_table import DDF_NAMES, AnnotatedTable
from ._contrasts import independent_rows
from ._distributions import f_test
from ._fits import formula_fit_of
from ._fixed_effects import joint_test
from ._model_comparison import likelihood_ratio_test
from ._term_hypotheses import TermHypotheses

AnovaType = Literal[1, 2, 3, "I", "II", "III", "1", "2", "3"]

_KINDS = {"I": 1, "II": 2, "III": 3, "1": 1, "2": 2, "3": 3}


def anova(
    model: FittedModel, *others: FittedModel, type: AnovaType = 3, ddf: DegreesOfFreedom = "satterthwaite"
) -> pd.DataFrame:
    """Test each term of a model with a formula by an F test, as lmerTest's anova does.

    Parameters
    ----------
    model : FormulaRegressor
        A fitted model with a formula.
    *others : FormulaRegressor
        Further models of the same rows. With them the table is that of `likelihood_ratio_test`, as in R.
    type : {3, 2, 1}, default=3
        Type of the hypotheses. None of them depends on the contrasts that code the factors.

        - 3: each term given all others. A term that is contained in others (the factor a in a:b) is tested at the mean of
          the levels of the other factors, each of which counts alike.
        - 2: each term given all others but those that contain it.
        - 1: each term given those before it, in the order of the table.

        A factor is not contained in its product with numbers: in ``a * x``, all types test the differences between the
        levels of a at x = 0 (but type 1, which leaves out a:x), as in lmerTest. Centre x if another value is meant.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
        Denominator degrees of freedom.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by term, with the columns "sum_sq" (the sum of squares at which a test with the residual variance has the
        same statistic, in units of y squared), "F", "df1", "df2" and "p_value". NaN for a term without estimable
        coefficients. It prints with digits that suit it.

    Raises
    ------
    TypeError
        If the model has no formula.
    ValueError
        If `type` or `ddf` is unknown, or as in `fixed_effects`.

    See Also
    --------
    term_tests : Tests of groups of columns of any model.
    drop1 : Tests of the terms that can be left out.
    likelihood_ratio_test : Comparison of models.

    References
    ----------
    A. Kuznetsova, P. B. Brockhoff and R. H. B. Christensen (2017), "lmerTest package: tests in linear mixed effects models",
    Journal of Statistical Software 82(13).

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.formula import lmer
    >>> from sklearn_mlm.inference import anova
    >>> sleepstudy = load_sleepstudy(as_frame=True).frame
    >>> sleepstudy["phase"] = pd.cut(sleepstudy["days"], [-1, 1, 5, 9], labels=["before", "early", "late"], ordered=False)
    >>> model = lmer("reaction ~ phase + days + (1 | subject)", sleepstudy)
    >>> anova(model)
    term    sum_sq      F  df1  df2  p_value
    phase   2157.8   1.13    2  159    0.327
    days   32852.7  34.26    1  159   <0.001
    Type 3 tests, Satterthwaite's degrees of freedom.
    """
    if others:
        table = likelihood_ratio_test(model, *others)
        return AnnotatedTable(table).annotated(["Likelihood ratio tests, each with the model above, fitted by ML."])
    fit, design = formula_fit_of(model, "anova")
    if isinstance(type, bool) or str(type) not in _KINDS:
        raise ValueError(f"type must be 1, 2 or 3; found {type!r}.")
    check_choice("ddf", ddf, get_args(DegreesOfFreedom))
    kind = _KINDS[str(type)]
    return _table(fit, ddf, TermHypotheses(fit, design).of_type(kind), f"Type {kind} tests")


def drop1(model: FittedModel, *, ddf: DegreesOfFreedom = "satterthwaite") -> pd.DataFrame:
    """Test each term that can be left out of a model with a formula, as lmerTest's drop1 does.

    A term can be left out if no other term has all of its variables: of ``a * b`` only a:b.

    Parameters
    ----------
    model : FormulaRegressor
        A fitted model with a formula.
    ddf : {"satterthwaite", "kenward_roger", "residual", "normal"}, default="satterthwaite"
        Denominator degrees of freedom.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by term, with the columns of `anova`.

    Raises
    ------
    TypeError
        If the model has no formula.
    ValueError
        As in `fixed_effects`.

    Examples
    --------
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.formula import lmer
    >>> from sklearn_mlm.inference import drop1
    >>> sleepstudy = load_sleepstudy(as_frame=True).frame
    >>> model = lmer("reaction ~ days * I(days > 1) + (1 | subject)", sleepstudy)
    >>> drop1(model).index.tolist()
    ['days:I(days > 1)']
    """
    fit, design = formula_fit_of(model, "drop1")
    check_choice("ddf", ddf, get_args(DegreesOfFreedom))
    return _table(fit, ddf, TermHypotheses(fit, design).of_droppable_terms(), "Tests of terms that can be left out")


def _table(fit: GroupedFit, ddf: DegreesOfFreedom, hypotheses: Mapping[str, np.ndarray], what: str) -> AnnotatedTable:
    """Return the F test of each hypothesis."""
    rows: list[Any] = []
    for contrasts in hypotheses.values():
        contrasts = contrasts[independent_rows(contrasts, fit)] if len(contrasts) else contrasts
        test = joint_test(fit, ddf, contrasts) if len(contrasts) else None
        if test is None:
            rows.append([np.nan, *f_test(np.nan, float(len(contrasts)), np.nan)])
            continue
        statistic, df, factor = test
        of_squares = statistic / factor * len(contrasts) * fit.residual_variance
        rows.append([of_squares, *f_test(statistic, float(len(contrasts)), df)])
    columns = ["sum_sq", "F", "df1", "df2", "p_value"]
    table = AnnotatedTable(rows, columns=columns, index=pd.Index(list(hypotheses), name="term"), dtype=np.float64)
    return table.annotated([f"{what}, {DDF_NAMES[ddf]} degrees of freedom."])
