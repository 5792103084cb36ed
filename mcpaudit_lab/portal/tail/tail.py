"""The live tail: one reads the stream in a thread, people look at it in a notebook or as text.

In a kernel with a running event loop, ``tail`` at the end of a cell is a widget (its view is in the
display); in a terminal, a script or a saved notebook without widgets it is text, the same as
``print(tail)``. Both are in the output, and a front end uses what it can show. Nothing is sent to a
table before the table asks for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from mcpaudit_lab.errors import McpAuditError
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.portal.stream import Stored, StreamRecorder
from mcpaudit_lab.portal.tail.history import Pulse
from mcpaudit_lab.portal.tail.log_watch import LogWatch
from mcpaudit_lab.portal.tail.rows import lines_text
from mcpaudit_lab.portal.tail.state import TailCounts, TailState
from mcpaudit_lab.record import Event, counted, render, visible

if TYPE_CHECKING:
    import pandas as pd

    from mcpaudit_lab.portal.http import PortalReader
    from mcpaudit_lab.portal.stream import Gap, StreamCounters
    from mcpaudit_lab.storage.load import LabStore

__all__ = ["Tail", "TailStatus", "WatchedStream"]

_TEXT_ROWS: Final = 20
# Stands below the text that a front end without widgets shows in the table's place.
_NO_FRONT_END: Final = (
    "(As of when the cell ran. For a table that moves: pip install jupyterlab-widgets where the "
    "notebook's server runs, then reload the page. Or print(tail) again.)"
)


class _View(Protocol):
    """The part of the widget that the tail uses."""

    def wake(self) -> None:
        """Schedule an update."""

    def mimebundle(self) -> dict[str, Any]:
        """What a notebook's output gets."""

    def close(self) -> None:
        """Take the widget away."""


class WatchedStream(Protocol):
    """What is watched: an :class:`~mcpaudit_lab.portal.stream.event_stream.EventStream`."""

    url: str

    def __iter__(self) -> Iterator[Event | Gap]:
        """What comes, until it is stopped."""

    def stop(self) -> None:
        """End it, from any thread."""

    @property
    def state(self) -> str:
        """``connecting``, ``live``, ``reconnecting`` or ``stopped``."""

    @property
    def counters(self) -> StreamCounters:
        """The figures now."""

    @property
    def problem(self) -> str:
        """Why it is not connected, for people; empty while all is well."""


@dataclass(frozen=True, slots=True)
class TailStatus:
    """How a tail is doing.

    Attributes:
        state: ``connecting``, ``live``, ``reconnecting`` or ``stopped``.
        paused: whether the view is paused.
        counts: numbers of events and gaps.
        reconnections: how often the stream was opened again.
        filled: events that were read from the list after a gap.
        stored: the number of events stored in the lab; None without a lab.
        problem: what does not hold in the portal's log, why it stopped unexpectedly, or why it is
            not connected; else empty.
    """

    state: str
    paused: bool
    counts: TailCounts
    reconnections: int
    filled: int
    stored: Stored | None
    problem: str

    def describe(self) -> str:
        """In words, one line."""
        counts, stored = self.counts, self.stored or Stored()
        parts = [
            (True, f"{self.state}, paused" if self.paused else self.state),
            (True, f"{counts.received:,} received"),
            (counts.failed, f"{counts.failed:,} failed"),
            (True, f"{counts.per_second:,.1f}/s"),
            (self.stored, f"{stored.stored:,} stored"),
            (stored.duplicates, f"{stored.duplicates:,} in the lab before"),
            (stored.rejected, f"{stored.rejected:,} rejected by the lab"),
            (stored.problem, f"{stored.waiting:,} not stored yet: {stored.problem}"),
            (counts.waiting, f"{counts.waiting:,} waiting"),
            (counts.unseen, f"{counts.unseen:,} too fast to be shown"),
            (self.filled, f"{self.filled:,} filled in"),
            (self.reconnections, counted(self.reconnections, "reconnection")),
            (counts.gaps, counted(counts.gaps, "gap")),
            (self.problem, self.problem),
        ]
        return " · ".join(text for is_said, text in parts if is_said)


