"""The interfaces of event stores.

Stores are synchronous, as their drivers are (SQLite has no other), and so serve scripts, notebooks
and threads alike. Servers wrap one in an :class:`.server.audit.async_logger.AsyncLogger`, which
writes from one thread, reads from others, and never blocks an event loop.

All methods are thread-safe. Methods that use a database raise
:class:`~mcpaudit_lab.errors.StoreUnavailable` while it is unavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.record import Event, ToolList
from mcpaudit_lab.server.stores.aggregates import BreakdownRow, Stats, TimeBucket
from mcpaudit_lab.server.stores.subscriptions import Stored, Subscription

__all__ = [
    "AuditLogger",
    "EventStore",
    "Pages",
    "PreparedEvent",
    "Reservation",
    "Stored",
    "Unreadable",
    "matching",
]


class Reservation(Protocol):
    """Reserved room for one event."""

    def commit(self, event: Event) -> None:
        """Commit the event with its payload. Takes effect once; never blocks, never raises.

        Called from the event loop, even inside a cancelled scope. An event larger than its
        reservation is accepted: the portal's own calls have no size limit.
        """

    def release(self) -> None:
        """Release the room unused. Does nothing after a commit."""


class AuditLogger(Protocol):
    """The write side of a store, for the audit middleware."""

    async def reserve(self, size_hint: int) -> Reservation:
        """Reserve room for one event, waiting for it if necessary.

        Args:
            size_hint: estimated size of the event with its payload, in bytes.

        Raises:
            AuditUnavailable: there is no room, or none in time. The call must not run.
        """

    async def flush(self) -> None:
        """Wait until all events committed so far are stored and readable."""


PageT = TypeVar("PageT")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The unreadable rows of a store, regardless of filters.

    Attributes:
        count: number of rows in both tables.
        ids: their event ids as stored, sorted; at most 100.
    """

    count: int = 0
    ids: tuple[str, ...] = ()


class Pages(Iterator[PageT], Generic[PageT]):
    """An iterator over pages of matching items, each read on demand.

    Every event that was stored at the start appears exactly once, even while others arrive. Between
    pages no connection is held and no transaction is open.

    Args:
        source: batches of matching items.
        join: builds a page from items.
        limit: maximum number of items; None for no limit.
        cancel: cancels the running query; called from another thread.

    Attributes:
        rows: number of items so far.
        more: whether the limit cut items off; valid at the end.
    """

    def __init__(
        self,
        source: Iterator[list[Any]],
        join: Callable[[list[Any]], PageT],
        limit: int | None,
        cancel: Callable[[], None] = lambda: None,
    ) -> None:
        self.rows = 0
        self.more = False
        self._source = source
        self._join = join
        self._limit = limit
        self._cancel = cancel
        self._closed = False

    def __next__(self) -> PageT:
        while not self._closed:
            items = next(self._source, None)
            if items is None:
                break
            room = len(items) if self._limit is None else self._limit - self.rows
            if len(items) > room:
                self.more = self._closed = True
                items = items[:room]
            if items:
                self.rows += len(items)
                return self._join(items)
        raise StopIteration

    def close(self) -> None:
        """End the iteration, and cancel the query of a thread that waits for a page."""
        self._closed = True
        self._cancel()


class PreparedEvent(Protocol):
    """An event encoded for a store."""

    @property
    def event(self) -> Event:
        """The event."""

    @property
    def size(self) -> int:
        """Approximate size in bytes."""


class EventStore(Protocol):
    """Stores events with their payloads."""

    def prepare(self, event: Event) -> PreparedEvent:
        """Encode an event for :meth:`log`, without the database.

        The event may be changed afterwards.

        Raises:
            RecordError: the event has no id.
            ValueError: the event is not JSON: it contains NaN, for example.
            TypeError: the event is not JSON: it contains an arbitrary object.
        """

    def log(self, events: Sequence[Event | PreparedEvent]) -> None:
        """Store events with their payloads, all or none; then publish them to subscribers.

        An equal event that is stored already is skipped, so a batch may be retried.

        Raises:
            StoreUnavailable: the database is unavailable. Nothing was stored, unless the connection
                was lost during the commit; then all may be.
            RecordError: an event has no id, or its id belongs to a different event. Nothing was
                stored.
            Exception: the database rejects an event. Nothing was stored.
        """

    def query(self, wanted: EventFilter, *, payloads: bool = False) -> list[Event]:
        """Matching events, newest first, ties by id; honours ``limit`` and ``offset``."""

    def count(self, wanted: EventFilter) -> int:
        """Number of matching events; ignores ``limit`` and ``offset``."""

    def event(self, event_id: str) -> Event | None:
        """One event with its payload, or None.

        Args:
            event_id: a UUID in any spelling.

        Raises:
            RecordError: ``event_id`` is not a UUID.
            UnreadableRow: the event exists, but it or its payload is unreadable.
        """

    def unreadable(self) -> Unreadable:
        """The unreadable rows, which every other method leaves out."""

    def stream(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[list[Event]]:
        """Matching events in pages, in the order of :meth:`query`."""

    def export(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[bytes]:
        """Matching events as JSON lines in UTF-8; every page ends with a complete line."""

    def after(
        self, number: int, limit: int, wanted: EventFilter | None = None, *, payloads: bool = False
    ) -> list[Stored]:
        """The next matching events in commit order.

        No event will appear later with a number before the last one returned. Events inserted by
        other programs are numbered first.

        Args:
            number: number of the last event seen; 0 for all.
            limit: maximum number of events.
            wanted: filter, without its ``limit`` and ``offset``; None matches all.
            payloads: whether to read the payloads.
        """

    def latest(self) -> int:
        """The number of the last event; 0 if there is none."""

    def timeseries(self, wanted: EventFilter, bucket: timedelta) -> list[TimeBucket]:
        """Matching events counted by time; empty buckets are omitted.

        Raises:
            FilterError: the bucket width is not positive.
        """

    def breakdown(self, wanted: EventFilter, by: str, limit: int | None = 50) -> list[BreakdownRow]:
        """Matching events counted by a field, most frequent first, ties by key.

        Raises:
            FilterError: ``by`` is unknown; the message lists the choices.
        """

    def stats(self, wanted: EventFilter) -> Stats:
        """Statistics over matching events."""

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 64
    ) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe to events as they are stored, while the block runs.

        Args:
            wanted: filter, without its ``limit`` and ``offset``; None matches all.
            after: start after the event with this number; None: start now.
            buffer: queue capacity, in events; a slower reader gets a :class:`Gap`.
        """

    def add_tool_list(self, found: ToolList) -> None:
        """Keep the tools that a server offered; the same list again extends its period.

        Raises:
            StoreUnavailable: the database is away.
        """

    def tool_lists(self) -> list[ToolList]:
        """Every list of tools, by server and time."""

    def close(self) -> None:
        """End all subscriptions and close connections."""


def matching(events: Iterable[Event], wanted: EventFilter) -> Iterator[Event]:
    """The events that match a filter; ignores ``limit`` and ``offset``."""
    return (event for event in events if wanted.matches(event))
