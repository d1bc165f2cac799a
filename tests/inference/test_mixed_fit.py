"""Inference for a model that it does not know: a dense mixed model of three variances with the members of `MixedFit`."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from sklearn_mlm import inference


class DenseFit:
    """A fit of y ~ N(X beta, sum_r theta_r V_r), by textbook formulas on n x n matrices."""

    grouped = True
    reml = True

    def __init__(self, X, y, matrices, theta, names):
        self.names, self.matrices, self.theta, self.X, self.y = names, matrices, np.asarray(theta, dtype=float), X, y
        self.n_observations, self.rank = X.shape
        self.n_parameters = self.rank + len(theta)
        self.dropped = np.array([], dtype=int)
        self.solved = np.linalg.inv(sum(t * V for t, V in zip(theta, matrices, strict=True)))
        self.covariance = np.linalg.inv(X.T @ self.solved @ X)
        self.coefficients = self.covariance @ X.T @ self.solved @ y
        self.root = np.linalg.cholesky(self.covariance)

    @property
    def variance_parameters(self):
        return self.theta

    @property
    def covariance_derivatives(self):
        # d (X'V^-1 X)^-1 = Phi X'V^-1 V_r V^-1 X Phi, and R^-1 Phi = R'.
        right = self.solved @ self.X @ self.root
        return np.array([right.T @ V @ right for V in self.matrices])

    @property
    def hessian(self):
        # Of log det V + log det X'V^-1 X + y'Py, with P = V^-1 - V^-1 X Phi X'V^-1.
        P = self.solved - self.solved @ self.X @ self.covariance @ self.X.T @ self.solved
        each = [P @ V for V in self.matrices]
        Py = P @ self.y
        return np.array(
            [[2 * self.y @ a @ b @ Py - np.trace(a @ b) for b in each] for a in each],
        )

    def whiten(self, contrasts):
        return contrasts @ self.root

    def variance_terms(self):
        right = self.X @ self.root
        each = [self.solved @ V for V in self.matrices]
        p = np.array([-right.T @ a @ self.solved @ right for a in each])
        q = np.array([[right.T @ a @ b @ self.solved @ right for b in each] for a in each])
        return p, q, np.array([[np.trace(a @ b) for b in each] for a in each])


class DenseModel(BaseEstimator):
    def fit(self, fit):
        self.fit_ = fit
        return self


def indicators(labels):
    Z = (np.asarray(labels)[:, None] == np.unique(labels)).astype(float)
    return Z @ Z.T


@pytest.fixture
def model():
    """Rows crossed by two factors of 5 and 7 levels, unbalanced, at variances that were not estimated."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 60), rng.integers(0, 7, 60)
    X = np.column_stack([np.ones(60), rng.standard_normal(60), rng.standard_normal(5)[a]])
    y = X @ [1.0, 2.0, 0.5] + rng.standard_normal(5)[a] + 0.7 * rng.standard_normal(7)[b] + 0.5 * rng.standard_normal(60)
    matrices = [indicators(a), indicators(b), np.eye(60)]
    return DenseModel().fit(DenseFit(X, y, matrices, [1.0, 0.5, 0.25], ["(Intercept)", "x", "z"]))


def deviance(fit, theta):
    other = DenseFit(fit.X, fit.y, fit.matrices, theta, fit.names)
    left = fit.y - fit.X @ other.coefficients
    value = -np.linalg.slogdet(other.solved)[1] - np.linalg.slogdet(other.covariance)[1]
    return value + left @ other.solved @ left


def test_the_dense_hessian_is_the_numerical_one(model):
    fit, step = model.fit_, 1e-3
    e = step * np.eye(3)
    for i in range(3):
        for j in range(3):
            corners = [s * t * deviance(fit, fit.theta + s * e[i] + t * e[j]) for s in (1, -1) for t in (1, -1)]
            np.testing.assert_allclose(fit.hessian[i, j], sum(corners) / (4 * step**2), rtol=1e-3, atol=1e-3)


def test_satterthwaite_is_the_formula_in_three_variances(model):
    fit = model.fit_
    table = inference.fixed_effects(model)
    assert list(table.index) == fit.names
    np.testing.assert_allclose(table["std_error"], np.sqrt(np.diag(fit.covariance)), rtol=1e-12)
    step = 1e-5 * np.eye(3)
    covariances = [
        [DenseFit(fit.X, fit.y, fit.matrices, fit.theta + s * one, fit.names).covariance for s in (1, -1)] for one in step
    ]
    gradient = np.array([(np.diag(high) - np.diag(low)) / 2e-5 for high, low in covariances])
    spread = np.einsum("rc,rs,sc->c", gradient, 2 * np.linalg.inv(fit.hessian), gradient)
    np.testing.assert_allclose(table["df"], 2 * np.diag(fit.covariance) ** 2 / spread, rtol=1e-6)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward_roger", "residual", "normal"])
def test_contrasts_and_tables_take_any_fit(model, ddf):
    table = inference.fixed_effects(model, ddf=ddf)
    one = inference.contrast_test(model, [0, 1, 0], ddf=ddf)
    np.testing.assert_allclose(one[["estimate", "std_error", "df"]], table.loc["x", ["estimate", "std_error", "df"]])
    both = inference.contrast_test(model, np.eye(3)[1:], ddf=ddf)
    turned = inference.contrast_test(model, [[0, 1, 1], [0, 1, -1]], ddf=ddf)
    # The same hypothesis; Satterthwaite's df of several contrasts depend on the axes.
    assert both["F"] == pytest.approx(turned["F"], rel=1e-9)
    assert (both["p_value"] < 0.05) == (turned["p_value"] < 0.05)


def test_two_levels_of_variance_are_those_of_lmertest_and_pbkrtest(reference_mixed):
    frame, case = reference_mixed("B", "machines_nested")
    answers = case["REML"]
    worker = frame["Worker"].astype(str)
    cell = worker + ":" + frame["Machine"].astype(str)
    X = np.column_stack([np.ones(len(frame)), frame["machB"], frame["machC"]])
    variances = {term["group"]: np.ravel(term["cov"])[0] for term in answers["varcorr"]}
    of_cell = next(variance for group, variance in variances.items() if group != "Worker")
    theta = [variances["Worker"], of_cell, answers["sigma2"]]
    fit = DenseFit(X, frame["score"].to_numpy(), [indicators(worker), indicators(cell), np.eye(len(X))], theta, list("abc"))
    np.testing.assert_allclose(fit.coefficients, answers["beta"], rtol=1e-10)
    for ddf, rtol in (("satterthwaite", 1e-5), ("kenward_roger", 1e-6)):  # lmerTest's Hessian is a numerical one
        table, expected = inference.fixed_effects(DenseModel().fit(fit), ddf=ddf), answers[ddf]
        np.testing.assert_allclose(table["df"], expected["df"], rtol=rtol)
        np.testing.assert_allclose(table["std_error"], expected["se"], rtol=1e-8)
