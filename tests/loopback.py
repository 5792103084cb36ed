"""MCP servers on a free loopback port, asked for API keys as a portal asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcpaudit_lab.server import (
    AuthFailure,
    CapturePolicy,
    Identity,
    MemoryLogger,
    Origin,
    add_audit,
    demo_server,
    demo_tool_groups,
    use_origin,
)
from mcpaudit_lab.server.http.body_repair import RepairBodies

if TYPE_CHECKING:
    import socket

    from mcp.server import Server
    from starlette.types import ASGIApp, Receive, Scope, Send

KEYS = {"upstream-dev-key": "dev-local", "minted-key": "ci-runner"}
"""API keys that are let in, and their names."""

DEV_KEY = {"X-API-Key": "upstream-dev-key"}


class AskForKey:
    """Name the caller of every request by its API key; a wrong key is let through as a failure."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        key = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(
            b"Bearer "
        )
        name = KEYS.get(key.decode("latin-1"))
        identity = AuthFailure() if name is None else Identity.from_key(name)
        with use_origin(Origin(identity=identity)):
            await self.app(scope, receive, send)


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def run_http(server: Server[Any]) -> AsyncIterator[str]:
    """Serve over HTTP while the block runs; yields the URL of the MCP endpoint."""
    app = AskForKey(RepairBodies(server.streamable_http_app()))
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=2
    )
    listener = config.bind_socket()
    port = listener.getsockname()[1]
    uvicorn_server = _Uvicorn(config)
    async with anyio.create_task_group() as group:
        group.start_soon(uvicorn_server.serve, [listener])
        await uvicorn_server.ready.wait()
        try:
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            uvicorn_server.should_exit = True


@asynccontextmanager
async def run_demo() -> AsyncIterator[tuple[str, MemoryLogger]]:
    """The audited demonstration server over HTTP: its URL and its log."""
    server = demo_server()
    log = MemoryLogger()
    add_audit(server, log, policy=CapturePolicy(tool_groups=demo_tool_groups()))
    async with run_http(server) as url:
        yield url, log


@asynccontextmanager
async def connect(
    url: str, headers: Mapping[str, str] | None = None, mode: str = "legacy"
) -> AsyncIterator[Client]:
    """The SDK's client over HTTP, with the key of ``dev-local`` unless other headers are given."""
    async with (
        httpx2.AsyncClient(headers=dict(headers or DEV_KEY), timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


async def post_raw(url: str, body: bytes) -> httpx2.Response:
    """Post a body in a session of its own, as the raw client that was recorded did."""
    headers = {
        **DEV_KEY,
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "User-Agent": "edge/1",
    }
    hello = {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "edge", "version": "1"},
        },
    }
    async with httpx2.AsyncClient(headers=headers) as http:
        opened = await http.post(url, json=hello)
        http.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        http.headers["Mcp-Protocol-Version"] = "2025-06-18"
        return await http.post(url, content=body)
