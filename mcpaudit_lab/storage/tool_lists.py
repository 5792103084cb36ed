"""The tool lists of a lab, and the definition in force at each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.record import ToolDefinition, ToolList
from mcpaudit_lab.tables import TOOL_TABLES, Execute, read_tool_lists, store_tool_list

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "DEFINITIONS_IN_FORCE",
    "add_tool_list",
    "definitions_in_force",
    "has_tool_lists",
    "lab_tool_lists",
]

# One row for each event whose tool's definition at the call is known: event_id, sha256,
# first_sha256.
# An event that does not name its server is matched where only one server ever offered the tool.
DEFINITIONS_IN_FORCE: Final = """
    with offers as (
        select l.server, o.name, o.sha256, l.first_us,
            first_value(o.sha256) over (
                partition by l.server, o.name order by l.first_us) first_sha256
        from audit_tool_lists l join audit_tool_offers o on o.list_id = l.id
    ), servers as (
        select name, min(server) server from offers group by name having count(distinct server) = 1
    ), calls as (
        select e.id, e.tool_name, epoch_us(e.ts) us,
            coalesce(nullif(json_extract_string(e.extra, '$.server_name'), ''), s.server) server
        from audit_events e left join servers s on s.name = e.tool_name
    ), found as (
        select c.id, c.us, o.* from calls c asof join offers o
            on c.tool_name = o.name and c.server = o.server and c.us >= o.first_us
    )
    select f.id event_id, f.sha256, f.first_sha256 from found f
    where not exists (
        select 1 from audit_tool_lists l
        where l.server = f.server and l.complete = 1 and l.first_us > f.first_us
            and l.first_us <= f.us)"""
_TABLES: Final = "select count(*) from duckdb_tables() where table_name = 'audit_tool_lists'"


def add_tool_list(connection: duckdb.DuckDBPyConnection, found: ToolList) -> bool:
    """Keep a list in the lab, in the caller's transaction; returns whether it was a new one."""
    for statement in TOOL_TABLES:
        connection.execute(statement)
    return store_tool_list(_execute(connection), found)


def lab_tool_lists(connection: duckdb.DuckDBPyConnection) -> list[ToolList]:
    """Every list that the lab has, by server and time."""
    return list(read_tool_lists(_execute(connection))) if has_tool_lists(connection) else []


def has_tool_lists(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the lab ever kept a list. A lab without one has no tables for them."""
    row = connection.execute(_TABLES).fetchone()
    return row is not None and bool(row[0])


def definitions_in_force(
    connection: duckdb.DuckDBPyConnection, event_ids: Sequence[str]
) -> dict[str, ToolDefinition]:
    """The definition of each event's tool at the time of the call, by the event's id.

    An event whose definition is not known is left out.
    """
    if not has_tool_lists(connection):
        return {}
    query = (
        "select f.event_id::varchar, d.name, d.sha256, d.definition"
        f" from ({DEFINITIONS_IN_FORCE}) f join audit_tool_definitions d using (sha256)"
        " where f.event_id in (select unnest($ids)::uuid)"
    )
    rows = connection.execute(query, {"ids": list(event_ids)}).fetchall()
    return {event_id: ToolDefinition(*map(str, row)) for event_id, *row in rows}


def _execute(connection: duckdb.DuckDBPyConnection) -> Execute:
    def execute(statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        # DuckDB writes a parameter's name behind a dollar sign.
        for name in values:
            statement = statement.replace(f":{name}", f"${name}")
        return connection.execute(statement, dict(values)).fetchall()

    return execute
