"""The gallery: each lesson runs and describes its pictures, and its figures are those of independent computations."""

import ast
import re
import runpy
import warnings
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, optimize, stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.utils import Bunch

from sklearn_mlm import RandomInterceptRegressor, datasets
from sklearn_mlm.datasets import load_sleepstudy, make_schools
from sklearn_mlm.inference import (
    anova,
    clustering_report,
    confidence_intervals,
    fixed_effects,
    icc,
    likelihood_ratio_test,
    r2,
    term_tests,
)

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LESSONS = {path.stem: path for path in sorted(EXAMPLES.glob("*/*.py"))}


def run(name, pupils=None):
    """Run a lesson, with other pupils than simulated ones if there are any; return its names and what it printed."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.close("all")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), redirect_stdout(StringIO()) as printed:
        if pupils is not None:
            bunch = Bunch(frame=pupils, data=pupils[["ses"]], target=pupils["math"], groups=pupils["school"])
            patch.setattr(datasets, "make_schools", lambda *_, **__: bunch)
        # What a user would see on the screen.
        warnings.simplefilter("error")
        for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", hidden)
        warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
        names = runpy.run_path(str(LESSONS[name]))
    labels = [plt.figure(number).get_label() for number in plt.get_fignums()]
    plt.close("all")
    assert labels, f"{name} draws nothing"
    for label in labels:
        assert len(label.split()) > 3, f"say in a sentence what the picture shows: figure.set_label(...), not {label!r}"
        assert not re.search(r"\.(png|svg|pdf)$", label)
    assert len(set(labels)) == len(labels)
    text = printed.getvalue()
    assert max(map(len, text.splitlines()), default=0) <= 84
    return names | {"printed": text}


@pytest.fixture(scope="module")
def lesson():
    """What a lesson leaves: its names, and "printed"."""
    return cache(run)


@pytest.fixture(scope="module")
def corpus_lesson(reference):
    """What a lesson leaves that has read the pupils of the reference corpus in place of simulated ones."""
    pupils = pd.read_csv(reference.path("heck2011.csv")).rename(columns={"schcode": "school"})
    return lambda name: run(name, pupils.copy())


def near(values, digits):
    """Approximately these values, as rounded to so many digits after the point."""
    return pytest.approx(np.asarray(values, dtype=float), abs=0.5000001 * 10.0**-digits)


def close(values):
    """These values, but for the rounding of other arithmetic."""
    return pytest.approx(np.asarray(values, dtype=float), rel=1e-8, abs=1e-10)


def pupils_of(n_schools=419, n_pupils=6871, *, seed):
    """Status of simulated pupils, the mean of their school, their scores and schools."""
    X, y, school = make_schools(n_schools, n_pupils, random_state=seed, return_X_y_groups=True)
    means = np.bincount(school - 1, X[:, 0]) / np.bincount(school - 1)
    return X[:, 0], means[school - 1], y, school


def criterion(X, y, groups, ratio, reml):
    """-2 log-likelihood at a variance ratio, sigma2 and the fixed effects, with the n x n covariance matrix."""
    return criterion_of_factors(X, y, [groups], [ratio], reml)


def criterion_of_factors(X, y, factors, ratios, reml=True):
    """What `criterion` returns, with the labels and the variance ratio of each of several factors."""
    V = np.eye(len(y))
    for labels, ratio in zip(factors, ratios, strict=True):
        V += ratio * np.equal.outer(labels, labels)
    lower = np.linalg.cholesky(V)
    white = linalg.solve_triangular(lower, np.column_stack([X, y]), lower=True)
    X, y = white[:, :-1], white[:, -1]
    information = X.T @ X
    beta = np.linalg.solve(information, X.T @ y)
    df = len(y) - X.shape[1] * reml
    sigma2 = (y - X @ beta) @ (y - X @ beta) / df
    log_det = 2 * np.log(lower.diagonal()).sum() + reml * np.linalg.slogdet(information)[1]
    return df * (1 + np.log(2 * np.pi * sigma2)) + log_det, sigma2, beta


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_begins_with_its_idea_and_needs_no_file_and_no_options(name):
    source = LESSONS[name].read_text(encoding="utf-8")
    title, underline, blank, *lines = ast.get_docstring(ast.parse(source)).splitlines()
    assert title
    assert underline == "=" * len(title)
    assert blank == ""
    idea = lines[: lines.index("")] if "" in lines else lines
    assert len(" ".join(idea).split()) >= 15
    assert not any(line.startswith((" ", "..")) or line.endswith("::") for line in idea)
    for word in ("argparse", "sys.exit", "sys.argv", r"\bopen\(", "read_csv", "savefig"):
        assert not re.search(word, source), word
    first = re.split(r"^# %%$", source.partition('\n"""\n')[2], maxsplit=1, flags=re.MULTILINE)[0]
    assert 0 < len([line for line in first.splitlines() if line.strip()]) < 25
    assert max(map(len, source.splitlines())) <= 84
    assert "plt.show()" in source or name == "spark_moments"
    assert (LESSONS[name].parent / "GALLERY_HEADER.rst").is_file()


