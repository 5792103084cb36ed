"""What a server offered: tools as ``tools/list`` defines them, and the lists they came in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from mcpaudit_lab.record.canonical import canonical_json, canonical_sha256
from mcpaudit_lab.record.jsontext import dumps, loads
from mcpaudit_lab.record.printable import visible

__all__ = ["ToolDefinition", "ToolList", "ToolListPages", "hidden_text", "shown_text"]

# Characters that a model reads and a person does not see.
_HIDDEN: Final = re.compile(
    "(?P<tags>[\U000e0000-\U000e007f]+)"
    "|(?P<bidi>[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+)"
    "|(?P<zero_width>[\xad\u180e\u200b-\u200d\u2060-\u2065\ufeff\ufe00-\ufe0f\U000e0100-\U000e01ef]+)"
    "|(?P<comment><!--.*?(?:-->|$))",
    re.DOTALL,
)
_TAG_BASE: Final = 0xE0000


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """One tool, exactly as a server listed it.

    Attributes:
        name: its name.
        sha256: over the canonical JSON of the whole definition.
        text: the definition as JSON text, in ASCII, members in the order they came.
    """

    name: str
    sha256: str
    text: str = field(repr=False)

    @classmethod
    def of(cls, tool: Any) -> Self | None:
        """Read one element of a ``tools/list`` response; None if it is not a tool with a name."""
        if not isinstance(tool, Mapping) or not isinstance(tool.get("name"), str):
            return None
        return cls(tool["name"], canonical_sha256(tool), dumps(tool, ascii_only=True))

    @property
    def members(self) -> dict[str, Any]:
        """The members of the definition, such as ``title``, ``description`` and ``inputSchema``."""
        value: Any = loads(self.text)
        return dict(value)

    def differing(self, other: ToolDefinition) -> tuple[str, ...]:
        """The names of the members that differ; one that is null equals one that is absent."""
        one, two = self.members, other.members
        return tuple(
            name
            for name in sorted({*one, *two})
            if canonical_json(one.get(name)) != canonical_json(two.get(name))
        )

    def pretty(self) -> str:
        """The definition for people and for a line diff: one member a line, hidden text visible."""
        return "\n".join(_pretty(self.members))

    def hidden(self) -> tuple[str, ...]:
        """Every piece of hidden text in the definition, as ``path: kind: text``."""
        return tuple(_hidden(self.members, ""))


@dataclass(frozen=True, slots=True)
class ToolList:
    """The tools that a server offered from one moment to another.

    Attributes:
        server: the server's name; empty where the recording does not tell it.
        first_us: when the list was first seen, in microseconds since 1970-01-01 UTC.
        last_us: when it was last seen.
        complete: whether every page was seen, so that a tool which is not in it was not offered.
        tools: the definitions.
    """

    server: str
    first_us: int
    last_us: int
    complete: bool
    tools: tuple[ToolDefinition, ...]

    @classmethod
    def of(cls, server: str, at_us: int, tools: Iterable[Any], *, complete: bool = True) -> Self:
        """Make a list from the tools of a response. Elements that are not tools are left out."""
        found = (ToolDefinition.of(tool) for tool in tools)
        # A name given twice: the last one counts, as it does for a client that keeps them by name.
        named = {tool.name: tool for tool in found if tool is not None}
        return cls(server, at_us, at_us, complete, tuple(named.values()))

    def to_dict(self) -> dict[str, Any]:
        """The list as JSON, in the form that a portal sends."""
        return {
            "server": self.server,
            "first_us": self.first_us,
            "last_us": self.last_us,
            "complete": self.complete,
            "tools": [tool.members for tool in self.tools],
        }

    @classmethod
    def from_dict(cls, value: Any) -> Self | None:
        """Parse the output of :meth:`to_dict`; None for anything else."""
        if not isinstance(value, Mapping) or not isinstance(value.get("tools"), list):
            return None
        server, first, last = (value.get(name) for name in ("server", "first_us", "last_us"))
        if not isinstance(server, str) or not isinstance(first, int) or not isinstance(last, int):
            return None
        found = cls.of(server, first, value["tools"], complete=value.get("complete") is True)
        return cls(server, first, last, found.complete, found.tools)


class ToolListPages:
    """Puts the pages of ``tools/list`` responses together.

    One instance serves any number of sessions, distinguished by a key.
    """

    def __init__(self) -> None:
        self._pages: dict[object, list[Any]] = {}

    def add(
        self, key: object, server: str, at_us: int, tools: Iterable[Any], *, first: bool, last: bool
    ) -> ToolList | None:
        """Add one page; returns the whole list with its last page.

        Args:
            key: the session that it belongs to.
            server: the server's name.
            at_us: when the page passed, in microseconds since 1970-01-01 UTC.
            tools: the page's tools.
            first: whether it is the first page.
            last: whether no page follows.
        """
        if first:
            self._pages[key] = []
        pages = self._pages.get(key)
        complete = pages is not None
        found = [*(pages or ()), *tools]
        if not last:
            if pages is not None:
                self._pages[key] = found
            return None
        self._pages.pop(key, None)
        return ToolList.of(server, at_us, found, complete=complete)


def hidden_text(text: str) -> list[tuple[str, str]]:
    """Pieces of a text that a person does not see and a model reads.

    Returns:
        Kind and piece of each: ``tags`` (tag characters, decoded), ``bidi``, ``zero_width`` (both
        as escapes), ``comment`` (an HTML comment as it is).
    """
    return [(str(found.lastgroup), _plain(found)) for found in _HIDDEN.finditer(text)]


def shown_text(text: str) -> str:
    """A text with its hidden pieces written out, such as ``⟦tags: hello⟧``."""
    return _HIDDEN.sub(
        lambda found: (
            found.group()
            if found.lastgroup == "comment"
            else f"⟦{found.lastgroup}: {_plain(found)}⟧"
        ),
        text,
    )


def _plain(found: re.Match[str]) -> str:
    piece = found.group()
    if found.lastgroup == "tags":
        return visible("".join(chr(ord(char) - _TAG_BASE) for char in piece))
    if found.lastgroup == "comment":
        return visible(piece)
    return "".join(f"U+{ord(char):04X}" for char in piece)


def _pretty(value: Any, indent: str = "") -> Iterable[str]:
    if isinstance(value, Mapping):
        for key, item in sorted(value.items()):
            yield from _member(f"{indent}{visible(key)}:", item, indent)
    elif isinstance(value, list):
        for item in value:
            yield from _member(f"{indent}-", item, indent)


def _member(head: str, item: Any, indent: str) -> Iterable[str]:
    if isinstance(item, Mapping | list) and item:
        yield head
        yield from _pretty(item, f"{indent}  ")
    elif isinstance(item, str):
        lines = shown_text(item).split("\n")
        yield f"{head} {visible(lines[0])}"
        yield from (f"{indent}  {visible(line)}" for line in lines[1:])
    else:
        yield f"{head} {canonical_json(item)}"


def _hidden(value: Any, path: str) -> Iterable[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from (f"{path or '.'} key: {kind}: {piece}" for kind, piece in hidden_text(key))
            yield from _hidden(item, f"{path}.{visible(key)}" if path else visible(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _hidden(item, f"{path}[{number}]")
    elif isinstance(value, str):
        yield from (f"{path}: {kind}: {piece}" for kind, piece in hidden_text(value))
