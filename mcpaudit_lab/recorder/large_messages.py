"""Parses large JSON-RPC messages incrementally and keeps only the members that are recorded.

A tool's response may be 50 MB of base64, of which only its id, ``isError`` and sizes are stored.
The parser keeps nothing else, so it needs the memory of one input piece. Invalid JSON gives no
message, as it does for the receiver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import loads

__all__ = ["LargeMessageParser", "PartialMessage", "Sizes"]

# What to keep: _KEEP the value, up to a size; _COUNT the length of a text; _SIZE the byte size.
_KEEP: Final = "keep"
_COUNT: Final = "count"
_SIZE: Final = "size"
_BLOCK: Final = {"type": _KEEP, "text": _COUNT}
_MESSAGE: Final[dict[str, Any]] = {
    "id": _KEEP,
    "method": _KEEP,
    "params": {
        "name": _KEEP,
        "arguments": _SIZE,
        "requestId": _KEEP,
        "progressToken": _KEEP,
        "_meta": {"progressToken": _KEEP},
    },
    "result": {"isError": _KEEP, "content": [_BLOCK]},
    "error": {"code": _KEEP, "message": _KEEP},
}
_KEPT_BYTES: Final = 65_536
_MEASURED: Final = ("arguments", "result")

# String content up to its end, the end of the piece, or an escape cut by the end of the piece.
_RUN: Final = re.compile(
    rb'[^"\\]*+(?:\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    rb'|u[0-9a-fA-F]{4}|[^u])[^"\\]*+)*+',
    re.DOTALL,
)
_ESCAPE: Final = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|[^u])",
    re.DOTALL,
)
# A possible start of a low surrogate's escape.
_LOW_BEGINS: Final = re.compile(rb"(?:\\(?:u[0-9a-fA-F]{0,3})?)?")
_HIGH: Final = re.compile(rb"d[89ab]", re.IGNORECASE)
_LONGEST_ESCAPE: Final = 12
_SCALAR: Final = re.compile(rb'[^\s,:\[\]{}"]*+')
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
# Content of a skipped container, up to the next bracket or cut string.
_INSIDE: Final = re.compile(rb'(?:[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the omitted parts of a message, in bytes as received.

    Attributes:
        request_bytes: size of ``params.arguments``.
        response_bytes: size of ``result``.
        response_chars: UTF-8 bytes of the text blocks, unescaped.
        content_blocks: number of content blocks of the result.
    """

    request_bytes: int = 0
    response_bytes: int = 0
    response_chars: int = 0
    content_blocks: int = 0


@dataclass(frozen=True, slots=True)
class PartialMessage:
    """A message reduced to the members that are recorded.

    Attributes:
        message: these members.
        sizes: sizes of the omitted parts.
    """

    message: dict[str, Any]
    sizes: Sizes


@dataclass(slots=True)
class _Frame:
    """An open container: which members to keep, and those kept so far."""

    is_object: bool
    wanted: Any
    kept: Any
    key: str = ""
    at_key: bool = False


@dataclass(slots=True)
class _Tally:
    """Offsets and sizes of measured members of the current message."""

    starts: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