def test_every_lesson_has_a_test():
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in LESSONS if f'lesson("{name}")' not in tests] == ["spark_moments"]


def test_a_first_model_of_simulated_pupils(lesson):
    names = lesson("first_multilevel_model")
    ses, _, y, school = pupils_of(seed=0)
    assert names["printed"].startswith("6871 pupils in 419 schools\n")
    by_hand = [np.polynomial.Polynomial.fit(ses[school == j], y[school == j], 1).convert().coef for j in range(1, 11)]
    assert names["lines"].iloc[:10].to_numpy() == close(by_hand)
    model = names["null_model"]
    assert names["shrunken"] - model.intercept_ == close(model.random_effects_[1])
    assert names["n_parameters"] == close(3)


def test_the_chapter_from_start_to_finish(corpus_lesson):
    names = corpus_lesson("first_multilevel_model")
    model, effects = names["null_model"], names["effects"]
    summary = " ".join(str(model.summary(None, names["y"], names["school"])).split())
    printed = " ".join(names["printed"].split())
    # In the order of the chapter.
    for text, figures in (
        (
            summary,
            [
                *("Random intercept model fitted by REML", "REML criterion at convergence 48877.3"),
                *("Number of observations 6871, groups (school) 419", "-3.6336 -0.5732 0.1921 0.6115 5.2989"),
                *("school (Intercept) 10.64 3.262", "residual 66.55 8.158"),
                "(Intercept) 57.6742 0.1883 416.1 306.34 <0.001 ***",
            ],
        ),
        (
            printed,
            [
                *("6871 pupils in 419 schools", "log-likelihood -24438.63 (df=3)"),
                *("by hand: 10.64 / (10.64 + 66.55) = 0.138", "ICC: 0.138"),
                *("by hand: 51.28 to 64.07", "model: 51.28 to 64.07, 13 points apart", "mean of 12 pupils: 58.997"),
                *("reliability: 10.64 / (10.64 + 66.55 / 12) = 0.657", "EB estimate: 58.544, a deviation of 0.869"),
                "93% of the effects lie between -5 and 5",
            ],
        ),
    ):
        at = 0
        for figure in figures:
            at = text.index(figure, at)
    assert names["intercept"][["estimate", "df"]].to_numpy() == near([57.6742, 416.0655], 4)
    assert list(names["parameters"].values()) == near([57.67, 10.64, 66.55], 2)
    assert names["tau2"] + names["sigma2"] == near(77.19, 2)
    assert [icc(model), icc(model, kind="unadjusted")] == near([0.138, 0.138], 3)
    assert [names["centre"] - names["half"], names["centre"] + names["half"]] == near([51.28024, 64.06822], 5)
    assert names["mean"] == near(58.99677, 5)
    assert effects.iloc[0][["effect", "sd", "reliability"]].to_numpy() == near([0.869, 1.909, 0.657], 3)
    assert effects.iloc[0]["n"] == 12
    assert len(effects) == 419
    assert effects["effect"].mean() == near(0.0, 2)


