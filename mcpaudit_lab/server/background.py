"""Runs a portal in a background thread, for notebooks and tests."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mcp.server import MCPServer, Server
    from starlette.applications import Starlette

    from mcpaudit_lab.server.audit import AsyncLogger
    from mcpaudit_lab.server.stores import EventStore

__all__ = ["BackgroundPortal", "background_portal", "serve_in_thread"]

_START_S: Final = 30.0
_STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class BackgroundPortal:
    """A running background portal.

    Attributes:
        url: base URL without a trailing slash; MCP is at ``/mcp``.
        api_key: a valid API key. Not shown by ``repr``.
        app: the ASGI application.
    """

    url: str
    api_key: str = field(repr=False)
    app: Starlette = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Request headers: the key, and the header that state-changing requests need."""
        return {"X-API-Key": self.api_key, "X-Requested-With": "mcpaudit-lab"}

    def flush(self) -> None:
        """Block until the events of all calls answered so far are stored."""
        logger: AsyncLogger = self.app.state.portal.logger
        # In another thread: in a notebook this one has a running event loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, logger.flush()).result()


@contextmanager
def background_portal(
    server: MCPServer[Any] | Server[Any] | None = None,
    logger: AsyncLogger | EventStore | None = None,
    keys: Mapping[str, str] | None = None,
    *,
    database: str = "",
    **settings: Any,
) -> Iterator[BackgroundPortal]:
    """Run a portal on a free loopback port while the block runs.

    It runs in a thread with its own event loop, so the block may be sync or async. The thread does
    not outlive the process: when a kernel ends, so does the portal, after storing its queue.

    Args:
        server: the MCP server; None for the demonstration server with its twelve tools.
        logger: receives the events; a store is closed at the end, an ``AsyncLogger`` is not.
        keys: name to key; None for one random key named ``notebook``.
        database: URL such as ``sqlite:///audit.db``, instead of ``logger``. With neither, the
            events are kept in memory.
        **settings: for :func:`~mcpaudit_lab.server.http.app.portal_app`.

    Yields:
        The portal's URL and key.

    Raises:
        ValueError: both ``logger`` and ``database`` are given, or the database URL is invalid.
        StoreUnavailable: the database is unavailable.
        RuntimeError: the portal does not start.
    """
    from mcpaudit_lab.server.setup import database_portal_app, default_portal_app
    from mcpaudit_lab.server.stores import MemoryLogger

    if logger is not None and database:
        raise ValueError("give either a logger or a database, not both")
    keys = {"notebook": secrets.token_urlsafe(24)} if keys is None else dict(keys)
    if logger is None and database:
        app = database_portal_app(database, server, keys, **settings)
    else:
        app = default_portal_app(server, logger or MemoryLogger(), keys, **settings)
    with serve_in_thread(app) as port:
        key = next(iter(keys.values()), "")
        yield BackgroundPortal(f"http://127.0.0.1:{port}", key, app)


@contextmanager
def serve_in_thread(app: Starlette) -> Iterator[int]:
    """Serve an application on a free loopback port while the block runs; yields the port.

    Raises:
        RuntimeError: the server does not start.
    """
    from mcpaudit_lab.server.serving import PortalServer

    started = threading.Event()
    failures: list[BaseException] = []
    server = PortalServer(app, started.set, log_level="warning")

    def run() -> None:
        try:
            asyncio.run(server.serve([listener]))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for the start
            failures.append(error)
        finally:
            started.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        # A daemon thread: a kernel that ends inside the block does not wait for it.
        thread = threading.Thread(target=run, name="portal", daemon=True)
        thread.start()
        try:
            if not started.wait(_START_S) or not server.started:
                raise RuntimeError("the portal did not start") from next(iter(failures), None)
            yield port
        finally:
            server.should_exit = True
            thread.join(_STOP_S)
