"""Every way by which groups travel through scikit-learn, and what is said where they do not."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor, HistGradientBoostingRegressor, StackingRegressor
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import make_scorer, r2_score, root_mean_squared_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.utils.fixes import parse_version
from sklearn.utils.metadata_routing import get_routing_for_object

from sklearn_mlm import (
    ClusterRobustOLS,
    GroupsNotPassedWarning,
    RandomInterceptRegressor,
    WithinOLS,
    cross_validate_groups,
    make_group_scorer,
    request_groups,
)
from sklearn_mlm.model_selection import coefficient_importances

LOG = []
# Before, scikit-learn's scoring=None knew of no requests but those of set_score_request on the estimator itself.
OWN_SCORE_IS_ROUTED = parse_version(sklearn.__version__) >= parse_version("1.8")


class Spy(RandomInterceptRegressor):
    """Notes whether groups reached `fit` and made a difference to `predict`."""

    def fit(self, X, y, groups=None, sample_weight=None):
        """Fit and note."""
        super().fit(X, y, groups, sample_weight)
        LOG.append(("fit", self.n_groups_ > 0, sample_weight is not None))
        return self

    def predict(self, X, groups=None, return_std=False):
        """Predict and note."""
        predictions = super().predict(X, groups, return_std)
        # More than rounding: some row has got its group's effect.
        population = super().predict(X, "population")
        LOG.append(("predict", bool((np.abs(predictions - population) > 1e-6).any()), False))
        return predictions


def schools(n_groups=12, n_rows=240, seed=0):
    """A frame with a number, a factor, and the school; y, with a strong school effect; and the school again."""
    rng = np.random.default_rng(seed)
    school = rng.permutation(np.arange(n_rows) % n_groups)
    frame = pd.DataFrame(
        {
            "size": rng.standard_normal(n_rows),
            "kind": rng.choice(["a", "b", "c"], n_rows),
            "school": np.array([f"s{i:02}" for i in school]),
        }
    )
    y = 2 * frame["size"] + 5.0 * rng.standard_normal(n_groups)[school] + rng.standard_normal(n_rows)
    return frame, y.to_numpy(), frame["school"].rename("groups")


FRAME, Y, SCHOOL = schools()
NUMBERS = FRAME[["size"]]
CODES = np.column_stack([FRAME["size"], SCHOOL.str[1:].astype(float)])
ROWS = KFold(3, shuffle=True, random_state=0)


def splits(splitter):
    return list(splitter.split(NUMBERS, Y, SCHOOL if isinstance(splitter, GroupKFold) else None))


def by_name():
    """A pipeline whose steps keep the column of labels and its name."""
    steps = ColumnTransformer(
        [
            ("scale", make_pipeline(SimpleImputer(), StandardScaler()), ["size"]),
            ("kind", OneHotEncoder(drop="first", sparse_output=False), ["kind"]),
        ],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    return make_pipeline(steps.set_output(transform="pandas"), Spy(group_feature="school"))


def by_position():
    """A pipeline of plain arrays, of which the last column holds the labels."""
    steps = ColumnTransformer(
        [("scale", StandardScaler(), ["size"]), ("kind", OneHotEncoder(drop="first", sparse_output=False), ["kind"])],
        remainder="passthrough",
    )
    return make_pipeline(steps, Spy(group_feature=-1))


def sparse_by_position():
    """A pipeline of sparse matrices, of which the first column holds the labels as numbers."""
    steps = ColumnTransformer(
        [("label", "passthrough", ["code"]), ("kind", OneHotEncoder(drop="first"), ["kind"])], sparse_threshold=1.0
    )
    return make_pipeline(steps, Spy(group_feature=0))


def scores_by_name(model, X, **more):
    return cross_validate(model, X, Y, cv=ROWS, scoring=["r2", "neg_mean_squared_error"], **more)


def search(model, X, **fit_params):
    prefix = f"{model.steps[-1][0]}__" if hasattr(model, "steps") else ""
    return GridSearchCV(model, {f"{prefix}method": ["reml", "ml"]}, cv=ROWS, scoring="r2").fit(X, Y, **fit_params).predict(X)


# Without routing: the labels are a column of X.
COLUMN_PATHS = {
    "pipeline": lambda: by_name().fit(FRAME, Y).predict(FRAME),
    "pipeline of arrays": lambda: by_position().fit(FRAME, Y).predict(FRAME),
    "pipeline of sparse matrices": lambda: sparse_by_position().fit(with_code(), Y).predict(with_code()),
    "pipeline, score": lambda: by_name().fit(FRAME, Y).score(FRAME, Y),
    "GridSearchCV": lambda: search(by_name(), FRAME),
    "cross_validate by names of scorers": lambda: scores_by_name(by_name(), FRAME),
    "cross_val_predict": lambda: cross_val_predict(by_name(), FRAME, Y, cv=ROWS),
    "permutation_importance": lambda: permutation_importance(by_name().fit(FRAME, Y), FRAME, Y, n_repeats=2, random_state=0),
    "learning_curve": lambda: learning_curve(
        by_name(), FRAME, Y, cv=ROWS, train_sizes=[0.5, 1.0], shuffle=True, random_state=0, error_score="raise"
    ),
    "BaggingRegressor": lambda: BaggingRegressor(Spy(group_feature=1), 3, random_state=0).fit(CODES, Y).predict(CODES),
    "StackingRegressor": lambda: (
        StackingRegressor([("mlm", by_name())], LinearRegression(), cv=ROWS).fit(FRAME, Y).predict(FRAME)
    ),
    "TransformedTargetRegressor": lambda: (
        TransformedTargetRegressor(by_name(), func=np.arcsinh, inverse_func=np.sinh).fit(FRAME, Y).predict(FRAME)
    ),
}


def with_code():
    return FRAME.assign(code=SCHOOL.str[1:].astype(float))


@pytest.mark.parametrize("path", COLUMN_PATHS)
def test_a_group_column_reaches_fit_and_predict(path):
    LOG.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        COLUMN_PATHS[path]()
    assert {kind for kind, *_ in LOG} == {"fit", "predict"}
    assert all(reached for _, reached, _ in LOG)


def requested(model=None):
    """The model, or a pipeline with it behind a scaler, that requests groups and weights."""
    return request_groups(make_pipeline(StandardScaler(), Spy()) if model is None else model, sample_weight=True)


WEIGHTS = np.ones(len(Y))
METADATA = {"groups": SCHOOL, "sample_weight": WEIGHTS}


def scorer(name):
    return make_group_scorer(name).set_score_request(sample_weight=True)


# With routing: the labels are metadata.
ROUTED_PATHS = {
    "fit, predict and score": lambda: requested().fit(NUMBERS, Y, **METADATA).score(NUMBERS, Y, **METADATA),
    "pipeline in pipeline": lambda: (
        make_pipeline(StandardScaler().set_fit_request(sample_weight=True), requested())
        .fit(NUMBERS, Y, **METADATA)
        .predict(NUMBERS, groups=SCHOOL)
    ),
    "cross_val_score": lambda: cross_val_score(requested(), NUMBERS, Y, cv=ROWS, scoring=scorer("r2"), params=METADATA),
    "cross_validate with our scorers": lambda: cross_validate(
        requested(),
        NUMBERS,
        Y,
        cv=ROWS,
        params=METADATA,
        scoring={"r2": scorer("r2"), "mse": scorer("neg_mean_squared_error")},
    ),
    "GridSearchCV": lambda: (
        GridSearchCV(requested(), {"spy__method": ["reml", "ml"]}, cv=ROWS, scoring=scorer("r2"))
        .fit(NUMBERS, Y, **METADATA)
        .score(NUMBERS, Y, **METADATA)
    ),
    "GridSearchCV in a pipeline": lambda: make_pipeline(
        StandardScaler().set_fit_request(sample_weight=True),
        GridSearchCV(requested(Spy()), {"method": ["reml", "ml"]}, cv=ROWS, scoring=scorer("r2")),
    ).fit(NUMBERS, Y, **METADATA),
    "nested cross-validation": lambda: cross_val_score(
        GridSearchCV(requested(), {"spy__method": ["reml", "ml"]}, cv=ROWS, scoring=scorer("r2")),
        NUMBERS,
        Y,
        cv=ROWS,
        scoring=scorer("r2"),
        params=METADATA,
    ),
    "learning_curve": lambda: learning_curve(
        requested(),
        NUMBERS,
        Y,
        cv=ROWS,
        scoring=scorer("r2"),
        params=METADATA,
        train_sizes=[0.5, 1.0],
        shuffle=True,
        random_state=0,
        error_score="raise",
    ),
    "TransformedTargetRegressor": lambda: (
        TransformedTargetRegressor(requested(), func=np.arcsinh, inverse_func=np.sinh)
        .fit(NUMBERS, Y, **METADATA)
        .predict(NUMBERS, groups=SCHOOL)
    ),
}


@pytest.mark.parametrize("path", ROUTED_PATHS)
def test_routed_groups_and_weights_reach_fit_and_predict(path):
    LOG.clear()
    with warnings.catch_warnings(), config_context(enable_metadata_routing=True):
        warnings.simplefilter("error")
        ROUTED_PATHS[path]()
    assert any(kind == "fit" for kind, *_ in LOG)
    assert all(reached for _, reached, _ in LOG)
    assert all(weighted for kind, _, weighted in LOG if kind == "fit")
    assert any(kind == "predict" for kind, *_ in LOG) or "GridSearchCV in" in path


@pytest.mark.skipif(not OWN_SCORE_IS_ROUTED, reason="scoring=None is routed from scikit-learn 1.8 on")
def test_the_models_own_score_is_routed():
    with config_context(enable_metadata_routing=True):
        own = cross_val_score(requested(), NUMBERS, Y, cv=ROWS, params=METADATA)
        ours = cross_val_score(requested(), NUMBERS, Y, cv=ROWS, scoring=scorer("r2"), params=METADATA)
    np.testing.assert_array_equal(own, ours)


# Where scikit-learn leaves the groups behind, with routing on or off, somebody says so.
DROPPING_PATHS = {
    "groups for the splitter only": (False, lambda: cross_val_score(Spy(), NUMBERS, Y, groups=SCHOOL, cv=GroupKFold(3))),
    "GridSearchCV.fit with groups": (
        False,
        lambda: GridSearchCV(Spy(), {"method": ["ml"]}, cv=GroupKFold(3)).fit(NUMBERS, Y, groups=SCHOOL),
    ),
    "fit parameters without routing": (
        False,
        lambda: cross_val_score(Spy(), NUMBERS, Y, cv=ROWS, params={"groups": SCHOOL}),
    ),
    "pipeline, predict without": (False, lambda: make_pipeline(Spy()).fit(NUMBERS, Y, spy__groups=SCHOOL).predict(NUMBERS)),
    "score without": (False, lambda: Spy().fit(NUMBERS, Y, SCHOOL).score(NUMBERS, Y)),
    "permutation_importance": (
        False,
        lambda: permutation_importance(Spy().fit(NUMBERS, Y, SCHOOL), NUMBERS, Y, n_repeats=1),
    ),
    "routed to a scorer by name": (
        True,
        lambda: cross_val_score(Spy(), NUMBERS, Y, cv=ROWS, scoring="r2", params={"groups": SCHOOL}),
    ),
    "routed to cross_val_predict": (True, lambda: cross_val_predict(Spy(), NUMBERS, Y, cv=ROWS, params={"groups": SCHOOL})),
    "not routed at all": (True, lambda: cross_val_score(Spy(), NUMBERS, Y, cv=ROWS, params={})),
    "StackingRegressor": (False, lambda: StackingRegressor([("mlm", Spy())], LinearRegression(), cv=ROWS).fit(NUMBERS, Y)),
    "BaggingRegressor": (False, lambda: BaggingRegressor(Spy(), 2).fit(NUMBERS, Y)),
    "ClusterRobustOLS": (False, lambda: cross_val_score(ClusterRobustOLS(), NUMBERS, Y, groups=SCHOOL, cv=GroupKFold(3))),
    "WithinOLS": (False, lambda: cross_val_score(WithinOLS(), NUMBERS, Y, groups=SCHOOL, cv=GroupKFold(3))),
}


@pytest.mark.parametrize("path", DROPPING_PATHS)
def test_where_groups_are_left_behind_a_warning_says_so(path):
    routing, call = DROPPING_PATHS[path]
    with config_context(enable_metadata_routing=routing), pytest.warns(GroupsNotPassedWarning, match="was given no groups"):
        call()


def test_the_warning_names_the_three_ways():
    with pytest.warns(GroupsNotPassedWarning) as caught:
        RandomInterceptRegressor().fit(NUMBERS, Y)
    message = str(caught[0].message)
    assert message.startswith("fit was given no groups, so the model is ordinary least squares. ")
    assert len(message) < 260
    for way in ("fit(X, y, groups=...)", "group_feature", "help(sklearn_mlm.GroupsNotPassedWarning)"):
        assert way in message
    for way in ("predict(X, groups=...)", "group_feature", "enable_metadata_routing=True", "params={", "make_group_scorer"):
        assert way in GroupsNotPassedWarning.__doc__
    assert issubclass(GroupsNotPassedWarning, UserWarning)


def of_missing_groups(caught):
    """The first words of each warning that no groups were passed."""
    return sorted(str(one.message).split()[0] for one in caught if one.category is GroupsNotPassedWarning)


def test_a_cross_validation_is_told_once():
    model = RandomInterceptRegressor()
    grid = GridSearchCV(model, {"method": ["reml", "ml"]}, cv=5)
    for run in (
        lambda: cross_val_score(model, NUMBERS, Y, groups=SCHOOL),
        lambda: cross_val_predict(model, NUMBERS, Y),
        lambda: grid.fit(NUMBERS, Y),
        lambda: cross_validate(grid, NUMBERS, Y),
        lambda: learning_curve(model, NUMBERS, Y),
    ):
        for _ in range(2):  # and the next one too
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                run()
            assert of_missing_groups(caught) == ["fit"]


def test_a_cross_validation_that_drops_groups_for_predict_only_is_told_once_of_that():
    with config_context(enable_metadata_routing=True), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cross_val_score(RandomInterceptRegressor(), NUMBERS, Y, scoring="r2", params={"groups": SCHOOL}, cv=5)
    assert of_missing_groups(caught) == ["predict"]


def test_as_an_error_the_warning_stops_every_fold():
    with warnings.catch_warnings():
        warnings.simplefilter("error", GroupsNotPassedWarning)
        with pytest.raises(ValueError, match="All the 5 fits failed"):
            cross_val_score(RandomInterceptRegressor(), NUMBERS, Y, groups=SCHOOL)


def test_outside_of_a_cross_validation_every_call_is_told():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            RandomInterceptRegressor().fit(NUMBERS, Y)
    assert of_missing_groups(caught) == ["fit", "fit"]


# ---- to the last digit


@pytest.mark.parametrize("splitter", [ROWS, GroupKFold(3)])
@pytest.mark.parametrize(
    ("name", "metric"), [("r2", r2_score), ("neg_root_mean_squared_error", lambda y, p: -root_mean_squared_error(y, p))]
)
def test_scores_by_either_way_are_those_of_a_loop_by_hand(splitter, name, metric):
    expected, population = [], []
    for train, test in splits(splitter):
        model = RandomInterceptRegressor().fit(NUMBERS.iloc[train], Y[train], groups=SCHOOL.iloc[train])
        expected.append(metric(Y[test], model.predict(NUMBERS.iloc[test], groups=SCHOOL.iloc[test])))
        population.append(metric(Y[test], model.predict(NUMBERS.iloc[test], groups="population")))
    frame = NUMBERS.assign(school=SCHOOL)
    column = cross_val_score(RandomInterceptRegressor(group_feature="school"), frame, Y, cv=splits(splitter), scoring=name)
    with config_context(enable_metadata_routing=True):
        routed = cross_val_score(
            RandomInterceptRegressor(), NUMBERS, Y, cv=splitter, scoring=make_group_scorer(name), params={"groups": SCHOOL}
        )
    assert column.tolist() == expected
    assert routed.tolist() == expected
    if splitter is ROWS:
        # The effect is strong: without groups the score would be another.
        assert (np.abs(np.subtract(expected, population)) > 0.3).all()


def test_workers_get_the_groups_as_well():
    frame = NUMBERS.assign(school=SCHOOL)
    model = RandomInterceptRegressor(group_feature="school")
    alone, shared = (cross_val_score(model, frame, Y, cv=ROWS, scoring="r2", n_jobs=n) for n in (None, 2))
    np.testing.assert_array_equal(alone, shared)
    with config_context(enable_metadata_routing=True):
        routed = cross_val_score(
            RandomInterceptRegressor(),
            NUMBERS,
            Y,
            cv=ROWS,
            scoring=make_group_scorer("r2"),
            params={"groups": SCHOOL},
            n_jobs=2,
        )
    np.testing.assert_array_equal(alone, routed)


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_a_configured_output_container_keeps_the_group_column(container):
    frame = NUMBERS.assign(school=SCHOOL.str[1:].astype(float))
    steps = ColumnTransformer(
        [("scale", StandardScaler(), ["size"])], remainder="passthrough", verbose_feature_names_out=False
    )
    with config_context(transform_output=container):
        pipeline = make_pipeline(steps, RandomInterceptRegressor(group_feature="school")).fit(frame, Y)
        predictions = pipeline.predict(frame)
    expected = RandomInterceptRegressor().fit(NUMBERS, Y, groups=SCHOOL).predict(NUMBERS, groups=SCHOOL)
    np.testing.assert_allclose(predictions, expected, rtol=1e-12)


# ---- requests


def test_models_request_groups_unasked_but_for_a_group_column():
    for model in (RandomInterceptRegressor(), WithinOLS(), ClusterRobustOLS()):
        routing = get_routing_for_object(model)
        for method in ("fit", "predict", "score"):
            assert getattr(routing, method).requests["groups"] is True
        assert routing.fit.requests["sample_weight"] is None
        routing = get_routing_for_object(clone(model).set_params(group_feature="school"))
        assert routing.fit.requests["groups"] is False
    with config_context(enable_metadata_routing=True):
        model = RandomInterceptRegressor().set_fit_request(groups=False).set_predict_request(groups="school")
        routing = get_routing_for_object(clone(model))
    assert routing.fit.requests["groups"] is False
    assert routing.predict.requests["groups"] == "school"
    assert routing.score.requests["groups"] is True


def test_groups_of_a_splitter_do_not_replace_a_group_column():
    frame = NUMBERS.assign(school=SCHOOL)
    district = np.arange(len(Y)) % 3
    with config_context(enable_metadata_routing=True):
        scores = cross_validate(
            RandomInterceptRegressor(group_feature="school"),
            frame,
            Y,
            cv=GroupKFold(3),
            scoring="r2",
            params={"groups": district},
            return_estimator=True,
        )
    assert [model.n_groups_ for model in scores["estimator"]] == [12, 12, 12]


def test_request_groups_sets_every_part_in_place():
    pipeline = make_pipeline(StandardScaler(), GridSearchCV(Spy(), {"method": ["ml"]}, scoring=make_group_scorer("r2")))
    assert request_groups(pipeline, sample_weight=True) is pipeline
    assert get_routing_for_object(pipeline[0]).fit.requests == {"sample_weight": True}
    assert get_routing_for_object(pipeline[1].estimator).fit.requests == {"groups": True, "sample_weight": True}
    assert get_routing_for_object(pipeline[1].scoring).score.requests == {"groups": True, "sample_weight": True}
    with_column = request_groups(Spy(group_feature="school"), sample_weight=True)
    assert get_routing_for_object(with_column).fit.requests == {"groups": False, "sample_weight": True}


# ---- scorers


def test_a_group_scorer_by_itself():
    model = RandomInterceptRegressor().fit(NUMBERS, Y, groups=SCHOOL)
    score = make_group_scorer("neg_mean_absolute_error")
    expected = -np.abs(Y - model.predict(NUMBERS, groups=SCHOOL)).mean()
    np.testing.assert_allclose(score(model, NUMBERS, Y, groups=SCHOOL), expected, rtol=1e-14)
    weights = np.arange(len(Y))
    expected = r2_score(Y, model.predict(NUMBERS, groups=SCHOOL), sample_weight=weights)
    assert make_group_scorer("r2")(model, NUMBERS, Y, groups=SCHOOL, sample_weight=weights) == expected
    assert repr(score) == "make_group_scorer('neg_mean_absolute_error')"
    assert make_group_scorer(score) is score
    restored = pickle.loads(pickle.dumps(score))
    assert restored(model, NUMBERS, Y, groups=SCHOOL) == score(model, NUMBERS, Y, groups=SCHOOL)


def test_a_group_scorer_of_models_that_know_no_groups():
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(NUMBERS, Y)
    assert make_group_scorer("r2")(model, NUMBERS, Y, groups=SCHOOL) == model.score(NUMBERS, Y)


def test_a_group_scorer_of_an_unknown_metric():
    with pytest.raises(ValueError, match="not a valid scoring"):
        make_group_scorer("r3")


# ---- known and new groups


def by_hand(make, kind, metric):
    splitter = KFold(4, shuffle=True, random_state=1) if kind == "known" else GroupKFold(4)
    scores = []
    for train, test in splits(splitter):
        model = make()
        if isinstance(model, LinearRegression):
            predictions = model.fit(NUMBERS.iloc[train], Y[train]).predict(NUMBERS.iloc[test])
        else:
            model.fit(NUMBERS.iloc[train], Y[train], groups=SCHOOL.iloc[train])
            predictions = model.predict(NUMBERS.iloc[test], groups=SCHOOL.iloc[test])
        scores.append(metric(Y[test], predictions))
    return np.mean(scores), np.std(scores, ddof=1)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("model", [RandomInterceptRegressor(), make_pipeline(StandardScaler(), RandomInterceptRegressor())])
def test_known_and_new_groups_are_those_of_a_loop_by_hand(model, routing):
    with config_context(enable_metadata_routing=routing):
        table = cross_validate_groups(model, NUMBERS, Y, SCHOOL, cv=4, random_state=1)
    for kind in ("known", "new"):
        for name, make in (("model", RandomInterceptRegressor), ("OLS", LinearRegression)):
            for column, metric in (("root_mean_squared_error", root_mean_squared_error), ("r2", r2_score)):
                np.testing.assert_allclose(table.loc[(kind, name), column], by_hand(make, kind, metric), rtol=1e-10)
    assert not hasattr(model, "coef_")


def test_known_and_new_groups_by_a_group_column_and_by_none():
    frame = NUMBERS.assign(school=SCHOOL)
    expected = cross_validate_groups(RandomInterceptRegressor(), NUMBERS, Y, SCHOOL, cv=3, random_state=0)
    column = cross_validate_groups(RandomInterceptRegressor(group_feature="school"), frame, Y, cv=3, random_state=0)
    pd.testing.assert_frame_equal(column, expected)
    steps = ColumnTransformer(
        [("scale", StandardScaler(), ["size"])], remainder="passthrough", verbose_feature_names_out=False
    )
    pipeline = make_pipeline(steps.set_output(transform="pandas"), RandomInterceptRegressor(group_feature="school"))
    pd.testing.assert_frame_equal(cross_validate_groups(pipeline, frame, Y, cv=3, random_state=0), expected)
    null = cross_validate_groups(RandomInterceptRegressor(), None, Y, SCHOOL, cv=3, random_state=0)
    by_column = cross_validate_groups(
        RandomInterceptRegressor(group_feature="school"), frame[["school"]], Y, cv=3, random_state=0
    )
    pd.testing.assert_frame_equal(null, by_column)
    assert (null.loc["known", ("r2", "mean")] < expected.loc["known", ("r2", "mean")]).all()


def test_known_and_new_groups_with_weights_a_search_and_a_baseline():
    search = GridSearchCV(RandomInterceptRegressor(), {"method": ["reml", "ml"]}, scoring=make_group_scorer("r2"), cv=3)
    table = cross_validate_groups(
        search, NUMBERS, Y, SCHOOL, cv=3, sample_weight=np.ones(len(Y)), random_state=0, scoring="r2"
    )
    plain = cross_validate_groups(RandomInterceptRegressor(), NUMBERS, Y, SCHOOL, cv=3, random_state=0, scoring="r2")
    np.testing.assert_allclose(table["r2", "mean"], plain["r2", "mean"], rtol=1e-3)
    within = cross_validate_groups(
        RandomInterceptRegressor(), NUMBERS, Y, SCHOOL, cv=3, baseline=WithinOLS(), random_state=0, scoring="r2"
    )
    assert list(within.index.get_level_values("model")) == ["model", "baseline"] * 2
    assert within.loc[("known", "baseline"), ("r2", "mean")] > plain.loc[("known", "OLS"), ("r2", "mean")]
    with_gaps = NUMBERS.where(np.arange(len(Y))[:, None] % 9 > 0)
    imputed = make_pipeline(SimpleImputer(), LinearRegression())
    gaps = cross_validate_groups(imputed, with_gaps, Y, SCHOOL, cv=3, random_state=0, scoring="r2")
    np.testing.assert_array_equal(gaps.xs("model", level="model"), gaps.xs("OLS", level="model"))
    forest = cross_validate_groups(LinearRegression(), NUMBERS, Y, SCHOOL, cv=3, random_state=0, scoring="r2")
    np.testing.assert_array_equal(forest.xs("model", level="model"), forest.xs("OLS", level="model"))


def targets(last, **options):
    """A pipeline that encodes the school by the outcome."""
    encode = ColumnTransformer([("school", TargetEncoder(**options), ["school"]), ("size", "passthrough", ["size"])])
    return make_pipeline(encode, last)


def test_several_models_of_any_kind_are_compared():
    frame = NUMBERS.assign(school=SCHOOL)
    models = {
        "column": RandomInterceptRegressor(group_feature="school"),
        "target encoding": targets(Ridge()),
        "forest": targets(HistGradientBoostingRegressor(max_iter=5)),
    }
    table = cross_validate_groups(models, frame, Y, cv=3, random_state=0)
    assert list(table.loc["known"].index) == ["column", "target encoding", "forest", "OLS"]
    for name, model in models.items():
        alone = cross_validate_groups(model, frame, Y, SCHOOL, cv=3, random_state=0, baseline=False)
        assert list(alone.loc["new"].index) == ["model"]
        # Target encoders draw their folds anew.
        rtol = 1e-12 if name == "column" else 0.2
        means = [each.xs("mean", axis=1, level=1) for each in (alone, table)]
        np.testing.assert_allclose(means[0].xs("model", level="model"), means[1].xs(name, level="model"), rtol=rtol)
    column = cross_validate_groups(models["column"], frame, Y, cv=3, random_state=0)
    np.testing.assert_array_equal(column.xs("OLS", level="model"), table.xs("OLS", level="model"))
    # What scikit-learn itself makes of them, without routing.
    scores = cross_val_score(targets(Ridge()), frame, Y, cv=KFold(3, shuffle=True, random_state=0), scoring="r2")
    np.testing.assert_allclose(table.loc[("known", "target encoding"), ("r2", "mean")], scores.mean(), rtol=0.02)


def test_a_target_encoder_in_the_baseline_or_before_the_model():
    frame = FRAME[["size", "kind", "school"]]
    columns = ColumnTransformer(
        [("kind", TargetEncoder(), ["kind"])], remainder="passthrough", verbose_feature_names_out=False
    )
    model = make_pipeline(columns.set_output(transform="pandas"), RandomInterceptRegressor(group_feature="school"))
    encoded = make_pipeline(ColumnTransformer([("codes", TargetEncoder(), ["kind", "school"])]), LinearRegression())
    table = cross_validate_groups(model, frame, Y, cv=3, baseline=encoded, scoring="r2", random_state=0)
    assert np.isfinite(table).all(axis=None)
    assert table.loc[("known", "baseline"), ("r2", "mean")] > 0.5


class OutOfFold(LinearRegression):
    """Cross-validates by groups inside `fit`, as models of residuals do."""

    def fit(self, X, y):
        """Fit."""
        cross_val_predict(LinearRegression(), X, y, groups=np.arange(len(X)) % 4, cv=GroupKFold(4))
        return super().fit(X, y)


def test_a_model_that_cross_validates_inside_works():
    table = cross_validate_groups({"inside": OutOfFold()}, NUMBERS, Y, SCHOOL, cv=3, random_state=0, scoring="r2")
    np.testing.assert_allclose(table.loc[("known", "inside")], table.loc[("known", "OLS")])
    # Routing that is on elsewhere makes no difference.
    with config_context(enable_metadata_routing=True):
        again = cross_validate_groups({"inside": OutOfFold()}, NUMBERS, Y, SCHOOL, cv=3, random_state=0, scoring="r2")
    pd.testing.assert_frame_equal(table, again)


def test_a_baseline_that_cannot_be_fitted_costs_no_time_and_says_so():
    frame = FRAME.assign(size=FRAME["size"].where(np.arange(len(Y)) % 9 > 0))
    LOG.clear()
    with pytest.raises(ValueError, match=r"(?s)The baseline \(as passed\) cannot be fitted. ValueError: .*baseline=False"):
        cross_validate_groups(
            {"forest": HistGradientBoostingRegressor(), "spy": Spy()},
            frame[["size"]],
            Y,
            SCHOOL,
            baseline=LinearRegression(),
        )
    assert LOG == []
    table = cross_validate_groups(
        {"forest": HistGradientBoostingRegressor(max_iter=5)}, frame[["size"]], Y, SCHOOL, baseline=False, scoring="r2", cv=3
    )
    assert list(table.index) == [("known", "forest"), ("new", "forest")]


def test_least_squares_takes_the_place_of_models_that_a_search_tries():
    frame = NUMBERS.assign(school=SCHOOL)
    model = RandomInterceptRegressor(group_feature="school")
    search = GridSearchCV(Pipeline([("m", model)]), {"m": [model, clone(model).set_params(method="ml")]}, cv=3, scoring="r2")
    table = cross_validate_groups(search, frame, Y, cv=3, random_state=0, scoring="r2")
    expected = cross_validate_groups(model, frame, Y, cv=3, random_state=0, scoring="r2")
    np.testing.assert_allclose(table.xs("OLS", level="model"), expected.xs("OLS", level="model"))


def test_an_error_names_the_model():
    frame = NUMBERS.assign(school=SCHOOL)
    models = {"column": RandomInterceptRegressor(group_feature="school"), "ridge": Ridge()}
    with pytest.raises(ValueError, match="could not convert string to float") as raised:
        cross_validate_groups(models, frame, Y, baseline=False)
    assert raised.value.__notes__ == ["This is said of 'ridge', in folds of rows."]


def test_a_search_by_groups_inside_gets_them_though_the_model_has_a_column():
    search = GridSearchCV(
        RandomInterceptRegressor(group_feature="school"), {"method": ["reml", "ml"]}, cv=GroupKFold(3), scoring="r2"
    )
    table = cross_validate_groups(search, NUMBERS.assign(school=SCHOOL), Y, cv=3, random_state=0, scoring="r2")
    assert np.isfinite(table).all(axis=None)


def test_what_cannot_be_cross_validated():
    for models, error, message in (
        ({}, ValueError, "the dictionary is empty"),
        ({"a": RandomInterceptRegressor}, TypeError, r"a must be an estimator.*Pass RandomInterceptRegressor\(\)"),
        ({1: RandomInterceptRegressor()}, TypeError, "names that are strings; found 1"),
        ({"OLS": RandomInterceptRegressor()}, ValueError, "'OLS' is the name of the baseline"),
        ("ridge", TypeError, "model must be an estimator; found 'ridge'"),
    ):
        with pytest.raises(error, match=message):
            cross_validate_groups(models, NUMBERS, Y, SCHOOL)


@pytest.mark.skipif(parse_version(sklearn.__version__) < parse_version("1.9"), reason="it took no groups before")
def test_a_target_encoder_beside_routed_groups_is_explained():
    model = make_pipeline(
        ColumnTransformer([("kind", TargetEncoder(), ["kind"]), ("size", "passthrough", ["size"])]),
        RandomInterceptRegressor(),
    )
    with pytest.raises(ValueError, match=r"such as scikit-learn's TargetEncoder.*group_feature"):
        cross_validate_groups(model, FRAME, Y, SCHOOL, baseline=False)


def test_known_and_new_groups_say_what_is_missing():
    with pytest.raises(ValueError, match="groups is None, and the model's group_feature names no column"):
        cross_validate_groups(RandomInterceptRegressor(), NUMBERS, Y)
    with pytest.raises(ValueError, match=r"between 2 and the number of groups, 12; found cv=20"):
        cross_validate_groups(RandomInterceptRegressor(), NUMBERS, Y, SCHOOL, cv=20)
    with pytest.raises(ValueError, match=r"groups holds one group only \('a'\): folds of groups need two or more\."):
        cross_validate_groups(RandomInterceptRegressor(), NUMBERS, Y, np.full(len(Y), "a"))


def test_known_and_new_groups_refuse_what_they_cannot_do():
    for options, message in (
        ({"cv": KFold(5)}, "cv must be a number of folds"),
        ({"scoring": None}, "scoring must be names of metrics"),
        ({"scoring": "r3"}, "not a valid scoring"),
        ({"sample_weight": [1.0]}, "one weight per row"),
    ):
        with pytest.raises(ValueError, match=message):
            cross_validate_groups(RandomInterceptRegressor(), NUMBERS, Y, SCHOOL, **options)
    with pytest.raises(ValueError, match="new_groups='error' leaves new groups without predictions"):
        cross_validate_groups(RandomInterceptRegressor(new_groups="error"), NUMBERS, Y, SCHOOL)
    for model, baseline in ((make_pipeline(Spy()), None), (Spy(), LinearRegression())):
        with pytest.raises(ValueError, match=r"X is None, and the .* only the models of this package"):
            cross_validate_groups(model, None, Y, SCHOOL, baseline=baseline)


def test_known_and_new_groups_take_scorers_and_number_weights():
    options = {"cv": 3, "random_state": 0}
    expected = cross_validate_groups(RandomInterceptRegressor(), NUMBERS, Y, SCHOOL, scoring="r2", **options)
    for scoring in (make_group_scorer("r2"), make_scorer(r2_score), {"score": "r2"}):
        table = cross_validate_groups(RandomInterceptRegressor(), NUMBERS, Y, SCHOOL, scoring=scoring, **options)
        np.testing.assert_array_equal(table["score"], expected["r2"])
    weighted = cross_validate_groups(
        RandomInterceptRegressor(), NUMBERS, Y, SCHOOL, scoring="r2", sample_weight=1, **options
    )
    pd.testing.assert_frame_equal(weighted, expected)
    null = cross_validate_groups(RandomInterceptRegressor(), None, Y, SCHOOL, baseline=WithinOLS(), scoring="r2", **options)
    assert (null.loc["known", ("r2", "mean")] > 0.5).all()
    assert (null.loc["new", ("r2", "mean")] < 0.1).all()


@pytest.mark.parametrize("scoring", [make_scorer(r2_score), {"r2": make_group_scorer("r2")}, [make_scorer(r2_score)]])
def test_request_groups_reaches_scorers_in_parameters(scoring):
    search = request_groups(GridSearchCV(Spy(), {"method": ["ml"]}, scoring=scoring), sample_weight=True)
    held = scoring if callable(scoring) else next(iter(scoring.values() if isinstance(scoring, dict) else scoring))
    assert get_routing_for_object(held).score.requests["sample_weight"] is True
    assert search.scoring is scoring


def test_a_group_scorer_shows_the_models_attributes_and_refuses_metrics():
    model = RandomInterceptRegressor().fit(NUMBERS, Y, groups=SCHOOL)
    assert make_group_scorer(lambda m, X, y: m.icc_)(model, NUMBERS, Y, groups=SCHOOL) == model.icc_
    with pytest.raises(ValueError, match="looks like it is a metric function"):
        make_group_scorer(r2_score)


@pytest.mark.filterwarnings("ignore:predict was given no groups")
def test_stacking_with_routed_groups_is_refused_by_its_final_model():
    model = StackingRegressor([("mlm", Spy())], LinearRegression(), cv=ROWS)
    with config_context(enable_metadata_routing=True), pytest.raises(TypeError, match="groups"):
        model.fit(NUMBERS, Y, groups=SCHOOL)


# ---- selectors of columns


def selection(position):
    """X with the group column at a position, y, and which columns explain y: 0, 2 and 5 of the others."""
    rng = np.random.default_rng(5)
    school = np.repeat(np.arange(30), 8)
    others = rng.standard_normal((240, 6))
    y = others @ [3.0, 0, 2, 0, 0, 1] + 2 * rng.standard_normal(30)[school] + rng.standard_normal(240)
    relevant = np.insert(np.array([True, False, True, False, False, True]), position, False)
    return np.insert(others, position, school, axis=1), y, relevant


@pytest.mark.parametrize("position", [0, 3, 6])
@pytest.mark.parametrize("threshold", [0.5, "mean"])
def test_select_from_model_chooses_columns_wherever_the_group_column_is(position, threshold):
    X, y, relevant = selection(position)
    selector = SelectFromModel(RandomInterceptRegressor(group_feature=position), threshold=threshold).fit(X, y)
    np.testing.assert_array_equal(selector.get_support(), relevant)
    assert selector.transform(X).shape == (240, 3)
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(7)])
    selector = SelectFromModel(RandomInterceptRegressor(group_feature=f"x{position}"), threshold=threshold).fit(frame, y)
    np.testing.assert_array_equal(selector.get_feature_names_out(), frame.columns[relevant])


@pytest.mark.parametrize(("position", "key"), [(0, 0), (6, -1)])
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: make_pipeline("passthrough", model)])
@pytest.mark.parametrize("kind", [RandomInterceptRegressor, WithinOLS])
def test_selectors_that_drop_columns_keep_a_group_column_that_is_first_or_last(position, key, wrap, kind):
    X, y, relevant = selection(position)
    relevant[position] = True
    model = wrap(kind(group_feature=key))
    selector = RFE(model, n_features_to_select=4, importance_getter=coefficient_importances).fit(X, y)
    np.testing.assert_array_equal(selector.support_, relevant)
    selector = RFECV(model, min_features_to_select=4, cv=ROWS, importance_getter=coefficient_importances).fit(X, y)
    np.testing.assert_array_equal(selector.support_, relevant)


@pytest.mark.parametrize("position", [0, 3, 6])
def test_selectors_that_drop_the_group_column_fail_and_the_error_says_what_to_do(position):
    X, y, _ = selection(position)
    key = -1 if position == 6 else position
    with pytest.raises(ValueError, match=r"importance_getter=sklearn_mlm\.model_selection\.coefficient_importances"):
        RFE(RandomInterceptRegressor(group_feature=key), n_features_to_select=4).fit(X, y)


@pytest.mark.parametrize("key", [3, -4, 6])
def test_a_group_column_that_would_move_is_refused(key):
    X, y, _ = selection(key % 7)
    selector = RFE(RandomInterceptRegressor(group_feature=key), importance_getter=coefficient_importances)
    with pytest.raises(ValueError, match=f"group_feature={key} names a column that moves"):
        selector.fit(X, y)


@pytest.mark.parametrize(
    "selector",
    [
        RFE(RandomInterceptRegressor(), n_features_to_select=3),
        RFECV(RandomInterceptRegressor(), min_features_to_select=3, scoring=make_group_scorer("r2")),
        SelectFromModel(RandomInterceptRegressor(), threshold=0.5),
        SequentialFeatureSelector(RandomInterceptRegressor(), n_features_to_select=3, scoring=make_group_scorer("r2")),
    ],
    ids=lambda selector: type(selector).__name__,
)
def test_selectors_choose_right_with_routed_groups(selector):
    X, y, relevant = selection(0)
    with config_context(enable_metadata_routing=True):
        selector = clone(selector).fit(X[:, 1:], y, groups=X[:, 0])
    np.testing.assert_array_equal(selector.get_support(), relevant[1:])


def test_a_missing_outcome_is_refused_before_anything_is_fitted():
    y = np.array(Y, dtype=float)
    y[[2, 5]] = np.nan
    LOG.clear()
    with pytest.raises(ValueError, match=r"y is missing in 2 row\(s\)"):
        cross_validate_groups({"spy": Spy()}, NUMBERS, y, SCHOOL)
    assert not LOG