def test_least_squares_beside_the_model(lesson):
    names = lesson("ols_baselines")
    errors = names["errors"]
    assert errors.loc["least squares, CR2", ["std_error", "df"]].to_numpy() == near([1.546, 17], 3)
    assert errors.loc["random intercept", "std_error"] == near(0.804, 3)
    X, y, subject = load_sleepstudy(return_X_y_groups=True)
    X = np.column_stack([np.ones(180), X])
    residuals = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    sums = [X[subject == who].T @ residuals[subject == who] for who in np.unique(subject)]
    bread = np.linalg.inv(X.T @ X)
    sandwich = np.sqrt((bread @ np.transpose(sums) @ sums @ bread)[1, 1])
    assert errors.loc["least squares, CR0", "std_error"] == close(sandwich)
    assert errors.loc["least squares, CR1", "std_error"] == close(sandwich * np.sqrt(18 / 17 * 179 / 178))
    assert "Random intercept model and least squares: 180 rows in 18 groups" in str(names["sleep"])
    assert "Random intercept model and least squares: 6871 rows in 419 groups" in str(names["pupils"])
    said = "Coefficients within and between groups differ (ses: 3.51 within, 4.68 between; p < 0.001)"
    assert said in " ".join(names["pupils"].conclusions)


def test_a_random_intercept_predicts_known_groups_best_and_the_encoder_wins_if_groups_and_prices_combine(lesson):
    names = lesson("groups_as_features")
    scores, combined = names["scores"], names["scores_with_discount"]
    folds = KFold(5, shuffle=True, random_state=0)
    price, quantity = names["orders"][["price"]], names["quantity"]
    ignored = cross_val_score(LinearRegression(), price, quantity, cv=folds, scoring="r2")
    assert scores.loc["OLS", "known"] == close(ignored.mean())
    columns = price.join(pd.get_dummies(names["orders"]["customer"], dtype=float))
    one_hot = cross_val_score(LinearRegression(), columns, quantity, cv=folds, scoring="r2")
    # Customers who are new in a fold have other coefficients of minimal norm.
    assert scores.loc["one-hot", "known"] == pytest.approx(one_hot.mean(), abs=0.01)
    best_first = list(scores["known"].sort_values(ascending=False).index)
    assert best_first[0] == "random intercept"
    assert best_first[-2:] == ["target encoding, trees", "OLS"]
    assert scores["new"].idxmin() == "target encoding, trees"
    assert scores["new"].max() < 0.1
    best_first = list(combined["known"].sort_values(ascending=False).index)
    assert best_first[:2] == ["target encoding, trees", "random slope"]
    assert best_first[-1] == "OLS"


def test_cross_validation_by_either_way_gives_the_same(lesson):
    names = lesson("cross_validation")
    assert names["printed"].count("R\N{SUPERSCRIPT TWO} 0.6370") == 3
    assert [names["by_column"], names["search"].best_score_, names["routed"]] == near([0.637] * 3, 4)
    assert "a warning:\nfit was given no groups, so the model is ordinary least squares.\n" in names["printed"]
    errors = names["table"]["root_mean_squared_error", "mean"]
    assert errors.loc["known"].to_numpy() == near([31.87, 48.15], 2)
    assert errors.loc["new", "model"] == close(errors.loc["new", "OLS"])


