"""Bytes cut into blocks of whole lines, with the place of each line.

A line ends at LF; a CR before it is white space to JSON. One UTF-8 byte order mark at the very
start is skipped. Lines are not copied: a block is one buffer, and an array of offsets into it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpaudit_lab.errors import SourceError
from mcpaudit_lab.record import scan, skip_space
from mcpaudit_lab.storage.load.inputs import OpenInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "HTTP_HEAD",
    "Block",
    "cut_document",
    "cut_lines",
    "looks_like_document",
    "read_blocks",
    "skip_http_head",
]


HTTP_HEAD = b"HTTP/"
# First the members that a page of /events may start with; then a list, or a brace alone on a line.
_DOCUMENT = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*(?:\[|\{\s*"(?:events|limit|offset|total)"|\{[ \t]*\r?(?:\n|$))'
)


def looks_like_document(head: bytes) -> bool:
    """Whether a file that starts so may be one JSON document rather than a line for each event."""
    return _DOCUMENT.match(head) is not None


def skip_http_head(data: bytes) -> int:
    """The length of a saved response's status line and headers; 0 without them."""
    if not data.startswith(HTTP_HEAD):
        return 0
    end = re.search(rb"\r?\n\r?\n", data)
    return end.end() if end else 0


def cut_document(data: bytes, start: int) -> Block | None:
    """The events of a document as a block of lines; None if ``data`` is not such a document.

    Args:
        data: the whole input, unpacked.
        start: where its JSON starts.
    """
    import numpy as np

    try:
        text = data[start:].decode("utf-8-sig")
        spans = _spans(text)
    except ValueError:
        return None
    if spans is None:
        return None
    offset = start + (len(data) - start - len(text.encode()))
    lines, before = bytearray(), 0
    starts, offsets, sizes = [0], list[int](), list[int]()
    for begin, end in spans:
        offset += len(text[before:begin].encode())
        raw = text[begin:end].encode()
        offsets.append(offset)
        sizes.append(len(raw))
        offset, before = offset + len(raw), end
        lines += raw.replace(b"\n", b" ") + b"\n"
        starts.append(len(lines))
    places = (np.array(offsets, np.int64), np.array(sizes, np.int64))
    return Block(lines, np.array(starts, np.int64), 1, 0, places=places)


def _spans(text: str) -> list[tuple[int, int]] | None:
    """The position of each event in a page, a list or alone; None for another document."""
    pos = skip_space(text, 0)
    walk = _elements if text[pos : pos + 1] == "[" else _members
    spans, end = walk(text, pos)
    return spans if skip_space(text, end) == len(text) else None


def _elements(text: str, pos: int) -> tuple[list[tuple[int, int]], int]:
    spans: list[tuple[int, int]] = []
    pos = skip_space(text, pos + 1)
    while text[pos : pos + 1] != "]":
        if spans:
            if text[pos : pos + 1] != ",":
                raise ValueError("no comma")
            pos = skip_space(text, pos + 1)
        _, end = scan(text, pos)
        spans.append((pos, end))
        pos = skip_space(text, end)
    return spans, pos + 1


def _members(text: str, pos: int) -> tuple[list[tuple[int, int]] | None, int]:
    value, end = scan(text, pos)
    if not isinstance(value, dict):
        return None, end
    if "timestamp" in value:
        return [(pos, end)], end
    if not isinstance(value.get("events"), list):
        return None, end
    # Walk the members once more, for the place of the list.
    pos = skip_space(text, pos + 1)
    spans: list[tuple[int, int]] = []
    while text[pos : pos + 1] != "}":
        if text[pos : pos + 1] == ",":
            pos = skip_space(text, pos + 1)
        name, pos = scan(text, pos)
        pos = skip_space(text, skip_space(text, pos) + 1)
        if name == "events" and text[pos : pos + 1] == "[":
            spans, pos = _elements(text, pos)
        else:
            _, pos = scan(text, pos)
        pos = skip_space(text, pos)
    return spans, end


