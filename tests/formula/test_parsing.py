"""What the text of a formula means, and where errors point."""

import pytest

from sklearn_mlm.formula._parsing import parse_formula
from sklearn_mlm.formula._tokens import FormulaText, in_r
from sklearn_mlm.formula._variables import functions

COLUMNS = ["y", "x", "z", "a", "b", "g", "dose mg", "score-1", "x.1", "log", "größe", "a:b", "p|q"]


def parsed(text, reserved=()):
    return parse_formula(text, COLUMNS, functions(), reserved)


def terms_of(terms):
    return terms.intercept, [":".join(one.name for one in term) for term in terms.terms]


@pytest.mark.parametrize(
    ("text", "intercept", "terms"),
    [
        ("y ~ 1 + (1 | g)", True, []),
        ("y ~ (1 | g)", True, []),
        ("y~x+(1|g)", True, ["x"]),
        ("y ~ b:a + x + a + (1 | g)", True, ["x", "a", "b:a"]),
        ("y ~ a + b:a + (1 | g)", True, ["a", "a:b"]),
        ("y ~ (a + b + x)^2 - a:b + (1 | g)", True, ["a", "b", "x", "a:x", "b:x"]),
        ("y ~ (a + b)**2 + (1 | g)", True, ["a", "b", "a:b"]),
        ("y ~ (a + b) / x + (1 | g)", True, ["a", "b", "a:b:x"]),
        ("y ~ b %in% a + (1 | g)", True, ["b:a"]),
        ("y ~ x + x + x:x + (1 | g)", True, ["x"]),
        ("y ~ I(x^2) + I( x ** 2 ) + (1 | g)", True, ["I(x^2)"]),
        ("y ~ x - 1 + (1 | g)", False, ["x"]),
        ("y ~ 1 + (1 | g) - 1", False, []),
        ("y ~ 0 + (1 | g) + x", False, ["x"]),
        ("y ~ (0 + x) + (1 | g)", False, ["x"]),
        ("y ~ (x - 1) + a + (1 | g)", False, ["x", "a"]),
        ("y ~ (0 + x + (1 | g))", False, ["x"]),
        ("y ~ a * (b - 1) + (1 | g)", False, ["a", "b", "a:b"]),
        ("y ~ (a + 1)^2 + (1 | g)", True, ["a"]),
        ("y ~ (a + b - 1)^2 + (1 | g)", False, ["a", "b", "a:b"]),
        ("y ~ a:(b + 1) + (1 | g)", True, ["a:b"]),
        ("y ~ x - (1 + z) + (1 | g)", False, ["x"]),
        ("y ~ x - (z - 1) + (1 | g)", True, ["x"]),
        ("y ~ 0 + x + 1 + (1 | g)", True, ["x"]),
        ("y ~ (0) + x + (1 | g)", False, ["x"]),
        ("y ~ + x + + z + (1 | g)", True, ["x", "z"]),
        ("y ~ ((x) + (z + (1 | g)))", True, ["x", "z"]),
        ("y ~ log + log(x) + x.1 + `dose mg` + größe + (1 | g)", True, ["log", "log(x)", "x.1", "dose mg", "größe"]),
        ("y ~ `a:b` + `p|q` + (1 | g)", True, ["a:b", "p|q"]),
        ("y ~ x +\n  z + (1 | g)", True, ["x", "z"]),
    ],
)
def test_terms_and_their_order_are_those_of_r(text, intercept, terms):
    assert terms_of(parsed(text).fixed) == (intercept, terms)


def test_a_point_is_every_column_without_another_part():
    assert terms_of(parsed("log(y) ~ . - z + (1 | a:b)", ["x"]).fixed) == (
        True, ["g", "dose mg", "score-1", "x.1", "log", "größe", "a:b", "p|q"],
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"'.' stands for no column"):
        parse_formula("y ~ . + (1 | g)", ["y", "g"], functions())


