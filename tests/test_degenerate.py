"""Every function on designs that leave nothing of something: a sound figure, or a ValueError that says why in a sentence."""

import re
import traceback
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from many_cases import check_each
from scipy import stats

import sklearn_mlm
from sklearn_mlm import ClusterRobustOLS, RandomInterceptRegressor, WithinOLS, compare_with_ols, inference
from sklearn_mlm.display import (
    ClusteringDisplay,
    CoefficientComparisonDisplay,
    RandomEffectsDisplay,
    ShrinkageDisplay,
    VarianceDisplay,
)

mpl.use("Agg")
import matplotlib.pyplot as plt

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

PACKAGE = Path(sklearn_mlm.__file__).parent
N_SIMULATIONS = 200


# ---- the designs


@dataclass(frozen=True, eq=False)
class Design:
    """Rows and how they are fitted."""

    X: np.ndarray | None
    y: np.ndarray
    groups: np.ndarray
    weights: np.ndarray | None = None
    options: dict = field(default_factory=dict)

    @property
    def fit_intercept(self):
        """Whether the model has an intercept."""
        return self.options.get("fit_intercept", True)

    @property
    def columns(self):
        """The columns of the fixed part, ones first if there is an intercept."""
        x = np.zeros((len(self.y), 0)) if self.X is None else self.X
        return np.column_stack([np.ones(len(self.y)), x]) if self.fit_intercept else x

    @property
    def new(self):
        """Three rows to predict."""
        return None if self.X is None else self.X[:3]


def normal(seed, *shape):
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def designs():
    """The designs by name."""
    five = np.repeat(np.arange(8), 5)
    four = np.repeat(np.arange(4), 5)
    X, noise = normal(0, 40, 2), normal(1, 40)
    y = 1.0 + X.sum(axis=1) + normal(2, 8)[five] + noise
    centred = noise - np.array([noise[five == j].mean() for j in range(8)])[five]
    level2 = normal(3, 4, 3)[four]
    dummies = np.eye(8)[five]
    bare = {"fit_intercept": False}
    return {
        "ordinary": Design(X, y, five),
        "null": Design(None, y, five),
        "no intercept": Design(X, y, five, options=bare),
        "no fixed effects": Design(None, y, five, options=bare),
        "precisions": Design(X, y, five, np.exp(normal(4, 40)), {"weight_type": "precision"}),
        "saturated within": Design(normal(5, 12, 2), normal(6, 12), np.append(np.arange(10), [0, 1])),
        "no df between": Design(level2, normal(7, 20), four),
        "no df between but within": Design(np.column_stack([level2, normal(8, 20)]), normal(7, 20), four),
        "tau2 = 0": Design(X, centred, five),
        "tau2 = 0, null": Design(None, centred, five),
        "tau2 near 0": Design(None, centred + 0.5 * normal(9, 8)[five], five),
        "sigma2 = 0": Design(None, normal(9, 8)[five], five),
        "sigma2 = 0 with x": Design(X, X @ [1.0, 2.0] + normal(9, 8)[five], five),
        "sigma2 = 0 with a column between": Design(normal(10, 8, 1)[five], normal(9, 8)[five], five),
        "sigma2 = 0 with columns of both": Design(
            np.column_stack([X[:, 0], normal(10, 8)[five]]), X[:, 0] + normal(9, 8)[five], five
        ),
        "exact fit": Design(X, X @ [1.0, 2.0] + 3.0, five),
        "y constant": Design(X, np.ones(40), five),
        "y constant, null": Design(None, np.ones(40), five),
        "a column for every group": Design(dummies[:, 1:], y, five),
        "dummies of all groups": Design(dummies, y, five, options=bare),
        "two groups": Design(X[:10], y[:10], five[:10]),
        "two groups, null": Design(None, y[:10], five[:10]),
        "collinear": Design(np.column_stack([X, X[:, 0]]), y, five),
        "one row more than effects": Design(normal(11, 6, 4), normal(12, 6), np.repeat(np.arange(3), 2)),
        "singletons but one": Design(None, normal(13, 9), np.append(np.arange(8), 0)),
    }


DESIGNS = designs()
METHODS = ("reml", "ml")


