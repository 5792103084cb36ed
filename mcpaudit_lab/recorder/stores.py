"""Stores for recorded calls: the interface, SQLite, and a lab.

A store writes a call before it is forwarded (:meth:`CallStore.open`) and again before its response
is (:meth:`CallStore.complete`). The data survives a kill of the process after either returns: a
completed call whole, an open one as an event without a response. A power failure may lose the last
writes: two disk syncs for each call would take longer than most calls.

In SQLite both writes go to one row of the journal (:mod:`.tables.open_calls`). A thread moves
completed calls into the event tables in batches: these tables have ten indexes, which would cost
each call more time than the recorder may take.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.record import Event, ToolList, dumps
from mcpaudit_lab.recorder.call_log import CallLog
from mcpaudit_lab.tables import (
    OPEN_CALLS,
    PortalRows,
    RecorderLock,
    insert_rows,
    move_calls,
    recover_calls,
    store_tool_list,
)

if TYPE_CHECKING:
    from mcpaudit_lab.storage.load import LoadReport

__all__ = ["CallStore", "LabCallStore", "SqliteCallStore"]

_BUSY_S: Final = 5.0
# A checkpoint waits for the disk; SQLite's default means one for every few dozen calls.
_CHECKPOINT_PAGES: Final = 4000
_PRAGMAS: Final = (
    "page_size = 8192",
    "journal_mode = WAL",
    # A commit is in the WAL file when it returns, so it survives the process.
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "cache_size = -4096",
    f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
)
_UPSERT: Final = (
    "insert or replace into audit_open_calls (event_id, recorder, event, whole) values (?, ?, ?, ?)"
)
_DELETE_OPEN: Final = "delete from audit_open_calls where event_id = ? returning event"
# Delay before completed calls are moved, and calls moved in one transaction.
_MOVE_S: Final = 0.02
_MOVED_AT_ONCE: Final = 16
# Pause between two signed checkpoints of the log.
_SIGN_S: Final = 0.5
# Delay after a failed move, and completed events held in memory; the rest is read back.
_RETRY_S: Final = 1.0
_MAX_CACHED_EVENTS: Final = 256
_TAKE_NUMBERS: Final = "update audit_commits set last = last + ? returning last"


class CallStore(Protocol):
    """Stores calls. Thread-safe."""

    def open(self, events: Sequence[Event]) -> None:
        """Store calls before they are forwarded, each as an event without a response.

        Raises:
            StoreUnavailable: nothing was stored.
        """

    def complete(self, events: Sequence[Event]) -> None:
        """Store completed calls, whether opened before or not.

        Raises:
            StoreUnavailable: nothing was stored. Open calls stay open.
        """

    def add_tools(self, found: ToolList) -> None:
        """Keep a list of tools that a server offered."""

    def close(self) -> None:
        """Store the open calls as events without a response, and close the file.

        Raises:
            StoreUnavailable: they were not stored; the next recorder or reader stores them.
        """


class SqliteCallStore:
    """A :class:`CallStore` in a portal's SQLite database.

    ``serve`` shows its calls live and ``load-database`` reads them. Any number of recorders and
    portals may share one file.

    Args:
        path: the file; created if missing, readable by this user only.
        now: the current time, with a zone, for ``captured_at``.

    Raises:
        StoreUnavailable: the file cannot be opened, created or migrated.
    """

    def __init__(
        self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.path = path.absolute()
        self._now = now
        self._rows = PortalRows("sqlite")
        self._mutex = threading.Lock()
        # Ids of completed calls in the journal; None where the event must be read back from it.
        self._complete: dict[str, Event | None] = {}
        self._ends = threading.Event()
        self._wake = threading.Event()
        self._unsigned = False
        self._sign_s = 0.0
        with _translate_errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                for pragma in _PRAGMAS:
                    self._connection.execute(f"pragma {pragma}")
                self._migrate()
                recover_calls(self.path)
                self._log = CallLog(self._connection, Path(f"{self.path}.log-key"))
                self._lock = RecorderLock(self.path)
            except BaseException:
                self._connection.close()
                raise
        self._mover = threading.Thread(target=self._run_mover, daemon=True)
        self._mover.start()

    def _migrate(self) -> None:
        found = "select count(*) from sqlite_master where name in (?, ?, ?)"
        names = ("audit_open_calls", "audit_commits", "audit_tool_lists")
        if self._connection.execute(found, names).fetchone() == (3,):
            return
        # Needed once for each file: importing SQLAlchemy takes longer than starting a server.
        from mcpaudit_lab.server.stores import migrate, open_engine

        engine = open_engine(f"sqlite:///{self.path}", busy_timeout_s=_BUSY_S)
        try:
            migrate(engine)
        finally:
            engine.dispose()
        self._connection.execute(OPEN_CALLS)

    def open(self, events: Sequence[Event]) -> None:
        """Store calls before they are forwarded.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        self._upsert(events, whole=False)

    def complete(self, events: Sequence[Event]) -> None:
        """Store completed calls. They appear in the event tables a moment later.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        self._upsert(events, whole=True)
        for event in events:
            full = len(self._complete) >= _MAX_CACHED_EVENTS
            self._complete[event.wire["id"]] = None if full else event
        self._wake.set()

    def add_tools(self, found: ToolList) -> None:
        """Store a list of tools that a server offered.

        Raises:
            StoreUnavailable: it is not stored.
        """
        with self._mutex, _translate_errors(), self._transaction():
            execute = self._connection.execute
            store_tool_list(lambda query, values: execute(query, values).fetchall(), found)

    def _upsert(self, events: Sequence[Event], *, whole: bool) -> None:
        name = self._lock.name
        rows = [(event.wire["id"], name, dumps(event.wire), whole) for event in events]
        with self._mutex, _translate_errors():
            if len(rows) == 1:
                self._connection.execute(_UPSERT, rows[0])
                return
            with self._transaction():
                self._connection.executemany(_UPSERT, rows)

    def _run_mover(self) -> None:
        """Move completed calls into the event tables until the store is closed."""
        while not self._ends.is_set():
            self._wake.wait(_SIGN_S if self._unsigned else None)
            # Wait, so that calls completed within this time share a transaction.
            self._ends.wait(_MOVE_S)
            self._wake.clear()
            try:
                while self._complete and not self._ends.is_set():
                    self._move()
                if self._unsigned and time.monotonic() >= self._sign_s:
                    self._sign()
            except (sqlite3.Error, ValueError, TypeError, OSError):
                # The calls are safe in the journal: close() moves the rest.
                self._ends.wait(_RETRY_S)
                self._wake.set()

    def _move(self) -> None:
        ids = list(islice(self._complete, _MOVED_AT_ONCE))
        written = {
            event_id: self._rows.write(event)
            for event_id in ids
            if (event := self._complete[event_id]) is not None
        }
        with self._mutex, self._transaction():
            rows = []
            for event_id in ids:
                # A reader may have moved it already.
                found = self._connection.execute(_DELETE_OPEN, (event_id,)).fetchone()
                if found is not None:
                    row = written.get(event_id) or self._rows.write(Event.from_json(found[0]))
                    rows.append(row)
            if rows:
                (last,) = self._connection.execute(_TAKE_NUMBERS, (len(rows),)).fetchone()
                first = last - len(rows) + 1
                insert_rows(self._connection, rows, first, self._now())
                self._log.add(first, [row.event for row in rows])
                self._unsigned = True
        for event_id in ids:
            del self._complete[event_id]

    def _sign(self) -> None:
        with self._mutex, self._transaction():
            self._log.sign()
        self._unsigned = False
        self._sign_s = time.monotonic() + _SIGN_S

    def close(self) -> None:
        """Store the open calls as events without a response, and close the file.

        Raises:
            StoreUnavailable: they were not stored; the next recorder or reader stores them.
        """
        self._ends.set()
        self._wake.set()
        self._mover.join()
        with suppress(sqlite3.Error, ValueError, TypeError):
            while self._complete:
                self._move()
        with suppress(sqlite3.Error, ValueError, OSError):
            self._sign()
        with self._mutex:
            try:
                with _translate_errors():
                    move_calls(self._connection, self._lock.name)
            finally:
                self._connection.close()
                self._lock.release()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("begin immediate")
        try:
            yield
            self._connection.execute("commit")
        except BaseException:
            # On a full disk SQLite has rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        # Messages of SQLite and the system may name files but never contain values.
        raise StoreUnavailable(str(error)) from None


class LabCallStore(SqliteCallStore):
    """A :class:`CallStore` for a lab.

    DuckDB allows one process at a time, so calls go into a SQLite file beside the lab first.

    Args:
        lab: the lab's file; created if missing.
        report: called with a message about what was loaded, or why nothing was.
        **settings: for :class:`SqliteCallStore`.

    Raises:
        StoreUnavailable: as :class:`SqliteCallStore`.
    """

    def __init__(self, lab: Path, report: Callable[[str], None], **settings: Any) -> None:
        super().__init__(lab.with_name(f"{lab.name}.recorded.db"), **settings)
        self._lab = lab
        self._report = report

    def close(self) -> None:
        """Load the recorded calls into the lab; if it is locked, report how to do that later.

        Raises:
            StoreUnavailable: as :meth:`SqliteCallStore.close`.
        """
        super().close()
        from mcpaudit_lab.errors import LabError
        from mcpaudit_lab.storage.load import LabStore

        url = f"sqlite:///{self.path}"
        try:
            with LabStore(self._lab) as lab:
                report: LoadReport = lab.load_database(url)
        except (LabError, OSError) as error:
            self._report(
                f"the calls were not loaded into the lab: {error}\nThey are in {self.path}. To load"
                f" them later: mcpaudit-lab load-database {url} --lab {self._lab}"
            )
        else:
            self._report(f"{report.loaded} calls loaded into {self._lab}")
