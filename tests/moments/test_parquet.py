"""Parquet files: which of them a path names, and labels and numbers as they stand in the files and in folder names."""

import datetime as dt
import os
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from designs import assert_same

from sklearn_mlm import GroupedMoments
from sklearn_mlm.moments import _parquet_files
from sklearn_mlm.moments._arrow import Names
from sklearn_mlm.moments._parquet import open_parquet
from sklearn_mlm.moments._parquet_files import _visible_files, _walk, find_files

BIG = 2**60


def write(path, **columns):
    """Write a file of the columns, and its folders; there is always a y."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n_rows = len(next(iter(columns.values())))
    pq.write_table(pa.table({"y": np.arange(n_rows, dtype=float), **columns}), path)


def read(path, x=None, groups="g", **options):
    return GroupedMoments.from_parquet(path, x=x, y="y", groups=groups, **options)


def labels_of(path, **options):
    moments = read(path, **options)
    return dict(zip(moments.labels.tolist(), moments.n_rows.tolist(), strict=True))


def dictionary(indices, entries, index_type=None):
    return pa.DictionaryArray.from_arrays(pa.array(indices, index_type or pa.int8()), entries)


# ---- which files


@pytest.fixture
def orders(tmp_path):
    """A folder of three files of two rows among others that are no data."""
    for name in [
        *("1.parquet", "a/2.parquet", "a/_3.pq"),
        *("_delta_log/1.parquet", "a/_temporary/1.parquet", ".old/1.parquet", ".4.parquet"),
    ]:
        write(tmp_path / name, g=["u", "v"])
    for name in ("_SUCCESS", "_metadata", "a/.3.pq.crc"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_is_read_with_the_folders_below_it_but_without_logs_and_hidden_files(orders):
    assert labels_of(orders) == labels_of(str(orders) + "/") == {"u": 3, "v": 3}


@pytest.mark.parametrize(
    ("pattern", "n_files"),
    [("*", 3), ("**", 3), ("**/*.parquet", 2), ("*.parquet", 1), ("a/_*", 1), ("a*", 2), ("[0-9].parquet", 1), ("?/*", 2)],
)
def test_a_pattern_finds_each_file_once_and_what_the_folder_would_have(orders, pattern, n_files):
    assert labels_of(f"{orders}/{pattern}") == {"u": n_files, "v": n_files}
    assert labels_of(f"file://{orders}/{pattern}") == {"u": n_files, "v": n_files}


def test_patterns_and_folders_may_be_relative(orders, monkeypatch):
    monkeypatch.chdir(orders)
    assert labels_of("*.parquet") == {"u": 1, "v": 1}
    assert labels_of("a/../*.parquet") == {"u": 1, "v": 1}
    assert labels_of("a") == {"u": 2, "v": 2}


def test_a_file_is_read_whatever_its_name_if_it_is_named(orders):
    write(orders / "a [1]*.rows", g=["w"])
    assert labels_of(orders / "a [1]*.rows") == {"w": 1}
    assert labels_of((orders / "a [1]*.rows").as_uri()) == {"w": 1}
    assert labels_of(orders / ".4.parquet") == labels_of(orders / "_delta_log") == {"u": 1, "v": 1}


@pytest.mark.parametrize("kind", [list, tuple, iter, pd.Series, pd.Index, np.array, lambda entries: [entries]])
def test_several_paths_may_come_in_any_iterable(orders, kind):
    assert labels_of(kind([str(orders / "1.parquet"), str(orders / "a" / "*.parquet")])) == {"u": 2, "v": 2}


def test_a_file_of_several_entries_is_read_once_and_a_repeated_entry_again(orders):
    one = orders / "1.parquet"
    assert labels_of([orders, f"{orders}/*.parquet", one, one.as_uri()]) == {"u": 4, "v": 4}
    assert labels_of([orders, f"{orders}/*.parquet", one]) == {"u": 3, "v": 3}
    assert labels_of([one, one]) == {"u": 2, "v": 2}
    assert labels_of([orders, f"{orders}/"]) == {"u": 6, "v": 6}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.parquet", "There is no file or folder '.*none.parquet'"),
        ("none*.parquet", "No Parquet file matches '.*none.*' .looked in '.*'"),
        ("a/_temp*/*", r"No Parquet file matches .*; 1 file.s. were skipped .*, such as '_temporary/1.parquet'"),
        ("empty", "The folder '.*empty' has no Parquet file in it or below it"),
        ("only", "has no Parquet file .*; 1 file.s. were skipped .*, such as '_SUCCESS'"),
    ],
)
def test_where_no_file_is_found_the_error_says_where_it_was_looked_for(orders, path, message):
    (orders / "empty").mkdir()
    (orders / "only").mkdir()
    (orders / "only" / "_SUCCESS").touch()
    with pytest.raises(FileNotFoundError, match=message):
        read(f"{orders}/{path}")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ([], FileNotFoundError, "path names no file: found an empty list"),
        ("", FileNotFoundError, "path names no file: found an empty string"),
        (3, TypeError, "path must name a file or a folder.*found int"),
        ([None], TypeError, "found NoneType"),
        (b"orders", TypeError, "found bytes"),
        ("s3://bucket/orders/*.parquet", ValueError, "has a pattern, which works for local files only"),
        ("gopher://orders/1.parquet", ValueError, "'gopher://orders/1.parquet' is not a URI that pyarrow can read"),
        ("mock:///orders", FileNotFoundError, "There is no file or folder 'orders'"),
    ],
)
def test_what_is_no_path_is_refused(path, error, message):
    with pytest.raises(error, match=message):
        read(path)


def test_a_dataset_is_sent_to_from_arrow(orders):
    import pyarrow.dataset

    with pytest.raises(TypeError, match="Pass the dataset to from_arrow"):
        read(pyarrow.dataset.dataset(orders / "1.parquet"))


def test_files_of_another_file_system_are_found_by_the_same_rules(orders):
    folder = pyarrow.fs.SubTreeFileSystem(str(orders.parent), pyarrow.fs.LocalFileSystem())
    below = [path.removeprefix(orders.name) for path in _visible_files(folder, orders.name, [])]
    assert below == ["/1.parquet", "/a/2.parquet", "/a/_3.pq"]
    assert below == [file.path.removeprefix(orders.as_posix()) for file in find_files(orders)]


def test_files_of_several_file_systems_are_read_together(orders, monkeypatch):
    def remote_files(uri):
        filesystem = pyarrow.fs.SubTreeFileSystem(str(orders), pyarrow.fs.LocalFileSystem())
        return filesystem, _walk(filesystem, uri.removeprefix("far://"))

    monkeypatch.setattr(_parquet_files, "_remote_files", remote_files)
    write(orders / "school=01" / "1.parquet", g=pa.array(["u", "w"], pa.large_string()))
    assert labels_of(["far://a", orders / "a", "far://school=01/1.parquet", "far://school=01"]) == {"u": 5, "v": 4, "w": 1}
    assert labels_of("far://school=01", groups="school") == {"01": 2}
    with pytest.raises(FileNotFoundError, match="There is no file or folder 'b'"):
        read(["far://a", "far://b"])


def test_a_large_file_is_not_kept_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    schema = pa.schema([("x", pa.float64()), ("y", pa.float64()), ("g", pa.int64())])
    with pq.ParquetWriter(tmp_path / "large.parquet", schema, compression="none", use_dictionary=False) as file:
        for _ in range(40):
            x, y = rng.normal(size=(2, 50_000))
            file.write_table(pa.table({"x": x, "y": y, "g": rng.integers(9, size=50_000)}, schema))
    before, held, n_rows = pa.total_allocated_bytes(), [], 0
    for batch in open_parquet(tmp_path / "large.parquet", Names(("x",), "y", "g", None)):
        n_rows += len(batch)
        held.append(pa.total_allocated_bytes() - before)
    assert n_rows == 2_000_000
    # Many batches of so small a file are read ahead; but what has been read is not held.
    assert held[-1] < 0.1 * (tmp_path / "large.parquet").stat().st_size


def test_a_file_that_is_no_parquet_file_is_named(orders):
    (orders / "notes.txt").write_text("a")
    with pytest.raises(ValueError, match=r"notes.txt' cannot be read as a Parquet file"):
        read(orders)


# ---- types that differ from file to file


def in_files(folder, **columns):
    """Write the columns, each of a list of arrays, to a file for each array, in this order and the other way round."""
    arrays = next(iter(columns.values()))
    for order in (1, -1):
        for at in range(len(arrays)):
            values = {name: parts[at] for name, parts in columns.items()}
            write(folder / str(order) / f"{at * order + len(arrays)}.parquet", **values)
    return [folder / "1", folder / "-1"]


def halves(values):
    return pa.array(np.array(values, dtype=np.float16))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1, 0.1], pa.float32()), pa.array([1.7e9, 1.7e9 + 1])),
        (pa.array([1, 2], pa.int8()), pa.array([1000, 2**40])),
        (pa.array([2**53 + 1, 2]), pa.array([0.5, 0.1])),
        (pa.array([1, -2]), pa.array([2**63, 1], pa.uint64())),
        (pa.array([Decimal("1.5"), Decimal("2.5")]), pa.array([0.1, 0.2])),
        (pa.array([Decimal("1.5"), Decimal("2.5")]), pa.array([Decimal("1.555"), Decimal("99.1")])),
        (pa.array([True, False]), pa.array([0.5, 2.0])),
        (pa.array([True, False]), pa.array([500, 7])),
        (halves([0.5, 1.5]), pa.array([0.1, 0.2])),
        (pa.array([0.5, 1.5]).dictionary_encode(), pa.array([1, 2])),
    ],
    ids=str,
)
def test_numbers_are_read_in_a_type_that_holds_those_of_all_files(tmp_path, first, second):
    values = np.concatenate([np.array(part.to_pylist(), dtype=float) for part in (first, second)])
    y, groups = [0.0, 1.0, 0.0, 1.0], ["a", "a", "a", "a"]
    for folder in in_files(tmp_path, x=[first, second], g=[["a", "a"], ["a", "a"]]):
        assert_same(read(folder, x="x"), GroupedMoments.from_arrays(values[:, None], y, groups))


def test_outcome_and_weights_are_read_in_the_widest_type_as_well(tmp_path):
    y = [pa.array([1, 2], pa.int8()), pa.array([1e9 + 1, 0.1])]
    w = [pa.array([1, 2], pa.float32()), pa.array([0.1, 3.0])]
    for folder in in_files(tmp_path, y=y, w=w, g=[["a", "b"], ["a", "b"]]):
        expected = GroupedMoments.from_arrays(None, [1, 2, 1e9 + 1, 0.1], ["a", "b"] * 2, [1, 2, 0.1, 3.0])
        assert_same(read(folder, sample_weight="w"), expected)


def test_a_file_without_rows_decides_no_type(tmp_path):
    nothing = pa.array([], pa.null())
    no_categories = dictionary([], nothing)
    for at, some in enumerate([pa.array([1, BIG + 1]), pa.array(["a", "b"]), pa.array([dt.date(2020, 1, 1)] * 2)]):
        parts = [nothing, no_categories, some]
        for folder in in_files(tmp_path / str(at), g=parts, x=[nothing, no_categories, pa.array([1, 2])]):
            moments = read(folder, x="x")
            assert moments.labels.tolist() == sorted(set(some.to_pylist()))
            assert moments.n_rows.sum() == 2


def test_files_without_rows_give_moments_of_no_rows(tmp_path):
    for folder in in_files(tmp_path, g=[pa.array([], pa.null()), dictionary([], pa.array([], pa.null()))]):
        assert read(folder).n_groups == 0


BERLIN = "Europe/Berlin"
NOON = dt.datetime(2020, 1, 1, 12)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (pa.array([1, 2], pa.int8()), pa.array([2, BIG + 1]), {1: 1, 2: 2, BIG + 1: 1}),
        (pa.array([1, 2], pa.int32()), pa.array([2, 2**32 - 1], pa.uint32()), {1: 1, 2: 2, 2**32 - 1: 1}),
        (pa.array([1, 2], pa.int32()), pa.array([1.0, 2.5]), {1.0: 2, 2.0: 1, 2.5: 1}),
        (halves([1, 0.1]), pa.array([1, 0.1]), {float(np.float16(0.1)): 1, 0.1: 1, 1.0: 2}),
        (pa.array(["a", "b"]), pa.array(["b", "c"], pa.large_string()), {"a": 1, "b": 2, "c": 1}),
        (pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c"]), {"a": 1, "b": 2, "c": 1}),
        (pa.array([BIG, BIG + 1]).dictionary_encode(), pa.array([BIG + 1]), {BIG: 1, BIG + 1: 2}),
        (pa.array([b"ab"], pa.binary(2)), pa.array([b"ab", b"c"]), {b"ab": 2, b"c": 1}),
        (pa.array([NOON], pa.timestamp("us")), pa.array([NOON], pa.timestamp("ns")), {pd.Timestamp(NOON): 2}),
        (
            pa.array([NOON], pa.timestamp("us", BERLIN)),
            pa.array([NOON], pa.timestamp("ms", BERLIN)),
            {pd.Timestamp(NOON, tz="UTC"): 2},
        ),
        (
            pa.array([NOON], pa.timestamp("us", BERLIN)),
            pa.array([NOON], pa.timestamp("us", "UTC")),
            {pd.Timestamp(NOON, tz="UTC"): 2},
        ),
        (pa.array([NOON.date()], pa.date32()), pa.array([NOON.date()], pa.date64()), {NOON.date(): 2}),
        (pa.array([NOON.time()], pa.time32("s")), pa.array([NOON.time()], pa.time64("us")), {NOON.time(): 2}),
        (
            pa.array([dt.timedelta(1)], pa.duration("s")),
            pa.array([dt.timedelta(1)], pa.duration("us")),
            {pd.Timedelta(days=1): 2},
        ),
        (
            pa.array([Decimal("1.5")]),
            pa.array([Decimal("1.50"), Decimal("12.345")]),
            {Decimal("1.5"): 2, Decimal("12.345"): 1},
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_labels_are_those_of_the_files_whatever_the_types_of_one_kind(tmp_path, first, second, expected):
    for folder in in_files(tmp_path, g=[first, second]):
        assert labels_of(folder) == expected


def test_labels_with_a_zone_keep_it(tmp_path):
    zoned = pa.array([NOON], pa.timestamp("us", BERLIN))
    for folder in in_files(tmp_path, g=[zoned, zoned.cast(pa.timestamp("ms", BERLIN))]):
        assert str(read(folder).labels.tz) == BERLIN


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array(["1"]), pa.array([1])),
        (pa.array([True]), pa.array([1])),
        (pa.array([1]), pa.array([1.0])),
        (pa.array([1], pa.uint64()), pa.array([1.0], pa.float32())),
        (pa.array([1]), pa.array([2**63], pa.uint64())),
        (pa.array([1], pa.int8()), pa.array([2**63], pa.uint64())),
        (pa.array([NOON], pa.timestamp("us")), pa.array([NOON], pa.timestamp("us", "UTC"))),
        (pa.array([NOON], pa.timestamp("us")), pa.array([NOON.date()])),
        (pa.array([b"a"]), pa.array(["a"])),
        (pa.array([Decimal("1")]), pa.array([1])),
        (pa.array(["1"]).dictionary_encode(), pa.array([1]).dictionary_encode()),
    ],
    ids=lambda value: str(value.type),
)
def test_labels_that_cannot_be_compared_are_refused_with_both_types_and_files(tmp_path, first, second):
    plain = [str(part.dictionary.type if hasattr(part, "dictionary") else part.type) for part in (first, second)]
    for folder in in_files(tmp_path, g=[first, second]):
        with pytest.raises(ValueError, match="The labels in 'g' cannot be compared") as error:
            read(folder)
        for part in [*plain, *(str(path) for path in folder.iterdir())]:
            assert part in str(error.value)


def test_integers_of_32_bits_are_compared_with_floats_only_beside_no_integers_of_64_bits(tmp_path):
    parts = [pa.array([1], pa.int32()), pa.array([2], pa.uint32()), pa.array([1.5])]
    for folder in in_files(tmp_path / "small", g=parts):
        assert labels_of(folder) == {1.0: 1, 1.5: 1, 2.0: 1}
    for folder in in_files(tmp_path / "large", g=[*parts, pa.array([3])]):
        with pytest.raises(ValueError, match=r"cannot be compared: they are int64 in '.*' and double in '.*'"):
            read(folder)


def test_a_time_that_the_finest_unit_cannot_hold_is_an_error(tmp_path):
    far = pa.array([dt.datetime(3020, 1, 1)], pa.timestamp("us"))
    for folder in in_files(tmp_path, g=[far, pa.array([NOON], pa.timestamp("ns"))]):
        with pytest.raises(ValueError, match="out of bounds"):
            read(folder)


@pytest.mark.parametrize("wrong", [pa.array(["a"]), pa.array([NOON]), pa.array([[1.0]])], ids=["text", "time", "list"])
def test_a_file_whose_predictor_holds_no_numbers_is_named(tmp_path, wrong):
    write(tmp_path / "right.parquet", g=["a"], x=[1.0])
    write(tmp_path / "wrong.parquet", g=["a"], x=wrong)
    with pytest.raises(ValueError, match=r"x must hold numbers; found .* in '.*wrong.parquet'"):
        read(tmp_path, x="x")


def test_a_file_that_lacks_a_column_or_has_it_twice_is_named(tmp_path):
    write(tmp_path / "1.parquet", g=["a"], x=[1.0])
    write(tmp_path / "2.parquet", g=["a"])
    with pytest.raises(
        ValueError, match=r"2.parquet' has no column 'x', and no folder 'x=...' in its path; it has 'y', 'g'"
    ):
        read(tmp_path, x="x")
    twice = pa.table([[1.0], [2.0], ["a"]], names=["y", "y", "g"])
    pq.write_table(twice, tmp_path / "2.parquet")
    with pytest.raises(ValueError, match=r"2.parquet' has 2 columns 'y'"):
        read(tmp_path)


def test_columns_may_be_anywhere_in_a_file_and_have_any_name(tmp_path):
    pq.write_table(pa.table({"a.b": [1.0], "y": [1.0], "g": ["u"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"g": ["u"], "other": [1], "a.b": [3], "y": [1.0]}), tmp_path / "2.parquet")
    assert read(tmp_path, x="a.b").means.tolist() == [[2.0, 1.0]]


# ---- columns in the names of folders


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2"], [1, 2]),
        (["-1", "1"], [-1, 1]),
        (["01", "1"], ["01", "1"]),
        (["01001", "02002"], ["01001", "02002"]),
        (["1", "+1"], ["+1", "1"]),
        (["0", "-0"], ["-0", "0"]),
        (["1", "north"], ["1", "north"]),
        (["1.0", "1"], ["1", "1.0"]),
        (["true", "false"], ["false", "true"]),
        ([str(BIG), str(BIG + 1)], [BIG, BIG + 1]),
        ([str(2**63), str(2**63 + 1)], [str(2**63), str(2**63 + 1)]),
        (["a%20b", "a c"], ["a b", "a c"]),
        (["%E8", "%E9"], ["%E8", "%E9"]),
        (["a=b", "a=c"], ["a=b", "a=c"]),
    ],
)
def test_names_of_folders_are_integers_if_all_are_written_so_and_text_otherwise(tmp_path, values, expected):
    for value in values:
        write(tmp_path / f"school={value}" / "1.parquet", x=[1.0, 2.0])
    assert read(tmp_path, groups="school").labels.tolist() == expected
    # Each folder may be named as well.
    assert read(list(tmp_path.iterdir()), groups="school").labels.tolist() == expected


def test_folders_of_several_columns_give_each_its_own_type(tmp_path):
    for path in ("_year=2020/school%20code=01", "_year=2021/school%20code=1"):
        write(tmp_path / path / "1.parquet", x=[1.0, 2.0])
    moments = read(tmp_path, x="_year", groups="school code")
    assert moments.labels.tolist() == ["01", "1"]
    assert moments.means[:, 0].tolist() == [2020.0, 2021.0]


def test_a_predictor_in_folder_names_is_a_number_however_it_is_written(tmp_path):
    write(tmp_path / "month=01" / "1.parquet", g=["a"])
    write(tmp_path / "month=2.5" / "1.parquet", g=["b"])
    assert read(tmp_path, x="month").means[:, 0].tolist() == [1.0, 2.5]
    write(tmp_path / "month=May" / "1.parquet", g=["c"])
    with pytest.raises(ValueError, match=r"month must hold numbers; found 'May' in the folders of '.*month=May.1.parquet'"):
        read(tmp_path, x="month")


def test_a_folder_without_a_value_holds_missing_labels(tmp_path):
    write(tmp_path / "g=1" / "1.parquet", x=[1.0])
    write(tmp_path / "g=__HIVE_DEFAULT_PARTITION__" / "1.parquet", x=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"2 missing label\(s\) in 3 rows"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"Column 'g' has 2 missing value\(s\)"):
        read(tmp_path, x="g", groups="x")


def test_a_file_outside_of_the_folders_of_a_column_is_named(tmp_path):
    write(tmp_path / "school=1" / "1.parquet", x=[1.0])
    write(tmp_path / "other" / "1.parquet", x=[1.0])
    with pytest.raises(ValueError, match=r"other.1.parquet' has no column 'school', and no folder 'school=...' in its path"):
        read(tmp_path, groups="school")


def test_files_that_hold_the_column_of_their_folder_are_read_and_not_its_name(tmp_path):
    for value in ("01", "02"):
        write(tmp_path / f"g={value}" / "1.parquet", g=pa.array([int(value), BIG + 1]))
    assert labels_of(tmp_path) == {1: 1, 2: 1, BIG + 1: 2}


@pytest.mark.parametrize(
    ("held", "name", "expected"),
    [
        (pa.array([7], pa.int8()), "2", {2: 1, 7: 1}),
        (pa.array(["x"]), "02", {"02": 1, "x": 1}),
        (pa.array(["x"]).dictionary_encode(), "02", {"02": 1, "x": 1}),
        (pa.array([NOON.date()]), "2020-01-02", {dt.date(2020, 1, 1): 1, dt.date(2020, 1, 2): 1}),
        (pa.array([True]), "false", {False: 1, True: 1}),
        (pa.array([], pa.null()), "2", {2: 1}),
        (pa.array([], pa.null()), "02", {"02": 1}),
    ],
)
def test_a_file_that_lacks_the_column_has_the_name_of_its_folder_in_the_type_of_the_others(tmp_path, held, name, expected):
    write(tmp_path / "g=1" / "1.parquet", g=held)
    write(tmp_path / f"g={name}" / "1.parquet", x=[1.0])
    assert labels_of(tmp_path) == expected


@pytest.mark.parametrize(
    ("held", "name"),
    [(pa.array([7]), "02"), (pa.array([7]), "north"), (pa.array([7], pa.int8()), "300"), (pa.array([True]), "1")],
)
def test_a_folder_name_that_the_type_of_the_files_would_change_is_refused(tmp_path, held, name):
    write(tmp_path / "g=0" / "1.parquet", g=held)
    write(tmp_path / f"g={name}" / "1.parquet", x=[1.0])
    with pytest.raises(
        ValueError, match=rf"g={name}.1.parquet' has 'g' from its folder, '{name}', which is not a label of type {held.type}"
    ):
        read(tmp_path)


def test_a_predictor_of_files_and_folders_is_read_in_a_type_for_both(tmp_path):
    write(tmp_path / "x=9" / "1.parquet", x=pa.array([1], pa.int8()), g=["a"])
    write(tmp_path / "x=2.5" / "1.parquet", g=["b"])
    assert read(tmp_path, x="x").means[:, 0].tolist() == [1.0, 2.5]


def test_many_files_are_read_as_few_are(tmp_path):
    for school in range(100):
        write(tmp_path / f"school={school}" / "1.parquet", x=[1.0] * (1 + school % 2))
    for path in (tmp_path, sorted(tmp_path.iterdir())):
        assert labels_of(path, groups="school") == {school: 1 + school % 2 for school in range(100)}


def test_a_home_folder_is_found(orders, monkeypatch):
    monkeypatch.setenv("HOME", os.fspath(orders))
    monkeypatch.setenv("USERPROFILE", os.fspath(orders))
    assert labels_of("~/*.parquet") == {"u": 1, "v": 1}
