"""The baselines as estimators: scikit-learn's checks, the reference corpus, dummies, and errors for bad input."""

import inspect
import pickle
import warnings

import joblib
import mpmath as mp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from designs import simulate
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_mlm import ClusterRobustOLS, GroupsNotPassedWarning, WithinOLS, compare_with_ols

COV_TYPES = ("nonrobust", "CR0", "CR1", "CR2", "CR3")


@parametrize_with_checks(
    [*(ClusterRobustOLS(cov_type=kind) for kind in COV_TYPES), ClusterRobustOLS(fit_intercept=False), WithinOLS()]
)
@pytest.mark.filterwarnings("ignore:fit was given no groups", "ignore:.*of X depend", "ignore:.*constant in every group")
@pytest.mark.filterwarnings("ignore:The coefficient.*rest on one group", "ignore:There are no more rows than coefficients")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# ---- the reference corpus

CASES = [
    "heck2011_null",
    "heck2011_ses",
    "heck2011_ses_public",
    "heck2011_ses_female_public",
    "heck2011_sub10_ses",
    "sleepstudy_days",
    "dyestuff_null",
    "dyestuff2_null_boundary",
    "penicillin_plate",
    "orthodont_age",
    "orthodont_age_sex",
    "rail_null",
    "mathachieve_ses",
    "mathachieve_ses_sector",
    "exam_lrt",
    "exam_lrt_weighted",
    "exam_singletons",
    "scotssec_verbal",
    "scotssec_verbal_sex",
    "chem97_gcse",
]


def test_the_list_of_cases_is_complete(reference):
    assert list(reference.cases) == CASES


@pytest.mark.parametrize("name", CASES)
def test_standard_errors_and_df_are_those_of_sandwich_and_clubsandwich(reference, name):
    case = reference.cases[name]
    X, y, groups, weights = reference.rows(case)
    expected, J = case["OLS"], case["J"]

    def fit(kind):
        return ClusterRobustOLS(cov_type=kind).fit(X, y, groups, weights)

    def errors(kind):
        return np.sqrt(np.diag(fit(kind).cov_fixed_))

    model = fit("nonrobust")
    apart = np.append(model.intercept_, model.coef_) - expected["beta"]
    np.testing.assert_allclose(apart / expected["se"], 0.0, atol=1e-10)
    np.testing.assert_allclose(errors("nonrobust"), expected["se"], rtol=1e-12)
    np.testing.assert_array_equal(model.df_, expected["df_residual"])
    # sandwich has no CR0 without the factor J / (J - 1).
    np.testing.assert_allclose(errors("CR0") * np.sqrt(J / (J - 1)), expected["cluster_se_HC0_cadjust"], rtol=1e-11)
    np.testing.assert_allclose(errors("CR1"), expected["cluster_se_HC1_cadjust"], rtol=1e-11)
    if expected["CR2"] is not None:
        np.testing.assert_allclose(errors("CR2"), expected["CR2"]["se"], rtol=1e-11)
        np.testing.assert_allclose(fit("CR2").df_, expected["CR2"]["df"], rtol=1e-11)
        np.testing.assert_allclose(fit("CR2").cov_fixed_, expected["CR2"]["vcov"], rtol=1e-10)


# ---- cluster-robust least squares


def test_coefficients_and_predictions_are_those_of_linear_regression(design):
    X, y, groups = design
    weights = np.random.default_rng(0).random(len(y))
    for fit_intercept in (True, False):
        ols = LinearRegression(fit_intercept=fit_intercept).fit(X, y, weights)
        model = ClusterRobustOLS(fit_intercept=fit_intercept).fit(X, y, groups, weights)
        np.testing.assert_allclose(model.coef_, ols.coef_, rtol=1e-11)
        np.testing.assert_allclose(model.predict(X), ols.predict(X), rtol=1e-11)
        np.testing.assert_allclose(model.score(X, y, sample_weight=weights), ols.score(X, y, weights), rtol=1e-11)


def test_the_mean_alone(design):
    _, y, groups = design
    model = ClusterRobustOLS(cov_type="CR0").fit(None, y, groups)
    sums = pd.Series(y - y.mean()).groupby(groups).sum()
    np.testing.assert_allclose(model.cov_fixed_, [[(sums**2).sum() / len(y) ** 2]], rtol=1e-12)
    np.testing.assert_allclose(model.predict(None, groups=groups[:3]), y.mean())
    frame = pd.DataFrame({"school": groups})
    by_column = ClusterRobustOLS(cov_type="CR0", group_feature="school").fit(frame, y)
    np.testing.assert_array_equal(by_column.cov_fixed_, model.cov_fixed_)
    np.testing.assert_allclose(by_column.predict(frame[:3]), y.mean())


