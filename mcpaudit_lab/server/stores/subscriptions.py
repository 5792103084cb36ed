"""Subscriptions to stored events, in order of commit, without duplicates or unnoticed gaps.

A store publishes what it has committed. If the numbers continue those published last, the events
are passed on directly; if not (another process wrote in between), they are read from the store.
While there are subscribers, the store is also polled for events of other processes.
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
    """An event with its place in the order of commit.

    Attributes:
        number: 1 for the first event of the store; no two are equal, none is left out.
        event: the event, without its payload unless that was asked for.
    """

    number: int
    event: Event


@dataclass(frozen=True, slots=True)
class Gap:
    """A subscriber fell behind and missed events, which are all in the store.

    Attributes:
        missed: how many of those it wanted.
        after: the number after which to read on from the store.
        last: the number of the last one missed.
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

    It ends when the subscription or the store is closed. Made by :meth:`Subscriptions.subscribe`.
    """

    def __init__(
        self, hub: Subscriptions, wanted: EventFilter | None, after: int | None, buffer: int
    ) -> None:
        self.missed = 0
        """How many events were missed so far."""
        self.closed = False
        self._hub = hub
        self._wanted = wanted
        self._capacity = buffer
        self._buffer: deque[Stored | Gap] = deque()
        self._lock = threading.Lock()
        self._idle = False
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        # Where it reads from the store, before it is live; None when it is.
        self._behind = after
        self._page: deque[Stored] = deque()
        self._live_after: int | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Stored | Gap:
        while True:
            if self._page:
                return self._page.popleft()
            if self.closed:
                raise StopAsyncIteration
            if self._behind is not None:
                await self._read_on(self._behind)
                continue
            self._wake.clear()
            with self._lock:
                if self._buffer:
                    return self._buffer.popleft()
                self._idle = True
            await self._wait()

    async def _read_on(self, behind: int) -> None:
        """Read the backlog; at its end go live, and read what arrived in between."""
        rows, reached = await asyncio.to_thread(self._hub.read, behind, self._wanted)
        if self._live_after is not None:
            # What is later than that arrives in the buffer.
            rows = [row for row in rows if row.number <= self._live_after]
        self._page.extend(rows)
        self._behind = reached
        if self._live_after is not None and reached >= self._live_after:
            self._behind = None
        elif self._live_after is None and len(rows) < _PAGE_ROWS:
            self._live_after = await asyncio.to_thread(self._hub.join, self)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._hub.poll_s):
                await self._wake.wait()
        except TimeoutError:
            await asyncio.to_thread(self._hub.poll)

    def offer(self, stored: Stored, event: Event) -> None:
        """Hand over an event from any thread, without waiting; one that does not fit is counted.

        Args:
            stored: what the subscriber gets.
            event: the same with its payload, for the filter.

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
        """Let the reader look again, if it waits.

        Raises:
            RuntimeError: the subscriber's event loop is gone.
        """
        with self._lock:
            idle, self._idle = self._idle, False
        if idle:
            self._loop.call_soon_threadsafe(self._wake.set)


class Subscriptions:
    """All who listen to one store.

    Args:
        store: what to read from.
        poll_s: interval in seconds at which events of other processes are looked up; None: never.
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
        # Held while events are handed out, so that their order is that of their numbers.
        self._mutex = threading.Lock()
        # Held for a moment only, so that an event loop may take it.
        self._membership = threading.Lock()
        self._open: set[Subscription] = set()
        self._ended = False
        self._last = 0

    def __len__(self) -> int:
        """How many listen."""
        return len(self._open)

    @asynccontextmanager
    async def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 64
    ) -> AsyncIterator[Subscription]:
        """Listen while the block runs; see :meth:`EventStore.subscribe`."""
        subscription = Subscription(self, wanted, after, buffer)
        try:
            if after is None:
                await asyncio.to_thread(self.join, subscription)
            yield subscription
        finally:
            self._leave(subscription)

    def join(self, subscription: Subscription) -> int:
        """Offer events to a subscription from now on; returns the number of the last one before.

        A subscription that has been closed does not join.
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

    def _leave(self, subscription: Subscription) -> None:
        with self._membership:
            subscription.closed = True
            self._open.discard(subscription)
        with suppress(RuntimeError):
            subscription.wake()

    def read(self, number: int, wanted: EventFilter | None) -> tuple[list[Stored], int]:
        """A page of events after a number, and the number that the page reaches."""
        reached = self._store.latest()
        rows = self._store.after(number, _PAGE_ROWS, wanted)
        if len(rows) == _PAGE_ROWS:
            return rows, rows[-1].number
        return rows, max([number, reached, *(row.number for row in rows)])

    def publish(self, first: int | None, events: Sequence[Event]) -> None:
        """Tell of events that are committed.

        Args:
            first: the number of the first, the others following without a gap; None where their
                numbers are not known.
            events: with their payloads.
        """
        with self._mutex:
            if not self._open:
                return
            if first is not None and first == self._last + 1:
                numbered = enumerate(events, first)
                self._hand_out([Stored(number, event) for number, event in numbered])
            else:
                self._catch_up()

    def poll(self) -> None:
        """Look for what others wrote, unless that was done a moment ago."""
        with self._mutex:
            now_s = self._clock()
            if self._open and now_s - self._polled_s >= (self.poll_s or 0) / 2:
                self._polled_s = now_s
                self._catch_up()

    def close(self) -> None:
        """End all subscriptions, and those to come."""
        self._ended = True
        for subscription in tuple(self._open):
            self._leave(subscription)

    def _catch_up(self) -> None:
        try:
            while rows := self._store.after(self._last, _PAGE_ROWS, payloads=True):
                self._hand_out(rows)
        except StoreUnavailable as error:
            # What is published next will not follow on the last, and be read then.
            logger.debug("subscribers wait: %s", error)
        except Exception:
            # What was stored must not look as if it were not.
            logger.exception("subscribers wait: stored events cannot be read")

    def _hand_out(self, rows: Sequence[Stored]) -> None:
        for row in rows:
            stored = Stored(row.number, row.event.summary)
            for subscription in tuple(self._open):
                try:
                    subscription.offer(stored, row.event)
                except Exception:
                    # Nobody who listens may keep events from the others, or from being stored.
                    logger.exception("a subscription was dropped")
                    self._leave(subscription)
            self._last = row.number
