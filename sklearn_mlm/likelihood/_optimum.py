"""The global optimum of a `Criterion` on the closed half-line of variance ratios, both ends included."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np

from .._typing import Boundary
from ._criterion import Criterion
from ._solution import Solution
from ._spectrum import is_constant

# In units of log gamma. The criterion is analytic in log gamma on a strip of half-width pi (its singularities are at
# negative gamma), so that it has no features much narrower than one.
_GRID_STEP = 0.5
# In units of 1 / (largest size): below it the derivative is a straight line but for a hundredth.
_FIRST_RATIO = 1e-2
# Steps by which a grid grows that ends too early, and where it ends in any case, in units of 1 / (smallest size).
_EXTENSION = 10
_LARGEST_RATIO = 1e30
# Rounds of halving a cell in which the derivative may touch zero; 2^-40 of a cell is rounding.
_MAX_HALVINGS = 40
# Steps to a root; one is usual, and every sixth is a bisection.
_MAX_REFINEMENTS = 300
_MAX_POLYNOMIAL_STEPS = 8
# A step after which the error, of the order of its cube, is below rounding.
_LAST_STEP = 3e-6
# The derivative is not known better than to this share of its largest term.
_ROUNDING = 3e-16
_SPACING = np.finfo(np.float64).eps
# A place on the axis, the derivative of the criterion there and its slope.
_Place = tuple[float, float, float]


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
    boundary: Boundary
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
    limit = criterion.coordinates.within_residual_zero and criterion.limit_degrees_of_freedom >= 0
    if limit and criterion.limit_degrees_of_freedom > 0:
        return Optimum(criterion.solution(np.inf), "residual", np.array([np.inf]))
    if is_constant(criterion):
        return Optimum(criterion.solution(0.0), "group", np.zeros(1), identified=False)
    grid = _scan(criterion)
    ratios, _, gradients, _ = grid
    rising = np.flatnonzero((gradients[:-1] < 0) & (gradients[1:] >= 0))
    candidates = [_refine(criterion, grid, cell) for cell in rising.tolist()]
    if gradients[0] >= 0 or not candidates:
        candidates.insert(0, 0.0)
    if limit:
        candidates.append(np.inf)
    elif gradients[-1] < 0:
        candidates.append(float(ratios[-1]))
    solutions = [criterion.solution(ratio) for ratio in candidates]
    best = min(solutions, key=lambda solution: solution.value)
    boundary: Boundary = "group" if best.ratio == 0 else "residual" if np.isinf(best.ratio) else None
    return Optimum(best, boundary, np.array(candidates))


def _scan(criterion: Criterion) -> np.ndarray:
    """Return ratios, ascending from 0, with the criterion there and its first two derivatives, one a row.

    Between neighbours the derivative changes sign once at most.
    """

    def at(ratios: np.ndarray) -> np.ndarray:
        return np.array([ratios, *criterion.evaluate(ratios)])

    sizes = criterion.groups.sizes
    first = _FIRST_RATIO / sizes.max()
    last = max(_last_ratio(criterion), 10 * first)
    largest = _LARGEST_RATIO / sizes.min()
    n_steps = int(np.ceil(np.log(last / first) / _GRID_STEP))
    grid = at(np.append(0.0, first * np.exp(_GRID_STEP * np.arange(n_steps + 1))))
    while grid[2, -1] <= 0 and grid[0, -1] < largest and not criterion.coordinates.within_residual_zero:
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

    r2(gamma) - r2(inf) is a sum of terms c_i / (1 + gamma d_i), so that gamma times its derivative is at least -c / gamma
    with c the sum of c_i / d_i. And gamma times the derivative of the log determinants is at least m / 2 at
    gamma = 1 / n_min, with m = J - k eigenvalues of at least n_min for REML (by Weyl's inequalities, since X takes away a
    matrix of rank k) and m = J for maximum likelihood. So gamma = 2 D c / (m r2(inf)) suffices beyond that.
    """
    smallest = criterion.groups.sizes.min()
    if criterion.coordinates.within_residual_zero:
        # To where every column counts for its part within groups, however small, and the limit is near.
        return 1e4 / smallest / criterion.coordinates.least_within
    n_large = criterion.moments.n_groups - criterion.rank * criterion.reml
    rise = 2.0 * criterion.degrees_of_freedom * criterion.between_residual / criterion.coordinates.within_residual
    return max(1.0 / smallest, rise / n_large) if n_large > 0 else max(10.0 / smallest, rise)


