"""Whether the rows identify the variances: by the rank of the covariances of y, and what the model refuses and fits."""

import numpy as np
import pandas as pd
import pytest

from sklearn_mlm import DroppedColumnsWarning, GroupedScatter, MixedEffectsRegressor
from sklearn_mlm.likelihood._group_factors import RandomDesign
from sklearn_mlm.likelihood._identification import unidentified
from sklearn_mlm.likelihood._mixed_criterion import MixedCriterion

METHOD = pytest.mark.parametrize("method", ["reml", "ml"])
TERM = r"\(1 \+ {} \| g\)"


def twins():
    """Two rows a group; x differs from group to group."""
    rng, g = np.random.RandomState(11), np.repeat(np.arange(12), 2)
    x = np.tile([0.0, 1.0], 12) * np.repeat([1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6], 2)
    x += np.repeat([0, 1, 2, 0, 1, 2, 3, 0, 1, 4, 2, 0], 2)
    y = 2 + 0.5 * x + (rng.randn(12) * 1.5)[g] + (rng.randn(12) * 0.7)[g] * x + rng.randn(24) * 0.5
    return pd.DataFrame({"y": y.round(2), "x": x, "g": g})


def constant_within(values):
    """Three rows a group; z does not vary within groups."""
    rng, g = np.random.RandomState(41), np.repeat(np.arange(12), 3)
    z, x = np.array(values, float)[np.arange(12) % len(values)][g], np.tile([-1.0, 0, 1], 12)
    y = 1 + x + 0.5 * z + rng.randn(12)[g] * (1 + 0.8 * z) + 0.6 * rng.randn(36)
    return pd.DataFrame({"y": y.round(2), "x": x, "z": z, "g": g})


def fitted(data, random_effects, columns, **options):
    return MixedEffectsRegressor(random_effects=random_effects, **options).fit(data[columns], data["y"], groups=data[["g"]])


def dummies(data):
    """The data with a column for each group but the first, and the names of these columns."""
    columns = pd.get_dummies(data["g"], prefix="d", drop_first=True).astype(float)
    return pd.concat([data, columns], axis=1), list(columns)


# ---- what is fitted

