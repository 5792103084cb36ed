"""Every call that ran has its row in the end, and a call that was refused did not run.

Real portals over loopback, under eight clients, while their database is away, or its disk is full.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from audited import bare_server, says
from loopback import connect
from mcp.shared.exceptions import MCPError
from portals import DEV, KEYS
from sqlalchemy import event as sqlalchemy_event

from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.server import AsyncLogger, SqlLogger, background_portal

if TYPE_CHECKING:
    from own_postgres import OwnPostgres

pytestmark = pytest.mark.anyio

_CLIENTS = 8


class Load:
    """A portal whose one tool notes each of its runs, and clients that call it without a pause."""

    def __init__(self, log: AsyncLogger) -> None:
        self.log = log
        self.runs: list[str] = []
        self.answered: set[str] = set()
        self.refused: set[str] = set()
        self.done = False

    async def tool(self, _: Any, arguments: dict[str, Any]) -> Any:
        self.runs.append(arguments["message"])
        return says(arguments["text"])

    async def call(self, url: str, number: int, text: str) -> None:
        async with connect(f"{url}/mcp", DEV) as client:
            for count in range(1_000_000):
                if self.done:
                    return
                message = f"{number}-{count}"
                try:
                    await client.call_tool("work", {"message": message, "text": text})
                except MCPError as error:
                    assert "the call was not run" in str(error)  # noqa: PT017 - any other error fails
                    self.refused.add(message)
                else:
                    self.answered.add(message)

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(60):
            while not condition():  # noqa: ASYNC110 - what is waited for sets no event
                await anyio.sleep(0.01)

    async def until_answered(self, more: int) -> None:
        enough = len(self.answered) + more
        await self.until(lambda: len(self.answered) >= enough)


@asynccontextmanager
async def under_load(log: AsyncLogger, text: str = "done") -> AsyncIterator[Load]:
    """Clients that call while the block runs; then the portal ends and the log is closed."""
    load = Load(log)
    # The portal has an event loop and a thread of its own, as it has in a process of its own.
    with background_portal(bare_server(load.tool), log, KEYS) as portal:
        async with anyio.create_task_group() as group:
            for number in range(_CLIENTS):
                group.start_soon(load.call, portal.url, number, text)
            yield load
            load.done = True
    assert await log.aclose() == 0


def check(load: Load, url: str) -> None:
    """Runs and rows are the same; nothing ran twice, nothing that was refused ran."""
    with SqlLogger(url) as store:
        events = [event for page in store.stream(EventFilter(), payloads=True) for event in page]
        numbers = [row.number for row in store.after(0, len(events) + 1)]
    rows = []
    for event in events:
        assert event.payload is not None, "an event and its payload are written together"
        assert event.payload.response_result is not None
        params: Any = event.payload.request_params
        rows.append(params["message"])
    assert sorted(rows) == sorted(load.runs)
    assert numbers == list(range(1, len(rows) + 1))
    assert len(set(load.runs)) == len(load.runs)
    assert load.answered == set(load.runs)
    assert load.refused.isdisjoint(load.runs)
    status = load.log.status()
    assert (status.stored, status.queued, status.rejected) == (len(rows), 0, 0)


@pytest.mark.soak
async def test_a_postgresql_that_is_away_for_seconds_loses_no_call(
    own_postgres: OwnPostgres,
) -> None:
    # Few places: the outage is longer than they last, and calls are refused.
    log = AsyncLogger(SqlLogger(own_postgres.url), max_events=100, timeout_s=0.2)
    async with under_load(log) as load:
        await load.until_answered(100)
        await anyio.to_thread.run_sync(own_postgres.control, "stop")
        await load.until(lambda: (log.status().away_s or 0) > 3)
        assert len(load.refused) >= _CLIENTS
        assert not log.status().ready
        await anyio.to_thread.run_sync(own_postgres.control, "start")
        await load.until(lambda: log.status().away_s is None)
        await load.until_answered(100)
    check(load, own_postgres.url)


async def test_twenty_seconds_without_a_database_lose_no_call(tmp_path: Path) -> None:
    """The seconds are those of the clock that the logger was given."""
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    now_s = [0.0]
    go_on = threading.Event()

    def sleep(seconds: float) -> None:
        now_s[0] += seconds
        if now_s[0] > 20:
            # Not before calls were refused.
            go_on.wait()
            other.close()

    log = AsyncLogger(
        SqlLogger(url, busy_timeout_s=0.001),
        max_events=200,
        timeout_s=0.05,
        clock=lambda: now_s[0],
        sleep=sleep,
    )
    other = sqlite3.connect(tmp_path / "audit.db", isolation_level=None, check_same_thread=False)
    async with under_load(log) as load:
        await load.until_answered(100)
        other.execute("begin exclusive")
        await load.until(lambda: (log.status().away_s or 0) > 15)
        await load.until(lambda: len(load.refused) >= _CLIENTS)
        go_on.set()
        await load.until(lambda: log.status().away_s is None)
        await load.until_answered(100)
    assert now_s[0] > 20
    check(load, url)


async def test_a_disk_that_fills_under_load_loses_no_call(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    store = SqlLogger(url)
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("pragma page_count").scalar_one()
    store.engine.dispose()
    most = [pages + 40]

    def limit(connection: Any, *_: Any) -> None:
        connection.execute(f"pragma max_page_count = {most[0]}")

    sqlalchemy_event.listen(store.engine, "checkout", limit)
    log = AsyncLogger(store, max_events=100, timeout_s=0.1)
    async with under_load(log, "x" * 5000) as load:
        await load.until(lambda: log.status().away_s is not None)
        await load.until(lambda: len(load.refused) >= _CLIENTS)
        most[0] = 1_000_000
        await load.until(lambda: log.status().away_s is None)
        await load.until_answered(50)
    check(load, url)
