"""Events in a database: SQLite for one portal, PostgreSQL for several that share one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Self

from sqlalchemy import Connection, text

from mcpaudit_lab.errors import RecordError, RejectReason, StoreUnavailable
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.record import Event, ToolList, parse_id
from mcpaudit_lab.server.stores.aggregates import (
    Point,
    Share,
    Stats,
    breakdown_of,
    stats_of,
    timeseries_of,
)
from mcpaudit_lab.server.stores.engine import (
    execute_on,
    is_integrity_error,
    open_engine,
    translated,
)
from mcpaudit_lab.server.stores.reading import RowReader
from mcpaudit_lab.server.stores.schema import bring_up_to_date
from mcpaudit_lab.server.stores.sql_aggregates import breakdown_sql, stats_sql, timeseries_sql
from mcpaudit_lab.server.stores.store import Pages, Prepared, Unreadable
from mcpaudit_lab.server.stores.subscriptions import Stored, Subscription, Subscriptions
from mcpaudit_lab.server.stores.unreadable import RowCheck
from mcpaudit_lab.server.stores.writing import RowWriter
from mcpaudit_lab.tables import (
    CallRecovery,
    PortalRow,
    PortalRows,
    read_tool_lists,
    store_tool_list,
)

__all__ = ["SqlLogger"]


class SqlLogger:
    """An :class:`~mcpaudit_lab.server.stores.store.EventStore` on SQLite or PostgreSQL.

    The tables are created or upgraded at the start. Tables of the reference server are accepted,
    and rows that it inserts are found and numbered. Every event is read back equal to what was
    logged. Any thread may use it, and any number of processes may share one database.

    Args:
        url: as SQLAlchemy takes it: ``sqlite:///audit.db``, ``postgresql+psycopg://user@host/db``.
        busy_timeout_s: how long to wait for another process that writes the same SQLite file.
        poll_s: interval in seconds at which events of other processes are looked up while there are
            subscribers.
        now: the time, with a zone, for ``captured_at``.

    Raises:
        ValueError: an invalid URL, or another kind of database.
        MissingExtra: psycopg is not installed.
        StoreUnavailable: the database is away, or has no tables and we may make none.
    """

    def __init__(
        self,
        url: str,
        *,
        busy_timeout_s: float = 5.0,
        poll_s: float = 1.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.engine = open_engine(url, busy_timeout_s=busy_timeout_s)
        try:
            self.tables = bring_up_to_date(self.engine)
        except BaseException:
            self.engine.dispose()
            raise
        self._recovery = CallRecovery(self.engine.url)
        self._recovery.run()
        self._now = now
        self._rows = PortalRows(self.engine.dialect.name, self.tables.small_columns)
        self._writer = RowWriter(self.engine, self.tables)
        self._check = RowCheck(self.engine, self.tables, self._rows)
        self._reader = RowReader(self.engine, self.tables, self._rows, self._check)
        self._subscriptions = Subscriptions(self, poll_s)
        # Numbers of this process alone, where the tables have none.
        self._uncounted = 0
        self._uncounted_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self, event: Event) -> PortalRow:
        """The rows of an event. The event may be changed afterwards.

        Raises:
            RecordError: it has no id.
            ValueError: something in it is not JSON (NaN).
            TypeError: the same (an object of some class).
        """
        return self._rows.write(event)

    def log(self, events: Sequence[Event | Prepared]) -> None:
        """Store events with their payloads in one transaction, in this order.

        Raises:
            StoreUnavailable: the database is away; nothing is stored, or all without our knowing.
            RecordError: an event has no id, or another event has its id; nothing is stored.
            Exception: the database refuses one of them; nothing is stored.
        """
        rows = [item if isinstance(item, PortalRow) else self._write(item) for item in events]
        if not rows:
            return
        first = None
        try:
            with translated():
                first = self._writer.insert(rows, self._now())
        except Exception as error:
            if not is_integrity_error(error):
                raise
            with translated():
                # Also if another program inserted a row with the next number.
                self._writer.number_others()
                self._insert_missing(rows)
        if not self.tables.numbered:
            with self._uncounted_lock:
                first = self._uncounted + 1
                self._uncounted += len(rows)
        self._subscriptions.publish(first, [row.event for row in rows])

    def _write(self, item: Event | Prepared) -> PortalRow:
        return self._rows.write(item if isinstance(item, Event) else item.event)

    def _insert_missing(self, rows: Sequence[PortalRow]) -> None:
        """Store the missing ones: the response to an earlier attempt may have been lost."""
        ids = [row.id for row in rows]
        there = self._reader.by_ids(ids)
        missing: dict[str, PortalRow] = {}
        for row in rows:
            other = missing[row.id].event if row.id in missing else there.get(row.id)
            if other is None and row.id not in there:
                missing[row.id] = row
            elif other != row.event:
                raise RecordError(RejectReason.CONFLICT, "another event has this id")
        if missing:
            self._writer.insert(list(missing.values()), self._now())

    def query(self, wanted: EventFilter, *, payloads: bool = False) -> list[Event]:
        """The events that are wanted, newest first, ties by id; ``limit`` and ``offset`` count."""
        self._recovery.run()
        return self._reader.query(wanted, payloads=payloads)

    def count(self, wanted: EventFilter) -> int:
        """How many are wanted; ``limit`` and ``offset`` play no part."""
        self._recovery.run()
        return self._reader.robustly(lambda: self._count(wanted))

    def _count(self, wanted: EventFilter) -> int:
        compiled = self._reader.compile(wanted)
        if compiled.residual:
            return sum(1 for _ in self._reader.matching(wanted))
        statement = text(f"select count(*) from {compiled.source} where {compiled.where}")  # noqa: S608 - a condition that binds its values
        with self._reading() as connection:
            count: int = connection.execute(statement, compiled.params).scalar_one()
        return count

    def event(self, event_id: str) -> Event | None:
        """One event with its payload, or None.

        Raises:
            RecordError: the id is not a UUID.
            UnreadableRow: the row exists, and it or its payload cannot be read.
        """
        try:
            return self._reader.event(parse_id(event_id))
        except RecordError:
            # A damaged id is not a UUID, but it is the id of its row.
            if (row := self._check.explain(event_id)) is not None:
                raise row from None
            raise

    def unreadable(self) -> Unreadable:
        """The rows that cannot be read. Every other answer leaves them out."""
        return self._check.current().counted

    def stream(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[list[Event]]:
        """All that are wanted, in the order of :meth:`query`, in pages."""
        return self._reader.stream(wanted, payloads=payloads)

    def export(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[bytes]:
        """The same as JSON lines, in UTF-8; every page ends with a whole line."""
        return self._reader.export(wanted, payloads=payloads)

    def after(
        self, number: int, limit: int, wanted: EventFilter | None = None, *, payloads: bool = False
    ) -> list[Stored]:
        """The next events that are wanted, in order of commit.

        Raises:
            StoreUnavailable: the database is unavailable, or its tables are foreign and have no
                numbers.
        """
        if not self.tables.numbered:
            raise StoreUnavailable("these tables have no order of commit")
        self._recovery.run()
        with translated():
            self._writer.number_others()
        return self._reader.after(number, limit, wanted, payloads=payloads)

    def latest(self) -> int:
        """The number of the last event; 0 if there is none."""
        if not self.tables.numbered:
            return self._uncounted
        self._recovery.run()
        with translated():
            self._writer.number_others()
        with self._reading() as connection:
            last: int = connection.execute(text("select last from audit_commits")).scalar_one()
        return last

    def timeseries(self, wanted: EventFilter, bucket: timedelta) -> list[Point]:
        """What is wanted, counted by time.

        Raises:
            FilterError: the bucket is not longer than nothing.
        """

        def ask() -> list[Point]:
            compiled = self._reader.compile(wanted)
            if compiled.residual:
                return timeseries_of(self._reader.matching(wanted), bucket)
            with self._reading() as connection:
                return timeseries_sql(connection, compiled, bucket)

        return self._reader.robustly(ask)

    def breakdown(self, wanted: EventFilter, by: str, limit: int | None = 50) -> list[Share]:
        """What is wanted, counted by a field, the most frequent first, ties by key.

        Raises:
            FilterError: an unknown breakdown; the message names the choices.
        """

        def ask() -> list[Share]:
            compiled = self._reader.compile(wanted)
            if compiled.residual:
                return breakdown_of(self._reader.matching(wanted), by, limit)
            with self._reading() as connection:
                return breakdown_sql(connection, compiled, by, limit)

        return self._reader.robustly(ask)

    def stats(self, wanted: EventFilter) -> Stats:
        """Statistics over the selected events."""

        def ask() -> Stats:
            compiled = self._reader.compile(wanted)
            if compiled.residual:
                return stats_of(self._reader.matching(wanted))
            with self._reading() as connection:
                return stats_sql(connection, compiled)

        return self._reader.robustly(ask)

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 64
    ) -> AbstractAsyncContextManager[Subscription]:
        """Hear of events as they are stored, by whomever, while the block runs."""
        return self._subscriptions.subscribe(wanted, after=after, buffer=buffer)

    def add_tool_list(self, found: ToolList) -> None:
        """Keep the tools that a server offered; see :meth:`EventStore.add_tool_list`."""
        with translated(), self.engine.begin() as connection:
            store_tool_list(execute_on(connection), found)

    def tool_lists(self) -> list[ToolList]:
        """Every list of tools, by server and time."""
        with self._reading() as connection:
            return list(read_tool_lists(execute_on(connection)))

    def close(self) -> None:
        """End all subscriptions and close connections. Those in use are closed when given back."""
        self._subscriptions.close()
        self.engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(), self.engine.connect() as connection:
            yield connection
