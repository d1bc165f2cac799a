"""The global optimum of a `Criterion` on the closed half-line of variance ratios, both ends included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._criterion import Criterion
from ._solution import Solution

# In units of log gamma. The criterion is analytic in log gamma on a strip of half-width pi (its singularities are at
# negative gamma), so that it has no features much narrower than one.
_GRID_STEP = 0.5
# In units of 1 / (largest size): below it the derivative is a straight line but for a hundredth.
_FIRST_RATIO = 1e-2
# A criterion that varies less than this over the whole grid, relative to its terms, is constant.
_FLAT = 1e-11
# Steps by which a grid grows that ends too early, and where it ends in any case.
_EXTENSION = 10
_LARGEST_RATIO = 1e30
# Rounds of halving a cell in which the derivative may touch zero; 2^-40 of a cell is rounding.
_MAX_HALVINGS = 40
# Steps to a root; two are usual, and every sixth is a bisection.
_MAX_REFINEMENTS = 300
_LAST_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the criterion is least, and what kind of place that is.

    Attributes
    ----------
    solution : Solution
        The model there.
    boundary : {"group", "residual"} or None
        "group" where tau2 = 0, "residual" where sigma2 = 0, None between the ends.
    candidates : ndarray of shape (n_candidates,)
        The variance ratios of all local minima, ascending; infinity stands for sigma2 = 0.
    identified : bool
        False where the criterion is the same at every ratio, so that the data do not tell the variances apart.
    """

    solution: Solution
    boundary: str | None
    candidates: np.ndarray
    identified: bool = True


def minimise(criterion: Criterion) -> Optimum:
    """Return the global minimum of a criterion over gamma in [0, inf].

    The minima are roots of the analytic derivative, not the least of compared values, which would leave half of the
    digits. The derivative is evaluated on a grid between a ratio so small that it hardly differs from 0 and one beyond
    which it is provably positive; every change of sign from - to + is refined to machine precision, and cells in which
    the derivative might touch zero unseen are divided until it does or cannot.

    Parameters
    ----------
    criterion : Criterion

    Returns
    -------
    optimum : Optimum
        The lowest of the local minima and the ends; of equals, the smallest ratio.
    """
    if criterion.exact_fit:
        return Optimum(criterion.solution(0.0), "group", np.zeros(1))
    # Without residual within groups the end sigma2 = 0 is a minimum: without bound, or one to compare with the others.
    limit = criterion.within_residual_zero and criterion.limit_degrees_of_freedom >= 0
    if limit and criterion.limit_degrees_of_freedom > 0:
        return Optimum(criterion.solution(np.inf), "residual", np.array([np.inf]))
    grid = _scan(criterion)
    ratios, values, gradients, _ = grid
    if np.ptp(values) <= _FLAT * (np.abs(values).max() + criterion.degrees_of_freedom):
        return Optimum(criterion.solution(0.0), "group", np.zeros(1), identified=False)
    rising = np.flatnonzero((gradients[:-1] < 0) & (gradients[1:] >= 0))
    candidates = [_refine(criterion, *grid[[0, 2, 3], i : i + 2]) for i in rising]
    if gradients[0] >= 0 or not candidates:
        candidates.insert(0, 0.0)
    if limit:
        candidates.append(np.inf)
    elif gradients[-1] < 0:
        candidates.append(float(ratios[-1]))
    solutions = [criterion.solution(ratio) for ratio in candidates]
    best = min(solutions, key=lambda solution: solution.value)
    boundary = "group" if best.ratio == 0 else "residual" if np.isinf(best.ratio) else None
    return Optimum(best, boundary, np.array(candidates))


