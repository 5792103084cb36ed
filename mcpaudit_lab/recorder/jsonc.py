"""Parses JSON with comments and keeps the position of every value, for edits in place.

Comments (``//``, ``/* */``) and trailing commas are accepted, as editors do. There is no writer:
callers replace slices of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import Json, loads

__all__ = ["JsoncError", "Node", "parse_jsonc"]

_GAP: Final = re.compile(r"(?:[ \t\r\n]|//[^\n]*|/\*(?s:.*?)\*/)*")
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR: Final = re.compile(r"[-+.\w]+")
_MAX_DEPTH: Final = 200


class JsoncError(ValueError):
    """A text is not valid JSON with comments. The message gives the line."""


@dataclass(slots=True)
class Node:
    """A value and its position in the text.

    Attributes:
        start: index of the first character.
        end: index after the last character.
        value: the value of a string or scalar; None for a container.
        members: name to value of an object, the last of duplicates; None for other kinds.
        items: items of a list; None for other kinds.
    """

    start: int
    end: int = 0
    value: Json = None
    members: dict[str, Node] | None = None
    items: list[Node] | None = None


def parse_jsonc(text: str) -> Node:
    """Parse a whole text.

    Raises:
        JsoncError: the text is not valid JSON with comments.
    """
    start = 1 if text.startswith("\ufeff") else 0
    node = _value(text, _skip(text, start), 0)
    if _skip(text, node.end) != len(text):
        raise _error(text, node.end, "unexpected text after the JSON value")
    return node


def _skip(text: str, pos: int) -> int:
    found = _GAP.match(text, pos)
    return pos if found is None else found.end()


def _error(text: str, pos: int, what: str) -> JsoncError:
    line = text.count("\n", 0, pos) + 1
    return JsoncError(f"line {line}: {what}")


def _value(text: str, pos: int, depth: int) -> Node:
    if depth > _MAX_DEPTH:
        raise _error(text, pos, "nested too deeply")
    char = text[pos : pos + 1]
    if char == "{":
        return _object(text, pos, depth)
    if char == "[":
        return _list(text, pos, depth)
    found = (_STRING if char == '"' else _SCALAR).match(text, pos)
    if found is None:
        raise _error(text, pos, "a value is missing")
    try:
        return Node(pos, found.end(), loads(found[0]))
    except RecordError:
        raise _error(text, pos, "a value is not JSON") from None


def _object(text: str, start: int, depth: int) -> Node:
    node = Node(start, members={})
    pos = _skip(text, start + 1)
    while text[pos : pos + 1] != "}":
        found = _STRING.match(text, pos)
        if found is None:
            raise _error(text, pos, "a name is missing")
        name = str(loads(found[0]))
        colon = _skip(text, found.end())
        if text[colon : colon + 1] != ":":
            raise _error(text, colon, "a colon is missing")
        child = _value(text, _skip(text, colon + 1), depth + 1)
        if node.members is not None:
            node.members[name] = child
        pos = _next(text, child.end, "}")
    node.end = pos + 1
    return node


def _list(text: str, start: int, depth: int) -> Node:
    node = Node(start, items=[])
    pos = _skip(text, start + 1)
    while text[pos : pos + 1] != "]":
        child = _value(text, pos, depth + 1)
        if node.items is not None:
            node.items.append(child)
        pos = _next(text, child.end, "]")
    node.end = pos + 1
    return node


def _next(text: str, pos: int, closing: str) -> int:
    """The index of the next member or of the closing bracket."""
    pos = _skip(text, pos)
    if text[pos : pos + 1] == ",":
        return _skip(text, pos + 1)
    if text[pos : pos + 1] != closing:
        raise _error(text, pos, f"a comma or {closing} is missing")
    return pos
