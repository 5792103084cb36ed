"""Events as other tools' files: OTLP JSON, CSV, mcpsnoop frames. Reports what does not fit."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final, Self

from mcpaudit_lab.formats.mcpsnoop_writer import mcpsnoop_lines
from mcpaudit_lab.formats.otlp_writer import otlp_document
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Event, dumps

__all__ = ["WRITERS", "EventWriter", "WriteReport", "guard_formula", "write_csv"]

# A spreadsheet runs a cell as a formula if it starts with one of these (CWE-1236).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_EVENT_NAMES: Final = {field.name: field.column for field in EVENT_FIELDS}
_PAYLOAD_NAMES: Final = {field.name: field.column for field in PAYLOAD_FIELDS}


class WriteReport(int):
    """The number of events in a written file, and what the format could not carry.

    Attributes:
        lost: members that were left out, with the number of events that have them.
        skipped: events that are not in the file, by reason.
    """

    lost: Mapping[str, int]
    skipped: Mapping[str, int]

    def __new__(
        cls,
        count: int,
        lost: Mapping[str, int] | None = None,
        skipped: Mapping[str, int] | None = None,
    ) -> Self:
        """Make a report of a number of events."""
        report = super().__new__(cls, count)
        report.lost = dict(sorted((lost or {}).items()))
        report.skipped = dict(sorted((skipped or {}).items()))
        return report

    def describe(self) -> str:
        """What is missing from the file, as lines of text; empty if nothing is."""
        lines = [f"not written: {number:,} events: {why}" for why, number in self.skipped.items()]
        if self.lost:
            members = ", ".join(f"{name} ({number:,})" for name, number in self.lost.items())
            lines.append(f"this format cannot carry: {members}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class EventWriter:
    """A format that events can be written in.

    Attributes:
        name: the value for ``format=``.
        suffix: the end of a file's name that selects the format; empty for none.
        write: writes events, oldest first; returns the number written, the members lost and the
            events skipped.
    """

    name: str
    suffix: str
    write: Callable[[Iterable[Event], IO[bytes]], WriteReport]


def write_csv(events: Iterable[Event], file: IO[bytes]) -> WriteReport:
    """Write CSV (RFC 4180, UTF-8): the columns of ``audit_events``, then those of the payload.

    JSON is text. A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    columns = [*_EVENT_NAMES.values(), *(f"payload_{name}" for name in _PAYLOAD_NAMES.values())]
    output = _Utf8(file)
    rows = csv.writer(output)
    rows.writerow(columns)
    count, lost = 0, Counter[str]()
    for event in events:
        payload = event.wire.get("payload") or {}
        cells = [event.wire.get(name) for name in _EVENT_NAMES]
        cells += [payload.get(name) for name in _PAYLOAD_NAMES]
        rows.writerow([_cell(cell) for cell in cells])
        count += 1
        lost.update(f"extra.{name}" for name in event.extra)
    return WriteReport(count, lost)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return dumps(value)
    return guard_formula(value)


def guard_formula(text: str) -> str:
    """A text for a spreadsheet: an apostrophe stands before one that it would run."""
    return f"'{text}" if text.startswith(_FORMULA) else text


class _Utf8:
    """A text file for ``csv``; a lone surrogate is written as its escape."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8", "backslashreplace"))


def _write_otlp(events: Iterable[Event], file: IO[bytes]) -> WriteReport:
    lost, skipped = Counter[str](), Counter[str]()
    count = 0
    for text, ends in otlp_document(events, lost, skipped):
        file.write(text.encode())
        count += ends
    return WriteReport(count, lost, skipped)


def _write_mcpsnoop(events: Iterable[Event], file: IO[bytes]) -> WriteReport:
    lost, skipped = Counter[str](), Counter[str]()
    count = 0
    for text, ends in mcpsnoop_lines(events, lost, skipped):
        file.write(text.encode())
        count += ends
    return WriteReport(count, lost, skipped)


WRITERS: Final = (
    EventWriter("otel", ".otlp.json", _write_otlp),
    EventWriter("csv", ".csv", write_csv),
    EventWriter("mcpsnoop", "", _write_mcpsnoop),
)
