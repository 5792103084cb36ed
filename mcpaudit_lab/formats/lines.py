"""Lines with their places, and the result of reading each.

A reader takes :class:`Line` objects and yields :class:`Found` events; everything else is counted in
the :class:`Tally`, so that every line of a file is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mcpaudit_lab.errors import RecordError, RejectReason, SourceError
from mcpaudit_lab.formats.jsonrpc import ToolDefinitionsSeen
from mcpaudit_lab.record import Event, loads, scan, skip_space

__all__ = [
    "Bad",
    "Document",
    "Found",
    "Line",
    "Outcome",
    "Place",
    "Tally",
    "elements",
    "members",
    "objects",
    "peek_members",
    "read_lines",
]

_BOM = b"\xef\xbb\xbf"
_READ_BYTES = 1 << 20
_MAX_LINE_BYTES = 1 << 30
_MAX_DOCUMENT_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the (unpacked) file: line from 1, offset and size in bytes."""

    line: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or what a log's lines were wrapped around.

    Attributes:
        text: its bytes, without the line end.
        places: the lines of the file that it came from, one at least.
    """

    text: bytes = field(repr=False)
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """An event, and the lines that it came from, its own first."""

    event: Event
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that should be a record but is invalid."""

    place: Place
    reason: RejectReason
    detail: str
    raw: bytes = field(repr=False)


Outcome: TypeAlias = Found | Bad | ToolDefinitionsSeen


@dataclass(slots=True)
class Tally:
    """What a reader counts: ``lines`` is events found + bad + blank + other + parts.

    Attributes:
        wrapped: whether the lines come out of a log, where not every line is a record.
        document: whether the lines are one document together.
        lines: lines read; in a document, its records.
        blank: lines of white space.
        other: well-formed records that are not calls.
        parts: what belongs to a call that is counted already.
        bad: bad lines found on the way, for the loader to take.
        notes: what the user should know, such as frames that are missing.
    """

    wrapped: bool = False
    document: bool = False
    lines: int = 0
    blank: int = 0
    other: int = 0
    parts: int = 0
    bad: list[Bad] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def reject(self, line: Line, error: RecordError) -> None:
        """A line is bad, for this reason."""
        self.bad.append(Bad(line.places[0], error.reason, error.detail, line.text))


def read_lines(read: Callable[[int], bytes], head: bytes, tally: Tally) -> Iterator[Line]:
    """Cut a stream into lines; a CR before the LF and a byte order mark are left out.

    Args:
        read: returns at most this many further bytes, none at the end.
        head: bytes already read.
        tally: counts the lines.

    Raises:
        SourceError: a line is longer than 1 GiB.
    """
    offset, pieces, size = 0, [head], len(head)
    number = 0
    at_end = False
    while not at_end:
        data = b"".join(pieces)
        if len(data) > _MAX_LINE_BYTES:
            raise SourceError(f"line {number + 1} is longer than {_MAX_LINE_BYTES:,} bytes")
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            number += 1
            tally.lines += 1
            yield _line(data[start:end], number, offset + start)
            start = end + 1
        offset += start
        pieces, size = [data[start:]], len(data) - start
        # As much again as is held, so that a long line is not joined for each megabyte of it.
        fresh = read(max(_READ_BYTES, size))
        at_end = not fresh
        pieces.append(fresh)
    if size:
        tally.lines += 1
        yield _line(pieces[0], number + 1, offset)


def _line(text: bytes, number: int, offset: int) -> Line:
    place = Place(number, offset, len(text))
    if offset == 0 and text.startswith(_BOM):
        text = text[len(_BOM) :]
    return Line(text[:-1] if text.endswith(b"\r") else text, (place,))


def objects(lines: Iterable[Line], tally: Tally) -> Iterator[tuple[Line, dict[str, Any]]]:
    """The lines that are JSON objects, parsed; the others are counted.

    In a log what does not begin as an object is ``other``; in a file of records it is bad.
    """
    for line in lines:
        text = line.text.strip()
        if not text:
            tally.blank += 1
            continue
        if tally.wrapped and not text.startswith(b"{"):
            tally.other += 1
            continue
        try:
            value = loads(text)
        except RecordError as error:
            tally.reject(line, error)
            continue
        if isinstance(value, dict):
            yield line, value
        else:
            what = RecordError(RejectReason.NOT_AN_OBJECT, "the line is not a JSON object")
            tally.reject(line, what)


