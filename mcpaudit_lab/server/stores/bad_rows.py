"""Finds the unreadable rows of a store's tables, and why they are unreadable.

Queries exclude these rows, so the suspects (:mod:`mcpaudit_lab.tables.suspects`) are checked before
each query. Faults that only reading reveals, such as bytes that are not UTF-8, are recorded when
they are hit, and the row is checked from then on. A repaired row becomes readable again.

SQLite compares times as text. A time in another spelling is therefore rewritten in the store's own
spelling, as if the store had written the row; it still denotes the same instant.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from mcpaudit_lab.errors import RecordError, RejectReason, UnreadableRow
from mcpaudit_lab.filters import Compiled, compile_filter, sqlite_moment
from mcpaudit_lab.record import EVENT_FIELDS, Event, dumps, parse_id, parse_time
from mcpaudit_lab.server.stores.engine import translate_errors
from mcpaudit_lab.server.stores.schema import StoreTables
from mcpaudit_lab.server.stores.store import Unreadable
from mcpaudit_lab.tables import EXACT, PortalRows, raw_columns, tolerant_text

__all__ = ["BadRow", "BadRowTracker", "BadRows"]

logger = logging.getLogger(__name__)

# With more suspects than _MANY, or without an index, the result is cached for some seconds.
_MANY: Final = 500
_MANY_S: Final = 2.0
_UNINDEXED_S: Final = 10.0
# The error of SQLite's driver for a text that is not UTF-8.
_NOT_UTF8: Final = "Could not decode to UTF-8"
_SHOWN_IDS: Final = 100
_EVENTS, _PAYLOADS = "audit_events", "audit_payloads"


@dataclass(frozen=True, slots=True)
class BadRow:
    """An unreadable row: its id as stored, and the reason."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class BadRows:
    """The unreadable rows by key: ``rowid`` in SQLite, the id in PostgreSQL.

    Attributes:
        events: rows of ``audit_events``.
        payloads: rows of ``audit_payloads``.
        stored_ids: canonical id to id as stored, where they differ.
    """

    events: Mapping[Any, BadRow] = field(default_factory=dict)
    payloads: Mapping[Any, BadRow] = field(default_factory=dict)
    stored_ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> Unreadable:
        """Their number and ids."""
        rows = (*self.events.values(), *self.payloads.values())
        ids = sorted({row.id for row in rows})
        return Unreadable(len(rows), tuple(ids[:_SHOWN_IDS]))


