"""The tables of a lab in DuckDB: the portal's two, made from the record's fields, and the ledger.

``extra`` is an additional column that a portal does not have: an object, as ASCII JSON, of the
unknown members and of values that their columns cannot reproduce exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Field

__all__ = ["LEDGER_TABLES", "PLACE_COLUMNS", "duckdb_tables"]

# An integer over 64 bits is in extra, and its column is NULL.
_DUCKDB_TYPES: Final = {
    "id": "UUID",
    "time": "TIMESTAMPTZ",
    "text": "VARCHAR NOT NULL DEFAULT ''",
    "int": "BIGINT DEFAULT 0",
    "bool": "BOOLEAN NOT NULL DEFAULT false",
    "json": "JSON",
}


# The trace that a call belongs to, from ``extra``: computed when read, and no bytes on the disk.
_TRACE_COLUMNS: Final = tuple(
    f"{name} VARCHAR GENERATED ALWAYS AS (try(json_extract_string(extra, '$.{name}'))) VIRTUAL"
    for name in ("trace_id", "span_id")
)


def duckdb_tables() -> tuple[str, str]:
    """The statements that make the lab's two tables.

    There are no keys: DuckDB would keep an index for each, which slows loading, and the lab checks
    ids itself. ``extra`` is text, since DuckDB's JSON type rejects lone surrogates.
    """
    return (
        _create("audit_events", [_column(field) for field in EVENT_FIELDS], _TRACE_COLUMNS),
        _create(
            "audit_payloads",
            ["event_id UUID NOT NULL", *(_column(field) for field in PAYLOAD_FIELDS)],
        ),
    )


def _column(field: Field) -> str:
    required = " NOT NULL" if field.name in ("id", "timestamp") else ""
    return f"{field.column} {_DUCKDB_TYPES[field.kind]}{required}"


def _create(table: str, columns: list[str], generated: Sequence[str] = ()) -> str:
    return f"CREATE TABLE {table} ({', '.join([*columns, 'extra VARCHAR', *generated])})"


# Where a row stood: the source, the line's number from 1, and where the line starts and how long it
# is in the (unpacked) file.
PLACE_COLUMNS = {
    "source_id": "integer",
    "line": "bigint",
    "byte_offset": "bigint",
    "byte_size": "bigint",
}

LEDGER_TABLES = (
    (
        "create table sources (id integer, kind varchar, name varchar, request varchar,"
        " sha256 varchar, bytes bigint, lines bigint, loaded bigint, merged bigint,"
        " duplicates bigint, rejected bigint, blank bigint, loaded_at timestamptz,"
        " other bigint, parts bigint, format varchar, chain varchar)"
    ),
    # The further lines of events that came from several: answers, notifications, parts of a line.
    (
        "create table event_lines (event_id uuid, source_id integer, line bigint,"
        " byte_offset bigint, byte_size bigint)"
    ),
    (
        "create table rejects (source_id integer, file varchar, line bigint, byte_offset bigint,"
        " reason varchar, detail varchar, raw blob)"
    ),
    *(
        f"alter table {table} add column {name} {kind}"
        for table in ("audit_events", "audit_payloads")
        for name, kind in PLACE_COLUMNS.items()
    ),
)
