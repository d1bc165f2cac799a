"""Rows in batches: any cut gives the moments of all rows, without losing digits, threads or memory."""

import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from designs import assert_same, simulate
from scipy import sparse
from threadpoolctl import threadpool_info, threadpool_limits

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.moments._accumulator import Accumulator
from sklearn_mlm.moments._arrow import _MAX_ROWS
from sklearn_mlm.moments._rows import Rows
from sklearn_mlm.moments._sums import NUMBERS_PER_THREAD, Adder


def cut(X, y, groups, size, weights=None, empty=True):
    """Batches of this many rows, with empty batches between them."""
    for start in range(0, len(y), size):
        for rows in [slice(start, start + size), *([slice(0, 0)] if empty else [])]:
            batch = None if X is None else X[rows], y[rows], groups[rows]
            yield batch if weights is None else (*batch, weights[rows])


LABELS = {
    "numbers": lambda groups: groups,
    "wide numbers": lambda groups: groups * 10_000_000_019 - 7,
    "strings": lambda groups: np.array([f"school {group}" for group in groups], dtype=object),
    "categories": lambda groups: pd.Series([f"school {group}" for group in groups], dtype="category"),
    "numbers and strings": lambda groups: np.array([g if g % 2 else f"s{g}" for g in groups.tolist()], dtype=object),
    "dates": lambda groups: pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(groups, unit="D")),
}


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
@pytest.mark.parametrize("kind", LABELS)
def test_any_cut_with_any_labels_gives_the_moments_of_all_rows(kind, size):
    X, y, groups = simulate()
    groups = LABELS[kind](groups)
    moments = GroupedMoments.from_batches(cut(X, y, groups, size))
    assert_same(moments, GroupedMoments.from_arrays(X, y, groups))
    # The column that varies between groups only.
    assert moments.within[-2].tolist() == [0.0] * 4


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("sparse_type", [None, sparse.csr_matrix])
@pytest.mark.parametrize("n_columns", [0, 3])
def test_weights_and_sparse_rows_are_read_as_when_all_come_at_once(n_columns, sparse_type, size):
    X, y, groups = simulate(n_columns=n_columns)
    X = (sparse_type or np.asarray)(X) if n_columns else None
    weights = np.random.default_rng(1).integers(0, 4, len(y)) / 2
    # A batch whose rows have no weight at all.
    weights[:7] = 0
    moments = GroupedMoments.from_batches(cut(X, y, groups, size, weights))
    assert_same(moments, GroupedMoments.from_arrays(X, y, groups, weights))


@pytest.mark.parametrize("level_2", [False, True], ids=["one centre serves", "points of the groups' own"])
@pytest.mark.parametrize("size", [9_973, 70_000])
def test_large_batches_on_threads_give_the_moments_and_the_fit_of_all_rows(size, level_2):
    X, y, groups = simulate(400, 800, 4, level_2=level_2, tau=0.5)
    groups = np.array([f"s{group}" for group in range(400)])[groups]
    whole = GroupedMoments.from_arrays(X, y, groups)
    moments = GroupedMoments.from_batches(cut(X, y, groups, size))
    assert_same(moments, whole)
    order = np.random.default_rng(0).permutation(len(y))
    shuffled = GroupedMoments.from_batches(cut(X[order], y[order], groups[order], size))
    assert_same(shuffled, whole)
    fitted, expected = (RandomInterceptRegressor().fit_moments(each) for each in (moments, whole))
    close = {"rtol": 1e-10, "atol": 0}
    np.testing.assert_allclose(fitted.variance_components_, expected.variance_components_, **close)
    np.testing.assert_allclose(fitted.coef_, expected.coef_, **close)
    np.testing.assert_allclose(fitted.cov_fixed_, expected.cov_fixed_, rtol=1e-10, atol=1e-10 * expected.cov_fixed_.max())
    np.testing.assert_allclose(fitted.log_likelihood_, expected.log_likelihood_, **close)


def test_the_result_is_the_same_to_the_last_bit_from_run_to_run():
    X, y, groups = simulate(400, 800, 4, level_2=False)
    first, second = (GroupedMoments.from_batches(cut(X, y, groups, 70_000)) for _ in range(2))
    np.testing.assert_array_equal(first.within, second.within)
    np.testing.assert_array_equal(first.deviations, second.deviations)