class LargeMessageParser:
    """Parses one JSON text, a message or a batch of messages, from pieces of any size.

    Attributes:
        ended: whether the text is complete; input after it is ignored.
    """

    def __init__(self) -> None:
        self.ended = False
        self._broken = False
        self._offset = 0
        self._carry = b""
        self._frames: list[_Frame] = []
        # Number of open containers inside a skipped one.
        self._depth = 0
        # The mode of the current string, and the current scalar; None outside of them.
        self._string: str | None = None
        self._scalar: bytearray | None = None
        self._kept = bytearray()
        self._counted = 0
        self._tally = _Tally()
        self._found: list[PartialMessage] = []

    def feed(self, piece: bytes) -> list[PartialMessage]:
        """Add input; returns the messages that it completes, in order."""
        if self.ended or self._broken:
            return []
        data = self._carry + piece
        self._carry = b""
        pos = 0
        while pos < len(data) and self._goes_on():
            if self._string is not None:
                pos = self._in_string(data, pos)
            elif self._scalar is not None:
                pos = self._in_scalar(data, pos)
            elif self._depth:
                pos = self._inside(data, pos)
            else:
                pos = self._structure(data, pos)
        self._offset += len(data) - len(self._carry)
        found, self._found = self._found, []
        return found

    def _goes_on(self) -> bool:
        return not (self.ended or self._broken or self._carry)

    # --- strings and scalars ----------------------------------------------------------------------

    def _in_string(self, data: bytes, pos: int) -> int:
        found = _RUN.match(data, pos)
        end = pos if found is None else found.end()
        left = data[end:]
        if not left or (left[0] == 0x5C and len(left) < _LONGEST_ESCAPE):
            # The piece ends inside the string, perhaps within an escape or a surrogate pair.
            start = _lone_high(data, pos, end) if _LOW_BEGINS.fullmatch(left) else end
            self._take(data[pos:start])
            self._carry = data[start:]
            return len(data)
        self._take(data[pos:end])
        if left[0] == 0x22:
            self._end_string(end + 1 + self._offset)
            return end + 1
        self._broken = True
        return end

    def _take(self, run: bytes) -> None:
        if self._string in (_KEEP, "key"):
            if len(self._kept) <= _KEPT_BYTES:
                self._kept += run
        elif self._string == _COUNT:
            self._counted += len(run)
            if b"\\" in run:
                self._counted += sum(map(_escape_difference, _ESCAPE.finditer(run)))

    def _end_string(self, offset: int) -> None:
        mode, self._string = self._string, None
        if self._depth:
            return
        if mode == "key":
            self._frames[-1].key = self._text()
        elif mode == _KEEP:
            self._end_value(self._text(), offset)
        else:
            self._end_value(self._counted if mode == _COUNT else None, offset)

    def _text(self) -> str:
        """The kept string; a placeholder for one that is too long to be an id or a name."""
        raw, self._kept = bytes(self._kept), bytearray()
        if len(raw) > _KEPT_BYTES:
            return f"({len(raw)} bytes or more)"
        try:
            return str(loads(b'"' + raw + b'"'))
        except RecordError:
            self._broken = True
            return ""

    def _in_scalar(self, data: bytes, pos: int) -> int:
        found = _SCALAR.match(data, pos)
        end = pos if found is None else found.end()
        if self._scalar is not None and len(self._scalar) <= _KEPT_BYTES:
            self._scalar += data[pos:end]
        if end < len(data):
            raw, self._scalar = bytes(self._scalar or b""), None
            try:
                self._end_value(loads(raw) if self._wanted() == _KEEP else None, end + self._offset)
            except RecordError:
                self._broken = True
        return end

    # --- containers -------------------------------------------------------------------------------

    def _inside(self, data: bytes, pos: int) -> int:
        found = _INSIDE.match(data, pos)
        end = pos if found is None else found.end()
        if end == len(data):
            return end
        char = data[end]
        if char == 0x22:
            self._string = ""
        elif char in b"{[":
            self._depth += 1
        else:
            self._depth -= 1
            if not self._depth:
                self._end_value(None, end + 1 + self._offset)
        return end + 1

    def _structure(self, data: bytes, pos: int) -> int:  # noqa: PLR0911 - one branch for each character
        found = _SPACE.match(data, pos)
        pos = pos if found is None else found.end()
        if pos == len(data):
            return pos
        char = data[pos]
        frame = self._frames[-1] if self._frames else None
        if char in b"}]":
            if frame is None or frame.is_object != (char == 0x7D):
                self._broken = True
                return pos
            self._close(pos + 1 + self._offset)
            return pos + 1
        if char == 0x2C and frame is not None:
            frame.at_key = frame.is_object
            return pos + 1
        if char == 0x3A and frame is not None:
            frame.at_key = False
            return pos + 1
        if frame is not None and frame.at_key:
            self._string, self._kept = "key", bytearray()
            self._broken = char != 0x22
            return pos + 1
        wanted = self._begin_value(pos + self._offset)
        if char in b"{[":
            self._open(char == 0x7B, wanted)
            return pos + 1
        if char == 0x22:
            self._string = wanted if wanted in (_KEEP, _COUNT) else ""
            self._kept, self._counted = bytearray(), 0
            return pos + 1
        self._scalar = bytearray()
        found = _SCALAR.match(data, pos)
        self._broken = found is None or found.end() == pos
        return pos

    def _wanted(self) -> Any:
        """What to keep of the current value."""
        if not self._frames:
            return _MESSAGE
        frame = self._frames[-1]
        if not frame.is_object:
            return frame.wanted[0]
        return frame.wanted.get(frame.key)

    def _begin_value(self, offset: int) -> Any:
        key = self._measured()
        if key:
            self._tally.starts[key] = offset
        return self._wanted()

    def _measured(self) -> str:
        key = self._frames[-1].key if self._frames and self._frames[-1].is_object else ""
        return key if key in _MEASURED else ""

    def _open(self, is_object: bool, wanted: Any) -> None:
        if not self._frames:
            # A batch is a list of messages.
            wanted = _MESSAGE if is_object else [_MESSAGE]
        fits = isinstance(wanted, dict) if is_object else isinstance(wanted, list)
        if not fits:
            self._depth = 1
            return
        kept: Any = {} if is_object else []
        if wanted is _MESSAGE:
            self._tally = _Tally()
        self._frames.append(_Frame(is_object, wanted, kept, at_key=is_object))

    def _close(self, offset: int) -> None:
        frame = self._frames.pop()
        if frame.wanted is _MESSAGE:
            self._found.append(_finished(frame.kept, self._tally.sizes))
        self._end_value(frame.kept, offset)

    def _end_value(self, value: Any, offset: int = 0) -> None:
        if not self._frames:
            self.ended = True
            return
        frame = self._frames[-1]
        key = self._measured()
        if key and offset:
            self._tally.sizes[key] = offset - self._tally.starts[key]
        if not frame.is_object:
            # The messages of a batch are in self._found already.
            if frame.wanted[0] is not _MESSAGE:
                frame.kept.append(_chars_of(value))
        elif value is not None or frame.wanted.get(frame.key) == _KEEP:
            frame.kept[frame.key] = value


