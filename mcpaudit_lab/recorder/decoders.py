r"""Incremental decoders that split a byte stream into pieces, each with the messages it completes.

A caller handles the messages of a piece before it forwards the bytes, since the receiver acts on
them at once. A message that may be JSON is buffered until it is complete, up to a limit. The parts
of a longer message are forwarded as they arrive: no receiver can act on it before its last part.
Bytes that are not JSON are forwarded at once. The pieces concatenated always equal the input.

Three framings: JSON lines (stdio), one JSON text (a body), server-sent events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import loads
from mcpaudit_lab.recorder.large_messages import LargeMessageParser, PartialMessage, Sizes

__all__ = [
    "MAX_BUFFERED_BYTES",
    "BodyDecoder",
    "DecodedMessage",
    "Decoder",
    "LineDecoder",
    "Piece",
    "SseDecoder",
]

MAX_BUFFERED_BYTES: Final = 1 << 20
"""A larger message is not buffered: its bytes are forwarded while it is parsed."""

_BOM: Final = b"\xef\xbb\xbf"
_SPACES: Final = b" \t\r\n"
_EVENT_END: Final = re.compile(rb"\n\r?\n|\r\r\n?")
_SSE_LINE: Final = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class DecodedMessage:
    """A decoded JSON-RPC message.

    Attributes:
        message: any JSON; a batch is decoded into its messages.
        sizes: of the omitted parts of a large message; None where nothing was omitted.
    """

    message: Any
    sizes: Sizes | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A slice of the stream.

    Attributes:
        data: the bytes to forward.
        messages: the messages that these bytes complete.
        whole: whether the bytes are exactly these messages, so that an error may replace them.
        batch: whether the messages came as a JSON-RPC batch.
    """

    data: bytes
    messages: tuple[DecodedMessage, ...] = ()
    whole: bool = True
    batch: bool = False


class Decoder(Protocol):
    """Decodes the bytes of one direction."""

    def feed(self, chunk: bytes) -> list[Piece]:
        """Add input; returns the pieces that may be forwarded now."""

    def end(self) -> list[Piece]:
        """End the input; returns the buffered rest."""


def _parse_piece(data: bytes, text: bytes) -> Piece | None:
    """Parse ``text`` as the JSON of the piece ``data``; None if it is not JSON."""
    try:
        message = loads(text.removeprefix(_BOM))
    except RecordError:
        return None
    if isinstance(message, list):
        return Piece(data, tuple(map(DecodedMessage, message)), batch=True)
    return Piece(data, (DecodedMessage(message),))


def _partial_piece(data: bytes, found: list[PartialMessage]) -> Piece:
    return Piece(
        data, tuple(DecodedMessage(item.message, item.sizes) for item in found), whole=False
    )


def _may_be_json(data: bytes) -> bool:
    return data.removeprefix(_BOM).lstrip(_SPACES)[:1] in (b"{", b"[")


class LineDecoder:
    """Decodes JSON lines. A line counts as soon as it is complete JSON, before its newline.

    Args:
        max_buffered_bytes: a longer line is forwarded while it is parsed.
    """

    def __init__(self, max_buffered_bytes: int = MAX_BUFFERED_BYTES) -> None:
        self._max_buffered_bytes = max_buffered_bytes
        self._held = bytearray()
        self._parser: LargeMessageParser | None = None
        self._passing = False

    def feed(self, chunk: bytes) -> list[Piece]:
        """Add input; returns the pieces that may be forwarded now."""
        pieces: list[Piece] = []
        pos = 0
        while pos < len(chunk):
            newline = chunk.find(b"\n", pos)
            end = len(chunk) if newline < 0 else newline + 1
            pieces.extend(self._line(chunk[pos:end], ends=newline >= 0))
            pos = end
        return pieces

    def _line(self, part: bytes, *, ends: bool) -> list[Piece]:  # noqa: PLR0911 - one branch for each state
        if self._parser is not None:
            piece = _partial_piece(part, self._parser.feed(part))
            if ends:
                self._parser = None
            return [piece]
        if self._passing or (not self._held and not _may_be_json(part)):
            # JSON may follow a BOM or a part of one.
            if not ends and not self._passing and _BOM.startswith(part):
                self._held += part
                return []
            self._passing = not ends and (self._passing or bool(part.strip(_SPACES)))
            return [Piece(part)]
        self._held += part
        if ends:
            return [self._release()]
        if len(self._held) > self._max_buffered_bytes:
            self._parser = LargeMessageParser()
            data = self._take()
            return [_partial_piece(data, self._parser.feed(data))]
        if self._held.endswith((b"}", b"]")):
            data = bytes(self._held)
            parsed = _parse_piece(data, data)
            if parsed is not None:
                self._held.clear()
                self._passing = True
                return [parsed]
        return []

    def end(self) -> list[Piece]:
        """End the input; returns the buffered rest."""
        return [self._release()] if self._held else []

    def _take(self) -> bytes:
        data = bytes(self._held)
        self._held.clear()
        return data

    def _release(self) -> Piece:
        data = self._take()
        return _parse_piece(data, data) or Piece(data)