def _scan(criterion: Criterion) -> np.ndarray:
    """Return ratios, ascending from 0, with the criterion there and its first two derivatives, one a row.

    Between neighbours the derivative changes sign once at most.
    """

    def at(ratios: np.ndarray) -> np.ndarray:
        return np.array([ratios, *criterion.evaluate(ratios)])

    first = _FIRST_RATIO / criterion.sizes.max()
    last = max(_last_ratio(criterion), 10 * first)
    n_steps = int(np.ceil(np.log(last / first) / _GRID_STEP))
    grid = at(np.append(0.0, first * np.exp(_GRID_STEP * np.arange(n_steps + 1))))
    while grid[2, -1] <= 0 and grid[0, -1] < _LARGEST_RATIO and not criterion.within_residual_zero:
        # Groups that the fixed effects nearly tell apart: what they say of tau2 shows at large ratios only.
        more = grid[0, -1] * np.exp(_GRID_STEP * np.arange(1, _EXTENSION + 1))
        grid = np.append(grid, at(more), axis=1)
    for _ in range(_MAX_HALVINGS):
        doubtful = _may_touch_zero(grid[0], grid[2], grid[3])
        if not len(doubtful):
            break
        middle = (grid[0, doubtful] + grid[0, doubtful + 1]) / 2
        grid = np.insert(grid, doubtful + 1, at(middle), axis=1)
    return grid


def _last_ratio(criterion: Criterion) -> float:
    """Return a ratio above which the criterion rises.

    r2(gamma) - r2(inf) is a sum of terms c_i / (1 + gamma d_i), so that gamma times its derivative is at least
    -c / gamma with c the sum of c_i / d_i; and gamma times the derivative of the log determinants only grows, to the
    number of degrees of freedom between groups. Once that has grown to a half, gamma = 2 D c / r2(inf) suffices.
    """
    least = 10.0 / criterion.sizes.min()
    if criterion.within_residual_zero:
        # To where every column counts for its part within groups, however small, and the limit is near.
        return 1e3 * least / criterion.least_within
    return max(least, 2.0 * criterion.degrees_of_freedom * criterion.between_residual / criterion.within_residual)


def _may_touch_zero(ratios: np.ndarray, gradients: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return the cells without a change of sign whose tangents of the derivative, from both ends, meet beyond zero."""
    width = np.diff(ratios)
    sign = np.sign(gradients[:-1])
    left, right = sign * slopes[:-1], sign * slopes[1:]
    dips = (sign == np.sign(gradients[1:])) & (left < 0) & (right > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        at = (sign * np.diff(gradients) - right * width) / (left - right)
        clear = (sign * gradients[:-1] + left * at > 0) & (at >= 0) & (at <= width)
    return np.flatnonzero(dips & ~clear)


def _refine(criterion: Criterion, ratios: np.ndarray, gradients: np.ndarray, slopes: np.ndarray) -> float:
    """Return the root of the derivative between two ratios, to machine precision.

    Each step evaluates the root interpolated from both ends of the bracket and puts it in the place of one of them, with
    an order of convergence between 2 and 3; now and then it bisects, so that it ends whatever the derivative looks like.
    The variable is log gamma, in which the derivative is straighter, except in the cell at 0.
    """
    logarithmic = ratios[0] > 0

    def end(ratio: float, gradient: float, slope: float) -> tuple[float, float, float]:
        return (
            (np.log(ratio), ratio * gradient, ratio * (gradient + ratio * slope))
            if logarithmic
            else (ratio, gradient, slope)
        )

    low, high = (end(*one) for one in zip(ratios, gradients, slopes, strict=True))
    for attempt in range(_MAX_REFINEMENTS):
        at = (low[0] + high[0]) / 2 if attempt % 6 == 5 else _interpolate_root(low, high)
        ratio = float(np.exp(at)) if logarithmic else at
        moved = min(at - low[0], high[0] - at)
        _, (gradient,), (slope,) = criterion.evaluate(ratio)
        if gradient < 0:
            low = end(ratio, gradient, slope)
        else:
            high = end(ratio, gradient, slope)
        # The root now known is off by less than the step squared, and the one interpolated next by less than that squared.
        if moved <= _LAST_STEP * (1.0 if logarithmic else ratio):
            break
    at = _interpolate_root(low, high)
    return float(np.exp(at)) if logarithmic else at


def _interpolate_root(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """Return the root between two ends, each a place, value and slope, by cubic Hermite interpolation of the inverse."""
    (x0, g0, s0), (x1, g1, s1) = low, high
    if min(s0, s1) <= 0:
        return (x0 + x1) / 2
    rise = g1 - g0
    t = -g0 / rise
    root = x0 + t**2 * (3 - 2 * t) * (x1 - x0) + t * (1 - t) * rise * ((1 - t) / s0 - t / s1)
    return min(max(root, x0), x1)
