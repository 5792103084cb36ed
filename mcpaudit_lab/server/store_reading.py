"""Events out of a store's tables: lists, pages by key, JSON lines, the order of commit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    Select,
    Text,
    and_,
    case,
    cast,
    literal_column,
    null,
    or_,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from mcpaudit_lab.events import EVENT_FIELDS, PAYLOAD_FIELDS, Event, Field
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.server.store import Pages, Stored, matching, needs_payload
from mcpaudit_lab.server.store_engine import translated
from mcpaudit_lab.server.store_lines import join_lines, sqlite_line
from mcpaudit_lab.server.store_schema import COMMIT_NUMBER, StoreTables
from mcpaudit_lab.sql.compile import Compiled, compile_filter
from mcpaudit_lab.sql.portal_rows import EXACT, PortalRows

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement

__all__ = ["RowReader"]

_FIRST_PAGE_ROWS: Final = 500
_MOST_PAGE_ROWS: Final = 5000
# A page is about so large, whatever the rows are.
_PAGE_CHARS: Final = 2_000_000

_Decode = Callable[[Sequence[Any]], Any]


class RowReader:
    """Reads from one database; any thread may.

    Args:
        engine: the connections.
        tables: what the database has.
        rows: reads rows.
    """

    def __init__(self, engine: Engine, tables: StoreTables, rows: PortalRows) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._tables = tables
        self._rows = rows
        self._e = tables.events.alias("e")
        self._p = tables.payloads.alias("payload")
        self._summary = self._columns(self._e, EVENT_FIELDS)
        self._payload = [
            self._p.c.event_id,
            *self._columns(self._p, PAYLOAD_FIELDS[:-1]),
        ]

    def _columns(self, table: Any, fields: Sequence[Field]) -> list[ColumnElement[Any]]:
        """The columns as PortalRows reads them, with nothing done to their values on the way."""
        exact = table.c[EXACT] if self._tables.exact else null()
        columns: list[ColumnElement[Any]] = []
        for field in fields:
            column = table.c[field.column]
            if field.kind == "json" and not self._sqlite:
                # What stands in exact is not asked for: a number may have a thousand digits here.
                column = case((exact.is_(None), cast(column, Text)))
            elif field.kind == "time" and not self._sqlite:
                column = type_coerce(column, TIMESTAMP(timezone=True))
            elif field.kind == "bool":
                column = type_coerce(column, Integer)
            else:
                column = type_coerce(column, Text)
            columns.append(column)
        return [*columns, exact]

    # --- lists and pages --------------------------------------------------------------------------

    def compile(self, wanted: EventFilter) -> Compiled:
        """The filter as a condition for this database."""
        return compile_filter(wanted, self._engine.dialect.name)

    def query(self, wanted: EventFilter, *, payloads: bool) -> list[Event]:
        """The events that are wanted, by ``limit`` and ``offset``."""
        if self.compile(wanted).residual:
            pages = self.stream(wanted, payloads=payloads)
            return [event for page in pages for event in page]
        compiled = self.compile(wanted)
        statement = self._ordered(compiled, self._event_columns(payloads), payloads)
        # SQLite has no offset without a limit.
        limit = 2**62 if wanted.limit is None and wanted.offset else wanted.limit
        statement = statement.limit(limit).offset(wanted.offset or None)
        with self._reading() as connection:
            rows = connection.execute(statement, compiled.params).all()
        decode = self._decoder(payloads)
        return [decode(row) for row in rows]

    def event(self, event_id: str) -> Event | None:
        """One event with its payload."""
        columns = self._event_columns(payloads=True)
        statement = self._from(select(*columns), payloads=True).where(self._e.c.id == event_id)
        with self._reading() as connection:
            row = connection.execute(statement).first()
        return None if row is None else self._decoder(payloads=True)(row)

    def by_ids(self, connection: Connection, ids: Sequence[str]) -> dict[str, Event]:
        """Those of the events that there are, with their payloads, by id."""
        columns = self._event_columns(payloads=True)
        statement = self._from(select(*columns), payloads=True).where(self._e.c.id.in_(ids))
        decode = self._decoder(payloads=True)
        events = [decode(row) for row in connection.execute(statement)]
        return {event.id: event for event in events}

    def stream(self, wanted: EventFilter, *, payloads: bool) -> Pages[list[Event]]:
        """All that are wanted, in pages."""
        return self._pages(wanted, payloads, list, lambda event: event)

    def matching(self, wanted: EventFilter) -> Iterator[Event]:
        """All that are wanted, whatever ``limit`` and ``offset`` say."""
        with_payload = needs_payload(wanted)
        columns = self._event_columns(with_payload)
        source, _ = self._source(wanted, columns, with_payload, self._decoder(with_payload), 0)
        for page in source:
            yield from matching(page, wanted)

    def export(self, wanted: EventFilter, *, payloads: bool) -> Pages[bytes]:
        """The same as JSON lines. SQLite writes them itself."""
        if self._sqlite and not self.compile(wanted).residual:
            line: ColumnElement[bytes] = literal_column(sqlite_line(payloads=payloads))
            first = wanted.offset
            source, running = self._source(wanted, [line], payloads, lambda row: row[0], first)
            return Pages(source, join_lines, wanted.limit, running.cancel)
        return self._pages(wanted, payloads, join_lines, lambda event: event.to_json().encode())

    def after(
        self, number: int, limit: int, wanted: EventFilter | None, *, payloads: bool
    ) -> list[Stored]:
        """The next events in order of commit."""
        wanted = wanted or EventFilter()
        compiled = self.compile(wanted)
        with_payload = payloads or (compiled.residual and needs_payload(wanted))
        number_column = self._e.c[COMMIT_NUMBER]
        columns = [*self._event_columns(with_payload), number_column]
        statement = self._from(select(*columns), with_payload).where(text(compiled.where))
        decode = self._decoder(with_payload)
        found: list[Stored] = []
        while len(found) < limit:
            page = statement.where(number_column > number).order_by(number_column)
            size = min(limit, _MOST_PAGE_ROWS)
            with self._reading() as connection:
                rows = connection.execute(page.limit(size), compiled.params).all()
            for row in rows:
                event = decode(row)
                number = row[-1]
                if not compiled.residual or wanted.matches(event):
                    found.append(Stored(number, event if payloads else _without_payload(event)))
            if len(rows) < size:
                break
        return found[:limit]

    # --- how --------------------------------------------------------------------------------------

    def _pages(
        self,
        wanted: EventFilter,
        payloads: bool,
        join: Callable[[list[Any]], Any],
        make: Callable[[Event], Any],
    ) -> Pages[Any]:
        residual = self.compile(wanted).residual
        with_payload = payloads or (residual and needs_payload(wanted))
        columns = self._event_columns(with_payload)
        decode = self._decoder(with_payload)
        offset = 0 if residual else wanted.offset
        source, running = self._source(wanted, columns, with_payload, decode, offset)

        def items() -> Iterator[list[Any]]:
            skip = wanted.offset - offset
            for page in source:
                kept = list(matching(page, wanted)) if residual else page
                dropped = min(skip, len(kept))
                skip -= dropped
                if with_payload and not payloads:
                    kept = [_without_payload(event) for event in kept]
                yield [make(event) for event in islice(kept, dropped, None)]

        return Pages(items(), join, wanted.limit, running.cancel)

    def _source(
        self,
        wanted: EventFilter,
        columns: Sequence[ColumnElement[Any]],
        payloads: bool,
        decode: _Decode,
        offset: int,
    ) -> tuple[Iterator[list[Any]], _Running]:
        """Pages of what the condition selects, each by the key of the last row before it."""
        compiled = self.compile(wanted)
        running = _Running(self._engine)
        key = (type_coerce(self._e.c.ts, _raw_time(self._sqlite)), self._e.c.id)
        ordered = self._ordered(compiled, [*columns, *key], payloads)
        first = ordered.offset(offset or None)

        def pages() -> Iterator[list[Any]]:
            statement, size = first, _FIRST_PAGE_ROWS
            while rows := running.run(partial(_fetch, statement.limit(size), compiled.params)):
                yield [decode(row) for row in rows]
                if len(rows) < size:
                    return
                statement = ordered.where(self._beyond(rows[-1]))
                size = _page_rows(rows)

        return pages(), running

    def _ordered(
        self, compiled: Compiled, columns: Sequence[ColumnElement[Any]], payloads: bool
    ) -> Select[Any]:
        statement = self._from(select(*columns), payloads).where(text(compiled.where))
        return statement.order_by(self._e.c.ts.desc(), self._id)

    def _beyond(self, row: Sequence[Any]) -> ColumnElement[bool]:
        """Whatever comes after a row in the contract's order."""
        ts, event_id = row[-2:]
        column = type_coerce(self._e.c.ts, _raw_time(self._sqlite))
        # The first half is for the index.
        return and_(column <= ts, or_(column < ts, self._id > event_id))

    @property
    def _id(self) -> ColumnElement[str]:
        # The databases may sort by a language; the contract means the characters.
        column: ColumnElement[str] = self._e.c.id
        return column if self._sqlite else column.collate("C")

    def _event_columns(self, payloads: bool) -> list[ColumnElement[Any]]:
        return [*self._summary, *self._payload] if payloads else self._summary

    def _from(self, statement: Select[Any], payloads: bool) -> Select[Any]:
        if not payloads:
            return statement.select_from(self._e)
        return statement.select_from(self._e.outerjoin(self._p, self._p.c.event_id == self._e.c.id))

    def _decoder(self, payloads: bool) -> Callable[[Sequence[Any]], Event]:
        end = len(self._summary)
        whole = end + len(self._payload)
        read = self._rows.read
        if payloads:
            return lambda row: read(row[:end], row[end:whole])
        return lambda row: read(row[:end])

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection


