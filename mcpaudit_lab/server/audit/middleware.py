"""The audit middleware of an MCP server: one event for every ``tools/call``.

:func:`add_audit` installs it, for any transport. It is the outermost middleware, so a call that
another middleware refuses or rewrites is recorded as it was sent and as it was answered.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, ErrorData, ServerNotification
from pydantic import BaseModel, ValidationError

from mcpaudit_lab.errors import AuditUnavailable, StoreUnavailable
from mcpaudit_lab.record import ToolListPages, parse_traceparent
from mcpaudit_lab.server.audit.capture import CallCapture, CallRequest, CapturePolicy
from mcpaudit_lab.server.audit.headers import read_headers
from mcpaudit_lab.server.audit.identity import (
    ANONYMOUS,
    AuthFailure,
    Identity,
    current_origin,
    resolve_identity,
    use_identity,
)
from mcpaudit_lab.server.audit.refusals import RefusalBudget, clip_headers, clip_text
from mcpaudit_lab.server.stores import AuditLogger, Reservation

if TYPE_CHECKING:
    from mcp.server import MCPServer, Server
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

__all__ = ["NOT_AUTHENTICATED", "AuditMiddleware", "add_audit", "error_message"]

logger = logging.getLogger(__name__)

NOT_AUTHENTICATED = 0
"""The JSON-RPC error code of a call with invalid credentials, as recorded."""

# Size limit for the stored request of a failed authentication.
_MAX_REFUSED_BYTES = 4096


def add_audit(
    server: MCPServer[Any] | Server[Any],
    logger: AuditLogger,
    *,
    policy: CapturePolicy | None = None,
    default_identity: Identity = ANONYMOUS,
    refusals: RefusalBudget | None = None,
) -> AuditMiddleware:
    """Record every tool call of ``server`` from now on.

    It works the same for HTTP, stdio and calls in process::

        server = MCPServer("mine")
        add_audit(server, MemoryLogger())

    Args:
        server: the server, high-level or low-level; it may be running already.
        logger: receives the events. While it has no room, calls are refused and do not run.
        policy: what to store and what to redact.
        default_identity: the caller if neither the transport nor
            :func:`.server.audit.identity.use_origin` names one, for instance on stdio.
        refusals: limit on the rows of failed authentications.

    Returns:
        The middleware, which counts the failed authentications without a row.

    Raises:
        ValueError: the server is audited already; every call would have two events.
    """
    if any(isinstance(other, AuditMiddleware) for other in server.middleware):
        raise ValueError("this server is audited already")
    audit = AuditMiddleware(
        logger,
        policy,
        default_identity=default_identity,
        refusals=refusals,
        server_name=str(getattr(server, "name", "") or ""),
    )
    server.middleware.insert(0, audit)
    return audit


class AuditMiddleware:
    """The middleware that :func:`add_audit` installs.

    Args:
        logger: receives the events.
        policy: what to store and what to redact.
        default_identity: the caller if no other is known.
        refusals: limit on the rows of failed authentications.
        now: the current time, with a zone.
        monotonic: monotonic seconds, for durations.
    """

    def __init__(
        self,
        logger: AuditLogger,
        policy: CapturePolicy | None = None,
        *,
        default_identity: Identity = ANONYMOUS,
        refusals: RefusalBudget | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.perf_counter,
        server_name: str = "",
    ) -> None:
        self.logger = logger
        self.server_name = server_name
        self._tool_pages = ToolListPages()
        self.policy = policy or CapturePolicy()
        self.refusals = refusals or RefusalBudget()
        self._default_identity = default_identity
        self._now = now
        self._monotonic = monotonic

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Record a ``tools/call`` and what ``tools/list`` offers; pass other requests through."""
        if ctx.method == "tools/list" and ctx.request_id is not None:
            return await self._list_tools(ctx, call_next)
        if ctx.method != "tools/call" or ctx.request_id is None:
            return await call_next(ctx)
        started = self._monotonic()
        identity = resolve_identity(current_origin(), ctx.request, self._default_identity)
        if isinstance(identity, AuthFailure):
            await self._refuse(ctx, identity, started)
            raise MCPError(NOT_AUTHENTICATED, identity.message)
        session = _ObservedSession(ctx.session)
        capture = CallCapture(self._request(ctx, session.session_id, identity), self.policy)
        session.observe(ctx, lambda method, params: capture.notify(method, params, self._now()))
        reservation = await self._reserve(capture)
        try:
            with use_identity(identity):
                result = _as_wire(await call_next(replace(ctx, session=session)))
            capture.finish(result)
        except anyio.get_cancelled_exc_class():
            capture.cancel()
            raise
        except BaseException as error:
            capture.fail(error_message(error))
            raise
        else:
            return result
        finally:
            # Synchronous on purpose: every await raises in a cancelled scope.
            self._commit(reservation, capture, started)

    async def _list_tools(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Pass a list of tools on and keep it. A store that fails must not hide the tools."""
        result = await call_next(ctx)
        wire = _as_wire(result)
        if (add := getattr(self.logger, "add_tool_list", None)) is None:
            return result
        cursor = (ctx.params or {}).get("cursor")
        found = self._tool_pages.add(
            id(ctx.session),
            self.server_name,
            int(self._now().timestamp() * 1_000_000),
            wire.get("tools") or (),
            first=cursor is None,
            last=wire.get("nextCursor") is None,
        )
        if found is None:
            return result
        try:
            kept = add(found)
            if inspect.isawaitable(kept):
                await kept
        except StoreUnavailable as error:
            logger.warning("the list of tools was not kept: %s", error)
        return result

    def _request(
        self, ctx: ServerRequestContext[Any, Any], session_id: str, identity: Identity | None
    ) -> CallRequest:
        origin = current_origin()
        params = ctx.params or {}
        name = params.get("name")
        raw_headers = getattr(getattr(ctx.request, "headers", None), "raw", None)
        headers = None if raw_headers is None else read_headers(raw_headers)
        return CallRequest(
            event_id=origin.event_id or str(uuid4()),
            request_id=str(uuid4()),
            started=self._now(),
            tool_name=name if isinstance(name, str) else "",
            arguments=params.get("arguments"),
            identity=identity,
            origin=origin,
            session_id=session_id,
            transport="http" if ctx.request is not None or origin.source != "mcp" else "stdio",
            headers=headers,
            trace=parse_traceparent(
                (ctx.meta or {}).get("traceparent"), *(headers or {}).get("Traceparent", [])
            ),
        )

    async def _reserve(self, capture: CallCapture) -> Reservation:
        try:
            return await self.logger.reserve(capture.size_hint)
        except AuditUnavailable as error:
            raise MCPError(
                INTERNAL_ERROR, f"the call was not run because it cannot be recorded: {error}"
            ) from error

    async def _refuse(
        self, ctx: ServerRequestContext[Any, Any], failure: AuthFailure, started: float
    ) -> None:
        """Record a failed authentication, if the row budget and the queue allow it."""
        left_out = self.refusals.take()
        if left_out is None:
            return
        request = self._request(ctx, _ObservedSession(ctx.session).session_id, None)
        request = replace(
            request,
            tool_name=clip_text(request.tool_name),
            session_id=clip_text(request.session_id),
            headers=None if request.headers is None else clip_headers(request.headers),
        )
        capture = CallCapture(request, self.policy, _MAX_REFUSED_BYTES)
        details = {"left_out": left_out} if left_out else {}
        capture.fail(failure.message, "auth", **details)
        try:
            reservation = await self.logger.reserve(capture.size_hint)
        except AuditUnavailable:
            self.refusals.give_up(left_out)
            return
        self._commit(reservation, capture, started)

    def _commit(self, reservation: Reservation, capture: CallCapture, started: float) -> None:
        duration_ms = int((self._monotonic() - started) * 1000)
        # Log only the types of errors: their messages may contain data of the call.
        try:
            event = capture.event(duration_ms)
        except Exception as error:  # noqa: BLE001 - the call ran and must have a row
            logger.critical("an audit event could not be built in full: %s", type(error).__name__)
            event = capture.bare_event(duration_ms)
        try:
            reservation.commit(event)
        except Exception as error:  # noqa: BLE001 - a broken logger must not fail the call
            logger.critical("an audit event could not be stored: %s", type(error).__name__)


class _ObservedSession(ServerSession):
    """The session that a tool uses, with an observer for the notifications it sends."""

    def __init__(self, session: ServerSession) -> None:
        # No super().__init__(): this object shares the state of the original session.
        self.__dict__.update(session.__dict__)
        self._observe: Callable[[str, Any], None] = lambda _method, _params: None
        self._progress_token: str | int | None = None

    @property
    def session_id(self) -> str:
        """The transport's session id; ``""`` on stdio and in the protocol era without sessions."""
        return self._connection.session_id or ""

    def observe(
        self, ctx: ServerRequestContext[Any, Any], observe: Callable[[str, Any], None]
    ) -> None:
        """Call ``observe`` with the method and params of each notification from now on."""
        self._observe = observe
        self._progress_token = (ctx.meta or {}).get("progress_token")

    async def _notify(self, notification: ServerNotification, *, request_scoped: bool) -> None:
        # The SDK calls this after its log level check, so only sent notifications are recorded.
        wire = notification.model_dump(by_alias=True, mode="json", exclude_none=True)
        self._observe(notification.method, wire.get("params"))
        await super()._notify(notification, request_scoped=request_scoped)

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        if self._progress_token is not None:
            params = {
                "progressToken": self._progress_token,
                "progress": progress,
                "total": total,
                "message": message,
            }
            sent = {name: value for name, value in params.items() if value is not None}
            self._observe("notifications/progress", sent)
        await super().report_progress(progress, total, message)


def _as_wire(result: HandlerResult) -> dict[str, Any]:
    """The result as the SDK will send it, so that an invalid result fails here."""
    if isinstance(result, ErrorData):
        raise MCPError.from_error_data(result)
    if isinstance(result, BaseModel):
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)
    if result is None or isinstance(result, dict):
        return dict(result or {})
    raise TypeError(f"a tool call returned an unsupported type: {type(result).__name__}")


def error_message(error: BaseException) -> str:
    """The message of an exception for the record and the portal's caller. Never empty."""
    if isinstance(error, MCPError):
        return error.error.message
    if isinstance(error, ValidationError):
        # Its message repeats the input, secrets included. The SDK sends this text instead.
        return "Invalid request parameters"
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - a custom __str__ may raise; the row must be written
        return type(error).__name__
