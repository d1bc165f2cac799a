"""Moments as files and as tables: exact to the last digit, with labels of any kind, and safe to load from strangers."""

import datetime
import io
import pickle
import zipfile
import zoneinfo
from pathlib import Path

import dateutil.tz
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from archives import rewritten
from designs import assert_same, simulate

from sklearn_mlm import GroupedMoments, GroupsNotPassedWarning, RandomInterceptRegressor
from sklearn_mlm.datasets import load_sleepstudy

LABELS = {
    "strings": ["a", "é", "", "long " * 50],
    "numbers": [3, -1, 2**62, 0],
    "floats": [0.1, -2.5, 1e300, 3.0],
    "booleans": [True, False, True, False],
    "dates": [datetime.date(2020, 1, day) for day in (1, 2, 3, 4)],
    "tuples": [(1, "a"), (1, "b"), (2, "a"), (2.5, b"x")],
    "mixed": [1, "a", 2.5, b"x"],
    "times": pd.Series(pd.date_range("2020-03-28", periods=4, tz="Europe/Berlin"), name="day"),
    "spans": pd.Series(pd.to_timedelta([1, 2, 3, 4], unit="min")),
    "nullable": pd.Series([1, 2, 3, 2**63 - 1], dtype="Int64"),
    "unsigned": pd.Series([1, 2, 3, 2**64 - 1], dtype="UInt64"),
    "pyarrow": pd.Series(["a", "b", "c", "d"], dtype="string[pyarrow]"),
    "categories": pd.Series(["a", "b", "c", "d"], dtype="category"),
}


def saved(moments):
    file = io.BytesIO()
    moments.save(file)
    file.seek(0)
    return file


@pytest.mark.parametrize("kind", LABELS)
def test_a_file_holds_the_moments_to_the_last_digit(kind):
    labels = LABELS[kind]
    X, y = np.random.default_rng(0).standard_normal((2, 8, 3))[:, :, :2]
    groups = pd.concat([labels, labels]) if isinstance(labels, pd.Series) else [*labels, *labels]
    moments = GroupedMoments.from_arrays(pd.DataFrame(X, columns=["é", "b"]), y[:, 0], groups, np.arange(1.0, 9.0))
    loaded = GroupedMoments.load(saved(moments))
    assert loaded.labels.tolist() == moments.labels.tolist()
    assert loaded.labels.name == moments.labels.name
    for field in ("counts", "n_rows", "center", "deviations", "within"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(moments, field))
    assert loaded.sum_log_weight == moments.sum_log_weight
    assert loaded.feature_names == moments.feature_names == ("é", "b")
    assert (loaded + moments).n_groups == moments.n_groups


TIMES = pd.Series(pd.date_range("2000-03-25 12:00", periods=4, tz="UTC"))
ZONES = {
    "Europe/Berlin": "Europe/Berlin",
    "half an hour": datetime.timezone(datetime.timedelta(hours=5, minutes=30)),
    "west": datetime.timezone(-datetime.timedelta(hours=3, minutes=30)),
    "a name of its own": datetime.timezone(datetime.timedelta(hours=1), "somewhere"),
    "dateutil's UTC": dateutil.tz.tzutc(),
    "dateutil's offset": dateutil.tz.tzoffset("somewhere", 3600),
    "dateutil": "dateutil/Europe/Berlin",
}


def test_a_file_of_version_0_1_0_is_read():
    moments = GroupedMoments.load(Path(__file__).parent / "moments_0_1_0.npz")
    X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    same = GroupedMoments.from_arrays(X, y, subject.astype(str).rename("subject"), np.arange(180) % 3 + 1.0)
    assert_same(moments, same)
    assert (moments.labels.name, moments.feature_names) == ("subject", ("days",))


@pytest.mark.parametrize("zone", ZONES)
def test_what_is_saved_of_times_in_a_zone_is_loaded(zone):
    times = TIMES.dt.tz_convert(ZONES[zone])
    moments = GroupedMoments.from_arrays(None, np.arange(8.0), pd.concat([times, times]))
    try:
        file = saved(moments)
    except TypeError as error:
        # pandas before 3 cannot convert to a zone of today's dateutil.
        assert zone == "dateutil"
        assert "time zone" in str(error)  # noqa: PT017
        return
    loaded = GroupedMoments.load(file)
    assert [time.tz_localize(None) for time in loaded.labels] == [time.tz_localize(None) for time in moments.labels]
    assert (loaded + moments).n_groups == 4


