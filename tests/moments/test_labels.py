import datetime
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pytest
from scipy import sparse

from sklearn_mlm._inputs import column_names, name_of
from sklearn_mlm.models._group_column import split_group_column
from sklearn_mlm.moments._labels import MISSING, UNSEEN, encode, factorize, label_kind, positions
from sklearn_mlm.moments._rows import check_containers

STRINGS = ["b", "a", "b", "c"]
KINDS = {
    "list of str": STRINGS,
    "numpy str": np.array(STRINGS),
    "numpy object": np.array(STRINGS, dtype=object),
    "Series": pd.Series(STRINGS, index=[7, 7, 8, 9]),
    "Index": pd.Index(STRINGS),
    "Categorical": pd.Categorical(STRINGS, categories=["unused", "c", "b", "a"]),
    "categorical Series": pd.Series(STRINGS, dtype="category"),
    "nullable string": pd.Series(STRINGS, dtype="string"),
    "pandas on pyarrow": pd.Series(STRINGS, dtype=pd.ArrowDtype(pa.string())),
    "polars": pl.Series(STRINGS),
    "polars categorical": pl.Series(STRINGS, dtype=pl.Categorical),
    "pyarrow": pa.array(STRINGS),
    "pyarrow chunks": pa.chunked_array([STRINGS[:1], STRINGS[1:]]),
    "pyarrow dictionary": pa.array(STRINGS).dictionary_encode(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_strings_of_every_kind_are_coded_in_sorted_order(kind):
    codes, levels = factorize(KINDS[kind], 4)
    assert list(levels) == ["a", "b", "c"]
    np.testing.assert_array_equal(codes, [1, 0, 1, 2])
    np.testing.assert_array_equal(encode(KINDS[kind], levels), codes)


@pytest.mark.parametrize(
    "labels",
    [
        [3, 1, 3, 2],
        np.array([3, 1, 3, 2], dtype=np.int8),
        np.array([3, 1, 3, 2], dtype=np.uint64),
        np.array([10**12, -5, 10**12, 0]),
        np.array([-100, 100, -100, 27], dtype=np.int8),
        np.array([2**64 - 1, 2**64 - 3, 2**64 - 1, 2**64 - 2], dtype=np.uint64),
        [1.5, -2.0, 1.5, 0.0],
        [True, False, True, True],
        np.array(["2003-01-01", "1972-05-05", "2003-01-01", "1999-09-09"], dtype="datetime64[D]"),
        [datetime.date(2003, 1, 1), datetime.date(1972, 5, 5), datetime.date(2003, 1, 1), datetime.date(1999, 9, 9)],
        pd.Series([3, 1, 3, 2], dtype="Int64"),
        pd.Series(pd.to_datetime(["2003-01-01", "1972-05-05", "2003-01-01", "1999-09-09"]).tz_localize("UTC")),
        [("b", 1), ("a", 2), ("b", 1), ("a", 3)],
        np.array([3, 1, 3, 2], dtype=">i4"),
        np.array([3e9, 1.0, 3e9, 2.0], dtype=">f8"),
        np.array([3.5, 1.0, 3.5, 2.0], dtype=np.float16),
        np.array([3.5, 1.0, 3.5, 2.0], dtype=np.longdouble),
        pd.Series(["b", "a", "b", "c"], dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))),
    ],
    ids=lambda labels: f"{type(labels).__name__} {getattr(labels, 'dtype', type(labels[0]).__name__)}",
)
def test_labels_of_any_hashable_kind_round_trip(labels):
    codes, levels = factorize(labels)
    assert [levels[code] for code in codes] == list(labels)
    assert list(levels) == sorted(set(labels))
    np.testing.assert_array_equal(encode(labels, levels), codes)


def test_labels_that_cannot_be_compared_keep_their_order_of_appearance():
    codes, levels = factorize(["x", 1, "x", (2,)])
    assert list(levels) == ["x", 1, (2,)]
    np.testing.assert_array_equal(codes, [0, 1, 0, 2])


def test_numbers_and_strings_are_not_confused():
    _, levels = factorize([1, "1", 1])
    assert len(levels) == 2


@pytest.mark.parametrize("scale", [1, 10**9], ids=["by table", "by hash"])
def test_integers_give_the_same_codes_by_table_and_by_hash(scale):
    labels = np.random.default_rng(0).integers(-50, 50, 300)
    codes, levels = factorize(labels * scale)
    expected_levels, expected = np.unique(labels, return_inverse=True)
    np.testing.assert_array_equal(levels, expected_levels * scale)
    np.testing.assert_array_equal(codes, expected)


