"""Cluster-robust covariances against dense matrices that share no code, and the jackknife by brute force."""

import numpy as np
import pytest
from designs import simulate
from scipy import sparse

from sklearn_mlm import ClusterRobustOLS, RandomInterceptRegressor, compare_with_ols
from sklearn_mlm.inference import fixed_effects


def dense(X, y, groups, weights, cov_type):
    """Covariance and df by the definitions, with n-by-n matrices."""
    n, k = X.shape
    W = np.diag(np.ones(n) if weights is None else weights)
    M = np.linalg.inv(X.T @ W @ X)
    H = X @ M @ X.T @ W
    residuals = y - H @ y
    working = (np.eye(n) - H) @ (np.eye(n) - H).T
    labels = np.unique(groups)
    meat, a = np.zeros((k, k)), np.zeros((len(labels), n, k))
    for j, label in enumerate(labels):
        rows = np.flatnonzero(groups == label)
        A = np.eye(len(rows))
        if cov_type == "CR2":
            values, vectors = np.linalg.eigh(working[np.ix_(rows, rows)])
            A = (vectors * np.where(values > 1e-12, np.maximum(values, 1e-12) ** -0.5, 0)) @ vectors.T
        score = X[rows].T @ W[np.ix_(rows, rows)] @ A @ residuals[rows]
        meat += np.outer(score, score)
        a[j, rows] = A @ W[np.ix_(rows, rows)] @ X[rows] @ M
    J = len(labels)
    df = np.full(k, J - 1.0)
    if cov_type == "CR2":
        for c in range(k):
            P = a[:, :, c] @ working @ a[:, :, c].T
            df[c] = np.trace(P) ** 2 / np.trace(P @ P)
    factor = J / (J - 1) * (n - 1) / (n - k) if cov_type == "CR1" else 1.0
    return factor * M @ meat @ M, df


def jackknife(X, y, groups, weights):
    """Leave one group out at a time."""
    root = np.sqrt(np.ones(len(y)) if weights is None else weights)

    def solve(rows):
        return np.linalg.lstsq(X[rows] * root[rows, None], y[rows] * root[rows], rcond=None)[0]

    labels = np.unique(groups)
    whole = solve(np.ones(len(y), dtype=bool))
    changes = np.array([solve(groups != label) - whole for label in labels])
    return (len(labels) - 1) / len(labels) * changes.T @ changes


def weights_of(kind, n):
    rng = np.random.default_rng(3)
    return {"none": None, "any": rng.uniform(0.2, 3.0, n), "equal": np.full(n, 2.5)}[kind]


