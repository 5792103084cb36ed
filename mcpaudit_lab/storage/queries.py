"""The SELECTs that give rows of a lab: whole rows for events, lines for files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Event
from mcpaudit_lab.storage.plain_lines import line_expression
from mcpaudit_lab.storage.rows import PAYLOAD_PREFIX, event_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = [
    "CONTRACT_ORDER",
    "line_select",
    "read_batches",
    "read_events",
    "read_table",
    "read_value",
    "registered",
    "row_select",
]

CONTRACT_ORDER = "order by ts desc, id"
# Events may be large: a payload can contain two sides of 64 KiB and more.
_BATCH_ROWS = 512


@cache
def row_select(rows: str) -> str:
    """SQL: everything of some events, as :func:`mcpaudit_lab.storage.rows.event_of` reads it.

    Args:
        rows: a table of ids in SQL, as ``(select id from …)``.
    """
    columns = [f'e."{field.column}"' for field in EVENT_FIELDS]
    columns += ["e.extra", "p.event_id is not null as has_payload"]
    columns += [f'p."{field.column}" as {PAYLOAD_PREFIX}{field.column}' for field in PAYLOAD_FIELDS]
    columns.append(f"p.extra as {PAYLOAD_PREFIX}extra")
    return (
        f"select {', '.join(columns)} from audit_events e"
        " left join audit_payloads p on p.event_id = e.id"
        f" where e.id in {rows}"
    )


def read_events(
    cursor: duckdb.DuckDBPyConnection,
    rows: str,
    params: Mapping[str, Any],
    *,
    order: str = CONTRACT_ORDER,
    damaged: Callable[[str], object] | None = None,
) -> Iterator[Event]:
    """The events of some ids with their payloads, in the contract's order unless told otherwise.

    Args:
        cursor: of the lab.
        rows: a table of ids in SQL, as ``(select id from …)``.
        params: the values it binds.
        order: another order, as an ``order by`` clause.
        damaged: called with the id of each row that cannot be read; None raises.

    Raises:
        RecordError: a row was changed into something that is no event.
    """
    for batch in read_batches(cursor, f"{row_select(rows)} {order}", params):
        for row in batch.to_pylist():
            try:
                event = event_of(row)
            except RecordError:
                if damaged is None:
                    raise
                damaged(str(row["id"]))
            else:
                yield event


def read_batches(
    cursor: duckdb.DuckDBPyConnection,
    select: str,
    params: Mapping[str, Any],
    batch_rows: int = _BATCH_ROWS,
) -> Iterator[pa.RecordBatch]:
    """The rows of a SELECT as Arrow batches, without holding them all."""
    relation = cursor.sql(select, params=dict(params)) if params else cursor.sql(select)
    yield from relation.to_arrow_reader(batch_rows)


def read_table(
    cursor: duckdb.DuckDBPyConnection,
    statement: str,
    params: Mapping[str, Any] | Sequence[Any] = (),
) -> pa.Table | None:
    """The result of a statement as an Arrow table; None for a statement without rows.

    It runs in a separate thread: while DuckDB runs a statement with bound values, the thread that
    asked hears of no Ctrl-C.

    Raises:
        KeyboardInterrupt: interrupted; the statement was ended and changed nothing.
    """

    def run() -> pa.Table | None:
        given = cursor.sql(statement, params=params) if params else cursor.sql(statement)
        # One that changes something has run already, and has no rows; DuckDB's hints forget it.
        relation = cast("duckdb.DuckDBPyRelation | None", given)
        return None if relation is None else relation.to_arrow_table()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            return running.result()
        except KeyboardInterrupt:
            cursor.interrupt()
            raise


class _Lent:
    """An Arrow table that can be taken back: the Arrow PyCapsule interface, one stream a scan."""

    def __init__(self, table: pa.Table) -> None:
        self.table: pa.Table | None = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        if self.table is None:
            raise ValueError("this table was taken back")
        return self.table.__arrow_c_stream__(requested_schema)


@contextlib.contextmanager
def registered(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> Iterator[None]:
    """Let SQL read an Arrow table by name."""
    import duckdb

    lent = _Lent(table)
    connection.register(name, lent)
    try:
        yield
    finally:
        # The transaction keeps registered objects until it ends, even if they are unregistered.
        lent.table = None
        # In an aborted transaction even this is refused; what aborted it is the error to show.
        with contextlib.suppress(duckdb.Error):
            connection.unregister(name)


def read_value(
    connection: duckdb.DuckDBPyConnection, statement: str, params: Mapping[str, Any] | None = None
) -> Any:
    """The first value of the first row; for an INSERT the number of rows; None without a row.

    A result must be fetched to its end before a DuckDB connection does anything else.
    """
    executed = (
        connection.execute(statement, dict(params)) if params else connection.execute(statement)
    )
    rows = executed.fetchall()
    return rows[0][0] if rows else None


@cache
def line_select(rows: str) -> str:
    """SQL: id and JSON line of some events in the contract's order.

    The line is null where only Python can write it exactly.
    """
    members = [f'{_value(f.kind, f.column)} as "{f.name}"' for f in EVENT_FIELDS]
    nested = [f"{f.name} := {_value(f.kind, PAYLOAD_PREFIX + f.column)}" for f in PAYLOAD_FIELDS]
    return f"""
    select event_id, case when by_hand then null else {line_expression(escape=True)} end line from (
      select id as event_id, ts as event_ts, {", ".join(members)},
        case when has_payload then struct_pack({", ".join(nested)}) end payload,
        extra is not null or {PAYLOAD_PREFIX}extra is not null
          or ts < '1000-01-01T00:00:00Z'::timestamptz
          or (has_payload and {PAYLOAD_PREFIX}jsonrpc_method = '') by_hand
      from ({row_select(rows)})) order by event_ts desc, event_id
    """


def _value(kind: str, column: str) -> str:
    """A column as the wire has it: text for ids and times."""
    if kind == "time":
        text = f"strftime({column}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        return rf"regexp_replace({text}, '\.?0*Z$', 'Z')"
    return f"{column}::varchar" if kind == "id" else column