def test_factorize_leaves_the_labels_alone():
    labels = np.array([0, 2, 2, 5])
    labels.flags.writeable = False
    codes, _ = factorize(labels)
    np.testing.assert_array_equal(codes, [0, 1, 1, 2])
    np.testing.assert_array_equal(labels, [0, 2, 2, 5])


def test_no_rows_have_no_groups():
    codes, levels = factorize(np.array([], dtype=int), 0)
    assert len(codes) == len(levels) == 0


@pytest.mark.parametrize(
    "labels",
    [
        [1.0, np.nan, 2.0, np.nan],
        ["a", None, "b", None],
        pd.Series(["a", pd.NA, "b", pd.NA], dtype="string"),
        pd.Categorical(["a", None, "b", None]),
        pd.Series([1, pd.NA, 2, pd.NA], dtype="Int64"),
        pd.to_datetime(["2001-01-01", None, "2001-01-02", None]),
        pl.Series(["a", None, "b", None]),
        pa.array([1, None, 2, None]),
        np.ma.masked_array([1, 9, 2, 9], mask=[0, 1, 0, 1]),
    ],
)
def test_missing_labels_are_counted_and_refused_in_fit_and_marked_in_prediction(labels):
    with pytest.raises(ValueError, match=r"groups has 2 missing label\(s\) in 4 rows, the first in row 1"):
        factorize(labels)
    known = labels[:1]
    codes = encode(labels, factorize(known)[1])
    np.testing.assert_array_equal(codes, [0, MISSING, UNSEEN, MISSING])


@pytest.mark.parametrize("groups", [np.ones((4, 1)), [[1], [1], [2], [2]], pd.DataFrame({"a": [1, 2, 3, 4]})])
def test_two_dimensional_groups_are_refused_with_their_shape(groups):
    with pytest.raises(ValueError, match=r"one-dimensional.*found shape \((4|n_samples), 1\)"):
        factorize(groups, 4)


def test_a_name_in_place_of_labels_is_refused_with_the_right_parameter():
    with pytest.raises(ValueError, match="set group_feature='school'"):
        factorize("school", 4)


def test_levels_have_the_name_of_their_column():
    assert factorize(pd.Series([1, 2, 1], name="school"))[1].name == "school"
    assert factorize(pl.Series("school", ["a", "b"]))[1].name == "school"
    assert factorize([1, 2])[1].name is None


def test_too_few_labels_are_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r"groups of shape \(3,\) for 4 rows"):
        factorize([1, 2, 3], 4)


def test_unhashable_labels_are_refused():
    with pytest.raises(ValueError, match="hashable"):
        factorize([{1}, {2}])


def test_kinds_of_labels():
    assert label_kind(np.array([1, 2])) == label_kind(np.array([1.0])) == "number"
    assert label_kind(np.array(["1"], dtype=object)) == label_kind(pd.Categorical(["1"])) == "string"
    times = pd.to_datetime(["2001-01-01"])
    assert label_kind(times) != label_kind(times.tz_localize("UTC"))


FRAME = pd.DataFrame({"x": [1.0, 2.0], "g": ["a", "b"], "z": [3.0, 4.0]})


@pytest.mark.parametrize("key", ["g", 1, -2])
@pytest.mark.parametrize(
    "convert", [lambda f: f, pl.DataFrame, pa.Table.from_pandas, lambda f: f.to_numpy(), lambda f: f.to_numpy().tolist()]
)
def test_the_group_column_is_taken_out_of_any_table(convert, key):
    table = convert(FRAME)
    if isinstance(key, str) and column_names(table) is None:
        with pytest.raises(ValueError, match="without column names"):
            split_group_column(table, key)
        return
    column, rest = split_group_column(table, key)
    assert list(np.asarray(column)) == ["a", "b"]
    np.testing.assert_array_equal(np.asarray(rest).astype(float), [[1.0, 3.0], [2.0, 4.0]])


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_the_group_column_of_a_matrix(convert, position):
    X = np.arange(1.0, 13.0).reshape(4, 3)
    column, rest = split_group_column(convert(X), position)
    np.testing.assert_array_equal(column, X[:, position])
    rest = rest.toarray() if sparse.issparse(rest) else rest
    np.testing.assert_array_equal(rest, np.delete(X, position, axis=1))


def test_a_group_column_alone_leaves_nothing():
    assert split_group_column(FRAME[["g"]], "g")[1] is None
    assert split_group_column(np.ones((3, 1)), 0)[1] is None


def test_a_group_column_that_is_not_there():
    with pytest.raises(ValueError, match=r"'school' must name one column of X; found 0 among 'x', 'g', 'z'\."):
        split_group_column(FRAME, "school")
    with pytest.raises(ValueError, match=r"group_feature=3 is not a position in X of shape \(2, 3\)"):
        split_group_column(FRAME, 3)


