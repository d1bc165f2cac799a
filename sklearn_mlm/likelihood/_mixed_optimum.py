"""`minimise_mixed`: the minimum of the criterion over the cone of covariance matrices, its boundary included."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .._typing import Floats
from ._evaluation import CovarianceCriterion, Evaluation

# Up to this many groups, the criterion often has several minima, and the search has several starts. The second number is
# for random coefficients without a fixed effect, whose mean the variance has to take.
_FEW_GROUPS, _FEW_WITHOUT_MEAN = 30, 300
_MOST_STEPS = 200
# Where searches start, as multiples of the identity, and of the variance of a single coefficient.
_SCALES, _SCALES_OF_ONE = (1.0, 0.03, 30.0, 1e-3, 1e3), (1.0, 0.1, 10.0, 0.03, 30.0, 0.3, 3.0, 1e-3, 1e3)
# Newton's decrement, in units of the criterion: at the first, the point is the minimum to rounding; below the second, a
# decrement that no longer falls is rounding.
_CONVERGED, _STALLED = 1e-24, 1e-9
# The rounding of a criterion that has no digits left.
_ALL_DIGITS = 1.0
# A direction is dropped if its variance is less than this share of the largest, or of the residual variance, once the
# decrement is below the second number.
_DROPPED, _SETTLED = 1e-5, 1e-2
# After a dropped direction has come back, only this share is dropped.
_DROPPED_AGAIN = 1e-12
_MOST_RETURNS = 4
# If no rest of y bounds the criterion from below, it falls without bound once r2 is less than this share of y squared.
_UNBOUNDED = 1e-10
# A multiplier below this share of the information is rounding.
_NO_MULTIPLIER = 1e-12
# At a decrement below the first number, an eigenvalue below this share of the largest makes a point a saddle.
_AT_SADDLE, _NEGATIVE = 1e-8, 1e-7
# A step is taken if the criterion falls by this share of what the quadratic model expects, or by no more than rounding.
_ENOUGH = 1e-4
# Curvatures below this share of the largest are rounding; the second number keeps steps along flat directions finite.
_NO_CURVATURE, _TINY = 1e-14, 1e-100
NO_FALL = 0.5
"""If the criterion falls without bound as sigma2 goes to 0, it falls by a whole number per unit of log sigma2."""


class Outcome(Enum):
    """How a search from one start ended; the value is a message."""

    MINIMUM = "a minimum, certified by Newton's decrement and by the multipliers of the directions without variance"
    OUT_OF_STEPS = "no minimum within the number of steps"
    NO_DIGITS = "a criterion of which rounding leaves no digit, because some variances are so large beside the residual"
    UNBOUNDED = "the criterion falls without bound as the residual variance goes to 0"


@dataclass(frozen=True, eq=False)
class Trial:
    """Stores how the search from one start ended.

    Attributes
    ----------
    start : ndarray of shape (q, q)
        G at the start, in the coordinates.
    value : float
        The criterion at the end.
    rank : int
        Rank of G at the end.
    n_steps : int
        Number of evaluations.
    decrement : float
        Newton's decrement at the end, in units of the criterion.
    outcome : Outcome
        How the search ended.
    factor : ndarray of shape (q, q)
        The factor of G at the end.
    """

    start: Floats
    value: float
    rank: int
    n_steps: int
    decrement: float
    outcome: Outcome
    factor: Floats


@dataclass(frozen=True, eq=False)
class MixedOptimum:
    """Stores the minimum of the criterion.

    Attributes
    ----------
    basis : ndarray of shape (q, q)
        Eigenvectors of G in the coordinates, block by block, those of the largest eigenvalues first.
    roots : ndarray of shape (q,)
        Square roots of the eigenvalues; exactly 0 for directions without variance.
    evaluation : Evaluation
        The criterion and its derivatives there.
    multipliers : ndarray of shape (n_null,)
        Eigenvalues of Gamma on the directions without variance, block by block: by how much the criterion would rise per
        unit of variance. They are not negative.
    trials : list of Trial
        The searches from all starts.
    """

    basis: Floats
    roots: Floats
    evaluation: Evaluation
    multipliers: Floats
    trials: list[Trial]

    @property
    def factor(self) -> Floats:
        """A factor F with G = F F', of shape (q, q)."""
        return np.asarray(self.basis * self.roots)

    @property
    def best(self) -> Trial:
        """The search that found the minimum."""
        return min(self.trials, key=lambda trial: trial.value)


