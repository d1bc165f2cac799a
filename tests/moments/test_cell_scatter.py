"""`CellScatter`: the record of rows by the cells of several columns of labels, whatever the rows come from."""

import io

import numpy as np
import pandas as pd
import pytest

from sklearn_mlm import CellScatter, GroupedScatter, MixedEffectsRegressor

TEXT = "(1 + x | school/class) + (1 | item)"
LABELS = ["school", "class", "item"]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    n = 240
    frame = pd.DataFrame({"school": rng.integers(0, 12, n), "class": rng.integers(0, 3, n), "x": rng.standard_normal(n)})
    frame["item"] = [f"i{k}" for k in rng.integers(0, 9, n)]
    frame["y"] = rng.standard_normal(12)[frame["school"]] + rng.standard_normal((12, 3))[frame["school"], frame["class"]]
    frame["y"] += (1 + 0.5 * rng.standard_normal(12))[frame["school"]] * frame["x"] + rng.standard_normal(n)
    return frame


@pytest.fixture(scope="module")
def record(rows):
    return CellScatter.from_arrays(rows[["x"]], rows["y"], rows[LABELS], slopes="x")


def check_same(found, record):
    expected = MixedEffectsRegressor(random_effects=TEXT).fit_moments(record)
    model = MixedEffectsRegressor(random_effects=TEXT).fit_moments(found)
    np.testing.assert_allclose(model.criterion_, expected.criterion_, rtol=1e-12)
    assert found.n_groups == record.n_groups
    assert model.n_groups_ == expected.n_groups_


def test_batches_are_the_rows(rows, record):
    batches = [(rows[["x"]][i::4], rows["y"][i::4], rows[LABELS][i::4]) for i in range(4)]
    check_same(CellScatter.from_batches(batches, slopes="x"), record)
    weighted = [(*batch, np.full(len(batch[1]), 1.0)) for batch in batches]
    check_same(CellScatter.from_batches(iter(weighted), slopes=0), record)
    with pytest.raises(ValueError, match=r"atch 0.*groups must be a frame with a column for each factor"):
        CellScatter.from_batches([(rows[["x"]], rows["y"], rows["school"])])
    with pytest.raises(TypeError, match="Batch 0 must be a tuple"):
        CellScatter.from_batches([rows])


def test_tables_and_files_are_the_rows(rows, record, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.Table.from_pandas(rows)
    columns = {"x": "x", "y": "y", "groups": LABELS, "slopes": "x"}
    check_same(CellScatter.from_arrow(table, **columns), record)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=50)
    check_same(CellScatter.from_parquet(tmp_path / "rows.parquet", **columns), record)


def test_a_saved_record_is_the_same_to_the_last_digit(record, tmp_path):
    file = io.BytesIO()
    record.save(file)
    file.seek(0)
    loaded = CellScatter.load(file)
    assert repr(loaded) == repr(record)
    for name in ("factors", "rest"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(record, name))
    np.testing.assert_array_equal(loaded.cells.codes, record.cells.codes)
    for one, other in zip(loaded.cells.levels, record.cells.levels, strict=True):
        assert one.equals(other)
        assert one.name == other.name
    GroupedScatter.from_arrays(np.zeros((4, 1)), np.arange(4.0), [1, 1, 2, 2], slopes=()).save(tmp_path / "grouped")
    with pytest.raises(ValueError, match="holds a record of one column of labels"):
        CellScatter.load(tmp_path / "grouped")


def test_records_of_other_columns_do_not_merge(rows, record):
    fewer = CellScatter.from_arrays(rows[["x"]], rows["y"], rows[["school", "item"]], slopes="x")
    with pytest.raises(
        ValueError, match=r"different columns of labels: \['school', 'class', 'item'\] and \['school', 'item'\]"
    ):
        record.merge(fewer)
    grouped = GroupedScatter.from_arrays(rows[["x"]], rows["y"], rows["school"], slopes="x")
    with pytest.raises(TypeError, match="merge takes records of cells, CellScatter; found GroupedScatter"):
        record.merge(grouped)
    with pytest.raises(TypeError, match="unsupported operand"):
        record + 1
    with pytest.raises(TypeError, match="unsupported operand"):
        1 + record
    with pytest.raises(ValueError, match="groups must be a frame with a column for each column of labels"):
        CellScatter.from_arrays(rows[["x"]], rows["y"], rows["school"])
    with pytest.raises(ValueError, match=r"no batches|no rows|no records"):
        CellScatter.from_batches([])


def test_parts_may_come_in_any_iterable(rows, record):
    parts = [CellScatter.from_arrays(rows[["x"]][i::3], rows["y"][i::3], rows[LABELS][i::3], slopes="x") for i in range(3)]
    check_same(parts[0].merge(part for part in parts[1:]), record)
    check_same(parts[0].merge(parts[1], [parts[2]]), record)


def test_it_shows_its_size(record):
    assert repr(record) == (
        f"CellScatter(n_cells={record.n_groups}, levels=(school 12, class 3, item 9), n_features=1, slopes=('x',), "
        "n_rows=240, total_weight=240)"
    )
