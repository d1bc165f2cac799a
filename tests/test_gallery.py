"""The gallery: each script runs, prints the figures of an independent computation, and saves the pictures it names."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from test_examples import run

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.datasets import load_sleepstudy, make_schools
from sklearn_mlm.inference import (
    clustering_report,
    confidence_intervals,
    fixed_effects,
    likelihood_ratio_test,
    r2,
    term_tests,
)

PROJECT = Path(__file__).resolve().parents[1]
PICTURES = {
    "predictors_at_two_levels": ["variance_ranges", "variance_shares"],
    "within_between_contextual": ["coefficients", "within_and_between"],
    "reml_and_ml": ["icc_profiles", "simulated_variances"],
    "repeated_measures": ["checks", "levels", "lines_of_persons", "lines_of_the_model"],
    "lmer_in_python": ["curve", "lines_of_persons"],
    "effect_sizes": ["mean_difference", "variance_profile", "variance_range", "variance_shares"],
}


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What a script prints. Run without arguments, it saves its pictures as well, where matplotlib is installed."""

    @cache
    def of(script, *arguments):
        drawing = not arguments and find_spec("matplotlib") is not None
        folder = tmp_path_factory.mktemp(script) / "new" / "folder"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MPLBACKEND", "Agg")
            result = run(PROJECT, f"{script}.py", *arguments, *(["--output", folder] if drawing else []))
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        if drawing:
            assert sorted(path.name for path in folder.iterdir()) == [f"{name}.png" for name in PICTURES[script]]
            assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())
        text, _, rest = result.stdout.partition(f"\n{len(PICTURES[script])} figures are in ")
        assert bool(rest) == drawing
        assert max(map(len, text.splitlines())) <= 100
        return text

    return of


def numbers(text, start, which=0):
    """Numbers that follow such a start of a line; of several lines, in that of this position."""
    rest = [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)][which]
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", rest)]


def near(values, digits):
    """Approximately these values, as rounded to so many digits after the point."""
    return pytest.approx(np.asarray(values, dtype=float), abs=0.5000001 * 10.0**-digits)


def pupils_of(n_schools=419, n_pupils=6871, *, seed):
    """Status of simulated pupils, the mean of their school, their scores and schools."""
    X, y, school = make_schools(n_schools, n_pupils, random_state=seed, return_X_y_groups=True)
    means = np.bincount(school - 1, X[:, 0]) / np.bincount(school - 1)
    return X[:, 0], means[school - 1], y, school


def criterion(X, y, groups, ratio, reml):
    """-2 log-likelihood at a variance ratio, sigma2 and the fixed effects, with the n x n covariance matrix."""
    V = np.eye(len(y)) + ratio * np.equal.outer(groups, groups)
    information = X.T @ np.linalg.solve(V, X)
    beta = np.linalg.solve(information, X.T @ np.linalg.solve(V, y))
    df = len(y) - X.shape[1] * reml
    sigma2 = (y - X @ beta) @ np.linalg.solve(V, y - X @ beta) / df
    value = df * (1 + np.log(2 * np.pi * sigma2)) + np.linalg.slogdet(V)[1] + reml * np.linalg.slogdet(information)[1]
    return value, sigma2, beta


def test_each_predictor_explains_variance_where_it_varies(printed):
    text = printed("predictors_at_two_levels")
    ses, mean, y, school = pupils_of(seed=0)
    columns = np.column_stack([ses - mean, mean])
    models = [RandomInterceptRegressor().fit(columns[:, :k] if k else None, y, groups=school) for k in (0, 1, 2)]
    for start, model in zip(("null", "+ ses_in_school", "+ ses_of_school"), models, strict=True):
        row = numbers(text, start)
        assert row[:2] == near(model.variance_components_, 2)
        assert row[2] == near(model.icc_, 3)
        assert row[3:] == near(100 - 100 * model.variance_components_ / models[0].variance_components_, 1)
        shares = r2(model)[["fixed_between", "group", "fixed_within", "residual", "between", "within"]]
        assert numbers(text, start, 1) == near(shares, 3)
    assert numbers(text, "+ ses_in_school")[3] < 0
    effects = fixed_effects(models[2])
    assert numbers(text, "ses_in_school", 1)[:3] == near([*effects.iloc[1, :2], round(effects["df"].iloc[1])], 3)


