"""The schema that a store adds to the portal's two tables, and its migration.

- ``exact``, in both tables: the summary or the payload as ASCII JSON, if the columns cannot
  reproduce it (:mod:`mcpaudit_lab.tables.portal_rows`).
- ``commit_number`` in ``audit_events``: 1, 2, 3 … in commit order. Null in rows inserted by other
  programs, until the next reader numbers them.
- Partial indexes over the rows that may be unreadable (:mod:`mcpaudit_lab.tables.suspects`).
- ``audit_commits``: one row with the last assigned number. A writer updates this row first and
  holds its lock until it commits. So numbers become visible in order and without gaps, whoever
  writes, and an aborted transaction returns its numbers.

A sequence would not work: it numbers in order of request, so a reader that has seen 8 would never
read a 7 that is committed later.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    inspect,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateColumn

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.record import EVENT_FIELDS
from mcpaudit_lab.server.stores.engine import translate_errors
from mcpaudit_lab.tables import (
    EXACT,
    OWN_PAYLOAD_FIELDS,
    TOOL_TABLES,
    Suspects,
    mistyped_columns,
    portal_tables,
    suspects_of,
)

__all__ = ["COMMIT_NUMBER", "StoreTables", "migrate"]

COMMIT_NUMBER: Final = "commit_number"

logger = logging.getLogger(__name__)

# Advisory lock key: arbitrary, but the same in every portal.
_MIGRATION_LOCK: Final = 0x6D6370_61756474
_NOT_ALLOWED: Final = "42501"


@dataclass(frozen=True, slots=True)
class StoreTables:
    """The tables, and which of our additions the database has.

    Attributes:
        events: ``audit_events``.
        payloads: ``audit_payloads``.
        exact: whether both tables have the column ``exact``.
        numbered: whether events have commit numbers.
        small_columns: names of 32-bit integer columns.
        columns: table name to the columns to read, with ``exact`` last if it exists.
        suspects: table name to the query for rows that may be unreadable.
        suspects_indexed: whether indexes support that query.
    """

    events: Table
    payloads: Table
    exact: bool
    numbered: bool
    small_columns: frozenset[str]
    columns: Mapping[str, tuple[str, ...]]
    suspects: Mapping[str, Suspects]
    suspects_indexed: bool


def migrate(engine: Engine) -> StoreTables:
    """Create the tables, or add what is missing. Keeps all rows; safe to run concurrently.

    Tables that we lack the permission to alter are used as they are.

    Raises:
        StoreUnavailable: the database is unavailable, or the tables are missing and we lack the
            permission to create them.
    """
    metadata = MetaData()
    events, payloads = _define(metadata)
    with translate_errors():
        try:
            with engine.begin() as connection:
                _lock(connection)
                _add_missing(connection, metadata)
                found = _inspect_tables(connection, events, payloads)
                return replace(found, suspects_indexed=_index_suspects(connection, found))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _NOT_ALLOWED:
                raise
        with engine.connect() as connection:
            logger.warning(
                "no permission to alter the audit tables: unreadable rows are noticed with a delay"
            )
            return _inspect_tables(connection, events, payloads)


def _define(metadata: MetaData) -> tuple[Table, Table]:
    events, payloads = portal_tables(metadata)
    number: Column[Any] = Column(COMMIT_NUMBER, BigInteger)
    events.append_column(Column(EXACT, Text))
    events.append_column(number)
    payloads.append_column(Column(EXACT, Text))
    Index("audit_events_commit_number_idx", number, unique=True)
    unnumbered = number.is_(None)
    Index(
        "audit_events_unnumbered_idx",
        events.c.ts,
        events.c.id,
        postgresql_where=unnumbered,
        sqlite_where=unnumbered,
    )
    Table(
        "audit_commits",
        metadata,
        Column("one", Integer, primary_key=True),
        Column("last", BigInteger, nullable=False),
    )
    return events, payloads


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("begin immediate")
    else:
        statement = text("select pg_advisory_xact_lock(:key)")
        connection.execute(statement, {"key": _MIGRATION_LOCK})


def _add_missing(connection: Connection, metadata: MetaData) -> None:
    before = set(inspect(connection).get_table_names())
    metadata.create_all(connection)
    for statement in TOOL_TABLES:
        connection.exec_driver_sql(statement)
    ours = ("audit_events_commit_number_idx", "audit_events_unnumbered_idx")
    for table in metadata.sorted_tables:
        if table.name not in before:
            continue
        known = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                added = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"alter table {table.name} add column {added}")
                logger.info("%s: added the column %s", table.name, column.name)
        for index in table.indexes:
            if index.name in ours:
                index.create(connection, checkfirst=True)
    connection.exec_driver_sql(
        "insert into audit_commits (one, last) select 1, coalesce(max(commit_number), 0) "
        "from audit_events where not exists (select 1 from audit_commits) "
        "having not exists (select 1 from audit_commits)"
    )


def _inspect_tables(connection: Connection, events: Table, payloads: Table) -> StoreTables:
    inspector = inspect(connection)
    tables = set(inspector.get_table_names())
    if not {"audit_events", "audit_payloads"} <= tables:
        raise StoreUnavailable(
            "the tables audit_events and audit_payloads are missing, and this database user may not"
            " create them"
        )
    names: dict[str, set[str]] = {}
    small: set[str] = set()
    suspects: dict[str, Suspects] = {}
    for table in (events, payloads):
        columns = {column["name"]: column["type"] for column in inspector.get_columns(table.name)}
        names[table.name] = set(columns)
        mistyped = frozenset[str]()
        if connection.dialect.name == "postgresql":
            small |= {
                name
                for name, kind in columns.items()
                if isinstance(kind, Integer) and not isinstance(kind, BigInteger)
            }
            mistyped = mistyped_columns(connection, table.name)
        kept = {EXACT, COMMIT_NUMBER} & set(columns)
        suspects[table.name] = suspects_of(
            table.name, connection.dialect.name, kept=kept, mistyped=mistyped
        )
    exact = all(EXACT in columns for columns in names.values())
    numbered = COMMIT_NUMBER in names["audit_events"] and "audit_commits" in tables
    if not exact:
        logger.warning(
            "no permission to alter the audit tables: values that they cannot hold are stored with"
            " loss"
        )
    if not numbered:
        logger.warning(
            "no permission to alter the audit tables: streams have no commit order to resume from"
        )
    ours = (EXACT,) if exact else ()
    read_from = {
        events.name: (*(field.column for field in EVENT_FIELDS), *ours),
        payloads.name: ("event_id", *(field.column for field in OWN_PAYLOAD_FIELDS), *ours),
    }
    return StoreTables(
        events, payloads, exact, numbered, frozenset(small), read_from, suspects, False
    )


def _index_suspects(connection: Connection, found: StoreTables) -> bool:
    """Create the indexes over possibly unreadable rows; returns whether they exist."""
    if not all(item.indexable for item in found.suspects.values()):
        return False
    for table, item in found.suspects.items():
        name, key = f"{table}_suspects_idx", "id" if table == "audit_events" else "event_id"
        known = {index["name"] for index in inspect(connection).get_indexes(table)}
        # Not "if not exists": PostgreSQL requires ownership even if the index exists.
        if name not in known:
            connection.exec_driver_sql(f"create index {name} on {table} ({key}) where {item.where}")
    return True
