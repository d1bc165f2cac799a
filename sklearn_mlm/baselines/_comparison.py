"""The multilevel model beside its baselines: coefficients, predictions, within against between, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupKFold, KFold

from .._inputs import check_choice, column_names, is_whole
from .._typing import RandomState, WeightType
from ..inference._distributions import f_test
from ..inference._fixed_effects import coefficient_table, joint_test, variances_and_df
from ..inference._shares import clustering_of
from ..inference._variance_ratio import FPivot
from ..likelihood._criterion import Criterion
from ..likelihood._fit import Fit, fit_of_criterion
from ..likelihood._options import Options
from ..likelihood._random_terms import INTERCEPT
from ..likelihood._second_reading import read_about_known
from ..models._base import checked_rows
from ..models._checks import check_groups, check_rows, warn_of_peculiar_data
from ..models._label_checks import warn_of_peculiar_labels
from ..moments._grouped_moments import GroupedMoments
from ..moments._labels import warn_of_twins
from ..moments._remainder import KnownPart
from ..moments._rows import GroupedRows, check_containers
from ._cluster_robust import cluster_robust
from ._cluster_robust_ols import ClusterRobustOLS
from ._columns import preprocessed, with_dummies
from ._conclusions import conclusions_of
from ._factor_comparison import FactorComparison, compare_factors
from ._figures import Figures
from ._folds import MIXED, MODELS, OLS, ROBUST, WITHIN, Folds, cross_validated_errors, read_folds
from ._report import report
from ._slopes import slopes_between_groups
from ._within import within_estimate


def compare_with_ols(
    X: Any,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    factors: str | Sequence[str] | None = None,
    preprocessing: BaseEstimator | None = None,
    sample_weight: ArrayLike | None = None,
    weight_type: WeightType | None = None,
    cv: int = 5,
    random_state: RandomState = None,
) -> Comparison | FactorComparison:
    """Compare the random intercept model with least squares: coefficients, standard errors and predictions.

    The comparison shows how ignoring the groups changes the standard errors, what cluster-robust standard errors correct,
    which coefficients follow from differences within groups alone (the within estimator), and which model predicts better in
    known and in new groups.

    Parameters
    ----------
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features), or None
        Predictors, without the group column; None compares the null models.
    y : array-like of shape (n_samples,)
        Outcome.
    groups : array-like of shape (n_samples,) or data frame, default=None
        Group label of each row, of any hashable kind. None takes the labels from the column that the `group_feature` of the
        model in `preprocessing` names. A frame of several columns compares a model with an intercept for each of them with
        least squares whose standard errors are clustered by each column, and by all at once.
    factors : str or sequence of str, default=None
        Names of columns of X that are factors: each becomes dummy columns, without one for its first level.
    preprocessing : transformer or pipeline, default=None
        What makes columns of numbers of X: a transformer, or a pipeline, at whose end a model of this package may stand, so
        that a pipeline that is fitted elsewhere can be passed as it is. It is cloned, and fitted to all rows once, not in
        each fold.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights. In the cluster-robust standard errors they are precisions of rows, whatever `weight_type` is.
    weight_type : {"frequency", "precision"} or None, default=None
        Meaning of the weights, as in `RandomInterceptRegressor`. None takes that of the model in `preprocessing`, or else
        "frequency".
    cv : int, default=5
        Number of folds of the cross-validation. Known groups are predicted in folds of shuffled rows (`KFold`). New groups
        are predicted in folds of whole groups (`GroupKFold`), of which there are at most as many as groups.
    random_state : int, RandomState instance or None, default=None
        Seeds the shuffling of the rows.

    Returns
    -------
    comparison : Comparison, or FactorComparison if groups has several columns
        The tables, such as `coefficients`, `predictions` and `within_between`, are its attributes; print it for the tables
        and their meaning in words.

    Raises
    ------
    ValueError
        If values or labels are missing, lengths differ, column names are not unique, a factor is not a column of X, both
        `factors` and `preprocessing` are given, `cv` is not a number of folds, y is constant, or a random intercept model
        cannot be fitted.

    See Also
    --------
    cross_validate_groups : Cross-validates any model, pipelines included.
    ClusterRobustOLS : Least squares with cluster-robust standard errors.
    WithinOLS : The within estimator.

    Notes
    -----
    Rows are read once into moments, from which all models are fitted and all predictions are scored, once more for the
    cluster-robust standard errors, and once more for each random slope that is tried. If the predictors explain nearly all
    of y, all rows are read twice.

    References
    ----------
    Y. Mundlak (1978), "On the pooling of time series and cross section data", Econometrica 46(1), 69-85, for the within and
    between coefficients; J. A. Hausman (1978), "Specification tests in econometrics", Econometrica 46(6), 1251-1271, for
    their test.

    L. Kish (1965), Survey Sampling, Wiley, section 5.4, for the design effect.

    Examples
    --------
    >>> from sklearn_mlm import compare_with_ols
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> comparison = compare_with_ols(X, y, subject, random_state=0)
    >>> comparison.coefficients.loc["days", ["estimate", "std_error"]].round(3)
                        estimate  std_error
    model
    pooled OLS            10.467      1.238
    cluster-robust OLS    10.467      1.546
    within                10.467      0.804
    random intercept      10.467      0.804
    """
    kind: Any = weight_type
    if kind is None:
        steps: Any = preprocessing
        kind = getattr(steps.steps[-1][1] if hasattr(steps, "steps") else steps, "weight_type", "frequency")
    check_choice("weight_type", kind, get_args(WeightType))
    check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
    if factors is not None and preprocessing is not None:
        raise ValueError("factors and preprocessing are both given: encode the factors in the preprocessing.")
    if factors is not None:
        X = with_dummies(X, factors)
    if preprocessing is not None:
        X, groups = preprocessed(X, y, groups, preprocessing)
    if groups is None or isinstance(groups, str):
        raise ValueError(
            f"groups must hold the group label of each row; found {groups!r}. Without groups there is nothing to compare."
        )
    columns = column_names(groups)
    if columns is not None and len(columns) > 1:
        return compare_factors(X, y, groups, list(map(str, columns)), sample_weight, kind)
    rows = checked_rows(ClusterRobustOLS(), X, y, groups, sample_weight)
    if rows.weights is not None and kind == "precision":
        rows = replace(rows, weights=rows.weights / rows.weights.mean())
    options = Options(weight_type=kind)
    names = pd.Index([INTERCEPT, *(rows.feature_names or ())])
    if names.has_duplicates:
        raise ValueError(
            f"The columns of X must have unique names other than {INTERCEPT!r}; found "
            f"{names[names.duplicated()][0]!r}. Rename it."
        )
    n_rows, n_groups = len(rows), len(rows.levels)
    if not is_whole(cv, 2, n_rows):
        raise ValueError(f"cv must be a number of folds, at least 2 and at most n_samples={n_rows}; found {cv!r}.")
    if n_groups < 2:
        raise ValueError(f"groups holds one group only ({rows.levels.tolist()[0]!r}): there is nothing to compare it with.")
    fold_of_row, fold_of_group = np.empty(n_rows, dtype=np.intp), np.empty(n_groups, dtype=np.intp)
    for fold, (_, test) in enumerate(KFold(int(cv), shuffle=True, random_state=random_state).split(rows.codes)):
        fold_of_row[test] = fold
    for fold, (_, test) in enumerate(GroupKFold(min(int(cv), n_groups)).split(rows.codes, groups=rows.codes)):
        fold_of_group[rows.codes[test]] = fold
    rows = replace(rows, X=rows.X.tocsr() if sparse.issparse(rows.X) else rows.X)
    folds = read_folds(rows, fold_of_row, fold_of_group)
    rows, _, known = read_about_known(rows, folds.whole, lambda moments: options.criterion(moments).known_part())
    if known.slopes.any():
        folds = read_folds(rows, fold_of_row, fold_of_group)
    return compare(rows, folds, known, options)


# Rounding can leave equal group means this scatter, relative to that within groups.
_SAME_MEANS = 1e-26


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Figures):
    """The random intercept model beside least squares, cluster-robust least squares and the within estimator.

    `compare_with_ols` makes it. Print it, or let a notebook show it, for the tables and their meaning in words.

    Attributes
    ----------
    coefficients : pandas.DataFrame
        A row for each coefficient and model: "estimate", "std_error", "df" (degrees of freedom) and "p_value" (two-sided t
        test against 0). The models are pooled OLS with textbook standard errors, cluster-robust OLS (CR2), the within
        estimator (no intercept, and NaN for columns that are constant in every group), and the random intercept model
        (REML, Satterthwaite's df). A coefficient that rests on one group alone has no cluster-robust standard error.
    predictions : pandas.DataFrame
        A row for each kind of groups ("known" or "new") and model: cross-validated "rmse", in units of y, and "r2", both
        averaged over folds. There are no rows for new groups if the folds leave a single group to train on.
    fold_predictions : pandas.DataFrame
        The errors in each fold, without averaging.
    within_between : pandas.DataFrame
        A row for each column that varies within groups: the "within" and the "between" coefficient, their "difference"
        (between less within: the contextual effect), and the "std_error", "df" and "p_value" of the difference. All but
        "within" are NaN if the group means are constant or depend on other columns.
    within_between_test : pandas.Series
        The test that all differences are 0, a Hausman test: "F", "df1", "df2" (Satterthwaite's) and "p_value".
    slopes : pandas.DataFrame
        A row for each column that varies within groups: how much its coefficient varies between groups, as the "sd" of a
        random slope that is added to the random intercept model, with the likelihood-ratio statistic "chi2" of that slope
        and the "p_value" of no variance. If there are more than six columns, those are tried whose cluster-robust standard
        errors are the largest multiples of the random intercept model's; the others are NaN.
    icc : float
        Intraclass correlation of y, from the null model.
    residual_icc : float
        Intraclass correlation given the predictors.
    group_test : pandas.Series
        The exact test of no group variance given the predictors: "F", "df1", "df2", "p_value".
    design_effect : float
        The factor 1 + (m - 1) icc, m = sum n_j^2 / n, by which groups inflate the variance of the mean of y.
    effective_sample_size : float
        n / design_effect, the number of independent rows that would estimate this mean as precisely.
    n_samples, n_groups : int
        Number of rows (or of copies of rows, if weights are frequencies), and of groups.
    n_folds : int
        Number of folds of the cross-validation.
    conclusions : tuple of str
        The meaning of the figures in words, a string for each paragraph.

    Examples
    --------
    >>> from sklearn_mlm import compare_with_ols
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> comparison = compare_with_ols(X, y, subject, random_state=0)
    >>> round(float(comparison.icc), 2), round(float(comparison.design_effect), 1)
    (0.39, 4.6)
    """

    conclusions: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return report(self, self.conclusions).text()

    def _repr_html_(self) -> str:
        return report(self, self.conclusions).html()


def compare(rows: GroupedRows, folds: Folds, known: KnownPart, options: Options) -> Comparison:
    """Return the comparison of models for rows whose folds have been read.

    Parameters
    ----------
    rows : GroupedRows
        Checked rows.
    folds : Folds
        The moments of all rows and of training and test sets.
    known : KnownPart
        The part that was subtracted from y.
    options : Options
        The kind of weights.

    Returns
    -------
    comparison : Comparison
        All figures, and their meaning in words.
    """
    moments = folds.whole
    criterion = options.criterion(moments)
    if criterion.coordinates.outcome_constant:
        raise ValueError("y is constant: there is nothing to compare. Check that y is the outcome.")
    check_groups(moments, True, options.weight_type)
    check_rows(criterion, True)
    fit = fit_of_criterion(criterion, options)
    warn_of_peculiar_data(criterion, fit.identified)
    warn_of_peculiar_labels(moments, None)
    warn_of_twins(moments.labels[:0], moments.labels)
    clustering = clustering_of(replace(fit, moments=moments.about_slopes(-known.slopes)[0]))
    n = clustering["n"]
    table, test = _within_between(moments, options)
    table[["within", "between"]] += known.slopes[[moments.shown_names.index(name) for name in table.index], None]
    by_fold = cross_validated_errors(folds, known.slopes, options)
    # A fold in which y is constant has no R^2, and the mean is that of the others.
    predictions = by_fold.groupby(level=["groups", "model"], sort=False).mean()
    coefficients = _coefficients(rows, criterion, fit, known)
    errors = {name: coefficients["std_error"].xs(name, level="model") for name in (ROBUST, MIXED)}
    comparison = Comparison(
        coefficients=coefficients,
        predictions=predictions,
        fold_predictions=by_fold,
        within_between=table,
        within_between_test=test,
        slopes=slopes_between_groups(rows, fit, errors[ROBUST] / errors[MIXED]),
        icc=clustering["icc"],
        residual_icc=fit.icc,
        group_test=FPivot(criterion).test(),
        design_effect=clustering["design_effect"],
        effective_sample_size=clustering["effective_sample_size"],
        n_samples=int(n) if n == int(n) else n,
        n_groups=moments.n_groups,
        n_folds=len(folds.of_rows),
    )
    return replace(comparison, conclusions=tuple(conclusions_of(comparison)))


def _coefficients(rows: GroupedRows, criterion: Criterion, fit: Fit, known_part: KnownPart) -> pd.DataFrame:
    """Return the estimate, standard error, df and p-value of each coefficient in each model."""
    moments, dropped = fit.moments, fit.dropped
    pooled, within = criterion.solution(0.0), within_estimate(moments, criterion.n_observations)
    known = np.append(known_part.intercept, known_part.slopes)
    variances = pooled.covariance.diagonal()
    robust, robust_df = np.zeros_like(variances), np.full(len(known), criterion.degrees_of_freedom)
    if not criterion.exact_fit:
        covariance, robust_df, single = cluster_robust(rows, moments, pooled, dropped, "CR2")
        robust = np.where(single, np.nan, covariance.diagonal())
        robust_df[single] = np.nan
    values = known + np.append(pooled.intercept, pooled.coefficients)
    mixed, mixed_df = variances_and_df(fit, "satterthwaite", np.eye(len(known)))
    tables = {
        OLS: coefficient_table(values, variances, criterion.degrees_of_freedom, fit.names, dropped),
        ROBUST: coefficient_table(values, robust, robust_df, fit.names, dropped),
        WITHIN: coefficient_table(
            known[1:] + within.coefficients,
            within.covariance.diagonal(),
            within.degrees_of_freedom,
            fit.names[1:],
            np.flatnonzero(~within.identified),
        ),
        MIXED: coefficient_table(known + fit.coefficients, mixed, mixed_df, fit.names, dropped),
    }
    table = pd.concat(tables, names=["model", "coefficient"]).swaplevel()
    return table.reindex(pd.MultiIndex.from_product([fit.names, MODELS], names=["coefficient", "model"]))


def _within_between(moments: GroupedMoments, options: Options) -> tuple[pd.DataFrame, pd.Series]:
    """Return within and between coefficients, and the tests that they are equal.

    The random intercept model is fitted with the group means of the columns as further columns (Mundlak 1978). Their
    coefficients are the differences, and those of the columns themselves equal the within estimator's.
    """
    within = within_estimate(moments, options.criterion(moments).n_observations)
    varying = np.flatnonzero(within.identified)
    p, q = moments.n_features, len(varying)
    names = [moments.shown_names[i] for i in varying]
    columns = [*range(p), *varying, p]
    deviations = moments.deviations[:, columns]
    # Means that differ by rounding only are equal.
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
    criterion = options.criterion(both)
    identified = np.setdiff1d(np.arange(p, p + q), criterion.coordinates.dropped) - p
    n_identified = float(len(identified))
    rows = np.full((q, 6), np.nan)
    rows[:, 0] = within.coefficients[varying]
    test = f_test(np.nan, n_identified, np.nan)
    if n_identified and criterion.between_degrees_of_freedom > 0 and criterion.within_degrees_of_freedom > 0:
        fit, contrasts = fit_of_criterion(criterion, options), np.eye(1 + p + q)[1 + p + identified]
        variances, df = variances_and_df(fit, "satterthwaite", contrasts)
        table = coefficient_table(fit.slopes[p + identified], variances, df, [names[i] for i in identified])
        rows[identified, 1] = rows[identified, 0] + table["estimate"]
        rows[identified, 2:] = table.to_numpy()
        if (variances > 0).all():
            # Contrasts in standard errors give df that do not depend on units.
            joint = joint_test(fit, "satterthwaite", contrasts / np.sqrt(variances)[:, None])
            if joint is not None:
                test = f_test(joint[0], n_identified, joint[1])
    columns_of_table = ["within", "between", "difference", "std_error", "df", "p_value"]
    return pd.DataFrame(rows, index=names, columns=columns_of_table).rename_axis("coefficient"), test