def _may_touch_zero(ratios: np.ndarray, gradients: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return the cells without a change of sign whose tangents of the derivative, from both ends, meet beyond zero."""
    sign = np.sign(gradients[:-1])
    left, right = sign * slopes[:-1], sign * slopes[1:]
    dips = np.flatnonzero((sign == np.sign(gradients[1:])) & (left < 0) & (right > 0))
    if not len(dips):
        return dips
    left, right, width = left[dips], right[dips], ratios[dips + 1] - ratios[dips]
    low, high = (sign[dips] * gradients[dips + end] for end in (0, 1))
    at = (high - low - right * width) / (left - right)
    return dips[~((low + left * at > 0) & (at >= 0) & (at <= width))]


def _refine(criterion: Criterion, grid: np.ndarray, cell: int) -> float:
    """Return the root of the derivative in a cell of the grid, to the rounding of the derivative.

    The variable is t = log gamma, in which the derivative v = gamma f' is straighter, except in the cell at 0, where it is
    gamma itself. The first place is the root of the Hermite interpolant through the cell and one grid point beyond each
    end, which is usually off by 1e-7. From each place where v and its slope c are known, a step of Chebyshev's method,

        t - (v / c) (1 + b v / (2 c^2)),

    with b an estimate of the second derivative, leaves an error of the order of the step cubed: a step of 3e-6 is the
    last. The root stays bracketed, and every sixth place is the middle of the bracket, so that the search ends whatever
    the derivative looks like.
    """
    logarithmic = bool(grid[0, cell] > 0)

    def place(ratio: float, gradient: float, slope: float) -> _Place:
        if logarithmic:
            return log(ratio), ratio * gradient, ratio * (gradient + ratio * slope)
        return ratio, gradient, slope

    first = cell - 1 if cell > 1 or (cell == 1 and not logarithmic) else cell
    known = [place(*column) for column in grid[[0, 2, 3], first : cell + 3].T.tolist()]
    low, high = known[cell - first], known[cell - first + 1]
    at, bend = _hermite_root(known, low, high)
    last = min(low, high, key=lambda end: abs(end[0] - at))
    for attempt in range(1, _MAX_REFINEMENTS):
        ratio = exp(at) if logarithmic else at
        here = place(ratio, *criterion.derivatives(ratio))
        low, high = (here, high) if here[1] < 0 else (low, here)
        if attempt > 1:
            bend = _second_derivative(last, here)
        at, step = _chebyshev_step(here, bend)
        unit = 1.0 if logarithmic else ratio
        rounding = _ROUNDING * criterion.determinant_slope(ratio) * (ratio if logarithmic else 1.0)
        if abs(step) <= _LAST_STEP * unit or abs(here[1]) <= rounding or high[0] - low[0] <= _SPACING * abs(here[0]):
            break
        if attempt % 6 == 0 or not low[0] < at < high[0]:
            at = (low[0] + high[0]) / 2
        last = here
    at = min(max(at, low[0]), high[0])
    return exp(at) if logarithmic else at


def _hermite_root(known: list[_Place], low: _Place, high: _Place) -> tuple[float, float]:
    """Return the root, in a bracket, of the polynomial through places and their slopes, and its second derivative there.

    The polynomial is in Newton's form, of divided differences in which each place stands twice (J. Stoer and R. Bulirsch
    (2002), "Introduction to Numerical Analysis", section 2.1.5), and its root by Newton's method from that of the cubic
    interpolant of the inverse function.
    """
    places = [x for x, _, _ in known for _ in range(2)]
    column = [v for _, v, _ in known for _ in range(2)]
    coefficients = [column[0]]
    for order in range(1, len(places)):
        column = [
            known[i // 2][2] if order == 1 and i % 2 == 0 else (column[i + 1] - column[i]) / (places[i + order] - places[i])
            for i in range(len(column) - 1)
        ]
        coefficients.append(column[0])
    root, second = _interpolate_root(low, high), 0.0
    for _ in range(_MAX_POLYNOMIAL_STEPS):
        value = first = half_second = 0.0
        for coefficient, x in zip(reversed(coefficients), reversed(places), strict=True):
            half_second = half_second * (root - x) + first
            first = first * (root - x) + value
            value = value * (root - x) + coefficient
        second = 2.0 * half_second
        if first <= 0:
            break
        step = value / first
        root = min(max(root - step, low[0]), high[0])
        if abs(step) <= _LAST_STEP * (high[0] - low[0]):
            break
    return root, second


def _chebyshev_step(here: _Place, bend: float) -> tuple[float, float]:
    """Return where a step of Chebyshev's method from a place leads, and the step; an infinite one where it falls."""
    x, value, slope = here
    if slope <= 0:
        return np.inf, np.inf
    step = value / slope
    step *= 1.0 + bend * step / (2.0 * slope)
    return x - step, step


def _second_derivative(last: _Place, here: _Place) -> float:
    """Return the second derivative, at the second of two places, of the cubic through both and their slopes."""
    width = here[0] - last[0]
    return 2.0 / width * (last[2] + 2.0 * here[2] - 3.0 * (here[1] - last[1]) / width) if width else 0.0


def _interpolate_root(low: _Place, high: _Place) -> float:
    """Return the root between two ends by cubic Hermite interpolation of the inverse."""
    (x0, g0, s0), (x1, g1, s1) = low, high
    if min(s0, s1) <= 0:
        return (x0 + x1) / 2
    rise = g1 - g0
    t = -g0 / rise
    root = x0 + t**2 * (3 - 2 * t) * (x1 - x0) + t * (1 - t) * rise * ((1 - t) / s0 - t / s1)
    return min(max(root, x0), x1)
