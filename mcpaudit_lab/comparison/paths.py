"""Places in a JSON tree: paths, their text form, and patterns over them.

A path is a tuple: a ``str`` for each key, an ``int`` for each position in a list. Its text joins
keys with dots and puts positions into brackets: ``response.content[0].text``. A key that is not a
plain word is a JSON string in brackets, so that no key can pass for a path: ``extras["a.b"]``,
``[""]``, ``items["0"]``. The empty path, the tree itself, is ``$``.

A pattern has the same syntax with two more segments: ``*`` (or ``[*]``) is any one key or position,
``**`` any number of segments, including none. A bare word may contain anything but ``. [ ] " *``
and control characters, so ``headers.user agent`` is a pattern, although the text of that path has
quotes.

One segment is not a key of the tree: :data:`JSON_TEXT` means "the text, parsed as JSON", as in
``response.content[0].text.{json}.user.id``. Patterns may omit it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias

from mcpaudit_lab.errors import FilterError, RecordError
from mcpaudit_lab.record import dumps, loads

__all__ = [
    "JSON_TEXT",
    "Path",
    "PathMatcher",
    "PathPattern",
    "Segment",
    "Wildcard",
    "compile_patterns",
    "format_path",
    "format_place",
    "parse_path_pattern",
]

Segment: TypeAlias = str | int
Path: TypeAlias = tuple[Segment, ...]

JSON_TEXT: Final = "{json}"


class Wildcard(Enum):
    """A wildcard segment of a pattern."""

    ONE = "*"
    MANY = "**"


_PLAIN_KEY = re.compile(r"\$?[^\W\d][\w$-]*|" + re.escape(JSON_TEXT))
_SEGMENT = re.compile(
    r"""
      (?P<dot>\.)? (?: (?P<many>\*\*) | (?P<one>\*) | (?P<key>[^.\[\]"*\x00-\x1f\x7f]+) )
    | \[ (?: (?P<any>\*) | (?P<index>0|[1-9][0-9]{0,17}) | (?P<quoted>"(?:[^"\\]|\\.)*") ) \]
    """,
    re.VERBOSE | re.DOTALL,
)
_HINT = 'write it as a.b, a[0], a["b.c"], with * for any one segment and ** for any number'


def format_path(path: Iterable[Segment | Wildcard]) -> str:
    """The text of a path. Read as a pattern it matches this path.

    It contains no control character, lone surrogate or invisible character: keys with one are
    written with JSON escapes.
    """
    return "".join(map(_segment_text, path)).removeprefix(".") or "$"


def format_place(path: Iterable[Segment | Wildcard]) -> str:
    """The text of a path with every position in a list as ``[*]``: the pattern of like places."""
    parts = ("[*]" if isinstance(part, int) else _segment_text(part) for part in path)
    return "".join(parts).removeprefix(".") or "$"


def _segment_text(segment: Segment | Wildcard) -> str:
    if isinstance(segment, int):
        return f"[{segment}]"
    if isinstance(segment, Wildcard):
        return f".{segment.value}"
    if _PLAIN_KEY.fullmatch(segment):
        return f".{segment}"
    return f"[{dumps(segment)}]" if segment.isprintable() else f"[{json.dumps(segment)}]"


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A set of paths. ``str()`` returns its text; :func:`parse_path_pattern` parses one.

    Attributes:
        segments: keys, positions and wildcards.
    """

    segments: tuple[Segment | Wildcard, ...]

    def matches(self, path: Path) -> bool:
        """Whether the pattern means this very path; what lies below a path is another path."""
        matcher = PathMatcher((self,))
        state = matcher.start
        for segment in path:
            if state is None:
                return False
            state = matcher.step(state, segment)
        return state is not None and matcher.accepts(state)

    def __str__(self) -> str:
        return format_path(self.segments)


@lru_cache(maxsize=1024)
def parse_path_pattern(text: str) -> PathPattern:
    """Read the text of a pattern.

    Raises:
        FilterError: if it is malformed; the message says where, and how patterns are written.
    """
    if text == "$":
        return PathPattern(())
    segments: list[Segment | Wildcard] = []
    position = 0
    while position < len(text):
        found = _SEGMENT.match(text, position)
        bracketed = text.startswith("[", position)
        # A dot separates segments: none before the first, one before each further word.
        if found is None or (not bracketed and bool(found["dot"]) == (position == 0)):
            raise _malformed(text, position)
        segments.append(_segment(found, text))
        position = found.end()
    if not segments:
        raise _malformed(text, 0)
    return PathPattern(tuple(segments))


def _segment(found: re.Match[str], text: str) -> Segment | Wildcard:
    if found["many"]:
        return Wildcard.MANY
    if found["one"] or found["any"]:
        return Wildcard.ONE
    if found["index"]:
        return int(found["index"])
    if found["quoted"]:
        try:
            return str(loads(found["quoted"]))
        except RecordError:
            raise _malformed(text, found.start()) from None
    key = found["key"]
    if key == "$" or key != key.strip():
        raise _malformed(text, found.start())
    return key


def _malformed(text: str, position: int) -> FilterError:
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    return FilterError(f"the path {shown!r} is malformed at character {position}: {_HINT}")


State: TypeAlias = frozenset[tuple[int, int]]


class PathMatcher:
    """Many patterns at once, followed segment by segment on the way down a tree.

    A state is the set of places reached in the patterns. States are remembered by the segments that
    the patterns name, so that keys from the data cannot fill the memory.

    Args:
        patterns: what to look for; with none, nothing matches.
    """

    __slots__ = ("_literals", "_moves", "_patterns", "start")

    def __init__(self, patterns: Iterable[PathPattern]) -> None:
        self._patterns = tuple(pattern.segments for pattern in patterns)
        self._literals = {
            segment
            for segments in self._patterns
            for segment in (*segments, JSON_TEXT)
            if not isinstance(segment, Wildcard)
        }
        self._moves: dict[tuple[State, Segment | None], State | None] = {}
        self.start: State | None = self._closed({(n, 0) for n in range(len(self._patterns))})

    def step(self, state: State, segment: Segment) -> State | None:
        """The state one segment further down; None where no pattern can match any more."""
        move = (state, segment if segment in self._literals else None)
        try:
            return self._moves[move]
        except KeyError:
            target = self._moves[move] = self._target(state, segment)
            return target

    def accepts(self, state: State) -> bool:
        """Whether a pattern ends here."""
        return any(place == len(self._patterns[number]) for number, place in state)

    def _target(self, state: State, segment: Segment) -> State | None:
        reached: set[tuple[int, int]] = set()
        for number, place in state:
            segments = self._patterns[number]
            if place == len(segments):
                continue
            if segment == JSON_TEXT:
                reached.add((number, place))
            wanted = segments[place]
            if wanted is Wildcard.MANY:
                reached.add((number, place))
            elif wanted is Wildcard.ONE or wanted == segment:
                reached.add((number, place + 1))
        return self._closed(reached)

    def _closed(self, places: set[tuple[int, int]]) -> State | None:
        """Add the places reached if ``**`` matches no segment."""
        pending = list(places)
        while pending:
            number, place = pending.pop()
            segments = self._patterns[number]
            if place < len(segments) and segments[place] is Wildcard.MANY:
                following = (number, place + 1)
                if following not in places:
                    places.add(following)
                    pending.append(following)
        return frozenset(places) or None


def compile_patterns(patterns: Iterable[str | PathPattern]) -> PathMatcher | None:
    """Make one matcher of many patterns, or None of none. A single string is one pattern.

    Raises:
        FilterError: for a malformed pattern.
    """
    if isinstance(patterns, str | PathPattern):
        patterns = (patterns,)
    return _matcher(
        tuple(parse_path_pattern(item) if isinstance(item, str) else item for item in patterns)
    )


@lru_cache(maxsize=64)
def _matcher(patterns: tuple[PathPattern, ...]) -> PathMatcher | None:
    return PathMatcher(patterns) if patterns else None
