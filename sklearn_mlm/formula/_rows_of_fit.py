"""From data and a formula to the rows of a fit: complete rows, the model matrix, outcome, groups and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..moments._cells import RowsInCells, rows_in_cells
from ..moments._labels import as_array
from ..moments._rows import NO_WEIGHT, GroupedRows, as_weights, grouped_rows
from ._columns import DataColumn, columns_of, frame_of, length_of, names_of_frame, native_column
from ._design import Design, learn_design
from ._parsing import ParsedFormula, parse_formula
from ._variables import Values, functions

MissingRows = Literal["drop", "raise"]

# Values of y that were passed may differ from the left side of the formula by rounding.
_SAME = 1e-6


def parsed_formula(formula: str, data: Any, y: Any, sample_weight: Any) -> ParsedFormula:
    """Return the parts of a formula for the columns of data; "." leaves out y, by its name, and a column of weights.

    Raises
    ------
    ImportError
        If formulaic is not installed.
    TypeError
        If the formula is no text, or the data are no frame.
    ValueError
        If the formula cannot be read.
    """
    try:
        import formulaic  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Formulas need formulaic, which the extra "formula" installs: pip install "sklearn-mlm[formula]".'
        ) from error
    if not isinstance(formula, str):
        raise TypeError(f"formula must be a text such as 'y ~ x + (1 | group)'; found {formula!r}.")
    names = names_of_frame(frame_of(data))
    reserved = [name for name in (sample_weight, getattr(y, "name", None)) if isinstance(name, str)]
    return parse_formula(formula, names, functions(), reserved)


def rows_of_fit(
    parsed: ParsedFormula,
    data: Any,
    y: Any,
    sample_weight: Any,
    *,
    na_action: MissingRows,
    copies: bool,
    contrasts: Mapping[str, Any] | None,
    data_name: str | None,
) -> tuple[Design, GroupedRows | RowsInCells]:
    """Return what a formula learns from the complete rows of data, and these rows.

    Parameters
    ----------
    parsed : ParsedFormula
        The parts of the formula.
    data : data frame of shape (n_samples, n_columns)
        The data.
    y : array-like of shape (n_samples,) or None
        Outcome; it must be given if the formula has no left side, and equal it if it has one.
    sample_weight : str or array-like of shape (n_samples,) or None
        Row weights, or the name of their column.
    na_action : {"drop", "raise"}
        What to do about rows with missing values.
    copies : bool
        Whether weights are numbers of copies.
    contrasts : dict or None
        Contrasts of factors by name.
    data_name : str or None
        Name of the data.

    Returns
    -------
    design : Design
        What the formula has learnt.
    rows : GroupedRows or RowsInCells
        The complete rows; with the cell of each if there are several grouping factors.
    """
    if contrasts is not None and not isinstance(contrasts, Mapping):
        raise TypeError(
            f'contrasts must be a dictionary of contrasts by the name of the factor, such as {{"f": "contr.sum"}}; found '
            f"{contrasts!r}."
        )
    data = frame_of(data)
    n_samples, response = length_of(data), parsed.response
    if response is None and y is None:
        raise ValueError(f"y is None, and the formula {parsed.text.text!r} has no left side: pass y, or write y ~ ...")
    needed = [one for one in (*parsed.expressions.values(), *parsed.offsets, response) if one is not None]
    columns = columns_of(data, [name for one in needed for name in one.columns])
    given = None if y is None else _numbers(y, "y", n_samples)
    weights = None if sample_weight is None else _weights(data, sample_weight, n_samples)
    missing = _missing_rows(_gaps_of_fit(parsed, data, columns, given, weights), n_samples, na_action)
    if response is None:
        _refuse_outcome(columns, given)
    n_missing = int(np.count_nonzero(missing))
    # A row of weight 0 is no row: it must not even say which levels there are.
    left_out = missing if weights is None else missing | (weights == 0)
    if left_out.all():
        raise ValueError(NO_WEIGHT)
    some = bool(left_out.any())
    rows = np.flatnonzero(~left_out)
    if some:
        columns = {name: column.take(rows) for name, column in columns.items()}
        given, weights = (None if values is None else values[rows] for values in (given, weights))
    design, values = learn_design(
        parsed,
        columns,
        names_of_frame(data),
        n_rows=len(rows),
        contrasts=contrasts,
        weights=weights if copies else None,
        data_name=data_name,
        n_dropped=n_missing,
    )
    labels = design.labels(data)
    in_groups: Callable[..., Any] = rows_in_cells if design.several else grouped_rows
    checked = in_groups(
        design.predictors(values),
        _outcome(design, values, given) - design.offset(values),
        labels.iloc[rows] if some else labels,
        weights,
        feature_names=(*design.fixed.names, *design.random_only),
        outcome_name="y" if response is None else response.name,
    )
    return design, checked


def _gaps_of_fit(
    parsed: ParsedFormula, data: Any, columns: Mapping[str, DataColumn], y: np.ndarray | None, weights: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return in which rows the value of each column, label, outcome or weight is missing."""
    gaps, labels = gaps_of(columns), [name for part in parsed.random for name in part.factors]
    gaps |= {name: np.asarray(pd.isna(as_array(native_column(data, name)))) for name in labels}
    for name, passed in (("y", y), ("the weights", weights)):
        if passed is not None:
            # A column may be called so, too.
            gaps[name] = np.isnan(passed) | gaps.get(name, False)
    return gaps


