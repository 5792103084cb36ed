"""What the routes of a portal share: its store, its credentials, its settings, its end."""

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
from mcpaudit_lab.server.http.answers import (
    Frames,
    answer_error,
    answer_json,
    answer_text,
    answer_unauthorized,
    log_failure,
)
from mcpaudit_lab.server.http.drain import Drain
from mcpaudit_lab.server.http.gate import LOOPBACK_HOSTS

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from mcpaudit_lab.calls import RateLimiter
    from mcpaudit_lab.server.audit import AsyncLogger, InProcessCaller
    from mcpaudit_lab.server.stores import EventLog

__all__ = ["Handler", "Portal", "PortalOptions", "Refused", "read_body"]

_CHANGING: Final = ("POST", "PUT", "PATCH", "DELETE")
_UNAVAILABLE: Final = (AuditUnavailable, IssuerUnavailable, StoreUnavailable)


@dataclass(frozen=True, slots=True)
class PortalOptions:
    """Settings of a portal.

    Attributes:
        allowed_hosts: what a Host header may name, without the port; ``"*"``: anything.
        cors_origins: origins of pages that may read answers; ``"*"``: any; none unless given.
        base_url: where the portal is reached from outside; ``""``: as each request says.
        anonymous_mcp: whether MCP is served without a credential. The portal's API never is.
        export_max_rows: maximum number of lines in an export.
        keepalive_s: how often a quiet live stream says that it is alive.
        stream_buffer: how many events wait for one slow reader of the stream.
        max_body_bytes: maximum size of an API request's body, in bytes.
        log: keep a Merkle log of a store in a database, with signed checkpoints.
        log_key: the file of the log's private key, made if it does not exist; None: beside a
            SQLite database, else in the user's data folder.
        instructions: what the portal says of its server; None: what the MCP server says.
        tool_summaries: tool name to one line about it, in the order of the portal's list; tools
            that are not named here come after them, described as the MCP server does.
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


class Refused(Exception):  # noqa: N818 - reads as what happened
    """A request that a route does not answer as asked.

    Attributes:
        response: the response to send instead.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = answer_error(status, message, headers)


class Portal:
    """A portal at work. Routes are functions of it, of a request, and of who asks.

    Args:
        logger: the events.
        auth: the credentials.
        limiter: of replays.
        options: settings.
        tool_groups: tool name to group.
        now: the time, with a zone.
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
        self.frames = Frames()
        self.log: EventLog | None = None
        self.server_name = ""
        self.server_version = ""
        self.instructions = ""

    def base_url(self, request: Request) -> str:
        """Where the portal is reached, without a slash at the end."""
        return self.options.base_url.rstrip("/") or str(request.base_url).rstrip("/")

    async def until_ended(self, access: Access | None) -> None:
        """Wait until the portal ends, or the access does."""
        async with anyio.create_task_group() as group:

            async def wait(ended: Callable[[], Awaitable[None]]) -> None:
                await ended()
                group.cancel_scope.cancel()

            group.start_soon(wait, self.drain.wait)
            if access is not None:
                group.start_soon(wait, lambda: self.auth.until_invalid(access))

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler as a Starlette endpoint that checks the key and the required header.

        Our errors become responses; an unexpected exception becomes a 500 without details.
        """

        async def answer(request: Request) -> Response:
            try:
                access = await self.auth.authenticate(request.scope["headers"])
                if not isinstance(access, Access):
                    return answer_unauthorized()
                if request.method in _CHANGING and not request.headers.get("x-requested-with"):
                    # A page of another site cannot send this header without being asked first.
                    return answer_text(403, "missing X-Requested-With header")
                return await handler(self, request, access)
            except Exception as error:  # noqa: BLE001 - whatever it is, its text may be data
                return _answer_failure(request, error)

        return answer


def _answer_failure(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return error.response
    if isinstance(error, UnreadableRow):
        told = {"error": str(error), "reason": error.reason, "columns": error.columns}
        return answer_json(told, 422)
    if isinstance(error, FilterError):
        return answer_error(400, str(error))
    if isinstance(error, _UNAVAILABLE):
        return answer_error(503, str(error), {"retry-after": "5"})
    log_failure(f"{request.method} {request.scope['path']!r} failed", error)
    return answer_error(500, "internal error")


Handler: TypeAlias = "Callable[[Portal, Request, Access], Awaitable[Response]]"


async def read_body(portal: Portal, request: Request) -> bytes:
    """The body of a request.

    Raises:
        Refused: it is larger than the portal takes; the rest is not read.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > portal.options.max_body_bytes:
            limit = portal.options.max_body_bytes
            raise Refused(413, f"the body is larger than {limit} bytes")
    return body
