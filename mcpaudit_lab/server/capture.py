"""One tool call on its way into the record.

A :class:`CallCapture` takes what was sent when the call begins, as a copy, so that a tool which
changes its arguments changes neither the row nor a later replay; it hears of the notifications and
of the end, and then gives the :class:`~mcpaudit_lab.events.Event`. Nothing here waits, keeps time
or knows the MCP SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mcpaudit_lab.events import Event, Payload, format_time
from mcpaudit_lab.jsontext import Json
from mcpaudit_lab.sanitize import Sanitizer, copy_json
from mcpaudit_lab.server.headers import first_hop, first_value
from mcpaudit_lab.server.identity import Identity, Origin
from mcpaudit_lab.server.wiretext import wire_size

__all__ = ["CallCapture", "CallRequest", "CapturePolicy"]

# What a call that was cancelled leaves behind: the error of a cancelled context, as recorded.
_CANCELLED_RESULT: dict[str, Any] = {
    "content": [{"type": "text", "text": "context canceled"}],
    "isError": True,
}
# Envelope members of the 2026-07-28 era that say nothing about the call. Without them the same
# call has the same result in both eras.
_SERVER_INFO_KEY = "io.modelcontextprotocol/serverInfo"


@dataclass(frozen=True, slots=True)
class CapturePolicy:
    """What is kept of a call.

    Attributes:
        sanitizer: what is taken out of everything that is kept.
        sanitize_responses: take it out of results too. The reference server keeps them as they
            are.
        max_payload_bytes: a request or response over this size is left out whole, its size kept.
        max_notifications: how many notifications of one call are kept; together they have at most
            ``max_payload_bytes``.
        tool_groups: tool name to the group it is listed under.
    """

    sanitizer: Sanitizer = field(default_factory=Sanitizer)
    sanitize_responses: bool = True
    max_payload_bytes: int = 65_536
    max_notifications: int = 100
    tool_groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A ``tools/call`` as it came in.

    Attributes:
        event_id: id of the event to be written.
        request_id: the server's own id of the request.
        started: when it came in, with a zone.
        tool_name: the tool asked for.
        arguments: as sent; what is not an object is no arguments.
        identity: the caller; None where authentication failed.
        origin: how it came in.
        session_id: of the MCP session; ``""`` where there is none.
        transport: ``http`` or ``stdio``.
        headers: of the HTTP request, name to values; None off HTTP.
    """

    event_id: str
    request_id: str
    started: datetime
    tool_name: str
    arguments: Any = field(repr=False)
    identity: Identity | None
    origin: Origin
    session_id: str = ""
    transport: str = "http"
    headers: Mapping[str, list[str]] | None = field(default=None, repr=False)


