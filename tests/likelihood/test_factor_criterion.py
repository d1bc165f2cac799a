"""The criterion of several grouping factors and its derivatives against n x n algebra, whatever is eliminated first."""

from copy import copy
from itertools import permutations

import numpy as np
import pytest
from dense_factors import exact_factors
from factor_cases import CASES, Case, frame_of
from many_cases import check_each
from threadpoolctl import threadpool_limits

from sklearn_mlm.likelihood import _factor_criterion
from sklearn_mlm.likelihood._factor_sums import factor_sums

METHODS = (True, False)
ALL = [(f"{name}, {'REML' if reml else 'ML'}", (case, reml)) for name, case in CASES.items() for reml in METHODS]


@pytest.fixture(autouse=True)
def one_thread():
    """More threads cost more than they save with few rows."""
    with threadpool_limits(1):
        yield


def random_factor(criterion, scale, *, singular=0, seed=0):
    """A factor of a relative covariance in the coordinates, without variance in the first directions of each block."""
    rng, q = np.random.default_rng(seed), criterion.n_random
    factor = np.zeros((q, q))
    for block in map(list, criterion.coordinates.blocks):
        part = rng.standard_normal((len(block), len(block)))
        part[:, :singular] = 0.0
        factor[np.ix_(block, block)] = np.sqrt(scale) * part
    return factor


def of_rows(criterion, G, case):
    """A covariance or a direction in the coordinates as the oracle counts coefficients."""
    turn = criterion.coordinates.turn_from_origin
    return (turn @ G @ turn.T)[np.ix_(case.order, case.order)]


def free_pairs(criterion):
    return sorted(pair for of_factor in criterion.parameters for pair, _, _ in of_factor)


def chains(criterion):
    """All factors that can be eliminated level by level, each nested in the next; the empty chain is the dense core."""
    rows = criterion.coordinates.rows
    factors = range(rows.n_factors)
    tried = (chain for size in range(rows.n_factors + 1) for chain in permutations(factors, size))
    return [
        chain for chain in tried if all(rows.parents(a, b) is not None for i, a in enumerate(chain) for b in chain[i + 1 :])
    ]


def eliminating(criterion, chain):
    """The same criterion with these factors eliminated level by level."""
    other = copy(criterion)
    other.__dict__.pop("at_zero", None)
    other.sums = factor_sums(criterion.coordinates.rows, chain, criterion.blocks_of_factors)
    return other


POINTS = ((0.3, 0), (20.0, 0), (1.0, 1))


def test_values_and_derivatives_are_those_of_dense_algebra():
    def check(case, reml):
        criterion, dense = case.criterion(reml), case.dense(reml)
        pairs = free_pairs(criterion)
        basis = criterion.basis[pairs]
        directions = [of_rows(criterion, E, case) for E in basis]
        for scale, singular in POINTS:
            factor = random_factor(criterion, scale, singular=singular)
            found, G = criterion.evaluate(factor[None]), of_rows(criterion, factor @ factor.T, case)
            value, Gamma, at = dense.value(G), dense.gradient(G), dense.at(G)
            assert abs(found.value[0] - value) < 1e-12 * max(1.0, abs(value)), (found.value[0], value)
            # The sizes of the terms whose differences the derivatives are.
            moved = [at.inner @ dense.covariance(E) for E in directions]
            size = np.array([1.0 + abs(np.trace(part)) for part in moved])
            slope = np.array([np.sum(found.slope[0] * E) for E in basis])
            expected = np.array([np.sum(Gamma * E) for E in directions])
            np.testing.assert_allclose(slope / size, expected / size, rtol=0, atol=1e-11)
            hessian = dense.hessian(G, directions)
            size = np.sqrt([1.0 + np.sum(part * part.T) for part in moved])
            units = np.outer(size, size)
            # Scaled effects lose the digits by which variances of a covariance that is nearly singular differ.
            np.testing.assert_allclose(found.hessian[0][np.ix_(pairs, pairs)] / units, hessian / units, rtol=0, atol=3e-10)
            sigma2 = found.r2[0] * criterion.coordinates.y_scale**2 / criterion.degrees_of_freedom
            np.testing.assert_allclose(sigma2, at.r2 / dense.D, rtol=1e-11)

    check_each(ALL, check)


