"""Sphinx settings of the documentation's site: `make docs` builds it into build/docs.

The pages are plain Markdown, which a repository's file view shows as well, so they contain no directives. What a site
needs besides is added while a page is read: the navigation follows the links of each index page.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
PYPROJECT = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
_PAGE_LINK = re.compile(r"\]\(([\w./-]+)\.md\)")

project = "Mondrian"
author = "The Mondrian authors"
release = PYPROJECT["project"]["version"]

extensions = ["myst_parser"]
myst_heading_anchors = 4  # the anchors that a repository's file view gives to headings
smartquotes = False  # pages show what their authors typed, such as "--folds"

html_theme = "furo"
html_title = f"Mondrian {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_use_index = False
html_domain_indices = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d3557", "color-brand-content": "#1d4ed8"},
    "dark_css_variables": {"color-brand-primary": "#a8c7fa", "color-brand-content": "#8ab4f8"},
    "footer_icons": [],
}


def pages_of_index(text: str, docname: str) -> list[str]:
    """The pages that an index page lists: those of its folder, and the index pages of folders below."""
    names = dict.fromkeys(_PAGE_LINK.findall(text))
    below = re.compile(r"[\w-]+/index" if docname == "index" else r"[\w-]+")
    return [name for name in names if below.fullmatch(name)]


def add_navigation(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Append a hidden table of contents to an index page."""
    if docname.rpartition("/")[2] == "index":
        entries = "\n".join(pages_of_index(source[0], docname))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"


def break_first_lines(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Keep the line breaks between the first lines of a decision: status, date and topic."""
    if docname.startswith("decisions/"):
        source[0] = re.sub(r"^((?:Status|Date): .+)\n(?=Date|Topic)", "\\1\\\\\n", source[0], flags=re.MULTILINE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what adds to the pages; called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("source-read", break_first_lines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
