"""Tables and text, printed and as HTML. Renders, computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

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
    columns : sequence of str
        Headings of the cells.
    labels : sequence of sequence of str
        Of each row, its labels, outermost first; one that repeats the row above is left blank.
    cells : sequence of sequence of str
        Of each row, a string a column.
    note : str
        A line below.
    """

    title: str
    columns: Sequence[str]
    labels: Sequence[Sequence[str]]
    cells: Sequence[Sequence[str]]
    note: str = ""

    def _shown_labels(self) -> list[list[str]]:
        """Return the labels of each row, those that repeat the row above blank."""
        shown = []
        for at, labels in enumerate(self.labels):
            above = self.labels[at - 1] if at else [None] * len(labels)
            same = [list(above[: i + 1]) == list(labels[: i + 1]) for i in range(len(labels))]
            shown.append(["" if repeated else label for label, repeated in zip(labels, same, strict=True)])
        return shown

    def text(self) -> str:
        """Return the table as lines of text."""
        labels = self._shown_labels()
        depth = len(labels[0]) if labels else 0
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
        labels = self._shown_labels()
        depth = len(labels[0]) if labels else 0
        head = "<th></th>" * depth + "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in self.columns)
        rows = []
        for row_labels, row in zip(labels, self.cells, strict=True):
            # A line above each new outermost label, where there are inner ones.
            line = _LINE if depth > 1 and row_labels[0] else ""
            weights = ("bold", *("normal",) * (depth - 1))
            left = "".join(
                f'<th style="{_LABEL}; font-weight: {weight}">{escape(label)}</th>'
                for label, weight in zip(row_labels, weights, strict=True)
            )
            rows.append(
                f'<tr style="{line}">{left}' + "".join(f'<td style="{_CELL}">{escape(c)}</td>' for c in row) + "</tr>"
            )
        caption = f'<caption style="{_CAPTION}">{escape(self.title)}</caption>'
        note = f'<p style="margin: 0.2em 0.7em">{escape(self.note)}</p>' if self.note else ""
        return f'<table style="{_TABLE}">{caption}<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>{note}'


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return cells in columns of these widths, each with two spaces before it."""
    return "".join("  " + cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


@dataclass(frozen=True)
class Report:
    """A title, lines, tables, and paragraphs that close it.

    Attributes
    ----------
    title : str
    facts : sequence of str
    tables : sequence of Table
    closing_title : str
    closing : sequence of str
        Paragraphs.
    """

    title: str
    facts: Sequence[str]
    tables: Sequence[Table]
    closing_title: str
    closing: Sequence[str]

    def text(self, width: int = 100) -> str:
        """Return the report as text, its paragraphs broken into lines of at most this width."""
        from textwrap import fill

        dash, indent = ("- ", "  ") if self.closing_title else ("", "")
        paragraphs = [fill(paragraph, width, initial_indent=dash, subsequent_indent=indent) for paragraph in self.closing]
        parts = ["\n".join([self.title, *self.facts]), *(table.text() for table in self.tables)]
        closing = "\n".join([self.closing_title] * bool(self.closing_title) + paragraphs)
        return "\n\n".join([*parts, closing] if closing else parts)

    def html(self) -> str:
        """Return the report as HTML, which notebooks show."""
        facts = "".join(f"<br/>{escape(fact)}" for fact in self.facts)
        items = "".join(f"<li>{escape(paragraph)}</li>" for paragraph in self.closing)
        tables = "".join(table.html() for table in self.tables)
        title = f"<p><strong>{escape(self.title)}</strong>{facts}</p>"
        closing = f"<p><strong>{escape(self.closing_title)}</strong></p>" * bool(self.closing_title)
        return f"<div>{title}{tables}{closing}{f'<ul>{items}</ul>' * bool(items)}</div>"


def number_text(value: float, digits: int | None) -> str:
    """Return a number with so many decimals (None: four significant digits), "-" for none."""
    if np.isnan(value):
        return "-"
    # Adding 0 takes the sign off a zero.
    return f"{value:.4g}" if digits is None else f"{round(value, digits) + 0.0:.{digits}f}"


def decimals(size: float, significant: int = 3) -> int | None:
    """Return how many decimals show so many significant digits of a number of this size; None if it is no size for them."""
    if not np.isfinite(size) or size <= 0:
        return 3
    digits = int(significant - 1 - np.floor(np.log10(size)))
    return max(digits, 0) if -5 <= digits <= 6 else None


def df_text(value: float) -> str:
    """Return degrees of freedom: whole ones as such, others with a decimal; infinitely many are inf."""
    if not np.isfinite(value):
        return "-" if np.isnan(value) else "inf"
    return f"{value:.0f}" if abs(value - round(value)) < 1e-6 else f"{value:.1f}"


def p_text(value: float) -> str:
    """Return a p-value with three decimals, or that it is smaller."""
    return "-" if np.isnan(value) else "<0.001" if value < 0.0005 else f"{value:.3f}"


def p_statement(value: float) -> str:
    """Return a p-value as a statement: "p = 0.021", "p < 0.001"."""
    return "p < 0.001" if value < 0.0005 else f"p = {p_text(value)}"
