"""The influence of groups: what the estimates would be without each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import warn_caller
from .._progress import progress
from .._typing import Floats
from ..likelihood._factor_fit import FactorFit
from ..likelihood._fit import Fit, fit_of_criterion
from ..likelihood._mixed_fit import MixedEffectsFit
from ..moments._grouped_moments import GroupedMoments
from ..moments._labels import as_labels, encode
from ..moments._moments import Moments
from ..moments._remainder import KnownPart, rests
from ..moments._rows import GroupedRows, Rows, as_weights, block_rows, blocks_of_equal_groups
from ._fits import GroupedModel, no_outcome
from ._group_changes import measures_of_change, sums_of_others
from ._mixed_influence import changes_without_groups
from ._rows import RowsOfModel

# Group means of the rows of the fit differ from those in its moments by rounding only: this share of a standard deviation,
# and of the values themselves.
_SAME_SPREAD, _SAME_VALUE = 1e-6, 1e-12
# An error or warning names no more groups or columns than this.
_NAMED = 3
# More fits than this, times groups, take longer than a minute or two.
_MINUTES = 5e8


def influence(
    model: GroupedModel,
    X: Any,
    y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    *,
    only: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Return what each group does to the estimates: the model is fitted again without each of the groups in turn.

    Everything is estimated again, the variances included, so that the figures are those of as many fits and not an
    approximation. The rows are read once. A fit takes about a millisecond if there are up to some thousands of groups, so
    that all take a second with 1,000 groups and 20 seconds with 10,000; with more, ask about some of them.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one. The steps of a pipeline are not fitted again.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        Predictors of the rows of `fit`.
    y : array-like of shape (n_samples,), default=None
        Outcome of these rows. A model with a formula takes it from `X`, a data frame, if it is None.
    groups : array-like of shape (n_samples,), default=None
        Group labels of these rows.
    only : array-like of labels, default=None
        The groups to leave out in turn, such as those with the largest random effects; None takes all groups.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of `fit`.
    verbose : int, default=0
        1 shows how many groups are done.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by the label of the group that is left out, in the order of `groups_`, with the columns

        - "n": the number of its rows, or their total weight if weights are frequencies;
        - "cooks_distance": d' V^-1 d / k, where d is the change of the k fixed effects, and V their covariance in the fit
          to all groups. A group above 1, or far above the others, deserves a look;
        - "covratio": det V without the group, divided by det V. Below 1 the other groups give the more precise estimates;
        - "group_variance", "residual_variance": the variances without the group, in units of y squared;
        - "dfbetas (Intercept)" and so on for each coefficient: the estimate with all groups less that without the group,
          in standard errors of the latter.

        For a `MixedEffectsRegressor`, "variance (Intercept)" and so on, and "covariance (Intercept), days", stand in place
        of "group_variance". NaN if the other groups cannot identify the variances, or the coefficient.

    Raises
    ------
    ValueError
        If the rows are not those of `fit`, `only` has a label that `fit` has not seen, the model leaves no residual
        (sigma2 = 0), or `predict` would raise it.

    Warns
    -----
    UserWarning
        If figures are NaN, or before a computation that will take minutes.

    Notes
    -----
    Let W_j be the scatter of the rows of group j about their mean. The moments without group i hold the sum of W_j over the
    others, which is the sum over the groups before i plus that over the groups after i. Both are sums of positive
    semidefinite matrices. To subtract W_i from the total instead would cost digits if a single group makes up most of it.

    References
    ----------
    D. A. Belsley, E. Kuh and R. E. Welsch (1980), "Regression Diagnostics", section 2.1, and R. D. Cook (1977), "Detection
    of influential observation in linear regression", Technometrics 19(1), 15-18, with groups in place of rows.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import influence
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> table = influence(model, X, y, subject)
    >>> table.nlargest(3, "cooks_distance")[["cooks_distance", "covratio", "dfbetas days"]].round(2)
             cooks_distance  covratio  dfbetas days
    subject
    335                0.53      1.01         -0.98
    308                0.38      0.94          0.87
    309                0.33      0.85         -0.58
    """
    rows = RowsOfModel(model, X, y, groups)
    if not rows.has_outcome:
        raise no_outcome(model)
    fit = rows.fit
    if not fit.residual_variance > 0:
        raise ValueError("The model leaves no residual (sigma2 = 0): there are no standard errors to measure changes in.")
    if isinstance(fit, FactorFit):
        raise ValueError(
            "influence leaves out the groups of one grouping factor; the model has several. Fit it again without the rows "
            "of a level to see what that level does."
        )
    if isinstance(fit, MixedEffectsFit):
        return _of_mixed_fit(fit, rows, only, sample_weight, verbose)
    fit = cast(Fit, fit)
    wanted = np.ones(fit.moments.n_groups, dtype=bool) if only is None else _wanted(fit, only)
    n_wanted = int(wanted.sum())
    _warn_of_minutes(n_wanted, len(wanted))
    scatter, log_weights = _scatter_of_groups(fit, rows, sample_weight)
    table = []
    with progress(verbose, "groups", n_wanted) as report:
        for at, others in enumerate(sums_of_others(scatter)):
            if wanted[at]:
                table.append(_changes(fit, _without(fit.moments, at, others, log_weights)))
                report(1)
    names = [f"dfbetas {name}" for name in fit.names]
    columns = ["cooks_distance", "covratio", "group_variance", "residual_variance", *names]
    result = pd.DataFrame(table, columns=columns, index=fit.moments.labels[wanted])
    result.insert(0, "n", fit.group_sizes(fit.moments)[wanted])
    _warn_of_gaps(result, fit.names)
    return result


