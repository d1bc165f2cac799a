"""Least squares with several columns of labels: errors clustered by all of them at once, and the comparison with a model."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from many_cases import check_each

from sklearn_mlm import ClusterRobustOLS, FactorComparison, MixedEffectsRegressor, compare_with_ols
from sklearn_mlm.inference import icc


@pytest.fixture(scope="module")
def rows():
    """Subjects and items, crossed but for some rows, on different days."""
    rng = np.random.default_rng(3)
    groups = pd.DataFrame({"subject": np.repeat(np.arange(25), 12), "item": np.tile(np.arange(12), 25)})
    groups["day"] = rng.integers(0, 8, 300)
    X = pd.DataFrame({"x": rng.standard_normal(12)[groups["item"]], "z": rng.standard_normal(300)})
    y = (
        X["x"]
        + rng.standard_normal(25)[groups["subject"]]
        + rng.standard_normal(12)[groups["item"]]
        + rng.standard_normal(300)
    )
    kept = rng.random(300) < 0.9
    return X[kept], y[kept].rename("y"), groups[kept]


def by_the_sum_over_intersections(X, y, groups, *, correct, weights=None):
    """Equation 2.11 of Cameron, Gelbach and Miller by n x n indicators of rows that share a level."""
    X = np.column_stack([np.ones(len(X)), X])
    w = np.ones(len(y)) if weights is None else weights
    bread = np.linalg.inv(X.T @ (w[:, None] * X))
    scores = X * (w * (y - X @ (bread @ (X.T @ (w * y)))))[:, None]
    n, k = len(y), X.shape[1]
    total = np.zeros((k, k))
    for size in range(1, groups.shape[1] + 1):
        for columns in combinations(groups.columns, size):
            _, codes = np.unique(groups[list(columns)].to_numpy(), axis=0, return_inverse=True)
            codes = codes.ravel()
            J = codes.max() + 1
            part = scores.T @ (codes[:, None] == codes) @ scores
            total += (-1) ** (size + 1) * part * (J / (J - 1) * (n - 1) / (n - k) if correct else 1.0)
    return bread @ total @ bread


def test_standard_errors_are_the_signed_sum_over_intersections(rows):
    X, y, groups = rows

    def check(columns, cov_type):
        model = ClusterRobustOLS(cov_type=cov_type).fit(X, y, groups=groups[columns])
        expected = by_the_sum_over_intersections(X.to_numpy(), y.to_numpy(), groups[columns], correct=cov_type == "CR1")
        np.testing.assert_allclose(model.cov_fixed_, expected, rtol=1e-10)
        assert model.n_groups_ == {name: groups[name].nunique() for name in columns}
        assert (model.df_ == min(model.n_groups_.values()) - 1).all()

    cases = [
        (columns, cov_type) for columns in (["subject", "item"], ["subject", "item", "day"]) for cov_type in ("CR0", "CR1")
    ]
    check_each([(str(case), case) for case in cases], check)


def test_factors_that_are_one_give_the_errors_of_that_one(rows):
    X, y, groups = rows
    twice = pd.DataFrame({"subject": groups["subject"], "again": groups["subject"].astype(str)})
    one = ClusterRobustOLS(cov_type="CR1").fit(X, y, groups=groups["subject"])
    np.testing.assert_allclose(
        ClusterRobustOLS(cov_type="CR1").fit(X, y, groups=twice).cov_fixed_, one.cov_fixed_, rtol=1e-12
    )


def test_a_difference_with_negative_eigenvalues_is_cut_off_at_zero():
    rng = np.random.default_rng(1)
    found = 0
    for at in range(30):
        n = (14, 300)[at % 2]
        groups = pd.DataFrame({"a": rng.integers(0, n // 4, n), "b": rng.integers(0, n // 4, n)})
        X, y = rng.standard_normal((n, 2)), rng.standard_normal(n)
        y = y + rng.standard_normal(n)[groups["a"]] + rng.standard_normal(n)[groups["b"]]
        raw = by_the_sum_over_intersections(X, y, groups, correct=False)
        covariance = ClusterRobustOLS(cov_type="CR0").fit(X, y, groups=groups).cov_fixed_
        length = np.sqrt(np.abs(raw.diagonal()))
        lowest = np.linalg.eigvalsh(raw / np.outer(length, length)).min()
        assert np.linalg.eigvalsh(covariance).min() > -1e-12 * np.abs(covariance).max()
        if lowest < 0:
            found += 1
        else:
            np.testing.assert_allclose(covariance, raw, rtol=1e-8, atol=1e-12)
    assert 0 < found < 30


def test_an_exact_fit_counts_the_levels_and_not_the_cells(rows):
    X, _, groups = rows
    model = ClusterRobustOLS(cov_type="CR1").fit(X, 1.0 + X["x"], groups=groups)
    np.testing.assert_allclose(model.cov_fixed_, 0.0, atol=1e-20)
    assert (model.df_ == groups["day"].nunique() - 1).all()


def test_what_several_columns_cannot_have_is_refused(rows):
    X, y, groups = rows
    with pytest.raises(ValueError, match="is for one column of labels; groups has 3"):
        ClusterRobustOLS().fit(X, y, groups=groups)
    textbook = ClusterRobustOLS(cov_type="nonrobust").fit(X, y, groups=groups)
    np.testing.assert_allclose(textbook.cov_fixed_, ClusterRobustOLS(cov_type="nonrobust").fit(X, y).cov_fixed_)
    with pytest.raises(ValueError, match="one"):
        ClusterRobustOLS(cov_type="CR1").fit(X, y, groups=groups.assign(item=0))


def test_the_comparison_shows_each_way_of_clustering_and_the_model(rows):
    X, y, groups = rows
    groups = groups[["subject", "item"]]
    comparison = compare_with_ols(X, y, groups)
    assert isinstance(comparison, FactorComparison)
    model = MixedEffectsRegressor().fit(X, y, groups=groups)
    table = comparison.coefficients
    both = ClusterRobustOLS(cov_type="CR1").fit(X, y, groups=groups)
    of_both = table.xs("clustered by both", level="model")
    np.testing.assert_allclose(of_both["std_error"], np.sqrt(both.cov_fixed_.diagonal()), rtol=1e-12)
    np.testing.assert_allclose(comparison.model.criterion_, model.criterion_, rtol=1e-14)
    np.testing.assert_allclose(comparison.shares[["subject", "item"]], icc(model)[["subject", "item"]], rtol=1e-12)
    np.testing.assert_allclose(comparison.shares["all"], comparison.shares[["subject", "item"]].sum())
    assert (comparison.tests["p_value"] < 0.001).all()
    ratio = of_both["std_error"] / table.xs("pooled OLS", level="model")["std_error"]
    wrong = [name for name in ("x", "z") if not 1 / 1.1 < ratio[name] < 1.1]
    assert "x" in wrong
    text = " ".join(comparison.conclusions)
    assert "Textbook standard errors of least squares are wrong for " + " and ".join(wrong) + ", because" in text
    assert text.startswith(
        f"Of the variance that the predictors leave, {comparison.shares['subject']:.0%} is between levels"
    )
    shown = str(comparison)
    assert (
        f"{len(y)} rows, {groups['subject'].nunique()} levels of subject, {groups['item'].nunique()} levels of item" in shown
    )
    assert "clustered by both" in shown
    assert "<table" in comparison._repr_html_()
    alone = compare_with_ols(None, y, groups)
    assert len(alone.conclusions) == 1
