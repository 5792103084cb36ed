"""What is looked at before any route: the Host header, where a page came from, CORS."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from mcpaudit_lab.server.http.answers import answer_text

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOOPBACK_HOSTS", "CorsHeaders", "HostCheck"]

LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")

# Health probes use the address instead of the name, and get no data.
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
    """ASGI middleware that refuses requests meant for another host (421).

    A page whose own name was made to resolve to this machine (DNS rebinding) cannot change the
    Host header. Where an Origin is sent with a state-changing request, it must be one of the hosts
    too, or one that CORS allows (403).

    Args:
        app: the wrapped application.
        hosts: names without ports; ``"*"`` for any.
        origins: that CORS allows; ``"*"`` for any.
        unchecked: paths that are answered under any name.
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
            return answer_text(421, "this host is not served here")
        origin = headers.get("origin")
        if origin is None or method in ("GET", "HEAD", "OPTIONS"):
            return None
        if self._origins & {"*", origin} or host_name(urlsplit(origin).netloc) in self._hosts:
            return None
        return answer_text(403, "requests from this origin are not allowed")


class CorsHeaders:
    """ASGI middleware that lets pages of some origins read the answers.

    Credentials are headers that a page must know, never cookies, so any origin may be allowed.

    Args:
        app: the wrapped application.
        origins: such as ``https://example.org``; ``"*"`` for any.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self.app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        origin = asked.get("origin", "")
        allowed = "*" if "*" in self._origins else origin if origin in self._origins else ""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if "*" not in self._origins:
                    headers.add_vary_header("Origin")
                if allowed:
                    headers.update({**_CORS, "access-control-allow-origin": allowed})
            await send(message)

        if scope["method"] == "OPTIONS" and "access-control-request-method" in asked:
            await Response(status_code=204)(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)
