"""Turns forwarded JSON-RPC messages into events of tool calls. No I/O, no threads.

:class:`~mcpaudit_lab.formats.Pairing` pairs requests with responses. This module adds scopes, in
which a JSON-RPC id is unique (the single connection of stdio, an MCP session, or one HTTP exchange
in the protocol era without sessions); the sizes of parts that were too large to parse; and the
events of calls that never get a response.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from mcpaudit_lab.formats import (
    Call,
    CallFinished,
    CallOpened,
    Direction,
    Item,
    Pairing,
    PartSeen,
    ToolDefinitionsSeen,
    time_text,
)
from mcpaudit_lab.record import CapturePolicy, Event, ToolList, ToolListPages, parse_time_ns
from mcpaudit_lab.recorder.large_messages import Sizes

__all__ = ["CallTracker"]

_SOURCE: Final = "recorder"
# The response that the record has for a cancelled call.
_CANCELLED: Final[dict[str, Any]] = {
    "result": {"content": [{"type": "text", "text": "context canceled"}], "isError": True}
}
_NO_SIZES: Final = Sizes()


class CallTracker:
    """Pairs requests with responses and builds their events.

    Args:
        transport: ``stdio`` or ``http``.
        policy: what to store of a call.
        about: members to add to every event: process id, command or URL.
        clock: nanoseconds since 1970-01-01 UTC.

    Attributes:
        on_tools: called with each complete list of tools from the server.
    """

    def __init__(
        self,
        transport: str,
        policy: CapturePolicy | None = None,
        about: Mapping[str, Any] | None = None,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._transport = transport
        self._policy = policy or CapturePolicy()
        self.about = dict(about or {})
        self._clock = clock
        self._pairing = Pairing(_SOURCE, self._policy, identify=lambda _: str(uuid4()))
        self._open: dict[str, Call] = {}
        # Event id of an open call -> sizes of the parts omitted from its request and response.
        self._sizes: dict[str, tuple[Sizes, Sizes]] = {}
        self._sessions: dict[str, str] = {}
        # Scope -> an ``initialize`` request that has no response yet.
        self._handshakes: dict[str, Any] = {}
        self._pages = ToolListPages()
        self.on_tools: Callable[[ToolList], object] = lambda _: None

    @property
    def calls(self) -> list[Call]:
        """The open calls, in order of arrival."""
        return list(self._open.values())

    # --- messages ---------------------------------------------------------------------------------

    def on_client_message(
        self,
        scope: str,
        message: Any,
        *,
        sizes: Sizes | None = None,
        headers: Mapping[str, list[str]] | None = None,
        session_id: str = "",
    ) -> tuple[Call | None, list[Event]]:
        """Process a message from the client.

        Args:
            scope: in which the message's id is unique.
            message: any JSON.
            sizes: of the parts omitted from ``message``; None where nothing was omitted.
            headers: of the HTTP request, name to values; None outside HTTP.
            session_id: of the MCP session.

        Returns:
            The call that the message opens, if any, and the events that it completes.
        """
        if isinstance(message, dict) and message.get("method") == "initialize":
            self._handshakes[scope] = message
        opened: Call | None = None
        events: list[Event] = []
        for item in self._feed(scope, message, "c2s"):
            if isinstance(item, CallOpened):
                opened = item.call
                opened.transport = self._transport
                opened.headers = headers
                self._open[opened.id] = opened
                if session_id:
                    self._sessions[opened.id] = session_id
                if sizes is not None:
                    self._sizes[opened.id] = sizes, _NO_SIZES
            elif isinstance(item, CallFinished):
                # The client reused the id: a response can no longer be matched to this call.
                events.append(self._close_call(item.call))
            elif isinstance(item, PartSeen) and item.call.cancelled:
                events += self.cancel([item.call])
        return opened, events

    def on_server_message(
        self, scope: str, message: Any, *, sizes: Sizes | None = None
    ) -> list[Event]:
        """Process a message from the server; returns the events that it completes."""
        if sizes is not None and isinstance(message, dict) and "method" in message:
            # Exceed the size limit on purpose, as the omitted parts of this notification do.
            filler = "x" * self._policy.max_payload_bytes
            message = {**message, "params": {**(message.get("params") or {}), "data": filler}}
        events = []
        for item in self._feed(scope, message, "s2c"):
            if isinstance(item, ToolDefinitionsSeen):
                self._add_tools(item)
            elif isinstance(item, CallFinished):
                if sizes is not None:
                    request_sizes, _ = self._sizes.get(item.call.id, (_NO_SIZES, _NO_SIZES))
                    self._sizes[item.call.id] = request_sizes, sizes
                events.append(self._close_call(item.call))
        if isinstance(message, dict) and ("result" in message or "error" in message):
            handshake = self._handshakes.get(scope)
            if handshake is not None and handshake.get("id") == message.get("id"):
                del self._handshakes[scope]
        return events

    def _add_tools(self, seen: ToolDefinitionsSeen) -> None:
        info = seen.info.extra() if seen.info is not None else {}
        found = self._pages.add(
            (seen.session, seen.connection),
            str(info.get("server_name", "")),
            parse_time_ns(time_text(seen.at)) // 1000,
            seen.tools,
            first=seen.first,
            last=seen.last,
        )
        if found is not None:
            self.on_tools(found)

    def _feed(self, scope: str, message: Any, direction: Direction) -> list[Item]:
        # Whole microseconds, the resolution of the tables.
        at = self._clock() // 1000 * 1000
        return self._pairing.feed(message, direction=direction, at=at, session=scope)

    # --- calls without a response -----------------------------------------------------------------

    def fail_calls(
        self, calls: Sequence[Call], message: str, category: str = "handler"
    ) -> list[Event]:
        """Close calls as failed; returns their events. Calls that are not open are skipped.

        Args:
            calls: the calls.
            message: the error message to record.
            category: ``handler`` or ``auth``.
        """
        events = []
        for call in calls:
            for event in self._answer_locally(call, {"error": {"message": message}}):
                event.wire["error_category"] = category
                error = event.wire.get("payload", {}).get("response_error")
                if isinstance(error, dict):
                    error["category"] = category
                events.append(event)
        return events

    def cancel(self, calls: Sequence[Call]) -> list[Event]:
        """Close calls as cancelled; returns their events. Later responses to them are ignored."""
        return [event for call in calls for event in self._answer_locally(call, _CANCELLED)]

    def _answer_locally(self, call: Call, response: dict[str, Any]) -> list[Event]:
        """Close an open call with a response that the server did not send."""
        if call.id not in self._open:
            return []
        return self.on_server_message(call.session, {"id": call.jsonrpc_id, **response})

    def discard(self, call: Call) -> None:
        """Drop a call that is not forwarded; it gets no event."""
        self._answer_locally(call, _CANCELLED)

    def adopt_session(self, scope: str, new: str) -> None:
        """Move the handshake of ``scope`` to ``new``, the session that the server assigned."""
        handshake = self._handshakes.pop(scope, None)
        if handshake is not None:
            self._pairing.finish(session=scope)
            self.on_client_message(new, handshake)

    def close_scope(self, scope: str) -> list[Event]:
        """End a scope; returns the events of its open calls."""
        self._handshakes.pop(scope, None)
        return self._unanswered_events(self._pairing.finish(session=scope))

    def finish(self) -> list[Event]:
        """End all scopes; returns the events of all open calls."""
        return self._unanswered_events(self._pairing.finish())

    def _unanswered_events(self, items: Sequence[Item]) -> list[Event]:
        return [
            self._close_call(item.call)
            for item in items
            if isinstance(item, CallFinished) and item.call.id in self._open
        ]

    # --- events -----------------------------------------------------------------------------------

    def pending_event(self, call: Call) -> Event:
        """The event of an open call as it stands, without a response."""
        return self._build_event(call)

    def _close_call(self, call: Call) -> Event:
        event = self._build_event(call)
        for known in (self._open, self._sizes, self._sessions):
            known.pop(call.id, None)
        return event

    def _build_event(self, call: Call) -> Event:
        event = call.event()
        wire = event.wire
        # The pairing's session is our scope, which is not an MCP session id.
        wire.pop("session_id", None)
        payload = wire.pop("payload", None)
        if session_id := self._sessions.get(call.id):
            wire["session_id"] = session_id
        if call.headers is not None and (agent := call.headers.get("User-Agent")):
            wire["user_agent"] = agent[0]
        wire.update({name: value for name, value in self.about.items() if value})
        request_sizes, response_sizes = self._sizes.get(call.id, (_NO_SIZES, _NO_SIZES))
        if payload is not None:
            _mark_truncated(payload, request_sizes, response_sizes)
            wire["payload"] = payload
        if response_sizes is not _NO_SIZES:
            wire["response_chars"] = response_sizes.response_chars
            wire["content_blocks"] = response_sizes.content_blocks
        return event


def _mark_truncated(payload: dict[str, Any], request_sizes: Sizes, response_sizes: Sizes) -> None:
    """Replace the parts that were too large to parse by their sizes."""
    if request_sizes is not _NO_SIZES:
        payload["request_size_bytes"] = request_sizes.request_bytes
        payload["request_truncated"] = True
        payload.pop("request_params", None)
    if response_sizes is not _NO_SIZES and "response_error" not in payload:
        payload["response_size_bytes"] = response_sizes.response_bytes
        payload["response_truncated"] = True
        payload.pop("response_result", None)
