"""The notation of random terms: what a text stands for, its printed form, and errors that point at the place."""

import random
import re
import string

import pytest

from sklearn_mlm.likelihood._random_terms import INTERCEPT, RandomTerm, parse_random_effects

TERMS = {
    "(1 | g)": (True, ()),
    "(x | g)": (True, ("x",)),
    "(1 + x | g)": (True, ("x",)),
    "(x + 1 + z | g)": (True, ("x", "z")),
    "(z + x | g)": (True, ("z", "x")),
    "(0 + x | g)": (False, ("x",)),
    "(x + 0 + z | g)": (False, ("x", "z")),
    "(-1 + x | g)": (False, ("x",)),
    "(x - 1 | g)": (False, ("x",)),
    "(x - 1 + z | g)": (False, ("x", "z")),
    "(1 - 0 | g)": (True, ()),
    "(0 + 1 | g)": (True, ()),
    "(1 + 1 | g)": (True, ()),
    "(1 + 0 + x | g)": (False, ("x",)),
    "(x.1 + _y + été_2 | g)": (True, ("x.1", "_y", "été_2")),
    "(`a b` + `1` + `x` | g)": (True, ("a b", "1", "x")),
    "(`(1 | h)` | g)": (True, ("(1 | h)",)),
}


@pytest.mark.parametrize("text", TERMS)
def test_a_term_has_the_coefficients_that_lmer_gives_it(text):
    intercept, columns = TERMS[text]
    assert parse_random_effects(text) == [RandomTerm("g", intercept, columns)]


def test_two_bars_make_the_coefficients_independent():
    assert parse_random_effects("(1 + x || g)") == [RandomTerm("g", True, ("x",), correlated=False)]
    assert parse_random_effects("(1 + x | g)") == [RandomTerm("g", True, ("x",), correlated=True)]


@pytest.mark.parametrize("text", ["(1+x|g)", " ( 1\t+ x|g ) ", "(1 + x\n|\n`g`)", "(x|g)", "(\xa01 + x | g)"])
def test_spaces_and_quotes_that_are_not_needed_make_no_difference(text):
    assert parse_random_effects(text) == [RandomTerm("g", True, ("x",))]


def test_terms_are_joined_by_plus_in_the_order_of_the_text():
    expected = [RandomTerm("g", False, ("x",)), RandomTerm("g", True, ()), RandomTerm("a b", True, ("z",), False)]
    assert parse_random_effects("(0 + x | g) + (1 | g)+(z || `a b`)") == expected


# The columns of labels of the factors that a grouping stands for.
GROUPINGS = {
    "a:b": [("a", "b")],
    "b:a": [("b", "a")],
    "a:b:c": [("a", "b", "c")],
    "a/b": [("a",), ("a", "b")],
    "a / b / c": [("a",), ("a", "b"), ("a", "b", "c")],
    "a/b:c": [("a",), ("a", "b", "c")],
    "a:b/c": [("a", "b"), ("a", "b", "c")],
    "`a/b`": [("a/b",)],
    "`a:b`:`c d`": [("a:b", "c d")],
    "`a:b`/c": [("a:b",), ("a:b", "c")],
}


@pytest.mark.parametrize("text", GROUPINGS)
def test_factors_are_combinations_of_columns_and_a_slash_stands_for_a_term_each(text):
    found = parse_random_effects(f"(1 + x || {text})")
    assert [term.label_columns for term in found] == GROUPINGS[text]
    assert [term.factor for term in found] == [":".join(columns) for columns in GROUPINGS[text]]
    assert {(term.intercept, term.columns, term.correlated) for term in found} == {(True, ("x",), False)}
    # A factor of one column has the same term as ever; a column whose name has a colon is not two columns.
    assert [term.grouping for term in found] == [columns if len(columns) > 1 else () for columns in GROUPINGS[text]]
    assert parse_random_effects(" + ".join(map(str, found))) == found