class BadRowTracker:
    """Tracks the unreadable rows of one database. Thread-safe.

    Args:
        engine: the database.
        tables: the tables and columns that the database has.
        rows: decodes rows.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        tables: StoreTables,
        rows: PortalRows,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._tables = tables
        self._rows = rows
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[str, set[Any]] = {_EVENTS: set(), _PAYLOADS: set()}
        self._logged: set[tuple[str, Any, str]] = set()
        self._last = BadRows()
        self._cached_until_s = float("-inf")
        self.version = 0
        """Increases when reading reveals another unreadable row."""

    # --- conditions that exclude bad rows ---------------------------------------------------------

    def compile(self, wanted: Any) -> tuple[Compiled, str]:
        """Compile a filter to a condition that excludes unreadable rows.

        Returns:
            The condition, and one for joining ``audit_payloads payload``, which may be empty. Both
            bind the ``params`` of the first.
        """
        bad = self.current()
        events, payloads = self._tables.suspects[_EVENTS], self._tables.suspects[_PAYLOADS]
        on_payload = self._exclude("p", _PAYLOADS, bad.payloads)
        compiled = compile_filter(
            wanted,
            self._engine.dialect.name,
            payloads_from=f"{payloads.source or _PAYLOADS} p",
            payload_where=on_payload,
        )
        on_event = self._exclude("e", _EVENTS, bad.events)
        params = compiled.params | self._excluded_keys(bad)
        where = f"({compiled.where}) and {on_event}" if on_event else compiled.where
        source = f"{events.source or _EVENTS} e"
        joined = self._exclude("payload", _PAYLOADS, bad.payloads)
        return replace(compiled, where=where, params=params, source=source), joined

    def _exclude(self, alias: str, table: str, rows: Mapping[Any, BadRow]) -> str:
        if not rows:
            return ""
        if self._sqlite:
            keys = f"select value from json_each(:bad_{table})"  # noqa: S608 - a name of our own
            return f"{alias}.rowid not in ({keys})"
        key = "id" if table == _EVENTS else "event_id"
        return f"not ({alias}.{key} = any(cast(:bad_{table} as text[])))"

    def _excluded_keys(self, bad: BadRows) -> dict[str, Any]:
        keys = {_EVENTS: list(bad.events), _PAYLOADS: list(bad.payloads)}
        return {
            f"bad_{table}": dumps(found) if self._sqlite else found
            for table, found in keys.items()
            if found
        }

    # --- finding bad rows -------------------------------------------------------------------------

    def current(self) -> BadRows:
        """The unreadable rows now; raises StoreUnavailable if the database is unavailable."""
        with self._lock:
            if self._clock() < self._cached_until_s:
                return self._last
            with translate_errors():
                self._last, scanned_rows = self._scan()
            # A subselect as the source excludes all suspects in SQL, known or not.
            sources = any(item.source for item in self._tables.suspects.values())
            slow = not (self._tables.suspects_indexed or sources)
            wait_s = _UNINDEXED_S if slow else _MANY_S if scanned_rows > _MANY else 0.0
            self._cached_until_s = self._clock() + wait_s if wait_s else float("-inf")
            return self._last

    def mark_bad(self, event_id: str, reason: str, *, payload: bool) -> None:
        """Record a row that failed to decode, by its id as stored."""
        table = _PAYLOADS if payload else _EVENTS
        key: Any = event_id
        if self._sqlite:
            column = "event_id" if payload else "id"
            statement = text(f"select rowid from {table} where {column} = :id")  # noqa: S608 - names of our own
            with translate_errors(), self._engine.connect() as connection:
                key = connection.execute(statement, {"id": event_id}).scalar()
        self._add(table, key)
        self._log_once(table, key, BadRow(event_id, reason))

    def _add(self, table: str, key: Any) -> None:
        with self._lock:
            if key is not None and key not in self._found[table]:
                self._found[table].add(key)
                self.version += 1
            self._cached_until_s = float("-inf")

    def may_retry(self, error: Exception) -> bool:
        """Whether to retry a failed query, because an unreadable row may have caused the error."""
        if _NOT_UTF8 in str(error):
            return self.scan_invalid_utf8()
        with self._lock:
            known, self._cached_until_s = self._cached_until_s, float("-inf")
        return self._clock() < known

    def scan_invalid_utf8(self) -> bool:
        """Find texts that are not UTF-8 (SQLite only); returns whether there are new ones."""
        before = self.version
        if self._sqlite:
            for table in (_EVENTS, _PAYLOADS):
                columns = self._tables.columns[table]
                # Only texts with non-ASCII bytes can be invalid.
                other = "'*[^' || char(1) || '-' || char(127) || ']*'"
                where = " or ".join(f"{name} glob {other}" for name in columns)
                with translate_errors(), self._raw() as connection:
                    for key, values in self._fetch(connection, table, where):
                        if self._reason(table, values):
                            self._add(table, key)
        return self.version != before

    def explain(self, event_id: str) -> UnreadableRow | None:
        """The error for an event that is unreadable or has an unreadable payload; None for others.

        Args:
            event_id: the id as stored, or the canonical UUID.
        """
        bad = self.current()
        event_id = bad.stored_ids.get(event_id, event_id)
        rows = (*bad.events.values(), *bad.payloads.values())
        found = next((row for row in rows if row.id == event_id), None)
        if found is None:
            return None
        columns: dict[str, dict[str, object]] = {}
        with translate_errors(), self._raw() as connection:
            for table, key in ((_EVENTS, "id"), (_PAYLOADS, "event_id")):
                for _, values in self._fetch(connection, table, f"{key} = :id", id=event_id):
                    columns[table] = raw_columns(self._tables.columns[table], values)
        return UnreadableRow(event_id, found.reason, columns)

    # --- scanning ---------------------------------------------------------------------------------

    def _scan(self) -> tuple[BadRows, int]:
        """Check all candidates; returns the unreadable rows and the number of rows checked."""
        with self._raw() as connection:
            doubts = {table: self._candidates(connection, table) for table in (_EVENTS, _PAYLOADS)}
            bad = {table: self._find_bad(table, doubtful) for table, doubtful in doubts.items()}
            readable = {
                key: (values, self._read(values))
                for key, (values, _) in doubts[_EVENTS].items()
                if key not in bad[_EVENTS]
            }
            stored_ids = self._map_ids(connection, readable, bad[_EVENTS])
        for key, (values, event) in readable.items() if self._sqlite else ():
            misspelled = key not in bad[_EVENTS] and values[1] != _column_of(event)
            if misspelled and not self._normalize_time(key, values, event):
                reason = "ts has another spelling, and the database cannot be written to fix it"
                bad[_EVENTS][key] = BadRow(self._id_of(key, values), reason)
        for table, rows in bad.items():
            for key, row in rows.items():
                self._log_once(table, key, row)
        return BadRows(bad[_EVENTS], bad[_PAYLOADS], stored_ids), sum(map(len, doubts.values()))

    def _candidates(self, connection: Connection, table: str) -> dict[Any, tuple[list[Any], bool]]:
        """Key to row, and whether the row is a suspect, for the rows to check."""
        found = {key: (values, True) for key, values in self._suspects(connection, table)}
        for key, values in self._known_bad(connection, table):
            found.setdefault(key, (values, False))
        return found

    def _find_bad(
        self, table: str, doubtful: Mapping[Any, tuple[list[Any], bool]]
    ) -> dict[Any, BadRow]:
        """The unreadable rows among the candidates. Forgets known rows that were repaired."""
        bad: dict[Any, BadRow] = {}
        for key, (values, suspected) in doubtful.items():
            reason = self._reason(table, values)
            if not reason and suspected and self._tables.suspects[table].source:
                reason = "PostgreSQL cannot cast one of its values to the column's type"
            if reason:
                bad[key] = BadRow(self._id_of(key, values), reason)
            elif not suspected:
                self._found[table].discard(key)
        return bad

    def _map_ids(
        self,
        connection: Connection,
        readable: Mapping[Any, tuple[list[Any], Event]],
        bad: dict[Any, BadRow],
    ) -> dict[str, str]:
        """Canonical id to id as stored, where they differ; bad if another row has the former."""
        stored_ids: dict[str, str] = {}
        for key, (values, event) in readable.items():
            stands = self._id_of(key, values)
            if event.id == stands:
                continue
            if event.id in stored_ids or self._fetch(connection, _EVENTS, "id = :id", id=event.id):
                bad[key] = BadRow(stands, "id: another row has this UUID in another spelling")
            else:
                stored_ids[event.id] = stands
        return stored_ids

    def _reason(self, table: str, values: Sequence[Any]) -> str:
        try:
            if table == _EVENTS:
                self._read(values)
            else:
                self._read(None, values)
        except RecordError as error:
            return error.detail
        return ""

    def _read(self, event: Sequence[Any] | None, payload: Sequence[Any] | None = None) -> Event:
        if event is None:
            # Check the payload alone, with a valid event.
            event = [_SOME_ID, "2000-01-01T00:00:00Z", *[None] * (len(EVENT_FIELDS) - 2)]
        exact = self._tables.exact
        columns = len(EVENT_FIELDS) + int(exact)
        end = [] if exact else [None]
        summary = [*event, *[None] * (columns - len(event)), *end]
        detail = None
        if payload is not None:
            if type(payload[0]) is not str:
                raise RecordError(RejectReason.BAD_ID, "event_id is not a text in UTF-8")
            detail = [*payload, *end]
        return self._rows.read(summary, detail, spelled=not self._sqlite)

    @staticmethod
    def _id_of(key: Any, values: Sequence[Any]) -> str:
        stands = values[0]
        return stands if isinstance(stands, str) else f"row {key}"

    def _normalize_time(self, key: Any, values: Sequence[Any], event: Event) -> bool:
        """Rewrite a time in the store's spelling; ``exact`` keeps digits that the column lacks."""
        stands = event.wire["timestamp"]
        exact = values[len(EVENT_FIELDS)] if self._tables.exact else None
        if self._tables.exact and exact is None and len(stands) > _MICROSECONDS_CHARS:
            exact = dumps(event.wire, ascii_only=True)
        also = f", {EXACT} = :exact" if self._tables.exact else ""
        statement = text(
            f"update audit_events set ts = :ts{also} where rowid = :key and ts is :was"  # noqa: S608 - names of our own
        )
        params = {"ts": _column_of(event), "key": key, "was": values[1], "exact": exact}
        with suppress(DBAPIError), self._engine.begin() as connection:
            connection.execute(statement, params)
            return True
        return False

    def _suspects(self, connection: Connection, table: str) -> list[tuple[Any, list[Any]]]:
        indexed = self._tables.suspects_indexed and self._sqlite
        hint = f" indexed by {table}_suspects_idx" if indexed else ""
        return self._fetch(connection, table, self._tables.suspects[table].where, hint)

    def _known_bad(self, connection: Connection, table: str) -> list[tuple[Any, list[Any]]]:
        found = list(self._found[table])
        if not found:
            return []
        if self._sqlite:
            keys = dumps(found)
            return self._fetch(
                connection, table, "rowid in (select value from json_each(:keys))", keys=keys
            )
        column = "id" if table == _EVENTS else "event_id"
        return self._fetch(connection, table, f"{column} = any(cast(:keys as text[]))", keys=found)

    def _fetch(
        self, connection: Connection, table: str, where: str, hint: str = "", **params: Any
    ) -> list[tuple[Any, list[Any]]]:
        """Rows with their keys and raw values."""
        names = self._tables.columns[table]
        if self._sqlite:
            columns = ["rowid", *names]
            raw: Any = connection.connection.driver_connection
            statement = f"select {', '.join(columns)} from {table}{hint} where {where}"  # noqa: S608 - names of our own
            return [(row[0], list(row[1:])) for row in raw.execute(statement, params)]
        columns = [f"cast({name} as text)" for name in names]
        statement = f"select {', '.join(columns)} from {table} where {where}"  # noqa: S608 - as above
        # text() would take the colons of a pattern for parameters.
        run = partial(connection.execute, text(statement), params)
        found = run() if params else connection.exec_driver_sql(statement)
        return [(row[0], list(row)) for row in found]

    @contextmanager
    def _raw(self) -> Iterator[Connection]:
        """A connection that reads texts that are not UTF-8."""
        with self._engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            if not self._sqlite:
                yield connection
                return
            raw.text_factory = tolerant_text
            try:
                yield connection
            finally:
                raw.text_factory = str

    def _log_once(self, table: str, key: Any, row: BadRow) -> None:
        entry = (table, key, row.reason)
        if entry not in self._logged:
            if len(self._logged) > _MANY * 100:
                self._logged.clear()
            self._logged.add(entry)
            logger.warning("%s: the row with id %r is unreadable: %s", table, row.id, row.reason)


_SOME_ID: Final = parse_id("0" * 32)
_MICROSECONDS_CHARS: Final = len("2026-11-24T03:43:43.274318Z")


def _column_of(event: Event) -> str:
    return sqlite_moment(parse_time(event.wire["timestamp"]))
