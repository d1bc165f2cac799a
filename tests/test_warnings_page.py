"""Every message of the package has an entry on docs/guide/warnings.md, and every text of that page is in the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "guide" / "warnings.md").read_text(encoding="utf-8")
# An entry: its anchor, its heading, the texts of its messages, and what they mean.
ENTRY = re.compile(r"^\((warning|error)(-[a-z0-9-]+)\)=\n### .+\n\n((?:- `[^`\n]+`\n)+)\n[^\s#(-]", re.MULTILINE)
OURS = PAGE.split("## Messages of scikit-learn")[0]
HOLE = "…"  # what only a running program knows; the page writes "..." for it, and for the end of a long message

# Calls whose first argument is a message.
MAKES_A_MESSAGE = re.compile(r"(\w(Error|Warning)|\b(warn|warn_caller|warn_of_missing_groups|error|_error|add_note|_told))$")
# Functions that return messages, and a class that lists some.
BUILDERS = {
    "_finding",
    "_labels_among_predictors",
    "_made_of_labels",
    "_transformed",
    "_boundary_in_words",
    "_reason",
    "Outcome",
}
# Functions with calls in which the parser finds no text.
PASSED_ON = {"warn_caller", "warn_of_missing_groups"}  # emit the messages of their callers
PASSED_ON |= {
    "warn_of_peculiar_labels",
    "complaint",
    "_explanation",
    "check_identified",
}  # emit the messages of BUILDERS, and advice
PASSED_ON |= {"_learn"}  # wraps the message of another call
PASSED_ON |= {"__getattr__"}  # raises an AttributeError, which scikit-learn expects
# Messages that no user meets.
INTERNAL = {
    f"module {HOLE} has no attribute {HOLE}": "what Python says of any module",
    "brackets are checked before": "an assertion",
    "a formula without a left side has no outcome": "an assertion",
    "matrix is not positive definite": "caught where it is raised",
    "the equations of the core are not positive definite": "caught where the criterion is evaluated",
    "the factors of a chain must be nested": "an assertion",
    "the first batch makes a record": "an assertion",
    "cell_codes must be positions of labels": "caught, and raised as an incomplete file",
    "it is compressed": "caught, and raised as an incomplete file",
    "a minimum, certified by Newton's decrement and by the multipliers of the directions without variance": "a success",
}


def assigned(nodes: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    """Return the expressions that are assigned to each variable."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def texts(node: ast.AST, scopes: list[dict[str, list[ast.expr]]], depth: int = 0) -> set[str]:
    """Return the texts that an expression may have, as far as the source tells."""
    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.JoinedStr(values=parts):
            either = [parts]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            either = [[left, right]]
        case ast.FormattedValue(value=value, conversion=-1):  # a value with !r gets quotation marks
            return texts(value, scopes, depth + 1)
        case ast.Call(func=ast.Attribute(value=value, attr="format")):
            return {text.replace("{}", HOLE) for text in texts(value, scopes, depth + 1)}
        case ast.IfExp(body=first, orelse=second):
            either = [[first], [second]]
        case ast.Name(id=name) if depth < 12 and any(name in scope for scope in scopes):
            either = [[value] for value in next(scope[name] for scope in scopes if name in scope)]
        case _:
            return {HOLE}
    return {"".join(one) for parts in either for one in product(*(texts(part, scopes, depth + 1) for part in parts))}


def messages() -> tuple[set[str], set[str]]:
    """Return the templates of all messages of the package, and the functions that pass on messages of others."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "sklearn_mlm").rglob("*.py")]
    modules = [assigned(tree.body) for tree in trees]
    imported = {name: values for module in modules for name, values in module.items() if name.isupper() and name[0] != "_"}
    templates, passing = set(), set()
    for tree, module in zip(trees, modules, strict=True):
        for part in ast.walk(tree):
            function, builds = isinstance(part, ast.FunctionDef), getattr(part, "name", None) in BUILDERS
            nodes = list(ast.walk(part)) if function or builds else []
            for node in nodes:
                if builds and isinstance(node, ast.Return if function else ast.Assign):
                    expression = node.value
                elif isinstance(node, ast.Call) and node.args and MAKES_A_MESSAGE.search(ast.unparse(node.func)):
                    expression = node.args[0]
                else:
                    continue
                for text in texts(expression, [assigned(nodes), module, imported]):
                    template = re.sub(f"{HOLE}+", HOLE, " ".join(text.split()))
                    if re.search("[a-z]{2}", template):
                        templates.add(template)
                    elif not builds:
                        passing.add(part.name)
    return templates, passing


TEMPLATES, PASSING = messages()
TEXTS = re.findall(r"^- `([^`\n]+)`$", OURS, re.MULTILINE)
PATTERNS = {text: re.compile(".*".join(map(re.escape, text.split("...")))) for text in TEXTS}


def test_every_message_is_on_the_page():
    missing = {one for one in TEMPLATES - set(INTERNAL) if not any(p.fullmatch(one) for p in PATTERNS.values())}
    assert not missing
    assert set(INTERNAL) <= TEMPLATES
    assert PASSING == PASSED_ON


def test_every_text_of_the_page_is_a_message():
    assert not [text for text, pattern in PATTERNS.items() if not any(map(pattern.fullmatch, TEMPLATES))]
    assert not [text for text in TEXTS if len(text.replace("...", "").strip()) < 10 or TEXTS.count(text) > 1]


def test_every_entry_has_an_anchor_texts_and_a_meaning():
    entries = ENTRY.findall(PAGE)
    assert len(entries) == PAGE.count("\n### ") == len({kind + name for kind, name, _ in entries})
    assert sum(found.count("\n") for *_, found in entries) == len(re.findall("^- ", PAGE, re.MULTILINE))
    assert re.fullmatch("1(23+)+", "".join(str(len(signs)) for signs in re.findall("^(#+) ", PAGE, re.MULTILINE)))
    for section in PAGE.split("\n## ")[1:]:
        kinds = [kind for kind, *_ in ENTRY.findall(section)]
        assert kinds == sorted(kinds, reverse=True), f"Warnings come first: {section.splitlines()[0]}"
