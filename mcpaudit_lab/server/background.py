"""A portal in the background, for notebooks and tests."""

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
    """Where a portal is, and how to get in.

    Attributes:
        url: its base URL, without a slash at the end; MCP is at ``/mcp``.
        api_key: a valid key. Not shown by ``repr``.
        app: the application.
    """

    url: str
    api_key: str = field(repr=False)
    app: Starlette = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What a request must send: the key, and what changing calls need."""
        return {"X-API-Key": self.api_key, "X-Requested-With": "mcpaudit-lab"}

    def flush(self) -> None:
        """Wait until the event of every call that was answered so far is stored. Blocks."""
        logger: AsyncLogger = self.app.state.portal.logger
        # In a separate thread, because in a notebook this one has a running event loop.
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

    It runs in a thread with its own event loop, so the block may be sync or async. The thread ends
    with the process: when a kernel ends, the portal stores its queue and ends too.

    Args:
        server: the MCP server; None: the demonstration server, with its twelve tools.
        logger: where the events go; a store is closed at the end, an ``AsyncLogger`` is not.
        keys: name to key; None: one made up for the occasion, for ``notebook``.
        database: a URL such as ``sqlite:///audit.db``, instead of ``logger``. Without both, events
            are kept in memory.
        **settings: as :func:`~mcpaudit_lab.server.http.app.portal_app` takes them.

    Yields:
        The portal's URL and key.

    Raises:
        ValueError: both a logger and a database are given; or the URL is invalid.
        StoreUnavailable: the database is away.
        RuntimeError: the portal does not start.
    """
    from mcpaudit_lab.server.setup import demo_portal_app, portal_on
    from mcpaudit_lab.server.stores import MemoryLogger

    if logger is not None and database:
        raise ValueError("give a logger or a database")
    keys = {"notebook": secrets.token_urlsafe(24)} if keys is None else dict(keys)
    if logger is None and database:
        app = portal_on(database, server, keys, **settings)
    else:
        app = demo_portal_app(server, logger or MemoryLogger(), keys, **settings)
    with serve_in_thread(app) as port:
        key = next(iter(keys.values()), "")
        yield BackgroundPortal(f"http://127.0.0.1:{port}", key, app)


@contextmanager
def serve_in_thread(app: Starlette) -> Iterator[int]:
    """Serve an application on a free loopback port while the block runs; yields the port.

    Raises:
        RuntimeError: it does not start.
    """
    from mcpaudit_lab.server.running import PortalServer

    started = threading.Event()
    failures: list[BaseException] = []
    server = PortalServer(app, started.set, log_level="warning")

    def run() -> None:
        try:
            asyncio.run(server.serve([listener]))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the start is told
            failures.append(error)
        finally:
            started.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        # A daemon: a kernel that ends without leaving the block does not wait for it.
        thread = threading.Thread(target=run, name="portal", daemon=True)
        thread.start()
        try:
            if not started.wait(_START_S) or not server.started:
                raise RuntimeError("the portal did not start") from next(iter(failures), None)
            yield port
        finally:
            server.should_exit = True
            thread.join(_STOP_S)
