"""`RandomTerm`: a term `( | )` of the random part of a model, and the parser of its notation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

INTERCEPT = "(Intercept)"
"""Name of the intercept in tables, as in lmer."""

_EXAMPLE = '"(1 + x | group)"'
# A name, quoted by backticks unless it consists of letters, digits, points and underscores; or a sign.
_TOKEN = re.compile(r"\s*(?:`(?P<quoted>[^`]+)`|(?P<name>[^\W\d][\w.]*|\d+(?:\.\d*)?)|(?P<sign>\|\||[-+()|:/*^]))")


@dataclass(frozen=True)
class RandomTerm:
    """Stores a random term: the coefficients that vary between the levels of a factor.

    Attributes
    ----------
    factor : str
        Name of the grouping factor.
    intercept : bool
        Whether the intercept varies.
    columns : tuple of str
        Names of the columns whose coefficients vary.
    correlated : bool
        Whether the coefficients of a group are correlated, as in ``(1 + x | g)``; if not, as in ``(1 + x || g)``.
    grouping : tuple of str
        Columns of labels whose combinations are the levels of the factor; empty if that is one column, the factor itself.
    """

    factor: str
    intercept: bool
    columns: tuple[str, ...]
    correlated: bool = True
    grouping: tuple[str, ...] = ()

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients, the intercept first."""
        return (INTERCEPT,) * self.intercept + self.columns

    @classmethod
    def of_grouping(
        cls, grouping: tuple[str, ...], intercept: bool, columns: tuple[str, ...], correlated: bool = True
    ) -> RandomTerm:
        """Return a term whose factor are the combinations of labels of some columns."""
        return cls(":".join(grouping), intercept, columns, correlated, grouping if len(grouping) > 1 else ())

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Names of the columns of labels whose combinations are the levels of the factor."""
        return self.grouping or (self.factor,)

    def __str__(self) -> str:
        terms = ["1" if self.intercept else "0", *map(_quoted, self.columns)]
        factor = ":".join(map(_quoted, self.label_columns))
        return f"({' + '.join(terms)} {'|' if self.correlated else '||'} {factor})"

    def blocks(self, correlated: bool = True) -> list[RandomTerm]:
        """Return the terms of independent coefficients that the term stands for: itself, or one for each coefficient."""
        if self.correlated and correlated:
            return [self]
        intercept = [replace(self, intercept=True, columns=(), correlated=True)] if self.intercept else []
        return intercept + [replace(self, intercept=False, columns=(name,), correlated=True) for name in self.columns]


def parse_random_effects(text: str) -> list[RandomTerm]:
    """Return the random terms that a text in lmer's notation stands for.

    Parameters
    ----------
    text : str
        Terms such as ``(1 + x | g)``, joined by "+". A term has an intercept unless it says 0 or -1. "||" makes the
        coefficients independent. The combinations of levels of ``a:b`` are a factor, and ``(1 | a/b)`` stands for
        ``(1 | a) + (1 | a:b)``, for b nested in a. Names with other characters than letters, digits, points and underscores
        stand between backticks.

    Returns
    -------
    terms : list of RandomTerm
        The terms, in the order of the text.

    Raises
    ------
    ValueError
        If the text is not in that notation; the message points at the place.
    """
    if not isinstance(text, str):
        raise ValueError(f"random_effects must be a text such as {_EXAMPLE}, or None; found {text!r}.")
    if "~" in text.split("`")[0]:
        raise ValueError(
            f"random_effects must hold random terms alone, such as {_EXAMPLE}; found the formula {text!r}. Every column of "
            "X has a fixed effect, and y is the outcome."
        )
    return list(_parsed(text))


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[RandomTerm, ...]:
    """Return the random terms of a text; a fit asks for them several times."""
    parser = _Parser(text)
    terms = parser.terms()
    while not parser.at_end():
        parser.expect("+")
        terms += parser.terms()
    return tuple(terms)


class _Parser:
    """Reads tokens of a text from left to right."""

    def __init__(self, text: str):
        self._text = text
        self._tokens = list(self._split())
        self._at = 0

    def _split(self) -> Iterator[tuple[str, str, int]]:
        """Yield the kind, the text and the place of each token."""
        at, end = 0, len(self._text.rstrip())
        while at < end:
            match = _TOKEN.match(self._text, at)
            if match is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                raise self._error("is not part of the notation; put a name with such characters between backticks", at)
            kind = str(match.lastgroup)
            yield kind, match[kind], match.start(kind)
            at = match.end()

    def _error(self, problem: str, at: int) -> ValueError:
        """Return an error that points at a place in the text, unless that is its end."""
        found = f"{self._text[at : at + 12]!r} at character {at + 1} " if at < len(self._text.rstrip()) else ""
        return ValueError(
            f"random_effects must be terms such as {_EXAMPLE}, joined by +: in {self._text!r}, {found}{problem}."
        )

    def _unexpected(self, wanted: str) -> ValueError:
        """Return an error about the next token, in whose place something else should stand."""
        problem = f"{wanted} is missing at the end" if self.at_end() else f"stands where {wanted} should"
        return self._error(problem, self._peek()[2])

    def _peek(self) -> tuple[str, str, int]:
        """Return the next token; the end has the kind "end"."""
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "", len(self._text))

    def at_end(self) -> bool:
        """Return whether no token is left."""
        return self._at == len(self._tokens)

    def _next_is(self, *signs: str) -> bool:
        """Return whether the next token is one of some signs."""
        kind, text, _ = self._peek()
        return kind == "sign" and text in signs

    def expect(self, *signs: str) -> str:
        """Return the next token, which must be one of some signs."""
        if not self._next_is(*signs):
            raise self._unexpected(" or ".join(map(repr, signs)))
        text = self._peek()[1]
        self._at += 1
        return text

    def _name(self, what: str) -> str:
        """Return the next token, which must be a name."""
        kind, text, _ = self._peek()
        if kind not in ("quoted", "name") or (kind == "name" and text[0].isdigit()):
            raise self._unexpected(what)
        self._at += 1
        return text

    def terms(self) -> list[RandomTerm]:
        """Return the next term, or the terms that it stands for if its factor is nested in others."""
        start = self._peek()[2]
        self.expect("(")
        intercept, columns, sign = True, [], "+"
        if self._next_is("-"):
            sign = self.expect("-")
        while True:
            kind, text, at = self._peek()
            if kind == "name" and text in ("0", "1"):
                intercept = (text == "1") == (sign == "+")
                self._at += 1
            elif sign == "-" and not self.at_end():
                raise self._error("cannot be taken away: only -1 leaves something out", at)
            else:
                name = self._name("0, 1 or the name of a column")
                if self._next_is(":", "*", "^", "/") or (self._peek()[1] == "(" and self._peek()[0] == "sign"):
                    raise self._error("is not covered: name a column of the product instead", self._peek()[2])
                if name in columns:
                    raise self._error("occurs twice in its term", at)
                columns.append(name)
            sign = self.expect("+", "-", "|", "||")
            if sign in ("|", "||"):
                break
        groupings = self._groupings()
        self.expect(")")
        if not intercept and not columns:
            shown = ":".join(map(_quoted, groupings[-1]))
            raise self._error(f"lets no coefficient vary: write (1 | {shown}) for a random intercept", start)
        return [RandomTerm.of_grouping(each, intercept, tuple(columns), sign == "|") for each in groupings]

    def _groupings(self) -> list[tuple[str, ...]]:
        """Return the columns of labels of each factor that the next tokens name; a/b are the factors a and a:b."""
        found: list[tuple[str, ...]] = []
        names = [self._name("the name of a grouping factor")]
        while True:
            _, _, at = self._peek()
            if self._next_is(":"):
                self.expect(":")
                names.append(self._name("the name of a grouping factor"))
            elif self._next_is("/"):
                found.append(tuple(names))
                self.expect("/")
                names.append(self._name("the name of a grouping factor"))
            elif self._next_is("+", "*"):
                raise self._error(
                    "is not covered between factors: a/b are the factors a and a:b, and (1 | a) + (1 | b) two factors", at
                )
            else:
                break
            if names[-1] in names[:-1]:
                raise self._error("names a factor twice", at)
        return [*found, tuple(names)]


def _quoted(name: str) -> str:
    """Return a name between backticks if it needs them."""
    match = _TOKEN.fullmatch(name)
    return name if match is not None and match["name"] == name and not name[0].isdigit() else f"`{name}`"