def minimise_mixed(criterion: CovarianceCriterion, starts: list[Floats] | None = None) -> MixedOptimum:
    """Return the minimum of a criterion over all G that are positive semidefinite and 0 between blocks.

    The search is Newton's method on the entries of a factor of G in the basis of its eigenvectors, with the exact second
    derivatives, in a trust region. A direction whose variance goes to 0 while the criterion would rise with it is dropped,
    so that G is exactly singular. At the end the derivative on the dropped directions must be positive semidefinite; a
    direction for which it is not comes back. The search has several starts if there are few groups.

    Parameters
    ----------
    criterion : MixedCriterion or FactorCriterion
        The criterion.
    starts : list of ndarray of shape (q, q) or None, default=None
        Factors of relative covariances to start from, in the coordinates.

    Returns
    -------
    optimum : MixedOptimum
        The lowest minimum that was found.
    """
    starts = _starts(criterion) if starts is None else starts
    searches = [_search(criterion, start) for start in starts]
    ends: list[_End | None] = [None] * len(searches)
    wanted = {at: next(search) for at, search in enumerate(searches)}
    # The searches go in step, because an evaluation at several points costs little more than one at a single point.
    while wanted:
        evaluation = criterion.evaluate(np.stack([point.factor for point in wanted.values()]))
        for position, at in enumerate(list(wanted)):
            try:
                wanted[at] = searches[at].send(_Place.of(evaluation, position))
            except StopIteration as end:
                ends[at] = end.value
                del wanted[at]
                if end.value.outcome is Outcome.UNBOUNDED:
                    # No minimum is lower.
                    wanted.clear()
                    break
    found = [(start, end) for start, end in zip(starts, ends, strict=True) if end is not None]
    best = min((end for _, end in found), key=lambda end: end.place.value)
    trials = [_trial(start, end) for start, end in found]
    slope = best.place.slope
    multipliers = [np.linalg.eigvalsh(null.T @ slope @ null) for null in best.point.null_spaces(criterion)]
    evaluation = best.place.evaluation.at(best.place.position)
    return MixedOptimum(best.point.basis, best.point.roots, evaluation, np.concatenate(multipliers), trials)


def _trial(start: Floats, end: _End) -> Trial:
    """Return the record of a search."""
    rank = int(np.count_nonzero(end.point.roots))
    return Trial(start @ start.T, end.place.value, rank, end.n_steps, end.decrement, end.outcome, end.point.factor)


def _fall(factor: Floats, slope: Floats) -> float:
    """Return by how much a criterion falls per unit of log G, at G = F F' with the derivative `slope`."""
    return -float(np.vdot(factor, slope @ factor))


def without_random_effects(criterion: CovarianceCriterion) -> MixedOptimum:
    """Return G = 0 as the optimum, for rows without groups."""
    q = criterion.n_random
    return MixedOptimum(np.eye(q), np.zeros(q), criterion.at_zero, np.zeros(0), [])


def _starts(criterion: CovarianceCriterion) -> list[Floats]:
    """Return factors of relative covariances to start from, in the coordinates.

    The first has a crude estimate of each variance. If there are few groups, there are also multiples of the identity, each
    direction large alone, both correlations of each pair of directions in a block, and, if there are several factors, all
    directions large, and one a hundred times as large.
    """
    eye = np.eye(criterion.n_random)
    starts = [np.diag(criterion.crude_variances())]
    if criterion.n_groups <= (_FEW_GROUPS if criterion.random_means_are_fixed else _FEW_WITHOUT_MEAN):
        starts += [scale * eye for scale in (_SCALES_OF_ONE if len(eye) == 1 else _SCALES)]
        small = 0.03 * eye
        if len(eye) > 1:
            starts += [small + 30.0 * np.outer(row, row) for row in eye]
        starts += [scale * (eye + 99.0 * np.outer(row, row)) for scale in criterion.uneven_scales for row in eye]
        for a, b in criterion.pairs_in_blocks():
            rays = eye[a] + eye[b], eye[a] - eye[b]
            starts += [small + np.outer(ray, ray) for ray in rays]
    return [np.asarray(np.linalg.cholesky(start), dtype=np.float64) for start in starts]


