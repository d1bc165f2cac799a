"""The estimator on Dask collections: the local answers, wherever the rows are and whatever happens to workers."""

import inspect
import os
import pickle
import re
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from designs import simulate
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError, UndefinedMetricWarning
from sklearn.metrics import r2_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_mlm import GroupedMoments, GroupsNotPassedWarning, RandomInterceptRegressor, inference
from sklearn_mlm.dask import DaskRandomInterceptRegressor

reason = "needs the extra 'dask': pip install 'sklearn-mlm[dask]'"
dask = pytest.importorskip("dask", reason=reason)
da = pytest.importorskip("dask.array", reason=reason)
dd = pytest.importorskip("dask.dataframe", reason=reason)
distributed = pytest.importorskip("distributed", reason=reason)
cloudpickle = pytest.importorskip("cloudpickle", reason=reason)

# Workers cannot import tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

COLUMNS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def client():
    """Client of two worker processes, which is not the current one."""
    with start_cluster() as client:
        yield client


@contextmanager
def start_cluster(**options):
    """Start two processes, at ports that are free, and stop them."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, **options}
    options["scheduler_kwargs"] = {"dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def frame():
    """Rows in no order, of groups named by strings."""
    X, y, groups = simulate(30, 12, seed=1)
    frame = pd.DataFrame(X, columns=COLUMNS).assign(y=y, school=[f"school {j:02}" for j in groups])
    return frame.assign(w=np.random.default_rng(0).integers(0, 3, len(y)) + 0.5)


def fit_local(frame, weights=None, **parameters):
    model = RandomInterceptRegressor(**parameters)
    return model.fit(frame[COLUMNS], frame["y"], frame["school"], None if weights is None else frame[weights])


def fit(rows, weights=None, **parameters):
    model = DaskRandomInterceptRegressor(**parameters)
    return model.fit(rows[COLUMNS], rows["y"], rows["school"], None if weights is None else rows[weights])


def arrays(frame, chunks=50, columns=-1):
    """X, y and groups as Arrays."""
    X = da.from_array(frame[COLUMNS].to_numpy(), chunks=(chunks, columns))
    groups = frame["school"].to_numpy(dtype=object)
    return X, da.from_array(frame["y"].to_numpy(), chunks=chunks), da.from_array(groups, chunks=chunks)


def assert_same(model, local, rtol=1e-10):
    """Assert that a model has the attributes of another one."""
    for name in ("coef_", "intercept_", "icc_", "criterion_", "log_likelihood_", "aic_", "bic_"):
        np.testing.assert_allclose(getattr(model, name), getattr(local, name), rtol=rtol, err_msg=name)
    np.testing.assert_allclose(model.variance_components_, local.variance_components_, rtol=rtol)
    np.testing.assert_allclose(model.cov_fixed_, local.cov_fixed_, rtol=rtol, atol=rtol * np.abs(local.cov_fixed_).max())
    assert list(model.groups_) == list(local.groups_)
    spread = np.abs(local.random_effects_).max()
    np.testing.assert_allclose(model.random_effects_, local.random_effects_, atol=rtol * spread)
    np.testing.assert_array_equal(model.moments_.n_rows, local.moments_.n_rows)
    assert (model.boundary_, model.n_groups_, model.n_features_in_) == (
        local.boundary_,
        local.n_groups_,
        local.n_features_in_,
    )


# ---- the local answers


def split(rows):
    return rows[COLUMNS], rows["y"], rows["school"]


def in_pieces(frame, *cuts):
    """The frame in partitions of unknown divisions, cut before these rows."""
    return dd.from_map(lambda rows: frame.iloc[rows], [slice(*ends) for ends in zip((0, *cuts), (*cuts, None), strict=True)])


def with_labels(change):
    return lambda frame: split(dd.from_pandas(frame, npartitions=6).assign(school=lambda rows: change(rows["school"])))


def as_arrays(**options):
    return lambda frame: [part.to_dask_array(**options) for part in split(dd.from_pandas(frame, npartitions=6))]


def cut_differently(frame):
    cut = [dd.from_pandas(frame, npartitions=n) for n in (6, 2, 9)]
    return cut[0][COLUMNS], cut[1]["y"], cut[2]["school"]


def of_two_kinds(frame):
    X, y, groups = split(dd.from_pandas(frame, npartitions=6))
    return X, y.to_dask_array(), groups.to_dask_array(lengths=True)


FORMS = {
    "frame": lambda frame: split(dd.from_pandas(frame, npartitions=6)),
    "one partition": lambda frame: split(dd.from_pandas(frame, npartitions=1)),
    "a partition for each few rows": lambda frame: split(in_pieces(frame, *range(5, 325, 5))),  # 65: one is left of the tree
    "unknown divisions": lambda frame: split(dd.from_pandas(frame, npartitions=6).clear_divisions()),
    "divisions of their own": cut_differently,
    "empty partitions": lambda frame: split(in_pieces(frame, 0, 40, 40, 40, 100, len(frame))),
    "plain objects": with_labels(lambda labels: labels.astype(object)),
    "known categories": with_labels(lambda labels: labels.astype("category").cat.as_known()),
    "unknown categories": with_labels(lambda labels: labels.astype("category")),
    "categories of each partition": with_labels(lambda labels: labels.map_partitions(lambda part: part.astype("category"))),
    "arrays": lambda frame: arrays(frame),
    "arrays with chunks of columns": lambda frame: arrays(frame, columns=1),
    "arrays with chunks of their own": lambda frame: [array.rechunk(n) for n, array in zip((50, 9, 70), arrays(frame))],
    "arrays of unknown lengths": as_arrays(),
    "arrays of a frame": as_arrays(lengths=True),
    "a frame with arrays": of_two_kinds,
    "an array with series": lambda frame: (as_arrays(lengths=True)(frame)[0], *FORMS["frame"](frame)[1:]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:Dask currently has limited support for converting pandas extension dtypes")
def test_every_form_of_collection_gives_the_local_model(frame, form):
    X, y, groups = FORMS[form](frame)
    model, local = DaskRandomInterceptRegressor().fit(X, y, groups), fit_local(frame)
    assert_same(model, local)
    assert hasattr(model, "feature_names_in_") == isinstance(X, dd.DataFrame)
    assert model.moments_.outcome_name == (y.name if isinstance(y, dd.Series) else None)
    predicted = model.predict(X, groups)
    assert isinstance(predicted, da.Array)
    np.testing.assert_allclose(predicted.compute(), local.predict(frame[COLUMNS], frame["school"]), rtol=1e-10)
    np.testing.assert_allclose(
        model.score(X, y, groups), local.score(frame[COLUMNS], frame["y"], frame["school"]), rtol=1e-10
    )


@pytest.mark.parametrize("parameters", [{}, {"method": "ml", "fit_intercept": False}, {"weight_type": "precision"}])
def test_processes_give_the_local_model(client, frame, parameters):
    rows = dd.from_pandas(frame, npartitions=20)
    model, local = fit(rows, "w", client=client, **parameters), fit_local(frame, "w", **parameters)
    assert_same(model, local)
    np.testing.assert_array_equal(model.feature_names_in_, COLUMNS)
    assert model.groups_.name == model.random_effects_.index.name == "school"
    lazy = model.predict(rows[COLUMNS], rows["school"], return_std=True)
    expected = local.predict(frame[COLUMNS], frame["school"], return_std=True)
    for values, right in zip(client.compute(lazy, sync=True), expected, strict=True):
        np.testing.assert_allclose(values, right, rtol=1e-10)
    score = local.score(frame[COLUMNS], frame["y"], frame["school"], frame["w"])
    np.testing.assert_allclose(model.score(rows[COLUMNS], rows["y"], rows["school"], rows["w"]), score, rtol=1e-10)


def test_the_client_computes_and_without_one_the_current_one(client, frame, tmp_path):
    main = os.getpid()

    def note(part, folder):
        (folder / str(os.getpid())).touch()
        return part

    def processes_of(fitted, name):
        folder = tmp_path / name
        folder.mkdir()
        rows = dd.from_pandas(frame, npartitions=4).map_partitions(note, folder, meta=frame.iloc[:0])
        fitted(rows)
        return {int(path.name) for path in folder.iterdir()}

    assert main not in processes_of(lambda rows: fit(rows, client=client), "given")
    with client.as_current():
        assert main not in processes_of(fit, "current")
    assert processes_of(fit, "none") == {main}


def test_a_killed_worker_does_not_change_the_answer(client, frame, tmp_path):
    def die_once(part, killed):
        if len(part) and part.index[0] > 100 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    before = set(client.run(os.getpid).values())
    rows = dd.from_pandas(frame, npartitions=30).map_partitions(die_once, tmp_path / "killed", meta=frame.iloc[:0])
    model = fit(rows, client=client)
    assert (tmp_path / "killed").exists()
    client.wait_for_workers(2, timeout=30)
    assert set(client.run(os.getpid).values()) != before
    assert_same(model, fit_local(frame))


def test_rows_beyond_the_memory_of_the_workers():
    n_rows, n_parts, n_different, limit = 200_000, 72, 4, 512 * 2**20
    columns = [f"x{i}" for i in range(10)]

    def generate(number):
        rng = np.random.default_rng(number % n_different)
        part = pd.DataFrame(rng.random((n_rows, 10)), columns=columns)
        groups = rng.integers(0, 1000, n_rows)
        return part.assign(y=part["x0"] + np.sin(groups) + rng.random(n_rows), group=groups)

    rows = dd.from_map(generate, range(n_parts), meta=generate(0).iloc[:0])
    assert n_parts * n_rows * 12 * 8 > 1.25 * 2 * limit
    with start_cluster(memory_limit=limit) as client:
        before = client.run(os.getpid)
        model = DaskRandomInterceptRegressor(client=client).fit(rows[columns], rows["y"], rows["group"])
        assert client.run(os.getpid) == before  # none was restarted for want of memory
    assert model.moments_.n_rows.sum() == n_parts * n_rows
    parts = map(generate, range(n_different))
    moments = [GroupedMoments.from_arrays(part[columns], part["y"], part["group"]) for part in parts]
    whole = GroupedMoments.merge(moments * (n_parts // n_different))
    assert_same(model, RandomInterceptRegressor().fit_moments(whole))


def test_rows_come_in_parts(frame):
    rows = dd.from_pandas(frame, npartitions=8)
    model = DaskRandomInterceptRegressor()
    for part in (rows.partitions[:3], rows.partitions[3:4], rows.partitions[4:]):
        model.partial_fit(part[COLUMNS], part["y"], part["school"])
    assert_same(model, fit_local(frame))
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(rows[COLUMNS[::-1]], rows["y"], rows["school"])
    none = rows["w"].partitions[:2] * 0
    model.partial_fit(*split(rows.partitions[:2]), none)  # rows of no weight are no rows
    assert_same(model, fit_local(frame))
    in_memory = DaskRandomInterceptRegressor().partial_fit(frame[COLUMNS][:90], frame["y"][:90], frame["school"][:90])
    rest = dd.from_pandas(frame[90:], npartitions=3)
    assert_same(in_memory.partial_fit(rest[COLUMNS], rest["y"], rest["school"]), fit_local(frame))


def test_a_partition_whose_weights_are_all_zero_is_no_rows(frame):
    frame["w"] = np.where(np.arange(len(frame)) < 60, 0.0, frame["w"])
    rows = dd.from_pandas(frame, npartitions=10)
    assert_same(fit(rows, "w"), fit_local(frame, "w"))
    np.testing.assert_allclose(
        fit(rows, "w").score(rows[COLUMNS], rows["y"], rows["school"], rows["w"]),
        fit_local(frame, "w").score(frame[COLUMNS], frame["y"], frame["school"], frame["w"]),
        rtol=1e-10,
    )
    frame.loc[3, "a"] = np.nan
    with pytest.raises(ValueError, match=r"Column 'a' of X has 1 missing value\(s\)"):
        fit(dd.from_pandas(frame, npartitions=10), "w")


def test_one_weight_for_all_rows(frame):
    rows = dd.from_pandas(frame, npartitions=3)
    model = DaskRandomInterceptRegressor().fit(rows[COLUMNS], rows["y"], rows["school"], sample_weight=2)
    assert_same(model, RandomInterceptRegressor().fit(*split(frame), sample_weight=2))


def test_the_null_model_by_none_and_by_a_frame_of_groups_alone(frame):
    rows = dd.from_pandas(frame, npartitions=3)
    local = RandomInterceptRegressor().fit(None, frame["y"], frame["school"])
    by_none = DaskRandomInterceptRegressor().fit(None, rows["y"], rows["school"])
    assert_same(by_none, local)
    by_frame = DaskRandomInterceptRegressor(group_feature="school").fit(rows[["school"]], rows["y"])
    np.testing.assert_allclose(by_frame.variance_components_, local.variance_components_, rtol=1e-10)
    expected = local.predict(None, frame["school"])
    np.testing.assert_allclose(by_none.predict(None, rows["school"]).compute(), expected, rtol=1e-10)
    np.testing.assert_allclose(by_frame.predict(rows[["school"]]).compute(), expected, rtol=1e-10)


def test_the_group_feature_takes_the_place_of_groups(frame):
    rows = dd.from_pandas(frame, npartitions=4)
    local = RandomInterceptRegressor(group_feature="school").fit(frame[["a", "school", "b"]], frame["y"])
    model = DaskRandomInterceptRegressor(group_feature="school").fit(rows[["a", "school", "b"]], rows["y"])
    assert_same(model, local)
    np.testing.assert_array_equal(model.feature_names_in_, ["a", "school", "b"])
    predicted = model.predict(rows[["a", "school", "b"]])
    np.testing.assert_allclose(predicted.compute(), local.predict(frame[["a", "school", "b"]]), rtol=1e-10)
    X, y, groups = simulate()
    with_column = np.column_stack([X, groups])
    by_position = DaskRandomInterceptRegressor(group_feature=-1)
    by_position.fit(da.from_array(with_column, chunks=(20, 2)), da.from_array(y, chunks=20))
    assert_same(by_position, RandomInterceptRegressor(group_feature=-1).fit(with_column, y))


def test_without_groups_it_is_least_squares_and_says_so(frame):
    rows = dd.from_pandas(frame, npartitions=4)
    with pytest.warns(GroupsNotPassedWarning, match="fit was given no groups") as caught:
        model = DaskRandomInterceptRegressor().fit(rows[COLUMNS], rows["y"])
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(GroupsNotPassedWarning):
        assert_same(model, RandomInterceptRegressor().fit(frame[COLUMNS], frame["y"]))


def test_sparse_blocks(frame):
    X, y, groups = arrays(frame)
    model = DaskRandomInterceptRegressor().fit(X.map_blocks(sparse.csr_matrix, dtype=float), y, groups)
    assert_same(model, fit_local(frame))


def test_a_column_vector_is_taken_with_one_warning(frame):
    rows = dd.from_pandas(frame, npartitions=4)
    X, y, groups = arrays(frame)
    for arguments in [(rows[COLUMNS], rows[["y"]], rows["school"]), (X, y[:, None], groups)]:
        with pytest.warns(DataConversionWarning) as caught:
            model = DaskRandomInterceptRegressor().fit(*arguments)
        assert len(caught) == 1
        assert_same(model, fit_local(frame))


def test_what_collections_share_is_computed_once(frame):
    computed = []

    def load(number):
        computed.append(number)
        return frame.iloc[number * 50 : (number + 1) * 50]

    rows = dd.from_map(load, range(4), meta=frame.iloc[:0])
    with dask.config.set(scheduler="synchronous"):
        model = fit(rows, "w")
        assert sorted(computed) == [0, 1, 2, 3]
        computed.clear()
        model.score(rows[COLUMNS], rows["y"], rows["school"], rows["w"])
        assert sorted(computed) == [0, 1, 2, 3]
        computed.clear()
        dask.compute(model.predict(rows[COLUMNS], rows["school"], return_std=True))
        assert sorted(computed) == [0, 1, 2, 3]


def test_only_the_columns_in_use_are_read_from_files(frame, tmp_path):
    rows = dd.from_pandas(frame, npartitions=3)
    rows.to_parquet(tmp_path, write_index=False)
    files = dd.read_parquet(tmp_path)
    # A file that lacks a column is no error before the column is read.
    rows.partitions[1].compute()[[*COLUMNS, "y", "school"]].to_parquet(tmp_path / "part.1.parquet", index=False)
    assert_same(fit(files), fit_local(frame))
    with pytest.raises(Exception, match="w"):
        fit(files, "w")


def test_files_of_some_columns_each(frame, tmp_path):
    # Dask reads several files at once where few columns of them are needed, and has to do the same with all of them.
    many = dd.from_pandas(frame, npartitions=12)
    many[[*COLUMNS, "w", "y"]].to_parquet(tmp_path / "some")
    many[["school"]].to_parquet(tmp_path / "others")
    some, others = dd.read_parquet(tmp_path / "some"), dd.read_parquet(tmp_path / "others")
    local = fit_local(frame)
    assert_same(DaskRandomInterceptRegressor().fit(some[COLUMNS], some["y"], others["school"]), local)
    assert_same(DaskRandomInterceptRegressor().fit(some[COLUMNS], some["y"], many["school"].clear_divisions()), local)
    assert_same(DaskRandomInterceptRegressor().fit(some[COLUMNS], some["y"], many["school"].to_dask_array()), local)
    null = RandomInterceptRegressor().fit(None, frame["y"], frame["school"])
    assert_same(DaskRandomInterceptRegressor().fit(None, some["y"], others["school"]), null)
    predicted = fit(many).predict(some[COLUMNS], others["school"])
    np.testing.assert_allclose(predicted.compute(), local.predict(frame[COLUMNS], frame["school"]), rtol=1e-10)


# ---- predictions


def test_predictions_are_computed_when_asked_for(frame):
    computed = []

    def watch(part):
        computed.append(len(part))
        return part

    rows = dd.from_pandas(frame, npartitions=4)
    model = fit(rows)
    watched = rows[COLUMNS].map_partitions(watch, meta=frame[COLUMNS].iloc[:0])
    mean, std = model.predict(watched, rows["school"], return_std=True)
    assert mean.dtype == std.dtype == float
    assert mean.numblocks == std.numblocks == (4,)
    assert computed == []
    with dask.config.set(scheduler="synchronous"):
        dask.compute(mean, std)
    assert sum(computed) == len(frame)
    X, y, groups = arrays(frame, chunks=70)
    predicted = DaskRandomInterceptRegressor().fit(X, y, groups).predict(X, groups)
    assert predicted.chunks == y.chunks


def test_a_known_group_a_new_group_and_no_group(frame):
    model, local = fit(dd.from_pandas(frame, npartitions=4)), fit_local(frame)
    new = frame[COLUMNS].iloc[:4].assign(school=["school 03", "elsewhere", None, "school 05"])
    rows = in_pieces(new, 0, 2, 2)
    for new_groups in ("population", "nan"):
        model.set_params(new_groups=new_groups)
        local.set_params(new_groups=new_groups)
        expected = local.predict(new[COLUMNS], new["school"], return_std=True)
        found = dask.compute(*model.predict(rows[COLUMNS], rows["school"], return_std=True))
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    refused = model.set_params(new_groups="error").predict(rows[COLUMNS], rows["school"])
    with pytest.raises(
        ValueError, match=r"1 label\(s\) that fit has not seen, among them \['elsewhere'\](.|\n)*partition 1 "
    ):
        refused.compute()
    with pytest.raises(ValueError, match="Input contains NaN"):
        model.set_params(new_groups="nan").score(rows[COLUMNS], rows["a"], rows["school"])


def test_the_population_prediction_is_asked_for_or_warned_of(frame):
    rows = dd.from_pandas(frame, npartitions=4)
    model = fit(rows)
    expected = fit_local(frame).predict(frame[COLUMNS], "population")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(model.predict(rows[COLUMNS], "population").compute(), expected, rtol=1e-10)
    with pytest.warns(GroupsNotPassedWarning, match="predict was given no groups") as caught:
        predicted = model.predict(rows[COLUMNS])
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(predicted.compute(), expected, rtol=1e-10)


def test_labels_of_another_type_are_warned_of_before_anything_is_computed(frame):
    rows = dd.from_pandas(frame.assign(number=frame["school"].str[-2:].astype(int)), npartitions=4)
    model = fit(rows)
    with pytest.warns(UserWarning, match=r"another type \(number\).*\(string\)") as caught:
        model.predict(rows[COLUMNS], rows["number"])
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(rows[COLUMNS], rows["number"].astype("category"))
        model.predict(rows[COLUMNS], rows["school"].astype(object))


def task_sizes(lazy):
    return sorted(len(cloudpickle.dumps(task)) for task in dict(lazy.__dask_graph__()).values())


def test_the_model_is_in_the_graph_of_predictions_once():
    n_groups = 20_000
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_groups), 2)
    model = DaskRandomInterceptRegressor().fit(None, rng.standard_normal(n_groups)[groups] + rng.random(len(groups)), groups)
    labels = da.from_array(groups.astype(np.int32), chunks=1000)
    lazy = model.predict(None, labels.map_blocks(lambda block: block + 0))
    sizes = task_sizes(lazy)
    assert sizes[-1] > 8 * n_groups
    assert len(sizes) >= 40
    assert sum(sizes[:-1]) < sizes[-1]
    # The moments stay at home where no standard deviation is asked for.
    assert sizes[-1] < 0.7 * task_sizes(model.predict(None, labels, return_std=True)[0])[-1]
    np.testing.assert_allclose(lazy.compute(), model.to_local().predict(None, groups), rtol=1e-12)


def test_threads_share_a_model():
    groups = np.repeat(np.arange(20_000), 2)
    y = np.random.default_rng(0).standard_normal(20_000)[groups] + np.arange(40_000) % 2
    model = DaskRandomInterceptRegressor().fit(None, y, groups)
    expected = model.predict(None, groups)
    for _ in range(10):
        again = pickle.loads(pickle.dumps(model))  # which has looked nothing up yet
        lazy = again.predict(None, da.from_array(groups, chunks=2000))
        np.testing.assert_allclose(lazy.compute(scheduler="threads", num_workers=4), expected, rtol=1e-12)


def test_the_score_is_r2_however_far_from_zero(frame):
    frame["y"] += 1e8
    rows = dd.from_pandas(frame, npartitions=4)
    model = fit(rows)
    expected = r2_score(frame["y"], fit_local(frame).predict(frame[COLUMNS], frame["school"]))
    np.testing.assert_allclose(model.score(*split(rows)), expected, rtol=1e-7)


def test_the_score_of_constant_outcomes_and_of_too_few_is_that_of_scikit_learn(frame):
    rows = dd.from_pandas(frame, npartitions=4)
    model = fit(rows)
    assert model.score(rows[COLUMNS], rows["y"] * 0 + 0.1, rows["school"]) == 0.0
    with pytest.warns(UserWarning, match="y is constant"):
        constant = DaskRandomInterceptRegressor().fit(None, rows["y"] * 0 + 0.1, rows["school"])
    assert constant.score(None, rows["y"] * 0 + 0.1, rows["school"]) == 1.0
    one = in_pieces(frame.iloc[:1], 0)
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(model.score(*split(one)))
    with pytest.raises(ValueError, match="0 sample"):
        model.score(*split(one.partitions[:1]))


def test_the_summary_is_the_local_one(frame):
    rows = dd.from_pandas(frame, npartitions=4)
    for parameters in ({}, {"weight_type": "precision"}):
        model, local = fit(rows, "w", **parameters), fit_local(frame, "w", **parameters)
        found = model.summary(rows[COLUMNS], rows["y"], rows["school"], sample_weight=rows["w"])
        assert str(found) == str(local.summary(*split(frame), sample_weight=frame["w"]))
        assert str(model.summary()) == str(RandomInterceptRegressor(**parameters).fit_moments(local.moments_).summary())


# ---- the class


def test_the_local_model_has_all_that_was_fitted(client, frame):
    rows = dd.from_pandas(frame, npartitions=4)
    model = fit(rows, client=client, new_groups="nan", method="ml")
    local = model.to_local()
    assert type(local) is RandomInterceptRegressor
    assert vars(local).keys() == vars(model).keys() - {"client"}
    assert all(vars(local)[name] is vars(model)[name] for name in vars(local))
    np.testing.assert_array_equal(
        local.predict(frame[COLUMNS], frame["school"]), model.predict(rows[COLUMNS], rows["school"]).compute()
    )
    assert len(pickle.dumps(local)) > 0
    with pytest.raises(NotFittedError):
        DaskRandomInterceptRegressor().to_local().predict(frame[COLUMNS])


def test_random_effects_follow_rows_that_come_later(frame):
    rows = dd.from_pandas(frame, npartitions=4)
    first, rest = rows.partitions[:3], rows.partitions[3:]
    n_first = len(first)
    model, local = fit(first), fit_local(frame[:n_first])
    model.update_random_effects(*split(rest))
    local.update_random_effects(*split(frame[n_first:]))
    assert_same(model, local)
    expected = local.predict(frame[COLUMNS], frame["school"], return_std=True)
    found = dask.compute(*model.predict(rows[COLUMNS], rows["school"], return_std=True))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_inference_takes_the_model(frame):
    model, local = fit(dd.from_pandas(frame, npartitions=4)), fit_local(frame)
    pd.testing.assert_frame_equal(inference.fixed_effects(model), inference.fixed_effects(local), rtol=1e-8)


def test_clones_share_the_client_and_pickles_do_without(client, frame):
    model = fit(dd.from_pandas(frame, npartitions=2), client=client, method="ml")
    assert model.get_params()["client"] is client
    copy = clone(model)
    assert type(copy) is DaskRandomInterceptRegressor
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "coef_")
    again = pickle.loads(pickle.dumps(model))
    assert again.client is None
    assert again.method == "ml"
    assert model.client is client
    assert_same(again, model, 0)


def test_rows_in_memory_are_fitted_by_the_local_class(frame):
    model, local = DaskRandomInterceptRegressor().fit(*split(frame)), fit_local(frame)
    assert_same(model, local, 0)
    predicted = model.predict(frame[COLUMNS], frame["school"])
    assert isinstance(predicted, np.ndarray)
    np.testing.assert_array_equal(predicted, local.predict(frame[COLUMNS], frame["school"]))
    assert model.score(*split(frame)) == local.score(*split(frame))
    assert str(model.summary(*split(frame))) == str(local.summary(*split(frame)))


@parametrize_with_checks([DaskRandomInterceptRegressor()])
@pytest.mark.filterwarnings("ignore:fit was given no groups", "ignore:.*of X depend")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_documented_defaults_are_the_defaults():
    documented = dict(re.findall(r"^(\w+) : .*default=(.+)$", inspect.getdoc(DaskRandomInterceptRegressor), re.M))
    actual = {name: repr(value).replace("'", '"') for name, value in DaskRandomInterceptRegressor().get_params().items()}
    assert documented == actual
    assert actual.keys() == {*RandomInterceptRegressor().get_params(), "client"}


def test_the_import_loads_no_dask_and_the_fit_says_what_to_install(frame, monkeypatch):
    code = "import sys, sklearn_mlm.dask; print([name for name in ('dask', 'distributed') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-mlm\[dask\]'"):
        DaskRandomInterceptRegressor().fit(*split(frame))


# ---- bad input

BAD_ROWS = {
    "NaN in X": ({"a": np.nan}, r"Column 'a' of X has 1 missing value\(s\)"),
    "inf in X": ({"a": np.inf}, "Column 'a' of X holds infinity"),
    "NaN in y": ({"y": np.nan}, r"y has 1 missing value\(s\) \(NaN\) in \d+ rows, the first in row 3"),
    "missing labels": ({"school": None}, r"groups has 1 missing label\(s\) in \d+ rows, the first in row 3"),
    "NaN in weights": ({"w": np.nan}, r"sample_weight \('w'\) has 1 missing value\(s\)"),
    "negative weights": ({"w": -1.0}, "sample_weight must not be negative; found -1.0 in row 3"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_what_is_wrong_with_rows_is_said_by_the_process_that_asked(client, frame, case):
    change, message = BAD_ROWS[case]
    model = fit(dd.from_pandas(frame, npartitions=4), client=client)
    before = vars(model).copy()
    length = len(dd.from_pandas(frame, npartitions=4).partitions[0])
    for name, value in change.items():
        frame.loc[2 * length + 3, name] = value
    rows = dd.from_pandas(frame, npartitions=4)
    with pytest.raises(ValueError, match=rf"{message}(.|\n)*Found in partition 2 \(partitions and their rows are counted"):
        model.fit(*split(rows), rows["w"])
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is before[name] for name in before)


BAD_CALLS = {
    "one group": (lambda rows: (rows[COLUMNS], rows["y"], rows["y"] * 0), "one group only"),
    "groups in two dimensions": (lambda rows: (rows[COLUMNS], rows["y"], rows[["school"]]), "one-dimensional.*2 dimensions"),
    "the name of a column": (lambda rows: (rows[COLUMNS], rows["y"], "school"), "set group_feature='school'"),
    "two outcomes": (lambda rows: (rows[COLUMNS], rows[["y", "w"]], rows["school"]), "1d array"),
    "no y": (lambda rows: (rows[COLUMNS], None, rows["school"]), "requires y"),
    "X in one dimension": (lambda rows: (rows["a"].to_dask_array(), rows["y"], rows["school"]), "Expected 2D array"),
    "all weights zero": (lambda rows: (*split(rows), rows["w"] * 0), "sample_weight is zero in every row"),
    "one weight of zero": (lambda rows: (*split(rows), 0), "sample_weight is zero in every row"),
    "no rows": (lambda rows: split(rows[rows["y"] > 1e9]), r"Found no rows in the 4 partition\(s\)"),
    "lengths of arrays": (
        lambda rows: (rows[COLUMNS].to_dask_array(lengths=True), rows["y"].to_dask_array(lengths=True)[1:], None),
        r"y must have one entry per row: found \d+ for the \d+ rows of X",
    ),
    "numbers of partitions": (
        lambda rows: (rows[COLUMNS], rows["y"].clear_divisions().repartition(npartitions=2), rows["school"]),
        r"y must have as many partitions as X.*: found 2 partition\(s\) for 4",
    ),
    "lengths of partitions": (
        lambda rows: (rows[COLUMNS], rows["y"], rows["school"][rows["a"] > 0].clear_divisions()),
        r"groups and X must have the same number of rows in each partition: found \d+ and \d+ in partition \d",
    ),
    "a width unknown": (lambda rows: (_of_unknown_width(rows), rows["y"], rows["school"]), "compute_chunk_sizes"),
}


def _of_unknown_width(rows):
    X = rows[COLUMNS].to_dask_array(lengths=True)
    return X[:, da.from_array(np.array([True, False, True]))]


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_bad_fit_says_why(frame, case):
    change, message = BAD_CALLS[case]
    rows = dd.from_pandas(frame, npartitions=4)
    with pytest.raises(ValueError, match=message):
        DaskRandomInterceptRegressor().fit(*change(rows))


@pytest.mark.parametrize(("name", "at"), [("X", 0), ("y", 1), ("groups", 2), ("sample_weight", 3)])
def test_rows_in_memory_beside_collections_are_refused(frame, name, at):
    rows = dd.from_pandas(frame, npartitions=4)
    arguments = [*split(rows), rows["w"]]
    arguments[at] = arguments[at].compute()
    with pytest.raises(TypeError, match=f"^{name} must be a Dask DataFrame, Series or Array.*from_pandas"):
        DaskRandomInterceptRegressor().fit(*arguments)


def test_rows_that_cannot_be_paired_by_their_index_are_refused(frame):
    rows = dd.from_pandas(frame, npartitions=4)
    shuffled = dd.from_pandas(frame, npartitions=7)
    turned = shuffled["y"].map_partitions(lambda part: part[::-1], meta=("y", float))
    with pytest.raises(
        ValueError, match=r"y was repartitioned to the divisions of X, but has another index in partition \d "
    ):
        DaskRandomInterceptRegressor().fit(rows[COLUMNS], turned, rows["school"])


def test_a_client_that_is_none(frame):
    with pytest.raises(TypeError, match=r"client must be a distributed\.Client or None; found str"):
        fit(dd.from_pandas(frame, npartitions=2), client="127.0.0.1:8786")


def test_predicting_what_was_not_fitted(frame):
    rows = dd.from_pandas(frame, npartitions=4)
    with pytest.raises(NotFittedError):
        DaskRandomInterceptRegressor().predict(rows[COLUMNS], rows["school"])
    model = fit(rows)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(rows[["a", "b"]], rows["school"])
    with pytest.raises(ValueError, match="X is None, but the model was fitted with 3"):
        model.predict(None, rows["school"])
    with pytest.raises(TypeError, match="groups must be a Dask"):
        model.predict(rows[COLUMNS], frame["school"])
    with pytest.raises(ValueError, match="found the string 'school'"):
        model.predict(rows[COLUMNS], "school")
    frame.loc[0, "a"] = np.nan
    lazy = model.predict(dd.from_pandas(frame, npartitions=4)[COLUMNS], "population")
    with pytest.raises(ValueError, match=r"Column 'a' of X has 1 missing value(.|\n)*partition 0"):
        lazy.compute()


def test_a_frame_of_labels_is_read_as_cells(client):
    from sklearn_mlm import CellScatter, MixedEffectsRegressor
    from sklearn_mlm.dask import read_scatter

    rng = np.random.default_rng(2)
    rows = pd.DataFrame(
        {"subject": rng.integers(0, 20, 300), "item": rng.integers(0, 9, 300), "x": rng.standard_normal(300)}
    )
    rows["y"] = rng.standard_normal(20)[rows["subject"]] + rng.standard_normal(9)[rows["item"]] + rng.standard_normal(300)
    parts = dd.from_pandas(rows, npartitions=3)
    record = read_scatter(parts[["x"]], parts["y"], parts[["subject", "item"]], slopes="x", client=client)
    assert isinstance(record, CellScatter)
    text = "(1 + x | subject) + (1 | item)"
    found = MixedEffectsRegressor(random_effects=text).fit_moments(record)
    expected = MixedEffectsRegressor(random_effects=text).fit(rows[["x"]], rows["y"], groups=rows[["subject", "item"]])
    np.testing.assert_allclose(found.criterion_, expected.criterion_, rtol=1e-12)
    np.testing.assert_allclose(found.variance_components_, expected.variance_components_, rtol=1e-6)