class Document:
    """Lines put together to one text, with the way back from a part of it to its places.

    Its lines are not counted any more: its records are, each as a line.

    Raises:
        SourceError: it is too large, or not UTF-8.
    """

    def __init__(self, lines: Iterable[Line], tally: Tally) -> None:
        self._lines: list[Line] = []
        self._starts: list[int] = []
        pieces, size = list[bytes](), 0
        for line in lines:
            self._lines.append(line)
            self._starts.append(size)
            pieces.append(line.text)
            size += len(line.text) + 1
            if size > _MAX_DOCUMENT_BYTES:
                raise SourceError(f"a document of more than {_MAX_DOCUMENT_BYTES:,} bytes")
        # Lines without a line end of their own would have no place: each has one here.
        tally.lines -= sum(len(line.places) for line in self._lines)
        # A line that was joined from several has counted its further ones.
        tally.parts -= sum(len(line.places) - 1 for line in self._lines)
        self._exact = not tally.wrapped
        try:
            self.text = b"\n".join(pieces).decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(f"byte {error.start} of the document is not UTF-8") from None
        self._seen = (0, 0)

    def places(self, start: int, end: int) -> tuple[Place, ...]:
        """The place of the characters from ``start`` to ``end``; ask in ascending order."""
        first, last = self._byte(start), self._byte(end)
        index, until = self._line_at(first), self._line_at(max(last - 1, first))
        covered = self._lines[index : until + 1]
        if not self._exact:
            return tuple(place for line in covered for place in line.places)
        top, bottom = covered[0].places[0], covered[-1].places[0]
        # The byte order mark is in the file and not in the text.
        skew = top.size - len(covered[0].text) if top.offset == 0 and index == 0 else 0
        begin = top.offset + (skew if skew >= len(_BOM) else 0) + first - self._starts[index]
        finish = bottom.offset + last - self._starts[until]
        if until == index:
            finish = begin + last - first
        return (Place(top.line, begin, finish - begin),)

    def _byte(self, position: int) -> int:
        known, byte = self._seen
        if position < known:
            known, byte = 0, 0
        byte += len(self.text[known:position].encode("utf-8"))
        self._seen = (position, byte)
        return byte

    def _line_at(self, byte: int) -> int:
        from bisect import bisect_right

        return bisect_right(self._starts, byte) - 1


def elements(text: str, pos: int) -> Iterator[tuple[Any, int, int]]:
    """The elements of the JSON array that starts at ``pos``: value, start and end.

    Raises:
        ValueError: invalid JSON.
    """
    pos = skip_space(text, pos + 1)
    first = True
    while text[pos : pos + 1] != "]":
        if not first:
            if text[pos : pos + 1] != ",":
                raise ValueError("no comma")
            pos = skip_space(text, pos + 1)
        first = False
        value, end = scan(text, pos)
        yield value, pos, end
        pos = skip_space(text, end)


def members(text: str, pos: int) -> Iterator[tuple[str, Any, int, int]]:
    """The members of the JSON object that starts at ``pos``: name, value, its start and end.

    Raises:
        ValueError: invalid or cut off; the members before that were yielded.
    """
    for name, start in _names(text, pos):
        value, end = scan(text, start)
        yield name, value, start, end


def _names(text: str, pos: int) -> Iterator[tuple[str, int]]:
    """The names of an object's members, and where their values start."""
    if text[pos : pos + 1] != "{":
        raise ValueError("no object")
    pos = skip_space(text, pos + 1)
    first = True
    while text[pos : pos + 1] != "}":
        if not first:
            if text[pos : pos + 1] != ",":
                raise ValueError("no comma")
            pos = skip_space(text, pos + 1)
        first = False
        name, pos = scan(text, pos)
        pos = skip_space(text, pos)
        if not isinstance(name, str) or text[pos : pos + 1] != ":":
            raise ValueError("no member")
        pos = skip_space(text, pos + 1)
        yield name, pos
        _, end = scan(text, pos)
        pos = skip_space(text, end)


def peek_members(text: str) -> tuple[dict[str, Any], str | None, int]:
    """The members of an object that is cut off somewhere.

    Returns:
        The whole ones; the name of the one that is cut, or None; and where its value starts.
    """
    whole: dict[str, Any] = {}
    cut, start = None, 0
    try:
        for name, start in _names(text, skip_space(text, 0)):
            cut = name
            whole[name], _ = scan(text, start)
            cut = None
    except (ValueError, RecordError):
        pass
    return whole, cut, start
