"""The members of the record: their names, columns and kinds, and how ids and times are spelled.

:data:`EVENT_FIELDS` and :data:`PAYLOAD_FIELDS` are the one list; tables, frames and filters are
made from them. :mod:`mcpaudit_lab.record.events` is the record itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from mcpaudit_lab.errors import RecordError, RejectReason

__all__ = [
    "EVENT_COLUMNS",
    "EVENT_FIELDS",
    "PAYLOAD_COLUMNS",
    "PAYLOAD_FIELDS",
    "Field",
    "Kind",
    "build_wire",
    "check_members",
    "format_time",
    "parse_id",
    "parse_time",
    "parse_time_ns",
    "respell_time",
]

Kind: TypeAlias = Literal["id", "time", "text", "int", "bool", "json"]


@dataclass(frozen=True, slots=True)
class Field:
    """One member of the record.

    Attributes:
        name: its name in the JSON.
        kind: the type of its values: ``id`` a UUID, ``time`` an RFC 3339 time, ``json`` any JSON
            value.
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

# captured_at exists only in a portal's tables; the reference server does not send it.
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

# The columns of the two tables in every engine, in the contract's order.
EVENT_COLUMNS: tuple[str, ...] = tuple(field.column for field in EVENT_FIELDS)
PAYLOAD_COLUMNS: tuple[str, ...] = ("event_id", *(field.column for field in PAYLOAD_FIELDS))

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
# What databases and people write: a space, seconds left out, a zone of hours alone, its name.
_ANY_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))? ?"
    r"(?:([Zz]|UTC|GMT)|([+-]\d\d)(?::?(\d\d))?(?: UTC)?)",
    re.ASCII,
)
_ZONELESS = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?", re.ASCII)
_HEX = "[0-9a-fA-F]"
_HYPHENED = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_ID = re.compile(
    rf"(?:[uU][rR][nN]:[uU][uU][iI][dD]:)?({_HYPHENED})|\{{({_HYPHENED})\}}|({_HEX}{{32}})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_id(text: str) -> str:
    """Parse a UUID in any spelling that a portal accepts; returns it in lower case with hyphens.

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
    """Parse an RFC 3339 time; returns UTC, cut to microseconds.

    Raises:
        RecordError: reason ``bad_time``: not RFC 3339, no zone, or outside the years 1 to 9999.
    """
    return _time_parts(text)[0]


def parse_time_ns(text: str) -> int:
    """Parse an RFC 3339 time; returns nanoseconds since 1970-01-01 UTC, cut.

    Raises:
        RecordError: as :func:`parse_time`.
    """
    moment, fraction = _time_parts(text)
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return microseconds * 1000 + int(fraction[6:9].ljust(3, "0"))


def respell_time(text: str) -> str:
    """A time in any spelling that names one moment, as a portal writes it.

    Taken are a space for ``T``, seconds left out, up to nine decimals, and as zone ``Z``, ``UTC``,
    ``+00``, ``+0000`` or ``+00:00``. An epoch number names a moment only to who knows its unit.

    Returns:
        UTC, ``Z``, up to nine decimals, zeros at the end left out.

    Raises:
        RecordError: reason ``bad_time``: no such spelling, no zone, or outside the years 1 to 9999.
    """
    found = _ANY_TIME.fullmatch(text)
    if found is None:
        # The slow path: explains errors, and accepts more than nine decimals.
        return format_time(parse_time(text))
    day, minute, second, fraction, named, hours, minutes = found.groups()
    zone = "Z" if named else f"{hours}:{minutes or '00'}"
    moment, fraction = _time_parts(f"{day}T{minute}{second or ':00'}.{fraction or '0'}{zone}")
    beyond = fraction[6:9].rstrip("0")
    if not beyond:
        return format_time(moment)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}{beyond}Z"


def format_time(moment: datetime) -> str:
    """Write a time as a portal does: UTC, ``Z``, up to six decimals, zeros at the end left out.

    Raises:
        ValueError: for a time without a zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone names no moment")
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "Z"


# The usual type of each kind, and of JSON the one that comes most.
_PLAIN: dict[Kind, type] = {
    "id": str,
    "time": str,
    "text": str,
    "int": int,
    "bool": bool,
    "json": dict,
}


def check_members(wire: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Check that members are of their kinds; null and absent will do.

    Raises:
        RecordError: reason ``bad_field``.
    """
    for name, kind in kinds.items():
        value = wire.get(name)
        if value is None or type(value) is _PLAIN[kind]:
            continue
        if kind == "json":
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
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and value.is_integer()
    )


def build_wire(members: Mapping[str, Any], fields: tuple[Field, ...]) -> dict[str, Any]:
    """A JSON object of values in the contract's order, zero values left out, others at the end."""
    wire: dict[str, Any] = {}
    known = 0
    for field in fields:
        name = field.name
        value = members.get(name)
        if value:
            wire[name] = format_time(value) if isinstance(value, datetime) else value
        elif field.always:
            zero = {"int": 0, "bool": False}.get(field.kind, "")
            wire[name] = zero if value is None else value
        known += name in members
    if known < len(members):
        names = {field.name for field in fields}
        wire.update((name, value) for name, value in members.items() if name not in names)
    return wire
