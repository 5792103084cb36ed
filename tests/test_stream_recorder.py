"""A stream recorded in the background: stored in batches, whatever the lab does, and ended."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
from portals import an_event
from reference_stream import ReferencePortal
from scripted_portal import ScriptedPortal, frame_of

from mcpaudit_lab import Event, Lab, LabError, LoadReport, PortalClient, Unauthorized
from mcpaudit_lab.portal.stream.event_stream import EventStream
from mcpaudit_lab.portal.stream.items import Gap
from mcpaudit_lab.portal.stream.recorder import StreamRecorder

if TYPE_CHECKING:
    import pytest

EVENTS = [an_event(number, payload=None) for number in range(1, 11)]
FRAMES = [frame_of(event, number) for number, event in enumerate(EVENTS, 1)]


class Told:
    """Items as they come, and a way to wait for them."""

    def __init__(self) -> None:
        self.items: list[Event | Gap] = []
        self._changed = threading.Condition()

    def __call__(self, item: Event | Gap) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.items) >= count, 60)


class MoodyLab:
    """A lab that fails while it is told to, and says when it was asked."""

    def __init__(self, lab: Lab, failures: int) -> None:
        self.lab = lab
        self.failures = failures
        self.batches: list[int] = []
        self.worked = threading.Event()
        self.failed = threading.Event()

    def check_writable(self, why: str) -> None:
        self.lab.check_writable(why)

    def add_events(self, events: Iterable[Event], **named: Any) -> LoadReport:
        batch = list(events)
        self.batches.append(len(batch))
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise LabError("the disk is full")
        report = self.lab.add_events(batch, **named)
        self.worked.set()
        return report


def stream_of(transport: ScriptedPortal | ReferencePortal) -> EventStream:
    portal = PortalClient("http://portal.test", "k", transport=transport)
    return EventStream(portal, clock=transport.clock, backoff_s=0.0)


def endless(*chunks: bytes) -> tuple[EventStream, threading.Event]:
    """A stream that says this, and then waits for the event."""
    done = threading.Event()

    class Waiting(httpx2.SyncByteStream):
        def __iter__(self) -> Any:
            yield from chunks
            done.wait(60)

    headers = {"content-type": "text/event-stream"}
    script = ScriptedPortal(httpx2.Response(200, headers=headers, stream=Waiting()))
    stream = stream_of(script)
    script.on_end = stream.stop
    return stream, done


def test_every_event_is_told_of_and_stored_in_batches() -> None:
    played = ReferencePortal(500, losses=3, drop=0.1)
    stream = stream_of(played)
    played.on_quiet = stream.stop
    told, ended = Told(), threading.Event()
    with Lab() as lab:
        recorder = StreamRecorder(
            stream, lab, on_item=told, on_end=ended.set, request="all events", batch_events=100
        )
        with recorder:
            assert ended.wait(60)
        assert len(told.items) == recorder.stored.stored == lab.events().count() == 500
        assert not recorder.is_running
        sources = lab.sources()
        assert set(sources["kind"]) == {"tail"}
        assert set(sources["name"]) == {"http://portal.test"}
        assert set(sources["request"]) == {"all events"}
        assert sources["lines"].max() <= 100


def test_an_event_waits_no_longer_than_it_may() -> None:
    stream, done = endless(FRAMES[0])
    with Lab() as lab:
        moody = MoodyLab(lab, failures=0)
        with StreamRecorder(stream, moody, batch_s=0.01) as recorder:
            assert moody.worked.wait(60), "the stream goes on, the event is stored all the same"
            done.set()
        assert recorder.stored.stored == 1


def test_a_lab_that_cannot_be_written_is_told_of_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream, done = endless(*FRAMES)
    with Lab() as lab:
        moody = MoodyLab(lab, failures=3)
        with StreamRecorder(stream, moody, batch_s=0.0, retry_s=0.01) as recorder:
            assert moody.failed.wait(60)
            assert moody.worked.wait(60)
            done.set()
        stored = recorder.stored
        assert (stored.stored, stored.waiting, stored.failures) == (10, 0, 3)
        assert stored.problem == ""
        assert lab.events().count() == 10
    assert [record.message for record in caplog.records] == ["events of a stream wait, not stored"]


def test_what_could_not_be_stored_before_the_end_is_told_of() -> None:
    stream, done = endless(*FRAMES)
    told = Told()
    with Lab() as lab:
        moody = MoodyLab(lab, failures=10_000)
        recorder = StreamRecorder(stream, moody, on_item=told, retry_s=30.0).start()
        told.wait_for(10)
        done.set()
        assert recorder.stop()
    assert recorder.stored.waiting == 10
    assert recorder.stored.stored == 0
    assert recorder.stored.problem == "the disk is full"


def test_no_more_than_so_many_events_wait_and_none_is_lost() -> None:
    stream, done = endless(*FRAMES)
    told = Told()
    with Lab() as lab:
        moody = MoodyLab(lab, failures=1)
        recorder = StreamRecorder(
            stream, moody, on_item=told, most_waiting=3, batch_s=0.0, retry_s=0.2
        )
        with recorder:
            assert moody.failed.wait(60)
            told.wait_for(10)
            done.set()
        assert max(moody.batches) <= 3 + 1, "one more where it is stopped meanwhile"
        assert recorder.stored.stored == 10


def test_a_closed_lab_is_a_problem_that_is_told_of() -> None:
    stream, done = endless(FRAMES[0])
    lab = Lab()
    lab.close()
    told = Told()
    with StreamRecorder(stream, lab, on_item=told) as recorder:
        told.wait_for(1)
        done.set()
    assert recorder.stored.waiting == 1
    assert recorder.stored.problem


def test_a_listener_that_fails_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream, done = endless(*FRAMES)
    told = Told()

    def listen(item: Event | Gap) -> None:
        told(item)
        raise ValueError("no")

    with Lab() as lab, StreamRecorder(stream, lab, on_item=listen) as recorder:
        told.wait_for(10)
        done.set()
        recorder.stop()
        assert lab.events().count() == 10
    assert len(caplog.records) == 10


def test_without_a_lab_events_are_told_of_only() -> None:
    stream, done = endless(*FRAMES)
    told = Told()
    with StreamRecorder(stream, on_item=told) as recorder:
        told.wait_for(10)
        done.set()
    assert recorder.stored.stored == recorder.stored.waiting == 0


def test_what_ends_the_stream_is_kept() -> None:
    ended = threading.Event()
    stream = stream_of(ReferencePortal(1, key="another"))
    with Lab() as lab, StreamRecorder(stream, lab, on_end=ended.set) as recorder:
        assert ended.wait(60)
        assert isinstance(recorder.failure, Unauthorized)
    assert not recorder.is_running


def test_a_listener_may_stop_it() -> None:
    stopped = threading.Event()
    holder: list[StreamRecorder] = []
    stream, done = endless(*FRAMES)

    def listen(_: Event | Gap) -> None:
        done.set()
        holder[0].stop()
        stopped.set()

    with Lab() as lab:
        holder.append(StreamRecorder(stream, lab, on_item=listen))
        with holder[0]:
            assert stopped.wait(60)
        assert not holder[0].is_running
        assert lab.events().count() == 1


SCRIPT = """
import sys, threading
from mcpaudit_lab import Lab, PortalClient
from mcpaudit_lab import StreamRecorder
from mcpaudit_lab.server import background_portal

portal_thread = background_portal()
served = portal_thread.__enter__()
portal = PortalClient(served.url, served.api_key)
heard = threading.Event()
lab = Lab(sys.argv[1])
recorder = StreamRecorder(portal.stream(), lab, on_item=lambda _: heard.set(), batch_s=60).start()
while not heard.wait(0.05):
    portal.tryit("echo", {"message": "x"})
print(recorder.stored.stored, flush=True)
"""


def test_the_end_of_the_interpreter_ends_it_and_stores_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    begun_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", SCRIPT, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert time.monotonic() - begun_s < 40
    assert (done.stdout, done.stderr) == ("0\n", "")
    with Lab(path) as lab:
        assert lab.events().count() >= 1