class Tail:
    """Calls as they arrive. Made by :meth:`PortalClient.tail`.

    It runs from the start, in threads, until :meth:`stop`, the end of its cell's output, or that
    of the process. Use it in a ``with`` statement where no output will end it.

    Args:
        stream: the stream to watch; the tail owns it from now on.
        portal: the portal to ask for payloads and replays; None for none.
        max_rows: maximum number of rows shown.
        into: a lab that gets all that arrives, or None. It also remembers the portal's log.
        title: a description of what is watched.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        stream: WatchedStream,
        *,
        portal: PortalReader | None = None,
        max_rows: int = 200,
        into: LabStore | None = None,
        title: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.portal = portal
        self.title = title
        self._stream = stream
        self._clock = clock
        self._state = TailState(max_rows=max_rows)
        self._changed = threading.Condition()
        self._view: _View | None = None
        self._ended = False
        self._is_storing = into is not None
        self._log = None if into is None or portal is None else LogWatch(portal, into)
        self._recorder = StreamRecorder(
            stream, into, on_item=self._take, on_end=self._end, request=title
        ).start()
        if self._log is not None:
            self._log.start()

    # The reading thread

    def _take(self, item: Event | Gap) -> None:
        self._state.add(item, self._clock())
        with self._changed:
            self._changed.notify_all()
        self._wake()

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._wake()

    def _wake(self) -> None:
        view = self._view
        if view is not None:
            view.wake()

    # Control

    def stop(self) -> None:
        """End it: the stream is closed, what arrived is stored, the rows stay. Any thread may."""
        if self._log is not None:
            self._log.stop()
        self._recorder.stop()
        self._wake()

    def close(self) -> None:
        """Stop, and take the widget away."""
        self.stop()
        view, self._view = self._view, None
        if view is not None:
            view.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def pause(self) -> None:
        """Pause the view. Arriving events are still kept, counted and stored."""
        self._state.pause()
        self._wake()

    def resume(self) -> None:
        """Show what arrived since :meth:`pause`, up to the limits."""
        self._state.resume()
        self._wake()

    def show(self, wanted: EventFilter | None = None, **keywords: Any) -> None:
        """Show only some of what arrives; all of it with nothing given.

        What was received already is looked through again. Summaries have no payload: a filter that
        asks for one matches nothing here. What is stored does not depend on it.

        Args:
            wanted: a filter.
            **keywords: or one by its keywords: ``tool``, ``success``, ``q`` and so on.

        Raises:
            FilterError: a keyword or value that no filter has.
        """
        self._state.show(EventFilter(**keywords) if keywords else wanted)
        self._wake()

    def wait(self, received: int = 1, *, timeout_s: float = 10.0) -> bool:
        """Wait for a number of events, or the end; returns whether they arrived."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or self._state.received >= received, timeout_s
            )
        return self._state.received >= received

    def wait_live(self, *, timeout_s: float = 10.0) -> bool:
        """Wait until the stream is connected, or has ended; returns whether it is connected.

        Calls made from then on are seen; those before may not be.
        """
        until_s = self._clock() + timeout_s
        with self._changed:
            while self.status.state not in ("live", "stopped") and self._clock() < until_s:
                # The stream does not report its state changes.
                self._changed.wait(0.02)
        return self.status.state == "live"

    # Asking

    @property
    def status(self) -> TailStatus:
        """How it is doing now."""
        counters, failure = self._stream.counters, self._recorder.failure
        problem = self._stream.problem
        if failure is not None:
            known = isinstance(failure, McpAuditError)
            problem = f"{'' if known else f'{type(failure).__name__}: '}{failure}"
        if self._log is not None and self._log.tampered is not None:
            problem = f"TAMPERED: {self._log.tampered}"
        return TailStatus(
            state="stopped" if self._ended else self._stream.state,
            paused=self._state.paused,
            counts=self._state.counts(self._clock()),
            reconnections=counters.reconnections,
            filled=counters.filled,
            stored=self._recorder.stored if self._is_storing else None,
            problem=visible(problem),
        )

    def events(self) -> list[Event]:
        """What it has seen: the newest 10,000 events or 64 MiB of them, the last to come first.

        Those of the table are among them, whatever is filtered or paused.
        """
        return self._state.events()

    def df(self) -> pd.DataFrame:
        """What it has seen, as a frame: :meth:`events`, in that order.

        Returns:
            The columns of :meth:`EventSet.df`: ``id``, ``ts`` (UTC), ``tool_name``, ``success`` and
            so on. A lab that was given as ``into`` has more: ``lab.events().df()``.
        """
        from mcpaudit_lab.portal.tail.frame import events_frame

        return events_frame(self.events())

    # Shown

    def pulse(self, tools_max: int = 5) -> Pulse:
        """The last five minutes: calls and failures by bucket, durations of the busiest tools.

        Args:
            tools_max: for how many tools.
        """
        return self._state.pulse(self._clock(), tools_max)

    def __str__(self) -> str:
        lines = self._state.lines()[:_TEXT_ROWS]
        head = f"Tail of {self.title}: {self.status.describe()}"
        return "\n".join([head, lines_text(lines)] if lines else [head])

    __repr__ = __str__

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        """The widget where a kernel runs, else text; the widget's output has the text too."""
        loop = _kernel_loop()
        if loop is None:
            return {"text/plain": str(self)}
        if self._view is None:
            self._view = render("tail", self, self._state, loop)
        return {**self._view.mimebundle(), "text/plain": f"{self}\n{_NO_FRONT_END}"}


def _kernel_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of the kernel that runs the cell; None in a terminal, a script, a test."""
    from IPython import get_ipython

    shell = get_ipython()
    io_loop = getattr(getattr(shell, "kernel", None), "io_loop", None)
    loop: asyncio.AbstractEventLoop | None = getattr(io_loop, "asyncio_loop", None)
    return loop
