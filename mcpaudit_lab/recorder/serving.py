"""Running the HTTP recorder until the process receives a signal to end."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import httpx2
import uvicorn

from mcpaudit_lab.recorder.http import HttpRecorder
from mcpaudit_lab.server import allowed_hosts_for, signals_call
from mcpaudit_lab.server.http import HostCheck

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from mcpaudit_lab.recorder.calls import CallTracker
    from mcpaudit_lab.recorder.keeping import Keeper

__all__ = ["open_client", "recorder_app", "serve_recorder"]

_CONNECT_S: Final = 30.0
_GRACE_S: Final = 1


@contextlib.asynccontextmanager
async def open_client(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that keeps no cookies, follows no redirects and waits for answers without end.

    Args:
        **settings: of ``httpx2.AsyncClient``.
    """
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    async with httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=_CONNECT_S),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
        cookies=no_cookies,
        follow_redirects=False,
        **settings,
    ) as client:
        yield client


def recorder_app(
    url: str,
    client: httpx2.AsyncClient,
    tracker: CallTracker,
    keeper: Keeper,
    hosts: Sequence[str],
) -> ASGIApp:
    """The recorder behind the check of the Host header.

    Args:
        url: of the server.
        client: made by :func:`open_client`.
        tracker: makes events of messages.
        keeper: stores them.
        hosts: names that requests may use.
    """
    return HostCheck(HttpRecorder(url, client, tracker, keeper), hosts, unchecked=())


def serve_recorder(
    url: str,
    tracker: CallTracker,
    keeper: Keeper,
    *,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Record the server at ``url`` until SIGTERM or SIGINT. In the main thread.

    Args:
        url: of the server, with its path.
        tracker: makes events of messages.
        keeper: stores them; the caller closes it.
        host: name or address to listen on.
        port: 0 for a free one.
        allowed_hosts: further names that requests may use; ``"*"`` for any.
        say: called with the address for the client.

    Returns:
        0.

    Raises:
        ValueError: the URL is not an HTTP URL.
        OSError: the address cannot be listened on.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("--url takes an address such as https://host/mcp")
    if parts.username or parts.password:
        raise ValueError("--url takes no password: the client sends its credentials itself")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        # What is accepted inherits it; without it small pieces of a stream wait for each other.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host

        async def run() -> None:
            async with open_client() as client:
                hosts = allowed_hosts_for(host, allowed_hosts)
                config = uvicorn.Config(
                    recorder_app(url, client, tracker, keeper, hosts),
                    access_log=False,
                    server_header=False,
                    date_header=False,
                    lifespan="off",
                    log_config=None,
                    timeout_graceful_shutdown=_GRACE_S,
                )
                server = uvicorn.Server(config)

                def end() -> None:
                    server.should_exit = True

                with signals_call(end):
                    say(f"listening on http://{shown}:{bound}{parts.path}")
                    await server.serve([listener])
            keeper.complete(tracker.finish())

        anyio.run(run)
    return 0
