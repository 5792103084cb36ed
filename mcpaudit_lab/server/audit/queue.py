"""The bounded queue of audit events: slots for running calls and events waiting to be stored.

A slot is occupied from its reservation until its event is stored, so memory stays bounded however
slow the database is. Usable from any thread and any event loop.
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
from mcpaudit_lab.server.stores import PreparedEvent

__all__ = ["AuditQueue", "OnFull", "QueueSlot", "QueueState"]

OnFull: TypeAlias = Literal["refuse", "drop"]


@dataclass(frozen=True, slots=True)
class QueueState:
    """The fill state of a queue.

    Attributes:
        reserved: slots of running calls.
        queued: events queued or being written.
        held_bytes: bytes of both.
        committed: number of events committed so far.
        settled: number of those that were stored or rejected.
        dropped: number of events dropped because the queue was full (``on_full="drop"``).
    """

    reserved: int
    queued: int
    held_bytes: int
    committed: int
    settled: int
    dropped: int


class QueueOwner(Protocol):
    """Callbacks to the logger. Called from the threads that commit; must not raise."""

    def prepare(self, event: Event) -> PreparedEvent | None:
        """Encode the event for the store; None if it was rejected."""

    def on_dropped_event(self, event: Event) -> None:
        """An event was dropped because the queue was full."""

    def on_late_event(self, event: Event) -> None:
        """An event was committed after the queue was drained."""


class QueueSlot:
    """A slot for one event: a :class:`~mcpaudit_lab.server.stores.store.Reservation`."""

    __slots__ = ("_queue", "held", "open", "size")

    def __init__(self, queue: AuditQueue, size: int, *, held: bool) -> None:
        self._queue = queue
        self.size = size
        self.held = held
        self.open = True

    def commit(self, event: Event) -> None:
        """Commit the event. Takes effect once; never blocks, never raises."""
        self._queue.commit(self, event)

    def release(self) -> None:
        """Release the slot unused. Does nothing after a commit."""
        self._queue.release(self)


class _Waiter:
    """A call waiting for a slot in its own event loop."""

    __slots__ = ("future", "loop", "size", "slot")

    def __init__(self, size: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.size = size
        self.slot: QueueSlot | None = None

    def wake(self) -> None:
        try:
            self.loop.call_soon_threadsafe(_resolve, self.future)
        except RuntimeError:
            # The event loop is closed, so the call is gone.
            if self.slot is not None:
                self.slot.release()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class AuditQueue:
    """A queue bounded in events and in bytes.

    Args:
        max_events: capacity in events.
        max_bytes: capacity in bytes; a single event may be larger.
        on_full: ``refuse``: a call waits for a slot and is refused after a timeout; ``drop``: it
            runs at once, and its event is dropped if there is still no room when it commits.
        owner: the logger.
    """

    def __init__(self, max_events: int, max_bytes: int, on_full: OnFull, owner: QueueOwner) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._on_full = on_full
        self._owner = owner
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._events: deque[PreparedEvent] = deque()
        self._batch: list[PreparedEvent] = []
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
        """The current fill state."""
        with self._lock:
            queued = len(self._events) + len(self._batch)
            return QueueState(
                self._reserved,
                queued,
                self._held_bytes,
                self._committed,
                self._settled,
                self._dropped,
            )

    # --- called by calls --------------------------------------------------------------------------

    async def reserve(self, size: int, timeout_s: float) -> QueueSlot:
        """Reserve a slot; waiting calls are served first come, first served.

        Args:
            size: estimated size of the event in bytes.
            timeout_s: maximum wait in seconds.

        Raises:
            AuditUnavailable: no slot became free in time, or the queue is closed.
        """
        with self._lock:
            self._check_open()
            if not self._waiting and self._fits(size):
                return self._hold(size)
            if self._on_full == "drop":
                return QueueSlot(self, size, held=False)
            waiter = _Waiter(size)
            self._waiting.append(waiter)
            self._changed.notify()
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.future
        except TimeoutError:
            pass
        except BaseException:
            if slot := self._stop_waiting(waiter):
                slot.release()
            raise
        slot = self._stop_waiting(waiter)
        if slot is None:
            with self._lock:
                self._check_open()
            raise AuditUnavailable(f"the audit queue was full for {timeout_s:g} s")
        return slot

    def _stop_waiting(self, waiter: _Waiter) -> QueueSlot | None:
        with self._lock:
            # A slot may have been granted at the same time as the timeout or cancellation.
            if waiter.slot is None:
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            woken = self._grant()
        _wake(woken)
        return waiter.slot

    def commit(self, slot: QueueSlot, event: Event) -> None:
        """See :meth:`QueueSlot.commit`."""
        if not slot.open:
            return
        prepared = self._owner.prepare(event)
        note: Callable[[Event], None] | None = None
        with self._lock:
            self._free(slot)
            if prepared is None:
                pass
            elif self._emptied:
                note = self._owner.on_late_event
            elif slot.held or self._fits(prepared.size):
                # A reserved event is accepted whatever its actual size.
                self._held_bytes += prepared.size
                self._committed += 1
                self._events.append(prepared)
            else:
                self._dropped += 1
                note = self._owner.on_dropped_event
            woken = self._grant()
            # Wake the writer only when needed: waking it slows the calls.
            if len(self._events) == 1 or self._is_urgent():
                self._changed.notify()
        _wake(woken)
        if note is not None:
            note(event)

    def release(self, slot: QueueSlot) -> None:
        """See :meth:`QueueSlot.release`."""
        with self._lock:
            if not slot.open:
                return
            self._free(slot)
            woken = self._grant()
            self._changed.notify()
        _wake(woken)

    async def flush(self) -> None:
        """Wait until all events committed so far are settled."""
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

    # --- called by the writer ---------------------------------------------------------------------

    def take(self, max_events: int, max_bytes: int, pace_s: float) -> list[PreparedEvent]:
        """Wait for events and take a batch, oldest first; they keep their slots until settled.

        Args:
            max_events: maximum number of events.
            max_bytes: approximate maximum of their bytes.
            pace_s: minimum seconds since the last batch, so that events gather: an event alone in
                its transaction costs several times as much as one in a large batch. It does not
                apply after a quiet period or while a caller waits.

        Returns:
            The batch; empty when the queue is closed, no call holds a slot, and no event is left.
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
            while self._events and len(self._batch) < max_events and size < max_bytes:
                self._batch.append(self._events.popleft())
                size += self._batch[-1].size
            return list(self._batch)

    def settle(self, count: int) -> None:
        """Free the slots of the first ``count`` events of the batch: stored or rejected."""
        with self._lock:
            settled, self._batch = self._batch[:count], self._batch[count:]
            self._settled += len(settled)
            self._held_bytes -= sum(item.size for item in settled)
            flushed = [waiter for at, waiter in self._flushing if at <= self._settled]
            woken = self._grant()
        _wake([*woken, *flushed])

    def close(self) -> None:
        """Refuse new reservations; existing ones may still commit."""
        with self._lock:
            self._closing = True
            refused = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        _wake(refused)

    def empty(self) -> list[PreparedEvent]:
        """Remove and return all events that are not settled. Later commits count as late."""
        with self._lock:
            self._emptied = self._closing = True
            left = [*self._batch, *self._events]
            self._batch = []
            self._events.clear()
            flushed = [waiter for _, waiter in self._flushing]
            self._changed.notify_all()
        _wake(flushed)
        return left

    # --- called with the lock held ----------------------------------------------------------------

    def _is_urgent(self) -> bool:
        """Whether a caller waits, a full batch is queued, or the queue is half full."""
        return bool(
            self._closing
            or self._flushing
            or self._waiting
            or len(self._events) >= self._batch_events
            or 2 * self._held_bytes >= self._max_bytes
            or 2 * (self._reserved + len(self._events)) >= self._max_events
        )

    def _free(self, slot: QueueSlot) -> None:
        slot.open = False
        if slot.held:
            self._reserved -= 1
            self._held_bytes -= slot.size

    def _check_open(self) -> None:
        if self._closing:
            raise AuditUnavailable("the audit log is closed")

    def _fits(self, size: int) -> bool:
        held = self._reserved + len(self._events) + len(self._batch)
        return held < self._max_events and (not held or self._held_bytes + size <= self._max_bytes)

    def _hold(self, size: int) -> QueueSlot:
        self._reserved += 1
        self._held_bytes += size
        return QueueSlot(self, size, held=True)

    def _grant(self) -> list[_Waiter]:
        """Grant slots to the longest waiting calls; the caller wakes them without the lock."""
        granted: list[_Waiter] = []
        while self._waiting and self._fits(self._waiting[0].size):
            waiter = self._waiting.popleft()
            waiter.slot = self._hold(waiter.size)
            granted.append(waiter)
        return granted


def _wake(waiters: Sequence[_Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()