def test_predictions_of_a_new_group_move_from_the_population_to_its_mean(lesson):
    names = lesson("new_groups")
    assert "{'known': 1, 'new': 1, 'missing': 1}" in names["printed"]
    model, learning, predictions = names["model"], names["learning"], names["predictions"]
    tau2, sigma2 = model.variance_components_
    population = model.intercept_ + 5 * model.coef_[0]
    expected = [population + model.random_effects_[309], population, population]
    assert predictions["prediction"].to_numpy() == close(expected)
    x = np.array([1.0, 5.0])
    assert predictions["sd"].iloc[1] == close(np.sqrt(x @ model.cov_fixed_ @ x + tau2))
    intervals = names["intervals"]
    widths = intervals["upper"] - intervals["lower"]
    known, new = widths.xs("309 (known)", level=1), widths.xs("352 (new)", level=1)
    assert known["population_mean"] == close(new["population_mean"])
    assert (known[["group_mean", "observation"]] < new[["group_mean", "observation"]]).all()
    residuals = names["times"] - model.intercept_ - model.coef_[0] * names["days"]["days"]
    for n in range(11):
        effect = tau2 / (tau2 + sigma2 / n) * residuals[:n].mean() if n else 0.0
        assert learning["prediction"][n] == close(model.intercept_ + 4.5 * model.coef_[0] + effect)
    assert (learning["sd"].diff().dropna() < 0).all()


def test_each_predictor_explains_variance_where_it_varies(lesson):
    names = lesson("predictors_at_two_levels")
    ses, mean, y, school = pupils_of(seed=0)
    columns = np.column_stack([ses - mean, mean])
    models = [RandomInterceptRegressor().fit(columns[:, :k] if k else None, y, groups=school) for k in (0, 1, 2)]
    for name, model in zip(("null", "+ ses_in_school", "+ ses_of_school"), models, strict=True):
        assert names["variances"].loc[name].to_numpy() == close(model.variance_components_)
        assert float(names["table"].loc[name, "ICC"]) == near(model.icc_, 3)
        explained = 1 - model.variance_components_ / models[0].variance_components_
        assert names["explained"].loc[name].to_numpy() == close(explained)
        shares = r2(model)[["fixed_between", "group", "fixed_within", "residual", "between", "within"]]
        assert names["shares"].loc[name].to_numpy() == close(shares)
    assert names["explained"].loc["+ ses_in_school", "tau2"] < 0
    figures = ["estimate", "std_error", "df"]
    assert names["effects"].iloc[1][figures].to_numpy() == close(fixed_effects(models[2]).iloc[1][figures])


def test_predictors_of_a_file_explain_what_the_corpus_says(corpus_lesson, reference):
    names = corpus_lesson("predictors_at_two_levels")
    null, ses = (reference.cases[f"heck2011_{name}"]["REML"] for name in ("null", "ses"))
    assert names["variances"].loc["null"].to_numpy() == near([null["tau2"], null["sigma2"]], 2)
    assert names["undivided"].coef_[0] == near(ses["beta"][1], 3)
    assert names["undivided"].icc_ == near(ses["icc"]["adjusted"], 3)
    reduced = names["reduced"]
    assert reduced["with ses"].to_numpy() == near([ses["tau2"], ses["sigma2"]], 2)
    assert reduced["explained"].to_numpy() == near([1 - ses[name] / null[name] for name in ("tau2", "sigma2")], 3)


def test_the_contextual_effect_is_between_less_within(lesson):
    names = lesson("within_between_contextual")
    ses, mean, y, school = pupils_of(seed=0)
    within = (ses - mean) @ y / np.sum((ses - mean) ** 2)
    assert [names["slopes"][way] for way in ("group-mean centred", "WithinOLS")] == close([within, within])
    both = fixed_effects(RandomInterceptRegressor().fit(np.column_stack([ses - mean, mean]), y, groups=school))
    assert names["differences"]["estimate"].to_numpy(dtype=float) == close([both["estimate"].iloc[2] - within] * 3)
    assert (names["differences"]["p_value"] < 0.05).all()


