"""How fast a portal is over HTTP: exports, the live stream, audited against unaudited calls.

Run it as ``python benchmarks/portal_http.py [export] [stream] [echo]``. Client and server share the
machine; what is compared is compared within one run.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from uuid import uuid4

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcpaudit_lab.record import Event, Payload
from mcpaudit_lab.server import SqlLogger, background_portal, demo_server
from mcpaudit_lab.server.background import serve_in_thread

KEYS = {"bench": "bench-key"}
KEY = {"X-API-Key": "bench-key"}
ROWS = 100_000
SUBSCRIBERS = 20
EVENTS_A_SECOND = 200
SECONDS = 5
CLIENTS = 8
CALLS = 250


def an_event(number: int) -> Event:
    started = datetime.now(UTC) + timedelta(microseconds=number)
    return Event.build(
        id=str(uuid4()),
        timestamp=started,
        duration_ms=number % 100,
        request_id=str(uuid4()),
        session_id="B2V5U63JWISGKZA7C63UNLY4AK",
        user_subject="apikey:dev-local",
        auth_type="apikey",
        api_key_name="dev-local",
        tool_name="echo",
        tool_group="identity",
        parameters={"message": f"message {number}", "extras": {"n": number}},
        success=True,
        response_chars=60,
        content_blocks=1,
        transport="http",
        source="mcp",
        user_agent="bench/1",
        payload=Payload.build(
            jsonrpc_method="tools/call", request_params={"message": f"message {number}"}
        ),
    )


def measure_export(url: str) -> None:
    with SqlLogger(url) as store:
        for start in range(0, ROWS, 5000):
            store.log([an_event(number) for number in range(start, start + 5000)])
    with background_portal(database=url) as portal:
        for _ in range(3):
            began, lines, size = time.perf_counter(), 0, 0
            path = f"{portal.url}/api/v1/portal/audit/export"
            with httpx2.stream("GET", path, headers=portal.headers, timeout=60) as answer:
                for chunk in answer.iter_raw():
                    lines += chunk.count(b"\n")
                    size += len(chunk)
            took_s = time.perf_counter() - began
            assert lines == ROWS
            print(
                f"export: {lines} rows, {size / 1e6:.0f} MB in {took_s:.2f} s: "
                f"{lines / took_s:,.0f} rows/s"
            )


async def measure_stream(url: str) -> None:
    delays_ms: list[float] = []
    with in_process("stream", url) as (base_url, server):
        ready = asyncio.Semaphore(0)

        async def listen(http: httpx2.AsyncClient) -> None:
            async with http.stream("GET", "/api/v1/portal/audit/stream") as answer:
                heard, left = 0, b""
                async for chunk in answer.aiter_raw():
                    # The clock of the machine, the same in all processes.
                    now_s = time.monotonic()
                    *frames, left = (left + chunk).split(b"\n\n")
                    for frame in frames:
                        if frame == b": connected":
                            ready.release()
                        elif frame.startswith(b"id"):
                            stored_s = float(frame.partition(b'"stored_s":"')[2].partition(b'"')[0])
                            delays_ms.append((now_s - stored_s) * 1000)
                            heard += 1
                    if heard == EVENTS_A_SECOND * SECONDS:
                        return

        async with (
            httpx2.AsyncClient(
                base_url=base_url,
                headers=KEY,
                timeout=60,
                limits=httpx2.Limits(max_connections=SUBSCRIBERS),
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(SUBSCRIBERS):
                group.create_task(listen(http))
            for _ in range(SUBSCRIBERS):
                await ready.acquire()
            _tell(server)
    cuts = quantiles(delays_ms, n=100)
    print(
        f"stream: {len(delays_ms)} frames to {SUBSCRIBERS} readers at {EVENTS_A_SECOND}/s: "
        f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, most {max(delays_ms):.1f} ms"
    )


def serve_stream(url: str) -> None:
    """In a process of its own: a portal, and a writer of events that say when they are stored."""
    store = SqlLogger(url)
    with background_portal(None, store, KEYS) as portal:
        _say(portal.url)
        sys.stdin.readline()
        began = time.monotonic()
        for number in range(EVENTS_A_SECOND * SECONDS):
            time.sleep(max(0, began + number / EVENTS_A_SECOND - time.monotonic()))
            # From before the write: the delay counts the commit, too.
            event = {**an_event(number).wire, "parameters": {"stored_s": f"{time.monotonic()}"}}
            store.log([Event(event)])
        sys.stdin.readline()


async def _calls_a_second(url: str, headers: dict[str, str]) -> float:
    async def work() -> None:
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http), mode="legacy") as client,
        ):
            for number in range(CALLS):
                await client.call_tool("echo", {"message": f"{number}"})

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(work())
    return CLIENTS * CALLS / (time.perf_counter() - began)


def serve_bare(_: str) -> None:
    """In a process of its own: the same MCP server, not audited."""
    with serve_in_thread(demo_server().streamable_http_app()) as port:
        _say(f"http://127.0.0.1:{port}")
        sys.stdin.readline()


def serve_audited(url: str) -> None:
    """In a process of its own: the whole portal."""
    with background_portal(database=url, keys=KEYS) as portal:
        _say(portal.url)
        sys.stdin.readline()


def _say(line: str) -> None:
    print(line, flush=True)


def _tell(server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    server.stdin.write("go\n")
    server.stdin.flush()


@contextmanager
def in_process(name: str, url: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``serve_<name>`` in a process; yields its base URL."""
    command = [sys.executable, __file__, "serve", name, url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), server
        finally:
            _tell(server)


async def measure_echo(url: str) -> None:
    rates: dict[str, list[float]] = {"bare": [], "audited": []}
    # In turns, so that a machine that is busy for a while is so for both.
    for _ in range(3):
        for name, values in rates.items():
            with in_process(name, url) as (base_url, _server):
                values.append(await _calls_a_second(f"{base_url}/mcp", KEY))
    bare, audited = median(rates["bare"]), median(rates["audited"])
    with SqlLogger(url) as store:
        kept = store.latest()
    print(
        f"echo, {CLIENTS} clients: unaudited {bare:.0f}/s, audited {audited:.0f}/s, "
        f"ratio {audited / bare:.2f}; kept {kept} of {3 * CLIENTS * CALLS}"
    )


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        modes = {"bare": serve_bare, "audited": serve_audited, "stream": serve_stream}
        modes[sys.argv[2]](sys.argv[3])
        return
    wanted = sys.argv[1:] or ["export", "stream", "echo"]
    runs: dict[str, Callable[[str], None]] = {
        "export": measure_export,
        "stream": lambda url: asyncio.run(measure_stream(url)),
        "echo": lambda url: asyncio.run(measure_echo(url)),
    }
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            runs[name](f"sqlite:///{Path(folder) / 'audit.db'}")


if __name__ == "__main__":
    main()
