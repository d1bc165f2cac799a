"""The documentation site: its sources always, its built pages where ``docs/_build/html`` exists."""

import dataclasses
import importlib
import inspect
import json
import re
import tomllib
from collections import deque
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from pages import FENCE, blocks, sentences

PROJECT = Path(__file__).resolve().parents[1]
DOCS = PROJECT / "docs"
BUILT = DOCS / "_build" / "html"
DOORS = ["", ".baselines", ".dask", ".datasets", ".display", ".formula", ".inference", ".model_selection"]
GUIDE = sorted(path for path in (DOCS / "guide").glob("*.md") if path.stem not in ("index", "warnings"))
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
# The others are files of the project.
WRITTEN = [path for path in PAGES if "{include}" not in path.read_text(encoding="utf-8")]
# Pages with figures that this package computes. Those of other tools are in a file that test_coming_from.py reads.
FIGURES = [DOCS / "index.md", DOCS / "start.md", DOCS / "teach.md", *GUIDE, *(DOCS / "theory").glob("[!i]*.md")]

# Numbers in sentences that no code of the page prints, with the reason why they are right.
REASONS = {
    "guide/fixed_effects": {"180": "rows of sleepstudy"},
    "guide/marginaleffects": {"0.6": "a version"},
    "guide/pipelines": {"1.8": "a version", "1.9": "a version"},
    "guide/random_slopes": {"180": "rows of sleepstudy"},
    "guide/read_the_summary": {"10,000": "test_summary.py", "0.7": "quartiles of the normal distribution"},
    "guide/variance": {"0.05": "an example of a small ICC"},
    "guide/weights": {"180": "rows of sleepstudy", "270": "180 rows, 90 of them twice"},
    "teach": {"190": "95% of 200"},
}


def text_of(path):
    return path.read_text(encoding="utf-8")


@cache
def doors():
    return [importlib.import_module(f"sklearn_mlm{door}") for door in DOORS]


@cache
def public_objects():
    """Classes and functions by their shortest public path."""
    found = {}
    for module in doors():
        for name in module.__all__:
            thing = getattr(module, name)
            if not inspect.ismodule(thing) and thing not in found.values():
                found[f"{module.__name__}.{name}"] = thing
    return found


def reasons_of(path):
    return REASONS.get(path.relative_to(DOCS).with_suffix("").as_posix(), {})


def is_near(number, decimals, printed):
    return any(abs(abs(value) - number) <= 0.5000001 * 10.0**-decimals for value in printed)


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_numbers_in_sentences_are_printed_by_the_page_or_measured(path):
    text = text_of(path)
    code = "\n".join(body for kind, body in blocks(text) if kind != "{eval-rst}")
    printed = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*(?:e-?\d+)?", code) if number != ","]
    printed += [100.0 * number for number in printed if number <= 1.0]
    measured = text_of(PROJECT / "benchmarks" / "README.md")
    unexplained = []
    for match in re.finditer(r"(?<![\w.,])(\d[\d,]*\d|\d)(\.\d+)?(%?)(?![\w])", sentences(text)):
        shown = match[1] + (match[2] or "")
        value, decimals = float(shown.replace(",", "")), len(match[2] or ".") - 1
        small = not match[2] and not match[3] and (value <= 100 or 1900 <= value <= 2030)  # counts, and years of papers
        level = match[0] == "95%"
        if small or level or is_near(value, decimals, printed) or shown in reasons_of(path):
            continue
        if not re.search(rf"(?<![\d.,]){re.escape(shown)}(?![\d.])", measured):
            unexplained.append(match[0])
    assert not unexplained


def test_reasons_are_for_numbers_that_pages_have():
    for path in FIGURES:
        assert [number for number in reasons_of(path) if number not in sentences(text_of(path))] == []


@pytest.mark.parametrize("path", GUIDE, ids=lambda path: path.stem)
def test_a_page_of_the_guide_has_the_shape_of_one(path):
    text = text_of(path)
    headings = re.findall(r"^(#+) (.*)$", FENCE.sub("", text), re.MULTILINE)
    assert headings[0][0] == "#"
    assert headings[0][1].endswith("?")
    assert [title for _, title in headings[-2:]] == ["When not", "See also"] or path.stem == "when_not"
    assert headings[-1][1] == "See also"
    answer = text.partition("\n# ")[2].split("\n\n")[1]
    assert len(re.findall(r"[.!?:](?=\s|$)", re.sub(r"`[^`]*`", "", answer))) <= 5
    assert not answer.startswith(("```", "|", "-", "#"))
    words = re.sub(r"^\|.*$", "", sentences(text), flags=re.MULTILINE).split()
    assert len(words) <= 900
    assert ">>>" in text or path.stem == "marginaleffects"
    assert ".. plot::" in text or path.stem in ("formulas", "marginaleffects")


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_headings_are_in_order_and_pictures_are_described(path):
    depths = [len(marks) for marks in re.findall(r"^(#+) ", FENCE.sub("", text_of(path)), re.MULTILINE)]
    assert depths[:1] == [1]
    assert depths.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(depths))
    for picture in (body for kind, body in blocks(text_of(path)) if kind == "{eval-rst}" and ".. plot::" in body):
        descriptions = re.findall(r":alt: (.*)", picture)
        assert len(descriptions) == picture.count(".. plot::")
        assert all(len(description.split()) >= 8 for description in descriptions)


