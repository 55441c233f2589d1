"""How `make docs` builds these pages: Sphinx on Markdown, with the reference made of the docstrings."""

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")

project = "affectune"
author = "the authors of affectune"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "affectune"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["pages.css"]
smartquotes = False  # words of commands are quoted as they are typed
default_role = "code"  # what docstrings have between single backticks
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
napoleon_use_ivar = True
nitpicky = False

_ELSEWHERE = re.compile(r"\[([^\]]+)\]\((\.\./[^)]*)\)")
"""A link to a file of the checkout that is no page of the docs."""


def name_files_of_the_checkout(app: Sphinx, page: str, source: list[str]) -> None:
    """On the built pages, where the checkout is not beside them, such a file is named instead of linked to."""
    source[0] = _ELSEWHERE.sub(lambda found: f"`{found[2].removeprefix('../')}`", source[0])


def setup(app: Sphinx) -> None:
    """Sphinx's hook."""
    app.connect("source-read", name_files_of_the_checkout)
