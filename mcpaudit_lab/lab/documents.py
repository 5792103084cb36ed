"""Saved answers of a portal: a page of events, a list of events, or one event over several lines.

Each event in such a document is treated as a line of its own. White space around it is JSON's, so a
line break inside may become a space without a change of meaning.
"""

from __future__ import annotations

import re

from mcpaudit_lab.jsontext import scan, skip_space
from mcpaudit_lab.lab.blocks import Block

__all__ = ["HTTP_HEAD", "cut_document", "looks_like_document", "skip_http_head"]

HTTP_HEAD = b"HTTP/"
# First the members that a page of /events may start with; then a list, or a brace alone on a line.
_DOCUMENT = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*(?:\[|\{\s*"(?:events|limit|offset|total)"|\{[ \t]*\r?(?:\n|$))'
)


def looks_like_document(head: bytes) -> bool:
    """Whether a file that starts so may be one JSON document rather than a line for each event."""
    return _DOCUMENT.match(head) is not None


def skip_http_head(data: bytes) -> int:
    """How long the status line and headers of a saved answer are; 0 where there are none."""
    if not data.startswith(HTTP_HEAD):
        return 0
    end = re.search(rb"\r?\n\r?\n", data)
    return end.end() if end else 0


def cut_document(data: bytes, start: int) -> Block | None:
    """The events of a document as a block of lines; None where ``data`` is no such document.

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
    """Where each event stands in a page, a list or alone; None for another document."""
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
