"""Behaviour that all estimators with groups share."""

import warnings

import numpy as np
import pandas as pd
import pytest

from sklearn_mlm import GroupsNotPassedWarning, RandomInterceptRegressor


def test_predict_without_groups_says_so_unless_population_is_asked_for(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        population = model.predict(X, groups="population")
        np.testing.assert_array_equal(model.predict(X, groups=[None] * len(y)), population)
        assert model.score(X, y, groups="population") < model.score(X, y, groups)
    with pytest.warns(GroupsNotPassedWarning, match="groups='population' if that is meant") as caught:
        np.testing.assert_array_equal(model.predict(X), population)
    assert caught[0].filename == __file__
    with pytest.warns(GroupsNotPassedWarning):
        model.score(X, y)


def test_population_leaves_out_the_effects_of_a_group_column(design):
    X, y, groups = design
    frame = pd.DataFrame(X, columns=list("abc")).assign(school=groups)
    model = RandomInterceptRegressor(group_feature="school").fit(frame, y)
    expected = RandomInterceptRegressor().fit(X, y, groups).predict(X, "population")
    np.testing.assert_allclose(model.predict(frame, "population"), expected, rtol=1e-12)


def test_a_model_fitted_without_groups_predicts_without_a_word(design):
    X, y, _ = design
    with pytest.warns(GroupsNotPassedWarning):
        model = RandomInterceptRegressor().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(X)


@pytest.mark.parametrize("container", [np.asarray, list, pd.DataFrame])
def test_of_two_faults_the_same_is_named_for_every_container(design, container):
    X, y, groups = design
    y = np.append(np.nan, y[1:])
    with pytest.raises(ValueError, match=r"y has 1 missing value\(s\) \(NaN\) in 67 rows, the first in row 0"):
        RandomInterceptRegressor().fit(container(X), y, groups[1:])
