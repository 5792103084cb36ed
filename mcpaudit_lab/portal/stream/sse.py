"""Server-sent events: bytes in any pieces -> whole frames and comments.

The rules are those of the HTML standard, "Parsing an event stream". This module finds the ends of
frames, and sseclient-py parses each frame. Alone, sseclient-py returns a torn last frame as if it
were whole, hides comments (a stream's signs of life), and fails on a BOM, mixed line ends and
invalid UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_FRAME_BYTES", "Comment", "Frame", "FrameReader"]

MAX_FRAME_BYTES: Final = 16 << 20
_BOM: Final = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")
_DIGITS = re.compile(rb"retry: ?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Comment:
    """A line that starts with a colon.

    Attributes:
        text: the text after the colon, without one leading space.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, whole.

    Attributes:
        event: its type; ``message`` by default.
        data: its data lines, joined by LF; None if it has no data, or too much.
        id: the id it sets, which may be empty; None if it sets none.
        retry_ms: the pause before a reconnection, in milliseconds; None if it sets none.
        too_long: whether its data was left out, because the frame is larger than may be kept.
    """

    event: str
    data: str | None
    id: str | None = None
    retry_ms: int | None = None
    too_long: bool = False


class FrameReader:
    """Splits one connection's bytes into frames and comments. A torn end is not a frame.

    Args:
        max_frame_bytes: of a larger frame the data is left out; no more than this is ever held.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        # Bytes that may be the beginning of a BOM; None when the beginning is over.
        self._start: bytes | None = b""
        self._after_cr = False
        # The line and the frame that have not ended, and how much of both is held.
        self._line: list[bytes] = []
        self._lines: list[bytes] = []
        self._held = 0
        self._too_long = False

    def feed(self, chunk: bytes) -> list[Frame | Comment]:
        """What the next bytes complete, in order. No bytes complete nothing."""
        if self._start is not None:
            chunk = self._start + chunk
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._start = chunk
                return []
            chunk = chunk.removeprefix(_BOM)
            self._start = None
        if not chunk:
            return []
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        found: list[Frame | Comment] = []
        first, *others = _LINE_END.split(chunk)
        self._keep(first)
        for part in others:
            self._end_line(found)
            self._keep(part)
        self._after_cr = chunk.endswith(b"\r")
        return found

    def _keep(self, part: bytes) -> None:
        """Add to the line that has not ended, unless that would be too much."""
        if not part:
            return
        if self._held + len(part) > self._max_frame_bytes:
            self._too_long = True
            # The line goes, and with it the data of the frame; the id before it stays.
            self._line = [b"data"]
            self._lines = [line for line in self._lines if not line.startswith(b"data")]
            self._held = sum(map(len, self._lines))
        elif not (self._too_long and self._line == [b"data"]):
            self._line.append(part)
            self._held += len(part)

    def _end_line(self, found: list[Frame | Comment]) -> None:
        line = b"".join(self._line)
        self._line = []
        if line.startswith(b":"):
            self._held -= len(line)
            found.append(Comment(line[1:].removeprefix(b" ").decode("utf-8", "replace")))
        elif line:
            self._lines.append(line)
        else:
            frame = _parse(self._lines, too_long=self._too_long)
            if frame is not None:
                found.append(frame)
            self._lines, self._held, self._too_long = [], 0, False


def _parse(lines: list[bytes], *, too_long: bool) -> Frame | None:
    """The frame of these lines; None if they have no effect."""
    from sseclient import SSEClient

    has_data = any(line == b"data" or line.startswith(b"data:") for line in lines)
    # The standard ignores an id with NUL and a retry that is not a number.
    kept = [
        line
        for line in lines
        if not (line.startswith(b"id") and b"\x00" in line)
        and (not line.startswith(b"retry") or _DIGITS.fullmatch(line))
    ]
    # sseclient-py drops a frame without data, but its id and retry count.
    text = b"\n".join([*kept, b"" if has_data else b"data:", b""])
    whole = text.decode("utf-8", "replace").encode()
    event = next(iter(SSEClient(iter([whole + b"\n"])).events()))
    if not has_data and event.id is None and event.retry is None:
        return None
    return Frame(
        event.event,
        event.data if has_data and not too_long else None,
        event.id,
        None if event.retry is None else int(event.retry),
        too_long,
    )