@dataclass(frozen=True, eq=False)
class _Point:
    """Stores eigenvectors of G, and the roots of its eigenvalues, block by block in descending order."""

    basis: Floats
    roots: Floats

    @classmethod
    def of(cls, factor: Floats, criterion: CovarianceCriterion, n_dropped: list[int]) -> _Point:
        """Return the point of a factor, of which so many directions of each block have no variance."""
        blocks = criterion.coordinates.blocks
        if len(blocks) == 1:
            basis, roots, _ = np.linalg.svd(factor)
            roots[len(roots) - n_dropped[0] :] = 0.0
            return cls(basis, roots)
        basis, roots = np.zeros_like(factor), np.zeros(len(factor))
        for block, dropped in zip(blocks, n_dropped, strict=True):
            at = np.array(block)
            vectors, values, _ = np.linalg.svd(factor[at][:, at])
            basis[at[:, None], at], roots[at] = vectors, values
            roots[at[len(at) - dropped :]] = 0.0
        return cls(basis, roots)

    @property
    def factor(self) -> Floats:
        """The factor of G."""
        return np.asarray(self.basis * self.roots)

    def n_dropped(self, criterion: CovarianceCriterion) -> list[int]:
        """Return the number of directions without variance in each block."""
        return [int(np.count_nonzero(self.roots[list(block)] == 0.0)) for block in criterion.coordinates.blocks]

    def null_spaces(self, criterion: CovarianceCriterion) -> list[Floats]:
        """Return the directions without variance of each block."""
        return [self.basis[:, [at for at in block if self.roots[at] == 0.0]] for block in criterion.coordinates.blocks]


class _Place(NamedTuple):
    """The criterion and its derivatives at a point, and where in an evaluation they are."""

    value: float
    slope: Floats
    hessian: Floats
    evaluation: Evaluation
    position: int
    noise: float

    @classmethod
    def of(cls, evaluation: Evaluation, position: int) -> _Place:
        """Return what an evaluation says of one of its points."""
        value, noise = float(evaluation.value[position]), float(evaluation.noise[position])
        return cls(value, evaluation.slope[position], evaluation.hessian[position], evaluation, position, noise)

    @property
    def information(self) -> float:
        """The scale of the derivatives, sum_j tr(H_j)."""
        return float(np.trace(self.evaluation.sums.h[self.position]))


class _End(NamedTuple):
    """Where a search ended, and how."""

    point: _Point
    place: _Place
    n_steps: int
    decrement: float
    outcome: Outcome


class _Model(NamedTuple):
    """The quadratic model of the criterion as a function of the changes of a factor.

    Attributes
    ----------
    rows, columns : ndarray of shape (n_entries,)
        The entries of the change, in the basis of the point.
    gradient : ndarray of shape (n_entries,)
        First derivatives in the directions of the eigenvectors of the Hessian.
    curvature : ndarray of shape (n_entries,)
        Eigenvalues of the Hessian, ascending.
    vectors : ndarray of shape (n_entries, n_entries)
        Its eigenvectors, as changes of the entries.
    sizes : ndarray of shape (n_entries,)
        The eigenvalues in absolute value, none of them 0.
    decrement : float
        Newton's decrement.
    """

    rows: np.ndarray
    columns: np.ndarray
    gradient: Floats
    curvature: Floats
    vectors: Floats
    sizes: Floats
    decrement: float


