"""What every store for events can do.

A store is synchronous: its drivers are (SQLite has no other), and so it serves scripts, notebooks
and threads alike. Servers put an :class:`.server.audit.async_logger.AsyncLogger` around it,
which writes from one thread, reads from others, and never lets an event loop wait.

Every method may be called from any thread. Methods that reach a database raise
:class:`~mcpaudit_lab.errors.StoreUnavailable` while it is away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.record import Event, ToolList
from mcpaudit_lab.server.stores.aggregates import Point, Share, Stats
from mcpaudit_lab.server.stores.subscriptions import Stored, Subscription

__all__ = [
    "AuditLogger",
    "EventStore",
    "Pages",
    "Prepared",
    "Reservation",
    "Stored",
    "Unreadable",
    "matching",
    "needs_payload",
]


class Reservation(Protocol):
    """A place for one event."""

    def commit(self, event: Event) -> None:
        """Hand over the event with its payload. Takes effect once; never waits, never raises.

        It is called from the event loop, even inside a cancelled scope. An event may be larger than
        its reservation (the portal's own calls have no limit): it is accepted anyway.
        """

    def release(self) -> None:
        """Give the place back unused. After a commit it does nothing."""


class AuditLogger(Protocol):
    """The part of a store that writers of events need."""

    async def reserve(self, size_hint: int) -> Reservation:
        """Wait for a place for one more event.

        Args:
            size_hint: about how many bytes the event with its payload will have.

        Raises:
            AuditUnavailable: no place is free, or none became free in time. The call must not run.
        """

    async def flush(self) -> None:
        """Wait until every event committed so far is stored and can be read."""


PageT = TypeVar("PageT")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The rows of a store that are no events and no payloads, whatever a filter says.

    Attributes:
        count: how many, of both tables.
        ids: the ids of their events as stored, in order; the first hundred.
    """

    count: int = 0
    ids: tuple[str, ...] = ()


class Pages(Iterator[PageT], Generic[PageT]):
    """What a filter selects, page by page, each read when it is asked for.

    Every event that was there at the start comes once, also while others arrive. Between pages no
    connection is held and no transaction is open.

    Args:
        source: the matching items, some at a time.
        join: makes a page of items.
        limit: maximum number of items.
        cancel: stops the query that is running, from another thread.

    Attributes:
        rows: how many items came so far.
        more: known at the end: whether the limit left some out.
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
        """End it, also while another thread waits for a page: that query is stopped."""
        self._closed = True
        self._cancel()


class Prepared(Protocol):
    """An event as a store will write it."""

    @property
    def event(self) -> Event:
        """The event."""

    @property
    def size(self) -> int:
        """About how many bytes it has."""


class EventStore(Protocol):
    """Keeps events with their payloads."""

    def prepare(self, event: Event) -> Prepared:
        """Do for :meth:`log` what needs no database. The event may be changed afterwards.

        Raises:
            RecordError: it has no id.
            ValueError: something in it is not JSON (NaN).
            TypeError: the same (an object of some class).
        """

    def log(self, events: Sequence[Event | Prepared]) -> None:
        """Store events with their payloads, all or none. Whoever subscribed hears of them after.

        An equal event that exists counts as stored: a batch may be retried.

        Raises:
            StoreUnavailable: the database is away; nothing is stored, or all without our knowing.
            RecordError: an event has no id, or another event has its id; nothing is stored.
            Exception: the database refuses one of them; nothing is stored.
        """

    def query(self, wanted: EventFilter, *, payloads: bool = False) -> list[Event]:
        """The events that are wanted, newest first, ties by id; ``limit`` and ``offset`` count."""

    def count(self, wanted: EventFilter) -> int:
        """How many are wanted; ``limit`` and ``offset`` play no part."""

    def event(self, event_id: str) -> Event | None:
        """One event with its payload, or None.

        Args:
            event_id: in any spelling of a UUID.

        Raises:
            RecordError: the id is not a UUID.
            UnreadableRow: the row exists, and it or its payload cannot be read.
        """

    def unreadable(self) -> Unreadable:
        """The rows that cannot be read. Every other answer leaves them out."""

    def stream(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[list[Event]]:
        """All that are wanted, in the order of :meth:`query`, in pages."""

    def export(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[bytes]:
        """The same as JSON lines, in UTF-8; every page ends with a whole line."""

    def after(
        self, number: int, limit: int, wanted: EventFilter | None = None, *, payloads: bool = False
    ) -> list[Stored]:
        """The next events that are wanted, in order of commit.

        Nothing will ever come before what this has given. Events that others inserted are
        numbered first.

        Args:
            number: that of the last event seen; 0 for all.
            limit: maximum number of events.
            wanted: which; its ``limit`` and ``offset`` play no part.
            payloads: with their payloads.
        """

    def latest(self) -> int:
        """The number of the last event; 0 if there is none."""

    def timeseries(self, wanted: EventFilter, bucket: timedelta) -> list[Point]:
        """What is wanted, counted by time; buckets without events are left out.

        Raises:
            FilterError: the bucket is not longer than nothing.
        """

    def breakdown(self, wanted: EventFilter, by: str, limit: int | None = 50) -> list[Share]:
        """What is wanted, counted by a field, the most frequent first, ties by key.

        Raises:
            FilterError: an unknown breakdown; the message names the choices.
        """

    def stats(self, wanted: EventFilter) -> Stats:
        """Statistics over the selected events."""

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 64
    ) -> AbstractAsyncContextManager[Subscription]:
        """Hear of events as they are stored, while the block runs.

        Args:
            wanted: which; its ``limit`` and ``offset`` play no part.
            after: begin after the event with this number instead of now.
            buffer: how many events wait for a slow reader before it misses some.
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


def needs_payload(wanted: EventFilter) -> bool:
    """Whether a filter asks something of the payload."""
    return bool(wanted.params or wanted.responses or wanted.headers or wanted.has)


def matching(events: Iterable[Event], wanted: EventFilter) -> Iterator[Event]:
    """Those of the events that are wanted."""
    return (event for event in events if wanted.matches(event))
