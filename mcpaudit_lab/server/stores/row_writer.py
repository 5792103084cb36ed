"""Writes events into a store's tables and numbers them in commit order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, select, text

from mcpaudit_lab.filters import sqlite_moment
from mcpaudit_lab.record import (
    EVENT_COLUMNS,
    PAYLOAD_COLUMNS,
    PAYLOAD_FIELDS,
    dumps,
    format_time,
    loads,
)
from mcpaudit_lab.server.stores.schema import COMMIT_NUMBER, StoreTables
from mcpaudit_lab.tables import EXACT, PortalRow, jsonb_text

__all__ = ["LOSSY_METHOD", "RowWriter"]

LOSSY_METHOD: Final = "notifications/mcpaudit/lossy"
"""The notification that marks a row stored with loss, in tables without the column ``exact``."""

_PLACES: Final = {field.name: place for place, field in enumerate(PAYLOAD_FIELDS)}
_NUMBERED_AT_ONCE: Final = 10_000

_TAKE = text("update audit_commits set last = last + :count returning last")
# Includes rows inserted with an unassigned number: it would be assigned again, and a stream resumed
# after it would skip the events before it.
_TO_NUMBER = "commit_number > (select last from audit_commits) or commit_number < 1"
_UNNUMBERED = (
    "select 1 where exists (select 1 from audit_events where commit_number is null and {key} is"
    " not null) or exists (select 1 from audit_events where commit_number > (select last from"
    " audit_commits)) or exists (select 1 from audit_events where commit_number < 1)"
)
_FORGET = text(f"update audit_events set commit_number = null where {_TO_NUMBER}")  # noqa: S608 - constant text
# Not "with … update …": SQLite's driver does not report its row count.
_NUMBER = (
    "update audit_events set commit_number = (select last from audit_commits) + fresh.place from ("
    " select place_of, row_number() over (order by ts, id) as place from ("
    "  select {key} as place_of, id, ts from audit_events"
    "  where commit_number is null and {key} is not null order by ts, id limit :count"
    " ) oldest) fresh "
    "where audit_events.{key} = fresh.place_of"
)
_RESEAT = (
    text("delete from audit_commits"),
    text(
        "insert into audit_commits (one, last)"
        " select 1, coalesce(max(commit_number), 0) from audit_events where commit_number < 1e18"
    ),
)


class RowWriter:
    """Writes to one database. Thread-safe; writes run one at a time.

    Args:
        engine: the database.
        tables: the tables and columns that the database has.
    """

    def __init__(self, engine: Engine, tables: StoreTables) -> None:
        self._engine = engine
        self._tables = tables
        # SQLite allows one writer, and its driver waits by polling. A lock wakes threads at once.
        self._one_at_a_time = threading.Lock()
        ours = [EXACT] if tables.exact else []
        number = [COMMIT_NUMBER] if tables.numbered else []
        self._event_columns = [*EVENT_COLUMNS, *ours, *number]
        self._payload_columns = [*PAYLOAD_COLUMNS, *ours]
        # SQLite accepts rows whose id is null or not a text, so rows need another key.
        key = "rowid" if engine.dialect.name == "sqlite" else "id"
        self._unnumbered = text(_UNNUMBERED.format(key=key))
        self._number = text(_NUMBER.format(key=key))

    def insert(self, rows: Sequence[PortalRow], captured: datetime) -> int | None:
        """Store rows in one transaction, all or none.

        Args:
            rows: one or more rows of different events.
            captured: value of ``captured_at``, with a zone.

        Returns:
            The number of the first row; the others follow without gaps. None if the tables have no
            numbers and may not be altered.
        """
        if not self._tables.exact:
            for row in rows:
                _mark_lossy(row)
        with self._writing() as connection:
            first = self._take_numbers(connection, len(rows))
            self._drop_missing_originals(connection, rows)
            self._put(connection, "audit_events", self._event_columns, self._events(rows, first))
            payloads = [row for row in rows if row.payload is not None]
            if payloads:
                columns, values = self._payload_columns, self._payloads(payloads, captured)
                self._put(connection, "audit_payloads", columns, values)
        return first

    def number_others(self) -> int:
        """Number the rows that other programs committed; returns how many."""
        count = 0
        while self._tables.numbered:
            with self._engine.connect() as connection:
                if connection.execute(self._unnumbered).first() is None:
                    break
            with self._writing() as connection:
                # Take the lock first: these rows must be committed before the next number is.
                self._take_numbers(connection, 0)
                connection.execute(_FORGET)
                numbered = connection.execute(self._number, {"count": _NUMBERED_AT_ONCE}).rowcount
                self._take_numbers(connection, numbered)
            if not numbered:
                break
            count += numbered
        return count

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._one_at_a_time, self._engine.begin() as connection:
            yield connection

    def _take_numbers(self, connection: Connection, count: int) -> int | None:
        if not self._tables.numbered:
            return None
        last = connection.execute(_TAKE, {"count": count}).scalar_one_or_none()
        if not isinstance(last, int):
            # Another program emptied or damaged the table.
            for statement in _RESEAT:
                connection.execute(statement)
            last = connection.execute(_TAKE, {"count": count}).scalar_one()
        first: int = last - count + 1
        return first

    def _drop_missing_originals(self, connection: Connection, rows: Sequence[PortalRow]) -> None:
        """Clear ``replayed_from`` of replays whose original event is not in the store.

        The foreign key would do the same if the original were deleted later.
        """
        place = _PLACES["replayed_from"]
        replays = [row for row in rows if row.payload is not None and row.payload[place]]
        if not replays:
            return
        wanted = {row.payload[place] for row in replays if row.payload is not None}
        wanted -= {row.id for row in rows}
        ids = self._tables.events.c.id
        found = select(ids).where(ids.in_(bindparam("ids", expanding=True)))
        wanted -= set(connection.execute(found, {"ids": sorted(wanted)}).scalars())
        for row in replays:
            if row.payload is not None and row.payload[place] in wanted:
                row.payload[place] = None
                row.payload_exact = dumps(row.event.wire["payload"], ascii_only=True)

    def _events(self, rows: Sequence[PortalRow], first: int | None) -> list[tuple[Any, ...]]:
        values: list[tuple[Any, ...]] = []
        for place, row in enumerate(rows):
            ours = (row.summary_exact,) if self._tables.exact else ()
            number = () if first is None else (first + place,)
            values.append((*row.summary, *ours, *number))
        return values

    def _payloads(self, rows: Sequence[PortalRow], captured: datetime) -> list[tuple[Any, ...]]:
        values: list[tuple[Any, ...]] = []
        moment = sqlite_moment(captured)
        for row in rows:
            ours = (row.payload_exact,) if self._tables.exact else ()
            values.append((row.id, *(row.payload or ())[:-1], moment, *ours))
        return values

    def _put(
        self,
        connection: Connection,
        table: str,
        columns: Sequence[str],
        values: Sequence[tuple[Any, ...]],
    ) -> None:
        names = ", ".join(columns)
        if connection.dialect.name == "sqlite":
            marks = ", ".join("?" * len(columns))
            statement = f"insert into {table} ({names}) values ({marks})"  # noqa: S608 - our own names
            connection.exec_driver_sql(statement, list(values))
            return
        # COPY takes half the time of INSERT.
        raw: Any = connection.connection.driver_connection
        with raw.cursor() as cursor, cursor.copy(f"copy {table} ({names}) from stdin") as copy:
            for row in values:
                copy.write_row(row)


def _mark_lossy(row: PortalRow) -> None:
    lost = [
        name
        for name, exact in (("event", row.summary_exact), ("payload", row.payload_exact))
        if exact is not None
    ]
    if not lost or row.payload is None:
        return
    place = _PLACES["notifications"]
    kept: Any = loads(row.payload[place]) if row.payload[place] else []
    params = {"lost": lost}
    now = format_time(datetime.now(UTC))
    kept.append({"ts": now, "method": LOSSY_METHOD, "params": params})
    row.payload[place] = jsonb_text(kept)[0]
    row.summary_exact = row.payload_exact = None
