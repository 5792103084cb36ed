"""Routes that call a tool in process: Try-It, and the replay of an event.

Each call has exactly one event, which is stored before the response is sent, so that a GET of its
id right after finds it. The write has its own deadline; a client that disconnects does not stop it,
and after the deadline the event is still queued.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import anyio

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import Event, loads, marked_texts, parse_id, redacted_paths
from mcpaudit_lab.server.audit import Origin, first_value, read_headers
from mcpaudit_lab.server.http.portal import HttpError, read_body
from mcpaudit_lab.server.http.responses import go_quote, json_response, unauthorized_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from mcpaudit_lab.server.audit import CallOutcome, InProcessCaller
    from mcpaudit_lab.server.auth import Access
    from mcpaudit_lab.server.http.portal import Portal

__all__ = ["replay_event", "try_tool"]

_FLUSH_S: Final = 5.0
_RESULT_ORDER: Final = ("content", "structuredContent", "isError")


async def try_tool(portal: Portal, request: Request, access: Access) -> Response:
    """``POST /admin/tryit/{name}``: the result; 200 even if it has ``isError``."""
    caller = _caller(portal)
    body = await read_body(portal, request)
    try:
        parsed: Any = loads(body) if body.strip() else {}
    except RecordError as error:
        raise HttpError(400, f"the body is not JSON: {error.detail}") from None
    arguments = parsed.get("arguments") if isinstance(parsed, dict) else parsed
    if not isinstance(arguments, dict | None) or not isinstance(parsed, dict):
        raise HttpError(400, 'the body must have the form {"arguments": {…}}')
    origin = _origin(request, access, "portal-tryit")
    outcome = await _call(portal, caller, request.path_params["name"], arguments, origin)
    if outcome.result is None:
        raise HttpError(502, outcome.error)
    return json_response(_result_body(outcome.result))


async def replay_event(portal: Portal, request: Request, access: Access) -> Response:
    """``POST /audit/events/{id}/replay``: 200, or 502 if the call failed."""
    caller = _caller(portal)
    try:
        event_id = parse_id(request.path_params["event_id"])
    except RecordError:
        raise HttpError(400, "event id is not a valid uuid") from None
    identity = access.identity
    if not identity.subject or not identity.auth_type:
        # Unidentified callers would share a rate limit and be indistinguishable in the record.
        return unauthorized_response()
    original = await portal.logger.event(event_id)
    if original is None:
        raise HttpError(404, "event not found")
    arguments = await _replayable_arguments(caller, original)
    verdict = await portal.limiter.take(f"{identity.auth_type}:{identity.subject}")
    if not verdict.allowed:
        seconds = verdict.retry_after_s
        raise HttpError(
            429, f"replay rate limit exceeded; retry in {seconds}s", {"retry-after": str(seconds)}
        )
    origin = _origin(request, access, "portal-replay", replayed_from=original.id)
    outcome = await _call(portal, caller, original.tool_name, arguments, origin)
    body: dict[str, Any] = {"replay_event_id": origin.event_id, "replayed_from": original.id}
    if outcome.result is not None:
        body["result"] = _result_body(outcome.result)
    body["success"] = outcome.success
    if outcome.error:
        body["error"] = outcome.error
    return json_response(body, 200 if outcome.success else 502)


def _caller(portal: Portal) -> InProcessCaller:
    if portal.caller is None:
        raise HttpError(503, "MCP server is not available")
    return portal.caller


async def _replayable_arguments(
    caller: InProcessCaller, original: Event
) -> Mapping[str, Any] | None:
    """Check that a replay may run; returns the captured arguments, None if none were sent."""
    params = original.payload.request_params if original.payload is not None else None
    if not params and not _had_no_arguments(original):
        raise HttpError(400, "original event has no captured request params; cannot replay")
    # Redaction also applies inside texts that are JSON, so texts may contain redaction marks.
    if redacted_paths(params) or marked_texts(params):
        raise HttpError(
            400,
            "original event has redacted parameter values; replay would not exercise the same "
            "call. Re-stage manually via Try-It",
        )
    if original.tool_name not in {tool["name"] for tool in await caller.list_tools()}:
        raise HttpError(400, f"tool {go_quote(original.tool_name)} is no longer registered")
    return params if isinstance(params, dict) and params else None


def _had_no_arguments(event: Event) -> bool:
    """Whether the call was sent without arguments, rather than with omitted large ones."""
    payload = event.payload
    return (
        payload is not None
        and not payload.request_truncated
        and payload.request_size_bytes <= len("{}")
        and not event.parameters
        and event.error_category != "auth"
    )


def _origin(request: Request, access: Access, source: str, replayed_from: str = "") -> Origin:
    client = request.client
    return Origin(
        identity=access.identity,
        source=source,
        transport="http",
        remote_addr=f"{client.host}:{client.port}" if client else "",
        user_agent=first_value(read_headers(request.headers.raw), "User-Agent"),
        replayed_from=replayed_from,
        event_id=str(uuid4()),
    )


async def _call(
    portal: Portal,
    caller: InProcessCaller,
    name: str,
    arguments: Mapping[str, Any] | None,
    origin: Origin,
) -> CallOutcome:
    try:
        return await caller.call(name, arguments, origin)
    finally:
        with anyio.move_on_after(_FLUSH_S, shield=True):
            await portal.logger.flush()


def _result_body(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result in the recorded order of members, with ``isError`` only if it is true."""
    shown = {name: result[name] for name in _RESULT_ORDER if name in result}
    shown |= {name: value for name, value in result.items() if name not in shown}
    if shown.get("isError") is False:
        del shown["isError"]
    return shown
