"""Subscriptions to new events, in commit order, without duplicates; every gap is reported.

A store publishes the events that it has committed. If their numbers follow the last published one,
they are dispatched directly; if not, because another process wrote in between, the events are read
from the store. While there are subscriptions, the store is also polled for events of other
processes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, Self

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.record import Event

__all__ = ["Gap", "Stored", "Subscription", "Subscriptions"]

logger = logging.getLogger(__name__)

_PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class Stored:
    """An event with its commit number.

    Attributes:
        number: position in commit order: 1 for the first event of the store, unique, without gaps.
        event: the event, without its payload unless requested.
    """

    number: int
    event: Event


@dataclass(frozen=True, slots=True)
class Gap:
    """A slow subscriber missed events, all of which are in the store.

    Attributes:
        missed: number of missed events that match the filter.
        after: the number after which to read from the store.
        last: the number of the last missed event.
    """

    missed: int
    after: int
    last: int


class _Source(Protocol):
    def latest(self) -> int: ...

    def after(
        self, number: int, limit: int, wanted: EventFilter | None = None, *, payloads: bool = False
    ) -> list[Stored]: ...


class Subscription:
    """An asynchronous iterator over :class:`Stored` and :class:`Gap`, for one task.

    It ends when the subscription or the store is closed. Created by
    :meth:`Subscriptions.subscribe`.
    """

    def __init__(
        self, hub: Subscriptions, wanted: EventFilter | None, after: int | None, buffer: int
    ) -> None:
        self.missed = 0
        """Number of events missed so far."""
        self.closed = False
        self._hub = hub
        self._wanted = wanted
        self._capacity = buffer
        self._buffer: deque[Stored | Gap] = deque()
        self._lock = threading.Lock()
        self._idle = False
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        # The number after which to read the backlog from the store; None when live.
        self._backlog_from = after
        self._page: deque[Stored] = deque()
        self._live_from: int | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Stored | Gap:
        while True:
            if self._page:
                return self._page.popleft()
            if self.closed:
                raise StopAsyncIteration
            if self._backlog_from is not None:
                await self._read_backlog(self._backlog_from)
                continue
            self._wake.clear()
            with self._lock:
                if self._buffer:
                    return self._buffer.popleft()
                self._idle = True
            await self._wait()

    async def _read_backlog(self, number: int) -> None:
        """Read a page of the backlog. At its end go live, then read what was stored meanwhile."""
        rows, reached = await asyncio.to_thread(self._hub.read, number, self._wanted)
        if self._live_from is not None:
            # Later events arrive in the buffer.
            rows = [row for row in rows if row.number <= self._live_from]
        self._page.extend(rows)
        self._backlog_from = reached
        if self._live_from is not None and reached >= self._live_from:
            self._backlog_from = None
        elif self._live_from is None and len(rows) < _PAGE_ROWS:
            self._live_from = await asyncio.to_thread(self._hub.attach, self)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._hub.poll_s):
                await self._wake.wait()
        except TimeoutError:
            await asyncio.to_thread(self._hub.poll)

    def push(self, stored: Stored, event: Event) -> None:
        """Buffer an event if it matches, without blocking; if the buffer is full, count a miss.

        Called from any thread.

        Args:
            stored: the item for the subscriber.
            event: the same event with its payload, for the filter.

        Raises:
            RuntimeError: the subscriber's event loop is gone.
        """
        if self._wanted is not None and not self._wanted.matches(event):
            return
        with self._lock:
            last = self._buffer[-1] if self._buffer else None
            if len(self._buffer) < self._capacity:
                self._buffer.append(stored)
            else:
                self.missed += 1
                if isinstance(last, Gap):
                    self._buffer[-1] = Gap(last.missed + 1, last.after, stored.number)
                else:
                    self._buffer.append(Gap(1, stored.number - 1, stored.number))
        self.wake()

    def wake(self) -> None:
        """Wake the reader if it is waiting.

        Raises:
            RuntimeError: the subscriber's event loop is gone.
        """
        with self._lock:
            idle, self._idle = self._idle, False
        if idle:
            self._loop.call_soon_threadsafe(self._wake.set)


class Subscriptions:
    """The subscriptions of one store.

    Args:
        store: the store to read from.
        poll_s: interval of polling for events of other processes, in seconds; None: no polling.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: _Source,
        poll_s: float | None = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.poll_s = poll_s
        self._store = store
        self._clock = clock
        self._polled_s = clock()
        # Held while events are dispatched, which keeps them in order of their numbers.
        self._mutex = threading.Lock()
        # Held only briefly, so that an event loop may take it.
        self._membership = threading.Lock()
        self._open: set[Subscription] = set()
        self._ended = False
        self._last = 0

    def __len__(self) -> int:
        """Number of open subscriptions."""
        return len(self._open)

    @asynccontextmanager
    async def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 64
    ) -> AsyncIterator[Subscription]:
        """Subscribe while the block runs; see :meth:`EventStore.subscribe`."""
        subscription = Subscription(self, wanted, after, buffer)
        try:
            if after is None:
                await asyncio.to_thread(self.attach, subscription)
            yield subscription
        finally:
            self._detach(subscription)

    def attach(self, subscription: Subscription) -> int:
        """Start dispatching to a subscription; returns the number of the last event before.

        Does nothing for a subscription that was closed meanwhile.
        """
        with self._mutex:
            if not self._open:
                self._last = self._store.latest()
            with self._membership:
                if self._ended:
                    subscription.closed = True
                if not subscription.closed:
                    self._open.add(subscription)
            return self._last

    def _detach(self, subscription: Subscription) -> None:
        with self._membership:
            subscription.closed = True
            self._open.discard(subscription)
        with suppress(RuntimeError):
            subscription.wake()

    def read(self, number: int, wanted: EventFilter | None) -> tuple[list[Stored], int]:
        """A page of matching events after ``number``, and the number that the page reaches."""
        reached = self._store.latest()
        rows = self._store.after(number, _PAGE_ROWS, wanted)
        if len(rows) == _PAGE_ROWS:
            return rows, rows[-1].number
        return rows, max([number, reached, *(row.number for row in rows)])

    def publish(self, first: int | None, events: Sequence[Event]) -> None:
        """Publish committed events to the subscribers.

        Args:
            first: number of the first event; the others follow without gaps. None if unknown.
            events: the events with payloads.
        """
        with self._mutex:
            if not self._open:
                return
            if first is not None and first == self._last + 1:
                numbered = enumerate(events, first)
                self._dispatch([Stored(number, event) for number, event in numbered])
            else:
                self._read_missed()

    def poll(self) -> None:
        """Read events of other processes, unless that was done less than half an interval ago."""
        with self._mutex:
            now_s = self._clock()
            if self._open and now_s - self._polled_s >= (self.poll_s or 0) / 2:
                self._polled_s = now_s
                self._read_missed()

    def close(self) -> None:
        """End all subscriptions; later ones end at once."""
        self._ended = True
        for subscription in tuple(self._open):
            self._detach(subscription)

    def _read_missed(self) -> None:
        try:
            while rows := self._store.after(self._last, _PAGE_ROWS, payloads=True):
                self._dispatch(rows)
        except StoreUnavailable as error:
            # The next publish will find a gap in the numbers and read these events.
            logger.debug("subscribers wait: %s", error)
        except Exception:
            # Raising would make the writer believe that its events were not stored.
            logger.exception("subscribers wait: the stored events cannot be read")

    def _dispatch(self, rows: Sequence[Stored]) -> None:
        for row in rows:
            stored = Stored(row.number, row.event.summary)
            for subscription in tuple(self._open):
                try:
                    subscription.push(stored, row.event)
                except Exception:
                    # One broken subscription must not affect the others or the writer.
                    logger.exception("a subscription was dropped")
                    self._detach(subscription)
            self._last = row.number
