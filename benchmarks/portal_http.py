"""How fast a portal is over HTTP: exports, the live stream, audited against unaudited calls.

Run it as ``python benchmarks/portal_http.py [export] [stream] [echo]``. Client and server share the
machine; what is compared is compared within one run.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcpaudit_lab.events import Event, Payload
from mcpaudit_lab.server import SqlLogger, background_portal, demo_server
from mcpaudit_lab.server.background import serve_in_thread

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
    store = SqlLogger(url)
    stored_s: dict[str, float] = {}
    delays_ms: list[float] = []
    with background_portal(None, store) as portal:
        ready = asyncio.Semaphore(0)

        async def listen(http: httpx2.AsyncClient) -> None:
            async with http.stream("GET", "/api/v1/portal/audit/stream") as answer:
                heard = 0
                async for line in answer.aiter_lines():
                    if line == ": connected":
                        ready.release()
                    if line.startswith("data: "):
                        now_s = time.perf_counter()
                        event_id = json.loads(line.removeprefix("data: "))["id"]
                        delays_ms.append((now_s - stored_s[event_id]) * 1000)
                        heard += 1
                        if heard == EVENTS_A_SECOND * SECONDS:
                            return

        async with (
            httpx2.AsyncClient(
                base_url=portal.url,
                headers=portal.headers,
                timeout=60,
                limits=httpx2.Limits(max_connections=SUBSCRIBERS),
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(SUBSCRIBERS):
                group.create_task(listen(http))
            for _ in range(SUBSCRIBERS):
                await ready.acquire()
            began = time.perf_counter()
            for number in range(EVENTS_A_SECOND * SECONDS):
                await asyncio.sleep(max(0, began + number / EVENTS_A_SECOND - time.perf_counter()))
                event = an_event(number)
                await asyncio.to_thread(_log, store, event, stored_s)
    cuts = quantiles(delays_ms, n=100)
    print(
        f"stream: {len(delays_ms)} frames to {SUBSCRIBERS} readers at {EVENTS_A_SECOND}/s: "
        f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, most {max(delays_ms):.1f} ms"
    )


def _log(store: SqlLogger, event: Event, stored_s: dict[str, float]) -> None:
    # From before the write: the delay counts the commit, too.
    stored_s[event.id] = time.perf_counter()
    store.log([event])


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


@asynccontextmanager
async def _bare() -> AsyncIterator[str]:
    app = demo_server().streamable_http_app()
    with serve_in_thread(app) as port:
        yield f"http://127.0.0.1:{port}/mcp"


async def measure_echo(url: str) -> None:
    with background_portal(database=url) as portal:
        async with _bare() as bare:
            rates: dict[str, list[float]] = {"unaudited": [], "audited": []}
            for _ in range(3):
                rates["unaudited"].append(await _calls_a_second(bare, {}))
                audited = await _calls_a_second(f"{portal.url}/mcp", portal.headers)
                rates["audited"].append(audited)
    best = {name: max(values) for name, values in rates.items()}
    with SqlLogger(url) as store:
        kept = store.latest()
    print(
        f"echo, {CLIENTS} clients: unaudited {best['unaudited']:.0f}/s, audited "
        f"{best['audited']:.0f}/s, ratio {best['audited'] / best['unaudited']:.2f}; "
        f"kept {kept} of {3 * CLIENTS * CALLS}"
    )


def main() -> None:
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
