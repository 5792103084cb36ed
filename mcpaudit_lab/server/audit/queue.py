"""The places and the events that wait to be stored.

A place is counted from the moment it is reserved until its event is stored, so that what waits in
memory stays within bounds however slow the database is. Any thread and any event loop may use it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from mcpaudit_lab.errors import AuditUnavailable
from mcpaudit_lab.record import Event
from mcpaudit_lab.server.stores import Prepared

__all__ = ["AuditQueue", "OnFull", "Place", "QueueState"]

OnFull: TypeAlias = Literal["refuse", "drop"]


@dataclass(frozen=True, slots=True)
class QueueState:
    """How full it is.

    Attributes:
        reserved: places of calls that run.
        queued: events that wait or are being written.
        held_bytes: bytes of both.
        committed: how many events were ever handed over.
        settled: how many of those are stored, or given up.
        dropped: how many were left out since there was no place (``on_full="drop"``).
    """

    reserved: int
    queued: int
    held_bytes: int
    committed: int
    settled: int
    dropped: int


class QueueOwner(Protocol):
    """What the queue needs of the logger. Called from the threads that commit; must not raise."""

    def prepare(self, event: Event) -> Prepared | None:
        """The event as it will be stored; None if it never can be, which the owner has noted."""

    def note_dropped(self, event: Event) -> None:
        """An event was left out, since there was no place."""

    def note_late(self, event: Event) -> None:
        """An event was committed after the queue had been emptied for good."""


class Place:
    """A place for one event: a :class:`~mcpaudit_lab.server.stores.store.Reservation`."""

    __slots__ = ("_queue", "held", "open", "size")

    def __init__(self, queue: AuditQueue, size: int, *, held: bool) -> None:
        self._queue = queue
        self.size = size
        self.held = held
        self.open = True

    def commit(self, event: Event) -> None:
        """Hand over the event. Takes effect once; never waits, never raises."""
        self._queue.commit(self, event)

    def release(self) -> None:
        """Give the place back unused. After a commit it does nothing."""
        self._queue.release(self)


class _Waiter:
    """A call that waits for a place, in its own event loop."""

    __slots__ = ("future", "loop", "place", "size")

    def __init__(self, size: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.size = size
        self.place: Place | None = None

    def wake(self) -> None:
        try:
            self.loop.call_soon_threadsafe(_resolve, self.future)
        except RuntimeError:
            # Its loop is gone, and the call with it.
            if self.place is not None:
                self.place.release()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class AuditQueue:
    """Bounded by the number of events and by their bytes.

    Args:
        max_events: queue capacity, in events.
        max_bytes: queue capacity, in bytes; a single event may be larger.
        on_full: ``refuse``: a call waits for a place, and is refused after a time limit; ``drop``:
            it runs at once, and its event is dropped if there is still no place at its end.
        owner: the logger.
    """

    def __init__(self, max_events: int, max_bytes: int, on_full: OnFull, owner: QueueOwner) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._on_full = on_full
        self._owner = owner
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._events: deque[Prepared] = deque()
        self._in_hand: list[Prepared] = []
        self._waiting: deque[_Waiter] = deque()
        self._flushing: list[tuple[int, _Waiter]] = []
        self._reserved = 0
        self._held_bytes = 0
        self._committed = 0
        self._settled = 0
        self._dropped = 0
        self._closing = False
        self._emptied = False
        self._batch_events = max_events
        self._taken_s = -float("inf")

    def state(self) -> QueueState:
        """How full it is now."""
        with self._lock:
            queued = len(self._events) + len(self._in_hand)
            return QueueState(
                self._reserved,
                queued,
                self._held_bytes,
                self._committed,
                self._settled,
                self._dropped,
            )

    # --- the side of the calls --------------------------------------------------------------------

    async def reserve(self, size: int, timeout_s: float) -> Place:
        """Wait for a place, in order of asking.

        Args:
            size: bytes.
            timeout_s: how long to wait.

        Raises:
            AuditUnavailable: there was none in time, or the queue is closed.
        """
        with self._lock:
            self._check_open()
            if not self._waiting and self._fits(size):
                return self._hold(size)
            if self._on_full == "drop":
                return Place(self, size, held=False)
            waiter = _Waiter(size)
            self._waiting.append(waiter)
            self._changed.notify()
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.future
        except TimeoutError:
            pass
        except BaseException:
            if place := self._stop_waiting(waiter):
                place.release()
            raise
        place = self._stop_waiting(waiter)
        if place is None:
            with self._lock:
                self._check_open()
            raise AuditUnavailable(f"the audit queue had no place for {timeout_s:g} s")
        return place

    def _stop_waiting(self, waiter: _Waiter) -> Place | None:
        with self._lock:
            # A place may have come together with the timeout or the cancellation.
            if waiter.place is None:
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            woken = self._grant()
        _wake(woken)
        return waiter.place

    def commit(self, place: Place, event: Event) -> None:
        """See :meth:`Place.commit`."""
        if not place.open:
            return
        prepared = self._owner.prepare(event)
        note: Callable[[Event], None] | None = None
        with self._lock:
            self._free(place)
            if prepared is None:
                pass
            elif self._emptied:
                note = self._owner.note_late
            elif place.held or self._fits(prepared.size):
                # What was reserved is taken, whatever its size turned out to be.
                self._held_bytes += prepared.size
                self._committed += 1
                self._events.append(prepared)
            else:
                self._dropped += 1
                note = self._owner.note_dropped
            woken = self._grant()
            # Waking the writer costs the calls more than it costs the writer.
            if len(self._events) == 1 or self._is_urgent():
                self._changed.notify()
        _wake(woken)
        if note is not None:
            note(event)

    def release(self, place: Place) -> None:
        """See :meth:`Place.release`."""
        with self._lock:
            if not place.open:
                return
            self._free(place)
            woken = self._grant()
            self._changed.notify()
        _wake(woken)

    async def flush(self) -> None:
        """Wait until everything committed so far is settled."""
        with self._lock:
            if self._settled >= self._committed:
                return
            waiter = _Waiter(0)
            self._flushing.append((self._committed, waiter))
            self._changed.notify()
        try:
            await waiter.future
        finally:
            with self._lock:
                self._flushing = [entry for entry in self._flushing if entry[1] is not waiter]

    # --- the side of the writer -------------------------------------------------------------------

    def take(self, max_events: int, max_bytes: int, pace_s: float) -> list[Prepared]:
        """Wait for events and take some, oldest first; they keep their places until settled.

        Args:
            max_events: maximum number of events.
            max_bytes: approximate maximum size, in bytes.
            pace_s: minimum time since the last batch, in seconds, so that more events share a
                transaction: an event alone in its transaction costs several times as much. After an
                idle period, and while a caller waits, events are returned at once.

        Returns:
            None of them when the queue is closed, no call has a place, and nothing is left.
        """
        with self._changed:
            self._batch_events = max_events
            while not self._events:
                if self._closing and (self._emptied or not self._reserved):
                    return []
                self._changed.wait()
            wait_s = self._taken_s + pace_s - time.monotonic()
            if wait_s > 0:
                self._changed.wait_for(self._is_urgent, wait_s)
            self._taken_s = time.monotonic()
            size = 0
            while self._events and len(self._in_hand) < max_events and size < max_bytes:
                self._in_hand.append(self._events.popleft())
                size += self._in_hand[-1].size
            return list(self._in_hand)

    def settle(self, count: int) -> None:
        """Free the places of the first events taken; they are stored or given up."""
        with self._lock:
            settled, self._in_hand = self._in_hand[:count], self._in_hand[count:]
            self._settled += len(settled)
            self._held_bytes -= sum(item.size for item in settled)
            flushed = [waiter for at, waiter in self._flushing if at <= self._settled]
            woken = self._grant()
        _wake([*woken, *flushed])

    def close(self) -> None:
        """Give out no more places; those given out may still be used."""
        with self._lock:
            self._closing = True
            refused = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        _wake(refused)

    def empty(self) -> list[Prepared]:
        """Take everything that is not settled, for good. Later commits are late."""
        with self._lock:
            self._emptied = self._closing = True
            left = [*self._in_hand, *self._events]
            self._in_hand = []
            self._events.clear()
            flushed = [waiter for _, waiter in self._flushing]
            self._changed.notify_all()
        _wake(flushed)
        return left

    # --- under the lock ---------------------------------------------------------------------------

    def _is_urgent(self) -> bool:
        """Whether a caller waits, or there is enough for a batch or for memory."""
        return bool(
            self._closing
            or self._flushing
            or self._waiting
            or len(self._events) >= self._batch_events
            or 2 * self._held_bytes >= self._max_bytes
            or 2 * (self._reserved + len(self._events)) >= self._max_events
        )

    def _free(self, place: Place) -> None:
        place.open = False
        if place.held:
            self._reserved -= 1
            self._held_bytes -= place.size

    def _check_open(self) -> None:
        if self._closing:
            raise AuditUnavailable("the audit log is closed")

    def _fits(self, size: int) -> bool:
        held = self._reserved + len(self._events) + len(self._in_hand)
        return held < self._max_events and (not held or self._held_bytes + size <= self._max_bytes)

    def _hold(self, size: int) -> Place:
        self._reserved += 1
        self._held_bytes += size
        return Place(self, size, held=True)

    def _grant(self) -> list[_Waiter]:
        """Give places to those who waited longest; they are woken when the lock is free."""
        granted: list[_Waiter] = []
        while self._waiting and self._fits(self._waiting[0].size):
            waiter = self._waiting.popleft()
            waiter.place = self._hold(waiter.size)
            granted.append(waiter)
        return granted


def _wake(waiters: Sequence[_Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()
