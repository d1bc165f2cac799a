"""Errors and warnings about the data of a fit: too few groups or rows, dropped columns, peculiar outcomes."""

from __future__ import annotations

from typing import cast

from sklearn.exceptions import ConvergenceWarning

from .._inputs import warn_caller
from ..likelihood._criterion import Criterion
from ..likelihood._factor_criterion import FactorCriterion
from ..likelihood._factor_fit import FactorFit
from ..likelihood._identification import unidentified
from ..likelihood._mixed_criterion import MixedCriterion
from ..likelihood._mixed_optimum import Outcome
from ..likelihood._options import MixedOptions
from ..likelihood._random_effects_fit import RandomEffectsFit
from ..likelihood._random_terms import INTERCEPT
from ..moments._grouped_moments import GroupedMoments
from ._errors import TooLittleError
from ._factor_checks import check_factors, check_identified, warn_of_labels_that_look_nested

# A warning is raised if the residual variance has fewer digits than this.
_ENOUGH_DIGITS = 6.0
# Powers of a mean weight below this, or above its inverse, exceed the range of doubles.
_LEAST_WEIGHT = 1e-100
# A warning names no more columns than this.
_NAMED = 8


class DroppedColumnsWarning(UserWarning):
    """Warning that columns of X get the coefficient 0, because they depend on the columns before them or are constant.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_mlm import DroppedColumnsWarning, RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DroppedColumnsWarning)
    ...     model = RandomInterceptRegressor().fit(X.assign(hours=24 * X["days"]), y, groups=subject)
    >>> model.coef_.round(4)
    array([10.4673,  0.    ])
    """


def check_mixed(criterion: MixedCriterion | FactorCriterion, options: MixedOptions, grouped: bool) -> None:
    """Raise if there are too few rows or groups, or if the rows do not identify the variances."""
    if isinstance(criterion, FactorCriterion):
        check_factors(criterion, options)
        check_rows(criterion, grouped)
        if not criterion.coordinates.outcome_constant:
            check_identified(criterion, options)
        return
    moments = cast(GroupedMoments, criterion.moments)
    if grouped and options.coefficients != (INTERCEPT,):
        check_several_groups(moments)
    else:
        check_groups(moments, grouped, options.weight_type)
    check_rows(criterion, grouped)
    if not grouped or criterion.coordinates.outcome_constant:
        return
    if not criterion.n_random:
        names = ", ".join(map(repr, options.coefficients))
        raise ValueError(
            f"No coefficient can vary between groups: every column that random_effects names ({names}) is 0 in all rows, or "
            "rounding beside its values. Name another column, or let the intercept vary."
        )
    found = unidentified(criterion)
    if found is None:
        return
    at, residual = found
    kept = [block for block, term in zip(criterion.design.blocks, options.terms, strict=True) if term.coefficients and block]
    named = [str(options.terms[i]) for i in at if i < len(kept)]
    terms = " and ".join(named)
    if not named:
        reason = "the residual variance"
    elif residual:
        reason = f"the residual variance and the variances of {terms} cannot be told apart"
    elif len(named) > 1:
        reason = f"the variances of {terms} cannot be told apart"
    else:
        reason = f"different covariances of {terms} give y the same covariance"
    groups = options.terms[0].factor
    advice = ", or make them independent with ||" if any(len(block) > 1 for block in criterion.coordinates.blocks) else ""
    raise TooLittleError(
        f"The rows do not identify the variances: {reason}. The groups of {groups} have too few rows, or too few distinct "
        "values of the columns whose coefficients vary, or the fixed effects already determine the differences between "
        f"groups. Let fewer coefficients vary{advice}."
    )


def check_maximum(fit: RandomEffectsFit) -> None:
    """Raise a TooLittleError if the likelihood has no maximum."""
    if fit.has_no_maximum:
        raise TooLittleError(
            "The rows do not identify the variances: some covariance of the random coefficients leaves no residual, and the "
            "likelihood grows without bound as the residual variance goes to 0. There are too few rows for so many "
            "coefficients: let fewer of them vary, or fit more rows in each group."
        )


def warn_of_peculiar_mixed_data(fit: RandomEffectsFit, of_formula: bool = False) -> None:
    """Warn of dropped columns, of random coefficients left out, of a constant outcome, and of a search without an end."""
    warn_of_dropped_columns(fit.criterion, of_formula)
    here, names = fit.criterion.coordinates, fit.options.coefficients
    if here.dropped_random:
        left_out = [names[at] for at in here.dropped_random]
        warn_caller(
            f"The random coefficient(s) {', '.join(left_out)} of {fit.group_name} are left out, with variance 0: in every "
            "group their columns depend on those of the coefficients before them. Name fewer columns in random_effects.",
            DroppedColumnsWarning,
        )
    if here.outcome_constant:
        warn_caller("y is constant: all variances are 0.")
    if isinstance(fit, FactorFit):
        warn_of_labels_that_look_nested(fit.scatter.cells, fit.options)
    if here.outcome_constant:
        return
    if fit.optimum.trials and fit.optimum.best.outcome is not Outcome.MINIMUM:
        warn_caller(
            f"The search for the optimum ended with {fit.optimum.best.outcome.value}. Rescale the columns, or let fewer "
            "coefficients vary; fit_.optimum.trials tells what was tried.",
            ConvergenceWarning,
        )


