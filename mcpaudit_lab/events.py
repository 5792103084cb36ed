"""The audit record: events, payloads and notifications, JSON in and out.

An :class:`Event` is the summary of one ``tools/call``; its :class:`Payload` is the full request and
response, one to one by id, and may be missing; a :class:`Notification` is one progress or log
message that the tool sent meanwhile.

All three are views of ``wire``, the JSON object they were made from. Nothing is converted on the
way in, so unknown members, the order of keys, ``1`` against ``1.0`` and a time in nanoseconds come
out as they went in. The properties give the same as Python values; a member that is absent or null
reads as the zero of its type, as the portal's contract leaves zero values out.

:data:`EVENT_FIELDS` and :data:`PAYLOAD_FIELDS` list the members, their columns and kinds.
Tables, frames and filters are made from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Literal, TypeAlias, overload

from mcpaudit_lab.errors import RecordError, RejectReason
from mcpaudit_lab.jsontext import Json, dumps, loads, same

__all__ = [
    "EVENT_FIELDS",
    "PAYLOAD_FIELDS",
    "Event",
    "Field",
    "Notification",
    "Payload",
    "format_time",
    "parse_id",
    "parse_time",
    "parse_time_ns",
]

Kind: TypeAlias = Literal["id", "time", "text", "int", "bool", "json"]


@dataclass(frozen=True, slots=True)
class Field:
    """One member of the record.

    Attributes:
        name: its name in the JSON.
        kind: what it holds: ``id`` a UUID, ``time`` an RFC 3339 time, ``json`` any JSON value.
        column: its column in ``audit_events`` or ``audit_payloads``.
        always: whether the wire has it even when it is zero.
    """

    name: str
    kind: Kind
    column: str = ""
    always: bool = False

    def __post_init__(self) -> None:
        if not self.column:
            object.__setattr__(self, "column", self.name)


EVENT_FIELDS: tuple[Field, ...] = (
    Field("id", "id", always=True),
    Field("timestamp", "time", column="ts", always=True),
    Field("duration_ms", "int", always=True),
    Field("request_id", "text"),
    Field("session_id", "text"),
    Field("user_subject", "text"),
    Field("user_email", "text"),
    Field("auth_type", "text"),
    Field("api_key_name", "text"),
    Field("tool_name", "text", always=True),
    Field("tool_group", "text"),
    Field("parameters", "json"),
    Field("success", "bool", always=True),
    Field("error_message", "text"),
    Field("error_category", "text"),
    Field("request_chars", "int"),
    Field("response_chars", "int"),
    Field("content_blocks", "int"),
    Field("transport", "text", always=True),
    Field("source", "text", always=True),
    Field("remote_addr", "text"),
    Field("user_agent", "text"),
)

# captured_at stands in a portal's tables only; the wire of the reference server does not have it.
PAYLOAD_FIELDS: tuple[Field, ...] = (
    Field("jsonrpc_method", "text"),
    Field("request_params", "json"),
    Field("request_size_bytes", "int"),
    Field("request_truncated", "bool"),
    Field("request_headers", "json"),
    Field("request_remote_addr", "text"),
    Field("response_result", "json"),
    Field("response_error", "json"),
    Field("response_size_bytes", "int"),
    Field("response_truncated", "bool"),
    Field("notifications", "json"),
    Field("notifications_truncated", "bool"),
    Field("replayed_from", "id"),
    Field("captured_at", "time"),
)

_EVENT_KINDS: dict[str, Kind] = {field.name: field.kind for field in EVENT_FIELDS}
_PAYLOAD_KINDS: dict[str, Kind] = {field.name: field.kind for field in PAYLOAD_FIELDS}

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_ZONELESS = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?", re.ASCII)
_HEX = "[0-9a-fA-F]"
_HYPHENED = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_ID = re.compile(
    rf"(?:[uU][rR][nN]:[uU][uU][iI][dD]:)?({_HYPHENED})|\{{({_HYPHENED})\}}|({_HEX}{{32}})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_id(text: str) -> str:
    """Read a UUID in any spelling a portal takes; gives lower case with hyphens.

    The spellings: hyphened, 32 hex digits, ``urn:uuid:`` before, braces around; any case.

    Raises:
        RecordError: reason ``bad_id``.
    """
    found = _ID.fullmatch(text)
    if found is None:
        raise RecordError(RejectReason.BAD_ID, "the id is not a UUID")
    digits = (found.group(1) or found.group(2) or found.group(3)).replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _time_parts(text: str) -> tuple[datetime, str]:
    found = _TIME.fullmatch(text)
    if found is None:
        without_zone = _ZONELESS.fullmatch(text) is not None
        detail = "the time has no zone" if without_zone else "the time is not RFC 3339"
        raise RecordError(RejectReason.BAD_TIME, detail)
    day, clock, fraction, zone, _ = found.groups()
    fraction = fraction or ""
    zone = "+00:00" if zone in "Zz" else zone
    try:
        # Cut, not rounded, to microseconds: what the reference server stores.
        moment = datetime.fromisoformat(f"{day}T{clock}.{fraction[:6].ljust(6, '0')}{zone}")
        return moment.astimezone(UTC), fraction
    except (ValueError, OverflowError):
        raise RecordError(RejectReason.BAD_TIME, "the time is out of range") from None


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time; gives UTC, cut to microseconds.

    Raises:
        RecordError: reason ``bad_time``: not RFC 3339, no zone, or outside the years 1 to 9999.
    """
    return _time_parts(text)[0]


