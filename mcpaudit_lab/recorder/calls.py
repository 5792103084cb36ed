"""The tool calls among the messages that pass, as events. No input or output, no threads.

An answer belongs to the open request of its scope with the same id of the same type: ``2`` is not
``"2"``. A scope is what makes ids unique: the one connection of stdio, an MCP session, or one HTTP
exchange in the era without sessions.
"""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from mcpaudit_lab.events import Event
from mcpaudit_lab.recorder.skim import Sizes
from mcpaudit_lab.server.capture import CallCapture, CallRequest, CapturePolicy
from mcpaudit_lab.server.identity import Identity, Origin

__all__ = ["NO_ANSWER", "CallTracker", "OpenCall"]

NO_ANSWER: Final = "no answer was recorded"
"""The error message of a call that nothing more is known of."""

_SOURCE: Final = "recorder"
_NOBODY: Final = Identity("", "")
_META: Final = "io.modelcontextprotocol/"
# Clients whose names are remembered; each is a session or an exchange.
_MAX_PEERS: Final = 10_000
# What a scope's calls may be known by, besides the id.
_Key = tuple[str, str, Any]


@dataclass(slots=True)
class OpenCall:
    """A call that was sent on, or is about to be.

    Attributes:
        scope: where its id is unique.
        rpc_id: its JSON-RPC id.
        event_id: of the event that it becomes.
        capture: what is known of it.
    """

    scope: str
    rpc_id: Any
    event_id: str
    capture: CallCapture
    started_s: float
    token: tuple[str, Any] | None
    about: dict[str, Any]
    sizes: Sizes | None = None
    answer_sizes: Sizes | None = None


@dataclass(slots=True)
class _Peer:
    """Who talks to whom in a scope, as members of an event."""

    about: dict[str, Any] = field(default_factory=dict)
    initialize: tuple[str, Any] | None = None


