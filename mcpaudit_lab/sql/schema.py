"""The two tables, ``audit_events`` and ``audit_payloads``, made from the record's field table.

Names and columns are the portal's own. Missing text is ``''``, missing JSON is NULL. The lab's
tables in DuckDB have one column more, ``extra``: an object, as ASCII JSON, of the members that
their columns cannot give back exactly or that nobody knows. Portals' tables are in
:mod:`mcpaudit_lab.sql.portal_tables`.
"""

from __future__ import annotations

from typing import Final

from mcpaudit_lab.events import EVENT_FIELDS, PAYLOAD_FIELDS, Field

__all__ = ["EVENT_COLUMNS", "PAYLOAD_COLUMNS", "duckdb_tables", "event_order"]

# Names of the columns that every dialect has, in the contract's order.
EVENT_COLUMNS: Final = tuple(field.column for field in EVENT_FIELDS)
PAYLOAD_COLUMNS: Final = ("event_id", *(field.column for field in PAYLOAD_FIELDS))

# An integer over 64 bits stands in extra, and its column is NULL.
_DUCKDB_TYPES: Final = {
    "id": "UUID",
    "time": "TIMESTAMPTZ",
    "text": "VARCHAR NOT NULL DEFAULT ''",
    "int": "BIGINT DEFAULT 0",
    "bool": "BOOLEAN NOT NULL DEFAULT false",
    "json": "JSON",
}


def duckdb_tables() -> tuple[str, str]:
    """The statements that make the lab's two tables.

    There are no keys: DuckDB would keep an index for each, which slows loading, and the lab checks
    ids itself. ``extra`` is text, since DuckDB's JSON type refuses the lone surrogates it may hold.
    """
    return (
        _create("audit_events", [_column(field) for field in EVENT_FIELDS]),
        _create(
            "audit_payloads",
            ["event_id UUID NOT NULL", *(_column(field) for field in PAYLOAD_FIELDS)],
        ),
    )


def _column(field: Field) -> str:
    required = " NOT NULL" if field.name in ("id", "timestamp") else ""
    return f"{field.column} {_DUCKDB_TYPES[field.kind]}{required}"


def _create(table: str, columns: list[str]) -> str:
    return f"CREATE TABLE {table} ({', '.join([*columns, 'extra VARCHAR'])})"


def event_order(alias: str = "e") -> str:
    """The contract's order of a list: newest first, ties by id ascending. For ``ORDER BY``."""
    return f"{alias}.ts DESC, {alias}.id ASC"