@pytest.mark.parametrize("size", [20_000, 150_000])
def test_groups_that_come_in_order_and_drift_away_cost_no_digits(size):
    # The first batch varies within groups as much as between them, so that one centre seems to serve.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3_000), 100)
    drift = np.maximum(groups - 300.0, 0.0) * 1e6
    noise = rng.standard_normal((len(groups), 2))
    moments = GroupedMoments.from_batches(cut(noise[:, :1] + drift[:, None], noise[:, 1] - drift, groups, size))
    # Of the noise itself; the rounding of the rows about 3e9 is 2e-7.
    expected = GroupedMoments.from_arrays(noise[:, :1], noise[:, 1], groups).within
    np.testing.assert_allclose(moments.within, expected, rtol=1e-6, atol=1e-6 * expected[0, 0])


def test_groups_whose_first_row_is_far_off_cost_few_digits():
    rng = np.random.default_rng(0)
    groups = np.tile(np.arange(40), 500)
    X, y = rng.standard_normal((20_000, 1)), rng.standard_normal(20_000)
    # One row in 500 of each group; the scatter about it would be 500 times that within the group.
    y[:40] += 1e4
    y[40:80] -= 1e4
    moments = GroupedMoments.from_batches(cut(X, y, groups, 1_000))
    whole = GroupedMoments.from_arrays(X, y, groups)
    assert_same(moments, whole)
    np.testing.assert_allclose(moments.within[0, 0], whole.within[0, 0], rtol=1e-13)


@pytest.fixture
def happened(monkeypatch):
    """Names of the methods that only unusual rows call, in the order of the calls."""
    names = []
    for name in ("_use_group_points", "_read_about_means", "_move_to_means", "_switch_to_hashed"):

        def spy(self, *args, method=getattr(Accumulator, name), name=name):
            names.append(name)
            return method(self, *args)

        monkeypatch.setattr(Accumulator, name, spy)
    return names


def test_a_drift_gives_groups_their_own_points_and_a_change_of_labels_leads_to_hashing(happened):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 50, 60_000)
    X, y = rng.standard_normal((60_000, 2)), rng.standard_normal(60_000)
    batches = [
        (X, y, groups),
        (X, y + 1e5, groups + 50),  # so far away that the centre of the first does not serve
        (X, y, groups + 10**12),  # out of the range of the numbers so far
        (X, y, groups + 20),
    ]
    moments = GroupedMoments.from_batches(batches)
    assert [name for name in happened if name != "_read_about_means"] == ["_use_group_points", "_switch_to_hashed"]
    assert_same(moments, GroupedMoments.merge(GroupedMoments.from_arrays(*batch) for batch in batches))


def test_ordinary_rows_are_not_read_about_their_means(happened):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 2_000, 400_000)
    X, y = rng.standard_normal((400_000, 3)), rng.standard_normal(400_000) + rng.standard_normal(2_000)[groups]
    GroupedMoments.from_batches(cut(X, y, groups, 100_000))
    assert happened == []


def test_memory_does_not_grow_with_the_number_of_batches():
    def peak(n_batches):
        rng = np.random.default_rng(0)
        batches = (
            (rng.standard_normal((20_000, 3)), rng.standard_normal(20_000), rng.integers(0, 1_000, 20_000))
            for _ in range(n_batches)
        )
        tracemalloc.start()
        moments = GroupedMoments.from_batches(batches)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert moments.n_rows.sum() == 20_000 * n_batches
        return used

    peak(4)
    assert peak(80) < 1.3 * peak(8)


