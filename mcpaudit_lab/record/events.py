"""The audit record: events, payloads and notifications, JSON in and out.

An :class:`Event` is the summary of one ``tools/call``. Its :class:`Payload` is the full request and
response, matched by id; it may be missing. A :class:`Notification` is one progress or log message
that the tool sent during the call.

All three are views of ``wire``, the JSON object they were made from. Nothing is converted on the
way in, so unknown members, the order of keys, ``1`` against ``1.0`` and a time in nanoseconds come
out as they went in. The properties give the same as Python values; a member that is absent or null
reads as the zero of its type, as the portal's contract leaves zero values out.

:mod:`mcpaudit_lab.record.fields` lists the members.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, overload

from mcpaudit_lab.errors import RecordError, RejectReason
from mcpaudit_lab.record.fields import (
    EVENT_FIELDS,
    PAYLOAD_FIELDS,
    Kind,
    build_wire,
    check_members,
    format_time,
    parse_id,
    parse_time,
    parse_time_ns,
)
from mcpaudit_lab.record.jsontext import Json, dumps, loads, same
from mcpaudit_lab.record.notes import Note
from mcpaudit_lab.record.printable import visible
from mcpaudit_lab.record.tool_definitions import ToolDefinition
from mcpaudit_lab.record.views import render_html

__all__ = ["Event", "Notification", "Payload"]

_SHOWN_MAX = 80

_EVENT_KINDS: dict[str, Kind] = {field.name: field.kind for field in EVENT_FIELDS}
_PAYLOAD_KINDS: dict[str, Kind] = {field.name: field.kind for field in PAYLOAD_FIELDS}


def _shown(text: str) -> str:
    """A text of the record in a repr: quoted, on one line, of bounded length."""
    return repr(text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…")


class _Member:
    """A property that reads one member of ``wire``."""

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.__doc__ = doc


class _Text(_Member):
    """Text; ``""`` where the wire has none."""

    @overload
    def __get__(self, instance: None, owner: object) -> _Text: ...
    @overload
    def __get__(self, instance: _View, owner: object) -> str: ...
    def __get__(self, instance: _View | None, owner: object) -> str | _Text:
        if instance is None:
            return self
        value: str = instance.wire.get(self.name) or ""
        return value


class _Int(_Member):
    """An integer; 0 where the wire has none."""

    @overload
    def __get__(self, instance: None, owner: object) -> _Int: ...
    @overload
    def __get__(self, instance: _View, owner: object) -> int: ...
    def __get__(self, instance: _View | None, owner: object) -> int | _Int:
        return self if instance is None else int(instance.wire.get(self.name) or 0)


class _Bool(_Member):
    """A boolean; False where the wire has none."""

    @overload
    def __get__(self, instance: None, owner: object) -> _Bool: ...
    @overload
    def __get__(self, instance: _View, owner: object) -> bool: ...
    def __get__(self, instance: _View | None, owner: object) -> bool | _Bool:
        return self if instance is None else bool(instance.wire.get(self.name))


class _Value(_Member):
    """Any JSON; None where the wire has none."""

    @overload
    def __get__(self, instance: None, owner: object) -> _Value: ...
    @overload
    def __get__(self, instance: _View, owner: object) -> Json: ...
    def __get__(self, instance: _View | None, owner: object) -> Json | _Value:
        if instance is None:
            return self
        value: Json = instance.wire.get(self.name)
        return value


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _View:
    """A JSON object read as a record. Do not change ``wire``; make a new object instead."""

    wire: dict[str, Any]

    _known: ClassVar[dict[str, Kind]] = {}

    def __post_init__(self) -> None:
        """Check the members; for the subclasses, which are no dataclasses of their own."""

    @classmethod
    def _from_json(cls, text: str | bytes) -> dict[str, Any]:
        wire = loads(text)
        if not isinstance(wire, dict):
            raise RecordError(RejectReason.NOT_AN_OBJECT, "the line is not a JSON object")
        return wire

    @property
    def extra(self) -> dict[str, Any]:
        """The members that this package does not know, as they came."""
        return {name: value for name, value in self.wire.items() if name not in self._known}

    def to_json(self) -> str:
        """The record as compact JSON, members in the order they came in."""
        return dumps(self.wire)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return same(self.wire, other.wire, spelling=True)

    def __hash__(self) -> int:
        return hash((type(self).__name__, len(self.wire), str(self.wire.get("id"))))


class Notification(_View):
    """One notification that a tool sent during a call: ``{ts, method, params}``.

    Args:
        wire: the JSON object.
    """

    __slots__ = ()
    _known: ClassVar[dict[str, Kind]] = {"ts": "time", "method": "text", "params": "json"}

    method = _Text("method", "The JSON-RPC method, such as ``notifications/progress``.")
    params = _Value("params", "The notification's params, any JSON, or None.")

    def __post_init__(self) -> None:
        check_members(self.wire, self._known)

    @property
    def ts(self) -> datetime | None:
        """When it was sent: UTC, cut to microseconds; None where the record does not say."""
        text = self.wire.get("ts")
        return parse_time(text) if text else None

    def __repr__(self) -> str:
        return f"Notification(method={_shown(self.method)}, ts={_shown(self.wire.get('ts') or '')})"


class Payload(_View):
    """The full request and response of one call, as it was captured.

    Args:
        wire: the JSON object.

    Raises:
        RecordError: reason ``bad_field``, ``bad_id`` or ``bad_time``.
    """

    __slots__ = ()
    _known: ClassVar[dict[str, Kind]] = {**_PAYLOAD_KINDS, "event_id": "id"}

    jsonrpc_method = _Text("jsonrpc_method", "The method called; ``tools/call``.")
    request_params = _Value("request_params", "The sanitized arguments, or None.")
    request_size_bytes = _Int("request_size_bytes", "Size of the request in bytes, as sent.")
    request_truncated = _Bool("request_truncated", "Whether the request was too big to keep.")
    request_headers = _Value("request_headers", "Header name to list of values, or None.")
    request_remote_addr = _Text("request_remote_addr", "The client's address.")
    response_result = _Value("response_result", "The CallToolResult, or None.")
    response_error = _Value("response_error", "``{message, category?}``, or None.")
    response_size_bytes = _Int("response_size_bytes", "Size of the response in bytes, as sent.")
    response_truncated = _Bool("response_truncated", "Whether the response was too big to keep.")
    notifications_truncated = _Bool("notifications_truncated", "Whether the last ones are missing.")

    def __post_init__(self) -> None:
        check_members(self.wire, self._known)
        for name in ("replayed_from", "event_id"):
            if self.wire.get(name):
                parse_id(self.wire[name])
        if self.wire.get("captured_at"):
            parse_time(self.wire["captured_at"])
        headers = self.wire.get("request_headers")
        if not isinstance(headers, dict | None):
            raise RecordError(RejectReason.BAD_FIELD, "request_headers is not an object")
        notifications = self.wire.get("notifications") or ()
        if not isinstance(notifications, list | tuple) or not all(
            isinstance(item, dict) for item in notifications
        ):
            raise RecordError(RejectReason.BAD_FIELD, "notifications is not a list of objects")

    @classmethod
    def from_json(cls, text: str | bytes) -> Payload:
        """Parse one payload.

        Raises:
            RecordError: if it is not one; the reason says why.
        """
        return cls(cls._from_json(text))

    @classmethod
    def build(cls, **members: Any) -> Payload:
        """Make one from values, members in the contract's order, zero values left out.

        Args:
            **members: by their JSON names; a time may be a ``datetime``; unknown names are kept.
        """
        return cls(build_wire(members, PAYLOAD_FIELDS))

    @property
    def notifications(self) -> tuple[Notification, ...]:
        """What the tool sent during the call, in order."""
        return tuple(Notification(item) for item in self.wire.get("notifications") or ())

    @property
    def replayed_from(self) -> str | None:
        """The id of the event that this call replayed, or None."""
        text = self.wire.get("replayed_from")
        return parse_id(text) if text else None

    @property
    def captured_at(self) -> datetime | None:
        """When the payload was stored (UTC); known only for rows read from a database."""
        text = self.wire.get("captured_at")
        return parse_time(text) if text else None

    def __repr__(self) -> str:
        sizes = f"request {self.request_size_bytes} B, response {self.response_size_bytes} B"
        return f"Payload({sizes}, {len(self.wire.get('notifications') or ())} notifications)"


class Event(_View):
    """The record of one ``tools/call``.

    Args:
        wire: the JSON object: a summary, or a detail answer with ``payload``.

    Raises:
        RecordError: the reason says which member is missing or of the wrong kind. A missing or
            empty id is allowed here, since stream frames have none; a lab refuses it.
    """

    __slots__ = ("_definition", "_notes")
    _known: ClassVar[dict[str, Kind]] = {**_EVENT_KINDS, "payload": "json"}

    duration_ms = _Int("duration_ms", "How long the call took, in whole milliseconds.")
    request_id = _Text("request_id", "The server's id of the request.")
    session_id = _Text("session_id", "The MCP session; empty without one.")
    user_subject = _Text("user_subject", "Who called: an OIDC subject or ``apikey:<name>``.")
    user_email = _Text("user_email", "Who called, by e-mail.")
    auth_type = _Text("auth_type", "``oidc``, ``apikey``, ``anonymous``, or empty.")
    api_key_name = _Text("api_key_name", "The name of the API key used.")
    tool_name = _Text("tool_name", "The tool called.")
    tool_group = _Text("tool_group", "The group of the tool.")
    parameters = _Value("parameters", "The sanitized arguments, or None without any.")
    success = _Bool("success", "Whether the call succeeded.")
    error_message = _Text("error_message", "Why it failed, where the server says so.")
    error_category = _Text("error_category", "``auth``, ``tool``, ``handler``, or empty.")
    request_chars = _Int("request_chars", "Characters of text in the request.")
    response_chars = _Int("response_chars", "Characters of text in the response.")
    content_blocks = _Int("content_blocks", "Number of content blocks in the response.")
    transport = _Text("transport", "``http`` or ``stdio``.")
    source = _Text("source", "``mcp``, ``portal-tryit`` or ``portal-replay``.")
    remote_addr = _Text("remote_addr", "The client's address.")
    user_agent = _Text("user_agent", "The client's User-Agent.")

    def __post_init__(self) -> None:
        wire = self.wire
        check_members(wire, _EVENT_KINDS)
        if wire.get("id"):
            parse_id(wire["id"])
        if not wire.get("timestamp"):
            raise RecordError(RejectReason.NO_TIME, "there is no timestamp")
        parse_time(wire["timestamp"])
        payload = wire.get("payload")
        if payload is not None:
            if not isinstance(payload, dict):
                raise RecordError(RejectReason.BAD_FIELD, "payload is not an object")
            Payload(payload)

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """Parse one event: an export line, a stream frame's data, or a detail answer.

        Raises:
            RecordError: if it is not one; the reason says why.
        """
        return cls(cls._from_json(text))

    @classmethod
    def build(cls, **members: Any) -> Event:
        """Make one from values, members in the contract's order, zero values left out.

        Args:
            **members: by their JSON names. ``timestamp`` may be a ``datetime`` with a zone,
                ``payload`` a :class:`Payload`; unknown names are kept at the end.

        Raises:
            RecordError: as the constructor.
        """
        payload = members.pop("payload", None)
        wire = build_wire(members, EVENT_FIELDS)
        if isinstance(payload, Payload):
            event = cls(wire)
            # Behind the check: it was checked when it was made.
            wire["payload"] = payload.wire
            return event
        if payload is not None:
            wire["payload"] = payload
        return cls(wire)

    @property
    def id(self) -> str:
        """The event's id: a UUID in lower case with hyphens; empty for a frame without one."""
        text = self.wire.get("id")
        return parse_id(text) if text else ""

    @property
    def timestamp(self) -> datetime:
        """Start of the call: UTC, cut to microseconds."""
        return parse_time(self.wire["timestamp"])

    @property
    def timestamp_ns(self) -> int:
        """Start of the call in nanoseconds since 1970-01-01 UTC."""
        return parse_time_ns(self.wire["timestamp"])

    @property
    def payload(self) -> Payload | None:
        """The full request and response, where this record has them."""
        wire = self.wire.get("payload")
        return None if wire is None else Payload(wire)

    @property
    def summary(self) -> Event:
        """The same event without its payload."""
        return Event({name: value for name, value in self.wire.items() if name != "payload"})

    def with_payload(self, payload: Payload | None) -> Event:
        """The same event with another payload."""
        wire = {name: value for name, value in self.wire.items() if name != "payload"}
        return Event(wire if payload is None else {**wire, "payload": payload.wire})

    def __repr__(self) -> str:
        category = visible(self.error_category[:_SHOWN_MAX]) or "no category"
        outcome = "ok" if self.success else f"failed ({category})"
        return (
            f"Event({self.id or 'no id'}, {format_time(self.timestamp)}, {_shown(self.tool_name)}, "
            f"{outcome}, {self.duration_ms} ms)"
        )

    @property
    def definition(self) -> ToolDefinition | None:
        """The tool's definition at the time of the call, set by :meth:`Lab.event`, or None."""
        return getattr(self, "_definition", None)

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes about the event that are in force, set by :meth:`Lab.event`."""
        return getattr(self, "_notes", ())

    def with_context(self, definition: ToolDefinition | None, notes: tuple[Note, ...]) -> Event:
        """The same event with its tool's definition and notes."""
        event = Event(self.wire)
        object.__setattr__(event, "_definition", definition)
        object.__setattr__(event, "_notes", notes)
        return event

    def _repr_html_(self) -> str:
        """The event's card, for a notebook."""
        return render_html("event", self)
