"""One call of a JSON-RPC transcript, and what a message turns out to be.

:class:`~mcpaudit_lab.formats.pairing.Pairing` pairs the messages; this module has its results.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from mcpaudit_lab.record import (
    CapturedCall,
    CapturePolicy,
    Event,
    Payload,
    dumps,
    parse_time_ns,
    parse_traceparent,
)

__all__ = [
    "NO_ANSWER",
    "Call",
    "CallFinished",
    "CallOpened",
    "Direction",
    "Item",
    "Moment",
    "Other",
    "PartSeen",
    "SessionInfo",
    "ToolDefinitionsSeen",
    "event_id",
    "id_key",
    "milliseconds_between",
    "time_text",
]

Direction: TypeAlias = Literal["c2s", "s2c"]
Moment: TypeAlias = int | str
"""Nanoseconds since 1970-01-01 UTC, or an RFC 3339 text."""

NO_ANSWER = "no answer was recorded"
"""The error message of a call without a recorded response."""

_NAMESPACE = uuid.UUID("6f1d8d0c-8c56-5a3e-9d3b-2f6f0e1c7a10")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _header(headers: Mapping[str, list[str]] | None) -> list[str]:
    return [] if headers is None else headers.get("Traceparent", [])


def event_id(*names: str) -> str:
    """A UUIDv5 over names, the same for the same names in the same order."""
    return str(uuid.uuid5(_NAMESPACE, dumps(list(names), ascii_only=True)))


def id_key(value: Any) -> tuple[str, Any] | None:
    """A JSON-RPC id or progress token as a key: ``2`` is not ``"2"``. None for other types."""
    if isinstance(value, str):
        return "text", value
    if value is None or isinstance(value, bool | dict | list):
        return None
    return "number", value


def time_text(moment: Moment) -> str:
    """A moment as RFC 3339 text; a text stays as it is."""
    if isinstance(moment, str):
        return moment
    seconds, nanoseconds = divmod(moment, 1_000_000_000)
    text = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    fraction = f"{nanoseconds:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def _nanoseconds(moment: Moment) -> int:
    return moment if isinstance(moment, int) else parse_time_ns(moment)


def milliseconds_between(start: Moment, end: Moment) -> int:
    """Whole milliseconds from one moment to another; 0 where the clock went back."""
    return max((_nanoseconds(end) - _nanoseconds(start)) // 1_000_000, 0)


@dataclass(slots=True)
class SessionInfo:
    """What ``initialize`` announced about client and server.

    Attributes:
        protocol_version: as the server chose it, or as the client asked for it until then.
        client_info: the client's name and version.
        server_info: the server's name and version.
    """

    protocol_version: Any = None
    client_info: Any = None
    server_info: Any = None

    def extra(self) -> dict[str, Any]:
        """The known members as members of an event."""
        known: dict[str, Any] = {}
        for name in ("protocol_version", "client_info", "server_info"):
            if (value := getattr(self, name)) is not None:
                known[name] = value
        if isinstance(self.server_info, Mapping) and isinstance(self.server_info.get("name"), str):
            known["server_name"] = self.server_info["name"]
        return known


class Call:
    """One ``tools/call``, open or finished.

    Attributes:
        id: the event's id, a UUID. May be set until :meth:`event` is called.
        session: the session it belongs to.
        connection: the connection within the session, or None.
        jsonrpc_id: the id of the request, a text or a number.
        tool_name: the tool asked for.
        started: when the request passed.
        ended: when the answer passed, or None.
        answered: whether an answer was seen.
        cancelled: whether a cancellation was seen.
        places: where its messages stood, the request's first; what the caller gave.
        extra: more members for the event, by name. May be added to until :meth:`event` is called.
        defaults: the same for what the messages themselves may say better.
        request_truncated: whether the recorder cut its copy of the request.
        response_truncated: the same of the answer.
        transport: ``stdio`` or ``http``; empty if unknown.
        headers: of the HTTP request, name to values; None off HTTP.
    """

    def __init__(
        self,
        params: Any,
        *,
        jsonrpc_id: Any,
        session: str,
        connection: str | None,
        at: Moment,
        place: object,
        policy: CapturePolicy,
        source: str,
    ) -> None:
        members = params if isinstance(params, Mapping) else {}
        name = members.get("name")
        self.id = ""
        self.session = session
        self.connection = connection
        self.jsonrpc_id = jsonrpc_id
        self.tool_name = name if isinstance(name, str) else ""
        self.started = at
        self.ended: Moment | None = None
        self.answered = False
        self.cancelled = False
        self.places: list[object] = [] if place is None else [place]
        self.extra: dict[str, Any] = {}
        self.defaults: dict[str, Any] = {}
        self.request_truncated = False
        self.response_truncated = False
        self.transport = ""
        self.headers: Mapping[str, list[str]] | None = None
        self.source = source
        self._policy = policy
        self._info: SessionInfo | None = None
        self._kept = CapturedCall(members.get("arguments"), policy)
        self._meta = members.get("_meta")

    @property
    def progress_token(self) -> tuple[str, Any] | None:
        """The key of the token that its progress notifications name."""
        return id_key(self._meta.get("progressToken")) if isinstance(self._meta, Mapping) else None

    def notify(self, method: str, params: Any, at: Moment, place: object) -> None:
        """A notification belongs to this call."""
        self._kept.add_notification(method, params, time_text(at))
        self._add_place(place)

    def cancel(self, params: Any, place: object) -> None:
        """The call is not wanted any more. An answer may still come."""
        self.cancelled = True
        reason = params.get("reason") if isinstance(params, Mapping) else None
        if isinstance(reason, str):
            self.extra["cancel_reason"] = reason
        self._add_place(place)

    def answer(self, message: Mapping[str, Any], at: Moment, place: object) -> None:
        """The answer: a message with ``result`` or ``error``."""
        self.ended, self.answered = at, True
        self._add_place(place)
        error = message.get("error")
        if error is None:
            self._kept.finish(message.get("result"))
        elif isinstance(error, Mapping):
            text = error.get("message")
            details = {k: v for k, v in error.items() if k not in ("message", "category")}
            if not self._policy.verbatim:
                cleaned = self._policy.sanitizer.clean(details)
                details = cleaned if isinstance(cleaned, dict) else {}
            self._kept.fail(text if isinstance(text, str) else dumps(text), **details)
        else:
            self._kept.fail(error if isinstance(error, str) else dumps(error))

    def close(self, info: SessionInfo | None) -> None:
        """No further message will come; ``info`` describes the session."""
        self._info = info

    def _add_place(self, place: object) -> None:
        if place is not None:
            self.places.append(place)

    @property
    def duration_ms(self) -> int:
        """From request to answer, whole milliseconds; 0 without an answer."""
        return 0 if self.ended is None else milliseconds_between(self.started, self.ended)

    def event(self) -> Event:
        """The event with its payload, in the call's current state.

        Without an answer it failed: category ``handler``, message :data:`NO_ANSWER`.
        """
        request_id = self.jsonrpc_id
        if self.answered:
            outcome, response = self._kept.outcome()
        else:
            error = {"category": "handler", "message": NO_ANSWER}
            outcome = {
                "success": False,
                "error_message": NO_ANSWER,
                "error_category": "handler",
            }
            response = {"response_error": error}
        sent = self._kept.sent()
        if self.request_truncated:
            sent["request_truncated"] = True
        if self.response_truncated:
            response["response_truncated"] = True
        if self.headers is not None:
            sent["request_headers"] = self._policy.sanitizer.mask_headers(self.headers)
        return Event.build(
            id=self.id,
            timestamp=time_text(self.started),
            duration_ms=self.duration_ms,
            request_id=request_id if isinstance(request_id, str) else dumps(request_id),
            session_id=self.session,
            tool_name=self.tool_name,
            tool_group=self._policy.tool_groups.get(self.tool_name, ""),
            parameters=self._kept.parameters,
            transport=self.transport,
            source=self.source,
            payload=Payload.build(**sent, **response),
            **outcome,
            **self._extra(),
        )

    def _extra(self) -> dict[str, Any]:
        known: dict[str, Any] = {"jsonrpc_id": self.jsonrpc_id, **self.defaults}
        if self.connection is not None:
            known["connection"] = self.connection
        if self.cancelled:
            known["cancelled"] = True
        if self._info is not None:
            known.update(self._info.extra())
        meta = self._meta if isinstance(self._meta, Mapping) else {}
        known.update(parse_traceparent(meta.get("traceparent"), *_header(self.headers)))
        known.update(self.extra)
        return known


@dataclass(frozen=True, slots=True)
class CallOpened:
    """A request for a tool passed; its :meth:`Call.event` says that no answer was recorded."""

    call: Call


@dataclass(frozen=True, slots=True)
class CallFinished:
    """A call was answered, or never will be (``call.answered`` tells which)."""

    call: Call


@dataclass(frozen=True, slots=True)
class PartSeen:
    """A message belongs to a call: a notification, or that the call was cancelled."""

    call: Call


@dataclass(frozen=True, slots=True)
class ToolDefinitionsSeen:
    """A server's list of tools.

    Attributes:
        session: the session of the list.
        connection: the connection within the session, or None.
        at: when its answer passed.
        tools: the tools as they were listed, any JSON.
        first: whether this is a list's first page.
        last: whether no further page follows.
        info: what is known about the session's client and server.
        place: where the answer stood.
    """

    session: str
    connection: str | None
    at: Moment
    tools: list[Any] = field(repr=False)
    first: bool
    last: bool
    info: SessionInfo | None
    place: object


@dataclass(frozen=True, slots=True)
class Other:
    """A message that does not belong to a tool call.

    Attributes:
        what: ``request``, ``answer``, ``notification``, or ``no message``.
        unpaired: whether it is an answer to nothing that is open: late, double, or from before.
    """

    what: str
    unpaired: bool = False


Item: TypeAlias = CallOpened | CallFinished | PartSeen | ToolDefinitionsSeen | Other
