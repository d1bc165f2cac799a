import dataclasses
import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pytest
from designs import assert_same, simulate
from scipy import sparse
from threadpoolctl import threadpool_info

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.moments import _sums
from sklearn_mlm.moments._moments import varies_within


def textbook(X, y, groups, weights=None):
    """Counts, means and within scatter, group by group."""
    z = np.column_stack([X, y]) if X is not None else np.asarray(y, dtype=float)[:, None]
    w = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=float)
    labels = sorted(set(np.asarray(groups)[w > 0]))
    counts, means, within = [], [], 0.0
    for label in labels:
        rows = (groups == label) & (w > 0)
        counts.append(w[rows].sum())
        means.append(w[rows] @ z[rows] / w[rows].sum())
        about = z[rows] - means[-1]
        within = within + (about * w[rows, None]).T @ about
    return labels, np.array(counts), np.array(means), within


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_columns", [0, 1, 4])
def test_moments_are_those_of_the_textbook(n_columns, weighted):
    X, y, groups = simulate(n_columns=n_columns)
    weights = np.random.default_rng(1).integers(0, 4, len(y)) / 2 if weighted else None
    moments = GroupedMoments.from_arrays(X if n_columns else None, y, groups, weights)
    labels, counts, means, within = textbook(X, y, groups, weights)
    assert list(moments.labels) == labels
    np.testing.assert_allclose(moments.counts, counts)
    np.testing.assert_allclose(moments.means, means)
    np.testing.assert_allclose(moments.within, within, atol=1e-12)
    assert moments.n_features == n_columns


@pytest.mark.parametrize("level_2", [False, True], ids=["one centre serves", "reference rows needed"])
def test_large_data_in_threads_and_blocks_give_the_textbook_moments(level_2):
    X, y, groups = simulate(300, 700, 4, level_2=level_2, tau=0.5)
    assert X.size > _sums.LARGE  # or this would test the same as the small data
    _, counts, means, within = textbook(X, y, groups)
    moments = GroupedMoments.from_arrays(X, y, groups)
    np.testing.assert_array_equal(moments.counts, counts)
    np.testing.assert_allclose(moments.means, means, atol=1e-13)
    np.testing.assert_allclose(moments.within, within, atol=1e-9)
    if level_2:
        assert np.all(moments.within[-2] == 0)


