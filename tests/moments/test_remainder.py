"""Predictors that explain nearly all of y: figures are those of the rest of y, however large the slopes are."""

import io
import warnings
from fractions import Fraction

import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from sklearn_mlm import (
    ClusterRobustOLS,
    GroupedMoments,
    RandomInterceptRegressor,
    WithinOLS,
    compare_with_ols,
    inference,
)
from sklearn_mlm.dask import DaskRandomInterceptRegressor
from sklearn_mlm.moments._remainder import KnownPart, rests

# Which columns get the slope s: one that varies within groups and between them, one of groups only, or all three.
COLUMNS = {"within and between": [1.0, 0, 0], "between": [0, 1.0, 0], "all": [1.0, 1.0, 1.0]}
# In units of the residual standard deviation: powers of two, and one other number.
SLOPES = [2.0**10, 2.0**14, 2.0**20, 2.0**22, 1e8]
# Rounding of the second reading; profile limits and effects of groups lose a digit or two more.
RTOL = 1e-11


def on_a_grid(values, bits):
    """Values with few enough digits for y = s x + u + e to be exact."""
    return np.round(values * 2.0**bits) / 2.0**bits


def rows(seed=0, n_rows=1_500, n_groups=40):
    """X, the part of y that does not depend on s, and groups."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, n_rows)
    both = rng.standard_normal(n_rows) + rng.standard_normal(n_groups)[groups]
    X = np.column_stack([both, rng.standard_normal(n_groups)[groups], rng.standard_normal(n_rows)])
    X = on_a_grid(X, 12)
    rest = on_a_grid(0.5 * X[:, 2] + rng.standard_normal(n_groups)[groups] + rng.standard_normal(n_rows), 20)
    return X, rest, groups


X, REST, GROUPS = rows()
WEIGHTS = 1.0 + np.arange(len(REST)) % 3


def outcome(slopes):
    y = REST + X @ slopes
    # Otherwise the answer itself would differ.
    exact = [
        Fraction(a) + sum(Fraction(s) * Fraction(b) for s, b in zip(slopes, row, strict=True)) for a, row in zip(REST, X)
    ]
    assert [Fraction(value) for value in y[:50]] == exact[:50]
    return y


def figures(model, y, X=X):
    """All figures of a model that do not change with s, by name."""
    table = inference.fixed_effects(model)
    figures = {
        "variances": model.variance_components_,
        "icc": model.icc_,
        "standard errors": table["std_error"],
        "criterion": model.criterion_,
        "effects": model.random_effects_,
        "intercept": model.intercept_,
        "df": table["df"],
        "Kenward-Roger": inference.fixed_effects(model, ddf="kenward_roger")["std_error"] if model.method == "reml" else 0,
        "exact limits": inference.confidence_intervals(model, method="exact").iloc[1:3],
        "profile limits": inference.confidence_intervals(model, method="profile").iloc[:3],
        "widths of profile limits": np.ptp(inference.confidence_intervals(model, method="profile").iloc[3:], axis=1),
        "F test": inference.random_intercept_test(model, method="f"),
        "RLRT": inference.random_intercept_test(model, method="naive")["statistic"],
        "conditional sd": inference.random_effects_table(model)["sd"],
        "std": model.predict(X[:9], GROUPS[:9], return_std=True)[1],
        "scaled residuals": model.summary(X, y, GROUPS).scaled_residuals,
    }
    return {name: np.asarray(value, dtype=float) for name, value in figures.items()}


def assert_close(found, expected, rtol=RTOL):
    for name, value in expected.items():
        scale = np.nanmax(np.abs(value))
        np.testing.assert_allclose(found[name] / scale, value / scale, rtol=0, atol=rtol, err_msg=name)


@pytest.mark.parametrize("parameters", [{}, {"method": "ml", "fit_intercept": False}], ids=["REML", "ML, no intercept"])
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("slope", SLOPES)
def test_a_large_slope_changes_no_other_figure(slope, columns, parameters):
    slopes = slope * np.array(COLUMNS[columns])
    y = outcome(slopes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = RandomInterceptRegressor(**parameters).fit(X, y, groups=GROUPS)
    plain = RandomInterceptRegressor(**parameters).fit(X, REST, groups=GROUPS)
    assert model.boundary_ is None
    # The slopes themselves are doubles of the size of s.
    np.testing.assert_allclose(model.coef_ - slopes, plain.coef_, rtol=0, atol=1e-12 + 4e-16 * slope)
    found, expected = figures(model, y), figures(plain, REST)
    # A difference of limits that are doubles of the size of s.
    assert_close({"width": found.pop("widths of profile limits")}, {"width": expected.pop("widths of profile limits")}, 1e-6)
    assert_close(found, expected)
    limits = inference.confidence_intervals(model, method="profile").iloc[-3:]
    assert ((limits["lower"] < model.coef_) & (model.coef_ < limits["upper"])).all()


@pytest.mark.parametrize("within", [True, False], ids=["within", "between"])
@pytest.mark.parametrize(("offset", "slope"), [(2e3, 1e4), (2e3, 1e8), (1e6, 1e8), (2.0**30, 1e6)])
def test_nor_does_it_far_from_zero(offset, slope, within):
    rng = np.random.default_rng(1)
    years = rng.integers(0, 21, len(REST)) if within else rng.integers(0, 21, 40)[GROUPS]
    near, far = (np.column_stack([X[:, 0], years + at]) for at in (0.0, offset))
    y = REST + slope * years  # exact
    plain = RandomInterceptRegressor().fit(near, REST, groups=GROUPS)
    expected = figures(plain, REST, near)
    parts = [slice(0, 500), slice(500, 501), slice(501, None)]
    whole = RandomInterceptRegressor().fit(far, y, groups=GROUPS)
    grown = RandomInterceptRegressor().fit(far[parts[0]], y[parts[0]], groups=GROUPS[parts[0]])
    for part in parts[1:]:
        grown.partial_fit(far[part], y[part], groups=GROUPS[part])
    sums = [RandomInterceptRegressor().fit(far[i::2], y[i::2], groups=GROUPS[i::2]).moments_ for i in (0, 1)]
    for model in (whole, grown, RandomInterceptRegressor().fit_moments(sums[0] + sums[1])):
        np.testing.assert_allclose(model.coef_ - [0, slope], plain.coef_, rtol=0, atol=1e-12 + 4e-16 * slope)
        # The intercept and its figures change, as does the width of a difference of large numbers.
        found = figures(model, y, far)
        for name, values in found.items():
            if name in ("standard errors", "df", "Kenward-Roger"):
                found[name] = values[1:]
        others = {
            name: expected[name][1:] if found[name].shape != expected[name].shape else expected[name] for name in found
        }
        for name in ("intercept", "widths of profile limits"):
            del found[name], others[name]
        # Residuals and the deviations of rows are differences of values as far away as x.
        assert_close(found, others, max(RTOL, 1e-18 * offset))
    updated = RandomInterceptRegressor().fit(far[:900], y[:900], groups=GROUPS[:900])
    of_near = RandomInterceptRegressor().fit(near[:900], REST[:900], groups=GROUPS[:900])
    for model, columns, values in ((updated, far, y), (of_near, near, REST)):
        model.update_random_effects(columns[900:], values[900:], groups=GROUPS[900:])
    np.testing.assert_allclose(updated.random_effects_, of_near.random_effects_, rtol=0, atol=1e-11)
    for baseline in (ClusterRobustOLS(), ClusterRobustOLS(cov_type="nonrobust"), WithinOLS()):
        errors = [
            np.sqrt(np.diag(baseline.fit(columns, values, groups=GROUPS).cov_fixed_))[-2:]
            for columns, values in ((far, y), (near, REST))
        ]
        np.testing.assert_allclose(*errors, rtol=max(1e-10, 1e-17 * offset))


def test_it_holds_of_weights_sparse_rows_and_group_columns():
    slopes = np.full(3, 2.0**22)
    y = outcome(slopes)
    for weight_type in ("frequency", "precision"):
        model, plain = (
            RandomInterceptRegressor(weight_type=weight_type).fit(X, values, GROUPS, WEIGHTS) for values in (y, REST)
        )
        np.testing.assert_allclose(model.variance_components_, plain.variance_components_, rtol=RTOL)
    plain = RandomInterceptRegressor().fit(X, REST, GROUPS)
    with_column = np.insert(X, 1, GROUPS, axis=1)
    for model in (
        RandomInterceptRegressor().fit(sparse.coo_array(X), y, GROUPS),
        RandomInterceptRegressor(group_feature=1).fit(with_column, y),
        RandomInterceptRegressor(group_feature=1).fit(sparse.csc_matrix(with_column), y),
    ):
        np.testing.assert_allclose(model.variance_components_, plain.variance_components_, rtol=RTOL)
        np.testing.assert_allclose(model.random_effects_, plain.random_effects_, rtol=1e-9, atol=RTOL)


@pytest.mark.parametrize("slope", SLOPES)
def test_it_holds_of_least_squares_and_the_comparison(slope):
    slopes = np.array([slope, 0.0, slope])
    y = outcome(slopes)
    for cov_type in ("nonrobust", "CR0", "CR1", "CR2", "CR3"):
        for weights in (None, WEIGHTS):
            model, plain = (ClusterRobustOLS(cov_type=cov_type).fit(X, values, GROUPS, weights) for values in (y, REST))
            np.testing.assert_allclose(model.coef_ - slopes, plain.coef_, rtol=0, atol=1e-12 + 4e-16 * slope)
            np.testing.assert_allclose(np.diag(model.cov_fixed_), np.diag(plain.cov_fixed_), rtol=RTOL)
            np.testing.assert_allclose(model.df_, plain.df_, rtol=RTOL)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "x1: constant in every group")
        model, plain = (WithinOLS().fit(X, values, GROUPS) for values in (y, REST))
    np.testing.assert_allclose(model.residual_variance_, plain.residual_variance_, rtol=RTOL)
    np.testing.assert_allclose(model.group_effects_, plain.group_effects_, rtol=1e-9, atol=RTOL)
    found, expected = (compare_with_ols(X, values, GROUPS, random_state=0) for values in (y, REST))
    names = ["std_error", "df"]
    np.testing.assert_allclose(found.coefficients[names], expected.coefficients[names], rtol=RTOL)
    np.testing.assert_allclose(found.predictions["rmse"], expected.predictions["rmse"], rtol=RTOL)
    names = ["difference", "std_error", "df", "p_value"]
    np.testing.assert_allclose(found.within_between[names], expected.within_between[names], rtol=1e-9)
    np.testing.assert_allclose(found.group_test, expected.group_test, rtol=1e-9)
    estimates = found.coefficients["estimate"].unstack("model")
    assert (np.abs(estimates.loc[["x0", "x2"]] - slope) < 1.0).all(axis=None)
    # Shares of the variance of y, which s dominates.
    assert found.predictions["r2"].min() > 1.0 - 1e-4
    assert found.icc < 1.0


def test_it_holds_on_dask_in_files_in_sums_and_for_rows_that_come_later():
    slopes = np.full(3, 2.0**22)
    y = outcome(slopes)
    plain = RandomInterceptRegressor().fit(X, REST, GROUPS)
    chunked = [da.from_array(values, chunks=(400, *values.shape[1:])) for values in (X, y, GROUPS)]
    on_dask = DaskRandomInterceptRegressor().fit(*chunked)
    first, second = slice(0, 700), slice(700, None)
    halves = [RandomInterceptRegressor().fit(X[half], y[half], GROUPS[half]).moments_ for half in (first, second)]
    file = io.BytesIO()
    RandomInterceptRegressor().fit(X, y, GROUPS).moments_.save(file)
    file.seek(0)
    loaded = RandomInterceptRegressor().fit_moments(GroupedMoments.load(file))
    later = (
        RandomInterceptRegressor().fit(X[first], y[first], GROUPS[first]).partial_fit(X[second], y[second], GROUPS[second])
    )
    for model in (on_dask, RandomInterceptRegressor().fit_moments(sum(halves)), loaded, later):
        np.testing.assert_allclose(model.variance_components_, plain.variance_components_, rtol=RTOL)
        np.testing.assert_allclose(model.random_effects_, plain.random_effects_, rtol=1e-9, atol=RTOL)
    updated, expected = (
        RandomInterceptRegressor()
        .fit(X[first], values[first], GROUPS[first])
        .update_random_effects(X[second], values[second], GROUPS[second])
        for values in (y, REST)
    )
    np.testing.assert_allclose(updated.random_effects_, expected.random_effects_, rtol=1e-9, atol=RTOL)


def test_moments_alone_say_how_many_digits_are_left():
    truth = RandomInterceptRegressor().fit(X, REST, GROUPS).variance_components_["residual"]
    for slope in (1e2, 1e4, 1e5, 1e6, 1e9):
        moments = GroupedMoments.from_arrays(X, REST + slope * X[:, 0], GROUPS)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = RandomInterceptRegressor().fit_moments(moments)
        error = abs(model.variance_components_["residual"] / truth - 1.0)
        if slope <= 1e4:
            assert not caught
            assert error < 1e-6
        else:
            (message,) = [str(one.message) for one in caught]
            digits = int(message.split("hold about ")[1].split(" digits")[0])
            assert digits < 6
            # An estimate to about half a digit.
            assert error < 10.0 ** (1 - digits)
    with pytest.warns(UserWarning, match="hold about 0 digits"):
        RandomInterceptRegressor().partial_fit(X, REST + 1e9 * X[:, 0], GROUPS)


@pytest.mark.parametrize("n_columns", [1, 3, 30])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_exact_fit_has_no_residual_however_it_was_rounded(n_columns, dtype):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((300, n_columns)) + 10.0).astype(dtype)
    groups = np.arange(300) % 20
    fixed = x @ np.arange(1.0, n_columns + 1.0).astype(dtype)
    model = RandomInterceptRegressor().fit(x, fixed, groups=groups)
    assert model.variance_components_.tolist() == [0.0, 0.0]
    model = RandomInterceptRegressor().fit(x, fixed + rng.standard_normal(20).astype(dtype)[groups], groups=groups)
    assert (model.boundary_, model.variance_components_["residual"]) == ("residual", 0.0)


def test_a_remainder_is_exact_to_its_own_rounding():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4)) * 10.0 ** rng.integers(-8, 8, (200, 4))
    slopes = rng.standard_normal(4) * 10.0 ** rng.integers(-8, 8, 4)
    y = x @ slopes + rng.standard_normal(200)
    for columns in (x, sparse.csr_array(x), sparse.csc_matrix(x)):
        found = rests(columns, y, KnownPart(slopes, 0.0))
        for row, value, left in zip(x, y, found, strict=True):
            exact = Fraction(value) - sum(Fraction(a) * Fraction(b) for a, b in zip(row, slopes, strict=True))
            largest = max(abs(Fraction(a) * Fraction(b)) for a, b in zip(row, slopes, strict=True))
            assert abs(Fraction(left) - exact) <= 2e-16 * abs(exact) + Fraction(1e-31) * largest


def test_exact_fits_of_any_scale_have_no_residual():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n_columns, groups = int(rng.integers(1, 8)), np.repeat(np.arange(30), 8)
        scales = 10.0 ** rng.integers(-3, 3, n_columns)
        x = rng.standard_normal((240, n_columns)) * scales + 10.0 ** rng.integers(-3, 6)
        slopes = rng.standard_normal(n_columns) * 10.0 ** rng.integers(-3, 3, n_columns)
        # Three orders in which the terms may be summed and rounded.
        for y in (x @ slopes, (x * slopes).sum(axis=1), sum(x[:, i] * slopes[i] for i in range(n_columns)) + 3.0):
            model = RandomInterceptRegressor().fit(x, y, groups=groups)
            assert model.variance_components_.tolist() == [0.0, 0.0]
        model = RandomInterceptRegressor().fit(
            x, x @ slopes + np.abs(slopes).max() * rng.standard_normal(30)[groups], groups
        )
        assert (model.boundary_, model.variance_components_["residual"]) == ("residual", 0.0)


def test_moments_merged_without_a_remainder_say_how_many_digits_are_left():
    y, half = outcome([2.0**26, 0.0, 0.0]), len(REST) // 2
    with_rows = RandomInterceptRegressor().fit(X[:half], y[:half], GROUPS[:half]).moments_
    without = GroupedMoments.from_arrays(X[half:], y[half:], GROUPS[half:])
    for merged in (with_rows + without, without + with_rows):
        with pytest.warns(UserWarning, match="hold about 0 digits"):
            RandomInterceptRegressor().fit_moments(merged)


def test_large_slopes_that_cancel_in_y_are_read_about_too():
    rng = np.random.default_rng(0)
    small = on_a_grid(rng.standard_normal(len(REST)), 8)
    nearly = X[:, 0] + small / 2.0**16
    y = REST + 2.0**24 * X[:, 0] - 2.0**24 * nearly
    model = RandomInterceptRegressor().fit(np.column_stack([X[:, 0], nearly]), y, GROUPS)
    plain = RandomInterceptRegressor().fit(np.column_stack([X[:, 0], small]), REST, GROUPS)
    # The columns have a correlation of 1 - 1e-10.
    np.testing.assert_allclose(model.variance_components_, plain.variance_components_, rtol=1e-8)
    with pytest.warns(UserWarning, match="hold about . digits"):
        RandomInterceptRegressor().fit_moments(GroupedMoments.from_arrays(np.column_stack([X[:, 0], nearly]), y, GROUPS))


def test_slopes_of_nearly_collinear_columns_are_read_about_until_they_leave_little():
    near, both = X[:, [0, 2]], np.column_stack([X[:, 0], X[:, 0] + 1e-5 * X[:, 2]])
    plain = RandomInterceptRegressor().fit(near, REST, groups=GROUPS)
    for size, rtol in ((1e4, 1e-6), (1e6, 1e-5)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = RandomInterceptRegressor().fit(both, REST + size * X[:, 2], groups=GROUPS)
        # The rounding of the second column, times a slope of 1e5 times the size.
        np.testing.assert_allclose(model.variance_components_, plain.variance_components_, rtol=rtol)
