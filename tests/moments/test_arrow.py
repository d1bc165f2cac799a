"""Tables that come as Arrow streams: the same moments as from arrays, without reading more columns than needed."""

import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from designs import assert_same, simulate

from sklearn_mlm import GroupedMoments
from sklearn_mlm.moments._arrow import _MAX_ROWS, _MIN_ROWS, _resized, arrow_batches, named_columns

NAMES = {"x": ["a", "b", "c"], "y": "y", "groups": "school"}


@pytest.fixture(scope="module")
def frame():
    X, y, groups = simulate(60, 20)
    data = pd.DataFrame(X, columns=["a", "b", "c"])
    return data.assign(y=y, school=[f"s{group}" for group in groups], w=np.arange(len(y)) % 3 / 2, note="not needed")


@pytest.fixture(scope="module")
def expected(frame):
    return GroupedMoments.from_arrays(frame[["a", "b", "c"]], frame["y"], frame["school"])


SOURCES = {
    "pyarrow table": pa.Table.from_pandas,
    "pyarrow batch": pa.RecordBatch.from_pandas,
    "pyarrow reader": lambda frame: pa.Table.from_pandas(frame).to_reader(max_chunksize=17),
    "pyarrow dataset": lambda frame: pyarrow.dataset.dataset(pa.Table.from_pandas(frame)),
    "duckdb": lambda frame: duckdb.from_arrow(pa.Table.from_pandas(frame)),
    "polars": pl.from_pandas,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_table_gives_the_moments_of_its_rows(frame, expected, kind):
    moments = GroupedMoments.from_arrow(SOURCES[kind](frame), **NAMES)
    assert_same(moments, expected)
    assert moments.feature_names == ("a", "b", "c")
    assert (moments.outcome_name, moments.labels.name) == ("y", "school")
    weighted = GroupedMoments.from_arrow(SOURCES[kind](frame), **NAMES, sample_weight="w")
    assert_same(weighted, GroupedMoments.from_arrays(frame[["a", "b", "c"]], frame["y"], frame["school"], frame["w"]))


def test_one_predictor_or_none_may_be_named(frame):
    table = pa.Table.from_pandas(frame)
    one = GroupedMoments.from_arrow(table, x="a", y="y", groups="school")
    assert_same(one, GroupedMoments.from_arrays(frame[["a"]], frame["y"], frame["school"]))
    none = GroupedMoments.from_arrow(table, x=[], y="y", groups="school")
    assert_same(none, GroupedMoments.from_arrays(None, frame["y"], frame["school"]))


@pytest.mark.parametrize(
    "convert",
    [
        lambda school: pd.Series(school, dtype="category"),
        lambda school: school.str[1:].astype("int32"),
        lambda school: school.str[1:].astype(float),
        lambda school: school.str[1:].astype(int) % 2 == 0,
        lambda school: pd.Timestamp("2020-01-01") + pd.to_timedelta(school.str[1:].astype(int), unit="D"),
    ],
    ids=["categories", "int32", "floats", "booleans", "dates"],
)
def test_labels_of_every_arrow_type_are_those_of_pandas(frame, convert):
    data = frame.assign(school=convert(frame["school"]))
    moments = GroupedMoments.from_arrow(pa.Table.from_pandas(data), **NAMES)
    assert_same(moments, GroupedMoments.from_arrays(data[["a", "b", "c"]], data["y"], data["school"]))


def test_parquet_may_be_a_file_a_folder_or_a_list(frame, expected, tmp_path):
    half = len(frame) // 2
    frame[:half].to_parquet(tmp_path / "1.parquet")
    frame[half:].to_parquet(tmp_path / "2.parquet")
    assert_same(GroupedMoments.from_parquet(tmp_path, **NAMES), expected)
    paths = [str(tmp_path / "1.parquet"), str(tmp_path / "2.parquet")]
    assert_same(GroupedMoments.from_parquet(paths, **NAMES), expected)
    first = GroupedMoments.from_parquet(tmp_path / "1.parquet", **NAMES)
    assert first.n_rows.sum() == half


def test_columns_that_are_not_needed_are_not_read(frame, tmp_path):
    # A column that cannot be read, because its pages are overwritten.
    table = pa.Table.from_pandas(frame.assign(broken=np.arange(len(frame)) * 1.0))
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    column = pyarrow.parquet.ParquetFile(path).metadata.row_group(0)
    at = next(column.column(i) for i in range(column.num_columns) if column.column(i).path_in_schema == "broken")
    content = bytearray(path.read_bytes())
    content[at.data_page_offset : at.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(bytes(content))
    with pytest.raises(OSError):  # noqa: PT011
        GroupedMoments.from_parquet(path, x="broken", y="y", groups="school")
    assert GroupedMoments.from_parquet(path, **NAMES).n_rows.sum() == len(frame)


def test_small_batches_are_joined_and_large_ones_cut():
    def sizes(*rows):
        batches = [pa.RecordBatch.from_arrays([pa.array(np.zeros(n))], names=["a"]) for n in rows]
        reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
        return [batch.num_rows for batch in _resized(reader)]

    assert sizes(*[1_000] * 300) == [132_000, 132_000, 36_000]
    assert sizes(2 * _MAX_ROWS + 5) == [_MAX_ROWS, _MAX_ROWS, 5]
    assert sizes(_MIN_ROWS, 3) == [_MIN_ROWS, 3]
    # An empty batch tells the columns.
    assert sizes(0, 0) == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": ["a", "z"]}, "source has no column 'z'; it has 'a', 'b', 'c', 'y', 'school'"),
        ({"x": "note"}, "Column 'note' must hold numbers; found"),
        ({"groups": "gaps"}, "missing label"),
        ({"y": "gaps"}, "Column 'gaps' has 1 missing value"),
    ],
)
@pytest.mark.parametrize("kind", ["pyarrow table", "duckdb", "polars", "pyarrow dataset"])
def test_errors_name_the_column_and_the_cause(frame, change, message, kind):
    data = frame.assign(gaps=np.where(np.arange(len(frame)) == 4, np.nan, 1.0))
    source = SOURCES[kind](data) if kind != "polars" else pl.from_pandas(data, nan_to_null=True)
    with pytest.raises(ValueError, match=message):
        GroupedMoments.from_arrow(source, **{**NAMES, **change})


