"""The live stream of a portal, connected again whenever it ends, with nothing missing.

Our portal numbers its events in order of commit: a connection resumes after the last number, and a
reader that was too slow is told where to resume. The reference server has no numbers, drops events
silently, and sends frames without ids: events stored in the meantime are found in the list of
events (:mod:`mcpaudit_lab.portal.stream.backfill`), after each connection and every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from secrets import SystemRandom
from typing import TYPE_CHECKING, Final, Self

from mcpaudit_lab.errors import (
    BadAnswer,
    FilterError,
    PortalError,
    PortalUnavailable,
    RateLimited,
)
from mcpaudit_lab.portal.http import Interruption, PortalClock
from mcpaudit_lab.portal.stream.decoder import StreamDecoder
from mcpaudit_lab.portal.stream.sse import MAX_FRAME_BYTES, FrameReader
from mcpaudit_lab.record import visible

if TYPE_CHECKING:
    import httpx2

    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.portal.http import PortalReader
    from mcpaudit_lab.portal.stream.items import Gap, StreamCounters, StreamState
    from mcpaudit_lab.record import Event

__all__ = ["EventStream"]

_HEADERS: Final = {
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",
    "Cache-Control": "no-store",
}
_TIMEOUT_S: Final = 10.0
_MOST_PAUSE_S: Final = 30.0
# A connection that lasted this long counts as good, even without events.
_GOOD_S: Final = 10.0
_RANDOM: Final = SystemRandom()


class EventStream:
    """An iterator over a portal's events as they are stored: :class:`Event`, and :class:`Gap`.

    It starts with events stored after the first step of the iteration, ends with :meth:`stop`, and
    otherwise never ends: a connection that is lost or silent for too long is opened again after
    growing pauses. Each event comes once, without its payload: live events in the order they were
    stored, backfilled ones by the end of their calls.

    One thread iterates; any may stop it and look at :attr:`state`, :attr:`counters` and
    :attr:`problem`. Made by :meth:`PortalClient.stream`.

    Args:
        portal: the portal. Connections are the stream's own.
        filters: which events; all filters must hold. The client checks what the portal cannot
            filter by.
        backoff_s: the first pause before connecting again; it doubles up to 30 s, with jitter. The
            portal's ``retry:`` takes its place. 0 for none.
        silence_s: a connection without any data for this long is lost.
        check_s: interval at which silent drops are looked for, at a portal without numbers.
        lag_s: how long after its end a call may be stored at most.
        max_frame_bytes: the most that one frame may have.
        clock: seconds since 1970-01-01 UTC.
        jitter: a number from 0 to 1, by chance.

    Raises:
        FilterError: a filter has a limit or offset, which a stream has not.

    Iterating raises :class:`Unauthorized` if the key is not or no longer valid, and other kinds of
    :class:`PortalError` if the URL has no portal's stream.
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
        self._intake = StreamDecoder(
            self._portal, wanted, self._clock, lag_s=lag_s, check_s=check_s
        )
        self._backoff_s = backoff_s
        self._silence_s = silence_s
        self._max_frame_bytes = max_frame_bytes
        self._jitter = jitter
        self._state: StreamState = "connecting"
        self._problem = ""
        self._was_live = False
        # How many connections in a row were not good.
        self._failures = 0
        self._resume_now = False
        self._items = self._run()

    @property
    def state(self) -> StreamState:
        """``connecting``, ``live``, ``reconnecting`` or ``stopped``."""
        return "stopped" if self._interruption.is_set() else self._state

    @property
    def counters(self) -> StreamCounters:
        """The figures now."""
        return self._intake.tally.counters()

    @property
    def problem(self) -> str:
        """Why the last connection ended, for people; empty while all is well."""
        return self._problem

    def stop(self) -> None:
        """End the iteration, at once also when the portal says nothing. From any thread.

        A connection that is just being made, to an address or a TLS server that does not answer,
        takes until its time limit: three seconds. A second time does nothing.
        """
        self._interruption.interrupt()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event | Gap:
        return next(self._items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        # A thread that iterates closes its own connection.
        with suppress(ValueError):
            self._items.close()

    def __repr__(self) -> str:
        return f"EventStream({self.url!r}, {self.state}, {self._intake.tally.received} events)"

    # Connections

    def _run(self) -> Generator[Event | Gap]:
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
            self._portal.close()

    def _give_up_on(self, failure: PortalError) -> None:
        """Raise failures that will not resolve themselves."""
        if failure.status == 400 and self._intake.last_id is not None:
            # The portal no longer has such numbers: another database, or another kind of portal.
            self._intake.last_id = None
            return
        passing = isinstance(failure, PortalUnavailable | RateLimited) or self._was_live
        if failure.status in (401, 403) or not passing:
            raise failure

    def _pause_s(self, failure: PortalError | None) -> float:
        first_s = self._backoff_s if self._intake.retry_s is None else self._intake.retry_s
        most_s = min(first_s * 2.0 ** min(self._failures, 16), _MOST_PAUSE_S)
        self._failures += 1
        least_s = failure.retry_after_s if isinstance(failure, RateLimited) else 0.0
        return max(least_s, most_s * (1 + self._jitter()) / 2)

    def _attend(self) -> Iterator[Event | Gap]:
        """One connection, from its beginning to its end."""
        intake = self._intake
        intake.prepare()
        last_id = intake.last_id
        headers = _HEADERS if last_id is None else {**_HEADERS, "Last-Event-ID": last_id}
        response = self._portal.open_stream(intake.query, headers, silence_s=self._silence_s)
        try:
            self._check_kind(response)
            if self._was_live and not self._resume_now:
                intake.tally.reconnections += 1
            self._was_live, self._resume_now = True, False
            self._state, self._problem = "live", ""
            since_us = self._clock.now_us()
            yield from intake.begin_connection(resumed=last_id is not None)
            reader = FrameReader(self._max_frame_bytes)
            for chunk in self._chunks(response):
                yield from intake.take(reader.feed(chunk))
                if intake.has_brought or self._clock.now_us() - since_us > _GOOD_S * 1e6:
                    self._failures = 0
                if intake.must_return:
                    # At once, unless this is all that such connections do.
                    self._resume_now = intake.has_brought
                    return
        finally:
            response.close()

    def _check_kind(self, response: httpx2.Response) -> None:
        kind = response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            raise BadAnswer(
                f"the stream of {self.url} is none ({visible(kind) or 'no type'}); is there a "
                "portal at this URL?",
                status=response.status_code,
            )

    def _chunks(self, response: httpx2.Response) -> Iterator[bytes]:
        """The bytes of one connection until it is lost, or there was silence for too long."""
        import httpx2

        why = "the portal ended the connection"
        try:
            for chunk in response.iter_bytes():
                if self._interruption.is_set():
                    return
                yield chunk
        except httpx2.ReadTimeout:
            why = f"no data for {self._silence_s:g} s"
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            why = f"the connection broke: {visible(str(error))}"
        # stop() breaks the connection from this side, which is not a problem.
        if not self._interruption.is_set():
            self._problem = why
