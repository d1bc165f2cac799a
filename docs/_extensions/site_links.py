"""What a name in code links to: an object of the package, one of a neighbour, or nothing."""

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.roles import XRefRole
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

# Names of other packages that docstrings and pages use. An unlisted one is a warning, and no build asks another server.
_SKLEARN = "https://scikit-learn.org/stable/"
_PANDAS = "https://pandas.pydata.org/docs/reference/api/"
NEIGHBOURS = {
    "numpy.ndarray": "https://numpy.org/doc/stable/reference/generated/numpy.ndarray.html",
    "pandas.DataFrame": f"{_PANDAS}pandas.DataFrame.html",
    "pandas.Series": f"{_PANDAS}pandas.Series.html",
    "pandas.Index": f"{_PANDAS}pandas.Index.html",
    "sklearn.linear_model.LinearRegression": f"{_SKLEARN}modules/generated/sklearn.linear_model.LinearRegression.html",
    "sklearn.set_config": f"{_SKLEARN}modules/generated/sklearn.set_config.html",
    "metadata_routing": f"{_SKLEARN}metadata_routing.html",
    "meta-estimator": f"{_SKLEARN}glossary.html#term-meta-estimator",
}


class Maybe(XRefRole):
    """The role of single backticks: a link if the name is one of ours, code if it is not."""

    def process_link(
        self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        """Look the name up as an object of Python, from within the module and class that speak of it."""
        refnode["maybe"], refnode["refdomain"], refnode["reftype"] = True, "py", "obj"
        refnode["py:module"], refnode["py:class"] = env.ref_context.get("py:module"), env.ref_context.get("py:class")
        return title, target


def public_object(env: BuildEnvironment, text: str) -> tuple[str, str] | None:
    """Return the page and the anchor of the one public object that a piece of code is the name, or a call, of."""
    name = re.match(r"[\w.]+", text)
    if name is None or text[name.end() :][:1] not in ("", "("):
        return None
    found = [
        (entry.docname, entry.node_id)
        for full, entry in env.domains.python_domain.objects.items()
        if f".{full}".endswith(f".{name[0]}") and not entry.aliased
        if entry.objtype in ("class", "exception", "function") or (entry.objtype == "method" and "." in name[0])
    ]
    return found[0] if len(found) == 1 else None


def resolve(app: Sphinx, env: BuildEnvironment, node: nodes.Element, contnode: nodes.Node) -> Any:
    """Return what a name that Sphinx does not find becomes; for None, Sphinx warns."""
    target = node["reftarget"]
    for name, address in NEIGHBOURS.items():
        if target in (name, name.rpartition(".")[2]):
            return nodes.reference("", "", contnode, refuri=address, internal=False)
    if node.get("maybe"):
        if place := public_object(env, target):
            return make_refnode(app.builder, node["refdoc"], *place, contnode)
        # A name that claims to be one of ours has to be.
        return None if target.startswith("sklearn_mlm.") else contnode
    return None


def _parents(node: nodes.Element) -> Iterator[nodes.Element]:
    """Yield the elements that hold a node, from the inside out."""
    while (node := node.parent) is not None:
        yield node


def _speaks_of_others(node: nodes.Element) -> bool:
    """Return whether names in an element are no links: in headings, links, and the first column of a dictionary."""
    if isinstance(node, nodes.entry) and node.parent.index(node) == 0:
        return any("dictionary" in parent["classes"] for parent in _parents(node))
    return isinstance(node, (nodes.title, nodes.reference, nodes.term))


class LinkedNames(SphinxPostTransform):
    """Make the names of public objects in the code of Markdown pages links."""

    default_priority = 20

    def run(self, **kwargs: Any) -> None:
        """Wrap each literal that names an object, unless it is in a heading or in a link."""
        if not str(self.env.doc2path(self.env.docname)).endswith(".md"):
            return
        for literal in list(self.document.findall(nodes.literal)):
            place = public_object(self.env, literal.astext())
            if place and not any(_speaks_of_others(parent) for parent in _parents(literal)):
                literal.replace_self(make_refnode(self.app.builder, self.env.docname, *place, literal.deepcopy()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Make names links."""
    app.add_role("maybe", Maybe(innernodeclass=nodes.literal))
    app.config.default_role = "maybe"
    app.connect("missing-reference", resolve, priority=900)
    app.add_post_transform(LinkedNames)
    return {"parallel_read_safe": True}
