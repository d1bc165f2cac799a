"""Sums of a formula before its terms are known: their signs and numbers, and the signs within expressions of Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ._tokens import FormulaText, Token, closing, parts_between

FACTOR_FUNCTIONS = ("C", "factor", "as.factor", "ordered")
"""Functions whose value is a factor."""

COMPARISONS = ("<", ">", "<=", ">=", "==", "!=")
"""Signs of comparisons."""

_OPERATORS = ("+", "-", "*", "/", "^", "**", "%%", "%/%", "%", "//", ",", "=", *COMPARISONS)


def without_numbers(text: FormulaText, tokens: Sequence[Token]) -> tuple[bool, list[Token]]:
    """Return whether there is an intercept, which the last 0 or 1 among the summands decides, and the other tokens.

    As in R, it does not matter in how many parentheses the number is.
    """
    intercept, at = True, 0
    left: list[Token] = []
    signs = [1]
    while at < len(tokens):
        token, before = tokens[at], tokens[at - 1] if at else None
        stop = _end_of_call(tokens, at)
        if stop > at + 1:
            left += tokens[at:stop]
        elif token.is_sign("("):
            signs.append(signs[-1] * (-1 if left and left[-1].is_sign("-") else 1))
            left.append(token)
        elif token.is_sign(")") and left and left[-1].is_sign("("):
            # There was nothing but a number.
            signs.pop()
            left.pop()
            _drop_sign(left)
        elif token.is_sign(")"):
            signs.pop()
            left.append(token)
        elif token.is_sign("-") and before is not None and before.is_sign("-"):
            raise text.error("two minus signs stand beside each other", token.at)
        elif token.kind == "number" and _is_summand(tokens, at):
            if token.text not in ("0", "1"):
                raise text.error(
                    "a number in a formula is 0 or 1; arithmetic belongs into I(...), such as I(x ** 2)", token.at
                )
            minus = bool(left) and left[-1].is_sign("-")
            intercept = (token.text == "1") == (signs[-1] * (-1 if minus else 1) > 0)
            _drop_sign(left)
        elif not token.is_sign("+") or (left and not left[-1].is_sign("(")):
            left.append(token)
        at = stop
    return intercept, left


def _drop_sign(tokens: list[Token]) -> None:
    """Take away a last plus or minus."""
    if tokens and tokens[-1].is_sign("+", "-"):
        tokens.pop()


def _end_of_call(tokens: Sequence[Token], at: int) -> int:
    """Return the position after the call that begins here, or after the token if none does."""
    called = tokens[at].kind == "name" and at + 1 < len(tokens) and tokens[at + 1].is_sign("(")
    return closing(tokens, at + 1) + 1 if called else at + 1


def _is_summand(tokens: Sequence[Token], at: int) -> bool:
    """Return whether a token is a term of a sum by itself."""
    begins = at == 0 or tokens[at - 1].is_sign("+", "-", "(")
    return begins and (at + 1 == len(tokens) or tokens[at + 1].is_sign("+", "-", ")"))


def check_signs(text: FormulaText, tokens: Sequence[Token], advice: str) -> None:
    """Raise unless values and signs take turns in an expression of Python."""
    expects_value = True
    for token in tokens:
        if token.kind != "sign":
            if not expects_value:
                raise text.error(f"a sign is missing before {token.text!r}; {advice}", token.at)
            expects_value = False
        elif token.is_sign(")") or (token.is_sign(*_OPERATORS) and not token.is_sign("+", "-")):
            if expects_value:
                raise text.error(f"a value is missing before {token.text!r}", token.at)
            expects_value = not token.is_sign(")")
        else:
            expects_value = True
    if expects_value:
        raise text.error("a value is missing", tokens[-1].at + len(tokens[-1].text))


def bars_of(tokens: Sequence[Token]) -> list[Token]:
    """Return the signs | and || of some tokens that are not within a function."""
    bars, at = [], 0
    while at < len(tokens):
        if tokens[at].is_sign("|", "||"):
            bars.append(tokens[at])
        at = _end_of_call(tokens, at)
    return bars


def arguments_of(tokens: Sequence[Token]) -> tuple[tuple[Token, ...], ...]:
    """Return the arguments of a function whose value is a factor; of factor functions within each other, of all of them."""
    arguments = tuple(tuple(part) for part in parts_between(tokens[2:-1], ","))
    first = arguments[0]
    if (
        len(first) > 2
        and first[0].text in FACTOR_FUNCTIONS
        and first[1].is_sign("(")
        and closing(first, 1) == len(first) - 1
    ):
        return (*arguments_of(first), *arguments[1:])
    return arguments


def signed(tokens: Sequence[Token]) -> Iterator[tuple[list[Token], list[Token]]]:
    """Split a sum at its top level.

    Yields
    ------
    signs : list of Token
        The signs + and - before a summand.
    summand : list of Token
    """
    signs: list[Token] = []
    summand: list[Token] = []
    depth = 0
    for token in tokens:
        depth += token.is_sign("(", "[") - token.is_sign(")", "]")
        if depth == 0 and token.is_sign("+", "-"):
            if summand:
                yield signs, summand
                signs, summand = [], []
            signs = [*signs, token]
        else:
            summand.append(token)
    yield signs, summand


def in_parentheses(tokens: list[Token], original: list[Token]) -> list[Token]:
    """Return tokens between the brackets of the expression that they were taken from."""
    return [original[0], *tokens, original[-1]]