@pytest.mark.parametrize(
    ("text", "random"),
    [
        ("y ~ (1 | g)", [(True, [], ("g",), True)]),
        ("y ~ x + (x | g)", [(True, ["x"], ("g",), True)]),
        ("y ~ x + (0 + x || g)", [(False, ["x"], ("g",), False)]),
        ("y ~ (1 + x * a - a | `dose mg`)", [(True, ["x", "x:a"], ("dose mg",), True)]),
        ("y ~ (1 | a:b)", [(True, [], ("a", "b"), True)]),
        ("y ~ (1 | a/b/g)", [(True, [], ("a",), True), (True, [], ("a", "b"), True), (True, [], ("a", "b", "g"), True)]),
        ("y ~ (1 | factor(g)) + (0 + x | (g))", [(True, [], ("g",), True), (False, ["x"], ("g",), True)]),
        ("y ~ ((0 + x) | g)", [(False, ["x"], ("g",), True)]),
        ("y ~ (poly(x, 2) | g)", [(True, ["poly(x, 2)"], ("g",), True)]),
    ],
)
def test_random_terms(text, random):
    found = [(*terms_of(part.coefficients), part.factors, part.correlated) for part in parsed(text).random]
    assert found == random


def test_sides_and_offsets():
    formula = parsed("I(y / 2) ~ offset(2 * x) + a + offset(log(z)) + (1 | g)")
    assert formula.response.name == "I(y/2)"
    assert [one.name for one in formula.offsets] == ["offset(2 * x)", "offset(log(z))"]
    assert parsed("~ x + (1 | g)").response is None


