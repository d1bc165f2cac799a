"""`MixedEffectsRegressor` with several grouping factors: the answers of lme4, closed forms, and n x n algebra."""

import re
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from dense_factors import DenseFactors
from factor_cases import Case, frame_of
from many_cases import check_each
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from sklearn_mlm import MixedEffectsRegressor, inference
from sklearn_mlm.formula import lmer


@pytest.fixture(autouse=True)
def one_thread():
    """More threads cost more than they save with few rows."""
    with threadpool_limits(1):
        yield


def fit(random_effects, X, y, groups, **parameters):
    sample_weight = parameters.pop("sample_weight", None)
    model = MixedEffectsRegressor(random_effects=random_effects, **parameters)
    return model.fit(X, y, groups=groups, sample_weight=sample_weight)


def close(found, expected, rtol, atol=0.0, message=""):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=rtol, atol=atol, err_msg=message)


# ---- lme4, lmerTest, pbkrtest

REAL = [
    "penicillin_crossed", "machines_nested", "oxide_three_levels", "assay_crossed_in_block", "ham_nested",
    "scotssec_crossed", "scotssec_crossed_slope", "wheat2_zero_component", "chem97_three_levels",
    "chem97_three_levels_slopes", "immer_crossed",
]  # fmt: skip


def real_model(rows, case, method):
    """The model of a case, its columns of X and its columns of labels."""
    outcome, right = (part.strip() for part in case["formula"].split("~"))
    columns, labels = [name for name in case["coef_names"] if name != "(Intercept)"], case["group_columns"]
    X = rows[columns] if columns else None
    model = fit(" + ".join(re.findall(r"\([^)]*\)", right)), X, rows[outcome], rows[labels], method=method)
    return model, columns, labels


def positions_of_levels(index, factor, group, levels):
    """Positions in an index of the levels that lme4 writes as text, with its order of the columns of labels."""
    columns, theirs = factor.split(":"), group.split(":")
    keys = [label if isinstance(label, tuple) else (label,) for label in index]
    place = {":".join(str(dict(zip(columns, key, strict=True))[name]) for name in theirs): at for at, key in enumerate(keys)}
    return [place[level] for level in levels]


def test_answers_of_lme4(reference_mixed):
    def check(name, method):
        rows, case = reference_mixed("B", name)
        rows = rows.astype(dict.fromkeys(case["group_columns"], str))
        model, columns, labels = real_model(rows, case, method.lower())
        answer = case[method]
        close(model.criterion_, answer["criterion"], 1e-10)
        close([model.aic_, model.bic_], [answer["AIC"], answer["BIC"]], 1e-10)
        close(model.fit_.coefficients, answer["beta"], 1e-7, 1e-9)
        close(model.cov_fixed_, answer["vcov_beta"], 1e-5, 1e-9)
        close(model.variance_components_["residual"], answer["sigma2"], 1e-6)
        factors = {frozenset(name.split(":")): name for name in model.covariance_}
        for part in answer["varcorr"]:
            found = model.covariance_[factors[frozenset(part["group"].split(":"))]].to_numpy()
            close(found, np.reshape(part["cov"], found.shape), 2e-5, 2e-6 * answer["sigma2"], f"{part['group']}")
        if not answer["singular"]:
            table = inference.fixed_effects(model)
            close(table["std_error"], answer["se"], 1e-6)
            close(table["df"], answer["satterthwaite"]["df"], 1e-4)
        assert (model.boundary_ is not None) == bool(answer["singular"])
        if method == "ML":
            return
        kenward_roger = answer["kenward_roger"]
        if kenward_roger and len(rows) < 1000 and not answer["singular"]:
            table = inference.fixed_effects(model, ddf="kenward_roger")
            close(table["df"], kenward_roger["df"], 1e-4)
            close(table["std_error"], kenward_roger["se"], 1e-6)
        for part in answer["ranef"]:
            factor = factors[frozenset(part["group"].split(":"))]
            effects = model.random_effects_[factor]
            at = positions_of_levels(effects.index, factor, part["group"], part["levels"])
            expected = np.reshape(part["condval"], (len(at), -1))
            close(effects.to_numpy()[at], expected, 1e-4, 1e-5 * np.sqrt(answer["sigma2"]), factor)
            table = inference.random_effects_table(model, factor=factor)
            sd = table["sd"].to_numpy().reshape(len(effects), -1)[at]
            variances = [np.reshape(each, (expected.shape[1],) * 2).diagonal() for each in part["condvar"]]
            close(sd, np.sqrt(variances), 1e-4, 1e-5 * np.sqrt(answer["sigma2"]), factor)
        first = answer["predict_first_rows"]
        few = rows.iloc[: len(first["population"])]
        X = few[columns] if columns else None
        close(model.predict(X, groups=few[labels]), first["conditional"], 1e-6)
        if X is not None:
            close(model.predict(X, groups="population"), first["population"], 1e-7)
        for group, expected in first["new_level"].items():
            if ":" not in group:
                new = few[labels].assign(**{group: "no such level"})
                close(model.predict(X, groups=new), expected, 1e-6, 0.0, f"new level of {group}")

    check_each([(f"{name}, {method}", (name, method)) for name in REAL for method in ("REML", "ML")], check)


