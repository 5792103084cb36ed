"""Runs a portal under uvicorn until the process is told to end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from mcpaudit_lab.server.http import LOOPBACK_HOSTS, Drain

if TYPE_CHECKING:
    from mcp.server import MCPServer, Server
    from starlette.applications import Starlette

    from mcpaudit_lab.server.audit import LoggerStatus
    from mcpaudit_lab.server.auth import ApiKeys
    from mcpaudit_lab.server.http import Portal, PortalOptions

__all__ = ["PortalServer", "allowed_hosts_for", "serve", "signals_call"]

_ANY_ADDRESS: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_GRACE_S: Final = 3
_KEEP_ALIVE_S: Final = 5


def allowed_hosts_for(host: str, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The allowed Host names of a portal that listens on ``host``.

    The loopback names, ``host`` itself unless it means "any address", and ``extra``, which must
    then have the portal's external name.

    Args:
        host: name or address to listen on.
        extra: more names; ``"*"`` for any.
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
    on_start: Callable[[str, str | None], None] = lambda _url, _key: None,
    **settings: Any,
) -> LoggerStatus:
    """Run a portal until SIGTERM or SIGINT. Runs in the main thread.

    Then streams end, running calls have three seconds to finish, and queued events are stored. Both
    signals mean a normal end: nothing is raised, and the process continues.

    Args:
        database: SQLAlchemy URL; creates or migrates the tables.
        keys: API keys.
        host: name or address to listen on.
        port: port to listen on; 0 for any free one.
        server: the MCP server; None for the demonstration server with its twelve tools.
        options: settings; by default the hosts of :func:`allowed_hosts_for` are served.
        on_start: called with the base URL, and the key of the portal's log or None, when the portal
            accepts requests.
        **settings: for :func:`~mcpaudit_lab.server.setup.database_portal_app`.

    Returns:
        The logger's final state: what was stored, and what could not be.

    Raises:
        ValueError: the database URL is invalid.
        StoreUnavailable: the database is unavailable.
        OSError: the address cannot be listened on.
    """
    from mcpaudit_lab.server.http import PortalOptions
    from mcpaudit_lab.server.setup import database_portal_app

    options = options or PortalOptions(allowed_hosts=allowed_hosts_for(host))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        app = database_portal_app(database, server, keys, options=options, **settings)
        portal: Portal = app.state.portal
        key = None if portal.log is None else str(portal.log.signer.key)
        portal_server = PortalServer(app, lambda: on_start(f"http://{shown}:{bound}", key))

        def end() -> None:
            portal_server.should_exit = True

        # After its shutdown, uvicorn raises the signals again for the previous handlers. The
        # default handler ends the process by the signal, which a supervisor takes for a failure:
        # status 143 of a container.
        with signals_call(end):
            portal_server.run([listener])
    return portal.logger.status()


@contextmanager
def signals_call(end: Callable[[], object]) -> Iterator[None]:
    """Make SIGINT and SIGTERM only call ``end`` while the block runs. Main thread only."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    earlier = [signal.signal(number, lambda *_: end()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, earlier, strict=True):
            signal.signal(number, handler)


class PortalServer(uvicorn.Server):
    """A uvicorn server that drains the portal before it shuts down.

    Args:
        app: from :func:`~mcpaudit_lab.server.http.app.portal_app`; others are served too.
        on_start: called when the server accepts requests.
        **settings: for ``uvicorn.Config``.
    """

    def __init__(
        self, app: Starlette, on_start: Callable[[], None] = lambda: None, **settings: Any
    ) -> None:
        options: dict[str, Any] = {
            "timeout_graceful_shutdown": _GRACE_S,
            "timeout_keep_alive": _KEEP_ALIVE_S,
            # A request line may contain a key by mistake.
            "access_log": False,
            "server_header": False,
            "lifespan": "on",
            "log_config": None,
            **settings,
        }
        super().__init__(uvicorn.Config(app, **options))
        portal: Portal | None = getattr(app.state, "portal", None)
        self._drain = Drain() if portal is None else portal.drain
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests."""
        for listener in sockets or ():
            if listener.family != socket.AF_UNIX:
                # asyncio sets this only on sockets whose proto is TCP, which create_server does not
                # set. Without it each response waits 40 ms for the client's delayed ACK. Accepted
                # sockets inherit it.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, wait briefly for running calls, then shut down."""
        self._drain.begin()
        await super().shutdown(sockets)
