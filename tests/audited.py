"""Servers with one tool, audited into memory, and calls to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import anyio
import mcp_types as types
import pytest
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.runner import modern_on_request
from mcp.shared.direct_dispatcher import create_direct_dispatcher_pair
from mcp.shared.exceptions import MCPError
from mcp_types.version import LATEST_MODERN_VERSION

from mcpaudit_lab.record import Event
from mcpaudit_lab.server import CapturePolicy, Identity, MemoryLogger, add_audit

MODES = pytest.mark.parametrize("mode", ["legacy", "auto"])
"""Both protocol eras, as the SDK's client names them."""

DEV = Identity.from_key("dev-local")

Tool = Callable[[ServerRequestContext[Any, Any], dict[str, Any]], Any]


def bare_server(tool: Tool) -> Server[Any]:
    """A server whose one tool is called ``work``."""

    async def call_tool(
        ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        return cast("types.CallToolResult", await tool(ctx, params.arguments or {}))

    async def list_tools(
        ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        del ctx, params
        return types.ListToolsResult(
            tools=[types.Tool(name="work", input_schema={"type": "object"})]
        )

    return Server("test", on_call_tool=call_tool, on_list_tools=list_tools)


def serve(tool: Tool, policy: CapturePolicy | None = None) -> tuple[Server[Any], MemoryLogger]:
    """The same, audited."""
    server = bare_server(tool)
    log = MemoryLogger()
    add_audit(server, log, policy=policy)
    return server, log


def says(text: str, **members: Any) -> types.CallToolResult:
    """An answer of one text."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], **members)


async def echo(arguments: dict[str, Any]) -> types.CallToolResult:
    """An answer that is the arguments."""
    return types.CallToolResult(content=[], structured_content=arguments)


async def heard(progress: float, total: float | None, message: str | None) -> None:
    """Take a report of progress."""


def payload(event: Event) -> Mapping[str, Any]:
    """The payload as JSON."""
    return cast("Mapping[str, Any]", event.wire["payload"])


async def call_raw(server: Server[Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Call a tool with these very objects: no client, no JSON in between.

    Raises:
        MCPError: the call raised.
    """
    meta = {
        "io.modelcontextprotocol/protocolVersion": LATEST_MODERN_VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    client, peer = create_direct_dispatcher_pair()

    async def nothing(*_: Any) -> Any:
        return None

    outcome: list[dict[str, Any] | MCPError] = []
    async with anyio.create_task_group() as group:
        await group.start(peer.run, modern_on_request(server, {}), nothing)
        await group.start(client.run, nothing, nothing)
        try:
            outcome.append(await client.send_raw_request("tools/call", {**params, "_meta": meta}))
        except MCPError as error:
            outcome.append(error)
        group.cancel_scope.cancel()
    if isinstance(outcome[0], MCPError):
        raise outcome[0]
    return outcome[0]