def _missing_rows(gaps: Mapping[str, np.ndarray], n_samples: int, na_action: MissingRows) -> np.ndarray:
    """Return which rows have a missing value, if that is allowed and other rows are left."""
    missing = any_of(gaps, n_samples)
    if na_action == "raise":
        refuse_missing(gaps, n_samples, 'fit with na_action="raise"')
    if not n_samples:
        raise ValueError("data has no rows.")
    if missing.all():
        raise ValueError(
            "No row of the data is complete: every one has a missing value in a column of the model. "
            f"{_counts(gaps)}Leave columns with many missing values out of the formula, or impute their values."
        )
    return missing


def gaps_of(columns: Mapping[str, DataColumn]) -> dict[str, np.ndarray]:
    """Return in which rows the value of each column is missing."""
    return {name: column.missing for name, column in columns.items()}


def any_of(gaps: Mapping[str, np.ndarray], n_samples: int) -> np.ndarray:
    """Return in which rows a value is missing."""
    missing = np.zeros(n_samples, dtype=bool)
    for gap in gaps.values():
        missing |= gap
    return missing


def missing_in(columns: Mapping[str, DataColumn], n_samples: int) -> np.ndarray:
    """Return in which rows a value of some columns is missing."""
    return any_of(gaps_of(columns), n_samples)


def refuse_missing(gaps: Mapping[str, np.ndarray], n_samples: int, of: str) -> None:
    """Raise a ValueError unless all rows are complete; `of` says what does not take the others."""
    missing = any_of(gaps, n_samples)
    if missing.any():
        raise ValueError(
            f"{np.count_nonzero(missing)} of {n_samples} rows have missing values, which {of} does not take. {_counts(gaps)}"
            "Drop these rows, or impute the values."
        )


def _counts(gaps: Mapping[str, np.ndarray]) -> str:
    """Return how many values of each column are missing, in words."""
    counts = {name: int(np.count_nonzero(gap)) for name, gap in gaps.items()}
    named = ", ".join(f"{count} of {name}" for name, count in counts.items() if count)
    return f"Missing are {named}. " if named else ""


def _refuse_outcome(columns: Mapping[str, DataColumn], y: np.ndarray | None) -> None:
    """Raise if a column of the formula is the outcome that was passed."""
    for name, column in columns.items():
        if column.kind == "number" and y is not None and np.array_equal(column.entries, y, equal_nan=True):
            raise ValueError(
                f"The column {name!r}, which the formula names, holds y, the outcome, which cannot explain itself. Leave it "
                "out of the formula, or out of the data if the formula has '.'."
            )


def _outcome(design: Design, values: Values, given: np.ndarray | None) -> np.ndarray:
    """Return the outcome of the complete rows; raise if the one that was passed differs from the left side."""
    response = design.parsed.response
    if response is None:
        return np.asarray(given)
    outcome = design.response(values)
    if given is not None and not np.allclose(given, outcome, rtol=_SAME, atol=0.0):
        raise ValueError(
            f"y differs from {response.name}, the left side of the formula. Pass y=None, or these values, or leave out the "
            "left side: '~ ...'."
        )
    return outcome


def _weights(data: Any, sample_weight: Any, n_samples: int) -> np.ndarray:
    """Return row weights, or those in the column that is named; NaN for a missing one."""
    if isinstance(sample_weight, str):
        if sample_weight not in names_of_frame(data):
            raise ValueError(f"The weights shall be the column {sample_weight!r}, which the data do not have.")
        sample_weight = native_column(data, sample_weight)
    weights = _numbers(sample_weight, "sample_weight", n_samples)
    as_weights(np.where(np.isnan(weights), 1.0, weights), n_samples)
    return weights


def _numbers(values: Any, name: str, n_samples: int) -> np.ndarray:
    """Return numbers as float64, NaN for missing ones."""
    array = as_array(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must hold one value per row of data; found the shape {array.shape}.")
    column = pd.Series(array)
    if not pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_object_dtype(column.dtype):
        raise ValueError(f"{name} must hold numbers; found the type {column.dtype}.")
    if len(column) != n_samples:
        raise ValueError(f"{name} must hold one value per row of data; found {len(column)} for {n_samples} rows.")
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers: {error}.") from error
