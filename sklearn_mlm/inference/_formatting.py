"""Tables for print: numbers as text, with digits that suit them, for pandas and great_tables to export."""

from __future__ import annotations

from typing import Any

import pandas as pd

from .._tables import cells_of


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
    return cells_of(table)


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

    Examples
    --------
    The package great_tables has to be installed:

    >>> from sklearn_mlm import RandomInterceptRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> from sklearn_mlm.inference import fixed_effects, to_great_table
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> table = fixed_effects(RandomInterceptRegressor().fit(X, y, groups=subject))
    >>> to_great_table(table, title="Reaction times").as_latex()  # doctest: +SKIP
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
