"""What counts as a redacted value.

A portal replaces the whole value of a sensitive key by the string ``[redacted]``; other tools write
other marks. Each way of writing is a :class:`Dialect`:

==========  ==========================================  ====================
dialect     a string that is, from end to end           on unless told
==========  ==========================================  ====================
brackets    ``[redacted]``, in any case                 yes
angles      ``<REDACTED…>``, such as ``<redacted:id>``,  yes
            in any case, without another ``<`` or ``>``
stars       three asterisks or more                     yes
sha256      ``sha256:`` and 64 hex digits               no: may be plain data
==========  ==========================================  ====================

Only a whole string is a mark. In ``"token=[redacted]"`` only a part was replaced; the rest is data,
and two such texts can be compared. A text that is itself JSON may contain marks, since portals
redact inside such texts: :func:`marked_texts` finds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record.jsontext import loads

__all__ = [
    "DEFAULT_DIALECTS",
    "Dialect",
    "Marks",
    "is_redacted",
    "marked_texts",
    "marks_of",
    "redacted_paths",
]


class Dialect(StrEnum):
    """A way of writing that a value was redacted."""

    BRACKETS = "brackets"
    ANGLES = "angles"
    STARS = "stars"
    SHA256 = "sha256"


DEFAULT_DIALECTS: frozenset[Dialect] = frozenset({Dialect.BRACKETS, Dialect.ANGLES, Dialect.STARS})

# For each dialect: its pattern, the possible first characters, and a lower-case text that every
# mark contains.
_DIALECTS = {
    Dialect.BRACKETS: (r"\[redacted\]", "[", "[redacted]"),
    Dialect.ANGLES: (r"<redacted[^<>]*>", "<", "<redacted"),
    Dialect.STARS: (r"\*{3,}", "*", "***"),
    Dialect.SHA256: (r"sha256:[0-9a-f]{64}", "sS", "sha256:"),
}


@dataclass(frozen=True, slots=True)
class Marks:
    """What counts as a redaction mark, made ready to look at many strings.

    Attributes:
        is_mark: truthy for a string that is a mark.
        starts: the first characters that a mark can have; looking there first is faster.
        hints: lower-case texts; every mark contains one of them.
        hint_bytes: the same as bytes.
    """

    is_mark: Callable[[str], object]
    starts: frozenset[str]
    hints: tuple[str, ...]
    hint_bytes: tuple[bytes, ...]


def marks_of(dialects: Iterable[Dialect | str] = DEFAULT_DIALECTS) -> Marks:
    """Make ready to look for the marks of these dialects.

    Args:
        dialects: as :class:`Dialect` or by name; none: nothing is a mark.

    Raises:
        ValueError: an unknown dialect.
    """
    if isinstance(dialects, str):
        dialects = (dialects,)
    return _marks(frozenset(dialects))


@lru_cache(maxsize=64)
def _marks(dialects: frozenset[str]) -> Marks:
    chosen = [_DIALECTS[dialect] for dialect in sorted(map(Dialect, dialects))]
    # No dialects chosen: "(?!)" matches nothing.
    pattern = "|".join(pattern for pattern, _, _ in chosen) or "(?!)"
    return Marks(
        re.compile(pattern, re.IGNORECASE | re.ASCII).fullmatch,
        frozenset("".join(starts for _, starts, _ in chosen)),
        tuple(hint for _, _, hint in chosen),
        tuple(hint.encode() for _, _, hint in chosen),
    )


def is_redacted(value: Any, *, dialects: Iterable[Dialect | str] = DEFAULT_DIALECTS) -> bool:
    """Whether this JSON value is, as a whole, a redaction mark. Containers never are.

    Raises:
        ValueError: an unknown dialect.
    """
    return isinstance(value, str) and bool(marks_of(dialects).is_mark(value))


def redacted_paths(
    tree: Any, *, dialects: Iterable[Dialect | str] = DEFAULT_DIALECTS
) -> list[tuple[str | int, ...]]:
    """Where in a JSON tree values were redacted, in document order; any depth.

    Returns:
        One path for each mark: keys as ``str``, positions in lists as ``int``. ``()`` is the tree
        itself.

    Raises:
        ValueError: an unknown dialect.
    """
    return _paths_where(tree, marks_of(dialects).is_mark)


def marked_texts(
    tree: Any, *, dialects: Iterable[Dialect | str] = DEFAULT_DIALECTS, keys: bool = False
) -> list[tuple[str | int, ...]]:
    """Where in a JSON tree a text is itself JSON, or JSON Lines, with redacted values inside.

    Args:
        tree: the tree.
        dialects: what counts as redacted.
        keys: whether a key inside that is a mark counts, too.

    Returns:
        The paths of the texts, in the form of :func:`redacted_paths`.

    Raises:
        ValueError: an unknown dialect.
    """
    marks = marks_of(dialects)
    return _paths_where(tree, lambda text: _is_marked_json(text, marks, keys))


_STRING = re.compile(r'("(?:[^"\\]|\\.)*+")(\s*:)?')


def _is_marked_json(text: str, marks: Marks, keys: bool) -> bool:
    if text.lstrip(" \t\r\n")[:1] not in ("{", "[", '"'):
        return False
    lowered = text.lower()
    # An escape may spell a letter of a mark.
    if "\\u" not in text and not any(hint in lowered for hint in marks.hints):
        return False
    try:
        loads(text)
    except RecordError:
        lines = text.split("\n")
        return len(lines) > 1 and any(_is_marked_json(line, marks, keys) for line in lines)
    # Scan the text, not the parsed value: for a repeated key, the parsed value has only one.
    strings = (str(loads(found[1])) for found in _STRING.finditer(text) if keys or not found[2])
    return any(marks.is_mark(string) or _is_marked_json(string, marks, keys) for string in strings)


def _paths_where(tree: Any, is_mark: Callable[[str], object]) -> list[tuple[str | int, ...]]:
    """Find redacted strings in a JSON tree, in document order."""
    found: list[tuple[str | int, ...]] = []
    path: list[str | int] = []
    open_containers: list[Iterator[tuple[str | int, Any]]] = []
    if isinstance(tree, str) and is_mark(tree):
        found.append(())
    members = _members(tree)
    while True:
        for segment, value in members:
            if isinstance(value, str):
                if is_mark(value):
                    found.append((*path, segment))
            elif isinstance(value, dict | list | tuple):
                open_containers.append(members)
                path.append(segment)
                members = _members(value)
                break
        else:
            if not open_containers:
                return found
            members = open_containers.pop()
            path.pop()


def _members(container: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(container, dict):
        return iter(container.items())
    return iter(enumerate(container if isinstance(container, list | tuple) else ()))
