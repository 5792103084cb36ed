"""The tool calls among the messages that pass, as events. No input or output, no threads.

:class:`~mcpaudit_lab.formats.Pairing` pairs requests and responses. The recorder adds scopes, in
which a JSON-RPC id is unique (the one connection of stdio, an MCP session, or one HTTP exchange in
the era without sessions), the sizes of messages too large to read, and the end of calls that no
message answers.
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
from mcpaudit_lab.recorder.skim import Sizes

__all__ = ["CallTracker", "OpenCall"]

OpenCall = Call
"""A call that was sent on, or is about to be."""

_SOURCE: Final = "recorder"
# What a cancelled call leaves behind in the record.
_CANCELLED: Final[dict[str, Any]] = {
    "result": {"content": [{"type": "text", "text": "context canceled"}], "isError": True}
}
_NOTHING: Final = Sizes()


class CallTracker:
    """Pairs requests and answers, and makes events of them.

    Args:
        transport: ``stdio`` or ``http``.
        policy: what to store of a call.
        about: members that every event has: process id, command or URL.
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
        # By event id, for open calls: what was left out of the request and the response.
        self._sizes: dict[str, tuple[Sizes, Sizes]] = {}
        self._sessions: dict[str, str] = {}
        self._pages = ToolListPages()
        self.on_tools: Callable[[ToolList], object] = lambda _: None
        # Of scopes in which the handshake is not answered yet.
        self._hellos: dict[str, Any] = {}

    @property
    def calls(self) -> list[Call]:
        """The calls that are open, in the order they came."""
        return list(self._open.values())

    # --- messages ---------------------------------------------------------------------------------

    def from_client(
        self,
        scope: str,
        message: Any,
        *,
        sizes: Sizes | None = None,
        headers: Mapping[str, list[str]] | None = None,
        session_id: str = "",
    ) -> tuple[Call | None, list[Event]]:
        """A message of the client: the call that it opens, and the events that it completes.

        Args:
            scope: where its id is unique.
            message: any JSON.
            sizes: what was left out of the message.
            headers: of the HTTP request, name to values; None off HTTP.
            session_id: of the MCP session.
        """
        if isinstance(message, dict) and message.get("method") == "initialize":
            self._hellos[scope] = message
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
                    self._sizes[opened.id] = sizes, _NOTHING
            elif isinstance(item, CallFinished):
                # The client reuses the id, so a response can no longer be attributed to this call.
                events.append(self._event(item.call))
            elif isinstance(item, PartSeen) and item.call.cancelled:
                events += self.cancel([item.call])
        return opened, events

    def from_server(self, scope: str, message: Any, *, sizes: Sizes | None = None) -> list[Event]:
        """A message of the server: the events that it completes."""
        if sizes is not None and isinstance(message, dict) and "method" in message:
            # A notification that is too large to read fails the limit as any other large one.
            left_out = "x" * self._policy.max_payload_bytes
            message = {**message, "params": {**(message.get("params") or {}), "data": left_out}}
        events = []
        for item in self._feed(scope, message, "s2c"):
            if isinstance(item, ToolDefinitionsSeen):
                self._add_tools(item)
            elif isinstance(item, CallFinished):
                if sizes is not None:
                    asked, _ = self._sizes.get(item.call.id, (_NOTHING, _NOTHING))
                    self._sizes[item.call.id] = asked, sizes
                events.append(self._event(item.call))
        if isinstance(message, dict) and ("result" in message or "error" in message):
            hello = self._hellos.get(scope)
            if hello is not None and hello.get("id") == message.get("id"):
                del self._hellos[scope]
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
        # Whole microseconds, as the tables have them.
        at = self._clock() // 1000 * 1000
        return self._pairing.feed(message, direction=direction, at=at, session=scope)

    # --- how calls end otherwise ------------------------------------------------------------------

    def give_up(
        self, calls: Sequence[Call], message: str, category: str = "handler"
    ) -> list[Event]:
        """The events of calls that will get no response; calls that are not open are skipped.

        Args:
            calls: the calls.
            message: why, for the record.
            category: ``handler`` or ``auth``.
        """
        events = []
        for call in calls:
            for event in self._answer(call, {"error": {"message": message}}):
                event.wire["error_category"] = category
                error = event.wire.get("payload", {}).get("response_error")
                if isinstance(error, dict):
                    error["category"] = category
                events.append(event)
        return events

    def cancel(self, calls: Sequence[Call]) -> list[Event]:
        """The events of calls that are not wanted any more. Answers to them are of no call."""
        return [event for call in calls for event in self._answer(call, _CANCELLED)]

    def _answer(self, call: Call, answer: dict[str, Any]) -> list[Event]:
        """Answer a call in the server's place, if it is open."""
        if call.id not in self._open:
            return []
        return self.from_server(call.session, {"id": call.jsonrpc_id, **answer})

    def forget(self, call: Call) -> None:
        """Take a call out that is not sent on."""
        self._answer(call, _CANCELLED)

    def rename(self, scope: str, new: str) -> None:
        """An exchange has got its session: the handshake in it belongs there."""
        hello = self._hellos.pop(scope, None)
        if hello is not None:
            self._pairing.finish(session=scope)
            self.from_client(new, hello)

    def drop(self, scope: str) -> list[Event]:
        """A scope has ended: the events of its calls."""
        self._hellos.pop(scope, None)
        return self._given_up(self._pairing.finish(session=scope))

    def finish(self) -> list[Event]:
        """Nothing more comes: the events of all calls."""
        return self._given_up(self._pairing.finish())

    def _given_up(self, items: Sequence[Item]) -> list[Event]:
        return [
            self._event(item.call)
            for item in items
            if isinstance(item, CallFinished) and item.call.id in self._open
        ]

    # --- events -----------------------------------------------------------------------------------

    def unanswered(self, call: Call) -> Event:
        """The event that a call is if nothing more comes."""
        return self._finished(call)

    def _event(self, call: Call) -> Event:
        event = self._finished(call)
        for known in (self._open, self._sizes, self._sessions):
            known.pop(call.id, None)
        return event

    def _finished(self, call: Call) -> Event:
        event = call.event()
        wire = event.wire
        # A scope is not an MCP session of the record.
        wire.pop("session_id", None)
        payload = wire.pop("payload", None)
        if session_id := self._sessions.get(call.id):
            wire["session_id"] = session_id
        if call.headers is not None and (agent := call.headers.get("User-Agent")):
            wire["user_agent"] = agent[0]
        wire.update({name: value for name, value in self.about.items() if value})
        asked, answered = self._sizes.get(call.id, (_NOTHING, _NOTHING))
        if payload is not None:
            _leave_out(payload, asked, answered)
            wire["payload"] = payload
        if answered is not _NOTHING:
            wire["response_chars"] = answered.response_chars
            wire["content_blocks"] = answered.content_blocks
        return event


def _leave_out(payload: dict[str, Any], asked: Sizes, answered: Sizes) -> None:
    """Record the size of a message that was too large to read."""
    if asked is not _NOTHING:
        payload["request_size_bytes"] = asked.request_bytes
        payload["request_truncated"] = True
        payload.pop("request_params", None)
    if answered is not _NOTHING and "response_error" not in payload:
        payload["response_size_bytes"] = answered.response_bytes
        payload["response_truncated"] = True
        payload.pop("response_result", None)
