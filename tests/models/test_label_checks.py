"""Labels that are probably not what the user means, and that ordinary labels pass without a word."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    subject = np.repeat([308, 309, 310, 330, 331, 332], 10)
    effects = pd.Series(rng.standard_normal(6), index=np.unique(subject))
    x, level = rng.standard_normal(60), pd.Series(rng.standard_normal(6), index=effects.index)
    y = x + effects[subject].to_numpy() + rng.standard_normal(60)
    return pd.DataFrame({"x": x, "level": level[subject].to_numpy(), "subject": subject}), y


def quiet(run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return run()


@pytest.mark.parametrize(
    ("column", "relation"),
    [(lambda s: s, "equals the group labels"), (lambda s: 2.5 * s - 1000, "is a linear function of the group labels")],
)
def test_a_predictor_that_is_the_labels(frame, column, relation):
    X, y = frame
    both = X[["x"]].assign(id=column(X["subject"]))
    with pytest.warns(UserWarning, match=f"Column 'id' of X {relation}, so that the labels are a predictor too") as caught:
        RandomInterceptRegressor().fit(both, y, groups=X["subject"])
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=relation):
        RandomInterceptRegressor().fit_moments(GroupedMoments.from_arrays(both, y, X["subject"]))


def test_predictors_that_are_not_the_labels(frame):
    X, y = frame
    quiet(lambda: RandomInterceptRegressor().fit(X[["x", "level"]], y, groups=X["subject"]))
    quiet(lambda: RandomInterceptRegressor().fit(X[["x", "level"]], y, groups=X["subject"].astype(str)))
    quiet(lambda: RandomInterceptRegressor(group_feature="subject").fit(X, y))
    quiet(lambda: RandomInterceptRegressor().fit(None, y, groups=X["subject"] / 7))


def test_columns_whose_names_have_the_name_of_the_group_column(frame):
    X, y = frame
    X = X.assign(subject=X["subject"].astype(str)).rename(columns={"x": "subject size", "level": "mean x of subject"})
    quiet(lambda: RandomInterceptRegressor(group_feature="subject").fit(X, y))
    numbers = X.assign(subject=X["subject"].astype(int))
    quiet(lambda: RandomInterceptRegressor(group_feature="subject").fit(numbers, y))


def test_a_name_of_two_words_is_found_in_products(frame):
    X, y = frame
    X = X[["x", "subject"]].rename(columns={"subject": "subject id"})
    model = make_pipeline(PolynomialFeatures(2, include_bias=False), RandomInterceptRegressor(group_feature="subject id"))
    with pytest.warns(UserWarning, match=r"2 column\(s\) of X, such as 'x subject id'"):
        model.set_output(transform="pandas").fit(X, y)


def test_labels_that_are_text_of_numbers(frame):
    X, y = frame
    with pytest.warns(UserWarning, match="Column 'id' of X equals the group labels"):
        RandomInterceptRegressor().fit(X[["x"]].assign(id=X["subject"]), y, groups=X["subject"].astype(str))


@pytest.mark.parametrize("labels", [[0, 0.25, 0.5, 0.75, 1, 0.4], [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]])
def test_labels_may_be_fractions(frame, labels):
    X, y = frame
    column = np.repeat(labels, 10)
    quiet(lambda: RandomInterceptRegressor(group_feature="subject").fit(X[["x"]].assign(subject=column), y))


def test_a_group_column_of_which_a_step_makes_others(frame):
    X, y = frame
    model = make_pipeline(PolynomialFeatures(2, include_bias=False), RandomInterceptRegressor(group_feature="subject"))
    with pytest.warns(UserWarning, match=r"such as 'x subject', are made of the group column 'subject'"):
        model.set_output(transform="pandas").fit(X[["x", "subject"]], y)


@pytest.mark.parametrize(("scaler", "name"), [(StandardScaler(), "StandardScaler"), (MinMaxScaler(), "MinMaxScaler")])
def test_a_group_column_that_a_scaler_has_changed(frame, scaler, name):
    X, y = frame
    model = make_pipeline(scaler, RandomInterceptRegressor(group_feature="subject")).set_output(transform="pandas")
    with pytest.warns(UserWarning, match=f"The labels in the group column 'subject' are fractions.*as {name} makes"):
        model.fit(X, y)
    columns = ColumnTransformer([("x", scaler, ["x", "level"])], remainder="passthrough", verbose_feature_names_out=False)
    right = make_pipeline(columns, RandomInterceptRegressor(group_feature="subject")).set_output(transform="pandas")
    quiet(lambda: right.fit(X, y))


def test_groups_that_disagree_with_the_group_column(frame):
    X, y = frame
    model = RandomInterceptRegressor(group_feature="subject")
    other = X["subject"].where(np.arange(60) % 20 > 0, 308)
    apart = int((other != X["subject"]).sum())
    with pytest.warns(
        UserWarning, match=f"groups and the group column 'subject' of X differ in {apart} of 60 rows"
    ) as caught:
        model.fit(X, y, groups=other)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=f"differ in {apart} of 60 rows"):
        model.predict(X, groups=other)
    for same in (X["subject"], X["subject"].to_numpy(dtype=float), X["subject"].tolist()):
        quiet(lambda same=same: model.fit(X, y, groups=same).predict(X, groups=same))
    quiet(lambda: model.predict(X, groups="population"))
    days = X.assign(subject=pd.to_datetime(X["subject"], unit="D"))
    quiet(lambda: model.fit(days, y, groups=days["subject"].to_numpy().astype("datetime64[D]")))
    names = X.assign(subject=X["subject"].astype(str))
    quiet(lambda: model.fit(names, y, groups=names["subject"].astype("category")))
    missing = names["subject"].where(np.arange(60) > 0)
    quiet(lambda: model.predict(names.assign(subject=missing), groups=missing))
    with pytest.warns(UserWarning, match="differ in 1 of 60 rows"):
        model.predict(names, groups=missing)


def test_some_new_labels_of_another_type(frame):
    X, y = frame
    model = RandomInterceptRegressor().fit(X[["x"]], y, groups=X["subject"])
    with pytest.warns(UserWarning, match="'308' is, and are treated as different groups") as caught:
        model.predict(X[["x"]][:3], groups=["308", 309, 310])
    assert caught[0].filename == __file__
    quiet(lambda: model.predict(X[["x"]][:3], groups=[999, 309, 310]))
    quiet(lambda: model.predict(X[["x"]][:3], groups=["nobody", 309, 310]))
    text = RandomInterceptRegressor().fit(X[["x"]], y, groups=X["subject"].astype(str))
    with pytest.warns(UserWarning, match="'308' is, and are treated as different groups"):
        text.predict(X[["x"]][:3], groups=[308, "309", "310"])