def test_rows_of_weight_zero_are_no_rows(design):
    X, y, groups = design
    weights = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    weights[groups == 3] = 0.0
    kept = weights > 0
    for kind in COV_TYPES:
        model = ClusterRobustOLS(cov_type=kind).fit(X, y, groups, weights)
        other = ClusterRobustOLS(cov_type=kind).fit(X[kept], y[kept], groups[kept], weights[kept])
        np.testing.assert_allclose(model.cov_fixed_, other.cov_fixed_, rtol=1e-12)
        np.testing.assert_allclose(model.df_, other.df_, rtol=1e-12)
    assert model.n_groups_ == len(np.unique(groups[kept])) < len(np.unique(groups))


def test_every_form_of_x_and_groups_gives_the_same(design):
    X, y, groups = design
    expected = ClusterRobustOLS().fit(X, y, groups)
    names = ["a", "b", "c"]
    frame = pd.DataFrame(X, columns=names).assign(school=groups)
    for model in (
        ClusterRobustOLS(group_feature="school").fit(frame, y),
        ClusterRobustOLS(group_feature="school").fit(pl.DataFrame(frame), pl.Series(y)),
        ClusterRobustOLS(group_feature=-1).fit(np.column_stack([X, groups]), y),
        ClusterRobustOLS().fit(sparse.csr_matrix(X), y, groups.astype(str)),
        ClusterRobustOLS().fit(X.tolist(), y.tolist(), pd.Categorical(groups)),
    ):
        np.testing.assert_allclose(model.cov_fixed_, expected.cov_fixed_, rtol=1e-9)
        np.testing.assert_allclose(model.df_, expected.df_, rtol=1e-9)


