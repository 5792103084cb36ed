"""The live stream as a reader sees it: nothing missing, nothing twice, and an end when asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from portals import an_event
from reference_stream import ReferencePortal
from scripted_portal import Connection, ScriptedPortal, frame_of

from mcpaudit_lab import (
    BadAnswer,
    Event,
    EventFilter,
    FilterError,
    Lab,
    PortalClient,
    PortalError,
    PortalNotFound,
    Unauthorized,
)
from mcpaudit_lab.portal.http.clock import PortalClock
from mcpaudit_lab.portal.stream.event_stream import EventStream
from mcpaudit_lab.portal.stream.items import Gap

NOW_S = 1_795_500_000.0


def stream_of(
    transport: ReferencePortal | ScriptedPortal, *filters: EventFilter, **settings: Any
) -> EventStream:
    portal = PortalClient("http://portal.test", "k", transport=transport)
    return EventStream(portal, filters, **{"clock": transport.clock, "backoff_s": 0.0, **settings})


# The reference server


def collect(played: ReferencePortal, *filters: EventFilter, **settings: Any) -> list[Event]:
    """What a stream gives until everything was told of and it is quiet."""
    stream = stream_of(played, *filters, **settings)
    played.on_quiet = stream.stop
    found = list(stream)
    assert [item for item in found if isinstance(item, Gap)] == []
    assert stream.counters.received == len(found)
    return [item for item in found if isinstance(item, Event)]


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.soak) for n in (2, 3))])
def test_the_reference_streams_losses_and_silent_drops_are_filled(seed: int) -> None:
    played = ReferencePortal(1500, seed=seed, losses=20, drop=0.2, repeat_ids=bool(seed % 2))
    events = collect(played)
    assert len(events) == len(played.rows) == 1500
    with Lab() as lab:
        for start in range(0, 1500, 700):
            report = lab.add_events(events[start : start + 700], kind="tail", name="played")
            assert report.loaded == report.lines
        assert {event.id for event in lab.events()} == {row.id for row in played.rows}
        report = lab.add_events(played.rows, kind="tail", name="the portal's own")
        assert report.duplicates == 1500, "each is what the portal stored"


@pytest.mark.parametrize("ahead_s", [-400, 400])
def test_clocks_that_differ_lose_and_double_nothing(ahead_s: int) -> None:
    played = ReferencePortal(400, losses=6, drop=0.3, ahead_us=ahead_s * 1_000_000)
    events = collect(played)
    assert sorted(event.id for event in events) == sorted(row.id for row in played.rows)


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(tool="slow"),
        EventFilter(success=False, min_duration_ms=20),
        EventFilter(tool=["slow", "other"], source="mcp"),
        EventFilter(has="request_params"),
    ],
)
def test_what_the_reference_does_not_filter_by_is_filtered_here(wanted: EventFilter) -> None:
    played = ReferencePortal(400, losses=3, drop=0.2)
    events = collect(played, wanted)
    chosen = {row.id for row in played.rows if wanted.matches(row)}
    assert {event.id for event in events} == chosen
    assert len(events) == len(chosen)


def test_live_frames_are_handed_out_with_the_ids_of_their_rows() -> None:
    played = ReferencePortal(50)
    stream = stream_of(played)
    played.on_quiet = stream.stop
    assert all(isinstance(item, Event) and item.id for item in stream)
    assert stream.counters.received == 50
    assert stream.counters.filled < 5
    delay_ms = stream.counters.median_delay_ms
    assert delay_ms is not None
    assert 0 <= delay_ms < 50


def test_a_frame_whose_row_cannot_be_found_is_handed_out_without_an_id() -> None:
    event = an_event(id="", request_id="r1")
    script = ScriptedPortal([frame_of(event), b": keepalive\n\n", b": keepalive\n\n"])
    stream = stream_of(script)
    script.on_end = stream.stop
    (found,) = stream
    assert isinstance(found, Event)
    assert (found.id, found.request_id) == ("", "r1")


def test_its_row_is_not_handed_out_once_more_when_it_turns_up() -> None:
    moment = datetime.fromtimestamp(NOW_S, UTC)
    event = an_event(id="", request_id="r1", timestamp=moment)
    quiet = [b": keepalive\n\n"] * 3
    script = ScriptedPortal([frame_of(event), *quiet], [b": connected\n\n"])
    stream = stream_of(script)
    script.on_end = stream.stop
    found = []
    for item in stream:
        found.append(item)
        script.rows.append(an_event(request_id="r1", timestamp=moment))
    assert len(found) == 1


# A portal that numbers its events


def play(
    *connections: Connection, rows: list[Event] | None = None, **settings: Any
) -> tuple[list[Event | Gap], ScriptedPortal, EventStream]:
    """What a stream gives for a script, whose rows are stored when it begins to listen."""
    script = ScriptedPortal(*connections)
    script.hidden = rows or []
    stream = stream_of(script, **settings)
    script.on_end = stream.stop
    return list(stream), script, stream


def recent(number: int, **members: Any) -> Event:
    """An event of the time of the script."""
    moment = datetime.fromtimestamp(NOW_S, UTC) - timedelta(seconds=20 - number)
    return an_event(number, **{"timestamp": moment, "payload": None, **members})


EVENTS = [recent(number) for number in range(6)]


def ids(items: list[Event | Gap]) -> list[str]:
    return [item.id if isinstance(item, Event) else "gap" for item in items]


def numbered(*numbers: int) -> bytes:
    return b"".join(frame_of(EVENTS[number - 1], number) for number in numbers)


def test_a_connection_goes_on_behind_the_last_whole_frame() -> None:
    torn = numbered(3)[:-5]
    found, script, stream = play(
        [numbered(1, 2) + torn], [b": connected\n\n"], [numbered(3, 4), httpx2.ReadError("reset")]
    )
    assert ids(found) == [event.id for event in EVENTS[:4]]
    assert script.resumed_from[:4] == [None, "2", "2", "4"]
    assert stream.counters.reconnections == 2
    assert stream.counters.duplicates == stream.counters.gaps == 0
    assert stream.counters.filled == 2, "those sent again had ended before the connection began"
    assert stream.state == "stopped"


def test_a_portal_that_left_events_out_is_read_again_from_there_at_once() -> None:
    told = b'event: gap\ndata: {"missed": 2, "resume_from": "1"}\n\n'
    found, script, stream = play([numbered(1) + told + numbered(4)], [numbered(2, 3, 4)])
    assert ids(found) == [event.id for event in EVENTS[:4]]
    assert script.resumed_from[:2] == [None, "1"]
    assert stream.counters.reconnections == 0
    assert stream.counters.gaps == 0


def test_a_gap_without_a_number_is_told_of_with_its_bounds() -> None:
    found, _, stream = play([numbered(1) + b"event: gap\ndata: {}\n\n" + numbered(4)])
    gap = found[1]
    assert isinstance(gap, Gap)
    assert gap.from_ <= gap.to == datetime.fromtimestamp(NOW_S, UTC)
    assert gap.missed is None
    assert "left events out" in gap.reason
    assert len(found) == 3
    assert stream.counters.gaps == 1


def test_what_comes_twice_is_handed_out_once() -> None:
    found, _, stream = play([numbered(1, 2)], [numbered(1, 2, 3)])
    assert ids(found) == [event.id for event in EVENTS[:3]]
    assert stream.counters.duplicates == 2


def test_what_was_stored_before_the_first_number_came_is_listed() -> None:
    found, script, stream = play([b": connected\n\n"], [numbered(3)], rows=EVENTS[:2])
    assert ids(found) == [event.id for event in EVENTS[:3]]
    assert script.resumed_from[:2] == [None, None]
    assert stream.counters.filled == 2


def test_what_was_stored_before_the_stream_began_is_not_handed_out() -> None:
    script = ScriptedPortal([b": connected\n\n"], [numbered(4)], rows=EVENTS[:2])
    script.hidden = [EVENTS[2]]
    stream = stream_of(script)
    script.on_end = stream.stop
    assert ids(list(stream)) == [EVENTS[2].id, EVENTS[3].id]


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_frame_that_cannot_be_read_is_replaced_by_its_row(length: int) -> None:
    bad = frame_of(EVENTS[1], 2, data="{" + "x" * length)
    script = ScriptedPortal([numbered(1), bad])
    stream = stream_of(script, max_frame_bytes=2000)
    script.on_end = stream.stop
    found: list[Event | Gap] = []
    for item in stream:
        found.append(item)
        script.rows = EVENTS[:2]
    assert ids(found) == [event.id for event in EVENTS[:2]]
    assert script.resumed_from[-1] == "2"


def test_a_frame_that_cannot_be_replaced_is_a_gap_of_one() -> None:
    found, script, _ = play(
        [numbered(1) + b"id: 2\nevent: audit\ndata: nonsense\n\n" + numbered(3)]
    )
    assert ids(found) == [EVENTS[0].id, "gap", EVENTS[2].id]
    assert isinstance(found[1], Gap)
    assert found[1].missed == 1
    assert script.resumed_from[-1] == "3"


def test_a_list_that_fails_again_and_again_is_a_gap_and_the_stream_goes_on() -> None:
    script = ScriptedPortal(*[[b": connected\n\n"]] * 4, [numbered(1)])
    script.failing = 5
    stream = stream_of(script)
    script.on_end = stream.stop
    gap, event = stream
    assert isinstance(gap, Gap)
    assert "503" in gap.reason
    assert isinstance(event, Event)


def test_a_number_that_the_portal_does_not_take_is_forgotten() -> None:
    refusal = httpx2.Response(400, json={"error": "Last-Event-ID is a number"})
    script = ScriptedPortal([numbered(1)], refusal, [numbered(2)])
    stream = stream_of(script)
    script.on_end = stream.stop
    found: list[Event | Gap] = []
    for item in stream:
        found.append(item)
        script.rows = EVENTS[:1]
    assert ids(found) == [event.id for event in EVENTS[:2]]
    assert script.resumed_from == [None, "1", None, "2"]


def test_an_id_that_no_header_holds_is_not_sent_back() -> None:
    strange = frame_of(EVENTS[0]).replace(b"event:", "id: é\nevent:".encode())
    _, script, _ = play([strange])
    assert script.resumed_from == [None, None]


def test_frames_of_another_kind_say_nothing_but_their_number() -> None:
    found, script, _ = play([b"id: 9\n\nevent: news\ndata: x\n\ndata: y\n\n"])
    assert found == []
    assert script.resumed_from == [None, "9"]


def test_a_filter_on_payloads_that_no_query_can_say_is_asked_of_the_event() -> None:
    script = ScriptedPortal([numbered(1)])
    details = httpx2.Response(
        200, json={**EVENTS[0].wire, "payload": {"request_params": {"a": None}}}
    )
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith(EVENTS[0].id):
            asked.append(request.url.path)
            return httpx2.Response(
                200,
                stream=httpx2.ByteStream(details.content),
            )
        return script.handle_request(request)

    portal = PortalClient("http://portal.test", "k", transport=httpx2.MockTransport(answer))
    stream = EventStream(
        portal, [EventFilter(params={"a": None})], clock=script.clock, backoff_s=0.0
    )
    script.on_end = stream.stop
    assert ids(list(stream)) == [EVENTS[0].id]
    assert len(asked) == 1


# Pauses, failures, the end


def test_pauses_grow_with_jitter_and_the_portals_retry_is_honoured() -> None:
    waits: list[float] = []
    refused = [httpx2.ConnectError("refused")] * 3
    script = ScriptedPortal(*refused, [b"retry: 2000\n\n"], *refused, [numbered(1)])
    stream = stream_of(script, backoff_s=1.0, jitter=lambda: 1.0)
    script.on_end = stream.stop
    stop_for = stream._interruption.wait

    def wait(timeout_s: float) -> bool:
        waits.append(timeout_s)
        return stop_for(0.0)

    stream._interruption.wait = wait  # type: ignore[method-assign]  # nobody waits in a test
    list(stream)
    assert waits == [1.0, 2.0, 4.0, 16.0, 30.0, 30.0, 30.0, 2.0]


def test_silence_is_a_lost_connection_and_says_so() -> None:
    script = ScriptedPortal([numbered(1), httpx2.ReadTimeout("silence")], [numbered(2)])
    stream = stream_of(script, silence_s=75)
    script.on_end = stream.stop
    next(stream)
    problem = ""

    def jitter() -> float:
        nonlocal problem
        problem = problem or f"{stream.state}: {stream.problem}"
        return 0.0

    stream._jitter = jitter
    next(stream)
    assert problem == "reconnecting: no data for 75 s"
    assert script.streams[0].extensions["timeout"]["read"] == 75
    assert (stream.state, stream.problem) == ("live", "")
    assert list(stream) == []


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (401, {}, Unauthorized),
        (403, {}, PortalError),
        (404, {}, PortalNotFound),
        (200, {"content-type": "text/html"}, BadAnswer),
        (302, {"location": "http://elsewhere.test/"}, BadAnswer),
    ],
)
def test_what_is_no_stream_ends_the_iteration(
    status: int, headers: dict[str, str], kind: type[PortalError]
) -> None:
    script = ScriptedPortal(httpx2.Response(status, headers=headers, stream=httpx2.ByteStream(b"")))
    stream = stream_of(script)
    with pytest.raises(kind):
        next(stream)
    assert stream.state == "stopped"
    assert list(stream) == []


def test_a_portal_that_restarts_behind_a_proxy_is_waited_for() -> None:
    away = [
        httpx2.Response(status, headers=headers, stream=httpx2.ByteStream(b"<html>"))
        for status, headers in [
            (404, {}),
            (502, {}),
            (200, {"content-type": "text/html"}),
            (429, {"retry-after": "0"}),
        ]
    ]
    script = ScriptedPortal([numbered(1)], *away[:3], [numbered(2)])
    stream = stream_of(script)
    script.on_end = stream.stop
    assert ids(list(stream)) == [event.id for event in EVENTS[:2]]


def test_a_key_that_was_revoked_ends_the_iteration() -> None:
    played = ReferencePortal(100, losses=1)
    stream = stream_of(played)
    assert isinstance(next(stream), Event)
    played.key = "another"
    with pytest.raises(Unauthorized):
        list(stream)
    assert list(stream) == []


def test_a_key_that_is_not_known_raises_at_once() -> None:
    played = ReferencePortal(1, key="another")
    with pytest.raises(Unauthorized):
        next(stream_of(played))


def test_a_limit_makes_no_sense() -> None:
    for wanted in (EventFilter(limit=3), EventFilter(offset=1)):
        with pytest.raises(FilterError):
            stream_of(ScriptedPortal(), wanted)


def test_leaving_the_block_stops() -> None:
    with stream_of(ScriptedPortal([numbered(1), numbered(2)])) as stream:
        next(stream)
        assert repr(stream) == "EventStream('http://portal.test', live, 1 events)"
    assert stream.state == "stopped"
    assert list(stream) == []


def test_a_longer_call_than_any_before_widens_the_look_back() -> None:
    long = recent(0, duration_ms=100_000, timestamp=datetime.fromtimestamp(NOW_S - 100, UTC))
    other = recent(1, duration_ms=120_000, timestamp=datetime.fromtimestamp(NOW_S - 119, UTC))
    script = ScriptedPortal([frame_of(long), b": x\n\n"], [b": connected\n\n"])
    stream = stream_of(script)
    script.on_end = stream.stop
    script.hidden = [long]
    found: list[Event | Gap] = []
    for item in stream:
        found.append(item)
        script.rows = [long, other]
    assert ids(found) == [long.id, other.id]


# Sockets


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that says to each who connects what it is told to, and holds the line."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                talk(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


LIST = b'{"events": [], "total": 0}'


@pytest.mark.parametrize("speaks_until", ["nothing", "list", "headers", "comment"])
def test_stop_ends_the_wait_for_a_portal_that_says_nothing(speaks_until: str) -> None:
    silent = threading.Event()

    def talk(connection: socket.socket) -> None:
        # Answers requests on this connection as far as it goes, then nothing.
        if speaks_until == "nothing":
            silent.set()
            return
        while b"/stream" not in (asked := connection.recv(65536)):
            if not asked:
                return
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(LIST)}\r\n\r\n".encode()
            connection.sendall(head + LIST)
        if speaks_until != "list":
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        if speaks_until == "comment":
            connection.sendall(b": connected\n\n")
        silent.set()

    with listening(talk) as url, PortalClient(url, "k") as portal:
        stream = portal.stream()
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        assert silent.wait(10)
        stopped_s = time.monotonic()
        stream.stop()
        thread.join(10)
        assert not thread.is_alive()
        assert time.monotonic() - stopped_s < 1
        assert stream.state == "stopped"


def test_stop_ends_a_pause() -> None:
    waiting = threading.Event()

    def jitter() -> float:
        waiting.set()
        return 1.0

    script = ScriptedPortal(httpx2.ConnectError("refused"))
    stream = stream_of(script, backoff_s=30.0, jitter=jitter)
    thread = threading.Thread(target=lambda: list(stream))
    thread.start()
    assert waiting.wait(10)
    assert stream.state == "connecting"
    stream.stop()
    thread.join(1)
    assert not thread.is_alive()


@pytest.mark.parametrize("date", ["", "soon", "Tue, 24 Nov 2026 03:00:00 +9999999999999999"])
def test_a_date_that_is_none_sets_no_clock(date: str) -> None:
    clock = PortalClock(lambda: NOW_S)
    clock.learn(httpx2.Response(200, headers={"date": date}))
    assert clock.now_us() == clock.here_us()
