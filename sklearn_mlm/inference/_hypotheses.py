"""Linear hypotheses about the fixed effects, as users write them: expressions, weights by name, matrices."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

import numpy as np
import pandas as pd

from .._inputs import column_names

_HOW = (
    "Write sums of names with weights, such as 'a - b', '(a + b) / 2 = c' or 'x = 2'; put a name that is not a plain word "
    "in backticks, as in '`age-group` = 0'."
)


# Stands before the position of a name in an expression; no name contains these letters.
_WORD = "\u2c61\u2c65_"
_NUMBER = re.compile(r"[0-9.]+(e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Linear combinations of the fixed effects and the values that they have under the null hypothesis.

    Attributes
    ----------
    weights : ndarray of shape (n_hypotheses, k)
        The weights of the fixed effects.
    nulls : ndarray of shape (n_hypotheses,)
        The hypothesised values.
    labels : list of str
        What the user called the combinations, or their expressions.
    """

    weights: np.ndarray
    nulls: np.ndarray
    labels: list[str]


def hypotheses_of(given: Any, names: Sequence[str]) -> Hypotheses:
    """Return the hypotheses that a user has given.

    Parameters
    ----------
    given : str, mapping, sequence or array-like
        An expression of the names; weights by name; a list of expressions or of weights by name; hypotheses of these kinds
        by label; a matrix of weights with a column for each name; or a data frame with columns that are names.
    names : sequence of str
        Names of the fixed effects.

    Returns
    -------
    hypotheses : Hypotheses
        At least one.

    Raises
    ------
    ValueError
        If a name is unknown, an expression is not linear or cannot be read, or a matrix has another shape.
    """
    if not len(names):
        raise ValueError("The model has no fixed effects: there is nothing to test.")
    labelled = _labelled(given)
    if labelled is None:
        weights = _matrix(given, names)
        return Hypotheses(weights, np.zeros(len(weights)), [_text_of(row, names) for row in weights])
    rows, nulls, labels = [], [], []
    for label, one in labelled:
        form = _of_expression(one, names) if isinstance(one, str) else _of_weights(one, names)
        rows.append(form[:-1])
        nulls.append(-form[-1])
        labels.append(label or (" ".join(one.split()) if isinstance(one, str) else _text_of(form[:-1], names)))
    weights = np.array(rows)
    empty = ~weights.any(axis=1) | ~np.isfinite(weights).all(axis=1)
    if empty.any():
        raise ValueError(f"{labels[int(empty.argmax())]!r} weighs no fixed effect: there is nothing to test.")
    return Hypotheses(weights, np.array(nulls), labels)


def _labelled(given: Any) -> list[tuple[str | None, Any]] | None:
    """Return hypotheses that are given by names, each with its label or None; None for weights given by position."""
    if _by_name(given):
        return [(None, given)]
    if isinstance(given, Mapping):
        return [(str(label), one) for label, one in given.items()]
    columns = column_names(given)
    if columns is not None:
        frame = given if isinstance(given, pd.DataFrame) else given.to_pandas()
        # What a row does not mention has no weight.
        rows = frame.fillna(0.0).to_numpy(dtype=np.float64)
        return [(str(label), dict(zip(columns, row, strict=True))) for label, row in zip(frame.index, rows, strict=True)]
    if isinstance(given, pd.Index | np.ndarray | pd.Series):
        given = list(given)
    if isinstance(given, Sequence) and given and all(_by_name(one) for one in given):
        return [(None, one) for one in given]
    return None


def _by_name(given: Any) -> bool:
    """Return whether one hypothesis is an expression, or weights by name."""
    if isinstance(given, pd.Series):
        return bool(len(given)) and all(isinstance(name, str) for name in given.index)
    return isinstance(given, str) or (isinstance(given, Mapping) and all(isinstance(one, Real) for one in given.values()))


def _matrix(given: Any, names: Sequence[str]) -> np.ndarray:
    """Return weights that were given as an array, of shape (n_hypotheses, k)."""
    listed = ", ".join(map(repr, names))
    try:
        weights = np.atleast_2d(np.asarray(given, dtype=np.float64))
    except (TypeError, ValueError):
        raise TypeError(
            f"L must be an expression such as 'a - b', weights by name, or an array of weights of the fixed effects "
            f"{listed}, in this order; found {type(given).__name__}."
        ) from None
    if weights.ndim != 2 or weights.shape[1] != len(names):
        raise ValueError(
            f"L must have a weight for each of the {len(names)} fixed effects [{listed}]; found shape {np.shape(given)}. "
            "Weights by name, {'a': 1, 'b': -1}, or an expression, 'a - b', need no others."
        )
    if not np.isfinite(weights).all() or not weights.any():
        raise ValueError("L must hold numbers, not all of them 0: there is nothing to test.")
    return weights


