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

Only a whole string is a mark. In ``"token=[redacted]"`` somebody replaced a part of a text; what is
left of it is data, and two such texts can be compared. A text that is JSON itself may have marks
inside, since portals look into such texts: :func:`marked_texts` finds these.
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

# Of each dialect: its pattern, the characters it can start with, and a text that every mark of it
# holds when put in lower case.
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
        hints: texts of which every mark holds one when put in lower case.
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
        ValueError: for a name that is no dialect.
    """
    if isinstance(dialects, str):
        dialects = (dialects,)
    return _marks(frozenset(dialects))


@lru_cache(maxsize=64)
def _marks(dialects: frozenset[str]) -> Marks:
    chosen = [_DIALECTS[dialect] for dialect in sorted(map(Dialect, dialects))]
    # Without a choice there is no pattern; "(?!)" matches nothing.
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
        ValueError: for a name that is no dialect.
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
        ValueError: for a name that is no dialect.
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
        The paths of the texts, as :func:`redacted_paths` gives them.

    Raises:
        ValueError: for a name that is no dialect.
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
    # Not its values as they are read: of a key that is there twice that would be only one.
    strings = (str(loads(found[1])) for found in _STRING.finditer(text) if keys or not found[2])
    return any(marks.is_mark(string) or _is_marked_json(string, marks, keys) for string in strings)


def _paths_where(tree: Any, is_mark: Callable[[str], object]) -> list[tuple[str | int, ...]]:
    """Where in a JSON tree there are such strings, in document order."""
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
