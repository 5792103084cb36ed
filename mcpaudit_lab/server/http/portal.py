"""The state that a portal's routes share: store, authentication, settings, shutdown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from mcpaudit_lab.errors import (
    AuditUnavailable,
    FilterError,
    IssuerUnavailable,
    StoreUnavailable,
    UnreadableRow,
)
from mcpaudit_lab.server.auth import Access, Authenticator
from mcpaudit_lab.server.http.drain import Drain
from mcpaudit_lab.server.http.middleware import LOOPBACK_HOSTS
from mcpaudit_lab.server.http.responses import (
    FrameCache,
    error_response,
    json_response,
    log_failure,
    text_response,
    unauthorized_response,
)

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from mcpaudit_lab.calls import RateLimiter
    from mcpaudit_lab.server.audit import AsyncLogger, InProcessCaller
    from mcpaudit_lab.server.stores import EventLog

__all__ = ["Handler", "HttpError", "Portal", "PortalOptions", "read_body"]

_CHANGING: Final = ("POST", "PUT", "PATCH", "DELETE")
_UNAVAILABLE: Final = (AuditUnavailable, IssuerUnavailable, StoreUnavailable)


@dataclass(frozen=True, slots=True)
class PortalOptions:
    """Settings of a portal.

    Attributes:
        allowed_hosts: allowed host names in the Host header, without port; ``"*"`` for any.
        cors_origins: origins of web pages that may read responses; ``"*"`` for any; default none.
        base_url: external URL of the portal; ``""`` to take it from each request.
        anonymous_mcp: whether MCP is served without a credential. The portal's API never is.
        export_max_rows: maximum number of lines in an export.
        keepalive_s: interval of keepalive comments in a quiet stream, in seconds.
        stream_buffer: queue capacity of a stream's subscriber, in events.
        max_body_bytes: maximum size of an API request body, in bytes.
        instructions: the portal's instructions; None for those of the MCP server.
        tool_summaries: tool name to a one-line summary, in the order of the portal's tool list.
            Other tools follow, with the MCP server's description.
        log: whether to keep a Merkle log of a database's events, with signed checkpoints.
        log_key: file of the log's private key, created if missing; None: beside a SQLite database,
            else in the user's data folder.
    """

    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    cors_origins: tuple[str, ...] = ()
    base_url: str = ""
    anonymous_mcp: bool = False
    export_max_rows: int = 100_000
    keepalive_s: float = 30.0
    stream_buffer: int = 64
    max_body_bytes: int = 1024 * 1024
    instructions: str | None = None
    tool_summaries: Mapping[str, str] = field(default_factory=dict)
    log: bool = True
    log_key: Path | None = None


class HttpError(Exception):
    """Raised by a route to send an error response.

    Attributes:
        response: the response.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = error_response(status, message, headers)


class Portal:
    """A running portal. Routes are functions of a portal, a request and the caller's access.

    Args:
        logger: writes and reads events.
        auth: authenticates callers.
        limiter: rate limit of replays.
        options: settings.
        tool_groups: tool name to group.
        now: the current time, with a zone.
    """

    def __init__(
        self,
        logger: AsyncLogger,
        auth: Authenticator,
        limiter: RateLimiter,
        options: PortalOptions,
        *,
        tool_groups: Mapping[str, str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.logger = logger
        self.auth = auth
        self.limiter = limiter
        self.options = options
        self.tool_groups = tool_groups
        self.now = now
        self.drain = Drain()
        self.caller: InProcessCaller | None = None
        self.frames = FrameCache()
        self.log: EventLog | None = None
        self.server_name = ""
        self.server_version = ""
        self.instructions = ""

    def base_url(self, request: Request) -> str:
        """The portal's external URL, without a trailing slash."""
        return self.options.base_url.rstrip("/") or str(request.base_url).rstrip("/")

    async def wait_until_ended(self, access: Access | None) -> None:
        """Wait until the portal shuts down or the access ends."""
        async with anyio.create_task_group() as group:

            async def wait(ended: Callable[[], Awaitable[None]]) -> None:
                await ended()
                group.cancel_scope.cancel()

            group.start_soon(wait, self.drain.wait)
            if access is not None:
                group.start_soon(wait, lambda: self.auth.wait_until_invalid(access))

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler as a Starlette endpoint.

        Requires a valid credential and, for state-changing requests, ``X-Requested-With``. Known
        errors become error responses; any other becomes a 500 without details.
        """

        async def answer(request: Request) -> Response:
            try:
                access = await self.auth.authenticate(request.scope["headers"])
                if not isinstance(access, Access):
                    return unauthorized_response()
                if request.method in _CHANGING and not request.headers.get("x-requested-with"):
                    # A page of another site cannot send this header without a CORS preflight.
                    return text_response(403, "missing X-Requested-With header")
                return await handler(self, request, access)
            except Exception as error:  # noqa: BLE001 - the message of any other error may contain data
                return _failure_response(request, error)

        return answer


def _failure_response(request: Request, error: Exception) -> Response:
    if isinstance(error, HttpError):
        return error.response
    if isinstance(error, UnreadableRow):
        body = {"error": str(error), "reason": error.reason, "columns": error.columns}
        return json_response(body, 422)
    if isinstance(error, FilterError):
        return error_response(400, str(error))
    if isinstance(error, _UNAVAILABLE):
        return error_response(503, str(error), {"retry-after": "5"})
    log_failure(f"{request.method} {request.scope['path']!r} failed", error)
    return error_response(500, "internal error")


Handler: TypeAlias = "Callable[[Portal, Request, Access], Awaitable[Response]]"


async def read_body(portal: Portal, request: Request) -> bytes:
    """Read the body of a request.

    Raises:
        HttpError: the body is larger than ``max_body_bytes``; the rest is not read.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > portal.options.max_body_bytes:
            limit = portal.options.max_body_bytes
            raise HttpError(413, f"the body is larger than {limit} bytes")
    return body
