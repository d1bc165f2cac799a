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


class Statistics(pd.Series):  # type: ignore[misc, unused-ignore]
    """A pandas Series of statistics, printed with digits that suit each of them.

    Whatever pandas makes of it is an ordinary Series.
    """

    @property
    def _constructor(self) -> Any:
        return pd.Series

    def __repr__(self) -> str:
        texts = statistics_texts({str(name): float(value) for name, value in self.items()})
        left, right = max(map(len, texts), default=0), max(map(len, texts.values()), default=0)
        lines = [f"{name:<{left}}  {text:>{right}}" for name, text in texts.items()]
        return "\n".join([str(self.name), *lines] if self.name is not None else lines)


def statistics_texts(values: dict[str, float]) -> dict[str, str]:
    """Return statistics as strings: estimates to the digits of their standard error, df and p-values in their own way."""
    error = values.get("std_error", np.nan)
    digits = decimals(error if error > 0 else abs(values.get("estimate", np.nan)), 4)
    texts = {}
    for name, value in values.items():
        if name in ("estimate", "null", "std_error", "ci_lower", "ci_upper"):
            texts[name] = number_text(value, digits)
        elif name.startswith("df"):
            texts[name] = df_text(value)
        elif name.startswith("p_value"):
            texts[name] = p_text(value)
        elif name == "t":
            texts[name] = number_text(value, 2)
        else:
            texts[name] = number_text(value, decimals(max(abs(value), 0.1), 3) if np.isfinite(value) else None)
    return texts
