"""The live stream of a portal, connected again whenever it ends, with nothing missing.

Our portal numbers its events in order of commit, so a connection goes on behind the last number and
a reader that was too slow is told from where to read again. The reference server numbers nothing,
drops without a word, and its frames have no ids: what was stored meanwhile is found in the list of
events (:mod:`mcpaudit_lab.client.filling`), after each connection and every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from secrets import SystemRandom
from typing import TYPE_CHECKING, Final, Self

from mcpaudit_lab.client.filling import Filling
from mcpaudit_lab.client.interruption import Interruption
from mcpaudit_lab.client.portal_time import PortalClock, moment_of_us
from mcpaudit_lab.client.question import put_question
from mcpaudit_lab.client.seen import end_us
from mcpaudit_lab.client.sse import MAX_FRAME_BYTES, Comment, Frame, FrameReader
from mcpaudit_lab.client.stream_items import Gap, StreamCounters, StreamState, Tally
from mcpaudit_lab.errors import (
    BadAnswer,
    FilterError,
    PortalError,
    PortalUnavailable,
    RateLimited,
    RecordError,
    Unauthorized,
)
from mcpaudit_lab.events import Event
from mcpaudit_lab.jsontext import loads
from mcpaudit_lab.terminal import visible

if TYPE_CHECKING:
    import httpx2

    from mcpaudit_lab.client.reading import PortalReader
    from mcpaudit_lab.filters import EventFilter

__all__ = ["EventStream"]

_HEADERS: Final = {
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",
    "Cache-Control": "no-store",
}
_TIMEOUT_S: Final = 10.0
_MOST_PAUSE_S: Final = 30.0
# A connection that lasted so long, or brought an event, was a good one.
_GOOD_S: Final = 10.0
# After so many failures to read the list in a row, what is missing counts as a gap.
_FILL_ATTEMPTS: Final = 5
# So often a row is looked for that a frame tells of.
_LOOKS: Final = 3
_ID_CHARS: Final = 256
_RANDOM: Final = SystemRandom()


class EventStream:
    """An iterator over a portal's events as they are stored: :class:`Event`, and :class:`Gap`.

    It begins with what is stored after the first step of the iteration, ends with :meth:`stop`, and
    otherwise goes on for ever: a connection that is lost, or says nothing for too long, is made
    again with growing pauses. Each event comes once, without its payload; those of one connection
    in the order they were stored, those filled in by the end of their calls.

    One thread iterates; any may stop it and look at :attr:`state`, :attr:`counters` and
    :attr:`problem`. Made by :meth:`PortalClient.stream`.

    Args:
        portal: the portal. Connections are the stream's own.
        filters: which events, all of which must hold. What the portal does not filter by, the
            client checks.
        backoff_s: the first pause before connecting again; it doubles up to 30 s, with jitter. The
            portal's ``retry:`` takes its place. 0 for none.
        silence_s: nothing for so long, not even a sign of life, is a lost connection.
        check_s: how often to look for what was dropped silently, at a portal without numbers.
        lag_s: how long after its end a call may be stored at most.
        max_frame_bytes: the most that one frame may have.
        clock: seconds since 1970-01-01 UTC.
        jitter: a number from 0 to 1, by chance.

    Raises:
        FilterError: a filter has a limit or offset, which a stream has not.

    Iterating raises :class:`Unauthorized` when the key is not known, or not any more; and other
    kinds of :class:`PortalError` where there is no portal's stream at all.
    """

    def __init__(
        self,
        portal: PortalReader,
        filters: Iterable[EventFilter] = (),
        *,
        backoff_s: float = 0.25,
        silence_s: float = 75.0,
        check_s: float = 15.0,
        lag_s: float = 30.0,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = _RANDOM.random,
    ) -> None:
        wanted = tuple(filters)
        if any(item.limit is not None or item.offset for item in wanted):
            raise FilterError("a stream has no limit and no offset")
        self.url = portal.url
        self._interruption = Interruption()
        self._clock = PortalClock(clock)
        self._portal = portal.apart(
            {"request": [self._interruption.watch], "response": [self._clock.learn]},
            timeout_s=_TIMEOUT_S,
        )
        self._jitter = jitter
        self._filling = Filling(self._portal, wanted, lag_s=lag_s, now_us=self._clock.now_us)
        # The reference server's stream takes no filters, and minds none; ours takes all of these.
        self._question = put_question(wanted, reference=False)
        sent = self._question.sent
        # Summaries, such as frames are, say nothing about these.
        self._asks_payload = self._question.details is not None or bool(
            sent.params or sent.responses or sent.headers or sent.has
        )
        self._backoff_s = backoff_s
        self._silence_s = silence_s
        self._check_us = int(check_s * 1e6)
        self._max_frame_bytes = max_frame_bytes
        self._tally = Tally()
        self._state: StreamState = "connecting"
        self._problem = ""
        self._last_id: str | None = None
        self._was_live = False
        # How often in a row connecting, and then filling, failed.
        self._failures = 0
        self._fill_failures = 0
        self._resume_now = False
        self._connected_us = 0
        # Events without an id, whose rows were not found yet, and how often they were looked for.
        self._waiting: list[tuple[Event, int]] = []
        self._items = self._run()

    @property
    def state(self) -> StreamState:
        """``connecting``, ``live``, ``reconnecting`` or ``stopped``."""
        return self._state

    @property
    def counters(self) -> StreamCounters:
        """The figures now."""
        return self._tally.counters()

    @property
    def problem(self) -> str:
        """Why the last connection ended, for people; empty while all is well."""
        return self._problem

    def stop(self) -> None:
        """End the iteration, at once also when the portal says nothing. From any thread.

        A connection that is just being made to an address that does not answer takes until its time
        limit, three seconds at most. A second time does nothing.
        """
        self._interruption.interrupt()
        self._state = "stopped"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event | Gap:
        return next(self._items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        counted = self.counters
        return f"EventStream({self.url!r}, {self.state}, {counted.received} events)"

    # Connections

    def _run(self) -> Iterator[Event | Gap]:
        try:
            while not self._interruption.is_set():
                failure: PortalError | None = None
                try:
                    yield from self._attend()
                except PortalError as error:
                    failure = error
                if self._interruption.is_set():
                    return
                if failure is not None:
                    self._give_up_on(failure)
                    self._problem = visible(str(failure))
                if self._was_live:
                    self._state = "reconnecting"
                if not self._resume_now and self._interruption.wait(self._pause_s(failure)):
                    return
        finally:
            self._interruption.interrupt()
            self._state = "stopped"
            self._portal.close()

    def _give_up_on(self, failure: PortalError) -> None:
        """Raise what will not pass by itself."""
        if failure.status == 400 and self._last_id is not None:
            # It gives no such numbers any more: another database, or another kind of portal.
            self._last_id = None
            return
        passing = isinstance(failure, PortalUnavailable | RateLimited) or self._was_live
        if failure.status in (401, 403) or not passing:
            raise failure

    def _pause_s(self, failure: PortalError | None) -> float:
        self._failures += 1
        least_s = failure.retry_after_s if isinstance(failure, RateLimited) else 0.0
        most_s = min(self._backoff_s * 2.0 ** min(self._failures - 1, 16), _MOST_PAUSE_S)
        return max(least_s, most_s * (1 + self._jitter()) / 2)

    def _attend(self) -> Iterator[Event | Gap]:
        """One connection, from its beginning to its end."""
        if not self._filling.known_until_us:
            self._filling.begin()
        resumed = self._last_id is not None
        headers = {**_HEADERS, **({"Last-Event-ID": self._last_id} if self._last_id else {})}
        query = self._question.query()
        response = self._portal.open_stream(query, headers, silence_s=self._silence_s)
        try:
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise BadAnswer(
                    f"the stream of {self.url} is none ({visible(kind) or 'no type'}); is there a "
                    "portal at this URL?",
                    status=response.status_code,
                )
            self._begin_connection()
            if not resumed:
                yield from self._fill_in()
            yield from self._read(response, resumed=resumed)
        finally:
            response.close()

    def _begin_connection(self) -> None:
        if self._was_live and not self._resume_now:
            self._tally.reconnections += 1
        self._was_live = True
        self._resume_now = False
        self._connected_us = self._clock.now_us()
        self._problem = ""
        self._waiting = []
        if not self._interruption.is_set():
            self._state = "live"

    def _read(self, response: httpx2.Response, *, resumed: bool) -> Iterator[Event | Gap]:
        reader = FrameReader(self._max_frame_bytes)
        for chunk in self._chunks(response):
            frames: list[Event] = []
            for item in reader.feed(chunk):
                if isinstance(item, Comment):
                    continue
                if item.retry_ms is not None:
                    self._backoff_s = min(item.retry_ms / 1000, _MOST_PAUSE_S)
                if item.event == "gap" and self._turn_back(item):
                    return
                yield from self._take(item, frames, resumed=resumed)
            if frames or self._waiting:
                yield from self._identify(frames)
            if self._clock.now_us() - self._connected_us > _GOOD_S * 1e6:
                self._failures = 0
            due_us = self._filling.known_until_us + self._check_us
            if self._last_id is None and self._clock.now_us() >= due_us:
                yield from self._fill_in()

    def _chunks(self, response: httpx2.Response) -> Iterator[bytes]:
        """The bytes of one connection until it is lost, or there was silence for too long."""
        import httpx2

        self_ended = "the portal ended the connection"
        try:
            for chunk in response.iter_bytes():
                if self._interruption.is_set():
                    return
                yield chunk
        except httpx2.ReadTimeout:
            self_ended = f"nothing came for {self._silence_s:g} s"
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            self_ended = f"the connection broke: {visible(str(error))}"
        self._problem = self_ended

    # Frames

    def _turn_back(self, frame: Frame) -> bool:
        """Whether a portal that says it left events out can send them again."""
        try:
            told = loads(frame.data or "")
        except RecordError:
            return False
        after = told.get("resume_from") if isinstance(told, dict) else None
        if not isinstance(after, str) or not _is_sendable(after):
            return False
        # At once only where this connection brought something: else that would go on for ever.
        self._resume_now = after != self._last_id or self._failures == 0
        self._last_id = after
        return True

    def _take(
        self, frame: Frame, unnumbered: list[Event], *, resumed: bool
    ) -> Iterator[Event | Gap]:
        """One frame; an event without a number is put aside, to be identified."""
        if frame.id is not None and _is_sendable(frame.id):
            self._last_id = frame.id
        if frame.event == "gap":
            yield self._gap("the portal left events out, and does not say from where to read")
        if frame.event != "audit" or (frame.data is None and not frame.too_long):
            return
        try:
            event = Event.from_json(frame.data or "")
        except RecordError as error:
            why = "too long" if frame.too_long else error.detail
            yield from self._replace(f"a frame could not be read: {why}")
            return
        self._failures = 0
        self._filling.note_duration(event)
        if frame.id is None or not event.id:
            if self._question.wants(event):
                unnumbered.append(event)
            return
        self._filling.know_until_now()
        if self._filling.seen.has(event):
            self._tally.duplicates += 1
        elif self._wants(event):
            self._filling.seen.add(event)
            yield self._hand_out(event, live=not resumed or end_us(event) >= self._connected_us)

    def _wants(self, event: Event) -> bool:
        if not self._question.wants(event):
            return False
        details = self._question.details
        return details is None or details.matches(self._portal.event(event.id))

    def _identify(self, frames: Iterable[Event]) -> Iterator[Event]:
        """Hand out the rows of frames that have no number, and maybe no id."""
        looks = [*self._waiting, *((event, 0) for event in frames)]
        found, duplicates, missing = self._filling.identify(event for event, _ in looks)
        self._waiting = []
        self._tally.duplicates += duplicates
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
        self._tally.received += 1
        if live:
            self._tally.note_delay((self._clock.here_us() - end_us(event)) / 1e3)
        else:
            self._tally.filled += 1
        return event

    # Gaps

    def _fill_in(self) -> Iterator[Event | Gap]:
        """Hand out what was stored and did not come.

        Raises:
            PortalError: that failed, and may not fail again.
        """
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
        if isinstance(failure, Unauthorized) or self._interruption.is_set():
            raise failure
        if self._fill_failures < _FILL_ATTEMPTS:
            raise PortalUnavailable(str(failure), status=failure.status, text=failure.text)
        self._fill_failures = 0
        yield self._gap(str(failure))

    def _replace(self, reason: str) -> Iterator[Event | Gap]:
        """Read from the list what a frame should have told."""
        found = False
        for item in self._fill_in():
            found = True
            yield item
        if not found:
            yield self._gap(reason, 1)

    def _gap(self, reason: str, missed: int | None = None) -> Gap:
        self._tally.gaps += 1
        from_ = moment_of_us(self._filling.known_until_us)
        self._filling.know_until_now()
        to = moment_of_us(self._filling.known_until_us)
        return Gap(from_, to, missed, visible(reason))


def _is_sendable(event_id: str) -> bool:
    """Whether an id can be sent back in a header."""
    return 0 < len(event_id) <= _ID_CHARS and event_id.isascii() and event_id.isprintable()
