"""`lmer`: a model from a formula and data, in one call."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from .._typing import NewGroups, Solver
from ._regressor import FormulaRegressor, fit_named
from ._rows_of_fit import MissingRows


def lmer(
    formula: str,
    data: Any,
    *,
    REML: bool = True,
    weights: str | ArrayLike | None = None,
    na_action: MissingRows = "drop",
    contrasts: Mapping[str, Any] | None = None,
    new_groups: NewGroups = "population",
    solver: Solver = "direct",
) -> FormulaRegressor:
    """Fit a linear mixed model to the columns of a data frame that a formula names, as R's lmer does.

    Parameters
    ----------
    formula : str
        The formula, such as "y ~ x + (1 | group)", in the language that `FormulaRegressor` describes.
    data : data frame of shape (n_samples, n_columns)
        A frame of pandas, polars or pyarrow, or a dictionary of columns.
    REML : bool, default=True
        Restricted maximum likelihood; False for maximum likelihood.
    weights : str or array-like of shape (n_samples,), default=None
        Row weights, or the name of their column. As in lme4 they are precisions: the residual variance of a row is sigma2
        divided by its weight.
    na_action : {"drop", "raise"}, default="drop"
        Whether rows with a missing value in a column of the model are dropped, as in R, or a ValueError is raised.
    contrasts : dict, default=None
        Contrasts of factors by name, such as ``{"machine": "contr.sum"}`` or ``{"machine": "contr.treatment('B')"}``.
    new_groups : {"population", "error", "nan"}, default="population"
        How `predict` treats a group that the data do not have.
    solver : {"direct", "iterative"}, default="direct"
        How a model of several grouping factors is computed, as in `MixedEffectsRegressor`.

    Returns
    -------
    model : FormulaRegressor
        The fitted model.

    Raises
    ------
    ValueError, NotImplementedError, TypeError, ImportError
        As `FormulaRegressor.fit` does.

    See Also
    --------
    FormulaRegressor : The estimator, for cross-validation and grid search.

    Examples
    --------
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.formula import lmer
    >>> sleepstudy = load_sleepstudy(as_frame=True).frame
    >>> lmer("reaction ~ days + (1 | subject)", sleepstudy).summary()
    Random intercept model fitted by REML
    Formula reaction ~ days + (1 | subject), data sleepstudy
    REML criterion at convergence 1786.5, log-likelihood -893.23 (4 parameters), AIC 1794.5, BIC 1807.2
    Number of observations 180, groups (subject) 18
    <BLANKLINE>
    Scaled residuals
          Min       1Q  Median      3Q     Max
      -3.2257  -0.5529  0.0109  0.5188  4.2506
    <BLANKLINE>
    Variance components
                         variance  std. dev.
    subject (Intercept)      1378      37.12
    residual                960.5      30.99
    Intraclass correlation 0.589
    <BLANKLINE>
    Fixed effects (Satterthwaite's degrees of freedom)
                 estimate  std. error    df      t  p-value
    (Intercept)   251.405       9.747  22.8  25.79   <0.001  ***
    days          10.4673      0.8042   161  13.02   <0.001  ***
    p < 0.001 ***, < 0.01 **, < 0.05 *, < 0.1 .
    """
    if not isinstance(REML, bool):
        raise ValueError(f"REML must be True or False; found {REML!r}.")
    model = FormulaRegressor(
        formula,
        method="reml" if REML else "ml",
        contrasts=contrasts,
        na_action=na_action,
        new_groups=new_groups,
        solver=solver,
        weight_type="precision",
    )
    return fit_named(model, data, weights, _name_in(sys._getframe(1), data))


def _name_in(frame: Any, data: Any) -> str | None:
    """Return the name of a variable of the caller that holds the data; None if no variable does."""
    variables = {**frame.f_globals, **frame.f_locals}
    return next((name for name, value in variables.items() if value is data and not name.startswith("_")), None)
