"""One event, one row: the record as columns, and back without loss.

A column holds what its type can hold. A value that it cannot reproduce exactly (a time in
nanoseconds or with an offset, an id in capitals, an integer over 64 bits, a lone surrogate, an
explicit zero or null, an unknown member) is also in ``extra``, under its JSON name, as ASCII JSON;
reading the row takes it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mcpaudit_lab.record import (
    EVENT_FIELDS,
    PAYLOAD_FIELDS,
    Event,
    Field,
    dumps,
    format_time,
    loads,
    parse_id,
    parse_time,
    replace_surrogates,
    same,
)

__all__ = ["PAYLOAD_PREFIX", "event_of", "row_of", "same_event", "same_payload"]

# Prefix of a payload's columns in a row that also has the event's.
PAYLOAD_PREFIX = "payload_"

_INT64 = range(-(2**63), 2**63)


def row_of(event: Event) -> dict[str, Any]:
    """The columns of one event and its payload, the payload's with ``payload_`` before them.

    ``has_payload`` tells an empty payload from none.
    """
    row = {**_EVENT_ZERO, **_PAYLOAD_ZERO}
    _fill(row, event.wire, _EVENT_FIELDS, "")
    payload = event.wire.get("payload")
    row["has_payload"] = payload is not None
    if payload is not None:
        _fill(row, payload, _PAYLOAD_FIELDS, PAYLOAD_PREFIX)
    return row


_ZEROS: dict[str, Any] = {"text": "", "int": 0, "bool": False}
_EVENT_FIELDS = {field.name: field for field in EVENT_FIELDS}
_PAYLOAD_FIELDS = {field.name: field for field in PAYLOAD_FIELDS}
_EVENT_ZERO = {f.column: _ZEROS.get(f.kind) for f in EVENT_FIELDS} | {"extra": None}
_PAYLOAD_ZERO = {PAYLOAD_PREFIX + f.column: _ZEROS.get(f.kind) for f in PAYLOAD_FIELDS} | {
    f"{PAYLOAD_PREFIX}extra": None
}


def _fill(
    row: dict[str, Any], wire: Mapping[str, Any], fields: Mapping[str, Field], prefix: str
) -> None:
    extra: dict[str, Any] = {}
    for name, value in wire.items():
        field = fields.get(name)
        if field is None:
            if name != "payload" or prefix:
                extra[name] = value
        elif value is None:
            extra[name] = value
        else:
            column, exact = _column(value, field.kind)
            row[prefix + field.column] = column
            # In the contract a zero equals an absent member, so it is also absent when the column
            # is read.
            if not exact or not (field.always or column or field.kind == "json"):
                extra[name] = value
    if extra:
        row[f"{prefix}extra"] = dumps(extra, ascii_only=True)


def _column(value: Any, kind: str) -> tuple[Any, bool]:
    """The column's value, and whether it reproduces the wire's value."""
    column, exact = value, True
    if kind == "text":
        column = value if value.isascii() else replace_surrogates(value)
        exact = column == value
    elif kind == "int":
        fits = int(value) in _INT64
        column, exact = int(value) if fits else None, fits and isinstance(value, int)
    elif kind == "json":
        column = dumps(value, lossy=True)
        exact = "\ufffd" not in column or column == dumps(value)
    elif kind != "bool" and not value:
        column, exact = None, False
    elif kind == "id":
        column = parse_id(value)
        exact = column == value
    elif kind == "time":
        column = parse_time(value)
        exact = format_time(column) == value
    return column, exact


def event_of(row: Mapping[str, Any]) -> Event:
    """The event of a row made by :func:`row_of`, members in the contract's order."""
    wire = _wire(row, EVENT_FIELDS, prefix="")
    if row["has_payload"]:
        wire["payload"] = _wire(row, PAYLOAD_FIELDS, prefix=PAYLOAD_PREFIX)
    return Event(wire)


def _wire(row: Mapping[str, Any], fields: tuple[Field, ...], prefix: str) -> dict[str, Any]:
    text = row[f"{prefix}extra"]
    extra: Any = loads(text) if text else {}
    wire: dict[str, Any] = {}
    for field in fields:
        if field.name in extra:
            wire[field.name] = extra[field.name]
            continue
        value = row[prefix + field.column]
        if value in (None, "", 0, False) and not field.always:
            continue
        if isinstance(value, datetime):
            value = format_time(value)
        elif field.kind == "json":
            value = loads(value)
        elif field.kind == "id":
            value = str(value)
        wire[field.name] = value
    for name, value in extra.items():
        wire.setdefault(name, value)
    return wire


def same_event(left: Event, right: Event) -> bool:
    """Whether two summaries record the same: zero is absent, times count to the microsecond.

    Numbers are equal by value, so that a row that went through ``jsonb`` equals its export line.
    """
    return same(
        _normal(left.wire, EVENT_FIELDS, "payload"), _normal(right.wire, EVENT_FIELDS, "payload")
    )


def same_payload(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """The same for two payloads; ignores ``captured_at``, which only databases have."""
    return same(
        _normal(left, PAYLOAD_FIELDS, "captured_at"), _normal(right, PAYLOAD_FIELDS, "captured_at")
    )


def _normal(wire: Mapping[str, Any], fields: tuple[Field, ...], skip: str) -> dict[str, Any]:
    normal: dict[str, Any] = {}
    kinds = {field.name: field.kind for field in fields}
    for name, value in wire.items():
        if name == skip or value in (None, "", False, {}, []) or (value == 0 and value is not True):
            continue
        kind = kinds.get(name)
        if kind == "time":
            normal[name] = format_time(parse_time(value))
        elif kind == "id":
            normal[name] = parse_id(value)
        else:
            normal[name] = value
    return normal
