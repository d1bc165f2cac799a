"""The criterion of several random coefficients at fixed covariances, against n x n algebra in doubles and in 50 digits."""

from contextlib import contextmanager

import mpmath as mp
import numpy as np
import pytest
from dense_mixed import DIGITS, DenseMixed, ExactMixed

from sklearn_mlm import GroupedMoments, GroupedScatter
from sklearn_mlm.likelihood import _group_factors, _group_products, _mixed_criterion
from sklearn_mlm.likelihood._criterion import Criterion
from sklearn_mlm.likelihood._group_factors import RandomDesign
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
    # Fixed effects of centred columns, and of y less its mean; all of the order of 1.
    k, to_centre, moved = criterion.rank, np.eye(criterion.rank), expected.beta.copy()
    if here.fit_intercept:
        to_centre[0, 1:] = here.origin[: here.n_predictors]
        moved = to_centre @ moved - here.origin[-1] * (np.arange(k) == 0)
    beta = here.y_scale * here.map @ (found.coefficients()[0] + here.crude)
    np.testing.assert_allclose(beta, moved, rtol=0, atol=1e-11)
    root = here.map @ found.root[0, :k, :k].T
    np.testing.assert_allclose(root @ root.T, to_centre @ expected.C @ to_centre.T, rtol=1e-10, atol=1e-12)


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
    "intercept and two slopes": (CASES["intercept and two slopes"], 1e-12),
    "small groups": (CASES["small groups"], 1e-12),
    "precision, blocks": (CASES["precision, blocks, without intercept"], 1e-12),
    # The coordinates of columns at 1e6 have an error of 1e6 roundings.
    "far from zero": (Case(far_away(), (None, 0)), 1e-9),
    "far from zero, no random intercept": (Case(far_away(), (0, 1)), 1e-9),
}


def errors(name, scale, rank, reml):
    """Errors of the value and the gradient at a factor in the coordinates, which have no units."""
    case, _ = EXACT[name]
    criterion, factor = case.criterion(reml), case.factor(scale, rank)
    value, gradient = exact_value_and_gradient(case, criterion, factor, reml)
    found = criterion.evaluate(factor[None])
    of_gradient = np.abs(found.slope[0] - gradient).max() / np.abs(found.sums.h[0]).max()
    return abs(float(found.value[0] - value)) / max(1.0, abs(float(value))), of_gradient


@METHODS
@pytest.mark.parametrize("name", EXACT)
def test_the_criterion_keeps_its_digits_at_covariances_of_full_rank_however_small_or_large(name, reml):
    for scale in (1e-8, 1e-3, 1.0, 1e3, 1e6):
        assert max(errors(name, scale, 3, reml)) < EXACT[name][1]


@METHODS
@pytest.mark.parametrize("name", EXACT)
def test_the_criterion_keeps_its_digits_at_singular_covariances(name, reml):
    for scale in (1e-8, 1e-3, 1.0, 30.0):
        for rank in (0, 1, 2):
            # B has the information on fixed effects along the random ones, 1 / scale^2, beside that on others.
            assert max(errors(name, scale, rank, reml)) < EXACT[name][1] * max(1.0, scale**2 / 100)


@pytest.mark.xfail(reason="B is a matrix of squares: information of 1e-12 beside 1 has lost its digits")
def test_the_restricted_criterion_keeps_its_digits_at_singular_covariances_that_are_large():
    assert max(errors("intercept and two slopes", 1e6, 1, reml=True)) < 1e-10


def test_the_full_criterion_keeps_its_digits_at_singular_covariances_that_are_large():
    assert max(errors("intercept and two slopes", 1e6, 1, reml=False)) < 1e-10


