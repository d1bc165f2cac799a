"""What is refused and warned of before and after a fit: choices, groups and rows that are too few, peculiar data."""

from __future__ import annotations

import warnings

from ..likelihood._criterion import Criterion
from ..moments._grouped_moments import GroupedMoments

# Digits of the residual variance below which a warning says how many they are.
_ENOUGH_DIGITS = 6.0
# Mean weight below which powers of it, or above whose inverse, are no doubles.
_LEAST_WEIGHT = 1e-100


class TooLittleError(ValueError):
    """There are too few rows or groups to estimate anything; more of them may mend it."""


def check_more_rows_than_effects(n_rows: float, rank: int, note: str = "") -> None:
    """Raise where there are no more rows than fixed effects."""
    if n_rows <= rank:
        raise TooLittleError(
            f"There must be more rows than fixed effects: found n_samples={n_rows:g} and {rank} independent fixed effects "
            f"(the intercept included). Fit more rows or fewer columns.{note}"
        )


def warn_of_dropped_columns(criterion: Criterion, stacklevel: int) -> None:
    """Warn of columns that depend on those before them, by name."""
    names = criterion.moments.shown_names
    dropped = [names[i] for i in criterion.coordinates.dropped]
    if not dropped:
        return
    warnings.warn(
        f"{len(dropped)} column(s) of X depend on the columns before them (or are constant) and get the coefficient 0: "
        f"{', '.join(dropped)}. Predictions are not affected; drop them to silence this.",
        UserWarning,
        stacklevel=stacklevel + 1,
    )


def check_groups(moments: GroupedMoments, grouped: bool, weight_type: str, note: str = "") -> None:
    """Raise where the groups cannot tell tau2 and sigma2 apart, saying why; `note` says what else may be the reason."""
    if moments.n_groups == 0:
        raise TooLittleError("The moments hold no rows: found n_samples=0. Read some rows into them first.")
    if grouped and moments.n_groups < 2:
        raise TooLittleError(
            f"groups holds one group only ({moments.labels.tolist()[0]!r}): how much groups vary cannot be estimated from "
            "one. Fit at least two groups, or LinearRegression if there is nothing to group by."
        )
    mean_weight = float(moments.counts.sum() / moments.n_rows.sum())
    if not _LEAST_WEIGHT < mean_weight < 1.0 / _LEAST_WEIGHT:
        raise ValueError(
            f"sample_weight has the mean {mean_weight:g}, whose powers leave the range of a double. Divide the weights by "
            'their mean; with weight_type="precision" this divides sigma2 by it too.'
        )
    copies = weight_type == "frequency" and moments.counts.max() > 1
    if grouped and moments.n_rows.max() == 1 and not copies:
        raise TooLittleError(
            f"Every one of the {moments.n_groups} groups is a single row: the group variance and the residual variance are "
            "only identified by rows that share a group. Check that groups holds the label of a group, not of a row." + note
        )


def check_rows(criterion: Criterion, grouped: bool) -> None:
    """Raise where there are no more rows than fixed effects."""
    moments = criterion.moments
    n_rows, total_weight = float(moments.n_rows.sum()), float(moments.counts.sum())
    # Least squares are the same whatever the weights mean, so that without groups the larger number counts.
    found = criterion.n_observations if grouped else max(n_rows, total_weight)
    copies = (
        f" The weights of the {n_rows:g} rows sum to {total_weight:g}, the number of copies they stand for: "
        'weight_type="precision" is for weights that are not numbers of copies.'
    )
    check_more_rows_than_effects(found, criterion.rank, copies if found < n_rows else "")


def warn_of_peculiar_data(criterion: Criterion, identified: bool) -> None:
    """Warn of columns that were dropped, and of an outcome or groups with nothing to estimate."""
    warn_of_dropped_columns(criterion, stacklevel=4)
    here, rest = criterion.coordinates, criterion.moments.remainder
    exact = here.within_residual_zero and rest is not None and rest.lost == 0.0
    digits = here.digits(criterion.within_degrees_of_freedom)
    if digits < _ENOUGH_DIGITS and not (here.outcome_constant or exact):
        warnings.warn(
            f"The predictors explain nearly all of y within groups: the moments hold about {digits:.0f} digits of "
            "what they leave, and so do the variances and standard errors. Fit the rows themselves, with fit(X, y, groups), "
            "which reads them a second time, or subtract a known part from y first.",
            UserWarning,
            stacklevel=4,
        )
    if here.outcome_constant:
        warnings.warn(
            "y is constant: both variance components are 0 and the intraclass correlation is undefined (NaN).",
            UserWarning,
            stacklevel=4,
        )
    elif not identified:
        warnings.warn(
            "The likelihood is the same at every group variance: the fixed effects leave nothing to tell it from the "
            "residual variance by. 0 is returned; fit fewer columns or more rows.",
            UserWarning,
            stacklevel=4,
        )
