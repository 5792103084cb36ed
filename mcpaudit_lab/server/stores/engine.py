"""Opens a store's database and classifies its errors.

SQLite runs in WAL mode, so that readers and the writer do not block each other, and with
``synchronous=FULL``: a finished commit is on disk, so a power failure loses only queued events. The
cost is one ``fsync`` for each batch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import stamina
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mcpaudit_lab.errors import MissingExtra, StoreUnavailable
from mcpaudit_lab.filters import register_functions
from mcpaudit_lab.tables import ENGINE_OPTIONS, Execute

__all__ = [
    "execute_many_on",
    "execute_on",
    "is_integrity_error",
    "is_row_error",
    "open_engine",
    "translate_errors",
]

_FORMS: Final = "sqlite:///audit.db or postgresql+psycopg://user@host/database"
# One checkpoint for every 32 MB of WAL: the default, 4 MB, makes writes 20 % slower.
_CHECKPOINT_PAGES: Final = 4000
_PAGE_BYTES: Final = 8192
_CACHE_KB: Final = 16_384

# Detect a lost connection within seconds, so that events wait in the queue instead of a write that
# never returns, and a portal that vanishes in a transaction does not block the others.
_POSTGRESQL_CONNECT: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_POSTGRESQL_SESSION: Final = (
    "set lock_timeout = '10s'",
    "set idle_in_transaction_session_timeout = '30s'",
    # In any other zone the driver cannot represent the first and last hours of Python's range.
    "set timezone = 'UTC'",
)
# SQLSTATE classes caused by a value: data exception, integrity violation, limit exceeded.
_ROW_CLASSES: Final = ("22", "23", "54")
_ROW_ERRORS: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


def open_engine(url: str, *, busy_timeout_s: float = 5.0) -> Engine:
    """Create the engine for a store, without connecting.

    Args:
        url: SQLAlchemy URL; ``postgresql://`` means psycopg.
        busy_timeout_s: how long a statement waits for another writer of the same SQLite file.

    Raises:
        ValueError: the URL is invalid, names another kind of database, or is SQLite in memory,
            where each connection would have its own database.
        MissingExtra: psycopg is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Not chained: the original message shows the URL with its password.
        raise ValueError(f"a database URL looks like {_FORMS}") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError("a SQLite store is a file; use MemoryLogger for events in memory")
        engine = create_engine(
            parsed, connect_args={"timeout": busy_timeout_s}, pool_size=8, **ENGINE_OPTIONS
        )
        event.listen(engine, "connect", partial(_prepare_sqlite, busy_timeout_s))
        return engine
    if backend != "postgresql":
        raise ValueError(f"a store is SQLite or PostgreSQL, not {backend}: {_FORMS}")
    try:
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            connect_args=_POSTGRESQL_CONNECT,
            isolation_level="READ COMMITTED",
            pool_size=8,
            pool_pre_ping=True,
            **ENGINE_OPTIONS,
        )
    except ModuleNotFoundError:
        raise MissingExtra("postgres", "a store on PostgreSQL") from None
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_sqlite(busy_timeout_s: float, connection: Any, _: object) -> None:
    register_functions(connection)
    connection.execute(f"pragma page_size = {_PAGE_BYTES}").close()  # applies to a new file
    # SQLite does not wait for others who turn a new file into WAL at the same moment.
    retries = stamina.retry_context(
        on=_is_busy,
        attempts=None,
        timeout=busy_timeout_s,
        wait_initial=0.01,
        wait_max=0.1,
    )
    for attempt in retries:
        with attempt:
            connection.execute("pragma journal_mode = WAL").close()
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
        f"cache_size = -{_CACHE_KB}",
    ):
        connection.execute(f"pragma {pragma}").close()


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _prepare_postgresql(connection: Any, _: object) -> None:
    for statement in _POSTGRESQL_SESSION:
        connection.execute(statement)
    connection.commit()


def is_row_error(error: Exception) -> bool:
    """Whether a write failed because of its rows, so that a retry would fail too.

    Any other error counts as an unavailable database: a full disk, a lock, a lost connection, a
    renamed table. Then the events wait for a retry.
    """
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig
    if isinstance(error, sqlite3.Error):
        return isinstance(error, _ROW_ERRORS)
    if not hasattr(error, "sqlstate"):
        return not isinstance(error, OSError | PoolTimeoutError)
    if error.sqlstate:
        return str(error.sqlstate).startswith(_ROW_CLASSES)
    # Without SQLSTATE: psycopg itself could not encode a value.
    return any(kind.__name__ in ("DataError", "ProgrammingError") for kind in type(error).__mro__)


def is_integrity_error(error: Exception) -> bool:
    """Whether an error is a constraint violation: a duplicate key or a missing foreign key."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig
    state = getattr(error, "sqlstate", None) or ""
    return isinstance(error, sqlite3.IntegrityError) or str(state).startswith("23")


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise StoreUnavailable for database errors that are not caused by rows.

    The original error is not chained: its message may contain the written values.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_database(error) or is_row_error(error):
            raise
        raise StoreUnavailable(_reason(error)) from None


def _is_of_database(error: Exception) -> bool:
    known = (DBAPIError, PoolTimeoutError, sqlite3.Error, OSError)
    return isinstance(error, known) or hasattr(error, "sqlstate")


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def execute_many_on(connection: Connection) -> Callable[[str, list[dict[str, Any]]], object]:
    """The same for many rows at once."""
    return lambda statement, rows: connection.execute(text(statement), rows)


def execute_on(connection: Connection) -> Execute:
    """Statements with ``:name`` parameters on a connection, as the tables of tool lists want it."""

    def execute(statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        done = connection.execute(text(statement), dict(values))
        return done.fetchall() if done.returns_rows else ()

    return execute