def test_centring_of_a_file_gives_the_corpus_figures(corpus_lesson, reference):
    names = corpus_lesson("within_between_contextual")
    case = reference.cases["heck2011_ses"]
    X, _, _, _ = reference.rows(case)
    ses = case["REML"]
    intercept, slope = ses["beta"]
    assert names["centring"].loc["uncentred"].to_numpy() == near([intercept, slope, ses["tau2"], ses["sigma2"]], 3)
    shifted = intercept + slope * X["ses"].mean()
    expected = [shifted, slope, ses["tau2"], ses["sigma2"]]
    assert names["centring"].loc["grand-mean centred"].to_numpy() == near(expected, 3)
    rows = names["comparison"].coefficients.loc["ses", ["estimate", "std_error"]]
    df = names["comparison"].coefficients.loc["ses", "df"]
    assert rows.loc["random intercept"].to_numpy() == near([slope, ses["satterthwaite"]["se"][1]], 3)
    assert df["random intercept"] == near(ses["satterthwaite"]["df"][1], 0)
    robust = case["OLS"]["CR2"]
    assert rows.loc["cluster-robust OLS"].to_numpy() == near([case["OLS"]["beta"][1], robust["se"][1]], 3)
    assert df["cluster-robust OLS"] == near(robust["df"][1], 0)


def test_effect_sizes_of_a_programme(lesson):
    names = lesson("effect_sizes")
    ses, mean, y, school = pupils_of(120, 2400, seed=1)
    programme = np.isin(school, np.random.default_rng(1).permutation(120)[:60] + 1).astype(float)
    y = y + 2 * programme
    null = RandomInterceptRegressor().fit(None, y, groups=school)
    limits = confidence_intervals(null, method="exact").loc["icc"]
    report = clustering_report(null)
    assert names["sizes"].loc["ICC"].to_numpy() == close([null.icc_, *limits])
    effects = 1 + (report["design_effect"] - 1) / null.icc_ * limits
    assert names["clustering"].loc["design effect"].to_numpy() == close([report["design_effect"], *effects])
    expected = [2400 / report["design_effect"], *2400 / effects[::-1]]
    assert names["clustering"].loc["effective sample size"].to_numpy() == close(expected)
    width = 2 * stats.norm.ppf(0.975) * np.sqrt(null.variance_components_["group"])
    assert names["sizes"].loc["width of the range, in points", "estimate"] == close(width)

    trial = RandomInterceptRegressor().fit(programme[:, None], y, groups=school)
    total_sd = np.sqrt(trial.variance_components_.sum())
    effect = fixed_effects(trial).iloc[1][["estimate", "ci_lower", "ci_upper"]].to_numpy(dtype=float)
    assert names["programme"].loc["in points"].to_numpy(dtype=float) == close(effect)
    assert names["programme"].loc["in SDs of all pupils"].to_numpy(dtype=float) == close(effect / total_sd)
    assert names["units"]["SDs of all pupils"] == close(total_sd)

    full = RandomInterceptRegressor().fit(np.column_stack([ses - mean, mean, programme]), y, groups=school)
    status = RandomInterceptRegressor().fit(None, ses, groups=school).variance_components_
    ratio = np.sqrt(status / null.variance_components_)
    expected = full.coef_[:2] * ratio[["residual", "group"]]
    assert names["standardised"]["by SDs of its own level"].to_numpy() == close(expected)
    columns = ["marginal", "conditional", "within", "between"]
    assert names["shares"].loc["programme and status", columns].to_numpy() == close(r2(full)[columns])


