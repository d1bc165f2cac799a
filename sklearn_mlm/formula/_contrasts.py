"""Contrasts: the matrices that code the levels of a factor, and the arguments of the functions that choose them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from .._tables import text_of_level
from ._parsing import Expression
from ._tokens import FormulaText, Token, in_python, in_r

MANY_LEVELS = 64
"""The indicators of a factor with more levels than this are a sparse matrix."""

_POWERS = (".L", ".Q", ".C")
_NAMED = ("treatment", "sum", "helmert", "poly", "SAS", "diff")
_CONTRASTS = "contr.treatment, contr.sum, contr.helmert, contr.poly, contr.SAS"


def indicators(n_levels: int) -> Any:
    """Return the identity, in which each level has a column."""
    return np.eye(n_levels) if n_levels <= MANY_LEVELS else sparse.csr_array(sparse.eye(n_levels))


def options_of(one: Expression) -> dict[str, Any]:
    """Return the arguments of a factor function after the first: "contrasts", "levels" and "ordered"."""
    options: dict[str, Any] = {}
    for at, argument in enumerate(one.arguments[1:]):
        name, value = _keyword(argument)
        name = name or ("contrasts" if one.function == "C" and at == 0 else None)
        name = {"contr": "contrasts"}.get(name or "", name)
        if name not in ("contrasts", "levels", "ordered"):
            raise ValueError(
                f"{one.name} has an argument that is not covered: {in_r(argument)!r}. Pass contrasts or levels."
            )
        options[name] = _value(value, one.name)
    return options


def _value(tokens: Sequence[Token], of: str) -> Any:
    """Return the value of an argument: contrasts such as contr.treatment(base=2), or a list such as c("a", "b")."""
    from formulaic.transforms import TRANSFORMS

    names = ("contr", "Treatment", "Sum", "Helmert", "Diff", "Poly")
    known = {"c": lambda *values: list(values)} | {name: TRANSFORMS[name] for name in names if name in TRANSFORMS}
    try:
        return eval(in_python(tokens, {}), {"__builtins__": {}}, known)
    except (AttributeError, NameError) as error:
        raise ValueError(
            f"The argument {in_r(tokens)!r} of {of} cannot be understood: contrasts are {_CONTRASTS} and contr.diff, and a "
            'list of levels is c("a", "b").'
        ) from error
    except Exception as error:
        raise ValueError(f"The argument {in_r(tokens)!r} of {of} cannot be understood: {error}.") from error


def _keyword(argument: Sequence[Token]) -> tuple[str | None, Sequence[Token]]:
    """Return the name of an argument, if it has one, and its value."""
    named = len(argument) > 2 and argument[0].kind == "name" and argument[1].is_sign("=")
    return (argument[0].text, argument[2:]) if named else (None, argument)


def chosen_levels(name: str, given: Any, found: pd.Index) -> pd.Index:
    """Return the levels in the order that a formula asks for."""
    chosen = pd.Index(list(given), dtype=found.dtype)
    lost = [level for level in found if level not in chosen]
    if lost or chosen.has_duplicates:
        raise ValueError(
            f"The levels of {name} must be all that the rows have, each once; found {list(given)!r} for {list(found)!r}."
        )
    kept: pd.Index = chosen[chosen.isin(found)]
    return kept


def is_function(given: Any) -> bool:
    """Return whether contrasts are given as a function, as in C(f, contr.sum), for which R numbers the levels."""
    return given is not None and not isinstance(given, str)


def contrasts_of(
    name: str, given: Any, levels: pd.Index, ordered: bool, *, numbered: bool
) -> tuple[str, np.ndarray, tuple[str, ...]]:
    """Return the name of the contrasts, their matrix, and the suffixes of their columns: levels, or if `numbered` numbers.

    Without a choice they are R's: treatment contrasts, polynomials for ordered factors.
    """
    from formulaic.transforms import contrasts as of_formulaic
    from formulaic.transforms.contrasts import ContrastsRegistry

    if given is None:
        given = "contr.poly" if ordered else "contr.treatment"
    if isinstance(given, str) and given == "contr.treatment":
        return given, indicators(len(levels))[:, 1:], tuple(map(text_of_level, levels[1:]))
    if isinstance(given, str) and given.endswith(")"):
        given = _value(FormulaText(given).tokens, f"the contrasts of {name}")
    if isinstance(given, str):
        kind = given.removeprefix("contr.")
        if kind not in _NAMED:
            raise ValueError(f"The contrasts of {name} must be {_CONTRASTS} or contr.diff; found {given!r}.")
        given = getattr(ContrastsRegistry, kind)
    if isinstance(given, type):
        given = given()
    if not isinstance(given, of_formulaic.Contrasts):
        matrix = _checked_matrix(name, given, len(levels))
        names = list(map(str, given.columns)) if isinstance(given, pd.DataFrame) else None
        return "contr.custom", matrix, tuple(names or map(str, range(1, matrix.shape[1] + 1)))
    texts = list(map(text_of_level, levels))
    base = getattr(given, "base", None)
    if isinstance(given, of_formulaic.TreatmentContrasts) and isinstance(base, int) and base not in levels:
        # R counts the levels from 1.
        if not 1 <= base <= len(levels):
            raise ValueError(f"The base of the contrasts of {name} must be a level or its number; found {base!r}.")
        given = of_formulaic.TreatmentContrasts(base=levels[base - 1])
    try:
        table = given.get_coding_matrix(list(levels))
    except Exception as error:
        why = str(error).rstrip(".")
        raise ValueError(f"The contrasts of {name} do not suit its levels {texts!r}: {why}.") from error
    matrix = _checked_matrix(name, table, len(levels))
    kind = type(given).__name__.removesuffix("Contrasts")
    if isinstance(given, of_formulaic.SASContrasts | of_formulaic.TreatmentContrasts):
        places = {level: str(at) for at, level in enumerate(levels, start=1)}
        suffixes = tuple(places[level] if numbered else text_of_level(level) for level in table.columns)
    elif isinstance(given, of_formulaic.PolyContrasts):
        suffixes = tuple(_POWERS[at] if at < 3 else f"^{at + 1}" for at in range(matrix.shape[1]))
    elif isinstance(given, of_formulaic.CustomContrasts) and any(isinstance(one, str) for one in table.columns):
        suffixes = tuple(map(str, table.columns))
    else:
        suffixes = tuple(map(str, range(1, matrix.shape[1] + 1)))
    shown = "contr.SAS" if kind == "SAS" else f"contr.{kind.lower()}"
    other_base = kind == "Treatment" and not np.array_equal(matrix, np.eye(len(levels))[:, 1:])
    return f"contr.treatment(base = {base!r})" if other_base else shown, matrix, suffixes


def _checked_matrix(name: str, given: Any, n_levels: int) -> np.ndarray:
    """Return a matrix of contrasts; raise unless it has a column less than there are levels, and codes all of them."""
    try:
        matrix = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The contrasts of {name} must be a name or a matrix; found {given!r}.") from error
    if matrix.shape != (n_levels, n_levels - 1):
        raise ValueError(
            f"The contrasts of {name} must have a row for each of its {n_levels} levels, and a column less; found the shape "
            f"{matrix.shape}."
        )
    if np.linalg.matrix_rank(np.hstack([np.ones((n_levels, 1)), matrix])) < n_levels:
        raise ValueError(f"The contrasts of {name} do not tell all of its levels apart: they depend on each other.")
    return matrix