@METHODS
@pytest.mark.parametrize("name", ["intercept and two slopes", "blocks", "two groups", "precision"])
def test_derivatives_are_those_of_differences(name, reml):
    case = CASES[name]
    criterion, step = case.criterion(reml), 1e-4
    G = np.diag(np.arange(1.0, len(case.columns) + 1.0))
    here = criterion.evaluate(np.linalg.cholesky(G)[None])
    for at, E in enumerate(criterion.basis):
        up, down = (criterion.evaluate(np.linalg.cholesky(G + sign * step * E)[None]) for sign in (1, -1))
        # Truncation is of the order of step^2, rounding of 1e-14 / step.
        np.testing.assert_allclose(np.sum(here.slope[0] * E), (up.value - down.value)[0] / (2 * step), atol=1e-7)
        change = (up.slope - down.slope)[0] / (2 * step)
        by_pairs = [np.sum(change * other) for other in criterion.basis]
        np.testing.assert_allclose(here.hessian[0][at], by_pairs, atol=1e-7)


# ---- one random intercept is the model of another room


def mixed_levels():
    """Two columns whose difference is a column of groups, so that they are the same within groups."""
    X, y, groups = rows(6, n_columns=1)
    return np.column_stack([X, X[:, 0] + np.arange(8)[groups]]), y, groups


def collinear():
    X, y, groups = rows(7, n_columns=2)
    X = np.round(4 * X)
    return np.column_stack([X[:, 0], X[:, 0] - 2 * X[:, 1], X[:, 1], np.ones(len(y))]), y, groups


INTERCEPT_ONLY = {
    "unbalanced": rows(),
    "columns of groups": of_groups(),
    "mixed levels": mixed_levels(),
    "collinear": collinear(),
    "more columns than groups": rows(8, n_groups=6, n_columns=7),
    "small groups": small_groups(),
    "huge x, tiny y": (1e8 * rows()[0], 1e-8 * rows()[1], rows()[2]),
    "far from zero": far_away(),
}


@METHODS
@pytest.mark.parametrize(
    ("design", "fit_intercept"),
    # Without an intercept, columns at 1e6 are dependent but for a share of 1e-12.
    [(name, fixed) for name in INTERCEPT_ONLY for fixed in (True, False) if fixed or name != "far from zero"],
)
def test_one_random_intercept_has_the_criterion_of_the_random_intercept_model(design, fit_intercept, reml):
    X, y, groups = INTERCEPT_ONLY[design]
    weights = 1.0 + np.arange(len(y)) % 3
    options = {"fit_intercept": fit_intercept, "reml": reml, "precision_weights": True}
    scatter = GroupedScatter.from_arrays(X, y, groups, weights, slopes=())
    mixed = MixedCriterion(scatter, RandomDesign((None,), ((0,),)), **options)
    plain = Criterion(GroupedMoments.from_arrays(X, y, groups, weights), **options)
    assert (mixed.rank, mixed.degrees_of_freedom) == (plain.rank, plain.degrees_of_freedom)
    np.testing.assert_array_equal(mixed.coordinates.dropped, plain.coordinates.dropped)
    unit = of_columns(mixed)[0, 0] ** 2
    digits = 1e-9 if design == "far from zero" else 1e-12
    for ratio in (0.0, 1e-6, 0.1, 1.0, 30.0, 1e6):
        found = mixed.evaluate(np.full((1, 1, 1), np.sqrt(ratio / unit)))
        value, (slope, curvature) = plain.value(ratio), plain.derivatives(ratio)
        assert abs(found.value[0] - value) < digits * max(1.0, abs(value))
        h = found.sums.h[0, 0, 0]
        assert abs(found.slope[0, 0, 0] - slope * unit) < digits * h
        assert abs(found.hessian[0, 0, 0] - curvature * unit**2) < digits * max(found.sums.hh[0, 0, 0], h**2)
        np.testing.assert_allclose(
            found.r2 * mixed.coordinates.y_scale**2 / mixed.degrees_of_freedom,
            plain.solution(ratio).residual_variance,
            rtol=digits,
        )


# ---- the same in any number of parts


