"""The theory pages: each numbered equation has a source, a function that computes it, and a test that holds it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from pages import sentences

PROJECT = Path(__file__).resolve().parents[1]
DOCS = PROJECT / "docs"
PAGES = sorted(path for path in (DOCS / "theory").glob("*.md") if path.stem != "index")
COLUMNS = ["Equation", "Source", "Computed by", "Held by"]

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


@cache
def text_of(path):
    return path.read_text(encoding="utf-8")


def labels(path):
    """Labels of the numbered equations of a page."""
    return re.findall(r"^\$\$ \(([\w-]+)\)$", text_of(path), re.MULTILINE)


def rows(path):
    """Rows of the table at the end of a page, the head first."""
    table = re.search(r"^```\{list-table\}\n(?::.*\n)+\n(.*?)^```\s*\Z", text_of(path), re.DOTALL | re.MULTILINE)
    assert table, "the page does not end with a table of sources, code and tests"
    return [
        [" ".join(cell.split()) for cell in re.split(r"^  - ", row, flags=re.MULTILINE)]
        for row in re.split(r"^\* - ", table[1], flags=re.MULTILINE)[1:]
    ]


@cache
def names_in(path):
    """Functions and classes of a file, and the members of the classes after a dot."""
    found = set()
    for node in ast.parse(text_of(path)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        for member in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(member, ast.FunctionDef):
                found.add(f"{node.name}.{member.name}")
            elif isinstance(member, ast.AnnAssign):
                found.add(f"{node.name}.{ast.unparse(member.target)}")
    return found


def names_by_file(cell, folder):
    """Yield each file that a cell names, and the names that follow it."""
    parts = re.split(r"`([\w/]+\.py)`", cell)
    assert not re.findall(r"`", parts[0]), cell
    for name, rest in zip(parts[1::2], parts[2::2], strict=True):
        yield folder / name, re.findall(r"`([^`]+)`", rest)


def test_every_page_is_in_the_list_of_pages():
    index = text_of(DOCS / "theory" / "index.md")
    listed = re.findall(r"^- \{doc\}`(\w+)`: \w", index, re.MULTILINE)
    assert listed == re.search(r":hidden:\n\n(.*?)\n```", index, re.DOTALL)[1].split()
    assert sorted(listed) == [path.stem for path in PAGES]


def test_no_equation_is_numbered_twice():
    everywhere = [label for path in PAGES for label in labels(path)]
    assert len(everywhere) == len(set(everywhere)) > 50


@each_page
def test_every_numbered_equation_has_a_row(path):
    head, *body = rows(path)
    assert head == COLUMNS
    assert all(len(row) == len(COLUMNS) and all(row) for row in body)
    assert [re.match(r"\{eq\}`([\w-]+)` \w", row[0])[1] for row in body] == labels(path)


@each_page
def test_every_source_is_listed_in_full(path):
    lists = text_of(DOCS / "cite.md") + text_of(DOCS / "theory" / "index.md")
    entries = [" ".join(entry.split()) for entry in re.split(r"\n- |\n\n", lists)]
    for source in (row[1] for row in rows(path)[1:]):
        for authors, year in re.findall(r"([A-Z][^();]*?) \((\d{4})\)", source):
            surnames = re.findall(r"[A-Z][a-z]+", authors)
            assert any(f"({year})" in entry and all(name in entry for name in surnames) for entry in entries), source


@each_page
@pytest.mark.parametrize(("column", "folder"), [(2, "sklearn_mlm"), (3, "tests")], ids=["code", "tests"])
def test_every_function_and_every_test_exists(path, column, folder):
    for cell in (row[column] for row in rows(path)[1:]):
        files = list(names_by_file(cell, PROJECT / folder))
        assert files, cell
        for file, names in files:
            assert file.is_file(), cell
            assert names, cell
            assert not set(names) - names_in(file), cell
            assert all(name.startswith("test_") for name in names) or folder != "tests"


@each_page
def test_every_file_that_a_page_names_exists(path):
    for name in re.findall(r"`((?:benchmarks|docs|sklearn_mlm|tests)/[\w./]*)`", text_of(path)):
        assert (PROJECT / name).exists(), name


@each_page
def test_a_page_is_short_and_compares_formulas_with_the_package(path):
    words = re.sub(r"^\|.*$", " ", sentences(text_of(path)), flags=re.MULTILINE).split()
    assert len(words) <= 1200
    assert ">>>" in text_of(path)
