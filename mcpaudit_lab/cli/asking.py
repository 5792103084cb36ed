"""Commands that ask: ``events``, ``stats``, ``breakdown``, ``timeseries``, ``sql``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from mcpaudit_lab.cli.options import filter_options, json_option, lab_option
from mcpaudit_lab.cli.output import print_frame, print_rows
from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble

if TYPE_CHECKING:
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import EventSet, Lab
    from mcpaudit_lab.storage import SqlResult

__all__ = ["breakdown", "events", "sql", "stats", "timeseries"]

_SHOWN_EVENTS: Final = 50
_SUMMARY: Final = (
    "ts", "tool_name", "success", "error_category", "duration_ms", "user_subject", "id",
)  # fmt: skip  # reads better as a list than as a column


@click.command()
@lab_option
@filter_options
@click.option(
    "--columns",
    multiple=True,
    metavar="NAMES",
    help="Columns, with commas between: ts,tool_name,param.user.id,header.User-Agent.",
)
@click.option("--payloads", is_flag=True, help="Requests and responses as well.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help=f"Maximum number of events. A table stops at {_SHOWN_EVENTS} and says so; --json never.",
)
@click.option(
    "--definition-changed/--definition-unchanged",
    "definition_changed",
    default=None,
    help="Only calls made under another tool definition than the first, or under the first.",
)
@click.option("--tag", "tags", multiple=True, help="Only events with a note that has this tag.")
@json_option
def events(
    *,
    lab: Lab,
    filters: tuple[EventFilter, ...],
    columns: tuple[str, ...],
    payloads: bool,
    limit: int | None,
    definition_changed: bool | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> int:
    """List events, newest first.

    With --json each line is an event as a portal writes it, and `load` reads it again; with
    --columns it is an object of these columns.

    Exit status: 1 if no event matches.
    """
    chosen = lab.events(*filters)
    if definition_changed is not None:
        chosen = chosen.where(definition_changed=definition_changed)
    if tags:
        chosen = chosen.where(tag=tags)
    if limit is not None:
        chosen = chosen.where(limit=limit)
    names = [name for text in columns for name in text.split(",") if name]
    if as_json and not names:
        from mcpaudit_lab.record import escape_json

        count = 0
        for event in chosen:
            click.echo(escape_json((event if payloads else event.summary).to_json()))
            count += 1
        return FOUND if count else LOOK
    if as_json:
        count = _print_columns(chosen, names, payloads, as_json=True)
        return FOUND if count else LOOK
    return _print_table(chosen, names, payloads)


def _print_table(chosen: EventSet, names: list[str], payloads: bool) -> int:
    from mcpaudit_lab.cli.output import say

    total = chosen.count()
    if not total:
        say(f"No event matches: {chosen.describe()}.")
        return LOOK
    paged = any(item.limit is not None or item.offset for item in chosen.filters)
    shown = chosen if paged else chosen.where(limit=_SHOWN_EVENTS)
    count = _print_columns(shown, names, payloads, as_json=False)
    if count < total:
        say(f"{count} of {total:,} events; --limit {total} shows all.")
    return FOUND


def _print_columns(chosen: EventSet, names: list[str], payloads: bool, *, as_json: bool) -> int:
    from mcpaudit_lab.display import EVENT_COLUMNS, event_row
    from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS

    table = chosen.arrow(names or _SUMMARY, payloads=payloads)
    fields = {field.column: field.kind for field in (*EVENT_FIELDS, *PAYLOAD_FIELDS)}
    in_json = {name for name in table.column_names if fields.get(name, "json") == "json"}
    rows = _rows(table.to_batches())
    if as_json:
        return print_rows(rows, None, as_json=True, json_columns=in_json)
    if names or payloads:
        return print_rows((_decoded(row, in_json) for row in rows), None, as_json=False)
    return print_rows(map(event_row, rows), EVENT_COLUMNS, as_json=False)


def _rows(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()


def _decoded(row: dict[str, Any], in_json: set[str]) -> dict[str, Any]:
    """A text at a path without its quotes; other JSON as it is written."""
    from mcpaudit_lab.record import loads

    def value(name: str, text: Any) -> Any:
        return loads(text) if name in in_json and text and text[0] == '"' else text

    return {name: value(name, text) for name, text in row.items()}


@click.command()
@lab_option
@filter_options
@click.option("--by", metavar="FIELD", help="A row for each tool, user, session, success, …")
@json_option
def stats(*, lab: Lab, filters: tuple[EventFilter, ...], by: str | None, as_json: bool) -> int:
    """Show calls, failures and durations.

    Exit status: 1 if no event matches.
    """
    from mcpaudit_lab.display import stats_columns

    frame = lab.events(*filters).stats(by)
    print_frame(frame, stats_columns(by), as_json=as_json)
    return FOUND if frame["total"].sum() else LOOK


@click.command()
@lab_option
@filter_options
@click.option(
    "--by", default="tool", show_default=True, metavar="FIELD", help="tool, user, success, …"
)
@json_option
def breakdown(*, lab: Lab, filters: tuple[EventFilter, ...], by: str, as_json: bool) -> int:
    """Count events and failures for each value of a field.

    Exit status: 1 if no event matches.
    """
    from mcpaudit_lab.display import breakdown_columns

    frame = lab.events(*filters).breakdown(by)
    count = print_frame(frame, breakdown_columns(by), as_json=as_json)
    return FOUND if count else LOOK


@click.command()
@lab_option
@filter_options
@click.option(
    "--bucket", default="1m", show_default=True, metavar="SPAN", help="Width: 90s, 5m, 1h30m, 1d."
)
@json_option
def timeseries(*, lab: Lab, filters: tuple[EventFilter, ...], bucket: str, as_json: bool) -> int:
    """Count events and failures over time.

    Times are UTC; spans without an event are left out.

    Exit status: 1 if no event matches.
    """
    from mcpaudit_lab.display import TIMESERIES_COLUMNS

    frame = lab.events(*filters).timeseries(bucket)
    count = print_frame(frame, TIMESERIES_COLUMNS, as_json=as_json)
    return FOUND if count else LOOK


@click.command()
@lab_option
@click.argument("statement")
@click.option(
    "--untrusted",
    is_flag=True,
    help="Run it in a separate process over a copy, without files or network, with limits.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an untrusted statement may take.",
)
@json_option
def sql(*, lab: Lab, statement: str, untrusted: bool, timeout_s: float, as_json: bool) -> int:
    """Run one SQL statement of your own.

    Where STATEMENT is - it is read from standard input. The tables are audit_events,
    audit_payloads, sources and rejects. The lab itself cannot be changed this way. Columns of JSON
    come as text.

    A statement may read and write files of yours: use --untrusted for one that you did not read. It
    sees audit_events and audit_payloads only.

    Exit status: 1 if there is no row.
    """
    if statement == "-":
        statement = sys.stdin.read()
    if untrusted:
        with lab.sandbox(timeout_s=timeout_s) as box:
            result = box.sql(statement)
    else:
        result = _run(lab, statement)
    names = _unique(result.columns)
    rows = (dict(zip(names, row, strict=True)) for row in result.fetchall())
    count = print_rows(rows, None, as_json=as_json)
    if result.truncated:
        click.echo(f"cut after {count:,} rows", err=True)
    return LOOK if names and not count else FOUND


def _run(lab: Lab, statement: str) -> SqlResult:
    """Run a statement that cannot change the lab, be it by mistake."""
    from mcpaudit_lab.storage import run_sql

    cursor = lab.connection.cursor()
    # A second one could end the transaction.
    if len(cursor.extract_statements(statement)) > 1:
        raise Trouble("this is more than one statement; run them one by one")
    cursor.execute("begin transaction read only")
    return run_sql(cursor, statement, {})


def _unique(names: Iterable[str]) -> list[str]:
    """Unique names: the second ``n`` becomes ``n_2``."""
    unique: dict[str, None] = {}
    for name in names:
        wanted, number = name, 1
        while wanted in unique:
            number += 1
            wanted = f"{name}_{number}"
        unique[wanted] = None
    return list(unique)