_BOM = b"\xef\xbb\xbf"
# DuckDB writes rows to disk as they come only where a statement brings some 250,000 of them; fewer
# wait in its write-ahead log and are written twice.
BLOCK_BYTES = 192 << 20
_FIRST_BYTES = 16 << 20
MAX_LINE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of one input.

    Attributes:
        data: the bytes, the last line ending in LF too.
        starts: where each line starts in ``data``, with one more entry for the end.
        first_line: number of the first line, from 1.
        base: offset of ``data`` in the unpacked input.
        torn: whether the last line had no LF, so that it may have been cut off.
        places: offset and size of each line in the input, if they differ from those in ``data``.
    """

    data: bytearray | bytes
    starts: npt.NDArray[np.int64]
    first_line: int
    base: int
    torn: bool = False
    places: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each line starts in the unpacked input, in bytes."""
        return self.places[0] if self.places else self.starts[:-1] + self.base

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """How long each line is in the unpacked input, in bytes, without its LF."""
        if self.places:
            return self.places[1]
        sizes: npt.NDArray[np.int64] = self.starts[1:] - self.starts[:-1] - 1
        return sizes

    @property
    def count(self) -> int:
        """Number of lines."""
        return len(self.starts) - 1

    def line(self, index: int) -> bytes:
        """The bytes of one line, counted from 0 within the block, without its LF."""
        start, end = int(self.starts[index]), int(self.starts[index + 1])
        return bytes(memoryview(self.data)[start : end - 1])


def cut_lines(
    data: bytearray | bytes, *, first_line: int = 1, base: int = 0, torn: bool = False
) -> Block:
    """Find the lines of a buffer that ends in LF."""
    import numpy as np

    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")) + 1
    starts = np.empty(len(ends) + 1, dtype=np.int64)
    starts[0] = len(_BOM) if first_line == 1 and data[:3] == _BOM else 0
    starts[1:] = ends
    return Block(data, starts, first_line, base, torn)


def read_blocks(
    source: OpenInput, head: bytes, *, base: int = 0, block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Read an input block by block, the next one while the caller works on this one.

    Args:
        source: the input.
        head: bytes already read from it.
        base: where ``head`` starts in the unpacked input.
        block_bytes: approximate size of a block; a longer line makes a longer block.

    Raises:
        SourceError: a line is longer than 1 GiB.
    """
    reader = _cut_blocks(source, head, base, block_bytes)
    with ThreadPoolExecutor(1, "mcpaudit-read") as pool:
        upcoming = pool.submit(next, reader, None)
        while (block := upcoming.result()) is not None:
            upcoming = pool.submit(next, reader, None)
            yield block


def _cut_blocks(source: OpenInput, rest: bytes, base: int, block_bytes: int) -> Iterator[Block]:
    line, size = 1, _FIRST_BYTES
    while True:
        # No larger than the remaining input, if that is known: clearing memory takes time too.
        left = source.bytes_left()
        size = min(size * 2, block_bytes) if left is None else min(left + 1, block_bytes)
        data = bytearray(len(rest) + size)
        data[: len(rest)] = rest
        end = len(rest) + source.readinto(memoryview(data)[len(rest) :])
        at_end = end < len(data)
        cut = end if at_end else data.rfind(b"\n", 0, end) + 1
        if cut == 0 and not at_end:
            if end > MAX_LINE_BYTES:
                raise SourceError(
                    f"{source.source.name}: line {line} is longer than {MAX_LINE_BYTES:,} bytes"
                )
            rest = bytes(data[:end])
            continue
        rest = bytes(data[cut:end])
        del data[cut:]
        torn = at_end and cut > 0 and data[-1:] != b"\n"
        if torn:
            data += b"\n"
        if cut:
            block = cut_lines(data, first_line=line, base=base, torn=torn)
            yield block
            base, line = base + cut, line + block.count
        if at_end:
            return