def test_threads_are_given_back_after_an_error_too():
    X, y, groups = simulate(400, 800, 4, level_2=False)
    y = y.copy()
    y[-1] = np.nan
    before = [library["num_threads"] for library in threadpool_info()]
    with pytest.raises(ValueError, match=r"In rows 280000 to \d+, counted from 0: y has 1 missing value"):
        GroupedMoments.from_batches(cut(X, y, groups, 70_000))
    assert [library["num_threads"] for library in threadpool_info()] == before

    def failing():
        yield X, np.zeros(len(X)), groups
        raise KeyError("the source")

    with pytest.raises(KeyError, match="the source"):
        GroupedMoments.from_batches(failing())
    assert [library["num_threads"] for library in threadpool_info()] == before


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([], ValueError, "There are no batches"),
        ([([[1.0]], [1.0])], TypeError, r"Batch 0 must be a tuple \(X, y, groups\).*found a tuple of 2\."),
        ([[[[1.0]]]], TypeError, r"found a list of 1\."),
        ([3], TypeError, r"found int\."),
        (
            [([[1.0]], [1.0], ["a"]), ([[1.0, 2.0]], [1.0], ["a"])],
            ValueError,
            r"this batch has 2 column\(s\) without names; earlier ones had 1 column\(s\) without names\.",
        ),
        (
            [(pd.DataFrame({"a": [1.0]}), [1.0], [1]), (pd.DataFrame({"b": [1.0]}), [1.0], [1])],
            ValueError,
            r"this batch has the column\(s\) 'b'; earlier ones had the column\(s\) 'a'\.",
        ),
        (
            [(None, [1.0], [1]), (pd.DataFrame({"a": [1.0], "b": 2.0}), [1.0], [1])],
            ValueError,
            r"this batch has the column\(s\) 'a', 'b'; earlier ones had no column\.",
        ),
        ([([[1.0]], [1.0], ["a"]), ([[1.0]], [1.0], [None])], ValueError, "In rows 1 to 1, .*1 missing label"),
        ([([[1.0]], [1.0], ["a", "b"])], ValueError, "In batch 0, counted from 0: groups must hold one label per row"),
        ([([["one"]], [1.0], ["a"])], ValueError, "In batch 0"),
        ([([[1.0]], [1.0], ["a"], [-1.0])], ValueError, "In batch 0, .*sample_weight must not be negative"),
        ([([[1.0]], [1.0], ["a"], [0.0])], ValueError, "sample_weight is zero in every row"),
        ([([[1.0]], [1e200], ["a"]), ([[1.0]], [-1e200], ["a"])], ValueError, "so large that their squares overflow"),
    ],
)
def test_errors_name_the_batch_and_the_cause(batches, error, message):
    with pytest.raises(error, match=message):
        GroupedMoments.from_batches(batches)


def test_empty_batches_alone_give_moments_of_no_rows():
    moments = GroupedMoments.from_batches([(np.zeros((0, 2)), [], [])])
    assert (moments.n_groups, moments.n_features) == (0, 2)
    some = GroupedMoments.from_arrays([[1.0, 2.0]], [3.0], ["a"])
    assert_same(moments + some, some)


def test_names_of_columns_are_kept():
    frame = pd.DataFrame({"ses": [1.0, 2.0], "female": [0.0, 1.0]})
    assert GroupedMoments.from_batches([(frame, [1.0, 2.0], [1, 2])]).feature_names == ("ses", "female")


def test_batches_may_be_in_the_same_arrays_one_after_the_other():
    X, y, groups = simulate(400, 800, 4, level_2=False)
    n = len(y) // 50_000 * 50_000
    rows, labels = np.empty((50_000, 5), order="F"), np.empty(50_000, dtype=int)

    def batches():
        for start in range(0, n, 50_000):
            rows[:, :4], rows[:, 4] = X[start : start + 50_000], y[start : start + 50_000]
            labels[:] = groups[start : start + 50_000]
            yield rows[:, :4], rows[:, 4], labels

    assert_same(GroupedMoments.from_batches(batches()), GroupedMoments.from_arrays(X[:n], y[:n], groups[:n]))


@pytest.mark.parametrize("weight", [1e-6, 1e-16])
@pytest.mark.parametrize("size", [500, 20_000])
def test_first_rows_far_off_that_hardly_count_cost_no_digits(size, weight):
    rng = np.random.default_rng(0)
    groups = np.tile(np.arange(200), 100)
    X, y, weights = rng.standard_normal((20_000, 1)), rng.standard_normal(20_000), np.ones(20_000)
    y[:200], weights[:200] = 1e8, weight
    whole = GroupedMoments.from_arrays(X, y, groups, weights)
    moments = GroupedMoments.from_batches(cut(X, y, groups, size, weights))
    np.testing.assert_allclose(moments.within, whole.within, rtol=1e-12, atol=1e-12 * whole.within.max())
    np.testing.assert_allclose(moments.means, whole.means, rtol=1e-12, atol=1e-12)


