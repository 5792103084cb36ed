r"""Bytes as they pass, cut into pieces that may be handed on, each with the messages it completes.

The receiver of a piece can act on its messages, so messages are examined before their bytes pass. A
message that may be JSON is held until it is complete, up to a size limit; pieces of a longer one
pass at once, because nobody can parse it before its end. Anything that is not JSON passes at once.
The pieces joined are always exactly the input bytes.

Three framings: JSON lines (stdio), one JSON text (a body), server-sent events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import loads
from mcpaudit_lab.recorder.skim import Sizes, Skim, Skimmed

__all__ = ["HELD_BYTES", "BodyReader", "LineReader", "Piece", "Read", "Reader", "SseReader"]

HELD_BYTES: Final = 1 << 20
"""A message of more bytes passes while it is read."""

_BOM: Final = b"\xef\xbb\xbf"
_SPACES: Final = b" \t\r\n"
_EVENT_END: Final = re.compile(rb"\n\r?\n|\r\r\n?")
_SSE_LINE: Final = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Read:
    """A message that was read.

    Attributes:
        message: any JSON; a batch comes as its messages.
        sizes: what was left out of the message; None if nothing was.
    """

    message: Any
    sizes: Sizes | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the bytes.

    Attributes:
        data: to be handed on.
        messages: that are complete when these bytes are handed on.
        whole: whether the bytes are these messages and no part of others, so that an error may
            take their place.
        batch: whether they were sent as a batch.
    """

    data: bytes
    messages: tuple[Read, ...] = ()
    whole: bool = True
    batch: bool = False


class Reader(Protocol):
    """Cuts the bytes of one direction."""

    def feed(self, chunk: bytes) -> list[Piece]:
        """What may be handed on now."""

    def end(self) -> list[Piece]:
        """What was held, since nothing more comes."""


def _parsed(data: bytes, text: bytes) -> Piece | None:
    """Parse a piece of complete JSON; None if it is not JSON."""
    try:
        message = loads(text.removeprefix(_BOM))
    except RecordError:
        return None
    if isinstance(message, list):
        return Piece(data, tuple(map(Read, message)), batch=True)
    return Piece(data, (Read(message),))


def _skimmed(data: bytes, found: list[Skimmed]) -> Piece:
    return Piece(data, tuple(Read(item.message, item.sizes) for item in found), whole=False)


def _may_be_json(data: bytes) -> bool:
    return data.removeprefix(_BOM).lstrip(_SPACES)[:1] in (b"{", b"[")


class LineReader:
    """JSON lines. What is not ended by a newline counts as soon as it is complete JSON.

    Args:
        held_bytes: a longer line passes while it is read.
    """

    def __init__(self, held_bytes: int = HELD_BYTES) -> None:
        self._held_bytes = held_bytes
        self._held = bytearray()
        self._skim: Skim | None = None
        self._passing = False

    def feed(self, chunk: bytes) -> list[Piece]:
        """What may be handed on now."""
        pieces: list[Piece] = []
        pos = 0
        while pos < len(chunk):
            newline = chunk.find(b"\n", pos)
            end = len(chunk) if newline < 0 else newline + 1
            pieces.extend(self._line(chunk[pos:end], ends=newline >= 0))
            pos = end
        return pieces

    def _line(self, part: bytes, *, ends: bool) -> list[Piece]:  # noqa: PLR0911 - one branch a state
        if self._skim is not None:
            piece = _skimmed(part, self._skim.feed(part))
            if ends:
                self._skim = None
            return [piece]
        if self._passing or (not self._held and not _may_be_json(part)):
            # A lone BOM, or a part of one, may be the beginning of JSON.
            if not ends and not self._passing and _BOM.startswith(part):
                self._held += part
                return []
            self._passing = not ends and (self._passing or bool(part.strip(_SPACES)))
            return [Piece(part)]
        self._held += part
        if ends:
            return [self._release()]
        if len(self._held) > self._held_bytes:
            self._skim = Skim()
            data = self._take()
            return [_skimmed(data, self._skim.feed(data))]
        if self._held.endswith((b"}", b"]")):
            data = bytes(self._held)
            parsed = _parsed(data, data)
            if parsed is not None:
                self._held.clear()
                self._passing = True
                return [parsed]
        return []

    def end(self) -> list[Piece]:
        """What was held, since nothing more comes."""
        return [self._release()] if self._held else []

    def _take(self) -> bytes:
        data = bytes(self._held)
        self._held.clear()
        return data

    def _release(self) -> Piece:
        data = self._take()
        return _parsed(data, data) or Piece(data)