BAD = {
    "cov_type": (lambda X, y, g: ClusterRobustOLS(cov_type="HC1").fit(X, y, g), "cov_type must be one of .*found 'HC1'"),
    "fit_intercept": (lambda X, y, g: ClusterRobustOLS(fit_intercept=None).fit(X, y, g), "fit_intercept must be one of"),
    "group_feature": (lambda X, y, g: ClusterRobustOLS(group_feature=1.5).fit(X, y, g), "group_feature must be the name"),
    "one group": (lambda X, y, g: ClusterRobustOLS().fit(X, y, g * 0), r"one group only \(0"),
    "NaN": (lambda X, y, g: ClusterRobustOLS().fit(X * np.nan, y, g), r"Column 0 of X has \d+ missing value\(s\) \(NaN\)"),
    "labels": (lambda X, y, g: ClusterRobustOLS().fit(X, y, [None, *g[1:]]), r"groups has 1 missing label\(s\)"),
    "lengths": (lambda X, y, g: ClusterRobustOLS().fit(X, y, g[1:]), r"groups of shape \(\d+,\) for \d+ rows"),
    "new_groups": (lambda X, y, g: WithinOLS(new_groups="x").fit(X, y, g), "new_groups must be one of"),
    "no groups": (lambda X, y, g: compare_with_ols(X, y, None), "groups must hold the group label of each row; found None"),
    "a name": (lambda X, y, g: compare_with_ols(X, y, "g"), "groups must hold the group label of each row; found 'g'"),
    "folds": (lambda X, y, g: compare_with_ols(X, y, g, cv=1), "cv must be a number of folds.*found 1"),
    "one group compared": (lambda X, y, g: compare_with_ols(X, y, g * 0), "one group only"),
    "the intercept's name": (
        lambda X, y, g: compare_with_ols(pd.DataFrame(X, columns=["a", "(Intercept)", "b"]), y, g),
        "must have unique names other than .* found '\\(Intercept\\)'",
    ),
    "compared NaN": (lambda X, y, g: compare_with_ols(X, y * np.nan, g), r"y has \d+ missing value\(s\) \(NaN\)"),
    "constant y": (lambda X, y, g: compare_with_ols(X, y * 0, g), "y is constant"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_says_why(design, case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(*design)


@pytest.mark.filterwarnings("ignore:x2. constant in every group")
@pytest.mark.parametrize("estimator", [ClusterRobustOLS(), WithinOLS()])
def test_a_failed_fit_leaves_the_model_as_it_was(design, estimator):
    X, y, groups = design
    model = clone(estimator).fit(X, y, groups)
    before = {name: id(value) for name, value in vars(model).items()}
    for bad in ((X * np.nan, y, groups), (X, y, groups, -np.ones(len(y))), (X[:, :2], y, [None] * len(y))):
        with pytest.raises(ValueError):  # noqa: PT011
            model.fit(*bad)
        assert {name: id(value) for name, value in vars(model).items()} == before
    with warnings.catch_warnings():
        warnings.simplefilter("error", GroupsNotPassedWarning)
        with pytest.raises(GroupsNotPassedWarning):
            model.fit(X, y)
    assert {name: id(value) for name, value in vars(model).items()} == before
    with pytest.raises(NotFittedError):
        clone(estimator).predict(X)


@pytest.mark.filterwarnings("ignore:x2. constant in every group")
@pytest.mark.parametrize("estimator", [ClusterRobustOLS(cov_type="CR1"), WithinOLS()])
def test_copies_keep_what_they_should(design, estimator, tmp_path):
    X, y, groups = design
    model = clone(estimator).fit(X, y, groups)
    joblib.dump(model, tmp_path / "model.joblib")
    for copy in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(copy.predict(X, groups), model.predict(X, groups))
        np.testing.assert_array_equal(copy.cov_fixed_, model.cov_fixed_)
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not hasattr(fresh, "coef_")
    assert type(estimator).__name__ in model._repr_html_()
    assert model.set_params(group_feature=2).group_feature == 2


@pytest.mark.parametrize("kind", [ClusterRobustOLS, WithinOLS])
def test_documented_defaults_are_the_defaults(kind):
    for name, parameter in inspect.signature(kind).parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        line = next(line for line in kind.__doc__.splitlines() if line.strip().startswith(f"{name} : "))
        assert line.rstrip().endswith(f"default={parameter.default!r}".replace("'", '"'))


@pytest.mark.parametrize("weights", [None, np.full(4, 0.5), np.full(4, 2.0)])
def test_without_degrees_of_freedom_there_are_coefficients_but_no_standard_errors(weights):
    X = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    y, groups = np.array([1.0, 4.0, 2.0, 8.0]), [0, 0, 1, 1]
    for kind in COV_TYPES:
        with pytest.warns(UserWarning, match="no degrees of freedom are left"):
            model = ClusterRobustOLS(cov_type=kind).fit(X, y, groups, weights)
        np.testing.assert_allclose(model.predict(X), y, rtol=1e-10)
        assert np.isnan(model.cov_fixed_).all()
        assert np.isnan(model.df_).all()
    with pytest.warns(UserWarning, match="no degrees of freedom are left"):
        within = WithinOLS().fit(X[:, [0, 2]], y, groups, weights)
    np.testing.assert_allclose(within.predict(X[:, [0, 2]], groups), y, rtol=1e-10)
    assert np.isnan(within.cov_fixed_).all()


@pytest.mark.parametrize("cov_type", COV_TYPES)
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_weights_may_have_any_scale(cov_type, scale):
    X, y, groups = simulate(20, 8, 3)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    plain, scaled = (ClusterRobustOLS(cov_type=cov_type).fit(X, y, groups, weights * by) for by in (1.0, scale))
    np.testing.assert_allclose(scaled.cov_fixed_, plain.cov_fixed_, rtol=1e-10)
    np.testing.assert_allclose(scaled.df_, plain.df_, rtol=1e-10)


# ---- the within estimator


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_within_is_least_squares_with_dummies(seed, weighted):
    X, y, groups = simulate(9, 6, 3, level_2=False, seed=seed)
    weights = np.random.default_rng(seed).uniform(0.5, 2.0, len(y)) if weighted else None
    model = WithinOLS().fit(X, y, groups, weights)
    levels = np.unique(groups)
    dummies = (groups[:, None] == levels).astype(float)
    ols = ClusterRobustOLS(cov_type="nonrobust", fit_intercept=False).fit(np.hstack([X, dummies]), y, sample_weight=weights)
    np.testing.assert_allclose(model.coef_, ols.coef_[:3], rtol=1e-11)
    np.testing.assert_allclose(model.cov_fixed_, ols.cov_fixed_[:3, :3], rtol=1e-10)
    np.testing.assert_array_equal(model.df_, len(y) - len(levels) - 3)
    np.testing.assert_allclose(model.intercept_ + model.group_effects_, ols.coef_[3:], rtol=1e-10)
    np.testing.assert_allclose(model.predict(X, groups), ols.predict(np.hstack([X, dummies])), rtol=1e-10)
    assert model.score(X, y, groups, weights) == pytest.approx(
        ols.score(np.hstack([X, dummies]), y, sample_weight=weights), rel=1e-10
    )
    counts = np.bincount(np.searchsorted(levels, groups), weights=weights)
    np.testing.assert_allclose(counts @ model.group_effects_, 0.0, atol=1e-10)


def test_within_has_nothing_to_say_of_group_level_columns_and_new_groups(design):
    X, y, groups = design
    with pytest.warns(UserWarning, match=r"x2: constant in every group.*coefficient is 0"):
        model = WithinOLS().fit(X, y, groups)
    assert model.coef_[2] == 0.0
    assert np.isnan(model.df_[2])
    population = model.intercept_ + X[:3] @ model.coef_
    np.testing.assert_allclose(model.predict(X[:3], groups=[999] * 3), population)
    np.testing.assert_allclose(model.predict(X[:3], groups="population"), population)
    with pytest.warns(GroupsNotPassedWarning):
        np.testing.assert_allclose(model.predict(X[:3]), population)
    assert np.isnan(clone(model).set_params(new_groups="nan").fit(X[:, :2], y, groups).predict(X[:3, :2], [999] * 3)).all()
    with pytest.raises(ValueError, match="fit has not seen"):
        clone(model).set_params(new_groups="error").fit(X[:, :2], y, groups).predict(X[:3, :2], [999] * 3)


def test_within_without_groups_is_least_squares(design):
    X, y, _ = design
    with pytest.warns(GroupsNotPassedWarning, match="is least squares with an intercept"):
        model = WithinOLS().fit(X, y)
    ols = ClusterRobustOLS(cov_type="nonrobust").fit(X, y)
    np.testing.assert_allclose(model.coef_, ols.coef_, rtol=1e-11)
    np.testing.assert_allclose(model.intercept_, ols.intercept_, rtol=1e-11)
    np.testing.assert_allclose(model.cov_fixed_, ols.cov_fixed_[1:, 1:], rtol=1e-10)
    assert model.n_groups_ == 0


def test_within_loses_no_digits_far_from_zero():
    X, y, groups = simulate(9, 6, 2, level_2=False)
    near, far = (WithinOLS().fit(X + 1e6 * shift, y + 1e8 * shift, groups) for shift in (0, 1))
    np.testing.assert_allclose(far.coef_, near.coef_, rtol=1e-7)
    exact = WithinOLS().fit(X, X @ [1.0, 2.0] + groups, groups)
    assert exact.residual_variance_ == 0.0
    np.testing.assert_allclose(exact.coef_, [1.0, 2.0], rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_slopes_that_cancel_keep_the_residual_variance(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(15), 9)
    x = rng.standard_normal(135)
    other = x + 1e-6 * rng.standard_normal(135)
    X, y = np.column_stack([x, other]), rng.standard_normal(15)[groups] + 1e8 * (x - other) + rng.standard_normal(135)
    model = WithinOLS().fit(X, y, groups=groups)
    with mp.workdps(50):
        exact = [[mp.mpf(float(value)) for value in column] for column in (x, other, y)]
        # The rows are sorted by group, nine in each.
        means = [[mp.fsum(column[9 * g : 9 * g + 9]) / 9 for g in groups] for column in exact]
        deviations = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(exact, means, strict=True)]
        gram = mp.matrix(3, 3)
        for i in range(3):
            for j in range(3):
                gram[i, j] = mp.fsum(a * b for a, b in zip(deviations[i], deviations[j], strict=True))
        slopes = mp.lu_solve(gram[:2, :2], gram[:2, 2])
        left = gram[2, 2] - slopes[0] * gram[0, 2] - slopes[1] * gram[1, 2]
    # The columns are known to 1e-16, their difference to 1e-10, and the slopes are 1e8 residual standard deviations.
    assert model.residual_variance_ == pytest.approx(float(left / (135 - 15 - 2)), rel=1e-3)