def test_pages_with_code_are_tested():
    settings = tomllib.loads(text_of(PROJECT / "pyproject.toml"))["tool"]["pytest"]["ini_options"]
    tested = [PROJECT / name for name in settings["testpaths"]]
    for path in PAGES:
        if ">>>" in text_of(path):
            assert any(path == each or each in path.parents for each in tested), path


def test_code_of_pages_fits_a_page():
    for path in PAGES:
        for kind, body in blocks(text_of(path)):
            if kind == "python":
                long = [line for line in body.splitlines() if line.startswith((">>>", "...")) and len(line) > 88]
                assert not long, f"{path}: {long}"


def test_the_reference_lists_every_public_object_once():
    listed = re.findall(r"^   ([A-Za-z][\w.]*)$", text_of(DOCS / "api" / "index.rst"), re.MULTILINE)
    assert len(listed) == len(set(listed))
    things = []
    for name in listed:
        door, _, last = name.rpartition(".")
        things.append(getattr(importlib.import_module("sklearn_mlm" + (f".{door}" if door else "")), last))
    assert set(things) == set(public_objects().values())


def members(public):
    """Yield where a function, or a class and its public methods and properties, are defined."""
    yield f"{public.__module__}.{public.__qualname__}", public
    for base in inspect.getmro(public) if inspect.isclass(public) else ():
        for name, member in vars(base).items():
            member = getattr(member, "__func__", member)
            ours = base.__module__.startswith("sklearn_mlm") and not name.startswith("_")
            if ours and (inspect.isfunction(member) or isinstance(member, property)):
                yield f"{base.__module__}.{base.__qualname__}.{name}", member


def test_public_docstrings_are_complete():
    validation = pytest.importorskip("numpydoc.validate")
    hooks = pytest.importorskip("numpydoc.hooks.validate_docstrings")
    checks = hooks.parse_config(str(PROJECT))["checks"] | {"PR04", "PR07", "PR08", "RT03"}
    things = {path: thing for public in public_objects().values() for path, thing in members(public)}
    assert len(things) > 100
    failures = [
        f"{path}: {check} {message}"
        for path, thing in sorted(things.items())
        for check, message in validation.validate(path)["errors"]
        # The fields of a record are its attributes.
        if check in checks and not (check == "PR01" and dataclasses.is_dataclass(thing))
    ]
    assert not failures
    assert [name for name, thing in public_objects().items() if ">>>" not in (inspect.getdoc(thing) or "")] == []


def documented_defaults(thing):
    """Parameters of a docstring whose types state a default, and the defaults."""
    section = re.search(r"Parameters\n-+\n(.*?)(?=\n\w[\w ]*\n-+\n|\Z)", inspect.getdoc(thing) or "", re.DOTALL)
    for names, default in re.findall(r"^([\w, ]+) : .*?default=(.+)$", section[1] if section else "", re.MULTILINE):
        for name in names.split(", "):
            yield name, default


def test_documented_defaults_are_the_defaults():
    checked, wrong = 0, []
    for public in public_objects().values():
        for path, thing in members(public):
            if isinstance(thing, property) or (inspect.isclass(thing) and issubclass(thing, Exception)):
                continue
            signature = inspect.signature(thing)
            for name, default in documented_defaults(thing):
                if name not in signature.parameters:
                    continue
                checked += 1
                actual = signature.parameters[name].default
                if default.strip("\"'") != str(actual).strip("$") and default != repr(actual).replace("'", '"'):
                    wrong.append(f"{path}: {name} is documented as {default}, and is {actual!r}")
    assert checked > 150
    assert not wrong


# What the build makes. Its own step of the continuous integration comes before the tests.


@cache
def built(path):
    """Return a built page, parsed."""
    return pytest.importorskip("bs4").BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def pages():
    if not (BUILT / "index.html").is_file():
        pytest.skip("the site is not built: python -m sphinx -W --keep-going docs docs/_build/html")
    found = sorted(path for path in BUILT.rglob("*.html") if "_static" not in path.parts)
    return {path: built(path) for path in found}