def test_labels_that_python_holds_for_equal_are_one_group_whatever_their_batch():
    batches = [(None, [1.0, 2.0], [True, False]), (None, [3.0, 4.0], [1, 2]), (None, [5.0], [1.0])]
    moments = GroupedMoments.from_batches(batches)
    assert moments.labels.is_unique
    assert moments.n_rows.tolist() == [1, 3, 1]
    assert moments.labels.tolist() == [False, True, 2]


@pytest.mark.parametrize(
    "labels", [np.array([2**63 + 5, 2**63 + 6] * 2, dtype=np.uint64), np.array([-(2**63), 3 - 2**63] * 2)]
)
def test_labels_at_the_ends_of_integers_are_labels(labels):
    y = [1.0, 2.0, 3.0, 5.0]
    assert_same(GroupedMoments.from_batches([(None, y, labels)]), GroupedMoments.from_arrays(None, y, labels))


def test_weights_whose_sum_is_infinite_are_refused_by_name():
    for read in (lambda *rows: GroupedMoments.from_batches([rows]), GroupedMoments.from_arrays):
        with pytest.raises(ValueError, match="sample_weight sums to more"):
            read(None, [1.0, 2.0], ["a", "a"], [1e308, 1e308])


def test_rows_of_weight_zero_count_in_the_numbers_of_rows_that_errors_name_and_their_labels_are_looked_at():
    weights = np.append(np.zeros(50), np.ones(50))
    good = (None, np.ones(100), np.zeros(100, dtype=int), weights)
    nan = (None, np.append(np.ones(99), np.nan), np.zeros(100, dtype=int), np.ones(100))
    with pytest.raises(ValueError, match=r"In rows 100 to 199, counted from 0: y has 1 missing .* in row 199"):
        GroupedMoments.from_batches([good, nan])
    missing = (None, np.ones(2), ["a", None], [1.0, 0.0])
    with pytest.raises(ValueError, match="1 missing label"):
        GroupedMoments.from_batches([missing])


def test_the_groups_keep_the_name_of_their_column():
    frame = pd.DataFrame({"y": [1.0, 2.0, 4.0], "school": ["b", "a", "a"]})
    assert GroupedMoments.from_batches([(None, frame["y"], frame["school"])]).labels.name == "school"
    assert GroupedMoments.from_batches([(None, frame["y"], frame["school"], [1, 2, 3])]).labels.name == "school"


def test_a_label_and_its_string_in_different_batches_are_warned_of():
    with pytest.warns(
        UserWarning, match=r"1 label\(s\) of groups are strings of labels of another type, as '2' is"
    ) as caught:
        moments = GroupedMoments.from_batches([(None, [1.0, 2.0], [1, 2]), (None, [3.0, 4.0], ["2", "c"])])
    assert caught[0].filename == __file__
    assert moments.n_groups == 4


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def n_threads(request):
    with threadpool_limits(request.param, user_api="blas"):
        yield request.param


def ordinary(n_rows=200_000, n_groups=200):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, n_groups, n_rows)
    X = rng.standard_normal((n_rows, 1))
    return X, 2 * X[:, 0] + rng.standard_normal(n_groups)[groups] + rng.standard_normal(n_rows), groups


def far_group(start, of_x, of_y, offset=0.0):
    """Rows of a group of 50 rows in a row that lies far away from all others."""
    X, y, groups = ordinary()
    rows = slice(start, start + 50)
    groups[rows] = 999
    X[rows] += of_x
    y[rows] += of_y
    return X, y + offset, groups


def far_level_2():
    X, y, groups = ordinary()
    return np.column_stack([X, 1e9 + 1e6 * groups + 0.1]), y, groups


def heavy_tails():
    X, y, groups = ordinary()
    X = np.random.default_rng(1).standard_cauchy(X.shape)
    return X, y + X[:, 0], groups


def later_rows_times(factor):
    X, y, groups = ordinary()
    scale = np.where(np.arange(len(y)) < 60_000, 1.0, factor)
    return X * scale[:, None], y * scale, groups


def drift_in_order():
    X, y, groups = ordinary()
    groups = np.sort(groups)
    drift = np.maximum(groups - 20.0, 0.0) * 1e6
    return X + drift[:, None], y - drift, groups


def elsewhere_in_every_batch():
    X, y, groups = ordinary()
    batch = np.arange(len(y)) // 20_000
    moved = groups == 7
    X[moved, 0] += 1e7 * batch[moved] * (-1.0) ** batch[moved]
    return X, y - 1e6 * batch * moved, groups