def test_times_in_a_zone_without_a_name_are_refused_and_the_file_stays(tmp_path):
    of_berlin = next((path for root in zoneinfo.TZPATH if (path := Path(root, "Europe", "Berlin")).is_file()), None)
    if of_berlin is None:
        pytest.skip("there is no database of time zones on this machine")
    with of_berlin.open("rb") as stream:
        nameless = zoneinfo.ZoneInfo.from_file(stream)
    path = tmp_path / "saved.moments"
    GroupedMoments.from_arrays(None, np.arange(8.0), [*TIMES, *TIMES]).save(path)
    before = path.read_bytes()
    times = TIMES.dt.tz_convert(nameless)
    with pytest.raises(TypeError, match=r"groups has labels in the time zone .*tz_convert"):
        GroupedMoments.from_arrays(None, np.arange(8.0), [*times, *times]).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "of", [pa.timestamp("us"), pa.timestamp("ms", tz="Europe/Berlin"), pa.duration("us"), pa.date32()], ids=str
)
def test_dates_and_times_that_pandas_keeps_in_pyarrow_are_saved(of):
    times = TIMES.dt.tz_localize(None) if getattr(of, "tz", None) is None else TIMES
    labels = (times - times[0] if str(of).startswith("duration") else times).astype(
        pd.ArrowDtype(pa.timestamp("us") if str(of).startswith("date") else of)
    )
    labels = labels.astype(pd.ArrowDtype(of))
    moments = GroupedMoments.from_arrays(None, np.arange(8.0), pd.concat([labels, labels]))
    loaded = GroupedMoments.load(saved(moments))
    assert loaded.labels.tolist() == moments.labels.tolist()
    assert (loaded + moments).n_groups == 4


def test_a_path_is_written_whole_or_not_at_all(tmp_path):
    X, y, groups = simulate()
    moments = GroupedMoments.from_arrays(X, y, groups)
    path = tmp_path / "saved.moments"
    moments.save(path)
    assert_same(GroupedMoments.load(path), moments)
    odd = GroupedMoments.from_arrays(X, y, [frozenset([int(group)]) for group in groups])
    with pytest.raises(TypeError, match="labels of type frozenset"):
        odd.save(path)
    assert_same(GroupedMoments.load(str(path)), moments)
    assert [file.name for file in tmp_path.iterdir()] == ["saved.moments"]


def test_sites_that_share_moments_fit_the_model_of_all_rows():
    X, y, groups = simulate(30, 20)
    whole = RandomInterceptRegressor().fit(X, y, groups=groups)
    # Two sites, each with some of the groups and some rows of the others' groups.
    sites = [np.arange(len(y)) % 3 == 0, np.arange(len(y)) % 3 > 0]
    by_file, by_table = [], []
    for rows in sites:
        moments = GroupedMoments.from_arrays(X[rows], y[rows], groups[rows])
        by_file.append(GroupedMoments.load(saved(moments)))
        csv = io.StringIO(moments.to_frame().to_csv())
        by_table.append(GroupedMoments.from_frame(pd.read_csv(csv, index_col=0), moments.within))
    for parts in (by_file, by_table):
        model = RandomInterceptRegressor().fit_moments(GroupedMoments.merge(parts))
        np.testing.assert_allclose(model.variance_components_, whole.variance_components_, rtol=1e-12)
        np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-12)
        np.testing.assert_allclose(model.random_effects_, whole.random_effects_, rtol=1e-11)


