"""A portal ends with its process, however that ends, and its streams end with any uvicorn."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from portals import DEV, DEV_KEY

from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.record import Event
from mcpaudit_lab.server import SqlLogger, background_portal

ROOT = Path(__file__).parents[1]
STREAM = "/api/v1/portal/audit/stream"


@contextmanager
def running(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process, which is killed with the block."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_events(url: str) -> list[Event]:
    """All rows, each with its payload."""
    with SqlLogger(url) as store:
        events = [event for page in store.stream(EventFilter(), payloads=True) for event in page]
        assert [row.number for row in store.after(0, 100_000)] == list(range(1, len(events) + 1))
    for event in events:
        assert event.payload is not None
        assert event.payload.request_params == event.parameters
        assert event.payload.response_result is not None
    return events


def messages_of(events: list[Event]) -> list[str]:
    parameters: list[Any] = [event.parameters for event in events]
    return [params["message"] for params in parameters]


def assert_closed(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


# What a kernel does: it opens the block by hand and may end without leaving it. The calls come over
# HTTP from four threads; a call is answered before its event is stored.
KERNEL = """
import asyncio, sys, threading
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcpaudit_lab.server import background_portal

opened = background_portal(database=sys.argv[1])
portal = opened.__enter__()
print(portal.url, flush=True)

async def work(name, calls):
    async with (
        httpx2.AsyncClient(headers=portal.headers) as http,
        Client(streamable_http_client(f"{portal.url}/mcp", http_client=http)) as client,
    ):
        for number in range(calls):
            await client.call_tool("echo", {"message": f"{name}-{number}"})
            # Text and line end at once: other threads write as well.
            sys.stdout.write(f"answered {name}-{number}\\n")
            sys.stdout.flush()

def run(name):
    try:
        asyncio.run(work(name, int(sys.argv[2])))
    except BaseException:
        pass

threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def answered_in(lines: list[str]) -> set[str]:
    whole = [line.split() for line in lines if line.startswith("answered ")]
    return {words[1] for words in whole if len(words) == 2}


def test_a_kernel_that_ends_without_leaving_the_block_stores_everything(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    with running(KERNEL, url, "25") as process:
        shown, _ = process.communicate(timeout=60)
        assert process.returncode == 0, shown
    where, *lines = shown.splitlines()
    assert_closed(where)
    messages = messages_of(read_events(url))
    assert sorted(messages) == sorted(answered_in(lines))
    assert len(messages) == 100


def test_a_kernel_that_is_killed_takes_its_portal_along_and_leaves_whole_rows(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    with running(KERNEL, url, "1000000") as process:
        assert process.stdout is not None
        where = process.stdout.readline().strip()
        lines = [process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        # What was still in the pipe; its last line may be torn.
        lines += process.stdout.read().splitlines()[:-1]
        assert process.wait(30) == -signal.SIGKILL
    assert_closed(where)
    stored = set(messages_of(read_events(url)))
    answered = answered_in(lines)
    assert len(answered - stored) < len(answered) / 2, "what was queued, and no more"
    # The database is in order: a portal starts on it again.
    with background_portal(database=url) as portal:
        answer = httpx2.post(
            f"{portal.url}/api/v1/admin/tryit/whoami", headers=portal.headers, json={}
        )
        assert answer.status_code == 200
    assert len(read_events(url)) == len(stored) + 1


# Streams under somebody else's uvicorn. Told to end, it waits for open requests without a limit and
# only then runs the application's own shutdown.
ALONE = """
import sys, uvicorn
from mcpaudit_lab.server import SqlLogger, demo_server, portal_app

app = portal_app(demo_server(), SqlLogger(sys.argv[1]), {"dev-local": sys.argv[2]})
uvicorn.run(app, host="127.0.0.1", port=0)
"""
MOUNTED = """
import sys, uvicorn
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.routing import Mount
from mcpaudit_lab.server import SqlLogger, demo_server, portal_app

portal = portal_app(demo_server(), SqlLogger(sys.argv[1]), {"dev-local": sys.argv[2]})

@asynccontextmanager
async def lifespan(app):
    async with portal.router.lifespan_context(portal):
        yield

app = Starlette(routes=[Mount("/audit", portal)], lifespan=lifespan)
uvicorn.run(app, host="127.0.0.1", port=0)
"""


@pytest.mark.parametrize(
    ("code", "prefix", "number"),
    [
        (ALONE, "", signal.SIGTERM),
        (MOUNTED, "/audit", signal.SIGINT),
        pytest.param(ALONE, "", signal.SIGINT, marks=pytest.mark.soak),
        pytest.param(MOUNTED, "/audit", signal.SIGTERM, marks=pytest.mark.soak),
    ],
)
def test_streams_end_with_a_uvicorn_that_is_not_ours(
    tmp_path: Path, code: str, prefix: str, number: signal.Signals
) -> None:
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    opened, ended = threading.Event(), threading.Event()

    def listen(base_url: str) -> None:
        with httpx2.stream("GET", f"{base_url}{STREAM}", headers=DEV, timeout=30) as answer:
            for _ in answer.iter_raw():
                opened.set()
        # Without an error: the answer had its proper end.
        ended.set()

    with running(code, url, DEV_KEY) as process:
        assert process.stdout is not None
        where = next(
            found[0]
            for line in process.stdout
            if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
        thread = threading.Thread(target=listen, args=(f"{where}{prefix}",))
        thread.start()
        assert opened.wait(20)
        headers = {**DEV, "X-Requested-With": "tests"}
        called = f"{where}{prefix}/api/v1/admin/tryit/whoami"
        assert httpx2.post(called, headers=headers, json={}).status_code == 200
        began = time.monotonic()
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        assert ended.is_set()
        assert time.monotonic() - began < 5
        thread.join(10)
    assert len(read_events(url)) == 1
