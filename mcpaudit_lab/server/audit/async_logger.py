"""A store behind a queue: calls enqueue events, and one thread writes them.

An event is encoded as rows when it is committed. So a tool may change its arguments afterwards, the
size is known, and the thread releases the interpreter to the calls while the database works.

The thread stores queued events in batches. While the database is unavailable it retries with
backoff; the queue fills, and then calls are refused. If the database rejects a batch, the batch is
split until the bad event is alone. That event is rejected: counted, logged by id and written to the
spill file. All others are stored.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.record import Event, dumps
from mcpaudit_lab.server.audit.async_reader import AsyncReader
from mcpaudit_lab.server.audit.queue import AuditQueue, OnFull, QueueSlot
from mcpaudit_lab.server.stores import EventStore, PreparedEvent

__all__ = ["AsyncLogger", "LoggerStatus"]

logger = logging.getLogger(__name__)

_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 2.0
# Log the first dropped event at once, then at most one line in this interval.
_DROP_LOG_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class LoggerStatus:
    """The state of an :class:`AsyncLogger`, for ``/readyz`` and the like.

    Attributes:
        reserved: reservations of running calls.
        queued: events queued or being written.
        held_bytes: bytes of both.
        stored: events stored.
        rejected: events that the database rejected or that were committed after the end. They are
            logged by id, and in the spill file if there is one.
        dropped: events dropped because the queue was full (``on_full="drop"``).
        away_s: seconds since the database became unavailable; None if it is available.
        closed: whether the logger refuses new calls.
    """

    reserved: int
    queued: int
    held_bytes: int
    stored: int
    rejected: int
    dropped: int
    away_s: float | None
    closed: bool

    @property
    def ready(self) -> bool:
        """Whether calls are accepted and stored."""
        return self.away_s is None and not self.closed


class AsyncLogger(AsyncReader):
    """An :class:`~mcpaudit_lab.server.stores.store.AuditLogger` over any store, for asyncio.

    Several event loops and threads may share one. The writer thread starts with the first event.
    Without :meth:`aclose`, the end of the process waits for the queue, at most ``exit_timeout_s``.

    Args:
        store: the store; :meth:`aclose` closes it.
        max_events: queue capacity in events, counting running calls and events not yet stored.
        max_bytes: queue capacity in bytes.
        timeout_s: how long a call waits for room before it is refused, in seconds.
        on_full: ``refuse`` calls, or ``drop`` events and run the calls.
        batch_events: maximum events in one transaction.
        batch_bytes: approximate maximum bytes in one transaction.
        pace_s: minimum seconds between the starts of two transactions, so that events gather. It
            does not apply if a caller waits for an event or the queue is filling up.
        spill: file for events that could not be stored, as JSON lines that a lab can load.
        exit_timeout_s: how long the end of the process waits for the queue, in seconds.
        clock: monotonic seconds.
        sleep: sleeps the given seconds before a retry, in the writer thread.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        max_events: int = 10_000,
        max_bytes: int = 64 * 2**20,
        timeout_s: float = 5.0,
        on_full: OnFull = "refuse",
        batch_events: int = 2000,
        batch_bytes: int = 8 * 2**20,
        pace_s: float = 0.05,
        spill: Path | None = None,
        exit_timeout_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(store)
        self._timeout_s = timeout_s
        self._batch = (batch_events, batch_bytes, pace_s)
        self._spill = spill
        self._exit_timeout_s = exit_timeout_s
        self._clock = clock
        self._sleep = sleep
        self._queue = AuditQueue(max_events, max_bytes, on_full, self)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stored = 0
        self._rejected = 0
        self._away_since_s: float | None = None
        self._unlogged_drops = 0
        self._drop_logged_s: float | None = None
        self._closed = False
        self._given_up = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- writing ----------------------------------------------------------------------------------

    async def reserve(self, size_hint: int) -> QueueSlot:
        """Reserve room for one event, waiting for it if necessary.

        Args:
            size_hint: estimated size of the event with its payload, in bytes.

        Raises:
            AuditUnavailable: there is no room in time, or the logger is closed. The call must not
                run.
        """
        self._start()
        return await self._queue.reserve(size_hint, self._timeout_s)

    async def flush(self) -> None:
        """Wait until all events committed so far are stored and readable."""
        await self._queue.flush()

    def status(self) -> LoggerStatus:
        """The current state."""
        state = self._queue.state()
        away_since_s = self._away_since_s
        return LoggerStatus(
            state.reserved,
            state.queued,
            state.held_bytes,
            self._stored,
            self._rejected,
            state.dropped,
            None if away_since_s is None else self._clock() - away_since_s,
            self._closed,
        )

    async def aclose(self, timeout_s: float = 30.0) -> int:
        """Refuse new calls, store queued events, end subscriptions and close the store.

        Waits for running calls as well, which may still commit.

        Args:
            timeout_s: maximum wait in seconds.

        Returns:
            The number of events not stored. They are logged by id, and in the spill file if there
            is one, as are events committed later.
        """
        return await asyncio.to_thread(self.close, timeout_s)

    def close(self, timeout_s: float = 30.0) -> int:
        """Blocking version of :meth:`aclose`, for threads."""
        self._closed = True
        self._queue.close()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
            atexit.unregister(self._close_at_exit)
        left = self._give_up("the logger was closed before they could be stored")
        self.store.close()
        return left

    def _close_at_exit(self) -> None:
        self.close(self._exit_timeout_s)

    def _give_up(self, reason: str) -> int:
        with self._lock:
            self._given_up = True
        left = self._queue.empty()
        if left:
            logger.error("%d audit events were not stored: %s", len(left), reason)
        for item in left:
            self._reject(item.event, reason)
        return len(left)

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)
                self._thread.start()
                # A daemon thread: the interpreter runs atexit handlers instead of joining it.
                atexit.register(self._close_at_exit)

    def _run(self) -> None:
        while batch := self._queue.take(*self._batch):
            try:
                self._store(batch)
            except _GivenUpError:
                return

    def _store(self, batch: Sequence[PreparedEvent]) -> None:
        """Store a batch; split it to reject only the events that the database rejects."""
        parts = [batch]
        while parts:
            part = parts.pop()
            error = self._try(part)
            if error is None:
                self._stored += len(part)
                self._queue.settle(len(part))
            elif len(part) == 1:
                self._reject(part[0].event, _describe(error))
                self._queue.settle(1)
            else:
                half = len(part) // 2
                parts += [part[half:], part[:half]]

    def _try(self, part: Sequence[PreparedEvent]) -> Exception | None:
        """Store a part, retrying while the database is unavailable.

        Returns:
            The error if the database rejects the part; None if it is stored.

        Raises:
            _GivenUpError: the logger was closed and no longer waits for this thread.
        """
        wait_s = _FIRST_WAIT_S
        while True:
            if self._given_up:
                raise _GivenUpError
            try:
                self.store.log(part)
            except StoreUnavailable as error:
                if self._away_since_s is None:
                    self._away_since_s = self._clock()
                    logger.warning("the audit store is unavailable, events are queued: %s", error)
            except Exception as error:  # noqa: BLE001 - any other error is caused by the events
                return error
            else:
                self._note_available()
                return None
            self._sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    def _note_available(self) -> None:
        since_s, self._away_since_s = self._away_since_s, None
        if since_s is not None:
            logger.warning(
                "the audit store is available again after %.1f s", self._clock() - since_s
            )

    # --- rejected events --------------------------------------------------------------------------

    def _reject(self, event: Event, reason: str) -> None:
        with self._lock:
            self._rejected += 1
            logger.error("audit event %s was not stored: %s", event.id or "without id", reason)
            if self._spill is None:
                return
            try:
                line = dumps(event.wire, ascii_only=True)
                with self._spill.open("a", encoding="ascii") as file:
                    file.write(line + "\n")
            except Exception:
                logger.exception("audit event %s could not be written to the spill file", event.id)

    def prepare(self, event: Event) -> PreparedEvent | None:
        """Encode an event for the store; None if it was rejected. Called by the queue."""
        try:
            return self.store.prepare(event)
        except Exception as error:  # noqa: BLE001 - commit() must not raise
            self._reject(event, _describe(error))
            return None

    def on_late_event(self, event: Event) -> None:
        """Reject an event committed after the logger was closed. Called by the queue."""
        self._reject(event, "it was committed after the logger was closed")

    def on_dropped_event(self, event: Event) -> None:
        """Count and log an event dropped from a full queue. Called by the queue."""
        del event
        now_s = self._clock()
        with self._lock:
            self._unlogged_drops += 1
            if self._drop_logged_s is not None and now_s - self._drop_logged_s < _DROP_LOG_S:
                return
            self._drop_logged_s, count = now_s, self._unlogged_drops
            self._unlogged_drops = 0
        logger.error("the audit queue is full: %d events were dropped", count)


class _GivenUpError(Exception):
    """The logger was closed and no longer waits for the writer thread."""


def _describe(error: Exception) -> str:
    """The type of an error and its SQLSTATE. Not its message, which may contain written values."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    reason = getattr(cause, "reason", None)
    return f"{type(cause).__name__} {state or reason or ''}".strip()
