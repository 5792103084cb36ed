"""What commands write: tables for people, JSON lines for programs."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.text import Text

    from mcpaudit_lab.display import Column

__all__ = [
    "open_output",
    "print_frame",
    "print_json",
    "print_rows",
    "say",
]


def print_json(value: Any) -> None:
    """Write a JSON value as one line."""
    from mcpaudit_lab.record import dumps, escape_json

    click.echo(escape_json(dumps(value)))


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
        from mcpaudit_lab.record import json_row

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
