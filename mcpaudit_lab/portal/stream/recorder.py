"""Records a live stream in the background: reports each item, stores each event in a lab."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol, Self

from mcpaudit_lab.record import Event, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mcpaudit_lab.portal.stream.items import Gap
    from mcpaudit_lab.storage.load import LoadReport

__all__ = ["Stored", "StreamRecorder"]

logger = logging.getLogger(__name__)


class _Stream(Protocol):
    url: str

    def __iter__(self) -> Iterator[Event | Gap]: ...

    def stop(self) -> None: ...


class _Lab(Protocol):
    def add_events(
        self, events: Iterable[Event], *, kind: str, name: str, request: str | None = None
    ) -> LoadReport: ...

    def check_writable(self, why: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a stream's events in a lab.

    Attributes:
        stored: events added, or completed.
        duplicates: events that were there already.
        rejected: events that the lab refused; ``lab.rejects()`` says why.
        waiting: events not stored yet; after the end, events that never were.
        failures: how often the lab could not be written.
        problem: why, the last time; empty once it worked again.
    """

    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    waiting: int = 0
    failures: int = 0
    problem: str = ""


class StreamRecorder:
    """Reads a stream in one thread and stores its events in another.

    While the lab cannot be written, events wait and are tried again. When too many wait, the stream
    is not read on: the portal keeps its events, and the stream finds them again.

    Both threads end with :meth:`stop`, with the stream, and with the interpreter, what waits being
    stored first. Use it in a ``with`` statement, or call :meth:`start`.

    Args:
        stream: the stream; the recorder's from now on.
        lab: a lab, or None to store nothing.
        on_item: called with each :class:`Event` and :class:`Gap` as it comes, before it is stored,
            from the reading thread. What it raises is logged and ends nothing.
        on_end: called from the reading thread when the stream has ended.
        request: the stream's filters as text, for the lab's ledger.
        batch_events: maximum number of events in one transaction.
        batch_s: maximum time until an event is stored, in seconds.
        most_waiting: queue capacity, in events.
        retry_s: the pause after the lab could not be written.
    """

    def __init__(
        self,
        stream: _Stream,
        lab: _Lab | None = None,
        *,
        on_item: Callable[[Event | Gap], object] = lambda _: None,
        on_end: Callable[[], object] = lambda: None,
        request: str | None = None,
        batch_events: int = 1000,
        batch_s: float = 0.5,
        most_waiting: int = 20_000,
        retry_s: float = 1.0,
    ) -> None:
        self.stream = stream
        self.failure: Exception | None = None
        """What ended the stream, such as :class:`Unauthorized`; None where nothing did."""
        if lab is not None:
            lab.check_writable("a recorder adds events to it")
        self._lab = lab
        self._on_item = on_item
        self._on_end = on_end
        self._request = request
        self._batch_events = batch_events
        self._batch_s = batch_s
        self._most_waiting = most_waiting
        self._retry_s = retry_s
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._is_stopping = False
        self._has_ended = False
        self._stored = Stored()
        # Daemons: an interpreter that ends does not wait for them, but calls stop().
        self._threads = [threading.Thread(target=self._read, name="stream-reader", daemon=True)]
        if lab is not None:
            self._threads.append(
                threading.Thread(target=self._write, args=(lab,), name="stream-writer", daemon=True)
            )

    @property
    def stored(self) -> Stored:
        """The figures now."""
        with self._changed:
            return replace(self._stored, waiting=len(self._waiting))

    @property
    def is_running(self) -> bool:
        """Whether one of its threads runs."""
        return any(thread.is_alive() for thread in self._threads)

    def start(self) -> Self:
        """Begin. Once only.

        Raises:
            RuntimeError: it was started before.
        """
        atexit.register(self.stop)
        for thread in self._threads:
            thread.start()
        return self

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the stream, store what waits, and end the threads. A second time does nothing.

        Args:
            timeout_s: maximum wait, in seconds. Everything except storing takes far less than one.

        Returns:
            Whether both threads have ended.
        """
        self.stream.stop()
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until_s - time.monotonic()))
        atexit.unregister(self.stop)
        return not self.is_running

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # The reading thread

    def _read(self) -> None:
        try:
            for item in self.stream:
                self._tell(item)
                if isinstance(item, Event) and self._lab is not None:
                    self._put(item)
        except Exception as error:  # noqa: BLE001 - whoever looks at the recorder is told
            self.failure = error
        finally:
            self.stream.stop()
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()
            self._call(self._on_end)

    def _tell(self, item: Event | Gap) -> None:
        self._call(lambda: self._on_item(item))

    def _call(self, told: Callable[[], object]) -> None:
        try:
            told()
        except Exception:
            logger.exception("a listener of the stream failed")

    def _put(self, event: Event) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._waiting) < self._most_waiting or self._is_stopping
            )
            self._waiting.append(event)
            self._changed.notify_all()

    # The writing thread

    def _write(self, lab: _Lab) -> None:
        while batch := self._next_batch():
            if self._store(lab, batch):
                continue
            with self._changed:
                if self._changed.wait_for(lambda: self._is_stopping, self._retry_s):
                    break
        if self._waiting:
            # The last attempt was before the end.
            self._store(lab, list(self._waiting))

    def _next_batch(self) -> list[Event]:
        """The oldest events that wait, after a moment for more to come; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._has_ended)
            self._changed.wait_for(
                lambda: (
                    len(self._waiting) >= self._batch_events or self._has_ended or self._is_stopping
                ),
                self._batch_s,
            )
            return list(islice(self._waiting, self._batch_events))

    def _store(self, lab: _Lab, batch: list[Event]) -> bool:
        """Store the oldest events that wait; returns whether that worked."""
        try:
            report = lab.add_events(batch, kind="tail", name=self.stream.url, request=self._request)
        except Exception as error:
            # A full disk or a closed lab: events stay queued, and the status reports the problem.
            if not self._stored.problem:
                logger.warning("events of a stream wait, not stored", exc_info=True)
            with self._changed:
                self._stored = replace(
                    self._stored, failures=self._stored.failures + 1, problem=visible(str(error))
                )
            return False
        with self._changed:
            for _ in batch:
                self._waiting.popleft()
            self._stored = replace(
                self._stored,
                stored=self._stored.stored + report.loaded + report.merged,
                duplicates=self._stored.duplicates + report.duplicates,
                rejected=self._stored.rejected + report.rejected,
                problem="",
            )
            self._changed.notify_all()
        return True
