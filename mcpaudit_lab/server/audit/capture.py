"""Captures one tool call and builds its event.

A :class:`CallCapture` copies the arguments when the call begins, so that a tool which changes them
changes neither the row nor a later replay. It collects the notifications and the result, then
builds the :class:`.record.events.Event`. No waiting, no clock, no dependency on the MCP SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mcpaudit_lab.record import CapturedCall, CapturePolicy, Event, Payload, format_time
from mcpaudit_lab.server.audit.headers import first_hop, first_value
from mcpaudit_lab.server.audit.identity import Identity, Origin

__all__ = ["CallCapture", "CallRequest", "CapturePolicy"]


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A received ``tools/call``.

    Attributes:
        event_id: id of the event to write.
        request_id: the server's own id for the request.
        started: time of arrival, with a zone.
        tool_name: the requested tool.
        arguments: as sent; anything but an object counts as no arguments.
        identity: the caller; None if authentication failed.
        origin: where the call came from.
        session_id: of the MCP session; ``""`` if there is none.
        transport: ``http`` or ``stdio``.
        headers: of the HTTP request, name to values; None outside HTTP.
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
    trace: Mapping[str, str] = field(default_factory=dict)


class CallCapture(CapturedCall):
    """The state of one call in progress.

    Args:
        request: the call.
        policy: what to store of it.
        max_request_bytes: size limit for the stored request; None for the limit of ``policy``.
    """

    def __init__(
        self, request: CallRequest, policy: CapturePolicy, max_request_bytes: int | None = None
    ) -> None:
        self._request = request
        self._from_portal = request.origin.source != "mcp"
        super().__init__(
            request.arguments,
            policy,
            unbounded=self._from_portal,
            max_request_bytes=max_request_bytes,
        )

    @property
    def size_hint(self) -> int:
        """Upper estimate of the event's size in bytes, for the reservation."""
        headers = self._request.headers or {}
        header_bytes = sum(len(name) + sum(map(len, values)) for name, values in headers.items())
        # Twice the arguments (row and payload), twice the limit (response and notifications), and
        # three times the tool name, which an error message repeats.
        sizes = 2 * self._request_bytes + 2 * self._policy.max_payload_bytes + header_bytes
        return sizes + 3 * len(self._request.tool_name) + 2048

    def notify(self, method: str, params: Any, sent: datetime) -> None:
        """Record a notification sent to the client during the call."""
        self.add_notification(method, params, format_time(sent))

    def fail(self, message: str, category: str = "handler", **details: Any) -> None:
        """Record that the call raised or was refused.

        Args:
            message: the error message to record.
            category: ``handler`` or ``auth``.
            **details: additional members of ``response_error``.
        """
        if self._from_portal:
            message = f'calling "tools/call": {message}'
        super().fail(message, category, **details)

    def event(self, duration_ms: int) -> Event:
        """Build the event with its payload.

        Args:
            duration_ms: duration of the call in whole milliseconds.
        """
        request, origin = self._request, self._request.origin
        identity = request.identity or Identity("", "")
        failed_auth = request.identity is None
        outcome, response = self.outcome()
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
            payload=Payload.build(**self.sent(), **response),
            **outcome,
            **request.trace,
        )

    def bare_event(self, duration_ms: int) -> Event:
        """A minimal event for the call, for when building the full one fails."""
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

    def sent(self) -> dict[str, Any]:
        """The payload members that describe the request."""
        request = self._request
        members = {
            **super().sent(),
            "request_remote_addr": self._remote_addr(),
            "replayed_from": request.origin.replayed_from,
        }
        if not self._from_portal and request.headers is not None:
            members["request_headers"] = self._policy.sanitizer.mask_headers(request.headers)
        return members

    def outcome(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The members of event and payload that describe the result."""
        event, payload = super().outcome()
        if self._from_portal and event["error_category"] == "tool" and self._error is None:
            # As recorded: only for the portal's own calls.
            event["error_message"] = "tool returned IsError"
        return event, payload

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
