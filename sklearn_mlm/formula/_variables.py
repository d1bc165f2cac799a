"""Variables of a formula: what they learn from the rows of a fit, and their values in any rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd

from .._inputs import warn_caller
from .._tables import text_of_level
from ._columns import DataColumn
from ._contrasts import chosen_levels, contrasts_of, indicators, is_function, options_of
from ._parsing import Expression

# A value that differs by more than this from that of the same row among other rows depends on these.
_SAME = 1e-8
_ROWS_TRIED = ((0.25, 0.5, 0.75), (0.4,))
# So many different numbers may well be levels of a factor.
_FEW_LEVELS = 20
_ADVICE = "center, scale, poly and splines remember what fit learnt"


def functions() -> dict[str, Any]:
    """Return the functions that formulas may call: those of formulaic, and some of R's names for functions of NumPy."""
    from formulaic.transforms import TRANSFORMS

    ours = {
        "log": _log,
        "sqrt": np.sqrt,
        "abs": np.abs,
        "floor": np.floor,
        "ceiling": np.ceil,
        "sin": np.sin,
        "cos": np.cos,
        "tan": np.tan,
        "log1p": np.log1p,
        "expm1": np.expm1,
    }
    hidden = {"C", "contr", "hashed", "lag", "Q", "Treatment", "Sum", "Helmert", "Diff", "Poly"}
    return {name: one for name, one in TRANSFORMS.items() if name not in hidden} | ours


def _log(x: Any, base: float | None = None) -> Any:
    """Return the logarithm, natural or to a base, as R's log."""
    return np.log(x) if base is None else np.log(x) / np.log(base)


@dataclass(frozen=True, eq=False)
class Variable:
    """Stores what a variable of a formula has learnt.

    Attributes
    ----------
    name : str
        The variable as R writes it.
    columns : tuple of str
        The columns of the data that it needs.
    suffixes : tuple of str
        What its columns in the model matrix add to the name: of numbers, empty or the position; of a factor in contrasts,
        the level or the name of the contrast.
    levels : pandas.Index or None
        The levels of a factor; None for numbers.
    coding : ndarray or sparse matrix of shape (n_levels, n_levels - 1), or None
        The contrasts of a factor; sparse if they are differences from the first of many levels.
    contrasts : str
        Name of the contrasts, such as "contr.treatment".
    logical : bool
        Whether the values are truth values.
    computed : bool
        Whether the values are computed by a function.
    """

    name: str
    columns: tuple[str, ...]
    suffixes: tuple[str, ...] = ("",)
    levels: pd.Index | None = None
    coding: Any = None
    contrasts: str = ""
    logical: bool = False
    computed: bool = False

    @property
    def is_factor(self) -> bool:
        """Whether the variable is a factor."""
        return self.levels is not None

    @property
    def texts(self) -> tuple[str, ...]:
        """The levels as R writes them."""
        return () if self.levels is None else tuple(map(text_of_level, self.levels))

    @property
    def treatment(self) -> bool:
        """Whether the contrasts are the differences from the first level."""
        return self.contrasts == "contr.treatment"

    def names(self, full: bool) -> tuple[str, ...]:
        """Return the names of its columns: of a factor, of all levels or of the contrasts."""
        if not (self.is_factor and full):
            return tuple(self.name + suffix for suffix in self.suffixes)
        clash = not self.treatment and set(self.suffixes) & set(self.texts)
        return tuple(f"{self.name}[{text}]" if clash else self.name + text for text in self.texts)

    def matrix(self, full: bool) -> Any:
        """Return the rows of the model matrix for each level of a factor: an array, or a sparse matrix of many levels."""
        return indicators(len(self.texts)) if full else self.coding


@dataclass(frozen=True, eq=False)
class Values:
    """Stores the values of variables in some rows.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    of : dict of str to ndarray
        By the name of the variable: numbers of shape (n_rows, n_columns), or positions of levels of shape (n_rows,).
    """

    n_rows: int
    of: dict[str, np.ndarray] = field(default_factory=dict)


