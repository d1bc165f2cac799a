"""From the text of a formula to its terms; the algebra of terms is that of formulaic."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from ._sums import COMPARISONS, FACTOR_FUNCTIONS, arguments_of, bars_of, check_signs, in_parentheses, signed, without_numbers
from ._tokens import FormulaText, Token, closing, in_python, in_r, parts_between

_CONSTANTS = ("TRUE", "FALSE", "True", "False")
# What to write in place of functions of R, and of some of Python.
_INSTEAD = {
    "relevel": 'C(x, contr.treatment("B")) compares with the level B, as does a pandas.Categorical that begins with it',
    "ifelse": "I(x > 5) is TRUE where the condition holds",
    "cut": "make the column with pandas.cut first",
    "pd.cut": "make the column with pandas.cut first",
    "interaction": "write a:b",
    "ns": "cr(x, df=4) is a natural cubic spline",
    "s": "bs(x, df=4) and cr(x, df=4) are splines",
    "mean": "center(x) is x less its mean",
    "as.numeric": "columns of numbers are taken as they are; pandas.to_numeric makes numbers of text",
    "Error": "a random term is (1 | g)",
    "re": "a random term is (1 | g)",
    "lag": "make the column with the method shift of pandas first",
    "cbind": "the outcome is one column",
}
_ADVICE_OF_NAME = "put the names of columns with spaces or signs between backticks"


@dataclass(frozen=True)
class Expression:
    """Stores what a formula treats as one variable: a column of the data, or a function of columns.

    Attributes
    ----------
    name : str
        The expression as R writes it, or the name of the column.
    columns : tuple of str
        Names of the columns that it needs.
    python : str
        The expression in Python, with the columns under the names that `names_in_python` gives them.
    function : str or None
        Name of the function; None for a column.
    arguments : tuple of tuple of Token
        The arguments of a function whose value is a factor, without commas.
    logical : bool
        Whether the value is the result of a comparison.
    at : int
        Position in the formula.
    """

    name: str
    columns: tuple[str, ...]
    python: str
    function: str | None = None
    arguments: tuple[tuple[Token, ...], ...] = ()
    logical: bool = False
    at: int = 0


@dataclass(frozen=True)
class TermList:
    """Stores the terms of a fixed or random part, in R's order: by their number of variables, then as they are written.

    Attributes
    ----------
    intercept : bool
        Whether there is an intercept.
    terms : tuple of tuple of Expression
        The variables of each term, in the order in which the formula mentions them first.
    """

    intercept: bool
    terms: tuple[tuple[Expression, ...], ...]


@dataclass(frozen=True)
class RandomPart:
    """Stores a term ``( | )`` of the formula.

    Attributes
    ----------
    coefficients : TermList
        The terms whose coefficients vary.
    factors : tuple of str
        Names of the columns whose combinations of values are the groups.
    correlated : bool
        False for ``||``.
    text : str
        The term as R writes it.
    at : int
        Position in the formula.
    """

    coefficients: TermList
    factors: tuple[str, ...]
    correlated: bool
    text: str
    at: int


@dataclass(frozen=True)
class ParsedFormula:
    """Stores the parts of a formula.

    Attributes
    ----------
    text : FormulaText
        The formula and its tokens.
    response : Expression or None
        The left side; None for a one-sided formula.
    fixed : TermList
        The fixed part.
    random : tuple of RandomPart
        The random terms.
    offsets : tuple of Expression
        What is added to the fixed part with the coefficient 1.
    """

    text: FormulaText
    response: Expression | None
    fixed: TermList
    random: tuple[RandomPart, ...]
    offsets: tuple[Expression, ...]

    @property
    def expressions(self) -> dict[str, Expression]:
        """All variables of the fixed and the random part by name, in the order of the formula."""
        lists = [self.fixed, *(part.coefficients for part in self.random)]
        return {one.name: one for terms in lists for term in terms.terms for one in term}


def parse_formula(
    text: str, columns: Sequence[str], functions: Mapping[str, object], reserved: Collection[str] = ()
) -> ParsedFormula:
    """Return the parts of a formula.

    Parameters
    ----------
    text : str
        A formula in the notation of lmer, such as ``y ~ x + (1 | group)``.
    columns : sequence of str
        Names of the columns of the data.
    functions : mapping of str to object
        Functions that formulas may call, by name; functions whose value is a factor are known.
    reserved : collection of str, default=()
        Columns that ``.`` does not stand for, besides the outcome and the grouping factors.

    Returns
    -------
    formula : ParsedFormula
        The parts.

    Raises
    ------
    ValueError
        If the formula cannot be read, or names an unknown column or function; the message points at the place.
    """
    return _Reader(FormulaText(text), columns, functions, reserved).formula()


def names_in_python(columns: Sequence[str]) -> dict[str, str]:
    """Return what each column is called in expressions of Python, in which not every name can be a variable."""
    return {name: f"column{at}" for at, name in enumerate(columns)}


class _Reader:
    """Reads the tokens of a formula."""

    def __init__(
        self, text: FormulaText, columns: Sequence[str], functions: Mapping[str, object], reserved: Collection[str]
    ):
        self.text, self.columns, self.functions = text, list(columns), functions
        self.in_python = names_in_python(columns)
        self.reserved = set(reserved)

    def formula(self) -> ParsedFormula:
        """Return the parts of the formula."""
        sides = parts_between(self.text.tokens, "~")
        if len(sides) != 2:
            second = [token for token in self.text.tokens if token.is_sign("~")][1:2]
            if second:
                raise self.text.error("a formula has one '~'", second[0].at)
            raise self.text.error("there is no '~' between the outcome and its terms, as in y ~ x + (1 | group)", 0)
        left, right = sides
        comma = parts_between(self.text.tokens, ",")
        if len(comma) > 1:
            at = comma[0][-1] if comma[0] else self.text.tokens[0]
            raise self.text.error(
                "a comma stands within functions only: join terms by '+', and pass options such as REML=False outside of "
                "the formula's quotes",
                at.at + len(at.text),
            )
        response = self._response(left) if left else None
        if not right:
            raise self.text.error("nothing stands after '~'; a model without predictors is 'y ~ 1 + (1 | group)'", self._end)
        fixed, bars, offsets = self._summands(right)
        self._check_outcome(response, [*fixed, *(token for offset in offsets for token in offset)])
        random = tuple(part for bar in bars for part in self._random(bar))
        self.reserved.update(factor for part in random for factor in part.factors)
        if response is not None:
            self.reserved.update(response.columns)
        return ParsedFormula(self.text, response, self._terms(fixed), random, tuple(map(self._offset, offsets)))

    def _check_outcome(self, response: Expression | None, tokens: Sequence[Token]) -> None:
        """Raise if a column of the left side is on the right, too."""
        for token in tokens:
            if response is not None and token.is_name and token.text in response.columns:
                raise self.text.error(f"{token.text!r} is the outcome, and cannot explain itself", token.at)

    @property
    def _end(self) -> int:
        """Position after the formula."""
        return len(self.text.text.rstrip())

    def _response(self, tokens: list[Token]) -> Expression:
        """Return the left side, which is a column or a function of columns."""
        if len(tokens) == 1 and tokens[0].is_name:
            return self._column(tokens[0])
        if len(tokens) > 1 and tokens[1].is_sign("(") and closing(tokens, 1) == len(tokens) - 1:
            return self._call(tokens)
        raise self.text.error(
            "the left side must be a column, or a function such as log(y) or I(y / 2); " + _ADVICE_OF_NAME, tokens[0].at
        )

    def _summands(self, tokens: list[Token]) -> tuple[list[Token], list[list[Token]], list[list[Token]]]:
        """Return the tokens of the fixed part, those within each random term, and those of each offset."""
        fixed: list[Token] = []
        bars: list[list[Token]] = []
        offsets: list[list[Token]] = []
        for signs, summand in signed(tokens):
            bar = bars_of(summand)
            minus = next((sign for sign in signs if sign.text == "-"), None)
            inner = (
                summand[1:-1] if summand and summand[0].is_sign("(") and closing(summand, 0) == len(summand) - 1 else None
            )
            if summand and summand[0].text == "offset" and summand[0].kind == "name" and summand[1:2]:
                if minus is not None or closing(summand, 1) != len(summand) - 1:
                    raise self.text.error("an offset can only be added", summand[0].at)
                offsets.append(summand)
            elif bar and inner is not None and minus is None:
                if len(parts_between(inner, "|", "||")) > 1:
                    bars.append(inner)
                else:
                    # Random terms within further parentheses.
                    more, more_bars, more_offsets = self._summands(inner)
                    fixed += ([signs[-1]] if signs and fixed else []) + in_parentheses(more, summand) if more else []
                    bars += more_bars
                    offsets += more_offsets
            elif bar:
                raise self.text.error(
                    "a random term stands in parentheses of its own, joined to the others by '+': ... + (1 + x | group)",
                    bar[0].at,
                )
            else:
                fixed += [*signs, *summand]
        while fixed and fixed[0].is_sign("+"):
            del fixed[0]
        return fixed, bars, offsets

    def _random(self, tokens: list[Token]) -> Iterator[RandomPart]:
        """Yield the random terms that one pair of parentheses stands for: several if it nests factors."""
        parts = parts_between(tokens, "|", "||")
        signs = [token for token in tokens if token.is_sign("|", "||")]
        if len(parts) != 2:
            raise self.text.error("a random term has one '|'", signs[1].at)
        left, right = parts
        if not left:
            raise self.text.error("nothing stands before '|': write 1 for the intercept", signs[0].at)
        if not right:
            raise self.text.error("the grouping factor is missing after '|'", signs[0].at + len(signs[0].text))
        for one in left:
            if one.text == "." and one.kind == "name":
                raise self.text.error(
                    "name the columns whose coefficients vary: '.' stands for those of the fixed part", one.at
                )
        coefficients = self._terms(left)
        if not coefficients.intercept and not coefficients.terms:
            problem = f"this term lets no coefficient vary: write (1 | {in_r(right)}) for a random intercept"
            raise self.text.error(problem, left[0].at)
        for factors in self._grouping(right):
            text = f"({in_r(left)} {signs[0].text} {':'.join(factors)})"
            yield RandomPart(coefficients, factors, signs[0].text == "|", text, tokens[0].at)

    def _grouping(self, tokens: list[Token]) -> list[tuple[str, ...]]:
        """Return the grouping factors, each a tuple of columns: one, or one for each level of nesting."""
        nested: list[tuple[str, ...]] = []
        for part in parts_between(tokens, "/"):
            if not part:
                raise self.text.error("a grouping factor is missing beside '/'", tokens[0].at)
            names = []
            for word in parts_between(part, ":"):
                while len(word) > 2 and word[0].is_sign("(") and closing(word, 0) == len(word) - 1:
                    word = word[1:-1]
                if len(word) > 3 and word[0].text in FACTOR_FUNCTIONS and closing(word, 1) == len(word) - 1:
                    word = word[2:-1]
                if len(word) != 1 or not word[0].is_name:
                    at = (word[1] if len(word) > 1 else word[0] if word else part[0]).at
                    problem = f"name one column as the grouping factor, or columns joined by ':'; {_ADVICE_OF_NAME}"
                    raise self.text.error(problem, at)
                names.append(self._column(word[0]).name)
            nested.append((*(nested[-1] if nested else ()), *names))
        return nested

    def _offset(self, tokens: list[Token]) -> Expression:
        """Return an offset, whose value is that of the expression in parentheses."""
        call = self._call([Token("name", "I", tokens[0].at), *tokens[1:]])
        return Expression(in_r(tokens), call.columns, call.python, "offset", at=tokens[0].at)

    def _terms(self, tokens: list[Token]) -> TermList:
        """Return the terms of an expression in the algebra of formulas, which formulaic expands."""
        from formulaic import Formula

        intercept, tokens = without_numbers(self.text, tokens)
        if not tokens:
            return TermList(intercept, ())
        atoms: dict[str, Expression] = {}
        words = []
        for word in self._words(tokens):
            if isinstance(word, Expression):
                atoms.setdefault(word.name, word)
                words.append(f"atom{list(atoms).index(word.name)}")
            else:
                words.append(word)
        try:
            expanded = list(Formula(f"0 + {' '.join(words)}"))
        except Exception as error:
            raise self.text.error("these terms cannot be expanded", tokens[0].at) from error
        order = {f"atom{at}": at for at in range(len(atoms))}
        by_place = list(atoms.values())
        terms: dict[tuple[int, ...], None] = {}
        for term in expanded:
            terms[tuple(sorted({order[factor.expr] for factor in term.factors}))] = None
        ordered = sorted(terms, key=len)
        return TermList(intercept, tuple(tuple(by_place[at] for at in places) for places in ordered))

    def _words(self, tokens: Sequence[Token]) -> Iterator[Expression | str]:
        """Yield the variables, numbers and signs of an expression; raise where a variable or a sign is missing."""
        at, expects_term = 0, True
        while at < len(tokens):
            token = tokens[at]
            if expects_term:
                stop = at + 1
                if at and tokens[at - 1].is_sign("^", "**") and token.kind != "number":
                    raise self.text.error("an exponent is a whole number; arithmetic belongs into I(...)", token.at)
                if token.is_sign("+", "-", "("):
                    yield token.text
                    at = stop
                    continue
                if token.kind == "number":
                    yield self._number(tokens, at)
                elif token.kind == "name" and token.text == ".":
                    yield from self._all_columns(token)
                elif token.is_name:
                    if token.kind == "name" and stop < len(tokens) and tokens[stop].is_sign("("):
                        stop = closing(tokens, stop) + 1
                        yield self._call(list(tokens[at:stop]))
                    else:
                        yield self._column(token)
                else:
                    raise self.text.error(f"a term is missing before {token.text!r}", token.at)
                at, expects_term = stop, False
            elif token.is_sign(")"):
                yield ")"
                at += 1
            elif token.is_sign("+", "-", "*", "/", ":", "^", "**", "%in%"):
                yield {"^": "**", "%in%": ":"}.get(token.text, token.text)
                at, expects_term = at + 1, True
            else:
                raise self.text.error(
                    f"a sign is missing before {token.text!r}, or {token.text!r} belongs into I(...); {_ADVICE_OF_NAME}",
                    token.at,
                )
        if expects_term:
            last = tokens[-1]
            raise self.text.error(f"a term is missing after {last.text!r}", last.at + len(last.text))

    def _number(self, tokens: Sequence[Token], at: int) -> str:
        """Return an exponent; raise for other numbers, because 0 and 1 have been taken out."""
        token = tokens[at]
        if at + 1 < len(tokens) and (tokens[at + 1].is_name or tokens[at + 1].is_sign(",")):
            raise self.text.error("a bar is missing, as in (1 | group)", token.at + len(token.text))
        exponent = at > 0 and tokens[at - 1].is_sign("^", "**")
        if exponent and token.text.isdigit() and int(token.text) > 0:
            return token.text
        what = "an exponent is a whole number" if exponent else "a number in a formula is 0 or 1, beside a plus or minus"
        raise self.text.error(f"{what}; arithmetic belongs into I(...), such as I(x ** 2)", token.at)

    def _all_columns(self, token: Token) -> Iterator[Expression | str]:
        """Yield what '.' stands for: the sum of the columns that have no other part in the formula."""
        names = [name for name in self.columns if name not in self.reserved]
        if not names:
            raise self.text.error("'.' stands for no column: all have another part in the model", token.at)
        yield "("
        for at, name in enumerate(names):
            if at:
                yield "+"
            yield Expression(name, (name,), self.in_python[name], at=token.at)
        yield ")"

    def _column(self, token: Token) -> Expression:
        """Return the column that a token names."""
        if token.text not in self.in_python:
            raise self.text.error(f"{token.text!r} is not a column of the data{self._meant(token)}", token.at)
        return Expression(token.text, (token.text,), self.in_python[token.text], at=token.at)

    def _meant(self, token: Token) -> str:
        """Return the column that a wrong name may mean, or those that there are, in words."""
        if (whole := self.text.name_at(token.at, self.columns)) is not None:
            return f"; write `{whole}` between backticks"
        by_spelling = {column.lower().strip(): column for column in self.columns}
        close = get_close_matches(token.text.lower(), by_spelling, n=1, cutoff=0.8)
        if close:
            column = by_spelling[close[0]]
            quoted = "" if column == column.strip() else ", with a space at its end or beginning"
            return f", which has {column!r}{quoted}"
        return f", which has {', '.join(map(repr, self.columns[:12]))}{', ...' if len(self.columns) > 12 else ''}"

    def _call(self, tokens: list[Token]) -> Expression:
        """Return the expression of a call; `tokens` end with its closing bracket."""
        name = tokens[0].text
        if name not in FACTOR_FUNCTIONS:
            self._check_function(tokens[0], tokens[1:])
        if len(tokens) == 3:
            raise self.text.error("nothing stands between the brackets", tokens[1].at)
        if name in FACTOR_FUNCTIONS:
            arguments = arguments_of(tokens)
            self._check_inside(arguments[0], tokens[1])
            columns = self._columns_in(arguments[0])
            if not columns:
                raise self.text.error("this factor names no column of the data", tokens[0].at)
            inner = in_python(arguments[0], self.in_python)
            return Expression(in_r(tokens), columns, inner, name, arguments, self._compares(arguments[0]), tokens[0].at)
        self._check_inside(tokens, tokens[1])
        logical = name == "I" and self._compares(tokens[2:-1])
        columns = self._columns_in(tokens[2:-1])
        if not columns:
            raise self.text.error("this function names no column of the data", tokens[0].at)
        return Expression(in_r(tokens), columns, in_python(tokens, self.in_python), name, (), logical, tokens[0].at)

    @staticmethod
    def _compares(tokens: Sequence[Token]) -> bool:
        """Return whether an expression is a comparison."""
        return len(parts_between(tokens, *COMPARISONS)) > 1

    def _columns_in(self, tokens: Sequence[Token]) -> tuple[str, ...]:
        """Return the names of the columns in an expression."""
        names = [
            token.text
            for token, after in zip(tokens, [*tokens[1:], None], strict=True)
            if token.is_name and token.text in self.in_python and not (after is not None and after.is_sign("("))
        ]
        return tuple(dict.fromkeys(names))

    def _check_inside(self, tokens: Sequence[Token], bracket: Token) -> None:
        """Raise unless an expression of Python consists of known columns and functions, and of signs that mean the same."""
        if not tokens:
            raise self.text.error("nothing stands before the comma", bracket.at)
        for token, after in zip(tokens, [*tokens[1:], None], strict=True):
            if token.is_sign("|", "||", "~", ":", "%in%", "["):
                raise self.text.error(
                    f"{token.text!r} is not covered within a function; make the values a column of the data first", token.at
                )
            if token.kind == "quoted":
                self._column(token)
            elif token.kind == "name" and after is not None and after.is_sign("("):
                at = tokens.index(token)
                self._check_function(token, tokens[at + 1 : closing(tokens, at + 1) + 1])
            elif token.kind == "name" and not (after is not None and after.is_sign("=")) and token.text not in _CONSTANTS:
                self._column(token)
        check_signs(self.text, tokens, _ADVICE_OF_NAME)

    def _check_function(self, token: Token, brackets: Sequence[Token]) -> None:
        """Raise unless a token names a known function, with as many arguments as it takes."""
        first = token.text.partition(".")[0]
        function = self.functions.get(token.text) or (
            getattr(self.functions["np"], token.text[3:], None) if first == "np" else None
        )
        if function is not None:
            n_arguments = len(parts_between(brackets[1:-1], ","))
            most = getattr(function, "nin", n_arguments)
            if n_arguments > most:
                raise self.text.error(f"{token.text} takes {most} argument(s), and is given {n_arguments}", token.at)
            return
        name = token.text
        spelt = next((column for column in self.columns if column.startswith((f"{name} ", f"{name}("))), None)
        if spelt is not None:
            raise self.text.error(f"put the name of the column {spelt!r} between backticks", token.at)
        if name in _INSTEAD:
            raise self.text.error(f"{name} is not a function of formulas: {_INSTEAD[name]}", token.at)
        known = ", ".join(sorted(one for one in (*self.functions, *FACTOR_FUNCTIONS, "offset") if one != "np"))
        raise self.text.error(
            f"{token.text!r} is not a function of formulas, which are {known} and those of numpy, such "
            "as np.sqrt (center, scale and poly, unlike x - x.mean(), remember what fit learnt)",
            token.at,
        )