FITTED = {
    "two rows a group, REML": (
        twins(), "x", "reml", 93.9912016566, [2.7101083381, 0.4730854717, 0.4096651864], 0.0389565265523,
    ),
    "two rows a group, ML": (
        twins(), "x", "ml", 92.6177143563, [2.4752712157, 0.4389203849, 0.3754013898], 0.0384754166677,
    ),
    "three values between groups": (
        constant_within([0, 1, 2]), "z", "reml", 100.3767353624, [0.3114460355, 0.5392294817, 0.9336077548], 0.400872592897,
    ),
    "four values between groups": (
        constant_within([0, 0.5, 1, 2]), "z", "reml", 98.2124196178, [1.7021049942, -1.6052169682, 2.4255527274],
        0.400046376812,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FITTED)
def test_what_is_identified_is_fitted_whatever_a_rule_of_thumb_would_say(name):
    data, slope, method, criterion, covariance, residual = FITTED[name]
    columns = ["x"] if slope == "x" else ["x", "z"]
    model = fitted(data, f"(1 + {slope} | g)", columns, method=method)
    # The figures are those of dense algebra, to the digits that are printed there.
    assert abs(model.criterion_ - criterion) < 1e-9
    Sigma = model.covariance_["g"].to_numpy()
    np.testing.assert_allclose(Sigma[[0, 0, 1], [0, 1, 1]], covariance, rtol=0, atol=1e-8)
    assert abs(model.variance_components_["residual"] - residual) < 1e-9


def test_a_slope_that_is_constant_in_some_groups_is_identified_by_the_others():
    data = constant_within([0, 1])
    data.loc[data["g"] < 6, "z"] = np.tile([0.0, 1.0, 3.0], 6)
    assert fitted(data, "(1 + z | g)", ["x", "z"]).covariance_["g"].shape == (2, 2)
    data.loc[data["g"] > 0, "z"] = data["g"] % 2
    # One group does.
    assert fitted(data, "(1 + z | g)", ["x", "z"]).covariance_["g"].shape == (2, 2)


def test_a_slope_without_a_fixed_effect_is_identified():
    data = constant_within([0, 1, 2])
    model = MixedEffectsRegressor(random_effects="(1 + z | g)").fit(data[["x"]], data["y"], groups=data[["g", "z"]])
    assert model.coef_.shape == (1,)
    assert model.covariance_["g"].shape == (2, 2)


def test_a_slope_of_single_rows_is_told_from_the_residual_by_its_size():
    # The variance of y is sigma2 + x^2 tau2.
    data = constant_within([0, 1, 2]).assign(g=np.arange(36))
    assert fitted(data, "(0 + x | g)", ["x"]).variance_components_["residual"] > 0


# ---- what is refused


@METHOD
def test_two_rows_a_group_of_the_same_slope_are_refused(method):
    data = twins().assign(x=np.tile([0.0, 1.0], 12))
    message = f"do not identify the variances: the residual variance and the variances of {TERM.format('x')} cannot be told"
    with pytest.raises(ValueError, match=message):
        fitted(data, "(1 + x | g)", ["x"], method=method)


@METHOD
def test_a_slope_of_two_values_between_groups_is_refused(method):
    message = f"different covariances of {TERM.format('z')} give y the same covariance"
    with pytest.raises(ValueError, match=message):
        fitted(constant_within([0, 1]), "(1 + z | g)", ["x", "z"], method=method)


def test_with_restricted_likelihood_groups_with_fixed_effects_of_their_own_are_refused():
    data, columns = dummies(constant_within([0, 1, 2]))
    with pytest.raises(ValueError, match=r"different covariances of \(1 \| g\) give y the same covariance"):
        fitted(data, "(1 | g)", columns)
    with pytest.raises(ValueError, match=f"different covariances of {TERM.format('x')}"):
        fitted(data, "(1 + x | g)", ["x", *columns])
    # Their slopes are identified, though not their intercepts.
    assert fitted(data, "(0 + x | g)", ["x", *columns]).criterion_ == pytest.approx(60.61447357195731, rel=1e-9)
    with pytest.raises(ValueError, match=r"different covariances of \(1 \| g\)"):
        fitted(data, "(1 | g) + (0 + x | g)", ["x", *columns])


def test_with_full_likelihood_groups_with_fixed_effects_of_their_own_have_no_variance():
    data, columns = dummies(constant_within([0, 1, 2]))
    model = fitted(data, "(1 | g)", columns, method="ml")
    assert model.variance_components_["g (Intercept)"] == 0.0
    assert model.criterion_ == pytest.approx(91.93169254281194, rel=1e-12)


@METHOD
def test_groups_of_single_rows_are_refused(method):
    data = constant_within([0, 1, 2]).assign(g=np.arange(36))
    with pytest.raises(ValueError, match=r"residual variance and the variances of \(1 \+ x \| g\) cannot be told apart"):
        fitted(data, "(1 + x | g)", ["x"], method=method)
    with pytest.raises(ValueError, match="Every one of the 36 groups is a single row"):
        fitted(data, "(1 | g)", ["x"], method=method)


@METHOD
def test_independent_slopes_of_dependent_columns_are_refused_and_correlated_ones_left_out(method):
    data = constant_within([0, 1, 2])
    data["x2"] = -2.0 * data["x"]
    with pytest.raises(ValueError, match=r"the variances of \(0 \+ x \| g\) and \(0 \+ x2 \| g\) cannot be told apart"):
        fitted(data, "(1 + x + x2 || g)", ["x", "x2"], method=method)
    with pytest.warns(DroppedColumnsWarning) as caught:
        model = fitted(data, "(1 + x + x2 | g)", ["x", "x2"], method=method)
    messages = [str(warning.message) for warning in caught]
    assert [text for text in messages if "random coefficient(s) x2 of g are left out" in text]
    assert [text for text in messages if "redundant column(s) of X" in text]
    assert model.variance_components_["g x2"] == 0.0
    alone = fitted(data, "(1 + x | g)", ["x"], method=method)
    np.testing.assert_allclose(model.criterion_, alone.criterion_, rtol=1e-12)


@METHOD
def test_the_covariance_of_coefficients_that_no_group_has_together_is_refused(method):
    data = constant_within([0, 1, 2])
    data["even"] = (data["g"] % 2 == 0).astype(float)
    data["odd"] = 1.0 - data["even"]
    with pytest.raises(ValueError, match=r"different covariances of \(0 \+ even \+ odd \| g\)"):
        fitted(data.drop(columns="z"), "(0 + even + odd | g)", ["x", "even", "odd"], method=method)


@pytest.mark.parametrize(
    "columns",
    [
        "x + x_even",
        "x_even + x",
    ],
)
def test_the_order_of_the_columns_does_not_decide_what_is_refused(columns):
    # In even groups the columns are the same, and in odd ones the second is 0: three moments for four parameters.
    rng, g = np.random.RandomState(0), np.repeat(np.arange(10), 4)
    x = rng.rand(40).round(2) + 0.1
    data = pd.DataFrame({"x": x, "x_even": x * (g % 2 == 0), "g": g, "y": rng.randn(40)})
    with pytest.raises(ValueError, match="do not identify the variances"):
        fitted(data, f"(0 + {columns} | g)", columns.split(" + "))


def test_variances_of_two_kinds_of_groups_are_identified():
    data = constant_within([0, 1, 2])
    X = data[["x"]].assign(even=(data["g"] % 2 == 0) * 1.0, odd=(data["g"] % 2 == 1) * 1.0)
    model = MixedEffectsRegressor(random_effects="(0 + even + odd || g)", fit_intercept=False).fit(X, data["y"], data["g"])
    even = data["g"] % 2 == 0
    # Each kind has its own moments of the group means, but they share the residual variance.
    means = [(data["y"] - model.coef_[0] * data["x"])[rows].groupby(data["g"]).mean().var() for rows in (even, ~even)]
    expected = np.array(means) - model.variance_components_["residual"] / 3
    np.testing.assert_allclose(model.variance_components_[["g even", "g odd"]], expected, rtol=1e-9)


def test_the_same_intercept_twice_is_refused():
    with pytest.raises(ValueError, match=r"has '\(Intercept\)' in two terms, \(1 \| g\) and \(1 \+ x \| g\)"):
        fitted(twins(), "(1 | g) + (1 + x | g)", ["x"])


def test_one_group_is_refused():
    with pytest.raises(ValueError, match="groups holds one group only"):
        fitted(twins().assign(g=0), "(1 + x | g)", ["x"])


def test_a_constant_outcome_is_not_asked_to_identify_anything():
    with pytest.warns(UserWarning, match="y is constant"):
        fitted(twins().assign(x=np.tile([0.0, 1.0], 12), y=1.0), "(1 + x | g)", ["x"])


# ---- the blocks that are involved


def criterion(x, groups, columns, blocks, *, reml=True, weights=None, precision=False, fixed=True):
    """The criterion of any y; what is identified does not depend on it."""
    y = np.random.default_rng(0).standard_normal(len(groups))
    slopes = [column for column in columns if column is not None]
    scatter = GroupedScatter.from_arrays(x, y, groups, weights, slopes=slopes)
    design, n_predictors = RandomDesign(columns, blocks), None if fixed else 0
    return MixedCriterion(scatter, design, reml=reml, precision_weights=precision, n_predictors=n_predictors)


PAIRS = np.repeat(np.arange(8), 2)


@pytest.mark.parametrize("reml", [True, False])
def test_only_the_blocks_that_are_involved_are_named(reml):
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(9), 4)
    x = np.column_stack([rng.standard_normal(36), np.repeat([0.0, 1.0, 1.0], 12), rng.standard_normal(36)])
    apart = criterion(x, groups, (None, 0, 1), ((0,), (1,), (2,)), reml=reml)
    assert unidentified(apart) is None
    # An intercept and the slope of an indicator of groups are two variances; with a covariance they are three.
    assert unidentified(criterion(x, groups, (0, None, 1), ((0,), (1, 2)), reml=reml)) == ([1], False)
    assert unidentified(criterion(x, groups, (None, 1, 2, 0), ((0, 1), (2, 3)), reml=reml)) == ([0], False)
    x[:, 2] = 2.0 * x[:, 0]
    twice = criterion(x, groups, (None, 0, 2), ((0,), (1,), (2,)), reml=reml)
    assert unidentified(twice) == ([1, 2], False)
    x = np.tile([[0.0], [1.0]], (8, 1))
    assert unidentified(criterion(x, PAIRS, (None, 0), ((0, 1),), reml=reml)) == ([0], True)


