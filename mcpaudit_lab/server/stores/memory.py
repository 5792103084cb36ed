"""An event store in memory, for tests, demonstrations and servers that keep no record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from mcpaudit_lab.errors import AuditUnavailable, RecordError, RejectReason
from mcpaudit_lab.filters import EventFilter, contract_order
from mcpaudit_lab.record import Event, ToolList, parse_id
from mcpaudit_lab.server.stores.aggregates import (
    BreakdownRow,
    Stats,
    TimeBucket,
    compute_breakdown,
    compute_stats,
    compute_timeseries,
)
from mcpaudit_lab.server.stores.paging import join_lines
from mcpaudit_lab.server.stores.store import Pages, PreparedEvent, Unreadable, matching
from mcpaudit_lab.server.stores.subscriptions import Stored, Subscription, Subscriptions

__all__ = ["MemoryLogger"]

_PAGE_ROWS = 500

ItemT = TypeVar("ItemT")


class _PreparedEvent(NamedTuple):
    event: Event
    size: int


class _Reservation:
    """A reservation that calls ``settle`` once, with the event or with None."""

    def __init__(self, settle: Callable[[Event | None], None]) -> None:
        self._settle: Callable[[Event | None], None] | None = settle

    def commit(self, event: Event) -> None:
        self._end(event)

    def release(self) -> None:
        self._end(None)

    def _end(self, event: Event | None) -> None:
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(event)


class MemoryLogger:
    """An :class:`~mcpaudit_lab.server.stores.store.EventStore` in memory.

    It is an :class:`~mcpaudit_lab.server.stores.store.AuditLogger` as well. It stores references:
    a later change to an event changes the stored event.

    Args:
        max_events: capacity in events; when it is reached, calls are refused.
    """

    def __init__(self, max_events: int = 100_000) -> None:
        self._max_events = max_events
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._places: dict[str, int] = {}
        self._reserved = 0
        self._subscriptions = Subscriptions(self, poll_s=None)
        self._tool_lists: list[ToolList] = []

    @property
    def events(self) -> list[Event]:
        """All events with payloads, in commit order; a new list."""
        return list(self._events)

    @property
    def reserved(self) -> int:
        """Number of reservations neither committed nor released."""
        return self._reserved

    # --- as an AuditLogger ------------------------------------------------------------------------

    async def reserve(self, size_hint: int) -> _Reservation:
        """Reserve room for one event without waiting; ``size_hint`` is ignored.

        Raises:
            AuditUnavailable: the store is full, reservations included.
        """
        del size_hint
        with self._lock:
            self._check_room(1)
            self._reserved += 1
        return _Reservation(self._settle)

    async def flush(self) -> None:
        """Does nothing: events are stored at once."""

    def _settle(self, event: Event | None) -> None:
        with self._lock:
            self._reserved -= 1
        if event is not None:
            self.log([event])

    # --- as a store -------------------------------------------------------------------------------

    def prepare(self, event: Event) -> _PreparedEvent:
        """The event with its size.

        Raises:
            RecordError: the event has no id.
            ValueError: the event is not JSON: it contains NaN, for example.
            TypeError: the event is not JSON: it contains an arbitrary object.
        """
        if not event.id:
            raise RecordError(RejectReason.NO_ID, "an event without an id cannot be stored")
        return _PreparedEvent(event, len(event.to_json()))

    def log(self, events: Sequence[Event | PreparedEvent]) -> None:
        """Store all events or none.

        Raises:
            RecordError: an event has no id, or its id belongs to a different event.
            AuditUnavailable: the events do not all fit.
        """
        with self._lock:
            new: dict[str, Event] = {}
            for item in events:
                event = item if isinstance(item, Event) else item.event
                if not event.id:
                    raise RecordError(RejectReason.NO_ID, "an event without an id cannot be stored")
                there = new.get(event.id) or self._find(event.id)
                if there is None:
                    new[event.id] = event
                elif there != event:
                    raise RecordError(RejectReason.CONFLICT, "another event has this id")
            self._check_room(len(new))
            first = len(self._events) + 1
            for event_id, event in new.items():
                self._places[event_id] = len(self._events)
                self._events.append(event)
        self._subscriptions.publish(first, list(new.values()))

    def _check_room(self, count: int) -> None:
        if len(self._events) + self._reserved + count > self._max_events:
            raise AuditUnavailable(f"the audit log is full: it holds {self._max_events} events")

    def _find(self, event_id: str) -> Event | None:
        place = self._places.get(event_id)
        return None if place is None else self._events[place]

    def query(self, wanted: EventFilter, *, payloads: bool = False) -> list[Event]:
        """Matching events, newest first, ties by id; honours ``limit`` and ``offset``."""
        end = None if wanted.limit is None else wanted.offset + wanted.limit
        found = self._matching(wanted)[wanted.offset : end]
        return found if payloads else [event.summary for event in found]

    def count(self, wanted: EventFilter) -> int:
        """Number of matching events; ignores ``limit`` and ``offset``."""
        return sum(1 for _ in matching(self.events, wanted))

    def event(self, event_id: str) -> Event | None:
        """One event with its payload, or None.

        Raises:
            RecordError: ``event_id`` is not a UUID.
        """
        return self._find(parse_id(event_id))

    def unreadable(self) -> Unreadable:
        """No rows: events in memory are always readable."""
        return Unreadable()

    def stream(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[list[Event]]:
        """Matching events in pages."""
        return self._pages(wanted, payloads, lambda events: events)

    def export(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[bytes]:
        """Matching events as JSON lines, in pages."""
        return self._pages(wanted, payloads, _lines)

    def after(
        self, number: int, limit: int, wanted: EventFilter | None = None, *, payloads: bool = False
    ) -> list[Stored]:
        """The next matching events in commit order."""
        found: list[Stored] = []
        for place, event in enumerate(self.events[number:], number + 1):
            if len(found) < limit and (wanted is None or wanted.matches(event)):
                found.append(Stored(place, event if payloads else event.summary))
        return found

    def latest(self) -> int:
        """The number of the last event; 0 if there is none."""
        return len(self._events)

    def timeseries(self, wanted: EventFilter, bucket: timedelta) -> list[TimeBucket]:
        """Matching events counted by time."""
        return compute_timeseries(matching(self.events, wanted), bucket)

    def breakdown(self, wanted: EventFilter, by: str, limit: int | None = 50) -> list[BreakdownRow]:
        """Matching events counted by a field."""
        return compute_breakdown(matching(self.events, wanted), by, limit)

    def stats(self, wanted: EventFilter) -> Stats:
        """Statistics over matching events."""
        return compute_stats(matching(self.events, wanted))

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 64
    ) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe to events as they are stored, while the block runs."""
        return self._subscriptions.subscribe(wanted, after=after, buffer=buffer)

    def add_tool_list(self, found: ToolList) -> None:
        """Keep the tools that a server offered; the same list again extends its period."""
        last = self._tool_lists[-1] if self._tool_lists else None
        if last and (last.server, last.tools, last.complete) == (
            found.server,
            found.tools,
            found.complete,
        ):
            self._tool_lists[-1] = replace(last, last_us=max(last.last_us, found.last_us))
        else:
            self._tool_lists.append(found)

    def tool_lists(self) -> list[ToolList]:
        """Every list of tools, by time."""
        return list(self._tool_lists)

    def close(self) -> None:
        """End all subscriptions."""
        self._subscriptions.close()

    def _matching(self, wanted: EventFilter) -> list[Event]:
        return contract_order(matching(self.events, wanted))

    def _pages(
        self, wanted: EventFilter, payloads: bool, join: Callable[[list[Event]], ItemT]
    ) -> Pages[ItemT]:
        found = self._matching(wanted)[wanted.offset :]

        def source() -> Iterator[list[Any]]:
            for start in range(0, len(found), _PAGE_ROWS):
                page = found[start : start + _PAGE_ROWS]
                yield page if payloads else [event.summary for event in page]

        return Pages(source(), join, wanted.limit)


def _lines(events: list[Event]) -> bytes:
    return join_lines([event.to_json().encode() for event in events])