@pytest.mark.parametrize("weighting", ["none", "any", "equal"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("cov_type", ["CR0", "CR1", "CR2"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_covariance_and_df_are_those_of_the_definitions(cov_type, fit_intercept, weighting, seed):
    X, y, groups = simulate(9, 7, 3, seed=seed)
    X += 10.0
    weights = weights_of(weighting, len(y))
    model = ClusterRobustOLS(cov_type=cov_type, fit_intercept=fit_intercept).fit(X, y, groups, weights)
    columns = np.column_stack([np.ones(len(y)), X]) if fit_intercept else X
    covariance, df = dense(columns, y, groups, weights, cov_type)
    np.testing.assert_allclose(model.cov_fixed_, covariance, rtol=1e-8, atol=1e-12 * np.abs(covariance).max())
    np.testing.assert_allclose(model.df_, df, rtol=1e-8)


@pytest.mark.parametrize("weighting", ["none", "any"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_cr3_is_the_jackknife(fit_intercept, weighting):
    X, y, groups = simulate(11, 5, 2, seed=4)
    weights = weights_of(weighting, len(y))
    model = ClusterRobustOLS(cov_type="CR3", fit_intercept=fit_intercept).fit(X, y, groups, weights)
    columns = np.column_stack([np.ones(len(y)), X]) if fit_intercept else X
    np.testing.assert_allclose(model.cov_fixed_, jackknife(columns, y, groups, weights), rtol=1e-10)
    np.testing.assert_array_equal(model.df_, len(np.unique(groups)) - 1)


def test_equal_weights_are_none():
    X, y, groups = simulate(9, 7, 3)
    for cov_type in ("nonrobust", "CR0", "CR1", "CR2", "CR3"):
        plain = ClusterRobustOLS(cov_type=cov_type).fit(X, y, groups)
        weighted = ClusterRobustOLS(cov_type=cov_type).fit(X, y, groups, np.full(len(y), 7.0))
        np.testing.assert_allclose(weighted.cov_fixed_, plain.cov_fixed_, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(weighted.df_, plain.df_, rtol=1e-9)


def test_each_row_a_group_is_what_is_known_as_hc():
    X, y, _ = simulate(9, 7, 2)
    columns = np.column_stack([np.ones(len(y)), X])
    M = np.linalg.inv(columns.T @ columns)
    leverage = ((columns @ M) * columns).sum(axis=1)
    residuals = y - columns @ M @ columns.T @ y
    for cov_type, squares in (("CR0", residuals**2), ("CR2", residuals**2 / (1 - leverage))):
        with pytest.warns(UserWarning, match="each row counts as a group"):
            model = ClusterRobustOLS(cov_type=cov_type).fit(X, y)
        np.testing.assert_allclose(model.cov_fixed_, M @ (columns.T * squares) @ columns @ M, rtol=1e-10)


@pytest.mark.parametrize("cov_type", ["CR0", "CR1", "CR2", "CR3"])
@pytest.mark.parametrize("weighting", ["none", "any"])
def test_groups_larger_than_a_block_and_sparse_rows_make_no_difference(cov_type, weighting, monkeypatch):
    X, y, groups = simulate(6, 40, 3, seed=5)
    X[np.abs(X) < 0.5] = 0.0
    weights = weights_of(weighting, len(y))
    expected = ClusterRobustOLS(cov_type=cov_type).fit(X, y, groups, weights)
    monkeypatch.setattr("sklearn_mlm.baselines._cluster_robust._LEAST_PIECE", 3)
    monkeypatch.setattr("sklearn_mlm.baselines._cluster_robust._BLOCK_NUMBERS", 60)
    for form in (X, np.asfortranarray(X), sparse.csr_array(X), sparse.csc_matrix(X)):
        model = ClusterRobustOLS(cov_type=cov_type).fit(form, y, groups, weights)
        np.testing.assert_allclose(model.cov_fixed_, expected.cov_fixed_, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(model.df_, expected.df_, rtol=1e-9)


def test_columns_far_from_zero_cost_no_digits():
    X, y, groups = simulate(9, 7, 2, seed=2)
    near, far = (ClusterRobustOLS().fit(X + shift, y + shift, groups) for shift in (0.0, 1e6))
    np.testing.assert_allclose(far.cov_fixed_[1:, 1:], near.cov_fixed_[1:, 1:], rtol=1e-8)
    np.testing.assert_allclose(far.df_[1:], near.df_[1:], rtol=1e-8)


def test_dropped_columns_have_no_variance_and_no_df():
    X, y, groups = simulate(9, 7, 2)
    with pytest.warns(UserWarning, match="x1 depend|depend.*x1"):
        model = ClusterRobustOLS().fit(np.column_stack([X[:, 0], 2 * X[:, 0], X[:, 1]]), y, groups)
    plain = ClusterRobustOLS().fit(X, y, groups)
    kept = [0, 1, 3]
    np.testing.assert_allclose(model.cov_fixed_[np.ix_(kept, kept)], plain.cov_fixed_, rtol=1e-9)
    np.testing.assert_allclose(model.df_[kept], plain.df_, rtol=1e-9)
    assert np.isnan(model.df_[2])
    assert not model.cov_fixed_[2].any()


@pytest.mark.parametrize("n_columns", [2, 12], ids=["rows than columns", "columns than rows"])
@pytest.mark.parametrize("weighting", ["none", "any"])
@pytest.mark.parametrize("cov_type", ["CR0", "CR1", "CR2", "CR3"])
def test_a_coefficient_that_rests_on_one_group_has_no_standard_error(cov_type, weighting, n_columns):
    X, y, groups = simulate(30, 4, n_columns, level_2=False)
    X[:, 1] = groups == 4
    weights = weights_of(weighting, len(y))
    with pytest.warns(UserWarning, match=r"The coefficient\(s\) of x1 rest on one group in part"):
        model = ClusterRobustOLS(cov_type=cov_type).fit(X, y, groups, weights)
    table = fixed_effects(model)
    assert table.loc["x1", ["std_error", "df", "t", "p_value", "ci_lower", "ci_upper"]].isna().all()
    assert np.isfinite(table.loc["x1", "estimate"])
    others = [0, 1, *range(3, n_columns + 1)]
    assert np.isfinite(table.iloc[others]).all(axis=None)
    if cov_type == "CR2" and weighting == "none":
        # As clubSandwich does it: the direction is left out of the root.
        covariance, df = dense(np.column_stack([np.ones(len(y)), X]), y, groups, None, "CR2")
        kept = np.ix_(others, others)
        np.testing.assert_allclose(model.cov_fixed_[kept], covariance[kept], rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(model.df_[others], df[others], rtol=1e-7)


def test_one_treated_group_has_a_standard_error_by_the_model_alone():
    _, y, groups = simulate(30, 8, 0)
    treated = (groups == 7).astype(float)[:, None]
    textbook = fixed_effects(ClusterRobustOLS(cov_type="nonrobust").fit(treated, y, groups))
    assert np.isfinite(textbook).all(axis=None)
    mixed = fixed_effects(RandomInterceptRegressor().fit(treated, y, groups)).loc["x0"]
    # One group's mean tells of the effect, so that its standard error is at least the groups' own spread, 1.
    assert 0.8 < mixed["std_error"] < 1.5
    table = compare_with_ols(treated, y, groups, random_state=0).coefficients
    assert np.isnan(table.loc[("x0", "cluster-robust OLS"), "std_error"])


@pytest.mark.parametrize("weighting", ["none", "any"])
@pytest.mark.parametrize("cov_type", ["CR0", "CR1", "CR2", "CR3"])
def test_groups_of_fewer_rows_than_columns(cov_type, weighting):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(25), rng.integers(1, 4, 25))
    X, y = rng.standard_normal((len(groups), 5)), rng.standard_normal(len(groups))
    weights = weights_of(weighting, len(y))
    model = ClusterRobustOLS(cov_type=cov_type).fit(X, y, groups, weights)
    columns = np.column_stack([np.ones(len(y)), X])
    if cov_type == "CR3":
        covariance, df = jackknife(columns, y, groups, weights), 24.0
    else:
        covariance, df = dense(columns, y, groups, weights, cov_type)
    np.testing.assert_allclose(model.cov_fixed_, covariance, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(model.df_, df, rtol=1e-8)


def test_weights_that_differ_by_a_billion():
    X, y, groups = simulate(9, 7, 2)
    weights = np.exp(np.random.default_rng(0).uniform(np.log(1e-5), np.log(1e4), len(y)))
    model = ClusterRobustOLS().fit(X, y, groups, weights)
    covariance, df = dense(np.column_stack([np.ones(len(y)), X]), y, groups, weights, "CR2")
    np.testing.assert_allclose(model.cov_fixed_, covariance, rtol=1e-4)
    np.testing.assert_allclose(model.df_, df, rtol=1e-4)