def targets(path, page):
    """Yield the file and the fragment that each link of a page leads to."""
    for link in page.select("a[href]"):
        address, _, fragment = link["href"].partition("#")
        if not re.match(r"[a-z]+:", address):
            yield ((path.parent / unquote(address)).resolve() if address else path), unquote(fragment)


def test_every_page_of_the_sources_is_built(pages):
    for source in PAGES:
        assert BUILT / source.relative_to(DOCS).with_suffix(".html") in pages
    for lesson in (PROJECT / "examples").glob("*/*.py"):
        assert BUILT / "auto_examples" / lesson.relative_to(PROJECT / "examples").with_suffix(".html") in pages


def test_no_internal_link_is_dead(pages):
    ids = {path: {tag["id"] for tag in page.select("[id]")} | {""} for path, page in pages.items()}
    dead = []
    for path, page in pages.items():
        for target, fragment in targets(path, page):
            if not target.is_file() or (target in ids and fragment not in ids[target]):
                dead.append(f"{path.relative_to(BUILT)} -> {target.name}#{fragment}")
    assert not dead


def test_every_public_object_is_two_clicks_from_home(pages):
    home = BUILT / "index.html"
    clicks, queue = {home: 0}, deque([home])
    while queue:
        path = queue.popleft()
        for target, _ in targets(path, pages[path]):
            if target in pages and target not in clicks:
                clicks[target] = clicks[path] + 1
                queue.append(target)
    assert not set(pages) - set(clicks) - {BUILT / name for name in ("genindex.html", "search.html")}
    for name, thing in public_objects().items():
        assert any(clicks[path] <= 2 for path in clicks if path.stem == name), (name, thing)


def test_no_page_asks_another_server_for_anything(pages):
    asked = []
    for path, page in pages.items():
        for tag, attribute in (("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")):
            asked += [(path.name, each[attribute]) for each in page.select(f"{tag}[{attribute}]") if "//" in each[attribute]]
    for style in BUILT.rglob("*.css"):
        asked += [(style.name, address) for address in re.findall(r"url\([\"']?((?:https?:)?//[^)]*)", text_of(style))]
    assert not asked


def test_every_picture_is_described(pages):
    poor = []
    for path, page in pages.items():
        for picture in page.select("article img"):
            description = picture.get("alt", "")
            thumbnail = picture.find_parent(class_="sphx-glr-thumbcontainer") is not None
            if not thumbnail and (len(description.split()) < 4 or re.search(r"\.(png|svg)|_\w+_", description)):
                poor.append(f"{path.relative_to(BUILT)}: {description!r}")
    assert not poor


def test_built_pages_have_one_title_ordered_headings_and_tables_with_heads(pages):
    for path, page in pages.items():
        headings = [int(tag.name[1]) for tag in page.select("article h1, article h2, article h3, article h4")]
        if path.stem not in ("search", "genindex"):
            assert headings.count(1) == 1, path
            assert all(after <= before + 1 for before, after in pairwise(headings)), path
        if "api" not in path.parts and "auto_examples" not in path.parts:
            assert all(table.select("th") or "indextable" in table["class"] for table in page.select("article table")), path


def test_mathematics_is_set_by_a_script_of_the_site(pages):
    with_formulas = [page for page in pages.values() if page.select("article .math")]
    assert with_formulas
    for page in with_formulas:
        assert any(script["src"].partition("?")[0].endswith("_static/tex-svg.js") for script in page.select("script[src]"))
    assert (BUILT / "_static" / "tex-svg.js").stat().st_size > 1_000_000


def test_the_order_of_lessons_names_lessons_that_exist():
    listed = re.search(r"LESSONS = \[(.*?)\]", text_of(DOCS / "_extensions" / "site_pages.py"), re.DOTALL)[1]
    assert set(re.findall(r"\w+", listed)) <= {path.stem for path in (PROJECT / "examples").glob("*/*.py")}


def test_notebooks_hold_the_code_of_their_lessons(pages):
    notebooks = sorted((DOCS / "auto_examples").rglob("*.ipynb"))
    lessons = sorted((PROJECT / "examples").glob("*/*.py"))
    assert [path.stem for path in notebooks] == [path.stem for path in lessons]
    for notebook, lesson in zip(notebooks, lessons, strict=True):
        cells = json.loads(text_of(notebook))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        assert all(part.strip() in text_of(lesson) for part in code), lesson
        compile("\n".join(code), str(notebook), "exec")
