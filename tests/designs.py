"""Simulated designs that several files test with."""

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
