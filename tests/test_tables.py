"""Numbers and tables as text."""

import numpy as np
import pytest

from sklearn_mlm import _tables


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [(1.005, 1, "1.0"), (-0.0001, 2, "0.00"), (np.nan, 3, "-"), (1234.5, 0, "1234"), (1.23456e-9, None, "1.235e-09")],
)
def test_numbers(value, digits, expected):
    assert _tables.number_text(value, digits) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(6.61, 2), (0.15, 3), (150.0, 0), (0.0, 3), (np.nan, 3), (1e-12, None), (1e9, None)]
)
def test_decimals_show_three_significant_digits(size, expected):
    assert _tables.decimals(size) == expected


@pytest.mark.parametrize(("value", "expected"), [(178.0, "178"), (22.81, "22.8"), (np.nan, "-"), (161.00000001, "161")])
def test_degrees_of_freedom(value, expected):
    assert _tables.df_text(value) == expected


@pytest.mark.parametrize(("value", "cell", "statement"), [(0.0004, "<0.001", "p < 0.001"), (0.02, "0.020", "p = 0.020")])
def test_p_values(value, cell, statement):
    assert _tables.p_text(value) == cell
    assert _tables.p_statement(value) == statement


def test_a_table_blanks_labels_that_repeat():
    table = _tables.Table(
        "Title", ("x", "long"), [("a", "b"), ("a", "c"), ("d", "c")], [("1", "2"), ("10", "3"), ("-", "")], "note"
    )
    assert table.text() == "Title\n       x  long\na  b   1     2\n   c  10     3\nd  c   -\nnote"
    assert table.html().count("<tr") == 4
