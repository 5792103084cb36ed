"""A JSON value as a tree that folds, without a script.

The tree is limited, and marks omissions: a text is cut after 2,000 characters (base64 and the like
after 80), a container after 100 members, everything below twelve levels is a count, and the whole
ends after 800 values or 100,000 characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeAlias

from mcpaudit_lab.comparison import format_path
from mcpaudit_lab.display.html import TEXT_MAX, text_html
from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import counted, dumps, is_redacted, loads

__all__ = ["json_tree_html", "json_value_html"]

_VALUES_MAX: Final = 800
# Limit of the HTML: escaped text takes several times the space of its source.
_CHARACTERS_MAX: Final = 100_000
_MEMBERS_MAX: Final = 100
_DEPTH_MAX: Final = 12
_KEY_MAX: Final = 200
# Base64, hashes and long numbers: nobody reads more of them.
_DIGITS_MAX: Final = 80
_DIGITS = re.compile(r"[A-Za-z0-9+/=_\r\n-]{81}")
# Containers are open down to this level, if they are small.
_OPEN_DEPTH: Final = 2
_OPEN_MEMBERS: Final = 12
_BRIEF_KEYS: Final = 4
_BRIEF_KEY_MAX: Final = 24

_Container: TypeAlias = dict[str, Any] | list[Any] | tuple[Any, ...]


def json_tree_html(value: Any, *, values_max: int = _VALUES_MAX) -> str:
    """A JSON value as HTML.

    Containers are ``<details>``; a text that is a JSON object or array can be unfolded as such.
    Redaction marks are marked.

    Args:
        value: the value.
        values_max: maximum number of values shown.
    """
    return f'<div class="mal-tree">{_Tree(values_max).value(value, "", 0)}</div>'


def json_value_html(value: Any, *, limit: int = TEXT_MAX) -> str:
    """A JSON value on its own, not folded: a scalar as in a tree, a container as compact JSON."""
    if isinstance(value, dict | list | tuple):
        return text_html(_compact(value, limit), limit=limit)
    return _scalar(value, limit)


def _compact(value: Any, limit: int) -> str:
    """The start of a container's JSON, without writing all of a big one."""
    shallow = isinstance(value, dict | list | tuple) and len(value) <= limit
    return dumps(value) if shallow else counted(len(value), "member")


@dataclass(slots=True)
class _Tree:
    """What may still be shown of one tree."""

    values: int = _VALUES_MAX
    characters: int = _CHARACTERS_MAX

    def value(self, value: Any, key: str, depth: int) -> str:
        """A value behind its key, which is HTML."""
        self.values -= 1
        if isinstance(value, dict | list | tuple) and value:
            return self._container(value, key, depth)
        return f'<div class="mal-leaf">{key}{self._leaf(value, depth)}</div>'

    def _container(self, value: _Container, key: str, depth: int) -> str:
        count = counted(len(value), "member" if isinstance(value, dict) else "element")
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        if depth >= _DEPTH_MAX:
            more = f'<i class="mal-more">{count}, nested too deep to show</i>'
            return f'<div class="mal-leaf">{key}{opening}{more}{closing}</div>'
        is_open = depth == 0 or (depth <= _OPEN_DEPTH and len(value) <= _OPEN_MEMBERS)
        brief = f'<span class="mal-brief mal-muted">{_brief(value)}{closing}</span>'
        children = "".join(self._children(value, depth + 1))
        return (
            f"<details{' open' if is_open else ''}>"
            f'<summary>{key}{opening}{brief} <span class="mal-small">{count}</span></summary>'
            f'<div class="mal-children">{children}</div></details>'
        )

    def _children(self, value: _Container, depth: int) -> Iterable[str]:
        items: Iterable[tuple[str | int, Any]] = (
            value.items() if isinstance(value, dict) else enumerate(value)
        )
        shown = 0
        for name, child in islice(items, _MEMBERS_MAX):
            if self.values <= 0 or self.characters <= 0:
                break
            shown += 1
            yield self.value(child, self._key(name), depth)
        if shown < len(value):
            yield f'<div class="mal-leaf mal-more">… {len(value) - shown:,} more, not shown</div>'

    def _key(self, name: str | int) -> str:
        if isinstance(name, int):
            return f'<span class="mal-muted">{name}</span>: '
        # Quotes where the name could be taken for something else.
        plain = not format_path((name,)).startswith("[")
        text = text_html(name if plain else f'"{name}"', limit=_KEY_MAX)
        self.characters -= len(text)
        return f'<span class="mal-key">{text}</span>: '

    def _leaf(self, value: Any, depth: int) -> str:
        shown = _scalar(value)
        self.characters -= len(shown)
        return shown + self._inner(value, depth) if isinstance(value, str) else shown

    def _inner(self, text: str, depth: int) -> str:
        """The tree of a text that is JSON itself."""
        if text.lstrip(" \t\r\n")[:1] not in ("{", "[") or depth >= _DEPTH_MAX:
            return ""
        try:
            value = loads(text)
        except RecordError:
            return ""
        title = '<span class="mal-small">the text as JSON</span> '
        return self.value(value, title, depth + 1) if value else ""


def _brief(value: _Container) -> str:
    """What a folded container shows of itself."""
    if not isinstance(value, dict):
        return "…"
    names = ", ".join(
        text_html(name[:_BRIEF_KEY_MAX]) + ("…" if len(name) > _BRIEF_KEY_MAX else "")
        for name in islice(value, _BRIEF_KEYS)
    )
    return f"{names}, …" if len(value) > _BRIEF_KEYS else names


def _scalar(value: Any, limit: int = TEXT_MAX) -> str:
    if isinstance(value, str):
        if is_redacted(value):
            shown = text_html(value, limit=60)
            return f'<span class="mal-redacted" title="the value was redacted">{shown}</span>'
        if len(value) > _DIGITS_MAX and _DIGITS.match(value):
            limit = _DIGITS_MAX
        block = "\n" in value.rstrip("\n")
        text = text_html(value, limit=limit, lines=block)
        return f'<span class="mal-string{" mal-block" if block else ""}">"{text}"</span>'
    if value is None or isinstance(value, bool):
        return f'<span class="mal-word">{dumps(value)}</span>'
    if isinstance(value, dict | list | tuple):
        return "{}" if isinstance(value, dict) else "[]"
    return f'<span class="mal-number">{text_html(dumps(value), limit=_DIGITS_MAX)}</span>'
