"""Rows of values as JSON for programs, exact and safe to print."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Container, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from mcpaudit_lab.record.fields import format_time
from mcpaudit_lab.record.jsontext import dumps

__all__ = ["escape_json", "json_row", "json_value"]


def escape_json(text: str) -> str:
    """JSON text in which every unprintable character is escaped.

    It means the same, and may go to a terminal.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))


def json_row(row: Mapping[str, Any], json_columns: Container[str] = ()) -> str:
    """A row as one line of JSON: numbers exact, times as RFC 3339, bytes as base64.

    NaN and the infinities, which JSON does not have, are strings.

    Args:
        row: the values by name.
        json_columns: columns whose text is JSON already.
    """
    members = (
        f"{dumps(name)}:{value}"
        if name in json_columns and value is not None
        else f"{dumps(name)}:{dumps(json_value(value))}"
        for name, value in row.items()
    )
    return escape_json(f"{{{','.join(members)}}}")


def json_value(value: Any) -> Any:
    """A value as JSON has it, by the rules of :func:`json_row`."""
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    return value if value is None else str(value)


def _moment(value: datetime) -> str:
    return value.isoformat() if value.tzinfo is None else format_time(value)


def _same(value: Any) -> Any:
    return value


_NO_NUMBERS: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
# Each kind of value as JSON has it. A datetime is a date, so it comes first.
_FORMS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    ((str, int, Decimal), _same),
    (float, lambda value: value if math.isfinite(value) else _NO_NUMBERS[str(value)]),
    (datetime, _moment),
    ((date, time), lambda value: value.isoformat()),
    (bytes, lambda value: base64.b64encode(value).decode()),
    (Mapping, lambda value: {str(name): json_value(item) for name, item in value.items()}),
    ((list, tuple), lambda value: [json_value(item) for item in value]),
)
