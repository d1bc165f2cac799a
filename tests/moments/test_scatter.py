"""`GroupedScatter` against least squares group by group, and the ways to read, merge and save it against each other."""

import dataclasses
import io
import pickle
from contextlib import contextmanager

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from archives import rewritten
from designs import assert_same, assert_same_fit, simulate
from scipy import sparse

from sklearn_mlm import GroupedMoments, GroupedScatter, MixedEffectsRegressor, RandomInterceptRegressor
from sklearn_mlm.moments import _scatter_merging, _scatter_reading, _streaming
from sklearn_mlm.moments._remainder import KnownPart
from sklearn_mlm.moments._rows import grouped_rows
from sklearn_mlm.moments._scatter_reading import rests_of_groups, scatter_with_remainder
from sklearn_mlm.moments._threads import Pool

# Rounding of a few hundred rows, relative to the length of each column.
RTOL = 1e-13


def design(seed=0, n_groups=20):
    """X, y and groups: 1 to 7 rows a group in no order, x1 of whole numbers, x2 the same in a group, x0 in one."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(n_groups), rng.integers(1, 8, n_groups)))
    X = rng.standard_normal((len(groups), 4))
    X[:, 1] = np.round(X[:, 1])
    X[:, 2] = rng.standard_normal(n_groups)[groups]
    X[groups == groups[0], 0] = 3.0  # constant in one group
    effects = rng.standard_normal((n_groups, 3))[groups]
    y = X[:, 3] + effects[:, 0] + effects[:, 1] * X[:, 0] + effects[:, 2] * X[:, 1] + rng.standard_normal(len(groups))
    return X, y, groups


def textbook(X, y, groups, slopes, weights=None):
    """Factors and rest, group by group; each unit vector is what least squares on the slope columns before leaves."""
    rows, slopes = np.column_stack([X, y]), list(slopes)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    factors, rest = [], np.zeros((rows.shape[1],) * 2)
    for label in np.unique(groups[w > 0]):
        here = (groups == label) & (w > 0)
        about = (rows[here] - np.average(rows[here], axis=0, weights=w[here])) * np.sqrt(w[here])[:, None]
        units = np.zeros((len(about), len(slopes)))
        for at, slope in enumerate(slopes):
            before, left = about[:, slopes[:at]], about[:, slope]
            if at:
                left = left - before @ np.linalg.lstsq(before, left, rcond=1e-9)[0]
            if np.linalg.norm(left) > 1e-9 * np.linalg.norm(about[:, slope]):
                units[:, at] = left / np.linalg.norm(left)
        factors.append(units.T @ about)
        about -= units @ factors[-1]
        rest += about.T @ about
    return np.array(factors), rest


def lengths(scatter):
    """Length of each column about its mean; of a column that is constant in its groups, merging leaves rounding of that."""
    return np.sqrt(np.where(scatter.n_groups, scatter.moments.total_scatter[1], 1.0))


def assert_same_scatter(found, expected, rtol=RTOL):
    """Assert that two records are of the same rows, up to rounding."""
    assert_same(found.moments, expected.moments, rtol)
    assert found.slopes == expected.slopes
    assert_has(found, expected.factors, expected.rest, rtol)


def assert_has(found, factors, rest, rtol=RTOL, length=None):
    """Assert that a record has these factors and this rest, up to rounding of columns of some length, by default its own."""
    length = lengths(found) if length is None else length
    np.testing.assert_allclose((found.factors - factors) / length, 0.0, atol=rtol)
    np.testing.assert_allclose((found.rest - rest) / np.outer(length, length), 0.0, atol=rtol)


def parts_of(rows, cuts, weights=None, slopes=(0, 1)):
    X, y, groups = rows
    return [
        GroupedScatter.from_arrays(
            X[at], y[at], groups[at], None if weights is None or not len(at) else weights[at], slopes=slopes
        )
        for at in np.split(np.arange(len(y)), cuts)
    ]


# ---- the record


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("slopes", [(0,), (1, 0), (3, 1, 0), (2, 0), ()], ids=str)
def test_factors_and_rest_are_those_of_least_squares_in_each_group(slopes, weighted):
    X, y, groups = design()
    weights = np.random.default_rng(1).integers(0, 4, len(y)) / 2 if weighted else None
    scatter = GroupedScatter.from_arrays(X, y, groups, weights, slopes=slopes)
    factors, rest = textbook(X, y, groups, slopes, weights)
    assert scatter.factors.shape == (scatter.n_groups, len(slopes), 5)
    assert_has(scatter, factors.reshape(scatter.factors.shape), rest)
    assert not scatter.rest[list(slopes)].any()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("slopes", [(0, 1), ()])
def test_its_moments_are_those_of_grouped_moments(slopes, weighted):
    X, y, groups = design()
    weights = np.exp(np.random.default_rng(1).standard_normal(len(y))) if weighted else None
    scatter = GroupedScatter.from_arrays(X, y, groups, weights, slopes=slopes)
    assert isinstance(scatter.moments, GroupedMoments)
    assert_same(scatter.moments, GroupedMoments.from_arrays(X, y, groups, weights), RTOL)
    within = scatter.rest + np.einsum("jra,jrb->ab", scatter.factors, scatter.factors)
    np.testing.assert_allclose(within, scatter.moments.within, rtol=RTOL, atol=RTOL * np.abs(within).max())


def test_a_random_intercept_model_of_its_moments_is_that_of_the_rows():
    X, y, groups = design()
    scatter = GroupedScatter.from_arrays(X, y, groups, slopes=(0, 1))
    found = RandomInterceptRegressor().fit_moments(scatter.moments)
    # The optimum has the rounding of the moments, times its curvature.
    assert_same_fit(found, RandomInterceptRegressor().fit(X, y, groups=groups), rtol=1e-11)


def test_weights_that_count_are_copies_of_rows():
    X, y, groups = design()
    counts = np.random.default_rng(0).integers(0, 4, len(y))
    weighted = GroupedScatter.from_arrays(X, y, groups, counts, slopes=(0, 1))
    copied = GroupedScatter.from_arrays(*(np.repeat(part, counts, axis=0) for part in (X, y, groups)), slopes=(0, 1))
    assert_has(weighted, copied.factors, copied.rest)
    np.testing.assert_array_equal(weighted.moments.counts, copied.moments.counts)


def test_the_unit_of_the_weights_is_the_square_of_that_of_the_record():
    X, y, groups = design()
    weights = np.exp(np.random.default_rng(0).standard_normal(len(y)))
    one, other = (GroupedScatter.from_arrays(X, y, groups, w, slopes=(0, 1)) for w in (weights, 4.0 * weights))
    np.testing.assert_allclose(other.factors, 2.0 * one.factors, rtol=0, atol=RTOL * 2.0 * np.abs(one.factors).max())
    assert_has(other, 2.0 * one.factors, 4.0 * one.rest)


def test_a_group_with_fewer_rows_than_slopes_has_rows_of_zeros():
    groups = np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    X = np.random.default_rng(0).standard_normal((10, 3))
    scatter = GroupedScatter.from_arrays(X, X.sum(axis=1) ** 2, groups, slopes=(0, 1, 2))
    used = (scatter.factors != 0).any(axis=2)
    assert used.tolist() == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]
    # Four rows about their mean have three dimensions: the slopes leave nothing of y.
    np.testing.assert_array_equal(scatter.rest[:3], 0.0)
    assert scatter.rest[3, 3] < 1e-28 * scatter.moments.within[3, 3]


def test_a_slope_that_is_constant_in_a_group_has_a_row_of_zeros_there():
    X, y, groups = design()
    scatter = GroupedScatter.from_arrays(X, y, groups, slopes=(0, 2))
    constant = scatter.labels.get_loc(groups[0])
    assert not scatter.factors[constant, 0].any()
    assert not scatter.factors[:, 1].any()
    several = scatter.moments.n_rows > 1
    assert scatter.factors[several & (scatter.labels != groups[0]), 0, 0].all()


@pytest.mark.parametrize("distance", [0.0, 1e3, 1e9])
def test_a_slope_that_depends_on_another_in_some_groups_has_rows_of_zeros_there(distance):
    _, y, groups = design(1)
    X = np.round(np.random.default_rng(1).standard_normal((len(y), 2)) * 2**10) / 2**10 + distance
    double = groups % 2 == 0
    X[double, 1] = 2.0 * X[double, 0] - distance
    scatter = GroupedScatter.from_arrays(X, y, groups, slopes=(0, 1))
    even, enough = np.arange(20) % 2 == 0, scatter.moments.n_rows > 2
    assert not scatter.factors[even, 1].any()
    assert (scatter.factors[~even & enough, 1, 1] > 0.01).all()


def test_nor_does_a_multiple_of_a_slope_whose_rounding_is_all_that_is_left_of_it():
    groups = np.repeat(np.arange(50), 5)
    x = np.random.default_rng(2).standard_normal(50)[groups] * np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 50)
    scatter = GroupedScatter.from_arrays(np.column_stack([x, x / 3]), x**2, groups, slopes=(0, 1))
    # The means are 0, so that the rounding of the values is less than that of their multiples.
    assert scatter.factors[:, 0].any(axis=1).all()
    assert not scatter.factors[:, 1].any()


@pytest.mark.parametrize("weighted", [False, True])
def test_columns_far_from_zero_have_the_record_of_those_near_it(weighted):
    X, y, groups = design(n_groups=12)
    X, y = (np.round(part * 2**12) / 2**12 for part in (X, y))  # exact at a distance of 2**30
    weights = np.exp(np.random.default_rng(0).standard_normal(len(y))) if weighted else None
    near = GroupedScatter.from_arrays(X, y, groups, weights, slopes=(0, 1))
    far = GroupedScatter.from_arrays(X + 2.0**30, y - 2.0**30, groups, weights, slopes=(0, 1))
    assert_has(far, near.factors, near.rest)
    np.testing.assert_allclose(far.moments.within, near.moments.within, atol=1e-12)


def test_a_column_of_a_group_that_is_far_from_the_others_costs_no_digits():
    X, y, groups = design(n_groups=12)
    X = np.round(X * 2**12) / 2**12
    near = GroupedScatter.from_arrays(X, y, groups, slopes=(0, 1))
    far = GroupedScatter.from_arrays(X + 2.0**30 * (groups == 3)[:, None], y, groups, slopes=(0, 1))
    assert_has(far, near.factors, near.rest, length=lengths(near))


def test_what_varies_by_rounding_alone_does_not_vary():
    groups = np.repeat(np.arange(30), 4)
    X = np.column_stack([1e9 + 0.1 * groups, np.full(120, 0.1), 1e9 + np.random.default_rng(0).standard_normal(120)])
    X[:, 0] += np.tile([0.0, 0.0, 1.2e-7, 0.0], 30)  # a unit in the last place
    scatter = GroupedScatter.from_arrays(X, X[:, 2], groups, slopes=(0, 1, 2))
    assert not scatter.factors[:, :2].any()
    assert (scatter.factors[:, 2, 2] > 0.1).all()


def test_what_groups_contribute_to_the_rest_adds_up_to_it():
    X, y, groups = design()
    weights = np.exp(np.random.default_rng(1).standard_normal(len(y)))
    scatter = GroupedScatter.from_arrays(X, y, groups, weights, slopes=(0, 1))
    rests, deviations = rests_of_groups(grouped_rows(X, y, groups, weights), (0, 1), scatter.moments.center)
    np.testing.assert_allclose(rests.sum(axis=0), scatter.rest, atol=1e-12)
    np.testing.assert_allclose(deviations, scatter.moments.deviations, atol=1e-13)
    largest = int(scatter.moments.n_rows.argmax())
    one = groups == largest
    expected = textbook(X[one], y[one], groups[one], (0, 1), weights[one])[1]
    np.testing.assert_allclose(rests[largest], expected, atol=1e-12)
    assert np.abs(expected).max() > 0.1


# ---- ways to read


FORMS = {
    "Fortran order": np.asfortranarray,
    "pandas": lambda X: pd.DataFrame(X, columns=["x0", "x1", "x2", "x3"]),
    "polars": lambda X: pl.DataFrame(X, schema=["x0", "x1", "x2", "x3"]),
    "CSR": sparse.csr_array,
    "CSC": sparse.csc_matrix,
    "float32": lambda X: X.astype(np.float32),
    "integers": lambda X: X.astype(int),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_x_makes_no_difference(form, weighted):
    X, y, groups = design()
    X = np.round(10 * X) * (np.random.default_rng(0).random(X.shape) < 0.5)  # representable in all of them
    weights = np.arange(len(y)) % 4 / 2 if weighted else None
    expected = GroupedScatter.from_arrays(X, y, groups, weights, slopes=(0, 1))
    assert_same_scatter(GroupedScatter.from_arrays(FORMS[form](X), y, groups, weights, slopes=(0, 1)), expected, 1e-14)


def test_slopes_may_be_names_or_positions():
    X, y, groups = design()
    frame = pd.DataFrame(X, columns=["a", "b", "c", "3"])
    expected = GroupedScatter.from_arrays(frame, y, groups, slopes=[1, 3])
    for slopes in (["b", "3"], [1, "3"], (-3, -1), ("b", 1, 3, "3"), np.array([1, 3])):
        assert_same_scatter(GroupedScatter.from_arrays(frame, y, groups, slopes=slopes), expected, 0.0)
    assert GroupedScatter.from_arrays(frame, y, groups, slopes="b").slopes == (1,)
    assert GroupedScatter.from_arrays(X, y, groups, slopes="x1").slopes == (1,)
    assert GroupedScatter.from_arrays(X, y, groups, slopes=np.int64(2)).slopes == (2,)


@pytest.mark.parametrize("slopes", ["d", 4, -5, [1.0], True, ["a", None], [[0]], "x0"])
def test_slopes_that_x_does_not_have_are_refused_by_value(slopes):
    X, y, groups = design()
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d "])
    for read in (
        lambda: GroupedScatter.from_arrays(frame, y, groups, slopes=slopes),
        lambda: GroupedScatter.from_batches([(frame, y, groups)], slopes=slopes),
        lambda: GroupedScatter.from_batches([(frame[:0], y[:0], groups[:0])], slopes=slopes),
    ):
        with pytest.raises(ValueError, match="slopes must be names or positions of columns of X; found"):
            read()


def test_without_x_there_are_no_slopes():
    _, y, groups = design()
    scatter = GroupedScatter.from_arrays(None, y, groups, slopes=())
    assert scatter.factors.shape == (20, 0, 1)
    assert_same(scatter.moments, GroupedMoments.from_arrays(None, y, groups), RTOL)
    with pytest.raises(ValueError, match="slopes must be names or positions of columns of X; found 0"):
        GroupedScatter.from_arrays(None, y, groups, slopes=0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_have_the_record_of_their_rows(size, weighted):
    X, y, groups = design()
    weights = np.arange(len(y)) % 4 / 2 if weighted else None
    rows = [X, y, groups, weights] if weighted else [X, y, groups]
    batches = (tuple(part[at : at + size] for part in rows) for at in range(0, len(y) + 5, size))  # the last may be empty
    expected = GroupedScatter.from_arrays(X, y, groups, weights, slopes=(0, 1))
    assert_same_scatter(GroupedScatter.from_batches(batches, slopes=(0, 1)), expected, 1e-12)


def test_batches_are_merged_as_they_come(monkeypatch):
    X, y, groups = design()
    expected = GroupedScatter.from_arrays(X, y, groups, slopes=(0, 1))
    merged, whole = [], _streaming.merge_scatters
    monkeypatch.setattr(_streaming, "_WORTH_MERGING", 30)
    monkeypatch.setattr(_streaming, "_MERGED_AT_ONCE", 1)
    monkeypatch.setattr(_streaming, "merge_scatters", lambda parts: merged.append(len(parts)) or whole(parts))
    batches = [(X[i::9], y[i::9], groups[i::9]) for i in range(9)]
    assert_same_scatter(GroupedScatter.from_batches(batches, slopes=(0, 1)), expected, 1e-12)
    assert len(merged) > 2


def test_batches_keep_names_and_may_be_empty_but_not_all_without_weight():
    X, y, groups = design()
    frame, outcome, labels = (
        pd.DataFrame(X, columns=list("abcd")),
        pd.Series(y, name="math"),
        pd.Series(groups, name="school"),
    )
    scatter = GroupedScatter.from_batches([(frame[:0], y[:0], groups[:0]), (frame, outcome, labels)], slopes="b")
    assert scatter.moments.feature_names == ("a", "b", "c", "d")
    assert (scatter.outcome_name, scatter.labels.name, scatter.slopes) == ("math", "school", (1,))
    nothing = GroupedScatter.from_batches([(frame[:0], y[:0], groups[:0])], slopes="b")
    assert (nothing.n_groups, nothing.slopes, nothing.factors.shape) == (0, (1,), (0, 1, 5))
    with pytest.raises(ValueError, match="There are no batches"):
        GroupedScatter.from_batches([], slopes=0)
    with pytest.raises(ValueError, match="sample_weight is zero in every row"):
        GroupedScatter.from_batches([(X, y, groups, np.zeros(len(y)))], slopes=0)
    with pytest.raises(ValueError, match=f"The batch that starts at row {len(y)} has other columns than the first"):
        GroupedScatter.from_batches([(X, y, groups), (X[:, :3], y, groups)], slopes=0)


@pytest.mark.parametrize("weight", [None, "w"])
def test_arrow_and_parquet_have_the_record_of_their_rows(weight, tmp_path):
    X, y, groups = design()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(y=y, school=[f"s{group}" for group in groups])
    frame["w"] = np.arange(len(y)) % 4 / 2
    names = {"x": list("abcd"), "y": "y", "groups": "school", "slopes": ["b", "a"], "sample_weight": weight}
    weights = None if weight is None else frame["w"]
    expected = GroupedScatter.from_arrays(frame[list("abcd")], frame["y"], frame["school"], weights, slopes=["b", "a"])
    half = len(frame) // 2
    frame[:half].to_parquet(tmp_path / "1.parquet")
    frame[half:].to_parquet(tmp_path / "2.parquet")
    for found in (
        GroupedScatter.from_arrow(pa.Table.from_pandas(frame), **names),
        GroupedScatter.from_arrow(pl.from_pandas(frame), **names),
        GroupedScatter.from_parquet(tmp_path, **names),
    ):
        assert_same_scatter(found, expected, 1e-12)
        assert found.moments.feature_names == ("a", "b", "c", "d")
        assert (found.outcome_name, found.labels.name) == ("y", "school")
    with pytest.raises(ValueError, match=r"slopes must be names.*found 'w'"):
        GroupedScatter.from_parquet(tmp_path, **{**names, "slopes": "w"})


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_groups_with_many_rows_are_read_in_pieces(monkeypatch, most, weighted):
    X, y, groups = design(n_groups=6)
    weights = np.exp(np.random.default_rng(0).standard_normal(len(y))) if weighted else None
    labels = np.array([f"s{group}" for group in groups])
    expected = GroupedScatter.from_arrays(X, y, labels, weights, slopes=(0, 1))
    read = []
    pieces = _scatter_reading._pieces
    monkeypatch.setattr(_scatter_reading, "_MAX_NUMBERS", most * 5)
    monkeypatch.setattr(_scatter_reading, "_pieces", lambda rows, n: read.append(pieces(rows, n)) or read[-1])
    assert_same_scatter(GroupedScatter.from_arrays(X, y, labels, weights, slopes=(0, 1)), expected, 1e-12)
    assert np.bincount(read[0]).max() == most


@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_and_threads_make_no_difference_beyond_rounding(monkeypatch, weighted):
    X, y, groups = design(n_groups=60)
    weights = np.exp(np.random.default_rng(0).standard_normal(len(y))) if weighted else None
    alone = GroupedScatter.from_arrays(X, y, groups, weights, slopes=(0, 1))
    shares = []

    @contextmanager
    def three(useful):
        with Pool(3) as pool:
            mapped = pool.map
            pool.map = lambda read, blocks: mapped(read, shares.append([len(share) for share in blocks]) or blocks)
            yield pool

    monkeypatch.setattr(_scatter_reading, "block_rows", lambda width: 10)
    assert_same_scatter(GroupedScatter.from_arrays(X, y, groups, weights, slopes=(0, 1)), alone)
    monkeypatch.setattr(_scatter_reading, "threads", three)
    assert_same_scatter(GroupedScatter.from_arrays(X, y, groups, weights, slopes=(0, 1)), alone)
    assert len(shares[0]) == 3
    assert min(shares[0]) > 2


def test_read_only_input_is_read_and_left_alone():
    rows = design()
    before = [part.copy() for part in rows]
    for part in rows:
        part.flags.writeable = False
    GroupedScatter.from_arrays(*rows, slopes=(0, 1))
    for part, copy in zip(rows, before, strict=True):
        np.testing.assert_array_equal(part, copy)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["X", "y"])
def test_values_that_are_not_finite_are_refused_by_column_and_row(place, value):
    X, y, groups = design()
    arrays = {"X": X, "y": y}
    arrays[place].flat[5] = value
    column, row = ("Column 1 of X", 1) if place == "X" else (place, 5)
    with pytest.raises(ValueError, match=f"{column} h.* the first in row {row} "):
        GroupedScatter.from_arrays(X, y, groups, slopes=(0, 1))


def test_values_whose_squares_overflow_or_vanish_are_refused():
    X, y, groups = design()
    with pytest.raises(ValueError, match="Rescale"):
        GroupedScatter.from_arrays(X * 1e200, y, groups, slopes=(0, 1))
    with pytest.raises(ValueError, match="'x3' of X varies by so little that squares vanish"):
        GroupedScatter.from_arrays(X * [1, 1, 1, 1e-160], y, groups, slopes=(0, 1))


# ---- merging


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("slopes", [(0, 1), (3, 1, 0), ()], ids=str)
def test_merging_parts_that_split_groups_gives_the_whole(slopes, weighted):
    rows = design(5)
    n_rows = len(rows[1])
    weights = np.exp(np.random.default_rng(2).standard_normal(n_rows)) if weighted else None
    (whole,) = parts_of(rows, [], weights, slopes)
    rng = np.random.default_rng(7)
    for cuts in ([0], [1, 1, 2], [n_rows], np.sort(rng.integers(0, n_rows, 25)), np.arange(n_rows)):
        parts = parts_of(rows, cuts, weights, slopes)
        assert isinstance(sum(parts), GroupedScatter)
        # Each merge of two parts of a group adds its rounding.
        for merged in (GroupedScatter.merge(parts), GroupedScatter.merge(*reversed(parts)), sum(parts)):
            assert_same_scatter(merged, whole, 1e-12)


def test_merging_in_blocks_of_groups_makes_no_difference(monkeypatch):
    rows = design(5)
    parts = parts_of(rows, np.arange(2, len(rows[1]), 3))
    at_once = GroupedScatter.merge(parts)
    monkeypatch.setattr(_scatter_merging, "block_rows", lambda width: 5)
    assert_same_scatter(GroupedScatter.merge(parts), at_once, 1e-14)


def test_merging_is_associative_and_has_an_identity():
    rows = design()
    a, b, c = parts_of(rows, [30, 60])
    (nothing,) = parts_of([part[:0] for part in rows], [])
    assert_same_scatter((a + b) + c, a + (b + c))
    assert_same_scatter(a.merge(b, [c]), (c + a) + b)
    assert_same_scatter(nothing + a, a, 0.0)
    assert_same_scatter(a + nothing, a, 0.0)
    assert (nothing + nothing).n_groups == 0


def test_merging_single_rows_keeps_what_is_constant_in_a_group_out_of_the_factors():
    groups = np.repeat(np.arange(12), 5)
    rng = np.random.default_rng(0)
    X = np.column_stack([0.1 * groups, rng.standard_normal(60), 1e6 + np.full(60, 1 / 3)])
    parts = parts_of((X, rng.standard_normal(60), groups), np.arange(1, 60), slopes=(0, 1, 2))
    merged = GroupedScatter.merge(parts)
    assert not merged.factors[:, [0, 2]].any()
    assert merged.factors[:, 1, 1].all()
    # Seven merges of numbers of the size of 1e6.
    assert merged.rest[2, 2] == merged.rest[0, 0] == 0.0


def test_merging_keeps_a_small_constant_slope_out_of_the_factors():
    parts = [
        GroupedScatter.from_arrays([[far], [0.1]], [1.0, y], ["a", "b"], slopes=0) for far, y in ((3.0, 2.0), (9.0, 5.0))
    ]
    merged = parts[0] + parts[1]
    assert not merged.factors[1].any()
    np.testing.assert_allclose(merged.rest[1, 1], 4.5, rtol=1e-15)


@pytest.mark.parametrize("distance", [2.0**20, 2.0**30])
def test_merging_keeps_digits_far_from_zero(distance):
    X, y, groups = design(n_groups=12)
    X = np.round(X * 2**12) / 2**12
    near, far = (parts_of((X + at, y, groups), np.arange(3, len(y), 4)) for at in (0.0, distance))
    (whole,) = parts_of((X + distance, y, groups), [])
    # Means of groups are doubles of the size of the distance less that of the first part.
    assert_same_scatter(GroupedScatter.merge(far), whole, 1e-12)
    merged = GroupedScatter.merge(near)
    assert_has(GroupedScatter.merge(far), merged.factors, merged.rest, 1e-12)


def test_merging_labels_of_different_kinds_and_orders():
    x = np.arange(4.0)[:, None] ** 2
    a = GroupedScatter.from_arrays(x, [1.0, 2, 0, 3], pd.Categorical(["x", "y", "x", "y"]), slopes=0)
    b = GroupedScatter.from_arrays(x, [3.0, 4, 1, 2], np.array(["z", "y", "z", "y"]), slopes=0)
    X, y, labels = np.tile(x, (2, 1)), np.array([1.0, 2, 0, 3, 3, 4, 1, 2]), np.array(list("xyxyzyzy"))
    factors, rest = textbook(X, y, labels, (0,))
    assert list((a + b).labels) == ["x", "y", "z"]
    assert_has(a + b, factors, rest)
    other = b + a
    assert_has(other, factors[["xyz".index(label) for label in other.labels]], rest)


def test_a_merged_record_keeps_the_names_that_its_parts_agree_on():
    X, y, groups = design()
    frame = pd.DataFrame(X, columns=list("abcd"))
    one, two, three = (
        GroupedScatter.from_arrays(frame[i::3], pd.Series(y[i::3], name=name), groups[i::3], slopes="b")
        for i, name in enumerate(["math", "math", "art"])
    )
    assert ((one + two).moments.feature_names, (one + two).outcome_name) == (("a", "b", "c", "d"), "math")
    assert (one + three).outcome_name is None
    assert one.renamed("wxyz").moments.feature_names == ("w", "x", "y", "z")
    assert one.named("school", "y").labels.name == "school"


def test_parts_that_do_not_fit_do_not_merge():
    X, y, groups = design()
    one = GroupedScatter.from_arrays(X, y, groups, slopes=(0, 1))
    for slopes in ((0,), (1, 0), (0, 2)):
        with pytest.raises(ValueError, match=r"Cannot merge records with the slopes .*\(0, 1\).*Read the same slopes"):
            one + GroupedScatter.from_arrays(X, y, groups, slopes=slopes)
    with pytest.raises(ValueError, match="4 features with moments of 3"):
        one + GroupedScatter.from_arrays(X[:, :3], y, groups, slopes=(0, 1))
    with pytest.raises(ValueError, match="at least one"):
        GroupedScatter.merge([])
    with pytest.raises(TypeError, match=r"merge takes GroupedScatter.*found GroupedMoments"):
        GroupedScatter.merge([one, one.moments])
    for other in (1, one.moments):
        with pytest.raises(TypeError):
            one + other
    with pytest.raises(TypeError):
        1 + one


# ---- the remainder of y after a known part


def far_from_y(seed=3):
    """Rows whose y is 2**20 times a column of x, and what is left of it; all of them exact."""
    X, rest, groups = design(seed)
    X, rest = np.round(X * 2**10) / 2**10, np.round(rest * 2**20) / 2**20
    slopes = np.array([2.0**20, 0.0, 0.0, -(2.0**18)])
    return X, rest, groups, slopes, rest + X @ slopes


@pytest.mark.parametrize("weighted", [False, True])
def test_the_record_of_a_remainder_has_what_the_known_slopes_leave_of_y(weighted):
    X, rest, groups, slopes, y = far_from_y()
    weights = np.exp(np.random.default_rng(0).standard_normal(len(y))) if weighted else None
    expected = GroupedScatter.from_arrays(X, rest, groups, weights, slopes=(0, 1))
    plain = GroupedScatter.from_arrays(X, y, groups, weights, slopes=(0, 1))
    known = KnownPart(slopes, 3.0)
    found = scatter_with_remainder(plain, known, grouped_rows(X, y, groups, weights))
    assert_has(found, expected.factors, expected.rest)
    about, b = found.about_slopes()
    np.testing.assert_array_equal(b, slopes)
    assert_same(about.moments, GroupedMoments.from_arrays(X, rest, groups, weights))
    # Of the moments of y itself, the remainder is a difference: it keeps the digits that y has left.
    lost, _ = plain.about_slopes(slopes)
    length = lengths(expected)
    np.testing.assert_allclose((lost.factors - expected.factors) / length, 0, atol=1e-8)
    assert np.abs((lost.factors - expected.factors) / length).max() > 1e-13


def test_about_other_slopes_a_record_is_that_of_other_rows():
    X, y, groups = design()
    b = np.array([0.5, -2.0, 1.0, 0.25])
    expected = GroupedScatter.from_arrays(X, y - X @ b, groups, slopes=(0, 1))
    scatter = GroupedScatter.from_arrays(X, y, groups, slopes=(0, 1))
    for record in (scatter, scatter_with_remainder(scatter, KnownPart(3 * b, 1.0), grouped_rows(X, y, groups))):
        about, slopes = record.about_slopes(b)
        np.testing.assert_array_equal(slopes, b)
        assert about.moments.remainder is None
        # Differences of numbers a few times as large.
        assert_has(about, expected.factors, expected.rest, 1e-12)
    same, zero = scatter.about_slopes()
    assert not zero.any()
    assert_same_scatter(same, scatter, 0.0)


@pytest.mark.parametrize("with_remainder", [(True, True, True), (True, False, True), (False, False, True)], ids=str)
def test_merging_parts_of_which_some_have_a_remainder(with_remainder):
    X, rest, groups, slopes, y = far_from_y()
    expected = GroupedScatter.from_arrays(X, rest, groups, slopes=(0, 1))
    parts = []
    for at, read_again in enumerate(with_remainder):
        rows = [part[at::3] for part in (X, y, groups)]
        parts.append(GroupedScatter.from_arrays(*rows, slopes=(0, 1)))
        if read_again:
            # Parts may know the slopes more or less well.
            parts[-1] = scatter_with_remainder(parts[-1], KnownPart(slopes + at / 4, 0.0), grouped_rows(*rows))
    for merged in (GroupedScatter.merge(parts), GroupedScatter.merge(parts[::-1])):
        found, _ = merged.about_slopes(slopes)
        # A part without a remainder has the digits that y leaves: its scatter is 2**40 times as large.
        assert_has(found, expected.factors, expected.rest, 1e-12 if all(with_remainder) else 1e-6)
        assert merged.moments.remainder is not None
        assert (merged.moments.remainder.lost > 0) == (not all(with_remainder))


def test_a_large_slope_changes_no_other_figure_of_the_model():
    X, rest, groups, slopes, y = far_from_y()
    model = MixedEffectsRegressor(random_effects="(1 + x0 | g)")
    found, expected = model.fit(X, y, groups), MixedEffectsRegressor(random_effects="(1 + x0 | g)").fit(X, rest, groups)
    assert found.moments_.moments.remainder is not None
    np.testing.assert_allclose(found.coef_ - slopes, expected.coef_, atol=1e-9)
    np.testing.assert_allclose(found.variance_components_, expected.variance_components_, rtol=1e-11)
    np.testing.assert_allclose(found.random_effects_, expected.random_effects_, atol=1e-11)


# ---- files and objects


def saved(scatter):
    file = io.BytesIO()
    scatter.save(file)
    file.seek(0)
    return file


def with_all(weighted=True):
    """A record with names, weights and a remainder."""
    X, _, groups, slopes, y = far_from_y()
    frame = pd.DataFrame(X, columns=["é", "b", "c", "d"])
    labels = pd.Series([f"s{group}" for group in groups], name="school")
    weights = 1.0 + np.arange(len(y)) % 3 if weighted else None
    scatter = GroupedScatter.from_arrays(frame, pd.Series(y, name="math"), labels, weights, slopes=["b", "é"])
    return scatter_with_remainder(scatter, KnownPart(slopes, 1.0), grouped_rows(X, y, labels, weights))


RECORDS = {
    "plain": lambda: GroupedScatter.from_arrays(*design(), slopes=(0, 1)),
    "no slopes": lambda: GroupedScatter.from_arrays(*design(), slopes=()),
    "no rows": lambda: GroupedScatter.from_arrays(*(part[:0] for part in design()), slopes=(0, 1)),
    "names, weights and a remainder": with_all,
}


def same_to_the_last_digit(found, expected):
    """Assert that two records are the same."""
    assert found.slopes == expected.slopes
    for name in ("factors", "rest"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    same_moments_to_the_last_digit(found.moments, expected.moments)


def same_moments_to_the_last_digit(found, expected):
    """Assert that two moments are the same."""
    assert found.labels.tolist() == expected.labels.tolist()
    for name in ("counts", "n_rows", "center", "deviations", "within"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("feature_names", "outcome_name", "sum_log_weight"):
        assert getattr(found, name) == getattr(expected, name)
    assert (found.remainder is None) == (expected.remainder is None)
    if expected.remainder is not None:
        for field in dataclasses.fields(expected.remainder):
            np.testing.assert_array_equal(getattr(found.remainder, field.name), getattr(expected.remainder, field.name))


@pytest.mark.parametrize("record", RECORDS)
def test_a_file_holds_the_record_to_the_last_digit(record, tmp_path):
    scatter = RECORDS[record]()
    loaded = GroupedScatter.load(saved(scatter))
    assert isinstance(loaded, GroupedScatter)
    same_to_the_last_digit(loaded, scatter)
    scatter.save(tmp_path / "a.npz")
    same_to_the_last_digit(GroupedScatter.load(str(tmp_path / "a.npz")), scatter)
    same_to_the_last_digit(loaded + scatter, scatter + scatter)


@pytest.mark.parametrize("record", RECORDS)
def test_grouped_moments_reads_the_moments_of_a_file(record):
    scatter = RECORDS[record]()
    moments = GroupedMoments.load(saved(scatter))
    assert type(moments) is GroupedMoments
    same_moments_to_the_last_digit(moments, scatter.moments)


def test_a_file_of_moments_has_no_record():
    moments = GroupedMoments.from_arrays(*design())
    with pytest.raises(ValueError, match=r"holds moments without slopes\. GroupedMoments.load reads it"):
        GroupedScatter.load(saved(moments))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, a: h.update(slopes=[0, 0]), r"slopes must be distinct positions of columns; found \[0, 0\]"),
        (lambda h, a: h.update(slopes=[0, 4]), r"slopes must be distinct positions of columns; found \[0, 4\]"),
        (lambda h, a: h.update(slopes=[-1, 0]), "slopes must be distinct positions"),
        (lambda h, a: h.update(slopes=[0]), r"factors must be numbers of shape \(20, 1, 5\)"),
        (lambda h, a: h.update(slopes="none"), "damaged"),
        (lambda h, a: h.update(slopes=None), "damaged"),
        (lambda h, a: a.pop("scatter_factors"), "damaged"),
        (lambda h, a: a.pop("scatter_rest"), "damaged"),
        (lambda h, a: a.update(scatter_factors=a["scatter_factors"][1:]), "factors must be numbers of shape"),
        (lambda h, a: a.update(scatter_factors=a["scatter_factors"] * np.nan), "factors must be finite"),
        (lambda h, a: a.update(scatter_factors=a["scatter_factors"].astype(str)), "factors must be numbers"),
        (lambda h, a: a.update(scatter_rest=a["scatter_rest"][:2]), "rest must be numbers of shape"),
        (lambda h, a: a.update(scatter_rest=-a["scatter_rest"]), "rest must be a scatter matrix"),
        (
            lambda h, a: a.update(scatter_rest=a["scatter_rest"] + np.triu(np.ones((5, 5)), 1)),
            "rest must be a scatter matrix",
        ),
        (lambda h, a: a.pop("within"), "damaged"),
        (lambda h, a: h.update(version=2), "has version 2"),
    ],
)
def test_files_that_no_record_wrote_are_refused(change, message):
    file = rewritten(saved(RECORDS["plain"]()), change)
    with pytest.raises(ValueError, match=message):
        GroupedScatter.load(file)


def test_a_file_bent_anywhere_is_read_or_refused():
    content = saved(with_all()).getvalue()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(content), 300):
        bent = bytearray(content)
        bent[at] ^= 1 << int(rng.integers(0, 8))
        try:
            GroupedScatter.load(io.BytesIO(bytes(bent)))
        except ValueError as error:
            assert "file of moments" in str(error)  # noqa: PT017


def test_arrays_of_a_record_cannot_be_written_to():
    scatter = RECORDS["plain"]()
    factors = scatter.factors.copy()
    for each in (scatter, scatter + scatter, GroupedScatter.load(saved(scatter)), pickle.loads(pickle.dumps(scatter))):
        for name in ("factors", "rest"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(each, name)[:1] = 0
        with pytest.raises(ValueError, match="read-only"):
            each.moments.counts[:1] = 0
    # The caller's own arrays stay writeable.
    GroupedScatter(scatter.moments, scatter.slopes, factors, scatter.rest)
    factors[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        scatter.factors = factors


@pytest.mark.parametrize("record", RECORDS)
def test_a_pickled_record_is_the_same(record):
    scatter = RECORDS[record]()
    again = pickle.loads(pickle.dumps(scatter))
    assert type(again) is GroupedScatter
    same_to_the_last_digit(again, scatter)


def test_a_record_says_how_large_it_is():
    X, y, groups = simulate()
    scatter = GroupedScatter.from_arrays(X, y, groups, np.full(len(y), 0.5), slopes=1)
    assert repr(scatter) == (
        f"GroupedScatter(n_groups=12, n_features=3, slopes=('x1',), n_rows={len(y)}, total_weight={len(y) / 2:g})"
    )
