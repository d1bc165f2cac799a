import numpy as np
import pandas as pd
import pytest

from sklearn_mlm.moments._label_tables import HashedLabels, NumberedLabels, append_labels


@pytest.mark.parametrize(
    "convert", [str, float, lambda label: (label, "x"), lambda label: label if label % 2 else str(label)]
)
def test_hashed_labels_keep_their_codes_from_batch_to_batch(convert):
    rng = np.random.default_rng(0)
    table, known = HashedLabels(), {}
    for size in (3, 50, 1, 200, 40, 400):
        labels = np.empty(size, dtype=object)
        labels[:] = [convert(int(number)) for number in rng.integers(0, 300, size)]
        for label, code in zip(labels, table.encode(labels), strict=True):
            assert known.setdefault(label, code) == code
    assert sorted(known.values()) == list(range(len(known)))
    assert table.size == len(known)
    labels = table.labels(np.ones(table.size, dtype=bool))
    assert [known[label] for label in labels] == list(range(len(known)))
    # A few indexes, however many batches there were.
    assert len(table._indexes) <= 9


def test_integers_beyond_doubles_stay_apart_beside_other_labels():
    ids = pd.Index([2**60 + at for at in range(3)])
    both = append_labels([ids, pd.Index([0.5]), pd.Index(["a"])])
    assert both.tolist() == [*ids, 0.5, "a"]
    table = HashedLabels()
    assert table.encode(ids.to_numpy()).tolist() == [0, 1, 2]
    assert table.encode(np.array([0.5])).tolist() == [3]
    assert table.encode(ids.to_numpy(dtype=object)).tolist() == [0, 1, 2]


def test_a_label_is_itself_whatever_the_type_of_its_batch():
    table = HashedLabels()
    first = table.encode(np.array(["a", "b"], dtype=object))
    assert table.encode(pd.Categorical(["b", "c"], categories=["unused", "c", "b"])).tolist() == [first[1], 2]
    assert table.size == 3
    numbers = HashedLabels()
    assert (
        numbers.encode(np.array([10**18 + 1, 5])).tolist()
        == numbers.encode(np.array([10**18 + 1, 5], dtype=object)).tolist()
    )


def test_numbers_have_their_distance_for_a_code_as_long_as_they_are_in_range():
    table = NumberedLabels.starting_with(np.array([5, 2, 9]), 3)
    assert table.encode(np.array([5, 2, 9])).tolist() == [5, 2, 9]
    assert table.size == 10
    used = np.zeros(10, dtype=bool)
    used[[2, 5, 9]] = True
    assert table.labels(used).tolist() == [2, 5, 9]
    assert table.encode(np.array([-1])) is None
    assert table.encode(np.array([10**9])) is None
    assert table.encode(np.array([2.0])) is None
    assert table.encode(np.array([3], dtype=np.int8)).tolist() == [3]


def test_numbers_far_from_zero_leave_room_below():
    table = NumberedLabels.starting_with(np.array([10**15, 10**15 + 100]), 3)
    assert (table.encode(np.array([10**15 - 50])) >= 0).all()
    codes = table.encode(np.array([10**15 - 50, 10**15]))
    assert codes[1] - codes[0] == 50


@pytest.mark.parametrize("labels", [np.array([0, 10**9]), np.array([0.0, 1.0]), np.array(["a"]), np.array([], dtype=int)])
def test_labels_without_a_narrow_range_of_numbers_have_no_such_table(labels):
    assert NumberedLabels.starting_with(labels, 3) is None


def test_few_numbers_far_apart_take_no_more_slots_than_sums_of_64_megabytes():
    # A hundred groups among 100,000 numbers, in so many rows that a slot a row would be no matter.
    labels = np.tile(np.arange(0, 100_000, 1_000), 10_000)
    assert NumberedLabels.starting_with(labels, 5) is not None
    assert NumberedLabels.starting_with(labels, 500) is None
    assert NumberedLabels.starting_with(np.arange(100_000), 500) is not None


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint64])
def test_numbers_of_any_width_have_slots(dtype):
    info = np.iinfo(dtype)
    labels = np.array([max(info.min, -128), 0, min(info.max, 100)], dtype=dtype)
    # With no slots to spare, the number of labels counts, which has to be found without an overflow.
    assert NumberedLabels.starting_with(labels, 10**9) is None
    table = NumberedLabels.starting_with(labels, 3)
    assert np.array_equal(np.diff(table.encode(labels)), np.diff(labels.astype(int)))
    near = np.arange(100, 110).astype(dtype)
    assert NumberedLabels.starting_with(near, 10**9).encode(near).tolist() == list(range(10, 20))


@pytest.mark.parametrize(
    ("parts", "dtype"),
    [
        (([1, 2], np.array([3], dtype=np.int32)), np.int64),
        (([1, 2], np.array([3], dtype=np.uint64)), np.int64),
        (([1], np.array([2**63], dtype=np.uint64)), np.uint64),
        (([-1], np.array([2**63], dtype=np.uint64)), object),
        (([1, 2], pd.array([3], dtype="Int64")), np.int64),
        (([1, 2], [0.5]), np.float64),
        (([2**60], [0.5]), object),
        (([1], ["a"]), object),
        ((pd.to_datetime(["2020"]).as_unit("s"), pd.to_datetime(["2021"]).as_unit("ns")), "datetime64[ns]"),
        ((pd.to_timedelta([1], unit="s").as_unit("s"), pd.to_timedelta([2], unit="s").as_unit("ns")), "timedelta64[ns]"),
    ],
)
def test_appended_labels_have_a_type_that_holds_all_of_them(parts, dtype):
    indexes = [pd.Index(part) for part in parts]
    both = append_labels(indexes)
    assert both.dtype == dtype
    assert [label for index in indexes for label in index] == list(both)
