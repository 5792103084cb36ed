"""Runs the HTTP recorder under uvicorn until SIGTERM or SIGINT."""

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

    from mcpaudit_lab.recorder.call_tracker import CallTracker
    from mcpaudit_lab.recorder.call_writer import CallWriter

__all__ = ["open_client", "recorder_app", "serve_recorder"]

_CONNECT_S: Final = 30.0
_GRACE_S: Final = 1


@contextlib.asynccontextmanager
async def open_client(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without cookies, redirects or a read timeout.

    Args:
        **settings: for ``httpx2.AsyncClient``.
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
    writer: CallWriter,
    hosts: Sequence[str],
) -> ASGIApp:
    """The HTTP recorder behind a check of the Host header.

    Args:
        url: the server's URL.
        client: from :func:`open_client`.
        tracker: turns messages into events.
        writer: stores the events.
        hosts: allowed host names.
    """
    return HostCheck(HttpRecorder(url, client, tracker, writer), hosts, unchecked=())


def serve_recorder(
    url: str,
    tracker: CallTracker,
    writer: CallWriter,
    *,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...] = (),
    report: Callable[[str], None] = lambda _: None,
) -> int:
    """Record the server at ``url`` until SIGTERM or SIGINT. Runs in the main thread.

    Args:
        url: the server's URL, with its path.
        tracker: turns messages into events.
        writer: stores the events; the caller closes it.
        host: name or address to listen on.
        port: port to listen on; 0 for any free one.
        allowed_hosts: more allowed host names; ``"*"`` for any.
        report: called with a message that has the URL for the client.

    Returns:
        The exit status, 0.

    Raises:
        ValueError: the URL is not an HTTP URL, or contains a password.
        OSError: the address cannot be listened on.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("--url takes an HTTP URL such as https://host/mcp")
    if parts.username or parts.password:
        raise ValueError("--url takes no password: the client sends its own credentials")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        # Accepted sockets inherit it. Without it, Nagle's algorithm delays small stream chunks.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host

        async def run() -> None:
            async with open_client() as client:
                hosts = allowed_hosts_for(host, allowed_hosts)
                config = uvicorn.Config(
                    recorder_app(url, client, tracker, writer, hosts),
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
                    report(f"listening on http://{shown}:{bound}{parts.path}")
                    await server.serve([listener])
            writer.complete(tracker.finish())

        anyio.run(run)
    return 0
