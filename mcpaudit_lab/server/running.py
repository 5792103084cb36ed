"""Running a portal under uvicorn, and ending it in time."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from mcpaudit_lab.server.http import Drain

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette

    from mcpaudit_lab.server.http import Portal

__all__ = ["PortalServer"]

logger = logging.getLogger(__name__)

_GRACE_S: Final = 3
_HEADER_TIMEOUT_S: Final = 5


class PortalServer(uvicorn.Server):
    """A uvicorn server for one portal, which tells the portal first when it ends.

    Args:
        app: made by :func:`~mcpaudit_lab.server.http.app.portal_app`; any other is served as well.
        on_start: called when requests are answered.
        **settings: of ``uvicorn.Config``.
    """

    def __init__(
        self, app: Starlette, on_start: Callable[[], None] = lambda: None, **settings: Any
    ) -> None:
        options: dict[str, Any] = {
            "timeout_graceful_shutdown": _GRACE_S,
            "timeout_keep_alive": _HEADER_TIMEOUT_S,
            # A request line may contain a key that was put there by mistake.
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
        """Start to answer."""
        for listener in sockets or ():
            if listener.family != socket.AF_UNIX:
                # asyncio sets this on sockets created with the TCP protocol number, unlike those of
                # create_server; without it every response waits 40 ms for the client's delayed
                # acknowledgement. Accepted sockets inherit it.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, wait a moment for calls that run, then the rest."""
        self._drain.begin()
        await super().shutdown(sockets)
