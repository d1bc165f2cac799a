"""Simulated designs that several files test with, and what it means that two moments or two models are the same."""

import numpy as np


def simulate(n_groups=12, mean_size=6, n_columns=3, *, tau=1.0, sigma=1.0, level_2=True, seed=0):
    """X, y and groups of an unbalanced random-intercept design, with singletons, the rows in no order."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 2 * mean_size, n_groups))
    groups = rng.permutation(np.append(groups, [0, 0, 1]))
    X = rng.standard_normal((len(groups), n_columns)) + rng.standard_normal((n_groups, n_columns))[groups]
    if level_2 and n_columns:
        X[:, -1] = rng.standard_normal(n_groups)[groups]
    effects, noise = tau * rng.standard_normal(n_groups), sigma * rng.standard_normal(len(groups))
    return X, 2.0 + X @ rng.standard_normal(n_columns) + effects[groups] + noise, groups


def assert_same(moments, other, rtol=1e-12):
    """Assert that two states are of the same rows, up to rounding."""
    assert list(moments.labels) == list(other.labels)
    np.testing.assert_array_equal(moments.n_rows, other.n_rows)
    np.testing.assert_allclose(moments.counts, other.counts, rtol=rtol)
    # Parts with different centres round a column that is constant in its groups, so the scale is that of all scatter.
    scale = np.sqrt(other.within.diagonal() + other.counts @ other.means**2)
    np.testing.assert_allclose((moments.means - other.means) / scale, 0, atol=1e-13)
    np.testing.assert_allclose((moments.within - other.within) / np.outer(scale, scale), 0, atol=rtol)
    np.testing.assert_allclose(moments.sum_log_weight, other.sum_log_weight, rtol=rtol, atol=1e-12)


def assert_same_fit(model, other, rtol=1e-10, x_scale=1.0, y_scale=1.0):
    """Assert that two models differ by the scale of their columns only."""
    np.testing.assert_allclose(model.variance_components_, other.variance_components_ * y_scale**2, rtol=rtol)
    np.testing.assert_allclose(model.coef_, other.coef_ * y_scale / x_scale, rtol=rtol)
    np.testing.assert_allclose(model.icc_, other.icc_, rtol=rtol)
    spread = np.abs(other.random_effects_).max()
    np.testing.assert_allclose(model.random_effects_ / y_scale / spread, other.random_effects_ / spread, atol=rtol)