def test_terms_of_several_factors_are_in_the_order_of_the_text():
    found = parse_random_effects("(1 | item) + (x | a/b)")
    assert [str(term) for term in found] == ["(1 | item)", "(1 + x | a)", "(1 + x | a:b)"]


def test_coefficients_are_named_the_intercept_first():
    assert RandomTerm("g", True, ("x", "z")).coefficients == (INTERCEPT, "x", "z")
    assert RandomTerm("g", False, ("x",)).coefficients == ("x",)
    assert INTERCEPT == "(Intercept)"


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (RandomTerm("g", True, ()), "(1 | g)"),
        (RandomTerm("g", False, ("x",)), "(0 + x | g)"),
        (RandomTerm("g", True, ("x", "z.2"), False), "(1 + x + z.2 || g)"),
        (RandomTerm("a b", True, ("x-1", "é")), "(1 + `x-1` + é | `a b`)"),
        (RandomTerm("g", False, ("1", "0", "2x", " x")), "(0 + `1` + `0` + `2x` + ` x` | g)"),
        (RandomTerm("0", True, ("||",)), "(1 + `||` | `0`)"),
    ],
)
def test_a_term_prints_in_the_notation(term, text):
    assert str(term) == text
    assert parse_random_effects(text) == [term]


def test_what_is_printed_is_what_is_parsed_whatever_the_names():
    generator = random.Random(0)
    alphabet = string.ascii_letters + string.digits + string.punctuation.replace("`", "") + " \téж中"

    def name():
        return "".join(generator.choices(alphabet, k=generator.randint(1, 6)))

    for _ in range(500):
        terms = []
        for _ in range(generator.randint(1, 3)):
            columns = tuple(dict.fromkeys(name() for _ in range(generator.randint(0, 3))))
            grouping = tuple(dict.fromkeys(name() for _ in range(generator.randint(1, 3))))
            intercept, correlated = not columns or generator.random() < 0.5, generator.random() < 0.5
            terms.append(RandomTerm.of_grouping(grouping, intercept, columns, correlated))
        assert parse_random_effects(" + ".join(map(str, terms))) == terms


def test_blocks_are_the_term_itself_or_one_for_each_coefficient():
    term = RandomTerm("g", True, ("x", "z"))
    assert term.blocks() == [term]
    separate = [RandomTerm("g", True, ()), RandomTerm("g", False, ("x",)), RandomTerm("g", False, ("z",))]
    assert term.blocks(correlated=False) == separate
    (independent,) = parse_random_effects("(1 + x + z || g)")
    assert independent.blocks() == independent.blocks(correlated=False) == separate
    assert RandomTerm("g", False, ("x",), False).blocks() == [RandomTerm("g", False, ("x",))]


