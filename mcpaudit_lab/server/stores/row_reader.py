"""Reads events from a store's tables: lists, pages by key, JSON lines, commit order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Integer,
    Select,
    Text,
    and_,
    case,
    cast,
    column,
    literal_column,
    null,
    or_,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.exc import DBAPIError

from mcpaudit_lab.errors import RecordError, StoreUnavailable
from mcpaudit_lab.filters import Compiled, EventFilter
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Event, Field
from mcpaudit_lab.server.stores.engine import translate_errors
from mcpaudit_lab.server.stores.paging import (
    MAX_PAGE_ROWS,
    SQLITE_NEEDS_DECODING,
    SQLITE_PAYLOAD_NEEDS_DECODING,
    RunningQuery,
    fetch_rows,
    is_utf8,
    join_lines,
    next_page_rows,
    not_none,
    sqlite_json_line,
)
from mcpaudit_lab.server.stores.schema import COMMIT_NUMBER, StoreTables
from mcpaudit_lab.server.stores.store import Pages, matching
from mcpaudit_lab.server.stores.subscriptions import Stored
from mcpaudit_lab.tables import EXACT, PortalRows

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.sql import ColumnElement, FromClause

    from mcpaudit_lab.server.stores.bad_rows import BadRowTracker

__all__ = ["RowReader"]

_FIRST_PAGE_ROWS: Final = 500

# Maximum attempts of a query that found unreadable rows, which the next attempt leaves out.
_ATTEMPTS: Final = 8
_ID_CHARS: Final = 36
_Decode = Callable[[Sequence[Any]], Any]
_ResultT = TypeVar("_ResultT")


class RowReader:
    """Reads events from one database. Thread-safe.

    Args:
        engine: the database.
        tables: the tables and columns that the database has.
        rows: decodes rows.
        check: knows the unreadable rows, which every query leaves out.
    """

    def __init__(
        self, engine: Engine, tables: StoreTables, rows: PortalRows, check: BadRowTracker
    ) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._tables = tables
        self._rows = rows
        self._check = check
        self._events = self._source_of(tables.events, "e")
        self._payloads = self._source_of(tables.payloads, "payload")
        self._summary = self._columns(self._events, EVENT_FIELDS)
        self._payload = [
            self._payloads.c.event_id,
            *self._columns(self._payloads, PAYLOAD_FIELDS[:-1]),
        ]

    def _source_of(self, table: Table, alias: str) -> FromClause:
        source = self._tables.suspects[table.name].source
        if not source:
            return table.alias(alias)
        names = (COMMIT_NUMBER,) if self._tables.numbered and alias == "e" else ()
        typed = [column(name, table.c[name].type) for name in self._tables.columns[table.name]]
        inner = text(source[1:-1]).columns(*typed, *(column(name, BigInteger) for name in names))
        return inner.subquery(alias)

    def _columns(self, table: Any, fields: Sequence[Field]) -> list[ColumnElement[Any]]:
        """The columns that PortalRows decodes, without type conversion by SQLAlchemy."""
        exact = table.c[EXACT] if self._tables.exact else null()
        columns: list[ColumnElement[Any]] = []
        for field in fields:
            item = table.c[field.column]
            if field.kind == "json" and not self._sqlite:
                # Skip JSON that ``exact`` replaces: its numbers may have a thousand digits here.
                item = case((exact.is_(None), cast(item, Text)))
            elif field.kind == "time" and not self._sqlite:
                item = type_coerce(item, TIMESTAMP(timezone=True))
            elif field.kind == "bool":
                item = type_coerce(item, Integer)
            else:
                item = type_coerce(item, Text)
            columns.append(item)
        return [*columns, exact]

    # --- lists and pages --------------------------------------------------------------------------

    def compile(self, wanted: EventFilter) -> Compiled:
        """Compile a filter to SQL for this database; the condition excludes unreadable rows."""
        return self._check.compile(wanted)[0]

    def without_bad_rows(self, query: Callable[[], _ResultT]) -> _ResultT:
        """Run a query; if it hits unreadable rows, retry without them."""
        for _ in range(_ATTEMPTS):
            before = self._check.version
            try:
                result = query()
            except (StoreUnavailable, DBAPIError) as error:
                if not self._check.may_retry(error):
                    raise
                continue
            if self._check.version == before:
                return result
        return query()

    def query(self, wanted: EventFilter, *, payloads: bool) -> list[Event]:
        """Matching events, newest first; honours ``limit`` and ``offset``."""
        return self.without_bad_rows(lambda: self._query(wanted, payloads))

    def _query(self, wanted: EventFilter, payloads: bool) -> list[Event]:
        compiled, joined = self._check.compile(wanted)
        if compiled.residual:
            pages = self.stream(wanted, payloads=payloads)
            return [event for page in pages for event in page]
        statement = self._ordered(compiled, self._event_columns(payloads), payloads, joined)
        # SQLite has no offset without a limit.
        limit = 2**62 if wanted.limit is None and wanted.offset else wanted.limit
        statement = statement.limit(limit).offset(wanted.offset or None)
        with self._reading() as connection:
            rows = connection.execute(statement, compiled.params).all()
        return not_none(map(self._decoder(payloads), rows))

    def event(self, event_id: str) -> Event | None:
        """One event with its payload.

        Raises:
            UnreadableRow: the event or its payload cannot be read.
        """
        found = self.without_bad_rows(lambda: self._event(event_id))
        if (row := self._check.explain(event_id)) is not None:
            raise row
        return found

    def _event(self, event_id: str) -> Event | None:
        compiled, joined = self._check.compile(EventFilter())
        stored_id = self._check.current().stored_ids.get(event_id, event_id)
        statement = self._from(select(*self._event_columns(payloads=True)), True, joined)
        statement = statement.where(text(compiled.where), self._events.c.id == stored_id)
        with self._reading() as connection:
            row = connection.execute(statement, compiled.params).first()
        return None if row is None else self._decoder(payloads=True)(row)

    def by_ids(self, ids: Sequence[str]) -> dict[str, Event | None]:
        """Id to event, for the ids that exist; None for an unreadable event."""
        return self.without_bad_rows(lambda: self._by_ids(ids))

    def _by_ids(self, ids: Sequence[str]) -> dict[str, Event | None]:
        compiled, joined = self._check.compile(EventFilter())
        statement = self._from(select(*self._event_columns(payloads=True)), True, joined)
        statement = statement.where(text(compiled.where), self._events.c.id.in_(ids))
        there = self._tables.events.c.id
        with self._reading() as connection:
            found = dict.fromkeys(connection.execute(select(there).where(there.in_(ids))).scalars())
            rows = connection.execute(statement, compiled.params).all()
        events = not_none(map(self._decoder(payloads=True), rows))
        return {**found, **{event.id: event for event in events}}

    def stream(self, wanted: EventFilter, *, payloads: bool) -> Pages[list[Event]]:
        """Matching events in pages."""
        return self._pages(wanted, payloads, list, lambda event: event)

    def matching(self, wanted: EventFilter) -> Iterator[Event]:
        """Matching events; ignores ``limit`` and ``offset``."""
        with_payload = wanted.needs_payload
        columns = self._event_columns(with_payload)
        source, _ = self._source(wanted, columns, with_payload, self._decoder(with_payload), 0)
        for page in source:
            yield from matching(page, wanted)

    def export(self, wanted: EventFilter, *, payloads: bool) -> Pages[bytes]:
        """Matching events as JSON lines, in pages. SQLite builds the lines in SQL."""
        if self._sqlite and not self.compile(wanted).residual:
            undecoded = SQLITE_PAYLOAD_NEEDS_DECODING if payloads else SQLITE_NEEDS_DECODING
            columns: list[ColumnElement[Any]] = [
                literal_column(sqlite_json_line(payloads=payloads)),
                literal_column(undecoded),
            ]
            decode = partial(self._line, payloads)
            source, running = self._source(wanted, columns, payloads, decode, wanted.offset)
            return Pages(source, join_lines, wanted.limit, running.cancel)
        return self._pages(wanted, payloads, join_lines, lambda event: event.to_json().encode())

    def _line(self, payloads: bool, row: Sequence[Any]) -> bytes | None:
        """The line that SQLite built, or one built in Python where SQLite's may be wrong."""
        line: bytes = row[0]
        event_id: str = row[-1]
        canonical = len(event_id) == _ID_CHARS and event_id == event_id.lower()
        if canonical and not row[1] and b"\n" not in line and (line.isascii() or is_utf8(line)):
            return line
        if not (line.isascii() or is_utf8(line)):
            # The scan finds the row and the column.
            self._check.scan_invalid_utf8()
            return None
        statement = self._from(select(*self._event_columns(payloads)), payloads)
        with self._reading() as connection:
            found = connection.execute(statement.where(self._events.c.id == event_id)).first()
        event = None if found is None else self._decoder(payloads)(found)
        return None if event is None else event.to_json().encode()

    def after(
        self, number: int, limit: int, wanted: EventFilter | None, *, payloads: bool
    ) -> list[Stored]:
        """The next matching events in commit order."""
        wanted = wanted or EventFilter()
        found: list[Stored] = []
        while len(found) < limit:
            query = partial(self._page_after, number, min(limit, MAX_PAGE_ROWS), wanted, payloads)
            events, reached = self.without_bad_rows(query)
            found += events
            if reached is None:
                break
            number = reached
        return found[:limit]

    def _page_after(
        self, number: int, size: int, wanted: EventFilter, payloads: bool
    ) -> tuple[list[Stored], int | None]:
        """A page after ``number`` and the number that it reaches; None after the last page."""
        compiled, joined = self._check.compile(wanted)
        with_payload = payloads or (compiled.residual and wanted.needs_payload)
        number_column = self._events.c[COMMIT_NUMBER]
        columns = [*self._event_columns(with_payload), number_column]
        page = self._from(select(*columns), with_payload, joined).where(text(compiled.where))
        page = page.where(number_column > number).order_by(number_column).limit(size)
        with self._reading() as connection:
            rows = connection.execute(page, compiled.params).all()
        decode = self._decoder(with_payload)
        found: list[Stored] = []
        for row in rows:
            event = decode(row)
            if event is not None and (not compiled.residual or wanted.matches(event)):
                found.append(Stored(row[-1], event if payloads else _without_payload(event)))
        return found, None if len(rows) < size else rows[-1][-1]

    # --- SQL --------------------------------------------------------------------------------------

    def _pages(
        self,
        wanted: EventFilter,
        payloads: bool,
        join: Callable[[list[Any]], Any],
        make: Callable[[Event], Any],
    ) -> Pages[Any]:
        residual = self.compile(wanted).residual
        with_payload = payloads or (residual and wanted.needs_payload)
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
    ) -> tuple[Iterator[list[Any]], RunningQuery]:
        """Pages of matching rows by keyset paging, and the query to cancel."""
        running = RunningQuery(self._engine)
        key = (type_coerce(self._events.c.ts, _raw_time(self._sqlite)), self._events.c.id)

        def page(last: Sequence[Any] | None, size: int) -> tuple[Sequence[Any], list[Any]]:
            compiled, joined = self._check.compile(wanted)
            statement = self._ordered(compiled, [*columns, *key], payloads, joined).limit(size)
            if last is None:
                statement = statement.offset(offset or None)
            else:
                statement = statement.where(self._after_row(last))
            rows = running.run(partial(fetch_rows, statement, compiled.params))
            return rows, not_none(map(decode, rows))

        def pages() -> Iterator[list[Any]]:
            last, size = None, _FIRST_PAGE_ROWS
            while True:
                rows, items = self.without_bad_rows(partial(page, last, size))
                if items:
                    yield items
                if len(rows) < size:
                    return
                last, size = rows[-1], next_page_rows(rows)

        return pages(), running

    def _ordered(
        self, compiled: Compiled, columns: Sequence[ColumnElement[Any]], payloads: bool, joined: str
    ) -> Select[Any]:
        statement = self._from(select(*columns), payloads, joined).where(text(compiled.where))
        return statement.order_by(self._events.c.ts.desc(), self._id)

    def _after_row(self, row: Sequence[Any]) -> ColumnElement[bool]:
        """Condition: after ``row`` in the contract's order."""
        ts, event_id = row[-2:]
        column = type_coerce(self._events.c.ts, _raw_time(self._sqlite))
        # The first term is redundant but lets the database use the index.
        return and_(column <= ts, or_(column < ts, self._id > event_id))

    @property
    def _id(self) -> ColumnElement[str]:
        # PostgreSQL may sort by a locale; the contract orders by code point.
        column: ColumnElement[str] = self._events.c.id
        return column if self._sqlite else column.collate("C")

    def _event_columns(self, payloads: bool) -> list[ColumnElement[Any]]:
        return [*self._summary, *self._payload] if payloads else self._summary

    def _from(self, statement: Select[Any], payloads: bool, joined: str = "") -> Select[Any]:
        if not payloads:
            return statement.select_from(self._events)
        same: ColumnElement[bool] = self._payloads.c.event_id == self._events.c.id
        if joined:
            same = and_(same, text(joined))
        return statement.select_from(self._events.outerjoin(self._payloads, same))

    def _decoder(self, payloads: bool) -> Callable[[Sequence[Any]], Event | None]:
        """A function that decodes a row.

        It reports an unreadable row to the tracker and returns None, or the event without its
        payload if only the payload is unreadable.
        """
        end = len(self._summary)
        whole = end + (len(self._payload) if payloads else 0)
        read = self._rows.read

        def decode(row: Sequence[Any]) -> Event | None:
            try:
                return read(row[:end], row[end:whole] or None)
            except RecordError as error:
                reason = error.detail
            try:
                event = read(row[:end])
            except RecordError as error:
                self._check.mark_bad(row[0], error.detail, payload=False)
                return None
            self._check.mark_bad(row[end], reason, payload=True)
            return event

        return decode

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translate_errors(), self._engine.connect() as connection:
            yield connection


def _raw_time(sqlite: bool) -> Any:
    return Text() if sqlite else TIMESTAMP(timezone=True)


def _without_payload(event: Event) -> Event:
    return event.summary if "payload" in event.wire else event
