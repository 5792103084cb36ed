"""SQL that finds the rows of a store's tables which may be unreadable.

The tables hold what others wrote and what a disk or a person damaged. A *suspect* is a row whose
columns are not as a store writes them; whether it can be read all the same is for Python to say
(:mod:`mcpaudit_lab.server.stores.bad_rows`). A partial index over the suspects makes it cheap to
ask for them with every question, however many rows there are and whoever changes one.

In a PostgreSQL whose columns have other types than the portal's, a question is asked of a
subselect that casts what can be cast and has no suspects. That needs PostgreSQL 16.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Field
from mcpaudit_lab.tables.portal_rows import EXACT

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["OWN_PAYLOAD_FIELDS", "Suspects", "mistyped_columns", "suspects_of"]

logger = logging.getLogger(__name__)

OWN_PAYLOAD_FIELDS: Final = PAYLOAD_FIELDS[:-1]
"""What a payload is read from: ``captured_at`` stands on no wire."""

_HEX: Final = "[0-9a-f]"
_ID_GLOB: Final = "-".join(_HEX * length for length in (8, 4, 4, 4, 12))
_ID_REGEX: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_DIGIT: Final = "[0-9]"
_TIME_GLOB: Final = (
    f"{_DIGIT * 4}-{_DIGIT * 2}-{_DIGIT * 2}T{_DIGIT * 2}:[0-5]{_DIGIT}:[0-5]{_DIGIT}.{_DIGIT * 6}Z"
)
_TIME_REGEX: Final = (
    r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)? ?([Zz]|UTC|GMT|[+-]\d\d(:?\d\d)?)$"
)
# Python has no time of another year.
_FIRST: Final = "timestamptz '0001-01-01 00:00:00+00'"
_END: Final = "timestamptz '10000-01-01 00:00:00+00'"
# Since this version one can ask whether a text may be cast.
_SAFE_CASTS: Final = (16,)


@dataclass(frozen=True, slots=True)
class Suspects:
    """How to find the suspects of one table.

    Attributes:
        where: SQL over the columns, without an alias: the row is a suspect. Never NULL, never an
            error.
        source: what a question reads instead of the table, where the table's types are not the
            portal's; it has no suspects. Empty where the table will do.
    """

    where: str
    source: str = ""

    @property
    def indexable(self) -> bool:
        """Whether an index may have it as its condition."""
        return not self.source


def suspects_of(
    table: str,
    dialect: str,
    *,
    kept: Collection[str],
    mistyped: Collection[str],
    captured: bool = False,
) -> Suspects:
    """How to find the suspects of a table.

    Args:
        table: ``audit_events`` or ``audit_payloads``.
        dialect: ``sqlite`` or ``postgresql``.
        kept: which of our own columns it has.
        mistyped: its columns of other types than the portal's.
        captured: whether ``captured_at`` is read, too.
    """
    payload = PAYLOAD_FIELDS if captured else OWN_PAYLOAD_FIELDS
    fields = EVENT_FIELDS if table == "audit_events" else payload
    key = "" if table == "audit_events" else "event_id"
    if dialect == "sqlite":
        return Suspects(_any_of(_sqlite_terms(fields, key, exact=EXACT in kept)))
    casts = {field.column: _cast(field) for field in fields if field.column in mistyped}
    terms = list(_postgresql_terms(fields, casts, exact=EXACT in kept))
    if not mistyped:
        return Suspects(_any_of(terms))
    terms += [f"{column} is not null and {value} is null" for column, value in casts.items()]
    # The key of a table without a primary key may be missing.
    terms.append(f"{key or 'id'} is null")
    columns = [f"{casts.get(field.column, field.column)} as {field.column}" for field in fields]
    columns += [f"cast({key} as text) as {key}"] if key else []
    columns += sorted(kept)
    where = _any_of(terms)
    source = f"select {', '.join(columns)} from {table} where not ({where})"
    return Suspects(where, f"({source})")


def _any_of(terms: Collection[str] | Iterator[str]) -> str:
    return " or ".join(f"({term})" for term in terms)


# --- SQLite: any column may hold anything ---------------------------------------------------------


def _sqlite_terms(fields: Collection[Field], key: str, *, exact: bool) -> Iterator[str]:
    if key:
        yield f"typeof({key}) <> 'text'"
    for field in fields:
        column = field.column
        kinds = {"int": "'integer'", "text": "'text'"}
        if field.kind in kinds:
            yield f"typeof({column}) not in ({kinds[field.kind]}, 'null')"
        elif field.kind == "bool":
            yield f"coalesce({column}, 0) not in (0, 1)"
        elif field.kind == "time":
            # Without something to add, the 30th of February is given back as it came.
            present = "" if field.always else f"{column} is not null and "
            yield (
                f"{present}case when typeof({column}) = 'text' and {column} glob '{_TIME_GLOB}'"
                f" then date(substr({column}, 1, 10), '+0 days') is not substr({column}, 1, 10)"
                f" or substr({column}, 12, 2) > '23' or substr({column}, 1, 4) = '0000' else 1 end"
            )
        elif field.kind == "id":
            wrong = f"typeof({column}) <> 'text' or {column} not glob '{_ID_GLOB}'"
            yield wrong if field.always else f"{column} is not null and ({wrong})"
        else:
            yield f"{column} is not null and {_bad_json(column)}"
    if exact:
        same = "" if key else f" or json_extract({EXACT}, '$.id') is not id"
        yield (
            f"{EXACT} is not null and case when typeof({EXACT}) <> 'text' then 1"
            f" when not json_valid({EXACT}) then 1"
            f" else json_type({EXACT}) <> 'object'{same} end"
        )


def _bad_json(column: str) -> str:
    of_kind = {"request_headers": "'object'", "notifications": "'array'"}.get(column)
    checked = f"json_type({column}) not in ({of_kind}, 'null')" if of_kind else "0"
    return (
        f"case when typeof({column}) <> 'text' then 1 when not json_valid({column}) then 1"
        f" else {checked} end"
    )


# --- PostgreSQL: what the types allow -------------------------------------------------------------


def _postgresql_terms(
    fields: Collection[Field], casts: Mapping[str, str], *, exact: bool
) -> Iterator[str]:
    for field in fields:
        column = field.column
        value = casts.get(column, column)
        if field.kind == "id":
            yield f"{column} is not null and cast({column} as text) !~ '{_ID_REGEX}'"
        elif field.kind == "time" and column not in casts:
            # NULL in a payload is not suspect.
            yield f"coalesce(not isfinite({column}), false)"
            yield f"coalesce({column} < {_FIRST} or {column} >= {_END}, false)"
        elif column == "request_headers":
            yield f"coalesce(jsonb_typeof({value}), 'null') not in ('object', 'null')"
        elif column == "notifications":
            objects = f"jsonb_path_exists({value}, 'strict $[*] ? (@.type() <> \"object\")')"
            yield (
                f"case coalesce(jsonb_typeof({value}), 'null') when 'null' then false"
                f" when 'array' then {objects} else true end"
            )
    if exact:
        yield f"{EXACT} is not null and ({EXACT} !~ '^{{.*}}$')"


def _cast(field: Field) -> str:
    """SQL: the value of a column of another type, or NULL if it does not have the right type."""
    text = f"cast({field.column} as text)"
    if field.kind in ("text", "id"):
        return text
    if field.kind == "int":
        return f"case when {text} ~ '^-?\\d{{1,18}}$' then cast({text} as bigint) end"
    if field.kind == "bool":
        return (
            f"case when lower({text}) in ('t', 'true', 'f', 'false') then cast({text} as boolean)"
            " end"
        )
    if field.kind == "json":
        return f"case when pg_input_is_valid({text}, 'jsonb') then cast({text} as jsonb) end"
    # Cut, not rounded, to microseconds.
    moment = f"regexp_replace({text}, '(\\.\\d{{6}})\\d+', '\\1')"
    cast = f"cast({moment} as timestamptz)"
    return (
        f"case when {text} !~ '{_TIME_REGEX}' or not pg_input_is_valid({moment}, 'timestamptz')"
        f" then null when {cast} >= {_FIRST} and {cast} < {_END} then {cast} end"
    )


# --- types ----------------------------------------------------------------------------------------


def mistyped_columns(connection: Connection, table: str) -> frozenset[str]:
    """The columns of a table in PostgreSQL that have other types than the portal's.

    Raises:
        StoreUnavailable: this PostgreSQL cannot read such rows safely.
    """
    from sqlalchemy import inspect

    fields = EVENT_FIELDS if table == "audit_events" else PAYLOAD_FIELDS
    inspector = inspect(connection)
    if not inspector.has_table(table):
        return frozenset()
    columns = {column["name"]: column["type"] for column in inspector.get_columns(table)}
    mistyped = frozenset(
        field.column
        for field in fields
        if field.column in columns and not _is_of_kind(columns[field.column], field.kind)
    )
    if not mistyped:
        return mistyped
    named = ", ".join(sorted(mistyped))
    if (connection.dialect.server_version_info or (0,)) < _SAFE_CASTS:
        raise StoreUnavailable(
            f"{table} has other types than a portal's ({named}), which needs PostgreSQL 16 or newer"
        )
    logger.warning("%s has other types than a portal's, and is slow to read: %s", table, named)
    return mistyped


def _is_of_kind(found: Any, kind: str) -> bool:
    from sqlalchemy import Boolean, DateTime, Integer, String
    from sqlalchemy.dialects.postgresql import JSONB

    if kind == "time":
        return isinstance(found, DateTime) and bool(found.timezone)
    wanted = {"int": Integer, "bool": Boolean, "json": JSONB}.get(kind, String)
    return isinstance(found, wanted)
