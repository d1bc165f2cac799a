"""Fitted models of the same rows beside each other: likelihood-ratio tests, information criteria, one-row summaries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from .._typing import FittedModel, GroupedFit
from ..likelihood._factor_fit import FactorFit
from ..likelihood._linalg import share
from ._fits import design_of, grouped_fit_of
from ._shares import shares_of

# Values of columns that differ by less than this, relative to their spread, are the same; and group means that are this near
# to combinations of others are such combinations.
_SAME, _AMONG = 1e-9, 1e-6
UNBOUNDED = (
    "The likelihood of {} has no maximum: the fixed effects leave no residual (sigma2 = 0) within groups, and the "
    "likelihood grows without bound as the residual variance goes to 0. Fit fewer columns or more rows."
)


def likelihood_ratio_test(*models: FittedModel, **named: FittedModel) -> pd.DataFrame:
    """Compare nested models of the same rows, each with the next smaller one, as R's anova does.

    Models fitted by REML are refitted by maximum likelihood, from their moments, because restricted likelihoods of models
    with different columns cannot be compared.

    Parameters
    ----------
    *models : RandomInterceptRegressor or MixedEffectsRegressor
        Two or more fitted models, or pipelines or searches that end in one, in any order.
    **named : RandomInterceptRegressor or MixedEffectsRegressor
        Further models, under the names that the table shows for them.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by "model 1", "model 2" and so on, in the order given, or by the formula or the name of a model that has one,
        and sorted by the number of parameters, with the columns of lme4's anova: "n_parameters", "aic", "bic",
        "log_likelihood", "deviance", "chi2", "df" and "p_value". The last three compare a model with the one above, and are
        NaN for the first. If models differ in their random coefficients, "p_mixture" is the p-value from the mixture of
        chi-squared distributions that allows for variances at the boundary, if one coefficient is added at a time; "p_value"
        is then too large.

    Raises
    ------
    TypeError
        If there are fewer than two models, or one is not a mixed model of this package.
    ValueError
        If the models have different rows or groups or are not nested, or if one of them leaves no residual within groups, so
        that its full likelihood has no maximum.

    See Also
    --------
    compare_models : Information criteria of models that need not be nested.

    random_effects_test : Tests of the random coefficients of a single model, by its own likelihood.

    References
    ----------
    D. O. Stram and J. W. Lee (1994), "Variance components testing in the longitudinal mixed effects model", Biometrics
    50(4), 1171-1177, for the mixture.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import likelihood_ratio_test
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> null = RandomInterceptRegressor().fit(None, y, groups=subject)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> likelihood_ratio_test(null=null, days=model)[["log_likelihood", "deviance", "chi2", "df"]].round(2)
           log_likelihood  deviance    chi2   df
    model
    null          -955.27   1910.54     NaN  NaN
    days          -897.04   1794.08  116.46  1.0
    """
    from scipy import stats

    fits = _fits_by_name(models, named)
    fits = dict(sorted(fits.items(), key=lambda item: item[1].n_parameters))
    names = list(fits)
    for small, large in pairwise(names):
        _check_nested(small, fits[small], large, fits[large])
    deviance = _deviances(fits)
    n_parameters = np.array([fit.n_parameters for fit in fits.values()])
    chi2, df = np.maximum(-np.diff(deviance, prepend=np.nan), 0.0), np.diff(n_parameters.astype(float), prepend=np.nan)
    n_observations = next(iter(fits.values())).n_observations
    table = pd.DataFrame(
        {
            "n_parameters": n_parameters,
            "aic": deviance + 2 * n_parameters,
            "bic": deviance + np.log(n_observations) * n_parameters,
            "log_likelihood": -deviance / 2,
            "deviance": deviance,
            "chi2": chi2,
            "df": df,
            "p_value": stats.chi2.sf(chi2, df),
        },
        index=pd.Index(names, name="model"),
    )
    added = [0, *(_added_to(fits[small], fits[large]) for small, large in pairwise(names))]
    if any(size != 0 for size in added):
        table["p_mixture"] = [
            mixture_p_value(statistic, size) if size else p_value if size == 0 else np.nan
            for statistic, size, p_value in zip(chi2, added, table["p_value"], strict=True)
        ]
    return table


def mixture_p_value(statistic: float, size: int) -> float:
    """Return the p-value of the test that one of `size` correlated random coefficients has no variance.

    The variance, and with it the covariances, are at the boundary of their range, so that the limit of the null distribution
    is an equal mixture of chi-squared with size - 1 and with size degrees of freedom (Stram & Lee 1994, case 3). With 0
    degrees of freedom it is 0.
    """
    from scipy import stats

    below = float(stats.chi2.sf(statistic, size - 1)) if size > 1 else float(statistic <= 0)
    return (below + float(stats.chi2.sf(statistic, size))) / 2.0


def compare_models(*models: FittedModel, **named: FittedModel) -> pd.DataFrame:
    """Compare models of the same rows by their information criteria and the variance that they explain.

    Restricted likelihoods of models with different columns cannot be compared. If the columns differ, models fitted by REML
    are refitted by maximum likelihood, from their moments, and the column "method" says so.

    Parameters
    ----------
    *models : RandomInterceptRegressor or MixedEffectsRegressor
        Fitted models, or pipelines or searches that end in one.
    **named : RandomInterceptRegressor or MixedEffectsRegressor
        Further models, under the names that the table shows for them.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by "model 1", "model 2" and so on, or by the formula or the name of a model that has one, in the order given,
        with the columns:

        - "method": "REML" or "ML", the likelihood of the next five columns; "ML (refitted)" for a model that was fitted by
          REML;
        - "n_parameters", "log_likelihood", "aic", "bic", and "aic_weight", which is exp(-AIC / 2) as a share of its sum over
          the models;
        - "r2_marginal", "r2_conditional", "icc" and "sigma" (the residual standard deviation) of the models as they were
          fitted.

    Raises
    ------
    TypeError
        If there is no model, or one is not a mixed model of this package.
    ValueError
        If the models have different rows, groups or outcomes, or if a full likelihood has no maximum.

    See Also
    --------
    likelihood_ratio_test : Tests of nested models.

    References
    ----------
    K. P. Burnham and D. R. Anderson (2002), Model Selection and Multimodel Inference, 2nd edition, Springer, section 2.9,
    for the weights.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import compare_models
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> null = RandomInterceptRegressor().fit(None, y, groups=subject)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> compare_models(null=null, days=model)[["method", "n_parameters", "aic", "bic", "icc"]].round(2)
                  method  n_parameters      aic      bic   icc
    model
    null   ML (refitted)             3  1916.54  1926.12  0.39
    days   ML (refitted)             4  1802.08  1814.85  0.59
    """
    fits = _fits_by_name(models, named, least=1)
    first_name, first = next(iter(fits.items()))
    for name, fit in fits.items():
        _check_same_rows(first_name, first, name, fit)
    same = all(_same_columns(first, fit) and fit.options.method == first.options.method for fit in fits.values())
    values = np.array([fit.value for fit in fits.values()]) if same else _deviances(fits)
    n_parameters = np.array([fit.n_parameters for fit in fits.values()])
    aic = values + 2 * n_parameters
    # Models without residual have an infinite likelihood; they share all of the weight.
    weights = np.exp(-(aic - aic.min()) / 2) if np.isfinite(aic.min()) else (aic == aic.min()).astype(np.float64)
    methods = [("REML" if same else "ML (refitted)") if fit.reml else "ML" for fit in fits.values()]
    table = pd.DataFrame(
        {
            "method": methods,
            "n_parameters": n_parameters,
            "log_likelihood": -values / 2,
            "aic": aic,
            "aic_weight": weights / weights.sum(),
            "bic": values + np.log(first.n_observations) * n_parameters,
        },
        index=pd.Index(list(fits), name="model"),
    )
    shares = [_shares(fit) for fit in fits.values()]
    return table.assign(**{name: [share[name] for share in shares] for name in shares[0]})


def glance(model: FittedModel) -> pd.DataFrame:
    """Return one row that describes a fitted model, for tables of many models.

    Parameters
    ----------
    model : RandomInterceptRegressor or MixedEffectsRegressor
        A fitted model, or a pipeline or search that ends in one.

    Returns
    -------
    row : pandas.DataFrame
        One row, with the columns "n_samples", "n_groups" (one column for each of several grouping factors), "method" ("REML"
        or "ML"), "n_parameters", "log_likelihood", "criterion" (-2 log-likelihood), "aic", "bic", "df_residual" (N less the
        number of parameters), "r2_marginal", "r2_conditional", "icc" and "sigma" (the residual standard deviation).

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import glance
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True)
    >>> fits = {method: RandomInterceptRegressor(method=method).fit(X, y, groups=subject) for method in ("reml", "ml")}
    >>> pd.concat(map(glance, fits.values()))[["method", "n_samples", "n_groups", "criterion", "sigma"]].round(2)
      method  n_samples  n_groups  criterion  sigma
    0   REML      180.0        18    1786.47  30.99
    0     ML      180.0        18    1794.08  30.90
    """
    fit = grouped_fit_of(model)
    row = {
        "n_samples": fit.n_observations,
        **_numbers_of_groups(fit),
        "method": "REML" if fit.reml else "ML",
        "n_parameters": fit.n_parameters,
        "log_likelihood": -0.5 * fit.value,
        "criterion": fit.value,
        "aic": fit.aic,
        "bic": fit.bic,
        "df_residual": fit.n_observations - fit.n_parameters,
    }
    return pd.DataFrame([row | _shares(fit)])


def _numbers_of_groups(fit: GroupedFit) -> dict[str, int]:
    """Return the number of groups, or of the levels of each of several factors."""
    if isinstance(fit, FactorFit):
        return {f"n_groups {name}": number for name, number in fit.n_levels.items()}
    return {"n_groups": fit.moments.n_groups}


def _shares(fit: GroupedFit) -> dict[str, float]:
    """Return shares of variance, and the residual standard deviation."""
    shares, random = shares_of(fit), sum(fit.random_variances)
    return {
        "r2_marginal": shares["marginal"],
        "r2_conditional": shares["conditional"],
        "icc": share(random, random + fit.residual_variance),
        "sigma": float(np.sqrt(fit.residual_variance)),
    }


def _fits_by_name(models: tuple[FittedModel, ...], named: dict[str, FittedModel], least: int = 2) -> dict[str, GroupedFit]:
    """Return the fit of each model by name."""
    numbered = _numbered(models)
    if len(numbered) + len(named) < least:
        raise TypeError(
            f"Pass {'two or more models' if least > 1 else 'a model'}, each as an argument of its own or by name, such as "
            f"null=m0, full=m1; found {len(numbered) + len(named)}."
        )
    twice = numbered.keys() & named.keys()
    if twice:
        raise TypeError(f"Two models have the name {twice.pop()!r}. Give the named one another name.")
    return {name: grouped_fit_of(model, name) for name, model in (numbered | named).items()}


def _numbered(models: tuple[FittedModel, ...]) -> dict[str, FittedModel]:
    """Return models by the names that tables show for them: their formulas, if these differ, or their numbers."""
    formulas = [design.formula if (design := design_of(model)) is not None else None for model in models]
    return {
        f"model {at}" if formula is None or formulas.count(formula) > 1 else formula: model
        for at, (formula, model) in enumerate(zip(formulas, models, strict=True), start=1)
    }


def _deviances(fits: dict[str, GroupedFit]) -> np.ndarray:
    """Return the deviance of each model, refitted by maximum likelihood."""
    deviances = [fit.deviance() for fit in fits.values()]
    for name, value in zip(fits, deviances, strict=True):
        if np.isneginf(value):
            raise ValueError(UNBOUNDED.format(name))
    return np.array(deviances)


def _same_columns(first: GroupedFit, fit: GroupedFit) -> bool:
    """Return whether two models of the same rows have the same columns, so that restricted likelihoods can be compared."""
    a, b = first.predictors, fit.predictors
    if a.n_features != b.n_features or first.options.fit_intercept != fit.options.fit_intercept:
        return False
    mean, total = b.total_scatter
    length = np.sqrt(total)
    if not _same_groups(first, fit):
        own_mean, own_total = a.total_scatter
        same = np.abs(own_mean - mean) <= _SAME * (np.abs(mean) + length), np.abs(own_total - total) <= _SAME * total
        return bool((same[0] & same[1]).all())
    return bool(
        (np.abs(a.within - b.within) <= _SAME * np.outer(length, length)).all()
        and (np.abs(a.means - b.means) <= _SAME * (np.abs(mean) + length)).all()
    )


def _check_same_rows(first_name: str, first: GroupedFit, name: str, fit: GroupedFit) -> None:
    """Raise unless two models have the same rows, groups and outcome."""
    a, b = first.moments, fit.moments
    if not _same_groups(first, fit):
        # Models of other factors have other groups of the same rows.
        (mean, total), (other_mean, other_total) = a.total_scatter, b.total_scatter
        same = (
            np.isclose(a.counts.sum(), b.counts.sum(), rtol=1e-9)
            and np.isclose(mean[-1], other_mean[-1], rtol=1e-9, atol=1e-9 * np.sqrt(other_total[-1]))
            and np.isclose(total[-1], other_total[-1], rtol=1e-6)
        )
        _raise_unless_same(same, first_name, first, name, fit)
        return
    y_scale = np.sqrt(b.within[-1, -1] + b.counts.sum() * np.ptp(b.deviations[:, -1]) ** 2) or 1.0
    same = (
        a.n_groups == b.n_groups
        and a.labels.equals(b.labels)
        and np.allclose(a.counts, b.counts, rtol=1e-9)
        and np.allclose(a.means[:, -1], b.means[:, -1], rtol=1e-9, atol=1e-9 * y_scale)
        and np.isclose(a.within[-1, -1], b.within[-1, -1], rtol=1e-6)
    )
    _raise_unless_same(same, first_name, first, name, fit)


def _same_groups(first: GroupedFit, fit: GroupedFit) -> bool:
    """Return whether two models have the same groups; models of several factors have none in this sense."""
    return not isinstance(first, FactorFit) and not isinstance(fit, FactorFit)


def _raise_unless_same(same: bool, first_name: str, first: GroupedFit, name: str, fit: GroupedFit) -> None:
    """Raise unless two models have the same rows, and the same type of weights."""
    if not same:
        raise ValueError(
            f"{first_name} and {name} have different rows, groups or outcomes: their likelihoods cannot be compared. Fit "
            "both to the same rows."
        )
    if first.options.weight_type != fit.options.weight_type:
        raise ValueError(f"{first_name} and {name} differ in weight_type: their likelihoods cannot be compared.")


def _check_nested(small_name: str, small: GroupedFit, large_name: str, large: GroupedFit) -> None:
    """Raise unless the models have the same rows, and the columns of the small one are among those of the large one."""
    _check_same_rows(small_name, small, large_name, large)
    names = large.predictors.feature_names
    # Columns of formulas may have other names, as those of a + b and of a:b.
    by_name = small.design is None or large.design is None
    only_small = [] if names is None or not by_name else sorted(set(small.predictors.feature_names or ()) - set(names))
    random = _random_terms_among(small, large)
    more = large.rank > small.rank or (large.rank == small.rank and large.n_parameters > small.n_parameters)
    if not more or only_small or not random or not _means_among(small, large):
        hint = f" Only {small_name} has {', '.join(only_small)}." if only_small else ""
        if not random:
            hint = f" {small_name} has random coefficients that {large_name} lacks."
        raise ValueError(
            f"{small_name} and {large_name} are not nested: the larger must have the columns of the smaller and more. Found "
            f"{small.rank} and {large.rank} independent fixed effects.{hint} compare_models compares models that are not "
            "nested."
        )
    if small.options.fit_intercept and not large.options.fit_intercept:
        raise ValueError(f"{small_name} has a fixed intercept and {large_name} has none: they are not nested.")


def _random_terms_among(small: GroupedFit, large: GroupedFit) -> bool:
    """Return whether the coefficients of each random term of one model are correlated coefficients of another."""
    blocks = _blocks_of_terms(large, small)
    return all(any(mine <= block for block in blocks) for mine in _blocks_of_terms(small, large))


def _blocks_of_terms(fit: GroupedFit, other: GroupedFit) -> list[frozenset[tuple[str, str]]]:
    """Return the coefficients of each random term, with the factor that they belong to if one of two models has several."""
    several = not _same_groups(fit, other)
    terms = [term for term in fit.random_terms if term.coefficients]
    return [frozenset((term.factor if several else "", name) for name in term.coefficients) for term in terms]


def _added_to(small: GroupedFit, large: GroupedFit) -> int | None:
    """Return the size of the random term to which one coefficient is added, if that is all that the models differ in.

    0 if the random terms are the same; None if they differ in another way.
    """
    before, after = set(_blocks_of_terms(small, large)), set(_blocks_of_terms(large, small))
    if before == after:
        return 0
    new, old = after - before, before - after
    if len(new) != 1 or len(old) > 1 or small.rank != large.rank:
        return None
    (term,) = new
    return len(term) if len(term) - len(next(iter(old), frozenset())) == 1 else None


def _means_among(small: GroupedFit, large: GroupedFit) -> bool:
    """Return whether the group means of one model's columns are combinations of those of another.

    Moments do not hold the products of columns of different models, so that columns can be told apart by their group means,
    if there are more groups than columns.
    """
    a, b = small.predictors, large.predictors
    if not _same_groups(small, large):
        return True
    x = b.means[:, :-1] - b.means[:, :-1].mean(axis=0)
    y = a.means[:, :-1] - a.means[:, :-1].mean(axis=0)
    length = np.linalg.norm(x, axis=0)
    x = x / np.where(length > 0, length, 1.0)
    apart = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    # A column that varies within groups only has group means that are rounding.
    return bool((np.linalg.norm(apart, axis=0) <= _AMONG * np.sqrt(a.total_scatter[1][:-1])).all())
