r"""One event as two rows of a portal's tables, and back without loss.

A column holds what its type can hold. If a row's columns cannot reproduce the event exactly, the
whole summary (or payload) is stored in ``exact``, as ASCII JSON, and read from there:

- PostgreSQL has no NUL and no engine's text has lone surrogates; U+FFFD takes their place.
- ``jsonb`` forgets how a number was spelled, has no numbers of more than about a thousand digits,
  and limits nesting; what it cannot hold becomes the text U+FFFD, which a filter never takes for a
  value (:mod:`mcpaudit_lab.filters.dialects`).
- An integer too big for its column becomes the largest one that fits.
- PostgreSQL has no index entry over 2,700 bytes or so: longer texts are cut in indexed columns.
- Nulls, zeros that the wire leaves out, unknown members, times in nanoseconds.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

from mcpaudit_lab.errors import RecordError, RejectReason
from mcpaudit_lab.filters import sqlite_moment
from mcpaudit_lab.record import (
    EVENT_FIELDS,
    PAYLOAD_FIELDS,
    Event,
    Field,
    Json,
    dumps,
    format_time,
    loads,
    parse_id,
    parse_time,
    replace_surrogates,
)
from mcpaudit_lab.tables.jsonb import NOTIFICATION_KEYS, respell
from mcpaudit_lab.tables.row_values import column_value

__all__ = ["EXACT", "PortalRow", "PortalRows", "jsonb_text"]

EXACT: Final = "exact"
"""Our own column, in both tables."""

_ZEROS: Final[dict[str, Any]] = {"text": "", "int": 0, "bool": False}
_EMPTY: Final[tuple[Any, ...]] = (None, "", 0, False, {}, [])

# PostgreSQL's columns with an index, and how many bytes of UTF-8 surely fit into it.
_INDEXED: Final = ("tool_name", "user_subject", "session_id")
_INDEX_BYTES: Final = 2000
_COMPRESSED_FROM, _COMPRESSED_TO = 50_000, 300
# Shorter than this, a text of ASCII needs no look at its bytes.
_SHORT: Final = 500
# Integers that fit every column.
_SMALL: Final = 2**31

# Numbers and the like of a row.
_OTHER_BYTES: Final = 200

_LOST = re.compile("[\x00\ud800-\udfff]")
# The escapes that jsonb refuses, as JSON text has them. A pair of backslashes before the u does not
# matter here: it costs a closer look only.
_ESCAPE = re.compile(r"\\u(?:0000|d[89a-f])")
_JSONB_DEPTH: Final = 1000
_JSONB_POWERS: Final = range(-1000, 1001)


@dataclass(slots=True)
class PortalRow:
    """One event as it goes into the tables.

    Attributes:
        event: the event itself.
        id: its id.
        size: about how many bytes the rows have.
        summary: values for ``audit_events``, in the order of the event's fields.
        summary_exact: for its column ``exact``.
        payload: values for ``audit_payloads`` after ``event_id``; None without a payload. The
            writer of the row sets the last one, ``captured_at``.
        payload_exact: for its column ``exact``.
    """

    event: Event
    id: str
    size: int
    summary: list[Any]
    summary_exact: str | None
    payload: list[Any] | None
    payload_exact: str | None


@dataclass(frozen=True, slots=True)
class _Spec:
    """The values that a field's column can hold."""

    kind: str
    always: bool
    largest: int
    clipped: bool


# Name, kind, whether it is always present, the column's value if it is absent, and the rest.
_Loop: TypeAlias = tuple[str, str, bool, Any, _Spec]


