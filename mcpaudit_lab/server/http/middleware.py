"""ASGI middleware that runs before the routes: checks of Host and Origin, and CORS."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from mcpaudit_lab.server.http.responses import text_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOOPBACK_HOSTS", "CorsHeaders", "HostCheck"]

LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")

# Probes use an IP address as the host, and their responses reveal nothing.
_PROBES: Final = ("/healthz", "/readyz")

_CORS: Final = {
    "access-control-allow-headers": (
        "Authorization, Content-Type, X-API-Key, X-Requested-With, Mcp-Session-Id, "
        "Mcp-Protocol-Version, Mcp-Method, Mcp-Name, Last-Event-ID"
    ),
    "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
    "access-control-expose-headers": (
        "Mcp-Session-Id, Mcp-Protocol-Version, Retry-After, X-Export-Total, X-Export-Truncated"
    ),
    "access-control-max-age": "600",
}


def host_name(authority: str) -> str:
    """``Example.org:8080`` -> ``example.org``; an IPv6 address keeps its brackets."""
    name, colon, port = authority.rpartition(":")
    is_port = colon and (not port or (port.isascii() and port.isdigit()))
    return (name if is_port else authority).lower()


class HostCheck:
    """ASGI middleware that rejects requests for other hosts (421): prevents DNS rebinding.

    A web page whose name resolves to this machine cannot change the Host header. If a
    state-changing request has an Origin, it must be one of the hosts too or allowed by CORS (403).

    Args:
        app: the wrapped application.
        hosts: allowed host names without ports; ``"*"`` for any.
        origins: origins that CORS allows; ``"*"`` for any.
        unchecked: paths served under any host name.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str],
        origins: Iterable[str] = (),
        *,
        unchecked: Iterable[str] = _PROBES,
    ) -> None:
        self.app = app
        self._unchecked = frozenset(unchecked)
        self._hosts = frozenset(name.lower() for name in hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] not in self._unchecked:
            refusal = self._refusal(scope["method"], Headers(scope=scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> Response | None:
        if "*" in self._hosts:
            return None
        hosts = headers.getlist("host")
        if len(hosts) != 1 or host_name(hosts[0]) not in self._hosts:
            return text_response(421, "this host is not served here")
        origin = headers.get("origin")
        if origin is None or method in ("GET", "HEAD", "OPTIONS"):
            return None
        if self._origins & {"*", origin} or host_name(urlsplit(origin).netloc) in self._hosts:
            return None
        return text_response(403, "requests from this origin are not allowed")


class CorsHeaders:
    """ASGI middleware that lets web pages of some origins read responses.

    Credentials are headers that a page must know, never cookies, so it is safe to allow any origin.

    Args:
        app: the wrapped application.
        origins: allowed origins, such as ``https://example.org``; ``"*"`` for any.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self.app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_headers = Headers(scope=scope)
        origin = request_headers.get("origin", "")
        allowed = "*" if "*" in self._origins else origin if origin in self._origins else ""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if "*" not in self._origins:
                    headers.add_vary_header("Origin")
                if allowed:
                    headers.update({**_CORS, "access-control-allow-origin": allowed})
            await send(message)

        if scope["method"] == "OPTIONS" and "access-control-request-method" in request_headers:
            await Response(status_code=204)(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)