def first_rows_far_off():
    X, y, groups = ordinary()
    first = np.unique(groups, return_index=True)[1]
    X[first] -= 1e7
    y[first] += 1e6
    return X, y, groups


def first_rows_that_are_points():
    """Distant first rows that become the points of their groups, because one column has no variance within groups."""
    X, y, groups = first_rows_far_off()
    return np.column_stack([X, np.random.default_rng(1).standard_normal(200)[groups]]), y, groups


FAR = {
    "a far group in x": lambda: far_group(1, 1e9, 0.0),
    "a far group in y": lambda: far_group(1, 0.0, 1e9),
    "a far group late": lambda: far_group(199_000, 1e9, 1e9),
    "a far group at an offset": lambda: far_group(1, 1e9, 1e9, offset=1e12),
    "far values of groups": far_level_2,
    "heavy tails": heavy_tails,
    "smaller variances later": lambda: later_rows_times(1e-3),
    "larger variances later": lambda: later_rows_times(1e3),
    "drift": drift_in_order,
    "elsewhere in every batch": elsewhere_in_every_batch,
    "first rows": first_rows_far_off,
    "first rows that are points": first_rows_that_are_points,
}


def assert_as_exact(moments, whole):
    """Assert that W and the means lose no more digits than when all rows are read at once.

    W may lose 64 units of rounding for each thread by design, which is 3e-14 for two of them, and some more from sums over
    many rows. The rounding of the sum of a group's thousands of rows is about a hundred units, 2e-14, of the spread of the
    rows and of the distance of the group from the centre.
    """
    assert moments.labels.tolist() == whole.labels.tolist()
    np.testing.assert_array_equal(moments.n_rows, whole.n_rows)
    np.testing.assert_array_equal(moments.within == 0, whole.within == 0)
    sd = np.sqrt(np.where(whole.within.diagonal() > 0, whole.within.diagonal(), 1.0))
    np.testing.assert_allclose((moments.within - whole.within) / np.outer(sd, sd), 0.0, atol=1e-12)
    scale = sd / np.sqrt(whole.counts.sum()) + np.abs(whole.deviations).max(axis=0) + np.abs(whole.center)
    np.testing.assert_allclose((moments.means - whole.means) / scale, 0.0, atol=1e-13)


@pytest.mark.parametrize("size", [1_000, 20_000, 100_000, 10**6])
@pytest.mark.parametrize("kind", FAR)
def test_rows_far_away_cost_no_digits_wherever_batches_are_cut(kind, size, n_threads):
    X, y, groups = FAR[kind]()
    moments = GroupedMoments.from_batches(cut(X, y, groups, size, empty=False))
    assert_as_exact(moments, GroupedMoments.from_arrays(X, y, groups))


@pytest.mark.parametrize("size", [10**6, 100_000])
def test_few_first_rows_far_from_a_million_others_cost_no_digits(size, n_threads):
    rng = np.random.default_rng(0)
    groups = np.append([0, 1, 0, 1], rng.integers(0, 2, 1_000_000))
    X, y = rng.standard_normal((len(groups), 1)), rng.standard_normal(len(groups))
    X[:4, 0] += [1e6, 1e7, 1e8, 3e6]
    y[:4] += [1e8, 1e6, 2e7, 5e6]
    batches = [(X[:2], y[:2], groups[:2]), (X[2:4], y[2:4], groups[2:4]), *cut(X[4:], y[4:], groups[4:], size)]
    assert_as_exact(GroupedMoments.from_batches(batches), GroupedMoments.from_arrays(X, y, groups))


def test_points_that_have_moved_keep_their_digits_far_from_zero(happened):
    # Numbers that 1e12 leaves exact, so that the rows less 1e12 tell the truth.
    rng = np.random.default_rng(0)
    groups = np.tile(np.arange(40), 1_000)
    y = rng.integers(-2_000, 2_000, len(groups)) / 1_024.0
    y[:40] += 1e5
    moments = GroupedMoments.from_batches(cut(None, y + 1e12, groups, 4_000, empty=False))
    assert "_move_to_means" in happened
    expected = GroupedMoments.from_arrays(None, y, groups)
    np.testing.assert_allclose(moments.within, expected.within, rtol=1e-12)
    # The rounding of 1e5, the distance of the first rows; that of 1e12 is 1e-4.
    means = moments.deviations + (moments.center - 1e12)
    np.testing.assert_allclose(means, expected.means, rtol=0, atol=1e-10)


