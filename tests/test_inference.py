"""Degrees of freedom against a numerical Hessian of a dense likelihood, and tables."""

import numpy as np
import pytest
from designs import simulate
from scipy import stats

from sklearn_mlm import GroupedMoments
from sklearn_mlm._criterion import Criterion
from sklearn_mlm._optimum import minimise
from sklearn_mlm.inference import coefficient_table, satterthwaite_degrees_of_freedom


def dense_satterthwaite(X, y, groups, tau2, sigma2, reml, contrasts):
    """Satterthwaite's df in (tau2, sigma2) by central differences of the textbook likelihood."""
    Z = (groups[:, None] == np.unique(groups)).astype(float)

    def pieces(theta):
        V = theta[0] * Z @ Z.T + theta[1] * np.eye(len(y))
        solved = np.linalg.solve(V, np.column_stack([X, y]))
        information = X.T @ solved[:, :-1]
        covariance = np.linalg.inv(information)
        residuals = y - X @ covariance @ (X.T @ solved[:, -1])
        value = np.linalg.slogdet(V)[1] + residuals @ np.linalg.solve(V, residuals)
        return value + (np.linalg.slogdet(information)[1] if reml else 0.0), covariance

    at, step = np.array([tau2, sigma2]), 1e-3 * np.array([tau2, sigma2])
    e = np.diag(step)
    hessian = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            corners = [pieces(at + a * e[i] + b * e[j])[0] * a * b for a in (1, -1) for b in (1, -1)]
            hessian[i, j] = sum(corners) / (4 * step[i] * step[j])
    slopes = [(pieces(at + e[i])[1] - pieces(at - e[i])[1]) / (2 * step[i]) for i in range(2)]
    df = []
    for contrast in contrasts:
        gradient = np.array([contrast @ slope @ contrast for slope in slopes])
        variance = contrast @ pieces(at)[1] @ contrast
        df.append(2 * variance**2 / (gradient @ (2 * np.linalg.inv(hessian)) @ gradient))
    return np.array(df)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_satterthwaite_is_that_of_the_dense_likelihood(reml, seed):
    X, y, groups = simulate(12, 6, 2, seed=seed)
    criterion = Criterion(GroupedMoments.from_arrays(X, y, groups), reml=reml)
    optimum = minimise(criterion)
    assert optimum.boundary is None
    contrasts = np.vstack([np.eye(3), [0.0, 1.0, -1.0]])
    df = satterthwaite_degrees_of_freedom(criterion, optimum.solution, None, contrasts)
    solution = optimum.solution
    columns = np.column_stack([np.ones(len(y)), X])
    expected = dense_satterthwaite(columns, y, groups, solution.group_variance, solution.residual_variance, reml, contrasts)
    # Central differences with steps of a thousandth.
    np.testing.assert_allclose(df, expected, rtol=1e-4)


def test_curvature_is_the_second_derivative_of_the_profile_where_sigma2_is_profiled_out():
    X, y, groups = simulate(12, 6, 2)
    criterion = Criterion(GroupedMoments.from_arrays(X, y, groups))
    ratio = minimise(criterion).solution.ratio
    (gg, gs), (_, ss) = criterion.curvature(ratio).hessian
    np.testing.assert_allclose(gg - gs**2 / ss, criterion.hessian(ratio), rtol=1e-10)
    np.testing.assert_allclose(criterion.curvature(ratio).covariance, criterion.solution(ratio).covariance, rtol=1e-12)


def test_the_derivatives_of_the_covariance_are_numerical_ones():
    X, y, groups = simulate(12, 6, 2)
    criterion = Criterion(GroupedMoments.from_arrays(X, y, groups))
    ratio, step = 0.7, 1e-5
    # B_XX^-1 alone: the covariance over sigma2, which is profiled out.
    low, high = (criterion.solution(r) for r in (ratio - step, ratio + step))
    slope = (high.covariance / high.residual_variance - low.covariance / low.residual_variance) / (2 * step)
    middle, curvature = criterion.solution(ratio), criterion.curvature(ratio)
    np.testing.assert_allclose(curvature.by_ratio / middle.residual_variance, slope, rtol=1e-6)


def test_at_the_boundaries():
    X, y, groups = simulate(12, 6, 2, tau=0.0, seed=1)
    for reml in (True, False):
        criterion = Criterion(GroupedMoments.from_arrays(X, y, groups), reml=reml)
        solution = criterion.solution(0.0)
        df = satterthwaite_degrees_of_freedom(criterion, solution, "group", np.eye(3))
        np.testing.assert_array_equal(df, len(y) - 3 if reml else len(y))
    criterion = Criterion(GroupedMoments.from_arrays(X, np.sin(groups), groups))
    df = satterthwaite_degrees_of_freedom(criterion, criterion.solution(np.inf), "residual", np.eye(3))
    np.testing.assert_array_equal(df, [len(np.unique(groups)) - 2, np.nan, len(np.unique(groups)) - 2])


def test_a_table_of_coefficients():
    table = coefficient_table(np.array([2.0, 0.0]), np.diag([0.25, 0.0]), np.array([10.0, 10.0]), ["a", "b"])
    assert table.loc["a"].tolist() == [2.0, 0.5, 10.0, 2 * stats.t.sf(4.0, 10)]
    assert table.loc["b"].isna().all()
