"""Data sets for learning: two published ones, and simulated pupils in schools."""

from __future__ import annotations

from importlib.resources import files
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch, check_random_state

from ._inputs import is_whole
from ._typing import RandomState

__all__ = ["load_dyestuff", "load_sleepstudy", "make_schools"]

_DYESTUFF = """Dyestuff: yield of dye in batches of an intermediate product
=============================================================

Six batches of H-acid were tried five times each; the outcome is the yield of Naphthalene Black 12B, in grams of standard
colour. Do the batches vary, or does the process that turns them into dye?

30 rows, 6 groups (batch, "A" to "F") of 5, no predictors.

Source: O. L. Davies and P. L. Goldsmith (eds.), "Statistical Methods in Research and Production", 4th edition, Oliver and
Boyd, Edinburgh 1972, table 6.1.
"""

_SLEEPSTUDY = """Sleepstudy: reaction times over days of too little sleep
========================================================

Eighteen subjects were allowed three hours of sleep a night; the outcome is the average reaction time on a series of tests,
in milliseconds, on days 0 to 9.

180 rows, 18 groups (subject) of 10, one predictor (days).

Source: G. Belenky, N. J. Wesensten, D. R. Thorne and others (2003), "Patterns of performance degradation and restoration
during sleep restriction and subsequent recovery: a sleep dose-response study", Journal of Sleep Research 12, 1-12.
"""


def load_dyestuff(*, return_X_y_groups: bool = False, as_frame: bool = False) -> Bunch | tuple[Any, Any, Any]:
    """Load the dyestuff data: the yields of five trials with each of six batches.

    Parameters
    ----------
    return_X_y_groups : bool, default=False
        Whether to return ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether to return pandas objects instead of arrays.

    Returns
    -------
    dyestuff : Bunch
        A Bunch with the keys

        data : None
            There are no predictors; `fit` takes None as X.
        target : ndarray or Series of shape (30,)
            Yield, in grams of standard colour.
        groups : ndarray or Series of shape (30,)
            Batch, "A" to "F".
        frame : DataFrame of shape (30, 2)
            All columns, or None without `as_frame`.
        feature_names, target_name, group_name : list of str, str and str
            Names of the columns.
        DESCR : str
            Description and source.

    Examples
    --------
    >>> from sklearn_mlm.datasets import load_dyestuff
    >>> load_dyestuff(as_frame=True).frame.groupby("batch")["yield"].mean()
    batch
    A    1505.0
    B    1528.0
    C    1564.0
    D    1498.0
    E    1600.0
    F    1470.0
    Name: yield, dtype: float64
    """
    return _deliver(_read("dyestuff"), [], "yield", "batch", _DYESTUFF, return_X_y_groups, as_frame)


def load_sleepstudy(*, return_X_y_groups: bool = False, as_frame: bool = False) -> Bunch | tuple[Any, Any, Any]:
    """Load the sleepstudy data: the reaction times of 18 subjects over ten days with too little sleep.

    Parameters
    ----------
    return_X_y_groups : bool, default=False
        Whether to return ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether to return pandas objects instead of arrays.

    Returns
    -------
    sleepstudy : Bunch
        A Bunch with the keys

        data : ndarray or DataFrame of shape (180, 1)
            Days of sleep deprivation, 0 to 9.
        target : ndarray or Series of shape (180,)
            Average reaction time, in milliseconds.
        groups : ndarray or Series of shape (180,)
            Subject, an integer.
        frame : DataFrame of shape (180, 3)
            All columns, or None without `as_frame`.
        feature_names, target_name, group_name : list of str, str and str
            Names of the columns.
        DESCR : str
            Description and source.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, groups = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> RandomInterceptRegressor().fit(X, y, groups=groups).variance_components_.round(2)
    group       1378.18
    residual     960.46
    Name: variance, dtype: float64
    """
    return _deliver(_read("sleepstudy"), ["days"], "reaction", "subject", _SLEEPSTUDY, return_X_y_groups, as_frame)