class PortalRows:
    """Writes and reads the rows of one database.

    Args:
        dialect: ``sqlite`` or ``postgresql``.
        small_columns: the integer columns of 32 bits, as the reference server makes some.
    """

    def __init__(self, dialect: str, small_columns: Collection[str] = ()) -> None:
        self._postgresql = dialect == "postgresql"

        def spec(field: Field) -> _Loop:
            largest = 2**31 - 1 if field.column in small_columns else 2**63 - 1
            clipped = self._postgresql and field.column in _INDEXED
            kept = _Spec(field.kind, field.always, largest, clipped)
            return field.name, field.kind, field.always, _ZEROS.get(field.kind), kept

        self._summary = tuple(map(spec, EVENT_FIELDS))
        self._payload = tuple(map(spec, PAYLOAD_FIELDS))

    def write(self, event: Event) -> PortalRow:
        """The rows of an event, with its payload if it has one.

        Raises:
            RecordError: it has no id.
            ValueError: something in it is not JSON (NaN).
            TypeError: the same (an object of some class).
        """
        wire, event_id = event.wire, event.id
        if not event_id:
            raise RecordError(RejectReason.NO_ID, "an event without an id cannot be stored")
        payload: dict[str, Any] | None = wire.get("payload")
        written = _Written(self._postgresql)
        summary, exact = written.values(wire, self._summary, payload is not None)
        row = PortalRow(event, event_id, 0, summary, None, None, None)
        if not exact:
            row.summary_exact = dumps(
                {k: v for k, v in wire.items() if k != "payload" or v is None}, ascii_only=True
            )
        if payload is not None:
            row.payload, exact = written.values(payload, self._payload, False)
            if not exact:
                row.payload_exact = dumps(payload, ascii_only=True)
        kept = (*summary, row.summary_exact, *(row.payload or ()), row.payload_exact)
        row.size = _OTHER_BYTES + sum([len(value) for value in kept if type(value) is str])
        return row

    def read(
        self,
        summary: Sequence[Any],
        payload: Sequence[Any] | None = None,
        *,
        spelled: bool = False,
    ) -> Event:
        """The event of a row.

        Args:
            summary: the values of ``audit_events``, then ``exact``; JSON as text, times as the
                driver returns them.
            payload: the values of ``audit_payloads`` (``event_id`` first), or None.
            spelled: whether integers and booleans may be texts.

        Raises:
            RecordError: a value is not of its column's kind; the message names the column.
        """
        wire = self._read(summary, EVENT_FIELDS, spelled)
        if payload is None or payload[0] is None:
            if payload is None:
                wire.pop("payload", None)
        else:
            wire["payload"] = self._read(payload[1:], PAYLOAD_FIELDS[:-1], spelled)
        return Event(wire)

    def _read(
        self, values: Sequence[Any], fields: Sequence[Field], spelled: bool
    ) -> dict[str, Any]:
        exact = values[-1]
        if exact is not None:
            return _exactly(exact, fields, values)
        wire: dict[str, Any] = {}
        for field, kept in zip(fields, values, strict=False):
            if type(kept) is str and field.kind == "text":
                value: Any = kept
            else:
                value = None if kept is None else self._value(field, kept, spelled)
            if field.always:
                wire[field.name] = _ZEROS.get(field.kind, "") if value is None else value
            elif value not in _EMPTY:
                wire[field.name] = value
        return wire

    def _value(self, field: Field, kept: Any, spelled: bool) -> Json:
        value = column_value(field, kept, spelled=spelled)
        if field.kind == "json" and self._postgresql:
            first = NOTIFICATION_KEYS if field.name == "notifications" else ()
            return respell(value, first=first)
        return value


def _exactly(exact: Any, fields: Sequence[Field], values: Sequence[Any]) -> dict[str, Any]:
    """The value of ``exact`` for a row."""
    whole: Any = None
    try:
        if type(exact) is str:
            whole = loads(exact)
    except RecordError as error:
        raise RecordError(error.reason, f"{EXACT}: {error.detail}") from None
    if not isinstance(whole, dict):
        raise RecordError(RejectReason.NOT_AN_OBJECT, f"{EXACT} is not a JSON object")
    if fields[0].name == "id":
        stands = column_value(fields[0], values[0])
        told = whole.get("id")
        if not isinstance(told, str) or parse_id(told) != stands:
            raise RecordError(RejectReason.BAD_ID, f"{EXACT} is of another event")
    return whole


class _Written:
    """One event being converted to columns. Arguments that occur twice are written once."""

    def __init__(self, postgresql: bool) -> None:
        self._postgresql = postgresql
        self._documents: dict[int, tuple[str, bool]] = {}

    def values(
        self, wire: Mapping[str, Any], specs: Iterable[_Loop], has_payload: bool
    ) -> tuple[list[Any], bool]:
        """The columns of a wire, and whether they give it back equal."""
        values: list[Any] = []
        exact, seen = True, int(has_payload)
        for name, kind, always, zero, spec in specs:
            value = wire.get(name)
            if value is None:
                values.append(zero)
                exact = exact and not always
                continue
            seen += 1
            if not always and not value:
                exact = False
            # Most columns need no closer check.
            if (
                (len(value) < _SHORT and value.isascii() and "\0" not in value)
                if kind == "text"
                else kind == "bool"
                or (kind == "int" and type(value) is int and -_SMALL < value < _SMALL)
            ):
                values.append(value)
                continue
            kept, same = self._column(value, spec)
            values.append(kept)
            exact = exact and same
        return values, exact and seen == len(wire)

    def _column(self, value: Any, spec: _Spec) -> tuple[Any, bool]:
        kind = spec.kind
        if kind == "text":
            return self._text(value, spec.clipped)
        if kind == "int":
            number = max(-spec.largest - 1, min(int(value), spec.largest))
            return number, type(value) is int and number == value
        if kind == "json":
            return self._document(value)
        if kind == "time":
            # captured_at is the time of storing here, whatever another store recorded.
            return _time_column(value) if spec.always else (None, False)
        if kind == "id":
            text = parse_id(value) if value else None
            return text, text == value
        return value, True

    def _text(self, value: str, clipped: bool) -> tuple[str, bool]:
        text = value
        if not self._postgresql:
            text = value if value.isascii() else replace_surrogates(value)
        elif "\x00" in value or not value.isascii():
            text = _LOST.sub("\ufffd", value)
        if clipped and len(text) >= _SHORT:
            text = _fitting(text)
        return text, text == value

    def _document(self, value: Json) -> tuple[str, bool]:
        if id(value) not in self._documents:
            written = jsonb_text(value) if self._postgresql else (dumps(value), True)
            self._documents[id(value)] = written
        return self._documents[id(value)]