def test_the_table_is_for_people_too():
    frame = pd.DataFrame({"ses": [0.0, 1.0, 3.0], "math": [1.0, 2.0, 6.0]})
    moments = GroupedMoments.from_arrays(frame[["ses"]], frame["math"], pd.Series(["b", "a", "a"], name="school"), [2, 1, 1])
    table = moments.to_frame()
    assert table.columns.tolist() == ["n_rows", "weight", "mean(ses)", "mean(math)"]
    assert table.index.name == "school"
    assert table.loc["a"].tolist() == [2.0, 2.0, 2.0, 4.0]
    again = GroupedMoments.from_frame(table.loc[["b", "a"]], moments.within, sum_log_weight=moments.sum_log_weight)
    assert_same(again, moments)
    assert again.labels.name == "school"
    assert again.feature_names == ("ses",)
    assert again.outcome_name == GroupedMoments.load(saved(moments)).outcome_name == "math"
    # Without the attributes of the frame, as after a CSV file, names are those of the columns.
    table.attrs.clear()
    assert GroupedMoments.from_frame(table, moments.within).feature_names == ("ses",)
    unnamed = GroupedMoments.from_arrays(frame[["ses"]].to_numpy(), frame["math"], [1, 2, 2])
    assert GroupedMoments.from_frame(unnamed.to_frame(), unnamed.within).feature_names is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, w: (f.rename(columns={"mean(y)": "y"}), w), "frame must have the columns"),
        (lambda f, w: (f.iloc[:, :2], w), "frame must have the columns"),
        (lambda f, w: (f.drop(columns="n_rows"), w), "frame must have the columns"),
        (lambda f, w: (pd.concat([f, f]), w), "one row per group; found 4 rows for 2 labels"),
        (lambda f, w: (f.assign(weight=[1.0, 0.0]), w), "counts must be positive"),
        (lambda f, w: (f.assign(n_rows=[0, 1]), w), "n_rows at least 1 in each group"),
        (lambda f, w: (f.assign(n_rows=[1.5, 1.0]), w), "n_rows must be whole numbers"),
        (lambda f, w: (f.replace(f.iloc[0, 2], np.nan), w), "must be finite"),
        (lambda f, w: (f, w[:-1]), r"within must be numbers of shape \(3, 3\)"),
        (lambda f, w: (f, -w), "within must be a scatter matrix"),
        (lambda f, w: (f, w + np.triu(np.ones((3, 3)), 1)), "within must be a scatter matrix"),
    ],
)
def test_tables_that_no_rows_have_are_refused(change, message):
    moments = GroupedMoments.from_arrays([[0.0, 1.0], [2.0, 5.0], [3.0, 2.0]], [1.0, 3.0, 2.0], ["a", "b", "b"])
    frame, within = change(moments.to_frame(), moments.within)
    with pytest.raises(ValueError, match=message):
        GroupedMoments.from_frame(frame, within)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda h, a: h.update(version=2),
            "has version 2 of the format, but this version of sklearn-mlm reads only version 1",
        ),
        (lambda h, a: h.update(format="other"), "is not a file of moments"),
        (lambda h, a: h.pop("labels"), "damaged"),
        (lambda h, a: h["labels"].update(kind="pickle"), "labels of kind 'pickle' are not known"),
        (lambda h, a: h.update(feature_names=["a"]), "feature_names must be 3 names"),
        (lambda h, a: a.pop("within"), "damaged"),
        (lambda h, a: a.update(within=a["within"][:2]), "within must be numbers of shape"),
        (lambda h, a: a.update(counts=a["counts"] * np.nan), "counts must be finite"),
        (lambda h, a: a.update(counts=a["counts"][1:]), "counts must be numbers of shape"),
        (lambda h, a: a.update(labels=a["labels"] * 0), "labels must be distinct"),
        (lambda h, a: a.update(deviations=a["deviations"].astype(str)), "deviations must be numbers"),
        (lambda h, a: a.update(n_rows=a["n_rows"] + 0.5), "n_rows must be whole numbers"),
        (lambda h, a: a.update(n_rows=a["n_rows"] * 0 + 2**60), r"at most 2\*\*53 in total"),
        (lambda h, a: a.update(labels=a["labels"] + 1j), "labels of kind 'array' are not known"),
        (lambda h, a: h["labels"].update(kind="time", dtype="V8", zone=None), "labels of kind 'time' are not known"),
        (lambda h, a: h.update(feature_names="abc"), "feature_names must be a list of names"),
        (
            lambda h, a: a.update(center=a["center"][:0], deviations=a["deviations"][:, :0], within=a["within"][:0, :0]),
            "must be",
        ),
        (lambda h, a: a.update(within=3.8 * np.eye(4) - 1.9), "without a negative eigenvalue"),
    ],
)
def test_files_that_no_moments_wrote_are_refused(change, message):
    X, y, groups = simulate()
    file = rewritten(saved(GroupedMoments.from_arrays(X, y, groups)), change)
    with pytest.raises(ValueError, match=message):
        GroupedMoments.load(file)