# ---- cases that other libraries get wrong; R is a random stream that is the same under every NumPy


def classes():
    r = np.random.RandomState(64)
    s, c, x = np.repeat(np.arange(6), 6), np.tile(np.repeat([1, 2, 3], 2), 6), np.tile([0.0, 1, 2, 0, 2, 1], 6)
    y = (30 + 0.5 * x + (r.randn(6) * 1.6)[s] + (r.randn(18) * 1.2)[s * 3 + c - 1] + 0.8 * r.randn(36)).round(2)
    return pd.DataFrame({"y": y, "x": x, "school": np.array(list("PQRSTU"))[s], "klass": c})


def colon_labels():
    """Eight pairs of labels; joined by ":", two pairs fall on others."""
    r = np.random.RandomState(62)
    a = ["a", "a:b", "a", "a:b", "d", "d:e", "d", "d:e"]
    b, i = ["b:c", "c", "c", "b:c", "e:f", "f", "f", "e:f"], np.repeat(np.arange(8), 3)
    levels = np.array([1.1, -0.7, 2.3, -1.9, 0.4, 1.6, -2.2, 0.9]) * 1.3
    return pd.DataFrame({"y": (4 + levels[i] + 0.6 * r.randn(24)).round(2), "a": np.array(a)[i], "b": np.array(b)[i]})


def balanced():
    """Four days, three machines, two rows of each pair."""
    r = np.random.RandomState(71)
    d, m = np.repeat(np.arange(4), 6), np.tile(np.repeat(np.arange(3), 2), 4)
    part = (r.randn(4) * 1.8)[d] + (r.randn(3) * 2.2)[m] + (r.randn(12) * 1.5)[d * 3 + m]
    y = (50 + part + 0.9 * r.randn(24)).round(1)
    return pd.DataFrame({"y": y, "day": [f"d{v}" for v in d], "machine": [f"m{v}" for v in m]})


