"""Errors and warnings about several grouping factors: what their design cannot say of the variances, and labels."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np

from .._inputs import warn_caller
from ..likelihood._factor_criterion import FactorCriterion
from ..likelihood._identification import unidentified
from ..likelihood._options import MixedOptions
from ..moments._cells import Cells, distinct_rows
from ._errors import TooLittleError

# If all but this share of the labels of a factor occur in one level of another, its labels are probably meant to be nested.
_FEW_EXCEPTIONS = 0.05
_MANY_LABELS = 20


def check_some_cells(cells: Cells) -> None:
    """Raise if a record has no rows."""
    if not len(cells):
        raise TooLittleError("The moments hold no rows: found n_samples=0. Read some rows into them first.")


def check_factors(criterion: FactorCriterion, options: MixedOptions) -> None:
    """Raise if the rows do not identify the variances of several grouping factors, naming the factors and the reason."""
    moments, precise = criterion.moments, options.weight_type == "precision"
    rows_of_cell = moments.n_rows if precise else np.maximum(moments.counts, moments.n_rows)
    # Rows of unequal precision have unequal residual variances, which tells them from the variance of their levels.
    unequal = precise and np.ptp(moments.counts) > 0
    for factor in criterion.factors:
        if factor.n_levels < 2:
            raise TooLittleError(
                f"The factor {factor.name} has one level only, which does not show how much its levels vary. Leave it out "
                "of random_effects."
            )
        largest = np.bincount(factor.codes, rows_of_cell, factor.n_levels).max()
        intercept_alone = all(criterion.design.columns[at] is None for at in factor.coefficients)
        if largest <= 1 and intercept_alone and not unequal:
            raise TooLittleError(
                f"The factor {factor.name} has a level for every row, so that its variance cannot be told from the residual "
                "variance. Leave it out of random_effects."
            )
    _check_partitions(criterion, options)


def _check_partitions(criterion: FactorCriterion, options: MixedOptions) -> None:
    """Raise if two factors put the rows into the same groups, and the same coefficient varies between the levels of both."""
    columns = criterion.design.columns
    for one, other in combinations(criterion.factors, 2):
        shared = {columns[at] for at in one.coefficients} & {columns[at] for at in other.coefficients}
        if not shared or one.n_levels != other.n_levels:
            continue
        pairs, _ = distinct_rows(np.column_stack([one.codes, other.codes]), [one.n_levels, other.n_levels])
        if int(pairs.max()) + 1 == one.n_levels:
            raise TooLittleError(
                f"The factors {one.name} and {other.name} put the rows into the same {one.n_levels} groups, so that only "
                "the sum of their variances is identified. Leave out one of them."
            )


def check_identified(criterion: FactorCriterion, options: MixedOptions) -> None:
    """Raise if different variances give y the same covariance."""
    if not criterion.n_random:
        names = ", ".join(map(repr, options.coefficients))
        raise ValueError(
            f"No coefficient can vary between groups: every column that random_effects names ({names}) is 0 in all rows, or "
            "rounding beside its values. Name another column, or let the intercept vary."
        )
    # The information of the rows about the variances is not computed where it is large.
    found = None if criterion.approximate else unidentified(criterion)
    if found is not None:
        at, residual = found
        left = [term for term, block in zip(options.terms, criterion.design.blocks, strict=True) if block]
        terms = [str(left[i]) for i in at]
        raise TooLittleError(_reason(terms, [left[i].factor for i in at], residual, criterion.reml))


def _reason(terms: list[str], factors: list[str], residual: bool, reml: bool) -> str:
    """Return what the rows cannot tell, and why."""
    named = " and ".join(terms)
    if residual and terms:
        found = f"the residual variance and the variances of {named} cannot be told apart"
    elif len(terms) > 1:
        found = f"the variances of {named} cannot be told apart"
    elif reml:
        found = (
            f"the restricted likelihood is the same at every variance of {named}, because the fixed effects already "
            f"determine the differences between levels of {factors[0]}"
        )
    else:
        found = f"different covariances of {named} give y the same covariance"
    return (
        f"The rows do not identify the variances: {found}. Leave out a term or let fewer coefficients vary; a factor cannot "
        "have fixed effects for all of its levels and a variance too."
    )


def warn_of_labels_that_look_nested(cells: Cells, options: MixedOptions) -> None:
    """Warn if all but a few labels of one factor occur in one level of another: the few then repeat by chance."""
    alone = [columns[0] for columns in options.groupings.values() if len(columns) == 1]
    for inner, outer in permutations(alone, 2):
        a, b = cells.names.index(inner), cells.names.index(outer)
        sizes = [len(cells.levels[a]), len(cells.levels[b])]
        _, first = distinct_rows(cells.codes[:, [a, b]], sizes)
        occurs = np.bincount(cells.codes[first, a], minlength=sizes[0])
        several = np.flatnonzero(occurs > 1)
        if sizes[0] < _MANY_LABELS or not 0 < len(several) <= _FEW_EXCEPTIONS * sizes[0] or sizes[0] <= sizes[1]:
            continue
        shown = cells.levels[a][several[:3]].tolist()
        warn_caller(
            f"{sizes[0] - len(several)} of the {sizes[0]} labels of {inner} occur in one level of {outer} only, but "
            f"{len(several)} (such as {', '.join(map(repr, shown))}) in several, as one and the same level of {inner}. If "
            f"the levels of {inner} are nested in those of {outer}, write (1 | {outer}/{inner})."
        )