def _search(criterion: CovarianceCriterion, start: Floats) -> Generator[_Point, _Place, _End]:
    """Search from a factor; yield points to evaluate, and return the end."""
    blocks = criterion.coordinates.blocks
    point = _Point.of(start, criterion, [0] * len(blocks))
    place = yield point
    radius = 1.0
    last, n_returns = np.inf, 0
    for n_steps in range(1, _MOST_STEPS):
        model = _model(criterion, point, place)
        decrement = model.decrement
        if (
            criterion.may_be_unbounded
            and place.evaluation.r2[place.position] < _UNBOUNDED
            and _fall(point.factor, place.slope) > NO_FALL
        ):
            return _End(point, place._replace(value=-np.inf), n_steps, decrement, Outcome.UNBOUNDED)
        rounding = place.noise
        dropped = _droppable(blocks, point, place, decrement, _DROPPED_AGAIN if n_returns else _DROPPED)
        if dropped is not None:
            point = _Point(point.basis, np.where(np.arange(len(point.roots)) == dropped, 0.0, point.roots))
            place, last = (yield point), np.inf
            continue
        saddle = decrement < _AT_SADDLE and model.curvature.min(initial=0.0) < -_NEGATIVE * model.sizes.max(initial=1.0)
        if not saddle and (decrement <= _CONVERGED or (decrement <= max(_STALLED, place.noise) and decrement >= last / 4.0)):
            returning = _returning(criterion, point, place) if n_returns < _MOST_RETURNS else None
            if returning is None:
                # Where the residual variance is fixed because it is 0, variances are known though the criterion is not.
                known = rounding < _ALL_DIGITS or criterion.residual_variance is not None
                return _End(point, place, n_steps, decrement, Outcome.MINIMUM if known else Outcome.NO_DIGITS)
            point, n_returns, last = returning, n_returns + 1, np.inf
            place = yield point
            continue
        step = -model.gradient / model.sizes
        if saddle:
            step[0] += radius * (-1.0 if model.gradient[0] > 0 else 1.0)
        length = float(np.linalg.norm(step))
        if length > radius:
            step, length = step * (radius / length), radius
        expected = float(model.gradient @ step + 0.5 * (model.curvature * step**2).sum())
        change = np.zeros_like(point.basis)
        change[model.rows, model.columns] = model.vectors @ step
        trial = _Point.of(point.basis @ (np.diag(point.roots) + change), criterion, point.n_dropped(criterion))
        there = yield trial
        if there.value <= place.value + _ENOUGH * min(expected, 0.0) + rounding:
            radius = max(radius, 3.0 * length) if there.value <= place.value + 0.5 * expected + rounding else radius
            point, place, last = trial, there, decrement
        else:
            radius = length / 4.0
    return _End(point, place, _MOST_STEPS, decrement, Outcome.OUT_OF_STEPS)


def _model(criterion: CovarianceCriterion, point: _Point, place: _Place) -> _Model:
    """Return the quadratic model at a point.

    A change E of the factor U diag(s), which becomes U (diag(s) + E), changes G by U (s E' + E s + E E') U'. E is lower
    trapezoidal in each block, so that it does not turn the factor without changing G, and leaves dropped directions alone.
    Its rows are counted in units of s, or of 1 where s is less, so that large and small variances are found alike.
    """
    largest = np.maximum(point.roots, 1.0)
    rows, columns, directions = tangents(criterion, point.basis, point.roots)
    units = largest[rows]
    directions = directions * units[:, None, None]
    gradient = directions.reshape(len(rows), place.slope.size) @ place.slope.ravel()
    at = Tangents(rows, columns, directions)
    hessian = curvature_along(criterion, point.basis * largest, at, place.slope, place.hessian)
    curvature, vectors = np.linalg.eigh(hessian)
    gradient, sizes = vectors.T @ gradient, np.abs(curvature)
    sizes = np.maximum(sizes, _NO_CURVATURE * sizes.max(initial=0.0) + _TINY)
    decrement = float((gradient * gradient / sizes).sum())
    return _Model(rows, columns, gradient, curvature, vectors * units[:, None], sizes, decrement)


class Tangents(NamedTuple):
    """The free entries of a change of the factor of G, and the change of G in the direction of each.

    Attributes
    ----------
    rows, columns : ndarray of shape (n_entries,)
        Positions of the entries, in the basis.
    directions : ndarray of shape (n_entries, q, q)
        Symmetric matrices.
    """

    rows: np.ndarray
    columns: np.ndarray
    directions: Floats