def _fetch(statement: Select[Any], params: dict[str, Any], connection: Connection) -> Any:
    return connection.execute(statement, params).all()


def _page_rows(rows: Sequence[Any]) -> int:
    """How many rows like these make a page."""
    kinds = (str, bytes)
    chars = sum([len(value) for row in rows for value in row if type(value) in kinds])
    return max(10, min(_PAGE_CHARS * len(rows) // (chars + 1), _MOST_PAGE_ROWS))


class _Running:
    """The query of a stream that is running now, if any, so that another thread can stop it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._raw: Any = None
        self._cancelled = threading.Event()

    def run(self, query: Callable[[Connection], Sequence[Any]]) -> Sequence[Any]:
        """Run a query; nothing if it was stopped."""
        with translated(), self._engine.connect() as connection:
            with self._lock:
                if self._cancelled.is_set():
                    return ()
                self._raw = connection.connection.driver_connection
            try:
                return query(connection)
            except Exception:
                if not self._cancelled.is_set():
                    raise
                return ()
            finally:
                with self._lock:
                    self._raw = None
                if self._cancelled.is_set():
                    # The signal may come late, and would hit whoever has the connection next.
                    connection.invalidate()

    def cancel(self) -> None:
        """Stop the query, and those to come."""
        with self._lock:
            self._cancelled.set()
            if self._raw is not None:
                stop = getattr(self._raw, "interrupt", None) or self._raw.cancel
                with suppress(Exception):  # the connection is lost: so is the query
                    stop()


def _raw_time(sqlite: bool) -> Any:
    return Text() if sqlite else TIMESTAMP(timezone=True)


def _without_payload(event: Event) -> Event:
    return event.summary if "payload" in event.wire else event