class CallTracker:
    """Pairs requests and answers, and makes events of them.

    Args:
        transport: ``stdio`` or ``http``.
        policy: what is kept of a call.
        about: members that every event has: process id, command or URL.
        now: the time, with a zone.
        monotonic: seconds.
    """

    def __init__(
        self,
        transport: str,
        policy: CapturePolicy | None = None,
        about: Mapping[str, Any] | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._transport = transport
        self._policy = policy or CapturePolicy()
        self.about = dict(about or {})
        self._now = now
        self._monotonic = monotonic
        self._open: dict[_Key, list[OpenCall]] = {}
        self._peers: OrderedDict[str, _Peer] = OrderedDict()

    @property
    def calls(self) -> list[OpenCall]:
        """The calls that are open, in the order they came."""
        return [call for calls in self._open.values() for call in calls]

    # --- what the client says ---------------------------------------------------------------------

    def from_client(
        self,
        scope: str,
        message: Any,
        *,
        sizes: Sizes | None = None,
        headers: Mapping[str, list[str]] | None = None,
        session_id: str = "",
    ) -> tuple[OpenCall | None, list[Event]]:
        """A message of the client: the call that it opens, and the events that it completes.

        Args:
            scope: where its id is unique.
            message: any JSON.
            sizes: of what is left out of it.
            headers: of the HTTP request, name to values; None off HTTP.
            session_id: of the MCP session.
        """
        if not isinstance(message, dict):
            return None, []
        method, params = message.get("method"), _object(message.get("params"))
        if method == "notifications/cancelled":
            return None, self._cancelled(scope, params.get("requestId"))
        if "id" not in message:
            return None, []
        if method == "initialize":
            peer = self._peer(scope)
            peer.about = _client(params.get("clientInfo"), params.get("protocolVersion"))
            peer.initialize = _typed(message["id"])
        if method != "tools/call":
            return None, []
        call = self._opened(
            scope, message["id"], params, sizes=sizes, headers=headers, session_id=session_id
        )
        return call, []

    def _opened(
        self,
        scope: str,
        rpc_id: Any,
        params: dict[str, Any],
        *,
        sizes: Sizes | None,
        headers: Mapping[str, list[str]] | None,
        session_id: str,
    ) -> OpenCall:
        name, meta = params.get("name"), _object(params.get("_meta"))
        request = CallRequest(
            event_id=str(uuid4()),
            request_id=str(rpc_id) if isinstance(rpc_id, str | int) else "",
            started=self._now(),
            tool_name=name if isinstance(name, str) else "",
            arguments=params.get("arguments"),
            identity=_NOBODY,
            origin=Origin(source=_SOURCE),
            session_id=session_id,
            transport=self._transport,
            headers=headers,
        )
        token = meta.get("progressToken")
        call = OpenCall(
            scope,
            rpc_id,
            request.event_id,
            CallCapture(request, self._policy),
            self._monotonic(),
            None if token is None else _typed(token),
            _stateless(meta),
            sizes,
        )
        self._open.setdefault(_key(scope, rpc_id), []).append(call)
        return call

    def _cancelled(self, scope: str, rpc_id: Any) -> list[Event]:
        call = self._take(scope, rpc_id)
        if call is None:
            return []
        call.capture.cancel()
        return [self._event(call)]

    # --- what the server says ---------------------------------------------------------------------

    def from_server(self, scope: str, message: Any, *, sizes: Sizes | None = None) -> list[Event]:
        """A message of the server: the events that it completes."""
        if not isinstance(message, dict):
            return []
        if "method" in message:
            if "id" not in message:
                self._notified(scope, message, sizes)
            return []
        if "id" not in message or ("result" not in message and "error" not in message):
            return []
        peer = self._peers.get(scope)
        if peer is not None and peer.initialize == _typed(message["id"]):
            peer.initialize = None
            result = _object(message.get("result"))
            peer.about |= _server(result.get("serverInfo"), result.get("protocolVersion"))
            return []
        call = self._take(scope, message["id"])
        if call is None:
            return []
        if "error" in message:
            error = _object(message["error"])
            call.capture.fail(str(error.get("message") or "an error without a message"))
        else:
            result = _object(message["result"])
            info = _object(result.get("_meta")).get(f"{_META}serverInfo")
            call.about |= _server(info, None)
            call.capture.finish(result)
            call.answer_sizes = sizes
        return [self._event(call)]

    def _notified(self, scope: str, message: dict[str, Any], sizes: Sizes | None) -> None:
        method, params = message["method"], message.get("params")
        mine = [call for call in self.calls if call.scope == scope]
        token = _object(params).get("progressToken")
        if method == "notifications/progress":
            mine = [call for call in mine if token is not None and call.token == _typed(token)]
        elif method != "notifications/message":
            return
        if len(mine) != 1 or not isinstance(method, str):
            return
        # One that is too large to keep fails the limit like any other large one.
        kept = params if sizes is None else {"left_out": "x" * self._policy.max_payload_bytes}
        mine[0].capture.notify(method, kept, self._now())

    # --- how calls end otherwise ------------------------------------------------------------------

    def give_up(
        self, calls: Sequence[OpenCall], message: str = NO_ANSWER, category: str = "handler"
    ) -> list[Event]:
        """The events of calls that get no answer any more; those that are not open are left out."""
        events = []
        for call in calls:
            if self._remove(call):
                call.capture.fail(message, category)
                events.append(self._event(call))
        return events

    def cancel(self, calls: Sequence[OpenCall]) -> list[Event]:
        """The events of calls whose caller has left."""
        events = []
        for call in calls:
            if self._remove(call):
                call.capture.cancel()
                events.append(self._event(call))
        return events

    def forget(self, call: OpenCall) -> None:
        """Take a call out that is not sent on."""
        self._remove(call)

    def rename(self, scope: str, new: str) -> None:
        """What is known of a scope holds for another: an exchange has got its session."""
        peer = self._peers.pop(scope, None)
        if peer is not None:
            self._peers[new] = peer

    def drop(self, scope: str) -> list[Event]:
        """A scope has ended: the events of its calls."""
        self._peers.pop(scope, None)
        return self.give_up([call for call in self.calls if call.scope == scope])

    # --- events -----------------------------------------------------------------------------------

    def unanswered(self, call: OpenCall) -> Event:
        """The event that a call is if nothing more comes."""
        capture = copy.copy(call.capture)
        capture.fail(NO_ANSWER)
        return self._finished(call, capture.event(0))

    def _event(self, call: OpenCall) -> Event:
        duration_ms = int((self._monotonic() - call.started_s) * 1000)
        try:
            event = call.capture.event(duration_ms)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, the call passed and has a row
            event = call.capture.bare_event(duration_ms)
        return self._finished(call, event)

    def _finished(self, call: OpenCall, event: Event) -> Event:
        wire = event.wire
        payload = wire.pop("payload", None)
        # Now and not before: a client need not wait for the answer to its initialize.
        peer = self._peers.get(call.scope)
        about = self.about | (peer.about if peer else {}) | call.about
        wire.update({name: value for name, value in about.items() if value})
        if payload is not None:
            wire["payload"] = payload
            if call.sizes is not None:
                payload["request_size_bytes"] = call.sizes.request_bytes
                payload["request_truncated"] = True
            if call.answer_sizes is not None:
                payload["response_size_bytes"] = call.answer_sizes.response_bytes
                payload["response_truncated"] = True
                payload.pop("response_result", None)
        if call.answer_sizes is not None:
            counted = {
                "response_chars": call.answer_sizes.response_chars,
                "content_blocks": call.answer_sizes.content_blocks,
            }
            wire.update({name: value for name, value in counted.items() if value})
        return event

    # --- how --------------------------------------------------------------------------------------

    def _peer(self, scope: str) -> _Peer:
        peer = self._peers.setdefault(scope, _Peer())
        self._peers.move_to_end(scope)
        while len(self._peers) > _MAX_PEERS:
            self._peers.popitem(last=False)
        return peer

    def _take(self, scope: str, rpc_id: Any) -> OpenCall | None:
        calls = self._open.get(_key(scope, rpc_id))
        if not calls:
            return None
        call = calls[0]
        self._remove(call)
        return call

    def _remove(self, call: OpenCall) -> bool:
        key = _key(call.scope, call.rpc_id)
        calls = self._open.get(key, [])
        if call not in calls:
            return False
        calls.remove(call)
        if not calls:
            del self._open[key]
        return True


def _typed(value: Any) -> tuple[str, Any]:
    # What is no string or number is no id by the specification, and still has to be told apart.
    kind = "number" if type(value) in (int, float) else type(value).__name__
    return kind, value if isinstance(value, str | int | float) else repr(value)


def _key(scope: str, rpc_id: Any) -> _Key:
    return (scope, *_typed(rpc_id))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _named(side: str, info: Any) -> dict[str, Any]:
    found = _object(info)
    members = {f"{side}_name": found.get("name"), f"{side}_version": found.get("version")}
    return {name: value for name, value in members.items() if isinstance(value, str) and value}


def _version(version: Any) -> dict[str, Any]:
    return {"protocol_version": version} if isinstance(version, str) and version else {}


def _client(info: Any, version: Any) -> dict[str, Any]:
    return _named("client", info) | _version(version)


def _server(info: Any, version: Any) -> dict[str, Any]:
    return _named("server", info) | _version(version)


def _stateless(meta: dict[str, Any]) -> dict[str, Any]:
    """What each request says in the era without sessions."""
    return _client(meta.get(f"{_META}clientInfo"), meta.get(f"{_META}protocolVersion"))
