"""A portal that is restarted again and again under load: what reached the lab is what it stored."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from portals import KEYS, an_event

from mcpaudit_lab import Event, Lab, PortalClient, PortalError
from mcpaudit_lab.portal.stream.event_stream import EventStream
from mcpaudit_lab.portal.stream.items import Gap
from mcpaudit_lab.portal.stream.recorder import StreamRecorder
from mcpaudit_lab.server.serving import PortalServer
from mcpaudit_lab.server.setup import database_portal_app
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

KEY = KEYS["dev-local"]


@contextmanager
def serving(database: str, port: int) -> Iterator[int]:
    """A portal on this port, or on a free one, in a thread."""
    started = threading.Event()
    server = PortalServer(database_portal_app(database, None, KEYS), started.set, log_level="error")
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            assert started.wait(10)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


class Load:
    """Calls through the portal while it is there, and rows by another writer all the time."""

    def __init__(self, portal: PortalClient, database: str) -> None:
        self._portal = portal
        self._store = SqlLogger(database)
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(6)
        for n in range(4):
            self._pool.submit(self._call, "echo", {"message": str(n)}, 0.15)
        self._pool.submit(self._call, "slow", {"milliseconds": 400}, 0.05)
        self._written = self._pool.submit(self._insert)

    def _call(self, tool: str, arguments: dict[str, object], pause_s: float) -> None:
        while not self._ended.wait(pause_s):
            with suppress(PortalError):
                self._portal.tryit(tool, arguments)

    def _insert(self) -> None:
        number = 0
        while not self._ended.wait(0.04):
            # Every tenth call took long: its time lies far before those stored before it.
            took_s = 10.0 if number % 10 == 0 else 0.01
            begun = datetime.now(UTC) - timedelta(seconds=took_s)
            event = an_event(number, timestamp=begun, duration_ms=int(took_s * 1000))
            self._store.log([event])
            number += 1

    def end(self) -> None:
        self._ended.set()
        self._pool.shutdown()
        self._store.close()
        self._written.result()


def stored_in(database: str) -> list[Event]:
    store = SqlLogger(database)
    try:
        return [row.event for row in store.after(0, 1_000_000)]
    finally:
        store.close()


def wait_for(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Look every few milliseconds: what is waited for happens in threads that tell nobody."""
    until_s = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until_s, "it does not happen"
        pause.wait(0.005)


def has_received(stream: EventStream, count: int) -> bool:
    return stream.counters.received >= count


def watch_restarts(
    database: str, lab: Lab, restarts: int
) -> tuple[StreamRecorder, list[Event | Gap]]:
    """Record a portal's stream while the portal is restarted under load."""
    items: list[Event | Gap] = []
    with serving(database, 0) as port:
        pass
    with PortalClient(f"http://127.0.0.1:{port}", KEY, attempts=1) as portal:
        stream, load = EventStream(portal, backoff_s=0.02), None
        recorder = StreamRecorder(stream, lab, on_item=items.append)
        with recorder:
            for _ in range(restarts):
                with serving(database, port):
                    wait_for(lambda: stream.state == "live")
                    load = load or Load(portal, database)
                    seen = stream.counters.received
                    wait_for(partial(has_received, stream, seen + 20))
            with serving(database, port):
                assert load is not None
                load.end()
                count = len(stored_in(database))
                wait_for(partial(has_received, stream, count))
    return recorder, items


def assert_same(
    lab: Lab, database: str, recorder: StreamRecorder, items: list[Event | Gap], restarts: int
) -> None:
    """What reached the lab is what the portal stored, event for event."""
    stored = stored_in(database)
    handed_out = [item.id for item in items if isinstance(item, Event)]
    assert len(handed_out) == len(items) == len(stored), "no gaps, and nothing twice"
    assert set(handed_out) == {event.id for event in stored}
    assert recorder.stored.stored == lab.events().count() == len(stored)
    assert recorder.stored.rejected == recorder.stored.waiting == recorder.stored.failures == 0
    again = lab.add_events(stored, kind="portal", name="its own rows")
    assert again.duplicates == len(stored), "each is what the portal stored"
    assert isinstance(recorder.stream, EventStream)
    assert recorder.stream.counters.reconnections >= restarts
    assert not recorder.is_running


@pytest.mark.parametrize("restarts", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_a_portal_restarted_again_and_again_under_load_loses_nothing(
    tmp_path: Path, restarts: int
) -> None:
    database = f"sqlite:///{tmp_path / 'audit.db'}"
    with Lab() as lab:
        recorder, items = watch_restarts(database, lab, restarts)
        assert_same(lab, database, recorder, items, restarts)
