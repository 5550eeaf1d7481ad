"""Settings of Sphinx for the documentation site (`make docs`). The site loads nothing from outside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.append(str(Path(__file__).parent))

import reference_pages

project = "pytest-flopsbudget"
author = "The pytest-flopsbudget developers"
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The folders hold scripts and data. Their Markdown files are not pages.
exclude_patterns = ["*/results*", "compatibility/upgrade_project", "examples"]

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_copy_source = False
html_use_index = False
html_show_sourcelink = False
html_show_sphinx = False

myst_heading_anchors = 4
#: "2 * 3" and straight quotes stay as they are written.
smartquotes = False
#: Single backquotes in docstrings mean code.
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
nitpicky = True
#: Annotations name private classes, and classes of other libraries, which have no pages here. Links in pages are
#: checked.
nitpick_ignore_regex = [("py:.*", ".*")]
#: Blocks with "..." for what was left out are no valid JSON or Python, but are shown in these colours.
suppress_warnings = ["misc.highlighting_failure"]


def setup(app: Sphinx) -> None:
    """Write the pages of docs/reference/ that are made from the code, before Sphinx looks for pages."""
    app.connect("config-inited", lambda _app, _config: reference_pages.write())
