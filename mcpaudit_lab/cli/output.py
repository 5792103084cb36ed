"""What commands write: tables for people, JSON lines for programs."""

from __future__ import annotations

import base64
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.text import Text

    from mcpaudit_lab.tables import Column

__all__ = [
    "escape_json",
    "json_row",
    "open_output",
    "print_frame",
    "print_json",
    "print_rows",
    "say",
]


def escape_json(text: str) -> str:
    """JSON text in which every character that does not print stands as an escape.

    It means the same, and may go to a terminal.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))


def print_json(value: Any) -> None:
    """Write a JSON value as one line."""
    from mcpaudit_lab.jsontext import dumps

    click.echo(escape_json(dumps(value)))


def json_row(row: Mapping[str, Any], json_columns: Container[str] = ()) -> str:
    """A row as one line of JSON: numbers exact, times as RFC 3339, bytes as base64.

    NaN and the infinities, which JSON does not have, are strings.

    Args:
        row: the values by name.
        json_columns: columns whose text is JSON already.
    """
    from mcpaudit_lab.jsontext import dumps

    members = (
        f"{dumps(name)}:{value}"
        if name in json_columns and value is not None
        else f"{dumps(name)}:{dumps(_jsonable(value))}"
        for name, value in row.items()
    )
    return escape_json(f"{{{','.join(members)}}}")


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, str | int | Decimal):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        from mcpaudit_lab.events import format_time

        return format_time(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(name): _jsonable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return str(value)


def open_output() -> Console:
    """A console over standard output."""
    from mcpaudit_lab.tables import open_console

    return open_console()


def say(text: str | Text) -> None:
    """Write a line for people; of a ``str``, what a terminal would obey is escaped."""
    from rich.text import Text

    from mcpaudit_lab.terminal import visible

    line = Text(visible(text)) if isinstance(text, str) else text
    open_output().print(line, soft_wrap=True)


def print_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[Column] | None,
    *,
    as_json: bool,
    json_columns: Container[str] = (),
) -> int:
    """Write rows; gives how many.

    Args:
        rows: values by name.
        columns: those that a person is shown; None for all of the first row.
        as_json: write whole rows as JSON lines.
        json_columns: columns whose text is JSON already.
    """
    if as_json:
        count = 0
        for row in rows:
            click.echo(json_row(row, json_columns))
            count += 1
        return count
    from mcpaudit_lab.tables import Column, print_table

    listed = list(rows)
    if listed:
        shown = [Column(name) for name in listed[0]] if columns is None else columns
        print_table(open_output(), shown, listed)
    return len(listed)


def print_frame(frame: pd.DataFrame, columns: Sequence[Column] | None, *, as_json: bool) -> int:
    """Write the rows of a frame, as :func:`print_rows` does."""
    from mcpaudit_lab.tables import records

    return print_rows(records(frame), columns, as_json=as_json)