def test_whatever_is_eliminated_first_the_criterion_is_the_same():
    numbers = set()

    def check(case):
        criterion = case.criterion()
        found = chains(criterion)
        numbers.add(max(map(len, found)))
        for scale, singular, tried in ((1.0, 1, found), (20.0, 0, found[-1:])):
            factor = random_factor(criterion, scale, singular=singular)
            expected = eliminating(criterion, ()).evaluate(factor[None])
            for chain in tried[1:] or tried:
                other = eliminating(criterion, chain).evaluate(factor[None])
                for name in ("value", "slope", "hessian", "r2", "root"):
                    one, two = getattr(other, name), getattr(expected, name)
                    np.testing.assert_allclose(
                        one, two, rtol=0, atol=1e-11 * max(1.0, np.abs(two).max()), err_msg=str(chain)
                    )
                for name in ("h", "along", "hh", "hn"):
                    one, two = getattr(other.sums, name), getattr(expected.sums, name)
                    np.testing.assert_allclose(
                        one, two, rtol=0, atol=1e-11 * max(1.0, np.abs(two).max()), err_msg=str(chain)
                    )

    check_each([(name, (case,)) for name, case in CASES.items()], check)
    assert numbers == {1, 2, 3}


def test_many_coefficients_are_eliminated_along_the_longest_chain_and_few_together(monkeypatch):
    for name in ("_FEW_COEFFICIENTS", "_FEW_WITH_SLOPES"):
        monkeypatch.setattr(_factor_criterion, name, 10**6)
    few = {name: case.criterion().sums for name, case in CASES.items()}
    assert {len(sums.nested) for sums in few.values()} == {0}
    for name in ("_FEW_COEFFICIENTS", "_FEW_WITH_SLOPES"):
        monkeypatch.setattr(_factor_criterion, name, 0)
    many = {name: [step.factor for step in case.criterion().sums.nested] for name, case in CASES.items()}
    names = {name: [list(CASES[name].options.groupings)[at] for at in chain] for name, chain in many.items()}
    assert names["nested"] == ["c:b:a", "c:b", "c"]
    assert names["nested slopes"] == ["a", "b", "c"]
    assert names["three nested beside crossed"] == ["a", "b", "d"]
    assert names["nested beside crossed"] == ["a", "b"]
    assert names["crossed"] == names["two factors"] == ["a"]
    assert names["interaction"] == ["b:c", "b"]


# ---- other models of the same rows


def test_units_and_origins_make_no_difference():
    """x and y times 1e6 and 1e-6, and 1e6 away from 0."""

    def check(name, x_scale, y_scale, shift):
        case = CASES[name]
        frame = case.frame.copy()
        frame[["x0", "x1"]] = frame[["x0", "x1"]] * x_scale + shift * x_scale
        frame["y"] = y_scale * frame["y"] + shift * y_scale
        other = Case(frame, case.text, weights=case.weights, weight_type=case.options.weight_type)
        for reml in METHODS:
            one, two = case.criterion(reml), other.criterion(reml)
            factor = random_factor(one, 1.0)
            # The coordinates may be turned in another way: the same covariance of the coefficients at the same origin.
            T = np.eye(one.n_random)
            for at, (term, coefficient) in enumerate((t, c) for t in case.options.terms for c in t.coefficients):
                if coefficient in ("x0", "x1"):
                    T[at, at] = 1.0 / x_scale
                    if "(Intercept)" in term.coefficients:
                        T[
                            case.options.coefficients.index("(Intercept)", at - term.coefficients.index(coefficient)), at
                        ] = -shift
            whole = T @ one.coordinates.turn_from_origin @ factor
            factor_there = np.linalg.solve(two.coordinates.turn_from_origin, whole)
            n, k = one.n_observations, 2 if reml else 0
            expected = one.value(factor) + 2.0 * one.degrees_of_freedom * np.log(y_scale) + k * 2.0 * np.log(x_scale)
            digits = 1e-8 if shift else 1e-12
            found = two.value(factor_there)
            assert abs(found - expected) < digits * max(1.0, abs(expected), n), (found, expected)

    names = ["crossed", "nested", "slopes in two factors", "nested slopes", "precision"]
    moves = [(1e6, 1.0, 0.0), (1e-6, 1.0, 0.0), (1.0, 1e6, 0.0), (1.0, 1e-6, 0.0), (1.0, 1.0, 1e6)]
    check_each([(str((name, *move)), (name, *move)) for name in names for move in moves], check)


