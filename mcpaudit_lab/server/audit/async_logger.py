"""A store behind a queue: the calls only queue, one thread writes.

An event becomes rows when it is committed, so that a tool may change its arguments afterwards, the
size is known, and the thread leaves the interpreter to the calls while the database works.

The thread stores everything queued as one batch. While the database is unavailable it retries; the
queue fills, and then calls are refused. If the database rejects a batch, the batch is split until
the bad event is alone: that event is given up, counted, named in the log and written to the spill
file, and everything else is stored.
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
from mcpaudit_lab.server.audit.async_reading import AsyncReader
from mcpaudit_lab.server.audit.queue import AuditQueue, OnFull, Place
from mcpaudit_lab.server.stores import EventStore, Prepared

__all__ = ["AsyncLogger", "LoggerStatus"]

logger = logging.getLogger(__name__)

_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 2.0
# Log the first dropped event, then a summary once per this many seconds.
_DROP_LOG_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class LoggerStatus:
    """How the logger is, for ``/readyz`` and the like.

    Attributes:
        reserved: places of calls that run.
        queued: events that wait or are being written.
        held_bytes: bytes of both.
        stored: events stored.
        rejected: events that the database rejected, or that came after closing. Their ids are in
            the log, and the events in the spill file if there is one.
        dropped: events left out since the queue was full (``on_full="drop"``).
        away_s: how long the database has been unavailable, in seconds; None if it is available.
        closed: whether it takes no more calls.
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
        """Whether calls are taken and stored."""
        return self.away_s is None and not self.closed


class AsyncLogger(AsyncReader):
    """An :class:`~mcpaudit_lab.server.stores.store.AuditLogger` over any store, for asyncio.

    Several event loops and threads may share one. Its thread starts with the first event; without
    :meth:`aclose` the end of the process waits for the queue, for at most ``exit_timeout_s``.

    Args:
        store: where the events go. :meth:`aclose` closes it.
        max_events: places, counting calls that run and events not stored yet.
        max_bytes: the same in bytes.
        timeout_s: how long a call waits for a place before it is refused, in seconds.
        on_full: ``refuse`` calls, or ``drop`` events and run the calls.
        batch_events: maximum number of events in one transaction.
        batch_bytes: approximate maximum size of one transaction, in bytes.
        pace_s: minimum time between the starts of two transactions, in seconds, unless a caller
            waits or the queue fills. An event after an idle period is stored at once.
        spill: a file for the events that could not be stored, as JSON lines that a lab loads.
        exit_timeout_s: how long the end of the process waits, in seconds.
        clock: monotonic seconds.
        sleep: waits a number of seconds before a retry; called in the thread.
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
        self._drops_told = 0
        self._drop_told_s: float | None = None
        self._closed = False
        self._given_up = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- writing ----------------------------------------------------------------------------------

    async def reserve(self, size_hint: int) -> Place:
        """Wait for a place for one more event.

        Args:
            size_hint: about how many bytes the event with its payload will have.

        Raises:
            AuditUnavailable: no place became free in time, or the logger is closed. The call must
                not run.
        """
        self._start()
        return await self._queue.reserve(size_hint, self._timeout_s)

    async def flush(self) -> None:
        """Wait until every event committed so far is stored and can be read."""
        await self._queue.flush()

    def status(self) -> LoggerStatus:
        """How it is now."""
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
        """Accept no more calls, store the queue, end subscriptions, close the store.

        Calls that run may still commit; it waits for them, too.

        Args:
            timeout_s: how long that may take, in seconds.

        Returns:
            The number of events that were not stored. Their ids are in the log, and the events in
            the spill file if there is one. Events committed later are treated the same.
        """
        return await asyncio.to_thread(self.close, timeout_s)

    def close(self, timeout_s: float = 30.0) -> int:
        """The same for threads; blocks."""
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
            logger.error("%d audit events are not stored: %s", len(left), reason)
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
                # A daemon, so that the end of the process comes here instead of waiting for it.
                atexit.register(self._close_at_exit)

    def _run(self) -> None:
        while batch := self._queue.take(*self._batch):
            try:
                self._store(batch)
            except _GivenUpError:
                return

    def _store(self, batch: Sequence[Prepared]) -> None:
        """Store a batch, but for the events that the database refuses."""
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

    def _try(self, part: Sequence[Prepared]) -> Exception | None:
        """Store a part, waiting while the database is unavailable; returns its objection, if any.

        Raises:
            _GivenUpError: the logger was closed and no longer waits.
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
                    logger.warning("the audit store is away, events wait: %s", error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it blames the events
                return error
            else:
                self._back()
                return None
            self._sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    def _back(self) -> None:
        since_s, self._away_since_s = self._away_since_s, None
        if since_s is not None:
            logger.warning("the audit store is back after %.1f s", self._clock() - since_s)

    # --- what is not stored -----------------------------------------------------------------------

    def _reject(self, event: Event, reason: str) -> None:
        with self._lock:
            self._rejected += 1
            logger.error("the audit event %s is not stored: %s", event.id or "without id", reason)
            if self._spill is None:
                return
            try:
                line = dumps(event.wire, ascii_only=True)
                with self._spill.open("a", encoding="ascii") as file:
                    file.write(line + "\n")
            except Exception:
                logger.exception("the audit event %s could not be spilled", event.id)

    def prepare(self, event: Event) -> Prepared | None:
        """For the queue: the event as the store will write it, or None."""
        try:
            return self.store.prepare(event)
        except Exception as error:  # noqa: BLE001 - whoever committed it must not be disturbed
            self._reject(event, _describe(error))
            return None

    def note_late(self, event: Event) -> None:
        """For the queue: an event came after the end."""
        self._reject(event, "it came after the logger was closed")

    def note_dropped(self, event: Event) -> None:
        """For the queue: an event found no place."""
        del event
        now_s = self._clock()
        with self._lock:
            self._drops_told += 1
            if self._drop_told_s is not None and now_s - self._drop_told_s < _DROP_LOG_S:
                return
            self._drop_told_s, count = now_s, self._drops_told
            self._drops_told = 0
        logger.error("the audit queue is full: %d events were dropped", count)


class _GivenUpError(Exception):
    """Nobody waits for the thread any more."""


def _describe(error: Exception) -> str:
    """The type of an error; its text may contain the data that was written."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    reason = getattr(cause, "reason", None)
    return f"{type(cause).__name__} {state or reason or ''}".strip()