class Evaluator:
    """Computes the values of the variables of a formula.

    Parameters
    ----------
    expressions : sequence of Expression
        The variables, the outcome and the offsets included.
    columns : mapping of str to DataColumn
        Columns of the rows from which transformations learn, without missing values.
    in_python : mapping of str to str
        The name of each column in Python expressions.
    contrasts : mapping of str to str
        Contrasts of factors by name, other than those of R's defaults.

    Attributes
    ----------
    variables : dict of str to Variable
        The variables by name.
    """

    def __init__(
        self,
        expressions: Sequence[Expression],
        columns: Mapping[str, DataColumn],
        in_python: Mapping[str, str],
        contrasts: Mapping[str, Any],
    ):
        self._in_python = {name: in_python[name] for name in columns}
        # A column is taken as it is; formulaic evaluates functions, and keeps what they have learnt.
        self._computed = {
            one.name: _function_text(one) for one in expressions if one.function is not None and not _plain(one)
        }
        self._expressions = {one.name: one for one in expressions}
        self._spec: Any = None
        self._of_fit = self._learn(columns)
        self.variables = {one.name: self._variable(one, columns, self._of_fit, contrasts) for one in expressions}

    def values_of_fit(self, columns: Mapping[str, DataColumn], n_rows: int) -> Values:
        """Return the values of all variables in the rows of the fit, and keep those of functions no longer."""
        values = self._values(columns, list(self.variables), n_rows, self._of_fit)
        self._of_fit = {}
        return values

    def values(self, columns: Mapping[str, DataColumn], which: Sequence[str], n_rows: int) -> Values:
        """Return the values of variables in some rows, given the columns of the data that they need.

        Raises
        ------
        ValueError
            If a factor has a level that fit has not seen, or a value is not finite.
        """
        numbers = self._evaluate(columns, [name for name in which if name in self._computed])
        return self._values(columns, which, n_rows, numbers)

    def _values(
        self, columns: Mapping[str, DataColumn], which: Sequence[str], n_rows: int, numbers: Mapping[str, np.ndarray]
    ) -> Values:
        """Return the values of variables, given those of functions."""
        values = Values(n_rows)
        for name in which:
            variable = self.variables[name]
            if variable.is_factor:
                values.of[name] = self._codes(variable, columns, numbers)
            else:
                values.of[name] = numbers[name] if name in numbers else _numbers_of(columns[variable.columns[0]])[:, None]
        return values

    def _learn(self, columns: Mapping[str, DataColumn]) -> dict[str, np.ndarray]:
        """Return the values of functions in the rows of the fit, and keep what they have learnt.

        Raises
        ------
        ValueError
            If a value depends on other rows in a way that cannot be kept.
        """
        if not self._computed:
            return {}
        from formulaic import Formula

        texts = list(dict.fromkeys(self._computed.values()))
        frame = self._frame(columns, list(self._computed))
        try:
            with np.errstate(all="ignore"):
                matrix = Formula("0 + " + " + ".join(texts)).get_model_matrix(
                    frame, context=functions(), output="numpy", na_action="ignore", ensure_full_rank=False
                )
        except Exception as error:
            words = [name for name in self._needed(self._computed) if columns[name].kind == "factor"]
            more = f" No function takes text, which {', '.join(map(repr, words))} holds." if words else ""
            raise ValueError(
                self._told(
                    f"A function of the formula cannot be computed: {error}. It must have a value for each row; {_ADVICE}."
                )
                + more
            ) from error
        self._spec = matrix.model_spec
        of_text = {str(term): term for term in self._spec.terms}
        self._terms = {text: of_text[text] if text in of_text else of_text[_as_formulaic(text)] for text in texts}
        places = {str(term): positions for term, positions in self._spec.term_indices.items()}
        kinds = {name: state[0].value for name, state in self._spec.encoder_state.items()}
        for name, text in self._computed.items():
            if any(kinds.get(str(factor)) == "categorical" for factor in self._terms[text].factors):
                raise ValueError(f"The values of {name} are text or categories: write factor(...) or C(...) for a factor.")
        values = np.asarray(matrix, dtype=np.float64)
        numbers = _finite({name: values[:, places[str(self._terms[text])]] for name, text in self._computed.items()})
        self._check_rows_apart(columns, numbers)
        return numbers

    def _told(self, message: str) -> str:
        """Return a message with the columns of the data under their own names."""
        for name, alias in sorted(self._in_python.items(), key=lambda item: -len(item[1])):
            message = message.replace(alias, name)
        return message

    def _needed(self, which: Iterable[str]) -> dict[str, None]:
        """Return the names of the columns that some functions need."""
        return dict.fromkeys(name for one in which for name in self._expressions[one].columns)

    def _frame(self, columns: Mapping[str, DataColumn], which: Sequence[str]) -> pd.DataFrame:
        """Return the columns that some functions need, under their names in Python."""
        return pd.DataFrame({self._in_python[name]: columns[name].objects() for name in self._needed(which)})

    def _evaluate(self, columns: Mapping[str, DataColumn], which: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the values of some functions in other rows, with what they have learnt."""
        if not which:
            return {}
        for name in self._needed(which):
            learnt = self._kinds[name]
            if (columns[name].kind == "factor") != (learnt == "factor"):
                raise ValueError(
                    f"The column {name!r} held {_OF_KIND[learnt]} in fit, and holds {_OF_KIND[columns[name].kind]}."
                )
        texts = list(dict.fromkeys(self._computed[name] for name in which))
        terms = [self._terms[text] for text in texts]
        spec = self._spec if len(terms) == len(self._terms) else self._spec.subset(terms)
        with np.errstate(all="ignore"):
            matrix = spec.get_model_matrix(self._frame(columns, which), context=functions())
        places = {str(term): positions for term, positions in spec.term_indices.items()}
        return _finite(
            {name: np.asarray(matrix, dtype=np.float64)[:, places[str(self._terms[self._computed[name]])]] for name in which}
        )

    def _check_rows_apart(self, columns: Mapping[str, DataColumn], numbers: Mapping[str, np.ndarray]) -> None:
        """Raise if the value of a function in a row is another one without most of the other rows."""
        n_rows = len(next(iter(columns.values())))
        self._kinds = {name: column.kind for name, column in columns.items()}
        # Rows at the ends may hold the extremes; a row by itself is its own extreme.
        for shares in _ROWS_TRIED:
            rows = np.unique((np.array(shares) * (n_rows - 1)).astype(np.intp))[::-1]
            try:
                again = self._evaluate({name: column.take(rows) for name, column in columns.items()}, list(self._computed))
            except ValueError as error:
                raise ValueError(
                    f"A function of the formula cannot be computed for a few rows by themselves: {error} {_ADVICE}."
                ) from error
            for name, values in numbers.items():
                scale = np.abs(values).max(axis=0, initial=0.0)
                if (np.abs(again[name] - values[rows]) > _SAME * scale).any():
                    raise ValueError(
                        f"The value of {name} in a row depends on the other rows, so that it cannot be computed for new "
                        f"ones. {_ADVICE}: use one of these, or make the values a column of the data."
                    )

    def _variable(
        self,
        one: Expression,
        columns: Mapping[str, DataColumn],
        numbers: Mapping[str, np.ndarray],
        contrasts: Mapping[str, Any],
    ) -> Variable:
        """Return what a variable has learnt."""
        column = columns[one.columns[0]]
        as_factor = one.function in ("C", "factor", "as.factor", "ordered")
        if one.function is None and column.levels is None:
            return Variable(one.name, one.columns)
        if not (as_factor or one.logical or (one.function is None and column.levels is not None)):
            width = numbers[one.name].shape[1]
            suffixes = tuple(map(str, range(1, width + 1))) if width > 1 else ("",)
            return Variable(one.name, one.columns, suffixes, computed=True)
        options = options_of(one)
        computed, ordered = one.name in numbers, False
        if computed:
            found = np.unique(numbers[one.name][:, 0])
            levels = pd.Index([False, True], dtype=object) if one.logical else pd.Index(found)
        elif column.levels is None:
            levels = pd.Index(np.unique(column.entries))
        else:
            levels, ordered = column.levels, column.ordered
        if "levels" in options:
            levels = chosen_levels(one.name, options["levels"], levels)
        ordered = one.function == "ordered" or bool(options.get("ordered", ordered))
        if one.function is None and column.text:
            _warn_of_numbers(column)
        if len(levels) < 2:
            only = f"the level {text_of_level(levels[0])!r}" if len(levels) else "no level"
            raise ValueError(f"The factor {one.name} has only {only} in the complete rows: leave it out of the formula.")
        given = options.get("contrasts", contrasts.get(one.name, contrasts.get(column.name) if as_factor else None))
        name, coding, suffixes = contrasts_of(
            one.name, given, levels, ordered, numbered=is_function(options.get("contrasts"))
        )
        logical = one.logical or (one.function is None and column.kind == "logical")
        return Variable(one.name, one.columns, suffixes, levels, coding, name, logical, computed)

    def _codes(self, variable: Variable, columns: Mapping[str, DataColumn], numbers: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the position of each row's level; raise if fit has not seen it."""
        levels = cast(pd.Index, variable.levels)
        column = columns[variable.columns[0]]
        if variable.name in numbers:
            values = numbers[variable.name][:, 0]
            own, codes = np.unique(values, return_inverse=True)
            found = pd.Index(own.astype(bool), dtype=object) if variable.logical else pd.Index(own)
        elif column.levels is not None:
            found, codes = column.levels, column.entries
        else:
            own, codes = np.unique(column.entries, return_inverse=True)
            truth = variable.logical and bool(np.isin(own, (0.0, 1.0)).all())
            found = pd.Index(own.astype(bool), dtype=object) if truth else pd.Index(own)
        if found.equals(levels):
            return codes
        places = (
            levels.get_indexer(found)
            if found.dtype == levels.dtype
            else levels.astype(object).get_indexer(found.astype(object))
        )
        result = places[codes]
        if (result < 0).any():
            unseen = [found[at] for at in np.unique(codes[result < 0])]
            more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
            if {text_of_level(one) for one in unseen} & set(variable.texts):
                more += f" ({_kind_of(unseen[0])} in place of {_kind_of(levels[0])})"
            raise ValueError(
                f"{variable.name} has {len(unseen)} level(s) that fit has not seen: "
                f"{', '.join(repr(text_of_level(one)) for one in unseen[:5])}{more}. It has the levels "
                f"{', '.join(map(repr, variable.texts[:12]))}{', ...' if len(variable.texts) > 12 else ''}. A fixed "
                "effect of a new level is not known: leave these rows out, or fit them too."
            )
        return result


def _warn_of_numbers(column: DataColumn) -> None:
    """Warn of text with so many different numbers that it may not have been meant as a factor."""
    levels = cast(pd.Index, column.levels)
    numbers = pd.to_numeric(pd.Series(levels, dtype=object), errors="coerce").notna()
    # One word may say that a value is missing.
    if len(levels) > _FEW_LEVELS and (~numbers).sum() <= 1:
        others = f" but for {levels[~numbers.to_numpy()][0]!r}" if not numbers.all() else ""
        warn_caller(
            f"The column {column.name!r} holds numbers as text{others}, and is a factor with {len(levels)} levels. "
            "pandas.to_numeric makes numbers of it; astype('category') says that it is a factor."
        )


def _kind_of(level: Any) -> str:
    """Return what a level is, in a word."""
    return "text" if isinstance(level, str) else "truth values" if isinstance(level, bool | np.bool_) else "numbers"


_OF_KIND = {"number": "numbers", "logical": "truth values", "factor": "text or categories"}


def _plain(one: Expression) -> bool:
    """Return whether an expression is a column, or a function that takes the levels of a column as they are."""
    return one.function in ("C", "factor", "as.factor", "ordered") and len(one.arguments[0]) == 1


def _function_text(one: Expression) -> str:
    """Return the function of numbers that formulaic evaluates for an expression."""
    return f"I({one.python})" if one.function in ("C", "factor", "as.factor", "ordered") else one.python


def _finite(numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the values of functions; raise if one is not finite, or there are none."""
    for name, values in numbers.items():
        if not values.shape[1]:
            raise ValueError(f"{name} has no column.")
        finite = np.isfinite(values).all(axis=1)
        # The columns of the lower degrees are there.
        if name.startswith("poly(") and not finite.any() and np.isfinite(values[:, 0]).all():
            raise ValueError(
                f"{name} cannot be computed: its column has too few distinct values for this degree. Choose a lower degree."
            )
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            found = ", ".join(f"{value:g}" for value in values[row])
            raise ValueError(
                f"{name} is not finite in {np.count_nonzero(~finite)} row(s); in row {row} of the complete rows it is "
                f"{found}. Leave out these rows, or transform the column in another way."
            )
    return numbers


def _as_formulaic(text: str) -> str:
    """Return the name that formulaic gives to an expression, which it writes with spaces."""
    from formulaic import Formula

    return str(next(iter(Formula(f"0 + {text}"))))


def _numbers_of(column: DataColumn) -> np.ndarray:
    """Return a column as numbers."""
    if column.kind == "factor":
        raise ValueError(f"The column {column.name!r} held numbers in fit, and holds text or categories.")
    if np.isinf(column.entries).any():
        raise ValueError(f"The column {column.name!r} holds infinity. Leave out these rows, or transform the column.")
    return column.entries.astype(np.float64, copy=False)
