"""What logs put around a line: Docker, Kubernetes, journald, event streams, text sequences.

Each wrapping is recognized by its first lines, and yields the inner lines with the places of the
outer ones. Its own additions between records (comments, ids, times) are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mcpaudit_lab.errors import RecordError, RejectReason
from mcpaudit_lab.formats.lines import Line, Place, Tally, objects
from mcpaudit_lab.record import loads

__all__ = ["WRAPPINGS", "Wrapping"]


@dataclass(frozen=True, slots=True)
class Wrapping:
    """One way to put lines into a log.

    Attributes:
        name: in reports and in the ledger.
        title: for people.
        matches: whether lines, the first of a file, are wrapped so. Lines are not blank.
        unwrap: yields the inner lines.
    """

    name: str
    title: str
    matches: Callable[[Sequence[bytes]], bool]
    unwrap: Callable[[Iterable[Line], Tally], Iterator[Line]]


class _Joiner:
    """Puts the parts of a line together, for each stream of a log on its own."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._open: dict[Any, tuple[list[bytes], list[Place]]] = {}

    def add(self, key: Any, text: bytes, line: Line, *, ends: bool) -> Iterator[Line]:
        texts, places = self._open.pop(key, ([], []))
        texts.append(text)
        places.extend(line.places)
        if ends:
            # The other lines of a joined line are counted by the function that joined them.
            self._tally.parts += len(places) - len(line.places)
            yield Line(b"".join(texts), tuple(places))
        else:
            self._open[key] = (texts, places)

    def rest(self) -> Iterator[Line]:
        """What was never ended: the log was cut off there."""
        for texts, places in self._open.values():
            self._tally.parts += len(places) - 1
            yield Line(b"".join(texts), tuple(places))


def _first_object(lines: Sequence[bytes]) -> dict[str, Any]:
    try:
        value = loads(lines[0]) if lines else None
    except RecordError:
        return {}
    return value if isinstance(value, dict) else {}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# Docker's json-file driver: {"log": "…\n", "stream": "stdout", "time": "…"}


def _is_docker(lines: Sequence[bytes]) -> bool:
    value = _first_object(lines)
    return isinstance(value.get("log"), str) and isinstance(value.get("time"), str)


def _docker(lines: Iterable[Line], tally: Tally) -> Iterator[Line]:
    joiner = _Joiner(tally)
    for line, value in objects(lines, tally):
        log = value.get("log")
        if not isinstance(log, str):
            tally.other += 1
            continue
        # Docker splits a line over 16 KiB; only the last part has the line end.
        ends = log.endswith("\n")
        text = _encode(log.removesuffix("\n"))
        yield from joiner.add(value.get("stream"), text, line, ends=ends)
    yield from joiner.rest()


# Kubernetes (CRI): TIME STREAM TAG TEXT, where the tag P says that the line goes on

_CRI = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) (stdout|stderr) "
    rb"([PF])(?::[^ ]*)?(?: (.*))?",
    re.DOTALL,
)


def _is_cri(lines: Sequence[bytes]) -> bool:
    return bool(lines) and _CRI.fullmatch(lines[0]) is not None


def _cri(lines: Iterable[Line], tally: Tally) -> Iterator[Line]:
    joiner = _Joiner(tally)
    for line in lines:
        if not line.text.strip():
            tally.blank += 1
        elif found := _CRI.fullmatch(line.text):
            stream, tag, text = found.groups()
            yield from joiner.add(stream, text or b"", line, ends=tag == b"F")
        else:
            tally.reject(line, RecordError(RejectReason.NOT_JSON, "no line of a Kubernetes log"))
    yield from joiner.rest()


# journalctl -o json: MESSAGE is a string, or a list of bytes if it is not printable


def _is_journald(lines: Sequence[bytes]) -> bool:
    value = _first_object(lines)
    return "__REALTIME_TIMESTAMP" in value or ("MESSAGE" in value and "__CURSOR" in value)