def _of_weights(given: Any, names: Sequence[str]) -> np.ndarray:
    """Return weights by name, or a row of weights, as weights and a constant of 0."""
    if not _by_name(given):
        weights = _matrix(given, names)
        if len(weights) != 1:
            raise ValueError(f"A label must name one row of weights; found {len(weights)}.")
        return np.append(weights[0], 0.0)
    form = np.zeros(len(names) + 1)
    for name, weight in given.items():
        if name not in names:
            raise _unknown(str(name), names)
        form[list(names).index(name)] += float(weight)
    return form


def _of_expression(text: str, names: Sequence[str]) -> np.ndarray:
    """Return the weights and the constant of an expression; of "left = right", those of left - right."""
    if text.strip() in names:
        return np.append([float(name == text.strip()) for name in names], 0.0)
    # Names are replaced by words that no expression has, so that the rest can be read as arithmetic.
    words = {name: f"{_WORD}{at}" for at, name in enumerate(names)}
    quoted = [rf"`{re.escape(name)}`" for name in names]
    plain = [_pattern(name) for name in sorted(names, key=len, reverse=True) if not _NUMBER.fullmatch(name)]
    pattern = re.compile("|".join(quoted + plain))
    replaced = pattern.sub(lambda found: words[_name_in(found.group(), words)], text)
    sides = re.split(r"==?", replaced)
    if len(sides) > 2:
        raise ValueError(f"{text!r} has more than one '='. Pass a list of expressions, one for each hypothesis.")
    forms = []
    for side in sides:
        try:
            tree = ast.parse(" ".join(side.split()), mode="eval").body
        except SyntaxError:
            unread = re.search(r"`[^`]*`", side)
            if unread:
                raise _unknown(unread.group().strip("`"), names) from None
            raise ValueError(f"{text!r} cannot be read as a hypothesis. {_HOW}") from None
        forms.append(_linear(tree, text, names))
    return np.asarray(forms[0] - forms[1] if len(forms) == 2 else forms[0])


def _pattern(name: str) -> str:
    """Return a pattern that matches a name, but not as a part of a longer word."""
    before = r"(?<![\w.])" if re.match(r"\w", name) else ""
    after = r"(?!\w)" if re.search(r"\w$", name) else ""
    return before + re.escape(name) + after


def _name_in(found: str, words: Mapping[str, str]) -> str:
    """Return the name that was matched, with or without backticks."""
    return found if found in words else found[1:-1]


def _linear(node: ast.expr, text: str, names: Sequence[str]) -> np.ndarray:
    """Return the weights of the names and the constant of a part of an expression.

    Raises
    ------
    ValueError
        If the part is not linear in the names.
    """
    form = np.zeros(len(names) + 1)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if not np.isfinite(node.value):
            raise ValueError(f"{text!r} has a number that is not finite.")
        form[-1] = node.value
        return form
    if isinstance(node, ast.Name):
        if not node.id.startswith(_WORD):
            raise _unknown(node.id, names)
        form[int(node.id.removeprefix(_WORD))] = 1.0
        return form
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _linear(node.operand, text, names)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        for term in (node.left, node.right):
            # "2020 - 2019" may be about the columns of these years, "x = 1" is not.
            added = isinstance(node.op, ast.Add | ast.Sub) and isinstance(term, ast.Constant)
            if added and str(cast(ast.Constant, term).value) in names:
                raise ValueError(f"{text!r}: is a number meant, or the fixed effect of this name? Put names in backticks.")
        left, right = _linear(node.left, text, names), _linear(node.right, text, names)
        if isinstance(node.op, ast.Add | ast.Sub):
            return np.asarray(left + right if isinstance(node.op, ast.Add) else left - right)
        if not right[:-1].any() and (isinstance(node.op, ast.Mult) or right[-1]):
            return np.asarray(left * right[-1] if isinstance(node.op, ast.Mult) else left / right[-1])
        if isinstance(node.op, ast.Mult) and not left[:-1].any():
            return np.asarray(right * left[-1])
    raise ValueError(f"{text!r} is not a linear combination of the fixed effects. {_HOW}")


def _unknown(name: str, names: Sequence[str]) -> ValueError:
    """Return the error for a name that is none of those that have weights."""
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ValueError(f"{name!r} cannot be combined: there is none of this name among {', '.join(map(repr, names))}.{hint}")


def _text_of(weights: np.ndarray, names: Sequence[str]) -> str:
    """Return weights as an expression."""
    text = ""
    for weight, name in zip(weights, names, strict=True):
        if weight:
            size = "" if abs(weight) == 1 else f"{abs(weight):.4g} * "
            sign = ("-" if weight < 0 else "") if not text else (" - " if weight < 0 else " + ")
            text += f"{sign}{size}{name}"
    return text or "0"
