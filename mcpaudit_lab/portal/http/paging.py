"""Lists of events, page by page, without losing or repeating rows that shift during reading.

A page starts at the time of the previous page's last row, and skips the rows already seen at
exactly that time. Rows that arrive at the front shift nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from mcpaudit_lab.errors import BadAnswer, RecordError
from mcpaudit_lab.portal.http.request import EventRequest
from mcpaudit_lab.record import Event, parse_id, parse_time, visible

__all__ = [
    "PAGE_ROWS",
    "ListedLine",
    "Page",
    "read_event",
    "read_line",
    "read_page",
    "walk_back",
]

PAGE_ROWS: Final = 1000

_HEX: Final = rb"[0-9a-f]"
_BEGIN = re.compile(
    rb'\{"id":"(%b{8}(?:-%b{4}){3}-%b{12})","timestamp":"([0-9T:.+Z-]{20,40})"' % ((_HEX,) * 3)
)
_PAYLOAD: Final = b',"payload":{'


class _Row(Protocol):
    """What has a place in a list."""

    @property
    def id(self) -> str:
        """The event's id."""

    @property
    def timestamp(self) -> datetime:
        """Start of the call."""


_RowT = TypeVar("_RowT", bound=_Row)


@dataclass(frozen=True, slots=True)
class ListedLine:
    """An event as the bytes that a portal sent.

    Attributes:
        id: its id.
        timestamp: start of the call: UTC, cut to microseconds.
        whole: whether it has its payload.
        line: the bytes, without LF.
    """

    id: str
    timestamp: datetime
    whole: bool
    line: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Some events in the portal's order, newest first, ties by id.

    Attributes:
        events: the events.
        total: how many the filter selects, as the portal says.
        unreadable: how many rows the portal cannot read, whatever the filter. They are not in
            ``total``.
    """

    events: list[Event]
    total: int
    unreadable: int = 0


def read_page(value: Any) -> Page:
    """A page of ``/audit/events``.

    Raises:
        BadAnswer: the response or one of its events is malformed.
    """
    rows = value.get("events") if isinstance(value, dict) else None
    total = value.get("total") if isinstance(value, dict) else None
    # Go encodes a nil slice as null.
    rows = [] if rows is None and total == 0 else rows
    if not isinstance(rows, list) or type(total) is not int:
        raise BadAnswer("the portal's list of events is not what a portal says", status=200)
    detail = ""
    try:
        unreadable = value.get("unreadable")
        unreadable = unreadable if type(unreadable) is int and unreadable > 0 else 0
        return Page([Event(row) for row in rows], total, unreadable)
    except (RecordError, TypeError, AttributeError) as error:
        detail = visible(str(error))
    raise BadAnswer(f"the portal lists an item that is not an event: {detail}", status=200)


def walk_back(
    fetch: Callable[[EventRequest, int], tuple[Iterable[_RowT], int]], request: EventRequest
) -> Iterator[_RowT]:
    """All events of a request, newest first, without duplicates.

    Args:
        fetch: returns the events of a request after skipping a number of them if it can, and its
            page size: a full page means that there may be more.
        request: the request; its limit and offset play no part.
    """
    edge: datetime | None = None
    at_edge: set[str] = set()
    while True:
        count = fresh = 0
        events, most = fetch(request.between(None, edge), len(at_edge))
        for event in events:
            count += 1
            if event.timestamp != edge:
                edge, at_edge = event.timestamp, set()
            if event.id not in at_edge:
                at_edge.add(event.id)
                fresh += 1
                yield event
        if count < most or not fresh:
            return


def read_event(value: Any, path: str) -> Event:
    """An event, of JSON or of a line of it.

    Raises:
        BadAnswer: the response is malformed.
    """
    detail = ""
    try:
        return Event.from_json(value) if isinstance(value, bytes) else Event(value)
    except (RecordError, TypeError, AttributeError) as error:
        detail = visible(str(error))
    raise BadAnswer(f"the answer to {path} is no event: {detail}", status=200)


def read_line(line: bytes) -> ListedLine | None:
    """Scan the needed members of an export line; None if it has no id or time.

    Whether it is an event through and through, the lab says when it loads it.
    """
    try:
        head, inner, _ = line.partition(_PAYLOAD)
        # The text before the first such member is a complete object only if that member is the
        # event's own: then the payload, most of the line, need not be parsed.
        summary = _object(head + b"}") if inner and line.endswith(b"}}") else None
        if summary is not None:
            event_id, timestamp = parse_id(summary["id"]), parse_time(summary["timestamp"])
            return ListedLine(event_id, timestamp, True, line)
        # No member has that name, however it is spelled.
        plain = b'"payload"' not in line and b"\\u" not in line
        if plain and line.endswith(b"}") and (begin := _BEGIN.match(line)) is not None:
            return ListedLine(begin[1].decode(), parse_time(begin[2].decode()), False, line)
        wire = json.loads(line)
        event_id, timestamp = parse_id(wire["id"]), parse_time(wire["timestamp"])
        whole = wire.get("payload") is not None
    except (RecordError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return ListedLine(event_id, timestamp, whole, line)


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