def _journald(lines: Iterable[Line], tally: Tally) -> Iterator[Line]:
    joiner = _Joiner(tally)
    for line, value in objects(lines, tally):
        texts = _messages(value.get("MESSAGE"))
        if not texts:
            tally.other += 1
            continue
        tally.lines += len(texts) - 1
        # Docker's journald driver cuts long lines, and says so.
        partial = value.get("CONTAINER_PARTIAL_MESSAGE") == "true"
        ends = not partial or value.get("CONTAINER_PARTIAL_LAST") == "true"
        key = value.get("CONTAINER_ID") if partial or ends else None
        key = (value.get("CONTAINER_PARTIAL_ID") or key) if partial else object()
        for text in texts:
            yield from joiner.add(key, text, line, ends=ends)
    yield from joiner.rest()


def _messages(value: Any) -> list[bytes]:
    """The texts of a field: one, or several where the entry has the field more than once."""
    if isinstance(value, str):
        return [_encode(value)]
    if not isinstance(value, list):
        return []
    if all(isinstance(item, int) and 0 <= item < 256 for item in value):
        return [bytes(value)]
    return [text for item in value for text in _messages(item)]


# An event stream as it was saved (curl -N): what counts is the data of each frame

_SSE_FIELD = re.compile(rb"(?:event|id|data|retry)(?::.*)?|:.*", re.DOTALL)


def _is_sse(lines: Sequence[bytes]) -> bool:
    return (
        bool(lines)
        and all(_SSE_FIELD.fullmatch(line) for line in lines)
        and any(line.startswith((b"data:", b":")) for line in lines)
    )


def _sse(lines: Iterable[Line], tally: Tally) -> Iterator[Line]:
    data: list[Line] = []
    about: list[Line] = []
    for line in lines:
        text = line.text
        if not text:
            tally.blank += 1
            yield from _frame(data, about, tally)
            data, about = [], []
        elif text.startswith(b":"):
            tally.other += 1
        elif text.startswith(b"data"):
            data.append(line)
        else:
            about.append(line)
    # The capture may have ended within a frame: what reads its data will see.
    yield from _frame(data, about, tally)


def _frame(data: list[Line], about: list[Line], tally: Tally) -> Iterator[Line]:
    if not data:
        tally.other += len(about)
        return
    tally.parts += len(data) - 1 + len(about)
    texts = (line.text.partition(b":")[2].removeprefix(b" ") for line in data)
    yield Line(b"\n".join(texts), tuple(p for line in (*data, *about) for p in line.places))


# JSON text sequences (RFC 7464): a record separator before each text

_RS = b"\x1e"


def _is_sequence(lines: Sequence[bytes]) -> bool:
    return bool(lines) and lines[0].startswith(_RS)


def _sequence(lines: Iterable[Line], tally: Tally) -> Iterator[Line]:
    texts: list[Line] = []
    begun = False
    for line in lines:
        before, *after = line.text.split(_RS)
        if not after:
            if not before.strip():
                tally.blank += 1
            elif begun:
                texts.append(line)
            else:
                tally.other += 1
            continue
        if before.strip() and begun:
            texts.append(Line(before, line.places))
            tally.lines += 1
        begun = True
        tally.lines += len(after) - 1
        for text in after:
            yield from _text(texts, tally)
            texts = [Line(text, line.places)]
    yield from _text(texts, tally)


def _text(lines: list[Line], tally: Tally) -> Iterator[Line]:
    if lines:
        tally.parts += len(lines) - 1
        text = b"\n".join(line.text for line in lines)
        yield Line(text, tuple(place for line in lines for place in line.places))


WRAPPINGS = (
    Wrapping("docker", "Docker's json-file logs", _is_docker, _docker),
    Wrapping("cri", "Kubernetes (CRI) logs", _is_cri, _cri),
    Wrapping("journald", "journalctl -o json", _is_journald, _journald),
    Wrapping("sse", "a saved event stream", _is_sse, _sse),
    Wrapping("json-seq", "JSON text sequences (RFC 7464)", _is_sequence, _sequence),
)
"""In the order in which they are tried."""
