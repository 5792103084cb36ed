"""Decodes stream frames into events, without duplicates; fills gaps or reports them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.errors import PortalError, PortalUnavailable, RecordError, Unauthorized
from mcpaudit_lab.portal.http import UNREADABLE_STATUS, make_request, moment_of_us, on_summaries
from mcpaudit_lab.portal.stream.backfill import Backfill
from mcpaudit_lab.portal.stream.dedupe import end_us
from mcpaudit_lab.portal.stream.items import Gap, Tally
from mcpaudit_lab.portal.stream.sse import Comment, Frame
from mcpaudit_lab.record import Event, loads, visible

if TYPE_CHECKING:
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.portal.http import PortalClock, PortalReader

__all__ = ["StreamDecoder"]

# After this many consecutive failures to read the list, missing events count as a gap.
_FILL_ATTEMPTS: Final = 5
# Maximum lookups for the row behind one stream frame.
_LOOKS: Final = 3
_ID_CHARS: Final = 256
_MOST_RETRY_S: Final = 30.0


class StreamDecoder:
    """Turns frames into events and gaps. It is one for all connections of a stream.

    Args:
        portal: where to list events.
        filters: which events; all filters must hold.
        clock: the portal's time.
        lag_s: how long after its end a call may be stored at most.
        check_s: interval at which silent drops are looked for, at a portal without numbers.

    Attributes:
        tally: the counters.
        query: the filters for the stream, as a query string.
        last_id: the number to go on behind; None at a portal without numbers, or before the first.
        retry_s: the portal's requested pause before the next connection; None: not set.
        must_return: the portal left events out: this connection ends, and the next goes on behind
            ``last_id``.
        has_brought: whether this connection brought an event.
    """

    def __init__(
        self,
        portal: PortalReader,
        filters: Iterable[EventFilter],
        clock: PortalClock,
        *,
        lag_s: float,
        check_s: float,
    ) -> None:
        wanted = tuple(filters)
        self.tally = Tally()
        self.last_id: str | None = None
        self.retry_s: float | None = None
        self.must_return = False
        self.has_brought = False
        self._portal = portal
        self._clock = clock
        self._check_us = int(check_s * 1e6)
        self._filling = Backfill(portal, wanted, lag_s=lag_s, now_us=clock.now_us)
        # The reference server's stream takes no filters, and minds none; ours takes all of these.
        request = make_request(wanted, reference=False)
        self.query = request.query()
        self._checks = tuple(on_summaries(item) for item in wanted)
        self._details = request.details
        sent = request.sent
        # Summaries, such as frames are, say nothing about these.
        self._asks_payload = self._details is not None or bool(
            sent.params or sent.responses or sent.headers or sent.has
        )
        self._resumed_us: int | None = None
        self._fill_failures = 0
        # Events without an id, whose rows were not found yet, and how often they were looked for.
        self._waiting: list[tuple[Event, int]] = []

    def prepare(self) -> None:
        """Mark every event stored so far as delivered. Runs once.

        Raises:
            PortalError: the portal cannot be asked.
        """
        if not self._filling.known_until_us:
            self._filling.begin()

    def begin_connection(self, *, resumed: bool) -> Iterator[Event | Gap]:
        """Handle a new connection; yields events stored before it that it does not replay.

        Args:
            resumed: whether it goes on behind ``last_id``.

        Raises:
            PortalError: that could not be found out, and may be the next time.
        """
        self.must_return = self.has_brought = False
        self._waiting = []
        self._resumed_us = self._clock.now_us() if resumed else None
        if not resumed:
            yield from self._fill()

    def take(self, items: Iterable[Frame | Comment]) -> Iterator[Event | Gap]:
        """What came at once: frames, and signs of life.

        Raises:
            PortalError: rows could not be listed. The connection is to be made again, which finds
                them.
        """
        unnumbered: list[Event] = []
        for item in items:
            if isinstance(item, Frame) and not self.must_return:
                yield from self._take_frame(item, unnumbered)
        if unnumbered or self._waiting:
            yield from self._identify(unnumbered)
        due_us = self._filling.known_until_us + self._check_us
        if self.last_id is None and self._clock.now_us() >= due_us:
            yield from self._fill()

    # Frames

    def _take_frame(self, frame: Frame, unnumbered: list[Event]) -> Iterator[Event | Gap]:
        """One frame; an event without a number is put aside, to be identified."""
        if frame.retry_ms is not None:
            self.retry_s = min(frame.retry_ms / 1000, _MOST_RETRY_S)
        if frame.event == "gap":
            yield from self._turn_back(frame)
        elif frame.event == "audit" and (frame.data is not None or frame.too_long):
            yield from self._take_event(frame, unnumbered)
        elif frame.data is None:
            self._reach(frame.id)

    def _turn_back(self, frame: Frame) -> Iterator[Gap]:
        after = _resume_from(frame)
        if after is None:
            yield self._gap("the portal left events out, and does not say where to read on")
        else:
            self.last_id, self.must_return = after, True

    def _take_event(self, frame: Frame, unnumbered: list[Event]) -> Iterator[Event | Gap]:
        try:
            event = Event.from_json(frame.data or "")
        except RecordError as error:
            why = "it is too long" if frame.too_long else error.detail
            yield from self._replace(f"a frame could not be read: {why}")
            self._reach(frame.id)
            return
        self.has_brought = True
        self._filling.note_duration(event)
        if frame.id is None or not event.id:
            if self._matches(event):
                unnumbered.append(event)
            return
        # Fetch it before the number counts as reached: if that fails, the event is sent again.
        is_new = not self._filling.seen.has(event)
        is_wanted = is_new and self._wants(event)
        self._reach(frame.id)
        self._filling.know_until_now()
        if not is_new:
            self.tally.duplicates += 1
        elif is_wanted:
            self._filling.seen.add(event)
            again = self._resumed_us is not None and end_us(event) < self._resumed_us
            yield self._hand_out(event, live=not again)

    def _reach(self, event_id: str | None) -> None:
        if event_id is not None and _is_sendable(event_id):
            self.last_id = event_id

    def _matches(self, event: Event) -> bool:
        """Whether a summary matches, if the summary alone can decide."""
        return all(item.matches(event) for item in self._checks)

    def _wants(self, event: Event) -> bool:
        if self._details is None or not self._matches(event):
            return self._matches(event)
        try:
            return self._details.matches(self._portal.event(event.id))
        except PortalError as error:
            if error.status != UNREADABLE_STATUS:
                raise
            # Nothing can be asked of a payload that cannot be read, now or after a reconnection.
            return False

    def _identify(self, frames: Iterable[Event]) -> Iterator[Event]:
        """Hand out the rows of frames that have no number, and maybe no id."""
        looks = [*self._waiting, *((event, 0) for event in frames)]
        found, duplicates, missing = self._filling.identify(event for event, _ in looks)
        self._waiting = []
        self.tally.duplicates += duplicates
        for event in found:
            yield self._hand_out(event, live=True)
        if self._asks_payload:
            # The list was asked about the payload too: these are not wanted.
            return
        tries = {id(event): count + 1 for event, count in looks}
        for event in missing:
            if tries[id(event)] < _LOOKS:
                self._waiting.append((event, tries[id(event)]))
            else:
                self._filling.seen.add(event)
                yield self._hand_out(event, live=True)

    def _hand_out(self, event: Event, *, live: bool) -> Event:
        self.tally.received += 1
        if live:
            self.tally.note_delay((self._clock.here_us() - end_us(event)) / 1e3)
        else:
            self.tally.filled += 1
        return event

    # Gaps

    def _fill(self) -> Iterator[Event | Gap]:
        """Deliver the events that were stored but not received."""
        failure: PortalError | None = None
        try:
            for event in self._filling.fill():
                yield self._hand_out(event, live=False)
        except PortalError as error:
            failure = error
        if failure is None:
            self._fill_failures = 0
            return
        self._fill_failures += 1
        if isinstance(failure, Unauthorized):
            raise failure
        if self._fill_failures < _FILL_ATTEMPTS:
            raise PortalUnavailable(str(failure), status=failure.status, text=failure.text)
        self._fill_failures = 0
        yield self._gap(str(failure))

    def _replace(self, reason: str) -> Iterator[Event | Gap]:
        """Read from the list the event that a bad frame announced."""
        found = False
        for item in self._fill():
            found = True
            yield item
        if not found:
            yield self._gap(reason, 1)

    def _gap(self, reason: str, missed: int | None = None) -> Gap:
        self.tally.gaps += 1
        from_ = moment_of_us(self._filling.known_until_us)
        self._filling.know_until_now()
        to = moment_of_us(self._filling.known_until_us)
        return Gap(from_, to, missed, visible(reason))


def _resume_from(frame: Frame) -> str | None:
    """The id to go on behind, of a portal that says it left events out."""
    try:
        told = loads(frame.data or "")
    except RecordError:
        return None
    after = told.get("resume_from") if isinstance(told, dict) else None
    return after if isinstance(after, str) and _is_sendable(after) else None


def _is_sendable(event_id: str) -> bool:
    """Whether an id can be sent back in a header."""
    return 0 < len(event_id) <= _ID_CHARS and event_id.isascii() and event_id.isprintable()