def test_predictors_of_a_file_explain_what_the_corpus_says(printed, reference):
    text = printed("predictors_at_two_levels", "--data", reference.path("heck2011.csv"))
    null, ses = (reference.cases[f"heck2011_{name}"]["REML"] for name in ("null", "ses"))
    assert numbers(text, "null")[:2] == near([null["tau2"], null["sigma2"]], 2)
    assert numbers(text, "ses as it is: coefficient")[0] == near(ses["beta"][1], 3)
    assert f"tau2 {ses['tau2']:.2f}, sigma2 {ses['sigma2']:.2f}, ICC {ses['icc']['adjusted']:.3f}" in text
    assert numbers(text, "explained:")[::2] == near([100 - 100 * ses[name] / null[name] for name in ("tau2", "sigma2")], 1)
    assert "95% interval" in text
    assert text.count("+ public") == 2


def test_the_contextual_effect_is_between_less_within(printed):
    text = printed("within_between_contextual")
    ses, mean, y, school = pupils_of(seed=0)
    within = (ses - mean) @ y / np.sum((ses - mean) ** 2)
    for start in ("group-mean centred", "WithinOLS"):
        assert f"\n{start:<21}{within:.6f}\n" in text
    both = fixed_effects(RandomInterceptRegressor().fit(np.column_stack([ses - mean, mean]), y, groups=school))
    for start in ("coefficient of the mean, Mundlak's form", "contrast of the two coefficients", "compare_with_ols"):
        assert numbers(text, start)[0] == near(both["estimate"].iloc[2] - within, 6)
    assert "differ by more than chance" in text


def test_centring_of_a_file_gives_the_corpus_figures(printed, reference):
    text = printed("within_between_contextual", "--data", reference.path("heck2011.csv"))
    case = reference.cases["heck2011_ses"]
    X, _, _, _ = reference.rows(case)
    ses = case["REML"]
    intercept, slope = ses["beta"]
    assert numbers(text, "uncentred") == near([intercept, slope, ses["tau2"], ses["sigma2"]], 3)
    shifted = intercept + slope * X["ses"].mean()
    assert numbers(text, "grand-mean centred") == near([shifted, slope, ses["tau2"], ses["sigma2"]], 3)
    expected = [slope, ses["satterthwaite"]["se"][1], round(ses["satterthwaite"]["df"][1])]
    assert numbers(text, "random intercept")[:3] == near(expected, 3)
    expected = [case["OLS"]["beta"][1], case["OLS"]["CR2"]["se"][1], round(case["OLS"]["CR2"]["df"][1])]
    assert numbers(text, "cluster-robust OLS")[:3] == near(expected, 3)


def test_reml_and_ml_by_dense_algebra(printed):
    text = printed("reml_and_ml")
    ses, mean, y, school = pupils_of(12, 240, seed=4)
    X = np.column_stack([np.ones(240), ses, mean])
    best = {}
    for at, reml in enumerate((True, False)):
        found = optimize.minimize_scalar(lambda ratio, reml=reml: criterion(X, y, school, ratio, reml)[0], (0.01, 0.1))
        best[reml], sigma2, beta = criterion(X, y, school, found.x, reml)
        expected = [found.x * sigma2, sigma2, *beta]
        assert [numbers(text, name)[at] for name in ("tau2  ", "sigma2", "intercept", "ses", "mean_ses")] == near(
            expected, 3
        )
    assert numbers(text, "REML criterion")[0] == near(best[True], 3)
    assert numbers(text, "deviance (ML)") == near([best[False], best[False], 0], 3)
    at_zero = criterion(X, y, school, 0.0, True)[0]
    for method, p_value in (("naive", stats.chi2.sf(at_zero - best[True], 1)), ("exact", None)):
        statistic, p = numbers(text, method)
        assert statistic == near(at_zero - best[True], 2)
        assert p == near(p_value, 4) if p_value is not None else p < 0.001
    small = RandomInterceptRegressor().fit(ses[:, None], y, groups=school)
    large = RandomInterceptRegressor().fit(X[:, 1:], y, groups=school)
    test = likelihood_ratio_test(small=small, large=large).loc["large"]
    row = numbers(text, "ses + mean_ses")
    assert row[1:6] == near(test[["aic", "bic", "log_likelihood", "deviance", "chi2"]], 2)
    assert row[7] == near(test["p_value"], 3)