def tangents(criterion: CovarianceCriterion, basis: Floats, roots: Floats) -> Tangents:
    """Return the free entries of a change of the factor of G, and the change of G in the direction of each.

    Parameters
    ----------
    criterion : MixedCriterion or FactorCriterion
        The criterion.
    basis : ndarray of shape (q, q)
        Eigenvectors of G in the coordinates.
    roots : ndarray of shape (q,)
        Roots of the eigenvalues.

    Returns
    -------
    tangents : Tangents
        The entries and the directions.
    """
    rows, columns = _entries(criterion.coordinates.blocks, tuple((roots > 0).tolist()))
    left, right = basis[:, rows].T * roots[columns, None], basis[:, columns].T
    directions = left[:, :, None] * right[:, None, :]
    return Tangents(rows, columns, directions + directions.transpose(0, 2, 1))


def curvature_along(criterion: CovarianceCriterion, basis: Floats, at: Tangents, slope: Floats, hessian: Floats) -> Floats:
    """Return the second derivatives of the criterion by the free entries of the factor of G.

    Parameters
    ----------
    criterion : MixedCriterion or FactorCriterion
        The criterion.
    basis : ndarray of shape (q, q)
        Eigenvectors of G in the coordinates.
    at : Tangents
        The entries.
    slope, hessian : ndarray
        Derivatives by the entries of G, as in `Evaluation`, at one G.

    Returns
    -------
    curvature : ndarray of shape (n_entries, n_entries)
        The second derivatives.
    """
    a, b = criterion.pairs
    at_pairs = at.directions[:, a, b]
    turned = basis.T @ slope @ basis
    curvature = at_pairs @ hessian @ at_pairs.T
    curvature += 2.0 * turned[at.rows[:, None], at.rows] * (at.columns[:, None] == at.columns)
    return np.asarray(curvature)


@lru_cache(maxsize=256)
def _entries(blocks: tuple[tuple[int, ...], ...], alive: tuple[bool, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the free entries of a change of the factor."""
    entries = [(a, b) for block in blocks for i, b in enumerate(block) if alive[b] for a in block[i:]]
    rows, columns = np.array(entries, dtype=np.intp).reshape(-1, 2).T
    return rows, columns


def _droppable(
    blocks: tuple[tuple[int, ...], ...], point: _Point, place: _Place, decrement: float, share: float
) -> int | None:
    """Return the direction with the least variance if it is to be dropped, or None.

    The variance is compared with the largest of its block: that of another factor says nothing of it.
    """
    variances = point.roots**2
    if decrement >= _SETTLED or not variances.any():
        return None
    shares = np.full(len(variances), np.inf)
    for block in map(list, blocks):
        shares[block] = variances[block] / max(1.0, float(variances[block].max()))
    shares[variances == 0.0] = np.inf
    least = int(shares.argmin())
    rises = point.basis[:, least] @ place.slope @ point.basis[:, least] > 0
    return least if shares[least] < share and rises else None


def _returning(criterion: CovarianceCriterion, point: _Point, place: _Place) -> _Point | None:
    """Return a point with some variance in a dropped direction along which the criterion falls; None if there is none."""
    a, b = criterion.pairs
    for null, dropped in zip(point.null_spaces(criterion), point.n_dropped(criterion), strict=True):
        if not dropped:
            continue
        values, vectors = np.linalg.eigh(null.T @ place.slope @ null)
        if values[0] >= -_NO_MULTIPLIER * place.information:
            continue
        direction = null @ vectors[:, 0]
        along = np.outer(direction, direction)[a, b]
        curvature = float(along @ place.hessian @ along)
        variance = min(-values[0] / curvature, 1.0) if curvature > 0 else 0.03
        factor = point.factor
        block = next(block for block in criterion.coordinates.blocks if np.abs(direction[list(block)]).any())
        empty = next(at for at in block if point.roots[at] == 0.0)
        factor[:, empty] = np.sqrt(variance) * direction
        blocks = criterion.coordinates.blocks
        counts = zip(point.n_dropped(criterion), blocks, strict=True)
        return _Point.of(factor, criterion, [count - (other is block) for count, other in counts])
    return None
