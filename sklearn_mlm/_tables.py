"""Tables and reports, rendered as text and as HTML, and numbers as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

_CELL = "padding: 0.15em 0.7em; text-align: right; white-space: nowrap"
_LABEL = "padding: 0.15em 0.7em; text-align: left; white-space: nowrap"
_LINE = "border-top: 1px solid #bbb"
_CAPTION = "padding: 0.3em 0.7em; text-align: left; font-weight: bold; white-space: nowrap; caption-side: top"
_TABLE = "border-collapse: collapse; margin: 0.8em 0 0 0"
# Columns in one unit, whose digits follow the error, or the width of the interval, in the row.
_OF_ERROR = ("estimate", "null", "std_error", "ci_lower", "ci_upper", "effect", "sd", "lower", "upper", "prediction")
_ERRORS = ("std_error", "sd")


@dataclass(frozen=True)
class Table:
    """A table of strings.

    Attributes
    ----------
    title : str
        Title above the table.
    columns : sequence of str
        Headings of the cells.
    labels : sequence of sequence of str
        Labels of each row, outermost first; the rendered table leaves out labels that repeat those of the row above.
    cells : sequence of sequence of str
        Cells of each row, one string for each column.
    note : str
        Note below the table.
    """

    title: str
    columns: Sequence[str]
    labels: Sequence[Sequence[str]]
    cells: Sequence[Sequence[str]]
    note: str = ""

    def _labels(self) -> tuple[list[list[str]], int]:
        """Return the labels of each row, blank if they repeat those of the row above, and their number."""
        rows: list[list[str]] = []
        above: Sequence[str] = ()
        for labels in self.labels:
            repeated = [list(above[: i + 1]) == list(labels[: i + 1]) for i in range(len(labels))]
            rows.append(["" if blank else label for label, blank in zip(labels, repeated, strict=True)])
            above = labels
        return rows, len(rows[0]) if rows else 0

    def text(self) -> str:
        """Return the table as lines of text."""
        labels, depth = self._labels()
        label_widths = [max(len(row[i]) for row in labels) for i in range(depth)]
        widths = [max([len(name), *(len(row[i]) for row in self.cells)]) for i, name in enumerate(self.columns)]
        start = " " * (sum(label_widths) + 2 * max(depth - 1, 0))
        lines = [self.title, (start + _aligned(self.columns, widths)).rstrip()]
        for row_labels, row in zip(labels, self.cells, strict=True):
            left = "  ".join(label.ljust(width) for label, width in zip(row_labels, label_widths, strict=True))
            lines.append((left + _aligned(row, widths)).rstrip())
        return "\n".join([*lines, self.note] if self.note else lines)

    def html(self) -> str:
        """Return the table as HTML."""
        labels, depth = self._labels()
        head = "<th></th>" * depth + "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in self.columns)
        rows = ""
        for row_labels, row in zip(labels, self.cells, strict=True):
            # If rows have inner labels, a line separates the outermost labels.
            line = _LINE if depth > 1 and row_labels[0] else ""
            weights = ("bold", *("normal",) * (depth - 1))
            left = "".join(
                f'<th style="{_LABEL}; font-weight: {weight}">{escape(label)}</th>'
                for label, weight in zip(row_labels, weights, strict=True)
            )
            cells = "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in row)
            rows += f'<tr style="{line}">{left}{cells}</tr>'
        caption = f'<caption style="{_CAPTION}">{escape(self.title)}</caption>'
        note = f'<p style="margin: 0.2em 0.7em">{escape(self.note)}</p>' if self.note else ""
        return f'<table style="{_TABLE}">{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}'


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return cells, right-aligned in columns of the given widths, with two spaces before each column."""
    return "".join("  " + cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


@dataclass(frozen=True)
class Report:
    """A title, lines, tables and closing paragraphs.

    Attributes
    ----------
    title : str
        Title of the report.
    facts : sequence of str
        Lines below the title.
    tables : sequence of Table
        Tables below the lines.
    closing_title : str
        Title of the closing paragraphs, which are list items if it is not empty.
    closing : sequence of str
        Closing paragraphs.
    """

    title: str
    facts: Sequence[str]
    tables: Sequence[Table]
    closing_title: str
    closing: Sequence[str]

    def text(self, width: int = 100) -> str:
        """Return the report as text, with paragraphs wrapped to the given width."""
        from textwrap import fill

        dash, indent = ("- ", "  ") if self.closing_title else ("", "")
        closing = [fill(paragraph, width, initial_indent=dash, subsequent_indent=indent) for paragraph in self.closing]
        if self.closing_title:
            closing.insert(0, self.closing_title)
        parts = ["\n".join([self.title, *self.facts]), *(table.text() for table in self.tables)]
        return "\n\n".join([*parts, "\n".join(closing)] if any(closing) else parts)

    def html(self) -> str:
        """Return the report as HTML for notebooks."""
        facts = "".join(f"<br/>{escape(fact)}" for fact in self.facts)
        items = "".join(f"<li>{escape(paragraph)}</li>" for paragraph in self.closing)
        tables = "".join(table.html() for table in self.tables)
        title = f"<p><strong>{escape(self.title)}</strong>{facts}</p>"
        closing = f"<p><strong>{escape(self.closing_title)}</strong></p>" if self.closing_title else ""
        return f"<div>{title}{tables}{closing}{f'<ul>{items}</ul>' if items else ''}</div>"


def number_text(value: float, digits: int | None) -> str:
    """Return a number with the given decimals, or with four significant digits for None; "-" for NaN."""
    if np.isnan(value):
        return "-"
    # Adding 0 removes the sign of a negative zero.
    return f"{value:.4g}" if digits is None else f"{round(value, digits) + 0.0:.{digits}f}"


def decimals(size: float, significant: int = 3) -> int | None:
    """Return the number of decimals that shows a number of this size with the given significant digits.

    Returns 3 for a size that is 0, negative or not finite, and None for a size too large or too small for decimals.
    """
    if not np.isfinite(size) or size <= 0:
        return 3
    digits = int(significant - 1 - np.floor(np.log10(size)))
    return max(digits, 0) if -5 <= digits <= 6 else None


def df_text(value: float) -> str:
    """Return degrees of freedom: whole numbers without decimals, others with one; "inf" if infinite, "-" for NaN."""
    if not np.isfinite(value):
        return "-" if np.isnan(value) else "inf"
    return f"{value:.0f}" if abs(value - round(value)) < 1e-6 else f"{value:.1f}"


def p_text(value: float) -> str:
    """Return a p-value with three decimals, or "<0.001"; "-" for NaN."""
    if np.isnan(value):
        return "-"
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def p_statement(value: float) -> str:
    """Return a p-value as a statement: "p = 0.021" or "p < 0.001"."""
    return "p < 0.001" if value < 0.0005 else f"p = {p_text(value)}"


def text_of_level(level: Any) -> str:
    """Return a level of a factor as R writes it: TRUE, and 12.5 or 3 for numbers."""
    if isinstance(level, bool | np.bool_):
        return "TRUE" if level else "FALSE"
    if isinstance(level, float | np.floating):
        return f"{float(level):.15g}"
    return str(level)


class Statistics(pd.Series):  # type: ignore[misc, unused-ignore]
    """A pandas Series of statistics, printed with digits that suit each of them.

    Whatever pandas makes of it is an ordinary Series.
    """

    @property
    def _constructor(self) -> Any:
        return pd.Series

    def __repr__(self) -> str:
        texts = cells_of(self.to_frame().T).iloc[0]
        left, right = max(map(len, texts.index)), max(map(len, texts))
        lines = [f"{name:<{left}}  {text:>{right}}" for name, text in texts.items()]
        return "\n".join([str(self.name), *lines] if self.name is not None else lines)


def cells_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as text: estimates to the digits of their errors, degrees of freedom and p-values in their own way."""
    digits = _digits_of_rows(table)
    columns = [_texts(str(name), table.iloc[:, at], digits) for at, name in enumerate(table.columns)]
    return pd.DataFrame(dict(enumerate(columns)), index=table.index).set_axis(table.columns, axis=1)


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
    if name.startswith("p_"):
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