def test_the_simulation_finds_ml_too_small_and_too_sure_with_few_schools(printed):
    text = printed("reml_and_ml")
    for n_schools in (6, 12, 48):
        theory, ml, reml, _, satterthwaite = numbers(text, f"{n_schools} schools")
        assert theory == near(10 - 2 / n_schools * 13, 1)
        assert ml < reml
        assert abs(ml - theory) < 1.5
        assert abs(reml - 10) < 2
        assert satterthwaite < 10
    assert numbers(text, "6 schools")[3] > 12 > numbers(text, "48 schools")[3]


def test_repeated_measures_have_the_corpus_figures(printed, reference):
    text = printed("repeated_measures")
    case = reference.cases["sleepstudy_days"]
    reml, test = case["REML"], case["REML"]["satterthwaite"]
    assert numbers(text, "with days")[:2] == near([reml["tau2"], reml["sigma2"]], 1)
    assert numbers(text, "with days")[2] == near(reml["icc"]["adjusted"], 3)
    assert numbers(text, "(Intercept)")[:2] == near([test["estimate"][0], test["se"][0]], 2)
    assert numbers(text, "random intercept")[:3] == near([test["estimate"][1], test["se"][1], round(test["df"][1])], 2)
    robust = case["OLS"]["CR2"]
    assert numbers(text, "cluster-robust")[:3] == near([reml["beta"][1], robust["se"][1], round(robust["df"][1])], 2)
    day_10 = reml["beta"][0] + 10 * reml["beta"][1]
    assert numbers(text, "a new person")[0] == near(day_10, 0)
    effect = dict(zip(reml["ranef"]["group"], reml["ranef"]["condval"], strict=True))["335"]
    assert numbers(text, "335, the lowest slope")[0] == near(day_10 + effect, 0)


def test_slopes_of_persons_differ_by_the_f_test_of_nested_least_squares(printed):
    text = printed("repeated_measures")
    X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    dummies = pd.get_dummies(subject, dtype=float).to_numpy()
    days = X.to_numpy(dtype=float)
    squares = [np.linalg.lstsq(np.hstack([dummies, slopes]), y, rcond=None)[1][0] for slopes in (days, days * dummies)]
    statistic = (squares[0] - squares[1]) / 17 / (squares[1] / 144)
    assert f"F(17, 144) = {statistic:.2f}, p < 0.001" in text


def test_effect_sizes_of_a_programme(printed):
    text = printed("effect_sizes")
    ses, mean, y, school = pupils_of(120, 2400, seed=1)
    programme = np.isin(school, np.random.default_rng(1).permutation(120)[:60] + 1).astype(float)
    y = y + 2 * programme
    null = RandomInterceptRegressor().fit(None, y, groups=school)
    icc = confidence_intervals(null, method="exact").loc["icc"]
    report = clustering_report(null)
    assert numbers(text, "ICC") == near([null.icc_, *icc], 3)
    assert numbers(text, "design effect")[0] == near(report["design_effect"], 2)
    effects = 1 + (report["design_effect"] - 1) / null.icc_ * icc
    assert numbers(text, "design effect")[1:] == near(effects, 2)
    assert numbers(text, "effective sample size") == near([2400 / report["design_effect"], *2400 / effects[::-1]], 0)
    width = 2 * stats.norm.ppf(0.975) * np.sqrt(null.variance_components_["group"])
    assert numbers(text, "  its width, in points")[0] == near(width, 1)

    trial = RandomInterceptRegressor().fit(programme[:, None], y, groups=school)
    total_sd = np.sqrt(trial.variance_components_.sum())
    effect = fixed_effects(trial).iloc[1][["estimate", "ci_lower", "ci_upper"]]
    assert numbers(text, "in points") == near(effect, 2)
    assert numbers(text, "in SDs of all pupils") == near([*effect / total_sd, total_sd], 2)

    full = RandomInterceptRegressor().fit(np.column_stack([ses - mean, mean, programme]), y, groups=school)
    status = RandomInterceptRegressor().fit(None, ses, groups=school).variance_components_
    ratio = np.sqrt(status / null.variance_components_)
    assert numbers(text, "ses_in_school", 1)[1] == near(full.coef_[0] * ratio["residual"], 2)
    assert numbers(text, "ses_of_school", 1)[1] == near(full.coef_[1] * ratio["group"], 2)
    assert numbers(text, "programme and status") == near(r2(full)[["marginal", "conditional", "within", "between"]], 3)


