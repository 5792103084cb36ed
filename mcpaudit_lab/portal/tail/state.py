"""The state of a live tail: the lines kept, the lines shown, and updates for the table.

There are two limits. The newest lines are **kept**, up to a number and a size: filters search
these, and ``df()`` returns them. The newest of them that match the filter are the **view**, at most
``max_rows``. An update is the difference to the previous one and never larger than the view, so
that a thousand events a second cost the notebook no more than ``max_rows`` rows per update.

The newest line is the one that arrived last, not the call that started last: a slow call that ends
now is on top, since a row inserted further down would be missed.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.portal.tail.history import Pulse, TailHistory
from mcpaudit_lab.portal.tail.rows import Line, line_of
from mcpaudit_lab.record import Event

if TYPE_CHECKING:
    from mcpaudit_lab.portal.stream import Gap

__all__ = ["Batch", "TailCounts", "TailState"]

_RATE_WINDOW_S: Final = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """What changes in the table.

    Attributes:
        reset: whether the rows replace all existing ones, or are added on top.
        lines: newest first.
    """

    reset: bool
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class TailCounts:
    """What came so far.

    Attributes:
        received: events.
        failed: of these, calls that failed.
        gaps: stretches of time whose events could not be had.
        kept: lines that are still kept.
        waiting: events that match the filter and came since the pause.
        unseen: events that matched the filter and were never shown: more than ``max_rows`` came
            between two updates, or during a pause.
        per_second: events a second, over the last five seconds.
    """

    received: int = 0
    failed: int = 0
    gaps: int = 0
    kept: int = 0
    waiting: int = 0
    unseen: int = 0
    per_second: float = 0.0


class TailState:
    """The lines of a tail. One thread adds, another looks: any may do either.

    Args:
        max_rows: maximum number of rows in the view, 1 or more.
        max_kept: maximum number of lines kept, at least ``max_rows``.
        max_kept_bytes: approximate maximum size of the lines kept.
    """

    def __init__(
        self, *, max_rows: int = 200, max_kept: int = 10_000, max_kept_bytes: int = 64 << 20
    ) -> None:
        if max_rows < 1:
            raise ValueError("max_rows is 1 or more")
        self.max_rows = max_rows
        self._lock = threading.RLock()
        self.paused = False
        self.wanted: EventFilter | None = None
        self._max_kept = max(max_kept, max_rows)
        self._max_kept_bytes = max_kept_bytes
        self._kept: deque[Line] = deque()
        self._kept_bytes = 0
        self._view: deque[Line] = deque(maxlen=max_rows)
        self._fresh: deque[Line] = deque(maxlen=max_rows)
        self._fresh_count = 0
        self._unseen = 0
        self._stale = True
        self._pinned: dict[int, Line] = {}
        self._last_key = 0
        self._pause_key = 0
        self._received = self._failed = self._gaps = 0
        self._started_s: float | None = None
        self._history = TailHistory()

    # In

    def add(self, item: Event | Gap, now_s: float) -> None:
        """Add an event or a gap.

        Args:
            item: an event, or a gap.
            now_s: a monotonic clock, in seconds.
        """
        with self._lock:
            self._last_key += 1
            line = line_of(self._last_key, item)
            self._kept.append(line)
            self._kept_bytes += line.kept_bytes
            while len(self._kept) > self._max_kept or (
                self._kept_bytes > self._max_kept_bytes and len(self._kept) > 1
            ):
                self._kept_bytes -= self._kept.popleft().kept_bytes
            self._count(line, now_s)
            if self._matches(line):
                self._unseen += len(self._fresh) == self.max_rows
                self._fresh.append(line)
                self._fresh_count += 1

    def _count(self, line: Line, now_s: float) -> None:
        if line.event is None:
            self._gaps += 1
            return
        self._received += 1
        self._failed += not line.event.success
        self._history.add(line.event, now_s)
        if self._started_s is None:
            self._started_s = now_s

    def _matches(self, line: Line) -> bool:
        # A gap matches every filter: the missing events could have matched.
        return self.wanted is None or line.event is None or self.wanted.matches(line.event)

    # What is shown

    def show(self, wanted: EventFilter | None) -> None:
        """Show only matching events; the lines kept are searched again. None shows all."""
        with self._lock:
            self.wanted = wanted
            shown_to = self._pause_key if self.paused else self._last_key
            # During a pause the view may contain lines that are no longer kept.
            first_kept = self._kept[0].key if self._kept else self._last_key + 1
            known = [line for line in self._view if line.key < first_kept] + list(self._kept)
            matching = [line for line in known if self._matches(line)]
            later = [line for line in matching if line.key > shown_to]
            self._view.clear()
            self._view.extend(line for line in matching if line.key <= shown_to)
            self._fresh.clear()
            self._fresh.extend(later)
            self._fresh_count = len(later)
            self._stale = True

    def pause(self) -> None:
        """Leave the view as it is. What comes is kept and counted anyway."""
        with self._lock:
            if not self.paused:
                self.paused = True
                self._pause_key = self._last_key
                # What came before the pause is shown, though it was not sent yet.
                self._stale = self._stale or bool(self._fresh)
                self._move_fresh()

    def resume(self) -> None:
        """Resume: the next update contains what arrived during the pause, up to the limits."""
        self.paused = False

    def refresh(self) -> None:
        """Let the next batch be the whole view, for a table that knows nothing yet."""
        self._stale = True

    def take(self) -> Batch | None:
        """What the table does not know yet; None if it knows all. Nothing new during a pause."""
        with self._lock:
            fresh: tuple[Line, ...] = ()
            if not self.paused:
                fresh = tuple(reversed(self._fresh))
                self._move_fresh()
            if self._stale or len(fresh) == self.max_rows:
                self._stale = False
                return Batch(reset=True, lines=tuple(reversed(self._view)))
            return Batch(reset=False, lines=fresh) if fresh else None

    def _move_fresh(self) -> None:
        self._view.extend(self._fresh)
        self._fresh.clear()
        self._fresh_count = 0

    # Asking

    @property
    def received(self) -> int:
        """How many events came."""
        return self._received

    def pin(self, keys: tuple[int, ...]) -> None:
        """Keep exactly these lines regardless of new ones: a person has selected them."""
        with self._lock:
            found = {key: self.find(key) for key in keys}
            self._pinned = {key: line for key, line in found.items() if line is not None}

    def find(self, key: int) -> Line | None:
        """The line of a row; None if it is not kept any more."""
        with self._lock:
            if key in self._pinned:
                return self._pinned[key]
            place = key - self._kept[0].key if self._kept else -1
            if 0 <= place < len(self._kept):
                return self._kept[place]
            return next((line for line in self._view if line.key == key), None)

    def lines(self) -> tuple[Line, ...]:
        """The lines that match the filter, newest first, at most ``max_rows``; pause or not."""
        with self._lock:
            newest = (*self._view, *self._fresh)[-self.max_rows :]
            return tuple(reversed(newest))

    def events(self) -> list[Event]:
        """The events that are kept, newest first, whatever the filter."""
        with self._lock:
            return [line.event for line in reversed(self._kept) if line.event is not None]

    def tools(self) -> tuple[str, ...]:
        """The names of the tools seen, sorted, at most 200."""
        with self._lock:
            return tuple(self._history.tools())

    def pulse(self, now_s: float, tools_max: int) -> Pulse:
        """How it went in the last five minutes, whatever the filter.

        Args:
            now_s: the clock that :meth:`add` was given.
            tools_max: for how many tools.
        """
        with self._lock:
            return self._history.pulse(now_s, tools_max)

    def counts(self, now_s: float) -> TailCounts:
        """What came so far.

        Args:
            now_s: the clock that :meth:`add` was given.
        """
        with self._lock:
            first_second = int(now_s) - _RATE_WINDOW_S + 1
            recent = self._history.calls_since(first_second)
            since_s = max(first_second, now_s if self._started_s is None else self._started_s)
            return TailCounts(
                received=self._received,
                failed=self._failed,
                gaps=self._gaps,
                kept=len(self._kept),
                waiting=self._fresh_count if self.paused else 0,
                unseen=self._unseen,
                per_second=recent / max(now_s - since_s, 1.0),
            )