def test_nan_in_a_column_is_refused_as_nan():
    table = pa.table({"x": [1.0, float("nan")], "y": [1.0, 2.0], "g": [1, 2]})
    with pytest.raises(ValueError, match=r"Column 'x' of X has 1 missing value\(s\) \(NaN\) in 2 rows, the first in row 1"):
        GroupedMoments.from_arrow(table, x="x", y="y", groups="g")


@pytest.mark.parametrize(
    "source", [3, pl.DataFrame({"a": [1.0], "b": [2.0], "c": [3.0], "y": [1.0], "school": ["s"]}).lazy()]
)
def test_what_offers_no_stream_is_refused(source):
    with pytest.raises(TypeError, match="source must offer an Arrow stream"):
        GroupedMoments.from_arrow(source, **NAMES)


def test_progress_is_shown_on_request(frame, capsys):
    table = pa.Table.from_pandas(frame)
    GroupedMoments.from_arrow(table, **NAMES)
    assert capsys.readouterr().err == ""
    GroupedMoments.from_arrow(table, **NAMES, verbose=1)
    text = capsys.readouterr().err
    assert f"{len(frame) / 1000:.2f}k rows" in text


@pytest.mark.parametrize(
    ("missing", "call", "message"),
    [
        ("pyarrow", "GroupedMoments.from_parquet('x', x='a', y='y', groups='g')", "from_parquet reads with pyarrow"),
        ("pyarrow", "GroupedMoments.from_arrow(None, x='a', y='y', groups='g')", "from_arrow reads with pyarrow"),
    ],
)
def test_without_what_the_extra_brings_the_error_names_it(missing, call, message):
    code = (
        f"import sys; from sklearn_mlm import GroupedMoments; sys.modules[{missing!r}] = None\n"
        f"try:\n    {call}\nexcept ImportError as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{message}: pip install 'sklearn-mlm[arrow]'."


class OnlyAStream:
    """A table that offers its stream and nothing else."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_a_column_that_a_stream_lacks_or_has_twice_is_refused(frame, expected):
    table = pa.Table.from_pandas(frame)
    assert_same(GroupedMoments.from_arrow(OnlyAStream(table), **NAMES), expected)
    with pytest.raises(ValueError, match="source has no column 'typo'; it has 'a', 'b', 'c', 'y', 'school'"):
        GroupedMoments.from_arrow(OnlyAStream(table), **{**NAMES, "x": "typo"})
    twice = table.append_column("a", table["b"])
    for source in (twice, twice.to_reader(), OnlyAStream(twice)):
        with pytest.raises(ValueError, match="source has two columns 'a'"):
            GroupedMoments.from_arrow(source, **NAMES)
        assert GroupedMoments.from_arrow(twice, x=["b"], y="y", groups="school").n_features == 1


@pytest.mark.parametrize(
    "values", [pd.date_range("2020", periods=3), ["1", "2", "3"], [[1.0], [2.0], [3.0]]], ids=["times", "strings", "lists"]
)
def test_columns_that_hold_no_numbers_are_refused(values):
    table = pa.table({"x": pa.array(values), "y": [1.0, 2.0, 4.0], "g": [1, 1, 2]})
    with pytest.raises(ValueError, match=r"Column 'x' must hold numbers|setting an array element"):
        GroupedMoments.from_arrow(table, x="x", y="y", groups="g")


def test_decimals_and_small_integers_are_numbers():
    from decimal import Decimal

    table = pa.table({"x": [Decimal("1.5"), Decimal("2.5")], "y": pa.array([1, 3], pa.int8()), "g": [1, 1]})
    assert GroupedMoments.from_arrow(table, x="x", y="y", groups="g").means.tolist() == [[2.0, 2.0]]


def test_a_table_without_rows_gives_moments_of_no_rows(frame):
    moments = GroupedMoments.from_arrow(pa.Table.from_pandas(frame[:0]), **NAMES)
    assert (moments.n_groups, moments.feature_names) == (0, ("a", "b", "c"))


def test_folders_named_for_a_column_hold_it(frame, tmp_path):
    table = pa.Table.from_pandas(frame.assign(year=np.arange(len(frame)) % 2 + 2020), preserve_index=False)
    pyarrow.parquet.write_to_dataset(table, tmp_path, partition_cols=["year"])
    moments = GroupedMoments.from_parquet(tmp_path, x=None, y="y", groups="year")
    assert moments.labels.tolist() == [2020, 2021]
    assert moments.labels.name == "year"
    assert moments.n_rows.sum() == len(frame)


# ---- names of columns


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        iter,
        pd.Index,
        pd.Series,
        np.array,
        lambda names: np.array(names, dtype=object),
        pl.Series,
        dict.fromkeys,
    ],
)
def test_names_of_predictors_may_come_in_any_iterable(frame, kind):
    table = pa.Table.from_pandas(frame)
    moments = GroupedMoments.from_arrow(table, x=kind(["a", "b"]), y=np.str_("y"), groups=np.str_("school"))
    assert moments.feature_names == ("a", "b")
    none = GroupedMoments.from_arrow(table, x=kind([]), y="y", groups="school")
    assert none.n_features == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 3}, "x must be the name of a column, an iterable of names, or None; found 3"),
        ({"x": np.array("a")}, "x must be the name of a column, an iterable of names, or None"),
        ({"x": ["a", 1]}, "x must hold names of columns, which are strings; found 1"),
        ({"x": np.ones((2, 2))}, "x must hold names of columns, which are strings; found array"),
        ({"y": ["y"]}, r"y must be the name of a column, which is a string; found \['y'\]"),
        ({"groups": None}, "groups must be the name of a column, which is a string; found None"),
        ({"sample_weight": np.ones(3)}, "sample_weight must be the name of a column, which is a string; found array"),
    ],
)
def test_what_is_no_name_of_a_column_is_refused(frame, tmp_path, change, message):
    with pytest.raises(TypeError, match=message):
        GroupedMoments.from_arrow(pa.Table.from_pandas(frame), **{**NAMES, **change})
    frame.to_parquet(tmp_path / "1.parquet")
    with pytest.raises(TypeError, match=message):
        GroupedMoments.from_parquet(tmp_path, **{**NAMES, **change})


# ---- labels


BIG = 2**60


def of_labels(*arrays):
    """Return the moments of a stream with one batch for each array of labels."""
    batches = [pa.record_batch({"y": np.arange(len(labels)) * 1.0, "g": labels}) for labels in arrays]
    return GroupedMoments.from_arrow(pa.Table.from_batches(batches), x=None, y="y", groups="g")


def dictionary(indices, entries, index_type=None):
    return pa.DictionaryArray.from_arrays(pa.array(indices, index_type or pa.int8()), pa.array(entries))


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([dictionary([0, 1, 2], ["north", "south", "north"])], {"north": 2, "south": 1}),
        ([dictionary([0, 2], ["a", "b", "a"]), dictionary([0, 1, 2], ["c", "c", "a"])], {"a": 3, "c": 2}),
        ([dictionary([0, 1], [0.0, -0.0])], {0.0: 2}),
        ([dictionary([0, 0], [0.5, float("nan")])], {0.5: 2}),
        ([dictionary([0, 0], ["a", None])], {"a": 2}),
        ([dictionary([0, 0], ["a", None]), dictionary([0, 0], ["b", None])], {"a": 2, "b": 2}),
        ([dictionary([0, 2], [BIG + 1, None, BIG])], {BIG: 1, BIG + 1: 1}),
        ([dictionary([0, 1], ["a", "b"], pa.uint64())], {"a": 1, "b": 1}),
        ([dictionary([0, 1, 0], [True, False])], {False: 1, True: 2}),
        (
            [dictionary(range(100), [f"a{i}" for i in range(100)]), dictionary(range(100), [f"b{i}" for i in range(100)])],
            {**{f"a{i}": 1 for i in range(100)}, **{f"b{i}": 1 for i in range(100)}},
        ),
    ],
    ids=[
        *("repeated", "repeated in two", "zeros", "nan unused", "null unused", "nulls in two", "large integers"),
        *("unsigned codes", "booleans", "more entries than codes"),
    ],
)
def test_categories_of_arrow_are_the_values_they_stand_for(batches, expected):
    moments = of_labels(*batches)
    assert dict(zip(moments.labels.tolist(), moments.n_rows.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    "labels",
    [
        dictionary([0, 1, 0], ["a", None]),
        dictionary([0, None, 0], ["a", "a"]),
        dictionary([0, 1, 0], [BIG + 1, None]),
        dictionary([0, 1, 0], [0.5, float("nan")]),
        dictionary([0, None, 0], ["a", "b"], pa.uint32()),
        pa.array([BIG + 1, None, BIG]),
        pa.array([2**63, None, 1], pa.uint64()),
        pa.array([True, None, False]),
    ],
    ids=str,
)
def test_labels_that_are_null_are_missing(labels):
    with pytest.raises(ValueError, match=r"groups has 1 missing label\(s\) in 3 rows, the first in row 1"):
        of_labels(labels)


@pytest.mark.parametrize(
    "table", [pa.Table.from_pandas, pl.from_pandas, lambda frame: frame], ids=["pyarrow", "polars", "pandas"]
)
def test_a_missing_label_makes_no_floats_of_integers(monkeypatch, table):
    frame = pd.DataFrame({"y": [1.0, 2.0, 3.0], "g": pd.array([BIG + 1, None, BIG], dtype="Int64")})
    (batch,) = arrow_batches(table(frame), named_columns(None, "y", "g", None))
    assert [int(batch.groups[0]), int(batch.groups[2])] == [BIG + 1, BIG]


def test_labels_keep_their_time_zone():
    times = pa.array([0, 3600], pa.timestamp("s", "Europe/Berlin"))
    expected = pd.to_datetime([0, 3600], unit="s", utc=True).tz_convert("Europe/Berlin")
    as_categories = pd.DataFrame({"y": [1.0, 2.0], "g": pd.Categorical(expected)})
    for moments in (
        of_labels(times),
        of_labels(pa.DictionaryArray.from_arrays(pa.array([0, 1]), times)),
        GroupedMoments.from_arrow(as_categories, x=None, y="y", groups="g"),
    ):
        assert moments.labels.tolist() == expected.tolist()
        assert str(moments.labels.tz) == "Europe/Berlin"


@pytest.mark.parametrize(
    "values", [[{"a": 1}], [[1]], pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))], ids=["struct", "list", "map"]
)
@pytest.mark.parametrize("encoded", [False, True])
def test_labels_of_several_values_are_refused_with_their_type(values, encoded):
    labels = pa.array(values) if isinstance(values, list) else values
    if encoded:
        labels = pa.DictionaryArray.from_arrays(pa.array([0]), labels)
    with pytest.raises(ValueError, match=r"groups='g' must name a column of labels.*found values of type (struct|list|map)"):
        of_labels(labels)


# ---- frames of pandas


def test_a_pandas_frame_is_read_whatever_else_it_holds(frame, expected):
    data = frame.assign(other=["a", 1] * (len(frame) // 2))
    assert_same(GroupedMoments.from_arrow(data, **NAMES), expected)
    assert_same(GroupedMoments.from_arrow(frame.set_index("school"), **NAMES), expected)


def test_intervals_in_a_pandas_frame_are_labels():
    labels = pd.cut(pd.Series([1.0, 2.0, 3.0, 4.0]), 2)
    moments = GroupedMoments.from_arrow(pd.DataFrame({"y": [1.0] * 4, "g": labels}), x=None, y="y", groups="g")
    assert moments.labels.tolist() == labels.cat.categories.tolist()


@pytest.mark.parametrize("labels", [["a", 1], [1j, 2j], [2**70, 1]])
def test_labels_that_arrow_cannot_hold_are_refused(labels):
    frame = pd.DataFrame({"y": [1.0, 2.0], "g": labels})
    with pytest.raises(ValueError, match=r"source has a column that Arrow cannot read: .*from_arrays takes labels of any"):
        GroupedMoments.from_arrow(frame, x=None, y="y", groups="g")