@pytest.mark.parametrize(
    ("text", "at", "problem"),
    [
        ("y ~ x +", 7, r"a term is missing after '\+'"),
        ("y ~ x * + (1 | g)", 7, r"a term is missing after '\*'"),
        ("y x", 0, "there is no '~'"),
        ("", 0, "there is no '~'"),
        ("y ~", 3, "nothing stands after '~'"),
        ("y ~ x ~ z", 6, "a formula has one '~'"),
        ("y ~ x + (1 | g", 8, r"this '\(' is not closed"),
        ("y ~ x) + (1 | g)", 5, r"this '\)' closes nothing"),
        ("y ~ `x + (1 | g)", 4, "the backtick is not closed"),
        ("y ~ x z", 6, "a sign is missing before 'z'"),
        ("y ~ x @ z", 6, "is not part of the language"),
        ("y ~ w + (1 | g)", 4, "'w' is not a column of the data"),
        ("y ~ x + (1 | w)", 13, "'w' is not a column of the data"),
        ("w ~ x + (1 | g)", 0, "'w' is not a column of the data"),
        ("y ~ foo(x) + (1 | g)", 4, "'foo' is not a function of formulas"),
        ("y ~ I(x.mean()) + (1 | g)", 6, "'x.mean' is not a function of formulas"),
        ("y ~ x - x.mean() + (1 | g)", 8, "'x.mean' is not a function of formulas"),
        ("score-1 ~ x + (1 | g)", 0, "the left side must be a column"),
        ("y + x ~ a + (1 | g)", 0, "the left side must be a column"),
        ("y ~ x | g", 6, "a random term stands in parentheses of its own"),
        ("y ~ x * (1 | g)", 11, "a random term stands in parentheses of its own"),
        ("y ~ x - (1 | g)", 11, "a random term stands in parentheses of its own"),
        ("y ~ (1 | g | a)", 11, "a random term has one"),
        ("y ~ ( | g)", 6, "nothing stands before"),
        ("y ~ (1 | )", 8, "the grouping factor is missing"),
        ("y ~ (0 | g)", 5, r"lets no coefficient vary: write \(1 \| g\) for a random intercept\."),
        ("y ~ (0 | g:a)", 5, r"write \(1 \| g:a\) for a random intercept"),
        ("y ~ (. | g)", 5, "name the columns whose coefficients vary"),
        ("y ~ (1 | g + a)", 11, "name one column as the grouping factor, or columns joined by ':'"),
        ("y ~ (1 | log(x))", 12, "name one column as the grouping factor"),
        ("y ~ (1 | dose mg)", 14, "put the names of columns with spaces or signs between backticks"),
        ("y ~ 2 * x + (1 | g)", 4, "a number in a formula is 0 or 1"),
        ("y ~ x^z + (1 | g)", 6, "an exponent is a whole number"),
        ("y ~ x^1.5 + (1 | g)", 6, "an exponent is a whole number"),
        ("y ~ I() + (1 | g)", 5, "nothing stands between the brackets"),
        ("y ~ I(x | z) + (1 | g)", 8, r"'\|' is not covered within a function"),
        ("y ~ x - offset(z) + (1 | g)", 8, "an offset can only be added"),
        ("y ~ x + y + (1 | g)", 8, "'y' is the outcome, and cannot explain itself"),
        ("log(y) ~ x + offset(y) + (1 | g)", 20, "'y' is the outcome"),
        ("y ~ a - - b + (1 | g)", 8, "two minus signs stand beside each other"),
        ("y ~ a:-b + (1 | g)", 4, "these terms cannot be expanded"),
        ("y ~ a * 1 + (1 | g)", 8, "a number in a formula is 0 or 1, beside a plus or minus"),
        ("y ~ log(x +) + (1 | g)", 11, r"a value is missing before '\)'"),
        ("y ~ I(* x) + (1 | g)", 6, r"a value is missing before '\*'"),
        ("y ~ I(2x) + (1 | g)", 7, "a sign is missing before 'x'"),
        ("y ~ log(x z) + (1 | g)", 10, "a sign is missing before 'z'"),
        ("y ~ np.log(x, z) + (1 | g)", 4, r"np.log takes 1 argument\(s\), and is given 2"),
        ("y ~ I(5) + (1 | g)", 4, "names no column of the data"),
        ("y ~ factor(1) + (1 | g)", 4, "names no column of the data"),
        ("y ~ I(NULL) + (1 | g)", 6, "'NULL' is not a column"),
        ("y ~ x,z + (1 | g)", 5, "a comma stands within functions only"),
        ("y ~ x + (1 | g), REML=FALSE", 15, "a comma stands within functions only"),
        ("y ~ x + (1, g)", 10, r"a bar is missing, as in \(1 \| group\)"),
        ("y ~ x + (1 g)", 10, r"a bar is missing, as in \(1 \| group\)"),
        ("y ~ d$x + (1 | g)", 5, "write the name of the column alone"),
        ("y ~ dose mg + (1 | g)", 4, "'dose' is not a column of the data; write `dose mg` between backticks"),
        ("y ~ log(dose mg) + (1 | g)", 8, "write `dose mg` between backticks"),
        ("y ~ score-1 + (1 | g)", 4, "write `score-1` between backticks"),
        ("y ~ dose mgs + (1 | g)", 4, "'dose' is not a column of the data, which has"),
        ("y ~ Z + (1 | g)", 4, "'Z' is not a column of the data, which has 'z'"),
        ('y ~ relevel(a, "b") + (1 | g)', 4, r'C\(x, contr.treatment\("B"\)\) compares with the level B'),
        ("y ~ log(x", 7, r"this '\(' is not closed"),
    ],
)
def test_errors_point_at_the_place(text, at, problem):
    with pytest.raises(ValueError, match=problem) as raised:
        parsed(text)
    _, line, caret = str(raised.value).split("\n")
    assert line == f"    {text}"
    assert caret == " " * (4 + at) + "^"


def test_an_error_in_a_formula_of_several_lines_shows_the_line():
    with pytest.raises(ValueError, match="not a column") as raised:
        parsed("y ~ x +\n  wrong + (1 | g)")
    assert str(raised.value).split("\n")[1:] == ["      wrong + (1 | g)", "      ^"]


@pytest.mark.parametrize(
    ("text", "in_r_words"),
    [
        ("I( x*z+1 )", "I(x * z + 1)"),
        ("I((x-1)/2)", "I((x - 1)/2)"),
        ("I(-x ** 2)", "I(-x^2)"),
        ("poly( x,2,raw=True )", "poly(x, 2, raw = TRUE)"),
        ("bs(x,df = 4.0)", "bs(x, df = 4)"),
        ("I(f=='u')", 'I(f == "u")'),
        ("log(`dose mg`)", "log(`dose mg`)"),
        ("log(`x`)", "log(x)"),
        ("I(x>1e-3)", "I(x > 0.001)"),
        ("I(x %% 2)", "I(x%%2)"),
    ],
)
def test_expressions_are_written_as_r_does(text, in_r_words):
    assert in_r(FormulaText(text).tokens) == in_r_words
