"""The columns with random coefficients, as pictures need them: names, each group's own least squares, levels of groups."""

from __future__ import annotations

from typing import cast

import numpy as np

from .._typing import Floats, GroupedFit
from ..likelihood._factor_fit import FactorView
from ..likelihood._fit import Fit
from ..likelihood._mixed_fit import MixedEffectsFit
from ..likelihood._random_terms import INTERCEPT
from ._style import label_text

# The least singular value of a group's columns, relative to the largest, with which they are independent.
_DEPENDENT = 1e-8
# A text of an axis that is longer than this has two lines.
_LONG_TEXT = 52


def coefficients_of(fit: GroupedFit) -> tuple[str, ...]:
    """Return the names of the random coefficients."""
    return tuple(str(name) for term in fit.random_terms for name in term.coefficients)


def fixed_effects_of(fit: GroupedFit) -> list[float]:
    """Return the fixed effects of the columns with random coefficients; 0 for a column that has none."""
    return [float(part) for part in fit.fixed_parts] if isinstance(fit, MixedEffectsFit | FactorView) else [fit.intercept]


def coefficient_text(name: str, outcome_name: str, *, absolute: bool, of: str = "") -> str:
    """Return what a random coefficient is, and its unit, in two lines if one were long.

    Parameters
    ----------
    name : str
        Name of the coefficient.
    outcome_name : str
        Name of y, as text for matplotlib.
    absolute : bool
        Whether values are coefficients of the groups, rather than deviations from the fixed effect.
    of : str, default=""
        What to add to the name, such as " (EB estimate)".

    Returns
    -------
    text : str
        The text.
    """
    slope = "" if name == INTERCEPT else label_text(name).strip()
    what = f"slope of {slope}" if slope else "intercept"
    unit = f"{outcome_name.strip()} per unit of {slope}" if slope else outcome_name.strip()
    text = f"{what if absolute else f'deviation of the {what}'}{of}, in {unit}"
    return text if len(text) <= _LONG_TEXT else text.replace(", in", ",\nin", 1)


def levels_of_groups(fit: GroupedFit) -> Floats:
    """Return the deviation of each group from the population at the mean of all rows, in units of y."""
    if not isinstance(fit, MixedEffectsFit | FactorView):
        return np.asarray(cast(Fit, fit).random_effects)
    mean, _ = fit.moments.total_scatter
    return np.asarray(fit.random_effects @ np.array([1.0 if at is None else mean[at] for at in _columns_of(fit)]))


def own_coefficients(fit: MixedEffectsFit | FactorView) -> Floats:
    """Return the random coefficients that least squares gives each group from its rows alone, from the record of the fit.

    They are the deviations b from the fixed effects that minimise the sum of squares of y - X beta - Z_j b over the rows of
    the group. Coefficients that do not vary keep their fixed effects.

    Parameters
    ----------
    fit : MixedEffectsFit
        The fit.

    Returns
    -------
    own : ndarray of shape (n_groups, n_random)
        NaN for a group whose rows do not determine all coefficients, such as a single row, or rows of equal x.
    """
    names, columns = coefficients_of(fit), _columns_of(fit)
    mean, _ = fit.known.moments.total_scatter
    # About the mean of x, intercept and slopes are far from dependent.
    about = np.array([0.0 if at is None or INTERCEPT not in names else mean[at] for at in columns])
    z, rest = factors_of_groups(fit, about)
    length = np.sqrt((z * z).mean(axis=(0, 1)))
    length[length == 0] = 1.0
    singular = np.linalg.svd(z / length, compute_uv=False)
    determined = singular[:, -1] > _DEPENDENT * singular[:, 0]
    own = np.full((len(z), len(names)), np.nan)
    q, r = np.linalg.qr(z[determined] / length)
    own[determined] = np.linalg.solve(r, q.transpose(0, 2, 1) @ rest[determined, :, None])[:, :, 0] / length
    if INTERCEPT in names:
        own[:, names.index(INTERCEPT)] -= own @ about
    return own[: len(fit.labels)]


def factors_of_groups(fit: MixedEffectsFit | FactorView, about: Floats) -> tuple[Floats, Floats]:
    """Return what the rows of each group say of its coefficients: a factor of the columns, and y - X beta along it.

    Parameters
    ----------
    fit : MixedEffectsFit
        The fit.
    about : ndarray of shape (n_random,)
        The values from which the columns with random coefficients are counted; 0 for the intercept.

    Returns
    -------
    z : ndarray of shape (n_groups, n_slopes + 1, n_random)
        The columns with random coefficients along unit vectors of the group, the first of which is constant: z'z is Z_j'Z_j.
    rest : ndarray of shape (n_groups, n_slopes + 1)
        Y less the fixed part along the same vectors.
    """
    record, known = fit.known.about_slopes()
    moments, factors = record.moments, record.factors
    beta = np.zeros(record.n_features + 1)
    beta[: len(fit.slopes)] = -(fit.slopes - known[: len(fit.slopes)])
    beta[-1] = 1.0
    length = np.sqrt(moments.counts)
    z = np.zeros((moments.n_groups, factors.shape[1] + 1, len(about)))
    for at, column in enumerate(_columns_of(fit)):
        if column is None:
            z[:, 0, at] = length
        else:
            z[:, 0, at] = length * (moments.deviations[:, column] + (moments.center[column] - about[at]))
            z[:, 1:, at] = factors[:, :, column]
    constant = float(moments.center @ beta) - fit.intercept
    first = length * (moments.deviations @ beta + constant)
    return z, np.column_stack([first, factors @ beta])


def _columns_of(fit: MixedEffectsFit | FactorView) -> tuple[int | None, ...]:
    """Return the position of the column of each random coefficient; None for the intercept."""
    # Steps of a pipeline may have renamed the columns since the coefficients were named.
    columns = fit.criterion.coordinates.design.columns
    return tuple(columns[at] for at in fit.positions) if isinstance(fit, FactorView) else columns
