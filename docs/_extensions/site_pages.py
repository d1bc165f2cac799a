"""What pages need beside Sphinx and its extensions: described pictures, the order of lessons, code as it reads, keywords."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

# Lessons in the order of teaching, where that is not the order of the alphabet.
LESSONS = [
    "ols_baselines",
    "groups_as_features",
    "predictors_at_two_levels",
    "within_between_contextual",
    "effect_sizes",
    "repeated_measures",
    "random_slopes",
    "three_levels",
    "crossed",
    "lmer_in_python",
]


class LessonOrder:
    """Sorts the lessons of a section: those of `LESSONS` first, in its order.

    Parameters
    ----------
    folder : str
        Folder of the section.
    """

    def __init__(self, folder: str):
        self.folder = folder

    def __call__(self, filename: str) -> tuple[int, str]:
        """Return the key of a lesson."""
        name = Path(filename).stem
        return LESSONS.index(name) if name in LESSONS else len(LESSONS), name


def save_figures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the open figures of an example, each described by its label, and return their markup.

    Raises
    ------
    ValueError
        If a figure has no label: those who do not see it would not know what it shows.
    """
    import matplotlib.pyplot as plt
    from sphinx_gallery.scrapers import figure_rst

    markup = []
    for number in plt.get_fignums():
        figure = plt.figure(number)
        description = str(figure.get_label())
        if len(description.split()) < 4:
            raise ValueError(
                f"{Path(block_vars['src_file']).name}: figure {number} has the label {description!r}. Say in a sentence "
                "what it shows: figure.set_label(...)."
            )
        path = next(block_vars["image_path_iterator"])
        figure.savefig(path, dpi=110)
        markup.append(figure_rst([path], gallery_conf["src_dir"], description))
    plt.close("all")
    return "".join(markup)


def trim_code(app: Sphinx, doctree: nodes.document) -> None:
    """Take off the empty line at the end of a block of code, which doctests need and readers do not."""
    for block in doctree.findall(nodes.literal_block):
        text = block.astext()
        if text.endswith("\n") and isinstance(block[0], nodes.Text):
            block.rawsource = text.rstrip("\n")  # without it, Sphinx does not colour the code
            block[:] = [nodes.Text(block.rawsource)]


def index_keywords(app: Sphinx, doctree: nodes.document) -> None:
    """Let the search find a page by the keywords in its front matter: they become main entries of the index."""
    keywords = app.env.metadata[app.env.docname].get("keywords", "")
    if keywords:
        entries = [("single", word.strip(), "", "main", None) for word in keywords.split(",")]
        doctree.insert(0, addnodes.index(entries=entries))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what pages need to the build."""
    app.connect("doctree-read", trim_code)
    app.connect("doctree-read", index_keywords)
    return {"parallel_read_safe": True}
