"""Fits against 50-digit arithmetic on the same doubles."""

import mpmath as mp
import numpy as np
import pytest
from oracle import DIGITS, Dense, relative_error

from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
from sklearn_mlm.datasets import load_dyestuff, load_sleepstudy
from sklearn_mlm.likelihood._fit import fit_moments
from sklearn_mlm.likelihood._options import Options


def one_way_layout():
    """Nine treatments with 21 readings each, which alternate by 0.1 about means near 1e12, like NIST's SmLs07."""
    treatment = np.repeat(np.arange(9), 21)
    alternating = np.tile(np.append(0.0, np.tile([-0.1, 0.1], 10)), 9)
    return None, 1e12 + 0.1 * np.array([4, 3, 5, 3, 5, 3, 5, 6, 2])[treatment] + alternating, treatment


def sleepstudy(days=0.0, reaction=0.0):
    X, y, groups = load_sleepstudy(return_X_y_groups=True)
    return X + days, y + reaction, groups


def unbalanced():
    """Groups of 1 to 9 rows, a group-level column and one that varies at both levels."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(12), rng.integers(1, 10, 12))
    level_2 = rng.standard_normal(12)[groups]
    X = np.column_stack([rng.standard_normal(len(groups)) + level_2, level_2])
    return X, X @ [1.0, -2.0] + rng.standard_normal(12)[groups] + rng.standard_normal(len(groups)), groups


# The shifts are ill-conditioned, so that the exact fit is that of the shifted doubles.
CASES = {
    "dyestuff": (load_dyestuff(return_X_y_groups=True), 0.7, 1e-13),
    "sleepstudy": (sleepstudy(), 1.4, 1e-13),
    "unbalanced": (unbalanced(), 1.0, 1e-13),
    "sleepstudy, days + 1e7": (sleepstudy(days=1e7), 1.4, 1e-11),
    "sleepstudy, reaction + 1e8": (sleepstudy(reaction=1e8), 1.4, 1e-11),
    "one-way layout near 1e12": (one_way_layout(), 1.6, 1e-11),
}


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("case", CASES)
def test_estimates_are_those_of_50_digit_arithmetic(case, method):
    (X, y, groups), start, tolerance = CASES[case]
    truth = Dense(X, y, groups, reml=method == "reml").fit(start)
    model = RandomInterceptRegressor(method=method).fit(X, y, groups=groups)
    # The oracle sorts labels as text, the model as numbers.
    effects = model.random_effects_.rename(index=str).sort_index()

    assert relative_error(model.variance_components_["group"], truth["group"]) < tolerance
    assert relative_error(model.variance_components_["residual"], truth["residual"]) < tolerance
    scale = float(truth["group"]) ** 0.5
    np.testing.assert_allclose(effects, np.array(truth["effects"], dtype=float), rtol=0, atol=1e-10 * scale)
    errors = np.sqrt(np.diag(model.cov_fixed_))
    np.testing.assert_allclose(errors, np.array(truth["se"], dtype=float), rtol=1e-10)
    for ours, exact, se in zip([model.intercept_, *model.coef_], truth["beta"], truth["se"], strict=True):
        # To a few units in the last place, or a tiny part of the standard error.
        assert abs(ours - float(exact)) <= 4 * np.spacing(abs(float(exact))) + 1e-11 * float(se)
    # y near 1e12 cancels 12 digits of the log-likelihood's own argument, not of the fit.
    assert relative_error(model.criterion_, truth["criterion"]) < 1e-13


@pytest.mark.parametrize("case", ["dyestuff", "sleepstudy", "unbalanced"])
def test_the_optimum_is_where_the_exact_derivative_changes_sign(case):
    (X, y, groups), _, _ = CASES[case]
    variances = RandomInterceptRegressor().fit(X, y, groups=groups).variance_components_
    exact = Dense(X, y, groups)
    ratio = variances["group"] / variances["residual"]
    assert exact.gradient(ratio * (1 - 2e-13)) < 0 < exact.gradient(ratio * (1 + 2e-13))


@pytest.mark.parametrize("name", ["dyestuff", "unbalanced"])
@pytest.mark.parametrize("reml", [True, False])
def test_the_hessian_in_both_variances_is_that_of_differences_in_50_digits(name, reml):
    X, y, groups = CASES[name][0]
    fit = fit_moments(GroupedMoments.from_arrays(X, y, groups), Options("reml" if reml else "ml"))
    dense = Dense(X, y, groups, reml=reml)

    def deviance(ratio, sigma2):
        log_det, log_det_x, _, _, r2, *_ = dense.at(ratio)
        return dense.D * mp.log(2 * mp.pi * sigma2) + r2 / sigma2 + log_det + (log_det_x if reml else 0)

    with mp.workdps(DIGITS):
        # The optimum of sigma2 for this ratio, to all digits.
        ratio = mp.mpf(fit.solution.ratio)
        sigma2 = dense.at(ratio)[4] / dense.D
        # Central differences, with a relative error of 1e-20.
        step = mp.mpf(10) ** -10
        near = {(i, j): deviance(ratio * (1 + i * step), sigma2 * (1 + j * step)) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        by_ratio, by_sigma2 = ratio * step, sigma2 * step
        truth = [
            (near[1, 0] - 2 * near[0, 0] + near[-1, 0]) / by_ratio**2,
            (near[1, 1] - near[1, -1] - near[-1, 1] + near[-1, -1]) / (4 * by_ratio * by_sigma2),
            (near[0, 1] - 2 * near[0, 0] + near[0, -1]) / by_sigma2**2,
        ]
    # In gamma and log sigma2, at the optimum of sigma2.
    sigma2 = fit.residual_variance
    ours = [fit.hessian[0, 0], fit.hessian[0, 1] / sigma2, fit.hessian[1, 1] / sigma2**2]
    for value, expected in zip(ours, truth, strict=True):
        assert relative_error(value, expected) < 1e-12
