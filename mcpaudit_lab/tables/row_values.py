"""Parse and check one value of a portal's tables.

Columns may contain what other programs wrote, or a disk damaged: SQLite stores any value in any
column, and a foreign PostgreSQL table may have text where numbers belong. A value that is invalid
for its column is refused with the column's name, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

from mcpaudit_lab.errors import RecordError, RejectReason
from mcpaudit_lab.record import Field, Json, format_time, loads, parse_id, respell_time

__all__ = ["column_value", "raw_columns", "tolerant_text"]

# As PostgreSQL writes and reads them in a column of text.
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_USUAL_CHARS: Final = len("2026-11-24T03:43:43.274318Z")
_BOOLEANS: Final = {"t": True, "true": True, "f": False, "false": False}


def column_value(field: Field, kept: Any, *, spelled: bool = False) -> Json:
    """The JSON value of a column's value that is not NULL.

    Args:
        field: the column's field.
        kept: the value from the driver; JSON as text.
        spelled: whether integers and booleans may be texts, as PostgreSQL spells them.

    Raises:
        RecordError: it is not of the column's kind; reason ``bad_field``, ``bad_id``, ``bad_time``,
            or as :func:`~mcpaudit_lab.record.jsontext.loads`. The message names the column.
    """
    kind = field.kind
    if kind in ("int", "bool"):
        return _number(field, kept, spelled)
    if kind == "time" and isinstance(kept, datetime):
        return format_time(kept)
    if type(kept) is not str:
        _refuse(field, "not a text in UTF-8")
    text = str(kept)
    try:
        if kind == "json":
            return loads(text)
        if kind == "time":
            return _time(text)
        # An id that refers to another event stays as stored; an event is looked up by its own id.
        if kind == "id" and (text or field.name == "id"):
            canonical = parse_id(text)
            return canonical if field.name == "id" else text
    except RecordError as error:
        raise RecordError(error.reason, f"{field.column}: {error.detail}") from None
    return text


def _time(text: str) -> str:
    # The usual spelling needs no parsing here; making an event of it checks it.
    if len(text) != _USUAL_CHARS or (text[10], text[19], text[26]) != ("T", ".", "Z"):
        return respell_time(text)
    try:
        datetime.fromisoformat(text[:26])
    except ValueError:
        raise RecordError(RejectReason.BAD_TIME, "the time is out of range") from None
    return f"{text[:26].rstrip('0').rstrip('.')}Z"


def _number(field: Field, kept: Any, spelled: bool) -> int | bool:
    as_text = kept.lower() if spelled and isinstance(kept, str) else ""
    if field.kind == "int":
        if type(kept) is int:
            return kept
        if _INTEGER.fullmatch(as_text):
            return int(as_text)
        _refuse(field, "not an integer")
    if isinstance(kept, int) and kept in (0, 1):
        return bool(kept)
    if as_text not in _BOOLEANS:
        _refuse(field, "not true or false")
    return _BOOLEANS[as_text]


def _refuse(field: Field, why: str) -> NoReturn:
    reason = {"id": RejectReason.BAD_ID, "time": RejectReason.BAD_TIME}
    raise RecordError(reason.get(field.kind, RejectReason.BAD_FIELD), f"{field.column} is {why}")


def raw_columns(names: Sequence[str], values: Sequence[Any]) -> dict[str, object]:
    """The values of a row by column, as JSON: for people who repair the row."""
    return {name: _shown(value) for name, value in zip(names, values, strict=True)}


def _shown(value: Any) -> object:
    if isinstance(value, bytes | memoryview):
        return f"X'{bytes(value).hex()}'"
    if isinstance(value, Mapping | list) or value is None or type(value) in (bool, int, str):
        return value
    # SQLite can hold an infinite number, JSON cannot.
    return value if isinstance(value, float) and abs(value) < float("inf") else str(value)


def tolerant_text(data: bytes) -> str | bytes:
    """A ``text_factory`` for SQLite that returns bytes for invalid UTF-8 instead of raising."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