def _fitting(text: str) -> str:
    """The text, or as much of it as surely fits into an index."""
    whole = text.encode()
    if len(whole) <= _INDEX_BYTES:
        return text
    # PostgreSQL compresses index entries, somewhat worse than this.
    if len(whole) <= _COMPRESSED_FROM and len(zlib.compress(whole, 1)) <= _COMPRESSED_TO:
        return text
    return whole[:_INDEX_BYTES].decode(errors="ignore")


def _time_column(text: str) -> tuple[str, bool]:
    # The usual spelling is the column's own. It was checked when the event was made.
    if len(text) == 27 and text[26] == "Z" and text[19] == "." and text[10] == "T":
        return text, text[25] != "0"
    moment = parse_time(text)
    return sqlite_moment(moment), format_time(moment) == text


def jsonb_text(value: Json) -> tuple[str, bool]:
    """JSON text for ``jsonb``, and whether reading it back gives an equal value.

    Raises:
        ValueError: for NaN and the infinities.
        TypeError: a value that JSON does not have.
    """
    text = dumps(value)
    escaped = "\\u" in text and _ESCAPE.search(text)
    if not escaped and not _is_doubtful(value):
        return text, True
    storable, exact = _storable(value)
    return text if exact else dumps(storable), exact


def _is_doubtful(value: Json) -> bool:
    """Whether a closer look is needed at numbers and depth."""
    stack: list[Any] = [value]
    containers = 0
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict or kind is list:
            stack.extend(item.values() if kind is dict else item)
            containers += 1
        elif kind is int:
            if not -(10**20) < item < 10**20:
                return True
        elif kind is float:
            if not 1e-4 <= abs(item) < 1e16:
                return True
        elif kind is not str and item is not None and kind is not bool:
            return True
    return containers > _JSONB_DEPTH


def _storable(value: Json) -> tuple[Json, bool]:
    root: list[Any] = [None]
    exact = True
    stack: list[tuple[Any, Any, Any, int]] = [(value, root, 0, 0)]
    while stack:
        item, into, place, depth = stack.pop()
        new: Any = item
        if isinstance(item, dict | list | tuple) and depth > _JSONB_DEPTH:
            new, exact = "\ufffd", False
        elif isinstance(item, dict):
            keys = {key: _LOST.sub("\ufffd", key) for key in item}
            exact = exact and all(key == kept for key, kept in keys.items())
            new = dict.fromkeys(keys.values())
            stack.extend((item[key], new, keys[key], depth + 1) for key in item)
        elif isinstance(item, list | tuple):
            new = [None] * len(item)
            stack.extend((child, new, n, depth + 1) for n, child in enumerate(item))
        elif isinstance(item, str):
            new = _LOST.sub("\ufffd", item)
            exact = exact and new == item
        elif isinstance(item, int | float | Decimal) and not isinstance(item, bool):
            new, same = _number(item)
            exact = exact and same
        into[place] = new
    result: Json = root[0]
    return result, exact


def _number(value: float | Decimal) -> tuple[Any, bool]:
    spelled = dumps(value)
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    parts = number.as_tuple()
    if not isinstance(parts.exponent, int) or not (
        number.adjusted() in _JSONB_POWERS and parts.exponent in _JSONB_POWERS
    ):
        return "\ufffd", False
    # As numeric writes it: all digits, the scale kept, no sign on zero.
    plain = format(number or abs(number), "f")
    return value, dumps(respell(loads(plain))) == spelled