IDS = [2**60 + i for i in range(4)]
COLUMNS_OF_IDS = {
    "list": lambda ids: list(ids),
    "tuple": lambda ids: tuple(ids),
    "object array": lambda ids: np.array(ids, dtype=object),
    "Int64": lambda ids: pd.Series(ids, dtype="Int64"),
    "pandas on pyarrow": lambda ids: pd.Series(ids, dtype=pd.ArrowDtype(pa.int64())),
    "polars": pl.Series,
    "polars unsigned": lambda ids: pl.Series(ids, dtype=pl.UInt64),
    "pyarrow": pa.array,
    "pyarrow chunks": lambda ids: pa.chunked_array([ids[:2], ids[2:]]),
}


@pytest.mark.parametrize("kind", COLUMNS_OF_IDS)
def test_ids_beside_a_missing_label_are_found_as_the_integers_they_are(kind):
    labels = COLUMNS_OF_IDS[kind]([*IDS, None])
    np.testing.assert_array_equal(encode(labels, pd.Index(IDS)), [0, 1, 2, 3, MISSING])


def test_ids_beside_floats_stay_the_integers_they_are():
    codes, levels = factorize([*IDS, 0.5])
    assert levels.tolist() == [0.5, *IDS]
    np.testing.assert_array_equal(codes, [1, 2, 3, 4, 0])


def test_a_double_is_found_among_ids_only_if_it_equals_one():
    labels = np.array([float(IDS[0]), float(IDS[0]) + 256, np.nan])
    np.testing.assert_array_equal(encode(labels, pd.Index(IDS)), [0, UNSEEN, MISSING])


@pytest.mark.parametrize("step", [10, 4], ids=["apart", "overlapping"])
def test_intervals_are_found_by_equality(step):
    intervals = [pd.Interval(at, at + 10) for at in range(0, 3 * step, step)]
    _, levels = factorize(intervals)
    np.testing.assert_array_equal(encode(intervals, levels), [0, 1, 2])
    np.testing.assert_array_equal(encode(pd.Categorical(intervals), levels), [0, 1, 2])
    # The numbers lie in the intervals.
    np.testing.assert_array_equal(encode([5, 6.0, 7], levels), [UNSEEN] * 3)
    other_side = [pd.Interval(at, at + 10, closed="left") for at in range(0, 3 * step, step)]
    np.testing.assert_array_equal(encode(other_side, levels), [UNSEEN] * 3)


TIMES = pd.Series(pd.date_range("2000-03-25 23:30", periods=4, tz="Europe/Berlin"))


@pytest.mark.parametrize(
    "convert",
    [
        list,
        np.asarray,
        pl.Series,
        pa.array,
        lambda times: pa.chunked_array([pa.array(times[:1]), pa.array(times[1:])]),
        lambda times: times.astype(pd.ArrowDtype(pa.timestamp("us", tz="Europe/Berlin"))),
        lambda times: times.astype("category"),
    ],
    ids=["list", "objects", "polars", "pyarrow", "pyarrow chunks", "pandas on pyarrow", "categories"],
)
def test_time_zones_are_kept_from_every_library(convert):
    codes, levels = factorize(convert(TIMES))
    assert [str(level) for level in levels] == [str(time) for time in TIMES]
    np.testing.assert_array_equal(codes, [0, 1, 2, 3])
    np.testing.assert_array_equal(encode(TIMES, levels), codes)
    np.testing.assert_array_equal(encode(convert(TIMES), factorize(TIMES)[1]), codes)


@pytest.mark.parametrize("of", [pa.timestamp("ms"), pa.duration("s"), pa.date32()], ids=str)
def test_dates_and_times_that_pandas_keeps_in_pyarrow_are_those_of_pandas(of):
    plain = pd.Series(pd.date_range("2000-01-01", periods=3))
    plain = plain - plain[0] if str(of).startswith("duration") else plain
    labels = plain.astype(pd.ArrowDtype(of if of != pa.date32() else pa.timestamp("ms"))).astype(pd.ArrowDtype(of))
    other = plain.dt.date if of == pa.date32() else plain
    np.testing.assert_array_equal(encode(labels, factorize(other)[1]), [0, 1, 2])
    np.testing.assert_array_equal(encode(other, factorize(labels)[1]), [0, 1, 2])


@pytest.mark.parametrize("of", [pa.struct([("a", pa.int64())]), pa.list_(pa.int64())], ids=["struct", "list"])
def test_labels_that_pyarrow_cannot_hash_are_refused_by_type(of):
    values = [{"a": 1}, {"a": 2}] if pa.types.is_struct(of) else [[1], [2]]
    with pytest.raises(ValueError, match=r"groups must (hold hashable labels; found|be one-dimensional)"):
        factorize(pd.Series(values, dtype=pd.ArrowDtype(of)))


