"""Rows are paired by position; every function refuses containers whose index or mask contradicts that."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from designs import simulate

from sklearn_mlm import (
    ClusterRobustOLS,
    GroupedMoments,
    RandomInterceptRegressor,
    WithinOLS,
    compare_with_ols,
    cross_validate_groups,
    inference,
    make_group_scorer,
)
from sklearn_mlm.dask import DaskRandomInterceptRegressor
from sklearn_mlm.display import ClusteringDisplay
from sklearn_mlm.moments._rows import check_containers

ROWS = simulate(12, 8, 2)
MODEL = RandomInterceptRegressor().fit(ROWS[0], ROWS[1], groups=ROWS[2])
DASK_MODEL = DaskRandomInterceptRegressor().fit(ROWS[0], ROWS[1], groups=ROWS[2])


def lazily(method):
    """Call a method of a Dask model with the arguments as collections of two partitions."""

    def call(**rows):
        frames = {name: dd.from_pandas(rows[name], npartitions=2, sort=False) for name in rows}
        result = method(**frames)
        return result.compute() if isinstance(result, da.Array) else result

    return call


# Functions that take X, y, groups or sample_weight, with the names of those they take.
CALLS = {
    "fit": (RandomInterceptRegressor().fit, "X y groups sample_weight"),
    "partial_fit": (RandomInterceptRegressor().partial_fit, "X y groups sample_weight"),
    "update_random_effects": (MODEL.update_random_effects, "X y groups sample_weight"),
    "predict": (MODEL.predict, "X groups"),
    "score": (MODEL.score, "X y groups sample_weight"),
    "summary": (MODEL.summary, "X y groups sample_weight"),
    "from_arrays": (GroupedMoments.from_arrays, "X y groups sample_weight"),
    "from_batches": (
        lambda X, y, groups, sample_weight=None: GroupedMoments.from_batches([(X, y, groups, sample_weight)]),
        "X y groups sample_weight",
    ),
    "ClusterRobustOLS.fit": (ClusterRobustOLS().fit, "X y groups sample_weight"),
    "WithinOLS.fit": (WithinOLS().fit, "X y groups sample_weight"),
    "compare_with_ols": (compare_with_ols, "X y groups"),
    "cross_validate_groups": (
        lambda X, y, groups, sample_weight=None: cross_validate_groups(
            RandomInterceptRegressor(), X, y, groups, sample_weight=sample_weight, cv=2
        ),
        "X y groups sample_weight",
    ),
    "predict_interval": (lambda **rows: inference.predict_interval(MODEL, **rows), "X groups sample_weight"),
    "r2": (lambda X, groups: inference.r2(MODEL, X, groups), "X groups"),
    "icc": (lambda X, groups: inference.icc(MODEL, kind="unadjusted", X=X, groups=groups), "X groups"),
    "ClusteringDisplay": (
        lambda X, y, groups: ClusteringDisplay.from_data(X if isinstance(X, pd.Series) else X[:, 0], y, groups),
        "X y groups",
    ),
    "Dask fit": (lazily(DaskRandomInterceptRegressor().fit), "X y groups sample_weight"),
    "Dask predict": (lazily(DASK_MODEL.predict), "X groups"),
    "Dask score": (lazily(DASK_MODEL.score), "X y groups sample_weight"),
}
PAIRS = [(call, name) for call, (_, names) in CALLS.items() for name in names.split()[1:]]
MASKABLE = [
    (call, name) for call, (_, names) in CALLS.items() if "Dask" not in call for name in names.split() if name != "groups"
]


def pandas_rows(call):
    """The arguments of a call as pandas objects with the same shuffled index."""
    X, y, groups = ROWS
    index = np.random.default_rng(0).permutation(len(y))
    X = pd.Series(X[:, 0], index=index) if call == "ClusteringDisplay" else pd.DataFrame(X, index=index)
    rows = {"X": X, "y": y, "groups": groups, "sample_weight": 1.0 + np.arange(len(y)) % 2}
    return {name: rows[name] if name == "X" else pd.Series(rows[name], index=index) for name in CALLS[call][1].split()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("call", "name"), PAIRS)
def test_two_orders_of_one_index_are_refused_and_both_arguments_named(call, name):
    rows = pandas_rows(call)
    function = CALLS[call][0]
    function(**rows)
    other = rows[name].sort_index()
    if call == "Dask predict":
        # A lazy prediction sees one partition at a time.
        half = -(-len(other) // 2)
        other = pd.concat([rows[name][:half][::-1], rows[name][half:]])
    with pytest.raises(ValueError, match=rf"[Xx] and {name} hold the same index in different orders"):
        function(**{**rows, name: other})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", [call for call in CALLS if "Dask" not in call])
def test_other_indexes_are_paired_by_position(call):
    rows = pandas_rows(call)
    function = CALLS[call][0]
    # Labels that X has not, labels that repeat, and no labels at all.
    n_rows = len(rows["X"])
    for index in (pd.RangeIndex(5, 5 + n_rows), pd.Index(np.zeros(n_rows)), None):
        for name in list(rows)[1:]:
            values = rows[name].to_numpy() if index is None else rows[name].set_axis(index)
            function(**{**rows, name: values})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("call", "name"), MASKABLE)
def test_masked_values_are_refused_by_name(call, name):
    rows = {key: value.to_numpy() for key, value in pandas_rows(call).items()}
    if call == "ClusteringDisplay":
        rows["X"] = rows["X"][:, None]
    values = np.ma.masked_array(rows[name], mask=np.zeros(rows[name].shape, dtype=bool))
    CALLS[call][0](**{**rows, name: values})
    values[3] = np.ma.masked
    argument = "x" if call == "ClusteringDisplay" and name == "X" else name
    with pytest.raises(ValueError, match=rf"{argument} is a masked array with \d+ masked value"):
        CALLS[call][0](**{**rows, name: values})


def test_a_mixed_index_that_cannot_be_sorted_is_compared_too():
    X, y, groups = ROWS
    index = pd.Index(["a", *range(1, len(y))], dtype=object)
    groups = pd.Series(groups, index=index)
    with pytest.raises(ValueError, match="same index in different orders"):
        RandomInterceptRegressor().fit(pd.DataFrame(X, index=index), y, groups=groups[::-1])


def test_every_pair_of_arguments_is_compared():
    X, y, groups = ROWS
    other = np.random.default_rng(0).permutation(len(y))
    frame = pd.DataFrame(X, index=range(1_000, 1_000 + len(y)))
    with pytest.raises(ValueError, match="y and groups hold the same index in different orders"):
        RandomInterceptRegressor().fit(frame, pd.Series(y), groups=pd.Series(groups)[other])
    with pytest.raises(ValueError, match="y and groups hold the same index in different orders"):
        make_group_scorer("r2")(MODEL, X, pd.Series(y), groups=pd.Series(groups)[other])


INDEXES = {
    "range": pd.RangeIndex(6),
    "floats": pd.Index([0.5, 1, 2, 3, 4, 5]),
    "strings": pd.Index(list("abcdef")),
    "levels": pd.MultiIndex.from_product([[0, 1, 2], ["a", "b"]]),
    "times": pd.date_range("2020", periods=6),
    "periods": pd.period_range("2020", periods=6),
    "spans": pd.to_timedelta(range(6), unit="D"),
    "intervals": pd.interval_range(0, 6),
    "nullable": pd.Index(pd.array(range(6), dtype="Int64")),
    "mixed": pd.Index([0, "a", 2.5, (1,), None, b"x"], dtype=object),
    "categories": pd.CategoricalIndex(list("abcdef")),
    "constant": pd.Index([0] * 6),
    "lists": pd.Index([[at] for at in range(6)]),
}


@pytest.mark.parametrize("first", INDEXES)
@pytest.mark.parametrize("second", INDEXES)
def test_indexes_of_any_kinds_are_compared_without_an_error(first, second):
    X, y = pd.Series(np.arange(6.0), index=INDEXES[first]), pd.Series(np.arange(6.0), index=INDEXES[second])
    check_containers(X=X, y=y)
    if first == second and first not in ("constant", "lists"):
        with pytest.raises(ValueError, match="different orders"):
            check_containers(X=X, y=y[::-1])
