"""Tests of the terms of a formula: identities, brute force, and what they do not depend on."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from formula_cases import two_factors

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.formula import lmer
from sklearn_mlm.inference import anova, compare_models, contrast_test, drop1, likelihood_ratio_test, term_tests


def equal_tables(a, b, df=True):
    assert a.index.tolist() == b.index.tolist()
    np.testing.assert_allclose(a[["F", "df1", "sum_sq"]], b[["F", "df1", "sum_sq"]], rtol=1e-8)
    if df:
        np.testing.assert_allclose(a["df2"], b["df2"], rtol=1e-7)


def least_squares_rows():
    """Rows whose groups do not differ, so that the group variance is 0 and every test is one of least squares."""
    rows = two_factors()
    return rows.assign(
        g=np.array([f"v{at % 5}" for at in range(len(rows))]), y=np.round(np.sin(np.arange(len(rows)) * 2.0), 3)
    )


def sums_of_squares(model, rows, names):
    """The residual sum of squares of least squares on some terms."""
    X = model.model_matrix(rows).to_numpy()
    positions = np.concatenate([[0], *(at for label, at, *_ in model.fit_.design.terms if label in names)]).astype(int)
    return np.linalg.lstsq(X[:, positions], rows["y"], rcond=None)[1][0]


def test_types_1_and_2_are_differences_of_sums_of_squares_if_groups_do_not_differ():
    rows = least_squares_rows()
    model = lmer("y ~ a * b + x + (1 | g)", rows)
    assert model.variance_components_["group"] == 0.0
    labels = ["a", "b", "x", "a:b"]
    first = anova(model, type=1)
    assert first.index.tolist() == labels
    for at, label in enumerate(labels):
        less = sums_of_squares(model, rows, labels[:at]) - sums_of_squares(model, rows, labels[: at + 1])
        assert first.loc[label, "sum_sq"] == pytest.approx(less, rel=1e-9)
    second = anova(model, type=2)
    for label, others in {"a": ["b", "x"], "b": ["a", "x"], "x": ["a", "b", "a:b"], "a:b": ["a", "b", "x"]}.items():
        less = sums_of_squares(model, rows, others) - sums_of_squares(model, rows, [*others, label])
        assert second.loc[label, "sum_sq"] == pytest.approx(less, rel=1e-9)


def test_type_3_is_about_means_that_weigh_cells_alike():
    rows = two_factors()
    model = lmer("y ~ a * b + x + (1 | g)", rows)
    cells = lmer("y ~ 0 + a:b + x + (1 | g)", rows)
    table = anova(model, type=3)
    low, high = ([f"`a{level}:b{other}`" for other in ("c1", "c2", "c3")] for level in ("low", "high"))
    test = contrast_test(cells, f"({' + '.join(high)}) / 3 - ({' + '.join(low)}) / 3")
    assert table.loc["a", "F"] == pytest.approx(test["t"] ** 2, rel=1e-9)
    assert table.loc["a", "df2"] == pytest.approx(test["df"], rel=1e-7)
    of_b = contrast_test(cells, [f"{high[at]} + {low[at]} - {high[0]} - {low[0]}" for at in (1, 2)])
    assert table.loc["b", "F"] == pytest.approx(of_b["F"], rel=1e-9)
    assert table.loc["b", "df2"] == pytest.approx(of_b["df2"], rel=1e-6)


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward_roger"])
def test_neither_coding_nor_the_order_of_levels_matters(kind, ddf):
    rows = two_factors()
    table = anova(lmer("y ~ a * b + x + (1 | g)", rows), type=kind, ddf=ddf)
    for contrasts in ("contr.sum", "contr.helmert", "contr.poly", "contr.SAS"):
        coded = lmer("y ~ a * b + x + (1 | g)", rows, contrasts={"a": contrasts, "b": contrasts})
        equal_tables(anova(coded, type=kind, ddf=ddf), table)
    turned = rows.assign(
        a=pd.Categorical(rows["a"], ["low", "high"]), b=pd.Categorical(rows["b"], ["c3", "c1", "c2"], ordered=True)
    )
    equal_tables(anova(lmer("y ~ a * b + x + (1 | g)", turned), type=kind, ddf=ddf), table)
    # Neither does the order of the rows, nor a shift or the unit of a number that is in no product.
    other = rows.sample(frac=1, random_state=0).assign(x=lambda rows: 1_000 + 8 * rows["x"])
    equal_tables(anova(lmer("y ~ a * b + x + (1 | g)", other), type=kind, ddf=ddf), table)


def test_types_agree_where_they_ask_the_same():
    rows = two_factors()
    additive = lmer("y ~ a + b + x + (1 | g)", rows)
    equal_tables(anova(additive, type=2), anova(additive, type=3))
    last = anova(additive, type=1).loc["x"]
    assert last["F"] == pytest.approx(anova(additive, type=3).loc["x", "F"], rel=1e-9)
    balanced = pd.DataFrame({"a": np.tile(["u", "v"], 24), "b": np.repeat(["p", "q", "r"], 16), "g": np.arange(48) // 2 % 8})
    balanced["y"] = np.sin(np.arange(48.0)) + (balanced["a"] == "u") * np.arange(48) / 30
    crossed = lmer("y ~ a * b + (1 | g)", balanced)
    for kind in (1, 2):
        np.testing.assert_allclose(anova(crossed, type=kind)["F"], anova(crossed, type=3)["F"], rtol=1e-7)


def test_a_factor_is_tested_at_0_of_a_number_beside_their_product():
    rows = two_factors()
    model = lmer("y ~ b * x + (1 | g)", rows)
    at_zero = term_tests(model, {"b": ["bc2", "bc3"]})
    for kind in (2, 3):
        assert anova(model, type=kind).loc["b", "F"] == pytest.approx(at_zero.loc["b", "F"], rel=1e-9)
    slopes = contrast_test(model, "x + `bc2:x` / 3 + `bc3:x` / 3")
    assert anova(model, type=3).loc["x", "F"] == pytest.approx(slopes["t"] ** 2, rel=1e-9)
    # A product without its main effect is averaged over the levels all the same.
    alone = lmer("y ~ x + b:x + (1 | g)", rows)
    slopes = contrast_test(alone, "x + `x:bc2` / 3 + `x:bc3` / 3")
    assert anova(alone, type=3).loc["x", "F"] == pytest.approx(slopes["t"] ** 2, rel=1e-9)


def test_nested_factors_are_averaged_over_the_levels_within():
    rows = two_factors()
    nested = lmer("y ~ a / b + (1 | g)", rows)
    crossed = lmer("y ~ a * b + (1 | g)", rows)
    assert anova(nested, type=3).loc["a", "F"] == pytest.approx(anova(crossed, type=3).loc["a", "F"], rel=1e-9)
    assert anova(nested, type=3).loc["a:b", "df1"] == 4


def test_an_empty_cell_leaves_what_can_be_estimated():
    rows = two_factors(without=("high", "c2"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lmer("y ~ a * b + x + (1 | g)", rows)
        summed = lmer("y ~ a * b + x + (1 | g)", rows, contrasts={"a": "contr.sum", "b": "contr.sum"})
    for kind in (1, 2, 3):
        table = anova(model, type=kind)
        assert table["df1"].tolist() == [1, 2, 1, 1]
        equal_tables(anova(summed, type=kind), table)
    # lmerTest 3.1-3 with R 4.2
    answers = {
        1: ([10.21819, 2.537856, 1.240923, 1.415563], [15.3117, 14.11086, 16.72585, 14.46455]),
        2: ([3.034024, 2.322564, 1.936458, 1.415563], [16.99432, 14.31683, 16.98789, 14.46455]),
        3: ([3.259294, 1.657317, 1.936458, 1.415563], [16.9988, 15.47078, 16.98789, 14.46455]),
    }
    for kind, (statistics, df) in answers.items():
        np.testing.assert_allclose(anova(model, type=kind)["F"], statistics, rtol=1e-6)
        np.testing.assert_allclose(anova(model, type=kind)["df2"], df, rtol=1e-5)
    equal_tables(drop1(model), anova(model, type=3).loc[["x", "a:b"]])


@pytest.mark.parametrize("formula", ["y ~ a * b + (1 | g)", "y ~ b * a + a * c + (1 | g)", "y ~ (a + b + c)^2 + (1 | g)"])
@pytest.mark.parametrize("seed", range(4))
def test_empty_cells_are_no_information_whatever_the_order_of_levels(formula, seed):
    r = np.random.RandomState(seed)
    rows = pd.DataFrame({"a": r.choice(list("uvw"), 90), "b": r.choice(list("pqr"), 90), "c": r.choice(list("st"), 90)})
    rows["g"] = np.repeat(list("ABCDEF"), 15)
    rows["y"] = r.randn(90) + rows["g"].factorize()[0]
    rows = rows[~((rows["a"] == "v") & (rows["b"] == "q"))]
    turned = rows.assign(a=pd.Categorical(rows["a"], ["v", "u", "w"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = [
            lmer(formula, frame, contrasts=c) for frame, c in ((rows, None), (turned, None), (rows, {"a": "contr.helmert"}))
        ]
    X = models[0].model_matrix(rows).to_numpy()
    first = models[0]
    ranks = [np.linalg.matrix_rank(X[:, : at[-1] + 1]) for _, at, *_ in first.fit_.design.terms]
    for model in models:
        assert np.isfinite(model.predict(rows)).all()
        assert anova(model, type=1)["df1"].tolist() == np.diff(ranks, prepend=1).tolist()
        for kind in (1, 2, 3):
            equal_tables(anova(model, type=kind), anova(first, type=kind))
        equal_tables(drop1(model), drop1(first))


def test_a_term_that_adds_nothing_has_no_test():
    rows = two_factors().assign(c=lambda rows: np.where(rows["a"] == "low", rows["b"], "none"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lmer("y ~ a * b + c + (1 | g)", rows)
    table = drop1(model)
    assert table.loc["c", "df1"] == 0
    assert np.isnan(table.loc["c", "F"])


def test_without_an_intercept_the_means_are_tested_against_0():
    rows = two_factors()
    table = anova(lmer("y ~ 0 + b + (1 | g)", rows), type=3)
    assert table["df1"].tolist() == [3.0]
    together = contrast_test(lmer("y ~ 0 + b + (1 | g)", rows), ["bc1", "bc2", "bc3"])
    assert table.loc["b", "F"] == pytest.approx(together["F"], rel=1e-9)


def test_droppable_terms_are_those_that_no_other_term_holds():
    rows = two_factors()
    model = lmer("y ~ a * b + x + (1 | g)", rows)
    table = drop1(model, ddf="kenward_roger")
    assert table.index.tolist() == ["x", "a:b"]
    equal_tables(table, anova(model, type=3, ddf="kenward_roger").loc[["x", "a:b"]])
    assert drop1(lmer("y ~ a * x + (1 | g)", rows)).index.tolist() == ["a:x"]


def test_several_models_are_compared_as_in_r():
    rows = two_factors()
    small, large = lmer("y ~ a + (1 | g)", rows), lmer("y ~ a + b + (1 | g)", rows)
    pd.testing.assert_frame_equal(anova(small, large), likelihood_ratio_test(small, large))
    assert anova(small, large).index.tolist() == ["y ~ a + (1 | g)", "y ~ a + b + (1 | g)"]
    same = likelihood_ratio_test(small, lmer("y ~ b + a + (1 | g)", rows), named=lmer("y ~ a * b + (1 | g)", rows))
    assert same.index.tolist() == ["y ~ a + (1 | g)", "y ~ b + a + (1 | g)", "named"]
    twice = compare_models(small, small, large)
    assert twice.index.tolist() == ["model 1", "model 2", "y ~ a + b + (1 | g)"]
    # Columns of nested models may have different names.
    nested = likelihood_ratio_test(lmer("y ~ x + (1 | g)", rows), lmer("y ~ a:x + (1 | g)", rows))
    assert nested["df"].tolist()[1] == 1


def test_numbers_and_models_without_terms():
    rows = two_factors()
    assert anova(lmer("y ~ 1 + (1 | g)", rows)).empty
    single = anova(lmer("y ~ x + (1 | g)", rows))
    assert single.loc["x", "F"] == pytest.approx(contrast_test(lmer("y ~ x + (1 | g)", rows), "x")["t"] ** 2)
    for ddf in ("residual", "normal"):
        assert np.isfinite(anova(lmer("y ~ a * x + (1 | g)", rows), ddf=ddf)["p_value"]).all()


def test_tables_print_whole_and_say_what_they_are():
    rows = two_factors()
    model, smaller = lmer("y ~ a * b + x + (1 | g)", rows), lmer("y ~ a + (1 | g)", rows)
    table = anova(model, type=2, ddf="kenward_roger")
    lines = repr(table).split("\n")
    assert lines[0].split() == ["term", "sum_sq", "F", "df1", "df2", "p_value"]
    assert [line.split()[0] for line in lines[1:-1]] == ["a", "b", "x", "a:b"]
    assert lines[-1] == "Type 2 tests, Kenward and Roger's degrees of freedom."
    assert "<td>a:b</td>" in table._repr_html_()
    assert repr(pickle.loads(pickle.dumps(table))) == repr(table)
    assert type(table.round(2)) is pd.DataFrame
    compared = repr(anova(smaller, model))
    assert "y ~ a * b + x + (1 | g)" in compared
    assert "..." not in compared
    assert repr(drop1(model)).endswith("Tests of terms that can be left out, Satterthwaite's degrees of freedom.")


def test_what_is_refused():
    rows = two_factors()
    model = lmer("y ~ a + (1 | g)", rows)
    with pytest.raises(ValueError, match="type must be 1, 2 or 3; found 4"):
        anova(model, type=4)
    with pytest.raises(ValueError, match="ddf must be one of"):
        anova(model, ddf="guess")
    with pytest.raises(TypeError, match=r"anova needs a model with a formula.*found RandomInterceptRegressor"):
        anova(RandomInterceptRegressor().fit(rows[["x"]], rows["y"], groups=rows["g"]))
    with pytest.raises(ValueError, match="fitted by maximum likelihood"):
        anova(lmer("y ~ a + (1 | g)", rows, REML=False), ddf="kenward_roger")
