"""The global optimum of a `Criterion` over the variance ratios from 0 to infinity, including both ends."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np

from .._typing import Boundary, Floats, Positions
from ._criterion import Criterion
from ._solution import Solution
from ._spectrum import is_constant

# Step of the grid, in units of log gamma. The criterion is analytic in log gamma on a strip of half-width pi, because its
# singularities are at negative gamma, so that it has no features much narrower than one unit.
_GRID_STEP = 0.5
# First ratio of the grid, in units of 1 / (largest size). Below it, the derivative is a straight line to about 1%.
_FIRST_RATIO = 1e-2
# Steps that extend a grid that ends too early, and the ratio at which it always ends, in units of 1 / (smallest size).
_EXTENSION = 10
_LARGEST_RATIO = 1e30
# A cell in which the derivative may touch zero is halved at most this often: 2^-40 of a cell is rounding.
_MAX_HALVINGS = 40
# Steps to a root, at most. One is usual, and every sixth is a bisection.
_MAX_REFINEMENTS = 300
_MAX_POLYNOMIAL_STEPS = 8
# After a step of this length the error, which is of the order of its cube, is below rounding.
_LAST_STEP = 3e-6
# The derivative is rounding if it is below this share of its largest term.
_ROUNDING = 3e-16
_SPACING = np.finfo(np.float64).eps
# A point of the axis, and the derivative of the criterion there with its slope.
_Place = tuple[float, float, float]
# The variance that is 0 at each end.
_BOUNDARIES: dict[float, Boundary] = {0.0: "group", np.inf: "residual"}


@dataclass(frozen=True, eq=False)
class Optimum:
    """Stores the global minimum of a criterion, and whether it is at an end.

    Attributes
    ----------
    solution : Solution
        The model at the minimum.
    boundary : {"group", "residual"} or None
        "group" if tau2 = 0, "residual" if sigma2 = 0, None between the ends.
    candidates : ndarray of shape (n_candidates,)
        The variance ratios of all local minima, ascending; infinity stands for sigma2 = 0.
    identified : bool
        False if the criterion is the same at every ratio, so that the data do not identify the variances.
    """

    solution: Solution
    boundary: Boundary
    candidates: np.ndarray
    identified: bool = True


def minimise(criterion: Criterion) -> Optimum:
    """Return the global minimum of a criterion over gamma in [0, inf].

    A minimum is a root of the analytic derivative; comparing values of the criterion would lose half of the digits. The
    derivative is evaluated on a grid from a ratio that hardly differs from 0 to a ratio above which the derivative is
    positive (`_last_ratio`). Every change of sign from - to + is refined to machine precision. A cell without a change of
    sign is divided as long as the tangents of the derivative at its ends leave room for a root.

    Parameters
    ----------
    criterion : Criterion
        The criterion of the data.

    Returns
    -------
    optimum : Optimum
        The lowest of the local minima and the ends; the smallest ratio if several are equally low.
    """
    if criterion.exact_fit:
        return Optimum(criterion.solution(0.0), "group", np.zeros(1))
    # Without residual within groups, the end sigma2 = 0 is a minimum: unbounded, or comparable with the others.
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
    return Optimum(best, _BOUNDARIES.get(best.ratio), np.array(candidates))


def _scan(criterion: Criterion) -> np.ndarray:
    """Return rows of ratios (ascending from 0), of values of the criterion, and of its first and second derivatives.

    Between neighbouring ratios the derivative changes sign at most once.
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
        # If the fixed effects nearly distinguish the groups, the criterion depends on tau2 only at large ratios.
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

    r2(gamma) - r2(inf) is a sum of terms c_i / (1 + gamma d_i), so that gamma times its derivative is at least -c / gamma,
    where c is the sum of c_i / d_i. Gamma times the derivative of the log determinants is at least m / 2 from
    gamma = 1 / n_min on. For REML there are m = J - k eigenvalues of at least n_min (by Weyl's inequalities, because X
    removes a matrix of rank k); for maximum likelihood m = J. So the criterion rises above the larger of 1 / n_min and
    2 D c / (m r2(inf)).
    """
    smallest = float(criterion.groups.sizes.min())
    if criterion.coordinates.within_residual_zero:
        # At this ratio the within part of every column, however small, has its full effect, and the limit is near.
        return 1e4 / smallest / criterion.coordinates.least_within
    n_large = criterion.moments.n_groups - criterion.rank * criterion.reml
    rise = 2.0 * criterion.degrees_of_freedom * criterion.between_residual / criterion.coordinates.within_residual
    return max(1.0 / smallest, rise / n_large) if n_large > 0 else max(10.0 / smallest, rise)


def _may_touch_zero(ratios: Floats, gradients: Floats, slopes: Floats) -> Positions:
    """Return the cells without a change of sign in which the tangents of the derivative at both ends meet beyond zero."""
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

    The variable is t = log gamma, in which the derivative v = gamma f' is straighter; in the cell at 0 it is gamma itself.
    The first point is the root of the Hermite interpolant through the cell and one grid point beyond each end, which usually
    has an error of 1e-7. From each point, with v and its slope c there, a step of Chebyshev's method leads to

        t - (v / c) (1 + b v / (2 c^2)),

    where b is an estimate of the second derivative. Its error is of the order of the step cubed, so that a step of 3e-6 is
    the last. The root stays bracketed, and every sixth point is the middle of the bracket, so that the search always ends.
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
    """Return the root in a bracket of the polynomial with these values and slopes, and its second derivative there.

    The polynomial is in Newton's form, with divided differences in which each point occurs twice (J. Stoer and R. Bulirsch
    (2002), "Introduction to Numerical Analysis", section 2.1.5). Newton's method finds its root, starting from the root of
    the cubic interpolant of the inverse function.
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
    """Return the point after a step of Chebyshev's method, and the step; both are infinite if the derivative falls."""
    x, value, slope = here
    if slope <= 0:
        return np.inf, np.inf
    step = value / slope
    step *= 1.0 + bend * step / (2.0 * slope)
    return x - step, step


def _second_derivative(last: _Place, here: _Place) -> float:
    """Return the second derivative, at the second of two points, of the cubic with the values and slopes of both."""
    width = here[0] - last[0]
    return 2.0 / width * (last[2] + 2.0 * here[2] - 3.0 * (here[1] - last[1]) / width) if width else 0.0


def _interpolate_root(low: _Place, high: _Place) -> float:
    """Return the root between two points, by cubic Hermite interpolation of the inverse function."""
    (x0, g0, s0), (x1, g1, s1) = low, high
    if min(s0, s1) <= 0:
        return (x0 + x1) / 2
    rise = g1 - g0
    t = -g0 / rise
    root = x0 + t**2 * (3 - 2 * t) * (x1 - x0) + t * (1 - t) * rise * ((1 - t) / s0 - t / s1)
    return min(max(root, x0), x1)
