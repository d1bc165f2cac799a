"""Build the documentation site: ``python -m sphinx -W --keep-going docs docs/_build/html``, with the extra "docs"."""

import os
import sys
from importlib.metadata import files
from pathlib import Path

HERE = Path(__file__).parent
# The tree beside this file is documented, not an installed copy.
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]
os.environ.setdefault("MPLBACKEND", "Agg")

import sklearn_mlm  # noqa: E402

project = "sklearn-mlm"
author = "the sklearn-mlm developers"
copyright = author
version = release = sklearn_mlm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "sphinx_copybutton",
    "myst_parser",
    "matplotlib.sphinxext.plot_directive",
    "site_links",
    "site_pages",
]
# The pages of times load scripts from other servers.
exclude_patterns = ["_build", "_templates", "_extensions", "**/sg_execution_times.rst", "sg_execution_times.rst"]
templates_path = ["_templates"]
nitpicky = True  # a name that does not exist is an error
smartquotes_action = "qe"  # "--" stays what it is

# Reference
autodoc_typehints = "none"  # numpydoc's sections have the types
add_function_parentheses = False
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False  # the template of classes shows them

# Pages
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"
plot_formats = [("png", 110)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"figure.constrained_layout.use": True, "axes.spines.top": False, "axes.spines.right": False}

# MathJax comes in a Python package, so that no page asks another server for it.
MATHJAX = next(str(path.locate()) for path in files("sphinx-mathjax-offline") or [] if path.name == "tex-svg.js")
mathjax_path = "tex-svg.js"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # Spark needs Java: its lesson is shown and not run. The null model, the first command of the README, is no lesson.
    "filename_pattern": r"/(?!spark_)[^/]*\.py$",
    "ignore_pattern": r"null_model\.py",
    "within_subsection_order": "site_pages.LessonOrder",
    "image_scrapers": ("site_pages.save_figures",),
    "reset_modules": ("matplotlib",),
    "doc_module": ("sklearn_mlm",),
    "backreferences_dir": "api/backreferences",
    "reference_url": {"sklearn_mlm": None},
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-mlm"
html_static_path = ["_static", MATHJAX]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_search_scorer = str(HERE / "_static" / "scorer.js")
html_domain_indices = False
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "install": [], "start": []}
html_theme_options = {
    "logo": {"text": "sklearn-mlm"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": ["copyright"],
    "footer_end": [],
}