def silently(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


def test_labels_that_repeat_are_nested_only_if_the_text_says_so():
    d = classes()
    by_formula = [
        silently(lambda: lmer(f"y ~ 1 + {text}", d)) for text in ("(1 | school/klass)", "(1 | school) + (1 | klass)")
    ]
    labels = d[["school", "klass"]]
    direct = [silently(lambda: fit(text, None, d["y"], labels)) for text in ("(1 | school/klass)", None)]
    for models in (by_formula, direct):
        nested, crossed = models
        close(nested.criterion_, 107.8341274625, 1e-11)
        close(nested.variance_components_, [4.9386352778, 0.0966458333, 0.596086111111], 1e-8)
        assert list(nested.random_effects_) == ["school", "school:klass"]
        assert {name: len(effects) for name, effects in nested.random_effects_.items()} == {"school": 6, "school:klass": 18}
        close(crossed.criterion_, 108.1225637790, 1e-11)
        close(crossed.variance_components_, [4.9579644444, 0.0, 0.673402777778], 1e-8)
        assert crossed.variance_components_.iloc[1] == 0.0
        assert set(crossed.boundary_) == {"klass"}


def test_pairs_of_labels_are_pairs_and_not_joined_text():
    e = colon_labels()
    pairs = fit("(1 | a:b)", None, e["y"], e[["a", "b"]])
    close(pairs.criterion_, 61.7245646863, 1e-11)
    close(pairs.variance_components_, [3.6724218254, 0.2278625], 1e-8)
    effects = pairs.random_effects_["a:b"]
    assert len(effects) == 8
    assert ("a", "b:c") in effects.index
    assert ("a:b", "c") in effects.index
    assert abs(effects.loc[("a", "b:c")].iloc[0] - effects.loc[("a:b", "c")].iloc[0]) > 0.1
    nested = fit("(1 | a/b)", None, e["y"], e[["a", "b"]])
    close(nested.criterion_, 60.9124898520, 1e-11)
    close(nested.variance_components_, [1.8032060185, 2.1268166667, 0.2278625], 1e-8)


def test_variances_that_the_design_cannot_say_are_refused_by_name():
    d = classes()
    d["k2"], d["one"], d["row"] = d["school"].str.lower(), "z", np.arange(36)
    refused = {
        "y ~ 1 + (1 | school) + (1 | k2)": "factors school and k2 put the rows into the same 6 groups",
        "y ~ school + (1 | school)": "school is in the fixed part .* nothing is left to tell the variance",
        "y ~ school + (1 | school/klass)": "school is in the fixed part .* nothing is left to tell the variance",
        "y ~ 1 + (1 | school) + (1 | one)": "factor one has one level only",
        "y ~ 1 + (1 | school) + (1 | row)": "factor row has a level for every row",
    }
    for formula, message in refused.items():
        with pytest.raises(ValueError, match=message):
            lmer(formula, d)
    k = lmer("y ~ school + (1 | school:klass)", d)
    close(k.criterion_, 83.7360830733, 1e-11)
    close(k.variance_components_, [0.0966458333, 0.596086111111], 1e-7)
    # By maximum likelihood, the variance of a factor of the fixed part is 0.
    ml = lmer("y ~ school + (1 | school/klass)", d, REML=False)
    assert ml.variance_components_.iloc[0] == 0.0


def test_three_components_of_a_balanced_layout_are_those_of_its_mean_squares():
    d = balanced()
    parts = ["(1 | day)", "(1 | machine)", "(1 | day:machine)"]
    expected = {"day": 3.67, "machine": 6.0280555556, "day:machine": 1.0144444444}
    ml = {"day": 3.2065126585, "machine": 4.443196232, "day:machine": 1.0239559925}
    for order in ([0, 1, 2], [2, 0, 1]):
        text = " + ".join(parts[at] for at in order)
        for method, components, criterion in (("reml", expected, 83.4278729962), ("ml", ml, 86.2498961790)):
            model = fit(text, None, d["y"], d[["machine", "day"]], method=method)
            close(model.criterion_, criterion, 1e-11, 0, text)
            close(model.variance_components_["residual"], 49 / 96, 1e-9)
            for name, value in components.items():
                close(model.variance_components_[f"{name} (Intercept)"], value, 1e-8, 0, text)
        close([model.intercept_], [50.0125], 1e-12)
    model = lmer(f"y ~ 1 + {' + '.join(parts)}", d)
    close(np.sqrt(model.cov_fixed_[0, 0]), 1.741452339285, 1e-9)


def test_a_known_school_and_a_class_never_seen():
    d = classes()
    q = pd.DataFrame({"x": 1.5, "school": ["Q", "Q", "Z"], "klass": [2, 9, 2]})
    formula = lmer("y ~ x + (1 | school/klass)", d)
    direct = fit("(1 | school/klass)", d[["x"]], d["y"], d[["school", "klass"]])
    of_x = fit("(1 | school/klass)", d[["x", "school", "klass"]], d["y"], None)
    expected = {
        "group_mean": [0.3740112038, 0.5214162649, 2.4372958167],
        "observation": [0.7736924250, 0.8547458741, 2.5296494789],
    }
    means = [27.5844067360, 27.9316965848, 29.6568357505]
    close(direct.criterion_, 103.4866040231, 1e-11)
    close(direct.variance_components_, [4.9455742465, 0.1445141889, 0.458715587984], 1e-7)
    for name, (model, parts) in {
        "formula": (formula, (q, None)),
        "groups": (direct, (q[["x"]], q[["school", "klass"]])),
        "columns of X": (of_x, (q, None)),
    }.items():
        mean, std = model.predict(parts[0], groups=parts[1], return_std=True)
        close(mean, means, 1e-9, 0, name)
        close(std, expected["group_mean"], 1e-8, 0, name)
        close(np.sqrt(std**2 + model.variance_components_["residual"]), expected["observation"], 1e-8, 0, name)
        # In any order of the rows, and alone.
        close(model.predict(parts[0][::-1], groups=None if parts[1] is None else parts[1][::-1]), means[::-1], 1e-9, 0, name)
        close(model.predict(parts[0][1:2], groups=None if parts[1] is None else parts[1][1:2]), means[1], 1e-9, 0, name)
    with pytest.raises(ValueError, match=r"level\(s\) of school.*that fit has not seen, among them .*Z"):
        direct.set_params(new_groups="error").predict(q[["x"]], groups=q[["school", "klass"]])
    direct.set_params(new_groups="nan")
    assert np.isnan(direct.predict(q[["x"]], groups=q[["school", "klass"]])).tolist() == [False, True, True]


def test_categories_that_no_row_has_cost_nothing():
    plain = classes()
    plain["region"] = np.where(plain["school"] < "S", "east", "west")
    d = plain.copy()
    for name in ("region", "school", "klass"):
        values = d[name].astype(str)
        unused = [f"none{i}" for i in range(400)]
        d[name] = pd.Categorical(values, categories=unused + sorted(set(values)))
    start = time.process_time()
    m = silently(lambda: lmer("y ~ 1 + (1 | region/school/klass)", d))
    assert time.process_time() - start < 2.0
    close(m.criterion_, 107.8341274625, 1e-11)
    close(m.variance_components_, [0.0, 4.9386352778, 0.0966458333, 0.596086111111], 1e-7)
    assert [len(effects) for effects in m.random_effects_.values()] == [2, 6, 18]
    k = silently(lambda: lmer("y ~ region + (1 | school)", d))
    close(k.criterion_, 104.6110144592, 1e-11)
    close(k.fit_.coefficients, [28.87, 1.187222222222], 1e-9)


# ---- closed forms, and other texts of the same model


def test_a_balanced_two_way_layout_is_analysis_of_variance():
    def check(seed, n_a, n_b):
        r = np.random.default_rng(seed)
        a, b = np.repeat(np.arange(n_a), n_b), np.tile(np.arange(n_b), n_a)
        y = 3 + 2 * r.standard_normal(n_a)[a] + 1.5 * r.standard_normal(n_b)[b] + r.standard_normal(n_a * n_b)
        table = y.reshape(n_a, n_b)
        rows, columns = table.mean(axis=1), table.mean(axis=0)
        left = table - rows[:, None] - columns + y.mean()
        residual = (left**2).sum() / ((n_a - 1) * (n_b - 1))
        ms_a = n_b * ((rows - y.mean()) ** 2).sum() / (n_a - 1)
        ms_b = n_a * ((columns - y.mean()) ** 2).sum() / (n_b - 1)
        assert min(ms_a, ms_b) > residual
        model = fit("(1 | a) + (1 | b)", None, y, pd.DataFrame({"a": a, "b": b}))
        close(model.variance_components_, [(ms_a - residual) / n_b, (ms_b - residual) / n_a, residual], 1e-8)
        close(model.intercept_, y.mean(), 1e-12)
        close(model.cov_fixed_[0, 0], (ms_a + ms_b - residual) / (n_a * n_b), 1e-8)
        # The best predictions shrink the deviations of the means.
        for name, means, ms in (("a", rows, ms_a), ("b", columns, ms_b)):
            expected = (1 - residual / ms) * (means - y.mean())
            close(model.random_effects_[name].iloc[:, 0], expected, 1e-7, 1e-9, name)

    check_each([(str(case), case) for case in [(0, 5, 4), (1, 12, 9), (2, 3, 30), (3, 70, 6)]], check)


def test_the_order_of_terms_factors_and_columns_makes_no_difference():
    frame = frame_of("mixed", 3)
    names = ["a", "b", "c", "d"]
    texts = ["(1 + x0 | c) + (1 | b/a)", "(1 | a:b) + (1 | b) + (x0 | c)"]
    first, order = None, np.random.default_rng(0).permutation(len(frame))
    for text in texts:
        for rows, columns in ((frame, names), (frame.iloc[order], names[::-1])):
            model = fit(text, rows[["x0", "x1"]], rows["y"], rows[columns])
            mean, std = model.predict(frame[["x0", "x1"]], groups=frame[columns], return_std=True)
            inner = "a:b" if "a:b" in text else "b:a"
            parts = [
                model.covariance_[name].loc[["(Intercept)", "x0"][:size], ["(Intercept)", "x0"][:size]].to_numpy().ravel()
                for name, size in (("c", 2), ("b", 1), (inner, 1))
            ]
            found = [model.criterion_], model.coef_, mean, std, np.concatenate(parts), model.cov_fixed_.ravel()
            first = first or found
            for one, other in zip(found, first, strict=True):
                close(one, other, 1e-6, 1e-7, text)
            close(model.criterion_, first[0][0], 1e-11)
    with_labels = fit(texts[0], frame[["c", "x0", "a", "x1", "b"]], frame["y"], None)
    close(with_labels.criterion_, first[0][0], 1e-11)
    close(with_labels.predict(frame[["b", "x0", "a", "x1", "c"]][["c", "x0", "a", "x1", "b"]]), first[2], 1e-7, 1e-7)


def test_nested_is_the_outer_factor_and_the_pairs():
    frame = frame_of("nested", 5)
    X = frame[["x0"]]
    models = [
        fit("(1 | c/b)", X, frame["y"], frame[["b", "c"]]),
        fit("(1 | c) + (1 | c:b)", X, frame["y"], frame[["b", "c"]]),
        # The labels of b are distinct.
        fit("(1 | c) + (1 | b)", X, frame["y"], frame[["b", "c"]]),
    ]
    for model in models[1:]:
        close(model.criterion_, models[0].criterion_, 1e-11)
        close(model.variance_components_, models[0].variance_components_, 1e-6, 1e-8)


def test_a_factor_of_pairs_alone_is_the_model_of_one_column():
    frame = frame_of("crossed", 6)
    joined = (frame["b"] + "/" + frame["c"]).rename("g")
    pair = fit("(1 + x0 | b:c)", frame[["x0"]], frame["y"], frame[["b", "c"]])
    one = fit("(1 + x0 | g)", frame[["x0"]], frame["y"], joined)
    close(pair.criterion_, one.criterion_, 1e-11)
    close(pair.covariance_["b:c"], one.covariance_["g"], 1e-6, 1e-8)
    close(pair.predict(frame[["x0"]], groups=frame[["b", "c"]]), one.predict(frame[["x0"]], groups=joined), 1e-7, 1e-8)
    table = inference.fixed_effects(pair, ddf="kenward_roger"), inference.fixed_effects(one, ddf="kenward_roger")
    close(table[0]["df"], table[1]["df"], 1e-6)


# ---- small designs of any kind


def random_design(seed):
    """A design of two or three factors, nested or crossed, with slopes or without; often singular or not identified."""
    r = np.random.default_rng(seed)
    n = int(r.integers(12, 26))
    codes = [r.integers(0, r.integers(1, 9), n) for _ in range(3)]
    if r.random() < 0.4:
        codes[1] = codes[0] // 2
    frame = pd.DataFrame({"x0": r.standard_normal(n).round(1)} | dict(zip("abc", codes, strict=True)))
    texts = ["(1 | a) + (1 | b)", "(1 | a) + (1 | b) + (1 | c)", "(1 | b/a)", "(1 | a) + (1 | a:b)", "(x0 | a) + (1 | b)",
             "(x0 || a) + (1 | c)", "(1 | a) + (0 + x0 | b)"]  # fmt: skip
    text = texts[int(r.integers(len(texts)))]
    part = sum(r.choice([0.0, 0.5, 2.0]) * r.standard_normal(c.max() + 1)[c] for c in codes)
    y = frame["x0"] * 0.5 + part + r.choice([0.0, 1.0]) * r.standard_normal(8)[codes[0]] * frame["x0"]
    frame["y"] = (y + r.choice([0.3, 1.0]) * r.standard_normal(n)).round(2)
    return frame, text, ("reml", "ml")[int(r.integers(2))]


N_DESIGNS = 45


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_small_designs_are_right_or_refused_in_words():
    refused, on_boundary = [], 0

    def check(seed):
        nonlocal on_boundary
        frame, text, method = random_design(seed)
        case = Case(frame, text, method, fixed=("x0",))
        try:
            model = fit(text, frame[["x0"]], frame["y"], frame[["a", "b", "c"]], method=method)
        except (ValueError, ConvergenceWarning) as error:
            refused.append(str(error))
            return
        assert np.isfinite(model.criterion_)
        oracle = case.dense()
        G = model.fit_.random_covariance[np.ix_(case.order, case.order)] / model.variance_components_["residual"]
        close(model.criterion_, oracle.value(G), 1e-9, 1e-9)
        check_optimum(oracle, G, case.blocks)
        on_boundary += model.boundary_ is not None
        if seed % 10 == 0:
            value, _ = oracle.best(case.blocks, 2)
            assert model.criterion_ < value + 1e-6, (model.criterion_, value)

    check_each([(f"seed {seed}", (seed,)) for seed in range(N_DESIGNS)], check)
    assert 0 < len(refused) < 0.5 * N_DESIGNS
    words = "one level|level for every row|same .* groups|do not identify|no minimum|The residual"
    assert [text for text in refused if not re.search(words, text)] == []
    assert 0.1 * N_DESIGNS < on_boundary < 0.8 * N_DESIGNS


def test_a_likelihood_without_a_maximum_is_refused_though_most_searches_end_in_a_minimum():
    """The effects leave nothing of y, so that the criterion falls by log 10 whenever the variances grow tenfold."""
    frame, text, method = random_design(268)
    case = Case(frame, text, method, fixed=("x0",))
    oracle = case.dense()
    values = [oracle.value(scale * np.diag([1.0, 0.3])) for scale in (1e6, 1e7)]
    np.testing.assert_allclose(values[1] - values[0], -np.log(10.0), atol=1e-2)
    with pytest.raises(ValueError, match="do not identify the variances"):
        fit(text, frame[["x0"]], frame["y"], frame[["a", "b"]], method=method)


def test_predictions_keep_their_digits_beside_a_small_residual():
    """At the model's own variances, against least squares with penalties, which QR solves."""

    def check(sd):
        rng = np.random.default_rng(0)
        groups = pd.DataFrame({"a": rng.integers(0, 8, 60), "b": rng.integers(0, 6, 60)})
        effects = rng.standard_normal(8)[groups["a"]] + rng.standard_normal(6)[groups["b"]]
        y = sd * effects + rng.standard_normal(60)
        model = fit("(1 | a) + (1 | b)", None, y, groups)
        Z = pd.get_dummies(groups, columns=["a", "b"]).to_numpy(float)
        ratios = [model.covariance_[name].iloc[0, 0] / model.variance_components_["residual"] for name in ("a", "b")]
        penalties = np.diag(np.repeat(1.0 / np.sqrt(ratios), [8, 6]))
        design = np.block([[np.ones((60, 1)), Z], [np.zeros((14, 1)), penalties]])
        q, r = np.linalg.qr(design)
        expected = (design @ np.linalg.solve(r, q.T @ np.append(y, np.zeros(14))))[:60]
        close(model.predict(None, groups=groups), expected, 0, 1e-13 * sd**1.5)
        assert 0.8 < model.variance_components_["residual"] < 1.2

    check_each([(f"sd {sd:g}", (sd,)) for sd in (1e1, 1e3, 1e5)], check)


def test_the_lower_of_several_minima_is_found():
    """A large variance of one factor does not take that of another for 0, and a variance may have to start far from 0."""
    beside_a_large_one = pd.DataFrame({
        "y": [-1924.5, -1101.2, -1929.4, -165.0, 12.3, 12.6, -1111.7, 976.4, -1105.5, 1326.0, -1930.0, 978.7],
        "a": [0, 1, 3, 6, 3, 5, 6, 8, 4, 9, 7, 2], "b": [0, 12, 4, 1, 8, 8, 12, 5, 7, 2, 4, 5],
        "w": [0.66, -0.48, -0.13, -0.28, -0.56, 2.5, -1.22, 0.04, 0.12, -0.02, 0.78, 0.04],
    })  # fmt: skip
    far = pd.DataFrame({
        "y": [1.298, -1.755, -3.796, -3.911, -3.371, 2.530, -6.886, -8.423, -6.456],
        "a": [1, 6, 2, 8, 0, 8, 5, 1, 5], "b": [5, 0, 8, 8, 8, 5, 9, 10, 9],
        "weight": [1.448, 0.086, 0.2016, 1.701, 3.005, 0.6396, 0.2596, 0.257, 1.792],
    })  # fmt: skip
    model = fit("(0 + w | a/b) + (1 | b)", None, beside_a_large_one["y"], beside_a_large_one[["a", "b", "w"]])
    assert model.criterion_ < 145.9072
    weights = {"weight_type": "precision", "sample_weight": far["weight"]}
    assert fit("(1 | a) + (1 | b)", None, far["y"], far[["a", "b"]], **weights).criterion_ < 33.3635


def test_a_factor_of_few_levels_has_several_starts_beside_one_of_many():
    rng = np.random.default_rng(149)
    n_s, n_i, n = int(rng.integers(32, 45)), int(rng.integers(2, 5)), int(rng.integers(40, 90))
    s, i = rng.integers(0, n_s, n), rng.integers(0, n_i, n)
    X = rng.normal(size=(n, 2))
    X[:, 1] = rng.normal(size=n_i)[i] + 0.1 * rng.normal(size=n)
    y = rng.normal(0, rng.choice([0, 0.3, 1]), n_s)[s] + rng.normal(0, rng.choice([0, 0.5, 3]), n_i)[i] + rng.normal(size=n)
    model = fit("(1 | s) + (1 | i)", X, y, pd.DataFrame({"s": s, "i": i}), method="ml")
    criterion = model.fit_.criterion
    grid = [criterion.value(np.diag(np.sqrt([one, other]))) for one in (0.0, 0.03, 0.3) for other in (1, 10, 100, 300)]
    assert model.criterion_ < min(grid) < 253.1


def check_optimum(oracle: DenseFactors, G, blocks):
    """Whether G is a minimum over the cone to first order: Gamma G = 0, and Gamma is positive semidefinite."""
    Gamma = oracle.gradient(G)
    for block in blocks:
        inside = np.ix_(block, block)
        B = oracle._basis(block)[block]  # in units of the rows
        gamma = B.T @ Gamma[inside] @ B
        g = np.linalg.pinv(B) @ G[inside] @ np.linalg.pinv(B).T
        size = 1.0 + np.abs(np.trace(B.T @ _curve(oracle, G)[inside] @ B))
        assert np.abs(gamma @ g).max() < 1e-5 * max(1.0, np.abs(g).max()) * size, (gamma, g)
        assert np.linalg.eigvalsh(gamma).min() > -1e-5 * size, (gamma, g)


def _curve(oracle, G):
    """Z' (inner) Z between rows of a level: the part of the gradient that the determinants give."""
    return oracle._between(oracle.at(G).inner)