def _warn_of_minutes(n_wanted: int, n_groups: int) -> None:
    """Warn if so many fits to so many groups take minutes."""
    if n_wanted * float(n_groups) > _MINUTES:
        warn_caller(
            f"influence fits the model {n_wanted:,} times to {n_groups:,} groups, which takes minutes or hours. "
            "verbose=1 shows how far it is; only=labels leaves out some of the groups in turn."
        )


def _of_mixed_fit(
    fit: MixedEffectsFit, rows: RowsOfModel, only: ArrayLike | None, sample_weight: ArrayLike | None, verbose: int
) -> pd.DataFrame:
    """Return the influence of groups on a model with random slopes."""
    weights = None if sample_weight is None else as_weights(sample_weight, len(rows.codes))
    positions = rows.positions(weights)
    weights = None if weights is None else weights[positions]
    _check_groups_of_fit(fit, rows.codes[positions], weights)
    wanted = np.ones(fit.moments.n_groups, dtype=bool) if only is None else _wanted(fit, only)
    _warn_of_minutes(int(wanted.sum()), len(wanted))
    X = None if rows.X is None else rows.X[positions]
    checked = GroupedRows(X, rows.y[positions], rows.codes[positions], fit.moments.labels, weights)
    table = changes_without_groups(fit, checked, wanted, verbose, _check_rows_of_fit)
    _warn_of_gaps(table, fit.names)
    return table


def _wanted(fit: Fit | MixedEffectsFit, only: ArrayLike) -> np.ndarray:
    """Return which groups have one of some labels; raise a ValueError for a label that no group has."""
    labels = as_labels(only)
    codes = encode(cast(ArrayLike, labels), fit.moments.labels)
    if (codes < 0).any():
        raise ValueError(f"only has labels that fit has not seen, such as {pd.Series(labels)[codes < 0].tolist()[0]!r}.")
    wanted = np.zeros(fit.moments.n_groups, dtype=bool)
    wanted[codes] = True
    return wanted


