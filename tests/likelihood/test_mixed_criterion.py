"""The criterion of several random coefficients at fixed covariances, against n x n algebra in doubles and in 50 digits."""

from contextlib import contextmanager

import mpmath as mp
import numpy as np
import pytest
from dense_mixed import DIGITS, DenseMixed, ExactMixed

from sklearn_mlm import GroupedMoments, GroupedScatter
from sklearn_mlm.likelihood import _group_products, _mixed_criterion
from sklearn_mlm.likelihood._criterion import Criterion
from sklearn_mlm.likelihood._mixed_coordinates import RandomDesign
from sklearn_mlm.likelihood._mixed_criterion import MixedCriterion
from sklearn_mlm.moments._threads import Pool

METHODS = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


def rows(seed=0, n_groups=8, n_columns=3):
    """X, y and groups of 1 to 6 rows in no order; the second column of X has whole numbers."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(n_groups), rng.integers(1, 7, n_groups)))
    X = rng.standard_normal((len(groups), n_columns))
    X[:, 1:2] = np.round(2.0 * X[:, 1:2])
    effects = rng.standard_normal((n_groups, n_columns + 1))[groups]
    return X, X.sum(axis=1) + effects[:, 0] + (effects[:, 1:] * X).sum(axis=1) + rng.standard_normal(len(groups)), groups


def of_groups():
    """A column of groups, and one that is constant in some of them."""
    X, y, groups = rows(1)
    X[:, 2] = np.random.default_rng(1).standard_normal(8)[groups]
    X[groups < 3, 0] = X[groups < 3, 2]
    return X, y, groups


def small_groups():
    """Singletons, and pairs."""
    X, y, _ = rows(2, n_groups=9)
    return X, y, np.append([0, 0, 1, 1, 2, 2, 3, 3], np.arange(4, len(y) - 4))


def two_groups():
    X, y, groups = rows(3)
    return X, y, groups % 2


class Case:
    """A design: rows, random columns (None is the intercept) in blocks, and options of the criterion."""

    def __init__(self, data, columns, blocks=None, *, slopes=None, weights=False, **options):
        self.X, self.y, self.groups = data
        self.columns, self.options, self.weights = columns, options, None
        self.blocks = (tuple(range(len(columns))),) if blocks is None else blocks
        self.slopes = [column for column in columns if column is not None] if slopes is None else slopes
        if weights:
            self.weights = np.exp(np.random.default_rng(9).standard_normal(len(self.y)))

    def criterion(self, reml=True):
        scatter = GroupedScatter.from_arrays(self.X, self.y, self.groups, self.weights, slopes=self.slopes)
        precision = self.weights is not None
        return MixedCriterion(
            scatter, RandomDesign(self.columns, self.blocks), reml=reml, precision_weights=precision, **self.options
        )

    def matrices(self):
        """X and Z with their columns of ones."""
        ones, fixed = np.ones((len(self.y), 1)), self.X[:, : self.options.get("n_predictors", self.X.shape[1])]
        Z = [ones[:, 0] if column is None else self.X[:, column] for column in self.columns]
        return np.column_stack([ones, fixed]) if self.options.get("fit_intercept", True) else fixed, np.column_stack(Z)

    def dense(self, reml=True, kind=DenseMixed):
        X, Z = self.matrices()
        return kind(X, self.y, Z, self.groups, reml=reml, precision=self.weights)

    def factor(self, scale, rank, seed=0):
        """A random factor of a covariance of that rank, or of the rank of each block if that is lower."""
        rng, factor = np.random.default_rng(seed), np.zeros((len(self.columns),) * 2)
        for block in map(list, self.blocks):
            factor[np.ix_(block, block[:rank])] = scale * rng.standard_normal((len(block), min(rank, len(block))))
        return factor


CASES = {
    "intercept": Case(rows(), (None,)),
    "slope": Case(rows(), (0,)),
    "intercept and slope": Case(rows(), (None, 0)),
    "two slopes": Case(rows(), (1, 0)),
    "intercept and two slopes": Case(rows(), (None, 2, 0)),
    "independent": Case(rows(), (None, 0, 1), ((0,), (1,), (2,))),
    "blocks": Case(rows(), (None, 0, 1), ((0, 1), (2,))),
    "blocks without intercept": Case(rows(), (1, None, 0), ((0, 2), (1,))),
    "no fixed intercept": Case(rows(), (None, 1), fit_intercept=False),
    "more slopes in the record": Case(rows(), (None, 1), slopes=[2, 1, 0]),
    "fewer, and without intercept": Case(rows(), (2,), slopes=[0, 1, 2]),
    "slope without fixed effect": Case(rows(), (None, 2), n_predictors=2),
    "no predictors": Case(rows(), (None, 0), n_predictors=0),
    "no fixed effects at all": Case(rows(), (None, 0), n_predictors=0, fit_intercept=False),
    "columns of groups": Case(of_groups(), (None, 0, 2)),
    "small groups": Case(small_groups(), (None, 0, 1)),
    "two groups": Case(two_groups(), (None, 0, 2)),
    "precision": Case(rows(), (None, 0), weights=True),
    "precision, blocks, without intercept": Case(rows(4), (0, 2, 1), ((0, 2), (1,)), weights=True, fit_intercept=False),
}
CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def of_columns(criterion):
    """The matrix T with effects of the columns = T (effects in the coordinates): G = T F F' T' for a factor F there."""
    return criterion.coordinates.turn_from_origin


@METHODS
@CASE
def test_value_gradient_and_hessian_are_those_of_dense_algebra(case, reml):
    criterion, dense = case.criterion(reml), case.dense(reml)
    turn, q = of_columns(criterion), len(case.columns)
    assert turn.shape == (q, q)
    for scale in (0.0, 1e-3, 0.3, 1.0, 30.0):
        for rank in range(1, q + 1):
            factor = case.factor(scale, rank, seed=rank)
            found, G = criterion.evaluate(np.linalg.solve(turn, factor)[None]), factor @ factor.T
            assert abs(found.value[0] - dense.value(G)) < 1e-10 * max(1.0, abs(dense.value(G)))
            # A derivative is a difference of terms; the first one has their size.
            size = np.abs(found.sums.h[0]).max()
            np.testing.assert_allclose(found.slope[0], turn.T @ dense.gradient(G) @ turn, rtol=0, atol=1e-10 * size)
            directions = [turn @ E @ turn.T for E in criterion.basis]
            size = np.abs(found.sums.hh[0]).max()
            np.testing.assert_allclose(found.hessian[0], dense.hessian(G, directions), rtol=0, atol=1e-10 * size)


@METHODS
@CASE
def test_estimates_at_a_fixed_covariance_are_those_of_dense_algebra(case, reml):
    criterion, dense = case.criterion(reml), case.dense(reml)
    here, factor = criterion.coordinates, case.factor(1.0, 2)
    found, expected = criterion.evaluate(np.linalg.solve(of_columns(criterion), factor)[None]), dense.at(factor @ factor.T)
    np.testing.assert_allclose(found.r2[0] * here.y_scale**2, expected.r2, rtol=1e-11)
    k, leading = criterion.rank, int(here.fit_intercept)
    # Fixed effects of centred columns, and of y less its mean.
    beta = here.y_scale * here.map @ (found.coefficients()[0] + here.crude)
    centre = here.origin[: here.n_predictors] if leading else np.zeros(here.n_predictors)
    moved = expected.beta.copy()
    if leading:
        moved[0] += centre @ expected.beta[1:] - here.origin[-1]
    error = np.sqrt(np.diag(expected.C) * expected.r2 / criterion.degrees_of_freedom) if k else 1.0
    assert np.all(np.abs(beta - moved)[leading:] <= 1e-11 * (1.0 + error[leading:] if k else 1.0))
    if k > leading:
        root = here.map @ found.root[0, :k, :k].T
        np.testing.assert_allclose((root @ root.T)[leading:, leading:], expected.C[leading:, leading:], rtol=1e-10, atol=1e-12)
    if leading:
        np.testing.assert_allclose(beta[0], moved[0], atol=1e-11)


@METHODS
def test_weights_that_count_are_copies_of_rows(reml):
    case = CASES["intercept and two slopes"]
    counts = np.random.default_rng(0).integers(1, 4, len(case.y))
    scatter = GroupedScatter.from_arrays(case.X, case.y, case.groups, counts, slopes=case.slopes)
    criterion = MixedCriterion(scatter, RandomDesign(case.columns, case.blocks), reml=reml)
    X, Z = (np.repeat(part, counts, axis=0) for part in case.matrices())
    copies = DenseMixed(X, np.repeat(case.y, counts), Z, np.repeat(case.groups, counts), reml=reml)
    factor = case.factor(1.0, 2)
    value = criterion.value(np.linalg.solve(of_columns(criterion), factor))
    np.testing.assert_allclose(value, copies.value(factor @ factor.T), rtol=1e-12)
    assert criterion.n_observations == counts.sum()


def exact_value_and_gradient(case, criterion, factor, reml):
    """Value and gradient at a factor in the coordinates, in 50 digits; what G is in the columns is not rounded."""
    with mp.workdps(DIGITS):
        turn = mp.matrix(of_columns(criterion).tolist())
        root = turn * mp.matrix(factor.tolist())
        at = case.dense(reml, ExactMixed).at(root * root.T)
        return at.value, np.array((turn.T * at.gradient * turn).tolist(), dtype=float)


def far_away():
    X, y, groups = rows(5, n_groups=6)
    X, y = np.round(X * 2**10) / 2**10, np.round(y * 2**10) / 2**10
    return X + 1e6, y - 1e6, groups


EXACT = {
    "intercept and two slopes": CASES["intercept and two slopes"],
    "small groups": CASES["small groups"],
    "precision, blocks": CASES["precision, blocks, without intercept"],
    "far from zero": Case(far_away(), (None, 0)),
    "far from zero, no random intercept": Case(far_away(), (0, 1)),
}


@METHODS
@pytest.mark.parametrize("case", EXACT.values(), ids=EXACT.keys())
def test_the_criterion_keeps_its_digits_at_any_covariance(case, reml):
    criterion = case.criterion(reml)
    q = len(case.columns)
    for scale, rank in ((1e-6, q), (1e-3, 1), (1.0, 1), (1.0, q), (1e3, q), (1e6, q)):
        factor = np.linalg.solve(of_columns(criterion), case.factor(1.0, rank)) if scale == 1.0 else case.factor(scale, rank)
        value, gradient = exact_value_and_gradient(case, criterion, factor, reml)
        found = criterion.evaluate(factor[None])
        # The coordinates of columns at 1e6 have an error of 1e6 roundings.
        digits = 1e-9 if "far" in [name for name, one in EXACT.items() if one is case][0] else 1e-12
        assert abs(float(found.value[0] - value)) < digits * max(1.0, abs(float(value)))
        np.testing.assert_allclose(found.slope[0], gradient, rtol=0, atol=digits * np.abs(found.sums.h[0]).max())