def _chars_of(block: Any) -> int:
    is_text = isinstance(block, dict) and block.get("type") == "text"
    chars = block.get("text") if is_text else 0
    return chars if isinstance(chars, int) else 0


def _finished(message: dict[str, Any], sizes: dict[str, int]) -> PartialMessage:
    result = message.get("result")
    blocks = result.pop("content", []) if isinstance(result, dict) else []
    counted = Sizes(sizes.get("arguments", 0), sizes.get("result", 0), sum(blocks), len(blocks))
    return PartialMessage(message, counted)


def _escape_difference(found: re.Match[bytes]) -> int:
    """UTF-8 bytes of the escaped character minus bytes of the escape; negative."""
    if found[1]:
        return 4 - 12
    if not found[2]:
        return 1 - 2
    point = int(found[2], 16)
    return (1 if point < 0x80 else 2 if point < 0x800 else 3) - 6


def _lone_high(data: bytes, pos: int, end: int) -> int:
    """The start of a trailing high surrogate whose low one is yet to come; else the run's end."""
    if b"\\" not in data[max(pos, end - 6) : end]:
        return end
    last = None
    for last in _ESCAPE.finditer(data, pos, end):  # noqa: B007 - only the last one matters
        pass
    is_high = last is not None and last.end() == end and last[2] and _HIGH.match(last[2])
    return last.start() if last is not None and is_high else end