def test_formulas_of_an_experiment_and_of_growth(printed):
    pytest.importorskip("formulaic")
    text = printed("lmer_in_python")
    rng = np.random.default_rng(7)
    design = pd.MultiIndex.from_product([range(1, 13), ["A", "B", "C"], ["gas", "electric"], [1, 2]])
    cakes = design.to_frame(index=False, name=["baker", "recipe", "oven", "cake"]).sample(frac=0.9, random_state=0)
    cakes = cakes.sort_index(ignore_index=True)
    gas = cakes["oven"] == "gas"
    effect = cakes["recipe"].map({"A": 0.0, "B": 1.2, "C": 0.4}) + 0.8 * gas + 1.1 * (gas & (cakes["recipe"] == "C"))
    cakes["score"] = 6.0 + effect + rng.normal(0.0, 0.9, 13)[cakes["baker"]] + rng.normal(0.0, 0.8, len(cakes))
    cakes = cakes.drop(index=17)
    # Columns that sum to 0 over the levels, made by hand.
    X = pd.DataFrame({f"recipe {name}": (cakes["recipe"] == name) - 1.0 * (cakes["recipe"] == "C") for name in "AB"})
    X["oven"] = np.where(cakes["oven"] == "gas", 1.0, -1.0)
    X = X.assign(**{f"{name} oven": X[f"recipe {name}"] * X["oven"] for name in "AB"})
    model = RandomInterceptRegressor().fit(X, cakes["score"], groups=cakes["baker"])
    terms = {"recipe": ["recipe A", "recipe B"], "oven": ["oven"], "recipe:oven": ["A oven", "B oven"]}
    for term, test in term_tests(model, terms).iterrows():
        assert numbers(text, f"{term} ")[1:4] == near(test[["F", "df1", "df2"]], 1)
    intercept, a, b, oven, a_oven, b_oven = (model.intercept_, *model.coef_)
    cells = {"A": (a, a_oven), "B": (b, b_oven), "C": (-a - b, -a_oven - b_oven)}
    for recipe, (main, product) in cells.items():
        for name, sign in (("gas", 1), ("electric", -1)):
            assert numbers(text, f"{recipe}       {name}")[0] == near(intercept + main + sign * (oven + product), 3)
    # lme4's anova of the three models of sleepstudy
    rows = {"(1 | subject)": (1802.1, 1794.1), "(1 + days | subject)": (1763.9, 1751.9, 42.14, 2)}
    for random, figures in rows.items():
        assert numbers(text, f"reaction ~ days + {random}")[: len(figures)] == near(figures, 1)
    assert "chooses reaction ~ days + (days | subject)" in text


@pytest.mark.parametrize(
    ("script", "content", "message"),
    [
        ("predictors_at_two_levels", "math,ses,schcode\n1,2,3\n", "expected but not found: ['public']"),
        ("within_between_contextual", None, "No such file"),
    ],
)
def test_a_missing_file_or_column_is_named(project, tmp_path, script, content, message):
    path = tmp_path / "some.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    result = run(project, f"{script}.py", "--data", path)
    assert result.returncode == 2
    assert "cannot read" in result.stderr
    assert message in result.stderr