def test_reml_and_ml_by_dense_algebra(lesson):
    names = lesson("reml_and_ml")
    ses, mean, y, school = pupils_of(12, 240, seed=4)
    X = np.column_stack([np.ones(240), ses, mean])
    best = {}
    for column, reml in (("REML", True), ("ML", False)):
        found = optimize.minimize_scalar(lambda ratio, reml=reml: criterion(X, y, school, ratio, reml)[0], (0.01, 0.1))
        best[reml], sigma2, beta = criterion(X, y, school, found.x, reml)
        expected = [found.x * sigma2, sigma2, *beta]
        assert names["both"][column].iloc[:5].to_numpy() == near(expected, 3)
    assert names["units"].loc["REML criterion", "status"] == near(best[True], 3)
    assert names["units"].loc["REML criterion", "difference"] == near(4 * np.log(100), 3)
    assert names["units"].loc["deviance (ML)"].to_numpy() == near([best[False], best[False], 0], 3)
    at_zero = criterion(X, y, school, 0.0, True)[0]
    tests = names["boundary_tests"]
    assert tests["statistic"].to_numpy(dtype=float) == near([at_zero - best[True]] * 3, 2)
    assert tests.loc["naive", "p_value"] == near(stats.chi2.sf(at_zero - best[True], 1), 4)
    assert tests.loc["exact", "p_value"] < 0.001
    small = RandomInterceptRegressor().fit(ses[:, None], y, groups=school)
    large = RandomInterceptRegressor().fit(X[:, 1:], y, groups=school)
    test = likelihood_ratio_test(small=small, large=large).loc["large"]
    columns = ["aic", "bic", "log_likelihood", "deviance", "chi2", "p_value"]
    assert names["test"].loc["ses + mean_ses", columns].to_numpy(dtype=float) == close(test[columns])


def test_the_simulation_finds_ml_too_small_and_too_sure_with_few_schools(lesson):
    simulated = lesson("reml_and_ml")["simulated"]
    for n_schools in (6, 12, 48):
        theory, ml, reml, _, satterthwaite = simulated.loc[f"{n_schools} schools"]
        assert theory == near(10 - 2 / n_schools * 13, 1)
        assert ml < reml
        assert abs(ml - theory) < 1.5
        assert abs(reml - 10) < 2
        assert satterthwaite < 0.1
    too_sure = simulated["share of p < 0.05", "ML"]
    assert too_sure["6 schools"] > 0.12 > too_sure["48 schools"]


def test_repeated_measures_have_the_corpus_figures(lesson, reference):
    names = lesson("repeated_measures")
    case = reference.cases["sleepstudy_days"]
    reml, test = case["REML"], case["REML"]["satterthwaite"]
    variances = names["variances"].loc["with days"]
    assert variances[["tau2", "sigma2"]].to_numpy() == near([reml["tau2"], reml["sigma2"]], 1)
    assert variances["ICC"] == near(reml["icc"]["adjusted"], 3)
    estimates = names["effects"][["estimate", "std_error"]]
    assert estimates.loc["(Intercept)"].to_numpy() == near([test["estimate"][0], test["se"][0]], 2)
    slope = names["slope"]
    columns = ["estimate", "std_error"]
    assert slope.loc["random intercept", columns].to_numpy() == near([test["estimate"][1], test["se"][1]], 2)
    assert slope.loc["random intercept", "df"] == near(test["df"][1], 0)
    robust = case["OLS"]["CR2"]
    assert slope.loc["cluster-robust", columns].to_numpy() == near([reml["beta"][1], robust["se"][1]], 2)
    assert slope.loc["cluster-robust", "df"] == near(robust["df"][1], 0)
    day_10 = reml["beta"][0] + 10 * reml["beta"][1]
    assert names["predictions"].loc["new", "prediction"] == near(day_10, 0)
    effect = dict(zip(reml["ranef"]["group"], reml["ranef"]["condval"], strict=True))["335"]
    assert names["predictions"].loc["335 (lowest slope)", "prediction"] == near(day_10 + effect, 0)


def test_slopes_of_persons_differ_by_the_f_test_of_nested_least_squares(lesson):
    names = lesson("repeated_measures")
    X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    dummies = pd.get_dummies(subject, dtype=float).to_numpy()
    days = X.to_numpy(dtype=float)
    squares = [np.linalg.lstsq(np.hstack([dummies, slopes]), y, rcond=None)[1][0] for slopes in (days, days * dummies)]
    statistic = (squares[0] - squares[1]) / 17 / (squares[1] / 144)
    assert names["statistic"] == close(statistic)
    assert f"F(17, 144) = {statistic:.2f}" in names["printed"]
    assert names["p_value"] < 0.001