def parse_time_ns(text: str) -> int:
    """Read an RFC 3339 time; gives nanoseconds since 1970-01-01 UTC, cut.

    Raises:
        RecordError: as :func:`parse_time`.
    """
    moment, fraction = _time_parts(text)
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return microseconds * 1000 + int(fraction[6:9].ljust(3, "0"))


def format_time(moment: datetime) -> str:
    """Write a time as a portal does: UTC, ``Z``, up to six decimals, zeros at the end left out.

    Raises:
        ValueError: for a time without a zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone names no moment")
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "Z"


def _check(wire: Mapping[str, Any], kinds: dict[str, Kind]) -> None:
    for name, kind in kinds.items():
        value = wire.get(name)
        if value is None or kind == "json":
            continue
        if kind == "int":
            fits = _is_integer(value)
        elif kind == "bool":
            fits = isinstance(value, bool)
        else:
            fits = isinstance(value, str)
        if not fits:
            wanted = {"int": "an integer", "bool": "true or false"}.get(kind, "a string")
            raise RecordError(RejectReason.BAD_FIELD, f"{name} is not {wanted}")


def _is_integer(value: Any) -> bool:
    """1.0 is an integer to JSON Schema, and to JavaScript, which writes it so at times."""
    if isinstance(value, Decimal):
        # Not larger than any counter could be: int(Decimal("1e999999999")) would fill the memory.
        return value.adjusted() < 40 and value == value.to_integral_value()
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        or (isinstance(value, float) and value.is_integer())
    )


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
        _check(self.wire, self._known)

    @property
    def ts(self) -> datetime | None:
        """When it was sent: UTC, cut to microseconds; None where the record does not say."""
        text = self.wire.get("ts")
        return parse_time(text) if text else None

    def __repr__(self) -> str:
        return f"Notification(method={self.method!r}, ts={self.wire.get('ts')!r})"


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
    request_remote_addr = _Text("request_remote_addr", "Where the request came from.")
    response_result = _Value("response_result", "The CallToolResult, or None.")
    response_error = _Value("response_error", "``{message, category?}``, or None.")
    response_size_bytes = _Int("response_size_bytes", "Size of the response in bytes, as sent.")
    response_truncated = _Bool("response_truncated", "Whether the response was too big to keep.")
    notifications_truncated = _Bool("notifications_truncated", "Whether the last ones are missing.")

    def __post_init__(self) -> None:
        _check(self.wire, self._known)
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
        return cls(_build(members, PAYLOAD_FIELDS))

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

    __slots__ = ()
    _known: ClassVar[dict[str, Kind]] = {**_EVENT_KINDS, "payload": "json"}

    duration_ms = _Int("duration_ms", "How long the call took, in whole milliseconds.")
    request_id = _Text("request_id", "The server's id of the request.")
    session_id = _Text("session_id", "The MCP session; empty where there is none.")
    user_subject = _Text("user_subject", "Who called: an OIDC subject or ``apikey:<name>``.")
    user_email = _Text("user_email", "Who called, by e-mail.")
    auth_type = _Text("auth_type", "``oidc``, ``apikey``, ``anonymous``, or empty.")
    api_key_name = _Text("api_key_name", "The name of the API key used.")
    tool_name = _Text("tool_name", "The tool called.")
    tool_group = _Text("tool_group", "The group of the tool.")
    parameters = _Value("parameters", "The sanitized arguments, or None where there were none.")
    success = _Bool("success", "Whether the call succeeded.")
    error_message = _Text("error_message", "Why it failed, where the server says so.")
    error_category = _Text("error_category", "``auth``, ``tool``, ``handler``, or empty.")
    request_chars = _Int("request_chars", "Characters of text in the request.")
    response_chars = _Int("response_chars", "Characters of text in the response.")
    content_blocks = _Int("content_blocks", "Number of content blocks in the response.")
    transport = _Text("transport", "``http`` or ``stdio``.")
    source = _Text("source", "``mcp``, ``portal-tryit`` or ``portal-replay``.")
    remote_addr = _Text("remote_addr", "Where the call came from.")
    user_agent = _Text("user_agent", "The client's User-Agent.")

    def __post_init__(self) -> None:
        wire = self.wire
        _check(wire, _EVENT_KINDS)
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
        wire = _build(members, EVENT_FIELDS)
        if payload is not None:
            wire["payload"] = payload.wire if isinstance(payload, Payload) else payload
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
        """The same event with this payload in place of its own."""
        wire = {name: value for name, value in self.wire.items() if name != "payload"}
        return Event(wire if payload is None else {**wire, "payload": payload.wire})

    def __repr__(self) -> str:
        outcome = "ok" if self.success else f"failed ({self.error_category or 'no category'})"
        return (
            f"Event({self.id or 'no id'}, {format_time(self.timestamp)}, {self.tool_name!r}, "
            f"{outcome}, {self.duration_ms} ms)"
        )


def _build(members: Mapping[str, Any], fields: tuple[Field, ...]) -> dict[str, Any]:
    return dict(_members(members, fields))


def _members(members: Mapping[str, Any], fields: tuple[Field, ...]) -> Iterator[tuple[str, Any]]:
    for field in fields:
        value = members.get(field.name)
        if isinstance(value, datetime):
            value = format_time(value)
        if field.always and value is None:
            value = {"int": 0, "bool": False}.get(field.kind, "")
        if field.always or value not in (None, "", 0, False, {}, []):
            yield field.name, value
    known = {field.name for field in fields}
    for name, value in members.items():
        if name not in known:
            yield name, value