def _changes(fit: Fit, moments: GroupedMoments) -> list[float]:
    """Return Cook's distance, covratio, both variances and the dfbetas of a fit to moments; NaN for what is not known.

    The change of the intercept is computed at the centre of the moments, so that a distant origin costs no digits.

    Parameters
    ----------
    fit : Fit
        The fit to all groups.
    moments : GroupedMoments
        Moments of some of the groups, with the same centre.

    Returns
    -------
    figures : list of float
        The figures, in the order of the columns of `influence`.
    """
    n_effects, leading = len(fit.names), int(fit.options.fit_intercept)
    gaps = [np.nan] * (4 + n_effects)
    if moments.n_groups < 2 or max(moments.n_rows.max(), fit.group_sizes(moments).max()) <= 1:
        return gaps
    criterion = fit.options.criterion(moments)
    if criterion.n_observations <= criterion.rank:
        return gaps
    other = fit_of_criterion(criterion, fit.options)
    if not other.identified:
        return gaps
    change = fit.solution.rest_coefficients - other.solution.rest_coefficients
    at_center = np.append(np.full(leading, other.left_at_center - fit.left_at_center), change)
    distance, ratio, betas = measures_of_change(fit, other, at_center, moments.center[:-1])
    return [distance, ratio, other.group_variance, other.residual_variance, *betas]


def _scatter_of_groups(fit: Fit, rows: RowsOfModel, sample_weight: ArrayLike | None) -> tuple[Floats, Floats]:
    """Return the scatter of the rows of each group about their mean, and the sum of the logarithms of their weights.

    Parameters
    ----------
    fit : Fit
        The fit to the rows.
    rows : RowsOfModel
        The rows.
    sample_weight : array-like of shape (n_samples,) or None
        Row weights.

    Returns
    -------
    scatter : ndarray of shape (n_groups, width, width)
        The scatter of (x, y), or of (x, y, e) if the moments of the fit have the remainder e.
    log_weights : ndarray of shape (n_groups,)
        The sums of logarithms.

    Raises
    ------
    ValueError
        If the rows are not those of the fit.
    """
    moments, rest = fit.moments, fit.moments.remainder
    values, codes = Rows(rows.X, rows.y), rows.codes
    left = None if rest is None else rests(rows.X, rows.y, KnownPart(rest.slopes, rest.center))
    weights = None if sample_weight is None else as_weights(sample_weight, len(codes))
    positions = rows.positions(weights)
    codes, n_groups, width = codes[positions], moments.n_groups, values.n_columns
    _check_groups_of_fit(fit, codes, None if weights is None else weights[positions])
    scatter = np.empty((n_groups, *(2 * [width + (left is not None)])))
    means = np.empty((n_groups, width))
    log_weights = np.zeros(n_groups)
    for members, within in blocks_of_equal_groups(codes, n_groups, block_rows(width)):
        at = positions[within]
        block = values.at(at.ravel()).reshape(*at.shape, width)
        if left is not None:
            block = np.append(block, left[at][:, :, None], axis=2)
        weight = np.ones((*at.shape, 1)) if weights is None else weights[at][:, :, None]
        # About a row of the group first, so that a column that is constant in the group leaves exactly 0. The means are
        # subtracted twice, because the first time leaves the rounding error of the sums.
        mean = block[:, :1].copy()
        block -= mean
        mean -= np.append(moments.center, np.zeros(int(left is not None)))
        for _ in range(2):
            shift = (weight * block).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
            block -= shift
            mean += shift
        products = (weight * block).transpose(0, 2, 1) @ block
        scatter[members] = (products + products.transpose(0, 2, 1)) / 2.0
        means[members] = mean[:, 0, :width]
        log_weights[members] = np.log(weight).sum(axis=(1, 2))
    _check_rows_of_fit(moments, means, np.abs(scatter[:, :width, :width].sum(axis=0).diagonal() - moments.within.diagonal()))
    return scatter, log_weights


def _check_groups_of_fit(fit: Fit | MixedEffectsFit, codes: np.ndarray, weights: np.ndarray | None) -> None:
    """Raise a ValueError unless rows have the groups of a fit, and as many rows and as much weight in each."""
    moments, unknown = fit.moments, int(np.count_nonzero(codes < 0))
    same = not unknown and moments.n_groups == len(fit.labels)
    if same:
        n_rows = np.bincount(codes, minlength=moments.n_groups)
        counts = n_rows if weights is None else np.bincount(codes, weights, moments.n_groups)
        same = np.array_equal(n_rows, moments.n_rows) and np.allclose(counts, moments.counts, rtol=1e-9, atol=0.0)
    if not same:
        of_unknown = f", {unknown} of them without a group that it knows" if unknown else ""
        raise ValueError(
            f"influence needs the rows, groups and weights that the model was fitted to: {moments.n_rows.sum()} rows in "
            f"{moments.n_groups} groups, of total weight {moments.counts.sum():g}; found {len(codes)} rows{of_unknown}, of "
            f"total weight {len(codes) if weights is None else weights.sum():g}. Pass what was passed to fit."
        )


