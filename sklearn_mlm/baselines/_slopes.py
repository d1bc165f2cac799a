"""Whether the effects of predictors vary between groups: a random slope for one predictor at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..inference._model_comparison import mixture_p_value
from ..likelihood._fit import Fit
from ..likelihood._identification import unidentified
from ..likelihood._mixed_fits import fit_of_mixed_criterion
from ..likelihood._options import MixedOptions
from ..likelihood._random_terms import RandomTerm
from ..moments._rows import GroupedRows
from ..moments._scatter_reading import read_scatter

# The most predictors that are tried, each of which takes a reading of the rows.
_MOST = 6


def slopes_between_groups(rows: GroupedRows, fit: Fit, first: pd.Series) -> pd.DataFrame:
    """Return how much the effect of each predictor varies between groups, and the test that it does not.

    Parameters
    ----------
    rows : GroupedRows
        The rows of the fit.
    fit : Fit
        The random intercept model.
    first : pandas.Series
        A number for each predictor by name; if there are many predictors, those with the largest numbers are tried.

    Returns
    -------
    slopes : pandas.DataFrame
        A row for each predictor that varies within groups, in the order of the predictors: "sd" of the random slope in the
        random intercept model with that slope added, the likelihood-ratio statistic "chi2" of the slope and its covariance
        with the intercept, and "p_value" from the mixture of chi-squared distributions. NaN if the rows do not identify it.
    """
    moments, names = fit.moments, list(fit.moments.shown_names)
    varying = [name for name, scatter in zip(names, moments.within.diagonal()[:-1], strict=True) if scatter > 0]
    tried = first.reindex(varying).sort_values(ascending=False, na_position="last", kind="stable").index[:_MOST]
    table = pd.DataFrame(np.nan, index=pd.Index(varying, name="coefficient"), columns=["sd", "chi2", "p_value"])
    for name in tried if fit.residual_variance > 0 else ():
        terms = (RandomTerm(fit.group_name, True, (name,)),)
        options = MixedOptions(terms, fit.options.method, fit.options.fit_intercept, fit.options.weight_type)
        scatter = read_scatter(rows, (names.index(name),))
        criterion = options.criterion(scatter.renamed(names))
        if criterion.coordinates.dropped_random or unidentified(criterion) is not None or criterion.unbounded:
            continue
        mixed = fit_of_mixed_criterion(criterion, options)
        if mixed.has_no_maximum:
            continue
        chi2 = max(fit.value - mixed.value, 0.0)
        sd = float(np.sqrt(mixed.random_covariance[1, 1]))
        table.loc[name] = [sd, chi2, mixture_p_value(chi2, 2)]
    return table
