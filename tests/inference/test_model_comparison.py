"""Models beside each other: likelihood-ratio tests of several, information criteria, one-row summaries."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.inference import compare_models, glance, likelihood_ratio_test, r2


@pytest.fixture
def nested(design):
    X, y, groups = design
    frame = pd.DataFrame(X, columns=[*"abc"])
    return {
        "null": RandomInterceptRegressor().fit(None, y, groups=groups),
        "a": RandomInterceptRegressor().fit(frame[["a"]], y, groups=groups),
        "all": RandomInterceptRegressor().fit(frame, y, groups=groups),
    }


def test_several_models_are_tested_in_one_table(nested):
    table = likelihood_ratio_test(nested["all"], a=nested["a"], null=nested["null"])
    assert list(table.index) == ["null", "a", "model 1"]
    assert table.index.name == "model"
    for small, large, name in (("null", "a", "a"), ("a", "all", "model 1")):
        pair = likelihood_ratio_test(nested[small], nested[large]).iloc[1]
        np.testing.assert_allclose(table.loc[name, ["chi2", "df", "p_value"]], pair[["chi2", "df", "p_value"]], rtol=1e-9)
    assert table.loc["null", ["chi2", "df", "p_value"]].isna().all()


def test_the_likelihood_ratio_test_is_rs(reference_mixed):
    frame, case = reference_mixed("D", "machines_factor")
    X = pd.get_dummies(frame["Machine"], drop_first=True).astype(float)
    null, full = (RandomInterceptRegressor().fit(x, frame["score"], groups=frame["Worker"]) for x in (None, X))
    table, expected = likelihood_ratio_test(null=null, full=full), case["lrt"][0]
    for name, theirs in (("null", "small"), ("full", "large")):
        row = [expected[f"{figure}_{theirs}"] for figure in ("AIC", "BIC", "logLik", "df")]
        np.testing.assert_allclose(table.loc[name, ["aic", "bic", "log_likelihood", "n_parameters"]], row, rtol=1e-9)
    np.testing.assert_allclose(table.loc["full", ["chi2", "df", "p_value"]], [expected["chi2"], 2, expected["p"]], rtol=1e-7)


def test_what_cannot_be_tested(nested, design):
    X, y, groups = design
    with pytest.raises(TypeError, match=r"Pass two or more models.*found 1"):
        likelihood_ratio_test(nested["a"])
    with pytest.raises(TypeError, match="full must be a RandomInterceptRegressor"):
        likelihood_ratio_test(nested["a"], full=LinearRegression().fit(X, y))
    with pytest.raises(ValueError, match=r"a and b are not nested.*compare_models"):
        likelihood_ratio_test(a=nested["a"], b=nested["a"])
    wider = RandomInterceptRegressor(weight_type="precision").fit(pd.DataFrame(X, columns=[*"abc"]), y, groups=groups)
    with pytest.raises(ValueError, match="model 1 and model 2 differ in weight_type"):
        likelihood_ratio_test(nested["a"], wider)
    with pytest.raises(ValueError, match="null and other have different rows"):
        compare_models(null=nested["null"], other=RandomInterceptRegressor().fit(None, y + groups, groups=groups))
    with pytest.raises(TypeError, match="Pass a model"):
        compare_models()


def test_models_that_are_not_nested_are_compared_by_maximum_likelihood(design):
    X, y, groups = design
    frame = pd.DataFrame(X, columns=[*"abc"])
    columns = {"ab": ["a", "b"], "c": ["c"], "ml": ["a", "b", "c"]}
    models = {
        name: RandomInterceptRegressor(method="ml" if name == "ml" else "reml").fit(frame[names], y, groups=groups)
        for name, names in columns.items()
    }
    table = compare_models(**models)
    assert table["method"].to_dict() == {"ab": "ML (refitted)", "c": "ML (refitted)", "ml": "ML"}
    for name, names in columns.items():
        refitted = RandomInterceptRegressor(method="ml").fit(frame[names], y, groups=groups)
        row = [refitted.log_likelihood_, refitted.aic_, refitted.bic_]
        np.testing.assert_allclose(table.loc[name, ["log_likelihood", "aic", "bic"]].astype(float), row, rtol=1e-11)
        shares = r2(models[name])
        of_fit = [shares["marginal"], shares["conditional"], models[name].icc_]
        np.testing.assert_allclose(table.loc[name, ["r2_marginal", "r2_conditional", "icc"]].astype(float), of_fit)
    relative = np.exp(-(table["aic"] - table["aic"].min()) / 2)
    np.testing.assert_allclose(table["aic_weight"], relative / relative.sum())


def test_columns_are_told_apart_by_their_values(design):
    X, y, groups = design
    one, other = (RandomInterceptRegressor().fit(X[:, [at]], y, groups=groups) for at in (0, 1))
    assert set(compare_models(one, other)["method"]) == {"ML (refitted)"}
    scaled = RandomInterceptRegressor().fit(1e3 * X[:, [0]], y, groups=groups)
    table = compare_models(one, scaled)
    assert set(table["method"]) == {"ML (refitted)"}
    np.testing.assert_allclose(table["aic_weight"], 0.5, rtol=1e-9)
    two = RandomInterceptRegressor().fit(X[:, 1:], y, groups=groups)
    with pytest.raises(ValueError, match="are not nested"):
        likelihood_ratio_test(one, two)
    likelihood_ratio_test(other, two)
    with pytest.raises(TypeError, match="Two models have the name 'model 1'"):
        likelihood_ratio_test(other, **{"model 1": two})
    precise = RandomInterceptRegressor(weight_type="precision").fit(X[:, [0]], y, groups=groups)
    with pytest.raises(ValueError, match="differ in weight_type"):
        compare_models(one, precise)


def test_columns_with_equal_group_means_are_nested_wherever_the_centre_is():
    rng = np.random.default_rng(0)
    groups, days = np.repeat(np.arange(12), 10), np.tile(np.arange(10) / 7, 12)
    X, y = np.column_stack([days, rng.standard_normal(120)]), rng.standard_normal(120)
    order = rng.permutation(120)
    small = RandomInterceptRegressor().fit(X[order, :1], y[order], groups=groups[order])
    large = RandomInterceptRegressor().fit(X, y, groups=groups)
    assert likelihood_ratio_test(small, large)["df"].iloc[1] == 1


def test_models_with_the_same_columns_keep_their_restricted_likelihood(nested):
    table = compare_models(nested["a"], nested["a"])
    assert list(table["method"]) == ["REML", "REML"]
    np.testing.assert_allclose(table["aic"], nested["a"].aic_)
    alone = compare_models(nested["all"])
    assert alone["method"].item() == "REML"
    assert alone["aic_weight"].item() == 1


def test_one_row(nested):
    for method in ("reml", "ml"):
        model = RandomInterceptRegressor(method=method).fit_moments(nested["a"].moments_)
        row = glance(model).iloc[0]
        expected = {
            "n_samples": model.moments_.counts.sum(), "n_groups": model.n_groups_, "n_parameters": 4,
            "log_likelihood": model.log_likelihood_, "criterion": model.criterion_, "aic": model.aic_, "bic": model.bic_,
            "df_residual": model.moments_.counts.sum() - 4, "icc": model.icc_,
            "sigma": np.sqrt(model.variance_components_["residual"]), "r2_marginal": r2(model)["marginal"],
        }  # fmt: skip
        np.testing.assert_allclose(row[list(expected)].astype(float), list(expected.values()), rtol=1e-12)
        assert row["method"] == method.upper()
    assert len(pd.concat([glance(each) for each in nested.values()])) == 3


def test_p_values_are_those_of_chi_squared(nested):
    table = likelihood_ratio_test(**nested)
    np.testing.assert_allclose(table["p_value"][1:], stats.chi2.sf(table["chi2"][1:], table["df"][1:]), rtol=1e-12)