def test_random_slopes_from_start_to_finish(lesson):
    names = lesson("random_slopes")
    assert names["own"]["slope"].agg(["min", "max"]).to_numpy() == near([-2.9, 21.8], 1)
    summary = " ".join(str(names["model"].summary()).split())
    assert "REML criterion at convergence 1743.6" in summary
    assert "days 35.07 5.922 0.066" in summary
    assert names["sd"][1] == near(5.9, 1)
    assert names["limits"].loc["sd(days)"].to_numpy() == near([3.93, 9.15], 2)
    test = names["test"].loc["days"]
    assert test[["chi2", "df"]].to_numpy(dtype=float) == near([42.84, 2], 2)
    assert test["criterion"] == near(1786, 0)
    assert test["p_value"] == pytest.approx(2.793e-10, rel=2e-4)
    slope = names["errors"].loc["random slope", ["estimate", "std_error", "df"]]
    assert slope.to_numpy(dtype=float) == near([10.47, 1.55, 17.00], 2)
    assert "ICC averaged over the rows 0.72" in names["printed"]
    someone_new = names["predictions"].iloc[-1][["prediction", "lower", "upper"]]
    assert someone_new.to_numpy(dtype=float) == near([356, 205, 507], 0)
    assert names["comparison"].slopes.loc["ses", ["sd", "chi2", "p_value"]].to_numpy() == near([0.772, 1.648, 0.319], 3)
    assert names["low"] == 0.0


def design_of(pupils, *columns):
    """An intercept and columns of a frame, as an array."""
    return np.column_stack([np.ones(len(pupils)), pupils[list(columns)]]).astype(float)


def test_three_levels_by_dense_algebra(lesson):
    names = lesson("three_levels")
    pupils, model = names["pupils"], names["model"]
    X, y = design_of(pupils, "ses", "method"), pupils["score"].to_numpy()
    school = pupils["school"].to_numpy()
    in_class = pupils.groupby(["school", "class"]).ngroup().to_numpy()
    of_school, of_class, sigma2 = model.variance_components_
    value, residual, beta = criterion_of_factors(X, y, [school, in_class], [of_school / sigma2, of_class / sigma2])
    assert model.criterion_ == close(value)
    assert [sigma2, model.intercept_, *model.coef_] == close([residual, *beta])
    shares = np.array([of_school, of_class, of_school + of_class]) / (of_school + of_class + sigma2)
    assert names["shares"].to_numpy() == close(shares)
    effects = model.random_effects_["school"]["(Intercept)"]
    predicted = names["predictions"]["prediction"]
    assert predicted["new school"] == close(model.intercept_)
    assert predicted["new class of a known school"] == close(model.intercept_ + effects.min())
    assert names["predictions"]["width"].is_monotonic_increasing
    # What the text says.
    method = names["method"].astype(float)
    assert method.loc["schools alone", "p_value"] < 0.05 < method.loc["both", "p_value"]
    error = method["std_error"]
    assert error["schools alone"] < 0.5 * error["both"] < 0.5 * error["classes alone"]
    assert names["apart"] > 2 * names["by_chance"]
    assert names["crossed"].n_groups_ == {"school": 30, "class": 5}
    r_squared = names["scores"]["r2", "mean"]
    gain = r_squared.xs("model", level="model") - r_squared.xs("OLS", level="model")
    assert gain[["known", "new school:class"]].min() > 0.03
    assert gain["new school"] == pytest.approx(0.0, abs=0.02)


