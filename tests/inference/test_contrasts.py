"""Contrasts and terms: how hypotheses are written, and their tests against lmerTest, pbkrtest and emmeans."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.inference import contrast_test, term_tests
from sklearn_mlm.inference._hypotheses import hypotheses_of

NAMES = ["(Intercept)", "x", "x2", "age-group", "sector:Public", "C(size)[T.b]", "1"]


def weights(**by_position):
    row = np.zeros(len(NAMES))
    for position, weight in by_position.items():
        row[int(position[1:])] = weight
    return row


@pytest.mark.parametrize(
    ("given", "expected", "null"),
    [
        ("x", weights(p1=1), 0),
        ("x - x2", weights(p1=1, p2=-1), 0),
        ("x = x2", weights(p1=1, p2=-1), 0),
        ("x == 2", weights(p1=1), 2),
        ("2 = x", weights(p1=-1), -2),
        ("2 * x + 3*x2 = 4", weights(p1=2, p2=3), 4),
        ("(x + x2) / 2 = (Intercept)", weights(p0=-1, p1=0.5, p2=0.5), 0),
        ("-(x - 2) * 3 = -x2 + 1e1", weights(p1=-3, p2=1), 4),
        ("age-group - x", weights(p1=-1, p3=1), 0),
        ("`age-group` = x", weights(p1=-1, p3=1), 0),
        ("sector:Public + C(size)[T.b]", weights(p4=1, p5=1), 0),
        ("`1` = 1", weights(p6=1), 1),
        ("x\n  -  x2", weights(p1=1, p2=-1), 0),
        ({"x": 1, "x2": -1}, weights(p1=1, p2=-1), 0),
        ({"B vs C": "x - x2"}, weights(p1=1, p2=-1), 0),
        ({"B vs C": {"x": 1, "x2": -1}}, weights(p1=1, p2=-1), 0),
        ({"B vs C": [0, 1, -1, 0, 0, 0, 0]}, weights(p1=1, p2=-1), 0),
        (pd.DataFrame({"x2": [-1], "x": [1]}, index=["B vs C"]), weights(p1=1, p2=-1), 0),
        (pd.DataFrame({"x2": [-1.0], "x": [1.0], "1": [np.nan]}, index=["B vs C"]), weights(p1=1, p2=-1), 0),
        (pd.Series({"x2": -1, "x": 1}), weights(p1=1, p2=-1), 0),
        (pl.DataFrame({"x2": [-1], "x": [1]}), weights(p1=1, p2=-1), 0),
        ([pd.Series({"x2": -1, "x": 1})], weights(p1=1, p2=-1), 0),
        ("1", weights(p6=1), 0),
        ("x - `1` = 1", weights(p1=1, p6=-1), 1),
        ([0, 1, -1, 0, 0, 0, 0], weights(p1=1, p2=-1), 0),
    ],
)
def test_one_hypothesis(given, expected, null):
    found = hypotheses_of(given, NAMES)
    np.testing.assert_allclose(found.weights, [expected])
    np.testing.assert_allclose(found.nulls, [null])
    named = isinstance(given, pd.DataFrame) or (isinstance(given, dict) and "B vs C" in given)
    assert not named or found.labels == ["B vs C"]


def test_several_hypotheses():
    for given in (
        ["x = 1", {"x2": 2}],
        {"first": "x = 1", "second": {"x2": 2}},
        ("x = 1", "2 * x2"),
    ):
        found = hypotheses_of(given, NAMES)
        np.testing.assert_array_equal(found.weights, [weights(p1=1), weights(p2=2)])
        np.testing.assert_array_equal(found.nulls, [1, 0])
    assert hypotheses_of(["x  =  1", {"x2": -2, "x": 0.5}], NAMES).labels == ["x = 1", "0.5 * x - 2 * x2"]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("y", ValueError, "'y' cannot be combined: there is none of this name among '(Intercept)', 'x'"),
        ("C(size)[T.c]", ValueError, "cannot be read|not a fixed effect|not a linear"),
        ("`sector:Publi`", ValueError, "Did you mean 'sector:Public'?"),
        ({"xx": 1}, ValueError, "'xx' cannot be combined"),
        ("x * x2", ValueError, "not a linear combination"),
        ("x ** 2", ValueError, "not a linear combination"),
        ("1 / x", ValueError, "not a linear combination"),
        ("x / 0", ValueError, "not a linear combination"),
        ("x = x2 = 0", ValueError, "more than one '='"),
        ("x =", ValueError, "cannot be read"),
        ("x x2", ValueError, "cannot be read"),
        ("__import__('os')", ValueError, "not a linear combination"),
        ("x - 1", ValueError, "is a number meant, or the fixed effect of this name"),
        ("x = 1e400", ValueError, "not finite"),
        ("_name_1_", ValueError, "cannot be combined"),
        ("x - x", ValueError, "weighs no fixed effect"),
        ("2 = 2", ValueError, "weighs no fixed effect"),
        ({"x": 0}, ValueError, "weighs no fixed effect"),
        ({"x": np.nan}, ValueError, "weighs no fixed effect"),
        ([0, 1], ValueError, "a weight for each of the 7 fixed effects"),
        (object(), TypeError, "L must be an expression such as 'a - b'"),
        ({"two rows": np.eye(7)}, ValueError, "one row of weights"),
    ],
)
def test_what_is_no_hypothesis(given, error, words):
    with pytest.raises(error) as raised:
        hypotheses_of(given, NAMES)
    assert any(each in str(raised.value) for each in words.split("|"))


@pytest.fixture
def machines(reference_mixed):
    """Return the model of the Machines data with the factor as dummies, and what lmerTest answers."""
    frame, case = reference_mixed("D", "machines_factor")
    X = pd.get_dummies(frame["Machine"], drop_first=True).astype(float)
    return RandomInterceptRegressor().fit(X, frame["score"], groups=frame["Worker"]), case


def test_pairs_are_those_of_emmeans(machines):
    model, case = machines
    pairs = case["marginal_means"][0]["pairs"]["none"]
    table = contrast_test(model, ["-B", "-C", "B - C"], ddf="kenward_roger", joint=False)
    for column, theirs in (
        ("estimate", "estimate"),
        ("std_error", "SE"),
        ("df", "df"),
        ("t", "t.ratio"),
        ("p_value", "p.value"),
    ):
        np.testing.assert_allclose(table[column], pairs[theirs], rtol=1e-8)
    assert list(table.index) == ["-B", "-C", "B - C"]
    means = case["marginal_means"][0]["means"]
    levels = {"A": "(Intercept)", "B": "(Intercept) + B", "C": "(Intercept) + C"}
    table = contrast_test(model, levels, ddf="kenward_roger", joint=False)
    np.testing.assert_allclose(
        table[["ci_lower", "ci_upper"]], np.array([means["lower.CL"], means["upper.CL"]]).T, rtol=1e-8
    )


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward_roger"])
def test_terms_are_those_of_anova(machines, ddf):
    model, case = machines
    expected = case["anova"][f"III_{ddf}"]
    row = term_tests(model, {"Machine": ["B", "C"]}, ddf=ddf).loc["Machine"]
    np.testing.assert_allclose(row[["F", "df1"]], [expected["F"][0], 2], rtol=1e-10)
    np.testing.assert_allclose(row["df2"], expected["den_df"][0], rtol=1e-6)
    np.testing.assert_allclose(contrast_test(model, ["B", "C"], ddf=ddf), row, rtol=1e-12)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward_roger"])
def test_type_iii_tests_of_an_interaction(reference_mixed, ddf):
    frame, case = reference_mixed("D", "pbg_dose_factor")
    sums = {}
    for factor in ("dose", "Treatment"):
        levels = sorted(frame[factor].unique())
        codes = pd.DataFrame({str(level): (frame[factor] == level).astype(float) for level in levels})
        sums[factor] = (codes.iloc[:, :-1].sub(codes.iloc[:, -1], axis=0)).add_prefix(f"{factor}_")
    both = {
        f"{a}:{b}": sums["dose"][a] * sums["Treatment"][b] for a in sums["dose"].columns for b in sums["Treatment"].columns
    }
    X = pd.concat([sums["dose"], sums["Treatment"], pd.DataFrame(both)], axis=1)
    model = RandomInterceptRegressor().fit(X, frame["deltaBP"], groups=frame["Rabbit"])
    terms = {"dose": list(sums["dose"]), "Treatment": list(sums["Treatment"]), "both": list(both)}
    table = term_tests(model, terms, ddf=ddf)
    expected = case["anova"][f"III_{ddf}"]
    # lme4 stopped 5e-7 short of this test.
    np.testing.assert_allclose(table["F"], expected["F"], rtol=1e-6)
    np.testing.assert_allclose(table["df1"], expected["num_df"])
    np.testing.assert_allclose(table["df2"], expected["den_df"], rtol=1e-6)


def test_terms_without_names_are_the_columns(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(pd.DataFrame(X, columns=["a", "b-c", "1"]), y, groups=groups)
    table = term_tests(model)
    assert list(table.index) == ["a", "b-c", "1"]
    for name in table.index:
        np.testing.assert_allclose(table.loc[name, "F"], contrast_test(model, {name: 1})["t"] ** 2, rtol=1e-12)
    assert table.index.name == "term"


def test_terms_may_have_names_that_are_numbers_and_names_in_an_array(design):
    X, y, groups = design
    frame = pd.DataFrame(X, columns=["2019", "2020", "nan"])
    model = RandomInterceptRegressor().fit(frame, y, groups=groups)
    expected = term_tests(model, {"year": [{"2019": 1}, {"2020": 1}]})
    for names in (["2019", "2020"], np.array(["2019", "2020"], dtype=object), frame.columns[:2]):
        pd.testing.assert_frame_equal(term_tests(model, {"year": names}), expected)
    np.testing.assert_allclose(contrast_test(model, "nan - `2019`"), contrast_test(model, {"nan": 1, "2019": -1}))


def test_terms_with_dropped_columns(design):
    X, y, groups = design
    frame = pd.DataFrame(np.column_stack([X, X[:, 0], X[:, 1]]), columns=[*"abcde"])
    with pytest.warns(UserWarning, match="depend on the columns before"):
        model = RandomInterceptRegressor().fit(frame, y, groups=groups)
    table = term_tests(model, {"ad": ["a", "d"], "a": ["a"], "e": ["e"], "also e": "e"})
    np.testing.assert_array_equal(table.loc["ad"], table.loc["a"])
    assert table.loc[["e", "also e"], ["F", "p_value"]].isna().all(axis=None)
    assert (table.loc[["e", "also e"], "df1"] == 0).all()
    with pytest.raises(TypeError, match="terms must be a dictionary"):
        term_tests(model, ["a"])


def test_values_other_than_0(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(pd.DataFrame(X, columns=[*"abc"]), y, groups=groups)
    test, plain = contrast_test(model, "a - b = 0.3"), contrast_test(model, "a - b")
    assert list(test.index)[:3] == ["estimate", "null", "std_error"]
    assert "null" not in plain
    np.testing.assert_allclose(test["t"], (plain["estimate"] - 0.3) / plain["std_error"], rtol=1e-12)
    np.testing.assert_allclose(test[["estimate", "ci_lower", "ci_upper"]], plain[["estimate", "ci_lower", "ci_upper"]])
    # The hypothesis that the coefficients have these values is that of y less these values times x, against 0.
    values = np.array([0.5, -0.2])
    shifted = RandomInterceptRegressor().fit(pd.DataFrame(X, columns=[*"abc"]), y - X[:, :2] @ values, groups=groups)
    for ddf in ("satterthwaite", "kenward_roger", "residual", "normal"):
        joint = contrast_test(model, ["a = 0.5", "b = -0.2"], ddf=ddf)
        np.testing.assert_allclose(joint, contrast_test(shifted, ["a", "b"], ddf=ddf), rtol=1e-9)
    same = contrast_test(model, ["a = 0.5", "b = -0.2", "a + b = 0.3"])
    np.testing.assert_allclose(same, contrast_test(model, ["a = 0.5", "b = -0.2"]), rtol=1e-9)
    with pytest.raises(ValueError, match="contradict each other"):
        contrast_test(model, ["a = 0.5", "b = -0.2", "a + b = 1"])


def test_what_is_printed(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(pd.DataFrame(X, columns=[*"abc"]), y, groups=groups)
    text = repr(contrast_test(model, "a - b", level=0.9))
    assert text.splitlines()[0] == "a - b"
    assert [line.split()[0] for line in text.splitlines()[1:]] == [
        "estimate", "std_error", "df", "t", "p_value", "ci_lower", "ci_upper"
    ]  # fmt: skip
    text = repr(contrast_test(model, ["a = 10", "b = 10"]))
    assert "<0.001" in text
    assert "e-" not in text
    # What pandas makes of it is an ordinary series.
    assert type(contrast_test(model, "a").round(2)) is pd.Series
