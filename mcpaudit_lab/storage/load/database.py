"""Events copied from a portal's own tables, PostgreSQL or SQLite, through SQLAlchemy."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mcpaudit_lab.errors import MissingExtra, RecordError, RejectReason, SourceError
from mcpaudit_lab.filters import EventFilter, compile_filter
from mcpaudit_lab.record import Event
from mcpaudit_lab.storage.load.database_log import DatabaseLog, read_log
from mcpaudit_lab.storage.load.database_rows import (
    TABLES,
    RawRow,
    UnreadRow,
    raw_reading,
    sqlite_time,
    with_unknown,
)
from mcpaudit_lab.storage.load.ledger import request_text
from mcpaudit_lab.tables import (
    EXACT,
    Suspects,
    mistyped_columns,
    read_tool_lists,
    recover_calls,
    suspects_of,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

    from mcpaudit_lab.record import ToolList

__all__ = ["DatabaseSource", "open_database"]

_BATCH_ROWS = 1000


class DatabaseSource:
    """The rows that some filters select from a portal's database.

    Unreadable rows are included whatever the filters are, because filters cannot be applied to
    them.

    Attributes:
        name: the URL without its password.
        request: the query, as JSON text, for the ledger.
    """

    def __init__(self, url: str, filters: Sequence[EventFilter]) -> None:
        parsed = _parse(url)
        self.name = parsed.render_as_string(hide_password=True)
        self._filters = tuple(filters)
        self._page = next((f for f in filters if f.limit is not None or f.offset), EventFilter())
        self._engine = _connect(parsed)
        self._sqlite = self._engine.dialect.name == "sqlite"
        compiled = compile_filter(self._filters, self._engine.dialect.name)
        self._residual = compiled.residual
        self.request = request_text(
            where=compiled.where,
            params={name: str(value) for name, value in compiled.params.items()},
            limit=self._page.limit,
            offset=self._page.offset,
        )

    def count(self) -> int:
        """Number of rows that the filters select, before a limit, excluding unreadable ones."""
        with self._reading() as connection, raw_reading(connection) as run:
            plan = _Plan(connection, self._filters, run)
            ((count,),) = run(f"select count(*) from {plan.selected}", plan.params)
            return int(count)

    def batches(self) -> Generator[list[Event | UnreadRow]]:
        """The events with their payloads, in the contract's order, some at a time.

        Unreadable rows come first, except those that only reading reveals.
        """
        with self._reading() as connection, raw_reading(connection) as run:
            plan = _Plan(connection, self._filters, run)
            with closing(self._items(plan, run)) as items:
                while batch := list(islice(items, _BATCH_ROWS)):
                    yield batch

    def _items(self, plan: _Plan, run: _Run) -> Generator[Event | UnreadRow]:
        yield from chain.from_iterable(plan.unread.values())
        statement = f"select {plan.columns} from {plan.selected} order by {plan.order}"
        skip, left = (self._page.offset, self._page.limit) if self._residual else (0, None)
        if not self._residual and (self._page.offset or self._page.limit is not None):
            limit = 2**62 if self._page.limit is None else self._page.limit
            statement += f" limit {limit:d} offset {self._page.offset:d}"
        found = (plan.read(row) for row in run(statement, plan.params))
        if not self._residual:
            for event, unread in found:
                yield from unread
                if event is not None:
                    yield event
            return
        for event, unread in found:
            if left == 0:
                return
            yield from unread
            if event is None or not all(item.matches(event) for item in self._filters):
                continue
            if skip:
                skip -= 1
                continue
            left = None if left is None else left - 1
            yield event

    def tool_lists(self) -> list[ToolList]:
        """The tool lists in the database; empty if it has no tables for them."""
        from sqlalchemy import inspect, text

        with self._reading() as connection:
            if not inspect(connection).has_table("audit_tool_lists"):
                return []
            return list(
                read_tool_lists(
                    lambda query, values: connection.execute(text(query), values).fetchall()
                )
            )

    def log(self) -> DatabaseLog | None:
        """The database's Merkle log; None without one."""
        with self._reading() as connection:
            return read_log(connection)

    def _reading(self) -> Any:
        return _Reading(self._engine, self.name)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


