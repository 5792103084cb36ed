"""What commands write: tables for people, JSON lines for programs."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.text import Text

    from mcpaudit_lab.display import Column

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
    """JSON text in which every unprintable character is escaped.

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
    from mcpaudit_lab.record import dumps

    click.echo(escape_json(dumps(value)))


def json_row(row: Mapping[str, Any], json_columns: Container[str] = ()) -> str:
    """A row as one line of JSON: numbers exact, times as RFC 3339, bytes as base64.

    NaN and the infinities, which JSON does not have, are strings.

    Args:
        row: the values by name.
        json_columns: columns whose text is JSON already.
    """
    from mcpaudit_lab.record import dumps

    members = (
        f"{dumps(name)}:{value}"
        if name in json_columns and value is not None
        else f"{dumps(name)}:{dumps(_jsonable(value))}"
        for name, value in row.items()
    )
    return escape_json(f"{{{','.join(members)}}}")


def _jsonable(value: Any) -> Any:
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    return value if value is None else str(value)


def _moment(value: datetime) -> str:
    from mcpaudit_lab.record import format_time

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
    (Mapping, lambda value: {str(name): _jsonable(item) for name, item in value.items()}),
    ((list, tuple), lambda value: [_jsonable(item) for item in value]),
)


def open_output() -> Console:
    """A console over standard output."""
    from mcpaudit_lab.display import open_console

    return open_console()


def say(text: str | Text) -> None:
    """Write a line for people; of a ``str``, what a terminal would obey is escaped."""
    from rich.text import Text

    from mcpaudit_lab.record import visible

    line = Text(visible(text)) if isinstance(text, str) else text
    open_output().print(line, soft_wrap=True)


def print_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[Column] | None,
    *,
    as_json: bool,
    json_columns: Container[str] = (),
) -> int:
    """Write rows; returns how many.

    Args:
        rows: values by name.
        columns: the columns to show; None for all of the first row.
        as_json: write whole rows as JSON lines.
        json_columns: columns whose text is JSON already.
    """
    if as_json:
        count = 0
        for row in rows:
            click.echo(json_row(row, json_columns))
            count += 1
        return count
    from mcpaudit_lab.display import columns_of, print_table

    listed = list(rows)
    if listed:
        print_table(open_output(), columns_of(listed) if columns is None else columns, listed)
    return len(listed)


def print_frame(frame: pd.DataFrame, columns: Sequence[Column] | None, *, as_json: bool) -> int:
    """Write the rows of a frame, as :func:`print_rows` does."""
    from mcpaudit_lab.storage import records

    return print_rows(records(frame), columns, as_json=as_json)