def test_crossed_factors_by_dense_algebra(lesson):
    names = lesson("crossed")
    ratings, model = names["ratings"], names["model"]
    X, y = design_of(ratings, "summary"), ratings["rating"].to_numpy()
    factors = [ratings["subject"].to_numpy(), ratings["item"].to_numpy()]
    *variances, sigma2 = model.variance_components_
    ratios = np.array(variances) / sigma2
    value, residual, beta = criterion_of_factors(X, y, factors, ratios)
    assert model.criterion_ == close(value)
    assert [sigma2, model.intercept_, *model.coef_] == close([residual, *beta])
    for factor in range(2):
        for by in (0.9, 1.1):
            moved = ratios.copy()
            moved[factor] *= by
            assert criterion_of_factors(X, y, factors, moved)[0] > value
    errors = names["effects"]["std_error"].astype(float)
    assert 0.3 < errors["subjects alone"] / errors["both"] < 0.4
    assert names["found"]["subjects alone"] > 5
    assert names["found"]["both"] < 4
    assert names["test"].loc["subject summary", "p_value"] > 0.5
    # The effects of an item and a subject that are both known, beside those of neither.
    known = sum(model.random_effects_[name].loc[level, "(Intercept)"] for name, level in (("subject", 5), ("item", 3)))
    predicted = names["predictions"]["prediction"]
    assert predicted[0] - predicted[3] == close(known)
    assert names["predictions"]["width"].is_monotonic_increasing
    r_squared = names["scores"]["r2", "mean"].xs("model", level="model")
    assert r_squared["known"] > r_squared["new item"] > r_squared["new subject"] > r_squared["all new"]


def test_formulas_of_an_experiment_and_of_growth(lesson):
    pytest.importorskip("formulaic")
    names = lesson("lmer_in_python")
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
    tests = anova(names["model"])
    for term, test in term_tests(model, terms).iterrows():
        assert tests.loc[term, ["F", "df1"]].to_numpy(dtype=float) == close(test[["F", "df1"]])
        # Satterthwaite's degrees of freedom of several contrasts depend a little on their coding.
        assert tests.loc[term, "df2"] == near(test["df2"], 3)
    intercept, a, b, oven, a_oven, b_oven = (model.intercept_, *model.coef_)
    cells = {"A": (a, a_oven), "B": (b, b_oven), "C": (-a - b, -a_oven - b_oven)}
    means = names["means"].set_index(["recipe", "oven"])["estimate"]
    for recipe, (main, product) in cells.items():
        for name, sign in (("gas", 1), ("electric", -1)):
            assert means[recipe, name] == close(intercept + main + sign * (oven + product))
    # lme4's anova of the three models of sleepstudy
    growth = names["growth"]
    assert growth.iloc[0][["aic", "deviance"]].to_numpy(dtype=float) == near([1802.1, 1794.1], 1)
    assert growth.iloc[1][["aic", "deviance", "df"]].to_numpy(dtype=float) == near([1763.9, 1751.9, 2], 1)
    assert growth.iloc[1]["chi2"] == near(42.14, 2)
    assert names["search"].best_params_ == {"formula": "reaction ~ days + (days | subject)"}


def test_rows_in_batches_give_the_answer_of_all_rows(lesson):
    pytest.importorskip("pyarrow")
    names = lesson("in_batches")
    assert "equal to 1e-10: estimates True, effects of schools True" in names["printed"]
    ses, _, y, school = pupils_of(2_000, 40_000, seed=0)
    model = RandomInterceptRegressor().fit(ses[:, None], y, groups=school)
    expected = [model.intercept_, model.coef_[0], *model.variance_components_]
    for way in ("batches", "Parquet files", "merged", "partial_fit", "all rows"):
        assert names["table"].loc[way].to_numpy() == close(expected)
    steps = names["steps"]
    assert len(steps) == 20
    assert steps["rows"].iloc[-1] == 40_000
    assert steps.iloc[-1][["icc", "lower", "upper"]].to_numpy() == close(
        [model.icc_, *confidence_intervals(model).loc["icc"]]
    )
    widths = steps["upper"] - steps["lower"]
    assert widths.iloc[-1] < widths.iloc[0] / 5
    assert not Path(names["folder"].name).exists()