def _read(name: str) -> pd.DataFrame:
    """Return a data set that is a file of the package."""
    with files(__package__).joinpath("data", f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def _deliver(
    frame: pd.DataFrame, features: list[str], target: str, group: str, description: str, as_tuple: bool, as_frame: bool
) -> Bunch | tuple[Any, Any, Any]:
    """Return a frame as a Bunch, or as a tuple of predictors, outcome and groups."""
    data: Any = frame[features] if features else None
    outcome: Any = frame[target]
    groups: Any = frame[group]
    if not as_frame:
        data = None if data is None else data.to_numpy(dtype=np.float64)
        outcome, groups = outcome.to_numpy(dtype=np.float64), np.asarray(groups)
    if as_tuple:
        return data, outcome, groups
    return Bunch(
        data=data,
        target=outcome,
        groups=groups,
        frame=frame if as_frame else None,
        feature_names=features,
        target_name=target,
        group_name=group,
        DESCR=description,
    )


def make_schools(
    n_groups: int = 419,
    n_samples: int = 6871,
    *,
    intercept: float = 57.67,
    group_variance: float = 10.64,
    residual_variance: float = 66.55,
    return_X_y_groups: bool = False,
    as_frame: bool = False,
    random_state: RandomState = None,
) -> Bunch | tuple[Any, Any, Any]:
    """Simulate the mathematics scores of pupils in schools, with their socioeconomic status.

    The scores follow the null model exactly::

        math_ij = intercept + u_j + e_ij,   u_j ~ N(0, group_variance),   e_ij ~ N(0, residual_variance).

    The status of pupils (`ses`, with mean 0 and standard deviation 0.78) is correlated with their scores, more strongly
    between schools than within. With the default variances, if the status of one pupil is 1 higher than that of another
    pupil of the same school, the score is 3.4 points higher on average; if the mean status of a school is 1 higher, its
    mean score is about 5 points higher. Status therefore explains variance at both levels and has a contextual effect.

    The defaults are the estimates from a real sample of schools that chapter 4 of Shaw and Flake's book prints.

    Parameters
    ----------
    n_groups : int, default=419
        Number of schools, at least 1.
    n_samples : int, default=6871
        Number of pupils, at least `n_groups`; each school has at least one. The standard deviation of the sizes of schools
        is about a third of their mean.
    intercept : float, default=57.67
        Mean score of the average school.
    group_variance : float, default=10.64
        Variance between schools, in points squared.
    residual_variance : float, default=66.55
        Variance between the pupils of a school, in points squared.
    return_X_y_groups : bool, default=False
        Whether to return ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether to return pandas objects instead of arrays.
    random_state : int, RandomState instance or None, default=None
        Random numbers of the simulation; pass an int to simulate the same pupils every time.

    Returns
    -------
    schools : Bunch
        A Bunch with the keys of the loaders: `data` of shape (n_samples, 1), `target`, `groups` (1 to n_groups), `frame`
        with the columns "school", "ses" and "math", `feature_names`, `target_name`, `group_name` and `DESCR`.

    Raises
    ------
    ValueError
        If there are fewer pupils than schools, or a variance is negative.

    References
    ----------
    M. Shaw and J. K. Flake, "Introduction to Multilevel Modelling", chapter 4, section 4.2.4.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import make_schools
    >>> schools = make_schools(as_frame=True, random_state=0)
    >>> schools.frame.shape
    (6871, 3)
    >>> null_model = RandomInterceptRegressor().fit(None, schools.target, groups=schools.groups)
    >>> round(null_model.icc_, 2)
    0.13
    """
    if not (is_whole(n_samples) and is_whole(n_groups, 1, n_samples)):
        raise ValueError(
            "n_groups and n_samples must be whole numbers, and n_groups between 1 and n_samples; found "
            f"n_groups={n_groups!r} and n_samples={n_samples!r}."
        )
    for name, variance in (("group_variance", group_variance), ("residual_variance", residual_variance)):
        if not isinstance(variance, Real) or not variance >= 0:
            raise ValueError(f"{name} must be a number of at least 0; found {variance!r}.")
    rng = check_random_state(random_state)
    popularity = rng.gamma(16.0, size=n_groups)
    sizes = 1 + rng.multinomial(n_samples - n_groups, popularity / popularity.sum())
    school = np.repeat(np.arange(n_groups), sizes)
    # Two standard normal numbers for each school and for each pupil.
    of_school, of_pupil = rng.standard_normal((2, n_groups)), rng.standard_normal((2, n_samples))
    math = intercept + np.sqrt(group_variance) * of_school[0][school] + np.sqrt(residual_variance) * of_pupil[0]
    status_of_school = 0.49 * (0.76 * of_school[0] + np.sqrt(1 - 0.76**2) * of_school[1])
    status_in_school = 0.61 * (0.25 * of_pupil[0] + np.sqrt(1 - 0.25**2) * of_pupil[1])
    frame = pd.DataFrame({"school": school + 1, "ses": status_of_school[school] + status_in_school, "math": math})
    description = f"{n_samples} simulated pupils in {n_groups} schools: make_schools of sklearn_mlm.datasets."
    return _deliver(frame, ["ses"], "math", "school", description, return_X_y_groups, as_frame)
