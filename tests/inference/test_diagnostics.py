"""Variance inflation, equal residual variances, and the influence of groups: against R, scipy and plain refits."""

import warnings
from types import SimpleNamespace

import mpmath
import numpy as np
import pandas as pd
import pytest
from designs import simulate
from scipy import sparse, stats
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.inference import influence, residual_variance_test, residuals, variance_inflation

# ---- variance inflation


def inverse_diagonal(model):
    """Diagonal of the inverse of the correlations of the slopes, in many digits."""
    fit = model.fit_
    kept = [i for i in range(1, len(fit.names)) if i not in fit.dropped]
    covariance = mpmath.matrix(fit.covariance[np.ix_(kept, kept)].tolist())
    with mpmath.workdps(50):
        root = [mpmath.sqrt(covariance[i, i]) for i in range(len(kept))]
        correlation = mpmath.matrix(len(kept))
        for i in range(len(kept)):
            for j in range(len(kept)):
                correlation[i, j] = covariance[i, j] / root[i] / root[j]
        inverse = correlation**-1
    return [float(inverse[i, i]) for i in range(len(kept))]


def test_variance_inflation_is_the_diagonal_of_the_inverse_of_the_correlations(design):
    X, y, groups = design
    frame = pd.DataFrame(np.column_stack([X, X[:, 0] + 0.3 * X[:, 1]]) + 100.0, columns=[*"abcd"])
    frame["d"] += 0.1 * np.sin(np.arange(len(y)))
    model = RandomInterceptRegressor().fit(frame, y, groups)
    vif = variance_inflation(model)
    assert (vif.name, list(vif.index)) == ("vif", [*"abcd"])
    np.testing.assert_allclose(vif, inverse_diagonal(model), rtol=1e-9)
    assert vif["d"] > 50
    np.testing.assert_allclose(vif.loc["c"], variance_inflation(model).loc["c"])


def test_of_two_predictors_at_no_group_variance_it_is_that_of_their_correlation():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2)) @ [[1.0, 0.8], [0.0, 0.6]]
    y = np.tile(rng.standard_normal(10), 4)
    groups = np.repeat(range(4), 10)
    model = RandomInterceptRegressor().fit(X, y + 0.1 * X[:, 0], groups)
    assert model.boundary_ == "group"
    np.testing.assert_allclose(variance_inflation(model), 1.0 / (1.0 - np.corrcoef(X.T)[0, 1] ** 2), rtol=1e-12)


@pytest.mark.parametrize("apart", [1e-3, 1e-9])
def test_nearly_dependent_coefficients_cost_half_the_digits_of_an_inverse(apart):
    # The correlation of these coefficients differs from 1 by apart^2 / 2, which at 1e-9 is less than rounding.
    root = np.array([[1.0, 0.0, 0.0], [5.0, 2.0, 0.0], [5.0, 2.0, apart * np.sqrt(29.0)]])
    fit = SimpleNamespace(names=["(Intercept)", "a", "b"], dropped=np.empty(0, dtype=int), whiten=lambda L: L @ root)
    np.testing.assert_allclose(variance_inflation(SimpleNamespace(fit_=fit)), 1.0 + apart**-2, rtol=1e-6)


def test_dropped_columns_have_no_variance_inflation_and_do_not_count(design):
    X, y, groups = design
    whole = RandomInterceptRegressor().fit(X, y, groups)
    with pytest.warns(UserWarning, match="redundant"):
        model = RandomInterceptRegressor().fit(np.column_stack([X[:, :2], X[:, 0] - X[:, 1], X[:, 2]]), y, groups)
    np.testing.assert_allclose(variance_inflation(model)[["x0", "x1", "x3"]], variance_inflation(whole), rtol=1e-10)
    assert np.isnan(variance_inflation(model)["x2"])


def test_models_without_predictors_or_intercept(design):
    X, y, groups = design
    null = variance_inflation(RandomInterceptRegressor().fit(None, y, groups))
    assert len(null) == 0
    assert null.dtype == np.float64
    assert variance_inflation(RandomInterceptRegressor().fit(X[:, :1], y, groups)).tolist() == [1.0]
    bare = RandomInterceptRegressor(fit_intercept=False).fit(X, y, groups)
    correlation = bare.cov_fixed_ / np.sqrt(np.outer(*2 * [bare.cov_fixed_.diagonal()]))
    np.testing.assert_allclose(variance_inflation(bare), np.linalg.inv(correlation).diagonal(), rtol=1e-12)