def test_values_of_groups_have_no_scatter_within_after_points_have_moved(happened):
    X, y, groups = first_rows_that_are_points()
    moments = GroupedMoments.from_batches(cut(X, y, groups, 20_000))
    assert "_move_to_means" in happened
    assert moments.within[1].tolist() == [0.0] * 3


def as_table(X, y, groups):
    return pa.table({**{f"x{at}": column for at, column in enumerate(X.T)}, "y": y, "g": groups})


def from_table(table):
    return GroupedMoments.from_arrow(table, x=[name for name in table.column_names if name[0] == "x"], y="y", groups="g")


def repeated(X, y, groups, times=6):
    """Enough rows for an Arrow stream of several batches, each of which goes to a thread while the next is read."""
    assert 2 * _MAX_ROWS >= NUMBERS_PER_THREAD
    assert times * len(y) > 4 * _MAX_ROWS
    return np.tile(X, (times, 1)), np.tile(y, times), np.tile(groups, times)


@pytest.mark.parametrize("kind", [*FAR, "ordinary"])
def test_batches_that_threads_read_while_others_come_cost_no_digits(kind, n_threads):
    X, y, groups = repeated(*FAR.get(kind, ordinary)())
    table = as_table(X, y, groups)
    moments = from_table(table)
    assert_as_exact(moments, GroupedMoments.from_arrays(X, y, groups))
    again = from_table(table)
    np.testing.assert_array_equal(moments.within, again.within)
    np.testing.assert_array_equal(moments.deviations, again.deviations)


def test_labels_may_need_hashing_after_points_have_moved(happened, n_threads):
    X, y, groups = repeated(*first_rows_that_are_points())
    # The second batch has new groups, far from each other, and the numbers of the third are out of the range so far.
    y += np.where(np.arange(len(y)) < _MAX_ROWS, 0.0, 1e9 * groups)
    groups[_MAX_ROWS : 2 * _MAX_ROWS] += 1_000
    groups[2 * _MAX_ROWS :] += 10**12
    assert_as_exact(from_table(as_table(X, y, groups)), GroupedMoments.from_arrays(X, y, groups))
    assert {"_read_about_means", "_move_to_means", "_switch_to_hashed"} <= set(happened)


def test_values_that_are_not_finite_in_a_thread_are_reported_with_their_rows(n_threads):
    X, y, groups = repeated(*ordinary())
    y[3 * _MAX_ROWS + 7] = np.nan
    rows = f"In rows {3 * _MAX_ROWS} to {4 * _MAX_ROWS - 1}, counted from 0: y has 1 missing value"
    with pytest.raises(ValueError, match=rows):
        from_table(as_table(X, y, groups))


@pytest.mark.parametrize("scale", [1e151, 1e152, 1e153])
def test_a_scatter_that_nearly_overflows_is_right_or_refused(scale):
    X, y, groups = ordinary(1_000, 20)
    batches = cut(X, y * scale, groups, 100)
    if scale < 1e153:
        variation = GroupedMoments.from_batches(batches).within[1, 1] / scale / scale
        assert variation == pytest.approx(GroupedMoments.from_arrays(X, y, groups).within[1, 1], rel=1e-12)
    else:
        with pytest.raises(ValueError, match="so large that their squares overflow"):
            GroupedMoments.from_batches(batches)


@pytest.mark.parametrize("value", [1e3, np.nan, np.inf])
def test_an_adder_stops_in_front_of_the_block_that_exceeds_its_limit(value):
    y = np.ones(200_000)
    y[150_000] = value
    codes, sums, scatter = np.zeros(len(y), dtype=np.intp), np.zeros((1, 2)), np.zeros((2, 2))
    rows, limit = Rows(None, y), np.array([5e5])
    stop = Adder(1, 2).add(rows, 0, len(y), codes, None, np.zeros(1), [], sums, scatter, limit)
    assert 0 < stop <= 150_000
    # The sum and the number of the rows before, which are ones.
    assert sums.tolist() == [[stop, stop]]
    assert scatter.tolist() == [[stop, stop], [stop, stop]]
    assert Adder(1, 2).add(rows, 0, stop, codes, None, np.zeros(1), [], sums, scatter, limit) == stop