def test_a_factor_without_variance_leaves_the_model_without_it():
    frame = frame_of("mixed", 20)
    models = {
        "(1 | a) + (1 | b) + (1 + x0 | c)": ["(1 | a) + (1 | b)", "(1 | a) + (1 + x0 | c)", "(1 | b) + (1 + x0 | c)"],
        "(1 | c/b/a)": ["(1 | c/b)", "(1 | c) + (1 | c:b:a)"],
    }

    def check(text, smaller, reml, chain):
        case, other = Case(frame, text), Case(frame, smaller)
        large, small = case.criterion(reml), other.criterion(reml)
        large = eliminating(large, max(chains(large), key=len) if chain else ())
        factor = random_factor(small, 0.8)
        kept = [list(case.options.groupings).index(name) for name in other.options.groupings]
        columns = [at for factor_at in kept for at in large.coordinates.factor_columns[factor_at]]
        whole = np.zeros((large.n_random, small.n_random))
        whole[columns] = factor
        one, two = large.evaluate(whole[None]), small.evaluate(factor[None])
        np.testing.assert_allclose(one.value, two.value, rtol=1e-12)
        np.testing.assert_allclose(one.r2, two.r2, rtol=1e-12)
        np.testing.assert_allclose(one.slope[0][np.ix_(columns, columns)], two.slope[0], atol=1e-10)
        # All factors without variance are least squares.
        zero = large.at_zero
        X = case.fixed_design(frame)
        left = frame["y"] - X @ np.linalg.lstsq(X, frame["y"], rcond=None)[0]
        np.testing.assert_allclose(zero.r2[0] * large.coordinates.y_scale**2, left @ left, rtol=1e-12)

    cases = [(t, s, reml, chain) for t, several in models.items() for s in several for reml in METHODS for chain in METHODS]
    check_each([(str(case), case) for case in cases], check)


def test_levels_that_are_all_one_row_and_blocks_that_never_meet():
    """Disconnected parts: the levels of one factor never meet some of the other's."""
    frame = frame_of("crossed", 21)
    half = np.arange(80) % 2
    frame["b"], frame["c"] = (
        [f"{h}{b}" for h, b in zip(half, frame["b"], strict=True)],
        [f"{h}{c}" for h, c in zip(half, frame["c"], strict=True)],
    )
    frame["row"] = np.arange(80)
    for text in ("(1 | b) + (1 | c)", "(1 | b) + (0 + x0 | row)"):
        case = Case(frame, text)
        for reml in METHODS:
            criterion, dense = case.criterion(reml), case.dense(reml)
            for chain in chains(criterion):
                factor = random_factor(criterion, 2.0)
                value = eliminating(criterion, chain).value(factor)
                np.testing.assert_allclose(value, dense.value(of_rows(criterion, factor @ factor.T, case)), rtol=1e-12)