def test_several_covariances_at_once_give_what_one_at_a_time_gives():
    case = CASES["intercept and two slopes"]
    criterion = case.criterion()
    factors = np.stack([case.factor(scale, rank) for scale in (0.0, 0.1, 10.0) for rank in (1, 3)])
    together = criterion.evaluate(factors)
    for at, factor in enumerate(factors):
        alone, one = criterion.evaluate(factor[None]), together.at(at)
        for field in ("value", "slope", "hessian", "r2", "root"):
            np.testing.assert_allclose(getattr(one, field), getattr(alone, field), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(one.sums.hh, alone.sums.hh, rtol=1e-12, atol=1e-12)
        assert criterion.value(factor) == alone.value[0]


def three_threads(used):
    """A stand-in for `threads` that uses three, and notes how many are useful."""

    @contextmanager
    def threads(useful):
        used.append(useful)
        with Pool(3) as pool:
            yield pool

    return threads


@METHODS
def test_blocks_of_groups_and_threads_give_what_one_block_gives(monkeypatch, reml):
    case = Case(rows(9, n_groups=300), (None, 0, 1), weights=True)
    criterion, factors = case.criterion(reml), np.stack([case.factor(scale, 2) for scale in (0.1, 1.0)])
    alone, used = criterion.evaluate(factors), []
    assert criterion.n_groups == 300
    entries = criterion.basis
    products = criterion.triple_products(factors[0], alone.root[:1], entries)
    of_groups = _group_products.products_of(criterion.coordinates.rows, factors[0])
    for module in (_mixed_criterion, _group_products):
        monkeypatch.setattr(module, "BLOCK_NUMBERS", 7 * 2 * 3 * 5)  # seven groups a block
    blocked = criterion.evaluate(factors)
    monkeypatch.setattr(_mixed_criterion, "_THREAD_NUMBERS", 1)
    monkeypatch.setattr(_mixed_criterion, "threads", three_threads(used))
    threaded = criterion.evaluate(factors)
    assert used == [8]
    for field in ("value", "slope", "hessian", "r2", "root"):
        expected = getattr(alone, field)
        np.testing.assert_array_equal(getattr(threaded, field), getattr(blocked, field))
        np.testing.assert_allclose(getattr(blocked, field), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    again = criterion.triple_products(factors[0], alone.root[:1], entries)
    np.testing.assert_allclose(again, products, rtol=0, atol=1e-13 * np.abs(products).max())
    for one, other in zip(_group_products.products_of(criterion.coordinates.rows, factors[0]), of_groups, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13 * np.abs(other).max())


@pytest.mark.parametrize("name", ["intercept and two slopes", "more slopes in the record", "precision"])
def test_blocks_of_groups_have_the_coordinates_of_one_block(monkeypatch, name):
    case = CASES[name]
    criterion, factor = case.criterion(), case.factor(1.0, 2)
    alone = criterion.evaluate(factor[None])
    monkeypatch.setattr(_group_factors, "_BLOCK_NUMBERS", 3 * 4 * 5)  # three groups a block, or a few more
    blocked = case.criterion()
    for field in ("z", "xy"):
        found, expected = (getattr(each.coordinates.rows, field) for each in (blocked, criterion))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(blocked.evaluate(factor[None]).value, alone.value, rtol=1e-13)


def test_parts_of_the_rows_in_any_order_have_the_criterion_of_the_whole():
    case = CASES["intercept and two slopes"]
    criterion, factor = case.criterion(), case.factor(1.0, 2)
    parts = [
        GroupedScatter.from_arrays(case.X[i::4], case.y[i::4], case.groups[i::4], slopes=case.slopes) for i in (3, 1, 0, 2)
    ]
    merged = MixedCriterion(sum(parts), RandomDesign(case.columns, case.blocks))
    value = merged.value(np.linalg.solve(of_columns(merged), factor))
    np.testing.assert_allclose(value, criterion.value(np.linalg.solve(of_columns(criterion), factor)), rtol=1e-12)


# ---- coordinates


@CASE
def test_in_the_coordinates_random_columns_have_no_units(case):
    here = case.criterion().coordinates
    squares = np.einsum("iaj,ibj->ab", here.rows.z, here.rows.z) / here.rows.z.shape[2]
    for block in map(list, here.blocks):
        np.testing.assert_allclose(squares[np.ix_(block, block)], np.eye(len(block)), atol=1e-12)


def test_fixed_columns_that_random_columns_span_leave_exactly_nothing_in_the_rest():
    here = CASES["intercept and two slopes"].criterion().coordinates
    assert not here.within[[0, 1, 3]].any()
    assert here.within[2, 2] > 0
    X, y, groups = rows()
    # A combination of the columns that the slopes span is such a column too, and one of it and a column of groups.
    X = np.column_stack([X[:, 0], X[:, 2], X[:, 0] - 3 * X[:, 1] + np.arange(8)[groups]])
    scatter = GroupedScatter.from_arrays(np.column_stack([X, rows()[0][:, 1]]), y, groups, slopes=(0, 3))
    here = MixedCriterion(scatter, RandomDesign((None, 0, 3), ((0, 1, 2),)), n_predictors=3).coordinates
    assert (here.within.diagonal() != 0).sum() == 1


@METHODS
def test_dependent_columns_are_dropped_after_those_that_they_depend_on(reml):
    X, y, groups = collinear()
    scatter = GroupedScatter.from_arrays(X, y, groups, slopes=(0, 2))
    criterion = MixedCriterion(scatter, RandomDesign((None, 0, 2), ((0, 1, 2),)), reml=reml)
    np.testing.assert_array_equal(criterion.coordinates.dropped, [2, 3])
    kept = np.column_stack([np.ones(len(y)), X[:, :2]])
    dense = DenseMixed(kept, y, np.column_stack([np.ones(len(y)), X[:, [0, 2]]]), groups, reml=reml)
    factor = CASES["intercept and two slopes"].factor(1.0, 2)
    value = criterion.value(np.linalg.solve(of_columns(criterion), factor))
    np.testing.assert_allclose(value, dense.value(factor @ factor.T), rtol=1e-12)


def test_random_columns_that_depend_on_others_in_every_group_are_left_out():
    X, y, groups = rows()
    X[:, 1], X[:, 2] = 2.0 - 3.0 * X[:, 0], 0.0
    scatter = GroupedScatter.from_arrays(X, y, groups, slopes=(0, 1, 2))
    full = MixedCriterion(scatter, RandomDesign((None, 0, 1, 2), ((0, 1, 2, 3),)))
    assert full.coordinates.dropped_random == (2, 3)
    assert full.coordinates.blocks == ((0, 1),)
    assert not of_columns(full)[2:].any()
    dense = DenseMixed(
        *(np.column_stack([np.ones(len(y)), X[:, 0]]) if part is None else part for part in (None, y, None)), groups
    )
    factor = CASES["intercept and slope"].factor(1.0, 2)
    value = full.value(np.linalg.solve(of_columns(full)[:2], factor))
    np.testing.assert_allclose(value, dense.value(factor @ factor.T), rtol=1e-12)
    apart = MixedCriterion(scatter, RandomDesign((None, 0, 1, 2), ((0,), (1,), (2,), (3,))))
    # Independent coefficients of dependent columns have variances of their own, but not that of a column of zeros.
    assert apart.coordinates.dropped_random == (3,)
    assert apart.coordinates.blocks == ((0,), (1,), (2,))


def test_the_groups_of_another_record_stand_in_the_same_coordinates():
    case = CASES["more slopes in the record"]
    here = case.criterion().coordinates
    X, y, groups = case.X, case.y, case.groups
    same = here.rows_of(GroupedScatter.from_arrays(X[::-1], y[::-1], groups[::-1], slopes=case.slopes))
    for name in ("z", "xy"):
        np.testing.assert_allclose(getattr(same, name), getattr(here.rows, name), atol=1e-13)
    some = groups < 4
    part = here.rows_of(GroupedScatter.from_arrays(X[some], y[some], groups[some], slopes=case.slopes))
    np.testing.assert_allclose(part.z, here.rows.z[:, :, :4], atol=1e-13)
    np.testing.assert_allclose(part.xy, here.rows.xy[:, :, :4], atol=1e-13)


# ---- what the criterion says of the data


@METHODS
def test_at_a_fixed_residual_variance_it_is_the_likelihood_with_that_variance(reml):
    case, share = CASES["precision, blocks, without intercept"], 0.01
    criterion, dense = case.criterion(reml).at_residual_variance(share), case.dense(reml)
    factor = case.factor(0.7, 2)
    # Without a fixed intercept, the scatter of y is about 0, and weighted.
    variance = share * (case.weights @ case.y**2)
    at, turn = dense.at(factor @ factor.T), of_columns(criterion)
    value = dense.D * np.log(2.0 * np.pi * variance) + at.r2 / variance + at.log_det + reml * at.log_det_X
    np.testing.assert_allclose(criterion.value(np.linalg.solve(turn, factor)), value, rtol=1e-12)
    step, G = 1e-4, np.diag([1.0, 2.0, 3.0])
    here = criterion.evaluate(np.linalg.cholesky(G)[None])
    for i, E in enumerate(criterion.basis):
        up, down = (criterion.evaluate(np.linalg.cholesky(G + sign * step * E)[None]) for sign in (1, -1))
        np.testing.assert_allclose(np.sum(here.slope[0] * E), (up.value - down.value)[0] / (2 * step), rtol=1e-6, atol=1e-6)
        change = [np.sum((up.slope - down.slope)[0] * other) / (2 * step) for other in criterion.basis]
        np.testing.assert_allclose(here.hessian[0][i], change, rtol=1e-6, atol=1e-6)


def test_rows_that_the_groups_and_the_fixed_effects_leave_are_counted():
    case = CASES["intercept and slope"]
    sizes = np.bincount(case.groups)
    # A group determines an intercept, and a slope if it has two rows; the two other columns take one row each.
    expected = len(case.y) - (1 + (sizes > 1)).sum() - 2
    assert case.criterion().within_degrees_of_freedom == expected
    assert CASES["intercept"].criterion().within_degrees_of_freedom == len(case.y) - 8 - 3


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_an_outcome_that_the_effects_determine_is_recognised(scale):
    X, _, groups = rows()
    effects = np.random.default_rng(3).standard_normal((8, 2))

    def criterion(y):
        scatter = GroupedScatter.from_arrays(X, scale * y, groups, slopes=0)
        return MixedCriterion(scatter, RandomDesign((None, 0), ((0, 1),)))

    by_groups = criterion(effects[groups, 0] + effects[groups, 1] * X[:, 0] + X[:, 1])
    assert (by_groups.unbounded, by_groups.exact_fit) == (True, False)
    by_columns = criterion(2.0 + X @ [1.0, -2.0, 0.5])
    assert by_columns.exact_fit
    assert criterion(np.full(len(X), 3.0)).exact_fit
    noisy = criterion(2.0 + X @ [1.0, -2.0, 0.5] + 1e-5 * np.random.default_rng(0).standard_normal(len(X)))
    assert (noisy.unbounded, noisy.exact_fit) == (False, False)


def test_a_record_that_has_lost_digits_of_y_names_slopes_to_subtract():
    X, y, groups = rows()
    slopes = np.array([0.0, 1e5, -2e4])

    def criterion(y):
        return MixedCriterion(GroupedScatter.from_arrays(X, y, groups, slopes=0), RandomDesign((None, 0), ((0, 1),)))

    assert criterion(y).known_part() is None
    known = criterion(y + 7.0 + X @ slopes).known_part()
    # The rest need not be small, only smaller than y.
    assert np.abs(known.slopes - slopes).max() < 10.0
    left = y + 7.0 + X @ slopes - X @ known.slopes - known.intercept
    assert np.abs(left).mean() < 10.0
    assert criterion(np.full(len(y), 1.0)).known_part() is None


def test_the_criterion_does_not_remember_its_last_argument():
    case = CASES["blocks"]
    criterion, factor = case.criterion(), case.factor(1.0, 1)
    first = criterion.value(factor)
    criterion.at_residual_variance(0.1).value(factor)
    criterion.evaluate(case.factor(100.0, 2)[None])
    assert criterion.value(factor) == first
    assert criterion.at_zero.value[0] == criterion.value(0.0 * factor)