def warn_of_dropped_columns(criterion: Criterion | MixedCriterion | FactorCriterion, of_formula: bool = False) -> None:
    """Warn of columns that depend on those before them, by name; those of a formula are not columns that a user has made."""
    dropped = [criterion.moments.shown_names[i] for i in criterion.coordinates.dropped]
    more = f" and {len(dropped) - _NAMED} more" if len(dropped) > _NAMED else ""
    if dropped and of_formula:
        warn_caller(
            f"{len(dropped)} coefficient(s) cannot be estimated and are 0, because their columns depend on the columns "
            f"before them: {', '.join(dropped[:_NAMED])}{more}. A combination of levels has no rows, a column is constant, "
            "or two say the same. What depends on them is NaN in tables and predictions.",
            DroppedColumnsWarning,
        )
    elif dropped:
        warn_caller(
            f"{len(dropped)} redundant column(s) of X get the coefficient 0. They depend on the columns before them or are "
            f"constant: {', '.join(dropped[:_NAMED])}{more}. Predictions are not affected. Of dummy columns, "
            'OneHotEncoder(drop="first") or pd.get_dummies(drop_first=True) leaves out the redundant one; drop other such '
            "columns to silence this warning.",
            DroppedColumnsWarning,
        )


def check_groups(moments: GroupedMoments, grouped: bool, weight_type: str, note: str = "") -> None:
    """Raise if the groups or weights cannot identify tau2 and sigma2; `note` names a further possible reason."""
    if moments.n_groups == 0:
        raise TooLittleError("The moments hold no rows: found n_samples=0. Read some rows into them first.")
    if grouped:
        check_several_groups(moments)
    mean_weight = float(moments.counts.sum() / moments.n_rows.sum())
    if not _LEAST_WEIGHT < mean_weight < 1.0 / _LEAST_WEIGHT:
        raise ValueError(
            f"sample_weight has the mean {mean_weight:g}, whose powers exceed the range of doubles. Divide the weights by "
            'their mean; with weight_type="precision", this divides sigma2 by the mean too.'
        )
    copies = weight_type == "frequency" and moments.counts.max() > 1
    if grouped and moments.n_rows.max() == 1 and not copies:
        raise TooLittleError(
            f"Every one of the {moments.n_groups} groups is a single row: the group variance and the residual variance are "
            "only identified by rows that share a group. Check that groups holds labels of groups, not of rows." + note
        )


def check_several_groups(moments: GroupedMoments) -> None:
    """Raise unless there are at least two groups."""
    if moments.n_groups == 0:
        raise TooLittleError("The moments hold no rows: found n_samples=0. Read some rows into them first.")
    if moments.n_groups < 2:
        raise TooLittleError(
            f"groups holds one group only ({moments.labels.tolist()[0]!r}), which does not show how much groups vary. "
            "Fit at least two groups, or use LinearRegression if the rows have no groups."
        )


def check_rows(criterion: Criterion | MixedCriterion | FactorCriterion, grouped: bool) -> None:
    """Raise unless there are more rows than fixed effects."""
    n_rows, total_weight = float(criterion.moments.n_rows.sum()), float(criterion.moments.counts.sum())
    # Without groups the fit is least squares, which does not depend on the type of the weights: take the larger number.
    found = criterion.n_observations if grouped else max(n_rows, total_weight)
    if found <= criterion.rank:
        copies = (
            f" The weights of the {n_rows:g} rows sum to {total_weight:g}, the number of copies that they stand for. If "
            'weights are not numbers of copies, set weight_type="precision".'
        )
        raise TooLittleError(
            f"There must be more rows than fixed effects: found n_samples={found:g} and {criterion.rank} independent fixed "
            f"effects (the intercept included). Fit more rows or fewer columns.{copies if found < n_rows else ''}"
        )


def warn_of_peculiar_data(criterion: Criterion, identified: bool, of_formula: bool = False) -> None:
    """Warn of dropped columns, lost digits, a constant outcome, and a group variance that is not identified."""
    warn_of_dropped_columns(criterion, of_formula)
    here, rest = criterion.coordinates, criterion.moments.remainder
    exact = here.within_residual_zero and rest is not None and rest.lost == 0.0
    digits = here.digits(criterion.within_degrees_of_freedom)
    if digits < _ENOUGH_DIGITS and not (here.outcome_constant or exact):
        warn_caller(
            f"The predictors explain nearly all of y within groups: the moments hold about {digits:.0f} digits of "
            "the rest, and so do the variances and standard errors. Fit the rows themselves with fit(X, y, groups), which "
            "reads them a second time, or subtract a known part from y first.",
        )
    if here.outcome_constant:
        warn_caller("y is constant: both variance components are 0 and the intraclass correlation is undefined (NaN).")
    elif not identified:
        warn_caller(
            "The likelihood is the same at every group variance: the fixed effects leave nothing to tell the group variance "
            "from the residual variance. The estimate is 0; fit fewer columns or more rows.",
        )