def test_sums_of_squares_keep_their_digits_however_large_the_variances():
    """r2 and the value at variance ratios up to 1e8 against 50 digits.

    Double precision leaves errors of about 1e-16 times the ratio, as n x n algebra shows; a thousand times that is granted.
    """

    def check(kind, text, ratio, chain, reml):
        case = Case(frame_of(kind, 30, n=30), text)
        criterion = case.criterion(reml)
        criterion = eliminating(criterion, max(chains(criterion), key=len) if chain else ())
        factor = np.sqrt(ratio) * np.eye(criterion.n_random)
        frame, Z, start, factors = case.frame, case.random_design(case.frame), 0, []
        for of_factor, labels in zip(criterion.factors, case.labels(frame), strict=True):
            stop = start + len(of_factor.coefficients)
            factors.append((Z[:, start:stop], labels))
            start = stop
        G = of_rows(criterion, factor @ factor.T, case)
        expected = exact_factors(case.fixed_design(frame), frame["y"], factors, G, reml=reml)
        found, digits = criterion.evaluate(factor[None]), 1e-13 * max(1.0, ratio)
        r2 = found.r2[0] * criterion.coordinates.y_scale**2
        np.testing.assert_allclose(r2, float(expected.r2), rtol=min(digits, 1e-6))
        np.testing.assert_allclose(found.value[0], float(expected.value), rtol=digits)

    cases = [
        (kind, text, ratio, chain, reml)
        for kind, text in [("mixed", "(1 | a) + (1 | c)"), ("nested", "(1 + x0 | b/a)")]
        for ratio in (1e4, 1e8)
        for chain in METHODS
        for reml in METHODS
    ]
    check_each([(str(case), case) for case in cases], check)


# ---- parts


def test_several_covariances_at_once_give_what_one_at_a_time_gives():
    criterion = CASES["nested beside crossed"].criterion()
    factors = np.stack([random_factor(criterion, scale, singular=s) for scale, s in POINTS])
    together = criterion.evaluate(factors)
    for at, factor in enumerate(factors):
        alone, one = criterion.evaluate(factor[None]), together.at(at)
        for name in ("value", "slope", "hessian", "r2", "root"):
            np.testing.assert_allclose(getattr(one, name), getattr(alone, name), rtol=1e-13, atol=1e-13)
        assert criterion.value(factor) == alone.value[0]


def test_at_a_fixed_residual_variance_it_is_the_likelihood_with_that_variance():
    def check(name, reml):
        case, share = CASES[name], 0.02
        criterion, dense = case.criterion(reml), case.dense(reml)
        fixed = criterion.at_residual_variance(share)
        factor = random_factor(criterion, 0.7)
        at = dense.at(of_rows(criterion, factor @ factor.T, case))
        variance = share * criterion.coordinates.y_scale**2
        value = dense.D * np.log(2.0 * np.pi * variance) + at.r2 / variance + at.log_det + reml * at.log_det_X
        np.testing.assert_allclose(fixed.value(factor), value, rtol=1e-11)
        step = 1e-5
        here, pairs = fixed.evaluate(factor[None]), free_pairs(criterion)
        G = factor @ factor.T + np.eye(len(factor))
        here = fixed.evaluate(np.linalg.cholesky(G)[None])
        for pair in pairs:
            E = criterion.basis[pair]
            up, down = (fixed.value(np.linalg.cholesky(G + sign * step * E)) for sign in (1, -1))
            np.testing.assert_allclose(np.sum(here.slope[0] * E), (up - down) / (2 * step), rtol=1e-5, atol=1e-5)
        assert criterion.residual_variance is None

    check_each([(f"{name}, {reml}", (name, reml)) for name in ("nested slopes", "crossed") for reml in METHODS], check)


def test_an_outcome_that_the_effects_determine_is_recognised():
    frame = frame_of("crossed", 22)
    effects = normal_by_level(frame, "a", 1) + normal_by_level(frame, "b", 2)

    def criterion(y):
        return Case(frame.assign(y=y), "(1 | a) + (1 | b)").criterion()

    by_columns = criterion(2.0 + frame["x0"] - 2.0 * frame["x1"])
    assert by_columns.exact_fit
    assert criterion(np.full(len(frame), 3.0)).exact_fit
    for y in (effects, effects + frame["x0"]):
        by_levels = criterion(y)
        assert (by_levels.exact_fit, by_levels.leaves_nothing) == (False, True)
    noisy = criterion(effects + frame["x0"] + 1e-4 * np.random.default_rng(0).standard_normal(len(frame)))
    assert (noisy.exact_fit, noisy.leaves_nothing) == (False, False)


def normal_by_level(frame, name, seed):
    codes = frame[name].astype("category").cat.codes.to_numpy()
    return np.random.default_rng(seed).standard_normal(codes.max() + 1)[codes]
