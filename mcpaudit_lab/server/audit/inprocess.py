"""Calls an MCP server's tools from its own process, for Try-It and replays.

The calls take the same path through the server as any other, including the audit, but no transport.
So nothing changes an argument: without JSON text there is no nesting limit and no number is
rounded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server import MCPServer, Server
from mcp.server.connection import Connection
from mcp.server.runner import serve_one
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.transport_context import TransportContext
from mcp_types.version import LATEST_HANDSHAKE_VERSION

from mcpaudit_lab.record import copy_json
from mcpaudit_lab.server.audit.identity import Origin, use_origin
from mcpaudit_lab.server.audit.middleware import error_message

if TYPE_CHECKING:
    from mcp.shared.dispatcher import CallOptions

__all__ = ["CallOutcome", "InProcessCaller", "open_in_process"]


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """The result of a call.

    Attributes:
        result: the ``CallToolResult`` as JSON, not sanitized; None if the call raised.
        error: the error message if the call raised; else ``""``.
    """

    result: dict[str, Any] | None
    error: str = ""

    @property
    def success(self) -> bool:
        """Whether the call neither raised nor returned ``isError``."""
        return self.result is not None and self.result.get("isError") is not True


class InProcessCaller:
    """Calls the tools of one server. Created by :func:`open_in_process`.

    Args:
        server: the server.
        lifespan_state: the value that the server's lifespan yielded.
    """

    def __init__(self, server: Server[Any], lifespan_state: Any) -> None:
        self._server = server
        self._lifespan_state = lifespan_state
        self._ids = count(1)

    async def call(
        self, name: str, arguments: Mapping[str, Any] | None, origin: Origin
    ) -> CallOutcome:
        """Call a tool. Never raises for a failed call: see :attr:`CallOutcome.error`.

        Args:
            name: the tool's name.
            arguments: deep-copied before the call.
            origin: the call's origin; set ``event_id`` to know the row's id beforehand.
        """
        params: dict[str, Any] = {"name": name}
        if arguments is not None:
            params["arguments"] = copy_json(arguments)
        try:
            with use_origin(origin):
                return CallOutcome(await self._request("tools/call", params))
        except Exception as error:  # noqa: BLE001 - a tool may raise anything
            return CallOutcome(None, f'calling "tools/call": {error_message(error)}')

    async def list_tools(self) -> list[dict[str, Any]]:
        """All pages of ``tools/list``.

        Raises:
            MCPError: the server does not support ``tools/list``, or it failed.
        """
        tools: list[dict[str, Any]] = []
        cursor: Any = None
        for _ in range(1000):
            page = await self._request("tools/list", {"cursor": cursor} if cursor else {})
            tools += page.get("tools", [])
            cursor = page.get("nextCursor")
            if not cursor:
                break
        return tools

    async def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        # The handshake era, as the reference portal's own client: log messages need no opt-in and
        # results have no envelope.
        connection = Connection.from_envelope(LATEST_HANDSHAKE_VERSION, None, None)
        return await serve_one(
            self._server,
            _NoChannel(next(self._ids)),
            method,
            params,
            connection=connection,
            lifespan_state=self._lifespan_state,
        )


@asynccontextmanager
async def open_in_process(
    server: MCPServer[Any] | Server[Any],
) -> AsyncIterator[InProcessCaller]:
    """Call the tools of ``server`` while the block runs. The server's lifespan is entered once."""
    low: Server[Any] = (
        server._lowlevel_server  # noqa: SLF001 - the SDK has no public name for it yet
        if isinstance(server, MCPServer)
        else server
    )
    async with low.lifespan(low) as state:
        yield InProcessCaller(low, state)


@dataclass
class _NoChannel:
    """The channel of a call without a transport: no client receives notifications."""

    request_id: int
    transport: TransportContext = field(
        default_factory=lambda: TransportContext(kind="in-process", can_send_request=False)
    )
    can_send_request: bool = False
    message_metadata: None = None
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        del params, opts
        raise NoBackChannelError(method)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Drop a notification; the audit has recorded it."""

    async def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Drop a progress report: there is no progress token."""
