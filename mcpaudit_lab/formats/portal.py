"""A portal's own lines inside a log. Plain files of them are read by the workbench itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mcpaudit_lab.errors import RecordError, RejectReason
from mcpaudit_lab.formats.lines import Found, Line, Outcome, Tally, objects
from mcpaudit_lab.formats.reader import Reader
from mcpaudit_lab.record import Event

__all__ = ["PORTAL"]


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("timestamp"), str)
        and ("tool_name" in value or "duration_ms" in value)
        and ("success" in value or "type" not in value)
    )


def _read(lines: Iterator[Line], tally: Tally) -> Iterator[Outcome]:
    for line, value in objects(lines, tally):
        if tally.wrapped and not _is_record(value):
            tally.other += 1
            continue
        try:
            event = Event(value)
        except RecordError as error:
            tally.reject(line, error)
            continue
        if value.get("id"):
            yield Found(event, line.places)
        else:
            tally.reject(line, RecordError(RejectReason.NO_ID, "there is no id"))


PORTAL = Reader(
    "portal", "a portal's exports: JSON Lines, saved answers, Parquet", _read, _is_record
)