@cache
def model_of(name, method):
    """The random intercept model of a design."""
    design = DESIGNS[name]
    model = RandomInterceptRegressor(method=method, **design.options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model.fit(design.X, design.y, design.groups, design.weights)


# ---- the functions, of a fitted model and its design

DDF = ("satterthwaite", "kenward_roger", "residual", "normal")
FUNCTIONS = {}


def function(name, *options):
    """Enter a function, once for each option."""

    def enter(of_model):
        for option in options:
            FUNCTIONS[f"{name} {option}".strip()] = lambda m, d, option=option: of_model(m, d, option)
        return of_model

    return enter


@function("fixed_effects", *DDF)
def fixed_effects(model, design, ddf):
    return inference.fixed_effects(model, ddf=ddf)


@function("summary", *DDF)
def summary(model, design, ddf):
    s = model.summary(design.X, design.y, design.groups, sample_weight=design.weights, ddf=ddf)
    assert "nan" not in str(s), "nan in the text"
    assert s._repr_html_()
    return s.fixed_effects


@function("contrast_test of one", *DDF)
def contrast_of_one(model, design, ddf):
    return inference.contrast_test(model, np.eye(len(model.cov_fixed_))[-1:], ddf=ddf)


@function("contrast_test of all", *DDF)
def contrast_of_all(model, design, ddf):
    return inference.contrast_test(model, np.eye(len(model.cov_fixed_)), ddf=ddf)


@function("confidence_intervals", "pivot", "profile", "wald", "exact")
def confidence_intervals(model, design, method):
    table = inference.confidence_intervals(model, method=method)
    # REML's estimates of variances may lie outside the intervals of the full likelihood; those of coefficients do not.
    table.insert(0, "estimate", np.append([np.nan] * 3, inference.fixed_effects(model, ddf="normal")["estimate"]))
    return table


@function("plausible_values_range", "")
def plausible_values_range(model, design, _):
    return inference.plausible_values_range(model)


def interval_of_one_df_or_more(model, design, groups, kind):
    """Intervals of predictions, no wider than those of the t distribution with one degree of freedom."""
    table = inference.predict_interval(model, design.new, groups, kind=kind)
    of = "population" if kind == "population_mean" else groups
    variance = model.predict(design.new, of, return_std=True)[1] ** 2
    if kind == "observation":
        variance = variance + model.variance_components_["residual"]
    # Relative and absolute rounding.
    widest = stats.t.ppf(0.975, 1) * np.sqrt(variance) * (1.0 + 1e-6) + 1e-12
    assert ((table["upper"] - table["lower"]) / 2.0 <= widest).all(), table
    return table


@function("predict_interval", "observation", "group_mean", "population_mean")
def predict_interval(model, design, kind):
    return interval_of_one_df_or_more(model, design, design.groups[:3], kind)


@function("predict_interval of new groups", "observation", "group_mean", "population_mean")
def predict_interval_of_new_groups(model, design, kind):
    return interval_of_one_df_or_more(model, design, [97, 98, 99], kind)


@function("random_intercept_test", "exact", "mixture", "naive", "f")
def random_intercept_test(model, design, method):
    test = inference.random_intercept_test(model, method=method, random_state=0, n_simulations=N_SIMULATIONS)
    if method == "exact" and not np.isnan(test["p_value"]):
        assert test["p_value"] >= 1.0 / (1.0 + N_SIMULATIONS)
    return test


@function("likelihood_ratio_test", "")
def likelihood_ratio_test(model, design, _):
    if design.X is None:
        # There is no column to leave out.
        return None
    fewer = design.X[:, :-1] if design.X.shape[1] > 1 else None
    small = RandomInterceptRegressor(method=model.method, **design.options)
    small.fit(fewer, design.y, design.groups, design.weights)
    return inference.likelihood_ratio_test(small, model)


@function("icc", "adjusted", "unadjusted")
def icc(model, design, kind):
    return pd.Series({"icc": inference.icc(model, kind=kind)})


@function("icc unadjusted of rows", "")
def icc_of_rows(model, design, _):
    return pd.Series({"icc": inference.icc(model, kind="unadjusted", X=design.X, groups=design.groups)})


@function("r2", "")
def r2(model, design, _):
    return inference.r2(model)


@function("r2 of rows", "")
def r2_of_rows(model, design, _):
    return inference.r2(model, design.X, design.groups)


@function("random_effects_table", "")
def random_effects_table(model, design, _):
    return inference.random_effects_table(model).rename(columns={"effect": "estimate", "intercept": "level"})


@function("clustering_report", "")
def clustering_report(model, design, _):
    return inference.clustering_report(model)


@function("predict", "")
def predict(model, design, _):
    mean, std = model.predict(design.X, design.groups, return_std=True)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    return pd.DataFrame({"estimate": mean, "std_error": std})


@function("score", "")
def score(model, design, _):
    score = model.score(design.X, design.y, design.groups, design.weights)
    # A constant y leaves nothing to explain: scikit-learn gives 1 for a fit without error.
    assert score <= 1.0
    return pd.Series({"r2": score})


@function("RandomEffectsDisplay", "hist", "caterpillar", "qq")
def random_effects_display(model, design, kind):
    RandomEffectsDisplay.from_estimator(model, kind=kind)


@function("ShrinkageDisplay", "")
def shrinkage_display(model, design, _):
    ShrinkageDisplay.from_estimator(model)


@function("VarianceDisplay", "shares", "range", "profile")
def variance_display(model, design, kind):
    VarianceDisplay.from_estimator(model, kind=kind)


# ---- least squares, which `method` makes no difference to


@cache
def comparison_of(name):
    """The comparison of a design, which takes no weights and has an intercept."""
    design = DESIGNS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return compare_with_ols(design.X, design.y, design.groups, cv=2, random_state=0)


def cluster_robust(name, cov_type):
    """The table of coefficients with cluster-robust standard errors."""
    design = DESIGNS[name]
    model = ClusterRobustOLS(cov_type=cov_type, fit_intercept=design.fit_intercept)
    model.fit(design.X, design.y, design.groups, design.weights)
    assert np.isfinite(model.predict(design.X, design.groups)).all()
    return inference.fixed_effects(model)


def within(name):
    """The table of coefficients of the within estimator."""
    design = DESIGNS[name]
    model = WithinOLS().fit(design.X, design.y, design.groups, design.weights)
    assert np.isfinite(model.predict(design.X, design.groups)).all()
    assert not model.residual_variance_ < 0
    return inference.fixed_effects(model)


def printed(name):
    """The comparison in words."""
    comparison = comparison_of(name)
    assert "nan" not in str(comparison), "nan in the text"
    assert comparison._repr_html_()


def clustering_display(name, lines):
    """A picture of the first column."""
    design = DESIGNS[name]
    ClusteringDisplay.from_data(design.groups if design.X is None else design.X[:, 0], design.y, design.groups, lines=lines)


OF_ROWS = {
    **{f"ClusterRobustOLS {kind}": lambda n, kind=kind: cluster_robust(n, kind) for kind in ("nonrobust", "CR0", "CR1")},
    **{f"ClusterRobustOLS {kind}": lambda n, kind=kind: cluster_robust(n, kind) for kind in ("CR2", "CR3")},
    "WithinOLS": within,
    "compare_with_ols coefficients": lambda n: comparison_of(n).coefficients,
    "compare_with_ols within and between": lambda n: comparison_of(n).within_between,
    "compare_with_ols differences": lambda n: comparison_of(n).within_between_test,
    "compare_with_ols groups": lambda n: comparison_of(n).group_test,
    "compare_with_ols predictions": lambda n: comparison_of(n).predictions.drop(columns="r2"),
    "compare_with_ols in words": printed,
    "CoefficientComparisonDisplay": lambda n: (
        CoefficientComparisonDisplay.from_comparison(comparison_of(n), intercept=True).coefficients
    ),
    **{f"ClusteringDisplay {k}": lambda n, k=k: clustering_display(n, k) for k in ("pooled", "group", "model")},
}


# ---- what makes a figure sound


def column(table, name):
    """A column without its missing values, empty if there is none."""
    return table[name].dropna().to_numpy() if name in table else np.zeros(0)


def assert_sound(value, certain):
    """Assert what holds of every table: `certain` where sigma2 = 0, so that a p-value may be 0."""
    if value is None:
        return
    table = value.to_frame().T if isinstance(value, pd.Series) else value
    table = table.astype(float)
    finite = table.drop(columns=["df", "df2", "statistic", "F", *_ENDS, *_LIKELIHOODS], errors="ignore")
    assert not np.isinf(finite).to_numpy().any()
    for name in ("std_error", "sd", "n", "statistic", "F", "chi2", "rmse", "effective_sample_size"):
        assert (column(table, name) >= 0).all(), name
    for name in ("df", "df2"):
        # None are left where there is no test.
        tested = (
            table if "p_value" not in table or name not in table else table[table["p_value"].notna() | (table[name] != 0)]
        )
        assert (column(tested, name) >= LEAST_DF).all(), f"{name}: {table[name].to_numpy()}"
    for name in ("icc", "reliability", "p_value", "marginal", "conditional", "within_share", "group", "residual"):
        found = column(table, name)
        assert ((found >= 0) & (found <= 1 + 1e-12)).all(), f"{name}: {found}"
    assert certain or (column(table, "p_value") > 0).all()
    for low, high in (("lower", "upper"), ("ci_lower", "ci_upper")):
        if low in table:
            known = table[[low, high]].notna().all(axis=1)
            assert (table[known][low] <= table[known][high]).all(), table
            place = table.get("estimate", table.get("prediction"))
            if place is not None:
                inside = (place.isna() | ((table[low] <= place) & (place <= table[high])))[known]
                assert inside.all(), table


_ENDS = ("lower", "upper", "ci_lower", "ci_upper")
_LIKELIHOODS = ("aic", "bic", "log_likelihood", "deviance")
# An estimate of a variance rests on one difference at least; approximations of its df may fall a little short.
LEAST_DF = 0.5


def assert_sentence(error):
    """Assert that an error comes from this package and says in a sentence what is the matter."""
    where = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    assert PACKAGE in where.parents, f"raised by {where}: {error}"
    assert not isinstance(error, np.linalg.LinAlgError)
    assert re.match(r'^[A-Za-z"].{30,}[.]$', str(error), re.DOTALL), str(error)


def check(of_case, certain):
    """Assert that a function gives a sound figure, or raises a ValueError that is a sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            value = of_case()
        except ValueError as error:
            assert_sentence(error)
            return
        finally:
            plt.close("all")
    assert_sound(value, certain)


UNBOUNDED = ("sigma2 = 0", "exact fit", "y constant")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DESIGNS)
def test_a_fitted_model_gives_sound_figures_or_says_why_not(name, method):
    model, design = model_of(name, method), DESIGNS[name]
    certain = model.variance_components_["residual"] == 0
    cases = [(title, (lambda f=f: f(model, design), certain)) for title, f in FUNCTIONS.items()]
    check_each(cases, check)


@pytest.mark.parametrize("name", DESIGNS)
def test_least_squares_give_sound_figures_or_say_why_not(name):
    certain = name.startswith(("sigma2 = 0", "exact", "y constant"))
    check_each([(title, (lambda f=f: f(name), certain)) for title, f in OF_ROWS.items()], check)


# ---- figures that are known otherwise

# What two ways to the same figure may differ by, relative to its size: conditioning of the designs of some 1e3.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
WITH_RESIDUAL = [n for n in DESIGNS if not n.startswith(UNBOUNDED)]


def least_squares(columns, y, divisor=None):
    """Coefficients, standard errors and the residual sum of squares over a divisor: N - k unless given."""
    coefficients, *_ = np.linalg.lstsq(columns, y, rcond=None)
    left = float(((y - columns @ coefficients) ** 2).sum())
    variance = left / (len(y) - columns.shape[1] if divisor is None else divisor)
    return coefficients, np.sqrt(variance * np.diag(np.linalg.inv(columns.T @ columns))), variance


def group_means(design, values):
    """Means of the rows of each group."""
    return np.array([values[design.groups == label].mean(axis=0) for label in np.unique(design.groups)])


def coefficients_of(model):
    """The fixed effects, the intercept first if there is one."""
    return inference.fixed_effects(model, ddf="normal")["estimate"].to_numpy()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [n for n in WITH_RESIDUAL if n != "collinear"])
def test_estimates_are_those_of_generalised_least_squares_at_the_variances(name, method):
    model, design = model_of(name, method), DESIGNS[name]
    tau2, sigma2 = model.variance_components_
    if sigma2 == 0:
        pytest.skip("the full likelihood has no maximum here")
    Z = (design.groups[:, None] == np.unique(design.groups)).astype(float)
    V = tau2 * Z @ Z.T + np.diag(sigma2 / (np.ones(len(design.y)) if design.weights is None else design.weights))
    columns = design.columns
    covariance = np.linalg.inv(columns.T @ np.linalg.solve(V, columns))
    coefficients = covariance @ columns.T @ np.linalg.solve(V, design.y)
    np.testing.assert_allclose(coefficients_of(model), coefficients, **CLOSE)
    np.testing.assert_allclose(model.cov_fixed_, covariance, **CLOSE)
    effects = tau2 * Z.T @ np.linalg.solve(V, design.y - columns @ coefficients)
    np.testing.assert_allclose(model.random_effects_, effects, **CLOSE)


@pytest.mark.parametrize("ddf", ["satterthwaite", "residual"])
@pytest.mark.parametrize(
    "name",
    [
        *("saturated within", "no df between", "no df between but within", "tau2 = 0", "tau2 = 0, null", "two groups"),
        *("a column for every group", "dummies of all groups", "one row more than effects", "singletons but one"),
    ],
)
def test_without_group_variance_the_figures_are_those_of_least_squares(name, ddf):
    model, design = model_of(name, "reml"), DESIGNS[name]
    assert model.boundary_ == "group"
    coefficients, errors, variance = least_squares(design.columns, design.y)
    table = inference.fixed_effects(model, ddf=ddf)
    df = len(design.y) - len(coefficients)
    half = stats.t.ppf(0.975, df) * errors
    np.testing.assert_allclose(model.variance_components_, [0.0, variance], **CLOSE)
    np.testing.assert_allclose(table["estimate"], coefficients, **CLOSE)
    np.testing.assert_allclose(table["std_error"], errors, **CLOSE)
    np.testing.assert_allclose(table["df"], df, rtol=1e-12)
    np.testing.assert_allclose(table["p_value"], 2 * stats.t.sf(np.abs(coefficients / errors), df), **CLOSE)
    np.testing.assert_allclose(table["ci_upper"], coefficients + half, **CLOSE)
    assert inference.random_intercept_test(model, method="naive")["statistic"] == 0.0


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward_roger"])
@pytest.mark.parametrize("name", ["sigma2 = 0", "sigma2 = 0 with a column between", "sigma2 = 0 with columns of both"])
def test_without_residual_the_figures_are_those_of_least_squares_between_groups(name, ddf):
    model, design = model_of(name, "reml"), DESIGNS[name]
    assert model.boundary_ == "residual"
    known = np.zeros(len(design.y))
    columns, table = design.columns, inference.fixed_effects(model, ddf=ddf)
    if name.endswith("both"):
        # The first column has the coefficient 1, without error.
        assert table["estimate"].iloc[1] == pytest.approx(1.0, rel=1e-12)
        assert table["std_error"].iloc[1] == 0.0
        known, columns, table = design.X[:, 0], columns[:, [0, 2]], table.iloc[[0, 2]]
    means = group_means(design, columns)
    coefficients, errors, variance = least_squares(means, group_means(design, design.y - known))
    df = len(means) - means.shape[1]
    np.testing.assert_allclose(model.variance_components_, [variance, 0.0], **CLOSE)
    np.testing.assert_allclose(table["estimate"], coefficients, **CLOSE)
    np.testing.assert_allclose(table["std_error"], errors, **CLOSE)
    np.testing.assert_allclose(table["df"], df, rtol=1e-12)
    np.testing.assert_allclose(table["p_value"], 2 * stats.t.sf(np.abs(coefficients / errors), df), **CLOSE)
    np.testing.assert_allclose(model.predict(design.X, design.groups), design.y, rtol=1e-12)
    assert inference.icc(model) == 1.0
    assert inference.random_intercept_test(model, random_state=0, n_simulations=9)["p_value"] == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["null", "tau2 = 0, null", "tau2 near 0", "two groups, null", "singletons but one"])
def test_of_null_models_the_f_test_is_that_of_an_analysis_of_variance(name):
    design = DESIGNS[name]
    samples = [design.y[design.groups == label] for label in np.unique(design.groups)]
    expected = stats.f_oneway(*samples)
    test = inference.random_intercept_test(model_of(name, "reml"), method="f")
    np.testing.assert_allclose(test[["F", "p_value"]], [expected.statistic, expected.pvalue], **CLOSE)
    np.testing.assert_allclose(test[["df1", "df2"]], [len(samples) - 1, len(design.y) - len(samples)], rtol=1e-12)


def test_without_fixed_effects_sums_of_squares_are_chi_squared():
    model, design = model_of("no fixed effects", "reml"), DESIGNS["no fixed effects"]
    means, n_groups, n_rows = group_means(design, design.y), 8, 40
    within = sum(((design.y[design.groups == label] - means[label]) ** 2).sum() for label in range(n_groups))
    f = 5.0 * (means**2).mean() / (within / (n_rows - n_groups))
    test = inference.random_intercept_test(model, method="f")
    np.testing.assert_allclose(test[["F", "df1", "df2"]], [f, n_groups, n_rows - n_groups], **CLOSE)
    limits = inference.confidence_intervals(model, method="exact").loc["sd(residual)"]
    np.testing.assert_allclose(limits, np.sqrt(within / stats.chi2.ppf([0.975, 0.025], n_rows - n_groups)), **CLOSE)
    # Balanced, so that the variances are those of the analysis of variance: E sum n mean^2 / J = sigma2 + n tau2.
    sigma2 = within / (n_rows - n_groups)
    np.testing.assert_allclose(model.variance_components_, [(means**2).mean() - sigma2 / 5.0, sigma2], **CLOSE)
    assert len(inference.fixed_effects(model)) == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "coefficients"), [("exact fit", [3.0, 1.0, 2.0]), ("y constant", [1.0, 0.0, 0.0]), ("y constant, null", [1.0])]
)
def test_a_fit_without_error_has_no_standard_errors_and_no_tests(name, coefficients, method):
    model, design = model_of(name, method), DESIGNS[name]
    table = inference.fixed_effects(model)
    np.testing.assert_allclose(table["estimate"], coefficients, rtol=0, atol=1e-12)
    assert (table["std_error"] == 0).all()
    assert table["p_value"].isna().all()
    assert (model.variance_components_ == 0).all()
    np.testing.assert_allclose(model.predict(design.X, design.groups), design.y, rtol=1e-12)
    assert np.isnan(model.icc_)


@pytest.mark.parametrize("method", ["exact", "mixture", "naive", "f"])
@pytest.mark.parametrize("name", ["no df between", "a column for every group", "dummies of all groups"])
def test_without_degrees_of_freedom_between_groups_there_is_no_test_of_their_variance(name, method):
    test = inference.random_intercept_test(model_of(name, "reml"), method=method, n_simulations=9, random_state=0)
    assert np.isnan(test["p_value"])


@pytest.mark.parametrize("method", METHODS)
def test_a_dependent_column_makes_no_difference(method):
    with_it, without = model_of("collinear", method), model_of("ordinary", method)
    # The same rows, but for the column.
    np.testing.assert_allclose(with_it.variance_components_, without.variance_components_, rtol=1e-10)
    kept = inference.fixed_effects(with_it)
    assert kept.iloc[3].isna().all()
    np.testing.assert_allclose(kept.iloc[:3], inference.fixed_effects(without), rtol=1e-9)
    design = DESIGNS["collinear"]
    np.testing.assert_allclose(
        with_it.predict(design.X, design.groups), without.predict(design.X[:, :2], design.groups), rtol=1e-10
    )


@pytest.mark.parametrize("name", ["ordinary", "null", "tau2 = 0", "two groups", "saturated within", "no df between"])
def test_least_squares_are_those_of_dense_algebra(name):
    design = DESIGNS[name]
    coefficients, errors, _ = least_squares(design.columns, design.y)
    table = cluster_robust(name, "nonrobust")
    np.testing.assert_allclose(table["estimate"], coefficients, **CLOSE)
    np.testing.assert_allclose(table["std_error"], errors, **CLOSE)
    residuals, bread = design.y - design.columns @ coefficients, np.linalg.inv(design.columns.T @ design.columns)
    scores = np.array(
        [design.columns[design.groups == j].T @ residuals[design.groups == j] for j in np.unique(design.groups)]
    )
    sandwich = bread @ scores.T @ scores @ bread
    with warnings.catch_warnings():
        # Coefficients that rest on one group are NaN.
        warnings.simplefilter("ignore", UserWarning)
        model = ClusterRobustOLS(cov_type="CR0").fit(design.X, design.y, design.groups)
    known = ~np.isnan(np.diag(model.cov_fixed_))
    np.testing.assert_allclose(model.cov_fixed_[np.ix_(known, known)], sandwich[np.ix_(known, known)], **CLOSE)


@pytest.mark.parametrize("name", ["ordinary", "null", "tau2 = 0", "two groups", "no df between but within"])
def test_the_within_estimator_is_least_squares_with_a_dummy_for_every_group(name):
    design = DESIGNS[name]
    dummies = (design.groups[:, None] == np.unique(design.groups)).astype(float)
    within_groups = design.X[:, -1:] if "between" in name else design.X
    columns = dummies if design.X is None else np.column_stack([within_groups, dummies])
    k = columns.shape[1] - dummies.shape[1]
    coefficients, errors, variance = least_squares(columns, design.y)
    with warnings.catch_warnings():
        # A column that is constant in every group is dropped.
        warnings.simplefilter("ignore", UserWarning)
        model = WithinOLS().fit(design.X, design.y, design.groups)
    table = inference.fixed_effects(model).dropna()
    np.testing.assert_allclose(model.residual_variance_, variance, **CLOSE)
    np.testing.assert_allclose(table["estimate"], coefficients[:k], **CLOSE)
    np.testing.assert_allclose(table["std_error"], errors[:k], **CLOSE)
    np.testing.assert_allclose(table["df"], len(design.y) - columns.shape[1], rtol=1e-12)
    np.testing.assert_allclose(model.intercept_ + model.group_effects_, coefficients[k:], **CLOSE)


@pytest.mark.parametrize(
    "name",
    [n for n in DESIGNS if n != "precisions"],
)
def test_shares_of_variance_are_the_same_from_rows_as_from_moments(name):
    model, design = model_of(name, "reml"), DESIGNS[name]
    if design.X is None:
        pytest.skip("there is nothing to predict from")
    np.testing.assert_allclose(inference.r2(model, design.X, design.groups), inference.r2(model), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["exact fit", "y constant", "y constant, null"])
@pytest.mark.parametrize("cov_type", ["nonrobust", "CR0", "CR1", "CR2", "CR3"])
def test_least_squares_without_error_have_no_standard_errors_and_no_tests(name, cov_type):
    table = cluster_robust(name, cov_type)
    assert (table["std_error"] == 0).all()
    assert table["p_value"].isna().all()


def test_contrasts_of_which_a_combination_is_known_without_error_are_refused():
    # Each row has the variance of the intercept, and their difference, the first slope, none.
    model = model_of("sigma2 = 0 with columns of both", "reml")
    with pytest.raises(ValueError, match="no variance") as caught:
        inference.contrast_test(model, [[1.0, 1.0, 0.0], [1.0, 2.0, 0.0]])
    assert_sentence(caught.value)


@pytest.mark.parametrize("kind", ["group_mean", "observation"])
def test_intervals_of_new_groups_without_residual_are_those_of_the_mean_of_groups(kind):
    # Without a residual a new row is a draw of the groups' distribution: mean +- t sd sqrt(1 + 1 / J).
    means = group_means(DESIGNS["sigma2 = 0"], DESIGNS["sigma2 = 0"].y)
    interval = inference.predict_interval(model_of("sigma2 = 0", "reml"), None, [99], kind=kind).iloc[0]
    half = stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) * np.sqrt(1.0 + 1.0 / len(means))
    np.testing.assert_allclose(interval, [means.mean(), means.mean() - half, means.mean() + half], **CLOSE)