def test_other_files_are_refused_and_nothing_in_them_runs(tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (ran.touch, ())

    evil = io.BytesIO()
    np.savez(evil, header=np.array([Evil()], dtype=object))
    truncated = io.BytesIO(saved(GroupedMoments.from_arrays(None, [1.0], ["a"])).getvalue()[:-100])
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.txt", "text")
    compressed, deep, huge = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez_compressed(compressed, header=np.zeros(10**6, dtype=np.uint8))
    np.savez(deep, header=np.frombuffer(b"[" * 100_000, dtype=np.uint8))
    with zipfile.ZipFile(huge, "w") as archive:
        header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + "\n"
        archive.writestr("header.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    for content in (
        evil,
        truncated,
        zipped,
        compressed,
        deep,
        huge,
        io.BytesIO(pickle.dumps(Evil())),
        io.BytesIO(b"text"),
        io.BytesIO(),
    ):
        content.seek(0)
        with pytest.raises(ValueError, match="is not a complete file of moments") as caught:
            GroupedMoments.load(content)
        assert "allow_pickle" not in str(caught.value)
    assert not ran.exists()
    with pytest.raises(FileNotFoundError):
        GroupedMoments.load(tmp_path / "none")


def test_arguments_of_another_type_are_refused():
    with pytest.raises(TypeError, match=r"frame must be a pandas DataFrame.*found dict"):
        GroupedMoments.from_frame({}, [[1.0]])
    with pytest.raises(TypeError, match=r"merge takes GroupedMoments.*found int"):
        GroupedMoments.merge([1])


def test_a_file_bent_anywhere_is_read_or_refused():
    X, y, groups = simulate()
    content = saved(GroupedMoments.from_arrays(X, y, [f"s{group}" for group in groups])).getvalue()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(content), 300):
        bent = bytearray(content)
        bent[at] ^= 1 << int(rng.integers(0, 8))
        try:
            GroupedMoments.load(io.BytesIO(bytes(bent)))
        except ValueError as error:
            assert "file of moments" in str(error)  # noqa: PT017


@pytest.mark.parametrize("names", [None, ("x0", "x1"), ("x1", "x0"), ("a", "x0")])
@pytest.mark.parametrize("outcome", [None, "y", "math"])
def test_a_table_and_a_file_keep_names_and_weights(names, outcome):
    X, y, groups = simulate(n_columns=2)
    weights = 1.0 + np.arange(len(y)) % 3
    X = X if names is None else pd.DataFrame(X, columns=names)
    moments = GroupedMoments.from_arrays(X, pd.Series(y, name=outcome), groups, weights)
    by_table = GroupedMoments.from_frame(moments.to_frame(), moments.within)
    for again in (by_table, GroupedMoments.load(saved(moments))):
        assert (again.feature_names, again.outcome_name) == (names, outcome)
        assert again.sum_log_weight == moments.sum_log_weight
        assert (again + moments).n_rows.sum() == (moments + again).n_rows.sum() == 2 * len(y)
    by_csv = GroupedMoments.from_frame(
        pd.read_csv(io.StringIO(moments.to_frame().to_csv()), index_col=0),
        moments.within,
        sum_log_weight=moments.sum_log_weight,
    )
    assert_same(by_csv + moments, moments + moments)


def test_moments_without_groups_are_saved_and_merge_among_themselves_only():
    X, y, groups = simulate()
    with pytest.warns(GroupsNotPassedWarning):
        without = RandomInterceptRegressor().fit(X, y).moments_
    grouped = GroupedMoments.from_arrays(X, y, groups)
    for parts in ((without, grouped), (grouped, without), (without, without, grouped)):
        with pytest.raises(
            ValueError,
            match="Cannot merge moments of rows that were read with groups and moments of rows that were read without",
        ):
            GroupedMoments.merge(parts)
    empty = GroupedMoments.from_arrays(X[:0], y[:0], groups[:0])
    for loaded in (GroupedMoments.load(saved(without)), GroupedMoments.from_frame(without.to_frame(), without.within)):
        assert RandomInterceptRegressor().fit_moments(loaded).n_groups_ == 0
        assert (loaded + without + empty).n_groups == 1


def test_arrays_of_moments_cannot_be_written_to():
    X, y, groups = simulate()
    counts = np.bincount(groups).astype(float)
    moments = GroupedMoments.from_arrays(X, y, groups)
    for each in (moments, moments + moments, GroupedMoments.load(saved(moments)), pickle.loads(pickle.dumps(moments))):
        for field in ("counts", "n_rows", "center", "deviations", "within"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(each, field)[:1] = 0
    # The caller's own arrays stay writeable.
    GroupedMoments(moments.labels, counts, moments.n_rows, moments.center, moments.deviations, moments.within)
    counts[0] = 1.0