class BodyDecoder:
    """Decodes one JSON text, such as the body of a request.

    Args:
        max_buffered_bytes: a longer text is forwarded while it is parsed.
    """

    def __init__(self, max_buffered_bytes: int = MAX_BUFFERED_BYTES) -> None:
        self._max_buffered_bytes = max_buffered_bytes
        self._held: list[bytes] = []
        self._size = 0
        self._parser: LargeMessageParser | None = None

    def feed(self, chunk: bytes) -> list[Piece]:
        """Add input; returns the pieces that may be forwarded now."""
        if self._parser is not None:
            return [_partial_piece(chunk, self._parser.feed(chunk))]
        self._held.append(chunk)
        self._size += len(chunk)
        if self._size <= self._max_buffered_bytes:
            return []
        self._parser = LargeMessageParser()
        held, self._held = self._held, []
        return [_partial_piece(data, self._parser.feed(data)) for data in held]

    def end(self) -> list[Piece]:
        """End the input; returns the buffered rest."""
        data = b"".join(self._held)
        self._held = []
        return [_parse_piece(data, data) or Piece(data)] if data else []


class SseDecoder:
    """Decodes server-sent events; each is forwarded when it is complete.

    Args:
        max_buffered_bytes: a longer event is forwarded while it is parsed.
    """

    def __init__(self, max_buffered_bytes: int = MAX_BUFFERED_BYTES) -> None:
        self._max_buffered_bytes = max_buffered_bytes
        self._held = bytearray()
        self._searched = 0
        self._parser: LargeMessageParser | None = None
        # In a large event: the start of the current line, and whether it is a ``data`` line.
        self._line = b""
        self._is_data: bool | None = None

    def feed(self, chunk: bytes) -> list[Piece]:
        """Add input; returns the pieces that may be forwarded now."""
        pieces: list[Piece] = []
        while chunk:
            if self._parser is not None:
                chunk = self._pass(chunk, pieces)
                continue
            self._held += chunk
            chunk = b""
            while (found := _EVENT_END.search(self._held, max(0, self._searched - 3))) is not None:
                event = bytes(self._held[: found.end()])
                del self._held[: found.end()]
                self._searched = 0
                pieces.append(_parse_piece(event, _data_of(event)) or Piece(event))
            self._searched = len(self._held)
            if len(self._held) > self._max_buffered_bytes:
                self._parser, self._line, self._is_data = LargeMessageParser(), b"", None
                chunk = bytes(self._held)
                self._held.clear()
                self._searched = 0
        return pieces

    def end(self) -> list[Piece]:
        """End the input; returns a torn last event, which receivers ignore."""
        data = bytes(self._held)
        self._held.clear()
        return [Piece(data)] if data else []

    def _pass(self, chunk: bytes, pieces: list[Piece]) -> bytes:
        """Add the large event's part of the chunk to ``pieces``; returns the rest."""
        found: list[PartialMessage] = []
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
                    self._parser = None
                    break
                self._is_data = self._line.startswith(b"data:")
                part, self._line = self._line[5:], b""
            if self._is_data and self._parser is not None:
                found += self._parser.feed(part)
            if newline >= 0:
                self._is_data = None
        pieces.append(_partial_piece(chunk[:pos], found))
        return chunk[pos:]


def _data_of(event: bytes) -> bytes:
    lines = _SSE_LINE.split(event)
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
