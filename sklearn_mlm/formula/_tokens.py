"""Tokens of a formula, errors that point at one of them, and the text of an expression as R writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Longer signs stand before those that they begin with.
_TOKEN = re.compile(
    r"\s*(?:"
    r"`(?P<quoted>[^`]+)`"
    r"|(?P<string>\"[^\"]*\"|'[^']*')"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[^\W\d][\w.]*|\.[^\W\d][\w.]*|\.)"
    r"|(?P<sign>%in%|%/%|%%|\|\||\*\*|//|==|!=|<=|>=|[-+*/^:|~(),=<>%\[\]])"
    r")"
)
_SPACED = {"+", "-", "*", "<", ">", "==", "!=", "<=", ">=", "%in%", "~", "|", "||", "="}
_IN_PYTHON = {"^": "**", "%%": "%", "%/%": "//", "TRUE": "True", "FALSE": "False"}
_IN_R = {"**": "^", "%": "%%", "//": "%/%", "True": "TRUE", "False": "FALSE"}
_PLAIN_NAME = re.compile(r"[^\W\d][\w.]*|\.[^\W\d][\w.]*")


@dataclass(frozen=True)
class Token:
    """Stores a token.

    Attributes
    ----------
    kind : {"quoted", "string", "number", "name", "sign"}
        A name between backticks, a text between quotes, a number, a name, or a sign.
    text : str
        Its text, without backticks.
    at : int
        Its position in the formula.
    """

    kind: str
    text: str
    at: int

    def is_sign(self, *signs: str) -> bool:
        """Return whether the token is one of some signs."""
        return self.kind == "sign" and self.text in signs

    @property
    def is_name(self) -> bool:
        """Whether the token is a name, between backticks or not."""
        return self.kind in ("quoted", "name")


class FormulaText:
    """A formula with its tokens; raises errors that point at a place in it."""

    def __init__(self, text: str):
        self.text = text
        self.tokens = list(self._split())
        self._check_brackets()

    def _split(self) -> Iterator[Token]:
        """Yield the tokens."""
        at, end = 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                if self.text[at] == "`":
                    raise self.error("the backtick is not closed", at)
                if self.text[at] == "$":
                    raise self.error("write the name of the column alone: columns are those of the data", at)
                raise self.error(
                    f"{self.text[at]!r} is not part of the language; put names with such characters between backticks", at
                )
            kind = str(match.lastgroup)
            start = match.start(kind)
            yield Token(kind, match[kind], start - (kind == "quoted"))
            at = match.end()

    def _check_brackets(self) -> None:
        """Raise an error unless every bracket has its partner."""
        open_at: list[Token] = []
        for token in self.tokens:
            if token.is_sign("(", "["):
                open_at.append(token)
            elif token.is_sign(")", "]"):
                if not open_at or (open_at[-1].text == "(") != (token.text == ")"):
                    raise self.error(f"this {token.text!r} closes nothing", token.at)
                open_at.pop()
        if open_at:
            raise self.error(f"this {open_at[-1].text!r} is not closed", open_at[-1].at)

    def name_at(self, at: int, names: Sequence[str]) -> str | None:
        """Return the longest of some names that stands at a place; None if none does."""
        found = [name for name in names if re.match(rf"{re.escape(name)}(?<!\s)(?!\w)", self.text[at:])]
        return max(found, key=len, default=None)

    def error(self, problem: str, at: int) -> ValueError:
        """Return an error with a caret below the place in the formula."""
        line_start = self.text.rfind("\n", 0, at) + 1
        line_end = self.text.find("\n", at)
        line = self.text[line_start : line_end if line_end >= 0 else None]
        caret = " " * (at - line_start) + "^"
        return ValueError(f"The formula cannot be used: {problem}.\n    {line}\n    {caret}")


def closing(tokens: Sequence[Token], start: int) -> int:
    """Return the position of the bracket that closes the one at `start`."""
    depth = 0
    for at in range(start, len(tokens)):
        depth += tokens[at].is_sign("(", "[") - tokens[at].is_sign(")", "]")
        if depth == 0:
            return at
    raise AssertionError("brackets are checked before")


def parts_between(tokens: Sequence[Token], *signs: str) -> list[list[Token]]:
    """Return the parts of some tokens between signs that are outside of brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += token.is_sign("(", "[") - token.is_sign(")", "]")
        if depth == 0 and token.is_sign(*signs):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def in_r(tokens: Sequence[Token]) -> str:
    """Return the text of an expression as R writes it, so that equal expressions have equal texts."""
    text = ""
    for at, token in enumerate(tokens):
        word = _IN_R.get(token.text, token.text) if token.kind != "string" else f'"{token.text[1:-1]}"'
        if token.kind == "quoted" and not _PLAIN_NAME.fullmatch(word):
            word = f"`{word}`"
        before = tokens[at - 1] if at else None
        unary = token.is_sign("-", "+") and (before is None or (before.kind == "sign" and not before.is_sign(")", "]")))
        if token.kind == "number":
            word = f"{float(word):.15g}"
        if token.is_sign(","):
            text += ", "
        elif token.kind == "sign" and word in _SPACED and not unary:
            text += f" {word} "
        else:
            text += word
    return text


def in_python(tokens: Sequence[Token], columns: dict[str, str]) -> str:
    """Return the expression in Python, with other names for the columns of the data."""
    words = []
    for at, token in enumerate(tokens):
        called = at + 1 < len(tokens) and tokens[at + 1].is_sign("(")
        if token.kind == "quoted" or (token.kind == "name" and not called and token.text in columns):
            words.append(columns[token.text])
        elif token.kind == "string":
            words.append(token.text)
        else:
            words.append(_IN_PYTHON.get(token.text, token.text))
    return "".join(words)