def test_pipelines_and_other_mixed_models_have_variance_inflation_too(design):
    X, y, groups = design
    frame = pd.DataFrame(X, columns=[*"abc"])
    model = make_pipeline(StandardScaler(), RandomInterceptRegressor())
    model.fit(frame, y, randominterceptregressor__groups=groups)
    plain = RandomInterceptRegressor().fit(frame, y, groups)
    # The unit of a predictor makes no difference.
    pd.testing.assert_series_equal(variance_inflation(model), variance_inflation(plain))
    columns = np.column_stack([np.ones(len(y)), X[:, :2]])
    root = np.linalg.cholesky(np.linalg.inv(columns.T @ columns))
    fit = SimpleNamespace(names=["(Intercept)", "a", "b"], dropped=np.empty(0, dtype=int), whiten=lambda L: L @ root)
    dense = SimpleNamespace(fit_=fit)
    np.testing.assert_allclose(variance_inflation(dense), 1.0 / (1.0 - np.corrcoef(X[:, :2].T)[0, 1] ** 2), rtol=1e-10)


# ---- residual variances


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_the_test_of_equal_variances_is_that_of_scipy_for_groups_of_three_rows(shift):
    X, y, groups = simulate(n_groups=40, mean_size=4)
    model = RandomInterceptRegressor().fit(X, y + shift, groups)
    test = residual_variance_test(model, X, y + shift, groups)
    rest = y + shift - model.predict(X, "population")
    sizes = np.bincount(groups)
    assert (sizes < 3).any()
    assert {3, 4} < {*sizes}
    large = np.flatnonzero(sizes >= 3)
    expected = stats.levene(*[rest[groups == at] for at in large], center="median")
    np.testing.assert_allclose(
        test[["F", "p_value"]], [expected.statistic, expected.pvalue], rtol=1e-10 if not shift else 1e-8
    )
    assert test["df1"] == len(large) - 1
    assert test["df2"] == sizes[large].sum() - len(large)
    assert str(test).splitlines()[0].split()[0] == "F"


def test_rows_of_new_groups_are_left_out_and_precisions_are_allowed_for(design):
    X, y, groups = design
    weights = np.random.default_rng(0).uniform(0.2, 5.0, len(y))
    model = RandomInterceptRegressor(weight_type="precision").fit(X, y, groups, weights)
    test = residual_variance_test(model, X, y, groups, sample_weight=weights)
    scaled = residuals(model, X, y, groups, scaled=True, sample_weight=weights).to_numpy()
    large = np.flatnonzero(np.bincount(groups) >= 3)
    expected = stats.levene(*[scaled[groups == at] for at in large], center="median")
    np.testing.assert_allclose(test["F"], expected.statistic, rtol=1e-10)
    more = np.append(groups, [99] * 5), np.append(y, 1e9 * np.arange(5)), np.vstack([X, X[:5]])
    for weight, more_weights in ((None, None), (weights, np.append(weights, np.ones(5)))):
        again = residual_variance_test(model, more[2], more[1], more[0], sample_weight=more_weights)
        pd.testing.assert_series_equal(again, residual_variance_test(model, X, y, groups, sample_weight=weight))
    # A row of weight 0 is no row.
    zero = np.append(weights, np.zeros(5))
    again = residual_variance_test(model, more[2], more[1], np.append(groups, groups[:5]), sample_weight=zero)
    pd.testing.assert_series_equal(again, test)
    plain = RandomInterceptRegressor().fit(X, y, groups)
    copies = residual_variance_test(plain, X, y, groups, sample_weight=weights)
    pd.testing.assert_series_equal(copies, residual_variance_test(plain, X, y, groups))


def test_the_spread_of_one_group_cannot_be_compared(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups)
    size = np.bincount(groups)
    one = groups == size.argmax()
    with pytest.raises(ValueError, match=r"between groups of 3 rows or more; found 1 such group\(s\)"):
        residual_variance_test(model, X[one], y[one], groups[one])
    with pytest.raises(ValueError, match="found 0 such"):
        residual_variance_test(model, X, y, groups + 1_000)


