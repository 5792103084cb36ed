"""What differs between two calls of the same, and so says nothing about a change.

Noise is learned from replays of the same call: where they differ from each other, a difference to
the original is meaningless. It is kept by tool, as patterns of paths for a comparison to ignore.
"""

from __future__ import annotations

import codecs
import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from mcpaudit_lab.comparison import compare, format_path, parse_path_pattern
from mcpaudit_lab.errors import FilterError, RecordError, ReplayError
from mcpaudit_lab.record import loads, visible

if TYPE_CHECKING:
    import os

    from mcpaudit_lab.record import Event

__all__ = ["Noise"]

_VERSION: Final = 1


class Noise(Mapping[str, tuple[str, ...]]):
    """Paths to ignore, by tool. Immutable: adding returns a new value.

    Args:
        paths: tool to patterns, as ``ignore`` of a comparison takes them.

    Raises:
        FilterError: a pattern cannot be read.
    """

    __slots__ = ("_paths",)

    def __init__(self, paths: Mapping[str, Iterable[str]] | None = None) -> None:
        found: dict[str, tuple[str, ...]] = {}
        for tool, patterns in sorted((paths or {}).items()):
            for pattern in (listed := sorted(set(patterns))):
                parse_path_pattern(pattern)
            if listed:
                found[tool] = tuple(listed)
        self._paths = found

    @classmethod
    def learn(cls, replays: Iterable[Iterable[Event]]) -> Self:
        """What differs between replays of the same call.

        Args:
            replays: for each call its replays; of one alone nothing is learned.
        """
        found: dict[str, set[str]] = {}
        for group in replays:
            calls = list(group)
            for first, other in pairwise(calls):
                paths = (format_path(change.path) for change in compare(first, other).changes)
                found.setdefault(first.tool_name, set()).update(paths)
        return cls(found)

    def add(self, tool: str, *patterns: str) -> Self:
        """The same and these patterns of a tool.

        Raises:
            FilterError: a pattern cannot be read.
        """
        return type(self)({**self, tool: (*self.get(tool, ()), *patterns)})

    def remove(self, tool: str, *patterns: str) -> Self:
        """The same without these patterns of a tool, or without the tool where none is given."""
        left = [item for item in self.get(tool, ()) if patterns and item not in patterns]
        return type(self)({**self, tool: left})

    def __or__(self, other: Mapping[str, Iterable[str]]) -> Self:
        tools = dict.fromkeys((*self, *other))
        return type(self)({t: (*self.get(t, ()), *other.get(t, ())) for t in tools})

    # A file that people read and edit

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, one pattern a line; an existing file is replaced."""
        value = {"version": _VERSION, "noise": {tool: list(paths) for tool, paths in self.items()}}
        text = json.dumps(value, indent=2, ensure_ascii=True)
        Path(path).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file written by :meth:`save` or by hand.

        Raises:
            ReplayError: not such a file, a tool named twice, or an invalid pattern.
            OSError: it cannot be read.
        """
        try:
            # Editors on Windows put a byte order mark before what they save.
            text = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
            value: Any = loads(text)
        except RecordError as error:
            raise ReplayError(f"{path} is no JSON: {error.detail}") from None
        if twice := _named_twice(text):
            raise ReplayError(
                f"{path} names {visible(twice)!r} twice, and one of the two would be lost: put all"
                " its paths into one list"
            )
        noise = value.get("noise") if isinstance(value, dict) else None
        if not isinstance(noise, dict) or value.get("version") != _VERSION:
            raise ReplayError(f"{path} holds no noise of version {_VERSION}")
        lists = all(
            isinstance(paths, list) and all(isinstance(path, str) for path in paths)
            for paths in noise.values()
        )
        if not lists:
            raise ReplayError(f"{path}: each tool has a list of paths")
        try:
            return cls(noise)
        except FilterError as error:
            raise ReplayError(f"{path}: {error}") from None

    def __getitem__(self, tool: str) -> tuple[str, ...]:
        return self._paths[tool]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"Noise({self._paths!r})"


def _named_twice(text: bytes) -> str:
    """A name that an object of a JSON text has twice, or an empty text."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(name for name, _ in pairs)
        found.extend(name for name, count in counts.items() if count > 1)

    # Too deeply nested: it contains no noise, and the caller reports it.
    with contextlib.suppress(RecursionError):
        json.loads(text, object_pairs_hook=look)
    return found[0] if found else ""