class _Reading:
    """A connection whose errors say which database, and never its password."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name

    def __enter__(self) -> Any:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._connection = self._engine.connect()
        except SQLAlchemyError as error:
            raise _explain(self._name, error) from None
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        self._connection.close()
        # Including SQLite's own errors, from statements run without SQLAlchemy.
        if isinstance(error, SQLAlchemyError | sqlite3.Error):
            raise _explain(self._name, error) from None


def _explain(name: str, error: Exception) -> SourceError:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()
    said = reason[0] if reason else type(error).__name__
    if "no such table" in said or ("relation" in said and "does not exist" in said):
        said += " (is it the database of a portal, and a URL that ends in its name?)"
    return SourceError(f"{name}: {said}")


def open_database(url: str, filters: Sequence[EventFilter]) -> DatabaseSource:
    """Prepare to read from a portal's database; nothing is read yet.

    Args:
        url: as SQLAlchemy takes it: ``postgresql+psycopg://user@host/db``, ``sqlite:///audit.db``.
        filters: which events.

    Raises:
        SourceError: an invalid URL, a missing SQLite file, or another kind of database.
        MissingExtra: the driver is not installed.
    """
    return DatabaseSource(url, filters)


def _parse(url: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        # The error would show the URL, and with it the password.
        raise SourceError(
            "a database URL looks like postgresql+psycopg://user@host/db or sqlite:///audit.db"
        ) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    backend = parsed.get_backend_name()
    if backend not in ("postgresql", "sqlite"):
        raise SourceError(f"a portal's database is PostgreSQL or SQLite, not {backend}")
    # SQLite would make a file that is missing.
    if backend == "sqlite" and not (parsed.database and Path(parsed.database).is_file()):
        raise SourceError(f"no such database: {parsed.database!r}")
    if backend == "sqlite" and parsed.database:
        # What a recorder that was killed had under way.
        recover_calls(Path(parsed.database))
    return parsed


def _connect(url: URL) -> Engine:
    from sqlalchemy import create_engine, event

    from mcpaudit_lab.filters import register_functions
    from mcpaudit_lab.tables import ENGINE_OPTIONS

    try:
        engine = create_engine(url, **ENGINE_OPTIONS)
    except ModuleNotFoundError:
        raise MissingExtra("postgres", "reading from PostgreSQL") from None
    if engine.dialect.name == "sqlite":

        def register(connection: Any, _: object) -> None:
            register_functions(connection)
            connection.create_function("mcpaudit_time", 1, sqlite_time, deterministic=True)

        event.listen(engine, "connect", register)
    return engine


_Run: TypeAlias = "Callable[[str, Mapping[str, Any]], Iterator[Sequence[Any]]]"


class _Plan:
    """How one database is read: what of its tables is in doubt, and what to select.

    Attributes:
        unread: table and key to the fault of a row.
        columns: what to select, for :meth:`read`.
        selected: from what, and on which condition.
        order: the contract's order.
        params: what these bind.
    """

    def __init__(self, connection: Connection, filters: Sequence[EventFilter], run: _Run) -> None:
        self._sqlite = connection.dialect.name == "sqlite"
        self.unread: dict[tuple[str, Any], list[UnreadRow]] = {}
        suspects = {table: self._suspects(connection, table) for table in TABLES}
        misspelled = False
        for table, found in suspects.items():
            names = ", ".join(self._raw(table, table))
            statement = f"select {names} from {table} where {found.where}"
            for key, *values in run(
                statement.replace(":", "\\:") if not self._sqlite else statement, {}
            ):
                row = RawRow(table, values, not self._sqlite)
                problems = row.problems()
                if not problems and found.source:
                    error = RecordError(RejectReason.BAD_FIELD, "PostgreSQL has no such value")
                    problems = [row.unread(error)]
                if problems:
                    self.unread[table, key] = problems
                misspelled |= table == "audit_events"
        e = suspects["audit_events"].source or "audit_events"
        if self._sqlite and misspelled:
            # As text, a time in another spelling has another place.
            kept = [name for name in TABLES["audit_events"] if name != "ts"] + self._exact(
                connection
            )
            e = f"(select rowid, mcpaudit_time(ts) as ts, {', '.join(kept)} from audit_events)"
        p = suspects["audit_payloads"].source or "audit_payloads"
        compiled = compile_filter(
            filters,
            connection.dialect.name,
            payloads_from=f"{suspects['audit_payloads'].source or 'audit_payloads'} p",
        )
        self.params = compiled.params
        exact = [] if suspects["audit_events"].source else self._exact(connection)
        self.columns = ", ".join(
            [
                *self._raw("e", "audit_events"),
                *self._raw("payload", "audit_payloads"),
                *([f"e.{name}" for name in exact] or ["null"]),
            ]
        )
        self.selected = (
            f"{e} e left join {p} payload on payload.event_id = e.id where {compiled.where}"
        )
        self.order = "e.ts desc, e.id" if self._sqlite else 'e.ts desc, e.id collate "C"'

    def read(self, row: Sequence[Any]) -> tuple[Event | None, list[UnreadRow]]:
        """The event of a row of :attr:`columns`, and its newly found fault, if any."""
        split = len(TABLES["audit_events"]) + 1
        *row, exact = row
        unread: list[UnreadRow] = []
        event = None
        key, *values = row[:split]
        raw = RawRow("audit_events", values, not self._sqlite)
        if ("audit_events", key) not in self.unread:
            try:
                event = with_unknown(raw.event(), exact)
            except RecordError as error:
                unread.append(raw.unread(error))
        key, *values = row[split:]
        if key is None or event is None:
            return event, unread
        raw = RawRow("audit_payloads", values, not self._sqlite)
        try:
            payload, wrong = raw.payload()
            event = event.with_payload(payload)
        except RecordError as error:
            wrong = error
        if wrong is not None and ("audit_payloads", key) not in self.unread:
            unread.append(raw.unread(wrong))
        return event, unread

    def _exact(self, connection: Connection) -> list[str]:
        """The column of our stores for members without their own column, if it exists."""
        from sqlalchemy import inspect

        columns = inspect(connection).get_columns("audit_events")
        return [column["name"] for column in columns if column["name"] == EXACT]

    def _raw(self, alias: str, table: str) -> list[str]:
        """The key and the columns of a table, raw."""
        if self._sqlite:
            return [f"{alias}.{name}" for name in ("rowid", *TABLES[table])]
        # A subselect has no row's address; the key is known by then.
        key = "event_id" if table == "audit_payloads" else "id"
        return [f"cast({alias}.{name} as text)" for name in (key, *TABLES[table])]

    def _suspects(self, connection: Connection, table: str) -> Suspects:
        mistyped = frozenset[str]()
        if not self._sqlite:
            mistyped = mistyped_columns(connection, table)
        return suspects_of(
            table, connection.dialect.name, kept=(), mistyped=mistyped, captured=True
        )
