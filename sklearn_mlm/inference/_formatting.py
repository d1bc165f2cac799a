"""Tables for print: numbers as text, with digits that suit them, for pandas and great_tables to export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .._tables import decimals, df_text, number_text, p_text

# Columns in one unit, whose digits follow the error, or the width of the interval, in the row.
_OF_ERROR = ("estimate", "null", "std_error", "ci_lower", "ci_upper", "effect", "sd", "lower", "upper", "prediction")
_ERRORS = ("std_error", "sd")


def format_table(table: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Return a table as text, with digits that suit each number, for export.

    Estimates have the digits of their standard errors, p-values three decimals or "<0.001", degrees of freedom one decimal
    at most. Every table of this package is a pandas object, so that it can be exported as it is too.

    Parameters
    ----------
    table : pandas.DataFrame or pandas.Series
        A table, such as `fixed_effects` or `compare_models` returns, or a test.

    Returns
    -------
    text : pandas.DataFrame
        Strings, with the same index and columns; a series becomes one row. ``to_latex()``, ``to_markdown()`` and
        ``to_html()`` of it are ready for print.

    See Also
    --------
    to_great_table : Make a table of the package great_tables.

    Examples
    --------
    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import fixed_effects, format_table
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> model = RandomInterceptRegressor().fit(X, y, groups=subject)
    >>> format_table(fixed_effects(model)[["estimate", "std_error", "df", "p_value"]])
                estimate std_error    df p_value
    (Intercept)  251.405     9.747  22.8  <0.001
    days         10.4673    0.8042   161  <0.001
    """
    if isinstance(table, pd.Series):
        table = pd.DataFrame([table.to_list()], columns=table.index, index=[table.name or ""])
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table must be a pandas DataFrame or Series; found {type(table).__name__}.")
    digits = _digits_of_rows(table)
    columns = [_texts(str(name), table.iloc[:, at], digits) for at, name in enumerate(table.columns)]
    return pd.DataFrame(dict(enumerate(columns)), index=table.index).set_axis(table.columns, axis=1)


def to_great_table(table: pd.DataFrame | pd.Series, *, title: str | None = None) -> Any:
    """Return a table of the package great_tables, for HTML, LaTeX and images.

    Parameters
    ----------
    table : pandas.DataFrame or pandas.Series
        A table, such as `fixed_effects` or `compare_models` returns, or a test.
    title : str, default=None
        Title of the table.

    Returns
    -------
    table : great_tables.GT
        The formatted table, its index in the stub, its numbers aligned on the right.

    Raises
    ------
    ImportError
        If great_tables is not installed.

    See Also
    --------
    format_table : The text of the cells.
    """
    try:
        from great_tables import GT
    except ImportError as error:
        raise ImportError("to_great_table needs great_tables: pip install great_tables.") from error
    text = format_table(table)
    text.columns = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in text.columns]
    stub = str(text.index.name or " ")
    labels = [" ".join(map(str, label)) if isinstance(label, tuple) else str(label) for label in text.index]
    text.insert(0, stub, labels, allow_duplicates=False)
    great = GT(text.reset_index(drop=True), rowname_col=stub).cols_align("right", list(text.columns[1:]))
    return great if title is None else great.tab_header(title)


def _digits_of_rows(table: pd.DataFrame) -> list[int | None] | None:
    """Return the decimals of each row, from its standard error or the width of its interval; None if it has neither."""
    for name in _ERRORS:
        if name in table:
            error, size = table[name].to_numpy(dtype=np.float64), np.abs(table.iloc[:, 0].to_numpy(dtype=np.float64))
            return [decimals(e if e > 0 else s, 4) for e, s in zip(error, size, strict=True)]
    if "lower" in table and "upper" in table:
        return [decimals(width, 3) for width in (table["upper"] - table["lower"]).to_numpy(dtype=np.float64)]
    return None


def _texts(name: str, column: pd.Series, digits: list[int | None] | None) -> list[str]:
    """Return the cells of a column as text."""
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return [str(value) for value in column]
    values = column.to_numpy(dtype=np.float64)
    if name.startswith("p_value"):
        return [p_text(value) for value in values]
    if name.startswith("df"):
        return [df_text(value) for value in values]
    if digits is not None and name in _OF_ERROR:
        return [number_text(value, places) for value, places in zip(values, digits, strict=True)]
    known = values[np.isfinite(values)]
    if np.array_equal(known, np.round(known)):
        return [number_text(value, 0) if np.isfinite(value) else "-" for value in values]
    largest = float(np.abs(known).max()) if len(known) else 0.0
    places = 2 if name == "t" else max(decimals(largest, 3) or 0, 1 if largest >= 100 else 2)
    return [number_text(value, places) for value in values]