class CallCapture:
    """What is known of one call so far.

    Args:
        request: the call.
        policy: what is kept of it.
        max_request_bytes: keep the request only up to this size; ``policy`` decides otherwise.
    """

    def __init__(
        self, request: CallRequest, policy: CapturePolicy, max_request_bytes: int | None = None
    ) -> None:
        self._request = request
        self._policy = policy
        self._from_portal = request.origin.source.startswith("portal-")
        arguments = request.arguments if isinstance(request.arguments, Mapping) else {}
        cleaned = policy.sanitizer.clean(arguments)
        # As recorded: a request is measured as it is kept, a response as it was sent.
        self._request_bytes = wire_size(cleaned)
        limit = policy.max_payload_bytes if max_request_bytes is None else max_request_bytes
        self._request_truncated = self._request_bytes > limit and not self._from_portal
        keep = max_request_bytes is None or not self._request_truncated
        self._parameters = cleaned if cleaned and keep else None
        self._notifications: list[dict[str, Any]] = []
        self._notification_bytes = 2
        self._notifications_truncated = False
        self._result: Mapping[str, Any] | None = None
        self._error: dict[str, Any] | None = None

    @property
    def size_hint(self) -> int:
        """About how many bytes the event will have at most, for reserving a place."""
        headers = self._request.headers or {}
        header_bytes = sum(len(name) + sum(map(len, values)) for name, values in headers.items())
        # Arguments and limits count twice (row and payload; response and notifications), the
        # tool's name thrice: an error message repeats it.
        sizes = 2 * self._request_bytes + 2 * self._policy.max_payload_bytes + header_bytes
        return sizes + 3 * len(self._request.tool_name) + 2048

    def notify(self, method: str, params: Any, sent: datetime) -> None:
        """A notification goes to the client while the call runs."""
        if self._notifications_truncated:
            return
        notification = {
            "ts": format_time(sent),
            "method": method,
            "params": self._policy.sanitizer.clean(params),
        }
        size = self._notification_bytes + wire_size(notification) + 1
        fits = self._from_portal or size <= self._policy.max_payload_bytes
        if not fits or len(self._notifications) >= self._policy.max_notifications:
            # The tail is dropped, not what happens to be large: what is kept has no holes.
            self._notifications_truncated = True
            return
        self._notification_bytes = size
        self._notifications.append(notification)

    def finish(self, result: Mapping[str, Any]) -> None:
        """The call was answered with this ``CallToolResult``, in its JSON form."""
        self._result = result

    def cancel(self) -> None:
        """The call was cancelled: by the caller, by its leaving, or since the server ends."""
        self._result = _CANCELLED_RESULT

    def fail(self, message: str, category: str = "handler", **details: Any) -> None:
        """The call raised, or was refused.

        Args:
            message: for the record.
            category: ``handler`` or ``auth``.
            **details: more members of ``response_error``.
        """
        if self._from_portal:
            message = f'calling "tools/call": {message}'
        limit = self._policy.max_payload_bytes
        message = message if len(message) <= limit else message[: limit - 1] + "…"
        self._error = {"category": category, "message": message, **details}

    def event(self, duration_ms: int) -> Event:
        """The event with its payload.

        Args:
            duration_ms: from the start to the end of the call, whole milliseconds.
        """
        request, origin = self._request, self._request.origin
        identity = request.identity or Identity("", "")
        failed_auth = request.identity is None
        outcome, response = self._outcome()
        return Event.build(
            id=request.event_id,
            timestamp=request.started,
            duration_ms=duration_ms,
            request_id=request.request_id,
            session_id=request.session_id,
            user_subject=identity.subject,
            user_email=identity.email,
            auth_type=identity.auth_type,
            api_key_name=identity.api_key_name,
            tool_name=request.tool_name,
            tool_group=self._policy.tool_groups.get(request.tool_name, ""),
            parameters=None if failed_auth else self._parameters,
            transport=origin.transport or request.transport,
            source=origin.source,
            remote_addr=self._remote_addr(),
            user_agent=self._user_agent(),
            payload=Payload.build(**self._sent(), **response),
            **outcome,
        )

    def bare_event(self, duration_ms: int) -> Event:
        """An event that only says that there was such a call: for when the full one fails."""
        request = self._request
        return Event.build(
            id=request.event_id,
            timestamp=request.started,
            duration_ms=duration_ms,
            request_id=request.request_id,
            tool_name=request.tool_name,
            error_category="handler",
            error_message="the call could not be recorded in full",
            transport=request.transport,
            source=request.origin.source,
        )

    def _sent(self) -> dict[str, Any]:
        """The members of the payload that say what was asked."""
        request = self._request
        members: dict[str, Any] = {
            "jsonrpc_method": "tools/call",
            "request_params": None if self._request_truncated else self._parameters,
            "request_remote_addr": self._remote_addr(),
            "notifications": list(self._notifications),
            "notifications_truncated": self._notifications_truncated,
            "replayed_from": request.origin.replayed_from,
        }
        if not self._from_portal:
            headers = request.headers
            members["request_size_bytes"] = self._request_bytes
            members["request_truncated"] = self._request_truncated
            if headers is not None:
                members["request_headers"] = self._policy.sanitizer.mask_headers(headers)
        return members

    def _outcome(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The members of event and payload that say how it ended."""
        if self._error is not None:
            event = {
                "success": False,
                "error_message": self._error["message"],
                "error_category": self._error["category"],
            }
            return event, {"response_error": self._error}
        result = _without_envelope(self._result or {})
        is_error = result.get("isError") is True
        content = result.get("content")
        blocks: list[Any] = content if isinstance(content, list) else []
        event = {
            "success": not is_error,
            "error_category": "tool" if is_error else "",
            # The portal says so for its own calls only.
            "error_message": "tool returned IsError" if is_error and self._from_portal else "",
            "response_chars": sum(map(_text_bytes, blocks)),
            "content_blocks": len(blocks),
        }
        if self._from_portal:
            return event, {"response_result": self._clean_result(result)}
        size = wire_size(result)
        truncated = size > self._policy.max_payload_bytes
        payload = {
            "response_result": None if truncated else self._clean_result(result),
            "response_size_bytes": size,
            "response_truncated": truncated,
        }
        return event, payload

    def _clean_result(self, result: dict[str, Any]) -> Json:
        return (self._policy.sanitizer.clean if self._policy.sanitize_responses else copy_json)(
            result
        )

    def _remote_addr(self) -> str:
        origin = self._request.origin
        if origin.remote_addr is not None:
            return origin.remote_addr
        return first_hop(self._request.headers or {})

    def _user_agent(self) -> str:
        origin = self._request.origin
        if origin.user_agent is not None:
            return origin.user_agent
        return first_value(self._request.headers or {}, "User-Agent")


def _without_envelope(result: Mapping[str, Any]) -> dict[str, Any]:
    # A result that asks for more input (2026-07-28) is no CallToolResult yet.
    members = {"isError": False, **result} if "content" in result else dict(result)
    if members.get("resultType") == "complete":
        del members["resultType"]
    meta = members.get("_meta")
    if isinstance(meta, dict) and _SERVER_INFO_KEY in meta:
        rest = {name: value for name, value in meta.items() if name != _SERVER_INFO_KEY}
        if rest:
            members["_meta"] = rest
        else:
            del members["_meta"]
    return members


def _text_bytes(block: Any) -> int:
    """The record calls them characters and counts bytes of UTF-8."""
    if not isinstance(block, Mapping) or block.get("type") != "text":
        return 0
    text = block.get("text")
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0
