"""What a live stream did not bring, read from the list of events by time.

Events are not stored in order of their time: the time is the start of the call, and a slow call is
stored long after calls that started later. A search for events stored since a moment must therefore
start earlier than that by the longest call's duration, and skip events that had ended, and so were
stored, well before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.portal.http import moment_of_us
from mcpaudit_lab.portal.stream.dedupe import Dedupe, Key, end_us, key_of

if TYPE_CHECKING:
    from mcpaudit_lab.portal.http import PortalReader
    from mcpaudit_lab.record import Event

__all__ = ["Backfill"]

_SECOND_US: Final = 1_000_000
# Before a longer one was seen, calls are expected to take no longer.
_CALL_US: Final = 30 * _SECOND_US
# A row may claim that its call took years; the search never goes back that far.
_LONGEST_US: Final = 3600 * _SECOND_US
# Frames of calls that began so close together are looked up together.
_NEAR_US: Final = _SECOND_US
# Forgetting looks at all that is known, so not for every event.
_FORGET_US: Final = 10 * _SECOND_US
# How much time is listed at once, at first, and how many rows that should be.
_SLICE_US: Final = 300 * _SECOND_US
_FEW_ROWS: Final = 500
_MANY_ROWS: Final = 5000


class Backfill:
    """Finds events that were stored but not delivered, and the rows for frames without an id.

    All times are the portal's, in microseconds since 1970-01-01 UTC.

    Args:
        portal: whom to ask.
        filters: which events; all filters must hold.
        lag_s: how long after its end a call may be stored at most, differences of clocks included.
        now_us: the portal's time.
    """

    def __init__(
        self,
        portal: PortalReader,
        filters: Iterable[EventFilter],
        *,
        lag_s: float,
        now_us: Callable[[], int],
    ) -> None:
        self.seen = Dedupe()
        self.known_until_us = 0
        """Everything that was stored before this moment has been handed out, or is not wanted."""
        self._portal = portal
        self._filters = tuple(filters)
        self._lag_us = int(lag_s * _SECOND_US)
        self._now_us = now_us
        self._longest_us = _CALL_US
        self._forget_at_us = 0

    def begin(self) -> None:
        """Mark every event stored so far as delivered.

        Raises:
            PortalError: the portal cannot be asked.
        """
        # Any answer tells the portal's time.
        self._portal.list_once(self._portal.request(), limit=1)
        begun_us = self._now_us()
        seen = Dedupe()
        for event in self._list(begun_us - self._lag_us - self._longest_us, None):
            self.note_duration(event)
            seen.add(event)
        self.seen, self.known_until_us = seen, begun_us

    def note_duration(self, event: Event) -> None:
        """Look back further from now on, if this call took long: half as long again as the longest.

        The most is an hour.
        """
        took_us = 1500 * event.duration_ms
        self._longest_us = min(max(self._longest_us, took_us), _LONGEST_US)

    def know_until_now(self) -> None:
        """Take everything that is stored by now as known."""
        self._know_until(self._now_us())

    def fill(self) -> Iterator[Event]:
        """The events stored and not handed out, in the order their calls ended.

        Once it is exhausted, everything that was stored when it began is known.

        Raises:
            PortalError: the portal cannot be asked. What was given until then is noted.
        """
        begun_us = self._now_us()
        stored_us = self.known_until_us - self._lag_us
        for event in self._list_in_order(stored_us - self._longest_us, begun_us):
            self.note_duration(event)
            if end_us(event) >= stored_us and not self.seen.has(event):
                self.seen.add(event)
                yield event
        self._know_until(begun_us)

    def identify(self, frames: Iterable[Event]) -> tuple[list[Event], int, list[Event]]:
        """The rows of events that came without an id, or that only a row can be asked about.

        Returns:
            The rows not yet delivered; the number of frames for other rows; and the frames without
            a row, or without a wanted one.

        Raises:
            PortalError: the portal cannot be asked. Nothing is noted then.
        """
        waiting: defaultdict[Key, list[Event]] = defaultdict(list)
        for frame in frames:
            waiting[key_of(frame)].append(frame)
        rows: defaultdict[Key, list[Event]] = defaultdict(list)
        for first_us, last_us in _windows(waiting):
            for row in self._list(first_us, last_us):
                if (key := key_of(row)) in waiting:
                    rows[key].append(row)
        new: list[Event] = []
        duplicates = 0
        missing: list[Event] = []
        for key, found in waiting.items():
            # Of several rows that nothing tells apart, those not handed out are meant first.
            fresh = [row for row in rows[key] if not self.seen.has_id(row)][: len(found)]
            again = min(len(rows[key]) - len(fresh), len(found) - len(fresh))
            new += fresh
            duplicates += again
            missing += found[len(fresh) + again :]
        for row in new:
            self.seen.add(row)
        return sorted(new, key=end_us), duplicates, missing

    def _know_until(self, moment_us: int) -> None:
        self.known_until_us = max(moment_us, self.known_until_us)
        if self.known_until_us >= self._forget_at_us:
            self.seen.forget_before(self.known_until_us - self._lag_us)
            self._forget_at_us = self.known_until_us + _FORGET_US

    def _list(self, first_us: int, last_us: int | None) -> Iterator[Event]:
        window = EventFilter(
            from_=moment_of_us(first_us), to=None if last_us is None else moment_of_us(last_us)
        )
        return self._portal.events(*self._filters, window)

    def _list_in_order(self, first_us: int, now_us: int) -> Iterator[Event]:
        """Rows of calls that began at a moment or later, a slice of time after the other."""
        width_us = _SLICE_US
        while True:
            next_us = first_us + width_us
            is_last = next_us > now_us
            rows = sorted(self._list(first_us, None if is_last else next_us - 1), key=end_us)
            yield from rows
            if is_last:
                return
            first_us = next_us
            if len(rows) < _FEW_ROWS:
                width_us *= 2
            elif len(rows) > _MANY_ROWS:
                width_us = max(width_us // 2, _SECOND_US)


def _windows(waiting: Iterable[Key]) -> list[tuple[int, int]]:
    """The times of these, as few windows as their nearness allows."""
    windows: list[tuple[int, int]] = []
    for moment_us in sorted(key[0] for key in waiting):
        if windows and moment_us - windows[-1][1] <= _NEAR_US:
            windows[-1] = windows[-1][0], moment_us
        else:
            windows.append((moment_us, moment_us))
    return windows