NAME_OR_NUMBER = "stands where 0, 1 or the name of a column should"
FACTOR = "stands where the name of a grouping factor should"
SIGN = r"stands where '\+' or '-' or '\|' or '\|\|' should"
QUOTE = "is not part of the notation; put a name with such characters between backticks"
PRODUCT = "is not covered: name a column of the product instead"
BETWEEN = r"is not covered between factors: a/b are the factors a and a:b, and \(1 \| a\) \+ \(1 \| b\) two factors"
TWICE = "names a factor twice"
# What cannot be read, where that begins, and what the message says of it.
WRONG = [
    ("", 0, r"'\(' is missing at the end"),
    ("1 + x | g", 0, r"stands where '\(' should"),
    ("(1 | g) (1 | h)", 8, r"stands where '\+' should"),
    ("(1 | g))", 7, r"stands where '\+' should"),
    ("(1 | g) - (1 | h)", 8, r"stands where '\+' should"),
    ("(1 | g) + ", 10, r"'\(' is missing at the end"),
    ("(1 + x)", 6, SIGN),
    ("(log(x) | g)", 4, PRODUCT),
    ("(1 x | g)", 3, SIGN),
    ("(1 + x | g", 10, r"'\)' is missing at the end"),
    ("(1 + x | g  ", 12, r"'\)' is missing at the end"),
    ("(1 +", 4, "0, 1 or the name of a column is missing at the end"),
    ("(1 -", 4, "0, 1 or the name of a column is missing at the end"),
    ("(1 |", 4, "the name of a grouping factor is missing at the end"),
    ("(1 | g | h)", 7, r"stands where '\)' should"),
    ("()", 1, NAME_OR_NUMBER),
    ("( | g)", 2, NAME_OR_NUMBER),
    ("((1 | g))", 1, NAME_OR_NUMBER),
    ("(1 + | g)", 5, NAME_OR_NUMBER),
    ("(1 + 2 | g)", 5, NAME_OR_NUMBER),
    ("(1.0 | g)", 1, NAME_OR_NUMBER),
    ("(1 + 2x | g)", 5, NAME_OR_NUMBER),
    ("(1 | )", 5, FACTOR),
    ("(1 | 1)", 5, FACTOR),
    ("(1 ||| g)", 5, FACTOR),
    ("(1 + x, z | g)", 6, QUOTE),
    ("(1 + 'x' | g)", 5, QUOTE),
    ("(1 | `a)", 5, QUOTE),
    ("(1 | ``)", 5, QUOTE),
    ("(x - z | g)", 5, "cannot be taken away: only -1 leaves something out"),
    ("(-x | g)", 2, "cannot be taken away"),
    ("(1 + x + z + x | g)", 13, "occurs twice in its term"),
    ("(1 + x:z | g)", 6, PRODUCT),
    ("(x*z | g)", 2, PRODUCT),
    ("(x^2 | g)", 2, PRODUCT),
    ("(x/z | g)", 2, PRODUCT),
    ("(1 | g + h)", 7, BETWEEN),
    ("(1 | g*h)", 6, BETWEEN),
    ("(1 | g/h + k)", 9, BETWEEN),
    ("(1 | g:g)", 6, TWICE),
    ("(1 | g/h/g)", 8, TWICE),
    ("(1 | g/h:g)", 8, TWICE),
    ("(1 | g:)", 7, FACTOR),
    ("(1 | g/)", 7, FACTOR),
    ("(1 | /h)", 5, FACTOR),
    ("(1 | g//h)", 7, FACTOR),
    ("(1 | g/1)", 7, FACTOR),
    ("(1 | g/", 7, "the name of a grouping factor is missing at the end"),
    ("(1 | g^h)", 6, r"stands where '\)' should"),
    ("(1 | g/(h + k))", 7, FACTOR),
]


@pytest.mark.parametrize(("text", "at", "problem"), WRONG, ids=[text for text, *_ in WRONG])
def test_an_error_points_at_the_place_and_says_what_should_stand_there(text, at, problem):
    # Characters are counted from 1.
    found = f"{text[at : at + 12]!r} at character {at + 1} " if at < len(text.rstrip()) else ""
    with pytest.raises(ValueError, match=problem) as caught:
        parse_random_effects(text)
    expected = f'random_effects must be terms such as "(1 + x | group)", joined by +: in {text!r}, {found}'
    assert re.match(re.escape(expected) + problem, str(caught.value))


def test_a_whole_formula_is_told_from_random_terms():
    with pytest.raises(ValueError, match=r"hold random terms alone, such as .*; found the formula 'y ~ x"):
        parse_random_effects("y ~ x + (1 | g)")
    assert parse_random_effects("(1 + `a~b` | g)")[0].columns == ("a~b",)


@pytest.mark.parametrize("text", ["(0 | g)", "(-1 | g)", "(1 - 1 | g)", "(1 | g) + (0 || g)"])
def test_a_term_without_a_coefficient_is_refused(text):
    with pytest.raises(ValueError, match=r"lets no coefficient vary: write \(1 \| g\) for a random intercept\."):
        parse_random_effects(text)


@pytest.mark.parametrize("value", [None, 1, ["(1 | g)"], b"(1 | g)"])
def test_what_is_no_text_is_refused_by_value(value):
    with pytest.raises(ValueError, match="random_effects must be a text such as") as caught:
        parse_random_effects(value)
    assert f"found {value!r}" in str(caught.value)