def _check_rows_of_fit(moments: Moments, deviations: np.ndarray, apart: np.ndarray) -> None:
    """Raise a ValueError unless the means of the groups, less the centre, and the scatter are those in the moments."""
    mean, total = moments.total_scatter
    allowed = _SAME_SPREAD * np.sqrt(total / moments.counts.sum()) + _SAME_VALUE * (np.abs(mean) + np.abs(moments.center))
    far = (np.abs(deviations - moments.deviations) > allowed).any(axis=0)
    if far.any():
        names = [*moments.shown_names, moments.outcome_name or "y"]
        raise ValueError(
            "influence needs the rows that the model was fitted to; the group means of "
            f"{_listed([name for name, is_far in zip(names, far, strict=True) if is_far])} are others. Pass what was passed "
            "to fit."
        )
    if (apart > _SAME_SPREAD * total).any():
        raise ValueError(
            "influence needs the rows that the model was fitted to; these vary more or less within groups. Pass what was "
            "passed to fit."
        )


def _without(moments: GroupedMoments, at: int, within: Floats, log_weights: Floats) -> GroupedMoments:
    """Return the moments without one group, given the pooled scatter of the others.

    Parameters
    ----------
    moments : GroupedMoments
        Moments of all groups.
    at : int
        Position of the group to leave out.
    within : ndarray of shape (width, width)
        The scatter of the other groups, as in `_scatter_of_groups`.
    log_weights : ndarray of shape (n_groups,)
        Sum of the logarithms of the weights of each group.

    Returns
    -------
    moments : GroupedMoments
        The moments, whose labels are positions.
    """
    rest = moments.remainder
    if rest is not None:
        of_rest = np.delete(within[-1], -2)
        rest = replace(rest, deviations=np.delete(rest.deviations, at), within=of_rest)
    width = len(moments.center)
    return replace(
        moments,
        labels=pd.RangeIndex(moments.n_groups - 1),
        counts=np.delete(moments.counts, at),
        n_rows=np.delete(moments.n_rows, at),
        deviations=np.delete(moments.deviations, at, axis=0),
        within=within[:width, :width],
        sum_log_weight=float(np.delete(log_weights, at).sum()),
        remainder=rest,
    )


def _warn_of_gaps(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Warn of figures that are NaN: of groups without which nothing can be estimated, or a coefficient cannot."""
    nothing = table["residual_variance"].isna()
    if nothing.any():
        warn_caller(
            f"Without {_groups_named(table.index[nothing])}, the variances cannot be estimated: too few groups or rows are "
            "left. The figures are NaN.",
        )
    columns = table.loc[~nothing, [f"dfbetas {name}" for name in names]].isna()
    columns = columns.loc[:, ~columns.all()]
    some = columns.any(axis=1)
    if some.any():
        lost = [name.removeprefix("dfbetas ") for name in columns.columns[columns.any()]]
        warn_caller(
            f"Without {_groups_named(columns.index[some])}, there is no estimate of {_listed(lost)}: no other group tells "
            "the column from the rest. Cook's distance and covratio are NaN.",
        )


def _groups_named(labels: pd.Index) -> str:
    """Return the number of groups, and the labels of the first of them."""
    return f"{'a group' if len(labels) == 1 else f'each of {len(labels)} groups'} ({_listed(labels.tolist())})"


def _listed(values: Sequence[Any]) -> str:
    """Return up to three values, and how many more there are."""
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return ", ".join(repr(value) for value in values[:_NAMED]) + more