@pytest.mark.parametrize("reml", [True, False])
def test_independent_coefficients_need_less(reml):
    # Three moments, three variances: that of the first row, that of the second, and their covariance.
    x = np.tile([[0.0], [1.0]], (8, 1))
    assert unidentified(criterion(x, PAIRS, (None, 0), ((0,), (1,)), reml=reml)) is None


@pytest.mark.parametrize("reml", [True, False])
def test_copies_of_a_row_tell_its_group_from_the_residual_but_its_precision_does_not(reml):
    x, groups, weights = np.arange(7.0)[:, None], np.arange(7), np.full(7, 2.0)

    def found(**options):
        return unidentified(criterion(x, groups, (None,), ((0,),), reml=reml, **options))

    assert found() == ([0], True)
    assert found(weights=weights) is None
    assert found(weights=weights, precision=True) == ([0], True)
    assert found(weights=1.0 + np.arange(7.0), precision=True) is None


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_units_and_origins_of_the_slope_make_no_difference(scale, shift):
    rng = np.random.default_rng(2)
    refused, allowed = np.tile([0.0, 1.0], 8), rng.integers(0, 5, 16).astype(float)
    for x, expected in ((refused, ([0], True)), (allowed, None)):
        moved = (scale * (x + shift))[:, None]
        assert unidentified(criterion(moved, PAIRS, (None, 0), ((0, 1),))) == expected


