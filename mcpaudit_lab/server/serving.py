"""Serving a portal until the process receives a signal to end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.server.http import LOOPBACK_HOSTS

if TYPE_CHECKING:
    from mcp.server import MCPServer, Server

    from mcpaudit_lab.server.audit import LoggerStatus
    from mcpaudit_lab.server.auth import ApiKeys
    from mcpaudit_lab.server.http import Portal, PortalOptions

__all__ = ["allowed_hosts_for", "serve", "signals_call"]

_ANY_ADDRESS: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


def allowed_hosts_for(host: str, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What a Host header may name for a portal that listens on ``host``.

    The loopback names, and ``host`` unless it means "any address": then the public name must be
    given.

    Args:
        host: name or address to listen on.
        extra: further names; ``"*"`` for any.
    """
    own = () if host in _ANY_ADDRESS else (f"[{host}]" if ":" in host else host,)
    return tuple(dict.fromkeys((*LOOPBACK_HOSTS, *own, *extra)))


def serve(
    database: str,
    keys: ApiKeys,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    server: MCPServer[Any] | Server[Any] | None = None,
    options: PortalOptions | None = None,
    on_start: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> LoggerStatus:
    """Run a portal until SIGTERM or SIGINT.

    Streams then end, running calls have three seconds to finish, and the queue is stored. Either
    signal is an expected way to end, so nothing is raised and the process continues. Runs in the
    main thread.

    Args:
        database: as SQLAlchemy takes it; tables are made or brought up to date.
        keys: API keys.
        host: name or address to listen on.
        port: 0 for a free one.
        server: the MCP server; None: the demonstration server, with its twelve tools.
        options: settings; by default the hosts of :func:`allowed_hosts_for` are served.
        on_start: called with the base URL once requests are answered.
        **settings: as :func:`~mcpaudit_lab.server.setup.portal_on` takes them.

    Returns:
        The final state of the logger: what it stored, and what it could not store.

    Raises:
        ValueError: the database's URL is invalid.
        StoreUnavailable: the database is away.
        OSError: the address cannot be listened on.
    """
    from mcpaudit_lab.server.http import PortalOptions
    from mcpaudit_lab.server.running import PortalServer
    from mcpaudit_lab.server.setup import portal_on

    options = options or PortalOptions(allowed_hosts=allowed_hosts_for(host))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        app = portal_on(database, server, keys, options=options, **settings)
        portal: Portal = app.state.portal
        portal_server = PortalServer(app, lambda: on_start(f"http://{shown}:{bound}"))

        def end() -> None:
            portal_server.should_exit = True

        # When uvicorn has ended, it raises the signals again for the previous handlers. By default
        # that ends the process by a signal, which looks to a supervisor like a kill: status 143 of
        # a container, a failure where failures are restarted.
        with signals_call(end):
            portal_server.run([listener])
    return portal.logger.status()


@contextmanager
def signals_call(end: Callable[[], object]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call a function, and do no more. Only in the main thread."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    earlier = [signal.signal(number, lambda *_: end()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, earlier, strict=True):
            signal.signal(number, handler)
