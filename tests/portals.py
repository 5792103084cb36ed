"""Portals on a free loopback port, and requests to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import httpx2
import uvicorn

from mcpaudit_lab.record import Event, Payload
from mcpaudit_lab.server import CapturePolicy, MemoryLogger, demo_server, demo_tool_groups
from mcpaudit_lab.server.http.app import portal_app

if TYPE_CHECKING:
    import socket

    from starlette.applications import Starlette

DEV_KEY = "upstream-dev-key"
KEYS = {"dev-local": DEV_KEY}
DEV: dict[str, str] = {"X-API-Key": DEV_KEY}
START = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
CSRF = {"X-Requested-With": "tests"}


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()
        self.over = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Wait for the end, which uvicorn's own loop looks for ten times a second."""
        await self.on_tick(0)
        await self.over.wait()


@asynccontextmanager
async def run_app(app: Starlette) -> AsyncIterator[str]:
    """Serve while the block runs; yields the base URL."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=2
    )
    listener = config.bind_socket()
    server = _Uvicorn(config)
    with listener:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            await server.ready.wait()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                app.state.portal.drain.begin()
                server.should_exit = True
                server.over.set()


def demo_app(logger: Any = None, **settings: Any) -> Starlette:
    """The portal of the demonstration server, with the key of ``dev-local``."""
    settings.setdefault("keys", KEYS)
    settings.setdefault("policy", CapturePolicy(tool_groups=demo_tool_groups()))
    return portal_app(demo_server(), logger or MemoryLogger(), **settings)


@asynccontextmanager
async def run_portal(
    logger: Any = None, headers: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    """The same, served; yields a client with that key, or with other headers."""
    async with (
        run_app(demo_app(logger, **settings)) as url,
        httpx2.AsyncClient(
            base_url=url, headers=DEV if headers is None else headers, timeout=20
        ) as http,
    ):
        yield http


def url_of(http: httpx2.AsyncClient, path: str) -> str:
    """The whole URL of a path, for clients of another kind."""
    return f"{str(http.base_url).rstrip('/')}{path}"


def an_event(number: float = 0, **members: Any) -> Event:
    """An event so many seconds after :data:`START`, with other members where they are given."""
    values = {
        "id": str(uuid4()),
        "timestamp": START + timedelta(seconds=number),
        "tool_name": "echo",
        "success": True,
        "transport": "http",
        "source": "mcp",
        "parameters": {"n": number},
        "payload": Payload.build(jsonrpc_method="tools/call", request_params={"n": number}),
        **members,
    }
    return Event.build(**values)
