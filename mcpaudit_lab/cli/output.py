"""What commands write: tables for people, JSON lines for programs."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from mcpaudit_lab.tables import Column

__all__ = ["console", "json_line", "print_frame", "print_json", "print_rows"]


def json_line(value: Any) -> str:
    """A value as one line of JSON, in which nothing is invisible.

    Characters that do not print stand as escapes, so that the line can go to a terminal as well.
    Times are RFC 3339; bytes are base64; NaN and the infinities, which JSON has not, are strings.
    """
    from mcpaudit_lab.jsontext import dumps

    text = dumps(_jsonable(value))
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        from mcpaudit_lab.events import format_time

        return value.isoformat() if value.tzinfo is None else format_time(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, str | int | float | Decimal):
        return value
    return str(value)


def print_json(value: Any) -> None:
    """Write one line of JSON to standard output."""
    click.echo(json_line(value))


def console() -> Console:
    """A console over standard output."""
    from mcpaudit_lab.tables import open_console

    return open_console()


def print_rows(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[Column] | None, *, as_json: bool
) -> int:
    """Write rows; gives how many.

    Args:
        rows: values by name.
        columns: those that a person is shown; None for all of the first row.
        as_json: write whole rows as JSON lines.
    """
    if as_json:
        count = 0
        for row in rows:
            print_json(row)
            count += 1
        return count
    from mcpaudit_lab.tables import Column, print_table

    listed = list(rows)
    if listed:
        shown = [Column(name) for name in listed[0]] if columns is None else columns
        print_table(console(), shown, listed)
    return len(listed)


def print_frame(
    frame: pd.DataFrame, columns: Sequence[Column] | None, *, as_json: bool
) -> int:
    """Write the rows of a frame, as :func:`print_rows` does."""
    from mcpaudit_lab.tables import records

    return print_rows(records(frame), columns, as_json=as_json)
