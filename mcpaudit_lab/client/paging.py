"""Lists of events, page by page, without losing or doubling rows that shift meanwhile.

A page begins at the time of the last row before it, and leaves out as many rows as were seen at
just that time. Rows that arrive at the front move nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mcpaudit_lab.client.question import Question
from mcpaudit_lab.errors import BadAnswer, RecordError
from mcpaudit_lab.events import Event
from mcpaudit_lab.terminal import visible

__all__ = ["PAGE_ROWS", "Page", "event_or_none", "read_event", "read_page", "walk_back"]

PAGE_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Some events in the portal's order, newest first, ties by id.

    Attributes:
        events: the events.
        total: how many the filter selects, as the portal says.
    """

    events: list[Event]
    total: int


def read_page(value: Any) -> Page:
    """A page of ``/audit/events``.

    Raises:
        BadAnswer: it is none, or one of its events is none.
    """
    rows = value.get("events") if isinstance(value, dict) else None
    total = value.get("total") if isinstance(value, dict) else None
    # Go writes an empty list as null where nobody made one.
    rows = [] if rows is None and total == 0 else rows
    if not isinstance(rows, list) or type(total) is not int:
        raise BadAnswer("the portal's list of events is not what a portal says", status=200)
    detail = ""
    try:
        return Page([Event(row) for row in rows], total)
    except (RecordError, TypeError, AttributeError) as error:
        detail = visible(str(error))
    raise BadAnswer(f"the portal lists what is no event: {detail}", status=200)


def walk_back(
    fetch: Callable[[Question, int], tuple[Iterable[Event], int]], question: Question
) -> Iterator[Event]:
    """All the events of a question, newest first, each once.

    Args:
        fetch: the events of a question, after leaving out so many if it can; and how many it gives
            at most, so that as many mean that there may be more.
        question: the question; its limit and offset play no part.
    """
    edge: datetime | None = None
    at_edge: set[str] = set()
    while True:
        count = fresh = 0
        events, most = fetch(question.between(None, edge), len(at_edge))
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
        BadAnswer: it is none.
    """
    detail = ""
    try:
        return Event.from_json(value) if isinstance(value, bytes) else Event(value)
    except (RecordError, TypeError, AttributeError) as error:
        detail = visible(str(error))
    raise BadAnswer(f"the answer to {path} is no event: {detail}", status=200)


def event_or_none(line: bytes) -> Event | None:
    """The event of a line of an export; None where it is none, or has no id."""
    try:
        event = Event.from_json(line)
    except RecordError:
        return None
    return event if event.id else None
