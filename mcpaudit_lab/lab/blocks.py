"""Bytes cut into blocks of whole lines, with the place of each line.

A line ends at LF; a CR before it is white space to JSON. One UTF-8 byte order mark at the very
start is skipped. Lines are not copied: a block is one buffer, and an array of offsets into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpaudit_lab.errors import SourceError
from mcpaudit_lab.lab.inputs import OpenInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Block", "cut_lines", "read_blocks"]

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
        torn: whether the last line had no LF of its own, so that it may have been cut off.
        places: offset and size of each line in the input, where they are not those in ``data``.
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
        block_bytes: about how much a block holds; a longer line makes a longer block.

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
        # No larger than what is left, where that is known: clearing memory takes time too.
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
