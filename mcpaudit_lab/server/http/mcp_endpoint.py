"""The portal's MCP endpoint: streamable HTTP with the portal's authentication."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from mcpaudit_lab.errors import McpAuditError
from mcpaudit_lab.server.audit import ANONYMOUS, AuthFailure, Origin, use_origin
from mcpaudit_lab.server.auth import Access, Denial
from mcpaudit_lab.server.http.body_repair import RepairBodies
from mcpaudit_lab.server.http.drain import run_until
from mcpaudit_lab.server.http.responses import error_response, text_response

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.types import Receive, Scope, Send

    from mcpaudit_lab.server.http.portal import Portal

__all__ = ["McpEndpoint"]

_SESSION: Final = "mcp-session-id"
# The long-running request of the era without sessions; the other era uses a GET.
_LISTEN: Final = "subscriptions/listen"


class McpEndpoint:
    """ASGI application for ``/mcp`` and, as recorded, every path without another route.

    A request with an invalid credential is passed on as a failed authentication, so that its call
    is recorded and refused. Only a request without a credential is refused here, without a row.

    Args:
        portal: the portal.
    """

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._manager: StreamableHTTPSessionManager | None = None
        self._app = RepairBodies(self._handle)

    def use(self, manager: StreamableHTTPSessionManager | None) -> None:
        """Set the session manager that serves requests; None to refuse them."""
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            access = await self._portal.auth.authenticate(scope["headers"])
        except McpAuditError as error:
            await error_response(503, str(error))(scope, receive, send)
            return
        if access is Denial.MISSING and self._portal.options.anonymous_mcp:
            access = Access(ANONYMOUS)
        if access is Denial.MISSING:
            await self._unauthorized(Request(scope))(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["method"] == "GET" and _SESSION not in headers:
            refusal = text_response(400, "Bad Request: GET requires an Mcp-Session-Id header")
            await refusal(scope, receive, send)
            return
        allowed = access if isinstance(access, Access) else None
        scope = {**scope, "user": _user(allowed)}
        identity = AuthFailure() if allowed is None else allowed.identity
        with use_origin(Origin(identity=identity)):
            if scope["method"] == "GET" or headers.get("mcp-method") == _LISTEN:
                await run_until(
                    lambda: self._portal.wait_until_ended(allowed), self._app, scope, receive, send
                )
            else:
                await self._app(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._manager is None:
            await error_response(503, "MCP server is not available")(scope, receive, send)
            return
        await self._manager.handle_request(scope, receive, send)

    def _unauthorized(self, request: Request) -> Response:
        metadata = f"{self._portal.base_url(request)}/.well-known/oauth-protected-resource"
        challenge = (
            'Bearer realm="mcp-test", error="invalid_request", '
            'error_description="missing or unsupported credential; supply X-API-Key or '
            f'Authorization: Bearer <token>", resource_metadata="{metadata}"'
        )
        return Response(
            b'{"error":"unauthorized","error_description":"missing or unsupported credential"}',
            401,
            {"www-authenticate": challenge},
            media_type="application/json",
        )


def _user(access: Access | None) -> AuthenticatedUser:
    """The user that the SDK binds a session to, so that no other may use it. Contains no key."""
    if access is None:
        return _keyed_user("failed authentication", "")
    identity = access.identity
    if not identity.claims:
        return _keyed_user(identity.auth_type, identity.subject)
    return _make_user(identity.auth_type, identity.subject, dict(identity.claims))


def _make_user(kind: str, subject: str, claims: dict[str, Any] | None = None) -> AuthenticatedUser:
    token = AccessToken(token="", client_id=kind, scopes=[], subject=subject, claims=claims)
    return AuthenticatedUser(token)


_keyed_user = lru_cache(maxsize=256)(_make_user)