def test_threads_find_labels_in_an_index_that_none_has_asked_before():
    labels = np.random.default_rng(0).permutation(100_000) * 7
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(10):
                # A copy has no hash table yet, like the labels of a model that was just loaded.
                levels, start = pd.Index(labels.copy()), Barrier(8)
                found = [pool.submit(lambda: (start.wait(), positions(levels, levels[:40]))[1]) for _ in range(8)]
                for one in found:
                    np.testing.assert_array_equal(one.result(), np.arange(40))
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("position", [0, 1, -1])
@pytest.mark.parametrize("form", ["coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("kind", [sparse.coo_array, sparse.coo_matrix])
def test_the_group_column_of_a_sparse_matrix_of_any_format(form, kind, position):
    X = np.arange(1.0, 13.0).reshape(4, 3)
    column, rest = split_group_column(kind(X).asformat(form), position)
    np.testing.assert_array_equal(column, X[:, position])
    np.testing.assert_array_equal(rest.toarray(), np.delete(X, position, axis=1))


def test_the_name_of_a_frame_is_that_of_its_one_column():
    assert name_of(pd.DataFrame({"name": [1.0]})) == "name"
    assert name_of(pd.DataFrame({"math": [1.0]})) == "math"
    assert name_of(pd.DataFrame({"name": [1.0], "b": [2.0]})) is None
    assert name_of(pd.DataFrame([[1.0]])) is None


@pytest.mark.parametrize("value", [str, int, float, lambda at: 2**60 + at], ids=["str", "int", "float", "ids"])
@pytest.mark.parametrize("chunked", [False, True])
def test_missing_labels_of_a_dictionary_of_pyarrow_are_missing(value, chunked):
    labels = [None, *(value(at) for at in (2, 1, 2, 3))]
    column = pa.array(labels).dictionary_encode()
    column = pa.chunked_array([column[:2], column[2:]]) if chunked else column
    with pytest.raises(ValueError, match=r"groups has 1 missing label"):
        factorize(column)
    levels = pd.Index([value(1), value(2), value(3)])
    np.testing.assert_array_equal(encode(column, levels), [MISSING, 1, 0, 1, 2])
    encoded = pa.compute.run_end_encode(pa.array(labels))
    np.testing.assert_array_equal(encode(encoded, levels), [MISSING, 1, 0, 1, 2])


DAYS = pd.date_range("2020-01-01", periods=4)


@pytest.mark.parametrize(
    ("known", "labels"),
    [
        (DAYS, ["2020-01-02", "2020-01-03"]),
        (DAYS, [datetime.date(2020, 1, 2)]),
        (DAYS, [18263, 2**70]),
        (DAYS, pd.period_range("2020-01-01", periods=4)),
        (pd.period_range("2020-01", periods=4, freq="M"), ["2020-02-17", "2020-02"]),
        (pd.period_range("2020-01", periods=4, freq="M"), DAYS),
        (pd.to_timedelta([0, 1], unit="D"), ["1", "1 days"]),
        (pd.to_timedelta([0, 1], unit="D"), [0, 1]),
        (["2020-01-02"], DAYS),
        ([datetime.date(2020, 1, 2)], DAYS),
        (pd.interval_range(0, 3), [0.5, 1]),
        (pd.interval_range(0, 3), ["(0, 1]"]),
    ],
)
def test_labels_of_another_kind_are_not_parsed(known, labels):
    levels = factorize(known)[1]
    assert (encode(labels, levels) == UNSEEN).all()
    # Among labels of mixed kinds the one that is known is found.
    mixed = np.empty(2, dtype=object)
    mixed[:] = [levels[0], "other"]
    np.testing.assert_array_equal(encode(mixed, levels), [0, UNSEEN])


def test_dates_are_dates_whichever_library_holds_them():
    days = [datetime.date(2020, 1, day) for day in (3, 1, 2)]
    columns = (
        pa.array(days),
        pa.array(days, pa.date64()),
        pl.Series(days),
        pd.Series(days, dtype=pd.ArrowDtype(pa.date32())),
    )
    for column in columns:
        assert factorize(column)[1].tolist() == sorted(days)
        np.testing.assert_array_equal(encode(column, factorize(days)[1]), [2, 0, 1])


def test_a_frame_may_have_columns_of_any_name():
    frame = pd.DataFrame({"column_names": [1.0, 2.0], "_mask": [3.0, 4.0], "g": ["a", "b"]})
    assert list(column_names(frame)) == ["column_names", "_mask", "g"]
    assert split_group_column(frame, "g")[1].columns.tolist() == ["column_names", "_mask"]
    check_containers(X=frame, y=np.ones(2))
