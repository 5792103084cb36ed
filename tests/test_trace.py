"""A call and its trace find each other: from the protocol and from HTTP, in filters and columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from mcp import Client

from mcpaudit_lab import EventFilter, FilterError, Lab, PortalClient
from mcpaudit_lab.cli import commands
from mcpaudit_lab.record import parse_traceparent
from mcpaudit_lab.recorder.call_tracker import CallTracker
from mcpaudit_lab.server import SqlLogger, background_portal

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
OTHER = f"00-{'1' * 32}-{'2' * 16}-00"


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        "",
        "x",
        PARENT.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{PARENT}-more",
        f"00-{TRACE[:-1]}-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent_is_not_guessed(wrong: Any) -> None:
    assert parse_traceparent(wrong) == {}
    assert parse_traceparent(wrong, PARENT) == {"trace_id": TRACE, "span_id": SPAN}


def test_a_later_version_may_have_more_fields() -> None:
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-01-more")["trace_id"] == TRACE


async def call(url: str, meta: Any, headers: dict[str, str]) -> None:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async with httpx2.AsyncClient(headers={"X-API-Key": "key", **headers}) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode="legacy") as client:
            await client.call_tool("echo", {"message": "x"}, meta=meta)


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'audit.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


def test_a_portal_keeps_the_trace_and_everybody_finds_it(stored: str, tmp_path: Path) -> None:
    with (
        SqlLogger(stored) as logger,
        background_portal(None, logger, {"me": "key"}) as running,
        PortalClient(running.url, api_key="key") as portal,
        Lab(tmp_path / "case.duckdb") as lab,
    ):
        for meta, headers in (
            ({"traceparent": PARENT}, {"traceparent": OTHER}),
            (None, {"traceparent": PARENT}),
            (None, {"traceparent": OTHER}),
            ({"traceparent": "nonsense"}, {}),
        ):
            anyio.run(call, running.url, meta, headers)
        running.flush()
        assert len(list(portal.events(trace=TRACE))) == 2
        lab.pull(portal, progress=False)
        assert lab.events(trace=TRACE).count() == 2
        assert lab.events(trace=TRACE.upper()).count() == 2
        assert logger.count(EventFilter(trace=TRACE)) == 2
        assert logger.count(EventFilter.from_query(f"trace={TRACE}")) == 2
        found = lab.sql(
            "select trace_id, span_id, count(*) n from audit_events group by all order by all"
        ).fetchall()
        assert found == [(TRACE, SPAN, 2), ("1" * 32, "2" * 16, 1), (None, None, 1)]
        frame = lab.events(trace=TRACE).df(columns=["trace_id", "span_id"])
        assert set(frame["span_id"]) == {SPAN}
        plain = [event for event in lab.events() if "trace_id" not in event.wire]
        assert len(plain) == 1
    run = CliRunner(env={"MCPAUDIT_LAB": str(tmp_path / "case.duckdb")})
    told = run.invoke(commands, ["events", "--trace", TRACE, "--json"])
    assert len(told.output.splitlines()) == 2


def test_a_recorder_takes_it_from_the_header_too() -> None:
    tracker = CallTracker("http")
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
    tracker.on_client_message("s", request, headers={"Traceparent": [PARENT]})
    (event,) = tracker.on_server_message(
        "s", {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
    )
    assert (event.extra["trace_id"], event.extra["span_id"]) == (TRACE, SPAN)


@pytest.mark.parametrize("wrong", ["", "abc", "0" * 31, "g" * 32, 7])
def test_a_filter_for_what_is_no_trace_is_an_error(wrong: Any) -> None:
    with pytest.raises(FilterError):
        EventFilter(trace=wrong)
