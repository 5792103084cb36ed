"""The two tables in a portal's own database, for SQLAlchemy: PostgreSQL and SQLite.

In PostgreSQL they equal the reference server's column for column, ids as text included, so that a
portal of ours and the lab work on its database unchanged. SQLite keeps times as sortable text
(``2026-11-24T03:43:43.274318Z``) and JSON as text, written by :func:`.record.jsontext.dumps`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

from mcpaudit_lab.filters import sqlite_moment
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Field, Json, dumps, loads, parse_time

__all__ = ["ENGINE_OPTIONS", "JsonValue", "Moment", "portal_tables"]

# For create_engine(): PostgreSQL's driver reads and writes JSON without changing numbers, and bound
# values are kept out of error messages (PostgreSQL's own DETAIL line may still show a row).
ENGINE_OPTIONS: Final[dict[str, Any]] = {
    "json_serializer": dumps,
    "json_deserializer": loads,
    "hide_parameters": True,
}


class Moment(TypeDecorator[datetime]):
    """A moment, as a ``datetime`` with a zone; UTC when read."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """``timestamptz``, or text."""
        postgresql = dialect.name == "postgresql"
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if postgresql else Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Python to database."""
        if value is None or dialect.name == "postgresql":
            return value
        return sqlite_moment(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Database to Python."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else parse_time(value)


class JsonValue(TypeDecorator[Json]):
    """A JSON value; None is NULL. Needs :data:`ENGINE_OPTIONS` on PostgreSQL.

    SQLite's own ``JSON`` type would have numeric affinity, and turn the JSON text ``1.0`` into 1.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """``jsonb``, or text."""
        postgresql = dialect.name == "postgresql"
        return dialect.type_descriptor(JSONB(none_as_null=True) if postgresql else Text())

    def process_bind_param(self, value: Json, dialect: Dialect) -> Any:
        """Python to database."""
        if value is None or dialect.name == "postgresql":
            return value
        return dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Json:
        """Database to Python."""
        return value if dialect.name == "postgresql" or value is None else loads(value)


def portal_tables(metadata: MetaData) -> tuple[Table, Table]:
    """Define ``audit_events`` and ``audit_payloads``; a portal may append its own columns.

    Deleting an event deletes its payload and clears every ``replayed_from`` that names it. SQLite
    does neither unless ``PRAGMA foreign_keys`` is on.
    """
    events = Table("audit_events", metadata, *(_column(field) for field in EVENT_FIELDS))
    newest = events.c.ts.desc()
    Index("audit_events_ts_idx", newest)
    for name in ("tool_name", "user_subject", "session_id", "success"):
        Index(f"audit_events_{name}_idx", events.c[name], newest)
    owner = ForeignKey(events.c.id, ondelete="CASCADE")
    payloads = Table(
        "audit_payloads",
        metadata,
        Column("event_id", Text, owner, primary_key=True),
        *(_column(field) for field in PAYLOAD_FIELDS),
    )
    Index("audit_payloads_replayed_from_idx", payloads.c.replayed_from)
    for name in ("request_params", "response_result"):
        Index(
            f"audit_payloads_{name}_gin",
            payloads.c[name],
            postgresql_using="gin",
            postgresql_ops={name: "jsonb_path_ops"},
        ).ddl_if(dialect="postgresql")
    return events, payloads


def _column(field: Field) -> Column[Any]:
    name = field.column
    if field.name == "id":
        return Column(name, Text, primary_key=True)
    if field.kind == "id":
        return Column(name, Text, ForeignKey("audit_events.id", ondelete="SET NULL"))
    # captured_at has no default here: SQLite's now() is not written as its times are.
    kinds: dict[str, tuple[Any, bool, Any]] = {
        "time": (Moment, name == "captured_at", None),
        "json": (JsonValue, True, None),
        "int": (BigInteger, False, text("0")),
        "bool": (Boolean, False, false()),
        "text": (Text, False, ""),
    }
    kind, nullable, default = kinds[field.kind]
    return Column(name, kind, nullable=nullable, server_default=default)
