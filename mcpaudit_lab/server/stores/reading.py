"""Events out of a store's tables: lists, pages by key, JSON lines, the order of commit."""

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
from mcpaudit_lab.server.stores.engine import translated
from mcpaudit_lab.server.stores.paging import (
    MOST_PAGE_ROWS,
    SQLITE_DOUBT,
    SQLITE_PAYLOAD_DOUBT,
    RunningQuery,
    fetch_rows,
    is_utf8,
    join_lines,
    page_rows,
    present,
    sqlite_line,
)
from mcpaudit_lab.server.stores.schema import COMMIT_NUMBER, StoreTables
from mcpaudit_lab.server.stores.store import Pages, matching, needs_payload
from mcpaudit_lab.server.stores.subscriptions import Stored
from mcpaudit_lab.tables import EXACT, PortalRows

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.sql import ColumnElement, FromClause

    from mcpaudit_lab.server.stores.unreadable import RowCheck

__all__ = ["RowReader"]

_FIRST_PAGE_ROWS: Final = 500

# How often an answer is asked for again, without rows that it showed to be unreadable.
_ATTEMPTS: Final = 8
_ID_CHARS: Final = 36
_Decode = Callable[[Sequence[Any]], Any]
_AnswerT = TypeVar("_AnswerT")


class RowReader:
    """Reads from one database; any thread may.

    Args:
        engine: the connections.
        tables: what the database has.
        rows: reads rows.
        check: knows which rows cannot be read. They are left out everywhere.
    """

    def __init__(
        self, engine: Engine, tables: StoreTables, rows: PortalRows, check: RowCheck
    ) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._tables = tables
        self._rows = rows
        self._check = check
        self._e = self._source_of(tables.events, "e")
        self._p = self._source_of(tables.payloads, "payload")
        self._summary = self._columns(self._e, EVENT_FIELDS)
        self._payload = [
            self._p.c.event_id,
            *self._columns(self._p, PAYLOAD_FIELDS[:-1]),
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
        """The columns as PortalRows reads them, with nothing done to their values on the way."""
        exact = table.c[EXACT] if self._tables.exact else null()
        columns: list[ColumnElement[Any]] = []
        for field in fields:
            item = table.c[field.column]
            if field.kind == "json" and not self._sqlite:
                # The column exact is not searched: a number there may have a thousand digits.
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
        """The filter as a condition for this database, over what can be read."""
        return self._check.compile(wanted)[0]

    def robustly(self, ask: Callable[[], _AnswerT]) -> _AnswerT:
        """Ask again where the answer showed rows that cannot be read, without them."""
        for _ in range(_ATTEMPTS):
            before = self._check.version
            try:
                answer = ask()
            except (StoreUnavailable, DBAPIError) as error:
                if not self._check.doubt(error):
                    raise
                continue
            if self._check.version == before:
                return answer
        return ask()

    def query(self, wanted: EventFilter, *, payloads: bool) -> list[Event]:
        """The events that are wanted, by ``limit`` and ``offset``."""
        return self.robustly(lambda: self._query(wanted, payloads))

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
        return present(map(self._decoder(payloads), rows))

    def event(self, event_id: str) -> Event | None:
        """One event with its payload.

        Raises:
            UnreadableRow: it or its payload cannot be read.
        """
        found = self.robustly(lambda: self._event(event_id))
        if (row := self._check.explain(event_id)) is not None:
            raise row
        return found

    def _event(self, event_id: str) -> Event | None:
        compiled, joined = self._check.compile(EventFilter())
        spelled = self._check.current().spelled.get(event_id, event_id)
        statement = self._from(select(*self._event_columns(payloads=True)), True, joined)
        statement = statement.where(text(compiled.where), self._e.c.id == spelled)
        with self._reading() as connection:
            row = connection.execute(statement, compiled.params).first()
        return None if row is None else self._decoder(payloads=True)(row)

    def by_ids(self, ids: Sequence[str]) -> dict[str, Event | None]:
        """The existing events, by id; None for one that cannot be read."""
        return self.robustly(lambda: self._by_ids(ids))

    def _by_ids(self, ids: Sequence[str]) -> dict[str, Event | None]:
        compiled, joined = self._check.compile(EventFilter())
        statement = self._from(select(*self._event_columns(payloads=True)), True, joined)
        statement = statement.where(text(compiled.where), self._e.c.id.in_(ids))
        there = self._tables.events.c.id
        with self._reading() as connection:
            found = dict.fromkeys(connection.execute(select(there).where(there.in_(ids))).scalars())
            rows = connection.execute(statement, compiled.params).all()
        events = present(map(self._decoder(payloads=True), rows))
        return {**found, **{event.id: event for event in events}}

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
            doubt = SQLITE_PAYLOAD_DOUBT if payloads else SQLITE_DOUBT
            columns: list[ColumnElement[Any]] = [
                literal_column(sqlite_line(payloads=payloads)),
                literal_column(doubt),
            ]
            decode = partial(self._line, payloads)
            source, running = self._source(wanted, columns, payloads, decode, wanted.offset)
            return Pages(source, join_lines, wanted.limit, running.cancel)
        return self._pages(wanted, payloads, join_lines, lambda event: event.to_json().encode())

    def _line(self, payloads: bool, row: Sequence[Any]) -> bytes | None:
        """A line that SQLite wrote, or what Python makes of a row in doubt."""
        line: bytes = row[0]
        event_id: str = row[-1]
        canonical = len(event_id) == _ID_CHARS and event_id == event_id.lower()
        if canonical and not row[1] and b"\n" not in line and (line.isascii() or is_utf8(line)):
            return line
        if not (line.isascii() or is_utf8(line)):
            # The scan finds out which text belongs to which row.
            self._check.scan_texts()
            return None
        statement = self._from(select(*self._event_columns(payloads)), payloads)
        with self._reading() as connection:
            found = connection.execute(statement.where(self._e.c.id == event_id)).first()
        event = None if found is None else self._decoder(payloads)(found)
        return None if event is None else event.to_json().encode()

    def after(
        self, number: int, limit: int, wanted: EventFilter | None, *, payloads: bool
    ) -> list[Stored]:
        """The next events in order of commit."""
        wanted = wanted or EventFilter()
        found: list[Stored] = []
        while len(found) < limit:
            ask = partial(self._next, number, min(limit, MOST_PAGE_ROWS), wanted, payloads)
            events, reached = self.robustly(ask)
            found += events
            if reached is None:
                break
            number = reached
        return found[:limit]

    def _next(
        self, number: int, size: int, wanted: EventFilter, payloads: bool
    ) -> tuple[list[Stored], int | None]:
        """A page after a number, and the number it reaches; None: it was the last page."""
        compiled, joined = self._check.compile(wanted)
        with_payload = payloads or (compiled.residual and needs_payload(wanted))
        number_column = self._e.c[COMMIT_NUMBER]
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
    ) -> tuple[Iterator[list[Any]], RunningQuery]:
        """Pages of what the condition selects, each by the key of the last row before it."""
        running = RunningQuery(self._engine)
        key = (type_coerce(self._e.c.ts, _raw_time(self._sqlite)), self._e.c.id)

        def page(last: Sequence[Any] | None, size: int) -> tuple[Sequence[Any], list[Any]]:
            compiled, joined = self._check.compile(wanted)
            statement = self._ordered(compiled, [*columns, *key], payloads, joined).limit(size)
            if last is None:
                statement = statement.offset(offset or None)
            else:
                statement = statement.where(self._beyond(last))
            rows = running.run(partial(fetch_rows, statement, compiled.params))
            return rows, present(map(decode, rows))

        def pages() -> Iterator[list[Any]]:
            last, size = None, _FIRST_PAGE_ROWS
            while True:
                rows, items = self.robustly(partial(page, last, size))
                if items:
                    yield items
                if len(rows) < size:
                    return
                last, size = rows[-1], page_rows(rows)

        return pages(), running

    def _ordered(
        self, compiled: Compiled, columns: Sequence[ColumnElement[Any]], payloads: bool, joined: str
    ) -> Select[Any]:
        statement = self._from(select(*columns), payloads, joined).where(text(compiled.where))
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

    def _from(self, statement: Select[Any], payloads: bool, joined: str = "") -> Select[Any]:
        if not payloads:
            return statement.select_from(self._e)
        same: ColumnElement[bool] = self._p.c.event_id == self._e.c.id
        if joined:
            same = and_(same, text(joined))
        return statement.select_from(self._e.outerjoin(self._p, same))

    def _decoder(self, payloads: bool) -> Callable[[Sequence[Any]], Event | None]:
        """Reads rows; notes a row that is not an event, and returns None or the event alone."""
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
                self._check.note(row[0], error.detail, payload=False)
                return None
            self._check.note(row[end], reason, payload=True)
            return event

        return decode

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection


def _raw_time(sqlite: bool) -> Any:
    return Text() if sqlite else TIMESTAMP(timezone=True)


def _without_payload(event: Event) -> Event:
    return event.summary if "payload" in event.wire else event
