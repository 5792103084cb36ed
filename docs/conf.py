"""The documentation site: Sphinx with MyST.

    python -m sphinx -W -b html docs build/site

makes it, without a network, from an environment that has the package and the extra ``docs``.
Before anything is read, two folders are made beside the pages, which git ignores: the notebooks,
whose outputs are made while the site is built, and the reference, a page for each room of the
package that has public names.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcpaudit_lab
import mcpaudit_lab.portal
import mcpaudit_lab.server

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_DOCS = Path(__file__).parent

project = "mcpaudit_lab"
author = "the mcpaudit_lab authors"
version = release = mcpaudit_lab.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["attrs_block"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300
# Widgets would fetch their scripts from elsewhere: a page shows what they say without them.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
# SQL with an engine's name behind it and listings that end in "…" are no syntax of a lexer's.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"mcpaudit_lab {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "tango"
pygments_dark_style = "monokai"

# What the page of a room is called; a room that is not here is called by its name.
_TITLES = {
    "client": "Portals",
    "comparison": "Comparing events",
    "errors": "Errors",
    "events": "Events",
    "filters": "Filters",
    "jsondiff": "Comparing JSON",
    "lab": "The lab",
    "replay": "Replays",
    "server": "The server",
    "widgets": "Widgets",
}


def copy_notebooks() -> None:
    """Put the notebooks beside the pages, and turn their links to pages round."""
    folder = _DOCS / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted((_DOCS.parent / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8").replace("](../docs/", "](../")
        (folder / path.name).write_text(text, encoding="utf-8")


def write_reference() -> None:
    """Write the reference: each public name once, imported from where users should import it."""
    folder = _DOCS / "reference"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rooms: dict[str, list[str]] = {}
    seen: set[int] = set()
    for module in (mcpaudit_lab, mcpaudit_lab.portal, mcpaudit_lab.server):
        for name in module.__all__:
            value = getattr(module, name)
            if id(value) not in seen:
                seen.add(id(value))
                room = value.__module__.split(".")[1]
                rooms.setdefault(room, []).extend(_entry(module.__name__, name, value))
    for room, lines in rooms.items():
        text = "\n".join([f"# {_title(room)}", "", *lines])
        (folder / f"{room}.md").write_text(text, encoding="utf-8")
    names = "\n".join(sorted(rooms, key=_title))
    text = f"# Reference\n\nPublic names, from their docstrings.\n\n```{{toctree}}\n{names}\n```\n"
    (folder / "index.md").write_text(text, encoding="utf-8")


def _title(room: str) -> str:
    return _TITLES.get(room, room)


def _entry(module: str, name: str, value: Any) -> list[str]:
    if not isinstance(value, type):
        kind, options = ("autofunction" if callable(value) else "autodata"), []
    else:
        kind = "autoclass"
        options = ["   :show-inheritance:"] if issubclass(value, Exception) else ["   :members:"]
    return ["```{eval-rst}", f".. {kind}:: {module}.{name}", *options, "```", ""]


def turn_links(_: Sphinx, __: str, source: list[str]) -> None:
    """Let links out of this folder lead to what the site has in its place."""
    source[0] = re.sub(r"\]\(\.\./notebooks/", "](notebooks/", source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx before it reads."""
    copy_notebooks()
    write_reference()
    app.connect("source-read", turn_links)
