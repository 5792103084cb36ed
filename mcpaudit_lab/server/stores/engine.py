"""Connections to the database of a store, and what its errors mean.

SQLite is opened in WAL mode, so that readers and the writer do not block each other, and with
``synchronous=FULL``: a commit is on disk when it returns, so that a power failure loses only what
was still queued. The price is one ``fsync`` per batch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mcpaudit_lab.errors import MissingExtra, StoreUnavailable
from mcpaudit_lab.filters import register_functions
from mcpaudit_lab.tables import ENGINE_OPTIONS, Execute

__all__ = ["execute_on", "is_about_rows", "is_integrity_error", "open_engine", "translated"]

_FORMS: Final = "sqlite:///audit.db or postgresql+psycopg://user@host/database"
# A checkpoint for every 32 MB of the log: one every 4 MB, the default, costs a fifth of the speed.
_CHECKPOINT_PAGES: Final = 4000
_PAGE_BYTES: Final = 8192
_CACHE_KB: Final = 16_384

# Detect a lost connection within seconds, so that events wait in the queue and not in a write that
# never ends, and a portal that vanished in a transaction does not block the others.
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
    # In another zone the first and the last hours that Python knows are out of the driver's range.
    "set timezone = 'UTC'",
)
# SQLSTATE classes that blame a value: data exception, integrity violation, a limit exceeded.
_ROW_CLASSES: Final = ("22", "23", "54")
_ROW_ERRORS: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


def open_engine(url: str, *, busy_timeout_s: float = 5.0) -> Engine:
    """Make the engine for a store. Nothing is connected yet.

    Args:
        url: as SQLAlchemy takes it; ``postgresql://`` means psycopg.
        busy_timeout_s: how long a statement waits for another writer of the same SQLite file.

    Raises:
        ValueError: an invalid URL, another kind of database, or SQLite in memory, which every
            connection would have separately.
        MissingExtra: psycopg is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        # The error would show the URL, and with it the password.
        raise ValueError(f"a database URL looks like {_FORMS}") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError("a SQLite store is a file; use MemoryLogger for events in memory")
        engine = create_engine(
            parsed, connect_args={"timeout": busy_timeout_s}, pool_size=8, **ENGINE_OPTIONS
        )
        event.listen(engine, "connect", _prepare_sqlite)
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


def _prepare_sqlite(connection: Any, _: object) -> None:
    register_functions(connection)
    for pragma in (
        f"page_size = {_PAGE_BYTES}",  # of a new file
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
        f"cache_size = -{_CACHE_KB}",
    ):
        connection.execute(f"pragma {pragma}").close()


def _prepare_postgresql(connection: Any, _: object) -> None:
    for statement in _POSTGRESQL_SESSION:
        connection.execute(statement)
    connection.commit()


def is_about_rows(error: Exception) -> bool:
    """Whether a failed write is due to its data, so that it would fail again.

    All other errors count as the database being unavailable: a full disk, a lock, a lost
    connection, a renamed table. Then the events wait.
    """
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig
    if isinstance(error, sqlite3.Error):
        return isinstance(error, _ROW_ERRORS)
    if not hasattr(error, "sqlstate"):
        return not isinstance(error, OSError | PoolTimeoutError)
    if error.sqlstate:
        return str(error.sqlstate).startswith(_ROW_CLASSES)
    # psycopg itself found a value that it cannot send.
    return any(kind.__name__ in ("DataError", "ProgrammingError") for kind in type(error).__mro__)


def is_integrity_error(error: Exception) -> bool:
    """Whether a key was there already, or one that was referred to was not."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig
    state = getattr(error, "sqlstate", None) or ""
    return isinstance(error, sqlite3.IntegrityError) or str(state).startswith("23")


@contextmanager
def translated() -> Iterator[None]:
    """Raise StoreUnavailable for errors of the database that are not about rows.

    The original is not chained: its text may contain the data that was written.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_database(error) or is_about_rows(error):
            raise
        raise StoreUnavailable(_reason(error)) from None


def _is_of_database(error: Exception) -> bool:
    known = (DBAPIError, PoolTimeoutError, sqlite3.Error, OSError)
    return isinstance(error, known) or hasattr(error, "sqlstate")


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def execute_on(connection: Connection) -> Execute:
    """Statements with ``:name`` parameters on a connection, as the tables of tool lists want it."""

    def execute(statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        done = connection.execute(text(statement), dict(values))
        return done.fetchall() if done.returns_rows else ()

    return execute