def test_the_test_takes_pipelines(design):
    X, y, groups = design
    model = make_pipeline(StandardScaler(), RandomInterceptRegressor())
    model.fit(X, y, randominterceptregressor__groups=groups)
    plain = RandomInterceptRegressor().fit(X, y, groups)
    test = residual_variance_test(model, X, y, groups)
    pd.testing.assert_series_equal(test, residual_variance_test(plain, X, y, groups), rtol=1e-10)


# ---- influence

CASES = ["loo_sleepstudy", "loo_orthodont", "loo_exam", "loo_pbg", "loo_early", "loo_igf"]


@pytest.mark.parametrize("name", CASES)
def test_influence_is_that_of_fits_in_lme4(reference_mixed, name):
    rows, case = reference_mixed("E", name)
    columns = {}
    for term in case["coef_names"][1:]:
        columns[term] = np.prod([rows[part] for part in term.split(":")], axis=0)
    X, y = pd.DataFrame(columns), rows[case["formula"].split(" ~ ")[0]]
    groups = rows[case["group"]].astype(str)
    model = RandomInterceptRegressor().fit(X, y, groups)
    table = influence(model, X, y, groups).loc[case["groups"]]
    assert table["n"].tolist() == case["group_size"]
    # Their Cook's distances are differences of estimates, which lose some digits.
    np.testing.assert_allclose(table["cooks_distance"], case["cooks_distance"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(table["covratio"], case["covratio"], rtol=1e-8)
    np.testing.assert_allclose(table["group_variance"], np.ravel(case["Sigma"]), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(table["residual_variance"], case["sigma2"], rtol=1e-8)
    change = np.array(case["full"]["beta"]) - np.array(case["beta"])
    names = [f"dfbetas {name}" for name in ["(Intercept)", *columns]]
    np.testing.assert_allclose(table[names], change / np.sqrt(case["vcov_diag"]), rtol=1e-8, atol=1e-9)


def refits(model, X, y, groups, weights=None):
    """Return what `influence` does, by a fit of the other rows for each group.

    Where a group changes little, the differences of the estimates lose digits: 1e-9 of the largest is what can be compared.
    """
    table = []
    n = len(model.fit_.names)
    kept = np.setdiff1d(np.arange(n), model.fit_.dropped)
    covariance = model.cov_fixed_[np.ix_(kept, kept)]
    for label in model.groups_:
        others = groups != label
        other = RandomInterceptRegressor(**model.get_params())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other.fit(
                None if X is None else X[others], y[others], groups[others], None if weights is None else weights[others]
            )
        change = model.fit_.coefficients - other.fit_.coefficients
        distance = change[kept] @ np.linalg.solve(covariance, change[kept]) / len(kept)
        dets = [np.linalg.slogdet(each)[1] for each in (other.cov_fixed_[np.ix_(kept, kept)], covariance)]
        betas = np.full(n, np.nan)
        with np.errstate(divide="ignore"):
            betas[kept] = change[kept] / np.sqrt(other.cov_fixed_.diagonal()[kept])
        table.append([distance, np.exp(dets[0] - dets[1]), *other.variance_components_, *betas])
    return np.array(table)


def weighted(design, whole):
    rng = np.random.default_rng(1)
    return rng.integers(0, 4, len(design[1])).astype(float) if whole else rng.uniform(0.5, 2.0, len(design[1]))


def few(design):
    """A column that two groups carry alone."""
    X, y, groups = design
    return np.column_stack([X, np.isin(groups, [2, 3])]), y, groups


def sizes_apart():
    """A group of many rows with values far larger than those of the others."""
    rng = np.random.default_rng(0)
    groups = np.append(np.zeros(600, dtype=int), np.repeat(np.arange(1, 16), 4))
    scale = np.where(groups == 0, 1e4, 1.0)
    X = rng.standard_normal((len(groups), 2)) * scale[:, None]
    return X, X.sum(axis=1) + rng.standard_normal(16)[groups] + scale * rng.standard_normal(len(groups)), groups


DESIGNS = {
    "singletons and a level-2 column": (lambda design: design, {}, None),
    "many groups": (lambda design: simulate(n_groups=200, mean_size=3), {}, None),
    "maximum likelihood": (lambda design: design, {"method": "ml"}, None),
    "no intercept": (lambda design: design, {"fit_intercept": False}, None),
    "precisions": (lambda design: design, {"weight_type": "precision"}, False),
    "copies, some of none": (lambda design: design, {}, True),
    "a column of two groups": (few, {}, None),
    "one group that outweighs the others": (lambda design: sizes_apart(), {}, None),
    "predictors that explain nearly all": (
        lambda design: (design[0], design[1] + 1e6 * design[0][:, 0], design[2]),
        {},
        None,
    ),
    "a redundant column": (lambda design: (np.column_stack([design[0], -design[0][:, 1]]), *design[1:]), {}, None),
    "sparse rows": (lambda design: (sparse.csr_array(np.maximum(design[0], 0)), *design[1:]), {}, None),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_influence_is_that_of_plain_refits(design, name):
    change, parameters, whole = DESIGNS[name]
    X, y, groups = change(design)
    weights = None if whole is None else weighted((X, y), whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = RandomInterceptRegressor(**parameters).fit(X, y, groups, weights)
    table = influence(model, X, y, groups, sample_weight=weights)
    assert table.index.equals(model.groups_)
    pd.testing.assert_series_equal(
        table["n"], pd.Series(model.fit_.group_sizes(), index=model.groups_, name="n"), check_dtype=False
    )
    expected = refits(model, X, y, groups, weights)
    found = table.drop(columns="n").to_numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    scale = np.nanmax(np.abs(expected), axis=0, initial=0.0)
    # In one design the refits subtract coefficients of 1e6, whose difference loses six digits.
    scale = np.where(scale > 0, scale, 1.0)
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-8 if model.moments_.remainder else 1e-9)


def test_the_null_model_has_influential_groups_too(design):
    _, y, groups = design
    model = RandomInterceptRegressor().fit(None, y, groups)
    np.testing.assert_allclose(
        influence(model, None, y, groups).drop(columns="n"), refits(model, None, y, groups), rtol=1e-9
    )


def test_influence_does_not_depend_on_the_origin_or_the_unit(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups)
    table = influence(model, X, y, groups)
    moved = RandomInterceptRegressor().fit(X + 1e6, 3.0 * y + 1e7, groups)
    again = influence(moved, X + 1e6, 3.0 * y + 1e7, groups)
    # Rows near 1e6 hold ten digits of their spread.
    np.testing.assert_allclose(again["cooks_distance"], table["cooks_distance"], rtol=1e-6)
    np.testing.assert_allclose(again["covratio"], table["covratio"], rtol=1e-6)
    np.testing.assert_allclose(again["group_variance"], 9.0 * table["group_variance"], rtol=1e-6)
    np.testing.assert_allclose(again.iloc[:, 6:], table.iloc[:, 6:], rtol=1e-5, atol=1e-8)


def test_influence_does_not_depend_on_the_order_of_rows_and_takes_pipelines(design):
    X, y, groups = design
    frame = pd.DataFrame(X, columns=[*"abc"]).assign(school=groups)
    model = RandomInterceptRegressor(group_feature="school").fit(frame, y)
    order = np.random.default_rng(0).permutation(len(y))
    table = influence(model, frame, y)
    np.testing.assert_allclose(influence(model, frame.iloc[order], y[order]), table, rtol=1e-9)
    pipeline = make_pipeline(StandardScaler(), RandomInterceptRegressor())
    pipeline.fit(X, y, randominterceptregressor__groups=groups)
    scaled = influence(pipeline, X, y, groups)
    np.testing.assert_allclose(scaled["cooks_distance"], table["cooks_distance"], rtol=1e-9)
    assert list(scaled.columns[-3:]) == ["dfbetas x0", "dfbetas x1", "dfbetas x2"]
    assert table.index.name == "school"


def test_a_coefficient_that_one_group_carries_is_not_known_without_it(design):
    X, y, groups = design
    X = np.column_stack([X, groups == 2])
    model = RandomInterceptRegressor().fit(X, y, groups)
    with pytest.warns(UserWarning, match=r"Without a group \(2\), there is no estimate of 'x3'") as record:
        table = influence(model, X, y, groups)
    assert len(record) == 1
    gaps = table.isna()
    assert gaps.loc[2].to_numpy().nonzero()[0].tolist() == [1, 2, 9]
    assert not gaps.drop(index=2).to_numpy().any()
    expected = refits(model, X, y, groups)
    np.testing.assert_allclose(table.loc[2].iloc[3:9], expected[2, 2:8], rtol=1e-9)


def test_without_one_of_two_groups_nothing_can_be_estimated(design):
    X, y, groups = design
    two = np.isin(groups, [0, 3])
    X, y, groups = X[two, :1], y[two], groups[two]
    model = RandomInterceptRegressor().fit(X, y, groups)
    with pytest.warns(UserWarning, match=r"Without each of 2 groups \(0, 3\), the variances cannot be estimated") as record:
        table = influence(model, X, y, groups)
    assert len(record) == 1
    assert table.drop(columns="n").isna().to_numpy().all()


def test_groups_that_hold_all_repeated_rows_or_too_many_of_them_leave_gaps():
    groups = np.array([0, 0, 0, 1, 2, 3, 4])
    y = np.array([1.0, 3.0, 2.0, 5.0, 4.0, 7.0, 3.0])
    model = RandomInterceptRegressor().fit(None, y, groups)
    with pytest.warns(UserWarning, match=r"Without a group \(0\)"):
        table = influence(model, None, y, groups)
    assert table["residual_variance"].isna().tolist() == [True] + [False] * 4
    X = np.column_stack([np.sin(np.arange(7)), np.cos(3.0 * np.arange(7))])
    groups = np.array([0, 0, 0, 0, 1, 1, 2])
    model = RandomInterceptRegressor().fit(X, y, groups)
    with pytest.warns(UserWarning, match="too few groups or rows"):
        assert influence(model, X, y, groups)["cooks_distance"].isna()[0]


def test_variances_that_the_other_groups_do_not_tell_apart_leave_gaps():
    # Without one of three groups, the intercept and a column of the groups fit the means of the other two exactly.
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 4)
    X = np.array([0.0, 1.0, 3.0])[groups][:, None]
    y = rng.standard_normal(12) + groups
    model = RandomInterceptRegressor().fit(X, y, groups)
    with pytest.warns(UserWarning, match="Without each of 3 groups"):
        assert influence(model, X, y, groups).drop(columns="n").isna().to_numpy().all()


def test_influence_takes_the_rows_of_the_fit_only(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups)
    with pytest.raises(ValueError, match=r"needs the rows, groups and weights .* found \d+ rows, of total"):
        influence(model, X[1:], y[1:], groups[1:])
    with pytest.raises(ValueError, match=r"\d+ of them without a group that it knows"):
        influence(model, X, y, np.where(groups == 1, 99, groups))
    with pytest.raises(ValueError, match="y is None: pass the outcome"):
        influence(model, X, None, groups)
    with pytest.raises(ValueError, match="of total weight"):
        influence(model, X, y, groups, sample_weight=2.0)
    with pytest.raises(ValueError, match="the group means of 'x1', 'y' are others"):
        influence(model, X + np.array([0.0, 1e-3, 0.0]), y + 1e-3, groups)
    y = np.sin(groups)
    exact = RandomInterceptRegressor().fit(None, y, groups)
    with pytest.raises(ValueError, match="no residual"):
        influence(exact, None, y, groups)


def test_the_progress_of_influence_is_shown(design, capsys):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups)
    influence(model, X, y, groups)
    assert capsys.readouterr().err == ""
    influence(model, X, y, groups, verbose=1)
    assert "groups" in capsys.readouterr().err


def test_influence_of_some_groups(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups)
    table = influence(model, X, y, groups)
    some = influence(model, X, y, groups, only=[7, 3])
    pd.testing.assert_frame_equal(some, table.loc[[3, 7]])
    with pytest.raises(ValueError, match="only has labels that fit has not seen, such as 99"):
        influence(model, X, y, groups, only=[3, 99])


def test_influence_says_that_it_takes_long(design, monkeypatch):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups)
    monkeypatch.setattr("sklearn_mlm.inference._influence._MINUTES", 100)
    with pytest.warns(UserWarning, match="fits the model 12 times to 12 groups, which takes minutes or hours") as caught:
        influence(model, X, y, groups)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        influence(model, X, y, groups, only=[3])
