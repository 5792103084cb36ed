"""Failed authentications are recorded, and cannot fill the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pytest
from audited import bare_server, echo, payload, says, serve
from mcp import Client
from mcp.server.connection import Connection
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import LATEST_MODERN_VERSION
from starlette.requests import Request

from mcpaudit_lab.record.sanitize import REDACTED
from mcpaudit_lab.server import (
    AuthFailure,
    MemoryLogger,
    Origin,
    add_audit,
    use_origin,
)
from mcpaudit_lab.server.audit.refusals import RefusalBudget

if TYPE_CHECKING:
    import mcp_types as types

pytestmark = pytest.mark.anyio


async def test_failed_authentication_runs_nothing_and_is_recorded() -> None:
    ran: list[int] = []

    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        ran.append(1)
        return says("done")

    server, log = serve(work)
    async with Client(server, mode="legacy") as client:
        with use_origin(Origin(identity=AuthFailure())):
            with pytest.raises(MCPError, match="not authenticated") as refused:
                await client.call_tool("work", {"message": "x", "password": "y"})
            await client.list_tools()
    (event,) = log.events
    assert (refused.value.code, ran) == (0, [])
    wire = {name: value for name, value in event.wire.items() if name not in _VOLATILE}
    assert wire == {
        "tool_name": "work",
        "success": False,
        "error_message": "not authenticated",
        "error_category": "auth",
        "transport": "stdio",
        "source": "mcp",
        "payload": {
            "jsonrpc_method": "tools/call",
            "request_params": {"message": "x", "password": REDACTED},
            "request_size_bytes": 39,
            "response_error": {"category": "auth", "message": "not authenticated"},
        },
    }


_VOLATILE = {"id", "timestamp", "duration_ms", "request_id"}


async def test_rows_of_failed_authentication_are_bounded_in_rate() -> None:
    seconds = [0.0]
    server = bare_server(lambda _ctx, arguments: echo(arguments))
    log = MemoryLogger()
    audit = add_audit(
        server, log, refusals=RefusalBudget(burst=3, per_s=0.5, clock=lambda: seconds[0])
    )
    async with Client(server) as client:

        async def fail(times: int) -> None:
            for _ in range(times):
                with use_origin(Origin(identity=AuthFailure())), pytest.raises(MCPError):
                    await client.call_tool("work")

        await fail(10)
        assert (len(log.events), audit.refusals.left_out) == (3, 7)
        seconds[0] = 1.9
        await fail(1)
        assert (len(log.events), audit.refusals.left_out) == (3, 8)
        seconds[0] = 2.0
        await fail(2)
    assert (len(log.events), audit.refusals.left_out) == (4, 9)
    assert payload(log.events[3])["response_error"] == {
        "category": "auth",
        "message": "not authenticated",
        "left_out": 8,
    }
    assert all("left_out" not in payload(event)["response_error"] for event in log.events[:3])


async def test_rows_of_failed_authentication_are_bounded_in_size() -> None:
    server, log = serve(lambda _ctx, arguments: echo(arguments))
    raw = [(b"x-%d" % number, b"v" * 5000) for number in range(200)]
    scope = {"type": "http", "headers": [*raw, (b"user-agent", b"u" * 5000)]}
    ctx = _context({"name": "n" * 5000, "arguments": {"m": "x" * 100_000}}, scope)
    audit = server.middleware[0]
    with use_origin(Origin(identity=AuthFailure())), pytest.raises(MCPError):
        await audit(ctx, _never)
    (event,) = log.events
    assert len(event.to_json()) < 25_000
    assert (len(event.tool_name), event.parameters) == (256, None)
    assert payload(event)["request_truncated"] is True
    assert payload(event)["request_size_bytes"] == 100_008
    assert "request_params" not in payload(event)
    assert len(payload(event)["request_headers"]) == 64


async def test_failed_authentication_without_a_place_is_counted() -> None:
    server = bare_server(lambda _ctx, arguments: echo(arguments))
    audit = add_audit(server, MemoryLogger(max_events=0))
    async with Client(server) as client:
        for _ in range(2):
            with use_origin(Origin(identity=AuthFailure())), pytest.raises(MCPError):
                await client.call_tool("work")
    assert audit.refusals.left_out == 2


async def _never(_ctx: Any) -> HandlerResult:
    raise AssertionError


def _context(params: Mapping[str, Any], scope: dict[str, Any]) -> ServerRequestContext[Any, Any]:
    class Session:
        def __init__(self) -> None:
            self._connection = Connection.from_envelope(LATEST_MODERN_VERSION, None, None)

    return ServerRequestContext(
        session=cast("Any", Session()),
        lifespan_context={},
        protocol_version=LATEST_MODERN_VERSION,
        method="tools/call",
        params=params,
        request_id=1,
        request=Request(scope),
    )