def test_the_number_of_threads_makes_no_difference(monkeypatch):
    X, y, groups = simulate(50, 2000, 6)
    alone = GroupedMoments.from_arrays(X, y, groups)
    shares = []

    def three_parts(part, n_rows, useful):
        shares.append(useful)
        cuts = [0, n_rows // 5, n_rows // 2, n_rows]
        return [part(*cut) for cut in itertools.pairwise(cuts)]

    monkeypatch.setattr(_sums, "_in_threads", three_parts)
    assert_same(GroupedMoments.from_arrays(X, y, groups), alone)
    assert max(shares) > 1


def test_fits_at_the_same_time_agree_and_leave_the_limits_of_blas_alone():
    X, y, groups = simulate(50, 3000, 6)
    before = [library["num_threads"] for library in threadpool_info()]
    alone = GroupedMoments.from_arrays(X, y, groups)
    with ThreadPoolExecutor(4) as pool:
        for moments in pool.map(lambda _: GroupedMoments.from_arrays(X, y, groups), range(8)):
            assert_same(moments, alone)
    assert [library["num_threads"] for library in threadpool_info()] == before


FORMS = {
    "C order": lambda X: np.ascontiguousarray(X),
    "Fortran order": lambda X: np.asfortranarray(X),
    "every other row of more": lambda X: np.repeat(X, 2, axis=0)[::2],
    "reversed columns of reversed": lambda X: X[:, ::-1].copy()[:, ::-1],
    "pandas": lambda X: pd.DataFrame(X),
    "polars": lambda X: pl.DataFrame(X),
    "list": lambda X: X.tolist(),
    "CSR": sparse.csr_array,
    "CSC": sparse.csc_matrix,
    "integers": lambda X: X.astype(int),
    "int8": lambda X: X.astype(np.int8),
    "float32": lambda X: X.astype(np.float32),
    "booleans in object": lambda X: X.astype(object),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_x_makes_no_difference(form):
    X, y, groups = simulate(n_columns=4)
    X = np.round(10 * X) * (np.random.default_rng(0).random(X.shape) < 0.5)  # representable in all of them
    assert_same(GroupedMoments.from_arrays(FORMS[form](X), y, groups), GroupedMoments.from_arrays(X, y, groups), 1e-14)


def test_read_only_input_is_read_and_left_alone():
    X, y, groups = simulate()
    before = X.copy(), y.copy(), groups.copy()
    for array in (X, y, groups):
        array.flags.writeable = False
    GroupedMoments.from_arrays(X, y, groups)
    for array, copy in zip((X, y, groups), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_group_level_columns_have_an_exactly_zero_within_part():
    groups = np.repeat(np.arange(50), 7)
    X = np.column_stack([np.random.default_rng(0).standard_normal(50)[groups], np.full(350, 0.1), 1e9 + 0.1 * groups])
    within = GroupedMoments.from_arrays(X, groups * 0.3, groups).within
    np.testing.assert_array_equal(within, 0.0)


@pytest.mark.parametrize("first_row", [0.0, 1e3, 1e9])
def test_an_outlying_reference_row_costs_no_digits(first_row):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 500)
    y = np.round(rng.standard_normal(2000) * 2**20) / 2**20
    y[np.r_[499:2000:500]] += first_row  # whichever row serves as reference
    y[::500] += first_row
    moments = GroupedMoments.from_arrays(None, y, groups)
    exact = 0.0
    for j in range(4):
        values = y[groups == j].astype(np.longdouble)
        exact += ((values - values.mean()) ** 2).sum()
    np.testing.assert_allclose(moments.within[0, 0], float(exact), rtol=1e-14)


@pytest.mark.parametrize("gap", [1.0, 1e6, 1e12])
def test_distance_between_groups_costs_no_digits_within(gap):
    groups = np.repeat(np.arange(3), 400)
    y = gap * groups + np.tile([0.25, 0.5], 600)
    moments = GroupedMoments.from_arrays(None, y, groups)
    np.testing.assert_allclose(moments.within[0, 0], 1200 * 0.125**2, rtol=1e-14)


def test_deviations_keep_digits_that_means_cannot():
    y = 1e12 + np.array([0.0, 1.0, 2.0, 3.0, 4.0, 6.0]) * 2.0**-13
    moments = GroupedMoments.from_arrays(None, y, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(np.diff(moments.deviations[:, 0]), np.array([2.0, 2.5]) * 2.0**-13)


@pytest.mark.parametrize("weighted", [False, True])
def test_merging_parts_that_split_groups_gives_the_whole(weighted):
    X, y, groups = simulate(30, 8, seed=5)
    weights = np.random.default_rng(2).random(len(y)) + 0.1 if weighted else None
    whole = GroupedMoments.from_arrays(X, y, groups, weights)
    rng = np.random.default_rng(7)
    for cuts in ([], [0], [1, 1, 2], [len(y)], np.sort(rng.integers(0, len(y), 25)), np.arange(len(y))):
        parts = [
            GroupedMoments.from_arrays(X[rows], y[rows], groups[rows], None if weights is None else weights[rows])
            for rows in np.split(np.arange(len(y)), cuts)
        ]
        assert_same(GroupedMoments.merge(parts), whole)
        assert_same(GroupedMoments.merge(*reversed(parts)), whole)
        assert_same(sum(parts), whole)


def test_merging_is_associative_and_has_an_identity():
    X, y, groups = simulate()
    a, b, c = (GroupedMoments.from_arrays(X[i::3], y[i::3], groups[i::3]) for i in range(3))
    nothing = GroupedMoments.from_arrays(X[:0], y[:0], groups[:0])
    assert_same((a + b) + c, a + (b + c))
    assert_same(a.merge(b), b + a)
    assert_same(nothing + a, a)
    assert_same(a + nothing, a)
    assert (nothing + nothing).n_groups == 0


def test_merging_keeps_digits_far_from_zero():
    rng = np.random.default_rng(0)
    y = 1e12 + np.round(rng.standard_normal(4000) * 64) / 64
    groups = rng.integers(0, 40, 4000)
    whole = GroupedMoments.from_arrays(None, y, groups)
    merged = GroupedMoments.merge(GroupedMoments.from_arrays(None, y[i::9], groups[i::9]) for i in range(9))
    np.testing.assert_allclose(merged.within, whole.within, rtol=1e-13)
    difference = (merged.deviations - whole.deviations) + (merged.center - whole.center)
    np.testing.assert_allclose(difference, 0, atol=1e-12)


def test_merging_labels_of_different_kinds():
    a = GroupedMoments.from_arrays(None, [1.0, 2.0], pd.Categorical(["x", "y"]))
    b = GroupedMoments.from_arrays(None, [3.0, 4.0], np.array(["y", "z"]))
    assert list((a + b).labels) == ["x", "y", "z"]
    c = GroupedMoments.from_arrays(None, [3.0, 4.0], [1, 2])
    assert set((a + c).labels) == {"x", "y", 1, 2}


def test_merging_integers_of_different_types_confuses_no_groups():
    large = np.array([2**63 + 1] * 2 + [2**63 + 3] * 2, dtype=np.uint64)
    a = GroupedMoments.from_arrays(None, [1.0, 1.1, 9.0, 9.2], large)
    b = GroupedMoments.from_arrays(None, [3.0, 3.5], [7, 7])
    assert set((a + b).labels) == {7, 2**63 + 1, 2**63 + 3}


def test_weights_that_count_are_copies_of_rows():
    X, y, groups = simulate()
    counts = np.random.default_rng(0).integers(0, 5, len(y))
    weighted = GroupedMoments.from_arrays(X, y, groups, counts)
    copied = GroupedMoments.from_arrays(*(np.repeat(part, counts, axis=0) for part in (X, y, groups)))
    assert list(weighted.labels) == list(copied.labels)
    np.testing.assert_array_equal(weighted.counts, copied.counts)
    np.testing.assert_allclose(weighted.means, copied.means, atol=1e-13)
    np.testing.assert_allclose(weighted.within, copied.within, atol=1e-11)


def test_a_row_of_no_weight_is_not_even_a_label():
    moments = GroupedMoments.from_arrays(None, [1.0, 2.0, 3.0], ["a", "b", "b"], [0, 1, 1])
    assert list(moments.labels) == ["b"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["X", "y", "sample_weight"])
def test_values_that_are_not_finite_are_refused_by_column_and_row(place, value):
    X, y, groups = simulate()
    arrays = {"X": X, "y": y, "sample_weight": np.ones(len(y))}
    arrays[place].flat[5] = value
    column, row = ("Column 2 of X", 1) if place == "X" else (place, 5)
    words = "has 1 missing value.*NaN" if np.isnan(value) else "holds infinity in 1 of"
    with pytest.raises(ValueError, match=f"{column} {words}.* the first in row {row} "):
        GroupedMoments.from_arrays(X, y, groups, arrays["sample_weight"])


@pytest.mark.parametrize("missing", [[None, 1.0, 2.0], [[None], [1.0], [2.0]]])
def test_none_among_numbers_is_a_missing_value(missing):
    X, y = ([[0.0], [1.0], [2.0]], missing) if np.ndim(missing[1]) == 0 else (missing, [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"has 1 missing value\(s\) \(NaN\)"):
        GroupedMoments.from_arrays(X, y, [1, 1, 2])


def test_what_is_no_number_is_refused():
    dates = np.array(["2001-01-01", "2001-01-02", "2001-01-03"], dtype="datetime64[D]")
    with pytest.raises(ValueError, match="y must hold numbers; found dates, such as 2001-01-01"):
        GroupedMoments.from_arrays(None, dates, [1, 1, 2])
    with pytest.raises(ValueError, match="y is None"):
        GroupedMoments.from_arrays([[1.0]], None, [1])


def test_values_too_large_to_square_are_refused():
    with pytest.raises(ValueError, match="Rescale"):
        GroupedMoments.from_arrays([[1e200], [0.0], [-1e200]], [1.0, 2.0, 3.0], [1, 1, 2])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -2.0, 1.0], r"sample_weight must not be negative; found .*-2.0.* in row 1"),
        ([0.0, 0.0, 0.0], "sample_weight is zero in every row"),
        ([1.0, 1.0], r"sample_weight of shape \(2,\) for 3 rows"),
        ([[1.0], [1.0], [1.0]], r"sample_weight of shape \(3, 1\) for 3 rows"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        GroupedMoments.from_arrays(None, [1.0, 2.0, 3.0], [1, 1, 2], weights)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        GroupedMoments.from_arrays(np.ones((3, 1)), [1.0, 2.0], [1, 2])
    with pytest.raises(ValueError, match=r"groups of shape \(3,\) for 2 rows"):
        GroupedMoments.from_arrays(np.ones((2, 1)), [1.0, 2.0], [1, 2, 2])


def test_parts_of_different_columns_do_not_merge():
    X, y, groups = simulate()
    with pytest.raises(ValueError, match="3 features with moments of 2"):
        GroupedMoments.from_arrays(X, y, groups) + GroupedMoments.from_arrays(X[:, :2], y, groups)
    named = pd.DataFrame(X, columns=list("abc"))
    with pytest.raises(ValueError, match=r"'a', 'b', 'c'.*'c', 'b', 'a'"):
        GroupedMoments.from_arrays(named, y, groups) + GroupedMoments.from_arrays(named[list("cba")], y, groups)
    with pytest.raises(ValueError, match="at least one"):
        GroupedMoments.merge([])
    with pytest.raises(TypeError):
        GroupedMoments.from_arrays(X, y, groups) + 1


def test_moments_are_frozen_and_have_a_repr():
    moments = GroupedMoments.from_arrays(*simulate())
    with pytest.raises(dataclasses.FrozenInstanceError):
        moments.counts = None
    assert repr(moments).startswith("GroupedMoments(n_groups=12, n_features=3, n_rows=")


def test_group_level_columns_do_not_vary_within_groups_however_they_were_merged():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(20), 9))
    X = np.column_stack([rng.standard_normal(180), 1e3 + rng.standard_normal(20)[groups], np.full(180, 0.1)])
    parts = [GroupedMoments.from_arrays(X[i::7], rng.standard_normal(len(X[i::7])), groups[i::7]) for i in range(7)]
    merged = GroupedMoments.merge(parts)
    assert merged.within[1, 1] < 1e-20
    assert varies_within(merged).tolist() == [True, False, False, True]


def peak_of_reading(X, y, groups):
    """Memory that reading takes above what the rows have, in bytes."""
    tracemalloc.start()
    GroupedMoments.from_arrays(X, y, groups)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("weights", [None, "some"])
@pytest.mark.parametrize("shift", [0.0, 1e9])
def test_many_sparse_columns_have_the_moments_of_dense_ones(weights, shift):
    rng = np.random.default_rng(3)
    n = 4_000
    level, groups, y = rng.integers(0, 90, n), rng.integers(0, 40, n), rng.normal(size=n) + shift
    indicators = sparse.csr_array((np.ones(n), (np.arange(n), level)), shape=(n, 90))
    # A column far from 0, and one that is constant within groups, need the rows relative to their groups.
    for more in (rng.normal(size=n), 1e6 + rng.normal(size=n), groups.astype(float)):
        X = sparse.csr_array(sparse.hstack([indicators, sparse.csr_array(more[:, None])]))
        w = None if weights is None else rng.uniform(0.5, 2.0, n)
        found, dense = (GroupedMoments.from_arrays(columns, y, groups, w) for columns in (X, X.toarray()))
        size = np.sqrt(np.maximum(dense.within.diagonal(), 1e-12))
        np.testing.assert_allclose(found.within / np.outer(size, size), dense.within / np.outer(size, size), atol=1e-9)
        np.testing.assert_allclose(found.means, dense.means, rtol=1e-12, atol=1e-12)
        assert (found.within[-2] == 0).all() == (more is not None and np.ptp(more - groups) == 0)


def test_single_precision_is_not_copied_to_double_and_sparse_rows_stay_sparse():
    rng = np.random.default_rng(0)
    groups, y = rng.integers(0, 500, 200_000), rng.standard_normal(200_000)
    single = rng.standard_normal((200_000, 40), dtype=np.float32)
    # 64 MB in double precision; codes of groups and buffers take 10.
    assert peak_of_reading(single, y.astype(np.float32), groups) < single.nbytes / 2
    column = rng.integers(0, 300, 200_000)
    one_hot = sparse.csr_matrix((np.ones(200_000), column, np.arange(200_001)), shape=(200_000, 300))
    # 480 MB if it were dense.
    assert peak_of_reading(one_hot, y, groups) < 40e6


@pytest.mark.parametrize("scale", [1e-140, 1e-151, 1e140, 1e149])
@pytest.mark.parametrize("which", ["X", "y", "both"])
def test_the_unit_of_a_column_makes_no_difference_as_long_as_squares_are_doubles(scale, which):
    X, y, groups = simulate()
    expected = RandomInterceptRegressor().fit(X, y, groups)
    X, y = (X if which == "y" else X * scale), (y if which == "X" else y * scale)
    assert abs(RandomInterceptRegressor().fit(X, y, groups).icc_ - expected.icc_) < 1e-12
    batches = GroupedMoments.from_batches([(X[i::2], y[i::2], groups[i::2]) for i in range(2)])
    assert abs(RandomInterceptRegressor().fit_moments(batches).icc_ - expected.icc_) < 1e-12


@pytest.mark.parametrize("scale", [1e-155, 1e-160, 1e-200, 1e-320])
def test_columns_whose_squares_vanish_are_refused_by_name(scale):
    X, y, groups = simulate()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    small = frame.assign(b=frame["b"] * scale)
    for read in (GroupedMoments.from_arrays, lambda *rows: GroupedMoments.from_batches([rows])):
        with pytest.raises(ValueError, match="Column 'b' of X varies by so little that squares vanish"):
            read(small, y, groups)
        with pytest.raises(ValueError, match="y varies by so little that squares vanish"):
            read(X, y * scale, groups)
        # A constant of any size is no such column.
        assert read(frame.assign(b=scale), y, groups).n_groups == 12


def test_weights_far_from_one_are_refused_before_they_overflow():
    X, y, groups = simulate()
    weights = 1.0 + np.arange(len(y)) % 3
    model = RandomInterceptRegressor(weight_type="precision")
    expected = model.fit(X, y, groups, weights).variance_components_["group"]
    for scale in (1e-99, 1e-30, 1e30, 1e99):
        assert abs(model.fit(X, y, groups, weights * scale).variance_components_["group"] / expected - 1.0) < 1e-11
    for scale in (1e-200, 1e-102, 1e102, 1e200):
        with pytest.raises(ValueError, match=r"sample_weight has the mean .* Divide the weights by their mean"):
            model.fit(X, y, groups, weights * scale)


def test_sums_by_group_do_without_the_private_function(monkeypatch):
    X, y, groups = simulate(200, 30)
    weights = np.random.default_rng(0).random(len(y))
    expected = [GroupedMoments.from_arrays(X, y, groups, w) for w in (None, weights)]
    expected.append(GroupedMoments.from_batches([(X, y, groups)]))
    monkeypatch.setattr("sklearn_mlm.moments._sums.csc_matvecs", None)
    found = [GroupedMoments.from_arrays(X, y, groups, w) for w in (None, weights)]
    found.append(GroupedMoments.from_batches([(X, y, groups)]))
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other, rtol=1e-14)


def test_moments_need_groups():
    with pytest.raises(ValueError, match="groups must hold the group label of each row; found None"):
        GroupedMoments.from_arrays(np.zeros((4, 1)), np.arange(4.0), None)