class BodyReader:
    """One JSON text, such as the body of a request.

    Args:
        held_bytes: a longer one passes while it is read.
    """

    def __init__(self, held_bytes: int = HELD_BYTES) -> None:
        self._held_bytes = held_bytes
        self._held: list[bytes] = []
        self._size = 0
        self._skim: Skim | None = None

    def feed(self, chunk: bytes) -> list[Piece]:
        """What may be handed on now."""
        if self._skim is not None:
            return [_skimmed(chunk, self._skim.feed(chunk))]
        self._held.append(chunk)
        self._size += len(chunk)
        if self._size <= self._held_bytes:
            return []
        self._skim = Skim()
        held, self._held = self._held, []
        return [_skimmed(data, self._skim.feed(data)) for data in held]

    def end(self) -> list[Piece]:
        """What was held, since nothing more comes."""
        data = b"".join(self._held)
        self._held = []
        return [_parsed(data, data) or Piece(data)] if data else []


class SseReader:
    """Server-sent events, each handed on when it is whole.

    Args:
        held_bytes: a longer one passes while it is read.
    """

    def __init__(self, held_bytes: int = HELD_BYTES) -> None:
        self._held_bytes = held_bytes
        self._held = bytearray()
        self._searched = 0
        self._skim: Skim | None = None
        # In an event that passes: the beginning of a line, and whether the line is one of data.
        self._line = b""
        self._is_data: bool | None = None

    def feed(self, chunk: bytes) -> list[Piece]:
        """What may be handed on now."""
        pieces: list[Piece] = []
        while chunk:
            if self._skim is not None:
                chunk = self._pass(chunk, pieces)
                continue
            self._held += chunk
            chunk = b""
            while (found := _EVENT_END.search(self._held, max(0, self._searched - 3))) is not None:
                event = bytes(self._held[: found.end()])
                del self._held[: found.end()]
                self._searched = 0
                pieces.append(_parsed(event, _data_of(event)) or Piece(event))
            self._searched = len(self._held)
            if len(self._held) > self._held_bytes:
                self._skim, self._line, self._is_data = Skim(), b"", None
                chunk = bytes(self._held)
                self._held.clear()
                self._searched = 0
        return pieces

    def end(self) -> list[Piece]:
        """The bytes held back: an incomplete event, on which nobody acts."""
        data = bytes(self._held)
        self._held.clear()
        return [Piece(data)] if data else []

    def _pass(self, chunk: bytes, pieces: list[Piece]) -> bytes:
        """Pass on the chunk's part of a large event; returns the rest."""
        found: list[Skimmed] = []
        pos = 0
        while pos < len(chunk):
            newline = chunk.find(b"\n", pos)
            end = len(chunk) if newline < 0 else newline + 1
            part = chunk[pos:end]
            pos = end
            if self._is_data is None:
                self._line += part
                if len(self._line) < 6 and newline < 0:
                    continue
                if not self._line.strip(b"\r\n"):
                    self._skim = None
                    break
                self._is_data = self._line.startswith(b"data:")
                part, self._line = self._line[5:], b""
            if self._is_data and self._skim is not None:
                found += self._skim.feed(part)
            if newline >= 0:
                self._is_data = None
        pieces.append(_skimmed(chunk[:pos], found))
        return chunk[pos:]


def _data_of(event: bytes) -> bytes:
    lines = _SSE_LINE.split(event)
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
