"""An event store in a database: SQLite, or PostgreSQL for several portals that share one."""

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
    BreakdownRow,
    Stats,
    TimeBucket,
    compute_breakdown,
    compute_stats,
    compute_timeseries,
)
from mcpaudit_lab.server.stores.bad_rows import BadRowTracker
from mcpaudit_lab.server.stores.engine import (
    execute_on,
    is_integrity_error,
    open_engine,
    translate_errors,
)
from mcpaudit_lab.server.stores.row_reader import RowReader
from mcpaudit_lab.server.stores.row_writer import RowWriter
from mcpaudit_lab.server.stores.schema import migrate
from mcpaudit_lab.server.stores.sql_aggregates import breakdown_sql, stats_sql, timeseries_sql
from mcpaudit_lab.server.stores.store import Pages, PreparedEvent, Unreadable
from mcpaudit_lab.server.stores.subscriptions import Stored, Subscription, Subscriptions
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

    Creates or migrates the tables on start. Tables of the reference server are accepted, and rows
    that it inserts are found and numbered. Every event is read back equal to what was logged.
    Thread-safe; any number of processes may share one database.

    Args:
        url: SQLAlchemy URL: ``sqlite:///audit.db``, ``postgresql+psycopg://user@host/db``.
        busy_timeout_s: how long to wait for another process that writes the same SQLite file.
        poll_s: interval, in seconds, of polling for events of other processes while there are
            subscriptions.
        now: the current time, with a zone, for ``captured_at``.

    Raises:
        ValueError: the URL is invalid or names another kind of database.
        MissingExtra: psycopg is not installed.
        StoreUnavailable: the database is unavailable, or the tables are missing and we lack the
            permission to create them.
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
            self.tables = migrate(self.engine)
        except BaseException:
            self.engine.dispose()
            raise
        self._recovery = CallRecovery(self.engine.url)
        self._recovery.run()
        self._now = now
        self._rows = PortalRows(self.engine.dialect.name, self.tables.small_columns)
        self._writer = RowWriter(self.engine, self.tables)
        self._check = BadRowTracker(self.engine, self.tables, self._rows)
        self._reader = RowReader(self.engine, self.tables, self._rows, self._check)
        self._subscriptions = Subscriptions(self, poll_s)
        # Numbers of this process only, for tables without numbers.
        self._local_number = 0
        self._local_number_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self, event: Event) -> PortalRow:
        """Encode an event as rows. The event may be changed afterwards.

        Raises:
            RecordError: the event has no id.
            ValueError: the event is not JSON: it contains NaN, for example.
            TypeError: the event is not JSON: it contains an arbitrary object.
        """
        return self._rows.write(event)

    def log(self, events: Sequence[Event | PreparedEvent]) -> None:
        """Store events with their payloads in one transaction, in this order.

        Raises:
            StoreUnavailable: the database is unavailable. Nothing was stored, unless the connection
                was lost during the commit; then all may be.
            RecordError: an event has no id, or its id belongs to a different event. Nothing was
                stored.
            Exception: the database rejects an event. Nothing was stored.
        """
        rows = [item if isinstance(item, PortalRow) else self._write(item) for item in events]
        if not rows:
            return
        first = None
        try:
            with translate_errors():
                first = self._writer.insert(rows, self._now())
        except Exception as error:
            if not is_integrity_error(error):
                raise
            with translate_errors():
                # The conflict may be a row that another program inserted with our next number.
                self._writer.number_others()
                self._insert_missing(rows)
        if not self.tables.numbered:
            with self._local_number_lock:
                first = self._local_number + 1
                self._local_number += len(rows)
        self._subscriptions.publish(first, [row.event for row in rows])

    def _write(self, item: Event | PreparedEvent) -> PortalRow:
        return self._rows.write(item if isinstance(item, Event) else item.event)

    def _insert_missing(self, rows: Sequence[PortalRow]) -> None:
        """Store the missing rows: an earlier attempt may have succeeded without our knowing."""
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
        """Matching events, newest first, ties by id; honours ``limit`` and ``offset``."""
        self._recovery.run()
        return self._reader.query(wanted, payloads=payloads)

    def count(self, wanted: EventFilter) -> int:
        """Number of matching events; ignores ``limit`` and ``offset``."""
        self._recovery.run()
        return self._reader.without_bad_rows(lambda: self._count(wanted))

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
            RecordError: ``event_id`` is not a UUID.
            UnreadableRow: the event exists, but it or its payload is unreadable.
        """
        try:
            return self._reader.event(parse_id(event_id))
        except RecordError:
            # It may be the damaged id of an unreadable row.
            if (row := self._check.explain(event_id)) is not None:
                raise row from None
            raise

    def unreadable(self) -> Unreadable:
        """The unreadable rows, which every other method leaves out."""
        return self._check.current().summary

    def stream(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[list[Event]]:
        """Matching events in pages, in the order of :meth:`query`."""
        return self._reader.stream(wanted, payloads=payloads)

    def export(self, wanted: EventFilter, *, payloads: bool = False) -> Pages[bytes]:
        """Matching events as JSON lines in UTF-8; every page ends with a complete line."""
        return self._reader.export(wanted, payloads=payloads)

    def after(
        self, number: int, limit: int, wanted: EventFilter | None = None, *, payloads: bool = False
    ) -> list[Stored]:
        """The next matching events in commit order.

        Raises:
            StoreUnavailable: the database is unavailable, or its tables have no commit numbers and
                may not be altered.
        """
        if not self.tables.numbered:
            raise StoreUnavailable(
                "the audit tables have no commit numbers, and this database user may not add them"
            )
        self._recovery.run()
        with translate_errors():
            self._writer.number_others()
        return self._reader.after(number, limit, wanted, payloads=payloads)

    def latest(self) -> int:
        """The number of the last event; 0 if there is none."""
        if not self.tables.numbered:
            return self._local_number
        self._recovery.run()
        with translate_errors():
            self._writer.number_others()
        with self._reading() as connection:
            last: int = connection.execute(text("select last from audit_commits")).scalar_one()
        return last

    def timeseries(self, wanted: EventFilter, bucket: timedelta) -> list[TimeBucket]:
        """Matching events counted by time; empty buckets are omitted.

        Raises:
            FilterError: the bucket width is not positive.
        """

        def run() -> list[TimeBucket]:
            compiled = self._reader.compile(wanted)
            if compiled.residual:
                return compute_timeseries(self._reader.matching(wanted), bucket)
            with self._reading() as connection:
                return timeseries_sql(connection, compiled, bucket)

        return self._reader.without_bad_rows(run)

    def breakdown(self, wanted: EventFilter, by: str, limit: int | None = 50) -> list[BreakdownRow]:
        """Matching events counted by a field, most frequent first, ties by key.

        Raises:
            FilterError: ``by`` is unknown; the message lists the choices.
        """

        def run() -> list[BreakdownRow]:
            compiled = self._reader.compile(wanted)
            if compiled.residual:
                return compute_breakdown(self._reader.matching(wanted), by, limit)
            with self._reading() as connection:
                return breakdown_sql(connection, compiled, by, limit)

        return self._reader.without_bad_rows(run)

    def stats(self, wanted: EventFilter) -> Stats:
        """Statistics over matching events."""

        def run() -> Stats:
            compiled = self._reader.compile(wanted)
            if compiled.residual:
                return compute_stats(self._reader.matching(wanted))
            with self._reading() as connection:
                return stats_sql(connection, compiled)

        return self._reader.without_bad_rows(run)

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 64
    ) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe to events as any process stores them, while the block runs."""
        return self._subscriptions.subscribe(wanted, after=after, buffer=buffer)

    def add_tool_list(self, found: ToolList) -> None:
        """Keep the tools that a server offered; see :meth:`EventStore.add_tool_list`."""
        with translate_errors(), self.engine.begin() as connection:
            store_tool_list(execute_on(connection), found)

    def tool_lists(self) -> list[ToolList]:
        """Every list of tools, by server and time."""
        with self._reading() as connection:
            return list(read_tool_lists(execute_on(connection)))

    def close(self) -> None:
        """End all subscriptions and close connections, those in use when they are returned."""
        self._subscriptions.close()
        self.engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translate_errors(), self.engine.connect() as connection:
            yield connection
