"""The raw rows of a portal's database, and the records made from them.

Every value comes raw: as SQLite keeps it, as text from PostgreSQL. So one that is of a wrong type
fails no query, and costs its own row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.errors import RecordError, RejectReason
from mcpaudit_lab.filters import sqlite_moment
from mcpaudit_lab.record import (
    EVENT_COLUMNS,
    EVENT_FIELDS,
    PAYLOAD_COLUMNS,
    PAYLOAD_FIELDS,
    Event,
    Field,
    Payload,
    dumps,
    parse_time,
    respell_time,
)
from mcpaudit_lab.tables import NOTIFICATION_KEYS, column_value, raw_columns, respell, tolerant_text

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["TABLES", "RawRow", "UnreadRow", "raw_reading", "sqlite_time", "with_unknown"]

TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "audit_events": EVENT_COLUMNS,
    "audit_payloads": PAYLOAD_COLUMNS,
}
"""The tables, and the columns that are read."""


@dataclass(frozen=True, slots=True)
class UnreadRow:
    """A row that is not a record.

    Attributes:
        reason: the kind of fault.
        detail: the column, and its fault.
        raw: the row as JSON, column to value, under the name of its table.
    """

    reason: RejectReason
    detail: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row of one of the tables.

    Attributes:
        table: its name.
        values: in the order of :data:`TABLES`.
        postgresql: whether it comes from there, as texts.
    """

    table: str
    values: Sequence[Any]
    postgresql: bool

    def event(self) -> Event:
        """The summary that it is.

        Raises:
            RecordError: the row is invalid; the message names the column.
        """
        return Event.build(**self._members(EVENT_FIELDS, self.values))

    def payload(self) -> tuple[Payload, RecordError | None]:
        """The payload of a row, and the fault of ``captured_at``, which is then left out.

        Raises:
            RecordError: the row is invalid; the message names the column.
        """
        if type(self.values[0]) is not str:
            raise RecordError(RejectReason.BAD_ID, "event_id is not a text in UTF-8")
        *fields, captured = PAYLOAD_FIELDS
        members = self._members(fields, self.values[1:-1])
        wrong = None
        try:
            members |= self._members([captured], self.values[-1:])
        except RecordError as error:
            wrong = error
        return Payload.build(**members), wrong

    def unread(self, error: RecordError) -> UnreadRow:
        """The row as an unreadable one."""
        shown = {self.table: raw_columns(TABLES[self.table], self.values)}
        return UnreadRow(error.reason, error.detail, dumps(shown).encode())

    def problems(self) -> list[UnreadRow]:
        """The row's fault; None if it can be read completely."""
        try:
            wrong = None
            if self.table == "audit_events":
                self.event()
            else:
                _, wrong = self.payload()
        except RecordError as error:
            wrong = error
        return [] if wrong is None else [self.unread(wrong)]

    def _members(self, fields: Sequence[Field], values: Sequence[Any]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for field, kept in zip(fields, values, strict=True):
            if kept is None or (type(kept) is str and field.kind == "text"):
                value: Any = kept
            else:
                value = column_value(field, kept, spelled=self.postgresql)
            if field.kind == "json" and self.postgresql and value is not None:
                first = NOTIFICATION_KEYS if field.name == "notifications" else ()
                value = respell(value, first=first)
            members[field.name] = value
        return members


def with_unknown(event: Event, exact: Any) -> Event:
    """The event with the members that have no column, which a store keeps in ``exact``.

    Args:
        event: of the columns.
        exact: the stored value; None, or anything but a JSON object, adds nothing.
    """
    if not isinstance(exact, str):
        return event
    try:
        whole = Event.from_json(exact)
    except RecordError:
        return event
    return Event({**event.wire, **whole.extra}) if whole.extra else event


def sqlite_time(text: Any) -> Any:
    """For SQLite: a time as a store writes it, so that it sorts; an invalid one unchanged."""
    try:
        return sqlite_moment(parse_time(respell_time(text)))
    except (RecordError, TypeError):
        return text


@contextmanager
def raw_reading(
    connection: Connection,
) -> Iterator[Callable[[str, Mapping[str, Any]], Iterator[Sequence[Any]]]]:
    """Run SQL whose values come raw, row by row, while the block runs."""
    from sqlalchemy import text

    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.text_factory = tolerant_text
        try:
            yield lambda statement, params: driver.execute(statement, dict(params))
        finally:
            driver.text_factory = str
        return
    # Times are read as text.
    for setting in ("timezone = 'UTC'", "datestyle = 'ISO, YMD'"):
        connection.exec_driver_sql(f"set {setting}")

    def run(statement: str, params: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        streamed = connection.execution_options(yield_per=1000)
        with streamed.execute(text(statement), dict(params)) as rows:
            yield from rows

    yield run