# ---- an independent rank


def dense_rank(X, Z, groups, blocks, weights):
    """How many parameters there are, and the singular values of the map from them to the covariances of y, or None.

    None is for a parameter that changes no covariance.

    X is None for full likelihood. The rows are scaled by the roots of their precisions, so that the residuals have the
    covariance I.
    """
    root = np.sqrt(weights)[:, None]
    Z, same = root * Z, groups[:, None] == groups
    keep = np.eye(len(Z))
    if X is not None:
        U, s, _ = np.linalg.svd(root * X)
        keep = U[:, int((s > 1e-10 * s[0]).sum()) :].T
    images = []
    for block in blocks:
        for i, a in enumerate(block):
            for b in block[: i + 1]:
                V = np.where(same, np.outer(Z[:, a], Z[:, b]), 0.0)
                full = V + V.T
                if not full.any():
                    return len(images), None
                # In units of what the parameter adds without fixed effects.
                images.append((keep @ full @ keep.T).ravel() / np.linalg.norm(full))
    images.append((keep @ keep.T).ravel() / np.sqrt(len(Z)))
    return len(images), np.linalg.svd(np.array(images), compute_uv=False)


def random_design(seed, kind):
    """A small design of whole numbers, of which many do not identify the variances."""
    rng = np.random.default_rng(seed)
    n_groups = int(rng.integers(2, 6))
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 4, n_groups))
    q = int(rng.integers(2, 4))
    x = rng.integers(0, int(rng.integers(2, 4)), (len(groups), q - 1)).astype(float)
    if rng.random() < 0.3:
        x[:, 0] = rng.integers(0, 3, n_groups)[groups]
    blocks = {
        "full": (tuple(range(q)),),
        "independent": tuple((at,) for at in range(q)),
        "intercept and slopes": ((0,), tuple(range(1, q))),
    }
    weights = rng.integers(1, 4, len(groups)).astype(float) if rng.random() < 0.3 else np.ones(len(groups))
    return x, groups, blocks[kind], weights, bool(rng.random() < 0.5), bool(rng.random() < 0.7)


def ours_and_dense(kind, n_designs):
    """Yield the criterion of random designs, and whether a numerical rank says that their variances are identified."""
    for seed in range(n_designs):
        x, groups, blocks, weights, reml, fixed = random_design(seed, kind)
        options = {"reml": reml, "weights": weights, "precision": True, "fixed": fixed}
        ours = criterion(x, groups, (None, *range(x.shape[1])), blocks, **options)
        if ours.coordinates.dropped_random or ours.degrees_of_freedom <= 0:
            continue
        ones = np.ones((len(groups), 1))
        X, Z = np.column_stack([ones, x]) if fixed else ones, np.column_stack([ones, x])
        n_parameters, singular = dense_rank(X if reml else None, Z, groups, blocks, weights)
        if singular is not None:
            yield ours, bool(len(singular) == n_parameters and singular[-1] > 1e-6)


@pytest.mark.parametrize(
    "kind",
    [
        "full",
        "independent",
        "intercept and slopes",
    ],
)
def test_the_answer_is_that_of_a_numerical_rank(kind):
    counts = {True: 0, False: 0}
    for ours, identified in ours_and_dense(kind, 300):
        assert (unidentified(ours) is None) == identified
        counts[identified] += 1
    assert min(counts.values()) > 30


def test_what_is_called_unidentified_has_a_flat_criterion():
    checked = 0
    for ours, _ in ours_and_dense("full", 300):
        found = unidentified(ours)
        if found is None or found[1]:
            continue
        # Along the null vector of the Hessian, the criterion stays the same.
        here = ours.evaluate(np.eye(ours.n_random)[None])
        values, vectors = np.linalg.eigh(here.hessian[0])
        direction = np.tensordot(vectors[:, np.abs(values).argmin()], ours.basis, 1)
        for step in (0.1, -0.1, 0.3):
            there = ours.value(np.linalg.cholesky(np.eye(ours.n_random) + step * direction))
            np.testing.assert_allclose(there, here.value[0], rtol=1e-9)
        checked += 1
    assert checked > 10
