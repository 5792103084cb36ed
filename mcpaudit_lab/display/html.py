"""HTML from hostile text: escaping, and the few shapes that every view is made of.

Every text of a record passes through :func:`text_html` or :func:`attribute`; the rest of this room
only combines their results. The output contains no script, no handler and no URL, except for the
pictures and sounds that :mod:`mcpaudit_lab.display.media` has checked.

One style sheet goes with each output, since a notebook may keep one and drop another. It is scoped
to ``.mcpaudit-lab`` and follows the theme of JupyterLab, Notebook 7, VS Code and Colab, else the
reader's own preference. Where a front end strips it, plain tables and lists are left.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

from mcpaudit_lab.record import counted, visible

__all__ = [
    "attribute",
    "badge_html",
    "data_html",
    "facts_html",
    "fold_html",
    "heading_html",
    "inset_html",
    "nested_html",
    "note_html",
    "page_html",
    "style_html",
    "text_html",
    "title_html",
    "whole_page_html",
    "widget_style",
]

TEXT_MAX: Final = 2000
_ATTRIBUTE_MAX: Final = 300
_DATA_MAX: Final = 300
# More combining marks on one letter would cover the lines above it.
_MARKS_MAX: Final = 4

# Of a page of its own: no script, no request, whatever the data says.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
_PAGE_STYLE: Final = """
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color-scheme: light dark; }
main > * { margin-bottom: 1rem; }
@media print {
  body { padding: 0; max-width: none; color-scheme: light; }
  .mcpaudit-lab { break-inside: auto; border-radius: 0; }
  .mal-head, .mal-heading, tr, .mal-note { break-inside: avoid; break-after: avoid-page; }
  tr { break-after: auto; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
}
"""

_OUTCOME_KINDS: Final = {
    **dict.fromkeys(("ok", "equal", "ready", "succeeded"), "ok"),
    **dict.fromkeys(("auth", "unknown", "uncertain"), "unknown"),
    **dict.fromkeys(("changed", "refused", "limited", "unsent"), "warn"),
    **dict.fromkeys(("waiting", "sent"), "plain"),
}


@cache
def style_html() -> str:
    """The style sheet as a ``<style>`` element."""
    sheet = files("mcpaudit_lab.display").joinpath("style.css").read_text(encoding="utf-8")
    # It goes with every output: without its comments and indentation it is a tenth smaller.
    sheet = re.sub(r"/\*.*?\*/|^ +", "", sheet, flags=re.MULTILINE)
    return f"<style>{sheet}</style>"


def widget_style(path: Path) -> str:
    """The style sheet of a widget: the colours that all widgets share, and its own."""
    shared = files("mcpaudit_lab.display").joinpath("widget.css").read_text(encoding="utf-8")
    return shared + path.read_text(encoding="utf-8")


def page_html(*parts: str, label: str) -> str:
    """One output of a notebook: the style sheet, and the parts in their box.

    Args:
        *parts: HTML.
        label: what a screen reader calls the box; text.
    """
    # JupyterLab would read "$…$" in the data as mathematics, were it not for the other classes.
    return (
        '<div class="mcpaudit-lab mathjax_ignore tex2jax_ignore" role="group"'
        f' aria-label="{attribute(label)}">{style_html()}{"".join(parts)}</div>'
    )


def whole_page_html(title: str, parts: Iterable[str]) -> str:
    """A page of its own, which opens offline and prints.

    Args:
        title: text.
        parts: outputs of :func:`page_html`. Each brings the style sheet; the page has it once.
    """
    body = "".join(map(nested_html, parts))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{attribute(title)}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"{style_html()}<style>{_PAGE_STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def nested_html(page: str) -> str:
    """The output of :func:`page_html` as part of another one, which has the style sheet already."""
    return page.replace(style_html(), "")


def text_html(text: str, *, limit: int = TEXT_MAX, lines: bool = False) -> str:
    r"""Text as HTML: escaped, cut if too long, invisible characters shown as escapes.

    Args:
        text: any text.
        limit: maximum number of characters; a longer text is cut, and says so.
        lines: keep line breaks; else they are shown as ``\n``.
    """
    shown = _marked(text[:limit], lines)
    if len(text) > limit:
        shown += f'<i class="mal-more">… {counted(len(text) - limit, "more character")}</i>'
    return shown


def _marked(text: str, lines: bool) -> str:
    if visible(text) == text and (text.isascii() or not _has_marks(text)):
        return html.escape(text)
    return "".join(
        f'<span class="mal-hidden">{part}</span>' if is_hidden else html.escape(part)
        for is_hidden, part in _runs(text, "\n\t" if lines else "")
    )


def _runs(text: str, kept: str = "") -> Iterator[tuple[bool, str]]:
    """The text in pieces: visible text unchanged, and escapes for invisible characters."""
    escapes: list[tuple[bool, str]] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        escape = visible(char) if marks <= _MARKS_MAX else f"\\u{ord(char):04x}"
        is_hidden = escape != char and char not in kept
        escapes.append((is_hidden, escape if is_hidden else char))
    for is_hidden, run in groupby(escapes, key=itemgetter(0)):
        yield is_hidden, "".join(part for _, part in run)


def _has_marks(text: str) -> bool:
    return any(unicodedata.category(char) in ("Mn", "Me") for char in text)


def attribute(text: str, *, limit: int = _ATTRIBUTE_MAX) -> str:
    """Text for an attribute in double quotes: escaped, one line, cut if too long."""
    shown = "".join(part for _, part in _runs(text[:limit]))
    return html.escape(shown + ("…" if len(text) > limit else ""))


def data_html(text: str, *, limit: int = _DATA_MAX) -> str:
    """A short text of the data; nothing for an empty one."""
    return f'<span class="mal-data">{text_html(text, limit=limit)}</span>' if text else ""


def title_html(title: str) -> str:
    """The head of a view: its title, as HTML."""
    return f'<div class="mal-head"><span class="mal-title">{title}</span></div>'


def badge_html(text: str, *, count: int | None = None) -> str:
    """An outcome or a verdict as a small label. What is not known to be good looks like failure.

    Args:
        text: the outcome.
        count: a number to show, if any.
    """
    kind = _OUTCOME_KINDS.get(text, "fail")
    number = "" if count is None else f"{count:,} "
    return f'<span class="mal-badge mal-{kind}">{number}{text_html(text, limit=40)}</span>'


def heading_html(text: str, note: str = "") -> str:
    """A heading; ``note`` is smaller text after it."""
    small = f' <span class="mal-small">{text_html(note)}</span>' if note else ""
    return f'<div class="mal-heading" role="heading" aria-level="4">{text_html(text)}{small}</div>'


def note_html(text: str, kind: str = "plain") -> str:
    """A remark of the view; ``kind`` is ``plain``, ``warn``, ``fail`` or ``unknown``."""
    return f'<p class="mal-note mal-{kind}">{text_html(text)}</p>'


def fold_html(title: str, body: str, *, note: str = "", is_open: bool = False) -> str:
    """A part that folds.

    Args:
        title: text.
        body: HTML.
        note: smaller text after the title.
        is_open: show the body at first.
    """
    small = f' <span class="mal-small">{text_html(note)}</span>' if note else ""
    return (
        f'<details class="mal-fold"{" open" if is_open else ""}>'
        f"<summary>{text_html(title)}{small}</summary>{body}</details>"
    )


def facts_html(facts: Iterable[tuple[str, str]]) -> str:
    """Labels and their values as a list; what has no value is left out.

    Args:
        facts: label (text) and value (HTML).
    """
    items = "".join(
        f"<dt>{text_html(label)}</dt><dd>{value}</dd>" for label, value in facts if value
    )
    return f'<dl class="mal-facts">{items}</dl>' if items else ""


def inset_html(rows: Iterable[str], head: str = "") -> str:
    """A small table within a view.

    Args:
        rows: ``<tr>`` elements.
        head: the ``<tr>`` of the headings.
    """
    above = f"<thead>{head}</thead>" if head else ""
    return (
        f'<div class="mal-inset"><table class="mal-table">{above}'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
