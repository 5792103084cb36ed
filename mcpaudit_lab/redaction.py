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
left of it is data, and two such texts can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

__all__ = ["DEFAULT_DIALECTS", "Dialect", "Marks", "is_redacted", "marks_of", "redacted_paths"]


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
    is_mark = marks_of(dialects).is_mark
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
